//! The engine in a simulated network: what must hold whatever the timing, and what scripted
//! hostile peers get.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{
    AcceptPolicy, Bottleneck, Code, Command, Event, Failure, Level, Limits, PeerRef, Reply, Selection, Stage,
    Took, TransferId,
};
use peer_to_peer::wire::{
    BadLine, CHUNK_SIZE, ChunkData, FileHash, Hello, Instance, Manifest, Message, Offer, OfferError, SafeName,
};
use world::disk_model::{file_hash, manifest_of};
use world::{Line, NodeId, Rng, SECOND, ScriptId, World};

const CHUNK: usize = CHUNK_SIZE as usize;

fn peer(name: &str) -> PeerRef {
    name.parse().unwrap()
}

fn put(world: &mut World, node: NodeId, name: &str, bytes: &[u8]) {
    world.nodes[node.0].disk.files.insert(name.into(), bytes.to_vec());
}

/// The one peer of a node, as commands call it.
fn only_peer(world: &mut World, node: NodeId) -> String {
    match world.run_command(node, Command::Peers) {
        Ok(Reply::Peers(peers)) if peers.len() == 1 => peers[0].peer.to_string(),
        other => panic!("not one peer: {other:?}"),
    }
}

fn message(event: &Event) -> Option<String> {
    if let Event::Message { text, .. } = event { Some(text.clone()) } else { None }
}

fn received(event: &Event) -> Option<(String, FileHash)> {
    if let Event::Received { path, sha256, .. } = event {
        Some((path.file_name().unwrap().to_str().unwrap().to_owned(), *sha256))
    } else {
        None
    }
}

fn sent(event: &Event) -> Option<(TransferId, bool)> {
    if let Event::Sent { id, confirmed, .. } = event { Some((*id, *confirmed)) } else { None }
}

fn failed(event: &Event) -> Option<(TransferId, Code)> {
    if let Event::TransferFailed { id, code, .. } = event { Some((*id, *code)) } else { None }
}

fn warning(event: &Event) -> Option<String> {
    if let Event::Warning { text, .. } = event { Some(text.clone()) } else { None }
}

fn hello() -> Message {
    Message::Hello(Hello {
        version: 1,
        agent: "script".into(),
        node_id: None,
        instance: Instance(u128::MAX),
        listen_port: 0,
        your_addr: None,
        features: vec!["from-the-future".into()],
    })
}

fn offer(name: &str, bytes: &[u8]) -> Message {
    Message::FileOffer(Offer { name: SafeName::new(name).unwrap(), manifest: manifest_of(bytes) })
}

fn chunk(index: u64, bytes: &[u8]) -> Message {
    let start = usize::try_from(index).unwrap() * CHUNK;
    let end = bytes.len().min(start + CHUNK);
    Message::Chunk { index, data: ChunkData(bytes[start..end].to_vec().into()) }
}

fn heard(world: &World, script: ScriptId, wanted: &Message) -> bool {
    world.scripts[script.0].heard.contains(wanted)
}

fn acks(world: &World, script: ScriptId) -> Vec<(u64, bool)> {
    let ack = |message: &Message| {
        if let Message::ChunkAck { index, ok } = message { Some((*index, *ok)) } else { None }
    };
    world.scripts[script.0].heard.iter().filter_map(ack).collect()
}

/// The names of the files offered to a script, in order.
fn offers(world: &World, script: ScriptId) -> Vec<String> {
    let name = |message: &Message| {
        if let Message::FileOffer(offer) = message { Some(offer.name.to_string()) } else { None }
    };
    world.scripts[script.0].heard.iter().filter_map(name).collect()
}

/// A node that takes everything, and a script connected to it that has said that it is baseline.
fn node_and_baseline_script(world: &mut World) -> (NodeId, ScriptId, String) {
    let node = world.node(AcceptPolicy::All);
    let script = world.script(node);
    world.say(script, Message::Text("hi".into()));
    world.run_for(SECOND / 10);
    let name = only_peer(world, node);
    (node, script, name)
}

#[test]
fn texts_and_files_of_every_edge_size_go_both_ways() {
    let mut world = World::new(1);
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    world.run_for(SECOND);
    let a_name = only_peer(&mut world, b);
    let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 7];
    for size in sizes {
        let name = format!("{size}.bin");
        for (from, to) in [(a, &b_name), (b, &a_name)] {
            let bytes = world.rng.bytes(size);
            put(&mut world, from, &name, &bytes);
            world.send_file(from, to, &name);
        }
    }
    world.run_command(a, Command::SendText(peer(&b_name), "from a".into())).unwrap();
    world.run_command(b, Command::Broadcast("from b".into())).unwrap();
    assert_eq!(world.run_command(a, Command::Wait), Ok(Reply::Idle));
    assert_eq!(world.run_command(b, Command::Wait), Ok(Reply::Idle));
    world.run_for(SECOND);
    for (from, to) in [(a, b), (b, a)] {
        for size in sizes {
            let name = format!("{size}.bin");
            let original = &world.nodes[from.0].disk.files[std::path::Path::new(&name)];
            assert_eq!(world.nodes[to.0].disk.downloads.get(&name), Some(original), "{name}");
        }
        assert!(world.events(from, sent).iter().all(|(_, confirmed)| *confirmed));
        assert_eq!(world.events(from, sent).len(), sizes.len());
        assert!(world.nodes[from.0].disk.is_clean());
    }
    assert_eq!(world.events(b, message), ["from a"]);
    assert_eq!(world.events(a, message), ["from b"]);
}

