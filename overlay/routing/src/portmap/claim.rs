//! One port of ours on its way to a port of the gateway, and when something is due for it.
//!
//! ```text
//!   wanted ── asked, up to TRIES_MAX times ──► held ── due ──► asked again ──► held
//!     ▲                                         │ not renewed in time
//!     └──────────── lost ◄──────────────────────┘
//! ```
//! Decides how often and when; the mapper and the IGD decide what is sent. Invariant: a claim that
//! is neither held nor due is given up.

use std::net::Ipv4Addr;
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::time::Moment;

use super::pcp::Nonce;
use super::{Transport, Wish};

/// How often one request is sent: 250 ms doubling is what NAT-PMP wants (RFC 6886, 3.1), but after
/// 3.75 s the next way is of more use than its nine times and two minutes.
const TRIES_MAX: u32 = 4;
/// The first pause between two of them.
const RETRY: Duration = Duration::from_millis(250);
/// Shortest time between two renewals, whatever lease a gateway grants.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// Longest lease that is believed: a day (RFC 6887, 15).
const LEASE_MAX: Duration = Duration::from_secs(86_400);
/// Most outer ports that are tried where a gateway does not choose: all but one in a million tries
/// end sooner if three of four ports are taken.
const DRAWS_MAX: u32 = 48;
/// Ports below are for services of the system.
const PORT_MIN: u16 = 1024;

/// One port of ours.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which.
    pub wish: Wish,
    /// The outer port: asked for, or granted.
    pub external_port: u16,
    /// The outer address, if the gateway says one for each mapping.
    pub external_ip: Option<Ipv4Addr>,
    /// Since when it may be lost: none while it is not held.
    pub until: Option<Moment>,
    /// When a renewal is due; only of use while it is held.
    pub renew: Moment,
    /// When something is to be sent.
    pub due: Option<Moment>,
    /// How often the request at hand was sent.
    pub tries: u32,
    /// Proves to a PCP gateway that it is ours.
    pub nonce: Nonce,
    /// How many outer ports belonged to others.
    draws: u32,
    key: [u8; 32],
}

impl Claim {
    /// Makes one that is due now. The nonce comes from `key`, which only this node knows, so that
    /// it is the same after a restart: a gateway would refuse to renew what another nonce began.
    pub fn new(wish: Wish, key: [u8; 32], now: Moment) -> Self {
        let digest = drawn(&key, wish, b"nonce", 0);
        let nonce: Nonce = digest.as_bytes().first_chunk().copied().unwrap_or_default();
        Self {
            wish,
            external_port: wish.port,
            external_ip: None,
            until: None,
            renew: now,
            due: Some(now),
            tries: 0,
            nonce,
            draws: 0,
            key,
        }
    }

    /// Returns whether the gateway maps it, as far as we know.
    pub fn is_held(&self) -> bool {
        self.until.is_some()
    }

    /// Notes that the gateway maps it for a lease; without an end if there is none.
    pub fn hold(&mut self, lease: Option<Duration>, now: Moment) {
        let lease = lease.map(|lease| lease.min(LEASE_MAX));
        self.until = Some(lease.map_or(Moment(u64::MAX), |lease| now + lease));
        // Half of the lease (RFC 6886, 3.3), or now and then.
        self.renew = now + (lease.unwrap_or(LEASE_MAX) / 2).max(RENEW_MIN);
        self.due = Some(self.renew);
        self.tries = 0;
        self.draws = 0;
    }

    /// Notes that the gateway does not map it; nothing is due any more.
    pub fn give_up(&mut self) {
        self.until = None;
        self.due = None;
        self.tries = 0;
    }

    /// Makes something due, from the beginning.
    pub fn ask_at(&mut self, due: Moment) {
        self.due = Some(due);
        self.tries = 0;
    }

