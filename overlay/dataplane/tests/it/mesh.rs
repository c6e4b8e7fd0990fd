//! Nodes that are no neighbours: sessions in parcels over other nodes' links.
//!
//! Who can send to whom over the underlay is what the plans say about endpoints; next hops are set
//! by hand, as a Babel speaker would.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_dataplane::{Config, Dataplane, HostAccess, Listener, Spoken};
use mesh_routing::ecn::Ecn;
use mesh_routing::packet::{Packet, build};
use mesh_routing::plan::{Plan, Role};
use mesh_routing::table::DropReason;
use mesh_routing::talk::{BABEL_GROUP, link_local};
use mesh_routing::transit::PARCEL_PORT;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};

use crate::ground::{Node, Outside, PATIENCE, eventually, expect_drop, id, plan, secret, start};

/// Addresses whose /64 differ, as those of real nodes do.
pub fn address(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd6d, 0, 0, u16::from(number), 0, 0, 0, u16::from(number))
}

fn prefix(number: u8) -> [u8; 8] {
    [0xfd, 0x6d, 0, 0, 0, 0, 0, number]
}

/// A plan for `own` with neighbours, each with a port or none, and far nodes.
pub fn mesh_plan(own: u8, neighbours: &[(u8, Option<u16>)], far: &[u8]) -> Plan {
    let everybody: Vec<_> = neighbours
        .iter()
        .copied()
        .chain(far.iter().map(|number| (*number, None)))
        .collect();
    let mut plan = plan(own, &everybody);
    plan.own = address(own);
    for (number, _) in &everybody {
        plan.peers.get_mut(&id(*number)).unwrap().address = address(*number);
    }
    for number in far {
        plan.peers.get_mut(&id(*number)).unwrap().role = Role::Far;
    }
    plan
}

pub fn routes(node: &Dataplane, next_hops: &[(u8, u8)]) {
    let changes: Vec<_> = next_hops
        .iter()
        .map(|(to, via)| (prefix(*to), Some(id(*via))))
        .collect();
    assert_eq!(node.set_routes(&changes), 0);
    // As if every neighbour had begun anew with this life of ours.
    node.set_transit((1..10).map(id).collect());
}

fn ping(from: u8, to: u8, identifier: u16) -> Vec<u8> {
    build::icmp(
        address(from),
        address(to),
        128,
        identifier,
        b"over the mesh",
    )
}

/// Returns nodes 1 to `count` in a line.
fn line_of(count: u8) -> Vec<Node> {
    let nodes = (1..=count).map(|number| start(number, HostAccess::Open));
    let nodes: Vec<Node> = nodes.collect();
    line(&nodes);
    nodes
}

/// Puts nodes that count from 1 in a line, each knowing the port of the one before.
pub fn line(nodes: &[Node]) {
    let count = u8::try_from(nodes.len()).unwrap();
    let ports: Vec<_> = nodes.iter().map(|node| node.plane.local_port()).collect();
    for (own, node) in (1..).zip(nodes) {
        let mut neighbours = Vec::new();
        if 1 < own {
            neighbours.push((own - 1, Some(ports[usize::from(own) - 2])));
        }
        if own < count {
            neighbours.push((own + 1, None));
        }
        let far: Vec<u8> = (1..=count)
            .filter(|other| 1 < own.abs_diff(*other))
            .collect();
        node.plane.apply(&mesh_plan(own, &neighbours, &far));
        let next = |to: u8| if to < own { own - 1 } else { own + 1 };
        let table: Vec<_> = (1..=count)
            .filter(|to| *to != own)
            .map(|to| (to, next(to)))
            .collect();
        routes(&node.plane, &table);
    }
}

pub fn links_up(node: &Node, neighbours: &[u8]) -> bool {
    let stats = node.plane.links();
    neighbours.iter().all(|number| {
        let heard = stats
            .iter()
            .any(|link| link.peer == id(*number) && link.link_silent_ms.is_some());
        // Who was asked for a session hears before it can speak.
        heard && node.plane.has_session(id(*number))
    })
}

