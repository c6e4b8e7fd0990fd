//! Where an instance without a network of its own listens: on loopback addresses that only it has.
//!
//! All of 127.0.0.0/8 is the machine itself (RFC 1122, 3.2.1.3 g), and anybody may listen on any of
//! it. So each instance gets two addresses there, one for its IPv4 and one for its IPv6 sockets:
//! software that listens on the wildcard of both, on the same port, then still can. They are drawn
//! by lot, never from what an order says: a customer could order until it shares a pair.
//!
//! Two instances of a machine draw the same pair with a chance of one in two million; then the
//! second finds its port taken, says so, and does not start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// First address of the instances' block, 127.64.0.0/10: programs that people run use 127.0.0.0/16.
const BLOCK: u32 = 0x7f40_0000;
/// Bits of an address inside the block that tell instances apart; the last tells the families.
const BITS: u32 = 21;
/// Ports below are the system's (RFC 6335, 6): only root may listen there.
const FREE_PORTS: u16 = 1024;
/// Where those are instead.
const SYSTEM_PORTS_AT: u16 = 20_000;

/// The pair of loopback addresses of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Doors(u32);

/// For which kind of socket an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// One made for IPv4.
    V4,
    /// One made for IPv6.
    V6,
}

/// Why a socket may not have an address or reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The address is not one of the instance's.
    NotOwn,
    /// It is, and nobody listens there.
    NobodyListens,
}

impl Doors {
    /// The doors that a lot names.
    pub const fn drawn(lot: u32) -> Self {
        Self(lot & ((1 << BITS) - 1))
    }

    /// Returns whether an address is one of the pair.
    pub fn holds(self, ip: Ipv4Addr) -> bool {
        self.ways_in(0).iter().any(|way| *way.ip() == ip)
    }

    /// Returns where a socket listens that means to listen on this port.
    pub fn outside(self, family: Family, port: u16) -> SocketAddrV4 {
        let last = match family {
            Family::V4 => 0,
            Family::V6 => 1,
        };
        let port = match port {
            1..FREE_PORTS => port + SYSTEM_PORTS_AT,
            _ => port,
        };
        SocketAddrV4::new(Ipv4Addr::from_bits(BLOCK | self.0 << 1 | last), port)
    }

    /// Returns where a port of the instance may be reached; the first that answers is it.
    pub fn ways_in(self, port: u16) -> [SocketAddrV4; 2] {
        [Family::V6, Family::V4].map(|family| self.outside(family, port))
    }

    /// Returns where a socket listens that asked for `wanted`, in an instance whose service address
    /// is `own`.
    ///
    /// # Errors
    /// The address is neither a wildcard nor the instance's own.
    pub fn to_bind(
        self,
        own: Option<Ipv6Addr>,
        wanted: SocketAddr,
    ) -> Result<SocketAddrV4, Closed> {
        let ip = wanted.ip();
        if ip.to_canonical().is_unspecified() || is_own(own, ip) {
            Ok(self.outside(family(ip), wanted.port()))
        } else {
            Err(Closed::NotOwn)
        }
    }

    /// Returns where a socket connects that asked for `wanted`; `listens` tells where the instance
    /// does. A wildcard means the loopback, as Linux has it.
    ///
    /// # Errors
    /// The address is not the instance's own, or nobody listens there.
    pub fn to_connect(
        self,
        own: Option<Ipv6Addr>,
        wanted: SocketAddr,
        listens: impl Fn(SocketAddrV4) -> bool,
    ) -> Result<SocketAddrV4, Closed> {
        let first = self.to_bind(own, wanted)?;
        // A wildcard socket for IPv6 takes IPv4 as well, unless it says no.
        let other = match family(wanted.ip()) {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        let ways = [first, self.outside(other, wanted.port())];
        let open = ways.into_iter().find(|way| listens(*way));
        open.ok_or(Closed::NobodyListens)
    }
}

fn family(ip: IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

fn is_own(own: Option<Ipv6Addr>, ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback() || own.is_some_and(|own| ip == IpAddr::V6(own))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOORS: Doors = Doors::drawn(0x12_3456);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_wildcards_of_a_port_can_be_had() {
        let doors = DOORS;
        let four = doors.to_bind(None, at("0.0.0.0:5432")).unwrap();
        let six = doors.to_bind(None, at("[::]:5432")).unwrap();
        assert_ne!(four, six);
        assert_eq!(doors.ways_in(5432), [six, four]);
    }

    #[test]
    fn system_ports_are_moved_to_where_anybody_may_listen() {
        let web = DOORS.to_bind(None, at("[::]:80")).unwrap();
        assert_eq!(web.port(), 20_080);
        assert_eq!(DOORS.ways_in(80)[0], web);
        let any = DOORS.to_bind(None, at("[::]:0")).unwrap();
        assert_eq!(any.port(), 0);
    }

    #[test]
    fn only_own_addresses_are_given() {
        let own: Ipv6Addr = "fd73::5".parse().unwrap();
        let bind = |to: &str| DOORS.to_bind(Some(own), at(to));
        for lawful in [
            "[fd73::5]:1",
            "127.0.0.1:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(bind(lawful).is_ok(), "{lawful}");
        }
        for other in [
            "[fd73::6]:1",
            "192.168.1.1:1",
            "[::ffff:10.0.0.1]:1",
            "8.8.8.8:1",
        ] {
            assert_eq!(bind(other), Err(Closed::NotOwn), "{other}");
        }
        assert_eq!(DOORS.to_bind(None, at("[fd73::5]:1")), Err(Closed::NotOwn));
    }

    #[test]
    fn service_is_reached_by_either_family() {
        let doors = DOORS;
        let six = doors.outside(Family::V6, 80);
        let own: Ipv6Addr = "fd73::5".parse().unwrap();
        for way in ["127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "[fd73::5]:80"] {
            let found = doors.to_connect(Some(own), at(way), |listens| listens == six);
            assert_eq!(found, Ok(six), "{way}");
        }
        let silent = doors.to_connect(Some(own), at("127.0.0.1:81"), |listens| listens == six);
        assert_eq!(silent, Err(Closed::NobodyListens));
        let far = doors.to_connect(Some(own), at("192.0.2.1:80"), |_| true);
        assert_eq!(far, Err(Closed::NotOwn));
    }

    proptest! {
        /// Whatever is asked for, no socket leaves the instance's own pair of addresses.
        #[test]
        fn nothing_leaves_the_pair(
            lot: u32, ip: std::net::IpAddr, port: u16, own: Ipv6Addr,
        ) {
            let doors = Doors::drawn(lot);
            let wanted = SocketAddr::new(ip, port);
            let pair = doors.ways_in(1024).map(|way| *way.ip());
            prop_assert!(pair.iter().all(|ip| ip.is_loopback() && doors.holds(*ip)));
            let given = [
                doors.to_bind(Some(own), wanted),
                doors.to_connect(Some(own), wanted, |_| true),
            ];
            for given in given.into_iter().flatten() {
                prop_assert!(pair.contains(given.ip()));
            }
        }
    }
}
