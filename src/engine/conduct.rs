//! How peers behave: what dealings with them come to, whom to ask first, and who is banned.
//!
//! Dealings are summed up and noted now and then; bans at once. Bans are memory and no defence, since
//! identities are free: strangers from one network share a budget of what they may do wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::reconnect::Ending;
use super::{
    Banned, Change, Code, ConnId, Deadline, Dealing, Engine, Failure, Origin, Output, Peer, Record, ban_time,
};
use crate::wire::NodeId;

/// How long dealings are summed up before they are noted.
const NOTE_EVERY: Duration = Duration::from_secs(30);

/// Identities dealt with between two notes.
const MAX_DEALINGS: usize = 1024;

/// Strangers of one network that may be convicted, before nothing more is fetched from strangers there.
const CONVICTED_PER_ORIGIN: u32 = 16;

/// After so long it counts half: who has done nothing wrong is not shut out for ever by others of its network,
/// and whoever has many identities gains eight more wrong chunks an hour by it.
const HALF_LIFE: Duration = Duration::from_secs(60 * 60);

/// Networks that are remembered for it.
const MAX_ORIGINS: usize = 1024;

/// What was not noted yet, and which networks misbehaved.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    dealings: BTreeMap<NodeId, Dealing>,
    convicted: Convicted,
}

/// How many strangers of each network were convicted, halved again and again.
#[derive(Debug, Default)]
struct Convicted(BTreeMap<Origin, (u32, Duration)>);

impl Convicted {
    /// How many count at a time.
    fn of(&self, origin: Origin, now: Duration) -> u32 {
        self.0.get(&origin).map_or(0, |entry| halved(*entry, now).0)
    }

    /// One more. Where there are too many networks, the one gives way that did least.
    fn add(&mut self, origin: Origin, now: Duration) {
        if self.0.len() >= MAX_ORIGINS && !self.0.contains_key(&origin) {
            let least =
                self.0.iter().min_by_key(|(_, entry)| halved(**entry, now)).map(|(origin, _)| *origin);
            least.map(|least| self.0.remove(&least));
        }
        let entry = self.0.entry(origin).or_insert((0, now));
        let (count, since) = halved(*entry, now);
        *entry = (count.saturating_add(1), since);
    }
}

/// What is left at a time of what was counted, and since when that has not been halved.
fn halved((count, since): (u32, Duration), now: Duration) -> (u32, Duration) {
    let times = now.saturating_sub(since).as_secs() / HALF_LIFE.as_secs();
    let times = u32::try_from(times).unwrap_or(u32::MAX);
    (count.checked_shr(times).unwrap_or(0), since + HALF_LIFE * times)
}

/// Somebody who is banned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanInfo {
    /// Who.
    pub node_id: NodeId,
    /// How much longer; `None` for good.
    pub ends_in: Option<Duration>,
}

impl Engine {
    /// Seconds of Unix time.
    pub(super) fn unix_now(&self) -> u64 {
        self.config.unix_time.saturating_add(self.now).as_secs()
    }

    pub(super) fn is_banned(&self, id: NodeId) -> bool {
        self.book.is_banned(id, self.unix_now())
    }

    /// Turns a connection away that belongs to somebody who is banned.
    pub(super) fn turn_away_banned(&mut self, conn: ConnId, peer: &Peer) -> bool {
        let Some(id) = peer.node_id.filter(|id| self.is_banned(*id)) else { return false };
        for command in peer.connecting.clone() {
            let message = format!("{id} is banned here; `unban {id}` ends that");
            self.reply(command, Err(Failure::new(Code::Banned, message)));
        }
        self.outputs.push_back(Output::Close { conn });
        true
    }

    /// Puts those first who delivered well.
    pub(super) fn best_first(&self, conns: &mut [ConnId]) {
        let score = |conn: &ConnId| {
            let id = self.peers.get(*conn).and_then(|peer| peer.node_id);
            id.and_then(|id| self.book.record(id)).map_or_else(|| Record::default().score(), Record::score)
        };
        conns.sort_by(|a, b| score(b).total_cmp(&score(a)));
    }

    fn deal(&mut self, id: Option<NodeId>, note: impl FnOnce(&mut Dealing)) {
        let Some(id) = id.filter(|id| Some(*id) != self.config.node_id) else { return };
        let dealings = &mut self.conduct.dealings;
        if dealings.is_empty() {
            self.timers.set(Deadline::Dealings, self.now + NOTE_EVERY);
        }
        if dealings.len() < MAX_DEALINGS || dealings.contains_key(&id) {
            note(dealings.entry(id).or_default());
        }
    }

    /// A peer gave us verified content.
    pub(super) fn note_taken(&mut self, id: Option<NodeId>, bytes: u64, latency: Duration) {
        self.deal(id, |dealing| {
            dealing.taken_bytes = dealing.taken_bytes.saturating_add(bytes);
            dealing.latency = Some(latency);
        });
    }

    /// We gave a peer content.
    pub(super) fn note_given(&mut self, id: Option<NodeId>, bytes: u64) {
        self.deal(id, |dealing| dealing.given_bytes = dealing.given_bytes.saturating_add(bytes));
    }

