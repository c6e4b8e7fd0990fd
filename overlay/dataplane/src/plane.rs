//! The data plane: three threads, one UDP port, the TUNs, and the newest plan.
//!
//! [`Dataplane`] is the handle; what the threads share is `Shared`. A new plan becomes a new
//! `Live`, which is put in place whole, so that a packet sees the old picture or the new one and
//! never a mixture. Links survive a new plan as long as their key stays; flows survive as long as
//! their instance stays. Decides nothing about packets: that is `mesh-routing`; nothing about
//! links: that is [`crate::peer`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_routing::access::Access;
use mesh_routing::answer::Budget;
use mesh_routing::fib::Fib;
use mesh_routing::limits::CLIENTS_MAX;
use mesh_routing::plan::{PeerPlan, Plan};
use mesh_routing::table::{DropReason, Table};
use mesh_routing::talk::{self, Talk};

use crate::client::{Client, ClientStats};
use crate::exit::{Exit, Route};
use crate::guard::Guard;
use crate::limits::{CANDIDATES_MAX, OUTER_LEN_MAX};
use crate::peer::{LinkStats, Peer, Turn, Who};
use crate::probe::Heard;
use crate::pump;
use crate::reach::Own;
use crate::session::{Local, WireGuard, is_weak};
use crate::streams::Streams;
use crate::sys::{Waker, lock, scatter};
use crate::tun::Device;
use crate::wire::Wire;

/// Whether peers may begin conversations with this machine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostAccess {
    /// Only answers to what this machine asked, and echo requests, come in.
    #[default]
    AnswersOnly,
    /// Everything that a peer sends to our node address comes in.
    Open,
}

/// What a data plane is made of.
pub struct Config {
    /// The node's X25519 secret.
    pub secret_x25519: [u8; 32],
    /// Where to listen; unspecified means both families, port 0 means any.
    pub udp_bind: SocketAddr,
    /// The TUN of this machine, from [`crate::tun::open`] or [`crate::netns::Namespace::tun`].
    pub host_tun: OwnedFd,
    /// Who may talk to this machine itself.
    pub host_access: HostAccess,
    /// Who hears routing talk; nobody if there is no routing.
    pub listener: Option<Box<dyn Listener>>,
    /// What carries links where UDP does not; nothing else if there is nobody.
    pub streams: Option<Box<dyn Streams>>,
}

/// Who hears what happens on links. Called from the thread that carries packets, so it must not
/// wait.
pub trait Listener: Send + Sync {
    /// A neighbour's speaker said something. Returns false if there was no room for it.
    fn handle_talk(&self, spoken: Spoken) -> bool;
    /// A link works, for the first time or after a silence.
    fn handle_up(&self, node: NodeId);
    /// A node said something about a way that we had asked about; its session proves who it is.
    fn handle_probe(&self, _heard: Heard) {}
}

/// Why the data plane could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaneError {
    /// The UDP port is taken or not ours.
    #[error("cannot listen on UDP {address}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Threads, wakers or the TUN's descriptor.
    #[error("cannot start the data plane")]
    Start(#[source] io::Error),
}

/// The running data plane. Dropping it stops its threads and closes everything.
///
/// Every method may be called from any thread and returns at once.
pub struct Dataplane {
    pub(crate) shared: Arc<Shared>,
    control: Mutex<Control>,
    threads: Vec<JoinHandle<()>>,
    port: u16,
}

/// What only the handle changes.
struct Control {
    plan: Plan,
    /// Taken for ever by links that were; 24 bits are 16 million links.
    next_index: u32,
    attached: BTreeMap<Digest, Arc<Device>>,
    /// Keys of clients by their addresses.
    clients: BTreeMap<Ipv6Addr, [u8; 32]>,
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) wire: Wire,
    pub(crate) local: Local,
    /// Looks at handshakes before they are opened.
    pub(crate) guard: Mutex<Guard>,
    pub(crate) host: Device,
    /// The door of this machine; none if it is open.
    pub(crate) host_door: Option<Mutex<Access>>,
    pub(crate) listener: Option<Box<dyn Listener>>,
    streams: Option<Box<dyn Streams>>,
    pub(crate) stopping: AtomicBool,
    /// Whether the timer takes short steps now.
    pub(crate) restless: AtomicBool,
    /// One for each thread: receiver, reader, timer.
    pub(crate) wakers: [Waker; 3],
    live: RwLock<Arc<Live>>,
    /// That of the newest picture.
    generation: AtomicU64,
    drops: [AtomicU64; DropReason::ALL.len()],
    /// How many errors may still be sent.
    pub(crate) answers: Mutex<Budget>,
    /// How many senders may still be told that a parcel of theirs had no hop left; each peer has
    /// its own number for probes.
    pub(crate) probes: Mutex<Budget>,
    /// Where this node may be reached.
    pub(crate) own: Own,
    epoch: Instant,
}

