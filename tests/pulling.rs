//! What peers get that named the features of the extended protocol, and then say what they like.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use peer_to_peer::engine::{AcceptPolicy, Code, Command, Event, Limits, Reply, Selection, Stage};
use peer_to_peer::wire::{
    BadLine, CHUNK_SIZE, ChunkData, ContentOffer, ENTRIES_PER_PAGE, Hello, Instance, MAX_TREE_BYTES,
    ManifestHead, Message, NodeId as Identity, OfferError, OfferId, Prefix, Reason, SafeName, State,
    TreeInfo,
};
use world::disk_model::{entries_of, file_hash, head_of};
use world::people::pair;
use world::{Line, NodeId, SECOND, ScriptId, World};

const CHUNK: usize = CHUNK_SIZE as usize;

fn warnings(world: &World, node: NodeId) -> Vec<String> {
    world
        .events(node, |event| if let Event::Warning { text, .. } = event { Some(text.clone()) } else { None })
}

/// Connects a script that has named every feature, as a process of somebody.
fn script(world: &mut World, node: NodeId, who: u8, instance: u128) -> ScriptId {
    script_with(world, node, who, instance, &["transfer", "tree", "text-ack", "ping"])
}

fn script_with(world: &mut World, node: NodeId, who: u8, instance: u128, features: &[&str]) -> ScriptId {
    let script = world.script_as(Some(Identity([who; 32])), node);
    world.say(
        script,
        Message::Hello(Hello {
            version: 1,
            agent: "script".into(),
            node_id: None,
            instance: Instance(instance),
            listen_port: 0,
            your_addr: None,
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        }),
    );
    world.run_for(SECOND / 10);
    script
}

fn offer(id: u64, name: &str, size: u64, head: Option<ManifestHead>) -> Message {
    let name = SafeName::new(name).unwrap();
    Message::Offer(ContentOffer {
        tree: None,
        answers: None,
        is_partial: false,
        is_known_only: false,
        id: OfferId(id),
        name,
        size,
        head: head.map(Arc::new),
        page: Vec::new().into(),
    })
}

/// An offer of these bytes with its list, of one page.
fn listed_offer(id: u64, name: &str, bytes: &[u8]) -> Message {
    let entries = entries_of(bytes);
    let page: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    let head = head_of(bytes.len() as u64, file_hash(bytes), &entries);
    let name = SafeName::new(name).unwrap();
    let size = bytes.len() as u64;
    Message::Offer(ContentOffer {
        tree: None,
        answers: None,
        is_partial: false,
        is_known_only: false,
        id: OfferId(id),
        name,
        size,
        head: Some(Arc::new(head)),
        page: page.into(),
    })
}

fn data(id: u64, bytes: &[u8], index: u32, late: bool) -> Message {
    let chunk = bytes.chunks(CHUNK).nth(index as usize).unwrap().to_vec();
    let entry = late.then(|| entries_of(bytes)[index as usize]);
    Message::Data { id: OfferId(id), index, data: ChunkData(chunk.into()), entry }
}

fn seal(id: u64, bytes: &[u8]) -> Message {
    let head = head_of(bytes.len() as u64, file_hash(bytes), &entries_of(bytes));
    Message::Seal { id: OfferId(id), head: Arc::new(head) }
}

/// The chunks that a node has asked a script for, in order, repeats included.
fn pulled(world: &World, script: ScriptId) -> Vec<u32> {
    let chunks = |message: &Message| match message {
        Message::Pull { first, count, .. } => Some(*first..*first + *count),
        _ => None,
    };
    world.scripts[script.0].heard.iter().filter_map(chunks).flatten().collect()
}

fn pages_pulled(world: &World, script: ScriptId) -> Vec<u32> {
    let page =
        |message: &Message| if let Message::PullPage { page, .. } = message { Some(*page) } else { None };
    world.scripts[script.0].heard.iter().filter_map(page).collect()
}

