//! Our node with a peer that speaks the baseline protocol and nothing else.

use std::fs;

use serde_json::{Value, json};

use crate::support::baseline::decode_chunk;
use crate::support::files::{CHUNK, listing, noise, write_noise};
use crate::support::{BaselinePeer, Content, TestNode, abridged, eventually};

/// A node, and a peer that has connected to it and by a first text shown what it speaks.
fn node_and_peer() -> (TestNode, BaselinePeer) {
    let node = TestNode::start_plain();
    let peer = peer_of(&node);
    (node, peer)
}

fn peer_of(node: &TestNode) -> BaselinePeer {
    let peer = BaselinePeer::connect(node.addr());
    peer.send_text("hello");
    node.wait_for(&json!({ "event": "message", "peer": peer.addr(), "text": "hello" }));
    peer
}

fn assert_received(node: &TestNode, file: &Content) {
    assert!(fs::read(node.wait_received(&file.name)).unwrap() == file.bytes, "{}", file.name);
}

/// Puts the content on disk and has the node send it.
fn send_from(node: &mut TestNode, peer: &str, file: &Content) {
    let source = node.dir().join(&file.name);
    fs::write(&source, &file.bytes).unwrap();
    node.sendfile(peer, &source);
}

#[test]
fn files_go_both_ways_whoever_dialled() {
    let mut node = TestNode::start_plain();
    let listener = BaselinePeer::listen();
    node.type_line(&format!("connect {}", listener.addr()));
    for (peer, name) in [(listener.accept(), listener.addr()), {
        let peer = BaselinePeer::connect(node.addr());
        let name = peer.addr();
        (peer, name)
    }] {
        node.wait_for(&json!({ "event": "peer_connected", "peer": name }));
        peer.send_text("hello");
        node.wait_for(&json!({ "event": "message", "peer": name, "text": "hello" }));
        node.type_line(&format!("send {name} hello yourself"));
        peer.hear_text("hello yourself");

        let theirs = Content::new(&format!("theirs {name}.bin"), noise(3 * CHUNK + 5, 1));
        peer.send_file(&theirs);
        assert_received(&node, &theirs);

        let ours = Content::new(&format!("ours {name}.bin"), noise(2 * CHUNK, 2));
        send_from(&mut node, &name, &ours);
        let arrived = peer.receive_file();
        assert!((arrived.name, arrived.bytes) == (ours.name.clone(), ours.bytes));
        assert_eq!(node.wait_sent(&ours.name)["confirmed"], true);
    }
}

#[test]
fn every_size_around_a_chunk_goes_both_ways() {
    let (mut node, peer) = node_and_peer();
    for size in [1, CHUNK - 1, CHUNK, CHUNK + 1] {
        let theirs = Content::new(&format!("theirs {size}"), noise(size, 1));
        peer.send_file(&theirs);
        assert_received(&node, &theirs);
        let ours = Content::new(&format!("ours {size}"), noise(size, 2));
        send_from(&mut node, &peer.addr(), &ours);
        assert!(peer.receive_file().bytes == ours.bytes, "{size}");
        assert_eq!(node.wait_sent(&ours.name)["confirmed"], true);
    }
}

#[test]
fn chunks_are_taken_in_any_order() {
    let (node, peer) = node_and_peer();
    let orders: [&[usize]; 3] = [&[4, 3, 2, 1, 0], &[2, 4, 0, 3, 1], &[1, 0, 3, 2, 4]];
    for (order, seed) in orders.into_iter().zip(1..) {
        let file = Content::new(&format!("order {seed}.bin"), noise(4 * CHUNK + 100, seed));
        peer.send("FILE_OFFER", &file.offer());
        peer.hear_accept(&file);
        for &index in order {
            peer.send_chunk(index as u64, file.chunk(index));
            peer.hear_ack(index as u64, true);
        }
        peer.hear_complete(&file);
        assert_received(&node, &file);
    }
}

#[test]
fn files_interleaved_without_names_are_told_apart() {
    let (node, peer) = node_and_peer();
    // The last two share their chunks 0 and 2, at the same index.
    let shared = [noise(CHUNK, 10), noise(CHUNK, 11)];
    let with_middle = |seed| [shared[0].clone(), noise(CHUNK, seed), shared[1].clone()].concat();
    let files = [
        Content::new("a.bin", noise(3 * CHUNK, 1)),
        Content::new("b.bin", noise(2 * CHUNK + 7, 2)),
        Content::new("c.bin", with_middle(3)),
        Content::new("d.bin", with_middle(4)),
    ];
    for file in &files {
        peer.send("FILE_OFFER", &file.offer());
    }
    files.iter().for_each(|file| peer.hear_accept(file));
    // Neither the order of the offers nor that of the chunks.
    for (index, order) in [(1, [3, 1, 0, 2]), (0, [2, 3, 1, 0]), (2, [1, 0, 3, 2])] {
        for file in order.map(|file: usize| &files[file]) {
            peer.send_chunk(index as u64, file.chunk(index));
        }
    }
    for file in &files {
        peer.hear_complete(file);
        assert_received(&node, file);
    }
    assert_eq!(peer.count(&json!({ "type": "CHUNK_ACK", "payload": { "ok": true } })), 3 + 3 + 3 + 3);
    assert_eq!(peer.count(&json!({ "type": "CHUNK_ACK", "payload": { "ok": false } })), 0);
}

