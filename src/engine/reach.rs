//! From how far away an address can be reached, and which of them no peer can have.
//!
//! Which addresses are special say the registries of IANA (RFC 6890). What is embedded in another address
//! counts as what it is, so that no address of a private network gets out, or in, in disguise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// From how far away an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// From the same machine.
    Machine,
    /// From the same network.
    Network,
    /// From everywhere.
    World,
}

/// `None` for what belongs to nobody who could be connected to.
pub(super) fn reach_of(ip: IpAddr) -> Option<Reach> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => reach_of_v4(ip),
        IpAddr::V6(ip) => reach_of_v6(ip),
    }
}

fn reach_of_v4(ip: Ipv4Addr) -> Option<Reach> {
    match ip.octets() {
        [127, ..] => Some(Reach::Machine),
        // Of private networks, of carriers (RFC 6598), of a link, of test beds (RFC 2544).
        [10, ..]
        | [172, 16..32, ..]
        | [192, 168, ..]
        | [100, 64..128, ..]
        | [169, 254, ..]
        | [198, 18..20, ..] => Some(Reach::Network),
        // This network; protocols; documentation (RFC 5737); relays of 6to4 that are no more (RFC 7526).
        [0, ..] | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => None,
        // Multicast, what is reserved, and broadcast.
        [224..=255, ..] => None,
        _ => Some(Reach::World),
    }
}

fn reach_of_v6(ip: Ipv6Addr) -> Option<Reach> {
    let if_public = |ip: Ipv4Addr| reach_of_v4(ip).filter(|reach| *reach == Reach::World);
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Reach::Machine),
        // Of private networks (RFC 4193), of a link, of sites as they once were (RFC 3879).
        [0xfc00..=0xfdff | 0xfe80..=0xfebf | 0xfec0..=0xfeff, ..] => Some(Reach::Network),
        // What a network's own translator makes of IPv4 addresses (RFC 6052, RFC 8215) means nothing elsewhere.
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] => if_public(v4(a, b)).and(Some(Reach::Network)),
        [0x64, 0xff9b, 1, ..] => Some(Reach::Network),
        // Teredo (RFC 4380), where the address at the end has its bits turned around; 6to4 (RFC 3056).
        [0x2001, 0, _, _, _, _, a, b] => if_public(v4(!a, !b)),
        [0x2002, a, b, ..] => if_public(v4(a, b)),
        // Protocols (RFC 2928); documentation (RFC 3849, RFC 9637).
        [0x2001, 0x1..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => None,
        [0x2000..=0x3fff, ..] => Some(Reach::World),
        // Nothing else is given to anybody, or it is multicast.
        _ => None,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// The address that can be reached from farthest away.
pub(crate) fn farthest(addresses: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    addresses.filter(|ip| reach_of(*ip).is_some()).max_by_key(|ip| reach_of(*ip))
}

/// Whether an address can be reached from everywhere, as far as one can see.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    reach_of(ip) == Some(Reach::World)
}

/// Whether somebody could listen there.
pub(super) fn can_be_peer(addr: SocketAddr) -> bool {
    addr.port() != 0 && reach_of(addr.ip()).is_some()
}

/// Whether somebody on another machine could come in there.
pub(crate) fn is_elsewhere(addr: SocketAddr) -> bool {
    can_be_peer(addr) && reach_of(addr.ip()) != Some(Reach::Machine)
}

/// Whether somebody there may be told of an address, and be believed if it tells of it.
pub(super) fn may_be_told(to: IpAddr, of: SocketAddr) -> bool {
    // Of a link's address it is not told which link.
    let is_of_a_link = matches!(of.ip().to_canonical(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    match (reach_of(to), reach_of(of.ip())) {
        (Some(to), Some(of_them)) => can_be_peer(of) && !is_of_a_link && of_them >= to,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(ip: &str) -> Option<Reach> {
        reach_of(ip.parse().unwrap())
    }

    #[test]
    fn an_address_reaches_as_far_as_its_registry_says() {
        for ip in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(reach(ip), Some(Reach::Machine), "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "::ffff:192.168.0.1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
        ] {
            assert_eq!(reach(ip), Some(Reach::Network), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "2000::1",
            "2001:200::1",
            "2606:4700::1111",
            "2002:101:101::1",
            "2001:0:1:2:3:4:fefe:fefe",
            "3fff:1000::1",
        ] {
            assert_eq!(reach(ip), Some(Reach::World), "{ip}");
        }
    }

    #[test]
    fn what_nobody_listens_at_is_nobody() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::ffff:0.0.0.0",
            "::ffff:255.255.255.255",
            "::",
            "::2",
            "::10.0.0.1",
            "100::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "2001:2::1",
            "2001:20::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
            "ff02::1",
            // 6to4 and Teredo of 10.0.0.1.
            "2002:a00:1::1",
            "2001:0:1:2:3:4:f5ff:fffe",
        ] {
            assert_eq!(reach(ip), None, "{ip}");
        }
        assert!(!can_be_peer("1.1.1.1:0".parse().unwrap()), "nor at port 0");
    }

    #[test]
    fn no_address_leaves_the_network_in_which_it_means_something() {
        let told = |to: &str, of: &str| may_be_told(to.parse().unwrap(), of.parse().unwrap());
        for (to, of) in [
            ("127.0.0.1", "127.0.0.1:1"),
            ("127.0.0.1", "10.0.0.1:1"),
            ("10.0.0.1", "192.168.1.1:1"),
            ("fe80::1", "[fd00::1]:1"),
            ("1.1.1.1", "9.9.9.9:1"),
            ("::ffff:10.0.0.1", "[2606::1]:1"),
        ] {
            assert!(told(to, of), "{to} may know {of}");
        }
        for (to, of) in [
            ("10.0.0.1", "127.0.0.1:1"),
            ("1.1.1.1", "10.0.0.1:1"),
            ("1.1.1.1", "100.64.0.1:1"),
            ("1.1.1.1", "[64:ff9b::9.9.9.9]:1"),
            ("2606::1", "[fd00::1]:1"),
            ("2606::1", "[fec0::1]:1"),
            ("2606::1", "[::ffff:192.168.0.1]:1"),
            ("1.1.1.1", "9.9.9.9:0"),
            ("127.0.0.1", "0.0.0.0:1"),
            ("127.0.0.1", "224.0.0.1:1"),
            ("127.0.0.1", "[fe80::1]:1"),
            ("0.0.0.0", "9.9.9.9:1"),
        ] {
            assert!(!told(to, of), "{to} must not know {of}");
        }
    }
}
