//! One WireGuard session with one peer, behind a small trait so that the library can be changed.
//!
//! ```text
//!   packet ──seal──► datagram        datagram ──open──► Packet | Reply (send it back) | Nothing
//!   tick (at least every 250 ms) ──► maybe a datagram          initiate ──► a handshake
//! ```
//! Decides nothing about when and whereto: that is [`crate::peer`]. Results stand at the start of
//! `out`. boringtun's `noise::Tunn` sits behind it; what must be known about it:
//!
//! * It panics if `out` is shorter than the input and 32 bytes, or than 148: every method checks
//!   first.
//! * Its clock moves only in `tick`, so a session that slept is ticked before it is fed.
//! * It would queue packets without a session by count; we never hand it one, our own queue is
//!   smaller.
//! * Handshakes pass a rate limiter twice, before the peer is known and inside. Only those of
//!   `guard` may ask for cookies, so the inner one has no limit.
//! * It logs a peer that is gone at ERROR; the daemon filters the target `boringtun`.

use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use mesh_base::digest::Digest;

use crate::sys::scatter;

/// What WireGuard adds to a packet.
pub const OVERHEAD: usize = 32;
/// Length of a handshake initiation, the longest message without payload.
pub const INITIATION_LEN: usize = 148;

/// Type byte of a handshake initiation.
pub const INITIATION: u8 = 1;
/// Type byte of a handshake response.
pub const RESPONSE: u8 = 2;
/// Type byte of a cookie reply.
pub const COOKIE: u8 = 3;
/// Type byte of a data packet.
pub const PAYLOAD: u8 = 4;

/// Why a session did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No handshake has been completed, or its keys are too old.
    #[error("cannot seal a packet before the handshake")]
    NotReady,
    /// The output buffer cannot hold the result.
    #[error("cannot put {need} bytes into a buffer of {have}")]
    Buffer {
        /// Bytes that could be needed.
        need: usize,
        /// Bytes that there are.
        have: usize,
    },
    /// Forged, replayed, for another key, or garbage.
    #[error("cannot open the datagram")]
    Refused,
}

/// What a datagram turned out to be. Lengths count from the start of `out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// Proven to be the peer's; nothing to do.
    Nothing,
    /// A cookie: proves nothing about who has the peer's key.
    Cookie,
    /// Proven to be the peer's; send these bytes back.
    Reply(usize),
    /// Proven to be the peer's: an IP packet.
    Packet(usize),
}

/// Seals packets to one peer and opens its datagrams.
pub trait Session: Send {
    /// Encrypts a packet; an empty one is a keepalive.
    fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, SessionError>;
    /// Checks and decrypts a datagram.
    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Opened, SessionError>;
    /// Lets time pass; returns the length of a datagram to send.
    fn tick(&mut self, out: &mut [u8]) -> Option<usize>;
    /// Begins a handshake, also if one is under way; returns the length of its first message.
    fn initiate(&mut self, out: &mut [u8]) -> Option<usize>;
    /// Returns whether packets can be sealed.
    fn ready(&self) -> bool;
    /// Returns how long ago the last handshake was completed, if its keys are still good.
    fn age(&self) -> Option<Duration>;
}

/// Our half of all sessions: the secret and what is computed from it once.
#[derive(Clone)]
pub struct Local {
    secret: StaticSecret,
    public: PublicKey,
    unlimited: Arc<RateLimiter>,
}

