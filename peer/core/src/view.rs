//! What the ledger says, ready to be asked: orders and what became of them, prices, capacity,
//! usage, invoices, agreements. Built record by record from admitted entries and never from
//! anything else, so that any replica with the same records has the same view.
//!
//! Invariant: absorbing records in any order that keeps each document's own order gives the same
//! view.

use std::collections::BTreeMap;

use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId, PublicKey, ServiceId};
use mesh_base::money::Price;
use mesh_base::name::Name;
use mesh_base::time::Wall;
use mesh_federation::attempt::ATTEMPTS_MAX;
use mesh_ledger::agreement::SignedAgreement;
use mesh_ledger::charter::Capacity;
use mesh_ledger::grant::{ItemState, Ready, RefusalReason};
use mesh_ledger::invoice::Invoice;
use mesh_ledger::order::{Ask, DesiredState, Order, SignedHolder};
use mesh_ledger::record::{Body, RecordId, SignedRecord};
use mesh_ledger::usage::Usage;

/// An order and everything that was said about it, by its writer and by the nodes it was sent to.
#[derive(Debug, Clone)]
pub struct OrderView {
    /// The order record's id; also the item's.
    pub id: RecordId,
    /// The node that ordered.
    pub customer: NodeId,
    /// Its organisation.
    pub org: OrgId,
    /// When.
    pub wall: Wall,
    /// What.
    pub order: Order,
    /// The record as signed; asks embed it.
    pub signed: SignedRecord,
    /// Attempts by number.
    pub attempts: BTreeMap<u32, AttemptView>,
    /// The newest wish of the customer, with its revision.
    pub desire: Option<(u32, DesiredState)>,
}

/// One attempt of an order.
#[derive(Debug, Clone)]
pub struct AttemptView {
    /// The ask's record.
    pub ask: RecordId,
    /// The node asked.
    pub node: NodeId,
    /// At which price.
    pub price: Price,
    /// Under which agreement.
    pub agreement: Option<RecordId>,
    /// When.
    pub wall: Wall,
    /// The node reserved capacity.
    pub reserved: bool,
    /// The node refused.
    pub refused: Option<RefusalReason>,
    /// The customer awarded it.
    pub award: Option<RecordId>,
    /// The node confirmed, when.
    pub granted: Option<Wall>,
    /// What the node last said about the instance.
    pub state: Option<ItemState>,
    /// The node's newest word that promises hold, with the sealed connection, when, and its record.
    pub ready: Option<(Ready, Wall, RecordId)>,
    /// The node let it go.
    pub released: bool,
}

impl OrderView {
    /// Returns the highest attempt that was awarded.
    pub fn awarded(&self) -> Option<(u32, &AttemptView)> {
        let found = self
            .attempts
            .iter()
            .rev()
            .find(|(_, attempt)| attempt.award.is_some());
        found.map(|(number, attempt)| (*number, attempt))
    }

    /// Returns the attempt that a node confirmed and has not let go.
    pub fn granted(&self) -> Option<(u32, &AttemptView)> {
        let found = self
            .attempts
            .iter()
            .rev()
            .find(|(_, attempt)| attempt.granted.is_some() && !attempt.released);
        found.map(|(number, attempt)| (*number, attempt))
    }

    /// Returns the newest attempt.
    pub fn last(&self) -> Option<(u32, &AttemptView)> {
        self.attempts
            .iter()
            .next_back()
            .map(|(number, attempt)| (*number, attempt))
    }

    /// Returns what the customer wants.
    pub fn desired(&self) -> DesiredState {
        self.desire
            .as_ref()
            .map_or(DesiredState::Running, |(_, state)| *state)
    }
}

/// What a node says that it has.
#[derive(Debug, Clone)]
pub struct CapacityView {
    /// Its organisation.
    pub org: OrgId,
    /// The newest record.
    pub capacity: Capacity,
}

