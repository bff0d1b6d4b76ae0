//! What a distributed hash table is told and asked: under which keys contents are found here, and where
//! else those are that are searched for.
//!
//! What everybody may fetch is announced, and what only trusted peers may is never even looked up. A get
//! that has few sources is looked up again and again, with growing pauses. What comes of that was said by strangers
//! about strangers: it is dialled as one of a few, never at ports that belong to other services nor in
//! networks from which it cannot come, and asked for the content whose hash we know, like any other peer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::candidates::{Added, FoundBy};
use super::downloads::Download;
use super::gets::Get;
use super::reach::{is_public, may_be_told};
use super::{Engine, Event, HostPort, Output, Target, TransferId};
use crate::wire::{DhtKey, FileHash};

/// Whoever has so many sources looks for no more.
const ENOUGH: usize = 8;

/// New places taken of one answer, which is what one node of the DHT says, and how many of it are looked at
/// to find so many that are of use.
const MAX_OF_ONE_ANSWER: usize = 16;
const MAX_LOOKED_AT: usize = 256;

/// Below are the ports of other services (RFC 6335), which nobody is to knock at because a stranger said so.
pub(crate) const FIRST_FOUND_PORT: u16 = 1024;

/// The first pause between two look-ups, each is twice the one before; the longest while nobody sends, and
/// while somebody does.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE_STARVED: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How a node stands with the DHT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhtState {
    /// It takes part.
    Joined {
        /// Nodes that it knows.
        nodes: usize,
        /// The address of those by whom it came in that can be reached from farthest away: what is said
        /// there cannot be about networks nearer by.
        entry: IpAddr,
    },
    /// Nobody answers.
    Away {
        /// Why, in words.
        why: String,
    },
}

/// What a node knows about its place in a DHT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhtInfo {
    /// `None` as long as it is not known.
    pub state: Option<DhtState>,
    /// Contents that are announced.
    pub announced: usize,
}

/// The node's dealings with it.
#[derive(Debug, Default)]
pub(super) struct Dht {
    state: Option<DhtState>,
    announced: BTreeSet<FileHash>,
    /// The port with which it is; `None` for that which the node listens on.
    port: Option<u16>,
}

/// Those of one get.
#[derive(Debug)]
pub(super) struct Looking {
    is_under_way: bool,
    /// When the last one ended.
    ended_at: Option<Duration>,
    pause: Duration,
    /// Answers that came.
    answers: u64,
    /// Whether any place ever came of it.
    has_found: bool,
    /// What of them was told last.
    told: Option<Found>,
}

/// What look-ups came to while nothing is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nobody,
    NobodyWhoHasIt,
}

impl Default for Looking {
    fn default() -> Self {
        Self {
            is_under_way: false,
            ended_at: None,
            pause: FIRST_PAUSE,
            answers: 0,
            has_found: false,
            told: None,
        }
    }
}

impl Looking {
    fn is_due(&self, sources: usize, now: Duration) -> bool {
        let longest = if sources == 0 { LONGEST_PAUSE_STARVED } else { LONGEST_PAUSE };
        let is_rested = self.ended_at.is_none_or(|ended| now >= ended + self.pause.min(longest));
        !self.is_under_way && sources < ENOUGH && is_rested
    }
}

impl Engine {
    pub(super) fn dht_info(&self) -> Option<DhtInfo> {
        let info = || DhtInfo { state: self.dht.state.clone(), announced: self.dht.announced.len() };
        self.config.dht.then(info)
    }

    /// Announces a content, or takes that back, where that has changed.
    pub(super) fn review_announcement(&mut self, hash: FileHash) {
        if !self.config.dht {
            return;
        }
        let key = DhtKey::of(hash);
        match self.is_for_everybody(hash) {
            true if self.dht.announced.insert(hash) => self.outputs.push_back(Output::Announce { key }),
            false if self.dht.announced.remove(&hash) => self.outputs.push_back(Output::Withdraw { key }),
            _ => {}
        }
    }

    /// Announces with another port where others come in by another: a router may pass on one that differs
    /// from the one that the node listens on, and that is of use to whoever is outside alone.
    pub(super) fn review_announced_port(&mut self) {
        let is_outside = matches!(self.dht.state, Some(DhtState::Joined { entry, .. }) if is_public(entry));
        let mapped = self.addresses.mapped().map(|(external, _)| external);
        let port =
            mapped.filter(|external| is_outside && is_public(external.ip())).map(|external| external.port());
        if self.config.dht && self.dht.port != port {
            self.dht.port = port;
            let port = port.unwrap_or(self.config.listening.port());
            self.outputs.push_back(Output::AnnouncePort { port });
        }
    }

    /// Whether anything of it is here that everybody may fetch.
    fn is_for_everybody(&self, hash: FileHash) -> bool {
        if self.shares.has(hash) {
            return self.shares.path_of_unchanged(hash).is_some() && !self.shares.is_known_only(hash);
        }
        let get = self.get_of(hash).filter(|id| self.can_be_held(*id));
        get.and_then(|id| self.gets.get(&id)).is_some_and(|get| !get.is_known_only())
    }

    /// Whether a get may be looked up.
    pub(super) fn is_looked_up(&self, id: TransferId) -> bool {
        self.config.dht && self.gets.get(&id).is_some_and(|get| !get.is_known_only())
    }

