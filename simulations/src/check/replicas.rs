//! Promise: equal frontiers mean equal heads at any time, and after healing all replicas are equal.
//!
//! The first half is checked whenever somebody looks: the head of a document after its n-th change
//! is the same on every machine. The second half is asked by the scenario when it expects it.

use std::collections::BTreeMap;

use mesh_base::digest::Digest;
use mesh_base::time::Moment;
use mesh_ledger::document::{DocId, Frontier};

use crate::check::{Check, Seen, Violation};
use crate::host::Host;
use crate::tally::Tally;

/// The checker.
#[derive(Debug, Default)]
pub struct Replicas {
    heads: BTreeMap<(DocId, u64), Digest>,
}

impl Check for Replicas {
    fn name(&self) -> &'static str {
        "replicas"
    }

    fn see(&mut self, seen: &Seen<'_>, _: Moment, _: &mut Tally) -> Result<(), Violation> {
        let Seen::Looked { host } = seen else {
            return Ok(());
        };
        let Some(daemon) = &host.daemon else {
            return Ok(());
        };
        for (doc, Frontier { seq, head }) in daemon.node.ledger().heads() {
            let known = self.heads.entry((doc, seq)).or_insert(head);
            if *known != head {
                let name = host.identity.name();
                let found = format!("{doc} at {seq} has another head on {name}");
                return Err(Violation::new("equal frontiers mean equal heads", found));
            }
        }
        Ok(())
    }
}

/// Returns the first document that differs between two replicas that should have it; none if all
/// are equal.
pub fn difference(hosts: &[Host]) -> Option<String> {
    let mut newest: BTreeMap<DocId, Frontier> = BTreeMap::new();
    let ledgers = || {
        hosts
            .iter()
            .filter_map(|host| Some((host, host.daemon.as_ref()?.node.ledger())))
    };
    for (_, ledger) in ledgers() {
        for (doc, frontier) in ledger.heads() {
            let known = newest.entry(doc).or_default();
            *known = frontier.max(*known);
        }
    }
    for (host, ledger) in ledgers() {
        for (doc, frontier) in &newest {
            let entitled = doc
                .counterparty
                .is_none_or(|other| other == host.identity.org() || doc.org == host.identity.org());
            let has = ledger.frontier(doc).unwrap_or_default();
            if entitled && has != *frontier {
                let name = host.identity.name();
                return Some(format!(
                    "{name} has {doc} up to {}, not {}",
                    has.seq, frontier.seq
                ));
            }
        }
    }
    // Members of one organisation may read the same, so their whole ledgers are equal, byte for
    // byte.
    let mut digests = BTreeMap::new();
    for (host, ledger) in ledgers() {
        let digest = ledger.digest();
        if *digests.entry(host.identity.org()).or_insert(digest) != digest {
            return Some(format!(
                "{} has another ledger digest",
                host.identity.name()
            ));
        }
    }
    None
}
