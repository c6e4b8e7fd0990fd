//! One target: its corpus, then inputs made from it, each under a guard and a memory count.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mesh_fuzz::mutator::{Chance, input};
use mesh_fuzz::{Outcome, Target};

use crate::corpus::{self, Kept};
use crate::memory::peak_of;

/// Most memory for each byte of input.
pub const FACTOR_MAX: usize = 64;
/// Memory that any input may cost: the fixed part of a call.
const SLACK: usize = 64 * 1024;
/// Failures after which a target is given up.
const FAILURES_MAX: usize = 5;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where randomness begins.
    pub seed: u64,
    /// How many inputs for each target.
    pub inputs: u64,
}

/// What was seen of one target.
#[derive(Debug)]
pub struct Report {
    /// The target.
    pub name: &'static str,
    /// Inputs tried, kept ones not counted.
    pub tried: u64,
    /// How many of them were read.
    pub read: u64,
    /// Most memory of one call.
    pub peak: usize,
    /// Most memory for one byte, of calls that needed more than the slack.
    pub factor: usize,
    /// What failed.
    pub failures: Vec<String>,
    took: Duration,
}

impl Report {
    /// Says what the columns of [`Report::line`] are.
    pub const HEADING: &str =
        "target            inputs       read   peak KiB   ×input   µs each   verdict";

    /// Returns whether nothing failed.
    pub fn holds(&self) -> bool {
        self.failures.is_empty()
    }

    /// Returns the report as one line.
    pub fn line(&self) -> String {
        let micros = self.took.as_secs_f64() * 1e6 / self.tried.max(1) as f64;
        let verdict = if self.holds() { "ok" } else { "FAILED" };
        format!(
            "{:<14} {:>9} {:>10} {:>10} {:>8} {micros:>9.2}   {verdict}",
            self.name,
            self.tried,
            self.read,
            self.peak.div_ceil(1024),
            self.factor
        )
    }
}

/// Runs one target.
pub fn target(target: &Target, plan: Plan) -> Report {
    let start = Instant::now();
    let kept = corpus::read(target);
    // Slow answers that are remembered, and tables that are made once, are no input's memory.
    let stale = corpus::stale(target, &kept);
    for (_, bytes) in (target.lawful)() {
        let _ = catch_unwind(|| (target.run)(&bytes));
    }
    let mut report = Report {
        name: target.name,
        tried: 0,
        read: 0,
        peak: 0,
        factor: 0,
        failures: stale,
        took: Duration::ZERO,
    };
    for one in &kept {
        if let Err(failure) = report.judge(target, &one.bytes) {
            report.fail(format!("corpus/{}/{}: {failure}", target.name, one.name));
        }
    }
    report.try_inputs(target, plan, &kept);
    if plan.inputs == report.tried && (report.read == 0 || report.read == report.tried) {
        report.fail(format!("{} inputs and only one answer", report.tried));
    }
    report.took = start.elapsed();
    report
}

impl Report {
    fn try_inputs(&mut self, target: &Target, plan: Plan, kept: &[Kept]) {
        for number in 0..plan.inputs {
            let bytes = input(kept, Chance::new(plan.seed, number));
            self.tried += 1;
            match self.judge(target, &bytes) {
                Ok(Outcome::Read) => self.read += 1,
                Ok(Outcome::Refused) => {}
                Err(failure) => {
                    let path = corpus::keep_failed(target, number, &bytes);
                    self.fail(format!("input {number}, {}: {failure}", path.display()));
                    if FAILURES_MAX <= self.failures.len() {
                        return;
                    }
                }
            }
        }
    }

    fn fail(&mut self, failure: String) {
        println!("{}: {failure}", self.name);
        self.failures.push(failure);
    }

    fn judge(&mut self, target: &Target, bytes: &[u8]) -> Result<Outcome, String> {
        let call = || catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
        let (outcome, peak) = peak_of(call);
        // The message has been printed by then.
        let outcome = outcome.map_err(|_| "it panics".to_owned())?;
        self.peak = self.peak.max(peak);
        if let Some(factor) = peak.saturating_sub(SLACK).checked_div(bytes.len()) {
            self.factor = self.factor.max(factor);
        }
        let limit = FACTOR_MAX * bytes.len() + SLACK;
        if limit < peak {
            return Err(format!(
                "{} bytes of input take {peak} bytes of memory",
                bytes.len()
            ));
        }
        Ok(outcome)
    }
}
