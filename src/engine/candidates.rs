//! Places where somebody may have what is searched for: those that its link names, and those that peers
//! tell of. They are dialled as long as there is need, a few at a time, and neither pinned nor trusted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::downloads::Download;
use super::gets::MAX_SOURCES;
use super::{Dialled, Engine, Output, Target, TransferId};

/// Places where sources of one content may be.
pub(super) const MAX_CANDIDATES: usize = 256;

/// How often a place that somebody told of is dialled. One that a link names is dialled as long as there is need.
const MAX_TRIES: u32 = 3;

/// The first pause before a place is dialled once more, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A place where somebody may have it.
#[derive(Debug)]
struct Candidate {
    is_dialling: bool,
    /// When it may be dialled.
    not_before: Duration,
    pause: Duration,
    /// How often it was dialled.
    tries: u32,
    /// Whether the link names it.
    is_in_link: bool,
}

/// All of them of one search.
#[derive(Debug, Default)]
pub(super) struct Candidates(BTreeMap<Target, Candidate>);

impl Candidates {
    /// Whether one is being dialled, or was not yet.
    pub(super) fn are_being_tried(&self) -> bool {
        self.0.values().any(|candidate| candidate.is_dialling || candidate.tries == 0)
    }
}

impl Engine {
    /// Somebody may have it there.
    pub(super) fn add_candidate(&mut self, id: TransferId, target: Target, is_in_link: bool) {
        let is_self = target.id.is_some() && target.id == self.config.node_id;
        let Some(get) = self.gets.get_mut(&id) else { return };
        if get.candidates.0.len() >= MAX_CANDIDATES || is_self {
            return;
        }
        let new = Candidate {
            is_dialling: false,
            not_before: Duration::ZERO,
            pause: FIRST_PAUSE,
            tries: 0,
            is_in_link,
        };
        get.candidates.0.entry(target).or_insert(new);
    }

    /// Dials where somebody may be found, as far as there is need and room.
    pub(super) fn dial_candidates(&mut self, id: TransferId) {
        let now = self.now;
        let sources =
            self.downloads.get_mut(&id).and_then(Download::pull).map_or(0, |pull| pull.sources.len());
        let Some(get) = self.gets.get(&id) else { return };
        let dialling = get.candidates.0.values().filter(|candidate| candidate.is_dialling).count();
        let room = MAX_SOURCES.saturating_sub(sources + dialling);
        let room = room.min(self.config.limits.found_dials.saturating_sub(self.found_dials.len()));
        let due: Vec<_> = get
            .candidates
            .0
            .iter()
            .filter(|(_, candidate)| {
                !candidate.is_dialling
                    && candidate.not_before <= now
                    && (candidate.is_in_link || candidate.tries < MAX_TRIES)
            })
            .map(|(target, _)| target.clone())
            .collect();
        let mut dialled = 0;
        for target in due {
            let is_there = self.is_connected_to(&target);
            let Some(candidate) = self.gets.get_mut(&id).and_then(|get| get.candidates.0.get_mut(&target))
            else {
                continue;
            };
            if is_there {
                candidate.tries = candidate.tries.max(1);
                continue;
            }
            if dialled >= room {
                continue;
            }
            dialled += 1;
            candidate.is_dialling = true;
            candidate.tries += 1;
            candidate.not_before = now + candidate.pause;
            candidate.pause = (candidate.pause * 2).min(LONGEST_PAUSE);
            let is_new = !self.found_dials.contains_key(&target);
            self.found_dials.entry(target.clone()).or_default().insert(id);
            if is_new {
                self.outputs.push_back(Output::Dial(Dialled { target, is_typed: false }));
            }
        }
    }

    fn is_connected_to(&self, target: &Target) -> bool {
        let addr = target.address.to_string().parse().ok();
        self.peers.iter().any(|(_, peer)| {
            (target.id.is_some() && peer.node_id == target.id)
                || (addr.is_some() && (peer.listens_at() == addr || Some(peer.addr) == addr))
        })
    }

    /// A place that was found was dialled, with or without success.
    pub(super) fn on_found_dialled(&mut self, target: &Target) {
        for id in self.found_dials.remove(target).unwrap_or_default() {
            if let Some(candidate) = self.gets.get_mut(&id).and_then(|get| get.candidates.0.get_mut(target)) {
                candidate.is_dialling = false;
            }
        }
    }

    /// The same, without.
    pub(super) fn on_found_dial_failed(&mut self, target: &Target) {
        let gets = self.found_dials.get(target).cloned().unwrap_or_default();
        self.on_found_dialled(target);
        for id in gets {
            self.settle_search(id);
        }
    }
}
