//! Engines ask each other about the way: answers, places on it, limits, what programs cannot do.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_dataplane::probe::Heard;
use mesh_dataplane::{Config, Dataplane, HostAccess, Listener, Spoken};
use mesh_routing::limits::{ANSWER_INTERVAL, ANSWERS_BURST};
use mesh_routing::packet::build;
use mesh_routing::probe::{CHANCE_LEN, Decoy, PROBE_PORT, Probe};
use mesh_routing::table::DropReason;

use crate::ground::{Node, Outside, PATIENCE, eventually, expect_drop, id, secret, start};
use crate::mesh::{address, line, links_up, mesh_plan, routes};

/// Hears what is said about ways.
struct Ear(SyncSender<Heard>);

impl Listener for Ear {
    fn handle_talk(&self, _spoken: Spoken) -> bool {
        true
    }

    fn handle_up(&self, _node: NodeId) {}

    fn handle_probe(&self, heard: Heard) {
        let _ = self.0.try_send(heard);
    }
}

/// Returns the first node, which hears.
fn hearer(ear: SyncSender<Heard>) -> Node {
    let (host, host_tun) = Outside::pair();
    let plane = Dataplane::start(Config {
        secret_x25519: secret(1).to_x25519(),
        udp_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_tun,
        host_access: HostAccess::Open,
        listener: Some(Box::new(Ear(ear))),
        streams: None,
    })
    .unwrap();
    Node {
        plane,
        host,
        secret: secret(1),
        address: address(1),
    }
}

/// Returns a line whose first node hears.
fn hearing(count: u8) -> (Vec<Node>, Receiver<Heard>) {
    let (ear, told) = sync_channel(1024);
    let first = hearer(ear);
    let others = (2..=count).map(|number| start(number, HostAccess::Open));
    let nodes: Vec<Node> = std::iter::once(first).chain(others).collect();
    line(&nodes);
    eventually("every link is up", || {
        (1..).zip(&nodes).all(|(own, node)| {
            let near = [own - 1, own + 1].into_iter();
            let near: Vec<u8> = near.filter(|it| (1..=count).contains(it)).collect();
            links_up(node, &near)
        })
    });
    (nodes, told)
}

#[test]
fn far_node_answers_and_both_count_the_links() {
    let (nodes, told) = hearing(4);
    for (to, links) in [(4, 3), (3, 2), (2, 1)] {
        nodes[0].plane.ask(id(to), 77).unwrap();
        let heard = told.recv_timeout(PATIENCE).unwrap();
        let said = Probe::Answer {
            nonce: 77,
            hops: links,
        };
        assert_eq!((heard.from, heard.said, heard.hops), (id(to), said, links));
    }
    let stats = nodes[0].plane.link(id(4)).unwrap();
    assert_eq!(stats.hops, Some(3));
    for node in &nodes {
        assert_eq!(node.host.take_within(Duration::ZERO), None);
    }
}

#[test]
fn every_relay_tells_in_its_own_name_where_a_decoy_ended() {
    let (nodes, told) = hearing(4);
    for (hops, at) in [(1, 2), (2, 3)] {
        let decoy = Decoy::new([hops; CHANCE_LEN]);
        nodes[0].plane.send_decoy(id(4), &decoy, hops).unwrap();
        let heard = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            (heard.from, heard.said),
            (id(at), Probe::Exceeded { decoy })
        );
        expect_drop(&nodes[usize::from(at) - 1].plane, DropReason::HopLimit);
    }
    // One that arrives opens nothing and is not answered; what is asked behind it is.
    let decoy = Decoy::new([9; CHANCE_LEN]);
    nodes[0].plane.send_decoy(id(4), &decoy, 3).unwrap();
    nodes[0].plane.ask(id(4), 5).unwrap();
    let heard = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(heard.said, Probe::Answer { nonce: 5, hops: 3 });
    assert_eq!(nodes[3].host.take_within(Duration::ZERO), None);
}

