//! Many seeds of the election on a few threads, what people see of them, and the bar.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::failover::{self, Measured};
use super::figures::{Sample, Share};
use super::steady::{self, CELLS, SHIFT, Shift};
use super::storm::{self, Weathered};
use super::tally::Tally;
use super::world::Kind;
use crate::check::Violation;
use crate::{bars, runner};

/// The scenario's name.
pub const NAME: &str = "election";
/// Fail-overs of one seed.
const FAILOVERS: u64 = 500;
/// Of the comparator, which nobody promises anything of.
const FAILOVERS_BULLY: u64 = 50;
/// The bar: seeds, fail-overs, and how long these take.
const SEEDS_NEEDED: u64 = 200;
const FAILOVERS_NEEDED: usize = 100_000;
const P50_MAX: f64 = 1.5;
const P99_MAX: f64 = 3.5;
const ABOVE_5_S_MAX: f64 = 1e-3;
/// Datagrams lost of a thousand while fail-overs are measured.
pub const LOSS: u64 = 10;
/// Failures that are shown.
const FAILURES_SHOWN: usize = 5;

/// What is to be run.
#[derive(Debug)]
pub struct Plan {
    pub from: u64,
    pub seeds: u64,
    pub jobs: usize,
}

/// What came of one seed.
#[derive(Debug, Default)]
pub struct Seed {
    pub measured: Measured,
    pub bully: Measured,
    pub storm: Weathered,
    pub bully_storm: Weathered,
    pub violation: Option<Violation>,
}

impl Seed {
    fn hash(&self) -> u64 {
        self.measured.hash ^ self.storm.hash.rotate_left(1) ^ self.bully.hash.rotate_left(2)
    }
}

/// What came of all.
#[derive(Debug)]
pub struct Summary {
    pub ours: Sample,
    pub bully: Sample,
    /// Leaders that changed between the failures although none had failed.
    pub unasked: u64,
    pub split: Share,
    pub bully_split: Share,
    pub unled: Share,
    pub bully_unled: Share,
    /// Virtual seconds of storms.
    pub storm_seconds: u64,
    pub shifts: Vec<Shift>,
    pub tally: Tally,
    pub failed: Vec<(u64, Violation)>,
    pub is_equal: bool,
    pub seeds: u64,
    pub seconds: f64,
}

/// Runs a plan; seeds that once failed are read from `regressions`, and kept there if `keep`.
/// Returns whether every promise held.
pub fn run(plan: &Plan, regressions: &Path, keep: bool) -> anyhow::Result<bool> {
    let kept = runner::kept(regressions, NAME)
        .with_context(|| format!("cannot read {}", regressions.display()))?;
    let summary = measure(plan, &kept);
    for (seed, violation) in summary.failed.iter().take(FAILURES_SHOWN) {
        println!("seed {seed}: {violation}");
        println!("  again: meshsim replay {NAME} {seed}");
    }
    if keep {
        let broken = summary.failed.iter();
        let broken = broken.map(|(seed, violation)| (*seed, violation.promise));
        runner::keep(regressions, NAME, broken)
            .with_context(|| format!("cannot write {}", regressions.display()))?;
    }
    print!("{}", summary.tally);
    for shift in &summary.shifts {
        println!(
            "{:?}, {} of 1000 lost: {} changes in 8 h, {} datagrams",
            shift.cell.trouble, shift.cell.loss, shift.changes, shift.sent
        );
        if let Some(violation) = &shift.violation {
            println!("{violation}");
        }
    }
    let missing = summary.tally.missing();
    for what in &missing {
        println!("never happened: {what}");
    }
    if !summary.is_equal {
        println!("seed {}: its second run had another hash", plan.from);
    }
    println!("{NAME}: {}", summary.figure());
    let (held, enough) = (summary.holds(), summary.is_enough());
    if enough || !held {
        let good = held && enough && summary.reaches() && missing.is_empty();
        bars::put("ledger.election", &summary.figure(), good)?;
    }
    // A few seeds need not meet everything.
    Ok(held && (!enough || (summary.reaches() && missing.is_empty())))
}

/// Runs a plan.
pub fn measure(plan: &Plan, kept: &[u64]) -> Summary {
    let started = Instant::now();
    let fresh = plan.from..plan.from.saturating_add(plan.seeds);
    let runs = runner::each(plan.jobs, kept, &fresh, one);
    let cells = 0..CELLS.len() as u64;
    let shifts = runner::each(plan.jobs, &[], &cells, |index| {
        let cell = usize::try_from(index)
            .ok()
            .and_then(|index| CELLS.get(index));
        cell.map(|cell| steady::run(plan.from + index, *cell, SHIFT, None))
    });
    let again = runs.get(&plan.from).map(Seed::hash);
    let is_equal = again.is_none_or(|hash| one(plan.from).hash() == hash);
    let mut summary = sum(runs);
    summary.shifts = shifts.into_values().flatten().collect();
    summary.is_equal = is_equal;
    summary.seeds = plan.seeds;
    summary.seconds = started.elapsed().as_secs_f64();
    summary
}

