//! The program at a real terminal: a pty, and behind it a screen that folds long lines when it
//! becomes narrower, as terminals do.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use alacritty_terminal::Term;
use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::Config;
pub(crate) use alacritty_terminal::term::cell::Cell;
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::term::test::TermSize;
use alacritty_terminal::vte::ansi::Processor;
use pty_process::Size;
use pty_process::blocking::{Command, Pty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::termios::{LocalModes, Termios, tcgetattr};
use tempfile::TempDir;

use crate::support::{BaselinePeer, DEADLINE, holds_in_time};

/// Rows of every screen at first.
const ROWS: usize = 24;

/// What is on the screen, without blanks at the ends of rows and without empty rows at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Everything, what has scrolled away included.
    pub(crate) rows: Vec<String>,
    /// The row and column of the cursor among them.
    pub(crate) cursor: (usize, usize),
}

impl Screen {
    fn of(term: &Term<VoidListener>) -> Self {
        let grid = term.grid();
        let history = i32::try_from(grid.history_size()).unwrap();
        let last = i32::try_from(grid.screen_lines()).unwrap();
        let row = |line: i32| -> String {
            let row = &grid[Line(line)];
            let cells = (0..grid.columns()).map(|column| &row[Column(column)]);
            let spacer = Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER;
            let text: String =
                cells.filter(|cell| !cell.flags.intersects(spacer)).map(|cell| cell.c).collect();
            text.trim_end().to_owned()
        };
        let mut rows: Vec<_> = (-history..last).map(row).collect();
        let point = grid.cursor.point;
        let cursor = (usize::try_from(point.line.0 + history).unwrap(), point.column.0);
        while rows.len() > cursor.0 + 1 && rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        Self { rows, cursor }
    }

    /// Whether one row is exactly this.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.rows.iter().any(|shown| shown == row)
    }

    /// Whether a row contains this.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.rows.iter().any(|row| row.contains(text))
    }

    /// The row of the cursor and those above it, the last one first.
    pub(crate) fn upwards(&self) -> impl Iterator<Item = &str> {
        self.rows[..=self.cursor.0].iter().rev().map(String::as_str)
    }

    /// The line that is being typed, put together again, and the rows above it.
    pub(crate) fn typed(&self) -> (String, &[String]) {
        let start = self.rows.iter().rposition(|row| row.starts_with('>')).unwrap_or(0);
        (self.rows[start..].concat(), &self.rows[..start])
    }
}

/// Messages that are more than a screen.
const FILLING: usize = 40;

/// Checks that every message that filled the screen is there once.
#[track_caller]
pub(crate) fn assert_filled(screen: &Screen) {
    for number in 0..FILLING {
        let times = screen.rows.iter().filter(|row| row.contains(&format!("> filling {number}."))).count();
        assert_eq!(times, 1, "filling {number}: {screen:#?}");
    }
}

struct State {
    term: Term<VoidListener>,
    parser: Processor,
    /// Everything the program ever wrote.
    raw: Vec<u8>,
    closed: bool,
}

/// A terminal with a program in it. Dropping it kills the program.
pub(crate) struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    state: Arc<(Mutex<State>, Condvar)>,
    /// How the terminal was before the program changed anything.
    before: Termios,
    dir: TempDir,
}

/// A program that is about to be started at a terminal.
pub(crate) struct Setup {
    dir: TempDir,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    columns: usize,
    /// What a shell is to do instead, with the program and its arguments as `$@`.
    script: Option<&'static str>,
}

