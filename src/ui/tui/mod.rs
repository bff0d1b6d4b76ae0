//! The full screen: `p2p tui`.
//!
//! State (`model`: pure, fed with what the node tells and with keys), picture (`view`: pure) and, here,
//! what drives them: a thread that reads keys and one that paints. Both share the model with the front
//! end, which only ever takes its lock to put something in. Invariants: the node and the front end never
//! wait for the terminal, which may stall for as long as it wants; however this ends, the terminal is
//! given back; what is drawn was escaped where it was worded.

mod keys;
mod line;
mod model;
mod overlays;
mod panes;
mod popups;
#[cfg(test)]
mod scene;
mod tabs;
mod text;
mod view;

use std::io::{self, Stdout, Write as _};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event;
use ratatui::layout::{Position, Rect};
use rustix::process::{Signal, kill_current_process_group};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Event, Failure, NodeInfo, PeerInfo, Reply, TransferInfo};

use super::complete;
use super::history::History;
use super::input::Input;
use super::known::Known;
use super::log::Sink;
use super::progress::Rates;
use super::render::Asked;
use super::session::Said;
use super::style::Style;
use super::terminal::{self, Terminal};

use line::InputLine;
use model::{Effect, Model};

/// Lines that may wait; whoever types faster than that is not typing.
const LINES_QUEUED: usize = 64;

/// Lines that the arrow keys bring back.
const HISTORY_LINES: usize = 1000;

/// The time between two pictures, so that a burst of messages is a handful of them.
const FRAME: Duration = Duration::from_millis(33);

/// How long somebody who wants the terminal back waits for the picture that is being painted.
const LAST_PICTURE: Duration = Duration::from_millis(500);

/// How long after asking to be stopped this process finds out that nobody stops it.
const NOT_STOPPED: Duration = Duration::from_millis(200);

/// Begins to use the terminal: another screen, pasted text marked as such, no cursor until it is placed.
const BEGIN: &str = "\x1b[?1049h\x1b[?2004h\x1b[?25l";

/// Ends that.
const UNDO: &str = "\x1b[?2026l\x1b[0m\x1b[?2004l\x1b[?1049l\x1b[?25h";

/// Around a picture, so that terminals show it at once.
const PICTURE: [&[u8]; 2] = [b"\x1b[?2026h", b"\x1b[?2026l"];

/// The threads without which there is nothing to see.
const THREADS: &[&str] = &["main", "painter", "keys"];

/// How wide the conversation is at this moment.
pub(super) fn columns() -> usize {
    view::conversation_columns(terminal::window().ws_col).into()
}

/// The screen, for whoever has something to show. Cheap to clone.
#[derive(Clone)]
pub(super) struct Screen(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// The painter is gone.
    broken: CancellationToken,
}

struct State {
    model: Model,
    /// Whether the picture is another one than the model's.
    stale: bool,
    /// Whether everything is to be drawn anew.
    wiped: bool,
    painting: bool,
    /// Whether the terminal is not ours at the moment: this process is suspended.
    away: bool,
    /// Whether it is not ours any more.
    left: bool,
    error: Option<io::Error>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A screen that is not shown yet.
pub(super) struct Opened {
    screen: Screen,
    terminal: Terminal,
    /// `None` where typed lines are not kept.
    history: Option<History>,
}

/// The screen while it is shown.
pub(super) struct Shown {
    screen: Screen,
    terminal: Terminal,
    _resumes: AbortOnDropHandle<()>,
}

impl Opened {
    /// Prepares a screen without showing anything. The history of typed lines is kept below `home`, if one is given.
    ///
    /// # Errors
    /// Where stdin is no terminal.
    pub(super) fn new(home: Option<&Path>, known: Known, style: Style) -> io::Result<Self> {
        let terminal = Terminal::as_it_is(UNDO)?;
        let mut history = home.map(History::in_home);
        let typed = history.as_mut().map(|history| history.load(HISTORY_LINES)).unwrap_or_default();
        let line = InputLine::new(typed, HISTORY_LINES);
        let state = State {
            model: Model::new(known, style, line),
            stale: true,
            wiped: false,
            painting: false,
            away: false,
            left: false,
            error: None,
        };
        let shared =
            Shared { state: Mutex::new(state), changed: Condvar::new(), broken: CancellationToken::new() };
        Ok(Self { screen: Screen(Arc::new(shared)), terminal, history })
    }

