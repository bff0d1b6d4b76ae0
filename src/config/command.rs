//! The command line as clap is to read it, and what is said where it cannot be read.
//!
//! **Invariant**: what may be said of an option anywhere is what its definition in `args` allows: on the
//! command line, in its variable, and in the file, whose values are its defaults.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::args::Args;
use super::file::File;
use super::values::read_port;

/// The option that names the file, and so stands in none.
pub(super) const CONFIG: &str = "config";

/// The arguments as clap is to read them: a variable that is empty counts as one that is not set, what the
/// file says is what holds where nobody says anything else, and the
/// help of a command leaves out what has no effect there. It is taken all the same: an alias of somebody's
/// may always give it.
pub(super) fn command(file: &File) -> Command {
    let prepare = |arg: Arg| file.default_of(unless_empty(switch(arg)));
    let command = Args::command().mut_args(prepare);
    let everywhere: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    command.mut_subcommands(|sub| {
        let has_effect = |arg: &&Arg| match (sub.get_name(), arg.get_id().as_str()) {
            (_, CONFIG) => !["completions", "man"].contains(&sub.get_name()),
            ("config", _) => true,
            ("tui", name) => !["json", "quiet"].contains(&name),
            (_, "no_outbox") => false,
            ("send", name) => {
                ![
                    "bind",
                    "downloads",
                    "accept",
                    "keep_free",
                    "keep_partials",
                    "limit_down",
                    "no_seed",
                    "map_port",
                ]
                .contains(&name)
                    && !name.starts_with("dht")
                    && !name.starts_with("relay")
            }
            ("receive", name) => {
                !["require_id", "no_seed"].contains(&name)
                    && !name.starts_with("dht")
                    && !name.starts_with("relay")
            }
            ("share", name) => {
                !["downloads", "accept", "keep_free", "keep_partials", "limit_down", "no_seed", "require_id"]
                    .contains(&name)
                    && !name.starts_with("relay")
            }
            ("get", name) => {
                !["accept", "keep_free", "no_seed"].contains(&name) && !name.starts_with("relay")
            }
            _ => false,
        };
        let without = everywhere.iter().filter(|arg| !has_effect(arg));
        let hidden: Vec<_> = without.map(|arg| arg.clone().hide(true)).collect();
        sub.mut_args(prepare).args(hidden)
    })
}

/// The command line as people read of it.
pub(super) fn plain_command() -> Command {
    Args::command()
}

/// Every option that may stand in a variable, and so in the file.
pub(super) fn options() -> Vec<Arg> {
    let command = Args::command();
    let options = command.get_arguments().filter(|arg| is_setting(arg));
    options.cloned().map(switch).collect()
}

/// Whether something may stand in the file.
pub(super) fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_id() != CONFIG
}

/// What can be switched on elsewhere can be switched off on the command line.
fn switch(arg: Arg) -> Arg {
    if !is_setting(&arg) || !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_name("BOOL")
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .hide_possible_values(true)
}

fn unless_empty(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(Resettable::Reset) } else { arg }
}

/// What an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Number,
    Path,
    /// Words that its definition reads.
    Text,
    List,
}

impl Kind {
    pub(super) fn of(option: &Arg) -> Self {
        let holds = option.get_value_parser().type_id();
        if holds == TypeId::of::<bool>() {
            Self::Switch
        } else if holds == TypeId::of::<u32>() || holds == TypeId::of::<u16>() || option.get_id() == "port" {
            Self::Number
        } else if holds == TypeId::of::<std::path::PathBuf>() {
            Self::Path
        } else if matches!(option.get_action(), ArgAction::Append) {
            Self::List
        } else {
            Self::Text
        }
    }
}

/// Says why an option cannot have a value.
///
/// # Errors
/// Why, as the rest of a sentence.
pub(super) fn judge(option: &Arg, value: &OsStr) -> Result<(), String> {
    let Some(long) = option.get_long() else { return read_port(value).map(|_| ()) };
    let mut word = OsString::from(format!("--{long}="));
    word.push(value);
    let alone = option.clone().env(Resettable::Reset).global(false);
    let read = Command::new("p2p").no_binary_name(true).arg(alone).try_get_matches_from([word]);
    read.map(|_| ()).map_err(|error| match Kind::of(option) {
        Kind::Switch => "it is true or false".to_owned(),
        Kind::Number if value.to_str().is_none_or(|text| text.parse::<i64>().is_err()) => {
            "it is a whole number".to_owned()
        }
        _ => why(&error),
    })
}

/// What is wrong with a value, without what the command line says around it.
fn why(error: &clap::Error) -> String {
    if let Some(ContextValue::Strings(allowed)) = error.get(ContextKind::ValidValue)
        && !allowed.is_empty()
    {
        return format!("it is one of {}", allowed.join(", "));
    }
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.kind().as_str().unwrap_or("it is not understood").to_owned(),
    }
}

/// The same error, but where a variable is to blame, of that.
pub(super) fn blame_variable(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else { return error };
    let mut options = options().into_iter();
    let Some(option) = options.find(|option| {
        option.get_long().is_some_and(|long| {
            let flag = format!("--{long}");
            let is_typed = arguments.iter().any(|word| word.to_string_lossy().starts_with(&flag));
            !is_typed && blamed.strip_prefix(&flag).is_some_and(|rest| !rest.starts_with('-'))
        })
    }) else {
        return error;
    };
    let variable = option.get_env().and_then(|name| Some((name, std::env::var_os(name)?)));
    let Some((name, value)) = variable else { return error };
    let Err(why) = judge(&option, &value) else { return error };
    let name = name.to_string_lossy();
    let message = format!("the variable {name} cannot be {:?}: {why}", value.to_string_lossy());
    clap::Error::raw(ErrorKind::ValueValidation, message + "\n")
}

/// An error with the usage of the command that was given.
pub(super) fn mistake(sub: Option<&str>, kind: ErrorKind, message: &str) -> clap::Error {
    let mut command = command(&File::default());
    // What the usage of a command looks like is known only then.
    command.build();
    match sub.and_then(|name| command.find_subcommand_mut(name)) {
        Some(sub) => sub.error(kind, message),
        None => command.error(kind, message),
    }
}

/// What to say where the first word is nearly the name of a command.
pub(super) fn misspelt(arguments: &[OsString]) -> Option<String> {
    let command = Args::command();
    let takes_value = |word: &str| {
        let mut options = command.get_arguments().filter(|option| option.get_action().takes_values());
        word.strip_prefix("--").is_some_and(|long| options.any(|option| option.get_long() == Some(long)))
    };
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let typed = words.find(|word| !word.starts_with('-') || takes_value(word))?;
    // What comes after such an option may be its value.
    if typed.starts_with('-') {
        return None;
    }
    let meant = closest(typed, command.get_subcommands().map(Command::get_name))?;
    (meant != typed).then(|| format!("there is no command `{typed}`; did you mean `{meant}`?"))
}

/// Which of some names is meant by one of which at most a third is mistyped.
pub(super) fn closest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let (distance, meant) = names.map(|name| (strsim::osa_distance(typed, name), name.to_owned())).min()?;
    (distance <= meant.len().div_ceil(3)).then_some(meant)
}