impl Setup {
    /// An encrypted node with an identity of its own: its home is in a directory of its own.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("p2p-test-").tempdir().unwrap();
        Self { dir, arguments: Vec::new(), environment: Vec::new(), columns: 100, script: None }
    }

    /// A node for peers that a test plays itself, which is how everything can be made to happen in
    /// the one moment that a test is about.
    pub(crate) fn plain() -> Self {
        Self::new().argument("--plain")
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Has a shell start the program.
    pub(crate) fn in_shell(mut self, script: &'static str) -> Self {
        self.script = Some(script);
        self
    }

    /// Starts the full screen on loopback and any port, and waits for it.
    #[track_caller]
    pub(crate) fn start_tui(self) -> Terminal {
        let setup = self.argument("tui").argument("--bind").argument("127.0.0.1").argument("0");
        let terminal = setup.start_as_it_is();
        terminal.wait("a screen", |screen| screen.rows.last().is_some_and(|row| row.contains("? keys")));
        terminal
    }

    pub(crate) fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    /// Starts the program on loopback and any port, and waits for its prompt.
    #[track_caller]
    pub(crate) fn start(self) -> Terminal {
        let setup = self.argument("--bind").argument("127.0.0.1").argument("0");
        let terminal = setup.start_as_it_is();
        terminal.wait("a prompt", |screen| screen.rows.last().is_some_and(|row| row == ">"));
        terminal
    }

    /// Starts the program with its arguments and nothing more.
    #[track_caller]
    pub(crate) fn start_as_it_is(self) -> Terminal {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(size(self.columns)).unwrap();
        let program = env!("CARGO_BIN_EXE_p2p");
        let mut command = match self.script {
            None => Command::new(program),
            Some(script) => Command::new("sh").args(["-c", script, "sh", program]),
        };
        command = command.args(&self.arguments);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            let ours = name.starts_with("P2P_") || name.starts_with("XDG_");
            if ours || ["RUST_LOG", "NO_COLOR", "TMUX", "XTERM_VERSION"].contains(&&*name) {
                command = command.env_remove(variable);
            }
        }
        command = command.env("TERM", "xterm-256color").env("HOME", self.dir.path());
        command = command.envs(self.environment).current_dir(self.dir.path());
        let before = tcgetattr(&pty).unwrap();
        let child = command.spawn(pts).unwrap();
        let term = Term::new(Config::default(), &TermSize::new(self.columns, ROWS), VoidListener);
        let state = State { term, parser: Processor::new(), raw: Vec::new(), closed: false };
        let (pty, state) = (Arc::new(pty), Arc::new((Mutex::new(state), Condvar::new())));
        let (from, to) = (Arc::clone(&pty), Arc::clone(&state));
        thread::spawn(move || show(&from, &to));
        Terminal { pty, child, state, before, dir: self.dir }
    }
}

fn size(columns: usize) -> Size {
    Size::new(u16::try_from(ROWS).unwrap(), u16::try_from(columns).unwrap())
}

/// Puts on the screen what the program writes, until it has ended. Whoever holds the state knows
/// that nothing is read and not yet shown.
fn show(mut from: &Pty, to: &(Mutex<State>, Condvar)) {
    let mut buffer = [0; 4096];
    loop {
        let _readable = poll(&mut [PollFd::new(&from, PollFlags::IN)], None);
        let mut state = to.0.lock().unwrap();
        // Where nobody has the other side open any more this is an error.
        let read = from.read(&mut buffer).unwrap_or(0);
        let State { term, parser, raw, closed } = &mut *state;
        raw.extend_from_slice(&buffer[..read]);
        parser.advance(term, &buffer[..read]);
        *closed |= read == 0;
        to.1.notify_all();
        if read == 0 {
            return;
        }
    }
}

