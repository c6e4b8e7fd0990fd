//! Peers that lie, forge and flood: what a member of a trusted organisation says with valid
//! signatures is still not believed beyond its right, and costs a limited amount.

use std::time::Duration;

use mesh_api::{Reply, Request};
use mesh_base::digest::Digest;
use mesh_base::identity::{OrgId, SecretKey, ServiceId};
use mesh_ledger::charter::OrgCharter;
use mesh_ledger::document::{DocId, DocKind, Frontier};
use mesh_ledger::gate::Equivocation;
use mesh_ledger::grant::{Grant, ItemState, Progress, Ready};
use mesh_ledger::ledger::{Delta, Ledger};
use mesh_ledger::order::{Ask, Award, Holder, SignedHolder};
use mesh_ledger::record::{Body, RecordId};
use mesh_ledger::usage::{Usage, Why};
use mesh_peer::limits::GUEST_SERVICES_MAX;
use mesh_peer::message::{Contact, Message, SignedContact};

use crate::town::Town;
use crate::{mesh, order};

const BAKERY: usize = 0;
const LIBRARY: usize = 1;
const BAKERY_2: usize = 2;
const LIBRARY_2: usize = 3;

fn org(town: &Town, index: usize) -> OrgId {
    town.machines[index].node.chain().leaf().unwrap().org
}

fn only_order(town: &Town) -> RecordId {
    *town.machines[LIBRARY]
        .node
        .view()
        .orders
        .keys()
        .next()
        .unwrap()
}

/// Continues a document with the writer's own key, as a changed program could.
fn forge(town: &Town, index: usize, kind: DocKind, with: usize, bodies: Vec<Body>) -> Delta {
    let machine = &town.machines[index];
    let (own, key) = (org(town, index), &machine.secret);
    let doc = DocId::between(kind, own, key.public(), org(town, with), 0);
    continued(town, index, doc, key, bodies)
}

fn continued(town: &Town, index: usize, doc: DocId, key: &SecretKey, bodies: Vec<Body>) -> Delta {
    let mut ledger = Ledger::new();
    let had = town.machines[index]
        .node
        .ledger()
        .since(&doc, 0, usize::MAX);
    if let Some(had) = had {
        ledger.replay(&had).unwrap();
    }
    ledger
        .append(doc, bodies, key, 0, town.now().wall)
        .unwrap()
        .delta
}

fn ordered() -> Town {
    let mut town = mesh();
    let call = town.ask(BAKERY, order("a"));
    assert!(town.answer(call).is_ok());
    town
}

fn changes(delta: Delta) -> Message {
    Message::Changes(Box::new(delta))
}

fn usage(order: RecordId, sequence: u64, town: &Town) -> Usage {
    let view = &town.machines[LIBRARY].node.view().orders[&order];
    Usage {
        order,
        item: order.0,
        sequence,
        from: town.now().wall,
        to: town.now().wall,
        running_ms: 0,
        reserved_ms: 0,
        cpu_ms: 0,
        memory_mib_s: 0,
        disk_mib_s: 0,
        received_bytes: 0,
        sent_bytes: 0,
        price: view.attempts[&1].price,
        agreement: None,
        why: Why::OnDemand,
    }
}

#[test]
fn customer_cannot_replace_the_usage_that_its_provider_stated() {
    let mut town = ordered();
    town.pass(Duration::from_secs(1800));
    let call = town.ask(BAKERY, Request::UsageNow { name: None });
    assert!(town.answer(call).is_ok());
    let order = only_order(&town);
    let forged = Body::Usage(usage(order, 1, &town));
    let delta = forge(&town, BAKERY, DocKind::Usage, LIBRARY, vec![forged]);
    let before = town.machines[LIBRARY].node.view().reserved_ms(&order);
    assert!(0 < before);
    town.say(LIBRARY, BAKERY, changes(delta));
    let after = town.machines[LIBRARY].node.view().reserved_ms(&order);
    assert_eq!(before, after);
}

