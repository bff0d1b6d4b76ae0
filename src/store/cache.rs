//! The hashes of files that were sent before, so that nothing is hashed twice that has not changed.
//!
//! One file for each source, under the user's home, of which everything can be deleted at any time.
//! Invariant: what is found here is what was put in for a file of that path, size, times, inode and
//! device, whole: its entries give the root that the header names. A file that changed within the
//! resolution of its times before it was hashed is not put in.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::Directory;
use super::entries::EntryList;
use crate::engine::Stamp;
use crate::wire::{ENTRIES_PER_PAGE, Entry, FileHash, Geometry, ManifestHead, Root};

/// How much it holds, and of what.
#[derive(Debug, Clone, Copy)]
struct Limits {
    files: usize,
    bytes: u64,
    /// How long a file must have been left alone before it was opened.
    settled_after: Duration,
}

/// The lists of 256 GiB. Some file systems tell times in steps of two seconds.
const LIMITS: Limits = Limits { files: 4096, bytes: 64 << 20, settled_after: Duration::from_secs(2) };

/// Bytes in a header; a path has at most 4,096.
const MAX_HEADER: u64 = 32 << 10;

/// The directory of the cache.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    dir: PathBuf,
    limits: Limits,
}

/// What tells a file from others, and from itself at another time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// In hexadecimal, since it need not be text.
    path: String,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
    /// Of a directory: what all of its files were like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    file: Identity,
    file_hash: FileHash,
    root: Root,
}

impl Identity {
    /// What a file is known by.
    pub(super) fn of(path: &Path, metadata: &Metadata) -> Self {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self {
            path: hex::encode(path.as_os_str().as_bytes()),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
            content: None,
        }
    }

    /// What a directory is known by that has this metadata itself.
    pub(super) fn of_directory(path: &Path, metadata: &Metadata, directory: &Directory) -> Self {
        let (content, latest) = directory.fingerprint();
        let own = Self::of(path, metadata);
        Self {
            size: directory.tree().size(),
            modified: own.modified.max(latest),
            changed: own.changed.max(latest),
            content: Some(hex::encode(content)),
            ..own
        }
    }

    /// Whether nobody can have written to it after `opened` without its times telling.
    fn is_settled(&self, opened: SystemTime, after: Duration) -> bool {
        let since_epoch = opened.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let before = since_epoch.saturating_sub(after);
        let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
        self.modified.max(self.changed) < (seconds, before.subsec_nanos().into())
    }

    /// How long until [`Self::is_settled`] holds, where waiting helps: a time in the future may be anything.
    fn settles_in(&self, opened: SystemTime, after: Duration) -> Option<Duration> {
        let (seconds, nanos) = self.modified.max(self.changed);
        let last = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        let opened = opened.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // A moment more, since it is to be past that time.
        let left = (last + after + Duration::from_millis(1)).checked_sub(opened)?;
        (!left.is_zero() && left <= 2 * after).then_some(left)
    }

    /// The same in short.
    pub(super) fn stamp(&self) -> Stamp {
        let text = serde_json::to_vec(self).expect("numbers and texts");
        let digest: [u8; 32] = Sha256::digest(text).into();
        Stamp(*digest.first_chunk().expect("it is longer"))
    }

    fn file_name(&self) -> String {
        let digest = Sha256::new()
            .chain_update(self.path.as_bytes())
            .chain_update(self.inode.to_be_bytes())
            .chain_update(self.device.to_be_bytes())
            .finalize();
        hex::encode(&digest[..16])
    }
}

impl Cache {
    /// The cache of a home, made when something is put in.
    pub(super) fn new(home: &Path) -> Self {
        Self { dir: home.join("hashes"), limits: LIMITS }
    }

    /// How long until the hashes of a file can be kept that was opened at that time; `None` where they can be
    /// now, or waiting does not help.
    pub(super) fn settles_in(&self, file: &Identity, opened: SystemTime) -> Option<Duration> {
        file.settles_in(opened, self.limits.settled_after)
    }

