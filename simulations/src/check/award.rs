//! Promise: a node makes and starts only what was awarded to it and what it has granted.
//!
//! Seen from outside: when a daemon asks its driver for a slot, its own ledger holds, signed by the
//! order's customer, an award to it, none of a later attempt to somebody else, and, signed by
//! itself, its grant of that attempt. The records are read as anybody reads them, without what the
//! node makes of them.

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_compute::step::Step;
use mesh_ledger::record::{Body, RecordId};

use crate::check::{Check, Seen, Violation};
use crate::host::Host;
use crate::tally::Tally;

/// The promise.
pub const PROMISE: &str = "a node starts only what was awarded to it";

/// The checker.
pub struct Award;

impl Check for Award {
    fn name(&self) -> &'static str {
        "award"
    }

    fn see(&mut self, seen: &Seen<'_>, _: Moment, _: &mut Tally) -> Result<(), Violation> {
        let Seen::Step { host, step } = seen else {
            return Ok(());
        };
        let item = match step {
            Step::Create(spec) => spec.item,
            Step::Start { item } => *item,
            _ => return Ok(()),
        };
        let Some(lack) = lack(host, RecordId(item.0)) else {
            return Ok(());
        };
        let name = host.identity.name();
        let seen = format!("{name} starts {}: {lack}", item.0.short());
        Err(Violation::new(PROMISE, seen))
    }
}

/// Says what a host's records lack for starting an order; nothing if it may.
fn lack(host: &Host, id: RecordId) -> Option<String> {
    let ledger = host.daemon.as_ref()?.node.ledger();
    // An order of another organisation came inside an ask, by the hand of its customer.
    let (mut customer, mut grants) = (None, Vec::new());
    let mut award: Option<(u32, NodeId, RecordId)> = None;
    for entry in ledger.all_entries() {
        let (author, body) = (entry.signed.record.author, &entry.signed.record.body);
        match body {
            Body::Order(_) if entry.id == id => customer = Some(author),
            Body::Ask(ask) if ask.order.id() == id => customer = Some(ask.order.record.author),
            Body::Grant(grant) if grant.order == id && author == *host.key().key() => {
                grants.push((grant.attempt, grant.award));
            }
            _ => {}
        }
    }
    let customer = customer?;
    for entry in ledger.all_entries() {
        if let Body::Award(given) = &entry.signed.record.body
            && given.order == id
            && entry.signed.record.author == customer
            && award.is_none_or(|(attempt, ..)| attempt < given.attempt)
        {
            award = Some((given.attempt, given.node, entry.id));
        }
    }
    match award {
        None => Some("nobody awarded it".to_owned()),
        Some((_, node, _)) if node != host.key() => Some("it was awarded to another".to_owned()),
        Some((attempt, _, award)) if !grants.contains(&(attempt, award)) => {
            Some(format!("it has not granted attempt {attempt}"))
        }
        Some(_) => None,
    }
}
