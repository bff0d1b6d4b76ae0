//! Where connections come from, as far as one party can choose it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::relay::NOWHERE;

/// An address for counting: IPv4 as it is, and of IPv6 the network of 64 bits, in which whoever has
/// one address has them all (RFC 4291, section 2.5.1). Of what stands for an address where somebody is connected
/// through another peer, the part that says through which: that peer lets them all in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    /// Where an address belongs.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V6(ip) if !ip.is_loopback() => {
                Self(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - network_bits(ip)))).into())
            }
            ip => Self(ip),
        }
    }
}

fn network_bits(ip: Ipv6Addr) -> u32 {
    let is_nowhere = ip.segments()[..4] == NOWHERE.segments()[..4];
    if is_nowhere { 96 } else { 64 }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(ip) if !ip.is_loopback() => write!(f, "{ip}/{}", network_bits(ip)),
            ip => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_one_party_has_is_one_origin() {
        let of = |ip: &str| Origin::of(ip.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!((of("::1").to_string(), of("192.0.2.1").to_string()), ("::1".into(), "192.0.2.1".into()));
    }
}
