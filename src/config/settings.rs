//! What each option is set to, and who says so.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::{Value, json};

use super::command::{Kind, options};
use super::file::{File, Place};
use super::values::usual_home;
use crate::engine::AcceptRule;

/// Everything that says what options are set to.
pub(super) struct Sources<'a> {
    /// The command line and the environment, and what the file says beneath them.
    pub(super) matches: &'a ArgMatches,
    /// Where the file is to be.
    pub(super) place: &'a Place,
    pub(super) file: &'a File,
}

/// Who says what an option is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line, by this option.
    Flag(String),
    /// The environment, by this variable.
    Variable(String),
    /// The file of settings, in this line.
    File(PathBuf, usize),
    /// Nobody.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, line) => write!(f, "line {line} of {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Origin {
    pub(super) fn of(option: &str, sources: &Sources<'_>) -> Self {
        let Sources { matches, file, .. } = sources;
        let known = options().into_iter().find(|known| known.get_id() == option);
        let flag = known
            .as_ref()
            .and_then(|known| known.get_long())
            .map_or_else(|| option.to_uppercase(), |long| format!("--{long}"));
        let variable = known.as_ref().and_then(|known| known.get_env());
        match (matches.value_source(option), file.path().zip(file.line_of(option))) {
            (Some(ValueSource::CommandLine), _) => Self::Flag(flag),
            (Some(ValueSource::EnvVariable), _) => {
                Self::Variable(variable.unwrap_or_default().to_string_lossy().into_owned())
            }
            (_, Some((path, line))) => Self::File(path.to_owned(), line),
            _ => Self::Default,
        }
    }
}

/// An option, what it is set to, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What the file calls it.
    pub key: String,
    /// A boolean, number, text, list of texts, or null where nothing is set.
    pub value: Value,
    /// Who says so.
    pub origin: Origin,
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the file is or would be; `None` where there is to be none.
    pub file: Option<PathBuf>,
    /// Whether it is there.
    pub is_there: bool,
    /// The options, in the order of the help.
    pub options: Vec<Setting>,
    /// The accept rules, in their order.
    pub rules: Vec<AcceptRule>,
}

impl Settings {
    pub(super) fn of(sources: &Sources<'_>) -> Self {
        let Sources { matches, place, file } = sources;
        let setting = |option: clap::Arg| {
            let key = option.get_id().as_str().to_owned();
            let raw = matches.get_raw(&key).into_iter().flatten();
            let mut raw = raw.map(|value| value.to_string_lossy().into_owned());
            let value = match Kind::of(&option) {
                Kind::Switch => json!(matches.get_one::<bool>(&key)),
                Kind::Number => json!(raw.next().and_then(|number| number.parse::<u64>().ok())),
                Kind::List => Some(raw.collect::<Vec<_>>()).filter(|list| !list.is_empty()).into(),
                Kind::Path | Kind::Text => raw.next().into(),
            };
            let value = match value {
                Value::Null if key == "home" => usual_home().to_string_lossy().into(),
                value => value,
            };
            Setting { origin: Origin::of(&key, sources), key, value }
        };
        Self {
            file: place.path().map(Path::to_owned),
            is_there: file.path().is_some(),
            options: options().into_iter().map(setting).collect(),
            rules: file.rules().to_vec(),
        }
    }
}
