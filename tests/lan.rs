//! What nodes make of what is said on the local network, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use peer_to_peer::engine::{
    AcceptPolicy, Change, Code, Command, Event, Failure, Input, LanNews, NearbyInfo, Reply, Sighting,
};
use peer_to_peer::wire::{Instance, NodeId as Identity};
use world::{NodeId, SECOND, World, addr_of, name_of};

const BOB: Identity = Identity([2; 32]);

/// Two nodes that look at the local network, and were never connected; the first calls the second bob.
fn strangers(seed: u64) -> (World, NodeId, NodeId) {
    let mut world = World::new(seed);
    world.lan = true;
    let (a, b) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    world.run_command(a, Command::Alias(BOB.to_string().parse().unwrap(), "bob".parse().unwrap())).unwrap();
    (world, a, b)
}

/// A record, called so.
fn record(name: &str, node_id: Identity, addrs: &[SocketAddr]) -> LanNews {
    LanNews::Seen(Sighting { name: name.into(), node_id, instance: None, addrs: addrs.to_vec() })
}

impl World {
    fn hear(&mut self, node: NodeId, news: LanNews) {
        self.input(node, Input::Lan(news));
    }

    fn nearby(&mut self, node: NodeId) -> Vec<NearbyInfo> {
        match self.run_command(node, Command::Nearby) {
            Ok(Reply::Nearby(nearby)) => nearby,
            other => panic!("{other:?}"),
        }
    }

    fn connect_to(&mut self, node: NodeId, name: &str) -> Result<SocketAddr, Failure> {
        match self.run_command(node, Command::Connect(name.parse().unwrap())) {
            Ok(Reply::Connected { peer, .. }) => Ok(peer),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure),
        }
    }

    fn dialled(&self) -> Vec<String> {
        self.dials.iter().map(|(_, _, to)| to.clone()).collect()
    }
}

#[test]
fn who_is_near_is_listed_and_connected_to_by_alias_and_nothing_is_pinned() {
    let (mut world, a, b) = strangers(1);
    world.hear(a, record("r", BOB, &[addr_of(b)]));
    let [near] = world.nearby(a).try_into().unwrap();
    assert_eq!((near.node_id, near.addrs, near.peer), (BOB, vec![addr_of(b)], None));
    assert_eq!(near.alias.unwrap().to_string(), "bob");
    assert_eq!(world.connect_to(a, "bob").unwrap(), addr_of(b));
    assert_eq!(world.nearby(a)[0].peer, Some(addr_of(b)));
    assert!(world.nodes[a.0].book.pins.is_empty());
    assert_eq!(world.connect_to(a, "bob").unwrap(), addr_of(b), "connected already");
    assert_eq!(world.dialled().len(), 1);
}

#[test]
fn the_beginning_of_an_identity_names_a_stranger_nearby_if_it_is_long_enough() {
    let (mut world, a, b) = strangers(2);
    let carol = world.secure_node(3, AcceptPolicy::All);
    world.hear(a, record("r", Identity([3; 32]), &[addr_of(carol)]));
    assert_eq!(world.connect_to(a, &"03".repeat(4)).unwrap_err().code, Code::Usage);
    assert_eq!(world.connect_to(a, &"03".repeat(8)).unwrap(), addr_of(carol));
    let _ = b;
}

#[test]
fn a_record_that_begins_like_somebody_known_makes_nobody_unclear() {
    let (mut world, a, b) = strangers(16);
    let mut alike = BOB;
    alike.0[31] = 7;
    world.hear(a, record("lie", alike, &["10.0.0.9:8000".parse().unwrap()]));
    world.note(a, &Change::Pin(name_of(b).parse().unwrap(), BOB));
    assert_eq!(world.connect_to(a, &"02".repeat(8)).unwrap(), addr_of(b));
}

#[test]
fn a_record_that_claims_anothers_identity_leads_nowhere() {
    let (mut world, a, b) = strangers(3);
    let liar = world.secure_node(6, AcceptPolicy::All);
    world.hear(a, record("lie", BOB, &[addr_of(liar)]));
    let failure = world.connect_to(a, "bob").unwrap_err();
    assert_eq!(failure.code, Code::WrongIdentity);
    assert!(world.events(a, |event| matches!(event, Event::PeerConnected { .. }).then_some(())).is_empty());
    world.hear(a, record("truth", BOB, &[addr_of(b)]));
    world.hear(a, record("lie", BOB, &[addr_of(liar)]));
    assert_eq!(world.connect_to(a, "bob").unwrap(), addr_of(b), "the lie costs a dial");
}

