//! Uploads to peers that pull: what they may ask for, and in which order it can be had.
//!
//! A file whose hashes are known is served in any order. One that is hashed while it travels can
//! be read no further than it was hashed, so a receiver must ask in order for what is new. Either way
//! a chunk that was asked for twice is sent twice.

use bytes::Bytes;

use super::answers::Answer;
use super::uploads::{Form, State, Upload};
use super::{Code, ConnId, Deadline, Engine, Failure, Job, Kept, TransferId};
use crate::wire::{CHUNK_SIZE, ChunkIndex, ContentOffer, Message, OfferId, Prefix, Reason};

/// Chunks of one file that may be asked for and not read: more than the window of any receiver.
const CHUNKS_ASKED: u64 = 256;

/// Pages of one file that may be asked for and not read.
const PAGES_ASKED: usize = 4;

/// What a receiver that pulls needs to be remembered.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// It was offered without a list.
    pub(super) is_late: bool,
    /// The receiver wants the list before anything else, and the file is being hashed for that.
    listing: bool,
    /// What the receiver says it has, while that is being compared.
    pub(super) kept: Option<Kept>,
    /// Bytes at the beginning that the receiver had, and not from this upload before its connection broke.
    pub(super) skipped_bytes: u64,
    /// The first chunk that nobody asked for and that was not hashed.
    frontier: u32,
    /// Whether the list is being closed, or was.
    sealing: bool,
    /// The receiver was told what the file consists of.
    sealed: bool,
    /// Pages asked for that are being read.
    pages_asked: Vec<u32>,
    /// The only page, while it is read for the offer.
    offering: bool,
}

impl Serving {
    pub(super) fn is_sealing(&self) -> bool {
        self.sealing
    }

    pub(super) fn is_listing(&self) -> bool {
        self.listing
    }

    /// Whether its offer waits for its only page.
    pub(super) fn is_offering(&self) -> bool {
        self.offering
    }

    /// Whether nothing can be asked for yet.
    fn is_busy(&self) -> bool {
        self.kept.is_some() || self.listing
    }

    /// The connection broke.
    pub(super) fn interrupt(&mut self) {
        self.kept = None;
        self.listing = false;
        self.sealing = false;
        self.sealed = false;
        self.pages_asked.clear();
        // Who comes back asks in order again, from what both have.
        self.frontier = 0;
        self.offering = false;
    }
}

impl Engine {
    /// Offers a file to a peer that pulls.
    pub(super) fn offer_content(&mut self, conn: ConnId, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let Form::Pulled(serving) = &mut upload.form else { return };
        serving.is_late = upload.head.is_none();
        let pages = upload.head.as_ref().map_or(0, |head| head.pages());
        if pages == 1 {
            // A small list travels with the offer.
            serving.offering = true;
            return self.job(id, Job::ReadPage(0));
        }
        self.send_offer(conn, id, Bytes::new());
    }

