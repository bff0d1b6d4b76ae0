//! The messages, and their form as one line of JSON.
//!
//! [`Message::decode`] is the edge: what comes out of it has been checked as far as one message
//! can be checked on its own. What fails is a [`BadLine`], which says how far it was understood,
//! because a refused offer, a spoilt chunk and a line of garbage cost their sender different things.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::Simd;
use base64::engine::general_purpose::PAD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::circuit::{self, CircuitId, CircuitPart};
use super::extended::{self, AskId, ContentOffer, Decoded, OfferId, PeerAddr, Prefix, Reason, Runs};
use super::{
    AskProof, BadManifest, BadName, BadTree, CHUNK_SIZE, ChunkHash, Entry, FileHash, Geometry,
    MAX_LINE_TO_BASELINE_BYTES, ManifestHead, NodeId, SafeName,
};

/// One message, as both sides understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Who we are and what we can do: the first line of a node of ours.
    Hello(Hello),
    /// A chat message.
    Text(String),
    /// The sender has a file for the receiver.
    FileOffer(Offer),
    /// The receiver asks for all chunks of an offered file.
    FileAccept(FileHash),
    /// One chunk. Which file it belongs to is not said: its digest tells.
    Chunk {
        /// Its number, not yet known to exist.
        index: u64,
        /// Its bytes, not yet verified.
        data: ChunkData,
    },
    /// The answer to one chunk.
    ChunkAck {
        /// The number that the chunk carried.
        index: u64,
        /// Whether it was right.
        ok: bool,
    },
    /// The receiver has the whole file and its hash is right.
    Complete(FileHash),
    /// A chat message that is to be acknowledged.
    NumberedText {
        /// Greater than those of all texts that the sender said before on any connection.
        id: u64,
        /// The text.
        text: String,
        /// What tells it from all others of its sender, where it may be said again by another run of the
        /// sender's program, or to another of the receiver's.
        key: Option<TextKey>,
    },
    /// A text was shown.
    TextAck(u64),
    /// To be answered at once.
    Ping(u64),
    /// The answer, with the same number.
    Pong(u64),
    /// The sender ends the connection on purpose.
    Bye,
    /// The sender has a file for the receiver, who may pull it.
    Offer(ContentOffer),
    /// The offer is wanted.
    Accept {
        /// Which one.
        id: OfferId,
        /// What the receiver has of a file that the offer did not list.
        kept: Option<Prefix>,
        /// Whether the receiver wants the list of such a one first: it may have much of it.
        wants_list: bool,
    },
    /// The offer is not wanted, or not any more.
    Refuse {
        /// Which one.
        id: OfferId,
        /// Why.
        reason: Reason,
    },
    /// The file will not come, or not all of it.
    Withdraw {
        /// The offer.
        id: OfferId,
        /// Why.
        reason: Reason,
    },
    /// The receiver asks for chunks.
    Pull {
        /// The offer.
        id: OfferId,
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
    },
    /// The receiver has chunks from elsewhere that it asked for: they need not come.
    Unpull {
        /// The offer.
        id: OfferId,
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Somebody who knows a content's hash asks whether the receiver has any of it. Answered with an
    /// offer or with [`Message::Lack`].
    Ask {
        /// What the search is called.
        id: AskId,
        /// What shows that the sender knows the hash, and names it to nobody who does not.
        proof: AskProof,
    },
    /// What was asked for is not to be had here.
    Lack {
        /// The search.
        id: AskId,
        /// A word that says why.
        code: String,
    },
    /// The sender has these chunks of what it offered, beside those that it told of before.
    Have {
        /// The offer.
        id: OfferId,
        /// Which; not yet known to exist.
        chunks: Runs,
    },
    /// Others who trade the offered content may be found there.
    Peers {
        /// The offer.
        id: OfferId,
        /// Where.
        peers: Vec<PeerAddr>,
    },
    /// The receiver asks for a page of the manifest.
    PullPage {
        /// The offer.
        id: OfferId,
        /// Which one.
        page: u32,
    },
    /// A page of the manifest.
    Page {
        /// The offer.
        id: OfferId,
        /// Which one.
        page: u32,
        /// Its entries, one after the other; not yet verified.
        entries: Bytes,
    },
    /// A chunk that was pulled.
    Data {
        /// The offer.
        id: OfferId,
        /// Its number, not yet known to exist.
        index: u32,
        /// Its bytes, not yet verified.
        data: ChunkData,
        /// What the sender says about it, where the offer did not list it.
        entry: Option<Entry>,
    },
    /// Whether what the receiver has is the beginning of the file.
    Resumed {
        /// The offer.
        id: OfferId,
        /// The chunk to go on with: the one after what the receiver has, or 0.
        chunk: u32,
    },
    /// All of a file was read that the offer did not list: this is what it is.
    Seal {
        /// The offer.
        id: OfferId,
        /// What the file consists of.
        head: Arc<ManifestHead>,
    },
    /// The file is in place at the receiver.
    Done(OfferId),
    /// A connection to somebody else that is passed on.
    Circuit {
        /// Which one.
        id: CircuitId,
        /// What is said about it.
        part: CircuitPart,
    },
    /// A type that we do not know, which is ignored.
    Unknown(String),
}