fn refusals(world: &World, script: ScriptId) -> Vec<(u64, String, String)> {
    let refusal = |message: &Message| match message {
        Message::Refuse { id, reason } => Some((id.0, reason.code.clone(), reason.message.clone())),
        _ => None,
    };
    world.scripts[script.0].heard.iter().filter_map(refusal).collect()
}

#[test]
fn jobs_that_outlast_a_broken_connection_do_not_confuse_the_next_one() {
    for seed in 0..20 {
        let (mut world, a, b, b_name) = pair(seed);
        world.line.bytes_per_sec = 100 * CHUNK as u64;
        let known = seed % 2 == 0;
        let chunks = if seed == 6 { 1100 } else { 40 };
        world.cut(a);
        world.run_for(SECOND);
        let bytes = world.put(a, "a", chunks * CHUNK + 9);
        if known {
            world.send_file(a, &b_name, "a");
            world.run_to_end();
            world.nodes[b.0].disk.downloads.clear();
        }
        world.send_file(a, &b_name, "a");
        for _ in 0..3 {
            let pause = Duration::from_millis(world.rng.below(1500));
            world.run_for(pause);
            let slow = Duration::from_millis(world.rng.below(2000));
            world.nodes[a.0].slowness.disk = if seed % 5 == 0 { slow } else { Duration::ZERO };
            world.nodes[b.0].slowness.disk = if seed % 5 == 1 { Duration::ZERO } else { slow };
            world.run_for(SECOND / 2);
            world.cut(a);
            let pause = Duration::from_millis(world.rng.below(1500));
            world.run_for(pause);
            world.nodes[a.0].slowness.disk = Duration::ZERO;
            world.nodes[b.0].slowness.disk = Duration::ZERO;
        }
        world.run_to_end();
        let found = world.nodes[b.0].disk.downloads.get("a").map(|found| file_hash(found));
        assert_eq!(found, Some(file_hash(&bytes)), "seed {seed}: {world:?}");
        assert_eq!((world.failure_codes(a), world.failure_codes(b)), (vec![], vec![]), "seed {seed}");
        assert_eq!(warnings(&world, a), [""; 0], "seed {seed}");
        assert_eq!(warnings(&world, b), [""; 0], "seed {seed}");
        assert!(world.nodes[b.0].disk.is_clean() && !world.nodes[b.0].disk.has_partials());
    }
}

#[test]
fn what_a_sender_who_never_came_back_left_is_listed_and_can_be_discarded() {
    let mut world = World::new(1);
    let node = world.secure_node(1, AcceptPolicy::All);
    let sender = script(&mut world, node, 2, 1);
    let bytes = world.rng.bytes(20 * CHUNK);
    world.say(sender, offer(1, "a", bytes.len() as u64, None));
    world.run_for(SECOND);
    world.say(sender, data(1, &bytes, 0, true));
    world.run_for(SECOND);
    world.cut(node);
    world.run_for(119 * SECOND);
    assert_eq!(world.transfers(node)[0].stage, Stage::Waiting);
    world.run_for(2 * SECOND);
    assert_eq!(world.failure_codes(node), [Code::Disconnected]);
    let left = world.transfers(node);
    assert!(matches!(left.as_slice(), [info] if info.stage == Stage::Partial), "{left:?}");
    world.run_command(node, Command::Cancel { id: left[0].id, discard: true }).unwrap();
    world.run_to_end();
    assert!(!world.nodes[node.0].disk.has_partials());
}

