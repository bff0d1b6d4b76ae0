//! Connections that a third node passes on, in virtual time. What the two streams at the ends say is up to the
//! tests here; that it is an encrypted connection is tested with real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use bytes::Bytes;
use peer_to_peer::engine::{
    AcceptPolicy, Change, Code, Command, CommandId, ConnId, Direction, Event, Failure, Input, LanNews,
    Limits, Origin, PeerInfo, PeerRef, Rate, Reply, Sighting, StreamId,
};
use peer_to_peer::wire::{
    Binding, CIRCUIT_WINDOW, CircuitId, CircuitPart, Hello, Instance, Message, NodeId as Identity,
};
use world::{Line, NodeId, SECOND, ScriptId, World, addr_of};

const RELAY: Identity = Identity([100; 32]);
const A: Identity = Identity([1; 32]);
const B: Identity = Identity([2; 32]);

/// A node that passes on so many bytes a second, and two that dialled it and that it trusts.
struct Friends {
    world: World,
    relay: NodeId,
    a: NodeId,
    b: NodeId,
}

fn friends(rate: u64) -> Friends {
    friends_of(Limits { relay: Rate::new(rate), ..Limits::default() })
}

fn friends_of(limits: Limits) -> Friends {
    let mut world = World::new(limits.relay.map_or(0, Rate::bytes_per_sec));
    let relay = world.secure_node_with(100, AcceptPolicy::Ask, limits);
    let (a, b) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    for (node, id) in [(a, A), (b, B)] {
        world.connect(node, relay);
        world.note(relay, &Change::Trust(id));
    }
    world.run_for(SECOND / 10);
    Friends { world, relay, a, b }
}

impl Friends {
    /// Lets a node ask for a connection through the one between.
    fn ask(&mut self, node: NodeId, to: Identity) -> CommandId {
        let name = |id: Identity| PeerRef::Name(id.to_string());
        let id = self.world.command(node, Command::ConnectVia { peer: name(to), via: name(RELAY) });
        self.world.run_for(SECOND / 10);
        id
    }

    /// The streams of a circuit from the one to the other.
    fn circuit(&mut self) -> [StreamId; 2] {
        self.ask(self.a, B);
        assert_eq!(self.world.nodes[self.a.0].streams.last().unwrap().1, Some(B), "who must be there");
        assert_eq!(self.world.nodes[self.b.0].streams.last().unwrap().1, None);
        [self.a, self.b].map(|node| self.world.nodes[node.0].streams.last().unwrap().0)
    }

    fn meet(&mut self, [at_a, at_b]: [StreamId; 2]) {
        self.world.meet([(self.a, at_a), (self.b, at_b)]);
    }

    fn connected(&mut self, node: NodeId) -> Vec<PeerInfo> {
        connected(&mut self.world, node)
    }

    /// What was told of connections through another that ended.
    fn disconnections(&self, node: NodeId) -> Vec<String> {
        self.world.events(node, |event| match event {
            Event::PeerDisconnected { peer, reason, .. } if peer.to_string().starts_with("[100::") => {
                Some(reason.clone())
            }
            _ => None,
        })
    }

    fn failure(&self, node: NodeId, command: CommandId) -> Failure {
        self.world.nodes[node.0].replies[&command].clone().unwrap_err()
    }

    fn say(&mut self, node: NodeId, stream: StreamId, part: CircuitPart) {
        self.world.input(node, Input::Stream { stream, part });
    }

