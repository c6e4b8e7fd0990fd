//! Round trips of a neighbour and what they cost (RFC 9616), without unrest.
//!
//! ```text
//!   we     t1 ──hello──►                         ──► t2
//!   they          t1' ............ t2' ──hello+IHU(t1, t1')──►     rtt = (t2 - t1) - (t2' - t1')
//! ```
//! A sample is smoothed; the smoothed time makes a penalty between zero and its most; the penalty
//! in force changes only when the new one differs by ten percent of the cost and by sixteen, for
//! three samples in a row: jitter is the enemy of a distance vector.

use std::time::Duration;

use crate::babel::wire::tlv::Stamp;
use crate::babel::words::Metric;

/// How round trips become cost (RFC 9616, §4; the defaults are those of babeld and BIRD).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RttCost {
    /// Up to here a round trip costs nothing.
    pub least: Duration,
    /// From here on it costs no more.
    pub most: Duration,
    /// What it costs then; zero turns it off.
    pub penalty_max: Metric,
}

impl RttCost {
    /// What tunnels use: 10 ms to 120 ms, 96.
    pub const TUNNEL: Self = Self {
        least: Duration::from_millis(10),
        most: Duration::from_millis(120),
        penalty_max: Metric(96),
    };

    /// Round trips are measured and cost nothing.
    pub const NONE: Self = Self {
        least: Duration::from_millis(10),
        most: Duration::from_millis(120),
        penalty_max: Metric(0),
    };

    /// Returns what a round trip costs.
    pub fn penalty(&self, rtt: Duration) -> Metric {
        let above = rtt.saturating_sub(self.least).as_micros();
        let room = self.most.saturating_sub(self.least).as_micros().max(1);
        let penalty = u128::from(self.penalty_max.0) * above.min(room) / room;
        Metric(u16::try_from(penalty).unwrap_or(self.penalty_max.0))
    }
}

/// Weight of a new sample in 256 (RFC 9616, §4: about 0.836 of the old is kept).
const WEIGHT: u64 = 42;
/// Stamps further apart are of another life (RFC 9616, §3.3).
const AGE_MAX: u32 = 180_000_000;
/// Two clocks drift by 100 in a million: that much of an hour's third part may look negative.
const DRIFT_MAX: u32 = 2_000;
/// Samples that a change must hold.
const VOTES: u8 = 3;
/// The least change that is worth telling.
const CHANGE_MIN: u16 = 16;

/// The four times of a round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trip {
    /// When we sent our hello (t1, our clock).
    pub sent: Stamp,
    /// When it arrived there (t1', their clock).
    pub arrived: Stamp,
    /// When they answered (t2', their clock).
    pub answered: Stamp,
    /// When the answer came (t2, our clock).
    pub back: Stamp,
}

impl Trip {
    /// Returns how long it took, if that is plausible (RFC 9616, §3.3).
    pub fn time(self) -> Option<Duration> {
        let whole = self.back.0.wrapping_sub(self.sent.0);
        let there = self.answered.0.wrapping_sub(self.arrived.0);
        if AGE_MAX < whole || AGE_MAX < there || whole.saturating_add(DRIFT_MAX) < there {
            return None;
        }
        Some(Duration::from_micros(u64::from(
            whole.saturating_sub(there),
        )))
    }
}

/// The round trip of one neighbour, smoothed, and its penalty in force.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rtt {
    smoothed: Option<Duration>,
    penalty: Option<Metric>,
    votes: u8,
}

impl Rtt {
    /// Takes a sample; `base` is the cost of the link without penalty. Returns whether the penalty
    /// in force changed.
    pub fn handle_sample(&mut self, time: Duration, base: Metric, cost: &RttCost) -> bool {
        let sample = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let smoothed = match self.smoothed {
            None => sample,
            Some(old) => {
                let old = u64::try_from(old.as_micros()).unwrap_or(u64::MAX);
                (WEIGHT * sample.min(1 << 40) + (256 - WEIGHT) * old.min(1 << 40) + 128) / 256
            }
        };
        self.smoothed = Some(Duration::from_micros(smoothed));
        let wanted = cost.penalty(Duration::from_micros(smoothed));
        let Some(penalty) = self.penalty else {
            self.penalty = Some(wanted);
            return wanted != Metric::ZERO;
        };
        let change = wanted.0.abs_diff(penalty.0);
        if change < CHANGE_MIN || change < base.plus(penalty).0 / 10 {
            self.votes = 0;
            return false;
        }
        self.votes += 1;
        if self.votes < VOTES {
            return false;
        }
        self.votes = 0;
        self.penalty = Some(wanted);
        true
    }

    /// Returns the penalty in force.
    pub fn penalty(&self) -> Metric {
        self.penalty.unwrap_or(Metric::ZERO)
    }

    /// Returns the smoothed round trip, if one was ever measured.
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Metric = Metric(96);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[track_caller]
    fn check_trip([sent, arrived, answered, back]: [u32; 4], expect: Option<u64>) {
        let trip = Trip {
            sent: Stamp(sent),
            arrived: Stamp(arrived),
            answered: Stamp(answered),
            back: Stamp(back),
        };
        assert_eq!(trip.time(), expect.map(Duration::from_micros));
    }

    #[test]
    fn trip_is_the_time_outside_of_the_neighbour() {
        check_trip([1000, 77_000, 97_000, 31_000], Some(10_000));
        check_trip([0xffff_fff0, 5, 6, 0x10], Some(31));
        check_trip([1000, 0xffff_ff00, 0x100, 2000], Some(488));
        // Clocks that drift.
        check_trip([0, 0, 1_000_500, 1_000_000], Some(0));
    }

    #[test]
    fn trip_that_cannot_be_is_none() {
        check_trip([2000, 0, 0, 1000], None);
        check_trip([0, 2000, 1000, 9000], None);
        check_trip([0, 0, 100_000, 50_000], None);
        check_trip([0, 0, 0, 180_000_001], None);
    }

    #[test]
    fn penalty_grows_between_the_two_bounds() {
        let cost = RttCost::TUNNEL;
        for (rtt, expect) in [(0, 0), (10, 0), (65, 48), (120, 96), (5000, 96)] {
            assert_eq!(cost.penalty(ms(rtt)), Metric(expect), "{rtt} ms");
        }
        assert_eq!(RttCost::NONE.penalty(ms(5000)), Metric(0));
    }

    #[test]
    fn first_sample_counts_at_once_and_jitter_never() {
        let mut rtt = Rtt::default();
        assert!(rtt.handle_sample(ms(65), BASE, &RttCost::TUNNEL));
        assert_eq!(rtt.penalty(), Metric(48));
        for round in 0..1000 {
            let jitter = if round % 2 == 0 { 50 } else { 80 };
            assert!(!rtt.handle_sample(ms(jitter), BASE, &RttCost::TUNNEL));
        }
        assert_eq!(rtt.penalty(), Metric(48));
    }

    #[test]
    fn lasting_change_counts_after_three_samples() {
        let mut rtt = Rtt::default();
        rtt.handle_sample(ms(10), BASE, &RttCost::TUNNEL);
        let changes: Vec<_> = (0..4)
            .map(|_| rtt.handle_sample(ms(500), BASE, &RttCost::TUNNEL))
            .collect();
        assert_eq!(changes, [false, false, true, false]);
        assert_eq!(rtt.penalty(), Metric(96));
    }
}
