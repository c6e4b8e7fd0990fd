//! Clients: stock WireGuard devices behind a node, made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use mesh_dataplane::{Dataplane, HostAccess};
use mesh_routing::access::CONTROL_PORT;
use mesh_routing::answer::answer;
use mesh_routing::limits::CLIENTS_MAX;
use mesh_routing::packet::build;
use mesh_routing::plan::InstancePlan;
use mesh_routing::probe::PROBE_PORT;
use mesh_routing::table::DropReason;
use mesh_routing::talk::{BABEL_GROUP, Talk, link_local, write};
use mesh_routing::transit::PARCEL_PORT;

use crate::ground::{ITEM, Node, Outside, PATIENCE, SERVICE, eventually, id, secret, start};
use crate::hand::Hand;
use crate::mesh::{address, line, links_up, mesh_plan};

/// The number of the device whose key it is; no node has it.
const PHONE: u8 = 9;
const TABLET: u8 = 8;

/// In the /64 of node 1.
fn of_client(number: u8) -> Ipv6Addr {
    let [a, b, c, d, ..] = address(1).segments();
    Ipv6Addr::new(a, b, c, d, 5, 5, 5, u16::from(number))
}

fn let_in(plane: &Dataplane, numbers: &[u8]) {
    let clients = numbers.iter().map(|number| {
        let key = secret(*number).public().to_x25519();
        (of_client(*number), key)
    });
    plane.set_clients(&clients.collect());
}

/// Nodes in a line, and a phone that node 1 has let in.
fn line_with_phone(count: u8) -> (Vec<Node>, Hand) {
    let nodes: Vec<Node> = (1..=count)
        .map(|number| start(number, HostAccess::AnswersOnly))
        .collect();
    line(&nodes);
    for (own, node) in (1..).zip(&nodes) {
        let all: Vec<u8> = [own - 1, own + 1].into();
        let neighbours: Vec<u8> = all
            .into_iter()
            .filter(|it| (1..=count).contains(it))
            .collect();
        eventually("links are up", || links_up(node, &neighbours));
    }
    let_in(&nodes[0].plane, &[PHONE]);
    let mut phone = Hand::new(PHONE, &[1]);
    phone.meet(1, nodes[0].plane.local_port());
    (nodes, phone)
}

#[track_caller]
fn comes(phone: &mut Hand) -> Vec<u8> {
    let start = Instant::now();
    loop {
        if let Some((_, packet)) = phone.receive() {
            return packet;
        }
        assert!(start.elapsed() < PATIENCE, "nothing comes to the phone");
    }
}

fn dropped(node: &Node, reason: DropReason) -> u64 {
    let drops = node.plane.drops();
    let found = drops.iter().find(|(seen, _)| *seen == reason);
    found.map_or(0, |(_, count)| *count)
}

fn ping(from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    build::icmp(from, to, 128, 7, b"from a phone")
}

fn pong(from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    build::icmp(from, to, 129, 7, b"from a phone")
}

#[test]
fn client_reaches_its_node_and_a_far_one() {
    let (nodes, mut phone) = line_with_phone(3);
    for number in [1, 3] {
        let host = &nodes[usize::from(number) - 1].host;
        let ask = ping(of_client(PHONE), address(number));
        assert!(phone.send(1, &ask));
        host.expect(&ask);
        let told = pong(address(number), of_client(PHONE));
        host.put(&told);
        assert_eq!(comes(&mut phone), told);
    }
    let [seen] = &nodes[0].plane.clients()[..] else {
        panic!("one client")
    };
    let len = ping(of_client(PHONE), address(1)).len() as u64;
    assert_eq!(seen.address, of_client(PHONE));
    assert_eq!((seen.received_bytes, seen.sent_bytes), (2 * len, 2 * len));
    assert_eq!(seen.endpoint.unwrap().port(), phone.port());
    assert!(nodes[0].plane.links().iter().all(|it| it.peer != id(PHONE)));
}

