//! Downloads that are pulled: this side decides which chunks it misses, and whom to ask for them.
//!
//! What was offered to us comes from whoever offers it (`offered`), what we searched for from all who
//! have it (`gets`); which of them is asked for what is left to `sources`. A content whose list is known
//! is asked for in any order, as far as the pages of its list are here. A file that is still hashed by
//! its sender comes in order, each chunk with its entry, and is not complete before the list is closed.
//! What an earlier attempt left is verified first and not asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::downloads::{Download, Form, State};
use super::reconnect::Process;
use super::sources::{Chosen, Order, Source, Sources};
use super::trees::TreeState;
use super::window::Asked;
use super::{ChunkProof, Code, ConnId, Deadline, Engine, Failure, Incoming, Job, JobDone, Kept, TransferId};
use crate::wire::{
    CHUNK_SIZE, ChunkData, ChunkIndex, ENTRIES_PER_PAGE, Entry, ManifestHead, Message, NodeId, OfferId,
};

/// Pages that are asked for and not stored.
const PAGES_AHEAD: u32 = 2;

/// Bytes of memory that a list takes whose pages are elsewhere.
pub(super) fn list_bytes(head: &ManifestHead) -> usize {
    32 * head.pages() as usize
}

/// Why a content is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A peer offered it.
    Offered {
        id: OfferId,
        /// Which process did; nobody knows under `--plain`.
        sender: Option<Process>,
    },
    /// This side searched for it.
    Wanted,
}

/// A content that is pulled.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) cause: Cause,
    pub(super) incoming: Arc<Incoming>,
    /// The only page, as it came with the offer.
    first_page: Bytes,
    /// What the file consists of, where the offer did not tell.
    pub(super) seal: Option<Arc<ManifestHead>>,
    /// What an earlier attempt left, while the sender compares it.
    pub(super) kept: Option<Kept>,
    /// That was something else, and an empty file is being made.
    pub(super) starting_over: bool,
    /// What was found on the disk is being verified: bytes so far.
    checked_bytes: Option<u64>,
    /// The list was asked for, before anything else.
    pub(super) wants_list: bool,
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
    /// Who was asked for them, and when something was last heard of that.
    pub(super) pages_from: Option<(ConnId, Duration)>,
    /// Who sent the page that is being stored.
    page_by: Option<(ConnId, Option<(SocketAddr, NodeId)>)>,
    pub(super) sources: Sources,
    /// Chunks that have arrived, until they are stored, and from whom.
    arrived: BTreeMap<ChunkIndex, Arrived>,
    /// A chunk was wrong of a file that comes in order: those under way are of no use.
    rewinding: bool,
}

/// A chunk that has arrived.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    from: ConnId,
    addr: Option<SocketAddr>,
    /// Who that is, who may have left before it is known whether the chunk is right.
    node_id: Option<NodeId>,
    asked: Asked,
}

impl Pull {
    /// One of which nothing is there, and nobody was asked.
    pub(super) fn new(cause: Cause, incoming: Incoming, first_page: Bytes) -> Box<Self> {
        let order = match cause {
            Cause::Offered { .. } => Order::FirstToLast,
            Cause::Wanted => Order::RarestFirst,
        };
        Box::new(Self {
            cause,
            first_page,
            seal: None,
            kept: None,
            starting_over: false,
            checked_bytes: None,
            wants_list: false,
            similar: false,
            tree: if incoming.tree.is_some() { TreeState::Unknown } else { TreeState::Open },
            tree_bytes: 0,
            awaits_release: false,
            pages_stored: 0,
            pages_asked: 0,
            pages_arrived: 0,
            pages_from: None,
            page_by: None,
            sources: Sources::new(order),
            arrived: BTreeMap::new(),
            rewinding: false,
            incoming: Arc::new(incoming),
        })
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.cause == Cause::Wanted
    }

    pub(super) fn head(&self) -> Option<&Arc<ManifestHead>> {
        self.incoming.head.as_ref().or(self.seal.as_ref())
    }

