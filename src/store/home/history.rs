//! `history.ndjson`: what was said, sent and received, for a person to look up.
//!
//! Each entry is a line of JSON, and new ones are written behind those that are there. A file that would
//! grow too large is replaced by one in which some gave way ([`fit`]). Several processes do this, one after
//! the other; one that is killed leaves the old file or the new one, and at worst half a line at the end.
//! Nothing depends on it: what is not understood in it is left out with a warning.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Home, HomeError, check_owner};
use crate::engine::{HistoryEntry, HistoryLine, HistoryQuery, bytes_in, fit};

const HISTORY: &str = "history.ndjson";

/// What the file is replaced by, while that is written. Has a fixed name, so that a process that was
/// killed leaves nothing behind that nobody finds.
const NEW_SUFFIX: &str = ".new";

/// To so much a file is made to fit that grows past twice as much; what is written at once is at most as much.
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

    /// Writes entries behind those that are there. What is left in `lines` after an error is not there,
    /// and can be written later.
    ///
    /// # Errors
    /// Where the file cannot be written, or is not this user's alone.
    pub fn append_history(&self, lines: &mut Vec<HistoryLine>) -> Result<(), HomeError> {
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
        let _lock = self.lock()?;
        let mut file = open()?;
        let mut there = check(&path, &file)?.len();
        if there > 0 && there + bytes_in(lines) as u64 > 2 * MAX_HISTORY_BYTES as u64 {
            thin(&path, &mut file)?;
            file = open()?;
            there = check(&path, &file)?.len();
        }
        let mut bytes = Vec::new();
        // A full disk or a crash leaves half a line, which is to spoil no other.
        let mut last = [b'\n'];
        if there > 0 {
            file.read_exact_at(&mut last, there - 1).map_err(failed)?;
        }
        if last != [b'\n'] {
            bytes.push(b'\n');
        }
        let mut ends = Vec::with_capacity(lines.len());
        for line in &*lines {
            bytes.extend_from_slice(line.bytes());
            ends.push(bytes.len());
        }
        let (written, result) = write_all(&mut file, &bytes);
        lines.drain(..ends.partition_point(|end| *end <= written));
        result.map_err(failed)
    }

    /// The latest of what is asked for, oldest first. Lines that are not understood are left out with a
    /// warning.
    ///
    /// # Errors
    /// Where the file cannot be read, or is not this user's alone.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryEntry>, HomeError> {
        let path = self.history_path();
        let mut file = match OpenOptions::new().read(true).custom_flags(NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(|error| HomeError::Io { what: "read", path: path.clone(), error })?,
        };
        let bytes = {
            // Nobody is in the middle of a line then.
            let _lock = self.lock()?;
            read_end(&path, &mut file)?
        };
        let mut found = VecDeque::new();
        for_each_entry(&path, &bytes, |entry| {
            if query.wants(&entry.of) {
                found.push_back(entry);
            }
            if found.len() > query.most {
                found.pop_front();
            }
        });
        Ok(found.into())
    }
}

/// Replaces a file by one in which there is room. Only under the lock: what others write behind it
/// meanwhile would be lost.
fn thin(path: &Path, file: &mut File) -> Result<(), HomeError> {
    let failed = |error| HomeError::Io { what: "make room in", path: path.to_owned(), error };
    // Whoever keeps it elsewhere has a link here, and keeps it there.
    let path = fs::canonicalize(path).map_err(failed)?;
    let bytes = read_end(&path, file)?;
    let mut lines = Vec::new();
    for_each_entry(&path, &bytes, |entry| lines.push(HistoryLine::new(&entry)));
    let lines = fit(lines, MAX_HISTORY_BYTES);
    let mut new = path.clone().into_os_string();
    new.push(NEW_SUFFIX);
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&lines.iter().map(HistoryLine::bytes).collect::<Vec<_>>().concat())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&new);
        failed(error)
    })
}

