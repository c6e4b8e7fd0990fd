//! Plants each bug in turn and demands that its promise is seen broken.
//!
//! Seeds are tried one after the other until one finds the bug; the same seeds without a bug must
//! find nothing, or the checkers cry at everything. What was found can be shrunk. Invariant: a
//! finding of a promise that the bug does not break counts as none.

use std::fmt::Display;
use std::ops::Range;

use crate::check::Violation;
use crate::plant::Plant;
use crate::runner::{self, Plan};
use crate::scenario::{Case, Scenario};

/// The same seeds run without a bug; these at least.
const CONTROL_SEEDS_MIN: u64 = 3;

/// A bug and what found it.
#[derive(Debug)]
struct Found {
    seed: u64,
    violation: Violation,
}

/// What came of all bugs of a kind.
#[derive(Debug)]
pub struct Report<B> {
    /// Each bug, and within how many seeds it was found.
    pub bugs: Vec<(B, Option<u64>)>,
    /// How many seeds ran without a bug.
    pub control_seeds: u64,
    /// How many of them were broken.
    pub control_failed: usize,
}

/// Returns how many seeds run without a bug: as many as the bug that took most, and some at least.
pub fn control_seeds(needed: impl Iterator<Item = u64>) -> u64 {
    needed.max().unwrap_or(0).max(CONTROL_SEEDS_MIN)
}

/// Whether the smallest run is looked for, which takes a minute a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The first run that finds the bug is enough.
    Found,
    /// Shrink it.
    Shrunk,
}

/// Plants each bug; prints what found it and how long that took.
pub fn run(from: u64, seeds: u64, finish: Finish) -> Report<Plant> {
    let bugs: Vec<_> = Plant::ALL
        .into_iter()
        .map(|plant| (plant, find(plant, from, seeds)))
        .inspect(|(plant, found)| tell(*plant, found.as_ref(), finish, from..from + seeds))
        .map(|(plant, found)| (plant, found.map(|found| found.seed - from + 1)))
        .collect();
    let control_seeds = control_seeds(bugs.iter().map(|(_, needed)| needed.unwrap_or(seeds)));
    let control = runner::run(&Plan {
        scenario: Scenario::First,
        from,
        seeds: control_seeds,
        jobs: 2,
        kept: Vec::new(),
    });
    let control_failed = control.failed().len();
    println!("control without a bug: {control_failed} of {control_seeds} seeds broken");
    Report {
        bugs,
        control_seeds,
        control_failed,
    }
}

fn find(plant: Plant, from: u64, seeds: u64) -> Option<Found> {
    for seed in from..from.saturating_add(seeds) {
        let mut case = Case::of(Scenario::First, seed);
        case.plant = Some(plant);
        let Some(violation) = runner::one(&case).violation else {
            continue;
        };
        if !plant.promises().contains(&violation.promise) {
            println!("{plant}: seed {seed} broke a promise of its own: {violation}");
            continue;
        }
        return Some(Found { seed, violation });
    }
    None
}

fn tell(plant: Plant, found: Option<&Found>, finish: Finish, seeds: Range<u64>) {
    let Some(found) = found else {
        println!(
            "{plant}: NOT FOUND within {} seeds",
            seeds.end - seeds.start
        );
        return;
    };
    let Found { seed, violation } = found;
    println!(
        "{plant}: found by \"{}\" with seed {seed}, after {} seeds",
        violation.checker,
        seed - seeds.start + 1
    );
    println!(
        "  broken: {}\n  seen: {}",
        violation.promise, violation.seen
    );
    let mut case = Case::of(Scenario::First, *seed);
    case.plant = Some(plant);
    if finish == Finish::Shrunk {
        case.trim = runner::smallest(&case, violation);
    }
    println!("  again: {}", case.command());
}

impl<B: Display> Report<B> {
    /// Returns whether each bug was found, and nothing without a bug.
    pub fn is_good(&self) -> bool {
        self.control_failed == 0 && self.bugs.iter().all(|(_, found)| found.is_some())
    }

    /// Returns one line with the figures.
    pub fn figure(&self) -> String {
        let words: Vec<String> = self
            .bugs
            .iter()
            .map(|(bug, needed)| match needed {
                Some(seeds) => format!("{bug} {seeds}"),
                None => format!("{bug} not found"),
            })
            .collect();
        format!(
            "seeds needed: {}; control {} of {} broken",
            words.join(", "),
            self.control_failed,
            self.control_seeds
        )
    }
}
