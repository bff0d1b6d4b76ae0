//! Files that we offer and send.
//!
//! An upload goes through [`State`] from top to bottom and leaves by [`Engine::remove_upload`].
//! It serves the ranges of chunks that the receiver asked for, a few chunks ahead of what the
//! connection takes, in turn with the other uploads to the same peer. What only receivers that pull
//! can ask for is in `serving`.
//!
//! Invariant: a peer's `chunks_ahead` is the number of its chunks being read plus those given to
//! send and not written.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::answers::Answer;
use super::bottleneck::{Stage as Wait, Took, Waits};
use super::holding::SentCounts;
use super::reconnect::{Ending, Process};
use super::serving::Serving;
use super::{
    Code, ConnId, Deadline, Direction, Engine, Event, Failure, Job, JobDone, Kept, Level, Output, Reply,
    Stage, TransferId, TransferInfo,
};
use crate::size;
use crate::wire::{
    BadName, CHUNK_SIZE, ChunkData, ChunkIndex, Entry, FileHash, Geometry, MAX_MANIFEST_SIZE, Manifest,
    ManifestHead, Message, Offer, OfferId, SafeName, TreeInfo,
};

/// A file that is not larger is hashed before it is offered, which takes no longer than an answer.
const HASHED_FIRST_BYTES: u64 = 1 << 20;

/// Requested chunks among which to choose the next one.
const CHOICE: usize = 64;

/// Uploads to one peer that may be offered or moving at once; fewer than a receiver allows.
const ACTIVE_UPLOADS: usize = 64;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Being opened, and hashed where it must be before it can be offered.
    Hashing,
    /// Waits for its turn to be offered.
    Queued,
    /// Offered; the receiver has not answered.
    Offered,
    /// Accepted.
    Sending,
}

/// A file on its way to a peer.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` while the peer is away.
    pub(super) conn: Option<ConnId>,
    pub(super) peer: SocketAddr,
    /// Which process the peer is; nobody knows under `--plain`.
    pub(super) process: Option<Process>,
    pub(super) name: SafeName,
    /// Where it lies, where somebody here sends it.
    path: Option<PathBuf>,
    /// Where it is a directory; known once it is opened.
    pub(super) tree: Option<TreeInfo>,
    /// `None` until it was opened.
    pub(super) geometry: Option<Geometry>,
    pub(super) state: State,
    hashed_bytes: u64,
    /// What it consists of; known once it is hashed.
    pub(super) head: Option<Arc<ManifestHead>>,
    pub(super) form: Form,
    /// What the receiver asked for and is not being read yet.
    pub(super) requested: VecDeque<Range<u32>>,
    /// Chunks being read.
    pub(super) reading: usize,
    /// Chunks being read that were asked for on a connection that broke.
    stale_reads: usize,
    /// The search that it answers, where nobody here sends it.
    pub(super) answers: Option<Answer>,
    /// Chunks given to send and not written.
    unwritten: usize,
    written_bytes: u64,
    resends: u32,
    accepted_at: Duration,
    progress_at: Duration,
    waits: Waits,
}

/// The form in which it is offered.
#[derive(Debug)]
pub(super) enum Form {
    /// To be sent as a whole; the list of its hashes is there once it is hashed.
    Listed(Option<Manifest>),
    /// To be pulled.
    Pulled(Serving),
}

impl Upload {
    /// The receiver does not want these chunks any more, or gets them now.
    pub(super) fn withdraw_request(&mut self, first: u32, end: u32) {
        let requested = std::mem::take(&mut self.requested);
        for range in requested {
            let before = range.start..range.end.min(first);
            let behind = range.start.max(end)..range.end;
            self.requested.extend([before, behind].into_iter().filter(|part| part.start < part.end));
        }
    }

