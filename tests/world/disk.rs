//! A disk in memory that does the engine's jobs, fails when told to, and survives crashes as far as
//! disks do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peer_to_peer::engine::{
    Code, Failure, Incoming, Job, JobDone, Kept, Leftover, Look, PartialKey, Stamp, TransferId,
};
use peer_to_peer::wire::{
    CHUNK_SIZE, ChunkData, ChunkFault, ChunkHash, ChunkIndex, Digested, ENTRIES_PER_PAGE, Entry, Expected,
    FileHash, Geometry, Manifest, ManifestBuilder, ManifestHead, Page, State, TreeInfo,
};
use sha2::{Digest, Sha256};

use super::Rng;

/// A file being hashed or sent.
struct Source {
    path: PathBuf,
    geometry: Geometry,
    /// Of the chunks hashed so far.
    entries: Vec<Entry>,
    head: Option<Arc<ManifestHead>>,
}

/// A file being received from a baseline peer.
struct Listed {
    manifest: Manifest,
    bytes: Vec<u8>,
    stored: Vec<bool>,
}

/// What lies on the disk of a file that is pulled, whether a transfer uses it or not.
#[derive(Clone)]
struct Stored {
    incoming: Arc<Incoming>,
    bytes: BTreeMap<u32, Vec<u8>>,
    /// The journal of a file whose list is not known.
    entries: Vec<Entry>,
}

/// A file being pulled.
struct Pulled {
    key: String,
    incoming: Arc<Incoming>,
    /// The entries of the pages that are here, or of the chunks that are stored.
    entries: Vec<Entry>,
    stored: BTreeSet<u32>,
    /// A file in place that may be the same.
    twin: Option<String>,
    checked: u32,
    fresh: bool,
    /// Steps until the files of a directory may be stored.
    opening: u32,
}

pub struct MemDisk {
    /// Files that can be sent.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Those of them that are directories, and how many of their bytes are the list.
    pub lists: BTreeMap<PathBuf, u32>,
    /// Directories in place, of the same form as what is sent but with other files.
    pub similar: BTreeMap<String, Vec<u8>>,
    /// Files that were received, by their final name.
    pub downloads: BTreeMap<String, Vec<u8>>,
    /// Sizes that files say they have, where they are too large to be here.
    pub sizes: BTreeMap<PathBuf, u64>,
    /// Files that were written to so lately that their hashes cannot be remembered: how long that is so.
    pub unsettled: BTreeMap<PathBuf, Duration>,
    /// How often files to send were opened, and how many chunks of them were hashed.
    pub opened: u64,
    pub chunks_hashed: u64,
    pub free_bytes: u64,
    /// What offers say of directories whose lists turn out to be something else.
    pub false_trees: Vec<TreeInfo>,
    /// How many chunks can be stored before the disk breaks.
    pub stores_left: u64,
    /// Bytes of chunks written to partial files so far.
    pub bytes_stored: u64,
    /// Hashes of files that were sent.
    cache: BTreeMap<PathBuf, (FileHash, Vec<Entry>)>,
    stored: BTreeMap<String, Stored>,
    sources: BTreeMap<TransferId, Source>,
    listed: BTreeMap<TransferId, Listed>,
    pulled: BTreeMap<TransferId, Pulled>,
    /// What is received and read by others: its partial file, and its list.
    served: BTreeMap<TransferId, (String, Vec<Entry>)>,
    /// The chunks of partial files that were put in place.
    in_place: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
}

impl Default for MemDisk {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            lists: BTreeMap::new(),
            similar: BTreeMap::new(),
            downloads: BTreeMap::new(),
            sizes: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            opened: 0,
            chunks_hashed: 0,
            free_bytes: 1 << 40,
            false_trees: Vec::new(),
            stores_left: u64::MAX,
            bytes_stored: 0,
            cache: BTreeMap::new(),
            stored: BTreeMap::new(),
            sources: BTreeMap::new(),
            listed: BTreeMap::new(),
            pulled: BTreeMap::new(),
            served: BTreeMap::new(),
            in_place: BTreeMap::new(),
        }
    }
}

