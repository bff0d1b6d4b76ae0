//! Peers that nobody typed, dialled because of a link or because another peer told of them.
//!
//! They are there for the searches for which they were dialled. When these have ended and nothing is under
//! way with them, they are closed; where there is no room, the idle ones among them give way before anybody
//! else. Who is named by a person at this node stays.

use std::collections::BTreeSet;
use std::time::Duration;

use super::peers::Peer;
use super::reconnect::Ending;
use super::{ConnId, Deadline, Engine, TransferId};

/// How long they stay after the last search for which they were dialled, and when they are looked at
/// again where something was under way with them.
const STAYS: Duration = Duration::from_secs(10);

impl Engine {
    /// A search has ended: those who were dialled for it alone are not needed any more.
    pub(super) fn release_found(&mut self, id: TransferId) {
        let mut is_for_nothing = false;
        for peer in self.peers.values_mut() {
            if let Some(gets) = &mut peer.found_for {
                gets.remove(&id);
                is_for_nothing |= gets.is_empty();
            }
        }
        if is_for_nothing {
            self.look_after_found();
        }
    }

    /// Some of them may be of no use soon.
    pub(super) fn look_after_found(&mut self) {
        if !self.timers.is_set(Deadline::Found) {
            self.timers.set(Deadline::Found, self.now + STAYS);
        }
    }

    /// Closes those of no use, and looks again later at those with which something is under way.
    pub(super) fn close_found_in_vain(&mut self) {
        let in_vain =
            self.peers.iter().filter(|(_, peer)| peer.is_found_in_vain() && !self.is_acquainted(peer));
        let in_vain: Vec<_> = in_vain.map(|(conn, _)| conn).collect();
        for conn in in_vain {
            self.close_peer(conn, "it was dialled for a search that has ended", Ending::Closed);
        }
        let is_for_nothing = |peer: &Peer| {
            peer.found_for.as_ref().is_some_and(BTreeSet::is_empty) && !self.is_acquainted(peer)
        };
        if self.peers.iter().any(|(_, peer)| is_for_nothing(peer)) {
            self.look_after_found();
        }
    }

    /// The oldest idle one, if the newcomer is not one itself; first of those who were not asked anything
    /// that they did not answer.
    pub(super) fn one_that_was_found(&self, newcomer: &Peer) -> Option<ConnId> {
        if newcomer.found_for.is_some() {
            return None;
        }
        let idle =
            self.peers.iter().filter(|(_, peer)| peer.is_found_and_idle() && !self.is_acquainted(peer));
        idle.min_by_key(|(conn, peer)| (!peer.asks.is_empty(), *conn)).map(|(conn, _)| conn)
    }

    /// Whether a person at this node knows it.
    fn is_acquainted(&self, peer: &Peer) -> bool {
        peer.node_id.is_some_and(|id| self.book.is_known(id))
    }

    /// A person at this node names a peer: it is there for more than a search.
    pub(super) fn is_meant(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.found_for = None;
        }
    }
}