    /// The bytes that came for a stream.
    fn bytes(&self, node: NodeId, stream: StreamId) -> Vec<u8> {
        let came = self.world.nodes[node.0].came.iter().filter(|(to, _)| *to == stream);
        came.flat_map(|(_, part)| match part {
            CircuitPart::Data(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        })
        .collect()
    }

    /// Says as much at one end as may be said, for ten seconds, and reads it at the other; answers how much that was.
    fn say_much(&mut self, [at_a, at_b]: [StreamId; 2]) -> usize {
        let mut sent = 0;
        let begun = self.world.now;
        while self.world.now < begun + 10 * SECOND {
            // As much as the window has room for.
            let read = self.bytes(self.b, at_b).len();
            for part in self.world.nodes[self.b.0].came.drain(..).collect::<Vec<_>>() {
                let CircuitPart::Data(bytes) = part.1 else { continue };
                self.say(self.b, at_b, CircuitPart::More(u32::try_from(bytes.len()).unwrap()));
            }
            sent += read;
            let more = self.world.nodes[self.a.0].came.drain(..).map(|(_, part)| match part {
                CircuitPart::More(bytes) => bytes as usize,
                _ => 0,
            });
            let room =
                more.sum::<usize>() + if self.world.now == begun { CIRCUIT_WINDOW as usize } else { 0 };
            for part in vec![7; room].chunks(16_000) {
                self.say(self.a, at_a, CircuitPart::Data(part.to_vec().into()));
            }
            self.world.run_for(SECOND / 20);
        }
        sent
    }

    fn has_ended(&self, node: NodeId, stream: StreamId) -> bool {
        let end =
            |(to, part): &(StreamId, CircuitPart)| *to == stream && matches!(part, CircuitPart::End { .. });
        self.world.nodes[node.0].came.iter().any(end)
    }
}

fn connected(world: &mut World, node: NodeId) -> Vec<PeerInfo> {
    match world.run_command(node, Command::Peers) {
        Ok(Reply::Peers(peers)) => peers,
        other => panic!("{other:?}"),
    }
}

/// Somebody who is connected to a node, and says what a test wants.
fn script(world: &mut World, to: NodeId, who: Identity) -> ScriptId {
    let script = world.script_as(Some(who), to);
    world.say(script, hello("relay"));
    world.run_for(SECOND / 10);
    script
}

/// Somebody is there at the other end of a stream, and can do something.
fn greet(world: &mut World, node: NodeId, stream: StreamId, who: Identity, feature: &str) {
    let conn = ConnId(77);
    let opened = Input::Opened {
        conn,
        addr: stream.addr(),
        dialled: None,
        binding: Some(Binding([7; 32])),
        node_id: Some(who),
        first_contact: false,
        stream: Some(stream),
    };
    world.input(node, opened);
    world.input(node, Input::Received { conn, message: hello(feature) });
}

fn hello(feature: &str) -> Message {
    Message::Hello(Hello {
        version: 1,
        agent: "script".into(),
        node_id: None,
        instance: Instance(7),
        listen_port: 0,
        your_addr: None,
        features: vec![feature.into()],
    })
}

/// What a script heard of circuits.
fn heard(world: &World, script: ScriptId) -> Vec<(u64, CircuitPart)> {
    let heard = world.scripts[script.0].heard.iter();
    heard
        .filter_map(|message| match message {
            Message::Circuit { id, part } => Some((id.0, part.clone())),
            _ => None,
        })
        .collect()
}

fn say(world: &mut World, script: ScriptId, id: u64, part: CircuitPart) {
    world.say(script, Message::Circuit { id: CircuitId(id), part });
    world.run_for(SECOND / 10);
}

fn end(code: &str) -> CircuitPart {
    CircuitPart::End { code: code.to_owned() }
}

fn data(bytes: usize) -> CircuitPart {
    CircuitPart::Data(vec![7; bytes].into())
}

#[test]
fn what_one_end_says_comes_out_at_the_other_in_order_and_to_its_end() {
    let mut friends = friends(1_000_000);
    let [at_a, at_b] = friends.circuit();
    for part in [Bytes::from_static(b"hel"), Bytes::from_static(b"lo"), Bytes::new()] {
        friends.say(friends.a, at_a, CircuitPart::Data(part));
    }
    friends.say(friends.b, at_b, CircuitPart::Data(Bytes::from_static(b"hi")));
    friends.say(friends.a, at_a, end("closed"));
    friends.world.run_for(SECOND);
    assert_eq!(friends.bytes(friends.b, at_b), b"hello");
    assert!(friends.has_ended(friends.b, at_b));
    assert_eq!(friends.bytes(friends.a, at_a), b"", "it had gone by then");
    let last = friends.world.nodes[friends.b.0].came.iter().map(|(_, part)| part).collect::<Vec<_>>();
    assert_eq!(last[last.len() - 2], &CircuitPart::Data(Bytes::new()), "the end is said, and comes last");
}

#[test]
fn no_more_is_passed_on_in_ten_seconds_than_was_allowed() {
    let mut friends = friends(100_000);
    let ends = friends.circuit();
    let sent = friends.say_much(ends);
    assert!((950_000..=1_050_000).contains(&sent), "{sent}");
}

#[test]
fn what_is_passed_on_waits_for_the_limit_of_all_that_is_sent_and_leaves_its_share_to_ones_own_files() {
    let (relay, up) = (Rate::new(10_000_000), Rate::new(100_000));
    let mut friends = friends_of(Limits { relay, up, ..Limits::default() });
    let ends = friends.circuit();
    let Friends { world, relay, b, .. } = &mut friends;
    world.note(*b, &Change::Trust(RELAY));
    world.nodes[relay.0].disk.files.insert("mine".into(), vec![5; 300_000]);
    let to = PeerRef::Name(B.to_string());
    world.run_command(*relay, Command::SendFile { to, path: "mine".into(), name: None }).unwrap();
    let sent = friends.say_much(ends);
    let came = friends.world.nodes[friends.b.0].disk.downloads.get("mine").map(Vec::len);
    assert_eq!(came, Some(300_000), "{sent} bytes were passed on meanwhile");
    assert!((600_000..=800_000).contains(&sent), "{sent}");
}

#[test]
fn what_is_passed_on_to_somebody_waits_for_the_limit_of_what_is_sent_there() {
    let mut friends = friends(10_000_000);
    let (direction, rate) = (Direction::Out, Rate::new(50_000));
    let peer = Some(PeerRef::Name(B.to_string()));
    friends.world.run_command(friends.relay, Command::Limit { direction, rate, peer }).unwrap();
    let ends = friends.circuit();
    let sent = friends.say_much(ends);
    assert!((400_000..=600_000).contains(&sent), "{sent}");
}

/// Two scripts with a circuit between them, one of which has a slow line.
fn slow_circuit(slow: usize) -> (World, [ScriptId; 2]) {
    let Friends { mut world, relay, .. } = friends(1_000_000_000);
    let ids = [Identity([3; 32]), Identity([4; 32])];
    let fast = world.line;
    let ends = [0, 1].map(|end| {
        world.line = if end == slow { Line { bytes_per_sec: 10_000, ..fast } } else { fast };
        world.note(relay, &Change::Trust(ids[end]));
        script(&mut world, relay, ids[end])
    });
    say(&mut world, ends[0], 1, CircuitPart::Open { to: Some(ids[1]) });
    world.run_for(SECOND);
    assert_eq!(heard(&world, ends[1]), [(2, CircuitPart::Open { to: None })]);
    (world, ends)
}

#[test]
fn who_takes_slowly_what_comes_in_tiny_pieces_is_not_blamed_for_it() {
    let (mut world, [from, to]) = slow_circuit(1);
    for _ in 0..40_000 {
        world.say(from, Message::Circuit { id: CircuitId(1), part: data(1) });
    }
    world.run_for(30 * SECOND);
    assert!(!world.scripts[to.0].closed && !world.scripts[from.0].closed);
    let came = heard(&world, to).into_iter().filter_map(|(_, part)| match part {
        CircuitPart::Data(bytes) => Some(bytes.len()),
        _ => None,
    });
    let came: Vec<_> = came.collect();
    assert_eq!(came.iter().sum::<usize>(), 40_000);
    assert!(came.len() < 1000, "put together to {} pieces", came.len());

    let (mut world, [from, to]) = slow_circuit(0);
    for _ in 0..4 {
        say(&mut world, from, 1, data(32 << 10));
    }
    world.run_for(30 * SECOND);
    for _ in 0..40_000 {
        world.say(to, Message::Circuit { id: CircuitId(2), part: CircuitPart::More(1) });
    }
    world.run_for(30 * SECOND);
    assert!(!world.scripts[to.0].closed && !world.scripts[from.0].closed);
    let room = heard(&world, from).into_iter().map(|(_, part)| match part {
        CircuitPart::More(bytes) => bytes,
        other => panic!("{other:?}"),
    });
    assert_eq!(room.sum::<u32>(), 40_000);
}

#[test]
fn that_the_other_end_says_no_is_not_taken_for_the_word_of_who_passes_on() {
    for word in ["declined", "not_found", "busy", "refused"] {
        let mut friends = friends(1_000_000);
        let (world, relay) = (&mut friends.world, friends.relay);
        let other = script(world, relay, Identity([3; 32]));
        world.note(relay, &Change::Trust(Identity([3; 32])));
        let asked = friends.ask(friends.a, Identity([3; 32]));
        say(&mut friends.world, other, 2, end(word));
        let failure = friends.failure(friends.a, asked);
        assert_eq!(failure.code, Code::Declined);
        assert!(failure.message.contains("it was refused there"), "{word}: {failure}");
    }
}

#[test]
fn who_was_greeted_over_a_circuit_that_has_ended_is_not_there() {
    let mut friends = friends(1_000_000);
    let [at_a, at_b] = friends.circuit();
    friends.say(friends.b, at_b, end("closed"));
    friends.world.run_for(SECOND);
    assert!(friends.has_ended(friends.a, at_a));
    friends.meet([at_a, at_b]);
    friends.world.run_for(SECOND);
    assert_eq!((friends.connected(friends.a).len(), friends.connected(friends.b).len()), (1, 1));
}

#[test]
fn the_circuits_of_who_is_not_trusted_any_more_end() {
    let mut friends = friends(1_000_000);
    let ends = friends.circuit();
    let other = friends.world.secure_node(3, AcceptPolicy::Ask);
    friends.world.connect(other, friends.relay);
    friends.world.note(friends.relay, &Change::Trust(Identity([3; 32])));
    friends.ask(other, B);
    let stays = friends.world.nodes[other.0].streams[0].0;
    friends.world.note(friends.relay, &Change::ForgetPeer(A));
    friends.world.run_for(SECOND);
    assert!(friends.has_ended(friends.a, ends[0]) && friends.has_ended(friends.b, ends[1]));
    assert!(!friends.has_ended(other, stays));
    let blamed =
        |node| friends.world.events(node, |event| matches!(event, Event::Warning { .. }).then_some(()));
    assert_eq!((blamed(friends.a).len(), blamed(friends.b).len()), (0, 0));
}

#[test]
fn of_several_processes_of_a_person_one_is_reached_that_has_room() {
    let mut friends = friends(1_000_000);
    for _ in 0..4 {
        friends.circuit();
    }
    let second = friends.world.secure_node(2, AcceptPolicy::Ask);
    let other = friends.world.secure_node(3, AcceptPolicy::Ask);
    friends.world.connect(second, friends.relay);
    friends.world.connect(other, friends.relay);
    friends.world.note(friends.relay, &Change::Trust(Identity([3; 32])));
    friends.ask(other, B);
    assert_eq!(friends.world.nodes[second.0].streams.len(), 1);
}

#[test]
fn those_who_come_through_one_peer_are_counted_together_and_apart_from_others() {
    let mut world = World::new(11);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    for (between, ids) in [([8; 32], [1, 3]), ([9; 32], [1, 3])] {
        world.note(node, &Change::Trust(Identity(between)));
        let between = script(&mut world, node, Identity(between));
        for id in ids {
            say(&mut world, between, id, CircuitPart::Open { to: None });
        }
    }
    let streams = &world.nodes[node.0].streams;
    let origins: Vec<_> = streams.iter().map(|(stream, _)| Origin::of(stream.addr().ip())).collect();
    assert_eq!((origins[0], origins[2]), (origins[1], origins[3]));
    assert_ne!(origins[0], origins[2]);
}

#[test]
fn a_direct_connection_takes_the_place_of_one_through_another_whoever_made_them() {
    for (by_a, direct_by_a) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut friends = friends(1_000_000);
        let (a, b) = (friends.a, friends.b);
        let (from, to, wanted) = if by_a { (a, b, B) } else { (b, a, A) };
        friends.ask(from, wanted);
        let ends = [from, to].map(|node| (node, friends.world.nodes[node.0].streams[0].0));
        friends.world.meet(ends);
        friends.world.run_for(SECOND);
        assert_eq!(friends.connected(a).into_iter().filter(|peer| peer.via.is_some()).count(), 1);
        let (from, to) = if direct_by_a { (a, b) } else { (b, a) };
        friends.world.connect(from, to);
        friends.world.run_for(30 * SECOND);
        for node in [a, b] {
            let peers = friends.connected(node);
            assert_eq!(peers.len(), 2, "{by_a} {direct_by_a}: {peers:?}");
            assert!(peers.iter().all(|peer| peer.via.is_none()), "{by_a} {direct_by_a}: {peers:?}");
            // What is told of the one that gave way is that, and nothing that does not happen.
            let gone = friends.disconnections(node);
            assert_eq!(gone, ["another connection to the same peer is kept"], "{by_a} {direct_by_a}");
        }
    }
}

