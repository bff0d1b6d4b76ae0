//! The messages that only nodes of ours speak, which both have named the feature for in `HELLO`.
//!
//! Each is a JSON line, some with raw bytes behind it. What is decoded here has been checked as far
//! as one message can be: names are names, heads are the ones their root names.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::message::{brief, parse, put_line, put_line_announcing, put_line_with_body};
use super::{
    AskProof, BadLine, BadTree, ChunkData, ChunkHash, ENTRIES_PER_PAGE, Entry, FileHash, Geometry,
    MAX_MANIFEST_SIZE, MAX_TREE_BYTES, MAX_TREE_ENTRIES, MIN_TREE_BYTES, ManifestHead, Message, NodeId,
    OfferError, Root, SafeName, State, TextKey, TreeInfo,
};

/// What an offer is called on its connection: a number that its sender chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferId(pub u64);

/// What a search for content is called on its connection: a number that the one who asks chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskId(pub u64);

/// Chunks of a content: runs of a first one and a count, in order and apart.
pub type Runs = Vec<(u32, u32)>;

/// Runs in one message.
pub const MAX_RUNS: usize = 2048;

/// Peers in one message.
pub const MAX_PEERS_TOLD: usize = 50;

/// Where another may be found who trades a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerAddr {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Who it is, where there are identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
}

/// A file that a peer could have, between nodes that pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentOffer {
    /// What it is called on this connection.
    pub id: OfferId,
    /// The search that it answers; `None` where nobody asked.
    pub answers: Option<AskId>,
    /// Whether not all of it is there: [`Message::Have`] says what is.
    pub is_partial: bool,
    /// Whether it is for those alone whom the sender trusts.
    pub is_known_only: bool,
    /// What the file should be called.
    pub name: SafeName,
    /// Its size in bytes.
    pub size: u64,
    /// What is known of it where it is a directory.
    pub tree: Option<TreeInfo>,
    /// What it consists of; `None` where the sender hashes it while it travels.
    pub head: Option<Arc<ManifestHead>>,
    /// Its only page, where it has but one and is listed: the entries as they travel.
    pub page: Bytes,
}

/// The first chunks of a file, and the state of its SHA-256 after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// How many chunks.
    pub chunks: u32,
    /// The state after them; where they are the whole file, its hash instead, because the state
    /// does not tell of the bytes behind the last whole block.
    pub state: State,
}

/// Why a file will not come, or is not wanted: a word that programs know, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The word.
    pub code: String,
    /// The sentence; untrusted text.
    pub message: String,
}

/// A piece of a chunk. A chunk travels as one or more of them, in order, and no piece of another
/// chunk comes between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataFrame {
    pub(super) id: OfferId,
    pub(super) chunk: u32,
    /// Bytes in the whole chunk.
    pub(super) length: u32,
    /// Where the piece begins in the chunk.
    pub(super) offset: u32,
    pub(super) entry: Option<Entry>,
    pub(super) bytes: Bytes,
}

/// Characters of a peer's sentence that are kept.
const REASON_CHARS: usize = 300;

/// The same of its word.
const REASON_CODE_CHARS: usize = 64;

#[derive(Serialize, Deserialize)]
struct OfferPayload<'a> {
    id: OfferId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask: Option<AskId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    known: bool,
    #[serde(borrow)]
    name: Cow<'a, str>,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree: Option<TreePayload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_hash: Option<FileHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<Root>,
}

#[derive(Serialize, Deserialize)]
struct TreePayload {
    bytes: u32,
    files: u32,
}

/// Just enough of an offer to be able to refuse it.
#[derive(Deserialize)]
struct OfferNumber {
    id: OfferId,
}

#[derive(Serialize, Deserialize)]
struct AcceptPayload {
    id: OfferId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Prefix>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    list: bool,
}

#[derive(Serialize, Deserialize)]
struct ReasonPayload<'a> {
    id: OfferId,
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct PullPayload {
    id: OfferId,
    chunk: u32,
    count: u32,
}

#[derive(Serialize, Deserialize)]
struct PagePayload {
    id: OfferId,
    page: u32,
}

#[derive(Serialize, Deserialize)]
struct DataPayload {
    id: OfferId,
    chunk: u32,
    length: u32,
    offset: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<ChunkHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<State>,
}

#[derive(Serialize, Deserialize)]
struct ResumedPayload {
    id: OfferId,
    chunk: u32,
}

#[derive(Serialize, Deserialize)]
struct SealPayload {
    id: OfferId,
    size: u64,
    file_hash: FileHash,
    root: Root,
}

