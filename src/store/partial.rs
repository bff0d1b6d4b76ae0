//! A file that is being received: its chunks in any order, and its hash.
//!
//! Invariant: nothing is written that does not have its chunk's digest, and no file gets its final
//! name whose own hash is not the announced one. Memory is the hash list and a bit for each chunk.
//! Which file is written to is `claim`'s, its final name `place`'s; which chunk comes when and from
//! whom is the engine's.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Stopwatch;
use super::chunk_set::ChunkSet;
use super::claim::Claim;
use super::downloads::{Downloads, PARTIALS};
use super::failure::{cannot, no_space, out_of_order};
use super::place::{Moving, place};
use crate::engine::{Code, Failure, JobDone};
use crate::wire::{CHUNK_SIZE, ChunkData, ChunkHash, ChunkIndex, FileHash, Manifest, SafeName};

/// Stored chunks read back for the file's hash after storing one: 4 MiB, so that a gap that closes
/// in front of a large file does not hold up the chunk that closed it. The rest is for later ones,
/// and for the end.
const CAUGHT_UP_PER_CHUNK: usize = 16;

/// A partial file and what is known about its content.
pub(super) struct Partial {
    claim: Claim,
    manifest: Manifest,
    stored: ChunkSet,
    /// The chunks before this one are in `whole`.
    hashed: u32,
    whole: Sha256,
}

impl Partial {
    /// Makes the partial file. Nothing is left behind where that fails.
    pub(super) fn create(
        downloads: &Path,
        manifest: Manifest,
        free_space: impl FnOnce(&Path) -> Result<u64, Failure>,
    ) -> Result<Self, Failure> {
        // Room is looked for after a leftover of this very content was removed.
        let (claim, opened) = Claim::new(downloads, manifest.file_hash())?;
        let free = free_space(&opened.path).and_then(|free| match manifest.size() {
            size if size > free => Err(no_space(size, free, downloads)),
            _ => Ok(()),
        });
        if let Err(failure) = free {
            claim.discard(downloads);
            return Err(failure);
        }
        let stored = ChunkSet::new(manifest.geometry().chunks());
        Ok(Self { claim, manifest, stored, hashed: 0, whole: Sha256::new() })
    }

    /// Verifies a chunk and writes it. One that is wrong or already there comes back.
    pub(super) fn store(
        &mut self,
        index: ChunkIndex,
        data: ChunkData,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        let actual = hashing.time(|| ChunkHash(Sha256::digest(&data.0).into()));
        // The index may be that of another file: a baseline chunk does not say which it belongs to.
        let geometry = self.manifest.geometry();
        let is_right = geometry.index(index.get().into()).is_some()
            && data.0.len() == geometry.len_of(index) as usize
            && actual == self.manifest.chunk_hash(index);
        if !is_right || self.stored.contains(index) {
            return Ok(JobDone::ChunkReturned { index, data, actual });
        }
        self.claim
            .file
            .write_all_at(&data.0, index.offset())
            .map_err(|error| cannot("write the partial file", error))?;
        self.stored.insert(index);
        if index.get() == self.hashed {
            hashing.time(|| self.whole.update(&data.0));
            self.hashed += 1;
        }
        self.catch_up(CAUGHT_UP_PER_CHUNK, hashing)?;
        Ok(JobDone::ChunkStored(index))
    }

    /// Checks the whole file, syncs it, and gives it its final name. Answers where it is.
    pub(super) fn finish(
        &mut self,
        downloads: &Path,
        name: &SafeName,
        hashing: &mut Stopwatch,
    ) -> Result<JobDone, Failure> {
        if self.stored.missing() > 0 {
            return Err(out_of_order(&format!("{} chunks of the file are missing", self.stored.missing())));
        }
        self.catch_up(usize::MAX, hashing)?;
        let actual = FileHash(self.whole.clone().finalize().into());
        let announced = self.manifest.file_hash();
        if actual != announced {
            let message =
                format!("the file has the hash {actual} where {announced} was announced; it was not kept");
            return Err(Failure::new(Code::HashMismatch, message));
        }
        let file = &self.claim.file;
        if file.metadata().map_err(|error| cannot("look at the partial file", error))?.len()
            != self.manifest.size()
        {
            return Err(meddled());
        }
        let path = put_in_place(downloads, &self.claim, name)?;
        Ok(JobDone::Finished { path, file_hash: announced, already: false })
    }

    /// Removes the partial file.
    pub(super) fn discard(&self, downloads: &Path) {
        self.claim.discard(downloads);
    }

    /// Reads back at most `limit` chunks that were stored before their turn, for the file's hash.
    /// They were verified when they were written, and the file's hash verifies them again.
    fn catch_up(&mut self, limit: usize, hashing: &mut Stopwatch) -> Result<(), Failure> {
        let geometry = self.manifest.geometry();
        let mut buffer = Vec::new();
        for index in geometry.indices().skip(self.hashed as usize).take(limit) {
            if !self.stored.contains(index) {
                break;
            }
            buffer.resize(CHUNK_SIZE as usize, 0);
            let chunk = &mut buffer[..geometry.len_of(index) as usize];
            self.claim.file.read_exact_at(chunk, index.offset()).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => meddled(),
                _ => cannot("read the partial file back", error),
            })?;
            hashing.time(|| self.whole.update(&*chunk));
            self.hashed += 1;
        }
        Ok(())
    }
}

/// Syncs a file that is complete and gives it its final name. Answers where it is.
pub(super) fn put_in_place(downloads: &Path, claim: &Claim, name: &SafeName) -> Result<PathBuf, Failure> {
    claim.file.sync_all().map_err(|error| cannot("sync the file to disk", error))?;
    let file = Moving { name: &claim.name, opened: claim.file.as_fd(), is_directory: false };
    move_out(downloads, &file, name, |downloads| claim.remove_journal(downloads))
}

/// Gives what is synced its final name, and lets what belonged to it be removed.
pub(super) fn move_out(
    downloads: &Path,
    moving: &Moving<'_>,
    name: &SafeName,
    remove_rest: impl FnOnce(&Downloads),
) -> Result<PathBuf, Failure> {
    let downloads = Downloads::open(downloads).map_err(|errno| {
        cannot(format_args!("open `{}`, where the partial file is", downloads.display()), errno)
    })?;
    let name = place(&downloads, moving, name)?;
    let path = downloads.path.join(name.as_str());
    downloads
        .sync()
        .map_err(|error| cannot(format_args!("sync `{}`, which is complete", path.display()), error))?;
    remove_rest(&downloads);
    downloads.tidy();
    Ok(path)
}

pub(super) fn meddled() -> Failure {
    let message = format!("another program changed the partial file in `{PARTIALS}` while the file arrived");
    Failure::new(Code::DiskError, message)
}
