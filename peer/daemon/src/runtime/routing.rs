//! The routing thread: the Babel speaker between the data plane's links and its forwarding table.
//!
//! ```text
//!   data plane ── talk, rising links ──┐                       ┌──► packets over links
//!   node ─────── who is who (plan) ────┼──► Speaker (pure) ────┼──► next hops into the table
//!   kernel ───── cables pulled ────────┘    time               └──► log
//! ```
//! A thread of its own that touches no disk and waits for nobody, so that no plan or signature
//! delays a hello. Decides nothing about routes. Invariant: the speaker has a link for exactly the
//! neighbours whose session works and whose interface has its cable, and those of `ordinary`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_dataplane::carrier::{Carrier, Watch};
use mesh_dataplane::limits::SILENCE_MAX;
use mesh_dataplane::plane::{Dataplane, Listener, Spoken};
use mesh_dataplane::probe::Heard;
use mesh_routing::babel::event::{Event, Parting, Reach, To, Transmit};
use mesh_routing::babel::filter::{Lawful, is_aggregate};
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::speaker::{Config, Speaker};
use mesh_routing::babel::wire::tlv::Cast;
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};
use mesh_routing::plan::Plan;
use mesh_routing::talk::BABEL_GROUP;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use crate::clock;
use crate::runtime::explain::{Ages, Guide, Look, Seen, Waiting};
use crate::runtime::ordinary::{self, Links, News, Ordinary};
use crate::runtime::places::{Places, upper_half};
use crate::runtime::ways::{Proofs, Ways};

/// Events that wait for the thread: it takes them in microseconds, so a full queue means a flood.
const EVENTS_MAX: usize = 1024;
/// How often a link whose cable was pulled is looked at; a new cable is told by the kernel, what
/// comes over it is not.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often the kernel is asked for the cables of links: it may tell of them a second late. Each
/// time wakes a thread, so more often would be most of what an idle node costs.
const CABLES_STEP: Duration = Duration::from_millis(100);
/// How often it is asked which interfaces those are, if it says nothing itself.
const CABLES_USED_STEP: Duration = Duration::from_secs(1);
/// A link that was silent longer has lost more than a cable, or waits for one.
const CABLES_SILENCE_MAX: u64 = 5_000;
/// Longest wait without an event, so that a data plane that ended ends the thread.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What the control network should know.
pub enum Loss {
    /// A neighbour is gone.
    Neighbour(NodeId),
    /// The kernel told of interfaces; who knows addresses may ask which are cut off.
    Cables(Arc<Mutex<Carrier>>),
}

/// What happens to the thread.
pub enum Input {
    /// A neighbour said something.
    Talk(Spoken),
    Lan(ordinary::Input),
    /// A link works.
    Up(NodeId),
    /// Who is who has changed.
    Plan(Box<Places>),
    /// A cable was pulled or plugged in.
    Cables,
    /// Somebody wants to see how things are.
    Look(Look),
}

/// Hears the data plane; what there is no room for is dropped, as on any busy link.
struct Ear(SyncSender<Input>, Waiting, Proofs);

impl Listener for Ear {
    fn handle_talk(&self, spoken: Spoken) -> bool {
        self.0.try_send(Input::Talk(spoken)).is_ok()
    }

    fn handle_up(&self, node: NodeId) {
        // The thread looks for one that was missed: its first words may never come, for whoever is
        // at the other end may have missed it too.
        let _ = self.0.try_send(Input::Up(node));
    }

    fn handle_probe(&self, heard: Heard) {
        self.2.hear(&heard);
        self.1.hear(heard);
    }
}

/// The thread before it has a data plane.
pub struct Prepared {
    inputs: SyncSender<Input>,
    queue: Receiver<Input>,
    waiting: Waiting,
    proofs: Proofs,
}

/// The running thread, as the node's loop sees it.
pub struct Routing {
    inputs: SyncSender<Input>,
    told: Places,
    guide: Guide,
}

