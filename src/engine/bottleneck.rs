//! What limits a transfer, measured by where its pipeline waited.
//!
//! A transfer is at any moment waiting for one of its stages: for bytes from or to the other side,
//! or for work on this side, of which the jobs tell how much was disk and how much was hashing.

use std::time::Duration;

/// What limited a transfer, seen from this side. The line and the other node behind it look alike
/// from here, except for the time that the other side took to confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    /// This side's disk.
    Disk,
    /// Hashing on this side.
    Hashing,
    /// The network, or how fast the other side sends or takes.
    Network,
    /// The other side's work on the file after its last byte was sent: its disk.
    OtherDisk,
}

impl Bottleneck {
    /// The word for it, for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Hashing => "hashing",
            Self::Network => "network",
            Self::OtherDisk => "other_disk",
        }
    }
}

/// How long a job spent on what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    /// Reading or writing.
    pub disk: Duration,
    /// Computing digests.
    pub hashing: Duration,
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Self) {
        self.disk += other.disk;
        self.hashing += other.hashing;
    }
}

/// What a transfer waits for at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Jobs of this side, and nothing else could go on.
    Jobs,
    /// The connection.
    Line,
    /// The other side's last word.
    OtherEnd,
}

/// Where the time of one transfer went.
#[derive(Debug)]
pub(super) struct Waits {
    stage: Stage,
    since: Duration,
    jobs: Duration,
    line: Duration,
    other_end: Duration,
    took: Took,
}

impl Waits {
    /// A transfer that begins to wait for the line.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            stage: Stage::Line,
            since: now,
            jobs: Duration::ZERO,
            line: Duration::ZERO,
            other_end: Duration::ZERO,
            took: Took::default(),
        }
    }

    /// From now on it waits for `stage`.
    pub(super) fn waits_for(&mut self, stage: Stage, now: Duration) {
        let waited = now.saturating_sub(self.since);
        match self.stage {
            Stage::Jobs => self.jobs += waited,
            Stage::Line => self.line += waited,
            Stage::OtherEnd => self.other_end += waited,
        }
        self.stage = stage;
        self.since = now;
    }

    /// A job is done.
    pub(super) fn job_took(&mut self, took: Took) {
        self.took += took;
    }

    /// What it waited for longest, until now; `None` where it took no time at all.
    pub(super) fn bottleneck(&mut self, now: Duration) -> Option<Bottleneck> {
        self.waits_for(self.stage, now);
        let work = self.took.disk + self.took.hashing;
        let disk_share = if work.is_zero() { 1.0 } else { self.took.disk.as_secs_f64() / work.as_secs_f64() };
        let disk = self.jobs.mul_f64(disk_share);
        let hashing = self.jobs.saturating_sub(disk);
        let longest = [
            (self.line, Bottleneck::Network),
            (self.other_end, Bottleneck::OtherDisk),
            (hashing, Bottleneck::Hashing),
            (disk, Bottleneck::Disk),
        ];
        longest
            .into_iter()
            .filter(|(waited, _)| !waited.is_zero())
            .max_by_key(|(waited, _)| *waited)
            .map(|(_, b)| b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_stage_that_was_waited_for_longest_is_the_bottleneck() {
        for (jobs, took_disk, other_end, found) in [
            (1, 1, 1, Bottleneck::Network),
            (5, 9, 1, Bottleneck::Disk),
            (5, 1, 1, Bottleneck::Hashing),
            (5, 5, 4, Bottleneck::OtherDisk),
        ] {
            let mut waits = Waits::new(SECOND);
            let mut now = 3 * SECOND;
            for (stage, seconds) in [(Stage::Jobs, jobs), (Stage::OtherEnd, other_end)] {
                waits.waits_for(stage, now);
                now += seconds * SECOND;
            }
            waits.job_took(Took { disk: took_disk * SECOND, hashing: (10 - took_disk) * SECOND });
            assert_eq!(waits.bottleneck(now), Some(found));
        }
        assert_eq!(Waits::new(SECOND).bottleneck(SECOND), None);
    }
}
