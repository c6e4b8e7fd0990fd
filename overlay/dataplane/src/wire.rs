//! The one UDP port: dual stack where the kernel has IPv6, plain IPv4 where it has not. Handshake
//! initiations wait apart from all else, on the `porch`.
//!
//! Decides only how bytes get in and out, with the marks of RFC 3168 on them. Addresses outside are
//! always in their natural family; the mapped form `::ffff:a.b.c.d` exists only inside this file.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mesh_routing::ecn::Ecn;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, CmsgIterator, ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders,
    SockFlag, SockType, SockaddrStorage, bind, recvmsg, sendmmsg, setsockopt, socket, sockopt,
};

use crate::fragments;
use crate::limits::{SEND_WAIT_MS, SOCKET_BUFFER_LEN};
use crate::porch::{Porch, Tray};

/// The UDP port of the node.
#[derive(Debug)]
pub struct Wire {
    socket: UdpSocket,
    /// None where the kernel refuses: then initiations come like all else.
    porch: Option<Porch>,
    mapped: bool,
}

/// Room for the mark of one datagram at a time, used again for each; every thread has its own.
#[derive(Debug)]
pub struct Envelope(MultiHeaders<SockaddrStorage>);

impl Default for Envelope {
    fn default() -> Self {
        Self(MultiHeaders::preallocate(1, Some(nix::cmsg_space!(i32))))
    }
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
        let fd = open_udp(address)?;
        // The kernel clamps both to its own limits, or refuses; either way the socket works.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER_LEN);
        let _ = setsockopt(&fd, sockopt::SndBuf, &SOCKET_BUFFER_LEN);
        // Without them no mark is seen, as if no queue on the way gave one.
        let _ = setsockopt(&fd, sockopt::IpRecvTos, &true);
        if address.is_ipv6() {
            let _ = setsockopt(&fd, sockopt::Ipv6RecvTClass, &true);
        }
        // Without it what is too long for a line is lost if nobody tells, and a stream carries it.
        let _ = fragments::allow(&fd);
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        let socket = UdpSocket::from(fd);
        let porch = Porch::beside(&socket, address);
        if let Err(error) = &porch {
            tracing::warn!(%error, "handshakes and packets share a queue");
        }
        Ok(Self {
            socket,
            porch: porch.ok(),
            mapped: address.is_ipv6(),
        })
    }

    /// Returns the socket that tells whether an initiation has arrived, if they wait apart.
    pub fn porch(&self) -> Option<&Porch> {
        self.porch.as_ref()
    }

    /// Takes initiations that have arrived; none if they do not wait apart.
    pub fn receive_initiations(&self, tray: &mut Tray) {
        if let Some(porch) = &self.porch {
            porch.receive(tray);
        }
    }

    /// Returns the bound port.
    pub fn local_port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|address| address.port())
    }

    /// Sends a datagram; waits a moment if the socket is full. Returns whether the kernel took it.
    #[cfg(test)]
    pub fn send(&self, datagram: &[u8], to: SocketAddr) -> bool {
        self.send_marked(datagram, (to, Ecn::NotEct), &mut Envelope::default())
    }

    /// Sends a datagram with a mark; waits a moment if the socket is full. Returns whether the
    /// kernel took it.
    pub fn send_marked(
        &self,
        datagram: &[u8],
        (to, mark): (SocketAddr, Ecn),
        envelope: &mut Envelope,
    ) -> bool {
        let mut send = || match mark {
            Ecn::NotEct => self.socket.send_to(datagram, self.outward(to)).map(drop),
            _ => self.send_class(datagram, (to, mark), envelope),
        };
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, SEND_WAIT_MS);
                send().is_ok()
            }
            sent => sent.is_ok(),
        }
    }

    fn send_class(
        &self,
        datagram: &[u8],
        (to, mark): (SocketAddr, Ecn),
        envelope: &mut Envelope,
    ) -> io::Result<()> {
        let (four, six) = (mark.bits(), i32::from(mark.bits()));
        let class = match to {
            SocketAddr::V4(_) => ControlMessage::Ipv4Tos(&four),
            SocketAddr::V6(_) => ControlMessage::Ipv6TClass(&six),
        };
        let to = [Some(SockaddrStorage::from(self.outward(to)))];
        let parts = [[IoSlice::new(datagram)]];
        let fd = self.socket.as_raw_fd();
        // Of one message; sendmsg(2) as nix offers it makes new room for the mark each time.
        sendmmsg(fd, &mut envelope.0, &parts, to, [class], MsgFlags::empty())?;
        Ok(())
    }

    /// Takes a datagram that has arrived and is no initiation, with its mark; none if there is none
    /// now.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr, Ecn)> {
        loop {
            match self.receive_once(buffer) {
                Ok(received) => return received,
                Err(Errno::EAGAIN) => return None,
                // What an unconnected socket reports otherwise is about packets sent earlier.
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::debug!(%error, "the UDP socket reports an error");
                    return None;
                }
            }
        }
    }

    fn receive_once(&self, buffer: &mut [u8]) -> nix::Result<Option<(usize, SocketAddr, Ecn)>> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut room = Room([0; 64]);
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::empty();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut room.0), flags)?;
        let mark = message.cmsgs().map(class_of).unwrap_or_default();
        Ok(sender(message.address).map(|from| (message.bytes, from, mark)))
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