/// A queue of a connection: what is in one of them is written in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What a person or the protocol says, before all else.
    Control,
    /// Circuits, in turn with file content.
    Circuit,
    /// File content.
    Bulk,
}

/// The bytes of one chunk, cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct ChunkData(pub Bytes);

impl fmt::Debug for ChunkData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkData({} bytes)", self.0.len())
    }
}

/// What a node of ours says first on every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the extended protocol; 1 so far.
    pub version: u32,
    /// Program and version, for logs.
    pub agent: String,
    /// The sender's identity, where it has one. A label: only a handshake proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Which run of the program this is.
    pub instance: Instance,
    /// The port it listens on; 0 where it does not listen.
    pub listen_port: u16,
    /// Where it sees who it says this to: the address that it dialled, or from which it was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub your_addr: Option<SocketAddr>,
    /// What it can do beyond the baseline. Only what both sides name is used.
    #[serde(default)]
    pub features: Vec<String>,
}

/// Makes a type of 128 bits that are 32 hexadecimal digits as text.
macro_rules! of_128_bits {
    ($name:ident, $what:literal, $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = &'static str;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| concat!($what, " is 32 hexadecimal digits"))?;
                Ok(Self(u128::from_be_bytes(bytes)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

of_128_bits!(Instance, "an instance",
    /// A random number that one process draws at its start; 32 hexadecimal digits on the wire.
);
of_128_bits!(TextKey, "the key of a text",
    /// What a text is known by for ever, among those of its sender; 32 hexadecimal digits on the wire.
);

/// What a file consists of: its size, its hash, and the hash of each chunk. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    geometry: Geometry,
    file_hash: FileHash,
    chunk_hashes: Arc<[ChunkHash]>,
}

impl Manifest {
    /// Puts a manifest together.
    ///
    /// # Errors
    /// Where the parts contradict each other.
    pub fn new(size: u64, file_hash: FileHash, chunk_hashes: Vec<ChunkHash>) -> Result<Self, OfferError> {
        let geometry = Geometry::new(size).ok_or(OfferError::Size(size))?;
        if chunk_hashes.len() as u64 != u64::from(geometry.chunks()) {
            return Err(OfferError::HashCount { hashes: chunk_hashes.len(), chunks: geometry.chunks() });
        }
        // A file of no chunk or of one has only one possible hash.
        let implied = match chunk_hashes.as_slice() {
            [] => Some(FileHash(Sha256::digest(b"").into())),
            [only] => Some(FileHash(only.0)),
            _ => None,
        };
        if implied.is_some_and(|implied| implied != file_hash) {
            return Err(OfferError::HashesDisagree);
        }
        Ok(Self { geometry, file_hash, chunk_hashes: chunk_hashes.into() })
    }

    /// How the file is cut.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// The SHA-256 of the whole file.
    pub fn file_hash(&self) -> FileHash {
        self.file_hash
    }

    /// The SHA-256 of a chunk.
    pub fn chunk_hash(&self, index: super::ChunkIndex) -> ChunkHash {
        self.chunk_hashes[index.as_usize()]
    }

    /// Bytes of memory it takes, about.
    pub fn memory(&self) -> usize {
        self.chunk_hashes.len() * size_of::<ChunkHash>()
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manifest({:?}, {} bytes)", self.file_hash, self.size())
    }
}

/// A file that a peer could have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it should be called.
    pub name: SafeName,
    /// What it consists of.
    pub manifest: Manifest,
}

impl Offer {
    /// Bytes in the largest file that can be offered to a baseline peer.
    pub fn largest_for_baseline() -> u64 {
        let chunks = (MAX_LINE_TO_BASELINE_BYTES as u64 - 512 - 6 * 255 - 1) / 67;
        chunks * u64::from(CHUNK_SIZE)
    }

    /// Whether the offer's line is short enough for a baseline peer to read on.
    ///
    /// 67 bytes a chunk (64 digits, quotes, comma); the rest of the line is at most 512 bytes and
    /// six for each byte of the name.
    pub fn fits_baseline(&self) -> bool {
        Self::size_fits_baseline(self.manifest.size())
    }

    /// The same for a file of which only the size is known.
    pub fn size_fits_baseline(size: u64) -> bool {
        let chunks = size.div_ceil(u64::from(CHUNK_SIZE));
        chunks.saturating_mul(67) + 512 + 6 * 255 < MAX_LINE_TO_BASELINE_BYTES as u64
    }
}

/// What is wrong with an offer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OfferError {
    /// The name.
    #[error("{0}")]
    Name(#[from] BadName),
    /// A size that no file has.
    #[error("a file of {0} bytes is larger than any that can be sent")]
    Size(u64),
    /// `total_chunks` is not what `file_size` implies.
    #[error("it says {said} chunks where its size makes {implied}")]
    ChunkCount {
        /// What was said.
        said: u64,
        /// What the size implies.
        implied: u32,
    },
    /// The number of hashes is not the number of chunks.
    #[error("it lists {hashes} chunk hashes for {chunks} chunks")]
    HashCount {
        /// Hashes listed.
        hashes: usize,
        /// Chunks that the size implies.
        chunks: u32,
    },
    /// The file's hash cannot follow from the chunks' hashes.
    #[error("its file hash contradicts its chunk hashes")]
    HashesDisagree,
    /// The list of what the file consists of.
    #[error("{0}")]
    Manifest(#[from] BadManifest),
    /// What it says of a directory.
    #[error("{0}")]
    Tree(#[from] BadTree),
    /// A field is missing or has the wrong type.
    #[error("{0}")]
    Malformed(String),
}

/// A line that did not become a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadLine {
    /// Not a JSON object with a type: nothing that any version of this protocol says.
    #[error("a line that is not a message: {0}")]
    NotAMessage(String),
    /// A known type with a payload that is not of its form.
    #[error("a {kind} message that cannot be understood: {why}")]
    Payload {
        /// The type.
        kind: &'static str,
        /// What serde says about it.
        why: String,
    },
    /// An offer that contradicts itself.
    #[error("offer refused: {0}")]
    Offer(#[source] OfferError),
    /// The same, of a kind that can be refused by its number.
    #[error("offer refused: {error}")]
    ContentOffer {
        /// The number.
        id: OfferId,
        /// What is wrong.
        #[source]
        error: OfferError,
    },
    /// A chunk whose base64 is broken.
    #[error("chunk {index} is not valid base64")]
    Chunk {
        /// The number that it carried.
        index: u64,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    /// Bytes of the body behind the line; no number at all from a peer that means something else.
    #[serde(borrow)]
    size: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct OfferPayload<'a> {
    #[serde(borrow)]
    file_name: Cow<'a, str>,
    file_size: u64,
    total_chunks: u64,
    file_hash: FileHash,
    /// Go writes a list without elements as `null`.
    chunk_hashes: Option<Cow<'a, [ChunkHash]>>,
}

#[derive(Deserialize)]
struct ChunkPayload<'a> {
    index: u64,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct AckPayload {
    index: u64,
    ok: bool,
}

/// What one line turned out to be.
#[derive(Debug)]
pub(super) enum Line {
    /// All there is.
    Whole(Result<Decoded, BadLine>),
    /// The beginning of something of which raw bytes are still to come.
    Announces(Announced),
}

/// A line whose raw bytes have not arrived yet.
#[derive(Debug)]
pub(super) struct Announced {
    kind: String,
    payload: String,
    /// How many bytes follow the newline.
    pub(super) body_size: u64,
}

impl Line {
    /// Reads one line, without its newline. Bytes may follow it only from a peer that said `HELLO`.
    pub(super) fn read(line: &[u8], extended: bool) -> Self {
        // serde would take a list of the fields for an object.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Self::Whole(Err(BadLine::NotAMessage("it is no JSON object".to_owned())));
        }
        let envelope: Envelope<'_> = match serde_json::from_slice(line) {
            Ok(envelope) => envelope,
            Err(error) => return Self::Whole(Err(BadLine::NotAMessage(brief(&error)))),
        };
        let payload = envelope.payload.map_or("null", RawValue::get);
        let size = envelope.size.filter(|_| extended).and_then(|size| size.get().parse().ok());
        match size.unwrap_or(0) {
            0 => Self::Whole(Message::from_parts(&envelope.kind, payload, &Bytes::new())),
            body_size => Self::Announces(Announced {
                kind: envelope.kind.into_owned(),
                payload: payload.to_owned(),
                body_size,
            }),
        }
    }
}

impl Announced {
    /// The message, now that its bytes are here.
    pub(super) fn with_body(self, body: &Bytes) -> Result<Decoded, BadLine> {
        Message::from_parts(&self.kind, &self.payload, body)
    }
}

impl Message {
    /// Reads one line, without its newline, that no raw bytes follow.
    ///
    /// # Errors
    /// [`BadLine`], which says how much of it was understood.
    pub fn decode(line: &[u8]) -> Result<Self, BadLine> {
        match Line::read(line, false) {
            Line::Whole(Ok(Decoded::Message(message))) => Ok(message),
            Line::Whole(Err(error)) => Err(error),
            // A piece of a chunk without any bytes.
            Line::Whole(Ok(Decoded::Frame(_))) | Line::Announces(_) => {
                Err(BadLine::Payload { kind: "DATA", why: "it has no bytes".to_owned() })
            }
        }
    }

    fn from_parts(kind: &str, payload: &str, body: &Bytes) -> Result<Decoded, BadLine> {
        if let Some(decoded) = extended::decode(kind, payload, body) {
            return decoded;
        }
        if let Some(decoded) = circuit::decode(kind, payload, body) {
            return decoded.map(Decoded::Message);
        }
        let message = match kind {
            "HELLO" => parse("HELLO", payload).map(Self::Hello),
            "TEXT" if payload.starts_with('{') => extended::decode_text(payload),
            "TEXT" => parse("TEXT", payload).map(Self::Text),
            "FILE_OFFER" => decode_offer(payload).map(Self::FileOffer).map_err(BadLine::Offer),
            "FILE_ACCEPT" => parse("FILE_ACCEPT", payload).map(Self::FileAccept),
            "CHUNK" => decode_chunk(payload),
            "CHUNK_ACK" => {
                parse("CHUNK_ACK", payload).map(|AckPayload { index, ok }| Self::ChunkAck { index, ok })
            }
            "COMPLETE" => parse("COMPLETE", payload).map(Self::Complete),
            other => Ok(Self::Unknown(other.chars().take(64).collect())),
        };
        message.map(Decoded::Message)
    }

    /// Appends the message as one line, newline included.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => put_line(out, "HELLO", hello),
            Self::Text(text) => put_line(out, "TEXT", text),
            Self::FileOffer(Offer { name, manifest }) => {
                out.reserve(67 * manifest.chunk_hashes.len() + 512);
                let payload = OfferPayload {
                    file_name: name.as_str().into(),
                    file_size: manifest.size(),
                    total_chunks: manifest.geometry.chunks().into(),
                    file_hash: manifest.file_hash,
                    chunk_hashes: Some(Cow::Borrowed(&manifest.chunk_hashes)),
                };
                put_line(out, "FILE_OFFER", &payload);
            }
            Self::FileAccept(hash) => put_line(out, "FILE_ACCEPT", hash),
            Self::Chunk { index, data } => put_chunk(out, *index, &data.0),
            Self::ChunkAck { index, ok } => {
                put_line(out, "CHUNK_ACK", &AckPayload { index: *index, ok: *ok });
            }
            Self::Complete(hash) => put_line(out, "COMPLETE", hash),
            Self::Circuit { id, part } => circuit::encode(*id, part, out),
            Self::Unknown(kind) => put_line(out, kind, &()),
            extended => extended::encode(extended, out),
        }
    }

    /// In which of a connection's queues it waits to be written.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Chunk { .. } | Self::Data { .. } => Lane::Bulk,
            Self::Circuit { .. } => Lane::Circuit,
            _ => Lane::Control,
        }
    }

    /// Whether it may travel in pieces; see [`Message::encode_frame`].
    pub fn is_pulled_chunk(&self) -> bool {
        matches!(self, Self::Data { .. })
    }

    /// Whether it is something a person said.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::NumberedText { .. })
    }

    /// Bytes it takes while it waits to be written, about.
    pub fn weight(&self) -> usize {
        const SMALL: usize = 128;
        match self {
            Self::Text(text) | Self::NumberedText { text, .. } => SMALL + text.len(),
            Self::FileOffer(offer) => SMALL + offer.manifest.memory(),
            Self::Chunk { data, .. } | Self::Data { data, .. } => SMALL + data.0.len(),
            Self::Offer(offer) => {
                SMALL + offer.page.len() + offer.head.as_ref().map_or(0, |head| 32 * head.pages() as usize)
            }
            Self::Seal { head, .. } => SMALL + 32 * head.pages() as usize,
            Self::Have { chunks, .. } => SMALL + 8 * chunks.len(),
            Self::Peers { peers, .. } => SMALL + peers.len() * size_of::<PeerAddr>(),
            Self::Page { entries, .. } => SMALL + entries.len(),
            Self::Circuit { part: CircuitPart::Data(bytes), .. } => SMALL + bytes.len(),
            Self::Refuse { reason, .. } | Self::Withdraw { reason, .. } => SMALL + reason.message.len(),
            Self::Hello(_)
            | Self::FileAccept(_)
            | Self::ChunkAck { .. }
            | Self::Complete(_)
            | Self::TextAck(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Bye
            | Self::Circuit { .. }
            | Self::Accept { .. }
            | Self::Pull { .. }
            | Self::Unpull { .. }
            | Self::Ask { .. }
            | Self::Lack { .. }
            | Self::PullPage { .. }
            | Self::Resumed { .. }
            | Self::Done(_)
            | Self::Unknown(_) => SMALL,
        }
    }
}

