//! Two and three data planes against each other, each a neighbour of the others.
//!
//! TUNs are socket pairs that keep packet borders, except in the last part, where they are real
//! ones in namespaces of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_dataplane::session::{Local, Session, WireGuard};
use mesh_dataplane::{Config, Dataplane, Forwards, HostAccess, Namespace};
use mesh_routing::answer::answer;
use mesh_routing::limits::HANDSHAKES_PER_PLACE;
use mesh_routing::packet::build;
use mesh_routing::plan::{InstancePlan, Plan};
use mesh_routing::table::DropReason;

use crate::ground::{
    ITEM, Node, Outside, PATIENCE, SERVICE, address, eventually, expect_drop, expect_drops, id,
    plan, secret, start, start_with,
};

/// Lets each know the other, only the second knowing where the first is.
fn introduce(alice: &Node, bob: &Node, numbers: (u8, u8)) {
    alice.plane.apply(&plan(numbers.0, &[(numbers.1, None)]));
    bob.plane.apply(&plan(
        numbers.1,
        &[(numbers.0, Some(alice.plane.local_port()))],
    ));
}

fn is_up(plane: &Dataplane) -> bool {
    plane.links().iter().all(|link| link.silent_ms.is_some())
}

#[test]
fn packets_pass_between_two_nodes_both_ways() {
    // Whoever has the lower key, the one that knows the other's address begins.
    for (first, second) in [(1, 2), (2, 1)] {
        let alice = start(first, HostAccess::AnswersOnly);
        let bob = start(second, HostAccess::AnswersOnly);
        introduce(&alice, &bob, (first, second));
        let ping = build::icmp(bob.address, alice.address, 128, 9, b"hello");
        bob.host.put(&ping);
        alice.host.expect(&ping);
        let pong = build::icmp(alice.address, bob.address, 129, 9, b"hello");
        alice.host.put(&pong);
        bob.host.expect(&pong);
        let [link] = &alice.plane.links()[..] else {
            panic!("one link")
        };
        assert_eq!(link.peer, NodeId(bob.secret.public()));
        assert_eq!(link.endpoint.unwrap().port(), bob.plane.local_port());
        assert!(link.silent_ms.unwrap() < 20_000);
        assert_eq!(
            (link.received_bytes, link.sent_bytes),
            (ping.len() as u64, pong.len() as u64)
        );
    }
}

#[test]
fn link_comes_up_without_payload() {
    let (alice, bob) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    introduce(&alice, &bob, (1, 2));
    eventually("both sides hear each other", || {
        is_up(&alice.plane) && is_up(&bob.plane)
    });
}

#[test]
fn machine_itself_is_closed_unless_it_asked() {
    let (alice, bob) = (
        start(1, HostAccess::AnswersOnly),
        start(2, HostAccess::AnswersOnly),
    );
    introduce(&alice, &bob, (1, 2));
    let handshake = build::tcp((bob.address, 40_000), (alice.address, 22), 0x02);
    bob.host.put(&handshake);
    expect_drop(&alice.plane, DropReason::Unasked);
    let ask = build::udp((alice.address, 5), (bob.address, 6), b"?");
    alice.host.put(&ask);
    expect_drop(&bob.plane, DropReason::Unasked);
    let answer = build::udp((bob.address, 6), (alice.address, 5), b"!");
    bob.host.put(&answer);
    alice.host.expect(&answer);
}

#[test]
fn spoofed_source_is_dropped() {
    let (alice, mallory) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    introduce(&alice, &mallory, (1, 2));
    let honest = build::udp((mallory.address, 1), (alice.address, 2), b"me");
    mallory.host.put(&honest);
    alice.host.expect(&honest);
    // Mallory changes her own rules; Alice's hold.
    let mut lie = plan(2, &[(1, Some(alice.plane.local_port()))]);
    lie.own = address(3);
    mallory.plane.apply(&lie);
    mallory.host.put(&build::udp(
        (address(3), 1),
        (alice.address, 2),
        b"somebody else",
    ));
    expect_drop(&alice.plane, DropReason::Source);
    lie.own = SERVICE;
    mallory.plane.apply(&lie);
    mallory
        .host
        .put(&build::udp((SERVICE, 1), (alice.address, 2), b"a service"));
    expect_drops(&alice.plane, DropReason::Source, 2);
    assert_eq!(alice.host.take_within(Duration::ZERO), None);
}