#[test]
fn a_direct_connection_that_its_peer_makes_anew_through_another_is_one_that_broke() {
    for (age, is_kept) in [(20 * SECOND, true), (40 * SECOND, false)] {
        let mut world = World::new(12);
        let node = world.secure_node(1, AcceptPolicy::Ask);
        let direct = script(&mut world, node, Identity([3; 32]));
        let between = script(&mut world, node, Identity([9; 32]));
        world.note(node, &Change::Trust(Identity([9; 32])));
        world.run_for(age);
        say(&mut world, between, 1, CircuitPart::Open { to: None });
        let stream = world.nodes[node.0].streams[0].0;
        greet(&mut world, node, stream, Identity([3; 32]), "relay");
        world.run_for(SECOND);
        assert_eq!(world.scripts[direct.0].closed, !is_kept);
        let peers = connected(&mut world, node);
        let there: Vec<_> = peers.iter().filter(|peer| peer.node_id == Some(Identity([3; 32]))).collect();
        assert_eq!((there.len(), there[0].via.is_none()), (1, is_kept), "{there:?}");
    }
}

#[test]
fn who_reads_what_goes_through_another_is_there_however_long_its_answers_take() {
    for reads in [true, false] {
        let mut world = World::new(13);
        world.pings = true;
        let node = world.secure_node(1, AcceptPolicy::Ask);
        let between = script(&mut world, node, Identity([9; 32]));
        world.note(node, &Change::Trust(Identity([9; 32])));
        say(&mut world, between, 1, CircuitPart::Open { to: None });
        let stream = world.nodes[node.0].streams[0].0;
        greet(&mut world, node, stream, Identity([3; 32]), "ping");
        for _ in 0..12 {
            world.input(node, Input::Stream { stream, part: data(9) });
            if reads {
                say(&mut world, between, 1, CircuitPart::More(9));
            }
            world.run_for(5 * SECOND);
        }
        let peers = connected(&mut world, node);
        assert_eq!(peers.iter().any(|peer| peer.node_id == Some(Identity([3; 32]))), reads, "{peers:?}");
    }
}

