//! The second socket of the tunnel port: handshake initiations wait there, so that no flood of them
//! takes the place of a packet in the queue, or its turn.
//!
//! ```text
//!   UDP port ─► kernel: type 1? ─┬─ no ──► socket of [`crate::wire`]: packets, answers to us
//!                                └─ yes ─► this socket; full means dropped, by the kernel
//! ```
//! Both are a group of the kernel's (SO_REUSEPORT, socket(7)) with a classic BPF program of four
//! instructions that chooses by the first byte. It needs no rights. Where a kernel refuses it there
//! is one socket for all, as before. Decides nothing about what comes. Invariant: only the first
//! socket sends, and it is bound before it joins the group, so that a port in use is refused as
//! ever.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrStorage, bind, recvmmsg, setsockopt, sockopt,
};

use crate::limits::{PORCH_BUFFER_LEN, PORCH_TURN};
use crate::session::{INITIATION, INITIATION_LEN};
use crate::wire::{open_udp, sender};

/// Room for one; what is longer shows by filling it, and is no initiation.
const ROOM_LEN: usize = INITIATION_LEN + 1;

/// Load the first byte; if it is that of an initiation, return 1, else 0: the number of the socket
/// in the order in which they joined. Codes of BPF: `ldb [k]`, `jeq k`, `ret k`.
const CHOICE: [sock_filter; 4] = [
    step(0x30, 0, 0),
    step(0x15, 1, INITIATION as u32),
    step(0x06, 0, 1),
    step(0x06, 0, 0),
];

/// One instruction; a jump that is not taken skips `else_skip` more.
const fn step(code: u16, else_skip: u8, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: else_skip,
        k,
    }
}

/// The second socket.
#[derive(Debug)]
pub struct Porch {
    socket: UdpSocket,
}

/// Room for as many as are taken in one turn, used again for each.
#[derive(Debug)]
pub struct Tray {
    headers: MultiHeaders<SockaddrStorage>,
    bytes: Vec<u8>,
    found: Vec<(usize, SocketAddr)>,
}

impl Default for Tray {
    fn default() -> Self {
        Self {
            headers: MultiHeaders::preallocate(PORCH_TURN, None),
            bytes: vec![0; PORCH_TURN * ROOM_LEN],
            found: Vec::with_capacity(PORCH_TURN),
        }
    }
}

impl Tray {
    /// Returns what was taken last, and where each claims to come from.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let rooms = self.bytes.chunks_exact(ROOM_LEN).zip(&self.found);
        rooms.filter_map(|(room, (len, from))| Some((room.get(..*len)?, *from)))
    }
}

impl Porch {
    /// Binds it beside a bound socket of this address.
    pub fn beside(first: &UdpSocket, address: SocketAddr) -> io::Result<Self> {
        let fd = open_udp(address)?;
        // Who may, asks for more than the kernel gives to all; with less, it works as well.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &PORCH_BUFFER_LEN)
            .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &PORCH_BUFFER_LEN));
        setsockopt(&fd, sockopt::ReusePort, &true)?;
        setsockopt(first, sockopt::ReusePort, &true)?;
        let at = SocketAddr::new(address.ip(), first.local_addr()?.port());
        bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
        let mut steps = CHOICE;
        let program = sock_fprog {
            // Proof: four.
            len: steps.len() as u16,
            filter: steps.as_mut_ptr(),
        };
        // The kernel copies the steps before it returns. Until then the group shares out what comes
        // by its addresses, and this socket may hold other things; nobody knows the port yet.
        setsockopt(&fd, sockopt::AttachReusePortCbpf, &program)?;
        Ok(Self {
            socket: UdpSocket::from(fd),
        })
    }

    /// Takes what has arrived, at most one turn's worth.
    pub fn receive(&self, tray: &mut Tray) {
        let Tray {
            headers,
            bytes,
            found,
        } = tray;
        found.clear();
        let rooms = bytes.chunks_exact_mut(ROOM_LEN);
        let mut parts: Vec<_> = rooms.map(|room| [IoSliceMut::new(room)]).collect();
        let fd = self.socket.as_raw_fd();
        let Ok(messages) = recvmmsg(fd, headers, parts.iter_mut(), MsgFlags::empty(), None) else {
            return;
        };
        for message in messages {
            // A message without an address would shift the others; it is one that nobody takes.
            let from = sender(message.address).unwrap_or(SocketAddr::from(([0; 4], 0)));
            found.push((message.bytes, from));
        }
    }
}

