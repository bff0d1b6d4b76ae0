//! Where this node can be reached, as far as is known, and whether a peer has come in there.
//!
//! What this machine has on its interfaces it knows by itself. Behind a router, only others see what leads here: each
//! says in `HELLO` at which address it sees this node. Who dialled it has come in by it, and so confirms it; who was
//! dialled saw from where this node came, which is a guess at where it could be reached. What others say may be a
//! lie: it is shown with the name of who said it, never keeps this node from dialling anybody, and gets into links only if
//! somebody says it whom a person here knows. A router that was asked to pass the port on says where, too; that gets into
//! links, since whoever started the node asked for it.

use std::net::SocketAddr;
use std::time::Duration;

use super::peers::Peer;
use super::reach::{is_public, may_be_told};
use super::{Alias, Book, ConnId, Engine, Event, HostPort, Origin, Target};
use crate::wire::NodeId;

/// Addresses that others told of.
const MAX_TOLD: usize = 8;

/// Places that a link names.
const MAX_IN_LINK: usize = 8;

/// An address of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressInfo {
    /// What others dial.
    pub addr: SocketAddr,
    /// How it is known.
    pub source: AddressSource,
    /// Who came in there last, as it says, if anybody did; no stranger where somebody did whom a person here knows.
    pub confirmed: Option<Witness>,
}

/// How an address of this node is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSource {
    /// An interface of this machine has it.
    Interface,
    /// A peer sees this node there.
    Peer(Witness),
    /// A router passes it on, as it says in this protocol.
    Router(&'static str),
}

/// What came of asking a router to pass the port on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// It does.
    Mapped {
        /// Where others come in.
        external: SocketAddr,
        /// The protocol in which it was asked.
        by: &'static str,
    },
    /// It does not.
    Failed {
        /// Why.
        why: String,
    },
}

/// A peer that said something about this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its connection's address.
    pub peer: SocketAddr,
    /// Who it is; nobody knows under `--plain`.
    pub node_id: Option<NodeId>,
    /// What this side calls it.
    pub alias: Option<Alias>,
    /// How long ago.
    pub ago: Duration,
}

/// What peers said, and a router.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// What a router said last; `None` until one is asked.
    mapping: Option<Mapping>,
    /// Those of this machine and its router by which somebody came in.
    confirmed: Vec<(SocketAddr, Said)>,
    /// Others, the latest last.
    told: Vec<Told>,
}

#[derive(Debug)]
struct Told {
    addr: SocketAddr,
    seen: Said,
    confirmed: Option<Said>,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    by: SocketAddr,
    node_id: Option<NodeId>,
    at: Duration,
}

/// Whether somebody said it whom a person here knows, or another process of the same user.
fn is_known(said: &Said, book: &Book, own: Option<NodeId>) -> bool {
    said.node_id.is_some_and(|id| book.is_known(id) || own == Some(id))
}

impl Addresses {
    /// Where a router passes the port on.
    pub(super) fn mapped(&self) -> Option<(SocketAddr, &'static str)> {
        match self.mapping {
            Some(Mapping::Mapped { external, by }) => Some((external, by)),
            _ => None,
        }
    }

    /// What others told of turns out to be an address of this machine or its router.
    fn adopt(&mut self, addr: SocketAddr) {
        if let Some(place) = self.told.iter().position(|told| told.addr == addr) {
            let confirmed = self.told.remove(place).confirmed.map(|said| (addr, said));
            self.confirmed.extend(confirmed);
        }
    }

    /// Takes in where somebody sees this node. One origin may tell of one address that nobody else knows of, and what
    /// strangers tell drives out nothing by which somebody came in whom a person here knows.
    fn take(&mut self, addr: SocketAddr, said: Said, has_come_in: bool, is_known: impl Fn(&Said) -> bool) {
        let is_sure = |told: &Told| told.confirmed.as_ref().is_some_and(&is_known);
        let place = self.told.iter().position(|told| told.addr == addr);
        let mut told = match place {
            Some(place) => self.told.remove(place),
            None => {
                let is_same_origin = |other: &Said| Origin::of(other.by.ip()) == Origin::of(said.by.ip());
                let is_its_own = |told: &Told| {
                    is_same_origin(&told.seen) && told.confirmed.as_ref().is_none_or(is_same_origin)
                };
                let same = self.told.iter().position(|told| is_its_own(told) && !is_sure(told));
                let is_crowded = self.told.len() >= MAX_TOLD;
                let unsure = || self.told.iter().position(|told| !is_sure(told));
                match same.or_else(|| is_crowded.then(unsure).flatten()) {
                    Some(place) => _ = self.told.remove(place),
                    None if is_crowded && !is_known(&said) => return,
                    None if is_crowded => _ = self.told.remove(0),
                    None => {}
                }
                Told { addr, seen: said, confirmed: None }
            }
        };
        if has_come_in && (is_known(&said) || !is_sure(&told)) {
            told.confirmed = Some(said);
        }
        told.seen = said;
        self.told.push(told);
    }
}

