//! What a person or a script types and sees.
//!
//! Owns parsing, wording, escaping, the terminal and the order in which things are shown; the only
//! module that writes to stdout and stderr. It knows a node as commands in and events out, and
//! nothing of sockets and disks.
//!
//! A line goes `input` or `prompt` → `front` → `session` → `parse`, and to the node; what comes
//! back goes `front` → `session` → `render` or `json` → `output`.

mod bars;
mod complete;
mod escape;
mod face;
mod front;
mod history;
mod human;
mod input;
mod json;
mod known;
mod log;
mod man;
mod oneshot;
mod output;
mod parse;
mod past;
mod paths;
mod progress;
mod prompt;
mod render;
mod screen;
mod session;
mod settings;
mod signals;
mod style;
mod terminal;
mod tui;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::time::timeout;

use crate::config::{Config, Mode};
use crate::exit::Exit;
use crate::node::{self, StartError, Told};

use front::{Front, Manners};
use json::Json;
use output::Output;
use prompt::Prompt;
use render::{Human, Render};
use session::Session;
use signals::Signals;
use style::Style;

/// How long the last lines may take to get out when the node has ended already.
const LAST_LINES: Duration = Duration::from_millis(500);

/// rustyline waits with `select`, which knows no descriptor past this and panics on one. It opens
/// some for every line, so all of the process must stay below.
const DESCRIPTORS_AT_PROMPT: u64 = 1024;

/// Connections that leave enough of them for strangers in the handshake (512) and for files.
const PEERS_AT_PROMPT: usize = 320;

