//! A file or directory of ours that is sent: opened, hashed part by part or while it is read chunk by chunk.
//!
//! Invariant: every chunk that leaves here has the digest that its list gives it, whatever happens to
//! the file meanwhile; a chunk that was hashed once never leaves with other bytes. The file stays open
//! from first to last, so that a new file under its name is not mistaken for it. Which chunk to read
//! when is left to the engine, but none is read that is further on than what was hashed.

use std::fs::{self, File, FileType};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use sha2::{Digest, Sha256};

use super::Stopwatch;
use super::cache::{Cache, Identity};
use super::directory::{Directory, Unreadable};
use super::entries::EntryList;
use super::failure::out_of_order;
use crate::engine::{Code, Failure, JobDone, Kept, Look};
use crate::size;
use crate::wire::{
    CHUNK_SIZE, ChunkData, ChunkHash, ChunkIndex, Digested, FileHash, Geometry, MAX_MANIFEST_SIZE, Manifest,
    ManifestHead, State,
};

/// Chunks hashed in one job: 32 MiB, so that progress is told and a cancelled transfer stops
/// several times a second even on a slow disk.
const CHUNKS_PER_PART: u32 = 128;

/// A file to send, or a directory, which is read like one.
pub(super) struct Source {
    opened: Opened,
    cache: Option<Cache>,
    entries: EntryList,
    /// What the last chunk that was hashed gives, were it the last of the file.
    file_hash: FileHash,
    /// Once all of it is hashed.
    head: Option<Arc<ManifestHead>>,
}

/// The open file, and what it looked like when it was opened.
struct Opened {
    path: PathBuf,
    content: Content,
    geometry: Geometry,
    identity: Identity,
    /// When that was, or shortly before.
    at: SystemTime,
}

/// Where the bytes are.
enum Content {
    File {
        file: File,
        /// Modification time when it was opened, in seconds and nanoseconds.
        modified: (i64, i64),
    },
    Directory(Box<Directory>),
}

impl Source {
    /// Opens a regular file, or walks a directory. Never waits for the other end of a FIFO and never touches a device.
    pub(super) fn open(path: PathBuf, cache: Option<Cache>) -> Result<Self, Failure> {
        let opened = Opened::new(path)?;
        let known = cache.as_ref().and_then(|cache| cache.get(&opened.identity));
        let (head, entries) = match known {
            Some((head, entries)) => (Some(Arc::new(head)), entries),
            None => (None, EntryList::new()),
        };
        let file_hash = head.as_ref().map_or(State::INITIAL.finish(&[], 0), |head| head.file_hash());
        Ok(Self { opened, cache, entries, file_hash, head })
    }

    /// Tells its size, and its hashes where they are known.
    pub(super) fn opened(&self) -> JobDone {
        let (tree, left_out) = match &self.opened.content {
            Content::File { .. } => (None, None),
            Content::Directory(directory) => {
                let left_out = directory.left_out();
                let left_out = left_out.map(|what| format!("of `{}` {what}", self.opened.path.display()));
                (Some(directory.tree().info()), left_out)
            }
        };
        let look = Look {
            stamp: self.opened.identity.stamp(),
            settles_in: self
                .cache
                .as_ref()
                .and_then(|cache| cache.settles_in(&self.opened.identity, self.opened.at)),
        };
        let size = self.opened.geometry.size();
        JobDone::SourceOpened { size, head: self.head.clone(), tree, left_out, look }
    }

    /// Reads and hashes the next part, and no chunk past the first `until`.
    pub(super) fn hash_part(&mut self, until: u32, hashing: &mut Stopwatch) -> Result<JobDone, Failure> {
        let geometry = self.opened.geometry;
        let end = until.min(self.entries.len().saturating_add(CHUNKS_PER_PART));
        let mut buffer = vec![0; CHUNK_SIZE as usize];
        for index in geometry.indices().take(end as usize).skip(self.entries.len() as usize) {
            let chunk = &mut buffer[..geometry.len_of(index) as usize];
            self.opened.read_exact(chunk, index.offset())?;
            self.hash_next(chunk, hashing)?;
        }
        self.opened.refuse_if_changed()?;
        let chunks = until.min(self.entries.len());
        if chunks < geometry.chunks() {
            let state = self.entries.state_after(chunks).map_err(list_lost)?;
            return Ok(JobDone::SourceHashing { hashed: Kept { chunks, state } });
        }
        self.seal().map(JobDone::SourceHashed)
    }

