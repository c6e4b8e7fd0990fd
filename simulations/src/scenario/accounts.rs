//! The last act: usage is stated, invoices exist on both sides and recompute, ledgers verify.

use std::time::Duration;

use mesh_api::{Reply, Request};

use crate::check::Violation;
use crate::check::replicas;
use crate::network::HostId;
use crate::scenario::play::Play;

const PROMISE: &str = "an invoice recomputes on both sides";

/// Asks for usage, then compares and verifies every invoice at its seller and its buyer.
pub fn settle(play: &mut Play, masters: &[HostId]) -> Result<(), Violation> {
    let hosts: Vec<HostId> = play.world.hosts().iter().map(|host| host.id).collect();
    let mut calls = Vec::new();
    for host in &hosts {
        calls.extend(play.world.ask(*host, Request::UsageNow { name: None }));
    }
    play.answers(&calls, Duration::from_secs(30))?;
    play.pass(Duration::from_secs(5), Duration::from_secs(5))?;
    play.until(
        "replicas are equal after usage",
        Duration::from_secs(60),
        |world, _| replicas::difference(world.hosts()),
    )?;
    let mut seen = Vec::new();
    for master in masters {
        let Reply::Invoices { invoices } = play.ask_well(*master, Request::InvoiceLs)? else {
            return Err(Violation::new("an answer fits its question", "InvoiceLs"));
        };
        for row in invoices {
            let request = Request::InvoiceVerify {
                number: row.number.clone(),
            };
            let Reply::Verdict(verdict) = play.ask_well(*master, request)? else {
                return Err(Violation::new(
                    "an answer fits its question",
                    "InvoiceVerify",
                ));
            };
            if !verdict.holds {
                return Err(Violation::new(PROMISE, format!("{master:?}: {verdict:?}")));
            }
            seen.push((
                row.provider,
                row.customer,
                row.number,
                row.total,
                row.line_count,
            ));
        }
    }
    seen.sort_by(|a, b| (&a.0, &a.2).cmp(&(&b.0, &b.2)));
    for pair in seen.chunks(2) {
        match pair {
            [seller, buyer] if seller == buyer => {}
            odd => {
                return Err(Violation::new(
                    PROMISE,
                    format!("the sides differ: {odd:?}"),
                ));
            }
        }
    }
    if let Some(master) = masters.first() {
        let Reply::Verdict(verdict) = play.ask_well(*master, Request::LedgerVerify)? else {
            return Err(Violation::new(
                "an answer fits its question",
                "LedgerVerify",
            ));
        };
        if !verdict.holds {
            return Err(Violation::new("a ledger verifies", format!("{verdict:?}")));
        }
    }
    Ok(())
}