impl MemDisk {
    /// Whether nothing is open.
    pub fn is_clean(&self) -> bool {
        self.sources.is_empty() && self.listed.is_empty() && self.pulled.is_empty() && self.served.is_empty()
    }

    /// Whether partial files are left.
    pub fn has_partials(&self) -> bool {
        !self.stored.is_empty()
    }

    /// The process is killed: what was written stays. Where the power fails, some of it does not.
    pub fn crash(&mut self, power: Option<&mut Rng>) {
        self.sources.clear();
        self.served.clear();
        self.listed.clear();
        self.pulled.clear();
        let Some(rng) = power else { return };
        for stored in self.stored.values_mut() {
            stored.bytes.retain(|_, _| rng.below(4) > 0);
            for chunk in stored.bytes.values_mut() {
                if rng.below(4) == 0 {
                    let at = usize::try_from(rng.below(chunk.len() as u64)).unwrap();
                    chunk[at..].fill(0);
                }
            }
            let left = usize::try_from(rng.below(stored.entries.len() as u64 + 1)).unwrap();
            stored.entries.truncate(left);
            if let Some(last) = stored.entries.last_mut().filter(|_| rng.below(2) == 0) {
                last.state.0[0] ^= 1;
            }
        }
    }

    /// Forgets what files were hashed.
    pub fn clear_cache(&mut self) {
        self.cache.clear();
    }

    /// Flips a bit in a chunk of every partial file.
    pub fn damage(&mut self, index: u32) {
        for stored in self.stored.values_mut() {
            if let Some(chunk) = stored.bytes.get_mut(&index) {
                chunk[0] ^= 1;
            }
        }
    }

    pub fn run(&mut self, transfer: TransferId, job: Job) -> JobDone {
        self.try_run(transfer, job).unwrap_or_else(JobDone::Failed)
    }

    fn try_run(&mut self, transfer: TransferId, job: Job) -> Result<JobDone, Failure> {
        Ok(match job {
            Job::OpenSource(path) => self.open_source(transfer, path)?,
            Job::OpenHeld(of) => {
                let pulled = self.pulled.get(&of).ok_or_else(|| {
                    Failure::new(Code::DiskError, "the transfer has no file that is pulled")
                })?;
                let incoming = pulled.incoming.clone();
                self.served.insert(transfer, (pulled.key.clone(), pulled.entries.clone()));
                JobDone::SourceOpened {
                    size: incoming.size,
                    head: incoming.head.clone(),
                    tree: incoming.tree,
                    left_out: None,
                    look: Look::default(),
                }
            }
            Job::HashSource { until } => self.hash_source(transfer, until)?,
            Job::ListChunks => {
                let source = &self.sources[&transfer];
                let head = source.head.as_ref().expect("hashed before it is listed");
                let hashes = source.entries.iter().map(|entry| entry.hash).collect();
                JobDone::ChunkList(Manifest::new(head.geometry().size(), head.file_hash(), hashes).unwrap())
            }
            Job::ReadChunk(index) => self.read_chunk(transfer, index)?,
            Job::ReadPage(page) => {
                let served = self.served.get(&transfer).map(|(_, entries)| entries);
                let entries = served.unwrap_or_else(|| &self.sources[&transfer].entries);
                let entries = page_entries(entries, page);
                JobDone::PageRead {
                    page,
                    entries: entries.iter().flat_map(|entry| entry.to_bytes()).collect(),
                }
            }
            Job::FreeSpace => JobDone::FreeSpace { bytes: self.free_bytes },
            Job::CreatePartial(manifest) => {
                let bytes = vec![0; usize::try_from(manifest.size()).unwrap()];
                let stored = vec![false; manifest.geometry().chunks() as usize];
                self.listed.insert(transfer, Listed { manifest, bytes, stored });
                JobDone::PartialCreated
            }
            Job::OpenPartial(incoming) => self.open_partial(transfer, incoming),
            Job::CheckKept => self.check_kept(transfer),
            Job::StartOver => {
                let pulled = self.pulled.get_mut(&transfer).expect("opened before it is begun anew");
                let stored =
                    Stored { incoming: pulled.incoming.clone(), bytes: BTreeMap::new(), entries: Vec::new() };
                self.stored.insert(pulled.key.clone(), stored);
                pulled.entries.clear();
                pulled.stored.clear();
                pulled.twin = None;
                pulled.fresh = true;
                JobDone::PartialOpened { resumed: None, to_check: false, similar: false }
            }
            Job::OpenTree => self.open_tree(transfer),
            Job::StorePage { page, entries } => self.store_page(transfer, page, &entries),
            Job::StoreChunk { index, data, by } => match self.pulled.contains_key(&transfer) {
                true => self.store_pulled(transfer, index, &data, by.entry())?,
                false => self.store_listed(transfer, index, data)?,
            },
            Job::Finish { name, seal } => self.finish(transfer, &name, seal.as_deref())?,
            Job::Release { keep } => self.release(transfer, keep),
            Job::ListPartials { .. } => JobDone::Partials(
                self.stored.iter().filter(|(_, stored)| !stored.bytes.is_empty()).map(leftover).collect(),
            ),
            Job::DiscardPartial(key) => {
                self.stored.remove(&key.0);
                JobDone::Discarded
            }
        })
    }

