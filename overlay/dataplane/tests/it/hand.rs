//! A node made by hand: it has keys and sessions as everybody, and no rule of ours.
//!
//! What it opens with its keys is all that a node in its place can know; what it seals is whatever
//! a test wants to send.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mesh_dataplane::session::{Local, Opened, Session, WireGuard};

use crate::ground::{PATIENCE, secret};

/// Room for a datagram and what a session adds.
const BUFFER_LEN: usize = 4096;

/// How long the hand waits for a datagram before it looks around.
const PAUSE: Duration = Duration::from_millis(20);

/// Keys, a socket, and a session with each of its neighbours.
pub struct Hand {
    socket: UdpSocket,
    sessions: Vec<(u8, Option<SocketAddr>, WireGuard)>,
}

impl Hand {
    /// Makes the node of this number, which knows its neighbours' numbers and waits for them.
    pub fn new(number: u8, neighbours: &[u8]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PAUSE)).unwrap();
        let local = Local::new(secret(number).to_x25519());
        let sessions = neighbours.iter().map(|other| {
            let key = secret(*other).public().to_x25519();
            let session = WireGuard::new(&local, key, u32::from(*other));
            (*other, None, session)
        });
        Self {
            socket,
            sessions: sessions.collect(),
        }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Goes to another place, as a device that changes networks.
    pub fn move_on(&mut self) {
        self.socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        self.socket.set_read_timeout(Some(PAUSE)).unwrap();
    }

    /// Sends the first message of a handshake to a neighbour that listens on a port.
    pub fn knock(&mut self, other: u8, port: u16) {
        let mut out = [0; BUFFER_LEN];
        let len = self.session(other).1.initiate(&mut out).unwrap();
        self.throw(&out[..len], port);
    }

    /// Makes the session with a neighbour that listens on a port.
    pub fn meet(&mut self, other: u8, port: u16) {
        self.knock(other, port);
        let start = Instant::now();
        while !self.session(other).1.ready() {
            assert!(start.elapsed() < PATIENCE, "{other} does not answer");
            let _ = self.receive();
        }
    }

    /// Takes a datagram, does for its session what that wants, and returns the packet in it and
    /// whose it is.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let (mut datagram, mut out) = ([0; BUFFER_LEN], [0; BUFFER_LEN]);
        for (_, place, session) in &mut self.sessions {
            if let (Some(len), Some(to)) = (session.tick(&mut out), *place) {
                self.socket.send_to(&out[..len], to).unwrap();
            }
        }
        let (len, from) = self.socket.recv_from(&mut datagram).ok()?;
        for (number, place, session) in &mut self.sessions {
            let Ok(opened) = session.open(&datagram[..len], &mut out) else {
                continue;
            };
            *place = Some(from);
            match opened {
                Opened::Reply(len) => {
                    self.socket.send_to(&out[..len], from).unwrap();
                }
                Opened::Packet(len) => return Some((*number, out[..len].to_vec())),
                Opened::Nothing | Opened::Cookie => {}
            }
            return None;
        }
        None
    }

    /// Sends a packet to a neighbour; returns false while there is no session.
    pub fn send(&mut self, to: u8, packet: &[u8]) -> bool {
        let sealed = self.seal(to, packet);
        let place = self.session(to).0;
        match (sealed, place) {
            (Some(datagram), Some(place)) => {
                self.socket.send_to(&datagram, place).unwrap();
                true
            }
            _ => false,
        }
    }

    /// Seals a packet in the session with a neighbour.
    pub fn seal(&mut self, to: u8, packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; BUFFER_LEN];
        let len = self.session(to).1.seal(packet, &mut out).ok()?;
        out.truncate(len);
        Some(out)
    }

    /// Sends bytes as they are.
    pub fn throw(&self, bytes: &[u8], port: u16) {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.socket.send_to(bytes, to).unwrap();
    }

    fn session(&mut self, other: u8) -> (Option<SocketAddr>, &mut WireGuard) {
        let known = self.sessions.iter_mut().find(|known| known.0 == other);
        let (_, place, session) = known.unwrap();
        (*place, session)
    }
}
