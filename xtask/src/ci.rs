//! The gate: every step in order, each timed, all counted, the scoreboard last.
//!
//! A step that fails does not stop the ones after it, so that one run tells everything; only what
//! needs a failed build is not run. The closing line is `N passed, N failed`, alone.

use std::process::Command;
use std::time::Instant;

use crate::step::{self, Outcome, Tally};
use crate::{bars, package, tidy, unit, workspace};

/// A step of the gate.
struct Step {
    name: &'static str,
    work: Work,
    /// The step whose success it needs.
    needs: Option<&'static str>,
}

/// What a step does.
enum Work {
    /// A function of ours.
    Call(fn() -> anyhow::Result<bool>),
    /// A command.
    Run(fn() -> Command),
}

/// The steps, cheapest first; the scoreboard is last because it reads what the others measured.
const STEPS: &[Step] = &[
    Step {
        name: "tidy",
        work: Work::Call(tidy::run),
        needs: None,
    },
    Step {
        name: "shell",
        work: Work::Run(shell),
        needs: None,
    },
    Step {
        name: "unit",
        work: Work::Call(unit::run),
        needs: None,
    },
    Step {
        name: "fmt",
        work: Work::Run(fmt),
        needs: None,
    },
    Step {
        name: "clippy",
        work: Work::Run(clippy),
        needs: None,
    },
    Step {
        name: "doc",
        work: Work::Run(doc),
        needs: None,
    },
    Step {
        name: "deny",
        work: Work::Run(deny),
        needs: None,
    },
    Step {
        name: "tests",
        work: Work::Run(tests),
        needs: None,
    },
    Step {
        name: "simulator",
        work: Work::Run(simulator),
        needs: None,
    },
    Step {
        name: "canary",
        work: Work::Run(canary),
        needs: Some("simulator"),
    },
    Step {
        name: "loops",
        work: Work::Run(loops),
        needs: Some("simulator"),
    },
    Step {
        name: "election",
        work: Work::Run(election),
        needs: Some("simulator"),
    },
    Step {
        name: "decoders",
        work: Work::Run(decoders),
        needs: None,
    },
    Step {
        name: "power",
        work: Work::Run(power),
        needs: Some("simulator"),
    },
    Step {
        name: "last slot",
        work: Work::Run(last_slot),
        needs: Some("simulator"),
    },
    Step {
        name: "programs",
        work: Work::Run(programs),
        needs: None,
    },
    Step {
        name: "namespaces",
        work: Work::Run(namespaces),
        needs: Some("programs"),
    },
    Step {
        name: "package",
        // After the namespaces, which fetch the software that is ordered in the tree.
        work: Work::Call(package::gate),
        needs: Some("programs"),
    },
    Step {
        name: "bars",
        work: Work::Call(scoreboard),
        needs: None,
    },
];

/// What a gate has no time for.
const LONG: &[Step] = &[
    Step {
        name: "loops",
        work: Work::Run(many_loops),
        needs: None,
    },
    Step {
        name: "election",
        work: Work::Run(many_elections),
        needs: None,
    },
    Step {
        name: "scale",
        work: Work::Run(scale),
        needs: None,
    },
];

/// Runs the steps whose name contains `only`, or all. Returns true if nothing failed.
pub fn run(only: Option<&str>) -> anyhow::Result<bool> {
    if only.is_none() {
        bars::forget()?;
    }
    Ok(run_steps(STEPS, only))
}

/// Runs what takes longer than a gate may. Returns true if nothing failed.
pub fn run_long(only: Option<&str>) -> bool {
    run_steps(LONG, only)
}

fn run_steps(steps: &[Step], only: Option<&str>) -> bool {
    let start = Instant::now();
    let is_wanted = |step: &&Step| only.is_none_or(|only| step.name.contains(only));
    let mut outcomes: Vec<Outcome> = Vec::new();
    for step in steps.iter().filter(is_wanted) {
        let has_failed = |name: &str| outcomes.iter().any(|one| one.name == name && !one.holds());
        let outcome = match (step.needs.filter(|name| has_failed(name)), &step.work) {
            (Some(needed), _) => step::skip(step.name, &format!("{needed} failed")),
            (None, Work::Call(check)) => step::call(step.name, check),
            (None, Work::Run(command)) => {
                let mut command = command();
                // What it measures is read by the scoreboard.
                command.env("MESHSTEAD_BARS_DIR", workspace::figures());
                step::run(step.name, command)
            }
        };
        outcomes.push(outcome);
    }
    close(&outcomes, start)
}