/// Random nodes, links, files, commands, cuts and broken disks. Nodes with an identity come back after
/// cuts, and go on.
fn chaos(seed: u64, secure: bool) -> World {
    let mut world = World::new(seed);
    world.line.latency = Duration::from_micros(world.rng.below(50_000));
    world.line.bytes_per_sec = 200_000 + world.rng.below(50_000_000);
    let nodes: Vec<_> = (0..2 + world.rng.below(4))
        .map(|number| match u8::try_from(number) {
            Ok(identity) if secure => world.secure_node(identity, AcceptPolicy::All),
            _ => world.node(AcceptPolicy::All),
        })
        .collect();
    let pick = |rng: &mut Rng| nodes[usize::try_from(rng.below(nodes.len() as u64)).unwrap()];
    for step in 0..40 {
        let (node, other) = (pick(&mut world.rng), pick(&mut world.rng));
        let name = world::addr_of(other).to_string();
        match world.rng.below(20) {
            0..5 => {
                world.command(node, Command::Connect(name.parse().unwrap()));
            }
            5..14 => {
                let size = world.rng.below(6 * CHUNK as u64);
                let bytes = world.rng.bytes(usize::try_from(size).unwrap());
                let file = format!("{}.bin", world.rng.below(10) + 100 * step);
                put(&mut world, node, &file, &bytes);
                world.command(node, Command::SendFile { to: peer(&name), path: file.into(), name: None });
            }
            14 | 15 => {
                let id = TransferId(world.rng.below(10));
                world.command(node, Command::Cancel { id, discard: false });
            }
            16 => world.cut(node),
            17 => world.nodes[node.0].disk.stores_left = world.rng.below(10),
            18 => {
                world.command(node, Command::Disconnect(peer(&name)));
            }
            _ => world.nodes[node.0].disk.stores_left = u64::MAX,
        }
        let pause = Duration::from_micros(world.rng.below(300_000));
        world.run_for(pause);
    }
    world.run_to_end();
    world
}

#[test]
fn every_transfer_ends_once_and_every_file_is_right_whatever_happens() {
    let (mut delivered, mut lost) = (0, 0);

    for (seed, secure) in (0..100).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut world = chaos(seed, secure);
        for node in (0..world.nodes.len()).map(NodeId) {
            let (sent, failed) = (world.events(node, sent), world.events(node, failed));
            let mut ended: Vec<_> =
                sent.iter().map(|(id, _)| *id).chain(failed.iter().map(|(id, _)| *id)).collect();
            ended.extend(world.events(node, |event| match event {
                Event::Received { id, .. } => Some(*id),
                _ => None,
            }));
            ended.sort();
            let all = ended.len();
            ended.dedup();
            assert_eq!(ended.len(), all, "seed {seed}, secure {secure}: a transfer ended twice: {world:?}");
            assert!(sent.iter().all(|(_, confirmed)| *confirmed), "seed {seed}, secure {secure}");
            for (name, hash) in world.events(node, received) {
                let bytes = &world.nodes[node.0].disk.downloads[&name];
                assert_eq!(file_hash(bytes), hash, "seed {seed}, secure {secure}: {name} is wrong");
            }
            let received = world.events(node, received).len();
            assert_eq!(
                world.nodes[node.0].disk.downloads.len(),
                received,
                "seed {seed}, secure {secure}: a file nobody was told of"
            );
            assert!(
                world.nodes[node.0].disk.is_clean(),
                "seed {seed}, secure {secure}: something is left on the disk: {world:?}"
            );
            match world.run_command(node, Command::Transfers) {
                Ok(Reply::Transfers(left)) => {
                    assert!(
                        left.iter().all(|info| info.stage == Stage::Partial),
                        "seed {seed}, secure {secure}: {left:?}"
                    );
                }
                other => panic!("seed {seed}, secure {secure}: {other:?}"),
            }
            assert_eq!(
                world.run_command(node, Command::Wait),
                Ok(Reply::Idle),
                "seed {seed}, secure {secure}"
            );
            let started = world.nodes[node.0].replies.values();
            let started: Vec<_> = started
                .filter_map(|reply| if let Ok(Reply::Sending { id, .. }) = reply { Some(*id) } else { None })
                .collect();
            assert!(
                started.iter().all(|id| ended.contains(id)),
                "seed {seed}, secure {secure}: a transfer never ended: {world:?}"
            );
            delivered += received;
            lost += failed.len();
        }
        let confirmed: usize =
            (0..world.nodes.len()).map(|node| world.events(NodeId(node), sent).len()).sum();
        let arrived: usize =
            (0..world.nodes.len()).map(|node| world.events(NodeId(node), received).len()).sum();
        assert!(confirmed <= arrived, "seed {seed}, secure {secure}: more was confirmed than arrived");
    }
    // Otherwise this test has not seen what it is about.
    assert!(delivered > 300 && lost > 100, "{delivered} delivered, {lost} lost");
}

#[test]
fn a_seed_repeats_its_run_exactly() {
    assert_eq!(format!("{:?}", chaos(7, true)), format!("{:?}", chaos(7, true)));
}

