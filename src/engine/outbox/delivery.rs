//! Delivering what is in the outbox, and looking for those it is for.
//!
//! Invariant: for whom something waits, one of these is so: they are connected and it is said or sent, or it waits for its
//! turn behind that; they are being looked for; or a deadline is set for doing so again.

use std::time::Duration;

use super::{Entry, FIRST_PAUSE, OutboxItem, OutboxJob, State};
use crate::engine::{Code, ConnId, Deadline, Engine, Event, Failure, Output, Peer, TransferId};
use crate::wire::{NodeId, TextKey};

/// Files that are on their way to one receiver at a time.
const FILES_AT_ONCE: usize = 16;

/// The longest pause before somebody is looked for again; each is twice the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Somebody who is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) pause: Duration,
    /// Why it was not found, the last time.
    pub(super) why: Option<String>,
}

/// Whether a transfer that ended so may go better another time.
fn may_go_later(code: Code) -> bool {
    let later = [Code::Disconnected, Code::ShuttingDown, Code::Stalled, Code::Unconfirmed, Code::Busy];
    later.contains(&code)
}

impl Engine {
    /// The connection by which somebody gets what is kept: one, so that texts keep their order.
    pub(super) fn conn_to(&self, id: NodeId) -> Option<ConnId> {
        let is_it = |peer: &Peer| {
            peer.node_id == Some(id) && peer.is_usable() && !peer.said_bye && !peer.texts.is_mute
        };
        self.peers.iter().find(|(_, peer)| is_it(peer)).map(|(conn, _)| conn)
    }

    /// Delivers what waits for somebody, or looks for them.
    pub(in crate::engine) fn deliver_to(&mut self, id: NodeId) {
        if !self.outbox.of(id).any(|entry| entry.state != State::Sending) {
            // What moves waits for its connection by itself.
            if self.outbox.of(id).next().is_none() {
                self.outbox.awaited.remove(&id);
            }
            return;
        }
        let Some(conn) = self.conn_to(id) else { return self.look_for(id) };
        let due = |entry: &&Entry| entry.not_before <= self.now;
        let numbers: Vec<_> = self.outbox.of(id).filter(due).map(|entry| entry.number).collect();
        let mut texts_are_held_up = false;
        for number in numbers {
            let Some(entry) = self.outbox.get(|entry| entry.number == number) else { continue };
            let is_text = entry.kept.what.is_text();
            match entry.state {
                State::Keeping(_) => texts_are_held_up |= is_text,
                State::Said(_) | State::Sending => {}
                State::Waiting if is_text => {
                    texts_are_held_up = texts_are_held_up || !self.say_kept(conn, number);
                }
                State::Waiting => self.send_kept(conn, number),
            }
        }
        let later = self.outbox.of(id).map(|entry| entry.not_before).filter(|at| *at > self.now).min();
        // What the peer's queue has no room for now may wait for no acknowledgement that would go on with it.
        let anew = texts_are_held_up.then_some(self.now + FIRST_PAUSE);
        if let Some(at) = later.into_iter().chain(anew).min() {
            self.timers.set(Deadline::Outbox(id), at);
        }
    }

    /// `false` where the peer's queue is full; it goes on when something is acknowledged.
    fn say_kept(&mut self, conn: ConnId, number: TransferId) -> bool {
        let Some(entry) = self.outbox.get(|entry| entry.number == number) else { return true };
        let OutboxItem::Text(text) = &entry.kept.what else { return true };
        let (text, key) = (text.clone(), entry.kept.key);
        if !self.queue_text_as(conn, text, Some(key)) {
            return false;
        }
        if let Some(entry) = self.outbox.get(|entry| entry.number == number) {
            entry.state = State::Said(conn);
        }
        // Whoever acknowledges nothing has it as soon as that can be known.
        if self.peers.get(conn).is_some_and(|peer| !peer.features.text_ack) {
            self.on_key_heard(conn, key);
        }
        true
    }

    fn send_kept(&mut self, conn: ConnId, number: TransferId) {
        let to = self.peers.get(conn).and_then(|peer| peer.node_id);
        let under_way = to.map_or(0, |id| self.outbox.of(id).filter(|e| e.state == State::Sending).count());
        let Some(entry) = self.outbox.get(|entry| entry.number == number) else { return };
        let OutboxItem::File { path, name } = &entry.kept.what else { return };
        let (path, name) = (path.clone(), name.clone());
        if under_way >= FILES_AT_ONCE {
            return;
        }
        entry.state = State::Sending;
        if self.start_upload_as(number, conn, path, Some(name)).is_err()
            && let Some(entry) = self.outbox.get(|entry| entry.number == number)
        {
            entry.state = State::Waiting;
            entry.not_before = self.now + FIRST_PAUSE;
        }
    }

    /// The receiver has a text that may have been kept.
    pub(in crate::engine) fn on_key_heard(&mut self, conn: ConnId, key: TextKey) {
        let Some(entry) = self.outbox.remove(key) else { return };
        self.outputs.push_back(Output::Outbox(OutboxJob::Remove(key)));
        let Some(peer) = self.peers.get(conn).map(|peer| peer.addr) else { return };
        self.event(Event::Delivered { id: entry.number, peer, node_id: entry.kept.to });
    }

