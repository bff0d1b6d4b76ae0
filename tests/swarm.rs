//! Contents that are fetched by their hash from all who have them, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{AcceptPolicy, Change, Code, Command, Direction, Event, Limits, Reply};
use peer_to_peer::wire::{AskId, AskProof, CHUNK_SIZE, FileHash, Link, Message, NodeId as Identity, Side};
use world::disk_model::{entries_of, file_hash};
use world::swarm::{CHUNK, answer, asked, bare, is_banned, seeded, seeded_over, serve, swarm_script};
use world::{Line, NodeId, SECOND, World};

#[test]
fn whoever_knows_the_hash_fetches_the_file() {
    let (mut world, _, getter, bytes) = seeded(1, 1, 5 * CHUNK + 7);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    let sources = world.sources(getter).unwrap();
    assert_eq!((sources.len(), sources[0].bytes), (1, bytes.len() as u64));
    world.run_to_end();
    assert!(world.nodes.iter().all(|node| node.disk.is_clean()), "{world:?}");
}

#[test]
fn several_who_have_it_deliver_at_the_same_time() {
    let (mut world, _, getter, bytes) = seeded(2, 3, 60 * CHUNK);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    let sources = world.sources(getter).unwrap();
    assert_eq!(sources.len(), 3, "{sources:?}");
    assert_eq!(sources.iter().map(|source| source.bytes).sum::<u64>(), bytes.len() as u64);
    assert!(sources.iter().all(|source| source.bytes > 10 * u64::from(CHUNK_SIZE)), "{sources:?}");
}

#[test]
fn a_transfer_tells_while_it_runs_which_part_of_it_came_from_whom() {
    let size = 200 * CHUNK;
    let mut world = World::new(6);
    world.line = Line { latency: Duration::from_millis(20), bytes_per_sec: 10_000_000 };
    let bytes = world.rng.bytes(size);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    for n in 1..=3 {
        let node = world.secure_node(n, AcceptPolicy::Ask);
        world.nodes[node.0].disk.files.insert("file".into(), bytes.clone());
        world.share(node, "file");
        world.connect(getter, node);
    }
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND);
    let [info] = world.transfers(getter).try_into().unwrap();
    let delivered: Vec<_> = info.sources.iter().map(|source| source.bytes).collect();
    assert_eq!(delivered.len(), 3, "{delivered:?}");
    assert_eq!(delivered.iter().sum::<u64>(), info.bytes, "all of it came from somebody");
    assert!(0 < info.bytes && info.bytes < size as u64, "{}", info.bytes);
    assert_eq!(info.cells.len(), 96);
    let percent = info.cells.iter().map(|cell| u64::from(cell.percent)).sum::<u64>() / 96;
    assert!(percent.abs_diff(info.bytes * 100 / size as u64) <= 2, "{percent}");
    for cell in &info.cells {
        assert_eq!(cell.source.is_some(), cell.percent > 0, "{cell:?}");
        assert!(cell.source.is_none_or(|source| usize::from(source) < 3), "{cell:?}");
    }
    for number in 0..3 {
        assert!(info.cells.iter().any(|cell| cell.source == Some(number)), "each has parts of its own");
    }
    world.run_to_end();
    assert!(world.has_got(getter));
}

#[test]
fn what_nobody_has_is_said_at_once() {
    let (mut world, _, getter, _) = seeded(3, 2, CHUNK);
    world.get(getter, &Link::bare(FileHash([7; 32]))).unwrap();
    world.run_for(SECOND);
    let [(code, reason)] = world.failures(getter).try_into().unwrap();
    assert_eq!(code, Code::NotFound);
    assert!(reason.contains("none of the 2 peers"), "{reason}");
}

#[test]
fn a_link_leads_to_whom_nobody_was_connected_to() {
    let mut world = World::new(4);
    let (seeder, getter) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    let bytes = world.put(seeder, "file", 3 * CHUNK);
    let link = world.share(seeder, "file");
    world.get(getter, &link).unwrap();
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(world.nodes[getter.0].book.pins.is_empty(), "only what a person typed is pinned");
}

#[test]
fn three_who_give_ten_megabytes_a_second_each_fill_a_line_of_thirty() {
    let size = 240 * CHUNK;
    let mut world = World::new(5);
    world.line = Line { latency: Duration::from_millis(20), bytes_per_sec: 10_000_000 };
    let bytes = world.rng.bytes(size);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    for n in 1..=3 {
        let node = world.secure_node(n, AcceptPolicy::Ask);
        world.nodes[node.0].disk.files.insert("file".into(), bytes.clone());
        world.share(node, "file");
        world.connect(getter, node);
    }
    let begun = world.now;
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
    let rate = size as f64 / (world.now - begun).as_secs_f64();
    assert!(rate >= 28e6, "{rate} B/s, {:?}", world.sources(getter));
}

