//! The prompt: rustyline on a thread of its own, and the terminal it borrows.
//!
//! What is shown while a line is typed comes from [`Output`]: whenever rustyline draws its prompt
//! it asks the [`Helper`] how the prompt looks, and is given whatever waits to be shown in front
//! of it, the status line last. rustyline first clears the rows of the old prompt, so this lands
//! above, in one write; where the old status line is, [`Screen`] knows.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::thread;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Context, Editor, ExternalPrinter as _};
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr as _;

use super::complete::{self, Tab};
use super::history::History;
use super::input::Input;
use super::known::Known;
use super::output::Output;
use super::parse::{Parsed, parse};
use super::screen::{Screen, terminal_folds};
use super::style::{Paint, Style};
use super::terminal::{Terminal, columns, window};

const PROMPT: &str = "> ";

/// Lines that may wait; whoever types faster than that is not typing.
const LINES_QUEUED: usize = 64;

/// Lines that the arrow keys bring back.
pub(super) const HISTORY_LINES: usize = 1000;

/// What makes rustyline draw its prompt anew: printed as a line of its own it moves up one row and
/// down again.
const POKE: &str = "\x1b[A\n";

/// Switches off bracketed paste, which rustyline switches on.
const UNDO: &str = "\x1b[?2004l";

/// The names of the threads without which there is no prompt.
const THREADS: &[&str] = &["main", "painter", "prompt"];

/// A prompt that is not shown yet.
pub(super) struct Prompt {
    editor: Editor<Helper, MemHistory>,
    history: Option<History>,
    output: Output,
    terminal: Terminal,
}

impl Prompt {
    /// Prepares a prompt without showing anything. What is typed is kept below `home`, if there is one.
    ///
    /// # Errors
    /// Where stdin and stdout are no terminal on which lines can be edited.
    pub(super) fn open(home: Option<&PathBuf>) -> Result<Self, ReadlineError> {
        let config = rustyline::Config::builder()
            // Without it rustyline would not ask how the prompt looks.
            .color_mode(ColorMode::Forced)
            .max_history_size(HISTORY_LINES)?
            .completion_type(CompletionType::List)
            .build();
        let terminal = Terminal::as_it_is(UNDO)?;
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config.clone(), history)?;
        let mut printer = editor.create_external_printer()?;
        // An error means that rustyline is gone, and with it the prompt that was to be redrawn.
        let poke = Box::new(move || drop(printer.print(POKE.to_owned())));
        let output = Output::start("painter", Box::new(io::stdout()), Some(poke))?;
        let screen = RefCell::new(Screen::new(config.grapheme_cluster_mode(), terminal_folds()));
        let (style, known) = (Style::of_terminal(), Known::default());
        let (output_of_helper, anew) = (output.clone(), Cell::new(true));
        editor.set_helper(Some(Helper { output: output_of_helper, style, known, screen, anew }));
        Ok(Self { editor, history: home.map(|home| History::in_home(home)), output, terminal })
    }

    /// Where to put what is shown.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Shows the prompt and reads lines from it, completing them with what is known. The channel
    /// ends when the input does.
    pub(super) fn start(self, known: Known) -> io::Result<(mpsc::Receiver<Input>, Terminal)> {
        let Self { mut editor, mut history, output, terminal } = self;
        for line in history.iter_mut().flat_map(|history| history.load(HISTORY_LINES)) {
            // The worst that can happen is a line that the arrow keys do not bring back.
            let _ = editor.add_history_entry(line);
        }
        if let Some(helper) = editor.helper_mut() {
            helper.known = known;
        }
        let (sender, receiver) = mpsc::channel(LINES_QUEUED);
        terminal.restore_on_panic(THREADS);
        thread::Builder::new()
            .name("prompt".to_owned())
            .spawn(move || read_lines(editor, history, &output, &sender))?;
        Ok((receiver, terminal))
    }
}

fn read_lines(
    mut editor: Editor<Helper, MemHistory>,
    mut history: Option<History>,
    output: &Output,
    sender: &mpsc::Sender<Input>,
) {
    loop {
        let read = editor.readline(PROMPT);
        if let Some(helper) = editor.helper() {
            helper.leave();
        }
        output.leave_prompt();
        let (input, last) = match read {
            Ok(line) => {
                if !line.trim().is_empty() {
                    let _ = editor.add_history_entry(line.as_str());
                    if let Some(history) = &mut history {
                        history.keep(&line);
                    }
                }
                // Another prompt after `quit` would only have to be wiped away again.
                let last = matches!(parse(&line), Ok(Parsed::Quit));
                (Input::Line(line), last)
            }
            Err(ReadlineError::Interrupted) => (Input::Interrupt, true),
            Err(ReadlineError::Eof) => return,
            // Bytes that are no character: the line is lost, the prompt is not.
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => continue,
            Err(error) => {
                tracing::error!("cannot read from the terminal: {error}");
                (Input::Broken, true)
            }
        };
        if sender.blocking_send(input).is_err() || last {
            return;
        }
    }
}

/// What rustyline asks while a line is typed.
struct Helper {
    output: Output,
    style: Style,
    known: Known,
    screen: RefCell<Screen>,
    /// Whether rustyline is about to draw the same line anew: it does so when the window has changed.
    anew: Cell<bool>,
}

