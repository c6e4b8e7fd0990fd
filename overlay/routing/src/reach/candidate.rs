//! Places where a node's UDP socket may be reached, and which of two is the better one.
//!
//! A place is a guess until a datagram went there and came back. Leaves out what can never lead to
//! another machine over the underlay: nobody's addresses, whole groups, and the overlay itself,
//! through which the overlay must not be looked for.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

use mesh_base::address::is_overlay;

/// How a place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An interface of the machine has the address.
    Interface,
    /// The home's router was asked for the port.
    Mapped,
    /// Another node saw datagrams come from there.
    Seen,
}

/// A place, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub at: SocketAddr,
    /// How that is known.
    pub source: Source,
}

/// How good a way to a place is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// On the same local network, or one beside it.
    Local,
    /// IPv6: no router changes addresses.
    Six,
    /// A port that stays open by itself.
    Standing,
    /// A port that stays open while it is used.
    Punched,
}

impl Candidate {
    /// Returns how good a way there would be.
    pub fn class(&self) -> Class {
        match (self.at.ip(), self.source) {
            (ip, _) if is_local(&ip) => Class::Local,
            (IpAddr::V6(_), _) => Class::Six,
            (_, Source::Interface | Source::Mapped) => Class::Standing,
            (_, Source::Seen) => Class::Punched,
        }
    }
}

/// Returns whether a datagram to this place may be on its way to another machine.
pub fn is_place(at: &SocketAddr) -> bool {
    let ip = at.ip();
    let overlay = matches!(&ip, IpAddr::V6(ip) if is_overlay(ip));
    let everybody = matches!(&ip, IpAddr::V4(ip) if ip.is_broadcast());
    at.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !overlay && !everybody
}

/// Returns whether an address means something at home only.
fn is_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// Puts better ones first; among equals, the order stays.
pub fn by_class(a: &Candidate, b: &Candidate) -> Ordering {
    a.class().cmp(&b.class())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_better_than_six_than_a_mapped_port_than_a_seen_one() {
        let class = |at: &str, source| {
            let at = at.parse().unwrap();
            Candidate { at, source }.class()
        };
        let classes = [
            class("192.168.1.2:1", Source::Seen),
            class("[2001:db8::1]:1", Source::Interface),
            class("203.0.113.9:1", Source::Mapped),
            class("203.0.113.9:1", Source::Seen),
        ];
        assert!(classes.is_sorted_by(|a, b| a < b), "{classes:?}");
        assert_eq!(class("[fd00::1]:1", Source::Interface), Class::Local);
    }

    #[test]
    fn nobody_and_everybody_and_the_overlay_are_no_places() {
        let is = |at: &str| is_place(&at.parse().unwrap());
        for at in [
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "10.0.0.1:0",
        ] {
            assert!(!is(at), "{at}");
        }
        for at in ["[::]:1", "[ff02::1]:1", "[fd6d::1]:1", "[fd73::1]:1"] {
            assert!(!is(at), "{at}");
        }
        assert!(is("10.0.0.1:1") && is("[fd00::1]:1") && is("127.0.0.1:1"));
    }
}
