//! What nodes make of what a DHT says, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use peer_to_peer::engine::{
    AcceptPolicy, Change, Code, Command, DhtState, Event, Input, Limits, Mapping, Reply,
};
use peer_to_peer::wire::{DhtKey, Link, NodeId as Identity};
use world::disk_model::file_hash;
use world::swarm::{CHUNK, bare};
use world::{Dht, NodeId, SECOND, World, addr_of};

/// A world whose nodes take part in a DHT that was entered from everywhere.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.dht = Some(Dht::new([12, 0, 0, 1]));
    world
}

impl World {
    fn member(&mut self, identity: u8) -> NodeId {
        self.secure_node(identity, AcceptPolicy::Ask)
    }

    /// A node that shares a file, which no other node is connected to.
    fn sharer(&mut self, identity: u8, bytes: &[u8]) -> NodeId {
        let node = self.member(identity);
        self.nodes[node.0].disk.files.insert("file".into(), bytes.to_vec());
        self.share_with(node, false);
        node
    }

    fn share_with(&mut self, node: NodeId, known_only: bool) {
        let command = Command::Share { path: "file".into(), known_only, is_kept: true };
        assert!(matches!(self.run_command(node, command), Ok(Reply::Shared(_))));
    }

    fn warnings(&self, node: NodeId) -> Vec<String> {
        self.events(node, |event| match event {
            Event::Warning { peer: None, text } => Some(text.clone()),
            _ => None,
        })
    }

    fn announced(&self, bytes: &[u8]) -> BTreeSet<SocketAddr> {
        let key = DhtKey::of(file_hash(bytes));
        self.dht.as_ref().unwrap().announced.get(&key).cloned().unwrap_or_default()
    }

    fn lie(&mut self, answers: Vec<Vec<SocketAddr>>) {
        self.dht.as_mut().unwrap().lies = answers;
    }

    fn dialled_by(&self, node: NodeId) -> Vec<(Duration, &str)> {
        let of = self.dials.iter().filter(|(_, by, _)| *by == node);
        of.map(|(at, _, to)| (*at, to.as_str())).collect()
    }
}

/// Ten thousand places where nobody is, from so many nodes of the DHT.
fn ten_thousand(answers: u16) -> Vec<Vec<SocketAddr>> {
    let address = |n: u16| {
        let [high, low] = n.to_be_bytes();
        SocketAddr::from(([12, 51, high, low], 2000 + n))
    };
    let each = 10_000 / answers;
    (0..answers).map(|answer| (0..each).map(|n| address(answer * each + n)).collect()).collect()
}

#[test]
fn a_hash_is_enough_to_fetch_from_all_who_announce_it() {
    let mut world = world(1);
    let bytes = world.rng.bytes(60 * CHUNK);
    let sharers = [world.sharer(1, &bytes), world.sharer(2, &bytes)];
    let getter = world.member(3);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.announced(&bytes).len() == 3);
    assert!(!world.has_got(getter), "what is here of it is served on, and announced");
    world.run_until(|world| world.has_got(getter));
    assert_eq!(world.sources(getter).unwrap().len(), 2);
    assert_eq!(world.announced(&bytes).len(), 3, "and so is the whole");
    assert!(world.nodes[getter.0].book.pins.is_empty(), "who was found is not pinned");
    let unshare = Command::Unshare(file_hash(&bytes).to_string());
    world.run_command(sharers[0], unshare).unwrap();
    assert!(!world.announced(&bytes).contains(&addr_of(sharers[0])));
}

#[test]
fn what_only_trusted_peers_may_fetch_is_neither_announced_nor_looked_up() {
    let mut world = world(2);
    let bytes = world.rng.bytes(CHUNK);
    let sharer = world.member(1);
    world.nodes[sharer.0].disk.files.insert("file".into(), bytes.clone());
    world.share_with(sharer, true);
    let getter = world.member(2);
    let mut link = Link::bare(file_hash(&bytes));
    link.known_only = true;
    let failure = world.run_command(getter, Command::Get(Box::new(link))).unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    assert!(world.announced(&bytes).is_empty());
    assert!(world.dht.as_ref().unwrap().looked_up.is_empty());
}

