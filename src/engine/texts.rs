//! Chat messages: those that were said and not heard yet, and those that were heard.
//!
//! A peer with the feature acknowledges a text once it was shown, and a text that was not
//! acknowledged when a connection broke is said again on the next one, under the same number. Numbers
//! only grow, and on a connection texts come in order, so the greatest number heard from a process
//! tells which ones are repeats.

use std::collections::{BTreeMap, VecDeque};

use super::{ConnId, Deadline, Direction, Engine, Event, Output, Past};
use crate::wire::{Instance, Message, NodeId};

/// Processes whose last number is remembered after they left.
const REMEMBERED: usize = 1024;

/// A text that is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) id: u64,
    pub(super) text: String,
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

    fn say(&mut self, said: Said) {
        self.unheard_bytes += said.text.len();
        self.unheard.push_back(said);
    }

    /// Expects no acknowledgement any more, and answers of how many.
    fn forget(&mut self) -> usize {
        self.unheard_bytes = 0;
        std::mem::take(&mut self.unheard).len()
    }

    fn acknowledged(&mut self, id: u64) {
        while self.unheard.front().is_some_and(|said| said.id <= id)
            && let Some(said) = self.unheard.pop_front()
        {
            self.unheard_bytes -= said.text.len();
        }
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
        let Some(peer) = self.peers.get_mut(conn) else { return false };
        // Half of the queue stays free for what the protocol itself has to say.
        let limit = self.config.limits.control_bytes_queued / 2;
        let (addr, node_id) = (peer.addr, peer.node_id);
        let said = Past::Message { direction: Direction::Out, text: text.clone() };
        let plain = Message::Text(text);
        if peer.queued_bytes.max(peer.texts.bytes()) + plain.weight() > limit {
            return false;
        }
        let message = match plain {
            Message::Text(text) if peer.features.text_ack => {
                self.last_text += 1;
                let id = self.last_text;
                peer.texts.say(Said { id, text: text.clone() });
                self.timers.set(Deadline::Heard(conn), self.now + self.config.limits.confirmation_wait);
                Message::NumberedText { id, text }
            }
            plain => plain,
        };
        self.send(conn, message);
        self.remember(Some(addr), node_id, said);
        true
    }

    /// Says again what was not heard on an earlier connection to the same peer.
    pub(super) fn say_again(&mut self, conn: ConnId, unheard: VecDeque<Said>) {
        for Said { id, text } in unheard {
            let Some(peer) = self.peers.get_mut(conn) else { return };
            peer.texts.say(Said { id, text: text.clone() });
            self.timers.set(Deadline::Heard(conn), self.now + self.config.limits.confirmation_wait);
            self.send(conn, Message::NumberedText { id, text });
        }
    }

    pub(super) fn on_text(&mut self, conn: ConnId, text: String) {
        let Some(peer) = self.peers.get(conn) else { return };
        let message = Event::Message { peer: peer.addr, text };
        self.event(message);
    }

    pub(super) fn on_numbered_text(&mut self, conn: ConnId, id: u64, text: String) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if id <= peer.texts.heard {
            // It is shown, or will be: it was taken in before.
            return self.send(conn, Message::TextAck(id));
        }
        peer.texts.heard = id;
        let addr = peer.addr;
        if let (Some(node_id), Some(instance)) = (peer.node_id, peer.instance) {
            self.heard.note((node_id, instance), id);
        }
        let heard = Past::Message { direction: Direction::In, text: text.clone() };
        self.remember(Some(addr), None, heard);
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
        self.send(conn, Message::TextAck(id));
    }

    pub(super) fn on_text_ack(&mut self, conn: ConnId, id: u64) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.texts.acknowledged(id);
            if peer.texts.unheard.is_empty() {
                self.timers.clear(Deadline::Heard(conn));
            } else {
                self.timers.set(Deadline::Heard(conn), self.now + self.config.limits.confirmation_wait);
            }
        }
    }

    /// Nobody waits for ever for a peer that is there and acknowledges nothing.
    pub(super) fn on_not_heard(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let (addr, texts) = (peer.addr, peer.texts.forget());
        if texts > 0 {
            self.event(Event::Undelivered { peer: addr, texts });
        }
    }
}
