//! `meshsim`: runs the very same node core as `meshnode` through virtual bad weather, from seeds.
//!
//! Decides what goes wrong, when, and whether the promises held; leaves every decision of a node to
//! `mesh-peer`. One thread runs one seed: one queue of events, virtual clocks, disks, networks,
//! drivers. Invariant: same seed and program, same event hash.
//!
//! | room | idea |
//! |---|---|
//! | [`agenda`], [`chance`], [`clock`] | virtual time and drawn numbers |
//! | [`network`], [`links`], [`disk`], [`driver`] | the virtual world around a node |
//! | [`host`], [`world`], [`effects`] | the shell: inputs in, effects done |
//! | [`weather`], [`storm`] | what goes wrong |
//! | [`founding`], [`notary`], [`scenario`] | stories |
//! | [`check`], [`tally`], [`trail`] | what must hold, what happened |
//! | [`plant`], [`canary`] | bugs on purpose, which the checkers must find |
//! | [`trim`], [`shrink`] | from a run that failed to a small one that fails the same way |
//! | [`power`] | the journal alone, and every state that a power cut may leave of it |
//! | [`routing`] | the speaker alone, on up to a thousand nodes |
//! | [`election`] | the election alone, on up to five voters |
//! | [`runner`], [`bars`] | many seeds, reports, the scoreboard's files |

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

use crate::canary::Finish;
use crate::plant::Plant;
use crate::routing::fleet;
use crate::runner::{Plan, Verbosity};
use crate::scenario::{Case, Scenario};
use crate::trim::Trim;

mod agenda;
mod bars;
mod canary;
mod chance;
mod check;
mod clock;
mod disk;
mod driver;
mod effects;
mod election;
mod founding;
mod host;
mod links;
mod network;
mod notary;
mod plant;
mod power;
mod routing;
mod runner;
mod scenario;
mod shrink;
mod storm;
mod tally;
mod trail;
mod trim;
mod weather;
mod world;

/// Runs a mesh of simulated machines through drawn faults and checks what was promised.
#[derive(Debug, Parser)]
#[command(name = "meshsim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario over many seeds, kept failures first.
    Run {
        /// first, last-slot, routing, routing-scale or election.
        scenario: String,
        /// How many seeds.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many seeds at the same time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Where seeds that once failed are kept.
        #[arg(long, default_value = "simulations/regressions.txt")]
        regressions: PathBuf,
        /// Add seeds that fail to that file.
        #[arg(long)]
        keep: bool,
        /// How many nodes; of routing-scale only.
        #[arg(long, default_value_t = fleet::NODES_NEEDED)]
        nodes: usize,
    },
    /// Run one seed again and show its last events, or all of them.
    Replay {
        /// first, last-slot, routing, routing-scale or election.
        scenario: String,
        /// The seed.
        seed: u64,
        /// Print every event as it happens.
        #[arg(long)]
        trace: bool,
        /// Place only these orders: 17 or 17..20.
        #[arg(long)]
        orders: Option<String>,
        /// Leave these kinds of weather out, such as cuts,crashes.
        #[arg(long, value_delimiter = ',')]
        without: Vec<String>,
        /// Plant this bug, by its name in the report of `canary`.
        #[arg(long)]
        plant: Option<String>,
        /// How many nodes; of routing-scale only.
        #[arg(long, default_value_t = fleet::NODES_NEEDED)]
        nodes: usize,
    },
    /// Plant bugs in the shell and demand that each is found.
    Canary {
        /// Within so many seeds.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Look for the smallest run that finds each, which takes a minute a bug.
        #[arg(long)]
        shrink: bool,
    },
    /// Open every state that a power cut may leave of the journal.
    Power {
        /// How many lives of a journal.
        #[arg(long, default_value_t = 4)]
        lives: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many at the same time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Measure again what a page in docs/reports/ says, and write it.
    Report {
        /// Of what: election.
        of: String,
        /// How many seeds.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// Where the page and its drawings go.
        #[arg(long, default_value = "docs/reports")]
        to: PathBuf,
    },
    /// Run each seed twice and compare the event hashes.
    Twice {
        /// How many seeds.
        #[arg(long, default_value_t = 5)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let good = match Cli::parse().command {
        Command::Run {
            scenario,
            seeds,
            from,
            jobs,
            regressions,
            keep,
            nodes,
        } => {
            at_least_one(seeds, jobs)?;
            let story = (scenario.as_str(), from, seeds, jobs, nodes);
            run_story(story, &regressions, keep)?
        }
        Command::Replay {
            scenario,
            seed,
            trace,
            orders,
            without,
            plant,
            nodes,
        } => {
            if scenario == election::fleet::NAME {
                return Ok(code(election::fleet::replay(seed)));
            }
            if let Some(scenario) = fleet::Scenario::named(&scenario) {
                return Ok(code(fleet::replay(scenario, seed, nodes, trace)));
            }
            let case = case(&scenario, seed, (orders, without), plant)?;
            runner::replay(case, Verbosity::of(trace))
        }
        Command::Canary {
            seeds,
            from,
            shrink,
        } => {
            let finish = if shrink {
                Finish::Shrunk
            } else {
                Finish::Found
            };
            plant_all(from, seeds, finish)?
        }
        Command::Report { of, seeds, to } => {
            at_least_one(seeds, 2)?;
            report(&of, seeds, &to)?
        }
        Command::Power { lives, from, jobs } => {
            at_least_one(lives, jobs)?;
            power::run(lives, from, jobs)?
        }
        Command::Twice { seeds, from } => runner::twice(from, seeds),
    };
    Ok(code(good))
}

