//! The router of a home, asked in each protocol that it may know: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions, PortMappingType,
    TimeoutConfig, natpmp,
};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, GatewayIpVersion, PortMappingProtocol, SearchOptions};

use super::{Granted, NotMapped, Router};

/// For how long it is asked for, in seconds.
const LIFETIME: u32 = 3600;

/// How a router lists it.
const DESCRIPTION: &str = "p2p";

/// How long a router has to answer one question over UDP: 0.25 s, 0.5 s, 1 s, 2 s.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 3,
    max_retry_timeout: Some(Duration::from_secs(2)),
};

/// Characters of what a router says that went wrong.
const LONGEST_REASON: usize = 200;

/// How long one is searched for by multicast.
const SEARCH: Duration = Duration::from_secs(4);

/// The router through which this machine reaches the internet.
#[derive(Default)]
pub(crate) struct Home {
    /// The address that the node listens on, where that is only one.
    bind: Option<Ipv4Addr>,
    held: Option<Held>,
}

/// What it granted.
enum Held {
    /// By PCP or NAT-PMP.
    Udp(PortMapping),
    Upnp {
        gateway: Box<Gateway<Tokio>>,
        external: u16,
    },
}

impl Home {
    /// That of a node that listens on one address, or on all.
    pub(crate) fn new(bind: Option<Ipv4Addr>) -> Self {
        Self { bind, held: None }
    }

    async fn by_udp(&mut self, port: NonZeroU16) -> Result<Granted, String> {
        let router = default_route().await.map_err(|error| error.to_string())?;
        let gateway = GatewayAddress::IpV4(router);
        let here = self.here(router).map_err(|error| error.to_string())?;
        let options = PortMappingOptions {
            external_port: Some(port),
            lifetime_seconds: Some(LIFETIME),
            timeout_config: Some(PATIENCE),
        };
        let mapped = match PortMapping::new(gateway, here.into(), InternetProtocol::Tcp, port, options).await
        {
            Ok(mapped) => Ok(mapped),
            // Some know the older one only, and answer nothing else.
            Err(MappingFailure::Pcp(_)) => {
                natpmp::port_mapping(gateway, InternetProtocol::Tcp, port, options).await
            }
            Err(MappingFailure::NatPmp(why)) => Err(why),
        };
        let mapped = mapped.map_err(|why| why.to_string())?;
        let granted = granted_by_udp(&mapped).await.map_err(|why| why.to_string());
        self.held = Some(Held::Udp(mapped));
        granted
    }

    async fn by_upnp(&mut self, port: NonZeroU16) -> Result<Granted, String> {
        let mut options = SearchOptions::default();
        options.bind_addr = (self.bind.unwrap_or(Ipv4Addr::UNSPECIFIED), 0).into();
        options.timeout = Some(SEARCH);
        options.gateway_ip_version = GatewayIpVersion::V4;
        let gateway = search_gateway(options).await.map_err(|why| why.to_string())?;
        let IpAddr::V4(router) = gateway.addr.ip() else { return Err("it is no IPv4 router".to_owned()) };
        let here = self.here(router).map_err(|error| error.to_string())?;
        let (granted, held) = by_upnp_of(gateway, SocketAddr::from((here, port.get())), port.get()).await?;
        self.held = Some(held);
        Ok(granted)
    }

    /// The address from which this machine speaks to its router.
    fn here(&self, router: Ipv4Addr) -> io::Result<Ipv4Addr> {
        if let Some(bind) = self.bind {
            return Ok(bind);
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Nothing is sent, the system only chooses.
        socket.connect((router, crab_nat::GATEWAY_PORT))?;
        match socket.local_addr()?.ip() {
            IpAddr::V4(here) => Ok(here),
            IpAddr::V6(_) => Err(io::Error::other("no IPv4 address leads to the router")),
        }
    }

    /// Has what is held go on.
    async fn renew(&mut self, port: NonZeroU16) -> Option<Granted> {
        match self.held.take()? {
            Held::Udp(mut mapped) => {
                mapped.renew().await.ok()?;
                let granted = granted_by_udp(&mapped).await.ok()?;
                self.held = Some(Held::Udp(mapped));
                Some(granted)
            }
            Held::Upnp { gateway, external } => {
                let IpAddr::V4(router) = gateway.addr.ip() else { return None };
                let here = self.here(router).ok()?;
                let renewing = by_upnp_of(*gateway, SocketAddr::from((here, port.get())), external);
                let (granted, held) = renewing.await.ok()?;
                self.held = Some(held);
                Some(granted)
            }
        }
    }
}

impl Router for Home {
    async fn map(&mut self, port: u16) -> Result<Granted, NotMapped> {
        let Some(port) = NonZeroU16::new(port) else {
            return Err(NotMapped("this node does not listen".to_owned()));
        };
        if let Some(granted) = self.renew(port).await {
            return Ok(granted);
        }
        let by_udp = match self.by_udp(port).await {
            Ok(granted) => return Ok(granted),
            Err(why) => why,
        };
        let by_upnp = match self.by_upnp(port).await {
            Ok(granted) => return Ok(granted),
            Err(why) => why,
        };
        let [by_udp, by_upnp] =
            [by_udp, by_upnp].map(|why| why.chars().take(LONGEST_REASON).collect::<String>());
        Err(NotMapped(format!("PCP and NAT-PMP: {by_udp}; UPnP: {by_upnp}")))
    }

