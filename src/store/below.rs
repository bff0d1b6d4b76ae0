//! Things below a directory, reached by their path from it and never through a link.
//!
//! Every step of a path is opened relative to the directory before it, and only if that really is one:
//! whoever swaps a directory for a link meanwhile gets an error and nothing else.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode};
use rustix::io::{Errno, retry_on_intr};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// How deep a directory may be that is removed: deeper than any that is made.
const MAX_DEPTH: usize = 160;

/// A directory, and the one below it that was used last: what is done in order is done quickly.
pub(super) struct Below {
    root: OwnedFd,
    current: Option<(String, OwnedFd)>,
}

impl Below {
    /// Below this directory, which may be a link: whoever names it here chose it.
    pub(super) fn chosen(path: &Path) -> Result<Self, Errno> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        Ok(Self::new(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?))
    }

    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, current: None }
    }

    /// The directory itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory of that path; the empty one is the uppermost.
    pub(super) fn dir(&mut self, path: &str) -> Result<BorrowedFd<'_>, Errno> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.current.as_ref().is_none_or(|(current, _)| current != path) {
            let opened = self.open(path)?;
            self.current = Some((path.to_owned(), opened));
        }
        Ok(self.current.as_ref().map_or(self.root.as_fd(), |(_, dir)| dir.as_fd()))
    }

    fn open(&self, path: &str) -> Result<OwnedFd, Errno> {
        // Most often it stands in the one that was used last.
        let (mut at, rest) = match &self.current {
            Some((current, dir))
                if path.strip_prefix(current.as_str()).is_some_and(|r| r.starts_with('/')) =>
            {
                (dir.try_clone().map_err(|_| Errno::MFILE)?, &path[current.len() + 1..])
            }
            _ => (self.root.try_clone().map_err(|_| Errno::MFILE)?, path),
        };
        for name in rest.split('/') {
            at = open_dir(&at, name)?;
        }
        Ok(at)
    }

    /// Opens the file of that path; to be written to only if it is ours and has no other name.
    pub(super) fn file(&mut self, path: &str, flags: OFlags, mode: RawMode) -> Result<File, Errno> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.dir(parent)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode)))?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        // What has another name is written to there as well.
        let is_written = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        let is_own = stat.st_nlink == 1 && stat.st_uid == rustix::process::geteuid().as_raw();
        if is_written && !is_own { Err(Errno::PERM) } else { Ok(file.into()) }
    }
}

/// Opens a directory in another one, and nothing but a directory.
pub(super) fn open_dir(at: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| rustix::fs::openat(&at, name, DIRECTORY, Mode::empty()))
}

/// The names in a directory, as bytes, without `.` and `..`.
pub(super) fn names_in(dir: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Removes whatever has that name, with all that is in it and without following any link. What was not
/// there is removed.
pub(super) fn remove_all(at: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    remove_below(at.as_fd(), name, MAX_DEPTH)
}

fn remove_below(at: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        // What systems say to that of a directory differs.
        Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    match retry_on_intr(|| rustix::fs::openat(at, name, DIRECTORY, Mode::empty())) {
        Ok(dir) => {
            for inner in names_in(&dir)? {
                remove_below(dir.as_fd(), &inner, depth)?;
            }
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    match rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Bytes on the disk of the files in a directory and below, as far as can be told without reading them.
pub(super) fn bytes_below(dir: impl AsFd) -> u64 {
    fn sum(dir: BorrowedFd<'_>, depth: usize) -> u64 {
        let mut bytes = 0;
        for name in names_in(dir).unwrap_or_default() {
            let Ok(stat) = rustix::fs::statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let on_disk = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
                    bytes += on_disk.min(u64::try_from(stat.st_size).unwrap_or(0));
                }
                FileType::Directory if depth > 0 => {
                    let opened = retry_on_intr(|| rustix::fs::openat(dir, &*name, DIRECTORY, Mode::empty()));
                    bytes += opened.map_or(0, |below| sum(below.as_fd(), depth - 1));
                }
                _ => {}
            }
        }
        bytes
    }
    sum(dir.as_fd(), MAX_DEPTH)
}
