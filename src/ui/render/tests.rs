use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::engine::{HostPort, Level, Record, Stage, Via};
use crate::ui::parse::{Parsed, parse};
use crate::wire::{FileHash, SafeName};

const PROMPT: Human = Human { at_prompt: true, style: Style::PLAIN, columns: || usize::MAX };

fn peer() -> SocketAddr {
    "192.0.2.5:4711".parse().unwrap()
}

fn name() -> SafeName {
    SafeName::new("report.pdf").unwrap()
}

fn asked(line: &str) -> Asked {
    match parse(line) {
        Ok(Parsed::Run(spec, command)) => Asked { line: 1, name: spec.name, command },
        other => panic!("{line:?} became {other:?}"),
    }
}

fn shown(event: &Event) -> String {
    PROMPT.event(event, &Known::default()).unwrap()
}

#[test]
fn a_peer_cannot_write_on_the_screen() {
    let text = "\x1b]0;title\x07hi\n<192.0.2.5:1> fake\u{202e}".to_owned();
    assert_eq!(
        shown(&Event::Message { peer: peer(), text }),
        "<192.0.2.5:4711> \\x1b]0;title\\x07hi\n    <192.0.2.5:1> fake\\u{202e}"
    );
    let reason = "it said \x1b[2J".to_owned();
    assert_eq!(
        shown(&Event::PeerDisconnected { peer: peer(), reason, is_waited_for: false }),
        "192.0.2.5:4711 disconnected: it said \\x1b[2J"
    );
    let failure = Failure::new(Code::Usage, "`\x1b[2J` is not a peer");
    assert_eq!(PROMPT.failure(1, &failure).unwrap(), "error: `\\x1b[2J` is not a peer");
    assert_eq!(Human::PIPED.failure(7, &failure).unwrap(), "error in line 7: `\\x1b[2J` is not a peer");
}

#[test]
fn an_offer_says_what_to_type() {
    let offer = |expires_in, leaves| Event::Offer {
        id: TransferId(2),
        peer: peer(),
        name: name(),
        size: 3_200_000,
        sha256: Some(FileHash([0; 32])),
        files: None,
        expires_in,
        leaves,
    };
    let in_10_min = Some(Duration::from_secs(600));
    assert_eq!(
        shown(&offer(in_10_min, None)),
        "[2] 192.0.2.5:4711 offers report.pdf, 3.2 MB: accept 2 / reject 2 (expires in 10 min)"
    );
    assert_eq!(
        shown(&offer(in_10_min, Some(17_000_000))),
        "[2] 192.0.2.5:4711 offers report.pdf, 3.2 MB: accept 2 / reject 2 (would leave only 17.0 MB free; expires in 10 min)"
    );
    assert_eq!(shown(&offer(None, None)), "[2] 192.0.2.5:4711 sends report.pdf, 3.2 MB");
}

#[test]
fn the_end_of_a_transfer_says_what_where_and_how_long() {
    let received = Event::Received {
        id: TransferId(1),
        peer: peer(),
        name: name(),
        path: PathBuf::from("downloads/report (1).pdf"),
        size: 3_200_000,
        sha256: FileHash([0; 32]),
        files: None,
        already: false,
        elapsed: Duration::from_millis(400),
        limited_by: Some(Bottleneck::Hashing),
        sources: Vec::new(),
    };
    assert_eq!(
        shown(&received),
        "[1] received report.pdf, 3.2 MB in 400 ms (8.0 MB/s, limited by hashing): downloads/report (1).pdf"
    );
    let sent = |size, confirmed| Event::Sent {
        id: TransferId(1),
        peer: peer(),
        name: name(),
        size,
        sha256: FileHash([0; 32]),
        files: None,
        already: false,
        confirmed,
        elapsed: Duration::from_millis(400),
        limited_by: None,
    };
    assert_eq!(
        shown(&sent(17, true)),
        "[1] sent report.pdf to 192.0.2.5:4711, 17 bytes in 400 ms (42 bytes/s)"
    );
    assert!(shown(&sent(0, false)).ends_with("(unconfirmed: a baseline peer never confirms an empty file)"));
    let failed = |direction, code| Event::TransferFailed {
        id: TransferId(1),
        peer: Some(peer()),
        name: name(),
        direction,
        code,
        reason: "it went away".into(),
    };
    assert_eq!(
        shown(&failed(Direction::Out, Code::Disconnected)),
        "[1] sending report.pdf to 192.0.2.5:4711 failed: it went away"
    );
    assert_eq!(
        shown(&failed(Direction::In, Code::Declined)),
        "[1] receiving report.pdf from 192.0.2.5:4711 ended: it went away"
    );
}

