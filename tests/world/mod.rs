//! A network of real engines in virtual time.
//!
//! [`World`] owns nodes (an engine, a disk in memory), links between them with latency and
//! bandwidth, and scripted peers that say whatever a test wants. Everything that takes time is
//! drawn from one seed, so that a run can be repeated exactly. Nothing here waits: time jumps to
//! the next thing that happens.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "test support, a module of each test that uses it")]

#[path = "disk.rs"]
pub mod disk_model;
pub mod people;
pub mod swarm;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use peer_to_peer::engine::{
    AcceptRules, Book, Change, Closing, Code, Command, CommandId, ConnId, DhtState, Dialled, Engine,
    EngineConfig, Event, Failure, HistoryEntry, HostPort, Input, Job, Limits, OutboxEntry, OutboxItem,
    OutboxJob, OutboxNews, Output, Reading, Remembered, Reply, Shared, StreamId, Target, Took, TransferId,
};
use peer_to_peer::wire::{
    BadLine, Binding, CircuitPart, DhtKey, Instance, Lane as Turn, Message, NodeId as Identity, TextKey,
};

pub use disk_model::MemDisk;

/// Small numbers from a seed (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A peer without an engine: the test says what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScriptId(pub usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Node(NodeId, ConnId),
    Script(ScriptId),
}

pub struct Node {
    pub engine: Engine,
    pub disk: MemDisk,
    pub events: Vec<(Duration, Event)>,
    pub replies: BTreeMap<CommandId, Result<Reply, Failure>>,
    pub identity: Option<Identity>,
    pub book: Book,
    /// What it shares again when it is started anew.
    pub shares: Vec<Shared>,
    /// What it had kept.
    pub history: Vec<Remembered>,
    /// Which of [`World::homes`] is its home.
    pub home: usize,
    /// Its ends of circuits, who must be at the other, and what came for them.
    pub streams: Vec<(StreamId, Option<Identity>)>,
    pub came: Vec<(StreamId, CircuitPart)>,
    book_changes: u64,
    strands: BTreeMap<TransferId, VecDeque<(Job, Took)>>,
    /// How much longer each of its jobs takes.
    pub slowness: Took,
    links: BTreeMap<ConnId, usize>,
    tick_at: Option<Duration>,
    last_conn: u64,
    last_command: u64,
    config: EngineConfig,
    /// How often it was started anew.
    run: u32,
}

#[derive(Default)]
pub struct Script {
    pub heard: Vec<Message>,
    /// Its connection was closed by the node.
    pub closed: bool,
    /// It reads nothing.
    pub deaf: bool,
    /// Who its handshake proved it to be.
    pub identity: Option<Identity>,
    link: usize,
}

/// How a link behaves, both ways.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub latency: Duration,
    pub bytes_per_sec: u64,
}

/// One direction of a link.
#[derive(Default)]
struct Lane {
    control: VecDeque<Message>,
    circuits: VecDeque<Message>,
    bulk: VecDeque<Message>,
    sending: bool,
    /// The sender wants to end after what is queued without file content.
    ending: bool,
    ended: bool,
}

struct Link {
    ends: [End; 2],
    line: Line,
    lanes: [Lane; 2],
    cut: bool,
}

enum Happening {
    /// A message has left the sender of a lane.
    Left(usize, usize, Message),
    Arrives(usize, usize, Box<Input>),
    /// In which run of the node's program.
    JobEnds(NodeId, u32, TransferId),
    Tick(NodeId),
    /// A DHT says something to a node.
    DhtSays(NodeId, u32, Box<Input>),
    /// What a connection goes over is no more.
    Cut(usize),
    /// Something is noted in a node's home.
    Noted(NodeId, u32, Box<Noting>),
}

/// What is noted in a home.
enum Noting {
    Outbox(OutboxJob),
    Shown(Identity, TextKey),
}

/// What lasts of an outbox and of texts that were shown. Nodes of one user may share it.
#[derive(Debug, Default)]
pub struct Home {
    /// What waits for others, and which node holds it.
    pub outbox: BTreeMap<TextKey, (OutboxEntry, Option<NodeId>)>,
    pub shown: Vec<(Identity, TextKey)>,
    /// Nothing more can be noted.
    pub is_full: bool,
}

/// How long it takes to note something in a home.
const NOTED_AFTER: Duration = Duration::from_millis(2);

