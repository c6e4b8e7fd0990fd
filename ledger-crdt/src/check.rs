//! The invariants that a whole ledger must keep, for `meshctl ledger verify` and for simulators.
//!
//! What enters has passed the gate, so signatures and chains are not looked at again; here the
//! records are held against each other. A replica that still lacks records can see something that
//! later records explain: [`Violation::may_heal`] says for which violations that is so. Credit
//! limits are not here: they hold at the moment of acceptance, which the records alone do not show.

use std::collections::BTreeMap;

use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId, PublicKey, ServiceId};

use crate::books::{self, Accounts, Phase, Resource};
use crate::charter::Capacity;
use crate::document::DocId;
use crate::invoice::{self, Invoice, InvoiceMismatch, Statement};
use crate::ledger::Ledger;
use crate::order::Holder;
use crate::record::{Body, RecordId, SignedRecord};
use crate::usage::Usage;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A writer has signed two histories.
    #[error("the writer of {0} has signed two histories")]
    Equivocation(Box<DocId>),
    /// A resource was made or lost.
    #[error("the sum of {resource:?} ({phase:?}) is not zero")]
    Sum {
        /// The phase.
        phase: Phase,
        /// The resource.
        resource: Resource,
    },
    /// A node has granted more than it ever had.
    #[error("a node has granted {granted} of {resource:?} and never had more than {capacity}")]
    OverAllocation {
        /// The node.
        node: NodeId,
        /// Of what.
        resource: Resource,
        /// How much is granted.
        granted: i128,
        /// The most it ever had.
        capacity: i128,
    },
    /// An attempt was awarded to two nodes.
    #[error("attempt {attempt} of order {} was awarded twice", order.short())]
    AwardedTwice {
        /// The order.
        order: RecordId,
        /// The attempt.
        attempt: u32,
    },
    /// Two nodes hold grants of one order at the same time.
    #[error("order {} is held by {count} grants at the same time", order.short())]
    HeldTwice {
        /// The order.
        order: RecordId,
        /// How many.
        count: usize,
    },
    /// A grant follows no award to that node, or its own refusal or release.
    #[error("grant {} follows no award", grant.short())]
    GrantWithoutAward {
        /// The grant.
        grant: RecordId,
    },
    /// The statements of an item have a gap, a repetition or overlapping spans.
    #[error("usage of item {} does not go on after statement {after}", item.short())]
    UsageChain {
        /// The item.
        item: Digest,
        /// The last good statement.
        after: u64,
    },
    /// An invoice is not what its statements say.
    #[error("invoice {number} is not what the usage says")]
    Invoice {
        /// Its number.
        number: String,
        /// Why.
        source: InvoiceMismatch,
    },
    /// A statement is charged by two invoices or two lines.
    #[error("statement {sequence} of item {} is charged twice", item.short())]
    ChargedTwice {
        /// The item.
        item: Digest,
        /// The statement's number.
        sequence: u64,
    },
    /// A service's key has named different holders in one epoch.
    #[error("service {} has two holder records of epoch {epoch}", service.key().short())]
    HolderEpoch {
        /// The service.
        service: ServiceId,
        /// The epoch.
        epoch: u64,
    },
}

impl Violation {
    /// Returns whether records that are still on their way could explain it.
    pub fn may_heal(&self) -> bool {
        match self {
            Self::HeldTwice { .. } | Self::OverAllocation { .. } => true,
            Self::UsageChain { .. } | Self::GrantWithoutAward { .. } => true,
            Self::Equivocation(_)
            | Self::Sum { .. }
            | Self::AwardedTwice { .. }
            | Self::Invoice { .. }
            | Self::ChargedTwice { .. }
            | Self::HolderEpoch { .. } => false,
        }
    }
}

/// Checks everything; an empty list is a clean ledger.
pub fn verify_all(ledger: &Ledger) -> Vec<Violation> {
    let mut out: Vec<Violation> = ledger
        .proofs()
        .map(|proof| Violation::Equivocation(Box::new(proof.one.doc)))
        .collect();
    let accounts = accounts(ledger);
    let unbalanced = accounts.unbalanced().into_iter();
    out.extend(unbalanced.map(|(phase, resource)| Violation::Sum { phase, resource }));
    out.extend(allocation(ledger, &accounts));
    out.extend(orders(ledger));
    out.extend(usage(ledger));
    out.extend(invoices(ledger));
    out.extend(holders(ledger));
    out
}

