//! What a user types and a script sees: options, exit codes, input that ends, errors that help.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use crate::support::files::{listing, noise, sha256_of, write_noise};
use crate::support::{BaselinePeer, Content, Gate, NodeSetup, TestNode, eventually};

/// A node as a script starts it: no prompt, no `--json`.
const AS_A_SCRIPT: [&str; 3] = ["--bind", "127.0.0.1", "0"];

#[test]
fn a_script_that_sends_ends_with_0_when_all_of_it_has_arrived() {
    let receiver = TestNode::start();
    let setup = NodeSetup::new();
    let sha256 = write_noise(&setup.dir().join("data with spaces.bin"), 5_000_000, 1);
    let addr = receiver.addr();
    let script = format!("connect {addr}\nsend {addr} hello there\nsendfile {addr} data with spaces.bin\n");
    let finished = setup.run(&AS_A_SCRIPT, &script);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    receiver.wait_for(&json!({ "event": "message", "text": "hello there" }));
    assert_eq!(sha256_of(&receiver.wait_received("data with spaces.bin")), sha256);
    assert!(!finished.stdout.contains('\u{1b}'), "no escape codes into a pipe: {finished:?}");
}

#[test]
fn a_script_of_which_anything_failed_ends_with_1() {
    let receiver = TestNode::start();
    let connect = format!("connect {}", receiver.addr());
    let nobody = BaselinePeer::listen().addr();
    for script in [
        format!("{connect}\nsendfile {} missing.bin\n", receiver.addr()),
        format!("{connect}\nsend {nobody} hello\n"),
        format!("connect {nobody}\n"),
        "frobnicate\n".to_owned(),
        "send\n".to_owned(),
    ] {
        let finished = NodeSetup::new().run(&AS_A_SCRIPT, &script);
        assert_eq!(finished.code, Some(1), "{script}{finished:?}");
        assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    }
}

#[test]
fn input_that_is_empty_ends_with_0() {
    assert_eq!(NodeSetup::new().run(&AS_A_SCRIPT, "").code, Some(0));
}

#[test]
fn a_script_whose_receiver_dies_ends_with_1() {
    let setup = NodeSetup::plain();
    fs::write(setup.dir().join("data.bin"), noise(600_000, 1)).unwrap();
    let listener = BaselinePeer::listen();
    let command = setup.command(&AS_A_SCRIPT);
    let mut script = TestNode::spawn(setup, command);
    script.type_line(&format!("connect {}", listener.addr()));
    script.type_line(&format!("sendfile {} data.bin", listener.addr()));
    script.close_stdin();
    let peer = listener.accept();
    peer.hear(&json!({ "type": "FILE_OFFER" }));
    peer.hang_up();
    assert_eq!(script.exit_code(), Some(1), "{}", script.report());
}

#[test]
fn options_that_make_no_sense_end_with_2_and_say_why() {
    for arguments in [
        &["--no-such-option"][..],
        &["--accept", "maybe"],
        &["70000"],
        &["-1"],
        &["port"],
        &["--bind", "nowhere"],
        &["1", "2"],
    ] {
        let finished = NodeSetup::new().run(arguments, "");
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains("error"), "{arguments:?}: {finished:?}");
        assert!(finished.stdout.is_empty(), "{arguments:?}: {finished:?}");
    }
}

#[test]
fn a_variable_counts_where_it_has_a_meaning_and_is_not_empty() {
    let receiver = TestNode::start();
    let run = |variable: (&str, &str), arguments: &[&str]| {
        let setup = NodeSetup::new();
        fs::write(setup.dir().join("file.txt"), "content").unwrap();
        let mut command = setup.command(arguments);
        command.env(variable.0, variable.1);
        let mut node = TestNode::spawn(setup, command);
        node.close_stdin();
        (node.exit_code(), node.report())
    };
    let sending = ["send", receiver.addr(), "file.txt"];
    for variable in [("P2P_PORT", "abc"), ("P2P_PORT", ""), ("P2P_RECONNECT", ""), ("P2P_BIND", "")] {
        let (code, report) = run(variable, &sending);
        assert_eq!(code, Some(0), "{variable:?}: {report}");
    }
    for arguments in [&["--bind", "127.0.0.1"][..], &["receive", "--bind", "127.0.0.1"]] {
        let (code, report) = run(("P2P_PORT", "abc"), arguments);
        assert_eq!(code, Some(2), "{report}");
        assert!(report.contains("abc"), "{report}");
    }
    let (code, report) = run(("P2P_ACCEPT", ""), &AS_A_SCRIPT);
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn a_port_in_use_ends_with_3_and_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for mode in [&["--json"][..], &[]] {
        let arguments = [mode, &["--bind", "127.0.0.1", &port]].concat();
        let finished = NodeSetup::new().run(&arguments, "");
        assert_eq!(finished.code, Some(3), "{finished:?}");
        assert_eq!(finished.stderr.trim_end().lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains(&port), "{finished:?}");
        assert!(!finished.stderr.contains("os error"), "the cause is told a second time: {finished:?}");
        assert!(finished.stdout.is_empty(), "{finished:?}");
    }
}