#[test]
fn nothing_is_carried_from_peer_to_peer() {
    let (alice, bob) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    let carol = start(3, HostAccess::Open);
    let (to_bob, to_carol) = (bob.plane.local_port(), carol.plane.local_port());
    alice
        .plane
        .apply(&plan(1, &[(2, Some(to_bob)), (3, Some(to_carol))]));
    let mut hope = plan(2, &[(1, Some(alice.plane.local_port()))]);
    hope.services.insert(address(3), id(1));
    bob.plane.apply(&hope);
    bob.host.put(&build::udp(
        (bob.address, 1),
        (carol.address, 2),
        b"via alice?",
    ));
    expect_drop(&alice.plane, DropReason::Transit);
}

/// Puts the instance that node 2 may reach into its provider's plan.
fn offer(plan: &mut Plan) {
    plan.services.insert(SERVICE, id(1));
    let allow = BTreeSet::from([address(2)]);
    plan.instances.insert(
        ITEM,
        InstancePlan {
            address: SERVICE,
            allow,
        },
    );
}

/// A provider with an instance, a customer that may reach it, and a neighbour that may not.
fn service() -> (Node, Outside, Node, Node) {
    let provider = start(1, HostAccess::AnswersOnly);
    let (customer, neighbour) = (
        start(2, HostAccess::AnswersOnly),
        start(3, HostAccess::AnswersOnly),
    );
    let mut here = plan(1, &[(2, None), (3, None)]);
    offer(&mut here);
    provider.plane.apply(&here);
    let (instance, tun) = Outside::pair();
    provider.plane.attach(ITEM, tun).unwrap();
    for (node, number) in [(&customer, 2), (&neighbour, 3)] {
        let mut there = plan(number, &[(1, Some(provider.plane.local_port()))]);
        there.services.insert(SERVICE, id(1));
        node.plane.apply(&there);
    }
    (provider, instance, customer, neighbour)
}

#[test]
fn instance_answers_its_customer_and_nobody_else() {
    let (provider, instance, customer, neighbour) = service();
    let (client, server) = ((customer.address, 40_000), (SERVICE, 5432));
    instance.put(&build::tcp(server, client, 0x12));
    expect_drop(&provider.plane, DropReason::Unasked);
    let syn = build::tcp(client, server, 0x02);
    customer.host.put(&syn);
    instance.expect(&syn);
    let syn_ack = build::tcp(server, client, 0x12);
    instance.put(&syn_ack);
    customer.host.expect(&syn_ack);
    let bytes = (syn.len() as u64, syn_ack.len() as u64);
    eventually("both are metered", || provider.plane.traffic(ITEM) == bytes);

    let syn = build::tcp((neighbour.address, 40_000), server, 0x02);
    neighbour.host.put(&syn);
    expect_drop(&provider.plane, DropReason::Denied);
    let told = answer(&syn, DropReason::Denied).unwrap();
    neighbour.host.expect(&told);
    let syn = build::tcp((provider.address, 40_000), server, 0x02);
    provider.host.put(&syn);
    eventually("its own machine is denied too", || {
        provider.plane.drops().contains(&(DropReason::Denied, 2))
    });
    let told = answer(&syn, DropReason::Denied).unwrap();
    provider.host.expect(&told);
    instance.put(&build::tcp(
        (provider.address, 1),
        (neighbour.address, 2),
        0x02,
    ));
    expect_drop(&provider.plane, DropReason::Source);
    assert_eq!(provider.plane.traffic(ITEM), bytes);
    assert_eq!(instance.take_within(Duration::ZERO), None);
}