#[test]
fn who_comes_later_is_found_too_and_meanwhile_it_is_said_that_nobody_is_there() {
    let mut world = world(3);
    let bytes = world.rng.bytes(4 * CHUNK);
    let getter = world.member(1);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(100 * SECOND);
    let said = world.warnings(getter);
    assert_eq!(said, ["[1] the DHT knows nobody who has it yet; still looking"]);
    world.sharer(2, &bytes);
    world.run_for(70 * SECOND);
    assert!(world.has_got(getter), "{world:?}");
    let asked = &world.dht.as_ref().unwrap().looked_up[&DhtKey::of(file_hash(&bytes))];
    let pauses: Vec<_> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert!(pauses.is_sorted() && pauses.iter().all(|pause| (5..=65).contains(pause)), "{pauses:?}");
}

#[test]
fn what_nobody_has_is_given_up_in_the_end() {
    let mut world = world(4);
    let getter = world.member(1);
    let id = world.get(getter, &bare(b"nobody has it")).unwrap();
    world.run_for(Limits::default().starved - SECOND);
    assert_eq!(world.failures(getter), []);
    world.run_for(10 * SECOND);
    let [(code, reason)] = world.failures(getter).try_into().unwrap();
    assert!(code == Code::NotFound && reason.contains("DHT"), "[{id}] {reason}");
    let asked = world.dht.as_ref().unwrap().looked_up.clone();
    world.run_to_end();
    assert_eq!(world.dht.as_ref().unwrap().looked_up, asked, "nothing goes on");
}

#[test]
fn ten_thousand_lies_cost_a_few_dials_and_slow_nothing() {
    for (answers, silent_dials) in [(1, true), (100, true), (100, false)] {
        let mut world = world(5);
        // Who is not there refuses at once, or keeps a dial busy for as long as one may be.
        world.silent_dials = silent_dials;
        world.lie(ten_thousand(answers));
        let bytes = world.rng.bytes(30 * CHUNK);
        let sharer = world.sharer(1, &bytes);
        let getter = world.member(2);
        world.connect(getter, sharer);
        world.run_for(SECOND);
        let begun = world.now;
        world.get(getter, &bare(&bytes)).unwrap();
        world.run_until(|world| world.has_got(getter));
        assert!(world.now - begun < SECOND, "it is fetched from who is known as ever");
        // And one for what nobody has, as long as it is searched for.
        world.get(getter, &bare(b"nobody has it")).unwrap();
        world.run_for(Limits::default().starved + 10 * SECOND);
        let dials = world.dialled_by(getter);
        let mut in_second = BTreeMap::new();
        for (at, _) in &dials {
            *in_second.entry(at.as_secs()).or_insert(0) += 1;
        }
        assert!(in_second.values().all(|dials| *dials <= 16), "{in_second:?}");
        let places: BTreeSet<_> = dials.iter().map(|(_, to)| *to).collect();
        let most = if answers == 1 { 1 + 16 * 12 } else { 1 + 128 * 12 };
        assert!(places.len() <= most, "{} places", places.len());
    }
}

#[test]
fn an_honest_answer_among_lies_is_found() {
    let mut world = world(6);
    world.silent_dials = true;
    world.lie(ten_thousand(6));
    let bytes = world.rng.bytes(4 * CHUNK);
    world.sharer(1, &bytes);
    let getter = world.member(2);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(60 * SECOND);
    assert!(world.has_got(getter), "{world:?}");
}

#[test]
fn who_answers_first_and_most_and_always_something_new_keeps_nobody_out() {
    let mut found = 0;
    for seed in 20..30 {
        let mut world = world(seed);
        world.silent_dials = true;
        let bytes = world.rng.bytes(CHUNK);
        world.sharer(1, &bytes);
        let getter = world.member(2);
        let lies = |round: u8| {
            let of_one = |answer| (0..16).map(move |n| SocketAddr::from(([9, round, answer, n], 2000)));
            (0..60).map(|answer| of_one(answer).collect()).collect()
        };
        world.lie(lies(0));
        world.get(getter, &bare(&bytes)).unwrap();
        // The honest answer comes last each time, and the liars never repeat themselves.
        for round in 1..=140 {
            world.run_for(2 * SECOND);
            world.lie(lies(round));
        }
        found += usize::from(world.has_got(getter));
    }
    assert!(found >= 9, "{found} of 10");
}

#[test]
fn who_names_other_ports_where_somebody_is_does_not_keep_it_out() {
    let mut world = world(19);
    let bytes = world.rng.bytes(CHUNK);
    let sharer = world.sharer(1, &bytes);
    let host = addr_of(sharer).ip();
    world.lie(vec![(0..64).map(|n| SocketAddr::new(host, 2000 + n)).collect()]);
    let getter = world.member(2);
    world.dht.as_mut().unwrap().announced.clear();
    world.get(getter, &bare(&bytes)).unwrap();
    // What was named so was dialled long before.
    world.run_for(30 * SECOND);
    world.lie(vec![vec![addr_of(sharer)]]);
    world.run_for(30 * SECOND);
    assert!(world.has_got(getter), "{world:?}");
}

