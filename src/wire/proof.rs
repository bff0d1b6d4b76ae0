//! What bytes prove about a list of states, and whether the list or the bytes are wrong where they do not fit.
//!
//! A chunk is proven if its bytes have the listed hash and take the file from the state listed before
//! it to the state listed for it. A file is proven if every chunk is, the first from
//! [`State::INITIAL`], the last ending in the file hash. Chunks may come in any order.
//! `docs/ARCHITECTURE.md` says what this assumes of SHA-256.

use thiserror::Error;

use super::chain::Digested;
use super::chunks::{ChunkIndex, Geometry};
use super::hash::{FileHash, State};
use super::manifest::Entry;

/// Why bytes do not prove what was claimed of them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChunkFault {
    /// Not as long as the chunk. Whoever sent the bytes is wrong.
    #[error("the chunk has {got} bytes and not {expected}")]
    Length {
        /// What the size of the file asks for.
        expected: u32,
        /// What there is.
        got: u64,
    },
    /// Not the chunk that was listed. Whoever sent the bytes is wrong, if the list is right.
    #[error("the bytes are not those of the chunk")]
    Hash,
    /// The right hash, but not between the listed states. The list is false, whoever sent the bytes.
    #[error("the manifest is false: the chunk does not continue the file as the manifest says")]
    State,
    /// The list ends, with bytes that it lists, in another hash than the file's. The list is false.
    #[error("the manifest is false: it leads to another file than the one it names")]
    FileHash,
}

/// What is claimed of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    previous: State,
    entry: Entry,
    length: u32,
    /// Size and hash of the file that must end with this chunk.
    end: Option<(u64, FileHash)>,
}

impl Expected {
    /// Puts a claim together. `previous` is the listed state of the chunk before and does not count
    /// for the first, which can only begin in [`State::INITIAL`]. `file_hash` is `None` as long as it
    /// is open; it counts for the last chunk alone.
    pub fn new(
        geometry: Geometry,
        index: ChunkIndex,
        previous: State,
        entry: Entry,
        file_hash: Option<FileHash>,
    ) -> Self {
        let previous = if index.get() == 0 { State::INITIAL } else { previous };
        let last = index.get() + 1 == geometry.chunks();
        let end = file_hash.filter(|_| last).map(|hash| (geometry.size(), hash));
        Self { previous, entry, length: geometry.len_of(index), end }
    }

    /// The state to digest the chunk from.
    pub fn previous(&self) -> State {
        self.previous
    }

    /// Compares the claim with what the bytes were found to be.
    ///
    /// # Errors
    /// What is wrong; the first in the order of [`ChunkFault`].
    pub fn check(&self, found: &Digested) -> Result<(), ChunkFault> {
        if found.length() != u64::from(self.length) {
            return Err(ChunkFault::Length { expected: self.length, got: found.length() });
        }
        if found.entry().hash != self.entry.hash {
            return Err(ChunkFault::Hash);
        }
        if found.previous() != self.previous || found.entry().state != self.entry.state {
            return Err(ChunkFault::State);
        }
        match self.end {
            Some((size, hash)) if found.file_hash(size) != hash => Err(ChunkFault::FileHash),
            _ => Ok(()),
        }
    }

    /// Digests a chunk and compares it.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn verify(&self, chunk: &[u8]) -> Result<(), ChunkFault> {
        self.check(&Digested::of(self.previous, chunk))
    }
}

#[cfg(test)]
mod tests;
