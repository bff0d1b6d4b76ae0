//! Contents that are shared and fetched by their hash, and scripted peers that have a part in that.

use std::sync::Arc;

use bytes::Bytes;
use peer_to_peer::engine::{AcceptPolicy, Command, Delivery, Event, Failure, Reply, TransferId};
use peer_to_peer::wire::{
    AskId, AskProof, CHUNK_SIZE, ChunkData, ContentOffer, ENTRIES_PER_PAGE, Entry, FileHash, Hello, Instance,
    Link, Message, NodeId as Identity, OfferId, SafeName, Side,
};

use super::disk_model::{file_hash, head_of};
use super::{NodeId, SECOND, ScriptId, World};

pub const CHUNK: usize = CHUNK_SIZE as usize;

impl World {
    pub fn share(&mut self, node: NodeId, path: &str) -> Link {
        let command = Command::Share { path: path.into(), known_only: false, is_kept: true };
        match self.run_command(node, command) {
            Ok(Reply::Shared(share)) => share.link,
            other => panic!("{other:?}"),
        }
    }

    pub fn get(&mut self, node: NodeId, link: &Link) -> Result<TransferId, Failure> {
        match self.run_command(node, Command::Get(Box::new(link.clone()))) {
            Ok(Reply::Getting { id, .. }) => Ok(id),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure),
        }
    }

    /// Who delivered what to a node, once it has got it.
    pub fn sources(&self, node: NodeId) -> Option<Vec<Delivery>> {
        self.events(node, |event| match event {
            Event::Received { sources, .. } => Some(sources.clone()),
            _ => None,
        })
        .pop()
    }

    pub fn has_got(&self, node: NodeId) -> bool {
        self.sources(node).is_some()
    }
}

pub fn bare(bytes: &[u8]) -> Link {
    Link::bare(file_hash(bytes))
}

/// So many nodes that share the same file, and one that is connected to all of them.
pub fn seeded(seed: u64, seeders: u8, size: usize) -> (World, Vec<NodeId>, NodeId, Vec<u8>) {
    seeded_over(100_000_000, seed, seeders, size)
}

/// The same, over lines of so many bytes a second.
pub fn seeded_over(
    bytes_per_sec: u64,
    seed: u64,
    seeders: u8,
    size: usize,
) -> (World, Vec<NodeId>, NodeId, Vec<u8>) {
    let mut world = World::new(seed);
    world.line.bytes_per_sec = bytes_per_sec;
    let bytes = world.rng.bytes(size);
    let nodes: Vec<_> = (0..seeders)
        .map(|n| {
            let node = world.secure_node(n + 1, AcceptPolicy::Ask);
            world.nodes[node.0].disk.files.insert("file".into(), bytes.clone());
            world.share(node, "file");
            node
        })
        .collect();
    let getter = world.secure_node(100, AcceptPolicy::Ask);
    for node in &nodes {
        world.connect(getter, *node);
    }
    world.run_for(SECOND);
    (world, nodes, getter, bytes)
}

/// Says what a peer of ours would say first.
pub fn swarm_script(world: &mut World, node: NodeId, who: u8) -> ScriptId {
    let script = world.script_as(Some(Identity([who; 32])), node);
    let features = ["transfer", "swarm", "pex", "tree"];
    world.say(
        script,
        Message::Hello(Hello {
            version: 1,
            agent: "script".into(),
            node_id: None,
            instance: Instance(who.into()),
            listen_port: 0,
            your_addr: None,
            features: features.map(str::to_owned).to_vec(),
        }),
    );
    world.run_for(SECOND / 10);
    script
}

/// What a script was asked last.
pub fn asked(world: &World, script: ScriptId) -> Option<AskId> {
    world.scripts[script.0].heard.iter().rev().find_map(|message| match message {
        Message::Ask { id, .. } => Some(*id),
        _ => None,
    })
}

pub fn page_of(entries: &[Entry]) -> Bytes {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect::<Vec<_>>().into()
}

/// What an offer has of a list: all of it, or nothing where it does not fit one page.
fn first_page_of(entries: &[Entry]) -> Bytes {
    if entries.len() <= ENTRIES_PER_PAGE as usize { page_of(entries) } else { Bytes::new() }
}

/// Answers the last question with an offer by this list.
pub fn answer(
    world: &mut World,
    script: ScriptId,
    hash: FileHash,
    size: usize,
    entries: &[Entry],
    partial: bool,
) {
    let offer = offer_of(world, script, hash, size, entries, partial);
    world.say(script, Message::Offer(offer));
    world.run_for(SECOND / 10);
}

/// What that says.
pub fn offer_of(
    world: &World,
    script: ScriptId,
    hash: FileHash,
    size: usize,
    entries: &[Entry],
    partial: bool,
) -> ContentOffer {
    let answers = asked(world, script);
    assert!(answers.is_some(), "it was asked");
    ContentOffer {
        id: OfferId(1),
        answers,
        is_partial: partial,
        is_known_only: false,
        name: SafeName::new("file").unwrap(),
        size: size as u64,
        tree: None,
        head: Some(Arc::new(head_of(size as u64, hash, entries))),
        page: first_page_of(entries),
    }
}

/// Gives a script's node whatever it asks for, from these bytes, until `node` has got it or bans the script.
pub fn serve(world: &mut World, script: ScriptId, node: NodeId, bytes: &[u8]) {
    let mut heard = 0;
    for _ in 0..10_000 {
        if world.has_got(node) || world.scripts[script.0].closed {
            return;
        }
        let news: Vec<_> = world.scripts[script.0].heard[heard..].to_vec();
        heard += news.len();
        for message in news {
            let Message::Pull { id, first, count } = message else { continue };
            for index in first..first + count {
                let data = ChunkData(bytes.chunks(CHUNK).nth(index as usize).unwrap().to_vec().into());
                world.say(script, Message::Data { id, index, data, entry: None });
            }
        }
        world.run_for(SECOND / 100);
    }
}

pub fn is_banned(world: &World, node: NodeId, who: u8) -> bool {
    world.nodes[node.0].book.is_banned(Identity([who; 32]), 1_800_000_000 + world.now.as_secs())
}

/// What a script asks for by its hash, as one who knows it.
pub fn ask_for(world: &mut World, script: ScriptId, hash: FileHash) {
    let proof = AskProof::new(world.binding_of(script), Side::Dialler, hash);
    world.say(script, Message::Ask { id: AskId(1), proof });
    world.run_for(SECOND / 10);
}

/// Whether a script was offered what it asked for.
pub fn is_offered(world: &World, script: ScriptId) -> bool {
    world.scripts[script.0].heard.iter().any(|message| matches!(message, Message::Offer(_)))
}

/// The chunks that a script was asked for, in the order in which it was.
pub fn pulled_from(world: &World, script: ScriptId) -> Vec<u32> {
    let runs = world.scripts[script.0].heard.iter().filter_map(|message| match message {
        Message::Pull { first, count, .. } => Some(*first..first + count),
        _ => None,
    });
    runs.flatten().collect()
}

/// Sends one chunk of these bytes, as of the only offer that was made.
pub fn give(world: &mut World, script: ScriptId, bytes: &[u8], index: u32) {
    let data = ChunkData(bytes.chunks(CHUNK).nth(index as usize).unwrap().to_vec().into());
    world.say(script, Message::Data { id: OfferId(1), index, data, entry: None });
}
