//! Wishes and money at awkward moments: late attempts, changed minds, ends of months, equal names.

use std::time::Duration;

use mesh_api::request::{DesiredState, Sale};
use mesh_api::service::ServiceState;
use mesh_api::{ErrorKind, Reply, Request};
use mesh_base::time::Wall;
use mesh_ledger::record::Body;

use crate::town::Town;
use crate::{mesh, order};

const BAKERY: usize = 0;
const LIBRARY: usize = 1;
const BAKERY_2: usize = 2;

/// 2026-11-30T23:50:00Z.
const LATE: Wall = Wall(1_796_082_600_000);

/// Lets the bakery buy from one more seller.
pub fn agree(town: &mut Town, seller: usize, price: &str) {
    let recipe = "postgres".parse().unwrap();
    let price = price.parse().unwrap();
    let invite = Request::OrgInvite {
        sell: vec![Sale { recipe, price }],
        credit: "10EUR".parse().unwrap(),
        valid_s: 600,
        settlement_days: 14,
    };
    let call = town.ask(seller, invite);
    let Ok(Reply::OrgInvite { agreement, .. }) = town.answer(call) else {
        panic!("no offer")
    };
    let call = town.ask(BAKERY, Request::OrgAccept { agreement });
    assert!(town.answer(call).is_ok());
    for _ in 0..8 {
        town.pass(Duration::from_millis(250));
    }
}

#[test]
fn last_minutes_of_a_month_are_billed_in_it() {
    let mut town = mesh();
    let call = town.ask(BAKERY, order("a"));
    assert!(town.answer(call).is_ok());
    let rest = u64::try_from(LATE - town.now().wall).unwrap();
    town.pass(Duration::from_millis(rest));
    town.pass(Duration::from_secs(1));
    // The draft has just been written: the next one is due after midnight.
    town.pass(Duration::from_secs(540));
    let call = town.ask(BAKERY, Request::UsageNow { name: None });
    assert!(town.answer(call).is_ok());
    for _ in 0..8 {
        town.pass(Duration::from_secs(600));
    }
    let ledger = town.machines[BAKERY].node.ledger();
    let mut used = 0;
    for entry in ledger.all_entries() {
        if let Body::Usage(usage) = &entry.signed.record.body
            && usage.period().month == 11
        {
            used += usage.reserved_ms;
        }
    }
    let invoices = town.machines[BAKERY].node.view().invoices.values();
    let billed: u64 = invoices
        .filter(|(_, _, invoice)| invoice.period.month == 11)
        .flat_map(|(_, _, invoice)| &invoice.lines)
        .map(|line| line.reserved_ms)
        .sum();
    assert_eq!(billed, used);
}

#[test]
fn draft_that_a_restart_interrupted_is_written_after_it() {
    let mut town = mesh();
    let call = town.ask(BAKERY, order("a"));
    assert!(town.answer(call).is_ok());
    for _ in 0..2 {
        town.pass(Duration::from_secs(60));
        let call = town.ask(BAKERY, Request::UsageNow { name: None });
        assert!(town.answer(call).is_ok());
    }
    let cited = |town: &Town| {
        let mut invoices = town.machines[LIBRARY].node.view().invoices.values();
        invoices
            .next()
            .map(|(_, _, invoice)| invoice.lines[0].usage_to)
    };
    assert_eq!(cited(&town), Some(1), "the second draft is not due yet");
    town.restart(LIBRARY);
    town.pass(Duration::from_secs(1));
    assert_eq!(cited(&town), Some(2));
}

#[test]
fn program_that_waits_for_an_order_is_told_that_it_was_called_off() {
    let mut town = mesh();
    for index in [1, 3] {
        town.machines[index].silent = true;
    }
    let waiting = town.ask(BAKERY, order("a"));
    let name = "a".parse().unwrap();
    let state = DesiredState::Destroyed;
    let call = town.ask(BAKERY, Request::SetState { name, state });
    assert!(town.answer(call).is_ok());
    let error = town.answer(waiting).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
}

#[test]
fn each_of_two_nodes_means_its_own_order_by_an_equal_name() {
    let mut town = mesh();
    town.machines[BAKERY].silent = true;
    let first = town.ask(BAKERY, order("a"));
    let second = town.ask(BAKERY_2, order("a"));
    town.machines[BAKERY].silent = false;
    for call in [first, second] {
        assert!(town.answer(call).is_ok());
    }
    for _ in 0..40 {
        town.pass(Duration::from_millis(500));
    }
    for index in [BAKERY, BAKERY_2] {
        let name: mesh_base::name::Name = "a".parse().unwrap();
        let call = town.ask(index, Request::Show { name: name.clone() });
        let Ok(Reply::Show(show)) = town.answer(call) else {
            panic!("no show")
        };
        assert_eq!(show.state, ServiceState::Ready);
        assert!(show.fields.contains_key("url"), "node {index}");
        let state = DesiredState::Destroyed;
        let call = town.ask(index, Request::SetState { name, state });
        let reply = town.answer(call);
        assert!(reply.is_ok(), "node {index}: {reply:?}");
    }
}

#[test]
fn node_that_is_asked_late_knows_that_the_service_should_be_stopped() {
    let mut town = mesh();
    // A third organisation, dearer and therefore last.
    let forge = town.found("forge", 1);
    agree(&mut town, forge, "0.50EUR/month");
    for index in [1, 3, forge] {
        town.machines[index].silent = true;
    }
    let _waiting = town.ask(BAKERY, order("a"));
    let name: mesh_base::name::Name = "a".parse().unwrap();
    let state = DesiredState::Stopped;
    let call = town.ask(
        BAKERY,
        Request::SetState {
            name: name.clone(),
            state,
        },
    );
    assert!(town.answer(call).is_ok());
    for _ in 0..10 {
        town.pass(Duration::from_millis(250));
    }
    for index in [1, 3, forge] {
        town.machines[index].silent = index != forge;
    }
    for _ in 0..80 {
        town.pass(Duration::from_millis(250));
    }
    let call = town.ask(BAKERY, Request::Show { name });
    let Ok(Reply::Show(show)) = town.answer(call) else {
        panic!("no show")
    };
    assert_eq!(show.state, ServiceState::Stopped, "{show:?}");
    assert_eq!(show.org.as_deref(), Some("forge"));
    assert!(
        town.machines
            .iter()
            .all(|machine| machine.running.is_empty())
    );
}

#[test]
fn service_whose_recipe_is_gone_can_still_be_destroyed() {
    let mut town = mesh();
    let call = town.ask(BAKERY, order("a"));
    let Ok(Reply::Order(reply)) = town.answer(call) else {
        panic!("no order")
    };
    let holder = if reply.node == "library-1" { 1 } else { 3 };
    town.machines[holder].bare = true;
    town.restart(holder);
    town.pass(Duration::from_secs(10));
    let name = "a".parse().unwrap();
    let state = DesiredState::Destroyed;
    let call = town.ask(BAKERY, Request::SetState { name, state });
    let done = town.answer(call);
    assert!(matches!(done, Ok(Reply::State { .. })), "{done:?}");
    assert!(town.machines[holder].running.is_empty());
}
