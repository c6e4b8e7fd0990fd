//! Ways to instances that have no network of their own: a small TCP of ours at the service's
//! address, whose connections are led to where the instance really listens.
//!
//! ```text
//!   data plane ◄─ packets ─► stack at fd5e:…:5 ═ connection ═► 127.x.y.z:5432 ◄─ the instance
//! ```
//! To the data plane the stack is the instance's TUN, so access and meters are the same as for any
//! other. Invariant: a connection that the instance refuses ends with an error for its client.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use mesh_compute::doors::Doors;
use mesh_compute::step::ItemId;
use mesh_dataplane::connection::End;
use mesh_dataplane::forward;
use mesh_dataplane::limits::CONNECT_WAIT;
use mesh_dataplane::stack::{Arrivals, Stack};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The ways of all instances.
pub struct Ways {
    tasks: Handle,
    open: BTreeMap<ItemId, Way>,
}

struct Way {
    /// Held: its end is the end of the address.
    _stack: Stack,
    listeners: Vec<JoinHandle<()>>,
}

impl Ways {
    /// No ways; connections will be carried by these tasks.
    pub fn new(tasks: Handle) -> Self {
        let open = BTreeMap::new();
        Self { tasks, open }
    }

    /// Opens the way to an instance, instead of one that there was; returns what looks like its
    /// TUN.
    ///
    /// # Errors
    /// There are no descriptors or threads left.
    pub fn open(
        &mut self,
        item: ItemId,
        address: Ipv6Addr,
        doors: Doors,
        ports: &[u16],
    ) -> io::Result<OwnedFd> {
        self.close(item);
        let stack = Stack::start(address)?;
        let tun = stack.tun()?;
        let mut listeners = Vec::new();
        for port in ports {
            let arrivals = stack.listen(*port)?;
            listeners.push(self.tasks.spawn(lead(arrivals, doors.ways_in(*port))));
        }
        let way = Way {
            _stack: stack,
            listeners,
        };
        self.open.insert(item, way);
        Ok(tun)
    }

    /// Closes it and breaks off its connections.
    pub fn close(&mut self, item: ItemId) {
        self.open.remove(&item);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

/// Leads each connection to the first place that takes it.
async fn lead(mut arrivals: Arrivals, places: [SocketAddrV4; 2]) {
    while let Some((end, _)) = poll_fn(|context| arrivals.poll_accept(context)).await {
        tokio::spawn(async move {
            // Those over the limit end, the old are kept. The client sees its connection end; more
            // there is not to tell it.
            if let Ok(_place) = PLACES.try_acquire() {
                let _ = carry(end, places).await;
            }
        });
    }
}

/// Most connections to all instances here: each has three descriptors, of which a process has 1024.
const CONNECTIONS_MAX: usize = 192;
static PLACES: Semaphore = Semaphore::const_new(CONNECTIONS_MAX);

async fn carry(end: End, places: [SocketAddrV4; 2]) -> io::Result<()> {
    let client = end.into_stream()?;
    let [first, second] = places;
    let connect = async {
        match TcpStream::connect(first).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                TcpStream::connect(second).await
            }
            other => other,
        }
    };
    let service = timeout(CONNECT_WAIT, connect).await??;
    forward::splice(service, client).await
}
