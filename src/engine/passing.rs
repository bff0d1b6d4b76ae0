//! Circuits of others that this node passes on, for peers that it trusts.
//!
//! A circuit has a [`Leg`] for what comes from each of its ends. What is passed on counts as sent, so it waits for
//! the limits of that as for its own. Invariant: of each circuit at most one message waits to be written at each end;
//! what comes meanwhile is put together, bytes with bytes and room with room. So however small the pieces are in
//! which one end speaks, the other has no more to take than a window holds.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::peers::Peer;
use super::relay::Hop;
use super::{Code, ConnId, Engine};
use crate::wire::{CIRCUIT_WINDOW, CircuitId, CircuitPart, MAX_CIRCUIT_BYTES, NodeId};

/// What comes from one end of a circuit, and is said there.
#[derive(Debug)]
pub(super) struct Leg {
    /// The other end.
    to: Hop,
    /// Bytes that came and that the other end has not read.
    unread: u32,
    /// Those of them that are not passed on yet.
    held: BytesMut,
    /// Bytes that the other end has read, which is not said here yet.
    credit: u32,
    /// Whether something that is said here waits to be written.
    is_writing: bool,
    /// Whether all has come; and whether that was passed on.
    is_whole: bool,
    told_whole: bool,
    /// Why nothing more will come, where the circuit ends.
    ending: Option<&'static str>,
}

impl Leg {
    fn to(to: Hop) -> Self {
        Self {
            to,
            unread: 0,
            held: BytesMut::new(),
            credit: 0,
            is_writing: false,
            is_whole: false,
            told_whole: false,
            ending: None,
        }
    }

    /// Takes what is to be passed on next.
    fn take(&mut self) -> Option<CircuitPart> {
        if !self.held.is_empty() {
            let bytes = self.held.split_to(self.held.len().min(MAX_CIRCUIT_BYTES));
            return Some(CircuitPart::Data(bytes.freeze()));
        }
        if self.is_whole && !std::mem::replace(&mut self.told_whole, true) {
            return Some(CircuitPart::Data(Bytes::new()));
        }
        self.ending.map(|code| CircuitPart::End { code: code.to_owned() })
    }

    /// Takes in what came; `false` where that is more than was agreed on.
    fn hold(&mut self, bytes: &[u8]) -> bool {
        let len = u32::try_from(bytes.len()).expect("a message is bounded");
        // Of room that it was not told of it cannot have made use.
        if self.is_whole || self.ending.is_some() || self.unread + self.credit + len > CIRCUIT_WINDOW {
            return false;
        }
        self.unread += len;
        self.held.extend_from_slice(bytes);
        self.is_whole = bytes.is_empty();
        true
    }

    /// Takes note of what the other end says it has read; `false` where it cannot have.
    fn note_read(&mut self, bytes: u32) -> bool {
        let passed_on = self.unread - u32::try_from(self.held.len()).expect("within the window");
        if bytes == 0 || bytes > passed_on {
            return false;
        }
        self.unread -= bytes;
        self.credit += bytes;
        true
    }
}

/// All of them, by the end from which they come.
#[derive(Debug, Default)]
pub(super) struct Legs(BTreeMap<Hop, Leg>);

impl Legs {
    pub(super) fn contains(&self, at: Hop) -> bool {
        self.0.contains_key(&at)
    }

    /// Circuits.
    pub(super) fn circuits(&self) -> usize {
        self.0.len() / 2
    }

    pub(super) fn of(&self, conn: ConnId) -> impl Iterator<Item = Hop> {
        self.0.range((conn, CircuitId(0))..=(conn, CircuitId(u64::MAX))).map(|(at, _)| *at)
    }

    fn join(&mut self, one: Hop, other: Hop) {
        self.0.insert(one, Leg::to(other));
        self.0.insert(other, Leg::to(one));
    }

    fn remove(&mut self, at: Hop) -> Option<Hop> {
        let Leg { to, .. } = self.0.remove(&at)?;
        self.0.remove(&to);
        Some(to)
    }
}

impl Engine {
    /// A peer wants to be passed on to somebody.
    pub(super) fn on_passage_wanted(&mut self, from: Hop, to: NodeId) {
        if self.config.limits.relay.is_none() || !self.is_friend(from.0) {
            return self.say_end(&from, Code::Declined.as_str());
        }
        let is_there = |(conn, peer): &(ConnId, &Peer)| {
            *conn != from.0 && peer.node_id == Some(to) && peer.is_usable() && peer.features.relay
        };
        let there: Vec<_> = self.peers.iter().filter(is_there).map(|(conn, _)| conn).collect();
        // Who is connected here is told to friends, and only of friends.
        if !there.iter().any(|conn| self.is_friend(*conn)) {
            return self.say_end(&from, Code::NotFound.as_str());
        }
        let with_room = there.into_iter().find(|conn| self.circuits.has_room(*conn));
        let Some((conn, peer)) = with_room.and_then(|conn| Some((conn, self.peers.get_mut(conn)?))) else {
            return self.say_end(&from, Code::Busy.as_str());
        };
        let onward = (conn, peer.next_circuit());
        self.circuits.legs.join(from, onward);
        self.say_at_leg(onward, CircuitPart::Open { to: None });
    }

