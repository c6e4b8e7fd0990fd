//! What the node says about its network, from what it has seen.

use mesh_api::netcheck::{Answer, NatKind, Netcheck};
use mesh_api::route::Way;
use mesh_api::{Reply, Request};
use mesh_base::address::NodeAddress;
use mesh_peer::explain::{Explained, SessionSeen};
use mesh_peer::netcheck::NetSeen;
use mesh_peer::port::{Input, LinkSeen};
use mesh_routing::carriage::{Carrier, Why};
use mesh_routing::portmap::{Mapping as Mapped, Report, Standing, Transport, Way as By, Wish};
use mesh_routing::reach::outer::Mapping;

use crate::mesh;
use crate::town::Town;

fn check(town: &mut Town, found: NetSeen) -> Netcheck {
    let call = town.ask(0, Request::Netcheck);
    let found = Explained::Netcheck(Box::new(found));
    town.feed(0, Input::Explained { call, found });
    match town.answer(call) {
        Ok(Reply::Netcheck(check)) => *check,
        other => panic!("{other:?}"),
    }
}

/// A session with another machine of the town, whose packets go through `next`.
fn session(town: &Town, peer: usize, next: Option<usize>) -> SessionSeen {
    let id = |index: usize| town.machines[index].node.id();
    SessionSeen {
        peer: id(peer),
        endpoint: Some("192.0.2.7:9".parse().unwrap()),
        silent_ms: Some(5),
        received_bytes: 0,
        sent_bytes: 0,
        relayed_bytes: 0,
        hops: Some(2),
        carrier: Carrier::Udp,
        next_hop: next.map(id),
        neighbour: None,
        up_ms: Some(70_000),
    }
}

fn link(town: &Town, peer: usize, link_silent_ms: Option<u64>) -> LinkSeen {
    LinkSeen {
        peer: town.machines[peer].node.id(),
        endpoint: link_silent_ms.map(|_| "192.0.2.7:9".parse().unwrap()),
        silent_ms: Some(5),
        link_silent_ms,
        received_bytes: 0,
        sent_bytes: 0,
        routed_count: 0,
        carrier: Carrier::Udp,
    }
}

fn underlay(town: &mut Town, wireguard: &[&str]) {
    let wireguard = wireguard.iter().map(|at| at.parse().unwrap()).collect();
    let control = vec!["127.0.0.1:9000".parse().unwrap()];
    let input = Input::Underlay {
        door: control.clone(),
        control,
        wireguard,
    };
    town.feed(0, input);
}

#[test]
fn each_path_is_told_with_why_it_is_not_direct_the_worst_first() {
    let mut town = mesh();
    let links = vec![
        link(&town, 1, Some(100)),
        link(&town, 2, None),
        link(&town, 3, Some(200)),
    ];
    town.feed(0, Input::Links(links));
    let sessions = vec![
        session(&town, 1, Some(1)),
        session(&town, 2, Some(1)),
        session(&town, 3, Some(1)),
    ];
    let found = NetSeen {
        sessions,
        ..NetSeen::default()
    };
    let told = check(&mut town, found);
    assert_eq!(told.udp.answer, Answer::Yes);
    assert_eq!(told.udp.sentence, "2 nodes answer by UDP");
    let [lost, near, direct] = &told.paths[..] else {
        panic!("{told:?}")
    };
    assert_eq!(lost.name, "bakery-2.bakery");
    assert!(matches!(&lost.path, Way::Around { via, .. } if via == "library-1.library"));
    let why = lost.why.as_deref().unwrap();
    assert_eq!(
        why,
        "it does not answer at 1 address: a router or a firewall is between"
    );
    assert_eq!(
        near.why.as_deref(),
        Some("the way through the other is shorter")
    );
    assert_eq!(
        (direct.name.as_str(), &direct.why),
        ("library-1.library", &None)
    );
    assert_eq!(direct.endpoint, Some("192.0.2.7:9".parse().unwrap()));
    assert_eq!(direct.since_ms, Some(70_000));
}

