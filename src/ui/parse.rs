//! What a typed line means.
//!
//! One table, [`COMMANDS`], is all there is to know about the commands: it drives parsing, the
//! suggestion for a mistyped one, and `help`. Nothing here asks the node or the disk.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::engine::{Code, Command, Direction, Failure, HistoryKind, PeerRef, Selection};
use crate::wire::BadLink;

/// A command as the table knows it.
#[derive(Debug)]
pub(super) struct Spec {
    /// What is typed.
    pub(super) name: &'static str,
    /// Its arguments, as `help` shows them; empty where there are none.
    pub(super) arguments: &'static str,
    /// What can be completed there, in their order. The last one is the rest of the line.
    pub(super) takes: &'static [Takes],
    /// What it does, in a few words.
    pub(super) about: &'static str,
    /// What else there is to know, or nothing.
    pub(super) more: &'static str,
    /// Lines that could be typed. The first one is shown where arguments are missing.
    pub(super) examples: &'static [&'static str],
    parse: fn(&'static Spec, &str) -> Result<Parsed, Failure>,
}

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A connected peer.
    Peer,
    /// A peer that is known, connected or not.
    Known,
    /// An address to connect to, or somebody.
    Destination,
    /// Words of the user's own.
    Text,
    /// A file.
    Path,
    /// An offer that waits, or all of them.
    Offer,
    /// A transfer or an offer.
    Transfer,
    /// This word.
    Word(&'static str),
    /// Something in the outbox, or all of it.
    Kept,
    /// A command's name.
    Command,
}

