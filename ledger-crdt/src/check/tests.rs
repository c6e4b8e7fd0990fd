//! A whole trade, then each invariant broken once by a writer that lies with valid signatures.

use mesh_base::time::Wall;

use super::*;
use crate::books::{Account, exposure, movements};
use crate::document::DocKind;
use crate::fixture::{START, capacity, key, node, order, org, price, usage};
use crate::grant::{Grant, Refusal, RefusalReason, Release};
use crate::invoice::{Heading, InvoiceMismatch, Period, draft};
use crate::order::{Ask, Award, SignedHolder};

/// Organisation 2 (node 21) orders from organisation 1 (nodes 11 and 12).
struct Trade {
    ledger: Ledger,
    order: RecordId,
    award: RecordId,
}

impl Trade {
    fn say(&mut self, kind: DocKind, writer: u8, body: Body) -> RecordId {
        let (own, other) = if writer == 21 { (2, 1) } else { (1, 2) };
        let writer_key = key(writer);
        let doc = match kind.is_public() {
            true => DocId::public(kind, org(own), writer_key.public(), 0),
            false => DocId::between(kind, org(own), writer_key.public(), org(other), 0),
        };
        self.ledger
            .append(doc, vec![body], &writer_key, 1, START)
            .unwrap()
            .ids[0]
    }

    /// An order, awarded to node 11 at the first attempt.
    fn awarded() -> Self {
        let ledger = Ledger::new();
        let none = RecordId(Digest::default());
        let mut trade = Self {
            ledger,
            order: none,
            award: none,
        };
        trade.say(DocKind::Capacity, 11, Body::Capacity(capacity(1)));
        trade.say(DocKind::Capacity, 12, Body::Capacity(capacity(1)));
        trade.order = trade.place("crm");
        trade.award = trade.award(1, 11);
        trade
    }

    fn place(&mut self, name: &str) -> RecordId {
        let own = DocId::between(DocKind::Outbox, org(2), key(21).public(), org(2), 0);
        let bodies = vec![Body::Order(order(name))];
        let id = self
            .ledger
            .append(own, bodies, &key(21), 1, START)
            .unwrap()
            .ids[0];
        let order = Box::new(self.ledger.entry(&id).unwrap().signed.clone());
        let price = price("0.12EUR/month");
        let ask = Ask {
            order,
            attempt: 1,
            node: node(11),
            price,
            agreement: None,
        };
        self.say(DocKind::Outbox, 21, Body::Ask(ask));
        id
    }

    fn award(&mut self, attempt: u32, to: u8) -> RecordId {
        let order = self.order;
        self.say(
            DocKind::Outbox,
            21,
            Body::Award(Award {
                order,
                attempt,
                node: node(to),
            }),
        )
    }

    fn grant(&mut self, attempt: u32, award: RecordId, by: u8) -> RecordId {
        let order = self.order;
        self.say(
            DocKind::Grants,
            by,
            Body::Grant(Grant {
                order,
                attempt,
                award,
            }),
        )
    }

    fn release(&mut self, attempt: u32, by: u8) {
        let body = Release {
            order: self.order,
            attempt,
            final_usage: None,
        };
        self.say(DocKind::Grants, by, Body::Release(body));
    }

    fn use_up(&mut self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            let body = Body::Usage(usage(self.order, sequence));
            self.say(DocKind::Usage, 11, body);
        }
    }

    fn invoice(&self, number: &str) -> Invoice {
        let heading = Heading {
            number: number.to_owned(),
            seller: org(1),
            buyer: org(2),
            period: Period::of(START),
            revision: 1,
            currency: mesh_base::money::Currency::EUR,
        };
        let name = "crm".parse().unwrap();
        let usages = books::usages(&self.ledger, org(1), org(2));
        draft(
            heading,
            usages.map(|(id, usage)| Statement {
                id,
                usage,
                name: &name,
            }),
        )
        .unwrap()
    }

    #[track_caller]
    fn check(&self, expect: &[Violation]) {
        assert_eq!(verify_all(&self.ledger), expect);
    }
}

fn served() -> Trade {
    let mut trade = Trade::awarded();
    trade.grant(1, trade.award, 11);
    trade.use_up(1..=3);
    trade
}

#[test]
fn honest_trade_is_clean_at_every_step() {
    let mut trade = served();
    trade.check(&[]);
    let invoice = trade.invoice("1");
    assert_eq!(invoice.total.micros, 500);
    trade.say(DocKind::Books, 11, Body::Invoice(invoice));
    trade.check(&[]);
    trade.use_up(4..=5);
    trade.release(1, 11);
    trade.check(&[]);
    let invoice = Invoice {
        revision: 2,
        ..trade.invoice("1")
    };
    trade.say(DocKind::Books, 11, Body::Invoice(invoice));
    trade.check(&[]);
}

#[test]
fn balances_follow_from_the_records() {
    let mut trade = served();
    let invoice = trade.invoice("1");
    trade.say(DocKind::Books, 11, Body::Invoice(invoice));
    let totals = accounts(&trade.ledger);
    let item = Account::Item(trade.order.0);
    assert_eq!(
        totals.balance(Phase::Granted, Resource::MemoryMib, item),
        256
    );
    let used = totals.balance(
        Phase::Delivered,
        Resource::CpuMs,
        Account::Consumption(org(2)),
    );
    assert_eq!(used, 3000);
    let euro = Resource::Money(mesh_base::money::Currency::EUR);
    let claim = Account::Claim {
        seller: org(1),
        buyer: org(2),
    };
    assert_eq!(totals.balance(Phase::Invoiced, euro, claim), 500);
    assert_eq!(
        totals.balance(Phase::Invoiced, euro, Account::Income(org(1))),
        -500
    );
    trade.release(1, 11);
    let after = accounts(&trade.ledger);
    assert_eq!(after.balance(Phase::Granted, Resource::MemoryMib, item), 0);
    assert!(
        movements(&trade.ledger)
            .iter()
            .all(|movement| 0 <= movement.quantity)
    );
}