    /// Where to put what is shown.
    pub(super) fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Takes the terminal, and reads lines from it. The channel ends when the input does.
    pub(super) fn show(self, known: Known) -> io::Result<(mpsc::Receiver<Input>, Shown)> {
        let Self { screen, terminal, history } = self;
        terminal.restore_on_panic(THREADS);
        let mut resumed = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        let (resuming, of_resuming) = (screen.clone(), terminal.clone());
        let resumes = AbortOnDropHandle::new(tokio::spawn(async move {
            while resumed.recv().await.is_some() {
                resuming.resume(&of_resuming);
            }
        }));
        let shown = Shown { screen: screen.clone(), terminal: terminal.clone(), _resumes: resumes };
        take(&terminal)?;
        let painted = screen.clone();
        thread::Builder::new().name("painter".to_owned()).spawn(move || painted.paint())?;
        let (sender, receiver) = mpsc::channel(LINES_QUEUED);
        let keys = Keys { screen, terminal, history, known, sender };
        thread::Builder::new().name("keys".to_owned()).spawn(move || keys.read())?;
        Ok((receiver, shown))
    }
}

/// Makes the terminal ours.
fn take(terminal: &Terminal) -> io::Result<()> {
    terminal.take_keys()?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(BEGIN.as_bytes())?;
    stdout.flush()
}

impl Shown {
    /// Gives the terminal back.
    pub(super) fn leave(&self) {
        self.screen.wait_for_picture(|state| state.left = true);
        self.terminal.restore();
    }
}

impl Screen {
    fn with(&self, change: impl FnOnce(&mut Model)) {
        let mut state = self.0.lock();
        change(&mut state.model);
        state.stale = true;
        drop(state);
        self.0.changed.notify_all();
    }

    /// Takes what happened, and shows what is said about it.
    pub(super) fn event(&self, event: &Event) {
        self.with(|model| model.event(Instant::now(), event));
    }

    /// Shows something.
    pub(super) fn said(&self, said: &Said) {
        self.with(|model| model.said(said));
    }

    /// Takes the answer to a command before it is said.
    pub(super) fn answered(&self, asked: &Asked, answer: &Result<Reply, Failure>) {
        self.with(|model| model.answered(Instant::now(), asked, answer));
    }

    /// Shows who is connected.
    pub(super) fn peers(&self, peers: &[PeerInfo]) {
        self.with(|model| model.peers(Instant::now(), peers));
    }

    /// Shows what is under way.
    pub(super) fn transfers(&self, transfers: &[TransferInfo], rates: &Rates) {
        self.with(|model| model.transfers(transfers, rates));
    }

    /// Shows what the node says of itself.
    pub(super) fn whoami(&self, node: &NodeInfo) {
        self.with(|model| model.whoami(node));
    }

    /// Returns once nothing can be shown any more. Cancel-safe.
    pub(super) async fn broken(&self) {
        self.0.broken.cancelled().await;
    }

    /// Why nothing can be shown any more, once.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.0.lock().error.take()
    }

    /// Where log lines go: to the screen, and to stderr when that is not there any more. Nobody logs who
    /// holds the state, and the painter holds it only while it draws into memory.
    pub(super) fn sink(&self) -> Sink {
        let screen = self.clone();
        Arc::new(move |line| {
            let left = screen.0.lock().left;
            if left {
                return writeln!(io::stderr(), "{line}").is_ok();
            }
            screen.with(|model| model.logged(line));
            true
        })
    }

