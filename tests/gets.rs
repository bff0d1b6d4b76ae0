//! Searches that strangers disturb, and those that are answered late, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use peer_to_peer::engine::{AcceptPolicy, Code, Event, Limits};
use peer_to_peer::wire::{CHUNK_SIZE, ContentOffer, Entry, Message, NodeId as Identity, OfferId, TreeInfo};
use world::disk_model::{entries_of, file_hash};
use world::swarm::{CHUNK, answer, ask_for, asked, bare, is_offered, offer_of, serve, swarm_script};
use world::{NodeId, SECOND, ScriptId, World};

/// A node that searches, one that has the file, and what it is.
fn pair(seed: u64) -> (World, NodeId, NodeId, Vec<u8>) {
    let mut world = World::new(seed);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let honest = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(honest, "file", 12 * CHUNK);
    world.share(honest, "file");
    (world, getter, honest, bytes)
}

fn lists(bytes: &[u8]) -> Vec<Entry> {
    entries_of(bytes)
}

/// Another list for the same, of whose chunks one would show that it is false.
fn false_list(bytes: &[u8], n: u8) -> Vec<Entry> {
    let mut entries = entries_of(bytes);
    entries[1].state.0[0] ^= n + 1;
    entries
}

/// Says that there is no room to answer what was asked.
fn say_busy(world: &mut World, script: ScriptId) {
    let id = asked(world, script).unwrap();
    world.say(script, Message::Lack { id, code: "busy".into() });
    world.run_for(SECOND / 10);
}

#[test]
fn who_has_another_list_and_delivers_nothing_keeps_the_true_one_out_for_a_while_at_most() {
    let (mut world, getter, honest, bytes) = pair(1);
    let liar = swarm_script(&mut world, getter, 66);
    world.line.latency = SECOND / 2;
    world.connect(getter, honest);
    world.run_for(2 * SECOND);
    world.get(getter, &bare(&bytes)).unwrap();
    let mut heard = None;
    // Always the first to answer, it says that it has some of it, and never which.
    while !world.has_got(getter) && world.failures(getter).is_empty() {
        if asked(&world, liar) > heard {
            heard = asked(&world, liar);
            answer(&mut world, liar, file_hash(&bytes), bytes.len(), &false_list(&bytes, 0), true);
        }
        assert!(world.now < 400 * SECOND, "{world:?}");
        world.run_for(SECOND / 100);
    }
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
}

#[test]
fn who_offers_one_false_directory_after_the_other_is_not_asked_any_more() {
    let (mut world, getter, honest, bytes) = pair(2);
    let liar = swarm_script(&mut world, getter, 66);
    let tree = |files| TreeInfo { list_bytes: CHUNK_SIZE, files };
    world.nodes[getter.0].disk.false_trees.extend((0..100).map(tree));
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    let mut answered = 0;
    let mut heard = None;
    let mut pulled = 0;
    while !world.has_got(getter) && world.failures(getter).is_empty() {
        if asked(&world, liar) > heard {
            heard = asked(&world, liar);
            let offer = offer_of(&world, liar, file_hash(&bytes), bytes.len(), &lists(&bytes), true);
            let id = OfferId(u64::from(answered) + 1);
            world.say(liar, Message::Offer(ContentOffer { id, tree: Some(tree(answered)), ..offer }));
            world.run_for(SECOND / 100);
            world.say(liar, Message::Have { id, chunks: vec![(0, 1)] });
            answered += 1;
            if answered == 1 {
                world.line.latency = SECOND / 2;
                world.connect(getter, honest);
            }
        }
        let pulls: Vec<_> = world.scripts[liar.0].heard[pulled..].to_vec();
        pulled += pulls.len();
        for message in pulls {
            if let Message::Pull { id, first: 0, .. } = message {
                let data = peer_to_peer::wire::ChunkData(bytes[..CHUNK].to_vec().into());
                world.say(liar, Message::Data { id, index: 0, data, entry: None });
            }
        }
        assert!(world.now < 100 * SECOND, "{world:?}");
        world.run_for(SECOND / 100);
    }
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(answered <= 3, "{answered}");
}

