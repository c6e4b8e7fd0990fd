//! Whether the interface that leads to an address still has its cable: asked of the kernel.
//!
//! ```text
//!   a cable is pulled ──► rtnetlink says so, at once or up to a second later ──► Carrier::drain
//!        └──► asked every few milliseconds, the kernel says so now ──► Watch::look ──┘
//!                                     Carrier::is_cut(endpoint)  ◄── who used that interface?
//! ```
//! A link whose cable is out needs no hellos to be missed: its neighbour is down now. Linux tells
//! of carriers that come and go once a second at most, of all interfaces together, but answers who
//! asks with what is (linkwatch in the kernel's net/core); so whoever needs to know at once asks.
//! Three netlink sockets (rtnetlink(7)): one hears of interfaces and routes, one asks for the route
//! to an address, one for an interface. Decides nothing about neighbours. Invariant: an interface
//! that the kernel has not told of counts as sound, so that a lost message never cuts a link;
//! hellos still find it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::netlink::link::{self, DEL_LINK, GET_LINK, NEW_LINK};
use crate::netlink::route::{INTERFACE, NEW_ROUTE, ROUTE_LEN, ask_way};
use crate::netlink::{BUFFER_LEN, DUMP, ERROR, REQUEST, messages, number, open, refusal, tell};

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Most interfaces that are asked about each time; those with the lowest numbers.
const USED_MAX: usize = 16;
/// Most messages taken at once; what is left is there the next time.
const BURST_MAX: usize = 256;

/// What the kernel says about interfaces.
#[derive(Debug)]
pub struct Carrier {
    news: OwnedFd,
    questions: OwnedFd,
    /// Whether each interface is sound.
    interfaces: BTreeMap<u32, bool>,
    /// Those that somebody needs.
    used: BTreeSet<u32>,
}

/// Asks how interfaces are now, apart from [`Carrier`] so that nobody waits while the kernel is
/// busy with somebody else's change.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Carrier {
    /// Opens the sockets in the network namespace that we are in, and asks how things are.
    pub fn open() -> io::Result<Self> {
        let mut carrier = Self {
            news: open(GROUPS)?,
            questions: open(0)?,
            interfaces: BTreeMap::new(),
            used: BTreeSet::new(),
        };
        // struct ifinfomsg, all zero: every interface.
        tell(&carrier.news, GET_LINK, REQUEST | DUMP, &[0; 16])?;
        carrier.drain();
        Ok(carrier)
    }

    /// Takes what the kernel said since; returns whether anything may have changed.
    pub fn drain(&mut self) -> bool {
        let mut buffer = vec![0; BUFFER_LEN];
        let mut changed = false;
        for _ in 0..BURST_MAX {
            match recv(self.news.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => {
                    for (kind, body) in messages(buffer.get(..len).unwrap_or_default()) {
                        changed = true;
                        self.note(kind, body);
                    }
                }
                // Some were lost: what we know may be old, so forget it.
                Err(Errno::ENOBUFS) => {
                    changed = true;
                    self.interfaces.clear();
                }
                Err(_) => break,
            }
        }
        changed
    }

    /// Notes which interfaces lead to addresses, in place of those noted before.
    pub fn set_used(&mut self, addresses: &[SocketAddr]) {
        let found = addresses.iter().map(|to| self.interface_to(to.ip()));
        self.used = found.filter_map(|found| found.ok().flatten()).collect();
    }

    /// Returns the interfaces that are used.
    pub fn used(&self) -> Vec<u32> {
        self.used.iter().copied().take(USED_MAX).collect()
    }

    /// Takes what [`Watch::look`] saw; returns whether anything changed.
    pub fn handle_look(&mut self, seen: &[(u32, bool)]) -> bool {
        let mut changed = false;
        for (index, sound) in seen {
            // What was never told of counts as sound.
            let before = self.interfaces.insert(*index, *sound).unwrap_or(true);
            changed |= before != *sound;
        }
        changed
    }

    /// Returns whether nothing sent to an address can leave this machine now.
    pub fn is_cut(&self, to: SocketAddr) -> bool {
        match self.interface_to(to.ip()) {
            Ok(Some(index)) => self.interfaces.get(&index) == Some(&false),
            Ok(None) => false,
            Err(errno) => matches!(
                errno,
                Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN
            ),
        }
    }

    fn note(&mut self, kind: u16, body: &[u8]) {
        let Some((index, sound)) = link::state(body) else {
            return;
        };
        match kind {
            NEW_LINK => {
                self.interfaces.insert(index, sound);
            }
            DEL_LINK => {
                self.interfaces.insert(index, false);
            }
            _ => {}
        }
    }

    fn interface_to(&self, address: IpAddr) -> Result<Option<u32>, Errno> {
        let mut buffer = [0; 4096];
        match ask_way(&self.questions, address, &mut buffer)? {
            Some((NEW_ROUTE, body)) => Ok(number(body, ROUTE_LEN, INTERFACE)),
            Some((ERROR, body)) => refusal(body).map_or(Ok(None), Err),
            _ => Ok(None),
        }
    }
}