    /// Notes how late it is; returns whether something is to be sent now.
    pub fn handle_time(&mut self, now: Moment) -> bool {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            self.ask_at(now);
        }
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        if self.tries < TRIES_MAX {
            self.due = Some(now + RETRY * (1 << self.tries));
            self.tries += 1;
            return true;
        }
        match self.until {
            None => self.give_up(),
            // Half of what is left, again and again (RFC 6887, 11.2.1).
            Some(until) => self.ask_at(now + (until.since(now) / 2).max(RENEW_MIN)),
        }
        false
    }

    /// Chooses another outer port; returns false if too many were others'.
    pub fn draw(&mut self) -> bool {
        self.until = None;
        self.draws += 1;
        let digest = drawn(&self.key, self.wish, b"port", self.draws);
        let [high, low, ..] = *digest.as_bytes();
        let span = u16::MAX - PORT_MIN;
        self.external_port = PORT_MIN + u16::from_be_bytes([high, low]) % span;
        self.draws <= DRAWS_MAX
    }
}

fn drawn(key: &[u8; 32], wish: Wish, what: &[u8], count: u32) -> Digest {
    let transport = match wish.transport {
        Transport::Udp => b"udp",
        Transport::Tcp => b"tcp",
    };
    let port = wish.port.to_be_bytes();
    Digest::of_parts(&[key, what, transport, &port, &count.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish {
        transport: Transport::Udp,
        port: 4_000,
    };

    fn ms(count: u64) -> Moment {
        Moment(count * 1_000)
    }

    /// Returns when something is sent within a time, looking each 10 ms.
    fn sent(claim: &mut Claim, from_ms: u64, to_ms: u64) -> Vec<u64> {
        (from_ms..to_ms)
            .step_by(10)
            .filter(|at| claim.handle_time(ms(*at)))
            .collect()
    }

    #[test]
    fn unanswered_claim_is_sent_four_times_and_given_up() {
        let mut claim = Claim::new(WISH, [7; 32], ms(0));
        assert_eq!(sent(&mut claim, 0, 60_000), [0, 250, 750, 1_750]);
        assert_eq!((claim.due, claim.is_held()), (None, false));
    }

    #[test]
    fn lease_is_renewed_at_half_and_lost_at_its_end() {
        let mut claim = Claim::new(WISH, [7; 32], ms(0));
        claim.hold(Some(Duration::from_secs(40)), ms(0));
        let renewals = sent(&mut claim, 0, 40_000);
        assert_eq!(renewals.first(), Some(&20_000));
        assert!(8 <= renewals.len(), "{renewals:?}");
        assert!(claim.is_held());
        claim.handle_time(ms(40_000));
        assert!(!claim.is_held());
        assert!(claim.due.is_some(), "it is asked for again");
    }

    #[test]
    fn tiny_lease_is_renewed_once_a_second_at_most() {
        let mut claim = Claim::new(WISH, [7; 32], ms(0));
        claim.hold(Some(Duration::ZERO), ms(0));
        assert_eq!(claim.renew, ms(1_000));
    }

    #[test]
    fn endless_lease_is_held_for_ever() {
        let mut claim = Claim::new(WISH, [7; 32], ms(0));
        claim.hold(None, ms(0));
        claim.handle_time(ms(1 << 40));
        assert!(claim.is_held());
    }

    #[test]
    fn nonce_is_the_same_after_a_restart_and_another_for_each_port() {
        let nonce = |wish| Claim::new(wish, [7; 32], ms(0)).nonce;
        let other = Wish {
            transport: Transport::Tcp,
            ..WISH
        };
        assert_eq!(nonce(WISH), nonce(WISH));
        assert_ne!(nonce(WISH), nonce(other));
        assert_ne!(nonce(WISH), Nonce::default());
    }

    #[test]
    fn drawn_ports_differ_and_end() {
        let mut claim = Claim::new(WISH, [7; 32], ms(0));
        let mut ports = std::collections::BTreeSet::new();
        while claim.draw() {
            assert!(PORT_MIN <= claim.external_port);
            ports.insert(claim.external_port);
        }
        assert!(40 < ports.len(), "{}", ports.len());
    }
}
