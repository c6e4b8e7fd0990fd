//! Packets between smoltcp and the data plane, one message each.
//!
//! ICMPv6 errors are looked at on their way: smoltcp does not tell its TCP of them, and without
//! them everybody would wait for a timeout where the mesh has said why at once. Decides nothing.
//! Invariant: while the data plane's queue is full, smoltcp is asked for nothing more.

use std::net::SocketAddrV6;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mesh_routing::packet::{Packet, Transport};
use nix::errno::Errno;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::limits::{MTU, PACKET_LEN_MAX, STACK_ERRORS_MAX};

/// Type of an ICMPv6 error that says that somebody cannot be reached (RFC 4443, 3.1).
const UNREACHABLE: u8 = 1;
/// Its code for a closed port.
const CLOSED: u8 = 4;

/// A connection of ours that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Our port.
    pub port: u16,
    /// The other end.
    pub to: SocketAddrV6,
    /// Whether the host answers and the port is closed.
    pub closed: bool,
}

/// What smoltcp sends into and receives from.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    /// Whether the last packet did not fit.
    full: bool,
    failed: Vec<Failed>,
    /// What was read last, and what is sent next: one packet each.
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Device {
    /// Takes the descriptor, which does not block.
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            full: false,
            failed: Vec::new(),
            inbox: vec![0; PACKET_LEN_MAX],
            outbox: Vec::new(),
        }
    }

    /// Returns whether packets wait for room.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Takes note that there may be room again.
    pub fn try_again(&mut self) {
        self.full = false;
    }

    /// Takes what errors were about since the last call.
    pub fn failed(&mut self) -> Vec<Failed> {
        std::mem::take(&mut self.failed)
    }

    /// Returns the length of the packet that now stands in the inbox.
    fn read(&mut self) -> Option<usize> {
        let len = loop {
            match nix::unistd::read(&self.fd, &mut self.inbox) {
                Err(Errno::EINTR) => {}
                // Gone, or nothing there.
                Ok(0) | Err(_) => return None,
                Ok(len) => break len,
            }
        };
        if let Some(failed) = failure(self.inbox.get(..len)?)
            && self.failed.len() < STACK_ERRORS_MAX
        {
            self.failed.push(failed);
        }
        Some(len)
    }

    fn sending(&mut self) -> Sending<'_> {
        Sending {
            fd: &self.fd,
            full: &mut self.full,
            outbox: &mut self.outbox,
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads an error about a TCP segment of ours.
fn failure(bytes: &[u8]) -> Option<Failed> {
    let packet = Packet::parse(bytes).ok()?;
    let Transport::Error { about } = packet.transport() else {
        return None;
    };
    let &[UNREACHABLE, code, ..] = packet.payload() else {
        return None;
    };
    let quoted = Packet::parse_quoted(about).ok()?;
    let Transport::Tcp {
        source,
        destination,
        ..
    } = quoted.transport()
    else {
        return None;
    };
    Some(Failed {
        port: source,
        to: SocketAddrV6::new(quoted.destination(), destination, 0, 0),
        closed: code == CLOSED,
    })
}

/// A packet that came.
pub struct Received<'a>(&'a [u8]);

/// The right to send one packet.
pub struct Sending<'a> {
    fd: &'a OwnedFd,
    full: &'a mut bool,
    outbox: &'a mut Vec<u8>,
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.outbox.clear();
        self.outbox.resize(len, 0);
        let result = f(self.outbox);
        *self.full = nix::unistd::write(self.fd, self.outbox) == Err(Errno::EAGAIN);
        result
    }
}

impl phy::Device for Device {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let len = self.read()?;
        let Self {
            fd,
            full,
            inbox,
            outbox,
            ..
        } = self;
        Some((Received(inbox.get(..len)?), Sending { fd, full, outbox }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (!self.full).then(|| self.sending())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(MTU);
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use mesh_routing::packet::build;

    use super::*;

    #[test]
    fn errors_name_the_connection_that_they_are_about() {
        let (own, far): (Ipv6Addr, Ipv6Addr) =
            ("fd6d::1".parse().unwrap(), "fd73::7".parse().unwrap());
        let about = build::tcp((own, 50_000), (far, 80), 2);
        let error = |kind: u8, code: u8| {
            let mut bytes = build::icmp(far, own, kind, 0, &about);
            bytes[41] = code;
            failure(&bytes)
        };
        let to = SocketAddrV6::new(far, 80, 0, 0);
        for (code, closed) in [(0, false), (1, false), (3, false), (4, true)] {
            let port = 50_000;
            assert_eq!(error(1, code), Some(Failed { port, to, closed }), "{code}");
        }
        // Too big and time exceeded pass.
        assert_eq!(error(2, 0), None);
        assert_eq!(error(3, 0), None);
        assert_eq!(failure(&about), None);
        assert_eq!(failure(&[]), None);
    }
}
