//! Contents that are searched for: who has them, and which of those to fetch from.
//!
//! A get asks every peer that could have the content, and dials where a link or another peer says that
//! more may be found. Which list is followed, where they say different ones, is left to `lists`. What is
//! fetched is a [`Download`] of the same number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::candidates::{Candidates, FoundBy};
use super::dht::Looking;
use super::downloads::{Download, State};
use super::holding::HoldLog;
use super::lists::Lists;
use super::peers::Peer;
use super::sources::{Have, Source};
use super::{
    Code, ConnId, Deadline, Delivery, Direction, Engine, Event, Failure, Reply, Stage, Target, TransferId,
    TransferInfo,
};
use crate::wire::{AskId, ContentOffer, FileHash, Link, Message, NodeId, OfferId, Reason, Runs, SafeName};

/// Searches at the same time.
const MAX_GETS: usize = 1024;

/// Sources of one content, connected or being dialled.
pub(super) const MAX_SOURCES: usize = 40;

/// Those who wait until there is something to give them.
const MAX_ASKERS: usize = 256;

/// How often a get looks after its sources.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whoever has not answered for so long is not waited for. An answer that comes later is welcome.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// When those are asked again who had no room to answer, and how long that goes on while nobody else does.
const BUSY_WAIT: Duration = Duration::from_secs(4);
const BUSY_PATIENCE: Duration = Duration::from_secs(60);

/// How often those are asked again who are no sources.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Who was asked for chunks or pages and sends nothing for so long is no source.
const SILENCE: Duration = Duration::from_secs(30);

/// A content that is searched for.
#[derive(Debug)]
pub(super) struct Get {
    pub(super) link: Link,
    /// Who was asked and has not answered, and since when.
    pub(super) asked: BTreeMap<ConnId, (AskId, Duration)>,
    /// Who had no room to answer, and when it is asked again.
    busy: BTreeMap<ConnId, Duration>,
    /// When somebody last left who was asked and had not answered.
    left_at: Option<Duration>,
    /// How many were asked.
    asked_in_all: usize,
    /// Who asked us for it before there was anything to give.
    askers: BTreeMap<ConnId, AskId>,
    pub(super) lists: Lists,
    pub(super) candidates: Candidates,
    pub(super) looking: Looking,
    deliveries: BTreeMap<(Option<NodeId>, Option<SocketAddr>), Delivery>,
    pub(super) log: HoldLog,
    /// Times that what was written by a false list was let go of, of which the answer has not come.
    pub(super) releasing: u32,
    /// When everybody was last asked.
    asked_at: Duration,
    /// When a chunk last came.
    pub(super) moved_at: Duration,
}

impl Get {
    pub(super) fn hash(&self) -> FileHash {
        self.link.hash
    }

    /// What was written by a false list was let go of.
    pub(super) fn released(&mut self) {
        self.releasing = self.releasing.saturating_sub(1);
    }

    pub(super) fn is_known_only(&self) -> bool {
        self.link.known_only
    }

    pub(super) fn log(&mut self) -> &mut HoldLog {
        &mut self.log
    }

    /// What it is called until somebody says it.
    fn name(&self) -> SafeName {
        let hash = self.link.hash.to_string();
        self.link.name.clone().unwrap_or_else(|| SafeName::new(&hash).expect("digits are a name"))
    }

