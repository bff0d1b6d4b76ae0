use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::{Cell, Code, Level, Stage};
use crate::ui::parse::{Parsed, parse};

fn peer() -> SocketAddr {
    "192.0.2.5:4711".parse().unwrap()
}

fn name() -> SafeName {
    SafeName::new("report.pdf").unwrap()
}

fn shown(event: &Event) -> Value {
    serde_json::from_str(&Json.event(event, &Known::default()).unwrap()).unwrap()
}

fn answered(line: &str, reply: &Reply) -> Value {
    let Ok(Parsed::Run(spec, command)) = parse(line) else { panic!("{line}") };
    let asked = Asked { line: 3, name: spec.name, command };
    serde_json::from_str(&Json.reply(&asked, reply, &Known::default(), &Rates::new()).unwrap()).unwrap()
}

/// What scripts rely on: these are the names and types in DESIGN.md.
#[test]
fn events_have_the_promised_fields() {
    let hash = FileHash([0xab; 32]);
    let hex = hash.to_string();
    let id = TransferId(2);
    assert_eq!(
        shown(&Event::Listening { addr: peer() }),
        json!({"event": "listening", "addr": "192.0.2.5:4711"})
    );
    assert_eq!(
        shown(&Event::Mapped { external: peer(), by: "PCP", is_public: true }),
        json!({"event": "mapped", "addr": "192.0.2.5:4711", "by": "PCP", "public": true})
    );
    assert_eq!(
        shown(&Event::PeerConnected {
            via: None,
            peer: peer(),
            dialled: None,
            node_id: None,
            alias: None,
            first_contact: false,
            again: false,
            level: Level::Baseline
        }),
        json!({"event": "peer_connected", "peer": "192.0.2.5:4711", "level": "baseline"})
    );
    assert_eq!(
        shown(&Event::PeerDisconnected { peer: peer(), reason: "it left".into(), is_waited_for: false }),
        json!({"event": "peer_disconnected", "peer": "192.0.2.5:4711", "reason": "it left"})
    );
    assert_eq!(
        shown(&Event::Message { peer: peer(), text: "a\n\"b\"".into() }),
        json!({"event": "message", "peer": "192.0.2.5:4711", "text": "a\n\"b\""})
    );
    let offer = |expires_in| {
        shown(&Event::Offer {
            id,
            peer: peer(),
            name: name(),
            size: 17,
            sha256: Some(hash),
            files: None,
            expires_in,
            leaves: None,
        })
    };
    assert_eq!(
        offer(Some(Duration::from_secs(600))),
        json!({"event": "offer", "id": 2, "peer": "192.0.2.5:4711", "name": "report.pdf", "size": 17,
               "sha256": hex, "accepted": false, "expires_in_s": 600})
    );
    assert_eq!(offer(None)["accepted"], json!(true));
    let progress = Event::Progress {
        id,
        peer: Some(peer()),
        name: name(),
        direction: Direction::In,
        stage: Stage::Transferring,
        bytes: 5,
        size: 17,
    };
    assert_eq!(
        shown(&progress),
        json!({"event": "progress", "id": 2, "bytes": 5, "size": 17, "peer": "192.0.2.5:4711",
               "name": "report.pdf", "direction": "in", "stage": "transferring"})
    );
    let (path, elapsed) = (PathBuf::from("downloads/report.pdf"), Duration::from_millis(400));
    let received = Event::Received {
        id,
        peer: peer(),
        name: name(),
        path,
        size: 17,
        sha256: hash,
        files: None,
        already: false,
        elapsed,
        limited_by: Some(Bottleneck::Network),
        sources: Vec::new(),
    };
    assert_eq!(
        shown(&received),
        json!({"event": "received", "id": 2, "peer": "192.0.2.5:4711", "name": "report.pdf",
               "path": "downloads/report.pdf", "size": 17, "sha256": hex, "already": false,
               "elapsed_ms": 400, "limited_by": "network"})
    );
    let sent = Event::Sent {
        id,
        peer: peer(),
        name: name(),
        size: 0,
        sha256: hash,
        files: None,
        already: false,
        confirmed: false,
        elapsed,
        limited_by: None,
    };
    assert_eq!(
        shown(&sent),
        json!({"event": "sent", "id": 2, "peer": "192.0.2.5:4711", "name": "report.pdf", "size": 0,
               "sha256": hex, "already": false, "confirmed": false, "elapsed_ms": 400})
    );
}

