//! Encrypted nodes: who may be talked to, who is taken for whom, and what a stranger on the wire sees.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use crate::crowds::allow_many_sockets;
use crate::support::files::noise;
use crate::support::{DEADLINE, NodeSetup, TestNode, eventually};

/// A node as a script starts it: no prompt, no `--json`.
const AS_A_SCRIPT: [&str; 3] = ["--bind", "127.0.0.1", "0"];

/// An identity that nobody has.
fn nobody() -> String {
    "5".repeat(64)
}

fn words(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

/// Sends a small file and waits until the other node has it.
fn send_file(from: &mut TestNode, to: &TestNode, name: &str) {
    let source = from.dir().join(name);
    fs::write(&source, name).unwrap();
    from.sendfile(to.addr(), &source);
    assert_eq!(fs::read_to_string(to.wait_received(name)).unwrap(), name);
    from.wait_sent(name);
}

#[test]
fn who_is_not_who_was_demanded_is_refused() {
    let (mut a, mut b) = (TestNode::start(), TestNode::start());
    let (id, addr) = (b.node_id(), b.addr().to_owned());
    let error = a.error_of(&format!("connect {addr}#{}", nobody()));
    assert_eq!(error["code"], "wrong_identity");
    assert!(words(&error).contains(&id) && words(&error).contains(&nobody()), "{error}");
    // That was no contact: the address is not pinned to whom nobody wanted.
    assert_eq!(a.error_of(&format!("forget {addr}"))["code"], "unknown_peer");
    let connected = a.result_of(&format!("connect {addr}#{id}"));
    assert_eq!(connected["node_id"], id.as_str());
    let error = a.error_of(&format!("connect {addr}#{}", nobody()));
    assert_eq!(error["code"], "wrong_identity", "connected or not");
}

#[test]
fn an_address_whose_identity_changed_is_refused_until_it_is_forgotten() {
    let (mut a, mut b) = (TestNode::start(), TestNode::start());
    let (before, connect) = (b.node_id(), format!("connect {}", b.addr()));
    a.type_line(&connect);
    let first = a.wait_for(&json!({ "event": "peer_connected" }));
    assert_eq!((&first["node_id"], &first["first_contact"]), (&before.as_str().into(), &true.into()));
    b.kill();
    a.wait_for(&json!({ "event": "peer_disconnected" }));

    // The same home at the same address is the same peer, and no first contact.
    let mut again = NodeSetup::new().home_at(b.home()).at_the_address_of(&b).start();
    a.type_line(&connect);
    let second = a.wait_for(&json!({ "event": "peer_connected" }));
    assert_eq!((&second["node_id"], &second["first_contact"]), (&before.as_str().into(), &Value::Null));
    again.kill();
    a.wait_for(&json!({ "event": "peer_disconnected" }));

    let mut other = NodeSetup::new().at_the_address_of(&b).start();
    let after = other.node_id();
    let error = a.error_of(&connect);
    assert_eq!(error["code"], "identity_changed");
    for said in [&before, &after, &format!("forget {}", b.addr())] {
        assert!(words(&error).contains(said.as_str()), "{said} is missing in {error}");
    }
    assert_eq!(other.count(&json!({ "event": "peer_connected" })), 0);
    assert_eq!(a.result_of(&format!("forget {}", b.addr()))["event"], "result");
    assert_eq!(a.result_of(&connect)["node_id"], after.as_str());
}

#[test]
fn with_require_id_nobody_is_met_for_the_first_time() {
    let mut b = TestNode::start();
    let (id, addr) = (b.node_id(), b.addr().to_owned());
    let mut a = NodeSetup::new().option("--require-id").start();
    let error = a.error_of(&format!("connect {addr}"));
    assert_eq!(error["code"], "unknown_identity");
    assert!(words(&error).contains(&format!("connect {addr}#{id}")), "it says what to type: {error}");
    assert_eq!(a.result_of(&format!("connect {addr}#{id}"))["node_id"], id.as_str());
    a.result_of(&format!("disconnect {addr}"));
    // Now it is known.
    assert_eq!(a.result_of(&format!("connect {addr}"))["node_id"], id.as_str());
}

#[test]
fn whoami_tells_what_others_type() {
    let (mut a, b) = (TestNode::start(), NodeSetup::new());
    let id = a.node_id();
    let finished = b.run(&AS_A_SCRIPT, &format!("connect {}#{id}\nwhoami\n", a.addr()));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stdout.contains("first contact"), "{finished:?}");
    let paste =
        finished.stdout.lines().find(|line| line.contains("connect 127.0.0.1:")).expect("a line to paste");
    assert_eq!(paste.rsplit_once('#').map(|(_, id)| id.len()), Some(64), "{paste}");
    let plain = NodeSetup::plain().run(&AS_A_SCRIPT, "whoami\n");
    assert!(plain.stdout.contains("[plain]"), "{plain:?}");
}

