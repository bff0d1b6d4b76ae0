//! Files that we offer and send.
//!
//! An upload goes through [`State`] from top to bottom and leaves by [`Engine::remove_upload`].
//! It serves the ranges of chunks that the receiver asked for, a few chunks ahead of what the
//! connection takes, in turn with the other uploads to the same peer.
//!
//! Invariant: a peer's `chunks_ahead` is the number of its chunks being read plus those given to
//! send and not written.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bottleneck::{Stage as Wait, Took, Waits};
use super::{
    Code, ConnId, Deadline, Direction, Engine, Event, Failure, Job, JobDone, Level, Output, Reply, Stage,
    TransferId, TransferInfo,
};
use crate::size;
use crate::wire::{BadName, ChunkData, ChunkIndex, FileHash, Manifest, Message, Offer, SafeName};

/// Uploads to one peer that may be offered or moving at once; fewer than a receiver allows.
const ACTIVE_UPLOADS: usize = 64;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Being opened and hashed.
    Hashing,
    /// Hashed; waits for its turn to be offered.
    Queued,
    /// Offered; the receiver has not answered.
    Offered,
    /// Accepted.
    Sending,
}

/// A file on its way to a peer.
#[derive(Debug)]
pub(super) struct Upload {
    conn: ConnId,
    peer: SocketAddr,
    name: SafeName,
    size: u64,
    state: State,
    hashed_bytes: u64,
    /// Known once hashed.
    manifest: Option<Manifest>,
    /// What the receiver asked for and is not being read yet.
    requested: VecDeque<Range<u32>>,
    /// Chunks being read.
    reading: usize,
    /// Chunks given to send and not written.
    unwritten: usize,
    written_bytes: u64,
    resends: u32,
    accepted_at: Duration,
    progress_at: Duration,
    waits: Waits,
}

impl Upload {
    pub(super) fn info(&self, id: TransferId) -> TransferInfo {
        let (stage, bytes) = match self.state {
            State::Hashing => (Stage::Hashing, self.hashed_bytes),
            State::Queued => (Stage::Queued, 0),
            State::Offered => (Stage::Offered, 0),
            State::Sending if self.all_written() => (Stage::Finishing, self.size),
            State::Sending => (Stage::Transferring, self.written_bytes.min(self.size)),
        };
        TransferInfo {
            id,
            peer: self.peer,
            direction: Direction::Out,
            name: self.name.clone(),
            size: self.size,
            sha256: self.manifest.as_ref().map(Manifest::file_hash),
            bytes,
            stage,
        }
    }

    /// Whether every requested chunk was given to send. The confirmation may overtake the news
    /// that the last of them was written.
    fn all_given(&self) -> bool {
        self.requested.is_empty() && self.reading == 0
    }

    fn all_written(&self) -> bool {
        self.all_given() && self.unwritten == 0
    }

    /// Notes what keeps it from going on at this moment. While something waits to be written, that
    /// chunks are also being read costs no time.
    fn note_wait(&mut self, now: Duration) {
        let wait = if self.unwritten > 0 {
            Wait::Line
        } else if self.reading > 0 {
            Wait::Jobs
        } else if self.all_given() {
            Wait::OtherEnd
        } else {
            // The connection is taken by other files.
            Wait::Line
        };
        self.waits.waits_for(wait, now);
    }

    fn next_chunk(&mut self) -> Option<ChunkIndex> {
        let range = self.requested.front_mut()?;
        let index = range.start;
        range.start += 1;
        if range.start == range.end {
            self.requested.pop_front();
        }
        let geometry = self.manifest.as_ref()?.geometry();
        Some(geometry.index(index.into()).expect("only chunks of the file are requested"))
    }
}

/// The name that a file goes by at the receiver: its own.
fn name_of(path: &Path) -> Result<SafeName, Failure> {
    let name = path.file_name().ok_or_else(|| {
        let message = format!("`{}` names a directory, not a file", path.display());
        Failure::new(Code::SourceUnreadable, message)
    })?;
    let checked = name.to_str().ok_or(BadName::NotUtf8).and_then(SafeName::new);
    checked.map_err(|error| {
        Failure::new(Code::BadName, format!("`{}` cannot be sent under its name: {error}", path.display()))
    })
}

