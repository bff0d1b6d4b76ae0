//! Uploads that answer a search: what is here goes to whoever has proven to know its hash.
//!
//! A share is opened anew for each who asks. Its hashes are remembered elsewhere; where they are not, one
//! answer has it hashed and the others wait for that, and a file that was written to just now is hashed for the
//! first who asks, and for all others no sooner than its hashes can be remembered. What has changed since it was shared is not served.
//! An answer ends without a word to this side's user, but for what was served.

use std::path::PathBuf;

use super::askable::Busy;
use super::gets::Get;
use super::peers::Peer;
use super::serving::Serving;
use super::uploads::{Form, Upload};
use super::{Code, ConnId, Deadline, Engine, Event, Failure, Job, Look, Stamp, TransferId};
use crate::wire::{AskId, AskProof, FileHash, Message, OfferId, Reason, SafeName, Side};

/// What an upload that answers a search is to know.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ask: AskId,
    hash: FileHash,
    /// The download whose chunks it serves, where that was not complete when it was asked for.
    pub(super) held: Option<TransferId>,
    /// Whether what is opened for it is that download's, also when that has ended.
    is_of_download: bool,
    /// How many of the chunks that the download has stored were told of, in the order of its log.
    pub(super) told: usize,
    /// Whether there are more that it is told of once the peer has read what it was told.
    pub(super) owes_news: bool,
    /// What the share looked like when it was opened.
    stamp: Option<Stamp>,
    hashing: Hashing,
    /// Whether it has waited until they could be remembered.
    has_waited: bool,
}

/// Where the hashes of a share come from that are not remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hashing {
    /// They are known, or it is not known yet whether they are.
    No,
    /// From another answer, or from this one at another time: until then nothing is done.
    Waits,
    /// From this answer.
    Runs,
}

impl Answer {
    fn new(ask: AskId, hash: FileHash, held: Option<TransferId>) -> Self {
        Self {
            ask,
            hash,
            held,
            is_of_download: held.is_some(),
            told: 0,
            owes_news: false,
            stamp: None,
            hashing: Hashing::No,
            has_waited: false,
        }
    }

    pub(super) fn hash(&self) -> FileHash {
        self.hash
    }

    /// Whether only a part may be here.
    pub(super) fn is_partial(&self) -> bool {
        self.held.is_some()
    }
}

impl Engine {
    /// A peer asks whether something is here.
    pub(super) fn on_ask(&mut self, conn: ConnId, ask: AskId, proof: AskProof) {
        let hash = match self.recognize(conn, proof) {
            Ok(Some(hash)) if self.may_have(conn, hash) => hash,
            Ok(_) => return self.lack(conn, ask, Code::NotFound),
            Err(Busy) => return self.lack(conn, ask, Code::Busy),
        };
        if self.is_asked_again(conn, ask, hash) || self.answer_with_share(conn, ask, hash) {
            return;
        }
        match self.get_of(hash) {
            Some(get) => self.note_asker(get, conn, ask),
            None => self.lack(conn, ask, Code::NotFound),
        }
    }

    /// Whoever asks again has given up what it asked before. `true` where that was not answered yet, and what is
    /// under way answers the new question: who asks all the time has nothing opened or hashed anew.
    fn is_asked_again(&mut self, conn: ConnId, ask: AskId, hash: FileHash) -> bool {
        let is_earlier = |upload: &Upload| upload.conn == Some(conn) && upload.is_answer_to(hash);
        let earlier = self.uploads.iter_mut().find(|(_, upload)| is_earlier(upload));
        let Some((&id, upload)) = earlier else { return false };
        if upload.is_offered() {
            self.end_answer(id, &Failure::new(Code::Withdrawn, "it was asked for again"));
            return self.peers.get(conn).is_none();
        }
        if let Some(answer) = &mut upload.answers {
            let earlier = std::mem::replace(&mut answer.ask, ask);
            self.lack(conn, earlier, Code::Busy);
        }
        true
    }

    /// Answers a search with what is shared; `false` where that is not there.
    fn answer_with_share(&mut self, conn: ConnId, ask: AskId, hash: FileHash) -> bool {
        let Some((name, path)) = self.shares.source_for(hash, self.now) else { return false };
        self.begin_answer(conn, Answer::new(ask, hash, None), name, Job::OpenSource(path));
        true
    }

    /// What a peer asked for was being fetched, and is not any more.
    pub(super) fn answer_after_get(&mut self, conn: ConnId, ask: AskId, hash: FileHash) {
        if !self.may_have(conn, hash) || !self.answer_with_share(conn, ask, hash) {
            self.lack(conn, ask, Code::NotFound);
        }
    }

