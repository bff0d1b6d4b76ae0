//! What is pulled arrives, whatever breaks, and nothing that was verified is moved again.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{AcceptPolicy, Code, Command, Event, Stage};
use peer_to_peer::wire::CHUNK_SIZE;
use world::disk_model::file_hash;
use world::people::pair;
use world::{Line, NodeId, SECOND, World};

const CHUNK: usize = CHUNK_SIZE as usize;

/// The largest window: what may be under way when a connection breaks.
const WINDOW: u64 = 16 << 20;

/// Whether each file that arrived was there before, in order.
fn arrived(world: &World, node: NodeId) -> Vec<bool> {
    world.events(
        node,
        |event| {
            if let Event::Received { already, .. } = event { Some(*already) } else { None }
        },
    )
}

fn sent(world: &World, node: NodeId) -> Vec<bool> {
    world.events(node, |event| {
        if let Event::Sent { already, confirmed: true, .. } = event { Some(*already) } else { None }
    })
}

/// Whether the file has arrived as it is.
fn is_right(world: &World, node: NodeId, name: &str, bytes: &[u8]) -> bool {
    world.nodes[node.0].disk.downloads.get(name).map(|found| file_hash(found)) == Some(file_hash(bytes))
}

#[test]
fn files_of_every_edge_size_arrive_whether_their_hashes_are_known_or_not() {
    let (mut world, a, b, b_name) = pair(1);
    for size in [0, 1, 63, 64, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 4 * CHUNK + 1, 9 * CHUNK + 77] {
        let name = format!("{size}");
        let bytes = world.put(a, &name, size);
        for known in [false, true] {
            world.nodes[b.0].disk.downloads.clear();
            let before = world.data_bytes;
            world.send_file(a, &b_name, &name);
            world.run_to_end();
            assert!(is_right(&world, b, &name, &bytes), "{size} bytes, known: {known}: {world:?}");
            assert_eq!(world.data_bytes - before, size as u64, "{size} bytes, known: {known}");
        }
    }
    assert_eq!(sent(&world, a), vec![false; 20]);
    assert_eq!(arrived(&world, b), vec![false; 20]);
    assert!(world.nodes[a.0].disk.is_clean() && world.nodes[b.0].disk.is_clean());
    assert!(!world.nodes[b.0].disk.has_partials());
}

#[test]
fn a_list_of_several_pages_is_fetched_page_by_page() {
    let (mut world, a, b, b_name) = pair(2);
    let size = 1030 * CHUNK + 5;
    let bytes = world.put(a, "large", size);
    for known in [false, true] {
        world.nodes[b.0].disk.downloads.clear();
        world.send_file(a, &b_name, "large");
        world.run_to_end();
        assert!(is_right(&world, b, "large", &bytes), "known: {known}");
    }
    assert_eq!(world.data_bytes, 2 * size as u64);
}

#[test]
fn a_file_that_is_in_place_is_not_sent() {
    let (mut world, a, b, b_name) = pair(3);
    let bytes = world.put(a, "a", 7 * CHUNK + 9);
    world.nodes[b.0].disk.downloads.insert("a".into(), bytes);
    // Its hashes are not known the first time: nothing moves but states.
    for _ in 0..2 {
        world.send_file(a, &b_name, "a");
        world.run_to_end();
    }
    assert_eq!(world.data_bytes, 0);
    assert_eq!(sent(&world, a), [true, true]);
    assert_eq!(arrived(&world, b), [true, true]);
    assert_eq!(world.nodes[b.0].disk.downloads.len(), 1);
}

#[test]
fn another_file_of_the_same_name_and_size_in_place_stays_and_is_not_mixed_in() {
    let (mut world, a, b, b_name) = pair(4);
    let bytes = world.put(a, "a", 7 * CHUNK);
    let mut other = bytes.clone();
    other[6 * CHUNK + 1] ^= 1;
    world.nodes[b.0].disk.downloads.insert("a".into(), other.clone());
    world.send_file(a, &b_name, "a");
    world.run_to_end();
    assert!(is_right(&world, b, "a", &other) && is_right(&world, b, "a (1)", &bytes), "{world:?}");
    assert_eq!(world.data_bytes, bytes.len() as u64);
}

