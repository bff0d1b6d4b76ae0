//! A directory of ours, read like one file: its list, and behind it its files one after the other.
//!
//! It is walked once. From then on a file that is not what it was then is an error, so that what is read
//! is of one state of each file. Links are never followed; what cannot be in a list is left out and named.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{Access, AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::below::{Below, names_in, open_dir};
use super::downloads::PARTIALS;
use super::held::lock;
use crate::engine::{Code, Failure};
use crate::wire::{BadTree, ItemKind, MAX_TREE_ENTRIES, Modified, Tree, TreeItem};

/// How many of the things that are left out are named.
const NAMED: usize = 3;

/// How deep directories may be; one that is deeper is not gone into only to be refused.
const MAX_DEPTH: usize = 130;

/// A directory that was walked.
pub(super) struct Directory {
    path: PathBuf,
    tree: Tree,
    /// What each file looked like, in the order of the list.
    seen: Vec<Seen>,
    reader: Mutex<Reader>,
    /// What is not in the list, as a sentence.
    left_out: Option<String>,
}

/// The file that is being read.
struct Reader {
    below: Below,
    file: Option<(usize, File)>,
}

/// What tells a file from what it is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    device: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why the bytes cannot be had.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// Something is not what it was when the directory was walked.
    Changed(String),
    /// The system cannot read it.
    Io(PathBuf, io::Error),
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between systems")]
impl Seen {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    fn modified(self) -> Modified {
        Modified { seconds: self.modified.0, nanoseconds: u32::try_from(self.modified.1).unwrap_or(0) }
    }
}

/// What walking has found so far.
#[derive(Default)]
struct Walk {
    items: Vec<TreeItem>,
    seen: Vec<(String, Seen)>,
    left_out: Vec<String>,
}

impl Directory {
    /// Walks a directory, which may be named by a link.
    pub(super) fn walk(path: &Path) -> Result<Self, Failure> {
        let unreadable = |errno: Errno| unreadable(path, &errno.into());
        Self::below(path, Below::chosen(path).map_err(unreadable)?)
    }

    /// Walks a directory that is open. `path` is what it is called in messages.
    pub(super) fn below(path: &Path, below: Below) -> Result<Self, Failure> {
        let unreadable = |errno: Errno| unreadable(path, &errno.into());
        let modified = Seen::of(&rustix::fs::fstat(below.root()).map_err(unreadable)?).modified();
        let mut walk = Walk::default();
        walk.directory(below.root(), path, "", MAX_DEPTH)?;
        let Walk { mut items, mut seen, mut left_out } = walk;
        let (tree, strays) = Tree::of(modified, &mut items).map_err(|error| refused(path, &error))?;
        drop(items);
        let is_stray: HashSet<_> = strays.iter().map(|stray| stray.path.as_str()).collect();
        seen.retain(|(path, _)| !is_stray.contains(path.as_str()));
        left_out
            .extend(strays.iter().map(|stray| format!("`{}` is a link that leads out of it", stray.path)));
        seen.sort_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
        Ok(Self {
            path: path.to_owned(),
            tree,
            seen: seen.into_iter().map(|(_, seen)| seen).collect(),
            reader: Mutex::new(Reader { below, file: None }),
            left_out: name_some(&left_out),
        })
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What is in the directory and not in its list.
    pub(super) fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    /// Reads from what travels. What is there was compared with what was seen, before and after.
    pub(super) fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Unreadable> {
        let list = self.tree.as_bytes();
        if let Some(rest) = usize::try_from(offset).ok().and_then(|offset| list.get(offset..)) {
            let count = rest.len().min(buffer.len());
            let (head, behind) = buffer.split_at_mut(count);
            head.copy_from_slice(&rest[..count]);
            buffer = behind;
            offset += count as u64;
        }
        let mut number = self.tree.entry_at(offset);
        let mut reader = lock(&self.reader);
        while !buffer.is_empty() {
            if number >= self.tree.len() {
                return Err(Unreadable::Changed("it is shorter than its list".to_owned()));
            }
            let size = self.tree.entry(number).size();
            let within = offset - self.tree.offset(number);
            let count = size.saturating_sub(within).min(buffer.len() as u64);
            let (part, behind) = buffer.split_at_mut(usize::try_from(count).expect("at most a buffer"));
            if !part.is_empty() {
                self.read_file(&mut reader, number, part, within)?;
            }
            buffer = behind;
            offset += count;
            number += 1;
        }
        Ok(())
    }

    fn read_file(
        &self,
        reader: &mut Reader,
        number: usize,
        part: &mut [u8],
        offset: u64,
    ) -> Result<(), Unreadable> {
        let path = self.tree.entry(number).path;
        let failed = |error: io::Error| Unreadable::Io(self.path.join(path), error);
        let changed = || Unreadable::Changed(format!("`{path}` in it was written to or replaced"));
        let is_as_seen = |file: &File| {
            let stat = rustix::fs::fstat(file).map_err(|errno| failed(errno.into()))?;
            if Seen::of(&stat) == self.seen[number] { Ok(()) } else { Err(changed()) }
        };
        if reader.file.as_ref().is_none_or(|(open, _)| *open != number) {
            reader.file = None;
            let file = reader.below.file(path, OFlags::RDONLY, 0).map_err(|errno| match errno {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL => changed(),
                errno => failed(errno.into()),
            })?;
            is_as_seen(&file)?;
            reader.file = Some((number, file));
        }
        let Some((_, file)) = &reader.file else { return Err(changed()) };
        file.read_exact_at(part, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => failed(error),
        })?;
        is_as_seen(file)
    }

