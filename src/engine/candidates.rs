//! Places where somebody may have what is searched for: those that its link names, and those that peers
//! tell of. They are dialled as long as there is need, a few at a time, and neither pinned nor trusted.
//!
//! Whoever finds places may find rubbish: each has a share of the table, and where that is full, what was
//! tried in vain gives way first, and then what comes from who has the most in it. So it goes among the answers
//! of a distributed hash table in the share that it has: who answers first, or most, keeps nobody out. What the
//! link names stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::downloads::Download;
use super::gets::MAX_SOURCES;
use super::peers::Peer;
use super::reach::can_be_peer;
use super::{ConnId, Dialled, Engine, Output, Purpose, Target, TransferId};

/// Places where sources of one content may be.
const MAX_CANDIDATES: usize = 256;

/// Those of them that its link names, that one peer tells of, or that a distributed hash table names.
const MAX_OF_LINK: usize = 128;
const MAX_OF_PEER: usize = 64;
const MAX_OF_DHT: usize = 128;

/// Places at one host that somebody told of, and those of them that one answer of a distributed hash table
/// names: a lie must not send everybody there, nor keep those out who are there.
const MAX_AT_ONE_HOST: usize = 16;
const MAX_AT_ONE_HOST_OF_ONE_ANSWER: usize = 4;

/// How often a place that somebody told of is dialled. One that a link names is dialled as long as there is need.
const MAX_TRIES: u32 = 3;

/// Places that gave way to others and of which it is known how often they were dialled.
const MAX_PAST: usize = 1024;

/// Dials that nobody typed and that are begun in one second.
const MAX_A_SECOND: usize = 16;

/// The first pause before a place is dialled once more, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who says that somebody may have it there. Whoever comes first is believed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FoundBy {
    /// The link names it.
    Link,
    /// A peer told of it.
    Peer(ConnId),
    /// A distributed hash table names it, in the answer of this search with this number.
    Dht(u64),
}

impl FoundBy {
    /// Places of one search that may come from there.
    fn most(self) -> usize {
        match self {
            Self::Link => MAX_OF_LINK,
            Self::Peer(_) => MAX_OF_PEER,
            Self::Dht(_) => MAX_OF_DHT,
        }
    }

    /// Whose share of the table it takes: all answers of a distributed hash table have one.
    fn party(self) -> Self {
        if self.kind() == Kind::OfDht { Self::Dht(0) } else { self }
    }

    fn kind(self) -> Kind {
        if matches!(self, Self::Dht(_)) { Kind::OfDht } else { Kind::Other }
    }
}

/// What became of a place that somebody told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It is a new one.
    New,
    /// It is known, or not to be dialled.
    Not,
    /// There is no room for what comes from there.
    NoRoom,
}

/// Places that are dialled in turns with those of the other kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// What a distributed hash table names: strangers say it of strangers, and it gets half of the room for
    /// dials at most.
    OfDht,
    /// What the link names, or peers tell of.
    Other,
}

/// A place where somebody may have it.
#[derive(Debug)]
struct Candidate {
    found_by: FoundBy,
    /// The how many-th of those that come from there it is, and the how many-th of all: which is dialled first.
    turn: (u32, u64),
    is_dialling: bool,
    /// When it may be dialled.
    not_before: Duration,
    pause: Duration,
    /// How often it was dialled.
    tries: u32,
    /// It was dialled in vain, the last time.
    has_failed: bool,
}

impl Candidate {
    fn new(found_by: FoundBy, turn: (u32, u64), tries: u32) -> Self {
        Self {
            found_by,
            turn,
            is_dialling: false,
            not_before: Duration::ZERO,
            pause: FIRST_PAUSE,
            tries,
            has_failed: tries > 0,
        }
    }

    fn may_be_dialled(&self, now: Duration) -> bool {
        let is_given_up = self.found_by != FoundBy::Link && self.tries >= MAX_TRIES;
        !self.is_dialling && self.not_before <= now && !is_given_up
    }

    fn begin(&mut self, now: Duration) {
        self.is_dialling = true;
        self.tries += 1;
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn may_give_way(&self) -> bool {
        !self.is_dialling && self.found_by != FoundBy::Link
    }
}

/// All of them of one search.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    places: BTreeMap<Target, Candidate>,
    last: u64,
    /// Those that were dialled in vain and gave way, oldest first, and how often each was dialled: whoever
    /// tells of them again and again does not have them dialled more often.
    past: VecDeque<(Target, u32)>,
}

