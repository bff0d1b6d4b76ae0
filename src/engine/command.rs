//! What the outside asks of a node, and what it answers.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AddressInfo, Alias, BanInfo, Book, Cell, Code, DhtInfo, Failure, HistoryEntry, HistoryKind, Level,
    NearbyInfo, OutboxInfo, Rate, Record, TransferId, Via,
};
use crate::wire::{FileHash, Instance, Link, NodeId, SafeName};

/// Something a user wants done. Each is answered with one [`Reply`] or [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Connect; answered when it is known what the peer speaks.
    Connect(Destination),
    /// The same to a known identity, through a peer that passes the connection on.
    ConnectVia {
        /// Whom to.
        peer: PeerRef,
        /// Through whom.
        via: PeerRef,
    },
    /// End a connection.
    Disconnect(PeerRef),
    /// Send a text to one peer; answered when it is queued. Where somebody known is meant who is not connected, it
    /// waits for them; answered when it is on disk. So does a file.
    SendText(PeerRef, String),
    /// Send a file or a directory to one peer; answered at once with the transfer's number.
    SendFile {
        /// To whom.
        to: PeerRef,
        /// Where it is.
        path: PathBuf,
        /// What it is to be called there, if not as it is called here.
        name: Option<SafeName>,
    },
    /// Let whoever knows its hash fetch a file or a directory; answered when it is hashed.
    Share {
        /// Where it is.
        path: PathBuf,
        /// Whether only trusted peers may.
        known_only: bool,
        /// Whether it is shared again when the node is started anew.
        is_kept: bool,
    },
    /// Limit how fast file content is sent or received.
    Limit {
        /// Which way.
        direction: Direction,
        /// To how much; `None` for as fast as it goes.
        rate: Option<Rate>,
        /// With one peer, for as long as it is connected; `None` for all together.
        peer: Option<PeerRef>,
    },
    /// Tell what is limited.
    Limits,
    /// Have nothing to do with somebody.
    Ban(PeerRef),
    /// End that.
    Unban(PeerRef),
    /// List who is banned.
    Bans,
    /// Do not share something any longer: its hash, the beginning of that, or its path.
    Unshare(String),
    /// List what is shared.
    Shares,
    /// Fetch a content from whoever has it; answered at once with the transfer's number.
    Get(Box<Link>),
    /// Send a text to all peers.
    Broadcast(String),
    /// List the peers.
    Peers,
    /// List who says that it is on the local network.
    Nearby,
    /// List offers and transfers.
    Transfers,
    /// Tell what was said, sent and received, also by others of the same home.
    History {
        /// With whom; `None` for everybody.
        peer: Option<PeerRef>,
        /// Of what kind; `None` for all.
        only: Option<HistoryKind>,
        /// At most so many, the latest.
        most: usize,
    },
    /// List what waits for others.
    Outbox,
    /// Do not deliver it any more.
    Withdraw(Selection),
    /// Tell about this node.
    Whoami,
    /// Take a peer's offers without asking from now on.
    Trust(PeerRef),
    /// Call a peer something.
    Alias(PeerRef, Alias),
    /// Forget a peer, or whom an address reached.
    Forget(PeerRef),
    /// Take an offer.
    Accept(Selection),
    /// Refuse an offer.
    Reject(Selection),
    /// Stop a transfer.
    Cancel {
        /// Which one.
        id: TransferId,
        /// Whether what has arrived is removed too; else another attempt goes on with it.
        discard: bool,
    },
    /// Wait until no transfer runs and nothing waits to be written.
    Wait,
    /// Tell who is known.
    Book,
    /// Nobody can be asked any more: decline the offers that wait for an answer, and later ones.
    StopAsking,
}

/// One offer or all that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The offer with this number.
    One(TransferId),
    /// Every waiting offer.
    All,
}

/// A typed `host:port`: a name or an address, and a port that is not 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The name or address, in lower case, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        Self { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl FromStr for HostPort {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| {
            Failure::new(
                Code::Usage,
                format!("`{text}` is not an address: {why}; write it like localhost:8000 or [::1]:8000"),
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains(':') => return Err(bad("an IPv6 address goes in brackets")),
            None => host,
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        if host.len() > 253 || host.chars().any(|c| c.is_whitespace() || c.is_control() || "/@[]".contains(c))
        {
            return Err(bad("that is no host name"));
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(bad("a port is a number from 1 to 65535")),
            Ok(port) => Ok(Self { host: host.to_lowercase(), port }),
        }
    }
}

/// What to dial: an address, and who must answer there, if that was said (`host:port#<node id>`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Where.
    pub address: HostPort,
    /// Who.
    pub id: Option<NodeId>,
}