#[test]
fn relay_says_nothing_about_a_source_that_it_does_not_know() {
    let (nodes, told) = hearing(3);
    let mut stranger = mesh_plan(1, &[(2, None)], &[3]);
    stranger.own = address(77);
    nodes[0].plane.apply(&stranger);
    let decoy = Decoy::new([1; CHANCE_LEN]);
    nodes[0].plane.send_decoy(id(3), &decoy, 1).unwrap();
    expect_drop(&nodes[1].plane, DropReason::Source);
    nodes[0].plane.apply(&mesh_plan(1, &[(2, None)], &[3]));
    nodes[0].plane.ask(id(2), 1).unwrap();
    let heard = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(heard.said, Probe::Answer { nonce: 1, hops: 1 });
}

#[test]
fn clear_packet_of_a_program_is_never_answered_as_a_parcel() {
    let (nodes, told) = hearing(3);
    // A program that counts hops the usual way: inside the session its packet does not age.
    let mut packet = build::udp((address(1), 33_434), (address(3), 33_434), b"trace");
    packet[7] = 1;
    nodes[0].host.put(&packet);
    nodes[2].host.expect(&packet);
    assert!(told.try_recv().is_err());
}

#[test]
fn programs_cannot_send_probes() {
    let (nodes, told) = hearing(3);
    let ports = |port| ((address(1), port), (address(3), PROBE_PORT));
    let (from, to) = ports(PROBE_PORT);
    nodes[0].host.put(&build::udp(from, to, &[1; 16]));
    expect_drop(&nodes[0].plane, DropReason::Protocol);
    // Nor can they say that a parcel ended with them.
    let decoy = Decoy::new([1; CHANCE_LEN]);
    let parcel = decoy.parcel(address(1), address(3), 1).unwrap();
    let lie = build::icmp(address(2), address(1), 3, 0, &parcel);
    nodes[1].host.put(&lie);
    expect_drop(&nodes[1].plane, DropReason::Protocol);
    assert!(told.try_recv().is_err());
}

#[test]
fn node_speaks_about_ways_in_its_own_name_only() {
    let (nodes, told) = hearing(3);
    // The middle changes its own rules and claims to be the far end.
    let mut lie = mesh_plan(2, &[(1, None), (3, None)], &[]);
    lie.own = address(3);
    lie.peers.remove(&id(3));
    nodes[1].plane.apply(&lie);
    nodes[1].plane.ask(id(1), 1).unwrap();
    expect_drop(&nodes[0].plane, DropReason::Source);
    assert!(told.try_recv().is_err());
}

#[test]
fn answers_have_a_limit() {
    let (nodes, told) = hearing(2);
    let start = Instant::now();
    let asked = u64::from(ANSWERS_BURST) * 8;
    for nonce in 0..asked {
        let _ = nodes[0].plane.ask(id(2), nonce);
    }
    expect_drop(&nodes[1].plane, DropReason::Congested);
    let answers = std::iter::from_fn(|| told.recv_timeout(Duration::from_millis(200)).ok());
    let answered = u32::try_from(answers.count()).unwrap();
    let steady = start.elapsed().as_micros() / ANSWER_INTERVAL.as_micros();
    assert!(0 < answered);
    assert!(u128::from(answered) <= u128::from(ANSWERS_BURST) + steady + 1);
}

#[test]
fn probe_has_nowhere_to_go_without_a_route() {
    let (nodes, _told) = hearing(3);
    let decoy = Decoy::new([1; CHANCE_LEN]);
    assert_eq!(nodes[0].plane.next_hop(id(3)), Some(id(2)));
    nodes[0]
        .plane
        .set_routes(&[([0xfd, 0x6d, 0, 0, 0, 0, 0, 3], None)]);
    assert_eq!(nodes[0].plane.next_hop(id(3)), None);
    let sent = nodes[0].plane.send_decoy(id(3), &decoy, 1);
    assert_eq!(sent, Err(DropReason::Unreachable));
    assert_eq!(
        nodes[0].plane.ask(id(9), 1),
        Err(DropReason::Unreachable),
        "nobody of that name"
    );
    routes(&nodes[0].plane, &[(3, 2)]);
    assert_eq!(nodes[0].plane.send_decoy(id(3), &decoy, 1), Ok(()));
}

