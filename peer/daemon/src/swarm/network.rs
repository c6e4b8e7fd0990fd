//! One task owns the swarm of admitted nodes: commands in, events out, nothing else inside.
//!
//! It never waits for anybody else, touches no disk and decodes nothing. Connection events go
//! through an unbounded channel because losing one would leave the node wrong about who is there;
//! the connection limits below, and that of `nearby`, bound what can be in it. Decides how many
//! connections there may be and when one is dead; whom to dial and keep is the node's choice.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::transport::{Transport, TransportError};
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm, SwarmBuilder, mdns, noise, ping, yamux};
use libp2p_stream as stream;
use mesh_base::certificate::Chain;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_base::time::Wall;
use mesh_dataplane::carrier::Carrier;
use mesh_peer::message::Lane;
use mesh_peer::refusal::Reason;
use tokio::sync::mpsc;

use crate::swarm::across::{self, Across, Sockets};
use crate::swarm::gate::{Gate, Trust};
use crate::swarm::lanes::{self, Arrival, Outgoing, Told};
use crate::swarm::nearby::{self, Nearby};
use crate::swarm::tunnels::Tunnels;
use crate::swarm::underlay_tcp::{Threshold, UnderlayTcp};
use crate::swarm::{crowd, identity, underlay_only, underlay_streams};

/// Most connections that are still at the gate; each costs some 100 KiB for at most five seconds.
const PENDING_MAX: u32 = 128;
/// How many of them one place and all strangers may have: several nodes behind one router that
/// start together, and always room for places of members.
const AT_THE_GATE: crowd::Room = crowd::Room {
    per_place_max: 16,
    strangers_max: 96,
    counted: crowd::Counted::UntilAdmitted,
};
/// Most admitted connections: the node keeps 256 peers, and two may cross when both dial.
const ESTABLISHED_MAX: u32 = 600;
/// Most connections of one peer.
const PER_PEER_MAX: u32 = 4;
/// Frames that wait for the node; a full channel makes readers, and so senders, wait.
const ARRIVALS_MAX: usize = 256;
/// Refusals that wait for the node; a flood of strangers is cut here.
const REFUSALS_MAX: usize = 64;
/// Broken lanes whose writers wait to tell: two of each connection.
const BROKEN_MAX: usize = 2 * ESTABLISHED_MAX as usize;
/// Commands that wait for the swarm's task.
const COMMANDS_MAX: usize = 1024;
/// How often each connection is tried, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without streams is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Addresses of one peer that are tried at the same time.
const DIAL_CONCURRENCY: NonZeroU8 = NonZeroU8::new(4).expect("four is not zero");

/// What happens on the control network.
#[derive(Debug)]
pub enum Event {
    /// The gate admitted a peer and its first connection stands; or frames to it may have been lost
    /// since, because a lane broke while another connection stood.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Its verified certificates.
        chain: Chain,
        /// Where it is seen; the port means something only if we dialed.
        seen: Option<SocketAddr>,
    },
    /// The last connection of a peer ended.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// Somebody on the local network says that a peer is there; nothing proves it.
    Found {
        /// The peer.
        peer: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
}

/// Why the control network could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The handshake could not be prepared.
    #[error("cannot prepare the Noise handshake")]
    Noise(#[from] noise::Error),
    /// None of the listen addresses could be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: TransportError<std::io::Error>,
    },
    /// A second network in one process; our own fault.
    #[error("the lanes are in use already")]
    Lanes(#[from] stream::AlreadyRegistered),
}

enum Command {
    Dial {
        peer: PeerId,
        addresses: Vec<SocketAddr>,
    },
    Hangup {
        peer: PeerId,
    },
    Forsake {
        peer: PeerId,
    },
    ForsakeCut {
        carrier: Arc<Mutex<Carrier>>,
    },
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    // Fields are asked in this order whether a connection may be.
    limits: connection_limits::Behaviour,
    underlay_only: underlay_only::Behaviour,
    crowd: crowd::Behaviour,
    ping: ping::Behaviour,
    nearby: nearby::Behaviour,
    stream: stream::Behaviour,
    underlay_streams: underlay_streams::Behaviour,
}

/// Where everything of the control network comes out.
pub struct Incoming {
    /// Connections that come and go.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Frames of admitted peers. That a peer is connected is in `events` before its first frame is
    /// here.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// Why somebody was refused at the gate, or refused us.
    pub refusals: mpsc::Receiver<Reason>,
}

