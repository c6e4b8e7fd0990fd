//! Bugs on purpose, in the shell around the voters; the core is never touched.
//!
//! Invariant: a bug counts as found only by a promise that it breaks.

use std::fmt;

use super::check;
use super::steady;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Says that a ballot is on disk, and writes nothing.
    VoteNotPersisted,
    /// Says in the others' name that they are willing.
    NoPreVote,
    /// Executes whatever term comes.
    StaleTermAccepted,
    /// The witness says that it has a record, and votes as if it had none.
    VoteOnlyWitness,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 4] = [
        Self::VoteNotPersisted,
        Self::NoPreVote,
        Self::StaleTermAccepted,
        Self::VoteOnlyWitness,
    ];

    /// Returns the promises that it breaks.
    pub fn promises(self) -> &'static [&'static str] {
        match self {
            Self::VoteNotPersisted => &[check::ONE_WINNER, check::ONE_LEASE, check::SURVIVES],
            Self::NoPreVote => &[steady::QUIET],
            Self::StaleTermAccepted => &[check::FENCED],
            Self::VoteOnlyWitness => &[check::SURVIVES],
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::VoteNotPersisted => "vote not persisted",
            Self::NoPreVote => "no pre-vote",
            Self::StaleTermAccepted => "stale term accepted",
            Self::VoteOnlyWitness => "vote-only witness",
        })
    }
}