#[test]
fn what_a_sender_says_out_of_turn_costs_it_only_its_own_transfer() {
    for late in [false, true] {
        for seed in 0..200 {
            let mut world = World::new(seed);
            let node = world.secure_node(1, AcceptPolicy::All);
            let honest = script(&mut world, node, 3, 1);
            let hostile = script(&mut world, node, 2, 1);
            let good = world.rng.bytes(3 * CHUNK + 1);
            world.say(honest, listed_offer(1, "good", &good));
            let bytes = world.rng.bytes(4 * CHUNK + 5);
            for _ in 0..world.rng.below(40) {
                let id = 1 + world.rng.below(2);
                let index = u32::try_from(world.rng.below(5)).unwrap();
                let says = match world.rng.below(16) {
                    0 | 1 if late => offer(id, "bad", bytes.len() as u64, None),
                    0 | 1 => listed_offer(id, "bad", &bytes),
                    2..6 => data(id, &bytes, index, late),
                    6 => data(id, &bytes, index, !late),
                    7 => seal(id, &bytes),
                    8 => Message::Resumed { id: OfferId(id), chunk: 0 },
                    9 => Message::Resumed { id: OfferId(id), chunk: index },
                    10 => Message::Page {
                        id: OfferId(id),
                        page: index % 2,
                        entries: bytes[..320].to_vec().into(),
                    },
                    11 => Message::Withdraw { id: OfferId(id), reason: Reason::new("x", "y") },
                    12 => Message::Pull { id: OfferId(id), first: index, count: u32::MAX },
                    13 => Message::Accept {
                        wants_list: id.is_multiple_of(2),
                        id: OfferId(id),
                        kept: Some(Prefix { chunks: u32::MAX, state: State::INITIAL }),
                    },
                    14 => Message::Done(OfferId(id)),
                    _ => Message::TextAck(u64::MAX),
                };
                world.say(hostile, says);
                let pause = Duration::from_millis(world.rng.below(100));
                world.run_for(pause);
            }
            if world.rng.below(3) == 0 {
                world.say(hostile, Message::Bye);
            }
            world.run_for(SECOND);
            for index in 0..4 {
                world.say(honest, data(1, &good, index, false));
            }
            world.run_for(SECOND);
            assert_eq!(world.nodes[node.0].disk.downloads.get("good"), Some(&good), "seed {seed}: {world:?}");
            for (name, found) in &world.nodes[node.0].disk.downloads {
                assert!(name == "good" || *found == bytes, "seed {seed}: {name} is wrong");
            }
            world.cut(node);
            world.run_to_end();
            assert!(world.nodes[node.0].disk.is_clean(), "seed {seed}");
            assert!(world.transfers(node).iter().all(|info| info.stage == Stage::Partial), "seed {seed}");
            assert_eq!(world.run_command(node, Command::Wait), Ok(Reply::Idle));
        }
    }
}

#[test]
fn what_a_receiver_says_out_of_turn_costs_it_only_its_own_transfer() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let node = world.secure_node(1, AcceptPolicy::All);
        let hostile = script(&mut world, node, 2, 1);
        let name = match world.run_command(node, Command::Peers) {
            Ok(Reply::Peers(peers)) => peers[0].peer.to_string(),
            other => panic!("{other:?}"),
        };
        let size = usize::try_from(world.rng.below(12 * CHUNK as u64)).unwrap();
        world.put(node, "a", size);
        let id = OfferId(world.send_file(node, &name, "a").0);
        for _ in 0..world.rng.below(40) {
            let small = u32::try_from(world.rng.below(14)).unwrap();
            let says = match world.rng.below(14) {
                0..3 => Message::Accept { id, kept: None, wants_list: false },
                3 => Message::Accept {
                    id,
                    kept: Some(Prefix { chunks: small, state: State::INITIAL }),
                    wants_list: true,
                },
                4..8 => Message::Pull { id, first: small, count: u32::try_from(world.rng.below(4)).unwrap() },
                8 => Message::Pull { id, first: small, count: u32::MAX - small },
                9 => Message::Pull { id, first: u32::MAX, count: u32::MAX },
                10 => Message::PullPage { id, page: small % 2 },
                11 => Message::Done(id),
                12 if small == 0 => Message::Refuse { id, reason: Reason::new("declined", "no") },
                _ => Message::Pull { id: OfferId(id.0 + 1), first: 0, count: 1 },
            };
            world.say(hostile, says);
            let pause = Duration::from_millis(world.rng.below(20));
            world.run_for(pause);
        }
        if world.rng.below(2) == 0 {
            world.cut(node);
            let again = script(&mut world, node, 2, 1);
            world.run_for(SECOND / 10);
            world.say(again, Message::Accept { id, kept: None, wants_list: false });
            for _ in 0..10 {
                let first = u32::try_from(world.rng.below(14)).unwrap();
                world.say(again, Message::Pull { id, first, count: 1 });
            }
            world.run_for(SECOND);
        }
        world.run_to_end();
        let ended = world.events(node, |event| match event {
            Event::Sent { .. } | Event::TransferFailed { .. } => Some(()),
            _ => None,
        });
        assert_eq!(ended.len(), 1, "seed {seed}: {world:?}");
        assert!(world.nodes[node.0].disk.is_clean(), "seed {seed}");
        assert_eq!(world.run_command(node, Command::Wait), Ok(Reply::Idle));
    }
}

