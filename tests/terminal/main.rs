//! The program at a terminal: what a person sees while typing.

// Tests may panic where something is not as they claim, in helpers too.
#![allow(clippy::unwrap_used)]

// Shared with the process tests, which need more of it.
#[allow(dead_code, unused_imports)]
#[path = "../support/mod.rs"]
mod support;

mod bars;
mod ending;
mod picture;
mod readme;
mod terminal;
mod transfers;
mod tui;
mod typing;
