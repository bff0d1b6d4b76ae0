//! What is kept for a person to look up later: messages, and what became of transfers.
//!
//! Which of the [`Event`]s are worth that, with whom they were, and which of what was kept a person
//! asks for. Whoever keeps it adds the time, which the engine does not know.

mod room;

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::downloads::Download;
use super::uploads::Upload;
use super::{Code, CommandId, Direction, Engine, Event, Failure, Output, PeerRef, Reply, TransferId};
use crate::wire::{FileHash, NodeId};

pub use room::{HistoryLine, bytes_in, fit};

/// Digits of an identity that find what is kept of somebody who is not known any more.
const MIN_PREFIX: usize = 4;

/// Something that happened, as it is written down and as `--json` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When; written in milliseconds, so that times of equal length sort as text does.
    #[serde(serialize_with = "in_millis")]
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub of: Remembered,
}

fn in_millis<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// Something that happened. What came from a peer is as the peer sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The address of the connection; `None` where it was with nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// Who that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// What this side called it; when it is told, what it is called by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Whether this side knew nothing of it then: nobody had connected to it, named it or trusted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stranger: bool,
    /// What.
    #[serde(flatten)]
    pub what: Past,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Past {
    /// A text.
    Message {
        /// Which way.
        direction: Direction,
        /// The text.
        text: String,
    },
    /// Texts that were sent, and are not known to have arrived.
    Undelivered {
        /// How many.
        texts: usize,
    },
    /// A transfer ended.
    Transfer(Box<PastTransfer>),
    /// What was here before, of that peer, of strangers or of this side, and had to give way.
    LeftOut {
        /// How many entries.
        entries: u64,
    },
}

/// How a transfer ended, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastTransfer {
    /// Which way.
    pub direction: Direction,
    /// How.
    pub outcome: Outcome,
    /// What it is called.
    pub name: String,
    /// Its size in bytes, where that was known; of what was served, as much as was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its hash, where it is a file and that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<FileHash>,
    /// Files in it, where it is a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u32>,
    /// Where it lies here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether it was there before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Whether nobody said that it arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is here.
    Received,
    /// It is there.
    Sent,
    /// A peer fetched it, or a part of it.
    Served,
    /// It did not come about.
    Failed,
}

/// A kind of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryKind {
    /// What was said.
    Messages,
    /// What was sent and received.
    Transfers,
}

/// What somebody wants to know of what was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// With whom; `None` for everybody.
    pub whom: Option<Whom>,
    /// Of what kind; `None` for all.
    pub only: Option<HistoryKind>,
    /// At most so many, the latest.
    pub most: usize,
}

/// Somebody in what was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// An identity, whatever it was called.
    Identity(NodeId),
    /// Somebody who is not known now: an alias or an address of then, or the beginning of an identity.
    Called(String),
}

impl Whom {
    fn is(&self, of: &Remembered) -> bool {
        match self {
            Self::Identity(id) => of.node_id == Some(*id),
            Self::Called(name) => {
                let begins = |id: NodeId| {
                    name.len() >= MIN_PREFIX && id.to_string().starts_with(&name.to_ascii_lowercase())
                };
                of.alias.as_ref() == Some(name)
                    || of.peer.is_some_and(|peer| peer.to_string() == *name)
                    || of.node_id.is_some_and(begins)
            }
        }
    }
}

impl HistoryQuery {
    /// Whether it asks for this.
    pub fn wants(&self, of: &Remembered) -> bool {
        let kind = match of.what {
            Past::Message { .. } | Past::Undelivered { .. } => Some(HistoryKind::Messages),
            Past::Transfer(_) => Some(HistoryKind::Transfers),
            // It may have been of both.
            Past::LeftOut { .. } => None,
        };
        let is_it = kind.is_none() || self.only.is_none() || self.only == kind;
        is_it && self.whom.as_ref().is_none_or(|whom| whom.is(of))
    }
}

/// A transfer of which nothing but this is known.
fn past(direction: Direction, outcome: Outcome, name: &str) -> PastTransfer {
    PastTransfer {
        direction,
        outcome,
        name: name.to_owned(),
        size: None,
        sha256: None,
        files: None,
        path: None,
        already: false,
        unconfirmed: false,
        code: None,
        reason: None,
    }
}

