//! How far each part of a content is and who delivered it, coarse enough to be drawn.
//!
//! However long the content, it has [`CELLS`] parts at most, each with as many chunks as the others, give
//! or take one. Whose most chunks of a part are is decided by a majority vote (Boyer and Moore), which
//! needs one candidate a part instead of a name for every chunk: where somebody delivered more than
//! half, that is who is told, else one of those who delivered some.
//! Invariant: what is kept here is bounded, whatever the content and however many deliver it.

use std::net::SocketAddr;

use super::Delivery;
use crate::wire::{ChunkIndex, Geometry, NodeId};

/// Parts at most.
const CELLS: u32 = 96;

/// Those who are told apart at most.
const SENDERS: usize = 64;

/// One part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// How much of it is here, in percent; 100 only for all of it.
    pub percent: u8,
    /// Who delivered most of that, as a place in the list of sources; nobody, where it was here before.
    pub source: Option<u8>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    stored: u32,
    candidate: Option<u8>,
    votes: u32,
}

/// The parts of one content. There are none until there is room for its chunks.
#[derive(Debug, Default)]
pub(super) struct Cells {
    parts: Vec<Part>,
    senders: Vec<Delivery>,
}

impl Cells {
    pub(super) fn new(geometry: Geometry) -> Self {
        let parts = geometry.chunks().min(CELLS) as usize;
        Self { parts: vec![Part::default(); parts], senders: Vec::new() }
    }

    /// A chunk is here that was not.
    pub(super) fn stored(&mut self, geometry: Geometry, index: ChunkIndex) {
        if let Some(part) = self.part(geometry, index) {
            part.stored += 1;
        }
    }

    /// A chunk came from somebody, and is stored.
    pub(super) fn delivered(
        &mut self,
        geometry: Geometry,
        index: ChunkIndex,
        (peer, node_id): (SocketAddr, Option<NodeId>),
    ) {
        let bytes = u64::from(geometry.len_of(index));
        let found = self.senders.iter().position(|sender| sender.is_of(peer, node_id));
        let number = match found {
            Some(number) => number,
            None if self.senders.len() == SENDERS => return,
            None => {
                self.senders.push(Delivery::nothing(peer, node_id));
                self.senders.len() - 1
            }
        };
        let sender = &mut self.senders[number];
        sender.bytes += bytes;
        sender.peer = peer;
        let voice = u8::try_from(number).ok();
        let Some(part) = self.part(geometry, index) else { return };
        if part.votes == 0 {
            part.candidate = voice;
        }
        if part.candidate == voice {
            part.votes += 1;
        } else {
            part.votes -= 1;
        }
    }

    /// Those who delivered something, in the order in which they began to.
    pub(super) fn senders(&self) -> &[Delivery] {
        &self.senders
    }

    /// The parts as they are now.
    pub(super) fn picture(&self, geometry: Geometry) -> Vec<Cell> {
        let (chunks, parts) = (u64::from(geometry.chunks()), self.parts.len() as u64);
        // The first chunk of a part, by the same rule by which a chunk has its part.
        let first = |number: u64| (number * chunks).div_ceil(parts);
        let cell = |(number, part): (u64, &Part)| {
            let all = first(number + 1) - first(number);
            let percent = u64::from(part.stored) * 100 / all.max(1);
            Cell { percent: u8::try_from(percent.min(100)).unwrap_or(100), source: part.candidate }
        };
        (0..).zip(&self.parts).map(cell).collect()
    }

    fn part(&mut self, geometry: Geometry, index: ChunkIndex) -> Option<&mut Part> {
        let (chunks, parts) = (u64::from(geometry.chunks()), self.parts.len() as u64);
        let number = u64::from(index.get()) * parts / chunks.max(1);
        self.parts.get_mut(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::CHUNK_SIZE;

    fn peer(port: u16) -> (SocketAddr, Option<NodeId>) {
        (SocketAddr::from(([192, 0, 2, 5], port)), None)
    }

    fn geometry(chunks: u64) -> Geometry {
        Geometry::new(chunks * u64::from(CHUNK_SIZE)).unwrap()
    }

    #[test]
    fn each_chunk_belongs_to_one_part_and_all_parts_get_full() {
        for chunks in [1, 2, 95, 96, 97, 100, 191, 193, 5000] {
            let geometry = geometry(chunks);
            let mut cells = Cells::new(geometry);
            for index in geometry.indices() {
                assert!(cells.picture(geometry).iter().any(|cell| cell.percent < 100), "{chunks}");
                cells.stored(geometry, index);
            }
            let picture = cells.picture(geometry);
            assert_eq!(picture.len() as u64, chunks.min(u64::from(CELLS)));
            assert!(picture.iter().all(|cell| *cell == Cell { percent: 100, source: None }), "{chunks}");
        }
    }

    #[test]
    fn a_part_is_whose_most_of_it_is_and_who_connects_anew_is_the_same() {
        let geometry = geometry(960);
        let mut cells = Cells::new(geometry);
        let id = Some(NodeId([7; 32]));
        let senders = [peer(1), (peer(2).0, id)];
        for (number, index) in geometry.indices().take(20).enumerate() {
            let mut from = senders[usize::from(number % 10 < 6)];
            if number > 10 && from.1.is_some() {
                from.0 = peer(3).0;
            }
            cells.stored(geometry, index);
            cells.delivered(geometry, index, from);
        }
        let picture = cells.picture(geometry);
        let whose: Vec<_> = cells.senders().iter().map(|sender| (sender.node_id, sender.bytes)).collect();
        assert_eq!(whose, [(id, 12 * u64::from(CHUNK_SIZE)), (None, 8 * u64::from(CHUNK_SIZE))]);
        assert_eq!(picture[..2], [Cell { percent: 100, source: Some(0) }; 2]);
        assert_eq!(picture[2], Cell { percent: 0, source: None });
    }

    #[test]
    fn a_crowd_costs_no_more_than_some() {
        let geometry = geometry(960);
        let mut cells = Cells::new(geometry);
        for (port, index) in (1..).zip(geometry.indices()) {
            cells.stored(geometry, index);
            cells.delivered(geometry, index, peer(port));
        }
        assert_eq!(cells.senders().len(), SENDERS);
        assert!(cells.picture(geometry).iter().all(|cell| cell.percent == 100));
    }
}
