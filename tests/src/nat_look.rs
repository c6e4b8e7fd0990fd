//! What a home's router does, seen from both sides of it, in the manner of RFC 5780.
//!
//! Plain sockets in the home and on the Internet; nothing is asked of the router itself. A packet
//! that must not arrive is awaited together with one that must, sent after it on the same way, and
//! some times over: a slow machine does not make a router look stricter than it is.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::unistd::Pid;

use crate::inside::inside;
use crate::nat::{Filtering, Mapping};
use crate::nat_router::{Router, WITNESSES};

/// How long a packet is awaited, and how often it is sent again.
const PATIENCE: Duration = Duration::from_millis(250);
const TRIES: usize = 4;

/// How often what must not arrive is sent.
const ROUNDS: usize = 3;

/// How long a connection is awaited: one repeated SYN.
const CONNECTED: Duration = Duration::from_millis(1500);

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look {
    /// What becomes of UDP; none if it does not pass.
    pub udp: Option<Udp>,
    /// Whether TCP goes out to any port.
    pub tcp: bool,
    /// Whether TCP goes out to port 443.
    pub tcp_443: bool,
    /// Whether TCP comes in.
    pub tcp_in: bool,
}

/// What becomes of UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Udp {
    /// Which outside port there is for each destination.
    pub mapping: Mapping,
    /// Who may send to it.
    pub filtering: Filtering,
    /// Whether it has the number of the inside port.
    pub keeps_port: bool,
    /// Whether two insiders meet at their outside addresses.
    pub hairpin: bool,
    /// How many boxes are on the way.
    pub boxes: u32,
}

/// Sockets of the Internet: one, the same with another port, and one with another address.
#[derive(Debug)]
pub struct Witnesses {
    first: UdpSocket,
    other_port: UdpSocket,
    other_address: UdpSocket,
}

impl Witnesses {
    /// Opens them.
    ///
    /// # Errors
    /// There is no Internet here.
    pub fn new() -> anyhow::Result<Self> {
        let [one, two] = WITNESSES;
        Ok(Self {
            first: socket(one)?,
            other_port: socket(one)?,
            other_address: socket(two)?,
        })
    }

    /// Returns where the Internet sees a home's socket; none if nothing comes.
    ///
    /// # Errors
    /// A socket fails.
    pub fn place_of(&self, client: &UdpSocket) -> anyhow::Result<Option<SocketAddr>> {
        place(client, &self.first)
    }