#[test]
fn through_whom_nobody_could_be_greeted_is_told() {
    let mut friends = friends(1_000_000);
    let asked = friends.ask(friends.a, B);
    let stream = friends.world.nodes[friends.a.0].streams[0].0;
    let failure = Failure::new(Code::HandshakeFailed, "it did not answer in time");
    friends.world.input(friends.a, Input::StreamFailed { stream, failure });
    let failure = friends.failure(friends.a, asked);
    assert_eq!(failure.code, Code::HandshakeFailed);
    assert!(failure.message.ends_with(&format!("(it goes through {})", addr_of(friends.relay))), "{failure}");
    friends.world.run_for(SECOND);
    let at_b = friends.world.nodes[friends.b.0].streams[0].0;
    assert!(friends.has_ended(friends.b, at_b));
}

#[test]
fn a_connection_that_went_through_another_is_made_again_through_it() {
    let mut friends = friends(1_000_000);
    let ends = friends.circuit();
    friends.meet(ends);
    friends.world.run_for(SECOND);
    friends.world.cut(friends.b);
    // B comes back to who passes on, and so to A.
    friends.world.run_for(5 * SECOND);
    let told = friends.disconnections(friends.a);
    assert!(told.len() == 1 && told[0].contains("again through the same peer"), "{told:?}");
    let new = [friends.a, friends.b].map(|node| friends.world.nodes[node.0].streams.last().unwrap().0);
    assert!(new[0] != ends[0] && new[1] != ends[1], "nobody connected again");
    friends.meet(new);
    friends.world.run_for(SECOND);
    let there = friends.connected(friends.a);
    assert_eq!(there.iter().filter(|peer| peer.via.is_some() && peer.node_id == Some(B)).count(), 1);
    let streams = friends.world.nodes[friends.a.0].streams.len();
    friends.world.run_for(300 * SECOND);
    assert_eq!(friends.world.nodes[friends.a.0].streams.len(), streams, "that was all");
}

