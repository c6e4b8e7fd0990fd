//! The systemd unit, judged by `systemd-analyze security`: how much of the machine it leaves
//! exposed.
//!
//! Where that program is not installed nothing is judged; CI prints that too.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::workspace;

/// The bar's limit; ten is an ordinary root service, zero does nothing at all.
const SCORE_MAX: f64 = 3.0;

/// Prints the score. Returns true if it is low enough or cannot be told here.
pub fn run() -> anyhow::Result<bool> {
    let Some(score) = score()? else {
        println!("meshnode.service: not judged, there is no systemd-analyze here");
        return Ok(true);
    };
    println!("meshnode.service: exposure {score:.1}, limit {SCORE_MAX:.1}");
    Ok(is_low(score))
}

/// Returns whether a score is within the limit.
pub fn is_low(score: f64) -> bool {
    score <= SCORE_MAX
}

/// Asks for the unit's score; none if the program that judges is not installed.
pub fn score() -> anyhow::Result<Option<f64>> {
    let unit = workspace::root().join("packaging/meshnode.service");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager"]);
    let output = match command.arg(&unit).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output.context("cannot run systemd-analyze")?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "systemd-analyze cannot judge the unit: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    of_report(&text)
        .context("systemd-analyze tells no score")
        .map(Some)
}

fn of_report(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once("Overall exposure level for ")?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the value of a unit's setting.
pub fn value<'a>(unit: &'a str, name: &str) -> Option<&'a str> {
    let of_name = |line: &'a str| line.strip_prefix(name)?.strip_prefix('=');
    unit.lines().find_map(of_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_is_read_from_the_last_line_of_the_report() {
        let text = "✗ User=  0.4\n\n→ Overall exposure level for meshnode.service: 2.9 OK 🙂\n";
        assert_eq!(of_report(text), Some(2.9));
        assert_eq!(of_report("nothing"), None);
    }

    #[test]
    fn unit_exposes_no_more_than_its_limit() {
        // Without systemd-analyze there is nothing to compare with.
        if let Some(score) = score().unwrap() {
            assert!(is_low(score), "{score}");
        }
    }

    #[test]
    fn unit_lets_services_outlive_the_daemon() {
        let unit = include_str!("../../packaging/meshnode.service");
        assert_eq!(value(unit, "KillMode"), Some("process"));
        assert_eq!(value(unit, "Type"), Some("notify"));
        assert_eq!(value(unit, "Delegate"), Some("yes"));
        assert_eq!(
            value(unit, "ExecStart"),
            Some("/usr/bin/meshnode start --foreground")
        );
    }
}
