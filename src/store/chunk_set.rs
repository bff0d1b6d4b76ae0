//! Which chunks of a file there are.

use crate::wire::ChunkIndex;

/// A set of chunks of one file, as a bit for each.
pub(super) struct ChunkSet {
    words: Vec<u64>,
    missing: u32,
}

impl ChunkSet {
    /// None of `chunks` chunks.
    pub(super) fn new(chunks: u32) -> Self {
        Self { words: vec![0; chunks.div_ceil(u64::BITS) as usize], missing: chunks }
    }

    /// How many are not in it.
    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    pub(super) fn contains(&self, index: ChunkIndex) -> bool {
        self.words[index.as_usize() / 64] >> (index.get() % 64) & 1 == 1
    }

    /// Adds one that is not in it.
    pub(super) fn insert(&mut self, index: ChunkIndex) {
        self.words[index.as_usize() / 64] |= 1 << (index.get() % 64);
        self.missing -= 1;
    }
}
