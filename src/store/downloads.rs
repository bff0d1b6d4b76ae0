//! The downloads directory, and the directory of partial files in it.
//!
//! The user chose the downloads directory, so it may be a symlink. Everything below it is reached
//! relative to open directories and never through a symlink: what stands in a downloads directory
//! came from strangers or may be shared with others.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfs};
use rustix::io::{Errno, retry_on_intr};

use super::failure::cannot;
use crate::engine::{Code, Failure};

/// Where partial files live, in the downloads directory. It is there only while it is needed.
pub(super) const PARTIALS: &str = ".p2p-partial";

/// An open downloads directory.
pub(super) struct Downloads {
    pub(super) path: PathBuf,
    pub(super) dir: OwnedFd,
}

impl Downloads {
    /// Opens it, and makes it first where it is missing; `None` where it vanished in between.
    pub(super) fn create(path: &Path) -> Result<Option<Self>, Failure> {
        fs::create_dir_all(path).map_err(|error| {
            obstacle(path).unwrap_or_else(|| cannot(format_args!("create `{}`", path.display()), error))
        })?;
        match Self::open(path) {
            Ok(downloads) => Ok(Some(downloads)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(obstacle(path)
                .unwrap_or_else(|| cannot(format_args!("open the directory `{}`", path.display()), errno))),
        }
    }

    /// Opens it where it is there.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let dir = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self { path: path.to_owned(), dir })
    }

    /// Opens the directory of partial files, and makes it first where it is missing; `None` where
    /// it, or the downloads directory, vanished in between.
    pub(super) fn create_partials(&self) -> Result<Option<OwnedFd>, Failure> {
        match rustix::fs::mkdirat(&self.dir, PARTIALS, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => {
                return Err(cannot(format_args!("write in the directory `{}`", self.path.display()), errno));
            }
        }
        match self.open_partials() {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let path = self.path.join(PARTIALS);
                let message = format!(
                    "`{}` is in the way: partial files go there, and it is not a directory; move it away",
                    path.display()
                );
                Err(Failure::new(Code::DiskError, message))
            }
            Err(errno) => Err(cannot(
                format_args!("open the directory `{}`", self.path.join(PARTIALS).display()),
                errno,
            )),
        }
    }

    /// Opens the directory of partial files where it is there and really is a directory.
    pub(super) fn open_partials(&self) -> Result<OwnedFd, Errno> {
        let flags =
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        retry_on_intr(|| rustix::fs::openat(&self.dir, PARTIALS, flags, Mode::empty()))
    }

    /// Removes the directory of partial files if nothing is in it. One who is about to make a
    /// partial file in it finds that it vanished, and makes it anew.
    pub(super) fn tidy(&self) {
        let _ = rustix::fs::unlinkat(&self.dir, PARTIALS, AtFlags::REMOVEDIR);
    }

    /// Makes the names in it survive a crash.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_dir(self.dir.as_fd())
    }
}

/// Makes the names in a directory survive a crash.
pub(super) fn sync_dir(dir: BorrowedFd<'_>) -> io::Result<()> {
    match File::from(dir.try_clone_to_owned()?).sync_all() {
        // Some file systems cannot sync a directory, or need not.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput || is_unsupported(&error) => Ok(()),
        result => result,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    [Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Bytes that may still be stored on the file system of `path`, or of the nearest directory above
/// it that is there.
pub(super) fn free_space(path: &Path) -> Result<u64, Failure> {
    if let Some(failure) = obstacle(path) {
        return Err(failure);
    }
    let mut ancestors = path.ancestors();
    loop {
        // The last ancestor of a relative path is empty.
        let ancestor = ancestors.next().filter(|ancestor| !ancestor.as_os_str().is_empty());
        match retry_on_intr(|| rustix::fs::statvfs(ancestor.unwrap_or(Path::new(".")))) {
            Ok(stat) => return Ok(available(&stat)),
            Err(Errno::NOENT) if ancestor.is_some() => {}
            Err(errno) => {
                return Err(cannot(format_args!("tell the free space for `{}`", path.display()), errno));
            }
        }
    }
}

fn available(stat: &StatVfs) -> u64 {
    // Some network and FUSE file systems say that they have no blocks at all: they do not know.
    if stat.f_blocks == 0 { u64::MAX } else { stat.f_bavail.saturating_mul(stat.f_frsize) }
}

/// What stands where the directory `path`, or one above it, should be.
fn obstacle(path: &Path) -> Option<Failure> {
    let is_in_the_way = |ancestor: &&Path| ancestor.symlink_metadata().is_ok() && !ancestor.is_dir();
    let ancestor = path.ancestors().find(is_in_the_way)?;
    let what = match ancestor.metadata() {
        Ok(_) => "is not a directory",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is a symlink to nothing",
        Err(_) => "is a symlink that cannot be followed",
    };
    let message =
        format!("`{}` {what}; move it away or choose another --downloads directory", ancestor.display());
    Some(Failure::new(Code::DiskError, message))
}

/// Opens a regular file for reading, not through a symlink, and without waiting for anybody.
pub(super) fn open_regular(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(&dir, name, flags, Mode::empty()))?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind == FileType::RegularFile { Ok(file) } else { Err(Errno::INVAL) }
}

/// Whether `name` in `dir` names this open file, and not through a symlink.
pub(super) fn names(dir: impl AsFd, name: &str, file: impl AsFd) -> bool {
    let named = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    match (named, rustix::fs::fstat(file)) {
        (Ok(named), Ok(open)) => (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino),
        _ => false,
    }
}
