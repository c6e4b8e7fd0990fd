//! The policy: which way a gateway is asked, when again, and what is told of it.
//!
//! ```text
//!             gateway, or another address of ours
//!   idle ─────────────────────► asking, way 1 ─► way 2 ─► way 3 ──► resting: 1 min, 2 min … 1 h
//!                                  ▲   │ granted                          │
//!                                  │   ▼                                  │
//!               lost ──────────────┴─ kept ─► stop: taken back            │
//!                                  ▲──────────────────────────────────────┘
//! ```
//! Pure: it is told what came and when, and says what is to be sent. The shell's one socket for PCP
//! and NAT-PMP is connected to the gateway, so that datagrams of others never come here. Drain
//! [`Mapper::poll`] after each [`Mapper::handle`]. Invariant: without a gateway nothing is sent.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use mesh_base::time::Moment;

use super::claim::Claim;
use super::epoch::Epoch;
use super::igd::{Aim, Igd, Verdict};
use super::soap::Post;
use super::ssdp::Place;
use super::{Gateway, Mapping, Report, Standing, WISHES_MAX, Way, Wish};
use super::{is_inside, is_usable, natpmp, pcp};

/// How often a gateway that maps is asked whether it still does; one small packet each time.
pub const GLANCE: Duration = Duration::from_secs(60);
/// Shortest time between two glances, however often the gateway calls.
const GLANCE_MIN: Duration = Duration::from_secs(1);
/// First and longest pause when no way leads to a mapping.
const REST_MIN: Duration = Duration::from_secs(60);
const REST_MAX: Duration = Duration::from_secs(3_600);
/// How long taking back may keep the daemon from its end; three tries fit.
pub const LEAVE_WAIT: Duration = Duration::from_millis(1_500);

/// What the owner wants.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which ways, in order; none switches it off.
    pub ways: Vec<Way>,
    /// Which lease is asked for.
    pub lease: Duration,
    /// A secret of this node's, for nonces.
    pub key: [u8; 32],
}

