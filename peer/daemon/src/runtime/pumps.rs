//! Tasks that bring what happens outside to the node's queue, each from one source.
//!
//! They wait when the queue is full, so a flood slows its senders and not the node. Connection
//! events go before frames: the node must know a peer before it hears it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_base::codec;
use mesh_peer::message::{JOIN_REQUEST_LEN_MAX, JoinRequest, Message};
use mesh_peer::port::{Input, VisitId};
use mesh_routing::portmap::{Mapping, Transport, Wish};
use tokio::sync::{Notify, mpsc, watch};

use crate::config::Config;
use crate::ports::{ANY, Ports};
use crate::runtime::overlay::Overlay;
use crate::runtime::routing::Loss;
use crate::runtime::shared::Shared;
use crate::swarm::door::Visit;
use crate::swarm::lanes::Arrival;
use crate::swarm::network::{Event, Incoming, Network};
use crate::underlay;

/// How often the links are told to the node.
const LINKS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the machine's addresses are read.
const UNDERLAY_INTERVAL: Duration = Duration::from_secs(5);

/// Brings everything of the control network.
pub async fn network(mut incoming: Incoming, inputs: mpsc::Sender<Input>) {
    loop {
        let input = tokio::select! {
            biased;
            Some(event) = incoming.events.recv() => connection(event),
            Some(reason) = incoming.refusals.recv() => Input::GateRefused { reason },
            Some(arrival) = incoming.arrivals.recv() => {
                // Both may have come since the first line looked.
                while let Ok(event) = incoming.events.try_recv() {
                    if inputs.send(connection(event)).await.is_err() {
                        return;
                    }
                }
                frame(arrival)
            }
            else => return,
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

fn connection(event: Event) -> Input {
    match event {
        Event::Connected { peer, chain, seen } => Input::Connected { peer, chain, seen },
        Event::Disconnected { peer } => Input::Disconnected { peer },
        Event::Found { peer, addresses } => Input::Found { peer, addresses },
    }
}

fn frame(arrival: Arrival) -> Input {
    match arrival {
        Arrival::Frame { from, bytes } => match Message::from_bytes(&bytes) {
            Ok(message) => Input::Message { from, message },
            Err(error) => {
                tracing::debug!(peer = %from.key().short(), %error, "a message cannot be read");
                Input::Garbled { from }
            }
        },
        Arrival::Oversized { from } => Input::Garbled { from },
    }
}

/// Ends control connections over links that are gone, so that nobody waits for their silence.
/// Whoever waits for `changed` hears that the machine's addresses may be others.
pub async fn lost(mut losses: mpsc::Receiver<Loss>, network: Network, changed: Arc<Notify>) {
    while let Some(loss) = losses.recv().await {
        match loss {
            Loss::Neighbour(peer) => network.forsake(&peer),
            Loss::Cables(carrier) => {
                changed.notify_one();
                network.forsake_cut(carrier);
            }
        }
    }
}

/// Brings visitors of the join door; what cannot be read gets no answer.
pub async fn door(mut visits: mpsc::Receiver<Visit>, inputs: mpsc::Sender<Input>) {
    while let Some(visit) = visits.recv().await {
        let Ok(request) = codec::decode::<JoinRequest>(&visit.request, JOIN_REQUEST_LEN_MAX) else {
            tracing::debug!(visitor = %visit.visitor.key().short(), "a join request is garbled");
            continue;
        };
        let input = Input::Visit {
            visit: VisitId(visit.number),
            visitor: visit.visitor,
            request,
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Tells the node about once a second what the data plane sees.
pub async fn links(overlay: Shared<Overlay>, inputs: mpsc::Sender<Input>) {
    let mut beat = tokio::time::interval(LINKS_INTERVAL);
    let mut dropped = Vec::new();
    let guide = overlay.with(|overlay| overlay.guide());
    loop {
        beat.tick().await;
        let (links, drops) = overlay.with(|overlay| (overlay.links(), overlay.plane().drops()));
        if drops != dropped {
            tracing::debug!(?drops, "packets went nowhere since the start");
            dropped.clone_from(&drops);
            if inputs.send(Input::Dropped(drops)).await.is_err() {
                return;
            }
        }
        if inputs.send(Input::Links(links)).await.is_err() {
            return;
        }
        // A thread that has no time to count will have it in a second.
        if let Some(known) = guide.counts().await
            && inputs.send(Input::Routing(known)).await.is_err()
        {
            return;
        }
    }
}

/// Says where this machine can be reached at `addresses`, and through its home's router.
pub fn underlay_input(
    config: &Config,
    ports: &Ports,
    addresses: &[IpAddr],
    mapped: &[Mapping],
) -> Input {
    let any = ANY.map(|ip| SocketAddr::new(ip, 0));
    let outside = |transport: Transport, port: u16| outside(mapped, transport, port);
    let control = underlay::with_port(addresses, &config.listen, ports.control);
    let wireguard = underlay::with_port(addresses, &any, ports.wireguard);
    let control = underlay::with_mapped(control, outside(Transport::Tcp, ports.control));
    // Visitors are let through there, and routers lead there; the door's own port comes after.
    let own_port = underlay::with_port(addresses, &any, ports.door);
    let door = control.iter().copied().chain(own_port).collect();
    Input::Underlay {
        control,
        wireguard: underlay::with_mapped(wireguard, outside(Transport::Udp, ports.wireguard)),
        door,
    }
}

/// Returns where the home's router lets the world in to a port of ours.
fn outside(mapped: &[Mapping], transport: Transport, port: u16) -> Option<SocketAddr> {
    let wish = Wish { transport, port };
    let mapping = mapped.iter().find(|mapping| mapping.wish == wish);
    mapping.map(|mapping| SocketAddr::V4(mapping.external))
}

/// Tells the data plane and the node where this machine can be reached, now and whenever that
/// changes; the kernel's word that it may have comes by `changed`.
pub async fn underlay(
    config: Config,
    ports: Ports,
    mut mapped: watch::Receiver<Vec<Mapping>>,
    (overlay, changed): (Shared<Overlay>, Arc<Notify>),
    inputs: mpsc::Sender<Input>,
) {
    let mut beat = tokio::time::interval(UNDERLAY_INTERVAL);
    let mut last = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = changed.notified() => {}
            // Whoever maps ports may have ended; then nothing changes any more.
            Ok(()) = mapped.changed() => {}
        }
        let found = (
            underlay::addresses(&config.advertise),
            mapped.borrow_and_update().clone(),
        );
        if found != last {
            let any = ANY.map(|ip| SocketAddr::new(ip, 0));
            let own = underlay::with_port(&found.0, &any, ports.wireguard);
            let mapped = outside(&found.1, Transport::Udp, ports.wireguard);
            overlay.with(|overlay| overlay.plane().set_places(&own, mapped));
            let input = underlay_input(&config, &ports, &found.0, &found.1);
            last = found;
            if inputs.send(input).await.is_err() {
                return;
            }
        }
    }
}
