//! Sources of a content that lie, leave, repeat themselves or have nothing to do, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{AcceptPolicy, Change, Dealing, Event, Limits, Took};
use peer_to_peer::wire::{
    CHUNK_SIZE, ChunkHash, ENTRIES_PER_PAGE, Entry, FileHash, Link, Message, NodeId as Identity, OfferId,
    State,
};
use world::disk_model::{entries_of, file_hash};
use world::swarm::{
    CHUNK, answer, ask_for, asked, bare, give, is_banned, is_offered, page_of, pulled_from, seeded_over,
    serve, swarm_script,
};
use world::{NodeId, SECOND, ScriptId, World};

/// A moment that is enough for what is said to arrive, and too short for anybody to lose patience.
const MOMENT: Duration = Duration::from_millis(100);

/// A node that searches, and scripted peers that it asks; they are called 60, 61 and so on.
fn searching(seed: u64, hash: FileHash, peers: u8) -> (World, NodeId, Vec<ScriptId>) {
    let mut world = World::new(seed);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let scripts: Vec<_> = (60..60 + peers).map(|who| swarm_script(&mut world, getter, who)).collect();
    world.get(getter, &Link::bare(hash)).unwrap();
    world.run_for(MOMENT);
    (world, getter, scripts)
}

/// All that a script was told since, as far as a function picks it out.
fn heard<T>(world: &World, script: ScriptId, pick: impl Fn(&Message) -> Option<T>) -> Vec<T> {
    world.scripts[script.0].heard.iter().filter_map(pick).collect()
}

fn asks(world: &World, script: ScriptId) -> usize {
    heard(world, script, |message| matches!(message, Message::Ask { .. }).then_some(())).len()
}

fn refusals(world: &World, script: ScriptId) -> Vec<String> {
    heard(world, script, |message| match message {
        Message::Refuse { reason, .. } => Some(reason.code.clone()),
        _ => None,
    })
}

fn unpulled(world: &World, script: ScriptId) -> Vec<u32> {
    heard(world, script, |message| match message {
        Message::Unpull { first, count, .. } => Some(*first..first + count),
        _ => None,
    })
    .into_iter()
    .flatten()
    .collect()
}

/// The chunks that a script was told of.
fn told(world: &World, script: ScriptId) -> Vec<u32> {
    let runs = heard(world, script, |message| match message {
        Message::Have { chunks, .. } => Some(chunks.clone()),
        _ => None,
    });
    runs.into_iter().flatten().flat_map(|(first, count)| first..first + count).collect()
}

fn say_have(world: &mut World, script: ScriptId, runs: &[(u32, u32)]) {
    world.say(script, Message::Have { id: OfferId(1), chunks: runs.to_vec() });
    world.run_for(MOMENT);
}

fn slow_disk(world: &mut World, node: NodeId, disk: Duration) {
    world.nodes[node.0].slowness = Took { disk, ..Took::default() };
}

/// A list that fills three pages, of a content that nobody needs to have.
struct LongList {
    hash: FileHash,
    entries: Vec<Entry>,
}

impl LongList {
    const PAGES: u32 = 3;

    fn new() -> Self {
        let entry = |n: u32| {
            let mut digits = [0; 32];
            digits[..4].copy_from_slice(&n.to_be_bytes());
            Entry { hash: ChunkHash(digits), state: State(digits) }
        };
        Self { hash: FileHash([9; 32]), entries: (0..Self::PAGES * ENTRIES_PER_PAGE).map(entry).collect() }
    }

    /// A search for it, and two who say that they have it.
    fn searched(&self, seed: u64) -> (World, NodeId, [ScriptId; 2]) {
        let (mut world, getter, scripts) = searching(seed, self.hash, 2);
        for script in &scripts {
            answer(&mut world, *script, self.hash, self.entries.len() * CHUNK, &self.entries, false);
        }
        (world, getter, scripts.try_into().unwrap())
    }

