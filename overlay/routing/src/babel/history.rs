//! The last sixteen hellos of one sequence (RFC 8966, §3.2.4 and appendix A.1).
//!
//! ```text
//!      newest ◄── 16 bits ──► oldest           expected: the number of the next hello
//!      1 1 0 1 1 1 0 0 0 0 0 0 0 0 0 0         due: when the next one counts as missed
//!
//!   number as expected   ─► a one is added
//!   number ahead by n    ─► n missed: n zeros, then a one
//!   number behind by n   ─► the interval grew: n are taken back, then a one
//!   more than 16 apart   ─► the neighbour restarted: everything about it is forgotten
//! ```
//! What the bits are worth is decided in [`super::cost`].

use std::time::Duration;

use mesh_base::time::Moment;

use crate::babel::words::Seqno;

/// How a hello fits what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The neighbour goes on.
    Continued,
    /// The number is far from what was expected: the neighbour has lost its state.
    Restarted,
}

/// Which of the last hellos of one sequence were heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// The newest hello is the highest bit.
    bits: u16,
    expected: Option<Seqno>,
    /// Of the last hello that promised another.
    interval: Duration,
    due: Option<Moment>,
}

impl History {
    /// Notes a hello. An interval of zero promises no other.
    pub fn handle_hello(&mut self, seqno: Seqno, interval: Duration, now: Moment) -> Heard {
        let expected = self.expected.unwrap_or(seqno);
        let ahead = seqno.0.wrapping_sub(expected.0);
        let behind = expected.0.wrapping_sub(seqno.0);
        if 16 < ahead.min(behind) {
            return Heard::Restarted;
        }
        self.bits = if ahead <= 16 {
            self.bits.checked_shr(u32::from(ahead)).unwrap_or_default()
        } else {
            self.bits.checked_shl(u32::from(behind)).unwrap_or_default()
        };
        self.bits = self.bits >> 1 | 0x8000;
        self.expected = Some(seqno.next());
        if !interval.is_zero() {
            self.interval = interval;
            self.due = Some(now + interval * 3 / 2);
        }
        Heard::Continued
    }

    /// Counts a hello that is overdue as missed. Returns whether one was.
    pub fn handle_timeout(&mut self, now: Moment) -> bool {
        let mut missed = false;
        while let Some(due) = self.due.filter(|due| *due <= now) {
            missed = true;
            self.bits >>= 1;
            self.expected = self.expected.map(Seqno::next);
            self.due = (!self.is_silent()).then(|| due + self.interval);
        }
        missed
    }

    /// Returns when the next hello counts as missed.
    pub fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Returns whether none of the last hellos was heard.
    pub fn is_silent(&self) -> bool {
        self.bits == 0
    }

    /// Returns how many of the last `count` hellos were heard.
    pub fn heard_of(&self, count: u32) -> u32 {
        let kept = 16_u32.saturating_sub(count);
        self.bits.checked_shr(kept).unwrap_or_default().count_ones()
    }

    /// Returns how many of the last sixteen were missed since the oldest that was heard.
    pub fn missed(&self) -> u32 {
        (!self.bits).count_ones() - self.bits.trailing_zeros()
    }

    /// Returns the bits, newest first, for who wants to see them.
    pub fn bits(&self) -> u16 {
        self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Hears hellos of these numbers, one each second, and returns the bits.
    fn hear(numbers: &[u16]) -> u16 {
        let mut history = History::default();
        for (at, number) in (0..).zip(numbers) {
            let now = Moment(at * 1_000_000);
            assert_eq!(
                history.handle_hello(Seqno(*number), SECOND, now),
                Heard::Continued
            );
        }
        history.bits()
    }

    #[track_caller]
    fn check(numbers: &[u16], expect: u16) {
        assert_eq!(hear(numbers), expect, "{numbers:?}");
    }

    #[test]
    fn hellos_fill_the_history_as_the_appendix_says() {
        check(&[7], 0b1000_0000_0000_0000);
        check(&[7, 8, 9], 0b1110_0000_0000_0000);
        check(&[7, 10], 0b1001_0000_0000_0000);
        check(&[0xffff, 0, 1], 0b1110_0000_0000_0000);
        check(&[7, 8, 8], 0b1100_0000_0000_0000);
        check(&[1, 18], 0b1000_0000_0000_0000);
    }

    #[test]
    fn number_far_away_is_a_restart() {
        for number in [25, 0x8007, 7_u16.wrapping_sub(10)] {
            let mut history = History::default();
            history.handle_hello(Seqno(7), SECOND, Moment(0));
            let heard = history.handle_hello(Seqno(number), SECOND, Moment(1));
            let far = number != 7_u16.wrapping_sub(10);
            assert_eq!(heard == Heard::Restarted, far, "{number}");
        }
    }

    #[test]
    fn overdue_hello_is_missed_and_taken_back_when_the_interval_grew() {
        let mut history = History::default();
        history.handle_hello(Seqno(1), SECOND, Moment(0));
        assert!(!history.handle_timeout(Moment(1_499_999)));
        assert!(history.handle_timeout(Moment(2_600_000)));
        assert_eq!(history.bits(), 0b0010_0000_0000_0000);
        assert_eq!(history.missed(), 2);
        history.handle_hello(Seqno(2), SECOND * 4, Moment(2_700_000));
        assert_eq!(history.bits(), 0b1100_0000_0000_0000);
        assert_eq!(history.due(), Some(Moment(8_700_000)));
    }

    #[test]
    fn silence_empties_the_history_and_asks_no_more() {
        let mut history = History::default();
        history.handle_hello(Seqno(1), SECOND, Moment(0));
        assert!(history.handle_timeout(Moment(60_000_000)));
        assert!(history.is_silent());
        assert_eq!(history.due(), None);
    }

    #[test]
    fn hello_without_interval_promises_nothing() {
        let mut history = History::default();
        history.handle_hello(Seqno(1), Duration::ZERO, Moment(0));
        assert_eq!(history.due(), None);
        assert_eq!(history.heard_of(1), 1);
    }
}
