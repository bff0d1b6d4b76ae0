use super::*;
use crate::wire::CHUNK_SIZE;

const FAR: Duration = Duration::from_secs(3600);

/// A content of so many chunks of which nothing is here.
fn content(chunks: u32) -> ChunkMap {
    let geometry = Geometry::new(u64::from(chunks) * u64::from(CHUNK_SIZE)).unwrap();
    let mut map = ChunkMap::new(geometry);
    map.make_room();
    map
}

fn index(chunks: &ChunkMap, number: u32) -> ChunkIndex {
    chunks.geometry.index(number.into()).unwrap()
}

/// Sources of one content, and what is here of it.
struct Swarm {
    sources: Sources,
    chunks: ChunkMap,
    dice: Dice,
    now: Duration,
    /// Forgets before each choice where it had looked in vain.
    looks_everywhere: bool,
}

impl Swarm {
    fn new(chunks: u32, seed: u64) -> Self {
        Self {
            sources: Sources::new(Order::RarestFirst),
            chunks: content(chunks),
            dice: Dice::new(seed),
            now: Duration::ZERO,
            looks_everywhere: false,
        }
    }

    fn add(&mut self, conn: u64, has_all: bool) {
        let have = if has_all { Have::All } else { Have::none(self.chunks.geometry) };
        self.sources.add(ConnId(conn), Source::new(OfferId(conn), have, self.now));
    }

    fn tell(&mut self, conn: u64, first: u32, count: u32) -> bool {
        let told = (first..first + count).map(|number| index(&self.chunks, number));
        self.sources.has_more(ConnId(conn), told).new > 0
    }

    /// What a source is asked for, and what others are told that they need not send.
    fn ask(&mut self, conn: u64) -> Chosen {
        self.ask_for(conn, usize::MAX)
    }

    /// The same, of so many chunks at most.
    fn ask_for(&mut self, conn: u64, most: usize) -> Chosen {
        if self.looks_everywhere {
            self.sources.by_conn.values_mut().for_each(|source| source.nothing_before = 0);
        }
        let reach = self.chunks.geometry.chunks();
        self.sources.ask(ConnId(conn), &self.chunks, reach, (usize::MAX, most), &mut self.dice, self.now)
    }

    /// A chunk comes from a source and is stored, or is of no use.
    fn deliver(&mut self, conn: u64, index: ChunkIndex, is_right: bool) {
        let Some((asked, _)) = self.sources.arrived(ConnId(conn), index, self.now) else { return };
        if is_right && self.chunks.is_missing(index) {
            self.chunks.set_stored(index);
            self.sources.settled(ConnId(conn), Some((asked, CHUNK_SIZE)), self.now);
        } else {
            self.sources.settled(ConnId(conn), None, self.now);
            self.sources.missing_again(index);
        }
        self.sources.pass_stored(&self.chunks);
    }

    /// Chunks that are looked at when a source is asked next.
    fn to_look_at(&self, conn: u64) -> usize {
        let reach = self.chunks.geometry.chunks();
        self.sources.unexplored(&self.sources.by_conn[&ConnId(conn)], reach).len()
    }
}

#[test]
fn a_source_that_has_nothing_missing_is_looked_through_once_however_many_chunks_are_stored() {
    let mut swarm = Swarm::new(50_000, 1);
    swarm.add(1, true);
    swarm.add(2, false);
    assert!(swarm.ask(2).asked.is_empty());
    let mut looked_at = 0;
    for _ in 0..200 {
        let asked = swarm.ask(1).asked;
        for index in asked {
            swarm.now += Duration::from_millis(1);
            swarm.deliver(1, index, true);
            looked_at += swarm.to_look_at(2);
            assert!(swarm.ask(2).asked.is_empty());
        }
    }
    assert!(swarm.chunks.missing() < 49_000);
    assert_eq!(looked_at, 0);
}

