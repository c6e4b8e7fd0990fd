//! Many seeds on a few threads, and what people see of them.
//!
//! A seed runs silently; one that fails is shrunk and runs again with its last events kept, which
//! also shows that it fails the same way. Invariant: the summary does not depend on how many
//! threads there are.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use mesh_base::digest::Digest;

use crate::check::Violation;
use crate::scenario::{Case, Outcome, Scenario};
use crate::shrink::shrink;
use crate::tally::Tally;
use crate::trail::Voice;
use crate::trim::Trim;

/// How many last events a failure shows.
const LINES_SHOWN: usize = 60;
/// How many failing seeds are shown in full.
const FAILURES_SHOWN: usize = 3;

/// What is to be run.
#[derive(Debug)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// The first seed.
    pub from: u64,
    /// How many seeds.
    pub seeds: u64,
    /// How many at the same time.
    pub jobs: usize,
    /// Seeds that once failed; they come first and do not count.
    pub kept: Vec<u64>,
}

/// How much a replay shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// The last events.
    Last,
    /// Every event.
    Trace,
}

impl Verbosity {
    /// Returns what is shown with or without a trace.
    pub fn of(trace: bool) -> Self {
        if trace { Self::Trace } else { Self::Last }
    }
}

/// What came of all seeds.
#[derive(Debug)]
pub struct Summary {
    scenario: Scenario,
    seeds: u64,
    outcomes: BTreeMap<u64, Outcome>,
    /// Faults and branches of the seeds asked for.
    pub tally: Tally,
    /// The first seed, if its second run had another hash.
    pub unequal: Option<u64>,
    elapsed: Duration,
}

/// Runs all seeds of a plan.
pub fn run(plan: &Plan) -> Summary {
    let started = Instant::now();
    let fresh = plan.from..plan.from.saturating_add(plan.seeds);
    let outcomes = each(plan.jobs, &plan.kept, &fresh, |seed| {
        let outcome = one(&Case::of(plan.scenario, seed));
        show_progress(&outcome, started);
        outcome
    });
    let mut tally = Tally::default();
    let asked = outcomes
        .values()
        .filter(|outcome| fresh.contains(&outcome.seed));
    asked.for_each(|outcome| tally.add(&outcome.tally));
    let again = outcomes
        .get(&plan.from)
        .map(|first| (first.hash, first.seed));
    let unequal = again
        .filter(|(hash, seed)| one(&Case::of(plan.scenario, *seed)).hash != *hash)
        .map(|(_, seed)| seed);
    Summary {
        scenario: plan.scenario,
        seeds: plan.seeds,
        tally,
        unequal,
        outcomes,
        elapsed: started.elapsed(),
    }
}

/// Runs kept seeds and then fresh ones on so many threads; returns what came of each.
pub(crate) fn each<T: Send>(
    jobs: usize,
    kept: &[u64],
    fresh: &Range<u64>,
    run: impl Fn(u64) -> T + Sync,
) -> BTreeMap<u64, T> {
    let mut seeds = kept.to_vec();
    seeds.extend(fresh.clone().filter(|seed| !kept.contains(seed)));
    let runs = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(*seed);
                    if let Ok(mut runs) = runs.lock() {
                        runs.insert(*seed, outcome);
                    }
                }
            });
        }
    });
    runs.into_inner().unwrap_or_default()
}

/// Runs one seed; a panic of the core is a broken promise like any other.
pub(crate) fn one(case: &Case) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| case.run())).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Outcome {
            seed: case.seed,
            parameters: String::new(),
            hash: Digest::default(),
            events: 0,
            seconds: 0,
            tally: Tally::default(),
            violation: Some(Violation::new("no input makes a node panic", text)),
            lines: Vec::new(),
        }
    })
}

/// Returns what a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

/// Tells people who wait; results go to stdout later.
fn show_progress(outcome: &Outcome, started: Instant) {
    let (seed, at) = (outcome.seed, started.elapsed().as_secs());
    match &outcome.violation {
        Some(violation) => eprintln!("{at:>5} s  seed {seed} failed: {violation}"),
        None => eprintln!("{at:>5} s  seed {seed} held"),
    }
}

impl Summary {
    /// Returns the seeds that broke a promise.
    pub fn failed(&self) -> Vec<u64> {
        let failed = self
            .outcomes
            .values()
            .filter(|outcome| outcome.violation.is_some());
        failed.map(|outcome| outcome.seed).collect()
    }

    /// Returns the seeds that broke a promise, with the promise.
    pub fn broken(&self) -> impl Iterator<Item = (u64, &'static str)> {
        self.outcomes.values().filter_map(|outcome| {
            let violation = outcome.violation.as_ref()?;
            Some((outcome.seed, violation.promise))
        })
    }

    /// Returns whether every promise held, everything happened at least once and hashes were equal.
    pub fn is_good(&self) -> bool {
        self.failed().is_empty() && self.unequal.is_none() && self.missing().is_empty()
    }

    /// Returns the fault kinds and branches that a run of this scenario must meet and did not.
    pub fn missing(&self) -> Vec<String> {
        // The small scenario is about one branch only; the large one meets all.
        if self.scenario == Scenario::First {
            self.tally.missing()
        } else {
            Vec::new()
        }
    }

    /// Returns one line with the figures.
    pub fn figure(&self) -> String {
        let failed = self.failed().len();
        let events: u64 = self.outcomes.values().map(|outcome| outcome.events).sum();
        let faults = self.tally.faults.sum();
        format!(
            "{} seeds, {failed} broken, {faults} faults, {events} events, {:.0} s",
            self.seeds,
            self.elapsed.as_secs_f64()
        )
    }

