//! What has been read of messages that are not whole yet, on all connections of a node together.
//!
//! A message must be held until it is whole, and whoever never finishes one would hold memory for
//! ever. So what is held is bounded, and where the bound is reached the connection gives way whose
//! message began first: honest ones take moments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Bytes that every connection may hold uncounted: a line of any message but an offer or a chunk.
const UNCOUNTED_BYTES: usize = 16 << 10;

/// Bytes in all that are counted.
const NODE_BYTES: usize = 64 << 20;

/// The unfinished messages of a node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Unfinished(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    bytes: usize,
    last: u64,
    /// By the order in which they began.
    by_age: BTreeMap<u64, (usize, CancellationToken)>,
}

/// One connection's share.
#[derive(Debug)]
pub(super) struct Share {
    all: Unfinished,
    /// Its message, if that is counted.
    number: Option<u64>,
    gives_way: CancellationToken,
}

impl Unfinished {
    /// The share of a connection that holds nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { all: self.clone(), number: None, gives_way: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Cancelled when this connection has to give way.
    pub(super) fn gives_way(&self) -> &CancellationToken {
        &self.gives_way
    }

    /// Notes that a message was finished: what is held from now on is of another.
    pub(super) fn finished(&mut self) {
        if let Some(number) = self.number.take() {
            let mut inner = self.all.lock();
            if let Some((bytes, _)) = inner.by_age.remove(&number) {
                inner.bytes -= bytes;
            }
        }
    }

    /// Notes how much is held.
    pub(super) fn holds(&mut self, bytes: usize) {
        if bytes <= UNCOUNTED_BYTES {
            return self.finished();
        }
        let mut inner = self.all.lock();
        let number = *self.number.get_or_insert_with(|| {
            inner.last += 1;
            inner.last
        });
        let before = inner.by_age.insert(number, (bytes, self.gives_way.clone()));
        inner.bytes = inner.bytes + bytes - before.map_or(0, |(before, _)| before);
        while inner.bytes > NODE_BYTES
            && let Some((_, (bytes, oldest))) = inner.by_age.pop_first()
        {
            inner.bytes -= bytes;
            oldest.cancel();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.finished();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_that_began_first_gives_way_when_there_are_too_many() {
        let all = Unfinished::default();
        let mut shares: Vec<_> = (0..64).map(|_| all.share()).collect();
        for share in &mut shares {
            share.holds(1 << 20);
        }
        assert!(shares.iter().all(|share| !share.gives_way().is_cancelled()), "so much fits");
        // Who finishes one message and begins another is not the oldest any more.
        shares[0].finished();
        shares[0].holds(1 << 20);
        let mut one_more = all.share();
        one_more.holds(1 << 20);
        let gone: Vec<_> = (0..64).filter(|number| shares[*number].gives_way().is_cancelled()).collect();
        assert_eq!(gone, [1]);
    }

    #[test]
    fn what_is_finished_or_gone_takes_no_room() {
        let all = Unfinished::default();
        for _ in 0..1000 {
            let mut share = all.share();
            share.holds(1 << 20);
            share.holds(2 << 20);
            share.holds(100);
            share.holds(1 << 20);
            assert!(!share.gives_way().is_cancelled());
        }
        assert_eq!(all.lock().bytes, 0);
        assert!(all.lock().by_age.is_empty());
    }
}
