//! How much of a file is asked for ahead of what has been stored.
//!
//! The window is twice what the path holds: the best rate at which chunks were stored lately, times
//! the shortest time from asking for a chunk until it was stored. That is not forgotten, since with
//! chunks under way all the time it would be mistaken for the time that they wait for each other. Both
//! are measured as in BBR (Cardwell et al. 2016): the rate over the time that one chunk was under way, so that a window
//! which is too small to fill the path doubles with each round trip, and one that fills it stays.

use std::time::Duration;

use crate::wire::CHUNK_SIZE;

/// Chunks that are asked for before anything is known of the path: enough to keep network, hash and
/// disk of a fast one busy.
const MIN_CHUNKS: usize = 8;

/// 16 MiB: what is lost at most when a connection breaks, and the bound on memory.
const MAX_CHUNKS: usize = 64;

/// How long a measured rate counts, at least; twice that at most.
const MEMORY: Duration = Duration::from_secs(5);

/// The window of one transfer.
#[derive(Debug)]
pub(super) struct Window {
    delivered_bytes: u64,
    /// The best rates measured in some time, in bytes a second.
    older_rate: f64,
    newer_rate: f64,
    newer_since: Duration,
    latency: Option<Duration>,
}

/// A chunk that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    at: Duration,
    delivered_bytes: u64,
}

impl Asked {
    /// When that was.
    pub(super) fn at(self) -> Duration {
        self.at
    }

    /// How long ago that was.
    pub(super) fn age(self, now: Duration) -> Duration {
        now.saturating_sub(self.at)
    }
}

impl Window {
    pub(super) fn new(now: Duration) -> Self {
        Self { delivered_bytes: 0, older_rate: 0.0, newer_rate: 0.0, newer_since: now, latency: None }
    }

    /// A chunk is asked for now.
    pub(super) fn ask(&self, now: Duration) -> Asked {
        Asked { at: now, delivered_bytes: self.delivered_bytes }
    }

    /// It is stored.
    pub(super) fn stored(&mut self, asked: Asked, bytes: u32, now: Duration) {
        self.delivered_bytes += u64::from(bytes);
        if now >= self.newer_since + MEMORY {
            self.older_rate = std::mem::take(&mut self.newer_rate);
            self.newer_since = now;
        }
        let latency = now.saturating_sub(asked.at).max(Duration::from_micros(1));
        let rate = (self.delivered_bytes - asked.delivered_bytes) as f64 / latency.as_secs_f64();
        self.newer_rate = self.newer_rate.max(rate);
        self.latency = Some(self.latency.map_or(latency, |best| best.min(latency)));
    }

    /// How long a full window takes.
    pub(super) fn usual_latency(&self) -> Option<Duration> {
        let rate = self.older_rate.max(self.newer_rate);
        let full = self.chunks() as f64 * f64::from(CHUNK_SIZE) / rate.max(1.0);
        self.latency.map(|latency| latency.max(Duration::from_secs_f64(full.min(3600.0))))
    }

    /// Chunks that may be asked for and not stored.
    pub(super) fn chunks(&self) -> usize {
        self.chunks_of_many(1)
    }

    /// The same of one of so many windows: what keeps a path busy of which nothing is known is divided
    /// among them.
    pub(super) fn chunks_of_many(&self, windows: usize) -> usize {
        let least = (MIN_CHUNKS / windows.max(1)).max(1);
        let Some(latency) = self.latency else { return least };
        let rate = self.older_rate.max(self.newer_rate);
        let holds = 2.0 * rate * latency.as_secs_f64() / f64::from(CHUNK_SIZE);
        // The smallest window that holds so much.
        (least..MAX_CHUNKS).find(|chunks| *chunks as f64 >= holds).unwrap_or(MAX_CHUNKS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Pulls over a path for some time, and answers the window then and the rate over the last half.
    fn pull(round_trip: Duration, bytes_per_sec: f64, time: Duration) -> (usize, f64) {
        let chunk_time = Duration::from_secs_f64(f64::from(CHUNK_SIZE) / bytes_per_sec);
        let (mut window, mut now, mut line_free) =
            (Window::new(Duration::ZERO), Duration::ZERO, Duration::ZERO);
        let mut under_way: VecDeque<(Duration, Asked)> = VecDeque::new();
        let mut late_bytes = 0.0;
        while now < time {
            while under_way.len() < window.chunks() {
                let begins = line_free.max(now + round_trip / 2);
                line_free = begins + chunk_time;
                under_way.push_back((line_free + round_trip / 2, window.ask(now)));
            }
            let (arrives, asked) = under_way.pop_front().unwrap();
            now = arrives;
            window.stored(asked, CHUNK_SIZE, now);
            if now > time / 2 {
                late_bytes += f64::from(CHUNK_SIZE);
            }
        }
        (window.chunks(), late_bytes / (time / 2).as_secs_f64())
    }

    #[test]
    fn a_long_path_is_filled_as_well_as_a_short_one() {
        for millis in [0, 1, 10, 50, 100] {
            for rate in [1e6, 10e6, 60e6] {
                let (window, found) = pull(Duration::from_millis(millis), rate, Duration::from_secs(30));
                assert!(found > 0.95 * rate, "{millis} ms, {rate} B/s: {found} B/s, window {window}");
            }
        }
    }

    #[test]
    fn a_slow_path_is_not_asked_for_more_than_it_needs() {
        let (window, _) = pull(Duration::from_millis(20), 1e6, Duration::from_secs(60));
        assert_eq!(window, MIN_CHUNKS);
        let (window, _) = pull(Duration::from_secs(10), 1e9, Duration::from_secs(60));
        assert_eq!(window, MAX_CHUNKS);
    }
}
