//! Straight ways as a link sees them: what the pair's machine wants done, done.
//!
//! ```text
//!   knocks, calls, ──► Pair (pure) ─┬─► Call: in parcels, and straight if there is such a way
//!   packets, time                   ├─► Knock, Answer: straight to a place
//!                                   └─► Use: the link's endpoint; Leave: over the mesh
//! ```
//! Decides what counts as a flow that is worth a straight way, and when a node is told where we see
//! it. Leaves to [`mesh_routing::reach`] where to look for a peer. Invariant: a knock is sealed in
//! the session of the pair, and whatever came out of it is who says so.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mesh_base::time::Moment;
use mesh_routing::answer::Budget;
use mesh_routing::packet::Packet;
use mesh_routing::plan::Role;
use mesh_routing::reach::limits::{
    ALIVE_INTERVAL, FLOW_LEN_MIN, FLOW_WINDOW, PAUSE_MAX, SILENCE_MAX, TELL_AGAIN,
};
use mesh_routing::reach::word::{self, Call, KNOCK_LEN, Word};
use mesh_routing::reach::{Action, Look};

use super::{Link, Peer, Received};
use crate::exit::{Exit, Route, Way};
use crate::limits::KEEPALIVE;
use crate::reach::View;
use crate::sys::lock;

/// How long after its last burst a flow is worth looking for a straight way.
const FLOW_KEPT: Duration = Duration::from_secs(10);

/// What a link remembers for its pair.
#[derive(Debug)]
pub(super) struct Memory {
    /// Whether there was a session when we looked last.
    had_session: bool,
    /// Whether others carried packets to it.
    relayed: bool,
    /// Which of our places the pair knows.
    known: (u64, u64),
    /// Where we told the peer that we see it, and when.
    told: Option<(SocketAddr, Instant)>,
    /// Since when bytes are counted, and how many there were.
    window: (Instant, u64),
    /// Until when there is a flow that is worth a straight way.
    flows: Option<Instant>,
    /// How many knocks may still be answered.
    answers: Budget,
}

impl Memory {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            had_session: false,
            relayed: false,
            known: (0, 0),
            told: None,
            window: (now, 0),
            flows: None,
            answers: Budget::default(),
        }
    }
}

impl Peer {
    /// Returns whether it was heard straight so lately that it can carry something.
    pub fn is_near(&self, now: Instant) -> bool {
        let link = lock(&self.link);
        link.role == Role::Neighbour && link.silence(now) <= SILENCE_MAX
    }

    /// Takes a call.
    pub fn handle_call(&self, call: &Call, now: Instant) {
        let mut link = lock(&self.link);
        let moment = link.moment(now);
        link.pair.handle_call(call, moment);
    }