#[test]
fn who_says_nothing_for_a_second_or_anything_but_hello_is_baseline_for_good() {
    let mut world = World::new(2);
    let node = world.node(AcceptPolicy::All);
    let levels = |world: &World| {
        world.events(
            node,
            |event| if let Event::PeerConnected { level, .. } = event { Some(*level) } else { None },
        )
    };
    let extended = world.script(node);
    world.say(extended, hello());
    world.run_for(SECOND / 2);
    assert_eq!(levels(&world), [Level::Extended]);
    let silent = world.script(node);
    world.run_for(SECOND * 9 / 10);
    assert_eq!(levels(&world).len(), 1);
    world.run_for(SECOND / 5);
    let talker = world.script(node);
    world.say(talker, Message::Unknown("NEWS".into()));
    world.run_for(SECOND / 10);
    world.say(silent, hello());
    world.say(talker, hello());
    world.run_for(SECOND);
    assert_eq!(levels(&world), [Level::Extended, Level::Baseline, Level::Baseline]);
    assert!(matches!(world.scripts[silent.0].heard[0], Message::Hello(_)), "our HELLO comes first");
}

#[test]
fn a_node_does_not_connect_to_itself() {
    let mut world = World::new(3);
    let node = world.node(AcceptPolicy::All);
    let own = world::addr_of(node).to_string();
    let failure = world.run_command(node, Command::Connect(own.parse().unwrap())).unwrap_err();
    assert_eq!(failure.code, Code::SelfConnection);
    world.run_to_end();
    assert_eq!(world.run_command(node, Command::Peers), Ok(Reply::Peers(vec![])));
}

#[test]
fn a_baseline_peer_is_offered_one_file_at_a_time() {
    let mut world = World::new(4);
    let (node, script, name) = node_and_baseline_script(&mut world);
    let files: Vec<_> = (0..3).map(|n| (format!("{n}.bin"), world.rng.bytes(CHUNK + 100))).collect();
    for (file, bytes) in &files {
        put(&mut world, node, file, bytes);
        world.send_file(node, &name, file);
        world.run_for(SECOND / 10);
    }
    for (done, (file, bytes)) in files.iter().enumerate() {
        world.run_for(SECOND);
        assert_eq!(offers(&world, script).len(), done + 1, "the next one waits for the COMPLETE of the last");
        assert_eq!(&offers(&world, script)[done], file);
        world.say(script, Message::FileAccept(file_hash(bytes)));
        world.run_for(SECOND);
        assert!(heard(&world, script, &chunk(0, bytes)) && heard(&world, script, &chunk(1, bytes)));
        world.say(script, Message::Complete(file_hash(bytes)));
    }
    world.run_for(SECOND);
    assert!(world.events(node, sent).iter().map(|(_, confirmed)| *confirmed).eq([true; 3]));
}

#[test]
fn an_empty_file_to_a_baseline_peer_is_sent_but_not_confirmed() {
    let mut world = World::new(5);
    let (node, script, name) = node_and_baseline_script(&mut world);
    put(&mut world, node, "empty", b"");
    let id = world.send_file(node, &name, "empty");
    world.run_for(SECOND);
    world.say(script, Message::FileAccept(file_hash(b"")));
    world.run_for(SECOND);
    assert_eq!(world.events(node, sent), [(id, false)]);
}

#[test]
fn unnamed_chunks_of_interleaved_files_find_their_file_in_any_order() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        let (node, script, _) = node_and_baseline_script(&mut world);
        let shared = world.rng.bytes(CHUNK);
        let files: Vec<Vec<u8>> = (0..4)
            .map(|n| {
                // Two begin alike and two do not, two go on alike, lengths differ.
                let mut bytes = if n < 2 { world.rng.bytes(CHUNK) } else { shared.clone() };
                bytes.extend(if n % 2 == 0 { shared.clone() } else { world.rng.bytes(CHUNK) });
                let tail = world.rng.bytes(1 + n * 7);
                bytes.extend(tail);
                bytes
            })
            .collect();
        let mut chunks = Vec::new();
        for (n, bytes) in files.iter().enumerate() {
            world.say(script, offer(&n.to_string(), bytes));
            chunks.extend((0..3).map(|index| chunk(index, bytes)));
        }
        world.run_for(SECOND);
        for at in (1..chunks.len()).rev() {
            let other = usize::try_from(world.rng.below(at as u64 + 1)).unwrap();
            chunks.swap(at, other);
        }
        for chunk in chunks {
            world.say(script, chunk);
        }
        world.run_for(10 * SECOND);
        for (n, bytes) in files.iter().enumerate() {
            assert_eq!(
                world.nodes[node.0].disk.downloads.get(&n.to_string()),
                Some(bytes),
                "seed {seed}, file {n}"
            );
            assert!(heard(&world, script, &Message::Complete(file_hash(bytes))), "seed {seed}, file {n}");
        }
        assert!(acks(&world, script).iter().all(|(_, ok)| *ok), "seed {seed}");
    }
}

#[test]
fn wrong_short_long_surplus_and_stray_chunks_are_not_written_and_the_fifth_ends_it() {
    let mut world = World::new(6);
    let (node, script, _) = node_and_baseline_script(&mut world);
    let bytes = world.rng.bytes(2 * CHUNK);
    world.say(script, offer("a", &bytes));
    world.run_for(SECOND);
    let data = |data: &[u8]| ChunkData(data.to_vec().into());
    let zeros = vec![0; CHUNK];
    let bad = [
        Message::Chunk { index: 0, data: data(&zeros) },
        Message::Chunk { index: 0, data: data(&bytes[..CHUNK - 1]) },
        Message::Chunk { index: 1, data: data(&[&bytes[CHUNK..], b"x"].concat()) },
        Message::Chunk { index: u64::MAX, data: data(&zeros) },
    ];
    for (said, bad) in bad.into_iter().enumerate() {
        world.say(script, bad);
        world.run_for(SECOND);
        assert!(matches!(acks(&world, script).as_slice(), [.., (_, false)]), "chunk {said}");
        assert_eq!(acks(&world, script).len(), said + 1);
    }
    assert!(!world.scripts[script.0].closed, "four are forgiven");
    world.say(script, chunk(0, &bytes));
    world.run_for(SECOND);
    assert_eq!(acks(&world, script).last(), Some(&(0, true)));
    world.say(script, chunk(0, &bytes));
    world.run_for(SECOND);
    assert!(world.scripts[script.0].closed, "the fifth, a surplus one, is not");
    assert!(world.nodes[node.0].disk.downloads.is_empty() && world.nodes[node.0].disk.is_clean());
    assert_eq!(world.events(node, failed).len(), 1);
}

