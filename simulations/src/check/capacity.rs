//! Promise: no capacity is granted twice.
//!
//! Seen from outside: the slots that exist on a machine never exceed what its owner gave it, and by
//! its own ledger the grants that were not released never do.

use std::collections::{BTreeMap, BTreeSet};

use mesh_base::time::Moment;
use mesh_compute::step::ItemId;

use crate::check::{Check, Seen, Violation};
use crate::driver::Change;
use crate::host::Host;
use crate::network::HostId;
use crate::tally::Tally;

/// The promise.
pub const PROMISE: &str = "no capacity is granted twice";

/// The checker.
#[derive(Debug, Default)]
pub struct Capacity {
    made: BTreeMap<HostId, BTreeSet<ItemId>>,
}

impl Check for Capacity {
    fn name(&self) -> &'static str {
        "capacity"
    }

    fn see(&mut self, seen: &Seen<'_>, _: Moment, _: &mut Tally) -> Result<(), Violation> {
        match seen {
            Seen::Driver {
                host,
                change: Change::Made(item),
            } => {
                let made = self.made.entry(host.id).or_default();
                made.insert(*item);
                within(host, made.len(), "instances exist")
            }
            Seen::Driver {
                host,
                change: Change::Unmade(item),
            } => {
                self.made.entry(host.id).or_default().remove(item);
                Ok(())
            }
            Seen::Looked { host } | Seen::Booted { host } => {
                within(host, granted(host), "grants are not released")
            }
            _ => Ok(()),
        }
    }
}

fn within(host: &Host, count: usize, what: &str) -> Result<(), Violation> {
    let slots = usize::try_from(host.identity.slots()).unwrap_or(usize::MAX);
    if count <= slots {
        return Ok(());
    }
    let name = host.identity.name();
    Err(Violation::new(
        PROMISE,
        format!("{name} has {slots} slots, {count} {what}"),
    ))
}

/// Counts the grants of a node by its own ledger.
fn granted(host: &Host) -> usize {
    let Some(daemon) = &host.daemon else { return 0 };
    let orders = daemon.node.view().orders.values();
    orders
        .flat_map(|order| order.attempts.values())
        .filter(|attempt| attempt.node == host.key())
        .filter(|attempt| attempt.granted.is_some() && !attempt.released)
        .count()
}
