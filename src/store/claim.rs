//! Partial files: who may write to which.
//!
//! Invariant: a partial file is written only by the transfer that created it under a name that was
//! free, and that holds an exclusive lock (`flock`) on it. Whoever holds the lock on the file that
//! a name names may remove that name or rename it; nobody else touches it. So two transfers, in
//! one process or in two, never write to the same file, and what a killed process left is removed
//! by the next one that wants its name. Nothing that was there before is ever written to: a
//! symlink or a hard link planted here is no way to another file.
//!
//! The exception is what an earlier attempt left of a file that is pulled: it has a journal beside it,
//! and a transfer that gets the lock on it goes on with it. It must be a regular file of our own
//! with one name, so that nothing else is written to through it; its content is proven anew.
//!
//! What is in the file is left to `partial` and `pulled`, its final name to `place`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use sha2::{Digest, Sha256};

use super::below::{bytes_below, open_dir, remove_all};
use super::downloads::{Downloads, PARTIALS, names};
use super::failure::{cannot, out_of_order};
use super::journal::{self, Header};
use super::stage;
use crate::engine::{Code, Failure, Incoming};
use crate::wire::FileHash;

/// How often a directory may vanish while a file is made in it, and how many names are tried.
/// Others make progress whenever we do not, so neither is reached in earnest.
const ATTEMPTS: u32 = 10_000;