    /// Whether its sender did not know the list when it offered the file.
    pub(super) fn is_late(&self) -> bool {
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

    /// Who was asked for a page and has not sent it yet, and since when.
    pub(super) fn awaits_page_from(&self) -> Option<(ConnId, Duration)> {
        self.pages_from.filter(|_| self.pages_arrived < self.pages_asked)
    }

    pub(super) fn has_all_pages(&self) -> bool {
        self.incoming.head.as_ref().is_none_or(|head| self.pages_stored == head.pages())
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

impl Engine {
    pub(super) fn pulled(&mut self, id: TransferId) -> Option<(&mut Download, ConnId)> {
        let download = self.downloads.get_mut(&id)?;
        let conn = download.conn?;
        Some((download, conn))
    }

    /// The download that a peer sends under that number.
    pub(super) fn download_called(&self, conn: ConnId, number: OfferId) -> Option<TransferId> {
        let called = |id: &TransferId| match self.downloads.get(id).map(|download| &download.form) {
            Some(Form::Pulled(pull)) => pull.sources.get(conn).is_some_and(|source| source.number == number),
            _ => false,
        };
        self.peers.get(conn)?.downloads.iter().copied().find(called)
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
            JobDone::PageWrong(page) => self.on_page_wrong(id, page),
            JobDone::ListFalse(index) => self.on_pulled_chunk_wrong(id, index, true),
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

    /// What is on the disk is known: whoever sends may begin.
    fn accept_content(&mut self, id: TransferId, kept: Option<Kept>) {
        let (now, stall) = (self.now, self.now + self.config.limits.stall);
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.state = State::Receiving;
        download.note_wait(now);
        let Some(pull) = download.pull() else { return };
        pull.checked_bytes = None;
        pull.kept = kept.filter(|kept| pull.is_late() && kept.chunks > 0);
        pull.wants_list = pull.is_late() && pull.kept.is_none() && pull.similar;
        let (kept, wants_list) = (pull.kept, pull.wants_list);
        let page = std::mem::take(&mut pull.first_page);
        let list_bytes = page.len();
        if !page.is_empty() {
            pull.pages_asked = 1;
            pull.pages_arrived = 1;
        }
        self.manifest_bytes -= list_bytes;
        self.timers.set(Deadline::Stall(id), stall);
        self.tell_sources(id, |number| Message::Accept { id: number, kept, wants_list });
        if list_bytes > 0 {
            self.job(id, Job::StorePage { page: 0, entries: page });
        }
        self.on_receiving(id);
        self.go_further(id);
    }

    fn on_already_here(&mut self, id: TransferId, path: std::path::PathBuf) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        let Some(hash) = pull.head().map(|head| head.file_hash()) else { return };
        // The sender hears that it is wanted, and that it is here.
        self.tell_sources(id, |number| Message::Accept { id: number, kept: None, wants_list: false });
        self.on_finished(id, path, hash, true);
    }

    /// Says something to everybody who sends a content.
    pub(super) fn tell_sources(&mut self, id: TransferId, message: impl Fn(OfferId) -> Message) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        let told: Vec<_> = pull.sources.iter().map(|(conn, source)| (conn, source.number)).collect();
        for (conn, number) in told {
            if self.peers.get(conn).is_some_and(|peer| !peer.read_closed) {
                self.send(conn, message(number));
            }
        }
    }

    pub(super) fn set_stored(&mut self, id: TransferId, kept: &[ChunkIndex]) {
        for index in kept {
            let Some(download) = self.downloads.get_mut(&id) else { return };
            if !download.chunks.is_stored(*index) {
                download.chunks.set_stored(*index);
                self.on_held(id, *index);
            }
        }
    }

    /// More of a file is there: takes the next steps.
    pub(super) fn go_further(&mut self, id: TransferId) {
        let receives = |download: &&mut Download| download.state == State::Receiving;
        let Some(download) = self.downloads.get_mut(&id).filter(receives) else { return };
        let Download { form: Form::Pulled(pull), chunks, geometry, state, .. } = download else { return };
        pull.sources.pass_stored(chunks);
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
        let now = self.now;
        let by = self.peers.get(conn).and_then(|peer| Some((peer.addr, peer.node_id?)));
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let state = download.state;
        let Some(pull) = download.pull() else { return };
        let is_asked = pull.pages_from.is_some_and(|(from, _)| from == conn);
        if pull.is_wanted() && !is_asked {
            // Somebody else was asked meanwhile.
            return;
        }
        if state != State::Receiving || page != pull.pages_arrived || page >= pull.pages_asked {
            return self.refuse(conn, "it sent a page that it was not asked for");
        }
        pull.pages_arrived += 1;
        pull.pages_from = Some((conn, now));
        pull.page_by = Some((conn, by));
        self.job(id, Job::StorePage { page, entries });
    }

    fn on_page_stored(&mut self, id: TransferId, page: u32, kept: &[ChunkIndex]) {
        self.set_stored(id, kept);
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        pull.pages_stored = page + 1;
        pull.sources.fertile();
        self.download_progress(id);
        self.on_listed(id);
        self.go_further(id);
    }

    fn on_page_wrong(&mut self, id: TransferId, page: u32) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        let what = format!("page {page} of its list is not the one that it offered");
        if !pull.is_wanted() {
            return self.fail_download(id, Failure::new(Code::HashMismatch, what));
        }
        let by = pull.page_by.take();
        self.ask_anew_for_pages(id);
        if let Some((conn, who)) = by {
            self.convict_sender(conn, who, &what);
        }
        self.go_further(id);
    }

    /// The pages that are not here are to come from somebody else.
    pub(super) fn ask_anew_for_pages(&mut self, id: TransferId) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        pull.pages_from = None;
        pull.pages_arrived = pull.pages_stored;
        pull.pages_asked = pull.pages_stored;
    }

