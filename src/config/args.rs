//! The command line: options, commands, their help, and what of it contradicts itself.
//!
//! Owns the names of the options. What a single value may be is in `values`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use clap_complete::Shell;

use super::STDIN;
use super::values::{
    Entry, accept_policy, parse_address, parse_bootstrap, parse_destination, parse_name, parse_rate,
    parse_size, parse_target,
};
use crate::engine::{AcceptPolicy, Destination, Rate, Target};
use crate::exit::Exit;
use crate::wire::{Link, LinkKind, SafeName};

/// Send files and messages straight from one computer to another.
#[derive(Debug, Parser)]
#[command(name = "p2p", version, after_help = after_help(), max_term_width = 100)]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true)]
#[command(override_usage = "p2p [OPTIONS] [PORT]\n       p2p [OPTIONS] <COMMAND>")]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) sub: Option<Sub>,

    /// The port to listen on; 0 for any free one.
    // Read as a number only where it is the port of a node.
    #[arg(env = "P2P_PORT", default_value = "8000")]
    pub(super) port: OsString,

    /// The address to listen on [default: all interfaces, IPv6 and IPv4].
    #[arg(long, global = true, value_name = "ADDR", env = "P2P_BIND", value_parser = parse_address)]
    pub(super) bind: Option<IpAddr>,

    /// Where received files go.
    #[arg(long, global = true, value_name = "DIR", env = "P2P_DOWNLOADS", default_value = "./downloads")]
    pub(super) downloads: PathBuf,

    /// Where this program keeps its own state [default: the system's place for it].
    #[arg(long, global = true, value_name = "DIR", env = "P2P_HOME")]
    pub(super) home: Option<PathBuf>,

    /// The file of settings, or `none` to use none [default: p2p/config.toml where the system keeps
    /// such files]. All other options may stand in it.
    #[arg(long, global = true, value_name = "FILE", env = "P2P_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// Which offers are taken without asking, where no accept rule of the file says something else.
    #[arg(long, global = true, value_name = "WHOSE", env = "P2P_ACCEPT", default_value = "ask", value_parser = accept_policy())]
    pub(super) accept: AcceptPolicy,

    /// Space that is to stay free where received files go, like 1GB: what would leave less is asked about,
    /// and refused where nobody can be asked.
    #[arg(long, global = true, value_name = "SIZE", env = "P2P_KEEP_FREE", default_value = "0", value_parser = parse_size)]
    pub(super) keep_free: u64,

    /// Refuse to connect to an address never connected to, unless its identity is demanded
    /// (`connect host:port#<node id>`).
    #[arg(long, global = true, env = "P2P_REQUIRE_ID", value_parser = BoolishValueParser::new())]
    pub(super) require_id: bool,

    /// How long a peer whose connection broke is waited for, and dialled again if we had dialled it;
    /// 0 for not at all.
    #[arg(long, global = true, value_name = "SECONDS", env = "P2P_RECONNECT", default_value_t = 120)]
    pub(super) reconnect: u32,

    /// How long a file that arrived in part is kept when nobody goes on with it.
    #[arg(long, global = true, value_name = "DAYS", env = "P2P_KEEP_PARTIALS", default_value_t = 30)]
    pub(super) keep_partials: u16,

    /// How fast files, and what is passed on for others, are sent at most, to all together: 5MB/s, 512KiB/s, … [default: no limit].
    #[arg(long, global = true, value_name = "RATE", env = "P2P_LIMIT_UP", value_parser = parse_rate)]
    pub(super) limit_up: Option<Rate>,

    /// How fast files are received at most, from all together [default: no limit].
    #[arg(long, global = true, value_name = "RATE", env = "P2P_LIMIT_DOWN", value_parser = parse_rate)]
    pub(super) limit_down: Option<Rate>,

    /// Pass connections on between peers that this node trusts and that cannot reach each other
    /// (`connect <peer> via <this node>`): `known` for those alone that it trusts, or `none`.
    #[arg(long, global = true, value_name = "WHOSE", env = "P2P_RELAY", default_value = "none")]
    pub(super) relay: RelayPolicy,

    /// How fast connections are passed on at most, all together, within `--limit-up`.
    #[arg(long, global = true, value_name = "RATE", env = "P2P_RELAY_LIMIT", default_value = "1MB/s", value_parser = parse_rate)]
    pub(super) relay_limit: Rate,

    /// Do not let others fetch what was fetched by its hash.
    #[arg(long, global = true, env = "P2P_NO_SEED", value_parser = BoolishValueParser::new())]
    pub(super) no_seed: bool,

    /// Keep no history: neither of what is said, sent and received, nor of the lines that are typed.
    #[arg(long, global = true, env = "P2P_NO_HISTORY", value_parser = BoolishValueParser::new())]
    pub(super) no_history: bool,

    /// Do not keep messages and files for known peers that are not connected.
    #[arg(long, global = true, env = "P2P_NO_OUTBOX", value_parser = BoolishValueParser::new())]
    pub(super) no_outbox: bool,

    /// Take part in the BitTorrent DHT: be found there with what is shared, and find who has what is
    /// fetched. Whoever is there can see this computer's address; IPv4 only.
    #[arg(long, global = true, env = "P2P_DHT", value_parser = BoolishValueParser::new())]
    pub(super) dht: bool,

    /// The UDP port for the DHT [default: the number of the port that is listened on].
    #[arg(long, global = true, value_name = "PORT", env = "P2P_DHT_PORT")]
    pub(super) dht_port: Option<u16>,

    /// Enter a DHT of your own by these nodes and no others; `none` to be the first. May be repeated.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "P2P_DHT_BOOTSTRAP", value_delimiter = ',', value_parser = parse_bootstrap)]
    pub(super) dht_bootstrap: Vec<Entry>,

    /// Find others on the local network, and be found there: whoever is there can see this node's identity.
    #[arg(long, global = true, env = "P2P_LAN", value_parser = BoolishValueParser::new())]
    pub(super) lan: bool,

    /// Have the router pass connections from outside on to this node, by PCP, NAT-PMP or UPnP.
    #[arg(long, global = true, env = "P2P_MAP_PORT", value_parser = BoolishValueParser::new())]
    pub(super) map_port: bool,

    /// Speak the baseline protocol, unencrypted, to others that do the same.
    #[arg(long, global = true, env = "P2P_PLAIN", value_parser = BoolishValueParser::new())]
    pub(super) plain: bool,

    /// Print events as JSON, one object on each line of stdout; logs go to stderr.
    #[arg(long, global = true, env = "P2P_JSON", value_parser = BoolishValueParser::new())]
    pub(super) json: bool,

    /// Keep running when the input has ended, until Ctrl-C or SIGTERM.
    #[arg(long, env = "P2P_STAY", value_parser = BoolishValueParser::new())]
    pub(super) stay: bool,

    /// Tell only what goes wrong; for `send` and `receive`.
    #[arg(long, short, global = true, env = "P2P_QUIET", value_parser = BoolishValueParser::new())]
    pub(super) quiet: bool,
}

