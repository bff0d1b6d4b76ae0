//! SHA-256 block by block: the chaining state of a file between its chunks.
//!
//! A file's SHA-256 is a chain: each 64-byte block turns one state of eight words into the next.
//! Chunks end on block boundaries, so the state after one is where the next begins, and a chunk can
//! be shown to belong between two states without anything before it. What that proves is left to
//! `proof`, and how states are listed to `manifest`.
//!
//! Invariant: a [`Digested`] was computed from bytes here; it never repeats a claim.

use std::slice;

use sha2::block_api::compress256;

use super::hash::{ChunkHash, FileHash, State};
use super::manifest::Entry;

/// Bytes that SHA-256 takes in at once.
pub const BLOCK_BYTES: usize = 64;

/// What SHA-256 takes in at once.
pub type Block = [u8; BLOCK_BYTES];

impl State {
    /// Where every SHA-256 begins (FIPS 180-4, 5.3.3).
    pub const INITIAL: Self = Self([
        0x6a, 0x09, 0xe6, 0x67, 0xbb, 0x67, 0xae, 0x85, 0x3c, 0x6e, 0xf3, 0x72, 0xa5, 0x4f, 0xf5,
        0x3a, //
        0x51, 0x0e, 0x52, 0x7f, 0x9b, 0x05, 0x68, 0x8c, 0x1f, 0x83, 0xd9, 0xab, 0x5b, 0xe0, 0xcd, 0x19,
    ]);

    /// Takes in the next blocks.
    pub fn absorb(&mut self, blocks: &[Block]) {
        let mut words = self.words();
        compress256(&mut words, blocks);
        *self = Self::from_words(words);
    }

    fn words(self) -> [u32; 8] {
        let (words, _) = self.0.as_chunks::<4>();
        std::array::from_fn(|i| u32::from_be_bytes(words[i]))
    }

    fn from_words(words: [u32; 8]) -> Self {
        let mut state = [0; 32];
        for (bytes, word) in state.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_be_bytes();
        }
        Self(state)
    }

    /// The hash of a file of `size` bytes that ends with `tail`, all bytes behind this state.
    /// A `tail` and a `size` that do not belong together give the hash of no file.
    #[must_use]
    pub fn finish(self, tail: &[u8], size: u64) -> FileHash {
        FileHash(self.pad(tail, size))
    }

    /// FIPS 180-4, 5.1.1: a one bit, zeros, and the length in bits in the last eight bytes.
    fn pad(mut self, tail: &[u8], size: u64) -> [u8; 32] {
        let (blocks, rest) = tail.as_chunks();
        self.absorb(blocks);
        let mut end = [[0; BLOCK_BYTES]; 2];
        let needed = if rest.len() < BLOCK_BYTES - 8 { 1 } else { 2 };
        end[0][..rest.len()].copy_from_slice(rest);
        end[0][rest.len()] = 0x80;
        end[needed - 1][BLOCK_BYTES - 8..].copy_from_slice(&size.wrapping_mul(8).to_be_bytes());
        self.absorb(&end[..needed]);
        self.0
    }
}

/// Takes the same blocks into two states. All the time of hashing is spent here.
fn absorb_both(first: &mut State, second: &mut State, blocks: &[Block]) {
    let (mut a, mut b) = (first.words(), second.words());
    // Block by block and not in longer runs: neither digest waits for the other, so the processor
    // works on both at once. Takes 1.5 times as long as one digest; runs of 4 KiB take 2.0.
    for block in blocks {
        compress256(&mut a, slice::from_ref(block));
        compress256(&mut b, slice::from_ref(block));
    }
    (*first, *second) = (State::from_words(a), State::from_words(b));
}

/// One pass over a chunk that computes its own SHA-256 and continues that of its file.
#[derive(Debug, Clone)]
pub struct ChunkDigest {
    previous: State,
    file: State,
    chunk: State,
    length: u64,
    /// The bytes since the last block boundary: the first `length % 64`.
    pending: Block,
}

impl ChunkDigest {
    /// Begins a chunk that the file reaches in the state `previous`.
    pub fn new(previous: State) -> Self {
        Self { previous, file: previous, chunk: State::INITIAL, length: 0, pending: [0; BLOCK_BYTES] }
    }

