//! A peer written from BASELINE.md alone. It shares no code with the program: its own JSON, its own
//! base64, its own hashes. It knows nothing of `HELLO` and ignores it like any unknown type.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::files::{CHUNK, digest_of};
use super::inbox::Inbox;
use super::{abridged, includes};

/// A file in memory, cut and hashed the way the baseline protocol says.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: String,
}

impl Content {
    pub(crate) fn new(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self { name: name.to_owned(), hash: digest_of(&bytes), bytes }
    }

    pub(crate) fn chunk(&self, index: usize) -> &[u8] {
        self.bytes.chunks(CHUNK).nth(index).unwrap()
    }

    pub(crate) fn chunks(&self) -> usize {
        self.bytes.chunks(CHUNK).len()
    }

    /// The payload of its offer, for tests that spoil it before it is sent.
    pub(crate) fn offer(&self) -> Value {
        json!({
            "file_name": self.name,
            "file_size": self.bytes.len(),
            "total_chunks": self.chunks(),
            "file_hash": self.hash,
            "chunk_hashes": self.bytes.chunks(CHUNK).map(digest_of).collect::<Vec<_>>(),
        })
    }
}

/// One connection, seen from the side that speaks only the baseline protocol.
pub(crate) struct BaselinePeer {
    stream: TcpStream,
    heard: Arc<Inbox<Value>>,
}

/// A baseline peer that others connect to.
pub(crate) struct BaselineListener(TcpListener);

