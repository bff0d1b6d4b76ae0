//! What happened and what was answered, as lines.
//!
//! [`Render`] is the seam between people and programs: [`Human`] words it here, the JSON of
//! `--json` is in `json`. Neither knows where the lines go. Invariant: whatever a peer wrote, and
//! whatever may quote it, passes [`escape`].

use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::{
    AddressInfo, AddressSource, Alias, BanInfo, Bottleneck, Code, Command, Delivery, Destination, DhtInfo,
    DhtState, Direction, Event, Failure, LimitsInfo, NearbyInfo, NodeInfo, OutboxInfo, OutboxItem, PeerInfo,
    Rate, Record, Reply, ShareInfo, TransferId, TransferInfo, Witness,
};
use crate::size;
use crate::wire::{FileHash, NodeId, SafeName};

use super::escape::{escape, escape_lines};
use super::human::{NOTHING, duration, rate, table};
use super::known::Known;
use super::parse::{COMMANDS, Spec};
use super::past;
use super::progress::{Rates, shortened};
use super::style::{Paint, Style};

/// How much of what a peer calls its program is listed. The peer may say anything there.
const AGENT_COLUMNS: usize = 20;

/// How much of a message that waits is listed.
const KEPT_COLUMNS: usize = 30;

/// A command that was given to the node.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The number of its line, from 1.
    pub(super) line: u64,
    /// Its name.
    pub(super) name: &'static str,
    /// What it asks.
    pub(super) command: Command,
}

/// Turns what is to be told into lines without the last line's end; `None` where nothing is.
pub(super) trait Render: Send {
    /// Something happened; `known` says how peers are called.
    fn event(&self, event: &Event, known: &Known) -> Option<String>;
    /// A command worked.
    fn reply(&self, asked: &Asked, reply: &Reply, known: &Known, rates: &Rates) -> Option<String>;
    /// A line did not work.
    fn failure(&self, line: u64, failure: &Failure) -> Option<String>;
    /// Somebody asked how it works.
    fn help(&self, line: u64, topic: Option<&Spec>) -> String;
    /// Somebody wants to leave.
    fn quit(&self, line: u64) -> Option<String>;
}

/// Lines for people.
pub(super) struct Human {
    /// Whether somebody types: then there is advice, and lines have no numbers.
    pub(super) at_prompt: bool,
    /// How they are coloured.
    pub(super) style: Style,
    /// How wide the screen is at this moment.
    pub(super) columns: fn() -> usize,
}

impl Human {
    /// For a reader who does not type here.
    pub(super) const PIPED: Self = Self { at_prompt: false, style: Style::PLAIN, columns: || usize::MAX };
}

