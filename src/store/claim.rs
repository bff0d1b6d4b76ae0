//! Partial files: who may write to which.
//!
//! Invariant: a partial file is written only by the transfer that created it under a name that was
//! free, and that holds an exclusive lock (`flock`) on it. Whoever holds the lock on the file that
//! a name names may remove that name or rename it; nobody else touches it. So two transfers, in
//! one process or in two, never write to the same file, and what a killed process left is removed
//! by the next one that wants its name. Nothing that was there before is ever written to: a
//! symlink or a hard link planted here is no way to another file.
//!
//! What is in the file is left to `partial`, its final name to `place`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::downloads::{Downloads, PARTIALS, names};
use super::failure::cannot;
use crate::engine::{Code, Failure};
use crate::wire::FileHash;

/// How often a directory may vanish while a file is made in it, and how many names are tried.
/// Others make progress whenever we do not, so neither is reached in earnest.
const ATTEMPTS: u32 = 10_000;

/// A partial file of our own, empty at first.
pub(super) struct Claim {
    pub(super) file: File,
    /// Its name in the directory of partial files.
    pub(super) name: String,
}

/// What came of trying one name.
enum Attempt {
    Claimed(File),
    /// It is somebody else's.
    Taken,
    /// It is free now, or changed hands: look again.
    Changed,
    /// The directory of partial files is no longer there.
    DirectoryGone,
}

impl Claim {
    /// Makes a partial file for content with this hash, and the directories it needs.
    pub(super) fn new(downloads: &Path, hash: FileHash) -> Result<(Self, Downloads), Failure> {
        for _ in 0..ATTEMPTS {
            let Some(opened) = Downloads::create(downloads)? else { continue };
            match Self::in_downloads(&opened, hash) {
                Ok(Some(claim)) => return Ok((claim, opened)),
                Ok(None) => {}
                Err(failure) => {
                    opened.tidy();
                    return Err(failure);
                }
            }
        }
        let path = downloads.join(PARTIALS);
        let message = format!(
            "`{}` is not there right after it was made; choose another --downloads directory",
            path.display()
        );
        Err(Failure::new(Code::DiskError, message))
    }

    fn in_downloads(downloads: &Downloads, hash: FileHash) -> Result<Option<Self>, Failure> {
        let Some(partials) = downloads.create_partials()? else { return Ok(None) };
        Self::in_directory(&partials, hash).map_err(|errno| {
            cannot(format_args!("create a file in `{}`", downloads.path.join(PARTIALS).display()), errno)
        })
    }

    fn in_directory(partials: &OwnedFd, hash: FileHash) -> Result<Option<Self>, Errno> {
        let mut name = hash.to_string();
        let mut number = 0;
        for _ in 0..ATTEMPTS {
            match attempt(partials, &name)? {
                Attempt::Claimed(file) => return Ok(Some(Self { file, name })),
                Attempt::Changed => {}
                Attempt::DirectoryGone => return Ok(None),
                Attempt::Taken => {
                    number += 1;
                    name = format!("{hash}.{number}");
                }
            }
        }
        Err(Errno::EXIST)
    }

    /// Removes the file, if its name still is its own.
    pub(super) fn discard(&self, downloads: &Path) {
        if let Err(errno) = self.try_discard(downloads) {
            let path = downloads.join(PARTIALS).join(&self.name);
            tracing::warn!("cannot remove the partial file `{}`: {errno}", path.display());
        }
    }

    fn try_discard(&self, downloads: &Path) -> Result<(), Errno> {
        let downloads = Downloads::open(downloads)?;
        let partials = downloads.open_partials()?;
        if names(&partials, &self.name, &self.file) {
            rustix::fs::unlinkat(&partials, &self.name, AtFlags::empty())?;
        }
        downloads.tidy();
        Ok(())
    }
}

fn attempt(partials: &OwnedFd, name: &str) -> Result<Attempt, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let file = match retry_on_intr(|| rustix::fs::openat(partials, name, flags, mode)) {
        Ok(file) => file,
        Err(Errno::EXIST) => return Ok(remove_leftover(partials, name)),
        Err(Errno::NOENT) => return Ok(Attempt::DirectoryGone),
        Err(errno) => return Err(errno),
    };
    Ok(match lock(&file) {
        // Before it was locked, another may have taken it for a leftover and removed it.
        Lock::Held if !names(partials, name, &file) => Attempt::Changed,
        // Where there are no locks nobody takes anything for a leftover: having created it is enough.
        Lock::Held | Lock::Unsupported => Attempt::Claimed(file.into()),
        Lock::HeldByAnother => Attempt::Taken,
    })
}

/// Removes a file that nobody has locked any more, without reading or writing it.
fn remove_leftover(partials: &OwnedFd, name: &str) -> Attempt {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::openat(partials, name, flags, Mode::empty())) {
        Ok(file) => remove_if_unlocked(partials, name, &file),
        Err(Errno::NOENT) => Attempt::Changed,
        Err(_) => Attempt::Taken,
    }
}

fn remove_if_unlocked(partials: &OwnedFd, name: &str, file: &OwnedFd) -> Attempt {
    let is_regular = rustix::fs::fstat(file)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if !is_regular || lock(file) != Lock::Held {
        return Attempt::Taken;
    }
    // Between opening and locking it, another may have removed it and put its own in its place.
    if !names(partials, name, file) {
        return Attempt::Changed;
    }
    match rustix::fs::unlinkat(partials, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Attempt::Changed,
        Err(_) => Attempt::Taken,
    }
}

#[derive(PartialEq, Eq)]
enum Lock {
    Held,
    HeldByAnother,
    /// The file system has none.
    Unsupported,
}

fn lock(file: impl AsFd) -> Lock {
    match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Lock::Held,
        Err(Errno::WOULDBLOCK) => Lock::HeldByAnother,
        Err(_) => Lock::Unsupported,
    }
}

#[cfg(test)]
mod tests;