    /// Returns whether a packet of a witness, to which the client has sent, comes in.
    ///
    /// # Errors
    /// A socket fails.
    pub fn reaches(&self, client: &UdpSocket, at: SocketAddr) -> anyhow::Result<bool> {
        for _ in 0..TRIES {
            self.first.send_to(b"in", at)?;
            if receive(client)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn mapping(&self, client: &UdpSocket) -> anyhow::Result<Option<(Mapping, SocketAddr)>> {
        let Some(first) = place(client, &self.first)? else {
            return Ok(None);
        };
        let seen = |server| -> anyhow::Result<SocketAddr> {
            place(client, server)?.context("only one witness is reached")
        };
        let (port, address) = (seen(&self.other_port)?, seen(&self.other_address)?);
        let mapping = match (port == first, address == first) {
            (true, true) => Mapping::EndpointIndependent,
            (false, false) => Mapping::AddressAndPortDependent,
            _ => bail!("neither kind of mapping: {first}, {port}, {address}"),
        };
        Ok(Some((mapping, first)))
    }

    fn filtering(&self, client: &UdpSocket) -> anyhow::Result<Filtering> {
        let at = place(client, &self.first)?.context("nothing goes out any more")?;
        let senders: [(&UdpSocket, &[u8]); 2] = [
            (&self.other_port, b"port"),
            (&self.other_address, b"address"),
        ];
        let heard = self.heard(client, at, &senders)?;
        match (
            heard.contains(&b"port"[..]),
            heard.contains(&b"address"[..]),
        ) {
            (true, true) => Ok(Filtering::EndpointIndependent),
            (true, false) => Ok(Filtering::AddressDependent),
            (false, false) => Ok(Filtering::AddressAndPortDependent),
            (false, true) => bail!("only the stranger comes in"),
        }
    }

    /// Sends to a client's outside port and returns what came in besides what must.
    fn heard(
        &self,
        client: &UdpSocket,
        at: SocketAddr,
        senders: &[(&UdpSocket, &[u8])],
    ) -> anyhow::Result<BTreeSet<Vec<u8>>> {
        let mut heard = BTreeSet::new();
        let mut rounds = 0;
        for _ in 0..ROUNDS * TRIES {
            for (sender, word) in senders {
                sender.send_to(word, at)?;
            }
            self.first.send_to(b"control", at)?;
            while let Some((word, _)) = receive(client)? {
                if word == b"control" {
                    rounds += 1;
                    break;
                }
                heard.insert(word);
            }
            if rounds == ROUNDS {
                return Ok(heard);
            }
        }
        bail!("answers of whom was sent to do not come in")
    }
}

/// Looks at the router of a home, of which `home` is a process.
///
/// # Errors
/// It does what no router here does, or a socket cannot be had.
pub fn look(home: Pid, router: &Router) -> anyhow::Result<Look> {
    let witnesses = Witnesses::new()?;
    let (public, there) = (router.address(), router.gateway());
    Ok(Look {
        udp: look_at_udp(&witnesses, home, public)?,
        tcp: connects(home, &TcpListener::bind((there, 0))?)?,
        tcp_443: connects(home, &TcpListener::bind((there, 443))?)?,
        tcp_in: comes_in(home, public)?,
    })
}

fn look_at_udp(witnesses: &Witnesses, home: Pid, public: Ipv4Addr) -> anyhow::Result<Option<Udp>> {
    let client = client(home)?;
    let Some((mapping, at)) = witnesses.mapping(&client)? else {
        return Ok(None);
    };
    ensure!(at.ip() == public, "it is seen as {at}, not {public}");
    Ok(Some(Udp {
        mapping,
        filtering: witnesses.filtering(&self::client(home)?)?,
        keeps_port: at.port() == client.local_addr()?.port(),
        hairpin: meet(witnesses, &self::client(home)?, &self::client(home)?)?,
        boxes: boxes(witnesses, home)?,
    }))
}

/// Lets two sockets look for each other as hole punching does: both send to where the other was
/// seen, and answer whoever they hear from. Returns whether both heard the other.
///
/// # Errors
/// A socket fails.
pub fn meet(witnesses: &Witnesses, a: &UdpSocket, b: &UdpSocket) -> anyhow::Result<bool> {
    let (Some(to_a), Some(to_b)) = (witnesses.place_of(a)?, witnesses.place_of(b)?) else {
        return Ok(false);
    };
    let mut ends = [(a, vec![to_b], false), (b, vec![to_a], false)];
    for _ in 0..ROUNDS * TRIES {
        for (socket, places, _) in &ends {
            for place in places {
                socket.send_to(b"meet", place)?;
            }
        }
        for (socket, places, heard) in &mut ends {
            socket.set_read_timeout(Some(PATIENCE / 10))?;
            while let Some((_, from)) = receive(socket)? {
                *heard = true;
                if !places.contains(&from) {
                    places.push(from);
                }
            }
            socket.set_read_timeout(Some(PATIENCE))?;
        }
        if ends.iter().all(|(_, _, heard)| *heard) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens a socket in a home.
///
/// # Errors
/// It cannot be had.
pub fn client(home: Pid) -> anyhow::Result<UdpSocket> {
    inside(home, || socket(Ipv4Addr::UNSPECIFIED))
}

/// Counts the boxes: each takes one of what a packet may still pass (its TTL).
fn boxes(witnesses: &Witnesses, home: Pid) -> anyhow::Result<u32> {
    for boxes in 0..8 {
        let client = client(home)?;
        client.set_ttl(boxes + 1)?;
        if witnesses.place_of(&client)?.is_some() {
            return Ok(boxes);
        }
    }
    bail!("no end of boxes")
}

fn socket(address: Ipv4Addr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).context("no socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Returns where `server` sees `client`.
fn place(client: &UdpSocket, server: &UdpSocket) -> anyhow::Result<Option<SocketAddr>> {
    // Nobody says it twice: what is late from before is not taken for an answer.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let word = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    for _ in 0..TRIES {
        client.send_to(&word, server.local_addr()?)?;
        while let Some((heard, from)) = receive(server)? {
            if heard == word {
                return Ok(Some(from));
            }
        }
    }
    Ok(None)
}

/// Receives a packet within the socket's patience.
fn receive(socket: &UdpSocket) -> anyhow::Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut bytes = [0; 256];
    match socket.recv_from(&mut bytes) {
        Ok((len, from)) => Ok(Some((bytes.get(..len).unwrap_or_default().to_vec(), from))),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(None)
        }
        Err(error) => Err(error).context("a socket failed"),
    }
}

fn connects(home: Pid, there: &TcpListener) -> anyhow::Result<bool> {
    let to = there.local_addr()?;
    inside(home, || {
        Ok(TcpStream::connect_timeout(&to, CONNECTED).is_ok())
    })
}

fn comes_in(home: Pid, public: Ipv4Addr) -> anyhow::Result<bool> {
    let listener = inside(home, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no listener")
    })?;
    let to = SocketAddr::from((public, listener.local_addr()?.port()));
    Ok(TcpStream::connect_timeout(&to, CONNECTED).is_ok())
}