#[test]
fn who_does_not_come_back_through_another_is_not_looked_for_for_ever() {
    let mut friends = friends(1_000_000);
    let ends = friends.circuit();
    friends.meet(ends);
    friends.world.run_for(SECOND);
    friends.world.deserted.insert(addr_of(friends.relay).to_string());
    friends.world.cut(friends.b);
    friends.world.run_for(150 * SECOND);
    let tried = friends.world.nodes[friends.a.0].streams.len();
    assert!((5..20).contains(&tried), "{tried}");
    friends.world.run_for(600 * SECOND);
    assert_eq!(friends.world.nodes[friends.a.0].streams.len(), tried);
}

#[test]
fn who_is_not_trusted_is_not_passed_on_nor_told_who_is_there() {
    let mut friends = friends(1_000_000);
    let stranger = friends.world.secure_node(3, AcceptPolicy::Ask);
    friends.world.connect(stranger, friends.relay);
    let asked = friends.ask(stranger, A);
    assert_eq!(friends.failure(stranger, asked).code, Code::Declined);
    let (there, not_there) =
        (friends.ask(friends.a, Identity([3; 32])), friends.ask(friends.a, Identity([4; 32])));
    assert_eq!(friends.failure(friends.a, there), friends.failure(friends.a, not_there));
    assert_eq!(friends.failure(friends.a, there).code, Code::NotFound);
    assert!(friends.world.nodes[friends.b.0].streams.is_empty());
}

