//! From what the driver's meters show to the quantities of a usage statement.
//!
//! Decides how much of each thing a span used; what it costs is the ledger's business. The state is
//! small and serialisable, so that it survives restarts of the daemon: the caller stores it after
//! each [`Meter::close`] and on its own schedule between.
//!
//! Invariants: spans of one meter follow each other without overlap; `running_ms ≤ reserved_ms ≤`
//! length of the span; every quantity only grows inside a span; in doubt the customer pays less,
//! never more.
//!
//! Time is measured by the clock that only goes forward; after a restart, when that clock tells
//! nothing about the time before, by the wall clock, never backwards. A span can never bill more
//! time than its wall clock ends are apart; what was measured beyond that is carried into the next
//! span.

use mesh_base::time::{Moment, Now, Wall};
use serde::{Deserialize, Serialize};

use crate::step::Meters;

/// Longest span: a node that was off makes up for at most 31 days, and so does a statement.
pub const SPAN_MS_MAX: i64 = 31 * 24 * 3600 * 1000;

/// What a span used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quantities {
    /// Time during which processes ran, in milliseconds.
    pub running_ms: u64,
    /// Time during which the slot was kept for the customer, in milliseconds.
    pub reserved_ms: u64,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Memory over time, in MiB·s, rounded down; the rest is carried.
    pub memory_mib_s: u64,
    /// Disk over time, in MiB·s, rounded down; the rest is carried.
    pub disk_mib_s: u64,
    /// Bytes that reached the instance.
    pub received_bytes: u64,
    /// Bytes that left the instance.
    pub sent_bytes: u64,
}

/// A closed span of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Counts the spans of the item, from 1.
    pub sequence: u64,
    /// Start, on the wall clock; the end of the span before.
    pub from: Wall,
    /// End, on the wall clock.
    pub until: Wall,
    /// What was used.
    pub used: Quantities,
    /// How often a cumulative meter went backwards, since the beginning.
    pub reversals: u32,
}

/// Adds up what one instance uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    sequence: u64,
    from: Wall,
    last_wall: Wall,
    /// Where time was last measured; nothing after a restart, for the clock may have started anew.
    #[serde(skip)]
    last_mono: Option<Moment>,
    running: bool,
    reserved_ms: u64,
    running_ms: u64,
    memory_mib_ms: u64,
    disk_mib_ms: u64,
    cpu_ms: u64,
    received_bytes: u64,
    sent_bytes: u64,
    seen: Meters,
    reversals: u32,
}

impl Meter {
    /// Starts metering at the moment of the grant.
    pub fn new(now: Now) -> Self {
        Self {
            sequence: 0,
            from: now.wall,
            last_wall: now.wall,
            last_mono: Some(now.mono),
            running: false,
            reserved_ms: 0,
            running_ms: 0,
            memory_mib_ms: 0,
            disk_mib_ms: 0,
            cpu_ms: 0,
            received_bytes: 0,
            sent_bytes: 0,
            seen: Meters::default(),
            reversals: 0,
        }
    }

    /// Notes that the processes began or ended to run.
    pub fn handle_running(&mut self, running: bool, now: Now) {
        self.advance(now);
        self.running = running;
        if !running {
            self.seen.memory_mib = 0;
        }
    }

    /// Notes what the cumulative meters show.
    ///
    /// A meter that went backwards counts nothing this time, is counted in [`Span::reversals`], and
    /// is measured from its new value on.
    pub fn handle_sample(&mut self, shown: Meters, now: Now) {
        self.advance(now);
        let mut reversed = false;
        let mut grown = |before: u64, after: u64| {
            reversed |= after < before;
            after.saturating_sub(before)
        };
        let cpu_ms = grown(self.seen.cpu_ms, shown.cpu_ms);
        let received_bytes = grown(self.seen.received_bytes, shown.received_bytes);
        let sent_bytes = grown(self.seen.sent_bytes, shown.sent_bytes);
        self.reversals = self.reversals.saturating_add(u32::from(reversed));
        self.cpu_ms = self.cpu_ms.saturating_add(cpu_ms);
        self.received_bytes = self.received_bytes.saturating_add(received_bytes);
        self.sent_bytes = self.sent_bytes.saturating_add(sent_bytes);
        self.seen = shown;
        if !self.running {
            self.seen.memory_mib = 0;
        }
    }