#[test]
fn a_file_is_not_confirmed_before_it_was_offered() {
    let mut world = World::new(5);
    let node = world.secure_node(1, AcceptPolicy::All);
    let hostile = script(&mut world, node, 2, 1);
    let name = match world.run_command(node, Command::Peers) {
        Ok(Reply::Peers(peers)) => peers[0].peer.to_string(),
        other => panic!("{other:?}"),
    };
    // Its hashes are known already, so that all there is to do is to read its list.
    world.put(node, "a", 5);
    let first = world.send_file(node, &name, "a");
    world.run_for(SECOND);
    world.say(hostile, Message::Refuse { id: OfferId(first.0), reason: Reason::new("declined", "no") });
    world.run_for(SECOND);
    world.nodes[node.0].slowness.disk = SECOND;
    let id = world.send_file(node, &name, "a");
    let offered = |world: &World| {
        let is_it = |message: &&Message| matches!(message, Message::Offer(offer) if offer.id.0 == id.0);
        world.scripts[hostile.0].heard.iter().filter(is_it).count()
    };
    // Opening it takes a second, and reading its list another.
    for _ in 0..7 {
        world.say(hostile, Message::Done(OfferId(id.0)));
        world.run_for(SECOND / 4);
        assert_eq!(offered(&world), 0);
    }
    world.run_for(SECOND);
    assert_eq!(offered(&world), 1, "it was offered all the same: {world:?}");
    let sent = |event: &Event| matches!(event, Event::Sent { .. }).then_some(());
    assert!(world.events(node, sent).is_empty(), "{world:?}");
}

#[test]
fn a_seal_counts_as_memory_and_comes_only_after_acceptance() {
    let mut world = World::new(3);
    let limits = Limits { manifest_bytes: 32 * 5, ..Limits::default() };
    let node = world.secure_node_with(1, AcceptPolicy::None, limits);
    let sender = script(&mut world, node, 2, 1);
    let pages = 4;
    let size = pages * u64::from(ENTRIES_PER_PAGE) * CHUNK as u64;
    for id in [1, 2] {
        world.say(sender, offer(id, &id.to_string(), size, None));
    }
    world.run_for(SECOND);
    let head = Arc::new(sparse_head(size));
    let seal = |id| Message::Seal { id: OfferId(id), head: head.clone() };
    world.say(sender, seal(1));
    world.run_for(SECOND);
    assert_eq!(warnings(&world, node).len(), 1);
    world.run_command(node, Command::Accept(Selection::All)).unwrap();
    world.run_for(SECOND);
    world.say(sender, seal(1));
    world.say(sender, seal(2));
    world.run_for(SECOND);
    assert_eq!(world.failure_codes(node), [Code::Busy]);
    assert_eq!(world.transfers(node).len(), 1);
}