#[test]
fn an_address_of_another_computer_ends_with_3() {
    let finished = NodeSetup::new().run(&["--bind", "192.0.2.1", "0"], "");
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("192.0.2.1"), "{finished:?}");
}

#[test]
fn help_and_version_are_there() {
    let help = NodeSetup::new().run(&["--help"], "");
    assert_eq!(help.code, Some(0));
    for option in ["--bind", "--downloads", "--home", "--accept", "--plain", "--json", "--stay"] {
        assert!(help.stdout.contains(option), "--help does not mention {option}");
    }
    let version = NodeSetup::new().run(&["--version"], "");
    assert_eq!(version.code, Some(0));
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
}

#[test]
fn help_at_the_prompt_names_every_command() {
    let finished = NodeSetup::new().run(&AS_A_SCRIPT, "help\n");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for command in
        "connect disconnect send sendfile broadcast peers transfers accept reject cancel wait whoami help quit".split(' ')
    {
        assert!(finished.stdout.contains(command), "help does not mention {command}: {finished:?}");
    }
}

#[test]
fn an_error_tells_what_to_type_instead() {
    let mut node = TestNode::start();
    for (typed, shown) in [
        ("send", "`send localhost:8000 "),
        ("send localhost:8000", "`send localhost:8000 "),
        ("sendfile localhost:8000", "`sendfile localhost:8000 "),
        ("connect", "`connect localhost:8000`"),
        ("connect localhost", "localhost:8000"),
        ("broadcast", "`broadcast "),
        ("accept", "`accept "),
        ("cancel x", "`transfers`"),
        ("conect localhost:8000", "`connect`"),
        ("frobnicate", "`help`"),
    ] {
        let error = node.error_of(typed);
        assert_eq!(error["code"], "usage", "{typed}: {error}");
        assert!(error["message"].as_str().unwrap().contains(shown), "{typed}: {error}");
    }
}

#[test]
fn the_number_of_a_command_is_that_of_its_line() {
    let mut node = TestNode::start();
    node.type_line("");
    node.type_line("   ");
    node.type_line("whoami");
    let cmd = node.type_line("frobnicate");
    assert_eq!(cmd, 4);
    node.wait_for(&json!({ "event": "result", "cmd": 3 }));
    node.wait_for(&json!({ "event": "error", "cmd": 4 }));
}

#[test]
fn a_line_of_input_that_is_no_text_or_too_long_is_an_error_and_no_end() {
    let mut node = TestNode::start();
    let cmd = node.type_bytes(b"send \xff\xfe\n");
    node.wait_for(&json!({ "event": "error", "cmd": cmd }));
    let long = [b"broadcast ", vec![b'x'; 3 << 20].as_slice(), b"\n"].concat();
    let cmd = node.type_bytes(&long);
    node.wait_for(&json!({ "event": "error", "cmd": cmd }));
    assert_eq!(node.result_of("whoami")["event"], "result");
}

#[test]
fn input_that_ends_finishes_what_was_accepted_first() {
    let (mut sender, mut receiver) = (TestNode::start(), TestNode::start());
    let gate = Gate::before(receiver.addr(), 3 << 20);
    sender.connect(gate.addr());
    let source = sender.dir().join("large.bin");
    let sha256 = write_noise(&source, 64 << 20, 1);
    sender.sendfile(gate.addr(), &source);
    gate.wait_until_held();
    receiver.close_stdin();
    sender.close_stdin();
    gate.open();
    assert_eq!(sha256_of(&receiver.wait_received("large.bin")), sha256);
    assert_eq!(receiver.exit_code(), Some(0), "{}", receiver.report());
    sender.wait_sent("large.bin");
    assert_eq!(sender.exit_code(), Some(0), "{}", sender.report());
}

#[test]
fn a_node_that_stays_serves_on_until_it_is_terminated() {
    let mut node = NodeSetup::plain().option("--stay").start();
    node.close_stdin();
    let peer = BaselinePeer::connect(node.addr());
    let file = Content::new("file.txt", "content");
    peer.send_file(&file);
    node.wait_received("file.txt");
    node.assert_alive();
    assert!(node.is_running());
    node.terminate();
    assert_eq!(node.exit_code(), Some(143));
    peer.hear_the_end();
}

#[test]
fn a_reader_that_leaves_ends_the_program() {
    let setup = NodeSetup::new();
    // `head` ends after the first line.
    let script = r#"exec 3>&1; { "$0" "$@"; echo "code $?" >&3; } | head -n 1; exit"#;
    let mut node = setup.after_shell(script).start();
    eventually("it ends for want of a reader", || {
        node.type_line("whoami");
        node.output().iter().any(|line| line == "code 4")
    });
}

