//! Routes of ours in the kernel's table: what was learned over ordinary links can be used by every
//! program of the machine.
//!
//! They carry the protocol number of Babel and a priority of their own, so that no route of
//! somebody else is ever replaced. Decides nothing about which. Invariant: what is in the table
//! under our name is what was last told, or less if the kernel refused.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use mesh_routing::babel::words::Prefix;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::netlink::{ACKNOWLEDGE, ERROR, REQUEST, append, messages, open, tell};

const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
/// NLM_F_REPLACE and NLM_F_CREATE.
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// Attributes of a route.
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
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
    /// Opens a socket in the network namespace that we are in.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: open(0)?,
            set: BTreeMap::new(),
        })
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

    fn ask(&self, kind: u16, flags: u16, prefix: Prefix, way: Option<Way>) -> Result<(), Errno> {
        let body = message(prefix, way);
        let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        tell(&self.socket, kind, REQUEST | ACKNOWLEDGE | flags, &body).map_err(errno)?;
        let mut buffer = [0; 4096];
        let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        match messages(buffer.get(..len).unwrap_or_default()).next() {
            Some((ERROR, &[0, 0, 0, 0, ..])) => Ok(()),
            Some((ERROR, &[a, b, c, d, ..])) => Err(Errno::from_raw(
                i32::from_ne_bytes([a, b, c, d]).saturating_neg(),
            )),
            _ => Err(Errno::EPROTO),
        }
    }
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
