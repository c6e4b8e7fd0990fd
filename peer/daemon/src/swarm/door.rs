//! The join door: where somebody who is not a member yet shows an invite, and how we knock at
//! others'.
//!
//! A second, small swarm with a listener of its own, open only while an invite is; the control port
//! lets visitors through to it too, for who may go out to one port only. Its Noise
//! prologue is `meshstead/join/1`, so nothing of the members' network can be reached through it; it
//! speaks one protocol, one request and one answer, both limited. The visitor's key is the Noise
//! identity. Decides nothing about invites: request and answer are bytes for the node.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::transport::{ListenerId, Transport as _};
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Config, Message, ProtocolSupport, ResponseChannel};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, yamux};
use mesh_base::identity::{NodeId, SecretKey};
use mesh_peer::message::{JOIN_REPLY_LEN_MAX, JOIN_REQUEST_LEN_MAX};
use tokio::sync::mpsc;

use crate::ports;
use crate::swarm::underlay_tcp::{Threshold, UnderlayTcp, Visitor};
use crate::swarm::{crowd, identity, underlay_only};

/// The one protocol.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/meshstead/join/1");
/// Noise prologue of the door.
const PROLOGUE: &[u8] = b"meshstead/join/1";
/// Time for an answer; the host writes to disk before it says yes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Most visitors who are at the door at once, and who may knock at once.
const VISITORS_MAX: u32 = 32;
/// How many of them one place may have: whoever wants a key has one.
const AT_THE_DOOR: crowd::Room = crowd::Room {
    per_place_max: 8,
    strangers_max: VISITORS_MAX as usize,
    counted: crowd::Counted::UntilClosed,
};
/// Most connections of one visitor.
const PER_VISITOR_MAX: u32 = 2;
/// Wait before a listener that could not be opened is tried again.
const RETRY_WAIT: Duration = Duration::from_secs(5);

/// Somebody at the door.
#[derive(Debug)]
pub struct Visit {
    /// Names the visit in [`Door::answer`].
    pub number: u64,
    /// The key that Noise proved.
    pub visitor: NodeId,
    /// What it says.
    pub request: Vec<u8>,
}

/// Why nobody answered a knock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnockError {
    /// The handshake could not be prepared.
    #[error("cannot prepare the Noise handshake")]
    Noise(#[from] noise::Error),
    /// The key is not one that libp2p takes.
    #[error("the key in the invite cannot be used")]
    Key,
    /// There is no address to try.
    #[error("the invite names no address that can be dialed")]
    NoAddress,
    /// None of the addresses led to the host.
    #[error("nobody with the right key answered at {addresses}: {reason}")]
    Unreachable {
        /// Which were tried.
        addresses: String,
        /// What the last one said.
        reason: String,
    },
    /// The host was reached but gave no answer.
    #[error("the other side gave no answer: {0}")]
    NoAnswer(request_response::OutboundFailure),
    /// It took too long.
    #[error("nobody answered within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    underlay_only: underlay_only::Behaviour,
    crowd: crowd::Behaviour,
    join: request_response::Behaviour<Frames>,
}

/// Reads and writes requests and answers as bytes up to the end of the stream.
#[derive(Debug, Clone, Copy, Default)]
struct Frames;

impl request_response::Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, JOIN_REQUEST_LEN_MAX).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, JOIN_REPLY_LEN_MAX).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        reply: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&reply).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, len_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(len_max as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.is_empty() {
        // The other side closed the stream instead of speaking.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if len_max < bytes.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(bytes)
}

fn build(keypair: &Keypair, tcp: UnderlayTcp) -> Result<Swarm<Behaviour>, noise::Error> {
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(VISITORS_MAX))
        .with_max_established_incoming(Some(VISITORS_MAX))
        .with_max_established_per_peer(Some(PER_VISITOR_MAX));
    let config = Config::default()
        .with_request_timeout(ANSWER_TIMEOUT)
        .with_max_concurrent_streams(PER_VISITOR_MAX as usize);
    let noise = noise::Config::new(keypair)?.with_prologue(PROLOGUE.to_vec());
    let transport = tcp
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default());
    let built = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_other_transport(|_| transport)
        // Proof: the closure above returns a transport, never an error.
        .expect("making the transport cannot fail")
        .with_behaviour(|_| Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            underlay_only: underlay_only::Behaviour::default(),
            crowd: crowd::Behaviour::new(AT_THE_DOOR),
            join: request_response::Behaviour::new([(PROTOCOL, ProtocolSupport::Full)], config),
        });
    // Proof: the closure above returns a behaviour, never an error.
    Ok(built.expect("making the behaviour cannot fail").build())
}

enum Command {
    Open(bool),
    Answer { number: u64, reply: Vec<u8> },
}

/// Our own door. It closes for good when dropped.
#[derive(Clone)]
pub struct Door {
    commands: mpsc::UnboundedSender<Command>,
}

