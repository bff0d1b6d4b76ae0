//! Limits of bandwidth: token buckets that may go into debt.
//!
//! What is taken may be larger than what is there: then nothing more is given until the debt is paid, so
//! that a chunk larger than the bucket waits and does not fail. Over some time exactly the rate is given,
//! beside the little that may be saved up. Limited are file content and what is passed on for others: no
//! message waits for it. Who has to wait is served in turn.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use super::relay::Hop;
use super::{Code, ConnId, Deadline, Direction, Engine, Failure, TransferId};
use crate::size::{self, BadSize};

/// What may be saved up: the worth of so long. As little as hides that timers are late.
const SAVED: Duration = Duration::from_millis(50);

/// Nothing is as fast, in bytes a second.
const FASTEST: u64 = 1_000_000_000_000_000;

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// `None` for none at all.
    pub fn new(bytes_per_sec: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_sec).map(Self)
    }

    /// In bytes a second.
    pub fn bytes_per_sec(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", size::human(self.0.get()))
    }
}

impl FromStr for Rate {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| {
            let message = format!("`{text}` is not a rate: {why}; write it like 5MB/s, 512KiB/s or 800kB/s");
            Failure::new(Code::Usage, message)
        };
        let trimmed = text.trim();
        let quantity = trimmed.strip_suffix("/s").or_else(|| trimmed.strip_suffix("/S")).unwrap_or(trimmed);
        let bytes = size::parse(quantity).map_err(|error| match error {
            BadSize::TooLarge => bad("nothing is that fast"),
            error => bad(&error.to_string()),
        })?;
        if bytes >= FASTEST {
            return Err(bad("nothing is that fast"));
        }
        Self::new(bytes).ok_or_else(|| bad("less than a byte a second is none; `off` ends a limit"))
    }
}

/// A token bucket, or none where nothing is limited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    rate: Option<Rate>,
    /// Bytes that may be taken; below zero, what is owed.
    level: f64,
    /// When that was so.
    at: Duration,
}

impl Bucket {
    /// One that is limited from the beginning, or not.
    pub(super) fn limited(rate: Option<Rate>) -> Self {
        Self { rate, ..Self::default() }
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Limits to another rate from now on, or to none. What is owed is owed still.
    pub(super) fn set_rate(&mut self, rate: Option<Rate>, now: Duration) {
        self.fill(now);
        self.rate = rate;
        if rate.is_none() {
            self.level = 0.0;
        }
    }

    fn fill(&mut self, now: Duration) {
        let Some(rate) = self.rate else { return };
        let rate = rate.bytes_per_sec() as f64;
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * rate).min(SAVED.as_secs_f64() * rate);
        self.at = self.at.max(now);
    }

    /// When something may be taken; a time that has passed where it may be now.
    pub(super) fn ready_at(&mut self, now: Duration) -> Duration {
        self.fill(now);
        match self.rate {
            // A tenth of a nanosecond too early would be an endless loop.
            Some(rate) if self.level < 0.0 => {
                now + Duration::from_secs_f64(-self.level / rate.bytes_per_sec() as f64)
                    + Duration::from_micros(1)
            }
            _ => now,
        }
    }

    /// Takes as much, whether it is there or not.
    pub(super) fn take(&mut self, bytes: u64, now: Duration) {
        if self.rate.is_some() {
            self.fill(now);
            self.level -= bytes as f64;
        }
    }

    /// What was taken was not used.
    pub(super) fn give_back(&mut self, bytes: u64) {
        if self.rate.is_some() {
            self.level += bytes as f64;
        }
    }
}

/// What waits for its turn to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// The next chunk for a peer.
    Chunk(ConnId),
    /// What is passed on over a circuit.
    Circuit(Hop),
}

/// Those who wait until a bucket has something for them.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: BTreeSet<T>,
    /// Who was served last.
    last: Option<T>,
    due: Option<Duration>,
    /// Whether they are being served at this moment.
    is_serving: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), last: None, due: None, is_serving: false }
    }
}

