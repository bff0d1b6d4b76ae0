//! Whose room what is kept takes, and what gives way where there is too little.
//!
//! Invariant: nothing gives way that is of somebody who has no more than an equal part of the room, so
//! that whoever makes a node keep much loses what is its own. Identities are free, so all strangers
//! together count as one, and among them those of one network do. What gave way is counted.

use std::collections::BTreeMap;
use std::iter;

use jiff::Timestamp;

use super::{HistoryEntry, Past, Remembered};
use crate::engine::{Direction, Origin};
use crate::wire::NodeId;

/// More than what tells of entries that gave way takes.
const LEFT_OUT_BYTES: usize = 256;

/// Whoever had something kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    /// This side: it said or sent something, or looked for it.
    Own,
    /// Somebody who is known.
    Known(NodeId),
    /// Strangers of one network; `None` for what is told of all of them.
    Strangers(Option<Origin>),
}

impl Account {
    fn of(of: &Remembered) -> Self {
        let is_own = match &of.what {
            Past::Message { direction, .. } => *direction == Direction::Out,
            // Others fetch as often as they like.
            Past::Transfer(transfer) => {
                transfer.direction == Direction::Out && transfer.outcome != super::Outcome::Served
            }
            Past::Undelivered { .. } => true,
            Past::LeftOut { .. } => false,
        };
        match (of.node_id, of.peer) {
            _ if is_own => Self::Own,
            _ if of.stranger => Self::Strangers(of.peer.map(|peer| Origin::of(peer.ip()))),
            (Some(id), _) => Self::Known(id),
            (None, _) => Self::Own,
        }
    }

    /// Who has equal parts of the room.
    fn party(self) -> Self {
        match self {
            Self::Strangers(_) => Self::Strangers(None),
            other => other,
        }
    }
}

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    bytes: Vec<u8>,
    account: Account,
    time: Timestamp,
    /// Of how many entries it tells that they gave way.
    left_out: Option<u64>,
}

impl HistoryLine {
    /// The line of an entry.
    pub fn new(entry: &HistoryEntry) -> Self {
        let mut bytes = serde_json::to_vec(entry).expect("strings and numbers are always JSON");
        bytes.push(b'\n');
        let left_out = match entry.of.what {
            Past::LeftOut { entries } => Some(entries),
            _ => None,
        };
        Self { bytes, account: Account::of(&entry.of), time: entry.time, left_out }
    }

    /// One line of JSON, with its end.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many entries would be missing without it.
    pub fn entries(&self) -> u64 {
        self.left_out.unwrap_or(1)
    }
}

/// Bytes of all of them.
pub fn bytes_in(lines: &[HistoryLine]) -> usize {
    lines.iter().map(|line| line.bytes.len()).sum()
}

/// What gave way of one party.
struct Gone {
    entries: u64,
    time: Timestamp,
    /// Where the last of it was: there it is told.
    at: usize,
}

impl Gone {
    fn line(&self, party: Account) -> HistoryLine {
        let node_id = match party {
            Account::Known(id) => Some(id),
            Account::Own | Account::Strangers(_) => None,
        };
        let stranger = matches!(party, Account::Strangers(_));
        let what = Past::LeftOut { entries: self.entries };
        let of = Remembered { peer: None, node_id, alias: None, stranger, what };
        HistoryLine::new(&HistoryEntry { time: self.time, of })
    }
}