impl Engine {
    /// A peer says at which address it sees this node.
    pub(super) fn on_seen_at(&mut self, conn: ConnId, addr: SocketAddr) {
        let Some(peer) = self.peers.get(conn) else { return };
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        if !self.is_listening() || peer.via.is_some() || !may_be_told(peer.addr.ip(), addr) {
            return;
        }
        let said = Said { by: peer.addr, node_id: peer.node_id, at: self.now };
        let has_come_in = !peer.dialled_by_us;
        // Where it came from is not where it listens, but probably the same machine or router.
        let port = if has_come_in { addr.port() } else { self.config.listening.port() };
        let addr = SocketAddr::new(addr.ip(), port);
        if !self.is_own(addr) {
            let (book, own) = (&self.book, self.config.node_id);
            self.addresses.take(addr, said, has_come_in, |said| is_known(said, book, own));
        } else if has_come_in {
            self.addresses.confirmed.retain(|(other, _)| *other != addr);
            self.addresses.confirmed.push((addr, said));
        }
    }

    /// This machine has other addresses than before.
    pub(super) fn on_reachable(&mut self, reachable: Vec<Target>) {
        self.config.reachable = reachable;
        let confirmed = std::mem::take(&mut self.addresses.confirmed);
        self.addresses.confirmed = confirmed.into_iter().filter(|(addr, _)| self.is_own(*addr)).collect();
        for addr in self.own_addrs().collect::<Vec<_>>() {
            self.addresses.adopt(addr);
        }
    }

    /// A router passes the port on, or does not. Told is what is new.
    pub(super) fn on_mapping(&mut self, mapping: Mapping) {
        let before = self.addresses.mapped();
        let has_failed = matches!(self.addresses.mapping, Some(Mapping::Failed { .. }));
        self.addresses.mapping = Some(mapping.clone());
        match mapping {
            Mapping::Mapped { external, .. } if before.is_some_and(|(known, _)| known == external) => {}
            Mapping::Mapped { external, by } => {
                self.forget_mapped(before);
                self.addresses.adopt(external);
                self.event(Event::Mapped { external, by, is_public: is_public(external.ip()) });
            }
            Mapping::Failed { why } if before.is_some() => {
                self.forget_mapped(before);
                self.tell_user(format!("the router does not pass the port on any more: {why}; it is asked again"));
            }
            Mapping::Failed { why } if !has_failed => self.tell_user(format!(
                "no router passes the port on: {why}; it is asked again. Others may still reach this node on its own \
                 network, or through a peer (--relay)"
            )),
            Mapping::Failed { .. } => {}
        }
        self.review_announced_port();
    }

    fn tell_user(&mut self, text: String) {
        self.event(Event::Warning { peer: None, text });
    }

    fn forget_mapped(&mut self, mapped: Option<(SocketAddr, &'static str)>) {
        let mapped = mapped.map(|(addr, _)| addr);
        self.addresses.confirmed.retain(|(addr, _)| Some(*addr) != mapped);
    }

    /// Whether it is an address of this machine, or where its router passes on to it.
    fn is_own(&self, addr: SocketAddr) -> bool {
        self.is_of_this_machine(addr) || self.is_mapped(addr)
    }

    /// Whether a router passes it on to this node.
    pub(super) fn is_mapped(&self, addr: SocketAddr) -> bool {
        self.addresses.mapped().is_some_and(|(external, _)| external == addr)
    }

    fn is_listening(&self) -> bool {
        self.config.listening.port() != 0
    }

    fn is_of_this_machine(&self, addr: SocketAddr) -> bool {
        self.config.reachable.iter().any(|ours| ours.address == HostPort::from(addr))
    }

    /// Where this node can be reached: what is its own, and then what others say.
    pub(super) fn address_infos(&self) -> Vec<AddressInfo> {
        let own = |addr, source| {
            let confirmed = self.addresses.confirmed.iter().find(|(other, _)| *other == addr);
            AddressInfo { addr, source, confirmed: confirmed.map(|(_, said)| self.witness(said)) }
        };
        let of_this_machine = self.own_addrs().map(|addr| own(addr, AddressSource::Interface));
        let mapped = self.addresses.mapped().filter(|(addr, _)| !self.is_of_this_machine(*addr));
        let mapped = mapped.map(|(addr, by)| own(addr, AddressSource::Router(by)));
        let told = self.addresses.told.iter().map(|told| AddressInfo {
            addr: told.addr,
            source: AddressSource::Peer(self.witness(&told.seen)),
            confirmed: told.confirmed.as_ref().map(|said| self.witness(said)),
        });
        of_this_machine.chain(mapped).chain(told).collect()
    }

    fn own_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.config.reachable.iter().filter_map(|ours| ours.address.to_string().parse().ok())
    }

