//! Identities in the simulated network: who may speak, doubles, trust, and how peers are called.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{AcceptPolicy, Change, Code, Command, Event, Limits, PeerInfo, PeerRef, Reply};
use peer_to_peer::wire::{BadLine, Hello, Instance, Message, NodeId as Identity, Offer, SafeName};
use world::disk_model::manifest_of;
use world::{NodeId, SECOND, World, addr_of, name_of};

fn peers(world: &mut World, node: NodeId) -> Vec<PeerInfo> {
    match world.run_command(node, Command::Peers) {
        Ok(Reply::Peers(peers)) => peers,
        other => panic!("{other:?}"),
    }
}

fn peer(name: &str) -> PeerRef {
    name.parse().unwrap()
}

fn hello(instance: u128) -> Message {
    Message::Hello(Hello {
        version: 1,
        agent: "script".into(),
        // A claim, which counts for nothing.
        node_id: Some(Identity([0xff; 32])),
        instance: Instance(instance),
        listen_port: 0,
        your_addr: None,
        features: vec![],
    })
}

#[test]
fn who_does_not_say_hello_first_or_in_time_is_dropped() {
    let mut world = World::new(1);
    let node = world.secure_node(1, AcceptPolicy::All);
    let talker = world.script_as(Some(Identity([2; 32])), node);
    world.say(talker, Message::Text("hi".into()));
    let mumbler = world.script_as(Some(Identity([2; 32])), node);
    world.say_bad_line(mumbler, BadLine::NotAMessage("expected value".into()));
    let silent = world.script_as(Some(Identity([2; 32])), node);
    let polite = world.script_as(Some(Identity([2; 32])), node);
    world.say(polite, hello(9));
    world.run_for(9 * SECOND);
    let closed =
        |world: &World| [talker, mumbler, silent, polite].map(|script| world.scripts[script.0].closed);
    assert_eq!(closed(&world), [true, true, false, false]);
    world.run_for(2 * SECOND);
    assert_eq!(closed(&world), [true, true, true, false]);
    let heard = world.events(node, |event| matches!(event, Event::Message { .. }).then_some(()));
    assert!(heard.is_empty());
    assert_eq!(
        peers(&mut world, node)[0].node_id,
        Some(Identity([2; 32])),
        "the handshake's, not the claimed one"
    );
}

#[test]
fn of_many_simultaneous_cross_dials_one_connection_each_is_left() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        world.line.latency = Duration::from_millis(1 + world.rng.below(100));
        // Some of them are processes of one identity.
        let nodes: Vec<_> = (0..2 + world.rng.below(4))
            .map(|n| world.secure_node(u8::try_from(n / 2).unwrap(), AcceptPolicy::All))
            .collect();
        let mut dials = Vec::new();
        for &from in &nodes {
            for &to in nodes.iter().filter(|to| **to != from) {
                let target = addr_of(to).to_string().parse().unwrap();
                dials.push((from, world.command(from, Command::Connect(target))));
                let pause = Duration::from_micros(world.rng.below(60_000));
                if world.rng.below(2) == 0 {
                    world.run_for(pause);
                }
            }
        }
        world.run_for(30 * SECOND);
        for (from, dial) in dials {
            let reply = &world.nodes[from.0].replies[&dial];
            assert!(matches!(reply, Ok(Reply::Connected { .. })), "seed {seed}: {reply:?} {world:?}");
        }
        for &node in &nodes {
            let found = peers(&mut world, node);
            assert_eq!(found.len(), nodes.len() - 1, "seed {seed}: {found:?} {world:?}");
            for &to in nodes.iter().filter(|to| **to != node) {
                let name = peer(&addr_of(to).to_string());
                let text = format!("{} to {}", node.0, to.0);
                let reply = world.run_command(node, Command::SendText(name, text));
                assert!(reply.is_ok(), "seed {seed}: what was dialled stays its name: {reply:?} {world:?}");
            }
        }
        world.run_for(SECOND);
        for &node in &nodes {
            let heard = world.events(node, |event| {
                if let Event::Message { text, .. } = event { Some(text.clone()) } else { None }
            });
            assert_eq!(heard.len(), nodes.len() - 1, "seed {seed}");
            assert!(
                heard.iter().all(|text| text.ends_with(&format!("to {}", node.0))),
                "seed {seed}: {heard:?}"
            );
        }
    }
}