/// Makes the queue that the data plane's listener needs before there is a data plane.
pub fn prepare() -> (Prepared, Box<dyn Listener>) {
    let (inputs, queue) = sync_channel(EVENTS_MAX);
    let (waiting, proofs) = (Waiting::default(), Proofs::default());
    let ear = Box::new(Ear(inputs.clone(), waiting.clone(), proofs.clone()));
    let prepared = Prepared {
        inputs,
        queue,
        waiting,
        proofs,
    };
    (prepared, ear)
}

impl Prepared {
    /// Starts the thread; it ends with the data plane. Losses are told to `lost`.
    pub fn start(
        self,
        plane: &Arc<Dataplane>,
        ordinary: Ordinary,
        lost: mpsc::Sender<Loss>,
    ) -> io::Result<Routing> {
        let (alive, inputs) = (Arc::downgrade(plane), self.inputs.clone());
        let lans = ordinary.listen(move |news| {
            let queue = &inputs;
            let sent = match news {
                News::Must(input) => queue.send(Input::Lan(input)).is_ok(),
                // With a full queue it is lost, as on any busy link.
                News::May(input) => !matches!(
                    queue.try_send(Input::Lan(input)),
                    Err(TrySendError::Disconnected(_))
                ),
            };
            sent && 0 < alive.strong_count()
        })?;
        let carrier = watch_cables(Arc::downgrade(plane), self.inputs.clone());
        let thread = Thread {
            plane: Arc::downgrade(plane),
            carrier,
            speaker: None,
            places: Places::default(),
            links: BTreeMap::new(),
            by_link: BTreeMap::new(),
            cut: BTreeMap::new(),
            heard: BTreeMap::new(),
            transit: BTreeSet::new(),
            next_link: 0,
            lans,
            ages: Ages::default(),
            ways: Ways::new(self.proofs),
            lost,
        };
        let queue = self.queue;
        std::thread::Builder::new()
            .name("routing".to_owned())
            .spawn(move || thread.run(&queue))?;
        Ok(Routing {
            guide: Guide::new(Arc::downgrade(plane), self.inputs.clone(), self.waiting),
            inputs: self.inputs,
            told: Places::default(),
        })
    }
}

impl Routing {
    /// Returns who explains routes.
    pub fn guide(&self) -> Guide {
        self.guide.clone()
    }

    /// Tells the thread who is who, if that changed.
    pub fn apply(&mut self, plan: &Plan) {
        let places = Places::of(plan);
        if places == self.told {
            return;
        }
        // Waits for room if talk floods the queue: a plan must not be lost.
        if self
            .inputs
            .send(Input::Plan(Box::new(places.clone())))
            .is_ok()
        {
            self.told = places;
        }
    }
}

type Cables = Option<Arc<Mutex<Carrier>>>;

/// Hears of pulled cables on a thread of its own; without it, missed hellos tell the same later.
fn watch_cables(plane: Weak<Dataplane>, inputs: SyncSender<Input>) -> Cables {
    let begun = Carrier::open().and_then(|carrier| {
        let (news, eye) = (carrier.as_fd().try_clone_to_owned()?, Watch::open()?);
        let carrier = Arc::new(Mutex::new(carrier));
        let shared = Arc::clone(&carrier);
        std::thread::Builder::new()
            .name("cables".to_owned())
            .spawn(move || watch(&plane, (&news, &eye), &shared, &inputs))?;
        Ok(carrier)
    });
    begun
        .inspect_err(|error| tracing::warn!(%error, "the kernel will not tell of pulled cables"))
        .ok()
}