#[test]
fn node_that_was_not_awarded_cannot_make_itself_the_provider() {
    let mut town = mesh();
    let call = town.ask(BAKERY, order("a"));
    assert!(town.answer(call).is_ok());
    let order = only_order(&town);
    let view = town.machines[BAKERY].node.view().orders[&order].clone();
    let (attempt, held) = view.granted().unwrap();
    let liar = [LIBRARY, LIBRARY_2]
        .into_iter()
        .find(|index| town.machines[*index].node.id() != held.node)
        .unwrap();
    let award = held.award.unwrap();
    let ready = held.ready.clone().unwrap().0;
    let bodies = vec![
        Body::Grant(Grant {
            order,
            attempt,
            award,
        }),
        Body::Ready(Ready {
            connection_digest: Digest::of(b"mine"),
            ..ready.clone()
        }),
    ];
    let delta = forge(&town, liar, DocKind::Grants, BAKERY, bodies);
    town.say(BAKERY, liar, changes(delta));
    let view = &town.machines[BAKERY].node.view().orders[&order];
    let (_, now) = view.granted().unwrap();
    assert_eq!(now.ready.as_ref().unwrap().0, ready);
    assert_eq!(now.node, held.node);
}

#[test]
fn asked_node_without_an_award_is_not_believed_to_be_ready() {
    let mut town = ordered();
    let id = only_order(&town);
    let view = town.machines[BAKERY].node.view().orders[&id].clone();
    let ready = view.attempts[&1].ready.clone().unwrap().0;
    let second = town.machines[LIBRARY_2].node.id();
    let ask = Ask {
        order: Box::new(view.signed.clone()),
        attempt: 2,
        node: second,
        price: view.attempts[&1].price,
        agreement: None,
    };
    let asked = forge(
        &town,
        BAKERY,
        DocKind::Outbox,
        LIBRARY,
        vec![Body::Ask(ask)],
    );
    town.say(BAKERY_2, BAKERY, changes(asked));
    let forged = vec![
        Body::Grant(Grant {
            order: id,
            attempt: 2,
            award: view.attempts[&1].award.unwrap(),
        }),
        Body::Ready(Ready {
            attempt: 2,
            ..ready
        }),
    ];
    let forged = forge(&town, LIBRARY_2, DocKind::Grants, BAKERY, forged);
    town.say(BAKERY_2, LIBRARY_2, changes(forged));
    let view = &town.machines[BAKERY_2].node.view().orders[&id];
    assert!(view.attempts.contains_key(&2), "the ask itself is lawful");
    assert_eq!(view.granted().unwrap().0, 1);
}

#[test]
fn another_node_cannot_award_somebody_elses_order() {
    let mut town = ordered();
    let id = only_order(&town);
    let node = town.machines[LIBRARY_2].node.id();
    let signed = town.machines[BAKERY].node.view().orders[&id].signed.clone();
    let price = town.machines[BAKERY].node.view().orders[&id].attempts[&1].price;
    let award = Body::Award(Award {
        order: id,
        attempt: 2,
        node,
    });
    let ask = Body::Ask(Ask {
        order: Box::new(signed),
        attempt: 2,
        node,
        price,
        agreement: None,
    });
    let delta = forge(&town, BAKERY_2, DocKind::Outbox, LIBRARY, vec![award]);
    town.say(LIBRARY_2, BAKERY_2, changes(delta));
    let delta = forge(&town, BAKERY_2, DocKind::Outbox, LIBRARY, vec![ask]);
    town.say(LIBRARY_2, BAKERY_2, changes(delta));
    let view = &town.machines[LIBRARY_2].node.view().orders[&id];
    assert_eq!(view.attempts.len(), 1);
    assert_eq!(town.machines[LIBRARY_2].steps.len(), 0);
}

