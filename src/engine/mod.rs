//! What to do: peers, offers, downloads and uploads as state machines.
//!
//! No async, no clock, no files, no sockets, no randomness. Everything that happens is an
//! [`Input`] with the time at which it happened; everything to be done is an [`Output`]. Time is
//! counted from the node's start.
//!
//! The receiver drives: what a baseline `FILE_ACCEPT` means is a request for all chunks, and an
//! upload serves requested ranges. Everything that a peer can make grow has a bound in [`Limits`].

mod addresses;
mod answers;
mod askable;
mod book;
mod bottleneck;
mod candidates;
mod cells;
mod chunk_map;
mod code;
mod command;
mod commands;
mod complaints;
mod conduct;
mod connections;
mod considered;
mod dht;
mod dice;
mod downloads;
mod event;
mod features;
mod found;
mod gets;
mod history;
mod holding;
mod io;
mod job;
mod limits;
mod lists;
mod liveness;
mod nearby;
mod offered;
mod origin;
mod outbox;
mod partials;
mod passing;
mod peers;
mod pex;
mod pulling;
mod reach;
mod reconnect;
mod relay;
mod reputation;
mod rules;
mod seeks;
mod serving;
mod shared;
mod shares;
mod shown;
mod sources;
mod texts;
mod throttle;
mod timers;
mod trees;
mod uploads;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use addresses::{AddressInfo, AddressSource, Mapping, Witness};
pub use book::{Alias, Book, Change, Known, Reading, identity_changed};
pub use bottleneck::{Bottleneck, Took};
pub use cells::Cell;
pub use code::{Code, Failure};
pub use command::{
    Command, Delivery, Destination, Direction, HostPort, LimitsInfo, NodeInfo, PeerInfo, PeerRef, Reply,
    Selection, ShareInfo, Stage, Target, TransferInfo,
};
pub use conduct::BanInfo;
pub(crate) use dht::FIRST_FOUND_PORT;
pub use dht::{DhtInfo, DhtState};
pub use event::Event;
pub use history::{
    HistoryEntry, HistoryKind, HistoryLine, HistoryQuery, Outcome, Past, PastTransfer, Remembered, Whom,
    bytes_in, fit,
};
pub use io::{Closing, Dialled, Input, Output, Purpose};
pub use job::{ChunkProof, Incoming, Job, JobDone, Kept, Leftover, Look, PartialKey, Stamp};
pub use limits::Limits;
pub use nearby::{LanNews, NearbyInfo, Sighting};
pub use origin::Origin;
pub use outbox::{OutboxEntry, OutboxInfo, OutboxItem, OutboxJob, OutboxNews};
pub(crate) use reach::{farthest, is_elsewhere, is_public};
pub use relay::{StreamId, Via};
pub use reputation::{Banned, Dealing, Record, ban_time};
pub use rules::{AcceptPolicy, AcceptRule, AcceptRules, NamePattern, Treatment, Whose};
pub use shared::Shared;
pub use shown::ShownKeys;
pub use throttle::Rate;

use crate::wire::{FileHash, Instance, Message, NodeId};
use addresses::Addresses;
use askable::Askable;
use candidates::FoundDials;
use complaints::{About, Complaints, Verdict};
use conduct::Conduct;
use dht::Dht;
use dice::Dice;
use downloads::Download;
use gets::Get;
use holding::SentCounts;
use nearby::Nearby;
use offered::Finished;
use outbox::Outbox;
use partials::Releases;
use peers::{Peer, Peers};
use reconnect::{Absent, Process};
use relay::Circuits;
use seeks::Seek;
use shares::Shares;
use texts::{Heard, Showing};
use throttle::{Bucket, Queue, Turn};
use timers::Timers;
use uploads::Upload;

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