/// Makes lines, oldest first, fit into `most` bytes. Whoever has more than the others can have gives up the
/// oldest of it, in the place of which stands how much that was.
pub fn fit(lines: Vec<HistoryLine>, most: usize) -> Vec<HistoryLine> {
    if bytes_in(&lines) <= most {
        return lines;
    }
    let stays = what_stays(&lines, most);
    let mut gone = BTreeMap::<Account, Gone>::new();
    for (at, line) in lines.iter().enumerate().filter(|(at, _)| !stays[*at]) {
        let entries = gone.get(&line.account.party()).map_or(0, |gone| gone.entries);
        let entries = entries.saturating_add(line.entries());
        gone.insert(line.account.party(), Gone { entries, time: line.time, at });
    }
    let told = |at: usize, line: &HistoryLine| {
        let party = line.account.party();
        gone.get(&party).filter(|gone| gone.at == at).map(|gone| gone.line(party))
    };
    let all = iter::zip(lines, stays).enumerate();
    all.filter_map(|(at, (line, stays))| if stays { Some(line) } else { told(at, &line) }).collect()
}

/// Whether each line stays.
fn what_stays(lines: &[HistoryLine], most: usize) -> Vec<bool> {
    let mut parties = BTreeMap::<Account, BTreeMap<Account, usize>>::new();
    for line in lines {
        let party = parties.entry(line.account.party()).or_default();
        *party.entry(line.account).or_default() += line.bytes.len();
    }
    let wanted = |party: &BTreeMap<Account, usize>| party.values().sum::<usize>();
    let part = part(most, parties.values().map(wanted).collect());
    // Of those that have more: the room of each, and of each account in it.
    let (mut of_party, mut of_account) = (BTreeMap::new(), BTreeMap::new());
    for (party, accounts) in parties.iter().filter(|(_, accounts)| wanted(accounts) > part) {
        let room = part.saturating_sub(LEFT_OUT_BYTES);
        of_party.insert(*party, room);
        let each = self::part(room, accounts.values().copied().collect());
        of_account.extend(accounts.keys().map(|account| (*account, each)));
    }
    let mut stays = vec![true; lines.len()];
    for (line, stays) in iter::zip(lines, &mut stays).rev() {
        let Some(of_account) = of_account.get_mut(&line.account) else { continue };
        // What was told of before is told of together with what goes now.
        *stays = line.left_out.is_none() && takes(of_account, line);
        if *stays && let Some(of_party) = of_party.get_mut(&line.account.party()) {
            takes(of_party, line);
        }
    }
    // Where a part is smaller than an entry, as it is where strangers come from many networks, the latest.
    for (line, stays) in iter::zip(lines, &mut stays).rev().filter(|(line, _)| line.left_out.is_none()) {
        if !*stays && let Some(of_party) = of_party.get_mut(&line.account.party()) {
            *stays = takes(of_party, line);
        }
    }
    stays
}

/// Takes room for a line. Where there is too little, there is none for older ones either.
fn takes(room: &mut usize, line: &HistoryLine) -> bool {
    let left = room.checked_sub(line.bytes.len());
    *room = left.unwrap_or(0);
    left.is_some()
}

