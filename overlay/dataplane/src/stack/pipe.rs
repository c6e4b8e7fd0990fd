//! One connection: bytes between a TCP socket of smoltcp and a pair of sockets.
//!
//! ```text
//!   app ── shut for writing ──► FIN              FIN ──► shut for writing ── app
//!   app ── closed ────────────► FIN, and RST     RST ──► broken, closed ──── app
//!                               for what comes
//! ```
//! Nothing is kept here: bytes stay in smoltcp's buffer or in the kernel's until the other has
//! room. Decides when a half is closed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair,
};
use smoltcp::socket::tcp::{self, RecvError, State};

use crate::connection::End;
use crate::limits::STACK_ORPHAN_MAX;

/// Our side of one connection.
#[derive(Debug)]
pub struct Pipe {
    app: OwnedFd,
    broken: Arc<AtomicBool>,
    /// The app said that it sends no more.
    app_ended: bool,
    /// The app was told that nothing more comes.
    app_told: bool,
    /// The app's buffer was full.
    blocked: bool,
    /// The app has let go of its end.
    orphan_since: Option<Instant>,
}

impl Pipe {
    /// Makes the pair; the other end is for the app.
    pub fn new() -> io::Result<(Self, End)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (app, fd) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let broken = Arc::new(AtomicBool::new(false));
        let end = End {
            fd,
            broken: Arc::clone(&broken),
        };
        let pipe = Self {
            app,
            broken,
            app_ended: false,
            app_told: false,
            blocked: false,
            orphan_since: None,
        };
        Ok((pipe, end))
    }

    /// Moves what can be moved; returns whether anything was.
    pub fn step(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) -> bool {
        let before = (socket.recv_queue(), socket.send_queue(), socket.state());
        self.give(socket);
        self.take(socket);
        if let Some(since) = self.orphan_since
            && STACK_ORPHAN_MAX < now.saturating_duration_since(since)
        {
            socket.abort();
        }
        before != (socket.recv_queue(), socket.send_queue(), socket.state())
    }

    /// Returns whether there is something for an app that reads slowly.
    pub fn owes(&self, socket: &tcp::Socket<'_>) -> bool {
        self.blocked && self.orphan_since.is_none() && socket.can_recv()
    }

    /// From the network to the app.
    fn give(&mut self, socket: &mut tcp::Socket<'_>) {
        self.blocked = false;
        while socket.can_recv() && !self.blocked {
            let app = self.app.as_raw_fd();
            let given = socket.recv(|bytes| match send(app, bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(len) => (len, Ok(())),
                Err(errno) => (0, Err(errno)),
            });
            match given {
                Ok(Err(Errno::EAGAIN)) => self.blocked = true,
                Ok(Err(Errno::EINTR) | Ok(())) => {}
                // Nobody is there to take it.
                Ok(Err(_)) | Err(_) => return socket.abort(),
            }
        }
        if self.app_told || socket.can_recv() || socket.may_recv() {
            return;
        }
        match (socket.recv(|_| (0, ())), socket.state()) {
            (Err(RecvError::Finished), _) => {
                self.app_told = true;
                let _ = shutdown(self.app.as_raw_fd(), Shutdown::Write);
            }
            (_, State::Closed) => {
                self.app_told = true;
                self.broken.store(true, Ordering::Release);
                let _ = shutdown(self.app.as_raw_fd(), Shutdown::Both);
            }
            _ => {}
        }
    }

    /// From the app to the network.
    fn take(&mut self, socket: &mut tcp::Socket<'_>) {
        while !self.app_ended && socket.can_send() {
            let app = self.app.as_raw_fd();
            let taken = socket.send(|buffer| match recv(app, buffer, MsgFlags::empty()) {
                Ok(len) => (len, Ok(len)),
                Err(errno) => (0, Err(errno)),
            });
            match taken {
                Ok(Ok(0)) => {
                    self.app_ended = true;
                    socket.close();
                }
                Ok(Ok(_) | Err(Errno::EINTR)) => {}
                Ok(Err(Errno::EAGAIN)) => return,
                Ok(Err(_)) | Err(_) => return socket.abort(),
            }
        }
    }

    /// Returns what to wait for on the app's side; nothing if it is gone.
    pub fn interest(&self, socket: &tcp::Socket<'_>) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.orphan_since.is_some() {
            return None;
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, !self.app_ended && socket.can_send());
        flags.set(PollFlags::POLLOUT, self.blocked);
        Some((self.app.as_fd(), flags))
    }

    /// Takes note that the app has let go of its end.
    pub fn orphan(&mut self, now: Instant) {
        self.orphan_since.get_or_insert(now);
    }

    /// Returns when the connection is broken off because nobody wants it here.
    pub fn deadline(&self) -> Option<Instant> {
        self.orphan_since.map(|since| since + STACK_ORPHAN_MAX)
    }
}
