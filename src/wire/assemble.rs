//! Chunks that travel in pieces.

use bytes::{Bytes, BytesMut};

use super::extended::{DataFrame, OfferId};
use super::{BadLine, CHUNK_SIZE, ChunkData, Entry, Message};

/// Puts the pieces of chunks together. A chunk's pieces come in order and without those of another
/// between, so at most one chunk is in memory; one that is begun anew, or not gone on with because
/// its sender gave it up, is forgotten.
#[derive(Debug, Default)]
pub(super) struct Assembler(Option<Begun>);

#[derive(Debug)]
struct Begun {
    id: OfferId,
    chunk: u32,
    length: u32,
    entry: Option<Entry>,
    bytes: BytesMut,
}

impl Assembler {
    /// Bytes of the chunk that is not whole.
    pub(super) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |begun| begun.bytes.len())
    }

    /// Takes the next piece in, and gives the chunk back that it completes.
    ///
    /// # Errors
    /// A piece of nothing, or one that is not where its chunk goes on.
    pub(super) fn add(&mut self, frame: DataFrame) -> Result<Option<Message>, BadLine> {
        let DataFrame { id, chunk, length, offset, entry, bytes } = frame;
        let fault = |why: &str| Err(BadLine::Payload { kind: "DATA", why: why.to_owned() });
        let end = u64::from(offset) + bytes.len() as u64;
        if bytes.is_empty() || length > CHUNK_SIZE || end > u64::from(length) {
            self.0 = None;
            return fault("its bytes are not within a chunk");
        }
        if offset == 0 && end == u64::from(length) {
            self.0 = None;
            return Ok(Some(whole(id, chunk, bytes, entry)));
        }
        if offset == 0 {
            let mut begun = BytesMut::with_capacity(length as usize);
            begun.extend_from_slice(&bytes);
            self.0 = Some(Begun { id, chunk, length, entry, bytes: begun });
            return Ok(None);
        }
        let goes_on = |begun: &Begun| {
            (begun.id, begun.chunk, begun.length, begun.bytes.len()) == (id, chunk, length, offset as usize)
        };
        let Some(mut begun) = self.0.take().filter(goes_on) else {
            return fault("it is not the next piece of its chunk");
        };
        begun.bytes.extend_from_slice(&bytes);
        if end < u64::from(length) {
            self.0 = Some(begun);
            return Ok(None);
        }
        Ok(Some(whole(id, chunk, begun.bytes.freeze(), begun.entry)))
    }
}

fn whole(id: OfferId, index: u32, bytes: Bytes, entry: Option<Entry>) -> Message {
    Message::Data { id, index, data: ChunkData(bytes), entry }
}
