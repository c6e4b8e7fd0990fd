//! The thread of the stack: takes requests, lets smoltcp speak, moves bytes, waits.
//!
//! ```text
//!   Connect ─► Calling ──(established)──► Open ─┐
//!   Listen ──► Waiting ──(established)──► Open ─┴─(closed, said so)─► forgotten
//!                 └─ another one waits in its place
//! ```
//! Decides nothing about packets: smoltcp does. Invariant: each socket of smoltcp's has one line in
//! `lines`, and each listener has as many waiting lines as there is room for, up to
//! [`STACK_WAITING_COUNT`].

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use smoltcp::iface::{self, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, CongestionControl, SocketBuffer, State};
use smoltcp::time::{Duration as Span, Instant as Clock};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use crate::connection::End;
use crate::limits::{
    BURST_COUNT_MAX, CONNECT_WAIT, STACK_BUFFER_LEN, STACK_KEEPALIVE, STACK_LINES_MAX,
    STACK_LISTENERS_MAX, STACK_SILENCE_MAX, STACK_WAITING_COUNT,
};
use crate::stack::device::Device;
use crate::stack::pipe::Pipe;
use crate::stack::{Request, Shared};

/// Ports of our own are taken from here on (RFC 6335, 6).
const EPHEMERAL_FIRST: u16 = 49_152;

/// Everything that the thread has.
pub struct Engine {
    own: Ipv6Addr,
    device: Device,
    interface: Interface,
    sockets: SocketSet<'static>,
    lines: BTreeMap<SocketHandle, Line>,
    listeners: BTreeMap<u16, tokio::sync::mpsc::Sender<(End, SocketAddrV6)>>,
    asked: Receiver<Request>,
    shared: Arc<Shared>,
    next_port: u16,
    started: Instant,
}

/// What a socket of smoltcp's is for.
enum Line {
    Calling {
        answer: SyncSender<io::Result<End>>,
        deadline: Instant,
    },
    Waiting {
        port: u16,
    },
    Open(Pipe),
    /// Nobody cares any more; it may have a last thing to say.
    Ending,
}