/// The control network; clones command the same one. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct Network {
    gate: Gate,
    outgoing: Outgoing,
    commands: mpsc::Sender<Command>,
}

impl Network {
    /// Listens and starts the task. At least one of the addresses must work; across the overlay, if
    /// we have an address there, is tried and not needed. Runs inside tokio.
    pub fn start(
        secret: &SecretKey,
        listen: &[SocketAddr],
        overlay: Option<(Ipv6Addr, Sockets)>,
        nearby: Nearby,
        (tunnels, threshold): (Tunnels, Threshold),
        wall: fn() -> Wall,
    ) -> Result<(Self, Incoming), NetworkError> {
        let (refusal, refusals) = mpsc::channel(REFUSALS_MAX);
        let (arrival, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let (event, events) = mpsc::unbounded_channel();
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        let gate = Gate::new(refusal, wall);
        let (own, sockets) = match overlay {
            Some((own, sockets)) => (Some(own), sockets),
            None => (None, Sockets::Host),
        };
        let mut swarm = build(
            &identity::keypair(secret),
            &gate,
            sockets,
            nearby,
            threshold,
        )?;
        listen_on(&mut swarm, listen)?;
        if let Some(own) = own {
            // Without it the node is a node still; those without another way to it do not find it.
            let _ = listen_on(&mut swarm, &[across::control_address(own)]);
        }
        let mut control = swarm.behaviour().stream.new_control();
        let told = Told::default();
        lanes::receive(&mut control, &arrival, &told)?;
        let mut underlay = swarm.behaviour().underlay_streams.new_control();
        tunnels.receive(&mut underlay, &arrival)?;
        let (broken, lanes_broken) = mpsc::channel(BROKEN_MAX);
        let outgoing = Outgoing::new(control, broken);
        let task = Task {
            swarm,
            gate: gate.clone(),
            outgoing: outgoing.clone(),
            told,
            tunnels,
            underlay,
            orders,
            lanes_broken,
            event,
            direct: BTreeMap::new(),
        };
        tokio::spawn(task.run());
        let incoming = Incoming {
            events,
            arrivals,
            refusals,
        };
        Ok((
            Self {
                gate,
                outgoing,
                commands,
            },
            incoming,
        ))
    }

    /// Replaces whom the gate admits and what we show.
    pub fn trust(&self, trust: Trust) {
        self.gate.trust(trust);
    }

    /// Connects to a peer, if we are not connected; overlay addresses are left out.
    pub fn dial(&self, peer: &NodeId, addresses: Vec<SocketAddr>) {
        if let Some(peer) = identity::peer_id(peer) {
            self.command(Command::Dial { peer, addresses });
        }
    }

    /// Closes every connection to a peer.
    pub fn hangup(&self, peer: &NodeId) {
        if let Some(peer) = identity::peer_id(peer) {
            self.command(Command::Hangup { peer });
        }
    }

    /// Closes the connections to a peer over the underlay, because it does not lead there any more;
    /// one across the overlay finds its own way.
    pub fn forsake(&self, peer: &NodeId) {
        if let Some(peer) = identity::peer_id(peer) {
            self.command(Command::Forsake { peer });
        }
    }

    /// Closes the connections whose way lost its cable.
    pub fn forsake_cut(&self, carrier: Arc<Mutex<Carrier>>) {
        self.command(Command::ForsakeCut { carrier });
    }

    /// Queues a frame to a connected peer, or drops it; returns whether it was queued.
    pub fn send(&self, peer: &NodeId, lane: Lane, bytes: Vec<u8>) -> bool {
        self.outgoing.send(peer, lane, bytes)
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            // The node dials again by itself; a swarm that far behind must not get more work.
            tracing::warn!("the control network is too busy; a command was dropped");
        }
    }
}

