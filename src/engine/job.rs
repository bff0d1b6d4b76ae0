//! Work on files that the engine wants done. It never does any itself.
//!
//! The jobs of one transfer are done in the order in which they were given, except that those
//! which only read or verify one chunk ([`Job::is_parallel`]) may be done at the same time; jobs of
//! different transfers too. Each is answered with one [`JobDone`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Failure, TransferId};
use crate::wire::{
    ChunkData, ChunkHash, ChunkIndex, Entry, FileHash, Manifest, ManifestHead, NodeId, SafeName, TreeInfo,
};

/// One piece of work for one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Read what a transfer receives, as the source of another: the chunks that it has, and its list.
    OpenHeld(TransferId),
    /// Open a file to send and look at its size, and whether its hashes are known from before.
    OpenSource(PathBuf),
    /// Read and hash the next part of the source, as far as so many chunks, if that was not done
    /// before; the pace at which progress is told and a cancelled transfer stops.
    HashSource {
        /// The number of chunks to be hashed in the end. Where that is all of them, the list is closed.
        until: u32,
    },
    /// Tell the hashes of all chunks of a source that is hashed.
    ListChunks,
    /// Read one chunk of the source. One that was hashed is checked to be what was hashed; the next
    /// one that was not is hashed.
    ReadChunk(ChunkIndex),
    /// Read one page of the manifest of a source that is hashed.
    ReadPage(u32),
    /// Tell how much more may be stored where received files go.
    FreeSpace,
    /// Make the partial file of an accepted baseline offer.
    CreatePartial(Manifest),
    /// Make the partial file of an accepted offer, or find the one that an earlier attempt left.
    OpenPartial(Arc<Incoming>),
    /// Verify the next part of what was found, the pace at which progress is told.
    CheckKept,
    /// What was found is something else: make an empty partial file instead.
    StartOver,
    /// Check a page of the manifest, and which of its chunks the partial file has already.
    StorePage {
        /// Which one.
        page: u32,
        /// Its entries, as they travelled.
        entries: Bytes,
    },
    /// The chunks are stored that have the list of a directory: check it, and prepare the next part of
    /// where its files go.
    OpenTree,
    /// Verify one chunk and write it to the partial file.
    StoreChunk {
        /// Which one.
        index: ChunkIndex,
        /// Its bytes.
        data: ChunkData,
        /// What it is verified by.
        by: ChunkProof,
    },
    /// All chunks are stored: check the file's hash, sync it, give it its final name.
    Finish {
        /// The name.
        name: SafeName,
        /// The hash, where the offer did not tell it.
        seal: Option<Arc<ManifestHead>>,
    },
    /// The transfer is over: close what it has open. Also right where nothing was opened or made.
    Release {
        /// Whether a partial file stays, to go on with it another time.
        keep: bool,
    },
    /// Remove the partial files that nobody touched for so long, and list the others.
    ListPartials {
        /// The age.
        unused_for: Duration,
    },
    /// Remove a partial file that no transfer uses.
    DiscardPartial(PartialKey),
}

impl Job {
    /// Whether it may be done at the same time as others like it of the same transfer.
    pub fn is_parallel(&self) -> bool {
        match self {
            Self::StoreChunk { by, .. } => *by == ChunkProof::Page,
            _ => false,
        }
    }
}

/// What a chunk that arrived is verified by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkProof {
    /// The hashes of a baseline offer. In order, as the acknowledgements are to be.
    Offer,
    /// A page of the manifest, which says enough about each chunk by itself.
    Page,
    /// What came with it, together with the chunk before it.
    Entry(Entry),
}

impl ChunkProof {
    /// What came with the chunk.
    pub fn entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Offer | Self::Page => None,
        }
    }
}

/// A file that is to be received from a peer that speaks the extended protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who sends it; nobody knows under `--plain`.
    pub from: Option<NodeId>,
    /// What it is to be called.
    pub name: SafeName,
    /// Its size in bytes.
    pub size: u64,
    /// What it consists of, where the sender knows that already.
    pub head: Option<Arc<ManifestHead>>,
    /// What is known of it where it is a directory.
    pub tree: Option<TreeInfo>,
    /// Whether the sender has not ended since it offered this before: what has come of it is the
    /// beginning of it.
    pub goes_on: bool,
}

