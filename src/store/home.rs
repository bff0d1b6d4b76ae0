//! The user's state: the key that is the identity, who is known and how they behaved, what is shared, what
//! waits for others, and which texts were shown.
//!
//! Several processes may share a home. Invariants: the key is made once and never replaced; what
//! is changed in another file is changed under a lock in what is in the file at that moment, and the
//! file is replaced whole, so that a reader sees the old one or the new one. A damaged file is an
//! error, never an empty one.

mod dht_nodes;
mod history;
mod known;
mod outbox;
mod records;
mod shares;
mod shown;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::retry_on_intr;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use outbox::Outbox;
pub use shown::Shown;

use super::held::lock;
use crate::engine::{Book, Change, Code, Failure, Reading, Record};
use crate::wire::NodeId;
pub(crate) use history::MAX_HISTORY_BYTES;

const KEY: &str = "identity.pem";
const BOOK: &str = "known.toml";
const RECORDS: &str = "records.toml";
const LOCK: &str = "lock";

/// No file of ours is larger.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Why the home cannot be used.
#[derive(Debug, Error)]
pub enum HomeError {
    /// The system said no.
    #[error("cannot {what} `{}`: {error}; give another --home directory", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Others could have read the key.
    #[error(
        "`{}` can be read by others, so it may be known to them; if you are sure that it is not: chmod 600 '{}'; \
         else move it away to get a new identity",
        .0.display(), .0.display()
    )]
    Exposed(PathBuf),
    /// Others could say who is known and trusted, and what is shared.
    #[error(
        "`{}` can be changed by others, who could make you trust them or share your files with them; \
         if all in it is right: chmod go-w '{}'",
        .0.display(), .0.display()
    )]
    Writable(PathBuf),
    /// Others could read what was said, or make up more.
    #[error("`{}` can be read or changed by others, and it has what was said; to go on with it: chmod 600 '{}'", .0.display(), .0.display())]
    NotPrivate(PathBuf),
    /// It was made by somebody else.
    #[error("`{}` belongs to another user; give another --home directory", .0.display())]
    NotOurs(PathBuf),
    /// The file is not what we wrote.
    #[error("`{}` is damaged: {why}; mend it, or move it away to start afresh", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is too much of it, or it could not be read again.
    #[error("cannot note that in `{}`: {why}", .path.display())]
    NotNoted {
        /// In which file.
        path: PathBuf,
        /// What stands against it.
        why: String,
    },
}

/// The directory of a user's state.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
    /// Counts what this process reads and notes.
    clock: Arc<AtomicU64>,
    /// The records that were last read, and of which text. They are read for everybody who connects,
    /// others can make them many, and to parse them takes longer than a handshake.
    last_records: Arc<Mutex<Option<(String, Records)>>>,
}

/// What dealings with identities came to.
type Records = BTreeMap<NodeId, Record>;

/// Why a file that can be parsed is damaged all the same.
type Malformed = Box<dyn std::error::Error>;

