//! The reasons for which something fails, as words that scripts may rely on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::Reason;

/// Why a command or a transfer failed. [`Code::as_str`] is what `--json` prints, and what a
/// history has; these words stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The line is not a command, or its arguments are not of its form.
    Usage,
    /// No connected peer goes by that name.
    UnknownPeer,
    /// Several connected peers go by that name.
    AmbiguousPeer,
    /// No transfer or offer has that number, or it is past the state for this.
    UnknownTransfer,
    /// The address could not be resolved or nobody answers there.
    Unreachable,
    /// The address is this node's own.
    SelfConnection,
    /// Somebody else answers at a pinned address than before.
    IdentityChanged,
    /// Somebody else answers than was demanded.
    WrongIdentity,
    /// Nobody known answers, and a first contact is not allowed.
    UnknownIdentity,
    /// One side encrypts and the other does not, or the handshake failed.
    HandshakeFailed,
    /// A limit of this node is reached; later it may work.
    Busy,
    /// The text or file is larger than the peer can be sent.
    TooLarge,
    /// The file's name cannot be put in a message.
    BadName,
    /// The file to send cannot be read, or is no regular file.
    SourceUnreadable,
    /// The file to send changed while it was sent.
    SourceChanged,
    /// Not enough free space where received files go.
    NoSpace,
    /// The downloads directory or a file in it cannot be written.
    DiskError,
    /// What arrived does not have the hash that was announced.
    HashMismatch,
    /// The connection ended.
    Disconnected,
    /// The peer sent or took nothing for too long.
    Stalled,
    /// Nobody answered the offer in time.
    Expired,
    /// The peer took every byte and never confirmed.
    Unconfirmed,
    /// Cancelled on this side.
    Cancelled,
    /// Its sender left before anybody had accepted the file.
    Withdrawn,
    /// This side did not want the file.
    Declined,
    /// The node is shutting down.
    ShuttingDown,
    /// The peer wants nothing from us.
    Banned,
    /// The list of a directory is one that must not be followed.
    BadTree,
    /// The peer's version cannot do this.
    Unsupported,
    /// Nobody who was asked has it.
    NotFound,
}

impl Code {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::UnknownPeer => "unknown_peer",
            Self::AmbiguousPeer => "ambiguous_peer",
            Self::UnknownTransfer => "unknown_transfer",
            Self::Unreachable => "unreachable",
            Self::SelfConnection => "self_connection",
            Self::IdentityChanged => "identity_changed",
            Self::WrongIdentity => "wrong_identity",
            Self::UnknownIdentity => "unknown_identity",
            Self::HandshakeFailed => "handshake_failed",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::BadName => "bad_name",
            Self::SourceUnreadable => "source_unreadable",
            Self::SourceChanged => "source_changed",
            Self::NoSpace => "no_space",
            Self::DiskError => "disk_error",
            Self::HashMismatch => "hash_mismatch",
            Self::Disconnected => "disconnected",
            Self::Stalled => "stalled",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
            Self::Cancelled => "cancelled",
            Self::Withdrawn => "withdrawn",
            Self::Declined => "declined",
            Self::ShuttingDown => "shutting_down",
            Self::Banned => "banned",
            Self::BadTree => "bad_tree",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not_found",
        }
    }

    /// Of the words that a peer may give for what became of a file, the one it gave.
    fn from_peer(word: &str) -> Option<Self> {
        let known = [
            Self::Usage,
            Self::BadTree,
            Self::Unsupported,
            Self::Declined,
            Self::TooLarge,
            Self::NoSpace,
            Self::BadName,
            Self::Busy,
            Self::Banned,
            Self::SourceUnreadable,
            Self::SourceChanged,
            Self::DiskError,
            Self::HashMismatch,
            Self::Stalled,
            Self::Expired,
            Self::Unconfirmed,
            Self::Cancelled,
            Self::Withdrawn,
            Self::ShuttingDown,
        ];
        known.into_iter().find(|code| code.as_str() == word)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A code and the sentence that goes with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure, for scripts.
    pub code: Code,
    /// What was wrong and what to do, for people.
    pub message: String,
}

impl Failure {
    /// Puts the two together.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What a peer says of a file: who it is in this, what it said, and the code where the word it
    /// used is none that we know.
    pub(super) fn from_peer(who: &str, reason: &Reason, otherwise: Code) -> Self {
        let code = Code::from_peer(&reason.code);
        let what = match code {
            Some(Code::Declined) => "does not want it",
            Some(Code::TooLarge) => "takes no file of this size",
            Some(Code::NoSpace) => "has not enough free space for it",
            Some(Code::BadName) => "cannot give a file this name",
            Some(Code::Busy) => "has too much to do at the moment; send it again later",
            Some(Code::Banned) => "takes nothing from this node",
            Some(Code::Cancelled) => "cancelled it",
            Some(Code::Expired) => "had nobody who answered in time",
            Some(Code::ShuttingDown) => "ended before it was done",
            _ => "gave it up",
        };
        let said = if reason.message.is_empty() || code == Some(Code::ShuttingDown) {
            String::new()
        } else {
            format!(" ({})", reason.message)
        };
        Self::new(code.unwrap_or(otherwise), format!("the {who} {what}{said}"))
    }

    /// The form in which a peer is told.
    pub(super) fn to_reason(&self) -> Reason {
        Reason::new(self.code.as_str(), self.message.clone())
    }
}
