//! Which list of a content is followed, where those who have it say different ones.
//!
//! The first list that comes is followed; peers that say the same are its sources, for as long as they
//! deliver. Whoever has another list for the same hash is turned down and remembered: one of the two is
//! false, and as soon as a chunk shows that it is the one that is followed, whoever claimed to have all of
//! it by that is banned, and everybody else is asked anew. Whoever merely fetched by the false list could
//! not know, and is not blamed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::considered::Assent;
use super::downloads::{Download, Form, State};
use super::gets::ANSWER_WAIT;
use super::holding::HoldLog;
use super::pulling::{Cause, Pull};
use super::{Code, ConnId, Deadline, Engine, Event, Failure, Incoming, Job, TransferId};
use crate::wire::{AskId, ContentOffer, LinkKind, ManifestHead, NodeId, Root, SafeName, TreeInfo};

/// How often somebody's lists of one content are given up before it is not asked any more. Whoever fetches by a
/// false list may not know; whoever does so again and again is of no use.
const MAX_IN_VAIN: u32 = 3;

/// Lists of one content that are given up before it is itself.
const MAX_LISTS: usize = 64;

const LIST_IS_FALSE: &str = "the list that was offered for it is false";

/// A list that somebody says a content has. What an offer tells of a directory is no part of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ListId {
    root: Root,
    tree: Option<TreeInfo>,
}

impl ListId {
    fn of(head: &ManifestHead, tree: Option<TreeInfo>) -> Self {
        Self { root: head.root(), tree }
    }
}

/// What is known of the lists of a content.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Who has another than the one that is followed.
    pub(super) others: BTreeSet<ConnId>,
    /// Those that were given up.
    rejected: Vec<ListId>,
    /// What came to nothing though nothing of it was false, and until when others are heard first.
    set_aside: Option<(ListId, Duration)>,
    /// Whose lists were given up, and how often.
    in_vain: BTreeMap<NodeId, u32>,
    /// Who is not asked again: it said that the content is larger than what there is room for.
    unbelieved: BTreeSet<NodeId>,
    /// Why the last one was given up.
    pub(super) given_up: Option<Failure>,
}

impl Lists {
    pub(super) fn is_unbelieved(&self, node_id: NodeId) -> bool {
        let in_vain = self.in_vain.get(&node_id).copied().unwrap_or(0);
        in_vain >= MAX_IN_VAIN || self.unbelieved.contains(&node_id)
    }

    fn is_set_aside(&self, list: ListId, now: Duration) -> bool {
        self.set_aside.is_some_and(|(set_aside, until)| set_aside == list && now < until)
    }
}

impl Engine {
    /// A peer offers what it was asked for.
    pub(super) fn on_answer(&mut self, conn: ConnId, ask: AskId, offer: &ContentOffer) {
        let number = offer.id;
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let addr = peer.addr;
        peer.last_offer = peer.last_offer.max(Some(number));
        let id = peer.asks.remove(&ask);
        let found = id.and_then(|id| Some((id, self.gets.get_mut(&id)?)));
        let Some((id, get)) = found else {
            // It was searched for, and is not any more.
            return self.turn_down(conn, number, Code::Cancelled, "it is not searched for any more");
        };
        get.asked.remove(&conn);
        let Some(head) = offer.head.clone() else { return };
        let link = &get.link;
        if head.file_hash() != link.hash {
            return self.convict(conn, "it answered a search with something else");
        }
        let contradicts = link.root.is_some_and(|root| root != head.root())
            || link.size.is_some_and(|size| size != head.geometry().size())
            || link.kind.is_some_and(|kind| (kind == LinkKind::Directory) != offer.tree.is_some());
        if contradicts {
            self.warn(addr, "what it says it has is not what the link says".to_owned());
            self.turn_down(conn, number, Code::HashMismatch, "it is not what was searched for");
            return self.settle_search(id);
        }
        let list = ListId::of(&head, offer.tree);
        if get.lists.is_set_aside(list, self.now) {
            self.turn_down(conn, number, Code::Busy, "others who say otherwise are heard first");
            return self.settle_search(id);
        }
        // Whoever merely fetches by it may not know yet.
        if get.lists.rejected.contains(&list) {
            self.turn_down(conn, number, Code::HashMismatch, LIST_IS_FALSE);
            return self.settle_search(id);
        }
        if self.is_of_bad_origin(conn) {
            self.turn_down(conn, number, Code::Busy, "too many from where it comes have lied");
            return self.settle_search(id);
        }
        match self.list_of(id) {
            None => self.adopt(id, conn, offer),
            Some(followed) if followed == list => self.join(id, conn, offer),
            Some(_) => {
                self.turn_down(conn, number, Code::Busy, "another list is followed; one of the two is false");
                if self.gets.get_mut(&id).is_some_and(|get| get.lists.others.insert(conn)) {
                    self.warn(
                        addr,
                        "it has another list for what is fetched; one of them is false".to_owned(),
                    );
                }
            }
        }
    }

