//! Feeds every target its kept corpus and a million inputs made from it, and counts their memory.
//!
//! ```text
//! cargo test -p mesh-fuzz --test it                     every target, a few inputs each
//! cargo test -p mesh-fuzz --test it -- delta recipe     these
//! MESHSTEAD_FUZZ_INPUTS=1000000 MESHSTEAD_FUZZ_SEED=7   more, from another seed
//! MESHSTEAD_FUZZ_KEEP=1                                 writes the lawful part of the corpus first
//! ```
//! Fails on a panic, on more memory than the limit, on a lawful input that is refused and on a
//! target that knows only one answer. A failing input is written beside the built programs; a mend
//! lands with it in `corpus/`.

mod corpus;
mod memory;
mod run;
mod score;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use mesh_fuzz::{TARGETS, Target};

use crate::run::{Plan, Report};

/// Inputs of each target when nobody says how many: enough to see that all works.
const INPUTS_DEFAULT: u64 = 20_000;

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let is_wanted = |target: &&Target| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|word| target.name.contains(word.as_str()))
    };
    let targets: Vec<&Target> = TARGETS.iter().filter(is_wanted).collect();
    let plan = Plan {
        seed: number("MESHSTEAD_FUZZ_SEED").unwrap_or(1),
        inputs: number("MESHSTEAD_FUZZ_INPUTS").unwrap_or(INPUTS_DEFAULT),
    };
    println!(
        "seed {}, {} inputs for each of {} targets",
        plan.seed,
        plan.inputs,
        targets.len()
    );
    if env::var_os("MESHSTEAD_FUZZ_KEEP").is_some() {
        targets
            .iter()
            .for_each(|target| corpus::keep_lawful(target));
    }
    let start = Instant::now();
    let mut reports = run_all(&targets, plan);
    reports.sort_by_key(|report| report.name);
    let failed = reports.iter().filter(|report| !report.holds()).count();
    println!("{}", Report::HEADING);
    reports
        .iter()
        .for_each(|report| println!("{}", report.line()));
    score::write(plan, &reports);
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {verdict}. {} passed; {failed} failed; finished in {:.1}s",
        reports.len() - failed,
        start.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the targets on as many threads as there are processors.
fn run_all(targets: &[&Target], plan: Plan) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reports = Vec::new();
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            reports.push(run::target(target, plan));
        }
        reports
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        // Proof: what targets do is caught; a worker that fails is a fault of this test.
        let reports = workers.into_iter().map(|worker| worker.join());
        reports
            .flat_map(|reports| reports.expect("a worker ends"))
            .collect()
    })
}

/// Reads a number from the environment; in hexadecimal, its first 16 digits, after `0x`.
fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let read = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits.get(..16).unwrap_or(digits), 16),
        None => text.parse(),
    };
    Some(read.unwrap_or_else(|_| panic!("{name} must be a number, it is \"{text}\"")))
}