/// For whom connections are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum RelayPolicy {
    /// For peers that this node trusts, and to them.
    Known,
    /// For nobody.
    None,
}

/// Something that would promise what cannot be kept.
#[derive(Debug)]
pub(super) struct Contradiction {
    pub(super) message: &'static str,
    /// The options that it is between.
    pub(super) between: &'static [&'static str],
}

impl Args {
    /// Refuses what would promise something that cannot be kept.
    pub(super) fn check(&self) -> Result<(), Contradiction> {
        let contradiction = |message, between| Err(Contradiction { message, between });
        let is_v6 = self.bind.is_some_and(|ip| ip.is_ipv6() && !ip.is_unspecified());
        let is_here_only = self.bind.is_some_and(|ip| ip.is_loopback());
        let rows: [(bool, &'static str, &'static [&'static str]); 9] = [
            (
                self.plain && self.require_id,
                "--require-id cannot be used with --plain: there nobody has an identity",
                &["require_id", "plain"],
            ),
            (
                self.plain && self.lan,
                "--lan cannot be used with --plain: there nobody has an identity to be found by",
                &["lan", "plain"],
            ),
            (
                self.lan && is_here_only,
                "--lan cannot be used with a --bind that only this computer can reach",
                &["lan", "bind"],
            ),
            (
                self.map_port && is_here_only,
                "--map-port cannot be used with a --bind that only this computer can reach",
                &["map_port", "bind"],
            ),
            (
                self.map_port && is_v6,
                "--map-port cannot be used with an IPv6 address in --bind: it is for IPv4",
                &["map_port", "bind"],
            ),
            (
                self.plain && self.dht,
                "--dht cannot be used with --plain: there nothing is shared or fetched by its hash",
                &["dht", "plain"],
            ),
            (
                self.dht && is_v6,
                "--dht cannot be used with an IPv6 address in --bind: the DHT is IPv4 only",
                &["dht", "bind"],
            ),
            (
                self.dht_bootstrap.len() > 1 && self.dht_bootstrap.contains(&Entry::None),
                "--dht-bootstrap is `none` or names nodes, not both",
                &["dht_bootstrap"],
            ),
            (
                self.plain && self.relay == RelayPolicy::Known,
                "--relay known cannot be used with --plain: there nobody has an identity",
                &["relay", "plain"],
            ),
        ];
        for (holds, message, between) in rows {
            if holds {
                return contradiction(message, between);
            }
        }
        self.check_command().or_else(|message| contradiction(message, &[]))
    }

    fn check_command(&self) -> Result<(), &'static str> {
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
pub(super) enum Sub {
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
    /// A node with a full screen: who is connected, what is under way, a tab for each conversation.
    ///
    /// `?` shows the keys.
    #[command(max_term_width = 100)]
    Tui {
        /// The port to listen on; 0 for any free one.
        #[arg(env = "P2P_PORT", default_value_t = 8000)]
        port: u16,
    },
    /// Show what each option is set to, and where that is said.
    ///
    /// That is the command line, an environment variable, or the file of settings, of which the first
    /// counts that says something; else it is the default.
    #[command(max_term_width = 100)]
    Config {
        /// Print only where the file of settings is, or would be.
        #[arg(long)]
        path: bool,
    },
    /// Print the manual page: `p2p man | man -l -`
    Man,
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
