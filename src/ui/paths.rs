//! Which files a typed line means, for which the disk is asked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::engine::Command;
use crate::wire::SafeName;

/// Makes of the rest of a line that is to be sent as many commands as it names files. All of it is one
/// path if there is something of that name, since names may contain spaces; else it is taken apart
/// like words of a shell, if that gives several of which one is there.
pub(super) fn one_for_each(command: Command) -> Vec<Command> {
    let Command::SendFile { to, path, name: None } = command else { return vec![command] };
    let home = std::env::var_os("HOME");
    let words = path.to_str().and_then(words).unwrap_or_default();
    let several: Vec<_> = words.iter().map(|word| word.path(home.as_deref())).collect();
    let paths = if !is_there(&path) && several.len() > 1 && several.iter().any(|path| is_there(path)) {
        several
    } else {
        vec![path]
    };
    paths
        .into_iter()
        .map(|path| Command::SendFile { to: to.clone(), name: name_of_place(&path), path })
        .collect()
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// What a directory is called whose path does not say it: `.`, `..` and the like.
pub(super) fn name_of_place(path: &Path) -> Option<SafeName> {
    if path.file_name().is_some() {
        return None;
    }
    let real = path.canonicalize().ok()?;
    SafeName::new(real.file_name()?.to_str()?).ok()
}

/// A word of a line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Word {
    text: String,
    /// Whether its first character was quoted, so that `~` is only a character.
    is_literal: bool,
}

impl Word {
    fn path(&self, home: Option<&OsStr>) -> PathBuf {
        match (self.text.strip_prefix("~/"), home) {
            (Some(below), Some(home)) if !self.is_literal => Path::new(home).join(below),
            _ => PathBuf::from(&self.text),
        }
    }
}

/// Takes a line apart as a shell does: quotes of both kinds, and backslashes outside of single ones.
/// `None` where a quote is not closed or nothing follows a backslash.
fn words(line: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let is_quoted = matches!(c, '\'' | '"' | '\\');
        let word = word.get_or_insert_with(|| Word { text: String::new(), is_literal: is_quoted });
        match c {
            '\\' => word.text.push(chars.next()?),
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => word.text.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => match chars.next()? {
                        c @ ('"' | '\\') => word.text.push(c),
                        c => word.text.extend(['\\', c]),
                    },
                    c => word.text.push(c),
                }
            },
            c => word.text.push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Option<Vec<String>> {
        words(line).map(|words| words.into_iter().map(|word| word.text).collect())
    }

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, expected) in [
            ("a  b\tc ", &["a", "b", "c"][..]),
            (r#""a b" 'c d' e\ f"#, &["a b", "c d", "e f"]),
            (r#"x"y z"'w "' \\ "\"" '\'"#, &["xy zw \"", "\\", "\"", "\\"]),
            (r#""" ''"#, &["", ""]),
            (r#""\n""#, &["\\n"]),
            ("", &[]),
        ] {
            assert_eq!(texts(line).unwrap(), expected, "{line}");
        }
        for unfinished in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(texts(unfinished), None, "{unfinished}");
        }
    }

    #[test]
    fn a_tilde_that_is_not_quoted_is_the_home() {
        let home = Some(OsStr::new("/home/me"));
        let paths: Vec<_> = words("~/a '~/b' \\~/c ~d").unwrap().iter().map(|word| word.path(home)).collect();
        assert_eq!(paths, ["/home/me/a", "~/b", "~/c", "~d"].map(PathBuf::from));
    }

    #[test]
    fn a_line_names_one_file_with_spaces_or_several_without() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b c", "a b c"] {
            std::fs::write(at(name), "x").unwrap();
        }
        let paths = |line: String| {
            let to: crate::engine::PeerRef = "a:1".parse().unwrap();
            one_for_each(Command::SendFile { to, path: line.into(), name: None })
                .into_iter()
                .map(|command| match command {
                    Command::SendFile { path, .. } => path,
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        let dir = dir.path().to_str().unwrap();
        assert_eq!(paths(format!("{dir}/a b c")), [at("a b c")]);
        assert_eq!(paths(format!("{dir}/a '{dir}/b c'")), [at("a"), at("b c")]);
        assert_eq!(paths(format!("{dir}/a {dir}/missing")), [at("a"), at("missing")]);
        let neither = format!("{dir}/x {dir}/y");
        assert_eq!(paths(neither.clone()), [PathBuf::from(neither)]);
    }

    #[test]
    fn a_directory_that_is_not_named_has_the_name_it_really_has() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(name_of_place(Path::new(".")).unwrap().as_str(), here.file_name().unwrap());
        assert_eq!(name_of_place(Path::new("a/..")), None, "it is not there");
        assert_eq!(name_of_place(Path::new("Cargo.toml")), None, "it says its name");
    }
}
