//! A front end: it drives a [`Session`] with lines, the node's answers and its events.
//!
//! The prompt and the pipe differ in two things only, see [`Manners`]. Invariants: what the node
//! tells is shown in its order; everything it told before it stopped is shown before the end; and
//! nobody waits for a reader longer than [`Events`] can.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

use crate::engine::{Code, Command, Event, Failure, Reply};
use crate::exit::Exit;
use crate::node::{Events, NodeHandle, Ticket, Told};

use super::bars::Bars;
use super::face::Face;
use super::input::Input;
use super::paths::one_for_each;
use super::render::Asked;
use super::session::{AT_THE_END, Session, Step};

/// How long the node may take to stop, and after a signal the whole end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often somebody who waits for a stalled reader looks whether events were lost meanwhile.
const STALL_CHECK: Duration = Duration::from_millis(200);

/// How often the status line is drawn anew while something runs.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

/// Commands that may run at once at a prompt.
const COMMANDS_AT_ONCE: usize = 64;

/// What the front ends differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Commands run beside each other, and the end of the input is the end.
    Prompt,
    /// A command is finished before the next line is read; when the input has ended, what runs is
    /// finished, and with `stay` also what comes later.
    Piped {
        /// Whether the end of the input is not the end.
        stay: bool,
    },
    /// The commands are there from the start. Where the first fails, the others are not tried; when
    /// all is sent that is the end, and the exit code tells why something was not.
    Send,
    /// What the commands begin is finished, and the exit code tells why something was not.
    Get,
    /// What the commands share is served for good, if all of them worked.
    Share,
    /// What comes is taken.
    Receive {
        /// After so many files or directories that is the end.
        count: Option<u32>,
    },
}

/// What a running command was given for.
enum Purpose {
    Line(Asked),
    Closing,
    Status,
    Book,
}

/// Something for the front end to do.
enum Happening {
    Told(Option<Told>),
    Input(Option<Input>),
    /// It is time to look how far the transfers are.
    Tick,
    Broken,
}

pub(super) struct Front {
    node: NodeHandle,
    events: Events,
    lines: mpsc::Receiver<Input>,
    session: Session,
    face: Face,
    manners: Manners,
    /// The commands that were given and not answered.
    running: BTreeMap<Ticket, Purpose>,
    last_ticket: Ticket,
    /// Whether the input has ended.
    ended: bool,
    /// How many of [`AT_THE_END`] were given.
    closing: usize,
    /// Files and directories that have arrived.
    received: u32,
    bars: Option<Bars>,
    /// When to look next how far the transfers are; `None` where none is known to run.
    tick: Option<tokio::time::Instant>,
}

impl Front {
    pub(super) fn new(
        (node, events): (NodeHandle, Events),
        lines: mpsc::Receiver<Input>,
        session: Session,
        face: impl Into<Face>,
        manners: Manners,
    ) -> Self {
        Self {
            node,
            events,
            lines,
            session,
            face: face.into(),
            manners,
            running: BTreeMap::new(),
            last_ticket: 0,
            ended: false,
            closing: 0,
            received: 0,
            bars: None,
            tick: None,
        }
    }

    /// Shows how far transfers are by bars.
    pub(super) fn with_bars(self, bars: Option<Bars>) -> Self {
        Self { bars, ..self }
    }

    /// Runs until there is a reason to leave. The node still runs then.
    pub(super) async fn drive(&mut self) -> Exit {
        self.ask_book().await;
        if self.face.screen().is_some() {
            self.give(Purpose::Status, Command::Whoami).await;
            self.watch_transfers();
        }
        loop {
            let leave = match self.next().await {
                Happening::Told(Some(Told::Answer(ticket, answer))) => match self.running.remove(&ticket) {
                    Some(purpose) => self.answered(purpose, &answer).await,
                    None => None,
                },
                Happening::Told(Some(Told::Event(event))) => self.event(&event),
                Happening::Tick => {
                    self.tick = None;
                    self.ask_status().await;
                    None
                }
                Happening::Told(None) => Some(self.no_more_events()),
                Happening::Input(input) => self.input(input).await,
                Happening::Broken => Some(Exit::Output),
            };
            if let Err(exit) = self.show().await {
                return exit;
            }
            if let Some(exit) = leave {
                return exit;
            }
        }
    }

