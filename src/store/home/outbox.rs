//! `outbox/`: what waits for others, one file for each entry.
//!
//! An entry is written whole and synced, then locked, then given its name; so whoever finds it finds all of it,
//! and nobody else holds it before who made it does. Who holds its lock delivers it and removes it. The system
//! releases the locks of a process that ends, however it ends. What is made and looked for is so under the home's
//! lock. A file that is no entry is put aside and told of once, never removed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Home, HomeError, check_owner, read_bounded};
use crate::engine::{Code, Failure, OutboxEntry, OutboxItem, OutboxNews};
use crate::store::held::lock;
use crate::wire::{NodeId, SafeName, TextKey};

const OUTBOX: &str = "outbox";

/// What a file's name begins with that is not an entry yet.
const FRESH: &str = ".new-";

/// What is put behind the name of a file that is no entry.
const DAMAGED: &str = ".damaged";

/// Files that are looked at; a home never has so many.
const MAX_FILES: usize = 4096;

/// The outbox of a home, and what of it this process holds. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    home: Home,
    dir: PathBuf,
    /// The locked files.
    held: Arc<Mutex<BTreeMap<TextKey, File>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFile {
    version: u32,
    to: NodeId,
    called: String,
    said_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FileEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Its bytes, where it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    name: String,
}

/// What became of a file that was looked at.
enum Look {
    Taken(OutboxEntry),
    /// Another process holds it.
    Elsewhere,
    /// It is gone, or none of ours, or held already.
    Nothing,
    Damaged(String),
}

/// Why an entry was not read.
enum Unread {
    /// It is none.
    Damaged(String),
    /// The system could not read it this time.
    NotNow,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self::Damaged(why)
    }
}

impl Outbox {
    /// The one of that home.
    pub fn of(home: &Home) -> Self {
        Self { home: home.clone(), dir: home.path.join(OUTBOX), held: Arc::default() }
    }

    /// Keeps an entry and holds it; answers it with the path of its file as it is found from everywhere.
    ///
    /// # Errors
    /// Where the file cannot be read, or the entry not be written.
    pub fn keep(&self, mut entry: OutboxEntry) -> Result<OutboxEntry, Failure> {
        if let OutboxItem::File { path, .. } = &mut entry.what {
            *path = checked(path)?;
        }
        let failure = |error: HomeError| Failure::new(Code::DiskError, error.to_string());
        let io = |what, error| failure(HomeError::Io { what, path: self.dir.clone(), error });
        let _lock = self.home.lock().map_err(failure)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(|error| io("make the directory", error))?;
        let fresh = self.dir.join(format!("{FRESH}{}", entry.key));
        let kept = write(&fresh, &entry).and_then(|file| {
            fs::rename(&fresh, self.path(entry.key))?;
            Ok(file)
        });
        let file = kept.map_err(|error| {
            let _ = fs::remove_file(&fresh);
            io("keep a message or file for later in", error)
        })?;
        self.sync();
        lock(&self.held).insert(entry.key, file);
        Ok(entry)
    }

    /// Removes an entry that this process holds.
    ///
    /// # Errors
    /// Where its file cannot be removed. It is not held any longer, and may be delivered again.
    pub fn remove(&self, key: TextKey) -> Result<(), HomeError> {
        // Until it is gone it is locked, so that nobody else takes it.
        let held = lock(&self.held).remove(&key);
        let removed = fs::remove_file(self.path(key));
        drop(held);
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HomeError::Io { what: "remove from the outbox", path: self.path(key), error })
            }
            _ => {
                self.sync();
                Ok(())
            }
        }
    }

    /// Holds up to `most` entries that nobody holds, those first that were said first.
    ///
    /// # Errors
    /// Where the directory cannot be read, or others can write to it.
    pub fn take_over(&self, most: usize) -> Result<OutboxNews, HomeError> {
        let (mut entries, mut damaged, mut elsewhere) = (Vec::new(), Vec::new(), 0);
        let io = |error| HomeError::Io { what: "read", path: self.dir.clone(), error };
        match fs::metadata(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(OutboxNews::Found { entries, elsewhere, damaged });
            }
            metadata => check_owner(&self.dir, &metadata.map_err(io)?)?,
        }
        let _lock = self.home.lock()?;
        for found in fs::read_dir(&self.dir).map_err(io)?.take(MAX_FILES) {
            let name = found.map_err(io)?.file_name();
            match self.look_at(&name, most) {
                Look::Taken(entry) => entries.push(entry),
                Look::Elsewhere => elsewhere += 1,
                Look::Damaged(why) => damaged.push(why),
                Look::Nothing => {}
            }
        }
        entries.sort_by_key(|entry| (entry.said_at, entry.key));
        Ok(OutboxNews::Found { entries, elsewhere, damaged })
    }

    fn look_at(&self, name: &std::ffi::OsStr, most: usize) -> Look {
        let path = self.dir.join(name);
        let Some(name) = name.to_str() else { return Look::Nothing };
        if name.starts_with(FRESH) {
            // Whoever made it was killed before it was an entry: these are made under the home's lock.
            let _ = fs::remove_file(&path);
            return Look::Nothing;
        }
        let Ok(key) = name.parse::<TextKey>() else { return Look::Nothing };
        let mut held = lock(&self.held);
        if held.contains_key(&key) || held.len() >= most {
            return Look::Nothing;
        }
        let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(nonblocking()).open(&path)
        else {
            return Look::Nothing;
        };
        // Where the file system has no locks, all deliver it, and its receiver knows its key.
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
            return Look::Elsewhere;
        }
        // Who held it may have removed it in between.
        let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let is_there = file.metadata().ok().zip(fs::metadata(&path).ok()).is_some_and(|(a, b)| same(a, b));
        if !is_there {
            return Look::Nothing;
        }
        match read(&path, key) {
            Ok(entry) => {
                held.insert(key, file);
                Look::Taken(entry)
            }
            Err(Unread::Damaged(why)) => Look::Damaged(put_aside(&path, &why)),
            // Too many open files, or a disk that is ill: it is as it was, and looked at again.
            Err(Unread::NotNow) => Look::Nothing,
        }
    }

    fn path(&self, key: TextKey) -> PathBuf {
        self.dir.join(key.to_string())
    }

    fn sync(&self) {
        if let Ok(dir) = File::open(&self.dir) {
            let _ = dir.sync_all();
        }
    }
}

