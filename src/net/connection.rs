//! The reader and the writer of one connection, each a task.
//!
//! The reader turns bytes into messages and hands them to the node's actor; the writer takes
//! messages, those without file content first. Both are generic over the stream.
//!
//! Bounds: a reader holds one line; what it has handed on and is not yet dealt with is charged to
//! the connection's [`ReceiveBudget`] and to the node's, and the charge travels with the bytes
//! themselves, so that it ends when their last reference does, wherever that is. A writer holds
//! what its two queues hold, which the engine bounds.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Closing, ConnId, Input};
use crate::wire::{ChunkData, FrameDecoder, Message};

/// Bytes received and not dealt with: for the node.
const NODE_BUDGET_BYTES: usize = 64 << 20;

/// The same for one connection: four chunks under way in each of four stages.
const CONNECTION_BUDGET_BYTES: usize = 4 << 20;

/// Texts received and not shown: for the node.
const NODE_TEXT_BUDGET_BYTES: usize = 32 << 20;

/// The same for one connection.
const CONNECTION_TEXT_BUDGET_BYTES: usize = 2 << 20;

/// What a text is charged at least, so that the budget bounds their number too.
const MIN_TEXT_CHARGE: usize = 8 << 10;

/// Messages that may wait for the writer. More than the engine's bound in bytes lets arise.
const CONTROL_QUEUE: usize = 32_768;
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

impl ReceiveBudget {
    /// The budget of a node, of which nothing is used.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Budget::new(NODE_BUDGET_BYTES, CONNECTION_BUDGET_BYTES),
            texts: Budget::new(NODE_TEXT_BUDGET_BYTES, CONNECTION_TEXT_BUDGET_BYTES),
        }
    }

    /// The same node's, for another connection.
    fn for_connection(&self) -> Self {
        Self { bytes: self.bytes.for_connection(), texts: self.texts.for_connection() }
    }

    /// Waits until a message may be held. Cancel-safe.
    async fn charge(&self, message: &Message) -> Charge {
        match message {
            Message::Text(_) => self.texts.charge(message.weight().max(MIN_TEXT_CHARGE)).await,
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
        let (bulk, bulk_queue) = mpsc::channel(BULK_QUEUE);
        let closing = CancellationToken::new();
        let written = CancellationToken::new();
        let reader = Reader {
            conn,
            stream: read_half,
            decoder,
            inputs: inputs.clone(),
            budget: budget.for_connection(),
            closing: closing.clone(),
            written: written.clone(),
        };
        let writer = Writer {
            conn,
            stream: write_half,
            control: control_queue,
            bulk: bulk_queue,
            inputs: inputs.clone(),
            closing: closing.clone(),
        };
        tasks.spawn(reader.run());
        tasks.spawn(async move {
            writer.run().await;
            written.cancel();
        });
        Self { control, bulk, closing }
    }

    /// Queues a message; gives up the connection where its queue is full, which the bounds of the
    /// engine do not let happen.
    pub(crate) fn send(&self, message: Message) {
        let queue = if message.is_bulk() { &self.bulk } else { &self.control };
        if let Err(TrySendError::Full(_)) = queue.try_send(message) {
            tracing::error!("a writer's queue overflowed its engine's bound");
            self.closing.cancel();
        }
    }

    /// Lets the writer write what is queued, without file content, and end. What arrives from now
    /// on is thrown away, but read, since closing over unread bytes would destroy what the peer
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
            buffer.reserve(read_size);
            let room = buffer.capacity() - buffer.len();
            let read = match self.stream.read_buf(&mut buffer).await {
                Ok(0) => return Closing::Eof,
                Ok(read) => read,
                Err(error) => return Closing::Error(error.to_string()),
            };
            loop {
                match self.decoder.decode(&mut buffer) {
                    Ok(Some(frame)) => {
                        let handed_on = match frame.message {
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

    /// `false` where the node has ended.
    async fn hand_on(&mut self, message: Message) -> bool {
        let conn = self.conn;
        let charge = self.budget.charge(&message).await;
        let from_peer = match message {
            Message::Chunk { index, data } => {
                let bytes = Bytes::from_owner(ChargedBytes { bytes: data.0, _charge: charge });
                let message = Message::Chunk { index, data: ChunkData(bytes) };
                Input::Received { conn, message }.into()
            }
            message => FromPeer { input: Input::Received { conn, message }, charge: Some(charge) },
        };
        self.give(from_peer).await
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
    bulk: mpsc::Receiver<Message>,
    inputs: mpsc::Sender<FromPeer>,
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
        let mut batch = BytesMut::new();
        loop {
            let first = tokio::select! {
                biased;
                message = self.control.recv() => message,
                () = self.closing.cancelled() => None,
                message = self.bulk.recv() => message,
            };
            let Some(first) = first else { break };
            let mut bulk = usize::from(first.is_bulk());
            let mut control = usize::from(!first.is_bulk());
            first.encode(&mut batch);
            while batch.len() < WRITE_BATCH {
                let next = match self.control.try_recv() {
                    Ok(message) => message,
                    Err(_) if self.closing.is_cancelled() => break,
                    Err(_) => match self.bulk.try_recv() {
                        Ok(message) => message,
                        Err(_) => break,
                    },
                };
                bulk += usize::from(next.is_bulk());
                control += usize::from(!next.is_bulk());
                next.encode(&mut batch);
            }
            let input = match self.write_out(&batch).await {
                Ok(()) => Input::Written { conn: self.conn, control, bulk },
                Err(error) => Input::Closed { conn: self.conn, closing: Closing::Error(error.to_string()) },
            };
            let broken = matches!(input, Input::Closed { .. });
            if self.inputs.send(input.into()).await.is_err() || broken {
                return;
            }
            batch.clear();
            if batch.capacity() > LARGE_READ && self.bulk.is_empty() {
                batch = BytesMut::new();
            }
        }
        // The peer hears that this was all; where it is gone there is nobody to tell.
        let _ = self.stream.shutdown().await;
    }

    /// Hands all of it to the system: TLS takes more than a full socket does, and passes the rest on
    /// only when it is written to or flushed.
    async fn write_out(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

#[cfg(test)]
mod tests;
