//! Usage and invoices: what a provider states, what its leader bills, what the customer recomputes.
//!
//! A statement is signed by the node at the end of each metering period, when an instance is
//! destroyed and on demand. The leader of the selling organisation writes a new revision of the
//! month's draft when new statements have come; customers hold the same statements and prices and
//! verify every line.

use std::collections::BTreeSet;

use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::Currency;
use mesh_base::time::Moment;
use mesh_compute::step::Meters;
use mesh_federation::agreement::{Deal, Exposure, slice};
use mesh_ledger::books::usages;
use mesh_ledger::document::{DocId, DocKind};
use mesh_ledger::grant::RefusalReason;
use mesh_ledger::invoice::{
    DraftError, Heading, Invoice, InvoiceMismatch, Period, Statement, draft, verify,
};
use mesh_ledger::record::{Body, RecordId};
use mesh_ledger::usage::{Usage, Why};

use crate::entry::Entry;
use crate::limits::{DRAFT_INTERVAL, STATE_INTERVAL};
use crate::message::Message;
use crate::node::Node;
use crate::refusal::Reason;
use crate::view::item_of;

impl Node {
    /// Returns the conditions on which this node's organisation sells to another.
    pub(crate) fn deal_for(&self, buyer: OrgId, recipe: &str) -> Result<Deal, RefusalReason> {
        let seller = self.body.org;
        self.admission
            .agreements
            .deal(&seller, &buyer, recipe, None, self.now.wall)
            .map_err(|_| RefusalReason::NoAgreement)
    }

    /// Refuses what would exceed this node's slice of the buyer's credit.
    pub(crate) fn check_credit(&self, buyer: OrgId, deal: &Deal) -> Result<(), RefusalReason> {
        let Some(credit) = deal.credit else {
            return Ok(());
        };
        let own = self.body.org;
        let mut nodes: Vec<NodeId> = self
            .roster
            .members_of(&own)
            .map(|(node, _)| *node)
            .collect();
        nodes.push(self.id);
        let slice = slice(credit, &nodes, &self.id);
        let exposure = self.exposure(&buyer, credit.currency);
        let admits = exposure.and_then(|exposure| exposure.admits(deal.price, slice).ok());
        admits.ok_or(RefusalReason::CreditExceeded)
    }

    /// What a buyer owes this node; none if the currencies do not agree or the sum does not fit.
    fn exposure(&self, buyer: &OrgId, currency: Currency) -> Option<Exposure> {
        let mut exposure = Exposure::none(currency);
        for view in self.view.orders.values().filter(|view| view.org == *buyer) {
            let held = self.provider.instances.contains_key(&view.id);
            if let (true, Some((_, attempt))) = (held, view.granted()) {
                exposure = exposure.ordered(attempt.price).ok()?;
            } else if let Some(reserved) = self.provider.reserved.get(&view.id) {
                exposure = exposure.ordered(reserved.price).ok()?;
            }
            let statements = self
                .view
                .usages
                .get(&view.id)
                .into_iter()
                .flat_map(|s| s.values());
            for (_, node, usage) in statements {
                if *node == self.id {
                    let (cost, _) = usage.price.charge(usage.reserved_ms, 0).ok()?;
                    exposure = exposure.used(cost).ok()?;
                }
            }
        }
        Some(exposure)
    }

    /// New readings of an instance's meters.
    pub(crate) fn metered(&mut self, order: RecordId, meters: Meters) {
        let now = self.now;
        if let Some(meter) = self.provider.meters.get_mut(&order) {
            meter.handle_sample(meters, now);
        }
        if self.provider.state_now.remove(&order) {
            self.state_usage(order, Why::OnDemand);
        }
    }

