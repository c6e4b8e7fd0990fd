//! Ports of the home's gateway that lead to ours: asked for, kept, given back.
//!
//! ```text
//!   gateway seen ─► PCP ── silent, refused ─► NAT-PMP ── … ─► UPnP-IGD ── … ─► rest, then again
//!                    │                          │                │
//!                    └────────── held: renew at half, glance once a minute ──────┐
//!                                                   ▲                           │
//!                        gateway forgot (epoch, no entry) ── ask again ◄─────────┘
//! ```
//! [`mapper`] decides which way is asked and when; the other rooms know one protocol's bytes each.
//! All of it is pure: the shell has the sockets. A gateway is believed only about its own ports,
//! and nothing that it says makes us send more than the limits below.
//!
//! | room | idea |
//! |---|---|
//! | [`mapper`] | the policy, and the two ways over UDP |
//! | [`igd`] | the conversation with a UPnP gateway: search, describe, look, add |
//! | [`claim`] | one port of ours, and how far it has come |
//! | [`epoch`] | whether a gateway has forgotten |
//! | [`pcp`] | PCP (RFC 6887) |
//! | [`natpmp`] | NAT-PMP (RFC 6886) |
//! | [`ssdp`] | finding a UPnP gateway (UPnP Device Architecture 1.1, 1.3) |
//! | [`soap`] | talking to one (WANIPConnection:1 and :2) |
//! | [`xml`] | as much of XML as that needs |

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

pub mod claim;
pub mod epoch;
pub mod igd;
pub mod mapper;
pub mod natpmp;
pub mod pcp;
pub mod soap;
pub mod ssdp;
pub mod xml;

/// Most ports that one node wants mapped: it has a tunnel port and a control port, and room for
/// two more. At the limit the later ones are left out.
pub const WISHES_MAX: usize = 4;

/// Lease that is asked for unless the owner says otherwise (RFC 6886, 3.3).
pub const LEASE: Duration = Duration::from_secs(7_200);

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Transport {
    /// Returns its IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    /// Returns its name, as people and UPnP write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// A port of ours that shall be reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// What it carries.
    pub transport: Transport,
    /// Its number here.
    pub port: u16,
}

/// The router that the default route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// Its address on our network.
    pub router: Ipv4Addr,
    /// Ours, as it sees us.
    pub own: Ipv4Addr,
}

/// A protocol by which a gateway can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// PCP (RFC 6887).
    Pcp,
    /// NAT-PMP (RFC 6886).
    NatPmp,
    /// UPnP-IGD.
    Upnp,
}

impl Way {
    /// All of them, in the order in which they are tried: the one that says most first.
    pub const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];

    /// Returns its name, as settings and screens write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat-pmp",
            Self::Upnp => "upnp",
        }
    }
}

/// A port of the gateway that leads to one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// What leads where.
    pub wish: Wish,
    /// Where the world reaches it.
    pub external: SocketAddrV4,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The owner does not want it.
    Off,
    /// No default route leads to an IPv4 router.
    NoGateway,
    /// The gateway is being asked.
    Asking,
    /// It has mapped what can be used from everywhere.
    Mapped(Way),
    /// It has mapped, but is itself behind another: only that network reaches us.
    Inside(Way),
    /// It answers in this way, and refuses.
    Refused(Way),
    /// It answers in no way.
    Silent,
}

/// What became of the wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it stands.
    pub standing: Standing,
    /// Who is asked.
    pub gateway: Option<Ipv4Addr>,
    /// What is mapped.
    pub mappings: Vec<Mapping>,
}

/// Returns whether an address can stand for a gateway's outside at all.
pub const fn is_usable(ip: Ipv4Addr) -> bool {
    let [first, ..] = ip.octets();
    !(ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || first == 0
        // Multicast, reserved, broadcast.
        || 224 <= first)
}

/// Returns whether an address is one of a network behind another gateway: RFC 1918, or the
/// carrier's own (RFC 6598).
pub const fn is_inside(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    ip.is_private() || (first == 100 && second & 0xc0 == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ip: &str, usable: bool, inside: bool) {
        let ip: Ipv4Addr = ip.parse().unwrap();
        assert_eq!((is_usable(ip), is_inside(ip)), (usable, inside), "{ip}");
    }

    #[test]
    fn outsides_are_told_apart() {
        check("11.0.0.1", true, false);
        check("100.63.0.1", true, false);
        check("100.64.0.1", true, true);
        check("100.127.255.254", true, true);
        check("100.128.0.1", true, false);
        check("192.168.1.1", true, true);
        check("10.0.0.1", true, true);
        check("0.0.0.0", false, false);
        check("127.0.0.1", false, false);
        check("169.254.1.1", false, false);
        check("224.0.0.1", false, false);
        check("255.255.255.255", false, false);
    }
}
