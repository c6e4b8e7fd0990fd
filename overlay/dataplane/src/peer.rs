//! One link: when to make keys, whereto datagrams go, what waits meanwhile.
//!
//! ```text
//!             lead: at once · other side: after GRACE · either: with payload
//!   no session ────────────── handshake to every candidate ───────────────► session
//!        ▲                    retry 1, 1, 2, 4, 8, 8 s …                    │ KEEPALIVE
//!        └ keys older than 180 s ◄─ silent for SILENCE_MAX: the same ◄────┘ REKEY_AGE: lead renews
//! ```
//! The side with the lower key leads, so that two nodes do not make the same session twice. Where
//! authenticated datagrams come from is the endpoint; everything else in `candidates` is a guess.
//! Leaves to [`crate::session`] what the bytes are, and to [`crate::plane`] which link a packet
//! takes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_routing::table::DropReason;

use crate::limits::{
    CANDIDATES_MAX, GRACE, KEEPALIVE, REKEY_AGE, RETRY_MAX, RETRY_MIN, SILENCE_MAX, TICK_AGE_MAX,
    WAITING_COUNT_MAX,
};
use crate::session::{INITIATION, Opened, Session};
use crate::sys::lock;
use crate::wire::Wire;

/// What a link has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStats {
    /// The peer.
    pub peer: NodeId,
    /// Where its packets come from; none before the first.
    pub endpoint: Option<SocketAddr>,
    /// Milliseconds since its last authenticated datagram; none if never.
    pub silent_ms: Option<u64>,
    /// Bytes of packets from it.
    pub received_bytes: u64,
    /// Bytes of packets to it.
    pub sent_bytes: u64,
}

/// Which side begins handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// We do: our key is the lower one.
    Lead,
    /// The peer does; we only if it does not.
    Follow,
}

