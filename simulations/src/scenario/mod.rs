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
use crate::trim::Trim;
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

    /// Returns how many orders it places, of those that can be left out.
    pub fn orders(self) -> u64 {
        match self {
            Self::First => first::ORDERS,
            Self::LastSlot => 0,
        }
    }
}

/// One run to be.
#[derive(Debug, Clone)]
pub struct Case {
    /// The story.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// Whether lines are made.
    pub voice: Voice,
    /// The bug that is planted, if one is.
    pub plant: Option<Plant>,
    /// What is left out.
    pub trim: Trim,
}

impl Case {
    /// Returns the silent, whole run of a seed.
    pub fn of(scenario: Scenario, seed: u64) -> Self {
        Self {
            scenario,
            seed,
            voice: Voice::Silent,
            plant: None,
            trim: Trim::default(),
        }
    }

    /// Runs it.
    pub fn run(&self) -> Outcome {
        match self.scenario {
            Scenario::First => first::run(self),
            Scenario::LastSlot => last_slot::run(self),
        }
    }

    /// Returns the command that shows it again.
    pub fn command(&self) -> String {
        let (name, seed, trim) = (self.scenario.name(), self.seed, &self.trim);
        let plant = self
            .plant
            .map_or_else(String::new, |plant| format!(" --plant \"{plant}\""));
        format!("meshsim replay {name} {seed}{trim}{plant}")
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