#[test]
fn after_a_broken_connection_a_transfer_goes_on_by_itself() {
    for known in [false, true] {
        let (mut world, a, b, b_name) = pair(5);
        let size = 100 * CHUNK;
        let bytes = world.put(a, "a", size);
        if known {
            world.send_file(a, &b_name, "a");
            world.run_to_end();
            world.nodes[b.0].disk.downloads.clear();
            world.nodes[b.0].disk.bytes_stored = 0;
            world.data_bytes = 0;
        }
        world.line.bytes_per_sec = 20 * CHUNK as u64;
        world.cut(a);
        world.run_for(SECOND);
        let id = world.send_file(a, &b_name, "a");
        for _ in 0..3 {
            world.run_for(SECOND);
            world.cut(b);
            let stages: Vec<_> = world.transfers(a).iter().map(|info| info.stage).collect();
            assert_eq!(stages, [Stage::Waiting]);
        }
        world.run_to_end();
        assert!(is_right(&world, b, "a", &bytes), "known: {known}: {world:?}");
        assert!(world.failure_codes(a).is_empty() && world.failure_codes(b).is_empty(), "{world:?}");
        let ended =
            world.events(a, |event| if let Event::Sent { id, .. } = event { Some(*id) } else { None });
        assert!(ended.contains(&id));
        assert_eq!(world.nodes[b.0].disk.bytes_stored, size as u64, "what was stored is not stored again");
        assert!(world.data_bytes <= size as u64 + 3 * WINDOW);
    }
}

#[test]
fn what_was_sent_before_a_connection_broke_is_shown_once() {
    let (mut world, a, b, b_name) = pair(18);
    world.put(a, "a", 100 * CHUNK);
    world.line.bytes_per_sec = 20 * CHUNK as u64;
    world.cut(a);
    world.run_for(SECOND);
    world.send_file(a, &b_name, "a");
    world.run_for(2 * SECOND);
    world.cut(b);
    world.run_for(2 * SECOND);
    let [sent, came] = [a, b].map(|node| world.transfers(node)[0].bytes);
    assert!(came > 40 * u64::from(CHUNK_SIZE) && sent <= came + 16 * u64::from(CHUNK_SIZE), "{sent} {came}");
}

#[test]
fn a_cancelled_transfer_stays_as_a_partial_one_and_sending_again_goes_on_with_it() {
    for receiver_cancels in [false, true] {
        let (mut world, a, b, b_name) = pair(6);
        world.line.bytes_per_sec = 20 * CHUNK as u64;
        world.cut(a);
        world.run_for(SECOND);
        let bytes = world.put(a, "a", 100 * CHUNK);
        let id = world.send_file(a, &b_name, "a");
        world.run_for(2 * SECOND);
        let (canceller, number) = if receiver_cancels { (b, world.transfers(b)[0].id) } else { (a, id) };
        world.run_command(canceller, Command::Cancel { id: number, discard: false }).unwrap();
        world.run_for(SECOND);
        assert_eq!(world.failure_codes(a), [Code::Cancelled]);
        assert_eq!(world.failure_codes(b), [Code::Cancelled]);
        let left = world.transfers(b);
        assert!(
            matches!(left.as_slice(), [info] if info.stage == Stage::Partial && info.bytes > 0),
            "{left:?}"
        );
        world.send_file(a, &b_name, "a");
        world.run_to_end();
        assert!(is_right(&world, b, "a", &bytes), "{world:?}");
        assert_eq!(world.nodes[b.0].disk.bytes_stored, bytes.len() as u64);
        assert_eq!(world.transfers(b), []);
    }
}

#[test]
fn what_is_left_of_a_transfer_can_be_discarded() {
    let (mut world, a, b, b_name) = pair(7);
    world.line.bytes_per_sec = 20 * CHUNK as u64;
    world.cut(a);
    world.run_for(SECOND);
    world.put(a, "a", 100 * CHUNK);
    let id = world.send_file(a, &b_name, "a");
    world.run_for(2 * SECOND);
    world.run_command(a, Command::Cancel { id, discard: false }).unwrap();
    world.run_for(SECOND);
    let left = world.transfers(b)[0].id;
    assert!(world.run_command(b, Command::Cancel { id: left, discard: false }).is_err());
    world.run_command(b, Command::Cancel { id: left, discard: true }).unwrap();
    world.run_to_end();
    assert!(!world.nodes[b.0].disk.has_partials());
    assert_eq!(world.transfers(b), []);
}

#[test]
fn a_damaged_partial_file_is_fetched_anew_where_it_is_damaged() {
    for known in [false, true] {
        let (mut world, a, b, b_name) = pair(8);
        let bytes = world.put(a, "a", 100 * CHUNK);
        if known {
            world.send_file(a, &b_name, "a");
            world.run_to_end();
            world.nodes[b.0].disk.downloads.clear();
        }
        world.line.bytes_per_sec = 20 * CHUNK as u64;
        world.cut(a);
        world.run_for(SECOND);
        world.send_file(a, &b_name, "a");
        world.run_for(3 * SECOND);
        world.restart(b, false);
        world.nodes[b.0].disk.damage(3);
        world.run_to_end();
        send_until_right(&mut world, a, b, &b_name, "a", &bytes);
    }
}

