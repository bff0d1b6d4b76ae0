//! Downloads that are pulled: this side decides which chunks it misses, and asks for them.
//!
//! A file whose list is known is asked for in any order, as far as the pages of its list are here. One
//! that is still hashed by its sender comes in order, each chunk with its entry, and is not complete
//! before the list is closed. What an earlier attempt left is verified first and not asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::downloads::{Download, Form, State};
use super::reconnect::Process;
use super::trees::TreeState;
use super::window::{Asked, Window};
use super::{ChunkProof, Code, ConnId, Deadline, Engine, Failure, Incoming, Job, JobDone, Kept, TransferId};
use crate::wire::{
    BadTree, ChunkData, ChunkIndex, ContentOffer, ENTRIES_PER_PAGE, Entry, Instance, ManifestHead, Message,
    NodeId, OfferError, OfferId, Reason,
};

/// Pages that are asked for and not stored.
const PAGES_AHEAD: u32 = 2;

/// Files that arrived whose sender may not know it, because the connection broke.
const FINISHED_REMEMBERED: usize = 256;

/// Bytes of memory that a list takes whose pages are elsewhere.
fn list_bytes(head: &ManifestHead) -> usize {
    32 * head.pages() as usize
}

/// What a sender calls an offer, for as long as its process runs.
type Called = (NodeId, Instance, OfferId);

/// A file that is pulled.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) id: OfferId,
    /// Which process offers it; nobody knows under `--plain`.
    sender: Option<Process>,
    pub(super) incoming: Arc<Incoming>,
    /// The only page, as it came with the offer.
    first_page: Bytes,
    /// What the file consists of, where the offer did not tell.
    pub(super) seal: Option<Arc<ManifestHead>>,
    /// What an earlier attempt left, while the sender compares it.
    kept: Option<Kept>,
    /// That was something else, and an empty file is being made.
    starting_over: bool,
    /// What was found on the disk is being verified: bytes so far.
    checked_bytes: Option<u64>,
    /// The list was asked for, before anything else.
    wants_list: bool,
    /// A directory of that name is in place.
    similar: bool,
    pub(super) tree: TreeState,
    /// Bytes of memory that the list of a directory takes, once it is accepted.
    pub(super) tree_bytes: usize,
    /// What an earlier attempt wrote to the partial file is let go of first.
    pub(super) awaits_release: bool,
    pages_stored: u32,
    pages_asked: u32,
    /// Pages that have arrived, until they are stored and after.
    pages_arrived: u32,
    window: Window,
    /// Chunks that were asked for and have not arrived.
    requested: BTreeMap<ChunkIndex, Asked>,
    /// Chunks that have arrived, until they are stored.
    arrived: BTreeMap<ChunkIndex, Asked>,
    /// No chunk before this one is missing.
    cursor: u32,
    /// A chunk was wrong of a file that comes in order: those under way are of no use.
    rewinding: bool,
}

impl Pull {
    pub(super) fn head(&self) -> Option<&Arc<ManifestHead>> {
        self.incoming.head.as_ref().or(self.seal.as_ref())
    }

    /// Whether its sender did not know the list when it offered the file.
    fn is_late(&self) -> bool {
        self.incoming.head.is_none()
    }

    /// Bytes of memory that its list takes.
    pub(super) fn memory(&self) -> usize {
        let digests = self.head().map_or(0, |head| list_bytes(head));
        digests + self.tree_bytes + self.first_page.len()
    }

    /// Whether it waits for this side's disk, or for the sender to hash what may be long.
    pub(super) fn is_busy(&self) -> bool {
        self.tree == TreeState::Opening || self.wants_list || self.kept.is_some() || self.starting_over
    }

    /// Chunks that may be asked for, from the first on.
    fn reach(&self, chunks: u32) -> u32 {
        let listed = match self.is_late() {
            true => chunks,
            false => chunks.min(self.pages_stored.saturating_mul(ENTRIES_PER_PAGE)),
        };
        if self.is_open() { listed } else { listed.min(self.list_chunks()) }
    }

