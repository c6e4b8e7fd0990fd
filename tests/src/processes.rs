//! Processes as proc(5) shows them: whose thread, which words, whose children, which instance.
//!
//! Looks only. A process that ends between two looks is simply not there.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::unistd::Pid;

/// Name that the first process inside an instance gives itself.
const INSIDE: &str = "mesh-inside";

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Memory that is resident, in MiB.
    pub rss_mib: f64,
    /// Processor time so far, in user and in kernel mode.
    pub cpu: Duration,
}

/// Returns what a process costs; none if it is gone.
pub fn cost(pid: Pid) -> Option<Cost> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = rss.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces; what follows its closing parenthesis has not.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, kernel): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let tick = Duration::from_millis(10);
    Some(Cost {
        rss_mib: kib / 1024.0,
        cpu: tick.saturating_mul(user.saturating_add(kernel)),
    })
}

/// A process for good: ids are used again, with its start they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Its id.
    pub pid: Pid,
    /// When it started, in ticks since boot.
    pub start: u64,
}

impl Life {
    /// Returns the life of a process; none if it is gone or only waits to be collected.
    pub fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have spaces; what follows its closing parenthesis has not.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut words = rest.split(' ');
        if matches!(words.next()?, "Z" | "X") {
            return None;
        }
        let start = words.nth(18)?.parse().ok()?;
        Some(Self { pid, start })
    }

    /// Returns whether it still runs.
    pub fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Returns every process here.
pub fn all() -> BTreeSet<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.map(Pid::from_raw).collect()
}

/// Returns the words that a process was started with.
pub fn command_line(pid: Pid) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Returns the short name of a process.
pub fn name(pid: Pid) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim_end().to_owned()
}

/// Returns the process that a thread belongs to.
pub fn process_of(tid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    group.trim().parse().ok().map(Pid::from_raw)
}

/// Returns the state letter of a process.
pub fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns the children of a process.
pub fn children(pid: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let lists = tasks
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let numbers = lists.flat_map(|list| {
        let numbers = list.split_whitespace().map(|word| word.parse().ok());
        numbers.collect::<Vec<Option<i32>>>()
    });
    numbers.flatten().map(Pid::from_raw).collect()
}

/// What runs of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Processes that own an instance of it.
    pub shims: Vec<Life>,
    /// Main processes of instances of it.
    pub mains: Vec<Life>,
}

/// Finds everything that runs of a service, on whichever node here.
pub fn of_service(service: &str) -> Running {
    let mut running = Running::default();
    for pid in all() {
        let words = command_line(pid);
        let is_of_it = |words: &[String]| {
            matches!(words, [_, shim, run, name, ..]
                if shim == "shim" && run == "run" && name == service)
        };
        if !is_of_it(&words) {
            continue;
        }
        let Some(life) = Life::of(pid) else { continue };
        if name(pid) == INSIDE {
            // Checks and orphans came later.
            let lives = children(pid).into_iter().filter_map(Life::of);
            running.mains.extend(lives.min_by_key(|life| life.start));
        } else {
            running.shims.push(life);
        }
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_lives_and_has_words() {
        let own = nix::unistd::getpid();
        assert!(Life::of(own).is_some_and(Life::runs));
        assert!(cost(own).is_some_and(|cost| 0.0 < cost.rss_mib));
        assert!(!command_line(own).is_empty());
        assert!(all().contains(&own));
        assert_eq!(process_of(own), Some(own));
        let other = Life { pid: own, start: 0 };
        assert!(!other.runs());
    }
}