/// One picture of the plan and of the routes, ready for looking things up. Its parts are shared
/// with the picture before, so that a new route costs no new plan.
#[derive(Clone)]
pub(crate) struct Live {
    /// Counts pictures.
    generation: u64,
    pub(crate) own: Ipv6Addr,
    pub(crate) table: Arc<Table>,
    pub(crate) fib: Arc<Fib>,
    pub(crate) peers: Arc<BTreeMap<NodeId, Arc<Peer>>>,
    pub(crate) clients: Arc<BTreeMap<Ipv6Addr, Arc<Client>>>,
    pub(crate) by_index: Arc<HashMap<u32, Whose>>,
    pub(crate) by_key: Arc<HashMap<[u8; 32], Whose>>,
    /// Where peers are expected, as the plan says.
    pub(crate) expected: Arc<HashSet<IpAddr>>,
    pub(crate) instances: Arc<BTreeMap<Digest, Arc<Instance>>>,
}

/// Whose session it is.
#[derive(Clone)]
pub(crate) enum Whose {
    /// A node's.
    Node(Arc<Peer>),
    /// A client's.
    Client(Arc<Client>),
}

/// What a neighbour's Babel speaker said, over the link's own underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// The neighbour.
    pub from: NodeId,
    /// Its address on the link.
    pub source: Ipv6Addr,
    /// Ours, or every router on the link.
    pub destination: Ipv6Addr,
    /// A Babel packet, not trusted yet.
    pub payload: Vec<u8>,
}

/// An instance of ours, with or without its TUN.
pub(crate) struct Instance {
    pub(crate) door: Arc<Mutex<Access>>,
    pub(crate) device: Option<Arc<Device>>,
    pub(crate) traffic: Arc<Traffic>,
}

/// Bytes of packets that passed an instance's door.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
}

impl Dataplane {
    /// Starts the threads with an empty plan.
    pub fn start(config: Config) -> Result<Self, PlaneError> {
        let address = config.udp_bind;
        let wire = Wire::bind(address).map_err(|source| PlaneError::Bind { address, source })?;
        let port = wire
            .local_port()
            .map_err(|source| PlaneError::Bind { address, source })?;
        let plan = Plan {
            own: Ipv6Addr::UNSPECIFIED,
            leaf: false,
            peers: BTreeMap::new(),
            services: BTreeMap::new(),
            instances: BTreeMap::new(),
            forwards: BTreeSet::new(),
        };
        let local = Local::new(config.secret_x25519);
        let shared = Arc::new(Shared {
            wire,
            guard: Mutex::new(Guard::new(&local)),
            local,
            host: Device::new(config.host_tun).map_err(PlaneError::Start)?,
            host_door: match config.host_access {
                HostAccess::AnswersOnly => Some(Mutex::default()),
                HostAccess::Open => None,
            },
            listener: config.listener,
            streams: config.streams,
            stopping: AtomicBool::new(false),
            restless: AtomicBool::new(false),
            wakers: new_wakers().map_err(PlaneError::Start)?,
            live: RwLock::new(Arc::new(Live::empty(&plan))),
            generation: AtomicU64::new(0),
            drops: Default::default(),
            answers: Mutex::default(),
            probes: Mutex::default(),
            own: Own::default(),
            epoch: Instant::now(),
        });
        let next_index = u32::try_from(scatter() & 0xff_ffff).unwrap_or(0);
        let control = Mutex::new(Control {
            plan,
            next_index,
            attached: BTreeMap::new(),
            clients: BTreeMap::new(),
        });
        let mut plane = Self {
            shared,
            control,
            threads: Vec::new(),
            port,
        };
        // If a thread cannot be had, dropping `plane` stops those that run already.
        plane
            .spawn("mesh-udp", pump::receive)
            .map_err(PlaneError::Start)?;
        plane
            .spawn("mesh-tun", pump::read)
            .map_err(PlaneError::Start)?;
        plane
            .spawn("mesh-timer", pump::tick)
            .map_err(PlaneError::Start)?;
        Ok(plane)
    }

