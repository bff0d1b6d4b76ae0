//! Connections over a third node, as its two ends see them.
//!
//! Two nodes that are both connected to a third, and cannot reach each other, connect through it. What goes
//! through is an encrypted connection of its own: the node between sees how much is said, and by whom, and
//! no more (`passing`).
//!
//! A circuit is named by a connection and a number there ([`Hop`]); in the node between it has two of them. The end
//! of a circuit in this node is a stream ([`StreamId`]), over which peers are greeted as over TCP. The bytes of each
//! direction are bounded by a window, in whoever passes them on as in whoever reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use super::passing::{Legs, REFUSED};
use super::peers::Peer;
use super::throttle::Bucket;
use super::{Code, CommandId, ConnId, Engine, Failure, Output, PeerRef, Rate, Reply};
use crate::wire::{CIRCUIT_WINDOW, CircuitId, CircuitPart, Message, NodeId};

/// Circuits of one connection.
const MAX_PER_PEER: usize = 4;

/// Circuits of this node, passed on or used.
const MAX_CIRCUITS: usize = 64;

/// The network of 64 bits in which nobody is (RFC 6666).
pub(super) const NOWHERE: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0);

/// One end of a circuit within this node, over which a peer is greeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The upper half says through whom it goes: those who come through one peer have that in common
    /// ([`Origin`](super::Origin)), and nothing with others.
    fn new(via: Option<NodeId>, count: u32) -> Self {
        let NodeId([a, b, c, d, ..]) = via.unwrap_or(NodeId([0; 32]));
        Self(u64::from(u32::from_be_bytes([a, b, c, d])) << 32 | u64::from(count))
    }

    /// What stands for an address of whoever is at the other end: it leads nowhere (RFC 6666), and nobody
    /// else has it.
    pub fn addr(self) -> SocketAddr {
        (Ipv6Addr::from_bits(NOWHERE.to_bits() | u128::from(self.0)), 1).into()
    }
}

/// Through whom a peer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The address of the connection to it.
    pub peer: SocketAddr,
    /// Who it is.
    pub node_id: Option<NodeId>,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "via {}", self.peer)
    }
}

/// A circuit, as one connection calls it.
pub(super) type Hop = (ConnId, CircuitId);

/// An end of a circuit in this node.
#[derive(Debug)]
struct Stream {
    hop: Hop,
    /// Who is to be at the other end, where this node wants the circuit.
    wanted: Option<NodeId>,
    /// Who waits for it.
    command: Option<CommandId>,
    via: Via,
    /// The connection over it, once somebody is there.
    conn: Option<ConnId>,
    /// Bytes that came and were not read here, and bytes that went and were not read there.
    unread_here: u32,
    unread_there: u32,
}

/// A stream at whose other end somebody is.
pub(super) struct GreetedStream {
    pub(super) via: Via,
    /// Whether this node wanted it.
    pub(super) is_wanted: bool,
    /// Who waits for it.
    pub(super) command: Option<CommandId>,
}

/// All circuits that this node has to do with.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    /// What is passed on.
    pub(super) legs: Legs,
    /// What ends here.
    ends: BTreeMap<Hop, StreamId>,
    streams: BTreeMap<StreamId, Stream>,
    streams_made: u32,
    /// How fast is passed on.
    pub(super) bucket: Bucket,
}

impl Circuits {
    /// As fast as that is passed on; nothing where it is `None`.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { bucket: Bucket::limited(rate), ..Self::default() }
    }

    fn of(&self, conn: ConnId) -> Vec<Hop> {
        let range = (conn, CircuitId(0))..=(conn, CircuitId(u64::MAX));
        self.legs.of(conn).chain(self.ends.range(range).map(|(hop, _)| *hop)).collect()
    }

    pub(super) fn has_room(&self, conn: ConnId) -> bool {
        self.legs.circuits() + self.ends.len() < MAX_CIRCUITS && self.of(conn).len() < MAX_PER_PEER
    }

    /// Whether somebody waits for one.
    pub(super) fn are_awaited(&self) -> bool {
        self.streams.values().any(|stream| stream.command.is_some())
    }
}