    /// Asks for what is missing, as far as the windows go.
    pub(super) fn pull_more(&mut self, id: TransferId) {
        self.pull_pages(id);
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        let mut sources: Vec<_> = pull.sources.iter().map(|(conn, _)| conn).collect();
        if sources.len() > 1 {
            self.best_first(&mut sources);
        }
        for conn in sources {
            self.pull_from(id, conn);
        }
    }

    /// The same, of one source.
    pub(super) fn pull_from(&mut self, id: TransferId, conn: ConnId) {
        let now = self.now;
        let crowded = self.pulling >= self.config.limits.chunks_pulled_in_all;
        let is_limited = self.is_limited_down(conn);
        let could = |download: &Download| match &download.form {
            Form::Pulled(pull) => pull.sources.has_room(conn),
            Form::Listed(_) => false,
        };
        // Only who could use it waits for its turn.
        if is_limited && !(self.downloads.get(&id).is_some_and(could) && self.may_ask(id, conn)) {
            return;
        }
        let Some(download) = self.downloads.get_mut(&id) else { return };
        if download.state != State::Receiving {
            return;
        }
        let Download { form, chunks, geometry, .. } = download;
        let Form::Pulled(pull) = form else { return };
        if pull.kept.is_some()
            || pull.wants_list
            || pull.starting_over
            || (pull.rewinding && !pull.sources.is_idle())
        {
            return;
        }
        pull.rewinding = false;
        let reach = pull.reach(geometry.chunks());
        let most = (if crowded { 1 } else { usize::MAX }, if is_limited { 1 } else { usize::MAX });
        let Chosen { asked, taken_over } = pull.sources.ask(conn, chunks, reach, most, &mut self.dice, now);
        let bytes: u64 = asked.iter().map(|index| u64::from(geometry.len_of(*index))).sum();
        let Some(number) = pull.sources.get(conn).map(|source| source.number) else { return };
        self.pulling += asked.len();
        self.pulling -= taken_over.len();
        let goes_on = is_limited && !asked.is_empty();
        if is_limited {
            self.charge_down(conn, bytes);
        }
        for run in asked.chunk_by(|a, b| a.get() + 1 == b.get()) {
            let count = u32::try_from(run.len()).expect("at most a window");
            self.send(conn, Message::Pull { id: number, first: run[0].get(), count });
        }
        for (other, number, index) in taken_over {
            self.refund_down(other, CHUNK_SIZE.into());
            self.send(other, Message::Unpull { id: number, first: index.get(), count: 1 });
        }
        if goes_on {
            self.pull_from(id, conn);
        }
    }

