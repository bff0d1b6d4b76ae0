//! What strangers in a swarm can make a node do and keep, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use bytes::Bytes;
use peer_to_peer::engine::{AcceptPolicy, Code, Command, Limits, PeerInfo, Reply};
use peer_to_peer::wire::{
    AskId, AskProof, ChunkData, FileHash, Hello, Instance, Link, Message, NodeId as Identity, OfferId,
    PeerAddr, Side,
};
use world::disk_model::{entries_of, file_hash};
use world::swarm::{CHUNK, bare, offer_of, pulled_from};
use world::{NodeId, SECOND, ScriptId, World, addr_of};

const SHORTLY: Duration = Duration::from_millis(100);

impl World {
    fn peers(&mut self, node: NodeId) -> Vec<PeerInfo> {
        match self.run_command(node, Command::Peers) {
            Ok(Reply::Peers(peers)) => peers,
            other => panic!("{other:?}"),
        }
    }

    /// A script that says what a peer of ours would say first.
    fn stranger(&mut self, to: NodeId, who: u16) -> ScriptId {
        let mut id = [0xee; 32];
        id[..2].copy_from_slice(&who.to_be_bytes());
        let script = self.script_as(Some(Identity(id)), to);
        let features = ["transfer", "swarm", "pex"].map(str::to_owned).to_vec();
        let hello = Hello {
            version: 1,
            agent: "script".into(),
            node_id: None,
            instance: Instance(who.into()),
            listen_port: 0,
            your_addr: None,
            features,
        };
        self.say(script, Message::Hello(hello));
        script
    }

    /// A script asks whether its node has something.
    fn asks(&mut self, script: ScriptId, id: u64, hash: FileHash) {
        let proof = AskProof::new(self.binding_of(script), Side::Dialler, hash);
        self.say(script, Message::Ask { id: AskId(id), proof });
    }

    /// A script answers what it was asked last with an offer of these bytes.
    fn answers(&mut self, script: ScriptId, bytes: &[u8], is_partial: bool) {
        let entries = entries_of(bytes);
        let offer = offer_of(self, script, file_hash(bytes), bytes.len(), &entries, is_partial);
        self.say(script, Message::Offer(offer));
    }

    /// A script tells where others are.
    fn tells_of(&mut self, script: ScriptId, addrs: &[std::net::SocketAddr]) {
        let peers = addrs.iter().map(|addr| PeerAddr { addr: *addr, node_id: None }).collect();
        self.say(script, Message::Peers { id: OfferId(1), peers });
        self.run_for(SHORTLY);
    }
}

/// A node that fetches something, so many strangers that claim to have some of it, and what it is.
fn fetching(seed: u64, strangers: u16) -> (World, NodeId, Vec<ScriptId>, Vec<u8>) {
    let mut world = World::new(seed);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let strangers: Vec<_> = (0..strangers).map(|who| world.stranger(getter, who)).collect();
    world.run_for(SHORTLY);
    let bytes = world.rng.bytes(4 * CHUNK);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SHORTLY);
    for stranger in &strangers {
        world.answers(*stranger, &bytes, true);
    }
    world.run_for(SHORTLY);
    (world, getter, strangers, bytes)
}

#[test]
fn who_tells_of_others_all_the_time_is_not_heard_and_in_the_end_closed() {
    let (mut world, _, strangers, _) = fetching(1, 1);
    let [early, late] = [1, 2].map(|number| world.secure_node(number, AcceptPolicy::Ask));
    world.tells_of(strangers[0], &[]);
    world.tells_of(strangers[0], &[addr_of(early)]);
    world.run_for(29 * SECOND);
    assert_eq!(world.peers(early).len(), 0);
    world.run_for(SECOND);
    world.tells_of(strangers[0], &[addr_of(late)]);
    assert_eq!(world.peers(late).len(), 1, "who waits is heard");
    for _ in 0..99 {
        world.tells_of(strangers[0], &[addr_of(early)]);
    }
    assert!(!world.scripts[strangers[0].0].closed);
    world.tells_of(strangers[0], &[addr_of(early)]);
    assert!(world.scripts[strangers[0].0].closed);
    assert_eq!(world.peers(early).len(), 0);
}

