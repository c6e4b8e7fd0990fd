//! Names of the mesh for programs of this machine: where they are answered, and who is told so.
//!
//! ```text
//!   programs ─► dnsmasq, unbound, … ─► 127.0.0.153:53 ────────► table
//!   programs ─► systemd-resolved ────► [our address]:high ────► table
//!   programs in our namespace ───────► [our address]:53 there ─► table
//! ```
//! Where port 53 cannot be had, a high port is taken and remembered, and the status says so. Peers
//! never reach these sockets: the door of the overlay lets nothing of theirs in. Decides nothing
//! about names: the table is the node's ([`mesh_peer::names`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::sync::Arc;

use mesh_dataplane::netns::Namespace;
use mesh_peer::names::Names;
use mesh_peer::port::{Input, ResolverSeen};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{Config, NamesPlace};
use crate::names::resolved::Hook;
use crate::names::server::Server;
use crate::ports::Ports;
use crate::swarm::across::Sockets;

mod resolved;
mod server;
mod wire;

/// The port of names.
const PORT: u16 = 53;
/// A place for names that is the same on every machine; systemd-resolved has 127.0.0.53.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 153);
/// How often a port is looked for that is free for datagrams and connections.
const TRIES_MAX: usize = 16;

/// Why names are not answered where they were meant to be.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {at}")]
pub struct PlaceError {
    /// The configured place.
    at: SocketAddr,
    /// Why not.
    source: io::Error,
}

/// Both sockets of one place.
struct Place {
    at: SocketAddr,
    datagrams: UdpSocket,
    connections: TcpListener,
}

/// Every place where names are answered.
pub struct Places {
    places: Vec<Place>,
    sentence: String,
    /// Where systemd-resolved should ask, if the TUN is on the host.
    server: Option<SocketAddr>,
}

/// Tells everybody who answers of a new table.
pub struct Teller(watch::Sender<Arc<Names>>);

impl Teller {
    /// Makes the table the one that is answered from.
    pub fn tell(&self, names: Arc<Names>) {
        self.0.send_replace(names);
    }

    /// Returns the newest table, for whoever looks names up himself.
    pub fn table(&self) -> watch::Receiver<Arc<Names>> {
        self.0.subscribe()
    }
}

impl Places {
    /// Opens the sockets. Runs inside tokio. Only a configured place that cannot be had is an
    /// error: without names everything else still works.
    pub fn open(
        config: &Config,
        mut ports: Ports,
        file: &Path,
        (own, sockets): &(Ipv6Addr, Sockets),
    ) -> Result<Self, PlaceError> {
        let closed = |sentence: &str| Self {
            places: Vec::new(),
            sentence: sentence.to_owned(),
            server: None,
        };
        match (&config.names, sockets) {
            (NamesPlace::Off, _) => Ok(closed("not answered: names.listen is off")),
            (NamesPlace::At(wanted), _) => {
                let places = wanted
                    .iter()
                    .map(|at| Place::at(*at).map_err(|source| PlaceError { at: *at, source }));
                Ok(Self {
                    places: places.collect::<Result<Vec<_>, PlaceError>>()?,
                    ..closed("as names.listen says")
                })
            }
            (NamesPlace::Auto, Sockets::Namespace(namespace)) => {
                match Place::inside(*own, namespace) {
                    Ok(place) => Ok(Self {
                        places: vec![place],
                        ..closed(&format!("in the namespace of process {}", namespace.pid()))
                    }),
                    Err(error) => {
                        tracing::warn!(%error, "names are not answered in the namespace");
                        Ok(closed("not answered: see the end of the log"))
                    }
                }
            }
            (NamesPlace::Auto, Sockets::Host | Sockets::Stack(_)) => {
                let before = ports.names;
                let usual = SocketAddr::from((LOOPBACK, PORT));
                let has_interface = matches!(sockets, Sockets::Host);
                let own = has_interface.then_some(IpAddr::V6(*own));
                let opened = Self::on_host(own, usual, &mut ports.names);
                if ports.names != before
                    && let Err(error) = ports.remember(file)
                {
                    tracing::warn!(%error, "the port of names is not remembered");
                }
                Ok(opened)
            }
        }
    }

    /// On the host everybody asks at a usual place of the loopback. systemd-resolved asks through
    /// the overlay's interface, if there is one, so it needs a port of our own address there; not
    /// 53, which a dnsmasq for all interfaces wants too and does not start without.
    fn on_host(own: Option<IpAddr>, usual: SocketAddr, kept: &mut u16) -> Self {
        let (mut places, mut sentence) = (Vec::new(), "at the usual port".to_owned());
        let server = own.map(|own| Place::on_high_port(SocketAddr::new(own, 0), kept));
        let loopback = Place::at(usual).or_else(|error| {
            sentence = format!("{usual} cannot be had: {error}");
            Place::on_high_port(usual, kept)
        });
        let at = server
            .as_ref()
            .and_then(|place| Some(place.as_ref().ok()?.at));
        for place in [Some(loopback), server].into_iter().flatten() {
            match place {
                Ok(place) => places.push(place),
                Err(error) => tracing::warn!(%error, "a place for names cannot be had"),
            }
        }
        Self {
            places,
            sentence,
            server: at,
        }
    }
}

