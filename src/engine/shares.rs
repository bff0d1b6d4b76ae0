//! What is shared: whoever knows its hash may fetch it.
//!
//! A share is a path and what its content was when it was shared. It is opened anew for each who asks,
//! and what has changed since is not served. What is being fetched is served too, as far as it is here.
//! Who asks proves that it knows the hash; to everybody else it looks as if nothing were shared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::downloads::State as DownloadState;
use super::gets::Get;
use super::serving::Serving;
use super::uploads::{Form, State, Upload, name_of};
use super::{
    Code, CommandId, ConnId, Deadline, Engine, Event, Failure, Job, JobDone, Kept, Output, Reply, ShareInfo,
    Shared, TransferId,
};
use crate::wire::{
    AskId, AskProof, ChunkIndex, FileHash, Link, LinkKind, MAX_RUNS, ManifestHead, Message, OfferId, Reason,
    Runs, SafeName, Side, TreeInfo,
};

/// Shares of a node.
const MAX_SHARES: usize = 10_000;

/// Digits of a hash that name a share.
const MIN_PREFIX: usize = 4;

/// Chunks of a content of which is counted how often they were sent: 256 GiB.
const MAX_COUNTED: usize = 1 << 20;

/// How long chunks that were stored wait to be told of together.
const HAVE_PAUSE: Duration = Duration::from_millis(300);

/// Something that is shared.
#[derive(Debug, Clone)]
struct Share {
    shared: Shared,
    name: SafeName,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_hash: BTreeMap<FileHash, Share>,
    /// What is being hashed to be shared.
    hashing: BTreeMap<TransferId, Hashing>,
    /// Counts the changes, so that whoever made a table of them knows that it is old.
    changes: u64,
}

/// Something that is to be shared.
#[derive(Debug)]
struct Hashing {
    command: CommandId,
    path: PathBuf,
    name: SafeName,
    known_only: bool,
    is_kept: bool,
    tree: Option<TreeInfo>,
    chunks: u32,
}

/// The proofs that a peer would give for what is here, by proof. Made when it first asks.
#[derive(Debug, Default)]
pub(super) struct Askable {
    proofs: BTreeMap<AskProof, FileHash>,
    /// Of which state of the shares and gets.
    as_of: Option<u64>,
}

/// An upload that answers a search.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ask: AskId,
    hash: FileHash,
    /// The download whose chunks it serves, where that was not complete when it was asked for.
    held: Option<TransferId>,
    /// How many of the chunks that the download has stored were told of, in the order of its log.
    told: usize,
}

impl Answer {
    pub(super) fn hash(&self) -> FileHash {
        self.hash
    }

    /// Whether only a part may be here.
    pub(super) fn is_partial(&self) -> bool {
        self.held.is_some()
    }
}

/// Chunks in the order in which they came to be here, for those who wait for them.
#[derive(Debug, Default)]
pub(super) struct HoldLog {
    chunks: Vec<ChunkIndex>,
    is_due: bool,
}

/// How often each chunk of a content was sent to somebody who searched for it.
#[derive(Debug, Default)]
pub(super) struct SentCounts(Vec<u8>);

impl SentCounts {
    pub(super) fn of(&self, index: u32) -> u8 {
        self.0.get(index as usize).copied().unwrap_or(0)
    }

    /// Of a content so large that it would take too much memory, what is behind is not counted.
    pub(super) fn count(&mut self, index: u32) {
        let index = index as usize;
        if index >= MAX_COUNTED {
            return;
        }
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = self.0[index].saturating_add(1);
    }
}

/// Puts chunks together to runs.
fn runs_of(mut chunks: Vec<ChunkIndex>) -> Runs {
    chunks.sort_unstable();
    let narrow = |run: &[ChunkIndex]| u32::try_from(run.len()).expect("chunks are numbered with 32 bits");
    chunks.chunk_by(|a, b| a.get() + 1 == b.get()).map(|run| (run[0].get(), narrow(run))).collect()
}

impl Shares {
    /// Whether something is being hashed.
    pub(super) fn is_busy(&self) -> bool {
        !self.hashing.is_empty()
    }

    /// Whether only trusted peers get it.
    pub(super) fn is_known_only(&self, hash: FileHash) -> bool {
        self.by_hash.get(&hash).is_some_and(|share| share.shared.known_only)
    }

    pub(super) fn path_of(&self, hash: FileHash) -> Option<&PathBuf> {
        self.by_hash.get(&hash).map(|share| &share.shared.path)
    }