/// What a line asks for.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Nothing: it is empty.
    Nothing,
    /// Something of the node.
    Run(&'static Spec, Command),
    /// Help, on one command or on all.
    Help(Option<&'static Spec>),
    /// To leave.
    Quit,
}

/// Every command, in the order in which `help` lists them.
pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "connect",
        arguments: "<host:port|peer>",
        takes: &[Takes::Destination],
        about: "connect to a peer",
        more: "`host:port#<node id>` connects only to who proves to be that. Afterwards the peer goes by what you typed, and by the address that `peers` lists. `connect <alias or identity>` looks where that was before and, with --lan, on this network; only who proves to be that is connected to. `connect <peer> via <peer>` connects through a peer that both of you are connected to, that was started with `--relay known` and trusts both; it sees nothing of what is said. Who is meant is said by an alias or an identity then.",
        examples: &[
            "connect localhost:8000",
            "connect [2001:db8::5]:8000",
            "connect alice",
            "connect alice via bob",
        ],
        parse: |spec, rest| Ok(Parsed::Run(spec, connect(spec, rest)?)),
    },
    Spec {
        name: "disconnect",
        arguments: "<peer>",
        takes: &[Takes::Peer],
        about: "end the connection to a peer",
        more: "",
        examples: &["disconnect localhost:8000"],
        parse: |spec, rest| Ok(Parsed::Run(spec, Command::Disconnect(one(spec, rest)?))),
    },
    Spec {
        name: "send",
        arguments: "<peer> <message>",
        takes: &[Takes::Known, Takes::Text],
        about: "send a message to a peer",
        more: "The message is the rest of the line. Where somebody known is not connected, it is kept in the outbox and sent when they are back.",
        examples: &["send localhost:8000 hello, are you there?"],
        parse: |spec, rest| {
            let (peer, text) = peer_and_rest(spec, rest)?;
            Ok(Parsed::Run(spec, Command::SendText(peer, text.to_owned())))
        },
    },
    Spec {
        name: "sendfile",
        arguments: "<peer> <path>…",
        takes: &[Takes::Known, Takes::Path],
        about: "send files or directories to a peer",
        more: "The path is the rest of the line and may contain spaces; `~/` is understood. Where nothing has that name, several paths are read from it, in quotes if they contain spaces. Where somebody known is not connected, it is kept in the outbox and sent, as it is then, when they are back.",
        examples: &[
            "sendfile localhost:8000 report.pdf",
            "sendfile localhost:8000 ~/Documents/the whole report.pdf",
            "sendfile localhost:8000 photos 'the whole report.pdf'",
        ],
        parse: |spec, rest| {
            let (peer, path) = peer_and_rest(spec, rest)?;
            let home = std::env::var_os("HOME");
            let path = typed_path(path, home.as_deref());
            Ok(Parsed::Run(spec, Command::SendFile { to: peer, path, name: None }))
        },
    },
    Spec {
        name: "share",
        arguments: "<path> [--known]",
        takes: &[Takes::Path],
        about: "let whoever knows its hash fetch something",
        more: "Prints its link, for `get`. It stays shared until `unshare`, also when the node is started anew; what was changed since is not served. --known: only peers that you trust get it.",
        examples: &["share report.pdf", "share ~/Documents/the whole report.pdf", "share photos --known"],
        parse: |spec, rest| Ok(Parsed::Run(spec, share(spec, rest)?)),
    },
    Spec {
        name: "shares",
        arguments: "",
        takes: &[],
        about: "list what is shared, with links",
        more: "",
        examples: &["shares"],
        parse: |spec, rest| bare(spec, rest, Parsed::Run(spec, Command::Shares)),
    },
    Spec {
        name: "unshare",
        arguments: "<hash|path>",
        takes: &[Takes::Path],
        about: "do not share something any longer",
        more: "The beginning of its hash will do.",
        examples: &["unshare report.pdf", "unshare 5891b5b5"],
        parse: |spec, rest| {
            if rest.trim().is_empty() {
                return Err(missing(spec));
            }
            let path = absolute(rest);
            let what =
                if path.exists() { path.to_string_lossy().into_owned() } else { rest.trim().to_owned() };
            Ok(Parsed::Run(spec, Command::Unshare(what)))
        },
    },
    Spec {
        name: "get",
        arguments: "<link|hash>",
        takes: &[Takes::Text],
        about: "fetch a content from all who have it",
        more: "A hash is the SHA-256 that `sha256sum` prints. Asked are the connected peers, and whoever the link names.",
        examples: &["get p2p:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"],
        parse: |spec, rest| {
            if rest.trim().is_empty() {
                return Err(missing(spec));
            }
            let link = rest.parse().map_err(|error: BadLink| {
                Failure::new(Code::Usage, format!("`{}` is not a link: {error}", shortened(rest.trim())))
            })?;
            Ok(Parsed::Run(spec, Command::Get(Box::new(link))))
        },
    },
    Spec {
        name: "limit",
        arguments: "[up|down] [rate]",
        takes: &[Takes::Text, Takes::Text, Takes::Peer],
        about: "limit bandwidth, or show the limits",
        more: "Of file content, with all peers together, or with one that is named behind it, as long as it is connected; `off` ends a limit. Messages are never delayed. A peer that pushes (baseline) cannot be slowed down.",
        examples: &["limit", "limit up 5MB/s", "limit down off", "limit up 800kB/s localhost:8000"],
        parse: |spec, rest| Ok(Parsed::Run(spec, limit(spec, rest)?)),
    },
    Spec {
        name: "broadcast",
        arguments: "<message>",
        takes: &[Takes::Text],
        about: "send a message to all peers",
        more: "",
        examples: &["broadcast lunch?"],
        parse: |spec, rest| {
            if rest.trim().is_empty() {
                return Err(missing(spec));
            }
            Ok(Parsed::Run(spec, Command::Broadcast(rest.to_owned())))
        },
    },
    Spec {
        name: "peers",
        arguments: "[--nearby]",
        takes: &[],
        about: "list the peers, or who is nearby",
        more: "--nearby: who says that it is on this network, where that is looked at (--lan); `connect` connects by the alias or identity.",
        examples: &["peers", "peers --nearby"],
        parse: |spec, rest| match rest.trim() {
            "--nearby" => Ok(Parsed::Run(spec, Command::Nearby)),
            _ => bare(spec, rest, Parsed::Run(spec, Command::Peers)),
        },
    },
    Spec {
        name: "transfers",
        arguments: "",
        takes: &[],
        about: "list offers and transfers, also partial ones",
        more: "",
        examples: &["transfers"],
        parse: |spec, rest| bare(spec, rest, Parsed::Run(spec, Command::Transfers)),
    },
    Spec {
        name: "history",
        arguments: "[peer] [count]",
        takes: &[Takes::Known, Takes::Text],
        about: "what was said, sent and received",
        more: "The last 20, or as many as are asked for, with everybody or with one peer, of this and earlier runs; --messages or --transfers: only those.",
        examples: &["history", "history alice 100", "history --transfers"],
        parse: |spec, rest| Ok(Parsed::Run(spec, history(spec, rest)?)),
    },
    Spec {
        name: "outbox",
        arguments: "[cancel <id|all>]",
        takes: &[Takes::Word("cancel"), Takes::Kept],
        about: "list what waits for peers, or withdraw it",
        more: "What is sent to somebody known who is not connected waits there, also when the node is started anew. They are looked for where they were before and, with --lan, on this network.",
        examples: &["outbox", "outbox cancel 3", "outbox cancel all"],
        parse: |spec, rest| Ok(Parsed::Run(spec, outbox(spec, rest)?)),
    },
    Spec {
        name: "accept",
        arguments: "<id|all>",
        takes: &[Takes::Offer],
        about: "take a file that is offered",
        more: "",
        examples: &["accept 2", "accept all"],
        parse: |spec, rest| Ok(Parsed::Run(spec, Command::Accept(selection(spec, rest)?))),
    },
    Spec {
        name: "reject",
        arguments: "<id|all>",
        takes: &[Takes::Offer],
        about: "refuse a file that is offered",
        more: "",
        examples: &["reject 2", "reject all"],
        parse: |spec, rest| Ok(Parsed::Run(spec, Command::Reject(selection(spec, rest)?))),
    },
    Spec {
        name: "cancel",
        arguments: "<id> [--discard]",
        takes: &[Takes::Transfer],
        about: "stop a transfer",
        more: "What has arrived stays, and sending the file again goes on with it; --discard removes it.",
        examples: &["cancel 2", "cancel 2 --discard"],
        parse: |spec, rest| Ok(Parsed::Run(spec, cancel(spec, rest)?)),
    },
    Spec {
        name: "wait",
        arguments: "",
        takes: &[],
        about: "wait until no transfer runs any more",
        more: "Other commands can be given meanwhile at the prompt; in a script the next line waits.",
        examples: &["wait"],
        parse: |spec, rest| bare(spec, rest, Parsed::Run(spec, Command::Wait)),
    },
    Spec {
        name: "trust",
        arguments: "<peer>",
        takes: &[Takes::Known],
        about: "take a peer's offers without asking",
        more: "It is the identity that is trusted, wherever it connects from, until `forget`.",
        examples: &["trust localhost:8000", "trust laptop"],
        parse: |spec, rest| Ok(Parsed::Run(spec, Command::Trust(one(spec, rest)?))),
    },
    Spec {
        name: "alias",
        arguments: "<peer> <name>",
        takes: &[Takes::Known, Takes::Text],
        about: "give a peer a name of your own",
        more: "The name belongs to the peer's identity, whatever its address is later.",
        examples: &["alias localhost:8000 laptop"],
        parse: |spec, rest| {
            let (peer, name) = peer_and_rest(spec, rest)?;
            Ok(Parsed::Run(spec, Command::Alias(peer, one(spec, name)?)))
        },
    },
    Spec {
        name: "forget",
        arguments: "<peer>",
        takes: &[Takes::Known],
        about: "forget a peer, or who was at an address",
        more: "With an address, whoever answers there next is accepted like at first contact.",
        examples: &["forget localhost:8000", "forget laptop"],
        parse: |spec, rest| Ok(Parsed::Run(spec, Command::Forget(one(spec, rest)?))),
    },
    Spec {
        name: "ban",
        arguments: "<peer>",
        takes: &[Takes::Known],
        about: "have nothing to do with a peer",
        more: "It is the identity that is banned, for good. Who sends wrong chunks is banned for a while without this.",
        examples: &["ban localhost:8000", "ban 90ad994871bb2c3d"],
        parse: |spec, rest| Ok(Parsed::Run(spec, Command::Ban(one(spec, rest)?))),
    },
    Spec {
        name: "unban",
        arguments: "<peer>",
        takes: &[Takes::Known],
        about: "end a ban",
        more: "",
        examples: &["unban localhost:8000", "unban 90ad994871bb2c3d"],
        parse: |spec, rest| Ok(Parsed::Run(spec, Command::Unban(one(spec, rest)?))),
    },
    Spec {
        name: "bans",
        arguments: "",
        takes: &[],
        about: "list who is banned",
        more: "",
        examples: &["bans"],
        parse: |spec, rest| bare(spec, rest, Parsed::Run(spec, Command::Bans)),
    },
    Spec {
        name: "whoami",
        arguments: "",
        takes: &[],
        about: "tell about this node",
        more: "",
        examples: &["whoami"],
        parse: |spec, rest| bare(spec, rest, Parsed::Run(spec, Command::Whoami)),
    },
    Spec {
        name: "help",
        arguments: "[command]",
        takes: &[Takes::Command],
        about: "list the commands, or explain one",
        more: "",
        examples: &["help", "help sendfile"],
        parse: |_, rest| match rest.trim() {
            "" => Ok(Parsed::Help(None)),
            name => find(name).map(|spec| Parsed::Help(Some(spec))),
        },
    },
    Spec {
        name: "quit",
        arguments: "",
        takes: &[],
        about: "leave at once",
        more: "Transfers that run are broken off; `wait` before it lets them end.",
        examples: &["quit"],
        parse: |spec, rest| bare(spec, rest, Parsed::Quit),
    },
];

