//! Asking for content without naming it to those who do not know it.
//!
//! Who wants a content proves that it knows the hash, and learns nothing from who does not have it; who
//! has the content recognizes the proof and answers with an offer, which names the hash. The proof is
//! bound to the connection and to the side that asks, so that it can be shown to nobody else and not be
//! sent back. `docs/PROTOCOL.md`, "Asking", has the bytes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::hash::{FileHash, State};
use super::message::Instance;

const ASK_DOMAIN: &[u8; 16] = b"p2p-ask-v1\0\0\0\0\0\0";
const PLAIN_DOMAIN: &[u8; 16] = b"p2p-plain-v1\0\0\0\0";

/// Something that both ends of a connection know and nobody else: under TLS its exporter value
/// (RFC 8446, 7.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Binding(pub [u8; 32]);

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding(..)")
    }
}

impl Binding {
    /// What both ends know of a connection in plaintext, as does whoever reads along: there it only
    /// keeps a proof from being of use on another connection.
    pub fn of_plaintext(dialler: Instance, listener: Instance) -> Self {
        let mut digest = Sha256::new();
        digest.update(PLAIN_DOMAIN);
        digest.update(dialler.0.to_be_bytes());
        digest.update(listener.0.to_be_bytes());
        Self(digest.finalize().into())
    }
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that dialled.
    Dialler,
    /// The other.
    Listener,
}

impl Side {
    /// The one across.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// What shows that its sender knows a hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "State", into = "State")]
pub struct AskProof(pub [u8; 32]);

impl AskProof {
    /// The proof that one side of a connection gives. Everything that is digested has a fixed length,
    /// so a plain hash is as good as an HMAC here.
    #[must_use]
    pub fn new(binding: Binding, by: Side, content: FileHash) -> Self {
        let mut digest = Sha256::new();
        digest.update(ASK_DOMAIN);
        digest.update(binding.0);
        digest.update([match by {
            Side::Dialler => 0,
            Side::Listener => 1,
        }]);
        digest.update(content.0);
        Self(digest.finalize().into())
    }
}

// On the wire it looks like every other digest.
impl From<State> for AskProof {
    fn from(State(bytes): State) -> Self {
        Self(bytes)
    }
}

impl From<AskProof> for State {
    fn from(AskProof(bytes): AskProof) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for AskProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AskProof({})", hex::encode(&self.0[..8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_content_one_connection_and_one_side() {
        let (binding, content) = (Binding([1; 32]), FileHash([2; 32]));
        let proof = AskProof::new(binding, Side::Dialler, content);
        assert_eq!(proof, AskProof::new(binding, Side::Listener.other(), content));
        for other in [
            AskProof::new(Binding([3; 32]), Side::Dialler, content),
            AskProof::new(binding, Side::Listener, content),
            AskProof::new(binding, Side::Dialler, FileHash([3; 32])),
        ] {
            assert_ne!(proof, other);
        }
    }

    #[test]
    fn a_proof_has_the_bytes_that_the_protocol_says() {
        let proof = AskProof::new(Binding([1; 32]), Side::Listener, FileHash([2; 32]));
        let bytes = [&b"p2p-ask-v1\0\0\0\0\0\0"[..], &[1; 32], &[1], &[2; 32]].concat();
        assert_eq!(proof.0, <[u8; 32]>::from(Sha256::digest(bytes)));
        let (a, b) = (Instance(1), Instance(2));
        assert_ne!(Binding::of_plaintext(a, b), Binding::of_plaintext(b, a));
    }
}
