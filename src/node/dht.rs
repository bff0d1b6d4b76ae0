//! Which DHT a node takes part in, and from where.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::greet::Greeter;
use super::interfaces::reachable;
use super::{NodeConfig, StartError};
pub use crate::net::Bootstrap;
use crate::net::{Mainline, free_port};

/// A DHT to take part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhtConfig {
    /// The UDP port; `None` for that of the node.
    pub port: Option<u16>,
    /// By whom to come in.
    pub bootstrap: Bootstrap,
}

/// The network that a node enters, at a port that is free now; `None` where it takes part in none.
pub(super) fn network(
    config: &NodeConfig,
    greeter: &Greeter,
    listening: SocketAddr,
) -> Result<Option<Mainline>, StartError> {
    // Who has no identity serves nothing by its hash, and whoever does not listen is not found.
    let (Some(dht), Greeter::Secure(secure), true) = (&config.dht, greeter, config.listens) else {
        return Ok(None);
    };
    let ip = match config.bind {
        Some(IpAddr::V4(ip)) => ip,
        Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
    };
    let wanted = dht.port.unwrap_or(listening.port());
    // Who asked for any free port has it for both, or two.
    let is_any = dht.port.is_none() && config.port == 0;
    let port = free_port(ip, wanted, is_any).map_err(|error| StartError::Dht { port: wanted, error })?;
    let here = reachable(listening, greeter.node_id());
    let here = here.iter().find_map(|here| here.address.host().parse().ok().filter(IpAddr::is_ipv4));
    Ok(Some(Mainline {
        socket: SocketAddrV4::new(ip, port),
        here: here.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        bootstrap: dht.bootstrap.clone(),
        home: secure.home.clone(),
    }))
}
