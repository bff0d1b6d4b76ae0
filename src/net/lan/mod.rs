//! Finding others on the local network, and being found there.
//!
//! A [`Lan`] is joined, and who has joined has a [`Presence`]. The real one is multicast DNS ([`Mdns`]), the other
//! one is in memory. [`stay`] sees to it that the node is there as long as it runs, and passes on what is heard,
//! at a bounded pace. What is heard is what anybody there says, and nothing more.

mod driver;
mod mdns;
#[cfg(test)]
mod memory;

pub(crate) use driver::stay;
pub(crate) use mdns::Mdns;

use crate::engine::Sighting;
use crate::wire::{Instance, NodeId};

/// A local network.
pub(crate) trait Lan: Send + 'static {
    /// What it is to be there.
    type Presence: Presence;

    /// Says who is here, from now on.
    fn join(&self, me: &Myself) -> impl Future<Output = Result<Self::Presence, NotJoined>> + Send;
}

/// Being there.
pub(crate) trait Presence: Send {
    /// What is heard next; `None` when it is lost. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Heard>> + Send;

    /// Says goodbye, which takes a moment.
    fn leave(self) -> impl Future<Output = ()> + Send;
}

/// What is said of this node.
#[derive(Debug, Clone)]
pub(crate) struct Myself {
    pub(crate) node_id: NodeId,
    pub(crate) instance: Instance,
    /// Where it listens; 0 where it does not, and is not to be found.
    pub(crate) port: u16,
}

/// What is heard there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Somebody says that it is there.
    Seen(Sighting),
    /// A record of this name is no more.
    Gone(String),
}

/// Why a network cannot be joined, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotJoined(pub(crate) String);