/// Puts an instance onto a node that lets only this node in.
fn offer(node: &Node, own: u8, neighbour: u8, far: u8, guest: u8) -> Outside {
    let mut here = mesh_plan(own, &[(neighbour, None)], &[far]);
    here.services.insert(SERVICE, id(own));
    let instance = InstancePlan {
        address: SERVICE,
        allow: BTreeSet::from([address(guest)]),
    };
    here.instances.insert(ITEM, instance);
    let (outside, tun) = Outside::pair();
    node.plane.apply(&here);
    node.plane.attach(ITEM, tun).unwrap();
    outside
}

#[test]
fn service_lets_a_client_in_where_it_lets_its_node_in() {
    let (nodes, mut phone) = line_with_phone(3);
    let mut here = mesh_plan(1, &[(2, None)], &[3]);
    here.services.insert(SERVICE, id(3));
    nodes[0].plane.apply(&here);
    let (from, service) = ((of_client(PHONE), 40_000), (SERVICE, 5432));
    let ask = build::tcp(from, service, 0x02);

    let instance = offer(&nodes[2], 3, 2, 1, 1);
    assert!(phone.send(1, &ask));
    instance.expect(&ask);
    let told = build::tcp(service, from, 0x12);
    instance.put(&told);
    assert_eq!(comes(&mut phone), told);

    let _instance = offer(&nodes[2], 3, 2, 1, 2);
    assert!(phone.send(1, &ask));
    let denied = answer(&ask, DropReason::Denied).unwrap();
    assert_eq!(comes(&mut phone), denied, "it is told that it is denied");
}

#[test]
fn client_is_told_that_nobody_has_an_address() {
    let (_nodes, mut phone) = line_with_phone(1);
    let ask = ping(of_client(PHONE), SERVICE);
    assert!(phone.send(1, &ask));
    let told = answer(&ask, DropReason::Unreachable).unwrap();
    assert_eq!(comes(&mut phone), told);
}

#[test]
fn nobody_begins_with_a_client() {
    let (nodes, mut phone) = line_with_phone(2);
    let_in(&nodes[0].plane, &[PHONE, TABLET]);
    let mut tablet = Hand::new(TABLET, &[1]);
    tablet.meet(1, nodes[0].plane.local_port());
    nodes[1].host.put(&ping(address(2), of_client(PHONE)));
    eventually("another node's question ends at the door", || {
        dropped(&nodes[0], DropReason::Unasked) == 1
    });
    nodes[0].host.put(&ping(address(1), of_client(PHONE)));
    eventually("its own node's too", || {
        dropped(&nodes[0], DropReason::Unasked) == 2
    });
    assert!(tablet.send(1, &ping(of_client(TABLET), of_client(PHONE))));
    eventually("another client's too", || {
        dropped(&nodes[0], DropReason::Unasked) == 3
    });
    assert_eq!(phone.receive(), None);
}

