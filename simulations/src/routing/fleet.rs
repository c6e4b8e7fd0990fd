//! Many seeds of the routing scenarios on a few threads, what people see of them, and the figures.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::scale::Figures;
use super::tally::Tally;
use super::{Outcome, loops, scale};
use crate::check::Violation;
use crate::{bars, runner};

/// Seeds and route changes that the bar asks for.
const SEEDS_NEEDED: u64 = 200;
const CHANGES_NEEDED: u64 = 1_000_000;
/// Nodes that the bar asks for, and how many are run unless somebody says otherwise.
pub const NODES_NEEDED: usize = 1000;
/// Failures that are shown.
const FAILURES_SHOWN: usize = 5;

/// A story about routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Many faults.
    Loops,
    /// Many nodes.
    Scale,
}

impl Scenario {
    /// Returns the scenario of a name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Loops, Self::Scale];
        all.into_iter().find(|scenario| scenario.name() == name)
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loops => "routing",
            Self::Scale => "routing-scale",
        }
    }
}

/// What is to be run.
#[derive(Debug)]
pub struct Plan {
    /// Which of the two.
    pub scenario: Scenario,
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// How many at the same time.
    pub jobs: usize,
    /// Of [`Scenario::Scale`].
    pub nodes: usize,
}

/// Runs a plan; seeds that once failed are read from `regressions`, and kept there if `keep`.
/// Returns whether every promise held.
pub fn run(plan: &Plan, regressions: &Path, keep: bool) -> anyhow::Result<bool> {
    let (started, name) = (Instant::now(), plan.scenario.name());
    let kept = runner::kept(regressions, name)
        .with_context(|| format!("cannot read {}", regressions.display()))?;
    let fresh = plan.from..plan.from.saturating_add(plan.seeds);
    let runs = runner::each(plan.jobs, &kept, &fresh, |seed| {
        let run = one(plan, seed, false);
        if let Some(violation) = &run.0.violation {
            eprintln!("seed {seed} failed: {}", violation.promise);
        }
        run
    });
    let failed: Vec<(u64, &Violation)> = runs
        .values()
        .filter_map(|(outcome, _)| Some((outcome.seed, outcome.violation.as_ref()?)))
        .collect();
    for (seed, violation) in failed.iter().take(FAILURES_SHOWN) {
        println!("seed {seed}: {violation}");
        println!("  again: meshsim replay {name} {seed} --trace");
    }
    if keep {
        let broken = failed
            .iter()
            .map(|(seed, violation)| (*seed, violation.promise));
        runner::keep(regressions, name, broken)
            .with_context(|| format!("cannot write {}", regressions.display()))?;
    }
    let mut tally = Tally::default();
    for (outcome, _) in runs
        .values()
        .filter(|(outcome, _)| fresh.contains(&outcome.seed))
    {
        tally.add(&outcome.tally);
    }
    print!("{tally}");
    let is_whole = failed.is_empty();
    let good = match plan.scenario {
        Scenario::Loops => report_loops(plan, &runs, &tally, started)?,
        Scenario::Scale => report_scale(plan, &runs, started)?,
    };
    Ok(good && is_whole)
}

type Runs = BTreeMap<u64, (Outcome, Figures)>;

/// Runs one seed; a panic of the core is a broken promise like any other.
fn one(plan: &Plan, seed: u64, is_loud: bool) -> (Outcome, Figures) {
    let run = || match plan.scenario {
        Scenario::Loops => (loops::run(seed, is_loud), Figures::default()),
        Scenario::Scale => scale::run(seed, plan.nodes, is_loud),
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let outcome = Outcome {
            seed,
            parameters: String::new(),
            hash: 0,
            micros: 0,
            tally: Tally::default(),
            hole: 0,
            violation: Some(Violation::new(
                "no input makes a speaker panic",
                runner::panic_text(&*panic),
            )),
        };
        (outcome, Figures::default())
    })
}

fn report_loops(plan: &Plan, runs: &Runs, tally: &Tally, started: Instant) -> anyhow::Result<bool> {
    let failed = runs
        .values()
        .filter(|(one, _)| one.violation.is_some())
        .count();
    let hole = runs
        .values()
        .map(|(one, _)| one.hole)
        .max()
        .unwrap_or_default();
    let seconds: u64 = runs.values().map(|(one, _)| one.micros / 1_000_000).sum();
    let missing = tally.missing();
    for what in &missing {
        println!("never happened: {what}");
    }
    let again = runs.get(&plan.from).map(|(first, _)| first.hash);
    let is_equal = again.is_none_or(|hash| one(plan, plan.from, false).0.hash == hash);
    if !is_equal {
        println!("seed {}: its second run had another hash", plan.from);
    }
    let figure = format!(
        "{} seeds, {failed} broken, {} route changes walked, {} faults, longest hole beside a path \
         below {} s, {seconds} virtual s, {:.0} s",
        plan.seeds,
        tally.changes,
        tally.faults.sum(),
        hole + 1,
        started.elapsed().as_secs_f64()
    );
    println!("{}: {figure}", plan.scenario.name());
    let enough = SEEDS_NEEDED <= plan.seeds && CHANGES_NEEDED <= tally.changes;
    let held = failed == 0 && is_equal;
    if enough || !held {
        let everything = missing.is_empty();
        bars::put("routing.loops", &figure, held && enough && everything)?;
    }
    // A few seeds need not meet everything.
    Ok(held && (missing.is_empty() || plan.seeds < SEEDS_NEEDED))
}

fn report_scale(plan: &Plan, runs: &Runs, started: Instant) -> anyhow::Result<bool> {
    let (mut good, name) = (true, plan.scenario.name());
    for (seed, (outcome, figures)) in runs {
        println!("{name} {seed}: {figures}, hash {:016x}", outcome.hash);
        good &= figures.is_good() && outcome.violation.is_none();
    }
    println!("{:.0} s", started.elapsed().as_secs_f64());
    let first = runs.get(&plan.from);
    if let Some((_, figures)) = first
        && (NODES_NEEDED <= plan.nodes || !good)
    {
        let ok = good && NODES_NEEDED <= plan.nodes;
        bars::put("routing.scale", &figures.to_string(), ok)?;
    }
    Ok(good)
}

/// Runs one seed and shows it. Returns whether every promise held.
pub fn replay(scenario: Scenario, seed: u64, nodes: usize, is_loud: bool) -> bool {
    let plan = Plan {
        scenario,
        from: seed,
        seeds: 1,
        jobs: 1,
        nodes,
    };
    println!("seed {seed} of {}", scenario.name());
    let (outcome, figures) = one(&plan, seed, is_loud);
    println!("{}", outcome.parameters);
    print!("{}", outcome.tally);
    if scenario == Scenario::Scale {
        println!("{figures}");
    }
    println!(
        "{} virtual s, hash {:016x}",
        outcome.micros / 1_000_000,
        outcome.hash
    );
    match &outcome.violation {
        Some(violation) => println!("{violation}"),
        None => println!("every promise held"),
    }
    outcome.violation.is_none()
}