/// What is kept of an event, as far as the event tells; `None` where nothing is.
fn past_of(event: &Event) -> Option<(Option<SocketAddr>, Past)> {
    let (peer, transfer) = match event {
        Event::Message { peer, text } => {
            return Some((Some(*peer), Past::Message { direction: Direction::In, text: text.clone() }));
        }
        Event::Undelivered { peer, texts } => {
            return Some((Some(*peer), Past::Undelivered { texts: *texts }));
        }
        Event::Received { peer, name, path, size, sha256, files, already, .. } => {
            let path = Some(path.to_string_lossy().into_owned());
            let (size, sha256) = (Some(*size), Some(*sha256));
            let of = past(Direction::In, Outcome::Received, name.as_str());
            (Some(*peer), PastTransfer { path, size, sha256, files: *files, already: *already, ..of })
        }
        Event::Sent { peer, name, size, sha256, files, confirmed, already, .. } => {
            let (size, sha256, unconfirmed) = (Some(*size), Some(*sha256), !confirmed);
            let of = past(Direction::Out, Outcome::Sent, name.as_str());
            (Some(*peer), PastTransfer { size, sha256, files: *files, already: *already, unconfirmed, ..of })
        }
        Event::Served { peer, name, sha256, bytes } => {
            let of = past(Direction::Out, Outcome::Served, name.as_str());
            (Some(*peer), PastTransfer { size: Some(*bytes), sha256: Some(*sha256), ..of })
        }
        Event::TransferFailed { peer, name, direction, code, reason, .. } => {
            let (code, reason) = (Some(*code), Some(reason.clone()));
            (*peer, PastTransfer { code, reason, ..past(*direction, Outcome::Failed, name.as_str()) })
        }
        _ => return None,
    };
    Some((peer, Past::Transfer(Box::new(transfer))))
}

impl Engine {
    /// Tells of something, and has it kept where it is worth that. `node_id` is with whom it is, where
    /// that peer may have left already.
    pub(super) fn event_with(&mut self, node_id: Option<NodeId>, event: Event) {
        if let Some((peer, mut what)) = past_of(&event) {
            let whose = match &event {
                Event::Received { id, sources, .. } => {
                    self.complete(*id, &mut what).or(sources.first().and_then(|most| most.node_id))
                }
                Event::Sent { id, .. } | Event::TransferFailed { id, .. } => self.complete(*id, &mut what),
                _ => None,
            };
            self.remember(peer, node_id.or(whose), what);
        }
        self.outputs.push_back(Output::Event(event));
    }

    /// Adds what a transfer that is about to end is known by, and answers with whom it is.
    fn complete(&self, id: TransferId, what: &mut Past) -> Option<NodeId> {
        let Past::Transfer(of) = what else { return None };
        let (upload, download) = (self.uploads.get(&id), self.downloads.get(&id));
        of.path = of.path.take().or(upload.and_then(Upload::source_path));
        of.size = of.size.or(upload.and_then(Upload::known_size)).or(download.map(Download::size));
        of.files = of.files.or(download.and_then(Download::files));
        of.sha256 =
            of.sha256.or(upload.and_then(Upload::file_hash)).or(download.and_then(Download::file_hash));
        if of.files.is_some() {
            // A directory has a hash, but none that any other program would print.
            of.sha256 = None;
        }
        upload.and_then(|upload| upload.process).map(|(id, _)| id).or(download.and_then(Download::sender))
    }

    /// Has it kept that a person here did not want what was offered, of which no event tells: whoever
    /// watches has said so. Before the offer is forgotten.
    pub(super) fn remember_unwanted(&mut self, id: TransferId, failure: &Failure) {
        let Some(download) = self.downloads.get(&id) else { return };
        let peer = download.told_peer();
        let (code, reason) = (Some(failure.code), Some(failure.message.clone()));
        let failed = past(Direction::In, Outcome::Failed, download.name.as_str());
        let mut what = Past::Transfer(Box::new(PastTransfer { code, reason, ..failed }));
        let node_id = self.complete(id, &mut what);
        self.remember(peer, node_id, what);
    }

    /// Has something kept.
    pub(super) fn remember(&mut self, peer: Option<SocketAddr>, node_id: Option<NodeId>, what: Past) {
        let connected = || {
            let there = self.peers.iter().find(|(_, there)| Some(there.addr) == peer);
            there.and_then(|(_, there)| there.node_id)
        };
        let node_id = node_id.or_else(connected);
        let alias = node_id.and_then(|id| self.book.alias_of(id)).map(ToString::to_string);
        let stranger = peer.is_some() && !node_id.is_some_and(|id| self.book.is_known(id));
        self.outputs.push_back(Output::Remember(Remembered { peer, node_id, alias, stranger, what }));
    }

    pub(super) fn read_history(
        &mut self,
        command: CommandId,
        peer: Option<&PeerRef>,
        only: Option<HistoryKind>,
        most: usize,
    ) {
        let whom = peer.map(|peer| match self.who(peer) {
            Ok(Some(id)) => Ok(Whom::Identity(id)),
            Ok(None) => Ok(Whom::Called(peer.to_string())),
            Err(failure) => Err(failure),
        });
        match whom.transpose() {
            Ok(whom) => {
                let query = HistoryQuery { whom, only, most };
                self.outputs.push_back(Output::ReadHistory { command, query });
            }
            Err(failure) => self.reply(command, Err(failure)),
        }
    }

