//! A node from the outside: commands in; events and answers out, in the order in which they came
//! to be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Command, Event, Failure, Reply};

/// How many events may wait for whoever watches the node.
const EVENTS_QUEUED: usize = 16_384;

/// How many bytes of text they may hold together.
const EVENT_BYTES_QUEUED: usize = 64 << 20;

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
    /// files stay, what is queued for peers is written as far as they take it within two seconds.
    /// Returns when all of the node's tasks have ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// What is known at both ends of the queue of events.
#[derive(Debug, Default)]
struct Fill {
    bytes: AtomicUsize,
    overflowed: AtomicBool,
}

/// The node's end of the queue of events.
#[derive(Debug)]
pub(super) struct EventSender {
    /// `None` once something was lost.
    queue: Option<mpsc::Sender<Told>>,
    fill: Arc<Fill>,
}

/// What happens in a node, in order.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Told>,
    fill: Arc<Fill>,
}

/// A bounded queue that never makes its sender wait.
pub(super) fn event_queue() -> (EventSender, Events) {
    let (sender, receiver) = mpsc::channel(EVENTS_QUEUED);
    let fill = Arc::new(Fill::default());
    (EventSender { queue: Some(sender), fill: fill.clone() }, Events { queue: receiver, fill })
}

impl EventSender {
    /// `false` where something was lost: the queue is full of what nobody took. A progress event is
    /// not missed.
    pub(super) fn send(&mut self, told: Told) -> bool {
        let Some(queue) = &self.queue else { return false };
        let is_progress = matches!(told, Told::Event(Event::Progress { .. }));
        let text = text_bytes(&told);
        if self.fill.bytes.fetch_add(text, Ordering::Relaxed) + text <= EVENT_BYTES_QUEUED {
            match queue.try_send(told) {
                Ok(()) => return true,
                // Nobody wants to know: a node may be driven by commands alone.
                Err(mpsc::error::TrySendError::Closed(_)) => return true,
                Err(mpsc::error::TrySendError::Full(_)) if is_progress => return true,
                Err(mpsc::error::TrySendError::Full(_)) => {}
            }
        }
        self.fill.overflowed.store(true, Ordering::Release);
        self.queue = None;
        false
    }
}

fn text_bytes(told: &Told) -> usize {
    match told {
        Told::Event(Event::Message { text, .. }) => text.len(),
        _ => 0,
    }
}

impl Events {
    /// The next thing told; `None` when the node has ended or nobody took its events for so long that
    /// they no longer fit (see [`Events::overflowed`]). Cancel-safe.
    pub async fn next(&mut self) -> Option<Told> {
        let told = self.queue.recv().await?;
        self.fill.bytes.fetch_sub(text_bytes(&told), Ordering::Relaxed);
        Some(told)
    }

    /// Whether events were lost because they were not taken. Nothing comes after that: a watcher
    /// that missed something must not believe it saw everything. The node stops itself then.
    pub fn overflowed(&self) -> bool {
        self.fill.overflowed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: String) -> Told {
        Told::Event(Event::Message { peer: ([127, 0, 0, 1], 1).into(), text })
    }

    #[tokio::test]
    async fn events_that_nobody_takes_overflow_in_number_and_in_bytes_and_none_is_skipped() {
        for text in [String::new(), "x".repeat(1 << 20)] {
            let (mut sender, mut events) = event_queue();
            let mut sent = 0;
            while sender.send(message(text.clone())) {
                sent += 1;
            }
            assert!(sent <= EVENTS_QUEUED && sent * text.len() <= EVENT_BYTES_QUEUED);
            assert!(!sender.send(message(String::new())), "nothing follows a gap");
            assert!(events.overflowed());
            let mut taken = 0;
            while events.next().await.is_some() {
                taken += 1;
            }
            assert_eq!(taken, sent);
        }
    }

    #[tokio::test]
    async fn a_watcher_that_keeps_up_loses_nothing() {
        let (mut sender, mut events) = event_queue();
        for _ in 0..200 {
            assert!(sender.send(message("x".repeat(1 << 20))));
            assert!(events.next().await.is_some());
        }
    }
}
