//! The manifest of a file: for each chunk what its bytes are and where they take the file's SHA-256.
//!
//! Entries come in pages, pages have digests, and the digests with size and file hash have a
//! [`Root`]. Whoever knows the root checks the head on arrival, and with it each page on arrival.
//!
//! Invariant: a [`ManifestHead`] has the root it tells, and a [`Page`] the digest its head gives it.
//! That a list belongs to the file hash is another question, which only the chunks answer (`proof`).
//! `docs/PROTOCOL.md`, "Manifests", has the bytes.

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::chunks::{CHUNK_SIZE, ChunkIndex, Geometry};
use super::hash::{ChunkHash, FileHash, PageDigest, Root, State};

/// Entries in every page but the last, which may have fewer: 64 KiB.
pub const ENTRIES_PER_PAGE: u32 = 1024;

/// Largest file that has a manifest, in bytes (8 TiB): its list of page digests fills the largest
/// body that a message may have, 1 MiB, so a head never has to be put together from parts.
pub const MAX_MANIFEST_SIZE: u64 = 1 << 43;

const ROOT_DOMAIN: &[u8; 16] = b"p2p-manifest-v1\0";
const PAGE_DOMAIN: &[u8; 16] = b"p2p-page-v1\0\0\0\0\0";

/// Why something is not a manifest or no part of this one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadManifest {
    /// Over [`MAX_MANIFEST_SIZE`].
    #[error("a file of {0} bytes is larger than any that can be listed (8 TiB)")]
    TooLarge(u64),
    /// A list of page digests of the wrong length, in bytes.
    #[error("the list of page digests has {got} bytes and not {expected}")]
    HeadLength {
        /// What the size of the file asks for.
        expected: usize,
        /// What there is.
        got: usize,
    },
    /// The head is not the one that the root names.
    #[error("the manifest is not the one that its root names")]
    WrongRoot,
    /// An empty file whose hash is not that of nothing; no chunk would ever show it.
    #[error("the file is said to be empty, but its hash is not that of an empty file")]
    NotEmpty,
    /// A page that the manifest does not have.
    #[error("the manifest has {pages} pages and no page {number}")]
    NoSuchPage {
        /// The number that was given, counted from 0.
        number: u64,
        /// How many there are.
        pages: u32,
    },
    /// A page of the wrong length, in bytes.
    #[error("page {number} of the manifest has {got} bytes and not {expected}")]
    PageLength {
        /// The page, counted from 0.
        number: u32,
        /// What the size of the file asks for.
        expected: usize,
        /// What there is.
        got: usize,
    },
    /// A page that is not the one its head names.
    #[error("page {0} of the manifest is not the one that its root names")]
    WrongPage(u32),
    /// More or fewer entries than the file has chunks.
    #[error("the manifest was given {got} entries and not {expected}")]
    EntryCount {
        /// How many chunks the file has.
        expected: u32,
        /// How many entries were given, or one too many.
        got: u32,
    },
}

/// What a manifest says of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The SHA-256 of the chunk's bytes.
    pub hash: ChunkHash,
    /// The file's chaining state after the last whole block that ends in this chunk or before it.
    /// For every chunk but the last that is the chunk's end. A last chunk of less than a block
    /// leaves the state as it was.
    pub state: State,
}

impl Entry {
    /// Bytes of an entry on the wire.
    pub const BYTES: usize = 64;

    /// The form on the wire: the hash, then the state.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..32].copy_from_slice(&self.hash.0);
        bytes[32..].copy_from_slice(&self.state.0);
        bytes
    }

    /// Reads the form on the wire. Any 64 bytes are a claim; none is believed for being read.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (halves, _) = bytes.as_chunks::<32>();
        Self { hash: ChunkHash(halves[0]), state: State(halves[1]) }
    }
}

/// The entries of up to [`ENTRIES_PER_PAGE`] consecutive chunks, as the root has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    number: u32,
    entries: Vec<Entry>,
}

