//! The connected peers: what they speak, what waits to be written to them, what they did wrong.
//!
//! Invariant: `queue` holds exactly the messages given to send and not yet reported as written,
//! so that every bound on a peer's queue is a bound on memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Code, CommandId, ConnId, Failure, HostPort, Level, PeerRef, TransferId};
use crate::wire::Message;

/// A message that waits to be written and carries no file content.
#[derive(Debug)]
struct Queued {
    weight: usize,
    is_text: bool,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) dialled: Option<HostPort>,
    /// `None` until it is known.
    pub(super) level: Option<Level>,
    pub(super) agent: Option<String>,
    pub(super) opened_at: Duration,
    /// Commands to be answered when the level is known.
    pub(super) connecting: Vec<CommandId>,
    /// Nothing more will arrive. It stays until the last of its downloads, of which everything had
    /// arrived, is in place and confirmed.
    pub(super) read_closed: bool,
    queue: VecDeque<Queued>,
    pub(super) queued_bytes: usize,
    pub(super) queued_texts: usize,
    /// The chunks given to send, in order.
    pub(super) bulk_queue: VecDeque<(TransferId, u32)>,
    /// Chunks being read for it or in `bulk_queue`.
    pub(super) chunks_ahead: usize,
    /// The last upload that got a chunk; the next one in order is served next.
    pub(super) served: TransferId,
    /// Uploads that were hashed and wait for their turn to be offered.
    pub(super) waiting_uploads: VecDeque<TransferId>,
    /// Uploads that are offered or moving.
    pub(super) active_uploads: BTreeSet<TransferId>,
    /// All its offers and downloads.
    pub(super) downloads: BTreeSet<TransferId>,
    /// When it last sent a chunk that was wanted.
    pub(super) last_chunk_at: Duration,
    /// Chunks that may still come of downloads that were given up: a baseline sender cannot be
    /// told to stop, so they are not held against it.
    pub(super) tolerated_chunks: u64,
    pub(super) bad_chunks: u32,
    pub(super) bad_lines: u32,
    pub(super) refusals: u32,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

impl Peer {
    pub(super) fn new(addr: SocketAddr, dialled: Option<HostPort>, now: Duration) -> Self {
        Self {
            addr,
            dialled,
            level: None,
            agent: None,
            opened_at: now,
            connecting: Vec::new(),
            read_closed: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_texts: 0,
            bulk_queue: VecDeque::new(),
            chunks_ahead: 0,
            served: TransferId(0),
            waiting_uploads: VecDeque::new(),
            active_uploads: BTreeSet::new(),
            downloads: BTreeSet::new(),
            last_chunk_at: now,
            tolerated_chunks: 0,
            bad_chunks: 0,
            bad_lines: 0,
            refusals: 0,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    /// Whether commands may name it.
    pub(super) fn is_usable(&self) -> bool {
        self.level.is_some() && !self.read_closed
    }

    /// Notes a message without file content as given to send.
    pub(super) fn enqueue(&mut self, message: &Message) {
        let weight = message.weight();
        let is_text = matches!(message, Message::Text(_));
        self.queued_bytes += weight;
        self.queued_texts += usize::from(is_text);
        self.queue.push_back(Queued { weight, is_text });
    }

    /// Notes the oldest of them as written.
    pub(super) fn dequeue(&mut self) {
        if let Some(written) = self.queue.pop_front() {
            self.queued_bytes -= written.weight;
            self.queued_texts -= usize::from(written.is_text);
        }
    }

    pub(super) fn nothing_queued(&self) -> bool {
        self.queue.is_empty() && self.bulk_queue.is_empty()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_conn: BTreeMap<ConnId, Peer>,
    /// Connections made by others on which nothing was said yet, oldest first.
    silent: BTreeSet<ConnId>,
}

impl Peers {
    pub(super) fn insert(&mut self, conn: ConnId, peer: Peer) {
        if peer.dialled.is_none() {
            self.silent.insert(conn);
        }
        self.by_conn.insert(conn, peer);
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Peer> {
        self.silent.remove(&conn);
        self.by_conn.remove(&conn)
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Peer> {
        self.by_conn.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Peer> {
        self.by_conn.get_mut(&conn)
    }

    pub(super) fn len(&self) -> usize {
        self.by_conn.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Peer)> {
        self.by_conn.iter().map(|(conn, peer)| (*conn, peer))
    }

    /// Notes that the peer said something.
    pub(super) fn heard(&mut self, conn: ConnId) {
        self.silent.remove(&conn);
    }

    /// The oldest connection that others made and nobody spoke on, of those that `may_go`, if there
    /// are more than `limit`.
    pub(super) fn silent_past(&self, limit: usize, may_go: impl Fn(&Peer) -> bool) -> Option<ConnId> {
        if self.silent.len() <= limit {
            return None;
        }
        self.silent.iter().copied().find(|conn| self.by_conn.get(conn).is_some_and(&may_go))
    }

    /// The peer that a user means: the one dialled under that address, else the one whose
    /// connection has it.
    pub(super) fn resolve(&self, name: &PeerRef) -> Result<ConnId, Failure> {
        let usable = || self.iter().filter(|(_, peer)| peer.is_usable());
        let dialled: Vec<_> = usable().filter(|(_, peer)| peer.dialled.as_ref() == Some(&name.0)).collect();
        match dialled.as_slice() {
            [(conn, _)] => return Ok(*conn),
            [] => {}
            several => {
                let candidates: Vec<_> = several.iter().map(|(_, peer)| peer.addr.to_string()).collect();
                return Err(Failure::new(
                    Code::AmbiguousPeer,
                    format!("`{name}` is any of {}; use one of these", candidates.join(", ")),
                ));
            }
        }
        let addr: Option<SocketAddr> = name.to_string().parse().ok();
        usable().find(|(_, peer)| Some(peer.addr) == addr).map(|(conn, _)| conn).ok_or_else(|| {
            Failure::new(
                Code::UnknownPeer,
                format!("not connected to `{name}`; `connect {name}` first, or pick one that `peers` lists"),
            )
        })
    }
}