impl Candidates {
    /// What a distributed hash table named is of no use any more.
    pub(super) fn forget_dht(&mut self) {
        self.places.retain(|_, candidate| candidate.found_by.kind() != Kind::OfDht);
    }

    /// Whether one is being dialled, or was not yet.
    pub(super) fn are_being_tried(&self) -> bool {
        self.places.values().any(|candidate| candidate.is_dialling || candidate.tries == 0)
    }

    /// Takes in a place, if there is room for it or can be made. Where all have as much as it would, `roll`
    /// decides.
    fn add(&mut self, target: Target, found_by: FoundBy, roll: u64) -> Added {
        if let Some(known) = self.places.get_mut(&target) {
            known.found_by = known.found_by.min(found_by);
            return Added::Not;
        }
        let past = self.past.iter().position(|(other, _)| *other == target);
        let tries = past.map_or(0, |past| self.past[past].1);
        let is_told = found_by != FoundBy::Link;
        if is_told && tries >= MAX_TRIES {
            return Added::Not;
        }
        // Those that were dialled there and gave way are counted there all the same.
        let room =
            if is_told && past.is_none() { self.room_at_host(&target, found_by, roll) } else { Some(None) };
        let Some(gives_way) = room else { return Added::Not };
        if !self.make_room(found_by, roll) {
            return Added::NoRoom;
        }
        if let Some(gives_way) = gives_way {
            self.give_way(gives_way);
        }
        self.past.retain(|(other, _)| *other != target);
        self.last += 1;
        let of_it = self.places.values().filter(|candidate| candidate.found_by == found_by);
        let turn = of_it.map(|candidate| candidate.turn.0).max().unwrap_or(0) + 1;
        self.places.insert(target, Candidate::new(found_by, (turn, self.last), tries));
        Added::New
    }

    /// Whether there is room for one more at its host, and which gives way to it there if need be.
    fn room_at_host(&self, target: &Target, found_by: FoundBy, roll: u64) -> Option<Option<Target>> {
        let is_here = |other: &Target| other.address.host() == target.address.host();
        let here = || self.places.iter().filter(|(other, _)| is_here(other));
        let of_it = here().filter(|(_, candidate)| candidate.found_by == found_by).count();
        if found_by.kind() == Kind::OfDht && of_it >= MAX_AT_ONE_HOST_OF_ONE_ANSWER {
            return None;
        }
        if here().count() + self.past.iter().filter(|(other, _)| is_here(other)).count() < MAX_AT_ONE_HOST {
            return Some(None);
        }
        let is_untried = |other: &Target, candidate: &Candidate| candidate.tries == 0 && is_here(other);
        self.one_of_dht(found_by, roll, is_untried).map(Some)
    }

    /// Whether there is room for one more that comes from there. Another gives way to it if need be.
    fn make_room(&mut self, found_by: FoundBy, roll: u64) -> bool {
        let of_it = self.of_party(found_by);
        let gives_way = if of_it >= found_by.most() {
            let failed = self.failed(|candidate| candidate.found_by.party() == found_by.party());
            let of_dht = || self.one_of_dht(found_by, roll, |_, _| true);
            failed.or_else(|| of_dht().filter(|_| found_by.kind() == Kind::OfDht))
        } else if self.places.len() >= MAX_CANDIDATES {
            self.failed(|_| true).or_else(|| self.one_of_the_most(of_it + 1, FoundBy::party, |_, _| true))
        } else {
            return true;
        };
        let Some(gives_way) = gives_way else { return false };
        self.give_way(gives_way);
        true
    }

    fn give_way(&mut self, target: Target) {
        let tries = self.places.remove(&target).map_or(0, |candidate| candidate.tries);
        if tries > 0 {
            self.past.push_back((target, tries));
            if self.past.len() > MAX_PAST {
                self.past.pop_front();
            }
        }
    }

    /// How many come from there, all answers of a distributed hash table taken together.
    fn of_party(&self, found_by: FoundBy) -> usize {
        self.places.values().filter(|candidate| candidate.found_by.party() == found_by.party()).count()
    }

