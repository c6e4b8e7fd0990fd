//! The data plane as this daemon runs it: on the host or in a namespace of our own, with its
//! forwards.
//!
//! On the host, overlay addresses work in every program. In a namespace, or where there is none for
//! us in the daemon itself, services are forwarded from ports on 127.0.0.1, which are remembered so
//! that a URL stays right over a restart. Decides only where the TUN lives; the plan is the node's.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mesh_base::identity::SecretKey;
use mesh_dataplane::forward::{Dialer, Forwards, Target};
use mesh_dataplane::netns::{Namespace, NamespaceError};
use mesh_dataplane::plane::{self, Dataplane, HostAccess, PlaneError};
use mesh_dataplane::stack::Stack;
use mesh_dataplane::tun::{self, TunError};
use mesh_peer::port::{LinkSeen, Reach};
use mesh_routing::plan::Plan;
use tokio::sync::mpsc;

use crate::config::TunPlace;
use crate::home::Home;
use crate::remember;
use crate::runtime::explain::Guide;
use crate::runtime::ordinary::Ordinary;
use crate::runtime::routing::{self, Loss, Routing};
use crate::swarm::across::Sockets;
use crate::swarm::tunnels::Tunnels;

/// Name of the TUN on the host.
pub const TUN_NAME: &str = "mesh0";
/// How the kernel lists the route that another daemon's TUN on the host has made: fd6d::/16.
const HOST_ROUTE: &str = "fd6d0000000000000000000000000000 10 ";