    /// Changes the state so that no picture begins any more, and waits for the one that did.
    fn wait_for_picture(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        self.0.changed.notify_all();
        let deadline = Instant::now() + LAST_PICTURE;
        while state.painting {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives the terminal back until this process goes on.
    fn suspend(&self, terminal: &Terminal) {
        self.wait_for_picture(|state| state.away = true);
        terminal.restore();
        // As the terminal does it: for all of the job. Nobody stops a job that nobody could continue.
        if kill_current_process_group(Signal::TSTP).is_ok() {
            thread::sleep(NOT_STOPPED);
        }
        self.resume(terminal);
    }

    /// Takes the terminal again: somebody else used it.
    fn resume(&self, terminal: &Terminal) {
        let mut state = self.0.lock();
        if state.left {
            return;
        }
        (state.away, state.wiped, state.stale) = (false, true, true);
        if let Err(error) = take(terminal) {
            state.error = Some(error);
            self.0.broken.cancel();
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// The painter.
    fn paint(&self) {
        // However it ends.
        let _broken = self.0.broken.clone().drop_guard();
        let painted = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()))
            .and_then(|mut terminal| self.paint_all(&mut terminal));
        if let Err(error) = painted {
            let mut state = self.0.lock();
            state.painting = false;
            state.error = Some(error);
            self.0.changed.notify_all();
        }
    }

    fn paint_all(&self, terminal: &mut ratatui::Terminal<CrosstermBackend<Stdout>>) -> io::Result<()> {
        loop {
            let mut state = self.0.lock();
            while !state.left && (!state.stale || state.away) {
                state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.left {
                return Ok(());
            }
            (state.stale, state.painting) = (false, true);
            let wiped = std::mem::take(&mut state.wiped);
            drop(state);
            let begun = Instant::now();
            terminal.backend_mut().write_all(PICTURE[0])?;
            if wiped {
                // Not `clear`, which asks the terminal where the cursor is and waits for an answer that the
                // other thread reads.
                let size = terminal.size()?;
                terminal.resize(Rect::from((Position::ORIGIN, size)))?;
            }
            terminal.draw(|frame| {
                let mut state = self.0.lock();
                let seen = view::draw(frame, &state.model, Instant::now());
                state.model.drawn(seen);
            })?;
            terminal.backend_mut().write_all(PICTURE[1])?;
            io::Write::flush(terminal.backend_mut())?;
            self.0.lock().painting = false;
            self.0.changed.notify_all();
            thread::sleep(FRAME.saturating_sub(begun.elapsed()));
        }
    }
}

/// The thread that reads keys.
struct Keys {
    screen: Screen,
    terminal: Terminal,
    history: Option<History>,
    known: Known,
    sender: mpsc::Sender<Input>,
}

impl Keys {
    fn read(mut self) {
        loop {
            let effect = match event::read() {
                Ok(event::Event::Key(key)) => self.change(|model| model.key(Instant::now(), key)),
                Ok(event::Event::Paste(text)) => self.change(|model| {
                    model.paste(&text);
                    Effect::Nothing
                }),
                Ok(event::Event::Resize(..)) => Effect::Redraw,
                Ok(_) => Effect::Nothing,
                Err(error) => {
                    tracing::error!("cannot read from the terminal: {error}");
                    let _ = self.sender.blocking_send(Input::Broken);
                    return;
                }
            };
            if !self.carry_out(effect) {
                return;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Model) -> Effect) -> Effect {
        let mut effect = Effect::Nothing;
        self.screen.with(|model| effect = change(model));
        effect
    }

    /// `false` where no more keys are wanted.
    fn carry_out(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Nothing => true,
            Effect::Lines(lines, kept) => {
                if let (Some(kept), Some(history)) = (kept, &mut self.history) {
                    history.keep(&kept);
                }
                lines.into_iter().all(|line| self.sender.blocking_send(Input::Line(line)).is_ok())
            }
            Effect::Complete(typed) => {
                // Reads directories, which may take its time.
                let completed = complete::tab(&typed, &self.known, columns());
                self.screen.with(|model| model.completed(&typed, completed));
                true
            }
            Effect::Interrupt => {
                let _ = self.sender.blocking_send(Input::Interrupt);
                false
            }
            Effect::End => false,
            Effect::Suspend => {
                self.screen.suspend(&self.terminal);
                true
            }
            Effect::Redraw => {
                let mut state = self.screen.0.lock();
                (state.wiped, state.stale) = (true, true);
                drop(state);
                self.screen.0.changed.notify_all();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
