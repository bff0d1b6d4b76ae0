//! Work on files that the engine wants done. It never does any itself.
//!
//! The jobs of one transfer are done one after the other, in the order in which they were given;
//! jobs of different transfers may be done at the same time. Each is answered with one [`JobDone`].

use std::path::PathBuf;

use super::Failure;
use crate::wire::{ChunkData, ChunkHash, ChunkIndex, Manifest, SafeName};

/// One piece of work for one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Open a file to send and look at its size.
    OpenSource(PathBuf),
    /// Read and hash the next part of the source; the pace at which progress is told and a
    /// cancelled transfer stops.
    HashSource,
    /// Read one chunk of the source and check that it still is what was hashed.
    ReadChunk(ChunkIndex),
    /// Tell how much more may be stored where received files go.
    FreeSpace,
    /// Make the partial file of an accepted offer.
    CreatePartial(Manifest),
    /// Verify one chunk and write it to the partial file.
    StoreChunk {
        /// Which one.
        index: ChunkIndex,
        /// Its bytes.
        data: ChunkData,
    },
    /// All chunks are stored: check the file's hash, sync it, give it its final name.
    Finish(SafeName),
    /// The transfer is over: close the source, or remove the partial file. Also right where
    /// nothing was opened or made.
    Release,
}

/// The answer to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobDone {
    /// The source is open.
    SourceOpened {
        /// Its size in bytes.
        size: u64,
    },
    /// A part of the source is hashed and there is more.
    SourceHashing {
        /// Bytes hashed so far.
        bytes: u64,
    },
    /// The whole source is hashed.
    SourceHashed(Manifest),
    /// A chunk of the source, verified.
    ChunkRead {
        /// Which one.
        index: ChunkIndex,
        /// Its bytes.
        data: ChunkData,
    },
    /// What may still be stored.
    FreeSpace {
        /// In bytes.
        bytes: u64,
    },
    /// The partial file is there.
    PartialCreated,
    /// The chunk is verified and written.
    ChunkStored(ChunkIndex),
    /// The chunk's bytes are of no use to this transfer: they are not those of its chunk, or it has
    /// them already. They come back with their digest, since a baseline chunk does not say which
    /// file it belongs to, and files may share one.
    ChunkReturned {
        /// Which one.
        index: ChunkIndex,
        /// Its bytes.
        data: ChunkData,
        /// What they hash to.
        actual: ChunkHash,
    },
    /// The file is verified, synced and in place.
    Finished {
        /// Where.
        path: PathBuf,
    },
    /// Nothing of the transfer is open or left over.
    Released,
    /// The job could not be done; what it worked on is of no more use to the transfer.
    Failed(Failure),
}