/// Returns a diamond 1 ═ (2 | 3) ═ 4 whose first node hears; 4 and 1 reach each other through 2,
/// which carries nothing.
fn diamond() -> (Vec<Node>, Receiver<Heard>) {
    let (ear, told) = sync_channel(1024);
    let first = hearer(ear);
    let others = (2..=4).map(|number| start(number, HostAccess::Open));
    let nodes: Vec<Node> = std::iter::once(first).chain(others).collect();
    let port = |number: usize| Some(nodes[number - 1].plane.local_port());
    let ends = [(2, port(2)), (3, port(3))];
    for (number, plan, table) in [
        (1, mesh_plan(1, &ends, &[4]), [(2, 2), (3, 3), (4, 2)]),
        (
            2,
            mesh_plan(2, &[(1, None), (4, None)], &[3]),
            [(1, 1), (3, 1), (4, 4)],
        ),
        (
            3,
            mesh_plan(3, &[(1, None), (4, None)], &[2]),
            [(1, 1), (2, 1), (4, 4)],
        ),
        (4, mesh_plan(4, &ends, &[1]), [(2, 2), (3, 3), (1, 2)]),
    ] {
        let plane = &nodes[number - 1].plane;
        plane.apply(&plan);
        routes(plane, &table);
    }
    nodes[1].plane.set_transit(BTreeSet::new());
    eventually("every link is up", || {
        links_up(&nodes[0], &[2, 3]) && links_up(&nodes[3], &[2, 3])
    });
    (nodes, told)
}

#[test]
fn question_takes_the_neighbour_it_is_told_to_and_is_answered_both_ways() {
    let (nodes, told) = diamond();
    let plane = &nodes[0].plane;
    let ask = |via, nonce| plane.ask_over(id(4), id(via), nonce, 1280);
    assert_eq!(ask(3, 1), Err(DropReason::NoSession));
    // A packet waits for the session; its handshakes end in the middle of the worse side.
    let packet = build::udp((address(1), 7), (address(4), 7), b"hello");
    nodes[0].host.put(&packet);
    expect_drop(&nodes[1].plane, DropReason::Former);
    assert!(!plane.has_session(id(4)));
    // Over the other side they arrive, and the response comes back that way too, although the far
    // end still thinks otherwise.
    routes(plane, &[(4, 3)]);
    nodes[3].host.expect(&packet);
    assert!(plane.has_session(id(4)));
    routes(plane, &[(4, 2)]);
    ask(3, 2).unwrap();
    let heard = told.recv_timeout(PATIENCE).unwrap();
    let said = Probe::Answer { nonce: 2, hops: 2 };
    assert_eq!((heard.from, heard.said), (id(4), said));
    ask(2, 3).unwrap();
    ask(3, 4).unwrap();
    let heard = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        heard.said,
        Probe::Answer { nonce: 4, hops: 2 },
        "only that one"
    );
    assert_eq!(ask(9, 5), Err(DropReason::Unreachable));
}

#[test]
fn use_of_a_way_is_what_programs_send_around() {
    let (nodes, _told) = diamond();
    let plane = &nodes[0].plane;
    routes(plane, &[(4, 3)]);
    let send = |to, len| {
        let body = vec![7; len];
        nodes[0]
            .host
            .put(&build::udp((address(1), 7), (address(to), 7), &body));
    };
    for len in [10, 500, 20] {
        send(4, len);
        nodes[3].host.take_within(PATIENCE).unwrap();
    }
    send(2, 900);
    nodes[1].host.take_within(PATIENCE).unwrap();
    assert_eq!(
        plane.take_uses(),
        [(id(4), id(3), 548)],
        "not of the neighbour"
    );
    plane.ask_over(id(4), id(3), 1, 900).unwrap();
    plane.ask(id(4), 1).unwrap();
    assert_eq!(plane.take_uses(), [], "engines use nothing");
    assert_eq!(nodes[3].plane.take_uses(), [], "answers neither");
}