    fn open_source(&mut self, transfer: TransferId, path: PathBuf) -> Result<JobDone, Failure> {
        let missing = || Failure::new(Code::SourceUnreadable, "no such file");
        let bytes = self.files.get(&path).ok_or_else(missing)?;
        let size = self.sizes.get(&path).copied().unwrap_or(bytes.len() as u64);
        self.opened += 1;
        let geometry = Geometry::new(size).unwrap();
        let known = self.cache.get(&path).filter(|(hash, _)| *hash == file_hash(bytes)).cloned();
        let (head, entries) = match known {
            Some((hash, entries)) => (Some(Arc::new(head_of(size, hash, &entries))), entries),
            None => (None, Vec::new()),
        };
        let tree = self.lists.get(&path).map(|list_bytes| TreeInfo { list_bytes: *list_bytes, files: 1 });
        let stamp = Stamp(*file_hash(bytes).0.first_chunk().unwrap());
        let look = Look { stamp, settles_in: self.unsettled.get(&path).copied() };
        self.sources.insert(transfer, Source { path, geometry, entries, head: head.clone() });
        Ok(JobDone::SourceOpened { size, head, tree, left_out: None, look })
    }

    fn hash_source(&mut self, transfer: TransferId, until: u32) -> Result<JobDone, Failure> {
        let source = self.sources.get_mut(&transfer).expect("opened before it is hashed");
        let bytes = self.files.get(&source.path).ok_or_else(changed)?;
        if bytes.len() as u64 != source.geometry.size() {
            return Err(changed());
        }
        // A few chunks at a time, as a disk does.
        let end = until.min(count(&source.entries) + 16);
        for index in source.geometry.indices().take(end as usize).skip(source.entries.len()) {
            source.entries.push(Digested::of(state_after(&source.entries), chunk_of(bytes, index)).entry());
            self.chunks_hashed += 1;
        }
        let chunks = until.min(count(&source.entries));
        if chunks < source.geometry.chunks() {
            let state = state_after(&source.entries[..chunks as usize]);
            return Ok(JobDone::SourceHashing { hashed: Kept { chunks, state } });
        }
        // What was hashed before must still be there.
        let hash = file_hash(bytes);
        let now: Vec<_> = entries_of(bytes);
        if now != source.entries {
            return Err(changed());
        }
        let head = Arc::new(head_of(bytes.len() as u64, hash, &source.entries));
        source.head = Some(head.clone());
        if !self.unsettled.contains_key(&source.path) {
            self.cache.insert(source.path.clone(), (hash, source.entries.clone()));
        }
        Ok(JobDone::SourceHashed(head))
    }