/// Everything that the ledger says.
#[derive(Debug, Default)]
pub struct View {
    /// Orders by id.
    pub orders: BTreeMap<RecordId, OrderView>,
    /// Records about orders that have not arrived yet, by order; taken up when it does.
    waiting: BTreeMap<RecordId, Vec<(RecordId, SignedRecord)>>,
    /// How many of them each author has.
    waiting_by: BTreeMap<PublicKey, usize>,
    /// Holder records by service, the newest epoch of each.
    pub holders: BTreeMap<ServiceId, SignedHolder>,
    /// Whom an organisation told where a service is, as (teller, told, service), with the newest
    /// epoch.
    pub told: BTreeMap<(OrgId, OrgId, ServiceId), u64>,
    /// Newest capacity by node.
    pub capacities: BTreeMap<NodeId, CapacityView>,
    /// Newest price by seller and recipe.
    pub offers: BTreeMap<(OrgId, String), (u32, Price)>,
    /// Usage statements by order and sequence.
    pub usages: BTreeMap<RecordId, BTreeMap<u64, (RecordId, NodeId, Usage)>>,
    /// Newest revision of each invoice, by seller and number.
    pub invoices: BTreeMap<(OrgId, String), (RecordId, Wall, Invoice)>,
    /// Agreements by record, with the organisation that wrote them down.
    pub agreements: BTreeMap<RecordId, (OrgId, Wall, SignedAgreement)>,
}

/// Most records of one author kept for orders that have not arrived: four attempts' worth for a
/// hundred orders; only members of trusted organisations are authors.
const WAITING_PER_AUTHOR_MAX: usize = 2048;

impl View {
    /// Takes in one admitted record. Returns the order it is about, if it is about one.
    pub fn absorb(&mut self, id: RecordId, signed: &SignedRecord) -> Option<RecordId> {
        let record = &signed.record;
        match &record.body {
            Body::Order(order) => Some(self.absorb_order(id, signed, order)),
            Body::Ask(ask) => Some(self.absorb_ask(id, signed, ask)),
            Body::Capacity(capacity) => {
                let view = CapacityView {
                    org: record.doc.org,
                    capacity: capacity.clone(),
                };
                self.capacities.insert(NodeId(record.author), view);
                None
            }
            Body::Offer(offer) => {
                let key = (record.doc.org, offer.recipe.clone());
                let newest = self
                    .offers
                    .get(&key)
                    .is_none_or(|(old, _)| *old <= offer.revision);
                if newest {
                    self.offers.insert(key, (offer.revision, offer.price));
                }
                None
            }
            Body::Usage(usage) => {
                self.about(usage.order, id, signed);
                Some(usage.order)
            }
            // Who writes for one seller bills for no other, and bills whom it tells.
            Body::Invoice(invoice)
                if invoice.seller != record.doc.org
                    || record.doc.counterparty != Some(invoice.buyer) =>
            {
                None
            }
            Body::Invoice(invoice) => {
                let key = (record.doc.org, invoice.number.clone());
                let old = self.invoices.get(&key).map(|(_, _, old)| old.revision);
                if old.is_none_or(|old| old <= invoice.revision) {
                    self.invoices
                        .insert(key, (id, record.wall, invoice.clone()));
                }
                None
            }
            Body::Agreement(agreement) => {
                let entry = (record.doc.org, record.wall, agreement.clone());
                self.agreements.insert(id, entry);
                None
            }
            Body::Holder(holder) => {
                let service = holder.holder.service;
                if let Some(reader) = record.doc.counterparty {
                    let told = self.told.entry((record.doc.org, reader, service));
                    let epoch = told.or_default();
                    *epoch = holder.holder.epoch.max(*epoch);
                }
                let old = self.holders.get(&service).map(|old| old.holder.epoch);
                if old.is_none_or(|old| old <= holder.holder.epoch) {
                    self.holders.insert(service, holder.clone());
                }
                None
            }
            body => {
                let order = body.order()?;
                self.about(order, id, signed);
                Some(order)
            }
        }
    }

