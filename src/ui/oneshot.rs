//! One thing done without a prompt: `p2p send`, `p2p receive`, `p2p share` and `p2p get`.
//!
//! They are a node and a [`Front`] like any other, whose commands are given at the start instead of
//! typed. What differs is what is told: results on stdout, what goes wrong on stderr, and bars only for
//! somebody who looks on.

use std::convert::Infallible;
use std::fs::File;
use std::future::pending;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::bars::{Bars, Connecting};
use super::escape::escape;
use super::front::{Front, Manners};
use super::input::Input;
use super::json::Json;
use super::known::Known;
use super::output::Output;
use super::parse::Spec;
use super::paths::name_of_place;
use super::progress::Rates;
use super::render::{Asked, Human, Render, paste};
use super::session::Session;
use super::signals::Signals;
use super::style::Style;
use super::{LAST_LINES, UiError, allow_descriptors, log, stderr_columns, to_the_end};
use crate::config::{Config, Getting, STDIN, Sending, usual_home};
use crate::engine::{AcceptPolicy, AcceptRules, Code, Command, Destination, Event, Failure, PeerRef, Reply};
use crate::exit::Exit;
use crate::node::{self, StartError};
use crate::wire::SafeName;

/// What the standard input is called where nobody says.
const NAME_OF_STDIN: &str = "stdin";

/// Why a directory is not written to the standard output.
const NO_STREAM: &str = "it is a directory, which has no one stream of bytes; use -o";

/// Sends something and leaves.
pub(super) async fn send(config: Config, sending: Sending) -> Result<Exit, UiError> {
    let shop = Shop::open(&config)?;
    let mut signals = Signals::listen()?;
    // What is not there is said before anybody is bothered.
    let prepared = tokio::task::spawn_blocking(move || prepare(sending));
    let prepared = tokio::select! {
        prepared = prepared => prepared.map_err(|_| io::Error::other("reading what is to be sent failed"))?,
        exit = signals.next() => return Ok(exit),
    };
    let (_spooled, commands) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            match config.json {
                true => _ = shop.output.try_put(&Json::error(&failure)),
                false => tell_error(&shop.log, &failure.message),
            }
            shop.close().await;
            return Ok(Exit::of(failure.code));
        }
    };
    shop.run(config, signals, commands, Manners::Send).await
}

/// Takes what comes.
pub(super) async fn receive(config: Config, count: Option<u32>) -> Result<Exit, UiError> {
    let shop = Shop::open(&config)?;
    let signals = Signals::listen()?;
    let commands = vec![("whoami", Command::Whoami)];
    shop.run(config, signals, commands, Manners::Receive { count }).await
}

/// Serves what others ask for.
pub(super) async fn share(config: Config, paths: Vec<PathBuf>, known_only: bool) -> Result<Exit, UiError> {
    let shop = Shop::open(&config)?;
    let signals = Signals::listen()?;
    let command = |path: PathBuf| {
        let path = std::path::absolute(&path).unwrap_or(path);
        ("share", Command::Share { path, known_only, is_kept: false })
    };
    let commands = paths.into_iter().map(command).collect();
    shop.run(config, signals, commands, Manners::Share).await
}

/// Fetches something and leaves.
pub(super) async fn get(mut config: Config, getting: Getting) -> Result<Exit, UiError> {
    let Getting { link, to_stdout } = getting;
    if !to_stdout {
        let shop = Shop::open(&config)?;
        let signals = Signals::listen()?;
        return shop.run(config, signals, vec![("get", Command::Get(link))], Manners::Get).await;
    }
    // It is spooled, since bytes can come in any order, and are all proven only at the end.
    let spool = tempfile::tempdir()?;
    config.node.downloads = spool.path().to_owned();
    config.quiet = true;
    let shop = Shop::open(&config)?;
    let signals = Signals::listen()?;
    let exit = shop.run(config, signals, vec![("get", Command::Get(link))], Manners::Get).await?;
    if exit != Exit::Fine {
        return Ok(exit);
    }
    let written = tokio::task::spawn_blocking(move || write_out(spool.path())).await;
    match written.map_err(|_| io::Error::other("writing what was fetched failed"))? {
        Ok(()) => Ok(Exit::Fine),
        Err(error) => {
            // A reader that went away is how pipes end.
            if error.kind() != io::ErrorKind::BrokenPipe {
                // What wrote the log has ended.
                let _ = writeln!(io::stderr(), "error: cannot write what was fetched: {error}");
            }
            Ok(Exit::Output)
        }
    }
}

