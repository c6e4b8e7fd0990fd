//! One step of the gate: a command that is run, timed, shown and counted.
//!
//! Test runners close with `test result: ok. N passed; M failed`; such lines are added up, so that
//! the gate's own closing line tells how many tests ran, not how many commands.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many checks passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Checks that held.
    pub passed: u64,
    /// Checks that did not.
    pub failed: u64,
}

impl Tally {
    /// Adds another tally to this one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Reads the closing line of a test runner; other lines count nothing.
    fn of_line(line: &str) -> Self {
        let Some(rest) = line.trim().strip_prefix("test result:") else {
            return Self::default();
        };
        let mut tally = Self::default();
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => tally.passed += number,
                "failed" => tally.failed += number,
                _ => {}
            }
        }
        tally
    }
}

/// What became of a step.
#[derive(Debug)]
pub struct Outcome {
    /// The step's name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What it counted; a step without tests of its own counts as one check.
    pub tally: Tally,
}

impl Outcome {
    /// Tells whether nothing failed.
    pub fn holds(&self) -> bool {
        self.tally.failed == 0
    }
}

/// Runs a command, shows what it prints and counts the tests that it reports.
pub fn run(name: &str, mut command: Command) -> Outcome {
    open(name);
    let start = Instant::now();
    let mut tally = Tally::default();
    let success = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(mut child) => {
            if let Some(stdout) = child.stdout.take() {
                tally = show(stdout);
            }
            child.wait().is_ok_and(|status| status.success())
        }
        Err(error) => {
            println!(
                "cannot run {}: {error}",
                command.get_program().to_string_lossy()
            );
            false
        }
    };
    close(name, start, tally, success)
}

/// Runs a check that is a function of ours.
pub fn call(name: &str, check: impl FnOnce() -> anyhow::Result<bool>) -> Outcome {
    open(name);
    let start = Instant::now();
    let success = check().unwrap_or_else(|error| {
        println!("error: {error:#}");
        false
    });
    close(name, start, Tally::default(), success)
}

/// Notes a step that could not be run because one before it failed.
pub fn skip(name: &str, because: &str) -> Outcome {
    open(name);
    println!("not run: {because}");
    close(name, Instant::now(), Tally::default(), false)
}

fn open(name: &str) {
    println!("\n──── {name}");
    // Nothing is lost if the terminal has gone.
    let _ = std::io::stdout().flush();
}

fn close(name: &str, start: Instant, mut tally: Tally, success: bool) -> Outcome {
    let took = start.elapsed();
    match (success, tally) {
        // A step without tests of its own is one check.
        (
            true,
            Tally {
                passed: 0,
                failed: 0,
            },
        ) => tally.passed = 1,
        // It failed outside its tests: it did not compile, or it broke off.
        (false, Tally { failed: 0, .. }) => tally.failed = 1,
        _ => {}
    }
    let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
    println!("──── {name}: {verdict} in {:.1} s", took.as_secs_f64());
    Outcome {
        name: name.to_owned(),
        took,
        tally,
    }
}

fn show(from: impl std::io::Read) -> Tally {
    let mut tally = Tally::default();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(count) if 0 < count) {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        tally.add(Tally::of_line(&text));
        line.clear();
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, passed: u64, failed: u64) {
        assert_eq!(Tally::of_line(line), Tally { passed, failed });
    }

    #[test]
    fn closing_line_of_a_test_runner_is_counted() {
        check(
            "test result: ok. 12 passed; 0 failed; 0 ignored; finished in 0.10s",
            12,
            0,
        );
        check("test result: FAILED. 3 passed; 2 failed; 0 ignored", 3, 2);
    }

    #[test]
    fn other_lines_count_nothing() {
        check("12 passed; 1 failed", 0, 0);
        check("test result: none", 0, 0);
    }

    #[test]
    fn command_that_fails_without_tests_is_one_failure() {
        let outcome = run("false", Command::new("false"));
        assert_eq!(
            outcome.tally,
            Tally {
                passed: 0,
                failed: 1
            }
        );
    }

    #[test]
    fn command_that_succeeds_without_tests_is_one_pass() {
        let outcome = run("true", Command::new("true"));
        assert_eq!(
            outcome.tally,
            Tally {
                passed: 1,
                failed: 0
            }
        );
        assert!(outcome.holds());
    }
}
