//! A node that a test plays itself, behind a real handle: for front ends.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handle::{EventSender, Events, NodeHandle, Request, Ticket, Told, event_queue};
use crate::engine::{Command, Event, Failure, Reply};

/// The inside of a node.
pub(crate) struct FakeNode {
    requests: mpsc::Receiver<Request>,
    events: EventSender,
    stop: CancellationToken,
}

impl FakeNode {
    /// A fake, and what the outside of a node sees of it.
    pub(crate) fn new() -> (Self, (NodeHandle, Events)) {
        let (requests, received) = mpsc::channel(16);
        let (events, watched) = event_queue();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.close();
        let listening = ([127, 0, 0, 1], 8000).into();
        let handle = NodeHandle { requests, stop: stop.clone(), tasks, listening };
        (Self { requests: received, events, stop }, (handle, watched))
    }

    /// The next command that is given, and what its answer is to be called. Who is known is asked
    /// for completing only, and never answered here.
    pub(crate) async fn command(&mut self) -> (Command, Ticket) {
        loop {
            let Request { command, ticket } = self.requests.recv().await.expect("the front end has gone");
            if command != Command::Book {
                return (command, ticket);
            }
        }
    }

    /// Answers a command; `false` where the answer no longer fits.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Result<Reply, Failure>) -> bool {
        self.events.send(Told::Answer(ticket, answer), None, None)
    }

    /// A command if one has been given already.
    pub(crate) fn command_now(&mut self) -> Option<Command> {
        std::iter::from_fn(|| self.requests.try_recv().ok())
            .map(|request| request.command)
            .find(|command| *command != Command::Book)
    }

    /// Something happens; `false` where it no longer fits.
    pub(crate) fn emit(&mut self, event: Event) -> bool {
        self.events.send(Told::Event(event), None, None)
    }

    /// Returns when the node is told to stop; then it may end with [`FakeNode::end`].
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// There are no more events.
    pub(crate) fn end(self) {}
}
