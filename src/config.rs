//! What the program is told when it starts: flags and environment variables become plain data.
//!
//! Owns the names and defaults of the options. Reads no files and starts nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::engine::{AcceptPolicy, Limits, Target};
use crate::exit::Exit;
use crate::node::NodeConfig;
use crate::wire::SafeName;

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
    /// Print what makes a shell complete the options.
    Completions(Shell),
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// To whom.
    pub to: Target,
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
        Self::of(&Args::command().try_get_matches()?)
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let args = Args::from_arg_matches(matches)?;
        // What has no meaning there is not left unsaid; a variable may be meant for other runs.
        let is_typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        if args.sub.is_some() && (is_typed("port") || is_typed("stay")) {
            let message = "a port comes after `receive`, `send` needs none, and --stay is for neither";
            return Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        }
        Self::checked(args)
    }

    /// Refuses what would promise something that cannot be kept.
    fn checked(args: Args) -> Result<Self, clap::Error> {
        if args.plain && args.require_id {
            let message = "--require-id cannot be used with --plain: there nobody has an identity";
            return Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        }
        if let Some(Sub::Send { paths, name, .. }) = &args.sub {
            let stdins = paths.iter().filter(|path| path.as_os_str() == STDIN).count();
            if stdins > 1 || (paths.len() > 1 && name.is_some()) {
                let message = if stdins > 1 {
                    "the standard input can be sent only once"
                } else {
                    "--name is for one path; several keep their names"
                };
                return Err(Args::command().error(ErrorKind::ArgumentConflict, message));
            }
        }
        Ok(Self::from(args))
    }

    /// What makes a shell complete the options and commands.
    #[must_use]
    pub fn completions(shell: Shell) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "p2p", &mut script);
        script
    }
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        let home = args.home.unwrap_or_else(usual_home);
        let (mut port, mut accept, mut quiet) = (args.port, args.accept, false);
        let mode = match args.sub {
            None => Mode::Node,
            Some(Sub::Completions { shell }) => Mode::Completions(shell),
            Some(Sub::Send { to, paths, name, quiet: is_quiet }) => {
                quiet = is_quiet;
                // Whoever only sends takes nothing.
                accept = AcceptPolicy::None;
                Mode::Send(Sending { to, paths, name })
            }
            Some(Sub::Receive { port: asked, once, count, quiet: is_quiet }) => {
                quiet = is_quiet;
                port = asked;
                Mode::Receive { count: if once { Some(1) } else { count } }
            }
        };
        Self {
            node: NodeConfig {
                listens: !matches!(mode, Mode::Send(_)),
                bind: args.bind,
                port,
                downloads: args.downloads,
                accept,
                plain: args.plain,
                home: home.clone(),
                require_id: args.require_id,
                keep_partials: Duration::from_secs(u64::from(args.keep_partials) * 24 * 3600),
                limits: Limits {
                    reconnect: Duration::from_secs(args.reconnect.into()),
                    received_in_all: if let Mode::Receive { count } = mode { count } else { None },
                    ..Limits::default()
                },
            },
            mode,
            home,
            json: args.json,
            stay: args.stay,
            quiet,
        }
    }
}

/// Send files and messages straight from one computer to another.
#[derive(Debug, Parser)]
#[command(name = "p2p", version, after_help = after_help(), max_term_width = 100)]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    sub: Option<Sub>,

    /// The port to listen on; 0 for any free one.
    #[arg(env = "P2P_PORT", default_value_t = 8000)]
    port: u16,

    /// The address to listen on [default: all interfaces, IPv6 and IPv4].
    #[arg(long, global = true, value_name = "ADDR", env = "P2P_BIND", value_parser = parse_address)]
    bind: Option<IpAddr>,

    /// Where received files go.
    #[arg(long, global = true, value_name = "DIR", env = "P2P_DOWNLOADS", default_value = "./downloads")]
    downloads: PathBuf,

    /// Where this program keeps its own state [default: the system's place for it].
    #[arg(long, global = true, value_name = "DIR", env = "P2P_HOME")]
    home: Option<PathBuf>,

    /// Which offers are taken without asking.
    #[arg(long, global = true, value_name = "WHOSE", env = "P2P_ACCEPT", default_value = "ask", value_parser = accept_policy())]
    accept: AcceptPolicy,

    /// Refuse to connect to an address never connected to, unless its identity is demanded
    /// (`connect host:port#<node id>`).
    #[arg(long, global = true, env = "P2P_REQUIRE_ID", value_parser = FalseyValueParser::new())]
    require_id: bool,

    /// How long a peer whose connection broke is waited for, and dialled again if we had dialled it;
    /// 0 for not at all.
    #[arg(long, global = true, value_name = "SECONDS", env = "P2P_RECONNECT", default_value_t = 120)]
    reconnect: u32,

    /// How long a file that arrived in part is kept when nobody goes on with it.
    #[arg(long, global = true, value_name = "DAYS", env = "P2P_KEEP_PARTIALS", default_value_t = 30)]
    keep_partials: u16,

    /// Speak the baseline protocol, unencrypted, to others that do the same.
    #[arg(long, global = true, env = "P2P_PLAIN", value_parser = FalseyValueParser::new())]
    plain: bool,

    /// Print events as JSON, one object on each line of stdout; logs go to stderr.
    #[arg(long, global = true, env = "P2P_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Keep running when the input has ended, until Ctrl-C or SIGTERM.
    #[arg(long, env = "P2P_STAY", value_parser = FalseyValueParser::new())]
    stay: bool,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Send files, directories or the standard input to somebody, and leave.
    ///
    /// Nobody can connect to this computer meanwhile. The exit code tells how it went.
    #[command(after_help = SEND_HELP, max_term_width = 100)]
    Send {
        /// Who is to get it: `host:port`, or `host:port#<node id>` to be sure who that is.
        #[arg(value_name = "PEER", value_parser = parse_target)]
        to: Target,
        /// What to send; `-` is the standard input.
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
        /// What it is to be called there.
        #[arg(long, value_name = "NAME", value_parser = parse_name)]
        name: Option<SafeName>,
        /// Tell only what goes wrong.
        #[arg(long, short, env = "P2P_QUIET", value_parser = FalseyValueParser::new())]
        quiet: bool,
    },
    /// Take the files that are sent to this computer, without a prompt.
    ///
    /// Strangers cannot be asked about here: who may send is what --accept says.
    #[command(after_help = RECEIVE_HELP, max_term_width = 100)]
    Receive {
        /// The port to listen on; 0 for any free one.
        #[arg(env = "P2P_PORT", default_value_t = 8000)]
        port: u16,
        /// Leave when one file or directory has arrived.
        #[arg(long, conflicts_with = "count")]
        once: bool,
        /// Leave when so many have arrived.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        count: Option<u32>,
        /// Tell only what goes wrong.
        #[arg(long, short, env = "P2P_QUIET", value_parser = FalseyValueParser::new())]
        quiet: bool,
    },
    /// Print what makes a shell complete the options.
    ///
    /// For bash: `p2p completions bash > ~/.local/share/bash-completion/completions/p2p`
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

