//! What is said to those who ask for a content: when, in which order, and for how long, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{AcceptPolicy, Command, Event, Limits, Reply, Stage, Took};
use peer_to_peer::wire::{AskId, AskProof, FileHash, Link, Message, OfferId, Side};
use world::disk_model::{entries_of, file_hash};
use world::swarm::{CHUNK, answer, give, pulled_from, swarm_script};
use world::{NodeId, SECOND, ScriptId, World};

/// A moment that is enough for what is said to arrive.
const MOMENT: Duration = Duration::from_millis(100);

impl World {
    fn ask(&mut self, script: ScriptId, id: u64, hash: FileHash) {
        let proof = AskProof::new(self.binding_of(script), Side::Dialler, hash);
        self.say(script, Message::Ask { id: AskId(id), proof });
        self.run_for(MOMENT);
    }

    fn heard<T>(&self, script: ScriptId, pick: impl Fn(&Message) -> Option<T>) -> Vec<T> {
        self.scripts[script.0].heard.iter().filter_map(pick).collect()
    }

    /// The offer that answers a question.
    fn offered(&self, script: ScriptId, question: u64) -> Option<OfferId> {
        let is_it = |message: &Message| match message {
            Message::Offer(offer) if offer.answers == Some(AskId(question)) => Some(offer.id),
            _ => None,
        };
        self.heard(script, is_it).pop()
    }

    fn lacks(&self, script: ScriptId) -> Vec<(u64, String)> {
        self.heard(script, |message| match message {
            Message::Lack { id, code } => Some((id.0, code.clone())),
            _ => None,
        })
    }

    fn withdrawn(&self, script: ScriptId) -> Vec<(OfferId, String)> {
        self.heard(script, |message| match message {
            Message::Withdraw { id, reason } => Some((*id, reason.code.clone())),
            _ => None,
        })
    }

    /// The chunks that a script was told of.
    fn told(&self, script: ScriptId) -> Vec<u32> {
        let runs = self.heard(script, |message| match message {
            Message::Have { chunks, .. } => Some(chunks.clone()),
            _ => None,
        });
        in_order(runs.into_iter().flatten().flat_map(|(first, count)| first..first + count).collect())
    }

    fn accept(&mut self, script: ScriptId, question: u64) -> OfferId {
        let id = self.offered(script, question).unwrap();
        self.say(script, Message::Accept { id, kept: None, wants_list: false });
        self.run_for(MOMENT);
        id
    }

    fn pull(&mut self, script: ScriptId, id: OfferId, index: u32) {
        self.say(script, Message::Pull { id, first: index, count: 1 });
        self.run_for(MOMENT);
    }

    fn slow_disk(&mut self, node: NodeId, disk: Duration) {
        self.nodes[node.0].slowness = Took { disk, ..Took::default() };
    }

    fn warnings(&self, node: NodeId) -> Vec<String> {
        self.events(node, |event| match event {
            Event::Warning { text, .. } => Some(text.clone()),
            _ => None,
        })
    }
}

fn in_order(mut chunks: Vec<u32>) -> Vec<u32> {
    chunks.sort_unstable();
    chunks
}

/// A node that shares a file of three chunks.
fn sharing(seed: u64, limits: Limits) -> (World, NodeId, FileHash) {
    let mut world = World::new(seed);
    let node = world.secure_node_with(1, AcceptPolicy::Ask, limits);
    let bytes = world.put(node, "file", 3 * CHUNK);
    world.share(node, "file");
    (world, node, file_hash(&bytes))
}

/// A node that fetches a file from a scripted peer, which sends no chunk unless it is told to; and who asks it for that.
struct Fetching {
    world: World,
    getter: NodeId,
    source: ScriptId,
    asker: ScriptId,
    bytes: Vec<u8>,
    hash: FileHash,
    /// How many chunks the source gave.
    given: usize,
}