#[test]
fn failures_have_a_code_and_a_reason() {
    let failed = Event::TransferFailed {
        id: TransferId(2),
        peer: Some(peer()),
        name: name(),
        direction: Direction::Out,
        code: Code::Disconnected,
        reason: "it left".into(),
    };
    assert_eq!(
        shown(&failed),
        json!({"event": "transfer_failed", "id": 2, "peer": "192.0.2.5:4711", "name": "report.pdf",
               "direction": "out", "code": "disconnected", "reason": "it left"})
    );
    let undelivered = shown(&Event::Undelivered { peer: peer(), texts: 2 });
    assert_eq!(
        (&undelivered["event"], &undelivered["code"], undelivered.get("cmd")),
        (&json!("error"), &json!("undelivered"), None)
    );
    let failure = Json.failure(3, &Failure::new(Code::UnknownPeer, "no such peer")).unwrap();
    assert_eq!(failure, r#"{"event":"error","cmd":3,"code":"unknown_peer","message":"no such peer"}"#);
    let warning = Event::Warning { peer: None, text: "for the log".into() };
    assert_eq!(Json.event(&warning, &Known::default()), None, "the log is not stdout");
}

#[test]
fn what_waits_in_the_outbox_is_told_and_listed() {
    let node_id = NodeId([7; 32]);
    let queued = |was, file, why: Option<&str>| Event::Queued {
        id: TransferId(5),
        was,
        node_id,
        name: "bob".into(),
        file,
        why: why.map(str::to_owned),
        is_connected: false,
    };
    assert_eq!(
        shown(&queued(None, None, None)),
        json!({"event": "queued", "id": 5, "node_id": node_id, "to": "bob", "kind": "text"})
    );
    assert_eq!(
        shown(&queued(Some(TransferId(4)), Some(name()), Some("it left"))),
        json!({"event": "queued", "id": 5, "was": 4, "node_id": node_id, "to": "bob", "kind": "file",
               "name": "report.pdf", "reason": "it left"})
    );
    assert_eq!(
        shown(&Event::Delivered { id: TransferId(5), peer: peer(), node_id }),
        json!({"event": "delivered", "id": 5, "peer": "192.0.2.5:4711", "node_id": node_id})
    );
    assert_eq!(
        answered("send bob x", &Reply::Queued { id: TransferId(5), node_id }),
        json!({"event": "result", "cmd": 3, "command": "send", "id": 5, "queued": true, "node_id": node_id})
    );
    let info = |what| OutboxInfo {
        id: TransferId(5),
        node_id,
        name: "bob".into(),
        what,
        age: Duration::from_secs(9),
        why: "not connected".into(),
    };
    let file = OutboxItem::File { path: "/a/report.pdf".into(), name: name() };
    let entries = vec![info(OutboxItem::Text("hi".into())), info(file)];
    assert_eq!(
        answered("outbox", &Reply::Outbox { entries, elsewhere: 2 }),
        json!({"event": "result", "cmd": 3, "command": "outbox", "elsewhere": 2, "outbox": [
            {"id": 5, "node_id": node_id, "to": "bob", "kind": "text", "text": "hi", "age_s": 9, "why": "not connected"},
            {"id": 5, "node_id": node_id, "to": "bob", "kind": "file", "path": "/a/report.pdf", "name": "report.pdf",
             "age_s": 9, "why": "not connected"},
        ]})
    );
    assert_eq!(answered("outbox cancel all", &Reply::Withdrawn(vec![TransferId(5)]))["ids"], json!([5]));
}

#[test]
fn every_answer_names_its_line_and_its_command() {
    assert_eq!(
        answered("connect a:1", &Reply::Connected { peer: peer(), node_id: None, already: false }),
        json!({"event": "result", "cmd": 3, "command": "connect", "peer": "192.0.2.5:4711", "already": false})
    );
    assert_eq!(
        answered("sendfile a:1 x", &Reply::Sending { id: TransferId(1), peer: peer(), name: name() }),
        json!({"event": "result", "cmd": 3, "command": "sendfile", "id": 1, "peer": "192.0.2.5:4711",
               "name": "report.pdf"})
    );
    let queued = Reply::TextQueued { peers: vec![peer()] };
    assert_eq!(answered("send a:1 x", &queued)["peer"], json!("192.0.2.5:4711"));
    assert_eq!(answered("broadcast x", &queued)["peers"], json!(["192.0.2.5:4711"]));
    assert_eq!(answered("peers", &Reply::Peers(Vec::new()))["peers"], json!([]));
    assert_eq!(answered("transfers", &Reply::Transfers(Vec::new()))["transfers"], json!([]));
    let info = TransferInfo {
        id: TransferId(3),
        peer: None,
        direction: Direction::In,
        name: name(),
        size: 10,
        sha256: None,
        files: None,
        bytes: 5,
        stage: Stage::Transferring,
        sources: vec![Delivery { peer: peer(), node_id: None, bytes: 5, wasted_bytes: 0, bad_chunks: 0 }],
        cells: vec![Cell { percent: 100, source: Some(0) }, Cell { percent: 0, source: None }],
    };
    let row = &answered("transfers", &Reply::Transfers(vec![info]))["transfers"][0];
    assert_eq!(
        (&row["sources"], &row["parts"]),
        (
            &json!([{"peer": "192.0.2.5:4711", "bytes": 5, "wasted_bytes": 0, "bad_chunks": 0}]),
            &json!([{"percent": 100, "source": 0}, {"percent": 0}])
        )
    );
    assert_eq!(answered("accept all", &Reply::Accepted(vec![TransferId(1)]))["ids"], json!([1]));
    assert_eq!(answered("cancel 1", &Reply::Cancelled(TransferId(1)))["id"], json!(1));
    assert_eq!(answered("wait", &Reply::Idle), json!({"event": "result", "cmd": 3, "command": "wait"}));
    let help: Value = serde_json::from_str(&Json.help(3, None)).unwrap();
    assert_eq!(help["commands"][0]["command"], json!("connect"));
}

proptest! {
    #[test]
    fn a_line_is_safe_on_a_terminal_and_means_the_same(
        text in proptest::collection::vec(
            prop_oneof![any::<char>(), proptest::char::range('\0', '\u{a0}'), proptest::char::range('\u{2020}', '\u{2070}')],
            0..64,
        )
    ) {
        let text: String = text.into_iter().collect();
        let line = Json.event(&Event::Message { peer: peer(), text: text.clone() }, &Known::default()).unwrap();
        prop_assert!(!line.contains(is_deceptive), "{line:?}");
        let back: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(back["text"].as_str(), Some(text.as_str()));
    }
}
