//! What a run leaves out of its seed: orders and kinds of weather.
//!
//! Numbers are drawn as ever and then not used, so that what is left stays as near to the seed's
//! own run as it can. Invariant: the empty trim changes nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::weather::Weather;

macro_rules! parts {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// A kind of weather that can be left out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Part { $($(#[$doc])* $variant,)* }

        impl Part {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns its word on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

parts! {
    /// Messages lost, doubled or late.
    Messages = "messages",
    /// Partitions.
    Cuts = "cuts",
    /// Kills and power losses.
    Crashes = "crashes",
    /// Daemons that stand still.
    Pauses = "pauses",
    /// Jumps of clocks.
    Jumps = "jumps",
    /// Drivers that fail and instances that die.
    Drivers = "drivers",
    /// Slow syncs and long ways.
    Slowness = "slowness",
}

/// What a run leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trim {
    /// The orders that are placed, by number; all if none.
    pub orders: Option<Range<u64>>,
    /// The weather that does not come.
    pub without: BTreeSet<Part>,
}

impl Trim {
    /// Returns whether the order of that number is placed.
    pub fn places(&self, order: u64) -> bool {
        self.orders
            .as_ref()
            .is_none_or(|orders| orders.contains(&order))
    }

    /// Takes the left out parts off a weather.
    pub fn weather(&self, mut weather: Weather) -> Weather {
        let fair = Weather::fair();
        for part in &self.without {
            match part {
                Part::Messages => {
                    weather.loss_permille = 0;
                    weather.duplicate_permille = 0;
                    weather.late_permille = 0;
                }
                Part::Cuts => weather.cut_every = None,
                Part::Crashes => weather.crash_every = None,
                Part::Pauses => weather.pause_every = None,
                Part::Jumps => weather.jump_every = None,
                Part::Drivers => {
                    weather.step_fail_permille = 0;
                    weather.death_every = None;
                }
                Part::Slowness => {
                    weather.sync_max = fair.sync_max.min(weather.sync_max);
                    weather.delay_min = fair.delay_min.min(weather.delay_min);
                    weather.delay_max = weather.delay_min + Duration::from_millis(1);
                }
            }
        }
        weather
    }

    /// Reads the command line's words.
    pub fn parse(orders: Option<&str>, without: &[String]) -> Result<Self, String> {
        let orders = orders.map(|text| {
            let (from, to) = text.split_once("..").unwrap_or((text, ""));
            let from: u64 = from.parse().ok()?;
            let to = if to.is_empty() {
                from + 1
            } else {
                to.parse().ok()?
            };
            Some(from..to)
        });
        let orders = match orders {
            Some(None) => return Err("orders are given as 17 or 17..20".to_owned()),
            Some(orders) => orders,
            None => None,
        };
        let part = |word: &String| {
            let found = Part::ALL.iter().find(|part| part.word() == word);
            let words: Vec<_> = Part::ALL.iter().map(|part| part.word()).collect();
            let known = words.join(", ");
            found
                .copied()
                .ok_or_else(|| format!("there is no weather \"{word}\"; there are {known}"))
        };
        Ok(Self {
            orders,
            without: without.iter().map(part).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(orders) = &self.orders {
            write!(f, " --orders {}..{}", orders.start, orders.end)?;
        }
        if !self.without.is_empty() {
            let words: Vec<_> = self.without.iter().map(|part| part.word()).collect();
            write!(f, " --without {}", words.join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    #[test]
    fn trim_is_read_as_it_is_written() {
        let trim = Trim {
            orders: Some(3..5),
            without: BTreeSet::from([Part::Cuts, Part::Jumps]),
        };
        assert_eq!(trim.to_string(), " --orders 3..5 --without cuts,jumps");
        let without = ["cuts".to_owned(), "jumps".to_owned()];
        assert_eq!(Trim::parse(Some("3..5"), &without), Ok(trim));
        assert_eq!(Trim::parse(Some("3"), &[]).unwrap().orders, Some(3..4));
        assert!(Trim::parse(Some("all"), &[]).is_err());
        assert!(Trim::parse(None, &["rain".to_owned()]).is_err());
    }

    #[test]
    fn empty_trim_changes_nothing_and_each_part_something() {
        let drawn = Weather::draw(&mut Chance::new(1, "weather"));
        let worst = Weather {
            loss_permille: 1,
            cut_every: Some(Duration::from_secs(1)),
            crash_every: Some(Duration::from_secs(1)),
            pause_every: Some(Duration::from_secs(1)),
            jump_every: Some(Duration::from_secs(1)),
            death_every: Some(Duration::from_secs(1)),
            ..drawn
        };
        let before = worst.to_string();
        assert_eq!(Trim::default().weather(worst.clone()).to_string(), before);
        for part in Part::ALL {
            let trim = Trim {
                orders: None,
                without: BTreeSet::from([*part]),
            };
            assert_ne!(trim.weather(worst.clone()).to_string(), before, "{part:?}");
        }
    }
}
