//! Power cuts: every state that one may leave of the journal, over many drawn lives.
//!
//! Decides nothing: the states are those of [`mesh_ledger::journal::crash`]. Shows the bar
//! `ledger.crash-states`. A tester that finds nothing proves nothing, so disks that lie about their
//! syncs must be found out in the same run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mesh_ledger::journal::crash::{Lie, Life, Report, enumerate};

use crate::bars;

/// States that the bar asks for.
const STATES_NEEDED: u64 = 20_000;
/// What is done in one life, and how long its values are: several sectors of several segments.
const STEPS: u64 = 40;
const VALUE_LEN_MAX: u64 = 420;
/// The same where a lie must be found: fewer states are enough.
const STEPS_OF_LIARS: u64 = 24;
const VALUE_LEN_MAX_OF_LIARS: u64 = 40;

/// Lives `lives` lives, some at the same time. Returns whether every state held what was promised
/// and each lie was found.
pub fn run(lives: u64, from: u64, jobs: usize) -> anyhow::Result<bool> {
    println!(
        "power cuts: lives {from} to {}",
        from + lives.saturating_sub(1)
    );
    let report = all(lives, from, jobs);
    let mut missed = Vec::new();
    for lie in [Lie::Sync, Lie::SyncNames] {
        let found = (from..from + 10).any(|seed| {
            let life = Life {
                seed,
                steps: STEPS_OF_LIARS,
                value_len_max: VALUE_LEN_MAX_OF_LIARS,
                lie,
            };
            !enumerate(life).is_good()
        });
        if !found {
            missed.push(format!("{lie:?}"));
        }
    }
    let text = format!(
        "{} states of {lives} lives with {} compactions: {} lost, {} invented, {} not opened; a \
         disk that does not sync files, or names, is found out{}",
        report.states,
        report.compactions,
        report.lost,
        report.invented,
        report.refused,
        if missed.is_empty() {
            String::new()
        } else {
            format!(", but not {}", missed.join(" and "))
        }
    );
    println!("{text}");
    if let Some(fault) = &report.first_fault {
        println!("first fault: {fault}");
    }
    let good = report.is_good() && missed.is_empty() && 0 < report.compactions;
    // Too few say nothing, unless they show a fault.
    if STATES_NEEDED <= report.states || !good {
        bars::put("ledger.crash-states", &text, good)?;
    }
    Ok(good)
}

fn all(lives: u64, from: u64, jobs: usize) -> Report {
    let next = AtomicU64::new(from);
    let end = from.saturating_add(lives);
    let work = || {
        let mut report = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if end <= seed {
                return report;
            }
            report.add(enumerate(Life {
                seed,
                steps: STEPS,
                value_len_max: VALUE_LEN_MAX,
                lie: Lie::None,
            }));
        }
    };
    let mut together = Report::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            // What a thread panics of is a fault of the journal's.
            together.add(
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
    });
    together
}
