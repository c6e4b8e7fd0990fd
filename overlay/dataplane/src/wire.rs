//! The one UDP socket: dual stack where the kernel has IPv6, plain IPv4 where it has not.
//!
//! Decides only how bytes get in and out. Addresses outside are always in their natural family; the
//! mapped form `::ffff:a.b.c.d` exists only inside this file.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use crate::limits::{SEND_WAIT_MS, SOCKET_BUFFER_LEN};

/// The UDP socket of the node.
#[derive(Debug)]
pub struct Wire {
    socket: UdpSocket,
    mapped: bool,
}

impl Wire {
    /// Binds the socket; an unspecified address of either family means every address of both.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        if address.ip().is_unspecified() {
            match Self::open(everywhere) {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    let only4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                    return Self::open(SocketAddr::new(only4, address.port()));
                }
                bound => return bound,
            }
        }
        Self::open(address)
    }

    fn open(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv6() {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Datagram, flags, None)?;
        if address.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
        }
        // The kernel clamps both to its own limits, or refuses; either way the socket works.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER_LEN);
        let _ = setsockopt(&fd, sockopt::SndBuf, &SOCKET_BUFFER_LEN);
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        Ok(Self {
            socket: UdpSocket::from(fd),
            mapped: address.is_ipv6(),
        })
    }

    /// Returns the bound port.
    pub fn local_port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|address| address.port())
    }

    /// Sends a datagram; waits a moment if the socket is full. Returns whether the kernel took it.
    pub fn send(&self, datagram: &[u8], to: SocketAddr) -> bool {
        let to = self.outward(to);
        match self.socket.send_to(datagram, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, SEND_WAIT_MS);
                self.socket.send_to(datagram, to).is_ok()
            }
            sent => sent.is_ok(),
        }
    }

    /// Takes a datagram that has arrived; none if there is none now.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok((len, from)) => return Some((len, inward(from))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // What an unconnected socket reports otherwise is about packets sent earlier.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "the UDP socket reports an error");
                    return None;
                }
            }
        }
    }

    fn outward(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(to) if self.mapped => {
                SocketAddr::new(IpAddr::V6(to.ip().to_ipv6_mapped()), to.port())
            }
            _ => to,
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn inward(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip().to_canonical(), from.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_arrive_in_their_natural_form() {
        let wire = Wire::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = wire.local_port().unwrap();
        for address in ["127.0.0.1", "::1"] {
            let ip: IpAddr = address.parse().unwrap();
            let other = Wire::bind(SocketAddr::new(ip, 0)).unwrap();
            assert!(other.send(b"hello", SocketAddr::new(ip, port)));
            let mut fds = [PollFd::new(wire.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, 5000u16), Ok(1));
            let (len, from) = wire.receive(&mut [0; 16]).unwrap();
            assert_eq!(
                (len, from.ip(), from.port()),
                (5, ip, other.local_port().unwrap())
            );
            assert!(wire.send(b"back", from));
        }
    }
}