/// Why there is nothing to see.
#[derive(Debug, Error)]
pub enum UiError {
    /// The node could not start.
    #[error(transparent)]
    Node(#[from] StartError),
    /// The system denied something that every process has.
    #[error("cannot set up input and output: {0}")]
    Io(#[from] io::Error),
    /// Nothing can be drawn there.
    #[error("`p2p tui` draws on a terminal, and this is none; `p2p` without it reads commands from a pipe")]
    NoTerminal,
}

/// Does what it is told: one thing, or a node until it ends, with a prompt where there is a terminal, else
/// line by line.
///
/// # Errors
/// Where the node cannot start.
pub async fn run(config: Config) -> Result<Exit, UiError> {
    match config.mode.clone() {
        Mode::Node | Mode::Tui => {}
        Mode::Send(sending) => return oneshot::send(config, sending).await,
        Mode::Receive { count } => return oneshot::receive(config, count).await,
        Mode::Share { paths, known_only } => return oneshot::share(config, paths, known_only).await,
        Mode::Get(getting) => return oneshot::get(config, getting).await,
        Mode::Settings(settings) => {
            let columns = if io::stdout().is_terminal() { stdout_columns() } else { usize::MAX };
            let shown =
                if config.json { settings::json(&settings) } else { settings::text(&settings, columns) };
            return Ok(print(shown.as_bytes()));
        }
        Mode::SettingsPath(path) => {
            return Ok(print(settings::path(path.as_deref(), config.json).as_bytes()));
        }
        Mode::Man => return Ok(print(&man::page()?)),
        Mode::Completions(shell) => return Ok(print(&Config::completions(shell))),
    }
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if config.mode == Mode::Tui {
        return if terminal { at_screen(config).await } else { Err(UiError::NoTerminal) };
    }
    if terminal && !config.json {
        // A terminal on which no line can be edited is read like a pipe.
        let keeps = config.node.keeps_history;
        if let Ok(prompt) = Prompt::open(keeps.then_some(&config.home)) {
            return at_prompt(config, prompt).await;
        }
    }
    piped(config).await
}

/// Writes all of what was asked for, and ends.
fn print(bytes: &[u8]) -> Exit {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    if written.is_ok() { Exit::Fine } else { Exit::Output }
}

async fn at_prompt(mut config: Config, prompt: Prompt) -> Result<Exit, UiError> {
    allow_descriptors(Some(DESCRIPTORS_AT_PROMPT));
    config.node.limits.peers = config.node.limits.peers.min(PEERS_AT_PROMPT);
    let output = prompt.output().clone();
    log::start(output.sink());
    let signals = Signals::listen()?;
    let plain = config.node.plain;
    let (node, mut events) = node::start(config.node).await?;
    let style = Style::of_terminal();
    let mut session =
        Session::new(Box::new(Human { at_prompt: true, style, columns: terminal::columns }), false);
    if plain {
        session.known().is_plain();
    }
    // Where it listens is told before there is a prompt, not above one.
    if let Some(Told::Event(listening)) = events.next().await {
        session.event(Instant::now(), &listening);
    }
    for said in session.take_said() {
        let _ = output.put(&said.text).await;
    }
    let _ = output.flushed().await;
    let (lines, terminal) = prompt.start(session.known().clone())?;
    let front = Front::new((node, events), lines, session, output.clone(), Manners::Prompt);
    let exit = to_the_end(front, signals).await;
    // After `quit` the prompt is gone already. After a signal it is still there: what rustyline has
    // not shown in time is shown below it.
    let _ = timeout(LAST_LINES, output.flushed()).await;
    if output.leave_prompt() {
        terminal.restore();
        output.try_put("");
    }
    let _ = timeout(LAST_LINES, output.flushed()).await;
    Ok(exit)
}

async fn at_screen(config: Config) -> Result<Exit, UiError> {
    allow_descriptors(None);
    let style = Style::of_terminal();
    let human = Human { at_prompt: true, style, columns: tui::columns };
    let session = Session::new(Box::new(human), false);
    let kept = config.node.keeps_history.then_some(config.home.as_path());
    let opened = tui::Opened::new(kept, session.known().clone(), style)?;
    let screen = opened.screen().clone();
    let signals = Signals::listen()?;
    if config.node.plain {
        session.known().is_plain();
    }
    // What keeps the node from starting is told on the terminal as it is.
    let node = node::start(config.node).await?;
    log::start(screen.sink());
    let (lines, shown) = opened.show(session.known().clone())?;
    let front = Front::new(node, lines, session, screen, Manners::Prompt);
    let exit = to_the_end(front, signals).await;
    shown.leave();
    Ok(exit)
}

async fn piped(config: Config) -> Result<Exit, UiError> {
    allow_descriptors(None);
    let output = Output::start("stdout", Box::new(io::stdout()), None)?;
    let log = Output::start("stderr", Box::new(io::stderr()), None)?;
    log::start(log.sink());
    let signals = Signals::listen()?;
    let plain = config.node.plain;
    let node = node::start(config.node).await?;
    let lines = input::from_stdin()?;
    let render: Box<dyn Render> = if config.json { Box::new(Json) } else { Box::new(Human::PIPED) };
    let session = Session::new(render, true);
    if plain {
        session.known().is_plain();
    }
    let front = Front::new(node, lines, session, output, Manners::Piped { stay: config.stay });
    let exit = to_the_end(front, signals).await;
    let _ = timeout(LAST_LINES, log.flushed()).await;
    Ok(exit)
}

/// Runs a front end until it leaves or a signal says so; a second signal leaves at once.
async fn to_the_end(mut front: Front, mut signals: Signals) -> Exit {
    let exit = tokio::select! {
        exit = front.drive() => exit,
        exit = signals.next() => exit,
    };
    tokio::select! {
        exit = front.finish(exit) => exit,
        exit = signals.next() => exit,
    }
}

/// How many columns the window has in which the bars are.
fn stderr_columns() -> usize {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col.max(1)))
}

fn stdout_columns() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(80, |size| usize::from(size.ws_col.max(1)))
}

/// Every connection and every open file is a descriptor: takes as many as the system lets us have,
/// up to `most`.
fn allow_descriptors(most: Option<u64>) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = match (limit.maximum, most) {
        (Some(maximum), Some(most)) => Some(maximum.min(most)),
        (maximum, most) => most.or(maximum),
    };
    // With the limit as it was, the program works too.
    let _ = setrlimit(Resource::Nofile, limit);
}
