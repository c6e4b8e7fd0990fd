//! One link: when to make keys, whereto datagrams go, what waits meanwhile.
//!
//! ```text
//!             lead: at once · other side: after GRACE · either: with payload
//!   no session ────────────── handshake to every candidate ───────────────► session
//!        ▲                    retry ¼, ¼, 1, 2, 4, 8, 8 s …                 │ KEEPALIVE
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
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_routing::answer::Budget;
use mesh_routing::carriage::{Carriage, Carrier};
use mesh_routing::ecn::Ecn;
use mesh_routing::packet::Packet;
use mesh_routing::plan::Role;
use mesh_routing::probe;
use mesh_routing::reach::{Pair, drawn, word};
use mesh_routing::table::DropReason;

use crate::exit::{Exit, Route, Way};
use crate::limits::{
    CANDIDATES_MAX, GRACE, REKEY_AGE, RETRY_FIRST, RETRY_MAX, RETRY_MIN, SILENCE_MAX, TICK_AGE_MAX,
    WAITING_COUNT_MAX,
};
use crate::session::{INITIATION, Opened, Session};
use crate::sys::lock;

mod carry;
mod reach;
mod width;

/// What a link has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStats {
    /// The peer.
    pub peer: NodeId,
    /// Where its packets come from by UDP; none before the first.
    pub endpoint: Option<SocketAddr>,
    /// What carries packets to it over the link's own underlay.
    pub carrier: Carrier,
    /// Milliseconds since its last authenticated datagram, on whatever way; none if never.
    pub silent_ms: Option<u64>,
    /// Milliseconds since one came over the underlay; none if never.
    pub link_silent_ms: Option<u64>,
    /// When that was.
    pub link_heard: Option<Instant>,
    /// Bytes of packets from it, talk and others' parcels included; without what engines say about
    /// straight ways.
    pub received_bytes: u64,
    /// Bytes of packets to it, likewise.
    pub sent_bytes: u64,
    /// Bytes of other nodes' parcels that we handed to it.
    pub relayed_bytes: u64,
    /// Links that its last parcel crossed, as the relays counted them; none if none ever came.
    pub hops: Option<u8>,
}

/// Handshakes that follow each other fast: who has just met may not know us yet.
const RETRIES_FIRST: u32 = 2;

/// Handshakes without an answer after which a packet no longer waits where no way is known: one and
/// a half to two seconds after the first.
const ATTEMPTS_UNTOLD: u32 = RETRIES_FIRST + 1;

/// Handshakes without an answer after which the pause to the next is its longest.
const ATTEMPTS_RESTLESS: u32 = RETRIES_FIRST + 4;

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
    /// Whether a session is being made or something waits for one.
    restless: AtomicBool,
    /// Bytes of programs to it since it was looked whether they are worth a straight way.
    flow: AtomicU64,
}

/// What came of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Whether the link works again after a silence, or for the first time.
    pub risen: bool,
    /// The length of the packet in it.
    pub packet_len: Option<usize>,
    /// Whether [`Peer::obey`] has something to do.
    pub asks: bool,
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
    node: NodeId,
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
    /// When a handshake was last repeated for a cookie.
    heeded: Option<Instant>,
    waiting: VecDeque<Vec<u8>>,
    /// UDP or a stream.
    carriage: Carriage,
    /// Which of the two the next handshake without a session tries, while the stream carries.
    is_stream_next: bool,
    /// What was last said to carry the link.
    carrier_told: Carrier,
    pair: Pair,
    reach: reach::Memory,
    /// Whether long packets pass on a straight way.
    width: width::Width,
}