const SEND_HELP: &str = "\
Examples:
  p2p send localhost:8000 report.pdf photos
  p2p send 192.0.2.5:8000#90ad9948… backup.tar
                             only to whom this identity belongs
  tar c . | p2p send laptop:8000 - --name work.tar
  p2p send --json laptop:8000 big.iso | jq .
                             what happens, as JSON

`p2p --help` lists the exit codes.";

const RECEIVE_HELP: &str = "\
Examples:
  p2p receive --once --accept all
                             take one file from whoever sends it
  p2p receive 9000 --accept known --downloads /srv/in
                             take what everybody sends with whom you have had to do

`p2p --help` lists the exit codes.";

fn parse_target(text: &str) -> Result<Target, String> {
    text.parse().map_err(|failure: crate::engine::Failure| failure.message)
}

fn parse_name(text: &str) -> Result<SafeName, String> {
    SafeName::new(text).map_err(|error| error.to_string())
}

/// Where programs keep a user's state: the XDG base directory specification, version 0.8.
fn usual_home() -> PathBuf {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    // Somebody without a home directory has the one they are in.
    state.unwrap_or_else(|| PathBuf::from(".")).join("p2p")
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "an address to listen on is an IP address like 127.0.0.1 or ::1".to_owned())
}

fn accept_policy() -> impl TypedValueParser<Value = AcceptPolicy> {
    PossibleValuesParser::new(["ask", "known", "all", "none"]).map(|word| match word.as_str() {
        "known" => AcceptPolicy::Known,
        "all" => AcceptPolicy::All,
        "none" => AcceptPolicy::None,
        _ => AcceptPolicy::Ask,
    })
}

fn after_help() -> String {
    format!(
        "\
At a terminal there is a prompt, where `help` lists the commands. Otherwise the same commands
are read from the input, one on each line; those that were begun are finished at its end.

Examples:
  p2p                        a prompt; others connect to this computer on port 8000
  p2p 8001 --accept all      listen on port 8001 and take every file that is offered
  p2p --json --stay < /dev/null
                             no prompt: tell what happens as JSON until Ctrl-C
  p2p send localhost:8000 report.pdf
                             send a file and leave; the exit code tells how it went
  p2p receive --once --accept all
                             take one file and leave
  printf '%s\\n' 'connect localhost:8000' 'send localhost:8000 good morning' | p2p 0
                             anything else from a script

{}
Logs go to stderr; RUST_LOG=debug shows more of them.",
        Exit::table()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        Config::of(&Args::command().try_get_matches_from(std::iter::once(&"p2p").chain(arguments))?)
    }

    #[test]
    fn a_bare_start_listens_on_port_8000() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.node.port, config.node.bind), (8000, None));
        assert_eq!(config.node.downloads, PathBuf::from("./downloads"));
        assert_eq!(config.node.accept, AcceptPolicy::Ask);
        assert!(!config.node.plain && !config.json && !config.stay);
    }

    #[test]
    fn options_may_stand_before_and_after_the_port() {
        let config = parse(&["--bind", "[::1]", "0", "--accept", "all", "--json", "--stay"]).unwrap();
        assert_eq!(config.node.bind, Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!((config.node.port, config.node.accept), (0, AcceptPolicy::All));
        assert!(config.json && config.stay);
    }

    #[test]
    fn wrong_arguments_are_told_apart() {
        for (arguments, said) in [
            (&["65536"][..], "65536"),
            (&["--bind", "localhost"], "127.0.0.1"),
            (&["--accept", "some"], "known"),
            (&["8000", "8001"], "8001"),
            (&["--plain", "--require-id"], "nobody has an identity"),
            (&["7111", "receive"], "a port comes after `receive`"),
            (&["--stay", "receive"], "--stay is for neither"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn help_lists_the_exit_codes_and_every_variable() {
        let help = parse(&["--help"]).unwrap_err().to_string();
        for said in ["  130  ended by Ctrl-C", "P2P_DOWNLOADS", "P2P_STAY", "P2P_PORT", "Examples:"] {
            assert!(help.contains(said), "{said} is missing in:\n{help}");
        }
    }
}
