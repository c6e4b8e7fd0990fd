//! Two stacks that are each other's data plane.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mesh_routing::packet::{Packet, build};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::connection::Connection;
use crate::limits::STACK_LINES_MAX;

const PORT: u16 = 6787;

fn address(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, last)
}

fn place(last: u16, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(address(last), port, 0, 0)
}

/// Carries packets between both until dropped; every `lost`th packet is lost.
struct Cable {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    fn between(left: &Stack, right: &Stack, lost: usize) -> Self {
        let ends = [left.tun().unwrap(), right.tun().unwrap()];
        let stopping = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopping);
        let carry = move || {
            let mut count = 0;
            while !flag.load(Ordering::Acquire) {
                let mut fds = ends
                    .each_ref()
                    .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
                let _ = poll(&mut fds, PollTimeout::from(20u8));
                for (from, to) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
                    let mut packet = [0; 2048];
                    while let Ok(len) = nix::unistd::read(from, &mut packet) {
                        if len == 0 {
                            return;
                        }
                        count += 1;
                        if lost == 0 || count % lost != 0 {
                            let _ = nix::unistd::write(to, &packet[..len]);
                        }
                    }
                }
            }
        };
        Self {
            stopping,
            thread: Some(std::thread::spawn(carry)),
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn pair(lost: usize) -> (Arc<Stack>, Arc<Stack>, Cable) {
    let stacks = [1, 2].map(|last| Arc::new(Stack::start(address(last)).unwrap()));
    let [left, right] = stacks;
    let cable = Cable::between(&left, &right, lost);
    (left, right, cable)
}

async fn connect(stack: &Arc<Stack>, to: SocketAddrV6) -> io::Result<Connection> {
    crate::forward::connect(Arc::clone(stack) as Arc<dyn crate::forward::Dialer>, to).await
}

async fn accept(arrivals: &mut Arrivals) -> (Connection, SocketAddrV6) {
    let (end, from) = std::future::poll_fn(|context| arrivals.poll_accept(context))
        .await
        .unwrap();
    (end.into_stream().unwrap(), from)
}

async fn talk(lost: usize, len: usize) {
    let (left, right, _cable) = pair(lost);
    let mut arrivals = right.listen(PORT).unwrap();
    let sent: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    let (mut asking, (mut answering, from)) = tokio::join!(
        async { connect(&left, place(2, PORT)).await.unwrap() },
        accept(&mut arrivals)
    );
    assert_eq!(*from.ip(), address(1));
    let expect = sent.clone();
    let answer = tokio::spawn(async move {
        let mut heard = Vec::new();
        // Comes to its end although the other direction is still open.
        answering.read_to_end(&mut heard).await.unwrap();
        assert!(heard == expect, "{} bytes", heard.len());
        answering.write_all(b"all heard").await.unwrap();
    });
    asking.write_all(&sent).await.unwrap();
    asking.shutdown().await.unwrap();
    let mut heard = Vec::new();
    asking.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"all heard");
    answer.await.unwrap();
}

#[tokio::test]
async fn megabytes_pass_and_each_half_is_closed_by_itself() {
    talk(0, 4 << 20).await;
}

#[tokio::test]
async fn lost_packets_are_sent_again() {
    talk(50, 200_000).await;
}