#[test]
fn connecting_is_told_once_to_whoever_typed_it() {
    let typed: HostPort = "example.org:4711".parse().unwrap();
    let by_us = Event::PeerConnected {
        via: None,
        peer: peer(),
        dialled: Some(typed),
        node_id: None,
        alias: None,
        first_contact: false,
        again: false,
        level: Level::Extended,
    };
    assert_eq!(PROMPT.event(&by_us, &Known::default()), None);
    let by_them = Event::PeerConnected {
        via: None,
        peer: peer(),
        dialled: None,
        node_id: None,
        alias: None,
        first_contact: false,
        again: false,
        level: Level::Baseline,
    };
    assert_eq!(shown(&by_them), "192.0.2.5:4711 connected [plain]");

    let reply = |already| Reply::Connected { peer: peer(), node_id: Some(NodeId([7; 32])), already };
    let say = |line, already| {
        PROMPT.reply(&asked(line), &reply(already), &Known::default(), &Rates::new()).unwrap()
    };
    assert_eq!(say("connect example.org:4711", false), "connected to example.org:4711 (192.0.2.5:4711)");
    assert_eq!(say("connect 192.0.2.5:4711", true), "already connected to 192.0.2.5:4711");
    let plain = Reply::Connected { peer: peer(), node_id: None, already: false };
    let said = PROMPT.reply(&asked("connect 192.0.2.5:4711"), &plain, &Known::default(), &Rates::new());
    assert_eq!(said.unwrap(), "connected to 192.0.2.5:4711 [plain]");
}

#[test]
fn a_peer_goes_by_the_alias_it_was_given() {
    let known = Known::default();
    known.event(&Event::PeerConnected {
        via: None,
        peer: peer(),
        dialled: None,
        node_id: Some(NodeId([7; 32])),
        alias: Some("laptop".parse().unwrap()),
        first_contact: false,
        again: false,
        level: Level::Extended,
    });
    let shown = |event| PROMPT.event(&event, &known).unwrap();
    assert_eq!(shown(Event::Message { peer: peer(), text: "hello".into() }), "<laptop> hello");
    let offer = Event::Offer {
        id: TransferId(2),
        peer: peer(),
        name: name(),
        size: 3_200_000,
        sha256: Some(FileHash([0; 32])),
        files: None,
        expires_in: None,
        leaves: None,
    };
    assert_eq!(shown(offer), "[2] laptop (192.0.2.5:4711) sends report.pdf, 3.2 MB");
}

#[test]
fn through_whom_somebody_is_connected_is_shown_wherever_it_is_named() {
    let between = "198.51.100.7:8000".parse().unwrap();
    let connected = |peer, via, alias: Option<&str>| Event::PeerConnected {
        via,
        peer,
        dialled: None,
        node_id: Some(NodeId([7; 32])),
        alias: alias.map(|alias| alias.parse().unwrap()),
        first_contact: false,
        again: false,
        level: Level::Extended,
    };
    let via = Some(Via { peer: between, node_id: Some(NodeId([9; 32])) });
    for (alias, through) in [(None, "[via 198.51.100.7:8000]"), (Some("relay"), "[via relay]")] {
        let known = Known::default();
        known.event(&connected(between, None, alias));
        known.event(&connected(peer(), via, None));
        let shown = |event| PROMPT.event(&event, &known).unwrap();
        let line = shown(connected(peer(), via, None));
        assert_eq!(line, format!("192.0.2.5:4711 connected (0707070707070707) {through}"));
        let said = shown(Event::Message { peer: peer(), text: "hello".into() });
        assert_eq!(said, format!("<192.0.2.5:4711 {through}> hello"));
        let info = PeerInfo {
            via,
            node_id: Some(NodeId([7; 32])),
            alias: None,
            trusted: false,
            peer: peer(),
            dialled: None,
            level: Level::Extended,
            agent: None,
            connected_for: Duration::ZERO,
            bytes_sent: 0,
            bytes_received: 0,
            record: None,
        };
        let table = PROMPT.reply(&asked("peers"), &Reply::Peers(vec![info]), &known, &Rates::new()).unwrap();
        assert!(table.contains(&format!("192.0.2.5:4711  {through}")), "{table}");
    }
}