/// Reads a line, with or without its end.
///
/// # Errors
/// What is wrong with it, and what to type instead.
pub(super) fn parse(line: &str) -> Result<Parsed, Failure> {
    let line = line.trim_end_matches(['\r', '\n']).trim_start();
    let (name, rest) = split_word(line);
    if name.is_empty() {
        return Ok(Parsed::Nothing);
    }
    let spec = find(name)?;
    (spec.parse)(spec, rest)
}

/// A word, and what follows it after one separator.
fn split_word(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

fn find(name: &str) -> Result<&'static Spec, Failure> {
    // `exit` is what half of the world types.
    let known = |name: &str| COMMANDS.iter().find(|spec| spec.name == name);
    let lower = name.to_lowercase();
    let wanted = if lower == "exit" { "quit" } else { &lower };
    known(wanted).ok_or_else(|| {
        let advice = match similar(&lower) {
            Some(spec) => format!("did you mean `{}`?", spec.name),
            None => "`help` lists the commands".to_owned(),
        };
        Failure::new(Code::Usage, format!("unknown command `{}`; {advice}", shortened(name)))
    })
}

/// The command that was probably meant: at most a third of it mistyped, or only its beginning typed.
fn similar(typed: &str) -> Option<&'static Spec> {
    let began = |spec: &&Spec| typed.len() >= 2 && spec.name.starts_with(typed);
    let distance =
        |spec: &&'static Spec| (typed.len() < 32).then(|| (strsim::osa_distance(typed, spec.name), *spec));
    let nearest = || COMMANDS.iter().filter_map(|spec| distance(&spec)).min_by_key(|(distance, _)| *distance);
    COMMANDS.iter().find(began).or_else(|| match nearest() {
        Some((distance, spec)) if distance <= spec.name.len().div_ceil(3) => Some(spec),
        _ => None,
    })
}

