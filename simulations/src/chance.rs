//! All randomness of a run: one seeded generator per concern, so that a new draw in one room does
//! not change what another room draws.
//!
//! Invariant: two `Chance`s of the same seed and label give the same numbers for ever.

use std::time::Duration;

use mesh_base::digest::Digest;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A seeded source of draws.
#[derive(Debug, Clone)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// Returns the source for one concern of one run.
    pub fn new(seed: u64, label: &str) -> Self {
        let key = Digest::of_parts(&[b"meshsim", &seed.to_be_bytes(), label.as_bytes()]);
        Self(ChaCha8Rng::from_seed(*key.as_bytes()))
    }

    /// Draws a whole number below `end`; zero if `end` is zero.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is below 2^-40 for every `end` used here.
        self.0.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// Draws a whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Says yes in `permille` of 1000 cases.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// Draws a span from `low` to `high`, in steps of a microsecond.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// Draws one element.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let index = self.below(all.len() as u64);
        all.get(usize::try_from(index).ok()?)
    }

    /// Draws an index below `len`; zero if there is none.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// Draws 32 bytes, for keys and seeds.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_and_label_draw_the_same() {
        let draw = |seed, label| Chance::new(seed, label).bytes();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn draws_stay_in_their_limits() {
        let mut chance = Chance::new(7, "limits");
        for _ in 0..1000 {
            assert!((3..=5).contains(&chance.between(3, 5)));
        }
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.pick::<u8>(&[]), None);
        assert!(!chance.permille(0));
        assert!(chance.permille(1000));
    }
}