#[test]
fn processes_of_one_identity_connect_but_none_to_itself() {
    let mut world = World::new(2);
    let (one, other) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(1, AcceptPolicy::Ask));
    world.connect(one, other);
    assert_eq!(world.nodes[one.0].book.pins[&addr_of(other).to_string().parse().unwrap()], Identity([1; 32]));
    let own = addr_of(one).to_string().parse().unwrap();
    assert_eq!(world.run_command(one, Command::Connect(own)).unwrap_err().code, Code::SelfConnection);
    world.run_for(SECOND);
    assert_eq!(peers(&mut world, one).len(), 1);
    assert_eq!(world.nodes[one.0].book.pins.len(), 1, "one's own address is pinned to nobody");
    // What one's own other terminal sends is taken without asking.
    world.nodes[one.0].disk.files.insert("a".into(), b"mine".to_vec());
    let name = peer(&addr_of(other).to_string());
    world.run_command(one, Command::SendFile { to: name, path: "a".into(), name: None }).unwrap();
    world.run_for(SECOND);
    assert_eq!(world.nodes[other.0].disk.downloads["a"], b"mine");
}

#[test]
fn another_identity_with_a_stolen_instance_is_not_taken_for_a_double() {
    let mut world = World::new(3);
    let node = world.secure_node(1, AcceptPolicy::All);
    let honest = world.script_as(Some(Identity([2; 32])), node);
    world.say(honest, hello(7));
    world.run_for(SECOND);
    let thief = world.script_as(Some(Identity([3; 32])), node);
    world.say(thief, hello(7));
    // Nor is one who claims to be this very process.
    let mirror = world.script_as(Some(Identity([4; 32])), node);
    world.say(mirror, hello(0));
    world.run_for(SECOND);
    assert_eq!(peers(&mut world, node).len(), 3);
    // Nor does anybody take the place of somebody who was dialled, whoever has the lower id.
    let other = world.secure_node(5, AcceptPolicy::All);
    world.connect(node, other);
    for thief in [0, 6] {
        let thief = world.script_as(Some(Identity([thief; 32])), node);
        world.say(thief, hello(other.0 as u128));
    }
    world.run_for(SECOND);
    assert_eq!(peers(&mut world, node).len(), 6);
}

#[test]
fn offers_of_trusted_peers_are_taken_and_others_asked_about() {
    let mut world = World::new(4);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let friend = world.script_as(Some(Identity([2; 32])), node);
    world.say(friend, hello(7));
    let offer = |name: &str| {
        let (name, manifest) = (SafeName::new(name).unwrap(), manifest_of(name.as_bytes()));
        Message::FileOffer(Offer { name, manifest })
    };
    let asked = |world: &World| {
        world.events(node, |event| {
            if let Event::Offer { expires_in, .. } = event { Some(expires_in.is_some()) } else { None }
        })
    };
    world.say(friend, offer("before"));
    world.run_for(SECOND);
    assert_eq!(asked(&world), [true]);
    let id = Identity([2; 32]);
    let short = world.run_command(node, Command::Trust(peer(&id.to_string()[..15]))).unwrap_err();
    assert_eq!(short.code, Code::UnknownPeer, "anybody can have an id that begins like another's");
    let prefix = id.to_string()[..16].to_owned();
    assert_eq!(world.run_command(node, Command::Trust(peer(&prefix))), Ok(Reply::Trusted(id)));
    world.say(friend, offer("after"));
    world.run_for(SECOND);
    assert_eq!(asked(&world), [true, false]);
    let whole = peer(&id.to_string());
    world.run_command(node, Command::Forget(whole)).unwrap();
    world.say(friend, offer("forgotten"));
    world.run_for(SECOND);
    assert_eq!(asked(&world), [true, false, true]);
}

