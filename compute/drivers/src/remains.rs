//! What is left of an instance's last run, when those who kept it were killed: found and ended.

use std::time::{Duration, Instant};

use mesh_compute::step::Isolation;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{At, DriverError};
use crate::slot::Slot;
use crate::{cgroup, kin, shim, usage};

/// How long what was killed may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Makes sure that nothing of an earlier run is left before its data is touched again.
pub fn end(slot: &Slot, isolation: Isolation) -> Result<(), DriverError> {
    let status = slot
        .status()
        .filter(|status| status.boot == shim::boot_id());
    let Some(status) = status else {
        return Ok(());
    };
    if let Some((pid, start)) = status.first {
        end_first(pid, start)?;
    }
    if isolation == Isolation::Process {
        // The first was the shim; its guardian ends the rest, and has the slot for so long.
        let until = Instant::now() + END_PATIENCE;
        while shim::is_held(&slot.folder) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        // None was left to do so if all were killed at once.
        let data = slot.data();
        let data = data.canonicalize().at("look at", &data)?;
        kin::end_in(&data).doing("end what is left of the last run")?;
    }
    let left = cgroup::remove(&status.groups);
    if !left.is_empty() {
        tracing::warn!(?left, "control groups of the last run are not removed");
    }
    Ok(())
}

/// Ends the first process inside, and with it everything there.
fn end_first(pid: i32, start: u64) -> Result<(), DriverError> {
    let until = Instant::now() + END_PATIENCE;
    // Gone when its id is free or names another process.
    while usage::start_of(pid) == Some(start) && !kin::is_dead(pid) {
        if until <= Instant::now() {
            let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(DriverError::System {
                what: "end what is left of the last run",
                source,
            });
        }
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
