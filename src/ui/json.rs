//! The events of `--json`: one object on each line.
//!
//! The names here are a promise to scripts (DESIGN.md, "What a user types"): fields and events may
//! be added, none changes. Invariant: a line is valid JSON without a raw control character, C1 code
//! or bidirectional override, so that it may also be read on a terminal.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::Serialize;

use crate::engine::{
    AddressInfo, AddressSource, BanInfo, Bottleneck, Command, Delivery, DhtInfo, DhtState, Direction, Event,
    Failure, HistoryEntry, LimitsInfo, NearbyInfo, NodeInfo, OutboxInfo, OutboxItem, PeerInfo, Rate, Record,
    Reply, ShareInfo, TransferId, TransferInfo, Witness,
};
use crate::wire::{FileHash, Instance, LinkKind, NodeId, SafeName, is_deceptive};

use super::known::Known;
use super::parse::{COMMANDS, Spec};
use super::progress::Rates;
use super::render::{Asked, Render};

/// Lines for programs.
pub(super) struct Json;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Listening {
        addr: SocketAddr,
    },
    Mapped {
        addr: SocketAddr,
        by: &'static str,
        public: bool,
    },
    PeerConnected {
        peer: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        dialled: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        node_id: Option<NodeId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        alias: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<SocketAddr>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        first_contact: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        again: bool,
        level: &'a str,
    },
    FirstContact {
        peer: SocketAddr,
        dialled: String,
        node_id: NodeId,
    },
    PeerNamed {
        peer: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        alias: Option<String>,
    },
    PeerDisconnected {
        peer: SocketAddr,
        reason: &'a str,
    },
    Message {
        peer: SocketAddr,
        text: &'a str,
    },
    Offer {
        id: u64,
        peer: SocketAddr,
        name: &'a str,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<FileHash>,
        #[serde(skip_serializing_if = "Option::is_none")]
        files: Option<u32>,
        /// Whether it was taken without asking.
        accepted: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in_s: Option<u64>,
        /// Bytes that it would leave free, where that is less than is to stay free.
        #[serde(skip_serializing_if = "Option::is_none")]
        leaves: Option<u64>,
    },
    Progress {
        id: u64,
        bytes: u64,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
        name: &'a str,
        direction: &'a str,
        stage: &'a str,
    },
    Received {
        id: u64,
        peer: SocketAddr,
        name: &'a str,
        path: &'a str,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<FileHash>,
        #[serde(skip_serializing_if = "Option::is_none")]
        files: Option<u32>,
        already: bool,
        elapsed_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        limited_by: Option<&'a str>,
        /// Who delivered how much, where it was searched for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sources: Vec<SourceRow>,
    },
    Found {
        id: u64,
        peer: SocketAddr,
        name: &'a str,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<FileHash>,
        #[serde(skip_serializing_if = "Option::is_none")]
        files: Option<u32>,
    },
    Served {
        peer: SocketAddr,
        name: &'a str,
        hash: FileHash,
        bytes: u64,
    },
    Shared {
        cmd: u64,
        #[serde(flatten)]
        share: ShareRow,
    },
    Sent {
        id: u64,
        peer: SocketAddr,
        name: &'a str,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<FileHash>,
        #[serde(skip_serializing_if = "Option::is_none")]
        files: Option<u32>,
        already: bool,
        confirmed: bool,
        elapsed_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        limited_by: Option<&'a str>,
    },
    TransferFailed {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
        name: &'a str,
        direction: &'a str,
        code: &'a str,
        reason: &'a str,
    },
    Queued {
        id: u64,
        /// Its number before, where it was being sent.
        #[serde(skip_serializing_if = "Option::is_none")]
        was: Option<u64>,
        node_id: NodeId,
        /// What this side calls whom it is for.
        to: &'a str,
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
    Delivered {
        id: u64,
        peer: SocketAddr,
        node_id: NodeId,
    },
    Result {
        cmd: u64,
        command: &'a str,
        #[serde(flatten)]
        answer: Answer<'a>,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        cmd: Option<u64>,
        code: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Connected {
        peer: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        node_id: Option<NodeId>,
        already: bool,
    },
    Peer {
        peer: SocketAddr,
    },
    Texts {
        peers: Vec<SocketAddr>,
    },
    Sending {
        id: u64,
        peer: SocketAddr,
        name: &'a str,
    },
    Peers {
        peers: Vec<PeerRow<'a>>,
    },
    Nearby {
        nearby: Vec<NearbyRow<'a>>,
    },
    Transfers {
        transfers: Vec<TransferRow<'a>>,
    },
    Whoami {
        listening: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        node_id: Option<NodeId>,
        instance: Instance,
        agent: &'a str,
        downloads: String,
        plain: bool,
        addresses: Vec<AddressRow>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dht: Option<DhtRow>,
    },
    Identity {
        node_id: NodeId,
        #[serde(skip_serializing_if = "Option::is_none")]
        alias: Option<String>,
    },
    Forgotten {
        forgotten: String,
    },
    Ids {
        ids: Vec<u64>,
    },
    Id {
        id: u64,
    },
    Share(ShareRow),
    Bans {
        bans: Vec<BanRow>,
    },
    /// In bytes a second; `null` where nothing is limited.
    Limits {
        up: Option<u64>,
        down: Option<u64>,
        peers: Vec<LimitRow>,
    },
    Shares {
        shares: Vec<ShareRow>,
    },
    /// The lines of the file, as they are.
    History {
        history: &'a [HistoryEntry],
    },
    Getting {
        id: u64,
        hash: FileHash,
    },
    Queued {
        id: u64,
        queued: bool,
        node_id: NodeId,
    },
    Outbox {
        outbox: Vec<OutboxRow<'a>>,
        elsewhere: usize,
    },
    Help {
        commands: Vec<HelpRow>,
    },
    Nothing {},
}

#[derive(Serialize)]
struct SourceRow {
    peer: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<NodeId>,
    bytes: u64,
    wasted_bytes: u64,
    bad_chunks: u32,
}

#[derive(Serialize)]
struct BanRow {
    node_id: NodeId,
    /// `null` for good.
    ends_in_s: Option<u64>,
}

/// What dealings with a peer came to over all runs.
#[derive(Serialize)]
struct RecordRow {
    score: f64,
    given_bytes: u64,
    taken_bytes: u64,
    failures: u32,
    bad_chunks: u32,
    bans: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
}

#[derive(Serialize)]
struct LimitRow {
    peer: SocketAddr,
    up: Option<u64>,
    down: Option<u64>,
}

#[derive(Serialize)]
struct DhtRow {
    /// Nodes that are known; `None` where it is not entered.
    nodes: Option<usize>,
    announced: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    away: Option<String>,
}

#[derive(Serialize)]
struct ShareRow {
    path: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<FileHash>,
    link: String,
    directory: bool,
    known: bool,
    /// Since it was shared, so that it is not served.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    changed: bool,
}

#[derive(Serialize)]
struct PeerRow<'a> {
    peer: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<SocketAddr>,
    trusted: bool,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    connected_ms: u64,
    bytes_sent: u64,
    bytes_received: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reputation: Option<RecordRow>,
}