/// Writes the one file of a directory to the standard output.
fn write_out(spool: &Path) -> io::Result<()> {
    let fetched = std::fs::read_dir(spool)?.next().transpose()?;
    let fetched = fetched.ok_or_else(|| io::Error::other("nothing was fetched"))?;
    if fetched.file_type()?.is_dir() {
        return Err(io::Error::other(NO_STREAM));
    }
    let mut stdout = io::stdout().lock();
    io::copy(&mut File::open(fetched.path())?, &mut stdout)?;
    stdout.flush()
}

/// Where things are told.
struct Shop {
    output: Output,
    log: Output,
    bars: Option<Bars>,
}

impl Shop {
    fn open(config: &Config) -> Result<Self, UiError> {
        allow_descriptors(None);
        let watched = io::stderr().is_terminal() && !config.json && !config.quiet;
        let bars = watched.then(|| Bars::new(Style::of_terminal(), stderr_columns));
        let above = |out, is_terminal| match &bars {
            Some(bars) if is_terminal => bars.above(out),
            _ => out,
        };
        let output =
            Output::start("stdout", above(Box::new(io::stdout()), io::stdout().is_terminal()), None)?;
        let log = Output::start("stderr", above(Box::new(io::stderr()), true), None)?;
        log::start(log.sink());
        Ok(Self { output, log, bars })
    }

    async fn run(
        mut self,
        config: Config,
        signals: Signals,
        commands: Commands,
        manners: Manners,
    ) -> Result<Exit, UiError> {
        let connecting = self.connecting(&commands);
        let render: Box<dyn Render> = match config.json {
            true => Box::new(Json),
            false => Box::new(Plainly {
                receives: matches!(manners, Manners::Receive { .. }),
                quiet: config.quiet,
                notes: self.bars.is_some().then(|| self.log.clone()),
                errors: self.log.clone(),
                connecting: connecting.clone(),
                forgetting: forgetting(&config, &commands),
                accept: config.node.accept.clone(),
                plain: config.node.plain,
            }),
        };
        let session = Session::new(render, false);
        if config.node.plain {
            session.known().is_plain();
        }
        let node = match node::start(config.node).await {
            Ok(node) => node,
            Err(error) => {
                match config.json {
                    true => _ = self.output.try_put(&not_started(&error)),
                    false => tell_error(&self.log, &error.to_string()),
                }
                self.close().await;
                return Ok(Exit::NotStarted);
            }
        };
        let (sender, lines) = mpsc::channel(commands.len().max(1));
        for (name, command) in commands {
            // There is room for all of them.
            let _ = sender.try_send(Input::Command(name, command));
        }
        drop(sender);
        let front =
            Front::new(node, lines, session, self.output.clone(), manners).with_bars(self.bars.take());
        let exit = tokio::select! {
            exit = to_the_end(front, signals) => exit,
            never = draw(connecting.as_ref()) => match never {},
        };
        self.close().await;
        Ok(exit)
    }

    /// Tells those who look on whom they wait for.
    fn connecting(&mut self, commands: &Commands) -> Option<Connecting> {
        let to = connected_to(commands)?;
        let drawn = self.bars.as_mut()?.connecting(&to);
        if drawn.is_none() {
            self.log.try_put(&format!("connecting to {to}"));
        }
        drawn
    }

    async fn close(&self) {
        let _ = timeout(LAST_LINES, self.output.flushed()).await;
        let _ = timeout(LAST_LINES, self.log.flushed()).await;
    }
}