#[derive(Serialize, Deserialize)]
struct AskPayload {
    id: AskId,
    proof: AskProof,
}

#[derive(Serialize, Deserialize)]
struct LackPayload<'a> {
    id: AskId,
    #[serde(borrow)]
    code: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct HavePayload {
    id: OfferId,
    chunks: Runs,
}

#[derive(Serialize, Deserialize)]
struct PeersPayload {
    id: OfferId,
    peers: Vec<PeerAddr>,
}

#[derive(Serialize, Deserialize)]
struct IdPayload {
    id: OfferId,
}

#[derive(Serialize, Deserialize)]
struct NumberPayload {
    id: u64,
}

#[derive(Serialize, Deserialize)]
struct TextPayload<'a> {
    id: u64,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<TextKey>,
}

/// What a line of the extended protocol is.
#[derive(Debug)]
pub(super) enum Decoded {
    Message(Message),
    /// A piece of a chunk, to be put together.
    Frame(DataFrame),
}

/// Decodes a line of a type that belongs here; `None` for other types.
pub(super) fn decode(kind: &str, payload: &str, body: &Bytes) -> Option<Result<Decoded, BadLine>> {
    let decoded = match kind {
        "OFFER" => decode_offer(payload, body).map(Message::Offer),
        "ACCEPT" => parse("ACCEPT", payload).map(|AcceptPayload { id, kept, list }| Message::Accept {
            id,
            kept,
            wants_list: list,
        }),
        "REFUSE" => parse("REFUSE", payload)
            .map(|reason: ReasonPayload<'_>| Message::Refuse { id: reason.id, reason: Reason::from(reason) }),
        "WITHDRAW" => parse("WITHDRAW", payload).map(|reason: ReasonPayload<'_>| Message::Withdraw {
            id: reason.id,
            reason: Reason::from(reason),
        }),
        "PULL" => parse("PULL", payload).map(|PullPayload { id, chunk, count }| Message::Pull {
            id,
            first: chunk,
            count,
        }),
        "UNPULL" => parse("UNPULL", payload).map(|PullPayload { id, chunk, count }| Message::Unpull {
            id,
            first: chunk,
            count,
        }),
        "ASK" => parse("ASK", payload).map(|AskPayload { id, proof }| Message::Ask { id, proof }),
        "LACK" => parse("LACK", payload).map(|LackPayload { id, code }| Message::Lack {
            id,
            code: code.chars().take(REASON_CODE_CHARS).collect(),
        }),
        "HAVE" => decode_have(payload),
        "PEERS" => parse("PEERS", payload).map(|PeersPayload { id, mut peers }| {
            peers.truncate(MAX_PEERS_TOLD);
            Message::Peers { id, peers }
        }),
        "PULL_PAGE" => {
            parse("PULL_PAGE", payload).map(|PagePayload { id, page }| Message::PullPage { id, page })
        }
        "PAGE" => parse("PAGE", payload).map(|PagePayload { id, page }| Message::Page {
            id,
            page,
            entries: body.clone(),
        }),
        "DATA" => return Some(decode_data(payload, body).map(Decoded::Frame)),
        "RESUMED" => {
            parse("RESUMED", payload).map(|ResumedPayload { id, chunk }| Message::Resumed { id, chunk })
        }
        "SEAL" => decode_seal(payload, body),
        "DONE" => parse("DONE", payload).map(|IdPayload { id }| Message::Done(id)),
        "TEXT_ACK" => parse("TEXT_ACK", payload).map(|NumberPayload { id }| Message::TextAck(id)),
        "PING" => parse("PING", payload).map(|NumberPayload { id }| Message::Ping(id)),
        "PONG" => parse("PONG", payload).map(|NumberPayload { id }| Message::Pong(id)),
        "BYE" => Ok(Message::Bye),
        _ => return None,
    };
    Some(decoded.map(Decoded::Message))
}

/// The form of a text that is to be acknowledged.
pub(super) fn decode_text(payload: &str) -> Result<Message, BadLine> {
    parse("TEXT", payload).map(|TextPayload { id, text, key }| Message::NumberedText {
        id,
        text: text.into_owned(),
        key,
    })
}

