//! At which addresses of this machine the node can be reached, now and when that changes.
//!
//! Where a node listens on all addresses, those count from which this machine would speak to the internet; where none
//! leads there, those of its networks. Computers are carried about and get other addresses, so that is looked at again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::engine::{HostPort, Input, Target};
use crate::wire::NodeId;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Addresses that are listed where none leads to the internet.
const MAX_LOCAL: usize = 4;

/// Where others may reach a node that listens there: for links, and to tell its user.
pub(super) fn reachable(listening: SocketAddr, id: Option<NodeId>) -> Vec<Target> {
    let addresses =
        if listening.ip().is_unspecified() { of_machine(listening.ip()) } else { vec![listening.ip()] };
    let target = |ip| Target { address: HostPort::from(SocketAddr::new(ip, listening.port())), id };
    addresses.into_iter().map(target).collect()
}

/// Tells of each change, for ever or until nobody listens. For nodes that listen on all addresses.
pub(super) async fn watch(
    (listening, id): (SocketAddr, Option<NodeId>),
    mut known: Vec<Target>,
    told: mpsc::Sender<Input>,
) {
    loop {
        sleep(LOOK_EVERY).await;
        let now = reachable(listening, id);
        if now != known {
            known.clone_from(&now);
            if told.send(Input::Reachable(now)).await.is_err() {
                return;
            }
        }
    }
}

fn of_machine(any: IpAddr) -> Vec<IpAddr> {
    // IPv6 takes in IPv4, not the other way round.
    let is_listened_at = |ip: &IpAddr| any.is_ipv6() || ip.is_ipv4();
    // Addresses for documentation (RFC 5737, RFC 3849): nothing is sent, the system only chooses.
    let somewhere = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let mut found: Vec<IpAddr> =
        somewhere.into_iter().filter_map(|(from, to)| speaks_from(from, to)).collect();
    found.retain(is_listened_at);
    if found.is_empty() {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
        let of_networks =
            interfaces.filter(|interface| !interface.is_loopback() && !interface.is_link_local());
        found.extend(of_networks.map(|interface| interface.ip()).filter(is_listened_at).take(MAX_LOCAL));
    }
    if found.is_empty() {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    found
}

/// The address from which this machine would speak to another.
fn speaks_from(from: &str, to: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listened_at_can_be_reached() {
        let of = |listening: &str| {
            let reachable = reachable(listening.parse().unwrap(), None);
            reachable
                .iter()
                .map(|target| target.address.host().parse::<IpAddr>().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("127.0.0.2:8000"), ["127.0.0.2".parse::<IpAddr>().unwrap()]);
        let (all, of_ipv4) = (of("[::]:8000"), of("0.0.0.0:8000"));
        assert!(!all.is_empty() && !of_ipv4.is_empty() && of_ipv4.iter().all(IpAddr::is_ipv4), "{of_ipv4:?}");
    }
}