    fn read_chunk(&mut self, transfer: TransferId, index: ChunkIndex) -> Result<JobDone, Failure> {
        if let Some((key, entries)) = self.served.get(&transfer) {
            let chunks = self.stored.get(key).map(|stored| &stored.bytes).or_else(|| self.in_place.get(key));
            let bytes = chunks.and_then(|chunks| chunks.get(&index.get())).ok_or_else(changed)?;
            let (data, entry) = (ChunkData(bytes.clone().into()), entries[index.as_usize()]);
            return Ok(JobDone::ChunkRead { index, data, entry });
        }
        let source = self.sources.get_mut(&transfer).expect("opened before it is read");
        let bytes = self.files.get(&source.path).ok_or_else(changed)?;
        if bytes.len() as u64 != source.geometry.size() {
            return Err(changed());
        }
        assert!(index.as_usize() <= source.entries.len(), "read past what was hashed");
        let data = chunk_of(bytes, index);
        let found = Digested::of(state_after(&source.entries[..index.as_usize()]), data).entry();
        match source.entries.get(index.as_usize()) {
            Some(known) if *known != found => return Err(changed()),
            Some(_) => {}
            None => source.entries.push(found),
        }
        Ok(JobDone::ChunkRead { index, data: ChunkData(data.to_vec().into()), entry: found })
    }

    fn open_partial(&mut self, transfer: TransferId, incoming: Arc<Incoming>) -> JobDone {
        let hash = incoming.head.as_ref().map(|head| head.file_hash());
        let same_name = self
            .downloads
            .get(incoming.name.as_str())
            .filter(|bytes| bytes.len() as u64 == incoming.size && incoming.size > 0);
        if hash.is_some() && same_name.map(|bytes| file_hash(bytes)) == hash {
            return JobDone::AlreadyHere { path: in_downloads(incoming.name.as_str()) };
        }
        let in_use: BTreeSet<_> = self.pulled.values().map(|pulled| pulled.key.clone()).collect();
        let is_of_it = |stored: &Stored| {
            let other = &stored.incoming;
            (hash.is_some() && other.head.as_ref().map(|head| head.file_hash()) == hash)
                || (other.from == incoming.from && other.name == incoming.name && other.size == incoming.size)
        };
        let found = self
            .stored
            .iter()
            .find(|(key, stored)| {
                !in_use.contains(*key) && stored.incoming.size == incoming.size && is_of_it(stored)
            })
            .map(|(key, _)| key.clone());
        let resumed = found.clone().filter(|key| !self.stored[key].bytes.is_empty());
        let key = found.unwrap_or_else(|| {
            (0..).map(|n: u32| format!("partial-{n}")).find(|key| !self.stored.contains_key(key)).unwrap()
        });
        let stored = self.stored.entry(key.clone()).or_insert_with(|| Stored {
            incoming: incoming.clone(),
            bytes: BTreeMap::new(),
            entries: Vec::new(),
        });
        stored.incoming = incoming.clone();
        let twin =
            (resumed.is_none() && hash.is_none() && same_name.is_some()).then(|| incoming.name.to_string());
        let fresh = resumed.is_none();
        let entries = Vec::new();
        let is_late_directory = incoming.tree.is_some() && incoming.head.is_none();
        let needs_list = is_late_directory && !incoming.goes_on;
        let is_in_place = self.similar.contains_key(incoming.name.as_str())
            || self.downloads.contains_key(incoming.name.as_str());
        let similar = is_late_directory && if resumed.is_some() { needs_list } else { is_in_place };
        let twin = twin.filter(|_| !is_late_directory);
        let to_check = twin.is_some() || (resumed.is_some() && hash.is_none() && !needs_list);
        let opening = if incoming.tree.is_some() { 2 } else { 0 };
        let pulled =
            Pulled { key, incoming, entries, stored: BTreeSet::new(), twin, checked: 0, fresh, opening };
        self.pulled.insert(transfer, pulled);
        JobDone::PartialOpened { resumed: resumed.map(PartialKey), to_check, similar }
    }

