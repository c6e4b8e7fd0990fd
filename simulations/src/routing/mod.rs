//! Routing alone: the very same speaker on 20 to 1,000 nodes in virtual time.
//!
//! | room | idea |
//! |---|---|
//! | [`net`], [`wire`], [`clock`] | the world: speakers, tunnels, clocks that drift |
//! | [`atlas`] | where nodes are and whom they choose |
//! | [`storm`] | what goes wrong |
//! | [`check`], [`hops`] | what must hold |
//! | [`loops`], [`scale`] | the two scenarios |
//! | [`fleet`] | many seeds, reports, figures |
//! | [`tally`], [`arena`] | what happened; things by number |
//!
//! Apart from the other scenarios: no daemon, no disk, no ledger, for a thousand nodes must fit.
//! Invariant: same seed and program, same hash.

use std::time::Duration;

use mesh_base::time::Moment;

use crate::check::Violation;
use crate::routing::net::Net;
use crate::routing::tally::Tally;

mod arena;
mod atlas;
mod check;
mod clock;
pub mod fleet;
mod hops;
mod loops;
mod net;
mod scale;
mod storm;
mod tally;
mod wire;

/// A grid of moments.
#[derive(Debug, Clone, Copy)]
struct Step(Duration);

impl Step {
    fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Returns whether a moment is on the grid.
    fn is_at(self, now: Moment) -> bool {
        now.0.is_multiple_of(self.micros())
    }

    /// Returns how long it is until the next one.
    fn until_next(self, now: Moment) -> Duration {
        let passed = now.0.checked_rem(self.micros()).unwrap_or_default();
        Duration::from_micros(self.micros() - passed)
    }
}

/// What came of one run.
#[derive(Debug)]
struct Outcome {
    seed: u64,
    parameters: String,
    hash: u64,
    micros: u64,
    tally: Tally,
    /// The longest hole with a surviving path, in whole seconds.
    hole: usize,
    violation: Option<Violation>,
}

impl Outcome {
    fn of(seed: u64, parameters: String, mut net: Net, hole: usize) -> Self {
        let mut tally = std::mem::take(&mut net.tally);
        for node in net.nodes.iter() {
            tally.take(node.speaker.counters());
        }
        Self {
            seed,
            parameters,
            hash: net.hash(),
            micros: net.now().0,
            tally,
            hole,
            violation: net.broken,
        }
    }
}
