//! Directories that are pulled: their list comes first, and where their files go is prepared before any
//! of them is asked for.
//!
//! Invariant: the memory that lists take is counted from the moment a directory is accepted, and an offer
//! that nobody accepted costs none. While this side works on its disk for longer, the sender hears of it.

use super::downloads::{Download, State};
use super::pulling::Pull;
use super::{Code, Engine, Failure, Job, TransferId};
use crate::wire::{CHUNK_SIZE, ChunkIndex, Message};

/// How far the place for the files of a directory is. Until it is there only the chunks that have the
/// list are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreeState {
    /// The list of the directory is not all here.
    Unknown,
    /// The list is being checked, or its files prepared.
    Opening,
    /// Also where there is no directory.
    Open,
}

impl Pull {
    /// Chunks that the list of a directory reaches into.
    pub(super) fn list_chunks(&self) -> u32 {
        self.incoming.tree.map_or(0, |tree| tree.list_bytes.div_ceil(CHUNK_SIZE))
    }

    /// Whether all of it may be stored.
    pub(super) fn is_open(&self) -> bool {
        self.tree == TreeState::Open
    }
}

impl Engine {
    /// Counts the memory that the list of an accepted directory will take. Where there is not so much,
    /// the transfer ends.
    pub(super) fn charge_tree(&mut self, id: TransferId) -> bool {
        let used = self.manifest_bytes;
        let most = self.config.limits.manifest_bytes;
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return true };
        // As it travels, and where each entry begins.
        let bytes = pull.incoming.tree.map_or(0, |tree| 2 * tree.list_bytes as usize) - pull.tree_bytes;
        if used + bytes > most {
            let why = "this node has as many open transfers of directories as it can hold; try again later";
            let failure = Failure::new(Code::Busy, why);
            let is_wanted = self.downloads.get(&id).is_some_and(Download::is_wanted);
            // What somebody says of its list may be false.
            match is_wanted {
                true => self.has_no_room(id, failure),
                false => self.fail_download(id, failure),
            }
            return false;
        }
        pull.tree_bytes += bytes;
        self.manifest_bytes += bytes;
        true
    }

    pub(super) fn on_tree_opening(&mut self, id: TransferId, kept: &[ChunkIndex]) {
        self.set_stored(id, kept);
        self.download_progress(id);
        if self.downloads.get(&id).is_some_and(|download| download.state == State::Receiving) {
            self.tell_busy(id);
            self.job(id, Job::OpenTree);
        }
    }

    pub(super) fn on_tree_opened(&mut self, id: TransferId, kept: &[ChunkIndex]) {
        self.set_stored(id, kept);
        self.tell_busy(id);
        if let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) {
            pull.tree = TreeState::Open;
            pull.sources.fertile();
        }
        self.go_further(id);
    }

    /// Lets the sender know that this side works on what it has, and counts that as movement.
    fn tell_busy(&mut self, id: TransferId) {
        if let Some(conn) = self.downloads.get(&id).and_then(|download| download.conn) {
            self.moved(conn);
        }
        self.tell_sources(id, |number| Message::Accept { id: number, kept: None, wants_list: false });
    }
}
