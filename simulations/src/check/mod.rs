//! The checkers: each knows one promise and sees what an outsider could see, never how it is kept.
//!
//! | room | promise |
//! |---|---|
//! | [`audience`] | nobody receives a document that it may not read |
//! | [`award`] | a node starts only what was awarded to it |
//! | [`books`] | sums are zero at every prefix, invoices recompute on both sides |
//! | [`capacity`] | no capacity is granted twice |
//! | [`memory`] | what a node has said survives its crash |
//! | [`once`] | no order is executed twice |
//! | [`replicas`] | equal frontiers everywhere after healing, and equal heads at any time |

use std::fmt;

use mesh_base::time::Moment;
use mesh_compute::step::Step;
use mesh_peer::message::Message;

use crate::driver::Change;
use crate::host::Host;
use crate::tally::Tally;

pub mod audience;
pub mod award;
pub mod books;
pub mod capacity;
pub mod memory;
pub mod once;
pub mod replicas;

/// Something that an outsider can see.
#[derive(Clone, Copy)]
pub enum Seen<'a> {
    /// A daemon has read its journal.
    Booted {
        /// Where.
        host: &'a Host,
    },
    /// A message leaves a host.
    Sent {
        /// Who says it.
        from: &'a Host,
        /// To whom.
        to: &'a Host,
        /// What.
        message: &'a Message,
    },
    /// A daemon asks its driver for something.
    Step {
        /// Where.
        host: &'a Host,
        /// What.
        step: &'a Step,
    },
    /// Something appeared or disappeared on a machine.
    Driver {
        /// Where.
        host: &'a Host,
        /// What.
        change: Change,
    },
    /// Somebody reads a node's ledger.
    Looked {
        /// Where.
        host: &'a Host,
    },
}

/// A promise that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub promise: &'static str,
    /// What was seen instead.
    pub seen: String,
    /// Who saw it: a checker, or the story that was played.
    pub checker: &'static str,
}

impl Violation {
    /// Returns a broken promise.
    pub fn new(promise: &'static str, seen: impl fmt::Display) -> Self {
        Self {
            promise,
            seen: seen.to_string(),
            checker: "story",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}\n  seen: {}", self.promise, self.seen)
    }
}

/// One promise.
pub trait Check {
    /// Returns its room's name.
    fn name(&self) -> &'static str;

    /// Looks at something; says whether the promise still holds.
    fn see(&mut self, seen: &Seen<'_>, now: Moment, tally: &mut Tally) -> Result<(), Violation>;
}

/// All checkers of a run.
pub struct Watch(Vec<Box<dyn Check>>);

impl Watch {
    /// Returns every checker.
    pub fn all() -> Self {
        Self(vec![
            Box::new(audience::Audience),
            Box::new(award::Award),
            Box::new(books::Books::default()),
            Box::new(capacity::Capacity::default()),
            Box::new(memory::Memory::default()),
            Box::new(once::Once::default()),
            Box::new(replicas::Replicas::default()),
        ])
    }

    /// Shows something to every checker.
    pub fn see(
        &mut self,
        seen: &Seen<'_>,
        now: Moment,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        self.0.iter_mut().try_for_each(|check| {
            let verdict = check.see(seen, now, tally);
            verdict.map_err(|broken| Violation {
                checker: check.name(),
                ..broken
            })
        })
    }
}