    /// A peer did not do what it was asked for.
    pub(super) fn on_failure_of(&mut self, conn: ConnId) {
        let id = self.peers.get(conn).and_then(|peer| peer.node_id);
        self.deal(id, |dealing| dealing.failures = dealing.failures.saturating_add(1));
    }

    /// Notes what came together.
    pub(super) fn note_dealings(&mut self) {
        let now = self.unix_now();
        let dealings = std::mem::take(&mut self.conduct.dealings);
        let changes: Vec<_> =
            dealings.into_iter().map(|(id, dealing)| Change::Record(id, dealing, now)).collect();
        if !changes.is_empty() {
            self.outputs.push_back(Output::Note(changes));
        }
    }

    /// A peer did what no honest one does: it is banned, and its connections are closed.
    pub(super) fn convict(&mut self, conn: ConnId, what: &str) {
        let Some(peer) = self.peers.get(conn) else { return };
        let (addr, id) = (peer.addr, peer.node_id.filter(|id| self.config.node_id != Some(*id)));
        match id {
            Some(id) => self.convict_identity(addr, id, what),
            None => self.drop_peer(conn, what),
        }
    }

    /// The same of who sent something, and may have left before it was found out.
    pub(super) fn convict_sender(&mut self, conn: ConnId, who: Option<(SocketAddr, NodeId)>, what: &str) {
        match who {
            Some((addr, id)) if self.peers.get(conn).is_none() => self.convict_identity(addr, id, what),
            _ => self.convict(conn, what),
        }
    }

    fn convict_identity(&mut self, addr: SocketAddr, id: NodeId, what: &str) {
        // What else was under way from it is the same offence.
        if self.config.node_id == Some(id) || self.is_banned(id) {
            return;
        }
        let now = self.unix_now();
        if !self.book.is_known(id) {
            self.conduct.convicted.add(Origin::of(addr.ip()), self.now);
        }
        let time = ban_time(self.book.record(id).map_or(0, |record| record.bans));
        let harm = Dealing { bad_chunks: 1, ..Dealing::default() };
        let until = Banned::Until(now.saturating_add(time.as_secs()));
        let changes = vec![Change::Record(id, harm, now), Change::Ban(id, until, now)];
        for change in &changes {
            // It counts from now on; that there is no room is told where it is noted.
            let _ = self.book.apply(change);
        }
        self.outputs.push_back(Output::Note(changes));
        let minutes = time.as_secs() / 60;
        self.warn(addr, format!("banned for {minutes} minutes: {what}"));
        self.close_all_of(id, what);
    }

    /// Closes all connections to an identity.
    pub(super) fn close_all_of(&mut self, id: NodeId, why: &str) {
        let of_it: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.node_id == Some(id)).map(|(conn, _)| conn).collect();
        for conn in of_it {
            self.close_peer(conn, why, Ending::Closed);
        }
    }

    /// Whether a stranger from there may be fetched from.
    pub(super) fn is_of_bad_origin(&self, conn: ConnId) -> bool {
        let Some(peer) = self.peers.get(conn) else { return true };
        let is_stranger = peer.node_id.is_some_and(|id| !self.book.is_known(id));
        is_stranger && self.conduct.convicted.of(Origin::of(peer.addr.ip()), self.now) >= CONVICTED_PER_ORIGIN
    }

    /// Who is banned.
    pub(super) fn bans(&self) -> Vec<BanInfo> {
        let now = self.unix_now();
        let info = |(id, record): (&NodeId, &Record)| {
            let ends_in = match record.banned_until? {
                Banned::ForGood => None,
                Banned::Until(end) => {
                    Some(Duration::from_secs(end.checked_sub(now).filter(|left| *left > 0)?))
                }
            };
            Some(BanInfo { node_id: *id, ends_in })
        };
        self.book.records.iter().filter_map(info).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u32) -> Origin {
        Origin::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn what_strangers_of_a_network_did_counts_half_after_an_hour_and_nothing_after_a_day() {
        let hours = |count: u32| HALF_LIFE * count;
        let mut convicted = Convicted::default();
        let begin = Duration::from_secs(1234);
        for _ in 0..16 {
            convicted.add(origin(1), begin);
        }
        let after = |convicted: &Convicted, time| convicted.of(origin(1), begin + time);
        assert_eq!(after(&convicted, HALF_LIFE / 2), 16);
        assert_eq!([1, 2, 24].map(|count| after(&convicted, hours(count))), [8, 4, 0]);
        // One more now and then does not keep alive what was before.
        convicted.add(origin(1), begin + hours(1) - Duration::from_secs(1));
        assert_eq!([0, 1, 2].map(|count| after(&convicted, hours(1) + hours(count))), [8, 4, 2]);
        convicted.add(origin(1), begin + hours(1_000_000));
        assert_eq!(after(&convicted, hours(1_000_000)), 1);
    }

    #[test]
    fn many_networks_that_did_little_do_not_cover_one_that_does_much() {
        let now = HALF_LIFE;
        let mut convicted = Convicted::default();
        (0..2).for_each(|_| convicted.add(origin(0), now));
        for number in 1..=5000 {
            convicted.add(origin(number), now);
        }
        assert_eq!((convicted.of(origin(0), now), convicted.0.len()), (2, MAX_ORIGINS));
        assert_eq!(convicted.of(origin(5000), now), 1);
    }
}
