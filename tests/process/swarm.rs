//! Contents that real processes fetch from each other by their hash.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use peer_to_peer::wire::{
    CHUNK_SIZE, ChunkData, ContentOffer, Digested, Entry, ManifestBuilder, ManifestHead, Message, OfferId,
    SafeName, State,
};
use serde_json::json;

use crate::support::files::{noise, sha256_of, snapshot, write_noise};
use crate::support::{NodeSetup, TestNode};
use crate::tls_peer::TlsPeer;

const SIZE: u64 = 40 << 20;

/// A node that shares a file of noise, and its link.
fn seeder(seed: u64) -> (TestNode, String) {
    let mut node = TestNode::start();
    write_noise(&node.dir().join("big.iso"), SIZE, seed);
    let link = share(&mut node, "big.iso");
    (node, link)
}

/// Shares something in the node's directory, and answers its link.
#[track_caller]
fn share(node: &mut TestNode, name: &str) -> String {
    let path = node.dir().join(name);
    let shared = node.result_of(&format!("share {}", path.display()));
    shared["link"].as_str().unwrap_or_else(|| panic!("{shared}")).to_owned()
}

fn hash_of(link: &str) -> &str {
    &link[4..68]
}

#[test]
fn a_file_comes_from_all_who_have_it_and_then_from_who_got_it() {
    let (mut one, link) = seeder(1);
    let (mut two, same) = seeder(1);
    assert_eq!(hash_of(&link), hash_of(&same));
    for node in [&mut one, &mut two] {
        // So slow that neither gives all of it before the other is asked.
        node.result_of("limit up 10MB/s");
    }
    let mut getter = TestNode::start();
    getter.connect(one.addr());
    getter.connect(two.addr());
    let answer = getter.result_of(&format!("get {}", hash_of(&link)));
    assert_eq!(answer["hash"], hash_of(&link), "{answer}");
    let received = getter.wait_for(&json!({ "event": "received", "name": "big.iso" }));
    let sources = received["sources"].as_array().unwrap();
    let bytes: u64 = sources.iter().map(|source| source["bytes"].as_u64().unwrap()).sum();
    assert_eq!((sources.len(), bytes), (2, SIZE), "{received}");
    assert_eq!(sha256_of(&getter.downloads().join("big.iso")), hash_of(&link));

    // Those who had it are gone, and what was fetched is fetched from who fetched it.
    drop((one, two));
    let mut third = TestNode::start();
    third.connect(getter.addr());
    third.result_of(&format!("get {}", hash_of(&link)));
    third.wait_received("big.iso");
    getter.wait_for(&json!({ "event": "served", "bytes": SIZE }));
}

#[test]
fn a_source_that_is_killed_in_the_middle_costs_nothing_but_time() {
    let mut seeders: Vec<_> = (0..3).map(|_| seeder(3)).collect();
    let link = seeders[0].1.clone();
    let mut getter = TestNode::start();
    for (seeder, _) in &mut seeders {
        // So slow that there is a middle on any machine.
        seeder.result_of("limit up 4MB/s");
        getter.connect(seeder.addr());
    }
    getter.result_of(&format!("get {}", hash_of(&link)));
    getter.wait_where("some of it to arrive", |event| {
        event["event"] == "progress" && event["bytes"].as_u64().is_some_and(|bytes| bytes > SIZE / 10)
    });
    drop(seeders.remove(1));
    for (seeder, _) in &mut seeders {
        seeder.result_of("limit up off");
    }
    let received = getter.wait_for(&json!({ "event": "received", "name": "big.iso" }));
    assert_eq!(received["sources"].as_array().unwrap().len(), 3, "{received}");
    assert_eq!(sha256_of(&getter.downloads().join("big.iso")), hash_of(&link));
    assert_eq!(getter.result_of("bans")["bans"], json!([]));
}

#[test]
fn those_who_know_only_the_seeder_find_each_other_and_share_the_work() {
    let (mut seeder, link) = seeder(4);
    // Nobody has got much of it before they have found each other.
    seeder.result_of("limit up 500kB/s");
    let mut getters: Vec<_> = (0..4).map(|_| TestNode::start()).collect();
    for getter in &mut getters {
        getter.result_of(&format!("get {link}"));
    }
    for getter in &getters {
        getter.wait_for_peer();
        getter.wait_for_peer();
    }
    seeder.result_of("limit up 20MB/s");
    for getter in &getters {
        let received = getter.wait_for(&json!({ "event": "received", "name": "big.iso" }));
        assert!(received["sources"].as_array().unwrap().len() > 1, "{received}");
        assert_eq!(sha256_of(&getter.downloads().join("big.iso")), hash_of(&link));
    }
}