#[test]
fn plaintext_is_closed_at_its_first_byte_and_the_log_says_what_to_do() {
    let node = TestNode::start();
    for said in ["{", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stranger = TcpStream::connect(node.addr()).unwrap();
        let addr = stranger.local_addr().unwrap().to_string();
        stranger.write_all(said.as_bytes()).unwrap();
        stranger.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut heard = Vec::new();
        let end = stranger.read_to_end(&mut heard);
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "still connected");
        assert!(heard.is_empty(), "not a byte in plaintext: {heard:?}");
        node.wait_for_log(&[&addr, "--plain"]);
    }
    node.assert_alive();
}

#[test]
fn strangers_fill_no_log() {
    let node = TestNode::start();
    for _ in 0..60 {
        let mut stranger = TcpStream::connect(node.addr()).unwrap();
        stranger.write_all(b"{").unwrap();
        stranger.set_read_timeout(Some(DEADLINE)).unwrap();
        let end = stranger.read(&mut [0]);
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "still connected");
    }
    node.assert_alive();
    node.terminate();
    let mut node = node;
    node.exit_code();
    let about = |line: &&String| line.contains("127.0.0.1");
    let lines: Vec<_> = node.log().iter().filter(about).cloned().collect();
    assert_eq!(lines.len(), 31, "{lines:?}");
    assert!(lines[30].contains("30 more"), "{lines:?}");
}

#[test]
fn an_encrypted_and_a_plain_node_do_not_meet_and_both_say_what_to_do() {
    let (mut secure, mut plain) = (TestNode::start(), TestNode::start_plain());
    let error = secure.error_of(&format!("connect {}", plain.addr()));
    assert_eq!(error["code"], "handshake_failed");
    assert!(words(&error).contains("--plain"), "{error}");
    plain.wait_for_log(&["--plain"]);
    let error = plain.error_of(&format!("connect {}", secure.addr()));
    assert_eq!(error["code"], "handshake_failed");
    assert!(words(&error).contains("--plain"), "{error}");
    secure.wait_for_log(&["--plain"]);
    for node in [&secure, &plain] {
        assert_eq!(node.count(&json!({ "event": "peer_connected" })), 0);
        node.assert_alive();
    }
}

#[test]
fn strangers_who_do_not_finish_the_handshake_keep_nobody_out() {
    allow_many_sockets();
    let node = TestNode::start();
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(node.addr()).unwrap()).collect();
    // Some of them begin a handshake and never go on.
    for mut stream in silent.iter().step_by(3) {
        let _gave_way = stream.write_all(&[0x16, 3, 1, 2, 0, 1]);
    }
    let mut honest = TestNode::start();
    honest.connect(node.addr());
    send_file(&mut honest, &node, "honest.txt");
    // They are gone after ten seconds at most, without having been peers.
    for mut stream in &silent {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "still connected");
    }
    assert_eq!(node.count(&json!({ "event": "peer_connected" })), 1);
    send_file(&mut honest, &node, "and later.txt");
}