/// What serde says, without the peer's whole value in it.
pub(super) fn brief(error: &serde_json::Error) -> String {
    error.to_string().chars().take(120).collect()
}

pub(super) fn parse<'a, T: Deserialize<'a>>(kind: &'static str, payload: &'a str) -> Result<T, BadLine> {
    serde_json::from_str(payload).map_err(|error| BadLine::Payload { kind, why: brief(&error) })
}

fn decode_offer(payload: &str) -> Result<Offer, OfferError> {
    let fields: OfferPayload<'_> =
        serde_json::from_str(payload).map_err(|error| OfferError::Malformed(brief(&error)))?;
    let name = SafeName::new(&fields.file_name)?;
    let geometry = Geometry::new(fields.file_size).ok_or(OfferError::Size(fields.file_size))?;
    if fields.total_chunks != u64::from(geometry.chunks()) {
        return Err(OfferError::ChunkCount { said: fields.total_chunks, implied: geometry.chunks() });
    }
    let manifest = Manifest::new(
        fields.file_size,
        fields.file_hash,
        fields.chunk_hashes.unwrap_or_default().into_owned(),
    )?;
    Ok(Offer { name, manifest })
}

/// The standard alphabet with padding, as the original program writes it.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

fn decode_chunk(payload: &str) -> Result<Message, BadLine> {
    let ChunkPayload { index, data } = parse("CHUNK", payload)?;
    match BASE64.decode(data.as_bytes()) {
        Ok(data) => Ok(Message::Chunk { index, data: ChunkData(data.into()) }),
        Err(_) => Err(BadLine::Chunk { index }),
    }
}

