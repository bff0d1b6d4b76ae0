//! Offers and chunks that are not what they should be: refused one by one, and the connection and
//! everything else goes on.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::files::{CHUNK, listing, noise};
use crate::support::{BaselinePeer, Content, NodeSetup, TestNode, abridged, eventually};

fn node_and_peer() -> (TestNode, BaselinePeer) {
    let node = TestNode::start_plain();
    let peer = BaselinePeer::connect(node.addr());
    (node, peer)
}

/// Sends the offers, each followed by the chunk as if it had been accepted, and then an honest file
/// over the same connection: that one arrives, and of the others nothing was accepted, or written
/// anywhere near the downloads, and each is in the log.
fn assert_refused(offers: &[Value]) {
    // No more than a node says in the log about one address in a minute.
    offers.chunks(20).for_each(assert_some_refused);
}

fn assert_some_refused(offers: &[Value]) {
    let (node, peer) = node_and_peer();
    // What `../x` would meet.
    fs::create_dir(node.downloads()).unwrap();
    let around = listing(node.dir());
    for offer in offers {
        peer.send("FILE_OFFER", offer);
        node.wait_for_log(&["refused"]);
    }
    let honest = Content::new("honest.txt", "what an honest peer sends");
    peer.send_file(&honest);
    assert_eq!(node.wait_received("honest.txt"), node.downloads().join("honest.txt"));
    let accepts = peer.count(&json!({ "type": "FILE_ACCEPT" }));
    assert_eq!(accepts, 1, "one of these was accepted: {}", offers.iter().map(abridged).collect::<String>());
    eventually("only the honest file is new", || {
        let mut expected = [around.as_slice(), &["downloads/honest.txt".to_owned()]].concat();
        expected.sort();
        listing(node.dir()) == expected
    });
}

#[test]
fn names_that_leave_the_downloads_or_lie_are_refused() {
    let long = "x".repeat(256);
    let names = [
        "../x",
        "../../../../../../tmp/p2p-was-here",
        "/tmp/p2p-was-here",
        "a/b",
        "a/",
        "/",
        "",
        ".",
        "..",
        "nul\0.txt",
        "line\nfeed",
        "carriage\rreturn",
        "tab\t",
        "\u{1b}[2Jcleared",
        "\u{7f}",
        "\u{85}",
        "\u{9b}31m",
        "annexe\u{202e}fdp.exe",
        "\u{2066}isolated\u{2069}",
        "\u{200f}marked",
        &long,
    ];
    assert_refused(&names.map(|name| Content::new(name, name).offer()));
    assert!(!Path::new("/tmp/p2p-was-here").exists());
}

#[test]
fn offers_that_contradict_themselves_are_refused() {
    let file = Content::new("liar.bin", noise(2 * CHUNK + 1, 1));
    let empty = Content::new("liar.bin", "");
    let single = Content::new("liar.bin", "one chunk");
    let spoilt = |file: &Content, field: &str, value: Value| {
        let mut offer = file.offer();
        offer[field] = value;
        offer
    };
    let hashes = |n: usize| Value::from(vec![file.hash.as_str(); n]);
    assert_refused(&[
        spoilt(&file, "total_chunks", 2.into()),
        spoilt(&file, "total_chunks", 4.into()),
        spoilt(&file, "total_chunks", 0.into()),
        spoilt(&file, "total_chunks", (-3).into()),
        spoilt(&file, "total_chunks", u64::MAX.into()),
        spoilt(&file, "file_size", (3 * CHUNK + 1).into()),
        spoilt(&file, "file_size", 0.into()),
        spoilt(&file, "file_size", (-1).into()),
        spoilt(&file, "file_size", 1.5.into()),
        spoilt(&file, "file_size", "524289".into()),
        spoilt(&file, "file_size", u64::MAX.into()),
        spoilt(&file, "chunk_hashes", hashes(2)),
        spoilt(&file, "chunk_hashes", hashes(4)),
        spoilt(&file, "chunk_hashes", hashes(0)),
        spoilt(&file, "chunk_hashes", Value::Null),
        spoilt(&file, "chunk_hashes", json!(["", "", ""])),
        spoilt(&file, "chunk_hashes", json!([1, 2, 3])),
        spoilt(&file, "file_hash", "abc".into()),
        spoilt(&file, "file_hash", "".into()),
        spoilt(&file, "file_hash", format!("{}0", file.hash).into()),
        spoilt(&file, "file_hash", "g".repeat(64).into()),
        spoilt(&file, "file_hash", "é".repeat(32).into()),
        spoilt(&file, "file_hash", Value::Null),
        spoilt(&file, "file_name", 7.into()),
        // A file of no chunk or one has only one possible hash.
        spoilt(&empty, "file_hash", file.hash.clone().into()),
        spoilt(&empty, "total_chunks", 1.into()),
        spoilt(&single, "file_hash", file.hash.clone().into()),
        json!({}),
        Value::Null,
        "an offer".into(),
        json!([file.offer()]),
    ]);
}