#[test]
fn who_is_closed_because_it_reads_nothing_does_no_harm_to_a_search_that_is_just_beginning() {
    let mut world = World::new(3);
    let limits = Limits { control_bytes_queued: 300, ..Limits::default() };
    let getter = world.secure_node_with(100, AcceptPolicy::Ask, limits);
    let deaf = swarm_script(&mut world, getter, 66);
    world.scripts[deaf.0].deaf = true;
    for hash in [b"one", b"two"] {
        ask_for(&mut world, deaf, file_hash(hash));
    }
    assert!(!world.scripts[deaf.0].closed);
    world.get(getter, &bare(b"anything")).unwrap();
    let gone = |event: &Event| matches!(event, Event::PeerDisconnected { .. }).then_some(());
    assert_eq!(world.events(getter, gone).len(), 1);
    world.run_for(5 * SECOND);
    assert_eq!(world.failure_codes(getter), [Code::NotFound]);
}

#[test]
fn who_connects_anew_is_asked_anew() {
    let mut world = World::new(4);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let bytes = world.rng.bytes(3 * CHUNK);
    let old = swarm_script(&mut world, getter, 66);
    world.run_for(5 * SECOND);
    let other = swarm_script(&mut world, getter, 67);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    let id = asked(&world, other).unwrap();
    world.say(other, Message::Lack { id, code: "not_found".into() });
    // All that was asked is gone before it is there again.
    world.end(old);
    world.run_for(SECOND / 10);
    let new = swarm_script(&mut world, getter, 66);
    answer(&mut world, new, file_hash(&bytes), bytes.len(), &lists(&bytes), false);
    serve(&mut world, new, getter, &bytes);
    assert!(world.has_got(getter), "{world:?}");
}

#[test]
fn that_it_is_for_trusted_peers_only_counts_from_who_is_fetched_from() {
    let (mut world, getter, honest, bytes) = pair(5);
    let liar = swarm_script(&mut world, getter, 66);
    world.line.bytes_per_sec = 200_000;
    world.connect(getter, honest);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(2 * SECOND);
    let offer = offer_of(&world, liar, file_hash(&bytes), bytes.len(), &false_list(&bytes, 0), false);
    world.say(liar, Message::Offer(ContentOffer { is_known_only: true, ..offer }));
    world.run_for(SECOND / 10);
    let stranger = swarm_script(&mut world, getter, 67);
    ask_for(&mut world, stranger, file_hash(&bytes));
    assert!(is_offered(&world, stranger) && !world.has_got(getter));
}

#[test]
fn who_has_no_room_to_answer_is_asked_again_after_a_moment() {
    let mut world = World::new(6);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let bytes = world.rng.bytes(3 * CHUNK);
    let busy = swarm_script(&mut world, getter, 66);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    for _ in 0..3 {
        let before = asked(&world, busy);
        say_busy(&mut world, busy);
        world.run_for(3 * SECOND);
        assert_eq!(asked(&world, busy), before, "it has a moment");
        world.run_for(4 * SECOND);
        assert!(asked(&world, busy) > before);
    }
    answer(&mut world, busy, file_hash(&bytes), bytes.len(), &lists(&bytes), false);
    serve(&mut world, busy, getter, &bytes);
    assert!(world.has_got(getter), "{world:?}");
}

#[test]
fn that_nobody_has_room_to_answer_is_what_a_search_ends_with() {
    let mut world = World::new(7);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let busy = swarm_script(&mut world, getter, 66);
    world.get(getter, &bare(b"anything")).unwrap();
    world.run_for(SECOND / 10);
    let mut heard = None;
    while world.failures(getter).is_empty() {
        if asked(&world, busy) > heard {
            heard = asked(&world, busy);
            say_busy(&mut world, busy);
        }
        assert!(world.now < 100 * SECOND, "{world:?}");
        world.run_for(SECOND / 10);
    }
    assert_eq!(world.failures(getter)[0].0, Code::Busy);
    assert!(world.now > 50 * SECOND);
}