#[tokio::test]
async fn closed_port_is_refused_at_once() {
    let (left, _right, _cable) = pair(0);
    let start = Instant::now();
    let error = connect(&left, place(2, 80)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Makes a connection of which the asking side has heard something; returns both ends, the asking
/// one first.
async fn begun(left: &Arc<Stack>, arrivals: &mut Arrivals) -> (Connection, Connection) {
    let (asking, answering) = tokio::join!(connect(left, place(2, PORT)), accept(arrivals));
    let (mut asking, (mut answering, _)) = (asking.unwrap(), answering);
    answering.write_all(b"part").await.unwrap();
    asking.read_exact(&mut [0; 4]).await.unwrap();
    (asking, answering)
}

#[tokio::test]
async fn what_is_broken_off_does_not_look_like_an_end() {
    let (left, right, _cable) = pair(0);
    let mut arrivals = right.listen(PORT).unwrap();
    let (mut asking, answering) = begun(&left, &mut arrivals).await;
    // Nobody reads there any more: what is sent now is answered with a reset.
    drop(answering);
    let error = loop {
        if let Err(error) = asking.write_all(&[0; 4096]).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn stack_that_ends_breaks_its_connections_off() {
    let (left, right, _cable) = pair(0);
    let mut arrivals = right.listen(PORT).unwrap();
    let (mut asking, _answering) = begun(&left, &mut arrivals).await;
    // Whoever ends breaks off what is open, although everything sent so far has arrived.
    drop((arrivals, right));
    let ended = asking.read(&mut [0; 4]).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn mesh_that_knows_no_way_ends_a_call_at_once() {
    let stack = Arc::new(Stack::start(address(1)).unwrap());
    let tun = stack.tun().unwrap();
    let answer = std::thread::spawn(move || {
        let mut fds = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(5000u16)).unwrap();
        let mut packet = [0; 2048];
        let len = nix::unistd::read(&tun, &mut packet).unwrap();
        let mut error = build::icmp(address(9), address(1), 1, 0, &packet[..len]);
        // No way there; the checksum is looked at by nobody before smoltcp.
        error[41] = 0;
        nix::unistd::write(&tun, &error).unwrap();
        tun
    });
    let start = Instant::now();
    let error = connect(&stack, place(2, 80)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    assert!(start.elapsed() < Duration::from_secs(5));
    answer.join().unwrap();
}

#[tokio::test]
async fn port_is_taken_once_and_free_again_when_nobody_listens() {
    let (left, right, _cable) = pair(0);
    let arrivals = right.listen(PORT).unwrap();
    let error = right.listen(PORT).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    drop(arrivals);
    let mut arrivals = right.listen(PORT).unwrap();
    let (asking, _) = tokio::join!(connect(&left, place(2, PORT)), accept(&mut arrivals));
    asking.unwrap();
}

#[tokio::test]
async fn connections_have_a_limit_and_the_old_are_kept() {
    let (left, right, _cable) = pair(0);
    let mut arrivals = right.listen(PORT).unwrap();
    let mut held = Vec::new();
    let refused = loop {
        let asked = connect(&left, place(2, PORT));
        tokio::select! {
            one = asked => match one {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            },
            (stream, _) = accept(&mut arrivals) => held.push(stream),
        }
        assert!(held.len() <= 2 * STACK_LINES_MAX);
    };
    // One of both ran out: here by its count, or there by having nobody who waits.
    let kinds = [
        io::ErrorKind::QuotaExceeded,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::TimedOut,
    ];
    assert!(kinds.contains(&refused.kind()), "{refused}");
    held[0].write_all(b"still").await.unwrap();
}

#[test]
fn echo_requests_are_answered() {
    let stack = Stack::start(address(1)).unwrap();
    let tun = stack.tun().unwrap();
    let mut request = build::icmp(address(2), address(1), 128, 7, b"hello");
    let sum = checksum(&request);
    request[42..44].copy_from_slice(&sum.to_be_bytes());
    nix::unistd::write(&tun, &request).unwrap();
    let mut fds = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(5000u16)).unwrap();
    let mut reply = [0; 2048];
    let len = nix::unistd::read(&tun, &mut reply).unwrap();
    let packet = Packet::parse(&reply[..len]).unwrap();
    assert_eq!(
        (packet.source(), packet.destination()),
        (address(1), address(2))
    );
    assert_eq!(packet.payload().first(), Some(&129));
}

/// The checksum of an ICMPv6 message (RFC 4443, 2.3).
fn checksum(packet: &[u8]) -> u16 {
    let body = &packet[40..];
    let mut sum: u32 = 58 + body.len() as u32;
    for bytes in [&packet[8..40], body] {
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