/// Sends a file again and again, as a person does, until it has arrived.
fn send_until_right(world: &mut World, a: NodeId, b: NodeId, b_name: &str, file: &str, bytes: &[u8]) {
    for _ in 0..5 {
        if is_right(world, b, file, bytes) {
            return;
        }
        let _ = world.run_command(a, Command::Connect(b_name.parse().unwrap()));
        let _ = world
            .run_command(a, Command::SendFile { to: b_name.parse().unwrap(), path: file.into(), name: None });
        world.run_to_end();
    }
    panic!("it never arrived: {world:?}");
}

/// Makes the file `a` a directory, of which the receiver may have much already.
fn put_as_directory(world: &mut World, from: NodeId, to: NodeId, bytes: &[u8]) {
    let list = 1 + world.rng.below(bytes.len().min(3 * CHUNK) as u64);
    world.nodes[from.0].disk.lists.insert("a".into(), u32::try_from(list).unwrap());
    if world.rng.below(2) == 0 {
        let mut similar = bytes.to_vec();
        similar[0] ^= 1;
        let changed = usize::try_from(world.rng.below(bytes.len() as u64)).unwrap();
        similar[changed] ^= 1;
        world.nodes[to.0].disk.similar.insert("a".into(), similar);
    }
}

#[test]
fn a_directory_waits_for_its_list_and_takes_from_one_in_place_what_that_has() {
    for similar in [false, true] {
        for known in [false, true] {
            let (mut world, a, b, b_name) = pair(10);
            let size = 60 * CHUNK + 5;
            let bytes = world.put(a, "a", size);
            world.nodes[a.0].disk.lists.insert("a".into(), 2 * CHUNK_SIZE + 9);
            if known {
                world.send_file(a, &b_name, "a");
                world.run_to_end();
                world.nodes[b.0].disk.downloads.clear();
                world.data_bytes = 0;
            }
            if similar {
                let mut other = bytes.clone();
                other[0] ^= 1;
                other[30 * CHUNK] ^= 1;
                world.nodes[b.0].disk.similar.insert("a".into(), other);
            }
            world.send_file(a, &b_name, "a");
            world.run_to_end();
            assert!(is_right(&world, b, "a", &bytes), "{world:?}");
            // The three chunks of the list, and the one that differs.
            let moved = if similar { 4 * CHUNK } else { size };
            assert_eq!(world.data_bytes, moved as u64, "similar: {similar}, known: {known}");
            let files =
                world.events(
                    b,
                    |event| if let Event::Received { files, .. } = event { Some(*files) } else { None },
                );
            assert_eq!(files.last(), Some(&Some(1)));
        }
    }
}

#[test]
fn a_sender_that_is_started_anew_at_once_waits_for_what_it_left() {
    for is_directory in [false, true] {
        let (mut world, a, b, b_name) = pair(12);
        world.line.bytes_per_sec = 20 * CHUNK as u64;
        world.cut(a);
        world.run_for(SECOND);
        let bytes = world.put(a, "a", 60 * CHUNK);
        if is_directory {
            world.nodes[a.0].disk.lists.insert("a".into(), CHUNK_SIZE);
        }
        world.send_file(a, &b_name, "a");
        world.run_for(2 * SECOND);
        // What has arrived is still being stored when the new process offers the file.
        world.nodes[b.0].slowness.disk = SECOND;
        world.run_for(SECOND / 2);
        world.restart(a, false);
        let b_name = world.connect(a, b);
        world.send_file(a, &b_name, "a");
        world.run_for(2 * SECOND);
        world.nodes[b.0].slowness.disk = Duration::ZERO;
        world.run_to_end();
        assert!(is_right(&world, b, "a", &bytes), "{world:?}");
        assert_eq!(world.nodes[b.0].disk.downloads.len(), 1);
        assert_eq!(world.nodes[b.0].disk.bytes_stored, bytes.len() as u64, "{is_directory}");
    }
}

#[test]
fn a_long_look_at_a_directory_is_no_silence_on_either_side() {
    let (mut world, a, b, b_name) = pair(11);
    let bytes = world.put(a, "a", 30 * CHUNK);
    world.nodes[a.0].disk.lists.insert("a".into(), CHUNK_SIZE);
    let mut other = bytes.clone();
    other[0] ^= 1;
    world.nodes[b.0].disk.similar.insert("a".into(), other);
    // The sender hashes all of it for longer than a receiver waits for a chunk.
    world.nodes[a.0].slowness.hashing = 150 * SECOND;
    world.send_file(a, &b_name, "a");
    let offered = |world: &World| {
        !world.events(b, |event| matches!(event, Event::Offer { .. }).then_some(())).is_empty()
    };
    world.run_until(offered);
    world.run_for(SECOND);
    world.nodes[a.0].slowness.hashing = Duration::ZERO;
    world.run_until(|world| world.nodes[b.0].disk.bytes_stored > 0 || world.data_bytes > 0);
    // The receiver prepares it for longer than a sender waits for a word.
    world.nodes[b.0].slowness.disk = 140 * SECOND;
    world.run_for(430 * SECOND);
    world.nodes[b.0].slowness.disk = Duration::ZERO;
    world.run_to_end();
    assert!(is_right(&world, b, "a", &bytes), "{world:?}");
    assert!(world.failure_codes(a).is_empty() && world.failure_codes(b).is_empty(), "{world:?}");
}