#[test]
fn nothing_is_passed_on_by_who_was_not_told_to() {
    let mut friends = friends(0);
    let asked = friends.ask(friends.a, B);
    let failure = friends.failure(friends.a, asked);
    assert_eq!(failure.code, Code::Declined);
    assert!(failure.message.contains("--relay known"), "{failure}");
}

#[test]
fn nobody_comes_in_through_a_stranger() {
    let mut world = World::new(5);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let stranger = script(&mut world, node, Identity([9; 32]));
    say(&mut world, stranger, 1, CircuitPart::Open { to: None });
    assert_eq!(heard(&world, stranger), [(1, end("declined"))]);
    assert!(world.nodes[node.0].streams.is_empty());
    world.note(node, &Change::Trust(Identity([9; 32])));
    say(&mut world, stranger, 3, CircuitPart::Open { to: None });
    assert_eq!(world.nodes[node.0].streams.len(), 1);
}

#[test]
fn whoever_a_person_named_to_connect_to_lets_others_in_as_who_was_typed_does() {
    let mut world = World::new(14);
    world.lan = true;
    let limits = Limits { relay: Rate::new(1_000_000), ..Limits::default() };
    let relay = world.secure_node_with(100, AcceptPolicy::Ask, limits);
    let (a, b) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    world.note(relay, &Change::Trust(A));
    world.note(relay, &Change::Trust(B));
    world.connect(a, relay);
    // It has found it on the local network.
    let (name, addrs) = ("r".into(), vec![addr_of(relay)]);
    world.input(b, Input::Lan(LanNews::Seen(Sighting { name, node_id: RELAY, instance: None, addrs })));
    world.run_command(b, Command::Connect(RELAY.to_string().parse().unwrap())).unwrap();
    let mut friends = Friends { world, relay, a, b };
    friends.circuit();
}

#[test]
fn when_a_connection_ends_so_do_the_circuits_over_it() {
    let mut friends = friends(1_000_000);
    let [at_a, at_b] = friends.circuit();
    friends.world.cut(friends.a);
    friends.world.run_for(SECOND);
    assert!(friends.has_ended(friends.b, at_b) && friends.has_ended(friends.a, at_a));
    // Who waits for one hears of it.
    let mut friends = self::friends(1_000_000);
    let asked = friends.ask(friends.a, B);
    friends.world.cut(friends.relay);
    friends.world.run_for(SECOND);
    assert_eq!(friends.failure(friends.a, asked).code, Code::Disconnected);
    let stream = friends.world.nodes[friends.a.0].streams[0].0;
    assert!(friends.has_ended(friends.a, stream));
}

#[test]
fn a_connection_has_four_circuits_and_a_place_is_free_again_when_one_has_ended() {
    let mut friends = friends(1_000_000);
    let streams: Vec<_> = (0..4).map(|_| friends.circuit()).collect();
    let asked = friends.ask(friends.a, B);
    assert_eq!(friends.failure(friends.a, asked).code, Code::Busy);
    friends.say(friends.b, streams[2][1], end("closed"));
    friends.world.run_for(SECOND);
    assert!(friends.has_ended(friends.a, streams[2][0]));
    friends.circuit();
}

