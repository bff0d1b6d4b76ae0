//! The reader and the writer of one connection, each a task.
//!
//! The reader turns bytes into messages and hands them to the node's actor; the writer takes
//! messages, first those that belong to no circuit and carry no file content, then those two in turn. Both are generic over the stream.
//!
//! Bounds: a reader holds one message that is not whole (see `unfinished`); what it has handed on and is not yet dealt with is charged to
//! the connection's [`ReceiveBudget`] and to the node's, and the charge travels with the bytes
//! themselves, so that it ends when their last reference does, wherever that is. A writer holds
//! what its queues hold, which the engine bounds.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::unfinished::{Share, Unfinished};
use crate::engine::{Closing, ConnId, Input};
use crate::wire::{CHUNK_SIZE, ChunkData, FrameDecoder, Lane, Message};

/// Bytes received and not dealt with: for the node.
const NODE_BUDGET_BYTES: usize = 64 << 20;

/// The same for one connection: more than a transfer may have asked for and not written, so that
/// a slow disk does not keep what comes behind the chunks from being read.
const CONNECTION_BUDGET_BYTES: usize = 20 << 20;

/// Texts received and not shown: for the node.
const NODE_TEXT_BUDGET_BYTES: usize = 32 << 20;

/// The same for one connection.
const CONNECTION_TEXT_BUDGET_BYTES: usize = 2 << 20;

/// What a text is charged at least, so that the budget bounds their number too.
const MIN_TEXT_CHARGE: usize = 8 << 10;

/// Messages that may wait for the writer. More than the engine's bound in bytes lets arise.
const CONTROL_QUEUE: usize = 32_768;
const CIRCUIT_QUEUE: usize = CONTROL_QUEUE;
const BULK_QUEUE: usize = 64;

/// How long a connection that we close has to take what is queued and to hear that it ends.
const LINGER: Duration = Duration::from_secs(2);

/// How long such a connection stays when everything is written and the peer says nothing. Were it
/// still talking, its words would arrive at a closed socket, and the answer to that can destroy
/// what it has not read yet.
const QUIET: Duration = Duration::from_millis(300);

/// The first read of a quiet connection, and the largest of a busy one.
const SMALL_READ: usize = 4 << 10;
const LARGE_READ: usize = 256 << 10;

/// How long the last words of a peer may take that takes nothing any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often it is told that bytes come, where no message does.
const ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a piece of a chunk may take to be written: what a message that comes meanwhile waits.
const FRAME_TIME: Duration = Duration::from_millis(20);

/// Bytes in a piece of a chunk: on the slowest line, and on a fast one.
const SMALL_FRAME: usize = 16 << 10;
const LARGE_FRAME: usize = CHUNK_SIZE as usize;

/// Messages are written together until they have this many bytes.
const WRITE_BATCH: usize = 64 << 10;

/// What a connection tells the actor. It may hold a charge, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct FromPeer {
    pub(crate) input: Input,
    /// Ends when the message is dealt with; that of a text when it is shown.
    pub(crate) charge: Option<Charge>,
}

impl From<Input> for FromPeer {
    fn from(input: Input) -> Self {
        Self { input, charge: None }
    }
}

/// How many received bytes may be in memory.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveBudget {
    bytes: Budget,
    /// Apart, since how long texts wait is up to whoever reads them.
    texts: Budget,
    /// Of messages that are not whole.
    unfinished: Unfinished,
}

#[derive(Debug, Clone)]
struct Budget {
    node: Arc<Semaphore>,
    connection: Arc<Semaphore>,
    connection_bytes: usize,
}

/// A share of a [`ReceiveBudget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    _node: OwnedSemaphorePermit,
    _connection: OwnedSemaphorePermit,
}

/// A chunk's bytes together with what they are charged to.
struct ChargedBytes {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for ChargedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn charged(data: ChunkData, charge: Charge) -> ChunkData {
    ChunkData(Bytes::from_owner(ChargedBytes { bytes: data.0, _charge: charge }))
}

impl ReceiveBudget {
    /// The budget of a node, of which nothing is used.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Budget::new(NODE_BUDGET_BYTES, CONNECTION_BUDGET_BYTES),
            texts: Budget::new(NODE_TEXT_BUDGET_BYTES, CONNECTION_TEXT_BUDGET_BYTES),
            unfinished: Unfinished::default(),
        }
    }

    /// The same node's, for another connection.
    fn for_connection(&self) -> Self {
        Self {
            bytes: self.bytes.for_connection(),
            texts: self.texts.for_connection(),
            unfinished: self.unfinished.clone(),
        }
    }

    /// Waits until a message may be held. Cancel-safe.
    async fn charge(&self, message: &Message) -> Charge {
        match message {
            message if message.is_text() => self.texts.charge(message.weight().max(MIN_TEXT_CHARGE)).await,
            _ => self.bytes.charge(message.weight()).await,
        }
    }
}