fn sum(runs: BTreeMap<u64, Seed>) -> Summary {
    let share = |hits: u64, cases: u64| Share {
        hits: usize::try_from(hits).unwrap_or(usize::MAX),
        cases: usize::try_from(cases).unwrap_or(usize::MAX),
    };
    let total = |of: fn(&Seed) -> u64| runs.values().map(of).sum::<u64>();
    let looks = total(|seed| seed.storm.looks);
    let bully_looks = total(|seed| seed.bully_storm.looks);
    let mut tally = Tally::default();
    for seed in runs.values() {
        tally.add(&seed.storm.tally);
        tally.add(&seed.measured.tally);
    }
    let times = |of: fn(&Seed) -> &Measured| {
        let all = runs.values().flat_map(|seed| of(seed).micros.iter());
        Sample::of(all.copied().collect())
    };
    Summary {
        ours: times(|seed| &seed.measured),
        bully: times(|seed| &seed.bully),
        unasked: total(|seed| seed.measured.unasked),
        split: share(total(|seed| seed.storm.split), looks),
        bully_split: share(total(|seed| seed.bully_storm.split), bully_looks),
        unled: share(total(|seed| seed.storm.unled), looks),
        bully_unled: share(total(|seed| seed.bully_storm.unled), bully_looks),
        storm_seconds: total(|seed| seed.storm.micros) / 1_000_000,
        shifts: Vec::new(),
        tally,
        failed: runs
            .into_iter()
            .filter_map(|(number, seed)| Some((number, seed.violation?)))
            .collect(),
        is_equal: true,
        seeds: 0,
        seconds: 0.0,
    }
}

/// Runs one seed; a panic of the core is a broken promise like any other.
fn one(number: u64) -> Seed {
    let run = || {
        let mut seed = Seed {
            storm: storm::run(number, Kind::Ours, None),
            bully_storm: storm::run(number, Kind::Bully, None),
            measured: failover::run(number, Kind::Ours, LOSS, FAILOVERS, None),
            bully: failover::run(number, Kind::Bully, LOSS, FAILOVERS_BULLY, None),
            violation: None,
        };
        let broken = seed.storm.violation.take();
        seed.violation = broken.or_else(|| seed.measured.violation.take());
        if let Some(violation) = &seed.violation {
            eprintln!("seed {number} failed: {}", violation.promise);
        }
        seed
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Seed {
        violation: Some(Violation::new(
            "no input makes a voter panic",
            runner::panic_text(&*panic),
        )),
        ..Seed::default()
    })
}

impl Summary {
    /// Returns whether every promise held.
    pub fn holds(&self) -> bool {
        let quiet = self.shifts.iter().all(|shift| shift.violation.is_none());
        self.failed.is_empty() && quiet && self.is_equal
    }

    fn is_enough(&self) -> bool {
        SEEDS_NEEDED <= self.seeds && FAILOVERS_NEEDED <= self.ours.len()
    }

    fn reaches(&self) -> bool {
        self.ours.quantile(5000) <= P50_MAX
            && self.ours.quantile(9900) <= P99_MAX
            && self.slow().value() <= ABOVE_5_S_MAX
    }

    /// Returns how many fail-overs took more than five seconds.
    pub fn slow(&self) -> Share {
        Share {
            hits: self.ours.above(5),
            cases: self.ours.len(),
        }
    }

    fn figure(&self) -> String {
        let changes: u64 = self.shifts.iter().map(|shift| shift.changes).sum();
        format!(
            "{} seeds, {} broken; {} fail-overs: p50 {:.2} s, p99 {:.2} s, worst {:.2} s, \
             P(> 5 s) {}; {changes} changes in {} × 8 h; two leaders at once in storms: ours \
             {:.2} % \
             (wild clocks only), bully {:.1} %; bully p50 {:.2} s; {:.0} s",
            self.seeds,
            self.failed.len(),
            self.ours.len(),
            self.ours.quantile(5000),
            self.ours.quantile(9900),
            self.ours.quantile(10_000),
            self.slow(),
            self.shifts.len(),
            self.split.value() * 100.0,
            self.bully_split.value() * 100.0,
            self.bully.quantile(5000),
            self.seconds
        )
    }
}

/// Runs one seed and shows it. Returns whether every promise held.
pub fn replay(number: u64) -> bool {
    let seed = one(number);
    let sample = Sample::of(seed.measured.micros.clone());
    print!("{}", seed.storm.tally);
    println!(
        "{} fail-overs, p50 {:.2} s; storm of {} virtual s; hash {:016x}",
        sample.len(),
        sample.quantile(5000),
        seed.storm.micros / 1_000_000,
        seed.hash()
    );
    match &seed.violation {
        Some(violation) => println!("{violation}"),
        None => println!("every promise held"),
    }
    seed.violation.is_none()
}