fn build(
    keypair: &Keypair,
    gate: &Gate,
    sockets: Sockets,
    nearby: Nearby,
    threshold: Threshold,
) -> Result<Swarm<Behaviour>, noise::Error> {
    let tcp = UnderlayTcp::new().with_threshold(threshold);
    let transport = Across::new(sockets)
        .or_transport(tcp)
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(gate.upgrade(keypair)?)
        .multiplex(yamux::Config::default());
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX))
        .with_max_established(Some(ESTABLISHED_MAX))
        .with_max_established_per_peer(Some(PER_PEER_MAX));
    let ping = ping::Config::new()
        .with_interval(PING_INTERVAL)
        .with_timeout(PING_TIMEOUT);
    let built = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_other_transport(|_| transport)
        // Proof: the closure above returns a transport, never an error.
        .expect("making the transport cannot fail")
        .with_behaviour(|_| Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            underlay_only: underlay_only::Behaviour { across: true },
            crowd: crowd::Behaviour::new(AT_THE_GATE),
            ping: ping::Behaviour::new(ping),
            nearby: nearby::begin(nearby, keypair),
            stream: stream::Behaviour::new(),
            underlay_streams: underlay_streams::Behaviour::default(),
        });
    // Proof: the closure above returns a behaviour, never an error.
    let builder = built.expect("making the behaviour cannot fail");
    let swarm = builder.with_swarm_config(|config| {
        config
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_dial_concurrency_factor(DIAL_CONCURRENCY)
            .with_smart_dial()
    });
    Ok(swarm.build())
}

/// Listens where it can; a machine without IPv6 still has its IPv4 addresses.
fn listen_on(swarm: &mut Swarm<Behaviour>, listen: &[SocketAddr]) -> Result<(), NetworkError> {
    let mut failed = None;
    let mut listening = false;
    for address in listen {
        match swarm.listen_on(identity::multiaddr(address)) {
            Ok(_) => listening = true,
            Err(source) => {
                tracing::warn!(%address, error = %source, "cannot listen there");
                failed = Some(NetworkError::Listen {
                    address: *address,
                    source,
                });
            }
        }
    }
    match failed {
        Some(error) if !listening => Err(error),
        _ => Ok(()),
    }
}

struct Task {
    swarm: Swarm<Behaviour>,
    gate: Gate,
    outgoing: Outgoing,
    told: Told,
    tunnels: Tunnels,
    underlay: stream::Control,
    orders: mpsc::Receiver<Command>,
    lanes_broken: mpsc::Receiver<PeerId>,
    event: mpsc::UnboundedSender<Event>,
    /// Connections over the underlay.
    direct: BTreeMap<PeerId, Vec<(ConnectionId, Option<SocketAddr>)>>,
}

