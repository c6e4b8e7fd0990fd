//! Draws for tests that choose at random: the same seed draws the same, everywhere.
//!
//! SplitMix64 (Steele, Lea and Flood 2014) in a few lines: good enough to choose where to kill, and
//! no reason for a dependency.

use std::env;

use anyhow::Context as _;

/// A seeded source of draws.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Starts from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Reads the seed from an environment variable: a decimal number, or `0x` and a commit's hash,
    /// of which the first 64 bits count. One if it is not set or empty.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn seed_of(variable: &str) -> anyhow::Result<u64> {
        let said = env::var_os(variable).unwrap_or_default();
        let seed = said.to_str().and_then(seed_or_one);
        seed.with_context(|| format!("{variable} is no seed: {}", said.display()))
    }

    /// Draws a number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number below `limit`; zero if that is zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or(0)
    }

    /// Draws one of several; none of none.
    pub fn one<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let at = self.below(all.len() as u64);
        all.get(usize::try_from(at).unwrap_or(0)).copied()
    }

    /// Brings things into an order of chance.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for end in (1..all.len()).rev() {
            let other = self.below(end as u64 + 1);
            all.swap(end, usize::try_from(other).unwrap_or(0));
        }
    }
}

fn seed_or_one(said: &str) -> Option<u64> {
    if said.is_empty() {
        return Some(1);
    }
    read_seed(said)
}

fn read_seed(said: &str) -> Option<u64> {
    match said.strip_prefix("0x") {
        Some(hash) => u64::from_str_radix(hash.get(..16).unwrap_or(hash), 16).ok(),
        None => said.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_draws_the_same() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            let mut all = [1, 2, 3, 4, 5, 6, 7, 8];
            chance.shuffle(&mut all);
            (all, chance.below(1000))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn seed_is_a_number_or_a_commit() {
        assert_eq!(read_seed("12"), Some(12));
        let commit = "0xc3052c5aa00000010000000000000000ffffffff";
        assert_eq!(read_seed(commit), Some(0xc305_2c5a_a000_0001));
        assert_eq!(read_seed("0x0f"), Some(15));
        assert_eq!(read_seed("of cake"), None);
    }

    #[test]
    fn seed_is_one_only_where_none_is_said() {
        assert_eq!(seed_or_one(""), Some(1));
        assert_eq!(seed_or_one("7"), Some(7));
        for mistyped in ["7a", "0x", "-1", " "] {
            assert_eq!(seed_or_one(mistyped), None, "{mistyped}");
        }
    }
}