#[test]
fn tables_line_up_and_empty_ones_say_what_to_do() {
    let rates = Rates::from([(TransferId(3), 120_000_000)]);
    let say = |line, reply| PROMPT.reply(&asked(line), &reply, &Known::default(), &rates).unwrap();
    assert!(say("peers", Reply::Peers(Vec::new())).contains("`connect <host:port>`"));
    let info = PeerInfo {
        via: None,
        node_id: Some(NodeId([7; 32])),
        alias: Some("laptop".parse().unwrap()),
        trusted: true,
        peer: peer(),
        dialled: None,
        level: Level::Extended,
        agent: Some("p2p/0.1.0\x1b[2J and whatever else it wants to say".into()),
        connected_for: Duration::from_secs(65),
        bytes_sent: 0,
        bytes_received: 3_200_000,
        record: Some(Record { taken_bytes: 1 << 40, ..Record::default() }),
    };
    assert_eq!(
        say("peers", Reply::Peers(vec![info])),
        "PEER            DIALLED AS  IDENTITY          ALIAS   TRUSTED  SPEAKS                CONNECTED FOR  SENT     RECEIVED  REPUTATION\n\
         192.0.2.5:4711  -           0707070707070707  laptop  yes      p2p/0.1.0\\x1b[2J an…  1 min 5 s      0 bytes  3.2 MB    100 %"
    );
    let info = TransferInfo {
        id: TransferId(3),
        peer: Some(peer()),
        direction: Direction::In,
        name: name(),
        size: 3_200_000,
        sha256: None,
        files: None,
        bytes: 1_000_000,
        stage: Stage::Transferring,
        sources: Vec::new(),
        cells: Vec::new(),
    };
    assert_eq!(
        say("transfers", Reply::Transfers(vec![info])),
        "ID   FILE        PEER                 STAGE         DONE                     RATE\n\
         [3]  report.pdf  from 192.0.2.5:4711  transferring  1.0 MB of 3.2 MB (31 %)  120 MB/s"
    );
}

#[test]
fn help_explains_every_command() {
    let all = PROMPT.help(1, None);
    for spec in COMMANDS {
        assert!(all.contains(&format!("  {} {}", spec.name, spec.arguments)), "{}", spec.name);
        assert!(all.lines().all(|line| line.len() <= 80), "{all}");
        assert!(PROMPT.help(1, Some(spec)).contains(spec.examples[0]));
    }
    assert_eq!(
        PROMPT.help(1, COMMANDS.iter().find(|spec| spec.name == "accept")),
        "accept <id|all>\n  take a file that is offered\nfor example:\n  accept 2\n  accept all"
    );
}

#[test]
fn what_waits_in_the_outbox_is_said_and_listed_without_what_a_peer_could_have_put_there() {
    let queued = |was, file, why: Option<&str>, is_connected| {
        shown(&Event::Queued {
            id: TransferId(5),
            was,
            node_id: NodeId([7; 32]),
            name: "bob".into(),
            file,
            why: why.map(str::to_owned),
            is_connected,
        })
    };
    assert_eq!(
        queued(None, None, None, false),
        "bob is not connected: [5] kept in the outbox, sent when bob is back"
    );
    assert_eq!(
        queued(None, None, None, true),
        "[5] kept in the outbox, sent when bob has what waits before it"
    );
    assert_eq!(
        queued(None, None, Some("it \x1b[2Jbroke"), false),
        "[5] a message to bob is kept in the outbox, sent when bob is back: it \\x1b[2Jbroke"
    );
    assert_eq!(
        queued(Some(TransferId(4)), Some(name()), Some("it left"), false),
        "[4] sending report.pdf to bob is put off, as [5] in the outbox: it left"
    );
    let info = OutboxInfo {
        id: TransferId(5),
        node_id: NodeId([7; 32]),
        name: "bob".into(),
        what: OutboxItem::Text("\u{202e}\x1b[2J".to_owned() + &"x".repeat(100)),
        age: Duration::from_secs(9),
        why: "not \x07 connected".into(),
    };
    let reply = |entries, elsewhere| {
        let reply = Reply::Outbox { entries, elsewhere };
        PROMPT.reply(&asked("outbox"), &reply, &Known::default(), &Rates::new()).unwrap()
    };
    let listed = reply(vec![info], 1);
    assert!(!listed.contains(['\x1b', '\x07', '\u{202e}']) && listed.contains("9.0 s ago"), "{listed}");
    assert!(listed.ends_with("\n1 more is delivered by another node of yours that runs"), "{listed}");
    assert!(listed.lines().all(|line| line.len() < 120), "{listed}");
    assert_eq!(reply(vec![], 0), "nothing waits in the outbox");
}
