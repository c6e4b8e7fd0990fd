//! From many measurements to the few numbers that people read.

use std::fmt;

/// Fail-overs, sorted, in microseconds.
#[derive(Debug, Default, Clone)]
pub struct Sample(Vec<u64>);

impl Sample {
    /// Returns the sample of these measurements.
    pub fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        Self(micros)
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the seconds within which so many of ten thousand ended.
    pub fn quantile(&self, of_10_000: usize) -> f64 {
        let index = (self.0.len() * of_10_000)
            .div_ceil(10_000)
            .saturating_sub(1);
        self.0
            .get(index)
            .map_or(f64::NAN, |micros| *micros as f64 / 1e6)
    }

    /// Returns the mean in seconds.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<u64>() as f64 / 1e6 / self.0.len().max(1) as f64
    }

    /// Returns how many took longer than so many seconds.
    pub fn above(&self, seconds: u64) -> usize {
        let limit = seconds * 1_000_000;
        self.0.len() - self.0.partition_point(|micros| *micros <= limit)
    }

    /// Returns the share that ended within so many seconds.
    pub fn within(&self, seconds: f64) -> f64 {
        let limit = (seconds * 1e6) as u64;
        self.0.partition_point(|micros| *micros <= limit) as f64 / self.0.len().max(1) as f64
    }
}

/// A share of cases, and what it may be with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub hits: usize,
    pub cases: usize,
}

impl Share {
    /// Returns hits by cases.
    pub fn value(self) -> f64 {
        self.hits as f64 / self.cases.max(1) as f64
    }

    /// Returns the upper end of the interval: the rule of three for none, Wilson's otherwise.
    pub fn bound(self) -> f64 {
        let cases = self.cases.max(1) as f64;
        if self.hits == 0 {
            return (3.0 / cases).min(1.0);
        }
        // 1.96 for two sides of 95 %.
        let (share, square) = (self.value(), 1.96_f64.powi(2));
        let middle = share + square / (2.0 * cases);
        let root = (share * (1.0 - share) / cases + square / (4.0 * cases * cases)).sqrt();
        (middle + 1.96 * root) / (1.0 + square / cases)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hits, cases) = (self.hits, self.cases);
        if hits == 0 {
            return write!(f, "0 of {cases} (≤ {:.1e})", self.bound());
        }
        write!(
            f,
            "{:.1e} (≤ {:.1e}, {hits} of {cases})",
            self.value(),
            self.bound()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measurements() {
        let sample = Sample::of((1..=100).rev().map(|second| second * 1_000_000).collect());
        assert_eq!(sample.quantile(5000), 50.0);
        assert_eq!(sample.quantile(9900), 99.0);
        assert_eq!((sample.above(95), sample.within(95.0)), (5, 0.95));
    }

    #[test]
    fn nothing_seen_is_bounded_by_three_by_n() {
        let share = |hits, cases| Share { hits, cases };
        assert_eq!(share(0, 3000).bound(), 0.001);
        assert!(share(5, 1000).value() < share(5, 1000).bound());
        assert!(share(5, 1000).bound() < 0.02);
    }
}
