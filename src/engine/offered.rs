//! Files and directories that a peer offers for us to pull: from its offer to the end of what it sends.
//!
//! The peer may not know yet what it sends: then the list comes last. It may go away in the middle and
//! come back, or be started anew.

use std::collections::VecDeque;
use std::sync::Arc;

use super::downloads::{Download, Form, State};
use super::pulling::{Cause, Pull, list_bytes};
use super::reconnect::Process;
use super::sources::{Have, Source};
use super::{Code, ConnId, Deadline, Engine, Failure, Incoming, Job, TransferId};
use crate::wire::{
    BadTree, ContentOffer, Instance, ManifestHead, Message, NodeId, OfferError, OfferId, Reason,
};

/// Files that arrived whose sender may not know it, because the connection broke.
const FINISHED_REMEMBERED: usize = 256;

/// What a sender calls an offer, for as long as its process runs.
type Called = (NodeId, Instance, OfferId);

/// What arrived lately, by what its sender calls it.
#[derive(Debug, Default)]
pub(super) struct Finished(VecDeque<Called>);

impl Finished {
    pub(super) fn note(&mut self, called: Called) {
        if self.0.len() >= FINISHED_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(called);
    }
}

impl Engine {
    pub(super) fn on_content_offer(&mut self, conn: ConnId, mut offer: ContentOffer) {
        let number = offer.id;
        // What one side did not name is an unknown field.
        offer.tree = offer.tree.filter(|_| self.peers.get(conn).is_some_and(|peer| peer.features.tree));
        offer.answers =
            offer.answers.filter(|_| self.peers.get(conn).is_some_and(|peer| peer.features.swarm));
        if let Some(ask) = offer.answers {
            return self.on_answer(conn, ask, &offer);
        }
        if self.download_called(conn, number).is_some() {
            return self.refuse(conn, "it used the number of an offer that is still open");
        }
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let sender = peer.node_id.zip(peer.instance);
        peer.last_offer = peer.last_offer.max(Some(number));
        if let Some((node_id, instance)) = sender {
            if self.finished.0.contains(&(node_id, instance, number)) {
                return self.send(conn, Message::Done(number));
            }
            if let Some(id) = self.waiting_download((node_id, instance), &offer) {
                return self.go_on(conn, id, offer);
            }
        }
        let pull = self.pull_of(conn, sender, offer, false);
        if let Err(why) = self.check_room(conn, pull.memory()) {
            let what = format!("the offer of \"{}\" was refused: {why}", pull.incoming.name);
            let reason = Reason::new(Code::Busy.as_str(), why);
            self.send(conn, Message::Refuse { id: number, reason });
            return self.refuse(conn, &what);
        }
        let incoming = pull.incoming.clone();
        let geometry = crate::wire::Geometry::new(incoming.size).expect("checked when it was decoded");
        if let Err(why) = self.consider(conn, &incoming.name, geometry, Form::Pulled(pull)) {
            let reason = Reason::new(Code::Declined.as_str(), why.to_peer());
            self.send(conn, Message::Refuse { id: number, reason });
            self.refuse(conn, &format!("the offer of \"{}\" was declined: {why}", incoming.name));
        }
    }

    fn pull_of(
        &self,
        conn: ConnId,
        sender: Option<(NodeId, Instance)>,
        offer: ContentOffer,
        goes_on: bool,
    ) -> Box<Pull> {
        let ContentOffer { id, name, size, tree, head, page, .. } = offer;
        let from = sender.map(|(node_id, _)| node_id);
        let incoming = Incoming { from, name, size, head, tree, goes_on };
        let mut pull = Pull::new(Cause::Offered { id, sender }, incoming, page);
        pull.sources.add(conn, Source::new(id, Have::All, self.now));
        pull
    }

    /// An offer that could not be understood, except for its number.
    pub(super) fn on_bad_content_offer(&mut self, conn: ConnId, id: OfferId, error: &OfferError) {
        let code = match error {
            OfferError::Name(_) => Code::BadName,
            OfferError::Size(_) | OfferError::Tree(BadTree::TooLong) => Code::TooLarge,
            _ => Code::Usage,
        };
        // To a peer without the feature it is an unknown type.
        if !self.peers.get(conn).is_some_and(|peer| peer.features.transfer) {
            return;
        }
        self.send(conn, Message::Refuse { id, reason: Reason::new(code.as_str(), error.to_string()) });
        self.refuse(conn, &format!("an offer was refused: {error}"));
    }

    /// The download of that offer that waits for its sender to come back.
    fn waiting_download(&self, sender: (NodeId, Instance), offer: &ContentOffer) -> Option<TransferId> {
        let waits = |download: &&Download| match &download.form {
            Form::Pulled(pull) => {
                download.conn.is_none()
                    && pull.cause == Cause::Offered { id: offer.id, sender: Some(sender) }
                    && pull.incoming.name == offer.name
                    && pull.incoming.size == offer.size
                    && pull.incoming.tree == offer.tree
            }
            Form::Listed(_) => false,
        };
        self.downloads.iter().find(|(_, download)| waits(download)).map(|(id, _)| *id)
    }