#[test]
fn two_processes_of_one_home_connect_and_ask_no_questions() {
    let shared = tempfile::tempdir().unwrap();
    let start =
        || NodeSetup::new().home_at(shared.path().join("home")).option("--accept").option("ask").start();
    let (mut a, mut b) = (start(), start());
    assert_eq!(a.node_id(), b.node_id());
    let connect = format!("connect {}", a.addr());
    assert_eq!(a.error_of(&connect)["code"], "self_connection");
    let known = shared.path().join("home/known.toml");
    assert!(!known.exists(), "one's own address is pinned to nobody");
    b.connect(a.addr());
    eventually("the other process is pinned", || {
        fs::read_to_string(&known).is_ok_and(|text| text.contains(a.addr()))
    });
    send_file(&mut b, &a, "mine.txt");
    assert_eq!(a.count(&json!({ "event": "offer", "accepted": true })), 1);
}

#[test]
fn processes_that_start_at_once_on_a_fresh_home_are_all_the_same_one() {
    let shared = tempfile::tempdir().unwrap();
    let home = shared.path().join("home");
    let start = || {
        let setup = NodeSetup::new().home_at(&home);
        let command = setup.command(&["--json", "--bind", "127.0.0.1", "0"]);
        TestNode::spawn(setup, command)
    };
    let mut nodes: Vec<TestNode> = (0..8).map(|_| start()).collect();
    let ids: Vec<String> = nodes.iter_mut().map(TestNode::node_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home), mode(&home.join("identity.pem"))), (0o700, 0o600));
    let left: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["identity.pem"], "nothing but the key is left");
}

#[test]
fn a_home_that_is_damaged_or_open_to_others_ends_with_3_and_one_clear_line() {
    let key_of_another = || {
        let mut node = TestNode::start();
        assert_eq!(node.node_id().len(), 64);
        fs::read_to_string(node.home().join("identity.pem")).unwrap()
    };
    let key = key_of_another();
    let half = &key[..key.len() / 2];
    for (file, content, mode, said) in [
        ("identity.pem", key.as_str(), 0o644, "chmod 600"),
        ("identity.pem", half, 0o600, "identity"),
        ("identity.pem", "", 0o600, "identity"),
        ("known.toml", "[pins]\nthis is not toml", 0o600, "known.toml"),
        ("known.toml", "[pins]\n\"localhost:8000\" = \"12\"\n", 0o600, "known.toml"),
        ("known.toml", "[prins]\n", 0o600, "known.toml"),
        ("known.toml", "", 0o666, "chmod go-w"),
    ] {
        let setup = NodeSetup::new();
        let path = setup.home().join(file);
        fs::create_dir(setup.home()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (dir, home) = (setup.dir().to_owned(), setup.home());
        let finished = setup.run(&AS_A_SCRIPT, "");
        assert_eq!(finished.code, Some(3), "{file} {content:?}: {finished:?}");
        assert_eq!(finished.stderr.trim_end().lines().count(), 1, "{file} {content:?}: {finished:?}");
        assert!(
            finished.stderr.contains(said) && finished.stderr.contains(&*home.to_string_lossy()),
            "{finished:?}"
        );
        assert!(finished.stdout.is_empty(), "{dir:?} {finished:?}");
        assert!(!finished.stderr.contains("PRIVATE KEY"), "{finished:?}");
    }
}

#[test]
fn a_key_that_cannot_be_read_ends_with_3() {
    let setup = NodeSetup::new();
    fs::create_dir(setup.home()).unwrap();
    fs::write(setup.home().join("identity.pem"), "").unwrap();
    fs::set_permissions(setup.home().join("identity.pem"), fs::Permissions::from_mode(0o000)).unwrap();
    let finished = setup.unprivileged().run(&AS_A_SCRIPT, "");
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("identity.pem"), "{finished:?}");
}

#[test]
fn a_home_of_another_user_ends_with_3() {
    let finished = NodeSetup::new().home_at("/").unprivileged().run(&AS_A_SCRIPT, "");
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("another user"), "{finished:?}");
}