fn directory(id: u64, name: &str, list_bytes: u32) -> Message {
    let Message::Offer(offer) = offer(id, name, 1 << 30, None) else { unreachable!() };
    Message::Offer(ContentOffer { tree: Some(TreeInfo { list_bytes, files: 1 }), ..offer })
}

#[test]
fn lists_of_directories_cost_memory_only_when_they_are_accepted_and_then_no_more_than_there_is() {
    let mut world = World::new(31);
    let limits = Limits { manifest_bytes: 100 << 20, ..Limits::default() };
    let node = world.secure_node_with(1, AcceptPolicy::None, limits);
    let hostile = script(&mut world, node, 2, 1);
    for id in 1..=8 {
        world.say(hostile, directory(id, &id.to_string(), MAX_TREE_BYTES));
    }
    let honest = script(&mut world, node, 3, 1);
    world.say(honest, directory(1, "photos", 1000));
    world.run_for(SECOND);
    assert_eq!(world.transfers(node).len(), 9, "{world:?}");
    assert!(refusals(&world, honest).is_empty() && refusals(&world, hostile).is_empty());
    world.run_command(node, Command::Accept(Selection::All)).unwrap();
    world.run_for(SECOND);
    // One list of 32 MiB takes 64.
    assert_eq!(world.failure_codes(node), [Code::Busy; 7]);
    assert!(refusals(&world, hostile).iter().all(|(_, code, _)| code == "busy"));
    assert_eq!(pulled(&world, honest), [0], "the chunk with the list");
}

#[test]
fn a_file_that_was_accepted_does_not_come_back_as_a_directory() {
    let mut world = World::new(32);
    let node = world.secure_node(1, AcceptPolicy::None);
    let hostile = script(&mut world, node, 2, 1);
    world.say(hostile, offer(1, "notes.txt", 1 << 30, None));
    world.run_for(SECOND);
    world.run_command(node, Command::Accept(Selection::All)).unwrap();
    world.run_for(SECOND);
    world.end(hostile);
    world.run_for(SECOND);
    let again = script(&mut world, node, 2, 1);
    world.say(again, directory(1, "notes.txt", 1000));
    world.run_for(SECOND);
    assert!(pulled(&world, again).is_empty(), "nobody has accepted that");
    let offers = world.events(node, |event| matches!(event, Event::Offer { .. }).then_some(()));
    assert_eq!(offers.len(), 2, "{world:?}");
}

#[test]
fn what_a_peer_without_the_feature_says_of_a_directory_is_not_known() {
    let mut world = World::new(33);
    let node = world.secure_node(1, AcceptPolicy::All);
    let peer = script_with(&mut world, node, 2, 1, &["transfer"]);
    world.say(peer, directory(1, "photos", 1000));
    world.run_for(SECOND);
    assert!(pulled(&world, peer).len() > 1, "it is a file, of which all chunks may be asked for");
}

/// The head of a list that nobody has: every page is the same.
fn sparse_head(size: u64) -> ManifestHead {
    let chunks = size.div_ceil(CHUNK as u64);
    let pages = chunks.div_ceil(ENTRIES_PER_PAGE.into());
    let entry = entries_of(&[0])[0];
    assert_eq!(chunks, pages * u64::from(ENTRIES_PER_PAGE), "whole pages");
    head_of(size, file_hash(&[]), &vec![entry; usize::try_from(chunks).unwrap()])
}