#[test]
fn udp_is_blocked_if_nobody_answers_whose_control_connection_works() {
    let mut town = mesh();
    let silent = [1, 2, 3].map(|peer| link(&town, peer, None));
    town.feed(0, Input::Links(silent.to_vec()));
    let found = NetSeen {
        sessions: vec![session(&town, 1, None)],
        ..NetSeen::default()
    };
    let told = check(&mut town, found);
    assert_eq!(told.udp.answer, Answer::No, "{}", told.udp.sentence);
    assert_eq!(told.paths[0].path, Way::None);
    assert_eq!(told.paths[0].why.as_deref(), Some("UDP does not pass here"));
    assert!(told.next[0].starts_with("let UDP out"), "{:?}", told.next);
    // A stream lives, and says nothing of UDP, unless it is there for long datagrams.
    let mut stream = link(&town, 1, Some(100));
    stream.carrier = Carrier::Stream(Why::Silent);
    town.feed(0, Input::Links(vec![stream.clone()]));
    assert_eq!(check(&mut town, NetSeen::default()).udp.answer, Answer::No);
    stream.carrier = Carrier::Stream(Why::Narrow);
    town.feed(0, Input::Links(vec![stream]));
    assert_eq!(check(&mut town, NetSeen::default()).udp.answer, Answer::Yes);
    // An old word of a link says nothing about now.
    let old = link(&town, 1, Some(100_000));
    town.feed(0, Input::Links(vec![old]));
    assert_eq!(check(&mut town, NetSeen::default()).udp.answer, Answer::No);
    for peer in 1..4 {
        let peer = town.machines[peer].node.id();
        town.feed(0, Input::Disconnected { peer });
    }
    assert_eq!(
        check(&mut town, NetSeen::default()).udp.answer,
        Answer::Unknown
    );
}

#[test]
fn mapped_port_is_no_address_of_our_own_and_ends_the_advice() {
    let mut town = mesh();
    let links = vec![link(&town, 1, Some(100))];
    town.feed(0, Input::Links(links));
    underlay(
        &mut town,
        &["192.168.1.7:9", "203.0.113.9:7", "127.0.0.1:9"],
    );
    let report = |ports: Vec<Mapped>| Report {
        standing: if ports.is_empty() {
            Standing::Silent
        } else {
            Standing::Mapped(By::Pcp)
        },
        gateway: Some("192.168.1.1".parse().unwrap()),
        mappings: ports,
    };
    let port = Mapped {
        wish: Wish {
            transport: Transport::Udp,
            port: 9,
        },
        external: "203.0.113.9:7".parse().unwrap(),
    };
    town.feed(0, Input::Mapped(report(vec![port])));
    let found = || NetSeen {
        seen: vec!["203.0.113.9:7".parse().unwrap()],
        mapping: Mapping::Same,
        ipv6: Some("2001:db8::5".parse().unwrap()),
        ..NetSeen::default()
    };
    let told = check(&mut town, found());
    assert_eq!(told.own, ["192.168.1.7:9".parse().unwrap()]);
    assert_eq!(told.nat.kind, NatKind::EndpointIndependent);
    assert_eq!(told.ipv6.answer, Answer::Yes);
    assert_eq!(told.next, [""; 0]);
    underlay(&mut town, &["192.168.1.7:9", "127.0.0.1:9"]);
    town.feed(0, Input::Mapped(report(Vec::new())));
    let told = check(&mut town, found());
    assert_eq!(told.next.len(), 1);
    assert!(told.next[0].contains("UDP port 9 here"), "{:?}", told.next);
}

#[test]
fn age_of_a_way_is_that_of_its_route() {
    let mut town = mesh();
    let seen = session(&town, 3, Some(1));
    let prefix = NodeAddress::of(&seen.peer).0;
    let found = NetSeen {
        routes: vec![crate::explain::seen_route(prefix, 4_000)],
        sessions: vec![seen],
        ..NetSeen::default()
    };
    assert_eq!(check(&mut town, found).paths[0].since_ms, Some(4_000));
}
