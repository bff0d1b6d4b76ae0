//! Who says that it is on the local network.
//!
//! Anybody there can say anything. A record is a hint where somebody may be, and shown as one; who is dialled
//! because of it must prove the identity that it names. The table is bounded, and so is what is kept of one identity
//! and of one record; those who are known to a person stay longest, and of one identity those that came first.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::reach::{Reach, reach_of};
use super::{Alias, Book, Code, Engine, Event, FIRST_FOUND_PORT, Failure, HostPort, Reply};
use crate::wire::{Instance, NodeId};

/// Records, those that name one identity, and addresses in one.
const MAX_RECORDS: usize = 256;
pub(super) const MAX_OF_ONE_ID: usize = 4;

/// Of those that name one identity, the ones that have been there for longest and give way to none: who is there stays,
/// whatever else is claimed later.
const STAYING_OF_ONE_ID: usize = 2;
const MAX_ADDRS: usize = 8;

/// Bytes of a record's name.
const MAX_NAME: usize = 64;

/// What is heard of the local network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LanNews {
    /// Somebody says it is there, or elsewhere than before.
    Seen(Sighting),
    /// A record is withdrawn, or has lapsed.
    Gone {
        /// Its name.
        name: String,
    },
    /// The node can be found there.
    Joined,
    /// It cannot.
    Away {
        /// Why, in words.
        why: String,
    },
}

/// A record of the local network: what somebody there says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What the record is called, which tells it from others.
    pub name: String,
    /// Who it says is there.
    pub node_id: NodeId,
    /// Which of that identity's processes.
    pub instance: Option<Instance>,
    /// Where it can be dialled.
    pub addrs: Vec<SocketAddr>,
}

/// Somebody who says that it is near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearbyInfo {
    /// Who it says it is. Nobody has proven that, unless it is connected.
    pub node_id: NodeId,
    /// What this side calls that identity.
    pub alias: Option<Alias>,
    /// Whether its offers would be taken without asking.
    pub trusted: bool,
    /// Whether it is this node's own identity: another process of the same user.
    pub is_own: bool,
    /// Where it says it can be dialled.
    pub addrs: Vec<SocketAddr>,
    /// The connection to that identity, where there is one.
    pub peer: Option<SocketAddr>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    by_name: BTreeMap<String, Neighbour>,
    last: u64,
    away: Option<String>,
}

#[derive(Debug)]
struct Neighbour {
    node_id: NodeId,
    instance: Option<Instance>,
    addrs: Vec<SocketAddr>,
    /// Less than that of all that came later.
    since: u64,
    /// Greater than that of all that were seen before.
    seen: u64,
}

impl Nearby {
    /// Where somebody may be, as each record says, the latest first.
    pub(super) fn places_of(&self, id: NodeId) -> Vec<Vec<HostPort>> {
        let places = |addrs: &Vec<SocketAddr>| addrs.iter().copied().map(HostPort::from).collect();
        self.records_of(id).into_iter().map(|(_, neighbour)| places(&neighbour.addrs)).collect()
    }

    /// Where a process may be: where it says that itself, or where others of its identity say that they are that are not
    /// `here` already: it may have been started anew, and who lies does not hide that.
    pub(super) fn places_of_process(
        &self,
        (id, instance): (NodeId, Instance),
        is_here: impl Fn(Instance) -> bool,
    ) -> Vec<SocketAddr> {
        let records = self.records_of(id);
        if let Some((_, own)) = records.iter().find(|(_, neighbour)| neighbour.instance == Some(instance)) {
            return own.addrs.clone();
        }
        let others = records.iter().filter(|(_, neighbour)| !neighbour.instance.is_some_and(&is_here));
        others.flat_map(|(_, neighbour)| neighbour.addrs.iter().copied()).collect()
    }

