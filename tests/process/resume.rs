//! Transfers that break and go on: only what is missing moves again.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::files::{listing, sha256_of, write_noise};
use crate::support::{Gate, NodeSetup, TestNode, eventually};

const SIZE: u64 = 64 << 20;

/// What passes before the connection breaks.
const FIRST: usize = 32 << 20;

/// What may be under way when it breaks, and what TLS and the protocol add.
const UNDER_WAY: u64 = 17 << 20;

/// A receiver, and a sender that has sent it a part of a file through a gate.
struct Midway {
    sender: TestNode,
    receiver: TestNode,
    gate: Gate,
    source: PathBuf,
    sha256: String,
}

impl Midway {
    fn new() -> Self {
        let (mut sender, receiver) = (TestNode::start(), TestNode::start());
        let gate = Gate::before(receiver.addr(), FIRST);
        sender.connect(gate.addr());
        let source = sender.dir().join("large.bin");
        let sha256 = write_noise(&source, SIZE, 7);
        sender.sendfile(gate.addr(), &source);
        gate.wait_until_held();
        eventually("much of it was written", || partial_bytes(&receiver.downloads()) > FIRST as u64 / 2);
        Self { sender, receiver, gate, source, sha256 }
    }

    fn assert_arrived(&self) {
        assert_eq!(sha256_of(&self.receiver.wait_received("large.bin")), self.sha256);
        eventually("only the file is left", || listing(&self.receiver.downloads()) == ["large.bin"]);
    }

    fn assert_little_moved_again(&self) {
        let passed = self.gate.passed() as u64;
        assert!(passed < SIZE + UNDER_WAY, "{passed} bytes passed\n{}", self.receiver.report());
    }
}

fn partial_bytes(downloads: &Path) -> u64 {
    let sizes =
        listing(downloads).into_iter().filter(|entry| !entry.ends_with(".journal")).filter_map(|entry| {
            Some(std::fs::metadata(downloads.join(entry)).ok().filter(std::fs::Metadata::is_file)?.len())
        });
    sizes.max().unwrap_or(0)
}

#[test]
fn a_broken_connection_is_dialled_again_and_the_transfer_goes_on() {
    let scene = Midway::new();
    scene.gate.cut(usize::MAX);
    scene.assert_arrived();
    scene.sender.wait_sent("large.bin");
    scene.assert_little_moved_again();
    assert_eq!(scene.sender.count(&json!({ "event": "transfer_failed" })), 0);
    assert_eq!(scene.receiver.count(&json!({ "event": "transfer_failed" })), 0);
}

#[test]
fn a_killed_receiver_goes_on_where_it_stopped() {
    let mut scene = Midway::new();
    scene.receiver.restart();
    // What is there is looked up while the node begins to listen.
    eventually("the part is listed", || {
        let transfers = scene.receiver.result_of("transfers");
        transfers["transfers"].get(0).is_some_and(|left| left["stage"] == "partial")
    });
    // It has another port, so the sender has to be told; then it goes on by itself.
    let gate = Gate::before(scene.receiver.addr(), usize::MAX);
    scene.sender.connect(gate.addr());
    scene.assert_arrived();
    let passed = scene.gate.passed() as u64 + gate.passed() as u64;
    assert!(passed < SIZE + UNDER_WAY, "{passed} bytes passed");
}

#[test]
fn a_killed_sender_goes_on_where_it_stopped() {
    let mut scene = Midway::new();
    scene.sender.kill();
    scene.gate.cut(usize::MAX);
    scene.sender.restart();
    scene.sender.connect(scene.gate.addr());
    scene.sender.sendfile(scene.gate.addr(), &scene.source);
    scene.assert_arrived();
    scene.assert_little_moved_again();
}

#[test]
fn a_flipped_byte_in_a_partial_file_is_not_delivered() {
    let mut scene = Midway::new();
    scene.receiver.kill();
    let partials = scene.receiver.downloads().join(".p2p-partial");
    let partial = listing(&partials).into_iter().find(|name| !name.ends_with(".journal")).unwrap();
    let path = partials.join(partial);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5 << 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    scene.receiver.restart();
    scene.sender.connect(scene.receiver.addr());
    scene.assert_arrived();
}

#[test]
fn texts_that_a_broken_connection_lost_arrive_once_and_in_order() {
    let (mut a, b) = (TestNode::start(), TestNode::start());
    let gate = Gate::before(b.addr(), 1 << 20);
    a.connect(gate.addr());
    for round in 0..3 {
        gate.hold_after(300);
        for number in 0..10 {
            a.result_of(&format!("broadcast {round}-{number}"));
        }
        gate.wait_until_held();
        gate.cut(usize::MAX);
        b.wait_for(&json!({ "event": "message", "text": format!("{round}-9") }));
        a.result_of("wait");
    }
    let texts: Vec<_> = b
        .output()
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["event"] == "message")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<_> =
        (0..3).flat_map(|round| (0..10).map(move |number| format!("{round}-{number}"))).collect();
    assert_eq!(texts, expected, "{}", a.report());
}

#[test]
fn ten_files_in_both_directions_and_a_message_arrive_over_one_connection() {
    let (mut a, mut b) = (NodeSetup::new().start(), NodeSetup::new().start());
    let b_addr = b.addr().to_owned();
    a.connect(&b_addr);
    let a_addr = b.wait_for_peer();
    let mut hashes = Vec::new();
    for number in 0..5 {
        for (node, peer) in [(&mut a, &b_addr), (&mut b, &a_addr)] {
            let path = node.dir().join(format!("{number}-{}.bin", node.port()));
            hashes.push((
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                write_noise(&path, 9 << 20, number),
            ));
            node.sendfile(peer, &path);
        }
    }
    a.type_line(&format!("send {b_addr} meanwhile"));
    b.wait_for(&json!({ "event": "message", "text": "meanwhile" }));
    for (name, sha256) in hashes {
        let receiver = if name.contains(a.port()) { &b } else { &a };
        assert_eq!(sha256_of(&receiver.wait_received(&name)), sha256);
    }
}
