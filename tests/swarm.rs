//! Contents that are fetched by their hash from all who have them, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{
    AcceptPolicy, Code, Command, Delivery, Direction, Event, Failure, Limits, Reply, TransferId,
};
use peer_to_peer::wire::{CHUNK_SIZE, FileHash, Link};
use world::disk_model::file_hash;
use world::{Line, NodeId, SECOND, World};

const CHUNK: usize = CHUNK_SIZE as usize;

impl World {
    fn share(&mut self, node: NodeId, path: &str) -> Link {
        let command = Command::Share { path: path.into(), known_only: false, is_kept: true };
        match self.run_command(node, command) {
            Ok(Reply::Shared(share)) => share.link,
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self, node: NodeId, link: &Link) -> Result<TransferId, Failure> {
        match self.run_command(node, Command::Get(Box::new(link.clone()))) {
            Ok(Reply::Getting { id, .. }) => Ok(id),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure),
        }
    }

    /// Who delivered what to a node, once it has got it.
    fn sources(&self, node: NodeId) -> Option<Vec<Delivery>> {
        self.events(node, |event| match event {
            Event::Received { sources, .. } => Some(sources.clone()),
            _ => None,
        })
        .pop()
    }

    fn has_got(&self, node: NodeId) -> bool {
        self.sources(node).is_some()
    }
}

fn bare(bytes: &[u8]) -> Link {
    Link::bare(file_hash(bytes))
}

/// So many nodes that share the same file, and one that is connected to all of them.
fn seeded(seed: u64, seeders: u8, size: usize) -> (World, Vec<NodeId>, NodeId, Vec<u8>) {
    let mut world = World::new(seed);
    let bytes = world.rng.bytes(size);
    let nodes: Vec<_> = (0..seeders)
        .map(|n| {
            let node = world.secure_node(n + 1, AcceptPolicy::Ask);
            world.nodes[node.0].disk.files.insert("file".into(), bytes.clone());
            world.share(node, "file");
            node
        })
        .collect();
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    for node in &nodes {
        world.connect(getter, *node);
    }
    world.run_for(SECOND);
    (world, nodes, getter, bytes)
}

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
