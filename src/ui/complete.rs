//! What the Tab key adds to a line, and what stands faintly behind it.
//!
//! Driven by the table of commands and by what was heard of. Reads directories, and nothing else;
//! asks nobody.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthStr as _;

use crate::engine::TransferId;
use crate::wire::is_deceptive;

use super::escape::escape;
use super::known::Known;
use super::parse::{COMMANDS, Spec, Takes};
use super::progress::shortened;

/// Names that are looked at in one directory.
const MAX_NAMES: usize = 10_000;

/// Candidates that are listed when there are several.
const MAX_LISTED: usize = 100;

/// What could stand at one place of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// Where it begins, in bytes.
    pub(super) start: usize,
    pub(super) candidates: Vec<Candidate>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// What is put into the line.
    pub(super) text: String,
    /// What is listed where there are several.
    pub(super) shown: String,
    /// What follows where it is the only one.
    after: &'static str,
}

impl Candidate {
    fn plain(text: String, after: &'static str) -> Self {
        Self { shown: text.clone(), text, after }
    }
}

/// What pressing Tab does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tab {
    /// Nothing fits.
    Nothing,
    /// This replaces the line from `start` to the cursor.
    Insert(usize, String),
    /// Several fit, and more must be typed; they are to be shown.
    List(String),
}

/// What Tab does after this beginning of a line, on a screen of that many columns.
pub(super) fn tab(typed: &str, known: &Known, columns: usize) -> Tab {
    let Completion { start, candidates } = complete(typed, known, std::env::var_os("HOME").as_deref());
    match candidates.as_slice() {
        [] => Tab::Nothing,
        [only] => Tab::Insert(start, format!("{}{}", only.text, only.after)),
        several => {
            let common = common_beginning(several);
            if common.len() > typed.len() - start {
                Tab::Insert(start, common.to_owned())
            } else {
                Tab::List(listed(several, columns))
            }
        }
    }
}

fn complete(typed: &str, known: &Known, home: Option<&OsStr>) -> Completion {
    let blank = typed.len() - typed.trim_start().len();
    let Some((name, rest)) = typed[blank..].split_once(char::is_whitespace) else {
        return Completion { start: blank, candidates: commands(&typed[blank..]) };
    };
    let spec = COMMANDS.iter().find(|spec| spec.name.eq_ignore_ascii_case(name));
    let nothing = Completion { start: typed.len(), candidates: Vec::new() };
    let Some(spec) = spec else { return nothing };
    let mut rest = rest.trim_start();
    for (index, takes) in spec.takes.iter().enumerate() {
        let last = index + 1 == spec.takes.len();
        if let (false, Some((_, more))) = (last, rest.split_once(char::is_whitespace)) {
            rest = more.trim_start();
            continue;
        }
        let start = typed.len() - rest.len();
        let after = if last { "" } else { " " };
        let candidates = match takes {
            Takes::Peer => names(rest, peers(rest, known), after),
            Takes::Known => names(rest, everybody(rest, known), after),
            Takes::Destination => destinations(rest, known),
            Takes::Offer => numbers(rest, known.transfers(true), true),
            Takes::Transfer => numbers(rest, known.transfers(false), false),
            Takes::Word(word) => names(rest, vec![(*word).to_owned()], after),
            Takes::Kept => numbers(rest, known.kept(), true),
            Takes::Command => commands(rest),
            Takes::Path => {
                let (name, candidates) = paths(rest, home);
                return Completion { start: typed.len() - name.len(), candidates };
            }
            Takes::Text => Vec::new(),
        };
        return Completion { start, candidates };
    }
    nothing
}

fn commands(typed: &str) -> Vec<Candidate> {
    let lower = typed.to_lowercase();
    let fitting = COMMANDS.iter().filter(|spec| spec.name.starts_with(&lower));
    fitting
        .map(|spec| Candidate::plain(spec.name.into(), if spec.takes.is_empty() { "" } else { " " }))
        .collect()
}

/// Where nothing was typed each peer has one name, else all that fit.
fn peers(typed: &str, known: &Known) -> Vec<String> {
    let shown = if typed.is_empty() { 1 } else { usize::MAX };
    known.peers().into_iter().flat_map(|names| names.into_iter().take(shown)).collect()
}

/// Who is connected, who has a name, and who was somewhere.
fn everybody(typed: &str, known: &Known) -> Vec<String> {
    let mut names = peers(typed, known);
    names.extend(known.aliases());
    let nameless = known.addresses().into_iter().filter(|(_, alias)| !typed.is_empty() || alias.is_none());
    names.extend(nameless.map(|(address, _)| address));
    names
}

/// The addresses that were typed before, and who has a name.
fn destinations(typed: &str, known: &Known) -> Vec<Candidate> {
    let mut addresses = known.addresses();
    let mut aliases = known.aliases();
    aliases.retain(|name| {
        let is_shown = addresses.iter().any(|(_, alias)| alias.as_ref() == Some(name));
        name.starts_with(typed) && !(typed.is_empty() && is_shown)
    });
    addresses.retain(|(address, _)| address.starts_with(typed));
    let shown = |address: &str, alias| match alias {
        Some(alias) => format!("{address} ({alias})"),
        None => address.to_owned(),
    };
    let addresses = addresses.into_iter().map(|(address, alias)| Candidate {
        shown: shown(&address, alias),
        text: address,
        after: "",
    });
    addresses.chain(names(typed, aliases, "")).collect()
}

