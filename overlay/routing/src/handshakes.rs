//! Which handshakes of others are opened, which must prove where they come from, which are dropped.
//!
//! ```text
//!   handshake (its mac1 is right) ─► do we know its address, does a cookie prove it?
//!      room for its place and for its kind ─► open       a key exchange: the dear part
//!      no room, nothing proven             ─► prove      a cookie goes there: cheap, and counted
//!      no room for that either             ─► ignore     costs what it cost to get here
//! ```
//! This is section 5.3 of the WireGuard paper with a limit on every arrow. What comes from an
//! address that may be forged counts for its network, /24 or /64, and all such together have little
//! room: a flood is made of it. What comes from where a peer is expected or was heard, and what
//! brings a cookie, has room of its own, of which the flood takes nothing. Leaves to the caller
//! what a cookie is and where peers are expected.
//!
//! Invariant: what is remembered has a fixed size, however many sources there are. Places that
//! fall into the same row share its room; whoever does not know the seed cannot aim at one.

use std::net::IpAddr;

use mesh_base::time::Moment;

use crate::limits::{
    COOKIES_PER_SECOND, HANDSHAKE_ROWS, HANDSHAKES_KNOWN_PER_SECOND, HANDSHAKES_PER_PLACE,
    HANDSHAKES_PROVEN_PER_SECOND, HANDSHAKES_STRANGE_PER_SECOND,
};
use mesh_base::chance::Chance;

/// How well we know an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody is expected there.
    Stranger,
    /// A peer may be there, as far as we were told.
    Known,
}

/// What a handshake shows of where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: the address may be forged.
    Nothing,
    /// A cookie of ours: whoever sent it hears what we send there.
    Cookie,
}

/// A handshake message of somebody, not opened yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// Where it claims to come from.
    pub address: IpAddr,
    /// Whether a peer is expected there.
    pub standing: Standing,
    /// What it shows.
    pub proof: Proof,
}

/// What to do with a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Open it: it is worth a key exchange.
    Open,
    /// Send a cookie to where it claims to come from.
    Prove,
    /// Nothing.
    Ignore,
}

/// Counts handshakes. Feed it each one with [`Handshakes::handle_handshake`], and each address from
/// which something came that only a peer can make with [`Handshakes::handle_proven`].
#[derive(Debug)]
pub struct Handshakes {
    seed: u64,
    /// Without proof: from strangers, from known addresses.
    strange: Lane,
    known: Lane,
    /// With a cookie, likewise.
    strange_proven: Lane,
    known_proven: Lane,
    cookies_strange: Lane,
    cookies_known: Lane,
    /// Where peers were heard last, one for each row.
    heard: Box<[Option<IpAddr>]>,
}

impl Handshakes {
    /// Begins to count; `seed` is drawn once and told to nobody.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            strange: Lane::new(HANDSHAKES_STRANGE_PER_SECOND),
            known: Lane::new(HANDSHAKES_KNOWN_PER_SECOND),
            strange_proven: Lane::new(HANDSHAKES_PROVEN_PER_SECOND),
            known_proven: Lane::new(HANDSHAKES_PROVEN_PER_SECOND),
            cookies_strange: Lane::new(COOKIES_PER_SECOND),
            cookies_known: Lane::new(COOKIES_PER_SECOND),
            heard: vec![None; HANDSHAKE_ROWS].into(),
        }
    }

    /// Notes that a peer was heard there; the newest of a row is kept.
    pub fn handle_proven(&mut self, address: IpAddr) {
        let row = self.row(place_of(address));
        if let Some(heard) = self.heard.get_mut(row)
            && *heard != Some(address)
        {
            *heard = Some(address);
        }
    }

    /// Decides about a handshake.
    pub fn handle_handshake(&mut self, handshake: Handshake, now: Moment) -> Reply {
        let is_known = handshake.standing == Standing::Known || self.has_heard(handshake.address);
        let place = match (is_known, handshake.proof) {
            (false, Proof::Nothing) => network_of(handshake.address),
            _ => place_of(handshake.address),
        };
        let row = self.row(place);
        let (lane, cookies) = match (is_known, handshake.proof) {
            (false, Proof::Nothing) => (&mut self.strange, Some(&mut self.cookies_strange)),
            (true, Proof::Nothing) => (&mut self.known, Some(&mut self.cookies_known)),
            (false, Proof::Cookie) => (&mut self.strange_proven, None),
            (true, Proof::Cookie) => (&mut self.known_proven, None),
        };
        if lane.take(row, now) {
            return Reply::Open;
        }
        let may_ask = cookies.is_some_and(|cookies| cookies.take(row, now));
        if may_ask {
            return Reply::Prove;
        }
        Reply::Ignore
    }

    fn has_heard(&self, address: IpAddr) -> bool {
        let heard = self.heard.get(self.row(place_of(address)));
        heard.is_some_and(|heard| *heard == Some(address))
    }

    fn row(&self, place: u128) -> usize {
        // Each half of an address is scattered: without the seed, a row says nothing of another.
        let (high, low) = ((place >> 64) as u64, place as u64);
        // The seed hides the row; the mixing only spreads it.
        let mixed = Chance::new(low ^ Chance::new(high ^ self.seed).bits()).bits();
        (mixed % HANDSHAKE_ROWS as u64) as usize
    }
}