impl Page {
    /// Which page, counted from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its entries, in the order of their chunks.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a chunk; `None` if another page has it.
    pub fn entry(&self, index: ChunkIndex) -> Option<Entry> {
        (index.get() / ENTRIES_PER_PAGE == self.number)
            .then(|| self.entries.get((index.get() % ENTRIES_PER_PAGE) as usize).copied())
            .flatten()
    }

    /// The state in which the file reaches a chunk of this page; `None` if that is the last state of
    /// the page before, or if another page has the chunk.
    pub fn state_before(&self, index: ChunkIndex) -> Option<State> {
        self.entry(index)?;
        if index.get() == 0 {
            return Some(State::INITIAL);
        }
        let before = (index.get() % ENTRIES_PER_PAGE).checked_sub(1)?;
        self.entries.get(before as usize).map(|entry| entry.state)
    }

    /// The form on the wire and on disk: its entries, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }

    fn digest(number: u32, bytes: &[u8]) -> PageDigest {
        let digest = Sha256::new().chain_update(PAGE_DOMAIN).chain_update(u64::from(number).to_be_bytes());
        PageDigest(digest.chain_update(bytes).finalize().into())
    }
}

/// The part of a manifest that everything else in it is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    geometry: Geometry,
    file_hash: FileHash,
    root: Root,
    pages: Vec<PageDigest>,
}

impl ManifestHead {
    /// Checks a head that came from outside: `digests` holds its page digests one after the other.
    ///
    /// # Errors
    /// A file too large to be listed, a list of the wrong length, an empty file with the hash of
    /// another, or a head that is not the one `root` names.
    pub fn from_bytes(
        root: Root,
        size: u64,
        file_hash: FileHash,
        digests: &[u8],
    ) -> Result<Self, BadManifest> {
        let geometry = geometry(size)?;
        let expected = page_count(geometry) as usize * 32;
        if digests.len() != expected {
            return Err(BadManifest::HeadLength { expected, got: digests.len() });
        }
        let pages = digests.as_chunks::<32>().0.iter().copied().map(PageDigest).collect();
        let head = Self::build(geometry, file_hash, pages)?;
        if head.root == root { Ok(head) } else { Err(BadManifest::WrongRoot) }
    }

    fn build(geometry: Geometry, file_hash: FileHash, pages: Vec<PageDigest>) -> Result<Self, BadManifest> {
        if geometry.size() == 0 && file_hash != State::INITIAL.finish(&[], 0) {
            return Err(BadManifest::NotEmpty);
        }
        let mut digest = Sha256::new().chain_update(ROOT_DOMAIN).chain_update(geometry.size().to_be_bytes());
        digest.update(file_hash.0);
        for page in &pages {
            digest.update(page.0);
        }
        Ok(Self { geometry, file_hash, root: Root(digest.finalize().into()), pages })
    }

    /// The page digests one after the other, as [`Self::from_bytes`] takes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.pages.iter().flat_map(|page| page.0).collect()
    }

    /// How the file is cut, and its size.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The SHA-256 of the whole file: a claim until every chunk is proven.
    pub fn file_hash(&self) -> FileHash {
        self.file_hash
    }

    /// What names this manifest.
    pub fn root(&self) -> Root {
        self.root
    }

    /// How many pages there are; none for an empty file.
    pub fn pages(&self) -> u32 {
        page_count(self.geometry)
    }

    /// The digests of the pages. Two manifests of one file differ in the pages whose digests differ.
    pub fn page_digests(&self) -> &[PageDigest] {
        &self.pages
    }

    /// The page that has the entry of a chunk.
    pub fn page_of(index: ChunkIndex) -> u32 {
        index.get() / ENTRIES_PER_PAGE
    }

    /// Checks a page that came from outside, or from a disk.
    ///
    /// # Errors
    /// A page that does not exist, has the wrong length, or is not the one that the root names.
    pub fn check_page(&self, number: u64, bytes: &[u8]) -> Result<Page, BadManifest> {
        let missing = || BadManifest::NoSuchPage { number, pages: self.pages() };
        let number = u32::try_from(number).map_err(|_| missing())?;
        let digest = *self.pages.get(number as usize).ok_or_else(missing)?;
        let entries = (self.geometry.chunks() - number * ENTRIES_PER_PAGE).min(ENTRIES_PER_PAGE);
        let expected = entries as usize * Entry::BYTES;
        if bytes.len() != expected {
            return Err(BadManifest::PageLength { number, expected, got: bytes.len() });
        }
        if Page::digest(number, bytes) != digest {
            return Err(BadManifest::WrongPage(number));
        }
        Ok(Page { number, entries: bytes.as_chunks().0.iter().map(Entry::from_bytes).collect() })
    }
}

