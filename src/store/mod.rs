//! Disk: files that are sent, and files that are received.
//!
//! Owns every open file of every transfer, and does what the engine asks of it as [`Job`]s. All of
//! it blocks and belongs on a thread that may. Parts:
//!
//! - `source`: a file that is sent, hashed and then read chunk by chunk.
//! - `partial`: a file that is received, verified chunk by chunk and as a whole.
//! - `claim`: which partial file a transfer may write to; `place`: how it gets its final name.
//! - `downloads`: the directories of both, and the space that is left.
//!
//! Invariants: what leaves here, to a peer or under a final name, is verified; nothing that was on
//! the disk before is written to or replaced; a transfer that was released leaves nothing behind.
//! It decides nothing about transfers, peers or order: that is the engine's.

mod claim;
mod downloads;
mod failure;
mod place;
