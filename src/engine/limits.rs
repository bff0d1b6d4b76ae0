//! The bounds of a node, as plain data.

use std::time::Duration;

use super::Rate;

/// How much of everything there may be. The defaults are what a node runs with; tests shrink them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub peers: usize,
    /// Connections made by others on which nothing was ever said; past it the oldest gives way.
    pub silent_peers: usize,
    /// Dials under way.
    pub dials: usize,
    /// Offers from one peer that were not answered yet or wait for their partial file.
    pub offers_per_peer: usize,
    /// Offers and transfers of this node in all.
    pub transfers: usize,
    /// Bytes of manifests of waiting offers and running downloads, in all.
    pub manifest_bytes: usize,
    /// Files and directories to take in all; what is offered beyond them is refused. `None` for no end.
    pub received_in_all: Option<u32>,
    /// Bytes that are to stay free where received files go: what would leave less is taken only if a
    /// person says so.
    pub keep_free: u64,
    /// File content, and what is passed on for others, sent in all, as long as nobody says otherwise; `None` for as fast as it goes.
    pub up: Option<Rate>,
    /// File content received in all, the same.
    pub down: Option<Rate>,
    /// Proofs by which searches are recognized, for all connections together.
    pub ask_proofs: usize,
    /// How many of them are computed in a second for peers that ask for the first time.
    pub ask_proofs_per_sec: u32,
    /// How fast connections are passed on between trusted peers; `None` where they are not.
    pub relay: Option<Rate>,
    /// Uploads that answer the searches of one peer.
    pub answers_per_peer: usize,
    /// Dials at the same time that nobody typed.
    pub found_dials: usize,
    /// How long a search goes on in which nothing comes.
    pub starved: Duration,
    /// Bytes of one text to send.
    pub text_bytes: usize,
    /// Bytes of messages other than chunks that wait to be written to one peer.
    pub control_bytes_queued: usize,
    /// Chunks to one peer that are being read from disk or wait to be written.
    pub chunks_ahead: usize,
    /// The same for the node; past it every peer has one chunk only.
    pub chunks_ahead_in_all: usize,
    /// Chunks that may be wrong before their sender is dropped.
    pub bad_chunks: u32,
    /// Lines that are no message before their sender is dropped.
    pub bad_lines: u32,
    /// Refused offers and messages of a wrong form before their sender is dropped.
    pub refusals: u32,
    /// Lines in the log about what comes from one origin, in [`Limits::warning_span`].
    pub warnings: u32,
    /// After it, what was left out of the log is summed up in one line.
    pub warning_span: Duration,
    /// Chunks re-sent after a negative acknowledgement before the transfer fails.
    pub resends: u32,
    /// How long a new peer has to say what it speaks before it counts as baseline.
    pub hello_wait: Duration,
    /// How long a peer whose identity was proven has to say `HELLO`.
    pub secure_hello_wait: Duration,
    /// How long an offer stands, made to us or by us.
    pub offer_expiry: Duration,
    /// How long a transfer may stand still: nothing arrives, or nothing can be written.
    pub stall: Duration,
    /// How long we wait for the confirmation of a file after its last sign of life.
    pub confirmation_wait: Duration,
    /// How long a quiet peer is left alone.
    pub ping_after: Duration,
    /// How long a peer has to answer a ping, of which it gets three.
    pub ping_answer: Duration,
    /// How long a peer whose connection broke is waited for; zero for not at all.
    pub reconnect: Duration,
    /// Chunks that all downloads together may have asked for; past it each has one at a time.
    pub chunks_pulled_in_all: usize,
    /// The shortest time between two progress events of one transfer.
    pub progress_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 4096,
            silent_peers: 256,
            dials: 64,
            offers_per_peer: 128,
            transfers: 16_384,
            manifest_bytes: 256 << 20,
            received_in_all: None,
            keep_free: 0,
            up: None,
            down: None,
            ask_proofs: 1 << 18,
            ask_proofs_per_sec: 1 << 18,
            relay: None,
            answers_per_peer: 64,
            found_dials: 16,
            starved: Duration::from_secs(300),
            text_bytes: 64 << 10,
            control_bytes_queued: 4 << 20,
            chunks_ahead: 8,
            chunks_ahead_in_all: 16,
            bad_chunks: 5,
            bad_lines: 2,
            refusals: 100,
            warnings: 30,
            warning_span: Duration::from_secs(60),
            resends: 5,
            hello_wait: Duration::from_secs(1),
            secure_hello_wait: Duration::from_secs(10),
            offer_expiry: Duration::from_secs(600),
            stall: Duration::from_secs(120),
            confirmation_wait: Duration::from_secs(300),
            ping_after: Duration::from_secs(10),
            ping_answer: Duration::from_secs(5),
            reconnect: Duration::from_secs(120),
            chunks_pulled_in_all: 256,
            progress_interval: Duration::from_millis(250),
        }
    }
}
