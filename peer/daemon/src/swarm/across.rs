//! Control connections across the overlay, for nodes that cannot reach each other directly.
//!
//! ```text
//!   dial /ip6/fd6d:…/tcp/6787 ──► a socket in the overlay (host, or a namespace of our own)
//!   listen there              ──► the same way round; then gate and yamux as everywhere
//! ```
//! A libp2p transport of its own, asked before TCP, because the overlay may live in another
//! namespace than the daemon. It knows overlay addresses with [`CONTROL_PORT`] only; everything
//! else is for the transport after it. The control network never carries the overlay's links on
//! these connections, so nothing can depend on itself. Decides nothing about whom to dial.

use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use mesh_base::address::is_overlay;
use mesh_dataplane::connection::{self, Socket};
use mesh_dataplane::forward::{self, Dialer};
use mesh_dataplane::netns::Namespace;
use mesh_dataplane::stack::{Arrivals, Stack};
use mesh_routing::access::CONTROL_PORT;
use tokio::net::TcpListener;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::swarm::identity;

/// Where sockets of the overlay are made.
#[derive(Clone)]
pub enum Sockets {
    /// The TUN is on the host: any socket will do.
    Host,
    /// The TUN is in a namespace of our own.
    Namespace(Arc<Namespace>),
    /// There is no TUN: the daemon speaks TCP itself.
    Stack(Arc<Stack>),
}

/// What listens in the overlay.
pub enum Listener {
    /// A socket of the kernel's.
    Kernel(TcpListener),
    /// A port of the userspace stack.
    Stack(Arrivals),
}

impl Listener {
    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(connection::Connection, SocketAddr)>> {
        Poll::Ready(match self {
            Self::Kernel(listener) => {
                let (stream, from) = ready!(listener.poll_accept(context))?;
                let _ = stream.set_nodelay(true);
                Ok((connection::Connection::Kernel(stream), from))
            }
            Self::Stack(arrivals) => match ready!(arrivals.poll_accept(context)) {
                Some((end, from)) => Ok((end.into_stream()?, from.into())),
                // Nothing wakes us any more; the daemon is ending.
                None => return Poll::Pending,
            },
        })
    }
}

impl Sockets {
    /// Listens on a TCP port of our own address.
    pub fn listen(&self, own: Ipv6Addr, port: u16) -> io::Result<Listener> {
        let listener = match self {
            Self::Host => {
                let listener = std::net::TcpListener::bind((own, port))?;
                listener.set_nonblocking(true)?;
                listener
            }
            Self::Namespace(namespace) => namespace.listen(own, port)?.into(),
            Self::Stack(stack) => return stack.listen(port).map(Listener::Stack),
        };
        TcpListener::from_std(listener).map(Listener::Kernel)
    }
}

impl Dialer for Sockets {
    fn dial(&self, to: SocketAddrV6) -> io::Result<Socket> {
        match self {
            Self::Host => {
                let stream = std::net::TcpStream::connect_timeout(
                    &to.into(),
                    mesh_dataplane::limits::CONNECT_WAIT,
                )?;
                stream.set_nonblocking(true)?;
                Ok(Socket::Kernel(stream.into()))
            }
            Self::Namespace(namespace) => namespace.dial(to),
            Self::Stack(stack) => stack.dial(to),
        }
    }
}

/// Returns where in the overlay a node's control network listens.
pub fn control_address(node: Ipv6Addr) -> SocketAddr {
    SocketAddr::from((node, CONTROL_PORT))
}

/// Returns the overlay address that a control connection may be made to; none for all others.
pub fn parse(address: &Multiaddr) -> Option<SocketAddrV6> {
    match identity::socket_addr(address)? {
        SocketAddr::V6(at) if is_overlay(at.ip()) && at.port() == CONTROL_PORT => Some(at),
        _ => None,
    }
}

type Stream = Compat<connection::Connection>;
type Dial = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// The transport: at most one listener, any number of dials.
pub struct Across {
    sockets: Sockets,
    listener: Option<Listening>,
}

struct Listening {
    id: ListenerId,
    at: Multiaddr,
    listener: Listener,
    announced: bool,
    /// After a failure, most likely for want of descriptors: others must close before we go on.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// How long nothing is accepted after a failure.
const PAUSE: Duration = Duration::from_millis(100);

impl Across {
    /// Makes a transport that does not listen yet.
    pub fn new(sockets: Sockets) -> Self {
        Self {
            sockets,
            listener: None,
        }
    }
}

impl Transport for Across {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = std::future::Ready<io::Result<Stream>>;
    type Dial = Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        at: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some(own) = parse(&at) else {
            return Err(TransportError::MultiaddrNotSupported(at));
        };
        let listener = self.sockets.listen(*own.ip(), CONTROL_PORT);
        self.listener = Some(Listening {
            id,
            at,
            listener: listener.map_err(TransportError::Other)?,
            announced: false,
            pause: None,
        });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.take_if(|one| one.id == id).is_some()
    }

    fn dial(&mut self, to: Multiaddr, _: DialOpts) -> Result<Dial, TransportError<io::Error>> {
        let Some(at) = parse(&to) else {
            return Err(TransportError::MultiaddrNotSupported(to));
        };
        let sockets: Arc<dyn Dialer> = Arc::new(self.sockets.clone());
        Ok(Box::pin(async move {
            let stream = forward::connect(sockets, at).await?;
            Ok(stream.compat())
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Some(one) = &mut self.listener else {
            return Poll::Pending;
        };
        if !one.announced {
            one.announced = true;
            return Poll::Ready(TransportEvent::NewAddress {
                listener_id: one.id,
                listen_addr: one.at.clone(),
            });
        }
        if let Some(pause) = &mut one.pause {
            ready!(pause.as_mut().poll(context));
            one.pause = None;
        }
        let event = match ready!(one.listener.poll_accept(context)) {
            Ok((stream, from)) => TransportEvent::Incoming {
                listener_id: one.id,
                upgrade: std::future::ready(Ok(stream.compat())),
                local_addr: one.at.clone(),
                send_back_addr: identity::multiaddr(&from),
            },
            Err(error) => {
                one.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                TransportEvent::ListenerError {
                    listener_id: one.id,
                    error,
                }
            }
        };
        Poll::Ready(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_addresses_in_the_overlay_are_ours() {
        let check = |text: &str, ours: bool| {
            assert_eq!(parse(&text.parse().unwrap()).is_some(), ours, "{text}");
        };
        check("/ip6/fd6d::1/tcp/6787", true);
        check("/ip6/fd6d::1/tcp/6788", false);
        check("/ip6/2001:db8::1/tcp/6787", false);
        check("/ip4/192.0.2.1/tcp/6787", false);
        check("/ip6/fd6d::1/udp/6787", false);
    }

    #[test]
    fn other_addresses_are_left_to_the_next_transport() {
        let mut across = Across::new(Sockets::Host);
        let other: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
        assert!(matches!(
            across.listen_on(ListenerId::next(), other),
            Err(TransportError::MultiaddrNotSupported(_))
        ));
    }
}