#[test]
fn a_chunk_of_an_offer_that_nobody_accepted_is_refused() {
    let mut world = World::new(6);
    let node = world.node(AcceptPolicy::Ask);
    let script = world.script(node);
    let bytes = world.rng.bytes(2 * CHUNK);
    world.say(script, offer("a", &bytes));
    world.run_for(SECOND);
    world.say(script, chunk(0, &bytes));
    world.run_for(SECOND);
    assert_eq!(acks(&world, script), [(0, false)]);
    assert!(!world.scripts[script.0].closed && world.nodes[node.0].disk.bytes_stored == 0);
}

#[test]
fn chunks_that_a_sender_cannot_know_to_be_unwanted_are_not_held_against_it() {
    let mut world = World::new(7);
    let (node, script, _) = node_and_baseline_script(&mut world);
    let bytes = world.rng.bytes(30 * CHUNK);
    world.say(script, offer("a", &bytes));
    world.run_for(SECOND);
    world.say(script, chunk(0, &bytes));
    world.run_for(SECOND);
    let ids = world.events(node, |event| if let Event::Offer { id, .. } = event { Some(*id) } else { None });
    world.run_command(node, Command::Cancel { id: ids[0], discard: false }).unwrap();
    for index in 1..30 {
        world.say(script, chunk(index, &bytes));
    }
    world.run_for(SECOND);
    assert!(!world.scripts[script.0].closed);
    for index in 1..6 {
        world.say(script, chunk(index, &bytes));
    }
    world.run_for(SECOND);
    assert!(world.scripts[script.0].closed, "but no more than were to come");
}

#[test]
fn a_file_whose_chunks_are_right_and_whose_hash_is_not_gets_no_name() {
    let mut world = World::new(8);
    let (node, script, _) = node_and_baseline_script(&mut world);
    let bytes = world.rng.bytes(CHUNK + 1);
    let hashes = bytes.chunks(CHUNK).map(world::disk_model::digest).collect();
    let manifest = Manifest::new(bytes.len() as u64, FileHash([7; 32]), hashes).unwrap();
    world.say(script, Message::FileOffer(Offer { name: SafeName::new("a").unwrap(), manifest }));
    world.run_for(SECOND);
    world.say(script, chunk(0, &bytes));
    world.say(script, chunk(1, &bytes));
    world.run_for(SECOND);
    assert_eq!(
        world.events(node, failed).iter().map(|(_, code)| *code).collect::<Vec<_>>(),
        [Code::HashMismatch]
    );
    assert!(world.nodes[node.0].disk.downloads.is_empty() && world.nodes[node.0].disk.is_clean());
    assert!(!heard(&world, script, &Message::Complete(FileHash([7; 32]))));
}

#[test]
fn what_is_refused_goes_to_the_log_and_costs_only_its_sender() {
    let mut world = World::new(9);
    let (node, script, _) = node_and_baseline_script(&mut world);
    world.nodes[node.0].disk.free_bytes = 10;
    let bytes = world.rng.bytes(11);
    world.say(script, offer("too-large", &bytes));
    world.say_bad_line(script, BadLine::Offer(OfferError::HashesDisagree));
    world.run_for(SECOND);
    let small = world.rng.bytes(9);
    world.say(script, offer("running", &small));
    world.run_for(SECOND);
    world.say(script, offer("running again", &small));
    world.run_for(SECOND);
    let warnings = world.events(node, warning);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("contradicts") && warnings[1].contains("10 bytes are free"), "{warnings:?}");
    assert!(warnings[2].contains("still open"), "{warnings:?}");
    assert!(!world.scripts[script.0].closed);
    world.say(script, chunk(0, &small));
    world.run_for(SECOND);
    assert_eq!(world.nodes[node.0].disk.downloads.get("running"), Some(&small));
}

#[test]
fn space_that_is_promised_to_one_file_is_not_promised_to_another() {
    let mut world = World::new(10);
    let (node, script, _) = node_and_baseline_script(&mut world);
    world.nodes[node.0].disk.free_bytes = 1000;
    for name in ["a", "b"] {
        let bytes = world.rng.bytes(600);
        world.say(script, offer(name, &bytes));
        world.run_for(SECOND);
    }
    let accepted =
        world.scripts[script.0].heard.iter().filter(|said| matches!(said, Message::FileAccept(_))).count();
    assert_eq!(accepted, 1);
}

