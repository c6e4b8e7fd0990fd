//! One TCP connection of the overlay, whoever speaks its TCP.
//!
//! ```text
//!   namespace or host ─► a socket of the kernel ─────────┐
//!   userspace stack ───► one end of a pair of sockets ───┴─► Connection: bytes in, bytes out
//! ```
//! The stack's end carries besides what a pair of sockets cannot say: that the other side broke the
//! connection off. Invariant: a stream that was broken off ends with an error, never like one that
//! came to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection that somebody made for us; it does not block.
#[derive(Debug)]
pub enum Socket {
    /// A TCP socket of the kernel, connected or connecting.
    Kernel(OwnedFd),
    /// The end of a connection of the userspace stack.
    Stack(End),
}

/// Our end of a connection of the userspace stack.
#[derive(Debug)]
pub struct End {
    pub(crate) fd: OwnedFd,
    /// Set before the pair is closed, if the connection was broken off.
    pub(crate) broken: Arc<AtomicBool>,
}

/// A connected stream.
#[derive(Debug)]
pub enum Connection {
    /// The kernel speaks its TCP.
    Kernel(TcpStream),
    /// The userspace stack does.
    Stack(UnixStream, Arc<AtomicBool>),
}

impl Socket {
    /// Waits until it is connected. It notices within two minutes that the other end is gone.
    /// Runs inside tokio.
    pub async fn connected(self) -> io::Result<Connection> {
        match self {
            Self::Kernel(fd) => {
                setsockopt(&fd, sockopt::KeepAlive, &true)?;
                setsockopt(&fd, sockopt::TcpKeepIdle, &60)?;
                setsockopt(&fd, sockopt::TcpKeepInterval, &10)?;
                setsockopt(&fd, sockopt::TcpKeepCount, &6)?;
                let stream = TcpStream::from_std(std::net::TcpStream::from(fd))?;
                stream.writable().await?;
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                stream.set_nodelay(true)?;
                Ok(Connection::Kernel(stream))
            }
            Self::Stack(end) => end.into_stream(),
        }
    }
}

impl End {
    /// Makes a stream of it. Runs inside tokio.
    pub fn into_stream(self) -> io::Result<Connection> {
        let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(self.fd))?;
        Ok(Connection::Stack(stream, self.broken))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Kernel(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Stack(stream, broken) => {
                let before = buffer.filled().len();
                ready!(Pin::new(stream).poll_read(context, buffer))?;
                let is_end = buffer.filled().len() == before && buffer.remaining() != 0;
                if is_end && broken.load(Ordering::Acquire) {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Kernel(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Stack(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Kernel(stream) => Pin::new(stream).poll_flush(context),
            Self::Stack(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Kernel(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Stack(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