impl Local {
    /// Prepares the half that belongs to an X25519 secret.
    pub fn new(secret: [u8; 32]) -> Self {
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret);
        let unlimited = Arc::new(RateLimiter::new(&public, u64::MAX));
        Self {
            secret,
            public,
            unlimited,
        }
    }

    /// Returns what checks mac1 of handshakes, and mac2 of those beyond `per_second`.
    pub fn limiter(&self, per_second: u64) -> RateLimiter {
        RateLimiter::new(&self.public, per_second)
    }

    /// Returns a number that nobody can guess, another one each time.
    pub fn draw(&self) -> u64 {
        let digest = Digest::of_parts(&[self.secret.as_bytes(), &scatter().to_be_bytes()]);
        let first = digest.as_bytes().first_chunk();
        first.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Returns our secret, for reading who sent a handshake initiation.
    pub fn secret(&self) -> &StaticSecret {
        &self.secret
    }

    /// Returns our X25519 public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

/// Returns whether a public key is of small order: whatever the secret half of the other side is,
/// everybody knows what both would agree on (RFC 7748, 6.1).
pub fn is_weak(key: &[u8; 32]) -> bool {
    let any = StaticSecret::from([7; 32]);
    !any.diffie_hellman(&PublicKey::from(*key))
        .was_contributory()
}

/// A [`Session`] by boringtun.
pub struct WireGuard {
    tunn: Tunn,
    ready: bool,
}

impl WireGuard {
    /// Prepares a session with the holder of `peer`; `index` (24 bits) names it in its datagrams.
    pub fn new(local: &Local, peer: [u8; 32], index: u32) -> Self {
        let tunn = Tunn::new(
            local.secret.clone(),
            PublicKey::from(peer),
            None,
            None,
            index,
            Some(Arc::clone(&local.unlimited)),
        );
        Self { tunn, ready: false }
    }

    fn refresh(&mut self) {
        self.ready = self.tunn.time_since_last_handshake().is_some();
    }
}

fn room(need: usize, out: &[u8]) -> Result<(), SessionError> {
    let need = INITIATION_LEN.max(need + OVERHEAD);
    if out.len() < need {
        return Err(SessionError::Buffer {
            need,
            have: out.len(),
        });
    }
    Ok(())
}

impl Session for WireGuard {
    fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, SessionError> {
        room(packet.len(), out)?;
        if !self.ready {
            return Err(SessionError::NotReady);
        }
        match self.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(bytes) => Ok(bytes.len()),
            _ => Err(SessionError::NotReady),
        }
    }

    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Opened, SessionError> {
        room(datagram.len(), out)?;
        let kind = datagram.first().copied().ok_or(SessionError::Refused)?;
        let opened = match self.tunn.decapsulate(None, datagram, out) {
            TunnResult::Done if kind == COOKIE => Opened::Cookie,
            TunnResult::Done => Opened::Nothing,
            TunnResult::WriteToNetwork(bytes) => Opened::Reply(bytes.len()),
            TunnResult::WriteToTunnelV4(bytes, _) | TunnResult::WriteToTunnelV6(bytes, _) => {
                Opened::Packet(bytes.len())
            }
            TunnResult::Err(_) => return Err(SessionError::Refused),
        };
        if !self.ready || kind != PAYLOAD {
            self.refresh();
        }
        Ok(opened)
    }

    fn tick(&mut self, out: &mut [u8]) -> Option<usize> {
        room(0, out).ok()?;
        let len = match self.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(bytes) => Some(bytes.len()),
            _ => None,
        };
        self.refresh();
        len
    }

    fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        room(0, out).ok()?;
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(bytes) => Some(bytes.len()),
            _ => None,
        }
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn age(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (WireGuard, WireGuard) {
        let (alice, bob) = (Local::new([1; 32]), Local::new([2; 32]));
        (
            WireGuard::new(&alice, bob.public().to_bytes(), 1),
            WireGuard::new(&bob, alice.public().to_bytes(), 2),
        )
    }

    fn handshake(from: &mut WireGuard, to: &mut WireGuard) {
        let (mut there, mut back) = ([0; 256], [0; 256]);
        let len = from.initiate(&mut there).unwrap();
        let Opened::Reply(len) = to.open(&there[..len], &mut back).unwrap() else {
            panic!("an initiation is answered");
        };
        let Opened::Reply(len) = from.open(&back[..len], &mut there).unwrap() else {
            panic!("a response is confirmed");
        };
        assert_eq!(to.open(&there[..len], &mut back), Ok(Opened::Nothing));
    }

    #[test]
    fn packet_goes_through_after_a_handshake() {
        let (mut alice, mut bob) = pair();
        let packet = mesh_routing::packet::build::udp(
            ("fd6d::1".parse().unwrap(), 1),
            ("fd6d::2".parse().unwrap(), 2),
            b"hello",
        );
        let (mut sealed, mut plain) = ([0; 256], [0; 256]);
        assert_eq!(
            alice.seal(&packet, &mut sealed),
            Err(SessionError::NotReady)
        );
        handshake(&mut alice, &mut bob);
        assert!(alice.ready() && bob.ready());
        let len = alice.seal(&packet, &mut sealed).unwrap();
        assert_eq!(
            bob.open(&sealed[..len], &mut plain),
            Ok(Opened::Packet(packet.len()))
        );
        assert_eq!(&plain[..packet.len()], packet);
        assert_eq!(
            bob.open(&sealed[..len], &mut plain),
            Err(SessionError::Refused),
            "replayed"
        );
    }

    #[test]
    fn short_buffer_is_an_error_and_not_a_panic() {
        let (mut alice, mut bob) = pair();
        handshake(&mut alice, &mut bob);
        let short = SessionError::Buffer {
            need: 232,
            have: 231,
        };
        assert_eq!(alice.seal(&[0; 200], &mut [0; 231]), Err(short));
        assert_eq!(alice.open(&[0; 200], &mut [0; 231]), Err(short));
        assert_eq!(alice.initiate(&mut [0; 147]), None);
        assert_eq!(alice.tick(&mut [0; 147]), None);
    }

    #[test]
    fn keys_without_a_secret_half_are_known() {
        let mut one = [0; 32];
        one[0] = 1;
        // The order of the field, less one.
        let mut last = [0xff; 32];
        (last[0], last[31]) = (0xec, 0x7f);
        for weak in [[0; 32], one, last] {
            assert!(is_weak(&weak), "{weak:?}");
        }
        assert!(!is_weak(Local::new([3; 32]).public().as_bytes()));
    }

    #[test]
    fn stranger_is_refused() {
        let (mut alice, _) = pair();
        let mut mallory = WireGuard::new(
            &Local::new([3; 32]),
            Local::new([1; 32]).public().to_bytes(),
            3,
        );
        let (mut there, mut back) = ([0; 256], [0; 256]);
        let len = mallory.initiate(&mut there).unwrap();
        assert_eq!(
            alice.open(&there[..len], &mut back),
            Err(SessionError::Refused)
        );
        assert_eq!(alice.open(&[], &mut back), Err(SessionError::Refused));
    }
}