pub(super) fn put_line<T: Serialize + ?Sized>(out: &mut BytesMut, kind: &str, payload: &T) {
    put_line_announcing(out, kind, payload, 0);
}

/// Appends a line and the raw bytes behind it.
pub(super) fn put_line_with_body<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: &str,
    payload: &T,
    body: &[&[u8]],
) {
    put_line_announcing(out, kind, payload, body.iter().map(|part| part.len()).sum());
    for part in body {
        out.put_slice(part);
    }
}

/// Appends a line which says that so many raw bytes follow it.
pub(super) fn put_line_announcing<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: &str,
    payload: &T,
    size: usize,
) {
    #[derive(Serialize)]
    struct Outgoing<'a, T: ?Sized> {
        #[serde(rename = "type")]
        kind: &'a str,
        payload: &'a T,
        #[serde(skip_serializing_if = "is_zero")]
        size: usize,
    }
    serde_json::to_writer(&mut out.writer(), &Outgoing { kind, payload, size })
        .expect("our messages have no map with keys that are not strings, and a buffer takes all");
    out.put_u8(b'\n');
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(size: &usize) -> bool {
    *size == 0
}

/// The same form as [`put_line`] gives, without passing the base64 through a JSON escaper.
fn put_chunk(out: &mut BytesMut, index: u64, data: &[u8]) {
    let encoded = data.len().div_ceil(3) * 4;
    out.reserve(encoded + 96);
    out.put_slice(br#"{"type":"CHUNK","payload":{"index":"#);
    out.put_slice(index.to_string().as_bytes());
    out.put_slice(br#","hash":"","data":""#);
    let start = out.len();
    out.resize(start + encoded, 0);
    let written = BASE64.encode_slice(data, &mut out[start..]).expect("room for base64 was made");
    debug_assert_eq!(written, encoded);
    out.put_slice(b"\"}}\n");
}

#[cfg(test)]
mod tests;
