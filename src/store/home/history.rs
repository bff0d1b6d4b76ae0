//! `history.ndjson`: what was said, sent and received, for a person to look up.
//!
//! Each entry is a line of JSON. Several processes write behind each other, whole lines in one write; a
//! file that would grow too large is put aside as a whole, in the place of the one that was put aside
//! before. Invariant: what was written as a whole is never changed. Nothing depends on it: what is not
//! understood in it is left out with a warning.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Home, HomeError, check_owner};
use crate::engine::{HistoryEntry, HistoryQuery};

const HISTORY: &str = "history.ndjson";

/// The file that was put aside.
const BEFORE: &str = "history.old.ndjson";

/// A file is put aside before it grows past this; what is written at once is at most as much.
pub(crate) const MAX_HISTORY_BYTES: usize = 4 << 20;

/// What is read of a file that others have made larger: its end.
const MAX_READ_BYTES: u64 = 3 * MAX_HISTORY_BYTES as u64;

/// A pipe in the place of a file must not make us wait for its other end.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

impl Home {
    /// Where it is.
    pub fn history_path(&self) -> PathBuf {
        self.path.join(HISTORY)
    }

    /// Writes entries, of which each is a line, behind those that are there. What is left in `lines`
    /// after an error is not there, and can be written later.
    ///
    /// # Errors
    /// Where the file cannot be written, or is not this user's alone.
    pub fn append_history(&self, lines: &mut Vec<u8>) -> Result<(), HomeError> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.history_path();
        let failed = |error| HomeError::Io { what: "write", path: path.clone(), error };
        let open = || {
            let mut options = OpenOptions::new();
            options.append(true).read(true).create(true).mode(0o600).custom_flags(NONBLOCK);
            options.open(&path).map_err(failed)
        };
        let mut file = open()?;
        let mut there = check(&path, &file)?.len();
        if there > 0 && there + lines.len() as u64 > MAX_HISTORY_BYTES as u64 {
            self.put_history_aside(&path, &file)?;
            file = open()?;
            there = check(&path, &file)?.len();
        }
        // A full disk or a crash leaves half a line, which is to spoil no other.
        let mut last = [b'\n'];
        if there > 0 {
            file.read_exact_at(&mut last, there - 1).map_err(failed)?;
        }
        if last != [b'\n'] && lines.first() != Some(&b'\n') {
            lines.insert(0, b'\n');
        }
        let (written, result) = write_all(&mut file, lines);
        let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        lines.drain(..whole);
        result.map_err(failed)
    }

    /// Makes room for a new file, unless somebody else has done it.
    fn put_history_aside(&self, path: &Path, file: &File) -> Result<(), HomeError> {
        let failed = |error| HomeError::Io { what: "put aside", path: path.to_owned(), error };
        let _lock = self.lock()?;
        match fs::metadata(path) {
            Ok(there) if there.ino() == file.metadata().map_err(failed)?.ino() => {
                fs::rename(path, self.path.join(BEFORE)).map_err(failed)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The latest of what is asked for, oldest first. Lines that are not understood are left out with a
    /// warning.
    ///
    /// # Errors
    /// Where a file cannot be read, or is not this user's alone.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryEntry>, HomeError> {
        let mut found = VecDeque::new();
        // So that nobody puts a file aside in between.
        let lock = self.lock()?;
        let mut read = Vec::new();
        for name in [BEFORE, HISTORY] {
            let path = self.path.join(name);
            let Some(bytes) = read_end(&path)? else { continue };
            read.push((path, bytes));
        }
        drop(lock);
        for (path, bytes) in read {
            let mut odd = 0_u64;
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match serde_json::from_slice::<HistoryEntry>(line) {
                    Ok(entry) if query.wants(&entry.of) => found.push_back(entry),
                    Ok(_) => {}
                    Err(_) => odd += 1,
                }
                if found.len() > query.most {
                    found.pop_front();
                }
            }
            if odd > 0 {
                let lines = if odd == 1 { "a line of it is" } else { &format!("{odd} of its lines are") };
                tracing::warn!("`{}` is damaged: {lines} left out", path.display());
            }
        }
        Ok(found.into())
    }
}

