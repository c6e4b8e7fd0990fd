//! Whether the interface that leads to an address still has its cable: asked of the kernel.
//!
//! ```text
//!   a cable is pulled ──► rtnetlink says so within milliseconds ──► Carrier::drain
//!                                     Carrier::is_cut(endpoint)  ◄── who used that interface?
//! ```
//! A link whose cable is out needs no hellos to be missed: its neighbour is down now. Two netlink
//! sockets (rtnetlink(7)): one hears of interfaces and routes, one asks for the route to an
//! address. Decides nothing about neighbours. Invariant: an interface that the kernel has not told
//! of counts as sound, so that a lost message never cuts a link; hellos still find it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// Attributes of a route: its destination and its interface.
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
/// IFF_UP and IFF_LOWER_UP: switched on, and a carrier on the cable.
const SOUND: u32 = 0x1 | 0x1_0000;
/// Most messages taken at once; what is left is there the next time.
const BURST_MAX: usize = 256;
/// The kernel's own page for one batch of messages.
const BUFFER_LEN: usize = 32 * 1024;
const HEADER_LEN: usize = 16;

/// What the kernel says about interfaces.
#[derive(Debug)]
pub struct Carrier {
    news: OwnedFd,
    questions: OwnedFd,
    /// Whether each interface is sound.
    interfaces: BTreeMap<u32, bool>,
}

impl Carrier {
    /// Opens the sockets in the network namespace that we are in, and asks how things are.
    pub fn open() -> io::Result<Self> {
        let mut carrier = Self {
            news: open(GROUPS)?,
            questions: open(0)?,
            interfaces: BTreeMap::new(),
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
        // struct ifinfomsg: family, pad, type (2), index (4), flags (4), change mask (4).
        let &[_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = body else {
            return;
        };
        let index = u32::from_ne_bytes([i0, i1, i2, i3]);
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        match kind {
            NEW_LINK => {
                self.interfaces.insert(index, flags & SOUND == SOUND);
            }
            DEL_LINK => {
                self.interfaces.insert(index, false);
            }
            _ => {}
        }
    }

    fn interface_to(&self, address: IpAddr) -> Result<Option<u32>, Errno> {
        let (family, bytes) = match address {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        let (family, len) = (narrow(family), narrow(bytes.len()));
        // struct rtmsg: family, destination bits, then ten bytes that a question leaves zero.
        let mut body = vec![family, len.saturating_mul(8)];
        body.extend_from_slice(&[0; 10]);
        body.extend_from_slice(&u16::from(len.saturating_add(4)).to_ne_bytes());
        body.extend_from_slice(&ROUTE_DESTINATION.to_ne_bytes());
        body.extend_from_slice(&bytes);
        tell(&self.questions, GET_ROUTE, REQUEST, &body)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        let mut buffer = [0; 4096];
        let len = recv(self.questions.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let answer = messages(buffer.get(..len).unwrap_or_default()).next();
        match answer {
            Some((NEW_ROUTE, body)) => Ok(attribute(body, ROUTE_INTERFACE)),
            Some((ERROR, &[a, b, c, d, ..])) => Err(Errno::from_raw(
                i32::from_ne_bytes([a, b, c, d]).saturating_neg(),
            )),
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

fn narrow(number: impl TryInto<u8>) -> u8 {
    number.try_into().unwrap_or(u8::MAX)
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// Sends one message to the kernel: struct nlmsghdr and a body.
fn tell(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    // Sequence and port: each socket has one question at a time, and the kernel fills in the port.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    Ok(())
}

/// Returns the kind and the body of each message in a batch.
fn messages(mut batch: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = batch.split_first_chunk::<HEADER_LEN>()?;
        let [l0, l1, l2, l3, k0, k1, ..] = *header;
        let len = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let body = batch.get(HEADER_LEN..len)?;
        batch = batch.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), body))
    })
}

/// Returns a number of four bytes among the attributes behind a struct rtmsg.
fn attribute(body: &[u8], wanted: u16) -> Option<u32> {
    let mut rest = body.get(12..)?;
    while let Some((&[l0, l1, k0, k1], _)) = rest.split_first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..len)?;
        if u16::from_ne_bytes([k0, k1]) == wanted {
            return value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[track_caller]
    fn ip(words: &str) {
        let status = Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(status.success(), "ip {words}");
    }

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
        // The thread of this test gets a network of its own and keeps it until it ends.
        let alone = std::thread::spawn(|| {
            let root = nix::unistd::geteuid().is_root();
            if !root || unshare(CloneFlags::CLONE_NEWNET).is_err() {
                // A thread cannot enter a user namespace: without root, namespaces are for the
                // tests of whole programs.
                return;
            }
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
        alone.join().unwrap();
    }

    #[test]
    fn loopback_is_never_cut() {
        let carrier = Carrier::open().unwrap();
        assert!(!carrier.is_cut("127.0.0.1:9".parse().unwrap()));
    }

    #[test]
    fn cut_off_batch_ends_quietly() {
        let mut batch = vec![20, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(messages(&batch).count(), 1);
        for len in 0..batch.len() {
            assert_eq!(messages(&batch[..len]).count(), 0);
        }
        batch[0] = 3;
        assert_eq!(messages(&batch).count(), 0, "shorter than its own header");
        assert_eq!(attribute(&[0; 12], ROUTE_INTERFACE), None);
        assert_eq!(attribute(&[0; 32], ROUTE_INTERFACE), None);
    }
}
