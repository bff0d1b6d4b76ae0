//! The connected peers: what they speak, what waits to be written to them, what they did wrong.
//!
//! Invariant: `queue`, `circuit_queue` and `bulk_queue` hold exactly the messages given to send and not
//! yet reported as written, so that every bound on a peer's queue is a bound on memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::features::Features;
use super::liveness::Pings;
use super::reconnect::Process;
use super::relay::Via;
use super::texts::Texts;
use super::throttle::Bucket;
use super::{Book, Code, CommandId, ConnId, Failure, HostPort, Level, PeerRef, TransferId};
use crate::wire::{AskId, Binding, CircuitId, Instance, Message, NodeId, OfferId};

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
    /// What was typed to reach it.
    pub(super) dialled: Option<HostPort>,
    pub(super) dialled_by_us: bool,
    /// A person wanted whoever is there to be connected, wherever that is.
    pub(super) is_named: bool,
    /// The searches for which it was dialled and that still run; `None` where somebody typed it, or it dialled.
    pub(super) found_for: Option<BTreeSet<TransferId>>,
    /// Who it is; `None` in plaintext.
    pub(super) node_id: Option<NodeId>,
    /// Through whom it is connected, where that is not directly.
    pub(super) via: Option<Via>,
    /// The last circuits that this side and the peer opened on the connection.
    pub(super) last_circuit: Option<CircuitId>,
    pub(super) last_circuit_heard: Option<CircuitId>,
    /// Which of its processes it says it is; `None` until `HELLO`.
    pub(super) instance: Option<Instance>,
    pub(super) first_contact: bool,
    /// `None` until it is known.
    pub(super) level: Option<Level>,
    /// What both sides can do beyond the baseline.
    pub(super) features: Features,
    pub(super) agent: Option<String>,
    /// The port that it says it listens on; 0 where it does not.
    pub(super) listen_port: u16,
    /// What both ends know of the connection.
    pub(super) binding: Option<Binding>,
    /// How fast it may be sent to, and asked.
    pub(super) up: Bucket,
    pub(super) down: Bucket,
    /// The searches that it was asked about and did not answer.
    pub(super) asks: BTreeMap<AskId, TransferId>,
    /// Uploads that answer its searches.
    pub(super) answers: usize,
    pub(super) opened_at: Duration,
    /// Commands to be answered when the level is known.
    pub(super) connecting: Vec<CommandId>,
    /// Nothing more will arrive. It stays until the last of its downloads, of which everything had
    /// arrived, is in place and confirmed.
    pub(super) read_closed: bool,
    queue: VecDeque<Queued>,
    /// The same of what belongs to circuits: which one, and how much it is.
    circuit_queue: VecDeque<(CircuitId, usize)>,
    pub(super) queued_bytes: usize,
    /// Texts that are not written, or not acknowledged by a peer that acknowledges them.
    pub(super) texts: Texts,
    /// What was last heard from it, a message or a part of one.
    pub(super) pings: Pings,
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
    /// When it last asked for a part of what it was offered.
    pub(super) pulled_at: Option<Duration>,
    /// Chunks that may still come of downloads that were given up: a baseline sender cannot be
    /// told to stop, so they are not held against it.
    pub(super) tolerated_chunks: u64,
    /// The greatest number of an offer of its.
    pub(super) last_offer: Option<OfferId>,
    /// It ends the connection on purpose.
    pub(super) said_bye: bool,
    pub(super) bad_chunks: u32,
    pub(super) bad_lines: u32,
    pub(super) refusals: u32,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

