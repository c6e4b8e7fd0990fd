//! What this machine has, for the defaults of the capacity that it offers.
//!
//! Half of memory and free disk and all processors: a home machine stays usable, and the owner may
//! say otherwise. A figure that cannot be read becomes a small one.

use std::path::Path;

/// Returns four times the machine's cores, in thousandths: services mostly wait, and a limit that
/// one of them may use in a busy moment is not what all of them use at the same time.
pub fn cpu_millis() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores)
        .unwrap_or(1)
        .saturating_mul(OVERCOMMIT * 1000)
}

/// How often a core is promised; the usual ratio of hosts for virtual servers.
const OVERCOMMIT: u32 = 4;

/// Returns half of the memory, in MiB.
pub fn memory_mib() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(512 * 1024);
    u32::try_from(total_kib / 1024 / 2).unwrap_or(u32::MAX)
}

/// Returns half of the free space of the disk that holds `path`, in MiB.
pub fn disk_mib(path: &Path) -> u32 {
    let existing = path.ancestors().find(|folder| folder.exists());
    let Some(stat) = existing.and_then(|folder| nix::sys::statvfs::statvfs(folder).ok()) else {
        return 1024;
    };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    u32::try_from(free / (1024 * 1024) / 2).unwrap_or(u32::MAX)
}

/// Returns how many instances fit: one for each 256 MiB and at most eight for each processor.
pub fn slots() -> u32 {
    let by_memory = memory_mib() / 256;
    by_memory.min(cpu_millis() / 1000 * 2).max(1)
}