impl Render for Human {
    fn event(&self, event: &Event, known: &Known) -> Option<String> {
        let name_of = |peer: &SocketAddr| known.name_of(*peer);
        Some(match event {
            Event::Listening { addr } if self.at_prompt => {
                format!("p2p {} listening on {addr}; type `help` for help", env!("CARGO_PKG_VERSION"))
            }
            Event::Listening { addr } => format!("listening on {addr}"),
            Event::Mapped { external, by, is_public: true } => {
                format!("reachable from the internet at {external}: the router passes it on ({by})")
            }
            Event::Mapped { external, by, is_public: false } => format!(
                "the router passes {external} on ({by}), but that is no address of the internet: another router is before \
                 it, probably the provider's; reachable from the networks in between"
            ),
            // Whoever dialled reads the answer to the command.
            Event::PeerConnected { dialled: Some(typed), first_contact: true, node_id: Some(id), .. }
            | Event::FirstContact { dialled: typed, node_id: id, .. } => {
                format!("first contact with {typed}: its identity is {id}, and is expected there from now on")
            }
            Event::PeerConnected { dialled: Some(typed), again: true, .. } => {
                format!("connected to {typed} again")
            }
            Event::PeerConnected { dialled: Some(_), .. } => return None,
            Event::PeerConnected { peer, node_id, alias, via, .. } => {
                let through = via.map(|via| format!(" [via {}]", name_of(&via.peer))).unwrap_or_default();
                format!("{peer} connected{}{through}", who(*node_id, alias.as_ref()))
            }
            Event::PeerDisconnected { peer, reason, .. } => {
                format!("{} disconnected: {}", known.name_and_address_of(*peer), escape(reason))
            }
            Event::Message { peer, text } => {
                let speaker = self.style.paint(Paint::Speaker, &format!("<{}>", name_of(peer)));
                format!("{speaker} {}", escape_lines(text))
            }
            Event::Offer { id, peer, name, size, files, expires_in, leaves, .. } => {
                let file = format!("{}, {}", thing(name, *files), size::human(*size));
                let peer = known.name_and_address_of(*peer);
                match expires_in {
                    Some(left) => {
                        let answers = self.style.paint(Paint::Asking, &format!("accept {id} / reject {id}"));
                        let room = match leaves {
                            Some(free) => format!("would leave only {} free; ", size::human(*free)),
                            None => String::new(),
                        };
                        let left = duration(*left);
                        format!("[{id}] {peer} offers {file}: {answers} ({room}expires in {left})")
                    }
                    None => format!("[{id}] {peer} sends {file}"),
                }
            }
            Event::Received { id, name, files, path, already: true, .. } => format!(
                "[{id}] {} was here already: {}",
                thing(name, *files),
                escape(&path.to_string_lossy())
            ),
            Event::Received { id, name, files, path, size, elapsed, limited_by, sources, .. } => format!(
                "[{id}] {} {}, {}: {}{}",
                self.style.paint(Paint::Good, "received"),
                thing(name, *files),
                how_it_went(*size, *elapsed, *limited_by),
                escape(&path.to_string_lossy()),
                who_delivered(sources, known)
            ),
            Event::Found { id, peer, name, size, files, .. } => {
                format!("[{id}] {} has {}, {}", name_of(peer), thing(name, *files), size::human(*size))
            }
            Event::Served { peer, name, bytes, .. } => {
                format!("served {} of {} to {}", size::human(*bytes), escape(name.as_str()), name_of(peer))
            }
            Event::Sent { id, peer, name, files, already: true, .. } => {
                format!("[{id}] {} has {} already", name_of(peer), thing(name, *files))
            }
            Event::Sent { id, peer, name, files, size, confirmed, elapsed, limited_by, .. } => {
                let doubt = match (confirmed, size) {
                    (true, _) => "",
                    (false, 0) => " (unconfirmed: a baseline peer never confirms an empty file)",
                    (false, _) => " (unconfirmed)",
                };
                let (name, went) = (thing(name, *files), how_it_went(*size, *elapsed, *limited_by));
                let sent = self.style.paint(Paint::Good, "sent");
                let peer = name_of(peer);
                format!("[{id}] {sent} {name} to {peer}, {went}{doubt}")
            }
            Event::TransferFailed { id, peer, name, direction, code, reason } => {
                let (name, reason) = (escape(name.as_str()), escape(reason));
                let verdict = match is_choice(*direction, *code) {
                    true => "ended".to_owned(),
                    false => self.style.paint(Paint::Bad, "failed"),
                };
                match (direction, peer.as_ref().map(name_of)) {
                    (Direction::Out, Some(peer)) => {
                        format!("[{id}] sending {name} to {peer} {verdict}: {reason}")
                    }
                    (Direction::In, Some(peer)) => {
                        format!("[{id}] receiving {name} from {peer} {verdict}: {reason}")
                    }
                    (_, None) => format!("[{id}] getting {name} {verdict}: {reason}"),
                }
            }
            Event::Queued { .. } => queued(event)?,
            Event::Delivered { id, peer, .. } => {
                format!("[{id}] {} to {}", self.style.paint(Paint::Good, "delivered"), name_of(peer))
            }
            Event::Undelivered { peer, texts: 1 } => {
                format!("a message to {} was not delivered", name_of(peer))
            }
            Event::Undelivered { peer, texts } => {
                format!("{texts} messages to {} were not delivered", name_of(peer))
            }
            Event::Progress { .. } | Event::Warning { .. } | Event::PeerNamed { .. } => return None,
        })
    }