#[test]
fn charter_speaks_of_its_own_organisation_only() {
    let mut town = mesh();
    let root = SecretKey::from_seed([102; 32]);
    let (library, bakery) = (org(&town, LIBRARY), org(&town, BAKERY));
    assert_eq!(library, OrgId(root.public()));
    let node = town.machines[LIBRARY].node.id();
    let usurper = OrgCharter {
        org: bakery,
        name: "bakery".parse().unwrap(),
        founded: town.now().wall,
        masters: vec![node],
        voters: vec![node],
    };
    let doc = DocId::public(DocKind::Charter, library, root.public(), 0);
    let delta = continued(&town, LIBRARY, doc, &root, vec![Body::OrgCharter(usurper)]);
    town.say(BAKERY, LIBRARY, changes(delta));
    // Bakery's leader still leads: it may invite.
    town.join(BAKERY, 0);
}

fn contradiction(key: &SecretKey, org: OrgId, part: u32, size: usize) -> Equivocation {
    let doc = DocId::public(DocKind::Capacity, org, key.public(), 0).with_part(part);
    let side = |slots: u32| {
        let mut ledger = Ledger::new();
        let progress = |index: usize| {
            let mut capacity = capacity(slots);
            capacity.disk_mib = u32::try_from(index).unwrap();
            Body::Capacity(capacity)
        };
        let bodies = (0..size).map(progress).collect();
        let wall = mesh_base::time::Wall(1_795_413_600_000);
        ledger.append(doc, bodies, key, 0, wall).unwrap().delta
    };
    Equivocation {
        one: side(1),
        other: side(2),
    }
}

fn capacity(slots: u32) -> mesh_ledger::charter::Capacity {
    mesh_ledger::charter::Capacity {
        slots,
        memory_mib: 0,
        cpu_millis: 0,
        disk_mib: 0,
        recipes: std::collections::BTreeMap::new(),
        attributes: std::collections::BTreeMap::new(),
    }
}

#[test]
fn proofs_against_strangers_are_not_kept() {
    let mut town = mesh();
    let before = town.machines[BAKERY].journal.len();
    for number in 200..210 {
        let key = SecretKey::from_seed([number; 32]);
        for of in [org(&town, LIBRARY), OrgId(key.public())] {
            let proof = contradiction(&key, of, 0, 1);
            town.say(BAKERY, LIBRARY, Message::Proof(Box::new(proof)));
        }
    }
    assert_eq!(town.machines[BAKERY].journal.len(), before);
}

#[test]
fn proofs_against_one_member_are_limited() {
    let mut town = mesh();
    let before = town.machines[BAKERY].journal.len();
    let key = town.machines[LIBRARY_2].secret.clone();
    for part in 1..40 {
        let proof = contradiction(&key, org(&town, LIBRARY), part, 1);
        town.say(BAKERY, LIBRARY, Message::Proof(Box::new(proof)));
    }
    let kept = town.machines[BAKERY].journal.len() - before;
    assert!((1..=8).contains(&kept), "{kept}");
}

#[test]
fn invented_documents_do_not_fill_the_memory_of_what_a_peer_has() {
    let mut town = mesh();
    let library = org(&town, LIBRARY);
    let writer = town.machines[LIBRARY].secret.public();
    let doc = DocId::public(DocKind::Capacity, library, writer, 0).with_part(7);
    let frontier = Frontier {
        seq: 9,
        head: Digest::of(b"9"),
    };
    let list = vec![(doc, frontier)];
    town.say(
        BAKERY,
        LIBRARY,
        Message::Frontiers {
            complete: false,
            reply: false,
            list,
        },
    );
    let mut replication = mesh_peer::replication::Replication::new(org(&town, BAKERY));
    let peer = town.machines[LIBRARY].node.id();
    let ledger = town.machines[BAKERY].node.ledger();
    let now = town.now().mono;
    replication.handle_connected(peer, library, ledger, now);
    replication.handle_frontiers(&peer, false, false, &[(doc, frontier)], ledger, now);
    assert_eq!(replication.copies(&doc, 1), 0);
}

