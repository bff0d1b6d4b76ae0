//! A file or directory that is pulled: its chunks proven one by one, in any order where its list is known, and what
//! an earlier attempt left of it.
//!
//! Invariants: nothing is written that is not proven to follow what its list says came before it, and
//! no file gets its final name before the chain of these proofs reaches its announced hash. What was on
//! the disk before is proven like what arrives. Memory is a bit for each chunk; the list is on disk
//! where it is long.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Stopwatch;
use super::chunk_set::ChunkSet;
use super::claim::Claim;
use super::content::{Content, list_chunks};
use super::directory::Directory;
use super::downloads::{Downloads, open_regular};
use super::entries::EntryList;
use super::failure::{cannot, no_space, out_of_order};
use super::held::lock;
use super::journal::{HEADER_BYTES, Header};
use super::partial::{meddled, move_out, put_in_place};
use super::place::Moving;
use super::stage::{Stage, similar};
use crate::engine::{Code, Failure, Incoming, JobDone, Kept, Leftover, PartialKey};
use crate::wire::{
    CHUNK_SIZE, ChunkData, ChunkFault, ChunkHash, ChunkIndex, Digested, Entry, Expected, FileHash, Geometry,
    ManifestHead, SafeName, State,
};

/// Chunks verified in one job: 32 MiB.
const CHUNKS_PER_PART: u32 = 128;

