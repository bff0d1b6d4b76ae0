//! Connections that a third node passes on, in virtual time. What the two streams at the ends say is up to the
//! tests here; that it is an encrypted connection is tested with real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use bytes::Bytes;
use peer_to_peer::engine::{
    AcceptPolicy, Change, Code, Command, CommandId, Event, Failure, Input, Limits, PeerRef, Rate, StreamId,
};
use peer_to_peer::wire::{
    CIRCUIT_WINDOW, CircuitId, CircuitPart, Hello, Instance, Message, NodeId as Identity,
};
use world::{NodeId, SECOND, ScriptId, World};

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
    let mut world = World::new(rate);
    let limits = Limits { relay: Rate::new(rate), ..Limits::default() };
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

    fn has_ended(&self, node: NodeId, stream: StreamId) -> bool {
        let end =
            |(to, part): &(StreamId, CircuitPart)| *to == stream && matches!(part, CircuitPart::End { .. });
        self.world.nodes[node.0].came.iter().any(end)
    }
}

/// Somebody who is connected to a node, and says what a test wants.
fn script(world: &mut World, to: NodeId, who: Identity) -> ScriptId {
    let script = world.script_as(Some(who), to);
    world.say(
        script,
        Message::Hello(Hello {
            version: 1,
            agent: "script".into(),
            node_id: None,
            instance: Instance(7),
            listen_port: 0,
            your_addr: None,
            features: vec!["relay".into()],
        }),
    );
    world.run_for(SECOND / 10);
    script
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
    let [at_a, at_b] = friends.circuit();
    let mut sent = 0;
    let begun = friends.world.now;
    while friends.world.now < begun + 10 * SECOND {
        // As much as the window has room for.
        let read = friends.bytes(friends.b, at_b).len();
        for part in friends.world.nodes[friends.b.0].came.drain(..).collect::<Vec<_>>() {
            let CircuitPart::Data(bytes) = part.1 else { continue };
            friends.say(friends.b, at_b, CircuitPart::More(u32::try_from(bytes.len()).unwrap()));
        }
        sent += read;
        let more = friends.world.nodes[friends.a.0].came.drain(..).map(|(_, part)| match part {
            CircuitPart::More(bytes) => bytes as usize,
            _ => 0,
        });
        let room = more.sum::<usize>() + if friends.world.now == begun { CIRCUIT_WINDOW as usize } else { 0 };
        for part in vec![7; room].chunks(16_000) {
            friends.say(friends.a, at_a, CircuitPart::Data(part.to_vec().into()));
        }
        friends.world.run_for(SECOND / 20);
    }
    assert!((950_000..=1_050_000).contains(&sent), "{sent}");
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
