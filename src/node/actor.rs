//! The one task that owns the engine.
//!
//! It never awaits a peer, a disk or a screen: it takes what happened, lets the engine decide, and
//! hands what is to be done to those who do it, over queues that cannot make it wait.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::circuits::Circuits;
use super::greet::{Greeted, Greeter, NotGreeted, Place, Secure, Strangers, Stream, in_plaintext};
use super::handle::{EventSender, Receipt, Request, Ticket, Told};
use super::history::History;
use super::jobs::{FromDisk, Jobs};
use super::post::{InOrder, Post};
use crate::engine::{
    Change, Code, CommandId, ConnId, Dialled, Engine, Event, Failure, HostPort, Input, Output, Purpose,
    Reading, Shared, StreamId, Target,
};
use crate::net::{Charge, Connection, Desk, FromPeer, HandshakeError, ReceiveBudget, configure};
use crate::wire::{CircuitPart, FileHash, FrameDecoder, Message, NodeId};

/// How long those who are connected through another have to hear that this node ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What came of greeting somebody, or of noting something about others.
pub(super) enum FromGreeter {
    /// We connected, or could not.
    Dialled(Dialled, Result<Greeted, Failure>),
    /// Somebody connected: the number of its place among the strangers, and who it is. `None`
    /// where its place was given to another.
    Accepted(u64, Entrance, Option<Result<Greeted, NotGreeted>>),
    /// Who is at the other end of a circuit that this node wanted.
    Circuit(StreamId, Result<Greeted, Failure>),
    /// What [`Output::ChangeBook`] led to, and others that work on the home.
    BookChanged(Input),
}

/// Where somebody came from who connected.
#[derive(Clone, Copy)]
pub(super) enum Entrance {
    /// An address.
    Socket(SocketAddr),
    /// A circuit.
    Circuit(StreamId),
}

impl Entrance {
    fn addr(self) -> SocketAddr {
        match self {
            Self::Socket(addr) => addr,
            Self::Circuit(stream) => stream.addr(),
        }
    }

    fn stream(self) -> Option<StreamId> {
        match self {
            Self::Socket(_) => None,
            Self::Circuit(stream) => Some(stream),
        }
    }
}

/// Where everything that happens arrives.
pub(super) struct Inbox {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) accepted: mpsc::Receiver<(TcpStream, SocketAddr)>,
    pub(super) greeted: mpsc::Receiver<FromGreeter>,
    pub(super) from_peers: mpsc::Receiver<FromPeer>,
    pub(super) from_disk: mpsc::Receiver<FromDisk>,
    /// Texts that were taken.
    pub(super) shown: mpsc::Receiver<(ConnId, u64)>,
    /// What a DHT, the local network and a router say, and where this machine is reached.
    pub(super) from_around: mpsc::Receiver<Input>,
}

/// The senders of which connections and dials get clones.
pub(super) struct Outlets {
    pub(super) greeted: mpsc::Sender<FromGreeter>,
    pub(super) from_peers: mpsc::Sender<FromPeer>,
    pub(super) shown: mpsc::Sender<(ConnId, u64)>,
}