#[test]
fn instance_comes_back_after_its_tun_was_changed() {
    let (provider, instance, customer, _) = service();
    let ask = build::udp((customer.address, 1), (SERVICE, 2), b"?");
    customer.host.put(&ask);
    instance.expect(&ask);
    provider.plane.detach(ITEM);
    customer.host.put(&ask);
    expect_drop(&provider.plane, DropReason::Detached);
    let told = answer(&ask, DropReason::Detached).unwrap();
    customer.host.expect(&told);
    drop(instance);
    let (instance, tun) = Outside::pair();
    provider.plane.attach(ITEM, tun).unwrap();
    // The flow outlives the TUN, so the new one can still answer.
    let answer = build::udp((SERVICE, 2), (customer.address, 1), b"!");
    instance.put(&answer);
    customer.host.expect(&answer);
    let bytes = (ask.len() as u64, answer.len() as u64);
    eventually("both are metered", || provider.plane.traffic(ITEM) == bytes);
}

#[test]
fn tun_whose_other_end_is_gone_stops_nothing() {
    let (provider, instance, customer, _) = service();
    drop(instance);
    let ping = build::icmp(customer.address, provider.address, 128, 9, b"");
    customer.host.put(&ping);
    provider.host.expect(&ping);
}

#[test]
fn withdrawn_peer_is_forgotten() {
    let (alice, bob) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    introduce(&alice, &bob, (1, 2));
    eventually("the link comes up", || {
        is_up(&alice.plane) && is_up(&bob.plane)
    });
    alice.plane.apply(&plan(1, &[]));
    assert_eq!(alice.plane.links(), []);
    bob.host
        .put(&build::udp((bob.address, 1), (alice.address, 2), b"hello?"));
    let hello = build::udp((alice.address, 1), (bob.address, 2), b"hello?");
    alice.host.put(&hello);
    expect_drop(&alice.plane, DropReason::Unreachable);
    // Alice's own program is told; what Bob said never comes.
    let told = answer(&hello, DropReason::Unreachable).unwrap();
    alice.host.expect(&told);
    assert_eq!(alice.host.take_within(Duration::ZERO), None);
}

#[test]
fn restarted_peer_is_found_again() {
    let (alice, bob) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    introduce(&alice, &bob, (1, 2));
    let hello = build::udp((bob.address, 1), (alice.address, 2), b"hello");
    bob.host.put(&hello);
    alice.host.expect(&hello);
    let before = alice.plane.links()[0].endpoint;
    drop(bob);
    let bob = start(2, HostAccess::Open);
    bob.plane
        .apply(&plan(2, &[(1, Some(alice.plane.local_port()))]));
    bob.host.put(&hello);
    alice.host.expect(&hello);
    assert_ne!(alice.plane.links()[0].endpoint, before);
    let back = build::udp((alice.address, 2), (bob.address, 1), b"welcome");
    alice.host.put(&back);
    bob.host.expect(&back);
}

/// A NAT in front of one node: forwards datagrams, and can change its outer port.
struct Nat {
    inner: SocketAddr,
    outer: Arc<Mutex<Arc<UdpSocket>>>,
    handshake_count: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

impl Nat {
    /// Stands between a node that sends to `inner` and the one that listens on `server`.
    fn start(server: SocketAddr) -> Self {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            Arc::new(socket)
        };
        let inside = socket();
        let nat = Self {
            inner: inside.local_addr().unwrap(),
            outer: Arc::new(Mutex::new(socket())),
            handshake_count: Arc::default(),
            stopping: Arc::default(),
        };
        let client = Arc::new(Mutex::new(None));
        let (outer, count) = (Arc::clone(&nat.outer), Arc::clone(&nat.handshake_count));
        let (stopping, known) = (Arc::clone(&nat.stopping), Arc::clone(&client));
        let back = Arc::clone(&inside);
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopping.load(Ordering::Relaxed) {
                let Ok((len, from)) = inside.recv_from(&mut buffer) else {
                    continue;
                };
                *known.lock().unwrap() = Some(from);
                if buffer[0] == 1 {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let outer = Arc::clone(&outer.lock().unwrap());
                outer.send_to(&buffer[..len], server).unwrap();
            }
        });
        let (outer, stopping) = (Arc::clone(&nat.outer), Arc::clone(&nat.stopping));
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopping.load(Ordering::Relaxed) {
                let outer = Arc::clone(&outer.lock().unwrap());
                let Ok((len, _)) = outer.recv_from(&mut buffer) else {
                    continue;
                };
                let client = client.lock().unwrap().unwrap();
                back.send_to(&buffer[..len], client).unwrap();
            }
        });
        nat
    }

    fn outer_port(&self) -> u16 {
        self.outer.lock().unwrap().local_addr().unwrap().port()
    }

    fn rebind(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        *self.outer.lock().unwrap() = Arc::new(socket);
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

#[test]
fn link_follows_a_peer_whose_address_changes() {
    let (alice, bob) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    let nat = Nat::start(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        alice.plane.local_port(),
    )));
    alice.plane.apply(&plan(1, &[(2, None)]));
    bob.plane.apply(&plan(2, &[(1, Some(nat.inner.port()))]));
    let endpoint = || {
        alice.plane.links()[0]
            .endpoint
            .map(|endpoint| endpoint.port())
    };
    let hello = build::udp((bob.address, 1), (alice.address, 2), b"hello");
    bob.host.put(&hello);
    alice.host.expect(&hello);
    assert_eq!(endpoint(), Some(nat.outer_port()));
    let handshake_count = nat.handshake_count.load(Ordering::Relaxed);
    nat.rebind();
    bob.host.put(&hello);
    alice.host.expect(&hello);
    assert_eq!(endpoint(), Some(nat.outer_port()));
    let back = build::udp((alice.address, 2), (bob.address, 1), b"there you are");
    alice.host.put(&back);
    bob.host.expect(&back);
    assert_eq!(
        nat.handshake_count.load(Ordering::Relaxed),
        handshake_count,
        "the same keys"
    );
}