    fn changed(&mut self) {
        self.changes += 1;
    }
}

impl Engine {
    pub(super) fn share(&mut self, command: CommandId, path: PathBuf, known_only: bool, is_kept: bool) {
        let is_full = self.shares.by_hash.len() + self.shares.hashing.len() >= MAX_SHARES;
        let name = if is_full {
            let message = format!("{MAX_SHARES} things are shared already; `unshare` some");
            Err(Failure::new(Code::Busy, message))
        } else if known_only && !self.is_secure() {
            let message = "under --plain nobody has an identity, so nobody is known; leave out --known";
            Err(Failure::new(Code::Usage, message))
        } else {
            name_of(&path)
        };
        let name = match name {
            Ok(name) => name,
            Err(failure) => return self.reply(command, Err(failure)),
        };
        let id = self.next_transfer_id();
        let hashing =
            Hashing { command, path: path.clone(), name, known_only, is_kept, tree: None, chunks: 0 };
        self.shares.hashing.insert(id, hashing);
        self.job(id, Job::OpenSource(path));
    }

    /// Takes the result of a job for something that is to be shared; `false` where it is not for one.
    pub(super) fn on_share_job(&mut self, id: TransferId, done: &JobDone) -> bool {
        let Some(hashing) = self.shares.hashing.get_mut(&id) else { return false };
        match done {
            JobDone::SourceOpened { size, head, tree, left_out } => {
                hashing.tree = *tree;
                hashing.chunks = crate::wire::Geometry::new(*size).map_or(0, crate::wire::Geometry::chunks);
                let until = hashing.chunks;
                if let Some(text) = left_out {
                    self.event(Event::Warning { peer: None, text: text.clone() });
                }
                match head {
                    Some(head) => self.on_share_hashed(id, head),
                    None => self.job(id, Job::HashSource { until }),
                }
            }
            JobDone::SourceHashing { hashed: Kept { .. } } => {
                let until = hashing.chunks;
                self.job(id, Job::HashSource { until });
            }
            JobDone::SourceHashed(head) => self.on_share_hashed(id, head),
            JobDone::Failed(failure) => {
                let command = hashing.command;
                self.shares.hashing.remove(&id);
                self.job(id, Job::Release { keep: false });
                self.reply(command, Err(failure.clone()));
            }
            _ => {}
        }
        true
    }

    fn on_share_hashed(&mut self, id: TransferId, head: &Arc<ManifestHead>) {
        let Some(hashing) = self.shares.hashing.remove(&id) else { return };
        let Hashing { command, path, name, known_only, is_kept, tree, .. } = hashing;
        self.job(id, Job::Release { keep: false });
        let shared = Shared {
            path,
            file_hash: head.file_hash(),
            root: head.root(),
            size: head.geometry().size(),
            is_directory: tree.is_some(),
            known_only,
        };
        if is_kept && self.is_secure() {
            self.outputs.push_back(Output::KeepShare(shared.clone()));
        }
        let share = Share { shared, name };
        let info = self.share_info(&share);
        self.add_share(share);
        self.reply(command, Ok(Reply::Shared(Box::new(info))));
    }

    fn add_share(&mut self, share: Share) {
        self.shares.by_hash.insert(share.shared.file_hash, share);
        self.shares.changed();
    }

    /// What was shared when the program last ran.
    pub(super) fn on_shares_read(&mut self, shares: Vec<Shared>) {
        for shared in shares.into_iter().take(MAX_SHARES) {
            if let Ok(name) = name_of(&shared.path) {
                self.add_share(Share { shared, name });
            }
        }
    }

    /// What was fetched is served on while the node runs.
    pub(super) fn seed(&mut self, id: TransferId, path: &Path) {
        let Some(download) = self.downloads.get(&id).filter(|_| self.gets.contains_key(&id)) else { return };
        let Some(head) = download.head() else { return };
        if !self.config.seeds || self.shares.by_hash.contains_key(&head.file_hash()) {
            return;
        }
        if self.shares.by_hash.len() >= MAX_SHARES {
            return;
        }
        let Ok(name) = name_of(path) else { return };
        let shared = Shared {
            path: path.to_owned(),
            file_hash: head.file_hash(),
            root: head.root(),
            size: head.geometry().size(),
            is_directory: download.is_directory(),
            known_only: self.gets[&id].is_known_only(),
        };
        self.add_share(Share { shared, name });
    }