    fn spawn(&mut self, name: &str, run: fn(&Shared)) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&shared))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Makes the plan the state of things. `forwards` is the business of [`crate::forward`].
    pub fn apply(&self, plan: &Plan) {
        let mut control = lock(&self.control);
        control.plan = plan.clone();
        self.publish(&mut control);
    }

    /// Makes these the clients: keys by addresses in our /64, [`CLIENTS_MAX`] at most, the rest is
    /// left out. Who stays keeps its session; who is gone has none from this moment.
    pub fn set_clients(&self, clients: &BTreeMap<Ipv6Addr, [u8; 32]>) {
        let mut control = lock(&self.control);
        // Whom anybody could be is not let in.
        let safe = clients.iter().filter(|(_, key)| !is_weak(key));
        let kept = safe.take(CLIENTS_MAX);
        control.clients = kept.map(|(address, key)| (*address, *key)).collect();
        self.publish(&mut control);
    }

    /// Returns the state of every client's session.
    pub fn clients(&self) -> Vec<ClientStats> {
        let now = Instant::now();
        let live = self.shared.live();
        live.clients.values().map(|it| it.stats(now)).collect()
    }

    /// Changes next hops: for each /64 the neighbour through which it is reached, or none. Returns
    /// how many were refused because the table is full.
    pub fn set_routes(&self, changes: &[([u8; 8], Option<NodeId>)]) -> usize {
        self.change_fib(|fib| {
            let refused = changes
                .iter()
                .filter(|(prefix, next)| !fib.set(*prefix, *next));
            refused.count()
        })
    }

    /// Sets the neighbour through which a leaf reaches everybody else.
    pub fn set_aggregate(&self, next: Option<NodeId>) {
        self.change_fib(|fib| fib.set_aggregate(next));
    }

    /// Returns over which neighbour how many destinations are reached, as [`Fib::routed_counts`].
    pub fn routed_counts(&self) -> BTreeMap<NodeId, u32> {
        self.shared.live().fib.routed_counts()
    }

    /// Returns whether anybody is reached over a neighbour other than these.
    pub fn leads_past(&self, neighbours: &BTreeSet<NodeId>) -> bool {
        self.shared.live().fib.leads_past(neighbours)
    }

    /// Sets the neighbours whose parcels may pass through us: none at the start.
    pub fn set_transit(&self, neighbours: BTreeSet<NodeId>) {
        self.change_fib(|fib| fib.set_transit(neighbours));
    }

    fn change_fib<T>(&self, change: impl FnOnce(&mut Fib) -> T) -> T {
        let _control = lock(&self.control);
        let mut live = Live::clone(&self.shared.live());
        let changed = change(Arc::make_mut(&mut live.fib));
        live.generation += 1;
        self.replace(live);
        changed
    }

    /// Says something to a neighbour's Babel speaker, over the link's own underlay or not at all.
    pub fn say(&self, to: NodeId, destination: Ipv6Addr, payload: &[u8]) -> Result<(), DropReason> {
        let live = self.shared.live();
        let peer = live.peers.get(&to).ok_or(DropReason::Unreachable)?;
        let talk = Talk {
            source: talk::link_local(live.own),
            destination,
            payload,
        };
        let packet = talk::write(talk).ok_or(DropReason::Malformed)?;
        self.speak(peer, &packet)
    }

    /// Sends a sign of life over a peer's link now.
    pub fn nudge(&self, to: NodeId) {
        let live = self.shared.live();
        if let Some(peer) = live.peers.get(&to) {
            // Without a session there is a handshake under way already.
            let _ = self.speak(peer, &[]);
        }
    }

    fn speak(&self, peer: &Peer, packet: &[u8]) -> Result<(), DropReason> {
        let mut out = vec![0; OUTER_LEN_MAX];
        let mut exit = self.shared.exit();
        peer.say(packet, &mut exit, &mut out, Instant::now())
    }

    /// Connects an instance's TUN, replacing an earlier one.
    pub fn attach(&self, item: Digest, tun: OwnedFd) -> io::Result<()> {
        let device = Arc::new(Device::new(tun)?);
        let mut control = lock(&self.control);
        control.attached.insert(item, device);
        self.publish(&mut control);
        Ok(())
    }

    /// Lets go of an instance's TUN.
    pub fn detach(&self, item: Digest) {
        let mut control = lock(&self.control);
        if control.attached.remove(&item).is_some() {
            self.publish(&mut control);
        }
    }

    /// Returns the state of every link.
    pub fn links(&self) -> Vec<LinkStats> {
        let now = Instant::now();
        self.shared
            .live()
            .peers
            .values()
            .map(|peer| peer.stats(now))
            .collect()
    }

    /// Returns the state of every link by the first half of its peer's address.
    pub fn links_by_prefix(&self) -> BTreeMap<[u8; 8], LinkStats> {
        let now = Instant::now();
        let live = self.shared.live();
        let halves = live.peers.values().filter_map(|peer| {
            let octets = peer.address.octets();
            Some((*octets.first_chunk::<8>()?, peer.stats(now)))
        });
        halves.collect()
    }

    /// Returns the state of the link to one peer.
    pub fn link(&self, node: NodeId) -> Option<LinkStats> {
        let live = self.shared.live();
        live.peers.get(&node).map(|peer| peer.stats(Instant::now()))
    }

    /// Returns how many peers no next hop leads to.
    pub fn unreachable_count(&self) -> usize {
        let live = self.shared.live();
        let peers = live.peers.values();
        peers
            .filter(|peer| live.fib.next_hop(peer.address).is_none())
            .count()
    }

    /// Returns the bytes that (reached, left) an instance since it first stood in a plan or was
    /// attached to this data plane; zero if it is neither.
    pub fn traffic(&self, item: Digest) -> (u64, u64) {
        let live = self.shared.live();
        live.instances.get(&item).map_or((0, 0), |instance| {
            let Traffic { received, sent } = &*instance.traffic;
            (
                received.load(Ordering::Relaxed),
                sent.load(Ordering::Relaxed),
            )
        })
    }

    /// Returns how many packets went nowhere, by reason; reasons that never happened are left out.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let counts = self
            .shared
            .drops
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        DropReason::ALL
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| 0 < *count)
            .collect()
    }

    /// Returns the UDP port that we listen on.
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// Puts a new picture in place and tells the reader that there may be other TUNs.
    fn publish(&self, control: &mut Control) {
        let before = self.shared.live();
        let after = Live::build(control, &before, &self.shared.local);
        self.replace(after);
        for waker in &self.shared.wakers {
            waker.wake();
        }
    }

    fn replace(&self, after: Live) {
        let generation = after.generation;
        *self
            .shared
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        self.shared.generation.store(generation, Ordering::Release);
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for waker in &self.shared.wakers {
            waker.wake();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the data plane had panicked");
            }
        }
    }
}

