//! Movements and accounts: what the records mean in quantities that are never made nor lost.
//!
//! | record | quantity | from | to | phase |
//! |---|---|---|---|---|
//! | order | slot, memory, cpu, disk | the customer's wish | the item | ordered |
//! | grant | slot, memory, cpu, disk | node | item | granted |
//! | release | the same | item | node | granted |
//! | usage | times and bytes | node | the customer's consumption | delivered |
//! | invoice, newest revision | money | the seller's income | its claim on the buyer | invoiced |
//!
//! Each movement takes from one account what it gives to another, so the sum over all accounts of
//! each resource is zero. Corrections are movements back, never edits.

use std::collections::{BTreeMap, BTreeSet};

use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::{Currency, MONTH_MS, Money, MoneyError};
use mesh_base::time::Wall;

use crate::history::Entry;
use crate::invoice::Invoice;
use crate::ledger::Ledger;
use crate::order::Order;
use crate::record::{Body, RecordId, SignedRecord};
use crate::usage::Usage;

/// What is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Places for instances.
    Slot,
    /// Reserved memory, in MiB.
    MemoryMib,
    /// Reserved processor time, in thousandths of a core.
    CpuMillis,
    /// Reserved disk, in MiB.
    DiskMib,
    /// Time that capacity was reserved.
    ReservedMs,
    /// Time that processes ran.
    RunningMs,
    /// Processor time used.
    CpuMs,
    /// Memory over time.
    MemoryMibS,
    /// Disk over time.
    DiskMibS,
    /// Bytes to the item.
    ReceivedBytes,
    /// Bytes from the item.
    SentBytes,
    /// Money, in micro-units.
    Money(Currency),
}

/// Who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// What an organisation wants but nobody has granted.
    Wish(OrgId),
    /// A machine.
    Node(NodeId),
    /// An instance.
    Item(Digest),
    /// What an organisation has consumed.
    Consumption(OrgId),
    /// What an organisation has earned.
    Income(OrgId),
    /// What an organisation claims from another.
    Claim {
        /// Who is to be paid.
        seller: OrgId,
        /// Who is to pay.
        buyer: OrgId,
    },
}

/// How far a movement has become real; phases are never added up with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Wanted.
    Ordered,
    /// Capacity set aside.
    Granted,
    /// Used.
    Delivered,
    /// Billed.
    Invoiced,
}

/// A quantity of a resource from one account to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// What.
    pub resource: Resource,
    /// How much.
    pub quantity: i128,
    /// From whom.
    pub source: Account,
    /// To whom.
    pub destination: Account,
    /// For which instance.
    pub item: Option<Digest>,
    /// Over which time.
    pub span: (Wall, Wall),
    /// How real.
    pub phase: Phase,
    /// The record from which it follows.
    pub cause: RecordId,
}

/// Balances by phase, resource and account.
///
/// Invariant: for each phase and resource the sum over all accounts is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    balances: BTreeMap<(Phase, Resource, Account), i128>,
}

impl Accounts {
    /// Applies one movement.
    pub fn apply(&mut self, movement: &Movement) {
        let key = (movement.phase, movement.resource);
        let source = self
            .balances
            .entry((key.0, key.1, movement.source))
            .or_default();
        *source = source.saturating_sub(movement.quantity);
        let destination = self
            .balances
            .entry((key.0, key.1, movement.destination))
            .or_default();
        *destination = destination.saturating_add(movement.quantity);
    }

    /// Returns an account's balance.
    pub fn balance(&self, phase: Phase, resource: Resource, account: Account) -> i128 {
        self.balances
            .get(&(phase, resource, account))
            .copied()
            .unwrap_or(0)
    }

    /// Returns all balances.
    pub fn balances(&self) -> impl Iterator<Item = (&(Phase, Resource, Account), i128)> {
        self.balances.iter().map(|(key, balance)| (key, *balance))
    }

    /// Returns the resources whose sum is not zero: none, unless this code is wrong.
    pub fn unbalanced(&self) -> Vec<(Phase, Resource)> {
        let mut sums: BTreeMap<(Phase, Resource), i128> = BTreeMap::new();
        for ((phase, resource, _), balance) in &self.balances {
            let sum = sums.entry((*phase, *resource)).or_default();
            *sum = sum.saturating_add(*balance);
        }
        sums.into_iter()
            .filter(|(_, sum)| *sum != 0)
            .map(|(key, _)| key)
            .collect()
    }
}

