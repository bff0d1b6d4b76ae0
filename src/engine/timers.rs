//! Deadlines, ordered by time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// At most one deadline for each key. Setting, clearing and taking cost O(log n).
#[derive(Debug)]
pub(super) struct Timers<K> {
    by_time: BTreeSet<(Duration, K)>,
    by_key: BTreeMap<K, Duration>,
}

impl<K: Copy + Ord> Timers<K> {
    pub(super) fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Sets the key's deadline in place of an earlier one.
    pub(super) fn set(&mut self, key: K, at: Duration) {
        if let Some(before) = self.by_key.insert(key, at) {
            self.by_time.remove(&(before, key));
        }
        self.by_time.insert((at, key));
    }

    pub(super) fn clear(&mut self, key: K) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    pub(super) fn is_set(&self, key: K) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one deadline that has come.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<K> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_the_earliest_comes_first() {
        let secs = Duration::from_secs;
        let mut timers = Timers::new();
        timers.set('a', secs(1));
        timers.set('b', secs(2));
        timers.set('a', secs(3));
        timers.set('c', secs(2));
        timers.clear('c');
        assert_eq!(timers.next(), Some(secs(2)));
        assert_eq!(timers.take_due(secs(1)), None);
        assert_eq!(timers.take_due(secs(9)), Some('b'));
        assert_eq!(timers.take_due(secs(9)), Some('a'));
        assert_eq!(timers.take_due(secs(9)), None);
        assert_eq!(timers.next(), None);
    }
}