    /// Whether a peer may have what is here of a content.
    pub(super) fn may_have(&self, conn: ConnId, hash: FileHash) -> bool {
        self.trusts(conn) || !self.is_known_only(hash)
    }

    /// Whether only trusted peers may have it.
    pub(super) fn is_known_only(&self, hash: FileHash) -> bool {
        let get = self.get_of(hash).and_then(|id| self.gets.get(&id));
        self.shares.is_known_only(hash) || get.is_some_and(Get::is_known_only)
    }

    fn trusts(&self, conn: ConnId) -> bool {
        let id = self.peers.get(conn).and_then(|peer| peer.node_id);
        id.is_some_and(|id| self.book.is_trusted(id) || self.config.node_id == Some(id))
    }

    pub(super) fn lack(&mut self, conn: ConnId, ask: AskId, code: Code) {
        self.send(conn, Message::Lack { id: ask, code: code.as_str().to_owned() });
    }

    /// Answers a search with what a download has so far.
    pub(super) fn answer_with_held(&mut self, conn: ConnId, ask: AskId, get: TransferId) {
        let Some(download) = self.downloads.get(&get) else { return };
        let Some(hash) = download.file_hash() else { return };
        let name = download.name.clone();
        // It may have asked before it was known who may have it.
        if !self.may_have(conn, hash) {
            return self.lack(conn, ask, Code::NotFound);
        }
        self.begin_answer(conn, Answer::new(ask, hash, Some(get)), name, Job::OpenHeld(get));
    }

    fn begin_answer(&mut self, conn: ConnId, answer: Answer, name: SafeName, job: Job) {
        self.make_room_for_answers();
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let limits = &self.config.limits;
        if self.downloads.len() + self.uploads.len() >= limits.transfers
            || peer.answers >= limits.answers_per_peer
        {
            return self.lack(conn, answer.ask, Code::Busy);
        }
        peer.answers += 1;
        let mut upload =
            Upload::new(conn, peer.addr, peer.process(), name, Form::Pulled(Serving::default()), self.now);
        upload.answers = Some(answer);
        let id = self.next_transfer_id();
        self.uploads.insert(id, upload);
        self.job(id, job);
    }

    /// Where most places are taken, the answer gives way whose peer has asked it for nothing for longest, so that
    /// who knows a hash and wants nothing keeps nobody from anything.
    fn make_room_for_answers(&mut self) {
        let most = self.config.limits.transfers - self.config.limits.transfers / 4;
        if self.downloads.len() + self.uploads.len() < most {
            return;
        }
        let unused =
            self.uploads.iter().filter(|(_, upload)| upload.is_offered() && upload.is_unused_answer());
        let longest = unused
            .filter_map(|(id, upload)| Some((*id, self.peers.get(upload.conn?)?)))
            .filter(|(_, peer)| !self.has_pulled_lately(peer))
            .min_by_key(|(id, peer)| (peer.pulled_at, *id))
            .map(|(id, _)| id);
        if let Some(id) = longest {
            self.end_answer(
                id,
                &Failure::new(Code::Busy, "nothing was asked for, and others want its place"),
            );
        }
    }

    fn has_pulled_lately(&self, peer: &Peer) -> bool {
        peer.pulled_at.is_some_and(|at| self.now < at + self.config.limits.confirmation_wait)
    }

    /// Whether nothing is under way with a peer, but answers that it has asked for nothing for long.
    pub(super) fn may_give_way(&self, peer: &Peer) -> bool {
        let is_unused = |id| self.uploads.get(id).is_some_and(Upload::is_unused_answer);
        let mut uploads = peer.active_uploads.iter().chain(&peer.waiting_uploads);
        peer.is_idle()
            || (peer.is_idle_but_for_uploads() && !self.has_pulled_lately(peer) && uploads.all(is_unused))
    }

    /// The content that a peer has proven to know, if that is here.
    fn recognize(&mut self, conn: ConnId, proof: AskProof) -> Result<Option<FileHash>, Busy> {
        let Some(peer) = self.peers.get(conn) else { return Ok(None) };
        let Some(binding) = peer.binding else { return Ok(None) };
        let known = (binding, peer.side().other());
        self.askable.recognize(conn, known, proof, self.now, &self.config.limits)
    }

