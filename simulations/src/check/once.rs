//! Promise: no order is executed twice.
//!
//! Seen from outside: an item never exists on two machines, and by its customer's ledger no order
//! has two grants that were not released.

use std::collections::BTreeMap;

use mesh_base::time::Moment;
use mesh_compute::step::ItemId;

use crate::check::{Check, Seen, Violation};
use crate::driver::Change;
use crate::network::HostId;
use crate::tally::Tally;

/// The promise.
pub const PROMISE: &str = "no order is executed twice";

/// The checker.
#[derive(Debug, Default)]
pub struct Once {
    at: BTreeMap<ItemId, HostId>,
}

impl Check for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn see(&mut self, seen: &Seen<'_>, _: Moment, _: &mut Tally) -> Result<(), Violation> {
        match seen {
            Seen::Driver {
                host,
                change: Change::Made(item),
            } => match self.at.insert(*item, host.id) {
                Some(other) if other != host.id => Err(Violation::new(
                    PROMISE,
                    format!(
                        "{} exists on {other:?} and on {:?}",
                        item.0.short(),
                        host.id
                    ),
                )),
                _ => Ok(()),
            },
            Seen::Driver {
                host,
                change: Change::Unmade(item),
            } => {
                if self.at.get(item) == Some(&host.id) {
                    self.at.remove(item);
                }
                Ok(())
            }
            Seen::Looked { host } => {
                let Some(daemon) = &host.daemon else {
                    return Ok(());
                };
                // Others may know the new grant before the old one's release.
                let orders = daemon.node.view().orders.values();
                for order in orders.filter(|order| order.customer == host.key()) {
                    let live = order
                        .attempts
                        .values()
                        .filter(|attempt| attempt.granted.is_some() && !attempt.released);
                    if 1 < live.count() {
                        let name = host.identity.name();
                        let found = format!("{name} knows two live grants of {}", order.order.name);
                        return Err(Violation::new(PROMISE, found));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