    fn witness(&self, said: &Said) -> Witness {
        Witness {
            peer: said.by,
            node_id: said.node_id,
            alias: said.node_id.and_then(|id| self.book.alias_of(id)).cloned(),
            ago: self.now.saturating_sub(said.at),
        }
    }

    /// Where others may ask who have a link: where a router passes on to this node, where somebody came in whom a person
    /// here knows, and what this machine has.
    pub(super) fn places_for_links(&self) -> Vec<Target> {
        let is_known = |said: &Said| is_known(said, &self.book, self.config.node_id);
        let told = self.addresses.told.iter().rev();
        let confirmed = told.filter(|told| told.confirmed.as_ref().is_some_and(is_known));
        let mapped = self.addresses.mapped().map(|(addr, _)| addr);
        let mapped = mapped.filter(|addr| !self.is_of_this_machine(*addr));
        let id = self.config.node_id;
        let learnt = mapped.into_iter().chain(confirmed.map(|told| told.addr));
        let learnt = learnt.map(|addr| Target { address: HostPort::from(addr), id });
        learnt.chain(self.config.reachable.iter().cloned()).take(MAX_IN_LINK).collect()
    }

    /// Where a peer is seen from here, to tell it; nowhere, where another passes the connection on.
    pub(super) fn seen_at(peer: &Peer) -> Option<SocketAddr> {
        peer.via.is_none().then_some(peer.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(by: &str) -> Said {
        Said { by: by.parse().unwrap(), node_id: None, at: Duration::ZERO }
    }

    fn addr(number: u8) -> SocketAddr {
        SocketAddr::from(([11, 0, 0, number], 8000))
    }

    #[test]
    fn one_origin_fills_no_list_with_guesses_and_a_crowd_none_without_bound() {
        let mut addresses = Addresses::default();
        for number in 0..200 {
            addresses.take(addr(number), said("12.0.0.1:1"), number % 2 == 0, |_| false);
        }
        assert_eq!(addresses.told.len(), 1, "nor by coming in, as it says");
        for number in 0..200 {
            addresses.take(addr(number), said(&format!("12.0.{number}.1:1")), true, |_| false);
        }
        assert_eq!(addresses.told.len(), MAX_TOLD);
        assert_eq!(addresses.told.last().unwrap().addr, addr(199));
    }

    #[test]
    fn who_came_in_is_remembered_when_others_only_guess() {
        let mut addresses = Addresses::default();
        addresses.take(addr(1), said("12.0.0.1:1"), true, |_| false);
        addresses.take(addr(1), said("12.0.0.2:1"), false, |_| false);
        let [told] = addresses.told.as_slice() else { panic!("{addresses:?}") };
        assert_eq!(told.confirmed.unwrap().by, "12.0.0.1:1".parse().unwrap());
        assert_eq!(told.seen.by, "12.0.0.2:1".parse().unwrap());
    }

    #[test]
    fn strangers_drive_out_no_address_that_somebody_known_confirmed_and_take_it_from_nobody() {
        let mut addresses = Addresses::default();
        let friend = said("12.1.1.1:1");
        let is_known = |said: &Said| said.by.ip() == friend.by.ip();
        addresses.take(addr(1), friend, true, is_known);
        addresses.take(addr(1), said("12.0.0.1:1"), true, is_known);
        for number in 2..200 {
            addresses.take(addr(number), said(&format!("12.0.{number}.1:1")), true, is_known);
        }
        let kept = addresses.told.iter().find(|told| told.addr == addr(1)).unwrap();
        assert_eq!(kept.confirmed.unwrap().by, friend.by);
        for number in 2..20 {
            addresses.take(addr(number), friend, true, is_known);
        }
        assert_eq!(addresses.told.len(), MAX_TOLD);
        addresses.take(addr(99), said("12.0.0.1:1"), true, is_known);
        assert!(addresses.told.iter().all(|told| told.confirmed.unwrap().by == friend.by));
    }
}