#[test]
fn garbage_on_the_port_changes_nothing() {
    let (alice, bob) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    introduce(&alice, &bob, (1, 2));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = alice.plane.local_port();
    for kind in 0..=5 {
        for len in [0, 1, 4, 8, 31, 32, 64, 92, 148, 1500, 2080, 9000] {
            let mut bytes = vec![0; len];
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            socket.send_to(&bytes, (Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
    for bytes in [&[][..], &[0x60; 20], &[0x45; 60], &[0x60; 2048]]
        .into_iter()
        .filter(|b| !b.is_empty())
    {
        bob.host.put(bytes);
    }
    let hello = build::udp((bob.address, 1), (alice.address, 2), b"hello");
    bob.host.put(&hello);
    alice.host.expect(&hello);
    assert_ne!(
        alice.plane.links()[0].endpoint.unwrap().port(),
        socket.local_addr().unwrap().port()
    );
}

#[test]
fn flood_of_handshakes_is_answered_with_cookies_and_friends_still_come_in() {
    let (alice, bob) = (start(1, HostAccess::Open), start(2, HostAccess::Open));
    let port = alice.plane.local_port();
    alice.plane.apply(&plan(1, &[(2, None)]));
    let mallory = Local::new(secret(66).to_x25519());
    let mut session = WireGuard::new(&mallory, secret(1).public().to_x25519(), 1);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 256];
    for _ in 0..10 * HANDSHAKES_PER_PLACE {
        let len = session.initiate(&mut buffer).unwrap();
        socket
            .send_to(&buffer[..len], (Ipv4Addr::LOCALHOST, port))
            .unwrap();
    }
    let len = socket
        .recv(&mut buffer)
        .expect("over the limit there are cookies");
    assert_eq!((len, buffer[0]), (64, 3));
    // Over both limits there is nothing; whoever was opened before that is nobody's friend.
    eventually("junk is refused", || {
        let count = |reason| {
            let drops = alice.plane.drops();
            let found = drops.iter().find(|(it, _)| *it == reason);
            found.map_or(0, |(_, count)| *count)
        };
        0 < count(DropReason::Stranger) && 0 < count(DropReason::Congested)
    });
    bob.plane.apply(&plan(2, &[(1, Some(port))]));
    let hello = build::udp((bob.address, 1), (alice.address, 2), b"hello");
    bob.host.put(&hello);
    alice.host.expect(&hello);
}

#[test]
fn messages_that_name_no_session_are_strangers_whatever_their_kind() {
    let alice = start(1, HostAccess::Open);
    alice.plane.apply(&plan(1, &[(2, None)]));
    let mallory = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // A response, a cookie, data; each at its own length, then short, long and empty.
    let kinds = [
        (2_u8, 92),
        (3, 64),
        (4, 128),
        (4, 31),
        (1, 147),
        (1, 1400),
        (9, 148),
        (0, 0),
    ];
    for (kind, len) in kinds {
        let mut datagram = vec![0xa5; len];
        datagram
            .iter_mut()
            .zip([kind, 0, 0, 0])
            .for_each(|(byte, to)| *byte = to);
        let to = (Ipv4Addr::LOCALHOST, alice.plane.local_port());
        mallory.send_to(&datagram, to).unwrap();
    }
    let all = u64::try_from(kinds.len()).unwrap();
    eventually("each is counted", || {
        alice.plane.drops() == [(DropReason::Stranger, all)]
    });
}

#[test]
fn port_that_is_taken_is_named() {
    let node = start(1, HostAccess::Open);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.plane.local_port()));
    let (_outside, host_tun) = Outside::pair();
    let refused = Dataplane::start(Config {
        secret_x25519: [1; 32],
        udp_bind: address,
        host_tun,
        host_access: HostAccess::Open,
        listener: None,
        streams: None,
    });
    let error = refused.err().expect("the port is taken");
    assert_eq!(error.to_string(), format!("cannot listen on UDP {address}"));
}

fn helper() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mesh-netns"))
}