impl FromStr for Target {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let (address, id) = match text.split_once('#') {
            None => (text, None),
            Some((address, id)) => {
                let bad = |_| {
                    let message =
                        format!("`{id}` is not a node id: 64 hexadecimal digits, as `whoami` prints them");
                    Failure::new(Code::Usage, message)
                };
                (address, Some(id.parse().map_err(bad)?))
            }
        };
        Ok(Self { address: address.parse()?, id })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        self.id.map_or(Ok(()), |id| write!(f, "#{id}"))
    }
}

/// What to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Whoever is at an address.
    Place(Target),
    /// Somebody, wherever that is: an alias, or the beginning of a node id.
    Person(String),
}

impl FromStr for Destination {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        // No alias contains a colon, and no identity either.
        if text.contains([':', '#']) || text.is_empty() {
            return text.parse().map(Self::Place);
        }
        Ok(Self::Person(text.to_owned()))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(target) => target.fmt(f),
            Self::Person(name) => f.write_str(name),
        }
    }
}

/// How a user names a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRef {
    /// The `host:port` under which we dialled it or to which it is pinned, or the `ip:port` of its
    /// connection.
    Address(HostPort),
    /// An alias, or the beginning of its node id.
    Name(String),
}

impl FromStr for PeerRef {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Failure> {
        // No alias contains a colon, and no identity either.
        if text.contains(':') || text.is_empty() {
            return text.parse().map(Self::Address);
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for PeerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The answer to a command that worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Connected, or already so.
    Connected {
        /// The connection's address.
        peer: SocketAddr,
        /// Who it is; nobody knows under `--plain`.
        node_id: Option<NodeId>,
        /// Whether the connection was there before.
        already: bool,
    },
    /// The connection is ended.
    Disconnected {
        /// The connection's address.
        peer: SocketAddr,
    },
    /// The text is on its way to these peers.
    TextQueued {
        /// Their connections' addresses.
        peers: Vec<SocketAddr>,
    },
    /// The transfer has begun; how it ends is told by an event.
    Sending {
        /// Its number.
        id: TransferId,
        /// To whom.
        peer: SocketAddr,
        /// What the file is called there.
        name: SafeName,
    },
    /// It waits for somebody who is not connected; an event says so too.
    Queued {
        /// Its number.
        id: TransferId,
        /// Whom it is for.
        node_id: NodeId,
    },
    /// What waits for others, oldest first.
    Outbox {
        /// What this process delivers.
        entries: Vec<OutboxInfo>,
        /// How much there is besides that other processes of this user deliver.
        elsewhere: usize,
    },
    /// These are not delivered any more.
    Withdrawn(Vec<TransferId>),
    /// Nothing is taken from it or given to it.
    Banned(NodeId),
    /// That is over.
    Unbanned(NodeId),
    /// Who is banned.
    Bans(Vec<BanInfo>),
    /// How fast file content may be sent and received.
    Limits(LimitsInfo),
    /// Whoever knows the hash may fetch it.
    Shared(Box<ShareInfo>),
    /// It is not shared any longer.
    Unshared(Box<ShareInfo>),
    /// What is shared, by path.
    Shares(Vec<ShareInfo>),
    /// The search has begun; how it ends is told by an event.
    Getting {
        /// Its number.
        id: TransferId,
        /// What is searched for.
        hash: FileHash,
    },
    /// The peers, longest connected first.
    Peers(Vec<PeerInfo>),
    /// Who says that it is near, those with an alias first.
    Nearby(Vec<NearbyInfo>),
    /// Offers and transfers, oldest first.
    Transfers(Vec<TransferInfo>),
    /// What was kept, oldest first.
    History(Vec<HistoryEntry>),
    /// This node.
    Whoami(NodeInfo),
    /// Who is known.
    Book(Book),
    /// These offers were accepted.
    Accepted(Vec<TransferId>),
    /// These offers were refused.
    Rejected(Vec<TransferId>),
    /// The transfer is stopped.
    Cancelled(TransferId),
    /// Nothing runs any more.
    Idle,
    /// The peer's offers are taken without asking.
    Trusted(NodeId),
    /// The peer has this name now.
    Named(NodeId, Alias),
    /// This was forgotten: peers and addresses.
    Forgotten(PeerRef),
    /// Done; there is nothing to say about it.
    Done,
}

/// What is known about a connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The connection's address, which names it in commands.
    pub peer: SocketAddr,
    /// The address that was typed to reach it, if we dialled.
    pub dialled: Option<HostPort>,
    /// Who it is; nobody knows under `--plain`.
    pub node_id: Option<NodeId>,
    /// Through whom it is connected, where that is not directly.
    pub via: Option<Via>,
    /// What this side calls it.
    pub alias: Option<Alias>,
    /// Whether its offers are taken without asking.
    pub trusted: bool,
    /// What it speaks.
    pub level: Level,
    /// The program it says it is; untrusted text.
    pub agent: Option<String>,
    /// How long it has been connected.
    pub connected_for: Duration,
    /// Bytes of file content sent to it.
    pub bytes_sent: u64,
    /// Bytes of verified file content received from it.
    pub bytes_received: u64,
    /// What dealings with it came to over all runs, where there were any.
    pub record: Option<Record>,
}

/// What is known about an offer or a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferInfo {
    /// Its number.
    pub id: TransferId,
    /// With whom; nobody, where it is only what an earlier attempt left.
    pub peer: Option<SocketAddr>,
    /// Which way.
    pub direction: Direction,
    /// The file's name.
    pub name: SafeName,
    /// The file's size in bytes; 0 until the file to send was opened.
    pub size: u64,
    /// The file's hash, once known.
    pub sha256: Option<FileHash>,
    /// Files in it, where it is a directory.
    pub files: Option<u32>,
    /// Bytes done in the present stage.
    pub bytes: u64,
    /// How far it is.
    pub stage: Stage,
    /// Those who send it, where it is received: first who delivered something, in the order in which they
    /// began to; bounded.
    pub sources: Vec<Delivery>,
    /// What of it is here and from which of them, in parts of the same length from its beginning to its end;
    /// bounded, and empty until it is accepted.
    pub cells: Vec<Cell>,
}

