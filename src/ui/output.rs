//! The one way out: whatever is shown goes through a bounded queue to a thread that writes.
//!
//! At a prompt that thread is the *painter*. While a line is being typed the screen belongs to
//! rustyline, so the painter then only *pokes* it: rustyline redraws its prompt, asks
//! [`Output::above_prompt`] what belongs above it, and draws both in one write. The status line is
//! part of that and stands nowhere else. Between two lines, and where there is no prompt, the
//! thread writes itself. So there is one queue and one order,
//! nothing is ever torn, and a burst of thousands of lines is a handful of redraws.
//!
//! Invariant: the async side never waits for a screen, a pipe or a lock held during a write. Where
//! the reader stalls, [`Output::put`] waits for room, which its caller can give up.

use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::log::Sink;
use super::progress::Status;

/// Bytes that may wait to be written.
const CAPACITY: u32 = 1 << 20;

/// Makes rustyline redraw its prompt. May block for as long as rustyline is busy with a key.
pub(super) type Poke = Box<dyn FnMut() + Send>;

/// What was to be shown can no longer be written.
#[derive(Debug)]
pub(super) struct Broken;

/// Where to put what is to be shown. Cheap to clone.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// One permit for each byte of [`CAPACITY`] that is free; closed when writing failed.
    room: Semaphore,
    broken: CancellationToken,
    /// Told when the prompt was drawn or left.
    drawn: Notify,
}

#[derive(Default)]
struct State {
    waiting: String,
    /// Permits that go back when what is waiting was taken.
    owed: usize,
    /// Whether the thread is writing at this moment.
    writing: bool,
    /// Whether rustyline has drawn its prompt and owns the screen.
    at_prompt: bool,
    /// Whether rustyline was poked and has not asked yet.
    poked: bool,
    /// What is to be told about running transfers.
    status: Option<Status>,
    /// Whether the status line on the screen is another one, or may have been folded.
    stale: bool,
    error: Option<io::Error>,
}

impl Output {
    /// Starts the thread. `poke` is given at a prompt.
    pub(super) fn start(name: &str, out: Box<dyn Write + Send>, poke: Option<Poke>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            room: Semaphore::new(CAPACITY as usize),
            broken: CancellationToken::new(),
            drawn: Notify::new(),
        });
        let output = Self(Arc::clone(&shared));
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_all_that_comes(&shared, out, poke))?;
        Ok(output)
    }

    /// Queues some lines (without the last line's end), waiting for room. Cancel-safe: dropped
    /// before its end, it has queued nothing.
    pub(super) async fn put(&self, text: &str) -> Result<(), Broken> {
        let permit = self.0.room.acquire_many(cost(text)).await.map_err(|_| Broken)?;
        permit.forget();
        self.0.push(text);
        Ok(())
    }

    /// Queues some lines if there is room for them now.
    pub(super) fn try_put(&self, text: &str) -> bool {
        let Ok(permit) = self.0.room.try_acquire_many(cost(text)) else { return false };
        permit.forget();
        self.0.push(text);
        true
    }

    /// The same, for the log.
    pub(super) fn sink(&self) -> Sink {
        let output = self.clone();
        Arc::new(move |line| output.try_put(line))
    }

    /// Shows another status line, or none, at the next chance.
    pub(super) fn set_status(&self, status: Option<Status>) {
        let mut state = self.0.lock();
        if status.is_none() && state.status.is_none() {
            return;
        }
        state.status = status;
        state.stale = true;
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until everything queued so far was written, and no status line is on the screen that
    /// should not be.
    pub(super) async fn flushed(&self) -> Result<(), Broken> {
        loop {
            let mut drawn = pin!(self.0.drawn.notified());
            drawn.as_mut().enable();
            // All of the room is free exactly when nothing waits and nothing is being written.
            self.0.room.acquire_many(CAPACITY).await.map(drop).map_err(|_| Broken)?;
            if !self.0.lock().is_stale() {
                return Ok(());
            }
            drawn.await;
        }
    }

    /// Returns once nothing can be written any more. Cancel-safe.
    pub(super) async fn broken(&self) {
        self.0.broken.cancelled().await;
    }

    /// Why nothing can be written any more, once.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.0.lock().error.take()
    }

    /// Called by rustyline whenever it draws its prompt: what to write above it, and which status
    /// to tell. From now on the screen is rustyline's.
    pub(super) fn above_prompt(&self) -> (String, Option<Status>) {
        let mut state = self.0.lock();
        while state.writing {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.at_prompt = true;
        state.poked = false;
        state.stale = false;
        let (text, owed) = state.take();
        let status = state.status.clone();
        drop(state);
        self.0.room.add_permits(owed);
        self.0.drawn.notify_waiters();
        (text, status)
    }

    /// Called when rustyline has given back a line, or is not coming back: the screen is the
    /// thread's again. Says whether it was rustyline's before.
    pub(super) fn leave_prompt(&self) -> bool {
        let mut state = self.0.lock();
        let was = std::mem::take(&mut state.at_prompt);
        state.poked = false;
        drop(state);
        self.0.changed.notify_all();
        self.0.drawn.notify_waiters();
        was
    }
}