/// A peer and the link to it.
pub struct Peer {
    /// The peer.
    pub node: NodeId,
    /// Its X25519 key.
    pub key: [u8; 32],
    /// Names our half of the session in the peer's datagrams; 24 bits.
    pub index: u32,
    turn: Turn,
    link: Mutex<Link>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

struct Link {
    session: Box<dyn Session>,
    endpoint: Option<SocketAddr>,
    candidates: Vec<SocketAddr>,
    born: Instant,
    heard: Option<Instant>,
    spoke: Instant,
    ticked: Instant,
    attempt_count: u32,
    next_attempt: Instant,
    waiting: VecDeque<Vec<u8>>,
}

impl Peer {
    /// Makes a link without keys yet.
    pub fn new(
        node: NodeId,
        key: [u8; 32],
        index: u32,
        turn: Turn,
        session: Box<dyn Session>,
        now: Instant,
    ) -> Self {
        let link = Link {
            session,
            endpoint: None,
            candidates: Vec::new(),
            born: now,
            heard: None,
            spoke: now,
            ticked: now,
            attempt_count: 0,
            next_attempt: now,
            waiting: VecDeque::new(),
        };
        Self {
            node,
            key,
            index,
            turn,
            link: Mutex::new(link),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// Replaces the guesses where the peer may be. New ones are tried soon if the link is not up.
    pub fn set_candidates(&self, candidates: &[SocketAddr], now: Instant) {
        let mut link = lock(&self.link);
        let kept: Vec<_> = candidates.iter().copied().take(CANDIDATES_MAX).collect();
        if kept
            .iter()
            .any(|candidate| !link.candidates.contains(candidate))
        {
            link.attempt_count = 0;
            link.next_attempt = link.next_attempt.min(now);
        }
        link.candidates = kept;
    }

    /// Sends a packet, or lets it wait for the session.
    pub fn send(
        &self,
        packet: &[u8],
        wire: &Wire,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let mut link = lock(&self.link);
        link.tick_if_stale(wire, out, now);
        if !link.session.ready() {
            let waits = link.wait(packet);
            if link.next_attempt <= now {
                link.attempt(wire, out, now);
            }
            return waits;
        }
        link.seal_and_send(packet, wire, out, now)?;
        self.sent_bytes
            .fetch_add(packet.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a datagram; returns the length of the packet that now stands at the start of `out`.
    pub fn receive(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        wire: &Wire,
        out: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let mut link = lock(&self.link);
        link.tick_if_stale(wire, out, now);
        let opened = link.session.open(datagram, out).ok()?;
        if opened == Opened::Cookie {
            return None;
        }
        link.hear(from, self.node, now);
        if let Opened::Packet(len) = opened {
            self.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
            // `out` is taken: if somebody waits, the next tick sends them.
            return Some(len);
        }
        if let Opened::Reply(len) = opened {
            let reply = out.get(..len)?;
            wire.send(reply, from);
            link.spoke = now;
        }
        self.flush(&mut link, wire, out, now);
        None
    }

    /// Lets time pass: renews keys, keeps the link alive, looks for a peer that is silent.
    pub fn drive(&self, wire: &Wire, out: &mut [u8], now: Instant) {
        let mut link = lock(&self.link);
        link.tick(wire, out, now);
        if link.session.ready() {
            self.flush(&mut link, wire, out, now);
            if KEEPALIVE <= now.duration_since(link.spoke) {
                // Refused only when the socket is full, and then the link is anything but idle.
                let _ = link.seal_and_send(&[], wire, out, now);
            }
        }
        if link.next_attempt <= now && link.wants_handshake(self.turn, now) {
            link.attempt(wire, out, now);
        }
    }

    /// Returns what the link has seen.
    pub fn stats(&self, now: Instant) -> LinkStats {
        let link = lock(&self.link);
        let silent = link
            .heard
            .map(|heard| now.saturating_duration_since(heard).as_millis());
        LinkStats {
            peer: self.node,
            endpoint: link.endpoint,
            silent_ms: silent.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        }
    }

    fn flush(&self, link: &mut Link, wire: &Wire, out: &mut [u8], now: Instant) {
        while link.session.ready() {
            let Some(packet) = link.waiting.pop_front() else {
                return;
            };
            if link.seal_and_send(&packet, wire, out, now).is_ok() {
                self.sent_bytes
                    .fetch_add(packet.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Link {
    fn tick_if_stale(&mut self, wire: &Wire, out: &mut [u8], now: Instant) {
        if TICK_AGE_MAX < now.saturating_duration_since(self.ticked) {
            self.tick(wire, out, now);
        }
    }

    fn tick(&mut self, wire: &Wire, out: &mut [u8], now: Instant) {
        self.ticked = now;
        let len = self.session.tick(out);
        if let Some(datagram) = len.and_then(|len| out.get(..len)) {
            self.spread(datagram, wire);
            self.spoke = now;
        }
    }

    /// Keeps a packet until there are keys; refuses the new when full, as a TUN's queue does.
    fn wait(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        if WAITING_COUNT_MAX <= self.waiting.len() {
            return Err(DropReason::NoSession);
        }
        self.waiting.push_back(packet.to_vec());
        Ok(())
    }

    fn seal_and_send(
        &mut self,
        packet: &[u8],
        wire: &Wire,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let to = self.endpoint.ok_or(DropReason::NoSession)?;
        let len = self
            .session
            .seal(packet, out)
            .map_err(|_| DropReason::NoSession)?;
        let datagram = out.get(..len).ok_or(DropReason::NoSession)?;
        self.spoke = now;
        if !wire.send(datagram, to) {
            return Err(DropReason::Congested);
        }
        Ok(())
    }

    fn hear(&mut self, from: SocketAddr, node: NodeId, now: Instant) {
        if self.endpoint != Some(from) {
            tracing::debug!(peer = %node.key().short(), "link has a new endpoint");
            self.endpoint = Some(from);
        }
        self.heard = Some(now);
        self.attempt_count = 0;
    }

    fn wants_handshake(&self, turn: Turn, now: Instant) -> bool {
        let grace = match turn {
            Turn::Lead => Duration::ZERO,
            Turn::Follow => GRACE,
        };
        if !self.session.ready() {
            let alone = now.saturating_duration_since(self.born);
            return grace <= alone || !self.waiting.is_empty();
        }
        let silent = now.saturating_duration_since(self.heard.unwrap_or(self.born));
        let old = self.session.age().is_none_or(|age| REKEY_AGE <= age);
        SILENCE_MAX + grace <= silent || (turn == Turn::Lead && old)
    }

    /// Begins a handshake with everybody who could be the peer; the first answer is the endpoint.
    fn attempt(&mut self, wire: &Wire, out: &mut [u8], now: Instant) {
        let Some(len) = self.session.initiate(out) else {
            return;
        };
        if let Some(datagram) = out.get(..len) {
            self.spread(datagram, wire);
            self.spoke = now;
        }
        let doubled = RETRY_MIN * (1 << self.attempt_count.saturating_sub(1).min(3));
        self.attempt_count = self.attempt_count.saturating_add(1);
        self.next_attempt = now + doubled.min(RETRY_MAX) + crate::sys::jitter(RETRY_MIN / 4);
    }

    /// Sends a handshake initiation everywhere and anything else to the endpoint.
    fn spread(&self, datagram: &[u8], wire: &Wire) {
        if let Some(endpoint) = self.endpoint {
            wire.send(datagram, endpoint);
        }
        if datagram.first() != Some(&INITIATION) {
            return;
        }
        for candidate in &self.candidates {
            if self.endpoint != Some(*candidate) {
                wire.send(datagram, *candidate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use mesh_base::identity::SecretKey;
    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;
    use crate::session::{PAYLOAD, SessionError};

    /// A session that is ready when told so. Each message is its type byte and nothing else.
    #[derive(Clone, Default)]
    struct Fake {
        ready: Arc<AtomicBool>,
        old: Arc<AtomicBool>,
    }

    impl Session for Fake {
        fn seal(&mut self, _: &[u8], out: &mut [u8]) -> Result<usize, SessionError> {
            out[0] = PAYLOAD;
            if self.ready() {
                Ok(1)
            } else {
                Err(SessionError::NotReady)
            }
        }

        fn open(&mut self, _: &[u8], _: &mut [u8]) -> Result<Opened, SessionError> {
            self.ready.store(true, Ordering::Relaxed);
            Ok(Opened::Nothing)
        }

        fn tick(&mut self, _: &mut [u8]) -> Option<usize> {
            None
        }

        fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
            out[0] = INITIATION;
            Some(1)
        }

        fn ready(&self) -> bool {
            self.ready.load(Ordering::Relaxed)
        }

        fn age(&self) -> Option<Duration> {
            let age = if self.old.load(Ordering::Relaxed) {
                REKEY_AGE
            } else {
                Duration::ZERO
            };
            self.ready().then_some(age)
        }
    }

    struct World {
        peer: Peer,
        session: Fake,
        wire: Wire,
        /// Where the peer would be.
        far: Wire,
        start: Instant,
    }

    impl World {
        fn new(turn: Turn) -> Self {
            let bind = || Wire::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
            let (start, session) = (Instant::now(), Fake::default());
            let node = NodeId(SecretKey::from_seed([1; 32]).public());
            let peer = Peer::new(node, [0; 32], 7, turn, Box::new(session.clone()), start);
            let far = bind();
            peer.set_candidates(&[address(&far)], start);
            Self {
                peer,
                session,
                wire: bind(),
                far,
                start,
            }
        }

        /// Lets time pass in steps as the timer thread does, then returns the types of what was
        /// sent.
        fn run(&self, from: Duration, to: Duration) -> Vec<u8> {
            let mut at = from;
            while at < to {
                self.peer.drive(&self.wire, &mut [0; 256], self.start + at);
                at += crate::limits::TICK;
            }
            self.sent()
        }

        fn sent(&self) -> Vec<u8> {
            let mut types = Vec::new();
            let mut buffer = [0; 256];
            // Loopback delivers before `send` returns, but only this side may rely on poll's word.
            while poll(&mut [PollFd::new(self.far.as_fd(), PollFlags::POLLIN)], 0u8) == Ok(1) {
                self.far.receive(&mut buffer).unwrap();
                types.push(buffer[0]);
            }
            types
        }

        fn hear(&self, at: Duration) {
            let from = address(&self.far);
            let now = self.start + at;
            assert_eq!(
                self.peer
                    .receive(&[2], from, &self.wire, &mut [0; 256], now),
                None
            );
        }
    }

    fn address(wire: &Wire) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, wire.local_port().unwrap()))
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn leader_begins_at_once_and_follower_after_a_while() {
        assert_eq!(World::new(Turn::Lead).run(ms(0), ms(100)), [INITIATION]);
        let follower = World::new(Turn::Follow);
        assert_eq!(follower.run(ms(0), GRACE), []);
        assert_eq!(follower.run(GRACE, GRACE + ms(100)), [INITIATION]);
    }

    #[test]
    fn follower_with_payload_begins_at_once() {
        let world = World::new(Turn::Follow);
        assert_eq!(
            world
                .peer
                .send(b"packet", &world.wire, &mut [0; 256], world.start),
            Ok(())
        );
        assert_eq!(world.sent(), [INITIATION]);
    }

    #[test]
    fn retries_become_rarer() {
        // Pauses of 1, 1, 2, 4, 8 and 8 s, each up to a quarter of a second longer.
        let world = World::new(Turn::Lead);
        assert_eq!(world.run(ms(0), ms(900)).len(), 1);
        assert_eq!(world.run(ms(900), ms(4900)).len(), 3);
        assert_eq!(world.run(ms(4900), ms(60_000)).len(), 2 + 5);
    }

    #[test]
    fn what_waits_is_bounded_and_sent_when_there_are_keys() {
        let world = World::new(Turn::Lead);
        let send = || {
            world
                .peer
                .send(b"packet", &world.wire, &mut [0; 256], world.start)
        };
        for _ in 0..WAITING_COUNT_MAX {
            assert_eq!(send(), Ok(()));
        }
        assert_eq!(send(), Err(DropReason::NoSession));
        world.hear(ms(10));
        let sent = world.sent();
        assert_eq!(
            sent.iter().filter(|kind| **kind == PAYLOAD).count(),
            WAITING_COUNT_MAX
        );
        assert_eq!(
            world.peer.stats(world.start).sent_bytes,
            6 * WAITING_COUNT_MAX as u64
        );
    }

    #[test]
    fn idle_link_is_kept_alive() {
        let world = World::new(Turn::Follow);
        world.hear(ms(0));
        assert_eq!(world.run(ms(0), KEEPALIVE), []);
        assert_eq!(world.run(KEEPALIVE, KEEPALIVE * 2), [PAYLOAD]);
    }

    #[test]
    fn silent_link_is_made_anew_by_the_leader_first() {
        for (turn, silence) in [
            (Turn::Lead, SILENCE_MAX),
            (Turn::Follow, SILENCE_MAX + GRACE),
        ] {
            let world = World::new(turn);
            world.hear(ms(0));
            assert!(!world.run(ms(0), silence).contains(&INITIATION));
            assert!(world.run(silence, silence + ms(100)).contains(&INITIATION));
        }
    }

    #[test]
    fn only_the_leader_renews_old_keys() {
        for (turn, expect) in [(Turn::Lead, true), (Turn::Follow, false)] {
            let world = World::new(turn);
            world.hear(ms(0));
            world.session.old.store(true, Ordering::Relaxed);
            assert_eq!(world.run(ms(0), ms(100)).contains(&INITIATION), expect);
        }
    }

    #[test]
    fn candidates_over_the_limit_are_left_out() {
        let world = World::new(Turn::Lead);
        let mut many: Vec<_> = vec!["127.0.0.1:9".parse().unwrap(); CANDIDATES_MAX];
        many.push(address(&world.far));
        world.peer.set_candidates(&many, world.start);
        assert_eq!(world.run(ms(0), ms(100)), []);
    }

    #[test]
    fn new_candidate_is_tried_without_waiting_for_the_next_retry() {
        let world = World::new(Turn::Lead);
        world.peer.set_candidates(&[], world.start);
        assert_eq!(world.run(ms(0), ms(30_000)), []);
        world
            .peer
            .set_candidates(&[address(&world.far)], world.start + ms(30_000));
        assert_eq!(world.run(ms(30_000), ms(30_100)), [INITIATION]);
    }
}
