//! Those who send a content: which chunks each has, which it was asked for, and which to ask it for next.
//!
//! A file that was offered has one source, and is asked for in order. What was searched for may have
//! many: each is asked for what fewest have, ties broken at random, as far as its own window goes, so
//! that a fast one is asked for more. A chunk is asked of one source, unless that one is slow with it, or
//! nothing else is left to ask for; then of a second one, and whoever comes later is told that it need
//! not.
//!
//! Invariants: `asked` counts for each chunk the sources in whose `requested` it is. No chunk before a
//! source's `nothing_before` could be asked of it, so that one which has nothing that is missing costs nothing
//! that grows with the content.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::ConnId;
use super::chunk_map::ChunkMap;
use super::dice::Dice;
use super::window::{Asked, Window};
use crate::wire::{ChunkIndex, Geometry, OfferId};

/// Missing chunks among which the rarest are chosen: 1 GiB.
const CHOICE: usize = 4096;

/// Chunks looked at in one choice, missing or not.
const LOOKED_AT: u32 = 65_536;

/// Sources that one chunk may be asked of.
const ASKED_OF: u32 = 2;

/// What was asked for is late after so long, and after so many times what it usually takes.
const LATE_AFTER: Duration = Duration::from_secs(4);

/// Nobody is given longer, however slowly it delivered before: it could hold up the end.
const LATE_AT_MOST: Duration = Duration::from_secs(30);
const LATE_TIMES: u32 = 4;

/// So few chunks are asked for twice at the end.
const LAST: usize = 8;

/// How many chunks more somebody must have to send, so that others take over some.
const MORE: usize = 3;

/// In which order to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// From the first chunk to the last.
    FirstToLast,
    /// What fewest have before what many have.
    RarestFirst,
}

/// Which chunks a source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Have {
    All,
    /// A bit for each chunk.
    Some(Vec<u64>),
}

fn bit_of(index: ChunkIndex) -> (usize, u64) {
    (index.as_usize() / 64, 1 << (index.get() % 64))
}

impl Have {
    pub(super) fn none(geometry: Geometry) -> Self {
        Self::Some(vec![0; geometry.chunks().div_ceil(64) as usize])
    }

    pub(super) fn contains(&self, index: ChunkIndex) -> bool {
        match self {
            Self::All => true,
            Self::Some(chunks) => {
                let (word, bit) = bit_of(index);
                chunks[word] & bit != 0
            }
        }
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Source {
    /// What it calls its offer.
    pub(super) number: OfferId,
    have: Have,
    window: Window,
    /// Chunks that it was asked for and that have not arrived.
    requested: BTreeMap<ChunkIndex, Asked>,
    /// Its chunks that have arrived, until they are stored.
    storing: usize,
    /// Whether it has nothing that could be asked for, as far as was looked.
    is_barren: bool,
    /// It has no chunk before this one that nobody was asked for in time.
    nothing_before: u32,
    /// It does not send what it was asked for: it gets one chunk at a time until it does.
    is_slow: bool,
    /// When it was last asked with nothing under way, or sent something.
    moved_at: Duration,
    /// When it last told where others are.
    pub(super) told_of_others_at: Option<Duration>,
}

impl Source {
    pub(super) fn new(number: OfferId, have: Have, now: Duration) -> Self {
        Self {
            number,
            have,
            window: Window::new(now),
            requested: BTreeMap::new(),
            storing: 0,
            is_barren: false,
            nothing_before: 0,
            is_slow: false,
            moved_at: now,
            told_of_others_at: None,
        }
    }

    fn in_flight(&self) -> usize {
        self.requested.len() + self.storing
    }

    pub(super) fn has_all(&self) -> bool {
        self.have == Have::All
    }

    /// Chunks that may be asked for now; 0 where it is better to wait until they are more.
    fn room(&self, most: usize, sources: usize) -> usize {
        // Who has all may choose what goes first of what it was asked for.
        let sources = if self.has_all() { 1 } else { sources };
        let window = if self.is_slow { 1 } else { self.window.chunks_of_many(sources).min(most) };
        let room = window.saturating_sub(self.in_flight());
        // A few at a time, unless nothing is under way.
        if room < window / 4 && self.in_flight() > 0 { 0 } else { room }
    }

    /// A chunk that it may have can be asked for.
    fn may_have(&mut self, index: ChunkIndex) {
        self.nothing_before = self.nothing_before.min(index.get());
    }

    /// What it was asked for and did not send for so long.
    fn is_late(&self, asked: Asked, now: Duration) -> bool {
        let usual = self.window.usual_latency().unwrap_or_default() * LATE_TIMES;
        let usual = usual.min(LATE_AT_MOST);
        now.saturating_sub(self.moved_at) >= LATE_AFTER && asked.age(now) >= LATE_AFTER.max(usual)
    }
}

/// What a source told of the chunks that it has.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) new: u32,
    /// Those that it had told of before.
    pub(super) old: u32,
}

/// What to ask a source for.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) asked: Vec<ChunkIndex>,
    /// What others need not send any more because of that.
    pub(super) taken_over: Vec<(ConnId, OfferId, ChunkIndex)>,
}

