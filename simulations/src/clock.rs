//! The two clocks of one machine: one that starts at its boot, one that people set, well or badly.

use std::time::Duration;

use mesh_base::time::{Moment, Now, Wall};

/// Wall time at the run's moment zero: 2026-11-23T06:00:00Z.
pub const WALL_START: Wall = Wall(1_795_413_600_000);

/// Clocks of one machine, as functions of the run's own time.
#[derive(Debug, Clone)]
pub struct Clock {
    booted: Moment,
    skew_ms: i64,
}

impl Clock {
    /// Returns the clocks of a machine that boots now, with a wall clock that is wrong by
    /// `skew_ms`.
    pub fn new(skew_ms: i64) -> Self {
        Self {
            booted: Moment(0),
            skew_ms,
        }
    }

    /// Notes a boot: the monotonic clock starts again.
    pub fn boot(&mut self, now: Moment) {
        self.booted = now;
    }

    /// Sets the wall clock wrong by another `jump_ms`.
    pub fn jump(&mut self, jump_ms: i64) {
        self.skew_ms = self.skew_ms.saturating_add(jump_ms);
    }

    /// Returns what the clocks show at a moment of the run.
    pub fn read(&self, now: Moment) -> Now {
        let micros = now.since(self.booted).as_micros();
        let mono = Moment(u64::try_from(micros).unwrap_or(u64::MAX));
        let truth = WALL_START + Duration::from_micros(now.0);
        Now {
            mono,
            wall: Wall(truth.0.saturating_add(self.skew_ms)),
        }
    }

    /// Returns the run's moment at which the monotonic clock will show `mono`.
    pub fn moment(&self, mono: Moment) -> Moment {
        self.booted + mono.since(Moment(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_starts_the_monotonic_clock_again_and_the_wall_goes_on() {
        let mut clock = Clock::new(-500);
        clock.boot(Moment(2_000_000));
        let now = clock.read(Moment(5_000_000));
        assert_eq!(now.mono, Moment(3_000_000));
        assert_eq!(now.wall, Wall(WALL_START.0 + 4_500));
        assert_eq!(clock.moment(now.mono), Moment(5_000_000));
    }
}
