//! What the system said, as sentences for people.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::engine::{Code, Failure};
use crate::size;

/// Something in the downloads directory could not be done: `what` is put after "cannot".
pub(super) fn cannot(what: impl Display, error: impl Into<io::Error>) -> Failure {
    let error = error.into();
    let (code, why) = match error.kind() {
        io::ErrorKind::StorageFull => {
            (Code::NoSpace, "the disk is full; make room and have it sent again".to_owned())
        }
        io::ErrorKind::QuotaExceeded => {
            (Code::NoSpace, "your disk quota is used up; make room and have it sent again".to_owned())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Code::DiskError, format!("{error}; make it writable or choose another --downloads directory"))
        }
        _ => (Code::DiskError, error.to_string()),
    };
    Failure::new(code, format!("cannot {what}: {why}"))
}

/// A file of `size` bytes does not fit into the `free` bytes there are.
pub(super) fn no_space(size: u64, free: u64, downloads: &Path) -> Failure {
    let (mut needs, mut has) = (size::human(size), size::human(free));
    if needs == has {
        (needs, has) = (format!("{size} bytes"), format!("{free} bytes"));
    }
    let downloads = downloads.display();
    Failure::new(
        Code::NoSpace,
        format!(
            "the file needs {needs}, {has} are free in `{downloads}`; make room or choose another --downloads directory"
        ),
    )
}

/// A job came for which the transfer is not ready: a fault of this program, not of its user.
pub(super) fn out_of_order(what: &str) -> Failure {
    Failure::new(Code::DiskError, format!("internal error: {what}"))
}