impl Peer {
    pub(super) fn new(addr: SocketAddr, now: Duration) -> Self {
        Self {
            addr,
            dialled_by_us: false,
            is_named: false,
            found_for: None,
            dialled: None,
            node_id: None,
            via: None,
            last_circuit: None,
            last_circuit_heard: None,
            instance: None,
            first_contact: false,
            level: None,
            features: Features::default(),
            agent: None,
            listen_port: 0,
            binding: None,
            up: Bucket::default(),
            down: Bucket::default(),
            asks: BTreeMap::new(),
            answers: 0,
            opened_at: now,
            connecting: Vec::new(),
            read_closed: false,
            queue: VecDeque::new(),
            circuit_queue: VecDeque::new(),
            queued_bytes: 0,
            texts: Texts::default(),
            pings: Pings::default(),
            bulk_queue: VecDeque::new(),
            chunks_ahead: 0,
            served: TransferId(0),
            waiting_uploads: VecDeque::new(),
            active_uploads: BTreeSet::new(),
            downloads: BTreeSet::new(),
            last_chunk_at: now,
            pulled_at: None,
            tolerated_chunks: 0,
            last_offer: None,
            said_bye: false,
            bad_chunks: 0,
            bad_lines: 0,
            refusals: 0,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    /// A number for one more circuit that this side opens.
    pub(super) fn next_circuit(&mut self) -> CircuitId {
        let id = CircuitId::next(self.last_circuit, self.side());
        self.last_circuit = Some(id);
        id
    }

    /// Which process it is, where that is known.
    pub(super) fn process(&self) -> Option<Process> {
        self.node_id.zip(self.instance)
    }

    /// Whether commands may name it.
    pub(super) fn is_usable(&self) -> bool {
        self.level.is_some() && !self.read_closed
    }

    /// Whether nothing is under way with it.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle_but_for_uploads() && self.active_uploads.is_empty() && self.waiting_uploads.is_empty()
    }

    pub(super) fn is_idle_but_for_uploads(&self) -> bool {
        self.downloads.is_empty() && self.texts.pending() == 0
    }

    /// Whether it was dialled for a search alone, and nothing is under way with it.
    pub(super) fn is_found_and_idle(&self) -> bool {
        self.found_for.is_some() && self.is_idle() && self.answers == 0
    }

    /// The same, and no search needs it any more.
    pub(super) fn is_found_in_vain(&self) -> bool {
        let is_needed = self.found_for.as_ref().is_some_and(|gets| !gets.is_empty());
        self.is_found_and_idle() && !is_needed && self.asks.is_empty()
    }

    /// Notes a message without file content as given to send.
    pub(super) fn enqueue(&mut self, message: &Message) {
        let weight = message.weight();
        let is_text = matches!(message, Message::Text(_));
        self.queued_bytes += weight;
        if let Message::Circuit { id, .. } = message {
            return self.circuit_queue.push_back((*id, weight));
        }
        self.texts.unwritten += usize::from(is_text);
        self.queue.push_back(Queued { weight, is_text });
    }

    /// Notes the oldest of them as written.
    pub(super) fn dequeue(&mut self) {
        if let Some(written) = self.queue.pop_front() {
            self.queued_bytes -= written.weight;
            self.texts.unwritten -= usize::from(written.is_text);
        }
    }

    /// The same of what belongs to circuits.
    pub(super) fn dequeue_circuit(&mut self) -> Option<CircuitId> {
        let (id, weight) = self.circuit_queue.pop_front()?;
        self.queued_bytes -= weight;
        Some(id)
    }

    pub(super) fn nothing_queued(&self) -> bool {
        self.queue.is_empty() && self.circuit_queue.is_empty() && self.bulk_queue.is_empty()
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
        if !peer.dialled_by_us {
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

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_conn.values_mut()
    }

    /// Whether others made it and said nothing on it yet.
    pub(super) fn is_silent(&self, conn: ConnId) -> bool {
        self.silent.contains(&conn)
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

    /// Another connection to the same process of the same peer, of which that is known.
    pub(super) fn double_of(&self, conn: ConnId) -> Option<ConnId> {
        let peer = self.by_conn.get(&conn)?;
        let (id, instance) = (peer.node_id?, peer.instance?);
        let is_double = |(other, peer): &(&ConnId, &Peer)| {
            **other != conn
                && !peer.read_closed
                && peer.node_id == Some(id)
                && peer.instance == Some(instance)
        };
        self.by_conn.iter().find(is_double).map(|(other, _)| *other)
    }

    /// The peer that a user means. An address is the one dialled under it, else the one whose
    /// connection has it, unless it is pinned to another, else one that is pinned to it; a name is
    /// an alias, else the beginning of a node id.
    pub(super) fn resolve(&self, name: &PeerRef, book: &Book) -> Result<ConnId, Failure> {
        match self.candidates(name, book)?.as_slice() {
            [(conn, _)] => Ok(*conn),
            [] => Err(self.not_connected(name, book)),
            several => Err(ambiguous(name, several.iter().map(|(_, peer)| peer.addr))),
        }
    }

    /// The identity that a user means, who need not be connected: several connections to one
    /// identity are one. `nearby` are those that may be named without being connected or known.
    pub(super) fn identity(
        &self,
        name: &PeerRef,
        book: &Book,
        nearby: impl Iterator<Item = NodeId>,
    ) -> Result<Option<NodeId>, Failure> {
        let ids: BTreeSet<_> = match name {
            PeerRef::Address(address) => {
                let connected = self.candidates(name, book)?;
                let ids: BTreeSet<_> = connected.iter().filter_map(|(_, peer)| peer.node_id).collect();
                if ids.is_empty() { book.pins.get(address).copied().into_iter().collect() } else { ids }
            }
            PeerRef::Name(text) => {
                // What is merely claimed nearby makes nobody unclear who is connected or noted.
                let sure = self.called(text, book, std::iter::empty());
                if sure.is_empty() { self.called(text, book, nearby) } else { sure }
            }
        };
        if ids.len() > 1 {
            return Err(ambiguous(name, ids.iter()));
        }
        Ok(ids.first().copied())
    }

    /// The usable peers that a user may mean. An error where it is not even clear who is meant: that
    /// one of them happens not to be connected does not make it clear.
    fn candidates(&self, name: &PeerRef, book: &Book) -> Result<Vec<(ConnId, &Peer)>, Failure> {
        match name {
            PeerRef::Address(address) => {
                let typed: Option<SocketAddr> = address.to_string().parse().ok();
                let pinned = book.pins.get(address);
                Ok(self.first_matching(&[
                    &|peer| peer.dialled.as_ref() == Some(address),
                    // Whoever happens to connect from a pinned address is not whom it is pinned to.
                    &|peer| Some(peer.addr) == typed && (pinned.is_none() || peer.node_id.as_ref() == pinned),
                    &|peer| pinned.is_some() && peer.node_id.as_ref() == pinned,
                ]))
            }
            PeerRef::Name(text) => {
                let ids = self.called(text, book, std::iter::empty());
                if ids.len() > 1 {
                    return Err(ambiguous(name, ids.iter()));
                }
                let only = ids.first();
                Ok(self.first_matching(&[&|peer| only.is_some() && peer.node_id.as_ref() == only]))
            }
        }
    }

    fn called(&self, text: &str, book: &Book, nearby: impl Iterator<Item = NodeId>) -> BTreeSet<NodeId> {
        let connected = self.by_conn.values().filter(|peer| peer.is_usable());
        book.called(text, connected.filter_map(|peer| peer.node_id).chain(nearby))
    }

    /// The peers for which the first of the rules holds that holds for any.
    fn first_matching(&self, rules: &[&dyn Fn(&Peer) -> bool]) -> Vec<(ConnId, &Peer)> {
        let matching = |rule: &dyn Fn(&Peer) -> bool| {
            self.iter().filter(|(_, peer)| peer.is_usable() && rule(peer)).collect()
        };
        rules.iter().map(|rule| matching(*rule)).find(|found: &Vec<_>| !found.is_empty()).unwrap_or_default()
    }

    fn not_connected(&self, name: &PeerRef, book: &Book) -> Failure {
        let message = match name {
            PeerRef::Address(address) => {
                let typed = address.to_string().parse().ok();
                let elsewhere =
                    self.by_conn.values().find(|peer| Some(peer.addr) == typed && peer.is_usable());
                match (book.pins.get(address), elsewhere.and_then(|peer| peer.node_id)) {
                    (Some(pinned), Some(found)) => format!(
                        "`{name}` belongs to {pinned}, and the connection from there is {found}; name that one by \
                         its identity, or `connect {name}` for the other"
                    ),
                    _ => format!(
                        "not connected to `{name}`; `connect {name}` first, or pick one that `peers` lists"
                    ),
                }
            }
            PeerRef::Name(_) => format!(
                "no connected peer is called `{name}`; `peers` lists them, and an address is written host:port"
            ),
        };
        Failure::new(Code::UnknownPeer, message)
    }
}

fn ambiguous(name: &PeerRef, candidates: impl Iterator<Item = impl ToString>) -> Failure {
    let candidates: Vec<_> = candidates.map(|candidate| candidate.to_string()).collect();
    let message = format!("`{name}` is any of {}; use one of these", candidates.join(", "));
    Failure::new(Code::AmbiguousPeer, message)
}