    pub(super) fn has_all_pages(&self) -> bool {
        self.incoming.head.as_ref().is_none_or(|head| self.pages_stored == head.pages())
    }

    fn in_flight(&self) -> usize {
        self.requested.len() + self.arrived.len()
    }
}

impl Download {
    /// Bytes of what was found on the disk that are verified, while that goes on.
    pub(super) fn checked_bytes(&self) -> Option<u64> {
        match &self.form {
            Form::Pulled(pull) => pull.checked_bytes,
            Form::Listed(_) => None,
        }
    }

    pub(super) fn pull(&mut self) -> Option<&mut Pull> {
        match &mut self.form {
            Form::Pulled(pull) => Some(pull),
            Form::Listed(_) => None,
        }
    }
}

/// What arrived lately, by what its sender calls it.
#[derive(Debug, Default)]
pub(super) struct Finished(VecDeque<Called>);

impl Finished {
    fn note(&mut self, called: Called) {
        if self.0.len() >= FINISHED_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(called);
    }
}

impl Engine {
    pub(super) fn on_content_offer(&mut self, conn: ConnId, mut offer: ContentOffer) {
        let number = offer.id;
        // What one side did not name is an unknown field.
        offer.tree = offer.tree.filter(|_| self.peers.get(conn).is_some_and(|peer| peer.features.tree));
        if self.download_called(conn, number).is_some() {
            return self.refuse(conn, "it used the number of an offer that is still open");
        }
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let sender = peer.node_id.zip(peer.instance);
        peer.last_offer = peer.last_offer.max(Some(number));
        if let Some((node_id, instance)) = sender {
            if self.finished.0.contains(&(node_id, instance, number)) {
                return self.send(conn, Message::Done(number));
            }
            if let Some(id) = self.waiting_download((node_id, instance), &offer) {
                return self.go_on(conn, id, offer);
            }
        }
        let pull = self.pull_of(sender, offer, false);
        if let Err(why) = self.check_room(conn, pull.memory()) {
            let what = format!("the offer of \"{}\" was refused: {why}", pull.incoming.name);
            let reason = Reason::new(Code::Busy.as_str(), why);
            self.send(conn, Message::Refuse { id: number, reason });
            return self.refuse(conn, &what);
        }
        let incoming = pull.incoming.clone();
        let geometry = crate::wire::Geometry::new(incoming.size).expect("checked when it was decoded");
        if self.consider(conn, &incoming.name, geometry, Form::Pulled(pull)).is_none() {
            let reason = Reason::new(Code::Declined.as_str(), super::downloads::DECLINED);
            self.send(conn, Message::Refuse { id: number, reason });
            let what =
                format!("the offer of \"{}\" was declined: {}", incoming.name, super::downloads::DECLINED);
            self.refuse(conn, &what);
        }
    }

    fn pull_of(&self, sender: Option<(NodeId, Instance)>, offer: ContentOffer, goes_on: bool) -> Box<Pull> {
        let ContentOffer { id, name, size, tree, head, page } = offer;
        Box::new(Pull {
            id,
            sender,
            incoming: Arc::new(Incoming {
                from: sender.map(|(node_id, _)| node_id),
                name,
                size,
                head,
                tree,
                goes_on,
            }),
            first_page: page,
            seal: None,
            kept: None,
            starting_over: false,
            checked_bytes: None,
            wants_list: false,
            similar: false,
            tree: if tree.is_some() { TreeState::Unknown } else { TreeState::Open },
            tree_bytes: 0,
            awaits_release: false,
            pages_stored: 0,
            pages_asked: 0,
            pages_arrived: 0,
            window: Window::new(self.now),
            requested: BTreeMap::new(),
            arrived: BTreeMap::new(),
            cursor: 0,
            rewinding: false,
        })
    }

