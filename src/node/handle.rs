//! A node from the outside: commands in, events out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Code, Command, Event, Failure, Reply};

/// How many events may wait for whoever watches the node.
pub(super) const EVENTS_QUEUED: usize = 16_384;

/// A command on its way to the actor, with the place for its answer.
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) reply: oneshot::Sender<Result<Reply, Failure>>,
}

/// Gives commands to a running node. Cheap to clone; the node ends when [`NodeHandle::stop`] is called.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) listening: SocketAddr,
}

impl NodeHandle {
    /// The bound address, with the real port.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Gives a command and waits for its answer. Cancel-safe in so far as the command is carried
    /// out whether or not the answer is awaited.
    ///
    /// # Errors
    /// What the node has to say against it; [`Code::ShuttingDown`] where the node is gone.
    pub async fn run(&self, command: Command) -> Result<Reply, Failure> {
        let gone = || Failure::new(Code::ShuttingDown, "the node is shutting down");
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { command, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Stops the node: no new connections or commands, disk jobs that run are finished, partial
    /// files stay, what is queued for peers is written as far as they take it within two seconds.
    /// Returns when all of the node's tasks have ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// What happens in a node, in order.
pub struct Events {
    pub(super) queue: mpsc::Receiver<Event>,
    pub(super) overflowed: Arc<AtomicBool>,
}

impl Events {
    /// The next event; `None` when the node has ended or nobody took its events for so long that
    /// they no longer fit (see [`Events::overflowed`]). Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.queue.recv().await
    }

    /// Whether events were lost because they were not taken. Nothing comes after that: a watcher
    /// that missed something must not believe it saw everything.
    pub fn overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }
}