    /// Says a page as it is, or not.
    fn say_page(&self, world: &mut World, script: ScriptId, page: u32, is_right: bool) {
        let mut entries: Vec<_> =
            self.entries.chunks(ENTRIES_PER_PAGE as usize).nth(page as usize).unwrap().to_vec();
        if !is_right {
            entries[0].state.0[0] ^= 1;
        }
        world.say(script, Message::Page { id: OfferId(1), page, entries: page_of(&entries) });
        world.run_for(MOMENT);
    }

    /// Whether all of it is here: what is searched for is offered from then on.
    fn is_here(&self, world: &mut World, getter: NodeId) -> bool {
        let asker = swarm_script(world, getter, 90);
        ask_for(world, asker, self.hash);
        is_offered(world, asker)
    }
}

/// The pages that a script was asked for.
fn pages(world: &World, script: ScriptId) -> Vec<u32> {
    heard(world, script, |message| match message {
        Message::PullPage { page, .. } => Some(*page),
        _ => None,
    })
}

#[test]
fn a_list_comes_a_page_at_a_time_from_one_and_from_another_when_that_one_leaves() {
    let list = LongList::new();
    let (mut world, getter, [one, two]) = list.searched(41);
    assert_eq!((pages(&world, one), pages(&world, two)), (vec![0], vec![]));
    list.say_page(&mut world, one, 0, true);
    assert_eq!((pages(&world, one), pages(&world, two)), (vec![0, 1], vec![]));
    world.end(one);
    world.run_for(MOMENT);
    assert_eq!(pages(&world, two), [1]);
    list.say_page(&mut world, two, 1, true);
    list.say_page(&mut world, two, 2, true);
    assert!(list.is_here(&mut world, getter), "{world:?}");
    assert_eq!(world.failures(getter), []);
    assert!([60, 61].iter().all(|who| !is_banned(&world, getter, *who)), "{world:?}");
}

#[test]
fn a_wrong_page_convicts_who_sent_it_and_comes_from_another() {
    let list = LongList::new();
    let (mut world, getter, [one, two]) = list.searched(42);
    list.say_page(&mut world, one, 0, true);
    list.say_page(&mut world, one, 1, false);
    assert!(is_banned(&world, getter, 60), "{world:?}");
    assert_eq!(pages(&world, two), [1]);
    list.say_page(&mut world, two, 1, true);
    list.say_page(&mut world, two, 2, true);
    assert!(list.is_here(&mut world, getter), "{world:?}");
    assert_eq!(world.failures(getter), []);
    assert!(!is_banned(&world, getter, 61), "{world:?}");
}

#[test]
fn who_hangs_up_after_a_wrong_page_is_banned_all_the_same() {
    let list = LongList::new();
    let (mut world, getter, [one, two]) = list.searched(43);
    slow_disk(&mut world, getter, SECOND);
    list.say_page(&mut world, one, 0, false);
    world.end(one);
    world.run_for(MOMENT);
    assert!(!is_banned(&world, getter, 60), "it is not found out yet");
    world.run_for(2 * SECOND);
    assert!(is_banned(&world, getter, 60), "{world:?}");
    assert!(!is_banned(&world, getter, 61), "{world:?}");
    assert_eq!((pages(&world, two), world.failures(getter)), (vec![0], vec![]));
}

#[test]
fn who_sent_a_page_is_not_blamed_for_a_disk_that_is_slow_with_it() {
    let list = LongList::new();
    let (mut world, getter, [one, two]) = list.searched(56);
    slow_disk(&mut world, getter, 40 * SECOND);
    list.say_page(&mut world, one, 0, true);
    world.run_for(45 * SECOND);
    assert_eq!((pages(&world, one), pages(&world, two)), (vec![0, 1], vec![]));
    assert!(refusals(&world, one).is_empty(), "{world:?}");
}

#[test]
fn a_page_that_does_not_come_is_asked_of_another() {
    let list = LongList::new();
    let (mut world, getter, [one, two]) = list.searched(57);
    world.run_for(35 * SECOND);
    assert_eq!((pages(&world, one), pages(&world, two)), (vec![0], vec![0]));
    assert_eq!(refusals(&world, one), ["stalled"]);
    assert!(!is_banned(&world, getter, 60), "slow is not bad");
}

