//! File names that came from a peer.

use std::fmt;

use thiserror::Error;

/// Longest name a file may have, in bytes: what Linux and macOS file systems allow.
const MAX_NAME_BYTES: usize = 255;

/// Why a name is not one that a file may be given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadName {
    /// The empty string.
    #[error("the file name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("the file name stands for a directory")]
    Directory,
    /// More than 255 bytes.
    #[error("the file name has {0} bytes, more than 255")]
    TooLong(usize),
    /// A path separator.
    #[error("the file name contains a path separator")]
    Separator,
    /// NUL, a control character, or one that changes the direction of the text around it.
    #[error("the file name contains the invisible character U+{:04X}", u32::from(*.0))]
    Invisible(char),
    /// Not UTF-8 (a name of our own that could not be put in a message).
    #[error("the file name is not valid UTF-8")]
    NotUtf8,
}

/// A single path component that is safe to create and safe to show.
///
/// Anything legal on this system stays legal (`aux.c`, a colon, a backslash on Linux); only what
/// leaves the directory, cannot exist, or would lie to the reader's eye is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeName(String);

impl SafeName {
    /// Checks a name.
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub fn new(name: &str) -> Result<Self, BadName> {
        Self::check(name).map(|()| Self(name.to_owned()))
    }

    /// Checks what is not to be kept.
    pub(super) fn check(name: &str) -> Result<(), BadName> {
        if name.is_empty() {
            return Err(BadName::Empty);
        }
        if name == "." || name == ".." {
            return Err(BadName::Directory);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(BadName::TooLong(name.len()));
        }
        if name.contains(std::path::is_separator) {
            return Err(BadName::Separator);
        }
        if let Some(found) = name.chars().find(|&c| is_deceptive(c)) {
            return Err(BadName::Invisible(found));
        }
        Ok(())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name a file gets when this one is taken: `report (1).pdf`, cut to fit where the number
    /// would make it too long.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        // A leading dot is part of the stem: `.bashrc (1)`, not ` (1).bashrc`.
        match self.0.rfind('.') {
            Some(dot) if dot > 0 => self.numbered_before(dot, number),
            _ => self.numbered_directory(number),
        }
    }

    /// The same for a directory, which has no extension: `web-1.2 (1)`.
    #[must_use]
    pub fn numbered_directory(&self, number: u32) -> Self {
        self.numbered_before(self.0.len(), number)
    }

    fn numbered_before(&self, at: usize, number: u32) -> Self {
        let (stem, extension) = self.0.split_at(at);
        let mark = format!(" ({number})");
        let room = MAX_NAME_BYTES - mark.len();
        // An "extension" that leaves no room for a stem is no extension.
        let (stem, extension) =
            if extension.len() < room { (stem, extension) } else { (self.0.as_str(), "") };
        let mut end = stem.len().min(room - extension.len());
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        Self(format!("{}{mark}{extension}", &stem[..end]))
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a character is invisible and acts on what stands around it: controls (C0, DEL, C1),
/// the bidirectional formatting characters of UAX #9, and the line and paragraph separators.
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061C}' | '\u{200E}' | '\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_leave_the_directory_or_lie_are_refused() {
        let long = "x".repeat(256);
        for bad in [
            "",
            ".",
            "..",
            "/",
            "a/b",
            "../x",
            "/etc/passwd",
            "a\0b",
            "a\nb",
            "\x1b[2J",
            "a\u{202E}fdp.exe",
            "\u{85}",
            &long,
        ] {
            assert!(SafeName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whatever_is_legal_here_stays_legal() {
        for good in ["a", "...", ".hidden", "aux.c", "a:b", "ein Bär.txt", "日本語", " ", "-rf", "a (1)"]
        {
            assert_eq!(SafeName::new(good).unwrap().as_str(), good);
        }
        #[cfg(unix)]
        assert!(SafeName::new("a\\b").is_ok());
    }

    #[test]
    fn numbers_go_before_the_extension() {
        let numbered = |name: &str| SafeName::new(name).unwrap().numbered(1).0;
        assert_eq!(numbered("report.pdf"), "report (1).pdf");
        assert_eq!(numbered("Makefile"), "Makefile (1)");
        assert_eq!(numbered(".bashrc"), ".bashrc (1)");
    }

    proptest! {
        #[test]
        fn a_numbered_name_is_still_safe(name in "\\PC{1,90}", number in any::<u32>()) {
            if let Ok(name) = SafeName::new(&name) {
                let numbered = name.numbered(number);
                prop_assert_eq!(SafeName::new(numbered.as_str()), Ok(numbered.clone()));
                prop_assert_ne!(numbered, name);
            }
        }
    }
}
