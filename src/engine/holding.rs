//! What is being fetched as the source of others: which chunks are here, and who was told of them.
//!
//! Chunks are told of in the order in which they came, several together, to whoever fetches them from here.

use std::time::Duration;

use super::answers::Answer;
use super::downloads::State as DownloadState;
use super::gets::Get;
use super::uploads::Upload;
use super::{Code, ConnId, Deadline, Engine, Failure, TransferId};
use crate::wire::{ChunkIndex, MAX_RUNS, Message, OfferId, Runs};

/// Chunks of a content of which is counted how often they were sent: 256 GiB.
const MAX_COUNTED: usize = 1 << 20;

/// How long chunks that were stored wait to be told of together.
const HAVE_PAUSE: Duration = Duration::from_millis(300);

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

impl Engine {
    /// A download has ended: what was served from it goes on where it is whole.
    pub(super) fn on_held_ended(&mut self, get: TransferId, is_whole: bool) {
        for id in self.served_from(get) {
            let hash = self.uploads.get(&id).and_then(|upload| upload.answers.as_ref()).map(Answer::hash);
            let why = match is_whole {
                true if hash.is_some_and(|hash| self.shares.has(hash)) => {
                    self.tell_of_whole(id);
                    continue;
                }
                true => "it is not served here any longer",
                false => "it was given up here",
            };
            self.end_answer(id, &Failure::new(Code::Withdrawn, why));
        }
    }

    /// What is served of a download is whole, and is served on.
    fn tell_of_whole(&mut self, id: TransferId) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let (conn, chunks, is_offered) = (upload.conn, upload.chunks(), upload.is_offered());
        let Some(answer) = &mut upload.answers else { return };
        answer.held = None;
        if let Some(conn) = conn.filter(|_| is_offered && answer.told < chunks as usize) {
            self.send(conn, Message::Have { id: OfferId(id.0), chunks: vec![(0, chunks)] });
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

    /// The same of one of them. Of a large content that may be more than may wait to be written: then the rest
    /// follows when some of that is.
    fn tell_held_to(&mut self, id: TransferId, get: TransferId) {
        while let Some((conn, chunks)) = self.next_news(id, get) {
            self.send(conn, Message::Have { id: OfferId(id.0), chunks });
        }
    }

    /// What to tell next, no more than fits one message.
    fn next_news(&mut self, id: TransferId, get: TransferId) -> Option<(ConnId, Runs)> {
        let upload = self.uploads.get_mut(&id).filter(|upload| upload.is_offered())?;
        let (conn, answer) = (upload.conn?, upload.answers.as_mut()?);
        let untold = self.gets.get(&get)?.log.chunks.get(answer.told..)?;
        let news = &untold[..untold.len().min(MAX_RUNS)];
        let is_full = self.peers.get(conn)?.queued_bytes >= self.config.limits.control_bytes_queued / 2;
        answer.owes_news = is_full && !news.is_empty();
        if is_full || news.is_empty() {
            return None;
        }
        answer.told += news.len();
        Some((conn, runs_of(news.to_vec())))
    }

    /// Tells a peer what it could not be told because too much waited to be written to it.
    pub(super) fn tell_owed(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get(conn) else { return };
        let owed = |id: &TransferId| {
            let answer = self.uploads.get(id)?.answers.as_ref().filter(|answer| answer.owes_news)?;
            Some((*id, answer.held?))
        };
        for (id, get) in peer.active_uploads.iter().filter_map(owed).collect::<Vec<_>>() {
            self.tell_held_to(id, get);
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

    /// Whether a download is far enough to be served from.
    pub(super) fn can_be_held(&self, get: TransferId) -> bool {
        self.downloads
            .get(&get)
            .is_some_and(|download| download.state == DownloadState::Receiving && download.has_whole_list())
    }
}