    /// An offer that could not be understood, except for its number.
    pub(super) fn on_bad_content_offer(&mut self, conn: ConnId, id: OfferId, error: &OfferError) {
        let code = match error {
            OfferError::Name(_) => Code::BadName,
            OfferError::Size(_) | OfferError::Tree(BadTree::TooLong) => Code::TooLarge,
            _ => Code::Usage,
        };
        // To a peer without the feature it is an unknown type.
        if !self.peers.get(conn).is_some_and(|peer| peer.features.transfer) {
            return;
        }
        self.send(conn, Message::Refuse { id, reason: Reason::new(code.as_str(), error.to_string()) });
        self.refuse(conn, &format!("an offer was refused: {error}"));
    }

    fn download_called(&self, conn: ConnId, number: OfferId) -> Option<TransferId> {
        let called = |id: &TransferId| match self.downloads.get(id).map(|download| &download.form) {
            Some(Form::Pulled(pull)) => pull.id == number,
            _ => false,
        };
        self.peers.get(conn)?.downloads.iter().copied().find(called)
    }

    pub(super) fn pulled(&mut self, id: TransferId) -> Option<(&mut Download, ConnId)> {
        let download = self.downloads.get_mut(&id)?;
        let conn = download.conn?;
        Some((download, conn))
    }

    /// The download of that offer that waits for its sender to come back.
    fn waiting_download(&self, sender: (NodeId, Instance), offer: &ContentOffer) -> Option<TransferId> {
        let waits = |download: &&Download| match &download.form {
            Form::Pulled(pull) => {
                download.conn.is_none()
                    && pull.sender == Some(sender)
                    && pull.id == offer.id
                    && pull.incoming.name == offer.name
                    && pull.incoming.size == offer.size
                    && pull.incoming.tree == offer.tree
            }
            Form::Listed(_) => false,
        };
        self.downloads.iter().find(|(_, download)| waits(download)).map(|(id, _)| *id)
    }

