//! Floods a node's tunnel port with handshakes that lead nowhere, for the tests: a stranger with
//! one machine and many addresses.
//!
//! ```text
//!   flood NODE_ID TO RATE SECONDS NETWORK
//! ```
//! All datagrams are made before the first is sent. Half are initiations of strangers, whole and
//! right in every field, so that only opening them shows that nobody knows their sender; the other
//! half are the same with a wrong mac1. Half come from this machine's own address and many ports,
//! the other half from one address in each /24 of NETWORK/16, which must be local here. Prints
//! `flooding` when it begins and how many were sent when it ends.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_dataplane::session::{INITIATION_LEN, Local, Session as _, WireGuard};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};

/// Different datagrams; a receiver that remembered them all would not hold them in its caches.
const STRANGERS: usize = 2048;
/// Sockets at the own address, and as many addresses elsewhere.
const SOCKETS: u8 = 128;
/// Datagrams given to the kernel at once.
const BATCH: usize = 50;
/// Where mac1 begins.
const MAC1_AT: usize = INITIATION_LEN - 32;

/// What is sent where, and how much of it.
struct Order {
    target: NodeId,
    to: SocketAddrV4,
    rate: u32,
    time: Duration,
    network: [u8; 2],
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(order) = read(&words) else {
        eprintln!("usage: flood NODE_ID TO RATE SECONDS NETWORK");
        return ExitCode::from(2);
    };
    match flood(&order) {
        Ok((count, time)) => {
            println!("sent {count} in {:.3} s", time.as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot flood: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(words: &[String]) -> Option<Order> {
    let [target, to, rate, seconds, network] = words else {
        return None;
    };
    let [a, b, ..] = network.parse::<Ipv4Addr>().ok()?.octets();
    Some(Order {
        target: target.parse().ok()?,
        to: to.parse().ok()?,
        rate: rate.parse().ok()?,
        time: Duration::from_secs(seconds.parse().ok()?),
        network: [a, b],
    })
}

/// Makes what is sent: right and wrong ones in turn.
fn junk(target: &NodeId) -> Vec<[u8; INITIATION_LEN]> {
    let target = target.key().to_x25519();
    let mut all = Vec::new();
    for _ in 0..STRANGERS {
        let mut secret = [0; 32];
        // Without entropy the strangers are one stranger, which is as good.
        let _ = getrandom::fill(&mut secret);
        let mut datagram = [0; INITIATION_LEN];
        WireGuard::new(&Local::new(secret), target, 1).initiate(&mut datagram);
        all.push(datagram);
        if let Some(byte) = datagram.get_mut(MAC1_AT) {
            *byte ^= 1;
        }
        all.push(datagram);
    }
    all
}

fn sockets(order: &Order) -> std::io::Result<Vec<UdpSocket>> {
    let [a, b] = order.network;
    let mut all = Vec::new();
    for number in 0..SOCKETS {
        for from in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(a, b, number, 7)] {
            let socket = UdpSocket::bind(SocketAddr::from((from, 0)))?;
            socket.set_nonblocking(true)?;
            all.push(socket);
        }
    }
    Ok(all)
}

fn flood(order: &Order) -> std::io::Result<(u64, Duration)> {
    let junk = junk(&order.target);
    let sockets = sockets(order)?;
    let parts: Vec<[IoSlice<'_>; 1]> = junk.iter().map(|one| [IoSlice::new(one)]).collect();
    let to = [Some(SockaddrIn::from(order.to)); BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let (mut tried, mut sent) = (0_u64, 0_u64);
    let start = Instant::now();
    println!("flooding");
    let turns = parts
        .chunks_exact(BATCH)
        .cycle()
        .zip(sockets.iter().cycle());
    for (batch, socket) in turns {
        let now = start.elapsed();
        if order.time <= now {
            break;
        }
        let due = Duration::from_secs_f64(tried as f64 / f64::from(order.rate));
        sleep(due.saturating_sub(now));
        let fd = socket.as_raw_fd();
        // What the kernel does not take is lost, like everything else here.
        tried += BATCH as u64;
        if let Ok(taken) = sendmmsg(fd, &mut headers, batch, to, [], MsgFlags::empty()) {
            sent += taken.count() as u64;
        }
    }
    Ok((sent, start.elapsed()))
}
