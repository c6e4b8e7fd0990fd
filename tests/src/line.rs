//! A line of a given quality between two namespaces: two network devices and a thread between them.
//!
//! ```text
//!   near ── device ── [ link: there ] ──► device ── far
//!                 ◄── [ link: back  ] ──
//! ```
//! The kernel of the machine may have no `netem`; this needs none. What happens to packets is
//! decided by [`crate::link`]; this moves bytes and keeps time.

use std::io::{PipeReader, PipeWriter};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;

use crate::inside::{inside, shell};
use crate::link::{Fate, Fates, Habits, Link, TooBig};
use crate::nat_router::Router;
use crate::too_big::too_big;
use crate::tunnel::Tunnel;

/// Most packets that are taken from one device before the other has its turn.
const TURN: usize = 64;

/// The largest packet that a device hands over.
const PACKET_MAX: usize = 65_536;

/// A line; it is cut when this is dropped.
#[derive(Debug)]
pub struct Line {
    links: Arc<Mutex<[Link; 2]>>,
    /// Its end wakes the thread and ends it.
    wake: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// Puts a line of these habits between a home's outermost box, or the home itself, and the
    /// Internet, in place of its last cable.
    ///
    /// `up` is what happens to what the home sends, `down` to what it receives.
    ///
    /// # Errors
    /// A device cannot be made.
    pub fn lay(router: &Router, up: Habits, down: Habits, seed: u64) -> anyhow::Result<Self> {
        let ((home, near), far) = (router.outermost(), router.street());
        shell(None, &format!("ip link delete {far}"))?;
        let tunnels = [
            inside(home, || Tunnel::open(near))?,
            inside(Pid::this(), || Tunnel::open(&far))?,
        ];
        let (own, gateway) = (router.address(), router.gateway());
        let raise = |device: &str, address: Ipv4Addr| {
            // No address but this, so that the line carries what programs send and no more.
            format!(
                "ip link set {device} addrgenmode none
                ip address add {address}/24 dev {device}
                ip link set {device} up"
            )
        };
        let near_end = raise(near, own);
        let lead = format!("{near_end}\nip route replace default via {gateway} dev {near}");
        shell(Some(home), &lead)?;
        shell(None, &raise(&far, gateway))?;
        let hop = Ipv4Addr::from_bits(gateway.to_bits() + 2);
        Self::between(tunnels, [up, down], seed, hop)
    }

    /// Lets packets pass between two devices. `hop` is who tells senders that a packet is too big.
    ///
    /// # Errors
    /// A pipe cannot be made.
    fn between(
        tunnels: [Tunnel; 2],
        [there, back]: [Habits; 2],
        seed: u64,
        hop: Ipv4Addr,
    ) -> anyhow::Result<Self> {
        let links = [
            Link::new(there, seed),
            Link::new(back, seed.rotate_left(32)),
        ];
        let links = Arc::new(Mutex::new(links));
        let (end, wake) = std::io::pipe().context("no pipe")?;
        let carrier = Carrier {
            links: Arc::clone(&links),
            tunnels,
            hop,
            start: Instant::now(),
        };
        let thread = thread::spawn(move || carrier.carry(&end));
        Ok(Self {
            links,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Changes what happens to packets that come from now on.
    pub fn set(&self, there: Habits, back: Habits) {
        for (link, habits) in lock(&self.links).iter_mut().zip([there, back]) {
            link.set(habits);
        }
    }

    /// Returns what became of the packets so far, there and back.
    pub fn fates(&self) -> [Fates; 2] {
        let links = lock(&self.links);
        let [there, back] = &*links;
        [there.fates(), back.fates()]
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic has been printed.
            let _ = thread.join();
        }
    }
}

/// A panic elsewhere leaves links that are still whole.
fn lock(links: &Mutex<[Link; 2]>) -> MutexGuard<'_, [Link; 2]> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread has.
struct Carrier {
    links: Arc<Mutex<[Link; 2]>>,
    tunnels: [Tunnel; 2],
    hop: Ipv4Addr,
    start: Instant,
}

impl Carrier {
    fn carry(&self, end: &PipeReader) {
        let mut buffer = vec![0; PACKET_MAX];
        loop {
            let next = self.release();
            match self.wait(end, next) {
                Ok(false) => {}
                // A device goes with its namespace, and so does the line.
                Ok(true) | Err(_) => return,
            }
            for (at, tunnel) in self.tunnels.iter().enumerate() {
                if self.take(at, tunnel, &mut buffer).is_err() {
                    return;
                }
            }
        }
    }

    /// Lets go what has arrived; returns when the next one does.
    fn release(&self) -> Option<Duration> {
        let mut links = lock(&self.links);
        let [left, right] = &self.tunnels;
        for (link, tunnel) in links.iter_mut().zip([right, left]) {
            while let Some(packet) = link.poll_packet(self.start.elapsed()) {
                tunnel.write(&packet);
            }
        }
        links.iter().filter_map(Link::poll_timeout).min()
    }

    /// Waits for packets, for the time of the next arrival, or for the end; returns whether it
    /// came.
    fn wait(&self, end: &PipeReader, next: Option<Duration>) -> Result<bool, Errno> {
        let [left, right] = &self.tunnels;
        let wanted = PollFlags::POLLIN;
        let mut polled =
            [end.as_fd(), left.as_fd(), right.as_fd()].map(|fd| PollFd::new(fd, wanted));
        let timeout = next.map(|at| TimeSpec::from(at.saturating_sub(self.start.elapsed())));
        match ppoll(&mut polled, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let [end, ..] = &polled;
        Ok(end.revents().is_some_and(|seen| !seen.is_empty()))
    }

    /// Takes what one device has sent.
    fn take(&self, at: usize, tunnel: &Tunnel, buffer: &mut [u8]) -> std::io::Result<()> {
        for _ in 0..TURN {
            let Some(len) = tunnel.read(buffer)? else {
                return Ok(());
            };
            let packet = buffer.get(..len).unwrap_or_default();
            let mut links = lock(&self.links);
            let Some(link) = links.get_mut(at) else {
                return Ok(());
            };
            let fate = link.handle_packet(packet.to_vec(), self.start.elapsed());
            let habits = link.habits();
            if fate == Fate::TooBig && habits.too_big == TooBig::Told {
                let mtu = u16::try_from(habits.mtu).unwrap_or(u16::MAX);
                if let Some(answer) = too_big(packet, mtu, self.hop.octets()) {
                    tunnel.write(&answer);
                }
            }
        }
        Ok(())
    }
}