/// At most the first forty characters, for an error that quotes a line.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn missing(spec: &Spec) -> Failure {
    let message = format!("`{}` needs {}: for example `{}`", spec.name, spec.arguments, spec.examples[0]);
    Failure::new(Code::Usage, message)
}

fn bare(spec: &Spec, rest: &str, parsed: Parsed) -> Result<Parsed, Failure> {
    match rest.trim() {
        "" => Ok(parsed),
        more => {
            let message =
                format!("`{}` takes nothing after it, but there is `{}`", spec.name, shortened(more));
            Err(Failure::new(Code::Usage, message))
        }
    }
}

/// Exactly one argument.
fn one<T: FromStr<Err = Failure>>(spec: &Spec, rest: &str) -> Result<T, Failure> {
    let mut words = rest.split_whitespace();
    let first = words.next().ok_or_else(|| missing(spec))?;
    match words.next() {
        None => first.parse(),
        Some(second) => {
            let message = format!(
                "`{}` takes one {}, but there is also `{}`",
                spec.name,
                spec.arguments,
                shortened(second)
            );
            Err(Failure::new(Code::Usage, message))
        }
    }
}

fn connect(spec: &Spec, rest: &str) -> Result<Command, Failure> {
    match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
        [peer, "via", via] => Ok(Command::ConnectVia { peer: peer.parse()?, via: via.parse()? }),
        [_, "via"] => Err(missing(spec)),
        _ => one(spec, rest).map(Command::Connect),
    }
}