    fn absorb_order(&mut self, id: RecordId, signed: &SignedRecord, order: &Order) -> RecordId {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.orders.entry(id) {
            vacant.insert(OrderView {
                id,
                customer: NodeId(signed.record.author),
                org: signed.record.doc.org,
                wall: signed.record.wall,
                order: order.clone(),
                signed: signed.clone(),
                attempts: BTreeMap::new(),
                desire: None,
            });
            self.take_up(id);
        }
        id
    }

    /// An ask carries its order, so that a provider learns of it without the customer's own
    /// documents.
    fn absorb_ask(&mut self, id: RecordId, signed: &SignedRecord, ask: &Ask) -> RecordId {
        let order_id = ask.order.id();
        let by_its_writer = ask.order.record.author == signed.record.author
            && ask.order.record.doc.org == signed.record.doc.org;
        if let (Some(order), true) = (ask.order(), by_its_writer) {
            self.absorb_order(order_id, &ask.order, order);
            self.about(order_id, id, signed);
        }
        order_id
    }

    /// Applies a record about an order, or keeps it until what it rests on is known.
    fn about(&mut self, order: RecordId, id: RecordId, signed: &SignedRecord) {
        let verdict = self
            .orders
            .get_mut(&order)
            .map_or(Verdict::Later, |view| apply(view, id, signed));
        match (verdict, &signed.record.body) {
            (Verdict::Applied, Body::Usage(usage)) => {
                let entry = (id, NodeId(signed.record.author), usage.clone());
                let statements = self.usages.entry(order).or_default();
                statements.entry(usage.sequence).or_insert(entry);
            }
            // Awards wait for their asks, grants for awards, and what follows for grants.
            (Verdict::Applied, Body::Ask(_) | Body::Award(_) | Body::Grant(_)) => {
                self.take_up(order);
            }
            (Verdict::Applied, _) | (Verdict::Void, _) => {}
            (Verdict::Later, _) => self.keep(order, id, signed),
        }
    }

    /// Keeps an early record; one author's cannot crowd out the others'.
    fn keep(&mut self, order: RecordId, id: RecordId, signed: &SignedRecord) {
        let author = signed.record.author;
        let of_author = self.waiting_by.entry(author).or_default();
        if WAITING_PER_AUTHOR_MAX <= *of_author {
            return;
        }
        *of_author += 1;
        let waiting = self.waiting.entry(order).or_default();
        waiting.push((id, signed.clone()));
    }

    fn take_up(&mut self, order: RecordId) {
        for (id, signed) in self.waiting.remove(&order).unwrap_or_default() {
            if let Some(count) = self.waiting_by.get_mut(&signed.record.author) {
                *count = count.saturating_sub(1);
            }
            self.about(order, id, &signed);
        }
    }

    /// Returns the newest order of an organisation under a name that is not gone. If two nodes have
    /// chosen one name, each means its own order by it.
    pub fn order_named(&self, org: &OrgId, name: &Name, by: &NodeId) -> Option<&OrderView> {
        let mut found: Vec<&OrderView> = self
            .orders
            .values()
            .filter(|view| view.org == *org && view.order.name == *name)
            .collect();
        found.sort_by_key(|view| {
            (
                view.desired() != DesiredState::Destroyed,
                view.customer == *by,
                view.wall,
                view.id,
            )
        });
        found.pop()
    }

    /// Returns the order behind a service key.
    pub fn order_of_service(&self, service: &ServiceId) -> Option<&OrderView> {
        self.orders
            .values()
            .find(|view| view.order.service == *service)
    }

    /// Returns the sum of reserved milliseconds of an order, over its statements.
    pub fn reserved_ms(&self, order: &RecordId) -> u64 {
        let statements = self
            .usages
            .get(order)
            .into_iter()
            .flat_map(BTreeMap::values);
        statements
            .map(|(_, _, usage)| usage.reserved_ms)
            .fold(0, u64::saturating_add)
    }
}

/// Returns the id of an item as the drivers know it.
pub fn item_of(order: &RecordId) -> Digest {
    order.0
}

/// What became of a record about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It counts.
    Applied,
    /// It speaks of something that is not known yet.
    Later,
    /// Its author may not say so: it never counts.
    Void,
}

