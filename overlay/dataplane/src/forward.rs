//! Loopback ports for services: programs of this machine reach the overlay although its TUN is in a
//! namespace of our own.
//!
//! ```text
//!   psql ──► 127.0.0.1:PORT ══ bytes both ways ══ socket from the namespace ──► [fd73:…]:5432
//! ```
//! A (service, port) keeps its loopback port while the forward exists, and gets the one it had
//! before if that is free. Connections over the limit are closed at once: the new is refused, the
//! old is kept. Anybody on this machine can connect to a loopback port; services ask for passwords
//! all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::connection::{Connection, Socket};
use crate::limits::{CONNECT_WAIT, FORWARDED_MAX};
use crate::netns::Namespace;
use crate::stack::Stack;
use crate::sys::lock;

/// A service address and a port there.
pub type Target = (Ipv6Addr, u16);

/// Makes sockets in the overlay.
pub trait Dialer: Send + Sync + 'static {
    /// Returns a socket that is connecting to `to`, or connected; it does not block.
    fn dial(&self, to: SocketAddrV6) -> io::Result<Socket>;
}

/// Connects to an address of the overlay; waits no longer than [`CONNECT_WAIT`].
pub async fn connect(dialer: Arc<dyn Dialer>, to: SocketAddrV6) -> io::Result<Connection> {
    let connected = async {
        // The helper answers in microseconds, but it is another process: not on an async thread.
        let socket = tokio::task::spawn_blocking(move || dialer.dial(to)).await??;
        socket.connected().await
    };
    timeout(CONNECT_WAIT, connected).await?
}

/// Carries bytes both ways until both have ended; a connection that was broken off on one side is
/// broken off on the other, and not brought to a seemly end.
pub async fn splice(mut client: TcpStream, mut server: Connection) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let spliced = copy_bidirectional(&mut client, &mut server).await;
    if spliced.is_err() {
        let _ = client.set_zero_linger();
    }
    spliced.map(|_| ())
}

impl Dialer for Namespace {
    fn dial(&self, to: SocketAddrV6) -> io::Result<Socket> {
        self.connect(to).map(Socket::Kernel)
    }
}

impl Dialer for Stack {
    fn dial(&self, to: SocketAddrV6) -> io::Result<Socket> {
        self.connect(to).map(Socket::Stack)
    }
}

/// The loopback ports in use. Dropping it closes them and their connections.
pub struct Forwards {
    dialer: Arc<dyn Dialer>,
    runtime: Handle,
    places: Arc<Semaphore>,
    open: Mutex<BTreeMap<Target, Forward>>,
    preferred: Mutex<BTreeMap<Target, u16>>,
}