/// Why there is no data plane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// No TUN on the host.
    #[error("cannot make the network interface {TUN_NAME}")]
    Tun(#[from] TunError),
    /// No namespace.
    #[error("cannot make a network of our own")]
    Namespace(#[from] NamespaceError),
    /// The descriptor or the program's own path could not be had.
    #[error("cannot prepare the network interface")]
    Prepare(#[source] std::io::Error),
    /// The threads or the UDP port.
    #[error("cannot start the data plane")]
    Plane(#[from] PlaneError),
}

/// The running data plane.
pub struct Overlay {
    own: Ipv6Addr,
    sockets: Sockets,
    plane: Arc<Dataplane>,
    routing: Routing,
    tunnels: Tunnels,
    forwards: Option<Remembered>,
}

/// Forwards whose ports are written down.
struct Remembered {
    forwards: Forwards,
    file: PathBuf,
    written: Vec<(Ipv6Addr, u16, u16)>,
}

impl Overlay {
    /// Makes the TUN and starts the data plane on UDP port `port`. Neighbours that are gone are
    /// told to `lost`. Runs inside tokio.
    pub fn start(
        home: &Home,
        secret: &SecretKey,
        own: Ipv6Addr,
        place: TunPlace,
        port: u16,
        mut ordinary: Ordinary,
        lost: mpsc::Sender<Loss>,
    ) -> Result<Self, OverlayError> {
        let (host_tun, sockets) = settle(place, own)?;
        let (routing, listener) = routing::prepare();
        let tunnels = Tunnels::default();
        let plane = Arc::new(Dataplane::start(plane::Config {
            secret_x25519: secret.to_x25519(),
            udp_bind: SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            host_tun,
            host_access: HostAccess::AnswersOnly,
            listener: Some(listener),
            streams: Some(Box::new(tunnels.clone())),
        })?);
        let taker = Arc::downgrade(&plane);
        tunnels.lead_to(move |from, datagrams| {
            if let Some(plane) = taker.upgrade() {
                plane.take_streamed(from, datagrams.iter().copied());
            }
        });
        // Routes of local networks are of use where the host's programs see the overlay.
        ordinary.kernel = matches!(sockets, Sockets::Host);
        let routing = routing.start(&plane, ordinary, lost);
        let routing = routing.map_err(OverlayError::Prepare)?;
        let forwards = match &sockets {
            Sockets::Host => None,
            inside => Some(Remembered::new(home, Arc::new(inside.clone()))),
        };
        Ok(Self {
            own,
            sockets,
            plane,
            routing,
            tunnels,
            forwards,
        })
    }

    /// Returns how programs on this machine reach services.
    pub fn reach(&self) -> Reach {
        match self.forwards {
            Some(_) => Reach::Loopback,
            None => Reach::Address,
        }
    }

    /// Returns our address in the overlay, and where sockets there are made.
    pub fn sockets(&self) -> (Ipv6Addr, Sockets) {
        (self.own, self.sockets.clone())
    }

    /// Returns the streams of links, which need somebody with connections.
    pub fn tunnels(&self) -> Tunnels {
        self.tunnels.clone()
    }

    /// Makes the plan the state of things; returns the forwards as (service, port, loopback port).
    pub fn apply(&mut self, plan: &Plan) -> Vec<(Ipv6Addr, u16, u16)> {
        self.plane.apply(plan);
        self.routing.apply(plan);
        self.forwards
            .as_mut()
            .map_or_else(Vec::new, |forwards| forwards.set(plan))
    }

    /// Returns who explains routes.
    pub fn guide(&self) -> Guide {
        self.routing.guide()
    }

    /// Returns the data plane, to attach instances to it and read their traffic.
    pub fn plane(&self) -> &Dataplane {
        &self.plane
    }

    /// Returns the state of every link, as the node wants it.
    pub fn links(&self) -> Vec<LinkSeen> {
        let routed = self.plane.routed_counts();
        let seen = self.plane.links().into_iter().map(|link| LinkSeen {
            routed_count: routed.get(&link.peer).copied().unwrap_or_default(),
            peer: link.peer,
            endpoint: link.endpoint,
            carrier: link.carrier,
            silent_ms: link.silent_ms,
            link_silent_ms: link.link_silent_ms,
            received_bytes: link.received_bytes,
            sent_bytes: link.sent_bytes,
        });
        seen.collect()
    }
}

impl Remembered {
    fn new(home: &Home, dialer: Arc<dyn Dialer>) -> Self {
        let file = home.forwards();
        let written: Vec<(Ipv6Addr, u16, u16)> = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let preferred: BTreeMap<Target, u16> = written
            .iter()
            .map(|(service, port, local)| ((*service, *port), *local))
            .collect();
        let runtime = tokio::runtime::Handle::current();
        let forwards = Forwards::new(dialer, runtime, preferred);
        Self {
            forwards,
            file,
            written,
        }
    }

    fn set(&mut self, plan: &Plan) -> Vec<(Ipv6Addr, u16, u16)> {
        let open = self.forwards.set(&plan.forwards);
        // An empty list comes before the node has read its own orders; keep what was.
        if open != self.written && !open.is_empty() {
            let text = serde_json::to_vec(&open).unwrap_or_default();
            if let Err(error) = remember::replace(&self.file, &text) {
                tracing::warn!(%error, "cannot remember loopback ports");
            }
            self.written.clone_from(&open);
        }
        open
    }
}

/// Where the TUN goes, and with it every socket of the overlay.
fn settle(place: TunPlace, own: Ipv6Addr) -> Result<(OwnedFd, Sockets), OverlayError> {
    match place {
        TunPlace::Host => on_host(own),
        TunPlace::Namespace => in_namespace(own),
        TunPlace::Userspace => in_ourselves(own),
        TunPlace::Auto if host_is_taken() => apart(own),
        TunPlace::Auto => on_host(own).or_else(|error| {
            tracing::debug!(%error, "no interface on the host; trying a namespace");
            apart(own)
        }),
    }
}

/// In a namespace, or without one where there is none for us.
fn apart(own: Ipv6Addr) -> Result<(OwnedFd, Sockets), OverlayError> {
    match in_namespace(own) {
        Err(OverlayError::Namespace(error)) => {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, why, "no namespace; speaking TCP without the kernel");
            in_ourselves(own)
        }
        settled => settled,
    }
}

fn on_host(own: Ipv6Addr) -> Result<(OwnedFd, Sockets), OverlayError> {
    let tun = tun::open(&tun::Spec::host(TUN_NAME, own))?;
    Ok((tun, Sockets::Host))
}

fn in_namespace(own: Ipv6Addr) -> Result<(OwnedFd, Sockets), OverlayError> {
    let program = std::env::current_exe().map_err(OverlayError::Prepare)?;
    let namespace = Namespace::spawn(&program, own)?;
    let tun = namespace.tun().map_err(OverlayError::Prepare)?;
    Ok((tun, Sockets::Namespace(Arc::new(namespace))))
}

fn in_ourselves(own: Ipv6Addr) -> Result<(OwnedFd, Sockets), OverlayError> {
    let stack = Stack::start(own).map_err(OverlayError::Prepare)?;
    let tun = stack.tun().map_err(OverlayError::Prepare)?;
    Ok((tun, Sockets::Stack(Arc::new(stack))))
}

/// Returns whether another daemon's TUN claims the overlay's prefix on this host.
fn host_is_taken() -> bool {
    let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    routes.lines().any(|route| route.starts_with(HOST_ROUTE))
}
