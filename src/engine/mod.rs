//! What to do: peers, offers, downloads and uploads as state machines.
//!
//! No async, no clock, no files, no sockets, no randomness. Everything that happens is an
//! [`Input`] with the time at which it happened; everything to be done is an [`Output`]. Time is
//! counted from the node's start.

mod code;
mod command;
mod event;
mod job;
mod limits;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

pub use code::{Code, Failure};
pub use command::{
    Command, Direction, HostPort, NodeInfo, PeerInfo, PeerRef, Reply, Selection, Stage, TransferInfo,
};
pub use event::Event;
pub use job::{Job, JobDone};
pub use limits::Limits;

use crate::wire::{BadLine, FrameError, Instance, Message};

/// A connection, for as long as the process lives: never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// An offer or a transfer, for as long as the process lives. What a user types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TransferId {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Failure> {
        let number = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        number.parse().map(Self).map_err(|_| {
            Failure::new(
                Code::Usage,
                format!("`{text}` is not the number of a transfer; `transfers` lists them"),
            )
        })
    }
}

/// A command, so that its answer finds the one who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Only what the original program speaks.
    Baseline,
    /// `HELLO` and the features that both named.
    Extended,
}

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Extended => "extended",
        }
    }
}

/// Which offers are taken without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptPolicy {
    /// Those of known peers; a person is asked about others, if there is one.
    Ask,
    /// Those of known peers; others are declined.
    Known,
    /// All.
    All,
    /// None: a person is asked about every offer, if there is one.
    None,
}