impl Engine {
    /// Connects to a peer through another.
    pub(super) fn connect_via(&mut self, command: CommandId, peer: &PeerRef, via: &PeerRef) {
        if let Err(failure) = self.open_circuit(command, peer, via).map(|there| {
            if let Some(reply) = there {
                self.reply(command, Ok(reply));
            }
        }) {
            self.reply(command, Err(failure));
        }
    }

    /// The answer, where there is one at once.
    fn open_circuit(
        &mut self,
        command: CommandId,
        peer: &PeerRef,
        via: &PeerRef,
    ) -> Result<Option<Reply>, Failure> {
        let usage = |message: String| Err(Failure::new(Code::Usage, message));
        if !self.is_secure() {
            return usage("under --plain nobody has an identity to connect to through another".to_owned());
        }
        let conn = self.peers.resolve(via, &self.book)?;
        let wanted = self.who(peer)?.ok_or_else(|| {
            let message = format!(
                "it is not known who `{peer}` is; give its identity (64 digits, as its `whoami` prints it), or an \
                 alias that you gave it"
            );
            Failure::new(Code::UnknownIdentity, message)
        })?;
        if self.config.node_id == Some(wanted) {
            return Err(Failure::new(Code::SelfConnection, format!("`{peer}` is this node itself")));
        }
        let there = self.peers.iter().find(|(_, peer)| peer.is_usable() && peer.node_id == Some(wanted));
        if let Some((_, there)) = there {
            let (peer, node_id) = (there.addr, there.node_id);
            return Ok(Some(Reply::Connected { peer, node_id, already: true }));
        }
        let Some(between) = self.peers.get(conn) else { return usage("it has just left".to_owned()) };
        if !between.features.relay {
            let message = format!("`{via}` runs a version that passes no connections on");
            return Err(Failure::new(Code::Unsupported, message));
        }
        if !self.circuits.has_room(conn) {
            let message = format!(
                "no more connections go through `{via}`: {MAX_PER_PEER} may through one peer, and {MAX_CIRCUITS} in \
                 all; `disconnect` one first"
            );
            return Err(Failure::new(Code::Busy, message));
        }
        self.dial_through(conn, wanted, Some(command));
        Ok(None)
    }

    fn dial_through(&mut self, conn: ConnId, wanted: NodeId, command: Option<CommandId>) {
        let Some(between) = self.peers.get_mut(conn) else { return };
        let hop = (conn, between.next_circuit());
        self.open_stream(hop, Some(wanted), command);
        self.say(&hop, CircuitPart::Open { to: Some(wanted) });
    }

    /// Connects again to somebody through the same peer as before, if that is there and it is not under way.
    pub(super) fn connect_again_via(&mut self, wanted: NodeId, via: NodeId) {
        let is_under_way = self.circuits.streams.values().any(|stream| stream.wanted == Some(wanted));
        let passes_on = |(conn, peer): &(ConnId, &Peer)| {
            peer.node_id == Some(via)
                && peer.is_usable()
                && peer.features.relay
                && self.circuits.has_room(*conn)
        };
        let between = self.peers.iter().find(passes_on).map(|(conn, _)| conn);
        if let (false, Some(conn)) = (is_under_way, between) {
            self.dial_through(conn, wanted, None);
        }
    }

    fn open_stream(&mut self, hop: Hop, wanted: Option<NodeId>, command: Option<CommandId>) {
        let Some(between) = self.peers.get(hop.0) else { return };
        let via = Via { peer: between.addr, node_id: between.node_id };
        self.circuits.streams_made = self.circuits.streams_made.wrapping_add(1);
        let id = StreamId::new(via.node_id, self.circuits.streams_made);
        let stream = Stream { hop, wanted, command, via, conn: None, unread_here: 0, unread_there: 0 };
        self.circuits.streams.insert(id, stream);
        self.circuits.ends.insert(hop, id);
        self.outputs.push_back(Output::OpenStream { stream: id, wanted });
    }