#[test]
fn a_file_of_chunks_that_are_all_alike_arrives() {
    let (node, peer) = node_and_peer();
    let file = Content::new("zeros", vec![0; 5 * CHUNK]);
    peer.send_file(&file);
    assert_received(&node, &file);
}

#[test]
fn a_baseline_peer_is_offered_one_file_at_a_time() {
    let (mut node, peer) = node_and_peer();
    let files = ["first.bin", "second.bin", "third.bin"].map(|name| {
        let file = Content::new(name, [name.as_bytes(), &noise(CHUNK, 1)].concat());
        send_from(&mut node, &peer.addr(), &file);
        file
    });
    // The offer says itself which file comes first: they are hashed at the same time.
    let mut arrived = Vec::new();
    for waiting in (0..files.len()).rev() {
        let file = peer.receive_chunks();
        // Until this file is confirmed the others wait, and do so visibly; a text passes them.
        eventually("the others are queued", || {
            node.result_of("transfers").to_string().matches("queued").count() == waiting
        });
        node.type_line(&format!("send {} {waiting} files are waiting", peer.addr()));
        peer.hear_text(&format!("{waiting} files are waiting"));
        assert_eq!(peer.count(&json!({ "type": "FILE_OFFER" })), files.len() - waiting);
        peer.send("COMPLETE", &file.hash.clone().into());
        assert_eq!(node.wait_sent(&file.name)["confirmed"], true);
        arrived.push(file.name);
    }
    arrived.sort();
    assert_eq!(arrived, ["first.bin", "second.bin", "third.bin"]);
}

#[test]
fn an_empty_file_goes_both_ways_and_is_not_said_to_be_confirmed() {
    let (mut node, peer) = node_and_peer();
    let theirs = Content::new("theirs.txt", "");
    peer.send("FILE_OFFER", &theirs.offer());
    peer.hear_accept(&theirs);
    assert_received(&node, &theirs);

    let ours = Content::new("ours.txt", "");
    send_from(&mut node, &peer.addr(), &ours);
    assert!(peer.receive_file().bytes.is_empty());
    assert_eq!(node.wait_sent("ours.txt")["confirmed"], false);
    // The queue went on: the next file is offered.
    let next = Content::new("next.txt", "not empty");
    send_from(&mut node, &peer.addr(), &next);
    assert!(peer.receive_file().bytes == next.bytes);
}

#[test]
fn unknown_types_and_fields_are_ignored() {
    let (node, peer) = node_and_peer();
    let file = Content::new("file.txt", "content");
    let mut offer = file.offer();
    offer["colour"] = json!({ "deep": [1, 2, { "deeper": null }] });
    for line in [
        json!({ "type": "NEWS", "payload": { "unknown": true } }),
        json!({ "type": "NO_PAYLOAD" }),
        json!({ "type": "", "payload": [[[]]] }),
        json!({ "type": "TEXT", "payload": "with more fields", "size": 5, "id": 7, "to": null }),
        json!({ "type": "FILE_OFFER", "payload": offer, "size": "not a number" }),
    ] {
        peer.send_line(&line.to_string());
    }
    node.wait_for(&json!({ "event": "message", "text": "with more fields" }));
    peer.hear_accept(&file);
    peer.send_line(
        &json!({ "type": "CHUNK", "payload": { "index": 0, "hash": "whatever", "data": "Y29udGVudA==", "x": 1 } })
            .to_string(),
    );
    peer.hear_complete(&file);
    assert_received(&node, &file);
}

#[test]
fn spaces_and_carriage_returns_around_a_message_do_not_matter() {
    let (node, peer) = node_and_peer();
    peer.send_raw(b"  {\"payload\" : \"spaced\" ,\t\"type\":\"TEXT\"} \r\n");
    node.wait_for(&json!({ "event": "message", "text": "spaced" }));
    // A message may arrive byte by byte.
    for byte in b"{\"type\":\"TEXT\",\"payload\":\"slow\"}\n" {
        peer.send_raw(&[*byte]);
    }
    node.wait_for(&json!({ "event": "message", "text": "slow" }));
}