/// What each may have of `room`, where what some do not want is left to the others.
fn part(mut room: usize, mut wanted: Vec<usize>) -> usize {
    wanted.sort_unstable();
    let mut others = wanted.len();
    for wanted in wanted {
        let each = room / others;
        if wanted > each {
            return each;
        }
        room -= wanted;
        others -= 1;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, known: Option<u8>, number: u64) -> HistoryLine {
        let what = Past::Message { direction: Direction::In, text: format!("{number:0>100}") };
        let of = Remembered {
            peer: Some(format!("{peer}:1").parse().unwrap()),
            // Whoever is a stranger has a new one each time.
            node_id: known.map(|id| NodeId([id; 32])).or(Some(NodeId([number.to_le_bytes()[0]; 32]))),
            alias: None,
            stranger: known.is_none(),
            what,
        };
        line(of)
    }

    fn line(of: Remembered) -> HistoryLine {
        HistoryLine::new(&HistoryEntry { time: Timestamp::UNIX_EPOCH, of })
    }

    fn by_us(number: u64) -> HistoryLine {
        let what = Past::Message { direction: Direction::Out, text: format!("{number:0>100}") };
        let node_id = Some(NodeId([1; 32]));
        line(Remembered { peer: None, node_id, alias: None, stranger: false, what })
    }

    fn parsed(lines: &[HistoryLine]) -> Vec<Remembered> {
        let entries = lines.iter().map(|line| serde_json::from_slice::<HistoryEntry>(line.bytes()).unwrap());
        entries.map(|entry| entry.of).collect()
    }

    fn left_out(of: &Remembered) -> Option<u64> {
        match of.what {
            Past::LeftOut { entries } => Some(entries),
            _ => None,
        }
    }

    const ROOM: usize = 30_000;

    #[test]
    fn whoever_floods_loses_its_own_and_nobody_else_loses_anything() {
        for flooder in [
            |n| from("192.0.2.66", Some(66), n),
            |n| from("192.0.2.66", None, n),
            |n| from(&format!("[2001:db8::{n:x}]"), None, n),
            // Of many networks.
            |n| from(&format!("[2001:db8:0:{n:x}::1]"), None, n),
            by_us,
        ] {
            let is_flood = |line: &HistoryLine| line.account.party() == flooder(0).account.party();
            let others = [by_us(0), from("192.0.2.7", Some(7), 0), from("192.0.2.8", Some(8), 0)];
            let others: Vec<_> = others.into_iter().filter(|line| !is_flood(line)).collect();
            let mut lines = others.clone();
            for round in 1..=5_u64 {
                lines.extend((0..1000).map(|n| flooder(round * 1000 + n)));
                lines = fit(lines, ROOM);
                assert!((ROOM / 2..=ROOM).contains(&bytes_in(&lines)), "{}", bytes_in(&lines));
                let kept: Vec<_> = lines.iter().filter(|line| !is_flood(line)).cloned().collect();
                assert_eq!(kept, others);
                let flood: Vec<_> = lines.iter().filter(|line| is_flood(line)).collect();
                let told = flood.iter().filter(|line| line.left_out.is_some()).count();
                assert_eq!(told, 1, "in one entry");
                let sum: u64 = flood.iter().map(|line| line.entries()).sum();
                assert_eq!(sum, 1000 * round, "all of them are counted");
            }
        }
    }

    #[test]
    fn the_latest_of_a_flood_stays_and_what_went_is_told_in_its_place() {
        let flood = || (0..1000).map(|n| from("192.0.2.66", Some(66), n));
        let kept = parsed(&fit(flood().collect(), ROOM));
        let gone = left_out(&kept[0]).unwrap();
        assert_eq!(kept[0].node_id, Some(NodeId([66; 32])));
        let latest: Vec<_> = flood().skip(usize::try_from(gone).unwrap()).collect();
        assert_eq!(kept[1..], parsed(&latest));
    }

    #[test]
    fn a_stranger_of_another_network_keeps_what_it_said() {
        let mut lines = vec![from("198.51.100.7", None, 1)];
        lines.extend((0..1000).map(|n| from("192.0.2.66", None, n)));
        let kept = fit(lines.clone(), ROOM);
        assert_eq!(kept[0], lines[0]);
        assert_eq!(fit(lines.clone(), bytes_in(&lines)), lines, "where there is room nothing goes");
    }

    #[test]
    fn what_others_fetch_counts_as_theirs_and_what_is_sent_as_ours() {
        let of = |outcome: &str, direction: &str| -> Account {
            let json = format!(
                r#"{{"peer":"192.0.2.7:1","node_id":"{}","kind":"transfer","direction":"{direction}","outcome":"{outcome}","name":"x"}}"#,
                NodeId([7; 32])
            );
            Account::of(&serde_json::from_str(&json).unwrap())
        };
        let theirs = Account::Known(NodeId([7; 32]));
        assert_eq!([of("served", "out"), of("received", "in"), of("failed", "in")], [theirs; 3]);
        assert_eq!([of("sent", "out"), of("failed", "out")], [Account::Own; 2]);
    }
}
