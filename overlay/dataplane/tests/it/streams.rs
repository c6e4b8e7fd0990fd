//! Links where UDP does not pass, or not all of it: a middle that swallows datagrams, and a stream
//! beside it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use mesh_base::identity::NodeId;
use mesh_dataplane::streams::Streams;
use mesh_dataplane::{Config, Dataplane, HostAccess, LinkStats};
use mesh_routing::carriage::{Carrier, Why};
use mesh_routing::packet::build;
use mesh_routing::table::DropReason;

use crate::ground::{Outside, PATIENCE, address, eventually, expect_drop, id, plan, secret};

/// A stream's near end; the far end is a thread that hands on.
struct Pipe {
    to: NodeId,
    open: Arc<AtomicBool>,
    sent: Mutex<Sender<Vec<u8>>>,
}

impl Streams for Pipe {
    fn is_open(&self, to: NodeId) -> bool {
        to == self.to && self.open.load(Ordering::SeqCst)
    }

    fn send(&self, to: NodeId, datagram: &[u8]) -> bool {
        let sent = self.sent.lock().unwrap();
        self.is_open(to) && sent.send(datagram.to_vec()).is_ok()
    }
}

/// A socket between two nodes that swallows datagrams above a length.
struct Middle {
    port: u16,
    passes: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Middle {
    /// Leads to `there`; what comes from there goes to whoever sent last.
    fn new(there: u16, passes: Arc<AtomicUsize>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (limit, end) = (Arc::clone(&passes), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let there = SocketAddr::from((Ipv4Addr::LOCALHOST, there));
            let (mut here, mut buffer) = (there, [0; 2048]);
            while !end.load(Ordering::SeqCst) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let to = if from == there { here } else { there };
                if from != there {
                    here = from;
                }
                if len <= limit.load(Ordering::SeqCst) {
                    socket.send_to(&buffer[..len], to).unwrap();
                }
            }
        });
        Self {
            port,
            passes,
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Pair {
    planes: [Arc<Dataplane>; 2],
    hosts: [Outside; 2],
    middle: Middle,
    open: Arc<AtomicBool>,
    /// Datagrams that went by the streams.
    streamed: Arc<AtomicUsize>,
}

const WIDE: usize = 2000;

impl Pair {
    /// Makes two neighbours whose UDP passes datagrams up to a length.
    fn new(passes: usize, has_stream: bool) -> Self {
        let open = Arc::new(AtomicBool::new(has_stream));
        let begin = |number: u8, other: u8| {
            let (sent, received) = channel();
            let pipe = Pipe {
                to: id(other),
                open: Arc::clone(&open),
                sent: Mutex::new(sent),
            };
            let (host, host_tun) = Outside::pair();
            let plane = Dataplane::start(Config {
                secret_x25519: secret(number).to_x25519(),
                udp_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                host_tun,
                host_access: HostAccess::Open,
                listener: None,
                streams: Some(Box::new(pipe)),
            })
            .unwrap();
            (Arc::new(plane), host, received)
        };
        let (left, left_host, from_left) = begin(1, 2);
        let (right, right_host, from_right) = begin(2, 1);
        let streamed = Arc::new(AtomicUsize::new(0));
        let hand_on = |received: Receiver<Vec<u8>>, to: &Arc<Dataplane>, from: u8| {
            let (to, count) = (Arc::downgrade(to), Arc::clone(&streamed));
            std::thread::spawn(move || {
                while let (Ok(datagram), Some(to)) = (received.recv(), to.upgrade()) {
                    count.fetch_add(1, Ordering::SeqCst);
                    to.take_streamed(id(from), [&datagram[..]]);
                }
            });
        };
        hand_on(from_left, &right, 1);
        hand_on(from_right, &left, 2);
        let middle = Middle::new(right.local_port(), Arc::new(AtomicUsize::new(passes)));
        left.apply(&plan(1, &[(2, Some(middle.port))]));
        right.apply(&plan(2, &[(1, Some(middle.port))]));
        Self {
            planes: [left, right],
            hosts: [left_host, right_host],
            middle,
            open,
            streamed,
        }
    }

    fn links(&self) -> [LinkStats; 2] {
        let [left, right] = &self.planes;
        [left.link(id(2)).unwrap(), right.link(id(1)).unwrap()]
    }

    fn is_carried_by(&self, carrier: Carrier) -> bool {
        let is_it = |link: &LinkStats| link.carrier == carrier && link.silent_ms.is_some();
        self.links().iter().all(is_it)
    }

    /// Waits until UDP carries and both ends know where from.
    fn come_to_udp(&self) {
        eventually("UDP carries", || {
            let links = self.links();
            links.iter().all(|link| link.endpoint.is_some()) && self.is_carried_by(Carrier::Udp)
        });
    }

    /// Sends a packet of this length there and one back.
    fn exchange(&self, len: usize) {
        let filling = vec![7; len - 48];
        let [left, right] = &self.hosts;
        let there = build::udp((address(1), 7), (address(2), 7), &filling);
        left.put(&there);
        right.expect(&there);
        let back = build::udp((address(2), 7), (address(1), 7), &filling);
        right.put(&back);
        left.expect(&back);
    }
}

#[test]
fn link_without_udp_lives_in_its_stream() {
    let pair = Pair::new(0, true);
    eventually("the stream carries", || {
        pair.is_carried_by(Carrier::Stream(Why::Silent))
    });
    pair.exchange(1280);
    assert!(pair.links().iter().all(|link| link.endpoint.is_none()));
    assert!(
        pair.links()
            .iter()
            .all(|link| link.link_silent_ms.is_some())
    );
}

#[test]
fn link_with_udp_leaves_its_stream_alone() {
    let pair = Pair::new(WIDE, true);
    pair.come_to_udp();
    // A busy machine's first handshake may have taken the stream.
    let before = pair.streamed.load(Ordering::SeqCst);
    pair.exchange(1280);
    assert_eq!(pair.streamed.load(Ordering::SeqCst), before);
}

#[test]
fn packet_that_udp_swallows_goes_by_the_stream() {
    let pair = Pair::new(1200, true);
    eventually("the stream carries", || {
        pair.is_carried_by(Carrier::Stream(Why::Narrow))
    });
    pair.exchange(1280);
}

#[test]
fn link_whose_udp_dies_goes_on_in_its_stream_and_comes_back() {
    let pair = Pair::new(WIDE, true);
    eventually("UDP carries", || pair.is_carried_by(Carrier::Udp));
    pair.exchange(100);
    pair.middle.passes.store(0, Ordering::SeqCst);
    eventually("the stream carries", || {
        pair.is_carried_by(Carrier::Stream(Why::Silent))
    });
    pair.exchange(1280);
    pair.middle.passes.store(WIDE, Ordering::SeqCst);
    eventually("UDP carries again", || pair.is_carried_by(Carrier::Udp));
    let before = pair.streamed.load(Ordering::SeqCst);
    pair.exchange(1280);
    assert_eq!(pair.streamed.load(Ordering::SeqCst), before);
}

#[test]
fn stream_that_comes_late_is_taken_and_one_that_ends_is_left() {
    let pair = Pair::new(0, false);
    assert!(pair.links().iter().all(|link| link.silent_ms.is_none()));
    pair.open.store(true, Ordering::SeqCst);
    eventually("the stream carries", || {
        pair.is_carried_by(Carrier::Stream(Why::Silent))
    });
    pair.open.store(false, Ordering::SeqCst);
    pair.middle.passes.store(WIDE, Ordering::SeqCst);
    pair.come_to_udp();
}

#[test]
fn stream_of_one_node_carries_no_session_of_another() {
    let pair = Pair::new(0, true);
    eventually("the stream carries", || {
        pair.is_carried_by(Carrier::Stream(Why::Silent))
    });
    let right = &pair.planes[1];
    right.apply(&plan(2, &[(1, Some(pair.middle.port)), (3, None)]));
    // Node 1 begins a session with node 2; node 3 brings that in its own stream.
    let (sent, taken) = channel();
    let pipe = Pipe {
        to: id(2),
        open: Arc::new(AtomicBool::new(true)),
        sent: Mutex::new(sent),
    };
    let (_host, host_tun) = Outside::pair();
    let thief = Dataplane::start(Config {
        secret_x25519: secret(1).to_x25519(),
        udp_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_tun,
        host_access: HostAccess::Open,
        listener: None,
        streams: Some(Box::new(pipe)),
    })
    .unwrap();
    thief.apply(&plan(1, &[(2, None)]));
    let handshake = taken.recv_timeout(PATIENCE).unwrap();
    drop(thief);
    right.take_streamed(id(3), [&handshake[..]]);
    expect_drop(right, DropReason::Stranger);
}