#[test]
fn trust_is_remembered_and_strangers_are_asked_about() {
    let shared = tempfile::tempdir().unwrap();
    let home = shared.path().join("home");
    let start = || NodeSetup::new().home_at(&home).option("--accept").option("ask").start();
    let mut receiver = start();
    let mut sender = TestNode::start();
    let id = sender.node_id();

    // Nobody is taken for a friend because they are on this computer.
    let at_receiver = sender.connect_to(&receiver);
    let source = sender.dir().join("first.txt");
    fs::write(&source, "first").unwrap();
    sender.sendfile(receiver.addr(), &source);
    let offer = receiver.wait_for(&json!({ "event": "offer", "name": "first.txt" }));
    assert_eq!(offer["accepted"], false);
    receiver.type_line(&format!("accept {}", offer["id"]));
    receiver.wait_received("first.txt");

    assert_eq!(receiver.result_of(&format!("trust {at_receiver}"))["node_id"], id.as_str());
    send_file(&mut sender, &receiver, "second.txt");
    receiver.kill();
    sender.wait_for(&json!({ "event": "peer_disconnected" }));

    let mut receiver = start();
    sender.connect_to(&receiver);
    send_file(&mut sender, &receiver, "third.txt");
    receiver.result_of(&format!("forget {id}"));
    let source = sender.dir().join("fourth.txt");
    fs::write(&source, "fourth").unwrap();
    sender.sendfile(receiver.addr(), &source);
    let offer = receiver.wait_for(&json!({ "event": "offer", "name": "fourth.txt" }));
    assert_eq!(offer["accepted"], false);
}

#[test]
fn an_alias_is_a_name_in_commands_and_on_the_screen() {
    let setup = NodeSetup::new();
    let command = setup.command(&AS_A_SCRIPT);
    let mut a = TestNode::spawn(setup, command);
    let mut b = TestNode::start();
    let id = b.node_id();
    a.type_line(&format!("connect {}", b.addr()));
    // The whole identity, to compare with what the other side's `whoami` says.
    a.wait_for_line(&["first contact", b.addr(), &id]);
    let at_b = b.wait_for_peer();
    a.type_line(&format!("alias {} laptop", b.addr()));
    a.wait_for_line(&[&id, "laptop"]);
    a.type_line("send laptop hello");
    b.wait_for(&json!({ "event": "message", "text": "hello" }));
    b.type_line(&format!("send {at_b} hello yourself"));
    a.wait_for_line(&["<laptop> hello yourself"]);
    a.type_line("trust laptop");
    a.wait_for_line(&[&id, "without asking"]);
    a.type_line("peers");
    a.wait_for_line(&[&id[..16], "laptop", "yes"]);
    a.type_line(&format!("send {} by the beginning of its identity", &id[..16]));
    b.wait_for(&json!({ "event": "message", "text": "by the beginning of its identity" }));
}

#[test]
fn a_plain_node_marks_its_peers() {
    let (mut b, setup) = (TestNode::start_plain(), NodeSetup::plain());
    let command = setup.command(&AS_A_SCRIPT);
    let mut a = TestNode::spawn(setup, command);
    a.type_line(&format!("connect {}", b.addr()));
    a.wait_for_line(&["connected to", "[plain]"]);
    a.type_line("peers");
    a.wait_for_line(&[b.addr(), "[plain]", "p2p/"]);
    let at_b = b.wait_for_peer();
    b.type_line(&format!("send {at_b} hello"));
    a.wait_for_line(&["[plain]> hello"]);
    let source = b.dir().join("file.txt");
    fs::write(&source, "content").unwrap();
    b.sendfile(&at_b, &source);
    a.wait_for_line(&["[plain] sends file.txt"]);
    b.wait_sent("file.txt");
    assert_eq!(b.error_of(&format!("trust {at_b}"))["code"], "unknown_identity");
    // The log marks them too, before anybody has said anything.
    let c = TestNode::start_plain();
    let mut stranger = TcpStream::connect(c.addr()).unwrap();
    stranger.write_all(&[0x16]).unwrap();
    c.wait_for_log(&[&format!("{} [plain]", stranger.local_addr().unwrap()), "--plain"]);
}

