//! The history of a node: what is to be kept is written by tasks, one after the other.
//!
//! Invariants: keeping something never waits; what was to be kept before somebody reads is read; what
//! waits to be written is bounded, and where a disk takes nothing, that is told once until it does again.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::{Timestamp, Unit};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::greet::Greeter;
use crate::engine::{
    Code, Failure, HistoryEntry, HistoryLine, HistoryQuery, Past, Remembered, bytes_in, fit,
};
use crate::store::{Home, HomeError, MAX_HISTORY_BYTES};

/// The history of one node.
pub(super) struct History {
    /// Where it is kept, or why it is not.
    keeper: Result<Arc<Keeper>, Failure>,
    /// The last task: the next one waits for it.
    last: Option<JoinHandle<()>>,
    tasks: TaskTracker,
}

struct Keeper {
    home: Home,
    waiting: Mutex<Waiting>,
}

/// What is not written yet.
#[derive(Default)]
struct Waiting {
    lines: Vec<HistoryLine>,
    /// Bytes of them.
    bytes: usize,
    /// Whether a task will write them.
    is_scheduled: bool,
    /// Whether the last try failed.
    is_troubled: bool,
}

impl Waiting {
    fn add(&mut self, lines: Vec<HistoryLine>) {
        self.bytes += bytes_in(&lines);
        self.lines.extend(lines);
        if self.bytes > MAX_HISTORY_BYTES {
            // Half, so that it is not done for each that comes.
            self.lines = fit(std::mem::take(&mut self.lines), MAX_HISTORY_BYTES / 2);
            self.bytes = bytes_in(&self.lines);
        }
    }

    fn take(&mut self) -> Vec<HistoryLine> {
        self.bytes = 0;
        std::mem::take(&mut self.lines)
    }
}

impl Keeper {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an entry; whether somebody must be told to write it.
    fn keep(&self, line: HistoryLine) -> bool {
        let mut waiting = self.waiting();
        waiting.add(vec![line]);
        !std::mem::replace(&mut waiting.is_scheduled, true)
    }

    /// Writes what waits. What the disk does not take is kept for the next time.
    fn write(&self) {
        let mut lines = {
            let mut waiting = self.waiting();
            waiting.is_scheduled = false;
            waiting.take()
        };
        let result = self.home.append_history(&mut lines);
        let mut waiting = self.waiting();
        // What came meanwhile belongs behind it.
        let came = waiting.take();
        lines.extend(came);
        waiting.add(lines);
        let was_troubled = std::mem::replace(&mut waiting.is_troubled, result.is_err());
        if let Err(error) = result
            && !was_troubled
        {
            tracing::warn!("the history is not kept: {error}; it is tried again with what comes next");
        }
    }

    /// Nobody will try again.
    fn give_up(&self) {
        match self.waiting().take().iter().map(HistoryLine::entries).sum::<u64>() {
            0 => {}
            1 => tracing::warn!("an entry is missing in the history"),
            missing => tracing::warn!("{missing} entries are missing in the history"),
        }
    }

    fn read(&self, query: &HistoryQuery) -> Result<Vec<HistoryEntry>, Failure> {
        self.write();
        let failed = |error: HomeError| Failure::new(Code::DiskError, error.to_string());
        self.home.history(query).map_err(failed)
    }
}

/// One line that says what happened, and when.
fn line(mut of: Remembered) -> HistoryLine {
    if let Past::Transfer(transfer) = &mut of.what {
        // It is looked up from elsewhere.
        let path = transfer.path.take();
        transfer.path = path.map(|path| match std::path::absolute(&path) {
            Ok(absolute) => absolute.to_string_lossy().into_owned(),
            Err(_) => path,
        });
    }
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    let time = now.round(Unit::Millisecond).unwrap_or(now);
    HistoryLine::new(&HistoryEntry { time, of })
}

impl History {
    pub(super) fn new(greeter: &Greeter, is_kept: bool, tasks: TaskTracker) -> Self {
        let keeper = match greeter {
            Greeter::Plain => Err("under --plain no history is kept".to_owned()),
            Greeter::Secure(secure) if !is_kept => Err(format!(
                "with --no-history none is kept; what others kept is in `{}`",
                secure.home.history_path().display()
            )),
            Greeter::Secure(secure) => {
                Ok(Arc::new(Keeper { home: secure.home.clone(), waiting: Mutex::default() }))
            }
        };
        let keeper = keeper.map_err(|message| Failure::new(Code::Unsupported, message));
        Self { keeper, last: None, tasks }
    }

