//! What the original program really said and heard, replayed with our node on either side.
//!
//! In the fixtures `<` is what the original said and `>` what it heard.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{BaselinePeer, TestNode, abridged};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Which side of the transcript our node takes.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// The original's: it must say what the original said.
    Original,
    /// That of whoever talked to the original: the original must find it what it was used to.
    Other,
}

/// Replays a transcript: the test says one side's lines, byte for byte, and the node must say the
/// other's, made to by commands where it would not by itself. Returns the node as it then is.
fn replay(transcript: &str, role: Role) -> (TestNode, BaselinePeer) {
    let mut node = TestNode::start_plain();
    let peer = BaselinePeer::connect(node.addr());
    let name = node.wait_for_peer();
    let text = fs::read_to_string(Path::new(FIXTURES).join(transcript)).unwrap();
    for line in text.lines() {
        let (said_by_original, line) = match line.split_at(2) {
            ("< ", line) => (true, line),
            ("> ", line) => (false, line),
            _ => panic!("not a line of a transcript: {line}"),
        };
        if said_by_original != (role == Role::Original) {
            peer.send_line(line);
            continue;
        }
        let Ok(expected) = serde_json::from_str::<Value>(line) else { continue };
        match expected["type"].as_str().unwrap() {
            "TEXT" => _ = node.type_line(&format!("send {name} {}", expected["payload"].as_str().unwrap())),
            "FILE_OFFER" => _ = node.sendfile(&name, &Path::new(FIXTURES).join("two-chunks.txt")),
            "FILE_ACCEPT" | "CHUNK" | "CHUNK_ACK" | "COMPLETE" => {}
            // What no node says: it was there to see how the original takes it.
            _ => continue,
        }
        let heard = peer.hear_next();
        assert!(heard == expected, "heard {} instead of {}", abridged(&heard), abridged(&expected));
    }
    (node, peer)
}

fn assert_has_the_file(node: &TestNode) {
    let arrived = node.wait_received("two-chunks.txt");
    assert!(fs::read(arrived).unwrap() == fs::read(Path::new(FIXTURES).join("two-chunks.txt")).unwrap());
}

#[test]
fn our_node_receives_in_the_originals_place() {
    let (node, _peer) = replay("original-receives.ndjson", Role::Original);
    assert_has_the_file(&node);
    // Both texts, the second after an unknown type and a line that is not JSON.
    node.wait_for(&json!({ "event": "message", "text": "hello" }));
    node.wait_for(&json!({ "event": "message", "text": "still there" }));
}

#[test]
fn our_node_sends_to_the_original() {
    let (node, _peer) = replay("original-receives.ndjson", Role::Other);
    assert_eq!(node.wait_sent("two-chunks.txt")["confirmed"], true);
}

#[test]
fn our_node_sends_in_the_originals_place() {
    let (node, _peer) = replay("original-sends.ndjson", Role::Original);
    assert_eq!(node.wait_sent("two-chunks.txt")["confirmed"], true);
}

#[test]
fn our_node_receives_from_the_original() {
    let (node, _peer) = replay("original-sends.ndjson", Role::Other);
    assert_has_the_file(&node);
    node.wait_for(&json!({ "event": "message", "text": "hey you" }));
}
