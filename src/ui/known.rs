//! What a front end has heard of: peers, offers and transfers, for completing what is typed and for
//! calling peers what this side calls them.
//!
//! Kept from events and answers, and shared with the thread that reads lines. It may lag behind
//! the node by an event; the node has the last word about everything that is typed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::{Alias, Book, Event, HostPort, OutboxInfo, OutboxItem, Reply, TransferId};

/// Shared by whoever hears and whoever completes.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<SocketAddr, Peer>,
    /// Whether the node is one on which nobody has an identity.
    plain: bool,
    transfers: BTreeMap<TransferId, Transfer>,
    /// What waits in the outbox, and for whom.
    kept: BTreeMap<TransferId, String>,
    book: Book,
}

impl State {
    fn name_of(&self, addr: SocketAddr, aliased: impl Fn(&Alias) -> String) -> String {
        let alias = |addr: &SocketAddr| self.peers.get(addr).and_then(|peer| peer.alias.as_ref());
        let name = alias(&addr).map_or_else(|| addr.to_string(), &aliased);
        let via = self.peers.get(&addr).and_then(|peer| peer.via);
        match via {
            Some(via) => {
                let through = alias(&via).map_or_else(|| via.to_string(), ToString::to_string);
                format!("{name} [via {through}]")
            }
            None if self.plain => format!("{name} [plain]"),
            None => name,
        }
    }
}

#[derive(Debug, Clone)]
struct Peer {
    dialled: Option<HostPort>,
    alias: Option<Alias>,
    /// Through whom it is connected.
    via: Option<SocketAddr>,
}

#[derive(Debug, Clone)]
struct Transfer {
    name: String,
    /// Whether somebody has to say if it is wanted.
    asks: bool,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node is one on which nobody has an identity.
    pub(super) fn is_plain(&self) {
        self.lock().plain = true;
    }

    /// Takes what happened.
    pub(super) fn event(&self, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::PeerConnected { peer, dialled, alias, via, .. } => {
                let via = via.map(|via| via.peer);
                state.peers.insert(*peer, Peer { dialled: dialled.clone(), alias: alias.clone(), via });
            }
            Event::PeerNamed { peer, alias } => {
                if let Some(peer) = state.peers.get_mut(peer) {
                    peer.alias.clone_from(alias);
                }
            }
            Event::FirstContact { peer, dialled, .. } => {
                if let Some(peer) = state.peers.get_mut(peer) {
                    peer.dialled.get_or_insert_with(|| dialled.clone());
                }
            }
            Event::PeerDisconnected { peer, .. } => {
                state.peers.remove(peer);
            }
            Event::Offer { id, name, expires_in, .. } => {
                let transfer = Transfer { name: name.as_str().to_owned(), asks: expires_in.is_some() };
                state.transfers.insert(*id, transfer);
            }
            Event::Queued { id, was, name, file, .. } => {
                if let Some(was) = was {
                    state.kept.remove(was);
                }
                let what = file.as_ref().map_or("a message", |file| file.as_str());
                state.kept.insert(*id, format!("{what} to {name}"));
            }
            Event::Delivered { id, .. } => _ = state.kept.remove(id),
            Event::Received { id, .. } | Event::Sent { id, .. } | Event::TransferFailed { id, .. } => {
                state.transfers.remove(id);
                state.kept.remove(id);
            }
            _ => {}
        }
    }

    /// Takes what was answered.
    pub(super) fn reply(&self, reply: &Reply) {
        let mut state = self.lock();
        match reply {
            Reply::Sending { id, name, .. } => {
                state.transfers.insert(*id, Transfer { name: name.as_str().to_owned(), asks: false });
            }
            Reply::Outbox { entries, .. } => {
                let kept =
                    |info: &OutboxInfo| (info.id, format!("{} to {}", in_short(&info.what), info.name));
                state.kept = entries.iter().map(kept).collect();
            }
            Reply::Withdrawn(ids) => state.kept.retain(|id, _| !ids.contains(id)),
            Reply::Accepted(ids) => {
                for id in ids {
                    if let Some(transfer) = state.transfers.get_mut(id) {
                        transfer.asks = false;
                    }
                }
            }
            _ => {}
        }
    }

    /// The names of each connected peer, the best one first: its alias, what was typed to reach it,
    /// its address.
    pub(super) fn peers(&self) -> Vec<Vec<String>> {
        let names = |(addr, peer): (&SocketAddr, &Peer)| {
            let alias = peer.alias.as_ref().map(ToString::to_string);
            let dialled = peer.dialled.as_ref().map(ToString::to_string);
            alias.into_iter().chain(dialled).chain([addr.to_string()]).collect()
        };
        self.lock().peers.iter().map(names).collect()
    }

    /// Takes who is known, connected or not.
    pub(super) fn book(&self, book: &Book) {
        self.lock().book.clone_from(book);
    }

    /// The addresses that were typed before, with what this side calls who is there.
    pub(super) fn addresses(&self) -> Vec<(String, Option<String>)> {
        let state = self.lock();
        let alias = |id| state.book.alias_of(id).map(ToString::to_string);
        state.book.pins.iter().map(|(address, id)| (address.to_string(), alias(*id))).collect()
    }

    /// Everything this side calls somebody.
    pub(super) fn aliases(&self) -> Vec<String> {
        let state = self.lock();
        state.book.peers.values().filter_map(|known| known.alias.as_ref()).map(ToString::to_string).collect()
    }

    /// What this side calls a peer, else its address; marked where nobody knows who it is, and where it is
    /// connected through another.
    pub(super) fn name_of(&self, peer: SocketAddr) -> String {
        self.lock().name_of(peer, ToString::to_string)
    }

    /// The same with the address in any case.
    pub(super) fn name_and_address_of(&self, peer: SocketAddr) -> String {
        self.lock().name_of(peer, |alias| format!("{alias} ({peer})"))
    }

    /// What waits in the outbox.
    pub(super) fn kept(&self) -> Vec<(TransferId, String)> {
        self.lock().kept.iter().map(|(id, what)| (*id, what.clone())).collect()
    }

    /// Transfers and offers with the names of their files; with `asking` only the offers that
    /// wait for an answer.
    pub(super) fn transfers(&self, asking: bool) -> Vec<(TransferId, String)> {
        let state = self.lock();
        let wanted = state.transfers.iter().filter(|(_, transfer)| transfer.asks || !asking);
        wanted.map(|(id, transfer)| (*id, transfer.name.clone())).collect()
    }
}

