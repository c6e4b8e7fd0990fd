//! Routes of ours in the kernel's table: what was learned over ordinary links can be used by every
//! program of the machine.
//!
//! They carry the protocol number of Babel and a priority of their own, so that no route of
//! somebody else is ever replaced. Decides nothing about which. Invariant: what is in the table
//! under our name is what was last told, or less if the kernel refused.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

use mesh_routing::babel::words::Prefix;
use nix::errno::Errno;

use crate::netlink::route::{
    DEL_ROUTE, DESTINATION, GATEWAY, GET_ROUTE, INTERFACE, NEW_ROUTE, PRIORITY, ROUTE_LEN,
};
use crate::netlink::{
    self, ACKNOWLEDGE, ERROR, append, ask_for_all, attribute, number, open, refusal,
};

/// NLM_F_REPLACE and NLM_F_CREATE.
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// RT_TABLE_MAIN, RTPROT_BABEL, RTN_UNICAST, RTN_UNREACHABLE.
const MAIN: u8 = 254;
const BABEL: u8 = 42;
const UNICAST: u8 = 1;
const UNREACHABLE: u8 = 7;
/// Behind what people and other programs set (1024), so that their word goes first.
const OUR_PRIORITY: u32 = 1066;

/// Where packets to a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To a router on one of our links.
    Via {
        /// Its link-local address.
        gateway: Ipv6Addr,
        /// The interface's number.
        interface: u32,
    },
    /// Nowhere, and not along a shorter prefix either.
    Unreachable,
}

/// Our part of the kernel's routing table.
#[derive(Debug)]
pub struct Ways {
    socket: OwnedFd,
    set: BTreeMap<Prefix, Way>,
}

impl Ways {
    /// Opens a socket in the network namespace that we are in, and takes away what a life before,
    /// that ended by force, left there.
    pub fn open() -> io::Result<Self> {
        let mut ways = Self {
            socket: open(0)?,
            set: BTreeMap::new(),
        };
        ways.set = ways.left_behind()?;
        ways.clear();
        Ok(ways)
    }

    /// Sets the way to a prefix; none takes it away.
    pub fn set(&mut self, prefix: Prefix, way: Option<Way>) -> io::Result<()> {
        let before = self.set.get(&prefix).copied();
        if before == way {
            return Ok(());
        }
        let is_via = |way: Option<Way>| matches!(way, Some(Way::Via { .. }));
        // A route through a gateway is replaced by another in one step. The kernel has no such step
        // between one that leads somewhere and one that does not.
        if before.is_some() && !(is_via(before) && is_via(way)) {
            self.set.remove(&prefix);
            // It may be gone: with its interface, or by somebody's hand.
            match self.ask(DEL_ROUTE, 0, prefix, before) {
                Err(Errno::ESRCH | Errno::ENODEV) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if way.is_some() {
            self.ask(NEW_ROUTE, REPLACE | CREATE, prefix, way)?;
        }
        match way {
            Some(way) => self.set.insert(prefix, way),
            None => self.set.remove(&prefix),
        };
        Ok(())
    }

    /// Forgets the routes over an interface: the kernel took them away with it.
    pub fn forget(&mut self, lost: u32) {
        self.set
            .retain(|_, way| !matches!(way, Way::Via { interface, .. } if *interface == lost));
    }

    /// Takes all of our routes away.
    pub fn clear(&mut self) {
        let prefixes: Vec<Prefix> = self.set.keys().copied().collect();
        for prefix in prefixes {
            // What cannot be taken away now will not be by trying again.
            let _ = self.set(prefix, None);
        }
    }

    /// Returns the routes that carry our marks.
    fn left_behind(&self) -> io::Result<BTreeMap<Prefix, Way>> {
        let mut body = [0; ROUTE_LEN];
        if let Some(family) = body.first_mut() {
            *family = u8::try_from(libc::AF_INET6).unwrap_or_default();
        }
        let mut left = BTreeMap::new();
        ask_for_all(&self.socket, GET_ROUTE, &body, |kind, body| {
            if kind == NEW_ROUTE {
                left.extend(own_route(body));
            }
        })?;
        Ok(left)
    }

    fn ask(&self, kind: u16, flags: u16, prefix: Prefix, way: Option<Way>) -> Result<(), Errno> {
        let body = message(prefix, way);
        let mut buffer = [0; 4096];
        let asked = (kind, ACKNOWLEDGE | flags);
        match netlink::ask(&self.socket, asked, &body, &mut buffer)? {
            Some((ERROR, &[0, 0, 0, 0, ..])) => Ok(()),
            Some((ERROR, body)) => Err(refusal(body).unwrap_or(Errno::EPROTO)),
            _ => Err(Errno::EPROTO),
        }
    }
}

/// Reads a route of the kernel's if it is one that we set.
fn own_route(body: &[u8]) -> Option<(Prefix, Way)> {
    let &[_, bits, _, _, table, protocol, _, kind, ..] = body else {
        return None;
    };
    let is_ours = table == MAIN
        && protocol == BABEL
        && number(body, ROUTE_LEN, PRIORITY) == Some(OUR_PRIORITY);
    // The default route has no destination.
    let destination = match attribute(body, ROUTE_LEN, DESTINATION) {
        Some(bytes) => <[u8; 16]>::try_from(bytes).ok()?,
        None => [0; 16],
    };
    let prefix = Prefix::new(Ipv6Addr::from(destination), bits)?;
    let way = if kind == UNREACHABLE {
        Way::Unreachable
    } else {
        let gateway: [u8; 16] = attribute(body, ROUTE_LEN, GATEWAY)?.try_into().ok()?;
        Way::Via {
            gateway: Ipv6Addr::from(gateway),
            interface: number(body, ROUTE_LEN, INTERFACE)?,
        }
    };
    is_ours.then_some((prefix, way))
}

/// Returns struct rtmsg and its attributes.
fn message(prefix: Prefix, way: Option<Way>) -> Vec<u8> {
    let family = u8::try_from(libc::AF_INET6).unwrap_or_default();
    let kind = match way {
        Some(Way::Unreachable) => UNREACHABLE,
        Some(Way::Via { .. }) | None => UNICAST,
    };
    // family, destination bits, source bits, tos, table, protocol, scope, type, flags (4).
    let mut body = vec![
        family,
        prefix.bits(),
        0,
        0,
        MAIN,
        BABEL,
        0,
        kind,
        0,
        0,
        0,
        0,
    ];
    append(&mut body, DESTINATION, &prefix.address().octets());
    append(&mut body, PRIORITY, &OUR_PRIORITY.to_ne_bytes());
    if let Some(Way::Via { gateway, interface }) = way {
        append(&mut body, GATEWAY, &gateway.octets());
        append(&mut body, INTERFACE, &interface.to_ne_bytes());
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_route_with_our_marks_is_ours() {
        let prefix = Prefix::new("2001:db8::".parse().unwrap(), 32).unwrap();
        let gateway = "fe80::1".parse().unwrap();
        for way in [
            Way::Unreachable,
            Way::Via {
                gateway,
                interface: 3,
            },
        ] {
            let ours = message(prefix, Some(way));
            assert_eq!(own_route(&ours), Some((prefix, way)));
            let mut of_bird = ours.clone();
            of_bird[5] = 12;
            assert_eq!(own_route(&of_bird), None);
            // The priority's value stands behind the destination and its own head.
            let mut of_babeld = ours;
            of_babeld[ROUTE_LEN + 20 + 4] ^= 1;
            assert_eq!(own_route(&of_babeld), None);
        }
        assert_eq!(own_route(&[]), None);
    }
}