    /// Ends the span, begins the next one where it ended, and returns what it used.
    ///
    /// Of a span longer than [`SPAN_MS_MAX`] only the last part is stated; what was before is lost
    /// to us.
    pub fn close(&mut self, now: Now) -> Span {
        self.advance(now);
        let until = self.last_wall;
        if SPAN_MS_MAX < until - self.from {
            self.from = Wall(until.0.saturating_sub(SPAN_MS_MAX));
            let most = SPAN_MS_MAX.unsigned_abs();
            self.reserved_ms = self.reserved_ms.min(most);
            self.running_ms = self.running_ms.min(most);
        }
        let span_ms = u64::try_from(until - self.from).unwrap_or(0);
        self.sequence += 1;
        let reserved_ms = self.reserved_ms.min(span_ms);
        let used = Quantities {
            running_ms: self.running_ms.min(reserved_ms),
            reserved_ms,
            cpu_ms: std::mem::take(&mut self.cpu_ms),
            memory_mib_s: self.memory_mib_ms / 1000,
            disk_mib_s: self.disk_mib_ms / 1000,
            received_bytes: std::mem::take(&mut self.received_bytes),
            sent_bytes: std::mem::take(&mut self.sent_bytes),
        };
        let span = Span {
            sequence: self.sequence,
            from: self.from,
            until,
            used,
            reversals: self.reversals,
        };
        self.from = until;
        self.reserved_ms -= used.reserved_ms;
        self.running_ms -= used.running_ms;
        self.memory_mib_ms %= 1000;
        self.disk_mib_ms %= 1000;
        span
    }

    /// Returns where the open span began.
    pub fn open_since(&self) -> Wall {
        self.from
    }

    /// Returns how many spans were closed.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns how often a cumulative meter went backwards.
    pub fn reversals(&self) -> u32 {
        self.reversals
    }