#[test]
fn a_peer_goes_by_alias_by_the_beginning_of_its_id_and_by_address() {
    let mut world = World::new(5);
    let node = world.secure_node(1, AcceptPolicy::All);
    let others = [
        world.secure_node(0xab, AcceptPolicy::All),
        world.secure_node(0xab, AcceptPolicy::All),
        world.secure_node(0xac, AcceptPolicy::All),
    ];
    let names = others.map(|other| world.connect(node, other));
    let send =
        |world: &mut World, to: &str| world.run_command(node, Command::SendText(peer(to), "hi".into()));
    let reached = |to: NodeId| Ok(Reply::TextQueued { peers: vec![addr_of(to)] });
    assert_eq!(send(&mut world, &names[1]), reached(others[1]));
    assert_eq!(send(&mut world, &"ac".repeat(8)), reached(others[2]));
    let few = send(&mut world, "acacacacacacaca").unwrap_err();
    assert_eq!(few.code, Code::UnknownPeer, "15 digits name nobody who is not known");
    let ambiguous = send(&mut world, &"ab".repeat(8)).unwrap_err();
    assert_eq!(ambiguous.code, Code::AmbiguousPeer);
    assert!(ambiguous.message.contains(&names[0]) && ambiguous.message.contains(&names[1]), "{ambiguous}");
    world.run_command(node, Command::Alias(peer(&names[2]), "bob".parse().unwrap())).unwrap();
    assert_eq!(send(&mut world, "bob"), reached(others[2]));
    assert_eq!(send(&mut world, "acac"), reached(others[2]), "it is known now");
    let named = |world: &World| {
        world.events(node, |event| match event {
            Event::PeerNamed { peer, alias } => Some((*peer, alias.as_ref().map(ToString::to_string))),
            _ => None,
        })
    };
    assert_eq!(named(&world), [(addr_of(others[2]), Some("bob".to_owned()))]);
    world.run_command(node, Command::Forget(peer("bob"))).unwrap();
    assert_eq!(named(&world)[1..], [(addr_of(others[2]), None)]);
    world.run_command(node, Command::Alias(peer(&names[2]), "bob".parse().unwrap())).unwrap();
    for nobody in ["alice", "aca", "0000", "192.0.2.9:1"] {
        assert_eq!(send(&mut world, nobody).unwrap_err().code, Code::UnknownPeer, "{nobody}");
    }
    let taken = world.run_command(node, Command::Alias(peer(&names[0]), "bob".parse().unwrap())).unwrap_err();
    assert_eq!(taken.code, Code::Usage);
}

#[test]
fn in_plaintext_nobody_can_be_trusted_or_named() {
    let mut world = World::new(6);
    let (node, other) = (world.node(AcceptPolicy::All), world.node(AcceptPolicy::All));
    let name = world.connect(node, other);
    for command in [
        Command::Trust(peer(&name)),
        Command::Alias(peer(&name), "bob".parse().unwrap()),
        Command::Forget(peer(&name)),
    ] {
        let failure = world.run_command(node, command).unwrap_err();
        assert_eq!(failure.code, Code::UnknownIdentity);
    }
}

#[test]
fn a_stranger_is_never_taken_for_whom_a_pin_or_a_beginning_means() {
    let mut world = World::new(7);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let friend = Identity([2; 32]);
    // The stranger has tried out keys until one began like the friend's, and connects from the
    // very address that the friend was reached at.
    let mut alike = [3; 32];
    alike[..4].fill(2);
    let stranger = world.script_as(Some(Identity(alike)), node);
    world.say(stranger, hello(7));
    world.run_for(SECOND);
    let address = peers(&mut world, node)[0].peer.to_string();
    world.note(node, &Change::Pin(address.parse().unwrap(), friend));

    let send = |world: &mut World, to: &str| {
        world.run_command(node, Command::SendText(peer(to), "for a friend".into()))
    };
    for name in [&address, &friend.to_string()[..8], &friend.to_string()[..16]] {
        let failure = send(&mut world, name).unwrap_err();
        assert_eq!(failure.code, Code::UnknownPeer, "{name}: {failure}");
    }
    let failure = send(&mut world, &address).unwrap_err();
    assert!(failure.message.contains(&Identity(alike).to_string()), "it says who is there: {failure}");
    // Trust for the address, or for the beginning, goes to the friend.
    for name in [&address, &friend.to_string()[..8]] {
        assert_eq!(world.run_command(node, Command::Trust(peer(name))), Ok(Reply::Trusted(friend)), "{name}");
    }
    let nobody_there = world.run_command(node, Command::Connect(address.parse().unwrap())).unwrap_err();
    assert_eq!(nobody_there.code, Code::Unreachable, "it is dialled, not found to be there already");
    // By its own identity it can be named.
    assert!(send(&mut world, &Identity(alike).to_string()[..16]).is_ok());
}

#[test]
fn a_beginning_that_fits_several_is_an_error_that_lists_them() {
    let mut world = World::new(8);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let mut ids = [Identity([2; 32]), Identity([2; 32])];
    ids[1].0[31] = 3;
    world.note(node, &Change::Trust(ids[0]));
    let other = world.script_as(Some(ids[1]), node);
    world.say(other, hello(7));
    world.run_for(SECOND);
    // Only one of them is connected, but which one is meant is not clear.
    let beginning = peer(&"02".repeat(31));
    for command in [
        Command::SendText(beginning.clone(), "hi".into()),
        Command::Trust(beginning.clone()),
        Command::Alias(beginning.clone(), "bob".parse().unwrap()),
        Command::Forget(beginning.clone()),
    ] {
        let failure = world.run_command(node, command.clone()).unwrap_err();
        assert_eq!(failure.code, Code::AmbiguousPeer, "{command:?}");
        assert!(ids.iter().all(|id| failure.message.contains(&id.to_string())), "{failure}");
    }
}

