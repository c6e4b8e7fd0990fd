//! TCP over the underlay, as both swarms use it: short segments, and one port for two swarms.
//!
//! ```text
//!   control port ──► first words ─┬─ the gate's ───────────────────────► control network
//!                                 └─ the door's, while it is open ─► Threshold ─► door's swarm
//!   door's port ───────────────────────────────────────────────────────────────► door's swarm
//! ```
//! A visitor of the join door may be able to go out to one port only, so the control port lets him
//! through: his socket is handed over whole, before a byte of it is read, to the door's own swarm
//! with its own handshake and limits. While the door is closed he meets the gate, which does not
//! speak with him. Whoever dials asks for segments that fit into any underlay that carries IPv6, in
//! both directions: where long packets are swallowed without a word, TCP would hang on its own.
//! Decides nothing about who may come in.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::{Multiaddr, tcp};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use crate::swarm::identity;

/// Longest segment: 1280 bytes, which every IPv6 underlay carries (RFC 8200, 5), without the
/// headers of IPv6 and TCP.
const SEGMENT_LEN_MAX: u32 = 1280 - 40 - 20;
/// The first words of a visitor: multistream-select's own name, and the handshake of the door.
const VISITOR: &[u8] = b"\x13/multistream/1.0.0\n\x07/noise\n";
/// How long somebody may take for his first words, and how often they are looked at if they come in
/// pieces.
const WORDS_WAIT: Duration = Duration::from_secs(5);
const WORDS_PAUSE: Duration = Duration::from_millis(5);
/// Visitors that wait at the threshold; the next ones are turned away.
const WAITING_MAX: usize = 32;

type Stream = tcp::tokio::TcpStream;
type Opening = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// A visitor's connection, and where it came from and to.
#[derive(Debug)]
pub struct Visitor {
    stream: Stream,
    local: Multiaddr,
    from: Multiaddr,
}

/// Where the control port hands visitors over to the door; clones are the same one.
#[derive(Debug, Clone)]
pub struct Threshold {
    is_open: Arc<AtomicBool>,
    visitors: mpsc::Sender<Visitor>,
}

impl Threshold {
    /// Makes a threshold with a closed door, and the other side of it.
    pub fn new() -> (Self, mpsc::Receiver<Visitor>) {
        let (visitors, waiting) = mpsc::channel(WAITING_MAX);
        let is_open = Arc::default();
        (Self { is_open, visitors }, waiting)
    }

    /// Opens or closes the door.
    pub fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::SeqCst);
    }
}

/// The transport.
pub struct UnderlayTcp {
    tcp: tcp::tokio::Transport,
    /// Where visitors go from here.
    threshold: Option<Threshold>,
    /// Where they come from.
    visitors: Option<mpsc::Receiver<Visitor>>,
    /// Names those that came over the threshold; nobody asks about it.
    handed: ListenerId,
}

impl UnderlayTcp {
    /// Makes a transport that does not listen yet.
    pub fn new() -> Self {
        Self {
            tcp: tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)),
            threshold: None,
            visitors: None,
            handed: ListenerId::next(),
        }
    }

    /// Lets visitors of the door through.
    pub fn with_threshold(mut self, threshold: Threshold) -> Self {
        self.threshold = Some(threshold);
        self
    }

    /// Takes those whom another transport lets through.
    pub fn with_visitors(mut self, visitors: mpsc::Receiver<Visitor>) -> Self {
        self.visitors = Some(visitors);
        self
    }
}

impl Default for UnderlayTcp {
    fn default() -> Self {
        Self::new()
    }
}

/// Connects with short segments.
async fn connect(to: SocketAddr) -> io::Result<Stream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A kernel that refuses has longer ones, as most have.
    let _ = setsockopt(&socket, sockopt::TcpMaxSeg, &SEGMENT_LEN_MAX);
    socket.set_nodelay(true)?;
    socket.connect(to).await.map(tcp::tokio::TcpStream)
}

/// Returns whether somebody's first words are a visitor's; leaves them to be read.
async fn is_visitor(stream: &Stream) -> io::Result<bool> {
    let mut words = [0; VISITOR.len()];
    loop {
        let len = stream.0.peek(&mut words).await?;
        let said = words.get(..len).unwrap_or_default();
        if len == 0 || !VISITOR.starts_with(said) {
            return Ok(false);
        }
        if said == VISITOR {
            return Ok(true);
        }
        tokio::time::sleep(WORDS_PAUSE).await;
    }
}