#[test]
fn who_fetches_serves_what_it_has_and_all_find_each_other_through_the_only_seeder() {
    let mut world = World::new(6);
    let seeder = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(seeder, "file", 40 * CHUNK);
    let link = world.share(seeder, "file");
    let getters: Vec<_> = (2..7).map(|n| world.secure_node(n, AcceptPolicy::Ask)).collect();
    for getter in &getters {
        world.get(*getter, &link).unwrap();
    }
    world.run_until(|world| getters.iter().all(|getter| world.has_got(*getter)));
    for getter in &getters {
        assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
        assert!(world.sources(*getter).unwrap().len() > 1, "{:?}", world.sources(*getter));
    }
}

#[test]
fn what_is_not_shared_any_longer_is_not_waited_for_for_ever() {
    let limits = Limits { starved: Duration::from_secs(20), ..Limits::default() };
    let mut world = World::new(7);
    let seeder = world.secure_node(1, AcceptPolicy::Ask);
    let getter = world.secure_node_with(2, AcceptPolicy::Ask, limits);
    let bytes = world.put(seeder, "file", 400 * CHUNK);
    world.share(seeder, "file");
    world.connect(getter, seeder);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 4);
    world.run_command(seeder, Command::Unshare(file_hash(&bytes).to_string())).unwrap();
    world.run_for(60 * SECOND);
    let [(code, reason)] = world.failures(getter).try_into().unwrap();
    assert_eq!(code, Code::Stalled, "{reason}");
    assert!(reason.contains("kept"), "{reason}");
}