    /// The identities that are named.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.by_name.values().map(|neighbour| neighbour.node_id)
    }

    fn records_of(&self, id: NodeId) -> Vec<(&String, &Neighbour)> {
        let mut records: Vec<_> =
            self.by_name.iter().filter(|(_, neighbour)| neighbour.node_id == id).collect();
        records.sort_by_key(|(_, neighbour)| std::cmp::Reverse(neighbour.seen));
        records
    }

    /// Takes a record in. Where there is no room one gives way: of the same identity the oldest of those that do not
    /// stay, else the oldest of those that nobody here knows.
    fn insert(&mut self, sighting: Sighting, book: &Book) {
        self.last += 1;
        let Sighting { name, node_id, instance, addrs } = sighting;
        let before = self.by_name.remove(&name).filter(|before| before.node_id == node_id);
        let since = before.map_or(self.last, |before| before.since);
        let mut same = self.records_of(node_id);
        same.sort_by_key(|(_, other)| other.since);
        let gives_way = if same.len() >= MAX_OF_ONE_ID {
            same.get(STAYING_OF_ONE_ID).map(|(name, _)| (*name).clone())
        } else if self.by_name.len() >= MAX_RECORDS {
            let by_worth = |(_, other): &(&String, &Neighbour)| (book.is_known(other.node_id), other.seen);
            self.by_name.iter().min_by_key(by_worth).map(|(name, _)| name.clone())
        } else {
            None
        };
        if let Some(gives_way) = gives_way {
            self.by_name.remove(&gives_way);
        }
        self.by_name.insert(name, Neighbour { node_id, instance, addrs, since, seen: self.last });
    }
}

/// Whether somebody of this network may be dialled there.
fn may_be_dialled(addr: SocketAddr) -> bool {
    // Who is on this machine has an address of its network too.
    addr.port() >= FIRST_FOUND_PORT && matches!(reach_of(addr.ip()), Some(Reach::Network | Reach::World))
}

impl Engine {
    pub(super) fn on_lan(&mut self, news: LanNews) {
        match news {
            LanNews::Seen(sighting) => self.on_sighting(sighting),
            LanNews::Gone { name } => _ = self.nearby.by_name.remove(&name),
            LanNews::Joined => {
                // What is there is heard again.
                self.nearby.by_name.clear();
                self.nearby.away = None;
            }
            LanNews::Away { why } => {
                if self.nearby.away.as_ref() != Some(&why) {
                    let text = format!("--lan: {why}; tries again from time to time");
                    self.event(Event::Warning { peer: None, text });
                }
                self.nearby.away = Some(why);
            }
        }
    }

    fn on_sighting(&mut self, mut sighting: Sighting) {
        sighting.addrs.retain(|addr| may_be_dialled(*addr));
        sighting.addrs.truncate(MAX_ADDRS);
        let is_this_node = sighting.instance == Some(self.config.instance);
        if sighting.addrs.is_empty() || is_this_node || sighting.name.len() > MAX_NAME {
            self.nearby.by_name.remove(&sighting.name);
            return;
        }
        let (id, addrs) = (sighting.node_id, sighting.addrs.clone());
        self.nearby.insert(sighting, &self.book);
        self.seek_at(id, addrs.into_iter().map(HostPort::from));
        self.redial_nearby(id);
        self.look_now(id);
    }

    pub(super) fn nearby_infos(&self) -> Result<Reply, Failure> {
        if !self.config.lan {
            let message = "start with --lan to be found on this network and to see who is there";
            return Err(Failure::new(Code::Usage, message));
        }
        if let Some(why) = &self.nearby.away {
            return Err(Failure::new(Code::Unreachable, format!("--lan: {why}")));
        }
        let mut infos: Vec<_> =
            self.nearby.by_name.values().map(|neighbour| self.nearby_info(neighbour)).collect();
        infos.sort_by(|a, b| {
            (a.alias.is_none(), &a.alias, a.node_id).cmp(&(b.alias.is_none(), &b.alias, b.node_id))
        });
        Ok(Reply::Nearby(infos))
    }