impl Helper {
    /// Takes away what should not stay above a line that was typed. The screen is still ours.
    fn leave(&self) {
        let wiped = self.screen.borrow_mut().leave(window().ws_row.into());
        let mut stdout = io::stdout().lock();
        // The painter finds out soon enough that nothing can be written.
        let _ = stdout.write_all(wiped.as_bytes()).and_then(|()| stdout.flush());
    }
}

impl rustyline::Helper for Helper {}

impl Highlighter for Helper {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        let (text, status) = self.output.above_prompt();
        let mut screen = self.screen.borrow_mut();
        let columns = columns();
        // A line as wide as the window would leave the cursor in different places on different
        // terminals.
        let status = status.map_or_else(String::new, |status| status.line(columns - 1, self.style));
        let mut shown = screen.above(&text, &status, prompt, (columns, self.anew.take()));
        shown.push_str(prompt);
        Cow::Owned(shown)
    }

    fn highlight<'l>(&self, line: &'l str, pos: usize) -> Cow<'l, str> {
        Cow::Owned(self.screen.borrow_mut().line(line, pos))
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(self.style.paint(Paint::Faint, hint))
    }

    /// Always: the screen is only known if every change of the line is drawn through here. rustyline
    /// asks before it draws, except when it was poked.
    fn highlight_char(&self, line: &str, pos: usize, _kind: CmdKind) -> bool {
        self.anew.set(self.screen.borrow().shows(line, pos));
        true
    }
}

impl Completer for Helper {
    type Candidate = String;

    /// Gives rustyline one candidate at most. A list of several it would write itself, over the
    /// status line; so they are shown like everything else, above the prompt.
    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(match complete::tab(&line[..pos], &self.known, columns()) {
            Tab::Nothing => (pos, Vec::new()),
            Tab::Insert(start, text) => (start, vec![text]),
            Tab::List(list) => {
                self.output.try_put(&list);
                (pos, Vec::new())
            }
        })
    }
}

impl Hinter for Helper {
    type Hint = Hint;

    /// Only where it cannot be taken for what was typed: in another colour, at the end of the line,
    /// and where there is room behind it.
    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Hint> {
        let at_end = pos == line.len() && !line.contains('\n');
        let hint = complete::hint(line).filter(|_| at_end && self.style.is_coloured())?;
        let width = PROMPT.width() + line.width() + hint.shown.width();
        (width < columns()).then_some(Hint(hint))
    }
}

/// A hint as rustyline wants it.
struct Hint(complete::Hint);

impl rustyline::hint::Hint for Hint {
    fn display(&self) -> &str {
        &self.0.shown
    }

    fn completion(&self) -> Option<&str> {
        let taken = &self.0.shown[..self.0.taken];
        (!taken.is_empty()).then_some(taken)
    }
}

impl Validator for Helper {}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    use pty_process::blocking::Command;
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    /// Set in the process that panics.
    const PANICS: &str = "P2P_TEST_PANICS";

    /// The thread whose panic ends the prompt must give the terminal back before it tells why. The
    /// test starts itself once more, at a terminal of its own.
    #[test]
    fn a_panic_gives_the_terminal_back() {
        if std::env::var_os(PANICS).is_some() {
            return panic_at_a_prompt();
        }
        let (mut pty, pts) = pty_process::blocking::open().unwrap();
        let before = tcgetattr(&pty).unwrap();
        let name = "ui::prompt::tests::a_panic_gives_the_terminal_back";
        let command = Command::new(std::env::current_exe().unwrap());
        let command = command.args(["--exact", name, "--nocapture"]).env(PANICS, "1").env("TERM", "xterm");
        let mut child = command.spawn(pts).unwrap();
        let mut told = Vec::new();
        // Where nobody has the other side open any more this is an error.
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pty.read(&mut buffer) {
            told.extend_from_slice(&buffer[..read]);
        }
        let told = String::from_utf8_lossy(&told);
        assert!(child.wait().unwrap().success(), "{told}");
        let now = tcgetattr(&pty).unwrap();
        assert_eq!((now.local_modes, now.input_modes), (before.local_modes, before.input_modes), "{told:?}");
        let restored = told.rfind("\x1b[?2004l").expect("bracketed paste is off");
        assert!(told.rfind("\x1b[?2004h").unwrap() < restored, "{told:?}");
        assert!(restored < told.find("panicked on purpose").unwrap(), "it is told last: {told:?}");
    }

    fn panic_at_a_prompt() {
        let home = tempfile::tempdir().unwrap();
        let prompt = Prompt::open(Some(&home.path().to_owned())).unwrap();
        let (_lines, _terminal) = prompt.start(Known::default()).unwrap();
        let begun = Instant::now();
        while tcgetattr(rustix::stdio::stdin()).unwrap().local_modes.contains(LocalModes::ICANON) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the prompt never came");
            thread::park_timeout(Duration::from_millis(5));
        }
        let painter = thread::Builder::new().name("painter".to_owned());
        painter.spawn(|| panic!("panicked on purpose")).unwrap().join().unwrap_err();
        // Not by way of the test harness, whose words would come last.
        std::process::exit(0);
    }
}
