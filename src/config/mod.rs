//! What the program is told when it starts: flags and environment variables become plain data.
//!
//! Owns the names and defaults of the options. Reads no files and starts nothing.

mod args;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches as _};
use clap_complete::Shell;

use crate::engine::{AcceptPolicy, Destination, Limits};
use crate::node::{DhtConfig, NodeConfig};
use crate::wire::{Link, SafeName};

use args::{Args, RelayPolicy, Sub, command, misspelt, mistake};
pub(crate) use values::usual_home;
use values::{bootstrap_of, read_port, with_places};

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Be a node, with a prompt where there is a terminal.
    Node,
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
        let read = command().try_get_matches_from(arguments).and_then(|matches| Self::of(&matches));
        read.map_err(|error| match misspelt(arguments) {
            Some(message) if error.use_stderr() => mistake(None, ErrorKind::InvalidSubcommand, &message),
            _ => error,
        })
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let args = Args::from_arg_matches(matches)?;
        let sub = matches.subcommand_name();
        // What has no meaning there is not left unsaid; a variable may be meant for other runs.
        let is_typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        if args.sub.is_some() && (is_typed("port") || is_typed("stay")) {
            let message =
                "a port comes after `receive`, others take none there, and --stay is for none of them";
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
        if let Err(message) = args.check() {
            return Err(mistake(sub, ErrorKind::ArgumentConflict, message));
        }
        let port = match args.sub {
            None => read_port(&args.port).map_err(|message| {
                let whose = if is_typed("port") { "" } else { "P2P_PORT: " };
                mistake(None, ErrorKind::ValueValidation, &format!("{whose}{message}"))
            })?,
            // A variable that is meant for nodes does not concern whoever does not listen.
            Some(_) => 0,
        };
        Ok(Self::new(args, port))
    }

    /// What makes a shell complete the options and commands.
    #[must_use]
    pub fn completions(shell: Shell) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command(), "p2p", &mut script);
        script
    }

    /// `port` is that of a node; `receive` has its own.
    fn new(args: Args, mut port: u16) -> Self {
        let home = args.home.unwrap_or_else(usual_home);
        let (mut accept, mut downloads) = (args.accept, args.downloads);
        let dht = DhtConfig { port: args.dht_port, bootstrap: bootstrap_of(args.dht_bootstrap) };
        let mode = match args.sub {
            None => Mode::Node,
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
        let shares_or_gets = matches!(mode, Mode::Node | Mode::Share { .. } | Mode::Get(_));
        Self {
            node: NodeConfig {
                listens: !matches!(mode, Mode::Send(_)),
                bind: args.bind,
                port,
                downloads,
                accept: accept.into(),
                plain: args.plain,
                home: home.clone(),
                require_id: args.require_id,
                keeps_shares: mode == Mode::Node,
                keeps_history: !args.no_history,
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
                    relay: (args.relay == RelayPolicy::Known).then_some(args.relay_limit),
                    received_in_all: if let Mode::Receive { count } = mode { count } else { None },
                    ..Limits::default()
                },
            },
            mode,
            home,
            json: args.json,
            stay: args.stay,
            quiet: args.quiet,
        }
    }
}

#[cfg(test)]
mod tests;
