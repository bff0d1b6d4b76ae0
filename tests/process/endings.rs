//! Nodes that die or leave in the middle of a transfer.

use serde_json::json;

use crate::support::files::{listing, sha256_of, write_noise};
use crate::support::{Gate, NodeSetup, TestNode, eventually};

/// More than the buffers of all sockets on the way can hold, so that past the gate it is still
/// far from complete.
const SIZE: u64 = 64 << 20;

/// How a transfer ends whose other side leaves: with its last words, if they come through in time.
const LEFT: [&str; 2] = ["shutting_down", "disconnected"];

/// A sender and a receiver in the middle of a transfer that does not move until the gate opens.
struct Midway {
    sender: TestNode,
    receiver: TestNode,
    gate: Gate,
    sender_at_receiver: String,
    sha256: String,
}

impl Midway {
    fn new() -> Self {
        // Nobody comes back here, and nobody waits for that for long.
        let start = || NodeSetup::new().option("--reconnect=1").start();
        let (mut sender, receiver) = (start(), start());
        let gate = Gate::before(receiver.addr(), 3 << 20);
        sender.connect(gate.addr());
        let sender_at_receiver = receiver.wait_for_peer();
        let source = sender.dir().join("large.bin");
        let sha256 = write_noise(&source, SIZE, 1);
        sender.sendfile(gate.addr(), &source);
        gate.wait_until_held();
        eventually("some of it was written", || !listing(&receiver.downloads()).is_empty());
        Self { sender, receiver, gate, sender_at_receiver, sha256 }
    }

    /// The receiver says what happened, keeps what has arrived, and takes the same file from
    /// somebody else.
    fn assert_receiver_lives_on(self, codes: &[&str]) {
        let code = self.receiver.wait_failed("large.bin");
        assert!(codes.contains(&code.as_str()), "{code}");
        let gone = json!({ "event": "peer_disconnected", "peer": self.sender_at_receiver });
        self.receiver.wait_for(&gone);
        self.assert_only_a_partial_file_is_left();
        let mut other = TestNode::start();
        other.connect_to(&self.receiver);
        other.sendfile(self.receiver.addr(), &self.sender.dir().join("large.bin"));
        assert_eq!(sha256_of(&self.receiver.wait_received("large.bin")), self.sha256);
    }

    /// The sender says what happened and sends the same file to somebody else.
    fn assert_sender_lives_on(mut self, codes: &[&str]) {
        let code = self.sender.wait_failed("large.bin");
        assert!(codes.contains(&code.as_str()), "{code}");
        self.sender.wait_for(&json!({ "event": "peer_disconnected", "peer": self.gate.addr() }));
        let other = TestNode::start();
        self.sender.connect(other.addr());
        self.sender.sendfile(other.addr(), &self.sender.dir().join("large.bin"));
        assert_eq!(sha256_of(&other.wait_received("large.bin")), self.sha256);
    }

    /// Where the receiver ended, there is nothing that looks like a received file.
    fn assert_only_a_partial_file_is_left(&self) {
        for entry in listing(&self.receiver.downloads()) {
            assert!(entry.starts_with(".p2p-partial"), "stray: {entry}\n{}", self.receiver.report());
        }
    }
}

#[test]
fn a_killed_sender_leaves_what_has_arrived_at_the_receiver() {
    let mut scene = Midway::new();
    scene.sender.kill();
    scene.gate.open();
    scene.assert_receiver_lives_on(&["disconnected"]);
}

#[test]
fn a_sender_that_quits_leaves_what_has_arrived_at_the_receiver() {
    let mut scene = Midway::new();
    scene.sender.type_line("quit");
    scene.gate.open();
    scene.sender.exit_code();
    scene.assert_receiver_lives_on(&LEFT);
}

#[test]
fn a_killed_receiver_fails_the_transfer_at_the_sender() {
    let mut scene = Midway::new();
    scene.receiver.kill();
    scene.gate.open();
    scene.assert_only_a_partial_file_is_left();
    scene.assert_sender_lives_on(&["disconnected"]);
}

#[test]
fn a_receiver_that_quits_fails_the_transfer_at_the_sender() {
    let mut scene = Midway::new();
    scene.receiver.type_line("quit");
    scene.receiver.exit_code();
    scene.gate.open();
    scene.assert_only_a_partial_file_is_left();
    scene.assert_sender_lives_on(&LEFT);
}

#[test]
fn a_terminated_node_ends_like_one_that_quits() {
    let mut scene = Midway::new();
    scene.receiver.terminate();
    assert_eq!(scene.receiver.exit_code(), Some(143));
    scene.gate.open();
    scene.assert_only_a_partial_file_is_left();
    scene.assert_sender_lives_on(&LEFT);
}

#[test]
fn disconnecting_in_the_middle_of_a_transfer_ends_it_on_both_sides() {
    let mut scene = Midway::new();
    let disconnect = format!("disconnect {}", scene.sender_at_receiver);
    scene.receiver.type_line(&disconnect);
    assert_eq!(scene.receiver.wait_failed("large.bin"), "disconnected");
    scene.assert_only_a_partial_file_is_left();
    scene.gate.open();
    scene.assert_sender_lives_on(&["disconnected"]);
}

#[test]
fn cancelling_and_discarding_at_the_receiver_removes_what_was_written() {
    let mut scene = Midway::new();
    let transfers = scene.receiver.result_of("transfers");
    let id = number_of_the_only_transfer(&transfers);
    scene.receiver.type_line(&format!("cancel {id} --discard"));
    assert_eq!(scene.receiver.wait_failed("large.bin"), "cancelled");
    eventually("nothing is left", || listing(&scene.receiver.downloads()).is_empty());
    scene.gate.open();
    // The rest that is under way is not held against the sender.
    scene.sender.type_line(&format!("send {} and this?", scene.gate.addr()));
    scene.receiver.wait_for(&json!({ "event": "message", "text": "and this?" }));
    assert_eq!(scene.receiver.count(&json!({ "event": "peer_disconnected" })), 0);
}

#[test]
fn cancelling_at_the_sender_stops_it() {
    let mut scene = Midway::new();
    let transfers = scene.sender.result_of("transfers");
    let id = number_of_the_only_transfer(&transfers);
    scene.sender.type_line(&format!("cancel {id}"));
    assert_eq!(scene.sender.wait_failed("large.bin"), "cancelled");
    scene.gate.open();
    scene.sender.type_line(&format!("send {} sorry", scene.gate.addr()));
    scene.receiver.wait_for(&json!({ "event": "message", "text": "sorry" }));
    assert_eq!(scene.receiver.count(&json!({ "event": "received" })), 0);
}

fn number_of_the_only_transfer(result: &serde_json::Value) -> u64 {
    result["transfers"][0]["id"].as_u64().unwrap_or_else(|| panic!("no transfer in {result}"))
}