#[test]
fn a_flood_of_offers_is_bounded_and_then_ends() {
    let mut world = World::new(11);
    let node = world.node(AcceptPolicy::Ask);
    let script = world.script(node);
    for n in 0..10_000_u32 {
        world.say(script, offer("a", &n.to_le_bytes()));
    }
    world.run_for(5 * SECOND);
    assert!(world.scripts[script.0].closed);
    let offered = world.events(node, |event| matches!(event, Event::Offer { .. }).then_some(()));
    assert!((1..=Limits::default().offers_per_peer).contains(&offered.len()), "{} offers", offered.len());
    assert!(world.nodes[node.0].disk.is_clean());
}

#[test]
fn a_line_that_is_no_message_is_skipped_once() {
    let mut world = World::new(12);
    let (node, script, _) = node_and_baseline_script(&mut world);
    world.say_bad_line(script, BadLine::NotAMessage("expected value".into()));
    world.run_for(SECOND);
    world.say(script, Message::Text("still here".into()));
    world.run_for(SECOND);
    assert_eq!(world.events(node, message), ["hi", "still here"]);
    world.say_bad_line(script, BadLine::NotAMessage("expected value".into()));
    world.run_for(SECOND);
    assert!(world.scripts[script.0].closed);
    assert_eq!(world.events(node, warning).len(), 2, "one line for the skipped one, one for the end");
}

#[test]
fn an_offer_to_a_person_waits_expires_and_can_be_refused() {
    let mut world = World::new(13);
    let node = world.node(AcceptPolicy::Ask);
    let script = world.script(node);
    for name in ["accepted", "rejected", "expired"] {
        world.say(script, offer(name, name.as_bytes()));
        world.run_for(SECOND);
    }
    let ids = world.events(node, |event| {
        if let Event::Offer { id, expires_in, .. } = event { expires_in.map(|_| *id) } else { None }
    });
    assert_eq!(
        world.run_command(node, Command::Wait),
        Ok(Reply::Idle),
        "what nobody decided on does not run"
    );
    let one = |id: TransferId| Selection::One(id);
    assert_eq!(world.run_command(node, Command::Accept(one(ids[0]))), Ok(Reply::Accepted(vec![ids[0]])));
    assert_eq!(world.run_command(node, Command::Reject(one(ids[1]))), Ok(Reply::Rejected(vec![ids[1]])));
    let failure = world.run_command(node, Command::Accept(one(ids[1]))).unwrap_err();
    assert_eq!(failure.code, Code::UnknownTransfer);
    world.run_for(SECOND);
    assert!(heard(&world, script, &Message::FileAccept(file_hash(b"accepted"))));
    world.say(script, chunk(0, b"accepted"));
    world.run_for(601 * SECOND);
    assert_eq!(world.events(node, failed), [(ids[2], Code::Expired)]);
    assert_eq!(world.nodes[node.0].disk.downloads.keys().collect::<Vec<_>>(), ["accepted"]);
}

#[test]
fn who_is_not_to_be_asked_about_is_taken_and_where_nobody_can_be_asked_declined() {
    for (accept, asks) in [
        (AcceptPolicy::All, false),
        (AcceptPolicy::Ask, true),
        (AcceptPolicy::Known, true),
        (AcceptPolicy::None, true),
    ] {
        let mut world = World::new(14);
        let node = world.node(accept);
        let script = world.script(node);
        world.say(script, offer("a", b"a"));
        world.run_for(SECOND);
        let asked = world.events(node, |event| {
            if let Event::Offer { expires_in, .. } = event { Some(expires_in.is_some()) } else { None }
        });
        assert_eq!(asked, [asks], "{accept:?}");
        world.run_command(node, Command::StopAsking).unwrap();
        world.say(script, offer("b", b"b"));
        world.run_for(SECOND);
        assert_eq!(heard(&world, script, &Message::FileAccept(file_hash(b"a"))), !asks, "{accept:?}");
        assert_eq!(heard(&world, script, &Message::FileAccept(file_hash(b"b"))), !asks, "{accept:?}");
        let Ok(Reply::Transfers(transfers)) = world.run_command(node, Command::Transfers) else { panic!() };
        assert_eq!(transfers.is_empty(), asks, "{accept:?}");
    }
}

#[test]
fn a_receiver_that_never_reads_slows_nobody_and_is_dropped_in_the_end() {
    let mut world = World::new(15);
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    let deaf = world.script(a);
    world.say(deaf, hello());
    world.run_for(SECOND / 10);
    let Ok(Reply::Peers(peers)) = world.run_command(a, Command::Peers) else { panic!() };
    let deaf_name = peers[1].peer.to_string();
    let bytes = world.rng.bytes(100 * CHUNK);
    put(&mut world, a, "large", &bytes);
    let lost = world.send_file(a, &deaf_name, "large");
    world.run_for(SECOND);
    world.scripts[deaf.0].deaf = true;
    world.say(deaf, Message::FileAccept(file_hash(&bytes)));
    let sent_to_b = world.send_file(a, &b_name, "large");
    world.run_for(5 * SECOND);
    assert_eq!(world.events(a, sent), [(sent_to_b, true)]);
    // Texts to it are bounded too, and refused with a reason.
    let text = "x".repeat(60_000);
    let refused =
        (0..100).find_map(|_| world.run_command(a, Command::SendText(peer(&deaf_name), text.clone())).err());
    assert_eq!(refused.map(|failure: Failure| failure.code), Some(Code::Busy));
    world.run_for(200 * SECOND);
    assert_eq!(world.events(a, failed), [(lost, Code::Disconnected)]);
    let undelivered = world.events(a, |event| matches!(event, Event::Undelivered { .. }).then_some(()));
    assert_eq!(undelivered.len(), 1, "its texts are not lost silently");
}