    fn nearby_info(&self, Neighbour { node_id, addrs, .. }: &Neighbour) -> NearbyInfo {
        let is_own = self.config.node_id == Some(*node_id);
        let is_it = |addr: SocketAddr| !is_own || addrs.contains(&addr);
        let connected = self.peers.iter().find(|(_, peer)| {
            peer.is_usable()
                && peer.node_id == Some(*node_id)
                && is_it(peer.listens_at().unwrap_or(peer.addr))
        });
        NearbyInfo {
            node_id: *node_id,
            alias: self.book.alias_of(*node_id).cloned(),
            trusted: self.book.is_trusted(*node_id),
            is_own,
            addrs: addrs.clone(),
            peer: connected.map(|(_, peer)| peer.addr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Change;

    fn id(number: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    fn says(name: usize, node_id: NodeId) -> Sighting {
        let addrs = vec!["10.0.0.7:8000".parse().unwrap()];
        Sighting { name: format!("record-{name}"), node_id, instance: None, addrs }
    }

    #[test]
    fn a_crowd_of_records_drives_out_nobody_who_is_known() {
        let mut book = Book::default();
        book.apply(&Change::Trust(id(7))).unwrap();
        let mut nearby = Nearby::default();
        nearby.insert(says(0, id(7)), &book);
        for number in 1..2000 {
            nearby.insert(says(number, id(u16::try_from(number).unwrap() + 100)), &book);
        }
        assert_eq!(nearby.by_name.len(), MAX_RECORDS);
        assert_eq!(nearby.places_of(id(7)).len(), 1);
        assert_eq!(nearby.places_of(id(2099)).len(), 1, "the latest is there");
    }

    #[test]
    fn one_identity_has_a_few_records_of_which_the_first_stay_and_the_latest_come_first() {
        let mut nearby = Nearby::default();
        for name in 0..20 {
            let mut record = says(name, id(1));
            record.addrs = vec![SocketAddr::from(([10, 0, 0, 1], 9000 + u16::try_from(name).unwrap()))];
            nearby.insert(record, &Book::default());
        }
        let ports: Vec<_> = nearby.places_of(id(1)).iter().map(|places| places[0].port()).collect();
        assert_eq!(ports, [9019, 9018, 9001, 9000]);
    }

    #[test]
    fn a_process_is_where_it_says_or_where_one_that_is_not_here_does() {
        let mut nearby = Nearby::default();
        for number in [1, 2, 3] {
            let mut record = says(number, id(1));
            record.instance = Some(Instance(number as u128));
            record.addrs[0].set_port(8000 + u16::try_from(number).unwrap());
            nearby.insert(record, &Book::default());
        }
        let ports = |instance, here: &[u128]| {
            let is_here = |instance: Instance| here.contains(&instance.0);
            let places = nearby.places_of_process((id(1), Instance(instance)), is_here);
            places.iter().map(SocketAddr::port).collect::<Vec<_>>()
        };
        assert_eq!(ports(2, &[]), [8002]);
        assert_eq!(ports(9, &[2]), [8003, 8001], "it may have been started anew");
        assert_eq!(ports(9, &[1, 2, 3]), [0; 0], "nobody is taken for another");
    }

    #[test]
    fn what_no_neighbour_can_have_is_not_dialled() {
        for no in [
            "127.0.0.1:8000",
            "10.0.0.1:22",
            "224.0.0.251:8000",
            "0.0.0.0:8000",
            "[::1]:8000",
            "192.0.2.1:8000",
        ] {
            assert!(!may_be_dialled(no.parse().unwrap()), "{no}");
        }
        for yes in ["10.0.0.1:8000", "192.168.1.2:1024", "11.0.0.1:8000", "[fd00::1]:8000"] {
            assert!(may_be_dialled(yes.parse().unwrap()), "{yes}");
        }
    }
}
