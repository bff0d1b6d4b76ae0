//! What is kept about something that is shared.

use std::path::PathBuf;

use crate::wire::{FileHash, Root};

/// Something that is shared: where it is, and what its content was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// What its content is.
    pub file_hash: FileHash,
    /// What the content's list is checked against.
    pub root: Root,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether only trusted peers get it.
    pub known_only: bool,
}