#[test]
fn who_hangs_up_after_wrong_chunks_is_banned_all_the_same_and_once() {
    let bytes = World::new(44).rng.bytes(6 * CHUNK);
    let (hash, entries) = (file_hash(&bytes), entries_of(&bytes));
    let (mut world, getter, scripts) = searching(44, hash, 2);
    let (poisoner, honest) = (scripts[0], scripts[1]);
    answer(&mut world, poisoner, hash, bytes.len(), &entries, false);
    assert_eq!(pulled_from(&world, poisoner), [0, 1, 2, 3, 4, 5]);
    slow_disk(&mut world, getter, SECOND);
    let wrong = vec![6; bytes.len()];
    for index in 0..6 {
        give(&mut world, poisoner, &wrong, index);
    }
    world.run_for(SECOND / 2);
    world.end(poisoner);
    world.run_for(MOMENT);
    assert!(!is_banned(&world, getter, 60), "it is not found out yet");
    world.run_for(10 * SECOND);
    assert!(is_banned(&world, getter, 60), "{world:?}");
    let record = world.nodes[getter.0].book.record(Identity([60; 32])).unwrap();
    assert_eq!((record.bans, record.bad_chunks), (1, 1), "what it sent at once is one offence");
    slow_disk(&mut world, getter, Duration::ZERO);
    answer(&mut world, honest, hash, bytes.len(), &entries, false);
    serve(&mut world, honest, getter, &bytes);
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    let bad: Vec<_> = world.sources(getter).unwrap().iter().map(|source| source.bad_chunks).collect();
    assert_eq!(bad, [0, 6]);
}

#[test]
fn who_has_the_same_identity_and_sends_a_wrong_chunk_is_left_and_not_banned() {
    let bytes = World::new(55).rng.bytes(6 * CHUNK);
    let (hash, entries) = (file_hash(&bytes), entries_of(&bytes));
    let (mut world, getter, scripts) = searching(55, hash, 1);
    let twin = swarm_script(&mut world, getter, 100);
    answer(&mut world, twin, hash, bytes.len(), &entries, false);
    serve(&mut world, twin, getter, &vec![6; bytes.len()]);
    assert!(world.scripts[twin.0].closed, "{world:?}");
    assert!(!is_banned(&world, getter, 100), "{world:?}");
    answer(&mut world, scripts[0], hash, bytes.len(), &entries, false);
    serve(&mut world, scripts[0], getter, &bytes);
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
}

#[test]
fn strangers_from_where_too_many_have_lied_are_turned_down_before_their_list_is_followed() {
    let bytes = World::new(45).rng.bytes(3 * CHUNK);
    let (hash, entries) = (file_hash(&bytes), entries_of(&bytes));
    let (mut world, getter, scripts) = searching(45, hash, 18);
    for liar in &scripts[..16] {
        answer(&mut world, *liar, FileHash([1; 32]), bytes.len(), &entries, false);
        assert!(world.scripts[liar.0].closed);
    }
    let found = |event: &Event| matches!(event, Event::Found { .. }).then_some(());
    answer(&mut world, scripts[16], hash, bytes.len(), &entries, false);
    assert_eq!(refusals(&world, scripts[16]), ["busy"]);
    assert!(world.events(getter, found).is_empty(), "{world:?}");
    // Whom a person knows is no stranger.
    world.note(getter, &Change::Trust(Identity([60 + 17; 32])));
    answer(&mut world, scripts[17], hash, bytes.len(), &entries, false);
    serve(&mut world, scripts[17], getter, &bytes);
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
}

