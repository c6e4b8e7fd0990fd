//! Promise: nobody receives a document that it may not read, not even its name.
//!
//! Readers of a document are everybody for charters, members, catalogs and capacities, and the
//! writer's organisation and the counterparty for all others. An order asked for directly reaches
//! only the node that the ask names.

use mesh_base::identity::OrgId;
use mesh_base::time::Moment;
use mesh_ledger::document::{DocId, DocKind};
use mesh_ledger::record::Body;
use mesh_peer::message::Message;

use crate::check::{Check, Seen, Violation};
use crate::host::Host;
use crate::tally::Tally;

/// The promise.
pub const PROMISE: &str = "nobody receives a document that it may not read";

/// The checker.
pub struct Audience;

impl Check for Audience {
    fn name(&self) -> &'static str {
        "audience"
    }

    fn see(&mut self, seen: &Seen<'_>, _: Moment, _: &mut Tally) -> Result<(), Violation> {
        let Seen::Sent { from, to, message } = seen else {
            return Ok(());
        };
        match message {
            Message::Changes(delta) => readable(from, to, &delta.doc),
            Message::Frontiers { list, .. } => {
                list.iter().try_for_each(|(doc, _)| readable(from, to, doc))
            }
            Message::Reserve { ask, .. } => match &ask.record.body {
                Body::Ask(ask) if ask.node == to.key() => Ok(()),
                _ => Err(Violation::new(PROMISE, "an ask for another node")),
            },
            _ => Ok(()),
        }
    }
}

fn readable(from: &Host, to: &Host, doc: &DocId) -> Result<(), Violation> {
    if may_read(doc, to.identity.org()) {
        return Ok(());
    }
    let (from, to) = (from.identity.name(), to.identity.name());
    Err(Violation::new(
        PROMISE,
        format!("{from} sent {doc} to {to}"),
    ))
}

fn may_read(doc: &DocId, reader: OrgId) -> bool {
    match doc.kind {
        DocKind::Charter | DocKind::Members | DocKind::Catalog | DocKind::Capacity => true,
        _ => doc.org == reader || doc.counterparty == Some(reader),
    }
}
