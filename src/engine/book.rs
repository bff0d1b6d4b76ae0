//! Who is known: identities with their aliases and trust, and which identity belongs to an address;
//! and beside that what dealings with identities, known or not, came to.
//!
//! A pin says whom a typed address reached when it was first dialled; it is never changed by
//! connecting, only forgotten by a person. A record is made by dealing with somebody, and makes
//! nobody known. Pure data: whoever keeps it in files applies [`Change`]s to what is in the files,
//! since several processes share them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Banned, Code, Dealing, Failure, HostPort, Record};
use crate::wire::NodeId;

/// Pins and known peers, each; a person never gets near it.
const MAX_ENTRIES: usize = 10_000;

/// Records of dealings. Identities are free, so others can make as many as fit.
const MAX_RECORDS: usize = 4_096;

/// Digits of an identity that name somebody in the book.
const MIN_PREFIX: usize = 4;

/// The same for somebody who is not in it. Identities are free: whoever wants one that begins like
/// another's has tried out that many of them, and nobody tries out 16 digits' worth.
const MIN_STRANGER_PREFIX: usize = 16;

/// A name that this side gave to a peer: shorter than an address, and not one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(String);

impl FromStr for Alias {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let looks_like_an_id = text.len() >= MIN_PREFIX && text.chars().all(|c| c.is_ascii_hexdigit());
        if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) || looks_like_an_id {
            let message = format!(
                "`{text}` cannot be an alias: letters, digits, `-`, `_` and `.` can, up to 64 bytes, \
                 but nothing that looks like an identity"
            );
            return Err(Failure::new(Code::Usage, message));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What this side noted about an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// What this side calls it.
    pub alias: Option<Alias>,
    /// Whether its offers are taken without asking.
    pub trusted: bool,
}

/// Everything known about others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// Whom each typed address reached.
    pub pins: BTreeMap<HostPort, NodeId>,
    /// What was noted about identities.
    pub peers: BTreeMap<NodeId, Known>,
    /// What dealings with identities came to, known or not.
    pub records: BTreeMap<NodeId, Record>,
}

/// A book as it was at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What was in it.
    pub book: Book,
    /// Greater than that of everything noted or read before the reading began: of two readings
    /// whoever has the greater one can do without the other.
    pub as_of: u64,
}

/// Something to note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An address reached somebody; fails where it is pinned to another.
    Pin(HostPort, NodeId),
    /// Take this identity's offers without asking.
    Trust(NodeId),
    /// Call it this; fails where another is called so.
    Alias(NodeId, Alias),
    /// Forget everything about an identity, its pins and the record of dealings with it included: also
    /// that it is banned, and how often it was.
    ForgetPeer(NodeId),
    /// Forget whom an address reached.
    ForgetPin(HostPort),
    /// This was dealt with it since, at this second of Unix time. Not kept where all the room is taken
    /// by others that are worth more.
    Record(NodeId, Dealing, u64),
    /// Ban it, at this second of Unix time; ends no ban that lasts longer. Fails where there is no room.
    Ban(NodeId, Banned, u64),
    /// End its ban, over by itself or not; fails where there is none. How often it was banned stays,
    /// so that the next ban is longer still.
    Unban(NodeId),
}

/// What speaks for keeping a record where not all can be kept, the least first.
///
/// What was noted about a person's acquaintances is worth more than bans that end by themselves:
/// whoever sheds identities is not held off by them, but could fill all room with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Stranger,
    BannedForNow,
    Known,
    BannedForGood,
}

