//! A steady stream of pings whose gaps tell how long a network was broken.
//!
//! Debian's `ping` prints when each answer came; an outage is the longest time without one. Decides
//! nothing about what broke.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::home::Home;
use crate::said::Asked;
use crate::until::until;

/// Time between two pings: the finest outage that can be seen.
const INTERVAL: &str = "0.01";

/// How long answers must come again before an outage counts as over.
const CALM: Duration = Duration::from_millis(1500);

/// A running stream.
#[derive(Debug)]
pub struct Pulse {
    asked: Asked,
}

impl Pulse {
    /// Begins to ping `to` from a home and waits for the first answer.
    ///
    /// # Errors
    /// There is no answer within the limit.
    pub fn begin(home: &Home, to: &str, limit: Duration) -> anyhow::Result<Self> {
        Self::begin_sized(home, to, "56", limit)
    }

    /// The same with this many bytes in each ping.
    ///
    /// # Errors
    /// There is no answer within the limit.
    pub fn begin_sized(
        home: &Home,
        to: &str,
        bytes: &str,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let words = ["-D", "-n", "-i", INTERVAL, "-W", "1", "-s", bytes, to];
        let asked = home.quietly().ask("ping", &words)?;
        let mut pulse = Self { asked };
        let begun = until(&format!("{to} answers {}", home.name), limit, || {
            Ok((!pulse.answers()?.is_empty()).then_some(()))
        });
        match begun {
            Ok(()) => Ok(pulse),
            Err(error) => {
                let said = pulse.asked.last_lines(5)?;
                pulse.asked.end()?;
                Err(error.context(format!("the ping said:\n{said}")))
            }
        }
    }

    /// Waits until answers come steadily after `since`; returns the longest time without one from
    /// then on.
    ///
    /// # Errors
    /// They do not come within the limit.
    pub fn outage(&mut self, since: SystemTime, limit: Duration) -> anyhow::Result<Duration> {
        let since = since
            .duration_since(UNIX_EPOCH)
            .context("a clock before 1970")?;
        until("the answers come steadily again", limit, || {
            let times = self.answers()?;
            Ok(longest_gap(&times, since))
        })
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn end(self) -> anyhow::Result<()> {
        self.asked.end()
    }

    /// Returns when each answer came, since 1970, in order.
    fn answers(&mut self) -> anyhow::Result<Vec<Duration>> {
        Ok(answered(&self.asked.so_far()?).collect())
    }
}

/// Returns when each answer that `ping -D` tells of came, since 1970, in order.
pub fn answered(text: &str) -> impl Iterator<Item = Duration> {
    text.lines().filter_map(|line| {
        let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
        let seconds: f64 = time.parse().ok()?;
        rest.contains("time=")
            .then(|| Duration::from_secs_f64(seconds))
    })
}

/// Returns the longest gap that ends after `since`, if answers have been calm since it ended.
fn longest_gap(times: &[Duration], since: Duration) -> Option<Duration> {
    let last = times.last()?;
    let mut longest = (Duration::ZERO, since);
    for pair in times.windows(2) {
        let &[before, after] = pair else {
            continue;
        };
        let gap = after.saturating_sub(before.max(since));
        if since < after && longest.0 < gap {
            longest = (gap, after);
        }
    }
    let calm = last.checked_sub(longest.1)?;
    (CALM <= calm).then_some(longest.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn outage_is_the_longest_gap_once_it_is_calm() {
        let mut times: Vec<u64> = (0..10).map(|n| n * 10).collect();
        times.extend((0..200).map(|n| 400 + n * 10));
        let found = longest_gap(&ms(&times), Duration::from_millis(95));
        assert_eq!(found, Some(Duration::from_millis(305)));
    }

    #[test]
    fn outage_that_goes_on_has_no_length_yet() {
        let times: Vec<u64> = (0..10).map(|n| n * 10).collect();
        assert_eq!(longest_gap(&ms(&times), Duration::from_millis(95)), None);
        let times: Vec<u64> = (0..10).chain(200..250).map(|n| n * 10).collect();
        assert_eq!(longest_gap(&ms(&times), Duration::from_millis(95)), None);
    }
}
