//! The file of settings: where it is, whether it is to be believed, and what it says.
//!
//! TOML whose keys are the options, with `_` for `-`; what each may be is what its definition allows.
//! `[[accept_rule]]` is what no option can say. **Invariant**: what is in it is understood, all of it, or
//! it is an error that says where; nothing is skipped. What others could have written is not read.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::Arg;
use rustix::fs::OFlags;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::command::{CONFIG, Kind, closest, is_setting, judge, options};
use crate::engine::{AcceptRule, Treatment};
use crate::size;

/// What names no file.
const NONE: &str = "none";

const RULES: &str = "accept_rule";

/// What a rule may have.
const KEYS_OF_RULE: [&str; 4] = ["action", "from", "name", "max_size"];

/// No file of settings is larger, in bytes.
const LARGEST: u64 = 1 << 20;

/// A person never gets near it.
const MOST_RULES: usize = 256;

/// Where the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// There is to be none.
    None,
    /// Where it usually is, where it may be missing.
    Usual(PathBuf),
    /// Where somebody says that it is.
    Named(PathBuf),
}

impl Place {
    /// The place that was named, else the usual one: the XDG base directory specification, version 0.8.
    pub(super) fn of(named: Option<&Path>) -> Self {
        match named {
            Some(name) if name == Path::new(NONE) => Self::None,
            Some(path) => Self::Named(path.to_owned()),
            None => {
                let absolute =
                    |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
                let place =
                    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
                place.map_or(Self::None, |place| Self::Usual(place.join("p2p/config.toml")))
            }
        }
    }

    /// The path, if there may be a file.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Usual(path) | Self::Named(path) => Some(path),
        }
    }
}

/// What the file says of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    line: usize,
    values: Vec<OsString>,
}

/// What the file says.
#[derive(Debug, Clone, Default)]
pub(super) struct File {
    /// Where it was, if it was there.
    path: Option<PathBuf>,
    settings: BTreeMap<String, Said>,
    rules: Vec<AcceptRule>,
}

impl File {
    /// Reads it, if it is there.
    ///
    /// # Errors
    /// Which line of which file is wrong, and what it may be instead.
    pub(super) fn read(place: &Place) -> Result<Self, String> {
        let Some(path) = place.path() else { return Ok(Self::default()) };
        let text = match read_own(path) {
            Err(Unread::NotThere) if matches!(place, Place::Usual(_)) => return Ok(Self::default()),
            Err(Unread::NotThere) => {
                return Err(format!(
                    "there is no file of settings `{}`; `--config none` does without one",
                    path.display()
                ));
            }
            Err(Unread::Because(why)) => {
                return Err(format!("cannot use the settings in `{}`: {why}", path.display()));
            }
            Ok(text) => text,
        };
        let (settings, rules) =
            understand(&text).map_err(|Wrong { at, why }| match at.and_then(|at| text.get(..at)) {
                Some(before) => format!("{}, line {}: {why}", path.display(), line_after(before)),
                None => format!("{}: {why}", path.display()),
            })?;
        Ok(Self { path: Some(path.to_owned()), settings, rules })
    }

    /// Where it was read from, if it was there.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The rules in it.
    pub(super) fn rules(&self) -> &[AcceptRule] {
        &self.rules
    }

    /// The line that says something of an option.
    pub(super) fn line_of(&self, option: &str) -> Option<usize> {
        self.settings.get(option).map(|said| said.line)
    }

    /// Makes what it says of an option what holds where nobody says anything else.
    pub(super) fn default_of(&self, option: Arg) -> Arg {
        match self.settings.get(option.get_id().as_str()) {
            // A command may have something of the same name that is no option of a node.
            Some(said) if is_setting(&option) => option.default_values(said.values.clone()),
            _ => option,
        }
    }
}

enum Unread {
    NotThere,
    Because(String),
}

