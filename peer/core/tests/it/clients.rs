//! Clients of a node: let in, remembered over a restart, listed, removed.

use mesh_api::client::{ClientAdded, ClientRow, WireguardKey};
use mesh_api::{ErrorKind, Reply, Request};
use mesh_base::address::NodeAddress;
use mesh_peer::explain::{ClientSeen, Explained};
use mesh_peer::port::Input;
use mesh_routing::limits::CLIENTS_MAX;

use crate::mesh;
use crate::screens::Screens;
use crate::town::Town;

fn add(name: &str, key: [u8; 32]) -> Request {
    Request::ClientAdd {
        name: name.parse().unwrap(),
        key: WireguardKey(key),
    }
}

fn remove(name: &str) -> Request {
    Request::ClientRemove {
        name: name.parse().unwrap(),
    }
}

fn added(town: &mut Town, name: &str, key: [u8; 32]) -> ClientAdded {
    let call = town.ask(0, add(name, key));
    match town.answer(call) {
        Ok(Reply::ClientAdded(added)) => *added,
        other => panic!("{other:?}"),
    }
}

fn listed(town: &mut Town, seen: Vec<ClientSeen>) -> Vec<ClientRow> {
    let call = town.ask(0, Request::ClientLs);
    let found = Explained::Clients(seen);
    town.feed(0, Input::Explained { call, found });
    match town.answer(call) {
        Ok(Reply::Clients { clients }) => clients,
        other => panic!("{other:?}"),
    }
}

#[test]
fn client_is_let_in_listed_and_removed_and_a_restart_changes_nothing() {
    let mut town = mesh();
    let id = town.machines[0].node.id();
    let phone = added(&mut town, "phone", [1; 32]);
    assert_eq!(phone.node, "bakery-1.bakery");
    assert_eq!(phone.node_key, WireguardKey(id.key().to_x25519()));
    assert_eq!(phone.networks, ["fd6d::/16", "fd73::/16"]);
    assert_eq!(phone.mtu, 1280);
    let own = NodeAddress::of(&id).0;
    assert_eq!(phone.address.segments()[..4], own.segments()[..4]);
    let tablet = added(&mut town, "tablet", [2; 32]);
    let told = [(phone.address, [1; 32]), (tablet.address, [2; 32])];
    assert_eq!(town.machines[0].clients, told.into());

    let seen = ClientSeen {
        address: phone.address,
        endpoint: Some("192.0.2.7:9".parse().unwrap()),
        silent_ms: Some(5),
        received_bytes: 6,
        sent_bytes: 7,
    };
    let rows = listed(&mut town, vec![seen]);
    let [first, second] = &rows[..] else {
        panic!("two rows: {rows:?}")
    };
    assert_eq!(
        (first.name.as_str(), first.address),
        ("phone", phone.address)
    );
    assert_eq!(
        (first.silent_ms, first.received_bytes, first.sent_bytes),
        (Some(5), 6, 7)
    );
    assert_eq!((second.name.as_str(), second.silent_ms), ("tablet", None));
    let since = first.since;

    let call = town.ask(0, remove("tablet"));
    assert!(matches!(town.answer(call), Ok(Reply::ClientRemoved { name }) if name == "tablet"));
    let left = [(phone.address, [1; 32])];
    assert_eq!(town.machines[0].clients, left.into());

    town.machines[0].clients.clear();
    town.restart(0);
    assert_eq!(town.machines[0].clients, left.into());
    let rows = listed(&mut town, Vec::new());
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].since, since);

    // A name and a key that were given back are free again.
    let again = added(&mut town, "tablet", [2; 32]);
    assert_eq!(again.address, tablet.address);
}

/// What the node says no to, for the list of screens.
pub fn refusals(screens: &mut Screens) {
    use ErrorKind::{Conflict, NotFound};
    let mut town = mesh();
    let town = &mut town;
    screens.meet(
        town,
        0,
        remove("phone"),
        NotFound,
        "there is no client \"phone\" here",
    );
    added(town, "phone", [255; 32]);
    let cause = "there is a client \"phone\" already";
    screens.meet(town, 0, add("phone", [1; 32]), Conflict, cause);
    let cause = "this is the key of the client \"phone\"";
    screens.meet(town, 0, add("tablet", [255; 32]), Conflict, cause);
    let other = town.machines[1].node.id().key().to_x25519();
    let cause = "this is the key of the node library-1.library";
    screens.meet(town, 0, add("tablet", other), Conflict, cause);
    for number in 1..u8::try_from(CLIENTS_MAX).unwrap() {
        added(town, &format!("c{number}"), [number; 32]);
    }
    let cause = "this node has 32 clients already";
    screens.meet(town, 0, add("tablet", [254; 32]), Conflict, cause);
}