fn watch(
    plane: &Weak<Dataplane>,
    (news, eye): (&OwnedFd, &Watch),
    carrier: &Mutex<Carrier>,
    inputs: &SyncSender<Input>,
) {
    let pause = PollTimeout::try_from(CABLES_STEP).unwrap_or(PollTimeout::NONE);
    let mut noted_at = None;
    while 0 < plane.strong_count() {
        let news = poll(&mut [PollFd::new(news.as_fd(), PollFlags::POLLIN)], pause);
        let mut changed = news != Ok(0) && lock(carrier).drain();
        let now = Instant::now();
        let old = noted_at.is_none_or(|at| CABLES_USED_STEP <= now.duration_since(at));
        if changed || old {
            let links = plane.upgrade().map(|plane| endpoints(&plane));
            lock(carrier).set_used(&links.unwrap_or_default());
            noted_at = Some(now);
        }
        // Unlocked: while somebody changes interfaces, the answer waits for them.
        let used = lock(carrier).used();
        let seen = eye.look(&used);
        changed |= lock(carrier).handle_look(&seen);
        // Nobody else tells of it, and this thread may wait for room.
        if changed && inputs.send(Input::Cables).is_err() {
            return;
        }
    }
}

/// Returns where the links lead that were heard lately.
fn endpoints(plane: &Dataplane) -> Vec<SocketAddr> {
    let links = plane.links().into_iter().filter(|link| {
        let silent = link.link_silent_ms;
        silent.is_some_and(|silent| silent <= CABLES_SILENCE_MAX)
    });
    links.filter_map(|link| link.endpoint).collect()
}

fn lock(carrier: &Mutex<Carrier>) -> MutexGuard<'_, Carrier> {
    carrier.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread works with.
struct Thread {
    plane: Weak<Dataplane>,
    carrier: Cables,
    /// None until the node knows its own address.
    speaker: Option<Speaker>,
    places: Places,
    links: BTreeMap<NodeId, LinkId>,
    by_link: BTreeMap<LinkId, NodeId>,
    /// Links whose cable was pulled, and when.
    cut: BTreeMap<NodeId, Instant>,
    /// When each link was last heard, as far as the speaker knows.
    heard: BTreeMap<LinkId, Instant>,
    /// Neighbours whose parcels may pass through us now.
    transit: BTreeSet<NodeId>,
    next_link: u32,
    /// Ordinary interfaces.
    lans: Links,
    ages: Ages,
    /// Whether what is sent arrives.
    ways: Ways,
    lost: mpsc::Sender<Loss>,
}

impl Thread {
    fn run(mut self, queue: &Receiver<Input>) {
        loop {
            let input = match queue.recv_timeout(self.wait()) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(plane) = self.plane.upgrade() else {
                return;
            };
            let now = clock::now().mono;
            match input {
                Some(input) => self.handle(&plane, input, now),
                None => self.raise_heard(&plane, now),
            }
            self.look_at_cut(&plane, now);
            self.let_time_pass(&plane, now);
            if let Some(speaker) = &mut self.speaker {
                self.ways.turn(&plane, &self.links, speaker, now);
            }
            self.drain(&plane, now);
        }
    }

    fn wait(&self) -> Duration {
        let now = clock::now().mono;
        let wanted = self.speaker.as_ref().and_then(Speaker::poll_timeout);
        let wanted = wanted.into_iter().chain(self.ways.poll_timeout()).min();
        let longest = if self.cut.is_empty() {
            WAIT_MAX
        } else {
            LOOK_INTERVAL
        };
        wanted.map_or(longest, |wanted| wanted.since(now).min(longest))
    }

    fn handle(&mut self, plane: &Dataplane, input: Input, now: Moment) {
        match input {
            Input::Plan(places) => self.take_places(plane, *places, now),
            Input::Up(node) => self.raise(node, now),
            Input::Talk(spoken) => self.hear(&spoken, now),
            Input::Lan(input) => self.lans.handle(input, self.speaker.as_mut(), now),
            Input::Cables => self.look_at_cables(plane, now),
            Input::Look(look) => {
                let seen = Seen {
                    plane,
                    by_link: &self.by_link,
                    ages: &self.ages,
                    ways: &self.ways,
                };
                look.answer(self.speaker.as_ref(), &seen, now);
            }
        }
    }

