//! The local network as multicast DNS knows it (RFC 6762, RFC 6763): a service of each node, with its identity.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Heard, Lan, Myself, NotJoined, Presence};
use crate::engine::Sighting;
use crate::wire::Instance;

/// What is listened for, and said.
const SERVICE: &str = "_p2p-file._tcp.local.";

/// Under which the identity is said.
const ID: &str = "id";

/// Records that the library may keep, of all kinds. It bounds nothing itself, so where somebody floods it, it is
/// started anew.
const MAX_CACHED: i64 = 20_000;

/// How often that is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How long the library may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// It joins the multicast groups of all interfaces that may be listened on.
pub(crate) struct Mdns {
    /// The address that the node listens on; `None` for all.
    pub(crate) bind: Option<IpAddr>,
}

pub(crate) struct Present {
    daemon: ServiceDaemon,
    fullname: String,
    events: Receiver<ServiceEvent>,
    next_check: Instant,
}

impl Lan for Mdns {
    type Presence = Present;

    async fn join(&self, me: &Myself) -> Result<Present, NotJoined> {
        let joined = self.register(me);
        joined.map_err(|error| NotJoined(format!("multicast DNS cannot be used: {error}")))
    }
}

impl Mdns {
    fn register(&self, me: &Myself) -> mdns_sd::Result<Present> {
        let daemon = ServiceDaemon::new()?;
        match self.bind {
            None => daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?,
            Some(IpAddr::V4(any)) if any.is_unspecified() => {
                daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::IPv6])?;
            }
            Some(IpAddr::V6(any)) if any.is_unspecified() => {
                daemon.disable_interface(vec![IfKind::LoopbackV6, IfKind::IPv4])?;
            }
            Some(ip) => {
                daemon.disable_interface(IfKind::All)?;
                daemon.enable_interface(IfKind::Addr(ip))?;
            }
        }
        // Not the name of this computer, which nobody needs to know.
        let host = format!("p2p-{}.local.", me.instance);
        let id = me.node_id.to_string();
        let name = me.instance.to_string();
        let info = ServiceInfo::new(SERVICE, &name, &host, "", me.port, &[(ID, id.as_str())][..])?;
        let fullname = info.get_fullname().to_owned();
        if me.port != 0 {
            daemon.register(info.enable_addr_auto())?;
        }
        let events = daemon.browse(SERVICE)?;
        Ok(Present { daemon, fullname, events, next_check: Instant::now() + CHECK_EVERY })
    }
}

impl Present {
    async fn is_flooded(&self) -> bool {
        let Ok(metrics) = self.daemon.get_metrics() else { return true };
        let Ok(Ok(metrics)) = timeout(CHECK_EVERY, metrics.recv_async()).await else { return true };
        let cached = metrics.iter().filter(|(name, _)| name.starts_with("cached-"));
        cached.map(|(_, count)| *count).sum::<i64>() > MAX_CACHED
    }
}

impl Presence for Present {
    async fn next(&mut self) -> Option<Heard> {
        loop {
            let event = tokio::select! {
                event = self.events.recv_async() => event.ok()?,
                () = sleep_until(self.next_check) => {
                    if self.is_flooded().await {
                        return None;
                    }
                    self.next_check = Instant::now() + CHECK_EVERY;
                    continue;
                }
            };
            match event {
                ServiceEvent::ServiceResolved(service) => {
                    if let Some(sighting) = sighting(&service) {
                        return Some(Heard::Seen(sighting));
                    }
                }
                ServiceEvent::ServiceRemoved(_, fullname) => {
                    if let Some(name) = label(&fullname) {
                        return Some(Heard::Gone(name));
                    }
                }
                ServiceEvent::SearchStopped(_) => return None,
                _ => {}
            }
        }
    }

    async fn leave(self) {
        if let Ok(done) = self.daemon.unregister(&self.fullname) {
            // Others forget it by themselves, later.
            let _unheard = timeout(GOODBYE, done.recv_async()).await;
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _late = timeout(GOODBYE, done.recv_async()).await;
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        // Its thread has ended already, or ends now.
        let _ended = self.daemon.shutdown();
    }
}

/// What a record is called among those of the service.
fn label(fullname: &str) -> Option<String> {
    let label = fullname.get(..fullname.len().checked_sub(SERVICE.len())?)?;
    label.strip_suffix('.').map(str::to_ascii_lowercase)
}

/// What somebody says, if that can be made sense of.
fn sighting(service: &ResolvedService) -> Option<Sighting> {
    let name = label(service.get_fullname())?;
    let node_id = service.get_property_val_str(ID)?.parse().ok()?;
    let mut addrs: Vec<_> = service
        .get_addresses()
        .iter()
        .map(ScopedIp::to_ip_addr)
        // These mean something with an interface only, of which addresses that are dialled say nothing.
        .filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()))
        .map(|ip| SocketAddr::new(ip, service.get_port()))
        .collect();
    addrs.sort_unstable();
    Some(Sighting { instance: name.parse::<Instance>().ok(), name, node_id, addrs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(name: &str, id: &str, ips: &str) -> ResolvedService {
        let info = ServiceInfo::new(SERVICE, name, "somewhere.local.", ips, 8000, &[(ID, id)][..]);
        info.unwrap().as_resolved_service()
    }

    #[test]
    fn a_record_says_who_is_where() {
        let (name, id) = ("0000000000000000000000000000002a", "5a".repeat(32));
        let seen = sighting(&resolved(name, &id, "10.0.0.2,fe80::1,fd00::2")).unwrap();
        assert_eq!((seen.name.as_str(), seen.instance), (name, Some(Instance(42))));
        assert_eq!(seen.node_id.to_string(), id);
        assert_eq!(seen.addrs, ["10.0.0.2:8000".parse().unwrap(), "[fd00::2]:8000".parse().unwrap()]);
    }

    #[test]
    fn what_is_no_record_of_ours_is_left_out() {
        for id in ["", "5a", &"x".repeat(64), &"5a".repeat(33)] {
            assert_eq!(sighting(&resolved("2a", id, "10.0.0.2")), None, "{id:?}");
        }
        let named = sighting(&resolved("my \u{202e}printer.x", &"5a".repeat(32), "10.0.0.2")).unwrap();
        assert_eq!(named.instance, None);
        for fullname in ["", SERVICE, "x", "é_p2p-file._tcp.local.", "_p2p-file._tcp.local"] {
            assert_eq!(label(fullname), None, "{fullname}");
        }
    }
}
