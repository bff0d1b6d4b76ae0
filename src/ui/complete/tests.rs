use super::*;
use crate::engine::{Book, Change, Event, Level, Reply, TransferId};
use crate::wire::{FileHash, NodeId, SafeName};
use std::time::Duration;

fn known() -> Known {
    let known = Known::default();
    let connected = |peer: &str, dialled: Option<&str>| Event::PeerConnected {
        via: None,
        peer: peer.parse().unwrap(),
        dialled: dialled.map(|dialled| dialled.parse().unwrap()),
        node_id: None,
        alias: None,
        first_contact: false,
        again: false,
        level: Level::Baseline,
    };
    known.event(&connected("127.0.0.1:8000", Some("localhost:8000")));
    known.event(&connected("192.0.2.5:4711", None));
    let name = |name| SafeName::new(name).unwrap();
    known.event(&Event::Offer {
        id: TransferId(2),
        peer: "192.0.2.5:4711".parse().unwrap(),
        name: name("report.pdf"),
        size: 1,
        sha256: Some(FileHash([0; 32])),
        files: None,
        expires_in: Some(Duration::from_secs(1)),
        leaves: None,
    });
    let peer = "192.0.2.5:4711".parse().unwrap();
    known.reply(&Reply::Sending { id: TransferId(3), peer, name: name("ours") });
    let mut book = Book::default();
    for (address, id) in [("localhost:8000", 1), ("example.org:8000", 2), ("203.0.113.7:9", 3)] {
        book.apply(&Change::Pin(address.parse().unwrap(), NodeId([id; 32]))).unwrap();
    }
    book.apply(&Change::Alias(NodeId([2; 32]), "laptop".parse().unwrap())).unwrap();
    known.book(&book);
    known
}

fn insert(typed: &str) -> String {
    match tab(typed, &known(), 80) {
        Tab::Insert(start, text) => typed[..start].to_owned() + &text,
        other => panic!("{typed:?}: {other:?}"),
    }
}

fn list(typed: &str) -> String {
    match tab(typed, &known(), 80) {
        Tab::List(list) => list,
        other => panic!("{typed:?}: {other:?}"),
    }
}

#[test]
fn commands_and_help_topics_are_completed() {
    assert_eq!(insert("con"), "connect ");
    assert_eq!(insert("  se"), "  send", "as far as `send` and `sendfile` agree");
    assert_eq!(list("send"), "send      sendfile");
    assert_eq!(insert("pe"), "peers");
    assert_eq!(insert("help tra"), "help transfers");
    assert_eq!(tab("nonsense", &known(), 80), Tab::Nothing);
    assert_eq!(tab("nonsense x", &known(), 80), Tab::Nothing);
}

#[test]
fn peers_are_completed_by_what_was_typed_and_by_their_address() {
    assert_eq!(insert("send lo"), "send localhost:8000 ");
    assert_eq!(insert("disconnect l"), "disconnect localhost:8000");
    assert_eq!(insert("send 127"), "send 127.0.0.1:8000 ");
    assert_eq!(list("limit up 1MB/s "), "192.0.2.5:4711  localhost:8000");
    assert_eq!(tab("send localhost:8000 h", &known(), 80), Tab::Nothing, "a message is the user's");
}

#[test]
fn addresses_that_were_typed_before_are_completed_and_the_names_of_those_who_have_one() {
    assert_eq!(list("connect "), "203.0.113.7:9              localhost:8000\nexample.org:8000 (laptop)");
    assert_eq!(insert("connect ex"), "connect example.org:8000");
    assert_eq!(insert("connect lap"), "connect laptop");
    assert_eq!(list("connect l"), "localhost:8000  laptop");
    assert_eq!(list("forget "), "192.0.2.5:4711  203.0.113.7:9   laptop          localhost:8000");
    assert_eq!(insert("trust la"), "trust laptop");
    assert_eq!(insert("send la"), "send laptop ", "who is not connected gets it later");
}

#[test]
fn numbers_are_completed_where_they_mean_something() {
    assert_eq!(list("accept "), "2 report.pdf  all");
    assert_eq!(insert("reject a"), "reject all");
    assert_eq!(list("cancel "), "2 report.pdf  3 ours");
    assert_eq!(insert("cancel 3"), "cancel 3");
}