    fn take_places(&mut self, plane: &Dataplane, places: Places, now: Moment) {
        let links = self.links.keys().copied();
        let gone: Vec<NodeId> = links
            .filter(|it| !self.places.agrees(&places, it))
            .collect();
        for node in &gone {
            self.lower(*node, now);
        }
        // Whoever leaves the plan, though its cable was cut or its session never came up.
        for node in self.places.former(&places) {
            self.ways.handle_unlinked(node);
        }
        // A cut link is in `links` no more.
        self.cut
            .retain(|node, _| places.neighbours.contains_key(node));
        self.places = places;
        // One that is of another kind now begins anew.
        for node in gone {
            self.raise(node, now);
        }
        if self.speaker.is_none() {
            self.speaker = self.places.own.and_then(|own| new_speaker(own, now));
            if let Some(speaker) = &mut self.speaker {
                self.lans.raise_all(speaker, now);
            }
        }
        self.raise_heard(plane, now);
        if let Some(speaker) = &mut self.speaker {
            let lawful = Lawful {
                members: self.places.members.clone(),
            };
            speaker.set_lawful(lawful, now);
            for (node, link) in &self.links {
                speaker.set_draining(*link, self.places.drains(node), now);
            }
        }
    }

    /// Raises the links that work already. The data plane says only once that one does, and it has
    /// the plan before we do: what it said of a stranger then was lost, on both ends if both began
    /// at once.
    fn raise_heard(&mut self, plane: &Dataplane, now: Moment) {
        // Of one that was silent for longer it tells as soon as something comes.
        let is_heard =
            |node| heard_at(plane, node).is_some_and(|heard| heard.elapsed() < SILENCE_MAX);
        let neighbours = self.places.neighbours.keys().copied();
        let lacking = neighbours
            .filter(|node| !self.links.contains_key(node) && !self.cut.contains_key(node));
        let heard: Vec<NodeId> = lacking.filter(|node| is_heard(*node)).collect();
        for node in heard {
            self.raise(node, now);
        }
    }

    /// Gives the speaker a link to a neighbour whose session works.
    fn raise(&mut self, node: NodeId, now: Moment) {
        if self.links.contains_key(&node) {
            return;
        }
        let config = self.places.link_config(&node);
        let (Some(speaker), Some(config)) = (&mut self.speaker, config) else {
            return;
        };
        self.next_link = self.next_link.wrapping_add(1);
        let link = LinkId(self.next_link);
        if speaker.handle_link_up(link, config, now) {
            self.links.insert(node, link);
            self.by_link.insert(link, node);
            self.cut.remove(&node);
        }
    }

    fn lower(&mut self, node: NodeId, now: Moment) {
        if let (Some(link), Some(speaker)) = (self.links.remove(&node), &mut self.speaker) {
            self.by_link.remove(&link);
            self.heard.remove(&link);
            speaker.handle_link_down(link, now);
        }
    }

    fn hear(&mut self, spoken: &Spoken, now: Moment) {
        self.raise(spoken.from, now);
        let (Some(link), Some(speaker)) = (self.links.get(&spoken.from), &mut self.speaker) else {
            return;
        };
        let cast = if spoken.destination == BABEL_GROUP {
            Cast::Multicast
        } else {
            Cast::Unicast
        };
        speaker.handle_packet(*link, spoken.source, cast, &spoken.payload, now);
    }

    /// Tells the speaker over which links something came since it was last told: everything
    /// authenticated counts, not only talk.
    fn note_traffic(&mut self, plane: &Dataplane, now: Moment) {
        let Some(speaker) = &mut self.speaker else {
            return;
        };
        for (node, link) in &self.links {
            if let Some(heard) = heard_at(plane, *node)
                && self.heard.insert(*link, heard) != Some(heard)
            {
                speaker.handle_traffic(*link, ago(now, heard));
            }
        }
    }