#[test]
fn ends_of_a_line_talk_and_the_middle_sees_ciphertext_only() {
    for count in [3, 5] {
        let nodes = line_of(count);
        let (first, last) = (&nodes[0], &nodes[usize::from(count) - 1]);
        eventually("every link is up", || {
            (1..).zip(&nodes).all(|(own, node)| {
                let near: Vec<u8> = [own - 1, own + 1]
                    .into_iter()
                    .filter(|it| (1..=count).contains(it))
                    .collect();
                links_up(node, &near)
            })
        });
        let there = ping(1, count, 7);
        first.host.put(&there);
        last.host.expect(&there);
        let back = ping(count, 1, 8);
        last.host.put(&back);
        first.host.expect(&back);
        for node in &nodes[1..usize::from(count) - 1] {
            assert_eq!(node.host.take_within(Duration::ZERO), None);
            let stats = node.plane.links();
            assert!(
                stats
                    .iter()
                    .all(|link| 0 < link.relayed_bytes || link.endpoint.is_none())
            );
            // A relay has no session with the ends unless they are its neighbours.
            assert!(
                stats
                    .iter()
                    .all(|link| link.link_silent_ms.is_some() || link.silent_ms.is_none())
            );
        }
        let far = first.plane.links();
        let far = far.iter().find(|link| link.peer == id(count)).unwrap();
        assert_eq!((far.endpoint, far.link_silent_ms), (None, None));
        assert!(far.silent_ms.is_some());
    }
}

#[test]
fn session_goes_on_when_its_way_changes() {
    let nodes = line_of(3);
    let (first, last) = (&nodes[0], &nodes[2]);
    let hello = ping(1, 3, 1);
    eventually("the session is made", || {
        first.host.put(&hello);
        last.host.take_within(Duration::from_millis(50)).is_some()
    });
    // The ends find each other: a link of their own, the same session.
    let port = last.plane.local_port();
    first
        .plane
        .apply(&mesh_plan(1, &[(2, None), (3, Some(port))], &[]));
    last.plane.apply(&mesh_plan(
        3,
        &[(2, Some(nodes[1].plane.local_port())), (1, None)],
        &[],
    ));
    eventually("there is a direct link", || {
        links_up(first, &[3]) && links_up(last, &[1])
    });
    let relayed = || -> u64 {
        let links = nodes[1].plane.links();
        links.iter().map(|link| link.relayed_bytes).sum()
    };
    while last.host.take_within(Duration::from_millis(50)).is_some() {}
    routes(&first.plane, &[(3, 3)]);
    routes(&last.plane, &[(1, 1)]);
    let before = relayed();
    first.host.put(&ping(1, 3, 2));
    last.host.expect(&ping(1, 3, 2));
    assert_eq!(relayed(), before, "straight");
    routes(&first.plane, &[(3, 2)]);
    first.host.put(&ping(1, 3, 3));
    last.host.expect(&ping(1, 3, 3));
    // The relay counts once it has sent, and by then the packet may have arrived.
    eventually("it went around again", || before < relayed());
}

#[test]
fn node_without_a_route_hears_nothing_and_the_drop_is_counted() {
    let nodes = line_of(3);
    eventually("the links are up", || links_up(&nodes[1], &[1, 3]));
    nodes[1].plane.set_routes(&[(prefix(3), None)]);
    nodes[0].host.put(&ping(1, 3, 1));
    expect_drop(&nodes[1].plane, DropReason::Unreachable);
    // A loop of two: the middle believes that the way leads back.
    routes(&nodes[1].plane, &[(3, 1)]);
    nodes[0].host.put(&ping(1, 3, 1));
    expect_drop(&nodes[1].plane, DropReason::Loop);
    assert_eq!(nodes[2].host.take_within(Duration::ZERO), None);
}

#[test]
fn programs_cannot_send_parcels_and_strangers_have_no_transit() {
    let nodes = line_of(3);
    eventually("the links are up", || links_up(&nodes[1], &[1, 3]));
    let forged = build::udp(
        (address(1), PARCEL_PORT),
        (address(2), PARCEL_PORT),
        b"\x04\0\0\0 not from a session",
    );
    nodes[0].host.put(&forged);
    expect_drop(&nodes[0].plane, DropReason::Protocol);
    // Clear text for the far end, by a node whose own rules are changed.
    let mut lie = mesh_plan(1, &[(2, None)], &[]);
    lie.services.insert(address(3), id(2));
    nodes[0].plane.apply(&lie);
    nodes[0].host.put(&ping(1, 3, 9));
    expect_drop(&nodes[1].plane, DropReason::Transit);
    // A session that claims to be of somebody whom the relay does not know.
    let mut stranger = mesh_plan(1, &[(2, None)], &[3]);
    stranger.own = address(77);
    nodes[0].plane.apply(&stranger);
    nodes[0]
        .host
        .put(&build::icmp(address(77), address(3), 128, 1, b""));
    expect_drop(&nodes[1].plane, DropReason::Source);
    assert_eq!(nodes[2].host.take_within(Duration::ZERO), None);
}

/// Tells a test what a speaker would hear.
struct Ear {
    talk: SyncSender<Spoken>,
    up: SyncSender<NodeId>,
}

