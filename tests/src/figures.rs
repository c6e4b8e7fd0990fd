//! What a test measured, told to the scoreboard.
//!
//! A test may run under another user, so it only says its figure on a line of its own; the runner,
//! outside, reads the line and writes the file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// Opens a line that tells a figure.
const MARK: &str = "bar\t";

/// A measured figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The bar it belongs to.
    pub bar: String,
    /// What was measured, for people.
    pub text: String,
    /// Whether the bar's limit is kept.
    pub holds: bool,
}

impl Figure {
    /// Says the figure on standard output.
    pub fn tell(&self) {
        let verdict = if self.holds { "ok" } else { "short" };
        println!("{MARK}{}\t{}\t{verdict}", self.bar, self.text);
    }

    /// Says the figure, and that the test fails if the limit is not kept.
    ///
    /// # Errors
    /// The limit is not kept.
    pub fn hold(&self) -> anyhow::Result<()> {
        self.tell();
        ensure!(self.holds, "{} is not kept: {}", self.bar, self.text);
        Ok(())
    }

    /// Reads a line that tells a figure.
    pub fn of_line(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix(MARK)?.split('\t');
        let (bar, text, verdict) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            bar: bar.to_owned(),
            text: text.to_owned(),
            holds: verdict == "ok",
        })
    }

    /// Writes the figure where the scoreboard looks for it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.bar));
        let text = serde_json::json!({ "figure": self.text, "ok": self.holds }).to_string();
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Durations of the same thing, measured again and again.
#[derive(Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    /// Adds one.
    pub fn add(&mut self, one: Duration) {
        self.0.push(one);
        self.0.sort_unstable();
    }

    /// Returns the smallest one that `percent` of them do not exceed; zero if there is none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }

    /// Returns a summary for people.
    pub fn summary(&self) -> String {
        let [p50, p95, worst] = [50, 95, 100].map(|percent| self.percentile(percent).as_secs_f64());
        format!(
            "p50 {p50:.2} s, p95 {p95:.2} s, worst {worst:.2} s of {}",
            self.0.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_figure_is_read_back() {
        let line = "bar\tfirst.order-hot\tp95 0.4 s\tok";
        let figure = Figure::of_line(line).unwrap();
        assert_eq!(
            (figure.bar.as_str(), figure.holds),
            ("first.order-hot", true)
        );
        assert_eq!(Figure::of_line("barn\ta\tb\tok"), None);
    }

    #[test]
    fn percentile_is_the_value_at_its_rank() {
        let mut durations = Durations::default();
        for seconds in (1..=20).rev() {
            durations.add(Duration::from_secs(seconds));
        }
        assert_eq!(durations.percentile(50), Duration::from_secs(10));
        assert_eq!(durations.percentile(95), Duration::from_secs(19));
        assert_eq!(durations.percentile(100), Duration::from_secs(20));
        assert_eq!(Durations::default().percentile(95), Duration::ZERO);
    }
}
