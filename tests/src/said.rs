//! One command: what was typed, what it answered, how long it took.
//!
//! Output goes to files, not pipes: a daemon that a command leaves behind may keep its output open,
//! and that must not keep us waiting. Every command has a deadline.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::until::until;

/// What a command answered.
#[derive(Debug, Clone)]
pub struct Said {
    /// The command as its user typed it.
    pub typed: String,
    /// Its exit code; −1 if it was ended by a signal or at its deadline.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What it told its user.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Said {
    /// Runs a command to its end, or kills it at the deadline.
    ///
    /// # Errors
    /// The command cannot be started. An exit code is no error here.
    pub fn by(typed: String, command: Command, deadline: Duration) -> anyhow::Result<Self> {
        Asked::start(typed, command)?.answer(deadline)
    }

    /// Returns the answer if the command succeeded.
    ///
    /// # Errors
    /// It failed: the error shows the whole screen.
    pub fn ok(self) -> anyhow::Result<Self> {
        ensure!(self.code == 0, "a command failed:\n{self}");
        Ok(self)
    }

    /// Returns what a successful command printed, without the last line feed.
    ///
    /// # Errors
    /// It failed.
    pub fn value(self) -> anyhow::Result<String> {
        Ok(self.ok()?.stdout.trim_end().to_owned())
    }

    /// Returns what a successful command printed, as JSON.
    ///
    /// # Errors
    /// It failed, or printed something else.
    pub fn json(self) -> anyhow::Result<Value> {
        let said = self.ok()?;
        serde_json::from_str(&said.stdout).with_context(|| format!("no JSON:\n{said}"))
    }

    /// Checks that the command was refused as every refusal must be: its exit code, one line for
    /// the cause that holds `cause`, one line for the next step, no data, no trace.
    ///
    /// # Errors
    /// It was not refused, or not so.
    pub fn refused(&self, code: i32, cause: &str) -> anyhow::Result<()> {
        ensure!(self.code == code, "expected exit code {code}:\n{self}");
        let line = |start: &str| self.stderr.lines().find(|line| line.starts_with(start));
        let Some(error) = line("error: ") else {
            bail!("no line for the cause:\n{self}");
        };
        ensure!(
            error.contains(cause),
            "the cause does not say `{cause}`:\n{self}"
        );
        ensure!(
            line("hint: ").is_some(),
            "no line for the next step:\n{self}"
        );
        let traces = ["panicked", "RUST_BACKTRACE", "stack backtrace"];
        ensure!(
            !traces.iter().any(|trace| self.stderr.contains(trace)),
            "a trace:\n{self}"
        );
        Ok(())
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.typed)?;
        for line in self.stderr.lines().chain(self.stdout.lines()) {
            writeln!(f, "    {line}")?;
        }
        if self.code != 0 {
            writeln!(f, "    (exit code {})", self.code)?;
        }
        Ok(())
    }
}

/// Returns a field of an answer; null if there is none.
pub fn at<'a>(value: &'a Value, field: &str) -> &'a Value {
    value.get(field).unwrap_or(&Value::Null)
}

/// Returns the rows in a field of an answer; none if it holds no rows.
pub fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    at(value, field).as_array().map_or(&[], Vec::as_slice)
}

/// A command that is running.
#[derive(Debug)]
pub struct Asked {
    typed: String,
    child: Child,
    stdout: File,
    stderr: File,
    start: Instant,
}

impl Asked {
    /// Starts a command.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(typed: String, mut command: Command) -> anyhow::Result<Self> {
        let stdout = tempfile::tempfile().context("cannot make a file for output")?;
        let stderr = tempfile::tempfile().context("cannot make a file for output")?;
        let clone = |file: &File| file.try_clone().context("cannot share a file for output");
        command
            .stdin(Stdio::null())
            .stdout(clone(&stdout)?)
            .stderr(clone(&stderr)?);
        let start = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot run `{typed}`"))?;
        Ok(Self {
            typed,
            child,
            stdout,
            stderr,
            start,
        })
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what the command has printed so far.
    ///
    /// # Errors
    /// Its output cannot be read.
    pub fn so_far(&mut self) -> anyhow::Result<String> {
        // The file's position is the writer's too: read through an own view of it.
        read_all(&self.stdout)
    }

