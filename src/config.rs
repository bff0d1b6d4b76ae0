//! What the program is told when it starts: flags and environment variables become plain data.
//!
//! Owns the names and defaults of the options. Reads no files and starts nothing.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, Resettable, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::engine::{AcceptPolicy, Destination, HostPort, Limits, Rate, Target};
use crate::exit::Exit;
use crate::node::{Bootstrap, DhtConfig, NodeConfig};
use crate::wire::{Link, LinkKind, SafeName};

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
                accept,
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

/// Send files and messages straight from one computer to another.
#[derive(Debug, Parser)]
#[command(name = "p2p", version, after_help = after_help(), max_term_width = 100)]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true)]
#[command(override_usage = "p2p [OPTIONS] [PORT]\n       p2p [OPTIONS] <COMMAND>")]
struct Args {
    #[command(subcommand)]
    sub: Option<Sub>,

    /// The port to listen on; 0 for any free one.
    // Read as a number only where it is the port of a node.
    #[arg(env = "P2P_PORT", default_value = "8000")]
    port: OsString,

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

    /// How fast files, and what is passed on for others, are sent at most, to all together: 5MB/s, 512KiB/s, … [default: no limit].
    #[arg(long, global = true, value_name = "RATE", env = "P2P_LIMIT_UP", value_parser = parse_rate)]
    limit_up: Option<Rate>,

    /// How fast files are received at most, from all together [default: no limit].
    #[arg(long, global = true, value_name = "RATE", env = "P2P_LIMIT_DOWN", value_parser = parse_rate)]
    limit_down: Option<Rate>,

    /// Pass connections on between peers that this node trusts and that cannot reach each other
    /// (`connect <peer> via <this node>`): `known` for those alone that it trusts, or `none`.
    #[arg(long, global = true, value_name = "WHOSE", env = "P2P_RELAY", default_value = "none")]
    relay: RelayPolicy,

    /// How fast connections are passed on at most, all together, within `--limit-up`.
    #[arg(long, global = true, value_name = "RATE", env = "P2P_RELAY_LIMIT", default_value = "1MB/s", value_parser = parse_rate)]
    relay_limit: Rate,

    /// Do not let others fetch what was fetched by its hash.
    #[arg(long, global = true, env = "P2P_NO_SEED", value_parser = FalseyValueParser::new())]
    no_seed: bool,

    /// Keep no history: neither of what is said, sent and received, nor of the lines that are typed.
    #[arg(long, global = true, env = "P2P_NO_HISTORY", value_parser = FalseyValueParser::new())]
    no_history: bool,

    /// Take part in the BitTorrent DHT: be found there with what is shared, and find who has what is
    /// fetched. Whoever is there can see this computer's address; IPv4 only.
    #[arg(long, global = true, env = "P2P_DHT", value_parser = FalseyValueParser::new())]
    dht: bool,

    /// The UDP port for the DHT [default: the number of the port that is listened on].
    #[arg(long, global = true, value_name = "PORT", env = "P2P_DHT_PORT")]
    dht_port: Option<u16>,

    /// Enter a DHT of your own by these nodes and no others; `none` to be the first. May be repeated.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "P2P_DHT_BOOTSTRAP", value_delimiter = ',', value_parser = parse_bootstrap)]
    dht_bootstrap: Vec<Entry>,

    /// Find others on the local network, and be found there: whoever is there can see this node's identity.
    #[arg(long, global = true, env = "P2P_LAN", value_parser = FalseyValueParser::new())]
    lan: bool,

    /// Have the router pass connections from outside on to this node, by PCP, NAT-PMP or UPnP.
    #[arg(long, global = true, env = "P2P_MAP_PORT", value_parser = FalseyValueParser::new())]
    map_port: bool,

    /// Speak the baseline protocol, unencrypted, to others that do the same.
    #[arg(long, global = true, env = "P2P_PLAIN", value_parser = FalseyValueParser::new())]
    plain: bool,

    /// Print events as JSON, one object on each line of stdout; logs go to stderr.
    #[arg(long, global = true, env = "P2P_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Keep running when the input has ended, until Ctrl-C or SIGTERM.
    #[arg(long, env = "P2P_STAY", value_parser = FalseyValueParser::new())]
    stay: bool,

    /// Tell only what goes wrong; for `send` and `receive`.
    #[arg(long, short, global = true, env = "P2P_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,
}

/// For whom connections are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RelayPolicy {
    /// For peers that this node trusts, and to them.
    Known,
    /// For nobody.
    None,
}

