//! `p2p` sends files and messages straight from one computer to another.
//!
//! The map of the crate; imports point down only:
//!
//! - [`ui`]: what a person or a script types and sees.
//! - [`node`]: the one task that owns the engine and turns what it decides into I/O.
//! - `net` and [`store`]: sockets and disk.
//! - [`engine`]: what to do, as state machines without I/O.
//! - [`wire`]: what travels.
//!
//! `docs/ARCHITECTURE.md` says why.

pub mod config;
pub mod engine;
pub mod exit;
mod net;
pub mod node;
pub mod size;
pub mod store;
pub mod ui;
pub mod wire;