#[test]
fn the_protocol_of_a_tebibyte_asks_for_little_at_a_time() {
    let mut world = World::new(4);
    let node = world.secure_node(1, AcceptPolicy::All);
    world.nodes[node.0].disk.free_bytes = 2 << 40;
    let sender = script(&mut world, node, 2, 1);
    let size = 1 << 40;
    let head = sparse_head(size);
    assert_eq!(head.pages(), 4096);
    world.say(sender, offer(1, "listed", size, Some(head)));
    world.say(sender, offer(2, "late", size / 2, None));
    world.run_for(SECOND);
    assert_eq!(pages_pulled(&world, sender), [0, 1], "pages in order, and few ahead");
    let entry = entries_of(&[0])[0].to_bytes();
    let page: Vec<u8> = entry.repeat(ENTRIES_PER_PAGE as usize);
    world.say(sender, Message::Page { id: OfferId(1), page: 1, entries: page.clone().into() });
    world.run_for(SECOND);
    assert_eq!(pages_pulled(&world, sender), [0, 1]);
    for _ in 0..2 {
        world.say(sender, Message::Page { id: OfferId(1), page: 0, entries: page.clone().into() });
    }
    world.run_for(SECOND);
    assert_eq!(pages_pulled(&world, sender), [0, 1], "the next is not needed yet");
    let asked: BTreeSet<_> = pulled(&world, sender).into_iter().collect();
    assert_eq!(asked.len(), 8, "the same of both: a window of each");
    assert_eq!(pulled(&world, sender).len(), 16);
    assert_eq!(world.failure_codes(node), []);
}

#[test]
fn refusals_tell_the_sender_why() {
    let limits = Limits { offers_per_peer: 1, ..Limits::default() };
    let sender_sees = |prepare: &dyn Fn(&mut World, NodeId), answer: &dyn Fn(&mut World, NodeId)| {
        let mut world = World::new(5);
        let a = world.secure_node(1, AcceptPolicy::All);
        let b = world.secure_node_with(2, AcceptPolicy::Ask, limits.clone());
        let b_name = world.connect(a, b);
        world.put(a, "a", 3 * CHUNK);
        world.put(a, "b", 3 * CHUNK);
        prepare(&mut world, b);
        world.send_file(a, &b_name, "a");
        world.run_for(SECOND);
        if world.failures(a).is_empty() {
            world.send_file(a, &b_name, "b");
            world.run_for(SECOND);
        }
        if world.failures(a).is_empty() {
            answer(&mut world, b);
            world.run_for(SECOND);
        }
        world.failures(a)[0].clone()
    };
    let nothing = |_: &mut World, _: NodeId| {};
    let (code, why) = sender_sees(
        &|world, b| {
            world.run_command(b, Command::StopAsking).unwrap();
        },
        &nothing,
    );
    assert_eq!(code, Code::Declined);
    assert!(why.contains("does not want it"), "{why}");
    let (code, why) = sender_sees(&|world, b| world.nodes[b.0].disk.free_bytes = 10, &nothing);
    assert_eq!(code, Code::NoSpace);
    assert!(why.contains("free space"), "{why}");
    let (code, why) = sender_sees(&nothing, &nothing);
    assert_eq!(code, Code::Busy, "the second of two where one may be open: {why}");

    let mut world = World::new(5);
    let (a, b) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::Ask));
    let b_name = world.connect(a, b);
    world.put(a, "a", 9);
    world.send_file(a, &b_name, "a");
    world.run_for(SECOND);
    world.run_command(b, Command::Reject(Selection::All)).unwrap();
    world.run_for(SECOND);
    assert_eq!(world.failure_codes(a), [Code::Declined]);
    assert_eq!(world.failure_codes(b), [], "who rejected it knows");

    let hostile = script(&mut world, b, 3, 1);
    let error = OfferError::Name(SafeName::new("../a").unwrap_err());
    world.say_bad_line(hostile, BadLine::ContentOffer { id: OfferId(7), error });
    world.run_for(SECOND);
    let refused = refusals(&world, hostile);
    assert!(
        matches!(refused.as_slice(), [(7, code, why)] if code == "bad_name" && !why.is_empty()),
        "{refused:?}"
    );
    world.say_bad_line(hostile, BadLine::ContentOffer { id: OfferId(8), error: OfferError::Size(u64::MAX) });
    world.run_for(SECOND);
    assert!(matches!(refusals(&world, hostile).as_slice(), [_, (8, code, _)] if code == "too_large"));

    // To a peer that did not name the feature it is an unknown type, which is ignored.
    let stranger = world.script_as(Some(Identity([4; 32])), b);
    let hello = Hello {
        version: 1,
        agent: "script".into(),
        node_id: None,
        instance: Instance(5),
        listen_port: 0,
        your_addr: None,
        features: Vec::new(),
    };
    world.say(stranger, Message::Hello(hello));
    world.say_bad_line(stranger, BadLine::ContentOffer { id: OfferId(8), error: OfferError::Size(u64::MAX) });
    world.run_for(SECOND);
    assert!(refusals(&world, stranger).is_empty());
}