impl Budget {
    fn new(node_bytes: usize, connection_bytes: usize) -> Self {
        Self {
            node: Arc::new(Semaphore::new(node_bytes)),
            connection: Arc::new(Semaphore::new(connection_bytes)),
            connection_bytes,
        }
    }

    fn for_connection(&self) -> Self {
        Self { connection: Arc::new(Semaphore::new(self.connection_bytes)), ..self.clone() }
    }

    async fn charge(&self, bytes: usize) -> Charge {
        let bytes = u32::try_from(bytes.min(self.connection_bytes)).expect("a budget has less than 4 GiB");
        // The connection's own first: who waits for the node's share has used up nobody else's.
        let connection = self.connection.clone().acquire_many_owned(bytes).await;
        let node = self.node.clone().acquire_many_owned(bytes).await;
        Charge {
            _connection: connection.expect("it is never closed"),
            _node: node.expect("it is never closed"),
        }
    }
}

/// The actor's end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    control: mpsc::Sender<Message>,
    circuits: mpsc::Sender<Message>,
    bulk: mpsc::Sender<Message>,
    closing: CancellationToken,
}

impl Connection {
    /// Starts the reader and the writer of the two halves of a stream.
    pub(crate) fn spawn<R, W>(
        conn: ConnId,
        (read_half, write_half): (R, W),
        decoder: FrameDecoder,
        inputs: &mpsc::Sender<FromPeer>,
        budget: &ReceiveBudget,
        tasks: &TaskTracker,
    ) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
        let (circuits, circuit_queue) = mpsc::channel(CIRCUIT_QUEUE);
        let (bulk, bulk_queue) = mpsc::channel(BULK_QUEUE);
        let closing = CancellationToken::new();
        let written = CancellationToken::new();
        let reader = Reader {
            conn,
            stream: read_half,
            decoder,
            inputs: inputs.clone(),
            budget: budget.for_connection(),
            unfinished: budget.unfinished.share(),
            told_at: Instant::now(),
            closing: closing.clone(),
            written: written.clone(),
        };
        let writer = Writer {
            conn,
            stream: write_half,
            control: control_queue,
            circuits: circuit_queue,
            bulk: bulk_queue,
            inputs: inputs.clone(),
            frame_bytes: SMALL_FRAME * 4,
            closing: closing.clone(),
        };
        tasks.spawn(reader.run());
        tasks.spawn(async move {
            writer.run().await;
            written.cancel();
        });
        Self { control, circuits, bulk, closing }
    }

    /// Queues a message; gives up the connection where its queue is full, which the bounds of the
    /// engine do not let happen.
    pub(crate) fn send(&self, message: Message) {
        let queue = match message.lane() {
            Lane::Control => &self.control,
            Lane::Circuit => &self.circuits,
            Lane::Bulk => &self.bulk,
        };
        if let Err(TrySendError::Full(_)) = queue.try_send(message) {
            tracing::error!("a writer's queue overflowed its engine's bound");
            self.closing.cancel();
        }
    }

    /// Lets the writer write what is queued, without file content, and end. What arrives from now on is thrown away, but read, since closing over unread bytes would destroy what the peer
    /// has not read yet.
    pub(crate) fn close(self) {
        self.closing.cancel();
    }
}

