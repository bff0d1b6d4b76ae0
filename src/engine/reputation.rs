//! What dealings with an identity came to, over all runs: whom to ask first, and whom not at all.
//!
//! Identities are free, so a bad name can be shed and only a good one is worth anything: a stranger
//! stands in the middle, and whoever did harm stands below it. Pure data; the time is told.

use std::time::Duration;

/// How long a first ban lasts.
const FIRST_BAN: Duration = Duration::from_secs(10 * 60);

/// How much longer each ban lasts than the one before.
const BAN_GROWTH: u32 = 4;

/// How long a ban lasts at most, unless a person said it.
const LONGEST_BAN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What counts as one good deed: about a chunk.
const UNIT_BYTES: f64 = (1 << 20) as f64;

/// Good deeds that make up for one failure. Lines break and computers are put to sleep.
const FAILURE_UNITS: f64 = 16.0;

/// Good deeds that make up for one bad chunk. A sound program on a sound computer sends none.
const BAD_CHUNK_UNITS: f64 = 256.0;

/// What dealings with one identity came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Bytes of verified content that it gave us.
    pub taken_bytes: u64,
    /// Bytes of content that we gave it.
    pub given_bytes: u64,
    /// Requests that it let time out, and answers that it broke off.
    pub failures: u32,
    /// Chunks it sent that were not what they should be.
    pub bad_chunks: u32,
    /// Smoothed time from asking it for a chunk to the chunk, in whole microseconds.
    pub latency: Option<Duration>,
    /// How often it was banned for what it did.
    pub bans: u32,
    /// Whether it is banned, unless that is over.
    pub banned_until: Option<Banned>,
    /// When it was last dealt with, or banned, in seconds of Unix time.
    pub seen: u64,
}

/// How long somebody is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Banned {
    /// For what it did, until this second of Unix time.
    Until(u64),
    /// By a person, who alone ends it.
    ForGood,
}

/// What is to be added to a [`Record`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dealing {
    /// Bytes of content that we gave.
    pub given_bytes: u64,
    /// Bytes of verified content that we were given.
    pub taken_bytes: u64,
    /// Requests that timed out, and answers that were broken off.
    pub failures: u32,
    /// Chunks that were not what they should be.
    pub bad_chunks: u32,
    /// Time from asking for a chunk to the chunk, if one was asked for.
    pub latency: Option<Duration>,
}

impl Record {
    /// Adds what happened since.
    pub fn add(&mut self, dealing: &Dealing, unix_now: u64) {
        self.given_bytes = self.given_bytes.saturating_add(dealing.given_bytes);
        self.taken_bytes = self.taken_bytes.saturating_add(dealing.taken_bytes);
        self.failures = self.failures.saturating_add(dealing.failures);
        self.bad_chunks = self.bad_chunks.saturating_add(dealing.bad_chunks);
        if let Some(latest) = dealing.latency {
            self.latency = Some(smoothed(self.latency, latest));
        }
        self.seen = unix_now;
    }

    /// Bans it, for longer than it is already or not at all. Counts those that it brought upon itself.
    pub(super) fn ban(&mut self, banned: Banned, unix_now: u64) {
        if let Banned::Until(_) = banned {
            self.bans = self.bans.saturating_add(1);
        }
        self.banned_until = Some(match (self.banned_until, banned) {
            (Some(Banned::ForGood), _) | (_, Banned::ForGood) => Banned::ForGood,
            (Some(Banned::Until(before)), Banned::Until(now)) => Banned::Until(before.max(now)),
            (None, Banned::Until(now)) => Banned::Until(now),
        });
        self.seen = unix_now;
    }

    /// Whom to ask first: greater than 0 and less than 1, ½ for a stranger.
    ///
    /// With `g` MiB of verified content, `f` failures and `b` bad chunks it is
    /// `(1 + g) / (2 + g + 16 f + 256 b)`: Laplace's rule of succession, in which a failure counts
    /// as 16 MiB that did not come, and a bad chunk as 256. What we gave has no part in it.
    pub fn score(&self) -> f64 {
        let good = self.taken_bytes as f64 / UNIT_BYTES;
        let bad = FAILURE_UNITS * f64::from(self.failures) + BAD_CHUNK_UNITS * f64::from(self.bad_chunks);
        (1.0 + good) / (2.0 + good + bad)
    }

    /// Whether nothing is to be had from it and nothing given to it.
    pub fn is_banned(&self, unix_now: u64) -> bool {
        match self.banned_until {
            Some(Banned::Until(end)) => unix_now < end,
            Some(Banned::ForGood) => true,
            None => false,
        }
    }
}