#[test]
fn who_comes_later_is_found_where_a_download_has_lost_all_who_sent_it() {
    let mut world = world(21);
    world.line.bytes_per_sec = 500_000;
    let bytes = world.rng.bytes(60 * CHUNK);
    let first = world.sharer(1, &bytes);
    let getter = world.member(2);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.announced(&bytes).len() == 2);
    world.run_command(first, Command::Unshare(file_hash(&bytes).to_string())).unwrap();
    world.run_for(70 * SECOND);
    assert!(!world.has_got(getter));
    world.line.bytes_per_sec = 100_000_000;
    world.sharer(3, &bytes);
    world.run_for(70 * SECOND);
    assert!(world.has_got(getter), "{world:?}");
}

#[test]
fn it_is_announced_with_the_port_by_which_others_come_in_there() {
    let mapped = |external: &str| Mapping::Mapped { external: external.parse().unwrap(), by: "PCP" };
    let failed = Mapping::Failed { why: "not allowed".into() };
    let mut world = world(22);
    let node = world.member(1);
    let listening = addr_of(node).port();
    world.input(node, Input::Mapping(mapped("9.9.9.9:40000")));
    // As it is in the DHT each minute.
    world.join_dht(node);
    world.input(node, Input::Mapping(mapped("10.0.0.1:40001")));
    world.input(node, Input::Mapping(mapped("9.9.9.9:40002")));
    world.input(node, Input::Mapping(failed));
    let said = [40000, listening, 40002, listening].map(|port| (node, port));
    assert_eq!(world.dht.as_ref().unwrap().ports, said);
    // Within a network of one's own others come in as ever.
    world.dht = Some(Dht::new([10, 0, 0, 1]));
    let node = world.member(2);
    world.input(node, Input::Mapping(mapped("9.9.9.9:40000")));
    assert_eq!(world.dht.as_ref().unwrap().ports, []);
    // It turns out to be another one.
    world.dht.as_mut().unwrap().entry = [12, 0, 0, 1].into();
    world.join_dht(node);
    assert_eq!(world.dht.as_ref().unwrap().ports, [(node, 40000)]);
}

#[test]
fn places_where_nobody_was_make_room_for_others() {
    let mut world = world(12);
    world.lie(ten_thousand(100));
    let bytes = world.rng.bytes(4 * CHUNK);
    let getter = world.member(1);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(60 * SECOND);
    world.lie(Vec::new());
    world.sharer(2, &bytes);
    world.run_for(150 * SECOND);
    assert!(world.has_got(getter), "{world:?}");
}

#[test]
fn lies_leave_room_for_what_peers_tell() {
    let mut world = World::new(13);
    let bytes = world.rng.bytes(60 * CHUNK);
    let seeder = world.sharer(1, &bytes);
    // Somebody who dials nobody else, and whom no DHT knows.
    let limits = Limits { found_dials: 0, ..Limits::default() };
    let other = world.secure_node_with(2, AcceptPolicy::Ask, limits);
    world.dht = Some(Dht::new([12, 0, 0, 1]));
    world.lie(ten_thousand(100));
    let getter = world.member(3);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(3 * SECOND);
    world.line.bytes_per_sec = 1_000_000;
    world.connect(other, seeder);
    world.get(other, &bare(&bytes)).unwrap();
    world.run_for(SECOND);
    world.connect(getter, seeder);
    world.run_until(|world| world.has_got(getter));
    let there = addr_of(other).to_string();
    assert!(world.dialled_by(getter).iter().any(|(_, to)| *to == there), "{world:?}");
}

#[test]
fn nobody_is_sent_to_other_services_or_to_networks_nearby_or_to_itself() {
    for (entry, not_dialled) in [
        ([12, 0, 0, 1], &["127.0.0.1:8000", "10.0.0.1:8000", "100.64.0.1:8000", "224.0.0.1:8000"][..]),
        ([10, 0, 0, 1], &["127.0.0.1:8000"]),
        ([127, 0, 0, 1], &[]),
    ] {
        let mut world = World::new(7);
        world.dht = Some(Dht::new(entry));
        let getter = world.member(1);
        let bad = ["12.0.2.9:22", "12.0.2.9:443", "12.0.2.9:1023", "12.0.2.9:0", "0.0.0.0:8000"];
        let good = "12.0.2.77:1024";
        let named = bad.iter().chain(not_dialled).chain([&good]);
        let mut named: Vec<SocketAddr> = named.map(|addr| addr.parse().unwrap()).collect();
        named.push(addr_of(getter));
        world.lie(vec![named]);
        world.get(getter, &bare(b"nobody has it")).unwrap();
        world.run_for(100 * SECOND);
        let dialled: BTreeSet<_> = world.dialled_by(getter).into_iter().map(|(_, to)| to).collect();
        assert_eq!(dialled, [good].into());
        let said = world.warnings(getter);
        assert_eq!(said, ["[1] nobody has it yet where the DHT says; still looking"]);
    }
}