/// Ends [`LINGER`] after the closing began.
async fn linger(closing: &CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

struct Reader<R> {
    conn: ConnId,
    stream: R,
    decoder: FrameDecoder,
    inputs: mpsc::Sender<FromPeer>,
    budget: ReceiveBudget,
    unfinished: Share,
    /// When it was last told that bytes come.
    told_at: Instant,
    closing: CancellationToken,
    /// Cancelled when the writer has ended.
    written: CancellationToken,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(mut self) {
        let closing = self.closing.clone();
        let ended = tokio::select! {
            ended = self.read_messages() => Some(ended),
            () = closing.cancelled() => None,
        };
        match ended {
            Some(ended) => {
                let input = Input::Closed { conn: self.conn, closing: ended };
                // Where nobody listens the node has ended.
                let _ = self.inputs.send(input.into()).await;
            }
            None => {
                tokio::select! {
                    () = self.discard() => {}
                    () = linger(&closing) => {}
                }
            }
        }
    }

    /// Not cancel-safe: a message that waits for its place is lost, which is right when closing.
    async fn read_messages(&mut self) -> Closing {
        let mut buffer = BytesMut::new();
        let mut read_size = SMALL_READ;
        loop {
            // A body that is under way is read into one piece of memory, so that it need not be moved.
            buffer.reserve(read_size.max(self.decoder.wants(&buffer)));
            let room = buffer.capacity() - buffer.len();
            let read = match self.read_some(&mut buffer).await {
                Ok(0) => return Closing::Eof,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Closing::Error("it ended in the middle".to_owned());
                }
                Err(error) => return Closing::Error(error.to_string()),
            };
            loop {
                match self.decoder.decode(&mut buffer) {
                    Ok(Some(decoded)) => {
                        self.unfinished.finished();
                        let handed_on = match decoded {
                            Ok(message) => self.hand_on(message).await,
                            Err(error) => self.give(Input::BadLine { conn: self.conn, error }.into()).await,
                        };
                        if !handed_on {
                            return Closing::Eof;
                        }
                    }
                    Ok(None) => break,
                    Err(fault) => return Closing::Fault(fault),
                }
            }
            self.unfinished.holds(buffer.len() + self.decoder.held());
            // Busy connections read in large pieces; quiet ones give the memory back.
            if read == room {
                read_size = (read_size * 4).min(LARGE_READ);
            } else if buffer.is_empty() && read < SMALL_READ {
                read_size = SMALL_READ;
                if buffer.capacity() > SMALL_READ {
                    buffer = BytesMut::new();
                }
            }
        }
    }

    /// Reads, and tells from time to time that bytes come where no message does.
    async fn read_some(&mut self, buffer: &mut BytesMut) -> std::io::Result<usize> {
        let read = tokio::select! {
            read = self.stream.read_buf(buffer) => read?,
            () = self.unfinished.gives_way().cancelled() => {
                return Err(std::io::Error::other("it did not finish a message, and others need the memory"));
            }
        };
        if self.told_at.elapsed() >= ALIVE_INTERVAL {
            self.told_at = Instant::now();
            // Where nobody listens the node has ended, and the next message finds out.
            let _ = self.inputs.send(Input::Alive { conn: self.conn }.into()).await;
        }
        Ok(read)
    }

    /// `false` where the node has ended.
    async fn hand_on(&mut self, message: Message) -> bool {
        let conn = self.conn;
        let charge = self.charge(&message).await;
        let from_peer = match message {
            Message::Chunk { index, data } => {
                let message = Message::Chunk { index, data: charged(data, charge) };
                Input::Received { conn, message }.into()
            }
            Message::Data { id, index, data, entry } => {
                let message = Message::Data { id, index, data: charged(data, charge), entry };
                Input::Received { conn, message }.into()
            }
            message => FromPeer { input: Input::Received { conn, message }, charge: Some(charge) },
        };
        self.give(from_peer).await
    }

    /// Waits until the message may be held. That is this side's doing, and no sign that the peer is
    /// gone.
    async fn charge(&mut self, message: &Message) -> Charge {
        let charging = self.budget.charge(message);
        tokio::pin!(charging);
        loop {
            match timeout(ALIVE_INTERVAL, &mut charging).await {
                Ok(charge) => return charge,
                Err(_) => {
                    let _ = self.inputs.send(Input::Alive { conn: self.conn }.into()).await;
                }
            }
        }
    }

    async fn give(&mut self, from_peer: FromPeer) -> bool {
        self.inputs.send(from_peer).await.is_ok()
    }

    async fn discard(&mut self) {
        let mut sink = vec![0; SMALL_READ];
        let quiet = async || {
            self.written.cancelled().await;
            tokio::time::sleep(QUIET).await;
        };
        loop {
            tokio::select! {
                biased;
                read = self.stream.read(&mut sink) => if !matches!(read, Ok(1..)) {
                    return;
                },
                () = quiet() => return,
            }
        }
    }
}

struct Writer<W> {
    conn: ConnId,
    stream: W,
    control: mpsc::Receiver<Message>,
    circuits: mpsc::Receiver<Message>,
    bulk: mpsc::Receiver<Message>,
    inputs: mpsc::Sender<FromPeer>,
    /// Bytes in the next piece of a chunk.
    frame_bytes: usize,
    closing: CancellationToken,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(mut self) {
        let closing = self.closing.clone();
        tokio::select! {
            () = self.write_messages() => {}
            () = linger(&closing) => {}
        }
    }

