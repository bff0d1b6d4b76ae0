//! How fast transfers go, and the one line about those that run.
//!
//! Fed with the events and with what the node answers to `transfers`, which alone knows about a
//! transfer that does not move. Reads no clock: whoever feeds it says what time it is.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::engine::{Direction, Event, Stage, TransferId, TransferInfo};
use crate::size;

use super::escape::escape;
use super::human::duration;
use super::style::{Paint, Style};

/// How far back a rate looks.
const MEMORY: Duration = Duration::from_secs(5);

/// Samples closer together than this are one.
const APART: Duration = Duration::from_millis(100);

/// The widest status line; on a wide screen a wider one would only be harder to read.
const WIDEST: usize = 90;

/// Bytes a second of transfers.
pub(super) type Rates = BTreeMap<TransferId, u64>;

/// The transfers that run.
#[derive(Debug, Default)]
pub(super) struct Progress {
    running: BTreeMap<TransferId, Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    direction: Direction,
    stage: Stage,
    bytes: u64,
    size: u64,
    meter: Meter,
}

/// How fast a count of bytes grows.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// What was counted when, within [`MEMORY`], and one sample that is older.
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    /// Takes how many bytes there are now.
    pub(super) fn sample(&mut self, now: Instant, bytes: u64) {
        if self.samples.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < APART) {
            return;
        }
        self.samples.push_back((now, bytes));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) > MEMORY) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second from the oldest sample until now, where there are that many bytes, so that what
    /// has stopped slows down to nothing. `None` where it is too early to say.
    pub(super) fn rate(&self, now: Instant, bytes: u64) -> Option<u64> {
        let (then, before) = self.samples.front()?;
        let time = now.saturating_duration_since(*then).as_millis();
        if time < APART.as_millis() {
            return None;
        }
        u64::try_from(u128::from(bytes.saturating_sub(*before)) * 1000 / time).ok()
    }
}

impl Progress {
    /// Takes what happened.
    pub(super) fn event(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Progress { id, name, direction, stage, bytes, size, .. } => {
                self.note(now, *id, name.as_str(), *direction, (*stage, *bytes, *size));
            }
            Event::Received { id, .. }
            | Event::Sent { id, .. }
            | Event::TransferFailed { id, .. }
            | Event::Queued { was: Some(id), .. } => {
                self.running.remove(id);
            }
            _ => {}
        }
    }

    /// Takes the list of all transfers: those that are not in it do not run.
    pub(super) fn transfers(&mut self, now: Instant, transfers: &[TransferInfo]) {
        let runs = |id| transfers.iter().any(|transfer| transfer.id == id && is_running(transfer.stage));
        self.running.retain(|id, _| runs(*id));
        for transfer in transfers {
            let TransferInfo { id, direction, stage, bytes, size, .. } = *transfer;
            self.note(now, id, transfer.name.as_str(), direction, (stage, bytes, size));
        }
    }

    fn note(
        &mut self,
        now: Instant,
        id: TransferId,
        name: &str,
        direction: Direction,
        (stage, bytes, size): (Stage, u64, u64),
    ) {
        if !is_running(stage) {
            self.running.remove(&id);
            return;
        }
        let running = self.running.entry(id).or_insert_with(|| Running {
            name: name.to_owned(),
            direction,
            stage,
            bytes,
            size,
            meter: Meter::default(),
        });
        if running.stage != stage {
            running.meter = Meter::default();
        }
        (running.stage, running.bytes, running.size) = (stage, bytes, size);
        running.meter.sample(now, bytes);
    }

    /// Bytes a second of each transfer of which that can be said.
    pub(super) fn rates(&self, now: Instant) -> Rates {
        self.running.iter().filter_map(|(id, running)| Some((*id, running.rate(now)?))).collect()
    }

    /// What there is to say about each that runs.
    pub(super) fn each(&self, now: Instant) -> BTreeMap<TransferId, Status> {
        let status = |running: &Running| Status {
            what: format!("{} {}", running.verb(), escape(&running.name)),
            bytes: running.bytes,
            size: running.size,
            rate: running.rate(now),
        };
        self.running.iter().map(|(id, running)| (*id, status(running))).collect()
    }

    /// What there is to say about all that run; `None` where none does.
    pub(super) fn status(&self, now: Instant) -> Option<Status> {
        // What is still being hashed is not under way, and its bytes are others.
        let (hashing, moving): (Vec<_>, Vec<_>) =
            self.running.iter().partition(|(_, running)| is_hashed(running.stage));
        let told = if moving.is_empty() { &hashing } else { &moving };
        let (id, first) = told.first()?;
        let what = match (moving.len(), hashing.len()) {
            (0, 1) => format!("{} {}", first.stage.as_str(), escape(&first.name)),
            (0, files) => format!("hashing {files} files"),
            (1, 0) => format!("[{id}] {} {}", first.verb(), escape(&first.name)),
            (transfers, 0) => format!("{transfers} transfers"),
            (transfers, files) => format!("{}, {files} hashing", count(transfers)),
        };
        // Sizes are what peers say.
        let sum = |part: fn(&Running) -> u64| {
            told.iter().map(|(_, running)| part(running)).fold(0, u64::saturating_add)
        };
        let (bytes, size) = (sum(|running| running.bytes), sum(|running| running.size));
        let rates: Vec<_> = told.iter().filter_map(|(_, running)| running.rate(now)).collect();
        let rate = (!rates.is_empty()).then(|| rates.iter().copied().fold(0, u64::saturating_add));
        Some(Status { what, bytes, size, rate })
    }
}

