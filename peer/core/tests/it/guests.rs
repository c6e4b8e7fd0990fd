//! Whom an order lets in: at the door of its provider, and who learns where it is.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_api::request::{DesiredState, OrderRequest, Sale};
use mesh_api::{Reply, Request};
use mesh_base::identity::NodeId;
use mesh_routing::plan::Plan;

use crate::mesh;
use crate::town::Town;

const BAKERY: usize = 0;
const LIBRARY: usize = 1;
const BAKERY_2: usize = 2;
const LIBRARY_2: usize = 3;
const MILL: usize = 4;

/// Lets two organisations sign an agreement.
fn agree(town: &mut Town, seller: usize, buyer: usize) {
    let invite = Request::OrgInvite {
        sell: vec![Sale {
            recipe: "postgres".parse().unwrap(),
            price: "1EUR/month".parse().unwrap(),
        }],
        credit: "10EUR".parse().unwrap(),
        valid_s: 600,
        settlement_days: 14,
    };
    let call = town.ask(seller, invite);
    let Ok(Reply::OrgInvite { agreement, .. }) = town.answer(call) else {
        panic!("no offer")
    };
    let call = town.ask(buyer, Request::OrgAccept { agreement });
    assert!(town.answer(call).is_ok());
    settle(town);
}

fn settle(town: &mut Town) {
    for _ in 0..12 {
        town.pass(Duration::from_millis(250));
    }
}

/// The bakery's order at the library's; returns the service's address.
fn ordered(town: &mut Town, allow: &[&str]) -> Ipv6Addr {
    let mut order = OrderRequest::of("postgres".parse().unwrap());
    order.name = Some("crm-db".parse().unwrap());
    order.node = Some("library-1".parse().unwrap());
    order.allow = allow.iter().map(|who| who.parse().unwrap()).collect();
    let call = town.ask(BAKERY, Request::Order(Box::new(order)));
    let reply = town.answer(call);
    settle(town);
    match reply {
        Ok(Reply::Order(reply)) => reply.address,
        other => panic!("{other:?}"),
    }
}

fn plan(town: &Town, index: usize) -> &Plan {
    town.machines[index].plan.as_ref().unwrap()
}

/// Whom the library's door lets in, by machine.
fn let_in(town: &Town) -> Vec<usize> {
    let instances = &plan(town, LIBRARY).instances;
    let [instance] = instances.values().collect::<Vec<_>>()[..] else {
        panic!("{instances:?}")
    };
    let own = |index: &usize| instance.allow.contains(&plan(town, *index).own);
    (0..town.machines.len()).filter(own).collect()
}

/// Where a machine sends packets for a service.
fn way(town: &Town, index: usize, service: Ipv6Addr) -> Option<NodeId> {
    plan(town, index).services.get(&service).copied()
}

fn destroy(town: &mut Town) {
    let name = "crm-db".parse().unwrap();
    let state = DesiredState::Destroyed;
    let call = town.ask(BAKERY, Request::SetState { name, state });
    assert!(town.answer(call).is_ok());
    settle(town);
}

/// The mesh of two, and a mill that has agreements with both.
fn three() -> Town {
    let mut town = mesh();
    assert_eq!(town.found("mill", 0), MILL);
    agree(&mut town, LIBRARY, MILL);
    agree(&mut town, BAKERY, MILL);
    town
}

#[test]
fn without_a_word_only_the_customers_organisation_is_let_in() {
    let mut town = three();
    let service = ordered(&mut town, &[]);
    assert_eq!(let_in(&town), [BAKERY, BAKERY_2]);
    assert_eq!(way(&town, MILL, service), None);
}

#[test]
fn guest_is_let_in_and_told_the_way_until_the_order_ends() {
    let mut town = three();
    let service = ordered(&mut town, &["org:mill"]);
    assert_eq!(let_in(&town), [BAKERY, BAKERY_2, MILL]);
    let library = town.machines[LIBRARY].node.id();
    for index in [BAKERY, BAKERY_2, LIBRARY_2, MILL] {
        assert_eq!(way(&town, index, service), Some(library), "{index}");
    }
    let name = "crm-db".parse().unwrap();
    let call = town.ask(BAKERY, Request::Show { name });
    let Ok(Reply::Show(shown)) = town.answer(call) else {
        panic!("no show")
    };
    assert_eq!(shown.allowed, ["bakery", "mill"]);

    destroy(&mut town);
    assert!(plan(&town, LIBRARY).instances.is_empty());
    for index in [BAKERY, BAKERY_2, LIBRARY_2, MILL] {
        assert_eq!(way(&town, index, service), None, "{index}");
    }
}

#[test]
fn mesh_lets_everybody_in_also_who_comes_later() {
    let mut town = mesh();
    let service = ordered(&mut town, &["mesh"]);
    assert_eq!(let_in(&town), [BAKERY, LIBRARY, BAKERY_2, LIBRARY_2]);
    assert_eq!(town.found("mill", 0), MILL);
    agree(&mut town, LIBRARY, MILL);
    agree(&mut town, BAKERY, MILL);
    town.pass(Duration::from_secs(2));
    settle(&mut town);
    assert_eq!(let_in(&town), [BAKERY, LIBRARY, BAKERY_2, LIBRARY_2, MILL]);
    let library = town.machines[LIBRARY].node.id();
    assert_eq!(way(&town, MILL, service), Some(library));
}

#[test]
fn guests_survive_a_restart_of_everybody() {
    let mut town = three();
    let service = ordered(&mut town, &["org:mill"]);
    for index in [BAKERY, LIBRARY, MILL] {
        town.restart(index);
    }
    settle(&mut town);
    assert_eq!(let_in(&town), [BAKERY, BAKERY_2, MILL]);
    let library = town.machines[LIBRARY].node.id();
    assert_eq!(way(&town, MILL, service), Some(library));
    destroy(&mut town);
    assert_eq!(way(&town, MILL, service), None);
}