#[test]
fn rubbish_that_many_tell_does_not_keep_out_what_another_tells() {
    let (mut world, _, strangers, _) = fetching(2, 7);
    let there = world.secure_node(1, AcceptPolicy::Ask);
    let (liars, honest) = strangers.split_at(6);
    for liar in liars {
        let rubbish: Vec<_> =
            (0..50).map(|n| ([12, 0, u8::try_from(liar.0).unwrap(), n], 8000).into()).collect();
        world.tells_of(*liar, &rubbish);
    }
    world.tells_of(honest[0], &[addr_of(there)]);
    world.run_for(4 * SECOND);
    assert_eq!(world.peers(there).len(), 1);
}

#[test]
fn nobody_is_sent_to_other_services_or_all_over_one_host_because_a_source_said_so() {
    let (mut world, getter, strangers, _) = fetching(7, 4);
    let begun = world.dials.len();
    for (n, liar) in (0..).zip(&strangers) {
        let services = [22, 25, 443, 1023].map(|port| ([12, 51, 100, n], port).into());
        let one_host = (0..46).map(|port| ([12, 51, 100, 7], 2000 + 50 * u16::from(n) + port).into());
        world.tells_of(*liar, &services.into_iter().chain(one_host).collect::<Vec<_>>());
    }
    world.run_for(20 * SECOND);
    let by_getter = world.dials[begun..].iter().filter(|(_, by, _)| *by == getter);
    let places: std::collections::BTreeSet<_> = by_getter.map(|(_, _, to)| to).collect();
    assert!(places.iter().all(|to| to.starts_with("12.51.100.7:")), "{places:?}");
    assert_eq!(places.len(), 16);
}

/// A node that has got a file by its link, and whom it dialled for that.
fn got_by_link(seed: u64, limits: Limits) -> (World, NodeId, NodeId) {
    let mut world = World::new(seed);
    let seeder = world.secure_node(1, AcceptPolicy::All);
    let getter = world.secure_node_with(2, AcceptPolicy::All, limits);
    world.put(seeder, "file", 3 * CHUNK);
    let link = world.share(seeder, "file");
    world.get(getter, &link).unwrap();
    world.run_until(|world| world.has_got(getter));
    (world, seeder, getter)
}

#[test]
fn who_was_dialled_for_a_get_alone_is_left_after_it() {
    let (mut world, seeder, getter) = got_by_link(3, Limits::default());
    assert_eq!(world.peers(getter).len(), 1);
    world.run_for(15 * SECOND);
    assert_eq!((world.peers(getter).len(), world.peers(seeder).len()), (0, 0));
}

#[test]
fn whom_a_person_wrote_to_stays_after_the_get() {
    let (mut world, seeder, getter) = got_by_link(4, Limits::default());
    let peer = addr_of(seeder).to_string().parse().unwrap();
    world.run_command(getter, Command::SendText(peer, "thank you".into())).unwrap();
    world.run_for(60 * SECOND);
    assert_eq!(world.peers(getter).len(), 1);
}

#[test]
fn who_fetches_from_here_in_turn_is_left_when_it_has_it() {
    let mut world = World::new(5);
    world.line.bytes_per_sec = 100_000;
    let (seeder, getter) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    world.put(seeder, "small", 3);
    let link = world.share(seeder, "small");
    let large = world.put(getter, "large", 12 * CHUNK);
    world.share(getter, "large");
    world.get(getter, &link).unwrap();
    world.run_until(|world| world.has_got(getter));
    let begun = world.now;
    world.get(seeder, &bare(&large)).unwrap();
    world.run_until(|world| world.has_got(seeder));
    assert!(world.now - begun > 25 * SECOND, "{:?}", world.now - begun);
    world.run_for(15 * SECOND);
    assert_eq!(world.peers(getter).len(), 0);
}

#[test]
fn who_was_dialled_for_a_get_gives_way_where_there_is_no_room() {
    let limits = Limits { peers: 1, ..Limits::default() };
    let (mut world, _, getter) = got_by_link(6, limits);
    let friend = world.secure_node(3, AcceptPolicy::All);
    world.connect(friend, getter);
    world.run_for(SECOND);
    let peers = world.peers(getter);
    assert_eq!(peers.iter().map(|peer| peer.node_id).collect::<Vec<_>>(), [world.nodes[friend.0].identity]);
}

