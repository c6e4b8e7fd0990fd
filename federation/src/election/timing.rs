//! How long an election waits for what, and where the numbers come from.
//!
//! Invariant: a lease ends before every promise that it rests on, on clocks that are wrong by at
//! most [`DRIFT_PPM_MAX`] each; asserted below.

use std::time::Duration;

use mesh_base::chance::Chance;

/// How often a leader speaks: above the round trips of a continent, and ten beats may be lost
/// before anybody worries.
pub const BEAT: Duration = Duration::from_millis(100);

/// How long a voter that has heard a beat helps nobody else, by its own clock from receipt.
pub const PROMISE: Duration = Duration::from_secs(1);

/// How wrong a clock's speed may be for leases to be exclusive: crystals are below 200 ppm, and the
/// kernel corrects by at most 500.
pub const DRIFT_PPM_MAX: u64 = 1000;

/// How long a leader acts after it *sent* what a majority answered, by its own clock.
pub const LEASE: Duration = Duration::from_micros(1_000_000 - 2 * DRIFT_PPM_MAX);

/// How long a leader whose lease ran out goes on asking for one before it steps down: twenty beats.
/// At 20 % loss and with one follower left, all their answers are lost once in 10^9 windows.
pub const OFFICE: Duration = Duration::from_secs(2);

/// How long a follower waits for a beat before it sounds the others. Never below [`PROMISE`]; the
/// draw keeps two of them from rising together.
pub const PATIENCE: Draw = Draw::millis(1000, 1500);

/// How long a sounding or a candidacy lasts before it is begun again.
pub const CAMPAIGN: Draw = Draw::millis(300, 600);

/// How long somebody who said yes to another leaves it the field.
pub const COURTESY: Draw = Draw::millis(300, 600);

/// How often a question without an answer is asked again; above a round trip.
pub const AGAIN: Duration = Duration::from_millis(100);

/// A span that is drawn anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    low_micros: u64,
    high_micros: u64,
}

impl Draw {
    const fn millis(low: u64, high: u64) -> Self {
        Self {
            low_micros: low * 1000,
            high_micros: high * 1000,
        }
    }

    /// Draws one.
    pub fn draw(self, chance: &mut Chance) -> Duration {
        let width = self.high_micros - self.low_micros;
        Duration::from_micros(self.low_micros + chance.below(width))
    }
}

const _: () = assert!(PROMISE.as_micros() <= PATIENCE.low_micros as u128);
const _: () = {
    // A slow clock stretches the lease, a fast one shortens the promise.
    let parts = 1_000_000;
    let drift = DRIFT_PPM_MAX as u128;
    assert!(LEASE.as_micros() * (parts + drift) < PROMISE.as_micros() * (parts - drift));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_their_span_and_differ() {
        let mut chance = Chance::new(1);
        let draws: Vec<Duration> = (0..1000).map(|_| PATIENCE.draw(&mut chance)).collect();
        let span = Duration::from_millis(1000)..Duration::from_millis(1500);
        assert!(draws.iter().all(|draw| span.contains(draw)));
        assert_ne!(draws[0], draws[1]);
    }
}
