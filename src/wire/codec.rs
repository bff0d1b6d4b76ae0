//! Framing: newline-delimited JSON, and the raw bodies that may follow a line.
//!
//! [`FrameDecoder`] owns no buffer and no socket: it is shown what has arrived and takes what is
//! whole. It never looks at a byte twice and never keeps more than one line and one body.

use bytes::{Buf, BytesMut};
use thiserror::Error;

use super::assemble::Assembler;
use super::extended::Decoded;
use super::message::{Announced, Line};
use super::{BadLine, Message};

/// A line may have fewer bytes than this, newline included: where the original program stops
/// reading for good.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// The same for the first line of an encrypted connection, which is a `HELLO`.
const MAX_HELLO_BYTES: usize = 4096;

/// The first byte of a TLS connection: a record of type handshake (RFC 8446, section 5.1).
pub const TLS_FIRST_BYTE: u8 = 0x16;

/// Lines to a baseline peer stay below this, a margin under its limit.
pub const MAX_LINE_TO_BASELINE_BYTES: usize = 1_000_000;

/// The largest raw body.
const MAX_BODY_BYTES: u64 = 1024 * 1024;

/// A stream that cannot be read on, because it is not known where the next line begins.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No newline within so many bytes.
    #[error("it sent a line of {0} bytes or more")]
    LineTooLong(usize),
    /// The first byte of a TLS handshake, where plaintext is spoken.
    #[error("it speaks TLS; either both sides are started with --plain, or neither")]
    Tls,
    /// An announced body that is too large.
    #[error("it announced a body of {0} bytes, more than 1 MiB")]
    BodyTooLarge(u64),
}

/// Cuts a byte stream into messages, and puts chunks together that travel in pieces.
///
/// A `size` in the envelope counts only from a peer that has said `HELLO`: to anybody else it is
/// an unknown field.
#[derive(Debug)]
pub struct FrameDecoder {
    /// Bytes at the front of the buffer known to hold no newline.
    scanned: usize,
    /// Whether a line was read.
    past_first_line: bool,
    extended: bool,
    /// Whether a byte was seen.
    begun: bool,
    max_line_bytes: usize,
    awaiting_body: Option<Announced>,
    assembler: Assembler,
}

impl FrameDecoder {
    /// A decoder at the beginning of a stream in plaintext.
    pub fn plaintext() -> Self {
        Self {
            scanned: 0,
            past_first_line: false,
            extended: false,
            begun: false,
            max_line_bytes: MAX_LINE_BYTES,
            awaiting_body: None,
            assembler: Assembler::default(),
        }
    }

    /// A decoder at the beginning of an encrypted stream, whose first line is short.
    pub fn encrypted() -> Self {
        Self { max_line_bytes: MAX_HELLO_BYTES, ..Self::plaintext() }
    }