#[test]
fn two_equally_long_histories_are_found_and_their_writer_is_frozen() {
    let mut town = mesh();
    let (one, other) = {
        let mut sides = [1_u32, 2].map(|slots| {
            let machine = &town.machines[LIBRARY_2];
            let key = &machine.secret;
            let doc = DocId::public(DocKind::Capacity, org(&town, LIBRARY), key.public(), 0);
            continued(
                &town,
                LIBRARY_2,
                doc,
                key,
                vec![Body::Capacity(capacity(slots + 50))],
            )
        });
        let other = sides[1].clone();
        (std::mem::replace(&mut sides[0], other.clone()), other)
    };
    town.say(BAKERY, LIBRARY_2, changes(one));
    town.say(BAKERY_2, LIBRARY_2, changes(other));
    for _ in 0..60 {
        town.pass(Duration::from_millis(500));
    }
    for index in [BAKERY, BAKERY_2, LIBRARY] {
        let proofs = town.machines[index].node.ledger().proofs().count();
        assert_eq!(proofs, 1, "node {index}");
    }
    for index in [BAKERY, BAKERY_2, LIBRARY] {
        town.restart(index);
    }
}

#[test]
fn one_more_change_costs_the_journal_only_itself() {
    let mut town = ordered();
    let id = only_order(&town);
    let progress = |_| {
        let state = ItemState::Running;
        Body::Progress(Progress { order: id, state })
    };
    let doc = DocKind::Grants;
    let many = forge(
        &town,
        LIBRARY_2,
        doc,
        BAKERY,
        (0..200).map(progress).collect(),
    );
    let mut ledger = Ledger::new();
    ledger.replay(&many).unwrap();
    town.say(BAKERY, LIBRARY_2, changes(many.clone()));
    let key = town.machines[LIBRARY_2].secret.clone();
    let wall = town.now().wall;
    ledger
        .append(many.doc, vec![progress(0)], &key, 0, wall)
        .unwrap();
    let whole = ledger.since(&many.doc, 0, usize::MAX).unwrap();
    let before = town.machines[BAKERY].journal.len();
    town.say(BAKERY, LIBRARY_2, changes(whole));
    let added = &town.machines[BAKERY].journal[before..];
    assert_eq!(added.len(), 1);
    assert!(added[0].len() < 2000, "{}", added[0].len());
    town.restart(BAKERY);
}

#[test]
fn statements_on_demand_are_made_at_most_once_a_second() {
    let mut town = ordered();
    let id = only_order(&town);
    let before = town.machines[LIBRARY].journal.len();
    for _ in 0..100 {
        town.say(LIBRARY, BAKERY, Message::UsageNow { order: id.0 });
    }
    let grown = town.machines[LIBRARY].journal.len() - before;
    assert!(grown <= 4, "{grown} entries");
    let call = town.ask(BAKERY, Request::UsageNow { name: None });
    assert!(matches!(town.answer(call), Ok(Reply::Usage { .. })));
}

#[test]
fn attempts_beyond_the_limit_do_not_count() {
    let mut town = ordered();
    let id = only_order(&town);
    let view = town.machines[BAKERY].node.view().orders[&id].clone();
    let ask = |attempt: u32| {
        Body::Ask(Ask {
            order: Box::new(view.signed.clone()),
            attempt,
            node: town.machines[LIBRARY_2].node.id(),
            price: view.attempts[&1].price,
            agreement: None,
        })
    };
    let bodies = [0, 2, 64, 65, 1_000, u32::MAX]
        .map(ask)
        .into_iter()
        .collect();
    let delta = forge(&town, BAKERY, DocKind::Outbox, LIBRARY, bodies);
    town.say(LIBRARY, BAKERY, changes(delta));
    let view = &town.machines[LIBRARY].node.view().orders[&id];
    let known: Vec<u32> = view.attempts.keys().copied().collect();
    assert_eq!(known, [1, 2, 64]);
}