    /// The receiver of a transfer has all of it.
    pub(in crate::engine) fn on_kept_sent(&mut self, id: TransferId) {
        let Some(entry) = self.outbox.get(|entry| entry.number == id) else { return };
        let (key, to) = (entry.kept.key, entry.kept.to);
        self.outbox.remove(key);
        self.outputs.push_back(Output::Outbox(OutboxJob::Remove(key)));
        self.deliver_to(to);
    }

    /// A transfer failed. Whether it is to be tried again; otherwise what was kept is not any longer.
    pub(in crate::engine) fn is_kept_for_later(&mut self, id: TransferId, failure: &Failure) -> bool {
        let Some(entry) = self.outbox.get(|entry| entry.number == id && entry.state == State::Sending) else {
            return false;
        };
        let (key, to) = (entry.kept.key, entry.kept.to);
        if failure.code == Code::ShuttingDown && self.is_stopping {
            return true;
        }
        if !may_go_later(failure.code) {
            self.outbox.remove(key);
            self.outputs.push_back(Output::Outbox(OutboxJob::Remove(key)));
            // Others may have waited for its place.
            self.timers.set(Deadline::Outbox(to), self.now);
            return false;
        }
        let pause = self.next_pause(to);
        // What is left of the transfer is told by its number, so that another attempt has another.
        let number = self.next_transfer_id();
        if let Some(entry) = self.outbox.get(|entry| entry.kept.key == key) {
            (entry.number, entry.state) = (number, State::Waiting);
            entry.not_before = self.now + pause;
        }
        let at = self.outbox.of(to).map(|entry| entry.not_before).filter(|at| *at > self.now).min();
        self.timers.set(Deadline::Outbox(to), at.unwrap_or(self.now + pause));
        self.tell_kept(number, Some(id), Some(failure.message.clone()));
        true
    }

    fn next_pause(&mut self, id: NodeId) -> Duration {
        let awaited = self.outbox.awaited.entry(id).or_insert(Awaited { pause: FIRST_PAUSE, why: None });
        let pause = awaited.pause;
        awaited.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Looks where somebody may be, unless that is done, or is not to be done yet.
    fn look_for(&mut self, id: NodeId) {
        if self.seeks.contains_key(&id) || self.timers.is_set(Deadline::Outbox(id)) {
            return;
        }
        if self.is_banned(id) || !self.seek_kept(id) {
            self.look_later(id, None);
        }
    }

    pub(super) fn look_later(&mut self, id: NodeId, why: Option<String>) {
        if self.outbox.of(id).next().is_none() {
            self.outbox.awaited.remove(&id);
            return;
        }
        let pause = self.next_pause(id);
        if let Some(awaited) = self.outbox.awaited.get_mut(&id) {
            awaited.why = why.or(awaited.why.take());
        }
        self.timers.set(Deadline::Outbox(id), self.now + pause);
    }

    /// Somebody was looked for in vain.
    pub(in crate::engine) fn on_sought_in_vain(&mut self, id: NodeId, failure: &Failure) {
        // Whom it is about is said before it.
        let why = failure.message.strip_prefix('`').and_then(|rest| rest.split_once("`: "));
        self.look_later(id, Some(why.map_or(failure.message.as_str(), |(_, why)| why).to_owned()));
    }

    pub(in crate::engine) fn on_outbox_due(&mut self, id: NodeId) {
        self.deliver_to(id);
    }

    /// The local network says where somebody is, or they are called and known anew.
    pub(in crate::engine) fn look_now(&mut self, id: NodeId) {
        if self.outbox.of(id).any(|entry| entry.state == State::Waiting) && self.conn_to(id).is_none() {
            self.timers.clear(Deadline::Outbox(id));
            self.look_for(id);
        }
    }

    /// Somebody is connected, and it is known what they can do.
    pub(in crate::engine) fn deliver_on(&mut self, conn: ConnId) {
        let Some(id) = self.peers.get(conn).and_then(|peer| peer.node_id) else { return };
        if !self.config.outbox {
            return;
        }
        if self.book.is_known(id) {
            self.take_over();
        }
        self.outbox.awaited.remove(&id);
        self.timers.clear(Deadline::Outbox(id));
        for entry in self.outbox.entries.values_mut().filter(|entry| entry.kept.to == id) {
            entry.not_before = Duration::ZERO;
        }
        let sending: Vec<_> =
            self.outbox.of(id).filter(|e| e.state == State::Sending).map(|e| e.number).collect();
        for number in sending {
            self.offer_on(number, conn);
        }
        self.deliver_to(id);
    }

    /// A connection to somebody is no more. Whoever was there a moment ago is not dialled the moment after.
    pub(in crate::engine) fn miss(&mut self, id: NodeId) {
        let waits = self.outbox.of(id).any(|entry| entry.state == State::Waiting);
        let is_looked_for = self.seeks.contains_key(&id) || self.timers.is_set(Deadline::Outbox(id));
        if waits && self.conn_to(id).is_some() {
            self.deliver_to(id);
        } else if waits && !is_looked_for {
            self.look_later(id, None);
        }
    }
}
