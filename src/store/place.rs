//! Final names: how a verified file gets one without anything being replaced.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::claim::Claim;
use super::downloads::{Downloads, names};
use super::failure::cannot;
use crate::engine::{Code, Failure};
use crate::wire::SafeName;

/// How many numbers are tried behind a name that is taken.
const MAX_NUMBER: u32 = 9_999;

/// Moves the file of `claim` to `name` in the downloads directory, or to `name (1)` and so on
/// where that is taken by anything at all. Answers the name it got.
pub(super) fn place(downloads: &Downloads, claim: &Claim, name: &SafeName) -> Result<SafeName, Failure> {
    let gone = || {
        let path = downloads.path.display();
        let message =
            format!("`{path}` or the partial file in it was moved or replaced while the file arrived");
        Failure::new(Code::DiskError, message)
    };
    let partials = downloads.open_partials().map_err(|_| gone())?;
    if !names(&partials, &claim.name, &claim.file) {
        return Err(gone());
    }
    for number in 0..=MAX_NUMBER {
        let candidate = if number == 0 { name.clone() } else { name.numbered(number) };
        match rename(&partials, &claim.name, &downloads.dir, candidate.as_str()) {
            // Somebody who may write there could have put another file under the partial's name.
            Ok(()) if !names(&downloads.dir, candidate.as_str(), &claim.file) => return Err(gone()),
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
fn rename(from: &OwnedFd, old: &str, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        Err(unsupported @ (Errno::INVAL | Errno::NOSYS | Errno::NOTSUP)) => {
            rename_by_link(from, old, to, new).map_err(|errno| match errno {
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

#[cfg(test)]
mod tests;