/// A file that is pulled. Chunks may be stored from several threads at once.
pub(super) struct Pulled {
    incoming: Arc<Incoming>,
    geometry: Geometry,
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None` as long as a file in place may be the very one.
    claim: Option<Claimed>,
    twin: Option<Twin>,
    /// The list as far as it is known.
    entries: EntryList,
    stored: ChunkSet,
    stored_bytes: u64,
    /// The hash of what was found, if that is a whole file.
    found_hash: Option<FileHash>,
    /// Whether something may lie there that is not verified yet: what an earlier attempt left, or what
    /// was copied from a directory in place.
    resumed: bool,
    /// How far the files of a directory are prepared.
    tree: TreeState,
}

/// How far the place for the files of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TreeState {
    Preparing,
    /// What lies there is being verified; the chunks before this one were.
    Verifying(u32),
    /// Also where there is no directory.
    Open,
}

struct Claimed {
    claim: Claim,
    content: Arc<Content>,
}

/// Something in place that has the name and size of what is to be received.
struct Twin {
    path: PathBuf,
    content: TwinContent,
}

enum TwinContent {
    File {
        file: File,
        /// What it looked like before it was hashed.
        changed: (i64, i64, i64, i64),
    },
    Directory(Box<Directory>),
}

impl Pulled {
    /// Makes the partial file, or finds the one that an earlier attempt left. Nothing is left behind
    /// where that fails.
    pub(super) fn open(
        downloads: &Path,
        incoming: Arc<Incoming>,
        free_space: impl FnOnce(&Path) -> Result<u64, Failure>,
    ) -> Result<(Self, JobDone), Failure> {
        let geometry = Geometry::new(incoming.size).ok_or_else(|| out_of_order("a file of no size"))?;
        let mut inner = Inner {
            claim: None,
            twin: None,
            entries: EntryList::new(),
            stored: ChunkSet::new(geometry.chunks()),
            stored_bytes: 0,
            found_hash: None,
            resumed: false,
            tree: if incoming.tree.is_some() { TreeState::Preparing } else { TreeState::Open },
        };
        let resumed = Claim::resume(downloads, &incoming)?;
        let key = resumed.as_ref().map(|claim| PartialKey(claim.name.clone()));
        let is_late_directory = incoming.tree.is_some() && incoming.head.is_none();
        // Where an earlier attempt got anywhere, the file was not in place then; unless it ended right
        // after it put a directory in place.
        let may_be_in_place =
            resumed.as_ref().is_none_or(|claim| incoming.tree.is_some() && !claim.has_stage);
        let twin =
            if may_be_in_place && !is_late_directory { Twin::find(downloads, &incoming) } else { None };
        // Of a directory one time that differs is enough to make its beginning another, while all the
        // rest may be right: that is told by its list alone.
        let needs_list = is_late_directory && !incoming.goes_on;
        let similar = is_late_directory
            && match resumed {
                Some(_) => needs_list,
                None => similar(downloads, incoming.name.as_str()).is_some(),
            };
        let to_check = twin.is_some() || (resumed.is_some() && incoming.head.is_none() && !needs_list);
        inner.twin = twin;
        match resumed {
            Some(claim) => {
                let rest = incoming.size - claim.bytes(incoming.size);
                let free = free_space(downloads)?;
                if rest > free {
                    return Err(no_space(rest, free, downloads));
                }
                inner.take(claim, &incoming, true)?;
                inner.adopt(&incoming)?;
            }
            None if inner.twin.is_some() => {}
            None => inner.take(new_claim(downloads, &incoming, free_space)?, &incoming, false)?,
        }
        let pulled = Self { incoming, geometry, inner: Mutex::new(inner) };
        Ok((pulled, JobDone::PartialOpened { resumed: key, to_check, similar }))
    }

    /// Verifies the next part of what was found.
    pub(super) fn check_kept(
        &self,
        downloads: &Path,
        free_space: impl FnOnce(&Path) -> Result<u64, Failure>,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        let mut inner = lock(&self.inner);
        let begun = inner.entries.len();
        let end = begun.saturating_add(CHUNKS_PER_PART).min(self.geometry.chunks());
        let noted = inner.noted()?;
        let mut buffer = vec![0; CHUNK_SIZE as usize];
        let mut ends_here = end == self.geometry.chunks();
        for index in self.geometry.indices().take(end as usize).skip(begun as usize) {
            let chunk = &mut buffer[..self.geometry.len_of(index) as usize];
            if !self.read_found(&inner, downloads, chunk, index.offset()) {
                ends_here = true;
                break;
            }
            let digested = hashing.time(|| Digested::of(inner.entries.state(), chunk));
            let is_noted = match &noted {
                Some(noted) => noted.read_entry(index) == Some(digested.entry()),
                None => true,
            };
            if !is_noted {
                ends_here = true;
                break;
            }
            if index.get() + 1 == self.geometry.chunks() {
                inner.found_hash = Some(digested.file_hash(self.geometry.size()));
            }
            inner.entries.extend(&[digested.entry()]).map_err(lost)?;
        }
        let chunks = inner.entries.len();
        if !ends_here {
            return Ok(JobDone::KeptChecking { bytes: u64::from(chunks) * u64::from(CHUNK_SIZE) });
        }
        if inner.twin.is_some() {
            return self.check_twin(&mut inner, downloads, free_space);
        }
        for index in self.geometry.indices().take(chunks as usize) {
            inner.store(index, self.geometry);
        }
        inner.forget_rest(chunks, self.geometry)?;
        inner.resumed = false;
        Ok(JobDone::KeptChecked(Some(inner.kept())))
    }

    /// A file of the same name and size was read to its end.
    fn check_twin(
        &self,
        inner: &mut Inner,
        downloads: &Path,
        free_space: impl FnOnce(&Path) -> Result<u64, Failure>,
    ) -> Result<JobDone, Failure> {
        let wanted = self.incoming.head.as_ref().map(|head| head.file_hash());
        match wanted {
            Some(wanted) if inner.found_hash == Some(wanted) && inner.twin_is_unchanged() => {
                let path = inner.twin.as_ref().map(|twin| twin.path.clone());
                return Ok(JobDone::AlreadyHere { path: path.unwrap_or_default() });
            }
            None if inner.found_hash.is_some() => return Ok(JobDone::KeptChecked(Some(inner.kept()))),
            _ => {}
        }
        inner.twin = None;
        inner.entries = EntryList::new();
        match inner.claim.take() {
            Some(Claimed { claim, .. }) => inner.take(claim, &self.incoming, true)?,
            None => inner.take(new_claim(downloads, &self.incoming, free_space)?, &self.incoming, false)?,
        }
        Ok(JobDone::KeptChecked(None))
    }

    /// Reads from what was found. `false` where it ends, or cannot be read.
    fn read_found(&self, inner: &Inner, downloads: &Path, chunk: &mut [u8], offset: u64) -> bool {
        match (&inner.twin, &inner.claim) {
            (Some(twin), _) => twin.read_exact_at(chunk, offset),
            (None, Some(Claimed { claim, content })) => {
                let is_reachable = offset < content.in_file()
                    || content.open_stage(downloads, &claim.name, &self.incoming).is_ok();
                is_reachable && content.read_exact_at(chunk, offset).is_ok()
            }
            (None, None) => false,
        }
    }

    /// What was found is something else: begins an empty partial file.
    pub(super) fn start_over(
        &self,
        downloads: &Path,
        free_space: impl FnOnce(&Path) -> Result<u64, Failure>,
    ) -> Result<JobDone, Failure> {
        let mut inner = lock(&self.inner);
        inner.twin = None;
        inner.found_hash = None;
        if self.incoming.tree.is_some() {
            inner.tree = TreeState::Preparing;
        }
        inner.stored = ChunkSet::new(self.geometry.chunks());
        inner.stored_bytes = 0;
        match inner.claim.take() {
            Some(Claimed { claim, .. }) => {
                claim.file.set_len(0).map_err(|error| cannot("empty the partial file", error))?;
                Header::of(&self.incoming).write(claim.journal()?).map_err(lost)?;
                inner.take(claim, &self.incoming, false)?;
            }
            None => inner.take(new_claim(downloads, &self.incoming, free_space)?, &self.incoming, false)?,
        }
        Ok(JobDone::PartialOpened { resumed: None, to_check: false, similar: false })
    }

    /// Checks the next page of the list, and which of its chunks are here.
    pub(super) fn store_page(
        &self,
        page: u32,
        bytes: &[u8],
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        let Some(head) = &self.incoming.head else {
            return Err(out_of_order("a page came of a list that is not known"));
        };
        let mut inner = lock(&self.inner);
        let before = inner.entries.len();
        if u64::from(before) != u64::from(page) * u64::from(crate::wire::ENTRIES_PER_PAGE) {
            return Err(out_of_order("a page came out of order"));
        }
        let Ok(checked) = head.check_page(page.into(), bytes) else { return Ok(JobDone::PageWrong(page)) };
        inner.entries.extend(checked.entries()).map_err(lost)?;
        // What lies in a stage is looked at when the stage is open.
        let end = match (inner.tree, self.incoming.tree) {
            (TreeState::Open, _) | (_, None) => inner.entries.len(),
            (_, Some(tree)) => inner.entries.len().min(list_chunks(tree)),
        };
        let kept =
            if inner.resumed { self.verify_found(&mut inner, before..end, hashing)? } else { Vec::new() };
        inner.resumed &= inner.entries.len() < self.geometry.chunks() || inner.tree != TreeState::Open;
        Ok(JobDone::PageStored { page, kept })
    }

    /// Which of these chunks, whose entries are known, lie there already.
    fn verify_found(
        &self,
        inner: &mut Inner,
        range: Range<u32>,
        hashing: &mut Stopwatch,
    ) -> Result<Vec<ChunkIndex>, Failure> {
        let content = inner.content()?;
        let file_hash = self.incoming.head.as_ref().map(|head| head.file_hash());
        let mut previous = inner.entries.state_after(range.start).map_err(lost)?;
        let mut buffer = vec![0; CHUNK_SIZE as usize];
        let mut kept = Vec::new();
        for index in range.filter_map(|index| self.geometry.index(index.into())) {
            let entry = inner.entries.get(index.get()).map_err(lost)?;
            let chunk = &mut buffer[..self.geometry.len_of(index) as usize];
            let expected = Expected::new(self.geometry, index, previous, entry, file_hash);
            let is_there = !inner.stored.contains(index)
                && !content.is_hole(index.offset(), chunk.len())
                && content.read_exact_at(chunk, index.offset()).is_ok()
                && hashing.time(|| expected.verify(chunk)).is_ok();
            if is_there {
                inner.store(index, self.geometry);
                kept.push(index);
            }
            previous = entry.state;
        }
        Ok(kept)
    }

    /// The list of a directory is there: the next step on the way to where its files may be stored.
    pub(super) fn open_tree(&self, downloads: &Path, hashing: &mut Stopwatch) -> Result<JobDone, Failure> {
        let mut inner = lock(&self.inner);
        let Some(tree) = self.incoming.tree else { return Err(out_of_order("it is no directory")) };
        if inner.twin.is_some() {
            // One in place is the very one: there is nothing to make.
            inner.tree = TreeState::Open;
            return Ok(JobDone::TreeOpened { kept: Vec::new() });
        }
        let Some(Claimed { claim, content }) = &inner.claim else {
            return Err(out_of_order("there is no partial file"));
        };
        let content = content.clone();
        match inner.tree {
            TreeState::Preparing => {
                let stage = content.open_stage(downloads, &claim.name, &self.incoming)?;
                if stage.prepare_part()? {
                    content.move_beginning(&stage).map_err(|error| cannot("write the first files", error))?;
                    inner.tree = TreeState::Verifying(list_chunks(tree).min(self.geometry.chunks()));
                    inner.resumed |= stage.has_found();
                }
                Ok(JobDone::TreeOpening { kept: Vec::new() })
            }
            // One that comes in order was verified when it was compared.
            TreeState::Verifying(_) if self.incoming.head.is_none() || !inner.resumed => {
                inner.tree = TreeState::Open;
                Ok(JobDone::TreeOpened { kept: Vec::new() })
            }
            TreeState::Verifying(from) => {
                let listed = inner.entries.len();
                let end = listed.min(from.saturating_add(CHUNKS_PER_PART)).max(from);
                let kept = self.verify_found(&mut inner, from..end, hashing)?;
                let is_all = end >= listed;
                inner.tree = if is_all { TreeState::Open } else { TreeState::Verifying(end) };
                inner.resumed &= !is_all || listed < self.geometry.chunks();
                Ok(if is_all { JobDone::TreeOpened { kept } } else { JobDone::TreeOpening { kept } })
            }
            TreeState::Open => Err(out_of_order("the directory is open")),
        }
    }

    pub(super) fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// Where its chunks lie.
    pub(super) fn content(&self) -> Result<Arc<Content>, Failure> {
        lock(&self.inner).content()
    }

    /// The entry of a chunk that is stored.
    pub(super) fn stored_entry(&self, index: ChunkIndex) -> Result<Entry, Failure> {
        let inner = lock(&self.inner);
        if self.geometry.index(index.get().into()).is_none() || !inner.stored.contains(index) {
            return Err(out_of_order("a chunk was asked for that is not here"));
        }
        inner.entries.get(index.get()).map_err(lost)
    }

    /// The entries of a page that is here, as they travel.
    pub(super) fn page(&self, page: u32) -> Result<Vec<u8>, Failure> {
        lock(&self.inner).entries.page(page).map_err(lost)
    }

    /// Verifies a chunk and writes it. One that is wrong or already there comes back.
    pub(super) fn store(
        &self,
        index: ChunkIndex,
        data: ChunkData,
        entry: Option<Entry>,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        if self.geometry.index(index.get().into()).is_none() {
            return Err(out_of_order("a chunk came that the file does not have"));
        }
        let (content, expected) = {
            let inner = lock(&self.inner);
            let listed = inner.entries.len();
            let (entry, file_hash) = match (entry, &self.incoming.head) {
                (Some(entry), None) if index.get() == listed => (entry, None),
                (None, Some(head)) if index.get() < listed && !inner.stored.contains(index) => {
                    (inner.entries.get(index.get()).map_err(lost)?, Some(head.file_hash()))
                }
                _ => return Ok(returned(index, data, hashing)),
            };
            let previous = inner.entries.state_after(index.get()).map_err(lost)?;
            (inner.content()?, Expected::new(self.geometry, index, previous, entry, file_hash))
        };
        // All the time is spent here, and other threads may do the same meanwhile.
        match hashing.time(|| expected.verify(&data.0)) {
            Ok(()) => {}
            Err(ChunkFault::State | ChunkFault::FileHash) if entry.is_none() => {
                return Ok(JobDone::ListFalse(index));
            }
            Err(_) => return Ok(returned(index, data, hashing)),
        }
        content
            .write_all_at(&data.0, index.offset())
            .map_err(|error| cannot("write the partial file", error))?;
        let mut inner = lock(&self.inner);
        if let Some(entry) = entry {
            inner.entries.extend(&[entry]).map_err(lost)?;
        }
        inner.store(index, self.geometry);
        Ok(JobDone::ChunkStored(index))
    }

    /// Checks that the whole is what was announced, syncs it, and gives it its final name.
    pub(super) fn finish(
        &self,
        downloads: &Path,
        name: &SafeName,
        seal: Option<&ManifestHead>,
    ) -> Result<JobDone, Failure> {
        let mut inner = lock(&self.inner);
        let announced = self.incoming.head.as_deref().or(seal);
        let announced = announced.ok_or_else(|| out_of_order("it is not known what the file is"))?;
        let mismatch = || {
            let message = format!(
                "what arrived is not the file with the hash {}; it was not kept",
                announced.file_hash()
            );
            Failure::new(Code::HashMismatch, message)
        };
        let file_hash = announced.file_hash();
        if let Some(twin) = &inner.twin {
            if inner.found_hash != Some(file_hash) || !inner.twin_is_unchanged() {
                return Err(mismatch());
            }
            return Ok(JobDone::Finished { path: twin.path.clone(), file_hash, already: true });
        }
        if inner.stored.missing() > 0 {
            return Err(out_of_order(&format!("{} chunks of the file are missing", inner.stored.missing())));
        }
        let content = inner.content()?;
        if !content.is_whole().map_err(|error| cannot("look at the partial file", error))? {
            return Err(meddled());
        }
        if self.incoming.head.is_none() {
            // Each chunk was proven to follow the one before; here the last one reaches the hash.
            let tail = self.tail(&content)?;
            let found = inner.entries.state().finish(&tail, self.geometry.size());
            let head = inner.entries.head(self.geometry.size(), found).map_err(lost)?;
            if head.as_ref() != Some(announced) {
                return Err(mismatch());
            }
        }
        let Some(Claimed { claim, .. }) = &inner.claim else {
            return Err(out_of_order("the transfer has no partial file"));
        };
        let path = match content.stage() {
            Some(stage) => stage_in_place(downloads, claim, &stage, name)?,
            None => put_in_place(downloads, claim, name)?,
        };
        inner.claim = None;
        Ok(JobDone::Finished { path, file_hash, already: false })
    }

    /// The bytes behind the last whole block.
    fn tail(&self, content: &Content) -> Result<Vec<u8>, Failure> {
        let size = self.geometry.size();
        let mut tail = vec![0; usize::try_from(size % 64).expect("at most 63")];
        let offset = size - size % 64;
        content.read_exact_at(&mut tail, offset).map_err(|_| meddled())?;
        Ok(tail)
    }

    /// Lets go of the file. Answers what stays of it.
    pub(super) fn release(&self, downloads: &Path, keep: bool) -> Option<Leftover> {
        let mut inner = lock(&self.inner);
        let Claimed { claim, .. } = inner.claim.take()?;
        if !keep || (inner.stored_bytes == 0 && !inner.resumed) {
            claim.discard(downloads);
            return None;
        }
        Some(Leftover {
            key: PartialKey(claim.name.clone()),
            from: self.incoming.from,
            name: self.incoming.name.clone(),
            size: self.incoming.size,
            file_hash: self.incoming.head.as_ref().map(|head| head.file_hash()),
            is_directory: self.incoming.tree.is_some(),
            bytes: if inner.stored_bytes > 0 { inner.stored_bytes } else { claim.bytes(self.incoming.size) },
        })
    }
}

impl Inner {
    /// Uses a partial file from now on, whose journal takes the list.
    fn take(&mut self, claim: Claim, incoming: &Incoming, resumed: bool) -> Result<(), Failure> {
        let journal = claim.journal()?.try_clone().map_err(lost)?;
        if !resumed {
            journal.set_len(HEADER_BYTES).map_err(lost)?;
        }
        let file = claim.file.try_clone().map_err(|error| cannot("use the partial file", error))?;
        self.entries = EntryList::in_file(journal, HEADER_BYTES);
        self.claim = Some(Claimed { claim, content: Arc::new(Content::new(file, incoming)) });
        self.resumed = resumed;
        Ok(())
    }

    /// Makes what an earlier attempt left the file that is to be received.
    fn adopt(&mut self, incoming: &Incoming) -> Result<(), Failure> {
        let Some(Claimed { claim, content }) = &self.claim else { return Ok(()) };
        if incoming.head.is_some() {
            Header::of(incoming).write(claim.journal()?).map_err(lost)?;
        }
        content.cut(incoming.size).map_err(|error| cannot("cut the partial file", error))
    }

    fn content(&self) -> Result<Arc<Content>, Failure> {
        let claimed = self.claim.as_ref();
        claimed.map(|claimed| claimed.content.clone()).ok_or_else(|| out_of_order("there is no partial file"))
    }

    /// What the journal says of the partial file; a file in place has none.
    fn noted(&self) -> Result<Option<Noted>, Failure> {
        match (&self.twin, &self.claim) {
            (None, Some(claimed)) => Ok(Some(Noted(claimed.claim.journal()?.try_clone().map_err(lost)?))),
            _ => Ok(None),
        }
    }

    /// What was found and verified, as its sender is to compare it. Where that is the whole file it is
    /// named by its hash: the state does not tell of the bytes behind the last whole block.
    fn kept(&self) -> Kept {
        let state = self.found_hash.map_or(self.entries.state(), |hash| State(hash.0));
        Kept { chunks: self.entries.len(), state }
    }

    fn store(&mut self, index: ChunkIndex, geometry: Geometry) {
        if !self.stored.contains(index) {
            self.stored.insert(index);
            self.stored_bytes += u64::from(geometry.len_of(index));
        }
    }

    /// Cuts the partial file behind what is verified of it.
    fn forget_rest(&mut self, chunks: u32, geometry: Geometry) -> Result<(), Failure> {
        let length = (u64::from(chunks) * u64::from(CHUNK_SIZE)).min(geometry.size());
        self.content()?.cut(length).map_err(|error| cannot("cut the partial file", error))?;
        self.entries.truncate(chunks).map_err(lost)
    }

    fn twin_is_unchanged(&self) -> bool {
        self.twin.as_ref().is_some_and(|twin| match &twin.content {
            TwinContent::File { file, changed } => times(file) == Some(*changed),
            TwinContent::Directory(directory) => directory.is_unchanged(),
        })
    }
}

/// The entries of a journal that an earlier attempt wrote.
struct Noted(File);

impl Noted {
    fn read_entry(&self, index: ChunkIndex) -> Option<Entry> {
        let mut bytes = [0; Entry::BYTES];
        let offset = HEADER_BYTES + u64::from(index.get()) * Entry::BYTES as u64;
        self.0.read_exact_at(&mut bytes, offset).ok()?;
        Some(Entry::from_bytes(&bytes))
    }
}

impl Twin {
    fn find(downloads: &Path, incoming: &Incoming) -> Option<Self> {
        let opened = Downloads::open(downloads).ok()?;
        let path = opened.path.join(incoming.name.as_str());
        if incoming.tree.is_some() {
            let directory = Directory::below(&path, similar(downloads, incoming.name.as_str())?).ok()?;
            let is_alike = Some(directory.tree().info()) == incoming.tree
                && directory.tree().size() == incoming.size
                && directory.left_out().is_none();
            let content = TwinContent::Directory(Box::new(directory));
            return is_alike.then_some(Self { path, content });
        }
        let file = File::from(open_regular(&opened.dir, incoming.name.as_str()).ok()?);
        // An empty file is as soon received as compared.
        let is_as_large = incoming.size > 0 && file.metadata().ok()?.len() == incoming.size;
        let changed = times(&file)?;
        is_as_large.then_some(Self { path, content: TwinContent::File { file, changed } })
    }

    fn read_exact_at(&self, chunk: &mut [u8], offset: u64) -> bool {
        match &self.content {
            TwinContent::File { file, .. } => file.read_exact_at(chunk, offset).is_ok(),
            TwinContent::Directory(directory) => directory.read_exact_at(chunk, offset).is_ok(),
        }
    }
}

/// Completes a directory and gives it its final name. Answers where it is.
fn stage_in_place(
    downloads: &Path,
    claim: &Claim,
    stage: &Stage,
    name: &SafeName,
) -> Result<PathBuf, Failure> {
    stage.complete()?;
    let (staged, root) = stage.named();
    let root = root.map_err(|error| cannot("use the directory of partial files", error))?;
    let moving = Moving { name: staged, opened: root.as_fd(), is_directory: true };
    let path = move_out(downloads, &moving, name, |_| ())?;
    claim.discard(downloads);
    Ok(path)
}

fn times(file: &File) -> Option<(i64, i64, i64, i64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()))
}

fn new_claim(
    downloads: &Path,
    incoming: &Incoming,
    free_space: impl FnOnce(&Path) -> Result<u64, Failure>,
) -> Result<Claim, Failure> {
    let (claim, opened) = Claim::for_pulling(downloads, incoming)?;
    let made = free_space(&opened.path).and_then(|free| match incoming.size {
        size if size > free => Err(no_space(size, free, downloads)),
        _ => Header::of(incoming).write(claim.journal()?).map_err(lost),
    });
    match made {
        Ok(()) => Ok(claim),
        Err(failure) => {
            claim.discard(downloads);
            Err(failure)
        }
    }
}

fn returned(index: ChunkIndex, data: ChunkData, hashing: &mut Stopwatch) -> JobDone {
    let actual = hashing.time(|| ChunkHash(Digested::of(State::INITIAL, &data.0).entry().hash.0));
    JobDone::ChunkReturned { index, data, actual }
}

fn lost(error: std::io::Error) -> Failure {
    cannot("keep the list of the file's hashes", error)
}

#[cfg(test)]
mod tests;
