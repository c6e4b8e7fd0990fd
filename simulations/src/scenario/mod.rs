//! Scenarios: what is asked of a mesh in a run, and what must have become of it in the end.
//!
//! | room | story |
//! |---|---|
//! | [`accounts`] | usage and invoices at the end |
//! | [`play`] | the hand that leads a run |
//! | [`first`] | 20 nodes in 3 organisations place 200 orders in foul weather |
//! | [`last_slot`] | two customers want the last slot at once |
//! | [`wishes`] | customers who order, change their mind, and ask again after a crash |

use mesh_base::digest::Digest;

use crate::check::Violation;
use crate::plant::Plant;
use crate::tally::Tally;
use crate::trail::Voice;
use crate::world::World;

pub mod accounts;
pub mod first;
pub mod last_slot;
pub mod play;
pub mod wishes;

/// A story that can be run from a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// See [`first`].
    First,
    /// See [`last_slot`].
    LastSlot,
}

impl Scenario {
    /// Returns the scenario of a name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "first" => Some(Self::First),
            "last-slot" => Some(Self::LastSlot),
            _ => None,
        }
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::LastSlot => "last-slot",
        }
    }

    /// Runs one seed.
    pub fn run(self, seed: u64, voice: Voice, plant: Option<Plant>) -> Outcome {
        match self {
            Self::First => first::run(seed, voice, plant),
            Self::LastSlot => last_slot::run(seed, voice, plant),
        }
    }
}

/// What came of one run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The drawn figures, in words.
    pub parameters: String,
    /// Fingerprint of everything that happened.
    pub hash: Digest,
    /// How many events happened.
    pub events: u64,
    /// Virtual time, in seconds.
    pub seconds: u64,
    /// Faults and branches.
    pub tally: Tally,
    /// The broken promise, if one was.
    pub violation: Option<Violation>,
    /// The last events, if they were kept.
    pub lines: Vec<String>,
}

impl Outcome {
    /// Returns what a finished world shows.
    pub fn of(
        seed: u64,
        parameters: String,
        world: &World,
        verdict: Result<(), Violation>,
    ) -> Self {
        Self {
            seed,
            parameters,
            hash: world.trail.hash(),
            events: world.trail.count(),
            seconds: world.now().0 / 1_000_000,
            tally: world.tally.clone(),
            violation: verdict.err(),
            lines: world.trail.lines().map(str::to_owned).collect(),
        }
    }
}