impl Listener for Ear {
    fn handle_talk(&self, spoken: Spoken) -> bool {
        self.talk.try_send(spoken).is_ok()
    }

    fn handle_up(&self, node: NodeId) {
        self.up.try_send(node).unwrap();
    }
}

pub fn speaking(number: u8) -> (Node, Receiver<Spoken>, Receiver<NodeId>) {
    let ((talk, talks), (up, ups)) = (sync_channel(8), sync_channel(8));
    let (host, host_tun) = Outside::pair();
    let plane = Dataplane::start(Config {
        secret_x25519: secret(number).to_x25519(),
        udp_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_tun,
        host_access: HostAccess::Open,
        listener: Some(Box::new(Ear { talk, up })),
        streams: None,
    })
    .unwrap();
    let node = Node {
        plane,
        host,
        secret: secret(number),
        address: address(number),
    };
    (node, talks, ups)
}

#[test]
fn routing_talk_passes_a_link_and_no_relay() {
    let (alice, told, ups) = speaking(1);
    let bob = start(2, HostAccess::Open);
    let carol = start(3, HostAccess::Open);
    let port = bob.plane.local_port();
    alice.plane.apply(&mesh_plan(1, &[(2, Some(port))], &[3]));
    bob.plane.apply(&mesh_plan(2, &[(1, None), (3, None)], &[]));
    carol.plane.apply(&mesh_plan(3, &[(2, Some(port))], &[1]));
    routes(&alice.plane, &[(2, 2), (3, 2)]);
    routes(&bob.plane, &[(1, 1), (3, 3)]);
    routes(&carol.plane, &[(2, 2), (1, 2)]);
    eventually("the links are up", || links_up(&bob, &[1, 3]));
    // Who answered a handshake may speak once the other end has.
    eventually("bob can speak", || {
        bob.plane.say(id(1), BABEL_GROUP, b"hello").is_ok()
    });
    assert_eq!(ups.recv_timeout(PATIENCE), Ok(id(2)));
    let spoken = told.recv_timeout(PATIENCE).unwrap();
    let expect = Spoken {
        from: id(2),
        source: link_local(address(2)),
        destination: BABEL_GROUP,
        payload: b"hello".to_vec(),
    };
    assert_eq!(spoken, expect);
    let (sent, received) = (bob.plane.link(id(1)), alice.plane.link(id(2)));
    let talk = (mesh_routing::talk::OVERHEAD + 5) as u64;
    assert_eq!(sent.unwrap().sent_bytes, talk, "both ends count the same");
    assert_eq!(received.unwrap().received_bytes, talk);
    assert_eq!(
        carol.plane.say(id(1), BABEL_GROUP, b"hello"),
        Err(DropReason::NoSession),
        "there is no link, only a session"
    );
}

#[test]
fn speaker_that_does_not_listen_costs_nothing() {
    let (alice, _told, _ups) = speaking(1);
    let bob = start(2, HostAccess::Open);
    alice
        .plane
        .apply(&mesh_plan(1, &[(2, Some(bob.plane.local_port()))], &[]));
    bob.plane.apply(&mesh_plan(2, &[(1, None)], &[]));
    eventually("the link is up", || {
        bob.plane.say(id(1), BABEL_GROUP, b"hello").is_ok()
    });
    for _ in 0..100 {
        let _ = bob.plane.say(id(1), BABEL_GROUP, b"hello");
    }
    expect_drop(&alice.plane, DropReason::Congested);
}

/// Sends pings from the first node until an error comes out of its TUN, and checks it.
#[track_caller]
fn told_unreachable(node: &Node, to: u8) {
    let asked = ping(1, to, 9);
    let start = Instant::now();
    let told = loop {
        node.host.put(&asked);
        if let Some(told) = node.host.take_within(Duration::from_millis(100)) {
            break told;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "a ping to node {to} is answered"
        );
    };
    let packet = Packet::parse(&told).unwrap();
    let ends = (packet.source(), packet.destination());
    assert_eq!(ends, (address(to), address(1)));
    assert_eq!(packet.payload()[..2], [1, 3], "address unreachable");
    assert_eq!(packet.payload()[8..], asked, "about the ping");
    while node.host.take_within(Duration::ZERO).is_some() {}
}

