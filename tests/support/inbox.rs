//! What one thread hears and another waits for.

use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::DEADLINE;

/// Everything that was ever heard, in order; each thing can be taken once.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    heard: Vec<(T, bool)>,
    closed: bool,
}

/// Why nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The source ended without it.
    Closed,
    /// The deadline passed.
    TimedOut,
}

impl<T: Clone> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { heard: Vec::new(), closed: false }), changed: Condvar::new() }
    }

    pub(crate) fn push(&self, item: T) {
        self.state.lock().unwrap().heard.push((item, false));
        self.changed.notify_all();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().unwrap().closed
    }

    /// Waits for the first thing that matches and was not taken before, whatever came in between.
    /// The deadline begins anew with everything that is heard: slow is not stuck.
    pub(crate) fn take(&self, mut matches: impl FnMut(&T) -> bool) -> Result<T, Missing> {
        let mut state = self.state.lock().unwrap();
        let mut looked_at = 0;
        let mut last_heard = Instant::now();
        loop {
            let new = state.heard.iter_mut().skip(looked_at);
            if let Some((item, taken)) = new.into_iter().find(|(item, taken)| !taken && matches(item)) {
                *taken = true;
                return Ok(item.clone());
            }
            if state.closed {
                return Err(Missing::Closed);
            }
            if state.heard.len() > looked_at {
                looked_at = state.heard.len();
                last_heard = Instant::now();
            }
            let left = DEADLINE.checked_sub(last_heard.elapsed()).ok_or(Missing::TimedOut)?;
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Everything heard so far, taken or not.
    pub(crate) fn all(&self) -> Vec<T> {
        self.state.lock().unwrap().heard.iter().map(|(item, _)| item.clone()).collect()
    }
}
