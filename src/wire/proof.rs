//! What bytes prove about a list of states, and who lied where they do not fit.
//!
//! A chunk is proven if its bytes have the listed hash and take the file from the state listed before
//! it to the state listed for it. A file is proven if every chunk is, the first from
//! [`State::INITIAL`], the last ending in the file hash. Chunks may come in any order.
//! `docs/ARCHITECTURE.md` says what this assumes of SHA-256.

use std::collections::BTreeMap;

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
    /// Two chunks, both with the claimed hash, do not follow each other, or the first does not begin
    /// the file.
    #[error("chunk {0} does not follow what comes before it")]
    Broken(u32),
    /// Chunks are missing.
    #[error("the file is not complete")]
    Incomplete,
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

    /// Whether bytes reach what two lists agree on: the state after the chunk, or the file's hash.
    fn arrives(&self, found: &Digested) -> bool {
        found.length() == u64::from(self.length)
            && match self.end {
                Some((size, hash)) => found.file_hash(size) == hash,
                None => found.entry().state == self.entry.state,
            }
    }
}

/// Chunks of a file whose hash may still be open, put together as they come, in any order.
///
/// Keeps one state at each end of every unbroken run, so it is as large as the file has gaps and
/// not as the file. Each chunk may have been digested from a state that was only claimed; claims are
/// compared where runs meet, and the run that reaches from end to end rests on no claim.
#[derive(Debug, Clone)]
pub struct Chain {
    geometry: Geometry,
    /// By the first chunk of each run; no two runs touch.
    runs: BTreeMap<u32, Run>,
    last: Option<Digested>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    /// The first chunk behind it.
    end: u32,
    before: State,
    after: State,
}

impl Chain {
    /// A file of which nothing is known but its size.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, runs: BTreeMap::new(), last: None }
    }

    /// Adds a chunk; `false` if it was there already, whatever it was this time.
    ///
    /// # Errors
    /// The wrong length, or a chunk that does not fit its neighbours; nothing is added then. Which of
    /// the neighbours is false is not known.
    pub fn insert(&mut self, index: ChunkIndex, found: &Digested) -> Result<bool, ChunkFault> {
        let expected = self.geometry.len_of(index);
        if found.length() != u64::from(expected) {
            return Err(ChunkFault::Length { expected, got: found.length() });
        }
        let (number, next) = (index.get(), index.get() + 1);
        let left = self.runs.range(..=number).next_back().map(|(&start, &run)| (start, run));
        if left.is_some_and(|(_, run)| run.end > number) {
            return Ok(false);
        }
        let left = left.filter(|(_, run)| run.end == number);
        let right = self.runs.get(&next).copied();
        let reached = if number == 0 { Some(State::INITIAL) } else { left.map(|(_, run)| run.after) };
        if reached.is_some_and(|state| state != found.previous()) {
            return Err(ChunkFault::Broken(number));
        }
        if right.is_some_and(|run| run.before != found.entry().state) {
            return Err(ChunkFault::Broken(next));
        }
        self.runs.remove(&next);
        let (start, before) = left.map_or((number, found.previous()), |(start, run)| (start, run.before));
        let (end, after) = right.map_or((next, found.entry().state), |run| (run.end, run.after));
        self.runs.insert(start, Run { end, before, after });
        if next == self.geometry.chunks() {
            self.last = Some(found.clone());
        }
        Ok(true)
    }

    /// How many chunks there are without a gap from the start, and the state after them. That state
    /// commits to every byte before it: a sender whose file has the same state there need not send
    /// them again.
    pub fn prefix(&self) -> (u32, State) {
        self.runs.get(&0).map_or((0, State::INITIAL), |run| (run.end, run.after))
    }

    /// Whether the chunks are all there and are the file of this hash.
    ///
    /// # Errors
    /// [`ChunkFault::Incomplete`], or [`ChunkFault::FileHash`].
    pub fn close(&self, file_hash: FileHash) -> Result<(), ChunkFault> {
        let (chunks, state) = self.prefix();
        if chunks != self.geometry.chunks() {
            return Err(ChunkFault::Incomplete);
        }
        let tail = self.last.as_ref().map_or(&[][..], Digested::tail);
        let found = state.finish(tail, self.geometry.size());
        if found == file_hash { Ok(()) } else { Err(ChunkFault::FileHash) }
    }
}

/// Two lists for a file of one hash that contradict each other, and the chunk that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute {
    index: ChunkIndex,
    first: Expected,
    second: Expected,
}

/// What the bytes of the disputed chunk show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first list is false.
    FirstLied,
    /// The second list is false.
    SecondLied,
    /// Both lists are false.
    BothLied,
    /// The bytes do not reach what both lists agree on: they are not the chunk, and show nothing.
    Unproven,
}

impl Dispute {
    /// Finds the last place where two lists for the same size and file hash differ; `None` if they
    /// are the same. Lists are functions from chunk to entry, so that pages can stay on a disk; they
    /// are read from the end to the last difference.
    pub fn between(
        geometry: Geometry,
        file_hash: FileHash,
        first: impl Fn(ChunkIndex) -> Entry,
        second: impl Fn(ChunkIndex) -> Entry,
    ) -> Option<Self> {
        let chunk = |raw: u32| geometry.index(raw.into());
        let differing = (0..geometry.chunks()).rev().filter_map(chunk).find(|&i| first(i) != second(i))?;
        // Where the states differ, only a place behind that both agree on can tell: the state after
        // the next chunk, or the file hash. Where only the hashes differ, the chunk itself can.
        let index = if first(differing).state == second(differing).state {
            differing
        } else {
            chunk(differing.get() + 1).unwrap_or(differing)
        };
        let before = index.get().checked_sub(1).and_then(chunk);
        let expected = |list: &dyn Fn(ChunkIndex) -> Entry| {
            let previous = before.map_or(State::INITIAL, |i| list(i).state);
            Expected::new(geometry, index, previous, list(index), Some(file_hash))
        };
        Some(Self { index, first: expected(&first), second: expected(&second) })
    }

    /// The chunk whose bytes decide.
    pub fn index(&self) -> ChunkIndex {
        self.index
    }

    /// Says who lied, given bytes for the chunk from anybody. A true list is never convicted,
    /// whatever the bytes.
    #[must_use]
    pub fn judge(&self, chunk: &[u8]) -> Verdict {
        let from_first = Digested::of(self.first.previous, chunk);
        let from_second = Digested::of(self.second.previous, chunk);
        if !self.first.arrives(&from_first) && !self.second.arrives(&from_second) {
            return Verdict::Unproven;
        }
        match (self.first.check(&from_first), self.second.check(&from_second)) {
            (Err(_), Err(_)) => Verdict::BothLied,
            (Err(_), Ok(())) => Verdict::FirstLied,
            (Ok(()), Err(_)) => Verdict::SecondLied,
            // Would be a collision of the compression function.
            (Ok(()), Ok(())) => Verdict::Unproven,
        }
    }
}

#[cfg(test)]
mod tests;
