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
//! One session serves a pair of nodes on whatever way: over the underlay where routing says that
//! the link is best, in parcels over other links where it says so, and both ways for a handshake. A
//! link is kept alive over its own underlay only; what comes in parcels says nothing about it.
//! Leaves to [`crate::session`] what the bytes are, and to [`crate::plane`] which session a packet
//! takes.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_routing::answer::Budget;
use mesh_routing::plan::Role;
use mesh_routing::table::DropReason;

use crate::exit::{Exit, Route, Way};
use crate::limits::{
    CANDIDATES_MAX, GRACE, KEEPALIVE, REKEY_AGE, RETRY_MAX, RETRY_MIN, SILENCE_MAX, TICK_AGE_MAX,
    WAITING_COUNT_MAX,
};
use crate::session::{INITIATION, Opened, Session};
use crate::sys::lock;

/// What a link has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStats {
    /// The peer.
    pub peer: NodeId,
    /// Where its packets come from; none before the first.
    pub endpoint: Option<SocketAddr>,
    /// Milliseconds since its last authenticated datagram, on whatever way; none if never.
    pub silent_ms: Option<u64>,
    /// Milliseconds since one came over the underlay; none if never.
    pub link_silent_ms: Option<u64>,
    /// When that was.
    pub link_heard: Option<Instant>,
    /// Bytes of packets from it, talk and others' parcels included.
    pub received_bytes: u64,
    /// Bytes of packets to it, likewise.
    pub sent_bytes: u64,
    /// Bytes of other nodes' parcels that we handed to it.
    pub relayed_bytes: u64,
    /// Links that its last parcel crossed, as the relays counted them; none if none ever came.
    pub hops: Option<u8>,
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
    /// Its address in the overlay.
    pub address: Ipv6Addr,
    /// Its X25519 key.
    pub key: [u8; 32],
    /// Names our half of the session in the peer's datagrams; 24 bits.
    pub index: u32,
    turn: Turn,
    link: Mutex<Link>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    relayed_bytes: AtomicU64,
    /// Zero before the first parcel.
    hops: AtomicU8,
    /// Longest packet of programs that left in a parcel since it was asked for; zero for none.
    longest: AtomicU16,
    /// How many of its probes may still be answered.
    answers: Mutex<Budget>,
}

/// What came of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Whether the link works again after a silence, or for the first time.
    pub risen: bool,
    /// The length of the packet in it.
    pub packet_len: Option<usize>,
}

/// Who a [`Peer`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// The node.
    pub node: NodeId,
    /// Its address in the overlay.
    pub address: Ipv6Addr,
    /// Its X25519 key.
    pub key: [u8; 32],
}

struct Link {
    session: Box<dyn Session>,
    address: Ipv6Addr,
    role: Role,
    endpoint: Option<SocketAddr>,
    candidates: Vec<SocketAddr>,
    born: Instant,
    heard: Option<Instant>,
    /// The same over the underlay only.
    heard_directly: Option<Instant>,
    /// When something last left over the underlay.
    spoke: Instant,
    ticked: Instant,
    attempt_count: u32,
    next_attempt: Instant,
    waiting: VecDeque<Vec<u8>>,
}

impl Peer {
    /// Makes a link without keys yet.
    pub fn new(who: Who, index: u32, turn: Turn, session: Box<dyn Session>, now: Instant) -> Self {
        let link = Link {
            session,
            address: who.address,
            role: Role::Neighbour,
            endpoint: None,
            candidates: Vec::new(),
            born: now,
            heard: None,
            heard_directly: None,
            spoke: now,
            ticked: now,
            attempt_count: 0,
            next_attempt: now,
            waiting: VecDeque::new(),
        };
        Self {
            node: who.node,
            address: who.address,
            key: who.key,
            index,
            turn,
            link: Mutex::new(link),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            relayed_bytes: AtomicU64::new(0),
            hops: AtomicU8::new(0),
            longest: AtomicU16::new(0),
            answers: Mutex::default(),
        }
    }

    /// Says whether the peer is to be a neighbour.
    pub fn set_role(&self, role: Role) {
        lock(&self.link).role = role;
    }

    /// Notes how many links its last parcel crossed.
    pub fn set_hops(&self, hops: u8) {
        self.hops.store(hops, Ordering::Relaxed);
    }