#[test]
fn a_network_whose_strangers_lied_is_fetched_from_again_after_some_time() {
    let mut world = World::new(7);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let bytes = world.rng.bytes(2 * CHUNK);
    let other = world.rng.bytes(CHUNK);
    let liars: Vec<_> = (0..16).map(|who| world.stranger(getter, who)).collect();
    world.run_for(SHORTLY);
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SHORTLY);
    for liar in &liars {
        world.answers(*liar, &other, false);
    }
    world.run_for(SHORTLY);
    assert!(liars.iter().all(|liar| world.scripts[liar.0].closed));
    let stranger = world.stranger(getter, 99);
    world.run_for(SHORTLY);
    let try_again = |world: &mut World| {
        // It may be searching still; then who came since was asked.
        let _ = world.get(getter, &bare(&bytes));
        world.run_for(SHORTLY);
        world.answers(stranger, &bytes, true);
        world.run_for(SHORTLY);
        world.scripts[stranger.0].heard.last().unwrap().clone()
    };
    let turned_down = try_again(&mut world);
    assert!(
        matches!(&turned_down, Message::Refuse { reason, .. } if reason.code == "busy"),
        "{turned_down:?}"
    );
    world.run_for(3500 * SECOND);
    assert_eq!(try_again(&mut world), turned_down);
    world.run_for(100 * SECOND);
    let taken = try_again(&mut world);
    assert!(matches!(taken, Message::Accept { .. }), "{taken:?}");
}

#[test]
fn who_asks_for_what_is_searched_for_here_is_answered_where_too_many_do_and_takes_one_place() {
    let mut world = World::new(8);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    let first = world.stranger(getter, 0);
    world.run_for(SHORTLY);
    let hash = FileHash([7; 32]);
    world.get(getter, &Link::bare(hash)).unwrap();
    let lacks = |world: &World, script: ScriptId| -> Vec<(u64, String)> {
        let heard = world.scripts[script.0].heard.iter();
        heard
            .filter_map(|message| match message {
                Message::Lack { id, code } => Some((id.0, code.clone())),
                _ => None,
            })
            .collect()
    };
    (1..=3).for_each(|id| world.asks(first, id, hash));
    world.run_for(SHORTLY);
    let busy = |id| (id, Code::Busy.as_str().to_owned());
    assert_eq!(lacks(&world, first), [busy(1), busy(2)], "what it asked before");
    let others: Vec<_> = (1..=256).map(|who| world.stranger(getter, who)).collect();
    world.run_for(SHORTLY);
    for other in &others {
        world.asks(*other, 1, hash);
        world.run_for(SHORTLY / 100);
    }
    world.run_for(SHORTLY);
    let turned_down: Vec<_> = others.iter().filter(|other| !lacks(&world, **other).is_empty()).collect();
    assert_eq!(turned_down, [&others[255]]);
    assert_eq!(lacks(&world, others[255]), [busy(1)]);
}

#[test]
fn a_connection_that_ends_makes_no_work_for_gets_in_which_it_has_no_part() {
    let mut world = World::new(9);
    let limits = Limits { chunks_pulled_in_all: 4, ..Limits::default() };
    let getter = world.secure_node_with(100, AcceptPolicy::Ask, limits);
    let [one, two, nobody] = [1, 2, 3].map(|who| world.stranger(getter, who));
    world.run_for(SHORTLY);
    let (small, large) = (world.rng.bytes(8 * CHUNK), world.rng.bytes(40 * CHUNK));
    for (bytes, source) in [(&small, one), (&large, two)] {
        world.get(getter, &bare(bytes)).unwrap();
        world.run_for(SHORTLY);
        world.answers(source, bytes, false);
        world.run_for(SHORTLY);
    }
    // The first uses up what may be asked for, so that the second has one chunk at a time.
    assert_eq!((pulled_from(&world, one).len(), pulled_from(&world, two).len()), (8, 1));
    for index in 0..8 {
        let data = ChunkData(Bytes::copy_from_slice(small.chunks(CHUNK).nth(index as usize).unwrap()));
        world.say(one, Message::Data { id: OfferId(1), index, data, entry: None });
    }
    world.run_until(|world| world.has_got(getter));
    assert_eq!(pulled_from(&world, two).len(), 1);
    world.end(nobody);
    world.run_for(SHORTLY);
    assert_eq!(pulled_from(&world, two).len(), 1, "it is planned when something of it happens");
    world.run_for(3 * SECOND);
    assert!(pulled_from(&world, two).len() > 1);
}

#[test]
fn a_link_to_where_nobody_can_be_is_not_dialled() {
    let mut world = World::new(10);
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    for place in ["0.0.0.0:8000", "255.255.255.255:8000", "[ff02::1]:8000", "[::]:8000"] {
        let mut link = Link::bare(FileHash([7; 32]));
        link.from = vec![place.parse().unwrap()];
        assert_eq!(world.get(getter, &link).unwrap_err().code, Code::NotFound, "{place}");
    }
}