#[test]
fn a_link_is_enough_for_a_directory_and_for_those_who_come_later() {
    let mut seeder = TestNode::start();
    let photos = seeder.dir().join("photos");
    std::fs::create_dir_all(photos.join("old/empty")).unwrap();
    write_noise(&photos.join("old/1.raw"), 3_000_000, 5);
    std::fs::write(photos.join("notes.txt"), "a note").unwrap();
    let link = share(&mut seeder, "photos");
    for _ in 0..2 {
        let mut getter = TestNode::start();
        getter.result_of(&format!("get {link}"));
        let received = getter.wait_for(&json!({ "event": "received", "name": "photos" }));
        assert_eq!((received["files"].as_u64(), received["sha256"].as_str()), (Some(2), None), "{received}");
        assert!(snapshot(&getter.downloads().join("photos")) == snapshot(&photos));
    }
}

#[test]
fn shares_are_there_again_after_a_restart_until_they_are_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("report.pdf");
    std::fs::write(&file, noise(700_000, 3)).unwrap();
    let mut node = NodeSetup::new().home_at(home.path()).start();
    let shared = node.result_of(&format!("share {}", file.display()));
    let hash = shared["sha256"].as_str().unwrap().to_owned();
    node.type_line("quit");
    node.exit_code();

    let mut node = NodeSetup::new().home_at(home.path()).start();
    assert_eq!(node.result_of("shares")["shares"][0]["sha256"], hash);
    let mut getter = TestNode::start();
    getter.connect(node.addr());
    getter.result_of(&format!("get {hash}"));
    getter.wait_received("report.pdf");
    assert_eq!(node.result_of(&format!("unshare {}", &hash[..8]))["sha256"], hash);
    let mut late = TestNode::start();
    late.connect(node.addr());
    late.result_of(&format!("get {hash}"));
    assert_eq!(late.wait_failed(&hash), "not_found");
}

#[test]
fn one_shots_share_and_get_as_scripts_want_it() {
    let setup = NodeSetup::new();
    let content = noise(2_000_000, 9);
    std::fs::write(setup.dir().join("report.pdf"), &content).unwrap();
    let command = setup.command(&["share", "--bind", "127.0.0.1", "report.pdf"]);
    let sharer = TestNode::spawn(setup, command);
    let link = sharer.wait_for_line(&["p2p:"]);
    assert_eq!(sharer.output(), std::slice::from_ref(&link), "the link and nothing else");

    let getter = NodeSetup::new();
    let there = getter.dir().join("there");
    let got = getter.run(&["get", "--bind", "127.0.0.1", "-o", there.to_str().unwrap(), &link], "");
    assert_eq!((got.code, got.stderr.as_str()), (Some(0), ""), "{got:?}");
    assert!(got.stdout.starts_with("received report.pdf"), "{got:?}");

    let text = NodeSetup::new();
    std::fs::write(text.dir().join("poem.txt"), "one\ntwo\n").unwrap();
    let command = text.command(&["share", "--bind", "127.0.0.1", "poem.txt"]);
    let poet = TestNode::spawn(text, command);
    let poem = poet.wait_for_line(&["p2p:"]);
    let got = NodeSetup::new().run(&["get", "--bind", "127.0.0.1", "--stdout", &poem], "");
    assert_eq!((got.code, got.stdout.as_str(), got.stderr.as_str()), (Some(0), "one\ntwo", ""), "{got:?}");

    // The poet is asked for what it does not have.
    let at = &poem[poem.find("from=").unwrap() + 5..].replace("%23", "#");
    let got = NodeSetup::new().run(&["get", "--bind", "127.0.0.1", hash_of(&link), "--from", at], "");
    assert_eq!(got.code, Some(10), "{got:?}");
    assert!(got.stderr.contains("does not have it"), "{got:?}");
    // A directory is no stream, whether the link says that it is one or not.
    let album = NodeSetup::new();
    std::fs::create_dir(album.dir().join("album")).unwrap();
    let command = album.command(&["share", "--bind", "127.0.0.1", "album"]);
    let keeper = TestNode::spawn(album, command);
    let album = keeper.wait_for_line(&["p2p:"]);
    for (link, code) in [(album.clone(), Some(2)), (album.replace("kind=dir,", ""), Some(4))] {
        let got = NodeSetup::new().run(&["get", "--bind", "127.0.0.1", "--stdout", &link], "");
        assert_eq!((got.code, got.stdout.as_str()), (code, ""), "{got:?}");
        assert!(got.stderr.contains("use -o"), "{got:?}");
    }
    let got = NodeSetup::new().run(&["get", hash_of(&link)], "");
    assert_eq!(got.code, Some(2), "{got:?}");
    sharer.terminate();
    poet.terminate();
}