#[test]
fn who_says_that_it_is_larger_than_the_disk_ends_no_search_while_others_are_being_dialled() {
    let (mut world, getter, honest, bytes) = pair(8);
    world.nodes[getter.0].disk.free_bytes = 10_000_000;
    let liar = swarm_script(&mut world, getter, 66);
    let mut link = bare(&bytes);
    world.line.latency = SECOND;
    link.from.push(world::addr_of(honest).to_string());
    world.get(getter, &link).unwrap();
    world.run_for(SECOND / 10);
    let large = world.rng.bytes(100 * CHUNK);
    answer(&mut world, liar, file_hash(&bytes), large.len(), &lists(&large), false);
    world.run_until(|world| world.has_got(getter) || !world.failures(getter).is_empty());
    assert_eq!(
        world.nodes[getter.0].disk.downloads.get("file"),
        Some(&bytes),
        "{:?}",
        world.failures(getter)
    );
}

#[test]
fn strangers_who_never_answer_do_not_keep_a_search_going() {
    let mut world = World::new(9);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    swarm_script(&mut world, getter, 1);
    world.get(getter, &bare(b"anything")).unwrap();
    let mut who = 1;
    while world.failures(getter).is_empty() {
        assert!(world.now < 400 * SECOND, "{world:?}");
        who += 1;
        swarm_script(&mut world, getter, who);
        world.run_for(9 * SECOND);
    }
    assert_eq!(world.failures(getter)[0].0, Code::NotFound);
}

#[test]
fn who_connects_twice_in_a_get_is_one_source_of_it() {
    let (mut world, getter, honest, bytes) = pair(10);
    world.line.bytes_per_sec = 1_000_000;
    world.connect(honest, getter);
    world.run_for(SECOND / 10);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND);
    world.cut(getter);
    world.run_until(|world| world.has_got(getter));
    let sources = world.sources(getter).unwrap();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert_eq!(sources[0].node_id, Some(Identity([1; 32])));
}

#[test]
fn a_line_on_which_one_chunk_takes_a_minute_is_no_reason_to_give_up_its_only_source() {
    let mut world = World::new(11);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let honest = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(honest, "file", 2 * CHUNK);
    world.share(honest, "file");
    world.line.bytes_per_sec = 4000;
    world.connect(getter, honest);
    world.run_for(2 * SECOND);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter) || !world.failures(getter).is_empty());
    assert_eq!(world.failures(getter), []);
    let stored = world.nodes[getter.0].disk.bytes_stored;
    assert_eq!(stored, bytes.len() as u64, "and nothing came twice");
}

#[test]
fn who_delivers_slower_and_slower_does_not_hold_up_the_end() {
    let (mut world, getter, honest, bytes) = pair(12);
    let slow: Vec<_> = (66..71).map(|who| swarm_script(&mut world, getter, who)).collect();
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    for script in &slow {
        answer(&mut world, *script, file_hash(&bytes), bytes.len(), &lists(&bytes), false);
    }
    let mut given = vec![0; slow.len()];
    let begun = world.now;
    while !world.has_got(getter) && world.now < begun + 200 * SECOND {
        // Each sends one chunk after twenty seconds, and no more.
        if world.now >= begun + 20 * SECOND {
            for (script, given) in slow.iter().zip(&mut given) {
                let pull = world.scripts[script.0].heard.iter().find_map(|message| match message {
                    Message::Pull { id, first, .. } => Some((*id, *first)),
                    _ => None,
                });
                if let Some((id, index)) = pull.filter(|_| *given == 0) {
                    let chunk = bytes.chunks(CHUNK).nth(index as usize).unwrap().to_vec();
                    let data = peer_to_peer::wire::ChunkData(chunk.into());
                    world.say(*script, Message::Data { id, index, data, entry: None });
                    *given += 1;
                }
            }
            if world.connections() < 7 {
                world.connect(getter, honest);
            }
        }
        world.run_for(SECOND);
    }
    assert!(world.has_got(getter), "{world:?}");
}

