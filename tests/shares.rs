//! What is shared, with whom, and what it costs when others ask for it, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use peer_to_peer::engine::{
    AcceptPolicy, Change, Code, Command, Direction, Event, Failure, Limits, PeerRef, Reply, ShareInfo, Stage,
};
use peer_to_peer::wire::{
    AskId, AskProof, ContentOffer, FileHash, MAX_MANIFEST_SIZE, Message, NodeId as Identity, OfferId,
    PeerAddr, Side,
};
use world::disk_model::{entries_of, file_hash};
use world::swarm::{CHUNK, bare, offer_of, swarm_script};
use world::{NodeId, SECOND, ScriptId, World};

impl World {
    fn try_share(&mut self, node: NodeId, path: &str, known_only: bool) -> Result<ShareInfo, Failure> {
        let command = Command::Share { path: path.into(), known_only, is_kept: true };
        match self.run_command(node, command)? {
            Reply::Shared(share) => Ok(*share),
            other => panic!("{other:?}"),
        }
    }

    fn shares(&mut self, node: NodeId) -> Vec<ShareInfo> {
        match self.run_command(node, Command::Shares) {
            Ok(Reply::Shares(shares)) => shares,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for something as one who knows its hash.
    fn ask(&mut self, script: ScriptId, id: u64, hash: FileHash) {
        let proof = AskProof::new(self.binding_of(script), Side::Dialler, hash);
        self.say(script, Message::Ask { id: AskId(id), proof });
    }

    /// The same, and what is said to that before long.
    fn answer_to(&mut self, script: ScriptId, id: u64, hash: FileHash) -> Option<Message> {
        self.ask(script, id, hash);
        self.run_for(SECOND / 4);
        self.answer(script, id)
    }

    /// What was said to a question.
    fn answer(&self, script: ScriptId, question: u64) -> Option<Message> {
        let is_answer = |message: &&Message| match message {
            Message::Lack { id, .. } => *id == AskId(question),
            Message::Offer(offer) => offer.answers == Some(AskId(question)),
            _ => false,
        };
        self.scripts[script.0].heard.iter().find(is_answer).cloned()
    }

    /// Takes what it was offered, so that it is being served.
    fn accept(&mut self, script: ScriptId, question: u64) -> OfferId {
        let Some(Message::Offer(offer)) = self.answer(script, question) else {
            panic!("{:?}", self.answer(script, question))
        };
        self.say(script, Message::Accept { id: offer.id, kept: None, wants_list: false });
        self.run_for(SECOND / 10);
        offer.id
    }

    fn heard_withdrawn(&self, script: ScriptId, offer: OfferId) -> bool {
        let is_it = |message: &Message| match message {
            Message::Withdraw { id, reason } => *id == offer && reason.code == "withdrawn",
            _ => false,
        };
        self.scripts[script.0].heard.iter().any(is_it)
    }

    /// Answers the question for a content with an offer of all of it.
    fn offer(&mut self, script: ScriptId, bytes: &[u8], is_known_only: bool) {
        let entries = entries_of(bytes);
        let offer = offer_of(self, script, file_hash(bytes), bytes.len(), &entries, false);
        let offer = ContentOffer { is_known_only, ..offer };
        self.say(script, Message::Offer(offer));
        self.run_for(SECOND / 10);
    }

    fn warnings(&self, node: NodeId) -> Vec<String> {
        self.events(node, |event| match event {
            Event::Warning { text, .. } => Some(text.clone()),
            _ => None,
        })
    }

    fn trust(&mut self, node: NodeId, who: u8) {
        self.note(node, &Change::Trust(Identity([who; 32])));
    }
}

fn lack(question: u64, code: &str) -> Option<Message> {
    Some(Message::Lack { id: AskId(question), code: code.into() })
}

fn is_offer(answer: &Option<Message>) -> bool {
    matches!(answer, Some(Message::Offer(_)))
}

/// A node with a file that it shares.
fn sharing(seed: u64, size: usize, known_only: bool) -> (World, NodeId, Vec<u8>, FileHash) {
    let mut world = World::new(seed);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(node, "file", size);
    world.try_share(node, "file", known_only).unwrap();
    let hash = file_hash(&bytes);
    (world, node, bytes, hash)
}

#[test]
fn what_only_trusted_peers_may_fetch_stays_with_those_whom_the_next_trusts() {
    let (mut world, seeder, bytes, hash) = sharing(1, 40 * CHUNK, true);
    world.trust(seeder, 2);
    world.line.bytes_per_sec = 1_000_000;
    let getter = world.secure_node(2, AcceptPolicy::Ask);
    world.trust(getter, 66);
    let (friend, stranger) = (swarm_script(&mut world, getter, 66), swarm_script(&mut world, getter, 67));
    world.connect(getter, seeder);
    // By the bare hash, which does not say who may have it.
    world.get(getter, &bare(&bytes)).unwrap();
    // One asks before it is known.
    world.ask(stranger, 1, hash);
    world.run_for(2 * SECOND);
    assert!(!world.has_got(getter));
    assert_eq!(world.answer(stranger, 1), lack(1, "not_found"));
    assert_eq!(world.answer_to(stranger, 2, hash), lack(2, "not_found"));
    let Some(Message::Offer(offer)) = world.answer_to(friend, 1, hash) else {
        panic!("{:?}", world.answer(friend, 1))
    };
    assert!(offer.is_known_only && offer.is_partial);
    world.run_until(|world| world.has_got(getter));
    let shares = world.shares(getter);
    assert!(shares[0].link.known_only && shares[0].link.hash == hash, "{shares:?}");
    assert_eq!(world.answer_to(stranger, 3, hash), lack(3, "not_found"));
}

#[test]
fn one_source_that_keeps_it_to_trusted_peers_is_enough() {
    let mut world = World::new(2);
    let getter = world.secure_node(2, AcceptPolicy::Ask);
    let bytes = world.rng.bytes(8 * CHUNK);
    let hash = file_hash(&bytes);
    let (open, private, stranger) = (
        swarm_script(&mut world, getter, 3),
        swarm_script(&mut world, getter, 4),
        swarm_script(&mut world, getter, 5),
    );
    world.get(getter, &bare(&bytes)).unwrap();
    world.run_for(SECOND / 10);
    world.offer(open, &bytes, false);
    assert!(is_offer(&world.answer_to(stranger, 1, hash)));
    let served = world.accept(stranger, 1);
    let told_of_others =
        |world: &World| world.scripts[stranger.0].heard.iter().any(|m| matches!(m, Message::Peers { .. }));
    assert!(!world.heard_withdrawn(stranger, served) && !told_of_others(&world));
    world.offer(private, &bytes, true);
    assert!(world.heard_withdrawn(stranger, served));
    assert_eq!(world.answer_to(stranger, 2, hash), lack(2, "not_found"));
    // Nor does it look for it among those of whom it is told.
    let elsewhere = world.secure_node(9, AcceptPolicy::Ask);
    let connections = world.connections();
    let addr = match world.run_command(elsewhere, Command::Whoami) {
        Ok(Reply::Whoami(info)) => info.listening,
        other => panic!("{other:?}"),
    };
    let peers = vec![PeerAddr { addr, node_id: None }];
    world.say(open, Message::Peers { id: OfferId(1), peers });
    world.run_for(5 * SECOND);
    assert_eq!(world.connections(), connections);
}

#[test]
fn what_was_shared_with_all_and_is_for_the_trusted_now_is_taken_back_from_strangers() {
    let (mut world, seeder, _, hash) = sharing(3, 3 * CHUNK, false);
    world.trust(seeder, 66);
    let (friend, stranger) = (swarm_script(&mut world, seeder, 66), swarm_script(&mut world, seeder, 67));
    for script in [friend, stranger] {
        assert!(is_offer(&world.answer_to(script, 1, hash)));
    }
    let (kept, taken) = (world.accept(friend, 1), world.accept(stranger, 1));
    world.try_share(seeder, "file", true).unwrap();
    world.run_for(SECOND / 10);
    assert!(world.heard_withdrawn(stranger, taken) && !world.heard_withdrawn(friend, kept));
    assert_eq!(world.answer_to(stranger, 2, hash), lack(2, "not_found"));
    // Also after a restart.
    world.restart(seeder, false);
    let stranger = swarm_script(&mut world, seeder, 67);
    assert_eq!(world.answer_to(stranger, 3, hash), lack(3, "not_found"));
    // And back.
    world.try_share(seeder, "file", false).unwrap();
    assert!(is_offer(&world.answer_to(stranger, 4, hash)));
    let served = world.accept(stranger, 4);
    world.run_command(seeder, Command::Unshare("file".into())).unwrap();
    world.run_for(SECOND / 10);
    assert!(world.heard_withdrawn(stranger, served));
    assert!(world.nodes[seeder.0].shares.is_empty());
}

#[test]
fn of_two_notes_about_the_same_content_the_stricter_counts() {
    let (mut world, seeder, _, hash) = sharing(13, 3 * CHUNK, true);
    let mut open = world.nodes[seeder.0].shares[0].clone();
    open.known_only = false;
    for at in [0, 1] {
        world.nodes[seeder.0].shares.truncate(1);
        world.nodes[seeder.0].shares.insert(at, open.clone());
        world.restart(seeder, false);
        let stranger = swarm_script(&mut world, seeder, 67);
        assert_eq!(world.answer_to(stranger, 1, hash), lack(1, "not_found"));
        world.nodes[seeder.0].shares.remove(at);
    }
}

#[test]
fn who_is_not_trusted_any_longer_is_not_served_any_longer() {
    let (mut world, seeder, _, hash) = sharing(4, 3 * CHUNK, true);
    world.trust(seeder, 66);
    let friend = swarm_script(&mut world, seeder, 66);
    assert!(is_offer(&world.answer_to(friend, 1, hash)));
    let served = world.accept(friend, 1);
    let name = PeerRef::Name(Identity([66; 32]).to_string());
    world.run_command(seeder, Command::Forget(name)).unwrap();
    world.run_for(SECOND / 10);
    assert!(world.heard_withdrawn(friend, served));
}

#[test]
fn what_is_shared_at_a_path_takes_the_place_of_what_was_there() {
    let (mut world, seeder, bytes, hash) = sharing(5, 3 * CHUNK, false);
    let peer = swarm_script(&mut world, seeder, 66);
    assert!(is_offer(&world.answer_to(peer, 1, hash)));
    let served = world.accept(peer, 1);
    let now = world.put(seeder, "file", 2 * CHUNK);
    assert_ne!(now, bytes);
    world.try_share(seeder, "file", false).unwrap();
    world.run_for(SECOND / 10);
    assert!(world.heard_withdrawn(peer, served));
    assert_eq!(world.shares(seeder).len(), 1);
    assert!(is_offer(&world.answer_to(peer, 2, file_hash(&now))));
    assert_eq!(world.answer_to(peer, 3, hash), lack(3, "not_found"));
}

#[test]
fn a_share_that_has_changed_is_told_of_once_and_read_once() {
    let (mut world, seeder, bytes, hash) = sharing(6, 3 * CHUNK, false);
    let peer = swarm_script(&mut world, seeder, 66);
    world.put(seeder, "file", 3 * CHUNK);
    world.nodes[seeder.0].disk.chunks_hashed = 0;
    // Its hashes cannot be remembered, and it is asked for again and again.
    world.nodes[seeder.0].disk.unsettled.insert("file".into(), Duration::from_millis(1));
    let opened = world.nodes[seeder.0].disk.opened;
    for question in 1..=100 {
        assert_eq!(world.answer_to(peer, question, hash), lack(question, "not_found"));
        world.run_for(2 * SECOND);
    }
    assert_eq!(world.nodes[seeder.0].disk.chunks_hashed, 3);
    let looks = world.nodes[seeder.0].disk.opened - opened;
    assert!((5..12).contains(&looks), "it is looked at now and then: {looks}");
    let warnings = world.warnings(seeder);
    assert!(warnings.len() == 1 && warnings[0].contains("has changed since"), "{warnings:?}");
    assert!(world.shares(seeder)[0].has_changed);
    // Another change is looked at, and told of no more.
    world.put(seeder, "file", 4 * CHUNK);
    world.run_for(40 * SECOND);
    assert_eq!(world.answer_to(peer, 200, hash), lack(200, "not_found"));
    assert_eq!(world.warnings(seeder).len(), 1);
    assert_eq!(world.nodes[seeder.0].disk.chunks_hashed, 3, "its size tells");
    // It is what it was.
    world.nodes[seeder.0].disk.files.insert("file".into(), bytes);
    world.run_for(40 * SECOND);
    assert!(is_offer(&world.answer_to(peer, 201, hash)));
    assert!(!world.shares(seeder)[0].has_changed);
}

#[test]
fn a_share_that_is_gone_is_told_of_once_and_can_be_fetched() {
    let (mut world, seeder, bytes, hash) = sharing(7, 3 * CHUNK, false);
    let peer = swarm_script(&mut world, seeder, 66);
    world.nodes[seeder.0].disk.files.clear();
    for question in 1..=3 {
        assert_eq!(world.answer_to(peer, question, hash), lack(question, "not_found"));
        world.run_for(40 * SECOND);
    }
    let warnings = world.warnings(seeder);
    assert!(warnings.len() == 1 && warnings[0].contains("cannot be served"), "{warnings:?}");
    let other = world.secure_node(3, AcceptPolicy::Ask);
    world.nodes[other.0].disk.files.insert("file".into(), bytes.clone());
    world.try_share(other, "file", false).unwrap();
    world.connect(seeder, other);
    world.get(seeder, &bare(&bytes)).unwrap();
    world.run_until(|world| world.has_got(seeder));
    assert!(is_offer(&world.answer_to(peer, 9, hash)));
}

#[test]
fn what_was_written_to_just_now_is_hashed_for_the_first_who_asks_and_once_for_all_others() {
    let mut world = World::new(8);
    let seeder = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(seeder, "file", 20 * CHUNK);
    let hash = file_hash(&bytes);
    world.nodes[seeder.0].disk.unsettled.insert("file".into(), 2 * SECOND);
    world.try_share(seeder, "file", false).unwrap();
    let peers: Vec<_> = (66..70).map(|who| swarm_script(&mut world, seeder, who)).collect();
    world.nodes[seeder.0].disk.chunks_hashed = 0;
    for peer in &peers {
        world.ask(*peer, 1, hash);
    }
    world.run_for(SECOND);
    let offered = |world: &World| peers.iter().filter(|peer| is_offer(&world.answer(**peer, 1))).count();
    assert_eq!(
        (offered(&world), world.nodes[seeder.0].disk.chunks_hashed),
        (1, 20),
        "it cannot be remembered yet"
    );
    world.nodes[seeder.0].disk.unsettled.clear();
    world.run_for(3 * SECOND);
    assert_eq!((offered(&world), world.nodes[seeder.0].disk.chunks_hashed), (4, 40));
}

#[test]
fn when_who_has_it_hashed_leaves_another_goes_on() {
    let (mut world, seeder, _, hash) = sharing(9, 60 * CHUNK, false);
    world.nodes[seeder.0].disk.clear_cache();
    world.nodes[seeder.0].slowness.disk = SECOND;
    let (first, second) = (swarm_script(&mut world, seeder, 66), swarm_script(&mut world, seeder, 67));
    world.ask(first, 1, hash);
    world.run_for(SECOND + SECOND / 2);
    world.ask(second, 1, hash);
    world.run_for(2 * SECOND);
    assert!(world.answer(first, 1).is_none(), "it is still being hashed");
    world.say(first, Message::Bye);
    world.end(first);
    world.run_for(20 * SECOND);
    assert!(!is_offer(&world.answer(first, 1)) && is_offer(&world.answer(second, 1)));
    world.run_command(seeder, Command::Unshare("file".into())).unwrap();
    world.run_to_end();
    assert!(world.nodes[seeder.0].disk.is_clean());
}

#[test]
fn what_nobody_could_fetch_is_not_shared_and_the_most_is_said() {
    let (mut world, node, b, b_name) = world::people::pair(10);
    world.put(node, "sparse", 10);
    for size in [MAX_MANIFEST_SIZE + 1, 1 << 49] {
        world.nodes[node.0].disk.sizes.insert("sparse".into(), size);
        let failure = world.try_share(node, "sparse", false).unwrap_err();
        assert_eq!(failure.code, Code::TooLarge);
        assert!(failure.message.contains("8.8 TB"), "{failure}");
        world.send_file(node, &b_name, "sparse");
        world.run_for(SECOND);
    }
    let refused = world.failures(node);
    let says = |(code, reason): &(Code, String)| *code == Code::TooLarge && reason.contains("8.8 TB");
    assert!(refused.len() == 2 && refused.iter().all(says), "{refused:?}");
    world.run_to_end();
    assert!(world.nodes[node.0].disk.is_clean() && world.transfers(b).is_empty());
}

#[test]
fn hashing_what_is_to_be_shared_is_seen_and_can_be_cancelled() {
    let mut world = World::new(11);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let bytes = world.put(node, "file", 100 * CHUNK);
    world.nodes[node.0].slowness.disk = SECOND / 2;
    let command = Command::Share { path: "file".into(), known_only: false, is_kept: true };
    let first = world.command(node, command.clone());
    world.run_for(2 * SECOND);
    let [info] = world.transfers(node).try_into().unwrap();
    assert_eq!((info.stage, info.direction, info.peer), (Stage::Hashing, Direction::Out, None));
    assert!(info.size == bytes.len() as u64 && info.bytes > 0 && info.bytes < info.size, "{info:?}");
    let progress = world.events(node, |event| match event {
        Event::Progress { id, peer: None, stage: Stage::Hashing, bytes, .. } => Some((*id, *bytes)),
        _ => None,
    });
    assert!(progress.len() > 1 && progress.iter().all(|(id, _)| *id == info.id), "{progress:?}");
    world.run_command(node, Command::Cancel { id: info.id, discard: false }).unwrap();
    world.run_for(SECOND);
    let failure = world.nodes[node.0].replies[&first].clone().unwrap_err();
    assert_eq!(failure.code, Code::Cancelled);
    world.run_to_end();
    assert!(world.nodes[node.0].disk.is_clean() && world.shares(node).is_empty());
    world.run_command(node, command).unwrap();
}

#[test]
fn what_too_many_ask_for_the_first_time_is_not_looked_at() {
    let mut world = World::new(12);
    let limits = Limits { ask_proofs_per_sec: 10, ..Limits::default() };
    let node = world.secure_node_with(1, AcceptPolicy::Ask, limits);
    let hashes: Vec<_> = (0..20)
        .map(|n| {
            let name = format!("file{n}");
            let bytes = world.put(node, &name, 100);
            world.try_share(node, &name, false).unwrap();
            file_hash(&bytes)
        })
        .collect();
    let mut peers: Vec<_> = (100..110).map(|who| swarm_script(&mut world, node, who)).collect();
    for peer in &peers {
        world.ask(*peer, 1, hashes[3]);
    }
    world.run_for(SECOND / 4);
    let busy = lack(1, "busy");
    let refused: BTreeSet<_> = peers.iter().copied().filter(|peer| world.answer(*peer, 1) == busy).collect();
    assert!((4..9).contains(&refused.len()), "{refused:?}");
    let late = *refused.first().unwrap();
    // Whether it is here makes no difference.
    assert_eq!(world.answer_to(late, 2, FileHash([9; 32])), lack(2, "busy"));
    peers.retain(|peer| !refused.contains(peer));
    assert!(is_offer(&world.answer_to(peers[0], 3, hashes[4])), "it has asked before");
    world.run_for(60 * SECOND);
    assert!(is_offer(&world.answer_to(late, 4, hashes[3])));
}