/// An eighth of the way to the latest, as TCP does it (RFC 6298, section 2.3).
fn smoothed(before: Option<Duration>, latest: Duration) -> Duration {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let latest = micros(latest);
    Duration::from_micros(match before.map(micros) {
        Some(before) => (before - before / 8).saturating_add(latest / 8),
        None => latest,
    })
}

/// How long to ban somebody who was banned so often before: ten minutes at first, then four times
/// as long each time, up to seven days.
pub fn ban_time(bans: u32) -> Duration {
    FIRST_BAN.saturating_mul(BAN_GROWTH.saturating_pow(bans)).min(LONGEST_BAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn after(dealing: Dealing) -> Record {
        let mut record = Record::default();
        record.add(&dealing, 1);
        record
    }

    #[test]
    fn who_delivers_comes_before_a_stranger_and_who_harms_behind() {
        let score = |mib: u64, failures, bad_chunks| {
            after(Dealing { taken_bytes: mib * MIB, failures, bad_chunks, ..Dealing::default() }).score()
        };
        let stranger = Record::default().score();
        assert!((stranger - 0.5).abs() < f64::EPSILON);
        assert!(score(1, 0, 0) > stranger && score(100, 0, 0) > score(10, 0, 0));
        assert!(score(0, 1, 0) < 0.1 && score(0, 0, 1) < 0.01);
        assert!(score(100, 0, 1) < stranger, "a hundred good chunks do not make up for a bad one");
        assert!(score(100, 1, 0) > stranger, "but for a failure");
        assert!(score(10_000, 3, 0) > 0.99);
    }

    #[test]
    fn to_be_given_something_is_no_merit() {
        let greedy = after(Dealing { given_bytes: 1 << 40, ..Dealing::default() });
        assert_eq!(greedy.score().to_bits(), Record::default().score().to_bits());
    }

    #[test]
    fn no_count_overflows_and_no_score_leaves_its_bounds() {
        let most = Dealing {
            given_bytes: u64::MAX,
            taken_bytes: u64::MAX,
            failures: u32::MAX,
            bad_chunks: u32::MAX,
            latency: Some(Duration::MAX),
        };
        let mut record = after(most);
        record.add(&most, u64::MAX);
        record.add(&most, 0);
        assert_eq!((record.taken_bytes, record.failures, record.bad_chunks), (u64::MAX, u32::MAX, u32::MAX));
        let best = after(Dealing { taken_bytes: u64::MAX, ..Dealing::default() });
        let worst = after(Dealing { taken_bytes: 0, ..most });
        for record in [record, best, worst] {
            assert!(0.0 < record.score() && record.score() < 1.0, "{record:?}");
        }
    }

    #[test]
    fn one_slow_chunk_makes_nobody_slow() {
        let ms = Duration::from_millis;
        let answer = |time| Dealing { latency: Some(time), ..Dealing::default() };
        let mut record = after(answer(ms(80)));
        assert_eq!(record.latency, Some(ms(80)), "the first says all there is to say");
        record.add(&Dealing::default(), 2);
        assert_eq!(record.latency, Some(ms(80)), "nothing was asked for");
        record.add(&answer(ms(880)), 3);
        assert_eq!(record.latency, Some(ms(180)));
        for second in 4..100 {
            record.add(&answer(ms(880)), second);
        }
        assert!(record.latency.unwrap() > ms(870));
    }

    #[test]
    fn each_ban_is_four_times_as_long_up_to_a_week() {
        let minutes: Vec<_> = (0..7).map(|bans| ban_time(bans).as_secs() / 60).collect();
        assert_eq!(minutes, [10, 40, 160, 640, 2_560, 7 * 24 * 60, 7 * 24 * 60]);
        assert_eq!(ban_time(u32::MAX), LONGEST_BAN);
    }

    #[test]
    fn a_ban_ends_by_itself_and_one_by_hand_does_not() {
        let mut record = Record::default();
        assert!(!record.is_banned(0));
        record.ban(Banned::Until(100), 40);
        assert!(record.is_banned(99) && !record.is_banned(100));
        record.ban(Banned::Until(70), 60);
        assert!(record.is_banned(99), "a later ban does not end an earlier one");
        record.ban(Banned::ForGood, 70);
        record.ban(Banned::Until(200), 80);
        assert!(record.is_banned(u64::MAX));
        assert_eq!((record.bans, record.seen), (3, 80), "what a person did is not its doing");
    }

    #[test]
    fn time_that_goes_back_does_no_harm() {
        let mut record = Record::default();
        record.add(&Dealing::default(), u64::MAX);
        record.ban(Banned::Until(1_000), 500);
        assert!(record.is_banned(0));
        record.add(&Dealing::default(), 0);
        assert_eq!((record.seen, record.is_banned(1_000)), (0, false));
    }
}
