//! This node's ends of circuits: streams of bytes, over which peers are greeted as over TCP.
//!
//! A stream is a pipe in memory. One end is greeted; what it writes is read from the other by a task that
//! hands it to the engine, as far as the window allows, and what came for it is written there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::engine::{Input, StreamId};
use crate::net::FromPeer;
use crate::wire::{CIRCUIT_WINDOW, CircuitPart, MAX_CIRCUIT_BYTES};

/// How long the other side has to end, when this one has.
const LINGER: Duration = Duration::from_secs(10);

/// Parts that came for a stream and were not taken. A window has room for more, but no encrypted connection says so
/// little at a time.
const PARTS: usize = 4096;

/// All of them.
#[derive(Default)]
pub(super) struct Circuits(HashMap<StreamId, Mouth>);

/// Where what comes for a stream is given.
struct Mouth {
    parts: mpsc::Sender<Bytes>,
    /// Bytes that may be sent.
    window: Arc<Semaphore>,
}

impl Circuits {
    /// Makes a stream; the future is to be run for as long as it lasts.
    pub(super) fn open(
        &mut self,
        id: StreamId,
        inputs: mpsc::Sender<FromPeer>,
    ) -> (DuplexStream, impl Future<Output = ()> + Send + 'static) {
        let (ours, theirs) = duplex(MAX_CIRCUIT_BYTES);
        let (parts, queue) = mpsc::channel(PARTS);
        let window = Arc::new(Semaphore::new(CIRCUIT_WINDOW as usize));
        self.0.insert(id, Mouth { parts, window: window.clone() });
        (ours, run(Stream { id, inputs, window }, theirs, queue))
    }

    /// Something came for a stream.
    pub(super) fn heard(&mut self, id: StreamId, part: CircuitPart) {
        match part {
            CircuitPart::Data(bytes) => {
                // Where the stream is closed, nobody misses it; where it is full, it ends.
                if self.0.get(&id).is_some_and(|mouth| mouth.parts.try_send(bytes).is_err()) {
                    self.0.remove(&id);
                }
            }
            CircuitPart::More(bytes) => {
                if let Some(mouth) = self.0.get(&id) {
                    mouth.window.add_permits(bytes as usize);
                }
            }
            CircuitPart::End { .. } => {
                if let Some(mouth) = self.0.remove(&id) {
                    mouth.window.close();
                }
            }
            CircuitPart::Open { .. } => {}
        }
    }
}

struct Stream {
    id: StreamId,
    inputs: mpsc::Sender<FromPeer>,
    window: Arc<Semaphore>,
}

impl Stream {
    async fn say(&self, part: CircuitPart) {
        // Where the node ended, nobody is left to hear it.
        let _ = self.inputs.send(Input::Stream { stream: self.id, part }.into()).await;
    }

    /// Sends on what is written to the stream, until it ends.
    async fn send_on(&self, mut pipe: ReadHalf<DuplexStream>) {
        let mut buffer = BytesMut::new();
        loop {
            // None to be had means that the circuit ended.
            let Ok(first) = self.window.acquire().await else { return };
            first.forget();
            let more = self.window.available_permits().min(MAX_CIRCUIT_BYTES - 1);
            let more = match u32::try_from(more).ok().and_then(|more| self.window.try_acquire_many(more).ok())
            {
                Some(permits) => {
                    permits.forget();
                    more
                }
                None => 0,
            };
            buffer.reserve(MAX_CIRCUIT_BYTES);
            let read = (&mut pipe).take(1 + more as u64).read_buf(&mut buffer).await.unwrap_or(0);
            self.window.add_permits(1 + more - read);
            self.say(CircuitPart::Data(buffer.split().freeze())).await;
            if read == 0 {
                return;
            }
        }
    }

    /// Gives the stream what comes for it, until that ends; `false` where nobody reads it.
    async fn take_in(&self, mut pipe: WriteHalf<DuplexStream>, queue: &mut mpsc::Receiver<Bytes>) -> bool {
        while let Some(bytes) = queue.recv().await {
            if bytes.is_empty() {
                return pipe.shutdown().await.is_ok();
            }
            if pipe.write_all(&bytes).await.is_err() {
                return false;
            }
            self.say(CircuitPart::More(u32::try_from(bytes.len()).expect("at most a window"))).await;
        }
        let _ = pipe.shutdown().await;
        true
    }
}

async fn run(stream: Stream, pipe: DuplexStream, mut queue: mpsc::Receiver<Bytes>) {
    let (read, write) = split(pipe);
    let sending = stream.send_on(read);
    let taking = stream.take_in(write, &mut queue);
    tokio::pin!(sending, taking);
    tokio::select! {
        () = &mut sending => {
            let _ = timeout(LINGER, &mut taking).await;
        }
        is_read = &mut taking => {
            if is_read {
                let _ = timeout(LINGER, &mut sending).await;
            }
        }
    }
    stream.say(CircuitPart::End { code: "closed".to_owned() }).await;
}