/// On a file system of 8 MiB, made for this test where the kernel lets us; where it does not, the
/// engine's own tests have to do.
#[cfg(target_os = "linux")]
#[test]
fn an_offer_larger_than_the_free_space_is_refused() {
    let setup = NodeSetup::plain();
    let mount = setup.dir().join("small");
    fs::create_dir(&mount).unwrap();
    let mounting = format!("mount -t tmpfs -o size=8m tmpfs \"{}\"", mount.display());
    let unshare = "unshare --user --map-root-user --mount";
    let shell = |script: &str| std::process::Command::new("sh").arg("-c").arg(script).output();
    if !shell(&format!("{unshare} {mounting}")).is_ok_and(|output| output.status.success()) {
        return;
    }
    let prelude = format!("exec {unshare} sh -c '{mounting} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    let node = setup.downloads_at(mount.join("downloads")).after_shell(&prelude).start();

    let peer = BaselinePeer::connect(node.addr());
    let too_large = Content::new("too large.bin", noise(9 << 20, 1));
    peer.send("FILE_OFFER", &too_large.offer());
    node.wait_for_log(&["refused", "free"]);
    let fits = Content::new("fits.bin", noise(1 << 20, 2));
    peer.send_file(&fits);
    node.wait_for(&json!({ "event": "received", "name": "fits.bin" }));
    assert_eq!(peer.count(&json!({ "type": "FILE_ACCEPT" })), 1);
}

#[test]
fn a_repeat_of_a_running_offer_is_refused_and_the_running_one_goes_on() {
    let (node, peer) = node_and_peer();
    let file = Content::new("once.bin", noise(2 * CHUNK, 1));
    peer.send("FILE_OFFER", &file.offer());
    peer.hear_accept(&file);
    peer.send_chunk(0, file.chunk(0));
    peer.hear_ack(0, true);
    peer.send("FILE_OFFER", &file.offer());
    node.wait_for_log(&["refused"]);
    peer.send_chunk(1, file.chunk(1));
    peer.hear_complete(&file);
    node.wait_received("once.bin");
    assert_eq!(peer.count(&json!({ "type": "FILE_ACCEPT" })), 1);
    eventually("it is there once", || listing(&node.downloads()) == ["once.bin"]);
    // Now that it no longer runs it is a new offer.
    peer.send_file(&file);
    assert_eq!(node.wait_received("once.bin"), node.downloads().join("once (1).bin"));
}

#[test]
fn a_wrong_chunk_is_not_written_and_the_right_one_still_counts() {
    let (node, peer) = node_and_peer();
    let file = Content::new("file.bin", noise(2 * CHUNK + 10, 1));
    peer.send("FILE_OFFER", &file.offer());
    peer.hear_accept(&file);
    // Four are one fewer than a peer may send; one of each kind.
    peer.send_chunk(0, &noise(CHUNK, 99));
    peer.hear_ack(0, false);
    peer.send_chunk(1, &file.chunk(1)[1..]);
    peer.hear_ack(1, false);
    peer.send_chunk(2, &[file.chunk(2), b"more"].concat());
    peer.hear_ack(2, false);
    peer.send_chunk(3, file.chunk(2));
    peer.hear_ack(3, false);
    for index in [2, 1, 0] {
        peer.send_chunk(index as u64, file.chunk(index));
        peer.hear_ack(index as u64, true);
    }
    peer.hear_complete(&file);
    assert!(fs::read(node.wait_received("file.bin")).unwrap() == file.bytes);
}

/// Sends five chunks of a kind that is refused: each is answered, then the connection is ended,
/// the partial file is gone, and another peer is served as before.
fn assert_dropped_after_five(bad: impl Fn(&BaselinePeer, &Content), index: u64) {
    let (node, peer) = node_and_peer();
    let honest = BaselinePeer::connect(node.addr());
    honest.send_text("before");
    let file = Content::new("file.bin", noise(2 * CHUNK, 1));
    peer.send("FILE_OFFER", &file.offer());
    peer.hear_accept(&file);
    for _ in 1..5 {
        bad(&peer, &file);
        peer.hear_ack(index, false);
    }
    bad(&peer, &file);
    peer.hear_the_end();
    node.wait_for(&json!({ "event": "peer_disconnected", "peer": peer.addr() }));
    node.wait_failed("file.bin");
    eventually("nothing is left", || listing(&node.downloads()).is_empty());
    honest.send_file(&file);
    node.wait_received("file.bin");
    assert_eq!(node.count(&json!({ "event": "peer_disconnected" })), 1);
}

#[test]
fn five_wrong_chunks_end_the_connection() {
    assert_dropped_after_five(|peer, _| peer.send_chunk(0, &noise(CHUNK, 99)), 0);
}

#[test]
fn five_short_chunks_end_the_connection() {
    assert_dropped_after_five(|peer, file| peer.send_chunk(1, &file.chunk(1)[..CHUNK - 1]), 1);
}

#[test]
fn five_empty_chunks_end_the_connection() {
    assert_dropped_after_five(|peer, _| peer.send_chunk(1, b""), 1);
}

#[test]
fn five_chunks_past_the_end_end_the_connection() {
    assert_dropped_after_five(|peer, file| peer.send_chunk(2, file.chunk(1)), 2);
    assert_dropped_after_five(|peer, file| peer.send_chunk(u64::MAX, file.chunk(1)), u64::MAX);
}

#[test]
fn five_chunks_of_broken_base64_end_the_connection() {
    assert_dropped_after_five(|peer, _| peer.send_chunk_base64(0, "not base64!"), 0);
}

#[test]
fn chunks_that_nobody_asked_for_end_the_connection() {
    let (node, peer) = node_and_peer();
    let file = Content::new("file.bin", noise(CHUNK, 1));
    peer.send_file(&file);
    node.wait_received("file.bin");
    for _ in 1..5 {
        peer.send_chunk(0, file.chunk(0));
        peer.hear_ack(0, false);
    }
    peer.send_chunk(0, file.chunk(0));
    peer.hear_the_end();
    eventually("the file is there once", || listing(&node.downloads()) == ["file.bin"]);
    node.assert_alive();
}

#[test]
fn a_file_whose_hash_is_not_that_of_its_chunks_never_gets_its_name() {
    let (node, peer) = node_and_peer();
    let file = Content::new("file.bin", noise(2 * CHUNK, 1));
    let mut offer = file.offer();
    let wrong = "0".repeat(64);
    offer["file_hash"] = wrong.as_str().into();
    peer.send("FILE_OFFER", &offer);
    peer.hear(&json!({ "type": "FILE_ACCEPT", "payload": wrong }));
    for index in 0..2 {
        peer.send_chunk(index as u64, file.chunk(index));
    }
    assert_eq!(node.wait_failed("file.bin"), "hash_mismatch");
    eventually("nothing is left", || listing(&node.downloads()).is_empty());
    assert_eq!(peer.count(&json!({ "type": "COMPLETE" })), 0);
    node.assert_alive();
}

#[test]
fn answers_to_nothing_are_ignored() {
    let (mut node, peer) = node_and_peer();
    let nobody_has = "0".repeat(64);
    for (kind, payload) in [
        ("FILE_ACCEPT", json!(nobody_has)),
        ("COMPLETE", json!(nobody_has)),
        ("CHUNK_ACK", json!({ "index": 0, "ok": true })),
        ("CHUNK_ACK", json!({ "index": u64::MAX, "ok": false })),
    ] {
        peer.send(kind, &payload);
    }
    // A confirmation before a single byte was sent confirms nothing.
    let file = Content::new("file.txt", "content");
    fs::write(node.dir().join("file.txt"), &file.bytes).unwrap();
    peer.send_text("hello");
    node.wait_for(&json!({ "event": "message", "text": "hello" }));
    node.type_line(&format!("sendfile {} file.txt", peer.addr()));
    peer.hear(&json!({ "type": "FILE_OFFER" }));
    peer.send("COMPLETE", &file.hash.clone().into());
    peer.send("FILE_ACCEPT", &file.hash.clone().into());
    peer.hear(&json!({ "type": "CHUNK" }));
    peer.send_text("not yet");
    node.wait_for(&json!({ "event": "message", "text": "not yet" }));
    assert_eq!(node.count(&json!({ "event": "sent" })), 0);
    peer.send("COMPLETE", &file.hash.clone().into());
    node.wait_sent("file.txt");
}