#[test]
fn program_is_told_soon_that_no_way_leads_to_a_node() {
    let nodes = line_of(3);
    let there = ping(1, 3, 7);
    nodes[0].host.put(&there);
    nodes[2].host.expect(&there);
    let gone = |to: u8| {
        let change = [(prefix(to), None)];
        assert_eq!(nodes[0].plane.set_routes(&change), 0);
    };
    // There is a session, and no neighbour that knows a way.
    gone(3);
    told_unreachable(&nodes[0], 3);
    // There is none: the first packets wait for it.
    let mut plan = mesh_plan(1, &[(2, None)], &[3, 4]);
    plan.peers.get_mut(&id(4)).unwrap().endpoints = vec!["127.0.0.1:9".parse().unwrap()];
    nodes[0].plane.apply(&plan);
    told_unreachable(&nodes[0], 4);
    // Nobody has this address.
    told_unreachable(&nodes[0], 5);
    // The way is back, and nothing is said any more.
    routes(&nodes[0].plane, &[(3, 2)]);
    nodes[0].host.put(&there);
    nodes[2].host.expect(&there);
}

/// Hands datagrams on between two ports until it is dropped, and marks those that may be marked, as
/// a full queue does.
struct Queue {
    socket: Arc<UdpSocket>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    fn between(one: u16, other: u16) -> Self {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        setsockopt(&*socket, sockopt::IpRecvTos, &true).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (own, ends) = (Arc::clone(&socket), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ends.load(Ordering::SeqCst) {
                let (len, from, class) = take(&own, &mut buffer);
                let mark = Ecn::NotEct != Ecn::of_class(class);
                let mark = if mark { Ecn::Ce } else { Ecn::NotEct };
                setsockopt(&*own, sockopt::Ipv4Tos, &i32::from(mark.bits())).unwrap();
                let to = if from == one { other } else { one };
                let _ = own.send_to(&buffer[..len], (Ipv4Addr::LOCALHOST, to));
            }
        });
        Self {
            socket,
            over,
            thread: Some(thread),
        }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }
}

/// Takes a datagram; returns its length, the port it came from and its traffic class.
fn take(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, u16, u8) {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut room = nix::cmsg_space!([u8; 8]);
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
    let message = recvmsg::<SockaddrIn>(fd, &mut parts, Some(&mut room), flags).unwrap();
    let class = message.cmsgs().unwrap().find_map(|it| match it {
        ControlMessageOwned::Ipv4Tos(class) => Some(class),
        _ => None,
    });
    (
        message.bytes,
        message.address.unwrap().port(),
        class.unwrap_or_default(),
    )
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.socket.send_to(&[0], self.socket.local_addr().unwrap());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn mark_of_a_full_queue_reaches_the_end_over_links_and_relays() {
    let nodes: Vec<Node> = (1..=3)
        .map(|number| start(number, HostAccess::Open))
        .collect();
    // Between the first two stands a queue that is full.
    let ports = [0, 1].map(|at: usize| nodes[at].plane.local_port());
    let queue = Queue::between(ports[0], ports[1]);
    let full = Some(queue.port());
    for (number, plan, table) in [
        (1, mesh_plan(1, &[(2, full)], &[3]), [(2, 2), (3, 2)]),
        (
            2,
            mesh_plan(2, &[(1, full), (3, None)], &[]),
            [(1, 1), (3, 3)],
        ),
        (
            3,
            mesh_plan(3, &[(2, Some(ports[1]))], &[1]),
            [(2, 2), (1, 2)],
        ),
    ] {
        let plane = &nodes[number - 1].plane;
        plane.apply(&plan);
        routes(plane, &table);
    }
    let through = |plane: &Dataplane, number| {
        let link = plane.link(id(number)).unwrap();
        link.endpoint.is_some_and(|it| it.port() == queue.port())
    };
    eventually("the link leads through the queue", || {
        through(&nodes[0].plane, 2)
            && through(&nodes[1].plane, 1)
            && links_up(&nodes[0], &[2])
            && links_up(&nodes[2], &[2])
    });
    let plain = build::udp((address(1), 7), (address(3), 7), b"no marks");
    let mut marks = build::udp((address(1), 7), (address(3), 7), b"marks");
    Ecn::Ect0.write(&mut marks);
    let mut marked = marks.clone();
    Ecn::Ce.write(&mut marked);
    nodes[0].host.put(&marks);
    nodes[2].host.expect(&marked);
    let mut near = build::udp((address(1), 7), (address(2), 7), b"marks");
    Ecn::Ect1.write(&mut near);
    nodes[0].host.put(&near);
    Ecn::Ce.write(&mut near);
    nodes[1].host.expect(&near);
    nodes[0].host.put(&plain);
    nodes[2].host.expect(&plain);
    // Over a link without such a queue marks stay what they are.
    let mut back = build::udp((address(3), 7), (address(2), 7), b"marks");
    Ecn::Ect0.write(&mut back);
    nodes[2].host.put(&back);
    nodes[1].host.expect(&back);
}
