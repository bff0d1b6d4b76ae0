//! Having a router pass a port on to this node.
//!
//! A [`Router`] is asked: the real one speaks PCP, NAT-PMP and UPnP ([`HomeRouter`]), the other one is in memory.
//! [`keep_mapped`] asks again before what was granted ends and after a refusal, and takes it back when the node stops.

mod driver;
mod home;
#[cfg(test)]
mod memory;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use driver::keep_mapped;
pub(crate) use home::Home as HomeRouter;

/// Somebody who passes ports on.
pub(crate) trait Router: Send + 'static {
    /// Asks that connections to some port of its are passed on to this one, or that this goes on. Where it
    /// is not waited for to its end, it may have been granted all the same, and lapses.
    fn map(&mut self, port: u16) -> impl Future<Output = Result<Granted, NotMapped>> + Send;

    /// Takes back what was granted last.
    fn unmap(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a router does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    /// Where others come in, as the router says.
    pub(crate) external: SocketAddr,
    /// For how long, as it says.
    pub(crate) lifetime: Duration,
    /// The protocol in which it was asked.
    pub(crate) by: &'static str,
}

/// Why nothing is passed on, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotMapped(pub(crate) String);