    /// What the node tells and lines take turns: neither a flood of messages nor one of lines shuts
    /// out the other.
    async fn next(&mut self) -> Happening {
        let takes_lines = !self.ended
            && match self.manners {
                Manners::Prompt => self.running.len() < COMMANDS_AT_ONCE,
                // What draws bars is asked for now and then, and is nobody's command.
                _ => self.running.values().all(|purpose| matches!(purpose, Purpose::Status)),
            };
        let tick = self.tick;
        let Self { events, lines, face, .. } = self;
        let tick = async {
            match tick {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let from_outside = async {
            tokio::select! {
                told = events.next() => Happening::Told(told),
                input = lines.recv(), if takes_lines => Happening::Input(input),
                () = tick => Happening::Tick,
            }
        };
        tokio::select! {
            biased;
            () = face.broken() => Happening::Broken,
            happening = from_outside => happening,
        }
    }

    async fn input(&mut self, input: Option<Input>) -> Option<Exit> {
        match input {
            Some(Input::Line(line)) => match self.session.line(&line) {
                Step::Nothing => {}
                Step::Run(asked) => {
                    for command in one_for_each(asked.command.clone()) {
                        let asked = Asked { command: command.clone(), ..asked };
                        self.give(Purpose::Line(asked), command).await;
                    }
                }
                Step::Quit => return Some(self.verdict()),
            },
            Some(Input::Command(name, command)) => {
                let asked = self.session.command(name, command.clone());
                self.give(Purpose::Line(asked), command).await;
            }
            Some(Input::Unreadable(why)) => {
                self.session.unreadable_line(&Failure::new(Code::Usage, why));
            }
            Some(Input::Broken) => {
                self.session.input_broke();
                return (self.manners == Manners::Prompt).then_some(Exit::Failed);
            }
            Some(Input::Interrupt) => return Some(Exit::Interrupted),
            None if self.manners == Manners::Prompt => return Some(self.verdict()),
            None => {
                self.ended = true;
                return self.close().await;
            }
        }
        None
    }

    async fn answered(&mut self, purpose: Purpose, answer: &Result<Reply, Failure>) -> Option<Exit> {
        match purpose {
            Purpose::Line(asked) => {
                self.face.answered(&asked, answer);
                self.session.answered(Instant::now(), &asked, answer);
                match answer {
                    Ok(Reply::Sending { .. } | Reply::Getting { .. } | Reply::Accepted(_)) => {
                        self.watch_transfers();
                    }
                    Ok(Reply::Connected { .. } | Reply::Named(..) | Reply::Forgotten(_)) => {
                        self.ask_book().await;
                    }
                    // Nothing can be sent to whom there is no connection.
                    Err(_)
                        if self.manners == Manners::Send && matches!(asked.command, Command::Connect(_)) =>
                    {
                        return Some(self.verdict());
                    }
                    _ => {}
                }
                None
            }
            Purpose::Status => {
                if let (Ok(Reply::Peers(peers)), Some(screen)) = (answer, self.face.screen()) {
                    screen.peers(peers);
                }
                if let (Ok(Reply::Whoami(node)), Some(screen)) = (answer, self.face.screen()) {
                    screen.whoami(node);
                }
                if let Ok(Reply::Transfers(transfers)) = answer {
                    self.session.transfers(Instant::now(), transfers);
                    if let Some(screen) = self.face.screen() {
                        screen.transfers(transfers, &self.session.rates(Instant::now()));
                    }
                    if let Some(bars) = &mut self.bars {
                        bars.show(transfers, &self.session.each_status(Instant::now()));
                        if !transfers.is_empty() {
                            self.watch_transfers();
                        }
                    }
                    self.show_status();
                }
                None
            }
            Purpose::Book => {
                if let Ok(Reply::Book(book)) = answer {
                    self.session.known().book(book);
                }
                None
            }
            Purpose::Closing => self.close().await,
        }
    }

    /// Asks how far the transfers are, and for a screen who is connected, unless that is asked already.
    async fn ask_status(&mut self) {
        if self.running.values().any(|purpose| matches!(purpose, Purpose::Status)) {
            return self.watch_transfers();
        }
        self.give(Purpose::Status, Command::Transfers).await;
        if self.face.screen().is_some() {
            self.give(Purpose::Status, Command::Peers).await;
            self.watch_transfers();
        }
    }

    /// Asks who is known, for completing what is typed.
    async fn ask_book(&mut self) {
        if self.manners == Manners::Prompt {
            self.give(Purpose::Book, Command::Book).await;
        }
    }

    fn event(&mut self, event: &Event) -> Option<Exit> {
        if let (
            Some(bars),
            Event::Received { id, .. } | Event::Sent { id, .. } | Event::TransferFailed { id, .. },
        ) = (&mut self.bars, event)
        {
            bars.remove(*id);
        }
        self.take_event(event);
        match event {
            Event::Progress { .. } | Event::Found { .. } | Event::Offer { expires_in: None, .. } => {
                self.watch_transfers();
            }
            // What has ended leaves the status line at once.
            Event::Received { .. }
            | Event::Sent { .. }
            | Event::TransferFailed { .. }
            | Event::Queued { was: Some(_), .. } => self.show_status(),
            _ => {}
        }
        let Manners::Receive { count } = self.manners else { return None };
        self.received += u32::from(matches!(event, Event::Received { .. }));
        (count.is_some_and(|count| self.received >= count)).then_some(Exit::Fine)
    }

    fn take_event(&mut self, event: &Event) {
        self.face.event(event);
        self.session.event(Instant::now(), event);
    }

    /// Sees to it that the status line tells about transfers of which one has begun. What is over
    /// before it would be drawn is not told there.
    fn watch_transfers(&mut self) {
        if (self.manners == Manners::Prompt || self.bars.is_some()) && self.tick.is_none() {
            self.tick = Some(tokio::time::Instant::now() + STATUS_INTERVAL);
        }
    }

    fn show_status(&mut self) {
        if self.manners != Manners::Prompt {
            return;
        }
        let status = self.session.status(Instant::now());
        if status.is_some() {
            self.watch_transfers();
        }
        self.face.set_status(status);
    }

    /// Takes the next step towards the end; says so when that is reached.
    async fn close(&mut self) -> Option<Exit> {
        match AT_THE_END.get(self.closing) {
            Some(command) => {
                self.closing += 1;
                self.give(Purpose::Closing, command.clone()).await;
                None
            }
            None if self.manners == (Manners::Piped { stay: true }) => None,
            None if matches!(self.manners, Manners::Receive { .. }) => None,
            None if self.manners == Manners::Share && !self.session.failed() => None,
            None => Some(self.verdict()),
        }
    }

    /// Gives a command to the node without waiting for its answer. Where the node is gone, the end
    /// of what it tells says so.
    async fn give(&mut self, purpose: Purpose, command: Command) {
        self.last_ticket += 1;
        if self.node.ask(self.last_ticket, command).await.is_ok() {
            self.running.insert(self.last_ticket, purpose);
        }
    }

    /// Queues what the session has to say.
    async fn show(&mut self) -> Result<(), Exit> {
        for said in self.session.take_said() {
            let mut put = pin!(self.face.put(&said));
            loop {
                tokio::select! {
                    done = &mut put => {
                        done.map_err(|_| Exit::Output)?;
                        break;
                    }
                    () = sleep(STALL_CHECK) => if self.events.overflowed() {
                        return Err(self.no_more_events());
                    },
                }
            }
        }
        Ok(())
    }

    fn no_more_events(&self) -> Exit {
        if self.events.overflowed() {
            tracing::error!("nobody reads the output, and it is too much to keep");
            return Exit::Output;
        }
        tracing::error!("the node ended; this is a bug");
        Exit::Failed
    }

    /// The exit code as far as it depends on how everything went.
    fn verdict(&self) -> Exit {
        match self.manners {
            Manners::Prompt | Manners::Receive { .. } => Exit::Fine,
            Manners::Piped { .. } if self.session.failed() => Exit::Failed,
            Manners::Piped { .. } => Exit::Fine,
            Manners::Send | Manners::Get | Manners::Share => {
                self.session.first_failure().map_or(Exit::Fine, Exit::of)
            }
        }
    }

    /// Stops the node, shows all that it still has to tell, and says how the program ends.
    pub(super) async fn finish(&mut self, exit: Exit) -> Exit {
        match &mut self.bars {
            Some(bars) if matches!(exit, Exit::Interrupted | Exit::Terminated) => bars.leave(),
            Some(bars) => bars.clear(),
            None => {}
        }
        match exit {
            Exit::Interrupted | Exit::Terminated => {
                // Whoever wants to leave is not kept by a reader that stalls.
                if timeout(PATIENCE, self.stop_and_show()).await.is_err() {
                    tracing::warn!("not everything ended within five seconds");
                }
                exit
            }
            Exit::Output => {
                let _ = timeout(PATIENCE, self.node.stop()).await;
                self.tell_why_output_ended();
                exit
            }
            _ => match self.stop_and_show().await {
                Ok(()) if exit == Exit::Fine => self.verdict(),
                Ok(()) => exit,
                Err(exit) => {
                    self.tell_why_output_ended();
                    exit
                }
            },
        }
    }

    async fn stop_and_show(&mut self) -> Result<(), Exit> {
        // Before the last lines, so that the prompt is drawn without it.
        self.face.set_status(None);
        let node = self.node.clone();
        let mut stop = pin!(timeout(PATIENCE, node.stop()));
        let mut stopped = false;
        loop {
            self.show().await?;
            tokio::select! {
                biased;
                told = self.events.next() => match told {
                    Some(Told::Event(event)) => self.take_event(&event),
                    // Nobody waits for it any more.
                    Some(Told::Answer(..)) => {}
                    None => break,
                },
                in_time = &mut stop, if !stopped => {
                    stopped = true;
                    if in_time.is_err() {
                        tracing::warn!("the node did not stop within five seconds");
                        break;
                    }
                }
            }
        }
        if self.events.overflowed() {
            return Err(self.no_more_events());
        }
        if !stopped {
            let _ = stop.await;
        }
        self.face.flushed().await.map_err(|_| Exit::Output)
    }

    /// A reader that went away is told by the exit code; that is how pipes end.
    fn tell_why_output_ended(&self) {
        match self.face.take_error() {
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                tracing::error!("cannot write the output: {error}");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
