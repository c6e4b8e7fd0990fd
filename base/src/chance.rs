//! Small random numbers from a seed: two runs with one seed are the same.
//!
//! SplitMix64: one word of state, and any seed is good. Nothing secret depends on it; it decides
//! whom we try and when, so that nodes do not all do the same thing at the same time.

use std::time::Duration;

/// A generator of random numbers that are good enough to choose by.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Begins the sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`; zero if that is zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits().checked_rem(end).unwrap_or_default()
    }

    /// Returns a place in a list of `len`; zero if the list is empty.
    pub fn index(&mut self, len: usize) -> usize {
        let bits = self.bits() >> 32;
        // Below `len`, so it fits; the bias of a list of 10,000 is one in 400,000.
        usize::try_from(bits)
            .unwrap_or_default()
            .checked_rem(len)
            .unwrap_or_default()
    }

    /// Returns a time from `low` up to `high`.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let room = high.saturating_sub(low).as_micros();
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        low + Duration::from_micros(self.below(room.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence() {
        let (mut a, mut b) = (Chance::new(7), Chance::new(7));
        assert!((0..100).all(|_| a.bits() == b.bits()));
        assert_ne!(Chance::new(1).bits(), Chance::new(2).bits());
    }

    #[test]
    fn every_place_of_a_list_is_drawn() {
        let mut chance = Chance::new(3);
        let mut seen = [0; 10];
        for _ in 0..1000 {
            seen[chance.index(10)] += 1;
        }
        assert!(seen.iter().all(|count| 50 < *count), "{seen:?}");
        assert_eq!(chance.index(0), 0);
    }

    #[test]
    fn time_between_two_is_between_them() {
        let (low, high) = (Duration::from_millis(5), Duration::from_millis(7));
        let mut chance = Chance::new(3);
        let times: Vec<_> = (0..1000).map(|_| chance.between(low, high)).collect();
        let edge = Duration::from_micros(200);
        assert!(times.iter().all(|time| (low..=high).contains(time)));
        assert!(times.iter().any(|time| *time < low + edge));
        assert!(times.iter().any(|time| high < *time + edge));
        assert_eq!(chance.between(high, low), high);
    }
}