fn accounts(ledger: &Ledger) -> Accounts {
    let mut accounts = Accounts::default();
    for movement in books::movements(ledger) {
        accounts.apply(&movement);
    }
    accounts
}

fn allocation(ledger: &Ledger, accounts: &Accounts) -> Vec<Violation> {
    let mut most: BTreeMap<NodeId, BTreeMap<Resource, i128>> = BTreeMap::new();
    for entry in ledger.all_entries() {
        if let Body::Capacity(capacity) = &entry.signed.record.body {
            let node = most.entry(NodeId(entry.signed.record.author)).or_default();
            for (resource, total) in totals(capacity) {
                let old = node.entry(resource).or_default();
                *old = total.max(*old);
            }
        }
    }
    let mut out = Vec::new();
    for (node, totals) in most {
        for (resource, capacity) in totals {
            // What a node gave away is its negative balance.
            let balance = accounts.balance(Phase::Granted, resource, books::Account::Node(node));
            let granted = balance.saturating_neg();
            if capacity < granted {
                out.push(Violation::OverAllocation {
                    node,
                    resource,
                    granted,
                    capacity,
                });
            }
        }
    }
    out
}

fn totals(capacity: &Capacity) -> [(Resource, i128); 4] {
    [
        (Resource::Slot, i128::from(capacity.slots)),
        (Resource::MemoryMib, i128::from(capacity.memory_mib)),
        (Resource::CpuMillis, i128::from(capacity.cpu_millis)),
        (Resource::DiskMib, i128::from(capacity.disk_mib)),
    ]
}

/// What is known of one attempt.
#[derive(Default)]
struct Attempt {
    awards: Vec<(RecordId, NodeId)>,
    grants: Vec<(RecordId, NodeId, RecordId)>,
    ended: Vec<NodeId>,
    spoiled: Vec<RecordId>,
}

type Attempts = BTreeMap<RecordId, BTreeMap<u32, Attempt>>;

fn attempt(orders: &mut Attempts, order: RecordId, number: u32) -> &mut Attempt {
    orders.entry(order).or_default().entry(number).or_default()
}

/// Checks awards and grants of each order.
fn orders(ledger: &Ledger) -> Vec<Violation> {
    let customers: BTreeMap<RecordId, PublicKey> = books::orders(ledger)
        .into_iter()
        .map(|(id, signed)| (id, signed.record.author))
        .collect();
    let mut orders = Attempts::new();
    for entry in ledger.all_entries() {
        let record = &entry.signed.record;
        let node = NodeId(record.author);
        match &record.body {
            // Only the order's own writer can award it; what others say is nothing.
            Body::Award(award) if customers.get(&award.order) == Some(&record.author) => {
                let awards = &mut attempt(&mut orders, award.order, award.attempt).awards;
                // The same award may be told to two readers in two documents.
                if awards.iter().all(|(_, other)| *other != award.node) {
                    awards.push((entry.id, award.node));
                }
            }
            Body::Grant(grant) => {
                let attempt = attempt(&mut orders, grant.order, grant.attempt);
                if attempt.ended.contains(&node) {
                    attempt.spoiled.push(entry.id);
                }
                attempt.grants.push((entry.id, node, grant.award));
            }
            Body::Refusal(refusal) => attempt(&mut orders, refusal.order, refusal.attempt)
                .ended
                .push(node),
            Body::Release(release) => attempt(&mut orders, release.order, release.attempt)
                .ended
                .push(node),
            _ => {}
        }
    }
    orders
        .iter()
        .flat_map(|(order, attempts)| attempts_of(ledger, *order, attempts))
        .collect()
}