fn geometry(size: u64) -> Result<Geometry, BadManifest> {
    if size > MAX_MANIFEST_SIZE {
        return Err(BadManifest::TooLarge(size));
    }
    Geometry::new(size).ok_or(BadManifest::TooLarge(size))
}

fn page_count(geometry: Geometry) -> u32 {
    geometry.chunks().div_ceil(ENTRIES_PER_PAGE)
}

/// Makes a manifest from the entries of a file, in order. Holds one page and 32 bytes for each
/// finished one.
#[derive(Debug, Clone)]
pub struct ManifestBuilder {
    geometry: Geometry,
    pages: Vec<PageDigest>,
    entries: Vec<Entry>,
    state: State,
}

impl ManifestBuilder {
    /// Begins the manifest of a file of `size` bytes.
    ///
    /// # Errors
    /// A file too large to be listed.
    pub fn new(size: u64) -> Result<Self, BadManifest> {
        let geometry = geometry(size)?;
        Ok(Self { geometry, pages: Vec::new(), entries: Vec::new(), state: State::INITIAL })
    }

    /// The state in which the file reaches the next chunk.
    pub fn state(&self) -> State {
        self.state
    }

    /// How many entries it was given.
    pub fn given(&self) -> u32 {
        let pages = u32::try_from(self.pages.len()).expect("a page has 1,024 chunks, numbered with 32 bits");
        let rest = u32::try_from(self.entries.len()).expect("less than a page");
        (pages * ENTRIES_PER_PAGE + rest).min(self.geometry.chunks())
    }

    /// Takes the entry of the next chunk, and gives back the page that it completes.
    ///
    /// # Errors
    /// More entries than the file has chunks.
    pub fn push(&mut self, entry: Entry) -> Result<Option<Page>, BadManifest> {
        let (expected, given) = (self.geometry.chunks(), self.given());
        if given == expected {
            return Err(BadManifest::EntryCount { expected, got: given + 1 });
        }
        self.state = entry.state;
        self.entries.push(entry);
        if self.entries.len() < ENTRIES_PER_PAGE as usize && given + 1 < expected {
            return Ok(None);
        }
        let page = Page { number: given / ENTRIES_PER_PAGE, entries: std::mem::take(&mut self.entries) };
        self.pages.push(Page::digest(page.number, &page.to_bytes()));
        Ok(Some(page))
    }

    /// Ends the manifest with the hash of the file, whose last page was given back before.
    ///
    /// # Errors
    /// Fewer entries than the file has chunks; an empty file with the hash of another.
    pub fn finish(self, file_hash: FileHash) -> Result<ManifestHead, BadManifest> {
        let (expected, got) = (self.geometry.chunks(), self.given());
        if got < expected {
            return Err(BadManifest::EntryCount { expected, got });
        }
        ManifestHead::build(self.geometry, file_hash, self.pages)
    }
}

const _: () = assert!(MAX_MANIFEST_SIZE / CHUNK_SIZE as u64 / ENTRIES_PER_PAGE as u64 * 32 == 1 << 20);

#[cfg(test)]
mod tests;