    fn pull_pages(&mut self, id: TransferId) {
        let now = self.now;
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let state = download.state;
        let Some(pull) = download.pull() else { return };
        let Some(head) = pull.incoming.head.clone().filter(|_| state == State::Receiving) else { return };
        // The next one is here before the chunks of this one are used up; what many have is chosen from
        // all of it.
        let near = match pull.cause {
            Cause::Offered { .. } => pull.sources.cursor() / ENTRIES_PER_PAGE + PAGES_AHEAD,
            Cause::Wanted => u32::MAX,
        };
        let still_there = pull.pages_from.filter(|(conn, _)| pull.sources.get(*conn).is_some());
        let from =
            still_there.map(|(conn, _)| conn).or_else(|| pull.sources.iter().map(|(conn, _)| conn).next());
        let Some(conn) = from else { return };
        let Some(number) = pull.sources.get(conn).map(|source| source.number) else { return };
        // Of a list that strangers send one page is under way: nothing waits behind one that is wrong, and it
        // is known whose it is.
        let ahead = if pull.is_wanted() { 1 } else { PAGES_AHEAD };
        let mut pages = Vec::new();
        while pull.pages_asked < head.pages().min(near) && pull.pages_asked < pull.pages_stored + ahead {
            pages.push(pull.pages_asked);
            pull.pages_asked += 1;
        }
        if !pages.is_empty() {
            pull.pages_from = Some((conn, now));
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
        let addr = self.peers.get(conn).map(|peer| peer.addr);
        let node_id = self.peers.get(conn).and_then(|peer| peer.node_id);
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let geometry = download.geometry;
        let Some(known) = geometry.index(index.into()) else {
            return self.count_bad_chunk(conn, &format!("chunk {index} does not exist"));
        };
        let Some(pull) = download.pull() else { return };
        let bytes = data.0.len() as u64;
        let Some((asked, others)) = pull.sources.arrived(conn, known, now) else {
            return self.on_waste(id, conn, bytes);
        };
        self.pulling -= 1 + others.len();
        let fits = data.0.len() == geometry.len_of(known) as usize && entry.is_some() == pull.is_late();
        if fits && download.chunks.is_missing(known) {
            let Form::Pulled(pull) = &mut download.form else { return };
            pull.arrived.insert(known, Arrived { from: conn, addr, node_id, asked });
            download.chunks.job_given(known);
            download.note_wait(now);
            self.moved(conn);
            let by = entry.map_or(ChunkProof::Page, ChunkProof::Entry);
            self.job(id, Job::StoreChunk { index: known, data, by });
        } else if let Form::Pulled(pull) = &mut download.form {
            pull.sources.settled(conn, None, now);
            pull.sources.missing_again(known);
            if !fits {
                self.count_bad_chunk(conn, &format!("chunk {index} has not the form that was agreed on"));
            }
            self.pull_more(id);
        }
        for (other, number) in others {
            self.refund_down(other, bytes);
            self.send(other, Message::Unpull { id: number, first: index, count: 1 });
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
        if let Some(Arrived { from, addr, node_id, asked }) = pull.arrived.remove(&index) {
            pull.sources.settled(from, Some((asked, bytes)), now);
            if let Some(peer) = self.peers.get_mut(from) {
                peer.bytes_received += u64::from(bytes);
            }
            if let (Some(addr), Some(download)) = (addr, self.downloads.get_mut(&id)) {
                download.chunks.cells.delivered(download.geometry, index, (addr, node_id));
            }
            self.note_taken(node_id, bytes.into(), asked.age(now));
            self.on_delivered(id, addr, node_id, u64::from(bytes));
        }
        self.on_held(id, index);
        self.go_further(id);
    }

    /// A chunk was not what its list says, or its list was shown to be false by it.
    pub(super) fn on_pulled_chunk_wrong(&mut self, id: TransferId, index: ChunkIndex, is_list_false: bool) {
        let now = self.now;
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.chunks.returned(index);
        let name = download.name.clone();
        let Some(pull) = download.pull() else { return };
        let arrived = pull.arrived.remove(&index);
        if let Some(arrived) = arrived {
            pull.sources.settled(arrived.from, None, now);
        }
        pull.sources.missing_again(index);
        // Of a file that comes in order, what follows a wrong chunk cannot be right.
        let is_late = pull.is_late();
        let follows = is_late && std::mem::replace(&mut pull.rewinding, is_late);
        let what = format!("chunk {} of \"{name}\" is not what was announced", index.get());
        let is_wanted = pull.is_wanted();
        if let Some(Arrived { from, addr, node_id, .. }) = arrived.filter(|_| !follows) {
            if is_wanted {
                self.on_wrong_chunk_of_many(id, (from, addr, node_id), &what, is_list_false);
            } else {
                self.count_bad_chunk(from, &what);
            }
        }
        self.pull_more(id);
    }

    pub(super) fn count_bad_chunk(&mut self, conn: ConnId, what: &str) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        peer.bad_chunks += 1;
        let addr = peer.addr;
        if peer.bad_chunks >= self.config.limits.bad_chunks {
            self.convict(conn, &format!("{what}, and it is the last of too many"));
        } else {
            self.warn(addr, format!("{what}; it was not written"));
        }
    }

    /// Tells whoever sends that it is not wanted, or not any more.
    pub(super) fn tell_refused(&mut self, id: TransferId, failure: &Failure) {
        self.tell_sources(id, |number| Message::Refuse { id: number, reason: failure.to_reason() });
    }

    /// Tells whoever sends that it is in place, now or when they are back.
    pub(super) fn tell_done(&mut self, id: TransferId) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        if let Cause::Offered { id: number, sender: Some((node_id, instance)) } = pull.cause {
            self.finished.note((node_id, instance, number));
        }
        self.tell_sources(id, Message::Done);
    }