impl Terminal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// What is on the screen now.
    pub(crate) fn screen(&self) -> Screen {
        Screen::of(&self.state().term)
    }

    /// The rows of the screen with all that a terminal knows of each place.
    pub(crate) fn cells(&self) -> Vec<Vec<Cell>> {
        let state = self.state();
        let grid = state.term.grid();
        let last = i32::try_from(grid.screen_lines()).unwrap();
        let row =
            |line| (0..grid.columns()).map(move |column| grid[Line(line)][Column(column)].clone()).collect();
        (0..last).map(row).collect()
    }

    /// Everything the program ever wrote.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.state().raw).into_owned()
    }

    /// Waits until the screen shows something, and tells what is on it then.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, shows: impl Fn(&Screen) -> bool) -> Screen {
        let started = Instant::now();
        let mut state = self.state();
        loop {
            let screen = Screen::of(&state.term);
            if shows(&screen) {
                return screen;
            }
            let left = DEADLINE.saturating_sub(started.elapsed());
            if left.is_zero() || state.closed {
                let why = if state.closed { "the program ended" } else { "for too long" };
                drop(state);
                panic!("waited for {what} ({why});\n{}", self.report());
            }
            state = self.state.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until a row is exactly this.
    #[track_caller]
    pub(crate) fn wait_row(&self, row: &str) -> Screen {
        self.wait(row, |screen| screen.has(row))
    }

    /// Waits until a row contains this.
    #[track_caller]
    pub(crate) fn wait_text(&self, text: &str) -> Screen {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Types keys without Enter.
    pub(crate) fn keys(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line with Enter.
    pub(crate) fn enter(&self, line: &str) {
        self.keys(&format!("{line}\r"));
    }

    /// Makes the window as many columns wide, between two redraws: what is on its way while a
    /// terminal folds its lines would be written to the wrong rows, which no program can help. As in
    /// a real terminal, the screen changes first and the program hears of it afterwards.
    #[track_caller]
    pub(crate) fn resize(&self, columns: usize) {
        let resized = holds_in_time(|| {
            self.signal(Signal::STOP);
            let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
            let _status = waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped).unwrap();
            let mut state = self.state();
            let shown =
                poll(&mut [PollFd::new(&*self.pty, PollFlags::IN)], Some(&Timespec::default())) == Ok(0);
            // The program says when it begins to draw, before it looks how wide the window is.
            let last = |what: &[u8]| state.raw.windows(what.len()).rposition(|bytes| bytes == what);
            let between = shown && last(b"\x1b[?2026h") <= last(b"\x1b[?2026l");
            if between {
                state.term.resize(TermSize::new(columns, ROWS));
                self.pty.resize(size(columns)).unwrap();
            }
            drop(state);
            self.signal(Signal::CONT);
            between
        });
        assert!(resized, "the program draws without end;\n{}", self.report());
    }

    /// Makes the window another one, of a program that draws all of it anew then.
    pub(crate) fn resize_to(&self, columns: usize, rows: usize) {
        let mut state = self.state();
        state.term.resize(TermSize::new(columns, rows));
        let size = Size::new(u16::try_from(rows).unwrap(), u16::try_from(columns).unwrap());
        self.pty.resize(size).unwrap();
    }

    /// Has the peer fill more than the screen with messages: what stands at its upper edge is out of
    /// everybody's reach when a terminal folds what is below.
    #[track_caller]
    pub(crate) fn fill(&self, peer: &BaselinePeer) {
        for number in 0..FILLING {
            peer.send_text(&format!("filling {number}."));
        }
        self.wait("a full screen", |screen| screen.contains(&format!("filling {}.", FILLING - 1)));
    }

    /// Where the node listens.
    #[track_caller]
    pub(crate) fn addr(&self) -> String {
        let screen = self.wait_text(" listening on ");
        let row = screen.rows.iter().find(|row| row.contains(" listening on ")).unwrap();
        let after = row.split(" listening on ").nth(1).unwrap();
        after.split(';').next().unwrap().to_owned()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.dir.path().join("downloads")
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the program to end by itself, and checks that it gave the terminal back as it was.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        let ended = holds_in_time(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "still running after {DEADLINE:?};\n{}", self.report());
        assert!(holds_in_time(|| self.state().closed), "somebody holds the terminal");
        self.assert_restored();
        status.unwrap().code()
    }

    /// How the terminal treats keys at this moment.
    pub(crate) fn local_modes(&self) -> LocalModes {
        tcgetattr(&*self.pty).unwrap().local_modes
    }

    /// Checks that the terminal is as it was before the program.
    #[track_caller]
    pub(crate) fn assert_restored(&self) {
        let now = tcgetattr(&*self.pty).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes, "{}", self.report());
        assert_eq!(now.input_modes, self.before.input_modes, "{}", self.report());
        assert_eq!(now.output_modes, self.before.output_modes, "{}", self.report());
        let raw = self.raw();
        let switches =
            [("\x1b[?2004h", "\x1b[?2004l"), ("\x1b[?25l", "\x1b[?25h"), ("\x1b[?1049h", "\x1b[?1049l")];
        for (on, off) in switches {
            assert!(raw.rfind(on) <= raw.rfind(off), "{on:?} was left on;\n{}", self.report());
        }
    }

    /// All that there is to say about the terminal when a test has failed.
    pub(crate) fn report(&self) -> String {
        let Screen { rows, cursor } = self.screen();
        let rows: Vec<_> = rows.iter().enumerate().map(|(number, row)| format!("{number:4} {row}")).collect();
        format!("--- the screen, with the cursor at {cursor:?}:\n{}\n---", rows.join("\n"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _status = self.child.wait();
    }
}