fn decode_offer(payload: &str, body: &Bytes) -> Result<ContentOffer, BadLine> {
    let number: OfferNumber = parse("OFFER", payload)?;
    let refused = |error| BadLine::ContentOffer { id: number.id, error };
    let fields: OfferPayload<'_> =
        serde_json::from_str(payload).map_err(|error| refused(OfferError::Malformed(brief(&error))))?;
    let name = SafeName::new(&fields.name).map_err(|error| refused(error.into()))?;
    // One that is larger could never be listed, and so never be complete.
    let geometry = Geometry::new(fields.size).filter(|_| fields.size <= MAX_MANIFEST_SIZE);
    let geometry = geometry.ok_or_else(|| refused(OfferError::Size(fields.size)))?;
    let tree = fields.tree.map(|TreePayload { bytes, files }| TreeInfo { list_bytes: bytes, files });
    if let Some(TreeInfo { list_bytes, files }) = tree {
        if list_bytes > MAX_TREE_BYTES || files > MAX_TREE_ENTRIES {
            return Err(refused(OfferError::Tree(BadTree::TooLong)));
        }
        if list_bytes < MIN_TREE_BYTES || u64::from(list_bytes) > fields.size {
            return Err(refused(OfferError::Tree(BadTree::Malformed("it has not the size of one"))));
        }
    }
    let (head, page) = match (fields.file_hash, fields.root) {
        (None, None) => (None, Bytes::new()),
        (Some(file_hash), Some(root)) => {
            let (digests, page) = split_body(geometry, body);
            let head = ManifestHead::from_bytes(root, fields.size, file_hash, &digests)
                .map_err(|error| refused(OfferError::Manifest(error)))?;
            (Some(Arc::new(head)), page)
        }
        _ => {
            let why = "it has a file hash or a root, and not both".to_owned();
            return Err(refused(OfferError::Malformed(why)));
        }
    };
    let (answers, is_partial) = (fields.ask, fields.partial);
    if answers.is_some() && head.is_none() {
        let why = "it answers a search, and does not say what it consists of".to_owned();
        return Err(refused(OfferError::Malformed(why)));
    }
    let is_known_only = fields.known;
    let (id, size) = (fields.id, fields.size);
    Ok(ContentOffer { id, answers, is_partial, is_known_only, name, size, tree, head, page })
}

/// The page digests, and what follows them: the page of a file that has only one.
fn split_body(geometry: Geometry, body: &Bytes) -> (Bytes, Bytes) {
    let digests = geometry.chunks().div_ceil(ENTRIES_PER_PAGE) as usize * 32;
    let at = digests.min(body.len());
    (body.slice(..at), body.slice(at..))
}

fn decode_have(payload: &str) -> Result<Message, BadLine> {
    let HavePayload { id, chunks } = parse("HAVE", payload)?;
    let bad = |why: &str| BadLine::Payload { kind: "HAVE", why: why.to_owned() };
    if chunks.len() > MAX_RUNS {
        return Err(bad("it has too many runs"));
    }
    let mut behind = 0;
    for &(first, count) in &chunks {
        if count == 0 || first < behind {
            return Err(bad("its runs are empty or out of order"));
        }
        behind = first.checked_add(count).ok_or_else(|| bad("a run has no end"))?;
    }
    Ok(Message::Have { id, chunks })
}

fn decode_data(payload: &str, body: &Bytes) -> Result<DataFrame, BadLine> {
    let DataPayload { id, chunk, length, offset, hash, state } = parse("DATA", payload)?;
    let entry = match (hash, state) {
        (Some(hash), Some(state)) => Some(Entry { hash, state }),
        _ => None,
    };
    Ok(DataFrame { id, chunk, length, offset, entry, bytes: body.clone() })
}

fn decode_seal(payload: &str, body: &Bytes) -> Result<Message, BadLine> {
    let SealPayload { id, size, file_hash, root } = parse("SEAL", payload)?;
    let head = ManifestHead::from_bytes(root, size, file_hash, body)
        .map_err(|error| BadLine::Payload { kind: "SEAL", why: error.to_string() })?;
    Ok(Message::Seal { id, head: Arc::new(head) })
}