/// Whether what it reads lies on this side's disk, and nothing moves.
fn is_hashed(stage: Stage) -> bool {
    matches!(stage, Stage::Hashing | Stage::Checking)
}

fn is_running(stage: Stage) -> bool {
    match stage {
        Stage::Hashing | Stage::Checking | Stage::Transferring | Stage::Finishing => true,
        Stage::Searching | Stage::Queued | Stage::Offered | Stage::Waiting | Stage::Partial => false,
    }
}

fn count(transfers: usize) -> String {
    if transfers == 1 { "1 transfer".to_owned() } else { format!("{transfers} transfers") }
}

impl Running {
    fn rate(&self, now: Instant) -> Option<u64> {
        (self.stage != Stage::Finishing).then(|| self.meter.rate(now, self.bytes))?
    }

    fn verb(&self) -> &'static str {
        match (self.stage, self.direction) {
            (Stage::Finishing, _) => "finishing",
            (Stage::Hashing, _) => "hashing",
            (Stage::Checking, _) => "checking",
            (_, Direction::Out) => "sending",
            (_, Direction::In) => "receiving",
        }
    }
}

/// What is to be said about the transfers that run, for a line of any width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    what: String,
    bytes: u64,
    size: u64,
    rate: Option<u64>,
}

impl Status {
    /// What is to be said about one transfer; `what` is escaped already.
    pub(super) fn new(what: String, bytes: u64, size: u64, rate: Option<u64>) -> Self {
        Self { what, bytes, size, rate }
    }

    /// One line of at most that many columns: `[1] sending big.iso ███████░░░ 45 %  120 MB/s  12 s
    /// left`. Where there is little room, the name is cut and the least important is left out.
    pub(super) fn line(&self, columns: usize, style: Style) -> String {
        let columns = columns.min(WIDEST);
        let percent = format!("{:>3} %", self.percent());
        let mut right = vec![percent];
        right.extend(self.rate.map(|rate| format!("{}/s", size::human(rate))));
        right.extend(self.left());
        // Room for a bar of five, a space, and a name of which something can be read.
        const LEAST: usize = 5 + 1 + 10;
        while right.len() > 1 && width_of(&right) + 1 + LEAST > columns {
            right.pop();
        }
        let room = columns.saturating_sub(width_of(&right) + 1);
        let bar = (room / 3).min(20).min((room + 4).saturating_sub(self.what.width()).max(5));
        let bar = if room < LEAST { 0 } else { bar };
        let what = shortened(&self.what, room.saturating_sub(bar + usize::from(bar > 0)));
        let bar = if bar > 0 { format!(" {}", self.bar(bar, style)) } else { String::new() };
        format!("{what}{bar} {}", right.join("  "))
    }

    fn percent(&self) -> u128 {
        (u128::from(self.bytes) * 100).checked_div(u128::from(self.size)).unwrap_or(0).min(100)
    }

    fn left(&self) -> Option<String> {
        let rate = self.rate?;
        let left = self.size.checked_sub(self.bytes).filter(|left| *left > 0)?;
        // A transfer that stands still is left for ever, which nobody needs to read.
        let seconds = left.checked_div(rate)?;
        let text = if seconds == 0 { "1 s".to_owned() } else { duration(Duration::from_secs(seconds)) };
        Some(format!("{} left", text.replace(".0 s", " s")))
    }

    fn bar(&self, columns: usize, style: Style) -> String {
        let full = usize::try_from(self.percent()).unwrap_or(100) * columns / 100;
        style.paint(Paint::Good, &"█".repeat(full)) + &"░".repeat(columns - full)
    }
}

fn width_of(parts: &[String]) -> usize {
    parts.iter().map(|part| part.width()).sum::<usize>() + 2 * (parts.len() - 1)
}

