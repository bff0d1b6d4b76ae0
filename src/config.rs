//! What the program is told when it starts: flags and environment variables become plain data.
//!
//! Owns the names and defaults of the options. Reads no files and starts nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use crate::engine::{AcceptPolicy, Limits};
use crate::exit::Exit;
use crate::node::NodeConfig;

/// Everything the program is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the node is started with.
    pub node: NodeConfig,
    /// The user's state.
    pub home: PathBuf,
    /// Events as JSON on stdout.
    pub json: bool,
    /// Keep running when the input has ended.
    pub stay: bool,
}

impl Config {
    /// Reads the arguments and the environment of this process.
    ///
    /// # Errors
    /// What clap has to say: the help and the version as well as mistakes.
    pub fn from_env() -> Result<Self, clap::Error> {
        Self::checked(Args::try_parse()?)
    }

    /// Refuses what would promise something that cannot be kept.
    fn checked(args: Args) -> Result<Self, clap::Error> {
        if args.plain && args.require_id {
            let message = "--require-id cannot be used with --plain: there nobody has an identity";
            return Err(Args::command().error(ErrorKind::ArgumentConflict, message));
        }
        Ok(Self::from(args))
    }
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        let home = args.home.unwrap_or_else(usual_home);
        Self {
            node: NodeConfig {
                bind: args.bind,
                port: args.port,
                downloads: args.downloads,
                accept: args.accept,
                plain: args.plain,
                home: home.clone(),
                require_id: args.require_id,
                keep_partials: Duration::from_secs(u64::from(args.keep_partials) * 24 * 3600),
                limits: Limits { reconnect: Duration::from_secs(args.reconnect.into()), ..Limits::default() },
            },
            home,
            json: args.json,
            stay: args.stay,
        }
    }
}

/// Send files and messages straight from one computer to another.
#[derive(Debug, Parser)]
#[command(name = "p2p", version, after_help = after_help(), max_term_width = 100)]
struct Args {
    /// The port to listen on; 0 for any free one.
    #[arg(env = "P2P_PORT", default_value_t = 8000)]
    port: u16,

    /// The address to listen on [default: all interfaces, IPv6 and IPv4].
    #[arg(long, value_name = "ADDR", env = "P2P_BIND", value_parser = parse_address)]
    bind: Option<IpAddr>,

    /// Where received files go.
    #[arg(long, value_name = "DIR", env = "P2P_DOWNLOADS", default_value = "./downloads")]
    downloads: PathBuf,

    /// Where this program keeps its own state [default: the system's place for it].
    #[arg(long, value_name = "DIR", env = "P2P_HOME")]
    home: Option<PathBuf>,

    /// Which offers are taken without asking.
    #[arg(long, value_name = "WHOSE", env = "P2P_ACCEPT", default_value = "ask", value_parser = accept_policy())]
    accept: AcceptPolicy,

    /// Refuse to connect to an address never connected to, unless its identity is demanded
    /// (`connect host:port#<node id>`).
    #[arg(long, env = "P2P_REQUIRE_ID", value_parser = FalseyValueParser::new())]
    require_id: bool,

    /// How long a peer whose connection broke is waited for, and dialled again if we had dialled it;
    /// 0 for not at all.
    #[arg(long, value_name = "SECONDS", env = "P2P_RECONNECT", default_value_t = 120)]
    reconnect: u32,

    /// How long a file that arrived in part is kept when nobody goes on with it.
    #[arg(long, value_name = "DAYS", env = "P2P_KEEP_PARTIALS", default_value_t = 30)]
    keep_partials: u16,

    /// Speak the baseline protocol, unencrypted, to others that do the same.
    #[arg(long, env = "P2P_PLAIN", value_parser = FalseyValueParser::new())]
    plain: bool,

    /// Print events as JSON, one object on each line of stdout; logs go to stderr.
    #[arg(long, env = "P2P_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Keep running when the input has ended, until Ctrl-C or SIGTERM.
    #[arg(long, env = "P2P_STAY", value_parser = FalseyValueParser::new())]
    stay: bool,
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
  printf '%s\\n' 'connect localhost:8000' 'sendfile localhost:8000 report.pdf' | p2p 0
                             send a file from a script; the exit code tells whether it arrived

{}
Logs go to stderr; RUST_LOG=debug shows more of them.",
        Exit::table()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        Config::checked(Args::try_parse_from(std::iter::once(&"p2p").chain(arguments))?)
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
