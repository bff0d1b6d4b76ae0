//! A file of ours that is sent: opened, hashed part by part, then read chunk by chunk.
//!
//! Invariant: every chunk that leaves here has the digest that the manifest gives it, whatever
//! happens to the file meanwhile. The file stays open from first to last, so that a new file under
//! its name is not mistaken for it. Which chunk to read when is left to the engine.

use std::fs::{self, File, FileType};
use std::io;
use std::mem;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use sha2::{Digest, Sha256};

use super::Stopwatch;
use super::failure::out_of_order;
use crate::engine::{Code, Failure, JobDone};
use crate::wire::{CHUNK_SIZE, ChunkData, ChunkHash, ChunkIndex, FileHash, Geometry, Manifest};

/// Chunks hashed in one job: 32 MiB, so that progress is told and a cancelled transfer stops
/// several times a second even on a slow disk.
const CHUNKS_PER_PART: usize = 128;

/// A file to send.
pub(super) struct Source {
    opened: Opened,
    progress: Progress,
}

/// The open file, and what it looked like when it was opened.
struct Opened {
    path: PathBuf,
    file: File,
    geometry: Geometry,
    /// Modification time, in seconds and nanoseconds.
    modified: (i64, i64),
}

enum Progress {
    Hashing { whole: Sha256, chunks: Vec<ChunkHash> },
    Hashed(Manifest),
}

impl Source {
    /// Opens a regular file. Never waits for the other end of a FIFO and never touches a device.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let opened = Opened::new(path)?;
        Ok(Self { opened, progress: Progress::Hashing { whole: Sha256::new(), chunks: Vec::new() } })
    }

    /// Bytes in it when it was opened.
    pub(super) fn size(&self) -> u64 {
        self.opened.geometry.size()
    }

    /// Reads and hashes the next part.
    pub(super) fn hash_part(&mut self, hashing: &mut Stopwatch) -> Result<JobDone, Failure> {
        let Self { opened, progress } = self;
        let (whole, chunks) = match progress {
            Progress::Hashing { whole, chunks } => (whole, chunks),
            Progress::Hashed(manifest) => return Ok(JobDone::SourceHashed(manifest.clone())),
        };
        let mut buffer = vec![0; CHUNK_SIZE as usize];
        for index in opened.geometry.indices().skip(chunks.len()).take(CHUNKS_PER_PART) {
            let chunk = &mut buffer[..opened.geometry.len_of(index) as usize];
            opened.read_exact(chunk, index.offset())?;
            hashing.time(|| {
                chunks.push(ChunkHash(Sha256::digest(&*chunk).into()));
                whole.update(&*chunk);
            });
        }
        opened.refuse_if_changed()?;
        if chunks.len() < opened.geometry.chunks() as usize {
            return Ok(JobDone::SourceHashing { bytes: chunks.len() as u64 * u64::from(CHUNK_SIZE) });
        }
        opened.refuse_if_longer()?;
        let file_hash = FileHash(whole.clone().finalize().into());
        let manifest = Manifest::new(opened.geometry.size(), file_hash, mem::take(chunks))
            .map_err(|error| out_of_order(&format!("a manifest of our own contradicts itself: {error}")))?;
        *progress = Progress::Hashed(manifest.clone());
        Ok(JobDone::SourceHashed(manifest))
    }

    /// Reads one chunk and verifies it.
    pub(super) fn read_chunk(&self, index: ChunkIndex, hashing: &mut Stopwatch) -> Result<JobDone, Failure> {
        let Progress::Hashed(manifest) = &self.progress else {
            return Err(out_of_order("a chunk was asked for before the file was hashed"));
        };
        let geometry = self.opened.geometry;
        if geometry.index(index.get().into()).is_none() {
            return Err(out_of_order("a chunk was asked for that the file does not have"));
        }
        let data = self.opened.read(index.offset(), geometry.len_of(index) as usize)?;
        if hashing.time(|| ChunkHash(Sha256::digest(&data).into())) != manifest.chunk_hash(index) {
            return Err(self.opened.changed("its content is not what was offered"));
        }
        Ok(JobDone::ChunkRead { index, data: ChunkData(data.into()) })
    }
}

impl Opened {
    fn new(path: PathBuf) -> Result<Self, Failure> {
        let unreadable = |error| unreadable(&path, &error);
        // Looked at before it is opened, because opening some devices does something; and again
        // afterwards, because it may have been replaced in between.
        refuse_unless_regular(&path, fs::metadata(&path).map_err(unreadable)?.file_type())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()))
            .map(File::from)
            .map_err(|errno| unreadable(errno.into()))?;
        let metadata = file.metadata().map_err(unreadable)?;
        refuse_unless_regular(&path, metadata.file_type())?;
        let geometry = Geometry::new(metadata.len()).ok_or_else(|| {
            let message = format!("`{}` is larger than any file that can be sent (1.1 PB)", path.display());
            Failure::new(Code::TooLarge, message)
        })?;
        Ok(Self { modified: (metadata.mtime(), metadata.mtime_nsec()), path, file, geometry })
    }

    fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<(), Failure> {
        self.file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.shorter(),
            _ => unreadable(&self.path, &error),
        })
    }

    /// Reads into fresh memory without clearing it first.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let mut data = Vec::with_capacity(length);
        while data.len() < length {
            let offset = offset + data.len() as u64;
            match retry_on_intr(|| rustix::io::pread(&self.file, spare_capacity(&mut data), offset)) {
                Ok(0) => return Err(self.shorter()),
                Ok(_) => {}
                Err(errno) => return Err(unreadable(&self.path, &errno.into())),
            }
        }
        data.truncate(length);
        Ok(data)
    }

    fn refuse_if_changed(&self) -> Result<(), Failure> {
        let now = self.file.metadata().map_err(|error| unreadable(&self.path, &error))?;
        if now.len() > self.geometry.size() {
            return Err(self.longer());
        }
        if now.len() < self.geometry.size() {
            return Err(self.shorter());
        }
        if (now.mtime(), now.mtime_nsec()) != self.modified {
            return Err(self.changed("it was written to while it was read"));
        }
        Ok(())
    }

    /// Finds out files that do not tell their size, such as those in /proc.
    fn refuse_if_longer(&self) -> Result<(), Failure> {
        match self.file.read_at(&mut [0], self.geometry.size()) {
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
    } else if kind.is_dir() {
        "is a directory; directories cannot be sent yet, send its files or an archive of it"
    } else if kind.is_fifo() {
        "is a named pipe (FIFO); save what comes out of it to a file and send that"
    } else if kind.is_socket() {
        "is a socket; only regular files can be sent"
    } else {
        "is a device; only regular files can be sent"
    };
    Err(Failure::new(Code::SourceUnreadable, format!("`{}` {what}", path.display())))
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
