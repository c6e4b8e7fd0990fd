//! Homes get other addresses in mid-transfer: at most a short gap, and no connection is lost.
//!
//! ```text
//!   from ── router ── Internet ── router ── to        bytes flow one way, a steady ping both
//!                        │
//!                     public                          carries calls, and what flows meanwhile
//! ```
//! A home in the open sees its own address change; one behind a router is told by nobody, and has
//! to be found by those who still have a way to it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use mesh_tests::figures::{Durations, Figure};
use mesh_tests::home::links_between;
use mesh_tests::inside::inside;
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::until::until;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, getsockname, listen, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// How long anything may take at most.
const SOON: Duration = Duration::from_secs(30);

/// The bar's limit.
const GAP_MAX: Duration = Duration::from_secs(2);

/// Pairs of whom each gets another address.
const PAIRS: [(NatKind, NatKind); 4] = [
    (NatKind::Open, NatKind::Open),
    (NatKind::PortRestricted, NatKind::Open),
    (NatKind::PortRestricted, NatKind::Cgnat),
    (NatKind::PortRestricted, NatKind::Double),
];

/// Changes addresses of both sides of pairs of homes, one after the other.
pub fn transfers_survive_other_addresses(place: &Place) -> anyhow::Result<()> {
    let names: Vec<(String, NatKind)> = (PAIRS.iter().enumerate())
        .flat_map(|(at, (a, b))| [(format!("from-{at}"), *a), (format!("to-{at}"), *b)])
        .collect();
    let homes: Vec<(&str, NatKind)> = names.iter().map(|(name, kind)| (&**name, *kind)).collect();
    let mut lab = nat_mesh::raise(place, &homes)?;
    let mut gaps = Durations::default();
    for pair in homes.chunks_exact(2) {
        let &[(from, a), (to, b)] = pair else {
            continue;
        };
        until(&format!("{from} reaches {to} straight"), SOON, || {
            Ok(links_between(lab.home(from)?, to)?.filter(|links| *links == 1))
        })?;
        let transfer = Transfer::begin(&lab, from, to)?;
        let address = lab.home(to)?.overlay_address()?;
        let mut pulse = Pulse::begin(lab.home(from)?, &address, SOON)?;
        for moved in [from, to] {
            let since = SystemTime::now();
            lab.renumber(moved)?;
            let gap = pulse.outage(since, SOON)?;
            println!("{a} to {b}, {moved} moves: {:.2} s", gap.as_secs_f64());
            gaps.add(gap);
            transfer.goes_on()?;
            until(&format!("{from} reaches {to} straight again"), SOON, || {
                Ok(links_between(lab.home(from)?, to)?.filter(|links| *links == 1))
            })?;
        }
        let bytes = transfer.end()?;
        println!("{bytes} bytes passed in one connection");
    }
    Figure {
        bar: "reach.roam".to_owned(),
        text: format!(
            "{}; {} connections of {} survived",
            gaps.summary(),
            PAIRS.len(),
            PAIRS.len()
        ),
        holds: gaps.percentile(100) <= GAP_MAX,
    }
    .tell();
    Ok(())
}

/// Bytes that flow in one TCP connection over the overlay, at a pace that leaves the machine idle.
struct Transfer {
    thread: Option<std::thread::JoinHandle<anyhow::Result<u64>>>,
    shared: std::sync::Arc<(AtomicBool, AtomicU64)>,
}

const PIECE: [u8; 4096] = [7; 4096];

/// Between two pieces.
const PACE: Duration = Duration::from_millis(5);

impl Transfer {
    /// Begins to send.
    fn begin(lab: &Lab, from: &str, to: &str) -> anyhow::Result<Self> {
        let (out, inward) = connect(lab, from, to)?;
        let shared = std::sync::Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
        let both = std::sync::Arc::clone(&shared);
        let thread = std::thread::spawn(move || pass(&out, &inward, &both));
        Ok(Self {
            thread: Some(thread),
            shared,
        })
    }

    /// Waits until more arrives than was under way.
    fn goes_on(&self) -> anyhow::Result<()> {
        let count = || self.shared.1.load(Ordering::Relaxed);
        let before = count();
        until("bytes arrive", SOON, || {
            Ok((before + (1 << 20) < count()).then_some(()))
        })
    }

    /// Ends the connection; returns what arrived, which is all that was sent.
    fn end(mut self) -> anyhow::Result<u64> {
        self.shared.0.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it runs")?;
        let passed = thread.join();
        passed.unwrap_or_else(|_| anyhow::bail!("the transfer panicked"))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.shared.0.store(true, Ordering::Relaxed);
    }
}

/// Opens a connection between two nodes. Their doors let in only answers to what went out; so the
/// far end asks first, in vain, and then takes the other's question for the answer.
fn connect(lab: &Lab, from: &str, to: &str) -> anyhow::Result<(TcpStream, TcpStream)> {
    let at = |name: &str| -> anyhow::Result<(Ipv6Addr, OwnedFd)> {
        let address: Ipv6Addr = lab.home(name)?.overlay_address()?.parse()?;
        let socket = inside(lab.holder(name)?, || {
            bound(SocketAddrV6::new(address, 0, 0, 0))
        })?;
        Ok((address, socket))
    };
    let ((near, out), (far, asking)) = (at(from)?, at(to)?);
    let (near, far) = (place(near, &out)?, place(far, &asking)?);
    ensure!(
        nix::sys::socket::connect(asking.as_raw_fd(), &SockaddrIn6::from(near)).is_err(),
        "{from} lets strangers in"
    );
    drop(asking);
    println!("asked");
    let listening = inside(lab.holder(to)?, || bound(far))?;
    listen(&listening, Backlog::new(1)?)?;
    nix::sys::socket::connect(out.as_raw_fd(), &SockaddrIn6::from(far)).context("no connection")?;
    let (inward, _) = TcpListener::from(listening).accept()?;
    println!("connected");
    Ok((TcpStream::from(out), inward))
}

fn bound(at: SocketAddrV6) -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet6, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // As long as a call may take.
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(2))?;
    bind(fd.as_raw_fd(), &SockaddrIn6::from(at)).context("no socket")?;
    Ok(fd)
}

/// Returns a socket's place in full.
fn place(address: Ipv6Addr, socket: &OwnedFd) -> anyhow::Result<SocketAddrV6> {
    let own: SockaddrIn6 = getsockname(socket.as_raw_fd())?;
    Ok(SocketAddrV6::new(address, own.port(), 0, 0))
}

fn pass(
    mut out: &TcpStream,
    mut inward: &TcpStream,
    (over, count): &(AtomicBool, AtomicU64),
) -> anyhow::Result<u64> {
    inward.set_read_timeout(Some(2 * SOON))?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || -> anyhow::Result<u64> {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                out.write_all(&PIECE)?;
                sent += PIECE.len() as u64;
                std::thread::sleep(PACE);
            }
            out.shutdown(Shutdown::Write)?;
            Ok(sent)
        });
        let mut buffer = [0; PIECE.len()];
        let mut arrived = 0;
        loop {
            let len = inward.read(&mut buffer).context("the connection is dead")?;
            if len == 0 {
                break;
            }
            arrived += len as u64;
            count.store(arrived, Ordering::Relaxed);
        }
        let sent = sending.join();
        let sent = sent.unwrap_or_else(|_| anyhow::bail!("the sender panicked"))?;
        ensure!(sent == arrived, "{sent} were sent and {arrived} arrived");
        Ok(arrived)
    })
}
