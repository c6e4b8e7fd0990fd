//! What the kernel says about the interfaces that were named: is it there, up, and with an address?
//!
//! Two netlink sockets: one hears that anything changed, one asks how a named interface is. Decides
//! nothing about links. Invariant: an address that may turn out to be somebody else's (duplicate
//! address detection still runs, or failed) is never returned.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{MsgFlags, recv};

use crate::netlink::{BUFFER_LEN, ask_for_all, attribute, link, number, open};

/// RTMGRP_LINK and RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x1 | 0x100;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// Attributes of an address: itself, and its flags in four bytes.
const ADDRESS: u16 = 1;
const FLAGS: u16 = 8;
/// IFA_F_TENTATIVE and IFA_F_DADFAILED.
const UNSURE: u32 = 0x40 | 0x08;
/// Length of struct ifaddrmsg.
const ADDRESS_LEN: usize = 8;
/// Most batches taken at once, and most of one answer; a machine has some dozens of addresses.
const BATCHES_MAX: usize = 256;

/// An interface that can carry Babel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usable {
    /// Its number.
    pub index: u32,
    /// Our link-local address on it.
    pub address: Ipv6Addr,
}

/// How an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is none of that name.
    Unknown,
    /// It is down, or without a cable, or has no link-local address yet.
    Down,
    /// It can be used.
    Up(Usable),
}

/// Asks the kernel about interfaces.
#[derive(Debug)]
pub struct Interfaces {
    news: OwnedFd,
    questions: OwnedFd,
}

impl Interfaces {
    /// Opens the sockets in the network namespace that we are in.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            news: open(GROUPS)?,
            questions: open(0)?,
        })
    }

    /// Takes what the kernel said since; returns whether anything may have changed.
    pub fn drain(&mut self) -> bool {
        let mut buffer = vec![0; BUFFER_LEN];
        let mut changed = false;
        for _ in 0..BATCHES_MAX {
            match recv(self.news.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                // Lost messages are news too: the questions ask for everything.
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(_) => break,
            }
        }
        changed
    }

    /// Asks how an interface is.
    pub fn state(&self, name: &str) -> io::Result<State> {
        let Ok(index) = if_nametoindex(name) else {
            return Ok(State::Unknown);
        };
        if !self.is_sound(index)? {
            return Ok(State::Down);
        }
        let address = self.link_local(index)?;
        Ok(address.map_or(State::Down, |address| State::Up(Usable { index, address })))
    }

    fn is_sound(&self, index: u32) -> io::Result<bool> {
        // Anything else says that it went meanwhile.
        Ok(link::is_sound(&self.questions, index)?.unwrap_or(false))
    }

    /// Returns the least of the link-local addresses, so that the answer does not change by chance.
    fn link_local(&self, index: u32) -> io::Result<Option<Ipv6Addr>> {
        // struct ifaddrmsg: family, bits, flags, scope, index (4).
        let family = u8::try_from(libc::AF_INET6).unwrap_or_default();
        let body = [family, 0, 0, 0, 0, 0, 0, 0];
        let mut least = None;
        ask_for_all(&self.questions, GET_ADDRESS, &body, |kind, body| {
            if kind == NEW_ADDRESS {
                let found = usable_address(body, index);
                least = least.into_iter().chain(found).min();
            }
        })?;
        Ok(least)
    }
}

impl AsFd for Interfaces {
    /// Readable when the kernel has news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn usable_address(body: &[u8], wanted: u32) -> Option<Ipv6Addr> {
    let &[_, _, short, _, i0, i1, i2, i3, ..] = body else {
        return None;
    };
    let flags = number(body, ADDRESS_LEN, FLAGS).unwrap_or_else(|| u32::from(short));
    let bytes: [u8; 16] = attribute(body, ADDRESS_LEN, ADDRESS)?.try_into().ok()?;
    let address = Ipv6Addr::from(bytes);
    let fits = u32::from_ne_bytes([i0, i1, i2, i3]) == wanted
        && address.is_unicast_link_local()
        && flags & UNSURE == 0;
    fits.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::append;

    #[test]
    fn unknown_interface_is_said_to_be_unknown() {
        let interfaces = Interfaces::open().unwrap();
        assert_eq!(interfaces.state("no-such-one").unwrap(), State::Unknown);
        assert_eq!(interfaces.state("lo").unwrap(), State::Down, "no fe80");
    }

    #[test]
    fn address_that_is_not_sure_is_not_used() {
        let message = |index: u32, flags: u32, address: &str| {
            let mut body = vec![10, 64, 0, 253];
            body.extend_from_slice(&index.to_ne_bytes());
            let address: Ipv6Addr = address.parse().unwrap();
            append(&mut body, ADDRESS, &address.octets());
            append(&mut body, FLAGS, &flags.to_ne_bytes());
            body
        };
        let own = "fe80::1".parse().ok();
        assert_eq!(usable_address(&message(3, 0x80, "fe80::1"), 3), own);
        assert_eq!(usable_address(&message(4, 0x80, "fe80::1"), 3), None);
        assert_eq!(usable_address(&message(3, 0xc0, "fe80::1"), 3), None);
        assert_eq!(usable_address(&message(3, 0x80, "2001:db8::1"), 3), None);
        assert_eq!(usable_address(&[0; 8], 0), None);
        assert_eq!(usable_address(&[], 0), None);
    }
}