fn nonblocking() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a flag of open(2) is an int")
}

/// A path as it is found from everywhere, of something that can be sent.
fn checked(path: &Path) -> Result<PathBuf, Failure> {
    let cannot = |why: String| {
        Failure::new(Code::SourceUnreadable, format!("cannot keep `{}` for later: {why}", path.display()))
    };
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => cannot("there is no such file; check the path".to_owned()),
        _ => cannot(error.to_string()),
    })?;
    if !metadata.is_dir() {
        if !metadata.is_file() {
            return Err(cannot("it is no file and no directory".to_owned()));
        }
        File::open(path).map_err(|error| cannot(error.to_string()))?;
    }
    std::path::absolute(path).map_err(|error| cannot(error.to_string()))
}

/// Writes an entry and locks it.
fn write(path: &Path, entry: &OutboxEntry) -> io::Result<File> {
    let (text, file) = match &entry.what {
        OutboxItem::Text(text) => (Some(text.clone()), None),
        OutboxItem::File { path, name } => {
            let as_text = path.to_str().map(str::to_owned);
            let path_hex = as_text.is_none().then(|| hex::encode(path.as_os_str().as_bytes()));
            (None, Some(FileEntry { path: as_text, path_hex, name: name.as_str().to_owned() }))
        }
    };
    let (to, called, said_at) = (entry.to, entry.called.clone(), entry.said_at);
    let content = serde_json::to_vec(&EntryFile { version: 1, to, called, said_at, text, file })?;
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    // Nobody else knows of it yet; where the file system has no locks, it is as good without.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    file.write_all(&content)?;
    file.sync_all()?;
    Ok(file)
}

fn read(path: &Path, key: TextKey) -> Result<OutboxEntry, Unread> {
    let read = read_bounded(path).map_err(|error| match error {
        HomeError::Io { .. } => Unread::NotNow,
        damaged => Unread::Damaged(damaged.to_string()),
    });
    let (text, metadata) = read?.ok_or(Unread::NotNow)?;
    check_owner(path, &metadata).map_err(|error| error.to_string())?;
    let EntryFile { version, to, called, said_at, text, file } =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let what = match (version, text, file) {
        (1, Some(text), None) => OutboxItem::Text(text),
        (1, None, Some(file)) => item_of(file)?,
        (1, ..) => return Err("it needs one of `text` and `file`".to_owned().into()),
        (other, ..) => return Err(format!("version {other} is not known to this program").into()),
    };
    Ok(OutboxEntry { key, to, called, said_at, what })
}

fn item_of(file: FileEntry) -> Result<OutboxItem, String> {
    let path = match (file.path, file.path_hex) {
        (Some(text), None) => PathBuf::from(text),
        (None, Some(bytes)) => {
            PathBuf::from(OsString::from_vec(hex::decode(bytes).map_err(|error| error.to_string())?))
        }
        _ => return Err("it needs one of `path` and `path_hex`".to_owned()),
    };
    if !path.is_absolute() {
        return Err(format!("`{}` is not an absolute path", path.display()));
    }
    let name = SafeName::new(&file.name).map_err(|error| error.to_string())?;
    Ok(OutboxItem::File { path, name })
}

/// Puts a file aside that is no entry, so that it is neither lost nor told of again.
fn put_aside(path: &Path, why: &str) -> String {
    let mut aside = path.as_os_str().to_owned();
    aside.push(DAMAGED);
    let aside = PathBuf::from(aside);
    let what = match fs::rename(path, &aside) {
        Ok(()) => format!("it is put aside as `{}`", aside.display()),
        Err(error) => format!("and cannot be put aside: {error}"),
    };
    format!(
        "`{}` of the outbox is damaged, and what it holds is not delivered: {why}; {what}",
        path.display()
    )
}

#[cfg(test)]
mod tests;