    pub(super) fn info(&self, id: TransferId) -> TransferInfo {
        TransferInfo {
            id,
            peer: None,
            direction: Direction::In,
            name: self.name(),
            size: self.link.size.unwrap_or(0),
            sha256: Some(self.link.hash),
            files: None,
            bytes: 0,
            stage: Stage::Searching,
            sources: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Whether somebody who was asked may still answer.
    pub(super) fn is_waiting(&self, now: Duration) -> bool {
        let is_patient = now < self.moved_at + BUSY_PATIENCE;
        let has_just_left = self.left_at.is_some_and(|at| now < at + LOOK_EVERY);
        self.asked.values().any(|(_, since)| now < *since + ANSWER_WAIT)
            || (is_patient && !self.busy.is_empty())
            || has_just_left
    }

    pub(super) fn delivery(&mut self, peer: SocketAddr, node_id: Option<NodeId>) -> &mut Delivery {
        let new = || Delivery::nothing(peer, node_id);
        // Whoever connects anew is the same.
        let key = if node_id.is_some() { (node_id, None) } else { (None, Some(peer)) };
        self.deliveries.entry(key).or_insert_with(new)
    }

    /// Who delivered how much, most first.
    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        let mut all: Vec<_> = self.deliveries.values().cloned().collect();
        all.sort_by_key(|delivery| std::cmp::Reverse(delivery.bytes));
        all
    }
}

impl Engine {
    pub(super) fn get(&mut self, link: Link) -> Result<Reply, Failure> {
        let hash = link.hash;
        if let Some(path) = self.shares.path_of_unchanged(hash) {
            let message =
                format!("it is here: `{}`; `unshare` it first where that is not so", path.display());
            return Err(Failure::new(Code::Usage, message));
        }
        if let Some(id) = self.get_of(hash) {
            return Err(Failure::new(Code::Usage, format!("[{id}] is fetching it already")));
        }
        if self.gets.len() >= MAX_GETS {
            let message = format!("{MAX_GETS} searches run already; `wait` for some to end");
            return Err(Failure::new(Code::Busy, message));
        }
        let known_only = link.known_only;
        let targets: Vec<Target> = link.from.iter().filter_map(|from| from.parse().ok()).collect();
        let id = self.next_transfer_id();
        let get = Get {
            link,
            asked: BTreeMap::new(),
            busy: BTreeMap::new(),
            left_at: None,
            asked_in_all: 0,
            askers: BTreeMap::new(),
            lists: Lists::default(),
            candidates: Candidates::default(),
            looking: Looking::default(),
            deliveries: BTreeMap::new(),
            log: HoldLog::default(),
            releasing: 0,
            asked_at: self.now,
            moved_at: self.now,
        };
        self.gets.insert(id, get);
        self.askable_changed(hash);
        for target in targets {
            self.add_candidate(id, target, FoundBy::Link);
        }
        self.ask_all(id);
        self.dial_candidates(id);
        if !self.is_looked_up(id) && !self.may_be_answered(id) {
            self.gets.remove(&id);
            self.askable_changed(hash);
            let message = match known_only {
                true => "nobody is connected who could have it; `connect` to whoever made the link",
                false => {
                    "nobody is connected who could have it; `connect` to somebody first, or use a link that says \
                     where to ask"
                }
            };
            return Err(Failure::new(Code::NotFound, message));
        }
        self.timers.set(Deadline::Look(id), self.now + LOOK_EVERY);
        self.look_up(id);
        Ok(Reply::Getting { id, hash })
    }

    pub(super) fn get_of(&self, hash: FileHash) -> Option<TransferId> {
        self.gets.iter().find(|(_, get)| get.link.hash == hash).map(|(id, _)| *id)
    }

    /// Asks a peer whether it has the content, unless it was asked or is a source.
    fn ask(&mut self, id: TransferId, conn: ConnId) {
        let Some(peer) = self.peers.get(conn).filter(|peer| peer.is_usable() && peer.features.swarm) else {
            return;
        };
        let Some(get) = self.gets.get(&id) else { return };
        let is_source = peer.downloads.contains(&id);
        let is_unbelieved = peer.node_id.is_some_and(|node_id| get.lists.is_unbelieved(node_id));
        if get.asked.contains_key(&conn) || is_source || is_unbelieved {
            return;
        }
        let Some(proof) = self.proof_for(conn, get.link.hash) else { return };
        self.last_ask += 1;
        let ask = AskId(self.last_ask);
        let now = self.now;
        if let Some(get) = self.gets.get_mut(&id) {
            get.asked.insert(conn, (ask, now));
            get.asked_in_all += 1;
        }
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.asks.insert(ask, id);
        }
        self.send(conn, Message::Ask { id: ask, proof });
    }

    /// A peer is there that may have what is searched for.
    pub(super) fn ask_newcomer(&mut self, conn: ConnId) {
        for id in self.gets.keys().copied().collect::<Vec<_>>() {
            self.ask(id, conn);
        }
    }