    /// Whether walking it again finds the same.
    pub(super) fn is_unchanged(&self) -> bool {
        let Ok(root) = lock(&self.reader).below.root().try_clone_to_owned() else { return false };
        let again = Self::below(&self.path, Below::new(root));
        again.is_ok_and(|again| again.tree == self.tree && again.seen == self.seen)
    }

    /// A digest of what all files looked like, and the latest of their times.
    pub(super) fn fingerprint(&self) -> ([u8; 32], (i64, i64)) {
        let mut digest = Sha256::new();
        let mut latest = (i64::MIN, 0);
        digest.update(self.tree.as_bytes());
        for seen in &self.seen {
            let Seen { inode, device, size, modified, changed } = seen;
            for number in [*inode, *device, *size] {
                digest.update(number.to_be_bytes());
            }
            for number in [modified.0, modified.1, changed.0, changed.1] {
                digest.update(number.to_be_bytes());
            }
            latest = latest.max(*modified).max(*changed);
        }
        (digest.finalize().into(), latest)
    }
}

impl Walk {
    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &Path,
        prefix: &str,
        depth: usize,
    ) -> Result<(), Failure> {
        let depth =
            depth.checked_sub(1).ok_or_else(|| refused(path, &BadTree::TooDeep(prefix.to_owned())))?;
        for name in names_in(dir).map_err(|errno| unreadable(path, &errno.into()))? {
            // What is arriving there is nothing to send yet.
            if name == PARTIALS.as_bytes() {
                continue;
            }
            let inner = path.join(std::ffi::OsStr::from_bytes(&name));
            let Ok(name) = str::from_utf8(&name) else {
                let message = format!("`{}` cannot be sent: its name is not valid UTF-8", inner.display());
                return Err(Failure::new(Code::BadName, message));
            };
            if self.items.len() >= MAX_TREE_ENTRIES as usize {
                return Err(refused(path, &BadTree::TooLong));
            }
            let below = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            self.entry(dir, name, &inner, &below, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &str,
        path: &Path,
        below: &str,
        depth: usize,
    ) -> Result<(), Failure> {
        let failed = |errno: Errno| unreadable(path, &errno.into());
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let seen = Seen::of(&stat);
        // Better told now than when all the others have been sent.
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && rustix::fs::accessat(dir, name, Access::READ_OK, AtFlags::EACCESS) == Err(Errno::ACCESS)
        {
            return Err(failed(Errno::ACCESS));
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => ItemKind::Directory,
            FileType::RegularFile => {
                ItemKind::File { size: seen.size, is_executable: stat.st_mode & 0o100 != 0 }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(failed)?;
                match target.into_string() {
                    Ok(target) => ItemKind::Link { target },
                    Err(_) => {
                        self.left_out.push(format!("`{below}` is a link whose target is not valid UTF-8"));
                        return Ok(());
                    }
                }
            }
            _ => {
                self.left_out.push(format!("`{below}` is no file, directory or link"));
                return Ok(());
            }
        };
        let is_directory = kind == ItemKind::Directory;
        // What has no content need not be compared later: only what is read is.
        self.seen.push((below.to_owned(), seen));
        self.items.push(TreeItem { path: below.to_owned(), modified: seen.modified(), kind });
        if is_directory {
            let opened = open_dir(dir, name).map_err(failed)?;
            self.directory(std::os::fd::AsFd::as_fd(&opened), path, below, depth)?;
        }
        Ok(())
    }
}

/// A sentence about what is left out.
fn name_some(left_out: &[String]) -> Option<String> {
    let named = left_out.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match left_out.len() {
        0 => None,
        1 => Some(format!("1 thing is left out: {named}")),
        n if n <= NAMED => Some(format!("{n} things are left out: {named}")),
        n => Some(format!("{n} things are left out: {named}; and {} more", n - NAMED)),
    }
}

fn refused(path: &Path, error: &BadTree) -> Failure {
    let code = match error {
        BadTree::Name { .. } | BadTree::CaseCollision(_) => Code::BadName,
        BadTree::TooLong | BadTree::TooLarge | BadTree::TooDeep(_) => Code::TooLarge,
        _ => Code::SourceUnreadable,
    };
    Failure::new(code, format!("`{}` cannot be sent: {error}", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!("`{path}` vanished while its directory was read; send it again"),
        io::ErrorKind::PermissionDenied => {
            format!("you may not read `{path}`; change its permissions or send a copy without it")
        }
        _ => format!("cannot read `{path}`: {error}"),
    };
    Failure::new(Code::SourceUnreadable, message)
}
