//! Finding out that a connection is dead which nobody closed.
//!
//! A quiet peer is asked, and asked again; one that answers nothing three times is gone. The times
//! are counted by asking rather than by the clock, so that a node which was itself stopped for a
//! while does not take its own absence for that of others.

use std::time::Duration;

use super::reconnect::Ending;
use super::{ConnId, Deadline, Engine};
use crate::wire::Message;

/// Times that a peer is asked.
const ASKED_AT_MOST: u32 = 3;

/// What is known of a connection's life.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// When something was heard last.
    heard_at: Duration,
    /// Times that it was asked since.
    asked: u32,
    last: u64,
}

impl Engine {
    pub(super) fn heard_from(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.pings.heard_at = self.now;
            peer.pings.asked = 0;
        }
    }

    /// Looks after a peer that answers pings from now on.
    pub(super) fn watch(&mut self, conn: ConnId) {
        self.look_again(conn, self.config.limits.ping_after);
    }

    fn look_again(&mut self, conn: ConnId, after: Duration) {
        if let Some(at) = self.now.checked_add(after) {
            self.timers.set(Deadline::Liveness(conn), at);
        }
    }

    pub(super) fn on_liveness(&mut self, conn: ConnId) {
        let limits = &self.config.limits;
        let (quiet, answer) = (limits.ping_after, limits.ping_answer);
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let quiet_for = self.now.saturating_sub(peer.pings.heard_at);
        if peer.pings.asked == 0 && quiet_for < quiet {
            return self.look_again(conn, quiet - quiet_for);
        }
        if peer.pings.asked >= ASKED_AT_MOST {
            let addr = peer.addr;
            let seconds = (quiet + answer * ASKED_AT_MOST).as_secs();
            let reason = format!("nothing was heard from it for {seconds} seconds");
            self.warn(addr, format!("closed: {reason}"));
            return self.close_peer(conn, &reason, Ending::Broken);
        }
        peer.pings.asked += 1;
        peer.pings.last += 1;
        let ping = Message::Ping(peer.pings.last);
        self.send(conn, ping);
        self.look_again(conn, answer);
    }
}
