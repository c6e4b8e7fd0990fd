//! What is promised about an instance, and when broken promises count: m of the last n
//! measurements.
//!
//! Decides whether a promise *stands*; what is done about a fallen one is `instance`'s business.
//! One bad measurement is noise, so a promise falls only when `fails` of the last `window` were
//! bad. Invariant: 1 ≤ fails ≤ window ≤ [`WINDOW_MAX`].

use std::time::Duration;

/// Widest window: the verdicts are the bits of one word.
pub const WINDOW_MAX: u32 = 32;

/// What a promise is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Measured and shown; nothing follows from it.
    Sense,
    /// Must hold once after each start before the instance is ready.
    Test,
    /// As a test, and measured periodically while the instance runs; a fall leads to repair.
    Anomaly,
}

/// One promise as the supervision needs it; made from the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromisePlan {
    /// Its name in the recipe.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// How often it is measured while the instance is up.
    pub period: Duration,
    /// How long one measurement may take.
    pub timeout: Duration,
    /// How many bad measurements of the window make it fall (m).
    pub fails: u32,
    /// How many measurements are remembered (n).
    pub window: u32,
}

/// How a promise stands after a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Fewer than m of the last n measurements were bad.
    Stands,
    /// At least m of the last n were bad.
    Fallen,
}

/// The last n verdicts of one promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    bad: u32,
    fails: u32,
    mask: u32,
}

impl Window {
    /// Returns an empty window; numbers outside the lawful range are moved to its edge.
    pub fn new(fails: u32, window: u32) -> Self {
        let window = window.clamp(1, WINDOW_MAX);
        Self {
            bad: 0,
            fails: fails.clamp(1, window),
            mask: u32::MAX >> (WINDOW_MAX - window),
        }
    }

    /// Notes one measurement.
    pub fn handle_verdict(&mut self, holds: bool) -> Standing {
        self.bad = ((self.bad << 1) | u32::from(!holds)) & self.mask;
        self.standing()
    }

    /// Forgets everything: the instance was started again.
    pub fn clear(&mut self) {
        self.bad = 0;
    }

    /// Returns how the promise stands now.
    pub fn standing(&self) -> Standing {
        if self.bad.count_ones() < self.fails {
            Standing::Stands
        } else {
            Standing::Fallen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds verdicts written as `+` and `-`; expects the standings written as `s` and `f`.
    #[track_caller]
    fn check(fails: u32, window: u32, verdicts: &str, expect: &str) {
        let mut judged = Window::new(fails, window);
        let got: String = verdicts
            .chars()
            .map(|verdict| match judged.handle_verdict(verdict == '+') {
                Standing::Stands => 's',
                Standing::Fallen => 'f',
            })
            .collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn promise_falls_at_m_of_n_and_stands_again() {
        check(2, 3, "-+-+++-", "ssfssss");
    }

    #[test]
    fn one_of_one_falls_at_once() {
        check(1, 1, "+-+", "sfs");
    }

    #[test]
    fn widest_window_remembers_all() {
        check(32, 32, &"-".repeat(33), &("s".repeat(31) + "ff"));
    }

    #[test]
    fn unlawful_numbers_are_moved_to_the_edge() {
        assert_eq!(Window::new(0, 0), Window::new(1, 1));
        assert_eq!(Window::new(9, 3), Window::new(3, 3));
        assert_eq!(Window::new(99, 99), Window::new(32, 32));
    }

    #[test]
    fn cleared_window_stands() {
        let mut window = Window::new(1, 3);
        assert_eq!(window.handle_verdict(false), Standing::Fallen);
        window.clear();
        assert_eq!(window.standing(), Standing::Stands);
    }
}