impl Shared {
    /// Makes the ways out for one thread.
    pub(crate) fn exit(&self) -> Exit<'_> {
        Exit::new(&self.wire).with_streams(self.streams.as_deref())
    }

    /// Returns the newest picture.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges `live` if it is not the newest picture any more. Called after a packet was taken
    /// and before it is judged, so that no packet that came after a plan is judged by the one
    /// before.
    pub(crate) fn renew(&self, live: &mut Arc<Live>) {
        if live.generation != self.generation.load(Ordering::Acquire) {
            *live = self.live();
        }
    }

    /// Lets the timer take short steps, for somebody waits.
    pub(crate) fn unsettle(&self) {
        if !self.restless.swap(true, Ordering::SeqCst) {
            self.hurry();
        }
    }

    /// Lets the timer look at every link now.
    pub(crate) fn hurry(&self) {
        let [_, _, timer] = &self.wakers;
        timer.wake();
    }

    /// Counts a packet that went nowhere.
    pub(crate) fn drop_packet(&self, reason: DropReason) {
        if let Some(count) = self.drops.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the time for the doors; only differences matter to them.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        Moment(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

impl Live {
    fn empty(plan: &Plan) -> Self {
        Self {
            generation: 0,
            own: plan.own,
            table: Arc::new(Table::from_plan(plan)),
            fib: Arc::default(),
            peers: Arc::default(),
            clients: Arc::default(),
            by_index: Arc::default(),
            by_key: Arc::default(),
            expected: Arc::default(),
            instances: Arc::default(),
        }
    }

    fn build(control: &mut Control, before: &Self, local: &Local) -> Self {
        let peers = build_peers(control, before, local);
        let clients = build_clients(control, before, local);
        let of_client = |it: &Arc<Client>| (it.index, it.key, Whose::Client(Arc::clone(it)));
        let of_node = |it: &Arc<Peer>| (it.index, it.key, Whose::Node(Arc::clone(it)));
        // Nodes last: a key that is a node's is the node's.
        let by = || {
            let clients = clients.values().map(of_client);
            clients.chain(peers.values().map(of_node))
        };
        let table = Table::from_plan(&control.plan).with_clients(clients.keys().copied());
        Self {
            generation: before.generation + 1,
            table: Arc::new(table),
            fib: Arc::clone(&before.fib),
            by_index: Arc::new(by().map(|(index, _, whose)| (index, whose)).collect()),
            by_key: Arc::new(by().map(|(_, key, whose)| (key, whose)).collect()),
            expected: Arc::new(expected(&control.plan)),
            instances: Arc::new(build_instances(control, before)),
            peers: Arc::new(peers),
            clients: Arc::new(clients),
            own: control.plan.own,
        }
    }

    /// Returns what routing says about the way to a peer.
    pub(crate) fn route(&self, peer: &Peer) -> Route {
        match self.fib.next_hop(peer.address) {
            Some(next) if next == peer.node => Route::Straight,
            Some(_) => Route::Around,
            None => Route::Unknown,
        }
    }

    /// Returns a neighbour that may carry something to a peer which routing believes to reach
    /// straight, or not at all: another one each time.
    pub(crate) fn beside(&self, peer: &Peer, now: Instant) -> Option<NodeId> {
        if self.route(peer) == Route::Around {
            return None;
        }
        let others = self.peers.values();
        let near = others.filter(|other| other.node != peer.node && other.is_near(now));
        let near: Vec<NodeId> = near.map(|other| other.node).collect();
        let at = scatter().checked_rem(near.len() as u64)?;
        near.get(usize::try_from(at).ok()?).copied()
    }
}

fn build_peers(control: &mut Control, before: &Live, local: &Local) -> BTreeMap<NodeId, Arc<Peer>> {
    let now = Instant::now();
    let mut peers = BTreeMap::new();
    for (node, peer_plan) in &control.plan.peers {
        let kept = before
            .peers
            .get(node)
            .filter(|peer| peer.key == peer_plan.x25519 && peer.address == peer_plan.address);
        let peer = match kept {
            Some(peer) => Arc::clone(peer),
            None => {
                let index = free_index(&mut control.next_index, before);
                Arc::new(new_peer(*node, peer_plan, index, local, now))
            }
        };
        peer.set_role(peer_plan.role);
        peer.set_candidates(&peer_plan.endpoints, now);
        peers.insert(*node, peer);
    }
    peers
}

/// Returns the addresses at which peers may be, as far as their own limit goes.
fn expected(plan: &Plan) -> HashSet<IpAddr> {
    let peers = plan.peers.values();
    let places = peers.flat_map(|peer| peer.endpoints.iter().take(CANDIDATES_MAX));
    places.map(|place| place.ip().to_canonical()).collect()
}

fn build_clients(
    control: &mut Control,
    before: &Live,
    local: &Local,
) -> BTreeMap<Ipv6Addr, Arc<Client>> {
    let now = Instant::now();
    let mut clients = BTreeMap::new();
    for (address, key) in &control.clients {
        let kept = before.clients.get(address).filter(|it| it.key == *key);
        let client = match kept {
            Some(client) => Arc::clone(client),
            None => {
                let index = free_index(&mut control.next_index, before);
                let session = Box::new(WireGuard::new(local, *key, index));
                Arc::new(Client::new(*address, *key, index, session, now))
            }
        };
        clients.insert(*address, client);
    }
    clients
}

fn build_instances(control: &Control, before: &Live) -> BTreeMap<Digest, Arc<Instance>> {
    let planned = control.plan.instances.keys();
    let items: BTreeSet<_> = planned.chain(control.attached.keys()).copied().collect();
    let mut instances = BTreeMap::new();
    for item in items {
        let allow = control.plan.instances.get(&item).map(|it| it.allow.clone());
        let kept = before.instances.get(&item);
        let door = kept.map(|it| Arc::clone(&it.door)).unwrap_or_default();
        lock(&door).allow_only(allow.unwrap_or_default());
        let traffic = kept.map(|it| Arc::clone(&it.traffic)).unwrap_or_default();
        let device = control.attached.get(&item).map(Arc::clone);
        let instance = Instance {
            door,
            device,
            traffic,
        };
        instances.insert(item, Arc::new(instance));
    }
    instances
}

fn new_peer(node: NodeId, plan: &PeerPlan, index: u32, local: &Local, now: Instant) -> Peer {
    let session = WireGuard::new(local, plan.x25519, index);
    let turn = if *local.public().as_bytes() < plan.x25519 {
        Turn::Lead
    } else {
        Turn::Follow
    };
    let who = Who {
        node,
        address: plan.address,
        key: plan.x25519,
    };
    Peer::new(who, index, turn, Box::new(session), local.draw(), now)
}

/// Returns a number that names no link; never the one of a link just removed, whose peer may still
/// send.
fn free_index(next: &mut u32, before: &Live) -> u32 {
    loop {
        let index = *next;
        *next = (index + 1) & 0xff_ffff;
        if !before.by_index.contains_key(&index) {
            return index;
        }
    }
}

fn new_wakers() -> io::Result<[Waker; 3]> {
    Ok([Waker::new()?, Waker::new()?, Waker::new()?])
}
