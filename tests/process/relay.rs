//! Real nodes that reach each other through a third.

use peer_to_peer::wire::{CircuitId, CircuitPart, Message};
use serde_json::json;

use crate::support::files::{noise, sha256_of, snapshot};
use crate::support::{NodeSetup, TestNode};
use crate::tls_peer::TlsPeer;

/// A node that passes connections on, and two that are connected to it and that it trusts.
fn friends(relay_options: &[&str]) -> (TestNode, TestNode, TestNode) {
    let mut setup = NodeSetup::new();
    for option in relay_options {
        setup = setup.option(option);
    }
    let mut relay = setup.start();
    let mut ends = [TestNode::start(), TestNode::start()];
    for end in &mut ends {
        end.connect(relay.addr());
        let id = end.node_id();
        relay.wait_for(&json!({ "event": "peer_connected", "node_id": id }));
        relay.result_of(&format!("trust {id}"));
        let id = relay.node_id();
        end.result_of(&format!("trust {id}"));
    }
    let [a, b] = ends;
    (relay, a, b)
}

#[test]
fn messages_and_files_go_through_a_friend_and_both_sides_show_through_whom() {
    let (relay, mut a, mut b) = friends(&["--relay", "known", "--relay-limit", "100MB/s"]);
    let (a_id, b_id) = (a.node_id(), b.node_id());
    let before = snapshot(relay.dir());
    let there = a.result_of(&format!("connect {b_id} via {}", relay.addr()));
    let at_a = there["peer"].as_str().unwrap().to_owned();
    let shown = a.wait_for(&json!({ "event": "peer_connected", "node_id": b_id }));
    assert_eq!(
        (shown["via"].as_str(), shown["peer"].as_str()),
        (Some(relay.addr()), Some(&*at_a)),
        "{shown}"
    );
    let shown = b.wait_for(&json!({ "event": "peer_connected", "node_id": a_id }));
    assert_eq!(shown["via"], relay.addr(), "{shown}");
    let at_b = shown["peer"].as_str().unwrap().to_owned();

    a.result_of(&format!("send {at_a} how do you do"));
    b.wait_for(&json!({ "event": "message", "peer": at_b, "text": "how do you do" }));
    b.result_of(&format!("trust {a_id}"));
    let path = a.dir().join("report.pdf");
    std::fs::write(&path, noise(3_000_000, 5)).unwrap();
    a.sendfile(&at_a, &path);
    assert_eq!(sha256_of(&b.wait_received("report.pdf")), sha256_of(&path));
    let again = a.result_of(&format!("connect {b_id} via {}", relay.addr()));
    assert_eq!((&again["peer"], &again["already"]), (&json!(at_a), &json!(true)), "{again}");
    let peers = a.result_of("peers");
    let row = peers["peers"].as_array().unwrap().iter().find(|row| row["peer"] == at_a.as_str()).unwrap();
    assert_eq!(row["via"], relay.addr(), "{peers}");
    assert_eq!(snapshot(relay.dir()), before, "whoever passes it on keeps nothing of it");

    // Who can be reached directly is.
    a.connect(b.addr());
    a.wait_for(&json!({ "event": "peer_disconnected", "peer": at_a }));
    let peers = a.result_of("peers");
    let to_b: Vec<_> =
        peers["peers"].as_array().unwrap().iter().filter(|row| row["node_id"] == b_id.as_str()).collect();
    assert_eq!((to_b.len(), to_b[0].get("via")), (1, None), "{peers}");
}

#[test]
fn nobody_is_passed_on_who_is_not_trusted_or_by_whom_that_was_not_asked_of() {
    let (relay, mut a, mut b) = friends(&[]);
    let b_id = b.node_id();
    let refused = a.error_of(&format!("connect {b_id} via {}", relay.addr()));
    assert_eq!(refused["code"], "declined", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("--relay known"), "{refused}");

    let (relay, mut a, _b) = friends(&["--relay", "known"]);
    let mut stranger = TestNode::start();
    stranger.connect(relay.addr());
    let (a_id, stranger_id) = (a.node_id(), stranger.node_id());
    let refused = stranger.error_of(&format!("connect {a_id} via {}", relay.addr()));
    assert_eq!(refused["code"], "declined", "{refused}");
    // That it is there at all is not told.
    let refused = a.error_of(&format!("connect {stranger_id} via {}", relay.addr()));
    let nobody = a.error_of(&format!("connect {} via {}", "ab".repeat(32), relay.addr()));
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!("not_found"), &nobody["message"]),
        "{refused}"
    );
}