    async fn write_messages(&mut self) {
        let mut batch = Batch::default();
        while let Some(message) = self.next_message().await {
            let written = if message.is_pulled_chunk() {
                self.write_in_pieces(&message, &mut batch).await
            } else {
                batch.add(&message);
                self.fill(&mut batch);
                self.write(&mut batch).await
            };
            if !written {
                return;
            }
            batch.shrink(self.bulk.is_empty());
        }
        // The peer hears that this was all; where it is gone there is nobody to tell.
        let _ = self.stream.shutdown().await;
    }

    /// `None` when there is nothing more to say.
    async fn next_message(&mut self) -> Option<Message> {
        tokio::select! {
            biased;
            message = self.control.recv() => match message {
                Some(message) => Some(message),
                // It is closing. What is passed on may be the last words of others.
                None => self.circuits.recv().await,
            },
            () = self.closing.cancelled() => None,
            // Whichever comes first where both have something: neither makes the other wait for long.
            message = async {
                tokio::select! {
                    message = self.circuits.recv() => message,
                    message = self.bulk.recv() => message,
                }
            } => message,
        }
    }

    /// Adds what is waiting before all else while there is room.
    fn fill(&mut self, batch: &mut Batch) {
        while batch.bytes.len() < WRITE_BATCH {
            match self.control.try_recv() {
                Ok(message) => batch.add(&message),
                Err(_) => break,
            }
        }
    }

    /// Writes a chunk piece by piece, each with whatever message came meanwhile in front of it.
    async fn write_in_pieces(&mut self, chunk: &Message, batch: &mut Batch) -> bool {
        let mut offset = 0;
        loop {
            self.fill(batch);
            let Some(piece) = chunk.encode_frame(offset, self.frame_bytes, &mut batch.bytes) else { break };
            offset += piece.len();
            let begun = Instant::now();
            if !self.write_bytes(&batch.bytes).await || !self.write_bytes(&piece).await || !self.flush().await
            {
                return false;
            }
            batch.bytes.clear();
            self.frame_bytes = next_frame_bytes(piece.len(), begun.elapsed());
        }
        batch.count(chunk);
        self.write(batch).await
    }

    /// Writes a batch and tells that it is written; `false` where the connection is of no more use.
    async fn write(&mut self, batch: &mut Batch) -> bool {
        if !self.write_bytes(&batch.bytes).await || !self.flush().await {
            return false;
        }
        batch.bytes.clear();
        let [control, circuits, bulk] = std::mem::take(&mut batch.messages);
        if control + circuits + bulk > 0 {
            // Where nobody listens the node has ended, and this is the last that it says.
            let _ =
                self.inputs.send(Input::Written { conn: self.conn, control, circuits, bulk }.into()).await;
        }
        true
    }

    async fn write_bytes(&mut self, bytes: &[u8]) -> bool {
        let result = self.stream.write_all(bytes).await;
        self.check(result).await
    }

    /// Hands all of it to the system: TLS takes more than a full socket does, and passes the rest on
    /// only when it is written to or flushed.
    async fn flush(&mut self) -> bool {
        let result = self.stream.flush().await;
        self.check(result).await
    }

    async fn check(&mut self, result: std::io::Result<()>) -> bool {
        let Err(error) = result else { return true };
        // What the peer said before it closed the connection comes first, and how it ended is in that.
        let _ = timeout(LAST_WORDS, self.closing.cancelled()).await;
        let closing = Closing::Error(error.to_string());
        let _ = self.inputs.send(Input::Closed { conn: self.conn, closing }.into()).await;
        false
    }
}

/// As many bytes as are written in [`FRAME_TIME`], where so many took so long.
fn next_frame_bytes(bytes: usize, took: Duration) -> usize {
    let in_time = bytes as u128 * FRAME_TIME.as_nanos() / took.as_nanos().max(1);
    usize::try_from(in_time).unwrap_or(LARGE_FRAME).clamp(SMALL_FRAME, LARGE_FRAME)
}

/// Messages to be written together.
#[derive(Default)]
struct Batch {
    bytes: BytesMut,
    /// How many, of each lane.
    messages: [usize; 3],
}

impl Batch {
    fn add(&mut self, message: &Message) {
        message.encode(&mut self.bytes);
        self.count(message);
    }

    fn count(&mut self, message: &Message) {
        self.messages[message.lane() as usize] += 1;
    }

    /// Gives the memory of a large batch back where no more of its kind is to come.
    fn shrink(&mut self, idle: bool) {
        if idle && self.bytes.capacity() > LARGE_READ {
            self.bytes = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests;