impl Args {
    /// Refuses what would promise something that cannot be kept.
    fn check(&self) -> Result<(), &'static str> {
        if self.plain && self.require_id {
            return Err("--require-id cannot be used with --plain: there nobody has an identity");
        }
        if self.plain && self.lan {
            return Err("--lan cannot be used with --plain: there nobody has an identity to be found by");
        }
        if self.lan && self.bind.is_some_and(|ip| ip.is_loopback()) {
            return Err("--lan cannot be used with a --bind that only this computer can reach");
        }
        if self.map_port && self.bind.is_some_and(|ip| ip.is_loopback()) {
            return Err("--map-port cannot be used with a --bind that only this computer can reach");
        }
        if self.map_port && self.bind.is_some_and(|ip| ip.is_ipv6() && !ip.is_unspecified()) {
            return Err("--map-port cannot be used with an IPv6 address in --bind: it is for IPv4");
        }
        if self.plain && self.dht {
            return Err("--dht cannot be used with --plain: there nothing is shared or fetched by its hash");
        }
        if self.dht && self.bind.is_some_and(|ip| ip.is_ipv6() && !ip.is_unspecified()) {
            return Err("--dht cannot be used with an IPv6 address in --bind: the DHT is IPv4 only");
        }
        if self.dht_bootstrap.len() > 1 && self.dht_bootstrap.contains(&Entry::None) {
            return Err("--dht-bootstrap is `none` or names nodes, not both");
        }
        if self.plain && self.relay == RelayPolicy::Known {
            return Err("--relay known cannot be used with --plain: there nobody has an identity");
        }
        if let Some(Sub::Get { link, from, .. }) = &self.sub
            && link.from.is_empty()
            && from.is_empty()
            && (!self.dht || link.known_only)
        {
            return Err(
                "a hash alone does not say where to ask; use a link, name somebody with --from host:port, or look \
                 for it with --dht",
            );
        }
        if let Some(Sub::Get { link, stdout: true, .. }) = &self.sub
            && link.kind == Some(LinkKind::Directory)
        {
            return Err("--stdout is for files, and the link is one of a directory; use -o");
        }
        if let Some(Sub::Send { paths, name, .. }) = &self.sub {
            if paths.iter().filter(|path| path.as_os_str() == STDIN).count() > 1 {
                return Err("the standard input can be sent only once");
            }
            if paths.len() > 1 && name.is_some() {
                return Err("--name is for one path; several keep their names");
            }
        }
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Send files, directories or the standard input to somebody, and leave.
    ///
    /// Nobody can connect to this computer meanwhile. The exit code tells how it went.
    #[command(after_help = SEND_HELP, max_term_width = 100)]
    Send {
        /// Who is to get it: `host:port`, or `host:port#<node id>` to be sure who that is; or the alias or
        /// identity of somebody known, or of somebody nearby with --lan.
        #[arg(value_name = "PEER", value_parser = parse_destination)]
        to: Destination,
        /// What to send; `-` is the standard input.
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
        /// What it is to be called there.
        #[arg(long, value_name = "NAME", value_parser = parse_name)]
        name: Option<SafeName>,
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
    },
    /// Let others fetch files or directories by their hash, until Ctrl-C; print the links.
    ///
    /// Whoever knows the hash or the link may fetch; nobody else learns what is shared.
    #[command(after_help = SHARE_HELP, max_term_width = 100)]
    Share {
        /// What to share.
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
        /// Only to those whom you trust.
        #[arg(long)]
        known: bool,
        /// The port to listen on; 0 for any free one.
        #[arg(long, short, default_value_t = 0)]
        port: u16,
    },
    /// Fetch a file or directory by its link or hash from all who have it, and leave.
    ///
    /// Every byte is verified. Others who fetch the same get from here what has arrived.
    #[command(after_help = GET_HELP, max_term_width = 100)]
    Get {
        /// The link, or the SHA-256 of a file.
        #[arg(value_name = "LINK|HASH")]
        link: Link,
        /// Where it is to go [default: --downloads].
        #[arg(long, short, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Write the file to the standard output when all of it is verified.
        #[arg(long, conflicts_with_all = ["output", "json"])]
        stdout: bool,
        /// Ask there too: `host:port`, or `host:port#<node id>`; may be repeated.
        #[arg(long, value_name = "PEER", value_parser = parse_target)]
        from: Vec<Target>,
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

const SHARE_HELP: &str = "\
Examples:
  p2p share big.iso          print the link, serve until Ctrl-C
  p2p share photos --known --port 8000
                             a directory, only to those whom you trust

`p2p --help` lists the exit codes.";

const GET_HELP: &str = "\
Examples:
  p2p get p2p:5891b5b5…/name=big.iso,…
                             fetch what `p2p share` or the command `share` printed a link for
  p2p get -o /srv/isos 5891b5b5… --from mirror:8000 --from laptop:8000
                             fetch what a publisher prints the SHA-256 of, from these and whom they know
  p2p get --stdout p2p:5891b5b5… | tar x
                             nothing comes out before all of it is verified

`p2p --help` lists the exit codes.";

const RECEIVE_HELP: &str = "\
Examples:
  p2p receive --once --accept all
                             take one file from whoever sends it
  p2p receive 9000 --accept known --downloads /srv/in
                             take what everybody sends with whom you have had to do

`p2p --help` lists the exit codes.";

/// The arguments as clap is to read them: a variable that is empty counts as one that is not set, and the
/// help of a command leaves out what has no effect there. It is taken all the same: an alias of somebody's
/// may always give it.
fn command() -> Command {
    let command = Args::command();
    let everywhere: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    command.mut_args(unless_empty).mut_subcommands(|sub| {
        let has_effect = |arg: &&Arg| match (sub.get_name(), arg.get_id().as_str()) {
            ("send", name) => {
                !["bind", "downloads", "accept", "keep_partials", "limit_down", "no_seed", "map_port"]
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
                !["downloads", "accept", "keep_partials", "limit_down", "no_seed", "require_id"]
                    .contains(&name)
                    && !name.starts_with("relay")
            }
            ("get", name) => !["accept", "no_seed"].contains(&name) && !name.starts_with("relay"),
            _ => false,
        };
        let without = everywhere.iter().filter(|arg| !has_effect(arg));
        let hidden: Vec<_> = without.map(|arg| arg.clone().hide(true)).collect();
        sub.args(hidden).mut_args(unless_empty)
    })
}

fn unless_empty(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(Resettable::Reset) } else { arg }
}

/// An error with the usage of the command that was given.
fn mistake(sub: Option<&str>, kind: ErrorKind, message: &str) -> clap::Error {
    let mut command = command();
    // What the usage of a command looks like is known only then.
    command.build();
    match sub.and_then(|name| command.find_subcommand_mut(name)) {
        Some(sub) => sub.error(kind, message),
        None => command.error(kind, message),
    }
}

/// What to say where the first word is nearly the name of a command: at most a third of it mistyped.
fn misspelt(arguments: &[OsString]) -> Option<String> {
    let command = Args::command();
    let takes_value = |word: &str| {
        let mut options = command.get_arguments().filter(|option| option.get_action().takes_values());
        word.strip_prefix("--").is_some_and(|long| options.any(|option| option.get_long() == Some(long)))
    };
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let typed = words.find(|word| !word.starts_with('-') || takes_value(word))?;
    let distance = |name: &str| (strsim::osa_distance(typed, name), name.to_owned());
    let (distance, meant) = command.get_subcommands().map(|sub| distance(sub.get_name())).min()?;
    (1..=meant.len().div_ceil(3))
        .contains(&distance)
        .then(|| format!("there is no command `{typed}`; did you mean `{meant}`?"))
}

fn read_port(text: &OsStr) -> Result<u16, String> {
    let port = text.to_str().and_then(|text| text.parse().ok());
    port.ok_or_else(|| format!("`{}` is no port; that is a number from 0 to 65535", text.display()))
}

fn parse_destination(text: &str) -> Result<Destination, String> {
    text.parse().map_err(|failure: crate::engine::Failure| failure.message)
}

fn parse_target(text: &str) -> Result<Target, String> {
    text.parse().map_err(|failure: crate::engine::Failure| failure.message)
}

/// One word of `--dht-bootstrap`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    None,
    Node(HostPort),
}