    /// Of some of those that were dialled in vain, the one that was most often.
    fn failed(&self, is_meant: impl Fn(&Candidate) -> bool) -> Option<Target> {
        let in_vain = self
            .places
            .iter()
            .filter(|(_, candidate)| candidate.has_failed && candidate.may_give_way() && is_meant(candidate));
        in_vain.max_by_key(|(_, candidate)| candidate.tries).map(|(target, _)| target.clone())
    }

    /// One that comes from where most come from, if these are more than `others`.
    fn one_of_the_most(
        &self,
        others: usize,
        whose: impl Fn(FoundBy) -> FoundBy,
        is_meant: impl Fn(&Target, &Candidate) -> bool,
    ) -> Option<Target> {
        let meant = || {
            self.places
                .iter()
                .filter(|(target, candidate)| candidate.may_give_way() && is_meant(target, candidate))
        };
        let mut counts = BTreeMap::<FoundBy, usize>::new();
        for (_, candidate) in meant() {
            *counts.entry(whose(candidate.found_by)).or_default() += 1;
        }
        let (most, _) =
            counts.into_iter().filter(|(_, count)| *count > others).max_by_key(|(_, count)| *count)?;
        let theirs = meant().filter(|(_, candidate)| whose(candidate.found_by) == most);
        theirs.max_by_key(|(_, candidate)| candidate.tries).map(|(target, _)| target.clone())
    }

    /// One of those that a distributed hash table names: of the answer with most of them, or, where none has
    /// more than one, any of them or none, as `roll` says, so that neither who comes first nor who comes last has it all.
    fn one_of_dht(
        &self,
        found_by: FoundBy,
        roll: u64,
        is_meant: impl Fn(&Target, &Candidate) -> bool,
    ) -> Option<Target> {
        let is_meant = |target: &Target, candidate: &Candidate| {
            candidate.found_by.kind() == Kind::OfDht && is_meant(target, candidate)
        };
        let of_it =
            self.places.iter().filter(|(target, c)| c.found_by == found_by && is_meant(target, c)).count();
        if let Some(target) = self.one_of_the_most(of_it + 1, |found_by| found_by, is_meant) {
            return Some(target);
        }
        let alike =
            self.places.iter().filter(|(target, c)| of_it == 0 && c.may_give_way() && is_meant(target, c));
        let alike: Vec<_> = alike.map(|(target, _)| target).collect();
        let one = roll.checked_rem(2 * alike.len() as u64)?;
        alike.get(usize::try_from(one).ok()?).map(|target| (*target).clone())
    }

    /// Those of one kind that may be dialled now: what the link names, what was dialled least often, and from
    /// each that told of some one after the other, first of whoever came first.
    fn due(&self, now: Duration, kind: Kind) -> Vec<Target> {
        let is_due =
            |candidate: &Candidate| candidate.found_by.kind() == kind && candidate.may_be_dialled(now);
        let due = self.places.iter().filter(|(_, candidate)| is_due(candidate));
        let mut due: Vec<_> = due
            .map(|(target, Candidate { found_by, tries, turn, .. })| {
                ((*found_by != FoundBy::Link, *tries, *turn), target)
            })
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, target)| target.clone()).collect()
    }

    fn dialling(&self) -> usize {
        self.places.values().filter(|candidate| candidate.is_dialling).count()
    }

    /// One was dialled.
    fn dialled(&mut self, target: &Target, is_reached: bool) {
        if let Some(candidate) = self.places.get_mut(target) {
            candidate.is_dialling = false;
            candidate.has_failed = !is_reached;
        }
    }
}

/// Where that is, if it is written as an address.
fn address_of(target: &Target) -> Option<SocketAddr> {
    target.address.to_string().parse().ok()
}

/// Dials that nobody typed.
#[derive(Debug, Default)]
pub(super) struct FoundDials {
    under_way: BTreeMap<Target, FoundDial>,
    /// When the last ones were begun: what is refused at once makes room for the next, and must not send a
    /// burst of them.
    second: u64,
    begun: Vec<Kind>,
    of_dht: Turns,
    others: Turns,
}

#[derive(Debug)]
struct FoundDial {
    kind: Kind,
    /// The searches that want it.
    gets: BTreeSet<TransferId>,
}

/// Searches that wait to dial one place of a kind. Each has its turn.
#[derive(Debug, Default)]
struct Turns {
    waiting: BTreeSet<TransferId>,
    /// Whose turn it was last.
    last: Option<TransferId>,
}