/// A partial file that an earlier attempt left: the name of its file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialKey(pub String);

/// What is known about a partial file that no transfer uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Which one.
    pub key: PartialKey,
    /// Who sent it.
    pub from: Option<NodeId>,
    /// What the file was to be called.
    pub name: SafeName,
    /// The size of the whole file in bytes.
    pub size: u64,
    /// Its hash, if that was known.
    pub file_hash: Option<FileHash>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Bytes of it that are there, as far as can be told without reading them.
    pub bytes: u64,
}

/// Verified content of a file whose hash is not known yet: its first chunks.
pub use crate::wire::Prefix as Kept;

/// What a source is known by without being read: another one means that it may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp(pub [u8; 16]);

/// What a source looks like when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// What it is known by.
    pub stamp: Stamp,
    /// Where it was written to so lately that another write might not show: how long until its hashes can be
    /// remembered.
    pub settles_in: Option<Duration>,
}

/// The answer to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobDone {
    /// The source is open.
    SourceOpened {
        /// Its size in bytes.
        size: u64,
        /// What it consists of, if that is known from before.
        head: Option<Arc<ManifestHead>>,
        /// What is to be told of it where it is a directory.
        tree: Option<TreeInfo>,
        /// What of it cannot be sent, as a sentence.
        left_out: Option<String>,
        /// What it looks like.
        look: Look,
    },
    /// A part of the source is hashed and there is more to it.
    SourceHashing {
        /// The chunks hashed so far, but no more than were wanted, and the state after them.
        hashed: Kept,
    },
    /// The whole source is hashed, and was not written to meanwhile.
    SourceHashed(Arc<ManifestHead>),
    /// The hashes of all its chunks.
    ChunkList(Manifest),
    /// A chunk of the source.
    ChunkRead {
        /// Which one.
        index: ChunkIndex,
        /// Its bytes.
        data: ChunkData,
        /// Its place in the manifest.
        entry: Entry,
    },
    /// A page of the source's manifest.
    PageRead {
        /// Which one.
        page: u32,
        /// Its entries, as they travel.
        entries: Bytes,
    },
    /// What may still be stored.
    FreeSpace {
        /// In bytes.
        bytes: u64,
    },
    /// The partial file is there, and empty.
    PartialCreated,
    /// The partial file is there.
    PartialOpened {
        /// The one of an earlier attempt, if it goes on with that.
        resumed: Option<PartialKey>,
        /// Whether something is to be verified by [`Job::CheckKept`] before anything is asked for:
        /// what an earlier attempt left, or a file of that name and size that is in place.
        to_check: bool,
        /// Whether something of a directory may be here, if it were known what it consists of.
        similar: bool,
    },
    /// A part of it is verified and there is more.
    KeptChecking {
        /// Bytes verified so far.
        bytes: u64,
    },
    /// All of it is verified: the first chunks are there. Where the hash of the file is known, that
    /// is told page by page instead, and this has none.
    KeptChecked(Option<Kept>),
    /// The very file is in place already.
    AlreadyHere {
        /// Where.
        path: PathBuf,
    },
    /// The page is right.
    PageStored {
        /// Which one.
        page: u32,
        /// Its chunks that are stored already, in order.
        kept: Vec<ChunkIndex>,
    },
    /// There is more to prepare for the files of a directory, or to verify of what was found.
    TreeOpening {
        /// Chunks that are here already.
        kept: Vec<ChunkIndex>,
    },
    /// The files of the directory may be stored.
    TreeOpened {
        /// The same.
        kept: Vec<ChunkIndex>,
    },
    /// The chunk has the hash that its list gives it, and does not continue the file as the list says:
    /// the list is false, whoever sent the chunk.
    ListFalse(ChunkIndex),
    /// The page is not the one that the root commits to.
    PageWrong(u32),
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
        /// Its hash.
        file_hash: FileHash,
        /// Whether it was there before.
        already: bool,
    },
    /// Nothing of the transfer is open.
    Released {
        /// The partial file that stays.
        left: Option<Leftover>,
    },
    /// The partial files that no transfer uses.
    Partials(Vec<Leftover>),
    /// The partial file is gone.
    Discarded,
    /// The job could not be done; what it worked on is of no more use to the transfer.
    Failed(Failure),
}