fn cancel(spec: &Spec, rest: &str) -> Result<Command, Failure> {
    let is_discard = |word: &&str| *word == "--discard";
    let discard = rest.split_whitespace().any(|word| is_discard(&word));
    let others: Vec<_> = rest.split_whitespace().filter(|word| !is_discard(word)).collect();
    Ok(Command::Cancel { id: one(spec, &others.join(" "))?, discard })
}

/// Entries that `history` tells where nobody says how many.
const HISTORY_ENTRIES: usize = 20;

fn history(spec: &Spec, rest: &str) -> Result<Command, Failure> {
    let (mut peer, mut only, mut most) = (None, None, None);
    let refuse = |message: String| Err(Failure::new(Code::Usage, message));
    for word in rest.split_whitespace() {
        let kind = match word {
            "--messages" => Some(HistoryKind::Messages),
            "--transfers" => Some(HistoryKind::Transfers),
            _ if word.starts_with("--") => {
                return refuse(format!(
                    "`history` takes --messages or --transfers, not `{}`",
                    shortened(word)
                ));
            }
            _ => None,
        };
        // The beginning of an identity may be all digits, and is longer.
        let count = word.parse::<usize>().ok().filter(|_| word.len() <= 5);
        let is_new = match (kind, count) {
            (Some(kind), _) => only.replace(kind).is_none_or(|before| before == kind),
            (None, Some(count)) => most.replace(count).is_none(),
            (None, None) => peer.replace(word.parse()?).is_none(),
        };
        if !is_new {
            let usage = format!("{} {}", spec.name, spec.arguments);
            return refuse(format!("`{}` is one too many: `{usage}`", shortened(word)));
        }
    }
    match most.unwrap_or(HISTORY_ENTRIES) {
        0 => refuse("`history 0` would tell nothing; give how many of the last entries to tell".to_owned()),
        most => Ok(Command::History { peer, only, most }),
    }
}

fn outbox(spec: &Spec, rest: &str) -> Result<Command, Failure> {
    let usage = |message| Err(Failure::new(Code::Usage, message));
    match split_word(rest.trim()) {
        ("", _) => Ok(Command::Outbox),
        ("cancel", which) if !which.trim().is_empty() => Ok(Command::Withdraw(selection(spec, which)?)),
        ("cancel", _) => usage(
            "`outbox cancel` needs the number of something that `outbox` lists, or `all`: for example `outbox \
             cancel 3`"
                .to_owned(),
        ),
        (other, _) => {
            usage(format!("`outbox` takes nothing or `cancel <id|all>`, not `{}`", shortened(other)))
        }
    }
}

fn share(spec: &Spec, rest: &str) -> Result<Command, Failure> {
    const KNOWN: &str = "--known";
    let trimmed = rest.trim();
    let path = trimmed.strip_prefix(KNOWN).filter(|rest| rest.starts_with(char::is_whitespace));
    let path =
        path.or_else(|| trimmed.strip_suffix(KNOWN).filter(|rest| rest.ends_with(char::is_whitespace)));
    let known_only = path.is_some();
    // A path may begin and end with blanks; what stands between it and a flag is none of it.
    let path = path.map_or(rest, str::trim);
    if path.trim().is_empty() || path.trim() == KNOWN {
        return Err(missing(spec));
    }
    Ok(Command::Share { path: absolute(path), known_only, is_kept: true })
}