    /// Somebody more has the content.
    pub(super) fn add_source(&mut self, id: TransferId, conn: ConnId, source: Source) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        pull.sources.add(conn, source);
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.downloads.insert(id);
        }
    }

    /// Somebody does not send the content any more.
    pub(super) fn remove_source(&mut self, id: TransferId, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.downloads.remove(&id);
        }
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        let Some((_, requested)) = pull.sources.remove(conn) else { return };
        let asked_for_pages = pull.pages_from.is_some_and(|(from, _)| from == conn);
        if pull.is_wanted() && asked_for_pages && pull.pages_arrived == pull.pages_stored {
            pull.pages_from = None;
            pull.pages_asked = pull.pages_stored;
        }
        self.pulling -= requested;
        self.refund_down(conn, requested as u64 * u64::from(CHUNK_SIZE));
    }

    /// Nothing of a download is expected any more.
    pub(super) fn stop_pulling(&mut self, id: TransferId, download: &mut Download) {
        let Some(pull) = download.pull() else { return };
        let conns: Vec<_> = pull.sources.iter().map(|(conn, _)| conn).collect();
        let requested = pull.sources.clear();
        self.pulling -= requested;
        self.down.give_back(requested as u64 * u64::from(CHUNK_SIZE));
        pull.arrived.clear();
        for conn in conns {
            if let Some(peer) = self.peers.get_mut(conn) {
                peer.downloads.remove(&id);
            }
        }
    }
}