    /// Whether somebody may yet be found who has it.
    pub(super) fn keeps_looking(&self, id: TransferId) -> bool {
        let is_patient = |get: &Get| self.now < get.moved_at + self.config.limits.starved;
        self.is_looked_up(id) && self.gets.get(&id).is_some_and(is_patient)
    }

    /// Why nobody was found.
    pub(super) fn nobody_in_dht(&self) -> &'static str {
        match self.dht.state {
            Some(DhtState::Joined { .. }) => "the DHT knows nobody who has it and answers",
            _ => "the DHT could not be reached, and nobody is connected who could have it",
        }
    }

    /// Looks for more who have it, as far as there is need.
    pub(super) fn look_up(&mut self, id: TransferId) {
        if !self.is_looked_up(id) {
            return;
        }
        let now = self.now;
        let sources = self.downloads.get_mut(&id).and_then(Download::pull).map_or(0, |p| p.sources.len());
        let Some(get) = self.gets.get_mut(&id) else { return };
        if !get.looking.is_due(sources, now) {
            return;
        }
        let is_first = get.looking.ended_at.is_none();
        get.looking.is_under_way = true;
        self.outputs.push_back(Output::LookUp { id, key: DhtKey::of(get.hash()) });
        if is_first && matches!(self.dht.state, Some(DhtState::Away { .. })) {
            self.tell_of_search(id, "the DHT cannot be reached so far; still trying");
        }
    }

    /// A node of the DHT names places where somebody may have what is searched for.
    pub(super) fn on_found(&mut self, id: TransferId, addrs: &[SocketAddr]) {
        let Some(DhtState::Joined { entry, .. }) = self.dht.state else { return };
        // It was learnt meanwhile that strangers have no business with it.
        if addrs.is_empty() || !self.is_looked_up(id) {
            return;
        }
        // Where it begins is up to nobody who would like to be taken first.
        let first = self.dice.roll() % addrs.len() as u64;
        let (last, first) = addrs.split_at(usize::try_from(first).expect("an index"));
        let Some(get) = self.gets.get_mut(&id) else { return };
        get.looking.answers += 1;
        let found_by = FoundBy::Dht(get.looking.answers);
        let mut taken = 0;
        for addr in first.iter().chain(last).take(MAX_LOOKED_AT) {
            if !may_be_told(entry, *addr) || addr.port() < FIRST_FOUND_PORT {
                continue;
            }
            let target = Target { address: HostPort::from(*addr), id: None };
            match self.add_candidate(id, target, found_by) {
                Added::New => taken += 1,
                Added::Not => {}
                Added::NoRoom => break,
            }
            if taken == MAX_OF_ONE_ANSWER {
                break;
            }
        }
        if let Some(get) = self.gets.get_mut(&id) {
            get.looking.has_found |= taken > 0;
        }
        self.dial_candidates(id);
    }

    /// What is searched for turns out to be for trusted peers only: strangers are not asked about it any more.
    pub(super) fn stop_looking(&mut self, id: TransferId) {
        if !self.config.dht {
            return;
        }
        self.outputs.push_back(Output::StopLooking { id });
        if let Some(get) = self.gets.get_mut(&id) {
            get.looking.is_under_way = false;
            get.candidates.forget_dht();
        }
    }

    /// A look-up has ended.
    pub(super) fn on_looked_up(&mut self, id: TransferId) {
        let now = self.now;
        let is_fetched = self.downloads.contains_key(&id);
        let Some(get) = self.gets.get_mut(&id) else { return };
        let looking = &mut get.looking;
        let is_first = looking.ended_at.is_none();
        looking.pause = if is_first { FIRST_PAUSE } else { (looking.pause * 2).min(LONGEST_PAUSE) };
        looking.is_under_way = false;
        looking.ended_at = Some(now);
        // Whoever was found has a moment to answer before it is said that nobody has it.
        let found = match (looking.has_found, is_first) {
            (false, _) => Found::Nobody,
            (true, false) => Found::NobodyWhoHasIt,
            (true, true) => return,
        };
        if is_fetched || looking.told.replace(found) == Some(found) {
            return;
        }
        let what = match found {
            Found::Nobody => "the DHT knows nobody who has it yet; still looking",
            Found::NobodyWhoHasIt => "nobody has it yet where the DHT says; still looking",
        };
        self.tell_of_search(id, what);
    }

    fn tell_of_search(&mut self, id: TransferId, what: &str) {
        self.event(Event::Warning { peer: None, text: format!("[{id}] {what}") });
    }

    /// Whether the DHT can be reached has changed, or how many are there.
    pub(super) fn on_dht(&mut self, state: DhtState) {
        let was_away = matches!(self.dht.state, Some(DhtState::Away { .. }));
        let text = match &state {
            DhtState::Away { why } if !was_away => Some(format!("{why}; tries again from time to time")),
            DhtState::Joined { .. } if was_away => Some("the DHT can be reached again".to_owned()),
            _ => None,
        };
        self.dht.state = Some(state);
        self.review_announced_port();
        if let Some(text) = text {
            self.event(Event::Warning { peer: None, text });
        }
    }
}
