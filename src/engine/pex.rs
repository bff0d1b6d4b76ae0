//! Peer exchange: who serves a content tells those who fetch it where others are who trade it.
//!
//! Told is where somebody listens, to those alone who could reach it anyway: no address of a private
//! network leaves it. What is told is a hint, dialled over TLS like everybody else, a few at a time.

use std::net::SocketAddr;
use std::time::Duration;

use super::candidates::FoundBy;
use super::dht::FIRST_FOUND_PORT;
use super::downloads::Download;
use super::gets::Get;
use super::peers::Peer;
use super::reach::may_be_told;
use super::{ConnId, Engine, HostPort, Target, TransferId};
use crate::wire::{FileHash, MAX_PEERS_TOLD, Message, OfferId, PeerAddr};

/// The shortest time between two messages in which a source of a content tells of others. A node of ours sends
/// one only, when it is chosen as a source.
const TOLD_EVERY: Duration = Duration::from_secs(30);

impl Peer {
    /// Where it can be dialled, as far as is known.
    pub(super) fn listens_at(&self) -> Option<SocketAddr> {
        match (self.dialled_by_us, self.listen_port) {
            // Whoever is reached through another has no address here.
            _ if self.via.is_some() => None,
            (true, _) => Some(self.addr),
            (false, 0) => None,
            (false, port) => Some(SocketAddr::new(self.addr.ip(), port)),
        }
    }
}

impl Engine {
    /// Tells a peer that begins to fetch a content of others who trade it.
    pub(super) fn tell_of_others(&mut self, conn: ConnId, number: OfferId, hash: FileHash) {
        let Some(peer) = self.peers.get(conn).filter(|peer| peer.features.pex) else { return };
        let (to, node_id) = (peer.addr.ip(), peer.node_id);
        if self.is_known_only(hash) {
            return;
        }
        let mut peers: Vec<_> = self
            .traders_of(hash)
            .into_iter()
            .filter(|other| *other != conn)
            .filter_map(|other| {
                let other = self.peers.get(other)?;
                let addr = other.listens_at().filter(|addr| may_be_told(to, *addr))?;
                Some(PeerAddr { addr, node_id: other.node_id })
            })
            .filter(|other| other.node_id.is_none() || other.node_id != node_id)
            .collect();
        peers.sort_unstable();
        peers.dedup();
        while peers.len() > MAX_PEERS_TOLD {
            let one = self.dice.roll() % peers.len() as u64;
            peers.swap_remove(usize::try_from(one).expect("an index"));
        }
        if !peers.is_empty() {
            self.send(conn, Message::Peers { id: number, peers });
        }
    }

    /// A source tells of others.
    pub(super) fn on_peers(&mut self, conn: ConnId, number: OfferId, peers: &[PeerAddr]) {
        let Some(id) = self.download_called(conn, number) else { return };
        let Some(from) = self.peers.get(conn).map(|peer| peer.addr.ip()) else { return };
        // Strangers have no business with it.
        if self.gets.get(&id).is_some_and(Get::is_known_only) {
            return;
        }
        let now = self.now;
        let source =
            self.downloads.get_mut(&id).and_then(Download::pull).and_then(|p| p.sources.get_mut(conn));
        let Some(source) = source else { return };
        if source.told_of_others_at.is_some_and(|before| now < before + TOLD_EVERY) {
            return self.refuse(conn, "it told of others again too soon");
        }
        source.told_of_others_at = Some(now);
        for told in peers.iter().take(MAX_PEERS_TOLD) {
            // A peer elsewhere does not get this node to knock at its own network's doors.
            let may_be_dialled = may_be_told(from, told.addr) && told.addr.port() >= FIRST_FOUND_PORT;
            if may_be_dialled && !self.is_this_node(told.addr) {
                self.add_candidate(id, target_of(told), FoundBy::Peer(conn));
            }
        }
        self.dial_candidates(id);
    }

    pub(super) fn is_this_node(&self, addr: SocketAddr) -> bool {
        let here = self.config.listening;
        let is_ours = |ours: &Target| ours.address == HostPort::from(addr);
        addr == here
            || self.config.reachable.iter().any(is_ours)
            || self.is_mapped(addr)
            || (addr.port() == here.port() && addr.ip().is_loopback() && here.ip().is_unspecified())
    }

    /// Who fetches a content from here, or is fetched from.
    fn traders_of(&self, hash: FileHash) -> Vec<ConnId> {
        let fetching =
            self.uploads.values().filter(|upload| upload.is_answer_to(hash)).filter_map(|u| u.conn);
        let download = self.get_of(hash).and_then(|id: TransferId| self.downloads.get(&id));
        let sources = download.map(Download::source_conns).unwrap_or_default();
        let mut conns: Vec<_> = fetching.chain(sources).collect();
        conns.sort_unstable();
        conns.dedup();
        conns
    }
}

fn target_of(told: &PeerAddr) -> Target {
    Target { address: HostPort::from(told.addr), id: told.node_id }
}
