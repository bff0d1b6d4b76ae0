//! Files between two nodes: every byte arrives, under the right name, whatever else goes on.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::support::files::{CHUNK, listing, sha256_of, write_noise};
use crate::support::{TestNode, eventually};

/// Two nodes, the first connected to the second; and the name of the first at the second.
fn connected() -> (TestNode, TestNode, String) {
    let (mut a, b) = (TestNode::start(), TestNode::start());
    let a_at_b = a.connect_to(&b);
    (a, b, a_at_b)
}

/// Sends a file of that size and sees it arrive, verified, with nothing else in the downloads.
fn send_and_compare(size: u64) -> (TestNode, TestNode) {
    let (mut a, b, a_at_b) = connected();
    let source = a.dir().join("data.bin");
    let sha256 = write_noise(&source, size, size);
    a.sendfile(b.addr(), &source);
    let path = b.wait_received("data.bin");
    assert_eq!(path, b.downloads().join("data.bin"));
    assert_eq!(sha256_of(&path), sha256);
    assert_eq!(b.count(&json!({ "event": "received", "peer": a_at_b, "size": size, "sha256": sha256 })), 1);
    let sent = a.wait_sent("data.bin");
    assert_eq!(
        (&sent["peer"], &sent["size"], &sent["sha256"]),
        (&b.addr().into(), &size.into(), &sha256.into())
    );
    assert_eq!(sent["confirmed"], true, "{sent}");
    eventually("only the file is left", || listing(&b.downloads()) == ["data.bin"]);
    (a, b)
}

#[test]
fn an_empty_file_arrives() {
    send_and_compare(0);
}

#[test]
fn a_file_of_one_byte_arrives() {
    send_and_compare(1);
}

#[test]
fn a_file_one_byte_short_of_a_chunk_arrives() {
    send_and_compare(CHUNK as u64 - 1);
}

#[test]
fn a_file_of_exactly_one_chunk_arrives() {
    send_and_compare(CHUNK as u64);
}

#[test]
fn a_file_one_byte_past_a_chunk_arrives() {
    send_and_compare(CHUNK as u64 + 1);
}

#[test]
fn a_file_of_100_mb_arrives() {
    send_and_compare(100_000_000);
}

#[cfg(target_os = "linux")]
#[test]
fn neither_side_of_200_mb_needs_more_than_64_mib_of_memory() {
    let (a, b) = send_and_compare(200_000_000);
    for node in [&a, &b] {
        let peak_kib = node.peak_memory_kib().unwrap();
        assert!(peak_kib < 64 << 10, "a peak of {peak_kib} KiB");
    }
}

#[test]
fn forty_files_at_once_arrive() {
    let (mut a, b, _) = connected();
    let sizes = (0_u64..40).map(|i| i * 7_919 + (i % 4) * 300_000);
    let sent: Vec<(String, String)> = sizes
        .enumerate()
        .map(|(i, size)| {
            let name = format!("file {i}.bin");
            let source = a.dir().join(&name);
            let sha256 = write_noise(&source, size, i as u64);
            a.sendfile(b.addr(), &source);
            (name, sha256)
        })
        .collect();
    for (name, sha256) in &sent {
        assert_eq!(&sha256_of(&b.wait_received(name)), sha256, "{name}");
        a.wait_sent(name);
    }
    eventually("only the files are left", || listing(&b.downloads()).len() == sent.len());
}

#[test]
fn both_directions_at_once() {
    let (mut a, mut b, a_at_b) = connected();
    let from_a = a.dir().join("from a.bin");
    let from_b = b.dir().join("from b.bin");
    let hashes = (write_noise(&from_a, 20_000_000, 1), write_noise(&from_b, 20_000_001, 2));
    a.sendfile(b.addr(), &from_a);
    b.sendfile(&a_at_b, &from_b);
    a.type_line(&format!("send {} a word in between", b.addr()));
    b.wait_for(&json!({ "event": "message", "text": "a word in between" }));
    assert_eq!(sha256_of(&b.wait_received("from a.bin")), hashes.0);
    assert_eq!(sha256_of(&a.wait_received("from b.bin")), hashes.1);
    a.wait_sent("from a.bin");
    b.wait_sent("from b.bin");
}

