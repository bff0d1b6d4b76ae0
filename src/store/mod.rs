//! Disk: files that are sent, and files that are received.
//!
//! Owns every open file of every transfer, and does what the engine asks of it as [`Job`]s. All of
//! it blocks and belongs on a thread that may. Parts:
//!
//! - `source`: a file that is sent, hashed and then read chunk by chunk.
//! - `partial`: a file that a baseline peer sends, verified chunk by chunk and as a whole.
//! - `pulled`: a file that is pulled, and what an earlier attempt left of it; `journal`: what is
//!   noted beside that; `served`: the same as the source of others.
//! - `entries`: the list of a file's chunks; `cache`: the lists of files that were sent before.
//! - `claim`: which partial file a transfer may write to; `place`: how it gets its final name.
//! - `downloads`: the directories of both, and the space that is left.
//! - `home`: the user's key, and who is known.
//!
//! Invariants: what leaves here, to a peer or under a final name, is verified; nothing that was on
//! the disk before is written to or replaced; a transfer that was released leaves nothing behind.
//! It decides nothing about transfers, peers or order: that is the engine's.

mod below;
mod cache;
mod chunk_set;
mod claim;
mod content;
mod directory;
mod downloads;
mod entries;
mod failure;
mod held;
mod home;
mod journal;
mod partial;
mod place;
mod pulled;
mod served;
mod source;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::engine::{Failure, Incoming, Job, JobDone, Leftover, PartialKey, Took, TransferId};
use crate::wire::{ChunkData, ChunkIndex, Entry, Manifest, ManifestHead, SafeName};
pub(crate) use home::MAX_HISTORY_BYTES;
pub use home::{Home, HomeError, Outbox, Shown};

use cache::Cache;
use claim::{left_behind, remove_lone_journals, take_by_name};
use downloads::{Downloads, PARTIALS};
use failure::{cannot, out_of_order};
use held::{Held, lock};
use partial::Partial;
use pulled::Pulled;
use served::Served;
use source::Source;

/// The files of all transfers of a node.
///
/// Dropped, it closes them; partial files stay on the disk.
pub struct Disk {
    downloads: PathBuf,
    cache: Option<Cache>,
    sources: Held<Mutex<Source>>,
    partials: Held<Mutex<Partial>>,
    pulled: Held<Pulled>,
    /// What is received by one transfer and read by another.
    served: Held<Served>,
    /// Held while partial files that nobody uses are looked at, for which they are locked: another
    /// who looks for one at that moment would take it for one in use.
    looking: Mutex<()>,
    /// Bytes free for a directory; another function in tests.
    free_space: fn(&Path) -> Result<u64, Failure>,
}

impl Disk {
    /// A disk whose received files go to `downloads`, which is made when the first one arrives, and
    /// which remembers in `home` what it hashed.
    pub fn new(downloads: PathBuf, home: Option<&Path>) -> Self {
        Self {
            downloads,
            cache: home.map(Cache::new),
            sources: Held::new(),
            partials: Held::new(),
            pulled: Held::new(),
            served: Held::new(),
            looking: Mutex::new(()),
            free_space: downloads::free_space,
        }
    }

    /// Does one job, and blocks until it is done. The jobs of one transfer are to be given one
    /// after the other, except as [`Job::is_parallel`] says; those of different transfers from any
    /// number of threads. Also answers how
    /// long it took.
    pub fn run(&self, transfer: TransferId, job: Job) -> (JobDone, Took) {
        let begun = Instant::now();
        let mut hashing = Stopwatch::default();
        let done = self.do_job(transfer, job, &mut hashing).unwrap_or_else(JobDone::Failed);
        let took = Took { disk: begun.elapsed().saturating_sub(hashing.0), hashing: hashing.0 };
        (done, took)
    }

    fn do_job(&self, transfer: TransferId, job: Job, hashing: &mut Stopwatch) -> Result<JobDone, Failure> {
        match job {
            Job::OpenSource(path) => self.open_source(transfer, path),
            Job::OpenHeld(of) => {
                let (served, opened) = Served::open(self.pulled(of)?)?;
                self.served.put(transfer, served);
                Ok(opened)
            }
            Job::HashSource { until } => {
                self.source(transfer).and_then(|source| lock(&source).hash_part(until, hashing))
            }
            Job::ListChunks => self.source(transfer).and_then(|source| lock(&source).list_chunks()),
            Job::ReadChunk(index) => {
                if let Some(served) = self.served.get(transfer) {
                    return served.read_chunk(index, hashing);
                }
                self.source(transfer).and_then(|source| lock(&source).read_chunk(index, hashing))
            }
            Job::ReadPage(page) => {
                if let Some(served) = self.served.get(transfer) {
                    return served.read_page(page);
                }
                self.source(transfer).and_then(|source| lock(&source).read_page(page))
            }
            Job::FreeSpace => (self.free_space)(&self.downloads).map(|bytes| JobDone::FreeSpace { bytes }),
            Job::CreatePartial(manifest) => self.create_partial(transfer, manifest),
            Job::OpenPartial(incoming) => self.open_partial(transfer, incoming),
            Job::CheckKept => self.pulled(transfer)?.check_kept(&self.downloads, self.free_space, hashing),
            Job::StartOver => self.pulled(transfer)?.start_over(&self.downloads, self.free_space),
            Job::StorePage { page, entries } => self.pulled(transfer)?.store_page(page, &entries, hashing),
            Job::OpenTree => self.pulled(transfer)?.open_tree(&self.downloads, hashing),
            Job::StoreChunk { index, data, by } => self.store(transfer, index, data, by.entry(), hashing),
            Job::Finish { name, seal } => self.finish(transfer, &name, seal.as_deref(), hashing),
            Job::Release { keep } => Ok(self.release(transfer, keep)),
            Job::ListPartials { unused_for } => self.list_partials(unused_for),
            Job::DiscardPartial(key) => self.discard_partial(&key),
        }
    }

