//! Who descends from whom among the machine's processes, read from `/proc`.
//!
//! An instance without namespaces has no first process whose end ends all others. What it started
//! is found as descendants instead: whoever loses its parent gets the nearest ancestor that said it
//! takes such children in (`PR_SET_CHILD_SUBREAPER` in prctl(2)), so nobody escapes upwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long processes that were killed may take to be gone: the kernel may write their memory out.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How often they are looked for meanwhile.
const END_PERIOD: Duration = Duration::from_millis(2);
/// Longest line of ancestors that is followed.
const ANCESTORS_MAX: usize = 4096;

/// What is told of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kin {
    parent: i32,
    group: i32,
    is_dead: bool,
}

/// Returns whether `pid`, a process or a thread, descends from `ancestor`; nobody does from itself.
pub fn descends(pid: i32, ancestor: i32) -> bool {
    let mut at = pid;
    for _ in 0..ANCESTORS_MAX {
        let Some(kin) = look(at) else {
            return false;
        };
        if kin.parent == ancestor {
            return true;
        }
        at = kin.parent;
    }
    false
}

/// Returns whether a process group has members and all of them descend from `ancestor`.
pub fn group_descends(group: i32, ancestor: i32) -> bool {
    let all = all();
    let below = below(&all, ancestor);
    let mut members = all.iter().filter(|(_, kin)| kin.group == group).peekable();
    members.peek().is_some() && members.all(|(pid, _)| below.contains(pid))
}

/// Returns the process of a thread; none if it is gone.
pub fn process_of(thread: u32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line?.trim().parse().ok()
}

/// Returns a living child of a process.
pub fn child_of(parent: i32) -> Option<i32> {
    let child = |(pid, kin): (i32, Kin)| (kin.parent == parent && !kin.is_dead).then_some(pid);
    // The oldest of them has, as a rule, the lowest id.
    all().into_iter().find_map(child)
}

/// Counts the living below a process.
pub fn count(ancestor: i32) -> usize {
    let all = all();
    let below = below(&all, ancestor);
    let living = |pid: &&i32| all.get(*pid).is_some_and(|kin| !kin.is_dead);
    below.iter().filter(living).count()
}

/// Ends everything that descends from this process and waits until it is gone.
///
/// # Errors
/// Something does not end.
pub fn end_all() -> io::Result<()> {
    let own = nix::unistd::getpid().as_raw();
    let until = Instant::now() + END_PATIENCE;
    loop {
        // Those that are ours to collect.
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        let all = all();
        let below = below(&all, own);
        if below.is_empty() {
            return Ok(());
        }
        // Whoever forks meanwhile is found in the next round.
        for pid in below {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if until <= Instant::now() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(END_PERIOD);
    }
}

/// Ends every process of our user that works in a folder or below it, or has files there open:
/// what is left of an instance when all that watched it were killed at once.
///
/// # Errors
/// Something does not end.
pub fn end_in(folder: &Path) -> io::Result<()> {
    let own = nix::unistd::geteuid().as_raw();
    let until = Instant::now() + END_PATIENCE;
    loop {
        let mut left = false;
        for (pid, kin) in all() {
            let home = format!("/proc/{pid}");
            let is_ours = fs::metadata(&home).is_ok_and(|metadata| metadata.uid() == own);
            let is_own = pid == nix::unistd::getpid().as_raw();
            if is_ours
                && !is_own
                && !kin.is_dead
                && is_walled(&home)
                && is_in(Path::new(&home), folder)
            {
                left = true;
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        if !left {
            return Ok(());
        }
        if until <= Instant::now() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(END_PERIOD);
    }
}

/// Returns whether a process has a filter and may gain nothing: others of its user have files open
/// in that folder too.
fn is_walled(home: &str) -> bool {
    let status = fs::read_to_string(format!("{home}/status")).unwrap_or_default();
    let has = |line: &str| status.lines().any(|other| other == line);
    has("NoNewPrivs:\t1") && has("Seccomp:\t2")
}

fn is_in(process: &Path, folder: &Path) -> bool {
    let leads = |link: &Path| fs::read_link(link).is_ok_and(|to| to.starts_with(folder));
    let files = fs::read_dir(process.join("fd")).into_iter().flatten();
    leads(&process.join("cwd")) || files.flatten().any(|file| leads(&file.path()))
}

fn below(all: &BTreeMap<i32, Kin>, ancestor: i32) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, kin) in all {
        children.entry(kin.parent).or_default().push(*pid);
    }
    let mut below = BTreeSet::new();
    let mut waiting = vec![ancestor];
    while let Some(parent) = waiting.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if below.insert(*child) {
                waiting.push(*child);
            }
        }
    }
    below
}

