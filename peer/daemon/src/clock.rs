//! The machine's two clocks, read here and nowhere else in the daemon.

use mesh_base::time::{Moment, Now, Wall};
use nix::time::{ClockId, clock_gettime};

/// Reads both clocks. CLOCK_BOOTTIME also counts while the machine sleeps, so that leases run out.
pub fn now() -> Now {
    Now {
        mono: Moment(micros(ClockId::CLOCK_BOOTTIME)),
        wall: wall(),
    }
}

/// Reads the wall clock.
pub fn wall() -> Wall {
    let micros = micros(ClockId::CLOCK_REALTIME);
    Wall(i64::try_from(micros / 1000).unwrap_or(i64::MAX))
}

fn micros(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux that runs us; zero would only delay the first deadline.
    let Ok(time) = clock_gettime(clock) else {
        return 0;
    };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000) + u64::try_from(time.tv_nsec() / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_clock_does_not_go_back() {
        let (first, second) = (now(), now());
        assert!(first.mono <= second.mono);
        assert!(Wall(1_700_000_000_000) < first.wall);
    }
}
