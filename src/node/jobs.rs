//! Runs the engine's jobs on blocking threads.
//!
//! The jobs of one transfer form a strand: they run in order and never two at once, except that those
//! which may run beside each other ([`Job::is_parallel`]) do. Strands run at the same time, a bounded
//! number of jobs in all, in the order in which they became ready.

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

/// Threads that run jobs. More than a disk likes, so that a strand that hangs (a network file system)
/// does not stop the others.
const THREADS: usize = 16;

/// What a thread tells the actor.
#[derive(Debug)]
pub(super) enum FromDisk {
    /// A job was done.
    Done(TransferId, JobDone, Took),
    /// A thread of the strand has nothing to do any more.
    Idle(TransferId),
}

/// The jobs of one transfer.
#[derive(Default)]
struct Strand {
    /// Those that were not begun.
    waiting: VecDeque<Job>,
    /// Threads that run some of them.
    threads: usize,
    /// Whether what runs is one of those that may run beside others.
    in_parallel: bool,
}

/// The strands of a node.
pub(super) struct Jobs {
    disk: Arc<Disk>,
    done: mpsc::Sender<FromDisk>,
    tasks: TaskTracker,
    strands: BTreeMap<TransferId, Strand>,
    /// Strands that may have something to begin.
    ready: VecDeque<TransferId>,
    threads: usize,
    /// Jobs of one strand that may run at the same time.
    parallel: usize,
}

impl Strand {
    /// Takes what one more thread may run now.
    fn take(&mut self, parallel: usize) -> Option<VecDeque<Job>> {
        let may_run_beside = self.waiting.front()?.is_parallel();
        if may_run_beside {
            let fits = self.threads == 0 || (self.in_parallel && self.threads < parallel);
            let job = if fits { self.waiting.pop_front() } else { None }?;
            self.in_parallel = true;
            return Some(VecDeque::from([job]));
        }
        if self.threads > 0 {
            return None;
        }
        self.in_parallel = false;
        let serial = self.waiting.iter().take_while(|job| !job.is_parallel()).count();
        Some(self.waiting.drain(..serial).collect())
    }
}

impl Jobs {
    pub(super) fn new(disk: Disk, done: mpsc::Sender<FromDisk>, tasks: TaskTracker) -> Self {
        let parallel = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
        Self {
            disk: Arc::new(disk),
            done,
            tasks,
            strands: BTreeMap::new(),
            ready: VecDeque::new(),
            threads: 0,
            parallel,
        }
    }

    pub(super) fn submit(&mut self, transfer: TransferId, job: Job) {
        self.strands.entry(transfer).or_default().waiting.push_back(job);
        self.ready.push_back(transfer);
        self.run_ready();
    }

    /// Takes note of [`FromDisk::Idle`].
    pub(super) fn on_idle(&mut self, transfer: TransferId) {
        self.threads -= 1;
        if let Some(strand) = self.strands.get_mut(&transfer) {
            strand.threads -= 1;
            if strand.waiting.is_empty() && strand.threads == 0 {
                self.strands.remove(&transfer);
            } else {
                self.ready.push_back(transfer);
            }
        }
        self.run_ready();
    }

    fn run_ready(&mut self) {
        while self.threads < THREADS
            && let Some(transfer) = self.ready.pop_front()
        {
            let Some(strand) = self.strands.get_mut(&transfer) else { continue };
            let Some(jobs) = strand.take(self.parallel) else { continue };
            strand.threads += 1;
            self.threads += 1;
            if !strand.waiting.is_empty() {
                self.ready.push_back(transfer);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ChunkProof;
    use crate::wire::{ChunkData, Geometry};

    fn chunk_proven_by(by: ChunkProof) -> Job {
        let index = Geometry::new(1).unwrap().index(0).unwrap();
        Job::StoreChunk { index, data: ChunkData(Vec::new().into()), by }
    }

    fn chunk() -> Job {
        chunk_proven_by(ChunkProof::Page)
    }

    #[test]
    fn only_jobs_that_may_run_beside_each_other_do() {
        let release = Job::Release { keep: true };
        let pushed = chunk_proven_by(ChunkProof::Offer);
        let waiting = [
            Job::FreeSpace,
            pushed.clone(),
            pushed.clone(),
            chunk(),
            chunk(),
            chunk(),
            release.clone(),
            chunk(),
        ];
        let mut strand = Strand { waiting: waiting.into(), ..Strand::default() };
        let take = |strand: &mut Strand, threads: usize| {
            strand.threads = threads;
            strand.take(2).map(Vec::from)
        };
        assert_eq!(take(&mut strand, 0), Some(vec![Job::FreeSpace, pushed.clone(), pushed]));
        assert_eq!(take(&mut strand, 1), None, "what comes before them is not done");
        assert_eq!(take(&mut strand, 0), Some(vec![chunk()]));
        assert_eq!(take(&mut strand, 1), Some(vec![chunk()]));
        assert_eq!(take(&mut strand, 2), None, "there are as many threads as may be");
        assert_eq!(take(&mut strand, 1), Some(vec![chunk()]));
        assert_eq!(take(&mut strand, 1), None, "a chunk is still being stored");
        assert_eq!(take(&mut strand, 0), Some(vec![release]));
        assert_eq!(take(&mut strand, 1), None, "the file is being released");
        assert_eq!(take(&mut strand, 0), Some(vec![chunk()]));
    }
}