/// Where a node can be reached.
#[derive(Serialize)]
struct AddressRow {
    addr: SocketAddr,
    /// `interface` or `peer`.
    source: &'static str,
    /// Who sees the node there, where only others do.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_by: Option<WitnessRow>,
    /// Who came in there last.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_by: Option<WitnessRow>,
}

#[derive(Serialize)]
struct WitnessRow {
    peer: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<NodeId>,
    ago_ms: u64,
}

#[derive(Serialize)]
struct NearbyRow<'a> {
    node_id: NodeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    trusted: bool,
    own: bool,
    addrs: &'a [SocketAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
}

/// Something that waits for somebody.
#[derive(Serialize)]
struct OutboxRow<'a> {
    id: u64,
    node_id: NodeId,
    to: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    age_s: u64,
    why: &'a str,
}

#[derive(Serialize)]
struct TransferRow<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    direction: &'a str,
    name: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<FileHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u32>,
    bytes: u64,
    stage: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_sec: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartRow>,
}

/// How much of a part of a content is here, and from which of its sources.
#[derive(Serialize)]
struct PartRow {
    percent: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<u8>,
}

#[derive(Serialize)]
struct HelpRow {
    command: &'static str,
    arguments: &'static str,
    about: &'static str,
}

impl Json {
    /// Something failed that no command was given for.
    pub(super) fn error(failure: &Failure) -> String {
        let (code, message) = (failure.code.as_str(), failure.message.as_str());
        write(&Line::Error { cmd: None, code, message, peer: None })
    }
}

