//! What the program is told when it starts: flags, environment variables and a file become plain data.
//!
//! A flag wins over a variable, that over the file, and that over the default. All four are one table,
//! the definitions in `args`: clap reads flags and variables by it, and what the file says is put in as
//! the default. Owns the names and defaults of the options. Reads no file but its own, and starts nothing.

mod args;
mod command;
mod file;
mod settings;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap_complete::Shell;

use crate::engine::{AcceptPolicy, AcceptRules, Destination, Limits};
use crate::node::{DhtConfig, NodeConfig};
use crate::wire::{Link, SafeName};

use args::{Args, Contradiction, RelayPolicy, Sub};
use command::{blame_variable, command, misspelt, mistake, plain_command};
use file::{File, Place};
use settings::Sources;
pub use settings::{Origin, Setting, Settings};
pub(crate) use values::usual_home;
use values::{bootstrap_of, read_port, with_places};

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Be a node, with a prompt where there is a terminal.
    Node,
    /// Be a node, with a screen.
    Tui,
    /// Send something and leave.
    Send(Sending),
    /// Take what comes, without a prompt.
    Receive {
        /// How many files or directories to take before leaving; `None` for no end.
        count: Option<u32>,
    },
    /// Let others fetch something, until a signal.
    Share {
        /// What.
        paths: Vec<PathBuf>,
        /// Whether only trusted peers may.
        known_only: bool,
    },
    /// Fetch something and leave.
    Get(Getting),
    /// Print what is set to what.
    Settings(Box<Settings>),
    /// Print where the file of settings is or would be.
    SettingsPath(Option<PathBuf>),
    /// Print the manual page.
    Man,
    /// Print what makes a shell complete the options.
    Completions(Shell),
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Getting {
    /// What, and where to ask.
    pub link: Box<Link>,
    /// Whether it is written to the standard output.
    pub to_stdout: bool,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// To whom.
    pub to: Destination,
    /// What; `-` is the standard input.
    pub paths: Vec<PathBuf>,
    /// What it is to be called there, if not as it is called here.
    pub name: Option<SafeName>,
}

/// Everything the program is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to do.
    pub mode: Mode,
    /// What the node is started with.
    pub node: NodeConfig,
    /// The user's state.
    pub home: PathBuf,
    /// Events as JSON on stdout.
    pub json: bool,
    /// Keep running when the input has ended.
    pub stay: bool,
    /// Tell only what went wrong.
    pub quiet: bool,
}

/// What stands for the standard input.
pub const STDIN: &str = "-";

impl Config {
    /// Reads the arguments and the environment of this process.
    ///
    /// # Errors
    /// What clap has to say: the help and the version as well as mistakes.
    pub fn from_env() -> Result<Self, clap::Error> {
        Self::read(&std::env::args_os().collect::<Vec<_>>())
    }

    fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        Self::in_two_steps(arguments).map_err(|error| match misspelt(arguments) {
            Some(message) if error.use_stderr() => mistake(None, ErrorKind::InvalidSubcommand, &message),
            _ => error,
        })
    }

    /// Where the file is stands in what is read first; then all is read with what it says.
    fn in_two_steps(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let read = |file: &File| {
            let read = command(file).try_get_matches_from(arguments);
            read.map_err(|error| blame_variable(error, arguments))
        };
        let matches = read(&File::default())?;
        let args = Args::from_arg_matches(&matches)?;
        let place = Place::of(args.config.as_deref());
        // Whoever looks for the file, or for help, is not held up by what is in it.
        let file = match args.sub {
            Some(Sub::Config { path: true } | Sub::Man | Sub::Completions { .. }) => File::default(),
            _ => File::read(&place)
                .map_err(|message| clap::Error::raw(ErrorKind::ValueValidation, message + "\n"))?,
        };
        let matches = if file.path().is_some() { read(&file)? } else { matches };
        Self::of(&Sources { matches: &matches, place: &place, file: &file })
    }

    fn of(sources: &Sources<'_>) -> Result<Self, clap::Error> {
        let matches = sources.matches;
        let args = Args::from_arg_matches(matches)?;
        let sub = matches.subcommand_name();
        // What has no meaning there is not left unsaid; a variable may be meant for other runs.
        let is_typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        if args.sub.is_some() && (is_typed("port") || is_typed("stay")) {
            let message = "a port comes after `receive` or `tui`, others take none there, and --stay is for none of them";
            return Err(mistake(sub, ErrorKind::ArgumentConflict, message));
        }
        if matches!(args.sub, Some(Sub::Tui { .. })) && (is_typed("json") || is_typed("quiet")) {
            let message = "`tui` is for people: --json and --quiet are for the other commands";
            return Err(mistake(sub, ErrorKind::ArgumentConflict, message));
        }
        if args.sub.is_none() && is_typed("quiet") {
            let message = "--quiet is for the commands without a prompt";
            return Err(mistake(sub, ErrorKind::ArgumentConflict, message));
        }
        if !args.dht && (is_typed("dht_port") || is_typed("dht_bootstrap")) {
            let message = "--dht-port and --dht-bootstrap say where the DHT is; --dht makes use of it";
            return Err(mistake(sub, ErrorKind::MissingRequiredArgument, message));
        }
        if let Err(contradiction) = args.check() {
            let message = explain(&contradiction, sources);
            return Err(mistake(sub, ErrorKind::ArgumentConflict, &message));
        }
        let port = match args.sub {
            None | Some(Sub::Config { .. }) => read_port(&args.port).map_err(|message| {
                let whose = if is_typed("port") { "" } else { "P2P_PORT: " };
                mistake(None, ErrorKind::ValueValidation, &format!("{whose}{message}"))
            })?,
            // A variable that is meant for nodes does not concern whoever does not listen.
            Some(_) => 0,
        };
        Ok(Self::new(args, port, sources))
    }

    /// All that the command line understands, as clap has it.
    pub(crate) fn manual() -> clap::Command {
        plain_command()
    }

    /// What makes a shell complete the options and commands.
    #[must_use]
    pub fn completions(shell: Shell) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut plain_command(), "p2p", &mut script);
        script
    }

    /// `port` is that of a node; `receive` has its own.
    fn new(args: Args, mut port: u16, sources: &Sources<'_>) -> Self {
        let home = args.home.unwrap_or_else(usual_home);
        let (mut accept, mut downloads) = (args.accept, args.downloads);
        let dht = DhtConfig { port: args.dht_port, bootstrap: bootstrap_of(args.dht_bootstrap) };
        let mode = match args.sub {
            None => Mode::Node,
            Some(Sub::Tui { port: asked }) => {
                port = asked;
                Mode::Tui
            }
            Some(Sub::Config { path: true }) => Mode::SettingsPath(sources.place.path().map(PathBuf::from)),
            Some(Sub::Config { path: false }) => Mode::Settings(Box::new(Settings::of(sources))),
            Some(Sub::Man) => Mode::Man,
            Some(Sub::Completions { shell }) => Mode::Completions(shell),
            Some(Sub::Send { to, paths, name }) => {
                // Whoever only sends takes nothing.
                accept = AcceptPolicy::None;
                Mode::Send(Sending { to, paths, name })
            }
            Some(Sub::Share { paths, known, port: asked }) => {
                port = asked;
                accept = AcceptPolicy::None;
                Mode::Share { paths, known_only: known }
            }
            Some(Sub::Get { link, output, stdout, from }) => {
                port = 0;
                accept = AcceptPolicy::None;
                downloads = output.unwrap_or(downloads);
                Mode::Get(Getting { link: with_places(link, &from), to_stdout: stdout })
            }
            Some(Sub::Receive { port: asked, once, count }) => {
                port = asked;
                Mode::Receive { count: if once { Some(1) } else { count } }
            }
        };
        let is_node = matches!(mode, Mode::Node | Mode::Tui);
        let takes_offers = is_node || matches!(mode, Mode::Receive { .. });
        let rules = if takes_offers { sources.file.rules().to_vec() } else { Vec::new() };
        // One stream cannot be two things; on the command line they contradict each other.
        let json = args.json && !matches!(mode, Mode::Get(Getting { to_stdout: true, .. }));
        let shares_or_gets = is_node || matches!(mode, Mode::Share { .. } | Mode::Get(_));
        Self {
            node: NodeConfig {
                listens: !matches!(mode, Mode::Send(_)),
                bind: args.bind,
                port,
                downloads,
                accept: AcceptRules::new(rules, accept),
                plain: args.plain,
                home: home.clone(),
                require_id: args.require_id,
                keeps_shares: is_node,
                keeps_history: !args.no_history,
                outbox: is_node && !args.no_outbox,
                seeds: !args.no_seed,
                // Only these share or fetch anything.
                dht: (args.dht && shares_or_gets).then_some(dht),
                lan: args.lan,
                maps_port: args.map_port,
                keep_partials: Duration::from_secs(u64::from(args.keep_partials) * 24 * 3600),
                limits: Limits {
                    reconnect: Duration::from_secs(args.reconnect.into()),
                    up: args.limit_up,
                    down: args.limit_down,
                    keep_free: args.keep_free,
                    relay: (args.relay == RelayPolicy::Known).then_some(args.relay_limit),
                    received_in_all: if let Mode::Receive { count } = mode { count } else { None },
                    ..Limits::default()
                },
            },
            mode,
            home,
            json,
            stay: args.stay,
            quiet: args.quiet,
        }
    }
}

/// What contradicts itself, and who says it where that is not the command line.
fn explain(contradiction: &Contradiction, sources: &Sources<'_>) -> String {
    let mut message = contradiction.message.to_owned();
    for option in contradiction.between {
        let flag = option.replace('_', "-");
        match Origin::of(option, sources) {
            Origin::Flag(_) | Origin::Default => {}
            origin if sources.matches.try_get_one::<bool>(option).is_ok() => {
                message += &format!("; --{flag} is set by {origin}, and `--{flag}=false` switches it off");
            }
            origin => message += &format!("; --{flag} is set by {origin}"),
        }
    }
    message
}

#[cfg(test)]
mod tests;
