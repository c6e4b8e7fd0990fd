//! Bugs that are planted on purpose: a test system that finds nothing proves nothing.
//!
//! Each breaks one promise in the shell around the core, as a careless daemon might; the core
//! itself is never touched, so what is tested is what ships.

use std::fmt;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Says yes before the journal is on disk.
    AcknowledgeBeforeSync,
    /// Believes in two slots more than the owner gave.
    ExtraSlots,
    /// Tells everybody about every change.
    TellEverybody,
    /// Gives each new slot to a second machine too.
    MakeTwice,
    /// Answers that a service is gone, and leaves it where it is.
    ForgetToDestroy,
}

impl Plant {
    /// Every bug.
    pub const ALL: [Self; 5] = [
        Self::AcknowledgeBeforeSync,
        Self::ExtraSlots,
        Self::TellEverybody,
        Self::MakeTwice,
        Self::ForgetToDestroy,
    ];
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AcknowledgeBeforeSync => "acknowledge before sync",
            Self::ExtraSlots => "two slots too many",
            Self::TellEverybody => "tell everybody",
            Self::MakeTwice => "make twice",
            Self::ForgetToDestroy => "forget to destroy",
        })
    }
}
