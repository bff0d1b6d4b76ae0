//! Where the files of a directory arrive: a directory of their own, which gets its final name when it is
//! whole.
//!
//! It stands beside the partial file that has the list, and belongs to whoever holds the lock on that.
//! Invariant: what is in it is in the list. There are no links in it before it is whole, nothing is
//! opened through one, and its files have no other name, so that nothing outside is ever written to.
//! What an earlier attempt left in it, or what was copied from a directory in place, is unverified bytes
//! like those of a partial file: who uses them proves them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Timespec, Timestamps};
use rustix::io::Errno;

use super::below::{Below, names_in, open_dir, remove_all};
use super::downloads::{PARTIALS, sync_dir};
use super::failure::cannot;
use super::held::lock;
use crate::engine::{Code, Failure};
use crate::wire::{Modified, Tree, TreeEntry, TreeKind};

/// What the name of a stage ends with, behind that of its partial file.
pub(super) const SUFFIX: &str = ".tree";

/// Entries made in one job, and bytes copied, so that a cancelled transfer stops soon.
const ENTRIES_PER_PART: usize = 4096;
const BYTES_PER_PART: u64 = 64 << 20;

/// Entries that are better synced one by one than with all that is on the file system.
const FEW: usize = 32;

/// The directory and what is to be in it.
pub(super) struct Stage {
    name: String,
    tree: Tree,
    /// Whether anything was in it when it was opened, or may be copied to it.
    has_found: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    below: Below,
    /// The file that was used last.
    file: Option<(usize, File)>,
    /// Where files of the same path and size may be the same.
    similar: Option<Below>,
    /// Entries before this one are prepared.
    prepared: usize,
    /// Bytes of that one that are copied.
    copied: u64,
}

impl Stage {
    /// Opens the stage of a partial file, and makes it where it is missing. What is in it that is not in
    /// the list is removed.
    pub(super) fn open(
        partials: &OwnedFd,
        name: String,
        tree: Tree,
        similar: Option<Below>,
    ) -> Result<Self, Failure> {
        let root = match open_or_make(partials, &name) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                remove_all(partials, name.as_bytes()).and_then(|()| open_or_make(partials, &name))
            }
            result => result,
        };
        let root = root.map_err(staged)?;
        clean(&root, &tree, "").map_err(staged)?;
        let has_found = similar.is_some() || !names_in(&root).map_err(staged)?.is_empty();
        let inner = Inner { below: Below::new(root), file: None, similar, prepared: 0, copied: 0 };
        Ok(Self { name, tree, has_found, inner: Mutex::new(inner) })
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes the next directories, and copies what files in place may have. Answers whether that was
    /// all.
    pub(super) fn prepare_part(&self) -> Result<bool, Failure> {
        let mut inner = lock(&self.inner);
        let end = self.tree.len().min(inner.prepared + ENTRIES_PER_PART);
        let mut room = BYTES_PER_PART;
        while inner.prepared < end && room > 0 {
            let entry = self.tree.entry(inner.prepared);
            match entry.kind {
                TreeKind::Directory => inner.make_dir(&entry).map_err(staged)?,
                TreeKind::File { .. } => {
                    let copied = inner.copy_similar(&entry, room).map_err(staged)?;
                    room -= copied;
                    inner.copied += copied;
                    if copied > 0 && inner.copied < entry.size() {
                        continue;
                    }
                }
                TreeKind::Link { .. } => {}
            }
            inner.prepared += 1;
            inner.copied = 0;
        }
        Ok(inner.prepared == self.tree.len())
    }

    /// Whether something may be in its files before anything was written to them.
    pub(super) fn has_found(&self) -> bool {
        self.has_found
    }

    /// Writes a part of what travels, behind the list.
    pub(super) fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        self.for_each_part(data.len(), offset, |number, range, within| {
            inner.open(number, &self.tree.entry(number))?.write_all_at(&data[range], within)
        })
    }

    /// Reads it back. What is missing is an error.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        self.for_each_part(buffer.len(), offset, |number, range, within| {
            inner.open_existing(number, &self.tree.entry(number))?.read_exact_at(&mut buffer[range], within)
        })
    }

    /// Calls with each file that has a part of these bytes: its number, which of the bytes, and where in
    /// the file they are.
    fn for_each_part(
        &self,
        length: usize,
        offset: u64,
        mut with: impl FnMut(usize, std::ops::Range<usize>, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut number = self.tree.entry_at(offset);
        let mut done = 0;
        while done < length {
            if number >= self.tree.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let within = offset + done as u64 - self.tree.offset(number);
            let rest = self.tree.entry(number).size().saturating_sub(within);
            let count = usize::try_from(rest).unwrap_or(usize::MAX).min(length - done);
            if count > 0 {
                with(number, done..done + count, within)?;
            }
            done += count;
            number += 1;
        }
        Ok(())
    }

    /// Makes what has no content, gives everything its times, and syncs it all at once.
    pub(super) fn complete(&self) -> Result<(), Failure> {
        let mut inner = lock(&self.inner);
        inner.file = None;
        let mut inodes = HashSet::new();
        // What is in a directory before the directory itself, whose time it changes.
        for entry in self.tree.entries().rev() {
            let failed = |errno| cannot(format_args!("complete `{}` of the directory", entry.path), errno);
            // Two names that this file system takes for one.
            if !inodes.insert(inner.complete(&entry).map_err(failed)?) {
                let message = format!(
                    "`{}` and another name in the directory are the same for this disk; have an archive sent",
                    entry.path
                );
                return Err(Failure::new(Code::BadTree, message));
            }
        }
        set_times(inner.below.root(), ".", self.tree.modified()).map_err(staged)?;
        let synced = if self.tree.len() <= FEW { inner.sync_each(&self.tree) } else { sync_all(&inner) };
        synced.map_err(|error| cannot("sync the directory to disk", error))
    }

    /// What to call it when it gets its final name, to be sure that it is the one.
    pub(super) fn named(&self) -> (&str, io::Result<OwnedFd>) {
        (&self.name, lock(&self.inner).below.root().try_clone_to_owned())
    }
}