    pub(super) fn new(
        conn: ConnId,
        peer: SocketAddr,
        process: Option<Process>,
        name: SafeName,
        form: Form,
        now: Duration,
    ) -> Self {
        Self {
            conn: Some(conn),
            peer,
            process,
            name,
            path: None,
            tree: None,
            geometry: None,
            state: State::Hashing,
            hashed_bytes: 0,
            head: None,
            form,
            requested: VecDeque::new(),
            reading: 0,
            stale_reads: 0,
            answers: None,
            unwritten: 0,
            written_bytes: 0,
            resends: 0,
            accepted_at: Duration::ZERO,
            progress_at: now,
            waits: Waits::new(now),
        }
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Whether it answers a search for that content.
    pub(super) fn is_answer_to(&self, hash: FileHash) -> bool {
        self.answers.as_ref().is_some_and(|answer| answer.hash() == hash)
    }

    pub(super) fn size(&self) -> u64 {
        self.geometry.map_or(0, Geometry::size)
    }

    pub(super) fn chunks(&self) -> u32 {
        self.geometry.map_or(0, Geometry::chunks)
    }

    /// The same, once it was opened.
    pub(super) fn known_size(&self) -> Option<u64> {
        self.geometry.map(Geometry::size)
    }

    /// Where it lies, where somebody here sends it.
    pub(super) fn source_path(&self) -> Option<String> {
        self.path.as_ref().map(|path| path.to_string_lossy().into_owned())
    }

    pub(super) fn file_hash(&self) -> Option<FileHash> {
        self.head.as_ref().map(|head| head.file_hash())
    }

    pub(super) fn info(&self, id: TransferId) -> TransferInfo {
        let (stage, bytes) = match self.state {
            _ if self.conn.is_none() => (Stage::Waiting, self.written_bytes.min(self.size())),
            State::Hashing => (Stage::Hashing, self.hashed_bytes),
            State::Queued => (Stage::Queued, 0),
            State::Offered => (Stage::Offered, 0),
            State::Sending if self.is_skipping() || self.is_listing() => (Stage::Hashing, self.hashed_bytes),
            State::Sending if self.all_written() && !self.is_pulled() => (Stage::Finishing, self.size()),
            State::Sending => {
                let skipped = match &self.form {
                    Form::Pulled(serving) => serving.skipped_bytes,
                    Form::Listed(_) => 0,
                };
                (Stage::Transferring, (skipped + self.written_bytes).min(self.size()))
            }
        };
        TransferInfo {
            id,
            peer: Some(self.peer),
            direction: Direction::Out,
            name: self.name.clone(),
            size: self.size(),
            sha256: self.file_hash(),
            files: self.tree.map(|tree| tree.files),
            bytes,
            stage,
            sources: Vec::new(),
            cells: Vec::new(),
        }
    }

    pub(super) fn is_pulled(&self) -> bool {
        matches!(self.form, Form::Pulled(_))
    }

    /// Whether the receiver was offered it. When its turn has come, its only page may still be read for that.
    pub(super) fn is_offered(&self) -> bool {
        let is_offering = matches!(&self.form, Form::Pulled(serving) if serving.is_offering());
        self.state >= State::Offered && !is_offering
    }

    /// Whether it answers a search, and nothing is asked of it now.
    pub(super) fn is_unused_answer(&self) -> bool {
        self.answers.is_some() && self.all_written()
    }

    /// Whether it is finding out if what the receiver has is the beginning of the file.
    fn is_skipping(&self) -> bool {
        matches!(&self.form, Form::Pulled(serving) if serving.kept.is_some())
    }

    /// Whether it is hashed because the receiver wants the list first.
    fn is_listing(&self) -> bool {
        matches!(&self.form, Form::Pulled(serving) if serving.is_listing())
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
    pub(super) fn note_wait(&mut self, now: Duration) {
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

    /// The receiver wants it.
    pub(super) fn begin(&mut self, now: Duration) {
        self.state = State::Sending;
        // After a connection that broke, it began before.
        if self.accepted_at.is_zero() {
            self.accepted_at = now;
            self.progress_at = now;
            self.waits = Waits::new(now);
        }
    }

    /// The next chunk to send; of what a search asks for, the one that was sent least often.
    fn next_chunk(&mut self, sent: Option<&SentCounts>) -> Option<ChunkIndex> {
        let best = sent.and_then(|sent| {
            let open = self.requested.iter().cloned().flatten().take(CHOICE);
            open.enumerate().min_by_key(|(at, index)| (sent.of(*index), *at)).map(|(_, index)| index)
        });
        let index = best.or_else(|| Some(self.requested.front()?.start))?;
        self.withdraw_request(index, index + 1);
        Some(self.geometry?.index(index.into()).expect("only chunks of the file are requested"))
    }
}

/// The name that a file goes by at the receiver: its own.
pub(super) fn name_of(path: &Path) -> Result<SafeName, Failure> {
    let name = path.file_name().ok_or_else(|| {
        let message = format!("`{}` does not say what it is called; give its name", path.display());
        Failure::new(Code::SourceUnreadable, message)
    })?;
    let checked = name.to_str().ok_or(BadName::NotUtf8).and_then(SafeName::new);
    checked.map_err(|error| {
        Failure::new(Code::BadName, format!("`{}` cannot be sent under its name: {error}", path.display()))
    })
}

impl Engine {
    pub(super) fn start_upload(
        &mut self,
        conn: ConnId,
        path: PathBuf,
        name: Option<SafeName>,
    ) -> Result<Reply, Failure> {
        let id = self.next_transfer_id();
        self.start_upload_as(id, conn, path, name)
    }

    /// The same under a number that no transfer had.
    pub(super) fn start_upload_as(
        &mut self,
        id: TransferId,
        conn: ConnId,
        path: PathBuf,
        name: Option<SafeName>,
    ) -> Result<Reply, Failure> {
        let name = name.map_or_else(|| name_of(&path), Ok)?;
        if self.downloads.len() + self.uploads.len() >= self.config.limits.transfers {
            let message = "this node has as many transfers as it can hold; `wait` for some to end";
            return Err(Failure::new(Code::Busy, message));
        }
        let to = self.peers.get(conn).expect("the caller resolved it");
        let (peer, process) = (to.addr, to.process());
        let form = if to.features.transfer { Form::Pulled(Serving::default()) } else { Form::Listed(None) };
        let upload = Upload::new(conn, peer, process, name.clone(), form, self.now);
        self.uploads.insert(id, Upload { path: Some(path.clone()), ..upload });
        self.job(id, Job::OpenSource(path));
        Ok(Reply::Sending { id, peer, name })
    }

    pub(super) fn on_upload_job(&mut self, id: TransferId, done: JobDone, took: Took) {
        if let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.state == State::Sending) {
            upload.waits.job_took(took);
        }
        match done {
            JobDone::SourceOpened { size, head, tree, left_out, look } => {
                // Whoever shares it was told when that began.
                let is_told = self.uploads.get(&id).is_none_or(|upload| upload.answers.is_some());
                if let Some(text) = left_out.filter(|_| !is_told) {
                    self.event(Event::Warning { peer: None, text });
                }
                let goes_on = self.goes_on_opened(id, size, head.is_some(), look);
                if goes_on && self.takes_directory(id, tree) {
                    self.on_source_opened(id, size, head);
                }
            }
            JobDone::SourceHashing { hashed } => self.on_source_hashing(id, hashed),
            JobDone::SourceHashed(head) => self.on_source_hashed(id, head),
            JobDone::ChunkList(manifest) => {
                let Some(upload) = self.uploads.get_mut(&id) else { return };
                upload.form = Form::Listed(Some(manifest));
                self.queue_upload(id);
            }
            JobDone::ChunkRead { index, data, entry } => self.on_chunk_read(id, index, data, entry),
            JobDone::PageRead { page, entries } => self.on_page_read(id, page, entries),
            JobDone::Failed(failure) => self.on_upload_failed(id, failure),
            // What downloads are told.
            _ => {}
        }
    }

    fn on_upload_failed(&mut self, id: TransferId, failure: Failure) {
        if self.opens_share_instead(id) {
            return;
        }
        self.on_source_failed(id, &failure);
        self.fail_upload(id, failure);
    }

    /// Fails an upload of a directory to a peer that knows none.
    fn takes_directory(&mut self, id: TransferId, tree: Option<TreeInfo>) -> bool {
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        upload.tree = tree;
        let peer = upload.conn.and_then(|conn| self.peers.get(conn));
        if tree.is_none() || peer.is_none_or(|peer| peer.features.tree) {
            return true;
        }
        let message = "the peer's version takes no directories; send an archive of it (`tar`)";
        self.fail_upload(id, Failure::new(Code::Unsupported, message));
        false
    }

    fn on_source_opened(&mut self, id: TransferId, size: u64, head: Option<Arc<ManifestHead>>) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let most = if upload.is_pulled() { MAX_MANIFEST_SIZE } else { Offer::largest_for_baseline() };
        let Some(geometry) = Geometry::new(size).filter(|_| size <= most) else {
            let message = format!(
                "{} is more than this peer can be offered ({}); `split` the file and send the parts",
                size::human(size),
                size::human(most)
            );
            return self.fail_upload(id, Failure::new(Code::TooLarge, message));
        };
        upload.geometry = Some(geometry);
        upload.head = head;
        match &upload.form {
            Form::Listed(_) if upload.head.is_some() => self.job(id, Job::ListChunks),
            // It is hashed while it travels; a small one is hashed before it could be asked for.
            Form::Pulled(_) if upload.head.is_some() => self.queue_upload(id),
            Form::Pulled(_) if size > HASHED_FIRST_BYTES && upload.answers.is_none() => self.queue_upload(id),
            _ => self.job(id, Job::HashSource { until: geometry.chunks() }),
        }
    }

    fn on_source_hashing(&mut self, id: TransferId, hashed: Kept) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.hashed_bytes = u64::from(hashed.chunks) * u64::from(CHUNK_SIZE);
        if upload.is_skipping() {
            return self.on_skipping(id, hashed);
        }
        let until = upload.chunks();
        let goes_on = match &upload.form {
            Form::Listed(_) => true,
            Form::Pulled(serving) => {
                upload.state == State::Hashing || serving.is_sealing() || serving.is_listing()
            }
        };
        // Otherwise it was asked for on a connection that broke.
        if goes_on {
            if upload.state == State::Sending {
                self.await_confirmation(id);
            }
            self.upload_progress(id);
            self.job(id, Job::HashSource { until });
        }
    }

