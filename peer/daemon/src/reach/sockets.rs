//! The three sockets: to the gateway, for searches, for announcements.
//!
//! The first is connected, so that the kernel drops what comes from elsewhere and tells when nobody
//! listens. Of an announcement only its sender counts. Decides nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use mesh_routing::portmap::{Gateway, pcp, ssdp};
use nix::sys::socket::sockopt::ReuseAddr;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket};
use tokio::net::UdpSocket;

/// Where gateways announce that they have begun anew, at 224.0.0.1 (RFC 6886, 3.2.1).
const ANNOUNCEMENTS: u16 = 5350;

/// What came.
pub enum Heard {
    /// An answer of PCP or NAT-PMP.
    Datagram(Vec<u8>),
    /// An answer of the gateway to a search.
    Found(Vec<u8>),
    /// Nobody listens at the gateway's port.
    Closed,
    /// Nothing of use.
    Nothing,
}

/// The sockets to one gateway.
pub struct Sockets {
    asking: UdpSocket,
    searching: UdpSocket,
}

impl Sockets {
    /// Opens them. Runs inside tokio.
    pub fn open(gateway: Gateway) -> io::Result<Self> {
        let open = || {
            // A datagram to a group goes out where its source stands.
            let socket = std::net::UdpSocket::bind((gateway.own, 0))?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        };
        let asking = open()?;
        asking.connect((gateway.router, pcp::PORT))?;
        Ok(Self {
            asking: UdpSocket::from_std(asking)?,
            searching: UdpSocket::from_std(open()?)?,
        })
    }

    /// Waits for what comes; for ever if there are none.
    pub async fn hear(sockets: Option<&(Gateway, Self)>) -> Heard {
        let Some((gateway, sockets)) = sockets else {
            return std::future::pending().await;
        };
        let mut answer = [0; pcp::ANSWER_LEN_MAX + 1];
        let mut found = [0; ssdp::ANSWER_LEN_MAX + 1];
        tokio::select! {
            received = sockets.asking.recv(&mut answer) => match received {
                Ok(len) => Heard::Datagram(answer.get(..len).unwrap_or_default().to_vec()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Heard::Closed,
                Err(_) => Heard::Nothing,
            },
            received = sockets.searching.recv_from(&mut found) => match received {
                Ok((len, from)) if from.ip() == IpAddr::V4(gateway.router) => {
                    Heard::Found(found.get(..len).unwrap_or_default().to_vec())
                }
                _ => Heard::Nothing,
            },
        }
    }

    /// Sends to the gateway. What cannot be sent is sent again by the mapper. That nobody listened
    /// to what was sent before may be told here, and then it is not told to [`Sockets::hear`].
    pub async fn send(&self, bytes: &[u8]) -> Heard {
        match self.asking.send(bytes).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Heard::Closed,
            Err(error) => {
                tracing::debug!(%error, "the router cannot be asked");
                Heard::Nothing
            }
            Ok(_) => Heard::Nothing,
        }
    }

    /// Sends a search to everybody, and to the gateway itself, for some switches swallow groups.
    pub async fn search(&self, bytes: &[u8], router: Ipv4Addr) {
        let alone = SocketAddrV4::new(router, ssdp::GROUP.port());
        for to in [ssdp::GROUP, alone] {
            if let Err(error) = self.searching.send_to(bytes, SocketAddr::V4(to)).await {
                tracing::debug!(%error, %to, "a router cannot be searched for");
            }
        }
    }
}

/// The socket for announcements; without one, a minute passes until they are noticed.
pub struct Announcements(Option<UdpSocket>);

impl Announcements {
    /// Opens it, beside others who listen there too. Runs inside tokio.
    pub fn open() -> Self {
        let opened = open_announcements();
        if let Err(error) = &opened {
            tracing::debug!(%error, "announcements of routers are not heard");
        }
        Self(opened.ok())
    }

    /// Waits for one and returns who sent it.
    pub async fn hear(&self) -> Ipv4Addr {
        let Some(socket) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            // Nothing of the announcement is read: its sender is asked.
            if let Ok((_, SocketAddr::V4(from))) = socket.recv_from(&mut [0]).await {
                return *from.ip();
            }
        }
    }
}

fn open_announcements() -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    let at = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, ANNOUNCEMENTS));
    bind(fd.as_raw_fd(), &at)?;
    UdpSocket::from_std(std::net::UdpSocket::from(fd))
}