fn attempts_of(
    ledger: &Ledger,
    order: RecordId,
    attempts: &BTreeMap<u32, Attempt>,
) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut live = 0;
    for (number, attempt) in attempts {
        if 1 < attempt.awards.len() {
            out.push(Violation::AwardedTwice {
                order,
                attempt: *number,
            });
        }
        let spoiled = attempt.spoiled.iter().copied();
        out.extend(spoiled.map(|grant| Violation::GrantWithoutAward { grant }));
        let mut nodes = Vec::new();
        for (grant, node, award) in &attempt.grants {
            if !awarded(
                ledger.entry(award).map(|entry| &entry.signed),
                order,
                *number,
                *node,
            ) {
                out.push(Violation::GrantWithoutAward { grant: *grant });
            }
            if !attempt.ended.contains(node) && !nodes.contains(node) {
                nodes.push(*node);
            }
        }
        live += nodes.len();
    }
    if 1 < live {
        out.push(Violation::HeldTwice { order, count: live });
    }
    out
}

/// Returns whether a record is the award of this attempt to this node; unknown ones may be.
fn awarded(signed: Option<&SignedRecord>, order: RecordId, attempt: u32, node: NodeId) -> bool {
    match signed.map(|signed| &signed.record.body) {
        None => true,
        Some(Body::Award(award)) => {
            award.order == order && award.attempt == attempt && award.node == node
        }
        Some(_) => false,
    }
}

fn usage(ledger: &Ledger) -> Vec<Violation> {
    let mut items: BTreeMap<(PublicKey, Digest), Vec<&Usage>> = BTreeMap::new();
    for entry in ledger.all_entries() {
        if let Body::Usage(usage) = &entry.signed.record.body {
            items
                .entry((entry.signed.record.author, usage.item))
                .or_default()
                .push(usage);
        }
    }
    let mut out = Vec::new();
    for ((_, item), mut statements) in items {
        statements.sort_by_key(|usage| usage.sequence);
        let (mut after, mut until) = (0_u64, None);
        for usage in statements {
            let follows = after.checked_add(1) == Some(usage.sequence);
            if !follows || until.is_some_and(|until| usage.from < until) {
                out.push(Violation::UsageChain { item, after });
                break;
            }
            (after, until) = (usage.sequence, Some(usage.to));
        }
    }
    out
}

fn invoices(ledger: &Ledger) -> Vec<Violation> {
    let orders = books::orders(ledger);
    let mut out = Vec::new();
    let mut charged: BTreeMap<(OrgId, Digest), Vec<(u64, u64)>> = BTreeMap::new();
    for (_, (_, invoice)) in books::newest_invoices(ledger) {
        match recompute(ledger, &orders, invoice) {
            // What is not here yet is pending.
            Ok(()) | Err(InvoiceMismatch::Missing { .. }) => {}
            Err(source) => {
                out.push(Violation::Invoice {
                    number: invoice.number.clone(),
                    source,
                });
            }
        }
        for line in &invoice.lines {
            let ranges = charged.entry((invoice.seller, line.item)).or_default();
            ranges.push((line.usage_from, line.usage_to));
        }
    }
    for ((_, item), mut ranges) in charged {
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(_, end), (start, _)] = pair
                && start <= end
            {
                out.push(Violation::ChargedTwice {
                    item,
                    sequence: *start,
                });
            }
        }
    }
    out
}

/// Computes an invoice again from the ledger's usage statements.
pub fn recompute(
    ledger: &Ledger,
    orders: &BTreeMap<RecordId, &SignedRecord>,
    invoice: &Invoice,
) -> Result<(), InvoiceMismatch> {
    let usages = books::usages(ledger, invoice.seller, invoice.buyer);
    let statements = usages.filter_map(|(id, usage)| {
        let order = orders
            .get(&usage.order)
            .and_then(|signed| books::order_body(signed))?;
        Some(Statement {
            id,
            usage,
            name: &order.name,
        })
    });
    invoice::verify(invoice, statements)
}

fn holders(ledger: &Ledger) -> Vec<Violation> {
    let mut seen: BTreeMap<(ServiceId, u64), &Holder> = BTreeMap::new();
    let mut out = Vec::new();
    for entry in ledger.all_entries() {
        let Body::Holder(signed) = &entry.signed.record.body else {
            continue;
        };
        let holder = &signed.holder;
        let old = seen.insert((holder.service, holder.epoch), holder);
        if old.is_some_and(|old| old.holders != holder.holders) {
            let (service, epoch) = (holder.service, holder.epoch);
            out.push(Violation::HolderEpoch { service, epoch });
        }
    }
    out
}

#[cfg(test)]
mod tests;