#[test]
fn what_waits_in_the_outbox_can_be_named() {
    assert_eq!(insert("outbox "), "outbox cancel ");
    assert_eq!(tab("outbox cancel ", &known(), 80), Tab::Nothing);
    let known = known();
    let queued = |id, was, file: Option<&str>| Event::Queued {
        id: TransferId(id),
        was,
        node_id: NodeId([2; 32]),
        name: "laptop".into(),
        file: file.map(|name| SafeName::new(name).unwrap()),
        why: None,
        is_connected: false,
    };
    known.event(&queued(5, None, None));
    known.event(&queued(6, None, Some("a.txt")));
    known.event(&queued(7, Some(TransferId(6)), Some("a.txt")));
    let listed = |known: &Known| tab("outbox cancel ", known, 30);
    assert_eq!(listed(&known), Tab::List("5 a message to laptop\n7 a.txt to laptop\nall".into()));
    known.event(&Event::Delivered {
        id: TransferId(5),
        peer: "192.0.2.5:4711".parse().unwrap(),
        node_id: NodeId([2; 32]),
    });
    known.reply(&Reply::Withdrawn(vec![TransferId(7)]));
    assert_eq!(listed(&known), Tab::Nothing);
}

#[test]
fn paths_are_completed_with_spaces_in_quotes_and_from_home() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["the whole report.pdf", "the half.pdf", ".hidden", "evil\x1b[2J"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    std::fs::create_dir(dir.path().join("ein Ordner")).unwrap();
    std::fs::write(dir.path().join("ein Ordner/日本.txt"), "").unwrap();
    let place = dir.path().to_str().unwrap();
    let typed = |rest: &str| format!("sendfile a:1 {rest}");
    assert_eq!(insert(&typed(&format!("{place}/the w"))), typed(&format!("{place}/the whole report.pdf")));
    assert_eq!(insert(&typed(&format!("{place}/th"))), typed(&format!("{place}/the ")));
    assert_eq!(
        list(&typed(&format!("{place}/"))),
        "ein Ordner/           the half.pdf          the whole report.pdf"
    );
    assert_eq!(insert(&typed(&format!("{place}/.h"))), typed(&format!("{place}/.hidden")));
    assert_eq!(
        insert(&typed(&format!("\"{place}/the w"))),
        typed(&format!("\"{place}/the whole report.pdf\""))
    );
    assert_eq!(tab(&typed(&format!("{place}/ev")), &known(), 80), Tab::Nothing);

    let home = Some(dir.path().as_os_str());
    let found = complete("sendfile a:1 ~/ein Ordner/日", &known(), home);
    assert_eq!(found.candidates[0].text, "日本.txt");
    assert_eq!(complete("sendfile a:1 '~/ei", &known(), home).candidates, []);
}

#[test]
fn a_long_list_fits_the_screen() {
    let many: Vec<_> = (0..250).map(|i| Candidate::plain(format!("name {i}"), "")).collect();
    let list = listed(&many, 40);
    assert!(list.ends_with("\nand 150 more"), "{list}");
    assert!(list.lines().all(|line| line.width() <= 40), "{list}");
    let wide = [Candidate::plain("日".repeat(50), ""), Candidate::plain("b".to_owned(), "")];
    assert!(listed(&wide, 40).lines().all(|line| line.width() < 40));
}

#[test]
fn hints_say_what_is_missing() {
    let shown = |line| hint(line).map(|hint| (hint.shown, hint.taken));
    assert_eq!(shown("conn"), Some(("ect <host:port|peer>".to_owned(), 3)));
    assert_eq!(shown("send"), Some((" <peer> <message>".to_owned(), 0)));
    assert_eq!(shown("send "), Some(("<peer> <message>".to_owned(), 0)));
    assert_eq!(shown("sendfile a:1 "), Some(("<path>…".to_owned(), 0)));
    assert_eq!(shown("sendfile a:1 the "), None);
    assert_eq!(shown("send a:1"), None);
    for nothing in ["", "p", "nonsense ", "xyz"] {
        assert_eq!(shown(nothing), None, "{nothing}");
    }
}
