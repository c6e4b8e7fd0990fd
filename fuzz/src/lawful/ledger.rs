//! A record of each body, changes of both sides of an order, a proof and an agreement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::{SecretKey, ServiceId};
use mesh_base::money::Money;
use mesh_ledger::agreement::{SignedAgreement, SignedTerms, Terms};
use mesh_ledger::charter::{Capacity, Member, Offer, OrgCharter};
use mesh_ledger::document::{Closing, DocId, DocKind};
use mesh_ledger::gate::Equivocation;
use mesh_ledger::grant::{
    Grant, ItemState, Progress, Ready, Refusal, RefusalReason, Release, Reservation, Shortage,
};
use mesh_ledger::invoice::{Invoice, InvoiceState, Line, Period};
use mesh_ledger::ledger::{Delta, Ledger};
use mesh_ledger::order::{Ask, Award, Desire, DesiredState, Guest, Holder, Order, SignedHolder};
use mesh_ledger::record::{Body, RECORD_VERSION, Record, RecordId, SignedRecord};
use mesh_ledger::usage::{Usage, Why};
use serde_bytes::ByteBuf;

use super::{
    NOW, digest, hours_later, key, master_chain, name, node, org, own_chain, own_org, price,
};

const HOUR_MS: u64 = 3_600_000;

fn between(kind: DocKind, side: u8, other: u8) -> DocId {
    DocId::between(kind, org(side), node(10 * side + 1).0, org(other), 0)
}

/// Returns where the second organisation's node writes its orders of the first.
pub fn outbox() -> DocId {
    between(DocKind::Outbox, 2, 1)
}

/// Returns where the first organisation's node writes what it grants to the second.
pub fn grants() -> DocId {
    between(DocKind::Grants, 1, 2)
}

fn writer(doc: &DocId) -> SecretKey {
    let known = [1, 2, 10, 11, 20, 21].map(key);
    let found = known.into_iter().find(|key| key.public() == doc.writer);
    // Proof: every document here is written by one of these keys.
    found.expect("the writer is one of ours")
}

fn signed(doc: DocId, body: Body) -> SignedRecord {
    let record = Record {
        version: RECORD_VERSION,
        doc,
        author: doc.writer,
        term: 1,
        wall: NOW.wall,
        body,
    };
    SignedRecord::sign(record, &writer(&doc))
}

fn order_body() -> Order {
    Order {
        name: name("crm-db"),
        recipe: "postgres".to_owned(),
        recipe_digest: Some(digest(9)),
        service: ServiceId(key(99).public()),
        parameters: digest(8),
        parameters_key: "k1".to_owned(),
        memory_mib: 256,
        cpu_millis: 500,
        disk_mib: 1024,
        price_cap: Some(price()),
        nonce: [7; 16],
        guests: BTreeSet::new(),
    }
}

/// Returns the body of an order that lets others in.
fn open_order_body() -> Order {
    Order {
        guests: BTreeSet::from([Guest::Org(org(3)), Guest::Mesh]),
        ..order_body()
    }
}

/// Returns an order.
pub fn order() -> SignedRecord {
    signed(outbox(), Body::Order(order_body()))
}

/// Returns the ask for an order.
pub fn ask(order: &SignedRecord) -> SignedRecord {
    let ask = Ask {
        order: Box::new(order.clone()),
        attempt: 1,
        node: node(11),
        price: price(),
        agreement: Some(RecordId(digest(4))),
    };
    signed(outbox(), Body::Ask(ask))
}

fn usage(order: RecordId, sequence: u64) -> Usage {
    Usage {
        order,
        item: order.0,
        sequence,
        from: hours_later(sequence - 1),
        to: hours_later(sequence),
        running_ms: HOUR_MS - 1,
        reserved_ms: HOUR_MS,
        cpu_ms: 1000,
        memory_mib_s: 3600,
        disk_mib_s: 7200,
        received_bytes: 10,
        sent_bytes: 20,
        price: price(),
        agreement: None,
        why: Why::Hour,
    }
}

fn invoice(order: RecordId) -> Invoice {
    let amount = Money {
        micros: 167,
        currency: price().per_month.currency,
    };
    let line = Line {
        order,
        name: name("crm-db"),
        item: order.0,
        usage_from: 1,
        usage_to: 1,
        usage_count: 1,
        usage_digest: digest(5),
        reserved_ms: HOUR_MS,
        price: price(),
        amount,
        carry: -856_800_000,
    };
    Invoice {
        number: "2026-11/bakery/1".to_owned(),
        seller: org(1),
        buyer: org(2),
        period: Period::of(NOW.wall),
        revision: 1,
        state: InvoiceState::Draft,
        lines: vec![line],
        total: amount,
    }
}