    fn open_tree(&mut self, transfer: TransferId) -> JobDone {
        let pulled = self.pulled.get_mut(&transfer).expect("opened before its list is read");
        let in_list = list_chunks(&pulled.incoming);
        let is_there = |index| pulled.twin.is_some() || pulled.stored.contains(&index);
        assert!((0..in_list).all(is_there), "the list is there before it is read");
        pulled.opening = pulled.opening.checked_sub(1).expect("it is open");
        if pulled.opening > 0 {
            return JobDone::TreeOpening { kept: Vec::new() };
        }
        if pulled.incoming.tree.is_some_and(|tree| self.false_trees.contains(&tree)) {
            return JobDone::Failed(Failure::new(Code::BadTree, "its list is not the one that was offered"));
        }
        let mut kept = Vec::new();
        let similar = self.similar.get(pulled.incoming.name.as_str()).zip(pulled.incoming.head.clone());
        if let Some((bytes, head)) = similar {
            for index in head.geometry().indices().take(pulled.entries.len()).skip(in_list as usize) {
                let previous = state_after(&pulled.entries[..index.as_usize()]);
                let entry = pulled.entries[index.as_usize()];
                let expected = Expected::new(head.geometry(), index, previous, entry, Some(head.file_hash()));
                let chunk = chunk_of(bytes, index);
                if expected.verify(chunk).is_ok() && pulled.stored.insert(index.get()) {
                    self.stored.get_mut(&pulled.key).unwrap().bytes.insert(index.get(), chunk.to_vec());
                    kept.push(index);
                }
            }
        }
        JobDone::TreeOpened { kept }
    }

    fn check_kept(&mut self, transfer: TransferId) -> JobDone {
        let pulled = self.pulled.get_mut(&transfer).expect("opened before it is checked");
        if pulled.checked == 0 {
            pulled.checked = 1;
            return JobDone::KeptChecking { bytes: 1 };
        }
        let geometry = Geometry::new(pulled.incoming.size).unwrap();
        if let Some(twin) = &pulled.twin {
            let state = State(file_hash(&self.downloads[twin]).0);
            let kept = Kept { chunks: geometry.chunks(), state };
            return JobDone::KeptChecked(Some(kept));
        }
        let stored = self.stored.get_mut(&pulled.key).unwrap();
        for index in geometry.indices() {
            let Some(bytes) = stored.bytes.get(&index.get()) else { break };
            let found = Digested::of(state_after(&pulled.entries), bytes).entry();
            // A partial file whose list was known once has no journal: its bytes are a beginning too.
            let noted = stored.entries.get(index.as_usize());
            if noted.is_some_and(|noted| *noted != found) || bytes.len() != geometry.len_of(index) as usize {
                break;
            }
            pulled.entries.push(found);
            pulled.stored.insert(index.get());
        }
        stored.entries.clone_from(&pulled.entries);
        stored.bytes.retain(|index, _| pulled.stored.contains(index));
        let chunks = count(&pulled.entries);
        let mut state = state_after(&pulled.entries);
        if chunks == geometry.chunks() {
            let whole: Vec<u8> = stored.bytes.values().flatten().copied().collect();
            state = State(file_hash(&whole).0);
        }
        JobDone::KeptChecked(Some(Kept { chunks, state }))
    }

    fn store_page(&mut self, transfer: TransferId, page: u32, entries: &Bytes) -> JobDone {
        let pulled = self.pulled.get_mut(&transfer).expect("opened before it gets pages");
        let head = pulled.incoming.head.clone().expect("only a known list has pages");
        assert_eq!(count(&pulled.entries), page * ENTRIES_PER_PAGE, "pages come in order");
        let Ok(checked) = head.check_page(page.into(), entries) else { return JobDone::PageWrong(page) };
        let before = pulled.entries.len();
        pulled.entries.extend(checked.entries());
        let stored = &self.stored[&pulled.key];
        let mut kept = Vec::new();
        for index in head.geometry().indices().skip(before).take(checked.entries().len()) {
            let previous = state_after(&pulled.entries[..index.as_usize()]);
            let right = stored.bytes.get(&index.get()).is_some_and(|bytes| {
                let entry = pulled.entries[index.as_usize()];
                Expected::new(head.geometry(), index, previous, entry, Some(head.file_hash()))
                    .verify(bytes)
                    .is_ok()
            });
            if right && !pulled.fresh {
                pulled.stored.insert(index.get());
                kept.push(index);
            }
        }
        JobDone::PageStored { page, kept }
    }

