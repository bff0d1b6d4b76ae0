//! The real program, run as a user or a script runs it: processes, sockets on loopback, files.

// Tests may panic where something is not as they claim, in helpers too.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod bad_disks;
mod bad_offers;
mod bad_streams;
mod baseline;
mod command_line;
mod config;
mod crowds;
mod discovery;
mod endings;
mod history;
#[cfg(target_os = "linux")]
mod lan;
mod mapping;
mod oneshot;
mod outbox;
mod relay;
mod resume;
mod security;
mod swarm;
mod talk;
mod test_peer;
mod tls_peer;
mod transcripts;
mod transfers;
mod trees;