/// What one place may do, for each row, and all of them together.
#[derive(Debug)]
struct Lane {
    rows: Box<[Meter]>,
    all: Meter,
    all_interval_us: u64,
}

impl Lane {
    fn new(per_second: u64) -> Self {
        Self {
            rows: vec![Meter::default(); HANDSHAKE_ROWS].into(),
            all: Meter::default(),
            all_interval_us: SECOND_US / per_second,
        }
    }

    /// Takes one out of both or none.
    fn take(&mut self, row: usize, now: Moment) -> bool {
        let Some(row) = self.rows.get_mut(row) else {
            return false;
        };
        let row_after = row.after(SECOND_US / HANDSHAKES_PER_PLACE, now);
        let all_after = self.all.after(self.all_interval_us, now);
        let (Some(row_after), Some(all_after)) = (row_after, all_after) else {
            return false;
        };
        (*row, self.all) = (row_after, all_after);
        true
    }
}

const SECOND_US: u64 = 1_000_000;

/// A burst of one second's worth, then a steady rate: the moment at which it will be full again.
#[derive(Debug, Clone, Copy, Default)]
struct Meter(u64);

impl Meter {
    /// Returns what it is after one was taken; none if there is none left.
    fn after(self, interval_us: u64, now: Moment) -> Option<Self> {
        let full_at = self.0.max(now.0).saturating_add(interval_us);
        (full_at <= now.0.saturating_add(SECOND_US)).then_some(Self(full_at))
    }
}

/// What counts as one place when the address may be forged.
fn network_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => place_of(IpAddr::V4(four)) & !0xff,
        IpAddr::V6(_) => place_of(address),
    }
}