/// Plants the bugs of both shells, the election's first: it takes seconds.
fn plant_all(from: u64, seeds: u64, finish: Finish) -> anyhow::Result<bool> {
    let election = election::canary::run(from, seeds);
    bars::write_canary("ledger.canary@election", &election, seeds)?;
    let report = canary::run(from, seeds, finish);
    bars::write_canary("first.canary", &report, seeds)?;
    Ok(report.is_good() && election.is_good())
}

fn report(of: &str, seeds: u64, to: &Path) -> anyhow::Result<bool> {
    if of != election::fleet::NAME {
        bail!("there is no report on \"{of}\"; there is one on election");
    }
    election::report::write(seeds, to)
}

fn at_least_one(seeds: u64, jobs: usize) -> anyhow::Result<()> {
    if seeds == 0 || jobs == 0 {
        bail!("seeds and jobs start at 1");
    }
    Ok(())
}

/// Runs a scenario of any of the three shells.
fn run_story(
    (scenario, from, seeds, jobs, nodes): (&str, u64, u64, usize, usize),
    regressions: &Path,
    keep: bool,
) -> anyhow::Result<bool> {
    if scenario == election::fleet::NAME {
        let plan = election::fleet::Plan { from, seeds, jobs };
        return election::fleet::run(&plan, regressions, keep);
    }
    if let Some(scenario) = fleet::Scenario::named(scenario) {
        let plan = fleet::Plan {
            scenario,
            from,
            seeds,
            jobs,
            nodes,
        };
        return fleet::run(&plan, regressions, keep);
    }
    let plan = Plan {
        scenario: named(scenario)?,
        from,
        seeds,
        jobs,
        kept: Vec::new(),
    };
    run(plan, regressions, keep)
}

/// Runs a plan after the seeds that once failed. Returns whether every promise held.
fn run(mut plan: Plan, regressions: &Path, keep: bool) -> anyhow::Result<bool> {
    let name = plan.scenario.name();
    plan.kept = runner::kept(regressions, name)
        .with_context(|| format!("cannot read {}", regressions.display()))?;
    let summary = runner::run(&plan);
    summary.print();
    if keep {
        runner::keep(regressions, name, summary.broken())
            .with_context(|| format!("cannot write {}", regressions.display()))?;
    }
    bars::write(&plan, &summary)?;
    Ok(summary.is_good())
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Reads which run is meant: what it places and leaves out, and the bug in it.
fn case(
    scenario: &str,
    seed: u64,
    (orders, without): (Option<String>, Vec<String>),
    plant: Option<String>,
) -> anyhow::Result<Case> {
    let mut case = Case::of(named(scenario)?, seed);
    case.trim = Trim::parse(orders.as_deref(), &without).map_err(anyhow::Error::msg)?;
    case.plant = plant.as_deref().map(planted).transpose()?;
    Ok(case)
}

fn planted(name: &str) -> anyhow::Result<Plant> {
    let known: Vec<String> = Plant::ALL.iter().map(ToString::to_string).collect();
    Plant::named(name)
        .with_context(|| format!("there is no bug \"{name}\"; there are {}", known.join(", ")))
}

fn named(name: &str) -> anyhow::Result<Scenario> {
    const KNOWN: &str = "first, last-slot, routing, routing-scale and election";
    Scenario::named(name)
        .with_context(|| format!("there is no scenario \"{name}\"; there are {KNOWN}"))
}