#[test]
fn what_an_earlier_get_left_is_told_to_those_who_fetch_from_this_one() {
    let (mut world, _, getter, bytes) = seeded_over(20_000_000, 46, 1, 100 * CHUNK);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.nodes[getter.0].disk.bytes_stored > 40 * u64::from(CHUNK_SIZE));
    world.restart(getter, false);
    let left = world.nodes[getter.0].disk.bytes_stored / u64::from(CHUNK_SIZE);
    let lister = swarm_script(&mut world, getter, 66);
    let asker = swarm_script(&mut world, getter, 67);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(MOMENT);
    // From this one the list comes and nothing else.
    answer(&mut world, lister, file_hash(&bytes), bytes.len(), &entries_of(&bytes), false);
    ask_for(&mut world, asker, file_hash(&bytes));
    world.run_for(SECOND);
    assert!(is_offered(&world, asker));
    assert_eq!(told(&world, asker).len() as u64, left);
    assert!(pulled_from(&world, lister).iter().all(|index| !told(&world, asker).contains(index)));
}

#[test]
fn a_source_that_is_not_needed_for_long_is_still_there_when_it_is() {
    let mut world = World::new(47);
    let seeder = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(seeder, "file", 3 * CHUNK);
    world.share(seeder, "file");
    let asker = swarm_script(&mut world, seeder, 66);
    ask_for(&mut world, asker, file_hash(&bytes));
    let [id] = heard(&world, asker, |message| match message {
        Message::Offer(offer) => Some(offer.id),
        _ => None,
    })
    .try_into()
    .unwrap();
    world.say(asker, Message::Accept { id, kept: None, wants_list: false });
    for index in [0, 2] {
        world.say(asker, Message::Pull { id, first: index, count: 1 });
        world.run_for(3600 * SECOND);
        let given = |message: &Message| {
            matches!(message, Message::Data { index: i, .. } if *i == index).then_some(())
        };
        assert_eq!(heard(&world, asker, given).len(), 1, "chunk {index}: {world:?}");
        let withdrawn = |message: &Message| matches!(message, Message::Withdraw { .. }).then_some(());
        assert_eq!(heard(&world, asker, withdrawn).len(), 0, "{world:?}");
    }
}

#[test]
fn who_had_nothing_is_asked_again_while_there_is_need() {
    let mut world = World::new(48);
    let limits = Limits { up: Some("100kB/s".parse().unwrap()), ..Limits::default() };
    let slow = world.secure_node_with(1, AcceptPolicy::Ask, limits);
    let late = world.secure_node(2, AcceptPolicy::Ask);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let bytes = world.put(slow, "file", 100 * CHUNK);
    world.nodes[late.0].disk.files.insert("file".into(), bytes.clone());
    world.share(slow, "file");
    world.connect(getter, slow);
    world.connect(getter, late);
    let never = swarm_script(&mut world, getter, 66);
    let begun = world.now;
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(5 * SECOND);
    let ask = asked(&world, never).unwrap();
    world.say(never, Message::Lack { id: ask, code: "not_found".into() });
    world.share(late, "file");
    world.run_for(23 * SECOND);
    assert_eq!(asks(&world, never), 1, "not all the time");
    world.run_for(5 * SECOND);
    assert_eq!(asks(&world, never), 2);
    world.run_until(|world| world.has_got(getter));
    assert!(world.now - begun < 60 * SECOND, "the late one gave most of it: {:?}", world.sources(getter));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
}

#[test]
fn who_tells_again_what_it_has_is_refused_and_who_has_news_is_not() {
    let bytes = World::new(49).rng.bytes(40 * CHUNK);
    let (hash, entries) = (file_hash(&bytes), entries_of(&bytes));
    let mut world = World::new(49);
    let limits = Limits { refusals: 2, ..Limits::default() };
    let getter = world.secure_node_with(100, AcceptPolicy::Ask, limits);
    let [parrot, honest] = [60, 61].map(|who| swarm_script(&mut world, getter, who));
    world.get(getter, &Link::bare(hash)).unwrap();
    world.run_for(MOMENT);
    for script in [parrot, honest] {
        answer(&mut world, script, hash, bytes.len(), &entries, true);
    }
    for first in 0..20 {
        say_have(&mut world, honest, &[(first, 2)]);
    }
    assert!(!world.scripts[honest.0].closed, "{world:?}");
    assert!(pulled_from(&world, honest).contains(&0));
    say_have(&mut world, parrot, &[(30, 3)]);
    for _ in 0..2 {
        say_have(&mut world, parrot, &[(31, 2)]);
        assert!(!world.scripts[parrot.0].closed, "twice is forgiven");
    }
    say_have(&mut world, parrot, &[(30, 1)]);
    assert!(world.scripts[parrot.0].closed, "{world:?}");
    assert!(!is_banned(&world, getter, 60), "it is no lie");
}