#[test]
fn quit_ends_with_0_and_nothing_after_it_is_done() {
    let receiver = TestNode::start();
    let connect = format!("connect {}", receiver.addr());
    let script = format!("{connect}\nquit\nsend {} too late\n", receiver.addr());
    let finished = NodeSetup::new().run(&AS_A_SCRIPT, &script);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    receiver.wait_for(&json!({ "event": "peer_disconnected" }));
    assert_eq!(receiver.count(&json!({ "event": "message" })), 0);
}

#[test]
fn a_node_that_can_ask_nobody_takes_nothing_that_it_would_ask_about() {
    let mut node = NodeSetup::plain().option("--accept").option("none").option("--stay").start();
    node.close_stdin();
    let peer = BaselinePeer::connect(node.addr());
    // An offer that comes before the end of the input may still wait for an answer.
    let mut offers = 0;
    eventually("an offer is declined", || {
        offers += 1;
        peer.send("FILE_OFFER", &Content::new(&format!("unwanted {offers}"), format!("{offers}")).offer());
        peer.send_text(&format!("{offers}"));
        node.wait_for(&json!({ "event": "message", "text": format!("{offers}") }));
        node.log().iter().any(|line| line.contains("declined"))
    });
    assert_eq!(peer.count(&json!({ "type": "FILE_ACCEPT" })), 0);
    assert_eq!(node.count(&json!({ "event": "offer", "accepted": true })), 0);
    assert!(listing(&node.downloads()).is_empty());
}

#[test]
fn offers_that_are_asked_about_can_be_answered_by_a_script() {
    let mut node = NodeSetup::plain().option("--accept").option("none").start();
    let peer = BaselinePeer::connect(node.addr());
    let (wanted, unwanted) = (Content::new("wanted.txt", "yes"), Content::new("unwanted.txt", "no"));
    for file in [&unwanted, &wanted] {
        peer.send("FILE_OFFER", &file.offer());
    }
    let id_of = |file: &Content| {
        let (name, size, sha256) = (&file.name, file.bytes.len(), &file.hash);
        let offer = json!({ "event": "offer", "name": name, "size": size, "sha256": sha256 });
        node.wait_for(&offer)["id"].as_u64().unwrap()
    };
    let (no, yes) = (id_of(&unwanted), id_of(&wanted));
    node.type_line(&format!("reject {no}"));
    node.type_line(&format!("accept {yes}"));
    peer.hear_accept(&wanted);
    peer.send_chunk(0, &wanted.bytes);
    peer.hear_complete(&wanted);
    node.wait_received("wanted.txt");
    for late in [format!("accept {no}"), format!("accept {yes}"), format!("reject {yes}")] {
        assert_eq!(node.error_of(&late)["code"], "unknown_transfer", "{late}");
    }
    assert_eq!(peer.count(&json!({ "type": "FILE_ACCEPT" })), 1);
    eventually("only what was wanted is there", || listing(&node.downloads()) == ["wanted.txt"]);
}

#[test]
fn what_a_peer_sends_cannot_write_to_the_terminal() {
    let setup = NodeSetup::plain();
    let command = setup.command(&AS_A_SCRIPT);
    let mut node = TestNode::spawn(setup, command);
    let listener = BaselinePeer::listen();
    node.type_line(&format!("connect {}", listener.addr()));
    let peer = listener.accept();
    peer.send("HELLO", &json!({ "version": 1, "agent": "\u{1b}[31mevil\u{202e}", "instance": "0".repeat(32), "listen_port": 1 }));
    peer.send_text("before\u{1b}[2J\u{1b}]0;title\u{7}\r\u{8}\u{9b}31m\u{202e}\u{0}after");
    peer.send_text("first line\nwarning: 192.0.2.1:1: forged");
    let file = Content::new("name\u{2019}s fine.txt", "content");
    peer.send_file(&file);
    peer.send_line("\u{1b}[2J this is not JSON \u{202e}");
    peer.send_text("the end");
    node.wait_for_line(&["the end"]);
    node.type_line("peers");
    node.type_line("transfers");
    node.close_stdin();
    node.exit_code();
    let shown = [node.output(), node.log()].concat();
    assert!(shown.iter().any(|line| line.contains("before") && line.contains("after")), "{shown:#?}");
    assert!(!shown.iter().any(|line| line.starts_with("warning: 192.0.2.1")), "a forged line: {shown:#?}");
    for line in &shown {
        let harmful = |c: char| c.is_control() && c != '\t' || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!line.contains(harmful), "{line:?}");
    }
}

#[test]
fn answering_an_offer_that_is_not_there_is_an_error() {
    let mut node = TestNode::start();
    for command in ["accept 7", "reject 7", "cancel 7"] {
        assert_eq!(node.error_of(command)["code"], "unknown_transfer", "{command}");
    }
}