    /// Hashes the chunk that follows those that were hashed.
    fn hash_next(&mut self, chunk: &[u8], hashing: &mut Stopwatch) -> Result<(), Failure> {
        let digested = hashing.time(|| Digested::of(self.entries.state(), chunk));
        self.file_hash = digested.file_hash(self.opened.geometry.size());
        self.entries.extend(&[digested.entry()]).map_err(list_lost)
    }

    /// All of it is hashed: closes the list.
    fn seal(&mut self) -> Result<Arc<ManifestHead>, Failure> {
        if let Some(head) = &self.head {
            return Ok(head.clone());
        }
        self.opened.refuse_if_longer()?;
        let size = self.opened.geometry.size();
        let head = self.entries.head(size, self.file_hash).map_err(list_lost)?;
        let head = Arc::new(head.ok_or_else(|| out_of_order("a list of our own contradicts itself"))?);
        self.head = Some(head.clone());
        if let Some(cache) = &self.cache {
            cache.put(&self.opened.identity, self.opened.at, &head, &self.entries);
        }
        Ok(head)
    }

    /// The hashes of all chunks, for a baseline peer.
    pub(super) fn list_chunks(&self) -> Result<JobDone, Failure> {
        let Some(head) = &self.head else {
            return Err(out_of_order("hashes were asked for before the file was hashed"));
        };
        let mut hashes = Vec::with_capacity(self.entries.len() as usize);
        self.entries.for_each(|entry| hashes.push(entry.hash)).map_err(list_lost)?;
        Manifest::new(head.geometry().size(), head.file_hash(), hashes)
            .map(JobDone::ChunkList)
            .map_err(|error| out_of_order(&format!("a manifest of our own contradicts itself: {error}")))
    }

    /// The entries of one page of the list.
    pub(super) fn read_page(&self, page: u32) -> Result<JobDone, Failure> {
        if self.head.is_none() {
            return Err(out_of_order("a page was asked for before the file was hashed"));
        }
        let entries = self.entries.page(page).map_err(list_lost)?;
        Ok(JobDone::PageRead { page, entries: entries.into() })
    }

    /// Reads one chunk. One that was hashed is verified, the next one is hashed.
    pub(super) fn read_chunk(
        &mut self,
        index: ChunkIndex,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        let geometry = self.opened.geometry;
        if geometry.index(index.get().into()).is_none() || index.get() > self.entries.len() {
            return Err(out_of_order("a chunk was asked for that the file does not have, or not yet"));
        }
        let data = self.opened.read(index.offset(), geometry.len_of(index) as usize)?;
        let is_new = index.get() == self.entries.len();
        if is_new {
            self.hash_next(&data, hashing)?;
        }
        let entry = self.entries.get(index.get()).map_err(list_lost)?;
        if !is_new && hashing.time(|| ChunkHash(Sha256::digest(&data).into())) != entry.hash {
            return Err(self.opened.changed("its content is not what was offered"));
        }
        Ok(JobDone::ChunkRead { index, data: ChunkData(data.into()), entry })
    }
}

/// The list is too long for memory, and the disk it is on does not work.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn list_lost(error: io::Error) -> Failure {
    let message = format!("cannot keep the list of the file's hashes in a temporary file: {error}");
    Failure::new(Code::DiskError, message)
}

