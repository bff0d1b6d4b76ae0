//! What the engine is told, and what it wants done.

use std::net::SocketAddr;

use super::{
    Change, Command, CommandId, ConnId, DhtState, Event, Failure, HistoryEntry, HistoryQuery, HostPort, Job,
    JobDone, LanNews, Mapping, OutboxJob, OutboxNews, Reading, Remembered, Reply, Shared, StreamId, Target,
    Took, TransferId,
};
use crate::wire::{BadLine, Binding, CircuitPart, DhtKey, FileHash, FrameError, Message, NodeId, TextKey};

/// Something that happened outside.
#[derive(Debug)]
pub enum Input {
    /// A connection is there. A number is given to one connection only, and a later connection
    /// has a greater one.
    Opened {
        /// Its number.
        conn: ConnId,
        /// The other end.
        addr: SocketAddr,
        /// The dial that led to it; `None` where the other side connected.
        dialled: Option<Dialled>,
        /// What both ends know of the connection and nobody else; `None` under `--plain`.
        binding: Option<Binding>,
        /// Who is there, which the handshake proved; `None` under `--plain`.
        node_id: Option<NodeId>,
        /// Whether the dialled address was pinned to it just now.
        first_contact: bool,
        /// The stream that it goes over, where that is a circuit.
        stream: Option<StreamId>,
    },
    /// Nobody could be greeted over a circuit.
    StreamFailed {
        /// Over which stream.
        stream: StreamId,
        /// Why.
        failure: Failure,
    },
    /// This node's end of a circuit wrote something, read something, or is closed.
    Stream {
        /// Which one.
        stream: StreamId,
        /// What.
        part: CircuitPart,
    },
    /// Somebody connected and was not let in.
    TurnedAway {
        /// From where.
        addr: SocketAddr,
        /// Why.
        why: String,
    },
    /// A dial led nowhere.
    DialFailed {
        /// What was dialled.
        dialled: Dialled,
        /// Why.
        failure: Failure,
    },
    /// A message arrived.
    Received {
        /// On which connection.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// A line arrived that is no valid message.
    BadLine {
        /// On which connection.
        conn: ConnId,
        /// What is wrong with it.
        error: BadLine,
    },
    /// Bytes arrive, though no message is whole, or wait until there is room for them.
    Alive {
        /// On which connection.
        conn: ConnId,
    },
    /// What [`Output::Show`] told is before whoever watches.
    Shown {
        /// On which connection it came.
        conn: ConnId,
        /// The text's number.
        id: u64,
    },
    /// Nothing will arrive any more.
    Closed {
        /// On which connection.
        conn: ConnId,
        /// Why.
        closing: Closing,
    },
    /// Messages were handed to the operating system, in the order of [`Output::Send`] for each
    /// [`Lane`](crate::wire::Lane).
    Written {
        /// On which connection.
        conn: ConnId,
        /// How many messages that are neither of the others.
        control: usize,
        /// How many that belong to circuits.
        circuits: usize,
        /// How many that carry file content.
        bulk: usize,
    },
    /// A job was done.
    JobDone {
        /// Whose.
        transfer: TransferId,
        /// How it ended.
        done: JobDone,
        /// How long it took.
        took: Took,
    },
    /// Somebody wants something.
    Command {
        /// For the reply.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// The node stops: nothing that is asked for from now on is done.
    Stopping,
    /// What is known about others was read again, as other processes may have changed it.
    BookRead(Reading),
    /// Something could not be noted.
    NoteFailed(Failure),
    /// What was shared when the program last ran.
    SharesRead(Vec<Shared>),
    /// What [`Output::ReadHistory`] found.
    HistoryRead {
        /// The command that wants it.
        command: CommandId,
        /// The latest of what was asked for, oldest first.
        result: Result<Vec<HistoryEntry>, Failure>,
    },
    /// Texts that were shown, by this program or another of the same user.
    KeysRead(Vec<(NodeId, TextKey)>),
    /// What [`Output::Mark`] led to.
    Marked {
        /// Whose text.
        from: NodeId,
        /// Which one.
        key: TextKey,
        /// Why it could not be noted; then it is known to this run of the program alone.
        failure: Option<Failure>,
    },
    /// What came of [`Output::Outbox`].
    Outbox(OutboxNews),
    /// A change was noted, or not.
    BookChanged {
        /// The command that wanted it.
        command: CommandId,
        /// What is known now.
        result: Result<Reading, Failure>,
        /// The command's answer, where it was noted.
        reply: Reply,
    },
    /// What [`Output::Pin`] led to.
    Pinned {
        /// The connection that it was about.
        conn: ConnId,
        /// What is known now.
        result: Result<Reading, Failure>,
    },
    /// How the node stands with the DHT.
    Dht(DhtState),
    /// Something is heard of the local network.
    Lan(LanNews),
    /// Others may reach the node elsewhere than before, as far as this machine knows.
    Reachable(Vec<Target>),
    /// A router was asked to pass the port on.
    Mapping(Mapping),
    /// A node of the DHT names places, in answer to [`Output::LookUp`].
    Found {
        /// Of what.
        id: TransferId,
        /// Where somebody may have it.
        addrs: Vec<SocketAddr>,
    },
    /// A look-up has ended.
    LookedUp {
        /// Of what.
        id: TransferId,
    },
    /// The time of [`Engine::poll_timeout`](super::Engine::poll_timeout) has come.
    Tick,
}

/// What is dialled, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    /// Where to.
    pub target: Target,
    /// Why.
    pub why: Purpose,
}

/// Why something is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A person typed the address, now or before: who is found there is pinned to it, and called by it.
    Typed,
    /// A person named somebody who may be there. It must be that identity, whoever was there before.
    Named,
    /// Somebody may be there who has what is searched for.
    Found,
}