fn all() -> BTreeMap<i32, Kin> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, look(pid)?))).collect()
}

fn look(pid: i32) -> Option<Kin> {
    read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns the fields of proc_pid_stat(5) from the third on, the state.
pub fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    // The name may hold spaces and brackets; fields count from its last bracket.
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace())
}

/// Returns whether a process is gone, or has ended and only waits to be collected; the first
/// process of a namespace gets there after all others.
pub fn is_dead(pid: i32) -> bool {
    look(pid).is_none_or(|kin| kin.is_dead)
}

fn read(stat: &str) -> Option<Kin> {
    let mut fields = fields(stat)?;
    let state = fields.next()?;
    Some(Kin {
        is_dead: matches!(state, "Z" | "X"),
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn fields_are_found_behind_a_strange_name() {
        let stat = "7 (a) b) Z 3 4 7 0 -1";
        let kin = Kin {
            parent: 3,
            group: 4,
            is_dead: true,
        };
        assert_eq!(read(stat), Some(kin));
        assert_eq!(read("7 (a"), None);
    }

    #[test]
    fn child_and_its_children_descend_and_nobody_else() {
        let own = nix::unistd::getpid().as_raw();
        let mut shell = Command::new("/bin/sh");
        let mut shell = shell.args(["-c", "sleep 600 & wait"]).spawn().unwrap();
        let child = i32::try_from(shell.id()).unwrap();
        assert!(descends(child, own));
        assert!(!descends(own, own) && !descends(own, child) && !descends(1, own));
        let until = Instant::now() + Duration::from_secs(10);
        while count(child) == 0 {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        let sleep = below(&all(), child);
        assert!(sleep.iter().all(|pid| descends(*pid, own)));
        // They are in our group, and not all of it descends from the shell.
        let group = nix::unistd::getpgrp().as_raw();
        assert!(!group_descends(group, child));
        assert!(!group_descends(i32::MAX, own));
        for pid in sleep {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
    }

    /// A filter that allows everything.
    const ALLOW: [libc::sock_filter; 1] = [libc::sock_filter {
        code: 6,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    }];

    #[test]
    fn what_works_in_a_folder_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let sleep = |walled: bool, at: &Path| {
            use std::os::unix::process::CommandExt as _;
            let mut sleep = Command::new("/bin/sleep");
            // SAFETY: system calls only, on memory that was allocated before.
            unsafe {
                sleep.pre_exec(move || {
                    if walled {
                        nix::sys::prctl::set_no_new_privs()?;
                        crate::sys::set_filter(&ALLOW)?;
                    }
                    Ok(())
                });
            }
            sleep.arg("60").current_dir(at).spawn().unwrap()
        };
        let mut inside = sleep(true, &place);
        // Somebody who looks at the files, and somebody elsewhere.
        let mut others = [sleep(false, &place), sleep(true, Path::new("/"))];
        end_in(&place).unwrap();
        let status = inside.wait().unwrap();
        assert!(!status.success());
        for other in &mut others {
            assert!(other.try_wait().unwrap().is_none());
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
