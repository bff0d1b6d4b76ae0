//! The real program, run as a user or a script runs it: processes, sockets on loopback, files.

// Tests may panic where something is not as they claim, in helpers too.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod test_peer;
