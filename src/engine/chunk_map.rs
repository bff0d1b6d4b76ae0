//! Which chunks of a file that is being received there are.

use std::collections::BTreeMap;

use super::cells::Cells;
use crate::wire::{ChunkIndex, Geometry};

/// Which chunks of a file are there. Each is exactly one of missing, arrived (with one job or more
/// that verifies and stores it) and stored.
#[derive(Debug)]
pub(super) struct ChunkMap {
    pub(super) geometry: Geometry,
    /// Empty until the file is accepted, since an offer costs nothing.
    stored: Vec<bool>,
    stored_count: u32,
    pub(super) stored_bytes: u64,
    /// The same to be drawn, and who delivered what.
    pub(super) cells: Cells,
    /// Jobs under way for a chunk that is not stored.
    pub(super) arrived: BTreeMap<ChunkIndex, u32>,
}

impl ChunkMap {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            stored: Vec::new(),
            stored_count: 0,
            stored_bytes: 0,
            cells: Cells::default(),
            arrived: BTreeMap::new(),
        }
    }

    /// The file is accepted.
    pub(super) fn make_room(&mut self) {
        self.stored = vec![false; self.geometry.chunks() as usize];
        self.cells = Cells::new(self.geometry);
    }

    /// Nothing is stored as far as is known.
    pub(super) fn start_over(&mut self) {
        *self = Self::new(self.geometry);
        self.make_room();
    }

    pub(super) fn is_missing(&self, index: ChunkIndex) -> bool {
        !self.is_stored(index) && !self.arrived.contains_key(&index)
    }

    /// Of a file that is not accepted nothing is: its sender may ask all the same, with a chunk.
    pub(super) fn is_stored(&self, index: ChunkIndex) -> bool {
        self.stored.get(index.as_usize()).is_some_and(|stored| *stored)
    }

    pub(super) fn job_given(&mut self, index: ChunkIndex) {
        *self.arrived.entry(index).or_default() += 1;
    }

    /// The bytes were no use to this file.
    pub(super) fn returned(&mut self, index: ChunkIndex) {
        if let Some(jobs) = self.arrived.get_mut(&index) {
            *jobs -= 1;
            if *jobs == 0 {
                self.arrived.remove(&index);
            }
        }
    }

    pub(super) fn set_stored(&mut self, index: ChunkIndex) {
        self.arrived.remove(&index);
        if !std::mem::replace(&mut self.stored[index.as_usize()], true) {
            self.stored_count += 1;
            self.cells.stored(self.geometry, index);
            self.stored_bytes += u64::from(self.geometry.len_of(index));
        }
    }

    pub(super) fn all_stored(&self) -> bool {
        self.stored_count == self.geometry.chunks()
    }

    pub(super) fn all_arrived(&self) -> bool {
        self.missing() == 0
    }

    pub(super) fn missing(&self) -> u64 {
        u64::from(self.geometry.chunks() - self.stored_count) - self.arrived.len() as u64
    }
}