    /// Keeps something.
    pub(super) fn keep(&mut self, of: Remembered) {
        let Ok(keeper) = self.keeper.clone() else { return };
        if keeper.keep(line(of)) {
            self.then(|last| async move {
                done(last).await;
                on_disk(move || keeper.write()).await;
            });
        }
    }

    /// Looks up what was kept, and tells.
    pub(super) fn read<F: Future<Output = ()> + Send>(
        &mut self,
        query: HistoryQuery,
        tell: impl FnOnce(Result<Vec<HistoryEntry>, Failure>) -> F + Send + 'static,
    ) {
        let keeper = self.keeper.clone();
        self.then(|last| async move {
            done(last).await;
            let read = match keeper {
                Ok(keeper) => on_disk(move || keeper.read(&query)).await,
                Err(why) => Err(why),
            };
            tell(read).await;
        });
    }

    /// The node ends: what is not written by then is lost, and that is told.
    pub(super) fn finish(&mut self) {
        let Ok(keeper) = self.keeper.clone() else { return };
        self.then(|last| async move {
            done(last).await;
            on_disk(move || {
                keeper.write();
                keeper.give_up();
            })
            .await;
        });
    }

    fn then<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        task: impl FnOnce(Option<JoinHandle<()>>) -> F,
    ) {
        let task = task(self.last.take());
        self.last = Some(self.tasks.spawn(task));
    }
}

async fn done(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        // One that panicked is no reason not to go on.
        let _ = task.await;
    }
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("a history is kept without panicking")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::Direction;
    use crate::wire::NodeId;

    fn text(from: u8, text: &str) -> HistoryLine {
        let what = Past::Message { direction: Direction::In, text: text.to_owned() };
        let node_id = Some(NodeId([from; 32]));
        line(Remembered { peer: None, node_id, alias: None, stranger: false, what })
    }

    #[test]
    fn what_a_disk_does_not_take_waits_within_a_bound_and_a_flood_takes_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let in_the_way = home.history_path();
        let keeper = Keeper { home, waiting: Mutex::default() };
        fs::create_dir(&in_the_way).unwrap();
        let long = "x".repeat(MAX_HISTORY_BYTES / 8);
        assert!(keeper.keep(text(66, &long)), "somebody has to write it");
        assert!(!keeper.keep(text(7, "short")), "who writes the one writes the other");
        keeper.write();
        for _ in 0..19 {
            keeper.keep(text(66, &long));
            keeper.write();
            let waiting = keeper.waiting();
            assert!(waiting.is_troubled && waiting.bytes <= MAX_HISTORY_BYTES);
            assert_eq!(waiting.bytes, bytes_in(&waiting.lines));
        }
        fs::remove_dir(&in_the_way).unwrap();
        let all = HistoryQuery { whom: None, only: None, most: usize::MAX };
        let kept = keeper.read(&all).unwrap();
        let (mut flood, mut short) = (0, 0);
        for entry in &kept {
            match &entry.of.what {
                Past::Message { text, .. } if text == "short" => short += 1,
                Past::Message { .. } => flood += 1,
                Past::LeftOut { entries } => flood += entries,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((short, flood), (1, 20), "what there was no room for is counted");
        let waiting = keeper.waiting();
        assert!(waiting.lines.is_empty() && !waiting.is_troubled && waiting.bytes == 0);
    }

    #[test]
    fn a_path_is_kept_as_it_is_found_from_everywhere() {
        let received: Remembered = serde_json::from_str(
            r#"{"kind":"transfer","direction":"in","outcome":"received","name":"x","path":"./downloads/x"}"#,
        )
        .unwrap();
        let line: serde_json::Value = serde_json::from_slice(line(received).bytes()).unwrap();
        let path = std::path::PathBuf::from(line["path"].as_str().unwrap());
        assert!(path.is_absolute() && path.ends_with("downloads/x"), "{path:?}");
    }
}
