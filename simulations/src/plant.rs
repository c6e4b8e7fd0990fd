//! Bugs that are planted on purpose: a test system that finds nothing proves nothing.
//!
//! Each breaks one promise in the shell around the core, as a careless daemon might; the core
//! itself is never touched, so what is tested is what ships. Only `meshsim canary` plants, and no
//! program that users run links this crate.
//!
//! Invariant: a bug counts as found only by a promise that it breaks, see [`Plant::promises`].

use std::fmt;

use crate::check::{audience, award, capacity, memory, once};
use crate::scenario::wishes;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// Says everything before the journal is on disk.
    AcknowledgeBeforeSync,
    /// Answers its own programs before the journal is on disk, and is honest with its peers.
    AnswerBeforeSync,
    /// Grants as if the owner had given it more than anybody asks for.
    GrantWithoutCheck,
    /// Makes and starts what it has only reserved.
    StartWithoutAward,
    /// Tells everybody about every change.
    TellEverybody,
    /// Gives each new slot to a second machine too.
    MakeTwice,
    /// Answers that a service is gone, and leaves it where it is.
    ForgetToDestroy,
}

impl Plant {
    /// Every bug.
    pub const ALL: [Self; 7] = [
        Self::AcknowledgeBeforeSync,
        Self::AnswerBeforeSync,
        Self::GrantWithoutCheck,
        Self::StartWithoutAward,
        Self::TellEverybody,
        Self::MakeTwice,
        Self::ForgetToDestroy,
    ];

    /// Slots that a node without a check believes to have: more than a run has orders.
    pub const SLOTS_WITHOUT_CHECK: u32 = 100_000;

    /// Returns the bug of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|plant| plant.to_string() == name)
    }

    /// Returns the promises that it breaks; found by another one, it is not understood.
    pub fn promises(self) -> &'static [&'static str] {
        match self {
            Self::AcknowledgeBeforeSync => &[memory::PROMISE, wishes::SURVIVES],
            Self::AnswerBeforeSync => &[wishes::SURVIVES, wishes::AS_ASKED],
            Self::GrantWithoutCheck => &[capacity::PROMISE],
            Self::StartWithoutAward => &[award::PROMISE],
            Self::TellEverybody => &[audience::PROMISE],
            Self::MakeTwice => &[once::PROMISE],
            // The slot goes to the next order while the old instance is still there.
            Self::ForgetToDestroy => &[capacity::PROMISE, wishes::AS_ASKED],
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AcknowledgeBeforeSync => "acknowledge before sync",
            Self::AnswerBeforeSync => "answer programs before sync",
            Self::GrantWithoutCheck => "grant without capacity check",
            Self::StartWithoutAward => "start without award",
            Self::TellEverybody => "tell everybody",
            Self::MakeTwice => "make twice",
            Self::ForgetToDestroy => "forget to destroy",
        })
    }
}