/// A DHT that answers what it was told, and whatever else a test makes it say.
#[derive(Debug)]
pub struct Dht {
    /// By whom nodes come in.
    pub entry: IpAddr,
    /// Where what is.
    pub announced: BTreeMap<DhtKey, BTreeSet<SocketAddr>>,
    /// What is answered to every question besides; each answer is one node's.
    pub lies: Vec<Vec<SocketAddr>>,
    /// How often each content was looked up, and when last.
    pub looked_up: BTreeMap<DhtKey, Vec<Duration>>,
    /// Look-ups that nobody needs any more.
    pub stopped: Vec<(NodeId, TransferId)>,
    /// With which ports nodes announce from now on, as they said.
    pub ports: Vec<(NodeId, u16)>,
}

impl Dht {
    pub fn new(entry: [u8; 4]) -> Self {
        Self {
            entry: entry.into(),
            announced: BTreeMap::new(),
            lies: Vec::new(),
            looked_up: BTreeMap::new(),
            stopped: Vec::new(),
            ports: Vec::new(),
        }
    }
}

pub struct World {
    pub now: Duration,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    pub scripts: Vec<Script>,
    pub line: Line,
    /// Bytes of pulled chunks that were put on lines.
    pub data_bytes: u64,
    /// Whether nodes made from now on ask quiet peers whether they are there.
    pub pings: bool,
    /// Whether nodes made from now on serve what they fetched.
    pub seeds: bool,
    /// Whether who is dialled was never met there before.
    pub first_contact: bool,
    /// Nodes made from now on take part in it.
    pub dht: Option<Dht>,
    /// Whether nodes made from now on look for others on the local network.
    pub lan: bool,
    /// Whether nodes made from now on keep what is for others who are away. They never come to rest then.
    pub outbox: bool,
    /// What lasts of the nodes' outboxes, each its own unless a test says otherwise.
    pub homes: BTreeMap<usize, Home>,
    /// What was dialled, by whom and when, whether or not somebody was there.
    pub dials: Vec<(Duration, NodeId, String)>,
    /// Where nobody listens any more.
    pub deserted: BTreeSet<String>,
    /// Whether a dial that nobody answers takes as long as one may.
    pub silent_dials: bool,
    links: Vec<Link>,
    /// The connections that go over circuits, and the streams at their ends.
    over: BTreeMap<usize, [(NodeId, StreamId); 2]>,
    agenda: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    last_happening: u64,
}