/// The text of a file that nobody else can have written.
fn read_own(path: &Path) -> Result<String, Unread> {
    let because = |why: &str| Unread::Because(why.to_owned());
    // A pipe that nobody writes to must not hold up the start.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a flag of open(2) is an int");
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unread::NotThere,
            _ => Unread::Because(error.to_string()),
        })?;
    let metadata = file.metadata().map_err(|error| Unread::Because(error.to_string()))?;
    if !metadata.is_file() {
        return Err(because("it is not a regular file"));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(because("it belongs to another user, who could have your files sent elsewhere by it"));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        let path = path.display();
        let why = format!(
            "others can change it, and so could decide whose files you take; if all in it is right: chmod go-w '{path}'"
        );
        return Err(Unread::Because(why));
    }
    let mut text = String::new();
    match file.take(LARGEST + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(because("it is not text")),
        Err(error) => Err(Unread::Because(error.to_string())),
        Ok(read) if read as u64 > LARGEST => Err(because("it is too large")),
        Ok(_) => Ok(text),
    }
}

/// What is wrong, and at which byte.
#[derive(Debug)]
struct Wrong {
    at: Option<usize>,
    why: String,
}

fn wrong<T>(at: &Spanned<T>, why: impl Into<String>) -> Wrong {
    Wrong { at: Some(at.span().start), why: why.into() }
}

fn line_after(before: &str) -> usize {
    before.matches('\n').count() + 1
}

type Understood = (BTreeMap<String, Said>, Vec<AcceptRule>);

fn understand(text: &str) -> Result<Understood, Wrong> {
    let table = DeTable::parse(text).map_err(|error| Wrong {
        at: error.span().map(|span| span.start),
        why: error.message().replace('\n', ", "),
    })?;
    let options = options();
    let home = std::env::var_os("HOME");
    let (mut settings, mut rules) = (BTreeMap::new(), Vec::new());
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        if name == RULES {
            rules = rules_of(value)?;
            continue;
        }
        let Some(option) = options.iter().find(|option| option.get_id() == name) else {
            return Err(wrong(key, unknown(name, &options)));
        };
        let values = values_of(option, value, home.as_deref())?;
        for text in &values {
            judge(option, text).map_err(|why| {
                wrong(value, format!("`{name}` cannot be {:?}: {why}", text.to_string_lossy()))
            })?;
        }
        settings.insert(name.to_owned(), Said { line: line_after(&text[..key.span().start]), values });
    }
    Ok((settings, rules))
}

fn unknown(name: &str, options: &[Arg]) -> String {
    if name == CONFIG {
        return "a file of settings cannot name another one".to_owned();
    }
    let names = options.iter().map(|option| option.get_id().as_str()).chain([RULES]);
    match closest(&name.replace('-', "_"), names) {
        Some(meant) => format!("there is no option `{}`; did you mean `{meant}`?", name.escape_debug()),
        None => format!("there is no option `{}`; `p2p config` lists them", name.escape_debug()),
    }
}

/// The values of an option as they would be typed.
fn values_of(
    option: &Arg,
    value: &Spanned<DeValue<'_>>,
    home: Option<&OsStr>,
) -> Result<Vec<OsString>, Wrong> {
    let name = option.get_id();
    let takes = |what: &str| {
        let found = value.get_ref().type_str();
        let found = if found.starts_with(['a', 'i']) { format!("an {found}") } else { format!("a {found}") };
        wrong(value, format!("`{name}` takes {what}, not {found}"))
    };
    let unit = || match option.get_value_names() {
        Some([unit, ..]) => format!(" ({unit})"),
        _ => String::new(),
    };
    let text = match (Kind::of(option), value.get_ref()) {
        (Kind::Switch, DeValue::Boolean(is_on)) => is_on.to_string().into(),
        (Kind::Switch, _) => return Err(takes("true or false, without quotes")),
        (Kind::Number | Kind::Text, DeValue::Integer(number)) if number.radix() == 10 => {
            number.as_str().into()
        }
        (Kind::Number, _) => return Err(takes(&format!("a whole number{}", unit()))),
        (Kind::Path, DeValue::String(text)) => match (text.strip_prefix("~/"), home) {
            (Some(below), Some(home)) => Path::new(home).join(below).into_os_string(),
            _ => text.as_ref().into(),
        },
        (Kind::Text | Kind::List, DeValue::String(text)) => text.as_ref().into(),
        (Kind::List, DeValue::Array(list)) => {
            let texts = list.iter().map(|entry| entry.get_ref().as_str().map(OsString::from));
            return texts.collect::<Option<_>>().ok_or_else(|| takes("a list of texts in quotes"));
        }
        (Kind::Path | Kind::Text, _) => return Err(takes(&format!("text in quotes{}", unit()))),
        (Kind::List, _) => return Err(takes(&format!("text in quotes{}, or a list of such", unit()))),
    };
    Ok(vec![text])
}