    /// A content came to be here, or is not here any more.
    pub(super) fn askable_changed(&mut self, hash: FileHash) {
        let is_here = self.shares.has(hash) || self.get_of(hash).is_some();
        self.askable.set(hash, is_here, &self.config.limits);
    }

    /// What this side must prove to ask a peer for a content.
    pub(super) fn proof_for(&self, conn: ConnId, hash: FileHash) -> Option<AskProof> {
        let peer = self.peers.get(conn)?;
        Some(AskProof::new(peer.binding?, peer.side(), hash))
    }

    /// The source of an upload was opened; whether to go on with it now. That is so but for a share that
    /// is known to have changed, or is to be hashed by another answer or later.
    pub(super) fn goes_on_opened(&mut self, id: TransferId, size: u64, has_list: bool, look: Look) -> bool {
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        let Some(answer) = upload.answers.as_mut().filter(|answer| answer.held.is_none()) else {
            return true;
        };
        let hash = answer.hash;
        answer.stamp = Some(look.stamp);
        if !self.shares.is_known_to_have_changed(hash, look.stamp)
            && self.shares.size_of(hash).is_some_and(|shared| shared != size)
        {
            self.share_changed(hash, Some(look.stamp), None);
        }
        if self.shares.is_known_to_have_changed(hash, look.stamp) {
            self.end_answer(id, &not_here());
            return false;
        }
        has_list || self.may_hash(id, hash, look)
    }

    /// Whether an answer is to have its share hashed now, for all who wait for that.
    fn may_hash(&mut self, id: TransferId, hash: FileHash, look: Look) -> bool {
        let is_hashed = self.uploads.values().any(|upload| {
            upload.answers.as_ref().is_some_and(|a| a.hash == hash && a.hashing == Hashing::Runs)
        });
        let now = self.now;
        let Some(answer) = self.uploads.get_mut(&id).and_then(|upload| upload.answers.as_mut()) else {
            return false;
        };
        // Whoever asks first is not kept waiting, and nobody is twice: a file that is written to all the time is found
        // to have changed.
        let later = look.settles_in.filter(|_| !is_hashed && !answer.has_waited);
        let later = later.filter(|_| !self.shares.hashed_as(hash, look.stamp));
        answer.hashing = if is_hashed || later.is_some() { Hashing::Waits } else { Hashing::Runs };
        if let Some(settles_in) = later {
            self.timers.set(Deadline::Settled(hash), now + settles_in);
        }
        !is_hashed && later.is_none()
    }

    /// Those who wait for the hashes of a share look whether they are known now, or can be remembered.
    pub(super) fn wake_waiting(&mut self, hash: FileHash, is_settled: bool) {
        let path = self.shares.path_of(hash).cloned();
        for id in self.answers_about(hash) {
            let Some(answer) = self.uploads.get_mut(&id).and_then(|upload| upload.answers.as_mut()) else {
                continue;
            };
            if answer.hashing != Hashing::Waits {
                continue;
            }
            answer.hashing = Hashing::No;
            answer.has_waited |= is_settled;
            match &path {
                Some(path) => self.job(id, Job::OpenSource(PathBuf::clone(path))),
                None => self.end_answer(id, &not_here()),
            }
        }
    }

    /// Whether the source that was opened for an answer is what was asked for. It is looked at once
    /// its hashes are known.
    pub(super) fn check_answer(&mut self, id: TransferId) -> bool {
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        let Some(answer) = &mut upload.answers else { return true };
        let Some(head) = &upload.head else { return true };
        let (hash, stamp) = (answer.hash, answer.stamp);
        let was_hashed = std::mem::replace(&mut answer.hashing, Hashing::No) == Hashing::Runs;
        let is_held = answer.held.is_some();
        let is_same = match self.shares.root_of(hash) {
            _ if is_held => head.file_hash() == hash,
            Some(root) => head.file_hash() == hash && head.root() == root,
            None => false,
        };
        if is_same && !is_held {
            self.shares.found_unchanged(hash);
            self.review_announcement(hash);
        }
        if !is_same {
            self.share_changed(hash, stamp, None);
            self.end_answer(id, &not_here());
        }
        if was_hashed {
            self.wake_waiting(hash, false);
        }
        is_same
    }

    /// The source of an upload cannot be read. If it is a share, whoever shared it hears of it once.
    pub(super) fn on_source_failed(&mut self, id: TransferId, failure: &Failure) {
        let Some(answer) = self.uploads.get(&id).and_then(|upload| upload.answers.as_ref()) else { return };
        let (hash, stamp) = (answer.hash, answer.stamp);
        match failure.code {
            _ if answer.held.is_some() => {}
            Code::SourceChanged => self.share_changed(hash, stamp, None),
            _ => self.share_changed(hash, None, Some(failure)),
        }
    }