#[test]
fn two_terminals_of_one_user_fetch_from_each_other_by_link() {
    let mut one = TestNode::start();
    let mut two = NodeSetup::new().home_at(one.home()).start();
    write_noise(&one.dir().join("big.iso"), SIZE, 8);
    let link = share(&mut one, "big.iso");
    two.result_of(&format!("get {link}"));
    assert_eq!(sha256_of(&two.wait_received("big.iso")), hash_of(&link));
}

#[test]
fn who_poisons_is_banned_and_the_file_is_right() {
    let (honest, link) = seeder(2);
    let mut getter = TestNode::start();
    let id = Poisoner::connect(&getter, &honest.dir().join("big.iso"));
    getter.wait_for(&json!({ "event": "peer_connected", "node_id": id }));
    // So that it is not all fetched before the other is asked.
    getter.result_of("limit down 20MB/s");
    getter.connect(honest.addr());
    getter.result_of(&format!("get {}", hash_of(&link)));
    let received = getter.wait_for(&json!({ "event": "received", "name": "big.iso" }));
    assert_eq!(sha256_of(&getter.downloads().join("big.iso")), hash_of(&link));
    let bad: Vec<_> =
        received["sources"].as_array().unwrap().iter().filter(|source| source["bad_chunks"] != 0).collect();
    assert_eq!((bad.len(), &bad[0]["node_id"]), (1, &json!(id)), "{received}");
    getter.wait_for_log(&["banned for 10 minutes"]);
    let bans = getter.result_of("bans");
    assert_eq!(bans["bans"][0]["node_id"], id, "{bans}");
    assert!(bans["bans"][0]["ends_in_s"].as_u64().is_some_and(|left| left <= 600), "{bans}");
    assert_eq!(getter.result_of(&format!("unban {id}"))["event"], "result");
}

/// Somebody who says that it has a file, and sends rubbish.
struct Poisoner;

impl Poisoner {
    /// Connects to a node, and answers whom that takes it for.
    fn connect(to: &TestNode, file: &Path) -> String {
        let (peer, id) = TlsPeer::connect(to.addr(), &["transfer", "swarm"]);
        let (head, page) = manifest_of(&std::fs::read(file).unwrap());
        thread::spawn(move || Self::poison(peer, &head, &page));
        id
    }

    /// Until it is thrown out.
    fn poison(mut peer: TlsPeer, head: &Arc<ManifestHead>, page: &Bytes) {
        while let Some(message) = peer.hear() {
            match message {
                Message::Ask { id, .. } => peer.say(&Message::Offer(ContentOffer {
                    id: OfferId(1),
                    answers: Some(id),
                    is_partial: false,
                    is_known_only: false,
                    name: SafeName::new("big.iso").unwrap(),
                    size: head.geometry().size(),
                    tree: None,
                    head: Some(head.clone()),
                    page: page.clone(),
                })),
                Message::Pull { id, first, count } => {
                    for index in first..first + count {
                        let data = ChunkData(vec![6; CHUNK_SIZE as usize].into());
                        peer.say(&Message::Data { id, index, data, entry: None });
                    }
                }
                _ => {}
            }
        }
    }
}

fn manifest_of(bytes: &[u8]) -> (Arc<ManifestHead>, Bytes) {
    let mut builder = ManifestBuilder::new(bytes.len() as u64).unwrap();
    let (mut page, mut hash) = (Vec::new(), State::INITIAL.finish(&[], 0));
    for chunk in bytes.chunks(CHUNK_SIZE as usize) {
        let digested = Digested::of(builder.state(), chunk);
        hash = digested.file_hash(bytes.len() as u64);
        let entry: Entry = digested.entry();
        page.extend(entry.to_bytes());
        drop(builder.push(entry).unwrap());
    }
    (Arc::new(builder.finish(hash).unwrap()), page.into())
}