/// Returns the connection if it is not the door's.
async fn sort(
    stream: Stream,
    (local, from): (Multiaddr, Multiaddr),
    threshold: Threshold,
) -> io::Result<Stream> {
    if !threshold.is_open.load(Ordering::SeqCst) {
        return Ok(stream);
    }
    if !tokio::time::timeout(WORDS_WAIT, is_visitor(&stream)).await?? {
        return Ok(stream);
    }
    let visitor = Visitor {
        stream,
        local,
        from,
    };
    // At the limit it is turned away, and knocks again.
    let _ = threshold.visitors.try_send(visitor);
    Err(io::Error::other("a visitor, who goes to the join door"))
}

impl Transport for UnderlayTcp {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = Opening;
    type Dial = Opening;

    fn listen_on(
        &mut self,
        id: ListenerId,
        at: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.tcp.listen_on(id, at)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.tcp.remove_listener(id)
    }

    fn dial(&mut self, to: Multiaddr, _: DialOpts) -> Result<Opening, TransportError<io::Error>> {
        match identity::socket_addr(&to) {
            Some(at) if at.port() != 0 && !at.ip().is_unspecified() => Ok(Box::pin(connect(at))),
            _ => Err(TransportError::MultiaddrNotSupported(to)),
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Opening, io::Error>> {
        let handed = self.handed;
        if let Some(visitors) = &mut self.visitors
            && let Poll::Ready(Some(visitor)) = visitors.poll_recv(context)
        {
            return Poll::Ready(TransportEvent::Incoming {
                listener_id: handed,
                upgrade: Box::pin(std::future::ready(Ok(visitor.stream))),
                local_addr: visitor.local,
                send_back_addr: visitor.from,
            });
        }
        let event = std::task::ready!(Pin::new(&mut self.tcp).poll(context));
        let threshold = self.threshold.clone();
        Poll::Ready(match event {
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                send_back_addr,
            } => {
                let ends = (local_addr.clone(), send_back_addr.clone());
                let upgrade: Opening = match threshold {
                    Some(threshold) => {
                        Box::pin(async move { sort(upgrade.await?, ends, threshold).await })
                    }
                    None => Box::pin(upgrade),
                };
                TransportEvent::Incoming {
                    listener_id,
                    upgrade,
                    local_addr,
                    send_back_addr,
                }
            }
            other => other.map_upgrade(|upgrade| -> Opening { Box::pin(upgrade) }),
        })
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn anywhere() -> Multiaddr {
        "/ip4/192.0.2.1/tcp/1".parse().unwrap()
    }

    /// Lets somebody say this, in two pieces; returns whether he stayed, and whether he was handed
    /// over.
    async fn say(words: &[u8], is_open: bool) -> (bool, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let (threshold, mut visitors) = Threshold::new();
        threshold.open(is_open);
        let stream = tcp::tokio::TcpStream(near);
        let sorted = tokio::spawn(sort(stream, (anywhere(), anywhere()), threshold));
        let (first, rest) = words.split_at(words.len() / 2);
        far.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        far.write_all(rest).await.unwrap();
        far.shutdown().await.unwrap();
        let stays = sorted.await.unwrap().is_ok();
        (stays, visitors.try_recv().is_ok())
    }

    #[tokio::test]
    async fn only_a_visitor_goes_to_the_door_and_only_while_it_is_open() {
        assert_eq!(say(VISITOR, true).await, (false, true));
        assert_eq!(say(VISITOR, false).await, (true, false));
        let member = b"\x13/multistream/1.0.0\n\x13/meshstead/gate/1\n";
        assert_eq!(say(member, true).await, (true, false));
        assert_eq!(say(b"GET / HTTP/1.1\r\n\r\n", true).await, (true, false));
    }

    #[tokio::test]
    async fn both_ends_of_a_connection_send_short_segments() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        for end in [&near.0, &far] {
            let len = getsockopt(end, sockopt::TcpMaxSeg).unwrap();
            assert!(len <= SEGMENT_LEN_MAX, "{len}");
        }
    }
}
