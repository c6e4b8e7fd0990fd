//! Whole nodes in a perfect world: the transcript of a first mesh, without programs or packets.

// Helpers of tests may stop the test: outside `#[test]` functions the lints do not know that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod causes;
mod clients;
mod crash;
mod explain;
mod forged;
mod guests;
mod hostile;
mod names;
mod neighbours;
mod netcheck;
mod screens;
mod standing;
mod town;
mod trade;

use std::time::Duration;

use mesh_api::request::{DesiredState, OrderRequest, Sale};
use mesh_api::{ErrorKind, Reply, Request};
use mesh_peer::port::Input;

use crate::town::Town;

fn order(name: &str) -> Request {
    let mut order = OrderRequest::of("postgres".parse().unwrap());
    order.name = Some(name.parse().unwrap());
    Request::Order(Box::new(order))
}

/// bakery-1, bakery-2 without capacity; library-1, library-2 with one slot each; an agreement.
fn mesh() -> Town {
    let mut town = Town::new();
    let bakery = town.found("bakery", 0);
    let library = town.found("library", 1);
    town.join(bakery, 0);
    town.join(library, 1);
    agree(&mut town, library, bakery);
    town
}

/// Lets one organisation sell to another.
fn agree(town: &mut Town, library: usize, bakery: usize) {
    let sell = vec![Sale {
        recipe: "postgres".parse().unwrap(),
        price: "0.12EUR/month".parse().unwrap(),
    }];
    let credit = "10EUR".parse().unwrap();
    let call = town.ask(
        library,
        Request::OrgInvite {
            sell,
            credit,
            valid_s: 600,
            settlement_days: 14,
        },
    );
    let Ok(Reply::OrgInvite { agreement, .. }) = town.answer(call) else {
        panic!("no offer")
    };
    let call = town.ask(bakery, Request::OrgAccept { agreement });
    let accepted = town.answer(call);
    assert!(matches!(accepted, Ok(Reply::OrgAccept(_))), "{accepted:?}");
    for _ in 0..8 {
        town.pass(Duration::from_millis(250));
    }
}

#[test]
fn contact_that_comes_before_its_agreement_is_not_lost() {
    let mut town = Town::new();
    let (bakery, library) = (town.found("bakery", 0), town.found("library", 1));
    let away = town.join(bakery, 0);
    town.leave(away);
    agree(&mut town, library, bakery);
    // At home again it hears of the library first, then of the agreement; and nobody of the library
    // comes to it, as if it were behind a router.
    town.leave(library);
    town.restart(away);
    for _ in 0..8 {
        town.pass(Duration::from_millis(250));
    }
    let known = town.status(away).peers;
    assert!(
        known.iter().any(|peer| peer.name == "library-1"),
        "{known:?}"
    );
}

#[test]
fn early_contacts_of_two_partners_wait_each_for_its_own_agreement() {
    let mut town = Town::new();
    let bakery = town.found("bakery", 0);
    let partners = ["library", "mill"].map(|name| town.found(name, 1));
    let away = town.join(bakery, 0);
    town.leave(away);
    for partner in partners {
        agree(&mut town, partner, bakery);
    }
    for partner in partners {
        town.leave(partner);
    }
    town.restart(away);
    for _ in 0..8 {
        town.pass(Duration::from_millis(250));
    }
    let status = town.status(away);
    for name in ["library-1", "mill-1"] {
        let is_known = status.peers.iter().any(|peer| peer.name == name);
        assert!(is_known, "{name}: {:?}", status.peers);
    }
    // Who came early is no stranger that was turned away.
    let refusals = &status.refusals;
    assert!(!refusals.contains_key("foreign-org"), "{refusals:?}");
}

#[test]
fn order_becomes_ready_on_the_other_organisations_node() {
    let mut town = mesh();
    let call = town.ask(0, order("crm-db"));
    let reply = town.answer(call);
    let Ok(Reply::Order(reply)) = reply else {
        panic!("{reply:?} {:?}", town.events)
    };
    assert_eq!(reply.org, "library");
    assert!(reply.safety.safe);
    assert!(3 <= reply.safety.copies, "{:?}", reply.safety);
    let url = reply.url.unwrap();
    assert!(
        url.starts_with("postgresql://crm:") && url.contains("[fd73:"),
        "{url}"
    );
    let steps: Vec<_> = town
        .events
        .iter()
        .map(|(_, event)| format!("{event:?}"))
        .collect();
    assert!(steps.iter().any(|s| s.contains("Reserved")), "{steps:?}");
}

