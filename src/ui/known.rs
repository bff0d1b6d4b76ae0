//! What a front end has heard of: peers, offers and transfers, for completing what is typed.
//!
//! Kept from events and answers, and shared with the thread that reads lines. It may lag behind
//! the node by an event; the node has the last word about everything that is typed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::{Event, HostPort, Reply, TransferId};

/// Shared by whoever hears and whoever completes.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<SocketAddr, Option<HostPort>>,
    transfers: BTreeMap<TransferId, Transfer>,
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

    /// Takes what happened.
    pub(super) fn event(&self, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::PeerConnected { peer, dialled, .. } => {
                state.peers.insert(*peer, dialled.clone());
            }
            Event::PeerDisconnected { peer, .. } => {
                state.peers.remove(peer);
            }
            Event::Offer { id, name, expires_in, .. } => {
                let transfer = Transfer { name: name.as_str().to_owned(), asks: expires_in.is_some() };
                state.transfers.insert(*id, transfer);
            }
            Event::Received { id, .. } | Event::Sent { id, .. } | Event::TransferFailed { id, .. } => {
                state.transfers.remove(id);
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

    /// The names of all connected peers: what was typed to reach each, and its address.
    pub(super) fn peers(&self) -> Vec<(SocketAddr, Option<HostPort>)> {
        self.lock().peers.iter().map(|(peer, dialled)| (*peer, dialled.clone())).collect()
    }

    /// Transfers and offers with the names of their files; with `asking` only the offers that
    /// wait for an answer.
    pub(super) fn transfers(&self, asking: bool) -> Vec<(TransferId, String)> {
        let state = self.lock();
        let wanted = state.transfers.iter().filter(|(_, transfer)| transfer.asks || !asking);
        wanted.map(|(id, transfer)| (*id, transfer.name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Code, Direction, Level};
    use crate::wire::{FileHash, SafeName};
    use std::time::Duration;

    #[test]
    fn what_came_is_known_until_it_goes() {
        let (known, peer, id) = (Known::default(), "192.0.2.5:1".parse().unwrap(), TransferId(3));
        let name = SafeName::new("x").unwrap();
        known.event(&Event::PeerConnected {
            peer,
            dialled: None,
            node_id: None,
            alias: None,
            first_contact: false,
            level: Level::Baseline,
        });
        assert_eq!(known.peers(), [(peer, None)]);
        known.event(&Event::PeerDisconnected { peer, reason: String::new() });
        assert!(known.peers().is_empty());

        let expires_in = Some(Duration::from_secs(1));
        let sha256 = FileHash([0; 32]);
        known.event(&Event::Offer { id, peer, name: name.clone(), size: 1, sha256, expires_in });
        assert_eq!(known.transfers(true), [(id, "x".to_owned())]);
        known.reply(&Reply::Accepted(vec![id, TransferId(9)]));
        assert!(known.transfers(true).is_empty() && known.transfers(false).len() == 1);
        known.reply(&Reply::Sending { id: TransferId(4), peer, name: name.clone() });
        assert_eq!(known.transfers(false).len(), 2);
        let (direction, code) = (Direction::In, Code::Cancelled);
        known.event(&Event::TransferFailed { id, peer, name, direction, code, reason: String::new() });
        assert_eq!(known.transfers(false), [(TransferId(4), "x".to_owned())]);
    }
}