    async fn unmap(&mut self) {
        match self.held.take() {
            None => {}
            // Where it does not hear that, it lapses.
            Some(Held::Udp(mapped)) => _ = mapped.try_drop().await,
            Some(Held::Upnp { gateway, external }) => {
                let _lapses = gateway.remove_port(PortMappingProtocol::TCP, external).await;
            }
        }
    }
}

async fn granted_by_udp(mapped: &PortMapping) -> Result<Granted, natpmp::Failure> {
    let (ip, by) = match mapped.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => (external_ip.to_canonical(), "PCP"),
        PortMappingType::NatPmp => {
            (natpmp::external_address(mapped.gateway(), Some(PATIENCE)).await?.into(), "NAT-PMP")
        }
    };
    let external = SocketAddr::new(ip, mapped.external_port().get());
    Ok(Granted { external, lifetime: Duration::from_secs(mapped.lifetime().into()), by })
}

/// Has a router map a port of its, the one that is wanted or another, to one of this machine.
async fn by_upnp_of(
    gateway: Gateway<Tokio>,
    here: SocketAddr,
    wanted: u16,
) -> Result<(Granted, Held), String> {
    let ip = gateway.get_external_ip().await.map_err(|why| why.to_string())?;
    let tcp = PortMappingProtocol::TCP;
    let mut lifetime = LIFETIME;
    let mut result = gateway.add_port(tcp, wanted, here, lifetime, DESCRIPTION).await;
    if let Err(AddPortError::OnlyPermanentLeasesSupported) = result {
        lifetime = 0;
        result = gateway.add_port(tcp, wanted, here, lifetime, DESCRIPTION).await;
    }
    let external = match result {
        Ok(()) => wanted,
        Err(AddPortError::PortInUse) => {
            let added = gateway.add_any_port(tcp, here, lifetime, DESCRIPTION).await;
            added.map_err(|why| why.to_string())?
        }
        Err(why) => return Err(why.to_string()),
    };
    // What has no end is asked for again now and then: the router may have been started anew.
    let lifetime = Duration::from_secs(if lifetime == 0 { LIFETIME } else { lifetime }.into());
    let granted = Granted { external: SocketAddr::new(ip.to_canonical(), external), lifetime, by: "UPnP" };
    Ok((granted, Held::Upnp { gateway: Box::new(gateway), external }))
}

fn no_route() -> io::Error {
    io::Error::other("no default route; is there a network?")
}

/// Where this machine sends what is for nobody on its own networks.
#[cfg(target_os = "linux")]
async fn default_route() -> io::Result<Ipv4Addr> {
    let routes = tokio::task::spawn_blocking(|| std::fs::read_to_string("/proc/net/route")).await??;
    default_of(&routes).ok_or_else(no_route)
}

/// That of Linux's table of routes: lines of words, of which the second is the destination, the third the gateway and
/// the seventh the metric; addresses are hexadecimal in the byte order of the machine.
#[cfg(target_os = "linux")]
fn default_of(routes: &str) -> Option<Ipv4Addr> {
    let defaults = routes.lines().skip(1).filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (destination, gateway, metric) = (words.get(1)?, words.get(2)?, words.get(6)?);
        let gateway = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes());
        (*destination == "00000000" && !gateway.is_unspecified())
            .then_some((metric.parse::<u32>().ok()?, gateway))
    });
    defaults.min().map(|(_, gateway)| gateway)
}

/// The same where no file tells it: of what `route` prints.
#[cfg(not(target_os = "linux"))]
async fn default_route() -> io::Result<Ipv4Addr> {
    let route = || std::process::Command::new("/sbin/route").args(["-n", "get", "default"]).output();
    let output = tokio::task::spawn_blocking(route).await??;
    let text = String::from_utf8_lossy(&output.stdout);
    let gateway = text.lines().find_map(|line| line.trim().strip_prefix("gateway:")?.trim().parse().ok());
    gateway.ok_or_else(no_route)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_the_one_of_least_metric() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\tFE01A8C0\t0003\t0\t0\t600\t00000000\n\
                     eth1\t00000000\t0101000A\t0003\t0\t0\t100\t00000000\n\
                     eth1\t0001000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        if cfg!(target_endian = "little") {
            assert_eq!(default_of(table), Some(Ipv4Addr::new(10, 0, 1, 1)));
        }
        for nothing in [
            "",
            "Iface",
            "Iface\nx\n",
            "Iface\neth0 00000000 zz 1 0 0 0 0\n",
            "I\ne 00000000 00000000 1 0 0 0 0\n",
        ] {
            assert_eq!(default_of(nothing), None, "{nothing:?}");
        }
    }
}