    fn look_at_cables(&mut self, plane: &Dataplane, now: Moment) {
        let Some(carrier) = self.carrier.clone() else {
            return;
        };
        // If nobody takes it, connections time out by themselves.
        let _ = self.lost.try_send(Loss::Cables(Arc::clone(&carrier)));
        let carrier = lock(&carrier);
        let neighbours: Vec<NodeId> = self.places.neighbours.keys().copied().collect();
        for node in neighbours {
            let endpoint = plane.link(node).and_then(|link| link.endpoint);
            let Some(endpoint) = endpoint else {
                continue;
            };
            if !carrier.is_cut(endpoint) {
                // Ours is sound; let the other end know, and hear whether it is.
                if self.cut.contains_key(&node) {
                    plane.nudge(node);
                }
            } else if self.cut.insert(node, Instant::now()).is_none() {
                tracing::info!(peer = %node.key().short(), "the way to it lost its cable");
                self.lower(node, now);
            }
        }
    }

    /// Raises the links over which something came since their cable was pulled.
    fn look_at_cut(&mut self, plane: &Dataplane, now: Moment) {
        let back: Vec<NodeId> = self
            .cut
            .iter()
            .filter(|(node, since)| heard_at(plane, **node).is_some_and(|at| **since < at))
            .map(|(node, _)| *node)
            .collect();
        for node in back {
            self.cut.remove(&node);
            self.raise(node, now);
        }
    }

    fn let_time_pass(&mut self, plane: &Dataplane, now: Moment) {
        let due = self.speaker.as_ref().and_then(Speaker::poll_timeout);
        if due.is_none_or(|due| now < due) {
            return;
        }
        // Before anybody is called silent.
        self.note_traffic(plane, now);
        if let Some(speaker) = &mut self.speaker {
            speaker.handle_timeout(now);
        }
    }

    fn drain(&mut self, plane: &Dataplane, now: Moment) {
        let mut changes = Vec::new();
        let Some(speaker) = &mut self.speaker else {
            return;
        };
        while let Some(event) = speaker.poll_event() {
            self.ages.note(&event, now);
            // Who restarted or does not hear us has its way still, and maybe new connections on it.
            if let Event::NeighbourDown {
                link,
                why: Parting::Silent | Parting::HellosMissed,
                ..
            } = event
                && let Some(node) = self.by_link.get(&link)
            {
                let _ = self.lost.try_send(Loss::Neighbour(*node));
            }
            if let Event::NeighbourUp { link, .. } = event
                && let Some(node) = self.by_link.get(&link)
            {
                self.ways.handle_up(plane, (*node, link), speaker, now);
            }
            if let Event::RouteChanged { prefix, reach } = event
                && is_aggregate(prefix)
            {
                // Services are found by the nodes that hold them.
                if prefix == Prefix::NODES {
                    plane.set_aggregate(next_hop(&self.by_link, reach));
                }
                continue;
            }
            if let Event::RouteChanged { prefix, reach } = event
                && !Prefix::NODES.covers(prefix)
            {
                self.lans.set_way(prefix, reach);
                continue;
            }
            changes.extend(change(&self.by_link, event));
        }
        // After every input, and nearly always as before; both are in the order of nodes.
        let links = self.links.iter();
        let open = links.filter(|(_, link)| !self.places.leaf && speaker.takes_transit(**link));
        let open = open.map(|(node, _)| *node);
        if !open.clone().eq(self.transit.iter().copied()) {
            self.transit = open.collect();
            plane.set_transit(self.transit.clone());
        }
        // The table first: what is announced must be true when the neighbour acts on it.
        if !changes.is_empty() {
            let refused = plane.set_routes(&changes);
            if 0 < refused {
                tracing::warn!(refused, "the forwarding table is full");
            }
        }
        if let Some(stranded) = self.places.is_stranded(|leaves| plane.leads_past(leaves)) {
            speaker.set_stranded(stranded, now);
        }
        while let Some(Transmit { link, to, bytes }) = speaker.poll_transmit(now) {
            let Some(node) = self.by_link.get(&link) else {
                self.lans.send(link, to, bytes);
                continue;
            };
            let to = match to {
                To::Multicast => BABEL_GROUP,
                To::Unicast(address) => address,
            };
            // What a link without a session does not carry is said again by the speaker.
            let _ = plane.say(*node, to, &bytes);
        }
    }
}