#[test]
fn what_lies_beyond_the_reach_of_a_choice_is_found_when_what_is_before_it_is_stored() {
    let mut swarm = Swarm::new(2 * LOOKED_AT, 2);
    swarm.add(1, false);
    assert!(swarm.tell(1, LOOKED_AT + 5, 1));
    assert!(swarm.ask(1).asked.is_empty());
    for number in 0..5 {
        swarm.chunks.set_stored(index(&swarm.chunks, number));
        swarm.sources.pass_stored(&swarm.chunks);
        assert_eq!(swarm.to_look_at(1), 1, "what came into reach");
        assert!(swarm.ask(1).asked.is_empty());
    }
    swarm.chunks.set_stored(index(&swarm.chunks, 5));
    swarm.sources.pass_stored(&swarm.chunks);
    assert_eq!(swarm.ask(1).asked, [index(&swarm.chunks, LOOKED_AT + 5)]);
}

#[test]
fn an_idle_source_is_asked_as_soon_as_another_leaves_is_late_or_sends_what_is_wrong() {
    for what in ["leaves", "is late", "sends what is wrong", "tells of more"] {
        let mut swarm = Swarm::new(100, 3);
        swarm.add(1, true);
        let asked = swarm.ask_for(1, 2).asked;
        swarm.add(2, false);
        assert!(swarm.tell(2, asked[0].get(), 1));
        assert!(swarm.ask(2).asked.is_empty(), "the other was asked for it");
        let mut wanted = asked[0];
        match what {
            "leaves" => drop(swarm.sources.remove(ConnId(1))),
            "is late" => {
                swarm.now = FAR;
                swarm.sources.look_for_late(swarm.now, 2 * FAR, 2 * FAR);
            }
            "sends what is wrong" => swarm.deliver(1, asked[0], false),
            _ => {
                let open = swarm.chunks.geometry.indices().find(|index| !asked.contains(index)).unwrap();
                assert!(swarm.tell(2, open.get(), 1));
                wanted = open;
            }
        }
        assert_eq!(swarm.ask(2).asked, [wanted], "one that {what}");
    }
}

/// A source, what it was asked for, and what was taken over from others.
type Step = (u64, Vec<ChunkIndex>, Vec<(ConnId, OfferId, ChunkIndex)>);

/// Lets a swarm live through what the seed says, and answers what was asked of whom.
fn life(seed: u64, looks_everywhere: bool) -> Vec<Step> {
    let mut fate = Dice::new(seed);
    let mut roll = |below: u64| fate.roll() % below;
    let chunks = u32::try_from(20 + roll(120)).unwrap();
    let mut swarm = Swarm::new(chunks, seed);
    swarm.looks_everywhere = looks_everywhere;
    let mut plan = Vec::new();
    for conn in 0..4 {
        swarm.add(conn, conn == 0);
    }
    for _ in 0..400 {
        let conn = roll(4);
        swarm.now += Duration::from_millis(roll(400));
        match roll(12) {
            0..3 => {
                let first = u32::try_from(roll(chunks.into())).unwrap();
                let count = u32::try_from(roll(12)).unwrap().min(chunks - first);
                swarm.tell(conn, first, count);
            }
            3 => {
                swarm.sources.remove(ConnId(conn));
                swarm.add(conn, conn == 0);
            }
            4 => drop(swarm.sources.look_for_late(swarm.now, FAR, FAR)),
            5..9 => {
                let requested: Vec<_> =
                    swarm.sources.by_conn[&ConnId(conn)].requested.keys().copied().collect();
                if !requested.is_empty() {
                    let one = requested[usize::try_from(roll(requested.len() as u64)).unwrap()];
                    swarm.deliver(conn, one, roll(10) > 0);
                }
            }
            _ => {}
        }
        for conn in 0..4 {
            let Chosen { asked, taken_over } = swarm.ask(conn);
            plan.push((conn, asked, taken_over));
        }
    }
    plan
}

#[test]
fn not_to_look_again_where_nothing_was_changes_nothing_of_what_is_asked_of_whom() {
    let (mut asked, mut taken) = (0, 0);
    for seed in 0..300 {
        let plan = life(seed, false);
        assert_eq!(plan, life(seed, true), "seed {seed}");
        asked += plan.iter().filter(|(_, asked, _)| !asked.is_empty()).count();
        taken += plan.iter().filter(|(_, _, taken)| !taken.is_empty()).count();
    }
    assert!(asked > 1000 && taken > 10, "it was put to use: {asked}, {taken}");
}