/// Appends a message that belongs here.
pub(super) fn encode(message: &Message, out: &mut BytesMut) {
    match message {
        Message::NumberedText { id, text, key } => {
            put_line(out, "TEXT", &TextPayload { id: *id, text: text.as_str().into(), key: *key });
        }
        Message::TextAck(id) => put_line(out, "TEXT_ACK", &NumberPayload { id: *id }),
        Message::Ping(id) => put_line(out, "PING", &NumberPayload { id: *id }),
        Message::Pong(id) => put_line(out, "PONG", &NumberPayload { id: *id }),
        Message::Bye => put_line(out, "BYE", &()),
        Message::Offer(offer) => {
            let ContentOffer { id, answers, is_partial, is_known_only, name, size, tree, head, page } = offer;
            let payload = OfferPayload {
                id: *id,
                ask: *answers,
                partial: *is_partial,
                known: *is_known_only,
                name: name.as_str().into(),
                size: *size,
                tree: tree.map(|TreeInfo { list_bytes, files }| TreePayload { bytes: list_bytes, files }),
                file_hash: head.as_ref().map(|head| head.file_hash()),
                root: head.as_ref().map(|head| head.root()),
            };
            let digests = head.as_ref().map(|head| head.to_bytes()).unwrap_or_default();
            put_line_with_body(out, "OFFER", &payload, &[&digests, page]);
        }
        Message::Accept { id, kept, wants_list } => {
            put_line(out, "ACCEPT", &AcceptPayload { id: *id, kept: *kept, list: *wants_list });
        }
        Message::Refuse { id, reason } => put_line(out, "REFUSE", &reason.payload(*id)),
        Message::Withdraw { id, reason } => put_line(out, "WITHDRAW", &reason.payload(*id)),
        Message::Pull { id, first, count } => {
            put_line(out, "PULL", &PullPayload { id: *id, chunk: *first, count: *count });
        }
        Message::Unpull { id, first, count } => {
            put_line(out, "UNPULL", &PullPayload { id: *id, chunk: *first, count: *count });
        }
        Message::Ask { id, proof } => put_line(out, "ASK", &AskPayload { id: *id, proof: *proof }),
        Message::Lack { id, code } => {
            put_line(out, "LACK", &LackPayload { id: *id, code: code.as_str().into() });
        }
        Message::Have { id, chunks } => {
            put_line(out, "HAVE", &HavePayload { id: *id, chunks: chunks.clone() });
        }
        Message::Peers { id, peers } => {
            put_line(out, "PEERS", &PeersPayload { id: *id, peers: peers.clone() });
        }
        Message::PullPage { id, page } => put_line(out, "PULL_PAGE", &PagePayload { id: *id, page: *page }),
        Message::Page { id, page, entries } => {
            put_line_with_body(out, "PAGE", &PagePayload { id: *id, page: *page }, &[entries]);
        }
        Message::Resumed { id, chunk } => {
            put_line(out, "RESUMED", &ResumedPayload { id: *id, chunk: *chunk });
        }
        Message::Seal { id, head } => {
            let payload = SealPayload {
                id: *id,
                size: head.geometry().size(),
                file_hash: head.file_hash(),
                root: head.root(),
            };
            put_line_with_body(out, "SEAL", &payload, &[&head.to_bytes()]);
        }
        Message::Done(id) => put_line(out, "DONE", &IdPayload { id: *id }),
        Message::Data { id, index, data, entry } => {
            let whole = 0..data.0.len();
            encode_frame_line(out, *id, *index, data, entry.as_ref(), whole);
            out.put_slice(&data.0);
        }
        _ => debug_assert!(false, "not a message of this module: {message:?}"),
    }
}

/// Appends the line of one frame of a chunk; the bytes in `range` of the chunk are to follow.
fn encode_frame_line(
    out: &mut BytesMut,
    id: OfferId,
    index: u32,
    data: &ChunkData,
    entry: Option<&Entry>,
    range: std::ops::Range<usize>,
) {
    let narrow = |n: usize| u32::try_from(n).expect("a chunk has at most 256 KiB");
    let entry = entry.filter(|_| range.start == 0);
    let payload = DataPayload {
        id,
        chunk: index,
        length: narrow(data.0.len()),
        offset: narrow(range.start),
        hash: entry.map(|entry| entry.hash),
        state: entry.map(|entry| entry.state),
    };
    put_line_announcing(out, "DATA", &payload, range.len());
}

impl Message {
    /// Where the message is a chunk that may travel in pieces: appends the line of the piece that
    /// begins at `offset` and has at most `limit` bytes, and answers the bytes that are to follow
    /// it. `None` for other messages, and behind the end of the chunk.
    pub fn encode_frame(&self, offset: usize, limit: usize, out: &mut BytesMut) -> Option<Bytes> {
        let Self::Data { id, index, data, entry } = self else { return None };
        if offset >= data.0.len() {
            return None;
        }
        let range = offset..data.0.len().min(offset + limit.max(1));
        encode_frame_line(out, *id, *index, data, entry.as_ref(), range.clone());
        Some(data.0.slice(range))
    }
}

impl Reason {
    /// Puts the two together.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    fn payload(&self, id: OfferId) -> ReasonPayload<'_> {
        ReasonPayload { id, code: self.code.as_str().into(), message: self.message.as_str().into() }
    }
}

impl From<ReasonPayload<'_>> for Reason {
    fn from(payload: ReasonPayload<'_>) -> Self {
        Self {
            code: payload.code.chars().take(REASON_CODE_CHARS).collect(),
            message: payload.message.chars().take(REASON_CHARS).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