/// Lets a node get what is said and answers how many bytes a second that were.
fn rate_of_get(world: &mut World, getter: NodeId, bytes: &[u8]) -> f64 {
    let begun = world.now;
    world.get(getter, &bare(bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
    bytes.len() as f64 / (world.now - begun).as_secs_f64()
}

#[test]
fn limits_hold_to_five_percent_in_both_directions_and_for_one_peer() {
    let limit = |world: &mut World, node, direction, peer: Option<String>| {
        let command = Command::Limit {
            direction,
            rate: Some("5MB/s".parse().unwrap()),
            peer: peer.map(|peer| peer.parse().unwrap()),
        };
        world.run_command(node, command).unwrap();
    };
    for (direction, for_peer) in
        [(Direction::Out, false), (Direction::In, false), (Direction::Out, true), (Direction::In, true)]
    {
        let (mut world, seeders, getter, bytes) = seeded(8, 1, 200 * CHUNK);
        let node = if direction == Direction::Out { seeders[0] } else { getter };
        let peer = for_peer.then(|| match world.run_command(node, Command::Peers).unwrap() {
            Reply::Peers(peers) => peers[0].peer.to_string(),
            other => panic!("{other:?}"),
        });
        limit(&mut world, node, direction, peer);
        let rate = rate_of_get(&mut world, getter, &bytes);
        assert!((4.75e6..5.25e6).contains(&rate), "{direction:?}, {for_peer}: {rate}");
    }
}

#[test]
fn whoever_is_limited_serves_all_alike_and_says_messages_at_once() {
    let mut world = World::new(9);
    let limits = Limits { up: Some("10MB/s".parse().unwrap()), ..Limits::default() };
    let seeder = world.secure_node_with(1, AcceptPolicy::Ask, limits);
    let bytes = world.put(seeder, "file", 100 * CHUNK);
    let getters: Vec<_> = (2..6)
        .map(|n| {
            let getter = world.secure_node(n, AcceptPolicy::All);
            world.connect(getter, seeder);
            getter
        })
        .collect();
    world.run_for(SECOND);
    let peers = match world.run_command(seeder, Command::Peers).unwrap() {
        Reply::Peers(peers) => peers,
        other => panic!("{other:?}"),
    };
    for peer in &peers {
        world.send_file(seeder, &peer.peer.to_string(), "file");
    }
    world.run_for(5 * SECOND);
    let said = world.now;
    world
        .run_command(seeder, Command::SendText(peers[0].peer.to_string().parse().unwrap(), "hi".into()))
        .unwrap();
    let heard = |event: &Event| matches!(event, Event::Message { .. }).then_some(());
    world.run_until(|world| !world.events(getters[0], heard).is_empty());
    assert!(world.now - said < SECOND / 10, "{:?}", world.now - said);
    let stored: Vec<_> = getters.iter().map(|getter| world.nodes[getter.0].disk.bytes_stored).collect();
    let (least, most) = (stored.iter().min().unwrap(), stored.iter().max().unwrap());
    assert!(most - least <= 4 * u64::from(CHUNK_SIZE), "{stored:?}");
    let total: u64 = stored.iter().sum();
    assert!((45_000_000..53_000_000).contains(&total), "{total}");
    assert_eq!(bytes.len(), 100 * CHUNK);
}

#[test]
fn five_who_know_only_the_seeder_take_little_longer_than_one() {
    let limits = Limits { up: Some("20MB/s".parse().unwrap()), ..Limits::default() };
    let size = 400 * CHUNK;
    let time = |getters: u8| {
        let mut world = World::new(10);
        let seeder = world.secure_node_with(1, AcceptPolicy::Ask, limits.clone());
        world.put(seeder, "file", size);
        let link = world.share(seeder, "file");
        let getters: Vec<_> =
            (0..getters).map(|n| world.secure_node_with(n + 2, AcceptPolicy::Ask, limits.clone())).collect();
        let begun = world.now;
        for getter in &getters {
            world.get(*getter, &link).unwrap();
        }
        world.run_until(|world| getters.iter().all(|getter| world.has_got(*getter)));
        (world.now - begun).as_secs_f64()
    };
    let (one, five) = (time(1), time(5));
    assert!(five <= 1.5 * one, "one {one} s, five {five} s");
}

#[test]
fn who_sends_a_wrong_chunk_is_banned_and_the_file_is_right() {
    let (mut world, seeders, getter, bytes) = seeded_over(5_000_000, 11, 2, 40 * CHUNK);
    let poisoner = swarm_script(&mut world, getter, 66);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 1000);
    let entries = entries_of(&bytes);
    while asked(&world, poisoner).is_none() {
        world.run_for(SECOND / 1000);
    }
    answer(&mut world, poisoner, file_hash(&bytes), bytes.len(), &entries, false);
    let wrong = vec![6; bytes.len()];
    serve(&mut world, poisoner, getter, &wrong);
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(is_banned(&world, getter, 66), "{world:?}");
    assert!(!is_banned(&world, getter, 1) && !is_banned(&world, getter, 2), "{seeders:?}");
    let bad: u32 = world.sources(getter).unwrap().iter().map(|source| source.bad_chunks).sum();
    assert_eq!(bad, 1, "one is enough");
    // Banned, it does not come in again, and the next ban is longer.
    let again = swarm_script(&mut world, getter, 66);
    assert!(world.scripts[again.0].closed);
}

#[test]
fn whoever_falls_silent_is_not_waited_for() {
    let (mut world, _, getter, bytes) = seeded_over(5_000_000, 13, 1, 40 * CHUNK);
    let silent = swarm_script(&mut world, getter, 66);
    world.get(getter, &bare(&bytes)).unwrap();
    while asked(&world, silent).is_none() {
        world.run_for(SECOND / 1000);
    }
    let begun = world.now;
    answer(&mut world, silent, file_hash(&bytes), bytes.len(), &entries_of(&bytes), false);
    world.run_until(|world| world.has_got(getter));
    assert!(world.now - begun < 10 * SECOND, "{:?}", world.now - begun);
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(!is_banned(&world, getter, 66), "slow is not bad");
}

#[test]
fn sources_that_leave_and_come_change_nothing_but_the_time() {
    for seed in 20..30 {
        let (mut world, seeders, getter, bytes) = seeded(seed, 3, 60 * CHUNK);
        world.get(getter, &bare(&bytes)).unwrap();
        for _ in 0..4 {
            let wait = Duration::from_millis(5 + world.rng.below(60));
            world.run_for(wait);
            let one = usize::try_from(world.rng.below(3)).unwrap();
            world.cut(seeders[one]);
        }
        world.run_until(|world| world.has_got(getter));
        assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes, "seed {seed}");
    }
}

#[test]
fn a_get_goes_on_from_what_an_earlier_one_left() {
    let (mut world, _, getter, bytes) = seeded(14, 1, 100 * CHUNK);
    world.line = Line { latency: Duration::from_millis(5), bytes_per_sec: 20_000_000 };
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.nodes[getter.0].disk.bytes_stored > 40 * u64::from(CHUNK_SIZE));
    world.restart(getter, false);
    let before = world.nodes[getter.0].disk.bytes_stored;
    world.connect(getter, NodeId(0));
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
    let after = world.nodes[getter.0].disk.bytes_stored;
    assert_eq!(after, bytes.len() as u64, "nothing was stored twice: {before}");
}

