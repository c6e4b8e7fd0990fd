//! Promise: a node makes and starts only what was awarded to it and what it has granted.
//!
//! Seen from outside: when a daemon asks its driver for a slot, its own ledger holds the order's
//! award to it and its own grant of that attempt.

use mesh_base::time::Moment;
use mesh_compute::step::Step;
use mesh_ledger::record::RecordId;

use crate::check::{Check, Seen, Violation};
use crate::tally::Tally;

/// The checker.
pub struct Award;

impl Check for Award {
    fn see(&mut self, seen: &Seen<'_>, _: Moment, _: &mut Tally) -> Result<(), Violation> {
        let Seen::Step { host, step } = seen else {
            return Ok(());
        };
        let item = match step {
            Step::Create(spec) => spec.item,
            Step::Start { item } => *item,
            _ => return Ok(()),
        };
        let Some(daemon) = &host.daemon else {
            return Ok(());
        };
        let order = daemon.node.view().orders.get(&RecordId(item.0));
        let lawful = order.is_some_and(|order| {
            order.attempts.values().any(|attempt| {
                attempt.node == host.key() && attempt.award.is_some() && attempt.granted.is_some()
            })
        });
        if lawful {
            return Ok(());
        }
        let seen = format!("{} starts {} without", host.identity.name(), item.0.short());
        Err(Violation::new(
            "a node starts only what was awarded to it",
            seen,
        ))
    }
}