struct Forward {
    local: u16,
    task: AbortHandle,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forwards {
    /// Prepares forwards through `dialer`. `preferred` holds the ports that targets had before.
    pub fn new(dialer: Arc<dyn Dialer>, runtime: Handle, preferred: BTreeMap<Target, u16>) -> Self {
        Self {
            dialer,
            runtime,
            places: Arc::new(Semaphore::new(FORWARDED_MAX)),
            open: Mutex::new(BTreeMap::new()),
            preferred: Mutex::new(preferred),
        }
    }

    /// Makes the forwards be exactly these; returns (service, port, loopback port) of each that
    /// could be opened. What could not is logged and tried again by the next call.
    pub fn set(&self, wanted: &BTreeSet<Target>) -> Vec<(Ipv6Addr, u16, u16)> {
        let mut open = lock(&self.open);
        open.retain(|target, _| wanted.contains(target));
        for target in wanted {
            if open.contains_key(target) {
                continue;
            }
            match self.listen(*target) {
                Ok(forward) => {
                    lock(&self.preferred).insert(*target, forward.local);
                    open.insert(*target, forward);
                }
                Err(error) => {
                    tracing::warn!(port = target.1, %error, "cannot open a loopback port")
                }
            }
        }
        open.iter()
            .map(|((service, port), forward)| (*service, *port, forward.local))
            .collect()
    }

    fn listen(&self, target: Target) -> io::Result<Forward> {
        let preferred = lock(&self.preferred).get(&target).copied();
        let listener = match preferred.map(bind) {
            Some(Ok(listener)) => listener,
            _ => bind(0)?,
        };
        let local = listener.local_addr()?.port();
        let _entered = self.runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let accepting = accept(
            listener,
            target,
            Arc::clone(&self.dialer),
            Arc::clone(&self.places),
        );
        let task = self.runtime.spawn(accepting).abort_handle();
        Ok(Forward { local, task })
    }
}

fn bind(port: u16) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts until aborted; the connections end with it.
async fn accept(
    listener: TcpListener,
    target: Target,
    dialer: Arc<dyn Dialer>,
    places: Arc<Semaphore>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        tracing::warn!(port = target.1, "too many forwarded connections");
                        continue;
                    };
                    connections.spawn(lead(client, target, Arc::clone(&dialer), place));
                }
                Err(error) => {
                    // Out of descriptors, most likely: others must close before we go on.
                    tracing::warn!(%error, "cannot accept on a loopback port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn lead(
    client: TcpStream,
    (service, port): Target,
    dialer: Arc<dyn Dialer>,
    _place: OwnedSemaphorePermit,
) {
    let to = SocketAddrV6::new(service, port, 0, 0);
    let led = async { splice(client, connect(dialer, to).await?).await };
    if let Err(error) = led.await {
        tracing::debug!(port, %error, "a forwarded connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Stands for a namespace: dials from where we are.
    struct Here;

    impl Dialer for Here {
        fn dial(&self, to: SocketAddrV6) -> io::Result<Socket> {
            let stream = std::net::TcpStream::connect(to)?;
            stream.set_nonblocking(true)?;
            Ok(Socket::Kernel(stream.into()))
        }
    }

    fn forwards(preferred: BTreeMap<Target, u16>) -> Forwards {
        Forwards::new(Arc::new(Here), Handle::current(), preferred)
    }

    async fn echo_service() -> Target {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        (Ipv6Addr::LOCALHOST, port)
    }

    async fn call(port: u16, question: &[u8]) -> io::Result<Vec<u8>> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(question).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let target = echo_service().await;
        let forwards = forwards(BTreeMap::new());
        let [(_, _, local)] = forwards.set(&BTreeSet::from([target]))[..] else {
            panic!("one")
        };
        assert_eq!(call(local, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn port_stays_while_wanted_and_comes_back_when_wanted_again() {
        let target = echo_service().await;
        let forwards = forwards(BTreeMap::new());
        let wanted = BTreeSet::from([target]);
        let first = forwards.set(&wanted);
        assert_eq!(forwards.set(&wanted), first);
        assert_eq!(forwards.set(&BTreeSet::new()), []);
        let local = first[0].2;
        while call(local, b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(forwards.set(&wanted), first);
        assert_eq!(call(local, b"again").await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn remembered_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let target = echo_service().await;
        let forwards = forwards(BTreeMap::from([(target, port)]));
        let [(_, _, local)] = forwards.set(&BTreeSet::from([target]))[..] else {
            panic!("one")
        };
        assert_ne!(local, port);
        assert_eq!(call(local, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn too_many_connections_are_refused_and_the_old_ones_kept() {
        let target = echo_service().await;
        let forwards = Forwards {
            places: Arc::new(Semaphore::new(1)),
            ..forwards(BTreeMap::new())
        };
        let [(_, _, local)] = forwards.set(&BTreeSet::from([target]))[..] else {
            panic!("one")
        };
        let mut old = TcpStream::connect((Ipv4Addr::LOCALHOST, local))
            .await
            .unwrap();
        let mut byte = [0];
        old.write_all(b"a").await.unwrap();
        old.read_exact(&mut byte).await.unwrap();
        assert!(
            call(local, b"x")
                .await
                .map_or(true, |answer| answer.is_empty())
        );
        old.write_all(b"b").await.unwrap();
        old.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"b");
    }
}