/// As much of the beginning of a text as fits in that many columns.
pub(super) fn shortened(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let mut short: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect();
    if columns > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SafeName;

    fn info(id: u64, name: &str, stage: Stage, bytes: u64, size: u64) -> TransferInfo {
        TransferInfo {
            id: TransferId(id),
            peer: Some("192.0.2.5:1".parse().unwrap()),
            direction: Direction::Out,
            name: SafeName::new(name).unwrap(),
            size,
            sha256: None,
            files: None,
            bytes,
            stage,
            sources: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Transfers that have moved ten million bytes in the last second.
    fn after_a_second(transfers: &[TransferInfo]) -> (Progress, Instant) {
        let (mut progress, start) = (Progress::default(), Instant::now());
        let mut earlier = transfers.to_vec();
        earlier.iter_mut().for_each(|transfer| transfer.bytes -= 10_000_000);
        progress.transfers(start, &earlier);
        let now = start + Duration::from_secs(1);
        progress.transfers(now, transfers);
        (progress, now)
    }

    fn line(transfers: &[TransferInfo], columns: usize) -> String {
        let (progress, now) = after_a_second(transfers);
        progress.status(now).unwrap().line(columns, Style::PLAIN)
    }

    #[test]
    fn one_transfer_is_told_by_name_and_several_are_summed() {
        let one = info(1, "big.iso", Stage::Transferring, 45_000_000, 100_000_000);
        assert_eq!(
            line(std::slice::from_ref(&one), 100),
            "[1] sending big.iso █████████░░░░░░░░░░░  45 %  10.0 MB/s  5.0 s left".replace("5.0", "5")
        );
        let two = info(2, "other.iso", Stage::Transferring, 55_000_000, 100_000_000);
        assert_eq!(line(&[one.clone(), two], 79), "2 transfers ████████░░░░░░░░░  50 %  20.0 MB/s  5 s left");
        let hashing = info(3, "third.iso", Stage::Hashing, 30_000_000, 100_000_000);
        assert!(line(&[one, hashing.clone()], 79).starts_with("1 transfer, 1 hashing █"));
        assert!(line(std::slice::from_ref(&hashing), 79).starts_with("hashing third.iso ███"));
        let finishing = info(1, "big.iso", Stage::Finishing, 100_000_000, 100_000_000);
        assert_eq!(line(&[finishing], 50), "[1] finishing big.iso ██████████████ 100 %");
    }

    #[test]
    fn a_status_line_fits_any_width_with_any_name() {
        let names =
            ["a", "a name that goes on and on and on and on.tar.gz", "日本語のとても長い名前のファイル.txt"];
        for name in names {
            for columns in 20..150 {
                for (bytes, size) in
                    [(10_000_000, 11_000_000), (10_000_000, u64::MAX), (10_000_000, 10_000_000)]
                {
                    let line = line(&[info(12345, name, Stage::Transferring, bytes, size)], columns);
                    assert!(line.width() <= columns, "{columns}: {line}");
                    assert!(line.contains(" %"), "{columns}: {line}");
                }
            }
        }
        let narrow = line(&[info(1, names[1], Stage::Transferring, 45_000_000, 100_000_000)], 39);
        assert_eq!(narrow, "[1] sending a n… ██░░░  45 %  10.0 MB/s");
    }

    #[test]
    fn what_has_stopped_slows_down_to_nothing_and_is_never_finished() {
        let transfer = info(1, "big.iso", Stage::Transferring, 45_000_000, 100_000_000);
        let (mut progress, mut now) = after_a_second(std::slice::from_ref(&transfer));
        assert_eq!(progress.rates(now)[&TransferId(1)], 10_000_000);
        for _ in 0..40 {
            now += Duration::from_millis(250);
            progress.transfers(now, std::slice::from_ref(&transfer));
        }
        assert_eq!(progress.rates(now)[&TransferId(1)], 0);
        assert!(progress.status(now).unwrap().line(79, Style::PLAIN).ends_with(" 45 %  0 bytes/s"));
    }

    #[test]
    fn only_what_runs_is_told() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        progress
            .transfers(now, &[info(1, "x", Stage::Offered, 0, 10), info(2, "y", Stage::Transferring, 0, 10)]);
        assert!(progress.status(now).is_some());
        progress.transfers(now, &[info(2, "y", Stage::Queued, 0, 10)]);
        assert!(progress.status(now).is_none());
        progress.transfers(now, &[info(2, "y", Stage::Transferring, 0, 10)]);
        let event = Event::Undelivered { peer: "192.0.2.5:1".parse().unwrap(), texts: 1 };
        progress.event(now, &event);
        assert!(progress.status(now).is_some());
        progress.transfers(now, &[]);
        assert!(progress.status(now).is_none());
    }
}