    /// Returns the last lines that it has printed to both outputs, for one that prints many.
    ///
    /// # Errors
    /// Its output cannot be read.
    pub fn last_lines(&self, count: usize) -> anyhow::Result<String> {
        let last = |text: &str| {
            let from = text.lines().count().saturating_sub(count);
            let lines: Vec<&str> = text.lines().skip(from).collect();
            lines.join("\n")
        };
        let (stdout, stderr) = (read_all(&self.stdout)?, read_all(&self.stderr)?);
        Ok(format!("{}\n{}", last(&stdout), last(&stderr)))
    }

    /// Returns whether the command has ended by itself.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        let ended = self.child.try_wait().context("cannot look for a command")?;
        Ok(ended.is_some())
    }

    /// Ends the command now.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot end a command")?;
        self.child.wait().context("cannot end a command")?;
        Ok(())
    }

    /// Waits for the end of the command, or kills it at the deadline.
    ///
    /// # Errors
    /// Its output cannot be read.
    pub fn answer(mut self, deadline: Duration) -> anyhow::Result<Said> {
        let ended = until(&self.typed, deadline, || Ok(self.child.try_wait()?));
        let took = self.start.elapsed();
        let mut stderr = String::new();
        let code = match ended {
            Ok(status) => status.code().unwrap_or(-1),
            Err(error) => {
                self.child.kill().context("cannot end a command")?;
                self.child.wait().context("cannot end a command")?;
                stderr = format!("{error}\n");
                -1
            }
        };
        stderr.push_str(&read_all(&self.stderr)?);
        let stdout = read_all(&self.stdout)?;
        Ok(Said {
            typed: self.typed,
            code,
            stdout,
            stderr,
            took,
        })
    }
}

/// Reads a whole file that others may still write to, without moving where they write.
fn read_all(file: &File) -> anyhow::Result<String> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut own = File::open(path).context("cannot read output")?;
    own.rewind().context("cannot read output")?;
    let mut bytes = Vec::new();
    own.read_to_end(&mut bytes).context("cannot read output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Duration) -> Said {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Said::by(script.to_owned(), command, deadline).unwrap()
    }

    #[test]
    fn both_outputs_and_the_code_are_kept_apart() {
        let said = shell("echo data; echo talk >&2; exit 3", Duration::from_secs(10));
        assert_eq!((said.code, said.stdout.as_str()), (3, "data\n"));
        assert_eq!(said.stderr, "talk\n");
        assert!(said.ok().is_err());
    }

    #[test]
    fn command_is_killed_at_its_deadline() {
        let said = shell("exec sleep 100", Duration::from_millis(50));
        assert_eq!(said.code, -1);
    }

    #[test]
    fn process_left_behind_does_not_keep_us_waiting() {
        let said = shell("sleep 2 & echo started", Duration::from_secs(1));
        assert_eq!((said.code, said.stdout.as_str()), (0, "started\n"));
    }

    #[test]
    fn refusal_needs_cause_and_next_step() {
        let good = shell(
            "echo 'error: no cake' >&2; echo 'hint: bake' >&2; exit 5",
            SECOND,
        );
        assert!(good.refused(5, "cake").is_ok());
        assert!(good.refused(4, "cake").is_err());
        assert!(good.refused(5, "bread").is_err());
        let bare = shell("echo 'error: no cake' >&2; exit 5", SECOND);
        assert!(bare.refused(5, "cake").is_err());
    }

    const SECOND: Duration = Duration::from_secs(10);
}