impl BaselineListener {
    pub(crate) fn addr(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    pub(crate) fn accept(&self) -> BaselinePeer {
        BaselinePeer::over(self.0.accept().unwrap().0)
    }
}

impl BaselinePeer {
    pub(crate) fn listen() -> BaselineListener {
        BaselineListener(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn connect(addr: &str) -> Self {
        Self::over(TcpStream::connect(addr).unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        let heard = Arc::new(Inbox::new());
        let (lines, inbox) = (BufReader::new(stream.try_clone().unwrap()), Arc::clone(&heard));
        thread::spawn(move || {
            for line in lines.split(b'\n') {
                let Ok(line) = line else { break };
                if line.len() >= 1_000_000 {
                    inbox.push(format!("a line of {} bytes: the original stops reading", line.len()).into());
                    break;
                }
                // What is not JSON is kept as text, and no expectation will match it.
                let text = || Value::String(String::from_utf8_lossy(&line).into_owned());
                inbox.push(serde_json::from_slice(&line).unwrap_or_else(|_| text()));
            }
            inbox.close();
        });
        Self { stream, heard }
    }

    /// The name by which the other side knows this connection.
    pub(crate) fn addr(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    /// Sends bytes as they are. That the other side has closed is for the test to find out by
    /// listening, so a failed write is no failure here.
    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        let _closed = (&self.stream).write_all(bytes);
    }

    pub(crate) fn send_line(&self, line: &str) {
        self.send_raw(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send(&self, kind: &str, payload: &Value) {
        self.send_line(&json!({ "type": kind, "payload": payload }).to_string());
    }

    pub(crate) fn send_text(&self, text: &str) {
        self.send("TEXT", &text.into());
    }

    pub(crate) fn send_chunk(&self, index: u64, bytes: &[u8]) {
        self.send_chunk_base64(index, &STANDARD.encode(bytes));
    }

    pub(crate) fn send_chunk_base64(&self, index: u64, data: &str) {
        self.send("CHUNK", &json!({ "index": index, "hash": "", "data": data }));
    }

    /// Waits for a message that includes the pattern, passing over all others.
    #[track_caller]
    pub(crate) fn hear(&self, pattern: &Value) -> Value {
        match self.heard.take(|message| includes(message, pattern)) {
            Ok(message) => message,
            Err(missing) => panic!("never heard {} ({missing:?});\n{}", abridged(pattern), self.report()),
        }
    }

    /// Waits for the next message, whatever it is, and hears past `HELLO` like the original does.
    #[track_caller]
    pub(crate) fn hear_next(&self) -> Value {
        match self.heard.take(|message| message["type"] != "HELLO") {
            Ok(message) => message,
            Err(missing) => panic!("nothing more was heard ({missing:?});\n{}", self.report()),
        }
    }

    #[track_caller]
    pub(crate) fn hear_text(&self, text: &str) {
        self.hear(&json!({ "type": "TEXT", "payload": text }));
    }

    #[track_caller]
    pub(crate) fn hear_accept(&self, file: &Content) {
        self.hear(&json!({ "type": "FILE_ACCEPT", "payload": file.hash }));
    }

    #[track_caller]
    pub(crate) fn hear_complete(&self, file: &Content) {
        self.hear(&json!({ "type": "COMPLETE", "payload": file.hash }));
    }

    #[track_caller]
    pub(crate) fn hear_ack(&self, index: u64, ok: bool) {
        self.hear(&json!({ "type": "CHUNK_ACK", "payload": { "index": index, "ok": ok } }));
    }

    /// Waits until the other side has ended the connection.
    #[track_caller]
    pub(crate) fn hear_the_end(&self) {
        let ended = self.heard.take(|_| false).err();
        assert_eq!(ended, Some(super::inbox::Missing::Closed), "still connected;\n{}", self.report());
    }

    /// Everything heard so far.
    pub(crate) fn heard(&self) -> Vec<Value> {
        self.heard.all()
    }

    /// Whether the other side has not ended the connection.
    pub(crate) fn is_connected(&self) -> bool {
        !self.heard.is_closed()
    }

    /// How many messages that include the pattern were heard so far.
    pub(crate) fn count(&self, pattern: &Value) -> usize {
        self.heard().iter().filter(|message| includes(message, pattern)).count()
    }

    /// Sends a file completely, like the original: offer, wait, all chunks in order, confirmation.
    #[track_caller]
    pub(crate) fn send_file(&self, file: &Content) {
        self.send("FILE_OFFER", &file.offer());
        self.hear_accept(file);
        for (index, chunk) in file.bytes.chunks(CHUNK).enumerate() {
            self.send_chunk(index as u64, chunk);
        }
        self.hear_complete(file);
    }

    /// Receives a file completely, like the original: accepts whatever comes, acknowledges each
    /// chunk, and confirms what it has put together. An empty file it accepts and never confirms.
    #[track_caller]
    pub(crate) fn receive_file(&self) -> Content {
        let file = self.receive_chunks();
        if !file.bytes.is_empty() {
            self.send("COMPLETE", &file.hash.clone().into());
        }
        file
    }

    /// The same, but keeps the confirmation back.
    #[track_caller]
    pub(crate) fn receive_chunks(&self) -> Content {
        let offer = self.hear(&json!({ "type": "FILE_OFFER" }))["payload"].take();
        self.send("FILE_ACCEPT", &offer["file_hash"]);
        let hashes = offer["chunk_hashes"].as_array().unwrap();
        assert_eq!(offer["total_chunks"], hashes.len());
        let mut chunks = vec![None; hashes.len()];
        while chunks.contains(&None) {
            let message = self.hear(&json!({ "type": "CHUNK" }));
            let (index, bytes) = decode_chunk(&message);
            let ok = hashes[index] == digest_of(&bytes).as_str();
            if ok {
                chunks[index] = Some(bytes);
            }
            self.send("CHUNK_ACK", &json!({ "index": index, "ok": ok }));
        }
        let bytes: Vec<u8> = chunks.into_iter().flatten().flatten().collect();
        let file = Content::new(offer["file_name"].as_str().unwrap(), bytes);
        assert_eq!(offer["file_hash"], file.hash.as_str());
        assert_eq!(offer["file_size"], file.bytes.len());
        file
    }

    /// Ends the connection without a word.
    pub(crate) fn hang_up(self) {}

    fn report(&self) -> String {
        let lines: Vec<String> = self.heard().iter().map(abridged).collect();
        format!("--- {} heard:\n{}", self.addr(), lines.join("\n"))
    }
}

impl Drop for BaselinePeer {
    fn drop(&mut self) {
        // The reader thread holds the stream too; it ends when the connection does.
        let _gone = self.stream.shutdown(Shutdown::Both);
    }
}

/// Index and bytes of a `CHUNK` message.
pub(crate) fn decode_chunk(message: &Value) -> (usize, Vec<u8>) {
    let payload = &message["payload"];
    let index = usize::try_from(payload["index"].as_u64().unwrap()).unwrap();
    (index, STANDARD.decode(payload["data"].as_str().unwrap()).unwrap())
}