    /// The sender is back, and offers again what was accepted before.
    fn go_on(&mut self, conn: ConnId, id: TransferId, offer: ContentOffer) {
        let sender = self.peers.get(conn).and_then(|peer| peer.node_id.zip(peer.instance));
        let addr = self.peers.get(conn).map(|peer| peer.addr);
        let pull = self.pull_of(sender, offer, true);
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.conn = Some(conn);
        download.peer = addr.unwrap_or(download.peer);
        if download.state == State::Finishing {
            // It is told when it is in place.
            if let Form::Pulled(old) = &mut download.form {
                old.id = pull.id;
            }
        } else {
            self.manifest_bytes += pull.memory();
            if let Form::Pulled(old) = &download.form {
                self.manifest_bytes -= old.memory();
            }
            let job = Job::OpenPartial(pull.incoming.clone());
            download.form = Form::Pulled(pull);
            download.state = State::Creating;
            download.left = None;
            download.chunks.start_over();
            if !self.charge_tree(id) {
                return;
            }
            self.job(id, job);
        }
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.downloads.insert(id);
        }
    }

    /// The sender is away.
    pub(super) fn suspend_download(&mut self, id: TransferId) {
        let Some(mut download) = self.downloads.remove(&id) else { return };
        self.stop_pulling(&mut download);
        let conn = download.conn.take();
        let state = download.state;
        let pulled = matches!(download.form, Form::Pulled(_));
        match state {
            _ if !pulled => download.conn = conn,
            State::CheckingSpace | State::Asking => download.conn = conn,
            State::Finishing | State::Waiting => {}
            State::Creating | State::Receiving => {
                download.state = State::Waiting;
                download.releasing += 1;
                self.timers.clear(Deadline::Stall(id));
                self.releases.note(id, &download);
                self.job(id, Job::Release { keep: true });
            }
        }
        if download.conn.is_none()
            && let Some(peer) = conn.and_then(|conn| self.peers.get_mut(conn))
        {
            peer.downloads.remove(&id);
        }
        self.downloads.insert(id, download);
    }

    pub(super) fn fail_waiting_downloads(&mut self, process: Process, why: &str) {
        let waits = |download: &Download| match &download.form {
            Form::Pulled(pull) => download.state == State::Waiting && pull.sender == Some(process),
            Form::Listed(_) => false,
        };
        let ids: Vec<_> =
            self.downloads.iter().filter(|(_, download)| waits(download)).map(|(id, _)| *id).collect();
        for id in ids {
            self.drop_download(id, Failure::new(Code::Disconnected, why));
        }
    }

    pub(super) fn on_pull_job(&mut self, id: TransferId, done: JobDone) {
        match done {
            JobDone::PartialOpened { resumed, to_check, similar } => {
                if let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) {
                    pull.similar = similar;
                }
                if let Some(key) = resumed {
                    self.leftovers.retain(|_, left| left.key != key);
                }
                self.on_partial_opened(id, to_check);
            }
            JobDone::KeptChecking { bytes } => {
                let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
                pull.checked_bytes = Some(bytes);
                self.download_progress(id);
                if self.is_creating(id) {
                    self.job(id, Job::CheckKept);
                }
            }
            JobDone::KeptChecked(kept) if self.is_creating(id) => self.accept_content(id, kept),
            JobDone::AlreadyHere { path } => self.on_already_here(id, path),
            JobDone::PageStored { page, kept } => self.on_page_stored(id, page, &kept),
            JobDone::TreeOpening { kept } => self.on_tree_opening(id, &kept),
            JobDone::TreeOpened { kept } => self.on_tree_opened(id, &kept),
            JobDone::PageWrong(page) => {
                let message = format!("page {page} of its list is not the one that it offered");
                self.fail_download(id, Failure::new(Code::HashMismatch, message));
            }
            // What uploads are told, and what is told to nobody.
            _ => {}
        }
    }

    fn is_creating(&self, id: TransferId) -> bool {
        self.downloads.get(&id).is_some_and(|download| download.state == State::Creating)
    }

    fn on_partial_opened(&mut self, id: TransferId, to_check: bool) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        match download.state {
            State::Creating if to_check => {
                if let Some(pull) = download.pull() {
                    pull.checked_bytes = Some(0);
                }
                self.job(id, Job::CheckKept);
            }
            State::Creating => self.accept_content(id, None),
            // What was there was something else, and an empty file is there now.
            State::Receiving => {
                if let Some(pull) = download.pull() {
                    pull.starting_over = false;
                }
                self.pull_more(id);
            }
            _ => {}
        }
    }

    /// What is on the disk is known: the sender may begin.
    fn accept_content(&mut self, id: TransferId, kept: Option<Kept>) {
        let stall = self.now + self.config.limits.stall;
        let now = self.now;
        let Some((download, conn)) = self.pulled(id) else { return };
        download.state = State::Receiving;
        let Some(pull) = download.pull() else { return };
        pull.checked_bytes = None;
        pull.kept = kept.filter(|kept| pull.is_late() && kept.chunks > 0);
        pull.wants_list = pull.is_late() && pull.kept.is_none() && pull.similar;
        let accept = Message::Accept { id: pull.id, kept: pull.kept, wants_list: pull.wants_list };
        let page = std::mem::take(&mut pull.first_page);
        let list_bytes = page.len();
        if !page.is_empty() {
            pull.pages_asked = 1;
            pull.pages_arrived = 1;
        }
        download.note_wait(now);
        self.manifest_bytes -= list_bytes;
        self.timers.set(Deadline::Stall(id), stall);
        self.send(conn, accept);
        if list_bytes > 0 {
            self.job(id, Job::StorePage { page: 0, entries: page });
        }
        self.pull_more(id);
        self.finish_if_all_stored(id);
    }

    fn on_already_here(&mut self, id: TransferId, path: std::path::PathBuf) {
        let Some((download, conn)) = self.pulled(id) else { return };
        let Some(pull) = download.pull() else { return };
        let (number, hash) = (pull.id, pull.head().map(|head| head.file_hash()));
        let Some(hash) = hash else { return };
        // The sender hears that it is wanted, and that it is here.
        self.send(conn, Message::Accept { id: number, kept: None, wants_list: false });
        self.on_finished(id, path, hash, true);
    }

    pub(super) fn on_resumed(&mut self, conn: ConnId, number: OfferId, chunk: u32) {
        let Some(id) = self.download_called(conn, number) else { return };
        self.moved(conn);
        let Some((download, conn)) = self.pulled(id) else { return };
        let geometry = download.geometry;
        let Some(kept) = download.pull().and_then(|pull| pull.kept) else {
            return self.refuse(conn, "it compared something that it was not told");
        };
        if chunk == 0 {
            if let Some(pull) = download.pull() {
                pull.kept = None;
                pull.starting_over = true;
            }
            return self.job(id, Job::StartOver);
        }
        if chunk != kept.chunks {
            return self.refuse(conn, "it goes on from a chunk that is not here");
        }
        for index in geometry.indices().take(kept.chunks as usize) {
            download.chunks.set_stored(index);
        }
        if let Some(pull) = download.pull() {
            pull.kept = None;
        }
        self.go_further(id);
    }

    pub(super) fn set_stored(&mut self, id: TransferId, kept: &[ChunkIndex]) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        for index in kept {
            download.chunks.set_stored(*index);
        }
    }

    /// More of a file is there: takes the next steps.
    pub(super) fn go_further(&mut self, id: TransferId) {
        let Some((download, _)) = self.pulled(id) else { return };
        let Download { form: Form::Pulled(pull), chunks, geometry, state, .. } = download else { return };
        let list_chunks = pull.list_chunks() as usize;
        if pull.tree == TreeState::Unknown
            && *state == State::Receiving
            && geometry.indices().take(list_chunks).all(|index| chunks.is_stored(index))
        {
            pull.tree = TreeState::Opening;
            self.job(id, Job::OpenTree);
        }
        self.pull_more(id);
        self.finish_if_all_stored(id);
    }

    pub(super) fn on_page(&mut self, conn: ConnId, number: OfferId, page: u32, entries: Bytes) {
        let Some(id) = self.download_called(conn, number) else { return };
        self.moved(conn);
        let Some((download, conn)) = self.pulled(id) else { return };
        let state = download.state;
        let Some(pull) = download.pull() else { return };
        if state != State::Receiving || page != pull.pages_arrived || page >= pull.pages_asked {
            return self.refuse(conn, "it sent a page that it was not asked for");
        }
        pull.pages_arrived += 1;
        self.job(id, Job::StorePage { page, entries });
    }

    fn on_page_stored(&mut self, id: TransferId, page: u32, kept: &[ChunkIndex]) {
        self.set_stored(id, kept);
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        pull.pages_stored = page + 1;
        self.download_progress(id);
        self.go_further(id);
    }

    pub(super) fn on_seal(&mut self, conn: ConnId, number: OfferId, head: Arc<ManifestHead>) {
        let Some(id) = self.download_called(conn, number) else { return };
        self.moved(conn);
        let is_full = self.manifest_bytes + list_bytes(&head) > self.config.limits.manifest_bytes;
        let Some((download, conn)) = self.pulled(id) else { return };
        let size = download.geometry.size();
        let receiving = download.state == State::Receiving;
        let bytes = list_bytes(&head);
        let Some(pull) = download.pull() else { return };
        // Before it is accepted an offer costs next to nothing, and so it stays.
        if !receiving || !pull.is_late() || pull.seal.is_some() || head.geometry().size() != size {
            return self.refuse(conn, "it sealed a file that is not open");
        }
        if is_full {
            let why = "this node has as many open offers and transfers as it can hold";
            return self.fail_download(id, Failure::new(Code::Busy, why));
        }
        if std::mem::take(&mut pull.wants_list) {
            // From here on it is one whose list was known when it was offered.
            let incoming = Arc::new(Incoming { head: Some(head), ..(*pull.incoming).clone() });
            pull.incoming = incoming.clone();
            download.state = State::Creating;
            download.releasing += 1;
            self.manifest_bytes += bytes;
            self.timers.clear(Deadline::Stall(id));
            self.job(id, Job::Release { keep: true });
            return self.job(id, Job::OpenPartial(incoming));
        }
        pull.seal = Some(head);
        self.manifest_bytes += bytes;
        self.finish_if_all_stored(id);
    }

    /// Asks for what is missing, as far as the window goes.
    pub(super) fn pull_more(&mut self, id: TransferId) {
        self.pull_pages(id);
        let now = self.now;
        let crowded = self.pulling >= self.config.limits.chunks_pulled_in_all;
        let Some((download, conn)) = self.pulled(id) else { return };
        if download.state != State::Receiving {
            return;
        }
        let Download { form, chunks, geometry, .. } = download;
        let Form::Pulled(pull) = form else { return };
        if pull.kept.is_some()
            || pull.wants_list
            || pull.starting_over
            || (pull.rewinding && pull.in_flight() > 0)
        {
            return;
        }
        pull.rewinding = false;
        let window = if crowded { 1 } else { pull.window.chunks() };
        let room = window.saturating_sub(pull.in_flight());
        // A few at a time, unless nothing is under way.
        if room == 0 || (room < window / 4 && pull.in_flight() > 0) {
            return;
        }
        let reach = pull.reach(geometry.chunks());
        let mut asked = Vec::new();
        let mut cursor = pull.cursor;
        while asked.len() < room && cursor < reach {
            let index = geometry.index(cursor.into()).expect("within the file");
            cursor += 1;
            if chunks.is_missing(index) && !pull.requested.contains_key(&index) {
                asked.push(index);
            }
        }
        pull.cursor = cursor;
        for index in &asked {
            pull.requested.insert(*index, pull.window.ask(now));
        }
        let number = pull.id;
        self.pulling += asked.len();
        for run in asked.chunk_by(|a, b| a.get() + 1 == b.get()) {
            let count = u32::try_from(run.len()).expect("at most a window");
            self.send(conn, Message::Pull { id: number, first: run[0].get(), count });
        }
    }

    fn pull_pages(&mut self, id: TransferId) {
        let Some((download, conn)) = self.pulled(id) else { return };
        let state = download.state;
        let Some(pull) = download.pull() else { return };
        let Some(head) = pull.incoming.head.clone().filter(|_| state == State::Receiving) else { return };
        // The next one is here before the chunks of this one are used up.
        let near = pull.cursor / ENTRIES_PER_PAGE + PAGES_AHEAD;
        let number = pull.id;
        let mut pages = Vec::new();
        while pull.pages_asked < head.pages().min(near) && pull.pages_asked < pull.pages_stored + PAGES_AHEAD
        {
            pages.push(pull.pages_asked);
            pull.pages_asked += 1;
        }
        for page in pages {
            self.send(conn, Message::PullPage { id: number, page });
        }
    }

    pub(super) fn on_data(
        &mut self,
        conn: ConnId,
        number: OfferId,
        index: u32,
        data: ChunkData,
        entry: Option<Entry>,
    ) {
        let Some(id) = self.download_called(conn, number) else {
            // A late answer for a file that is here, or was given up, is waste and no fault.
            if self.peers.get(conn).is_some_and(|peer| peer.last_offer < Some(number)) {
                self.count_bad_chunk(conn, &format!("chunk {index} is of a file that was never offered"));
            }
            return;
        };
        let now = self.now;
        let Some((download, conn)) = self.pulled(id) else { return };
        let geometry = download.geometry;
        let Some(known) = geometry.index(index.into()) else {
            return self.count_bad_chunk(conn, &format!("chunk {index} does not exist"));
        };
        let Some(pull) = download.pull() else { return };
        let Some(asked) = pull.requested.remove(&known) else { return };
        let fits = data.0.len() == geometry.len_of(known) as usize && entry.is_some() == pull.is_late();
        if fits {
            pull.arrived.insert(known, asked);
            download.chunks.job_given(known);
            download.note_wait(now);
            self.pulling -= 1;
            self.moved(conn);
            let by = entry.map_or(ChunkProof::Page, ChunkProof::Entry);
            self.job(id, Job::StoreChunk { index: known, data, by });
        } else {
            pull.cursor = pull.cursor.min(index);
            self.pulling -= 1;
            self.count_bad_chunk(conn, &format!("chunk {index} has not the form that was agreed on"));
            self.pull_more(id);
        }
    }

    /// The sender of a file gives a sign of it.
    pub(super) fn moved(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.last_chunk_at = self.now;
        }
    }

    pub(super) fn on_pulled_chunk_stored(&mut self, id: TransferId, index: ChunkIndex) {
        let now = self.now;
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let bytes = download.geometry.len_of(index);
        let Some(pull) = download.pull() else { return };
        if let Some(asked) = pull.arrived.remove(&index) {
            pull.window.stored(asked, bytes, now);
        }
        self.go_further(id);
    }

    pub(super) fn on_pulled_chunk_wrong(&mut self, id: TransferId, index: ChunkIndex) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.chunks.returned(index);
        let conn = download.conn;
        let Some(pull) = download.pull() else { return };
        pull.arrived.remove(&index);
        pull.cursor = pull.cursor.min(index.get());
        // Of a file that comes in order, what follows a wrong chunk cannot be right.
        let is_late = pull.is_late();
        let follows = is_late && std::mem::replace(&mut pull.rewinding, is_late);
        if let Some(conn) = conn.filter(|_| !follows) {
            let name = download.name.clone();
            self.count_bad_chunk(
                conn,
                &format!("chunk {} of \"{name}\" is not what was announced", index.get()),
            );
        }
        self.pull_more(id);
    }

    fn count_bad_chunk(&mut self, conn: ConnId, what: &str) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        peer.bad_chunks += 1;
        let addr = peer.addr;
        if peer.bad_chunks >= self.config.limits.bad_chunks {
            self.drop_peer(conn, &format!("{what}, and it is the last of too many"));
        } else {
            self.warn(addr, format!("{what}; it was not written"));
        }
    }

    pub(super) fn on_withdrawn(&mut self, conn: ConnId, number: OfferId, reason: &Reason) {
        let Some(id) = self.download_called(conn, number) else { return };
        match self.downloads.get(&id).map(Download::state) {
            // Nobody was told of it.
            Some(State::CheckingSpace) => self.forget_download(id),
            // All of it is here.
            Some(State::Finishing) | None => {}
            Some(_) => self.drop_download(id, Failure::from_peer("sender", reason, Code::Withdrawn)),
        }
    }

    /// Tells the sender that a file is not wanted, or not any more.
    pub(super) fn tell_refused(&mut self, id: TransferId, failure: &Failure) {
        let Some((download, conn)) = self.pulled(id) else { return };
        let Some(pull) = download.pull() else { return };
        let refuse = Message::Refuse { id: pull.id, reason: failure.to_reason() };
        if self.peers.get(conn).is_some_and(|peer| !peer.read_closed) {
            self.send(conn, refuse);
        }
    }

    /// Tells the sender that the file is in place, now or when it is back.
    pub(super) fn tell_done(&mut self, id: TransferId) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let conn = download.conn;
        let Some(pull) = download.pull() else { return };
        let (number, sender) = (pull.id, pull.sender);
        if let Some((node_id, instance)) = sender {
            self.finished.note((node_id, instance, number));
        }
        if let Some(conn) = conn {
            self.send(conn, Message::Done(number));
        }
    }

    /// Nothing of a download is expected any more.
    pub(super) fn stop_pulling(&mut self, download: &mut Download) {
        let Some(pull) = download.pull() else { return };
        let requested = std::mem::take(&mut pull.requested).len();
        pull.arrived.clear();
        self.pulling -= requested;
    }
}