#[test]
fn who_does_not_know_the_hash_learns_nothing_and_known_shares_are_for_the_trusted() {
    let mut world = World::new(15);
    let seeder = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(seeder, "secret", 3 * CHUNK);
    let command = Command::Share { path: "secret".into(), known_only: true, is_kept: true };
    let Ok(Reply::Shared(share)) = world.run_command(seeder, command) else { panic!() };
    assert!(share.link.known_only);
    let script = swarm_script(&mut world, seeder, 66);
    let binding = world.binding_of(script);
    let ask = |world: &mut World, id: u64, proof| {
        world.say(script, Message::Ask { id: AskId(id), proof });
        world.run_for(SECOND / 10);
        world.scripts[script.0].heard.last().unwrap().clone()
    };
    let right = AskProof::new(binding, Side::Dialler, file_hash(&bytes));
    let not_known = ask(&mut world, 1, right);
    let nothing = ask(&mut world, 2, AskProof::new(binding, Side::Dialler, FileHash([1; 32])));
    let stolen = ask(&mut world, 3, AskProof::new(binding, Side::Listener, file_hash(&bytes)));
    for (answer, id) in [(not_known, 1), (nothing, 2), (stolen, 3)] {
        assert_eq!(answer, Message::Lack { id: AskId(id), code: "not_found".into() });
    }
    world.note(seeder, &Change::Trust(Identity([66; 32])));
    assert!(matches!(ask(&mut world, 4, right), Message::Offer(offer) if offer.answers == Some(AskId(4))));
}

#[test]
fn what_changed_since_it_was_shared_is_not_served() {
    let (mut world, seeders, getter, bytes) = seeded(16, 1, 3 * CHUNK);
    let other = world.rng.bytes(3 * CHUNK);
    world.nodes[seeders[0].0].disk.files.insert("file".into(), other);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(5 * SECOND);
    assert_eq!(world.failure_codes(getter), [Code::NotFound]);
    let warned = |event: &Event| match event {
        Event::Warning { text, .. } if text.contains("has changed since") => Some(()),
        _ => None,
    };
    assert_eq!(world.events(seeders[0], warned).len(), 1);
}

#[test]
fn shares_survive_a_restart_until_they_are_taken_back() {
    let (mut world, seeders, getter, bytes) = seeded(17, 1, 3 * CHUNK);
    world.restart(seeders[0], false);
    world.connect(getter, seeders[0]);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
    world.run_command(seeders[0], Command::Unshare("file".into())).unwrap();
    assert!(world.nodes[seeders[0].0].shares.is_empty());
}

#[test]
fn what_was_fetched_by_a_known_link_is_not_given_to_strangers() {
    let mut world = World::new(18);
    let (seeder, getter) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    let bytes = world.put(seeder, "secret", 3 * CHUNK);
    let command = Command::Share { path: "secret".into(), known_only: true, is_kept: true };
    let Ok(Reply::Shared(share)) = world.run_command(seeder, command) else { panic!() };
    world.note(seeder, &Change::Trust(Identity([2; 32])));
    let stranger = swarm_script(&mut world, getter, 66);
    let proof = AskProof::new(world.binding_of(stranger), Side::Dialler, file_hash(&bytes));
    let ask = |world: &mut World, id: u64| {
        world.say(stranger, Message::Ask { id: AskId(id), proof });
        world.run_for(SECOND / 10);
        world.scripts[stranger.0].heard.last().unwrap().clone()
    };
    world.get(getter, &share.link).unwrap();
    assert_eq!(ask(&mut world, 1), Message::Lack { id: AskId(1), code: "not_found".into() });
    world.run_until(|world| world.has_got(getter));
    assert_eq!(ask(&mut world, 2), Message::Lack { id: AskId(2), code: "not_found".into() });
}

#[test]
fn who_has_got_it_goes_on_serving_those_who_fetch_from_it() {
    let mut world = World::new(32);
    let (seeder, first) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    // It dials nobody that it is told of.
    let limits = Limits { found_dials: 0, ..Limits::default() };
    let last = world.secure_node_with(3, AcceptPolicy::Ask, limits);
    let bytes = world.put(seeder, "file", 80 * CHUNK);
    world.share(seeder, "file");
    world.connect(first, seeder);
    world.line.bytes_per_sec = 2_000_000;
    world.connect(last, first);
    world.get(first, &bare(&bytes)).unwrap();
    world.get(last, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(first));
    assert!(!world.has_got(last));
    world.run_until(|world| world.has_got(last));
    let from: Vec<_> = world.sources(last).unwrap().iter().map(|source| source.bytes).collect();
    assert_eq!(from, [bytes.len() as u64]);
}

#[test]
fn whoever_was_found_is_waited_for_until_it_has_introduced_itself() {
    let mut world = World::new(44);
    world.line.latency = 3 * SECOND;
    let (seeder, getter) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    let bytes = world.put(seeder, "file", 3 * CHUNK);
    let link = world.share(seeder, "file");
    world.get(getter, &link).unwrap();
    world.run_until(|world| world.has_got(getter) || !world.failures(getter).is_empty());
    assert_eq!(
        world.nodes[getter.0].disk.downloads.get("file"),
        Some(&bytes),
        "{:?}",
        world.failures(getter)
    );
}
