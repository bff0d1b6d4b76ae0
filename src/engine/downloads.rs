//! Files that peers offer and send to us.
//!
//! A download goes through [`State`] from top to bottom and leaves by [`Engine::forget_download`],
//! which releases what the disk holds for it. Here is what all downloads have in common, and those
//! that a peer sends as a whole: a chunk is written only where its digest is the one that the offer
//! lists; which offer a baseline chunk belongs to is guessed from its index and length, and corrected
//! by its digest. Those that are pulled are in `pulling`.
//!
//! Leaves to the disk: verifying, the order in which the file's own hash is computed, names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Level;
use super::bottleneck::{Stage as Wait, Took, Waits};
use super::chunk_map::ChunkMap;
use super::considered::Assent;
use super::gets::Get;
use super::pulling::Pull;
use super::{
    CLOSED_BY_PEER, ChunkProof, Code, ConnId, Deadline, Direction, Engine, Event, Failure, Job, JobDone,
    Leftover, Stage, TransferId, TransferInfo,
};
use crate::size;
use crate::wire::{
    ChunkData, ChunkHash, ChunkIndex, FileHash, Geometry, Manifest, ManifestHead, Message, NodeId, Offer,
    SafeName, TreeInfo,
};

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Whether it fits is being looked up.
    CheckingSpace,
    /// Somebody must say whether it is wanted.
    Asking,
    /// Its partial file is being made, or found and verified.
    Creating,
    /// Its sender is away.
    Waiting,
    /// It was accepted, and chunks are coming.
    Receiving,
    /// All chunks are stored; hash, sync and name are left.
    Finishing,
}

/// An offer to us, and what became of it.
#[derive(Debug)]
pub(super) struct Download {
    /// `None` while its sender is away.
    pub(super) conn: Option<ConnId>,
    pub(super) peer: SocketAddr,
    pub(super) name: SafeName,
    pub(super) geometry: Geometry,
    pub(super) form: Form,
    pub(super) state: State,
    /// Whether somebody said already that it is to be taken.
    pub(super) assent: Assent,
    /// Times that its file was let go of, of which the answer has not come: what is answered before
    /// that is about an earlier connection.
    pub(super) releasing: u32,
    /// What stays of it on the disk, while its sender is away.
    pub(super) left: Option<Leftover>,
    pub(super) chunks: ChunkMap,
    pub(super) accepted_at: Duration,
    progress_at: Duration,
    pub(super) waits: Waits,
}

/// The form in which it was offered.
#[derive(Debug)]
pub(super) enum Form {
    /// With the hashes of all chunks, to be sent as a whole.
    Listed(Manifest),
    /// To be pulled.
    Pulled(Box<Pull>),
}

impl Download {
    pub(super) fn new(
        conn: Option<ConnId>,
        peer: SocketAddr,
        name: SafeName,
        geometry: Geometry,
        form: Form,
        assent: Assent,
        now: Duration,
    ) -> Self {
        Self {
            conn,
            peer,
            name,
            geometry,
            form,
            state: State::CheckingSpace,
            assent,
            releasing: 0,
            left: None,
            chunks: ChunkMap::new(geometry),
            accepted_at: now,
            progress_at: now,
            waits: Waits::new(now),
        }
    }

    /// What it consists of, as far as that is known.
    pub(super) fn head(&self) -> Option<&Arc<ManifestHead>> {
        match &self.form {
            Form::Listed(_) => None,
            Form::Pulled(pull) => pull.head(),
        }
    }