#[test]
fn uploads_to_one_peer_take_turns() {
    let mut world = World::new(16);
    world.line = Line { latency: SECOND / 100, bytes_per_sec: 10 * CHUNK as u64 };
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    for (name, chunks) in [("large", 200), ("small", 5)] {
        let bytes = world.rng.bytes(chunks * CHUNK);
        put(&mut world, a, name, &bytes);
    }
    let large = world.send_file(a, &b_name, "large");
    world.run_for(3 * SECOND);
    let small = world.send_file(a, &b_name, "small");
    world.run_until(|world| !world.events(a, sent).is_empty());
    assert_eq!(world.events(a, sent), [(small, true)], "the small one does not wait for the large one");
    world.run_until(|world| world.events(a, sent).len() == 2);
    assert_eq!(world.events(a, sent)[1], (large, true));
}

#[test]
fn two_files_of_one_content_to_one_peer_both_arrive() {
    let mut world = World::new(17);
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    for name in ["one", "two"] {
        put(&mut world, a, name, b"the same");
        world.command(a, Command::SendFile { to: peer(&b_name), path: name.into(), name: None });
    }
    world.run_for(SECOND);
    assert_eq!(world.nodes[b.0].disk.downloads.keys().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn two_senders_of_one_name_both_arrive() {
    let mut world = World::new(18);
    let receiver = world.node(AcceptPolicy::All);
    for content in ["first", "second"] {
        let sender = world.node(AcceptPolicy::All);
        let name = world.connect(sender, receiver);
        put(&mut world, sender, "same.txt", content.as_bytes());
        world.command(sender, Command::SendFile { to: peer(&name), path: "same.txt".into(), name: None });
    }
    world.run_for(SECOND);
    let mut contents: Vec<_> = world.nodes[receiver.0].disk.downloads.values().cloned().collect();
    contents.sort();
    assert_eq!(contents, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(
        world.nodes[receiver.0].disk.downloads.keys().collect::<Vec<_>>(),
        ["same (1).txt", "same.txt"]
    );
}

#[test]
fn a_sender_that_has_said_everything_may_stop_talking() {
    let mut world = World::new(19);
    let (node, script, _) = node_and_baseline_script(&mut world);
    let bytes = world.rng.bytes(3 * CHUNK);
    world.say(script, offer("a", &bytes));
    world.run_for(SECOND);
    for index in 0..3 {
        world.say(script, chunk(index, &bytes));
    }
    world.end(script);
    world.run_for(SECOND);
    assert_eq!(world.nodes[node.0].disk.downloads.get("a"), Some(&bytes));
    assert!(
        heard(&world, script, &Message::Complete(file_hash(&bytes))),
        "it still hears that the file arrived"
    );
    assert!(world.scripts[script.0].closed);
}

#[test]
fn a_transfer_that_stands_still_ends() {
    let mut world = World::new(20);
    let (node, script, name) = node_and_baseline_script(&mut world);
    let bytes = world.rng.bytes(3 * CHUNK);
    world.say(script, offer("never-sent", &bytes));
    put(&mut world, node, "never-accepted", b"1");
    put(&mut world, node, "never-confirmed", b"2");
    world.send_file(node, &name, "never-accepted");
    world.run_for(119 * SECOND);
    assert_eq!(world.events(node, failed).len(), 0);
    world.run_for(20 * SECOND);
    assert_eq!(world.events(node, failed).iter().map(|(_, code)| *code).collect::<Vec<_>>(), [Code::Stalled]);
    world.send_file(node, &name, "never-confirmed");
    world.run_for(600 * SECOND);
    assert_eq!(world.events(node, failed)[1].1, Code::Expired);
    assert_eq!(offers(&world, script).len(), 2, "the next one has its turn");
    world.say(script, Message::FileAccept(file_hash(b"2")));
    world.run_for(310 * SECOND);
    assert_eq!(world.events(node, failed)[2].1, Code::Unconfirmed);
}

#[test]
fn a_chunk_that_the_receiver_found_damaged_is_sent_again_but_not_for_ever() {
    let mut world = World::new(21);
    let (node, script, name) = node_and_baseline_script(&mut world);
    let bytes = world.rng.bytes(2 * CHUNK);
    put(&mut world, node, "a", &bytes);
    let id = world.send_file(node, &name, "a");
    world.run_for(SECOND);
    world.say(script, Message::FileAccept(file_hash(&bytes)));
    world.run_for(SECOND);
    let times = |world: &World| {
        world.scripts[script.0].heard.iter().filter(|said| **said == chunk(1, &bytes)).count()
    };
    for again in 1..=5 {
        assert_eq!(times(&world), again);
        world.say(script, Message::ChunkAck { index: 1, ok: false });
        world.run_for(SECOND);
    }
    world.say(script, Message::ChunkAck { index: 1, ok: false });
    world.run_for(SECOND);
    assert_eq!(world.events(node, failed), [(id, Code::Declined)]);
}

#[test]
fn a_source_that_changes_while_it_is_sent_is_not_delivered_mixed() {
    let mut world = World::new(22);
    world.line.bytes_per_sec = 10 * CHUNK as u64;
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    let bytes = world.rng.bytes(50 * CHUNK);
    put(&mut world, a, "a", &bytes);
    let id = world.send_file(a, &b_name, "a");
    world.run_for(2 * SECOND);
    let other = world.rng.bytes(50 * CHUNK);
    put(&mut world, a, "a", &other);
    world.run_to_end();
    assert_eq!(world.events(a, failed), [(id, Code::SourceChanged)]);
    assert!(world.nodes[b.0].disk.downloads.is_empty() && world.nodes[b.0].disk.is_clean());
}

#[test]
fn confirming_what_was_not_sent_confirms_nothing() {
    let mut world = World::new(23);
    world.line.bytes_per_sec = 10 * CHUNK as u64;
    let (node, script, name) = node_and_baseline_script(&mut world);
    let bytes = world.rng.bytes(50 * CHUNK);
    put(&mut world, node, "a", &bytes);
    world.send_file(node, &name, "a");
    world.run_for(SECOND);
    world.say(script, Message::Complete(file_hash(&bytes)));
    world.run_for(SECOND);
    world.say(script, Message::FileAccept(file_hash(&bytes)));
    world.say(script, Message::Complete(file_hash(&bytes)));
    world.run_for(SECOND);
    assert_eq!(world.events(node, sent), []);
    world.run_for(10 * SECOND);
    world.say(script, Message::Complete(file_hash(&bytes)));
    world.run_for(SECOND);
    assert_eq!(world.events(node, sent).len(), 1);
}

#[test]
fn the_oldest_silent_connection_gives_way() {
    let mut world = World::new(24);
    let limits = Limits { silent_peers: 3, ..Limits::default() };
    let node = world.node_with(AcceptPolicy::All, limits);
    let honest = world.script(node);
    world.say(honest, Message::Text("hi".into()));
    world.run_for(SECOND);
    let silent: Vec<_> = (0..5).map(|_| world.script(node)).collect();
    world.run_for(SECOND / 2);
    let still = |world: &World| silent.iter().all(|script| !world.scripts[script.0].closed);
    assert!(still(&world), "what a new one says may not have been read yet");
    world.run_for(SECOND);
    let closed: Vec<_> = silent.iter().map(|script| world.scripts[script.0].closed).collect();
    assert_eq!(closed, [true, true, false, false, false]);
    assert!(!world.scripts[honest.0].closed);
}

#[test]
fn a_peer_past_the_limit_is_turned_away() {
    let mut world = World::new(25);
    let limits = Limits { peers: 2, ..Limits::default() };
    let node = world.node_with(AcceptPolicy::All, limits);
    let silent = world.script(node);
    let talk = |world: &mut World| {
        let script = world.script(node);
        world.say(script, Message::Text("hi".into()));
        world.run_for(SECOND / 10);
        script
    };
    let scripts = [talk(&mut world), talk(&mut world), talk(&mut world)];
    assert!(world.scripts[silent.0].closed, "who said nothing makes room first");
    let closed: Vec<_> = scripts.iter().map(|script| world.scripts[script.0].closed).collect();
    assert_eq!(closed, [false, false, true]);
}

#[test]
fn progress_is_told_at_most_four_times_a_second() {
    let mut world = World::new(26);
    world.line.bytes_per_sec = 20 * CHUNK as u64;
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    let bytes = world.rng.bytes(200 * CHUNK);
    put(&mut world, a, "a", &bytes);
    world.send_file(a, &b_name, "a");
    world.run_for(20 * SECOND);
    for node in [a, b] {
        let times: Vec<_> = world.nodes[node.0]
            .events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Progress { stage: Stage::Transferring, .. }))
            .map(|(at, _)| *at)
            .collect();
        assert!(times.len() > 30, "{}", times.len());
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= SECOND / 4));
    }
}

