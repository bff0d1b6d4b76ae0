//! Chat messages: those that were said and not heard yet, and those that were heard.
//!
//! A peer with the feature acknowledges a text once it was shown, and a text that was not
//! acknowledged when a connection broke is said again on the next one, under the same number. Numbers
//! only grow, and on a connection texts come in order, so the greatest number heard from a process
//! tells which ones are repeats. Where peers have identities a text has a key besides, by which it is known also
//! to other runs of both sides' programs: it is acknowledged once that is noted for good.

use std::collections::{BTreeMap, VecDeque};

use super::{ConnId, Deadline, Direction, Engine, Event, Failure, Output, Past};
use crate::wire::{Instance, Message, NodeId, TextKey};

/// Processes whose last number is remembered after they left.
const REMEMBERED: usize = 1024;

/// Connections on which a text is acknowledged that was said several times before it was shown.
const REPEATS: usize = 8;

/// A text that is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) id: u64,
    pub(super) text: String,
    pub(super) key: Option<TextKey>,
}

impl Said {
    fn message(&self) -> Message {
        Message::NumberedText { id: self.id, text: self.text.clone(), key: self.key }
    }
}

/// The texts of one connection.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// Those given to send that no acknowledgement is expected for.
    pub(super) unwritten: usize,
    /// Those that were not acknowledged, in order.
    pub(super) unheard: VecDeque<Said>,
    unheard_bytes: usize,
    /// The greatest number heard from the peer.
    heard: u64,
    /// It acknowledged nothing for so long that what waits for it is kept for another connection.
    pub(super) is_mute: bool,
}

impl Texts {
    /// How many have not reached the other side, as far as is known.
    pub(super) fn pending(&self) -> usize {
        self.unwritten + self.unheard.len()
    }

    /// Bytes kept for those that were not acknowledged.
    pub(super) fn bytes(&self) -> usize {
        self.unheard_bytes
    }

    pub(super) fn say(&mut self, said: Said) {
        self.unheard_bytes += said.text.len();
        self.unheard.push_back(said);
    }

    /// Expects no acknowledgement any more, and answers of what.
    pub(super) fn take(&mut self) -> VecDeque<Said> {
        self.unheard_bytes = 0;
        std::mem::take(&mut self.unheard)
    }

    /// Expects no acknowledgement of one of them.
    pub(super) fn withdraw(&mut self, key: TextKey) {
        self.unheard.retain(|said| said.key != Some(key));
        self.unheard_bytes = self.unheard.iter().map(|said| said.text.len()).sum();
    }

    /// The keys of those that are acknowledged by that.
    fn acknowledged(&mut self, id: u64) -> Vec<TextKey> {
        let mut keys = Vec::new();
        while self.unheard.front().is_some_and(|said| said.id <= id)
            && let Some(said) = self.unheard.pop_front()
        {
            self.unheard_bytes -= said.text.len();
            keys.extend(said.key);
        }
        keys
    }
}

/// The texts with keys that were told to whoever watches, and are not noted as shown.
#[derive(Debug, Default)]
pub(super) struct Showing {
    /// The key of each, by where it came first.
    by_place: BTreeMap<(ConnId, u64), (NodeId, TextKey)>,
    /// Where each is to be acknowledged.
    acks: BTreeMap<(NodeId, TextKey), Vec<(ConnId, u64)>>,
    is_failure_told: bool,
}

impl Showing {
    /// Where the latest of a connection's texts before that number is to be acknowledged.
    fn latest_before(&mut self, conn: ConnId, id: u64) -> Option<&mut Vec<(ConnId, u64)>> {
        let before = |acks: &[(ConnId, u64)]| {
            acks.iter()
                .filter(|(there, number)| *there == conn && *number < id)
                .map(|(_, number)| *number)
                .max()
        };
        let waiting = self.acks.values_mut().filter_map(|acks| Some((before(acks)?, acks)));
        waiting.max_by_key(|(number, _)| *number).map(|(_, acks)| acks)
    }
}

/// The greatest numbers heard from processes that are not connected any more, oldest first.
#[derive(Debug, Default)]
pub(super) struct Heard {
    by_process: BTreeMap<(NodeId, Instance), u64>,
    order: VecDeque<(NodeId, Instance)>,
}

impl Heard {
    fn note(&mut self, process: (NodeId, Instance), id: u64) {
        if self.by_process.insert(process, id).is_none() {
            self.order.push_back(process);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_process.remove(&oldest);
        }
    }

    fn last(&self, process: (NodeId, Instance)) -> u64 {
        self.by_process.get(&process).copied().unwrap_or(0)
    }
}

impl Engine {
    /// `false` where the peer's queue is full: then it keeps its connection, and the sender is told.
    pub(super) fn queue_text(&mut self, conn: ConnId, text: String) -> bool {
        self.queue_text_as(conn, text, None)
    }

    /// The same under a key that the text has already.
    pub(super) fn queue_text_as(&mut self, conn: ConnId, text: String, key: Option<TextKey>) -> bool {
        // What has one was kept before, or said, and went into the history then.
        let is_new = key.is_none();
        let key = key.unwrap_or_else(|| self.next_key());
        let Some(peer) = self.peers.get_mut(conn) else { return false };
        // Half of the queue stays free for what the protocol itself has to say.
        let limit = self.config.limits.control_bytes_queued / 2;
        let (addr, node_id) = (peer.addr, peer.node_id);
        let past = is_new.then(|| Past::Message { direction: Direction::Out, text: text.clone() });
        let plain = Message::Text(text);
        if peer.queued_bytes.max(peer.texts.bytes()) + plain.weight() > limit {
            return false;
        }
        let message = match plain {
            Message::Text(text) if peer.features.text_ack => {
                self.last_text += 1;
                let said = Said { id: self.last_text, text, key: peer.node_id.map(|_| key) };
                let message = said.message();
                peer.texts.say(said);
                self.timers.set(Deadline::Heard(conn), self.now + self.config.limits.confirmation_wait);
                message
            }
            plain => plain,
        };
        self.send(conn, message);
        if let Some(past) = past {
            self.remember(Some(addr), node_id, past);
        }
        true
    }

