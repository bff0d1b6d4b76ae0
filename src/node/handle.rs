//! A node from the outside: commands in; events and answers out, in the order in which they came
//! to be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Command, ConnId, Event, Failure, Reply};
use crate::net::Charge;

/// How many events may wait for whoever watches the node.
const EVENTS_QUEUED: usize = 16_384;

/// A command on its way to the actor.
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) ticket: Ticket,
}

/// What tells an answer's command from others: a number of the asker's choice.
pub type Ticket = u64;

/// The node is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has ended")]
pub struct Gone;

/// What a node tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something happened.
    Event(Event),
    /// A command was carried out, or not. What it led to is told after it, and what was told
    /// before it had happened before.
    Answer(Ticket, Result<Reply, Failure>),
}

/// Gives commands to a running node. Cheap to clone.
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

    /// Gives a command, whose answer is told under its ticket. Waits only until the node takes it.
    ///
    /// # Errors
    /// Where there is no node any more.
    pub async fn ask(&self, ticket: Ticket, command: Command) -> Result<(), Gone> {
        self.requests.send(Request { command, ticket }).await.map_err(|_| Gone)
    }

    /// Stops the node: no new connections or commands, disk jobs that run are finished, partial
    /// files stay, what is queued for peers is written as far as they take it within two seconds, and for those
    /// that are connected through others within two seconds before that.
    /// Returns when all of the node's tasks have ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Something told, what it is charged to until it is taken, and who wants to know when it was.
type Queued = (Told, Option<Charge>, Option<Receipt>);

/// Tells that a text is before whoever watches. One that is dropped without that tells nothing: its text was lost
/// on the way, and is said again.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) conn: ConnId,
    pub(super) id: u64,
    pub(super) shown: mpsc::Sender<(ConnId, u64)>,
}

impl Receipt {
    fn tell(self) {
        // Where the node has ended nobody needs to know. There is room for more than the texts that
        // the budget lets wait; one whose receipt is lost would be said again, and dropped as a repeat.
        let _ = self.shown.try_send((self.conn, self.id));
    }
}

/// The node's end of the queue of events.
#[derive(Debug)]
pub(super) struct EventSender {
    /// `None` once something was lost.
    queue: Option<mpsc::Sender<Queued>>,
    overflowed: Arc<AtomicBool>,
}

/// What happens in a node, in order.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Queued>,
    overflowed: Arc<AtomicBool>,
    /// Of what was taken last: whoever asks for the next thing has passed it on.
    last: Option<Receipt>,
}

/// A bounded queue that never makes its sender wait. The texts in it are bounded by what they are
/// charged to: whoever sends many is not read on, and takes nobody else's place.
pub(super) fn event_queue() -> (EventSender, Events) {
    let (sender, receiver) = mpsc::channel(EVENTS_QUEUED);
    let overflowed = Arc::new(AtomicBool::new(false));
    (
        EventSender { queue: Some(sender), overflowed: overflowed.clone() },
        Events { queue: receiver, overflowed, last: None },
    )
}

impl EventSender {
    /// `false` where something was lost: the queue is full of what nobody took. Progress and lines
    /// for the log are not missed.
    pub(super) fn send(&mut self, told: Told, charge: Option<Charge>, receipt: Option<Receipt>) -> bool {
        let Some(queue) = &self.queue else { return false };
        let may_be_lost = matches!(told, Told::Event(Event::Progress { .. } | Event::Warning { .. }));
        if may_be_lost && queue.capacity() < EVENTS_QUEUED / 2 {
            return true;
        }
        match queue.try_send((told, charge, receipt)) {
            // Where nobody wants to know, that is no loss: a node may be driven by commands alone.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.overflowed.store(true, Ordering::Release);
                self.queue = None;
                false
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.tell_last();
    }
}

impl Events {
    fn tell_last(&mut self) {
        if let Some(receipt) = self.last.take() {
            receipt.tell();
        }
    }

    /// The next thing told; `None` when the node has ended or nobody took its events for so long
    /// that they no longer fit (see [`Events::overflowed`]). A text counts as shown when the next thing is
    /// asked for. Cancel-safe.
    pub async fn next(&mut self) -> Option<Told> {
        self.tell_last();
        let (told, _, receipt) = self.queue.recv().await?;
        self.last = receipt;
        Some(told)
    }

    /// Whether events were lost because they were not taken. Nothing comes after that: a watcher
    /// that missed something must not believe it saw everything. The node stops itself then.
    pub fn overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Told {
        Told::Event(Event::Message { peer: ([127, 0, 0, 1], 1).into(), text: String::new() })
    }

    #[tokio::test]
    async fn events_that_nobody_takes_overflow_and_none_is_skipped() {
        let (mut sender, mut events) = event_queue();
        let mut sent = 0;
        while sender.send(message(), None, None) {
            sent += 1;
        }
        assert_eq!(sent, EVENTS_QUEUED);
        assert!(!sender.send(message(), None, None), "nothing follows a gap");
        assert!(events.overflowed());
        let mut taken = 0;
        while events.next().await.is_some() {
            taken += 1;
        }
        assert_eq!(taken, sent);
    }

    #[tokio::test]
    async fn a_text_counts_as_shown_when_the_next_thing_is_asked_for() {
        let (mut sender, mut events) = event_queue();
        let (shown, mut receipts) = mpsc::channel(1);
        sender.send(message(), None, Some(Receipt { conn: ConnId(1), id: 7, shown }));
        assert_eq!(events.next().await, Some(message()));
        assert!(receipts.try_recv().is_err(), "whoever took it may be killed before it is on the screen");
        sender.send(Told::Answer(1, Ok(Reply::Done)), None, None);
        assert!(events.next().await.is_some());
        assert_eq!(receipts.try_recv(), Ok((ConnId(1), 7)));
    }

    #[tokio::test]
    async fn lines_for_the_log_never_fill_the_queue() {
        let (mut sender, mut events) = event_queue();
        for _ in 0..2 * EVENTS_QUEUED {
            assert!(sender.send(Told::Event(Event::Warning { peer: None, text: String::new() }), None, None));
        }
        assert!(sender.send(message(), None, None));
        let mut taken = 0;
        while events.next().await != Some(message()) {
            taken += 1;
        }
        assert!(taken <= EVENTS_QUEUED / 2 + 1 && !events.overflowed());
    }
}