fn names(typed: &str, mut names: Vec<String>, after: &'static str) -> Vec<Candidate> {
    names.retain(|name| name.starts_with(typed));
    names.sort();
    names.dedup();
    names.into_iter().map(|name| Candidate::plain(name, after)).collect()
}

fn numbers(typed: &str, numbered: Vec<(TransferId, String)>, or_all: bool) -> Vec<Candidate> {
    let mut fitting: Vec<_> = numbered
        .into_iter()
        .map(|(id, name)| (id.to_string(), name))
        .filter(|(id, _)| id.starts_with(typed))
        .map(|(id, name)| Candidate { shown: format!("{id} {}", escape(&name)), text: id, after: "" })
        .collect();
    if or_all && "all".starts_with(typed) && (!typed.is_empty() || !fitting.is_empty()) {
        fitting.push(Candidate::plain("all".to_owned(), ""));
    }
    fitting
}

/// The beginning of a name at the end of a path, and the names in that directory that begin so.
fn paths<'a>(typed: &'a str, home: Option<&OsStr>) -> (&'a str, Vec<Candidate>) {
    let quote = typed.chars().next().filter(|c| ['"', '\''].contains(c));
    let path = if quote.is_some() { &typed[1..] } else { typed };
    let (dir, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (&path[..=dir.len()], name));
    let place = match (dir.strip_prefix("~/"), home) {
        (Some(below), Some(home)) if quote.is_none() => Path::new(home).join(below),
        _ if dir.is_empty() => PathBuf::from("."),
        _ => PathBuf::from(dir),
    };
    let after = match quote {
        Some('"') => "\"",
        Some(_) => "'",
        None => "",
    };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten().take(MAX_NAMES);
    let mut candidates: Vec<_> = entries
        .filter_map(|entry| {
            let found = entry.file_name().into_string().ok()?;
            let hidden = found.starts_with('.') && !name.starts_with('.');
            // What is invisible could not be checked by whoever presses Enter.
            if hidden || !found.starts_with(name) || found.contains(is_deceptive) {
                return None;
            }
            let is_dir = entry.path().is_dir();
            Some(Candidate::plain(if is_dir { found + "/" } else { found }, if is_dir { "" } else { after }))
        })
        .collect();
    candidates.sort_by(|a, b| a.text.cmp(&b.text));
    (name, candidates)
}

fn common_beginning(candidates: &[Candidate]) -> &str {
    let first = candidates.first().map_or("", |candidate| candidate.text.as_str());
    let end = first
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| candidates.iter().all(|candidate| candidate.text.starts_with(&first[..*end])))
        .last();
    &first[..end.unwrap_or(0)]
}

/// The candidates in columns, read downwards.
fn listed(candidates: &[Candidate], columns: usize) -> String {
    let shown: Vec<_> = candidates
        .iter()
        .take(MAX_LISTED)
        .map(|candidate| shortened(&candidate.shown, columns.saturating_sub(1)))
        .collect();
    let widest = shown.iter().map(|text| text.width()).max().unwrap_or(1) + 2;
    let rows = shown.len().div_ceil((columns / widest).max(1)).max(1);
    let mut lines = vec![String::new(); rows];
    for (index, text) in shown.iter().enumerate() {
        let line = &mut lines[index % rows];
        let padding = (index / rows * widest).saturating_sub(line.width());
        line.extend(std::iter::repeat_n(' ', padding));
        line.push_str(text);
    }
    if candidates.len() > MAX_LISTED {
        lines.push(format!("and {} more", candidates.len() - MAX_LISTED));
    }
    lines.join("\n")
}

/// What could follow a line: the rest of a command's name, which the right arrow takes, and what
/// the arguments mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hint {
    /// All of it.
    pub(super) shown: String,
    /// How much of it is to be taken, in bytes.
    pub(super) taken: usize,
}

/// What could follow this line.
pub(super) fn hint(line: &str) -> Option<Hint> {
    let typed = line.trim_start();
    let Some((name, rest)) = typed.split_once(' ') else {
        // One letter fits too much.
        let fits = |spec: &&Spec| typed.len() > 1 && spec.name.starts_with(typed);
        // `send` itself comes before `sendfile` in the table.
        let spec = COMMANDS.iter().find(fits)?;
        let missing = &spec.name[typed.len()..];
        let shown = format!("{missing} {}", spec.arguments).trim_end().to_owned();
        return (!shown.is_empty()).then_some(Hint { shown, taken: missing.len() });
    };
    let spec: &Spec = COMMANDS.iter().find(|spec| spec.name == name)?;
    let words = rest.split_whitespace().count();
    let between = rest.is_empty() || rest.ends_with(' ');
    let missing = spec.arguments.split(' ').skip(words).collect::<Vec<_>>().join(" ");
    (between && !missing.is_empty()).then_some(Hint { shown: missing, taken: 0 })
}

#[cfg(test)]
mod tests;
