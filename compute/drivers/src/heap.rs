//! Keeps proot from making memory maps out of brk(2).
//!
//! proot 5.1, of Debian 12, makes one of a program's first brk(2), and answers later ones with its
//! ends. Where the map is, it keeps once for all processes that share their memory. So when a child
//! of vfork(2) or posix_spawn(3) executes another program, the parent's place becomes the other's
//! (mended in proot 5.2: github.com/proot-me/proot/pull/119); the parent's next brk(2) tells it to
//! write where nothing is, and it dies by signal 11.
//!
//! So no such map is made. proot is told of one that ends where addresses do: the data of every
//! program then end there and cannot grow, and allocators take maps of their own. That place is the
//! same for all, so nothing is lost when proot mixes them up. Only the first such map since a
//! program was executed is proot's: a program may want the same for itself.

use std::collections::BTreeMap;

use libc::{seccomp_data, seccomp_notif};
use nix::unistd::{SysconfVar, sysconf};

use crate::kin;

/// Bytes that proot sets aside for the data of each program, besides a page before them.
const SET_ASIDE: u64 = 16 * 1024 * 1024;
/// Processes that are remembered before those that are gone are forgotten.
const KNOWN_MAX: usize = 1024;

/// The flags of proot's map.
pub const FLAGS: u32 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).unsigned_abs();

/// Returns the bytes of proot's map.
pub fn len() -> u64 {
    SET_ASIDE + page()
}

/// Returns the address of the map that proot is told of: the data begin a page after it, at the
/// last address, so that to add any number of bytes overflows.
fn nowhere() -> i64 {
    (u64::MAX - page()).cast_signed()
}

fn page() -> u64 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| page.try_into().ok()).unwrap_or(4096)
}

/// When a process began, and where the stack of the program that it runs starts: another program
/// has another, except by chance.
type Life = (u64, u64);

/// The processes whose first map was answered.
#[derive(Debug, Default)]
pub struct Heaps {
    answered: BTreeMap<u32, Life>,
}

impl Heaps {
    /// Returns where proot is told that a map lies, if it is the one of a first brk(2).
    pub fn place(&mut self, call: &seccomp_notif) -> Option<i64> {
        if !is_alike(&call.data) {
            return None;
        }
        let living = life(call.pid)?;
        if self.answered.len() >= KNOWN_MAX {
            self.answered.retain(|pid, old| life(*pid) == Some(*old));
        }
        let is_first = self.answered.insert(call.pid, living) != Some(living);
        is_first.then(nowhere)
    }
}

/// Returns whether a call is written as proot writes it.
fn is_alike(call: &seccomp_data) -> bool {
    let protection = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
    call.args == [0, len(), protection.into(), FLAGS.into(), u64::MAX, 0]
}

/// Returns the life of a process; none for a thread that is not its first: that is never the one
/// which begins a program.
fn life(pid: u32) -> Option<Life> {
    if kin::process_of(pid) != i32::try_from(pid).ok() {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 22 and 28 of proc_pid_stat(5); the first that is given is the third.
    let mut fields = kin::fields(&stat)?.skip(22 - 3);
    let began = fields.next()?.parse().ok()?;
    let stack = fields.nth(28 - 22 - 1)?.parse().ok()?;
    Some((began, stack))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pid: u32, args: [u64; 6]) -> seccomp_notif {
        let data = seccomp_data {
            nr: 0,
            arch: 0,
            instruction_pointer: 0,
            args,
        };
        seccomp_notif {
            id: 0,
            pid,
            flags: 0,
            data,
        }
    }

    #[test]
    fn first_map_of_a_program_is_proots_and_others_are_its_own() {
        let own = std::process::id();
        let proots = [0, len(), 3, 0x22, u64::MAX, 0];
        let mut heaps = Heaps::default();
        for (at, other) in [(0, 4096), (1, 4096), (2, 1), (3, 0x32), (4, 0xffff_ffff)] {
            let mut args = proots;
            args[at] = other;
            assert_eq!(heaps.place(&asked(own, args)), None, "{args:x?}");
        }
        assert_eq!(heaps.place(&asked(own, proots)), Some(nowhere()));
        assert_eq!(heaps.place(&asked(own, proots)), None);
        assert_eq!(heaps.place(&asked(u32::MAX, proots)), None, "nobody");
    }

    #[test]
    fn another_program_in_the_same_process_begins_anew() {
        let mut heaps = Heaps::default();
        let proots = [0, len(), 3, 0x22, u64::MAX, 0];
        let own = std::process::id();
        let (began, stack) = life(own).unwrap();
        heaps.answered.insert(own, (began, stack ^ 0x10));
        assert_eq!(heaps.place(&asked(own, proots)), Some(nowhere()));
    }

    #[test]
    fn those_who_are_gone_are_forgotten() {
        let mut heaps = Heaps::default();
        let gone = (0..).map(|at| (u32::MAX - at, (0, 0))).take(KNOWN_MAX);
        heaps.answered.extend(gone);
        let proots = [0, len(), 3, 0x22, u64::MAX, 0];
        assert_eq!(
            heaps.place(&asked(std::process::id(), proots)),
            Some(nowhere())
        );
        assert_eq!(heaps.answered.len(), 1);
    }
}
