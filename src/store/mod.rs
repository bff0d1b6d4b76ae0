//! Disk: files that are sent, and files that are received.
//!
//! Owns every open file of every transfer, and does what the engine asks of it as [`Job`]s. All of
//! it blocks and belongs on a thread that may. Parts:
//!
//! - `source`: a file that is sent, hashed and then read chunk by chunk.
//! - `partial`: a file that is received, verified chunk by chunk and as a whole.
//! - `claim`: which partial file a transfer may write to; `place`: how it gets its final name.
//! - `downloads`: the directories of both, and the space that is left.
//! - `home`: the user's key, and who is known.
//!
//! Invariants: what leaves here, to a peer or under a final name, is verified; nothing that was on
//! the disk before is written to or replaced; a transfer that was released leaves nothing behind.
//! It decides nothing about transfers, peers or order: that is the engine's.

mod claim;
mod downloads;
mod failure;
mod held;
mod home;
mod partial;
mod place;
mod source;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::{Failure, Job, JobDone, Took, TransferId};
use crate::wire::{Manifest, SafeName};
pub use home::{Home, HomeError};

use failure::out_of_order;
use held::{Held, lock};
use partial::Partial;
use source::Source;

/// The files of all transfers of a node.
///
/// Dropped, it closes them; partial files stay on the disk.
pub struct Disk {
    downloads: PathBuf,
    sources: Held<Source>,
    partials: Held<Partial>,
    /// Bytes free for a directory; another function in tests.
    free_space: fn(&Path) -> Result<u64, Failure>,
}

impl Disk {
    /// A disk whose received files go to `downloads`, which is made when the first one arrives.
    pub fn new(downloads: PathBuf) -> Self {
        Self { downloads, sources: Held::new(), partials: Held::new(), free_space: downloads::free_space }
    }

    /// Does one job, and blocks until it is done. The jobs of one transfer are to be given one
    /// after the other; those of different transfers from any number of threads. Also answers how
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
            Job::HashSource => self.source(transfer).and_then(|source| lock(&source).hash_part(hashing)),
            Job::ReadChunk(index) => {
                self.source(transfer).and_then(|source| lock(&source).read_chunk(index, hashing))
            }
            Job::FreeSpace => (self.free_space)(&self.downloads).map(|bytes| JobDone::FreeSpace { bytes }),
            Job::CreatePartial(manifest) => self.create_partial(transfer, manifest),
            Job::StoreChunk { index, data } => {
                self.partial(transfer).and_then(|partial| lock(&partial).store(index, data, hashing))
            }
            Job::Finish(name) => self.finish(transfer, &name, hashing),
            Job::Release => Ok(self.release(transfer)),
        }
    }

    fn open_source(&self, transfer: TransferId, path: PathBuf) -> Result<JobDone, Failure> {
        let source = Source::open(path)?;
        let size = source.size();
        self.sources.put(transfer, source);
        Ok(JobDone::SourceOpened { size })
    }

    fn create_partial(&self, transfer: TransferId, manifest: Manifest) -> Result<JobDone, Failure> {
        if self.partials.get(transfer).is_some() {
            return Err(out_of_order("the transfer has a partial file already"));
        }
        self.partials.put(transfer, Partial::create(&self.downloads, manifest, self.free_space)?);
        Ok(JobDone::PartialCreated)
    }

    fn finish(
        &self,
        transfer: TransferId,
        name: &SafeName,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        let path = lock(&*self.partial(transfer)?).finish(&self.downloads, name, hashing)?;
        self.partials.take(transfer);
        Ok(JobDone::Finished { path })
    }

    fn release(&self, transfer: TransferId) -> JobDone {
        self.sources.take(transfer);
        if let Some(partial) = self.partials.take(transfer) {
            lock(&partial).discard(&self.downloads);
        }
        JobDone::Released
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
