//! The prompt: rustyline on a thread of its own, and the terminal it borrows.
//!
//! What is shown while a line is typed comes from [`Output`]: whenever rustyline draws its prompt
//! it asks the [`Helper`] how the prompt looks, and is given whatever waits to be shown in front
//! of it, the status line last. rustyline first clears the rows of the old prompt, so this lands
//! above, in one write; where the old status line is, [`Screen`] knows.
//! Invariant: however the program ends, [`Terminal::restore`] gives the terminal back as it was.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::thread;

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, Editor, ExternalPrinter as _};
use tokio::sync::mpsc;

use super::input::Input;
use super::output::Output;
use super::parse::{Parsed, parse};
use super::screen::{Screen, terminal_folds};
use super::style::Style;

const PROMPT: &str = "> ";

/// Lines that may wait; whoever types faster than that is not typing.
const LINES_QUEUED: usize = 64;

/// Lines that the arrow keys bring back.
const HISTORY_LINES: usize = 1000;

/// What makes rustyline draw its prompt anew: printed as a line of its own it moves up one row and
/// down again.
const POKE: &str = "\x1b[A\n";

/// The names of the threads without which there is no prompt.
const THREADS: [&str; 3] = ["main", "painter", "prompt"];

/// A prompt that is not shown yet.
pub(super) struct Prompt {
    editor: Editor<Helper, MemHistory>,
    output: Output,
    terminal: Terminal,
}

impl Prompt {
    /// Prepares a prompt without showing anything.
    ///
    /// # Errors
    /// Where stdin and stdout are no terminal on which lines can be edited.
    pub(super) fn open() -> Result<Self, ReadlineError> {
        let config = rustyline::Config::builder()
            // Without it rustyline would not ask how the prompt looks.
            .color_mode(ColorMode::Forced)
            .max_history_size(HISTORY_LINES)?
            .build();
        let terminal = Terminal(Arc::new(tcgetattr(rustix::stdio::stdin()).map_err(io::Error::from)?));
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config.clone(), history)?;
        let mut printer = editor.create_external_printer()?;
        // An error means that rustyline is gone, and with it the prompt that was to be redrawn.
        let poke = Box::new(move || drop(printer.print(POKE.to_owned())));
        let output = Output::start("painter", Box::new(io::stdout()), Some(poke))?;
        let screen = RefCell::new(Screen::new(config.grapheme_cluster_mode(), terminal_folds()));
        editor.set_helper(Some(Helper { output: output.clone(), style: Style::of_terminal(), screen }));
        Ok(Self { editor, output, terminal })
    }

    /// Where to put what is shown.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Shows the prompt and reads lines from it. The channel ends when the input does.
    pub(super) fn start(self) -> io::Result<(mpsc::Receiver<Input>, Terminal)> {
        let Self { editor, output, terminal } = self;
        let (sender, receiver) = mpsc::channel(LINES_QUEUED);
        terminal.restore_on_panic();
        thread::Builder::new()
            .name("prompt".to_owned())
            .spawn(move || read_lines(editor, &output, &sender))?;
        Ok((receiver, terminal))
    }
}

fn read_lines(mut editor: Editor<Helper, MemHistory>, output: &Output, sender: &mpsc::Sender<Input>) {
    loop {
        let read = editor.readline(PROMPT);
        if let Some(helper) = editor.helper() {
            helper.leave();
        }
        output.leave_prompt();
        let (input, last) = match read {
            Ok(line) => {
                if !line.trim().is_empty() {
                    // The worst that can happen is a line that the arrow keys do not bring back.
                    let _ = editor.add_history_entry(line.as_str());
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
                return;
            }
        };
        if sender.blocking_send(input).is_err() || last {
            return;
        }
    }
}

/// The terminal as it was before the prompt.
#[derive(Clone)]
pub(super) struct Terminal(Arc<Termios>);

impl Terminal {
    /// Gives the terminal back. Harmless where that has happened already.
    pub(super) fn restore(&self) {
        // Nothing can be done about a terminal that does not listen.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
        // Bracketed paste, which rustyline switches on; not through `std`, whose lock a stalled
        // painter may hold.
        let _ = rustix::io::write(rustix::stdio::stdout(), b"\x1b[?2004l");
    }

    /// Restores the terminal before a panic without which there is no prompt is told. That of a
    /// task goes to the log: the node lives on, and so does the prompt.
    fn restore_on_panic(&self) {
        let terminal = self.clone();
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if thread::current().name().is_some_and(|name| THREADS.contains(&name)) {
                terminal.restore();
                tell(panic);
            } else {
                tracing::error!("this is a bug: {panic}");
            }
        }));
    }
}

/// The size of the window, as far as the terminal knows it.
fn window() -> Winsize {
    let unknown = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcgetwinsize(rustix::stdio::stdout()).ok().filter(|size| size.ws_col > 0).unwrap_or(unknown)
}

/// What rustyline asks while a line is typed.
struct Helper {
    output: Output,
    style: Style,
    screen: RefCell<Screen>,
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
        let columns = usize::from(window().ws_col);
        // A line as wide as the window would leave the cursor in different places on different
        // terminals.
        let status = status.map_or_else(String::new, |status| status.line(columns - 1, self.style));
        let mut shown = self.screen.borrow_mut().above(&text, &status, prompt, columns);
        shown.push_str(prompt);
        Cow::Owned(shown)
    }

    fn highlight<'l>(&self, line: &'l str, pos: usize) -> Cow<'l, str> {
        Cow::Owned(self.screen.borrow_mut().line(line, pos))
    }

    /// Always: the screen is only known if every change of the line is drawn through here.
    fn highlight_char(&self, _line: &str, _pos: usize, _kind: CmdKind) -> bool {
        true
    }
}

impl Completer for Helper {
    type Candidate = String;
}

impl Hinter for Helper {
    type Hint = String;
}

impl Validator for Helper {}
