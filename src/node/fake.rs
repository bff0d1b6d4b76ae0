//! A node that a test plays itself, behind a real handle: for front ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handle::{Events, NodeHandle, Request};
use crate::engine::{Command, Event, Failure, Reply};

/// The inside of a node.
pub(crate) struct FakeNode {
    requests: mpsc::Receiver<Request>,
    events: Option<mpsc::Sender<Event>>,
    overflowed: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl FakeNode {
    /// A fake, and what the outside of a node sees of it.
    pub(crate) fn new() -> (Self, (NodeHandle, Events)) {
        let (requests, received) = mpsc::channel(16);
        let (events, queue) = mpsc::channel(16);
        let (stop, overflowed, tasks) = (CancellationToken::new(), Arc::default(), TaskTracker::new());
        tasks.close();
        let listening = ([127, 0, 0, 1], 8000).into();
        let handle = NodeHandle { requests, stop: stop.clone(), tasks, listening };
        let watched = Events { queue, overflowed: Arc::clone(&overflowed) };
        (Self { requests: received, events: Some(events), overflowed, stop }, (handle, watched))
    }

    /// The next command that is given, and where its answer goes.
    pub(crate) async fn command(&mut self) -> (Command, oneshot::Sender<Result<Reply, Failure>>) {
        let Request { command, reply } = self.requests.recv().await.expect("the front end has gone");
        (command, reply)
    }

    /// A command if one has been given already.
    pub(crate) fn command_now(&mut self) -> Option<Command> {
        self.requests.try_recv().ok().map(|request| request.command)
    }

    /// Something happens.
    pub(crate) async fn emit(&self, event: Event) {
        self.events.as_ref().expect("it has not ended").send(event).await.expect("the front end has gone");
    }

    /// The events did not fit any more.
    pub(crate) fn overflow(&mut self) {
        self.overflowed.store(true, Ordering::Release);
        self.events = None;
    }

    /// Returns when the node is told to stop; then it may end with [`FakeNode::end`].
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// There are no more events.
    pub(crate) fn end(self) {}
}