impl Home {
    /// Opens the directory, and makes it for this user alone where it is missing.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn open(path: PathBuf) -> Result<Self, HomeError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| HomeError::Io {
            what: "make the directory",
            path: path.clone(),
            error,
        })?;
        let io = |error| HomeError::Io { what: "look at", path: path.clone(), error };
        check_owner(&path, &fs::metadata(&path).map_err(io)?)?;
        Ok(Self { path, clock: Arc::default(), last_records: Arc::default() })
    }

    /// The private key in PEM, made by `generate` where there is none yet. Of several processes
    /// that start at the same moment one makes it, and all get the same.
    ///
    /// # Errors
    /// Where it cannot be read or made, or others could read it.
    pub fn key(&self, generate: impl FnOnce() -> String) -> Result<String, HomeError> {
        let path = self.path.join(KEY);
        if let Some(key) = read_key(&path)? {
            return Ok(key);
        }
        let fresh = self.fresh_file(KEY, &generate())?;
        // A link never replaces: whoever comes second takes the first one's key.
        let linked = fs::hard_link(&fresh, &path);
        let _ = fs::remove_file(&fresh);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(HomeError::Io { what: "make", path, error })
            }
            _ => {
                self.sync();
                let gone = || HomeError::Damaged { path: path.clone(), why: "it vanished".to_owned() };
                read_key(&path)?.ok_or_else(gone)
            }
        }
    }

    /// Who is known.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn book(&self) -> Result<Reading, HomeError> {
        // Before it is read: whatever is noted meanwhile may be missing in it.
        let as_of = self.now();
        Ok(Reading { book: self.read_book()?, as_of })
    }

    /// A later moment than any before.
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn read_book(&self) -> Result<Book, HomeError> {
        let known = self.read_toml(BOOK, known::book_of)?.unwrap_or_default();
        Ok(Book { records: self.read_records()?, ..known })
    }

    fn read_records(&self) -> Result<Records, HomeError> {
        let Some(text) = self.read_text(RECORDS)? else { return Ok(Records::new()) };
        let mut last = lock(&self.last_records);
        if let Some((of, records)) = last.as_ref()
            && *of == text
        {
            return Ok(records.clone());
        }
        let records = self.parse(RECORDS, &text, records::records_of)?;
        *last = Some((text, records.clone()));
        Ok(records)
    }

    /// What `check` makes of a file; `None` where there is none.
    fn read_toml<F: DeserializeOwned, T>(
        &self,
        name: &str,
        check: impl FnOnce(F) -> Result<T, Malformed>,
    ) -> Result<Option<T>, HomeError> {
        self.read_text(name)?.map(|text| self.parse(name, &text, check)).transpose()
    }

    /// The text of a file that only this user writes; `None` where there is none.
    fn read_text(&self, name: &str) -> Result<Option<String>, HomeError> {
        let path = self.path.join(name);
        let Some((text, metadata)) = read_bounded(&path)? else { return Ok(None) };
        check_owner(&path, &metadata)?;
        Ok(Some(text))
    }

    /// What `check` makes of the text, which a person may have edited.
    fn parse<F: DeserializeOwned, T>(
        &self,
        name: &str,
        text: &str,
        check: impl FnOnce(F) -> Result<T, Malformed>,
    ) -> Result<T, HomeError> {
        let damaged = |why: String| HomeError::Damaged { path: self.path.join(name), why };
        let file = toml::from_str(text).map_err(|error| damaged(in_one_line(text, &error)))?;
        check(file).map_err(|why| damaged(why.to_string()))
    }

    /// Notes changes in the files, and answers what is in them then. All of them or none, unless
    /// the system fails after one of two files was written.
    ///
    /// # Errors
    /// Where one contradicts what is noted, or a file cannot be written.
    pub fn change(&self, changes: &[Change]) -> Result<Reading, Failure> {
        let failure = |error: HomeError| Failure::new(Code::DiskError, error.to_string());
        let _lock = self.lock().map_err(failure)?;
        let before = self.read_book().map_err(failure)?;
        let mut book = before.clone();
        for change in changes {
            book.apply(change)?;
        }
        if book.records != before.records {
            self.write_toml(RECORDS, records::HEADING, &records::file_of(&book.records)).map_err(failure)?;
        }
        if book.pins != before.pins || book.peers != before.peers {
            self.write_toml(BOOK, known::HEADING, &known::file_of(&book)).map_err(failure)?;
        }
        // After they were written: every reading that begins later has it.
        Ok(Reading { book, as_of: self.now() })
    }

    /// Replaces a file under the lock.
    fn write_toml(&self, name: &str, heading: &str, content: &impl Serialize) -> Result<(), HomeError> {
        let path = self.path.join(name);
        let content = toml::to_string(content).expect("strings, numbers and tables are all TOML");
        let text = format!("# {heading}\n{content}");
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(HomeError::NotNoted { path, why: "it would be too large to be read".to_owned() });
        }
        self.replace(name, &text)
    }

    /// Replaces a file: a reader sees the old one or the new one.
    fn replace(&self, name: &str, text: &str) -> Result<(), HomeError> {
        let path = self.path.join(name);
        let fresh = self.fresh_file(name, text)?;
        fs::rename(&fresh, &path).map_err(|error| {
            let _ = fs::remove_file(&fresh);
            HomeError::Io { what: "replace", path, error }
        })?;
        self.sync();
        Ok(())
    }

    /// Holds the lock until it is dropped.
    fn lock(&self) -> Result<File, HomeError> {
        let path = self.path.join(LOCK);
        let io = |error| HomeError::Io { what: "lock", path: path.clone(), error };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        // Where the file system has no locks, replacing whole files is what is left.
        match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive)) {
            Ok(()) | Err(_) => Ok(file),
        }
    }

    /// A new file of ours beside `name`, synced.
    fn fresh_file(&self, name: &str, content: &str) -> Result<PathBuf, HomeError> {
        let mut unique = [0; 8];
        let path = self.path.clone();
        getrandom::fill(&mut unique).map_err(|error| HomeError::Io {
            what: "name a file in",
            path,
            error: io::Error::other(error),
        })?;
        let path = self.path.join(format!(".{name}.{}", hex::encode(unique)));
        let written = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all()));
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(HomeError::Io { what: "write", path, error })
            }
        }
    }

    /// Makes the names survive a crash, as far as the system can.
    fn sync(&self) {
        if let Ok(dir) = File::open(&self.path) {
            let _ = dir.sync_all();
        }
    }
}

/// Where and what, without the picture that the parser draws below.
fn in_one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

fn read_key(path: &Path) -> Result<Option<String>, HomeError> {
    let Some((text, metadata)) = read_bounded(path)? else { return Ok(None) };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(HomeError::Exposed(path.to_owned()));
    }
    check_owner(path, &metadata)?;
    Ok(Some(text))
}

/// Whether nobody but this user, and whoever may do everything, decides what is in it.
fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), HomeError> {
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && user != 0 {
        return Err(HomeError::NotOurs(path.to_owned()));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(HomeError::Writable(path.to_owned()));
    }
    Ok(())
}

/// The text of a regular file, and what is known about that very file; `None` where there is none.
fn read_bounded(path: &Path) -> Result<Option<(String, fs::Metadata)>, HomeError> {
    let io = |error| HomeError::Io { what: "read", path: path.to_owned(), error };
    let damaged = |why: &str| HomeError::Damaged { path: path.to_owned(), why: why.to_owned() };
    // A pipe that nobody writes to must not hold up the start.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag of open(2) is an int");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io)?,
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    let mut text = String::new();
    match file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(damaged("it is not text")),
        Err(error) => Err(io(error)),
        Ok(read) if read as u64 > MAX_FILE_BYTES => Err(damaged("it is too large")),
        Ok(_) => Ok(Some((text, metadata))),
    }
}

#[cfg(test)]
mod tests;