/// All of them, of one content.
#[derive(Debug)]
pub(super) struct Sources {
    by_conn: BTreeMap<ConnId, Source>,
    asked: BTreeMap<ChunkIndex, u32>,
    /// Asked of somebody who is late.
    late: BTreeSet<ChunkIndex>,
    /// How many of those that have not all chunks have each; empty while all have all.
    held: Vec<u16>,
    order: Order,
    /// No chunk before this one is missing and not asked for.
    cursor: u32,
}

impl Sources {
    pub(super) fn new(order: Order) -> Self {
        Self {
            by_conn: BTreeMap::new(),
            asked: BTreeMap::new(),
            late: BTreeSet::new(),
            held: Vec::new(),
            order,
            cursor: 0,
        }
    }

    pub(super) fn add(&mut self, conn: ConnId, source: Source) {
        self.remove(conn);
        if let Have::Some(chunks) = &source.have {
            self.held.resize(chunks.len() * 64, 0);
        }
        self.by_conn.insert(conn, source);
    }

    /// Answers how many chunks it was asked for that will not come.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<(Source, usize)> {
        let mut source = self.by_conn.remove(&conn)?;
        let requested = std::mem::take(&mut source.requested);
        for index in requested.keys() {
            self.forget(*index);
        }
        if let Have::Some(chunks) = &source.have {
            for (number, held) in self.held.iter_mut().enumerate() {
                *held -= u16::from(chunks[number / 64] >> (number % 64) & 1 == 1);
            }
        }
        Some((source, requested.len()))
    }

    /// All of them leave. Answers how many chunks were asked for that will not come.
    pub(super) fn clear(&mut self) -> usize {
        let conns: Vec<_> = self.by_conn.keys().copied().collect();
        conns.into_iter().filter_map(|conn| self.remove(conn)).map(|(_, requested)| requested).sum()
    }

    fn forget(&mut self, index: ChunkIndex) {
        if let Some(count) = self.asked.get_mut(&index) {
            *count -= 1;
            if *count == 0 {
                self.asked.remove(&index);
                self.late.remove(&index);
            }
        }
        self.missing_again(index);
    }

    /// A chunk is to be asked for once more.
    pub(super) fn missing_again(&mut self, index: ChunkIndex) {
        self.open(index);
        self.fertile();
    }

    /// Somebody may be asked for a chunk that could not be asked for before.
    fn open(&mut self, index: ChunkIndex) {
        self.cursor = self.cursor.min(index.get());
        self.by_conn.values_mut().for_each(|source| source.may_have(index));
    }

    /// There may be something to ask for again.
    pub(super) fn fertile(&mut self) {
        self.by_conn.values_mut().for_each(|source| source.is_barren = false);
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Source> {
        self.by_conn.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Source> {
        self.by_conn.get_mut(&conn)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Source)> {
        self.by_conn.iter().map(|(conn, source)| (*conn, source))
    }

    pub(super) fn len(&self) -> usize {
        self.by_conn.len()
    }

    /// Whether anything is under way or being stored.
    pub(super) fn is_idle(&self) -> bool {
        self.by_conn.values().all(|source| source.in_flight() == 0)
    }

    /// Whether a source could be asked for something now.
    pub(super) fn has_room(&self, conn: ConnId) -> bool {
        self.by_conn
            .get(&conn)
            .is_some_and(|source| source.room(usize::MAX, self.by_conn.len()) > 0 && !source.is_barren)
    }

    /// The cursor, for a content that is asked for in order.
    pub(super) fn cursor(&self) -> u32 {
        self.cursor
    }

    /// A source has more chunks. Those that it had before change nothing.
    /// `false` where it told nothing new.
    pub(super) fn has_more(&mut self, conn: ConnId, chunks: impl Iterator<Item = ChunkIndex>) -> News {
        let mut news = News::default();
        let Some(source) = self.by_conn.get_mut(&conn) else { return news };
        let Have::Some(have) = &mut source.have else { return news };
        for index in chunks {
            let (word, bit) = bit_of(index);
            if have[word] & bit != 0 {
                news.old += 1;
            } else {
                news.new += 1;
                have[word] |= bit;
                self.held[index.as_usize()] += 1;
                source.nothing_before = source.nothing_before.min(index.get());
            }
        }
        source.is_barren &= news.new == 0;
        news
    }

    /// Chooses what to ask a source for now, of the chunks before `reach`, and notes it as asked.
    pub(super) fn ask(
        &mut self,
        conn: ConnId,
        chunks: &ChunkMap,
        reach: u32,
        (most_under_way, most): (usize, usize),
        dice: &mut Dice,
        now: Duration,
    ) -> Chosen {
        let Some(source) = self.by_conn.get(&conn) else { return Chosen::default() };
        let room = source.room(most_under_way, self.by_conn.len()).min(most);
        if room == 0 || source.is_barren {
            return Chosen::default();
        }
        let mut taken_over = Vec::new();
        let mut chosen = match self.order {
            Order::FirstToLast => self.next_in_order(chunks, reach, room),
            Order::RarestFirst => match self.rarest(conn, chunks, reach, room, dice) {
                none if none.is_empty() => self.doubled(conn, chunks, room),
                some => some,
            },
        };
        if chosen.is_empty() && self.order == Order::RarestFirst {
            taken_over = self.take_over(conn, chunks, room);
            chosen = taken_over.iter().map(|(_, _, index)| *index).collect();
        }
        let source = self.by_conn.get_mut(&conn).expect("it was there");
        source.is_barren = chosen.is_empty() && source.in_flight() > 0;
        if source.requested.is_empty() {
            source.moved_at = now;
        }
        for index in &chosen {
            source.requested.insert(*index, source.window.ask(now));
            *self.asked.entry(*index).or_default() += 1;
        }
        Chosen { asked: chosen, taken_over }
    }

    /// Where nothing else is left to ask a source for: takes over what others were asked for and have not
    /// begun to send, from those who have most to do.
    fn take_over(
        &mut self,
        conn: ConnId,
        chunks: &ChunkMap,
        room: usize,
    ) -> Vec<(ConnId, OfferId, ChunkIndex)> {
        let Some(source) = self.by_conn.get(&conn) else { return Vec::new() };
        let mut under_way = source.in_flight();
        let mut busy: Vec<_> = self
            .by_conn
            .iter()
            .filter(|(other, busy)| **other != conn && busy.in_flight() >= under_way + MORE)
            .map(|(other, busy)| (busy.in_flight(), *other))
            .collect();
        busy.sort_unstable_by(|a, b| b.cmp(a));
        let mut taken = Vec::new();
        for (mut their_own, other) in busy {
            let Some(victim) = self.by_conn.get(&other) else { continue };
            let mut open: Vec<_> = victim
                .requested
                .iter()
                .filter(|(index, _)| {
                    source.have.contains(**index) && self.asked[*index] == 1 && chunks.is_missing(**index)
                })
                .map(|(index, asked)| (asked.at(), *index))
                .collect();
            // What it was asked for last it comes to last.
            open.sort_unstable();
            while taken.len() < room && their_own >= under_way + MORE {
                let Some((_, index)) = open.pop() else { break };
                taken.push((other, victim.number, index));
                their_own -= 1;
                under_way += 1;
            }
        }
        for (other, _, index) in &taken {
            if let Some(victim) = self.by_conn.get_mut(other) {
                victim.requested.remove(index);
                victim.may_have(*index);
            }
            self.asked.remove(index);
        }
        taken
    }

    fn next_in_order(&mut self, chunks: &ChunkMap, reach: u32, room: usize) -> Vec<ChunkIndex> {
        let mut chosen = Vec::new();
        while chosen.len() < room && self.cursor < reach {
            let index = chunks.geometry.index(self.cursor.into()).expect("within the file");
            self.cursor += 1;
            if chunks.is_missing(index) && !self.asked.contains_key(&index) {
                chosen.push(index);
            }
        }
        chosen
    }

    /// Where to look for what a source could be asked for.
    fn unexplored(&self, source: &Source, reach: u32) -> Range<u32> {
        let end = reach.min(self.cursor.saturating_add(LOOKED_AT));
        self.cursor.max(source.nothing_before).min(end)..end
    }

    fn rarest(
        &mut self,
        conn: ConnId,
        chunks: &ChunkMap,
        reach: u32,
        room: usize,
        dice: &mut Dice,
    ) -> Vec<ChunkIndex> {
        let Some(source) = self.by_conn.get(&conn) else { return Vec::new() };
        let mut candidates = Vec::new();
        let unexplored = self.unexplored(source, reach);
        let mut nothing_before = unexplored.end.max(source.nothing_before);
        for number in unexplored {
            let index = chunks.geometry.index(number.into()).expect("within the file");
            if !source.have.contains(index) || !chunks.is_missing(index) || !self.is_open(source, index) {
                continue;
            }
            if candidates.is_empty() {
                nothing_before = number;
            }
            let held = self.held.get(index.as_usize()).copied().unwrap_or(0);
            candidates.push((held, dice.roll(), index));
            if candidates.len() >= CHOICE {
                break;
            }
        }
        if let Some(source) = self.by_conn.get_mut(&conn) {
            source.nothing_before = nothing_before;
        }
        if candidates.len() > room {
            candidates.select_nth_unstable(room - 1);
            candidates.truncate(room);
        }
        let mut chosen: Vec<_> = candidates.into_iter().map(|(_, _, index)| index).collect();
        chosen.sort_unstable();
        chosen
    }

    /// Whether nobody was asked for a chunk, or one who is late, and not this source.
    fn is_open(&self, source: &Source, index: ChunkIndex) -> bool {
        let times = self.asked.get(&index).copied().unwrap_or(0);
        times == 0
            || (times < ASKED_OF && self.late.contains(&index) && !source.requested.contains_key(&index))
    }

    /// Where all that is missing was asked for: what others were asked for longest ago.
    fn doubled(&self, conn: ConnId, chunks: &ChunkMap, room: usize) -> Vec<ChunkIndex> {
        let Some(source) = self.by_conn.get(&conn) else { return Vec::new() };
        if chunks.missing() > self.asked.len() as u64 || self.asked.len() > LAST {
            return Vec::new();
        }
        let mut open: Vec<_> = self
            .by_conn
            .values()
            .flat_map(|other| &other.requested)
            .filter(|(index, _)| {
                self.asked[*index] < ASKED_OF
                    && !source.requested.contains_key(index)
                    && source.have.contains(**index)
                    && chunks.is_missing(**index)
            })
            .map(|(index, asked)| (asked.at(), *index))
            .collect();
        open.sort_unstable();
        open.truncate(room);
        let mut chosen: Vec<_> = open.into_iter().map(|(_, index)| index).collect();
        chosen.sort_unstable();
        chosen
    }

    /// Moves the cursor of a content that is not asked for in order behind what is stored.
    pub(super) fn pass_stored(&mut self, chunks: &ChunkMap) {
        if self.order == Order::FirstToLast {
            return;
        }
        while let Some(index) =
            chunks.geometry.index(self.cursor.into()).filter(|index| chunks.is_stored(*index))
        {
            self.cursor = index.get() + 1;
        }
    }

    /// A chunk has arrived that its source was asked for; `None` where it was not, or not any more.
    /// Also answers who else was asked for it, and is not any more.
    pub(super) fn arrived(
        &mut self,
        conn: ConnId,
        index: ChunkIndex,
        now: Duration,
    ) -> Option<(Asked, Vec<(ConnId, OfferId)>)> {
        let source = self.by_conn.get_mut(&conn)?;
        let asked = source.requested.remove(&index)?;
        source.moved_at = now;
        source.is_slow = false;
        source.storing += 1;
        let mut others = Vec::new();
        for (other, source) in &mut self.by_conn {
            if source.requested.remove(&index).is_some() {
                others.push((*other, source.number));
            }
        }
        self.asked.remove(&index);
        self.late.remove(&index);
        Some((asked, others))
    }

    /// What arrived is stored, or was of no use.
    pub(super) fn settled(&mut self, conn: ConnId, stored: Option<(Asked, u32)>, now: Duration) {
        let Some(source) = self.by_conn.get_mut(&conn) else { return };
        source.storing = source.storing.saturating_sub(1);
        if let Some((asked, bytes)) = stored {
            source.window.stored(asked, bytes, now);
        }
    }

    /// Notes who is late; what they were asked for may be asked of others. Answers those who have been
    /// silent for so long.
    pub(super) fn look_for_late(&mut self, now: Duration, silent: Duration, stall: Duration) -> Vec<ConnId> {
        let mut silent_ones = Vec::new();
        let moved_last = self.by_conn.values().map(|source| source.moved_at).max().unwrap_or_default();
        let mut found = Vec::new();
        for (conn, source) in &mut self.by_conn {
            let late: Vec<_> = source
                .requested
                .iter()
                .filter(|(_, asked)| source.is_late(**asked, now))
                .map(|(index, _)| *index)
                .collect();
            if late.is_empty() {
                continue;
            }
            source.is_slow = true;
            // Where nobody is faster the line may be so slow.
            let others_deliver = moved_last > source.moved_at && now < moved_last + silent;
            if now.saturating_sub(source.moved_at) >= if others_deliver { silent } else { stall } {
                silent_ones.push(*conn);
            }
            found.extend(late.into_iter().filter(|index| self.late.insert(*index)));
        }
        for index in found {
            self.missing_again(index);
        }
        silent_ones
    }
}

#[cfg(test)]
mod tests;
