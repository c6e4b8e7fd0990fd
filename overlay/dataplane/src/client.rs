//! One client: the session with a stock WireGuard device that is no node, and its door.
//!
//! ```text
//!   phone ═══ WireGuard ═══ this node ─── as if one of its own programs had asked ───► nodes
//!             inner source: only its own address, in this node's /64
//! ```
//! The device begins every handshake and keeps the session alive; we answer where its last
//! authenticated datagram came from, so that it may change networks as WireGuard lets it. It is
//! never looked for, never a neighbour, and nothing passes through it. Leaves to `hands` where its
//! packets go. Invariant: what waits for its session is nothing; a device that is away loses
//! packets, not our memory.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mesh_routing::access::Access;
use mesh_routing::ecn::Ecn;
use mesh_routing::table::DropReason;

use crate::exit::{Exit, Way};
use crate::limits::TICK_AGE_MAX;
use crate::session::{Opened, Session};
use crate::sys::lock;

/// What a client's session has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientStats {
    /// Its address in the overlay.
    pub address: Ipv6Addr,
    /// Where its packets come from; none before the first.
    pub endpoint: Option<SocketAddr>,
    /// Milliseconds since its last authenticated datagram; none if never.
    pub silent_ms: Option<u64>,
    /// Bytes of packets from it.
    pub received_bytes: u64,
    /// Bytes of packets to it.
    pub sent_bytes: u64,
}

/// A client and the session with it.
pub struct Client {
    /// Its address in the overlay: the only one it may use.
    pub address: Ipv6Addr,
    /// Its X25519 key.
    pub key: [u8; 32],
    /// Names our half of the session in its datagrams; 24 bits.
    pub index: u32,
    /// What it asked for, so that answers and nothing else come in.
    pub door: Mutex<Access>,
    line: Mutex<Line>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

struct Line {
    session: Box<dyn Session>,
    endpoint: Option<SocketAddr>,
    heard: Option<Instant>,
    ticked: Instant,
}

impl Client {
    /// Makes a session without keys yet.
    pub fn new(
        address: Ipv6Addr,
        key: [u8; 32],
        index: u32,
        session: Box<dyn Session>,
        now: Instant,
    ) -> Self {
        let line = Line {
            session,
            endpoint: None,
            heard: None,
            ticked: now,
        };
        Self {
            address,
            key,
            index,
            door: Mutex::new(Access::of_client()),
            line: Mutex::new(line),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// Takes a datagram that came from `from`. Returns the length of the packet that now stands at
    /// the start of `out`.
    pub fn receive(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let mut line = lock(&self.line);
        line.tick_if_stale(self.address, exit, out, now);
        let opened = match line.session.open(datagram, out) {
            Ok(opened) if opened != Opened::Cookie => opened,
            _ => return None,
        };
        line.endpoint = Some(from);
        line.heard = Some(now);
        match opened {
            Opened::Packet(len) => {
                self.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
                Some(len)
            }
            Opened::Reply(len) => {
                if let Some(reply) = out.get(..len) {
                    // Lost in a full socket: the device asks again.
                    let _ = exit.send(reply, Way::Direct(from), self.address);
                }
                None
            }
            Opened::Nothing | Opened::Cookie => None,
        }
    }

    /// Sends a packet to where the device was last heard, or not at all.
    pub fn send(
        &self,
        packet: &[u8],
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let mut line = lock(&self.line);
        line.tick_if_stale(self.address, exit, out, now);
        let endpoint = line.endpoint.ok_or(DropReason::NoSession)?;
        let sealed = line.session.seal(packet, out);
        let len = sealed.map_err(|_| DropReason::NoSession)?;
        let datagram = out.get(..len).ok_or(DropReason::NoSession)?;
        let mark = Ecn::of(packet);
        exit.send_marked(datagram, Way::Direct(endpoint), self.address, mark)?;
        self.sent_bytes
            .fetch_add(packet.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Lets time pass: keys that are too old are forgotten.
    pub fn drive(&self, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) {
        lock(&self.line).tick(self.address, exit, out, now);
    }

    /// Returns what the session has seen.
    pub fn stats(&self, now: Instant) -> ClientStats {
        let line = lock(&self.line);
        let ms = line
            .heard
            .map(|heard| now.saturating_duration_since(heard).as_millis());
        ClientStats {
            address: self.address,
            endpoint: line.endpoint,
            silent_ms: ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Line {
    fn tick_if_stale(
        &mut self,
        address: Ipv6Addr,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) {
        if TICK_AGE_MAX < now.saturating_duration_since(self.ticked) {
            self.tick(address, exit, out, now);
        }
    }

    fn tick(&mut self, address: Ipv6Addr, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) {
        self.ticked = now;
        let len = self.session.tick(out);
        let datagram = len.and_then(|len| out.get(..len));
        if let (Some(datagram), Some(endpoint)) = (datagram, self.endpoint) {
            let _ = exit.send(datagram, Way::Direct(endpoint), address);
        }
    }
}