/// What an engine is made with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// A random number that tells this run of the program from others.
    pub instance: Instance,
    /// Who this node is, which every handshake proves; `None` where it speaks plaintext.
    pub node_id: Option<NodeId>,
    /// Program and version, told to peers.
    pub agent: String,
    /// The address that the node listens on.
    pub listening: SocketAddr,
    /// Where others may reach it, as far as this machine knows; see also [`Input::Reachable`].
    pub reachable: Vec<Target>,
    /// Whether what was fetched by its hash is served on.
    pub seeds: bool,
    /// Whether contents are announced and looked up in a DHT.
    pub dht: bool,
    /// Whether others are looked for on the local network.
    pub lan: bool,
    /// Whether what is for somebody known who is not connected is kept until they are.
    pub outbox: bool,
    /// The Unix time when the node started.
    pub unix_time: Duration,
    /// What looks random is drawn from this.
    pub seed: u64,
    /// Where received files go; only told, never touched.
    pub downloads: PathBuf,
    /// Which offers are taken without asking, and which are refused.
    pub accept: AcceptRules,
    /// The bounds.
    pub limits: Limits,
}

const CLOSED_BY_PEER: &str = "the peer closed the connection";

/// What a deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    /// The peer has not said what it speaks.
    Hello(ConnId),
    /// What is queued for the peer is not being written.
    Write(ConnId),
    /// An offer, made or received, that nobody answers.
    Offer(TransferId),
    /// A transfer that does not move.
    Stall(TransferId),
    /// A peer that acknowledges texts does not acknowledge one.
    Heard(ConnId),
    /// A quiet peer may be gone.
    Liveness(ConnId),
    /// It is time to look after the sources of what is searched for.
    Look(TransferId),
    /// Dealings with peers are to be noted.
    Dealings,
    /// Something may be sent again, as far as that is limited.
    Up,
    /// Something may be asked for again, as far as that is limited.
    Down,
    /// Peers that were dialled for searches that ended may be of no use any more.
    Found,
    /// The local network has told where somebody is who is sought, or does not know.
    Seek(NodeId),
    /// Chunks are here that those who wait for them were not told of.
    Have(TransferId),
    /// The hashes of a share can be remembered from now on.
    Settled(FileHash),
    /// A peer whose connection broke is not waited for any longer.
    Away(Process),
    /// It is time to dial a peer whose connection broke.
    Redial(Process),
    /// It is time to try again to deliver what waits for somebody.
    Outbox(NodeId),
    /// It is time to look for what waits and nobody holds.
    TakeOver,
    /// What was left out of the log is summed up.
    Complaints(About),
}

