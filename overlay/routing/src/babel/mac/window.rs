//! Which packet counters were seen lately (RFC 9467, §3.2).

/// The newest counter and which of the 128 up to it were seen.
///
/// Links reorder packets, and unicast overtakes multicast on wireless ones; a window forgives both
/// and still takes each packet once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    newest: u32,
    /// Bit `n` stands for the counter `newest - n`.
    seen: u128,
}

impl Window {
    /// Begins at a counter as if it and all before it were seen.
    ///
    /// Those before may have been taken in a life that is forgotten.
    pub fn from_here(counter: u32) -> Self {
        Self {
            newest: counter,
            seen: u128::MAX,
        }
    }

    /// Notes a counter. Returns false if it was seen, or is too old to tell.
    pub fn take(&mut self, counter: u32) -> bool {
        if self.newest < counter {
            let ahead = counter - self.newest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or_default() | 1;
            self.newest = counter;
            return true;
        }
        let bit = 1_u128
            .checked_shl(self.newest - counter)
            .unwrap_or_default();
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::any;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn counters_up_to_the_first_are_old() {
        let mut window = Window::from_here(500);
        for counter in [500, 499, 400, 0] {
            assert!(!window.take(counter));
        }
        assert!(window.take(501));
    }

    #[test]
    fn late_counters_are_taken_once_within_the_window() {
        let mut window = Window::from_here(500);
        assert!(window.take(700));
        assert!(window.take(573));
        assert!(!window.take(573));
        assert!(!window.take(572));
        assert!(window.take(u32::MAX));
        assert!(!window.take(700));
    }

    proptest! {
        #[test]
        fn no_counter_is_taken_twice(steps in proptest::collection::vec(any::<u8>(), 1..400)) {
            let mut window = Window::from_here(0);
            let (mut taken, mut newest) = (BTreeSet::new(), 0_u32);
            for step in steps {
                let counter = (newest + 8).saturating_sub(u32::from(step));
                let fresh = window.take(counter);
                let expect = counter != 0 && newest < counter + 128 && !taken.contains(&counter);
                prop_assert_eq!(fresh, expect);
                prop_assert!(!fresh || taken.insert(counter));
                newest = newest.max(counter);
            }
        }
    }
}