/// Makes a namespace, or fails with the whole chain of causes, which says how to fix it.
fn namespace(own: Ipv6Addr) -> Namespace {
    Namespace::spawn(helper(), own).unwrap_or_else(|error| {
        let mut text = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        panic!("{text}");
    })
}

/// An echo service in the namespace of a process; ends with the test.
struct Echo {
    child: Child,
    port: u16,
}

impl Echo {
    fn start(pid: u32) -> Self {
        let mut child = Command::new(helper())
            .args(["echo", &pid.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line
                .trim()
                .parse()
                .expect("the echo service prints its port"),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn program_on_loopback_talks_tcp_to_a_service_through_two_planes() {
    let (customer_net, instance_net) = (namespace(address(2)), namespace(SERVICE));
    let echo = Echo::start(instance_net.pid());
    let provider = start(1, HostAccess::AnswersOnly);
    let mut here = plan(1, &[(2, None)]);
    offer(&mut here);
    provider.plane.apply(&here);
    provider
        .plane
        .attach(ITEM, instance_net.tun().unwrap())
        .unwrap();

    let tun = customer_net.tun().unwrap();
    let customer = start_with(2, tun, HostAccess::AnswersOnly);
    let mut there = plan(2, &[(1, Some(provider.plane.local_port()))]);
    there.services.insert(SERVICE, id(1));
    customer.apply(&there);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let dialer = Arc::new(customer_net);
    let forwards = Forwards::new(dialer, runtime.handle().clone(), BTreeMap::new());
    let [(service, port, local)] = forwards.set(&BTreeSet::from([(SERVICE, echo.port)]))[..] else {
        panic!("one forward");
    };
    assert_eq!((service, port), (SERVICE, echo.port));

    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let start = Instant::now();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy));
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    writing.join().unwrap().unwrap();
    assert!(got == sent, "every byte comes back");
    println!(
        "echo: {:.0} Mbit/s each way",
        sent.len() as f64 * 8.0 / 1e6 / seconds
    );
    let (received, left) = provider.plane.traffic(ITEM);
    assert!(sent.len() as u64 <= received && sent.len() as u64 <= left);
}

#[test]
fn namespace_has_its_address_and_ends_with_its_owner() {
    let net = namespace(address(9));
    let pid = net.pid();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/if_inet6")).unwrap();
    let ours = "fd6d0000000000000000000000000009";
    let line = table
        .lines()
        .find(|line| line.starts_with(ours))
        .expect("our address is there");
    // Columns: address, index, prefix length, scope, flags (0x40 is tentative, 0x80 permanent),
    // name.
    let columns: Vec<_> = line.split_whitespace().collect();
    assert_eq!((columns[2], columns[4], columns[5]), ("80", "80", "mesh0"));
    assert!(!table.contains("fe80"), "no link-local address: {table}");
    let refused = net
        .connect("[2001:db8::1]:80".parse().unwrap())
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::NetworkUnreachable);
    drop(net);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