/// What the world tells.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The default route leads here now, or nowhere.
    Gateway(Option<Gateway>),
    /// A datagram from the gateway's port for PCP and NAT-PMP.
    Datagram(&'a [u8]),
    /// Nobody listens at that port.
    Closed,
    /// Somebody called that gateways have begun anew (RFC 6886, 3.2.1; RFC 6887, 14.1).
    Announced(Ipv4Addr),
    /// An answer to a search.
    Found(&'a [u8]),
    /// An answer to [`Action::Fetch`]; none if there is none.
    Fetched(u32, Option<&'a str>),
    /// The daemon ends.
    Stop,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send to the gateway's port for PCP and NAT-PMP.
    Send(Vec<u8>),
    /// Send to the group of SSDP and to the gateway's port for it.
    Search(Vec<u8>),
    /// Fetch from the gateway's web server.
    Fetch {
        /// For the answer.
        ticket: u32,
        /// Where.
        place: Place,
        /// What to post; none for a plain read.
        post: Option<Post>,
    },
}

/// How far it is.
#[derive(Debug)]
enum Phase {
    Idle,
    /// The way at an index of the settings is asked, or has mapped.
    Active(usize),
    Resting(Moment),
}

/// The policy's state.
#[derive(Debug)]
pub struct Mapper {
    settings: Settings,
    wishes: Vec<Wish>,
    gateway: Option<Gateway>,
    phase: Phase,
    claims: Vec<Claim>,
    igd: Option<Igd>,
    epoch: Epoch,
    /// The outer address as NAT-PMP tells it.
    address: Option<Ipv4Addr>,
    glance: Moment,
    /// The last glance, to bound how often they are.
    glanced: Option<Moment>,
    /// When a gateway that had forgotten is asked again, or was.
    forgotten: Option<Moment>,
    rest: Duration,
    refused: Option<Way>,
    /// When the first way was taken last.
    begun: Moment,
    /// Whether this way has mapped something since it was taken.
    has_held: bool,
    ticket: u32,
    stop: Option<Moment>,
    out: VecDeque<Action>,
}

impl Mapper {
    /// Makes one that knows no gateway yet.
    pub fn new(settings: Settings, wishes: &[Wish]) -> Self {
        Self {
            settings,
            wishes: wishes.iter().copied().take(WISHES_MAX).collect(),
            gateway: None,
            phase: Phase::Idle,
            claims: Vec::new(),
            igd: None,
            epoch: Epoch::default(),
            address: None,
            glance: Moment(0),
            glanced: None,
            forgotten: None,
            rest: REST_MIN,
            refused: None,
            begun: Moment(0),
            has_held: false,
            ticket: 0,
            stop: None,
            out: VecDeque::new(),
        }
    }

    /// Takes one event. `now` never goes back.
    pub fn handle(&mut self, event: Event<'_>, now: Moment) {
        match event {
            Event::Gateway(gateway) => self.gateway_seen(gateway, now),
            Event::Datagram(bytes) => self.datagram(bytes, now),
            Event::Closed => self.closed(now),
            Event::Announced(from) => self.announced(from, now),
            Event::Found(bytes) => {
                if let Some(igd) = &mut self.igd {
                    igd.handle_found(bytes);
                }
            }
            Event::Fetched(ticket, body) => {
                if let Some(igd) = &mut self.igd {
                    igd.handle_fetched(ticket, body, &mut self.claims, now);
                }
            }
            Event::Stop => self.stop(now),
            Event::Tick => {}
        }
        self.go_on(now);
    }

    /// Takes the next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// Returns when [`Event::Tick`] is due at the latest; none if nothing waits.
    pub fn next_deadline(&self) -> Option<Moment> {
        let of_way = match (&self.phase, &self.igd) {
            (Phase::Idle, _) => None,
            (Phase::Resting(until), _) => Some(*until),
            (Phase::Active(_), Some(igd)) => igd.next_deadline(&self.claims),
            (Phase::Active(_), None) => {
                let dues = self.claims.iter().filter_map(|claim| claim.due);
                let ends = self.claims.iter().filter_map(|claim| claim.until);
                let glance = (self.is_held() && self.stop.is_none()).then_some(self.glance);
                dues.chain(ends).chain(glance).min()
            }
        };
        of_way.into_iter().chain(self.stop).min()
    }

    /// Returns whether everything is taken back, or too little time is left for it.
    pub fn is_finished(&self, now: Moment) -> bool {
        let is_asked = |claim: &Claim| claim.due.is_some();
        self.stop
            .is_some_and(|end| end <= now || !self.claims.iter().any(is_asked))
    }

    /// Returns how it stands.
    pub fn report(&self) -> Report {
        let mappings: Vec<Mapping> = self
            .claims
            .iter()
            .filter(|claim| claim.is_held() && self.stop.is_none())
            .filter_map(|claim| {
                Some(Mapping {
                    wish: claim.wish,
                    external: SocketAddrV4::new(self.outside(claim)?, claim.external_port),
                })
            })
            .collect();
        Report {
            standing: self.standing(&mappings),
            gateway: self.gateway.map(|gateway| gateway.router),
            mappings,
        }
    }

    fn standing(&self, mappings: &[Mapping]) -> Standing {
        if self.settings.ways.is_empty() || self.wishes.is_empty() {
            return Standing::Off;
        }
        match (&self.phase, mappings.first(), self.way()) {
            (Phase::Idle, _, _) => Standing::NoGateway,
            (Phase::Active(_), Some(first), Some(way)) if is_inside(*first.external.ip()) => {
                Standing::Inside(way)
            }
            (Phase::Active(_), Some(_), Some(way)) => Standing::Mapped(way),
            (Phase::Active(_), _, _) => Standing::Asking,
            (Phase::Resting(_), _, _) => self.refused.map_or(Standing::Silent, Standing::Refused),
        }
    }

    fn outside(&self, claim: &Claim) -> Option<Ipv4Addr> {
        let of_igd = || self.igd.as_ref().and_then(|igd| igd.address);
        claim.external_ip.or(self.address).or_else(of_igd)
    }

    fn way(&self) -> Option<Way> {
        match self.phase {
            Phase::Active(index) => self.settings.ways.get(index).copied(),
            Phase::Idle | Phase::Resting(_) => None,
        }
    }

    fn is_held(&self) -> bool {
        self.claims.iter().any(Claim::is_held)
    }

    fn gateway_seen(&mut self, gateway: Option<Gateway>, now: Moment) {
        if gateway == self.gateway || self.stop.is_some() {
            return;
        }
        // What the old one maps for an address that we have no more ends with its lease.
        self.gateway = gateway;
        self.rest = REST_MIN;
        self.phase = Phase::Idle;
        self.claims.clear();
        self.igd = None;
        let is_wanted = !self.wishes.is_empty() && !self.settings.ways.is_empty();
        if self.gateway.is_some() && is_wanted {
            self.begin(0, now);
        }
    }

    /// Takes the way at an index; rests if there is none.
    fn begin(&mut self, index: usize, now: Moment) {
        self.igd = None;
        self.address = None;
        self.has_held = false;
        self.claims.clear();
        let (Some(way), Some(gateway)) = (self.settings.ways.get(index), self.gateway) else {
            self.phase = Phase::Resting(now + self.rest);
            self.rest = (self.rest * 2).min(REST_MAX);
            return;
        };
        if index == 0 {
            (self.refused, self.begun) = (None, now);
        }
        self.epoch = Epoch::default();
        self.phase = Phase::Active(index);
        let key = self.settings.key;
        let wishes = self.wishes.iter();
        self.claims = wishes.map(|wish| Claim::new(*wish, key, now)).collect();
        match way {
            Way::Pcp => {}
            Way::NatPmp => self.out.push_back(Action::Send(natpmp::address())),
            Way::Upnp => {
                // Nothing of the claims is due before the gateway is found.
                let igd = Igd::new(gateway, self.settings.lease, self.ticket, now);
                self.igd = Some(igd);
            }
        }
        self.glance = now + GLANCE;
        self.glanced = Some(now);
    }

    fn next_way(&mut self, now: Moment) {
        match self.phase {
            _ if self.stop.is_some() => {
                self.claims.iter_mut().for_each(Claim::give_up);
            }
            // What was lost is looked for from the beginning: the gateway may be another.
            // But not as often as it grants and refuses.
            Phase::Active(_) if self.has_held && GLANCE_MIN <= now.since(self.begun) => {
                self.begin(0, now);
            }
            Phase::Active(index) => self.begin(index + 1, now),
            Phase::Idle | Phase::Resting(_) => {}
        }
    }

    fn closed(&mut self, now: Moment) {
        // A gateway that is starting has mapped before, and is asked again when it is due.
        let is_of_use = self.is_held() && self.stop.is_none();
        // Both ways have one port; the kernel does not tell twice within a second.
        while matches!(self.way(), Some(Way::Pcp | Way::NatPmp)) && !is_of_use {
            self.has_held = false;
            self.next_way(now);
            if self.stop.is_some() {
                return;
            }
        }
    }

    fn announced(&mut self, from: Ipv4Addr, now: Moment) {
        let is_ours = self.gateway.is_some_and(|gateway| gateway.router == from);
        let is_early = self
            .glanced
            .is_some_and(|last| now.since(last) < GLANCE_MIN);
        if !is_ours || is_early {
            return;
        }
        match self.phase {
            // It may have learnt a way with its new beginning.
            Phase::Resting(_) => self.begin(0, now),
            Phase::Active(_) if self.is_held() => {
                (self.glance, self.glanced) = (now, Some(now));
                if self.igd.is_some() {
                    self.claims.iter_mut().for_each(|claim| claim.ask_at(now));
                }
            }
            Phase::Active(_) | Phase::Idle => {}
        }
    }

    fn stop(&mut self, now: Moment) {
        if self.stop.is_some() {
            return;
        }
        self.stop = Some(now + LEAVE_WAIT);
        if self.igd.is_some() {
            return;
        }
        for claim in &mut self.claims {
            // What is under way may be granted in a moment: it is taken back too.
            if claim.is_held() || 0 < claim.tries {
                claim.ask_at(now);
            } else {
                claim.give_up();
            }
        }
    }

    /// Does what is due, and takes the next way if this one is at its end.
    fn go_on(&mut self, now: Moment) {
        match self.phase {
            Phase::Resting(until) if until <= now && self.stop.is_none() => self.begin(0, now),
            _ => {}
        }
        let Some(way) = self.way() else { return };
        let verdict = if self.igd.is_some() {
            self.go_on_igd(now)
        } else {
            self.go_on_udp(way, now);
            Verdict::Open
        };
        if self.is_held() {
            (self.has_held, self.rest) = (true, REST_MIN);
            self.ask_again(now);
        }
        let is_at_end = self.claims.iter().all(|claim| claim.due.is_none());
        if is_at_end && self.igd.as_ref().is_some_and(Igd::is_ready) {
            self.refused = Some(way);
        }
        if verdict == Verdict::Silent || (is_at_end && self.stop.is_none()) {
            self.next_way(now);
            if self.stop.is_none() {
                self.go_on(now);
            }
        }
    }

    /// One of several that was refused is asked for now and then while others are held.
    fn ask_again(&mut self, now: Moment) {
        if self.stop.is_none() {
            let given_up = |claim: &&mut Claim| claim.due.is_none();
            let claims = self.claims.iter_mut().filter(given_up);
            claims.for_each(|claim| claim.ask_at(now + REST_MIN));
        }
    }

    fn go_on_igd(&mut self, now: Moment) -> Verdict {
        let aim = match self.stop {
            Some(_) => Aim::Leave,
            None => Aim::Keep,
        };
        let Some(igd) = &mut self.igd else {
            return Verdict::Silent;
        };
        let out = &mut self.out;
        let verdict = igd.handle_time(&mut self.claims, aim, now, &mut |action| {
            out.push_back(action);
        });
        self.ticket = igd.ticket();
        verdict
    }

    fn go_on_udp(&mut self, way: Way, now: Moment) {
        let Some(gateway) = self.gateway else { return };
        if self.is_held() && self.glance <= now && self.stop.is_none() {
            (self.glance, self.glanced) = (now + GLANCE, Some(now));
            self.out.push_back(Action::Send(match way {
                Way::Pcp => pcp::announce(gateway.own),
                Way::NatPmp | Way::Upnp => natpmp::address(),
            }));
        }
        let lease_s = match self.stop {
            Some(_) => 0,
            None => u32::try_from(self.settings.lease.as_secs()).unwrap_or(u32::MAX),
        };
        for claim in &mut self.claims {
            if !claim.handle_time(now) {
                continue;
            }
            // The address of NAT-PMP is asked for with the first tries of mappings.
            if way == Way::NatPmp && self.address.is_none() && 1 < claim.tries && lease_s != 0 {
                self.out.push_back(Action::Send(natpmp::address()));
            }
            self.out
                .push_back(Action::Send(request(way, gateway, claim, lease_s)));
        }
    }

    fn datagram(&mut self, bytes: &[u8], now: Moment) {
        match self.way() {
            Some(Way::Pcp) => match pcp::Answer::of_bytes(bytes) {
                Some(answer) => self.pcp(answer, now),
                // A gateway of NAT-PMP says so in its own words (RFC 6886, 3.5).
                None if bytes.first() == Some(&0) && !self.is_held() => self.next_way(now),
                None => {}
            },
            Some(Way::NatPmp) => {
                if let Some(answer) = natpmp::Answer::of_bytes(bytes) {
                    self.natpmp(answer, now);
                }
            }
            Some(Way::Upnp) | None => {}
        }
    }

    fn pcp(&mut self, answer: pcp::Answer, now: Moment) {
        self.epoch_told(answer.epoch_s, now);
        let pcp::Body::Map {
            nonce,
            wish,
            external,
        } = answer.body
        else {
            return;
        };
        let grant = Grant {
            is_granted: answer.result == 0,
            ip: Some(*external.ip()),
            port: external.port(),
            lifetime_s: answer.lifetime_s,
        };
        let is_it = |claim: &Claim| claim.wish == wish && claim.nonce == nonce;
        self.answered(Way::Pcp, is_it, grant, now);
    }

    /// Takes what a gateway says of one claim.
    fn answered(&mut self, way: Way, is_it: impl Fn(&Claim) -> bool, grant: Grant, now: Moment) {
        let Some(claim) = self.claims.iter_mut().find(|claim| is_it(claim)) else {
            return;
        };
        if self.stop.is_some() {
            // An answer from before the end was asked for is no answer to it.
            if grant.lifetime_s == 0 || !grant.is_granted {
                claim.give_up();
            }
            return;
        }
        let is_use = grant.port != 0 && 0 < grant.lifetime_s && grant.ip.is_none_or(is_usable);
        if grant.is_granted && is_use {
            claim.external_port = grant.port;
            claim.external_ip = grant.ip;
            claim.hold(Some(seconds(grant.lifetime_s)), now);
        } else {
            claim.give_up();
            self.refused = Some(way);
        }
    }

    fn natpmp(&mut self, answer: natpmp::Answer, now: Moment) {
        self.epoch_told(answer.epoch_s, now);
        let (wish, external_port, lifetime_s) = match answer.body {
            natpmp::Body::Address(ip) => {
                if answer.result == 0 {
                    self.address = Some(ip).filter(|ip| is_usable(*ip));
                }
                return;
            }
            natpmp::Body::Short => {
                // That one is still about PCP, which was asked before.
                let is_late = answer.result == natpmp::UNSUPPORTED_VERSION;
                if !is_late && !self.is_held() {
                    self.refused = Some(Way::NatPmp);
                    self.next_way(now);
                }
                return;
            }
            natpmp::Body::Map {
                wish,
                external_port,
                lifetime_s,
            } => (wish, external_port, lifetime_s),
        };
        let grant = Grant {
            is_granted: answer.result == 0,
            // It tells that apart.
            ip: None,
            port: external_port,
            lifetime_s,
        };
        self.answered(Way::NatPmp, |claim| claim.wish == wish, grant, now);
    }

    fn epoch_told(&mut self, epoch_s: u32, now: Moment) {
        let is_asked_soon = self.forgotten.is_some_and(|again| now < again);
        if self.epoch.handle(epoch_s, now) || self.stop.is_some() || is_asked_soon {
            return;
        }
        // Once a second, however often its clock jumps: the answers tell the time too.
        let asked = self
            .forgotten
            .map_or(now, |last| now.max(last + GLANCE_MIN));
        self.forgotten = Some(asked);
        // It has forgotten, maybe its outer address too. What is held is asked for, and counts
        // until it answers: the same port is likely.
        for claim in self.claims.iter_mut().filter(|claim| claim.is_held()) {
            claim.ask_at(asked);
        }
        if self.way() == Some(Way::NatPmp) {
            self.glance = self.glance.min(asked);
        }
    }
}

/// What a gateway says of one claim.
struct Grant {
    is_granted: bool,
    ip: Option<Ipv4Addr>,
    port: u16,
    lifetime_s: u32,
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

fn request(way: Way, gateway: Gateway, claim: &Claim, lease_s: u32) -> Vec<u8> {
    // Whoever takes back names no outer port (RFC 6886, 3.4; RFC 6887, 15.1).
    let external_port = match lease_s {
        0 => 0,
        _ => claim.external_port,
    };
    if way == Way::NatPmp {
        return natpmp::map(claim.wish, external_port, lease_s);
    }
    let request = pcp::MapRequest {
        own: gateway.own,
        nonce: claim.nonce,
        wish: claim.wish,
        external_port,
        lifetime_s: lease_s,
    };
    request.to_bytes()
}

#[cfg(test)]
mod tests;
