//! What is shared until somebody ends it, over all runs.

use std::path::PathBuf;

use crate::wire::{FileHash, Root};

/// A file or directory that others may have, as it was when it was shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Where it lies; absolute, since the next run may begin elsewhere.
    pub path: PathBuf,
    /// The name of its content.
    pub file_hash: FileHash,
    /// The name of its manifest.
    pub root: Root,
    /// Bytes of its content; of a directory with its list.
    pub size: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether only known peers may have it.
    pub known_only: bool,
}