/// What something in the outbox is called in a few words.
fn in_short(what: &OutboxItem) -> &str {
    match what {
        OutboxItem::Text(_) => "a message",
        OutboxItem::File { name, .. } => name.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Code, Direction, Level};
    use crate::wire::{FileHash, NodeId, SafeName};
    use std::time::Duration;

    #[test]
    fn a_peer_is_called_by_its_alias_and_marked_where_nobody_has_an_identity() {
        let (known, peer): (_, SocketAddr) = (Known::default(), "192.0.2.5:1".parse().unwrap());
        let connected = Event::PeerConnected {
            via: None,
            peer,
            dialled: None,
            node_id: Some(NodeId([7; 32])),
            alias: None,
            first_contact: false,
            again: false,
            level: Level::Extended,
        };
        assert_eq!(known.name_of(peer), "192.0.2.5:1");
        known.event(&connected);
        known.event(&Event::PeerNamed { peer, alias: Some("laptop".parse().unwrap()) });
        assert_eq!(known.name_of(peer), "laptop");
        assert_eq!(known.name_and_address_of(peer), "laptop (192.0.2.5:1)");
        assert_eq!(known.peers(), [["laptop", "192.0.2.5:1"]]);
        known.event(&Event::PeerNamed { peer, alias: None });
        assert_eq!(known.name_of(peer), "192.0.2.5:1");
        known.is_plain();
        assert_eq!(known.name_of(peer), "192.0.2.5:1 [plain]");
        assert_eq!(known.name_and_address_of(peer), "192.0.2.5:1 [plain]");
    }

    #[test]
    fn what_came_is_known_until_it_goes() {
        let (known, peer, id) = (Known::default(), "192.0.2.5:1".parse().unwrap(), TransferId(3));
        let name = SafeName::new("x").unwrap();
        known.event(&Event::PeerConnected {
            via: None,
            peer,
            dialled: None,
            node_id: None,
            alias: None,
            first_contact: false,
            again: false,
            level: Level::Baseline,
        });
        assert_eq!(known.peers(), [["192.0.2.5:1"]]);
        known.event(&Event::PeerDisconnected { peer, reason: String::new(), is_waited_for: false });
        assert!(known.peers().is_empty());

        let expires_in = Some(Duration::from_secs(1));
        let sha256 = FileHash([0; 32]);
        known.event(&Event::Offer {
            id,
            peer,
            name: name.clone(),
            size: 1,
            sha256: Some(sha256),
            files: None,
            expires_in,
            leaves: None,
        });
        assert_eq!(known.transfers(true), [(id, "x".to_owned())]);
        known.reply(&Reply::Accepted(vec![id, TransferId(9)]));
        assert!(known.transfers(true).is_empty() && known.transfers(false).len() == 1);
        known.reply(&Reply::Sending { id: TransferId(4), peer, name: name.clone() });
        assert_eq!(known.transfers(false).len(), 2);
        let (direction, code) = (Direction::In, Code::Cancelled);
        known.event(&Event::TransferFailed {
            id,
            peer: Some(peer),
            name,
            direction,
            code,
            reason: String::new(),
        });
        assert_eq!(known.transfers(false), [(TransferId(4), "x".to_owned())]);
    }
}
