//! Progress bars below what is printed, where somebody looks on and types nothing.
//!
//! Invariant: they stand on the last lines of the terminal only while transfers run; whatever else is
//! written to it goes through [`Bars::above`], which takes them away meanwhile. A job in the background
//! draws nothing: the terminal belongs to the shell then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use tokio::time::sleep;

use crate::engine::{Stage, TransferId, TransferInfo};

use super::escape::escape;
use super::progress::{Status, shortened};
use super::style::Style;

/// How often they are drawn anew at most, in a second.
const REDRAWS: u8 = 8;

/// Bars that are drawn; of more transfers than that the rest is summed up in one line.
const MOST: usize = 8;

/// How often it is drawn anew that somebody is connected to. What takes less is not told.
const TURN: Duration = Duration::from_millis(250);

/// The terminal behind stderr.
#[derive(Clone)]
struct Screen {
    all: MultiProgress,
    /// Whether it was ours when something was last drawn.
    is_ours: Arc<AtomicBool>,
}

impl Screen {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(target());
        Self { all, is_ours: Arc::new(AtomicBool::new(true)) }
    }

    /// What is drawn next is drawn only if the terminal is ours; to be called before. What was drawn before
    /// it went to somebody else is left, since nobody knows where it stands.
    fn look(&self) {
        // Where it controls nobody it belongs to no job.
        let is_ours = tcgetpgrp(io::stderr()).map_or(true, |group| group == getpgrp());
        if self.is_ours.swap(is_ours, Ordering::Relaxed) != is_ours {
            self.all.set_draw_target(if is_ours { target() } else { ProgressDrawTarget::hidden() });
        }
    }
}

fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(REDRAWS)
}

/// The bars of the transfers that run.
pub(super) struct Bars {
    screen: Screen,
    connecting: Option<Connecting>,
    bars: BTreeMap<TransferId, ProgressBar>,
    rest: Option<ProgressBar>,
    style: Style,
    columns: fn() -> usize,
}

impl Bars {
    /// Bars on the terminal behind stderr.
    pub(super) fn new(style: Style, columns: fn() -> usize) -> Self {
        Self { screen: Screen::new(), connecting: None, bars: BTreeMap::new(), rest: None, style, columns }
    }

    /// A way to write to the same terminal.
    pub(super) fn above(&self, out: Box<dyn Write + Send>) -> Box<dyn Write + Send> {
        Box::new(Above { screen: self.screen.clone(), out })
    }

    /// A line that says what is being connected to, until it is told to end. `None` on a terminal on which
    /// nothing can be drawn.
    pub(super) fn connecting(&mut self, to: &str) -> Option<Connecting> {
        if self.screen.all.is_hidden() {
            return None;
        }
        let bar = self.screen.all.add(line_of("{spinner} {msg}"));
        let text = shortened(&format!("connecting to {to}"), (self.columns)().saturating_sub(3));
        self.connecting = Some(Connecting { screen: self.screen.clone(), bar, text });
        self.connecting.clone()
    }

    /// Shows these transfers, of which those that move have a status.
    pub(super) fn show(&mut self, transfers: &[TransferInfo], moving: &BTreeMap<TransferId, Status>) {
        self.screen.look();
        let running: Vec<_> = transfers.iter().filter(|info| info.stage != Stage::Partial).collect();
        self.bars.retain(|id, bar| {
            let stays = running.iter().take(MOST).any(|info| info.id == *id);
            if !stays {
                bar.finish_and_clear();
                self.screen.all.remove(bar);
            }
            stays
        });
        let columns = (self.columns)().saturating_sub(1);
        for info in running.iter().take(MOST) {
            let line = match moving.get(&info.id) {
                Some(status) => status.line(columns, self.style),
                None => shortened(&words(info), columns),
            };
            let bar = self.bars.entry(info.id).or_insert_with(|| self.screen.all.add(line_of("{msg}")));
            bar.set_message(line);
        }
        let more = running.len().saturating_sub(MOST);
        if let Some(rest) = self.rest.take() {
            rest.finish_and_clear();
            self.screen.all.remove(&rest);
        }
        if more > 0 {
            let rest = self.screen.all.add(line_of("{msg}"));
            rest.set_message(format!("and {more} more"));
            self.rest = Some(rest);
        }
    }

    /// Takes the bar of a transfer away that has ended.
    pub(super) fn remove(&mut self, id: TransferId) {
        if let Some(bar) = self.bars.remove(&id) {
            self.screen.look();
            bar.finish_and_clear();
            self.screen.all.remove(&bar);
        }
    }

    /// Leaves them as they are, for whoever wants to know how far it came, and goes below them. Where the
    /// terminal has shown `^C` itself, it is not known where the bars stand, and they cannot be taken away.
    pub(super) fn leave(&mut self) {
        self.screen.look();
        let is_drawn = !self.bars.is_empty() || self.connecting.as_ref().is_some_and(Connecting::is_drawn);
        let is_drawn = is_drawn && !self.screen.all.is_hidden();
        self.screen.all.set_draw_target(ProgressDrawTarget::hidden());
        if is_drawn {
            let _ = writeln!(io::stderr());
        }
    }

    /// Takes all of them away.
    pub(super) fn clear(&mut self) {
        if let Some(connecting) = self.connecting.take() {
            connecting.end();
        }
        self.show(&[], &BTreeMap::new());
        let _ = self.screen.all.clear();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The line that says what is being connected to. Clones are the same line.
#[derive(Clone)]
pub(super) struct Connecting {
    screen: Screen,
    bar: ProgressBar,
    text: String,
}

impl Connecting {
    /// Draws it for as long as this is waited for. Cancel-safe.
    pub(super) async fn draw(&self) -> Infallible {
        loop {
            sleep(TURN).await;
            if self.bar.is_finished() {
                return pending().await;
            }
            self.screen.look();
            if self.bar.message().is_empty() {
                self.bar.set_message(self.text.clone());
            }
            self.bar.tick();
        }
    }

    fn is_drawn(&self) -> bool {
        !self.bar.is_finished() && !self.bar.message().is_empty()
    }

    /// Takes it away.
    pub(super) fn end(&self) {
        if !self.bar.is_finished() {
            self.screen.look();
            self.bar.finish_and_clear();
            self.screen.all.remove(&self.bar);
        }
    }
}

/// A bar that shows what it is told: `progress` words it, as at the prompt.
fn line_of(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a template that is right");
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
    screen: Screen,
    out: Box<dyn Write + Send>,
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { screen, out } = self;
        screen.look();
        screen.all.suspend(|| out.write_all(bytes).and_then(|()| out.flush()).map(|()| bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