    /// Something came of a circuit that is passed on.
    pub(super) fn on_leg(&mut self, at: Hop, part: CircuitPart) {
        let Some(leg) = self.circuits.legs.0.get_mut(&at) else { return };
        let to = leg.to;
        let is_agreed = match part {
            CircuitPart::Data(bytes) => leg.hold(&bytes),
            CircuitPart::More(bytes) => {
                self.circuits.legs.0.get_mut(&to).is_some_and(|back| back.note_read(bytes))
            }
            CircuitPart::End { code } => return self.end_leg(at, passed_on(&code)),
            CircuitPart::Open { .. } => return,
        };
        if is_agreed {
            self.say_next(to);
        } else {
            self.break_circuit(at);
        }
    }

    /// A peer broke the rules of a circuit that is passed on.
    fn break_circuit(&mut self, at: Hop) {
        self.say_end(&at, Code::Usage.as_str());
        self.end_leg(at, Code::Disconnected.as_str());
        self.refuse(at.0, super::relay::OUTSIDE_WINDOW);
    }

    /// Nothing more comes from there. What came is passed on still.
    pub(super) fn end_leg(&mut self, at: Hop, code: &'static str) {
        let Some(leg) = self.circuits.legs.0.get_mut(&at) else { return };
        let to = leg.to;
        leg.ending.get_or_insert(code);
        if self.circuits.legs.0.get(&to).is_none_or(|other| other.ending.is_some()) {
            self.circuits.legs.remove(at);
        } else {
            self.say_next(to);
        }
    }

    /// Ends the circuits of those that are not trusted any more.
    pub(super) fn end_circuits_of_strangers(&mut self) {
        let of_strangers: Vec<_> =
            self.circuits.legs.0.keys().copied().filter(|(conn, _)| !self.is_friend(*conn)).collect();
        for at in of_strangers {
            if let Some(other) = self.circuits.legs.remove(at) {
                self.say_end(&at, Code::Declined.as_str());
                self.say_end(&other, Code::Declined.as_str());
            }
        }
    }

    /// What was said there last is written.
    pub(super) fn on_circuit_written(&mut self, at: Hop) {
        if let Some(leg) = self.circuits.legs.0.get_mut(&at) {
            leg.is_writing = false;
            self.say_next(at);
        }
    }

    /// Says at one end what is to be said there next, if it is its turn.
    pub(super) fn say_next(&mut self, at: Hop) {
        match self.next_part(at) {
            Some(part @ CircuitPart::End { .. }) => {
                self.circuits.legs.remove(at);
                self.say(&at, part);
            }
            Some(part) => self.say_at_leg(at, part),
            None => {}
        }
    }

    fn say_at_leg(&mut self, at: Hop, part: CircuitPart) {
        if let Some(leg) = self.circuits.legs.0.get_mut(&at) {
            leg.is_writing = true;
        }
        self.say(&at, part);
    }

    fn next_part(&mut self, at: Hop) -> Option<CircuitPart> {
        let leg = self.circuits.legs.0.get_mut(&at)?;
        // Who ended it hears no more of it.
        if leg.is_writing || leg.ending.is_some() {
            return None;
        }
        let from = leg.to;
        if leg.credit > 0 {
            return Some(CircuitPart::More(std::mem::take(&mut leg.credit)));
        }
        if !self.circuits.legs.0.get(&from)?.held.is_empty() && !self.may_pass_on(at) {
            return None;
        }
        let part = self.circuits.legs.0.get_mut(&from)?.take()?;
        if let CircuitPart::Data(bytes) = &part {
            self.circuits.bucket.take(bytes.len() as u64, self.now);
            self.charge_up(at.0, bytes.len() as u64);
        }
        Some(part)
    }
}

/// Why a circuit ended, as it is passed on: the words by which this node says no are its own.
fn passed_on(code: &str) -> &'static str {
    match code {
        "declined" | "not_found" | "busy" | REFUSED => REFUSED,
        _ => "closed",
    }
}

/// What the end of a circuit says that is not wanted there, as whoever passes it on says it.
pub(super) const REFUSED: &str = "refused";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_was_not_told_of_is_none() {
        let mut leg = Leg::to((ConnId(1), CircuitId(1)));
        let part = vec![0; MAX_CIRCUIT_BYTES];
        for _ in 0..4 {
            assert!(leg.hold(&part) && leg.take().is_some());
        }
        assert!(leg.note_read(CIRCUIT_WINDOW) && !leg.note_read(1));
        assert!(!leg.hold(&part), "what was read is not told of yet");
        leg.credit = 0;
        assert!(leg.hold(&part));
    }
}
