//! What is wanted of a DHT, and what is due.
//!
//! The node writes it down and never waits; [`attend`](super::attend) reads it. It is bounded by what the
//! engine may share and search for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::engine::TransferId;
use crate::wire::DhtKey;

/// Shared between a node and whoever attends to the DHT for it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desk {
    wants: Arc<Mutex<Wants>>,
    pub(super) changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Wants {
    /// Where what is announced can be had.
    port: u16,
    /// Look-ups that were ever wanted.
    searched: u64,
    /// When each key is to be announced; those that are being announced have no time.
    announced: BTreeMap<DhtKey, Option<Instant>>,
    by_time: BTreeSet<(Instant, DhtKey)>,
    searches: BTreeMap<TransferId, DhtKey>,
    /// Those that are not under way, in the order in which they were wanted: each has its turn.
    waiting: VecDeque<TransferId>,
}

impl Desk {
    /// Where nothing is wanted yet, and what will be announced can be had at this TCP port.
    pub(crate) fn new(port: u16) -> Self {
        let desk = Self::default();
        desk.wants().port = port;
        desk
    }

    /// Announces everything with this port from now on.
    pub(crate) fn announce_with(&self, port: u16) {
        let mut wants = self.wants();
        wants.port = port;
        let now = Instant::now();
        let known: Vec<_> = std::mem::take(&mut wants.by_time).into_iter().map(|(_, key)| key).collect();
        known.into_iter().for_each(|key| wants.set(key, now));
        self.changed.notify_one();
    }

    /// Announces a key, as soon as may be and again and again.
    pub(crate) fn announce(&self, key: DhtKey) {
        let mut wants = self.wants();
        if !wants.announced.contains_key(&key) {
            wants.set(key, Instant::now());
        }
        self.changed.notify_one();
    }

    /// Does not announce it any longer.
    pub(crate) fn withdraw(&self, key: DhtKey) {
        let mut wants = self.wants();
        if let Some(Some(at)) = wants.announced.remove(&key) {
            wants.by_time.remove(&(at, key));
        }
    }

    /// Looks a key up, once.
    pub(crate) fn look_up(&self, id: TransferId, key: DhtKey) {
        let mut wants = self.wants();
        wants.searched += 1;
        if wants.searches.insert(id, key).is_none() {
            wants.waiting.push_back(id);
        }
        self.changed.notify_one();
    }

    /// Nobody needs it any more.
    pub(crate) fn stop_looking(&self, id: TransferId) {
        let mut wants = self.wants();
        wants.searches.remove(&id);
        wants.waiting.retain(|other| *other != id);
        self.changed.notify_one();
    }

    pub(super) fn port(&self) -> u16 {
        self.wants().port
    }

    /// How many look-ups were ever wanted.
    pub(super) fn searched(&self) -> u64 {
        self.wants().searched
    }

    /// Comes back when more were than `before`. Cancel-safe.
    pub(super) async fn is_searched_after(&self, before: u64) {
        while self.searched() == before {
            self.changed.notified().await;
        }
    }

    /// Takes the key that has been due for longest; it has no time until [`Desk::announce_at`].
    pub(super) fn take_due(&self, now: Instant) -> Option<DhtKey> {
        let mut wants = self.wants();
        let (at, key) = wants.by_time.first().copied().filter(|(at, _)| *at <= now)?;
        wants.by_time.remove(&(at, key));
        wants.announced.insert(key, None);
        Some(key)
    }

    /// When the next key is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wants().by_time.first().map(|(at, _)| *at)
    }

    /// A key that was being announced is to be announced again then, if it is still wanted.
    pub(super) fn announce_at(&self, key: DhtKey, at: Instant) {
        let mut wants = self.wants();
        if wants.announced.get(&key) == Some(&None) {
            wants.set(key, at);
        }
    }

    /// Takes a search that is not under way.
    pub(super) fn take_search(&self) -> Option<(TransferId, DhtKey)> {
        let mut wants = self.wants();
        let id = wants.waiting.pop_front()?;
        Some((id, *wants.searches.get(&id)?))
    }

    pub(super) fn is_wanted(&self, id: TransferId) -> bool {
        self.wants().searches.contains_key(&id)
    }

    /// A search was carried out; whether it was still wanted.
    pub(super) fn end_search(&self, id: TransferId) -> bool {
        self.wants().searches.remove(&id).is_some()
    }

    /// What was under way came to nothing.
    pub(super) fn begin_again(&self) {
        let mut wants = self.wants();
        let now = Instant::now();
        let lost: Vec<_> =
            wants.announced.iter().filter(|(_, at)| at.is_none()).map(|(key, _)| *key).collect();
        for key in lost {
            wants.set(key, now);
        }
        wants.waiting = wants.searches.keys().copied().collect();
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        // Nobody panics between two steps of one change.
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wants {
    fn set(&mut self, key: DhtKey, at: Instant) {
        self.announced.insert(key, Some(at));
        self.by_time.insert((at, key));
    }
}