    fn reply(&self, asked: &Asked, reply: &Reply, known: &Known, rates: &Rates) -> Option<String> {
        let name_of = |peer: &SocketAddr| known.name_of(*peer);
        Some(match reply {
            Reply::Connected { peer, node_id, already } => {
                let verb = if *already { "already connected to" } else { "connected to" };
                let mark = if node_id.is_none() { " [plain]" } else { "" };
                match &asked.command {
                    Command::Connect(Destination::Place(typed))
                        if typed.address.to_string() != peer.to_string() =>
                    {
                        format!("{verb} {} ({peer}){mark}", typed.address)
                    }
                    Command::Connect(Destination::Person(_)) => {
                        format!("{verb} {}", known.name_and_address_of(*peer))
                    }
                    Command::ConnectVia { .. } => format!("{verb} {}", known.name_and_address_of(*peer)),
                    _ => format!("{verb} {peer}{mark}"),
                }
            }
            Reply::Sending { id, peer, name } => {
                format!("[{id}] sending {} to {}", escape(name.as_str()), name_of(peer))
            }
            Reply::TextQueued { peers } if matches!(asked.command, Command::Broadcast(_)) => {
                match peers.len() {
                    1 => "sent to 1 peer".to_owned(),
                    count => format!("sent to {count} peers"),
                }
            }
            Reply::Shared(share) => format!(
                "shared {}, {}: {}",
                escape(&share.path.to_string_lossy()),
                size::human(share.link.size.unwrap_or_default()),
                share.link
            ),
            Reply::Unshared(share) => {
                format!("{} is not shared any longer", escape(&share.path.to_string_lossy()))
            }
            Reply::Banned(id) => format!("{id} is banned; `unban {}` ends that", short(*id)),
            Reply::Unbanned(id) => format!("{id} is not banned any longer"),
            Reply::Bans(bans) => bans_list(bans),
            Reply::Limits(limits) => limits_list(limits, known),
            Reply::Shares(shares) => shares_list(shares),
            Reply::History(entries) => past::history(entries, &asked.command),
            Reply::Getting { id, hash } => format!("[{id}] searching for {}", short_hash(*hash)),
            Reply::Peers(peers) => peers_table(peers, known, (self.columns)()),
            Reply::Nearby(nearby) => nearby_table(nearby, (self.columns)()),
            Reply::Transfers(transfers) => transfers_table(transfers, known, rates, (self.columns)()),
            Reply::Whoami(node) => whoami(node),
            Reply::Accepted(ids) => format!("accepted {}", numbers(ids)),
            Reply::Rejected(ids) => format!("rejected {}", numbers(ids)),
            Reply::Cancelled(id) => format!("cancelled [{id}]"),
            Reply::Outbox { entries, elsewhere } => outbox_table(entries, *elsewhere, (self.columns)()),
            Reply::Withdrawn(ids) if ids.is_empty() => "nothing waits in the outbox".to_owned(),
            Reply::Withdrawn(ids) => format!("withdrawn {}", numbers(ids)),
            Reply::Trusted(id) => format!("offers from {id} are taken without asking from now on"),
            Reply::Named(id, alias) => format!("{id} is called {alias} from now on"),
            Reply::Forgotten(peer) => format!("{peer} is forgotten"),
            Reply::Idle => "nothing runs any more".to_owned(),
            // The event says it, with the reason; a sent message is on the screen already.
            Reply::Disconnected { .. }
            | Reply::TextQueued { .. }
            | Reply::Queued { .. }
            | Reply::Book(_)
            | Reply::Done => return None,
        })
    }

    fn failure(&self, line: u64, failure: &Failure) -> Option<String> {
        let message = escape(&failure.message);
        Some(if self.at_prompt {
            format!("{} {message}", self.style.paint(Paint::Bad, "error:"))
        } else {
            format!("error in line {line}: {message}")
        })
    }

    fn help(&self, _line: u64, topic: Option<&Spec>) -> String {
        match topic {
            Some(spec) => help_on(spec),
            None => help(),
        }
    }

    fn quit(&self, _line: u64) -> Option<String> {
        None
    }
}

/// Who sent how much of something that several may have sent, each in a line.
fn who_delivered(sources: &[Delivery], known: &Known) -> String {
    let mut text = String::new();
    for Delivery { peer, bytes, wasted_bytes, bad_chunks, .. } in sources {
        text += &format!("\n    {} from {}", size::human(*bytes), known.name_and_address_of(*peer));
        if *wasted_bytes > 0 {
            text += &format!(", and {} too late", size::human(*wasted_bytes));
        }
        match bad_chunks {
            0 => {}
            1 => text += ", and 1 wrong chunk, fetched again elsewhere",
            wrong => text += &format!(", and {wrong} wrong chunks, fetched again elsewhere"),
        }
    }
    text
}