fn close(outcomes: &[Outcome], start: Instant) -> bool {
    let mut all = Tally::default();
    println!();
    for Outcome { name, took, tally } in outcomes {
        let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
        println!(
            "{name:<12} {:>7.1} s  {:>5} passed  {verdict}",
            took.as_secs_f64(),
            tally.passed
        );
        all.add(*tally);
    }
    println!(
        "{:<12} {:>7.1} s",
        "together",
        start.elapsed().as_secs_f64()
    );
    println!("{} passed, {} failed", all.passed, all.failed);
    all.failed == 0
}

fn shell() -> Command {
    let mut command = Command::new("shellcheck");
    command
        .args(["mesh", ".ci/run"])
        .args(["postinst", "prerm", "postrm"].map(|name| format!("packaging/debian/{name}")))
        .current_dir(workspace::root());
    command
}

fn fmt() -> Command {
    workspace::cargo(&["fmt", "--all", "--check"])
}

fn clippy() -> Command {
    workspace::cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn doc() -> Command {
    let mut command = workspace::cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn deny() -> Command {
    let mut command = Command::new(workspace::tool("cargo-deny"));
    command
        .args(["check", "bans", "licenses", "sources"])
        .current_dir(workspace::root());
    command
}

fn tests() -> Command {
    workspace::cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--exclude",
        "mesh-tests",
        // A step of its own: a million inputs need a fast profile.
        "--exclude",
        "mesh-fuzz",
        "--no-fail-fast",
    ])
}

/// A scenario in a hundred kinds of weather.
fn simulator() -> Command {
    simulated(&["run", "first", "--seeds", "100"])
}

/// Another one.
fn last_slot() -> Command {
    simulated(&["run", "last-slot", "--seeds", "100"])
}

/// The speaker alone in every kind of weather: as many seeds as the bar asks for, and those that
/// once failed.
fn loops() -> Command {
    simulated(&["run", "routing", "--seeds", "200"])
}

/// Every state that a power cut may leave of the journal.
fn power() -> Command {
    simulated(&["power"])
}

/// The election alone: a hundred thousand fail-overs, storms, and eight hours without a failure.
fn election() -> Command {
    simulated(&["run", "election", "--seeds", "200"])
}

/// Ten times as many.
fn many_elections() -> Command {
    simulated(&["run", "election", "--seeds", "2000"])
}

/// Bugs on purpose, each of which the simulator must find.
fn canary() -> Command {
    simulated(&["canary", "--seeds", "200"])
}

/// Ten times as many.
fn many_loops() -> Command {
    simulated(&["run", "routing", "--seeds", "2000"])
}

/// As large as one flat mesh is judged: a thousand speakers keep twenty million routes, which took
/// 24 minutes of one core and 2.2 GB.
fn scale() -> Command {
    simulated(&["run", "routing-scale", "--seeds", "1"])
}

fn simulated(arguments: &[&str]) -> Command {
    let mut command = workspace::cargo(&["run", "--locked", "--profile", "sim", "-p", "meshsim"]);
    command.arg("--").args(arguments);
    command
}

fn decoders() -> Command {
    let mut command = workspace::cargo(&[
        "test",
        "--locked",
        "--profile",
        "sim",
        "--no-fail-fast",
        "-p",
        "mesh-fuzz",
    ]);
    command.env("MESHSTEAD_FUZZ_INPUTS", "1000000");
    seeded(command, "MESHSTEAD_FUZZ_SEED")
}

/// Another change looks elsewhere; the same one sees the same again.
fn seeded(mut command: Command, variable: &str) -> Command {
    if let Some(commit) = workspace::commit() {
        command.env(variable, format!("0x{commit}"));
    }
    command
}

fn programs() -> Command {
    let mut command = workspace::cargo(&workspace::programs_arguments());
    // A node and a stranger that misbehave, for the tests of the gate and of floods; a router
    // without a node, for those among other routers; what a power cut is made of.
    command.args(["-p", "mesh-dataplane", "-p", "mesh-tests", "--bins"]);
    for example in ["rogue", "flood", "powercut", "stock_sled"] {
        command.args(["--example", example]);
    }
    command
}

fn namespaces() -> Command {
    let mut command = workspace::cargo(&["test", "--locked", "-p", "mesh-tests"]);
    command.env("MESHSTEAD_BIN_DIR", workspace::programs());
    seeded(
        seeded(command, "MESHSTEAD_KILL_SEED"),
        "MESHSTEAD_POWER_SEED",
    )
}

fn scoreboard() -> anyhow::Result<bool> {
    bars::run(true)
}