#[test]
fn a_chunk_that_did_not_arrive_right_is_sent_again() {
    let (mut node, peer) = node_and_peer();
    let file = Content::new("file.bin", noise(3 * CHUNK, 1));
    send_from(&mut node, &peer.addr(), &file);
    peer.hear(&json!({ "type": "FILE_OFFER" }));
    peer.send("FILE_ACCEPT", &file.hash.clone().into());
    let hear_chunk = |index: usize| {
        let message = peer.hear(&json!({ "type": "CHUNK", "payload": { "index": index } }));
        assert!(decode_chunk(&message).1 == file.chunk(index));
    };
    (0..3).for_each(hear_chunk);
    peer.send("CHUNK_ACK", &json!({ "index": 1, "ok": false }));
    hear_chunk(1);
    peer.send("COMPLETE", &file.hash.clone().into());
    assert_eq!(node.wait_sent("file.bin")["confirmed"], true);
}

#[test]
fn what_a_baseline_peer_hears_is_only_what_the_baseline_protocol_has() {
    let (mut node, peer) = node_and_peer();
    let theirs = Content::new("theirs.bin", noise(CHUNK + 1, 1));
    peer.send_file(&theirs);
    let ours = Content::new("ours.bin", noise(CHUNK + 1, 2));
    send_from(&mut node, &peer.addr(), &ours);
    peer.receive_file();
    node.wait_sent("ours.bin");
    node.type_line(&format!("send {} the end", peer.addr()));
    peer.hear_text("the end");
    let is_hash = |value: &Value| value.as_str().is_some_and(|text| text.len() == 64);
    for message in peer.heard() {
        let payload = &message["payload"];
        let sound = match message["type"].as_str().unwrap() {
            "HELLO" | "TEXT" => true,
            "FILE_OFFER" => {
                is_hash(&payload["file_hash"])
                    && payload["chunk_hashes"].as_array().unwrap().iter().all(is_hash)
            }
            "FILE_ACCEPT" | "COMPLETE" => is_hash(payload),
            "CHUNK" => payload["hash"] == "" && payload["data"].is_string(),
            "CHUNK_ACK" => payload["index"].is_u64() && payload["ok"].is_boolean(),
            _ => false,
        };
        assert!(sound, "a baseline peer heard {}", abridged(&message));
    }
}

#[test]
fn a_file_too_large_for_a_baseline_offer_is_refused_before_it_is_read() {
    let (mut node, peer) = node_and_peer();
    let source = node.dir().join("4 GiB.img");
    // All holes: it takes no room.
    fs::File::create(&source).unwrap().set_len(4 << 30).unwrap();
    let cmd = node.sendfile(&peer.addr(), &source);
    let refused = node.wait_where("a refusal", |event| event["code"] == "too_large");
    assert!(refused["cmd"] == cmd || refused["name"] == "4 GiB.img", "{refused}");
    node.type_line(&format!("send {} still here", peer.addr()));
    peer.hear_text("still here");
    assert_eq!(peer.count(&json!({ "type": "FILE_OFFER" })), 0);
}

#[test]
fn a_peer_that_leaves_during_a_transfer_leaves_nothing_behind() {
    let (node, peer) = node_and_peer();
    let file = Content::new("half.bin", noise(2 * CHUNK, 1));
    peer.send("FILE_OFFER", &file.offer());
    peer.hear_accept(&file);
    peer.send_chunk(0, file.chunk(0));
    peer.hear_ack(0, true);
    let name = peer.addr();
    peer.hang_up();
    assert_eq!(node.wait_failed("half.bin"), "disconnected");
    node.wait_for(&json!({ "event": "peer_disconnected", "peer": name }));
    eventually("nothing is left", || listing(&node.downloads()).is_empty());
    // The same file from somebody else arrives all the same.
    peer_of(&node).send_file(&file);
    assert_received(&node, &file);
}

#[test]
fn a_receiver_that_leaves_fails_its_transfer_and_no_other() {
    let (mut node, leaving) = node_and_peer();
    let staying = peer_of(&node);
    let source = node.dir().join("file.bin");
    write_noise(&source, 600_000, 1);
    node.sendfile(&leaving.addr(), &source);
    leaving.hear(&json!({ "type": "FILE_OFFER" }));
    let gone = leaving.addr();
    leaving.hang_up();
    assert_eq!(node.wait_failed("file.bin"), "disconnected");
    node.wait_for(&json!({ "event": "peer_disconnected", "peer": gone }));
    node.sendfile(&staying.addr(), &source);
    assert_eq!(staying.receive_file().bytes.len(), 600_000);
    node.wait_sent("file.bin");
}
