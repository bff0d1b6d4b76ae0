//! A disk in memory that does the engine's jobs, and fails when told to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use peer_to_peer::engine::{Code, Failure, Job, JobDone, TransferId};
use peer_to_peer::wire::{CHUNK_SIZE, ChunkData, ChunkHash, FileHash, Manifest};
use sha2::{Digest, Sha256};

/// A file being hashed or sent.
struct Source {
    path: PathBuf,
    manifest: Option<Manifest>,
}

/// A file being received.
struct Partial {
    manifest: Manifest,
    bytes: Vec<u8>,
    stored: Vec<bool>,
}

pub struct MemDisk {
    /// Files that can be sent.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Files that were received, by their final name.
    pub downloads: BTreeMap<String, Vec<u8>>,
    pub free_bytes: u64,
    /// How many chunks can be stored before the disk breaks.
    pub stores_left: u64,
    sources: BTreeMap<TransferId, Source>,
    partials: BTreeMap<TransferId, Partial>,
}

impl Default for MemDisk {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            downloads: BTreeMap::new(),
            free_bytes: 1 << 40,
            stores_left: u64::MAX,
            sources: BTreeMap::new(),
            partials: BTreeMap::new(),
        }
    }
}

impl MemDisk {
    /// Whether nothing is open and nothing unfinished is left.
    pub fn is_clean(&self) -> bool {
        self.sources.is_empty() && self.partials.is_empty()
    }

    pub fn run(&mut self, transfer: TransferId, job: Job) -> JobDone {
        self.try_run(transfer, job).unwrap_or_else(JobDone::Failed)
    }

    fn try_run(&mut self, transfer: TransferId, job: Job) -> Result<JobDone, Failure> {
        Ok(match job {
            Job::OpenSource(path) => {
                let missing = || Failure::new(Code::SourceUnreadable, "no such file");
                let size = self.files.get(&path).ok_or_else(missing)?.len() as u64;
                self.sources.insert(transfer, Source { path, manifest: None });
                JobDone::SourceOpened { size }
            }
            Job::HashSource => {
                let source = self.sources.get_mut(&transfer).expect("opened before it is hashed");
                let manifest = manifest_of(&self.files[&source.path]);
                source.manifest = Some(manifest.clone());
                JobDone::SourceHashed(manifest)
            }
            Job::ReadChunk(index) => {
                let source = &self.sources[&transfer];
                let manifest = source.manifest.as_ref().expect("hashed before it is read");
                let offset = usize::try_from(index.offset()).unwrap();
                let len = manifest.geometry().len_of(index) as usize;
                let changed = || Failure::new(Code::SourceChanged, "it changed");
                let data = self.files.get(&source.path).and_then(|bytes| bytes.get(offset..offset + len));
                let data =
                    data.filter(|data| digest(data) == manifest.chunk_hash(index)).ok_or_else(changed)?;
                JobDone::ChunkRead { index, data: ChunkData(data.to_vec().into()) }
            }
            Job::FreeSpace => JobDone::FreeSpace { bytes: self.free_bytes },
            Job::CreatePartial(manifest) => {
                let bytes = vec![0; usize::try_from(manifest.size()).unwrap()];
                let stored = vec![false; manifest.geometry().chunks() as usize];
                self.partials.insert(transfer, Partial { manifest, bytes, stored });
                JobDone::PartialCreated
            }
            Job::StoreChunk { index, data } => {
                let gone = || Failure::new(Code::DiskError, "there is no partial file");
                let partial = self.partials.get_mut(&transfer).ok_or_else(gone)?;
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
                JobDone::ChunkStored(index)
            }
            Job::Finish(name) => {
                let partial = self.partials.remove(&transfer).expect("made before it is finished");
                assert!(partial.stored.iter().all(|stored| *stored), "finished with chunks missing");
                if file_hash(&partial.bytes) != partial.manifest.file_hash() {
                    return Err(Failure::new(Code::HashMismatch, "the file does not have its hash"));
                }
                let names = std::iter::once(name.clone()).chain((1..).map(|n| name.numbered(n)));
                let free = names.map(|name| name.to_string()).find(|name| !self.downloads.contains_key(name));
                let name = free.expect("there are enough numbers");
                self.downloads.insert(name.clone(), partial.bytes);
                JobDone::Finished { path: PathBuf::from("downloads").join(name) }
            }
            Job::Release => {
                self.sources.remove(&transfer);
                self.partials.remove(&transfer);
                JobDone::Released
            }
        })
    }
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
