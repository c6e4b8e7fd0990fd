//! TCP in the daemon itself, for machines on which nobody gives us a network of our own.
//!
//! ```text
//!   forwards, proxies ─► pair of sockets ═╗      ╔═ pair with packet borders ◄─► data plane
//!   control network ───► pair of sockets ═╩ thread "stack": smoltcp       ("the host's TUN")
//! ```
//! The data plane sees a descriptor that looks like a TUN; whoever wants a connection gets a
//! descriptor that looks like one (see [`crate::connection`]). Between the two one thread runs
//! smoltcp. It answers echo requests, connects, and listens on ports that the daemon itself names;
//! every other port is closed. What does not fit is not read, so both sides' own flow control
//! holds.
//!
//! | room | idea |
//! |---|---|
//! | `engine` | the thread: packets, connections, deadlines |
//! | `pipe` | one connection: bytes between smoltcp and a pair of sockets |
//! | `device` | packets in and out, and what errors are about |

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use crate::connection::End;
use crate::limits::{CONNECT_WAIT, STACK_ARRIVALS_MAX, STACK_REQUESTS_MAX};
use crate::stack::engine::Engine;
use crate::sys::Waker;

mod device;
mod engine;
mod pipe;

/// Bytes of packets that wait between us and the data plane; the kernel gives what it allows.
const QUEUE_LEN: usize = 208 * 1024;

/// The running stack. Dropping it breaks off its connections.
#[derive(Debug)]
pub struct Stack {
    requests: SyncSender<Request>,
    shared: Arc<Shared>,
    tun: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told by flags.
#[derive(Debug)]
struct Shared {
    waker: Waker,
    stopping: AtomicBool,
}

/// What is asked of the thread.
enum Request {
    Connect {
        to: SocketAddrV6,
        answer: SyncSender<io::Result<End>>,
    },
    Listen {
        port: u16,
        arrivals: tokio::sync::mpsc::Sender<(End, SocketAddrV6)>,
        answer: SyncSender<io::Result<()>>,
    },
}

/// Connections that come in at one port. Dropping it closes the port.
#[derive(Debug)]
pub struct Arrivals(tokio::sync::mpsc::Receiver<(End, SocketAddrV6)>);

impl Stack {
    /// Starts the thread for our address.
    pub fn start(own: Ipv6Addr) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (tun, inside) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        for end in [&tun, &inside] {
            setsockopt(end, sockopt::SndBuf, &QUEUE_LEN)?;
        }
        let shared = Arc::new(Shared {
            waker: Waker::new()?,
            stopping: AtomicBool::new(false),
        });
        let (requests, asked) = sync_channel(STACK_REQUESTS_MAX);
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        let seed = u64::from_ne_bytes(seed);
        let engine = Engine::new(own, inside, seed, asked, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("stack".to_owned())
            .spawn(move || engine.run())?;
        Ok(Self {
            requests,
            shared,
            tun,
            thread: Some(thread),
        })
    }

    /// Returns another descriptor of what looks like a TUN, for [`crate::Config::host_tun`].
    pub fn tun(&self) -> io::Result<OwnedFd> {
        self.tun.try_clone()
    }

    /// Connects to an address of the overlay; waits until that is done, or [`CONNECT_WAIT`].
    pub fn connect(&self, to: SocketAddrV6) -> io::Result<End> {
        let (answer, answered) = sync_channel(1);
        self.ask(Request::Connect { to, answer }, &answered)
    }

    /// Listens on a port of our own address.
    pub fn listen(&self, port: u16) -> io::Result<Arrivals> {
        let (arrivals, arriving) = tokio::sync::mpsc::channel(STACK_ARRIVALS_MAX);
        let (answer, answered) = sync_channel(1);
        let request = Request::Listen {
            port,
            arrivals,
            answer,
        };
        self.ask(request, &answered)?;
        Ok(Arrivals(arriving))
    }

    fn ask<T>(&self, request: Request, answered: &Receiver<io::Result<T>>) -> io::Result<T> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.requests.send(request).map_err(|_| gone())?;
        self.shared.waker.wake();
        // Longer than the thread itself waits, so that its reason is heard.
        let answer = answered.recv_timeout(CONNECT_WAIT * 2);
        answer.map_err(|_| gone())?
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of it has been told already.
            let _ = thread.join();
        }
    }
}

impl Arrivals {
    /// Takes a connection that came, with its sender; none when the stack has ended.
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Option<(End, SocketAddrV6)>> {
        self.0.poll_recv(context)
    }
}

#[cfg(test)]
mod tests;