impl Peer {
    /// Makes a link without keys yet; nobody may be able to guess `secret`.
    pub fn new(
        who: Who,
        index: u32,
        turn: Turn,
        session: Box<dyn Session>,
        secret: u64,
        now: Instant,
    ) -> Self {
        let link = Link {
            session,
            node: who.node,
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
            heeded: None,
            waiting: VecDeque::new(),
            carriage: Carriage::new(Moment(0)),
            is_stream_next: false,
            carrier_told: Carrier::Udp,
            pair: Pair::new(turn == Turn::Lead, secret),
            reach: reach::Memory::new(now),
            // Another one, so that no knock tells a number of the width.
            width: width::Width::new(drawn(secret, u64::MAX)),
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
            restless: AtomicBool::new(true),
            flow: AtomicU64::new(0),
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

    /// Returns the length of the longest packet of programs that left for it in a parcel since the
    /// last call.
    pub fn take_use(&self) -> Option<u16> {
        Some(self.longest.swap(0, Ordering::Relaxed)).filter(|len| *len != 0)
    }

    /// Returns whether one more of its probes may be answered.
    pub fn may_be_answered(&self, now: Moment) -> bool {
        lock(&self.answers).take(now)
    }

    /// Returns whether it waits for a session, so that time should pass in short steps.
    pub fn is_restless(&self) -> bool {
        self.restless.load(Ordering::Relaxed)
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
        let moment = link.moment(now);
        link.pair.handle_guesses(&kept, moment);
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
        self.send_in(&mut lock(&self.link), packet, route, exit, out, now)
    }

    /// The same with a packet of programs, whose ways are watched.
    pub fn carry(
        &self,
        packet: &[u8],
        route: Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        self.flow.fetch_add(packet.len() as u64, Ordering::Relaxed);
        let mut link = lock(&self.link);
        if route == Route::Around && link.shortcut().is_none() {
            let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
            self.longest.fetch_max(len, Ordering::Relaxed);
        }
        self.send_in(&mut link, packet, route, exit, out, now)
    }

    fn send_in(
        &self,
        link: &mut Link,
        packet: &[u8],
        route: Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        link.tick_if_stale(|| route, exit, out, now);
        if !link.session.ready() {
            self.restless.store(true, Ordering::Relaxed);
            // Nobody has answered for long and no neighbour knows a way: what waits already keeps
            // the handshakes going, and whoever sends should know.
            let waits = if route == Route::Unknown && ATTEMPTS_UNTOLD < link.attempt_count {
                Err(DropReason::Unreachable)
            } else {
                link.wait(packet)
            };
            if link.next_attempt <= now {
                link.attempt(route, exit, out, now);
            }
            return waits;
        }
        link.seal_and_send(packet, route, exit, out, now)?;
        self.sent_bytes
            .fetch_add(packet.len() as u64, Ordering::Relaxed);
        if route == Route::Unknown && link.is_silent(now) {
            // It went to where the peer was last seen, in case; whoever sends should know.
            return Err(DropReason::Unreachable);
        }
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
        let way = link.own_way(packet.len(), now);
        link.seal(packet, way.ok_or(DropReason::NoSession)?, exit, out, now)?;
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
            Ok(Opened::Cookie) => {
                // It answers our last handshake, so that one is repeated with it.
                if link.may_heed(now) {
                    link.attempt_count = link.attempt_count.saturating_sub(1);
                    link.attempt(route(), exit, out, now);
                }
                return Received::default();
            }
            Ok(opened) => opened,
            Err(_) => return Received::default(),
        };
        if let (Opened::Packet(len), Way::Direct(from)) = (opened, came)
            && let Some(word) = self.knock_in(out.get(..len).unwrap_or_default())
        {
            return link.take_knock(word, from, now);
        }
        let risen = link.hear(came, now);
        let asks = link.pair.has_actions();
        if let Opened::Packet(len) = opened {
            if !word::looks_like_one(out.get(..len).unwrap_or_default()) {
                self.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
            }
            // `out` is taken: if somebody waits, the next tick sends them.
            return Received {
                risen,
                packet_len: Some(len),
                asks,
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
            asks,
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
        link.drive_carriage(exit, out, now);
        if link.session.ready() {
            self.flush(&mut link, &route, exit, out, now);
            let pause = link.keepalive();
            let idle = pause.is_some_and(|pause| pause <= now.duration_since(link.spoke));
            if let (true, Some(way)) = (idle, link.own_way(0, now)) {
                // Refused only when the socket is full, and then the link is anything but idle.
                let _ = link.seal(&[], way, exit, out, now);
            }
        }
        if link.next_attempt <= now && link.wants_handshake(self.turn, now) {
            link.attempt(route(), exit, out, now);
        }
        self.restless.store(link.is_restless(), Ordering::Relaxed);
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
            carrier: link.carriage.carrier(),
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
            self.spread(datagram, route(), exit, now);
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
    fn way(&mut self, route: Route, len: usize, now: Instant) -> Option<Way> {
        match route {
            Route::Around => Some(self.shortcut().map_or(Way::Mesh, Way::Direct)),
            Route::Straight | Route::Unknown => self.own_way(len, now),
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
        let way = self.way(route, packet.len(), now);
        let way = way.ok_or(DropReason::Unreachable)?;
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
        if let (Way::Direct(_), true) = (way, self.carriage.is_in_doubt())
            && !is_engines(packet)
        {
            // The session takes one copy; what engines ask each other is about this very way.
            let _ = exit.send(datagram, Way::Stream(self.node), self.address);
        }
        exit.send_marked(datagram, way, self.address, Ecn::of(packet))
    }

    /// Returns whether its underlay has been silent for longer than a sound link is.
    fn is_silent(&self, now: Instant) -> bool {
        SILENCE_MAX <= self.silence(now)
    }

    /// Returns for how long its underlay has been silent.
    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard_directly.unwrap_or(self.born))
    }

    /// Returns whether somebody waits for its session. A neighbour that did not answer for long is
    /// looked for in long steps.
    fn is_restless(&self) -> bool {
        let wanted = self.role == Role::Neighbour && !self.session.ready();
        let makes = wanted && self.attempt_count <= ATTEMPTS_RESTLESS;
        let asks = self.session.ready() && self.carriage.is_busy();
        makes || asks || !self.waiting.is_empty() || self.pair.is_busy()
    }

    fn note_spoken(&mut self, way: Way, now: Instant) {
        if way != Way::Mesh {
            self.spoke = now;
        }
    }

    /// Returns whether the link was silent before.
    fn hear(&mut self, came: Way, now: Instant) -> bool {
        self.heard = Some(now);
        if self.role == Role::Far {
            self.attempt_count = 0;
        }
        if !self.hear_way(came, now) {
            return false;
        }
        self.attempt_count = 0;
        if let Way::Direct(from) = came {
            let moment = self.moment(now);
            self.pair.handle_packet(from, moment);
        }
        self.note_heard_directly(now)
    }

    fn note_heard_directly(&mut self, now: Instant) -> bool {
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
        // Whoever answers calls has the session: then it is knocked, and that says more.
        let lost = SILENCE_MAX + grace <= self.silence(now) && !self.is_met(now);
        lost || (turn == Turn::Lead && old)
    }

    /// Begins a handshake with everybody who could be the peer; the first answer is the endpoint.
    fn attempt(&mut self, route: Route, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) {
        let Some(len) = self.session.initiate(out) else {
            return;
        };
        if let Some(datagram) = out.get(..len) {
            self.spread(datagram, route, exit, now);
            self.spoke = now;
        }
        let pause = match self.attempt_count.checked_sub(RETRIES_FIRST) {
            Some(count) => (RETRY_MIN * (1 << count.min(3))).min(RETRY_MAX),
            None => RETRY_FIRST,
        };
        self.attempt_count = self.attempt_count.saturating_add(1);
        self.next_attempt = now + pause + crate::sys::jitter(pause / 4);
    }

    /// Returns whether a handshake may be repeated for a cookie that came: not for each of many.
    fn may_heed(&mut self, now: Instant) -> bool {
        let is_soon = |heeded: Instant| now.saturating_duration_since(heeded) < RETRY_MIN;
        if self.heeded.is_some_and(is_soon) {
            return false;
        }
        self.heeded = Some(now);
        true
    }

    /// Sends a handshake initiation everywhere it may arrive, and anything else on its way.
    fn spread(&mut self, datagram: &[u8], route: Route, exit: &mut Exit<'_>, now: Instant) {
        if datagram.first() != Some(&INITIATION) {
            if let Some(way) = self.way(route, datagram.len(), now) {
                let _ = exit.send(datagram, way, self.address);
            }
            return;
        }
        // An initiation counts once, and goes where it is likely to arrive: with a straight way,
        // nowhere else.
        let stream = self.handshake_stream();
        let straight = self.pair.straight().filter(|_| stream.is_none());
        if let (true, Some(at)) = (self.session.ready(), straight) {
            let _ = exit.send(datagram, Way::Direct(at), self.address);
            return;
        }
        if route == Route::Around && (stream.is_none() || !self.session.ready()) {
            let _ = exit.send(datagram, Way::Mesh, self.address);
        }
        if let Some(way) = stream {
            let _ = exit.send(datagram, way, self.address);
            return;
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

/// Returns whether a packet is what one engine says to another about a way.
fn is_engines(packet: &[u8]) -> bool {
    Packet::parse(packet).is_ok_and(|packet| probe::is_probe(&packet))
}

#[cfg(test)]
mod tests;