    /// Lets time pass for the search of a straight way. Returns whether a call was made.
    pub fn seek(
        &self,
        own: &View,
        route: Route,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> bool {
        let bytes = self.flow.swap(0, Ordering::Relaxed);
        let mut link = lock(&self.link);
        link.note_flow(bytes, now);
        link.note_route(route, now);
        if !link.session.ready() {
            link.reach.had_session = false;
            return false;
        }
        let moment = link.moment(now);
        if !std::mem::replace(&mut link.reach.had_session, true) {
            link.pair.handle_session(moment);
        }
        let known = std::mem::replace(&mut link.reach.known, (own.version, own.moved));
        if known.0 != own.version {
            let moved = known.1 != own.moved;
            link.pair.handle_own_places(moved, moment);
            if moved {
                // Whoever hears us follows.
                link.reach.told = None;
            }
        }
        let look = Look {
            wanted: link.role == Role::Neighbour || link.reach.flows.is_some(),
            used: 0 < bytes,
            relayed: route == Route::Around,
        };
        link.pair.handle_time(look, moment);
        let called = link.obey(own, exit, out, now);
        link.tell(own, exit, out, now);
        link.measure(0 < bytes, exit, out, now);
        // What leaves by a way that routing does not watch is watched here.
        let watched = 0 < bytes && link.shortcut().is_some();
        let restless = link.is_restless() || watched;
        self.restless.store(restless, Ordering::Relaxed);
        called
    }

    /// Does what the pair wants done. Returns whether a call was made.
    pub fn obey(&self, own: &View, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) -> bool {
        lock(&self.link).obey(own, exit, out, now)
    }

    /// Reads a knock or the answer to one.
    pub(super) fn knock_in(&self, packet: &[u8]) -> Option<Word> {
        if packet.len() != KNOCK_LEN {
            return None;
        }
        let packet = Packet::parse(packet).ok()?;
        let word = word::read(&packet).filter(|_| packet.source() == self.address)?;
        matches!(word, Word::Knock(_) | Word::Heard(_)).then_some(word)
    }
}

impl Link {
    /// Returns the time on the clock of the link's machines; only differences matter to them.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        let micros = now.saturating_duration_since(self.born).as_micros();
        // Their zero is before all that can have happened.
        Moment(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// Returns the place of a straight way that routing does not know of, once long packets are
    /// known to pass there.
    pub(super) fn shortcut(&self) -> Option<SocketAddr> {
        self.proven_straight().filter(|at| self.width.carries(*at))
    }

    /// Returns that place whether long packets pass or not.
    pub(super) fn proven_straight(&self) -> Option<SocketAddr> {
        let proven = self.role == Role::Far && self.pair.is_proven();
        self.pair.straight().filter(|_| proven)
    }

    /// Returns how often it says something over the underlay, if it has to.
    pub(super) fn keepalive(&self) -> Option<Duration> {
        match self.role {
            Role::Neighbour => Some(KEEPALIVE),
            Role::Far => self.pair.straight().map(|_| ALIVE_INTERVAL),
        }
    }

    /// Returns whether the peer has been heard on some way so lately that its session must be as
    /// sound as ours.
    pub(super) fn is_met(&self, now: Instant) -> bool {
        let heard = self.heard.map(|heard| now.saturating_duration_since(heard));
        let lately = heard.is_some_and(|ago| ago <= PAUSE_MAX + KEEPALIVE);
        lately && self.pair.is_answered()
    }

    /// Takes a knock or the answer to one.
    pub(super) fn take_knock(&mut self, word: Word, from: SocketAddr, now: Instant) -> Received {
        self.heard = Some(now);
        let moment = self.moment(now);
        match word {
            Word::Knock(nonce) if self.reach.answers.take(moment) => {
                self.pair.handle_knock(from, nonce, moment);
            }
            Word::Heard(nonce) => self.pair.handle_answer(from, nonce, moment),
            _ => {}
        }
        let risen = self.pair.straight() == Some(from) && {
            self.hear_way(Way::Direct(from), now);
            self.attempt_count = 0;
            self.note_heard_directly(now)
        };
        Received {
            risen,
            packet_len: None,
            asks: self.pair.has_actions(),
        }
    }

    fn note_flow(&mut self, bytes: u64, now: Instant) {
        let (begun, counted) = self.reach.window;
        self.reach.window = if FLOW_WINDOW <= now.saturating_duration_since(begun) {
            (now, bytes)
        } else {
            (begun, counted.saturating_add(bytes))
        };
        if FLOW_LEN_MIN <= self.reach.window.1 {
            self.reach.flows = Some(now + FLOW_KEPT);
        }
        self.reach.flows = self.reach.flows.filter(|until| now < *until);
    }

    /// Lets a session that nobody could make begin at once where there is a way now.
    fn note_route(&mut self, route: Route, now: Instant) {
        let before = std::mem::replace(&mut self.reach.relayed, route == Route::Around);
        if self.reach.relayed && !before && !self.session.ready() {
            self.attempt_count = 0;
            self.next_attempt = self.next_attempt.min(now);
        }
    }

    fn obey(&mut self, own: &View, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) -> bool {
        let mut called = false;
        while let Some(action) = self.pair.poll() {
            match action {
                Action::Call { number, is_answer } => {
                    let places = own.places.clone();
                    let call = Word::Call(Call {
                        number,
                        is_answer,
                        places,
                    });
                    called = true;
                    self.utter(own, &call, Way::Mesh, exit, out, now);
                    if let Some(way) = self.own_way(0, now) {
                        self.utter(own, &call, way, exit, out, now);
                    }
                }
                Action::Knock { to, nonce } => {
                    self.utter(own, &Word::Knock(nonce), Way::Direct(to), exit, out, now);
                }
                Action::Answer { to, nonce } => {
                    self.utter(own, &Word::Heard(nonce), Way::Direct(to), exit, out, now);
                }
                Action::Use(at) => {
                    tracing::debug!(address = %self.address, "a straight way");
                    self.endpoint = Some(at);
                    self.tell(own, exit, out, now);
                }
                Action::Leave => {
                    tracing::debug!(address = %self.address, "no straight way any more");
                }
            }
        }
        called
    }

    /// Tells the peer where we see it, if it does not know.
    fn tell(&mut self, own: &View, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) {
        let Some(at) = self.pair.straight() else {
            return;
        };
        let knows = |(told, since): (SocketAddr, Instant)| {
            told == at && now.saturating_duration_since(since) < TELL_AGAIN
        };
        if !self.reach.told.is_some_and(knows) {
            let said = self.utter(own, &Word::Observed(at), Way::Direct(at), exit, out, now);
            self.reach.told = said.then_some((at, now));
        }
    }

    /// Says a word on a way; returns whether it left.
    fn utter(
        &mut self,
        own: &View,
        word: &Word,
        way: Way,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> bool {
        let packet = word::write(word, own.address, self.address);
        // What does not leave now is said again.
        self.seal(&packet, way, exit, out, now).is_ok()
    }
}