impl<T: Copy + Ord> Queue<T> {
    /// Whether somebody may take something that is ready at `ready`; else it waits, and a time to wake up
    /// may be given.
    fn may_take(&mut self, who: T, ready: Duration, now: Duration) -> Result<(), Option<Duration>> {
        let is_turn = self.is_serving || self.waiting.is_empty();
        if ready <= now && is_turn {
            self.last = Some(who);
            return Ok(());
        }
        self.waiting.insert(who);
        let ready = ready.max(now);
        if self.due.is_none_or(|due| ready < due) {
            self.due = Some(ready);
            return Err(Some(ready));
        }
        Err(None)
    }

    /// Those who waited, beginning behind the one that was served last.
    fn take_waiting(&mut self) -> Vec<T> {
        self.due = None;
        let waiting = std::mem::take(&mut self.waiting);
        let behind = waiting.iter().filter(|who| Some(**who) > self.last);
        let others = waiting.iter().filter(|who| Some(**who) <= self.last);
        behind.chain(others).copied().collect()
    }
}

impl Engine {
    /// Whether a chunk may be read for a peer now; else it is when it is its turn.
    pub(super) fn may_send(&mut self, conn: ConnId) -> bool {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(conn) else { return false };
        if self.up.rate().is_none() && peer.up.rate().is_none() {
            return true;
        }
        let ready = self.up.ready_at(now).max(peer.up.ready_at(now));
        self.is_turn_of(Turn::Chunk(conn), ready)
    }

    /// Whether something may be passed on over a circuit now: it counts as sent, and has a limit of its
    /// own besides. Else it is when it is its turn.
    pub(super) fn may_pass_on(&mut self, at: Hop) -> bool {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(at.0) else { return false };
        let ready = self.up.ready_at(now).max(peer.up.ready_at(now)).max(self.circuits.bucket.ready_at(now));
        self.is_turn_of(Turn::Circuit(at), ready)
    }

    fn is_turn_of(&mut self, turn: Turn, ready: Duration) -> bool {
        let may = self.sending.may_take(turn, ready, self.now);
        if let Err(Some(due)) = may {
            self.timers.set(Deadline::Up, due);
        }
        may.is_ok()
    }

