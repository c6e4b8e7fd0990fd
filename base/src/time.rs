//! The two clocks that are passed as `now`: one that only goes forward, one that people read.
//!
//! Decisions about waiting use [`Moment`]; [`Wall`] appears only in records, expiry and billing.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time since this machine booted, suspend included (CLOCK_BOOTTIME), in microseconds. Never goes
/// back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// Returns how long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, rest: Duration) -> Self {
        let micros = u64::try_from(rest.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, as the machine's wall clock claims. May jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

impl Wall {
    /// Returns the start of the calendar-free billing day that contains this time (UTC).
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }
}

impl Add<Duration> for Wall {
    type Output = Self;

    fn add(self, rest: Duration) -> Self {
        let millis = i64::try_from(rest.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl Sub for Wall {
    /// Milliseconds; negative if the clock went back.
    type Output = i64;

    fn sub(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1000);
        let (year, month, day) = civil(self.0.div_euclid(86_400_000));
        let rest = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Both clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For waiting and deadlines.
    pub mono: Moment,
    /// For records, expiry and billing.
    pub wall: Wall,
}

/// Returns year, month and day of a day count since 1970 (proleptic Gregorian calendar).
///
/// Shifts the year to start in March so that the leap day is the last one; exact for all of [`i64`]
/// that a [`Wall`] can hold.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_prints_as_rfc_3339() {
        assert_eq!(Wall(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Wall(951_782_400_000).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Wall(1_795_413_600_000).to_string(), "2026-11-23T06:00:00Z");
        assert_eq!(Wall(-1000).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn moment_never_overflows() {
        assert_eq!(Moment(u64::MAX) + Duration::from_secs(1), Moment(u64::MAX));
        assert_eq!(Moment(1).since(Moment(2)), Duration::ZERO);
    }
}