    /// The hashes of a file, if they are known.
    pub(super) fn get(&self, file: &Identity) -> Option<(ManifestHead, EntryList)> {
        let path = self.dir.join(file.file_name());
        let opened = match File::open(&path) {
            Ok(opened) => opened,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!("cannot open `{}`: {error}", path.display());
                }
                return None;
            }
        };
        match read(&opened, file) {
            Ok(Some(found)) => {
                // What is used is thrown away last.
                let _ = opened.set_modified(SystemTime::now());
                Some(found)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::debug!("`{}` is of no use: {error}", path.display());
                // Not where only this process has no room or no file descriptors left, and not what
                // another has put in its place meanwhile.
                let is_damaged =
                    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
                if is_damaged && is_at(&opened, &path) {
                    let _ = fs::remove_file(&path);
                }
                None
            }
        }
    }

    /// Keeps the hashes of a file that was opened, and looked at, no sooner than `opened`. Where that
    /// cannot be done, it is hashed again next time.
    pub(super) fn put(&self, file: &Identity, opened: SystemTime, head: &ManifestHead, entries: &EntryList) {
        if !file.is_settled(opened, self.limits.settled_after) {
            return;
        }
        if let Err(error) = self.try_put(file, head, entries) {
            tracing::debug!("cannot keep hashes in `{}`: {error}", self.dir.display());
        }
    }

    fn try_put(&self, file: &Identity, head: &ManifestHead, entries: &EntryList) -> io::Result<()> {
        if u64::from(entries.len()) * Entry::BYTES as u64 > self.limits.bytes / 2 {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let header =
            Header { version: 1, file: file.clone(), file_hash: head.file_hash(), root: head.root() };
        let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.dir)?;
        serde_json::to_writer(new.as_file_mut(), &header)?;
        new.write_all(b"\n")?;
        for page in 0..head.pages() {
            new.write_all(&entries.page(page)?)?;
        }
        new.persist(self.dir.join(file.file_name())).map_err(|error| error.error)?;
        self.make_room()
    }

    /// Removes what was not used for longest.
    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let file = file?;
            // Another process may have removed it, and a directory is none of ours.
            if let Ok(metadata) = file.metadata()
                && metadata.is_file()
            {
                files.push((metadata.modified()?, metadata.len(), file.path()));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
        let mut count = files.len();
        for (_, size, path) in files {
            if count <= self.limits.files && bytes <= self.limits.bytes {
                break;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            count -= 1;
            bytes -= size;
        }
        Ok(())
    }
}

/// Whether an open file still has this path.
fn is_at(opened: &File, path: &Path) -> bool {
    match (opened.metadata(), path.symlink_metadata()) {
        (Ok(opened), Ok(named)) => (opened.dev(), opened.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Reads a file of the cache; `None` where it is of another file, or of this one at another time.
fn read(opened: &File, wanted: &Identity) -> io::Result<Option<(ManifestHead, EntryList)>> {
    let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut line = Vec::new();
    BufReader::new(opened.take(MAX_HEADER)).read_until(b'\n', &mut line)?;
    let header: Header = serde_json::from_slice(&line)?;
    if header.version != 1 || header.file != *wanted {
        return Ok(None);
    }
    let geometry = Geometry::new(wanted.size).ok_or_else(|| damaged("no file has that size"))?;
    let mut entries = EntryList::new();
    let mut offset = line.len() as u64;
    while entries.len() < geometry.chunks() {
        let count = (geometry.chunks() - entries.len()).min(ENTRIES_PER_PAGE);
        let mut page = vec![0; count as usize * Entry::BYTES];
        opened.read_exact_at(&mut page, offset)?;
        offset += page.len() as u64;
        let page: Vec<_> = page.as_chunks().0.iter().map(Entry::from_bytes).collect();
        entries.extend(&page)?;
    }
    match entries.head(wanted.size, header.file_hash)? {
        Some(head) if head.root() == header.root => Ok(Some((head, entries))),
        _ => Err(damaged("its entries are not those of its root")),
    }
}

#[cfg(test)]
mod tests;