#[test]
fn a_node_has_sixty_four_circuits_in_all() {
    let Friends { mut world, relay, .. } = friends(1_000_000);
    let ids: Vec<_> = (10..44).map(|digit| Identity([digit; 32])).collect();
    let ends: Vec<_> = ids.iter().map(|id| script(&mut world, relay, *id)).collect();
    ids.iter().for_each(|id| world.note(relay, &Change::Trust(*id)));
    let open = |world: &mut World, pair: usize, id| {
        say(world, ends[2 * pair], id, CircuitPart::Open { to: Some(ids[2 * pair + 1]) });
        heard(world, ends[2 * pair])
    };
    for pair in 0..16 {
        for id in [1, 3, 5, 7] {
            assert_eq!(open(&mut world, pair, id), [], "{pair}");
        }
    }
    assert_eq!(open(&mut world, 16, 1), [(1, end("busy"))]);
    say(&mut world, ends[0], 1, end("closed"));
    assert_eq!(open(&mut world, 16, 3).len(), 1);
}

#[test]
fn who_sends_more_than_was_read_has_its_circuit_ended_and_nobody_else() {
    let mut friends = friends(1_000_000_000);
    let Friends { world, relay, .. } = &mut friends;
    let pusher = script(world, *relay, Identity([3; 32]));
    world.note(*relay, &Change::Trust(Identity([3; 32])));
    let [at_a, at_b] = friends.circuit();
    let world = &mut friends.world;
    say(world, pusher, 1, CircuitPart::Open { to: Some(B) });
    let pushed = world.nodes[friends.b.0].streams.last().unwrap().0;
    for _ in 0..4 {
        say(world, pusher, 1, data(32 << 10));
    }
    assert_eq!(heard(world, pusher), []);
    say(world, pusher, 1, data(1));
    assert_eq!(heard(world, pusher), [(1, end("usage"))]);
    // Nor does it make room that is not there.
    say(world, pusher, 3, CircuitPart::Open { to: Some(B) });
    say(world, pusher, 3, CircuitPart::More(1));
    assert_eq!(heard(world, pusher).last().unwrap(), &(3, end("usage")));
    assert!(friends.has_ended(friends.b, pushed));
    assert_eq!(friends.bytes(friends.b, pushed).len(), CIRCUIT_WINDOW as usize);
    assert!(!friends.has_ended(friends.b, at_b) && !friends.has_ended(friends.a, at_a));
    let blamed =
        |node| friends.world.events(node, |event| matches!(event, Event::Warning { .. }).then_some(()));
    assert_eq!((blamed(friends.relay).len(), blamed(friends.b).len()), (2, 0), "whoever passed it on is not");
}

#[test]
fn an_end_believes_neither_more_bytes_nor_more_room_than_there_can_be() {
    for part in [data(1), CircuitPart::More(1)] {
        let mut world = World::new(9);
        let node = world.secure_node(1, AcceptPolicy::Ask);
        let between = script(&mut world, node, Identity([9; 32]));
        world.note(node, &Change::Trust(Identity([9; 32])));
        say(&mut world, between, 1, CircuitPart::Open { to: None });
        let stream = world.nodes[node.0].streams[0].0;
        for _ in 0..4 {
            say(&mut world, between, 1, data(32 << 10));
        }
        world.nodes[node.0].came.clear();
        say(&mut world, between, 1, part);
        assert_eq!(heard(&world, between), [(1, end("usage"))]);
        let came = &world.nodes[node.0].came;
        assert!(matches!(came.as_slice(), [(to, CircuitPart::End { .. })] if *to == stream), "{came:?}");
    }
}

#[test]
fn a_number_that_is_not_ones_to_choose_opens_nothing() {
    let mut world = World::new(10);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let between = script(&mut world, node, Identity([9; 32]));
    world.note(node, &Change::Trust(Identity([9; 32])));
    for (id, opened) in [(2, 0), (3, 1), (3, 1), (1, 1), (5, 2)] {
        say(&mut world, between, id, CircuitPart::Open { to: None });
        assert_eq!(world.nodes[node.0].streams.len(), opened, "{id}");
    }
    // What is said of circuits that were never there costs nothing.
    for part in [data(5), CircuitPart::More(u32::MAX), end("closed")] {
        say(&mut world, between, 77, part);
    }
    assert!(!world.scripts[between.0].closed && world.now > Duration::ZERO);
}