    fn open_source(&self, transfer: TransferId, path: PathBuf) -> Result<JobDone, Failure> {
        let source = Source::open(path, self.cache.clone())?;
        let opened = source.opened();
        self.sources.put(transfer, Mutex::new(source));
        Ok(opened)
    }

    fn create_partial(&self, transfer: TransferId, manifest: Manifest) -> Result<JobDone, Failure> {
        self.refuse_second(transfer)?;
        let partial = Partial::create(&self.downloads, manifest, self.free_space)?;
        self.partials.put(transfer, Mutex::new(partial));
        Ok(JobDone::PartialCreated)
    }

    fn open_partial(&self, transfer: TransferId, incoming: Arc<Incoming>) -> Result<JobDone, Failure> {
        self.refuse_second(transfer)?;
        let _looking = lock(&self.looking);
        let (pulled, opened) = Pulled::open(&self.downloads, incoming, self.free_space)?;
        self.pulled.put(transfer, pulled);
        Ok(opened)
    }

    fn refuse_second(&self, transfer: TransferId) -> Result<(), Failure> {
        if self.partials.get(transfer).is_some() || self.pulled.get(transfer).is_some() {
            return Err(out_of_order("the transfer has a partial file already"));
        }
        Ok(())
    }

    fn store(
        &self,
        transfer: TransferId,
        index: ChunkIndex,
        data: ChunkData,
        entry: Option<Entry>,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        match self.pulled.get(transfer) {
            Some(pulled) => pulled.store(index, data, entry, hashing),
            None => self.partial(transfer).and_then(|partial| lock(&partial).store(index, data, hashing)),
        }
    }

    fn finish(
        &self,
        transfer: TransferId,
        name: &SafeName,
        seal: Option<&ManifestHead>,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        if let Some(pulled) = self.pulled.get(transfer) {
            let done = pulled.finish(&self.downloads, name, seal)?;
            self.pulled.take(transfer);
            return Ok(done);
        }
        let done = lock(&*self.partial(transfer)?).finish(&self.downloads, name, hashing)?;
        self.partials.take(transfer);
        Ok(done)
    }

    fn release(&self, transfer: TransferId, keep: bool) -> JobDone {
        self.sources.take(transfer);
        self.served.take(transfer);
        if let Some(partial) = self.partials.take(transfer) {
            lock(&partial).discard(&self.downloads);
        }
        let left = self.pulled.take(transfer).and_then(|pulled| pulled.release(&self.downloads, keep));
        JobDone::Released { left }
    }

    /// Removes the partial files that were not touched for so long, and lists those that can be
    /// resumed.
    fn list_partials(&self, unused_for: Duration) -> Result<JobDone, Failure> {
        let _looking = lock(&self.looking);
        let Ok(opened) = Downloads::open(&self.downloads) else { return Ok(JobDone::Partials(Vec::new())) };
        let Ok(partials) = opened.open_partials() else { return Ok(JobDone::Partials(Vec::new())) };
        let unreadable = |errno| {
            cannot(format_args!("read the directory `{}`", self.downloads.join(PARTIALS).display()), errno)
        };
        let found = left_behind(&partials, |_| true).map_err(unreadable)?;
        let oldest = SystemTime::now().checked_sub(unused_for).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut leftovers = Vec::new();
        for left in found {
            if left.claim.touched(&partials).is_some_and(|touched| touched <= oldest) {
                left.claim.discard(&self.downloads);
            } else if let Some(header) = left.header {
                leftovers.push(Leftover {
                    key: PartialKey(left.claim.name.clone()),
                    from: header.from,
                    name: header.name,
                    size: header.size,
                    file_hash: header.file_hash,
                    is_directory: header.list_bytes.is_some(),
                    bytes: left.claim.bytes(header.size),
                });
            }
        }
        remove_lone_journals(&partials, oldest).map_err(unreadable)?;
        opened.tidy();
        leftovers.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(JobDone::Partials(leftovers))
    }

    fn discard_partial(&self, key: &PartialKey) -> Result<JobDone, Failure> {
        let _looking = lock(&self.looking);
        if let Ok(opened) = Downloads::open(&self.downloads)
            && let Ok(partials) = opened.open_partials()
            && let Some(left) = take_by_name(&partials, &key.0)
        {
            left.claim.discard(&self.downloads);
        }
        Ok(JobDone::Discarded)
    }

    fn pulled(&self, transfer: TransferId) -> Result<Arc<Pulled>, Failure> {
        self.pulled.get(transfer).ok_or_else(|| out_of_order("the transfer has no file that is pulled"))
    }

    fn source(&self, transfer: TransferId) -> Result<Arc<Mutex<Source>>, Failure> {
        self.sources.get(transfer).ok_or_else(|| out_of_order("the transfer has no file to send open"))
    }

    fn partial(&self, transfer: TransferId) -> Result<Arc<Mutex<Partial>>, Failure> {
        self.partials.get(transfer).ok_or_else(|| out_of_order("the transfer has no partial file"))
    }
}

/// Adds up the time of some of a job's work.
#[derive(Debug, Default)]
struct Stopwatch(Duration);

impl Stopwatch {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.0 += begun.elapsed();
        result
    }
}

#[cfg(test)]
mod tests;