impl Turns {
    fn next(&mut self) -> Option<TransferId> {
        let behind = self.last.and_then(|last| self.waiting.range((Excluded(last), Unbounded)).next());
        let next = *behind.or_else(|| self.waiting.first())?;
        self.waiting.remove(&next);
        self.last = Some(next);
        Some(next)
    }
}

impl FoundDials {
    fn turns(&mut self, kind: Kind) -> &mut Turns {
        match kind {
            Kind::OfDht => &mut self.of_dht,
            Kind::Other => &mut self.others,
        }
    }

    /// Whether one more may be begun, where `most` may be under way.
    fn has_room(&mut self, kind: Kind, most: usize, now: Duration) -> bool {
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            self.begun.clear();
        }
        let has_room = self.under_way.len() < most && self.begun.len() < MAX_A_SECOND;
        let under_way = self.under_way.values().filter(|dial| dial.kind == Kind::OfDht).count();
        let begun = self.begun.iter().filter(|kind| **kind == Kind::OfDht).count();
        let is_half_free = under_way < most.div_ceil(2) && begun < MAX_A_SECOND / 2;
        has_room && (kind == Kind::Other || is_half_free)
    }

    /// A search wants it dialled. Whether it is not being dialled yet.
    fn begin(&mut self, target: &Target, kind: Kind, id: TransferId) -> bool {
        if let Some(dial) = self.under_way.get_mut(target) {
            dial.gets.insert(id);
            return false;
        }
        self.under_way.insert(target.clone(), FoundDial { kind, gets: BTreeSet::from([id]) });
        self.begun.push(kind);
        true
    }
}

impl Engine {
    /// Somebody may have it there. What became of that.
    pub(super) fn add_candidate(&mut self, id: TransferId, target: Target, found_by: FoundBy) -> Added {
        // Another process of this user has the same identity, and another address.
        let is_nobody = address_of(&target).is_some_and(|addr| !can_be_peer(addr) || self.is_this_node(addr));
        let roll = self.dice.roll();
        let get = self.gets.get_mut(&id).filter(|_| !is_nobody);
        get.map_or(Added::Not, |get| get.candidates.add(target, found_by, roll))
    }

    /// Dials where somebody may be found, as far as there is need and room. Where there is not enough for
    /// all searches, each dials one place after the other.
    pub(super) fn dial_candidates(&mut self, id: TransferId) {
        let kinds = [Kind::Other, Kind::OfDht];
        for kind in kinds {
            self.found_dials.turns(kind).waiting.insert(id);
        }
        while kinds.map(|kind| self.dial_next(kind)).contains(&true) {}
    }

    /// Dials one place of a kind for the search whose turn it is. Whether there was one, and room.
    fn dial_next(&mut self, kind: Kind) -> bool {
        let (most, now) = (self.config.limits.found_dials, self.now);
        while self.found_dials.has_room(kind, most, now)
            && let Some(id) = self.found_dials.turns(kind).next()
        {
            if self.dial_one(id, kind) {
                self.found_dials.turns(kind).waiting.insert(id);
                return true;
            }
        }
        false
    }

    fn dial_one(&mut self, id: TransferId, kind: Kind) -> bool {
        let now = self.now;
        let sources =
            self.downloads.get_mut(&id).and_then(Download::pull).map_or(0, |pull| pull.sources.len());
        let Some(get) = self.gets.get(&id) else { return false };
        if sources + get.candidates.dialling() >= MAX_SOURCES {
            return false;
        }
        for target in get.candidates.due(now, kind) {
            let is_there = self.is_connected_to(&target);
            let get = self.gets.get_mut(&id);
            let Some(candidate) = get.and_then(|get| get.candidates.places.get_mut(&target)) else {
                continue;
            };
            if is_there {
                candidate.tries = candidate.tries.max(1);
                candidate.has_failed = false;
                candidate.not_before = now + FIRST_PAUSE;
                continue;
            }
            candidate.begin(now);
            if self.found_dials.begin(&target, kind, id) {
                self.outputs.push_back(Output::Dial(Dialled { target, why: Purpose::Found }));
            }
            return true;
        }
        false
    }