#[test]
fn the_last_chunks_are_asked_of_two_and_the_second_to_send_is_told_that_it_need_not() {
    let bytes = World::new(50).rng.bytes(4 * CHUNK);
    let (hash, entries) = (file_hash(&bytes), entries_of(&bytes));
    let (mut world, getter, scripts) = searching(50, hash, 3);
    for script in &scripts {
        answer(&mut world, *script, hash, bytes.len(), &entries, false);
    }
    let asked_of: Vec<_> = scripts.iter().map(|script| pulled_from(&world, *script)).collect();
    assert_eq!(asked_of, [vec![0, 1, 2, 3], vec![0, 1, 2, 3], vec![]], "of two, and not of all");
    for index in [0, 1] {
        give(&mut world, scripts[1], &bytes, index);
    }
    world.run_for(MOMENT);
    for index in [2, 3] {
        give(&mut world, scripts[0], &bytes, index);
    }
    world.run_until(|world| world.has_got(getter));
    world.run_for(MOMENT);
    assert_eq!((unpulled(&world, scripts[0]), unpulled(&world, scripts[1])), (vec![0, 1], vec![2, 3]));
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(world.sources(getter).unwrap().iter().all(|source| source.wasted_bytes == 0));
}

#[test]
fn who_delivered_well_before_is_asked_first() {
    let bytes = World::new(51).rng.bytes(12 * CHUNK);
    let (hash, entries) = (file_hash(&bytes), entries_of(&bytes));
    let (mut world, getter, scripts) = searching(51, hash, 2);
    let well = Dealing { taken_bytes: 1 << 30, ..Dealing::default() };
    world.note(getter, &Change::Record(Identity([61; 32]), well, 1_800_000_000));
    slow_disk(&mut world, getter, SECOND);
    // Both are there before anything can be asked for.
    for script in &scripts {
        answer(&mut world, *script, hash, bytes.len(), &entries, false);
    }
    world.run_until(|world| !pulled_from(world, scripts[0]).is_empty());
    world.run_for(MOMENT);
    let counts = [0, 1].map(|n: usize| pulled_from(&world, scripts[n]).len());
    assert_eq!(counts, [4, 8], "a stranger gets what is left");
}

#[test]
fn what_becomes_of_a_false_list_is_not_taken_for_what_becomes_of_the_next() {
    let bytes = World::new(52).rng.bytes(4 * CHUNK);
    // Two lists of contents that are larger, but called the same.
    let large = [World::new(53).rng.bytes(8 * CHUNK), World::new(54).rng.bytes(8 * CHUNK)];
    let hash = file_hash(&bytes);
    let (mut world, getter, scripts) = searching(52, hash, 3);
    let honest = scripts[2];
    for (liar, large) in scripts.iter().zip(&large) {
        answer(&mut world, *liar, hash, large.len(), &entries_of(large), false);
        world.run_until(|world| !pulled_from(world, *liar).is_empty());
        world.run_for(MOMENT);
        assert_eq!(pulled_from(&world, *liar), [0, 1, 2, 3, 4, 5, 6, 7]);
        // The last one shows that it is not the file; the others are stored after that.
        slow_disk(&mut world, getter, SECOND / 5);
        for index in (0..8).rev() {
            give(&mut world, *liar, large, index);
        }
        world.run_until(|world| world.scripts[liar.0].closed);
    }
    answer(&mut world, honest, hash, bytes.len(), &entries_of(&bytes), false);
    serve(&mut world, honest, getter, &bytes);
    assert!(world.has_got(getter), "{world:?}");
    assert_eq!(world.nodes[getter.0].disk.downloads["file"], bytes);
    assert!(!is_banned(&world, getter, 62), "{world:?}");
}