    /// The list that is followed.
    fn list_of(&self, id: TransferId) -> Option<ListId> {
        let download = self.downloads.get(&id)?;
        Some(ListId::of(download.head()?, download.tree()))
    }

    /// Follows a list.
    fn adopt(&mut self, id: TransferId, conn: ConnId, offer: &ContentOffer) {
        let (Some(get), Some(peer)) = (self.gets.get(&id), self.peers.get(conn)) else { return };
        let Some(head) = offer.head.clone() else { return };
        let name = get.link.name.clone().unwrap_or_else(|| offer.name.clone());
        let (addr, geometry) = (peer.addr, head.geometry());
        let pull = self.pull_for_get(conn, offer, name.clone());
        let limits = &self.config.limits;
        if self.downloads.len() + self.uploads.len() >= limits.transfers
            || self.manifest_bytes + pull.memory() > limits.manifest_bytes
        {
            let why = "this node has as many open transfers as it can hold; try again later";
            self.turn_down(conn, offer.id, Code::Busy, why);
            return self.fail_get(id, Failure::new(Code::Busy, why));
        }
        let files = offer.tree.map(|tree| tree.files);
        self.manifest_bytes += pull.memory();
        let mut download =
            Download::new(None, addr, name.clone(), geometry, Form::Pulled(pull), Assent::OfPerson, self.now);
        // What is answered before that is about what was followed before.
        download.releasing = self.gets.get(&id).map_or(0, |get| get.releasing);
        self.downloads.insert(id, download);
        let (size, sha256) = (geometry.size(), head.file_hash());
        self.event(Event::Found { id, peer: addr, name, size, sha256, files });
        self.join(id, conn, offer);
        self.job(id, Job::FreeSpace);
    }

    fn pull_for_get(&self, conn: ConnId, offer: &ContentOffer, name: SafeName) -> Box<Pull> {
        let ContentOffer { size, tree, head, page, .. } = offer.clone();
        let incoming = Incoming { from: None, name, size, head, tree, goes_on: false };
        let mut pull = Pull::new(Cause::Wanted, incoming, page);
        pull.pages_from = Some((conn, self.now));
        pull
    }

    /// A chunk came that is wrong: whoever sent it claims to have verified it by the same list.
    pub(super) fn on_wrong_chunk_of_many(
        &mut self,
        id: TransferId,
        (conn, addr, node_id): (ConnId, Option<SocketAddr>, Option<NodeId>),
        what: &str,
        is_list_false: bool,
    ) {
        if let Some(addr) = addr
            && let Some(get) = self.gets.get_mut(&id)
        {
            get.delivery(addr, node_id).bad_chunks += 1;
        }
        self.convict_sender(conn, addr.zip(node_id), what);
        if is_list_false {
            self.give_up_list(id, Failure::new(Code::HashMismatch, LIST_IS_FALSE));
        }
    }