#[test]
fn ten_thousand_lies_cost_a_few_dials() {
    let (mut world, a, b) = strangers(4);
    world.silent_dials = true;
    for lie in 0..10_000_u16 {
        let [high, low] = lie.to_be_bytes();
        let addrs: Vec<_> = (0..20).map(|n| SocketAddr::from(([10, high, low, n], 8000))).collect();
        world.hear(a, record(&format!("lie{lie}"), BOB, &addrs));
        world.hear(a, record(&format!("other{lie}"), Identity([low | 8; 32]), &addrs));
    }
    assert!(world.nearby(a).len() <= 256);
    world.hear(a, record("truth", BOB, &[addr_of(b)]));
    assert_eq!(world.connect_to(a, "bob").unwrap(), addr_of(b));
    assert!(world.dialled().len() <= 16, "{}", world.dialled().len());
}

#[test]
fn lies_that_come_later_drive_out_neither_who_is_there_nor_where_it_was_reached_before() {
    for is_pinned in [false, true] {
        let (mut world, a, b) = strangers(14);
        world.silent_dials = true;
        if is_pinned {
            world.note(a, &Change::Pin(name_of(b).parse().unwrap(), BOB));
        } else {
            world.hear(a, record("truth", BOB, &[addr_of(b)]));
        }
        for lie in 0..100 {
            let addrs: Vec<_> = (0..8).map(|n| SocketAddr::from(([10, 9, lie, n], 8000))).collect();
            world.hear(a, record(&format!("lie{lie}"), BOB, &addrs));
        }
        let began = world.now;
        assert_eq!(world.connect_to(a, "bob").unwrap(), addr_of(b));
        assert!(world.now - began < SECOND, "nobody waits for those who do not answer");
        assert!(world.dialled().len() <= 6, "{:?}", world.dialled());
    }
}

#[test]
fn places_that_are_no_neighbours_are_not_dialled() {
    let (mut world, a, _) = strangers(5);
    let nobody = ["127.0.0.1:8000", "10.0.0.1:22", "224.0.0.251:5353", "0.0.0.0:8000", "10.0.0.9:0"];
    let nobody: Vec<SocketAddr> = nobody.iter().map(|addr| addr.parse().unwrap()).collect();
    world.hear(a, record("r", BOB, &nobody));
    world.hear(a, record(&"n".repeat(100), BOB, &["10.0.0.1:8000".parse().unwrap()]));
    assert_eq!(world.nearby(a), []);
    assert_eq!(world.connect_to(a, "bob").unwrap_err().code, Code::Unreachable);
    assert_eq!(world.dialled(), [""; 0]);
}

#[test]
fn this_node_itself_is_not_its_own_neighbour() {
    let (mut world, a, _) = strangers(6);
    let own = |instance| Sighting {
        name: "r".into(),
        node_id: Identity([1; 32]),
        instance: Some(instance),
        addrs: vec!["10.0.0.5:8000".parse().unwrap()],
    };
    world.hear(a, LanNews::Seen(own(Instance(0))));
    assert_eq!(world.nearby(a), []);
    world.hear(a, LanNews::Seen(own(Instance(77))));
    assert!(world.nearby(a)[0].is_own, "another process of the same user");
}

#[test]
fn who_has_just_started_waits_a_moment_for_the_network_to_tell() {
    let (mut world, a, b) = strangers(7);
    let connecting = world.command(a, Command::Connect("bob".parse().unwrap()));
    world.run_for(3 * SECOND);
    assert!(!world.nodes[a.0].replies.contains_key(&connecting));
    world.hear(a, record("r", BOB, &[addr_of(b)]));
    world.run_until(|world| world.nodes[a.0].replies.contains_key(&connecting));
    assert!(world.nodes[a.0].replies[&connecting].is_ok());
}

#[test]
fn who_is_nowhere_is_not_waited_for_long_and_the_error_says_what_to_do() {
    let (mut world, a, _) = strangers(8);
    let began = world.now;
    let failure = world.connect_to(a, "bob").unwrap_err();
    assert_eq!(failure.code, Code::Unreachable);
    assert!(failure.message.contains("`connect host:port`"), "{failure}");
    assert!(world.now - began <= 6 * SECOND);
    let unknown = world.connect_to(a, "localhost").unwrap_err();
    assert!(unknown.message.contains("an address is written host:port"), "{unknown}");
}

