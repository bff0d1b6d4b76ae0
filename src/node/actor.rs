//! The one task that owns the engine.
//!
//! It never awaits a peer, a disk or a screen: it takes what happened, lets the engine decide, and
//! hands what is to be done to those who do it, over queues that cannot make it wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handle::{EventSender, Request, Ticket, Told};
use super::jobs::{FromDisk, Jobs};
use crate::engine::{CommandId, ConnId, Engine, Event, Failure, HostPort, Input, Output};
use crate::net::{Charge, Connection, FromPeer, ReceiveBudget, dial};

/// What dials answer.
pub(super) struct Dialled {
    target: HostPort,
    result: Result<(TcpStream, SocketAddr), Failure>,
}

/// Where everything that happens arrives.
pub(super) struct Inbox {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) accepted: mpsc::Receiver<(TcpStream, SocketAddr)>,
    pub(super) dialled: mpsc::Receiver<Dialled>,
    pub(super) from_peers: mpsc::Receiver<FromPeer>,
    pub(super) from_disk: mpsc::Receiver<FromDisk>,
}

/// The senders of which connections and dials get clones.
pub(super) struct Outlets {
    pub(super) dialled: mpsc::Sender<Dialled>,
    pub(super) from_peers: mpsc::Sender<FromPeer>,
}

pub(super) struct Actor {
    pub(super) engine: Engine,
    pub(super) started: Instant,
    pub(super) connections: HashMap<ConnId, Connection>,
    pub(super) last_connection: u64,
    pub(super) tickets: HashMap<CommandId, Ticket>,
    pub(super) last_command: u64,
    pub(super) jobs: Jobs,
    pub(super) events: EventSender,
    /// Of the message that is being dealt with.
    pub(super) charge: Option<Charge>,
    pub(super) budget: ReceiveBudget,
    pub(super) outlets: Outlets,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Actor {
    /// Runs until the node is stopped. Every branch is cancel-safe: a channel's `recv`, a sleep.
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let stop = self.stop.clone();
        loop {
            let deadline = self.engine.poll_timeout().map(|at| self.started + at);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(request) = inbox.requests.recv() => self.on_request(request),
                Some((stream, addr)) = inbox.accepted.recv() => self.on_connection(stream, addr, None),
                Some(dialled) = inbox.dialled.recv() => self.on_dialled(dialled),
                Some(FromPeer { input, charge }) = inbox.from_peers.recv() => {
                    self.charge = charge;
                    self.handle(input);
                    self.charge = None;
                }
                Some(from_disk) = inbox.from_disk.recv() => self.on_disk(from_disk),
                () = sleep_until(deadline) => self.handle(Input::Tick),
            }
        }
        self.handle(Input::Stopping);
        for (_, connection) in self.connections.drain() {
            connection.close();
        }
    }

    fn on_request(&mut self, Request { command, ticket }: Request) {
        self.last_command += 1;
        let id = CommandId(self.last_command);
        self.tickets.insert(id, ticket);
        self.handle(Input::Command { id, command });
    }

    fn on_connection(&mut self, stream: TcpStream, addr: SocketAddr, dialled: Option<HostPort>) {
        crate::net::configure(&stream);
        self.last_connection += 1;
        let conn = ConnId(self.last_connection);
        let connection =
            Connection::spawn(conn, stream.into_split(), &self.outlets.from_peers, &self.budget, &self.tasks);
        self.connections.insert(conn, connection);
        self.handle(Input::Opened { conn, addr, dialled });
    }

    fn on_dialled(&mut self, Dialled { target, result }: Dialled) {
        match result {
            Ok((stream, addr)) => self.on_connection(stream, addr, Some(target)),
            Err(failure) => self.handle(Input::DialFailed { target, failure }),
        }
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
        while let Some(output) = self.engine.poll_output() {
            self.do_output(output);
        }
    }

    fn tell(&mut self, told: Told) {
        // A text is charged until somebody has taken it, so that who floods us is not read.
        let charge = match &told {
            Told::Event(Event::Message { .. }) => self.charge.take(),
            _ => None,
        };
        if !self.events.send(told, charge) {
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
                if let Some(connection) = self.connections.remove(&conn) {
                    connection.close();
                }
            }
            Output::Dial { target } => {
                let (dialled, stop) = (self.outlets.dialled.clone(), self.stop.clone());
                self.tasks.spawn(async move {
                    let work = async {
                        let result = dial(&target).await;
                        // Where nobody listens the node has ended.
                        let _ = dialled.send(Dialled { target, result }).await;
                    };
                    stop.run_until_cancelled(work).await;
                });
            }
            Output::Job { transfer, job } => self.jobs.submit(transfer, job),
            Output::Event(event) => {
                self.tell(Told::Event(event));
            }
            Output::Reply { command, result } => {
                if let Some(ticket) = self.tickets.remove(&command) {
                    self.tell(Told::Answer(ticket, result));
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
