//! Who is known: identities with their aliases and trust, and which identity belongs to an address.
//!
//! A pin says whom a typed address reached when it was first dialled; it is never changed by
//! connecting, only forgotten by a person. Pure data: whoever keeps it in a file applies
//! [`Change`]s to what is in the file, since several processes share it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Code, Failure, HostPort};
use crate::wire::NodeId;

/// Pins and known peers, each; a person never gets near it.
const MAX_ENTRIES: usize = 10_000;

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
    /// Forget everything about an identity, its pins included.
    ForgetPeer(NodeId),
    /// Forget whom an address reached.
    ForgetPin(HostPort),
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
                self.pins.retain(|_, pinned| pinned != id);
            }
            Change::ForgetPin(address) => {
                self.pins.remove(address);
            }
        }
        Ok(())
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

    /// Whether anything was noted about an identity: a person connected to it, or named it.
    pub fn is_known(&self, id: NodeId) -> bool {
        self.peers.contains_key(&id) || self.pins.values().any(|pinned| *pinned == id)
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
}
