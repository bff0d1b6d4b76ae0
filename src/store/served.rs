//! What a transfer receives, as the source of others: a chunk can be read as soon as it is verified,
//! before the whole is in place and after.
//!
//! Invariant: as with every source, no chunk leaves here that has not the digest which its list gives it.

use std::sync::Arc;

use super::Stopwatch;
use super::content::Content;
use super::failure::out_of_order;
use super::pulled::Pulled;
use crate::engine::{Code, Failure, JobDone, Look};
use crate::wire::{ChunkData, ChunkHash, ChunkIndex, State};
use crate::wire::{Digested, Geometry};

/// A transfer's chunks, for as long as somebody reads them.
pub(super) struct Served {
    pulled: Arc<Pulled>,
    content: Arc<Content>,
    geometry: Geometry,
}

impl Served {
    pub(super) fn open(pulled: Arc<Pulled>) -> Result<(Self, JobDone), Failure> {
        let incoming = pulled.incoming();
        let head = incoming.head.clone().ok_or_else(|| out_of_order("its list is not known"))?;
        let opened = JobDone::SourceOpened {
            size: incoming.size,
            head: Some(head.clone()),
            tree: incoming.tree,
            left_out: None,
            look: Look::default(),
        };
        let content = pulled.content()?;
        Ok((Self { geometry: head.geometry(), content, pulled }, opened))
    }

    pub(super) fn read_page(&self, page: u32) -> Result<JobDone, Failure> {
        Ok(JobDone::PageRead { page, entries: self.pulled.page(page)?.into() })
    }

    pub(super) fn read_chunk(&self, index: ChunkIndex, hashing: &mut Stopwatch) -> Result<JobDone, Failure> {
        let entry = self.pulled.stored_entry(index)?;
        let mut data = vec![0; self.geometry.len_of(index) as usize];
        let meddled = |why: String| {
            let message = format!("what was received before cannot be served: {why}");
            Failure::new(Code::SourceChanged, message)
        };
        self.content.read_exact_at(&mut data, index.offset()).map_err(|error| meddled(error.to_string()))?;
        let digest = hashing.time(|| ChunkHash(Digested::of(State::INITIAL, &data).entry().hash.0));
        if digest != entry.hash {
            return Err(meddled("somebody has changed it".to_owned()));
        }
        Ok(JobDone::ChunkRead { index, data: ChunkData(data.into()), entry })
    }
}