/// Returns an agreement between both organisations.
pub fn agreement() -> SignedAgreement {
    let root = master_chain(2, 20);
    SignedAgreement::sign(terms(), org(2), name("library"), root, &key(20))
}

/// Returns what the first organisation offers.
pub fn terms() -> SignedTerms {
    let terms = Terms {
        seller: own_org(),
        seller_name: name("bakery"),
        prices: BTreeMap::from([("postgres".to_owned(), price())]),
        credit: Money {
            micros: 10_000_000,
            currency: price().per_month.currency,
        },
        settlement_days: 14,
        valid_until: NOW.wall + Duration::from_secs(86_400),
        offer_id: [3; 16],
        buyer: None,
    };
    SignedTerms::sign(terms, Some(master_chain(1, 10)), &key(10))
}

/// Returns agreements as they stand alone.
pub fn agreements() -> Vec<(&'static str, Vec<u8>)> {
    let mut by_root = agreement();
    by_root.terms = SignedTerms::sign(by_root.terms.terms, None, &key(1));
    let by_root = SignedAgreement::sign(
        by_root.terms,
        org(2),
        name("library"),
        master_chain(2, 20),
        &key(20),
    );
    vec![
        ("by-master", codec::encode(&agreement())),
        ("by-root", codec::encode(&by_root)),
    ]
}

/// Returns one body of each kind with the document it belongs into.
fn bodies() -> Vec<(&'static str, DocId, Body)> {
    let order = order();
    let id = order.id();
    let mut bodies = shown();
    bodies.extend(ordered(id));
    bodies.extend(granted(id));
    let ask = ask(&order).record.body;
    let closing = Closing {
        next_part: 1,
        record_count: 3,
    };
    bodies.extend([
        ("order", outbox(), order.record.body),
        ("order-guests", outbox(), Body::Order(open_order_body())),
        ("ask", outbox(), ask),
        (
            "usage",
            between(DocKind::Usage, 1, 2),
            Body::Usage(usage(id, 1)),
        ),
        ("invoice", books(), Body::Invoice(invoice(id))),
        ("agreement", agreement_doc(), Body::Agreement(agreement())),
        ("closing", books(), Body::Closing(closing)),
    ]);
    bodies
}

fn books() -> DocId {
    DocId::between(DocKind::Books, org(1), node(10).0, org(2), 0)
}

fn agreement_doc() -> DocId {
    DocId::between(DocKind::Agreement, org(1), node(10).0, org(2), 0)
}

fn shown() -> Vec<(&'static str, DocId, Body)> {
    let public = |kind, writer: u8| DocId::public(kind, org(1), key(writer).public(), 0);
    let charter = OrgCharter {
        org: org(1),
        name: name("bakery"),
        founded: NOW.wall,
        masters: vec![node(10)],
        voters: vec![node(10)],
    };
    let offer = Offer {
        recipe: "postgres".to_owned(),
        price: price(),
        revision: 2,
    };
    let capacity = Capacity {
        slots: 4,
        memory_mib: 1024,
        cpu_millis: 2000,
        disk_mib: 4096,
        recipes: BTreeMap::from([("postgres".to_owned(), digest(9))]),
        attributes: BTreeMap::from([("arch".to_owned(), "x86_64".to_owned())]),
    };
    let member = Member { chain: own_chain() };
    vec![
        (
            "charter",
            public(DocKind::Charter, 1),
            Body::OrgCharter(charter),
        ),
        ("member", public(DocKind::Members, 10), Body::Member(member)),
        ("offer", public(DocKind::Catalog, 10), Body::Offer(offer)),
        (
            "capacity",
            public(DocKind::Capacity, 11),
            Body::Capacity(capacity),
        ),
    ]
}

fn ordered(order: RecordId) -> Vec<(&'static str, DocId, Body)> {
    let award = Award {
        order,
        attempt: 1,
        node: node(11),
    };
    let desire = Desire {
        order,
        state: DesiredState::Stopped,
        revision: 2,
    };
    let holder = Holder {
        service: ServiceId(key(99).public()),
        holders: vec![node(11)],
        epoch: 1,
        not_after: hours_later(24),
    };
    let holder = SignedHolder::sign(holder, &key(99));
    vec![
        ("award", outbox(), Body::Award(award)),
        ("desire", outbox(), Body::Desire(desire)),
        (
            "holder",
            between(DocKind::Holders, 2, 1),
            Body::Holder(holder),
        ),
    ]
}