#[test]
fn who_was_reached_before_is_found_by_alias_without_the_local_network() {
    let mut world = World::new(9);
    let (a, b) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    world.first_contact = true;
    world.note(a, &Change::Pin(name_of(b).parse().unwrap(), BOB));
    world.run_command(a, Command::Alias(BOB.to_string().parse().unwrap(), "bob".parse().unwrap())).unwrap();
    assert_eq!(world.connect_to(a, "bob").unwrap(), addr_of(b));
    assert_eq!(world.dialled(), [name_of(b)]);
    let failure = world.run_command(a, Command::Nearby).unwrap_err();
    assert!(failure.message.contains("--lan"), "{failure}");
}

#[test]
fn a_peer_whose_address_changed_is_found_again_and_the_transfer_goes_on() {
    let (mut world, a, b) = strangers(10);
    let bytes = world.put(a, "file", 40 << 20);
    world.run_command(a, Command::Connect(name_of(b).parse().unwrap())).unwrap();
    world.send_file(a, "bob", "file");
    world.run_for(Duration::from_millis(100));
    // It is in another place of the network now, and another answers where it was.
    world.deserted.insert(name_of(b));
    world.cut(a);
    world.run_for(2 * SECOND);
    assert!(world.nodes[b.0].disk.downloads.is_empty());
    world.hear(a, record("lie", BOB, &["10.9.9.9:8000".parse().unwrap()]));
    world.hear(a, record("r", BOB, &[addr_of(b)]));
    world.run_until(|world| !world.nodes[b.0].disk.downloads.is_empty());
    assert!(world.nodes[b.0].disk.downloads.values().eq([&bytes]));
}

#[test]
fn who_was_found_nearby_is_dialled_again_when_the_connection_breaks() {
    let (mut world, a, b) = strangers(11);
    world.hear(a, record("r", BOB, &[addr_of(b)]));
    world.connect_to(a, "bob").unwrap();
    world.cut(a);
    let connections = world.connections();
    world.run_until(|world| world.connections() > connections);
    world.run_for(SECOND);
    assert_eq!(world.nearby(a)[0].peer, Some(addr_of(b)));
}

#[test]
fn lies_about_who_is_waited_for_do_not_make_this_node_dial_all_the_time() {
    let (mut world, a, b) = strangers(15);
    world.run_command(a, Command::Connect(name_of(b).parse().unwrap())).unwrap();
    world.deserted.insert(name_of(b));
    world.cut(a);
    world.run_for(SECOND);
    let before = world.dials.len();
    for lie in 0..640_u16 {
        let [high, low] = lie.to_be_bytes();
        world.hear(a, record("lie", BOB, &[SocketAddr::from(([10, 9, high, low], 8000))]));
        world.run_for(SECOND / 64);
    }
    let dials = world.dials.len() - before;
    assert!((5..=14).contains(&dials), "{dials} dials in ten seconds");
}

#[test]
fn of_several_places_the_first_that_answers_is_taken_and_no_second_connection_stays() {
    let (mut world, a, b) = strangers(12);
    let other_process = world.secure_node(2, AcceptPolicy::All);
    world.hear(a, record("one", BOB, &[addr_of(b)]));
    world.hear(a, record("two", BOB, &[addr_of(other_process)]));
    world.connect_to(a, "bob").unwrap();
    world.run_for(SECOND);
    match world.run_command(a, Command::Peers) {
        Ok(Reply::Peers(peers)) => assert_eq!(peers.len(), 1, "{peers:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_looked_at_is_told_once_and_by_the_list() {
    let (mut world, a, _) = strangers(13);
    for _ in 0..3 {
        world.hear(a, LanNews::Away { why: "no network".into() });
    }
    let warnings = world.events(a, |event| match event {
        Event::Warning { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert_eq!(warnings, ["--lan: no network; tries again from time to time"]);
    assert!(world.run_command(a, Command::Nearby).unwrap_err().message.contains("no network"));
    world.hear(a, LanNews::Joined);
    assert_eq!(world.nearby(a), []);
}
