//! What is wanted of an instance, what it is, and what is told about it: the words of the
//! supervision.
//!
//! Closed enums; sentences of drivers and checks inside them are cut to [`SENTENCE_LEN_MAX`]
//! characters.

use std::fmt;
use std::time::Duration;

use mesh_base::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::promise::PromisePlan;
use crate::step::{InstanceSpec, Meters};

/// Longest sentence of a driver or a check that is kept.
pub const SENTENCE_LEN_MAX: usize = 300;

/// What the customer wants of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Desire {
    /// It runs.
    Running,
    /// It does not run; its data stays.
    Stopped,
    /// Nothing of it is left.
    Destroyed,
}

/// Everything the machine needs to know about an instance; made from recipe, order and grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the driver makes.
    pub spec: InstanceSpec,
    /// What must hold.
    pub promises: Vec<PromisePlan>,
    /// How long after a start the promises may take to hold.
    pub ready_within: Duration,
    /// How often the meters are read.
    pub meter_period: Duration,
}

/// Why an instance is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The software could not be had.
    Software {
        /// The driver's sentence.
        said: String,
    },
    /// A step could not be done.
    Step {
        /// The driver's sentence.
        said: String,
    },
    /// The processes ended by themselves.
    Ended {
        /// How, in words.
        how: String,
    },
    /// A promise did not hold in time after a start.
    NotReady {
        /// Which.
        promise: String,
        /// What the check said.
        said: String,
    },
    /// A promise fell while the instance ran.
    Broken {
        /// Which.
        promise: String,
        /// What the check said.
        said: String,
    },
}

impl Trouble {
    /// Returns whether two troubles are the same for people, whatever the sentences say.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotReady { promise: a, .. }, Self::NotReady { promise: b, .. })
            | (Self::Broken { promise: a, .. }, Self::Broken { promise: b, .. }) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Software { said } => write!(f, "the software could not be had: {said}"),
            Self::Step { said } => f.write_str(said),
            Self::Ended { how } => write!(f, "it ended by itself: {how}"),
            Self::NotReady { promise, said } => {
                write!(f, "promise \"{promise}\" did not hold in time: {said}")
            }
            Self::Broken { promise, said } => write!(f, "promise \"{promise}\" is broken: {said}"),
        }
    }
}

/// What people and the ledger see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Software comes.
    Fetching,
    /// The slot is made.
    Creating,
    /// Processes start; promises do not all hold yet.
    Starting,
    /// All promises hold.
    Ready,
    /// It was ready once and is in trouble now; repair goes on.
    Degraded(Trouble),
    /// Processes are being stopped.
    Stopping,
    /// Nothing runs; the data is there.
    Stopped,
    /// Everything is being removed.
    Destroying,
    /// Nothing is left.
    Destroyed,
    /// It was never ready and is given up; nothing runs.
    Failed(Trouble),
}

impl State {
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Degraded(a), Self::Degraded(b)) | (Self::Failed(a), Self::Failed(b)) => {
                a.is_like(b)
            }
            _ => self == other,
        }
    }

    pub(super) fn is_of_running(&self) -> bool {
        !matches!(
            self,
            Self::Stopping | Self::Stopped | Self::Destroying | Self::Destroyed
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching => f.write_str("fetching software"),
            Self::Creating => f.write_str("creating"),
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::Degraded(trouble) => write!(f, "degraded: {trouble}"),
            Self::Stopping => f.write_str("stopping"),
            Self::Stopped => f.write_str("stopped"),
            Self::Destroying => f.write_str("destroying"),
            Self::Destroyed => f.write_str("destroyed"),
            Self::Failed(trouble) => write!(f, "failed: {trouble}"),
        }
    }
}

/// Something worth a line in the journal, a record in the ledger or a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The state changed; troubles of one kind are told once.
    State(State),
    /// Software is here; the digest names the unpacked tree.
    Software {
        /// Digest of the unpacked tree.
        tree: Digest,
    },
    /// The slot was made: from now on there is data to keep.
    Created,
    /// Processes run.
    Started,
    /// Processes ended.
    Ended {
        /// How, in words.
        how: String,
    },
    /// Meters were read.
    Metered(Meters),
    /// Something went wrong and is tried again.
    Trouble(Trouble),
}

/// What must survive a restart of the daemon; see [`restore`](crate::instance::Instance::restore).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What is desired.
    pub desire: Desire,
    /// The last state that was told.
    pub state: State,
    /// Whether the slot was made.
    pub created: bool,
    /// Whether it was ready once.
    pub ever_ready: bool,
}

/// Keeps a sentence of others within its limit.
pub(super) fn sentence(said: &str) -> String {
    said.chars().take(SENTENCE_LEN_MAX).collect()
}