    /// A peer asks for something that is searched for here too.
    pub(super) fn note_asker(&mut self, id: TransferId, conn: ConnId, ask: AskId) {
        if self.can_be_held(id) {
            self.answer_with_held(conn, ask, id);
        } else if let Some(get) = self.gets.get_mut(&id) {
            // Who asks once more has given up what it asked before.
            let turned_down = if get.askers.len() < MAX_ASKERS || get.askers.contains_key(&conn) {
                get.askers.insert(conn, ask)
            } else {
                Some(ask)
            };
            if let Some(ask) = turned_down {
                self.lack(conn, ask, Code::Busy);
            }
        }
        // It will have some of it.
        self.ask(id, conn);
    }

    /// The list of a content is here: who asked for it before can be answered.
    pub(super) fn on_listed(&mut self, id: TransferId) {
        if !self.can_be_held(id) {
            return;
        }
        let Some(get) = self.gets.get_mut(&id) else { return };
        let hash = get.hash();
        for (conn, ask) in std::mem::take(&mut get.askers) {
            self.answer_with_held(conn, ask, id);
        }
        self.review_announcement(hash);
    }

    pub(super) fn on_receiving(&mut self, id: TransferId) {
        let now = self.now;
        if let Some(get) = self.gets.get_mut(&id) {
            get.moved_at = now;
            self.timers.set(Deadline::Look(id), now + LOOK_EVERY);
        }
        self.on_listed(id);
    }

    pub(super) fn on_lack(&mut self, conn: ConnId, ask: AskId, code: &str) {
        let now = self.now;
        let Some(id) = self.peers.get_mut(conn).and_then(|peer| peer.asks.remove(&ask)) else { return };
        if let Some(get) = self.gets.get_mut(&id) {
            get.asked.remove(&conn);
            if code == Code::Busy.as_str() {
                get.busy.insert(conn, now + BUSY_WAIT);
            } else {
                get.busy.remove(&conn);
            }
        }
        self.settle_search(id);
    }

    pub(super) fn turn_down(&mut self, conn: ConnId, number: OfferId, code: Code, why: &str) {
        self.send(conn, Message::Refuse { id: number, reason: Reason::new(code.as_str(), why) });
    }