impl Engine {
    /// Prepares everything for the address `own`.
    pub fn new(
        own: Ipv6Addr,
        inside: OwnedFd,
        seed: u64,
        asked: Receiver<Request>,
        shared: Arc<Shared>,
    ) -> Self {
        let mut device = Device::new(inside);
        let mut config = iface::Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Clock::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list is empty and has room for more than one.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv6(own), 128));
        });
        // Every address is reached through the device; the gateway is never asked for.
        let _ = interface.routes_mut().add_default_ipv6_route(own);
        let [low, high, ..] = seed.to_le_bytes();
        Self {
            own,
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            lines: BTreeMap::new(),
            listeners: BTreeMap::new(),
            asked,
            shared,
            next_port: u16::from_le_bytes([low, high]),
            started: Instant::now(),
        }
    }

    /// Works until it is told to stop.
    pub fn run(mut self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            self.requests();
            let more = self.packets();
            self.failures();
            let moved = self.lines();
            self.listeners();
            // What was moved has yet to be sent.
            if !more && !moved {
                self.wait();
            }
        }
        for handle in self.lines.keys() {
            self.sockets.get_mut::<tcp::Socket<'_>>(*handle).abort();
        }
        self.packets();
    }

    fn clock(&self) -> Clock {
        let micros = self.started.elapsed().as_micros();
        Clock::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn requests(&mut self) {
        while let Ok(request) = self.asked.try_recv() {
            match request {
                Request::Connect { to, answer } => match self.call(to) {
                    Ok(handle) => {
                        let deadline = Instant::now() + CONNECT_WAIT;
                        self.lines
                            .insert(handle, Line::Calling { answer, deadline });
                    }
                    // Whoever asked may have gone.
                    Err(error) => drop(answer.send(Err(error))),
                },
                Request::Listen {
                    port,
                    arrivals,
                    answer,
                } => {
                    let taken = self
                        .listeners
                        .get(&port)
                        .is_some_and(|old| !old.is_closed());
                    let refused = if taken {
                        Some(io::ErrorKind::AddrInUse)
                    } else if STACK_LISTENERS_MAX <= self.listeners.len() {
                        Some(io::ErrorKind::QuotaExceeded)
                    } else {
                        self.listeners.insert(port, arrivals);
                        None
                    };
                    let _ = answer.send(refused.map_or(Ok(()), |kind| Err(kind.into())));
                }
            }
        }
    }

    /// Lets smoltcp take and send packets; returns whether there may be more.
    fn packets(&mut self) -> bool {
        let now = self.clock();
        let (device, sockets) = (&mut self.device, &mut self.sockets);
        self.interface.poll_maintenance(now);
        let mut count = 0;
        while count < BURST_COUNT_MAX {
            match self.interface.poll_ingress_single(now, device, sockets) {
                PollIngressSingleResult::None => break,
                _ => count += 1,
            }
        }
        self.interface.poll_egress(now, device, sockets);
        count == BURST_COUNT_MAX
    }

    /// Ends calls that the mesh says will never be answered.
    fn failures(&mut self) {
        for failed in self.device.failed() {
            let found = self.lines.iter().find(|(handle, line)| {
                let socket = self.sockets.get::<tcp::Socket<'_>>(**handle);
                let to = IpEndpoint::from(failed.to);
                matches!(line, Line::Calling { .. })
                    && socket
                        .local_endpoint()
                        .is_some_and(|own| own.port == failed.port)
                    && socket.remote_endpoint() == Some(to)
            });
            let Some(handle) = found.map(|(handle, _)| *handle) else {
                continue;
            };
            if let Some(Line::Calling { answer, .. }) = self.lines.remove(&handle) {
                let kind = match failed.closed {
                    true => io::ErrorKind::ConnectionRefused,
                    false => io::ErrorKind::HostUnreachable,
                };
                let _ = answer.send(Err(kind.into()));
            }
            self.sockets.remove(handle);
        }
    }

    /// Moves every line on; returns whether anything moved.
    fn lines(&mut self) -> bool {
        let now = Instant::now();
        let mut moved = false;
        let mut over = Vec::new();
        for (handle, line) in &mut self.lines {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            moved |= line.step(socket, &self.listeners, now);
            // A reset is still to be sent while it knows to whom, and what came before one is still
            // to be read.
            let owes = matches!(line, Line::Open(pipe) if pipe.owes(socket));
            if socket.state() == State::Closed && socket.remote_endpoint().is_none() && !owes {
                over.push(*handle);
            }
        }
        for handle in over {
            self.lines.remove(&handle);
            self.sockets.remove(handle);
        }
        moved
    }

    /// Puts waiting sockets where there are too few; forgets listeners that nobody listens to.
    fn listeners(&mut self) {
        self.listeners.retain(|_, arrivals| !arrivals.is_closed());
        let ports: Vec<u16> = self.listeners.keys().copied().collect();
        for port in ports {
            let is_waiting =
                |line: &&Line| matches!(line, Line::Waiting { port: at } if *at == port);
            let waiting = self.lines.values().filter(is_waiting).count();
            for _ in waiting..STACK_WAITING_COUNT {
                if STACK_LINES_MAX <= self.lines.len() {
                    return;
                }
                let mut socket = socket();
                if socket.listen((IpAddress::Ipv6(self.own), port)).is_ok() {
                    let handle = self.sockets.add(socket);
                    self.lines.insert(handle, Line::Waiting { port });
                }
            }
        }
    }

    fn call(&mut self, to: SocketAddrV6) -> io::Result<SocketHandle> {
        if STACK_LINES_MAX <= self.lines.len() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        // Nobody carries a packet back to us, and nothing of ours but the gate listens.
        if *to.ip() == self.own {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let mut socket = socket();
        let from = (IpAddress::Ipv6(self.own), self.free_port());
        let context = self.interface.context();
        // Its only reasons are an address or a port that are none.
        let connected = socket.connect(context, IpEndpoint::from(to), from);
        connected.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.sockets.add(socket))
    }

    /// Returns a port that no line of ours uses: there are far more ports than lines.
    fn free_port(&mut self) -> u16 {
        loop {
            self.next_port = self.next_port.wrapping_add(1).max(EPHEMERAL_FIRST);
            let used = self.sockets.iter().any(|(_, socket)| {
                let smoltcp::socket::Socket::Tcp(socket) = socket;
                let own = socket.local_endpoint();
                own.is_some_and(|own| own.port == self.next_port)
            });
            if !used {
                return self.next_port;
            }
        }
    }

    /// Waits for packets, requests, bytes of an app, or the next deadline.
    fn wait(&mut self) {
        let now = self.clock();
        // Without room for packets only room is worth waking for.
        let next = match self.device.is_full() {
            true => None,
            false => self.interface.poll_delay(now, &self.sockets),
        };
        let next = next.map(|span| std::time::Duration::from_micros(span.total_micros()));
        let deadline = self.lines.values().filter_map(Line::deadline).min();
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = [next, left].into_iter().flatten().min();
        let timeout = timeout.map_or(PollTimeout::NONE, |span| {
            // Rounded up, so that nothing is looked at just before its time.
            let millis = span.as_millis() + u128::from(span.subsec_nanos() % 1_000_000 != 0);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        let mut packets = PollFlags::POLLIN;
        packets.set(PollFlags::POLLOUT, self.device.is_full());
        let mut polled = vec![
            PollFd::new(self.shared.waker.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.device.as_fd(), packets),
        ];
        let mut open = Vec::new();
        for (handle, line) in &self.lines {
            let socket = self.sockets.get::<tcp::Socket<'_>>(*handle);
            if let Line::Open(pipe) = line
                && let Some((fd, flags)) = pipe.interest(socket)
            {
                polled.push(PollFd::new(fd, flags));
                open.push(*handle);
            }
        }
        // A signal is as good a reason to look as any.
        let _ = poll(&mut polled, timeout);
        let happened: Vec<PollFlags> = polled
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
            .collect();
        drop(polled);
        let mut happened = happened.into_iter();
        if happened.next().is_some_and(|flags| !flags.is_empty()) {
            self.shared.waker.clear();
        }
        let flags = happened.next().unwrap_or(PollFlags::empty());
        if flags.contains(PollFlags::POLLOUT) {
            self.device.try_again();
        }
        if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            // The data plane has ended, and with it everything that we could do.
            self.shared.stopping.store(true, Ordering::Release);
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        for (handle, flags) in open.into_iter().zip(happened) {
            if flags.intersects(gone)
                && let Some(Line::Open(pipe)) = self.lines.get_mut(&handle)
            {
                pipe.orphan(Instant::now());
            }
        }
    }
}

type Listeners = BTreeMap<u16, tokio::sync::mpsc::Sender<(End, SocketAddrV6)>>;

impl Line {
    /// Moves on; returns whether anything moved.
    fn step(&mut self, socket: &mut tcp::Socket<'_>, listeners: &Listeners, now: Instant) -> bool {
        let begun = !matches!(
            socket.state(),
            State::Listen | State::SynSent | State::SynReceived | State::Closed
        );
        match self {
            Self::Open(pipe) => return pipe.step(socket, now),
            Self::Calling { answer, deadline } => {
                let (next, outcome) = match socket.state() {
                    _ if begun => match Pipe::new() {
                        Ok((pipe, end)) => (Self::Open(pipe), Ok(end)),
                        Err(error) => (Self::Ending, Err(error)),
                    },
                    State::Closed => (Self::Ending, Err(io::ErrorKind::ConnectionRefused.into())),
                    _ if *deadline <= now => (Self::Ending, Err(io::ErrorKind::TimedOut.into())),
                    _ => return false,
                };
                let is_heard = answer.send(outcome).is_ok();
                *self = if is_heard { next } else { Self::Ending };
            }
            Self::Waiting { port } => match listeners.get(port) {
                None => *self = Self::Ending,
                Some(arrivals) if begun => *self = arrive(socket, arrivals),
                Some(_) => return false,
            },
            Self::Ending => return false,
        }
        if matches!(self, Self::Ending) {
            socket.abort();
        }
        true
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Calling { deadline, .. } => Some(*deadline),
            Self::Open(pipe) => pipe.deadline(),
            Self::Waiting { .. } | Self::Ending => None,
        }
    }
}

/// Hands a connection to whoever listens; one that there is no room for is broken off.
fn arrive(
    socket: &tcp::Socket<'_>,
    arrivals: &tokio::sync::mpsc::Sender<(End, SocketAddrV6)>,
) -> Line {
    let Some(from) = socket.remote_endpoint() else {
        return Line::Ending;
    };
    let IpAddress::Ipv6(address) = from.addr;
    let from = SocketAddrV6::new(address, from.port, 0, 0);
    match Pipe::new() {
        Ok((pipe, end)) => match arrivals.try_send((end, from)) {
            Ok(()) => Line::Open(pipe),
            Err(_) => Line::Ending,
        },
        Err(_) => Line::Ending,
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; STACK_BUFFER_LEN]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_congestion_control(CongestionControl::Cubic);
    // Bytes come from programs that have gathered what they want to say.
    socket.set_nagle_enabled(false);
    let span = |length: std::time::Duration| Span::from_micros(length.as_micros() as u64);
    socket.set_keep_alive(Some(span(STACK_KEEPALIVE)));
    socket.set_timeout(Some(span(STACK_SILENCE_MAX)));
    socket
}