    fn send_offer(&mut self, conn: ConnId, id: TransferId, page: Bytes) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let offer = ContentOffer {
            id: OfferId(id.0),
            answers: upload.answers.as_ref().map(|answer| answer.ask),
            is_partial: upload.answers.as_ref().is_some_and(Answer::is_partial),
            is_known_only: upload.answers.as_ref().is_some_and(|answer| self.is_known_only(answer.hash())),
            name: upload.name.clone(),
            size: upload.size(),
            tree: upload.tree,
            head: upload.head.clone(),
            page,
        };
        self.send(conn, Message::Offer(offer));
        self.on_answer_offered(id);
    }

    /// The upload that a peer calls by its number; none that it was not offered yet.
    pub(super) fn pulled_upload(&mut self, conn: ConnId, id: OfferId) -> Option<(TransferId, &mut Upload)> {
        let id = TransferId(id.0);
        let upload = self.uploads.get_mut(&id)?;
        (upload.conn == Some(conn) && upload.is_pulled() && upload.is_offered()).then_some((id, upload))
    }

    pub(super) fn on_pull_accept(
        &mut self,
        conn: ConnId,
        id: OfferId,
        kept: Option<Prefix>,
        wants_list: bool,
    ) {
        let now = self.now;
        let Some((id, upload)) = self.pulled_upload(conn, id) else { return };
        if upload.state != State::Offered {
            // The receiver is busy with what it has.
            return self.await_confirmation(id);
        }
        upload.begin(now);
        let chunks = upload.chunks();
        let Form::Pulled(serving) = &mut upload.form else { return };
        let kept = kept.filter(|kept| serving.is_late && kept.chunks > 0);
        serving.listing = wants_list && serving.is_late && kept.is_none();
        let is_listing = serving.listing;
        let answered = upload.answers.as_ref().map(Answer::hash);
        self.timers.clear(Deadline::Offer(id));
        self.await_confirmation(id);
        if let Some(hash) = answered {
            self.tell_of_others(conn, OfferId(id.0), hash);
        }
        match kept {
            Some(kept) if kept.chunks > chunks => {
                self.fail_upload(
                    id,
                    Failure::new(Code::Declined, "the receiver has more chunks than there are"),
                );
            }
            Some(kept) => {
                let Some(Form::Pulled(serving)) = self.uploads.get_mut(&id).map(|upload| &mut upload.form)
                else {
                    return;
                };
                serving.kept = Some(kept);
                self.job(id, Job::HashSource { until: kept.chunks });
            }
            None if is_listing => self.job(id, Job::HashSource { until: chunks }),
            None => {}
        }
    }

    /// A part of what the receiver has is hashed, or all of it.
    pub(super) fn on_skipping(&mut self, id: TransferId, hashed: Kept) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let Form::Pulled(serving) = &mut upload.form else { return };
        let Some(kept) = serving.kept else { return };
        self.upload_progress(id);
        self.await_confirmation(id);
        // It may be the answer to what was asked for on a connection that broke.
        if hashed.chunks != kept.chunks {
            return self.job(id, Job::HashSource { until: kept.chunks });
        }
        self.tell_resumed(id, hashed.chunks == kept.chunks && hashed.state == kept.state);
    }

    fn tell_resumed(&mut self, id: TransferId, is_beginning: bool) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let (conn, size, written) = (upload.conn, upload.size(), upload.written_bytes());
        let Form::Pulled(serving) = &mut upload.form else { return };
        let Some(kept) = serving.kept.take() else { return };
        serving.frontier = serving.frontier.max(kept.chunks);
        let chunk = if is_beginning { kept.chunks } else { 0 };
        let had = (u64::from(chunk) * u64::from(CHUNK_SIZE)).min(size);
        serving.skipped_bytes = had.saturating_sub(written);
        let Some(conn) = conn else { return };
        self.send(conn, Message::Resumed { id: OfferId(id.0), chunk });
        self.seal_if_hashed(id);
    }

    pub(super) fn on_pull(&mut self, conn: ConnId, id: OfferId, first: u32, count: u32) {
        let Some((id, upload)) = self.pulled_upload(conn, id) else { return };
        if upload.state != State::Sending {
            return self.refuse(conn, "it asked for chunks of a file that it had not accepted");
        }
        let chunks = upload.chunks();
        let known = upload.head.is_some();
        let asked: u64 = upload.requested.iter().map(|range| u64::from(range.end - range.start)).sum();
        let Form::Pulled(serving) = &mut upload.form else { return };
        let end = first.checked_add(count).filter(|end| *end <= chunks && count > 0);
        let Some(end) = end.filter(|_| asked + u64::from(count) <= CHUNKS_ASKED && !serving.is_busy()) else {
            return self.refuse(conn, "it asked for chunks that the file does not have, or for too many");
        };
        if !known && first > serving.frontier {
            return self.refuse(conn, "it asked for chunks out of order of a file that is still hashed");
        }
        if self.uploads.get(&id).is_some_and(|upload| !self.holds_all(upload, first, end)) {
            return self.refuse(conn, "it asked for chunks that it was not told to be here");
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let Form::Pulled(serving) = &mut upload.form else { return };
        serving.frontier = serving.frontier.max(end);
        upload.requested.push_back(first..end);
        self.note_pull(conn);
        self.await_confirmation(id);
        self.read_ahead(conn);
    }

    /// A peer asks for something of what it was offered: it means to have it.
    fn note_pull(&mut self, conn: ConnId) {
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.pulled_at = Some(now);
        }
    }

    /// The last chunk was read, with which all are hashed.
    pub(super) fn after_chunk_read(&mut self, id: TransferId, index: ChunkIndex) {
        let Some(upload) = self.uploads.get(&id) else { return };
        if upload.is_pulled() && index.get() + 1 == upload.chunks() {
            self.seal_if_hashed(id);
        }
    }

    fn seal_if_hashed(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let chunks = upload.chunks();
        let known = upload.head.is_some();
        let sending = upload.state == State::Sending && upload.conn.is_some();
        let Form::Pulled(serving) = &mut upload.form else { return };
        if !serving.is_late || serving.sealing || serving.frontier < chunks || !sending {
            return;
        }
        serving.sealing = true;
        if known {
            self.send_seal(id);
        } else {
            self.job(id, Job::HashSource { until: chunks });
        }
    }

    /// All of the file is hashed.
    pub(super) fn on_sealed(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let Form::Pulled(serving) = &mut upload.form else { return };
        let chunks = upload.geometry.map_or(0, crate::wire::Geometry::chunks);
        if let Some(kept) = serving.kept
            && let Some(head) = &upload.head
        {
            if kept.chunks < chunks {
                // All of it was hashed for a connection that broke; the state is still to come.
                return;
            }
            // The receiver has all of it: the hash tells whether it is the same. No state would, of
            // which the bytes behind the last whole block are no part.
            let is_same = kept.state.0 == head.file_hash().0;
            return self.tell_resumed(id, is_same);
        }
        if std::mem::take(&mut serving.listing) {
            // From here on it is one whose list was known when it was offered.
            serving.is_late = false;
            return self.send_seal(id);
        }
        if serving.sealing {
            self.send_seal(id);
        }
    }

    fn send_seal(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let Form::Pulled(serving) = &mut upload.form else { return };
        if let (Some(conn), Some(head), false) = (upload.conn, upload.head.clone(), serving.sealed) {
            serving.sealed = true;
            self.send(conn, Message::Seal { id: OfferId(id.0), head });
        }
    }

    pub(super) fn on_pull_page(&mut self, conn: ConnId, id: OfferId, page: u32) {
        let Some((id, upload)) = self.pulled_upload(conn, id) else { return };
        let sending = upload.state == State::Sending;
        let pages = upload.head.as_ref().map_or(0, |head| head.pages());
        let Form::Pulled(serving) = &mut upload.form else { return };
        if !sending || page >= pages || serving.pages_asked.len() >= PAGES_ASKED {
            return self.refuse(conn, "it asked for pages that the list does not have, or for too many");
        }
        serving.pages_asked.push(page);
        self.note_pull(conn);
        self.await_confirmation(id);
        self.job(id, Job::ReadPage(page));
    }

    pub(super) fn on_page_read(&mut self, id: TransferId, page: u32, entries: Bytes) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let conn = upload.conn;
        let Form::Pulled(serving) = &mut upload.form else { return };
        let Some(conn) = conn else { return };
        if std::mem::take(&mut serving.offering) {
            self.send_offer(conn, id, entries);
        } else if let Some(at) = serving.pages_asked.iter().position(|asked| *asked == page) {
            serving.pages_asked.remove(at);
            self.send(conn, Message::Page { id: OfferId(id.0), page, entries });
        }
    }

    pub(super) fn on_done(&mut self, conn: ConnId, id: OfferId) {
        let Some((id, upload)) = self.pulled_upload(conn, id) else { return };
        let Form::Pulled(serving) = &upload.form else { return };
        let told = upload.head.is_some() && (!serving.is_late || serving.sealing);
        if told {
            self.upload_sent(id, true);
        } else {
            self.refuse(conn, "it confirmed a file before it could know what the file is; that was ignored");
        }
    }

    pub(super) fn on_refused(&mut self, conn: ConnId, id: OfferId, reason: &Reason) {
        let Some((id, _)) = self.pulled_upload(conn, id) else { return };
        self.end_upload(id, Failure::from_peer("receiver", reason, Code::Declined));
    }
}