pub(super) struct Actor {
    pub(super) engine: Engine,
    pub(super) started: Instant,
    pub(super) connections: HashMap<ConnId, Connection>,
    /// Those of them that go through another peer.
    pub(super) over_circuits: HashSet<ConnId>,
    pub(super) last_connection: u64,
    pub(super) tickets: HashMap<CommandId, Ticket>,
    pub(super) last_command: u64,
    pub(super) jobs: Jobs,
    pub(super) events: EventSender,
    /// Of the message that is being dealt with.
    pub(super) charge: Option<Charge>,
    pub(super) budget: ReceiveBudget,
    pub(super) greeter: Greeter,
    pub(super) strangers: Strangers,
    pub(super) history: History,
    /// The notes of what is shared.
    pub(super) keeping: InOrder,
    pub(super) post: Post,
    pub(super) circuits: Circuits,
    pub(super) outlets: Outlets,
    /// What is wanted of a DHT. Nobody attends to it where the node takes part in none.
    pub(super) dht: Desk,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Actor {
    /// Runs until the node is stopped. Every branch is cancel-safe: a channel's `recv`, a sleep.
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let stop = self.stop.clone();
        self.do_outputs();
        loop {
            let deadline = self.engine.poll_timeout().map(|at| self.started + at);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(request) = inbox.requests.recv() => self.on_request(request),
                Some((stream, addr)) = inbox.accepted.recv() => self.greet(stream, addr),
                Some(from_greeter) = inbox.greeted.recv() => self.on_greeted(from_greeter),
                Some(FromPeer { input, charge }) = inbox.from_peers.recv() => {
                    self.charge = charge;
                    self.handle(input);
                    self.charge = None;
                }
                Some(from_disk) = inbox.from_disk.recv() => self.on_disk(from_disk),
                Some(input) = inbox.from_around.recv() => self.handle(input),
                Some((conn, id)) = inbox.shown.recv() => self.handle(Input::Shown { conn, id }),
                () = sleep_until(deadline) => self.handle(Input::Tick),
            }
        }
        let _ = timeout(LAST_WORDS, self.acknowledge_shown(&mut inbox)).await;
        self.handle(Input::Stopping);
        let _ = timeout(LAST_WORDS, self.end_circuits(&mut inbox.from_peers)).await;
        self.history.finish();
        for (_, connection) in self.connections.drain() {
            connection.close();
        }
    }

    /// Has what was shown noted, so that those who said it hear of that before they hear of the end.
    async fn acknowledge_shown(&mut self, inbox: &mut Inbox) {
        while let Ok((conn, id)) = inbox.shown.try_recv() {
            self.handle(Input::Shown { conn, id });
        }
        while self.engine.notes_shown() {
            let Some(from_greeter) = inbox.greeted.recv().await else { return };
            // Of all else nothing comes any more.
            if let FromGreeter::BookChanged(input @ Input::Marked { .. }) = from_greeter {
                self.handle(input);
            }
        }
    }

    /// Closes the connections that go through other peers, before those to these peers, and passes on what they say last.
    async fn end_circuits(&mut self, from_peers: &mut mpsc::Receiver<FromPeer>) {
        for conn in std::mem::take(&mut self.over_circuits) {
            if let Some(connection) = self.connections.remove(&conn) {
                connection.close();
            }
        }
        let mut open = self.circuits.open_ones();
        while !open.is_empty() {
            let Some(FromPeer { input, .. }) = from_peers.recv().await else { return };
            match &input {
                Input::Stream { stream, part: CircuitPart::End { .. } } => _ = open.remove(stream),
                // Its last words were before that.
                Input::Stream { stream, part: CircuitPart::Data(bytes) } if bytes.is_empty() => {
                    open.remove(stream);
                }
                Input::Stream { .. } | Input::Received { message: Message::Circuit { .. }, .. } => {}
                // Of all else nothing comes any more.
                _ => continue,
            }
            self.handle(input);
        }
    }

    fn on_request(&mut self, Request { command, ticket }: Request) {
        self.last_command += 1;
        let id = CommandId(self.last_command);
        self.tickets.insert(id, ticket);
        self.handle(Input::Command { id, command });
    }

    fn greet(&mut self, stream: TcpStream, addr: SocketAddr) {
        let secure = match &self.greeter {
            Greeter::Plain => return self.on_connection(in_plaintext(stream, addr), None, None),
            Greeter::Secure(secure) => secure.clone(),
        };
        configure(&stream);
        self.accept(secure, stream, Entrance::Socket(addr));
    }

    fn accept(&mut self, secure: Arc<Secure>, stream: impl Stream, from: Entrance) {
        let addr = from.addr();
        let Place { number, spoke, leave } = self.strangers.admit(addr.ip());
        let (greeted, stop) = (self.outlets.greeted.clone(), self.stop.clone());
        self.spawn_until(stop, async move {
            let accepting = secure.accept(stream, addr, || spoke.store(true, Ordering::Relaxed));
            let result = leave.run_until_cancelled(accepting).await;
            let _ = greeted.send(FromGreeter::Accepted(number, from, result)).await;
        });
    }

    /// Greets who is at the other end of a circuit.
    fn greet_through(&mut self, id: StreamId, wanted: Option<NodeId>) {
        // In plaintext the engine knows no circuits.
        let Greeter::Secure(secure) = self.greeter.clone() else { return };
        let (stream, pump) = self.circuits.open(id, self.outlets.from_peers.clone());
        // Not ended by a stop: it passes on the last words.
        self.tasks.spawn(pump);
        if wanted.is_none() {
            return self.accept(secure, stream, Entrance::Circuit(id));
        }
        let (greeted, stop) = (self.outlets.greeted.clone(), self.stop.clone());
        self.spawn_until(stop, async move {
            let target = Target { address: HostPort::from(id.addr()), id: wanted };
            let dialled = Dialled { target, why: Purpose::Named };
            let result = secure.dialled(stream, id.addr(), &dialled).await;
            let _ = greeted.send(FromGreeter::Circuit(id, result)).await;
        });
    }

    fn dial(&mut self, dialled: Dialled) {
        let (greeter, greeted, stop) =
            (self.greeter.clone(), self.outlets.greeted.clone(), self.stop.clone());
        self.spawn_until(stop, async move {
            let result = greeter.dial(&dialled).await;
            let _ = greeted.send(FromGreeter::Dialled(dialled, result)).await;
        });
    }

    fn change_book(
        &mut self,
        changes: Vec<Change>,
        input: impl FnOnce(Result<Reading, Failure>) -> Input + Send + 'static,
    ) {
        let (greeter, greeted) = (self.greeter.clone(), self.outlets.greeted.clone());
        // Not ended by a stop: what a person wants noted is noted.
        self.tasks.spawn(async move {
            let input = input(greeter.change_book(changes).await);
            let _ = greeted.send(FromGreeter::BookChanged(input)).await;
        });
    }

    fn keep_share(&mut self, kept: Result<Shared, FileHash>) {
        let (greeter, greeted) = (self.greeter.clone(), self.outlets.greeted.clone());
        self.keeping.run(&self.tasks, async move {
            if let Err(failure) = greeter.keep_share(kept).await {
                let _ = greeted.send(FromGreeter::BookChanged(Input::NoteFailed(failure))).await;
            }
        });
    }

    /// Runs a task that nobody needs once the node stops. Where nobody takes its result then, that
    /// is no loss.
    fn spawn_until(&self, stop: CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(stop.run_until_cancelled_owned(task));
    }

    fn on_greeted(&mut self, from_greeter: FromGreeter) {
        match from_greeter {
            FromGreeter::Dialled(dialled, Ok(greeted)) => self.on_connection(greeted, Some(dialled), None),
            FromGreeter::Circuit(stream, Ok(greeted)) => self.on_connection(greeted, None, Some(stream)),
            FromGreeter::Circuit(stream, Err(failure)) => {
                self.handle(Input::StreamFailed { stream, failure });
            }
            FromGreeter::Dialled(dialled, Err(failure)) => {
                self.handle(Input::DialFailed { dialled, failure });
            }
            FromGreeter::Accepted(number, from, result) => {
                self.strangers.left(number);
                let addr = from.addr();
                if let (Some(stream), Some(Err(_)) | None) = (from.stream(), &result) {
                    let failure =
                        Failure::new(Code::HandshakeFailed, "nobody could be greeted over a circuit");
                    self.handle(Input::StreamFailed { stream, failure });
                }
                match result {
                    Some(Ok(greeted)) => self.on_connection(greeted, None, from.stream()),
                    Some(Err(NotGreeted::Handshake(HandshakeError::Broken(error)))) => {
                        // A port scan, a monitor, a change of mind.
                        tracing::debug!("{addr}: left during the handshake: {error}");
                    }
                    Some(Err(error)) => self.handle(Input::TurnedAway { addr, why: error.to_string() }),
                    None => tracing::debug!("{addr}: closed: it said nothing, and others want its place"),
                }
            }
            FromGreeter::BookChanged(input) => self.handle(input),
        }
    }

    fn on_connection(&mut self, greeted: Greeted, dialled: Option<Dialled>, stream: Option<StreamId>) {
        let Greeted { halves, addr, node_id, binding, first_contact, book, shown } = greeted;
        self.last_connection += 1;
        let conn = ConnId(self.last_connection);
        let decoder = match node_id {
            None => FrameDecoder::plaintext(),
            Some(_) => FrameDecoder::encrypted(),
        };
        let connection =
            Connection::spawn(conn, halves, decoder, &self.outlets.from_peers, &self.budget, &self.tasks);
        self.connections.insert(conn, connection);
        if stream.is_some() {
            self.over_circuits.insert(conn);
        }
        if let Some(book) = book {
            self.handle(Input::BookRead(book));
        }
        if !shown.is_empty() {
            self.handle(Input::KeysRead(shown));
        }
        self.handle(Input::Opened { conn, addr, dialled, binding, node_id, first_contact, stream });
    }

    fn on_disk(&mut self, from_disk: FromDisk) {
        match from_disk {
            FromDisk::Done(transfer, done, took) => self.handle(Input::JobDone { transfer, done, took }),
            FromDisk::Idle(transfer) => self.jobs.on_idle(transfer),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(self.now(), input);
        self.do_outputs();
    }

    fn do_outputs(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.do_output(output);
        }
    }

    fn tell(&mut self, told: Told, receipt: Option<Receipt>) {
        // A text is charged until somebody has taken it, so that who floods us is not read.
        let charge = match &told {
            Told::Event(Event::Message { .. }) => self.charge.take(),
            _ => None,
        };
        if !self.events.send(told, charge, receipt) {
            // Whoever watched must not believe it saw everything; it stops the node.
            self.stop.cancel();
        }
    }

    fn do_output(&mut self, output: Output) {
        match output {
            Output::Send { conn, message } => {
                if let Some(connection) = self.connections.get(&conn) {
                    connection.send(message);
                }
            }
            Output::Close { conn } => {
                self.over_circuits.remove(&conn);
                if let Some(connection) = self.connections.remove(&conn) {
                    connection.close();
                }
            }
            Output::Dial(dialled) => self.dial(dialled),
            Output::Announce { key } => self.dht.announce(key),
            Output::AnnouncePort { port } => self.dht.announce_with(port),
            Output::Withdraw { key } => self.dht.withdraw(key),
            Output::LookUp { id, key } => self.dht.look_up(id, key),
            Output::StopLooking { id } => self.dht.stop_looking(id),
            Output::OpenStream { stream, wanted } => self.greet_through(stream, wanted),
            Output::Stream { stream, part } => self.circuits.heard(stream, part),
            Output::Note(changes) => self.change_book(changes, |result| match result {
                Ok(reading) => Input::BookRead(reading),
                Err(failure) => Input::NoteFailed(failure),
            }),
            Output::KeepShare(shared) => self.keep_share(Ok(shared)),
            Output::DropShare(hash) => self.keep_share(Err(hash)),
            Output::Remember(of) => self.history.keep(of),
            Output::ReadHistory { command, query } => {
                let greeted = self.outlets.greeted.clone();
                self.history.read(query, move |result| async move {
                    let input = Input::HistoryRead { command, result };
                    let _ = greeted.send(FromGreeter::BookChanged(input)).await;
                });
            }
            Output::Outbox(job) => self.post.outbox(job),
            Output::Mark { from, key } => self.post.mark(from, key),
            Output::ChangeBook { command, change, reply } => {
                self.change_book(vec![change], move |result| Input::BookChanged { command, result, reply });
            }
            Output::Pin { conn, address, id } => {
                self.change_book(vec![Change::Pin(address, id)], move |result| Input::Pinned {
                    conn,
                    result,
                });
            }
            Output::Job { transfer, job } => self.jobs.submit(transfer, job),
            Output::Event(event) => {
                self.tell(Told::Event(event), None);
            }
            Output::Show { conn, peer, id, text } => {
                let receipt = Receipt { conn, id, shown: self.outlets.shown.clone() };
                self.tell(Told::Event(Event::Message { peer, text }), Some(receipt));
            }
            Output::Reply { command, result } => {
                if let Some(ticket) = self.tickets.remove(&command) {
                    self.tell(Told::Answer(ticket, result), None);
                }
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