/// Stands between two nodes and keeps every byte that passes, either way.
fn tap(target: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, target) = (listener.local_addr().unwrap().to_string(), target.to_owned());
    let captured = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&captured);
    thread::spawn(move || {
        let (dialler, _) = listener.accept().unwrap();
        let target = TcpStream::connect(target).unwrap();
        let ways = [
            (dialler.try_clone().unwrap(), target.try_clone().unwrap()),
            (target.try_clone().unwrap(), dialler.try_clone().unwrap()),
        ];
        for (mut from, mut to) in ways {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (addr, captured)
}

/// Ways in which some bytes would show in a capture: as they are, and as base64 at each alignment.
fn traces(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut traces = vec![secret.to_vec()];
    for skipped in 0..3 {
        let whole = &secret[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        traces.push(STANDARD_NO_PAD.encode(whole).into_bytes());
    }
    traces
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

/// Sends a text each way and a file, and tells what a stranger on the wire saw of them.
fn seen_on_the_wire(mut a: TestNode, mut b: TestNode) -> Vec<&'static str> {
    let (text, answer, name) =
        ("the quick brown fox says", "jumps over the lazy dog", "distinctive-name.bin");
    let content = noise(300_000, 77);
    let (addr, captured) = tap(b.addr());
    a.connect(&addr);
    let a_at_b = b.wait_for_peer();
    a.type_line(&format!("send {addr} {text}"));
    b.wait_for(&json!({ "event": "message", "text": text }));
    b.type_line(&format!("send {a_at_b} {answer}"));
    a.wait_for(&json!({ "event": "message", "text": answer }));
    let source = a.dir().join(name);
    fs::write(&source, &content).unwrap();
    a.sendfile(&addr, &source);
    assert!(fs::read(b.wait_received(name)).unwrap() == content);
    a.wait_sent(name);
    let captured = captured.lock().unwrap();
    assert!(captured.len() > content.len(), "everything went through the tap");
    // The middle of the content is the middle of some chunk's base64, whatever that began with.
    let secrets = [("text", text.as_bytes()), ("answer", answer.as_bytes()), ("name", name.as_bytes())];
    let secrets = secrets.into_iter().chain([("content", &content[1000..1060])]);
    secrets
        .filter(|(_, secret)| traces(secret).iter().any(|trace| contains(&captured, trace)))
        .map(|(what, _)| what)
        .collect()
}

#[test]
fn a_stranger_on_the_wire_sees_no_text_no_name_and_no_content() {
    assert!(seen_on_the_wire(TestNode::start(), TestNode::start()).is_empty());
}

/// Without this, the test above could pass because it looks for the wrong thing.
#[test]
fn in_plaintext_a_stranger_on_the_wire_sees_everything() {
    let seen = seen_on_the_wire(TestNode::start_plain(), TestNode::start_plain());
    assert_eq!(seen, ["text", "answer", "name", "content"]);
}

#[test]
fn nodes_that_all_dial_each_other_at_once_are_connected_once_each() {
    let mut nodes: Vec<TestNode> = (0..4).map(|_| TestNode::start()).collect();
    let addrs: Vec<String> = nodes.iter().map(|node| node.addr().to_owned()).collect();
    for (i, node) in nodes.iter_mut().enumerate() {
        for (_, addr) in addrs.iter().enumerate().filter(|(j, _)| *j != i) {
            node.type_line(&format!("connect {addr}"));
        }
    }
    // A script's commands run one after the other, so this answer comes after all of them.
    for node in &mut nodes {
        assert_eq!(node.result_of("whoami")["event"], "result");
        assert_eq!(node.count(&json!({ "event": "error" })), 0, "{}", node.report());
    }
    for node in &mut nodes {
        eventually("three peers, each once", || {
            let peers = node.result_of("peers")["peers"].clone();
            let ids: std::collections::BTreeSet<_> =
                peers.as_array().unwrap().iter().map(|peer| peer["node_id"].to_string()).collect();
            ids.len() == 3 && peers.as_array().unwrap().len() == 3
        });
    }
    for node in &mut nodes {
        node.type_line("broadcast to each of you");
    }
    for node in &nodes {
        for _ in 0..3 {
            node.wait_for(&json!({ "event": "message", "text": "to each of you" }));
        }
        assert_eq!(node.count(&json!({ "event": "message" })), 3);
    }
}