    /// States the usage of every instance whose period is over.
    pub(crate) fn due_statements(&mut self) {
        let now = self.now.mono;
        let due: Vec<RecordId> = self
            .provider
            .statements
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(order, _)| *order)
            .collect();
        for order in due {
            self.provider
                .statements
                .insert(order, now + self.config.metering_period);
            self.state_usage(order, Why::Hour);
        }
    }

    /// Writes a usage statement up to now; returns its id.
    pub(crate) fn state_usage(&mut self, order: RecordId, why: Why) -> Option<RecordId> {
        let view = self.view.orders.get(&order)?;
        let (_, attempt) = view.granted()?;
        let (price, agreement, org) = (attempt.price, attempt.agreement, view.org);
        let now = self.now;
        // The meter itself goes on only once the statement stands, else the numbers would have a
        // gap.
        let mut meter = self.provider.meters.get(&order)?.clone();
        let span = meter.close(now);
        let usage = Usage {
            order,
            item: item_of(&order),
            sequence: span.sequence,
            from: span.from,
            to: span.until,
            running_ms: span.used.running_ms,
            reserved_ms: span.used.reserved_ms,
            cpu_ms: span.used.cpu_ms,
            memory_mib_s: span.used.memory_mib_s,
            disk_mib_s: span.used.disk_mib_s,
            received_bytes: span.used.received_bytes,
            sent_bytes: span.used.sent_bytes,
            price,
            agreement,
            why,
        };
        // On disk together: a statement that the meter forgot would be stated twice.
        let entry = vec![Entry::Meter {
            order: item_of(&order),
            meter: meter.clone(),
        }];
        let bodies = vec![Body::Usage(usage)];
        let written = self.write_with(DocKind::Usage, Some(org), bodies, entry);
        match written {
            Ok(ids) => {
                self.provider.meters.insert(order, meter);
                self.provider.stated.insert(order, now.mono);
                ids.first().copied()
            }
            Err(error) => {
                tracing::error!(%error, "a usage statement was refused by our own ledger");
                None
            }
        }
    }

    /// A customer wants a statement now.
    pub(crate) fn remote_usage_now(&mut self, from: NodeId, org: OrgId, order: RecordId) {
        let entitled = self
            .view
            .orders
            .get(&order)
            .is_some_and(|view| view.org == org || org == self.body.org);
        if !entitled {
            let what = "usage statement".to_owned();
            let reason = "the order is not yours".to_owned();
            self.out.send(from, Message::Refused { what, reason });
            return;
        }
        self.usage_now(order);
    }

    /// Reads the meters, then states the usage.
    pub(crate) fn usage_now(&mut self, order: RecordId) {
        let now = self.now.mono;
        let stated = self.provider.stated.get(&order).copied();
        let held = self.provider.instances.contains_key(&order);
        let again = stated.map(|at| at + STATE_INTERVAL);
        if let Some(again) = again.filter(|at| now < *at && held) {
            // Each statement is kept for ever: who asks without end is answered once in a while.
            let due = self.provider.statements.entry(order).or_insert(again);
            *due = again.min(*due);
            return;
        }
        // An earlier reading may never have come: it is asked for again.
        let Some(instance) = self.provider.instances.get_mut(&order) else {
            return;
        };
        if instance.meter_now() {
            self.provider.state_now.insert(order);
        } else {
            // Nothing runs and nothing will be read: what is known is stated.
            self.state_usage(order, Why::OnDemand);
        }
    }

    /// A statement of `period` entered the ledger in `doc`: if we lead its seller, its buyer's
    /// draft grows.
    pub(crate) fn usage_stated(&mut self, doc: &DocId, period: Period) {
        let own = self.body.org;
        let buyer = doc.counterparty.filter(|buyer| *buyer != own);
        let Some(buyer) = buyer.filter(|_| doc.org == own && self.leads()) else {
            return;
        };
        self.admission.drafts.insert((buyer, period));
        self.draft_invoices();
    }

    /// Statements may come before the order that they are about: their months are drafted anew.
    pub(crate) fn usage_stated_before(&mut self, order: RecordId) {
        let own = self.body.org;
        let statements = self.view.usages.get(&order);
        let Some(view) = self.view.orders.get(&order).filter(|view| view.org != own) else {
            return;
        };
        if statements.is_none() || !self.leads() {
            return;
        }
        let statements = statements.into_iter().flat_map(|all| all.values());
        let ours = statements.filter(|(_, node, _)| self.org_of(node) == Some(own));
        let months: BTreeSet<Period> = ours.map(|(_, _, usage)| usage.period()).collect();
        let buyer = view.org;
        let drafts = months.into_iter().map(|month| (buyer, month));
        self.admission.drafts.extend(drafts);
    }

    /// Looks again at every month with statements: the last draft may not have been written in
    /// time.
    pub(crate) fn recover_drafts(&mut self) {
        let own = self.body.org;
        if !self.leads() {
            return;
        }
        for entry in self.ledger.all_entries() {
            let doc = entry.signed.record.doc;
            if let (Body::Usage(usage), Some(buyer)) = (&entry.signed.record.body, doc.counterparty)
                && doc.org == own
                && buyer != own
            {
                self.admission.drafts.insert((buyer, usage.period()));
            }
        }
    }

    /// Writes the drafts that are due, at most one a buyer and interval.
    pub(crate) fn draft_invoices(&mut self) {
        let now = self.now.mono;
        let due: BTreeSet<(OrgId, Period)> = self
            .admission
            .drafts
            .iter()
            .filter(|(buyer, _)| self.draft_due(buyer) <= now)
            .copied()
            .collect();
        for (buyer, period) in due {
            self.admission.drafts.remove(&(buyer, period));
            self.admission.drafted.insert(buyer, now);
            self.draft_invoice(buyer, period);
        }
    }

    fn draft_due(&self, buyer: &OrgId) -> Moment {
        let last = self.admission.drafted.get(buyer);
        last.map_or(Moment(0), |last| {
            *last + DRAFT_INTERVAL.max(self.config.metering_period / 4)
        })
    }

    /// Returns when the next draft is due.
    pub(crate) fn next_draft(&self) -> Option<Moment> {
        self.admission
            .drafts
            .iter()
            .map(|(buyer, _)| self.draft_due(buyer))
            .min()
    }

    fn draft_invoice(&mut self, buyer: OrgId, period: Period) {
        let seller = self.body.org;
        let number = self.invoice_number(&buyer, period);
        let old = self.view.invoices.get(&(seller, number.clone()));
        let revision = old.map_or(1, |(_, _, invoice)| invoice.revision.saturating_add(1));
        let same = old.map(|(_, _, invoice)| invoice.lines.clone());
        match self.compute_draft(&buyer, period, &number, revision) {
            Ok(invoice) if !invoice.lines.is_empty() && same.as_ref() != Some(&invoice.lines) => {
                self.must_write(DocKind::Books, Some(buyer), vec![Body::Invoice(invoice)]);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "an invoice draft could not be computed");
                self.note_refusal(Reason::OwnRecord);
            }
        }
    }

    /// One draft a buyer and month: `library-2026-11-bakery-1`, the term's own series.
    fn invoice_number(&self, of: &OrgId, period: Period) -> String {
        let seller = &self.body.org_name;
        let buyer = self.org_name(of);
        let number = format!("{seller}-{period}-{buyer}-{}", self.term());
        let namesake = self.view.invoices.get(&(self.body.org, number.clone()));
        match namesake.filter(|(_, _, invoice)| invoice.buyer != *of) {
            // Two buyers have one name: whoever was billed first keeps the short number.
            Some(_) => format!("{number}-{}", of.key().short()),
            None => number,
        }
    }

    fn compute_draft(
        &self,
        buyer: &OrgId,
        period: Period,
        number: &str,
        revision: u32,
    ) -> Result<Invoice, DraftError> {
        let seller = self.body.org;
        let statements: Vec<Statement<'_>> = self.statements(&seller, buyer);
        let first = statements
            .iter()
            .find(|statement| statement.usage.period() == period)
            .map(|statement| statement.usage.price.per_month.currency);
        let heading = Heading {
            number: number.to_owned(),
            seller,
            buyer: *buyer,
            period,
            revision,
            currency: first.unwrap_or(Currency::EUR),
        };
        draft(heading, statements)
    }

    /// Recomputes an invoice; returns how many statements it rests on, or in what it differs.
    pub(crate) fn recompute(&self, invoice: &Invoice) -> Result<u64, InvoiceMismatch> {
        verify(invoice, self.statements(&invoice.seller, &invoice.buyer))?;
        Ok(invoice
            .lines
            .iter()
            .map(|line| u64::from(line.usage_count))
            .sum())
    }

    /// Returns the usage statements of a seller's nodes for a buyer's orders that are known here.
    fn statements(&self, seller: &OrgId, buyer: &OrgId) -> Vec<Statement<'_>> {
        usages(&self.ledger, *seller, *buyer)
            .filter_map(|(id, usage)| {
                let name = &self.view.orders.get(&usage.order)?.order.name;
                Some(Statement { id, usage, name })
            })
            .collect()
    }
}
