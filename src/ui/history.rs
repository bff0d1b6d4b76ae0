//! The lines that the arrow keys bring back, kept in the home directory.
//!
//! Several processes may share the file: each line is one write at its end, and a file that has
//! grown is put aside as a whole, so that nobody's lines are written over. What is damaged in it is
//! passed over. Nothing about a history is worth stopping for: whoever has trouble with it says so
//! once and goes on without.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file that has grown past this is put aside, where it stays until the next one is.
const MAX_BYTES: u64 = 256 << 10;

/// A longer line was pasted; it is kept only while the program runs.
const MAX_LINE_BYTES: usize = 4 << 10;

/// Where lines are kept from one run to the next.
#[derive(Debug)]
pub(super) struct History {
    home: PathBuf,
    /// Whether trouble was told already.
    troubled: bool,
}

impl History {
    /// Kept below this directory, which is made when there is a line to keep.
    pub(super) fn in_home(home: &Path) -> Self {
        Self { home: home.to_owned(), troubled: false }
    }

    /// The lines of earlier runs, oldest first, at most `most`.
    pub(super) fn load(&mut self, most: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for file in [self.old_file(), self.file()] {
            match read(&file) {
                Ok(read) => lines.extend(read),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.trouble(&error),
            }
        }
        lines.drain(..lines.len().saturating_sub(most));
        lines
    }

    /// Keeps a line. What begins with a space is not kept, as shells have it.
    pub(super) fn keep(&mut self, line: &str) {
        let unfit = line.trim().is_empty() || line.starts_with(' ') || line.len() > MAX_LINE_BYTES;
        if unfit || line.contains(char::is_control) {
            return;
        }
        if let Err(error) = self.append(line) {
            self.trouble(&error);
        }
    }

    fn append(&self, line: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.home)?;
        let open = || {
            let mut options = OpenOptions::new();
            options.append(true).read(true).create(true).mode(0o600).custom_flags(NONBLOCK);
            options.open(self.file())
        };
        let mut file = open()?;
        if regular(&file)?.len() > MAX_BYTES && self.put_aside(&file)? {
            file = open()?;
        }
        // In one write, which puts it behind whatever others have written.
        file.write_all(format!("{line}\n").as_bytes())
    }

    /// Makes room for a new file, unless somebody else is doing that or has done it.
    fn put_aside(&self, file: &File) -> io::Result<bool> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match std::fs::metadata(self.file()) {
            Ok(there) if there.ino() == file.metadata()?.ino() => {
                std::fs::rename(self.file(), self.old_file())?;
            }
            // Somebody else has done it, and may not have begun the new one yet.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn file(&self) -> PathBuf {
        self.home.join("history")
    }

    fn old_file(&self) -> PathBuf {
        self.home.join("history.old")
    }

    fn trouble(&mut self, error: &io::Error) {
        if !self.troubled {
            self.troubled = true;
            tracing::warn!("what you type is not kept in {}: {error}", self.file().display());
        }
    }
}

/// A pipe in the place of the file must not make us wait for its other end.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

fn regular(file: &File) -> io::Result<std::fs::Metadata> {
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(metadata) } else { Err(io::Error::other("it is no regular file")) }
}

/// The lines at the end of a file, as far as they are lines that could have been typed.
fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    let len = regular(&file)?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(2 * MAX_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(2 * MAX_BYTES).read_to_end(&mut bytes)?;
    let typed =
        |line: &&str| !line.is_empty() && line.len() <= MAX_LINE_BYTES && !line.contains(char::is_control);
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    Ok(lines.filter(typed).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn lines_come_back_in_a_file_that_is_nobody_elses_business() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("state/p2p");
        let mut history = History::in_home(&home);
        assert!(history.load(10).is_empty() && !home.exists(), "nothing is made to look");
        for line in ["one", "two", " private", "", "with\ncontrol", "ein Bär"] {
            history.keep(line);
        }
        history.keep(&"x".repeat(MAX_LINE_BYTES + 1));
        assert_eq!(History::in_home(&home).load(10), ["one", "two", "ein Bär"]);
        assert_eq!(History::in_home(&home).load(1), ["ein Bär"]);
        assert_eq!((mode(&home), mode(&home.join("history"))), (0o700, 0o600));
    }

    #[test]
    fn what_is_damaged_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("history"), b"good\n\xff\xfe\x00bad\nwith \x1b escape\nlast\ncut")
            .unwrap();
        let mut history = History::in_home(dir.path());
        assert_eq!(history.load(10), ["good", "last", "cut"]);
        assert!(!history.troubled);
    }

    #[test]
    fn a_history_that_cannot_be_kept_is_told_once_and_is_no_reason_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let mut below_a_file = History::in_home(&dir.path().join("file/home"));
        below_a_file.keep("one");
        assert!(below_a_file.troubled);

        std::fs::create_dir(dir.path().join("history")).unwrap();
        let mut no_file = History::in_home(dir.path());
        assert!(no_file.load(10).is_empty() && no_file.troubled);
        no_file.keep("one");

        let fifo = dir.path().join("home");
        std::fs::create_dir(&fifo).unwrap();
        let made = std::process::Command::new("mkfifo").arg(fifo.join("history")).status().unwrap();
        assert!(made.success());
        let mut pipe = History::in_home(&fifo);
        assert!(pipe.load(10).is_empty() && pipe.troubled, "and nobody waits for a pipe");
        pipe.keep("one");
    }

    #[test]
    fn it_stays_bounded_however_many_write() {
        let dir = tempfile::tempdir().unwrap();
        let line = "x".repeat(4000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut history = History::in_home(dir.path());
                    (0..100).for_each(|_| history.keep(&line));
                    assert!(!history.troubled);
                });
            }
        });
        let size = |name| std::fs::metadata(dir.path().join(name)).map_or(0, |file| file.len());
        // While one puts a file aside, the others go on writing to it.
        assert!(size("history") <= 2 * MAX_BYTES && size("history.old") <= 2 * MAX_BYTES);
        let kept = History::in_home(dir.path()).load(1000);
        assert!(kept.len() > 60 && kept.iter().all(|kept| *kept == line), "no line is torn");
    }
}
