//! Plants each bug of the election in turn and demands that its promise is seen broken.

use std::time::Duration;

use super::plant::Bug;
use super::steady::{self, Cell, Trouble};
use super::storm;
use super::world::Kind;
use crate::canary::{Report, control_seeds};
use crate::check::Violation;

/// A link that comes and goes for so long.
const FLAPPING: Duration = Duration::from_secs(600);

/// Plants each bug; prints what found it.
pub fn run(from: u64, seeds: u64) -> Report<Bug> {
    let bugs: Vec<(Bug, Option<u64>)> = Bug::ALL
        .into_iter()
        .map(|bug| (bug, find(bug, from, seeds)))
        .collect();
    let control_seeds = control_seeds(bugs.iter().map(|(_, needed)| needed.unwrap_or(seeds)));
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
