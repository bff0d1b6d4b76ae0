//! What the process tests work with: the real program as a [`TestNode`], a [`BaselinePeer`] that
//! knows nothing but the baseline protocol, a [`Gate`] between two of them that stops a transfer
//! half-way, and files whose bytes need not be stored anywhere.
//!
//! Nothing here sleeps in hope or depends on how fast the machine is: everything waits for
//! something to be seen, and [`DEADLINE`] only ends a test that has failed already.

pub(crate) mod baseline;
pub(crate) mod files;
pub(crate) mod gate;
pub(crate) mod inbox;
pub(crate) mod netns;
pub(crate) mod node;

use std::time::{Duration, Instant};

pub(crate) use baseline::{BaselinePeer, Content};
pub(crate) use gate::Gate;
pub(crate) use node::{NodeSetup, TestNode};
use serde_json::Value;

/// How long anything may take before the test counts as failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the condition holds, for what nobody announces, like a file that disappears.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_in_time(condition), "never came true: {what}");
}

/// Whether the condition comes to hold before the deadline.
pub(crate) fn holds_in_time(mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > DEADLINE {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    true
}

/// Whether the value has everything that the pattern has: every field of an object, and the same
/// of anything else.
pub(crate) fn includes(value: &Value, pattern: &Value) -> bool {
    match (value, pattern) {
        (Value::Object(value), Value::Object(pattern)) => {
            pattern.iter().all(|(key, wanted)| value.get(key).is_some_and(|found| includes(found, wanted)))
        }
        _ => value == pattern,
    }
}

/// The value as one line that is not too long to read.
pub(crate) fn abridged(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