#[test]
fn one_host_is_not_flooded_because_somebody_said_so() {
    let mut world = world(8);
    let victim = |n: u16| SocketAddr::from(([12, 51, 100, 7], 2000 + n));
    world.lie((0..100).map(|answer| (0..100).map(|n| victim(answer * 100 + n)).collect()).collect());
    let getter = world.member(1);
    world.get(getter, &bare(b"nobody has it")).unwrap();
    world.run_for(20 * SECOND);
    let places: BTreeSet<_> = world.dialled_by(getter).into_iter().map(|(_, to)| to).collect();
    assert!((1..=32).contains(&places.len()), "{}", places.len());
}

/// So many places at one host where nobody is.
fn places(host: [u8; 4], count: u16) -> Vec<SocketAddr> {
    (0..count).map(|n| SocketAddr::from((host, 2000 + n))).collect()
}

#[test]
fn what_a_dht_says_takes_half_of_the_room_for_dials_at_most() {
    let mut world = world(14);
    world.silent_dials = true;
    world.lie(ten_thousand(100));
    let getter = world.member(1);
    world.get(getter, &bare(b"nobody has it")).unwrap();
    world.run_for(60 * SECOND);
    let dials = world.dialled_by(getter);
    // Each takes four seconds.
    let under_way =
        |at: Duration| dials.iter().filter(move |(begun, _)| *begun <= at && at < *begun + 4 * SECOND);
    assert_eq!(dials.iter().map(|(at, _)| under_way(*at).count()).max(), Some(8));

    // Those that are refused at once are begun half as often as could be.
    world.silent_dials = false;
    let other = world.member(2);
    world.get(other, &bare(b"nobody has it")).unwrap();
    world.run_for(60 * SECOND);
    let mut in_second = BTreeMap::new();
    for (at, _) in world.dialled_by(other) {
        *in_second.entry(at.as_secs()).or_insert(0) += 1;
    }
    assert_eq!(in_second.values().max(), Some(&8), "{in_second:?}");
}

#[test]
fn searches_take_turns_in_what_room_there_is_for_dials() {
    let mut world = world(15);
    world.silent_dials = true;
    let getter = world.member(1);
    let hosts = [[12, 51, 0, 1], [12, 51, 0, 2], [12, 51, 0, 3], [12, 51, 0, 4]];
    for (n, host) in (0..).zip(hosts) {
        // All that the look-up of this one is answered, and of no other.
        world.lie(places(host, 16).chunks(4).map(<[_]>::to_vec).collect());
        world.get(getter, &bare(&[n])).unwrap();
        world.lie(Vec::new());
    }
    // Eight at once, of four seconds each, looked after every two.
    world.run_for(13 * SECOND);
    let counts = hosts.map(|host| {
        let at_host = |to: &str| to.starts_with(&format!("{}:", std::net::Ipv4Addr::from(host)));
        world.dialled_by(getter).iter().filter(|(_, to)| at_host(to)).count()
    });
    assert!(counts[1..].iter().all(|count| *count >= 4), "{counts:?}");
}

#[test]
fn a_place_is_dialled_no_more_often_because_others_are_named_in_between() {
    let mut world = world(16);
    let getter = world.member(1);
    world.get(getter, &bare(b"nobody has it")).unwrap();
    let victim = "12.51.100.7";
    for round in 0..9 {
        // Now these ports of it and now those, behind so many others that what was tried gives way.
        let port = |n: u16| SocketAddr::from(([12, 51, 100, 7], 2000 + 16 * (round % 3) + n));
        let ports = (0..4).map(|answer| (0..4).map(|n| port(4 * answer + n)).collect());
        let others = (0..64).map(|answer| places([12, 52, u8::try_from(round).unwrap(), answer], 4));
        world.lie(ports.chain(others).collect());
        world.run_for(32 * SECOND);
    }
    let mut tries = BTreeMap::new();
    for (_, to) in world.dialled_by(getter).iter().filter(|(_, to)| to.starts_with(victim)) {
        *tries.entry(*to).or_insert(0) += 1;
    }
    assert!(tries.len() <= 16 && tries.values().all(|tries| *tries <= 3), "{tries:?}");
}