    pub(super) fn say(&mut self, (conn, id): &Hop, part: CircuitPart) {
        self.send(*conn, Message::Circuit { id: *id, part });
    }

    pub(super) fn say_end(&mut self, hop: &Hop, code: &str) {
        self.say(hop, CircuitPart::End { code: code.to_owned() });
    }

    /// Whether circuits are passed on for a peer, and to it.
    pub(super) fn is_friend(&self, conn: ConnId) -> bool {
        let id = self.peers.get(conn).and_then(|peer| peer.node_id);
        id.is_some_and(|id| self.book.is_trusted(id) || self.config.node_id == Some(id))
    }

    pub(super) fn on_circuit(&mut self, conn: ConnId, id: CircuitId, part: CircuitPart) {
        let hop = (conn, id);
        match part {
            CircuitPart::Open { to } => self.on_circuit_wanted(hop, to),
            part if self.circuits.legs.contains(hop) => self.on_leg(hop, part),
            part => {
                if let Some(stream) = self.circuits.ends.get(&hop).copied() {
                    self.on_stream_heard(stream, part);
                }
                // Else it ended here, and the other side does not know yet.
            }
        }
    }

    fn on_circuit_wanted(&mut self, hop: Hop, to: Option<NodeId>) {
        let (conn, id) = hop;
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if !id.is_chosen_by(peer.side().other()) || peer.last_circuit_heard >= Some(id) {
            return self.refuse(conn, "it opened a circuit by a number that is not its to choose");
        }
        peer.last_circuit_heard = Some(id);
        let was_wanted = peer.dialled.is_some() || peer.is_named;
        if !self.circuits.has_room(conn) {
            return self.say_end(&hop, Code::Busy.as_str());
        }
        let Some(to) = to else {
            // Somebody wants to this node. Through strangers nobody comes.
            return match was_wanted || self.is_friend(conn) {
                true => self.open_stream(hop, None, None),
                false => self.say_end(&hop, Code::Declined.as_str()),
            };
        };
        self.on_passage_wanted(hop, to);
    }

    /// Something came for an end of a circuit in this node.
    fn on_stream_heard(&mut self, id: StreamId, part: CircuitPart) {
        let Some(stream) = self.circuits.streams.get_mut(&id) else { return };
        match &part {
            CircuitPart::Data(bytes) => {
                let len = u32::try_from(bytes.len()).expect("a message is bounded");
                if stream.unread_here + len > CIRCUIT_WINDOW {
                    return self.break_stream(id);
                }
                stream.unread_here += len;
            }
            CircuitPart::More(bytes) => match stream.unread_there.checked_sub(*bytes) {
                Some(left) => {
                    stream.unread_there = left;
                    // Who reads is there, however long its answers take: before them a whole window may have to be
                    // passed on.
                    if let Some(conn) = stream.conn {
                        self.heard_from(conn);
                    }
                }
                None => return self.break_stream(id),
            },
            CircuitPart::End { code } => {
                let failure = self.why_ended(id, code);
                return self.end_stream(id, &failure);
            }
            CircuitPart::Open { .. } => return,
        }
        self.outputs.push_back(Output::Stream { stream: id, part });
    }

    fn break_stream(&mut self, id: StreamId) {
        let Some(Stream { hop, .. }) = self.circuits.streams.get(&id) else { return };
        let hop = *hop;
        self.say_end(&hop, Code::Usage.as_str());
        self.end_stream(id, &Failure::new(Code::Disconnected, OUTSIDE_WINDOW));
        self.refuse(hop.0, OUTSIDE_WINDOW);
    }

    /// What it means that a circuit ended that this node wanted.
    fn why_ended(&self, id: StreamId, code: &str) -> Failure {
        let via =
            self.circuits.streams.get(&id).map(|stream| stream.via.peer.to_string()).unwrap_or_default();
        match code {
            "declined" => Failure::new(
                Code::Declined,
                format!(
                    "{via} does not pass connections on for this node: it must run with `--relay known`, and trust \
                     both of you"
                ),
            ),
            "not_found" => Failure::new(
                Code::NotFound,
                format!("{via} is not connected to that peer, or does not trust it"),
            ),
            REFUSED => Failure::new(
                Code::Declined,
                format!(
                    "{via} passed it on, and it was refused there: who is there must trust {via}, or have connected to \
                     it, and have room"
                ),
            ),
            "busy" => Failure::new(
                Code::Busy,
                format!("{via} passes on as many connections as it allows; try again later"),
            ),
            _ => Failure::new(Code::Unreachable, format!("the connection through {via} ended")),
        }
    }