fn fetching(mut world: World, chunks: usize, limits: Limits) -> Fetching {
    let getter = world.secure_node_with(100, AcceptPolicy::Ask, limits);
    let bytes = world.rng.bytes(chunks * CHUNK);
    let hash = file_hash(&bytes);
    let [source, asker] = [60, 66].map(|who| swarm_script(&mut world, getter, who));
    world.get(getter, &Link::bare(hash)).unwrap();
    world.run_for(MOMENT);
    answer(&mut world, source, hash, bytes.len(), &entries_of(&bytes), false);
    Fetching { world, getter, source, asker, bytes, hash, given: 0 }
}

impl Fetching {
    /// Gives the next chunk that the source was asked for, and says which that was.
    fn give(&mut self) -> u32 {
        let index = pulled_from(&self.world, self.source)[self.given];
        give(&mut self.world, self.source, &self.bytes, index);
        self.given += 1;
        index
    }

    fn give_the_rest(&mut self) {
        while self.given < self.bytes.len().div_ceil(CHUNK) {
            self.give();
            self.world.run_for(MOMENT);
        }
        self.world.run_until(|world| world.has_got(self.getter));
    }
}

#[test]
fn what_comes_while_an_offer_is_made_is_told_after_it() {
    let mut fetching = fetching(World::new(1), 10, Limits::default());
    let before: Vec<_> = (0..4).map(|_| fetching.give()).collect();
    fetching.world.run_for(SECOND);
    // Opening what is here takes a second, and reading its list for the offer another one.
    fetching.world.slow_disk(fetching.getter, SECOND);
    fetching.world.ask(fetching.asker, 1, fetching.hash);
    fetching.world.run_for(SECOND);
    fetching.world.slow_disk(fetching.getter, Duration::ZERO);
    let meanwhile: Vec<_> = (0..2).map(|_| fetching.give()).collect();
    fetching.world.run_for(3 * SECOND);
    let Fetching { world, asker, .. } = fetching;
    let place = |is_it: fn(&Message) -> bool| world.scripts[asker.0].heard.iter().position(is_it);
    let (offer, have) =
        (place(|m| matches!(m, Message::Offer(_))), place(|m| matches!(m, Message::Have { .. })));
    assert!(offer.is_some() && offer < have, "{:?}", world.scripts[asker.0].heard);
    assert_eq!(world.told(asker), in_order([before, meanwhile].concat()));
}

#[test]
fn who_reads_slowly_is_told_of_no_more_chunks_than_may_wait_for_it_and_of_all_in_the_end() {
    let limits = Limits { control_bytes_queued: 8 << 10, ..Limits::default() };
    let mut fetching = fetching(World::new(2), 80, limits);
    fetching.world.ask(fetching.asker, 1, fetching.hash);
    fetching.world.accept(fetching.asker, 1);
    let (asker, hash) = (fetching.asker, fetching.hash);
    fetching.world.scripts[asker.0].deaf = true;
    let given: Vec<_> = (0..75)
        .map(|_| {
            fetching.world.run_for(SECOND / 2);
            fetching.give()
        })
        .collect();
    fetching.world.run_for(SECOND);
    fetching.world.scripts[asker.0].deaf = false;
    // Anything that is said to it now goes on its way together with what waited.
    fetching.world.ask(asker, 2, FileHash([9; 32]));
    fetching.world.run_for(SECOND);
    assert_eq!(fetching.world.told(asker), in_order(given), "{:?}", fetching.world);
    // Once it is all here, that can be said in a few words.
    fetching.world.scripts[asker.0].deaf = true;
    fetching.give_the_rest();
    fetching.world.scripts[asker.0].deaf = false;
    fetching.world.ask(asker, 3, hash);
    fetching.world.run_for(SECOND);
    assert!((0..80).all(|index| fetching.world.told(asker).contains(&index)));
}

