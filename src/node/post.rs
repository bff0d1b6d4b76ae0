//! What is noted in the home, one after the other, in the order in which the engine wanted it.
//!
//! Not ended by a stop: what was wanted before the node stops is done. How much waits is bounded by the engine's
//! own bounds on what it has noted. Texts that were shown meanwhile are noted together, with one write.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::actor::FromGreeter;
use crate::engine::{Code, Failure, Input, OutboxJob, OutboxNews};
use crate::store::{Outbox, Shown};
use crate::wire::{NodeId, TextKey};

/// Entries of the outbox that this process holds at most: as many as the engine takes, and those on their way to it.
pub(super) const MOST_HELD: usize = 512;

/// Tasks that run one after the other.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    last: Option<JoinHandle<()>>,
}

impl InOrder {
    /// Runs it when all before it have ended.
    pub(super) fn run(&mut self, tasks: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        let before = self.last.take();
        self.last = Some(tasks.spawn(async move {
            if let Some(before) = before {
                // One that panicked is no reason not to run this one.
                let _ = before.await;
            }
            task.await;
        }));
    }
}

/// Keeps what waits for others, and notes which texts were shown.
pub(super) struct Post {
    /// `None` where nobody has an identity: then the engine asks for nothing.
    pub(super) home: Option<(Outbox, Shown)>,
    pub(super) done: mpsc::Sender<FromGreeter>,
    pub(super) tasks: TaskTracker,
    in_order: InOrder,
    /// Texts that are to be noted.
    shown: Arc<Mutex<Vec<(NodeId, TextKey)>>>,
}

impl Post {
    pub(super) fn new(
        home: Option<(Outbox, Shown)>,
        done: mpsc::Sender<FromGreeter>,
        tasks: TaskTracker,
    ) -> Self {
        Self { home, done, tasks, in_order: InOrder::default(), shown: Arc::default() }
    }

    pub(super) fn outbox(&mut self, job: OutboxJob) {
        let Some((outbox, _)) = self.home.clone() else { return };
        let done = self.done.clone();
        self.in_order.run(&self.tasks, async move {
            let news = tokio::task::spawn_blocking(move || do_job(&outbox, job)).await;
            if let Ok(Some(input)) = news {
                let _ = done.send(FromGreeter::BookChanged(input)).await;
            }
        });
    }

    pub(super) fn mark(&mut self, from: NodeId, key: TextKey) {
        let Some((_, shown)) = self.home.clone() else { return };
        let waiting = self.shown.clone();
        let was_empty = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((from, key));
            waiting.len() == 1
        };
        // Otherwise the task takes it that was made for the first of them.
        if !was_empty {
            return;
        }
        let done = self.done.clone();
        self.in_order.run(&self.tasks, async move {
            let keys = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
            let noted = tokio::task::spawn_blocking(move || {
                let failure =
                    shown.add(&keys).err().map(|error| Failure::new(Code::DiskError, error.to_string()));
                (keys, failure)
            });
            let Ok((keys, failure)) = noted.await else { return };
            for (from, key) in keys {
                let input = Input::Marked { from, key, failure: failure.clone() };
                if done.send(FromGreeter::BookChanged(input)).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn do_job(outbox: &Outbox, job: OutboxJob) -> Option<Input> {
    match job {
        OutboxJob::Keep(entry) => {
            let key = entry.key;
            Some(Input::Outbox(OutboxNews::Kept { key, result: outbox.keep(entry) }))
        }
        OutboxJob::Remove(key) => {
            let failed = outbox.remove(key).err()?;
            Some(Input::NoteFailed(Failure::new(Code::DiskError, failed.to_string())))
        }
        OutboxJob::TakeOver => Some(Input::Outbox(outbox.take_over(MOST_HELD).unwrap_or_else(|error| {
            let damaged = vec![format!("the outbox cannot be read: {error}")];
            OutboxNews::Found { entries: Vec::new(), elsewhere: 0, damaged }
        }))),
    }
}