    fn is_connected_to(&self, target: &Target) -> bool {
        let addr = address_of(target);
        let is_there = |peer: &Peer| addr.is_some() && (peer.listens_at() == addr || Some(peer.addr) == addr);
        self.peers.iter().any(|(_, peer)| match target.id {
            // This user's other processes have the same one.
            Some(id) if self.config.node_id != Some(id) => peer.node_id == Some(id),
            // Where it says it listens somebody else may listen too, of whom it is known who that is.
            Some(id) => peer.node_id == Some(id) && is_there(peer),
            None => is_there(peer),
        })
    }

    /// A place that was found was dialled, with or without success. Answers for which searches that still run.
    pub(super) fn on_found_dialled(&mut self, target: &Target, is_reached: bool) -> BTreeSet<TransferId> {
        let dial = self.found_dials.under_way.remove(target);
        let mut gets = dial.map(|dial| dial.gets).unwrap_or_default();
        gets.retain(|id| self.gets.contains_key(id));
        for id in &gets {
            if let Some(get) = self.gets.get_mut(id) {
                get.candidates.dialled(target, is_reached);
            }
        }
        gets
    }

    /// The same, without.
    pub(super) fn on_found_dial_failed(&mut self, target: &Target) {
        for id in self.on_found_dialled(target, false) {
            self.settle_search(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize) -> Target {
        format!("host{number}:8000").parse().unwrap()
    }

    fn number_of(place: &Target) -> usize {
        place.address.host().trim_start_matches("host").parse().unwrap()
    }

    fn told_by(peer: u32, from: usize, count: usize, candidates: &mut Candidates) {
        (from..from + count)
            .for_each(|number| _ = candidates.add(place(number), FoundBy::Peer(ConnId(peer.into())), 0));
    }

    /// A table that is full of what four peers told.
    fn full() -> Candidates {
        let mut candidates = Candidates::default();
        for peer in 0..4 {
            told_by(peer, 1000 * (peer + 1) as usize, MAX_OF_PEER, &mut candidates);
        }
        assert_eq!(candidates.places.len(), MAX_CANDIDATES);
        candidates
    }

    #[test]
    fn one_peer_fills_a_quarter_of_the_table_at_most() {
        let mut candidates = Candidates::default();
        told_by(1, 0, 1000, &mut candidates);
        assert_eq!(candidates.places.len(), MAX_OF_PEER);
        candidates.dialled(&place(7), false);
        told_by(1, 2000, 2, &mut candidates);
        assert!(!candidates.places.contains_key(&place(7)), "what it told in vain gives way");
        assert!(
            candidates.places.contains_key(&place(2000)) && !candidates.places.contains_key(&place(2001))
        );
    }

    #[test]
    fn who_tells_little_finds_room_in_a_table_that_others_filled() {
        let mut candidates = full();
        told_by(9, 0, 10, &mut candidates);
        assert_eq!(candidates.of_party(FoundBy::Peer(ConnId(9))), 10);
        told_by(9, 0, MAX_OF_PEER, &mut candidates);
        let counts: Vec<_> =
            [0, 1, 2, 3, 9].map(|peer| candidates.of_party(FoundBy::Peer(ConnId(peer)))).into();
        assert_eq!(counts.iter().sum::<usize>(), MAX_CANDIDATES);
        assert!(counts.iter().all(|count| (50..=53).contains(count)), "all alike: {counts:?}");
    }

    #[test]
    fn what_was_dialled_in_vain_gives_way_to_what_was_not() {
        let mut candidates = full();
        for number in 1000..1000 + MAX_OF_PEER {
            candidates.dialled(&place(number), false);
        }
        told_by(9, 0, MAX_OF_PEER, &mut candidates);
        assert_eq!(candidates.of_party(FoundBy::Peer(ConnId(0))), 0);
        assert_eq!(candidates.of_party(FoundBy::Peer(ConnId(9))), MAX_OF_PEER);
    }

    #[test]
    fn who_names_a_place_again_after_it_gave_way_does_not_have_it_dialled_more_often() {
        let mut candidates = Candidates::default();
        for round in 1..10 {
            told_by(1, 0, 1, &mut candidates);
            if let Some(candidate) = candidates.places.get_mut(&place(0)) {
                candidate.begin(Duration::ZERO);
                candidates.dialled(&place(0), false);
            }
            assert_eq!(candidates.places.contains_key(&place(0)), round <= MAX_TRIES as usize, "{round}");
            told_by(1, 1000 * round, MAX_OF_PEER, &mut candidates);
            assert!(!candidates.places.contains_key(&place(0)), "it gives way");
            for number in 1000 * round..1000 * round + MAX_OF_PEER {
                candidates.places.remove(&place(number));
            }
            let past: Vec<_> = candidates.past.iter().map(|(target, _)| target.clone()).collect();
            assert_eq!(past, [place(0)], "and is not forgotten");
        }
        for number in 1..=2 * MAX_PAST {
            candidates.add(place(number), FoundBy::Peer(ConnId(1)), 0);
            if let Some(candidate) = candidates.places.get_mut(&place(number)) {
                candidate.begin(Duration::ZERO);
                candidates.dialled(&place(number), false);
            }
        }
        assert_eq!(candidates.past.len(), MAX_PAST, "what is kept in mind has an end");
    }

    fn named(answer: u64, from: usize, count: usize, roll: u64, candidates: &mut Candidates) -> usize {
        let add = |number| candidates.add(place(number), FoundBy::Dht(answer), roll) == Added::New;
        (from..from + count).map(add).filter(|is_new| *is_new).count()
    }

    #[test]
    fn the_answers_of_a_dht_share_the_room_that_it_has() {
        let mut candidates = Candidates::default();
        for answer in 1..=8 {
            assert_eq!(named(answer, 1000 * usize::try_from(answer).unwrap(), 16, 0, &mut candidates), 16);
        }
        // Nobody has failed yet, and some were reached.
        for number in 1000..1016 {
            candidates.places.get_mut(&place(number)).unwrap().tries = 1;
        }
        assert_eq!(named(9, 9000, 16, u64::MAX, &mut candidates), 14, "as many as the others");
        assert_eq!(candidates.of_party(FoundBy::Dht(1)), MAX_OF_DHT);
    }

    #[test]
    fn among_answers_that_all_have_little_chance_decides_once_for_each() {
        let full = || {
            let mut candidates = Candidates::default();
            for answer in 0..MAX_OF_DHT {
                named(answer as u64, answer, 1, 0, &mut candidates);
            }
            candidates
        };
        let taken = |roll| named(1000, 1000, 16, roll, &mut full());
        let rolls: Vec<_> = (0..2 * MAX_OF_DHT as u64).map(taken).collect();
        assert_eq!(rolls.iter().filter(|taken| **taken == 1).count(), MAX_OF_DHT, "half of the time");
        assert!(rolls.iter().all(|taken| *taken <= 1), "and no more than the others have");
    }

    #[test]
    fn nobody_waits_until_all_that_another_told_was_dialled() {
        let mut candidates = Candidates::default();
        told_by(1, 1000, MAX_OF_PEER, &mut candidates);
        told_by(2, 0, 2, &mut candidates);
        let first: Vec<_> = candidates.due(Duration::ZERO, Kind::Other).into_iter().take(4).collect();
        assert!(first.contains(&place(0)) && first.contains(&place(1)), "{first:?}");
        candidates.places.retain(|target, _| !(1000..1032).contains(&number_of(target)));
        let next = candidates.due(Duration::ZERO, Kind::Other);
        assert!(next[..2].iter().all(|target| number_of(target) < 2), "nor is it ever: {next:?}");
        candidates.places.get_mut(&place(0)).unwrap().tries = 1;
        assert_eq!(
            candidates.due(Duration::ZERO, Kind::Other).last(),
            Some(&place(0)),
            "what was not dialled comes first"
        );
    }

    #[test]
    fn what_the_link_names_and_what_is_being_dialled_stays_and_comes_first() {
        let mut candidates = Candidates::default();
        candidates.add(place(1), FoundBy::Peer(ConnId(1)), 0);
        candidates.add(place(2), FoundBy::Link, 0);
        told_by(1, 2, 1, &mut candidates);
        assert_eq!(candidates.due(Duration::ZERO, Kind::Other), [place(2), place(1)]);
        candidates.places.get_mut(&place(1)).unwrap().is_dialling = true;
        candidates.dialled(&place(2), false);
        for peer in 2..100 {
            told_by(peer, 1000 * peer as usize, MAX_OF_PEER, &mut candidates);
        }
        assert_eq!(candidates.places.len(), MAX_CANDIDATES);
        assert!(candidates.places.contains_key(&place(1)) && candidates.places.contains_key(&place(2)));
    }
}
