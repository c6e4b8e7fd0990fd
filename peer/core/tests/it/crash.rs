//! Power cuts between any two entries of any journal: what was promised holds after the restart.
//!
//! The disk of one node takes so many entries of an order's trip and then fails; what the node has
//! said up to there is believed by the others, and what its drivers have started runs on.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_api::request::DesiredState;
use mesh_api::{Reply, Request};
use mesh_compute::step::{ItemId, Step};
use mesh_ledger::record::{Body, RecordId};

use crate::town::Town;
use crate::{mesh, order};

/// Asks until it works: whoever is dead is revived between two attempts.
fn until(town: &mut Town, street: bool, what: &str, request: &Request) {
    let mut last = None;
    for _ in 0..8 {
        let call = town.ask(0, request.clone());
        last = town.maybe_answer(call, 60);
        let done = match (&last, request) {
            (Some(Ok(_)), _) => true,
            // Ordered in the life before.
            (Some(Err(_)), Request::Order(_)) => is_ready(town),
            _ => false,
        };
        revive(town, street);
        if done {
            return;
        }
    }
    panic!("{what} never worked: {last:?}");
}

/// Starts again who is dead; if the whole street lost its power, everybody.
fn revive(town: &mut Town, street: bool) {
    let dead: Vec<usize> = (0..town.machines.len())
        .filter(|index| town.machines[*index].dead)
        .collect();
    if dead.is_empty() {
        return;
    }
    town.pass(Duration::from_secs(1));
    let all = (0..town.machines.len()).collect();
    let down = if street { all } else { dead };
    for index in &down {
        town.restart(*index);
        remembers_what_it_runs(town, *index);
    }
    for _ in 0..40 {
        town.pass(Duration::from_millis(250));
    }
}

fn is_ready(town: &mut Town) -> bool {
    for _ in 0..60 {
        let name = "a".parse().unwrap();
        let call = town.ask(0, Request::Show { name });
        if let Some(Ok(Reply::Show(show))) = town.maybe_answer(call, 1)
            && show.state == mesh_api::service::ServiceState::Ready
        {
            return true;
        }
        town.pass(Duration::from_millis(250));
    }
    false
}

/// No step has left for an order whose grant the disk does not know.
fn remembers_what_it_runs(town: &Town, index: usize) {
    let machine = &town.machines[index];
    for step in &machine.steps {
        let Step::Create(spec) = step else { continue };
        let view = &machine.node.view().orders[&RecordId(spec.item.0)];
        let held = view
            .attempts
            .values()
            .any(|attempt| attempt.node == machine.node.id() && attempt.granted.is_some());
        assert!(held, "node {index} has forgotten a grant that it acted on");
    }
}

fn trip(town: &mut Town, street: bool) {
    until(town, street, "order", &order("a"));
    town.pass(Duration::from_secs(100));
    until(town, street, "usage", &Request::UsageNow { name: None });
    for state in [
        DesiredState::Stopped,
        DesiredState::Running,
        DesiredState::Destroyed,
    ] {
        let name = "a".parse().unwrap();
        until(town, street, "state", &Request::SetState { name, state });
    }
    for _ in 0..60 {
        town.pass(Duration::from_secs(1));
    }
    revive(town, street);
    for _ in 0..60 {
        town.pass(Duration::from_secs(1));
    }
}

fn promises_hold(town: &mut Town) {
    let mut executed: BTreeSet<ItemId> = BTreeSet::new();
    for machine in &town.machines {
        let created = machine.steps.iter().filter_map(|step| match step {
            Step::Create(spec) => Some(spec.item),
            _ => None,
        });
        for item in created.collect::<BTreeSet<_>>() {
            assert!(executed.insert(item), "an order was executed twice");
        }
        assert!(machine.running.is_empty(), "something is left running");
    }
    for index in 0..town.machines.len() {
        usage_has_no_gap(town, index);
        let call = town.ask(index, Request::LedgerVerify);
        let Ok(Reply::Verdict(verdict)) = town.answer(call) else {
            panic!("no verdict")
        };
        assert!(verdict.holds, "node {index}: {verdict:?}");
    }
    // Nothing of the two slots leaked away.
    for name in ["x", "y"] {
        let call = town.ask(0, order(name));
        let reply = town.answer(call);
        assert!(reply.is_ok(), "{name}: {reply:?}");
    }
}

fn usage_has_no_gap(town: &Town, index: usize) {
    let mut spans = std::collections::BTreeMap::new();
    for entry in town.machines[index].node.ledger().all_entries() {
        if let Body::Usage(usage) = &entry.signed.record.body {
            let key = (usage.item, usage.sequence);
            let old = spans.insert(key, (usage.from, usage.to));
            assert_eq!(old, None, "node {index}: a statement was made twice");
        }
    }
    let mut before = None;
    for ((item, sequence), (from, to)) in spans {
        match before {
            Some((last, number, end)) if last == item => {
                assert_eq!((sequence, from), (number + 1, end), "node {index}");
            }
            _ => assert_eq!(sequence, 1, "node {index}"),
        }
        before = Some((item, sequence, to));
    }
}

fn cut_everywhere(index: usize, street: bool) {
    let mut town = mesh();
    let first = town.machines[index].journal.len();
    trip(&mut town, street);
    let last = town.machines[index].journal.len();
    promises_hold(&mut town);
    for room in first..last {
        let mut town = mesh();
        town.machines[index].room = Some(room);
        eprintln!("node {index}: entry {room} of {first}..{last}");
        trip(&mut town, street);
        promises_hold(&mut town);
    }
}

#[test]
fn customer_may_lose_power_between_any_two_entries() {
    cut_everywhere(0, false);
}

#[test]
fn seller_and_its_leader_may_lose_power_between_any_two_entries() {
    cut_everywhere(1, false);
}

#[test]
fn street_may_lose_power_between_any_two_entries_of_the_customer() {
    cut_everywhere(0, true);
}

#[test]
fn street_may_lose_power_between_any_two_entries_of_the_seller() {
    cut_everywhere(1, true);
}

#[test]
fn neighbours_of_both_may_lose_power_between_any_two_entries() {
    cut_everywhere(2, true);
    cut_everywhere(3, true);
}