impl Book {
    /// Notes a change.
    ///
    /// # Errors
    /// Where it contradicts what is noted already, or there is no room.
    pub fn apply(&mut self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Pin(address, id) => {
                match self.pins.get(address) {
                    Some(pinned) if pinned == id => return Ok(()),
                    Some(pinned) => return Err(identity_changed(address, *pinned, *id)),
                    None => room(self.pins.len())?,
                }
                self.pins.insert(address.clone(), *id);
            }
            Change::Trust(id) => self.note(*id)?.trusted = true,
            Change::Alias(id, alias) => {
                if let Some(other) = self.by_alias(alias).filter(|other| other != id) {
                    let message =
                        format!("`{alias}` is {other} already; `forget {alias}` first, or choose another");
                    return Err(Failure::new(Code::Usage, message));
                }
                self.note(*id)?.alias = Some(alias.clone());
            }
            Change::ForgetPeer(id) => {
                self.peers.remove(id);
                self.records.remove(id);
                self.pins.retain(|_, pinned| pinned != id);
            }
            Change::ForgetPin(address) => {
                self.pins.remove(address);
            }
            Change::Record(id, dealing, unix_now) => {
                if let Some(record) = self.record_or_new(*id, Worth::Stranger, *unix_now) {
                    record.add(dealing, *unix_now);
                }
            }
            Change::Ban(id, banned, unix_now) => {
                let worth = match banned {
                    Banned::Until(_) => Worth::BannedForNow,
                    Banned::ForGood => Worth::BannedForGood,
                };
                let record = self.record_or_new(*id, worth, *unix_now).ok_or_else(no_room_for_ban)?;
                record.ban(*banned, *unix_now);
            }
            Change::Unban(id) => {
                let banned = self.records.get_mut(id).and_then(|record| record.banned_until.take());
                if banned.is_none() {
                    return Err(Failure::new(Code::Usage, format!("{id} is not banned")));
                }
            }
        }
        Ok(())
    }

    /// The record of an identity that is worth at least so much, if there is room for one.
    fn record_or_new(&mut self, id: NodeId, worth: Worth, unix_now: u64) -> Option<&mut Record> {
        if !self.records.contains_key(&id) {
            let worth = if self.is_known(id) { worth.max(Worth::Known) } else { worth };
            if !self.make_room(worth, unix_now) {
                return None;
            }
        }
        Some(self.records.entry(id).or_default())
    }

    /// Makes room for a record of such worth: of those that are worth least, and not more, the one
    /// seen longest ago goes. What a person banned never does.
    fn make_room(&mut self, newcomer: Worth, unix_now: u64) -> bool {
        if self.records.len() < MAX_RECORDS {
            return true;
        }
        let pinned: BTreeSet<_> = self.pins.values().collect();
        let worth = |id, record: &Record| match record.banned_until {
            Some(Banned::ForGood) => Worth::BannedForGood,
            _ if self.peers.contains_key(id) || pinned.contains(id) => Worth::Known,
            _ if record.is_banned(unix_now) => Worth::BannedForNow,
            _ => Worth::Stranger,
        };
        match self.records.iter().map(|(id, record)| (worth(id, record), record.seen, *id)).min() {
            Some((worth, _, id)) if worth <= newcomer && worth < Worth::BannedForGood => {
                self.records.remove(&id).is_some()
            }
            _ => false,
        }
    }

    fn note(&mut self, id: NodeId) -> Result<&mut Known, Failure> {
        if !self.peers.contains_key(&id) {
            room(self.peers.len())?;
        }
        Ok(self.peers.entry(id).or_default())
    }

    /// Whether this side said that it trusts an identity.
    pub fn is_trusted(&self, id: NodeId) -> bool {
        self.peers.get(&id).is_some_and(|known| known.trusted)
    }

    /// Whether anything was noted about an identity: a person connected to it, or named it. What
    /// dealings with it came to says nothing about that.
    pub fn is_known(&self, id: NodeId) -> bool {
        self.peers.contains_key(&id) || self.pins.values().any(|pinned| *pinned == id)
    }

    /// What dealings with an identity came to, if there were any.
    pub fn record(&self, id: NodeId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// Whether it is banned at this second of Unix time.
    pub fn is_banned(&self, id: NodeId, unix_now: u64) -> bool {
        self.record(id).is_some_and(|record| record.is_banned(unix_now))
    }

    /// What this side calls it.
    pub fn alias_of(&self, id: NodeId) -> Option<&Alias> {
        self.peers.get(&id)?.alias.as_ref()
    }

    /// Whom this side calls so.
    pub fn by_alias(&self, alias: &Alias) -> Option<NodeId> {
        self.peers.iter().find(|(_, known)| known.alias.as_ref() == Some(alias)).map(|(id, _)| *id)
    }

    /// Whom a person means who types an alias or the beginning of an identity, among those in it
    /// and some `strangers`. More than one where that is not clear.
    pub(super) fn called(&self, text: &str, strangers: impl Iterator<Item = NodeId>) -> BTreeSet<NodeId> {
        if let Some(id) = text.parse().ok().and_then(|alias| self.by_alias(&alias)) {
            return BTreeSet::from([id]);
        }
        if let Ok(whole) = text.parse() {
            return BTreeSet::from([whole]);
        }
        if !is_id_prefix(text) {
            return BTreeSet::new();
        }
        let prefix = text.to_lowercase();
        let noted = self.peers.keys().chain(self.pins.values()).copied();
        let strangers = strangers.filter(|_| text.len() >= MIN_STRANGER_PREFIX);
        noted.chain(strangers).filter(|id| id.to_string().starts_with(&prefix)).collect()
    }
}