/// How fast file content may be sent and received; `None` for as fast as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsInfo {
    /// To all together.
    pub up: Option<Rate>,
    /// From all together.
    pub down: Option<Rate>,
    /// To and from single peers, where that is limited.
    pub peers: Vec<(SocketAddr, Option<Rate>, Option<Rate>)>,
}

/// What is known about something that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareInfo {
    /// Where it is.
    pub path: PathBuf,
    /// How others may ask for it, and where.
    pub link: Link,
    /// Whether it was found not to be what it was when it was shared: then it is not served.
    pub has_changed: bool,
}

/// Which way a transfer goes, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To the peer.
    Out,
    /// From the peer.
    In,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Whoever may have it is being asked.
    Searching,
    /// The file to send is being read and hashed.
    Hashing,
    /// Behind another file to the same baseline peer, which takes one at a time.
    Queued,
    /// Offered; the receiver has not answered.
    Offered,
    /// What an earlier attempt left is being verified.
    Checking,
    /// Bytes are moving.
    Transferring,
    /// The connection broke; the peer is waited for.
    Waiting,
    /// Nothing goes on: an earlier attempt left this.
    Partial,
    /// All bytes are there; waiting for the hash, the disk or the confirmation.
    Finishing,
}

impl Stage {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Searching => "searching",
            Self::Hashing => "hashing",
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Checking => "checking",
            Self::Transferring => "transferring",
            Self::Waiting => "waiting",
            Self::Partial => "partial",
            Self::Finishing => "finishing",
        }
    }
}

/// What a node knows about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// The address it listens on, with the real port.
    pub listening: SocketAddr,
    /// Where others may reach it.
    pub addresses: Vec<AddressInfo>,
    /// Who it is; nobody under `--plain`.
    pub node_id: Option<NodeId>,
    /// This run of the program.
    pub instance: Instance,
    /// Program and version.
    pub agent: String,
    /// Where received files go.
    pub downloads: PathBuf,
    /// Its place in a DHT, where it takes part in one.
    pub dht: Option<DhtInfo>,
}

/// What one of those who sent a content did for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The connection's address.
    pub peer: SocketAddr,
    /// Who it is; nobody knows under `--plain`.
    pub node_id: Option<NodeId>,
    /// Bytes of verified content that came from it.
    pub bytes: u64,
    /// Bytes that came from it after they had come from somebody else.
    pub wasted_bytes: u64,
    /// Chunks that were not what was announced.
    pub bad_chunks: u32,
}

impl Delivery {
    /// Whether that is who delivered; whoever connects anew is the same.
    pub(super) fn is_of(&self, peer: SocketAddr, node_id: Option<NodeId>) -> bool {
        self.node_id == node_id && (node_id.is_some() || self.peer == peer)
    }

    /// Of somebody who delivered nothing yet.
    pub(super) fn nothing(peer: SocketAddr, node_id: Option<NodeId>) -> Self {
        Self { peer, node_id, bytes: 0, wasted_bytes: 0, bad_chunks: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (typed, shown) in [
            ("localhost:8000", "localhost:8000"),
            ("LOCALHOST:8000", "localhost:8000"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[::1]:65535", "[::1]:65535"),
        ] {
            assert_eq!(typed.parse::<HostPort>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "localhost",
            ":80",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "::1:80",
            "a b:80",
            "[]:1",
            "x:-1",
        ] {
            let failure = bad.parse::<HostPort>().unwrap_err();
            assert_eq!(failure.code, Code::Usage, "{bad}");
            assert!(failure.message.contains("localhost:8000"), "the error shows how: {failure}");
        }
    }
}