#[test]
fn one_file_goes_to_several_peers_at_once() {
    let mut sender = TestNode::start();
    let receivers = [TestNode::start(), TestNode::start(), TestNode::start()];
    let source = sender.dir().join("for all.bin");
    let sha256 = write_noise(&source, 3_000_000, 1);
    receivers.iter().for_each(|node| sender.connect(node.addr()));
    for receiver in &receivers {
        sender.sendfile(receiver.addr(), &source);
    }
    for receiver in &receivers {
        assert_eq!(sha256_of(&receiver.wait_received("for all.bin")), sha256);
        sender.wait_sent("for all.bin");
    }
}

#[test]
fn names_with_spaces_and_letters_of_any_script_arrive_as_they_are() {
    let (mut a, b, _) = connected();
    let long = "ä".repeat(127);
    let names = [
        "two  spaces.txt",
        "ein Bär.txt",
        "日本語 データ.bin",
        "🎉",
        "-rf",
        ".hidden",
        "...",
        "aux.c",
        "quote\"s and 'quotes'.txt",
        "50% $HOME `x`",
        #[cfg(target_os = "linux")]
        "back\\slash: and a colon",
        &long,
    ];
    for name in names {
        let source = a.dir().join("files").join(name);
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        fs::write(&source, name).unwrap();
        a.sendfile(b.addr(), &source);
        assert_eq!(fs::read_to_string(b.wait_received(name)).unwrap(), name);
    }
    let mut expected = names.to_vec();
    expected.sort_unstable();
    eventually("only the files are left", || listing(&b.downloads()) == expected);
}

#[test]
fn two_senders_of_one_name_both_arrive() {
    let mut senders = [TestNode::start(), TestNode::start()];
    let receiver = TestNode::start();
    let mut expected = Vec::new();
    for (sender, seed) in senders.iter_mut().zip(1..) {
        let source = sender.dir().join("report.final.pdf");
        expected.push(write_noise(&source, 1_000_000, seed));
        sender.connect(receiver.addr());
        sender.sendfile(receiver.addr(), &source);
    }
    let arrived = [(); 2].map(|()| receiver.wait_received("report.final.pdf"));
    let mut hashes = arrived.clone().map(|path| sha256_of(&path)).to_vec();
    hashes.sort();
    expected.sort();
    assert_eq!(hashes, expected);
    let files: Vec<PathBuf> =
        ["report.final (1).pdf", "report.final.pdf"].map(|n| receiver.downloads().join(n)).into();
    assert!(arrived.iter().all(|path| files.contains(path)), "{arrived:?}");
}

#[test]
fn another_file_of_one_name_gets_a_number_and_the_same_one_is_not_sent_again() {
    let (mut a, b, _) = connected();
    let source = a.dir().join("notes.txt");
    for (content, arrives_as) in [("one", "notes.txt"), ("two", "notes (1).txt"), ("one", "notes.txt")] {
        fs::write(&source, content).unwrap();
        a.sendfile(b.addr(), &source);
        assert_eq!(b.wait_received("notes.txt"), b.downloads().join(arrives_as));
        a.wait_sent("notes.txt");
    }
    let content = |name| fs::read_to_string(b.downloads().join(name)).unwrap();
    assert_eq!([content("notes.txt"), content("notes (1).txt")], ["one", "two"]);
    assert_eq!(listing(&b.downloads()).len(), 2);
    assert_eq!(a.count(&json!({ "event": "sent", "already": true })), 1);
}

#[test]
fn one_content_under_two_names_arrives_under_both() {
    let (mut a, b, _) = connected();
    let (first, second) = (a.dir().join("first.bin"), a.dir().join("second.bin"));
    let sha256 = write_noise(&first, 2_000_000, 1);
    fs::copy(&first, &second).unwrap();
    a.sendfile(b.addr(), &first);
    a.sendfile(b.addr(), &second);
    for name in ["first.bin", "second.bin"] {
        assert_eq!(sha256_of(&b.wait_received(name)), sha256);
        a.wait_sent(name);
    }
}

#[test]
fn wait_is_answered_when_nothing_runs_any_more() {
    let (mut a, b, _) = connected();
    let source = a.dir().join("data.bin");
    let sha256 = write_noise(&source, 5_000_000, 1);
    a.sendfile(b.addr(), &source);
    // The command after it starts when `wait` has been answered.
    a.type_line("wait");
    assert_eq!(a.result_of("transfers")["transfers"], json!([]));
    assert_eq!(sha256_of(&b.downloads().join("data.bin")), sha256);
    a.wait_sent("data.bin");
}
