//! The keys of texts that were shown, by which a text that is said again is told from a new one: on whatever
//! connection, by whatever run of its sender's program, to whatever process of this user.
//!
//! Bounded: of each sender the latest stay, and where the table is full the sender that has the most in it
//! loses its oldest. Who forgets too early shows a text twice; nothing is lost by it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::wire::{NodeId, TextKey};

/// Keys of one sender: more than it can have waiting for an acknowledgement.
const OF_ONE: usize = 2048;

/// Keys of all.
const IN_ALL: usize = 32_768;

/// All of them.
#[derive(Debug, Default)]
pub struct ShownKeys {
    by_sender: BTreeMap<NodeId, Keys>,
    len: usize,
}

#[derive(Debug, Default)]
struct Keys {
    known: BTreeSet<TextKey>,
    /// Oldest first.
    order: VecDeque<TextKey>,
}

impl Keys {
    fn drop_oldest(&mut self) -> usize {
        self.order.pop_front().map_or(0, |oldest| usize::from(self.known.remove(&oldest)))
    }
}

impl ShownKeys {
    /// Whether a text of that sender was shown, as far as is remembered.
    pub fn contains(&self, from: NodeId, key: TextKey) -> bool {
        self.by_sender.get(&from).is_some_and(|keys| keys.known.contains(&key))
    }

    /// Remembers one; whether it is new.
    pub fn insert(&mut self, from: NodeId, key: TextKey) -> bool {
        let keys = self.by_sender.entry(from).or_default();
        if !keys.known.insert(key) {
            return false;
        }
        keys.order.push_back(key);
        self.len += 1;
        if keys.order.len() > OF_ONE {
            self.len -= keys.drop_oldest();
        } else if self.len > IN_ALL {
            let most = self.by_sender.iter().max_by_key(|(_, keys)| keys.order.len()).map(|(id, _)| *id);
            if let Some(keys) = most.and_then(|id| self.by_sender.get_mut(&id)) {
                self.len -= keys.drop_oldest();
            }
            self.by_sender.retain(|_, keys| !keys.order.is_empty());
        }
        true
    }

    /// All of them; those of one sender oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, TextKey)> {
        self.by_sender.iter().flat_map(|(id, keys)| keys.order.iter().map(|key| (*id, *key)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        NodeId(id)
    }

    #[test]
    fn of_one_sender_the_latest_stay() {
        let mut keys = ShownKeys::default();
        for number in 0..OF_ONE as u128 + 5 {
            assert!(keys.insert(id(1), TextKey(number)));
        }
        assert_eq!(keys.len(), OF_ONE);
        assert!(!keys.contains(id(1), TextKey(4)) && keys.contains(id(1), TextKey(5)));
        assert!(!keys.insert(id(1), TextKey(5)));
        assert!(!keys.contains(id(2), TextKey(5)), "each sender has its own");
    }

    #[test]
    fn a_crowd_and_whoever_says_much_drive_out_nobody_who_says_little() {
        let mut keys = ShownKeys::default();
        keys.insert(id(0), TextKey(7));
        for sender in 1..100 {
            for number in 0..OF_ONE as u128 {
                keys.insert(id(sender), TextKey(number));
            }
        }
        assert_eq!((keys.len(), keys.iter().count()), (IN_ALL, IN_ALL));
        assert!(keys.contains(id(0), TextKey(7)));
    }
}