    /// Takes the next message off the front of `buffer`, with the raw bytes that belong to it;
    /// `None` where it is not whole yet.
    ///
    /// # Errors
    /// [`FrameError`], after which the stream is of no more use.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Result<Message, BadLine>>, FrameError> {
        loop {
            match self.decode_frame(buffer)? {
                None => return Ok(None),
                Some(Ok(Decoded::Message(message))) => return Ok(Some(Ok(message))),
                Some(Err(error)) => return Ok(Some(Err(error))),
                Some(Ok(Decoded::Frame(frame))) => match self.assembler.add(frame) {
                    Ok(None) => {}
                    Ok(Some(chunk)) => return Ok(Some(Ok(chunk))),
                    Err(error) => return Ok(Some(Err(error))),
                },
            }
        }
    }

    /// How many more bytes at least make the next message whole, as far as that is known.
    pub fn wants(&self, buffer: &BytesMut) -> usize {
        let body = self.awaiting_body.as_ref().map_or(0, |announced| announced.body_size);
        usize::try_from(body).expect("at most 1 MiB").saturating_sub(buffer.len())
    }

    /// Bytes of a chunk that is not whole yet, apart from what is in the buffer.
    pub fn held(&self) -> usize {
        self.assembler.held()
    }

    fn decode_frame(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Result<Decoded, BadLine>>, FrameError> {
        if self.awaiting_body.is_none() {
            match self.read_line(buffer)? {
                None => return Ok(None),
                Some(Line::Whole(whole)) => {
                    self.on_line(&whole);
                    return Ok(Some(whole));
                }
                Some(Line::Announces(announced)) if announced.body_size > MAX_BODY_BYTES => {
                    return Err(FrameError::BodyTooLarge(announced.body_size));
                }
                Some(Line::Announces(announced)) => self.awaiting_body = Some(announced),
            }
        }
        match self.awaiting_body.take_if(|announced| buffer.len() as u64 >= announced.body_size) {
            Some(announced) => {
                let size = usize::try_from(announced.body_size).expect("at most 1 MiB");
                Ok(Some(announced.with_body(&buffer.split_to(size).freeze())))
            }
            None => Ok(None),
        }
    }

    /// Only a first line makes a peer one that may send bodies.
    fn on_line(&mut self, line: &Result<Decoded, BadLine>) {
        if !std::mem::replace(&mut self.past_first_line, true) {
            self.extended = matches!(line, Ok(Decoded::Message(Message::Hello(_))));
            self.max_line_bytes = MAX_LINE_BYTES;
        }
    }

    fn read_line(&mut self, buffer: &mut BytesMut) -> Result<Option<Line>, FrameError> {
        if !self.begun && buffer.first() == Some(&TLS_FIRST_BYTE) {
            return Err(FrameError::Tls);
        }
        self.begun |= !buffer.is_empty();
        let newline = memchr::memchr(b'\n', &buffer[self.scanned..]);
        let length = newline.map_or(buffer.len(), |at| self.scanned + at);
        if length + 1 >= self.max_line_bytes {
            return Err(FrameError::LineTooLong(self.max_line_bytes));
        }
        if newline.is_none() {
            self.scanned = length;
            return Ok(None);
        }
        self.scanned = 0;
        let line = Line::read(&buffer[..length], self.extended);
        buffer.advance(length + 1);
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &str = r#"{"type":"HELLO","payload":{"version":1,"agent":"t","instance":"000102030405060708090a0b0c0d0e0f","listen_port":0}}"#;

    fn decode_all(bytes: &[u8], cut: usize) -> Result<Vec<Result<Message, BadLine>>, FrameError> {
        decode_with(FrameDecoder::plaintext(), bytes, cut)
    }

    fn decode_with(
        mut decoder: FrameDecoder,
        bytes: &[u8],
        cut: usize,
    ) -> Result<Vec<Result<Message, BadLine>>, FrameError> {
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for part in bytes.chunks(cut.max(1)) {
            buffer.extend_from_slice(part);
            while let Some(frame) = decoder.decode(&mut buffer)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn text(text: &str) -> Result<Message, BadLine> {
        Ok(Message::Text(text.to_owned()))
    }

    #[test]
    fn a_line_of_1_mib_is_too_long_and_one_byte_less_is_not() {
        let line_of = |length: usize| {
            let frame = r#"{"type":"TEXT","payload":""}"#.len() + 1;
            format!("{{\"type\":\"TEXT\",\"payload\":\"{}\"}}\n", "x".repeat(length - frame))
        };
        assert_eq!(line_of(MAX_LINE_BYTES - 1).len(), MAX_LINE_BYTES - 1);
        assert_eq!(decode_all(line_of(MAX_LINE_BYTES - 1).as_bytes(), 4096).unwrap().len(), 1);
        for cut in [4096, usize::MAX] {
            assert_eq!(
                decode_all(line_of(MAX_LINE_BYTES).as_bytes(), cut),
                Err(FrameError::LineTooLong(MAX_LINE_BYTES))
            );
            assert_eq!(
                decode_all(&vec![b' '; MAX_LINE_BYTES], cut),
                Err(FrameError::LineTooLong(MAX_LINE_BYTES))
            );
        }
    }

    #[test]
    fn the_first_line_of_an_encrypted_stream_is_short() {
        let long = format!("{{\"type\":\"TEXT\",\"payload\":\"{}\"}}\n", "x".repeat(5000));
        let decode = |stream: &str| decode_with(FrameDecoder::encrypted(), stream.as_bytes(), 512);
        assert_eq!(decode(&long), Err(FrameError::LineTooLong(MAX_HELLO_BYTES)));
        assert_eq!(decode(&format!("{HELLO}\n{long}")).unwrap().len(), 2);
    }

    #[test]
    fn tls_is_recognized_by_its_first_byte() {
        assert_eq!(decode_all(b"\x16", 1), Err(FrameError::Tls));
        assert_eq!(decode_all(b"{\x16", 1), Ok(vec![]));
    }

    #[test]
    fn a_size_is_an_unknown_field_until_hello() {
        let line = r#"{"type":"TEXT","payload":"a","size":5}"#;
        let next = r#"{"type":"TEXT","payload":"b"}"#;
        let frames = decode_all(format!("{line}\n{next}\n").as_bytes(), 7).unwrap();
        assert_eq!(frames, [text("a"), text("b")]);
    }

    #[test]
    fn a_body_follows_any_line_after_hello() {
        let stream = format!(
            "{HELLO}\n{{\"type\":\"NEW\",\"size\":3}}\n\n\n\n{{\"type\":\"TEXT\",\"payload\":\"b\",\"size\":2}}\nxy{HELLO}\n"
        );
        for cut in [1, 2, 3, usize::MAX] {
            let frames = decode_all(stream.as_bytes(), cut).unwrap();
            assert_eq!(frames.len(), 4);
            assert_eq!(frames[1], Ok(Message::Unknown("NEW".to_owned())));
            assert_eq!(frames[2], text("b"));
            assert_eq!(frames[3], frames[0]);
        }
    }

    #[test]
    fn an_absurd_body_ends_the_stream() {
        let stream = format!("{HELLO}\n{{\"type\":\"NEW\",\"size\":18446744073709551615}}\n");
        assert_eq!(decode_all(stream.as_bytes(), 64), Err(FrameError::BodyTooLarge(u64::MAX)));
    }

    proptest! {
        #[test]
        fn how_the_bytes_were_cut_does_not_matter(bytes in any::<Vec<u8>>(), texts in proptest::collection::vec(".*", 0..5), cut in 1_usize..50) {
            let mut stream = BytesMut::from(&bytes[..]);
            for text in texts {
                Message::Text(text).encode(&mut stream);
            }
            prop_assert_eq!(decode_all(&stream, cut), decode_all(&stream, usize::MAX));
        }
    }
}
