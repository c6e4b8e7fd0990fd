//! Whether a gateway has forgotten its mappings since it last spoke (RFC 6887, 8.5).
//!
//! Every answer says for how many seconds the gateway's table has lasted. If that number goes back,
//! or runs at another pace than our clock, the table was lost. Leaves what follows to the mapper.

use std::time::Duration;

use mesh_base::time::Moment;

/// How much the two clocks may be apart besides a sixteenth of the time that passed.
const SLACK: Duration = Duration::from_secs(2);

/// The last time that a gateway told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    last: Option<(u32, Moment)>,
}

impl Epoch {
    /// Notes what the gateway says; returns whether its table is still the one that we know.
    pub fn handle(&mut self, seconds: u32, now: Moment) -> bool {
        let Some((before, then)) = self.last.replace((seconds, now)) else {
            return true;
        };
        // One second back happens to gateways that round.
        if seconds.saturating_add(1) < before {
            return false;
        }
        let theirs = Duration::from_secs(u64::from(seconds.saturating_sub(before)));
        let ours = now.since(then);
        let is_slow = theirs + SLACK < ours.saturating_sub(ours / 16);
        let is_fast = ours + SLACK < theirs.saturating_sub(theirs / 16);
        !is_slow && !is_fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears one time, then another after so many seconds of ours.
    #[track_caller]
    fn check(first: u32, second: u32, passed_s: u64, expect: bool) {
        let mut epoch = Epoch::default();
        assert!(epoch.handle(first, Moment(0)), "the first is believed");
        let kept = epoch.handle(second, Moment(passed_s * 1_000_000));
        assert_eq!(kept, expect);
    }

    #[test]
    fn clocks_at_one_pace_are_believed() {
        check(0, 0, 0, true);
        check(100, 160, 60, true);
        check(100, 162, 60, true);
        check(1_000, 999, 0, true);
        check(0, 3_500, 3_600, true);
    }

    #[test]
    fn clock_that_goes_back_has_forgotten() {
        check(100, 3, 60, false);
        check(100, 98, 0, false);
    }

    #[test]
    fn clock_of_another_pace_has_forgotten() {
        check(5, 8, 60, false);
        check(5, 5_000, 60, false);
        check(u32::MAX, 0, 1, false);
    }
}
