//! What may go wrong in one run, drawn from its seed: which kinds, how often, how hard.
//!
//! Each run draws its own mix (some kinds strong, some absent), because faults that always come
//! together hide each other. The drawn figures are printed before anything else when a run fails.

use std::fmt;
use std::time::Duration;

use crate::chance::Chance;

/// The forms of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Two groups, nothing crosses.
    Full,
    /// Two groups cannot talk, a third talks with both.
    Partial,
    /// One group hears the other, but not the reverse.
    OneWay,
    /// One node is alone.
    Single,
}

/// The forms, for drawing.
pub const SHAPES: [Shape; 4] = [Shape::Full, Shape::Partial, Shape::OneWay, Shape::Single];

/// The figures of one run. Spans named `_every` are means between two events in the whole mesh.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Messages lost, in thousandths: 0 to 300.
    pub loss_permille: u64,
    /// Messages doubled, in thousandths.
    pub duplicate_permille: u64,
    /// Shortest way between two nodes.
    pub delay_min: Duration,
    /// Longest way between two nodes on a good day.
    pub delay_max: Duration,
    /// Messages that take up to 600 ms whatever the way, in thousandths.
    pub late_permille: u64,
    /// Partitions.
    pub cut_every: Option<Duration>,
    /// How long one lasts at most.
    pub cut_max: Duration,
    /// Crashes.
    pub crash_every: Option<Duration>,
    /// Crashes that are power losses, in thousandths.
    pub power_permille: u64,
    /// How long a machine is down at most.
    pub down_max: Duration,
    /// Pauses of a daemon.
    pub pause_every: Option<Duration>,
    /// How long one lasts at most.
    pub pause_max: Duration,
    /// Wall clocks are wrong by up to this.
    pub skew_max: Duration,
    /// Jumps of a wall clock.
    pub jump_every: Option<Duration>,
    /// Longest sync.
    pub sync_max: Duration,
    /// Driver steps that fail, in thousandths.
    pub step_fail_permille: u64,
    /// Instances that end by themselves.
    pub death_every: Option<Duration>,
}

/// The slowest message that the network carries.
pub const LATE_MAX: Duration = Duration::from_millis(600);

impl Weather {
    /// Draws the weather of a run.
    pub fn draw(chance: &mut Chance) -> Self {
        let ms = Duration::from_millis;
        let delay_min = chance.span(ms(5), ms(40));
        let often = |chance: &mut Chance, low: u64, high: u64| {
            let span = chance.span(Duration::from_secs(low), Duration::from_secs(high));
            chance.permille(800).then_some(span)
        };
        Self {
            loss_permille: if chance.permille(800) {
                chance.between(1, 300)
            } else {
                0
            },
            duplicate_permille: if chance.permille(700) {
                chance.between(1, 200)
            } else {
                0
            },
            delay_min,
            delay_max: delay_min + chance.span(ms(1), ms(160)),
            late_permille: if chance.permille(600) {
                chance.between(1, 200)
            } else {
                0
            },
            cut_every: often(chance, 10, 60),
            cut_max: chance.span(Duration::from_secs(2), Duration::from_secs(40)),
            crash_every: often(chance, 2, 20),
            power_permille: chance.between(0, 1000),
            down_max: chance.span(ms(500), Duration::from_secs(30)),
            pause_every: often(chance, 5, 40),
            pause_max: chance.span(ms(200), Duration::from_secs(20)),
            skew_max: if chance.permille(700) {
                chance.span(ms(100), Duration::from_secs(600))
            } else {
                Duration::ZERO
            },
            jump_every: often(chance, 20, 120),
            sync_max: chance.span(ms(2), ms(20)),
            step_fail_permille: if chance.permille(600) {
                chance.between(1, 100)
            } else {
                0
            },
            death_every: often(chance, 10, 60),
        }
    }

    /// Returns weather in which nothing goes wrong: what is left after healing.
    pub fn fair() -> Self {
        let ms = Duration::from_millis;
        Self {
            loss_permille: 0,
            duplicate_permille: 0,
            delay_min: ms(5),
            delay_max: ms(30),
            late_permille: 0,
            cut_every: None,
            cut_max: Duration::ZERO,
            crash_every: None,
            power_permille: 0,
            down_max: Duration::ZERO,
            pause_every: None,
            pause_max: Duration::ZERO,
            skew_max: Duration::ZERO,
            jump_every: None,
            sync_max: ms(5),
            step_fail_permille: 0,
            death_every: None,
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = |span: Option<Duration>| {
            span.map_or("never".to_owned(), |span| {
                format!("every {:.1} s", span.as_secs_f64())
            })
        };
        writeln!(
            f,
            "  loss {}‰, duplication {}‰, way {:?} to {:?}, late {}‰",
            self.loss_permille,
            self.duplicate_permille,
            self.delay_min,
            self.delay_max,
            self.late_permille
        )?;
        writeln!(
            f,
            "  cut {} up to {:?}",
            every(self.cut_every),
            self.cut_max
        )?;
        writeln!(
            f,
            "  crash {}, {}‰ by power, down up to {:?}, sync up to {:?}",
            every(self.crash_every),
            self.power_permille,
            self.down_max,
            self.sync_max
        )?;
        writeln!(
            f,
            "  pause {} up to {:?}",
            every(self.pause_every),
            self.pause_max
        )?;
        writeln!(
            f,
            "  skew up to {:?}, jump {}",
            self.skew_max,
            every(self.jump_every)
        )?;
        write!(
            f,
            "  steps fail {}‰, instances die {}",
            self.step_fail_permille,
            every(self.death_every)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weather_is_the_seeds_own() {
        let draw = |seed| Weather::draw(&mut Chance::new(seed, "weather")).to_string();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn loss_stays_in_its_limit_over_many_seeds() {
        for seed in 0..200 {
            let weather = Weather::draw(&mut Chance::new(seed, "weather"));
            assert!(weather.loss_permille <= 300, "{seed}");
            assert!(weather.delay_min <= weather.delay_max, "{seed}");
        }
    }
}