    pub(super) fn unshare(&mut self, what: &str) -> Result<Reply, Failure> {
        let prefix = what.to_ascii_lowercase();
        let may_be_hash = what.len() >= MIN_PREFIX && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        let link: Option<Link> = what.parse().ok();
        let is_meant = |share: &&Share| {
            link.as_ref().is_some_and(|link| link.hash == share.shared.file_hash)
                || share.shared.path.as_os_str() == what
                || (may_be_hash && share.shared.file_hash.to_string().starts_with(&prefix))
        };
        let meant: Vec<_> = self.shares.by_hash.values().filter(is_meant).cloned().collect();
        let [share] = meant.as_slice() else {
            let message = match meant.as_slice() {
                [] => format!("`{what}` is not shared; `shares` lists what is, by hash and path"),
                _ => format!("`{what}` is the beginning of several hashes; write more of it"),
            };
            return Err(Failure::new(Code::Usage, message));
        };
        let hash = share.shared.file_hash;
        self.shares.by_hash.remove(&hash);
        self.shares.changed();
        if self.is_secure() {
            self.outputs.push_back(Output::DropShare(hash));
        }
        self.stop_serving(hash, "it is not shared any longer");
        Ok(Reply::Unshared(Box::new(self.share_info(share))))
    }

    pub(super) fn share_infos(&self) -> Vec<ShareInfo> {
        let mut infos: Vec<_> = self.shares.by_hash.values().map(|share| self.share_info(share)).collect();
        infos.sort_by(|a, b| a.path.cmp(&b.path));
        infos
    }

    fn share_info(&self, share: &Share) -> ShareInfo {
        let shared = &share.shared;
        let link = Link {
            hash: shared.file_hash,
            name: Some(share.name.clone()),
            size: Some(shared.size),
            root: Some(shared.root),
            kind: Some(if shared.is_directory { LinkKind::Directory } else { LinkKind::File }),
            known_only: shared.known_only,
            from: self.config.reachable.iter().map(ToString::to_string).collect(),
        };
        ShareInfo { path: shared.path.clone(), link }
    }

    /// A peer asks whether something is here.
    pub(super) fn on_ask(&mut self, conn: ConnId, ask: AskId, proof: AskProof) {
        let Some(hash) = self.recognize(conn, proof) else { return self.lack(conn, ask, Code::NotFound) };
        let is_served = |upload: &Upload| {
            upload.conn == Some(conn) && upload.answers.as_ref().is_some_and(|answer| answer.hash == hash)
        };
        if self.uploads.values().any(is_served) {
            return self.refuse(conn, "it asked twice for the same");
        }
        if let Some(share) = self.shares.by_hash.get(&hash).cloned() {
            if share.shared.known_only && !self.trusts(conn) {
                return self.lack(conn, ask, Code::NotFound);
            }
            let job = Job::OpenSource(share.shared.path);
            return self.begin_answer(conn, ask, hash, share.name, None, job);
        }
        let Some(get) = self.get_of(hash) else { return self.lack(conn, ask, Code::NotFound) };
        if self.gets[&get].is_known_only() && !self.trusts(conn) {
            return self.lack(conn, ask, Code::NotFound);
        }
        self.note_asker(get, conn, ask);
    }

    fn trusts(&self, conn: ConnId) -> bool {
        let id = self.peers.get(conn).and_then(|peer| peer.node_id);
        id.is_some_and(|id| self.book.is_trusted(id) || self.config.node_id == Some(id))
    }

    fn lack(&mut self, conn: ConnId, ask: AskId, code: Code) {
        self.send(conn, Message::Lack { id: ask, code: code.as_str().to_owned() });
    }

    /// Answers a search with what a download has so far.
    pub(super) fn answer_with_held(&mut self, conn: ConnId, ask: AskId, get: TransferId) {
        let Some(download) = self.downloads.get(&get) else { return };
        let Some(hash) = download.file_hash() else { return };
        let name = download.name.clone();
        self.begin_answer(conn, ask, hash, name, Some(get), Job::OpenHeld(get));
    }