    /// Says again what was not heard on an earlier connection to the same peer.
    pub(super) fn say_again(&mut self, conn: ConnId, unheard: VecDeque<Said>) {
        for said in unheard {
            let Some(peer) = self.peers.get_mut(conn) else { return };
            let message = said.message();
            peer.texts.say(said);
            self.timers.set(Deadline::Heard(conn), self.now + self.config.limits.confirmation_wait);
            self.send(conn, message);
        }
    }

    pub(super) fn on_text(&mut self, conn: ConnId, text: String) {
        let Some(peer) = self.peers.get(conn) else { return };
        let (node_id, message) = (peer.node_id, Event::Message { peer: peer.addr, text });
        self.event_with(node_id, message);
    }

    pub(super) fn on_numbered_text(&mut self, conn: ConnId, id: u64, text: String, key: Option<TextKey>) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let known = peer.node_id.zip(key);
        if let Some(acks) = known.and_then(|known| self.showing.acks.get_mut(&known)) {
            // It is about to be noted. Acknowledged before that, it might be shown to nobody.
            acks.push((conn, id));
            acks.drain(..acks.len().saturating_sub(REPEATS));
            peer.texts.heard = peer.texts.heard.max(id);
            return;
        }
        if id <= peer.texts.heard || known.is_some_and(|(from, key)| self.shown.contains(from, key)) {
            peer.texts.heard = peer.texts.heard.max(id);
            // It is shown, or will be: it was taken in before. Who is told so takes all before it for shown too.
            return match self.showing.latest_before(conn, id) {
                Some(acks) => acks.push((conn, id)),
                None => self.send(conn, Message::TextAck(id)),
            };
        }
        peer.texts.heard = id;
        let (addr, node_id) = (peer.addr, peer.node_id);
        if let Some(known) = known {
            self.showing.by_place.insert((conn, id), known);
            self.showing.acks.insert(known, vec![(conn, id)]);
        }
        if let (Some(node_id), Some(instance)) = (peer.node_id, peer.instance) {
            self.heard.note((node_id, instance), id);
        }
        let heard = Past::Message { direction: Direction::In, text: text.clone() };
        self.remember(Some(addr), node_id, heard);
        self.outputs.push_back(Output::Show { conn, peer: addr, id, text });
    }

    /// Remembers what was heard from a process before.
    pub(super) fn recall_texts(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if let (Some(node_id), Some(instance)) = (peer.node_id, peer.instance) {
            peer.texts.heard = self.heard.last((node_id, instance));
        }
    }

    /// A person, a script or a log has the text.
    pub(super) fn on_shown(&mut self, conn: ConnId, id: u64) {
        match self.showing.by_place.remove(&(conn, id)) {
            Some((from, key)) => self.outputs.push_back(Output::Mark { from, key }),
            None => self.send(conn, Message::TextAck(id)),
        }
    }

    /// Whether something that was shown is being noted, and acknowledged only then.
    pub fn notes_shown(&self) -> bool {
        self.showing.acks.len() > self.showing.by_place.len()
    }

    /// It is noted that a text was shown, or cannot be: then it is shown all the same, and known to this process.
    pub(super) fn on_marked(&mut self, from: NodeId, key: TextKey, failure: Option<Failure>) {
        if let (Some(failure), false) = (failure, self.showing.is_failure_told) {
            self.showing.is_failure_told = true;
            let text =
                format!("a message that is said again after a restart would be shown twice: {failure}");
            self.event(Event::Warning { peer: None, text });
        }
        self.shown.insert(from, key);
        for (conn, id) in self.showing.acks.remove(&(from, key)).into_iter().flatten() {
            self.send(conn, Message::TextAck(id));
        }
    }

    /// Takes in what was shown before, or by others.
    pub(super) fn on_keys_read(&mut self, keys: Vec<(NodeId, TextKey)>) {
        for (from, key) in keys {
            self.shown.insert(from, key);
        }
    }

    pub(super) fn on_text_ack(&mut self, conn: ConnId, id: u64) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let keys = peer.texts.acknowledged(id);
        peer.texts.is_mute = false;
        let node_id = peer.node_id;
        if peer.texts.unheard.is_empty() {
            self.timers.clear(Deadline::Heard(conn));
        } else {
            self.timers.set(Deadline::Heard(conn), self.now + self.config.limits.confirmation_wait);
        }
        for key in keys {
            self.on_key_heard(conn, key);
        }
        if let Some(id) = node_id {
            self.deliver_to(id);
        }
    }

    /// Nobody waits for ever for a peer that is there and acknowledges nothing.
    pub(super) fn on_not_heard(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        peer.texts.is_mute = true;
        let (addr, node_id, unheard) = (peer.addr, peer.node_id, peer.texts.take());
        let texts = self.keep_unheard(conn, addr, node_id, unheard).len();
        if texts > 0 {
            self.event(Event::Undelivered { peer: addr, texts });
        }
        if let Some(id) = node_id {
            self.miss(id);
        }
    }
}
