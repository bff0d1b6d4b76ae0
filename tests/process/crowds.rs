//! Strangers who hold on to what they can get. An honest peer is served all the same.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::files::{CHUNK, noise, write_noise};
use crate::support::{BaselinePeer, Content, DEADLINE, TestNode, eventually};

/// Many systems allow a process 256 open files unless it asks for more.
pub(crate) fn allow_many_sockets() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < 4096) {
        limit.current = Some(limit.maximum.unwrap_or(4096).min(4096));
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}

/// Somebody new gets a file to the node, one back from it, and a text.
fn assert_serves_a_newcomer(node: &mut TestNode) {
    let honest = BaselinePeer::connect(node.addr());
    let file = Content::new("honest.bin", noise(CHUNK + 1, 1));
    honest.send_file(&file);
    node.wait_received("honest.bin");
    let source = node.dir().join("back.bin");
    write_noise(&source, 400_000, 2);
    node.sendfile(&honest.addr(), &source);
    assert_eq!(honest.receive_file().bytes.len(), 400_000);
    node.wait_sent("back.bin");
    node.type_line(&format!("send {} goodbye", honest.addr()));
    honest.hear_text("goodbye");
}

#[test]
fn three_hundred_silent_connections_keep_nobody_out() {
    allow_many_sockets();
    let mut node = TestNode::start_plain();
    let before = BaselinePeer::connect(node.addr());
    before.send_text("I was here first");
    node.wait_for(&json!({ "event": "message", "peer": before.addr() }));
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(node.addr()).unwrap()).collect();
    // Some of them say half a word.
    for mut stream in silent.iter().step_by(3) {
        let _gave_way = stream.write_all(b"{\"type\":");
    }
    assert_serves_a_newcomer(&mut node);
    before.send_text("and still am");
    node.wait_for(&json!({ "event": "message", "text": "and still am" }));
    // Those who were silent for longest give way.
    silent[0].set_read_timeout(Some(DEADLINE)).unwrap();
    let end = (&silent[0]).read_to_end(&mut Vec::new());
    assert!(!end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it is still connected");
}

#[test]
fn two_thousand_connections_that_are_reset_at_once_do_no_harm() {
    let mut node = TestNode::start_plain();
    let before = BaselinePeer::connect(node.addr());
    before.send_text("I was here first");
    node.wait_for(&json!({ "event": "message", "peer": before.addr() }));
    for _ in 0..2_000 {
        let stream = TcpStream::connect(node.addr()).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    assert_serves_a_newcomer(&mut node);
    before.send_text("and still am");
    node.wait_for(&json!({ "event": "message", "text": "and still am" }));
}

#[test]
fn a_receiver_that_never_reads_holds_up_only_itself() {
    let mut node = TestNode::start_plain();
    let source = node.dir().join("large.bin");
    let sha256 = write_noise(&source, 64 << 20, 1);
    // It accepts by heart, since it does not read the offer.
    let mut deaf = TcpStream::connect(node.addr()).unwrap();
    let name = deaf.local_addr().unwrap().to_string();
    let accept = json!({ "type": "FILE_ACCEPT", "payload": sha256 });
    deaf.write_all(b"{\"type\":\"TEXT\",\"payload\":\"send me something\"}\n").unwrap();
    node.wait_for(&json!({ "event": "message", "peer": name }));
    node.sendfile(&name, &source);
    // Until its offer is out an acceptance means nothing, so it looks for that without taking it.
    let offered = |seen: &[u8]| seen.windows(12).any(|part| part == b"\"FILE_OFFER\"");
    let mut seen = vec![0; 4096];
    eventually("an offer to the deaf peer", || {
        let read = deaf.peek(&mut seen).unwrap();
        offered(&seen[..read])
    });
    deaf.write_all(format!("{accept}\n").as_bytes()).unwrap();
    eventually("the transfer runs", || node.result_of("transfers").to_string().contains("transferring"));

    // That it confirms what cannot have reached it confirms nothing.
    let confirmation = json!({ "type": "COMPLETE", "payload": sha256 });
    deaf.write_all(format!("{confirmation}\n").as_bytes()).unwrap();
    deaf.write_all(b"{\"type\":\"TEXT\",\"payload\":\"got it\"}\n").unwrap();
    node.wait_for(&json!({ "event": "message", "text": "got it" }));

    // Texts to it pile up until the node has had enough; that is an error, not a wait.
    let text = "x".repeat(60_000);
    for _ in 0..200 {
        node.type_line(&format!("send {name} {text}"));
    }
    node.type_line("whoami");
    node.wait_for(&json!({ "event": "error", "code": "busy" }));
    assert_serves_a_newcomer(&mut node);
    assert_eq!(node.count(&json!({ "event": "sent", "name": "large.bin" })), 0);
}

#[test]
fn a_sender_that_never_reads_holds_up_only_itself() {
    let mut node = TestNode::start_plain();
    let deaf = TcpStream::connect(node.addr()).unwrap();
    // Every chunk is answered, and the answers are never read: they must not pile up for ever.
    let chunk = json!({ "type": "CHUNK", "payload": { "index": 0, "hash": "", "data": "AA==" } });
    let offers: String = (0..10_000)
        .map(|i| {
            let file = Content::new(&format!("{i}"), format!("{i}"));
            format!("{}\n", json!({ "type": "FILE_OFFER", "payload": file.offer() }))
        })
        .collect();
    let mut talking = deaf.try_clone().unwrap();
    let talker = thread::spawn(move || {
        // The node may end this, or stop reading; then this ends with the connection.
        let _ended = talking.write_all(offers.as_bytes());
        while talking.write_all(format!("{chunk}\n").as_bytes()).is_ok() {}
    });
    assert_serves_a_newcomer(&mut node);
    deaf.shutdown(std::net::Shutdown::Both).unwrap_or(());
    talker.join().unwrap();
    node.assert_alive();
}

#[test]
fn an_offer_that_is_never_accepted_holds_up_only_its_peer() {
    let mut node = TestNode::start_plain();
    let mut patient = Vec::new();
    let source = node.dir().join("offered.bin");
    write_noise(&source, 300_000, 1);
    for _ in 0..10 {
        let peer = BaselinePeer::connect(node.addr());
        peer.send_text("hello");
        node.wait_for(&json!({ "event": "message", "peer": peer.addr() }));
        node.sendfile(&peer.addr(), &source);
        peer.hear(&json!({ "type": "FILE_OFFER" }));
        patient.push(peer);
    }
    assert_serves_a_newcomer(&mut node);
    assert!(patient.iter().all(BaselinePeer::is_connected));
}

#[test]
fn a_slow_sender_holds_up_only_itself() {
    let mut node = TestNode::start_plain();
    let slow = BaselinePeer::connect(node.addr());
    let file = Content::new("slow.bin", noise(CHUNK, 1));
    slow.send("FILE_OFFER", &file.offer());
    slow.hear_accept(&file);
    slow.send_raw(br#"{"type":"CHUNK","payload":{"index":0,"hash":"","data":"AAAA"#);
    assert_serves_a_newcomer(&mut node);
    // Its half chunk dies with it.
    slow.hang_up();
    assert_eq!(node.wait_failed("slow.bin"), "disconnected");
    BaselinePeer::connect(node.addr()).send_file(&file);
    node.wait_received("slow.bin");
}