    pub(super) fn on_history_read(&mut self, command: CommandId, result: Result<Vec<HistoryEntry>, Failure>) {
        let called_now = |mut entry: HistoryEntry| {
            let alias = entry.of.node_id.and_then(|id| self.book.alias_of(id));
            entry.of.alias = alias.map(ToString::to_string).or(entry.of.alias);
            entry
        };
        let result = result.map(|entries| Reply::History(entries.into_iter().map(called_now).collect()));
        self.reply(command, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(peer: &str, id: u8, alias: Option<&str>) -> Remembered {
        let what = Past::Message { direction: Direction::In, text: "hello".into() };
        let alias = alias.map(str::to_owned);
        Remembered { peer: peer.parse().ok(), node_id: Some(NodeId([id; 32])), alias, stranger: false, what }
    }

    fn finds(whom: Whom, of: &Remembered) -> bool {
        HistoryQuery { whom: Some(whom), only: None, most: 1 }.wants(of)
    }

    #[test]
    fn somebody_is_found_by_identity_and_by_what_it_was_called_then() {
        let bob = with("192.0.2.5:1", 0xb0, Some("bob"));
        let called = |name: &str| finds(Whom::Called(name.to_owned()), &bob);
        assert!(finds(Whom::Identity(NodeId([0xb0; 32])), &bob));
        assert!(!finds(Whom::Identity(NodeId([0xb1; 32])), &bob));
        for name in ["bob", "192.0.2.5:1", "b0b0", "B0B0b0"] {
            assert!(called(name), "{name}");
        }
        for name in ["bo", "b0b", "192.0.2.5:11", "b0b1", ""] {
            assert!(!called(name), "{name}");
        }
    }

    #[test]
    fn messages_and_transfers_can_be_told_apart() {
        let message = with("192.0.2.5:1", 1, None);
        let failed = past(Direction::In, Outcome::Failed, "x");
        let transfer = Remembered { what: Past::Transfer(Box::new(failed)), ..message.clone() };
        let lost = Remembered { what: Past::Undelivered { texts: 1 }, ..message.clone() };
        let wanted = |only, of: &Remembered| HistoryQuery { whom: None, only, most: 1 }.wants(of);
        for of in [&message, &transfer, &lost] {
            assert!(wanted(None, of));
            assert_ne!(wanted(Some(HistoryKind::Messages), of), wanted(Some(HistoryKind::Transfers), of));
        }
        assert!(wanted(Some(HistoryKind::Messages), &lost));
        assert!(wanted(Some(HistoryKind::Transfers), &transfer));
    }

    #[test]
    fn an_entry_is_one_line_that_says_the_same_when_it_is_read() {
        let text = "two\nlines \u{1b}[2J \u{202e}";
        let what = Past::Message { direction: Direction::Out, text: text.into() };
        let of = Remembered { what, ..with("[2001:db8::1]:8000", 7, Some("anna")) };
        let entry = HistoryEntry { time: "2026-11-30T21:58:32.125Z".parse().unwrap(), of };
        let line = serde_json::to_string(&entry).unwrap();
        let even = HistoryEntry { time: "2026-11-30T21:58:32Z".parse().unwrap(), ..entry.clone() };
        assert!(serde_json::to_string(&even).unwrap().contains("21:58:32.000Z"), "times sort as text");
        assert!(!line.contains('\n'));
        assert!(
            line.starts_with(r#"{"time":"2026-11-30T21:58:32.125Z","peer":"[2001:db8::1]:8000""#),
            "{line}"
        );
        assert!(line.contains(r#""kind":"message","direction":"out""#), "{line}");
        assert_eq!(serde_json::from_str::<HistoryEntry>(&line).unwrap(), entry);

        let code = Some(Code::HashMismatch);
        let failed = PastTransfer { code, size: Some(3), ..past(Direction::In, Outcome::Failed, "x") };
        let of = Remembered { what: Past::Transfer(Box::new(failed)), ..entry.of.clone() };
        let entry = HistoryEntry { of, ..entry };
        let line = serde_json::to_string(&entry).unwrap();
        assert!(line.ends_with(
            r#""kind":"transfer","direction":"in","outcome":"failed","name":"x","size":3,"code":"hash_mismatch"}"#
        ), "{line}");
        assert_eq!(serde_json::from_str::<HistoryEntry>(&line).unwrap(), entry);
    }
}