    fn store_pulled(
        &mut self,
        transfer: TransferId,
        index: ChunkIndex,
        data: &ChunkData,
        entry: Option<Entry>,
    ) -> Result<JobDone, Failure> {
        let pulled = self.pulled.get_mut(&transfer).expect("opened before it is written");
        let geometry = Geometry::new(pulled.incoming.size).unwrap();
        let actual = digest(&data.0);
        let wrong = || JobDone::ChunkReturned { index, data: data.clone(), actual };
        if pulled.stored.contains(&index.get()) {
            return Ok(wrong());
        }
        let is_open = pulled.opening == 0 || index.get() < list_chunks(&pulled.incoming);
        assert!(is_open, "no file of a directory before its list was read");
        let expected = match entry {
            Some(_) if index.as_usize() != pulled.entries.len() => return Ok(wrong()),
            Some(entry) => Expected::new(geometry, index, state_after(&pulled.entries), entry, None),
            None => {
                let head = pulled.incoming.head.as_ref().expect("else there is an entry");
                let previous = state_after(&pulled.entries[..index.as_usize()]);
                let entry = pulled.entries[index.as_usize()];
                Expected::new(geometry, index, previous, entry, Some(head.file_hash()))
            }
        };
        match expected.verify(&data.0) {
            Ok(()) => {}
            Err(ChunkFault::State | ChunkFault::FileHash) if entry.is_none() => {
                return Ok(JobDone::ListFalse(index));
            }
            Err(_) => return Ok(wrong()),
        }
        if self.stores_left == 0 {
            return Err(Failure::new(Code::NoSpace, "the disk is full"));
        }
        self.stores_left -= 1;
        self.bytes_stored += data.0.len() as u64;
        let stored = self.stored.get_mut(&pulled.key).unwrap();
        if let Some(entry) = entry {
            pulled.entries.push(entry);
            stored.entries.push(entry);
        }
        stored.bytes.insert(index.get(), data.0.to_vec());
        pulled.stored.insert(index.get());
        Ok(JobDone::ChunkStored(index))
    }

    fn store_listed(
        &mut self,
        transfer: TransferId,
        index: ChunkIndex,
        data: ChunkData,
    ) -> Result<JobDone, Failure> {
        let gone = || Failure::new(Code::DiskError, "there is no partial file");
        let partial = self.listed.get_mut(&transfer).ok_or_else(gone)?;
        let actual = digest(&data.0);
        if actual != partial.manifest.chunk_hash(index) || partial.stored[index.as_usize()] {
            return Ok(JobDone::ChunkReturned { index, data, actual });
        }
        if self.stores_left == 0 {
            return Err(Failure::new(Code::NoSpace, "the disk is full"));
        }
        self.stores_left -= 1;
        let offset = usize::try_from(index.offset()).unwrap();
        partial.bytes[offset..offset + data.0.len()].copy_from_slice(&data.0);
        partial.stored[index.as_usize()] = true;
        Ok(JobDone::ChunkStored(index))
    }

    fn finish(
        &mut self,
        transfer: TransferId,
        name: &peer_to_peer::wire::SafeName,
        seal: Option<&ManifestHead>,
    ) -> Result<JobDone, Failure> {
        let mismatch = || Failure::new(Code::HashMismatch, "the file does not have its hash");
        let (bytes, announced) = match self.pulled.remove(&transfer) {
            None => {
                let listed = self.listed.remove(&transfer).expect("made before it is finished");
                assert!(listed.stored.iter().all(|stored| *stored), "finished with chunks missing");
                (listed.bytes, listed.manifest.file_hash())
            }
            Some(pulled) => {
                let announced = pulled.incoming.head.as_deref().or(seal).expect("sealed").file_hash();
                if let Some(twin) = pulled.twin {
                    self.stored.remove(&pulled.key);
                    if file_hash(&self.downloads[&twin]) != announced {
                        return Err(mismatch());
                    }
                    let path = in_downloads(&twin);
                    return Ok(JobDone::Finished { path, file_hash: announced, already: true });
                }
                let geometry = Geometry::new(pulled.incoming.size).unwrap();
                assert_eq!(pulled.stored.len(), geometry.chunks() as usize, "finished with chunks missing");
                let stored = self.stored.remove(&pulled.key).unwrap();
                if self.served.values().any(|(key, _)| *key == pulled.key) {
                    self.in_place.insert(pulled.key.clone(), stored.bytes.clone());
                }
                (stored.bytes.into_values().flatten().collect(), announced)
            }
        };
        if file_hash(&bytes) != announced {
            return Err(mismatch());
        }
        let names = std::iter::once(name.clone()).chain((1..).map(|n| name.numbered(n)));
        let free = names.map(|name| name.to_string()).find(|name| !self.downloads.contains_key(name));
        let name = free.expect("there are enough numbers");
        self.files.insert(in_downloads(&name), bytes.clone());
        self.downloads.insert(name.clone(), bytes);
        Ok(JobDone::Finished { path: in_downloads(&name), file_hash: announced, already: false })
    }