    /// The list that is followed is false. Who claimed to have all of it by that list lied.
    pub(super) fn give_up_list(&mut self, id: TransferId, why: Failure) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        let liars: Vec<_> =
            pull.sources.iter().filter(|(_, source)| source.has_all()).map(|(conn, _)| conn).collect();
        for conn in liars {
            self.convict(conn, "the list of a content that it claims to have is false");
        }
        self.reject_list(id);
        self.follow_another(id, why);
    }

    /// What is followed came to nothing: others are heard first for a while.
    pub(super) fn set_list_aside(&mut self, id: TransferId) {
        let until = self.now + ANSWER_WAIT;
        let list = self.list_of(id);
        if let Some(get) = self.gets.get_mut(&id) {
            get.lists.set_aside = list.map(|list| (list, until));
        }
    }

    fn reject_list(&mut self, id: TransferId) {
        let list = self.list_of(id);
        if let Some(get) = self.gets.get_mut(&id) {
            get.lists.rejected.extend(list);
        }
    }

    /// Searches for another list than so far.
    pub(super) fn follow_another(&mut self, id: TransferId, why: Failure) {
        let now = self.now;
        for served in self.served_from(id) {
            self.end_answer(served, &Failure::new(Code::Withdrawn, "its list was given up"));
        }
        self.tell_refused(id, &why);
        let whose = self.source_ids(id);
        let Some(mut download) = self.downloads.remove(&id) else { return };
        self.manifest_bytes -= download.manifest_bytes();
        self.stop_pulling(id, &mut download);
        self.timers.clear(Deadline::Stall(id));
        self.releases.note(id, &download);
        self.job(id, Job::Release { keep: true });
        let Some(get) = self.gets.get_mut(&id) else { return };
        get.log = HoldLog::default();
        get.releasing += 1;
        get.lists.others.clear();
        for node_id in whose {
            *get.lists.in_vain.entry(node_id).or_default() += 1;
        }
        get.moved_at = now;
        if get.lists.rejected.len() >= MAX_LISTS {
            let message = format!(
                "{MAX_LISTS} lists that were offered for it were false; use a link that says its root, or connect \
                 to nobody but who has it"
            );
            return self.fail_get(id, Failure::new(Code::HashMismatch, message));
        }
        get.lists.given_up = Some(why);
        self.ask_all(id);
        self.settle_search(id);
    }

    /// There is no room for what a list says. Where nobody but its sender says that the content is so large, it
    /// may be false.
    pub(super) fn has_no_room(&mut self, id: TransferId, failure: Failure) {
        let Some(get) = self.gets.get(&id) else { return };
        let others_may_say_else = !get.lists.others.is_empty() || self.may_be_answered(id);
        if get.link.size.is_some() || get.link.root.is_some() || !others_may_say_else {
            return self.fail_download(id, failure);
        }
        let senders = self.source_ids(id);
        if let Some(get) = self.gets.get_mut(&id) {
            get.lists.unbelieved.extend(senders);
        }
        self.reject_list(id);
        self.follow_another(id, failure);
    }

    /// Who sends a content.
    fn source_ids(&self, id: TransferId) -> Vec<NodeId> {
        let conns = self.downloads.get(&id).map(Download::source_conns).unwrap_or_default();
        conns.into_iter().filter_map(|conn| self.peers.get(conn).and_then(|peer| peer.node_id)).collect()
    }

    /// A job of a download failed. Where it was searched for, that may be the fault of the list that is followed.
    pub(super) fn on_download_failed(&mut self, id: TransferId, failure: Failure) {
        let Some(download) = self.downloads.get(&id) else { return };
        // Later it is about names that only this disk takes for one.
        let is_list_false = failure.code == Code::BadTree && download.state == State::Receiving;
        if download.is_wanted() && is_list_false {
            self.give_up_list(id, failure);
        } else {
            self.fail_download(id, failure);
        }
    }
}
