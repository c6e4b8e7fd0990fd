//! Buckets that fill with time: how much a neighbour may make us do.
//!
//! A lying neighbour cannot cause a storm, for what it asks above its share is counted and dropped.
//! Invariant: a bucket never holds more than its size.

use std::time::Duration;

use mesh_base::time::Moment;

/// How large a bucket is and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What may happen at once.
    pub burst: u32,
    /// What may happen each second in the long run; above zero.
    pub per_second: u32,
}

/// Requests about one prefix: a mesh of a thousand nodes that is cut in two makes some hundreds.
pub const REQUESTS: Pace = Pace {
    burst: 1024,
    per_second: 128,
};

/// Requests for the whole table, counted in sixteenths: three at once, one in four seconds.
pub const TABLES: Pace = Pace {
    burst: 48,
    per_second: 4,
};

/// What one request for the table takes of [`TABLES`].
pub const TABLE: u32 = 16;

/// A request for the table above that is answered so much later.
pub const TABLE_PAUSE: Duration = Duration::from_secs(4);

/// Updates that change something: a whole table at once, then what a busy mesh of ten thousand
/// nodes does. Retractions are never refused.
pub const CHANGES: Pace = Pace {
    burst: 20_000,
    per_second: 1000,
};

/// How often our own number grows because somebody asks: each growth is told to all neighbours.
pub const GROWTH: Pace = Pace {
    burst: 64,
    per_second: 4,
};

/// A bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    pace: Pace,
    /// In millionths of one, so that a microsecond's filling is a whole number.
    level: u64,
    filled_at: Moment,
}

const ONE: u64 = 1_000_000;

impl Bucket {
    /// Returns a full bucket.
    pub fn new(pace: Pace, now: Moment) -> Self {
        Self {
            pace,
            level: u64::from(pace.burst) * ONE,
            filled_at: now,
        }
    }

    /// Takes `count`, if so much is there.
    #[must_use]
    pub fn take(&mut self, count: u32, now: Moment) -> bool {
        let rest = now.since(self.filled_at).min(Duration::from_secs(86_400));
        let micros = u64::try_from(rest.as_micros()).unwrap_or(u64::MAX);
        let filling = micros.saturating_mul(u64::from(self.pace.per_second));
        let full = u64::from(self.pace.burst) * ONE;
        self.level = self.level.saturating_add(filling).min(full);
        self.filled_at = self.filled_at.max(now);
        let Some(level) = self.level.checked_sub(u64::from(count) * ONE) else {
            return false;
        };
        self.level = level;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_gives_its_burst_and_then_its_pace() {
        let pace = Pace {
            burst: 3,
            per_second: 2,
        };
        let mut bucket = Bucket::new(pace, Moment(0));
        assert_eq!((0..5).filter(|_| bucket.take(1, Moment(0))).count(), 3);
        assert!(!bucket.take(1, Moment(499_999)));
        assert!(bucket.take(1, Moment(500_000)));
        assert!(!bucket.take(1, Moment(500_000)));
        let later = Moment(1_000_000_000);
        assert_eq!((0..9).filter(|_| bucket.take(1, later)).count(), 3);
    }
}