fn parse_bootstrap(text: &str) -> Result<Entry, String> {
    match text {
        "none" => Ok(Entry::None),
        node => node.parse().map(Entry::Node).map_err(|failure: crate::engine::Failure| failure.message),
    }
}

fn bootstrap_of(entries: Vec<Entry>) -> Bootstrap {
    let is_first = entries.contains(&Entry::None);
    let nodes: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Node(node) => Some(node),
            Entry::None => None,
        })
        .collect();
    match nodes.is_empty() {
        _ if is_first => Bootstrap::First,
        true => Bootstrap::Public,
        false => Bootstrap::Own(nodes),
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    text.parse().map_err(|failure: crate::engine::Failure| failure.message)
}

/// A link with more places where to ask.
fn with_places(mut link: Link, from: &[Target]) -> Box<Link> {
    link.from.splice(0..0, from.iter().map(ToString::to_string));
    Box::new(link)
}

fn parse_name(text: &str) -> Result<SafeName, String> {
    SafeName::new(text).map_err(|error| error.to_string())
}

/// Where programs keep a user's state: the XDG base directory specification, version 0.8.
pub(crate) fn usual_home() -> PathBuf {
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
        let words = std::iter::once(&"p2p").chain(arguments).map(OsString::from);
        Config::read(&words.collect::<Vec<_>>())
    }

    const HASH: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    const HASH_FOR_KNOWN: &str =
        "p2p:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03/known=1";

    #[test]
    fn a_dht_is_entered_only_by_those_who_are_named_if_any_are() {
        let nodes = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        for (arguments, port, bootstrap) in [
            (&["--dht"][..], None, Bootstrap::Public),
            (&["--dht", "--dht-port", "7000", "share", "x"], Some(7000), Bootstrap::Public),
            (
                &["get", "--dht", HASH, "--dht-bootstrap", "a:1,b:2"],
                None,
                Bootstrap::Own(nodes(&["a:1", "b:2"])),
            ),
            (
                &["--dht", "--dht-bootstrap", "a:1", "--dht-bootstrap=b:2"],
                None,
                Bootstrap::Own(nodes(&["a:1", "b:2"])),
            ),
            (&["--dht", "--dht-bootstrap=none"], None, Bootstrap::First),
        ] {
            assert_eq!(
                parse(arguments).unwrap().node.dht,
                Some(DhtConfig { port, bootstrap }),
                "{arguments:?}"
            );
        }
        for arguments in [&[][..], &["receive", "--dht"], &["send", "--dht", "a:1", "x"]] {
            assert_eq!(parse(arguments).unwrap().node.dht, None, "{arguments:?}");
        }
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
            (&["--plain", "--dht"], "--dht cannot be used with --plain"),
            (&["--plain", "--lan"], "--lan cannot be used with --plain"),
            (&["--bind", "::1", "--lan"], "only this computer can reach"),
            (&["--bind", "127.0.0.1", "--map-port"], "only this computer can reach"),
            (&["--bind", "2001:db8::1", "--map-port"], "it is for IPv4"),
            (&["--bind", "::1", "--dht"], "IPv4 only"),
            (&["--dht-port", "7000"], "--dht makes use of it"),
            (&["--dht", "--dht-bootstrap", "none,a:1"], "not both"),
            (&["--dht", "--dht-bootstrap", "a"], "the port is missing"),
            (&["get", HASH], "look for it with --dht"),
            (&["get", "--dht", HASH_FOR_KNOWN], "does not say where to ask"),
            (&["7111", "receive"], "a port comes after `receive`"),
            (&["--stay", "receive"], "--stay is for none"),
            (&["--quiet"], "--quiet is for the commands without a prompt"),
            (&["eight"], "`eight` is no port"),
            (&["--bind", "send"], "127.0.0.1"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_mistyped_command_is_told_from_a_wrong_port() {
        for (arguments, meant) in [
            (&["recieve"][..], "receive"),
            (&["--json", "recieve", "--once"], "receive"),
            (&["sned", "localhost:8000", "report.pdf"], "send"),
            (&["completion", "bash"], "completions"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean `{meant}`?")), "{error}");
        }
        for arguments in [&["port"][..], &["70000"], &["--home", "sned", "70000"]] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(!error.contains("did you mean"), "{error}");
        }
    }

    #[test]
    fn quiet_may_stand_before_and_after_the_command() {
        for arguments in [["--quiet", "receive"], ["receive", "-q"]] {
            assert!(parse(&arguments).unwrap().quiet);
        }
        assert!(!parse(&["receive"]).unwrap().quiet);
    }

    #[test]
    fn what_has_no_effect_is_not_in_the_help_of_a_command_and_yet_taken() {
        let help = |command: &str| parse(&[command, "--help"]).unwrap_err().to_string();
        for (command, there, not_there) in [
            (
                "send",
                &["--require-id", "--reconnect", "--quiet"][..],
                &["--bind", "--accept <", "--map-port"][..],
            ),
            ("receive", &["--bind", "--accept", "P2P_PORT"], &["--require-id"]),
            ("completions", &["bash"], &["--home", "--plain"]),
        ] {
            let help = help(command);
            assert!(there.iter().all(|option| help.contains(option)), "{help}");
            assert!(!not_there.iter().any(|option| help.contains(option)), "{help}");
        }
        let config = parse(&["send", "a:1", "x", "--downloads", "d"]).unwrap();
        assert_eq!(config.node.downloads, PathBuf::from("d"));
    }

    #[test]
    fn usage_is_that_of_the_command_that_was_given() {
        let error = parse(&["send", "a:1", "-", "-"]).unwrap_err().to_string();
        assert!(error.contains("Usage: p2p send "), "{error}");
        let help = parse(&["--help"]).unwrap_err().to_string();
        assert!(help.contains("p2p [OPTIONS] <COMMAND>") && !help.contains("[PORT] <COMMAND>"), "{help}");
    }

    #[test]
    fn help_lists_the_exit_codes_and_every_variable() {
        let help = parse(&["--help"]).unwrap_err().to_string();
        for said in ["  130  ended by Ctrl-C", "P2P_DOWNLOADS", "P2P_STAY", "P2P_PORT", "Examples:"] {
            assert!(help.contains(said), "{said} is missing in:\n{help}");
        }
    }
}