#[test]
fn when_who_passes_on_leaves_both_sides_hear_of_it() {
    let (mut relay, mut a, mut b) = friends(&["--relay", "known"]);
    let b_id = b.node_id();
    let there = a.result_of(&format!("connect {b_id} via {}", relay.addr()));
    let at_b = b.wait_for(&json!({ "event": "peer_connected", "via": relay.addr() }));
    relay.kill();
    a.wait_for(&json!({ "event": "peer_disconnected", "peer": there["peer"] }));
    b.wait_for(&json!({ "event": "peer_disconnected", "peer": at_b["peer"] }));
    b.assert_alive();
}

#[test]
fn who_ends_says_so_to_those_who_are_connected_through_another() {
    let (relay, mut a, mut b) = friends(&["--relay", "known"]);
    let b_id = b.node_id();
    let there = a.result_of(&format!("connect {b_id} via {}", relay.addr()));
    b.wait_for(&json!({ "event": "peer_connected", "via": relay.addr() }));
    b.type_line("quit");
    let gone = a.wait_for(&json!({ "event": "peer_disconnected", "peer": there["peer"] }));
    assert_eq!(gone["reason"], "the peer closed the connection", "{gone}");
}

/// A relay that does to what it passes on what a test wants, to whatever comes from the one who dialled.
fn through_a_liar(
    mut lie: impl FnMut(usize, CircuitPart) -> Option<CircuitPart>,
) -> (TestNode, TestNode, String) {
    let (mut a, mut b) = (TestNode::start(), TestNode::start());
    let (mut to_a, id_at_a) = TlsPeer::connect(a.addr(), &["relay"]);
    let (mut to_b, id_at_b) = TlsPeer::connect(b.addr(), &["relay"]);
    a.wait_for(&json!({ "event": "peer_connected", "node_id": id_at_a }));
    b.wait_for(&json!({ "event": "peer_connected", "node_id": id_at_b }));
    b.result_of(&format!("trust {id_at_b}"));
    let b_id = b.node_id();
    let command = a.type_line(&format!("connect {b_id} via {}", to_a.addr()));
    // Opened by the dialler of the connection.
    let onward = CircuitId(1);
    let mut back = None;
    let mut count = 0;
    let answered = |a: &TestNode| a.count(&json!({ "event": "error", "cmd": command })) > 0;
    while !answered(&a) {
        let Ok(heard) = to_a.try_hear() else { break };
        if let Some(Message::Circuit { id, part }) = heard {
            let part = match part {
                CircuitPart::Open { .. } => {
                    back = Some(id);
                    Some(CircuitPart::Open { to: None })
                }
                part => {
                    count += usize::from(matches!(part, CircuitPart::Data(_)));
                    lie(count, part)
                }
            };
            if let Some(part) = part {
                to_b.say(&Message::Circuit { id: onward, part });
            }
        }
        match (to_b.try_hear(), back) {
            (Ok(Some(Message::Circuit { part, .. })), Some(id)) => to_a.say(&Message::Circuit { id, part }),
            (Ok(_), _) => {}
            (Err(()), _) => break,
        }
    }
    let failed = a.wait_for(&json!({ "event": "error", "cmd": command }));
    (a, b, failed["code"].as_str().unwrap().to_owned())
}

#[test]
fn who_swaps_a_byte_or_cuts_what_it_passes_on_gets_nobody_connected() {
    let swapped = through_a_liar(|count, part| match part {
        CircuitPart::Data(bytes) if count == 2 && !bytes.is_empty() => {
            let mut bytes = bytes.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            Some(CircuitPart::Data(bytes.into()))
        }
        part => Some(part),
    });
    let cut = through_a_liar(|count, part| match part {
        CircuitPart::Data(_) if count == 2 => Some(CircuitPart::End { code: "closed".to_owned() }),
        part => (count < 2).then_some(part),
    });
    for (a, b, code) in [swapped, cut] {
        assert!(["handshake_failed", "unreachable"].contains(&code.as_str()), "{code}");
        for node in [&a, &b] {
            // The liar itself, and nobody else.
            assert_eq!(node.count(&json!({ "event": "peer_connected" })), 1, "{}", node.report());
            node.assert_alive();
        }
    }
}
