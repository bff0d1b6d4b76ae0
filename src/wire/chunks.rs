//! How a file of a given size is cut into chunks.
//!
//! [`ChunkIndex`] can only be made by a [`Geometry`], so holding one for a file is proof that the
//! chunk exists; nothing behind the edge checks an index again.

/// Bytes in every chunk but the last, which may be shorter.
pub const CHUNK_SIZE: u32 = 256 * 1024;

/// The number of a chunk that exists, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(u32);

impl ChunkIndex {
    /// The number as it travels.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number as an index of a slice with an entry for each chunk.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// Where the chunk begins, in bytes from the start of the file.
    pub fn offset(self) -> u64 {
        u64::from(self.0) * u64::from(CHUNK_SIZE)
    }
}

/// The division of a file into chunks of [`CHUNK_SIZE`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    size: u64,
    chunks: u32,
}

impl Geometry {
    /// Divides `size` bytes; `None` where the chunks cannot be numbered with 32 bits (1 PiB).
    pub fn new(size: u64) -> Option<Self> {
        let chunks = u32::try_from(size.div_ceil(u64::from(CHUNK_SIZE))).ok()?;
        Some(Self { size, chunks })
    }

    /// Bytes in the file.
    pub fn size(self) -> u64 {
        self.size
    }

    /// How many chunks there are; none for an empty file.
    pub fn chunks(self) -> u32 {
        self.chunks
    }

    /// The checked form of an index that came from outside.
    pub fn index(self, raw: u64) -> Option<ChunkIndex> {
        u32::try_from(raw).ok().filter(|&raw| raw < self.chunks).map(ChunkIndex)
    }

    /// All indices in order.
    pub fn indices(self) -> impl Iterator<Item = ChunkIndex> {
        (0..self.chunks).map(ChunkIndex)
    }

    /// Bytes in the chunk: [`CHUNK_SIZE`], or what is left for the last.
    pub fn len_of(self, index: ChunkIndex) -> u32 {
        let rest = self.size - index.offset();
        u32::try_from(rest.min(u64::from(CHUNK_SIZE))).expect("at most CHUNK_SIZE")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_file_has_no_chunk() {
        let empty = Geometry::new(0).unwrap();
        assert_eq!(empty.chunks(), 0);
        assert_eq!(empty.index(0), None);
    }

    #[test]
    fn a_size_past_32_bits_of_chunks_is_refused() {
        assert!(Geometry::new(u64::MAX).is_none());
        assert!(Geometry::new(u64::from(u32::MAX) * u64::from(CHUNK_SIZE)).is_some());
        assert!(Geometry::new(u64::from(u32::MAX) * u64::from(CHUNK_SIZE) + 1).is_none());
    }

    proptest! {
        #[test]
        fn chunks_tile_the_file(size in 0_u64..20_000_000) {
            let geometry = Geometry::new(size).unwrap();
            let mut next = 0;
            for index in geometry.indices() {
                prop_assert_eq!(index.offset(), next);
                prop_assert!(geometry.len_of(index) > 0);
                next += u64::from(geometry.len_of(index));
            }
            prop_assert_eq!(next, size);
            prop_assert_eq!(geometry.index(u64::from(geometry.chunks())), None);
        }
    }
}