/// Why nothing arrives any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    /// The peer has said all it will say. It may still listen.
    Eof,
    /// The connection broke.
    Error(String),
    /// What the peer sends cannot be read on.
    Fault(FrameError),
}

/// Something to do.
#[derive(Debug)]
pub enum Output {
    /// Send a message: after the ones before it, but one without file content need not wait for
    /// those that have some. Nothing is sent on a connection that is gone.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// Write what was given to send, without file content, then close. The engine has forgotten
    /// the connection.
    Close {
        /// Which one.
        conn: ConnId,
    },
    /// Connect; answered by [`Input::Opened`] or [`Input::DialFailed`].
    Dial(Dialled),
    /// Greet who is at the other end of a circuit: as who dialled it, if it is known who that must be, else as
    /// somebody who connected. Answered by [`Input::Opened`] or [`Input::StreamFailed`].
    OpenStream {
        /// This node's end.
        stream: StreamId,
        /// Who must be there.
        wanted: Option<NodeId>,
    },
    /// Something came for this node's end of a circuit.
    Stream {
        /// Which one.
        stream: StreamId,
        /// What.
        part: CircuitPart,
    },
    /// Note something about others for good; answered by [`Input::BookChanged`].
    ChangeBook {
        /// The command that wants it.
        command: CommandId,
        /// What to note.
        change: Change,
        /// The command's answer, where it is noted.
        reply: Reply,
    },
    /// Note things that nobody waits for; answered by [`Input::BookRead`] or [`Input::NoteFailed`].
    Note(Vec<Change>),
    /// Note for good that a text was shown; answered by [`Input::Marked`], in order.
    Mark {
        /// Whose.
        from: NodeId,
        /// Which one.
        key: TextKey,
    },
    /// Keep what waits for others, after what was to be done about that before.
    Outbox(OutboxJob),
    /// Share something again when the program is started anew.
    KeepShare(Shared),
    /// Do not, any longer.
    DropShare(FileHash),
    /// Keep something for a person to look up; no answer is needed.
    Remember(Remembered),
    /// Look up what was kept, all of [`Output::Remember`] before it included; answered by
    /// [`Input::HistoryRead`].
    ReadHistory {
        /// The command that wants it.
        command: CommandId,
        /// What is wanted.
        query: HistoryQuery,
    },
    /// Note that a dialled address reached this node's own identity; answered by [`Input::Pinned`].
    /// Others are pinned before their connection is [`Input::Opened`], but only `HELLO` tells
    /// another process of this user from this one.
    Pin {
        /// The connection.
        conn: ConnId,
        /// What was typed.
        address: HostPort,
        /// Whom it reached.
        id: NodeId,
    },
    /// Tell a DHT, now and again, that a content is here.
    Announce {
        /// Under which key.
        key: DhtKey,
    },
    /// Tell it from now on that what is here can be had at this port.
    AnnouncePort {
        /// The TCP port at which others come in.
        port: u16,
    },
    /// Do not, any longer: what was told lapses.
    Withdraw {
        /// Under which key.
        key: DhtKey,
    },
    /// Ask a DHT who has a content; answered by any number of [`Input::Found`] and one [`Input::LookedUp`].
    LookUp {
        /// What is searched for.
        id: TransferId,
        /// Under which key.
        key: DhtKey,
    },
    /// Nobody needs that any more; no answer is needed.
    StopLooking {
        /// What was searched for.
        id: TransferId,
    },
    /// Do a job; answered by [`Input::JobDone`].
    Job {
        /// Whose.
        transfer: TransferId,
        /// What.
        job: Job,
    },
    /// Tell who watches.
    Event(Event),
    /// Tell who watches of a text, and answer with [`Input::Shown`] when that was taken.
    Show {
        /// On which connection it came.
        conn: ConnId,
        /// From whom.
        peer: SocketAddr,
        /// Its number.
        id: u64,
        /// The text.
        text: String,
    },
    /// Answer a command.
    Reply {
        /// Which one.
        command: CommandId,
        /// The answer.
        result: Result<Reply, Failure>,
    },
}