#[test]
fn who_asks_again_is_answered_once_and_that_costs_it_nothing() {
    let (mut world, node, hash) = sharing(3, Limits { refusals: 0, ..Limits::default() });
    let asker = swarm_script(&mut world, node, 66);
    world.nodes[node.0].disk.clear_cache();
    world.nodes[node.0].disk.chunks_hashed = 0;
    world.slow_disk(node, SECOND);
    for question in 1..=3 {
        world.ask(asker, question, hash);
    }
    let opened = world.nodes[node.0].disk.opened;
    world.run_for(20 * SECOND);
    let busy = |question| (question, "busy".to_owned());
    assert_eq!(world.lacks(asker), [busy(1), busy(2)]);
    assert_eq!((world.offered(asker, 1), world.offered(asker, 2)), (None, None));
    let first = world.offered(asker, 3).unwrap();
    assert_eq!((world.nodes[node.0].disk.chunks_hashed, world.nodes[node.0].disk.opened - opened), (3, 1));
    // Also what was offered.
    world.ask(asker, 4, hash);
    world.run_for(20 * SECOND);
    assert_eq!(world.withdrawn(asker), [(first, "withdrawn".to_owned())]);
    let second = world.accept(asker, 4);
    world.slow_disk(node, Duration::ZERO);
    world.pull(asker, second, 0);
    let data = |message: &Message| matches!(message, Message::Data { .. }).then_some(());
    assert_eq!(world.heard(asker, data).len(), 1);
    assert!(!world.scripts[asker.0].closed && world.warnings(node).is_empty(), "{world:?}");
}

#[test]
fn who_asks_while_it_is_put_in_place_is_offered_it_then() {
    let mut fetching = fetching(World::new(4), 3, Limits::default());
    fetching.world.slow_disk(fetching.getter, SECOND);
    for _ in 0..3 {
        fetching.give();
    }
    let getter = fetching.getter;
    let is_finishing = |world: &mut World| match world.run_command(getter, Command::Transfers) {
        Ok(Reply::Transfers(all)) => all.iter().any(|info| info.stage == Stage::Finishing),
        other => panic!("{other:?}"),
    };
    while !is_finishing(&mut fetching.world) {
        fetching.world.run_for(MOMENT);
    }
    fetching.world.ask(fetching.asker, 1, fetching.hash);
    assert!(!fetching.world.has_got(getter));
    fetching.world.run_for(20 * SECOND);
    let Fetching { world, asker, .. } = fetching;
    assert!(world.offered(asker, 1).is_some() && world.lacks(asker).is_empty(), "{world:?}");
}

#[test]
fn what_is_not_to_be_served_on_is_taken_back_from_who_fetches_it_when_it_is_here() {
    for (seeds, taken) in [(true, 0), (false, 1)] {
        let mut world = World::new(5);
        world.seeds = seeds;
        let mut fetching = fetching(world, 3, Limits::default());
        fetching.world.ask(fetching.asker, 1, fetching.hash);
        let offer = fetching.world.accept(fetching.asker, 1);
        let index = fetching.give();
        fetching.world.run_for(SECOND);
        fetching.world.pull(fetching.asker, offer, index);
        fetching.give_the_rest();
        fetching.world.run_for(SECOND);
        let Fetching { world, asker, getter, .. } = fetching;
        let data = |message: &Message| matches!(message, Message::Data { .. }).then_some(());
        assert_eq!(world.heard(asker, data).len(), 1, "it gives while it fetches");
        let withdrawn = vec![(offer, "withdrawn".to_owned()); taken];
        assert_eq!(world.withdrawn(asker), withdrawn, "{seeds}: {world:?}");
        let served = world.events(getter, |event| matches!(event, Event::Served { .. }).then_some(()));
        assert_eq!(served.len(), taken);
    }
}