    /// What a download has could not be opened because that has ended meanwhile: what became of it is opened
    /// instead, where it is shared.
    pub(super) fn opens_share_instead(&mut self, id: TransferId) -> bool {
        let Some(upload) = self.uploads.get_mut(&id).filter(|upload| upload.geometry.is_none()) else {
            return false;
        };
        let ended = upload.answers.as_mut().filter(|answer| answer.is_of_download && answer.held.is_none());
        let Some(answer) = ended else { return false };
        let Some((_, path)) = self.shares.source_for(answer.hash, self.now) else { return false };
        answer.is_of_download = false;
        self.job(id, Job::OpenSource(path));
        true
    }

    /// Ends an answer without a word to this side's user.
    pub(super) fn end_answer(&mut self, id: TransferId, failure: &Failure) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some(answer) = &upload.answers else { return };
        let (conn, ask) = (upload.conn, answer.ask);
        if let Some(conn) = conn {
            if upload.is_offered() {
                let reason = Reason::new(failure.code.as_str(), failure.message.clone());
                self.send(conn, Message::Withdraw { id: OfferId(id.0), reason });
            } else {
                let code = if failure.code == Code::Busy { Code::Busy } else { Code::NotFound };
                self.lack(conn, ask, code);
            }
        }
        self.forget_answer(id);
    }

    /// The uploads that answer a peer's searches.
    pub(super) fn answers_to(&self, conn: ConnId) -> Vec<TransferId> {
        let answers = |upload: &Upload| upload.conn == Some(conn) && upload.answers.is_some();
        self.uploads.iter().filter(|(_, upload)| answers(upload)).map(|(id, _)| *id).collect()
    }

    fn answers_about(&self, hash: FileHash) -> Vec<TransferId> {
        self.uploads.iter().filter(|(_, upload)| upload.is_answer_to(hash)).map(|(id, _)| *id).collect()
    }

    /// Takes an answer out of the books, and tells of what was served by it.
    pub(super) fn forget_answer(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let (conn, peer, name, bytes) =
            (upload.conn, upload.peer, upload.name.clone(), upload.written_bytes());
        let node_id = upload.process.map(|(id, _)| id);
        let hash = upload.answers.as_ref().map(|answer| answer.hash);
        let was_hashed = upload.answers.as_ref().is_some_and(|answer| answer.hashing == Hashing::Runs);
        if let Some(peer) = conn.and_then(|conn| self.peers.get_mut(conn)) {
            peer.answers = peer.answers.saturating_sub(1);
        }
        self.remove_upload(id);
        if let Some(hash) = hash
            && !self.uploads.values().any(|upload| upload.is_answer_to(hash))
        {
            self.sent_counts.remove(&hash);
            self.timers.clear(Deadline::Settled(hash));
        }
        if let Some(sha256) = hash.filter(|_| bytes > 0) {
            self.event_with(node_id, Event::Served { peer, name, sha256, bytes });
        }
        if let Some(hash) = hash.filter(|_| was_hashed) {
            self.wake_waiting(hash, false);
        }
        if let Some(conn) = conn {
            self.serve(conn);
        }
    }

    pub(super) fn stop_serving(&mut self, hash: FileHash, why: &str) {
        for id in self.answers_about(hash) {
            self.end_answer(id, &Failure::new(Code::Withdrawn, why));
        }
    }

    /// Who may have a content, or is trusted, has changed: ends the answers to those who may not have it any more.
    pub(super) fn end_forbidden_answers(&mut self) {
        let is_forbidden = |upload: &Upload| {
            let answer = upload.answers.as_ref().zip(upload.conn);
            answer.is_some_and(|(answer, conn)| !self.may_have(conn, answer.hash))
        };
        let ids: Vec<_> =
            self.uploads.iter().filter(|(_, upload)| is_forbidden(upload)).map(|(id, _)| *id).collect();
        for id in ids {
            self.end_answer(id, &Failure::new(Code::Withdrawn, "it is not shared with you any longer"));
        }
    }
}

fn not_here() -> Failure {
    Failure::new(Code::NotFound, "it is not here any more")
}

impl Peer {
    /// Which end of the connection this node is.
    pub(super) fn side(&self) -> Side {
        if self.dialled_by_us { Side::Dialler } else { Side::Listener }
    }
}
