//! Work done inside another network namespace, by this very process or by a program.
//!
//! A thread of its own enters the namespace; what it opens there (sockets, devices) stays there and
//! is used from anywhere. So a test holds both ends of a conversation in one hand. What a namespace
//! is made of is told to it in lines of a shell. A namespace is named by a process in it.

use std::fs::File;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

/// Does `work` in the network namespace of a process and returns what it returns.
///
/// # Errors
/// The namespace cannot be entered, or the work fails.
pub fn inside<T: Send>(
    pid: Pid,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let space = File::open(format!("/proc/{pid}/ns/net")).context("no such namespace")?;
    thread::scope(|scope| {
        let guest = scope.spawn(move || {
            // Only this thread moves, and it ends with its work.
            setns(space, CloneFlags::CLONE_NEWNET).context("cannot enter a namespace")?;
            work()
        });
        guest
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the work panicked")))
    })
}

/// Returns a command that runs a program in the network of a process, or in the test's own.
pub(crate) fn command(pid: Option<Pid>, program: &str) -> Command {
    let Some(pid) = pid else {
        return Command::new(program);
    };
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "--", program]);
    command
}

/// Runs lines of a shell in the network of a process, or in the test's own, and returns what they
/// print.
///
/// # Errors
/// One of them fails.
pub(crate) fn ask(pid: Option<Pid>, lines: &str) -> anyhow::Result<String> {
    let output = command(pid, "sh")
        .args(["-ec", lines])
        .output()
        .context("cannot run sh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{lines}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Does the same with lines that print nothing of interest.
///
/// # Errors
/// One of them fails.
pub fn shell(pid: Option<Pid>, lines: &str) -> anyhow::Result<()> {
    ask(pid, lines).map(drop)
}