impl Render for Json {
    fn event(&self, event: &Event, _known: &Known) -> Option<String> {
        let path;
        Some(write(&match event {
            Event::Listening { addr } => Line::Listening { addr: *addr },
            Event::Mapped { external, by, is_public } => {
                Line::Mapped { addr: *external, by, public: *is_public }
            }
            Event::PeerConnected { peer, dialled, node_id, alias, via, first_contact, again, level } => {
                Line::PeerConnected {
                    peer: *peer,
                    dialled: dialled.as_ref().map(ToString::to_string),
                    node_id: *node_id,
                    alias: alias.as_ref().map(ToString::to_string),
                    via: via.map(|via| via.peer),
                    first_contact: *first_contact,
                    again: *again,
                    level: level.as_str(),
                }
            }
            Event::FirstContact { peer, dialled, node_id } => {
                Line::FirstContact { peer: *peer, dialled: dialled.to_string(), node_id: *node_id }
            }
            Event::PeerNamed { peer, alias } => {
                Line::PeerNamed { peer: *peer, alias: alias.as_ref().map(ToString::to_string) }
            }
            Event::PeerDisconnected { peer, reason, .. } => Line::PeerDisconnected { peer: *peer, reason },
            Event::Message { peer, text } => Line::Message { peer: *peer, text },
            Event::Offer { id, peer, name, size, sha256, files, expires_in, leaves } => Line::Offer {
                id: id.0,
                peer: *peer,
                name: name.as_str(),
                size: *size,
                sha256: sha256.and_then(|hash| hash_of_file(hash, *files)),
                files: *files,
                accepted: expires_in.is_none(),
                expires_in_s: expires_in.map(|left| left.as_secs()),
                leaves: *leaves,
            },
            Event::Progress { id, peer, name, direction, stage, bytes, size } => Line::Progress {
                id: id.0,
                bytes: *bytes,
                size: *size,
                peer: *peer,
                name: name.as_str(),
                direction: word(*direction),
                stage: stage.as_str(),
            },
            Event::Received {
                id,
                peer,
                name,
                path: place,
                size,
                sha256,
                files,
                already,
                elapsed,
                limited_by,
                sources,
            } => {
                path = place.to_string_lossy();
                Line::Received {
                    id: id.0,
                    peer: *peer,
                    name: name.as_str(),
                    path: &path,
                    size: *size,
                    sha256: hash_of_file(*sha256, *files),
                    files: *files,
                    already: *already,
                    elapsed_ms: millis(*elapsed),
                    limited_by: limited_by.map(Bottleneck::as_str),
                    sources: sources.iter().map(source_row).collect(),
                }
            }
            Event::Found { id, peer, name, size, sha256, files } => Line::Found {
                id: id.0,
                peer: *peer,
                name: name.as_str(),
                size: *size,
                sha256: hash_of_file(*sha256, *files),
                files: *files,
            },
            Event::Served { peer, name, sha256, bytes } => {
                Line::Served { peer: *peer, name: name.as_str(), hash: *sha256, bytes: *bytes }
            }
            Event::Sent { id, peer, name, size, sha256, files, confirmed, already, elapsed, limited_by } => {
                Line::Sent {
                    id: id.0,
                    peer: *peer,
                    name: name.as_str(),
                    size: *size,
                    sha256: hash_of_file(*sha256, *files),
                    files: *files,
                    already: *already,
                    confirmed: *confirmed,
                    elapsed_ms: millis(*elapsed),
                    limited_by: limited_by.map(Bottleneck::as_str),
                }
            }
            Event::TransferFailed { id, peer, name, direction, code, reason } => Line::TransferFailed {
                id: id.0,
                peer: *peer,
                name: name.as_str(),
                direction: word(*direction),
                code: code.as_str(),
                reason,
            },
            Event::Queued { id, was, node_id, name, file, why, .. } => Line::Queued {
                id: id.0,
                was: was.map(|was| was.0),
                node_id: *node_id,
                to: name,
                kind: if file.is_some() { "file" } else { "text" },
                name: file.as_ref().map(SafeName::as_str),
                reason: why.as_deref(),
            },
            Event::Delivered { id, peer, node_id } => {
                Line::Delivered { id: id.0, peer: *peer, node_id: *node_id }
            }
            Event::Undelivered { peer, texts } => {
                let message = format!("messages that were not delivered: {texts}");
                return Some(write(&Line::Error {
                    cmd: None,
                    code: "undelivered",
                    message: &message,
                    peer: Some(*peer),
                }));
            }
            Event::Warning { .. } => return None,
        }))
    }

