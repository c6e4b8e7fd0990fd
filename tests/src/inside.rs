//! Work done inside another network namespace, by this very process.
//!
//! A thread of its own enters the namespace; what it opens there (sockets, devices) stays there and
//! is used from anywhere. So a test holds both ends of a conversation in one hand.

use std::fs::File;
use std::thread;

use anyhow::Context as _;
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