impl Place {
    fn at(at: SocketAddr) -> io::Result<Self> {
        let datagrams = std::net::UdpSocket::bind(at)?;
        let at = datagrams.local_addr()?;
        let connections = std::net::TcpListener::bind(at)?;
        datagrams.set_nonblocking(true)?;
        connections.set_nonblocking(true)?;
        Ok(Self {
            at,
            datagrams: UdpSocket::from_std(datagrams)?,
            connections: TcpListener::from_std(connections)?,
        })
    }

    /// Takes the remembered port, or any that is free, which is the remembered one from then on.
    fn on_high_port(mut at: SocketAddr, remembered: &mut u16) -> io::Result<Self> {
        at.set_port(*remembered);
        let mut place = Self::at(at);
        for _ in 0..TRIES_MAX {
            if place.is_ok() {
                break;
            }
            at.set_port(0);
            place = Self::at(at);
        }
        let place = place?;
        *remembered = place.at.port();
        Ok(place)
    }

    fn inside(own: Ipv6Addr, namespace: &Namespace) -> io::Result<Self> {
        let datagrams = namespace.datagrams(own, PORT)?.into();
        let connections = namespace.listen(own, PORT)?.into();
        Ok(Self {
            at: SocketAddr::V6(SocketAddrV6::new(own, PORT, 0, 0)),
            datagrams: UdpSocket::from_std(datagrams)?,
            connections: TcpListener::from_std(connections)?,
        })
    }
}

/// Starts to answer. The task ends, with what it changed undone, when `stopping` becomes true.
pub fn start(
    places: Places,
    resolved: bool,
    own: Ipv6Addr,
    mut stopping: watch::Receiver<bool>,
    inputs: mpsc::Sender<Input>,
) -> (Teller, JoinHandle<()>) {
    let (teller, names) = watch::channel(Arc::default());
    let server = Server { names, own };
    let listen = places.places.iter().map(|place| place.at).collect();
    for place in places.places {
        tokio::spawn(server.clone().datagrams(place.datagrams));
        tokio::spawn(server.clone().connections(place.connections));
    }
    let (mut sentence, at) = (places.sentence, places.server);
    let task = tokio::spawn(async move {
        let mut hook = None;
        if let Some(at) = at {
            let told = match resolved {
                true => Hook::engage(at).await,
                false => Err("names.resolved is off".to_owned()),
            };
            sentence = match &told {
                Ok(_) => format!("{sentence}; systemd-resolved asks there"),
                Err(why) => format!("{sentence}; no resolver was told: {why}"),
            };
            hook = told.ok();
        }
        let seen = ResolverSeen { listen, sentence };
        // The node may have ended already.
        let _ = inputs.send(Input::Resolver(seen)).await;
        let _ = stopping.wait_for(|stop| *stop).await;
        if let Some(hook) = hook {
            hook.undo().await;
        }
    });
    (Teller(teller), task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn taken_place_moves_to_a_high_port_and_the_status_says_why() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let usual = taken.local_addr().unwrap();
        let (own, mut kept) = (Some("127.0.0.2".parse().unwrap()), 0);
        let opened = Places::on_host(own, usual, &mut kept);
        let [loopback, server] = opened.places.as_slice() else {
            panic!("two places")
        };
        assert_eq!(loopback.at.ip(), usual.ip());
        assert_ne!(loopback.at.port(), usual.port());
        assert_eq!(opened.server, Some(server.at));
        assert!([loopback.at.port(), server.at.port()].contains(&kept));
        let why = format!("{usual} cannot be had");
        assert!(opened.sentence.starts_with(&why), "{}", opened.sentence);
        drop(taken);
        drop(opened);
        let opened = Places::on_host(own, usual, &mut kept);
        assert_eq!(opened.places.first().map(|place| place.at), Some(usual));
        assert_eq!(opened.sentence, "at the usual port");
        drop(opened);
        // Without an interface there is nobody else to answer.
        let opened = Places::on_host(None, usual, &mut kept);
        assert_eq!((opened.places.len(), opened.server), (1, None));
    }

    #[tokio::test]
    async fn taken_port_is_replaced_by_one_that_stays() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        assert!(Place::at(at).is_err());
        let mut remembered = at.port();
        let place = Place::on_high_port(at, &mut remembered).unwrap();
        assert_ne!(remembered, at.port());
        assert_eq!(place.at.port(), remembered);
        let first = remembered;
        drop(place);
        let again = Place::on_high_port(at, &mut remembered).unwrap();
        assert_eq!((again.at.port(), remembered), (first, first));
    }
}