    /// The sender is back, and offers again what was accepted before.
    fn go_on(&mut self, conn: ConnId, id: TransferId, offer: ContentOffer) {
        let sender = self.peers.get(conn).and_then(|peer| peer.node_id.zip(peer.instance));
        let number = offer.id;
        let addr = self.peers.get(conn).map(|peer| peer.addr);
        let pull = self.pull_of(conn, sender, offer, true);
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.conn = Some(conn);
        download.peer = addr.unwrap_or(download.peer);
        if download.state == State::Finishing {
            // It is told when it is in place.
            let source = Source::new(number, Have::All, self.now);
            return self.add_source(id, conn, source);
        }
        self.manifest_bytes += pull.memory();
        if let Form::Pulled(old) = &download.form {
            self.manifest_bytes -= old.memory();
        }
        let job = Job::OpenPartial(pull.incoming.clone());
        download.form = Form::Pulled(pull);
        download.state = State::Creating;
        download.left = None;
        download.chunks.start_over();
        if !self.charge_tree(id) {
            return;
        }
        self.job(id, job);
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.downloads.insert(id);
        }
    }

    /// The sender is away.
    pub(super) fn suspend_download(&mut self, id: TransferId) {
        let Some(mut download) = self.downloads.remove(&id) else { return };
        self.stop_pulling(id, &mut download);
        let conn = download.conn.take();
        let state = download.state;
        let pulled = matches!(download.form, Form::Pulled(_));
        match state {
            _ if !pulled => download.conn = conn,
            State::CheckingSpace | State::Asking => download.conn = conn,
            State::Finishing | State::Waiting => {}
            State::Creating | State::Receiving => {
                download.state = State::Waiting;
                download.releasing += 1;
                self.timers.clear(Deadline::Stall(id));
                self.releases.note(id, &download);
                self.job(id, Job::Release { keep: true });
            }
        }
        if download.conn.is_none()
            && let Some(peer) = conn.and_then(|conn| self.peers.get_mut(conn))
        {
            peer.downloads.remove(&id);
        }
        self.downloads.insert(id, download);
    }

    pub(super) fn fail_waiting_downloads(&mut self, process: Process, why: &str) {
        let waits = |download: &Download| match &download.form {
            Form::Pulled(pull) => {
                download.state == State::Waiting
                    && matches!(pull.cause, Cause::Offered { sender, .. } if sender == Some(process))
            }
            Form::Listed(_) => false,
        };
        let ids: Vec<_> =
            self.downloads.iter().filter(|(_, download)| waits(download)).map(|(id, _)| *id).collect();
        for id in ids {
            self.drop_download(id, Failure::new(Code::Disconnected, why));
        }
    }

    pub(super) fn on_resumed(&mut self, conn: ConnId, number: OfferId, chunk: u32) {
        let Some(id) = self.download_called(conn, number) else { return };
        self.moved(conn);
        let Some((download, conn)) = self.pulled(id) else { return };
        let geometry = download.geometry;
        let Some(kept) = download.pull().and_then(|pull| pull.kept) else {
            return self.refuse(conn, "it compared something that it was not told");
        };
        if chunk == 0 {
            if let Some(pull) = download.pull() {
                pull.kept = None;
                pull.starting_over = true;
            }
            return self.job(id, Job::StartOver);
        }
        if chunk != kept.chunks {
            return self.refuse(conn, "it goes on from a chunk that is not here");
        }
        for index in geometry.indices().take(kept.chunks as usize) {
            download.chunks.set_stored(index);
        }
        if let Some(pull) = download.pull() {
            pull.kept = None;
        }
        self.go_further(id);
    }

    pub(super) fn on_seal(&mut self, conn: ConnId, number: OfferId, head: Arc<ManifestHead>) {
        let Some(id) = self.download_called(conn, number) else { return };
        self.moved(conn);
        let is_full = self.manifest_bytes + list_bytes(&head) > self.config.limits.manifest_bytes;
        let Some((download, conn)) = self.pulled(id) else { return };
        let size = download.geometry.size();
        let receiving = download.state == State::Receiving;
        let bytes = list_bytes(&head);
        let Some(pull) = download.pull() else { return };
        // Before it is accepted an offer costs next to nothing, and so it stays.
        if !receiving || !pull.is_late() || pull.seal.is_some() || head.geometry().size() != size {
            return self.refuse(conn, "it sealed a file that is not open");
        }
        if is_full {
            let why = "this node has as many open offers and transfers as it can hold";
            return self.fail_download(id, Failure::new(Code::Busy, why));
        }
        if std::mem::take(&mut pull.wants_list) {
            // From here on it is one whose list was known when it was offered.
            let incoming = Arc::new(Incoming { head: Some(head), ..(*pull.incoming).clone() });
            pull.incoming = incoming.clone();
            download.state = State::Creating;
            download.releasing += 1;
            self.manifest_bytes += bytes;
            self.timers.clear(Deadline::Stall(id));
            self.job(id, Job::Release { keep: true });
            return self.job(id, Job::OpenPartial(incoming));
        }
        pull.seal = Some(head);
        self.manifest_bytes += bytes;
        self.finish_if_all_stored(id);
    }

    pub(super) fn on_withdrawn(&mut self, conn: ConnId, number: OfferId, reason: &Reason) {
        let Some(id) = self.download_called(conn, number) else { return };
        if self.downloads.get_mut(&id).and_then(Download::pull).is_some_and(|pull| pull.is_wanted()) {
            return self.lose_source(id, conn);
        }
        match self.downloads.get(&id).map(Download::state) {
            // Nobody was told of it.
            Some(State::CheckingSpace) => self.forget_download(id),
            // All of it is here.
            Some(State::Finishing) | None => {}
            Some(_) => self.drop_download(id, Failure::from_peer("sender", reason, Code::Withdrawn)),
        }
    }
}