/// Goes through what stands in a file; what is not understood is told of.
fn for_each_entry(path: &Path, bytes: &[u8], mut each: impl FnMut(HistoryEntry)) {
    let mut odd = 0_u64;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(entry) => each(entry),
            Err(_) => odd += 1,
        }
    }
    if odd > 0 {
        let lines = if odd == 1 { "a line of it is" } else { &format!("{odd} of its lines are") };
        tracing::warn!("`{}` is damaged: {lines} left out", path.display());
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

/// The end of a file, from the beginning of a line on.
fn read_end(path: &Path, file: &mut File) -> Result<Vec<u8>, HomeError> {
    let failed = |error| HomeError::Io { what: "read", path: path.to_owned(), error };
    let skipped = check(path, file)?.len().saturating_sub(MAX_READ_BYTES);
    file.seek(SeekFrom::Start(skipped)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_READ_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    if skipped > 0 {
        let cut = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..cut);
    }
    Ok(bytes)
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
    use crate::wire::NodeId;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    fn line_of(from: u8, text: &str) -> HistoryLine {
        let what = Past::Message { direction: Direction::In, text: text.to_owned() };
        let node_id = Some(NodeId([from; 32]));
        let of = Remembered { peer: None, node_id, alias: None, stranger: false, what };
        HistoryLine::new(&HistoryEntry { time: jiff::Timestamp::UNIX_EPOCH, of })
    }

    fn line(text: &str) -> HistoryLine {
        line_of(1, text)
    }

    fn append(home: &Home, text: &str) {
        append_of(home, 1, text);
    }

    fn append_of(home: &Home, from: u8, text: &str) {
        let mut lines = vec![line_of(from, text)];
        home.append_history(&mut lines).unwrap();
        assert!(lines.is_empty());
    }

    fn texts(home: &Home, most: usize) -> Vec<String> {
        let text = |entry: HistoryEntry| match entry.of.what {
            Past::Message { text, .. } => text,
            Past::LeftOut { entries } => format!("{entries} left out"),
            other @ (Past::Undelivered { .. } | Past::Transfer(_)) => panic!("{other:?}"),
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
            let mut lines = vec![line("four")];
            assert!(matches!(home.append_history(&mut lines), Err(HomeError::NotPrivate(_))));
            assert_eq!(lines, [line("four")], "it can be written later");
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
        file.write_all(&half.bytes()[..half.bytes().len() / 2]).unwrap();
        append(&home, "behind it");
        assert_eq!(texts(&home, 9), ["good", "behind it"]);
    }

    fn size(home: &Home) -> usize {
        usize::try_from(fs::metadata(home.history_path()).unwrap().len()).unwrap()
    }

    /// A text of which 16 are more than fits.
    fn large(number: usize) -> String {
        format!("{} {number}", "x".repeat(MAX_HISTORY_BYTES / 16))
    }

    #[test]
    fn it_stays_bounded_and_a_flood_costs_only_whom_it_is_of() {
        let (_dir, home) = home();
        append_of(&home, 7, "dear to us");
        let sent = 50;
        for n in 1..=sent {
            append_of(&home, 66, &large(n));
            assert!(size(&home) <= 2 * MAX_HISTORY_BYTES, "{}", size(&home));
        }
        let kept = texts(&home, 99);
        assert_eq!(kept[0], "dear to us");
        let gone: usize = kept[1].strip_suffix(" left out").unwrap().parse().unwrap();
        assert_eq!(gone + kept.len() - 2, sent, "the latest of it is there, and what is not is counted");
        assert!(kept.last().unwrap().ends_with(&format!(" {sent}")));
    }

    #[test]
    fn whoever_was_killed_while_it_made_room_is_in_nobodys_way() {
        let (dir, home) = home();
        let new = dir.path().join("home").join("history.ndjson.new");
        fs::write(&new, "half of it").unwrap();
        for n in 0..40 {
            append(&home, &large(n));
        }
        assert!(!new.exists());
        assert!(texts(&home, 99).len() > 14 && size(&home) <= 2 * MAX_HISTORY_BYTES);
        // Where no room can be made what was there stays, and what comes waits.
        fs::create_dir(&new).unwrap();
        let mut lines: Vec<_> = (0..16).map(|n| line(&large(n))).collect();
        let (before, waits) = (texts(&home, 99), lines.clone());
        let mut more = lines.clone();
        let result = home.append_history(&mut lines).and_then(|()| home.append_history(&mut more));
        assert!(result.is_err());
        assert_eq!(more, waits);
        assert!(texts(&home, 99).starts_with(&before));
    }

    #[test]
    fn whoever_keeps_it_elsewhere_keeps_it_there() {
        let (dir, home) = home();
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, home.history_path()).unwrap();
        for n in 0..40 {
            append(&home, &large(n));
        }
        assert!(fs::symlink_metadata(home.history_path()).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&elsewhere).unwrap().is_file());
        assert!(texts(&home, 1)[0].ends_with(" 39"));
    }

    #[test]
    fn of_a_file_that_others_made_large_its_end_is_read() {
        let (dir, home) = home();
        append(&home, "before");
        let path = dir.path().join("home").join(HISTORY);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(4 * MAX_READ_BYTES).unwrap();
        file.write_all_at(&[b"\n", line("at its end").bytes()].concat(), 4 * MAX_READ_BYTES).unwrap();
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
    fn nobodys_line_is_lost_where_others_make_room() {
        let (_dir, home) = home();
        std::thread::scope(|scope| {
            let home = &home;
            scope.spawn(move || (0..50).for_each(|n| append_of(home, 66, &large(n))));
            scope.spawn(move || (0..400).for_each(|n| append_of(home, 7, &n.to_string())));
        });
        let kept = texts(&home, 999);
        let of_others: Vec<_> = kept.iter().filter(|text| text.len() <= 3).cloned().collect();
        assert_eq!(of_others, (0..400).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_what_is_no_file() {
        let (dir, home) = home();
        let path = dir.path().join("home").join(HISTORY);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(home.history(&HistoryQuery { whom: None, only: None, most: 1 }).is_err());
        assert!(home.append_history(&mut vec![line("text")]).is_err());
    }
}