#[test]
fn who_tells_mostly_what_it_told_before_is_refused() {
    let mut world = World::new(13);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let bytes = world.rng.bytes(40 * CHUNK);
    let teller = swarm_script(&mut world, getter, 66);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    answer(&mut world, teller, file_hash(&bytes), bytes.len(), &lists(&bytes), true);
    let refused = |world: &World| {
        let warned = |event: &Event| matches!(event, Event::Warning { .. }).then_some(());
        world.events(getter, warned).len()
    };
    for (count, refusals) in [(10, 0), (11, 1), (12, 2), (40, 2)] {
        world.say(teller, Message::Have { id: OfferId(1), chunks: vec![(0, count)] });
        world.run_for(SECOND / 10);
        assert_eq!(refused(&world), refusals, "{count}");
    }
}

#[test]
fn who_asks_once_more_is_answered_once_more() {
    let (mut world, _, honest, bytes) = pair(14);
    let asker = swarm_script(&mut world, honest, 66);
    ask_for(&mut world, asker, file_hash(&bytes));
    ask_for(&mut world, asker, file_hash(&bytes));
    world.run_for(SECOND);
    let heard = &world.scripts[asker.0].heard;
    let offers = heard.iter().filter(|message| matches!(message, Message::Offer(_))).count();
    let withdrawn = heard.iter().filter(|message| matches!(message, Message::Withdraw { .. })).count();
    assert_eq!((offers, withdrawn), (2, 1), "{heard:?}");
    assert_eq!(world.events(honest, |event| matches!(event, Event::Warning { .. }).then_some(())), []);
}

#[test]
fn who_takes_nothing_of_what_it_asked_about_gives_way() {
    let mut world = World::new(15);
    let limits = Limits { peers: 5, ..Limits::default() };
    let honest = world.secure_node_with(1, AcceptPolicy::Ask, limits);
    let bytes = world.put(honest, "file", 3 * CHUNK);
    world.share(honest, "file");
    for who in 66..71 {
        let holder = swarm_script(&mut world, honest, who);
        ask_for(&mut world, holder, file_hash(&bytes));
        world.run_for(SECOND / 10);
        let id = world.scripts[holder.0].heard.iter().find_map(|message| match message {
            Message::Offer(offer) => Some(offer.id),
            _ => None,
        });
        world.say(holder, Message::Accept { id: id.unwrap(), kept: None, wants_list: false });
        world.run_for(SECOND / 10);
    }
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let connect = peer_to_peer::engine::Command::Connect(world::addr_of(honest).to_string().parse().unwrap());
    world.run_command(getter, connect).unwrap();
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
}

#[test]
fn of_what_is_here_nothing_is_told_before_the_offer() {
    let (mut world, getter, honest, bytes) = pair(16);
    world.line.bytes_per_sec = 400_000;
    world.connect(getter, honest);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(4 * SECOND);
    let asker = swarm_script(&mut world, getter, 66);
    world.nodes[getter.0].slowness.disk = 2 * SECOND;
    ask_for(&mut world, asker, file_hash(&bytes));
    world.run_until(|world| world.has_got(getter));
    world.run_for(10 * SECOND);
    let heard = &world.scripts[asker.0].heard;
    let first = heard.iter().find(|m| matches!(m, Message::Offer(_) | Message::Have { .. }));
    assert!(matches!(first, Some(Message::Offer(_))), "{heard:?}");
    let told: u32 = heard
        .iter()
        .map(|message| match message {
            Message::Have { chunks, .. } => chunks.iter().map(|(_, count)| count).sum(),
            _ => 0,
        })
        .sum();
    assert_eq!(told, 12);
}
