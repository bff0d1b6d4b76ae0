//! What travels between two nodes, and nothing else.
//!
//! Owns the messages, their framing as newline-delimited JSON, and the checked types that
//! whatever a peer says must become before the rest of the program may use it.
//! Pure: no sockets, no files, no clock. `docs/PROTOCOL.md` is the specification in prose.

mod ask;
mod assemble;
mod chain;
mod chunks;
mod circuit;
mod codec;
mod dht_key;
mod extended;
mod hash;
mod link;
mod manifest;
mod message;
mod name;
mod proof;
mod tree;

pub use ask::{AskProof, Binding, Side};
pub use chain::{BLOCK_BYTES, Block, ChunkDigest, Digested};
pub use chunks::{CHUNK_SIZE, ChunkIndex, Geometry};
pub use circuit::{CIRCUIT_WINDOW, CircuitId, CircuitPart, MAX_CIRCUIT_BYTES};
pub use codec::{FrameDecoder, FrameError, MAX_LINE_BYTES, MAX_LINE_TO_BASELINE_BYTES, TLS_FIRST_BYTE};
pub use dht_key::DhtKey;
pub use extended::{AskId, ContentOffer, MAX_PEERS_TOLD, MAX_RUNS, OfferId, PeerAddr, Prefix, Reason, Runs};
pub use hash::{BadHash, ChunkHash, FileHash, NodeId, PageDigest, Root, State};
pub use link::{BadLink, Link, LinkKind};
pub use manifest::{
    BadManifest, ENTRIES_PER_PAGE, Entry, MAX_MANIFEST_SIZE, ManifestBuilder, ManifestHead, Page,
};
pub use message::{BadLine, ChunkData, Hello, Instance, Lane, Manifest, Message, Offer, OfferError, TextKey};
pub(crate) use name::is_deceptive;
pub use name::{BadName, SafeName};
pub use proof::{ChunkFault, Expected};
pub use tree::{
    BadTree, ItemKind, MAX_TREE_BYTES, MAX_TREE_ENTRIES, MIN_TREE_BYTES, Modified, Tree, TreeEntry, TreeInfo,
    TreeItem, TreeKind,
};
