//! `shown`: the keys of texts that were shown, so that none is shown again after a restart, or by another process.
//!
//! A line for each: who said it and its key. Lines are added under the home's lock, each batch with one write that
//! is synced before its texts are acknowledged. A file that has grown long is replaced by one with what is still
//! worth remembering. Lines that are damaged are left out with a warning.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::{Arc, Mutex};

use super::{Home, HomeError, check_owner};
use crate::engine::ShownKeys;
use crate::store::held::lock;
use crate::wire::{NodeId, TextKey};

const SHOWN: &str = "shown";

/// Bytes of a line: two numbers in hexadecimal, a space and the line's end.
const LINE_BYTES: u64 = 64 + 1 + 32 + 1;

/// Lines after which it is written anew; twice what is remembered.
const MAX_LINES: u64 = 65_536;

/// The keys of a home, and how far this process has read them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shown {
    home: Home,
    /// The file that was read, and how much of it.
    read: Arc<Mutex<Option<(u64, u64)>>>,
}

impl Shown {
    /// Those of that home.
    pub fn of(home: &Home) -> Self {
        Self { home: home.clone(), read: Arc::default() }
    }

    /// What was added since it was last read.
    ///
    /// # Errors
    /// Where the file cannot be read, or others can change it.
    pub fn news(&self) -> Result<Vec<(NodeId, TextKey)>, HomeError> {
        let path = self.home.path.join(SHOWN);
        let io = |error| HomeError::Io { what: "read", path: path.clone(), error };
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a flag of open(2) is an int");
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(io)?,
        };
        let metadata = file.metadata().map_err(io)?;
        check_owner(&path, &metadata)?;
        let mut read = lock(&self.read);
        let is_it = |(inode, from): &(u64, u64)| *inode == metadata.ino() && *from <= metadata.len();
        let from = read.filter(is_it).map_or(0, |(_, from)| from);
        if from == metadata.len() {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).map_err(io)?;
        file.take(2 * MAX_LINES * LINE_BYTES).read_to_end(&mut bytes).map_err(io)?;
        // What follows the last line's end is being written, or was cut off.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        *read = Some((metadata.ino(), from + whole as u64));
        let lines: Vec<_> =
            bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let keys: Vec<_> = lines.iter().filter_map(|line| key_of(line)).collect();
        if keys.len() < lines.len() {
            tracing::warn!(
                "`{}` is damaged: {} of its lines are left out",
                path.display(),
                lines.len() - keys.len()
            );
        }
        Ok(keys)
    }

    /// Notes these, synced.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn add(&self, keys: &[(NodeId, TextKey)]) -> Result<(), HomeError> {
        let path = self.home.path.join(SHOWN);
        let io = |error| HomeError::Io { what: "write", path: path.clone(), error };
        let _lock = self.home.lock()?;
        let mut file =
            OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let lines: String = keys.iter().map(|(from, key)| line_of(*from, *key)).collect();
        // A line that was cut off must not spoil the next.
        let lines = if ends_a_line(&mut file, length).map_err(io)? { lines } else { format!("\n{lines}") };
        file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()).map_err(io)?;
        if length / LINE_BYTES >= MAX_LINES {
            return self.compact(&mut file);
        }
        if length == 0 {
            self.home.sync();
        }
        Ok(())
    }

    /// Writes it anew with what is still to be remembered.
    fn compact(&self, file: &mut File) -> Result<(), HomeError> {
        let path = self.home.path.join(SHOWN);
        let io = |error| HomeError::Io { what: "read", path: path.clone(), error };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        file.take(2 * MAX_LINES * LINE_BYTES).read_to_end(&mut bytes).map_err(io)?;
        let mut keys = ShownKeys::default();
        for (from, key) in bytes.split(|byte| *byte == b'\n').filter_map(key_of) {
            keys.insert(from, key);
        }
        let lines: String = keys.iter().map(|(from, key)| line_of(from, key)).collect();
        self.home.replace(SHOWN, &lines)
    }
}

fn ends_a_line(file: &mut File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte == [b'\n'])
}

fn line_of(from: NodeId, key: TextKey) -> String {
    format!("{from} {key}\n")
}

fn key_of(line: &[u8]) -> Option<(NodeId, TextKey)> {
    let (from, key) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((from.parse().ok()?, key.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    const A: NodeId = NodeId([0xa; 32]);

    fn keys(from: u128, to: u128) -> Vec<(NodeId, TextKey)> {
        (from..to).map(|number| (A, TextKey(number))).collect()
    }

    #[test]
    fn what_one_process_notes_another_reads_once() {
        let (_dir, home) = home();
        let (one, other) = (Shown::of(&home), Shown::of(&home));
        assert_eq!(one.news().unwrap(), []);
        one.add(&keys(0, 3)).unwrap();
        assert_eq!(other.news().unwrap(), keys(0, 3));
        other.add(&keys(3, 4)).unwrap();
        assert_eq!(other.news().unwrap(), keys(3, 4));
        assert_eq!(other.news().unwrap(), []);
        assert_eq!(Shown::of(&home).news().unwrap(), keys(0, 4));
    }

    #[test]
    fn lines_that_are_damaged_or_cut_off_are_left_out_and_spoil_no_other() {
        let (dir, home) = home();
        let path = dir.path().join("home").join(SHOWN);
        Shown::of(&home).add(&keys(0, 1)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"rubbish\n\xff\xfe\n0a0a").unwrap();
        let shown = Shown::of(&home);
        assert_eq!(shown.news().unwrap(), keys(0, 1));
        shown.add(&keys(1, 2)).unwrap();
        assert_eq!(shown.news().unwrap(), keys(1, 2));
        assert_eq!(Shown::of(&home).news().unwrap(), keys(0, 2));
    }

    #[test]
    fn a_file_that_has_grown_long_is_written_anew_with_the_latest() {
        let (dir, home) = home();
        let shown = Shown::of(&home);
        let many = MAX_LINES.into();
        shown.add(&keys(0, many)).unwrap();
        shown.add(&keys(many, many + 1)).unwrap();
        let length = std::fs::metadata(dir.path().join("home").join(SHOWN)).unwrap().len();
        assert!(length < MAX_LINES * LINE_BYTES / 2, "{length}");
        let left = Shown::of(&home).news().unwrap();
        assert_eq!(left.last(), Some(&(A, TextKey(many))));
        shown.add(&keys(many + 1, many + 2)).unwrap();
        assert!(shown.news().unwrap().ends_with(&keys(many + 1, many + 2)));
    }

    #[test]
    fn a_file_that_others_can_change_is_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, home) = home();
        let shown = Shown::of(&home);
        shown.add(&keys(0, 1)).unwrap();
        let path = dir.path().join("home").join(SHOWN);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(shown.news().unwrap_err().to_string().contains("chmod go-w"));
    }
}
