//! Connections that a third node passes on: what its two ends and the node between them say.
//!
//! A circuit carries an encrypted connection between two nodes over their connections to a third. On
//! each of the two it has a number of its own. The bytes of either direction are bounded by a window,
//! which the end that reads opens again.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::message::{parse, put_line, put_line_with_body};
use super::{BadLine, Message, NodeId, Side};

/// Bytes of one direction of a circuit that may be on their way: read by one end, and not by the other.
pub const CIRCUIT_WINDOW: u32 = 128 << 10;

/// Bytes of a circuit in one message, at most.
pub const MAX_CIRCUIT_BYTES: usize = 32 << 10;

/// Characters of a word that says why a circuit ends.
const CODE_CHARS: usize = 64;

/// What a circuit is called on one connection: a number that whoever opens it there chose, odd where
/// that is the dialler of the connection, even where it is the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CircuitId(pub u64);

impl CircuitId {
    /// The number after `last`, of those that one side of a connection may choose.
    #[must_use]
    pub fn next(last: Option<Self>, side: Side) -> Self {
        match (last, side) {
            (Some(Self(last)), _) => Self(last + 2),
            (None, Side::Dialler) => Self(1),
            (None, Side::Listener) => Self(2),
        }
    }

    /// Whether this side of a connection may have chosen it.
    pub fn is_chosen_by(self, side: Side) -> bool {
        (self.0 % 2 == 1) == (side == Side::Dialler)
    }
}

/// What is said about a circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CircuitPart {
    /// A circuit to a node that the receiver is connected to is wanted; `None` where the receiver is
    /// that node, and somebody wants to connect to it.
    Open {
        /// Whom to.
        to: Option<NodeId>,
    },
    /// Bytes, at most [`MAX_CIRCUIT_BYTES`] of them; none at all end this direction.
    Data(Bytes),
    /// So many bytes were read at the other end, and as many more may come.
    More(u32),
    /// Nothing goes through it any more.
    End {
        /// A word that says why.
        code: String,
    },
}

#[derive(Serialize, Deserialize)]
struct OpenPayload {
    id: CircuitId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<NodeId>,
}

#[derive(Serialize, Deserialize)]
struct DataPayload {
    id: CircuitId,
}

#[derive(Serialize, Deserialize)]
struct MorePayload {
    id: CircuitId,
    bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct EndPayload<'a> {
    id: CircuitId,
    #[serde(borrow)]
    code: Cow<'a, str>,
}

/// Decodes a line of a type that belongs here; `None` for other types.
pub(super) fn decode(kind: &str, payload: &str, body: &Bytes) -> Option<Result<Message, BadLine>> {
    let decoded = match kind {
        "CIRCUIT" => parse("CIRCUIT", payload).map(|OpenPayload { id, to }| (id, CircuitPart::Open { to })),
        "CIRCUIT_DATA" if body.len() > MAX_CIRCUIT_BYTES => {
            let why = format!("it has more than {MAX_CIRCUIT_BYTES} bytes");
            Err(BadLine::Payload { kind: "CIRCUIT_DATA", why })
        }
        "CIRCUIT_DATA" => {
            parse("CIRCUIT_DATA", payload).map(|DataPayload { id }| (id, CircuitPart::Data(body.clone())))
        }
        "CIRCUIT_MORE" => {
            parse("CIRCUIT_MORE", payload).map(|MorePayload { id, bytes }| (id, CircuitPart::More(bytes)))
        }
        "CIRCUIT_END" => parse("CIRCUIT_END", payload).map(|EndPayload { id, code }| {
            (id, CircuitPart::End { code: code.chars().take(CODE_CHARS).collect() })
        }),
        _ => return None,
    };
    Some(decoded.map(|(id, part)| Message::Circuit { id, part }))
}

/// Appends a message that belongs here.
pub(super) fn encode(id: CircuitId, part: &CircuitPart, out: &mut BytesMut) {
    match part {
        CircuitPart::Open { to } => put_line(out, "CIRCUIT", &OpenPayload { id, to: *to }),
        CircuitPart::Data(bytes) => {
            put_line_with_body(out, "CIRCUIT_DATA", &DataPayload { id }, &[bytes]);
        }
        CircuitPart::More(bytes) => put_line(out, "CIRCUIT_MORE", &MorePayload { id, bytes: *bytes }),
        CircuitPart::End { code } => {
            put_line(out, "CIRCUIT_END", &EndPayload { id, code: code.as_str().into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sides_of_a_connection_never_choose_the_same_number() {
        for side in [Side::Dialler, Side::Listener] {
            let mut last = None;
            for _ in 0..3 {
                let id = CircuitId::next(last, side);
                assert!(id.is_chosen_by(side) && !id.is_chosen_by(side.other()), "{id:?}");
                assert!(last < Some(id));
                last = Some(id);
            }
        }
    }

    #[test]
    fn more_bytes_than_agreed_on_are_no_message() {
        let body = Bytes::from(vec![0; MAX_CIRCUIT_BYTES + 1]);
        assert!(decode("CIRCUIT_DATA", r#"{"id":1}"#, &body).unwrap().is_err());
        assert!(decode("CIRCUIT_DATA", r#"{"id":1}"#, &body.slice(1..)).unwrap().is_ok());
    }
}