fn limit(spec: &Spec, rest: &str) -> Result<Command, Failure> {
    let words: Vec<_> = rest.split_whitespace().collect();
    let direction = |word: &str| match word.to_lowercase().as_str() {
        "up" => Ok(Direction::Out),
        "down" => Ok(Direction::In),
        _ => {
            Err(Failure::new(Code::Usage, format!("`limit` takes `up` or `down`, not `{}`", shortened(word))))
        }
    };
    let rate = |word: &str| match word.to_lowercase().as_str() {
        "off" | "none" => Ok(None),
        _ => word.parse().map(Some),
    };
    match words.as_slice() {
        [] => Ok(Command::Limits),
        [way] => direction(way).and(Err(missing(spec))),
        [way, much] => Ok(Command::Limit { direction: direction(way)?, rate: rate(much)?, peer: None }),
        [way, much, peer] => {
            Ok(Command::Limit { direction: direction(way)?, rate: rate(much)?, peer: Some(peer.parse()?) })
        }
        [.., last] => {
            let message = format!("`limit` takes up to three words, but there is also `{}`", shortened(last));
            Err(Failure::new(Code::Usage, message))
        }
    }
}

/// A typed path as it is found from everywhere.
fn absolute(typed: &str) -> PathBuf {
    let home = std::env::var_os("HOME");
    let path = typed_path(typed, home.as_deref());
    std::path::absolute(&path).unwrap_or(path)
}

fn selection(spec: &Spec, rest: &str) -> Result<Selection, Failure> {
    if rest.trim().eq_ignore_ascii_case("all") {
        return Ok(Selection::All);
    }
    one(spec, rest).map(Selection::One)
}

/// A peer, and the rest of the line, which must not be blank.
fn peer_and_rest<'a>(spec: &Spec, rest: &'a str) -> Result<(PeerRef, &'a str), Failure> {
    let (peer, rest) = split_word(rest.trim_start());
    if peer.is_empty() {
        return Err(missing(spec));
    }
    let peer = peer.parse()?;
    if rest.trim().is_empty() {
        return Err(missing(spec));
    }
    Ok((peer, rest))
}