    fn release(&mut self, transfer: TransferId, keep: bool) -> JobDone {
        self.sources.remove(&transfer);
        self.served.remove(&transfer);
        self.listed.remove(&transfer);
        let Some(pulled) = self.pulled.remove(&transfer) else { return JobDone::Released { left: None } };
        let stays = keep && self.stored.get(&pulled.key).is_some_and(|stored| !stored.bytes.is_empty());
        if !stays {
            self.stored.remove(&pulled.key);
        }
        JobDone::Released { left: self.stored.get_key_value(&pulled.key).map(leftover) }
    }
}

fn leftover((key, stored): (&String, &Stored)) -> Leftover {
    Leftover {
        is_directory: stored.incoming.tree.is_some(),
        key: PartialKey(key.clone()),
        from: stored.incoming.from,
        name: stored.incoming.name.clone(),
        size: stored.incoming.size,
        file_hash: stored.incoming.head.as_ref().map(|head| head.file_hash()),
        bytes: stored.bytes.values().map(|bytes| bytes.len() as u64).sum(),
    }
}

fn in_downloads(name: &str) -> PathBuf {
    PathBuf::from("downloads").join(name)
}

fn changed() -> Failure {
    Failure::new(Code::SourceChanged, "it changed")
}

fn chunk_of(bytes: &[u8], index: ChunkIndex) -> &[u8] {
    let offset = usize::try_from(index.offset()).unwrap();
    &bytes[offset..bytes.len().min(offset + CHUNK_SIZE as usize)]
}

/// How many chunks they are of.
fn count(entries: &[Entry]) -> u32 {
    u32::try_from(entries.len()).unwrap()
}

fn state_after(entries: &[Entry]) -> State {
    entries.last().map_or(State::INITIAL, |entry| entry.state)
}

/// Chunks that the list of a directory reaches into.
fn list_chunks(incoming: &Incoming) -> u32 {
    incoming.tree.map_or(0, |tree| tree.list_bytes.div_ceil(CHUNK_SIZE))
}

fn page_entries(entries: &[Entry], page: u32) -> &[Entry] {
    let start = (page * ENTRIES_PER_PAGE) as usize;
    &entries[start..entries.len().min(start + ENTRIES_PER_PAGE as usize)]
}

pub fn entries_of(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for index in Geometry::new(bytes.len() as u64).unwrap().indices() {
        entries.push(Digested::of(state_after(&entries), chunk_of(bytes, index)).entry());
    }
    entries
}

pub fn head_of(size: u64, hash: FileHash, entries: &[Entry]) -> ManifestHead {
    let mut builder = ManifestBuilder::new(size).unwrap();
    for entry in entries {
        let _: Option<Page> = builder.push(*entry).unwrap();
    }
    builder.finish(hash).unwrap()
}

pub fn digest(data: &[u8]) -> ChunkHash {
    ChunkHash(Sha256::digest(data).into())
}

pub fn file_hash(bytes: &[u8]) -> FileHash {
    FileHash(Sha256::digest(bytes).into())
}

pub fn manifest_of(bytes: &[u8]) -> Manifest {
    let hashes = bytes.chunks(CHUNK_SIZE as usize).map(digest).collect();
    Manifest::new(bytes.len() as u64, file_hash(bytes), hashes).unwrap()
}