    /// Notes that a packet of programs leaves for it in a parcel.
    pub fn note_use(&self, len: usize) {
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        self.longest.fetch_max(len, Ordering::Relaxed);
    }

    /// Returns the length of the longest of these since the last call.
    pub fn take_use(&self) -> Option<u16> {
        Some(self.longest.swap(0, Ordering::Relaxed)).filter(|len| *len != 0)
    }

    /// Returns whether one more of its probes may be answered.
    pub fn may_be_answered(&self, now: Moment) -> bool {
        lock(&self.answers).take(now)
    }

    /// Returns whether packets for it can be sealed.
    pub fn is_ready(&self) -> bool {
        lock(&self.link).session.ready()
    }

    /// Lets the next handshake of a session that somebody waits for come soon.
    pub fn hasten(&self, now: Instant) {
        let mut link = lock(&self.link);
        link.attempt_count = link.attempt_count.min(1);
        link.next_attempt = link.next_attempt.min(now + RETRY_MIN);
    }

    /// Puts a packet of this engine into a parcel, if there is a session.
    pub fn pack(
        &self,
        packet: &[u8],
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        lock(&self.link).seal(packet, Way::Mesh, exit, out, now)
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
        route: Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let mut link = lock(&self.link);
        link.tick_if_stale(|| route, exit, out, now);
        if !link.session.ready() {
            let waits = link.wait(packet);
            if link.next_attempt <= now {
                link.attempt(route, exit, out, now);
            }
            return waits;
        }
        link.seal_and_send(packet, route, exit, out, now)?;
        self.sent_bytes
            .fetch_add(packet.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a packet over the link's own underlay or not at all: routing talk, which must prove
    /// that this link works.
    pub fn say(
        &self,
        packet: &[u8],
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let mut link = lock(&self.link);
        let endpoint = link.endpoint.ok_or(DropReason::NoSession)?;
        link.seal(packet, Way::Direct(endpoint), exit, out, now)?;
        self.sent_bytes
            .fetch_add(packet.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Hands on a parcel of other nodes, over the link's own underlay only.
    pub fn relay(
        &self,
        parcel: &[u8],
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        self.say(parcel, exit, out, now)?;
        self.relayed_bytes
            .fetch_add(parcel.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a datagram. Returns whether it ended a silence of the link, and the length of the
    /// packet that now stands at the start of `out`. Most datagrams need no `route`, so it is
    /// looked up when one does.
    pub fn receive(
        &self,
        datagram: &[u8],
        came: Way,
        route: impl Fn() -> Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Received {
        let mut link = lock(&self.link);
        link.tick_if_stale(&route, exit, out, now);
        let opened = match link.session.open(datagram, out) {
            Ok(opened) if opened != Opened::Cookie => opened,
            _ => return Received::default(),
        };
        let risen = link.hear(came, self.node, now);
        if let Opened::Packet(len) = opened {
            self.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
            // `out` is taken: if somebody waits, the next tick sends them.
            return Received {
                risen,
                packet_len: Some(len),
            };
        }
        if let Opened::Reply(len) = opened
            && let Some(reply) = out.get(..len)
        {
            // An answer goes back where the question came from, whatever routing thinks.
            let _ = exit.send(reply, came, self.address);
            link.note_spoken(came, now);
        }
        self.flush(&mut link, route, exit, out, now);
        Received {
            risen,
            packet_len: None,
        }
    }

    /// Lets time pass: renews keys, keeps the link alive, looks for a peer that is silent.
    pub fn drive(
        &self,
        route: impl Fn() -> Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) {
        let mut link = lock(&self.link);
        link.tick(&route, exit, out, now);
        if link.session.ready() {
            self.flush(&mut link, &route, exit, out, now);
            let idle = KEEPALIVE <= now.duration_since(link.spoke);
            if let (Role::Neighbour, true, Some(endpoint)) = (link.role, idle, link.endpoint) {
                // Refused only when the socket is full, and then the link is anything but idle.
                let _ = link.seal(&[], Way::Direct(endpoint), exit, out, now);
            }
        }
        if link.next_attempt <= now && link.wants_handshake(self.turn, now) {
            link.attempt(route(), exit, out, now);
        }
    }

    /// Returns what the link has seen.
    pub fn stats(&self, now: Instant) -> LinkStats {
        let link = lock(&self.link);
        let silent = |heard: Option<Instant>| {
            let ms = heard.map(|heard| now.saturating_duration_since(heard).as_millis());
            ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX))
        };
        LinkStats {
            peer: self.node,
            endpoint: link.endpoint,
            silent_ms: silent(link.heard),
            link_silent_ms: silent(link.heard_directly),
            link_heard: link.heard_directly,
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            relayed_bytes: self.relayed_bytes.load(Ordering::Relaxed),
            hops: Some(self.hops.load(Ordering::Relaxed)).filter(|hops| *hops != 0),
        }
    }

    fn flush(
        &self,
        link: &mut Link,
        route: impl Fn() -> Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) {
        while link.session.ready() {
            let Some(packet) = link.waiting.pop_front() else {
                return;
            };
            if link.seal_and_send(&packet, route(), exit, out, now).is_ok() {
                self.sent_bytes
                    .fetch_add(packet.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Link {
    fn tick_if_stale(
        &mut self,
        route: impl Fn() -> Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) {
        if TICK_AGE_MAX < now.saturating_duration_since(self.ticked) {
            self.tick(route, exit, out, now);
        }
    }

    fn tick(
        &mut self,
        route: impl Fn() -> Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) {
        self.ticked = now;
        let len = self.session.tick(out);
        if let Some(datagram) = len.and_then(|len| out.get(..len)) {
            self.spread(datagram, route(), exit);
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

    /// Returns how payload travels: as routing says; before it says anything, to where the peer was
    /// last seen.
    fn way(&self, route: Route) -> Option<Way> {
        match route {
            Route::Around => Some(Way::Mesh),
            Route::Straight | Route::Unknown => self.endpoint.map(Way::Direct),
        }
    }

    fn seal_and_send(
        &mut self,
        packet: &[u8],
        route: Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let way = self.way(route).ok_or(DropReason::NoSession)?;
        self.seal(packet, way, exit, out, now)
    }

    fn seal(
        &mut self,
        packet: &[u8],
        way: Way,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let len = self
            .session
            .seal(packet, out)
            .map_err(|_| DropReason::NoSession)?;
        let datagram = out.get(..len).ok_or(DropReason::NoSession)?;
        self.note_spoken(way, now);
        exit.send(datagram, way, self.address)
    }

    fn note_spoken(&mut self, way: Way, now: Instant) {
        if let Way::Direct(_) = way {
            self.spoke = now;
        }
    }

    /// Returns whether the link was silent before.
    fn hear(&mut self, came: Way, node: NodeId, now: Instant) -> bool {
        self.heard = Some(now);
        if self.role == Role::Far {
            self.attempt_count = 0;
        }
        let Way::Direct(from) = came else {
            return false;
        };
        if self.endpoint != Some(from) {
            tracing::debug!(peer = %node.key().short(), "link has a new endpoint");
            self.endpoint = Some(from);
        }
        self.attempt_count = 0;
        let before = self.heard_directly.replace(now);
        before.is_none_or(|before| SILENCE_MAX <= now.saturating_duration_since(before))
    }

    fn wants_handshake(&self, turn: Turn, now: Instant) -> bool {
        let grace = match turn {
            Turn::Lead => Duration::ZERO,
            Turn::Follow => GRACE,
        };
        let old = self.session.age().is_none_or(|age| REKEY_AGE <= age);
        if self.role == Role::Far {
            // Its keys are renewed while it is used: boringtun asks for that with the payload.
            return !self.session.ready() && !self.waiting.is_empty();
        }
        if !self.session.ready() {
            let alone = now.saturating_duration_since(self.born);
            return grace <= alone || !self.waiting.is_empty();
        }
        let silent = now.saturating_duration_since(self.heard_directly.unwrap_or(self.born));
        SILENCE_MAX + grace <= silent || (turn == Turn::Lead && old)
    }

    /// Begins a handshake with everybody who could be the peer; the first answer is the endpoint.
    fn attempt(&mut self, route: Route, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) {
        let Some(len) = self.session.initiate(out) else {
            return;
        };
        if let Some(datagram) = out.get(..len) {
            self.spread(datagram, route, exit);
            self.spoke = now;
        }
        let doubled = RETRY_MIN * (1 << self.attempt_count.saturating_sub(1).min(3));
        self.attempt_count = self.attempt_count.saturating_add(1);
        self.next_attempt = now + doubled.min(RETRY_MAX) + crate::sys::jitter(RETRY_MIN / 4);
    }

    /// Sends a handshake initiation everywhere and anything else on its way.
    fn spread(&self, datagram: &[u8], route: Route, exit: &mut Exit<'_>) {
        if datagram.first() != Some(&INITIATION) {
            if let Some(way) = self.way(route) {
                let _ = exit.send(datagram, way, self.address);
            }
            return;
        }
        // An initiation counts once: with a session, this one looks for the underlay, and must not
        // be overtaken by its own copy.
        if route == Route::Around && !self.session.ready() {
            let _ = exit.send(datagram, Way::Mesh, self.address);
        }
        let guesses = match self.role {
            Role::Far if route == Route::Around => &[][..],
            Role::Far | Role::Neighbour => &self.candidates,
        };
        let known = self.endpoint.iter();
        let others = guesses
            .iter()
            .filter(|guess| self.endpoint != Some(**guess));
        for to in known.chain(others) {
            let _ = exit.send(datagram, Way::Direct(*to), self.address);
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
    use crate::wire::Wire;

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

    const FAR: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 1);

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
            let who = Who {
                node,
                address: FAR,
                key: [0; 32],
            };
            let peer = Peer::new(who, 7, turn, Box::new(session.clone()), start);
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
                let mut exit = Exit::new(&self.wire);
                let now = self.start + at;
                self.peer
                    .drive(|| Route::Unknown, &mut exit, &mut [0; 256], now);
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
            self.hear_on(Way::Direct(from), at);
        }

        fn hear_on(&self, came: Way, at: Duration) -> Exit<'_> {
            let (mut exit, now) = (Exit::new(&self.wire), self.start + at);
            let out = &mut [0; 256];
            let got = self
                .peer
                .receive(&[2], came, || Route::Unknown, &mut exit, out, now);
            assert_eq!(got.packet_len, None);
            exit
        }

        fn send(&self, route: Route) -> (Result<(), DropReason>, Exit<'_>) {
            let mut exit = Exit::new(&self.wire);
            let sent = self
                .peer
                .send(b"packet", route, &mut exit, &mut [0; 256], self.start);
            (sent, exit)
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
        assert_eq!(world.send(Route::Unknown).0, Ok(()));
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
        let send = || world.send(Route::Unknown).0;
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

    /// Returns the types of the messages in the parcels that wait.
    fn parcels(mut exit: Exit<'_>) -> Vec<u8> {
        std::iter::from_fn(|| exit.take())
            .map(|parcel| parcel[mesh_routing::transit::OVERHEAD])
            .collect()
    }

    #[test]
    fn payload_goes_the_way_that_routing_says() {
        let world = World::new(Turn::Lead);
        world.hear(ms(0));
        for (route, direct, around) in [
            (Route::Unknown, &[PAYLOAD][..], &[][..]),
            (Route::Straight, &[PAYLOAD], &[]),
            (Route::Around, &[], &[PAYLOAD]),
        ] {
            let (sent, exit) = world.send(route);
            assert_eq!(sent, Ok(()));
            assert_eq!((&world.sent()[..], &parcels(exit)[..]), (direct, around));
        }
    }

    #[test]
    fn parcels_say_nothing_about_the_link() {
        let world = World::new(Turn::Lead);
        world.hear_on(Way::Mesh, ms(0));
        let stats = world.peer.stats(world.start);
        assert_eq!((stats.silent_ms, stats.link_silent_ms), (Some(0), None));
        assert_eq!(stats.endpoint, None);
        let talk = world.peer.say(
            b"hello",
            &mut Exit::new(&world.wire),
            &mut [0; 256],
            world.start,
        );
        assert_eq!(talk, Err(DropReason::NoSession));
        assert!(
            world
                .run(SILENCE_MAX, SILENCE_MAX + ms(100))
                .contains(&INITIATION)
        );
    }

    #[test]
    fn far_peer_is_left_alone_until_there_is_payload() {
        let world = World::new(Turn::Lead);
        world.peer.set_role(Role::Far);
        assert_eq!(world.run(ms(0), ms(30_000)), []);
        let (sent, exit) = world.send(Route::Around);
        assert_eq!((sent, parcels(exit)), (Ok(()), vec![INITIATION]));
        assert_eq!(world.sent(), [], "its underlay is nobody's guess");
        let exit = world.hear_on(Way::Mesh, ms(0));
        assert_eq!(parcels(exit), [], "no way is known any more");
        assert_eq!(world.run(KEEPALIVE, KEEPALIVE * 9), [], "no keepalive");
    }
}