impl Engine {
    pub(super) fn start_upload(&mut self, conn: ConnId, path: PathBuf) -> Result<Reply, Failure> {
        let name = name_of(&path)?;
        if self.downloads.len() + self.uploads.len() >= self.config.limits.transfers {
            let message = "this node has as many transfers as it can hold; `wait` for some to end";
            return Err(Failure::new(Code::Busy, message));
        }
        let peer = self.peers.get(conn).expect("the caller resolved it").addr;
        let id = self.next_transfer_id();
        self.uploads.insert(
            id,
            Upload {
                conn,
                peer,
                name: name.clone(),
                size: 0,
                state: State::Hashing,
                hashed_bytes: 0,
                manifest: None,
                requested: VecDeque::new(),
                reading: 0,
                unwritten: 0,
                written_bytes: 0,
                resends: 0,
                accepted_at: self.now,
                progress_at: self.now,
                waits: Waits::new(self.now),
            },
        );
        self.job(id, Job::OpenSource(path));
        Ok(Reply::Sending { id, peer, name })
    }

    pub(super) fn on_upload_job(&mut self, id: TransferId, done: JobDone, took: Took) {
        if let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.state == State::Sending) {
            upload.waits.job_took(took);
        }
        match done {
            JobDone::SourceOpened { size } => self.on_source_opened(id, size),
            JobDone::SourceHashing { bytes } => {
                let Some(upload) = self.uploads.get_mut(&id) else { return };
                upload.hashed_bytes = bytes;
                self.upload_progress(id);
                self.job(id, Job::HashSource);
            }
            JobDone::SourceHashed(manifest) => self.on_source_hashed(id, manifest),
            JobDone::ChunkRead { index, data } => self.on_chunk_read(id, index, data),
            JobDone::Failed(failure) => self.fail_upload(id, failure),
            JobDone::FreeSpace { .. }
            | JobDone::PartialCreated
            | JobDone::ChunkStored(_)
            | JobDone::ChunkReturned { .. }
            | JobDone::Finished { .. }
            | JobDone::Released => {}
        }
    }

    fn on_source_opened(&mut self, id: TransferId, size: u64) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.size = size;
        if !Offer::size_fits_baseline(size) {
            let message = format!(
                "{} is more than this protocol can offer (3.9 GB); `split` the file and send the parts",
                size::human(size)
            );
            return self.fail_upload(id, Failure::new(Code::TooLarge, message));
        }
        self.job(id, Job::HashSource);
    }

    fn on_source_hashed(&mut self, id: TransferId, manifest: Manifest) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.size = manifest.size();
        upload.manifest = Some(manifest);
        upload.state = State::Queued;
        let conn = upload.conn;
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.waiting_uploads.push_back(id);
        }
        self.offer_waiting_uploads(conn);
    }

    /// Offers what may be offered now. A baseline peer is confused by two files at once, since
    /// chunks do not name theirs; and no peer can tell apart two with the same content.
    fn offer_waiting_uploads(&mut self, conn: ConnId) {
        while let Some(position) = self.next_offerable(conn) {
            let Some(peer) = self.peers.get_mut(conn) else { return };
            let Some(id) = peer.waiting_uploads.remove(position) else { return };
            peer.active_uploads.insert(id);
            let Some(upload) = self.uploads.get_mut(&id) else { continue };
            upload.state = State::Offered;
            let manifest = upload.manifest.clone().expect("it was hashed");
            let offer = Offer { name: upload.name.clone(), manifest };
            self.timers.set(Deadline::Offer(id), self.now + self.config.limits.offer_expiry);
            self.send(conn, Message::FileOffer(offer));
        }
    }

    fn next_offerable(&self, conn: ConnId) -> Option<usize> {
        let peer = self.peers.get(conn)?;
        let at_once = match peer.level? {
            Level::Baseline => 1,
            Level::Extended => ACTIVE_UPLOADS,
        };
        // Offers of large files are large themselves; those to come wait until these are written.
        if peer.active_uploads.len() >= at_once
            || peer.queued_bytes >= self.config.limits.control_bytes_queued / 2
        {
            return None;
        }
        let hash = |id: &TransferId| Some(self.uploads.get(id)?.manifest.as_ref()?.file_hash());
        // Looking further than the active ones reach cannot be needed often, and must be bounded.
        peer.waiting_uploads
            .iter()
            .take(ACTIVE_UPLOADS)
            .position(|id| peer.active_uploads.iter().all(|active| hash(active) != hash(id)))
    }

    fn active_upload(&self, conn: ConnId, file_hash: FileHash) -> Option<TransferId> {
        self.peers.get(conn)?.active_uploads.iter().copied().find(|id| {
            let manifest = self.uploads.get(id).and_then(|upload| upload.manifest.as_ref());
            manifest.is_some_and(|manifest| manifest.file_hash() == file_hash)
        })
    }

    /// The receiver wants all of it.
    pub(super) fn on_accept(&mut self, conn: ConnId, file_hash: FileHash) {
        // An acceptance of what is not offered (any more) asks for nothing.
        let Some(id) = self.active_upload(conn, file_hash) else { return };
        let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.state == State::Offered) else {
            return;
        };
        upload.state = State::Sending;
        upload.accepted_at = self.now;
        upload.progress_at = self.now;
        upload.waits = Waits::new(self.now);
        let chunks = upload.manifest.as_ref().map_or(0, |manifest| manifest.geometry().chunks());
        self.timers.clear(Deadline::Offer(id));
        if chunks > 0 {
            upload.requested.push_back(0..chunks);
            self.read_ahead(conn);
            return;
        }
        // The original program accepts an empty file and never completes it.
        if self.peers.get(conn).is_some_and(|peer| peer.level == Some(Level::Baseline)) {
            self.upload_sent(id, false);
        } else {
            self.await_confirmation(id);
        }
    }

    /// Has chunks read for a peer until enough of them are under way, its uploads in turn.
    fn read_ahead(&mut self, conn: ConnId) {
        while let Some(peer) = self.peers.get_mut(conn) {
            let allowed = if self.chunks_ahead >= self.config.limits.chunks_ahead_in_all {
                1
            } else {
                self.config.limits.chunks_ahead
            };
            if peer.chunks_ahead >= allowed {
                return;
            }
            let later = peer.active_uploads.range((Bound::Excluded(peer.served), Bound::Unbounded));
            let in_turn = later.chain(peer.active_uploads.range(..=peer.served));
            let next = in_turn.copied().find_map(|id| {
                let upload = self.uploads.get_mut(&id)?;
                let index = upload.next_chunk()?;
                upload.reading += 1;
                upload.note_wait(self.now);
                Some((id, index))
            });
            let Some((id, index)) = next else { return };
            peer.served = id;
            peer.chunks_ahead += 1;
            self.chunks_ahead += 1;
            self.job(id, Job::ReadChunk(index));
        }
    }

    fn on_chunk_read(&mut self, id: TransferId, index: ChunkIndex, data: ChunkData) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.reading -= 1;
        upload.unwritten += 1;
        upload.note_wait(self.now);
        let conn = upload.conn;
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if peer.nothing_queued() {
            self.timers.set(Deadline::Write(conn), self.now + self.config.limits.stall);
        }
        let len = u32::try_from(data.0.len()).expect("a chunk has at most 256 KiB");
        peer.bulk_queue.push_back((id, len));
        self.outputs
            .push_back(Output::Send { conn, message: Message::Chunk { index: index.get().into(), data } });
    }

    pub(super) fn on_chunk_written(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let Some((id, len)) = peer.bulk_queue.pop_front() else { return };
        peer.chunks_ahead -= 1;
        peer.bytes_sent += u64::from(len);
        self.chunks_ahead -= 1;
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.unwritten -= 1;
        upload.written_bytes += u64::from(len);
        upload.note_wait(self.now);
        if upload.all_written() {
            self.await_confirmation(id);
        } else {
            self.upload_progress(id);
        }
    }

    fn upload_progress(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        if self.now < upload.progress_at + self.config.limits.progress_interval {
            return;
        }
        upload.progress_at = self.now;
        let TransferInfo { peer, direction, name, size, bytes, stage, .. } = upload.info(id);
        self.event(Event::Progress { id, peer, name, direction, stage, bytes, size });
    }

    fn await_confirmation(&mut self, id: TransferId) {
        self.timers.set(Deadline::Stall(id), self.now + self.config.limits.confirmation_wait);
    }

    /// The receiver has a chunk, or says that it was wrong: then it gets it once more. With
    /// several files under way it does not say of which, and the file's end will show.
    pub(super) fn on_ack(&mut self, conn: ConnId, index: u64, ok: bool) {
        let Some(peer) = self.peers.get(conn) else { return };
        let sending: Vec<_> = peer
            .active_uploads
            .iter()
            .copied()
            .filter(|id| self.uploads.get(id).is_some_and(|upload| upload.state == State::Sending))
            .collect();
        for &id in &sending {
            if self.uploads.get(&id).is_some_and(Upload::all_written) {
                self.await_confirmation(id);
            }
        }
        if let ([id], false) = (sending.as_slice(), ok) {
            self.resend(*id, index);
        }
    }

    fn resend(&mut self, id: TransferId, index: u64) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let known = upload.manifest.as_ref().and_then(|manifest| manifest.geometry().index(index));
        let Some(index) = known else { return };
        upload.resends += 1;
        if upload.resends > self.config.limits.resends {
            let message = "the receiver rejected its chunks again and again; it may have given the file up";
            return self.fail_upload(id, Failure::new(Code::Declined, message));
        }
        upload.requested.push_back(index.get()..index.get() + 1);
        let conn = upload.conn;
        self.timers.clear(Deadline::Stall(id));
        self.read_ahead(conn);
    }

    pub(super) fn on_complete(&mut self, conn: ConnId, file_hash: FileHash) {
        let Some(id) = self.active_upload(conn, file_hash) else { return };
        let done =
            self.uploads.get(&id).is_some_and(|upload| upload.state == State::Sending && upload.all_given());
        if done {
            self.upload_sent(id, true);
        } else {
            self.refuse(conn, "it confirmed a file before it had all of it; that was ignored");
        }
    }

    fn upload_sent(&mut self, id: TransferId, confirmed: bool) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let sent = Event::Sent {
            id,
            peer: upload.peer,
            name: upload.name.clone(),
            size: upload.size,
            sha256: upload.manifest.as_ref().expect("it was offered").file_hash(),
            confirmed,
            elapsed: self.now.saturating_sub(upload.accepted_at),
            limited_by: upload.waits.bottleneck(self.now),
        };
        let conn = upload.conn;
        self.event(sent);
        self.remove_upload(id);
        self.serve(conn);
    }

    pub(super) fn on_offer_expired(&mut self, id: TransferId) {
        let minutes = self.config.limits.offer_expiry.as_secs() / 60;
        if self.uploads.contains_key(&id) {
            let message = format!("the receiver did not accept it within {minutes} minutes");
            self.fail_upload(id, Failure::new(Code::Expired, message));
        } else {
            let message = format!("nobody accepted it within {minutes} minutes");
            self.fail_download(id, Failure::new(Code::Expired, message));
        }
    }

    pub(super) fn on_stalled(&mut self, id: TransferId) {
        if !self.uploads.contains_key(&id) {
            return self.on_download_stalled(id);
        }
        let seconds = self.config.limits.confirmation_wait.as_secs();
        let message =
            format!("the receiver took every byte, but did not confirm the file within {seconds} seconds");
        self.fail_upload(id, Failure::new(Code::Unconfirmed, message));
    }

    pub(super) fn uploads_with(&self, conn: ConnId) -> Vec<TransferId> {
        self.uploads.iter().filter(|(_, upload)| upload.conn == conn).map(|(id, _)| *id).collect()
    }

    /// Ends an upload that cannot go on.
    pub(super) fn fail_upload(&mut self, id: TransferId, failure: Failure) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let Failure { code, message } = failure;
        let (conn, peer, name) = (upload.conn, upload.peer, upload.name.clone());
        let was_moving = upload.state == State::Sending;
        self.event(Event::TransferFailed {
            id,
            peer,
            name,
            direction: Direction::Out,
            code,
            reason: message,
        });
        self.remove_upload(id);
        // A baseline peer has no word for a file that will not come, and would take the next
        // file's chunks for this one's.
        if was_moving && self.peers.get(conn).is_some_and(|peer| peer.level == Some(Level::Baseline)) {
            self.close_peer(conn, "a baseline peer cannot be told in another way that a file will not come");
        } else {
            self.serve(conn);
        }
    }

    /// Takes an upload out of the books and closes its source.
    fn remove_upload(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.remove(&id) else { return };
        self.timers.clear(Deadline::Offer(id));
        self.timers.clear(Deadline::Stall(id));
        self.job(id, Job::Release);
        if let Some(peer) = self.peers.get_mut(upload.conn) {
            // What is being read comes back to nobody; what is written is still counted there.
            peer.chunks_ahead -= upload.reading;
            self.chunks_ahead -= upload.reading;
            peer.active_uploads.remove(&id);
            peer.waiting_uploads.retain(|waiting| *waiting != id);
        }
    }

    /// Goes on with a peer's uploads as far as its connection takes them.
    pub(super) fn serve(&mut self, conn: ConnId) {
        self.offer_waiting_uploads(conn);
        self.read_ahead(conn);
    }
}