    /// An end of a circuit in this node is no more.
    fn end_stream(&mut self, id: StreamId, why: &Failure) {
        let Some(stream) = self.circuits.streams.remove(&id) else { return };
        self.circuits.ends.remove(&stream.hop);
        let part = CircuitPart::End { code: why.code.as_str().to_owned() };
        self.outputs.push_back(Output::Stream { stream: id, part });
        if let Some(command) = stream.command {
            self.reply(command, Err(why.clone()));
        }
    }

    /// This node's end of a circuit says something.
    pub(super) fn on_stream(&mut self, id: StreamId, part: CircuitPart) {
        let Some(stream) = self.circuits.streams.get_mut(&id) else { return };
        let hop = stream.hop;
        match &part {
            CircuitPart::Data(bytes) => {
                stream.unread_there += u32::try_from(bytes.len()).expect("within the window");
            }
            CircuitPart::More(bytes) => stream.unread_here = stream.unread_here.saturating_sub(*bytes),
            CircuitPart::End { .. } => {
                let failure = Failure::new(Code::Unreachable, "the connection through another ended");
                self.end_stream(id, &failure);
            }
            CircuitPart::Open { .. } => return,
        }
        self.say(&hop, part);
    }

    /// Nobody could be greeted over a circuit.
    pub(super) fn on_stream_failed(&mut self, id: StreamId, failure: &Failure) {
        if let Some(Stream { hop, via, .. }) = self.circuits.streams.get(&id) {
            let (hop, code) = (*hop, failure.code);
            let message = format!("{} (it goes through {})", failure.message, via.peer);
            self.end_stream(id, &Failure::new(code, message));
            self.say_end(&hop, code.as_str());
        }
    }

    /// Somebody is there at the other end.
    pub(super) fn on_stream_greeted(&mut self, id: StreamId, conn: ConnId) -> Option<GreetedStream> {
        let stream = self.circuits.streams.get_mut(&id)?;
        stream.conn = Some(conn);
        let (via, is_wanted) = (stream.via, stream.wanted.is_some());
        Some(GreetedStream { via, is_wanted, command: stream.command.take() })
    }

    /// A connection is gone, and with it all circuits over it.
    pub(super) fn end_circuits_of(&mut self, conn: ConnId) {
        for hop in self.circuits.of(conn) {
            if let Some(stream) = self.circuits.ends.get(&hop).copied() {
                let message = "the connection to whom it goes through ended";
                self.end_stream(stream, &Failure::new(Code::Disconnected, message));
            } else {
                self.end_leg(hop, Code::Disconnected.as_str());
            }
        }
    }
}

pub(super) const OUTSIDE_WINDOW: &str = "it sent more through a circuit than was agreed on";

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    #[test]
    fn what_stands_for_an_address_is_unique_and_leads_nowhere() {
        let via = |digit: u8| Some(NodeId([digit; 32]));
        let addrs: std::collections::BTreeSet<_> =
            (0..70_000).map(|n| StreamId::new(via(0xa1), n).addr()).collect();
        assert_eq!(addrs.len(), 70_000);
        assert!(addrs.iter().all(|addr| addr.to_string().starts_with("[100::a1a1:a1a1:")), "{addrs:?}");
        // Who comes through the same peer is counted with it, and through another is not.
        let origins: std::collections::BTreeSet<_> = addrs.iter().map(|addr| Origin::of(addr.ip())).collect();
        assert_eq!(origins.len(), 1);
        assert!(!origins.contains(&Origin::of(StreamId::new(via(0xa2), 1).addr().ip())));
    }
}
