//! Babel's datagrams on one interface: what may be read, from where we speak, and keys if there
//! are any.
//!
//! Only what RFC 8966, §4 allows passes: from a link-local address and port 6696, to the group or
//! to a link-local address of ours. A hop limit proves nothing here, for link-local addresses are
//! not forwarded; we send with one. Reads no TLV. Invariant: with keys, nothing passes that the
//! neighbour did not sign.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mesh_base::time::Now;
use mesh_routing::babel::event::To;
use mesh_routing::babel::mac::key::Path;
use mesh_routing::babel::mac::machine::{Dropped, MacMachine, Verdict};
use mesh_routing::babel::wire::tlv::Cast;
use mesh_routing::talk::{BABEL_GROUP, BABEL_PORT};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrIn6, bind, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::Wanted;
use super::interface::Usable;

/// The longest datagram there is.
const BUFFER_LEN: usize = 1 << 16;
/// Datagrams that are looked at before the caller has its turn again, if none may pass.
const LOOKS_MAX: usize = 64;
/// A dump of the largest table that comes at once, in one buffer.
const RECEIVE_BUFFER_LEN: usize = 1 << 20;
/// Network control traffic, CS6 (RFC 4594, §3.1).
const CLASS: i32 = 0xc0;

/// A datagram that came, and may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub source: Ipv6Addr,
    /// Whether to everybody or to us.
    pub cast: Cast,
    /// A Babel packet.
    pub payload: Vec<u8>,
}

/// The socket of an interface.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    usable: Usable,
    mac: Option<(MacMachine, ChaCha20Rng)>,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens port 6696 of an interface, and joins the group there.
    pub fn open(wanted: &Wanted, usable: Usable) -> io::Result<Self> {
        let mac = match wanted.keys.clone() {
            Some(keys) => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|error| {
                    io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
                })?;
                let mut rng = ChaCha20Rng::from_seed(seed);
                Some((MacMachine::new(keys, &mut rng), rng))
            }
            None => None,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let udp = SockProtocol::Udp;
        let fd = socket(AddressFamily::Inet6, SockType::Datagram, flags, udp)?;
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        // Before it has a port, so that sockets of other interfaces are not in the way.
        setsockopt(&fd, sockopt::BindToDevice, &OsString::from(&wanted.name))?;
        setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&fd, sockopt::Ipv6Ttl, &1)?;
        setsockopt(&fd, sockopt::Ipv6MulticastHops, &1)?;
        setsockopt(&fd, sockopt::Ipv6TClass, &CLASS)?;
        // The kernel gives what it allows.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER_LEN);
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, BABEL_PORT, 0, 0);
        bind(fd.as_raw_fd(), &SockaddrIn6::from(any))?;
        let socket = UdpSocket::from(fd);
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&BABEL_GROUP, usable.index)?;
        Ok(Self {
            socket,
            usable,
            mac,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// Returns the interface as it was when this was opened.
    pub fn usable(&self) -> Usable {
        self.usable
    }

    /// Returns how many bytes are added to a packet.
    pub fn overhead(&self) -> usize {
        self.mac.as_ref().map_or(0, |(mac, _)| mac.overhead())
    }

    /// Returns how often authentication refused, by reason.
    pub fn refused(&self) -> BTreeMap<Dropped, u64> {
        let counts = self.mac.as_ref().map(|(mac, _)| mac.dropped().clone());
        counts.unwrap_or_default()
    }

    /// Returns the next datagram that may be read; none if none waits.
    pub fn receive(&mut self, now: Now) -> Option<Heard> {
        for _ in 0..LOOKS_MAX {
            let (path, len) = match self.take() {
                Ok(Some(came)) => came,
                Ok(None) => continue,
                Err(_) => return None,
            };
            let payload = self.buffer.get(..len)?.to_vec();
            if !self.admits(&payload, path, now) {
                continue;
            }
            let cast = if path.destination == BABEL_GROUP {
                Cast::Multicast
            } else {
                Cast::Unicast
            };
            return Some(Heard {
                source: path.source,
                cast,
                payload,
            });
        }
        None
    }

    /// Sends a packet of the speaker.
    pub fn send(&mut self, to: To, packet: Vec<u8>) -> io::Result<()> {
        let destination = match to {
            To::Multicast => BABEL_GROUP,
            To::Unicast(address) => address,
        };
        let packet = match &mut self.mac {
            Some((mac, rng)) => {
                let source = self.usable.address;
                let path = Path {
                    source,
                    destination,
                };
                mac.seal(packet, path, rng)
            }
            None => packet,
        };
        self.put(destination, &packet)
    }

    /// Authenticates a datagram, and sends what authentication wants to say.
    fn admits(&mut self, payload: &[u8], path: Path, now: Now) -> bool {
        let Some((mac, rng)) = &mut self.mac else {
            return true;
        };
        let verdict = mac.open(payload, path, now, rng);
        let mut answers = Vec::new();
        while let Some(answer) = mac.poll_answer() {
            let path = Path {
                source: self.usable.address,
                destination: answer.to,
            };
            answers.push((answer.to, mac.seal(answer.packet, path, rng)));
        }
        for (to, packet) in answers {
            // What does not go is asked for again.
            let _ = self.put(to, &packet);
        }
        verdict == Verdict::Accept
    }

    /// Takes a datagram into the buffer. None in it if it may not be read; an error if none waits.
    fn take(&mut self) -> io::Result<Option<(Path, usize)>> {
        let mut slices = [IoSliceMut::new(&mut self.buffer)];
        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        let came = recvmsg::<SockaddrIn6>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::empty(),
        )?;
        let destination = came.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(Ipv6Addr::from(info.ipi6_addr.s6_addr))
            }
            _ => None,
        });
        let (Some(from), Some(destination)) = (came.address, destination) else {
            return Ok(None);
        };
        let source = from.ip();
        let for_us = destination == BABEL_GROUP || destination.is_unicast_link_local();
        let lawful = source.is_unicast_link_local() && from.port() == BABEL_PORT && for_us;
        // Our own packets come back over a network that loops; nobody learns from them.
        let own = source == self.usable.address;
        let path = Path {
            source,
            destination,
        };
        Ok((lawful && !own).then_some((path, came.bytes)))
    }

    fn put(&self, destination: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
        let Usable { index, address } = self.usable;
        let info = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: address.octets(),
            },
            ipi6_ifindex: index,
        };
        let to = SocketAddrV6::new(destination, BABEL_PORT, 0, index);
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(packet)],
            &[ControlMessage::Ipv6PacketInfo(&info)],
            MsgFlags::empty(),
            Some(&SockaddrIn6::from(to)),
        )?;
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