impl Door {
    /// Makes the door, closed, with a port of its own and whom the control port lets through.
    /// Visits come out of the returned channel. Runs inside tokio.
    pub fn new(
        secret: &SecretKey,
        port: u16,
        (threshold, over): (Threshold, mpsc::Receiver<Visitor>),
    ) -> Result<(Self, mpsc::Receiver<Visit>), noise::Error> {
        // Only the node's own loop sends commands, one for each visit and each invite.
        let (commands, orders) = mpsc::unbounded_channel();
        let (visits, visitors) = mpsc::channel(VISITORS_MAX as usize);
        let keeper = Keeper {
            swarm: build(
                &identity::keypair(secret),
                UnderlayTcp::new().with_visitors(over),
            )?,
            threshold,
            port,
            wanted_open: false,
            listeners: Vec::new(),
            waiting: BTreeMap::new(),
            next_number: 0,
            visits,
        };
        tokio::spawn(keeper.run(orders));
        Ok((Self { commands }, visitors))
    }

    /// Opens or closes the door. Visitors who are inside get their answer.
    pub fn open(&self, open: bool) {
        let _ = self.commands.send(Command::Open(open));
    }

    /// Answers a visitor.
    pub fn answer(&self, number: u64, reply: Vec<u8>) {
        let _ = self.commands.send(Command::Answer { number, reply });
    }
}

/// The task behind a [`Door`].
struct Keeper {
    swarm: Swarm<Behaviour>,
    threshold: Threshold,
    port: u16,
    wanted_open: bool,
    listeners: Vec<ListenerId>,
    waiting: BTreeMap<u64, ResponseChannel<Vec<u8>>>,
    next_number: u64,
    visits: mpsc::Sender<Visit>,
}

impl Keeper {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        let mut retry = tokio::time::interval(RETRY_WAIT);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                order = orders.recv() => match order {
                    Some(Command::Open(open)) => {
                        self.wanted_open = open;
                        self.settle();
                    }
                    Some(Command::Answer { number, reply }) => self.answer(number, reply),
                    None => return,
                },
                _ = retry.tick() => self.settle(),
            }
        }
    }

    /// Makes the listeners agree with what is wanted.
    fn settle(&mut self) {
        self.threshold.open(self.wanted_open);
        if !self.wanted_open {
            for listener in self.listeners.drain(..) {
                self.swarm.remove_listener(listener);
            }
            return;
        }
        if !self.listeners.is_empty() {
            return;
        }
        for ip in ports::ANY {
            let address = SocketAddr::new(ip, self.port);
            match self.swarm.listen_on(identity::multiaddr(&address)) {
                Ok(listener) => self.listeners.push(listener),
                Err(error) => tracing::warn!(%address, %error, "the join door does not open there"),
            }
        }
    }

    fn answer(&mut self, number: u64, reply: Vec<u8>) {
        if let Some(channel) = self.waiting.remove(&number) {
            // A visitor who is gone asks again.
            let _ = self
                .swarm
                .behaviour_mut()
                .join
                .send_response(channel, reply);
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Join(request_response::Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            })) => {
                let Some(visitor) = identity::node_id(&peer) else {
                    return;
                };
                self.waiting.retain(|_, channel| channel.is_open());
                let number = self.next_number;
                self.next_number += 1;
                // At the limit the visitor gets no answer and its connection ends: the dropped
                // channel.
                if self.waiting.len() < VISITORS_MAX as usize
                    && self
                        .visits
                        .try_send(Visit {
                            number,
                            visitor,
                            request,
                        })
                        .is_ok()
                {
                    self.waiting.insert(number, channel);
                }
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => {
                tracing::debug!(from = %send_back_addr, %error, "a visitor did not get in");
            }
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.listeners.retain(|listener| *listener != listener_id);
            }
            _ => {}
        }
    }
}

/// How long a door may take to open after its invite was made.
const OPENING_PATIENCE: Duration = Duration::from_secs(2);
/// How often a closed door is tried meanwhile.
const OPENING_PAUSE: Duration = Duration::from_millis(50);