/// What was put into the outbox, or stays there.
fn queued(event: &Event) -> Option<String> {
    let Event::Queued { id, was, name, file, why, is_connected, .. } = event else { return None };
    let name = escape(name);
    let what = file.as_ref().map(|file| format!("{} ", escape(file.as_str()))).unwrap_or_default();
    let why = why.as_deref().map(escape);
    Some(match (was, why) {
        (Some(was), why) => {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            format!("[{was}] sending {what}to {name} is put off, as [{id}] in the outbox{why}")
        }
        (None, Some(why)) => {
            format!("[{id}] a message to {name} is kept in the outbox, sent when {name} is back: {why}")
        }
        (None, None) if *is_connected => {
            format!("[{id}] {what}kept in the outbox, sent when {name} has what waits before it")
        }
        (None, None) => {
            format!("{name} is not connected: [{id}] {what}kept in the outbox, sent when {name} is back")
        }
    })
}

/// What waits for others, a row for each.
fn outbox_table(entries: &[OutboxInfo], elsewhere: usize, columns: usize) -> String {
    let row = |info: &OutboxInfo| {
        let what = match &info.what {
            OutboxItem::Text(text) => shortened(&escape(text), KEPT_COLUMNS),
            OutboxItem::File { name, .. } => escape(name.as_str()).into_owned(),
        };
        let (name, why) = (escape(&info.name).into_owned(), escape(&info.why).into_owned());
        [format!("[{}]", info.id), name, what, format!("{} ago", duration(info.age)), why]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    let mut text = match rows.is_empty() {
        true => "nothing waits in the outbox".to_owned(),
        false => table(["ID", "TO", "WHAT", "SINCE", "WHY"], &rows, (3, columns)),
    };
    match elsewhere {
        0 => {}
        1 => text += "\n1 more is delivered by another node of yours that runs",
        more => text += &format!("\n{more} more are delivered by other nodes of yours that run"),
    }
    text
}

/// Who says that it is near: nothing of it is proven but what is connected.
fn nearby_table(nearby: &[NearbyInfo], columns: usize) -> String {
    if nearby.is_empty() {
        return "nobody else on this network says that it is there (yet)".to_owned();
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let rows: Vec<_> = nearby
        .iter()
        .map(|info| {
            let addrs: Vec<_> = info.addrs.iter().map(ToString::to_string).collect();
            let alias = if info.is_own {
                Some("(you)".to_owned())
            } else {
                info.alias.as_ref().map(ToString::to_string)
            };
            [
                short(info.node_id),
                or_dash(alias),
                or_dash(info.trusted.then(|| "yes".to_owned())),
                or_dash(info.peer.map(|peer| peer.to_string())),
                addrs.join(", "),
            ]
        })
        .collect();
    table(["SAYS IT IS", "ALIAS", "TRUSTED", "CONNECTED", "WHERE"], &rows, (2, columns))
}

fn bans_list(bans: &[BanInfo]) -> String {
    if bans.is_empty() {
        return "nobody is banned".to_owned();
    }
    let row = |ban: &BanInfo| match ban.ends_in {
        Some(left) => format!("{} for another {}", ban.node_id, duration(left)),
        None => format!("{} for good", ban.node_id),
    };
    bans.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn limits_list(limits: &LimitsInfo, known: &Known) -> String {
    let or_none = |rate: Option<Rate>| rate.map_or_else(|| "not limited".to_owned(), |rate| rate.to_string());
    let mut text = format!("up: {}, down: {}", or_none(limits.up), or_none(limits.down));
    for (peer, up, down) in &limits.peers {
        let peer = known.name_and_address_of(*peer);
        text += &format!("\n{peer}: up: {}, down: {}", or_none(*up), or_none(*down));
    }
    text
}

fn shares_list(shares: &[ShareInfo]) -> String {
    if shares.is_empty() {
        return "nothing is shared; `share <path>` shares something".to_owned();
    }
    let row = |share: &ShareInfo| {
        let known = if share.link.known_only { ", trusted peers only" } else { "" };
        let size = size::human(share.link.size.unwrap_or_default());
        let changed = if share.has_changed { ", changed since, not served" } else { "" };
        format!("{}, {size}{known}{changed}\n    {}", escape(&share.path.to_string_lossy()), share.link)
    };
    shares.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// `98 %`: how much of what was asked of it is likely to come, and what speaks against that.
pub(super) fn reputation(record: &Record) -> String {
    let mut text = format!("{:.0} %", record.score() * 100.0);
    if record.bad_chunks > 0 {
        text += &format!(", {} bad", record.bad_chunks);
    }
    text
}

/// As much of a hash as tells it from others.
fn short_hash(hash: FileHash) -> String {
    format!("{}…", &hash.to_string()[..16])
}

/// `notes.txt`, or `photos/ (120 files)`.
pub(super) fn thing(name: &SafeName, files: Option<u32>) -> String {
    thing_called(name.as_str(), files)
}

pub(super) fn thing_called(name: &str, files: Option<u32>) -> String {
    let name = escape(name);
    match files {
        None => name.into_owned(),
        Some(1) => format!("{name}/ (1 file)"),
        Some(files) => format!("{name}/ ({files} files)"),
    }
}

fn name_in_table(transfer: &TransferInfo) -> String {
    let slash = if transfer.files.is_some() { "/" } else { "" };
    format!("{}{slash}", escape(transfer.name.as_str()))
}

/// Whether a transfer ended because somebody here wanted it to, or did not want it. That is told,
/// but nothing failed.
pub(super) fn is_choice(direction: Direction, code: Code) -> bool {
    match code {
        Code::Cancelled => true,
        Code::Declined | Code::Expired | Code::Withdrawn => direction == Direction::In,
        _ => false,
    }
}

/// `3.2 MB in 0.4 s (8.0 MB/s, limited by hashing)`, and of an empty file only the time.
fn how_it_went(size: u64, elapsed: Duration, limited_by: Option<Bottleneck>) -> String {
    let mut text = format!("{} in {}", size::human(size), duration(elapsed));
    if let Some(rate) = rate(size, elapsed) {
        let limit = limited_by.map(|limit| format!(", limited by {}", limit_in_words(limit)));
        text += &format!(" ({rate}{})", limit.unwrap_or_default());
    }
    text
}

/// What limited a transfer. From here nobody can tell a slow line from a slow node behind it, so
/// that is not pretended.
fn limit_in_words(limit: Bottleneck) -> &'static str {
    match limit {
        Bottleneck::Disk => "our disk",
        Bottleneck::Hashing => "hashing",
        Bottleneck::Network => "network or peer",
        Bottleneck::OtherDisk => "the peer's disk",
    }
}

fn numbers(ids: &[TransferId]) -> String {
    match ids {
        [] => "nothing: no offer waits".to_owned(),
        ids => ids.iter().map(|id| format!("[{id}]")).collect::<Vec<_>>().join(" "),
    }
}

fn peers_table(peers: &[PeerInfo], known: &Known, columns: usize) -> String {
    if peers.is_empty() {
        return "no peer is connected; `connect <host:port>` connects to one".to_owned();
    }
    let rows: Vec<_> = peers
        .iter()
        .map(|peer| {
            let speaks = match &peer.agent {
                Some(agent) => shortened(&escape(agent), AGENT_COLUMNS),
                None => peer.level.as_str().to_owned(),
            };
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
            [
                peer.peer.to_string(),
                or_dash(match &peer.via {
                    Some(via) => Some(format!("[via {}]", known.name_of(via.peer))),
                    None => peer.dialled.as_ref().map(ToString::to_string),
                }),
                peer.node_id.map_or_else(|| "[plain]".to_owned(), short),
                or_dash(peer.alias.as_ref().map(ToString::to_string)),
                or_dash(peer.trusted.then(|| "yes".to_owned())),
                speaks,
                duration(peer.connected_for),
                size::human(peer.bytes_sent),
                size::human(peer.bytes_received),
                or_dash(peer.record.as_ref().map(reputation)),
            ]
        })
        .collect();
    table(
        [
            "PEER",
            "DIALLED AS",
            "IDENTITY",
            "ALIAS",
            "TRUSTED",
            "SPEAKS",
            "CONNECTED FOR",
            "SENT",
            "RECEIVED",
            "REPUTATION",
        ],
        &rows,
        (1, columns),
    )
}

fn transfers_table(transfers: &[TransferInfo], known: &Known, rates: &Rates, columns: usize) -> String {
    if transfers.is_empty() {
        return "no offer waits and no transfer runs".to_owned();
    }
    let rows: Vec<_> = transfers
        .iter()
        .map(|transfer| {
            let way = match transfer.direction {
                Direction::Out => "to",
                Direction::In => "from",
            };
            [
                format!("[{}]", transfer.id),
                name_in_table(transfer),
                transfer.peer.map_or_else(String::new, |peer| format!("{way} {}", known.name_of(peer))),
                transfer.stage.as_str().to_owned(),
                done(transfer.bytes, transfer.size),
                rates.get(&transfer.id).map_or_else(String::new, |rate| format!("{}/s", size::human(*rate))),
            ]
        })
        .collect();
    table(["ID", "FILE", "PEER", "STAGE", "DONE", "RATE"], &rows, (2, columns))
}

/// `1.0 MB of 3.2 MB (31 %)`, or as much of it as is known.
fn done(bytes: u64, size: u64) -> String {
    match (u128::from(bytes) * 100).checked_div(u128::from(size)) {
        Some(percent) => format!("{} of {} ({percent} %)", size::human(bytes), size::human(size)),
        None => size::human(bytes),
    }
}

/// Who somebody is, behind their address; marked where nobody knows.
fn who(node_id: Option<NodeId>, alias: Option<&Alias>) -> String {
    match (node_id, alias) {
        (None, _) => " [plain]".to_owned(),
        (Some(_), Some(alias)) => format!(" ({alias})"),
        (Some(id), None) => format!(" ({})", short(id)),
    }
}

/// As much of an identity as names a peer in commands and nobody else.
pub(super) fn short(id: NodeId) -> String {
    id.to_string()[..16].to_owned()
}

/// What others type to reach this node and nobody else.
pub(super) fn paste(node: &NodeInfo, id: NodeId) -> String {
    let addr = node.addresses.first().map_or(node.listening, |address| address.addr);
    format!("{addr}#{id}")
}

fn whoami(node: &NodeInfo) -> String {
    let speaks = match node.node_id {
        None => "the baseline protocol, unencrypted [plain]".to_owned(),
        Some(id) => {
            let mapped = node.addresses.iter().find(|row| matches!(row.source, AddressSource::Router(_)));
            let outside =
                mapped.map(|row| format!("\n              connect {}#{id}", row.addr)).unwrap_or_default();
            format!("TLS 1.3\nnode id       {id}\nothers type   connect {}{outside}", paste(node, id))
        }
    };
    let dht = node.dht.as_ref().map(dht_line).unwrap_or_default();
    format!(
        "listening on  {}\n{}speaks        {speaks}\n{dht}downloads     {}\nprogram       {}\ninstance      {}",
        node.listening,
        reachable_lines(&node.addresses),
        escape(&node.downloads.to_string_lossy()),
        escape(&node.agent),
        node.instance
    )
}

/// Where others can reach a node, and whether anybody has.
fn reachable_lines(addresses: &[AddressInfo]) -> String {
    let name = |witness: &Witness| match (&witness.alias, witness.node_id) {
        (Some(alias), _) => alias.to_string(),
        (None, Some(id)) => short(id),
        (None, None) => witness.peer.to_string(),
    };
    let row = |AddressInfo { addr, source, confirmed }: &AddressInfo| {
        let known = match (source, confirmed) {
            (_, Some(by)) => format!("{} came in there, {} ago", name(by), duration(by.ago)),
            (AddressSource::Peer(by), None) => format!("{} sees this node there; not confirmed", name(by)),
            (AddressSource::Router(by), None) => format!("the router passes it on, {by}; not confirmed"),
            (AddressSource::Interface, None) => "not confirmed: nobody has come in there".to_owned(),
        };
        format!("{addr} ({known})\n")
    };
    let rows: Vec<_> = addresses.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { format!("reachable at  {}", rows.join("              ")) }
}

fn dht_line(dht: &DhtInfo) -> String {
    let state = match &dht.state {
        None => "not entered yet".to_owned(),
        Some(DhtState::Away { why }) => escape(why).into_owned(),
        Some(DhtState::Joined { nodes, .. }) => format!("{nodes} nodes known"),
    };
    format!("DHT           {state}; {} announced\n", dht.announced)
}

fn help() -> String {
    let usage = |spec: &Spec| format!("{} {}", spec.name, spec.arguments);
    let width = COMMANDS.iter().map(|spec| usage(spec).len()).max().unwrap_or_default();
    let mut text: String =
        COMMANDS.iter().map(|spec| format!("  {:width$}  {}\n", usage(spec), spec.about)).collect();
    text += "A <peer> is the host:port you connected to, an address that `peers` lists, an\n";
    text += "alias, or the beginning of an identity.\n";
    text += "`help <command>` says more about one.";
    text
}

fn help_on(spec: &Spec) -> String {
    let mut text = format!("{} {}", spec.name, spec.arguments).trim_end().to_owned();
    text += &format!("\n  {}", spec.about);
    if !spec.more.is_empty() {
        text += &format!("\n  {}", spec.more);
    }
    text += "\nfor example:";
    for example in spec.examples {
        text += &format!("\n  {example}");
    }
    text
}

#[cfg(test)]
mod tests;