/// Orders by name, whole or inside asks; so that a provider knows the sizes too.
pub fn orders(ledger: &Ledger) -> BTreeMap<RecordId, &SignedRecord> {
    let mut orders = BTreeMap::new();
    for entry in ledger.all_entries() {
        match &entry.signed.record.body {
            Body::Order(_) => orders.insert(entry.id, &entry.signed),
            Body::Ask(ask) => orders.insert(ask.order.id(), &*ask.order),
            _ => None,
        };
    }
    orders
}

/// Returns an order's body out of its record.
pub fn order_body(signed: &SignedRecord) -> Option<&Order> {
    match &signed.record.body {
        Body::Order(order) => Some(order),
        _ => None,
    }
}

/// Returns all movements that follow from a ledger, document by document.
pub fn movements(ledger: &Ledger) -> Vec<Movement> {
    let mut deriving = Deriving {
        orders: orders(ledger),
        ..Deriving::default()
    };
    let mut movements = Vec::new();
    let newest = newest_invoices(ledger);
    for (id, order) in &deriving.orders {
        movements.extend(ordered(*id, order));
    }
    for entry in ledger.all_entries() {
        deriving.derive(entry, &mut movements);
    }
    for (id, (wall, invoice)) in newest {
        movements.push(Movement {
            resource: Resource::Money(invoice.total.currency),
            quantity: i128::from(invoice.total.micros),
            source: Account::Income(invoice.seller),
            destination: Account::Claim {
                seller: invoice.seller,
                buyer: invoice.buyer,
            },
            item: None,
            span: (wall, wall),
            phase: Phase::Invoiced,
            cause: id,
        });
    }
    movements
}

/// Returns the newest revision of each invoice number of each seller, by record.
pub fn newest_invoices(ledger: &Ledger) -> BTreeMap<RecordId, (Wall, &Invoice)> {
    let mut newest: BTreeMap<(OrgId, &str), (RecordId, Wall, &Invoice)> = BTreeMap::new();
    for entry in ledger.all_entries() {
        let Body::Invoice(invoice) = &entry.signed.record.body else {
            continue;
        };
        let key = (entry.signed.record.doc.org, invoice.number.as_str());
        let newer = newest
            .get(&key)
            .is_none_or(|(_, _, old)| old.revision <= invoice.revision);
        if newer {
            newest.insert(key, (entry.id, entry.signed.record.wall, invoice));
        }
    }
    newest
        .into_values()
        .map(|(id, wall, invoice)| (id, (wall, invoice)))
        .collect()
}

#[derive(Default)]
struct Deriving<'a> {
    orders: BTreeMap<RecordId, &'a SignedRecord>,
    /// Granted and not released; a second grant or release of the same attempt moves nothing.
    held: BTreeSet<(NodeId, RecordId, u32)>,
}

impl Deriving<'_> {
    fn derive(&mut self, entry: &Entry, out: &mut Vec<Movement>) {
        let record = &entry.signed.record;
        let node = NodeId(record.author);
        match &record.body {
            Body::Grant(grant) => {
                let begins = self.held.insert((node, grant.order, grant.attempt));
                if begins {
                    let (from, to) = (Account::Node(node), Account::Item(grant.order.0));
                    self.capacity(entry, grant.order, from, to, out);
                }
            }
            Body::Release(release) => {
                let ends = self.held.remove(&(node, release.order, release.attempt));
                if ends {
                    let (from, to) = (Account::Item(release.order.0), Account::Node(node));
                    self.capacity(entry, release.order, from, to, out);
                }
            }
            Body::Usage(usage) => {
                let customer = record.doc.counterparty.unwrap_or(record.doc.org);
                out.extend(delivered(entry.id, usage, node, customer));
            }
            _ => {}
        }
    }

    fn capacity(
        &self,
        entry: &Entry,
        order: RecordId,
        source: Account,
        destination: Account,
        out: &mut Vec<Movement>,
    ) {
        let Some(body) = self
            .orders
            .get(&order)
            .and_then(|signed| order_body(signed))
        else {
            return;
        };
        let wall = entry.signed.record.wall;
        out.extend(sizes(body).map(|(resource, quantity)| Movement {
            resource,
            quantity,
            source,
            destination,
            item: Some(order.0),
            span: (wall, wall),
            phase: Phase::Granted,
            cause: entry.id,
        }));
    }
}

