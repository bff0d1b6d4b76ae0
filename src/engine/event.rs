//! What happened, for whoever watches the node: a prompt, a script, a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Alias, Bottleneck, Code, Delivery, Direction, HostPort, Level, Stage, TransferId, Via};
use crate::wire::{FileHash, NodeId, SafeName};

/// Something that happened. Text and names that came from a peer are as the peer sent them:
/// whoever shows them escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The node accepts connections.
    Listening {
        /// The bound address, with the real port.
        addr: SocketAddr,
    },
    /// A router passes connections on to the node.
    Mapped {
        /// Where others come in, as it says.
        external: SocketAddr,
        /// The protocol in which it was asked.
        by: &'static str,
        /// Whether that can be reached from everywhere. Where it cannot, another router is before that one.
        is_public: bool,
    },
    /// A peer is there and it is known what it speaks.
    PeerConnected {
        /// The connection's address.
        peer: SocketAddr,
        /// The address that was typed to reach it, if we dialled.
        dialled: Option<HostPort>,
        /// Who it is; nobody knows under `--plain`.
        node_id: Option<NodeId>,
        /// What this side calls it.
        alias: Option<Alias>,
        /// Through whom it is connected, where that is not directly.
        via: Option<Via>,
        /// Whether the dialled address was pinned to it just now.
        first_contact: bool,
        /// Whether it was dialled because an earlier connection had broken.
        again: bool,
        /// What it speaks.
        level: Level,
    },
    /// An address that was never connected to is pinned to a peer that was connected already.
    FirstContact {
        /// The connection's address.
        peer: SocketAddr,
        /// What was typed.
        dialled: HostPort,
        /// Whom it is pinned to.
        node_id: NodeId,
    },
    /// A connected peer is called something else from now on, or nothing any more: this side said
    /// so, here or in another process of the same home.
    PeerNamed {
        /// The connection's address.
        peer: SocketAddr,
        /// What this side calls it.
        alias: Option<Alias>,
    },
    /// A peer is gone.
    PeerDisconnected {
        /// The connection's address.
        peer: SocketAddr,
        /// Why, in words.
        reason: String,
        /// Whether it is expected back: its connection broke. The reason says so too.
        is_waited_for: bool,
    },
    /// A text arrived.
    Message {
        /// From whom.
        peer: SocketAddr,
        /// The text.
        text: String,
    },
    /// A peer offers a file, and somebody must say whether it is wanted.
    Offer {
        /// The number to accept or reject.
        id: TransferId,
        /// Who offers.
        peer: SocketAddr,
        /// The file's name.
        name: SafeName,
        /// Its size in bytes.
        size: u64,
        /// Its hash; `None` where its sender hashes it while it travels.
        sha256: Option<FileHash>,
        /// Files in it, where it is a directory.
        files: Option<u32>,
        /// How long the offer stands; `None` where it was accepted without asking.
        expires_in: Option<Duration>,
        /// Bytes that it would leave free where received files go, where that is less than is to stay free
        /// (`Limits::keep_free`): then it is asked about even if it were taken otherwise.
        leaves: Option<u64>,
    },
    /// A transfer moved on; at most four a second for each.
    Progress {
        /// Its number.
        id: TransferId,
        /// With whom; nobody, where something is hashed to be shared.
        peer: Option<SocketAddr>,
        /// The file's name.
        name: SafeName,
        /// Which way.
        direction: Direction,
        /// What the bytes count.
        stage: Stage,
        /// Bytes done in this stage.
        bytes: u64,
        /// Bytes in all.
        size: u64,
    },
    /// What was searched for was found, and is being fetched.
    Found {
        /// The transfer's number.
        id: TransferId,
        /// Who has it.
        peer: SocketAddr,
        /// What it is called.
        name: SafeName,
        /// Its size in bytes.
        size: u64,
        /// Its hash.
        sha256: FileHash,
        /// Files in it, where it is a directory.
        files: Option<u32>,
    },
    /// A peer fetched something that is shared, or as much of it as it wanted.
    Served {
        /// Who.
        peer: SocketAddr,
        /// What it is called.
        name: SafeName,
        /// Its hash.
        sha256: FileHash,
        /// Bytes that were sent.
        bytes: u64,
    },
    /// A file or directory arrived, is verified, synced and in place.
    Received {
        /// The transfer's number.
        id: TransferId,
        /// From whom.
        peer: SocketAddr,
        /// The name it was offered under.
        name: SafeName,
        /// Where it lies.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// Its hash.
        sha256: FileHash,
        /// Files in it, where it is a directory.
        files: Option<u32>,
        /// Whether it was there before, so that nothing had to be sent.
        already: bool,
        /// From acceptance to the final name.
        elapsed: Duration,
        /// What it waited for longest.
        limited_by: Option<Bottleneck>,
        /// Who delivered how much, where it was searched for; most first.
        sources: Vec<Delivery>,
    },
    /// A file was sent.
    Sent {
        /// The transfer's number.
        id: TransferId,
        /// To whom.
        peer: SocketAddr,
        /// The name it was offered under.
        name: SafeName,
        /// Its size in bytes.
        size: u64,
        /// Its hash.
        sha256: FileHash,
        /// Files in it, where it is a directory.
        files: Option<u32>,
        /// Whether the peer said that it has the file. A baseline peer never does for an empty one.
        confirmed: bool,
        /// Whether the peer had it before, so that nothing was sent.
        already: bool,
        /// From acceptance to the end.
        elapsed: Duration,
        /// What it waited for longest.
        limited_by: Option<Bottleneck>,
    },
    /// A transfer ended without the file being delivered.
    TransferFailed {
        /// Its number.
        id: TransferId,
        /// With whom; with nobody in particular, where it was searched for.
        peer: Option<SocketAddr>,
        /// The file's name.
        name: SafeName,
        /// Which way.
        direction: Direction,
        /// What kind of failure.
        code: Code,
        /// What happened, in words.
        reason: String,
    },
    /// Something waits in the outbox for somebody who is known, and is delivered when they are there.
    Queued {
        /// Its number.
        id: TransferId,
        /// Its number before, where it was being delivered.
        was: Option<TransferId>,
        /// Whom it is for.
        node_id: NodeId,
        /// What that is called.
        name: String,
        /// The name of the file; `None` where it is a text.
        file: Option<SafeName>,
        /// What became of it before, in words.
        why: Option<String>,
        /// Whether they are there, and it waits for others before it.
        is_connected: bool,
    },
    /// A text that had waited in the outbox was shown. Of a file there is [`Event::Sent`].
    Delivered {
        /// Its number.
        id: TransferId,
        /// To whom.
        peer: SocketAddr,
        /// Who that is.
        node_id: NodeId,
    },
    /// Texts that were queued for a peer were not written before the connection ended.
    Undelivered {
        /// For whom.
        peer: SocketAddr,
        /// How many.
        texts: usize,
    },
    /// Something for the log: a peer's fault that was dealt with, a refused offer.
    Warning {
        /// Who caused it.
        peer: Option<SocketAddr>,
        /// What happened and what was done about it.
        text: String,
    },
}

impl Event {
    /// The peer whom it concerns, where it is one.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Listening { .. } | Self::Mapped { .. } | Self::Queued { .. } => None,
            Self::PeerConnected { peer, .. }
            | Self::FirstContact { peer, .. }
            | Self::PeerNamed { peer, .. }
            | Self::PeerDisconnected { peer, .. }
            | Self::Message { peer, .. }
            | Self::Offer { peer, .. }
            | Self::Found { peer, .. }
            | Self::Served { peer, .. }
            | Self::Received { peer, .. }
            | Self::Sent { peer, .. }
            | Self::Delivered { peer, .. }
            | Self::Undelivered { peer, .. } => Some(*peer),
            Self::Progress { peer, .. } | Self::TransferFailed { peer, .. } | Self::Warning { peer, .. } => {
                *peer
            }
        }
    }
}