fn granted(order: RecordId) -> Vec<(&'static str, DocId, Body)> {
    let reservation = Reservation {
        order,
        attempt: 1,
        valid_ms: 10_000,
        price: price(),
    };
    let refusal = |reason| {
        Body::Refusal(Refusal {
            order,
            attempt: 1,
            reason,
        })
    };
    let grant = Grant {
        order,
        attempt: 1,
        award: RecordId(digest(6)),
    };
    let state = ItemState::Failed("the disk is full".to_owned());
    let ready = Ready {
        order,
        attempt: 1,
        connection: ByteBuf::from(vec![1; 80]),
        connection_digest: Digest::of(&[1; 80]),
        key: "k1".to_owned(),
    };
    let release = Release {
        order,
        attempt: 1,
        final_usage: Some(RecordId(digest(7))),
    };
    let what = Shortage::Memory;
    let bodies = [
        ("reservation", Body::Reservation(reservation)),
        (
            "refusal-capacity",
            refusal(RefusalReason::NoCapacity { what }),
        ),
        ("refusal-lapsed", refusal(RefusalReason::Lapsed)),
        (
            "refusal-failed",
            refusal(RefusalReason::Failed("it ended".to_owned())),
        ),
        ("grant", Body::Grant(grant)),
        ("progress", Body::Progress(Progress { order, state })),
        ("ready", Body::Ready(ready)),
        ("release", Body::Release(release)),
    ];
    bodies.map(|(name, body)| (name, grants(), body)).into()
}

/// Returns a record of each body.
pub fn records() -> Vec<(&'static str, Vec<u8>)> {
    let records = bodies().into_iter();
    records
        .map(|(name, doc, body)| (name, signed(doc, body).to_bytes()))
        .collect()
}

/// Returns what `append` makes of each list of bodies, as one delta from the beginning.
fn written(doc: DocId, changes: Vec<Vec<Body>>) -> Delta {
    let mut ledger = Ledger::new();
    for bodies in changes {
        // Proof: the bodies are lawful, which a test of this crate shows.
        ledger
            .append(doc, bodies, &writer(&doc), 1, NOW.wall)
            .expect("our own bodies are lawful");
    }
    // Proof: something was appended.
    ledger
        .since(&doc, 0, usize::MAX)
        .expect("there are changes")
}

/// Returns an order with its award, as they travel.
pub fn delta() -> Delta {
    let order = order();
    let mut changes = vec![vec![order.record.body.clone(), ask(&order).record.body]];
    changes.extend(
        ordered(order.id())
            .into_iter()
            .take(2)
            .map(|(_, _, body)| vec![body]),
    );
    written(outbox(), changes)
}

/// Returns changes of every kind of document.
pub fn deltas() -> Vec<(&'static str, Vec<u8>)> {
    let id = order().id();
    let mut deltas = vec![("order", codec::encode(&delta()))];
    for (name, doc, body) in shown() {
        deltas.push((name, codec::encode(&written(doc, vec![vec![body]]))));
    }
    let grants_of: Vec<Body> = granted(id).into_iter().map(|(_, _, body)| body).collect();
    let two = (1..=2)
        .map(|sequence| vec![Body::Usage(usage(id, sequence))])
        .collect();
    deltas.push(("grants", codec::encode(&written(grants(), vec![grants_of]))));
    deltas.push((
        "usage",
        codec::encode(&written(between(DocKind::Usage, 1, 2), two)),
    ));
    let rest = bodies()
        .into_iter()
        .filter(|(name, ..)| ["invoice", "agreement", "holder"].contains(name));
    for (name, doc, body) in rest {
        deltas.push((name, codec::encode(&written(doc, vec![vec![body]]))));
    }
    deltas
}

/// Returns two histories of one document.
pub fn proof() -> Equivocation {
    let progress = |state| {
        Body::Progress(Progress {
            order: RecordId(digest(1)),
            state,
        })
    };
    let history = |state| written(grants(), vec![vec![progress(state)]]);
    Equivocation {
        one: history(ItemState::Running),
        other: history(ItemState::Stopped),
    }
}

/// Returns proofs against a writer.
pub fn proofs() -> Vec<(&'static str, Vec<u8>)> {
    vec![("two-histories", codec::encode(&proof()))]
}