/// The path that somebody typed: in quotes it is what they enclose, else `~/` is the home directory.
fn typed_path(typed: &str, home: Option<&OsStr>) -> PathBuf {
    let typed = typed.trim_start();
    let trimmed = typed.trim_end();
    for quote in ['"', '\''] {
        let inner = trimmed.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.is_empty() && !inner.contains(quote)) {
            return PathBuf::from(inner);
        }
    }
    match (typed.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => PathBuf::from(home).join(below),
        _ => PathBuf::from(typed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TransferId;

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Parsed::Run(_, command)) => command,
            other => panic!("{line:?} became {other:?}"),
        }
    }

    fn error(line: &str) -> String {
        let failure = parse(line).expect_err(line);
        assert_eq!(failure.code, Code::Usage);
        failure.message
    }

    fn peer(text: &str) -> PeerRef {
        text.parse().unwrap()
    }

    #[test]
    fn messages_are_the_rest_of_the_line() {
        assert_eq!(
            command("  send localhost:8000 hello,  world \r\n"),
            Command::SendText(peer("localhost:8000"), "hello,  world ".into())
        );
        assert_eq!(command("broadcast # all of you"), Command::Broadcast("# all of you".into()));
    }

    #[test]
    fn paths_may_contain_spaces_and_stand_in_quotes() {
        let path = |line: &str| match command(line) {
            Command::SendFile { path, .. } => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path("sendfile a:1 the report.pdf"), PathBuf::from("the report.pdf"));
        assert_eq!(path("sendfile a:1 \"the report.pdf\" "), PathBuf::from("the report.pdf"));
        assert_eq!(path("sendfile a:1   'x'y"), PathBuf::from("'x'y"));
        assert_eq!(path("sendfile a:1 trailing "), PathBuf::from("trailing "));
        let home = Some(OsStr::new("/home/me"));
        assert_eq!(typed_path("~/a b", home), PathBuf::from("/home/me/a b"));
        assert_eq!(typed_path("'~/a'", home), PathBuf::from("~/a"));
        assert_eq!(typed_path("~/a", None), PathBuf::from("~/a"));
        assert_eq!(typed_path("\"", home), PathBuf::from("\""));
    }

    #[test]
    fn every_command_is_understood_and_its_examples_work() {
        for spec in COMMANDS {
            assert!(!spec.examples.is_empty());
            for example in spec.examples {
                match parse(example) {
                    Ok(Parsed::Run(found, _)) => assert_eq!(found.name, spec.name),
                    Ok(Parsed::Help(_)) => assert_eq!(spec.name, "help"),
                    Ok(Parsed::Quit) => assert_eq!(spec.name, "quit"),
                    other => panic!("{example:?} became {other:?}"),
                }
            }
        }
        assert_eq!(command("accept [7]"), Command::Accept(Selection::One(TransferId(7))));
        assert_eq!(command("REJECT all"), Command::Reject(Selection::All));
        assert!(matches!(parse("exit"), Ok(Parsed::Quit)));
        assert!(matches!(parse(" \t\r\n"), Ok(Parsed::Nothing)));
    }

    #[test]
    fn share_takes_a_path_with_blanks_and_a_flag_on_either_side_of_it() {
        for line in ["share the photos --known", "share --known the photos", "share  --known  the photos "] {
            let Command::Share { path, known_only, .. } = command(line) else { panic!("{line}") };
            assert_eq!((path.file_name(), known_only), (Some("the photos".as_ref()), true), "{line}");
        }
    }

    #[test]
    fn history_takes_whom_and_how_many_and_of_what_in_any_order() {
        let wanted = |whom: Option<&str>, only, most| Command::History { peer: whom.map(peer), only, most };
        let (messages, transfers) = (Some(HistoryKind::Messages), Some(HistoryKind::Transfers));
        assert_eq!(command("history"), wanted(None, None, 20));
        assert_eq!(command("history alice"), wanted(Some("alice"), None, 20));
        assert_eq!(command("history 99999 --messages"), wanted(None, messages, 99_999));
        for line in ["history a:1 5 --transfers", "history --transfers 5 a:1", "history 5 --transfers  a:1 "]
        {
            assert_eq!(command(line), wanted(Some("a:1"), transfers, 5), "{line}");
        }
        let digits = "1234567890123456";
        assert_eq!(command(&format!("history {digits} 3")), wanted(Some(digits), None, 3));
        for (line, says) in [
            ("history a b", "`b` is one too many: `history [peer] [count]`"),
            ("history 1 2", "`2` is one too many: `history [peer] [count]`"),
            ("history --messages --transfers", "`--transfers` is one too many: `history [peer] [count]`"),
            ("history --message", "`history` takes --messages or --transfers, not `--message`"),
            ("history 0", "`history 0` would tell nothing; give how many of the last entries to tell"),
        ] {
            assert_eq!(error(line), says);
        }
    }

    #[test]
    fn a_mistyped_command_gets_a_suggestion() {
        for (typed, meant) in [
            ("conect", "connect"),
            ("sned", "send"),
            ("trans", "transfers"),
            ("qiut", "quit"),
            ("frobnicate", ""),
        ] {
            let message = error(typed);
            let advice = if meant.is_empty() {
                "`help` lists the commands".to_owned()
            } else {
                format!("did you mean `{meant}`?")
            };
            assert_eq!(message, format!("unknown command `{typed}`; {advice}"));
        }
        assert_eq!(error("help sendfil"), "unknown command `sendfil`; did you mean `sendfile`?");
        assert!(error(&"x".repeat(1 << 20)).len() < 200);
    }

    #[test]
    fn errors_say_what_to_type_instead() {
        assert_eq!(
            error("sendfile localhost:8000"),
            "`sendfile` needs <peer> <path>…: for example `sendfile localhost:8000 report.pdf`"
        );
        assert_eq!(error("accept"), "`accept` needs <id|all>: for example `accept 2`");
        assert_eq!(error("connect a:1 b:2"), "`connect` takes one <host:port|peer>, but there is also `b:2`");
        assert_eq!(error("peers please"), "`peers` takes nothing after it, but there is `please`");
        assert!(error("connect localhost#").contains("is not a node id"));
        assert!(error("cancel all").contains("`transfers` lists them"));
        assert!(error("broadcast  ").contains("lunch?"));
    }
}