impl AsFd for Porch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::poll::{PollFd, PollFlags, poll};

    use crate::wire::Wire;

    use super::*;

    fn has_more(socket: &impl AsFd) -> bool {
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], 0u8) == Ok(1)
    }

    /// A port, and a sender beside it in each family. Loopback delivers before `send` returns.
    fn ends() -> (Wire, [UdpSocket; 2]) {
        let wire = Wire::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = wire.local_port().unwrap();
        let senders = ["127.0.0.1", "::1"].map(|address| {
            let ip: std::net::IpAddr = address.parse().unwrap();
            let sender = UdpSocket::bind((ip, 0)).unwrap();
            sender.connect((ip, port)).unwrap();
            sender
        });
        (wire, senders)
    }

    #[test]
    fn initiations_wait_apart_and_all_else_where_it_was() {
        let (wire, senders) = ends();
        let mut tray = Tray::default();
        for sender in senders {
            for kind in [1, 2, 3, 4, 1, 0] {
                assert_eq!(sender.send(&[kind, 0, 0, 0]).unwrap(), 4);
            }
            sender.send(&[]).unwrap();
            let mut buffer = [0; 16];
            let mut kinds = Vec::new();
            while has_more(&wire) {
                let (len, from, _) = wire.receive(&mut buffer).unwrap();
                assert_eq!(from, sender.local_addr().unwrap());
                kinds.push(buffer[..len].first().copied());
            }
            assert_eq!(kinds, [Some(2), Some(3), Some(4), Some(0), None]);
            wire.receive_initiations(&mut tray);
            let apart: Vec<_> = tray.datagrams().collect();
            let from = sender.local_addr().unwrap();
            assert_eq!(apart, [(&[1, 0, 0, 0][..], from); 2]);
        }
    }

    #[test]
    fn flood_of_initiations_takes_no_packets_place() {
        let (wire, [sender, _]) = ends();
        // More than both queues could hold together.
        for _ in 0..20_000 {
            sender.send(&[INITIATION; INITIATION_LEN]).unwrap();
        }
        sender.send(b"packet").unwrap();
        assert!(has_more(&wire), "a packet has its place");
        let (len, ..) = wire.receive(&mut [0; 16]).unwrap();
        assert_eq!(len, 6);
        let (mut tray, mut count) = (Tray::default(), 0);
        while has_more(wire.porch().unwrap()) {
            wire.receive_initiations(&mut tray);
            let turn = tray.datagrams().count();
            assert!((1..=PORCH_TURN).contains(&turn), "{turn} in one turn");
            count += turn;
        }
        assert!((100..20_000).contains(&count), "{count} were kept");
    }

    #[test]
    fn what_is_too_long_for_an_initiation_is_seen_as_such() {
        let (wire, [sender, _]) = ends();
        sender.send(&[INITIATION; 1400]).unwrap();
        let mut tray = Tray::default();
        wire.receive_initiations(&mut tray);
        let lens: Vec<_> = tray.datagrams().map(|(bytes, _)| bytes.len()).collect();
        assert_eq!(lens, [ROOM_LEN]);
    }

    #[test]
    fn port_of_a_running_node_is_not_shared() {
        let (wire, _) = ends();
        let port = wire.local_port().unwrap();
        for address in ["0.0.0.0", "::", "127.0.0.1"] {
            let at = SocketAddr::new(address.parse().unwrap(), port);
            let error = Wire::bind(at).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
        }
        let alone = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
        assert_eq!(alone.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
