//! How peers behaved: whom to ask first, and who is banned.

use super::{ConnId, Engine};

impl Engine {
    /// Puts those first who delivered well.
    pub(super) fn best_first(&self, _conns: &mut [ConnId]) {}

    /// A peer did what no honest one does.
    pub(super) fn convict(&mut self, conn: ConnId, what: &str) {
        self.drop_peer(conn, what);
    }

    /// A peer did not do what it was asked for.
    pub(super) fn on_failure_of(&mut self, _conn: ConnId) {}
}
