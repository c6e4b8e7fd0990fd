//! Which handshakes of others are opened, which must prove where they come from, which are dropped.
//!
//! ```text
//!   knock (its mac1 is right) ─► how well do we know its address, and does a cookie prove it?
//!      room for its place and for its kind ─► open       a key exchange: the dear part
//!      no room, nothing proven             ─► prove      a cookie goes there: cheap, and counted too
//!      no room for that either             ─► ignore     costs what it cost to get here
//! ```
//! This is section 5.3 of the WireGuard paper with a limit on every arrow. A knock whose source may
//! be forged counts for its network, /24 or /64, and all such together have little room: they are
//! what a flood is made of. Those from addresses where a peer is expected or was heard, and those
//! with a cookie, have room of their own, so the flood takes none of it. Leaves to the caller what a
//! cookie is and where peers are expected.
//!
//! Invariant: what is remembered has a fixed size, however many sources there are. Places that
//! fall into the same row share its room; whoever does not know the seed cannot aim at one.

use std::net::IpAddr;

use mesh_base::time::Moment;

use crate::limits::{
    COOKIES_PER_SECOND, KNOCK_ROWS, KNOCKS_KNOWN_PER_SECOND, KNOCKS_PER_PLACE,
    KNOCKS_PROVEN_PER_SECOND, KNOCKS_STRANGE_PER_SECOND,
};

/// How well we know an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody is expected there.
    Stranger,
    /// A peer may be there, as far as we were told.
    Known,
}

/// What a knock shows of where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: the address may be forged.
    Nothing,
    /// A cookie of ours: whoever sent it hears what we send there.
    Cookie,
}

/// A handshake message of somebody, not opened yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knock {
    /// Where it claims to come from.
    pub address: IpAddr,
    /// Whether a peer is expected there.
    pub standing: Standing,
    /// What it shows.
    pub proof: Proof,
}

/// What to do with a knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Open it: it is worth a key exchange.
    Open,
    /// Send a cookie to where it claims to come from.
    Prove,
    /// Nothing.
    Ignore,
}

/// Counts knocks. Feed it each knock with [`Knocks::handle_knock`] and each address from which
/// something came that only a peer can make with [`Knocks::handle_proven`].
#[derive(Debug)]
pub struct Knocks {
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

impl Knocks {
    /// Begins to count; `seed` is drawn once and told to nobody.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            strange: Lane::new(KNOCKS_STRANGE_PER_SECOND),
            known: Lane::new(KNOCKS_KNOWN_PER_SECOND),
            strange_proven: Lane::new(KNOCKS_PROVEN_PER_SECOND),
            known_proven: Lane::new(KNOCKS_PROVEN_PER_SECOND),
            cookies_strange: Lane::new(COOKIES_PER_SECOND),
            cookies_known: Lane::new(COOKIES_PER_SECOND),
            heard: vec![None; KNOCK_ROWS].into(),
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

    /// Decides about a knock.
    pub fn handle_knock(&mut self, knock: Knock, now: Moment) -> Reply {
        let is_known = knock.standing == Standing::Known || self.has_heard(knock.address);
        let place = match (is_known, knock.proof) {
            (false, Proof::Nothing) => network_of(knock.address),
            _ => place_of(knock.address),
        };
        let row = self.row(place);
        let (lane, cookies) = match (is_known, knock.proof) {
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
        // Both halves of an address, each scattered: a peer's row says nothing to who lacks the seed.
        let (high, low) = ((place >> 64) as u64, place as u64);
        let mixed = scattered(low ^ scattered(high ^ self.seed));
        (mixed % KNOCK_ROWS as u64) as usize
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
            rows: vec![Meter::default(); KNOCK_ROWS].into(),
            all: Meter::default(),
            all_interval_us: SECOND_US / per_second,
        }
    }

