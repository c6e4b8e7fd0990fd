//! Promise: the books are right at every prefix of history.
//!
//! Sums are zero, no attempt is awarded twice, no statement charged twice, no invoice differs from
//! its usage, no writer has two histories. What records on their way may still explain counts only
//! after healing, when nothing is on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_base::time::Moment;
use mesh_ledger::check::{Violation as Finding, verify_all};

use crate::check::{Check, Seen, Violation};
use crate::host::Host;
use crate::network::HostId;
use crate::tally::Tally;

const PROMISE: &str = "the books are right at every prefix";

/// A whole ledger is read; each host's books are opened this often.
const EVERY: Duration = Duration::from_secs(40);

/// The checker.
#[derive(Debug, Default)]
pub struct Books {
    opened: BTreeMap<HostId, Moment>,
}

impl Check for Books {
    fn name(&self) -> &'static str {
        "books"
    }

    fn see(&mut self, seen: &Seen<'_>, now: Moment, _: &mut Tally) -> Result<(), Violation> {
        let Seen::Looked { host } = seen else {
            return Ok(());
        };
        // Hosts take turns, so that no look is long.
        let first = Moment(u64::from(host.id.0) * 2_000_000);
        let opened = self.opened.entry(host.id).or_insert(first);
        if now < *opened + EVERY {
            return Ok(());
        }
        *opened = now;
        match findings(host)
            .into_iter()
            .find(|finding| !finding.may_heal())
        {
            Some(finding) => Err(broken(host, &finding)),
            None => Ok(()),
        }
    }
}

/// Checks a host's books when nothing is on its way any more.
pub fn settled(host: &Host) -> Result<(), Violation> {
    match findings(host).first() {
        Some(finding) => Err(broken(host, finding)),
        None => Ok(()),
    }
}

fn findings(host: &Host) -> Vec<Finding> {
    host.daemon
        .as_ref()
        .map(|daemon| verify_all(daemon.node.ledger()))
        .unwrap_or_default()
}

fn broken(host: &Host, finding: &Finding) -> Violation {
    Violation::new(PROMISE, format!("{}: {finding}", host.identity.name()))
}
