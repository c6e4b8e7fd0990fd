//! The words that all rooms of the speaker share, each with its arithmetic.
//!
//! A value that exists is lawful: a prefix has no bits behind its length, a router-id is neither
//! all zeros nor all ones (RFC 8966, §4.1.3).

use std::fmt;
use std::net::Ipv6Addr;

/// A sequence number modulo 2¹⁶ (RFC 8966, §3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seqno(pub u16);

impl Seqno {
    /// Returns whether this number comes before `other` on the circle.
    pub fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0)) & 0x8000 != 0
    }

    /// Returns the number after this one.
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The length of a path; smaller is better (RFC 8966, §3.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric(pub u16);

impl Metric {
    /// A path of no length: what an origin announces.
    pub const ZERO: Self = Self(0);
    /// No path: a retraction.
    pub const INFINITY: Self = Self(0xffff);

    /// Returns whether there is a path.
    pub fn is_finite(self) -> bool {
        self != Self::INFINITY
    }

    /// Returns the sum; what does not fit is infinity, and infinity stays (RFC 8966, §3.5.2).
    pub fn plus(self, cost: Self) -> Self {
        Self(self.0.saturating_add(cost.0))
    }
}

/// Who originates a route (RFC 8966, §2.7); that of a node is its /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId([u8; 8]);

impl RouterId {
    /// The first in order.
    pub const LEAST: Self = Self([0, 0, 0, 0, 0, 0, 0, 1]);
    /// The last in order.
    pub const MOST: Self = Self([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);

    /// Returns none for the two values that nobody may use (RFC 8966, §4.1.3).
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8] && bytes != [0xff; 8]).then_some(Self(bytes))
    }

    /// Returns the eight bytes.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RouterId {
    /// Sixteen hexadecimal digits in groups of two bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i] = self.0;
        write!(
            f,
            "{a:02x}{b:02x}:{c:02x}{d:02x}:{e:02x}{g:02x}:{h:02x}{i:02x}"
        )
    }
}

/// An IPv6 prefix; the bits behind its length are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// As two numbers: tables compare prefixes all the time, and have many.
    high: u64,
    low: u64,
    bits: u8,
}

impl Prefix {
    /// The default route.
    pub const ALL: Self = Self {
        high: 0,
        low: 0,
        bits: 0,
    };
    /// All nodes of the overlay.
    pub const NODES: Self = Self {
        high: 0xfd6d << 48,
        low: 0,
        bits: 16,
    };
    /// All services of the overlay.
    pub const SERVICES: Self = Self {
        high: 0xfd73 << 48,
        low: 0,
        bits: 16,
    };

    /// Returns the prefix of an address; the bits behind are cleared. None above 128 bits.
    pub fn new(address: Ipv6Addr, bits: u8) -> Option<Self> {
        if 128 < bits {
            return None;
        }
        let number = u128::from(address) & Self::mask(bits);
        Some(Self {
            // Proof: the upper and the lower half.
            high: (number >> 64) as u64,
            low: number as u64,
            bits,
        })
    }

    /// Returns the network address.
    pub fn address(self) -> Ipv6Addr {
        Ipv6Addr::from(self.number())
    }

    /// Returns the count of leading bits that belong to the prefix.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Returns whether an address lies inside.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        u128::from(address) & Self::mask(self.bits) == self.number()
    }

    /// Returns whether all of another prefix lies inside.
    pub fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.address())
    }

    fn number(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    fn mask(bits: u8) -> u128 {
        u128::MAX
            .checked_shl(128 - u32::from(bits))
            .unwrap_or_default()
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circle_has_a_before_everywhere() {
        assert!(Seqno(1).is_before(Seqno(2)));
        assert!(Seqno(0xffff).is_before(Seqno(0)));
        assert!(!Seqno(7).is_before(Seqno(7)));
        assert!(Seqno(0).is_before(Seqno(0x7fff)));
        assert!(!Seqno(0).is_before(Seqno(0x7fff).next().next()));
    }

    #[test]
    fn infinity_swallows_every_cost() {
        assert_eq!(Metric::INFINITY.plus(Metric(1)), Metric::INFINITY);
        assert_eq!(Metric(0xfff0).plus(Metric(0x20)), Metric::INFINITY);
        assert_eq!(Metric(256).plus(Metric(96)), Metric(352));
    }

    #[test]
    fn router_id_of_zeros_or_ones_is_nobody() {
        assert_eq!(RouterId::from_bytes([0; 8]), None);
        assert_eq!(RouterId::from_bytes([0xff; 8]), None);
        assert!(RouterId::from_bytes([1, 0, 0, 0, 0, 0, 0, 0]).is_some());
    }

    #[test]
    fn prefix_forgets_the_bits_behind_it() {
        let long: Ipv6Addr = "fd6d:1:2:3:4:5:6:7".parse().unwrap();
        let prefix = Prefix::new(long, 64).unwrap();
        assert_eq!(prefix.to_string(), "fd6d:1:2:3::/64");
        assert!(prefix.contains(long));
        assert!(Prefix::ALL.covers(prefix));
        assert!(!prefix.covers(Prefix::ALL));
        assert_eq!(Prefix::new(long, 129), None);
        assert_eq!(Prefix::new(long, 128).unwrap().address(), long);
    }
}