#[test]
fn sums_are_zero_at_every_prefix_of_the_movements() {
    let trade = served();
    let mut totals = Accounts::default();
    for movement in movements(&trade.ledger) {
        totals.apply(&movement);
        assert_eq!(totals.unbalanced(), []);
    }
    assert!(0 < totals.balances().count());
}

#[test]
fn exposure_is_rounded_up_and_falls_with_payment() {
    let mut trade = Trade::awarded();
    trade.use_up(1..=1);
    let euro = mesh_base::money::Currency::EUR;
    let mut open = exposure(&trade.ledger, org(1), org(2));
    // 0.12 EUR / 720 = 166.66.. micro-units.
    assert_eq!(open.owed(euro).unwrap().micros, 167);
    open.pay("0.0001EUR".parse().unwrap());
    assert_eq!(open.owed(euro).unwrap().micros, 67);
    assert_eq!(
        exposure(&trade.ledger, org(2), org(1))
            .owed(euro)
            .unwrap()
            .micros,
        0
    );
}

#[test]
fn grants_beyond_capacity_are_found() {
    let mut trade = served();
    trade.order = trade.place("wiki");
    let award = trade.award(1, 11);
    trade.grant(1, award, 11);
    let found = verify_all(&trade.ledger);
    assert_eq!(found.len(), 4);
    let slots = Violation::OverAllocation {
        node: node(11),
        resource: Resource::Slot,
        granted: 2,
        capacity: 1,
    };
    assert!(found.contains(&slots) && slots.may_heal());
}

#[test]
fn attempt_awarded_to_two_nodes_is_found() {
    let mut trade = Trade::awarded();
    trade.award(1, 12);
    trade.check(&[Violation::AwardedTwice {
        order: trade.order,
        attempt: 1,
    }]);
}

#[test]
fn order_held_by_two_nodes_is_found_until_one_lets_go() {
    let mut trade = served();
    let second = trade.award(2, 12);
    trade.grant(2, second, 12);
    trade.check(&[Violation::HeldTwice {
        order: trade.order,
        count: 2,
    }]);
    trade.release(1, 11);
    trade.check(&[]);
}

#[test]
fn grant_needs_an_award_to_that_node_and_none_after_the_end() {
    let mut trade = Trade::awarded();
    let grant = trade.grant(1, trade.award, 12);
    trade.check(&[Violation::GrantWithoutAward { grant }]);
    let mut trade = Trade::awarded();
    let refusal = Refusal {
        order: trade.order,
        attempt: 1,
        reason: RefusalReason::Lapsed,
    };
    trade.say(DocKind::Grants, 11, Body::Refusal(refusal));
    let grant = trade.grant(1, trade.award, 11);
    trade.check(&[Violation::GrantWithoutAward { grant }]);
}

#[test]
fn gaps_and_overlaps_of_usage_are_found() {
    let mut trade = served();
    trade.use_up([5]);
    let item = trade.order.0;
    trade.check(&[Violation::UsageChain { item, after: 3 }]);
    let mut trade = served();
    let early = Usage {
        from: START,
        to: Wall(START.0 + 3_600_000),
        ..usage(trade.order, 4)
    };
    trade.say(DocKind::Usage, 11, Body::Usage(early));
    trade.check(&[Violation::UsageChain { item, after: 3 }]);
}

#[test]
fn wrong_invoice_is_found_and_a_pending_one_is_not() {
    let mut trade = served();
    let mut invoice = trade.invoice("1");
    invoice.lines[0].amount.micros = 501;
    trade.say(DocKind::Books, 11, Body::Invoice(invoice));
    let source = InvoiceMismatch::Line { index: 0 };
    trade.check(&[Violation::Invoice {
        number: "1".to_owned(),
        source,
    }]);
    let whole = served();
    let mut partial = Trade::awarded();
    partial.use_up(1..=2);
    partial.say(DocKind::Books, 11, Body::Invoice(whole.invoice("1")));
    partial.check(&[]);
}

#[test]
fn statement_charged_by_two_invoices_is_found() {
    let mut trade = served();
    let (one, two) = (trade.invoice("1"), trade.invoice("2"));
    trade.say(DocKind::Books, 11, Body::Invoice(one));
    trade.say(DocKind::Books, 11, Body::Invoice(two));
    let item = trade.order.0;
    trade.check(&[Violation::ChargedTwice { item, sequence: 1 }]);
}

#[test]
fn two_holders_in_one_epoch_are_found() {
    let mut trade = Trade::awarded();
    let service = order("crm").service;
    for holder in [11, 12] {
        let holder = Holder {
            service,
            holders: vec![node(holder)],
            epoch: 1,
            not_after: START,
        };
        trade.say(
            DocKind::Holders,
            21,
            Body::Holder(SignedHolder::sign(holder, &key(99))),
        );
    }
    trade.check(&[Violation::HolderEpoch { service, epoch: 1 }]);
}
