//! This node's ends of circuits: streams of bytes, over which peers are greeted as over TCP.
//!
//! A stream is a pipe in memory. One end is greeted; what it writes is read from the other by a task that
//! hands it to the engine, as far as the window allows, and what came for it is written there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::engine::{Input, StreamId};
use crate::net::FromPeer;
use crate::wire::{CIRCUIT_WINDOW, CircuitPart, MAX_CIRCUIT_BYTES};

/// How long the other side has to end, when this one has.
const LINGER: Duration = Duration::from_secs(10);

/// Parts that came for a stream and were not taken. A window has room for more, but no encrypted connection says so
/// little at a time.
const PARTS: usize = 4096;

/// All of them. When they are dropped nobody is left to hear what they say, and they end.
#[derive(Default)]
pub(super) struct Circuits {
    mouths: HashMap<StreamId, Mouth>,
    stop: CancellationToken,
}

impl Drop for Circuits {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

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
        self.mouths.insert(id, Mouth { parts, window: window.clone() });
        let running = run(Stream { id, inputs, window }, theirs, queue);
        let running = self.stop.clone().run_until_cancelled_owned(running);
        (ours, async move {
            running.await;
        })
    }

    /// Those that are not known to have ended.
    pub(super) fn open_ones(&self) -> HashSet<StreamId> {
        self.mouths.keys().copied().collect()
    }

    /// Something came for a stream.
    pub(super) fn heard(&mut self, id: StreamId, part: CircuitPart) {
        match part {
            CircuitPart::Data(bytes) => {
                // A copy: what waits is not to keep more in memory than it has bytes.
                let bytes = Bytes::copy_from_slice(&bytes);
                // Where the stream is closed, nobody misses it; where it is full, it ends.
                if self.mouths.get(&id).is_some_and(|mouth| mouth.parts.try_send(bytes).is_err()) {
                    self.mouths.remove(&id);
                }
            }
            CircuitPart::More(bytes) => {
                if let Some(mouth) = self.mouths.get(&id) {
                    mouth.window.add_permits(bytes as usize);
                }
            }
            CircuitPart::End { .. } => {
                if let Some(mouth) = self.mouths.remove(&id) {
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
        let mut buffer = vec![0; MAX_CIRCUIT_BYTES];
        loop {
            // None to be had means that the circuit ended.
            let Ok(first) = self.window.acquire().await else { return };
            first.forget();
            let room = 1 + self.window.forget_permits(MAX_CIRCUIT_BYTES - 1);
            let read = pipe.read(&mut buffer[..room]).await.unwrap_or(0);
            self.window.add_permits(room - read);
            // A copy: it may wait to be written, many small ones each in a buffer as large as this.
            self.say(CircuitPart::Data(Bytes::copy_from_slice(&buffer[..read]))).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: StreamId = StreamId(1);

    struct Large(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Large {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[tokio::test]
    async fn what_waits_keeps_no_more_in_memory_than_it_has_bytes() {
        let (inputs, mut queue) = mpsc::channel(8);
        let mut circuits = Circuits::default();
        let (mut ours, running) = circuits.open(ID, inputs);
        // Nobody takes it yet, and what it was a part of is given back.
        let large = Arc::new(vec![7; 256 << 10]);
        let part = Bytes::from_owner(Large(large.clone())).slice(..1);
        circuits.heard(ID, CircuitPart::Data(part));
        assert_eq!(Arc::strong_count(&large), 1);
        let running = tokio::spawn(running);
        let mut came = [0];
        ours.read_exact(&mut came).await.unwrap();
        assert_eq!(came, [7]);

        ours.write_all(b"hi").await.unwrap();
        let said = loop {
            match queue.recv().await.unwrap().input {
                Input::Stream { part: CircuitPart::Data(bytes), .. } => break bytes,
                Input::Stream { part: CircuitPart::More(1), .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(said, "hi");
        assert!(said.try_into_mut().is_ok_and(|said| said.capacity() < 64));
        // When nobody is left to hear anything it ends.
        drop(circuits);
        running.await.unwrap();
    }
}