/// What counts as one place when somebody is there: who has one IPv6 address has its /64.
fn place_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    const START: Moment = Moment(1_000_000_000);

    fn four(bits: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(bits))
    }

    fn handshake(address: IpAddr) -> Handshake {
        Handshake {
            address,
            standing: Standing::Stranger,
            proof: Proof::Nothing,
        }
    }

    /// Floods for a second with forged addresses in a different network each, 50,000 of them.
    /// Returns how many were opened, asked to prove and ignored.
    fn flood(handshakes: &mut Handshakes, base: Handshake) -> [u64; 3] {
        let mut counts = [0; 3];
        for number in 0..50_000_u32 {
            let address = four(0x0a00_0000 + number.wrapping_mul(2_654_435_761) % (1 << 24));
            let now = START + Duration::from_micros(u64::from(number) * 20);
            let reply = handshakes.handle_handshake(Handshake { address, ..base }, now);
            counts[reply as usize] += 1;
        }
        counts
    }

    #[test]
    fn flood_from_everywhere_opens_and_is_answered_a_fixed_number_of_times() {
        let mut handshakes = Handshakes::new(7);
        let [opened, asked, ignored] = flood(&mut handshakes, handshake(four(0)));
        // A burst, and what comes back within the second.
        assert!(
            (100..=2 * HANDSHAKES_STRANGE_PER_SECOND).contains(&opened),
            "{opened}"
        );
        assert!(asked <= 2 * COOKIES_PER_SECOND, "{asked}");
        assert!(48_000 < ignored, "{ignored}");
    }

    #[test]
    fn flood_from_one_network_leaves_room_for_others() {
        let mut handshakes = Handshakes::new(7);
        let mut opened = 0;
        for number in 0..50_000_u32 {
            let junk = handshake(four(0x0a00_0000 + number % 256));
            opened += u64::from(handshakes.handle_handshake(junk, START) == Reply::Open);
        }
        assert_eq!(opened, HANDSHAKES_PER_PLACE, "one network's");
        assert_eq!(
            handshakes.handle_handshake(handshake(four(1)), START),
            Reply::Open
        );
        let six = |bits: u128| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | bits));
        let mut opened = 0;
        for number in 0..1000 {
            opened += u64::from(
                handshakes.handle_handshake(handshake(six(number)), START) == Reply::Open,
            );
        }
        assert_eq!(opened, HANDSHAKES_PER_PLACE, "of a /64");
    }

    #[test]
    fn flood_of_strangers_takes_nothing_from_known_addresses_and_from_who_has_a_cookie() {
        let mut handshakes = Handshakes::new(7);
        flood(&mut handshakes, handshake(four(0)));
        // With the last of them.
        let at = START + Duration::from_micros(999_980);
        let honest = handshake(four(0x0a00_0001));
        assert_ne!(handshakes.handle_handshake(honest, at), Reply::Open);
        for (standing, proof) in [
            (Standing::Known, Proof::Nothing),
            (Standing::Known, Proof::Cookie),
            (Standing::Stranger, Proof::Cookie),
        ] {
            let told = Handshake {
                standing,
                proof,
                ..honest
            };
            assert_eq!(
                handshakes.handle_handshake(told, at),
                Reply::Open,
                "{told:?}"
            );
        }
        handshakes.handle_proven(honest.address);
        assert_eq!(
            handshakes.handle_handshake(honest, at),
            Reply::Open,
            "a peer was heard there"
        );
    }

    #[test]
    fn flood_that_forges_known_addresses_leaves_who_has_a_cookie_its_room() {
        let mut handshakes = Handshakes::new(7);
        let forged = Handshake {
            standing: Standing::Known,
            ..handshake(four(0))
        };
        let [opened, ..] = flood(&mut handshakes, forged);
        assert!(opened <= 2 * HANDSHAKES_KNOWN_PER_SECOND, "{opened}");
        let at = START + Duration::from_secs(1);
        let proven = Handshake {
            proof: Proof::Cookie,
            ..forged
        };
        assert_eq!(handshakes.handle_handshake(proven, at), Reply::Open);
    }

    #[test]
    fn who_has_a_cookie_is_never_asked_for_another_and_has_a_limit() {
        let mut handshakes = Handshakes::new(7);
        let proven = Handshake {
            proof: Proof::Cookie,
            ..handshake(four(5))
        };
        let replies: Vec<Reply> = (0..100)
            .map(|_| handshakes.handle_handshake(proven, START))
            .collect();
        let (opened, rest) = replies.split_at(HANDSHAKES_PER_PLACE as usize);
        assert!(opened.iter().all(|reply| *reply == Reply::Open));
        assert!(rest.iter().all(|reply| *reply == Reply::Ignore));
        let later = START + Duration::from_millis(60);
        assert_eq!(handshakes.handle_handshake(proven, later), Reply::Open);
    }

    #[test]
    fn proven_addresses_have_a_limit_and_the_newest_are_kept() {
        let mut handshakes = Handshakes::new(7);
        for number in 0..100_000 {
            handshakes.handle_proven(four(number));
        }
        assert!(handshakes.has_heard(four(99_999)));
        let kept = (0..100_000).filter(|number| handshakes.has_heard(four(*number)));
        assert!(kept.count() <= HANDSHAKE_ROWS);
    }
}