#[test]
fn an_address_of_somebody_else_is_dialled_though_a_peer_reached_by_another_name_has_it() {
    let mut world = World::new(9);
    let (node, other) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    let connect = |world: &mut World, address: &str| {
        world.run_command(node, Command::Connect(address.parse().unwrap())).unwrap();
        world.run_for(SECOND);
        world.connections()
    };
    let address = addr_of(other).to_string();
    assert_eq!(connect(&mut world, &name_of(other)), 1);
    assert_eq!(connect(&mut world, &address), 1, "it is there already");
    world.note(node, &Change::Pin(address.parse().unwrap(), Identity([3; 32])));
    assert_eq!(connect(&mut world, &address), 2, "whoever is there is not whom the address belongs to");
}

#[test]
fn what_was_read_before_a_change_does_not_undo_it() {
    let mut world = World::new(10);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let friend = Identity([2; 32]);
    world.note(node, &Change::Trust(friend));
    let before = world.reading(node);
    let script = world.script_as(Some(friend), node);
    world.say(script, hello(7));
    world.run_for(SECOND);
    world.run_command(node, Command::Forget(peer(&friend.to_string()))).unwrap();
    // Somebody who connected just before had it read, and that took longer.
    world.give_reading(node, before);
    assert!(!peers(&mut world, node)[0].trusted);
}

#[test]
fn a_first_contact_is_told_also_where_the_peer_was_there_already() {
    for kept_by in [[1, 2], [2, 1]] {
        let mut world = World::new(11);
        let [node, other] = kept_by.map(|id| world.secure_node(id, AcceptPolicy::Ask));
        world.connect(other, node);
        world.first_contact = true;
        let address = world.connect(node, other);
        let told = world.events(node, |event| match event {
            Event::FirstContact { dialled, node_id, .. }
            | Event::PeerConnected {
                dialled: Some(dialled),
                node_id: Some(node_id),
                first_contact: true,
                ..
            } => Some((dialled.to_string(), *node_id)),
            _ => None,
        });
        assert_eq!(told, [(address, Identity([kept_by[1]; 32]))], "{kept_by:?}");
    }
}

#[test]
fn what_one_origin_causes_in_the_log_is_bounded_and_summed_up() {
    let mut world = World::new(12);
    let node = world.secure_node(1, AcceptPolicy::All);
    let lines = |world: &World| {
        world.events(
            node,
            |event| if let Event::Warning { text, .. } = event { Some(text.clone()) } else { None },
        )
    };
    for _ in 0..50 {
        let stranger = world.script_as(Some(Identity([2; 32])), node);
        world.say(stranger, Message::Text("hi".into()));
    }
    world.run_for(SECOND);
    assert_eq!(lines(&world).len(), 30);
    world.run_for(60 * SECOND);
    assert_eq!(lines(&world).len(), 31);
    assert!(lines(&world)[30].contains("11.0.0.1: 20 more"), "{:?}", lines(&world));
    let again = world.script_as(Some(Identity([2; 32])), node);
    world.say(again, Message::Text("hi".into()));
    world.run_for(61 * SECOND);
    assert_eq!(lines(&world).len(), 32, "a line of its own again, and nothing to sum up");
}

#[test]
fn a_crowd_from_one_place_takes_all_places_from_nobody_else() {
    let mut world = World::new(13);
    let limits = Limits { peers: 10, ..Limits::default() };
    let node = world.secure_node_with(1, AcceptPolicy::All, limits);
    let others = [2, 3, 4].map(|id| world.secure_node(id, AcceptPolicy::All));
    let crowd: Vec<_> = (0..12)
        .map(|n| {
            let script = world.script_as(Some(Identity([100 + n; 32])), node);
            world.say(script, hello(u128::from(n) + 50));
            world.run_for(SECOND);
            script
        })
        .collect();
    assert!(world.scripts[crowd[11].0].closed, "there is no room, and it is one of the crowd");
    assert!(!world.scripts[crowd[0].0].closed);
    world.connect(others[0], node);
    world.connect(node, others[1]);
    world.note(node, &Change::Trust(Identity([4; 32])));
    world.connect(others[2], node);
    world.run_for(SECOND);
    let there: Vec<_> = peers(&mut world, node).iter().filter_map(|peer| peer.node_id).collect();
    assert_eq!(there.len(), 10);
    assert!([2, 3, 4].iter().all(|id| there.contains(&Identity([*id; 32]))), "{there:?}");
    assert!(world.scripts[crowd[0].0].closed && !world.scripts[crowd[9].0].closed, "the oldest go");
}