    fn begin_answer(
        &mut self,
        conn: ConnId,
        ask: AskId,
        hash: FileHash,
        name: SafeName,
        held: Option<TransferId>,
        job: Job,
    ) {
        if self.downloads.len() + self.uploads.len() >= self.config.limits.transfers {
            return self.lack(conn, ask, Code::Busy);
        }
        let Some(peer) = self.peers.get(conn) else { return };
        if peer.answers >= self.config.limits.answers_per_peer {
            return self.lack(conn, ask, Code::Busy);
        }
        let mut upload =
            Upload::new(conn, peer.addr, peer.process(), name, Form::Pulled(Serving::default()), self.now);
        upload.answers = Some(Answer { ask, hash, held, told: 0 });
        let id = self.next_transfer_id();
        self.uploads.insert(id, upload);
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.answers += 1;
        }
        self.job(id, job);
    }

    /// The content that a peer has proven to know, if that is here.
    fn recognize(&mut self, conn: ConnId, proof: AskProof) -> Option<FileHash> {
        let as_of = self.shares.changes;
        let peer = self.peers.get_mut(conn)?;
        let (binding, side) = (peer.binding?, peer.side());
        if peer.askable.as_of != Some(as_of) {
            let here = self.shares.by_hash.keys().copied().chain(self.gets.values().map(Get::hash));
            let proofs = here.map(|hash| (AskProof::new(binding, side.other(), hash), hash)).collect();
            peer.askable = Askable { proofs, as_of: Some(as_of) };
        }
        peer.askable.proofs.get(&proof).copied()
    }

    /// What is here has changed.
    pub(super) fn askable_changed(&mut self) {
        self.shares.changed();
    }

    /// Whether the source that was opened for an answer is what was asked for. It is looked at once
    /// its hashes are known.
    pub(super) fn check_answer(&mut self, id: TransferId) -> bool {
        let Some(upload) = self.uploads.get(&id) else { return false };
        let Some(answer) = &upload.answers else { return true };
        let Some(head) = &upload.head else { return true };
        let is_same = match self.shares.by_hash.get(&answer.hash) {
            _ if answer.held.is_some() => head.file_hash() == answer.hash,
            Some(share) => head.file_hash() == answer.hash && head.root() == share.shared.root,
            None => false,
        };
        if !is_same {
            let hash = answer.hash;
            if let Some(path) = self.shares.path_of(hash) {
                let text = format!(
                    "`{}` has changed since it was shared, and is not served; `share` it again",
                    path.display()
                );
                self.event(Event::Warning { peer: None, text });
            }
            self.end_answer(id, &Failure::new(Code::NotFound, "it is not here any more"));
        }
        is_same
    }

    /// Ends an answer without a word to this side's user.
    pub(super) fn end_answer(&mut self, id: TransferId, failure: &Failure) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some(answer) = &upload.answers else { return };
        let (conn, state, ask) = (upload.conn, upload.state, answer.ask);
        if let Some(conn) = conn {
            if state >= State::Offered {
                let reason = Reason::new(failure.code.as_str(), failure.message.clone());
                self.send(conn, Message::Withdraw { id: OfferId(id.0), reason });
            } else {
                self.lack(conn, ask, failure.code);
            }
        }
        self.forget_answer(id);
    }

    /// The uploads that answer a peer's searches.
    pub(super) fn answers_to(&self, conn: ConnId) -> Vec<TransferId> {
        let answers = |upload: &Upload| upload.conn == Some(conn) && upload.answers.is_some();
        self.uploads.iter().filter(|(_, upload)| answers(upload)).map(|(id, _)| *id).collect()
    }

    /// Takes an answer out of the books, and tells of what was served by it.
    pub(super) fn forget_answer(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let (conn, peer, name, bytes) =
            (upload.conn, upload.peer, upload.name.clone(), upload.written_bytes());
        let hash = upload.answers.as_ref().map(|answer| answer.hash);
        if let Some(peer) = conn.and_then(|conn| self.peers.get_mut(conn)) {
            peer.answers = peer.answers.saturating_sub(1);
        }
        self.remove_upload(id);
        if let Some(hash) = hash
            && !self.uploads.values().any(|upload| upload.is_answer_to(hash))
        {
            self.sent_counts.remove(&hash);
        }
        if let Some(sha256) = hash.filter(|_| bytes > 0) {
            self.event(Event::Served { peer, name, sha256, bytes });
        }
        if let Some(conn) = conn {
            self.serve(conn);
        }
    }

    fn stop_serving(&mut self, hash: FileHash, why: &str) {
        let serves = |upload: &Upload| upload.answers.as_ref().is_some_and(|answer| answer.hash == hash);
        let ids: Vec<_> =
            self.uploads.iter().filter(|(_, upload)| serves(upload)).map(|(id, _)| *id).collect();
        for id in ids {
            self.end_answer(id, &Failure::new(Code::Withdrawn, why));
        }
    }

    /// A download has ended: what was served from it goes on where it is whole.
    pub(super) fn on_held_ended(&mut self, get: TransferId, is_whole: bool) {
        if is_whole {
            self.tell_held(get);
        }
        for id in self.served_from(get) {
            if is_whole {
                if let Some(answer) = self.uploads.get_mut(&id).and_then(|upload| upload.answers.as_mut()) {
                    answer.held = None;
                }
                continue;
            }
            self.end_answer(id, &Failure::new(Code::Withdrawn, "it was given up here"));
        }
    }

    pub(super) fn served_from(&self, get: TransferId) -> Vec<TransferId> {
        let is_from = |upload: &Upload| upload.answers.as_ref().is_some_and(|a| a.held == Some(get));
        self.uploads.iter().filter(|(_, upload)| is_from(upload)).map(|(id, _)| *id).collect()
    }

    /// Whether a peer may be given these chunks of what it was offered.
    pub(super) fn holds_all(&self, upload: &Upload, first: u32, end: u32) -> bool {
        let held = upload.answers.as_ref().and_then(|answer| answer.held);
        let Some(download) = held.and_then(|get| self.downloads.get(&get)) else { return true };
        // One that is in place has all of them.
        let chunks = &download.chunks;
        (first..end).all(|n| chunks.geometry.index(n.into()).is_some_and(|index| chunks.is_stored(index)))
    }

    /// A chunk of something that was searched for is here.
    pub(super) fn on_held(&mut self, get: TransferId, index: ChunkIndex) {
        let now = self.now;
        let Some(log) = self.gets.get_mut(&get).map(Get::log) else { return };
        log.chunks.push(index);
        if !std::mem::replace(&mut log.is_due, true) {
            self.timers.set(Deadline::Have(get), now + HAVE_PAUSE);
        }
    }

    pub(super) fn on_have_due(&mut self, get: TransferId) {
        if let Some(log) = self.gets.get_mut(&get).map(Get::log) {
            log.is_due = false;
        }
        self.tell_held(get);
    }

    /// Tells those who fetch what a download has of the chunks that came since they were last told.
    pub(super) fn tell_held(&mut self, get: TransferId) {
        for id in self.served_from(get) {
            self.tell_held_to(id, get);
        }
    }

    /// The same of one of them.
    pub(super) fn tell_held_to(&mut self, id: TransferId, get: TransferId) {
        let Some(log) = self.gets.get_mut(&get).map(Get::log) else { return };
        let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.state >= State::Offered) else {
            return;
        };
        let (Some(conn), Some(answer)) = (upload.conn, &mut upload.answers) else { return };
        let news = &log.chunks[answer.told.min(log.chunks.len())..];
        answer.told = log.chunks.len();
        let runs = runs_of(news.to_vec());
        for part in runs.chunks(MAX_RUNS) {
            self.send(conn, Message::Have { id: OfferId(id.0), chunks: part.to_vec() });
        }
    }

    /// An offer that answers a search is made: what is here of it follows.
    pub(super) fn on_answer_offered(&mut self, id: TransferId) {
        let held = self.uploads.get(&id).and_then(|upload| upload.answers.as_ref()?.held);
        if let Some(get) = held {
            self.tell_held_to(id, get);
        }
    }

    /// The receiver has what it asked for from elsewhere.
    pub(super) fn on_unpull(&mut self, conn: ConnId, number: OfferId, first: u32, count: u32) {
        let Some((_, upload)) = self.pulled_upload(conn, number) else { return };
        let Some(end) = first.checked_add(count) else { return };
        upload.withdraw_request(first, end);
    }

    /// What this side must prove to ask a peer for a content.
    pub(super) fn proof_for(&self, conn: ConnId, hash: FileHash) -> Option<AskProof> {
        let peer = self.peers.get(conn)?;
        Some(AskProof::new(peer.binding?, peer.side(), hash))
    }

    /// Whether a download is far enough to be served from.
    pub(super) fn can_be_held(&self, get: TransferId) -> bool {
        self.downloads
            .get(&get)
            .is_some_and(|download| download.state == DownloadState::Receiving && download.has_whole_list())
    }
}

impl super::peers::Peer {
    /// Which end of the connection this node is.
    pub(super) fn side(&self) -> Side {
        if self.dialled_by_us { Side::Dialler } else { Side::Listener }
    }
}
