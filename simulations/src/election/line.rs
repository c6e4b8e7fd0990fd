//! One direction between two voters: delay, loss, bursts of loss, cuts.

use std::time::Duration;

use mesh_base::time::Moment;

use super::tally::Fault;
use crate::chance::Chance;

/// What the weather on all lines is like.
#[derive(Debug, Clone, Copy)]
pub struct Climate {
    /// Datagrams lost of a thousand, each by itself.
    pub loss: u64,
    /// Mean time between bursts of a line, in which everything is lost; none if zero.
    pub burst_every: Duration,
    /// Datagrams that arrive twice, of a thousand.
    pub twice: u64,
    /// Datagrams that take up to three seconds, of a thousand.
    pub late: u64,
}

impl Climate {
    /// A home's line on an ordinary day: bursts every twenty seconds.
    pub const fn lossy(permille: u64) -> Self {
        Self {
            loss: permille,
            burst_every: Duration::from_secs(20),
            twice: 0,
            late: 0,
        }
    }
}

/// Longest burst; the mean is half of it and a little.
const BURST_MAX: Duration = Duration::from_millis(400);

/// One direction.
#[derive(Debug)]
pub struct Line {
    pub is_cut: bool,
    burst_until: Moment,
    burst_at: Option<Moment>,
}

impl Line {
    pub fn new() -> Self {
        Self {
            is_cut: false,
            burst_until: Moment(0),
            burst_at: None,
        }
    }

    /// Returns how long a datagram takes, or what took it.
    pub fn carry(
        &mut self,
        climate: &Climate,
        now: Moment,
        chance: &mut Chance,
    ) -> Result<Duration, Option<Fault>> {
        self.burst(climate, now, chance);
        if self.is_cut {
            return Err(None);
        }
        if now < self.burst_until {
            return Err(Some(Fault::Burst));
        }
        if chance.permille(climate.loss) {
            return Err(Some(Fault::Loss));
        }
        // 20 ms a way with jitter, and a tail.
        let mut micros = chance.between(16_000, 24_000);
        if chance.permille(50) {
            micros += chance.below(60_000);
        }
        if chance.permille(climate.late) {
            micros += chance.below(3_000_000);
        }
        Ok(Duration::from_micros(micros))
    }

    fn burst(&mut self, climate: &Climate, now: Moment, chance: &mut Chance) {
        if climate.burst_every.is_zero() {
            return;
        }
        let mut at = self
            .burst_at
            .unwrap_or_else(|| now + chance.span(Duration::ZERO, climate.burst_every * 2));
        while at <= now {
            self.burst_until = at + chance.span(Duration::from_millis(50), BURST_MAX);
            at = at + chance.span(BURST_MAX, climate.burst_every * 2);
        }
        self.burst_at = Some(at);
    }
}
