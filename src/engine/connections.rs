//! Connections: from the first byte to the end of each, and what may be said on it.
//!
//! A connection is settled once it is known what the peer speaks; under TLS that is also when it is known
//! which process of whom is there, and whether there is another connection to it. What is said is
//! handed on to those whom it concerns: transfers, texts, pings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::features::Features;
use super::peers::Peer;
use super::reconnect::Ending;
use super::{
    CLOSED_BY_PEER, Closing, Code, ConnId, Deadline, Engine, Event, Failure, Level, Origin, Output, Reply,
};
use crate::wire::{BadLine, Binding, Hello, Message, Side};

/// A connection older than this is not one of two that were dialled at the same time.
const BROKEN_AFTER: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) fn on_opened(&mut self, conn: ConnId, peer: Peer) {
        if self.turn_away_banned(conn, &peer) {
            return;
        }
        if self.peers.len() >= self.config.limits.peers {
            if let Some(found) = self.one_that_was_found(&peer) {
                self.close_peer(
                    found,
                    "it was dialled for a search, and others want its place",
                    Ending::Closed,
                );
            } else if peer.found_for.is_some() {
                // Nobody gives way to who was dialled for a search.
            } else if let Some(one_of_many) = self.one_of_a_crowd(&peer) {
                self.drop_peer(one_of_many, "there are many from where it comes, and there is no room");
            } else if let Some(oldest) = self.peers.silent_past(0, |_| true) {
                self.drop_peer(oldest, "it has not said anything yet, and there is no room");
            }
        }
        if self.peers.len() >= self.config.limits.peers {
            self.warn(peer.addr, format!("closed: there are {} connections already", self.peers.len()));
            for command in peer.connecting {
                let message = "this node has as many connections as it allows; `disconnect` one first";
                self.reply(command, Err(Failure::new(Code::Busy, message)));
            }
            self.outputs.push_back(Output::Close { conn });
            return;
        }
        if peer.found_for.as_ref().is_some_and(BTreeSet::is_empty) {
            self.look_after_found();
        }
        let your_addr = Self::seen_at(&peer);
        self.peers.insert(conn, peer);
        let limits = &self.config.limits;
        let wait = if self.is_secure() { limits.secure_hello_wait } else { limits.hello_wait };
        self.timers.set(Deadline::Hello(conn), self.now + wait);
        self.send(
            conn,
            Message::Hello(Hello {
                version: 1,
                agent: self.config.agent.clone(),
                node_id: self.config.node_id,
                instance: self.config.instance,
                listen_port: self.config.listening.port(),
                your_addr,
                features: Features::ours(),
            }),
        );
        self.make_room_for_talkers();
    }

    /// Of the idle strangers from the origin that has most of them the oldest, first of those who said
    /// nothing; if the newcomer is not one of them. Identities are free, so one party alone could take
    /// all places.
    pub(super) fn one_of_a_crowd(&self, newcomer: &Peer) -> Option<ConnId> {
        let is_stranger = |peer: &Peer| {
            let known =
                peer.node_id.is_some_and(|id| self.config.node_id == Some(id) || self.book.is_known(id));
            !peer.dialled_by_us && !known
        };
        let mut crowds = BTreeMap::<Origin, Vec<ConnId>>::new();
        for (conn, peer) in self.peers.iter().filter(|(_, peer)| is_stranger(peer) && self.may_give_way(peer))
        {
            crowds.entry(Origin::of(peer.addr.ip())).or_default().push(conn);
        }
        let (origin, largest) = crowds.into_iter().max_by_key(|(_, crowd)| crowd.len())?;
        let is_one_of_them = is_stranger(newcomer) && Origin::of(newcomer.addr.ip()) == origin;
        let oldest = largest.into_iter().min_by_key(|conn| (!self.peers.is_silent(*conn), *conn));
        oldest.filter(|_| !is_one_of_them)
    }

    /// Closes the oldest connection on which nothing was ever said, where there are too many. One
    /// that is new may have said something that was not read yet, and one that we have something
    /// for need not say anything.
    pub(super) fn make_room_for_talkers(&mut self) {
        let silent_since = self.now.saturating_sub(self.config.limits.hello_wait);
        let may_go = |peer: &Peer| {
            peer.opened_at <= silent_since
                && peer.texts.pending() == 0
                && peer.active_uploads.is_empty()
                && peer.waiting_uploads.is_empty()
        };
        if let Some(oldest) = self.peers.silent_past(self.config.limits.silent_peers, may_go) {
            self.drop_peer(oldest, "it never said anything, and others want its place");
        }
    }

    /// What the peer speaks is known, for good.
    pub(super) fn settle(&mut self, conn: ConnId, level: Level) {
        let Some(peer) = self.peers.get_mut(conn).filter(|peer| peer.level.is_none()) else { return };
        peer.level = Some(level);
        let (addr, node_id) = (peer.addr, peer.node_id);
        let connecting = std::mem::take(&mut peer.connecting);
        let connected = Event::PeerConnected {
            peer: addr,
            dialled: peer.dialled.clone(),
            node_id,
            via: peer.via,
            alias: node_id.and_then(|id| self.book.alias_of(id)).cloned(),
            first_contact: peer.first_contact,
            again: peer.dialled_by_us && (peer.dialled.is_some() || peer.is_named) && connecting.is_empty(),
            level,
        };
        self.timers.clear(Deadline::Hello(conn));
        self.event(connected);
        for command in connecting {
            self.reply(command, Ok(Reply::Connected { peer: addr, node_id, already: false }));
        }
    }

    pub(super) fn on_message(&mut self, conn: ConnId, message: Message) {
        if !self.hears(conn) {
            return;
        }
        match message {
            Message::Hello(hello) => self.on_hello(conn, &hello),
            // Anything else before HELLO is what a baseline peer says, and none is encrypted.
            message => {
                if !self.settle_baseline(conn) {
                    return;
                }
                self.on_settled_message(conn, message);
            }
        }
    }

    pub(super) fn on_settled_message(&mut self, conn: ConnId, message: Message) {
        match message {
            Message::Text(text) => self.on_text(conn, text),
            Message::FileOffer(offer) => self.on_offer(conn, offer),
            Message::FileAccept(hash) => self.on_accept(conn, hash),
            Message::Chunk { index, data } => self.on_chunk(conn, index, data),
            Message::ChunkAck { index, ok } => self.on_ack(conn, index, ok),
            Message::Complete(hash) => self.on_complete(conn, hash),
            Message::Hello(_) | Message::Unknown(_) | Message::Pong(_) => {}
            extended => self.on_extended_message(conn, extended),
        }
    }

    /// What belongs to a feature counts only where both sides have named it.
    pub(super) fn on_extended_message(&mut self, conn: ConnId, message: Message) {
        let Some(Peer { features, level, .. }) = self.peers.get(conn) else { return };
        let is_extended = *level == Some(Level::Extended);
        match message {
            Message::Bye if is_extended => {
                if let Some(peer) = self.peers.get_mut(conn) {
                    peer.said_bye = true;
                }
            }
            Message::Circuit { id, part } if features.relay && self.is_secure() => {
                self.on_circuit(conn, id, part);
            }
            Message::Ping(id) if features.ping => self.send(conn, Message::Pong(id)),
            Message::NumberedText { id, text, key } if features.text_ack => {
                self.on_numbered_text(conn, id, text, key);
            }
            Message::TextAck(id) if features.text_ack => self.on_text_ack(conn, id),
            message if features.transfer => self.on_transfer_message(conn, message),
            _ => {}
        }
    }

    pub(super) fn on_transfer_message(&mut self, conn: ConnId, message: Message) {
        match message {
            Message::Offer(offer) => self.on_content_offer(conn, offer),
            Message::Accept { id, kept, wants_list } => {
                self.on_pull_accept(conn, id, kept, wants_list);
            }
            Message::Refuse { id, reason } => self.on_refused(conn, id, &reason),
            Message::Withdraw { id, reason } => self.on_withdrawn(conn, id, &reason),
            Message::Pull { id, first, count } => self.on_pull(conn, id, first, count),
            Message::PullPage { id, page } => self.on_pull_page(conn, id, page),
            Message::Page { id, page, entries } => self.on_page(conn, id, page, entries),
            Message::Data { id, index, data, entry } => self.on_data(conn, id, index, data, entry),
            Message::Resumed { id, chunk } => self.on_resumed(conn, id, chunk),
            Message::Seal { id, head } => self.on_seal(conn, id, head),
            Message::Done(id) => self.on_done(conn, id),
            message if self.peers.get(conn).is_some_and(|peer| peer.features.swarm) => {
                self.on_swarm_message(conn, message);
            }
            _ => {}
        }
    }

    fn on_swarm_message(&mut self, conn: ConnId, message: Message) {
        match message {
            Message::Ask { id, proof } => self.on_ask(conn, id, proof),
            Message::Lack { id, code } => self.on_lack(conn, id, &code),
            Message::Have { id, chunks } => self.on_have(conn, id, &chunks),
            Message::Unpull { id, first, count } => self.on_unpull(conn, id, first, count),
            Message::Peers { id, peers } if self.peers.get(conn).is_some_and(|peer| peer.features.pex) => {
                self.on_peers(conn, id, &peers);
            }
            _ => {}
        }
    }

    pub(super) fn on_hello(&mut self, conn: ConnId, hello: &Hello) {
        let Some(peer) = self.peers.get_mut(conn).filter(|peer| peer.level.is_none()) else { return };
        // Who it is comes from the handshake alone; which of its processes it is may be claimed.
        if hello.instance == self.config.instance && peer.node_id == self.config.node_id {
            let target = peer.dialled.as_ref().map_or_else(|| peer.addr.to_string(), ToString::to_string);
            let message = format!("`{target}` is this node itself");
            for command in std::mem::take(&mut peer.connecting) {
                self.reply(command, Err(Failure::new(Code::SelfConnection, message.clone())));
            }
            self.close_peer(conn, "it is this node itself", Ending::Closed);
            return;
        }
        peer.agent = Some(hello.agent.chars().take(64).collect());
        peer.instance = Some(hello.instance);
        peer.features = Features::shared(&hello.features);
        peer.listen_port = hello.listen_port;
        if peer.binding.is_none() && peer.node_id.is_none() {
            let (dialler, listener) = match peer.side() {
                Side::Dialler => (self.config.instance, hello.instance),
                Side::Listener => (hello.instance, self.config.instance),
            };
            peer.binding = Some(Binding::of_plaintext(dialler, listener));
        }
        if let (Some(address), Some(id)) = (&peer.dialled, peer.node_id)
            && self.config.node_id == Some(id)
            && !self.book.pins.contains_key(address)
        {
            self.outputs.push_back(Output::Pin { conn, address: address.clone(), id });
        }
        if let Some(addr) = hello.your_addr {
            self.on_seen_at(conn, addr);
        }
        self.recall_texts(conn);
        if let Some(double) = self.peers.double_of(conn) {
            self.resolve_double(conn, double);
        }
        self.settle(conn, Level::Extended);
        if self.peers.get(conn).is_some_and(|peer| peer.features.ping) {
            self.watch(conn);
        }
        self.come_back(conn);
        self.deliver_on(conn);
        self.ask_newcomer(conn);
    }

    /// Of two connections between the same two processes one goes: both sides find the same one.
    /// Where each dialled, the one stays that was dialled by the lower node id and instance; where
    /// one dialled twice, its newer one, and it alone decides, since only it knows the order.
    pub(super) fn resolve_double(&mut self, new: ConnId, old: ConnId) {
        let (Some(new_peer), Some(old_peer)) = (self.peers.get(new), self.peers.get(old)) else { return };
        let we_are_lower =
            (self.config.node_id, Some(self.config.instance)) < (new_peer.node_id, new_peer.instance);
        // Whoever can be reached directly need not be reached through another.
        let gets_nearer = match (new_peer.via.is_some(), old_peer.via.is_some()) {
            (true, false) => Some(false),
            (false, true) => Some(true),
            _ => None,
        };
        // Nobody makes anew what is still there: an old one broke, as is not known here yet.
        let is_old = old_peer.opened_at + BROKEN_AFTER <= self.now;
        let (kept, closed) = match (gets_nearer, new_peer.dialled_by_us, old_peer.dialled_by_us) {
            (Some(true), ..) | (None, true, true) => (new, old),
            (Some(false), ..) | (None, false, false) if is_old => {
                return self.close_peer(old, "its peer connected anew", Ending::Broken);
            }
            (Some(false), ..) => (old, new),
            (None, false, false) => return,
            (None, new_is_ours, _) if new_is_ours == we_are_lower => (new, old),
            _ => (old, new),
        };
        self.merge_double(closed, kept);
    }

    /// Closes a connection in favour of another to the same process, which takes over its name and
    /// those who wait for it.
    pub(super) fn merge_double(&mut self, closed: ConnId, kept: ConnId) {
        let Some(peer) = self.peers.get_mut(closed) else { return };
        let dialled = peer.dialled.clone();
        let found_for = peer.found_for.take();
        let connecting = std::mem::take(&mut peer.connecting);
        // Where it was settled, that was told with it.
        let untold = peer.first_contact && peer.level.is_none();
        // Its transfers go on by the one that is kept.
        self.close_peer(closed, "another connection to the same peer is kept", Ending::Broken);
        let Some(peer) = self.peers.get_mut(kept) else { return };
        if let (true, Some(dialled), Some(node_id)) = (untold, &dialled, peer.node_id) {
            let told = Event::FirstContact { peer: peer.addr, dialled: dialled.clone(), node_id };
            self.outputs.push_back(Output::Event(told));
        }
        peer.dialled = peer.dialled.take().or(dialled);
        peer.found_for = peer.found_for.take().zip(found_for).map(|(ours, theirs)| &ours | &theirs);
        if peer.level.is_none() {
            peer.connecting.extend(connecting);
            return;
        }
        let (addr, node_id) = (peer.addr, peer.node_id);
        for command in connecting {
            self.reply(command, Ok(Reply::Connected { peer: addr, node_id, already: true }));
        }
    }

    /// Treats a peer as baseline if it is not known yet what it speaks; `false` where it is dropped
    /// instead, since no baseline peer encrypts.
    pub(super) fn settle_baseline(&mut self, conn: ConnId) -> bool {
        let unsettled = self.peers.get(conn).is_some_and(|peer| peer.level.is_none());
        if unsettled && self.is_secure() {
            self.drop_peer(conn, "it did not say HELLO first");
            return false;
        }
        self.settle(conn, Level::Baseline);
        true
    }

    pub(super) fn on_bad_line(&mut self, conn: ConnId, error: &BadLine) {
        if !self.hears(conn) || !self.settle_baseline(conn) {
            return;
        }
        match error {
            BadLine::Offer(error) => self.refuse(conn, &format!("an offer was refused: {error}")),
            BadLine::ContentOffer { id, error } => self.on_bad_content_offer(conn, *id, error),
            BadLine::Chunk { index } => self.on_bad_chunk(conn, *index, "is not valid base64"),
            BadLine::Payload { .. } => self.refuse(conn, &format!("sent {error}, which was skipped")),
            BadLine::NotAMessage(_) => {
                let Some(peer) = self.peers.get_mut(conn) else { return };
                peer.bad_lines += 1;
                if peer.bad_lines >= self.config.limits.bad_lines {
                    self.convict(conn, &format!("it sent {error}, and not for the first time"));
                } else {
                    let addr = peer.addr;
                    self.warn(addr, format!("sent {error}, which was skipped"));
                }
            }
        }
    }

    /// Notes a sign of life; `false` where the connection is not one of ours (any more).
    pub(super) fn hears(&mut self, conn: ConnId) -> bool {
        self.peers.heard(conn);
        self.heard_from(conn);
        self.peers.get(conn).is_some_and(|peer| !peer.read_closed)
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, closing: Closing) {
        match closing {
            Closing::Eof => self.on_eof(conn),
            Closing::Error(_) if self.peers.get(conn).is_some_and(|peer| peer.said_bye) => self.on_eof(conn),
            Closing::Error(error) => {
                self.close_peer(conn, &format!("the connection broke: {error}"), Ending::Broken);
            }
            Closing::Fault(fault) => self.drop_peer(conn, &fault.to_string()),
        }
    }

    /// The peer has said all it will say. Its files of which every chunk is here are finished
    /// first: it may still listen, and wants to hear that they arrived.
    pub(super) fn on_eof(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        // A program that ends says so; one that is killed does not.
        if peer.level == Some(Level::Extended) && peer.features.transfer && !peer.said_bye {
            return self.close_peer(conn, CLOSED_BY_PEER, Ending::Broken);
        }
        peer.read_closed = true;
        for id in self.uploads_with(conn) {
            self.fail_upload(id, Failure::new(Code::Disconnected, CLOSED_BY_PEER));
        }
        self.forget_in_gets(conn);
        self.fail_if_nothing_comes(conn, CLOSED_BY_PEER);
    }

    /// Closes a connection on which nothing more will arrive, once nothing depends on it.
    pub(super) fn close_if_done(&mut self, conn: ConnId) {
        if self.peers.get(conn).is_some_and(|peer| peer.read_closed && peer.downloads.is_empty()) {
            self.close_peer(conn, CLOSED_BY_PEER, Ending::Closed);
        }
    }

    /// Closes the connection of a peer that misbehaves, with a line in the log.
    pub(super) fn drop_peer(&mut self, conn: ConnId, fault: &str) {
        if let Some(peer) = self.peers.get(conn) {
            self.warn(peer.addr, format!("closed: {fault}"));
            self.close_peer(conn, fault, Ending::Closed);
        }
    }

    /// Forgets a connection and everything that cannot go on without it.
    pub(super) fn close_peer(&mut self, conn: ConnId, reason: &str, ending: Ending) {
        let Some(mut peer) = self.peers.remove(conn) else { return };
        self.askable.forget(conn);
        self.timers.clear(Deadline::Liveness(conn));
        self.timers.clear(Deadline::Heard(conn));
        self.chunks_ahead -= peer.chunks_ahead;
        self.timers.clear(Deadline::Hello(conn));
        self.timers.clear(Deadline::Write(conn));
        self.end_circuits_of(conn);
        if ending == Ending::Closed && peer.level == Some(Level::Extended) {
            self.outputs.push_back(Output::Send { conn, message: Message::Bye });
        }
        self.outputs.push_back(Output::Close { conn });
        for id in self.answers_to(conn) {
            self.forget_answer(id);
        }
        self.forget_in_gets(conn);
        let unheard = self.keep_unheard(conn, peer.addr, peer.node_id, peer.texts.take());
        unheard.into_iter().for_each(|said| peer.texts.say(said));
        if ending == Ending::Broken {
            self.wait_for(conn, &mut peer);
        }
        self.redial_after(&peer);
        let done_about_it = self.what_is_done_about(&peer).filter(|_| ending == Ending::Broken);
        let failure = Failure::new(Code::Disconnected, reason);
        for id in self.uploads_with(conn) {
            self.fail_upload(id, failure.clone());
        }
        self.fail_if_nothing_comes(conn, reason);
        for command in peer.connecting {
            let failure = match peer.level {
                // What a node that encrypts does to one that does not.
                None if !self.is_secure() => Failure::new(
                    Code::HandshakeFailed,
                    format!(
                        "{} was reached, but {reason}, and said nothing; if it was started without --plain, start this \
                         node without it too",
                        peer.addr
                    ),
                ),
                _ => Failure::new(Code::Unreachable, format!("{} was reached, but {reason}", peer.addr)),
            };
            self.reply(command, Err(failure));
        }
        if peer.texts.pending() > 0 {
            let undelivered = Event::Undelivered { peer: peer.addr, texts: peer.texts.pending() };
            self.event_with(peer.node_id, undelivered);
        }
        if peer.level.is_some() {
            let reason = match done_about_it {
                Some(what) => format!("{reason}; {what}"),
                None => reason.to_owned(),
            };
            self.event(Event::PeerDisconnected {
                peer: peer.addr,
                reason,
                is_waited_for: done_about_it.is_some(),
            });
        }
        if let Some(id) = peer.node_id {
            self.miss(id);
        }
    }

    /// Counts something refused against its sender, which goes on unless it does it all the time.
    pub(super) fn refuse(&mut self, conn: ConnId, what: &str) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        peer.refusals += 1;
        if peer.refusals > self.config.limits.refusals {
            self.drop_peer(conn, &format!("{what}, and that was one too many"));
        } else {
            let addr = peer.addr;
            self.warn(addr, what.to_owned());
        }
    }

    /// Sends a message that carries no file content.
    pub(super) fn send(&mut self, conn: ConnId, message: Message) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if peer.queued_bytes + message.weight() > self.config.limits.control_bytes_queued {
            self.drop_peer(conn, "it does not read what is sent to it");
            return;
        }
        if peer.nothing_queued() {
            self.timers.set(Deadline::Write(conn), self.now + self.config.limits.stall);
        }
        peer.enqueue(&message);
        self.outputs.push_back(Output::Send { conn, message });
    }

    pub(super) fn on_written(&mut self, conn: ConnId, control: usize, circuits: usize, bulk: usize) {
        for _ in 0..control {
            if let Some(peer) = self.peers.get_mut(conn) {
                peer.dequeue();
            }
        }
        for _ in 0..bulk {
            self.on_chunk_written(conn);
        }
        for _ in 0..circuits {
            if let Some(id) = self.peers.get_mut(conn).and_then(Peer::dequeue_circuit) {
                self.on_circuit_written((conn, id));
            }
        }
        let Some(peer) = self.peers.get(conn) else { return };
        if peer.nothing_queued() {
            self.timers.clear(Deadline::Write(conn));
        } else {
            self.timers.set(Deadline::Write(conn), self.now + self.config.limits.stall);
        }
        self.serve(conn);
    }
}