    fn on_source_hashed(&mut self, id: TransferId, head: Arc<ManifestHead>) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.geometry = Some(head.geometry());
        upload.head = Some(head);
        match (&upload.form, upload.state) {
            (Form::Listed(_), _) => self.job(id, Job::ListChunks),
            (Form::Pulled(_), State::Hashing) => self.queue_upload(id),
            (Form::Pulled(_), _) => self.on_sealed(id),
        }
    }

    /// It can be offered.
    fn queue_upload(&mut self, id: TransferId) {
        if !self.check_answer(id) {
            return;
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.state = State::Queued;
        // Where the peer is away, that is for when it is back.
        let Some(conn) = upload.conn else { return };
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
            self.timers.set(Deadline::Offer(id), self.now + self.config.limits.offer_expiry);
            match &upload.form {
                Form::Listed(manifest) => {
                    let manifest = manifest.clone().expect("it was hashed");
                    let offer = Offer { name: upload.name.clone(), manifest };
                    self.send(conn, Message::FileOffer(offer));
                }
                Form::Pulled(_) => self.offer_content(conn, id),
            }
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
        if peer.features.transfer {
            return (!peer.waiting_uploads.is_empty()).then_some(0);
        }
        let hash = |id: &TransferId| self.uploads.get(id)?.file_hash();
        // Looking further than the active ones reach cannot be needed often, and must be bounded.
        peer.waiting_uploads
            .iter()
            .take(ACTIVE_UPLOADS)
            .position(|id| peer.active_uploads.iter().all(|active| hash(active) != hash(id)))
    }

    fn active_upload(&self, conn: ConnId, file_hash: FileHash) -> Option<TransferId> {
        self.peers.get(conn)?.active_uploads.iter().copied().find(|id| {
            self.uploads
                .get(id)
                .is_some_and(|upload| !upload.is_pulled() && upload.file_hash() == Some(file_hash))
        })
    }

    /// The receiver wants all of it.
    pub(super) fn on_accept(&mut self, conn: ConnId, file_hash: FileHash) {
        // An acceptance of what is not offered (any more) asks for nothing.
        let Some(id) = self.active_upload(conn, file_hash) else { return };
        let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.state == State::Offered) else {
            return;
        };
        upload.begin(self.now);
        let chunks = upload.chunks();
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
    pub(super) fn read_ahead(&mut self, conn: ConnId) {
        while let Some(peer) = self.peers.get_mut(conn) {
            let allowed = if self.chunks_ahead >= self.config.limits.chunks_ahead_in_all {
                1
            } else {
                self.config.limits.chunks_ahead
            };
            if peer.chunks_ahead >= allowed {
                return;
            }
            let has_more =
                |id: &TransferId| self.uploads.get(id).is_some_and(|upload| !upload.requested.is_empty());
            if !peer.active_uploads.iter().any(has_more) || !self.may_send(conn) {
                return;
            }
            let Some(peer) = self.peers.get_mut(conn) else { return };
            let later = peer.active_uploads.range((Bound::Excluded(peer.served), Bound::Unbounded));
            let in_turn = later.chain(peer.active_uploads.range(..=peer.served));
            let next = in_turn.copied().find_map(|id| {
                let upload = self.uploads.get_mut(&id)?;
                let hash = upload.answers.as_ref().map(Answer::hash);
                let sent = hash.and_then(|hash| self.sent_counts.get(&hash));
                let index = upload.next_chunk(sent)?;
                if let Some(hash) = hash {
                    self.sent_counts.entry(hash).or_default().count(index.get());
                }
                upload.reading += 1;
                upload.note_wait(self.now);
                Some((id, index))
            });
            let Some((id, index)) = next else { return };
            peer.served = id;
            peer.chunks_ahead += 1;
            self.chunks_ahead += 1;
            let bytes = self.uploads[&id].geometry.map_or(0, |geometry| geometry.len_of(index));
            self.charge_up(conn, bytes.into());
            self.job(id, Job::ReadChunk(index));
        }
    }

    fn on_chunk_read(&mut self, id: TransferId, index: ChunkIndex, data: ChunkData, entry: Entry) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        // What was asked for on a connection that broke comes back to nobody.
        if upload.stale_reads > 0 {
            upload.stale_reads -= 1;
            return self.after_chunk_read(id, index);
        }
        upload.reading -= 1;
        let Some(conn) = upload.conn else { return };
        upload.unwritten += 1;
        upload.note_wait(self.now);
        let message = match &upload.form {
            Form::Listed(_) => Message::Chunk { index: index.get().into(), data },
            Form::Pulled(serving) => Message::Data {
                id: OfferId(id.0),
                index: index.get(),
                data,
                entry: serving.is_late.then_some(entry),
            },
        };
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if peer.nothing_queued() {
            self.timers.set(Deadline::Write(conn), self.now + self.config.limits.stall);
        }
        let len = self.uploads[&id].geometry.map_or(0, |geometry| geometry.len_of(index));
        peer.bulk_queue.push_back((id, len));
        self.outputs.push_back(Output::Send { conn, message });
        self.after_chunk_read(id, index);
    }

    pub(super) fn on_chunk_written(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let Some((id, len)) = peer.bulk_queue.pop_front() else { return };
        peer.chunks_ahead -= 1;
        peer.bytes_sent += u64::from(len);
        let node_id = peer.node_id;
        self.chunks_ahead -= 1;
        self.note_given(node_id, len.into());
        // It may be offered anew on another connection by now.
        let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.conn == Some(conn)) else {
            return;
        };
        upload.unwritten -= 1;
        upload.written_bytes += u64::from(len);
        upload.note_wait(self.now);
        let all_written = upload.all_written();
        self.upload_progress(id);
        if all_written {
            self.await_confirmation(id);
        }
    }

    pub(super) fn upload_progress(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        if self.now < upload.progress_at + self.config.limits.progress_interval {
            return;
        }
        upload.progress_at = self.now;
        if upload.answers.is_some() {
            return;
        }
        let peer = upload.peer;
        let TransferInfo { direction, name, size, bytes, stage, .. } = upload.info(id);
        self.event(Event::Progress { id, peer: Some(peer), name, direction, stage, bytes, size });
    }

    pub(super) fn await_confirmation(&mut self, id: TransferId) {
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
            .filter(|id| {
                self.uploads
                    .get(id)
                    .is_some_and(|upload| upload.state == State::Sending && !upload.is_pulled())
            })
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
        let Some(index) = upload.geometry.and_then(|geometry| geometry.index(index)) else { return };
        upload.resends += 1;
        if upload.resends > self.config.limits.resends {
            let message = "the receiver rejected its chunks again and again; it may have given the file up";
            return self.fail_upload(id, Failure::new(Code::Declined, message));
        }
        upload.requested.push_back(index.get()..index.get() + 1);
        let Some(conn) = upload.conn else { return };
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

    pub(super) fn upload_sent(&mut self, id: TransferId, confirmed: bool) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        if upload.answers.is_some() {
            return self.forget_answer(id);
        }
        let sent = Event::Sent {
            id,
            peer: upload.peer,
            name: upload.name.clone(),
            size: upload.size(),
            sha256: upload.file_hash().expect("only what is hashed counts as sent"),
            files: upload.tree.map(|tree| tree.files),
            confirmed,
            already: confirmed && upload.written_bytes == 0 && upload.size() > 0 && upload.is_pulled(),
            elapsed: match upload.accepted_at {
                // It was there already.
                Duration::ZERO => Duration::ZERO,
                accepted_at => self.now.saturating_sub(accepted_at),
            },
            limited_by: upload.waits.bottleneck(self.now),
        };
        let conn = upload.conn;
        self.event(sent);
        self.remove_upload(id);
        self.on_kept_sent(id);
        if let Some(conn) = conn {
            self.serve(conn);
        }
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
        let Some(upload) = self.uploads.get(&id) else { return self.on_download_stalled(id) };
        // Who fetches from many may need nothing of this one for long.
        if !upload.all_written() || (upload.answers.is_some() && upload.conn.is_some()) {
            // The line is slow, or taken by others; one that takes nothing is noticed elsewhere.
            return self.await_confirmation(id);
        }
        let seconds = self.config.limits.confirmation_wait.as_secs();
        let message =
            format!("the receiver took every byte, but did not confirm the file within {seconds} seconds");
        self.fail_upload(id, Failure::new(Code::Unconfirmed, message));
    }

    pub(super) fn uploads_with(&self, conn: ConnId) -> Vec<TransferId> {
        self.uploads.iter().filter(|(_, upload)| upload.conn == Some(conn)).map(|(id, _)| *id).collect()
    }

    /// The peer is away: the upload is offered to it again when it is back.
    pub(super) fn suspend_upload(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let Some(conn) = upload.conn.take() else { return };
        let reading = std::mem::take(&mut upload.reading);
        upload.stale_reads += reading;
        upload.unwritten = 0;
        upload.requested.clear();
        if upload.state != State::Hashing {
            upload.state = State::Queued;
        }
        if let Form::Pulled(serving) = &mut upload.form {
            serving.interrupt();
        }
        self.timers.clear(Deadline::Offer(id));
        self.timers.clear(Deadline::Stall(id));
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.chunks_ahead -= reading;
            self.chunks_ahead -= reading;
            peer.active_uploads.remove(&id);
            peer.waiting_uploads.retain(|waiting| *waiting != id);
        }
    }

    /// The peer is back.
    pub(super) fn offer_again(&mut self, conn: ConnId, before: Process) {
        let waiting = |upload: &Upload| upload.conn.is_none() && upload.process == Some(before);
        let ids: Vec<_> =
            self.uploads.iter().filter(|(_, upload)| waiting(upload)).map(|(id, _)| *id).collect();
        for id in ids {
            self.offer_on(id, conn);
        }
    }

    /// Goes on with an upload to somebody who was away on another connection to them.
    pub(super) fn offer_on(&mut self, id: TransferId, conn: ConnId) {
        let Some(peer) = self.peers.get(conn) else { return };
        let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.conn.is_none()) else { return };
        upload.conn = Some(conn);
        upload.process = peer.process();
        upload.peer = peer.addr;
        if upload.state == State::Queued {
            self.queue_upload(id);
        }
    }

    pub(super) fn fail_waiting_uploads(&mut self, process: Process, why: &str) {
        let waiting = |upload: &Upload| upload.conn.is_none() && upload.process == Some(process);
        let ids: Vec<_> =
            self.uploads.iter().filter(|(_, upload)| waiting(upload)).map(|(id, _)| *id).collect();
        for id in ids {
            self.fail_upload(id, Failure::new(Code::Disconnected, why));
        }
    }

    /// Ends an upload that cannot go on, and tells the receiver.
    pub(super) fn fail_upload(&mut self, id: TransferId, failure: Failure) {
        if self.uploads.get(&id).is_some_and(|upload| upload.answers.is_some()) {
            return self.end_answer(id, &failure);
        }
        let pulled = self.uploads.get(&id).filter(|upload| upload.is_pulled());
        if let Some((conn, State::Offered | State::Sending)) =
            pulled.and_then(|upload| Some((upload.conn?, upload.state)))
        {
            self.send(conn, Message::Withdraw { id: OfferId(id.0), reason: failure.to_reason() });
        }
        self.end_upload(id, failure);
    }

    /// Ends an upload that cannot go on, as the receiver knows or need not know.
    pub(super) fn end_upload(&mut self, id: TransferId, failure: Failure) {
        let Some(upload) = self.uploads.get(&id) else { return };
        if upload.answers.is_some() {
            return self.forget_answer(id);
        }
        let (conn, peer, name) = (upload.conn, upload.peer, upload.name.clone());
        let was_moving = upload.state == State::Sending;
        if !self.is_kept_for_later(id, &failure) {
            let (direction, Failure { code, message: reason }) = (Direction::Out, failure);
            self.event(Event::TransferFailed { id, peer: Some(peer), name, direction, code, reason });
        }
        self.remove_upload(id);
        let Some(conn) = conn else { return };
        // A baseline peer has no word for a file that will not come, and would take the next
        // file's chunks for this one's.
        if was_moving && self.peers.get(conn).is_some_and(|peer| peer.level == Some(Level::Baseline)) {
            let why = "a baseline peer cannot be told in another way that a file will not come";
            self.close_peer(conn, why, Ending::Closed);
        } else {
            self.serve(conn);
        }
    }

    /// Takes an upload out of the books and closes its source.
    pub(super) fn remove_upload(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.remove(&id) else { return };
        self.timers.clear(Deadline::Offer(id));
        self.timers.clear(Deadline::Stall(id));
        self.job(id, Job::Release { keep: false });
        if let Some(peer) = upload.conn.and_then(|conn| self.peers.get_mut(conn)) {
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
        self.tell_owed(conn);
        self.read_ahead(conn);
    }
}