    fn reply(&self, asked: &Asked, reply: &Reply, _known: &Known, rates: &Rates) -> Option<String> {
        if let Reply::Shared(share) = reply {
            let shared = write(&Line::Shared { cmd: asked.line, share: share_row(share) });
            let answer = Answer::Share(share_row(share));
            let result = write(&Line::Result { cmd: asked.line, command: asked.name, answer });
            return Some(format!("{shared}\n{result}"));
        }
        let answer = answer(asked, reply, rates);
        Some(write(&Line::Result { cmd: asked.line, command: asked.name, answer }))
    }

    fn failure(&self, line: u64, failure: &Failure) -> Option<String> {
        let (code, message) = (failure.code.as_str(), failure.message.as_str());
        Some(write(&Line::Error { cmd: Some(line), code, message, peer: None }))
    }

    fn help(&self, line: u64, topic: Option<&Spec>) -> String {
        let row = |spec: &Spec| HelpRow { command: spec.name, arguments: spec.arguments, about: spec.about };
        let commands = match topic {
            Some(spec) => vec![row(spec)],
            None => COMMANDS.iter().map(row).collect(),
        };
        write(&Line::Result { cmd: line, command: "help", answer: Answer::Help { commands } })
    }

    fn quit(&self, line: u64) -> Option<String> {
        Some(write(&Line::Result { cmd: line, command: "quit", answer: Answer::Nothing {} }))
    }
}

