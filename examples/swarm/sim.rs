//! A swarm of real engines in virtual time: one has a content, everybody else fetches it.
//!
//! The engines and their messages are those of the program. What is simulated: lines, each node with one
//! rate up and one latency to each neighbour, and disks, which know good bytes from bad ones without
//! hashing, so that a thousand nodes fit into one process.
#![allow(unreachable_pub, reason = "a module of the example and of a test")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peer_to_peer::engine::{
    AcceptPolicy, Book, Closing, Code, Command, CommandId, ConnId, Dialled, Engine, EngineConfig, Event,
    Failure, HostPort, Input, Job, JobDone, Limits, Look, Output, Purpose, Reading, Reply, Target, Took,
    TransferId,
};
use peer_to_peer::wire::{
    Binding, CHUNK_SIZE, ChunkData, ChunkHash, ChunkIndex, Entry, FileHash, Instance, Lane, Link,
    ManifestBuilder, ManifestHead, Message, NodeId, State,
};

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Nodes that fetch, beside the one that has everything.
    pub peers: usize,
    /// Neighbours of each, on average.
    pub degree: usize,
    pub chunks: u32,
    /// Bytes a second that each node sends.
    pub up: u64,
    /// The least and the greatest time that a message takes to a neighbour.
    pub latency: (Duration, Duration),
    /// Which share of the peers claims to have all of it and sends rubbish.
    pub poisoners: f64,
    /// Which share of the peers leaves, at a random time, for good.
    pub churn: f64,
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            peers: 1000,
            degree: 40,
            chunks: 256,
            up: 10_000_000,
            latency: (Duration::from_millis(10), Duration::from_millis(60)),
            poisoners: 0.0,
            churn: 0.0,
            seed: 1,
        }
    }
}

impl Plan {
    /// How long it takes at least: all of it leaves the seeder once, and the last chunk spreads by doubling.
    pub fn ideal(&self) -> Duration {
        let size = f64::from(self.chunks) * f64::from(CHUNK_SIZE);
        let peers = (self.peers + 1) as f64;
        Duration::from_secs_f64(size / self.up as f64 * (1.0 + peers.log2() / f64::from(self.chunks)))
    }
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When each honest peer that stayed had all of it, in order.
    pub done: Vec<Duration>,
    /// How many of those never got it.
    pub starved: usize,
    /// Bytes that were sent more often than needed, as a share of those needed.
    pub waste: f64,
    /// Honest peers that were banned by anybody, and bans of poisoners.
    pub bans: (usize, usize),
}

/// SplitMix64 (Steele et al. 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than an index")
    }
}

/// When everybody is connected and it begins.
const SETTLED: Duration = Duration::from_secs(1);

/// What all of them trade.
struct Content {
    head: Arc<ManifestHead>,
    page: Bytes,
    good: Bytes,
    bad: Bytes,
}

