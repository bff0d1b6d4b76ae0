//! The node: the one task that owns the engine and turns what it decides into I/O.

#[cfg(test)]
pub(crate) mod fake;
mod handle;

use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

pub use handle::{Events, NodeHandle};

use crate::engine::{AcceptPolicy, Limits};

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The address to listen on; `None` for all interfaces, IPv6 and IPv4.
    pub bind: Option<IpAddr>,
    /// The port to listen on; 0 for any free one.
    pub port: u16,
    /// Where received files go; made when the first one arrives.
    pub downloads: PathBuf,
    /// Which offers are taken without asking.
    pub accept: AcceptPolicy,
    /// Whether the baseline protocol is spoken unencrypted.
    pub plain: bool,
    /// The bounds.
    pub limits: Limits,
}

/// Why a node could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {error}{hint}")]
    Listen {
        /// What was asked for.
        addr: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
        /// What to do, or nothing.
        hint: &'static str,
    },
}

/// Starts a node on the current tokio runtime.
///
/// # Errors
/// Where it cannot listen.
pub async fn start(_config: NodeConfig) -> Result<(NodeHandle, Events), StartError> {
    todo!()
}