fn answer<'a>(asked: &Asked, reply: &'a Reply, rates: &Rates) -> Answer<'a> {
    let ids = |ids: &[TransferId]| Answer::Ids { ids: ids.iter().map(|id| id.0).collect() };
    match reply {
        Reply::Connected { peer, node_id, already } => {
            Answer::Connected { peer: *peer, node_id: *node_id, already: *already }
        }
        Reply::Disconnected { peer } => Answer::Peer { peer: *peer },
        Reply::TextQueued { peers } => match (&asked.command, peers.as_slice()) {
            (Command::SendText(..), [peer]) => Answer::Peer { peer: *peer },
            (_, peers) => Answer::Texts { peers: peers.to_vec() },
        },
        Reply::Sending { id, peer, name } => Answer::Sending { id: id.0, peer: *peer, name: name.as_str() },
        Reply::Queued { id, node_id } => Answer::Queued { id: id.0, queued: true, node_id: *node_id },
        Reply::Outbox { entries, elsewhere } => {
            Answer::Outbox { outbox: entries.iter().map(outbox_row).collect(), elsewhere: *elsewhere }
        }
        Reply::Withdrawn(withdrawn) => ids(withdrawn),
        Reply::Shared(share) => Answer::Share(share_row(share)),
        Reply::Unshared(share) => Answer::Share(share_row(share)),
        Reply::Banned(id) | Reply::Unbanned(id) => Answer::Identity { node_id: *id, alias: None },
        Reply::Bans(bans) => Answer::Bans { bans: bans.iter().map(ban_row).collect() },
        Reply::Limits(LimitsInfo { up, down, peers }) => Answer::Limits {
            up: up.map(Rate::bytes_per_sec),
            down: down.map(Rate::bytes_per_sec),
            peers: peers.iter().map(limit_row).collect(),
        },
        Reply::Shares(shares) => Answer::Shares { shares: shares.iter().map(share_row).collect() },
        Reply::History(history) => Answer::History { history },
        Reply::Getting { id, hash } => Answer::Getting { id: id.0, hash: *hash },
        Reply::Peers(peers) => Answer::Peers { peers: peers.iter().map(peer_row).collect() },
        Reply::Nearby(nearby) => Answer::Nearby { nearby: nearby.iter().map(nearby_row).collect() },
        Reply::Transfers(transfers) => {
            Answer::Transfers { transfers: transfers.iter().map(|info| transfer_row(info, rates)).collect() }
        }
        Reply::Whoami(NodeInfo { listening, addresses, node_id, instance, agent, downloads, dht }) => {
            Answer::Whoami {
                listening: *listening,
                instance: *instance,
                agent,
                downloads: downloads.to_string_lossy().into_owned(),
                node_id: *node_id,
                plain: node_id.is_none(),
                addresses: addresses.iter().map(address_row).collect(),
                dht: dht.as_ref().map(dht_row),
            }
        }
        Reply::Accepted(accepted) => ids(accepted),
        Reply::Rejected(rejected) => ids(rejected),
        Reply::Cancelled(id) => Answer::Id { id: id.0 },
        Reply::Trusted(id) => Answer::Identity { node_id: *id, alias: None },
        Reply::Named(id, alias) => Answer::Identity { node_id: *id, alias: Some(alias.to_string()) },
        Reply::Forgotten(peer) => Answer::Forgotten { forgotten: peer.to_string() },
        // The book is for completing only, which nobody does here.
        Reply::Idle | Reply::Done | Reply::Book(_) => Answer::Nothing {},
    }
}

fn address_row(AddressInfo { addr, source, confirmed }: &AddressInfo) -> AddressRow {
    let witness = |witness: &Witness| WitnessRow {
        peer: witness.peer,
        node_id: witness.node_id,
        ago_ms: millis(witness.ago),
    };
    let (source, seen_by) = match source {
        AddressSource::Interface => ("interface", None),
        AddressSource::Peer(by) => ("peer", Some(witness(by))),
        AddressSource::Router(_) => ("router", None),
    };
    AddressRow { addr: *addr, source, seen_by, confirmed_by: confirmed.as_ref().map(witness) }
}

fn outbox_row(info: &OutboxInfo) -> OutboxRow<'_> {
    let (kind, text, path, name) = match &info.what {
        OutboxItem::Text(text) => ("text", Some(text.as_str()), None, None),
        OutboxItem::File { path, name } => {
            ("file", None, Some(path.to_string_lossy().into_owned()), Some(name.as_str()))
        }
    };
    let (id, node_id, age_s) = (info.id.0, info.node_id, info.age.as_secs());
    OutboxRow { id, node_id, to: &info.name, kind, text, path, name, age_s, why: &info.why }
}

fn nearby_row(info: &NearbyInfo) -> NearbyRow<'_> {
    NearbyRow {
        node_id: info.node_id,
        alias: info.alias.as_ref().map(ToString::to_string),
        trusted: info.trusted,
        own: info.is_own,
        addrs: &info.addrs,
        peer: info.peer,
    }
}