impl Content {
    fn new(chunks: u32) -> Self {
        let size = u64::from(chunks) * u64::from(CHUNK_SIZE);
        let mut builder = ManifestBuilder::new(size).expect("it is small");
        let entry = Entry { hash: ChunkHash([1; 32]), state: State([2; 32]) };
        let mut pages = Vec::new();
        for _ in 0..chunks {
            pages.extend(builder.push(entry).expect("as many as there are"));
        }
        assert_eq!(pages.len(), 1, "a content of one page");
        let head = builder.finish(FileHash([3; 32])).expect("it has all entries");
        Self {
            head: Arc::new(head),
            page: entry.to_bytes().repeat(chunks as usize).into(),
            good: vec![0; CHUNK_SIZE as usize].into(),
            bad: vec![1; CHUNK_SIZE as usize].into(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Seeder,
    Honest,
    Poisoner,
}

struct Node {
    engine: Engine,
    role: Role,
    links: BTreeMap<ConnId, usize>,
    /// Chunks that wait for the line up, by connection, and whose turn it is.
    outgoing: BTreeMap<ConnId, VecDeque<Message>>,
    turn: ConnId,
    is_sending: bool,
    tick_at: Option<Duration>,
    done_at: Option<Duration>,
    left: bool,
    book: Book,
    book_changes: u64,
    sent: u64,
}

struct Wire {
    ends: [(usize, ConnId); 2],
    latency: Duration,
    is_cut: bool,
}

enum Happening {
    Arrives(usize, Box<Input>),
    /// A chunk has left a node on that connection.
    Left(usize, ConnId, Message),
    Job(usize, TransferId, JobDone),
    Tick(usize),
    Leaves(usize),
}

struct Sim {
    now: Duration,
    up: u64,
    content: Content,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    agenda: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    last: u64,
    /// Honest peers that stay and have not got it.
    missing: usize,
    bans: (usize, usize),
}

fn identity(number: usize) -> NodeId {
    let mut id = [9; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    NodeId(id)
}

fn number_of(id: NodeId) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[..8]);
    usize::from_be_bytes(bytes)
}

/// Each in a network of its own.
fn addr_of(number: usize) -> SocketAddr {
    let [a, b] = u16::try_from(number).expect("not so many").to_be_bytes();
    ([11, a, b, 1], 8000).into()
}

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> Outcome {
    let mut rng = Rng(plan.seed);
    let count = plan.peers + 1;
    let share = |part: f64| (0..plan.peers).map(|n| n + 1).filter(move |n| (*n as f64 * part).fract() < part);
    let poisoners: Vec<_> = if plan.poisoners > 0.0 { share(plan.poisoners).collect() } else { Vec::new() };
    let role = |number: usize| match number {
        0 => Role::Seeder,
        number if poisoners.contains(&number) => Role::Poisoner,
        _ => Role::Honest,
    };
    let nodes: Vec<_> = (0..count).map(|number| Node::new(number, role(number))).collect();
    let mut sim = Sim {
        now: Duration::ZERO,
        up: plan.up,
        content: Content::new(plan.chunks),
        nodes,
        wires: Vec::new(),
        agenda: BinaryHeap::new(),
        happenings: BTreeMap::new(),
        last: 0,
        missing: plan.peers - poisoners.len(),
        bans: (0, 0),
    };
    sim.connect_all(plan, &mut rng);
    // They say hello before anything is timed.
    while sim.agenda.peek().is_some_and(|Reverse((at, _))| *at < SETTLED) && sim.step() {}
    sim.now = SETTLED;
    for node in 0..count {
        sim.begin(node);
    }
    let leaving = share(plan.churn).count();
    let stays = |sim: &Sim, node: usize| sim.nodes[node].role == Role::Honest;
    for _ in 0..leaving {
        let node = 1 + rng.below(plan.peers);
        if stays(&sim, node) {
            let at = plan.ideal().mul_f64(rng.below(1000) as f64 / 1000.0);
            sim.at(at, Happening::Leaves(node));
        }
    }
    let patience = SETTLED + plan.ideal() * 20 + Duration::from_secs(60);
    while sim.missing > 0 && sim.now < patience && sim.step() {}
    sim.outcome(plan)
}

impl Node {
    fn new(number: usize, role: Role) -> Self {
        let target = Target { address: HostPort::from(addr_of(number)), id: Some(identity(number)) };
        let engine = Engine::new(EngineConfig {
            instance: Instance(number as u128),
            node_id: Some(identity(number)),
            agent: "simulated".into(),
            listening: addr_of(number),
            reachable: vec![target],
            seeds: true,
            dht: false,
            lan: false,
            outbox: false,
            unix_time: Duration::from_secs(1_800_000_000),
            seed: number as u64 ^ 0x5eed,
            downloads: "downloads".into(),
            accept: AcceptPolicy::None.into(),
            // Everybody keeps to the neighbours that it has.
            limits: Limits { found_dials: 0, ping_after: Duration::MAX, ..Limits::default() },
        });
        Self {
            engine,
            role,
            links: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            turn: ConnId(0),
            is_sending: false,
            tick_at: None,
            done_at: None,
            left: false,
            book: Book::default(),
            book_changes: 0,
            sent: 0,
        }
    }
}

impl Sim {
    fn connect_all(&mut self, plan: &Plan, rng: &mut Rng) {
        let count = self.nodes.len();
        let mut known = std::collections::BTreeSet::new();
        for from in 0..count {
            for number in 0..plan.degree.min(count - 1).div_ceil(2) {
                // The first is the next one, so that nobody is left alone.
                let to = if number == 0 { (from + 1) % count } else { rng.below(count) };
                if to != from && known.insert((from.min(to), from.max(to))) {
                    let (least, most) = plan.latency;
                    let spread = usize::try_from((most - least).as_micros()).expect("short") + 1;
                    let latency = least + Duration::from_micros(rng.below(spread) as u64);
                    self.connect(from, to, latency);
                }
            }
        }
    }

    fn connect(&mut self, from: usize, to: usize, latency: Duration) {
        let wire = self.wires.len();
        let conn = |node: &Node| ConnId(node.links.len() as u64 + 1);
        let ends = [(from, conn(&self.nodes[from])), (to, conn(&self.nodes[to]))];
        self.wires.push(Wire { ends, latency, is_cut: false });
        let mut both_know = [0; 32];
        both_know[..8].copy_from_slice(&wire.to_be_bytes());
        let target = Target { address: HostPort::from(addr_of(to)), id: None };
        for (side, (node, conn)) in ends.into_iter().enumerate() {
            self.nodes[node].links.insert(conn, wire);
            let other = ends[1 - side].0;
            self.input(
                node,
                Input::Opened {
                    conn,
                    addr: addr_of(other),
                    dialled: (side == 0).then(|| Dialled { target: target.clone(), why: Purpose::Typed }),
                    binding: Some(Binding(both_know)),
                    node_id: Some(identity(other)),
                    first_contact: false,
                    stream: None,
                },
            );
        }
    }

    /// The seeder and poisoners share, the others fetch.
    fn begin(&mut self, node: usize) {
        let command = match self.nodes[node].role {
            Role::Seeder | Role::Poisoner => {
                Command::Share { path: "content".into(), known_only: false, is_kept: false }
            }
            Role::Honest => Command::Get(Box::new(Link::bare(self.content.head.file_hash()))),
        };
        self.input(node, Input::Command { id: CommandId(1), command });
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.last += 1;
        self.agenda.push(Reverse((self.now + after, self.last)));
        self.happenings.insert(self.last, happening);
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at, number))) = self.agenda.pop() else { return false };
        self.now = at;
        match self.happenings.remove(&number).expect("it was put in") {
            Happening::Arrives(node, input) => self.input(node, *input),
            Happening::Left(node, conn, message) => self.on_left(node, conn, message),
            Happening::Job(node, transfer, done) => {
                self.input(node, Input::JobDone { transfer, done, took: Took::default() });
            }
            Happening::Tick(node) => {
                if self.nodes[node].tick_at.take_if(|at| *at <= self.now).is_some() {
                    self.input(node, Input::Tick);
                }
            }
            Happening::Leaves(node) => self.leave(node),
        }
        true
    }

    fn leave(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].left, true) {
            return;
        }
        self.missing -= usize::from(self.nodes[node].done_at.is_none());
        for wire in self.nodes[node].links.values().copied().collect::<Vec<_>>() {
            self.cut(wire, node);
        }
    }

    fn cut(&mut self, wire: usize, by: usize) {
        if std::mem::replace(&mut self.wires[wire].is_cut, true) {
            return;
        }
        let [one, two] = self.wires[wire].ends;
        let (node, conn) = if one.0 == by { two } else { one };
        let input = Input::Closed { conn, closing: Closing::Eof };
        let latency = self.wires[wire].latency;
        self.at(latency, Happening::Arrives(node, Box::new(input)));
    }

    fn input(&mut self, node: usize, input: Input) {
        if self.nodes[node].left {
            return;
        }
        self.nodes[node].engine.handle(self.now, input);
        while let Some(output) = self.nodes[node].engine.poll_output() {
            self.output(node, output);
        }
        let timeout = self.nodes[node].engine.poll_timeout();
        if timeout != self.nodes[node].tick_at {
            self.nodes[node].tick_at = timeout;
            if let Some(at) = timeout {
                self.at(at.saturating_sub(self.now), Happening::Tick(node));
            }
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { conn, message } if message.lane() == Lane::Bulk => {
                self.nodes[node].outgoing.entry(conn).or_default().push_back(message);
                self.send_next(node);
            }
            Output::Send { conn, message } => {
                self.deliver(node, conn, message);
                // It is small, and never waits.
                let written = Input::Written { conn, control: 1, circuits: 0, bulk: 0 };
                self.at(Duration::ZERO, Happening::Arrives(node, Box::new(written)));
            }
            Output::Close { conn } => {
                self.nodes[node].outgoing.remove(&conn);
                if let Some(wire) = self.nodes[node].links.get(&conn).copied() {
                    self.cut(wire, node);
                }
            }
            Output::Dial(dialled) => {
                let failure = Failure::new(Code::Unreachable, "nobody is dialled here");
                self.input(node, Input::DialFailed { dialled, failure });
            }
            Output::Job { transfer, job } => {
                let done = self.job(node, job);
                self.at(Duration::from_micros(500), Happening::Job(node, transfer, done));
            }
            Output::Note(changes) => {
                for change in &changes {
                    if let peer_to_peer::engine::Change::Ban(id, ..) = change {
                        match self.nodes[number_of(*id)].role {
                            Role::Poisoner => self.bans.1 += 1,
                            Role::Seeder | Role::Honest => self.bans.0 += 1,
                        }
                    }
                    let _ = self.nodes[node].book.apply(change);
                }
                self.nodes[node].book_changes += 1;
                let Node { book, book_changes, .. } = &self.nodes[node];
                let reading = Reading { book: book.clone(), as_of: *book_changes };
                self.input(node, Input::BookRead(reading));
            }
            Output::Event(Event::Received { .. }) => {
                let now = self.now;
                if self.nodes[node].done_at.replace(now).is_none() {
                    self.missing -= 1;
                }
            }
            Output::Reply { result: Ok(Reply::Shared(_) | Reply::Getting { .. }), .. } => {}
            Output::Reply { result, .. } => panic!("{result:?}"),
            _ => {}
        }
    }

    /// The next chunk of the next connection goes on the line.
    fn send_next(&mut self, number: usize) {
        let up = self.up;
        let node = &mut self.nodes[number];
        if node.is_sending {
            return;
        }
        let later = node.outgoing.range(ConnId(node.turn.0 + 1)..).next().map(|(conn, _)| *conn);
        let Some(conn) = later.or_else(|| node.outgoing.keys().next().copied()) else { return };
        let queue = node.outgoing.get_mut(&conn).expect("just found");
        let message = queue.pop_front().expect("none is kept empty");
        if queue.is_empty() {
            node.outgoing.remove(&conn);
        }
        node.turn = conn;
        node.is_sending = true;
        let takes = Duration::from_nanos(message.weight() as u64 * 1_000_000_000 / up);
        self.at(takes, Happening::Left(number, conn, message));
    }

    fn on_left(&mut self, node: usize, conn: ConnId, message: Message) {
        self.nodes[node].is_sending = false;
        self.nodes[node].sent += 1;
        self.deliver(node, conn, message);
        self.input(node, Input::Written { conn, control: 0, circuits: 0, bulk: 1 });
        self.send_next(node);
    }

    fn deliver(&mut self, node: usize, conn: ConnId, message: Message) {
        let Some(wire) = self.nodes[node].links.get(&conn).map(|wire| &self.wires[*wire]) else { return };
        if wire.is_cut {
            return;
        }
        let (other, conn) = if wire.ends[0] == (node, conn) { wire.ends[1] } else { wire.ends[0] };
        let latency = wire.latency;
        self.at(latency, Happening::Arrives(other, Box::new(Input::Received { conn, message })));
    }

    fn job(&mut self, node: usize, job: Job) -> JobDone {
        let head = self.content.head.clone();
        let size = head.geometry().size();
        match job {
            Job::OpenSource(_) | Job::OpenHeld(_) => JobDone::SourceOpened {
                size,
                head: Some(head),
                tree: None,
                left_out: None,
                look: Look::default(),
            },
            Job::ReadChunk(index) => {
                let is_poison = self.nodes[node].role == Role::Poisoner;
                let data = if is_poison { &self.content.bad } else { &self.content.good };
                let entry = Entry { hash: ChunkHash([1; 32]), state: State([2; 32]) };
                JobDone::ChunkRead { index, data: ChunkData(data.clone()), entry }
            }
            Job::ReadPage(page) => JobDone::PageRead { page, entries: self.content.page.clone() },
            Job::FreeSpace => JobDone::FreeSpace { bytes: 1 << 40 },
            Job::OpenPartial(_) => JobDone::PartialOpened { resumed: None, to_check: false, similar: false },
            Job::StorePage { page, .. } => JobDone::PageStored { page, kept: Vec::new() },
            Job::StoreChunk { index, data, .. } => self.store(index, data),
            Job::Finish { .. } => JobDone::Finished {
                path: PathBuf::from("/content"),
                file_hash: head.file_hash(),
                already: false,
            },
            Job::Release { .. } => JobDone::Released { left: None },
            other => panic!("nothing here needs {other:?}"),
        }
    }

    fn store(&self, index: ChunkIndex, data: ChunkData) -> JobDone {
        match data.0.first() {
            Some(0) => JobDone::ChunkStored(index),
            _ => JobDone::ChunkReturned { index, data, actual: ChunkHash([4; 32]) },
        }
    }

    fn outcome(&self, plan: &Plan) -> Outcome {
        let honest = || self.nodes.iter().filter(|node| node.role == Role::Honest && !node.left);
        let mut done: Vec<_> = honest().filter_map(|node| node.done_at).map(|at| at - SETTLED).collect();
        done.sort_unstable();
        let sent: u64 =
            self.nodes.iter().filter(|node| node.role != Role::Poisoner).map(|node| node.sent).sum();
        let needed = (plan.peers as f64 * (1.0 - plan.poisoners)) * f64::from(plan.chunks);
        let starved = honest().filter(|node| node.done_at.is_none()).count();
        Outcome { starved, waste: sent as f64 / needed - 1.0, bans: self.bans, done }
    }
}