/// Writes as much as goes, and answers how much that was.
fn write_all(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// The end of a file, from the beginning of a line on; `None` where there is no file.
fn read_end(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    let failed = |error| HomeError::Io { what: "read", path: path.to_owned(), error };
    let mut file = match OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let skipped = check(path, &file)?.len().saturating_sub(MAX_READ_BYTES);
    file.seek(SeekFrom::Start(skipped)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_READ_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    if skipped > 0 {
        let cut = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..cut);
    }
    Ok(Some(bytes))
}

/// Whether it is a file that nobody but this user reads or writes.
fn check(path: &Path, file: &File) -> Result<fs::Metadata, HomeError> {
    let io = |error| HomeError::Io { what: "look at", path: path.to_owned(), error };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        let why = "it is not a regular file".to_owned();
        return Err(HomeError::Damaged { path: path.to_owned(), why });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(HomeError::NotPrivate(path.to_owned()));
    }
    check_owner(path, &metadata)?;
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Direction, Past, Remembered};

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    fn line(text: &str) -> Vec<u8> {
        let what = Past::Message { direction: Direction::In, text: text.to_owned() };
        let of = Remembered { peer: None, node_id: None, alias: None, what };
        let entry = HistoryEntry { time: jiff::Timestamp::UNIX_EPOCH, of };
        [serde_json::to_vec(&entry).unwrap(), vec![b'\n']].concat()
    }

    fn append(home: &Home, text: &str) {
        let mut lines = line(text);
        home.append_history(&mut lines).unwrap();
        assert!(lines.is_empty());
    }

    fn texts(home: &Home, most: usize) -> Vec<String> {
        let text = |entry: HistoryEntry| match entry.of.what {
            Past::Message { text, .. } => text,
            other => panic!("{other:?}"),
        };
        let found = home.history(&HistoryQuery { whom: None, only: None, most }).unwrap();
        found.into_iter().map(text).collect()
    }

    #[test]
    fn what_was_written_is_read_in_order_and_is_nobody_elses_business() {
        let (dir, home) = home();
        assert!(texts(&home, 9).is_empty());
        let path = dir.path().join("home").join(HISTORY);
        assert!(!path.exists(), "nothing is made to look");
        for text in ["one", "two\nlines", "three"] {
            append(&home, text);
        }
        assert_eq!(texts(&home, 9), ["one", "two\nlines", "three"]);
        assert_eq!(texts(&home, 2), ["two\nlines", "three"], "the latest");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o606, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let query = HistoryQuery { whom: None, only: None, most: 1 };
            assert!(matches!(home.history(&query), Err(HomeError::NotPrivate(_))), "{mode:o}");
            let mut lines = line("four");
            assert!(matches!(home.append_history(&mut lines), Err(HomeError::NotPrivate(_))));
            assert_eq!(lines, line("four"), "it can be written later");
        }
    }

    #[test]
    fn what_is_damaged_or_torn_is_left_out_and_spoils_nothing_else() {
        let (dir, home) = home();
        let path = dir.path().join("home").join(HISTORY);
        append(&home, "good");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"rubbish\n\xff\xfe\n\0\0\0\n{}\n\n").unwrap();
        let half = line("half a line");
        file.write_all(&half[..half.len() / 2]).unwrap();
        append(&home, "behind it");
        assert_eq!(texts(&home, 9), ["good", "behind it"]);
    }

    #[test]
    fn it_stays_bounded_and_what_was_put_aside_is_read_too() {
        let (dir, home) = home();
        let long = "x".repeat(MAX_HISTORY_BYTES / 4);
        for _ in 0..9 {
            append(&home, &long);
        }
        append(&home, "last");
        let size = |name| fs::metadata(dir.path().join("home").join(name)).unwrap().len();
        for name in [HISTORY, BEFORE] {
            assert!((1..=MAX_HISTORY_BYTES as u64).contains(&size(name)), "{name} has {}", size(name));
        }
        let kept = texts(&home, 99);
        assert!((4..9).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap(), "last");
    }

    #[test]
    fn of_a_file_that_others_made_large_its_end_is_read() {
        let (dir, home) = home();
        append(&home, "before");
        let path = dir.path().join("home").join(HISTORY);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(4 * MAX_READ_BYTES).unwrap();
        file.write_all_at(&[b"\n".as_slice(), &line("at its end")].concat(), 4 * MAX_READ_BYTES).unwrap();
        assert_eq!(texts(&home, 9), ["at its end"]);
    }

    #[test]
    fn many_may_write_and_no_line_is_torn_or_lost() {
        let (_dir, home) = home();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let home = &home;
                scope.spawn(move || (0..100).for_each(|n| append(home, &format!("{writer} {n}"))));
            }
        });
        let kept = texts(&home, 999);
        assert_eq!(kept.len(), 400);
        for writer in 0..4 {
            let of = kept.iter().filter(|text| text.starts_with(&format!("{writer} ")));
            let ordered: Vec<_> = (0..100).map(|n| format!("{writer} {n}")).collect();
            assert!(of.eq(ordered.iter()));
        }
    }

    #[test]
    fn nobody_waits_for_what_is_no_file() {
        let (dir, home) = home();
        let path = dir.path().join("home").join(HISTORY);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(home.history(&HistoryQuery { whom: None, only: None, most: 1 }).is_err());
        assert!(home.append_history(&mut line("text")).is_err());
    }
}