/// The state of a node.
///
/// Give it what happens with [`Engine::handle`], then take everything from
/// [`Engine::poll_output`], then wait for the next thing to happen, but no longer than until
/// [`Engine::poll_timeout`].
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    now: Duration,
    peers: Peers,
    circuits: Circuits,
    uploads: BTreeMap<TransferId, Upload>,
    downloads: BTreeMap<TransferId, Download>,
    /// What earlier attempts left, which nothing uses.
    leftovers: BTreeMap<TransferId, Leftover>,
    /// What is searched for; what was found has a download of the same number.
    gets: BTreeMap<TransferId, Get>,
    shares: Shares,
    askable: Askable,
    found_dials: FoundDials,
    dht: Dht,
    last_ask: u64,
    /// Of what is being served to those who searched for it.
    sent_counts: BTreeMap<FileHash, SentCounts>,
    /// How fast this node may send and receive, and who waits for that.
    up: Bucket,
    down: Bucket,
    sending: Queue<Turn>,
    asking: Queue<(TransferId, ConnId)>,
    dice: Dice,
    finished: Finished,
    releases: Releases,
    /// Files and directories that have arrived.
    received: u32,
    absent: Absent,
    heard: Heard,
    shown: ShownKeys,
    showing: Showing,
    outbox: Outbox,
    is_stopping: bool,
    last_text: u64,
    /// Downloads that ended while some of their chunks were being verified, until these are.
    ended_with_chunks: BTreeMap<TransferId, ConnId>,
    last_transfer: u64,
    /// Commands that wait for each dial.
    dials: BTreeMap<Target, Vec<CommandId>>,
    /// Who is to be connected to, wherever that is.
    seeks: BTreeMap<NodeId, Seek>,
    nearby: Nearby,
    /// Where peers see this node.
    addresses: Addresses,
    /// Who is known, as it was last read.
    book: Book,
    /// When that was: tasks that read and write it may end in another order than they began.
    book_as_of: u64,
    /// Commands that wait until nothing runs.
    waiting: Vec<CommandId>,
    /// Whether somebody can be asked about an offer.
    can_ask: bool,
    /// The sum of all peers' `chunks_ahead`.
    chunks_ahead: usize,
    /// Chunks that all downloads together asked for and that have not arrived.
    pulling: usize,
    /// Bytes of the manifests of all downloads.
    manifest_bytes: usize,
    complaints: Complaints,
    conduct: Conduct,
    timers: Timers<Deadline>,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// A node with no peer and nothing to do.
    pub fn new(config: EngineConfig) -> Self {
        let relay = config.limits.relay;
        let (up, down) = (config.limits.up, config.limits.down);
        Self {
            dice: Dice::new(config.seed),
            config,
            now: Duration::ZERO,
            peers: Peers::default(),
            uploads: BTreeMap::new(),
            downloads: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            gets: BTreeMap::new(),
            shares: Shares::default(),
            askable: Askable::default(),
            found_dials: FoundDials::default(),
            dht: Dht::default(),
            last_ask: 0,
            sent_counts: BTreeMap::new(),
            circuits: Circuits::new(relay),
            up: Bucket::limited(up),
            down: Bucket::limited(down),
            sending: Queue::default(),
            asking: Queue::default(),
            finished: Finished::default(),
            releases: Releases::default(),
            received: 0,
            absent: Absent::default(),
            heard: Heard::default(),
            shown: ShownKeys::default(),
            showing: Showing::default(),
            outbox: Outbox::default(),
            is_stopping: false,
            last_text: 0,
            ended_with_chunks: BTreeMap::new(),
            last_transfer: 0,
            dials: BTreeMap::new(),
            seeks: BTreeMap::new(),
            nearby: Nearby::default(),
            addresses: Addresses::default(),
            book: Book::default(),
            book_as_of: 0,
            waiting: Vec::new(),
            can_ask: true,
            chunks_ahead: 0,
            pulling: 0,
            manifest_bytes: 0,
            complaints: Complaints::default(),
            conduct: Conduct::default(),
            timers: Timers::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what happened at `now`, the time since the node's start, which never goes back.
    pub fn handle(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Opened { conn, addr, dialled, binding, node_id, first_contact, stream } => {
                let greeted = stream.map(|stream| self.on_stream_greeted(stream, conn));
                if let Some(None) = greeted {
                    // The circuit ended meanwhile. Who is at its end is not there without it.
                    return self.outputs.push_back(Output::Close { conn });
                }
                let greeted = greeted.flatten();
                let wanted = greeted.as_ref().is_some_and(|greeted| greeted.is_wanted);
                let by_us = dialled.is_some() || wanted;
                let mut peer = Peer::new(addr, self.now);
                match dialled {
                    Some(Dialled { target, why: Purpose::Found }) => {
                        peer.found_for = Some(self.on_found_dialled(&target, true));
                    }
                    Some(Dialled { target, why: Purpose::Typed }) => {
                        self.on_redialled(&target);
                        peer.connecting = self.dials.remove(&target).unwrap_or_default();
                        peer.dialled = Some(target.address);
                    }
                    Some(Dialled { target, why: Purpose::Named })
                        if self.on_place_reached(&mut peer, &target) => {}
                    Some(Dialled { why: Purpose::Named, .. }) => {
                        return self.outputs.push_back(Output::Close { conn });
                    }
                    None => {}
                }
                peer.connecting.extend(greeted.as_ref().and_then(|greeted| greeted.command));
                peer.dialled_by_us = by_us;
                peer.binding = binding;
                peer.node_id = node_id;
                peer.first_contact = first_contact;
                peer.via = greeted.map(|greeted| greeted.via);
                self.on_opened(conn, peer);
            }
            Input::StreamFailed { stream, failure } => self.on_stream_failed(stream, &failure),
            Input::Stream { stream, part } => self.on_stream(stream, part),
            Input::BookRead(reading) => self.take_book(reading),
            Input::BookChanged { command, result, reply } => {
                let result = result.map(|reading| self.take_book(reading));
                self.reply(command, result.map(|()| reply));
            }
            Input::Pinned { result: Ok(reading), .. } => self.take_book(reading),
            Input::Pinned { conn, result: Err(failure) } => self.drop_peer(conn, &failure.message),
            Input::TurnedAway { addr, why } => self.warn(addr, format!("closed: {why}")),
            Input::DialFailed { dialled: Dialled { target, why: Purpose::Found }, .. } => {
                self.on_found_dial_failed(&target);
            }
            Input::DialFailed { dialled: Dialled { target, why: Purpose::Named }, failure } => {
                self.on_redial_failed(&target, Purpose::Named, &failure);
                self.on_place_failed(&target, failure);
            }
            Input::NoteFailed(failure) => {
                self.event(Event::Warning { peer: None, text: failure.message });
            }
            Input::HistoryRead { command, result } => self.on_history_read(command, result),
            Input::SharesRead(shares) => self.on_shares_read(shares),
            Input::KeysRead(keys) => self.on_keys_read(keys),
            Input::Marked { from, key, failure } => self.on_marked(from, key, failure),
            Input::Outbox(news) => self.on_outbox(news),
            Input::DialFailed { dialled: Dialled { target, why: Purpose::Typed }, failure } => {
                self.on_redial_failed(&target, Purpose::Typed, &failure);
                for command in self.dials.remove(&target).unwrap_or_default() {
                    self.reply(command, Err(failure.clone()));
                }
            }
            Input::Received { conn, message } => self.on_message(conn, message),
            Input::BadLine { conn, error } => self.on_bad_line(conn, &error),
            Input::Alive { conn } => self.heard_from(conn),
            Input::Shown { conn, id } => self.on_shown(conn, id),
            Input::Closed { conn, closing } => self.on_closed(conn, closing),
            Input::Written { conn, control, circuits, bulk } => {
                self.on_written(conn, control, circuits, bulk);
            }
            Input::JobDone { transfer, done, took } => match done {
                JobDone::Partials(found) => return self.on_partials(found),
                JobDone::Released { left } => {
                    self.on_released(transfer, left);
                    self.on_ended_download_job(transfer, JobDone::Released { left: None });
                }
                done => self.on_job_done(transfer, done, took),
            },
            Input::Command { id, command } => self.on_command(id, command),
            Input::Dht(state) => self.on_dht(state),
            Input::Lan(news) => self.on_lan(news),
            Input::Reachable(reachable) => self.on_reachable(reachable),
            Input::Mapping(mapping) => self.on_mapping(mapping),
            Input::Found { id, addrs } => self.on_found(id, &addrs),
            Input::LookedUp { id } => self.on_looked_up(id),
            Input::Stopping => self.on_stopping(),
            Input::Tick => self.on_tick(),
        }
        self.answer_waiting();
    }

    /// The next thing to do; `None` when all has been taken.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due, as time since the node's start.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    fn on_job_done(&mut self, transfer: TransferId, done: JobDone, took: Took) {
        if self.on_share_job(transfer, &done) {
            return;
        }
        if self.uploads.contains_key(&transfer) {
            self.on_upload_job(transfer, done, took);
        } else if self.downloads.contains_key(&transfer) {
            self.on_download_job(transfer, done, took);
        } else {
            self.on_ended_download_job(transfer, done);
        }
    }

    /// Looks for what earlier attempts left, once, before anything else.
    pub fn find_leftovers(&mut self, unused_for: Duration) {
        self.job(TransferId(0), Job::ListPartials { unused_for });
    }

    /// What does not end any more has failed, and whoever watches hears it.
    fn on_stopping(&mut self) {
        self.is_stopping = true;
        let failure = Failure::new(Code::ShuttingDown, "this side ended before it was done");
        for id in self.uploads.keys().copied().collect::<Vec<_>>() {
            self.fail_upload(id, failure.clone());
        }
        for id in self.downloads.keys().copied().collect::<Vec<_>>() {
            self.fail_download(id, failure.clone());
        }
        for id in self.gets.keys().copied().collect::<Vec<_>>() {
            self.fail_get(id, failure.clone());
        }
        self.give_up_all("this side ended");
        for text in self.complaints.end_all() {
            self.event(Event::Warning { peer: None, text });
        }
        self.note_dealings();
        // Partial files stay; nobody does jobs any more. Peers hear what ended.
        self.outputs.retain(|output| match output {
            Output::Event(_) | Output::Note(_) | Output::Remember(_) => true,
            Output::Outbox(_) | Output::Mark { .. } => true,
            Output::Send { message, .. } => {
                matches!(message, Message::Withdraw { .. } | Message::Refuse { .. })
            }
            _ => false,
        });
        let leaving: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.level == Some(Level::Extended))
            .map(|(conn, _)| conn)
            .collect();
        for conn in leaving {
            self.outputs.push_back(Output::Send { conn, message: Message::Bye });
        }
    }

    fn on_tick(&mut self) {
        while let Some(deadline) = self.timers.take_due(self.now) {
            match deadline {
                Deadline::Hello(conn) if self.is_secure() => {
                    self.drop_peer(conn, "it did not say HELLO in time");
                }
                Deadline::Hello(conn) => {
                    self.settle(conn, Level::Baseline);
                    self.make_room_for_talkers();
                }
                Deadline::Write(conn) => {
                    let minutes = self.config.limits.stall.as_secs_f32() / 60.0;
                    self.drop_peer(
                        conn,
                        &format!("it took nothing that was sent to it for {minutes} minutes"),
                    );
                }
                Deadline::Offer(id) => self.on_offer_expired(id),
                Deadline::Stall(id) => self.on_stalled(id),
                Deadline::Heard(conn) => self.on_not_heard(conn),
                Deadline::Liveness(conn) => self.on_liveness(conn),
                Deadline::Look(id) => self.on_look(id),
                Deadline::Have(id) => self.on_have_due(id),
                Deadline::Settled(hash) => self.wake_waiting(hash, true),
                Deadline::Found => self.close_found_in_vain(),
                Deadline::Dealings => self.note_dealings(),
                Deadline::Up => self.on_up_due(),
                Deadline::Down => self.on_down_due(),
                Deadline::Seek(id) => self.on_seek_due(id),
                Deadline::Away(process) => self.on_away_too_long(process),
                Deadline::Redial(process) => self.on_redial(process),
                Deadline::Outbox(id) => self.on_outbox_due(id),
                Deadline::TakeOver => self.on_take_over_due(),
                Deadline::Complaints(about) => {
                    if let Some(text) = self.complaints.end(about) {
                        self.event(Event::Warning { peer: None, text });
                    }
                }
            }
        }
    }

    /// Takes in who is known, and tells of the peers that go by another name now.
    fn take_book(&mut self, Reading { book, as_of }: Reading) {
        if as_of < self.book_as_of {
            return;
        }
        self.book_as_of = as_of;
        let before = std::mem::replace(&mut self.book, book);
        for (_, peer) in self.peers.iter().filter(|(_, peer)| peer.level.is_some()) {
            let alias = |book: &Book| peer.node_id.and_then(|id| book.alias_of(id)).cloned();
            let now = alias(&self.book);
            if now != alias(&before) {
                let named = Event::PeerNamed { peer: peer.addr, alias: now };
                self.outputs.push_back(Output::Event(named));
            }
        }
        let ids = self.peers.iter().filter_map(|(_, peer)| peer.node_id);
        if ids.into_iter().any(|id| before.is_trusted(id) && !self.book.is_trusted(id)) {
            self.end_forbidden_answers();
            self.end_circuits_of_strangers();
        }
    }

    /// Whether every connection is encrypted and every peer has an identity.
    fn is_secure(&self) -> bool {
        self.config.node_id.is_some()
    }

    fn next_transfer_id(&mut self) -> TransferId {
        self.last_transfer += 1;
        TransferId(self.last_transfer)
    }

    fn job(&mut self, transfer: TransferId, job: Job) {
        self.outputs.push_back(Output::Job { transfer, job });
    }

    fn event(&mut self, event: Event) {
        self.event_with(None, event);
    }

    /// A line for the log, unless there were too many of that origin lately.
    fn warn(&mut self, peer: SocketAddr, text: String) {
        let limits = &self.config.limits;
        match self.complaints.one_more(Origin::of(peer.ip()), limits.warnings) {
            Verdict::Count => return,
            Verdict::Begin(about) => {
                self.timers.set(Deadline::Complaints(about), self.now + limits.warning_span);
            }
            Verdict::Say => {}
        }
        self.event(Event::Warning { peer: Some(peer), text });
    }

    fn reply(&mut self, command: CommandId, result: Result<Reply, Failure>) {
        self.outputs.push_back(Output::Reply { command, result });
    }
}