#[test]
fn each_side_tells_what_limited_a_transfer() {
    use Bottleneck::{Disk, Hashing, Network};
    let slow = 50 * Duration::from_millis(1);
    let none = Took::default();
    let (disk, hashing) = (Took { disk: slow, hashing: slow / 10 }, Took { disk: slow / 10, hashing: slow });
    for (fast_line, sender, receiver, expected) in [
        (false, none, none, [Network, Network]),
        (true, disk, none, [Disk, Network]),
        (true, hashing, none, [Hashing, Network]),
        (true, none, disk, [Bottleneck::OtherDisk, Disk]),
        (true, none, hashing, [Bottleneck::OtherDisk, Hashing]),
    ] {
        let mut world = World::new(27);
        world.line =
            Line { latency: SECOND / 1000, bytes_per_sec: if fast_line { 1 << 30 } else { 1 << 20 } };
        let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
        let b_name = world.connect(a, b);
        world.nodes[a.0].slowness = sender;
        world.nodes[b.0].slowness = receiver;
        let bytes = world.rng.bytes(40 * CHUNK);
        put(&mut world, a, "a", &bytes);
        world.send_file(a, &b_name, "a");
        world.run_until(|world| !world.events(a, sent).is_empty());
        let limited = |event: &Event| match event {
            Event::Sent { limited_by, .. } | Event::Received { limited_by, .. } => *limited_by,
            _ => None,
        };
        let found = [world.events(a, limited)[0], world.events(b, limited)[0]];
        assert_eq!(found, expected, "fast line: {fast_line}, sender {sender:?}, receiver {receiver:?}");
    }
}

/// Four files that share chunks, all accepted, and their chunks in a random order.
fn interleaved(world: &mut World, script: ScriptId) -> (Vec<Vec<u8>>, Vec<Message>) {
    let shared = world.rng.bytes(CHUNK);
    let files: Vec<Vec<u8>> = (0..4)
        .map(|n| [shared.clone(), world.rng.bytes(CHUNK), world.rng.bytes(1 + n * 7)].concat())
        .collect();
    let mut chunks = Vec::new();
    for (n, bytes) in files.iter().enumerate() {
        world.say(script, offer(&n.to_string(), bytes));
        chunks.extend((0..3).map(|index| chunk(index, bytes)));
    }
    world.run_for(SECOND);
    for at in (1..chunks.len()).rev() {
        let other = usize::try_from(world.rng.below(at as u64 + 1)).unwrap();
        chunks.swap(at, other);
    }
    (files, chunks)
}