impl Inner {
    fn sync_each(&mut self, tree: &Tree) -> io::Result<()> {
        for entry in tree.entries() {
            match entry.kind {
                TreeKind::File { .. } => self.below.file(entry.path, OFlags::RDONLY, 0)?.sync_all()?,
                TreeKind::Directory => sync_dir(self.below.dir(entry.path)?)?,
                TreeKind::Link { .. } => {}
            }
        }
        sync_dir(self.below.root())
    }

    fn make_dir(&mut self, entry: &TreeEntry<'_>) -> Result<(), Errno> {
        let (parent, name) = entry.split();
        match rustix::fs::mkdirat(self.below.dir(parent)?, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Copies the next bytes of a file of that path and size of a directory in place, if there is one and
    /// nothing is here yet; answers how many. Where the file system can, both share them on the disk.
    fn copy_similar(&mut self, entry: &TreeEntry<'_>, most: u64) -> Result<u64, Errno> {
        let Some(similar) = self.similar.as_mut().filter(|_| entry.size() > 0) else { return Ok(0) };
        let Ok(mut from) = similar.file(entry.path, OFlags::RDONLY, 0) else { return Ok(0) };
        if from.metadata().map_or(0, |metadata| metadata.len()) != entry.size() {
            return Ok(0);
        }
        let is_new = if self.copied == 0 { OFlags::CREATE | OFlags::EXCL } else { OFlags::empty() };
        let mut to = match self.below.file(entry.path, OFlags::WRONLY | is_new, mode_of(entry)) {
            // An earlier attempt left it.
            Err(Errno::EXIST) => return Ok(0),
            to => to?,
        };
        let start = io::SeekFrom::Start(self.copied);
        let copied =
            from.seek(start).and(to.seek(start)).and_then(|_| io::copy(&mut from.take(most), &mut to));
        // What cannot be copied is received.
        Ok(copied.unwrap_or(0))
    }

    fn open(&mut self, number: usize, entry: &TreeEntry<'_>) -> io::Result<&File> {
        self.open_with(number, entry, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_existing(&mut self, number: usize, entry: &TreeEntry<'_>) -> io::Result<&File> {
        self.open_with(number, entry, OFlags::RDWR)
    }

    fn open_with(&mut self, number: usize, entry: &TreeEntry<'_>, flags: OFlags) -> io::Result<&File> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            self.file = None;
            let file = self.below.file(entry.path, flags, mode_of(entry))?;
            self.file = Some((number, file));
        }
        let opened = self.file.as_ref().map(|(_, file)| file);
        opened.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Answers what tells it from all others of the directory.
    fn complete(&mut self, entry: &TreeEntry<'_>) -> Result<(u64, u64), Errno> {
        let (parent, name) = entry.split();
        match entry.kind {
            TreeKind::File { size: 0, .. } => {
                self.below.file(entry.path, OFlags::WRONLY | OFlags::CREATE, mode_of(entry))?;
            }
            TreeKind::File { .. } | TreeKind::Directory => {}
            TreeKind::Link { target } => {
                rustix::fs::symlinkat(target, self.below.dir(parent)?, name)?;
            }
        }
        let dir = self.below.dir(parent)?;
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_right = match (entry.kind, FileType::from_raw_mode(stat.st_mode)) {
            (TreeKind::File { size, is_executable }, FileType::RegularFile) => {
                set_executable(dir, name, stat.st_mode, is_executable);
                u64::try_from(stat.st_size) == Ok(size)
            }
            (TreeKind::Directory, FileType::Directory) | (TreeKind::Link { .. }, FileType::Symlink) => true,
            _ => false,
        };
        // Another program was here.
        if !is_right {
            return Err(Errno::STALE);
        }
        set_times(dir, name, entry.modified)?;
        #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
        Ok((stat.st_dev as u64, stat.st_ino as u64))
    }
}

/// Lets a file be run, by whoever may read it, or not. Some file systems know no such difference.
fn set_executable(dir: impl AsFd, name: &str, mode: RawMode, is_executable: bool) {
    let wanted = if is_executable { mode | (mode & 0o444) >> 2 } else { mode & !0o111 };
    if (mode & 0o100 != 0) != is_executable {
        let _ = rustix::fs::chmodat(dir, name, Mode::from_raw_mode(wanted), AtFlags::empty());
    }
}

/// Permissions of a file before the user's mask is applied.
fn mode_of(entry: &TreeEntry<'_>) -> RawMode {
    if matches!(entry.kind, TreeKind::File { is_executable: true, .. }) { 0o777 } else { 0o666 }
}

fn set_times(dir: impl AsFd, name: &str, modified: Modified) -> Result<(), Errno> {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    match rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        // A time that this file system does not have costs no file.
        Err(Errno::INVAL | Errno::RANGE | Errno::NOTSUP | Errno::NOSYS | Errno::OVERFLOW) => Ok(()),
        result => result,
    }
}

/// Makes everything in it survive a crash: thousands of files at the price of one, and of what others
/// have written.
#[cfg(target_os = "linux")]
fn sync_all(inner: &Inner) -> io::Result<()> {
    rustix::fs::syncfs(inner.below.root()).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn sync_all(_: &Inner) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

fn open_or_make(partials: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(partials, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => open_dir(partials, name),
        Err(errno) => Err(errno),
    }
}

/// Removes what is not in the list, or not of its kind, or longer, or has another name elsewhere.
fn clean(dir: &OwnedFd, tree: &Tree, prefix: &str) -> Result<(), Errno> {
    for name in names_in(dir)? {
        let path = str::from_utf8(&name).ok().map(|name| match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        });
        let entry = path.as_deref().and_then(|path| tree.find(path));
        let stat = rustix::fs::statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        match (entry.map(|entry| entry.kind), FileType::from_raw_mode(stat.st_mode)) {
            (Some(TreeKind::Directory), FileType::Directory) => {
                let below = open_dir(dir, str::from_utf8(&name).map_err(|_| Errno::ILSEQ)?)?;
                clean(&below, tree, path.as_deref().unwrap_or_default())?;
            }
            (Some(TreeKind::File { size, .. }), FileType::RegularFile)
                if stat.st_nlink == 1 && u64::try_from(stat.st_size).is_ok_and(|found| found <= size) => {}
            _ => remove_all(dir, &name)?,
        }
    }
    Ok(())
}

fn staged(errno: Errno) -> Failure {
    cannot("write in the directory of partial files", errno)
}

/// Whether a directory of that name stands where the one to be received will.
pub(super) fn similar(downloads: &Path, name: &str) -> Option<Below> {
    // What lies there is arriving, and nobody's to ask about.
    if name == PARTIALS {
        return None;
    }
    let chosen = Below::chosen(downloads).ok()?;
    open_dir(chosen.root(), name).ok().map(Below::new)
}

#[cfg(test)]
mod tests;