impl AsFd for Carrier {
    /// Readable when the kernel has news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

impl Watch {
    /// Opens the socket in the network namespace that we are in.
    pub fn open() -> io::Result<Self> {
        Ok(Self(open(0)?))
    }

    /// Returns whether each of some interfaces is sound now; waits while the kernel is busy. Leaves
    /// out of whom the kernel does not say it.
    pub fn look(&self, at: &[u32]) -> Vec<(u32, bool)> {
        let is_sound = |index| link::is_sound(&self.0, index).ok().flatten();
        at.iter()
            .filter_map(|index| Some((*index, is_sound(*index)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::alone::{alone, ip};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    /// Waits until the kernel's word makes `holds` true.
    #[track_caller]
    fn heard(carrier: &mut Carrier, what: &str, holds: impl Fn(&Carrier) -> bool) {
        while !holds(carrier) {
            let mut fds = [PollFd::new(carrier.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::from(10_000u16);
            assert_eq!(poll(&mut fds, timeout), Ok(1), "{what}");
            carrier.drain();
        }
    }

    #[test]
    fn pulled_cable_is_told_on_both_ends() {
        alone(|| {
            ip("link add near type veth peer name far");
            ip("address add 192.0.2.1/24 dev near");
            ip("link set near up");
            ip("link set far up");
            let mut carrier = Carrier::open().unwrap();
            let (peer, other): (SocketAddr, SocketAddr) = (
                "192.0.2.2:1".parse().unwrap(),
                "198.51.100.1:1".parse().unwrap(),
            );
            heard(&mut carrier, "it is sound", |it| !it.is_cut(peer));
            assert!(carrier.is_cut(other), "there is no route");
            ip("link set far down");
            heard(&mut carrier, "the other end is pulled", |it| {
                it.is_cut(peer)
            });
            ip("link set far up");
            heard(&mut carrier, "it is back", |it| !it.is_cut(peer));
            ip("link set near down");
            heard(&mut carrier, "our end is pulled", |it| it.is_cut(peer));
            ip("link del near");
            heard(&mut carrier, "it is gone", |it| it.is_cut(peer));
        });
    }

    #[test]
    fn cable_that_was_pulled_is_seen_before_the_kernel_tells() {
        alone(|| {
            ip("link add near type veth peer name far");
            ip("address add 192.0.2.1/24 dev near");
            ip("link set near up");
            ip("link set far up");
            let peer: SocketAddr = "192.0.2.2:1".parse().unwrap();
            let (mut carrier, watch) = (Carrier::open().unwrap(), Watch::open().unwrap());
            heard(&mut carrier, "it is sound", |it| !it.is_cut(peer));
            assert_eq!(carrier.used(), []);
            carrier.set_used(&[peer]);
            let [near] = carrier.used()[..] else {
                panic!("one interface leads there")
            };
            assert_eq!(watch.look(&[near]), [(near, true)]);
            ip("link set far down");
            // Without a word of the kernel: nothing is drained.
            assert_eq!(watch.look(&[near]), [(near, false)]);
            assert!(!carrier.is_cut(peer));
            assert!(carrier.handle_look(&[(near, false)]));
            assert!(carrier.is_cut(peer));
            assert!(!carrier.handle_look(&[(near, false)]));
            ip("link set far up");
            assert_eq!(watch.look(&[near]), [(near, true)]);
            ip("link del near");
            assert_eq!(watch.look(&[near]), [(near, false)]);
        });
    }

    #[test]
    fn answer_that_was_not_read_is_not_taken_for_the_next() {
        alone(|| {
            ip("link add near type veth peer name far");
            ip("link set near up");
            ip("link set far up");
            let watch = Watch::open().unwrap();
            let index = nix::net::if_::if_nametoindex("near").unwrap();
            // As if reading had been interrupted.
            let mut body = vec![0; 16];
            body[4..8].copy_from_slice(&index.to_ne_bytes());
            tell(&watch.0, GET_LINK, REQUEST, &body).unwrap();
            assert_eq!(watch.look(&[index]), [(index, true)]);
            tell(&watch.0, GET_LINK, REQUEST, &body).unwrap();
            ip("link set far down");
            assert_eq!(watch.look(&[index]), [(index, false)]);
        });
    }

    #[test]
    fn loopback_is_never_cut() {
        let carrier = Carrier::open().unwrap();
        assert!(!carrier.is_cut("127.0.0.1:9".parse().unwrap()));
    }
}