/// What a text costs in permits; one larger than everything takes everything.
fn cost(text: &str) -> u32 {
    u32::try_from(text.len() + 1).map_or(CAPACITY, |bytes| bytes.min(CAPACITY))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, text: &str) {
        let mut state = self.lock();
        state.waiting.push_str(text);
        state.waiting.push('\n');
        state.owed += cost(text) as usize;
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    fn idle(&self) -> bool {
        (self.waiting.is_empty() && !self.is_stale()) || (self.at_prompt && self.poked)
    }

    /// Whether the status line on the screen is another one than it should be.
    fn is_stale(&self) -> bool {
        self.stale && self.at_prompt
    }

    fn take(&mut self) -> (String, usize) {
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.owed))
    }
}

/// Closes the queue however the thread ends, so that nobody waits for room for ever.
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.room.close();
        self.0.broken.cancel();
    }
}

/// The thread. Ends only when writing fails, or with the process.
fn write_all_that_comes(shared: &Shared, mut out: Box<dyn Write + Send>, mut poke: Option<Poke>) {
    let _close = CloseOnDrop(shared);
    let mut state = shared.lock();
    loop {
        if state.idle() {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        } else if let (true, Some(poke)) = (state.at_prompt, &mut poke) {
            state.poked = true;
            drop(state);
            poke();
            state = shared.lock();
        } else {
            let (text, owed) = state.take();
            state.writing = true;
            drop(state);
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            state = shared.lock();
            state.writing = false;
            shared.changed.notify_all();
            match written {
                Ok(()) => shared.room.add_permits(owed),
                Err(error) => {
                    state.error = Some(error);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use super::*;

    /// A writer whose every write is taken by the test, or waits for it.
    struct Handed(SyncSender<String>);

    impl Write for Handed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.0.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(poke: Option<Poke>) -> (Output, Receiver<String>) {
        let (sender, receiver) = sync_channel(0);
        (Output::start("test", Box::new(Handed(sender)), poke).unwrap(), receiver)
    }

    #[tokio::test]
    async fn lines_come_out_in_order_and_flushed_means_written() {
        let (output, written) = start(None);
        let reader = thread::spawn(move || {
            let mut all = String::new();
            while !all.ends_with("999\n") {
                all += &written.recv().unwrap();
            }
            all
        });
        for number in 0..1000 {
            output.put(&number.to_string()).await.unwrap();
        }
        output.flushed().await.unwrap();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(reader.join().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_reader_that_stalls_costs_a_bounded_queue() {
        let (output, written) = start(None);
        let line = "x".repeat(100_000);
        let mut queued = 0;
        while tokio::time::timeout(Duration::from_millis(50), output.put(&line)).await.is_ok() {
            queued += 1;
            assert!(queued < 30, "there is no end to the queue");
        }
        assert!(!output.try_put(&line));
        drop(written);
        output.broken().await;
        assert!(output.put(&line).await.is_err(), "a closed reader is an error, not a wait");
        assert!(output.take_error().is_some());
    }

    #[tokio::test]
    async fn a_line_larger_than_the_queue_goes_through_alone() {
        let (output, written) = start(None);
        let line = "x".repeat(3 * CAPACITY as usize);
        output.put(&line).await.unwrap();
        assert_eq!(written.recv().unwrap().len(), line.len() + 1);
        output.put("after").await.unwrap();
        assert_eq!(written.recv().unwrap(), "after\n");
        output.flushed().await.unwrap();
    }

    #[tokio::test]
    async fn while_a_line_is_typed_rustyline_draws_and_afterwards_the_painter() {
        let (poked, pokes) = sync_channel(8);
        let (output, written) = start(Some(Box::new(move || poked.send(()).unwrap())));
        assert_eq!(output.above_prompt(), (String::new(), None));
        for number in 0..2000 {
            output.put(&number.to_string()).await.unwrap();
        }
        pokes.recv().unwrap();
        assert!(pokes.recv_timeout(Duration::from_millis(50)).is_err(), "one poke until it is heard");
        assert_eq!(output.above_prompt().0.lines().count(), 2000);
        output.flushed().await.unwrap();

        output.put("late").await.unwrap();
        pokes.recv().unwrap();
        assert!(output.leave_prompt());
        assert_eq!(written.recv().unwrap(), "late\n", "what the prompt did not take is not lost");
        assert!(!output.leave_prompt());
    }
}