#[test]
fn hostile_client_gets_nothing_through_and_each_try_is_counted() {
    let (nodes, mut phone) = line_with_phone(2);
    let_in(&nodes[0].plane, &[PHONE, TABLET]);
    let own = of_client(PHONE);
    let udp = |from, port| build::udp((from, 1), (address(2), port), b"let me");
    let babel = write(Talk {
        source: link_local(own),
        destination: BABEL_GROUP,
        payload: &[42, 2, 0, 0],
    });
    let parcel = build::udp((own, PARCEL_PORT), (address(2), PARCEL_PORT), &[4, 0, 0, 0]);
    let tries = [
        ("as its node", udp(address(1), 9), DropReason::Source),
        ("as another node", udp(address(2), 9), DropReason::Source),
        ("as a service", udp(SERVICE, 9), DropReason::Source),
        (
            "as another client",
            udp(of_client(TABLET), 9),
            DropReason::Source,
        ),
        (
            "as a neighbour of its /64",
            udp(of_client(77), 9),
            DropReason::Source,
        ),
        ("routing talk", babel.unwrap(), DropReason::Protocol),
        ("a parcel", parcel, DropReason::Protocol),
        ("a probe", udp(own, PROBE_PORT), DropReason::Protocol),
        (
            "the control network",
            build::tcp((own, 1), (address(2), CONTROL_PORT), 0x02),
            DropReason::Protocol,
        ),
        (
            "an address outside",
            build::udp((own, 1), ("2001:db8::1".parse().unwrap(), 53), b""),
            DropReason::Foreign,
        ),
        (
            "an IPv4 packet",
            [[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59], [0; 10]].concat(),
            DropReason::Malformed,
        ),
    ];
    let mut expect: BTreeMap<DropReason, u64> = BTreeMap::new();
    for (what, packet, reason) in tries {
        assert!(phone.send(1, &packet), "{what}");
        *expect.entry(reason).or_default() += 1;
        eventually(
            &format!("{what} is counted: {:?}", nodes[0].plane.drops()),
            || dropped(&nodes[0], reason) == expect[&reason],
        );
    }
    for node in &nodes {
        assert_eq!(node.host.take_within(Duration::ZERO), None);
    }
    let honest = ping(own, address(2));
    assert!(phone.send(1, &honest));
    nodes[1].host.expect(&honest);
}

#[test]
fn answers_follow_a_client_that_moves() {
    let (nodes, mut phone) = line_with_phone(2);
    let (ask, told) = (
        ping(of_client(PHONE), address(2)),
        pong(address(2), of_client(PHONE)),
    );
    for _ in 0..3 {
        phone.move_on();
        assert!(phone.send(1, &ask));
        nodes[1].host.expect(&ask);
        nodes[1].host.put(&told);
        assert_eq!(comes(&mut phone), told);
    }
}

#[test]
fn removed_client_is_a_stranger_at_once() {
    let (nodes, mut phone) = line_with_phone(1);
    let ask = ping(of_client(PHONE), address(1));
    assert!(phone.send(1, &ask));
    nodes[0].host.expect(&ask);
    let_in(&nodes[0].plane, &[TABLET]);
    assert!(phone.send(1, &ask));
    phone.knock(1, nodes[0].plane.local_port());
    eventually("packet and handshake are a stranger's", || {
        dropped(&nodes[0], DropReason::Stranger) == 2
    });
    assert_eq!(nodes[0].host.take_within(Duration::ZERO), None);
    nodes[0].host.put(&pong(address(1), of_client(PHONE)));
    eventually("nobody has its address", || {
        0 < dropped(&nodes[0], DropReason::Unreachable)
    });
}

#[test]
fn session_of_a_client_outlives_new_plans_and_other_clients() {
    let (nodes, mut phone) = line_with_phone(1);
    nodes[0].plane.apply(&mesh_plan(1, &[(2, None)], &[]));
    let_in(&nodes[0].plane, &[PHONE, TABLET]);
    let ask = ping(of_client(PHONE), address(1));
    assert!(phone.send(1, &ask));
    nodes[0].host.expect(&ask);
}

#[test]
fn key_without_a_secret_half_lets_nobody_in() {
    let node = start(1, HostAccess::AnswersOnly);
    node.plane.apply(&mesh_plan(1, &[], &[]));
    let weak = BTreeMap::from([(of_client(PHONE), [0; 32])]);
    node.plane.set_clients(&weak);
    assert_eq!(node.plane.clients(), []);
}

#[test]
fn clients_have_a_limit() {
    let node = start(1, HostAccess::AnswersOnly);
    node.plane.apply(&mesh_plan(1, &[], &[]));
    let many: Vec<u8> = (0..=u8::try_from(CLIENTS_MAX).unwrap()).collect();
    let_in(&node.plane, &many);
    assert_eq!(node.plane.clients().len(), CLIENTS_MAX);
}