/// Tells what went wrong, as the log would: but it is no log, and is there whatever `RUST_LOG` says.
fn tell_error(errors: &Output, message: &str) {
    errors.try_put(&format!("error: {}", escape(message)));
}

/// The JSON of a node that could not start; a node itself has no word for that.
fn not_started(error: &StartError) -> String {
    #[derive(Serialize)]
    struct Line {
        event: &'static str,
        code: &'static str,
        message: String,
    }
    let line = Line { event: "error", code: "not_started", message: error.to_string() };
    serde_json::to_string(&line).expect("words are always JSON")
}

async fn draw(connecting: Option<&Connecting>) -> Infallible {
    match connecting {
        Some(connecting) => connecting.draw().await,
        None => pending().await,
    }
}

/// What is connected to, as a peer is named in commands.
fn connected_to(commands: &Commands) -> Option<String> {
    commands.iter().find_map(|(_, command)| match command {
        Command::Connect(Destination::Place(target)) => Some(target.address.to_string()),
        Command::Connect(Destination::Person(name)) => Some(name.clone()),
        _ => None,
    })
}

/// What makes a shell forget who was at the address that is connected to.
fn forgetting(config: &Config, commands: &Commands) -> Option<String> {
    let to = connected_to(commands)?;
    let home = if config.home == usual_home() {
        String::new()
    } else {
        format!(" --home '{}'", config.home.display().to_string().replace('\'', r"'\''"))
    };
    Some(format!("echo 'forget {to}' | p2p 0{home}"))
}

/// Files that exist only while they are open.
type Spooled = Vec<File>;

/// What is asked of the node, one after the other, and the commands' names.
type Commands = Vec<(&'static str, Command)>;

/// What to tell the node, after a look at what is to be sent. Blocks.
fn prepare(sending: Sending) -> Result<(Spooled, Commands), Failure> {
    let Sending { to, paths, name } = sending;
    let mut spooled = Vec::new();
    let peer = match &to {
        Destination::Place(target) => PeerRef::Address(target.address.clone()),
        Destination::Person(name) => PeerRef::Name(name.clone()),
    };
    let mut commands = vec![("connect", Command::Connect(to))];
    // The input last: it may be long, and a path that is not there is found first.
    for path in paths.iter().filter(|path| path.as_os_str() != STDIN) {
        check(path)?;
    }
    for path in paths {
        let (path, name) = if path.as_os_str() == STDIN {
            let file = spool()?;
            let path = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
            spooled.push(file);
            (path, name.clone().or_else(|| SafeName::new(NAME_OF_STDIN).ok()))
        } else {
            let own = name.clone().or_else(|| name_of_place(&path));
            if own.is_none() && path.file_name().is_none() {
                let message =
                    format!("`{}` has no name to be called by; give one with --name", path.display());
                return Err(Failure::new(Code::BadName, message));
            }
            (path, own)
        };
        commands.push(("sendfile", Command::SendFile { to: peer.clone(), path, name }));
    }
    Ok((spooled, commands))
}

fn check(path: &Path) -> Result<(), Failure> {
    let message = match path.metadata() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("there is no file `{}`; check the path", path.display())
        }
        Err(error) => format!("cannot read `{}`: {error}", path.display()),
    };
    Err(Failure::new(Code::SourceUnreadable, message))
}

/// Puts the standard input into a file without a name: what is sent must have a size, and be there
/// still when the receiver asks again.
fn spool() -> Result<File, Failure> {
    let place = std::env::temp_dir();
    let failed = |error: io::Error| {
        let place = place.display();
        let message = format!(
            "cannot keep the standard input in `{place}`: {error}; TMPDIR may name a place with more room"
        );
        Failure::new(Code::SourceUnreadable, message)
    };
    let mut file = tempfile::tempfile().map_err(failed)?;
    io::copy(&mut io::stdin().lock(), &mut file).map_err(failed)?;
    Ok(file)
}

/// Results for people and scripts, without the numbers and news of a node.
struct Plainly {
    quiet: bool,
    /// Whether it is there to be sent to.
    receives: bool,
    /// Where to tell those who look on what is no result.
    notes: Option<Output>,
    errors: Output,
    connecting: Option<Connecting>,
    /// What to type if somebody else is there than before.
    forgetting: Option<String>,
    accept: AcceptRules,
    plain: bool,
}