fn rules_of(value: &Spanned<DeValue<'_>>) -> Result<Vec<AcceptRule>, Wrong> {
    let no_tables =
        || wrong(value, format!("each rule begins with a line `[[{RULES}]]`, in double brackets"));
    let list = value.get_ref().as_array().ok_or_else(no_tables)?;
    if list.len() > MOST_RULES {
        return Err(wrong(value, format!("there are more than {MOST_RULES} rules")));
    }
    list.iter().map(|rule| rule_of(rule, rule.get_ref().as_table().ok_or_else(no_tables)?)).collect()
}

fn rule_of(rule: &Spanned<DeValue<'_>>, table: &DeTable<'_>) -> Result<AcceptRule, Wrong> {
    for key in table.keys() {
        let name: &str = key.get_ref();
        if KEYS_OF_RULE.contains(&name) {
            continue;
        }
        let shown = name.escape_debug();
        let why = match closest(&name.replace('-', "_"), KEYS_OF_RULE.into_iter()) {
            Some(meant) => format!("a rule has no `{shown}`; did you mean `{meant}`?"),
            None => format!("a rule has no `{shown}`, but {}", KEYS_OF_RULE.join(", ")),
        };
        return Err(wrong(key, why));
    }
    let text = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(value) => match value.get_ref().as_str() {
            Some(text) => Ok(Some((value, text.to_owned()))),
            None => Err(wrong(value, format!("`{key}` of a rule takes text in quotes"))),
        },
    };
    let action = match text("action")? {
        Some((_, word)) if word == "accept" => Treatment::Accept,
        Some((_, word)) if word == "ask" => Treatment::Ask,
        Some((_, word)) if word == "reject" => Treatment::Reject,
        Some((at, word)) => {
            return Err(wrong(at, format!("`action` cannot be {word:?}: it is one of accept, ask, reject")));
        }
        None => return Err(wrong(rule, "a rule needs an `action`: accept, ask or reject")),
    };
    let Some((at, from)) = text("from")? else {
        return Err(wrong(rule, "a rule needs a `from`: trusted, known, anyone, an alias or an identity"));
    };
    let from = from.parse().map_err(|failure: crate::engine::Failure| wrong(at, failure.message))?;
    let name = match text("name")? {
        Some((at, pattern)) => {
            Some(pattern.parse().map_err(|failure: crate::engine::Failure| wrong(at, failure.message))?)
        }
        None => None,
    };
    let max_size = match table.get("max_size") {
        None => None,
        Some(value) => {
            let text = match value.get_ref() {
                DeValue::String(text) => text.as_ref(),
                DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
                _ => return Err(wrong(value, "`max_size` takes a size like \"500MB\"")),
            };
            let size = size::parse(text).map_err(|error| {
                wrong(value, format!("`max_size` cannot be {text:?}: {error}; write it like 500MB or 2GiB"))
            })?;
            Some(size)
        }
    };
    Ok(AcceptRule { from, name, max_size, action })
}