    /// Takes in the next bytes of the chunk, in pieces of any size.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = tail_bytes(self.length);
        self.length += bytes.len() as u64;
        if filled > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - filled));
            self.pending[filled..filled + head.len()].copy_from_slice(head);
            if filled + head.len() < BLOCK_BYTES {
                return;
            }
            absorb_both(&mut self.file, &mut self.chunk, &[self.pending]);
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks();
        absorb_both(&mut self.file, &mut self.chunk, blocks);
        self.pending[..rest.len()].copy_from_slice(rest);
    }

    /// Ends the chunk.
    #[must_use]
    pub fn finish(mut self) -> Digested {
        let (tail, stale) = self.pending.split_at_mut(tail_bytes(self.length));
        // Else the same bytes in other pieces would be another `Digested`.
        stale.fill(0);
        let hash = ChunkHash(self.chunk.pad(tail, self.length));
        let entry = Entry { hash, state: self.file };
        Digested { previous: self.previous, entry, length: self.length, pending: self.pending }
    }
}

fn tail_bytes(length: u64) -> usize {
    usize::try_from(length % BLOCK_BYTES as u64).expect("less than a block")
}

/// What the bytes of a chunk were found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    previous: State,
    entry: Entry,
    length: u64,
    pending: Block,
}

impl Digested {
    /// Digests a chunk that is in memory as a whole.
    #[must_use]
    pub fn of(previous: State, chunk: &[u8]) -> Self {
        let mut digest = ChunkDigest::new(previous);
        digest.update(chunk);
        digest.finish()
    }

    /// The state from which the chunk was digested.
    pub fn previous(&self) -> State {
        self.previous
    }

    /// The chunk's SHA-256, and the file's state after its last whole block.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Bytes in the chunk.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes behind the last whole block, at most 63. Only the last chunk of a file has any.
    pub fn tail(&self) -> &[u8] {
        &self.pending[..tail_bytes(self.length)]
    }

    /// The hash of a file of `size` bytes whose last chunk this is.
    #[must_use]
    pub fn file_hash(&self, size: u64) -> FileHash {
        self.entry.state.finish(self.tail(), size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CHUNK_SIZE, Geometry};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn bytes(len: usize) -> Vec<u8> {
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_be_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }

    /// Digests a file chunk after chunk, each in pieces of the given sizes, and compares everything.
    fn agrees_with_sha2(file: &[u8], pieces: &[usize]) {
        let size = file.len() as u64;
        let geometry = Geometry::new(size).unwrap();
        let mut state = State::INITIAL;
        let mut hash = state.finish(&[], 0);
        let mut sizes = pieces.iter().cycle();
        for index in geometry.indices() {
            let start = usize::try_from(index.offset()).unwrap();
            let chunk = &file[start..start + geometry.len_of(index) as usize];
            let mut digest = ChunkDigest::new(state);
            let mut rest = chunk;
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                digest.update(piece);
                rest = behind;
            }
            let found = digest.finish();
            assert_eq!(found, Digested::of(state, chunk));
            assert_eq!(found.entry().hash, ChunkHash(Sha256::digest(chunk).into()));
            assert_eq!(found.length(), chunk.len() as u64);
            assert_eq!(found.previous(), state);
            state = found.entry().state;
            hash = found.file_hash(size);
        }
        assert_eq!(hash, FileHash(Sha256::digest(file).into()), "{size} bytes");
    }

    #[test]
    fn sizes_around_every_boundary_agree_with_sha2() {
        let chunk = CHUNK_SIZE as usize;
        for at in [0, 64, 128, 4096, chunk, 2 * chunk, chunk + 64] {
            for size in at.saturating_sub(10)..=at + 1 {
                agrees_with_sha2(&bytes(size), &[4096, 1, 63, 64, 65, 70_000]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_file_in_any_pieces_agrees_with_sha2(
            size in prop_oneof![0_usize..300, 0_usize..800_000],
            pieces in prop::collection::vec(prop_oneof![1_usize..200, 1_usize..300_000], 1..8),
        ) {
            agrees_with_sha2(&bytes(size), &pieces);
        }

        #[test]
        fn a_tail_may_have_any_length(file in prop::collection::vec(any::<u8>(), 0..700), cut in 0_usize..11) {
            let (head, tail) = file.split_at((cut * BLOCK_BYTES).min(file.len() / BLOCK_BYTES * BLOCK_BYTES));
            let mut state = State::INITIAL;
            state.absorb(head.as_chunks().0);
            prop_assert_eq!(state.finish(tail, file.len() as u64), FileHash(Sha256::digest(&file).into()));
        }
    }
}