/// Returns when a neighbour was last heard over its link's own underlay.
fn heard_at(plane: &Dataplane, node: NodeId) -> Option<Instant> {
    plane.link(node)?.link_heard
}

/// Returns a time on the speaker's clock.
fn ago(now: Moment, heard: Instant) -> Moment {
    let micros = u64::try_from(heard.elapsed().as_micros()).unwrap_or(u64::MAX);
    Moment(now.0.saturating_sub(micros))
}

fn new_speaker(own: Ipv6Addr, now: Moment) -> Option<Speaker> {
    let router_id = RouterId::from_bytes(upper_half(own))?;
    let seconds = clock::wall().0.div_euclid(1000);
    let config = Config {
        router_id,
        // One a second since 1970: after a restart it is newer than what neighbours remember.
        seqno: Seqno(u16::try_from(seconds.rem_euclid(1 << 16)).unwrap_or_default()),
        seed: u64::from_be_bytes(upper_half(own)) ^ now.0,
    };
    let mut speaker = Speaker::new(config, now);
    let prefix = Prefix::new(own, 64)?;
    speaker.announce(prefix, Metric::ZERO, now);
    Some(speaker)
}

/// Returns the node at the other end of the link that leads somewhere.
fn next_hop(by_link: &BTreeMap<LinkId, NodeId>, reach: Reach) -> Option<NodeId> {
    match reach {
        Reach::Via(hop) => by_link.get(&hop.link).copied(),
        Reach::Held | Reach::Gone => None,
    }
}