pub const SECOND: Duration = Duration::from_secs(1);

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            rng: Rng::new(seed),
            nodes: Vec::new(),
            scripts: Vec::new(),
            line: Line { latency: Duration::from_millis(5), bytes_per_sec: 100_000_000 },
            data_bytes: 0,
            pings: false,
            seeds: true,
            first_contact: false,
            dht: None,
            lan: false,
            outbox: false,
            homes: BTreeMap::new(),
            dials: Vec::new(),
            deserted: BTreeSet::new(),
            silent_dials: false,
            links: Vec::new(),
            over: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            last_happening: 0,
        }
    }

    pub fn node(&mut self, accept: impl Into<AcceptRules>) -> NodeId {
        self.node_with(accept, Limits::default())
    }

    pub fn node_with(&mut self, accept: impl Into<AcceptRules>, limits: Limits) -> NodeId {
        self.node_of(None, accept, limits)
    }

    /// A node that encrypts, with an identity that several may have.
    pub fn secure_node(&mut self, identity: u8, accept: impl Into<AcceptRules>) -> NodeId {
        self.secure_node_with(identity, accept, Limits::default())
    }

    pub fn secure_node_with(
        &mut self,
        identity: u8,
        accept: impl Into<AcceptRules>,
        limits: Limits,
    ) -> NodeId {
        self.node_of(Some(Identity([identity; 32])), accept, limits)
    }

    fn node_of(
        &mut self,
        identity: Option<Identity>,
        accept: impl Into<AcceptRules>,
        mut limits: Limits,
    ) -> NodeId {
        // Quiet nodes would ask after each other for ever, and no run would come to an end.
        if !self.pings {
            limits.ping_after = Duration::MAX;
        }
        let id = NodeId(self.nodes.len());
        let config = EngineConfig {
            instance: Instance(id.0 as u128),
            node_id: identity,
            agent: "world".into(),
            listening: addr_of(id),
            reachable: vec![Target { address: HostPort::from(addr_of(id)), id: identity }],
            seeds: self.seeds,
            dht: self.dht.is_some(),
            lan: self.lan,
            outbox: self.outbox,
            unix_time: Duration::from_secs(1_800_000_000),
            seed: id.0 as u64,
            downloads: "downloads".into(),
            accept: accept.into(),
            limits,
        };
        self.nodes.push(Node {
            engine: Engine::new(config.clone()),
            config,
            run: 0,
            disk: MemDisk::default(),
            events: Vec::new(),
            replies: BTreeMap::new(),
            identity,
            book: Book::default(),
            shares: Vec::new(),
            history: Vec::new(),
            home: id.0,
            streams: Vec::new(),
            came: Vec::new(),
            book_changes: 0,
            strands: BTreeMap::new(),
            slowness: Took::default(),
            links: BTreeMap::new(),
            tick_at: None,
            last_conn: 0,
            last_command: 0,
        });
        if self.dht.is_some() {
            self.join_dht(id);
        }
        self.homes.insert(id.0, Home::default());
        if self.outbox {
            self.open_outbox(id);
        }
        id
    }

    /// A node has the home of another from now on.
    pub fn share_home(&mut self, node: NodeId, with: NodeId) {
        self.nodes[node.0].home = self.nodes[with.0].home;
    }

    pub fn home(&mut self, node: NodeId) -> &mut Home {
        self.homes.get_mut(&self.nodes[node.0].home).unwrap()
    }

    fn open_outbox(&mut self, node: NodeId) {
        self.read_shown(node);
        self.nodes[node.0].engine.open_outbox();
        self.input(node, Input::Tick);
    }

    /// A node reads which texts were shown, as it does before a connection is there.
    fn read_shown(&mut self, node: NodeId) {
        let shown = self.home(node).shown.clone();
        if !shown.is_empty() {
            self.input(node, Input::KeysRead(shown));
        }
    }

    fn on_noted(&mut self, node: NodeId, noting: Noting) {
        let files = self.nodes[node.0].disk.files.clone();
        let home = self.home(node);
        let full = || Failure::new(Code::DiskError, "the disk is full");
        let input = match noting {
            Noting::Shown(from, key) if home.is_full => Input::Marked { from, key, failure: Some(full()) },
            Noting::Shown(from, key) => {
                home.shown.push((from, key));
                Input::Marked { from, key, failure: None }
            }
            Noting::Outbox(OutboxJob::Keep(entry)) => {
                let is_there = |path: &PathBuf| files.contains_key(path);
                let key = entry.key;
                let result = match &entry.what {
                    _ if home.is_full => Err(full()),
                    OutboxItem::File { path, .. } if !is_there(path) => {
                        Err(Failure::new(Code::SourceUnreadable, "there is no such file"))
                    }
                    _ => {
                        home.outbox.insert(key, (entry.clone(), Some(node)));
                        Ok(entry)
                    }
                };
                Input::Outbox(OutboxNews::Kept { key, result })
            }
            Noting::Outbox(OutboxJob::Remove(key)) => {
                home.outbox.remove(&key);
                return;
            }
            Noting::Outbox(OutboxJob::TakeOver) => {
                let mut entries = Vec::new();
                let elsewhere =
                    home.outbox.values().filter(|(_, of)| of.is_some_and(|of| of != node)).count();
                for (entry, holder) in home.outbox.values_mut().filter(|(_, holder)| holder.is_none()) {
                    *holder = Some(node);
                    entries.push(entry.clone());
                }
                entries.sort_by_key(|entry| entry.said_at);
                Input::Outbox(OutboxNews::Found { entries, elsewhere, damaged: Vec::new() })
            }
        };
        self.input(node, input);
    }

    /// Gives a command; its reply is in [`Node::replies`] when it is there.
    pub fn command(&mut self, node: NodeId, command: Command) -> CommandId {
        self.nodes[node.0].last_command += 1;
        let id = CommandId(self.nodes[node.0].last_command);
        self.input(node, Input::Command { id, command });
        id
    }

    /// Gives a command and lets time pass until it is answered.
    pub fn run_command(&mut self, node: NodeId, command: Command) -> Result<Reply, Failure> {
        let id = self.command(node, command);
        self.run_until(|world| world.nodes[node.0].replies.contains_key(&id));
        self.nodes[node.0].replies[&id].clone()
    }

    /// Connects two nodes and answers how `from` calls `to` from then on.
    pub fn connect(&mut self, from: NodeId, to: NodeId) -> String {
        let name = addr_of(to).to_string();
        self.run_command(from, Command::Connect(name.parse().unwrap())).unwrap();
        name
    }

    /// Connects a scripted peer to a node.
    pub fn script(&mut self, to: NodeId) -> ScriptId {
        self.script_as(None, to)
    }

    /// What both ends of a scripted peer's connection know.
    pub fn binding_of(&self, script: ScriptId) -> Binding {
        let mut both_know = [0; 32];
        both_know[..8].copy_from_slice(&self.scripts[script.0].link.to_be_bytes());
        Binding(both_know)
    }

    /// The same, with an identity.
    pub fn script_as(&mut self, identity: Option<Identity>, to: NodeId) -> ScriptId {
        let id = ScriptId(self.scripts.len());
        self.scripts.push(Script { link: self.links.len(), identity, ..Script::default() });
        self.link(End::Script(id), to, None);
        id
    }

    fn link(&mut self, from: End, to: NodeId, dialled: Option<Dialled>) {
        let link = self.links.len();
        let to_conn = self.new_conn(to, link);
        let line = self.line;
        let lanes = [Lane::default(), Lane::default()];
        self.links.push(Link { ends: [from, End::Node(to, to_conn)], line, lanes, cut: false });
        let from_addr = match from {
            End::Node(node, conn) => {
                self.nodes[node.0].links.insert(conn, link);
                SocketAddr::new(addr_of(node).ip(), 10_000 + u16::try_from(conn.0 % 50_000).unwrap())
            }
            End::Script(script) => ([11, 0, 0, 1], 10_000 + u16::try_from(script.0).unwrap()).into(),
        };
        let node_id = match from {
            End::Node(node, _) => self.nodes[node.0].identity,
            End::Script(script) => self.scripts[script.0].identity,
        };
        let mut both_know = [0; 32];
        both_know[..8].copy_from_slice(&link.to_be_bytes());
        let binding = node_id.map(|_| Binding(both_know));
        self.read_shown(to);
        if let End::Node(node, _) = from {
            self.read_shown(node);
        }
        let opened = Input::Opened {
            conn: to_conn,
            addr: from_addr,
            dialled: None,
            binding,
            node_id,
            first_contact: false,
            stream: None,
        };
        self.input(to, opened);
        if let End::Node(node, conn) = from {
            let (node_id, first_contact) = (self.nodes[to.0].identity, self.first_contact);
            self.input(
                node,
                Input::Opened {
                    conn,
                    addr: addr_of(to),
                    dialled,
                    binding,
                    node_id,
                    first_contact,
                    stream: None,
                },
            );
        }
    }

    /// Two nodes greet each other over the two ends of a circuit, the one that wanted it first. What they say
    /// takes a way of its own, that lasts as long as the circuit.
    pub fn meet(&mut self, ends: [(NodeId, StreamId); 2]) {
        let link = self.links.len();
        let conns = ends.map(|(node, _)| self.new_conn(node, link));
        let nodes = [0, 1].map(|end| End::Node(ends[end].0, conns[end]));
        self.links.push(Link {
            ends: nodes,
            line: self.line,
            lanes: [Lane::default(), Lane::default()],
            cut: false,
        });
        self.over.insert(link, ends);
        let mut both_know = [0; 32];
        both_know[..8].copy_from_slice(&link.to_be_bytes());
        for end in [1, 0] {
            let (node, stream) = ends[end];
            let opened = Input::Opened {
                conn: conns[end],
                addr: stream.addr(),
                dialled: None,
                binding: Some(Binding(both_know)),
                node_id: self.nodes[ends[1 - end].0.0].identity,
                first_contact: false,
                stream: Some(stream),
            };
            self.input(node, opened);
        }
    }

    fn cut_over(&mut self, link: usize) {
        self.cut_link(link);
        for (node, stream) in self.over.remove(&link).into_iter().flatten() {
            let part = CircuitPart::End { code: "closed".to_owned() };
            self.input(node, Input::Stream { stream, part });
        }
    }

    /// How many connections were ever made.
    pub fn connections(&self) -> usize {
        self.links.len()
    }

    fn new_conn(&mut self, node: NodeId, link: usize) -> ConnId {
        let node = &mut self.nodes[node.0];
        node.last_conn += 1;
        node.links.insert(ConnId(node.last_conn), link);
        ConnId(node.last_conn)
    }

    pub fn say(&mut self, script: ScriptId, message: Message) {
        let link = self.scripts[script.0].link;
        self.lane_send(link, 0, message);
    }

    pub fn say_bad_line(&mut self, script: ScriptId, error: BadLine) {
        let link = self.scripts[script.0].link;
        if let End::Node(_, conn) = self.links[link].ends[1] {
            let latency = self.links[link].line.latency;
            self.at(latency, Happening::Arrives(link, 1, Box::new(Input::BadLine { conn, error })));
        }
    }

    /// The scripted peer says that it will say no more.
    pub fn end(&mut self, script: ScriptId) {
        let link = self.scripts[script.0].link;
        self.links[link].lanes[0].ending = true;
        self.pump(link, 0);
    }

    /// The node stops.
    pub fn stop(&mut self, node: NodeId) {
        self.input(node, Input::Stopping);
    }

    /// Kills a node and starts it again: it forgets everything but its disk, of which a failing power
    /// takes a part too.
    pub fn restart(&mut self, node: NodeId, power_fails: bool) {
        self.cut(node);
        let mut rng = self.rng.clone();
        self.rng.next();
        let old = &mut self.nodes[node.0];
        old.disk.crash(power_fails.then_some(&mut rng));
        old.strands.clear();
        old.links.clear();
        old.tick_at = None;
        old.run += 1;
        let mut config = old.config.clone();
        config.instance = Instance(node.0 as u128 + (u128::from(old.run) << 64));
        old.engine = Engine::new(config);
        let reading = Reading { book: old.book.clone(), as_of: old.book_changes };
        old.engine.handle(self.now, Input::BookRead(reading));
        old.engine.handle(self.now, Input::SharesRead(old.shares.clone()));
        old.engine.find_leftovers(Duration::from_secs(30 * 24 * 3600));
        self.input(node, Input::Tick);
        self.let_go(node);
        if self.nodes[node.0].config.outbox {
            self.open_outbox(node);
        }
    }

    /// A node that was killed holds nothing any more.
    fn let_go(&mut self, node: NodeId) {
        for (_, holder) in self.home(node).outbox.values_mut().filter(|(_, holder)| *holder == Some(node)) {
            *holder = None;
        }
    }

    /// Kills a node for good: nobody is there any more.
    pub fn kill(&mut self, node: NodeId) {
        self.cut(node);
        self.let_go(node);
        let dead = &mut self.nodes[node.0];
        dead.strands.clear();
        dead.links.clear();
        dead.tick_at = None;
        dead.run += 1;
        dead.engine = Engine::new(dead.config.clone());
        self.deserted.insert(addr_of(node).to_string());
    }

    /// Starts a node that was killed.
    pub fn revive(&mut self, node: NodeId) {
        self.deserted.remove(&addr_of(node).to_string());
        self.restart(node, false);
    }

    /// Breaks all connections of a node, unannounced.
    pub fn cut(&mut self, node: NodeId) {
        let links: Vec<_> = self.nodes[node.0].links.values().copied().collect();
        for link in links {
            self.cut_link(link);
        }
    }

    fn cut_link(&mut self, link: usize) {
        if std::mem::replace(&mut self.links[link].cut, true) {
            return;
        }
        for end in self.links[link].ends {
            match end {
                End::Node(node, conn) => {
                    let closing = Closing::Error("connection reset".into());
                    self.input(node, Input::Closed { conn, closing });
                }
                End::Script(script) => self.scripts[script.0].closed = true,
            }
        }
    }

    /// Lets happen what happens until the condition holds.
    pub fn run_until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(self.step(), "nothing happens any more, and the condition does not hold: {self:?}");
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.agenda.peek().is_some_and(|Reverse((at, _))| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets happen what happens until no more does; timers that only wait for something that will
    /// not come fire as well.
    pub fn run_to_end(&mut self) {
        while self.step() {}
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at, number))) = self.agenda.pop() else { return false };
        assert!(at >= self.now && at < Duration::from_secs(1_000_000), "the world never comes to rest");
        self.now = at;
        match self.happenings.remove(&number).unwrap() {
            Happening::Left(link, lane, message) => self.on_left(link, lane, message),
            Happening::Arrives(link, end, input) => self.on_arrival(link, end, *input),
            Happening::JobEnds(node, run, transfer) => {
                if self.nodes[node.0].run == run {
                    self.on_job_end(node, transfer);
                }
            }
            Happening::DhtSays(node, run, input) => {
                if self.nodes[node.0].run == run {
                    self.input(node, *input);
                }
            }
            Happening::Cut(link) => self.cut_over(link),
            Happening::Noted(node, run, noting) => {
                if self.nodes[node.0].run == run {
                    self.on_noted(node, *noting);
                }
            }
            Happening::Tick(node) => {
                if self.nodes[node.0].tick_at.take_if(|at| *at <= self.now).is_some() {
                    self.input(node, Input::Tick);
                }
            }
        }
        true
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.last_happening += 1;
        self.agenda.push(Reverse((self.now + after, self.last_happening)));
        self.happenings.insert(self.last_happening, happening);
    }

    pub fn input(&mut self, node: NodeId, input: Input) {
        self.nodes[node.0].engine.handle(self.now, input);
        while let Some(output) = self.nodes[node.0].engine.poll_output() {
            self.output(node, output);
        }
        let timeout = self.nodes[node.0].engine.poll_timeout();
        if timeout != self.nodes[node.0].tick_at {
            self.nodes[node.0].tick_at = timeout;
            if let Some(at) = timeout {
                self.at(at.saturating_sub(self.now), Happening::Tick(node));
            }
        }
    }

    fn output(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Send { conn, message } => {
                if let Some(&link) = self.nodes[node.0].links.get(&conn) {
                    let lane = self.lane_of(link, node, conn);
                    self.lane_send(link, lane, message);
                }
            }
            Output::Close { conn } => {
                if let Some(link) = self.nodes[node.0].links.remove(&conn) {
                    let lane = self.lane_of(link, node, conn);
                    self.links[link].lanes[lane].ending = true;
                    self.links[link].lanes[lane].circuits.clear();
                    self.links[link].lanes[lane].bulk.clear();
                    self.pump(link, lane);
                    if self.over.contains_key(&link) {
                        self.at(SECOND / 10, Happening::Cut(link));
                    }
                }
            }
            Output::Announce { key } => {
                let dht = self.dht.as_mut().expect("whoever announces is in it");
                dht.announced.entry(key).or_default().insert(addr_of(node));
            }
            Output::AnnouncePort { port } => {
                self.dht.as_mut().expect("whoever announces is in it").ports.push((node, port));
            }
            Output::Withdraw { key } => {
                let dht = self.dht.as_mut().expect("whoever withdraws is in it");
                dht.announced.entry(key).or_default().remove(&addr_of(node));
            }
            Output::LookUp { id, key } => self.look_up(node, id, key),
            Output::StopLooking { id } => {
                self.dht.as_mut().expect("whoever stops is in it").stopped.push((node, id));
            }
            Output::Dial(dialled) => {
                self.dials.push((self.now, node, dialled.target.address.to_string()));
                let target = &dialled.target;
                let address = target.address.to_string();
                let to = (0..self.nodes.len())
                    .map(NodeId)
                    .find(|to| [addr_of(*to).to_string(), name_of(*to)].contains(&address));
                match to.filter(|_| !self.deserted.contains(&address)) {
                    Some(to) if target.id.is_some_and(|id| self.nodes[to.0].identity != Some(id)) => {
                        let code = peer_to_peer::engine::Code::WrongIdentity;
                        let failure = Failure::new(code, format!("{address} is somebody else"));
                        self.input(node, Input::DialFailed { dialled, failure });
                    }
                    Some(to) => {
                        let link = self.links.len();
                        let conn = self.new_conn(node, link);
                        self.link(End::Node(node, conn), to, Some(dialled));
                    }
                    None => {
                        let failure = Failure::new(peer_to_peer::engine::Code::Unreachable, "no such node");
                        let failed = Input::DialFailed { dialled, failure };
                        if self.silent_dials {
                            let run = self.nodes[node.0].run;
                            self.at(4 * SECOND, Happening::DhtSays(node, run, Box::new(failed)));
                        } else {
                            self.input(node, failed);
                        }
                    }
                }
            }
            // What goes over a circuit is up to a test; see also [`World::meet`].
            Output::OpenStream { stream, wanted } => self.nodes[node.0].streams.push((stream, wanted)),
            Output::Stream { stream, part } => {
                let is_of = |(_, ends): &(&usize, &[(NodeId, StreamId); 2])| ends.contains(&(node, stream));
                let link = self.over.iter().find(is_of).map(|(link, _)| *link);
                if let (Some(link), CircuitPart::End { .. }) = (link, &part) {
                    self.at(self.line.latency, Happening::Cut(link));
                }
                self.nodes[node.0].came.push((stream, part));
            }
            Output::Note(changes) => {
                for change in changes {
                    let _ = self.nodes[node.0].book.apply(&change);
                }
                self.nodes[node.0].book_changes += 1;
                let reading = self.reading(node);
                self.input(node, Input::BookRead(reading));
            }
            Output::KeepShare(shared) => {
                let shares = &mut self.nodes[node.0].shares;
                shares.retain(|other| other.path != shared.path && other.file_hash != shared.file_hash);
                shares.push(shared);
            }
            Output::Remember(of) => self.nodes[node.0].history.push(of),
            Output::ReadHistory { command, query } => {
                let wanted = self.nodes[node.0].history.iter().filter(|of| query.wants(of));
                let dated =
                    wanted.map(|of| HistoryEntry { time: jiff::Timestamp::UNIX_EPOCH, of: of.clone() });
                let result = Ok(dated.collect());
                self.input(node, Input::HistoryRead { command, result });
            }
            Output::Outbox(job) => {
                let run = self.nodes[node.0].run;
                self.at(NOTED_AFTER, Happening::Noted(node, run, Box::new(Noting::Outbox(job))));
            }
            Output::Mark { from, key } => {
                let run = self.nodes[node.0].run;
                self.at(NOTED_AFTER, Happening::Noted(node, run, Box::new(Noting::Shown(from, key))));
            }
            Output::DropShare(hash) => self.nodes[node.0].shares.retain(|shared| shared.file_hash != hash),
            Output::ChangeBook { command, change, reply } => {
                let result = self.change_book(node, &change);
                self.input(node, Input::BookChanged { command, result, reply });
            }
            Output::Pin { conn, address, id } => {
                let result = self.change_book(node, &Change::Pin(address, id));
                self.input(node, Input::Pinned { conn, result });
            }
            Output::Job { transfer, job } => {
                let mut took = self.nodes[node.0].slowness;
                took.disk += Duration::from_micros(50 + self.rng.below(2000));
                let strand = self.nodes[node.0].strands.entry(transfer).or_default();
                strand.push_back((job, took));
                if strand.len() == 1 {
                    self.start_job(node, transfer);
                }
            }
            Output::Event(event) => {
                let now = self.now;
                self.nodes[node.0].events.push((now, event));
            }
            Output::Show { conn, peer, id, text } => {
                let now = self.now;
                self.nodes[node.0].events.push((now, Event::Message { peer, text }));
                self.input(node, Input::Shown { conn, id });
            }
            Output::Reply { command, result } => {
                assert!(self.nodes[node.0].replies.insert(command, result).is_none(), "answered twice");
            }
        }
    }

    /// A node hears how it stands with the DHT.
    pub fn hear_of_dht(&mut self, node: NodeId, state: DhtState) {
        self.input(node, Input::Dht(state));
    }

    /// A node has entered the DHT.
    pub fn join_dht(&mut self, node: NodeId) {
        let entry = self.dht.as_ref().expect("there is one").entry;
        self.hear_of_dht(node, DhtState::Joined { nodes: 8, entry });
    }

    fn look_up(&mut self, node: NodeId, id: TransferId, key: DhtKey) {
        let now = self.now;
        let dht = self.dht.as_mut().expect("whoever looks up is in it");
        dht.looked_up.entry(key).or_default().push(now);
        let known = dht.announced.get(&key).map(|addrs| addrs.iter().copied().collect());
        let answers: Vec<Vec<_>> = dht.lies.iter().cloned().chain(known).collect();
        let found = answers.into_iter().map(|addrs| Input::Found { id, addrs });
        let run = self.nodes[node.0].run;
        for input in found.chain([Input::LookedUp { id }]).collect::<Vec<_>>() {
            self.at(SECOND, Happening::DhtSays(node, run, Box::new(input)));
        }
    }

    fn change_book(&mut self, node: NodeId, change: &Change) -> Result<Reading, Failure> {
        self.nodes[node.0].book.apply(change)?;
        self.nodes[node.0].book_changes += 1;
        Ok(self.reading(node))
    }

    /// The node's book as it is now.
    pub fn reading(&self, node: NodeId) -> Reading {
        let node = &self.nodes[node.0];
        Reading { book: node.book.clone(), as_of: node.book_changes }
    }

    /// The node takes a book that it read at some time, not necessarily now.
    pub fn give_reading(&mut self, node: NodeId, reading: Reading) {
        self.input(node, Input::BookRead(reading));
    }

    /// Another process of the node's home notes something, and the node reads it.
    pub fn note(&mut self, node: NodeId, change: &Change) {
        let reading = self.change_book(node, change).unwrap();
        self.give_reading(node, reading);
    }

    fn start_job(&mut self, node: NodeId, transfer: TransferId) {
        let Took { disk, hashing } = self.nodes[node.0].strands[&transfer][0].1;
        let run = self.nodes[node.0].run;
        self.at(disk + hashing, Happening::JobEnds(node, run, transfer));
    }

    fn on_job_end(&mut self, node: NodeId, transfer: TransferId) {
        let strand = self.nodes[node.0].strands.get_mut(&transfer).unwrap();
        let (job, took) = strand.pop_front().unwrap();
        if strand.is_empty() {
            self.nodes[node.0].strands.remove(&transfer);
        } else {
            self.start_job(node, transfer);
        }
        let done = self.nodes[node.0].disk.run(transfer, job);
        self.input(node, Input::JobDone { transfer, done, took });
    }

    fn lane_of(&self, link: usize, node: NodeId, conn: ConnId) -> usize {
        usize::from(self.links[link].ends[0] != End::Node(node, conn))
    }

    fn lane_send(&mut self, link: usize, lane: usize, message: Message) {
        let queues = &mut self.links[link].lanes[lane];
        let queue = match message.lane() {
            Turn::Control => &mut queues.control,
            Turn::Circuit => &mut queues.circuits,
            Turn::Bulk => &mut queues.bulk,
        };
        queue.push_back(message);
        self.pump(link, lane);
    }

    /// Starts the next message of a lane, if the line is free and the other end reads.
    fn pump(&mut self, link: usize, lane: usize) {
        let deaf =
            matches!(self.links[link].ends[1 - lane], End::Script(script) if self.scripts[script.0].deaf);
        let Link { lanes, line, cut, .. } = &mut self.links[link];
        let (line, queues) = (*line, &mut lanes[lane]);
        if queues.sending || queues.ended || *cut || deaf {
            return;
        }
        // What a scripted peer says keeps its order; a node's writer puts chunks last.
        let next = queues.control.pop_front().or_else(|| queues.circuits.pop_front());
        match next.or_else(|| queues.bulk.pop_front()) {
            Some(message) => {
                queues.sending = true;
                let takes =
                    Duration::from_nanos(message.weight() as u64 * 1_000_000_000 / line.bytes_per_sec);
                self.at(takes, Happening::Left(link, lane, message));
            }
            None if queues.ending => {
                queues.ended = true;
                if let End::Node(_, conn) = self.links[link].ends[1 - lane] {
                    let input = Box::new(Input::Closed { conn, closing: Closing::Eof });
                    self.at(line.latency, Happening::Arrives(link, 1 - lane, input));
                } else if let End::Script(script) = self.links[link].ends[1 - lane] {
                    self.scripts[script.0].closed = true;
                }
            }
            None => {}
        }
    }

    fn on_left(&mut self, link: usize, lane: usize, message: Message) {
        self.links[link].lanes[lane].sending = false;
        if self.links[link].cut {
            return;
        }
        if let Message::Data { data, .. } = &message {
            self.data_bytes += data.0.len() as u64;
        }
        let latency = self.links[link].line.latency;
        let of = |turn| usize::from(message.lane() == turn);
        let (control, circuits, bulk) = (of(Turn::Control), of(Turn::Circuit), of(Turn::Bulk));
        let receiver = self.links[link].ends[1 - lane];
        let conn = if let End::Node(_, conn) = receiver { conn } else { ConnId(0) };
        let input = Box::new(Input::Received { conn, message });
        self.at(latency, Happening::Arrives(link, 1 - lane, input));
        self.pump(link, lane);
        if let End::Node(node, conn) = self.links[link].ends[lane] {
            self.input(node, Input::Written { conn, control, circuits, bulk });
        }
    }

    fn on_arrival(&mut self, link: usize, end: usize, input: Input) {
        if self.links[link].cut {
            return;
        }
        match (self.links[link].ends[end], input) {
            (End::Node(node, _), input) => self.input(node, input),
            (End::Script(script), Input::Received { message, .. }) => {
                self.scripts[script.0].heard.push(message);
            }
            (End::Script(_), _) => {}
        }
    }

    /// The events of a node that a function picks out.
    pub fn events<T>(&self, node: NodeId, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.nodes[node.0].events.iter().filter_map(|(_, event)| pick(event)).collect()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "at {:?}", self.now)?;
        for (number, node) in self.nodes.iter().enumerate() {
            writeln!(f, "node {number}:")?;
            for (at, event) in &node.events {
                writeln!(f, "  {at:?} {event:?}")?;
            }
        }
        Ok(())
    }
}

/// Another name of where a node listens.
pub fn name_of(node: NodeId) -> String {
    format!("node{}:8000", node.0)
}

/// Where a node listens.
pub fn addr_of(node: NodeId) -> SocketAddr {
    ([11, 0, 0, 100 + u8::try_from(node.0).unwrap()], 8000).into()
}