/// Room for the two control messages that were asked for, aligned as their headers are.
#[repr(align(8))]
struct Room([u8; 64]);

fn class_of(mut messages: CmsgIterator<'_>) -> Ecn {
    let class = messages.find_map(|message| match message {
        ControlMessageOwned::Ipv4Tos(class) => Some(class),
        // Proof: a traffic class is one byte.
        ControlMessageOwned::Ipv6TClass(class) => Some((class & 0xff) as u8),
        _ => None,
    });
    Ecn::of_class(class.unwrap_or_default())
}

/// Opens a UDP socket for an address and does not bind it; one of IPv6 serves both families.
pub fn open_udp(address: SocketAddr) -> io::Result<OwnedFd> {
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
    Ok(fd)
}

/// Returns who sent a message, in its natural family.
pub fn sender(from: Option<SockaddrStorage>) -> Option<SocketAddr> {
    let from = from?;
    let four = from.as_sockaddr_in().map(|it| SocketAddr::V4((*it).into()));
    let six = || {
        from.as_sockaddr_in6()
            .map(|it| SocketAddr::V6((*it).into()))
    };
    let from = four.or_else(six)?;
    Some(SocketAddr::new(from.ip().to_canonical(), from.port()))
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
            let (len, from, mark) = wire.receive(&mut [0; 16]).unwrap();
            assert_eq!(mark, Ecn::NotEct);
            assert_eq!(
                (len, from.ip(), from.port()),
                (5, ip, other.local_port().unwrap())
            );
            assert!(wire.send(b"back", from));
        }
    }

    #[test]
    fn marks_arrive_in_both_families() {
        let wire = Wire::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = wire.local_port().unwrap();
        let arrived = |on: &Wire| {
            let mut fds = [PollFd::new(on.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, 5000u16), Ok(1));
            on.receive(&mut [0; 16]).unwrap()
        };
        let mut envelope = Envelope::default();
        for address in ["127.0.0.1", "::1"] {
            let ip: IpAddr = address.parse().unwrap();
            let other = Wire::bind(SocketAddr::new(ip, 0)).unwrap();
            for mark in [Ecn::Ect0, Ecn::Ce, Ecn::NotEct, Ecn::Ect1] {
                let there = (SocketAddr::new(ip, port), mark);
                assert!(other.send_marked(b"there", there, &mut envelope));
                let (_, from, seen) = arrived(&wire);
                assert_eq!(seen, mark, "from {address}");
                assert!(wire.send_marked(b"back", (from, mark), &mut envelope));
                assert_eq!(arrived(&other).2, mark, "to {address}");
            }
        }
    }
}
