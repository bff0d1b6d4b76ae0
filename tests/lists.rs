//! Which list of a content is followed, where those who have it say different ones, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use peer_to_peer::engine::{AcceptPolicy, Code};
use peer_to_peer::wire::{CHUNK_SIZE, ContentOffer, Link, Message, TreeInfo};
use world::disk_model::{entries_of, file_hash};
use world::swarm::{CHUNK, answer, asked, bare, is_banned, offer_of, serve, swarm_script};
use world::{SECOND, World};

#[test]
fn a_false_list_convicts_who_claims_to_have_all_of_it_and_nobody_else() {
    let mut world = World::new(12);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let bytes = world.rng.bytes(12 * CHUNK);
    let liar = swarm_script(&mut world, getter, 66);
    let misled = swarm_script(&mut world, getter, 67);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    // The list says the truth but for one state, so that the true bytes do not continue the file.
    let mut list = entries_of(&bytes);
    list[5].state.0[0] ^= 1;
    answer(&mut world, liar, file_hash(&bytes), bytes.len(), &list, false);
    answer(&mut world, misled, file_hash(&bytes), bytes.len(), &list, true);
    let honest = world.secure_node(1, AcceptPolicy::Ask);
    world.nodes[honest.0].disk.files.insert("file".into(), bytes.clone());
    world.share(honest, "file");
    world.connect(getter, honest);
    world.run_for(SECOND / 10);
    serve(&mut world, liar, getter, &bytes);
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(is_banned(&world, getter, 66), "{world:?}");
    assert!(!is_banned(&world, getter, 67) && !is_banned(&world, getter, 1), "{world:?}");
    assert!(!world.scripts[misled.0].closed);
}

#[test]
fn who_says_that_it_is_larger_than_the_disk_does_not_keep_the_true_one_out() {
    let mut world = World::new(19);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    world.nodes[getter.0].disk.free_bytes = 10_000_000;
    let liar = swarm_script(&mut world, getter, 66);
    let honest = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(honest, "file", 4 * CHUNK);
    world.share(honest, "file");
    world.line.latency = SECOND / 2;
    world.connect(getter, honest);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    let large = world.rng.bytes(100 * CHUNK);
    answer(&mut world, liar, file_hash(&bytes), large.len(), &entries_of(&large), false);
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
}

#[test]
fn after_a_false_list_those_are_asked_again_who_had_nothing() {
    let mut world = World::new(31);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let honest = world.secure_node(1, AcceptPolicy::Ask);
    world.connect(getter, honest);
    let liar = swarm_script(&mut world, getter, 66);
    let bytes = world.put(honest, "file", 12 * CHUNK);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    let mut list = entries_of(&bytes);
    list[11].state.0[0] ^= 1;
    answer(&mut world, liar, file_hash(&bytes), bytes.len(), &list, false);
    world.share(honest, "file");
    serve(&mut world, liar, getter, &bytes);
    assert!(is_banned(&world, getter, 66), "{world:?}");
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    let stored = world.nodes[getter.0].disk.bytes_stored;
    assert!(stored < 14 * u64::from(CHUNK_SIZE), "what was right of it is kept: {stored}");
}

#[test]
fn who_says_that_a_file_is_a_directory_is_banned_and_the_file_comes_from_others() {
    let mut world = World::new(41);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let liar = swarm_script(&mut world, getter, 66);
    let honest = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(honest, "file", 12 * CHUNK);
    world.share(honest, "file");
    let tree = TreeInfo { list_bytes: CHUNK_SIZE, files: 1 };
    world.nodes[getter.0].disk.false_trees.push(tree);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    let offer = offer_of(&world, liar, file_hash(&bytes), bytes.len(), &entries_of(&bytes), false);
    world.say(liar, Message::Offer(ContentOffer { tree: Some(tree), ..offer }));
    world.run_for(SECOND / 10);
    world.connect(getter, honest);
    serve(&mut world, liar, getter, &bytes);
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(is_banned(&world, getter, 66) && !is_banned(&world, getter, 1), "{world:?}");
}

#[test]
fn a_list_that_is_too_large_for_the_disk_keeps_nobody_out_after_a_false_one_either() {
    let mut world = World::new(42);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    world.nodes[getter.0].disk.free_bytes = 10_000_000;
    let liar = swarm_script(&mut world, getter, 66);
    let boaster = swarm_script(&mut world, getter, 67);
    let honest = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(honest, "file", 4 * CHUNK);
    world.share(honest, "file");
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    let mut list = entries_of(&bytes);
    list[2].state.0[0] ^= 1;
    answer(&mut world, liar, file_hash(&bytes), bytes.len(), &list, false);
    let large = world.rng.bytes(100 * CHUNK);
    let large_list = entries_of(&large);
    answer(&mut world, boaster, file_hash(&bytes), large.len(), &large_list, false);
    world.line.latency = SECOND / 2;
    world.connect(getter, honest);
    let before = asked(&world, boaster);
    serve(&mut world, liar, getter, &bytes);
    assert!(asked(&world, boaster) > before, "all are asked anew");
    answer(&mut world, boaster, file_hash(&bytes), large.len(), &large_list, false);
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
}

#[test]
fn two_who_say_ever_other_lists_do_not_keep_a_search_going() {
    let mut world = World::new(43);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    world.nodes[getter.0].disk.free_bytes = 1_000_000;
    let liars = [swarm_script(&mut world, getter, 66), swarm_script(&mut world, getter, 67)];
    let hash = file_hash(b"what nobody has");
    world.get(getter, &Link::bare(hash)).unwrap();
    world.run_for(SECOND / 10);
    let mut answered = [None; 2];
    for size in 10..1000 {
        for (liar, answered) in liars.into_iter().zip(&mut answered) {
            if asked(&world, liar) > *answered {
                let large = world.rng.bytes(size * CHUNK);
                let entries = entries_of(&large);
                *answered = asked(&world, liar);
                answer(&mut world, liar, hash, large.len(), &entries, false);
            }
        }
        if !world.failures(getter).is_empty() {
            let (code, reason) = world.failures(getter)[0].clone();
            assert_eq!(code, Code::NoSpace, "{reason}");
            assert!(size < 15, "who lied once is not asked again");
            return;
        }
    }
    panic!("it goes on for ever: {world:?}");
}