impl Task {
    async fn run(mut self) {
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                order = self.orders.recv() => match order {
                    Some(order) => self.on_order(order),
                    None => return,
                },
                Some(peer) = self.lanes_broken.recv() => {
                    // If that was its last connection, the end is told instead.
                    if self.swarm.is_connected(&peer) {
                        self.tell_connected(peer);
                    }
                }
            }
        }
    }

    fn on_order(&mut self, order: Command) {
        match order {
            Command::Dial { peer, addresses } => self.dial(peer, &addresses),
            Command::Hangup { peer } => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Forsake { peer } => {
                for (connection, _) in self.direct.get(&peer).into_iter().flatten() {
                    self.swarm.close_connection(*connection);
                }
            }
            Command::ForsakeCut { carrier } => {
                let carrier = carrier.lock().unwrap_or_else(PoisonError::into_inner);
                for (connection, at) in self.direct.values().flatten() {
                    if at.is_some_and(|at| carrier.is_cut(at)) {
                        self.swarm.close_connection(*connection);
                    }
                }
            }
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: &[SocketAddr]) {
        let addresses: Vec<_> = addresses
            .iter()
            .map(identity::multiaddr)
            .filter(|address| {
                !underlay_only::is_overlay_address(address) || across::parse(address).is_some()
            })
            .collect();
        if addresses.is_empty() {
            return;
        }
        // A port of its own for each dial: two nodes that dial each other from their listening
        // ports would meet in one TCP connection, both as the one who begins.
        let dial = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        if let Err(error) = self.swarm.dial(dial) {
            tracing::debug!(%peer, %error, "not dialed");
        }
    }

    /// Keeps account of the connections over the underlay; the swarm's limits bound them.
    fn note(&mut self, event: &SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } if !underlay_only::is_overlay_address(endpoint.get_remote_address()) => {
                let at = identity::socket_addr(endpoint.get_remote_address());
                let known = self.direct.entry(*peer_id).or_default();
                known.push((*connection_id, at));
                if let (1, Some(node)) = (known.len(), identity::node_id(peer_id)) {
                    self.tunnels.open(node, *peer_id, self.underlay.clone());
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                ..
            } => {
                if let Some(known) = self.direct.get_mut(peer_id) {
                    known.retain(|(one, _)| one != connection_id);
                    if known.is_empty() {
                        self.direct.remove(peer_id);
                        if let Some(node) = identity::node_id(peer_id) {
                            self.tunnels.close(&node);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.note(&event);
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                num_established,
                ..
            } if num_established.get() == 1 => {
                // First: the node may have something to say as soon as it is told.
                if let Some(peer) = identity::node_id(&peer_id) {
                    self.outgoing.open(peer, peer_id);
                }
                self.tell_connected(peer_id);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                cause,
                ..
            } => {
                if let Some(peer) = identity::node_id(&peer_id) {
                    self.outgoing.close(&peer);
                    self.told.disconnected(&peer);
                    let cause = cause.map_or_else(String::new, |cause| cause.to_string());
                    tracing::debug!(peer = %peer_id, cause, "disconnected");
                    let _ = self.event.send(Event::Disconnected { peer });
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                let peer = peer_id.map_or_else(String::new, |peer| peer.to_string());
                tracing::debug!(peer, %error, "not connected");
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => {
                tracing::debug!(from = %send_back_addr, %error, "not admitted");
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::debug!(%address, "listening");
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::error!(?addresses, ?reason, "a listener ended");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Nearby(mdns::Event::Discovered(announced))) => {
                for (peer, addresses) in nearby::found(announced) {
                    let _ = self.event.send(Event::Found { peer, addresses });
                }
                nearby::limit(&mut self.swarm.behaviour_mut().nearby);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(ping::Failure::Timeout),
            })) => {
                tracing::debug!(%peer, "no answer; closing the connection");
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    /// Tells the node that a peer is connected.
    fn tell_connected(&mut self, peer_id: PeerId) {
        let chain = self.gate.chain_of(&peer_id);
        let (Some(peer), Some(chain)) = (identity::node_id(&peer_id), chain) else {
            // Only if a thousand others passed the gate in between; the peer dials again.
            let _ = self.swarm.disconnect_peer_id(peer_id);
            return;
        };
        // Where a peer is seen inside the overlay says nothing about where it stands.
        let direct = self.direct.get(&peer_id).and_then(|known| known.first());
        let seen = direct.and_then(|(_, at)| *at);
        tracing::debug!(peer = %peer_id, ?seen, "connected");
        let _ = self.event.send(Event::Connected { peer, chain, seen });
        // Last: what it has said already must come after.
        self.told.connected(peer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_dataplane::streams::Streams as _;

    use super::*;
    use crate::ports;
    use crate::swarm::crowd::tests::silent_crowd;
    use crate::swarm::gate::tests::{chain, roster};

    const NOW: Wall = Wall(1_000_000);
    const LIMIT: Duration = Duration::from_secs(20);

    struct Peer {
        id: NodeId,
        network: Network,
        incoming: Incoming,
        tunnels: Tunnels,
        address: SocketAddr,
    }

    fn peer(byte: u8, org: u8) -> Peer {
        let secret = SecretKey::from_seed([byte; 32]);
        let org = SecretKey::from_seed([org; 32]);
        let port = ports::free_tcp(&["127.0.0.1".parse().unwrap()], 0).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let tunnels = Tunnels::default();
        let (network, incoming) = Network::start(
            &secret,
            &[address],
            None,
            Nearby::Ignored,
            (tunnels.clone(), Threshold::new().0),
            || NOW,
        )
        .unwrap();
        network.trust(Trust {
            roster: Arc::new(roster(std::slice::from_ref(&org))),
            chain: chain(&secret, &org, Wall(2_000_000)),
        });
        Peer {
            id: NodeId(secret.public()),
            network,
            incoming,
            tunnels,
            address,
        }
    }

    async fn connected(peer: &mut Peer) -> NodeId {
        match tokio::time::timeout(LIMIT, peer.incoming.events.recv()).await {
            Ok(Some(Event::Connected { peer, .. })) => peer,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn members_connect_and_exchange_frames_and_notice_the_end() {
        let (mut left, mut right) = (peer(1, 100), peer(2, 100));
        left.network.dial(&right.id, vec![right.address]);
        assert_eq!(connected(&mut left).await, right.id);
        assert_eq!(connected(&mut right).await, left.id);
        left.network
            .send(&right.id, Lane::Control, b"hello".to_vec());
        match tokio::time::timeout(LIMIT, right.incoming.arrivals.recv()).await {
            Ok(Some(Arrival::Frame { from, bytes })) => {
                assert_eq!((from, bytes), (left.id, b"hello".to_vec()));
            }
            other => panic!("{other:?}"),
        }
        left.network.hangup(&right.id);
        let gone = tokio::time::timeout(LIMIT, right.incoming.events.recv()).await;
        assert!(matches!(gone, Ok(Some(Event::Disconnected { peer })) if peer == left.id));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn silent_crowd_of_one_machine_keeps_no_member_out() {
        let (left, mut right) = (peer(1, 100), peer(2, 100));
        let _crowd = silent_crowd(right.address).await;
        left.network.dial(&right.id, vec![right.address]);
        assert_eq!(connected(&mut right).await, left.id);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn datagrams_pass_between_members_and_garbage_is_told() {
        let (mut left, mut right) = (peer(1, 100), peer(2, 100));
        let (into, mut taken) = mpsc::unbounded_channel();
        right.tunnels.lead_to(move |from, datagrams| {
            for datagram in datagrams {
                let _ = into.send((from, datagram.to_vec()));
            }
        });
        let keepalive = [&[4, 0, 0, 0][..], &[7; 28]].concat();
        assert!(!left.tunnels.send(right.id, &keepalive), "nobody is there");
        left.network.dial(&right.id, vec![right.address]);
        assert_eq!(connected(&mut left).await, right.id);
        assert!(left.tunnels.is_open(right.id));
        assert!(left.tunnels.send(right.id, &keepalive));
        let got = tokio::time::timeout(LIMIT, taken.recv()).await.unwrap();
        assert_eq!(got, Some((left.id, keepalive)));
        assert!(
            left.tunnels
                .send(right.id, b"garbage of more than enough bytes")
        );
        match tokio::time::timeout(LIMIT, right.incoming.arrivals.recv()).await {
            Ok(Some(Arrival::Oversized { from })) => assert_eq!(from, left.id),
            other => panic!("{other:?}"),
        }
        left.network.hangup(&right.id);
        let gone = tokio::time::timeout(LIMIT, left.incoming.events.recv()).await;
        assert!(matches!(gone, Ok(Some(Event::Disconnected { .. }))));
        assert!(!left.tunnels.is_open(right.id));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_said_as_soon_as_a_connection_is_told_arrives() {
        let (mut left, right) = (peer(1, 100), peer(2, 100));
        for round in 0..50_u8 {
            left.network.dial(&right.id, vec![right.address]);
            assert_eq!(connected(&mut left).await, right.id);
            let said = vec![round];
            assert!(left.network.send(&right.id, Lane::Control, said), "{round}");
            left.network.hangup(&right.id);
            let gone = tokio::time::timeout(LIMIT, left.incoming.events.recv()).await;
            assert!(matches!(gone, Ok(Some(Event::Disconnected { .. }))));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn frame_comes_after_the_word_that_its_sender_is_connected() {
        let (mut left, mut right) = (peer(1, 100), peer(2, 100));
        for round in 0..50_u8 {
            left.network.dial(&right.id, vec![right.address]);
            assert_eq!(connected(&mut left).await, right.id);
            assert!(left.network.send(&right.id, Lane::Ledger, vec![round]));
            let arrived = tokio::time::timeout(LIMIT, right.incoming.arrivals.recv()).await;
            assert!(matches!(arrived, Ok(Some(Arrival::Frame { .. }))));
            let told = right.incoming.events.try_recv();
            assert!(matches!(told, Ok(Event::Connected { .. })), "{round}");
            left.network.hangup(&right.id);
            for side in [&mut left, &mut right] {
                let gone = tokio::time::timeout(LIMIT, side.incoming.events.recv()).await;
                assert!(matches!(gone, Ok(Some(Event::Disconnected { .. }))));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stranger_is_refused_and_both_sides_are_told() {
        let (mut left, mut right) = (peer(1, 100), peer(2, 101));
        left.network.dial(&right.id, vec![right.address]);
        for side in [&mut left, &mut right] {
            let refusal = tokio::time::timeout(LIMIT, side.incoming.refusals.recv()).await;
            assert_eq!(refusal.unwrap(), Some(Reason::ForeignOrg));
            assert!(side.incoming.events.try_recv().is_err());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn frame_to_somebody_who_is_not_connected_is_dropped() {
        let (left, right) = (peer(1, 100), peer(2, 100));
        assert!(!left.network.send(&right.id, Lane::Ledger, vec![0; 10]));
    }
}