#[test]
fn change_that_repeats_a_record_is_on_disk_like_any_other() {
    let mut town = ordered();
    let order = only_order(&town);
    let body = Body::Progress(Progress {
        order,
        state: ItemState::Running,
    });
    let key = town.machines[LIBRARY_2].secret.clone();
    let (library, bakery) = (org(&town, LIBRARY), org(&town, BAKERY));
    let doc = DocId::between(DocKind::Grants, library, key.public(), bakery, 0);
    let (mut ledger, wall) = (Ledger::new(), town.now().wall);
    for later in [0, 0, 1] {
        let wall = wall + Duration::from_millis(later);
        let delta = ledger
            .append(doc, vec![body.clone()], &key, 0, wall)
            .unwrap()
            .delta;
        town.say(BAKERY, LIBRARY_2, changes(delta));
    }
    let reaches = |town: &Town| {
        town.machines[BAKERY]
            .node
            .ledger()
            .frontier(&doc)
            .unwrap()
            .seq
    };
    assert_eq!(reaches(&town), 3);
    town.restart(BAKERY);
    assert_eq!(reaches(&town), 3);
}

#[test]
fn node_that_moves_without_end_is_not_listened_to_without_end() {
    let mut town = mesh();
    let machine = &town.machines[LIBRARY_2];
    let (key, chain) = (machine.secret.clone(), machine.node.chain().clone());
    let before = town.machines[BAKERY].journal.len();
    for number in 0..200 {
        let contact = Contact {
            node: mesh_base::identity::NodeId(key.public()),
            chain: chain.clone(),
            sequence: u64::MAX / 2 + number,
            control: Vec::new(),
            wireguard: Vec::new(),
            leaf: false,
        };
        let signed = SignedContact::sign(contact, &key);
        town.say(BAKERY, LIBRARY_2, Message::Contacts(vec![signed]));
    }
    let grown = town.machines[BAKERY].journal.len() - before;
    assert!((1..=20).contains(&grown), "{grown} entries");
}

#[test]
fn statement_from_the_edge_of_time_stops_nobody() {
    let mut town = ordered();
    let order = only_order(&town);
    for wall in [i64::MIN, i64::MAX, 0] {
        let mut usage = usage(order, 77, &town);
        (usage.from, usage.to) = (mesh_base::time::Wall(wall), mesh_base::time::Wall(wall));
        let delta = forge(
            &town,
            LIBRARY_2,
            DocKind::Usage,
            BAKERY,
            vec![Body::Usage(usage)],
        );
        for index in [LIBRARY, BAKERY, BAKERY_2] {
            town.say(index, LIBRARY_2, changes(delta.clone()));
        }
    }
    for index in [LIBRARY, BAKERY] {
        town.restart(index);
        let call = town.ask(index, Request::Status);
        assert!(town.answer(call).is_ok());
        let call = town.ask(index, Request::UsageLs { name: None });
        assert!(town.answer(call).is_ok());
    }
}

#[test]
fn who_was_away_learns_of_a_proof_later() {
    let mut town = mesh();
    let key = town.machines[LIBRARY_2].secret.clone();
    let proof = contradiction(&key, org(&town, LIBRARY), 1, 1);
    town.machines[BAKERY_2].dead = true;
    town.say(BAKERY, LIBRARY, Message::Proof(Box::new(proof)));
    town.restart(BAKERY_2);
    for _ in 0..60 {
        town.pass(Duration::from_millis(500));
    }
    let knows = |town: &Town| town.machines[BAKERY_2].node.ledger().proofs().count();
    assert_eq!(knows(&town), 1);
    town.restart(BAKERY_2);
    assert_eq!(knows(&town), 1);
}

#[test]
fn frozen_document_is_not_sent_to_and_fro() {
    let mut town = mesh();
    let key = town.machines[LIBRARY_2].secret.clone();
    let doc = DocId::public(DocKind::Capacity, org(&town, LIBRARY), key.public(), 0);
    let sides = [1_u32, 2].map(|slots| {
        let body = Body::Capacity(capacity(slots + 50));
        continued(&town, LIBRARY_2, doc, &key, vec![body])
    });
    for (index, side) in [BAKERY, BAKERY_2].into_iter().zip(sides) {
        town.say(index, LIBRARY_2, changes(side));
    }
    for _ in 0..80 {
        town.pass(Duration::from_millis(500));
    }
    town.sent = 0;
    for _ in 0..60 {
        town.pass(Duration::from_millis(500));
    }
    // Pings and summaries of four nodes for half a minute, and nothing else.
    assert!(town.sent < 250, "{} messages", town.sent);
}

