//! `shares.toml`: what was shared at the prompt, and is shared again when the program starts.
//!
//! Invariant: every path is absolute and there once. So is every content that was added: of two places with the same
//! one, the later says who may have it. A path that is not text is kept as its bytes in
//! hexadecimal, so that it is found again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Home, HomeError, Malformed};
use crate::engine::Shared;
use crate::wire::{FileHash, Root};

const SHARES: &str = "shares.toml";

const HEADING: &str = "What p2p shares. Written by the program when something is shared, and when that ends.";

/// Entries; each is a command that a person gave.
const MAX_SHARES: usize = 10_000;

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SharesFile {
    #[serde(default)]
    share: Vec<ShareEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Its bytes, where it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    file_hash: FileHash,
    root: Root,
    size: u64,
    is_directory: bool,
    /// Never left out: it would be shared with everybody.
    known_only: bool,
}

impl Home {
    /// What is shared, in the order in which it was.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn shares(&self) -> Result<Vec<Shared>, HomeError> {
        Ok(self.read_toml(SHARES, shares_of)?.unwrap_or_default())
    }

    /// Notes that something is shared, instead of what was at the same path, and instead of the same at other paths.
    ///
    /// # Errors
    /// Where there are too many, the path is not absolute, or the file is damaged or cannot be written.
    pub fn add_share(&self, shared: &Shared) -> Result<(), HomeError> {
        let refused = |why| HomeError::NotNoted { path: self.path.join(SHARES), why };
        if !shared.path.is_absolute() {
            return Err(refused(format!("`{}` is not an absolute path", shared.path.display())));
        }
        let _lock = self.lock()?;
        let before = self.shares()?;
        let mut shares = before.clone();
        shares.retain(|other| other.path == shared.path || other.file_hash != shared.file_hash);
        match shares.iter().position(|other| other.path == shared.path) {
            Some(at) => shares[at] = shared.clone(),
            None if shares.len() < MAX_SHARES => shares.push(shared.clone()),
            None => {
                return Err(refused(format!("{MAX_SHARES} files and directories are shared already")));
            }
        }
        self.write_shares(&before, &shares)
    }

    /// Notes that this content is not shared any more, wherever it lies; whether it was.
    ///
    /// # Errors
    /// Where the file is damaged or cannot be written.
    pub fn remove_share(&self, file_hash: &FileHash) -> Result<bool, HomeError> {
        let _lock = self.lock()?;
        let before = self.shares()?;
        let mut shares = before.clone();
        shares.retain(|shared| shared.file_hash != *file_hash);
        self.write_shares(&before, &shares)?;
        Ok(shares.len() < before.len())
    }

    fn write_shares(&self, before: &[Shared], shares: &[Shared]) -> Result<(), HomeError> {
        if shares == before {
            return Ok(());
        }
        self.write_toml(SHARES, HEADING, &file_of(shares))
    }
}

fn shares_of(file: SharesFile) -> Result<Vec<Shared>, Malformed> {
    let mut paths = BTreeSet::new();
    let mut shares = Vec::new();
    for entry in file.share {
        let path = match (entry.path, entry.path_hex) {
            (Some(text), None) => PathBuf::from(text),
            (None, Some(bytes)) => PathBuf::from(OsString::from_vec(hex::decode(bytes)?)),
            _ => return Err(format!("{} needs one of `path` and `path_hex`", entry.file_hash).into()),
        };
        if !path.is_absolute() {
            return Err(format!("`{}` is not an absolute path", path.display()).into());
        }
        if !paths.insert(path.clone()) {
            return Err(format!("`{}` is there twice", path.display()).into());
        }
        shares.push(Shared {
            path,
            file_hash: entry.file_hash,
            root: entry.root,
            size: entry.size,
            is_directory: entry.is_directory,
            known_only: entry.known_only,
        });
    }
    Ok(shares)
}

fn file_of(shares: &[Shared]) -> SharesFile {
    let entry = |shared: &Shared| {
        let path = shared.path.to_str().map(str::to_owned);
        let path_hex = path.is_none().then(|| hex::encode(shared.path.as_os_str().as_bytes()));
        ShareEntry {
            path,
            path_hex,
            file_hash: shared.file_hash,
            root: shared.root,
            size: shared.size,
            is_directory: shared.is_directory,
            known_only: shared.known_only,
        }
    };
    SharesFile { share: shares.iter().map(entry).collect() }
}
