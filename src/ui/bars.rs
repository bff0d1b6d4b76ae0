//! Progress bars below what is printed, where somebody looks on and types nothing.
//!
//! Invariant: they stand on the last lines of the terminal only while transfers run; whatever else is
//! written to it goes through [`Bars::above`], which takes them away meanwhile.

use std::collections::BTreeMap;
use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::{Stage, TransferId, TransferInfo};

use super::escape::escape;
use super::progress::{Status, shortened};
use super::style::Style;

/// How often they are drawn anew at most, in a second.
const REDRAWS: u8 = 8;

/// Bars that are drawn; of more transfers than that the rest is summed up in one line.
const MOST: usize = 8;

/// The bars of the transfers that run.
pub(super) struct Bars {
    all: MultiProgress,
    bars: BTreeMap<TransferId, ProgressBar>,
    rest: Option<ProgressBar>,
    style: Style,
    columns: fn() -> usize,
}

impl Bars {
    /// Bars on the terminal behind stderr.
    pub(super) fn new(style: Style, columns: fn() -> usize) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        Self { all, bars: BTreeMap::new(), rest: None, style, columns }
    }

    /// A way to write to the same terminal.
    pub(super) fn above(&self, out: Box<dyn Write + Send>) -> Box<dyn Write + Send> {
        Box::new(Above { bars: self.all.clone(), out })
    }

    /// Shows these transfers, of which those that move have a status.
    pub(super) fn show(&mut self, transfers: &[TransferInfo], moving: &BTreeMap<TransferId, Status>) {
        let running: Vec<_> = transfers.iter().filter(|info| info.stage != Stage::Partial).collect();
        self.bars.retain(|id, bar| {
            let stays = running.iter().take(MOST).any(|info| info.id == *id);
            if !stays {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            stays
        });
        let columns = (self.columns)().saturating_sub(1);
        for info in running.iter().take(MOST) {
            let line = match moving.get(&info.id) {
                Some(status) => status.line(columns, self.style),
                None => shortened(&words(info), columns),
            };
            let bar = self.bars.entry(info.id).or_insert_with(|| self.all.add(line_of_text()));
            bar.set_message(line);
        }
        let more = running.len().saturating_sub(MOST);
        if let Some(rest) = self.rest.take() {
            rest.finish_and_clear();
            self.all.remove(&rest);
        }
        if more > 0 {
            let rest = self.all.add(line_of_text());
            rest.set_message(format!("and {more} more"));
            self.rest = Some(rest);
        }
    }

    /// Takes the bar of a transfer away that has ended.
    pub(super) fn remove(&mut self, id: TransferId) {
        if let Some(bar) = self.bars.remove(&id) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    /// Leaves them as they are, for whoever wants to know how far it came, and goes below them. Where the
    /// terminal has shown `^C` itself, it is not known where the bars stand, and they cannot be taken away.
    pub(super) fn leave(&mut self) {
        self.all.set_draw_target(ProgressDrawTarget::hidden());
        if !self.bars.is_empty() {
            let _ = writeln!(io::stderr());
        }
    }

    /// Takes all of them away.
    pub(super) fn clear(&mut self) {
        self.show(&[], &BTreeMap::new());
        let _ = self.all.clear();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar that shows what it is told: `progress` words it, as at the prompt.
fn line_of_text() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}").expect("a template that is right");
    ProgressBar::new_spinner().with_style(style)
}

/// What a transfer that does not move is waiting for.
fn words(info: &TransferInfo) -> String {
    let name = escape(info.name.as_str());
    match info.stage {
        Stage::Offered => format!("{name}: waiting for the receiver to take it"),
        Stage::Waiting => format!("{name}: the connection broke; waiting for the other side"),
        Stage::Queued => format!("{name}: waiting for its turn"),
        stage => format!("{name}: {}", stage.as_str()),
    }
}

/// Writes while the bars are away.
struct Above {
    bars: MultiProgress,
    out: Box<dyn Write + Send>,
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { bars, out } = self;
        bars.suspend(|| out.write_all(bytes).and_then(|()| out.flush()).map(|()| bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