impl Plainly {
    fn note(&self, text: &str) {
        if let Some(notes) = &self.notes {
            notes.try_put(text);
        }
    }

    /// Nobody is waited for any more.
    fn connected(&self) {
        if let Some(connecting) = &self.connecting {
            connecting.end();
        }
    }

    /// Who may send, and what they type.
    fn invitation(&self, reply: &Reply) -> Option<String> {
        let Reply::Whoami(info) = reply else { return None };
        let who = match self.accept.policy() {
            _ if !self.accept.own().is_empty() => {
                "who may send what is said by your accept rules (`p2p config` lists them) and `--accept`"
            }
            AcceptPolicy::All => "everybody may send",
            AcceptPolicy::Known => "everybody may send who is known here; others with `--accept all`",
            AcceptPolicy::Ask if self.plain => {
                "programs on this computer may send; others with `--accept all`"
            }
            AcceptPolicy::Ask => "you yourself and those you trust may send; others with `--accept all`",
            AcceptPolicy::None => "nobody may send; `--accept` says who may",
        };
        let options = if self.plain { " --plain" } else { "" };
        let address = match info.node_id {
            Some(id) => paste(info, id),
            None => info.listening.to_string(),
        };
        Some(format!("{who}: p2p send{options} {address} <path>"))
    }
}

/// What the node calls a transfer is of no use where no command can be given.
fn without_number(text: &str) -> String {
    text.split_once("] ").map_or(text, |(_, text)| text).to_owned()
}

impl Render for Plainly {
    fn event(&self, event: &Event, known: &Known) -> Option<String> {
        if let Event::PeerConnected { .. } = event {
            self.connected();
        }
        let text = Human::PIPED.event(event, known)?;
        match event {
            // Whoever ended this side knows.
            Event::TransferFailed { code: Code::ShuttingDown, reason, .. }
                if reason.starts_with("this side") =>
            {
                None
            }
            Event::TransferFailed { .. } => {
                tell_error(&self.errors, &without_number(&text));
                None
            }
            Event::Sent { .. } | Event::Received { .. } => (!self.quiet).then(|| without_number(&text)),
            Event::Found { .. } | Event::Served { .. } => {
                self.note(&without_number(&text));
                None
            }
            Event::Listening { .. } | Event::Mapped { .. } if !self.receives => {
                self.note(&text);
                None
            }
            Event::Message { .. } | Event::Listening { .. } | Event::Mapped { .. } => {
                (!self.quiet).then_some(text)
            }
            // Nothing moves until it is back, and whoever waits for the end should know why.
            Event::PeerDisconnected { is_waited_for: true, .. }
            | Event::PeerConnected { again: true, .. } => {
                if !self.quiet {
                    self.errors.try_put(&text);
                }
                None
            }
            Event::PeerConnected { first_contact: true, dialled: Some(_), .. }
            | Event::FirstContact { .. } => {
                self.note(&text);
                None
            }
            _ => None,
        }
    }

    fn reply(&self, _: &Asked, reply: &Reply, _: &Known, _: &Rates) -> Option<String> {
        if let Reply::Connected { .. } = reply {
            self.connected();
        }
        if let Reply::Shared(share) = reply {
            // What it was started for, and nothing else.
            return Some(share.link.to_string());
        }
        self.invitation(reply).filter(|_| !self.quiet)
    }

    fn failure(&self, _: u64, failure: &Failure) -> Option<String> {
        self.connected();
        match &self.forgetting {
            Some(typed) if failure.code == Code::IdentityChanged => {
                tell_error(&self.errors, &format!("{}; a script does it with: {typed}", failure.message));
            }
            _ => tell_error(&self.errors, &failure.message),
        }
        None
    }

    fn help(&self, _: u64, _: Option<&Spec>) -> String {
        String::new()
    }

    fn quit(&self, _: u64) -> Option<String> {
        None
    }
}