fn peer_row(info: &PeerInfo) -> PeerRow<'_> {
    PeerRow {
        peer: info.peer,
        dialled: info.dialled.as_ref().map(ToString::to_string),
        node_id: info.node_id,
        alias: info.alias.as_ref().map(ToString::to_string),
        via: info.via.map(|via| via.peer),
        trusted: info.trusted,
        level: info.level.as_str(),
        agent: info.agent.as_deref(),
        connected_ms: millis(info.connected_for),
        bytes_sent: info.bytes_sent,
        bytes_received: info.bytes_received,
        reputation: info.record.as_ref().map(record_row),
    }
}

fn source_row(delivery: &Delivery) -> SourceRow {
    SourceRow {
        peer: delivery.peer,
        node_id: delivery.node_id,
        bytes: delivery.bytes,
        wasted_bytes: delivery.wasted_bytes,
        bad_chunks: delivery.bad_chunks,
    }
}

fn ban_row(ban: &BanInfo) -> BanRow {
    BanRow { node_id: ban.node_id, ends_in_s: ban.ends_in.map(|left| left.as_secs()) }
}

fn record_row(record: &Record) -> RecordRow {
    RecordRow {
        score: (record.score() * 1000.0).round() / 1000.0,
        given_bytes: record.given_bytes,
        taken_bytes: record.taken_bytes,
        failures: record.failures,
        bad_chunks: record.bad_chunks,
        bans: record.bans,
        latency_ms: record.latency.map(millis),
    }
}

fn dht_row(DhtInfo { state, announced }: &DhtInfo) -> DhtRow {
    let (nodes, away) = match state {
        None => (None, None),
        Some(DhtState::Joined { nodes, .. }) => (Some(*nodes), None),
        Some(DhtState::Away { why }) => (None, Some(why.clone())),
    };
    DhtRow { nodes, announced: *announced, away }
}

fn limit_row((peer, up, down): &(SocketAddr, Option<Rate>, Option<Rate>)) -> LimitRow {
    LimitRow { peer: *peer, up: up.map(Rate::bytes_per_sec), down: down.map(Rate::bytes_per_sec) }
}

fn share_row(share: &ShareInfo) -> ShareRow {
    let is_directory = share.link.kind == Some(LinkKind::Directory);
    ShareRow {
        path: share.path.to_string_lossy().into_owned(),
        size: share.link.size.unwrap_or_default(),
        sha256: (!is_directory).then_some(share.link.hash),
        link: share.link.to_string(),
        directory: is_directory,
        known: share.link.known_only,
        changed: share.has_changed,
    }
}

fn transfer_row<'a>(info: &'a TransferInfo, rates: &Rates) -> TransferRow<'a> {
    TransferRow {
        id: info.id.0,
        peer: info.peer,
        direction: word(info.direction),
        name: info.name.as_str(),
        size: info.size,
        sha256: info.sha256.and_then(|hash| hash_of_file(hash, info.files)),
        files: info.files,
        bytes: info.bytes,
        stage: info.stage.as_str(),
        bytes_per_sec: rates.get(&info.id).copied(),
        sources: info.sources.iter().map(source_row).collect(),
        parts: info.cells.iter().map(|cell| PartRow { percent: cell.percent, source: cell.source }).collect(),
    }
}

/// A directory has a hash, but none that any other program would print.
fn hash_of_file(hash: FileHash, files: Option<u32>) -> Option<FileHash> {
    files.is_none().then_some(hash)
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn write(line: &Line<'_>) -> String {
    let json = serde_json::to_string(line).expect("strings, numbers and lists are always JSON");
    escape_deceptive(json)
}

/// JSON allows more raw characters than a terminal should see. Outside of strings there are none
/// of them, and in a string `\uXXXX` means the same.
fn escape_deceptive(json: String) -> String {
    if !json.contains(is_deceptive) {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 16);
    let mut units = [0; 2];
    for c in json.chars() {
        if is_deceptive(c) {
            for unit in c.encode_utf16(&mut units) {
                write!(safe, "\\u{unit:04x}").expect("writing to a string cannot fail");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests;