impl Opened {
    fn new(path: PathBuf) -> Result<Self, Failure> {
        let unreadable = |error| unreadable(&path, &error);
        // Looked at before it is opened, because opening some devices does something; and again
        // afterwards, because it may have been replaced in between.
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Self::directory(path, &metadata);
        }
        refuse_unless_regular(&path, metadata.file_type())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()))
            .map(File::from)
            .map_err(|errno| unreadable(errno.into()))?;
        let at = SystemTime::now();
        let metadata = file.metadata().map_err(unreadable)?;
        refuse_unless_regular(&path, metadata.file_type())?;
        let identity = Identity::of(&path, &metadata);
        let geometry = geometry_of(&path, metadata.len())?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { path, content: Content::File { file, modified }, geometry, identity, at })
    }

    fn directory(path: PathBuf, metadata: &fs::Metadata) -> Result<Self, Failure> {
        let at = SystemTime::now();
        let directory = Directory::walk(&path)?;
        let identity = Identity::of_directory(&path, metadata, &directory);
        let geometry = geometry_of(&path, directory.tree().size())?;
        Ok(Self { path, content: Content::Directory(Box::new(directory)), geometry, identity, at })
    }

    fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<(), Failure> {
        match &self.content {
            Content::File { file, .. } => {
                file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.shorter(),
                    _ => unreadable(&self.path, &error),
                })
            }
            Content::Directory(directory) => {
                directory.read_exact_at(buffer, offset).map_err(|error| match error {
                    Unreadable::Changed(what) => self.changed(&what),
                    Unreadable::Io(path, error) => unreadable(&path, &error),
                })
            }
        }
    }

    /// Reads into fresh memory without clearing it first.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let file = match &self.content {
            Content::File { file, .. } => file,
            Content::Directory(_) => {
                let mut data = vec![0; length];
                self.read_exact(&mut data, offset)?;
                return Ok(data);
            }
        };
        let mut data = Vec::with_capacity(length);
        while data.len() < length {
            let offset = offset + data.len() as u64;
            match retry_on_intr(|| rustix::io::pread(file, spare_capacity(&mut data), offset)) {
                Ok(0) => return Err(self.shorter()),
                Ok(_) => {}
                Err(errno) => return Err(unreadable(&self.path, &errno.into())),
            }
        }
        data.truncate(length);
        Ok(data)
    }

    fn refuse_if_changed(&self) -> Result<(), Failure> {
        // The files of a directory are compared whenever they are read.
        let Content::File { file, modified } = &self.content else { return Ok(()) };
        let now = file.metadata().map_err(|error| unreadable(&self.path, &error))?;
        if now.len() > self.geometry.size() {
            return Err(self.longer());
        }
        if now.len() < self.geometry.size() {
            return Err(self.shorter());
        }
        if (now.mtime(), now.mtime_nsec()) != *modified {
            return Err(self.changed("it was written to while it was read"));
        }
        Ok(())
    }

    /// Finds out files that do not tell their size, such as those in /proc.
    fn refuse_if_longer(&self) -> Result<(), Failure> {
        let Content::File { file, .. } = &self.content else { return Ok(()) };
        match file.read_at(&mut [0], self.geometry.size()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.longer()),
            Err(error) => Err(unreadable(&self.path, &error)),
        }
    }

    fn shorter(&self) -> Failure {
        self.changed("it is shorter than when it was opened")
    }

    fn longer(&self) -> Failure {
        self.changed("it is longer than when it was opened")
    }

    fn changed(&self, what: &str) -> Failure {
        let path = self.path.display();
        let message =
            format!("`{path}` changed: {what}; send it again when nothing writes to it, or send a copy");
        Failure::new(Code::SourceChanged, message)
    }
}

fn refuse_unless_regular(path: &Path, kind: FileType) -> Result<(), Failure> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_fifo() {
        "is a named pipe (FIFO); save what comes out of it to a file and send that"
    } else if kind.is_socket() {
        "is a socket; only regular files can be sent"
    } else {
        "is a device; only regular files can be sent"
    };
    Err(Failure::new(Code::SourceUnreadable, format!("`{}` {what}", path.display())))
}

/// How something of a size is cut that is no larger than what can have a list.
fn geometry_of(path: &Path, size: u64) -> Result<Geometry, Failure> {
    Geometry::new(size).filter(|_| size <= MAX_MANIFEST_SIZE).ok_or_else(|| {
        let (path, size, most) = (path.display(), size::human(size), size::human(MAX_MANIFEST_SIZE));
        let message =
            format!("`{path}` has {size}, and the most that can be sent or shared is {most}; `split` it");
        Failure::new(Code::TooLarge, message)
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file `{path}`; check the path"),
        io::ErrorKind::NotADirectory => {
            format!("there is no file `{path}`: a part of the path is not a directory")
        }
        io::ErrorKind::PermissionDenied => {
            format!("you may not read `{path}`; change its permissions or send a copy")
        }
        _ => format!("cannot read `{path}`: {error}"),
    };
    Failure::new(Code::SourceUnreadable, message)
}

#[cfg(test)]
mod tests;
