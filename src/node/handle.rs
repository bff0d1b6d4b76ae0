//! A node from the outside: commands in, events out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Code, Command, Event, Failure, Reply};

/// How many events may wait for whoever watches the node.
const EVENTS_QUEUED: usize = 16_384;

/// How many bytes of text they may hold together.
const EVENT_BYTES_QUEUED: usize = 64 << 20;

/// A command on its way to the actor, with the place for its answer.
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) reply: oneshot::Sender<Result<Reply, Failure>>,
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

    /// Gives a command and waits for its answer. Once given it is carried out whether or not the
    /// answer is awaited.
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
    queue: Option<mpsc::Sender<Event>>,
    fill: Arc<Fill>,
}

/// What happens in a node, in order.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    fill: Arc<Fill>,
}

/// A bounded queue of events that never makes its sender wait.
pub(super) fn event_queue() -> (EventSender, Events) {
    let (sender, receiver) = mpsc::channel(EVENTS_QUEUED);
    let fill = Arc::new(Fill::default());
    (EventSender { queue: Some(sender), fill: fill.clone() }, Events { queue: receiver, fill })
}

impl EventSender {
    /// `false` where an event was lost: the queue is full of what nobody took. A progress event is
    /// not missed.
    pub(super) fn send(&mut self, event: Event) -> bool {
        let Some(queue) = &self.queue else { return false };
        let is_progress = matches!(event, Event::Progress { .. });
        let text = text_bytes(&event);
        if self.fill.bytes.fetch_add(text, Ordering::Relaxed) + text <= EVENT_BYTES_QUEUED {
            match queue.try_send(event) {
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

fn text_bytes(event: &Event) -> usize {
    match event {
        Event::Message { text, .. } => text.len(),
        _ => 0,
    }
}

impl Events {
    /// The next event; `None` when the node has ended or nobody took its events for so long that
    /// they no longer fit (see [`Events::overflowed`]). Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.queue.recv().await?;
        self.fill.bytes.fetch_sub(text_bytes(&event), Ordering::Relaxed);
        Some(event)
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

    fn message(text: String) -> Event {
        Event::Message { peer: ([127, 0, 0, 1], 1).into(), text }
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