    /// So many bytes are going to be sent.
    pub(super) fn charge_up(&mut self, conn: ConnId, bytes: u64) {
        let now = self.now;
        self.up.take(bytes, now);
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.up.take(bytes, now);
        }
    }

    pub(super) fn on_up_due(&mut self) {
        self.sending.is_serving = true;
        for turn in self.sending.take_waiting() {
            match turn {
                Turn::Chunk(conn) => self.read_ahead(conn),
                Turn::Circuit(at) => self.say_next(at),
            }
        }
        self.sending.is_serving = false;
    }

    /// Whether a chunk may be asked for now; else it is when it is its turn.
    pub(super) fn may_ask(&mut self, id: TransferId, conn: ConnId) -> bool {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(conn) else { return false };
        if self.down.rate().is_none() && peer.down.rate().is_none() {
            return true;
        }
        let ready = self.down.ready_at(now).max(peer.down.ready_at(now));
        let may = self.asking.may_take((id, conn), ready, now);
        if let Err(Some(due)) = may {
            self.timers.set(Deadline::Down, due);
        }
        may.is_ok()
    }

    /// Whether what is asked of a peer is limited.
    pub(super) fn is_limited_down(&self, conn: ConnId) -> bool {
        self.down.rate().is_some() || self.peers.get(conn).is_some_and(|peer| peer.down.rate().is_some())
    }

    /// So many bytes are going to come.
    pub(super) fn charge_down(&mut self, conn: ConnId, bytes: u64) {
        let now = self.now;
        self.down.take(bytes, now);
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.down.take(bytes, now);
        }
    }

    /// So many bytes will not come after all.
    pub(super) fn refund_down(&mut self, conn: ConnId, bytes: u64) {
        self.down.give_back(bytes);
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.down.give_back(bytes);
        }
    }

    pub(super) fn on_down_due(&mut self) {
        self.asking.is_serving = true;
        for (id, conn) in self.asking.take_waiting() {
            self.pull_from(id, conn);
        }
        self.asking.is_serving = false;
    }

    /// Limits what is sent or received, to one peer or in all.
    pub(super) fn limit(&mut self, direction: Direction, rate: Option<Rate>, conn: Option<ConnId>) {
        let now = self.now;
        let peer = conn.and_then(|conn| self.peers.get_mut(conn));
        let bucket = match (direction, peer) {
            (Direction::Out, Some(peer)) => &mut peer.up,
            (Direction::In, Some(peer)) => &mut peer.down,
            (Direction::Out, None) => &mut self.up,
            (Direction::In, None) => &mut self.down,
        };
        bucket.set_rate(rate, now);
        // Those who wait look again at what they may.
        self.on_up_due();
        self.on_down_due();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limited(rate: u64) -> Bucket {
        let mut bucket = Bucket::default();
        bucket.set_rate(Rate::new(rate), Duration::ZERO);
        bucket
    }

    /// Takes whenever it may for so long, and answers how much that was.
    fn taken(bucket: &mut Bucket, request: u64, from: Duration, time: Duration) -> u64 {
        let (mut now, mut taken) = (from, 0);
        loop {
            now = now.max(bucket.ready_at(now));
            if now >= from + time {
                return taken;
            }
            bucket.take(request, now);
            taken += request;
        }
    }

    #[test]
    fn ten_seconds_are_accurate_to_five_percent() {
        let time = Duration::from_secs(10);
        for rate in [100_000_u64, 5_000_000, 10_000_000_000] {
            for request in [1000, 262_144] {
                let found = taken(&mut limited(rate), request, Duration::ZERO, time) as f64;
                let wanted = rate as f64 * 10.0;
                let most = wanted * 1.05 + request as f64;
                assert!(found >= wanted * 0.95 && found <= most, "{rate} {request}: {found}");
            }
        }
    }

    #[test]
    fn a_request_larger_than_the_bucket_waits_and_does_not_fail() {
        let mut bucket = limited(1000);
        bucket.take(100_000, Duration::ZERO);
        let ready = bucket.ready_at(Duration::ZERO);
        assert!(ready >= Duration::from_secs(99) && ready <= Duration::from_secs(101), "{ready:?}");
    }

    #[test]
    fn idleness_is_not_saved_up_and_a_debt_is_paid_at_the_new_rate() {
        let mut bucket = limited(1_000_000);
        let later = Duration::from_secs(3600);
        assert!(taken(&mut bucket, 1000, later, Duration::from_secs(1)) < 1_060_000);
        let mut bucket = limited(1);
        bucket.take(1_000_000, Duration::ZERO);
        bucket.set_rate(Rate::new(1_000_000), Duration::ZERO);
        assert!(bucket.ready_at(Duration::ZERO) < Duration::from_secs(2));
        bucket.set_rate(None, Duration::ZERO);
        assert_eq!(bucket.ready_at(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_rate_is_read_as_people_write_it() {
        for (text, bytes) in [
            ("5MB/s", 5_000_000),
            ("5 mb", 5_000_000),
            ("5M", 5_000_000),
            ("1.5MiB/s", 1_572_864),
            ("512 KiB/s", 524_288),
            ("800kB/s", 800_000),
            ("1000", 1000),
            ("1g", 1_000_000_000),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().bytes_per_sec(), bytes, "{text}");
        }
        for (text, why) in [
            ("", "number"),
            ("fast", "number"),
            ("0", "off"),
            ("-5MB", "number"),
            ("5Mbit/s", "eighth"),
            ("5 parsec", "unit"),
            ("1..2M", "number"),
            (".", "number"),
            ("99999999999999999GB", "nothing is that fast"),
        ] {
            let failure = text.parse::<Rate>().unwrap_err();
            assert!(failure.message.contains(why) && failure.message.contains("5MB/s"), "{text}: {failure}");
        }
        assert_eq!("5MB/s".parse::<Rate>().unwrap().to_string(), "5.0 MB/s");
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_the_rate(
            rate in 1_u64..1_000_000_000,
            steps in prop::collection::vec((1_u64..1_000_000, 0_u64..2_000_000), 1..100),
        ) {
            let mut bucket = limited(rate);
            let (mut now, mut taken) = (Duration::ZERO, 0);
            for (request, micros) in steps {
                now += Duration::from_micros(micros);
                now = now.max(bucket.ready_at(now));
                let allowed = rate as f64 * (now + SAVED).as_secs_f64() + 1.0;
                prop_assert!(taken as f64 <= allowed, "{taken} bytes at {now:?}");
                bucket.take(request, now);
                taken += request;
            }
        }
    }
}
