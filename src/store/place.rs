//! Final names: how a verified file gets one without anything being replaced.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;

use super::downloads::{Downloads, names};
use super::failure::cannot;
use crate::engine::{Code, Failure};
use crate::wire::SafeName;

/// How many numbers are tried behind a name that is taken.
const MAX_NUMBER: u32 = 9_999;

/// What is to be moved out of the directory of partial files.
pub(super) struct Moving<'a> {
    /// What it is called there.
    pub(super) name: &'a str,
    /// The thing itself, open.
    pub(super) opened: BorrowedFd<'a>,
    pub(super) is_directory: bool,
}

/// Moves a verified file or directory to `name` in the downloads directory, or to `name (1)` and so on
/// where that is taken by anything at all. Answers the name it got.
pub(super) fn place(
    downloads: &Downloads,
    moving: &Moving<'_>,
    name: &SafeName,
) -> Result<SafeName, Failure> {
    let numbered = |number| match (number, moving.is_directory) {
        (0, _) => name.clone(),
        (number, true) => name.numbered_directory(number),
        (number, false) => name.numbered(number),
    };
    let gone = || {
        let path = downloads.path.display();
        let message =
            format!("`{path}` or the partial file in it was moved or replaced while the file arrived");
        Failure::new(Code::DiskError, message)
    };
    let partials = downloads.open_partials().map_err(|_| gone())?;
    if !names(&partials, moving.name, moving.opened) {
        return Err(gone());
    }
    for number in 0..=MAX_NUMBER {
        let candidate = numbered(number);
        match rename(&partials, moving, &downloads.dir, candidate.as_str()) {
            // Somebody who may write there could have put another file under the partial's name.
            Ok(()) if !names(&downloads.dir, candidate.as_str(), moving.opened) => return Err(gone()),
            Ok(()) => return Ok(candidate),
            Err(Errno::EXIST) => {}
            Err(errno) => {
                let path = downloads.path.join(candidate.as_str());
                return Err(cannot(format_args!("give the file its name `{}`", path.display()), errno));
            }
        }
    }
    let message =
        format!("`{name}` and {MAX_NUMBER} names like it are taken in `{}`", downloads.path.display());
    Err(Failure::new(Code::DiskError, message))
}

/// Renames, unless something stands under the new name: then [`Errno::EXIST`].
fn rename(from: &OwnedFd, moving: &Moving<'_>, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, moving.name, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if moving.is_directory => {
            rename_over_empty(from, moving.name, to, new)
        }
        Err(unsupported @ (Errno::INVAL | Errno::NOSYS | Errno::NOTSUP)) => {
            rename_by_link(from, moving.name, to, new).map_err(|errno| match errno {
                // It has no hard links either, or refuses the name in both calls.
                Errno::PERM | Errno::NOSYS | Errno::NOTSUP => unsupported,
                errno => errno,
            })
        }
        result => result,
    }
}

/// The same for file systems, NFS for one, that know only the rename that replaces.
fn rename_by_link(from: impl AsFd, old: &str, to: impl AsFd, new: &str) -> Result<(), Errno> {
    rustix::fs::linkat(&from, old, to, new, AtFlags::empty())?;
    // A second name that stays behind is a leftover, which the next claim of it removes.
    let _ = rustix::fs::unlinkat(from, old, AtFlags::empty());
    Ok(())
}

/// The same for directories, which have no second names: what is replaced is an empty directory of ours.
fn rename_over_empty(from: &OwnedFd, old: &str, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    rustix::fs::mkdirat(to, new, Mode::from_raw_mode(0o777))?;
    rustix::fs::renameat(from, old, to, new).inspect_err(|_| {
        let _ = rustix::fs::unlinkat(to, new, AtFlags::REMOVEDIR);
    })
}

#[cfg(test)]
mod tests;