    /// Prints what happened.
    pub fn print(&self) {
        let failed = self.outcomes.values().filter_map(|outcome| {
            let violation = outcome.violation.as_ref()?;
            Some((outcome.seed, violation))
        });
        for (seed, violation) in failed.take(FAILURES_SHOWN) {
            let mut case = Case::of(self.scenario, seed);
            case.trim = smallest(&case, violation);
            replay(case, Verbosity::Last);
        }
        print!("{}", self.tally);
        let seconds: u64 = self.outcomes.values().map(|outcome| outcome.seconds).sum();
        println!("{seconds} virtual seconds");
        for what in self.missing() {
            println!("never happened: {what}");
        }
        if let Some(seed) = self.unequal {
            println!("seed {seed}: its second run had another event hash");
        }
        println!("{}: {}", self.scenario.name(), self.figure());
    }
}

/// Returns what the smallest run found leaves out and still breaks the same promise.
pub fn smallest(case: &Case, violation: &Violation) -> Trim {
    shrink(case.scenario.orders(), |trim| {
        let mut case = case.clone();
        case.trim = trim.clone();
        let seen = one(&case).violation;
        seen.is_some_and(|seen| seen.promise == violation.promise)
    })
}

/// Runs one seed and shows it. Returns whether every promise held.
pub fn replay(mut case: Case, verbosity: Verbosity) -> bool {
    case.voice = if verbosity == Verbosity::Trace {
        Voice::Print
    } else {
        Voice::Keep
    };
    println!(
        "seed {} of {}{}",
        case.seed,
        case.scenario.name(),
        case.trim
    );
    let outcome = one(&case);
    println!("{}", outcome.parameters);
    if verbosity == Verbosity::Last {
        let hidden = outcome.lines.len().saturating_sub(LINES_SHOWN);
        outcome
            .lines
            .iter()
            .skip(hidden)
            .for_each(|line| println!("{line}"));
    }
    println!(
        "{} events, {} virtual seconds, hash {}",
        outcome.events,
        outcome.seconds,
        outcome.hash.short()
    );
    match &outcome.violation {
        Some(violation) => println!("{violation}\n  again: {}", case.command()),
        None => println!("every promise held"),
    }
    outcome.violation.is_none()
}

/// Runs seeds twice. Returns whether each pair of runs had one hash.
pub fn twice(from: u64, seeds: u64) -> bool {
    let mut good = true;
    for seed in from..from.saturating_add(seeds) {
        for scenario in [Scenario::First, Scenario::LastSlot] {
            let [a, b] = [Voice::Silent, Voice::Keep].map(|voice| {
                let mut case = Case::of(scenario, seed);
                case.voice = voice;
                one(&case).hash
            });
            let word = if a == b { "equal" } else { "UNEQUAL" };
            println!(
                "{} {seed}: {} {} {word}",
                scenario.name(),
                a.short(),
                b.short()
            );
            good &= a == b;
        }
    }
    good
}

/// Reads the seeds of a scenario that once failed; a file that is not there holds none.
pub fn kept(path: &Path, scenario: &str) -> io::Result<Vec<u64>> {
    Ok(read_kept(&regressions(path)?, scenario))
}

fn regressions(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

fn read_kept(text: &str, scenario: &str) -> Vec<u64> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let pairs = lines.filter_map(|line| line.trim().split_once(' '));
    let mine = pairs.filter(|(name, _)| *name == scenario);
    mine.filter_map(|(_, seed)| seed.trim().parse().ok())
        .collect()
}

/// Adds seeds that failed to the file, each with the promise that broke, unless they are there.
pub fn keep(
    path: &Path,
    scenario: &str,
    broken: impl Iterator<Item = (u64, &'static str)>,
) -> io::Result<()> {
    let mut text = regressions(path)?;
    let known = read_kept(&text, scenario);
    for (seed, promise) in broken {
        if !known.contains(&seed) {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&format!("{scenario} {seed} # {promise}\n"));
        }
    }
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_seeds_are_read_by_scenario() {
        let text = "# comment\nfirst 17 # once lost an order\nlast-slot 4\nfirst 3\n\n";
        assert_eq!(read_kept(text, "first"), [17, 3]);
        assert_eq!(read_kept(text, "last-slot"), [4]);
    }

    #[test]
    fn failed_seeds_are_added_to_those_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("regressions.txt");
        let add = |seed| keep(&path, "first", [(seed, "a promise")].into_iter());
        add(17).unwrap();
        assert_eq!(kept(&path, "first").unwrap(), [17]);
        fs::write(&path, "first 17 # by hand, without an end").unwrap();
        add(17).unwrap();
        add(4).unwrap();
        assert_eq!(kept(&path, "first").unwrap(), [17, 4]);
    }

    #[test]
    fn file_of_kept_seeds_that_cannot_be_read_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("regressions.txt");
        let damaged = b"first 17\nfirst 4 # \xff\n";
        fs::write(&path, damaged).unwrap();
        let broken = [(5, "a promise")].into_iter();
        assert!(keep(&path, "first", broken).is_err());
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }

    #[test]
    fn every_seed_runs_once_on_however_many_threads() {
        for jobs in 1..=3 {
            let runs = AtomicUsize::new(0);
            let squares = each(jobs, &[9, 3], &(2..5), |seed| {
                runs.fetch_add(1, Ordering::Relaxed);
                seed * seed
            });
            let expected = [(2, 4), (3, 9), (4, 16), (9, 81)];
            assert_eq!(squares, BTreeMap::from(expected));
            assert_eq!(runs.into_inner(), expected.len());
        }
    }
}