/// Returns the change of the forwarding table that an event means, and logs what people read.
fn change(by_link: &BTreeMap<LinkId, NodeId>, event: Event) -> Option<([u8; 8], Option<NodeId>)> {
    let name = |link: &LinkId| by_link.get(link).map(|node| node.key().short());
    match event {
        Event::RouteChanged { prefix, reach } if prefix.bits() == 64 => {
            let next = next_hop(by_link, reach);
            tracing::debug!(%prefix, ?reach, "a route changed");
            Some((upper_half(prefix.address()), next))
        }
        Event::RouteChanged { prefix, .. } => {
            tracing::debug!(%prefix, "a route that is no node's is not used");
            None
        }
        Event::NeighbourUp { link, .. } => {
            tracing::info!(peer = name(&link), "a neighbour is up");
            None
        }
        Event::NeighbourDown { link, why, .. } => {
            tracing::info!(peer = name(&link), ?why, "a neighbour is down");
            None
        }
        Event::Alarm(alarm) => {
            tracing::warn!(?alarm, "routing needs a person");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mesh_base::identity::SecretKey;
    use mesh_dataplane::plane::{self, HostAccess};
    use mesh_routing::plan::{PeerPlan, Role};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    /// What the routing thread hears of links that come up.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Hearing {
        Sound,
        /// As with a queue that is full just then.
        Deaf,
    }

    /// Tells the test that a link came up, after the thread was told.
    struct Witness(Box<dyn Listener>, Hearing, SyncSender<NodeId>);

    impl Listener for Witness {
        fn handle_talk(&self, spoken: Spoken) -> bool {
            self.0.handle_talk(spoken)
        }

        fn handle_up(&self, node: NodeId) {
            if self.1 == Hearing::Sound {
                self.0.handle_up(node);
            }
            let _ = self.2.try_send(node);
        }
    }

    /// A node with nothing but its data plane and its routing.
    struct Engine {
        plane: Arc<Dataplane>,
        routing: Routing,
        risen: Receiver<NodeId>,
        _host: OwnedFd,
        _losses: mpsc::Receiver<Loss>,
    }

    fn secret(number: u8) -> SecretKey {
        SecretKey::from_seed([number; 32])
    }

    fn node(number: u8) -> NodeId {
        NodeId(secret(number).public())
    }

    fn address(number: u8) -> Ipv6Addr {
        let number = u16::from(number);
        Ipv6Addr::new(0xfd6d, 0, 0, number, 0, 0, 0, number)
    }

    impl Engine {
        fn new(number: u8, hearing: Hearing) -> Self {
            let flags = SockFlag::SOCK_CLOEXEC;
            let (host, host_tun) =
                socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
            let (prepared, ear) = prepare();
            let (tell, risen) = sync_channel(1);
            let config = plane::Config {
                secret_x25519: secret(number).to_x25519(),
                udp_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                host_tun,
                host_access: HostAccess::Open,
                listener: Some(Box::new(Witness(ear, hearing, tell))),
                streams: None,
            };
            let plane = Arc::new(Dataplane::start(config).unwrap());
            let (lost, losses) = mpsc::channel(8);
            let routing = prepared.start(&plane, Ordinary::default(), lost).unwrap();
            Self {
                plane,
                routing,
                risen,
                _host: host,
                _losses: losses,
            }
        }

        fn waits_for_the_link(&self) {
            self.risen.recv_timeout(Duration::from_secs(20)).unwrap();
        }

        fn waits_for_a_route_to(&self, number: u8) {
            let start = Instant::now();
            while self.plane.next_hop(node(number)).is_none() {
                let passed = start.elapsed();
                assert!(passed < Duration::from_secs(20), "no route to {number}");
                std::thread::yield_now();
            }
        }
    }

    /// Returns the plan of one node whose only neighbour is the other.
    fn plan(own: u8, other: u8, there: &Engine) -> Plan {
        let place = SocketAddr::from((Ipv4Addr::LOCALHOST, there.plane.local_port()));
        let peer = PeerPlan {
            role: Role::Neighbour,
            drains: false,
            leaf: false,
            address: address(other),
            x25519: secret(other).public().to_x25519(),
            endpoints: vec![place],
        };
        Plan {
            own: address(own),
            leaf: false,
            peers: [(node(other), peer)].into(),
            services: BTreeMap::new(),
            instances: BTreeMap::new(),
            forwards: BTreeSet::new(),
        }
    }

    #[test]
    fn link_that_both_ends_heard_before_they_knew_each_other_is_raised() {
        let [mut one, mut two] = [1, 2].map(|number| Engine::new(number, Hearing::Sound));
        let plans = (plan(1, 2, &two), plan(2, 1, &one));
        // So it is if neither node's loop has its turn between the two halves of a new plan.
        one.plane.apply(&plans.0);
        two.plane.apply(&plans.1);
        one.waits_for_the_link();
        two.waits_for_the_link();
        one.routing.apply(&plans.0);
        two.routing.apply(&plans.1);
        one.waits_for_a_route_to(2);
        two.waits_for_a_route_to(1);
    }

    #[test]
    fn link_of_which_neither_end_was_told_is_raised() {
        let [mut one, mut two] = [1, 2].map(|number| Engine::new(number, Hearing::Deaf));
        let plans = (plan(1, 2, &two), plan(2, 1, &one));
        one.routing.apply(&plans.0);
        two.routing.apply(&plans.1);
        one.plane.apply(&plans.0);
        two.plane.apply(&plans.1);
        one.waits_for_a_route_to(2);
        two.waits_for_a_route_to(1);
    }
}
