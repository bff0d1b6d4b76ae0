//! Texts between nodes, and what a node tells about itself.

use serde_json::json;

use crate::support::{BaselinePeer, NodeSetup, TestNode};

#[test]
fn a_text_goes_both_ways_as_it_was_typed() {
    let (mut a, mut b) = (TestNode::start(), TestNode::start());
    let a_at_b = a.connect_to(&b);
    for text in ["hello", "two  spaces, ein Bär, 日本語, 🎉", r#"quotes " and \ backslashes {"type":"TEXT"}"#]
    {
        a.type_line(&format!("send {} {text}", b.addr()));
        b.wait_for(&json!({ "event": "message", "peer": a_at_b, "text": text }));
        b.type_line(&format!("send {a_at_b} {text}"));
        a.wait_for(&json!({ "event": "message", "peer": b.addr(), "text": text }));
    }
}

#[test]
fn a_peer_can_be_named_by_the_host_name_that_was_typed() {
    let (mut a, b) = (TestNode::start(), TestNode::start());
    let port = b.addr().rsplit_once(':').unwrap().1.to_owned();
    a.type_line(&format!("connect localhost:{port}"));
    a.wait_for(&json!({ "event": "peer_connected", "peer": b.addr() }));
    a.type_line(&format!("send localhost:{port} by name"));
    b.wait_for(&json!({ "event": "message", "text": "by name" }));
    a.type_line(&format!("send {} by address", b.addr()));
    b.wait_for(&json!({ "event": "message", "text": "by address" }));
}

#[test]
fn a_broadcast_reaches_every_peer_once() {
    let mut speaker = TestNode::start_plain();
    let nodes = [TestNode::start_plain(), TestNode::start_plain(), TestNode::start_plain()];
    nodes.iter().for_each(|node| speaker.connect(node.addr()));
    let original = BaselinePeer::connect(speaker.addr());
    original.send_text("I speak only the baseline");
    speaker.wait_for(&json!({ "event": "message", "peer": original.addr() }));

    speaker.type_line("broadcast to all of you");
    speaker.type_line("broadcast and once more");
    for node in &nodes {
        node.wait_for(&json!({ "event": "message", "text": "to all of you" }));
        node.wait_for(&json!({ "event": "message", "text": "and once more" }));
        assert_eq!(node.count(&json!({ "event": "message" })), 2);
    }
    original.hear_text("to all of you");
    original.hear_text("and once more");
}

#[test]
fn a_message_to_nobody_is_an_error_that_says_so() {
    let mut node = TestNode::start();
    assert_eq!(node.error_of("send localhost:9 hello")["code"], "unknown_peer");
    assert_eq!(node.error_of("sendfile localhost:9 Cargo.toml")["code"], "unknown_peer");
    assert_eq!(node.error_of("disconnect localhost:9")["code"], "unknown_peer");
}

#[test]
fn connecting_to_where_nobody_listens_is_an_error() {
    let mut node = TestNode::start();
    let freed = BaselinePeer::listen().addr();
    assert_eq!(node.error_of(&format!("connect {freed}"))["code"], "unreachable");
    assert_eq!(node.error_of("connect no-such-host.invalid:8000")["code"], "unreachable");
    node.assert_alive();
}

#[test]
fn connecting_to_oneself_is_an_error() {
    let mut node = TestNode::start();
    let connect = format!("connect {}", node.addr());
    assert_eq!(node.error_of(&connect)["code"], "self_connection");
    node.assert_alive();
}

#[test]
fn disconnecting_is_seen_on_both_sides() {
    let (mut a, b) = (NodeSetup::new().option("--no-outbox").start(), TestNode::start());
    let a_at_b = a.connect_to(&b);
    a.type_line(&format!("disconnect {}", b.addr()));
    a.wait_for(&json!({ "event": "peer_disconnected", "peer": b.addr() }));
    b.wait_for(&json!({ "event": "peer_disconnected", "peer": a_at_b }));
    let too_late = a.error_of(&format!("send {} hello", b.addr()));
    assert_eq!(too_late["code"], "unknown_peer");
    a.connect_to(&b);
}

#[test]
fn a_node_tells_about_itself_and_its_peers() {
    let (mut a, b) = (TestNode::start(), TestNode::start());
    a.connect(b.addr());
    let (addr, peer) = (a.addr().to_owned(), b.addr().to_owned());
    for (command, mentioned) in [("whoami", &addr), ("peers", &peer)] {
        let result = a.result_of(command);
        assert_eq!(result["event"], "result");
        assert!(
            result.to_string().contains(mentioned.as_str()),
            "{command} says nothing of {mentioned}: {result}"
        );
    }
    assert_eq!(a.result_of("transfers")["event"], "result");
}