#[test]
fn the_file_is_right_whatever_breaks_and_only_what_was_under_way_moves_again() {
    let (mut cuts, mut kills, mut failed_powers) = (0, 0, 0);
    for seed in 0..60 {
        let (mut world, a, b, b_name) = pair(seed);
        world.line = Line {
            latency: Duration::from_micros(world.rng.below(50_000)),
            bytes_per_sec: 2_000_000 + world.rng.below(50_000_000),
        };
        world.cut(a);
        world.run_for(SECOND);
        let size = usize::try_from(world.rng.below(40 * CHUNK as u64)).unwrap();
        let bytes = world.put(a, "a", size);
        if seed % 3 == 0 && size > 0 {
            put_as_directory(&mut world, a, b, &bytes);
        }
        if world.rng.below(2) == 0 {
            // Its hashes are known.
            world.send_file(a, &b_name, "a");
            world.run_to_end();
            world.nodes[b.0].disk.downloads.clear();
            world.nodes[b.0].disk.bytes_stored = 0;
            world.data_bytes = 0;
        }
        let (mut breaks, mut power) = (0, false);
        world.send_file(a, &b_name, "a");
        for _ in 0..world.rng.below(5) {
            let pause = Duration::from_micros(world.rng.below(3_000_000));
            world.run_for(pause);
            let victim = if world.rng.below(2) == 0 { a } else { b };
            breaks += 1;
            match world.rng.below(4) {
                0 | 1 => {
                    cuts += 1;
                    world.cut(victim);
                }
                2 => {
                    kills += 1;
                    world.restart(victim, false);
                }
                _ => {
                    failed_powers += 1;
                    power = true;
                    world.restart(victim, true);
                }
            }
            if world.rng.below(2) == 0 {
                let _ = world.run_command(a, Command::Connect(b_name.parse().unwrap()));
                let _ = world.run_command(
                    a,
                    Command::SendFile { to: b_name.parse().unwrap(), path: "a".into(), name: None },
                );
            }
        }
        world.run_to_end();
        send_until_right(&mut world, a, b, &b_name, "a", &bytes);
        for (name, found) in &world.nodes[b.0].disk.downloads {
            assert_eq!(file_hash(found), file_hash(&bytes), "seed {seed}: {name} is wrong");
        }
        let copies = world.nodes[b.0].disk.downloads.len() as u64;
        assert!(world.nodes[a.0].disk.is_clean() && world.nodes[b.0].disk.is_clean(), "seed {seed}");
        if !power && copies == 1 {
            // What a directory in place has is not moved.
            let is_alike = !world.nodes[b.0].disk.similar.is_empty();
            let stored = world.nodes[b.0].disk.bytes_stored;
            assert!(stored == size as u64 || is_alike && stored < size as u64, "seed {seed}: {world:?}");
            assert!(world.data_bytes <= size as u64 + breaks * WINDOW, "seed {seed}");
        }
    }
    // Otherwise this test has not seen what it is about.
    assert!(cuts > 15 && kills > 5 && failed_powers > 5, "{cuts} {kills} {failed_powers}");
}

#[test]
fn two_processes_of_one_identity_that_break_at_once_each_go_on_with_what_was_theirs() {
    let mut world = World::new(9);
    world.line.bytes_per_sec = 20 * CHUNK as u64;
    let a = world.secure_node(1, AcceptPolicy::All);
    let others = [(); 2].map(|()| world.secure_node(2, AcceptPolicy::All));
    let names = others.map(|other| world.connect(a, other));
    let contents = ["for one", "for two"].map(|name| world.put(a, name, 30 * CHUNK));
    for (to, name) in names.iter().zip(["for one", "for two"]) {
        world.send_file(a, to, name);
    }
    world.run_for(SECOND);
    world.cut(a);
    world.run_to_end();
    for ((other, name), bytes) in others.iter().zip(["for one", "for two"]).zip(&contents) {
        assert!(is_right(&world, *other, name, bytes), "{world:?}");
        assert_eq!(world.nodes[other.0].disk.downloads.len(), 1);
    }
    assert!(world.failure_codes(a).is_empty(), "{world:?}");
}