    /// What its offer says of it where it is a directory.
    pub(super) fn tree(&self) -> Option<TreeInfo> {
        match &self.form {
            Form::Listed(_) => None,
            Form::Pulled(pull) => pull.incoming.tree,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.tree().is_some()
    }

    /// Whether all of its list is here.
    pub(super) fn has_whole_list(&self) -> bool {
        matches!(&self.form, Form::Pulled(pull) if pull.has_all_pages())
    }

    /// Those who send it, where it was searched for.
    pub(super) fn source_conns(&self) -> Vec<ConnId> {
        match &self.form {
            Form::Pulled(pull) => pull.sources.iter().map(|(conn, _)| conn).collect(),
            Form::Listed(_) => Vec::new(),
        }
    }

    /// With whom it is, where it is with one.
    pub(super) fn told_peer(&self) -> Option<SocketAddr> {
        (!self.is_wanted()).then_some(self.peer)
    }

    pub(super) fn is_wanted(&self) -> bool {
        matches!(&self.form, Form::Pulled(pull) if pull.is_wanted())
    }

    /// Notes what keeps it from going on at this moment.
    pub(super) fn note_wait(&mut self, now: Duration) {
        let works = self.state != State::Receiving || !self.chunks.arrived.is_empty();
        self.waits.waits_for(if works { Wait::Jobs } else { Wait::Line }, now);
    }

    /// The list of a file that is sent as a whole.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        match &self.form {
            Form::Listed(manifest) => Some(manifest),
            Form::Pulled(_) => None,
        }
    }

    pub(super) fn file_hash(&self) -> Option<FileHash> {
        match &self.form {
            Form::Listed(manifest) => Some(manifest.file_hash()),
            Form::Pulled(pull) => pull.head().map(|head| head.file_hash()),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// Who offered it, where that is known and it is sent by one.
    pub(super) fn sender(&self) -> Option<NodeId> {
        match &self.form {
            Form::Listed(_) => None,
            Form::Pulled(pull) => pull.incoming.from,
        }
    }

    /// Files in it, where it is a directory.
    pub(super) fn files(&self) -> Option<u32> {
        match &self.form {
            Form::Listed(_) => None,
            Form::Pulled(pull) => pull.incoming.tree.map(|tree| tree.files),
        }
    }

    /// Bytes of memory that its list takes.
    pub(super) fn manifest_bytes(&self) -> usize {
        match &self.form {
            Form::Listed(manifest) => manifest.memory(),
            Form::Pulled(pull) => pull.memory(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether nothing happens until somebody decides.
    pub(super) fn awaits_answer(&self) -> bool {
        self.state == State::Asking
    }

    /// Whether its sender is needed no more.
    pub(super) fn has_everything(&self) -> bool {
        match self.state {
            State::CheckingSpace | State::Asking | State::Creating | State::Waiting => false,
            State::Receiving => self.manifest().is_some() && self.chunks.all_arrived(),
            State::Finishing => true,
        }
    }

    /// Bytes that it will still take on the disk.
    pub(super) fn bytes_to_come(&self) -> u64 {
        match self.state {
            State::CheckingSpace | State::Asking => 0,
            State::Creating | State::Waiting | State::Receiving | State::Finishing => {
                self.geometry.size() - self.chunks.stored_bytes
            }
        }
    }

    pub(super) fn info(&self, id: TransferId) -> TransferInfo {
        TransferInfo {
            id,
            peer: self.told_peer(),
            direction: Direction::In,
            name: self.name.clone(),
            size: self.geometry.size(),
            sha256: self.file_hash(),
            files: self.files(),
            bytes: self.checked_bytes().unwrap_or(self.chunks.stored_bytes),
            stage: match self.state {
                State::CheckingSpace | State::Asking => Stage::Offered,
                State::Creating if self.checked_bytes().is_some() => Stage::Checking,
                State::Creating | State::Receiving => Stage::Transferring,
                State::Waiting => Stage::Waiting,
                State::Finishing => Stage::Finishing,
            },
            sources: self.chunks.cells.senders().to_vec(),
            cells: self.chunks.cells.picture(self.geometry),
        }
    }
}

/// What an earlier attempt left of a file, and no transfer uses.
pub(super) fn leftover_info(id: TransferId, left: &Leftover) -> TransferInfo {
    TransferInfo {
        id,
        peer: None,
        direction: Direction::In,
        name: left.name.clone(),
        size: left.size,
        sha256: left.file_hash,
        files: None,
        bytes: left.bytes,
        stage: Stage::Partial,
        sources: Vec::new(),
        cells: Vec::new(),
    }
}

impl Engine {
    pub(super) fn on_offer(&mut self, conn: ConnId, offer: Offer) {
        self.replace_given_up(conn, &offer);
        if let Err(why) = self.check_offer(conn, &offer) {
            let name = &offer.name;
            return self.refuse(conn, &format!("the offer of \"{name}\" was refused: {why}"));
        }
        let Offer { name, manifest } = offer;
        let geometry = manifest.geometry();
        if let Err(why) = self.consider(conn, &name, geometry, Form::Listed(manifest)) {
            self.refuse(conn, &format!("the offer of \"{name}\" was declined: {why}"));
        }
    }

    /// A node of ours never offers what it is still sending: where it offers it again, it has given
    /// the first one up, for which this protocol level has no word.
    fn replace_given_up(&mut self, conn: ConnId, offer: &Offer) {
        let Some(peer) = self.peers.get(conn).filter(|peer| peer.level == Some(Level::Extended)) else {
            return;
        };
        let hash = offer.manifest.file_hash();
        let given_up = peer.downloads.iter().copied().find(|id| {
            self.downloads.get(id).is_some_and(|download| {
                download.manifest().is_some_and(|manifest| manifest.file_hash() == hash)
                    && download.state != State::Finishing
            })
        });
        if let Some(id) = given_up {
            let failure = Failure::new(Code::Withdrawn, "its sender gave it up, and offers it anew");
            self.fail_download(id, failure);
        }
    }

    fn check_offer(&self, conn: ConnId, offer: &Offer) -> Result<(), String> {
        let Some(peer) = self.peers.get(conn) else { return Ok(()) };
        let hash = offer.manifest.file_hash();
        let is_same = |id: &TransferId| {
            let manifest = self.downloads.get(id).and_then(Download::manifest);
            manifest.is_some_and(|manifest| manifest.file_hash() == hash)
        };
        if peer.downloads.iter().any(is_same) {
            return Err("the same peer's offer of the same content is still open".to_owned());
        }
        self.check_room(conn, offer.manifest.memory())
    }

    /// Whether another offer fits, whose list takes so many bytes.
    pub(super) fn check_room(&self, conn: ConnId, list_bytes: usize) -> Result<(), String> {
        let limits = &self.config.limits;
        let Some(peer) = self.peers.get(conn) else { return Ok(()) };
        // One whose sender is away may never come.
        let open = self.downloads.values().filter(|download| download.state != State::Waiting).count();
        if limits.received_in_all.is_some_and(|most| self.received as usize + open >= most as usize) {
            return Err("this node takes no more than what it has begun to take; try again later".to_owned());
        }
        if peer.downloads.len() >= limits.offers_per_peer {
            return Err(format!("the peer has {} open offers already", peer.downloads.len()));
        }
        if self.downloads.len() + self.uploads.len() >= limits.transfers
            || self.manifest_bytes + list_bytes > limits.manifest_bytes
        {
            return Err("this node has as many open offers and transfers as it can hold".to_owned());
        }
        Ok(())
    }

    pub(super) fn on_download_job(&mut self, id: TransferId, done: JobDone, took: Took) {
        if let Some(download) = self.downloads.get_mut(&id) {
            if download.releasing > 0 {
                return;
            }
            download.waits.job_took(took);
        }
        match done {
            JobDone::FreeSpace { bytes } => self.on_free_space(id, bytes),
            JobDone::PartialCreated => self.on_partial_created(id),
            JobDone::ChunkStored(index) => self.on_chunk_stored(id, index),
            JobDone::ChunkReturned { index, data, actual } => {
                if self.downloads.get(&id).is_some_and(|download| download.manifest().is_none()) {
                    self.on_pulled_chunk_wrong(id, index, false);
                } else {
                    self.on_chunk_returned(id, index, data, actual);
                }
            }
            JobDone::Finished { path, file_hash, already } => self.on_finished(id, path, file_hash, already),
            JobDone::Failed(failure) => self.on_download_failed(id, failure),
            done => self.on_pull_job(id, done),
        }
    }

    fn on_partial_created(&mut self, id: TransferId) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.state = State::Receiving;
        download.note_wait(self.now);
        let (Some(conn), Some(hash)) = (download.conn, download.file_hash()) else { return };
        self.timers.set(Deadline::Stall(id), self.now + self.config.limits.stall);
        self.send(conn, Message::FileAccept(hash));
        self.finish_if_all_stored(id);
    }

    pub(super) fn on_chunk(&mut self, conn: ConnId, index: u64, data: ChunkData) {
        match self.guess_download(conn, index, data.0.len()) {
            Some((id, index)) => {
                if let Some(peer) = self.peers.get_mut(conn) {
                    peer.last_chunk_at = self.now;
                }
                self.store(id, index, data);
            }
            None => self.on_surplus_chunk(conn, index),
        }
    }

    /// A chunk that no download waits for. Of one that was given up and is sent anew, both chunks
    /// may come: then the second is here already, and nothing is wrong with it.
    fn on_surplus_chunk(&mut self, conn: ConnId, index: u64) {
        let is_here = |download: &Download| {
            let known = download.chunks.geometry.index(index);
            download.conn == Some(conn)
                && download.manifest().is_some()
                && known.is_some_and(|index| download.chunks.is_stored(index))
        };
        if self.downloads.values().any(is_here)
            && let Some(peer) = self.peers.get_mut(conn).filter(|peer| peer.tolerated_chunks > 0)
        {
            peer.tolerated_chunks -= 1;
            self.send(conn, Message::ChunkAck { index, ok: true });
            return;
        }
        self.on_bad_chunk(conn, index, NOT_ASKED_FOR);
    }

    /// The oldest download from this peer that misses a chunk of that index and length; else the
    /// oldest that is verifying one, since that may turn out to be another file's.
    fn guess_download(&self, conn: ConnId, index: u64, len: usize) -> Option<(TransferId, ChunkIndex)> {
        let downloads = &self.peers.get(conn)?.downloads;
        let find = |waits_for_it: fn(&ChunkMap, ChunkIndex) -> bool| {
            downloads.iter().find_map(|id| {
                let sent = |download: &&Download| {
                    download.state == State::Receiving && download.manifest().is_some()
                };
                let download = self.downloads.get(id).filter(sent)?;
                let geometry = download.chunks.geometry;
                let index = geometry.index(index)?;
                let fits = geometry.len_of(index) as usize == len;
                (fits && waits_for_it(&download.chunks, index)).then_some((*id, index))
            })
        };
        find(ChunkMap::is_missing).or_else(|| find(|chunks, index| !chunks.is_stored(index)))
    }

    fn store(&mut self, id: TransferId, index: ChunkIndex, data: ChunkData) {
        if let Some(download) = self.downloads.get_mut(&id) {
            download.chunks.job_given(index);
            download.note_wait(self.now);
            self.job(id, Job::StoreChunk { index, data, by: ChunkProof::Offer });
        }
    }

    fn on_chunk_stored(&mut self, id: TransferId, index: ChunkIndex) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.chunks.set_stored(index);
        download.note_wait(self.now);
        let bytes = download.geometry.len_of(index);
        let is_pulled = download.manifest().is_none();
        let conn = download.conn;
        self.download_progress(id);
        if is_pulled {
            return self.on_pulled_chunk_stored(id, index);
        }
        let Some(conn) = conn else { return };
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.bytes_received += u64::from(bytes);
            let from = (peer.addr, peer.node_id);
            if let Some(download) = self.downloads.get_mut(&id) {
                download.chunks.cells.delivered(download.geometry, index, from);
            }
        }
        self.send(conn, Message::ChunkAck { index: index.get().into(), ok: true });
        self.finish_if_all_stored(id);
        self.fail_if_nothing_comes(conn, CLOSED_BY_PEER);
    }

    pub(super) fn download_progress(&mut self, id: TransferId) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        if self.now < download.progress_at + self.config.limits.progress_interval {
            return;
        }
        download.progress_at = self.now;
        let peer = download.peer;
        let TransferInfo { direction, name, size, bytes, stage, .. } = download.info(id);
        self.event(Event::Progress { id, peer: Some(peer), name, direction, stage, bytes, size });
    }

    /// The guess was wrong, or the chunk is, or it is the second of two that files share. The
    /// download that was guessed may have ended meanwhile.
    fn on_chunk_returned(&mut self, id: TransferId, index: ChunkIndex, data: ChunkData, actual: ChunkHash) {
        let (conn, is_here) = match self.downloads.get_mut(&id) {
            Some(download) => {
                download.chunks.returned(index);
                let Some(conn) = download.conn else { return };
                (conn, download.chunks.is_stored(index))
            }
            None => {
                let Some(&conn) = self.ended_with_chunks.get(&id) else { return };
                // So the ended download's own chunk may still come.
                if let Some(peer) = self.peers.get_mut(conn) {
                    peer.tolerated_chunks += 1;
                }
                (conn, false)
            }
        };
        // Another download's job for this index may be under way with bytes that are wrong for it
        // in turn, so only a stored chunk is one that is not waited for.
        let waits_for_it = |download: &Download| {
            download.conn == Some(conn)
                && download.state == State::Receiving
                && download.geometry.index(index.get().into()).is_some()
                && !download.chunks.is_stored(index)
                && download.manifest().is_some_and(|manifest| manifest.chunk_hash(index) == actual)
        };
        let right = self.downloads.iter().find(|(_, download)| waits_for_it(download)).map(|(id, _)| *id);
        match right {
            Some(right) => self.store(right, index, data),
            None if is_here => self.on_bad_chunk(conn, index.get().into(), NOT_ASKED_FOR),
            None => self.on_bad_chunk(conn, index.get().into(), "does not have the hash that was announced"),
        }
        self.fail_if_nothing_comes(conn, CLOSED_BY_PEER);
    }

    /// Where nothing more will arrive on a connection: ends its downloads that miss something. While
    /// a chunk is being verified it may still turn out to be another file's.
    pub(super) fn fail_if_nothing_comes(&mut self, conn: ConnId, reason: &str) {
        if self.peers.get(conn).is_some_and(|peer| !peer.read_closed) {
            return;
        }
        let of_conn = |download: &&Download| download.conn == Some(conn) && download.manifest().is_some();
        let verifying = self.ended_with_chunks.values().any(|ended| *ended == conn)
            || self.downloads.values().filter(of_conn).any(|download| !download.chunks.arrived.is_empty());
        let hopeless = |download: &Download| {
            let may_be_others = verifying && download.manifest().is_some();
            !download.has_everything() && (download.state != State::Receiving || !may_be_others)
        };
        let failing: Vec<_> = self
            .downloads
            .iter()
            .filter(|(_, download)| download.conn == Some(conn) && hopeless(download))
            .map(|(id, _)| *id)
            .collect();
        for id in failing {
            self.fail_unfinished(id, reason);
        }
        self.close_if_done(conn);
    }

    /// Ends a download whose sender is gone.
    fn fail_unfinished(&mut self, id: TransferId, reason: &str) {
        match self.downloads.get(&id).map(Download::state) {
            // Nobody was told of it.
            Some(State::CheckingSpace) => self.forget_download(id),
            Some(State::Asking) => self.fail_download(id, Failure::new(Code::Withdrawn, reason)),
            _ => self.fail_download(id, Failure::new(Code::Disconnected, reason)),
        }
    }

    /// Takes the result of a job whose download has ended.
    pub(super) fn on_ended_download_job(&mut self, id: TransferId, done: JobDone) {
        match done {
            JobDone::ChunkReturned { index, data, actual } => self.on_chunk_returned(id, index, data, actual),
            // The last of its jobs.
            JobDone::Released { .. } => {
                if let Some(conn) = self.ended_with_chunks.remove(&id) {
                    self.fail_if_nothing_comes(conn, CLOSED_BY_PEER);
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_bad_chunk(&mut self, conn: ConnId, index: u64, why: &str) {
        self.send(conn, Message::ChunkAck { index, ok: false });
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if peer.tolerated_chunks > 0 {
            peer.tolerated_chunks -= 1;
            return;
        }
        peer.bad_chunks += 1;
        let addr = peer.addr;
        if peer.bad_chunks >= self.config.limits.bad_chunks {
            self.drop_peer(conn, &format!("chunk {index} {why}, and it is the last of too many"));
        } else {
            self.warn(addr, format!("chunk {index} {why}; it was not written"));
        }
    }

    pub(super) fn finish_if_all_stored(&mut self, id: TransferId) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let sealed = match &download.form {
            Form::Listed(_) => true,
            Form::Pulled(pull) => pull.head().is_some() && pull.has_all_pages() && pull.is_open(),
        };
        if download.state == State::Receiving && download.chunks.all_stored() && sealed {
            download.state = State::Finishing;
            download.note_wait(self.now);
            let name = download.name.clone();
            let seal = match &download.form {
                Form::Listed(_) => None,
                Form::Pulled(pull) => pull.seal.clone(),
            };
            self.timers.clear(Deadline::Stall(id));
            self.job(id, Job::Finish { name, seal });
        }
    }

    pub(super) fn on_finished(&mut self, id: TransferId, path: PathBuf, file_hash: FileHash, already: bool) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let sources = self.gets.get(&id).map(Get::deliveries).unwrap_or_default();
        let received = Event::Received {
            id,
            peer: sources.first().map_or(download.peer, |most| most.peer),
            name: download.name.clone(),
            path,
            size: download.geometry.size(),
            sha256: file_hash,
            files: download.files(),
            already,
            elapsed: self.now.saturating_sub(download.accepted_at),
            limited_by: download.waits.bottleneck(self.now),
            sources,
        };
        self.received = self.received.saturating_add(1);
        match (&download.form, download.conn) {
            (Form::Listed(_), Some(conn)) => self.send(conn, Message::Complete(file_hash)),
            (Form::Listed(_), None) => {}
            (Form::Pulled(_), _) => self.tell_done(id),
        }
        if let Event::Received { path, .. } = &received {
            self.seed(id, path);
        }
        self.event(received);
        self.on_held_ended(id, true);
        self.end_download(id, false);
    }

    pub(super) fn on_download_stalled(&mut self, id: TransferId) {
        let Some(download) = self.downloads.get(&id) else { return };
        if download.is_wanted() {
            // Its sources are looked after one by one.
            return;
        }
        // Files from one peer share its line: one that moves excuses the others.
        let stall = self.config.limits.stall;
        let peer = download.conn.and_then(|conn| self.peers.get(conn));
        let moved_at = peer.map_or(Duration::ZERO, |peer| peer.last_chunk_at);
        let moved_at = moved_at.max(download.accepted_at);
        let works = match &download.form {
            Form::Listed(_) => false,
            Form::Pulled(pull) => pull.is_busy(),
        };
        if self.now < moved_at + stall || !download.chunks.arrived.is_empty() || works {
            self.timers.set(Deadline::Stall(id), (moved_at + stall).max(self.now + stall / 8));
        } else {
            let seconds = stall.as_secs();
            let failure = Failure::new(Code::Stalled, format!("the peer sent nothing for {seconds} seconds"));
            self.fail_download(id, failure);
        }
    }

    pub(super) fn downloads_with(&self, conn: ConnId) -> Vec<TransferId> {
        self.downloads.iter().filter(|(_, download)| download.conn == Some(conn)).map(|(id, _)| *id).collect()
    }

    /// Ends a download that cannot go on, and tells its sender.
    pub(super) fn fail_download(&mut self, id: TransferId, failure: Failure) {
        self.tell_refused(id, &failure);
        self.drop_download(id, failure);
    }

    /// Ends a download that cannot go on, as its sender knows.
    pub(super) fn drop_download(&mut self, id: TransferId, failure: Failure) {
        let Some(download) = self.downloads.get(&id) else { return };
        let Failure { code, message } = failure;
        let (peer, name) = (download.told_peer(), download.name.clone());
        // A whole that has the wrong hash is of no use to anybody; of what is not whole, each chunk was
        // proven.
        let is_wrong = code == Code::HashMismatch && download.state == State::Finishing;
        let keep = download.manifest().is_none() && !is_wrong && code != Code::BadTree;
        let reason = match download.chunks.stored_bytes {
            bytes if keep && bytes > 0 => {
                format!(
                    "{message}; {} of it are kept, and sending it again goes on from there",
                    size::human(bytes)
                )
            }
            _ => message,
        };
        self.event(Event::TransferFailed { id, peer, name, direction: Direction::In, code, reason });
        self.end_download(id, keep);
    }

    /// Ends a download, and removes what has arrived.
    pub(super) fn discard_download(&mut self, id: TransferId, failure: Failure) {
        self.tell_refused(id, &failure);
        let Some(download) = self.downloads.get(&id) else { return };
        let Failure { code, message } = failure;
        let (peer, name) = (download.told_peer(), download.name.clone());
        // One whose sender is away has let go of its file.
        let let_go = match &download.form {
            Form::Pulled(pull) if download.state == State::Waiting => Some(pull.incoming.clone()),
            _ => None,
        };
        self.event(Event::TransferFailed { id, peer, name, direction: Direction::In, code, reason: message });
        if let Some(incoming) = let_go {
            self.job(id, Job::OpenPartial(incoming));
        }
        self.end_download(id, false);
    }

    /// Takes a download out of the books of which nothing is to be kept.
    pub(super) fn forget_download(&mut self, id: TransferId) {
        self.end_download(id, false);
    }

    /// Takes a download out of the books.
    pub(super) fn end_download(&mut self, id: TransferId, keep: bool) {
        let Some(mut download) = self.downloads.remove(&id) else { return };
        self.manifest_bytes -= download.manifest_bytes();
        self.timers.clear(Deadline::Offer(id));
        self.timers.clear(Deadline::Stall(id));
        self.releases.note(id, &download);
        self.job(id, Job::Release { keep });
        // It was let go of when its sender left, and nothing more will be told of it.
        if let Some(left) = download.left.take().filter(|_| keep) {
            self.leftovers.insert(id, left);
        }
        self.stop_pulling(id, &mut download);
        if download.is_wanted() {
            // Nothing is left where it was whole.
            self.on_held_ended(id, false);
            self.end_get(id);
        }
        let Some(conn) = download.conn else { return };
        if !download.chunks.arrived.is_empty() && download.manifest().is_some() {
            self.ended_with_chunks.insert(id, conn);
        }
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.downloads.remove(&id);
            if download.state == State::Receiving && download.manifest().is_some() {
                peer.tolerated_chunks += download.chunks.missing();
            }
        }
        self.close_if_done(conn);
    }
}

const NOT_ASKED_FOR: &str = "is not one that it was asked for";
