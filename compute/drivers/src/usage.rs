//! Processor time and memory of everything inside, read from `/proc` by the shim.
//!
//! A process adds its time to its parent's when it is waited for, so the living processes below the
//! first one hold the time of the dead as well.

use std::fs;

use crate::kin;

/// What everything inside uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time of the living and the dead.
    pub cpu_ms: u64,
    /// Memory now, shared pages divided among those who share them.
    pub memory_mib: u64,
}

/// Whether memory is wanted as well: it costs a walk over page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Processor time only.
    Time,
    /// Both.
    TimeAndMemory,
}

/// Most processes that are looked at; more than any limit that we set.
const PROCESSES_MAX: usize = 4096;

/// Reads the usage of a process and all below it.
pub fn read(first: i32, depth: Depth) -> Usage {
    let mut ticks = 0_u64;
    let mut memory_kib = 0_u64;
    let mut waiting = vec![first];
    let mut seen = 0;
    while let Some(pid) = waiting.pop() {
        seen += 1;
        if PROCESSES_MAX < seen {
            break;
        }
        ticks = ticks.saturating_add(ticks_of(pid));
        if depth == Depth::TimeAndMemory {
            memory_kib = memory_kib.saturating_add(memory_kib_of(pid));
        }
        for thread in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            waiting.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
    }
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten();
    let hertz = hertz
        .and_then(|hertz| u64::try_from(hertz).ok())
        .filter(|hertz| 0 < *hertz);
    Usage {
        cpu_ms: ticks.saturating_mul(1000) / hertz.unwrap_or(100),
        memory_mib: memory_kib.div_ceil(1024),
    }
}

/// Returns when a process started, in ticks since boot; with its id it names a process for good.
pub fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    kin::fields(&stat)?.nth(19)?.parse().ok()
}

fn ticks_of(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    sum_of_times(&stat).unwrap_or(0)
}

/// Sums fields 14 to 17 of proc_pid_stat(5): own and waited-for children's, user and system.
fn sum_of_times(stat: &str) -> Option<u64> {
    let fields = kin::fields(stat)?.skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

fn memory_kib_of(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_strange_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        assert_eq!(sum_of_times(stat), Some(100));
        assert_eq!(sum_of_times("7"), None);
    }

    #[test]
    fn own_process_uses_memory() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(0 < read(own, Depth::TimeAndMemory).memory_mib);
    }
}
