//! Runs the engine's jobs on blocking threads.
//!
//! The jobs of one transfer form a strand: they run in order and never two at once. Strands run at
//! the same time, a bounded number of them, in the order in which they became ready.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::engine::{Code, Failure, Job, JobDone, Took, TransferId};
use crate::store::Disk;

fn panicked() -> Failure {
    Failure::new(Code::DiskError, "an internal error; the log has more, and it should be reported")
}

/// Strands that run at the same time. More than a disk likes, so that one that hangs (a network
/// file system) does not stop the others.
const STRANDS_AT_ONCE: usize = 16;

/// What a strand tells the actor.
#[derive(Debug)]
pub(super) enum FromDisk {
    /// A job was done.
    Done(TransferId, JobDone, Took),
    /// The strand has nothing to do any more.
    Idle(TransferId),
}

/// The strands of a node.
pub(super) struct Jobs {
    disk: Arc<Disk>,
    done: mpsc::Sender<FromDisk>,
    tasks: TaskTracker,
    /// Jobs not begun, of transfers that run or are ready.
    waiting: BTreeMap<TransferId, VecDeque<Job>>,
    ready: VecDeque<TransferId>,
    running: usize,
}

impl Jobs {
    pub(super) fn new(disk: Disk, done: mpsc::Sender<FromDisk>, tasks: TaskTracker) -> Self {
        Self {
            disk: Arc::new(disk),
            done,
            tasks,
            waiting: BTreeMap::new(),
            ready: VecDeque::new(),
            running: 0,
        }
    }

    pub(super) fn submit(&mut self, transfer: TransferId, job: Job) {
        self.waiting
            .entry(transfer)
            .or_insert_with(|| {
                self.ready.push_back(transfer);
                VecDeque::new()
            })
            .push_back(job);
        self.run_ready();
    }

    /// Takes note of [`FromDisk::Idle`].
    pub(super) fn on_idle(&mut self, transfer: TransferId) {
        self.running -= 1;
        if self.waiting.get(&transfer).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&transfer);
        } else {
            self.ready.push_back(transfer);
        }
        self.run_ready();
    }

    fn run_ready(&mut self) {
        while self.running < STRANDS_AT_ONCE
            && let Some(transfer) = self.ready.pop_front()
        {
            let Some(jobs) = self.waiting.get_mut(&transfer).map(std::mem::take) else { continue };
            self.running += 1;
            let (disk, done) = (self.disk.clone(), self.done.clone());
            self.tasks.spawn_blocking(move || {
                for job in jobs {
                    // A bug that a job runs into is the end of its transfer, not of all.
                    let (result, took) = catch_unwind(AssertUnwindSafe(|| disk.run(transfer, job)))
                        .unwrap_or_else(|_| (JobDone::Failed(panicked()), Took::default()));
                    // Where nobody listens the node has ended, and what is not begun is left.
                    if done.blocking_send(FromDisk::Done(transfer, result, took)).is_err() {
                        return;
                    }
                }
                let _ = done.blocking_send(FromDisk::Idle(transfer));
            });
        }
    }
}