#[test]
fn peer_that_claims_to_have_nothing_is_not_sent_everything_without_end() {
    let mut town = ordered();
    town.sent = 0;
    for _ in 0..100 {
        let list = Vec::new();
        let message = Message::Frontiers {
            complete: true,
            reply: true,
            list,
        };
        town.say(LIBRARY, BAKERY, message);
    }
    assert!(town.sent < 250, "{} messages", town.sent);
    for _ in 0..40 {
        town.pass(Duration::from_millis(500));
    }
    let heads = |index: usize| town.machines[index].node.ledger().heads();
    assert_eq!(heads(BAKERY), heads(BAKERY_2));
}

#[test]
fn another_order_cannot_take_the_address_of_a_service() {
    let mut town = ordered();
    let id = only_order(&town);
    let real = town.machines[BAKERY].node.view().orders[&id].clone();
    let holder = real.attempts[&1].node;
    let at = (0..4)
        .find(|i| town.machines[*i].node.id() == holder)
        .unwrap();
    let mut twin = real.order.clone();
    twin.name = "twin".parse().unwrap();
    let key = town.machines[BAKERY_2].secret.clone();
    let doc = DocId::between(
        DocKind::Outbox,
        org(&town, BAKERY),
        key.public(),
        org(&town, at),
        0,
    );
    let (mut ledger, wall) = (Ledger::new(), town.now().wall);
    let ids = ledger
        .append(doc, vec![Body::Order(twin.clone())], &key, 0, wall)
        .unwrap()
        .ids;
    let signed = ledger.entry(&ids[0]).unwrap().signed.clone();
    let ask = Ask {
        order: Box::new(signed.clone()),
        attempt: 1,
        node: holder,
        price: real.attempts[&1].price,
        agreement: None,
    };
    let ids = ledger
        .append(doc, vec![Body::Ask(ask)], &key, 0, wall)
        .unwrap()
        .ids;
    let ask = ledger.entry(&ids[0]).unwrap().signed.clone();
    let delta = ledger.since(&doc, 0, usize::MAX).unwrap();
    town.say(at, BAKERY_2, changes(delta));
    let order = signed.id();
    let sealed = serde_bytes::ByteBuf::from(vec![0; 64]);
    let (signed, ask) = (Box::new(signed), Box::new(ask));
    town.say(
        at,
        BAKERY_2,
        Message::Reserve {
            order: signed,
            ask,
            sealed,
        },
    );
    let attempt = &town.machines[at].node.view().orders[&order].attempts[&1];
    let refused = attempt.refused.as_ref().map(ToString::to_string);
    assert!(
        refused.is_some_and(|why| why.contains("address")),
        "{attempt:?}"
    );
}

#[test]
fn partner_tells_of_no_more_services_than_its_limit() {
    let mut town = mesh();
    let here = town.machines[LIBRARY].node.id();
    let tell = |number: u8| {
        let key = SecretKey::from_seed([number; 32]);
        let holder = Holder {
            service: ServiceId(key.public()),
            holders: vec![here],
            epoch: 1,
            not_after: town.now().wall + Duration::from_secs(3600),
        };
        Body::Holder(SignedHolder::sign(holder, &key))
    };
    let bodies = (100..200).map(tell).collect();
    let delta = forge(&town, LIBRARY, DocKind::Holders, BAKERY, bodies);
    town.say(BAKERY, LIBRARY, changes(delta));
    town.pass(Duration::from_secs(1));
    let bakery = &town.machines[BAKERY];
    assert_eq!(bakery.node.view().holders.len(), 100);
    let plan = bakery.plan.as_ref().unwrap();
    assert_eq!(plan.services.len(), GUEST_SERVICES_MAX);
}
