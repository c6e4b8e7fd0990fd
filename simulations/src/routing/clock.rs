//! A node's own time: begins anywhere and runs a little too fast or too slow.
//!
//! Invariant: for every local moment, [`Clock::world`] is the first moment of the run at which the
//! clock shows at least that.

use mesh_base::time::Moment;

use crate::chance::Chance;

/// Most that a clock drifts, in microseconds each second: a cheap quartz in the cold.
const DRIFT_MAX: u64 = 100;
/// Most that a machine has been up when the run begins, in microseconds: two hours, so that stamps
/// of 32 bits wrap in some runs.
const UPTIME_MAX: u64 = 7_200_000_000;

/// A clock as a function of the run's time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    offset: u64,
    /// Microseconds that it shows for each million of the run.
    pace: u64,
}

impl Clock {
    /// Draws a clock.
    pub fn draw(chance: &mut Chance) -> Self {
        Self {
            offset: chance.between(1_000_000, UPTIME_MAX),
            pace: 1_000_000 - DRIFT_MAX + chance.below(2 * DRIFT_MAX + 1),
        }
    }

    /// Returns what it shows.
    pub fn local(&self, world: Moment) -> Moment {
        Moment(self.offset + scale(world.0, self.pace, 1_000_000))
    }

    /// Returns the first moment at which it shows at least this.
    pub fn world(&self, local: Moment) -> Moment {
        let behind = local.0.saturating_sub(self.offset);
        let mut world = Moment(scale(behind, 1_000_000, self.pace));
        while self.local(world) < local {
            world.0 += 1;
        }
        world
    }
}

fn scale(time: u64, times: u64, over: u64) -> u64 {
    let product = u128::from(time) * u128::from(times);
    let scaled = product.checked_div(u128::from(over)).unwrap_or_default();
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_shows_what_was_asked_for_and_not_before() {
        let mut chance = Chance::new(1, "clock");
        for _ in 0..100 {
            let clock = Clock::draw(&mut chance);
            for time in [0, 1, 999_999, 12_345_678, 900_000_000] {
                let local = Moment(clock.local(Moment(0)).0 + time);
                let world = clock.world(local);
                assert!(local <= clock.local(world));
                assert!(world.0 == 0 || clock.local(Moment(world.0 - 1)) < local);
            }
        }
    }
}