/// Applies a record to its order.
fn apply(view: &mut OrderView, id: RecordId, signed: &SignedRecord) -> Verdict {
    let author = NodeId(signed.record.author);
    let (wall, body) = (signed.record.wall, &signed.record.body);
    match body {
        Body::Ask(_) | Body::Award(_) | Body::Desire(_) => {
            // Only the order's own writer may speak for it.
            if view.customer == author {
                apply_customer(view, body, id, wall)
            } else {
                Verdict::Void
            }
        }
        // What the customer's organisation cannot read is not said to it.
        _ if signed.record.doc.may_read(&view.org) => apply_provider(view, body, author, id, wall),
        _ => Verdict::Void,
    }
}

fn apply_customer(view: &mut OrderView, body: &Body, id: RecordId, wall: Wall) -> Verdict {
    match body {
        // No honest trip has more; each is looked through at every record about the order.
        Body::Ask(ask) if !(1..=ATTEMPTS_MAX).contains(&ask.attempt) => return Verdict::Void,
        Body::Ask(ask) if view.attempts.contains_key(&ask.attempt) => return Verdict::Void,
        Body::Ask(ask) => {
            view.attempts
                .entry(ask.attempt)
                .or_insert_with(|| AttemptView {
                    ask: id,
                    node: ask.node,
                    price: ask.price,
                    agreement: ask.agreement,
                    wall,
                    reserved: false,
                    refused: None,
                    award: None,
                    granted: None,
                    state: None,
                    ready: None,
                    released: false,
                });
        }
        Body::Award(award) => {
            let Some(attempt) = view.attempts.get_mut(&award.attempt) else {
                return Verdict::Later;
            };
            if attempt.node != award.node || attempt.award.is_some() {
                return Verdict::Void;
            }
            attempt.award = Some(id);
        }
        Body::Desire(desire) => {
            let newer = view
                .desire
                .as_ref()
                .is_none_or(|(old, _)| *old < desire.revision);
            if newer {
                view.desire = Some((desire.revision, desire.state));
            }
        }
        _ => {}
    }
    Verdict::Applied
}

fn apply_provider(
    view: &mut OrderView,
    body: &Body,
    author: NodeId,
    id: RecordId,
    wall: Wall,
) -> Verdict {
    let number = match body {
        Body::Reservation(reservation) => reservation.attempt,
        Body::Refusal(refusal) => refusal.attempt,
        Body::Grant(grant) => grant.attempt,
        Body::Ready(ready) => ready.attempt,
        Body::Release(release) => release.attempt,
        Body::Progress(_) | Body::Usage(_) => {
            let mut attempts = view.attempts.iter().rev();
            let held = attempts.find(|(_, a)| a.node == author && a.granted.is_some());
            let Some((number, _)) = held else {
                return Verdict::Later;
            };
            *number
        }
        _ => return Verdict::Void,
    };
    let Some(attempt) = view.attempts.get_mut(&number) else {
        return Verdict::Later;
    };
    // Only the node that was asked may speak about its attempt.
    if attempt.node != author {
        return Verdict::Void;
    }
    match (body, attempt.award, attempt.granted) {
        // A grant answers this very award, and the rest follows a grant: nobody makes himself a
        // provider.
        (Body::Grant(_), None, _) | (Body::Ready(_) | Body::Release(_), _, None) => {
            return Verdict::Later;
        }
        (Body::Grant(grant), Some(award), old) if grant.award != award || old.is_some() => {
            return Verdict::Void;
        }
        _ => {}
    }
    match body {
        Body::Reservation(_) => attempt.reserved = true,
        Body::Refusal(refusal) => attempt.refused = Some(refusal.reason.clone()),
        Body::Grant(_) => attempt.granted = Some(wall),
        Body::Progress(progress) => attempt.state = Some(progress.state.clone()),
        Body::Ready(ready) => {
            attempt.state = Some(ItemState::Running);
            attempt.ready = Some((ready.clone(), wall, id));
        }
        Body::Release(_) => attempt.released = true,
        _ => {}
    }
    Verdict::Applied
}