#[test]
fn a_chunk_mistaken_for_another_files_is_not_lost_when_the_sender_falls_silent() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        let (node, script, _) = node_and_baseline_script(&mut world);
        world.nodes[node.0].slowness.disk = SECOND / 50;
        let (files, chunks) = interleaved(&mut world, script);
        for chunk in chunks {
            world.say(script, chunk);
        }
        world.end(script);
        world.run_for(10 * SECOND);
        for (n, bytes) in files.iter().enumerate() {
            let arrived = world.nodes[node.0].disk.downloads.get(&n.to_string());
            assert_eq!(arrived, Some(bytes), "seed {seed}, file {n}: {world:?}");
        }
        assert!(world.scripts[script.0].closed, "seed {seed}");
        assert!(world.nodes[node.0].disk.is_clean(), "seed {seed}");
    }
}

#[test]
fn a_chunk_mistaken_for_a_cancelled_files_is_not_lost() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        let (node, script, _) = node_and_baseline_script(&mut world);
        world.nodes[node.0].slowness.disk = SECOND / 50;
        let (files, chunks) = interleaved(&mut world, script);
        for chunk in chunks {
            world.say(script, chunk);
        }
        let pause = Duration::from_millis(world.rng.below(150));
        world.run_for(pause);
        let cancelled = usize::try_from(world.rng.below(4)).unwrap();
        let offered = |event: &Event| if let Event::Offer { id, .. } = event { Some(*id) } else { None };
        let mut ids = world.events(node, offered);
        ids.sort();
        let late = world.run_command(node, Command::Cancel { id: ids[cancelled], discard: false }).is_err();
        world.run_for(10 * SECOND);
        for (n, bytes) in files.iter().enumerate().filter(|(n, _)| late || *n != cancelled) {
            let arrived = world.nodes[node.0].disk.downloads.get(&n.to_string());
            assert_eq!(arrived, Some(bytes), "seed {seed}, file {n}: {world:?}");
        }
        assert!(!world.scripts[script.0].closed, "seed {seed}: nothing of it was the sender's fault");
    }
}

#[test]
fn an_offer_whose_sender_leaves_is_withdrawn_and_one_never_told_of_is_forgotten() {
    let mut world = World::new(30);
    let node = world.node(AcceptPolicy::None);
    for at_once in [false, true] {
        let script = world.script(node);
        world.say(script, offer(if at_once { "quick" } else { "slow" }, b"a"));
        if !at_once {
            world.run_for(SECOND);
        }
        world.end(script);
        world.run_for(SECOND);
    }
    assert_eq!(
        world.events(node, failed).iter().map(|(_, code)| *code).collect::<Vec<_>>(),
        [Code::Withdrawn]
    );
    let told = world.events(node, |event| matches!(event, Event::Offer { .. }).then_some(()));
    assert_eq!(told.len(), 1);
}

#[test]
fn what_a_node_of_ours_gave_up_and_sends_again_arrives() {
    let mut world = World::new(31);
    world.line.bytes_per_sec = 10 * CHUNK as u64;
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    let bytes = world.rng.bytes(40 * CHUNK);
    put(&mut world, a, "a", &bytes);
    let given_up = world.send_file(a, &b_name, "a");
    world.run_for(SECOND);
    world.run_command(a, Command::Cancel { id: given_up, discard: false }).unwrap();
    let again = world.send_file(a, &b_name, "a");
    world.run_for(20 * SECOND);
    assert_eq!(world.events(a, sent), [(again, true)]);
    assert_eq!(world.nodes[b.0].disk.downloads.get("a"), Some(&bytes));
    assert_eq!(world.events(b, failed).iter().map(|(_, code)| *code).collect::<Vec<_>>(), [Code::Cancelled]);
}

#[test]
fn a_node_that_stops_tells_how_every_transfer_ended() {
    let mut world = World::new(32);
    world.line.bytes_per_sec = CHUNK as u64;
    let (a, b) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let b_name = world.connect(a, b);
    let bytes = world.rng.bytes(40 * CHUNK);
    put(&mut world, a, "a", &bytes);
    let id = world.send_file(a, &b_name, "a");
    world.run_for(5 * SECOND);
    world.stop(a);
    world.stop(b);
    assert_eq!(world.events(a, failed), [(id, Code::ShuttingDown)]);
    assert_eq!(world.events(b, failed).len(), 1);
}

#[test]
fn a_silent_peer_that_we_send_something_keeps_its_place() {
    let mut world = World::new(33);
    let limits = Limits { silent_peers: 3, ..Limits::default() };
    let node = world.node_with(AcceptPolicy::All, limits);
    let receiver = world.script(node);
    world.run_for(2 * SECOND);
    let name = only_peer(&mut world, node);
    put(&mut world, node, "a", b"a");
    world.send_file(node, &name, "a");
    world.run_for(SECOND);
    let others: Vec<_> = (0..10).map(|_| world.script(node)).collect();
    world.run_for(3 * SECOND);
    assert!(!world.scripts[receiver.0].closed);
    assert!(others.iter().any(|script| world.scripts[script.0].closed));
}