#[test]
fn what_is_put_in_place_before_it_could_be_opened_for_an_asker_is_offered_from_there() {
    let mut fetching = fetching(World::new(6), 3, Limits::default());
    fetching.world.slow_disk(fetching.getter, 30 * SECOND);
    fetching.world.ask(fetching.asker, 1, fetching.hash);
    fetching.world.slow_disk(fetching.getter, Duration::ZERO);
    fetching.give_the_rest();
    assert_eq!(fetching.world.offered(fetching.asker, 1), None);
    fetching.world.run_for(40 * SECOND);
    let Fetching { mut world, asker, getter, .. } = fetching;
    let offer = world.accept(asker, 1);
    world.pull(asker, offer, 2);
    let data = |message: &Message| matches!(message, Message::Data { index: 2, .. }).then_some(());
    assert_eq!(world.heard(asker, data).len(), 1);
    assert_eq!(world.warnings(getter), Vec::<String>::new());
    match world.run_command(getter, Command::Shares) {
        Ok(Reply::Shares(shares)) => assert!(shares.len() == 1 && !shares[0].has_changed, "{shares:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_asks_and_takes_nothing_keeps_nobody_from_connecting() {
    let (mut world, node, hash) = sharing(7, Limits { peers: 3, ..Limits::default() });
    let scripts = [66, 67, 68].map(|who| {
        let script = swarm_script(&mut world, node, who);
        world.ask(script, 1, hash);
        world.accept(script, 1);
        script
    });
    // The oldest takes something.
    let offer = world.offered(scripts[0], 1).unwrap();
    world.pull(scripts[0], offer, 0);
    let closed = |world: &World| scripts.map(|script| world.scripts[script.0].closed);
    for (who, after, gone) in
        [(101, 100 * SECOND, [false, true, false]), (102, 300 * SECOND, [true, true, false])]
    {
        world.run_for(after);
        assert!(world.withdrawn(scripts[2]).is_empty());
        let newcomer = world.secure_node(who, AcceptPolicy::Ask);
        world.connect(newcomer, node);
        world.run_for(SECOND);
        assert_eq!(closed(&world), gone, "{world:?}");
        world.get(newcomer, &Link::bare(hash)).unwrap();
        world.run_until(|world| world.has_got(newcomer));
    }
}

#[test]
fn who_asks_and_takes_nothing_keeps_nobody_from_being_answered() {
    let (mut world, node, hash) = sharing(8, Limits { transfers: 4, ..Limits::default() });
    let idle = [66, 67, 68].map(|who| {
        let script = swarm_script(&mut world, node, who);
        world.ask(script, 1, hash);
        world.accept(script, 1);
        script
    });
    let offer = world.offered(idle[0], 1).unwrap();
    world.pull(idle[0], offer, 0);
    world.run_for(100 * SECOND);
    let late = swarm_script(&mut world, node, 69);
    world.ask(late, 1, hash);
    assert!(world.offered(late, 1).is_some(), "{world:?}");
    let codes = idle.map(|script| world.withdrawn(script).pop().map(|(_, code)| code));
    assert_eq!(codes, [None, Some("busy".to_owned()), None], "the one that was unused for longest");
    // It may ask again, and who fetches does.
    world.ask(idle[1], 2, hash);
    assert!(world.offered(idle[1], 2).is_some(), "{world:?}");
}

#[test]
fn who_took_back_what_it_offered_is_asked_again() {
    let mut fetching = fetching(World::new(9), 3, Limits::default());
    let asks = |world: &World, source| {
        world.heard(source, |message: &Message| matches!(message, Message::Ask { .. }).then_some(())).len()
    };
    assert_eq!(asks(&fetching.world, fetching.source), 1);
    let reason = peer_to_peer::wire::Reason::new("busy", "others want its place");
    fetching.world.say(fetching.source, Message::Withdraw { id: OfferId(1), reason });
    fetching.world.run_for(35 * SECOND);
    assert_eq!(asks(&fetching.world, fetching.source), 2, "{:?}", fetching.world);
}
