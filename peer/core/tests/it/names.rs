//! Names as whole nodes tell them: who may know which, and since when.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_api::names::{Bearer, Resolved};
use mesh_api::request::DesiredState;
use mesh_api::{ApiError, ErrorKind, Reply, Request};

use crate::town::Town;
use crate::trade::agree;
use crate::{mesh, order};

const BAKERY: usize = 0;
const LIBRARY: usize = 1;
const BAKERY_2: usize = 2;

fn resolve(town: &mut Town, index: usize, name: &str) -> Result<Resolved, ApiError> {
    let call = town.ask(index, Request::Resolve { name: name.into() });
    match town.answer(call)? {
        Reply::Resolved(resolved) => Ok(*resolved),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_unknown(town: &mut Town, index: usize, name: &str) {
    let refused = resolve(town, index, name).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound, "{refused:?}");
}

/// Lets word spread.
fn rest(town: &mut Town) {
    for _ in 0..60 {
        town.pass(Duration::from_millis(250));
    }
}

#[test]
fn service_has_a_name_from_its_order_to_its_end() {
    let (mut town, name) = (mesh(), "crm-db.bakery.mesh.internal");
    is_unknown(&mut town, BAKERY, name);
    let call = town.ask(BAKERY, order("crm-db"));
    assert!(town.answer(call).is_ok());
    rest(&mut town);
    let seen = resolve(&mut town, BAKERY, "crm-db").unwrap();
    assert_eq!((seen.name.as_str(), seen.bearer), (name, Bearer::Service));
    assert_eq!(
        (seen.owner.as_str(), seen.org.as_str()),
        ("bakery", "library")
    );
    for (index, asked) in [
        (BAKERY, "CRM-DB.Bakery."),
        (BAKERY_2, "crm-db"),
        (LIBRARY, name),
        (LIBRARY, &seen.address.to_string()),
    ] {
        assert_eq!(resolve(&mut town, index, asked).unwrap(), seen, "{asked}");
    }
    let gone = Request::SetState {
        name: "crm-db".parse().unwrap(),
        state: DesiredState::Destroyed,
    };
    let call = town.ask(BAKERY, gone);
    assert!(town.answer(call).is_ok());
    rest(&mut town);
    for index in [BAKERY, BAKERY_2, LIBRARY] {
        is_unknown(&mut town, index, name);
    }
}

#[test]
fn nodes_of_admitted_organisations_have_names_and_others_have_not() {
    let mut town = mesh();
    let florist = town.found("florist", 1);
    for (index, asked) in [(BAKERY, "library-1.library"), (LIBRARY, "library-1")] {
        let seen = resolve(&mut town, index, asked).unwrap();
        assert_eq!(
            (seen.node.as_str(), seen.bearer),
            ("library-1", Bearer::Node)
        );
        assert_eq!(seen.address, town.status(LIBRARY).address);
    }
    let own: Ipv6Addr = town.status(florist).address;
    assert_eq!(
        resolve(&mut town, florist, "florist-1").unwrap().address,
        own
    );
    is_unknown(&mut town, BAKERY, "florist-1.florist");
    is_unknown(&mut town, BAKERY, &own.to_string());
    is_unknown(&mut town, florist, "bakery-1.bakery");
}

#[test]
fn service_of_a_strangers_stays_unknown_at_whoever_has_no_agreement() {
    let mut town = mesh();
    let florist = town.found("florist", 0);
    let call = town.ask(BAKERY, order("crm-db"));
    assert!(town.answer(call).is_ok());
    rest(&mut town);
    is_unknown(&mut town, florist, "crm-db.bakery");
    // A partner's service that has nothing to do with us is unknown too.
    let call = town.ask(LIBRARY, order("diary"));
    assert!(town.answer(call).is_ok());
    rest(&mut town);
    assert!(resolve(&mut town, LIBRARY, "diary").is_ok());
    is_unknown(&mut town, BAKERY, "diary.library");
}

#[test]
fn two_partners_of_one_name_are_told_apart_by_their_keys() {
    let mut town = mesh();
    let twins = [town.found("twin", 1), town.found("twin", 1)];
    for twin in twins {
        agree(&mut town, twin, "0.20EUR/month");
    }
    rest(&mut town);
    let refused = resolve(&mut town, BAKERY, "twin-1.twin").unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused:?}");
    for twin in twins {
        let node = &town.machines[twin].node;
        let by_key = format!("twin-1.{}", node.chain().leaf().unwrap().org);
        assert!(refused.hint.contains(&by_key), "{refused:?}");
        let seen = resolve(&mut town, BAKERY, &by_key).unwrap();
        assert_eq!(seen.address, town.status(twin).address);
        assert_eq!(seen.name, format!("{by_key}.mesh.internal"));
        // To itself its own name is clear.
        assert!(resolve(&mut town, twin, "twin-1.twin").is_ok());
    }
}