/// A partial file of our own, empty at first unless it is resumed.
pub(super) struct Claim {
    pub(super) file: File,
    /// Its name in the directory of partial files.
    pub(super) name: String,
    /// Where it may be resumed.
    journal: Option<File>,
    /// Whether a stage was found beside it.
    pub(super) has_stage: bool,
    /// Bytes in that.
    staged_bytes: u64,
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
        Self::named(downloads, &hash.to_string(), false)
    }

    fn named(downloads: &Path, base: &str, with_journal: bool) -> Result<(Self, Downloads), Failure> {
        for _ in 0..ATTEMPTS {
            let Some(opened) = Downloads::create(downloads)? else { continue };
            match Self::in_downloads(&opened, base, with_journal) {
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

    fn in_downloads(downloads: &Downloads, base: &str, with_journal: bool) -> Result<Option<Self>, Failure> {
        let Some(partials) = downloads.create_partials()? else { return Ok(None) };
        Self::in_directory(&partials, base, with_journal).map_err(|errno| {
            cannot(format_args!("create a file in `{}`", downloads.path.join(PARTIALS).display()), errno)
        })
    }

    fn in_directory(partials: &OwnedFd, base: &str, with_journal: bool) -> Result<Option<Self>, Errno> {
        let mut name = base.to_owned();
        let mut number = 0;
        for _ in 0..ATTEMPTS {
            match attempt(partials, &name)? {
                Attempt::Claimed(file) if !with_journal => {
                    return Ok(Some(Self { file, name, journal: None, has_stage: false, staged_bytes: 0 }));
                }
                Attempt::Claimed(file) => match create_journal(partials, &name) {
                    Ok(journal) => {
                        return Ok(Some(Self {
                            file,
                            name,
                            journal: Some(journal),
                            has_stage: false,
                            staged_bytes: 0,
                        }));
                    }
                    Err(errno) => {
                        let _ = rustix::fs::unlinkat(partials, &name, AtFlags::empty());
                        match errno {
                            // What has the name of the journal cannot be removed.
                            Errno::EXIST => {}
                            Errno::NOENT => return Ok(None),
                            errno => return Err(errno),
                        }
                    }
                },
                Attempt::Changed => continue,
                Attempt::DirectoryGone => return Ok(None),
                Attempt::Taken => {}
            }
            number += 1;
            name = format!("{base}.{number}");
        }
        Err(Errno::EXIST)
    }

    /// Makes a partial file that can be resumed, and the journal beside it.
    pub(super) fn for_pulling(downloads: &Path, incoming: &Incoming) -> Result<(Self, Downloads), Failure> {
        Self::named(downloads, &base_name(incoming), true)
    }

    /// Finds what an earlier attempt left of a file, if nobody uses it.
    pub(super) fn resume(downloads: &Path, incoming: &Incoming) -> Result<Option<Self>, Failure> {
        let Ok(opened) = Downloads::open(downloads) else { return Ok(None) };
        let Ok(partials) = opened.open_partials() else { return Ok(None) };
        let is_of = |header: Option<&Header>| header.is_some_and(|header| header.is_of(incoming));
        let found = left_behind(&partials, is_of).map_err(|errno| {
            cannot(format_args!("read the directory `{}`", opened.path.join(PARTIALS).display()), errno)
        })?;
        let mut candidates = found;
        // The one of this very content or form, and then the one with the most in it.
        candidates.sort_by_key(|left| {
            let is_exact = left.header.as_ref().is_some_and(|header| header.has_form_of(incoming));
            (is_exact, left.claim.bytes(incoming.size))
        });
        Ok(candidates.pop().map(|left| left.claim))
    }

    /// The journal of a partial file that may be resumed.
    pub(super) fn journal(&self) -> Result<&File, Failure> {
        self.journal.as_ref().ok_or_else(|| out_of_order("the partial file has no journal"))
    }

    /// Bytes of the file that are on the disk, as far as can be told without reading them.
    pub(super) fn bytes(&self, size: u64) -> u64 {
        let in_file =
            self.file.metadata().map_or(0, |metadata| (metadata.blocks() * 512).min(metadata.len()));
        in_file.saturating_add(self.staged_bytes).min(size)
    }

    /// When it or the stage beside it was written to last; `None` where that cannot be told.
    pub(super) fn touched(&self, partials: &OwnedFd) -> Option<SystemTime> {
        let stage = open_dir(partials, &stage_name(&self.name)).ok().map(File::from);
        let files = [Some(&self.file), stage.as_ref()];
        files.into_iter().flatten().filter_map(|file| file.metadata().ok()?.modified().ok()).max()
    }

    /// Removes the journal of a file that has got its final name. Another may have that name for a
    /// partial file of its own by now, and a journal beside it.
    pub(super) fn remove_journal(&self, downloads: &Downloads) {
        let name = journal_name(&self.name);
        if let Some(journal) = &self.journal
            && let Ok(partials) = downloads.open_partials()
            && names(&partials, &name, journal)
        {
            let _ = rustix::fs::unlinkat(&partials, name, AtFlags::empty());
        }
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
            // The stage and the journal first, as long as the name is ours.
            remove_all(&partials, stage_name(&self.name).as_bytes())?;
            self.remove_journal(&downloads);
            rustix::fs::unlinkat(&partials, &self.name, AtFlags::empty())?;
        }
        downloads.tidy();
        Ok(())
    }
}

/// What the partial file of a file is called: by its content, else by who sends what.
fn base_name(incoming: &Incoming) -> String {
    match &incoming.head {
        Some(head) => head.file_hash().to_string(),
        None => {
            let from = incoming.from.map_or([0; 32], |from| from.0);
            let digest = Sha256::new()
                .chain_update(b"p2p-partial-v1")
                .chain_update(from)
                .chain_update(incoming.size.to_be_bytes())
                .chain_update(incoming.name.as_str())
                .finalize();
            format!("{LATE}{}", hex::encode(&digest[..16]))
        }
    }
}

/// The beginning of the names of partial files whose hash is not known.
const LATE: &str = "late-";

/// Whether this is what a partial file of ours is called: 64 or 32 hexadecimal digits, and a number.
fn is_partial_name(name: &str) -> bool {
    let base = match name.rsplit_once('.') {
        Some((base, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => base,
        Some(_) => return false,
        None => name,
    };
    let (digits, count) = base.strip_prefix(LATE).map_or((base, 64), |digits| (digits, 32));
    digits.len() == count && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What the stage beside a partial file is called.
pub(super) fn stage_name(name: &str) -> String {
    format!("{name}{}", stage::SUFFIX)
}

fn journal_name(name: &str) -> String {
    format!("{name}{}", journal::SUFFIX)
}

fn create_journal(partials: &OwnedFd, name: &str) -> Result<File, Errno> {
    let name = journal_name(name);
    // One that is there has lost its file, or belongs to somebody who wants to write elsewhere.
    let _ = rustix::fs::unlinkat(partials, &name, AtFlags::empty());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(partials, &name, flags, Mode::from_raw_mode(0o666))).map(File::from)
}

/// A partial file that nobody uses, locked.
pub(super) struct LeftBehind {
    pub(super) claim: Claim,
    /// `None` where it cannot be resumed.
    pub(super) header: Option<Header>,
}

/// The partial files that nobody uses and whose header is wanted. They are locked until they are
/// dropped.
pub(super) fn left_behind(
    partials: &OwnedFd,
    is_wanted: impl Fn(Option<&Header>) -> bool,
) -> Result<Vec<LeftBehind>, Errno> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(partials)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        found.extend(take_left_behind(partials, name, &is_wanted));
    }
    Ok(found)
}

fn take_left_behind(
    partials: &OwnedFd,
    name: &str,
    is_wanted: impl Fn(Option<&Header>) -> bool,
) -> Option<LeftBehind> {
    if !is_partial_name(name) {
        return None;
    }
    let file = open_own(partials, name)?;
    let journal = open_own(partials, &journal_name(name));
    let read = || journal.as_ref().and_then(Header::read);
    // Only what is wanted is locked: one who looks for another file at that moment is to find it.
    if !is_wanted(read().as_ref()) || lock(&file) != Lock::Held || !names(partials, name, &file) {
        return None;
    }
    // Whoever had the lock until now may have begun another file.
    let header = read();
    is_wanted(header.as_ref()).then(|| {
        let stage = header.as_ref().and_then(|header| header.list_bytes).map(|_| stage_name(name));
        let stage = stage.and_then(|stage| open_dir(partials, &stage).ok());
        let (has_stage, staged_bytes) = (stage.is_some(), stage.map_or(0, bytes_below));
        let claim = Claim { file, name: name.to_owned(), journal, has_stage, staged_bytes };
        LeftBehind { claim, header }
    })
}

/// Takes the partial file of that name, if nobody uses it.
pub(super) fn take_by_name(partials: &OwnedFd, name: &str) -> Option<LeftBehind> {
    take_left_behind(partials, name, |_| true)
}

/// Removes the journals that were not written to since then and whose files are gone: one who was
/// killed right after a file got its final name leaves such a one. A stage without its file is what one
/// leaves who was killed while removing it.
pub(super) fn remove_lone_journals(partials: &OwnedFd, oldest: SystemTime) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(partials)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let stage_of = name.strip_suffix(stage::SUFFIX).filter(|of| is_partial_name(of));
        if stage_of.is_some_and(|of| !is_there(partials, of)) {
            remove_all(partials, name.as_bytes())?;
            continue;
        }
        let Some(of) = name.strip_suffix(journal::SUFFIX).filter(|of| is_partial_name(of)) else { continue };
        let is_lone = !is_there(partials, of);
        let written = || open_own(partials, name)?.metadata().ok()?.modified().ok();
        if is_lone && written().is_some_and(|written| written <= oldest) {
            rustix::fs::unlinkat(partials, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether anything has that name, as far as can be told.
fn is_there(partials: &OwnedFd, name: &str) -> bool {
    !matches!(rustix::fs::statat(partials, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
}

/// Opens a file that is ours alone: a regular one of this user with no other name.
fn open_own(partials: &OwnedFd, name: &str) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(partials, name, flags, Mode::empty())).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let is_own = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_nlink == 1
        && stat.st_uid == rustix::process::geteuid().as_raw();
    is_own.then(|| file.into())
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

/// Removes a file that nobody has locked any more, without reading or writing it. One that can be
/// resumed stays.
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
    let journal = journal_name(name);
    let has_journal = is_there(partials, &journal);
    if has_journal && open_own(partials, &journal).is_none_or(|journal| Header::read(&journal).is_some()) {
        return Attempt::Taken;
    }
    if remove_all(partials, stage_name(name).as_bytes()).is_err() {
        return Attempt::Taken;
    }
    if has_journal {
        let _ = rustix::fs::unlinkat(partials, &journal, AtFlags::empty());
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