    /// Adds the time since the last call to everything that grows with time.
    fn advance(&mut self, now: Now) {
        let wall_ms = u64::try_from(now.wall - self.last_wall).unwrap_or(0);
        self.last_wall = self.last_wall.max(now.wall);
        let elapsed_ms = match self.last_mono {
            None => {
                self.last_mono = Some(now.mono);
                wall_ms
            }
            Some(before) => {
                let elapsed_us = now.mono.0.saturating_sub(before.0);
                // Only whole milliseconds are taken, so that many short calls lose nothing.
                self.last_mono = Some(Moment(before.0 + elapsed_us / 1000 * 1000));
                elapsed_us / 1000
            }
        };
        let over_time = |amount: u64| amount.saturating_mul(elapsed_ms);
        self.reserved_ms = self.reserved_ms.saturating_add(elapsed_ms);
        self.disk_mib_ms = self
            .disk_mib_ms
            .saturating_add(over_time(self.seen.disk_mib));
        if self.running {
            self.running_ms = self.running_ms.saturating_add(elapsed_ms);
            self.memory_mib_ms = self
                .memory_mib_ms
                .saturating_add(over_time(self.seen.memory_mib));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::codec;

    fn at(ms: u64) -> Now {
        Now {
            mono: Moment(5_000_000 + ms * 1000),
            wall: Wall(1_000_000 + ms as i64),
        }
    }

    fn shows(cpu_ms: u64, memory_mib: u64, disk_mib: u64, bytes: u64) -> Meters {
        Meters {
            cpu_ms,
            memory_mib,
            disk_mib,
            received_bytes: bytes,
            sent_bytes: bytes * 2,
        }
    }

    #[test]
    fn span_adds_up_time_and_meters() {
        let mut meter = Meter::new(at(0));
        meter.handle_running(true, at(1_000));
        meter.handle_sample(shows(50, 100, 40, 7), at(2_000));
        meter.handle_sample(shows(80, 200, 40, 9), at(4_000));
        meter.handle_running(false, at(5_000));
        let span = meter.close(at(10_000));
        assert_eq!(
            (span.sequence, span.from, span.until),
            (1, at(0).wall, at(10_000).wall)
        );
        let expect = Quantities {
            running_ms: 4_000,
            reserved_ms: 10_000,
            cpu_ms: 80,
            memory_mib_s: 100 * 2 + 200,
            disk_mib_s: 40 * 8,
            received_bytes: 9,
            sent_bytes: 18,
        };
        assert_eq!(span.used, expect);
        assert_eq!(meter.close(at(10_000)).used, Quantities::default());
    }

    #[test]
    fn meter_that_goes_backwards_is_clamped_and_noted() {
        let mut meter = Meter::new(at(0));
        meter.handle_sample(shows(50, 0, 0, 10), at(1));
        meter.handle_sample(shows(20, 0, 0, 10), at(2));
        meter.handle_sample(shows(25, 0, 0, 11), at(3));
        let span = meter.close(at(4));
        assert_eq!(
            (span.used.cpu_ms, span.used.received_bytes, span.reversals),
            (55, 11, 1)
        );
    }

    #[test]
    fn stored_meter_goes_on_by_the_wall_clock() {
        let mut meter = Meter::new(at(0));
        meter.handle_running(true, at(0));
        meter.handle_sample(shows(10, 8, 0, 0), at(1_000));
        let stored = codec::encode(&meter);
        let mut again: Meter = codec::decode(&stored, 1024).unwrap();
        // The machine was booted anew, so the forward clock starts from nothing.
        let later = Now {
            mono: Moment(77),
            wall: at(9_000).wall,
        };
        again.handle_sample(shows(12, 8, 0, 0), later);
        let span = again.close(later);
        assert_eq!((span.used.running_ms, span.used.cpu_ms), (9_000, 12));
        assert_eq!(span.used.memory_mib_s, 8 * 8);
    }

    #[test]
    fn wall_clock_that_jumps_never_bills_more_than_either_clock_saw() {
        let mut meter = Meter::new(at(0));
        let back = Now {
            mono: at(60_000).mono,
            wall: at(0).wall + std::time::Duration::ZERO,
        };
        let first = meter.close(back);
        assert_eq!((first.until - first.from, first.used.reserved_ms), (0, 0));
        let jumped = Now {
            mono: at(61_000).mono,
            wall: at(3_600_000).wall,
        };
        let second = meter.close(jumped);
        assert_eq!(
            (second.until - second.from, second.used.reserved_ms),
            (3_600_000, 61_000)
        );
    }

    #[test]
    fn node_that_was_off_for_long_makes_up_for_one_month_only() {
        let mut meter = Meter::new(at(0));
        meter.handle_running(true, at(0));
        let stored = codec::encode(&meter);
        let mut again: Meter = codec::decode(&stored, 1024).unwrap();
        let year_ms = 365 * 24 * 3600 * 1000;
        let later = Now {
            mono: Moment(1),
            wall: at(year_ms).wall,
        };
        let span = again.close(later);
        assert_eq!(span.until - span.from, SPAN_MS_MAX);
        assert_eq!(span.used.running_ms, SPAN_MS_MAX.unsigned_abs());
        assert_eq!(again.close(later).used.reserved_ms, 0);
    }

    #[test]
    fn many_short_spans_use_as_much_as_one_long_span() {
        let mut state = 12345_u64;
        let (mut whole, mut parts) = (Meter::new(at(0)), Meter::new(at(0)));
        let mut sum = Quantities::default();
        let (mut us, mut cpu) = (0, 0);
        for _ in 0..2_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            us += (state >> 33) % 5_000;
            cpu += (state >> 40) % 9;
            let mono = Moment(at(0).mono.0 + us);
            let now = Now {
                mono,
                wall: at(us / 1000).wall,
            };
            let sample = shows(cpu, (state >> 50) % 64, 3, cpu);
            for meter in [&mut whole, &mut parts] {
                meter.handle_running(!state.is_multiple_of(3), now);
                meter.handle_sample(sample, now);
            }
            if state.is_multiple_of(7) {
                add(&mut sum, parts.close(now).used);
            }
        }
        let end = Now {
            mono: Moment(at(0).mono.0 + us),
            wall: at(us / 1000).wall,
        };
        add(&mut sum, parts.close(end).used);
        assert_eq!(sum, whole.close(end).used);
    }

    fn add(sum: &mut Quantities, part: Quantities) {
        assert!(part.running_ms <= part.reserved_ms);
        sum.running_ms += part.running_ms;
        sum.reserved_ms += part.reserved_ms;
        sum.cpu_ms += part.cpu_ms;
        sum.memory_mib_s += part.memory_mib_s;
        sum.disk_mib_s += part.disk_mib_s;
        sum.received_bytes += part.received_bytes;
        sum.sent_bytes += part.sent_bytes;
    }
}