    /// One more sends what is fetched.
    pub(super) fn join(&mut self, id: TransferId, conn: ConnId, offer: &ContentOffer) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let (state, geometry) = (download.state, download.geometry);
        let Some(pull) = download.pull() else { return };
        if pull.sources.len() >= MAX_SOURCES {
            return self.turn_down(conn, offer.id, Code::Busy, "there are enough who have it");
        }
        let have = if offer.is_partial { Have::none(geometry) } else { Have::All };
        self.add_source(id, conn, Source::new(offer.id, have, self.now));
        if offer.is_known_only
            && let Some(get) = self.gets.get_mut(&id)
        {
            get.link.known_only = true;
            let hash = get.hash();
            self.stop_looking(id);
            self.end_forbidden_answers();
            self.review_announcement(hash);
        }
        if state == State::Receiving {
            self.send(conn, Message::Accept { id: offer.id, kept: None, wants_list: false });
            self.pull_more(id);
        }
    }

    pub(super) fn on_have(&mut self, conn: ConnId, number: OfferId, runs: &Runs) {
        let Some(id) = self.download_called(conn, number) else { return };
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let geometry = download.geometry;
        let is_beyond = runs.last().is_some_and(|(first, count)| first + count > geometry.chunks());
        if is_beyond {
            return self.refuse(conn, "it has chunks that the content does not have");
        }
        let Some(pull) = download.pull() else { return };
        let chunks = runs.iter().flat_map(|(first, count)| *first..first + count);
        let news = pull.sources.has_more(conn, chunks.filter_map(|n| geometry.index(n.into())));
        if news.new > 0 {
            self.pull_from(id, conn);
        }
        // That all of it is there may be told at once.
        let is_whole = news.new > 0 && runs.as_slice() == [(0, geometry.chunks())];
        if news.old > news.new && !is_whole {
            self.refuse(conn, "it told of chunks that it had told of before");
        }
    }

    /// A chunk came that was not waited for any more.
    pub(super) fn on_waste(&mut self, id: TransferId, conn: ConnId, bytes: u64) {
        let Some(peer) = self.peers.get(conn) else { return };
        let (addr, node_id) = (peer.addr, peer.node_id);
        if let Some(get) = self.gets.get_mut(&id) {
            get.delivery(addr, node_id).wasted_bytes += bytes;
        }
    }

    /// A chunk came that is right.
    pub(super) fn on_delivered(
        &mut self,
        id: TransferId,
        addr: Option<SocketAddr>,
        node_id: Option<NodeId>,
        bytes: u64,
    ) {
        let now = self.now;
        let Some(get) = self.gets.get_mut(&id) else { return };
        get.moved_at = now;
        if let Some(addr) = addr {
            get.delivery(addr, node_id).bytes += bytes;
        }
    }

    pub(super) fn ask_all(&mut self, id: TransferId) {
        let peers: Vec<_> = self.peers.iter().map(|(conn, _)| conn).collect();
        for conn in peers {
            self.ask(id, conn);
        }
    }

    /// A peer does not send a content any more.
    pub(super) fn lose_source(&mut self, id: TransferId, conn: ConnId) {
        self.remove_source(id, conn);
        self.go_further(id);
    }

    /// A connection is gone.
    pub(super) fn forget_in_gets(&mut self, conn: ConnId) {
        let now = self.now;
        for id in self.gets.keys().copied().collect::<Vec<_>>() {
            let Some(get) = self.gets.get_mut(&id) else { continue };
            get.lists.others.remove(&conn);
            get.askers.remove(&conn);
            get.busy.remove(&conn);
            // It may have another connection, or make one, and is asked there.
            if get.asked.remove(&conn).is_some() {
                get.left_at = Some(now);
            }
            let pull = self.downloads.get_mut(&id).and_then(Download::pull);
            if pull.is_some_and(|pull| pull.sources.get(conn).is_some()) {
                self.lose_source(id, conn);
            }
        }
    }

    /// Whether somebody who was asked, or is being dialled, may answer yet.
    pub(super) fn may_be_answered(&self, id: TransferId) -> bool {
        let Some(get) = self.gets.get(&id) else { return false };
        // Whoever was dialled and has not introduced itself yet will be asked.
        let is_greeting = |peer: &Peer| peer.dialled_by_us && peer.level.is_none();
        get.is_waiting(self.now)
            || get.candidates.are_being_tried()
            || self.peers.iter().any(|(_, peer)| is_greeting(peer))
    }

    /// Ends a search that nobody can answer any more, or that nobody has answered for too long.
    pub(super) fn settle_search(&mut self, id: TransferId) {
        let Some(get) = self.gets.get(&id) else { return };
        let is_new = self.now < get.moved_at + self.config.limits.starved;
        if self.downloads.contains_key(&id) || (is_new && self.may_be_answered(id)) || self.keeps_looking(id)
        {
            return;
        }
        let failure = match (&get.lists.given_up, get.asked_in_all) {
            (Some(Failure { code, message }), _) => {
                Failure::new(*code, format!("{message}; and nobody else who was asked has it"))
            }
            (None, 0) if self.is_looked_up(id) => Failure::new(Code::NotFound, self.nobody_in_dht()),
            (None, _) if !get.busy.is_empty() => Failure::new(
                Code::Busy,
                "whoever may have it answers too many others at the moment; try again later",
            ),
            (None, 0) => Failure::new(
                Code::NotFound,
                "nobody answers where the link says that it is; `connect` to somebody who has it",
            ),
            (None, 1) => Failure::new(
                Code::NotFound,
                "the one peer that was asked does not have it, or does not give it to everybody",
            ),
            (None, asked) => Failure::new(
                Code::NotFound,
                format!("none of the {asked} peers that were asked has it, or gives it to everybody"),
            ),
        };
        self.fail_get(id, failure);
    }

    /// Ends a get that has no download.
    pub(super) fn fail_get(&mut self, id: TransferId, failure: Failure) {
        if self.downloads.contains_key(&id) {
            return self.fail_download(id, failure);
        }
        let Some(get) = self.gets.get(&id) else { return };
        let name = get.name();
        let Failure { code, message } = failure;
        self.end_get(id);
        self.event(Event::TransferFailed {
            id,
            peer: None,
            name,
            direction: Direction::In,
            code,
            reason: message,
        });
    }

    /// Takes a get out of the books. Who waits for an answer gets one.
    pub(super) fn end_get(&mut self, id: TransferId) {
        let Some(get) = self.gets.remove(&id) else { return };
        let hash = get.hash();
        self.askable_changed(hash);
        self.review_announcement(get.hash());
        self.stop_looking(id);
        for (conn, (ask, _)) in get.asked {
            if let Some(peer) = self.peers.get_mut(conn) {
                peer.asks.remove(&ask);
            }
        }
        self.timers.clear(Deadline::Look(id));
        self.timers.clear(Deadline::Have(id));
        // What was fetched may be shared by now.
        for (conn, ask) in get.askers {
            self.answer_after_get(conn, ask, hash);
        }
        self.release_found(id);
    }

    /// Looks after those who are asked, dialled and fetched from.
    pub(super) fn on_look(&mut self, id: TransferId) {
        let now = self.now;
        if !self.gets.contains_key(&id) {
            return;
        }
        self.timers.set(Deadline::Look(id), now + LOOK_EVERY);
        if self.downloads.get(&id).is_some_and(|download| download.state == State::Receiving) {
            self.look_after_sources(id);
        }
        self.look_up(id);
        self.dial_candidates(id);
        self.ask_again(id);
        self.settle_search(id);
    }

    /// Who had nothing, or no room, may have something by now.
    fn ask_again(&mut self, id: TransferId) {
        let now = self.now;
        let sources = self.downloads.get_mut(&id).and_then(Download::pull).map(|pull| pull.sources.len());
        let Some(get) = self.gets.get_mut(&id) else { return };
        let due: Vec<_> = get.busy.iter().filter(|(_, at)| now >= **at).map(|(conn, _)| *conn).collect();
        for conn in due {
            self.ask(id, conn);
        }
        let Some(get) = self.gets.get_mut(&id) else { return };
        if sources.is_none_or(|sources| sources >= MAX_SOURCES) || now < get.asked_at + ASK_AGAIN {
            return;
        }
        get.asked_at = now;
        self.ask_all(id);
    }

    fn look_after_sources(&mut self, id: TransferId) {
        let now = self.now;
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let Some(pull) = download.pull() else { return };
        let is_stuck = pull.is_busy();
        let stall = self.config.limits.stall;
        let mut silent = pull.sources.look_for_late(now, SILENCE, stall);
        if let Some((conn, since)) = pull.awaits_page_from()
            && now >= since + SILENCE
        {
            silent.push(conn);
            self.ask_anew_for_pages(id);
        }
        for conn in silent {
            if let Some(peer) = self.peers.get(conn) {
                self.warn(
                    peer.addr,
                    "it does not send what it was asked for, and is not asked any more".to_owned(),
                );
            }
            let number = self.downloads.get_mut(&id).and_then(|d| Some(d.pull()?.sources.get(conn)?.number));
            if let Some(number) = number {
                self.turn_down(conn, number, Code::Stalled, "nothing came of what was asked for");
            }
            self.on_failure_of(conn);
            self.lose_source(id, conn);
        }
        self.pull_more(id);
        let Some(get) = self.gets.get_mut(&id) else { return };
        let is_starved = now >= get.moved_at + self.config.limits.starved && !is_stuck;
        if !is_starved {
            return;
        }
        get.moved_at = now;
        let seconds = self.config.limits.starved.as_secs();
        let message = format!("nobody who has the rest of it has sent anything for {seconds} seconds");
        let failure = Failure::new(Code::Stalled, message);
        if get.lists.others.is_empty() {
            return self.fail_download(id, failure);
        }
        self.set_list_aside(id);
        self.follow_another(id, failure);
    }
}