#[test]
fn who_falls_silent_is_gone_within_half_a_minute_and_who_says_anything_is_not() {
    let mut world = World::new(6);
    world.pings = true;
    let node = world.secure_node(1, AcceptPolicy::All);
    let (silent, talker, answerer) =
        (script(&mut world, node, 2, 1), script(&mut world, node, 3, 1), script(&mut world, node, 4, 1));
    let mut answered = 0;
    for second in 1..100 {
        world.say(talker, Message::Unknown("NEWS".into()));
        if second == 1 {
            world.say(silent, Message::Unknown("LAST".into()));
        }
        world.run_for(SECOND);
        let heard = &world.scripts[answerer.0].heard;
        let pings: Vec<_> =
            heard.iter().filter_map(|m| if let Message::Ping(n) = m { Some(*n) } else { None }).collect();
        for ping in pings.into_iter().skip(answered) {
            world.say(answerer, Message::Pong(ping));
            answered += 1;
        }
        if second == 15 {
            assert!(!world.scripts[silent.0].closed);
        }
        if second == 31 {
            assert!(world.scripts[silent.0].closed, "it said its last 30 seconds ago");
        }
    }
    assert!(!world.scripts[talker.0].closed && !world.scripts[answerer.0].closed);
    assert!(answered > 3);
}

#[test]
fn ten_files_in_both_directions_arrive_and_a_text_does_not_wait_for_them() {
    let (mut world, a, b, b_name) = pair(7);
    world.cut(a);
    world.line = Line { latency: SECOND / 50, bytes_per_sec: 8 * CHUNK as u64 };
    world.run_for(SECOND);
    world.run_for(SECOND);
    let Ok(Reply::Connected { .. }) = world.run_command(a, Command::Connect(b_name.parse().unwrap())) else {
        panic!()
    };
    world.run_for(SECOND);
    let a_name = match world.run_command(b, Command::Peers) {
        Ok(Reply::Peers(peers)) => peers[0].peer.to_string(),
        other => panic!("{other:?}"),
    };
    for number in 0..10 {
        world.put(a, &format!("a{number}"), 9 * CHUNK);
        world.put(b, &format!("b{number}"), 9 * CHUNK);
        world.send_file(a, &b_name, &format!("a{number}"));
        world.send_file(b, &a_name, &format!("b{number}"));
    }
    world.run_for(2 * SECOND);
    let said_at = world.now;
    world.run_command(a, Command::SendText(b_name.parse().unwrap(), "hi".into())).unwrap();
    world.run_to_end();
    let heard_at =
        world.nodes[b.0].events.iter().find(|(_, event)| matches!(event, Event::Message { .. })).unwrap().0;
    assert!(heard_at - said_at < SECOND / 4, "a chunk takes an eighth: {:?}", heard_at - said_at);
    for node in [a, b] {
        assert_eq!(world.nodes[node.0].disk.downloads.len(), 10);
        assert_eq!(world.failure_codes(node), []);
    }
}