#[test]
fn third_order_finds_no_slot_and_is_told_why() {
    let mut town = mesh();
    for name in ["a", "b"] {
        let call = town.ask(0, order(name));
        assert!(town.answer(call).is_ok());
    }
    let call = town.ask(2, order("c"));
    let error = town.answer(call).unwrap_err();
    assert_eq!(error.kind, ErrorKind::CannotPlace);
    assert!(error.cause.contains("slots"), "{error:?}");
}

#[test]
fn destroyed_service_frees_its_slot_and_its_name() {
    let mut town = mesh();
    let name: mesh_base::name::Name = "a".parse().unwrap();
    for _ in 0..3 {
        let call = town.ask(0, order("a"));
        assert!(town.answer(call).is_ok());
        for state in [
            DesiredState::Stopped,
            DesiredState::Running,
            DesiredState::Destroyed,
        ] {
            let call = town.ask(
                0,
                Request::SetState {
                    name: name.clone(),
                    state,
                },
            );
            let reply = town.answer(call);
            assert!(
                matches!(&reply, Ok(Reply::State { state: now, .. }) if *now == state),
                "{reply:?}"
            );
        }
    }
}

#[test]
fn usage_becomes_an_invoice_that_the_customer_recomputes() {
    let mut town = mesh();
    let call = town.ask(0, order("a"));
    assert!(town.answer(call).is_ok());
    town.pass(Duration::from_secs(1800));
    let call = town.ask(0, Request::UsageNow { name: None });
    assert!(matches!(town.answer(call), Ok(Reply::Usage { usage }) if usage.len() == 1));
    town.pass(Duration::from_secs(1000));
    let mut seen = Vec::new();
    for node in [0, 1] {
        let call = town.ask(node, Request::InvoiceLs);
        let Ok(Reply::Invoices { invoices }) = town.answer(call) else {
            panic!("no list")
        };
        assert_eq!(invoices.len(), 1, "node {node}");
        let number = invoices[0].number.clone();
        let call = town.ask(
            node,
            Request::InvoiceVerify {
                number: number.clone(),
            },
        );
        let Ok(Reply::Verdict(verdict)) = town.answer(call) else {
            panic!("no verdict")
        };
        assert!(verdict.holds, "{verdict:?}");
        let call = town.ask(node, Request::InvoiceShow { number });
        let Ok(Reply::Invoice(invoice)) = town.answer(call) else {
            panic!("no invoice")
        };
        assert!(0 < invoice.total.micros);
        seen.push((invoice.digest, invoice.total));
    }
    assert_eq!(seen[0], seen[1]);
    for node in 0..4 {
        let call = town.ask(node, Request::LedgerVerify);
        let Ok(Reply::Verdict(verdict)) = town.answer(call) else {
            panic!("no verdict")
        };
        assert!(verdict.holds, "node {node}: {verdict:?}");
    }
}

#[test]
fn restart_of_everybody_keeps_the_service_and_the_books() {
    let mut town = mesh();
    let call = town.ask(0, order("a"));
    assert!(town.answer(call).is_ok());
    for node in 0..4 {
        town.restart(node);
        town.pass(Duration::from_secs(30));
    }
    let call = town.ask(
        0,
        Request::Show {
            name: "a".parse().unwrap(),
        },
    );
    let Ok(Reply::Show(show)) = town.answer(call) else {
        panic!("no show")
    };
    assert_eq!(show.state, mesh_api::service::ServiceState::Ready);
    assert!(show.fields.contains_key("url"), "{:?}", show.fields);
}

#[test]
fn replicas_are_equal_where_both_may_read() {
    let mut town = mesh();
    let call = town.ask(0, order("a"));
    assert!(town.answer(call).is_ok());
    town.pass(Duration::from_secs(60));
    let (a, b) = (
        town.machines[0].node.ledger().heads(),
        town.machines[2].node.ledger().heads(),
    );
    assert_eq!(a, b);
}

#[test]
fn connection_that_is_told_again_repeats_what_was_lost() {
    let mut town = mesh();
    town.machines[0].silent = true;
    let call = town.ask(0, order("crm-db"));
    town.machines[0].silent = false;
    let asked = |town: &Town| town.machines[1].node.view().orders.len();
    assert_eq!(asked(&town), 0, "the order was said to nobody");
    let peer = &town.machines[1].node;
    let told = Input::Connected {
        peer: peer.id(),
        chain: peer.chain().clone(),
        seen: None,
    };
    town.feed(0, told);
    assert_eq!(asked(&town), 1, "at once, not when notes are compared");
    assert!(town.answer(call).is_ok());
}