/// Says `request` at the door of `host` and returns the answer.
pub async fn knock(
    secret: &SecretKey,
    host: &NodeId,
    addresses: &[SocketAddr],
    request: Vec<u8>,
) -> Result<Vec<u8>, KnockError> {
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .copied()
        .filter(|address| !is_overlay(address))
        .collect();
    if addresses.is_empty() {
        return Err(KnockError::NoAddress);
    }
    let peer = identity::peer_id(host).ok_or(KnockError::Key)?;
    let mut swarm = build(&identity::keypair(secret), UnderlayTcp::new())?;
    let dialed: Vec<Multiaddr> = addresses.iter().map(identity::multiaddr).collect();
    let say = |swarm: &mut Swarm<Behaviour>| {
        let join = &mut swarm.behaviour_mut().join;
        join.send_request_with_addresses(&peer, request.clone(), dialed.clone());
    };
    say(&mut swarm);
    let until = tokio::time::Instant::now() + OPENING_PATIENCE;
    let mut reason = "no connection".to_owned();
    let answer = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::OutgoingConnectionError { error, .. } => reason = error.to_string(),
                SwarmEvent::Behaviour(BehaviourEvent::Join(event)) => match event {
                    request_response::Event::Message {
                        message: Message::Response { response, .. },
                        ..
                    } => return Ok(response),
                    request_response::Event::OutboundFailure {
                        error: request_response::OutboundFailure::DialFailure,
                        ..
                    } => {
                        // An invite may be in hand a moment before its door is open.
                        if tokio::time::Instant::now() < until {
                            tokio::time::sleep(OPENING_PAUSE).await;
                            say(&mut swarm);
                            continue;
                        }
                        return Err(KnockError::Unreachable {
                            addresses: list(&addresses),
                            reason,
                        });
                    }
                    request_response::Event::OutboundFailure { error, .. } => {
                        return Err(KnockError::NoAnswer(error));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    };
    tokio::time::timeout(ANSWER_TIMEOUT, answer)
        .await
        .map_err(|_| KnockError::Timeout)?
}

fn is_overlay(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V6(ip) => mesh_base::address::is_overlay(&ip),
        IpAddr::V4(_) => false,
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::crowd::tests::silent_crowd;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_seed([byte; 32])
    }

    fn id(byte: u8) -> NodeId {
        NodeId(key(byte).public())
    }

    fn door() -> (Door, mpsc::Receiver<Visit>, SocketAddr) {
        let port = ports::free_tcp(&ports::ANY, 0).unwrap();
        let (door, visits) = Door::new(&key(1), port, Threshold::new()).unwrap();
        (door, visits, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Visits while the host is at home.
    async fn visit_answered(
        door: &Door,
        visits: &mut mpsc::Receiver<Visit>,
        address: SocketAddr,
    ) -> bool {
        let host = async {
            if let Some(visit) = visits.recv().await {
                door.answer(visit.number, b"welcome".to_vec());
            }
            std::future::pending().await
        };
        tokio::select! {
            answer = visit(address, b"let me in") => answer.is_ok(),
            () = host => false,
        }
    }

    async fn visit(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>, KnockError> {
        knock(&key(2), &id(1), &[address], request.to_vec()).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn visitor_is_heard_with_its_proven_key_and_answered() {
        let (door, mut visits, address) = door();
        door.open(true);
        let host = tokio::spawn(async move {
            let visit = visits.recv().await.unwrap();
            door.answer(visit.number, b"welcome".to_vec());
            (visit.visitor, visit.request, door)
        });
        assert_eq!(visit(address, b"let me in").await.unwrap(), b"welcome");
        let (visitor, request, _door) = host.await.unwrap();
        assert_eq!((visitor, request), (id(2), b"let me in".to_vec()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn visitor_who_comes_too_early_waits_for_the_door() {
        let (door, mut visits, address) = door();
        let early = tokio::spawn(async move { visit(address, b"let me in").await });
        // Nobody listens yet; the listener is another task's business, and the first dial is quick.
        tokio::task::yield_now().await;
        door.open(true);
        let visit = visits.recv().await.unwrap();
        door.answer(visit.number, b"welcome".to_vec());
        assert_eq!(early.await.unwrap().unwrap(), b"welcome");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn silent_crowd_of_one_machine_keeps_no_visitor_out() {
        let (door, mut visits, address) = door();
        door.open(true);
        assert!(visit_answered(&door, &mut visits, address).await);
        let _crowd = silent_crowd(address).await;
        assert!(visit_answered(&door, &mut visits, address).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn closed_door_and_wrong_host_are_unreachable() {
        let (_door, _visits, address) = door();
        let closed = knock(&key(2), &id(1), &[address], Vec::new()).await;
        assert!(
            matches!(closed, Err(KnockError::Unreachable { .. })),
            "{closed:?}"
        );
        let nowhere = knock(
            &key(2),
            &id(1),
            &["[fd6d::1]:1".parse().unwrap()],
            Vec::new(),
        )
        .await;
        assert!(matches!(nowhere, Err(KnockError::NoAddress)), "{nowhere:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn host_with_another_key_is_not_believed() {
        let (door, _visits, address) = door();
        door.open(true);
        let got = knock(&key(2), &id(3), &[address], b"secret".to_vec()).await;
        assert!(
            matches!(got, Err(KnockError::Unreachable { .. })),
            "{got:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn too_long_request_gets_no_answer() {
        let (door, mut visits, address) = door();
        door.open(true);
        let long = vec![0; JOIN_REQUEST_LEN_MAX + 1];
        let got = visit(address, &long).await;
        assert!(matches!(got, Err(KnockError::NoAnswer(_))), "{got:?}");
        assert!(visits.try_recv().is_err());
    }
}
