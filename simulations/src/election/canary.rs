//! Plants each bug of the election in turn and demands that its promise is seen broken.

use std::time::Duration;

use super::plant::Bug;
use super::steady::{self, Cell, Trouble};
use super::storm;
use super::world::Kind;
use crate::check::Violation;

/// The same seeds run without a bug; these at least.
const CONTROL_SEEDS_MIN: u64 = 3;
/// A link that comes and goes for so long.
const FLAPPING: Duration = Duration::from_secs(600);

/// What came of all bugs.
#[derive(Debug)]
pub struct Report {
    bugs: Vec<(Bug, Option<u64>)>,
    control_seeds: u64,
    control_failed: usize,
}

/// Plants each bug; prints what found it.
pub fn run(from: u64, seeds: u64) -> Report {
    let bugs: Vec<(Bug, Option<u64>)> = Bug::ALL
        .into_iter()
        .map(|bug| (bug, find(bug, from, seeds)))
        .collect();
    let tried = bugs.iter().map(|(_, found)| found.unwrap_or(seeds));
    let control_seeds = tried.max().unwrap_or(0).max(CONTROL_SEEDS_MIN);
    let control = (from..from + control_seeds).filter_map(|seed| look(seed, None));
    let control_failed = control.count();
    println!("control without a bug: {control_failed} of {control_seeds} seeds broken");
    Report {
        bugs,
        control_seeds,
        control_failed,
    }
}

/// Returns after how many seeds a bug is found.
fn find(bug: Bug, from: u64, seeds: u64) -> Option<u64> {
    for seed in from..from.saturating_add(seeds) {
        let Some(violation) = look(seed, Some(bug)) else {
            continue;
        };
        if !bug.promises().contains(&violation.promise) {
            println!("{bug}: seed {seed} broke a promise of its own: {violation}");
            continue;
        }
        println!("{bug}: found with seed {seed}\n  {violation}");
        return Some(seed - from + 1);
    }
    println!("{bug}: NOT FOUND within {seeds} seeds");
    None
}

fn look(seed: u64, bug: Option<Bug>) -> Option<Violation> {
    let cell = Cell {
        loss: 10,
        trouble: Trouble::HalfBroken,
    };
    let storm = storm::run(seed, Kind::Ours, bug).violation;
    storm.or_else(|| steady::run(seed, cell, FLAPPING, bug).violation)
}

impl Report {
    /// Returns whether each bug was found, and nothing without a bug.
    pub fn is_good(&self) -> bool {
        self.control_failed == 0 && self.bugs.iter().all(|(_, found)| found.is_some())
    }

    /// Returns one line with the figures.
    pub fn figure(&self) -> String {
        let words: Vec<String> = self
            .bugs
            .iter()
            .map(|(bug, found)| match found {
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