/// Whether `text` may be the beginning of an identity.
fn is_id_prefix(text: &str) -> bool {
    (MIN_PREFIX..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// What to say where somebody else answers at an address than before.
pub fn identity_changed(address: &HostPort, pinned: NodeId, found: NodeId) -> Failure {
    let message = format!(
        "{address} is not who it was: it was {pinned}, now it is {found}. Either it was set up anew, or somebody \
         else answers there. If you know why, `forget {address}` and connect again"
    );
    Failure::new(Code::IdentityChanged, message)
}

fn room(entries: usize) -> Result<(), Failure> {
    if entries < MAX_ENTRIES {
        return Ok(());
    }
    Err(Failure::new(Code::Busy, format!("{MAX_ENTRIES} peers are known already; `forget` some")))
}

fn no_room_for_ban() -> Failure {
    let message = format!(
        "{MAX_RECORDS} others are banned or known already, and no more can be noted; `unban` or `forget` some"
    );
    Failure::new(Code::Busy, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([0xa; 32]);
    const B: NodeId = NodeId([0xb; 32]);

    fn address() -> HostPort {
        "localhost:8000".parse().unwrap()
    }

    #[test]
    fn a_pin_stays_until_it_is_forgotten() {
        let mut book = Book::default();
        book.apply(&Change::Pin(address(), A)).unwrap();
        book.apply(&Change::Pin(address(), A)).unwrap();
        let failure = book.apply(&Change::Pin(address(), B)).unwrap_err();
        assert_eq!(failure.code, Code::IdentityChanged);
        assert!(failure.message.contains(&A.to_string()) && failure.message.contains(&B.to_string()));
        assert_eq!(book.pins[&address()], A);
        book.apply(&Change::ForgetPin(address())).unwrap();
        book.apply(&Change::Pin(address(), B)).unwrap();
        assert_eq!(book.pins[&address()], B);
    }

    #[test]
    fn forgetting_a_peer_forgets_trust_alias_and_pins() {
        let mut book = Book::default();
        book.apply(&Change::Pin(address(), A)).unwrap();
        book.apply(&Change::Trust(A)).unwrap();
        book.apply(&Change::Alias(A, "laptop".parse().unwrap())).unwrap();
        assert!(book.is_trusted(A) && book.is_known(A) && !book.is_known(B));
        book.apply(&Change::ForgetPeer(A)).unwrap();
        assert_eq!(book, Book::default());
    }

    #[test]
    fn an_alias_belongs_to_one_and_does_not_look_like_anything_else() {
        let mut book = Book::default();
        let laptop: Alias = "laptop".parse().unwrap();
        book.apply(&Change::Alias(A, laptop.clone())).unwrap();
        book.apply(&Change::Alias(A, laptop.clone())).unwrap();
        assert_eq!(book.apply(&Change::Alias(B, laptop.clone())).unwrap_err().code, Code::Usage);
        assert_eq!(book.by_alias(&laptop), Some(A));
        for bad in ["", "a b", "host:1", "a#b", "cafe", "deadbeef", "\u{202e}x", &"x".repeat(65)] {
            assert!(bad.parse::<Alias>().is_err(), "{bad:?}");
        }
        for good in ["bob", "Büro", "my-laptop.2", "abc"] {
            assert!(good.parse::<Alias>().is_ok(), "{good:?}");
        }
    }

    /// An identity for each number, in its order.
    fn id(number: usize) -> NodeId {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&(number as u64).to_be_bytes());
        NodeId(digest)
    }

    fn dealt(id: NodeId, unix_now: u64) -> Change {
        Change::Record(id, Dealing { taken_bytes: 1, ..Dealing::default() }, unix_now)
    }

    /// A book that is full of strangers, the first of which was seen last.
    fn full() -> Book {
        let mut book = Book::default();
        for number in 0..MAX_RECORDS {
            book.apply(&dealt(id(number), (MAX_RECORDS - number) as u64)).unwrap();
        }
        assert_eq!(book.records.len(), MAX_RECORDS);
        book
    }

    #[test]
    fn a_record_adds_up_and_makes_nobody_known() {
        let mut book = Book::default();
        book.apply(&dealt(A, 1)).unwrap();
        book.apply(&dealt(A, 2)).unwrap();
        book.apply(&Change::Ban(B, Banned::ForGood, 3)).unwrap();
        let record = book.record(A).unwrap();
        assert_eq!((record.taken_bytes, record.seen), (2, 2));
        assert!(!book.is_known(A) && !book.is_trusted(A) && !book.is_known(B));
        assert!(book.called(&A.to_string()[..16], std::iter::empty()).is_empty());
        assert_eq!(book.record(id(1)), None);
    }

    #[test]
    fn a_ban_holds_until_it_is_over_or_ended() {
        let mut book = Book::default();
        book.apply(&Change::Ban(A, Banned::Until(100), 10)).unwrap();
        book.apply(&Change::Ban(B, Banned::ForGood, 10)).unwrap();
        assert!(book.is_banned(A, 99) && !book.is_banned(A, 100) && book.is_banned(B, u64::MAX));
        for banned in [A, B] {
            book.apply(&Change::Unban(banned)).unwrap();
            assert!(!book.is_banned(banned, 20));
            let failure = book.apply(&Change::Unban(banned)).unwrap_err();
            assert!(failure.message.contains("is not banned"), "{failure}");
        }
        assert!(book.apply(&Change::Unban(id(1))).is_err());
    }

    #[test]
    fn no_ban_shortens_one_by_hand() {
        let mut book = Book::default();
        book.apply(&Change::Ban(A, Banned::ForGood, 10)).unwrap();
        book.apply(&Change::Ban(A, Banned::Until(20), 10)).unwrap();
        assert!(book.is_banned(A, 1_000));
    }

    #[test]
    fn an_ended_ban_is_counted_and_only_forgetting_makes_a_stranger_of_it() {
        let mut book = Book::default();
        for before in 0..3 {
            assert_eq!(book.record(A).map_or(0, |record| record.bans), before);
            book.apply(&Change::Ban(A, Banned::Until(100), 10)).unwrap();
            book.apply(&Change::Unban(A)).unwrap();
        }
        book.apply(&Change::Ban(A, Banned::ForGood, 10)).unwrap();
        assert_eq!(book.record(A).unwrap().bans, 3, "what a person did is not its doing");
        book.apply(&Change::ForgetPeer(A)).unwrap();
        assert_eq!(book, Book::default());
    }

    #[test]
    fn of_too_many_strangers_the_one_seen_longest_ago_goes() {
        let mut book = full();
        book.apply(&dealt(A, 9_999)).unwrap();
        book.apply(&dealt(B, 0)).unwrap();
        assert_eq!(book.records.len(), MAX_RECORDS);
        assert!(book.record(A).is_some() && book.record(B).is_some() && book.record(id(0)).is_some());
        assert!(book.record(id(MAX_RECORDS - 1)).is_none() && book.record(id(MAX_RECORDS - 2)).is_none());
        book.apply(&dealt(A, 9_999)).unwrap();
        assert!(book.record(B).is_some(), "who has a record needs no room");
    }

    #[test]
    fn known_and_banned_ones_stay_while_there_are_strangers() {
        let mut book = full();
        let oldest = |nth: usize| id(MAX_RECORDS - 1 - nth);
        book.apply(&Change::Trust(oldest(0))).unwrap();
        book.apply(&Change::Pin(address(), oldest(1))).unwrap();
        book.apply(&Change::Ban(oldest(2), Banned::Until(5_001), 0)).unwrap();
        book.apply(&Change::Ban(oldest(3), Banned::ForGood, 0)).unwrap();
        for number in 0..MAX_RECORDS {
            book.apply(&dealt(id(MAX_RECORDS + number), 5_000)).unwrap();
        }
        assert!((0..4).all(|nth| book.record(oldest(nth)).is_some()));
        assert!(book.record(id(0)).is_none());
        book.apply(&dealt(A, 5_001)).unwrap();
        assert!(book.record(oldest(2)).is_none(), "its ban is over");
        assert_eq!(book.records.len(), MAX_RECORDS);
    }

    #[test]
    fn where_all_are_banned_a_stranger_leaves_no_record_and_the_oldest_ban_gives_way() {
        let mut book = full();
        for number in 0..MAX_RECORDS {
            let banned = if number == 0 { Banned::ForGood } else { Banned::Until(9_999) };
            book.apply(&Change::Ban(id(number), banned, number as u64)).unwrap();
        }
        let before = book.clone();
        book.apply(&dealt(A, 5_000)).unwrap();
        assert_eq!(book, before);
        book.apply(&Change::Ban(A, Banned::Until(9_999), 5_000)).unwrap();
        assert!(book.is_banned(A, 5_000) && book.is_banned(id(0), 5_000) && !book.is_banned(id(1), 5_000));
        book.apply(&Change::Trust(B)).unwrap();
        book.apply(&dealt(B, 5_000)).unwrap();
        assert!(book.record(B).is_some() && book.record(id(2)).is_none());
        assert_eq!(book.records.len(), MAX_RECORDS);
    }

    #[test]
    fn what_a_person_banned_gives_way_to_nothing() {
        let mut book = full();
        for number in 0..MAX_RECORDS {
            book.apply(&Change::Ban(id(number), Banned::ForGood, 0)).unwrap();
        }
        for banned in [Banned::Until(100), Banned::ForGood] {
            let failure = book.apply(&Change::Ban(A, banned, 50)).unwrap_err();
            assert_eq!(failure.code, Code::Busy);
            assert!(failure.message.contains("`unban`"), "{failure}");
        }
        book.apply(&dealt(A, 50)).unwrap();
        assert!(book.record(A).is_none() && book.records.len() == MAX_RECORDS);
    }

    #[test]
    fn time_that_goes_back_breaks_nothing() {
        let mut book = full();
        for unix_now in [u64::MAX, 0, 5, u64::MAX, 1] {
            book.apply(&dealt(A, unix_now)).unwrap();
            book.apply(&Change::Ban(B, Banned::Until(unix_now), unix_now)).unwrap();
            assert_eq!(book.record(A).unwrap().seen, unix_now);
        }
        assert!(book.is_banned(B, 0) && book.records.len() == MAX_RECORDS);
    }
}