    /// Takes one out of both or none.
    fn take(&mut self, row: usize, now: Moment) -> bool {
        let Some(row) = self.rows.get_mut(row) else {
            return false;
        };
        let row_after = row.after(SECOND_US / KNOCKS_PER_PLACE, now);
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

/// The finalizer of SplitMix64: each bit of the input moves half of the output.
fn scattered(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
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

    fn knock(address: IpAddr) -> Knock {
        Knock {
            address,
            standing: Standing::Stranger,
            proof: Proof::Nothing,
        }
    }

    /// Floods for a second with forged addresses in a different network each, 50,000 of them.
    /// Returns how many were opened, asked to prove and ignored.
    fn flood(knocks: &mut Knocks, base: Knock) -> [u64; 3] {
        let mut counts = [0; 3];
        for number in 0..50_000_u32 {
            let address = four(0x0a00_0000 + number.wrapping_mul(2_654_435_761) % (1 << 24));
            let now = START + Duration::from_micros(u64::from(number) * 20);
            let reply = knocks.handle_knock(Knock { address, ..base }, now);
            counts[reply as usize] += 1;
        }
        counts
    }

    #[test]
    fn flood_from_everywhere_opens_and_is_answered_a_fixed_number_of_times() {
        let mut knocks = Knocks::new(7);
        let [opened, asked, ignored] = flood(&mut knocks, knock(four(0)));
        // A burst, and what comes back within the second.
        assert!(
            (100..=2 * KNOCKS_STRANGE_PER_SECOND).contains(&opened),
            "{opened}"
        );
        assert!(asked <= 2 * COOKIES_PER_SECOND, "{asked}");
        assert!(48_000 < ignored, "{ignored}");
    }

    #[test]
    fn flood_from_one_network_leaves_room_for_others() {
        let mut knocks = Knocks::new(7);
        let mut opened = 0;
        for number in 0..50_000_u32 {
            let junk = knock(four(0x0a00_0000 + number % 256));
            opened += u64::from(knocks.handle_knock(junk, START) == Reply::Open);
        }
        assert_eq!(opened, KNOCKS_PER_PLACE, "one network's");
        assert_eq!(knocks.handle_knock(knock(four(1)), START), Reply::Open);
        let six = |bits: u128| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | bits));
        let mut opened = 0;
        for number in 0..1000 {
            opened += u64::from(knocks.handle_knock(knock(six(number)), START) == Reply::Open);
        }
        assert_eq!(opened, KNOCKS_PER_PLACE, "of a /64");
    }

    #[test]
    fn flood_of_strangers_takes_nothing_from_known_addresses_and_from_who_has_a_cookie() {
        let mut knocks = Knocks::new(7);
        flood(&mut knocks, knock(four(0)));
        // With the last of them.
        let at = START + Duration::from_micros(999_980);
        let honest = knock(four(0x0a00_0001));
        assert_ne!(knocks.handle_knock(honest, at), Reply::Open);
        for (standing, proof) in [
            (Standing::Known, Proof::Nothing),
            (Standing::Known, Proof::Cookie),
            (Standing::Stranger, Proof::Cookie),
        ] {
            let told = Knock {
                standing,
                proof,
                ..honest
            };
            assert_eq!(knocks.handle_knock(told, at), Reply::Open, "{told:?}");
        }
        knocks.handle_proven(honest.address);
        assert_eq!(
            knocks.handle_knock(honest, at),
            Reply::Open,
            "a peer was heard there"
        );
    }

    #[test]
    fn flood_that_forges_known_addresses_leaves_who_has_a_cookie_its_room() {
        let mut knocks = Knocks::new(7);
        let forged = Knock {
            standing: Standing::Known,
            ..knock(four(0))
        };
        let [opened, ..] = flood(&mut knocks, forged);
        assert!(opened <= 2 * KNOCKS_KNOWN_PER_SECOND, "{opened}");
        let at = START + Duration::from_secs(1);
        let proven = Knock {
            proof: Proof::Cookie,
            ..forged
        };
        assert_eq!(knocks.handle_knock(proven, at), Reply::Open);
    }

    #[test]
    fn who_has_a_cookie_is_never_asked_for_another_and_has_a_limit() {
        let mut knocks = Knocks::new(7);
        let proven = Knock {
            proof: Proof::Cookie,
            ..knock(four(5))
        };
        let replies: Vec<Reply> = (0..100)
            .map(|_| knocks.handle_knock(proven, START))
            .collect();
        let (opened, rest) = replies.split_at(KNOCKS_PER_PLACE as usize);
        assert!(opened.iter().all(|reply| *reply == Reply::Open));
        assert!(rest.iter().all(|reply| *reply == Reply::Ignore));
        let later = START + Duration::from_millis(60);
        assert_eq!(knocks.handle_knock(proven, later), Reply::Open);
    }

    #[test]
    fn proven_addresses_have_a_limit_and_the_newest_are_kept() {
        let mut knocks = Knocks::new(7);
        for number in 0..100_000 {
            knocks.handle_proven(four(number));
        }
        assert!(knocks.has_heard(four(99_999)));
        let kept = (0..100_000).filter(|number| knocks.has_heard(four(*number)));
        assert!(kept.count() <= KNOCK_ROWS);
    }
}
