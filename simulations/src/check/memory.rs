//! Promise: what a node has said survives its crash.
//!
//! Whatever a node sends about a document rests on its disk: a change as far as it goes, a frontier
//! as far as it names. So after a restart its ledger reaches at least as far, with the same head at
//! that place. The first form of this promise is "no yes before the sync".

use std::collections::BTreeMap;

use mesh_base::digest::Digest;
use mesh_base::time::Moment;
use mesh_ledger::document::{DocId, Frontier};
use mesh_peer::message::Message;

use crate::check::{Check, Seen, Violation};
use crate::host::Host;
use crate::network::HostId;
use crate::tally::Tally;

/// The promise.
pub const PROMISE: &str = "what a node has said survives its crash";

/// The checker.
#[derive(Debug, Default)]
pub struct Memory {
    said: BTreeMap<HostId, BTreeMap<DocId, Frontier>>,
}

impl Check for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn see(&mut self, seen: &Seen<'_>, _: Moment, _: &mut Tally) -> Result<(), Violation> {
        match seen {
            Seen::Sent { from, message, .. } => {
                match message {
                    Message::Changes(delta) => self.note(from, delta.doc, delta.frontier()),
                    Message::Frontiers { list, .. } => {
                        list.iter()
                            .for_each(|(doc, frontier)| self.note(from, *doc, *frontier));
                    }
                    _ => {}
                }
                Ok(())
            }
            Seen::Booted { host } => self.remembers(host),
            _ => Ok(()),
        }
    }
}

impl Memory {
    fn note(&mut self, host: &Host, doc: DocId, frontier: Frontier) {
        let said = self
            .said
            .entry(host.id)
            .or_default()
            .entry(doc)
            .or_default();
        if said.seq < frontier.seq {
            *said = frontier;
        }
    }

    fn remembers(&self, host: &Host) -> Result<(), Violation> {
        let Some(daemon) = &host.daemon else {
            return Ok(());
        };
        let ledger = daemon.node.ledger();
        for (doc, said) in self.said.get(&host.id).into_iter().flatten() {
            let has = ledger.frontier(doc).unwrap_or_default();
            let head = ledger
                .document(doc)
                .and_then(|document| document.link(said.seq));
            let head = head.map_or(Digest::default(), |link| link.frontier.head);
            if has.seq < said.seq || head != said.head {
                let name = host.identity.name();
                let found = format!("{name} said {doc} up to {}, has {}", said.seq, has.seq);
                return Err(Violation::new(PROMISE, found));
            }
        }
        Ok(())
    }
}