#[test]
fn a_connection_that_breaks_before_hello_is_dialled_again_and_not_for_ever() {
    let (mut world, a, b, b_name) = pair(8);
    world.cut(a);
    world.line = Line { latency: SECOND / 2, bytes_per_sec: 20 * CHUNK as u64 };
    world.run_for(5 * SECOND);
    let bytes = world.put(a, "a", 100 * CHUNK);
    world.send_file(a, &b_name, "a");
    world.run_for(3 * SECOND);
    let before = world.connections();
    world.cut(a);
    // Each dial is cut before its HELLO is there.
    for dialled in 1..4 {
        world.run_until(|world| world.connections() == before + dialled);
        world.cut(a);
    }
    world.run_to_end();
    assert_eq!(world.nodes[b.0].disk.downloads.get("a"), Some(&bytes));
    assert_eq!((world.failure_codes(a), world.failure_codes(b)), (vec![], vec![]));

    world.put(a, "b", 100 * CHUNK);
    world.send_file(a, &b_name, "b");
    world.run_for(3 * SECOND);
    let (before, broke_at) = (world.connections(), world.now);
    world.cut(a);
    while world.failure_codes(a).is_empty() {
        let connections = world.connections();
        world.run_until(|world| world.connections() > connections || !world.failure_codes(a).is_empty());
        world.cut(a);
    }
    assert_eq!(world.failure_codes(a), [Code::Disconnected]);
    let took = world.now - broke_at;
    assert!((119 * SECOND..125 * SECOND).contains(&took), "{took:?}");
    let dials = world.connections() - before;
    assert!((8..16).contains(&dials), "{dials} dials, each after a longer pause");
    assert_eq!(world.run_command(a, Command::Wait), Ok(Reply::Idle));
}

#[test]
fn a_peer_that_acknowledges_no_text_is_not_waited_for_for_ever() {
    let mut world = World::new(9);
    let node = world.secure_node(1, AcceptPolicy::All);
    let deaf = script(&mut world, node, 2, 1);
    world.run_command(node, Command::Broadcast("hi".into())).unwrap();
    assert_eq!(world.run_command(node, Command::Wait), Ok(Reply::Idle));
    let undelivered = world
        .events(node, |event| if let Event::Undelivered { texts, .. } = event { Some(*texts) } else { None });
    assert_eq!(undelivered, [1]);
    assert!(world.now > 299 * SECOND && !world.scripts[deaf.0].closed);
}

#[test]
fn a_false_list_from_one_of_two_senders_delivers_nothing_wrong() {
    let mut world = World::new(41);
    let (a, b) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    let bytes = world.put(a, "a", 4 * CHUNK);
    // Another file's chunks, listed as if they made up this one.
    let false_bytes = [&bytes[..CHUNK], &world.rng.bytes(3 * CHUNK)].concat();
    let entries = entries_of(&false_bytes);
    let head = Arc::new(head_of(bytes.len() as u64, file_hash(&bytes), &entries));
    let page = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    let liar = script(&mut world, b, 3, 1);
    let name = SafeName::new("a").unwrap();
    let size = bytes.len() as u64;
    world.say(
        liar,
        Message::Offer(ContentOffer {
            id: OfferId(1),
            answers: None,
            is_partial: false,
            is_known_only: false,
            name,
            size,
            tree: None,
            head: Some(head),
            page,
        }),
    );
    world.run_for(SECOND);
    for index in 0..4 {
        world.say(liar, data(1, &false_bytes, index, false));
    }
    world.run_for(SECOND);
    assert!(world.nodes[b.0].disk.downloads.is_empty(), "its last chunk does not reach the hash");
    assert_eq!(world.nodes[b.0].disk.bytes_stored, 3 * CHUNK as u64);
    world.run_for(300 * SECOND);
    let b_name = world.connect(a, b);
    world.send_file(a, &b_name, "a");
    world.run_to_end();
    let found = &world.nodes[b.0].disk.downloads;
    assert_eq!(found.values().collect::<Vec<_>>(), [&bytes], "{world:?}");
}