fn sizes(order: &Order) -> impl Iterator<Item = (Resource, i128)> {
    [
        (Resource::Slot, 1),
        (Resource::MemoryMib, i128::from(order.memory_mib)),
        (Resource::CpuMillis, i128::from(order.cpu_millis)),
        (Resource::DiskMib, i128::from(order.disk_mib)),
    ]
    .into_iter()
}

fn ordered(id: RecordId, signed: &SignedRecord) -> Vec<Movement> {
    let record = &signed.record;
    let Some(order) = order_body(signed) else {
        return Vec::new();
    };
    let movement = |(resource, quantity)| Movement {
        resource,
        quantity,
        source: Account::Wish(record.doc.org),
        destination: Account::Item(id.0),
        item: Some(id.0),
        span: (record.wall, record.wall),
        phase: Phase::Ordered,
        cause: id,
    };
    sizes(order).map(movement).collect()
}

fn delivered(id: RecordId, usage: &Usage, node: NodeId, customer: OrgId) -> Vec<Movement> {
    let quantities = [
        (Resource::ReservedMs, usage.reserved_ms),
        (Resource::RunningMs, usage.running_ms),
        (Resource::CpuMs, usage.cpu_ms),
        (Resource::MemoryMibS, usage.memory_mib_s),
        (Resource::DiskMibS, usage.disk_mib_s),
        (Resource::ReceivedBytes, usage.received_bytes),
        (Resource::SentBytes, usage.sent_bytes),
    ];
    let movement = |(resource, quantity)| Movement {
        resource,
        quantity: i128::from(quantity),
        source: Account::Node(node),
        destination: Account::Consumption(customer),
        item: Some(usage.item),
        span: (usage.from, usage.to),
        phase: Phase::Delivered,
        cause: id,
    };
    quantities.into_iter().map(movement).collect()
}

/// How much a buyer owes a seller for what was used and not yet paid, exact until it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Micro-units × ms of a month, by currency.
    exact: BTreeMap<Currency, i128>,
}

impl Exposure {
    /// Adds a usage statement; each must be added once.
    pub fn add(&mut self, usage: &Usage) {
        let money = usage.price.per_month;
        let charge = i128::from(money.micros).saturating_mul(i128::from(usage.reserved_ms));
        let sum = self.exact.entry(money.currency).or_default();
        *sum = sum.saturating_add(charge);
    }

    /// Takes off what was paid.
    pub fn pay(&mut self, paid: Money) {
        let sum = self.exact.entry(paid.currency).or_default();
        *sum = sum.saturating_sub(i128::from(paid.micros).saturating_mul(MONTH_MS));
    }

    /// Returns what is owed, rounded up: a limit is never passed by rounding.
    pub fn owed(&self, currency: Currency) -> Result<Money, MoneyError> {
        let exact = self.exact.get(&currency).copied().unwrap_or(0);
        let floor = exact.div_euclid(MONTH_MS);
        let micros = if exact.rem_euclid(MONTH_MS) == 0 {
            floor
        } else {
            floor + 1
        };
        let micros = i64::try_from(micros).map_err(|_| MoneyError::Overflow)?;
        Ok(Money { micros, currency })
    }
}

/// Returns what `buyer` owes `seller` for all usage in the ledger.
pub fn exposure(ledger: &Ledger, seller: OrgId, buyer: OrgId) -> Exposure {
    let mut exposure = Exposure::default();
    for (_, usage) in usages(ledger, seller, buyer) {
        exposure.add(usage);
    }
    exposure
}

/// Returns the usage statements of a seller's nodes for a buyer.
pub fn usages(
    ledger: &Ledger,
    seller: OrgId,
    buyer: OrgId,
) -> impl Iterator<Item = (RecordId, &Usage)> {
    ledger
        .documents()
        .filter(move |document| {
            let doc = document.id();
            doc.org == seller && doc.counterparty == Some(buyer)
        })
        .flat_map(|document| document.entries())
        .filter_map(|entry| match &entry.signed.record.body {
            Body::Usage(usage) => Some((entry.id, usage)),
            _ => None,
        })
}