#[test]
fn what_is_of_no_use_in_an_answer_does_not_hide_the_rest() {
    let getter_addr = addr_of(NodeId(1));
    let of_other_services = (0..100).map(|n| SocketAddr::from(([12, 0, 3, n], 22))).collect();
    let private = (0..100).map(|n| SocketAddr::from(([10, 0, 0, n], 8000))).collect();
    let flood = places([12, 51, 0, 1], 100);
    for bad in [vec![getter_addr; 100], of_other_services, private, flood] {
        let mut world = world(17);
        world.silent_dials = true;
        let bytes = world.rng.bytes(CHUNK);
        let sharer = world.sharer(1, &bytes);
        let getter = world.member(2);
        assert_eq!(addr_of(getter), getter_addr);
        // Nothing else leads there.
        world.dht.as_mut().unwrap().announced.clear();
        let good = [addr_of(sharer)];
        world.lie(vec![bad.iter().chain(&good).chain(&bad).copied().collect()]);
        world.get(getter, &bare(&bytes)).unwrap();
        world.run_for(20 * SECOND);
        assert!(world.has_got(getter), "{:?}", bad[0]);
    }
}

#[test]
fn nobody_is_asked_any_more_about_what_turns_out_to_be_for_trusted_peers() {
    let mut world = world(18);
    world.line.bytes_per_sec = 1_000_000;
    let bytes = world.rng.bytes(60 * CHUNK);
    let sharer = world.member(1);
    world.nodes[sharer.0].disk.files.insert("file".into(), bytes.clone());
    world.share_with(sharer, true);
    let getter = world.member(2);
    let name = world.connect(getter, sharer);
    world.note(sharer, &Change::Trust(Identity([2; 32])));
    world.lie(ten_thousand(10));
    let id = world.get(getter, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(getter));
    let dialled: Vec<_> = world.dialled_by(getter).into_iter().map(|(_, to)| to).collect();
    assert_eq!(dialled, [name.as_str()], "nobody else");
    let dht = world.dht.as_ref().unwrap();
    assert_eq!(dht.looked_up[&DhtKey::of(file_hash(&bytes))].len(), 1, "before it was known");
    assert_eq!(dht.stopped.first(), Some(&(getter, id)));
    assert_eq!(dht.stopped.len(), 2, "once when it was known, and at the end");
    assert!(world.announced(&bytes).is_empty());
}

#[test]
fn somebody_who_is_found_and_does_not_have_it_is_only_asked() {
    let mut world = world(9);
    let bytes = world.rng.bytes(4 * CHUNK);
    let other = world.member(1);
    world.lie(vec![vec![addr_of(other)]]);
    let getter = world.member(2);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(30 * SECOND);
    assert_eq!(world.dialled_by(getter).len(), 1, "it is there, and not dialled again");
    assert!(world.nodes[getter.0].book.pins.is_empty());
    world.sharer(3, &bytes);
    world.run_for(70 * SECOND);
    assert!(world.has_got(getter));
}

#[test]
fn that_nobody_answers_is_said_once_and_when_somebody_does_again() {
    let mut world = world(10);
    let node = world.member(1);
    let away = || DhtState::Away { why: "the DHT cannot be reached: no network".into() };
    world.hear_of_dht(node, away());
    world.hear_of_dht(node, away());
    world.get(node, &bare(b"nobody has it")).unwrap();
    world.join_dht(node);
    let said = world.warnings(node);
    assert_eq!(
        said,
        [
            "the DHT cannot be reached: no network; tries again from time to time",
            "[1] the DHT cannot be reached so far; still trying",
            "the DHT can be reached again"
        ]
    );
}

#[test]
fn who_takes_part_in_no_dht_says_nothing_to_one() {
    let mut world = World::new(11);
    let bytes = world.rng.bytes(CHUNK);
    // The world panics where somebody speaks to a DHT that is not there.
    let sharer = world.sharer(1, &bytes);
    let getter = world.member(2);
    let bare = Command::Get(Box::new(Link::bare(file_hash(&bytes))));
    let failure = world.run_command(getter, bare.clone()).unwrap_err();
    assert!(failure.message.contains("nobody is connected"), "{failure:?}");
    world.connect(getter, sharer);
    world.run_command(getter, bare).unwrap();
    world.run_until(|world| world.has_got(getter));
}
