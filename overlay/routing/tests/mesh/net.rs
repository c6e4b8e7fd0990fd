//! A small network of speakers in one process: virtual time, lossy wires, a look at every next hop.
//!
//! ```text
//!   Net::event ─► the earliest of: a packet arrives, a speaker's timeout
//!            └─► drain the speaker ─► packets onto wires (delay, loss, reorder, one-way cuts)
//!                              └────► RouteChanged ─► next hops of that node
//!                                                       └─► walk from everywhere: no loop, ever
//! ```
//! One wire is one tunnel: two speakers, each with a link of its own. Everything comes of one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_base::chance::Chance;
use mesh_base::time::Moment;
use mesh_routing::babel::event::{Event, Reach, To};
use mesh_routing::babel::filter::{Lawful, LinkFilter, Role};
use mesh_routing::babel::link::{LinkConfig, LinkId};
use mesh_routing::babel::speaker::{Config, Speaker};
use mesh_routing::babel::wire::tlv::Cast;
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};

/// Names a node.
pub type NodeAt = usize;

/// A wire between two nodes; packets of both directions may have different luck.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The two ends.
    pub ends: [NodeAt; 2],
    /// The least time that a packet takes.
    pub delay: Duration,
    /// How much longer it may take; above the gap between packets they change places.
    pub jitter: Duration,
    /// Packets lost of a thousand.
    pub loss: u64,
    /// Whether nothing arrives from this end.
    pub cut: [bool; 2],
    /// Whether both ends have their links up.
    pub up: bool,
    /// Packets of before belong to another session and do not arrive.
    session: u64,
}

struct Node {
    speaker: Speaker,
    /// What its shell would forward by.
    hops: BTreeMap<Prefix, Reach>,
    /// Which wire a link of it is.
    alive: bool,
}

struct Flight {
    wire: usize,
    from: usize,
    session: u64,
    to: To,
    bytes: Vec<u8>,
}

/// The network.
pub struct Net {
    /// Virtual time.
    pub now: Moment,
    /// Every wire that was ever laid.
    pub wires: Vec<Wire>,
    /// Changes of next hops so far; each was walked.
    pub changes: u64,
    nodes: Vec<Node>,
    flights: BTreeMap<(Moment, u64), Flight>,
    sent: u64,
    seed: u64,
    second: u64,
    events: u64,
    timeouts: BTreeSet<(Moment, NodeAt)>,
    timeout_of: Vec<Option<Moment>>,
    chance: Chance,
    /// Returns a link's configuration from its address.
    configure: fn(Ipv6Addr) -> LinkConfig,
}

/// Returns the router-id of a node.
pub fn id_of(node: NodeAt) -> RouterId {
    RouterId::from_bytes((0xfd6d_0000_0000_0001 + node as u64).to_be_bytes()).unwrap()
}

/// Returns the prefix of a node.
pub fn prefix_of(node: NodeAt) -> Prefix {
    let high = u128::from(u64::from_be_bytes(id_of(node).to_bytes()));
    Prefix::new(Ipv6Addr::from(high << 64), 64).unwrap()
}

/// Tunnels between native peers, as the product has them.
pub fn native(address: Ipv6Addr) -> LinkConfig {
    LinkConfig {
        filter: LinkFilter::Native(Role::Peer),
        ..LinkConfig::tunnel(address)
    }
}

/// Ordinary links of a router without policy.
pub fn plain(address: Ipv6Addr) -> LinkConfig {
    LinkConfig::wired(address, LinkFilter::Plain)
}

fn address_of(wire: usize, end: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, wire as u16, end as u16 + 1)
}

impl Net {
    /// Returns nodes without wires; each announces its prefix.
    pub fn new(count: usize, seed: u64, configure: fn(Ipv6Addr) -> LinkConfig) -> Self {
        let mut net = Self {
            now: Moment(1_000_000_000),
            wires: Vec::new(),
            changes: 0,
            nodes: Vec::new(),
            flights: BTreeMap::new(),
            sent: 0,
            seed,
            second: 0,
            events: 0,
            timeouts: BTreeSet::new(),
            timeout_of: vec![None; count],
            chance: Chance::new(seed),
            configure,
        };
        for node in 0..count {
            let speaker = net.life(node, count, Seqno(0));
            net.nodes.push(Node {
                speaker,
                hops: BTreeMap::new(),
                alive: true,
            });
            net.drain(node);
        }
        net
    }

    fn life(&mut self, node: NodeAt, count: usize, seqno: Seqno) -> Speaker {
        let config = Config {
            router_id: id_of(node),
            seqno,
            seed: self.chance.bits(),
        };
        let mut speaker = Speaker::new(config, self.now);
        let lawful = Lawful {
            members: (0..count).map(id_of).collect(),
        };
        speaker.set_lawful(lawful, self.now);
        speaker.announce(prefix_of(node), Metric::ZERO, self.now);
        speaker
    }

    /// Lays a wire that is up.
    pub fn wire(&mut self, a: NodeAt, b: NodeAt, delay: Duration) -> usize {
        self.wires.push(Wire {
            ends: [a, b],
            delay,
            jitter: Duration::ZERO,
            loss: 0,
            cut: [false; 2],
            up: false,
            session: 0,
        });
        let wire = self.wires.len() - 1;
        self.raise(wire);
        wire
    }

    /// Brings both links of a wire up.
    pub fn raise(&mut self, wire: usize) {
        self.wires[wire].up = true;
        self.wires[wire].session += 1;
        for end in 0..2 {
            self.raise_end(wire, end);
        }
    }

    fn raise_end(&mut self, wire: usize, end: usize) {
        let node = self.wires[wire].ends[end];
        if self.nodes[node].alive {
            let config = (self.configure)(address_of(wire, end));
            let id = LinkId(wire as u32);
            let up = self.nodes[node]
                .speaker
                .handle_link_up(id, config, self.now);
            assert!(up);
            self.drain(node);
        }
    }

    /// Takes both links of a wire down; both nodes know at once.
    pub fn lower(&mut self, wire: usize) {
        for end in 0..2 {
            self.lower_end(wire, end);
        }
    }

    /// Takes one end's link of a wire down: nothing passes any more, but the other end does not
    /// know.
    pub fn lower_end(&mut self, wire: usize, end: usize) {
        self.wires[wire].up = false;
        let node = self.wires[wire].ends[end];
        let id = LinkId(wire as u32);
        self.nodes[node].speaker.handle_link_down(id, self.now);
        self.drain(node);
    }

    /// Takes a node away; its neighbours find out themselves.
    pub fn kill(&mut self, node: NodeAt) {
        self.nodes[node].alive = false;
        self.nodes[node].hops.clear();
        self.schedule(node);
    }

    /// Starts a node that was taken away, without anything it knew. What was on its way is lost
    /// with the old session, but nobody at the other ends sees more than new hellos.
    pub fn start_quietly(&mut self, node: NodeAt, seqno: Seqno) {
        let count = self.nodes.len();
        self.nodes[node].speaker = self.life(node, count, seqno);
        self.nodes[node].alive = true;
        self.drain(node);
        for wire in 0..self.wires.len() {
            let ends = self.wires[wire].ends;
            if self.wires[wire].up && ends.contains(&node) {
                self.wires[wire].session += 1;
                self.raise_end(wire, usize::from(ends[0] != node));
            }
        }
    }

    /// Starts a node that was taken away, without anything it knew. Sessions begin anew, and
    /// whoever is at their other ends sees that.
    pub fn start(&mut self, node: NodeAt, seqno: Seqno) {
        let count = self.nodes.len();
        self.nodes[node].speaker = self.life(node, count, seqno);
        self.nodes[node].alive = true;
        self.drain(node);
        for wire in 0..self.wires.len() {
            if self.wires[wire].up && self.wires[wire].ends.contains(&node) {
                self.raise(wire);
            }
        }
    }

    /// Returns a node's speaker.
    pub fn speaker(&self, node: NodeAt) -> &Speaker {
        &self.nodes[node].speaker
    }

    /// Does something to a node's speaker.
    pub fn with<T>(&mut self, node: NodeAt, act: impl FnOnce(&mut Speaker, Moment) -> T) -> T {
        let done = act(&mut self.nodes[node].speaker, self.now);
        self.drain(node);
        done
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.event(end) {}
        self.now = end;
    }

    /// Lets time pass until something is true. Returns how long that took.
    #[track_caller]
    pub fn run_until(
        &mut self,
        most: Duration,
        what: &str,
        is_true: impl Fn(&Self) -> bool,
    ) -> Duration {
        let (start, end) = (self.now, self.now + most);
        while !is_true(self) {
            if !self.event(end) {
                self.explain_holes();
                panic!("seed {}: not within {most:?}: {what}", self.seed);
            }
        }
        self.now.since(start)
    }

    fn event(&mut self, end: Moment) -> bool {
        let flight = self.flights.first_key_value().map(|(key, _)| *key);
        let timeout = self.timeouts.first().copied();
        let timeout_first = match (flight, timeout) {
            (None, None) => return false,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some((flight, _)), Some((timeout, _))) => timeout <= flight,
        };
        let at = if timeout_first {
            timeout.map(|(at, _)| at)
        } else {
            flight.map(|(at, _)| at)
        };
        if end < at.unwrap() {
            return false;
        }
        self.assert_pace(at.unwrap());
        self.now = self.now.max(at.unwrap());
        if timeout_first {
            let (_, node) = timeout.unwrap();
            self.nodes[node].speaker.handle_timeout(self.now);
            self.drain(node);
        } else {
            let flight = self.flights.remove(&flight.unwrap()).unwrap();
            self.arrive(flight);
        }
        true
    }

    /// Checks that no speaker keeps the machine busy: events per virtual second are bounded.
    fn assert_pace(&mut self, at: Moment) {
        let second = at.0 / 1_000_000;
        if self.second != second {
            self.second = second;
            self.events = 0;
        }
        self.events += 1;
        let most = 20_000 + 4000 * self.nodes.len() as u64;
        assert!(self.events < most, "seed {}: a storm at {at:?}", self.seed);
    }

    fn arrive(&mut self, flight: Flight) {
        let wire = &self.wires[flight.wire];
        let to = 1 - flight.from;
        let node = wire.ends[to];
        if !wire.up || wire.session != flight.session || !self.nodes[node].alive {
            return;
        }
        let id = LinkId(flight.wire as u32);
        let source = address_of(flight.wire, flight.from);
        let cast = match flight.to {
            To::Multicast => Cast::Multicast,
            To::Unicast(_) => Cast::Unicast,
        };
        let speaker = &mut self.nodes[node].speaker;
        speaker.handle_packet(id, source, cast, &flight.bytes, self.now);
        self.drain(node);
    }

    fn drain(&mut self, node: NodeAt) {
        while let Some(transmit) = self.nodes[node].speaker.poll_transmit(self.now) {
            let at = transmit.link.0 as usize;
            let wire = &self.wires[at];
            let from = usize::from(wire.ends[0] != node);
            let lost = wire.cut[from] || self.chance.below(1000) < wire.loss;
            if lost || !self.nodes[node].alive {
                continue;
            }
            let delay = wire.delay + self.chance.between(Duration::ZERO, wire.jitter);
            self.sent += 1;
            let flight = Flight {
                wire: at,
                from,
                session: wire.session,
                to: transmit.to,
                bytes: transmit.bytes,
            };
            self.flights.insert((self.now + delay, self.sent), flight);
        }
        while let Some(event) = self.nodes[node].speaker.poll_event() {
            if let Event::RouteChanged { prefix, reach } = event {
                self.nodes[node].hops.insert(prefix, reach);
                self.changes += 1;
                self.assert_no_loop(prefix);
            }
        }
        self.schedule(node);
    }

    fn schedule(&mut self, node: NodeAt) {
        if let Some(old) = self.timeout_of[node].take() {
            self.timeouts.remove(&(old, node));
        }
        let next = self.nodes[node].speaker.poll_timeout();
        if let Some(at) = next.filter(|_| self.nodes[node].alive) {
            let at = at.max(Moment(self.now.0 + 1));
            self.timeouts.insert((at, node));
            self.timeout_of[node] = Some(at);
        }
    }

    /// Returns where a node sends packets for a prefix.
    pub fn hop(&self, node: NodeAt, prefix: Prefix) -> Option<NodeAt> {
        let Some(Reach::Via(hop)) = self.nodes[node].hops.get(&prefix) else {
            return None;
        };
        let wire = &self.wires[hop.link.0 as usize];
        let next = wire.ends[usize::from(wire.ends[0] == node)];
        // Who does not know what an earlier life of its own told drops what comes of it.
        let takes = self.nodes[next].alive && self.nodes[next].speaker.takes_transit(hop.link);
        (takes || prefix_of(next) == prefix).then_some(next)
    }

    /// Returns the nodes that a packet to `to` visits.
    #[track_caller]
    pub fn path(&self, from: NodeAt, to: NodeAt) -> Vec<NodeAt> {
        let mut path = vec![from];
        let mut at = from;
        while let Some(next) = self.hop(at, prefix_of(to)) {
            assert!(!path.contains(&next), "loop to {to}: {path:?} then {next}");
            path.push(next);
            at = next;
        }
        path
    }

    #[track_caller]
    fn assert_no_loop(&self, prefix: Prefix) {
        for from in 0..self.nodes.len() {
            let mut at = from;
            for _ in 0..=self.nodes.len() {
                match self.hop(at, prefix) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            if self.hop(at, prefix).is_some() {
                let to = (0..self.nodes.len()).find(|to| prefix_of(*to) == prefix);
                let first = at;
                while let Some(next) = self.hop(at, prefix) {
                    self.explain(at, to.unwrap());
                    at = next;
                    if at == first {
                        break;
                    }
                }
                panic!("seed {}: loop to {prefix} from {from}", self.seed);
            }
        }
    }

    /// Returns whether packets from everywhere arrive everywhere.
    pub fn is_whole(&self) -> bool {
        let alive = || (0..self.nodes.len()).filter(|node| self.nodes[*node].alive);
        alive().all(|from| {
            alive().all(|to| {
                let (mut at, mut steps) = (from, 0);
                while let Some(next) = self.hop(at, prefix_of(to)) {
                    at = next;
                    steps += 1;
                    if self.nodes.len() < steps {
                        return false;
                    }
                }
                at == to
            })
        })
    }

    /// Returns whether packets from everywhere arrive everywhere, wires that lose them included.
    pub fn flows_everywhere(&self) -> bool {
        let flows = |at: NodeAt, prefix| match self.nodes[at].hops.get(&prefix) {
            Some(Reach::Via(hop)) => {
                let wire = &self.wires[hop.link.0 as usize];
                wire.up && !wire.cut[usize::from(wire.ends[0] != at)]
            }
            _ => true,
        };
        let count = self.nodes.len();
        self.is_whole() && (0..count).all(|at| (0..count).all(|to| flows(at, prefix_of(to))))
    }

    /// Returns the pairs of nodes that are alive and whose packets do not arrive.
    pub fn holes(&self) -> Vec<(NodeAt, NodeAt)> {
        let alive = || (0..self.nodes.len()).filter(|node| self.nodes[*node].alive);
        let pairs = alive().flat_map(|from| alive().map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| self.path(*from, *to).last() != Some(to))
            .collect()
    }

    /// Prints what nodes know about those that they do not reach.
    pub fn explain_holes(&self) {
        for (from, to) in self.holes() {
            self.explain(from, to);
        }
    }

    /// Prints what a node knows about another.
    pub fn explain(&self, from: NodeAt, to: NodeAt) {
        let speaker = self.speaker(from);
        println!("seed {}, {from} to {to} at {:?}", self.seed, self.now);
        println!("  {:?}", speaker.counters());
        let Some(route) = speaker.route(prefix_of(to), self.now) else {
            return;
        };
        println!("  {:?} {:?}", route.selected, route.held_until);
        println!("  {:?}", route.feasibility);
        for way in route.ways {
            let [a, b] = self.wires[way.link.0 as usize].ends;
            println!(
                "  to {}: {:?}/{:?} proven {:?}/{:?} cost {:?}+{:?} = {:?} {} {:?}",
                if a == from { b } else { a },
                way.claimed.seqno,
                way.claimed.metric,
                way.proven.seqno,
                way.proven.metric,
                way.link_cost,
                way.rtt_penalty,
                way.metric,
                way.feasible,
                way.expires_in,
            );
        }
    }

    /// Returns for each node the least cost to every other along wires that are up; `cost` is told
    /// the wire and which of its ends sends.
    pub fn distances(&self, cost: impl Fn(usize, usize) -> u32) -> Vec<Vec<Option<u32>>> {
        let count = self.nodes.len();
        let mut all = vec![vec![None; count]; count];
        for (to, column) in (0..count).map(|to| (to, to)) {
            let mut least = vec![None; count];
            least[column] = Some(0);
            for _ in 0..count {
                for (at, wire) in self.wires.iter().enumerate().filter(|(_, wire)| wire.up) {
                    for end in 0..2 {
                        let (near, far) = (wire.ends[end], wire.ends[1 - end]);
                        if let Some(known) = least[far] {
                            let new: u32 = known + cost(at, end);
                            let old = least[near];
                            least[near] = Some(old.map_or(new, |old: u32| old.min(new)));
                        }
                    }
                }
            }
            for (from, row) in all.iter_mut().enumerate() {
                row[to] = least[from];
            }
        }
        all
    }

    /// Returns the cost of the path that packets take.
    pub fn path_cost(&self, from: NodeAt, to: NodeAt, cost: impl Fn(usize, usize) -> u32) -> u32 {
        let mut sum = 0;
        let mut at = from;
        while let Some(Reach::Via(hop)) = self.nodes[at].hops.get(&prefix_of(to)) {
            let wire = hop.link.0 as usize;
            let end = usize::from(self.wires[wire].ends[0] != at);
            sum += cost(wire, end);
            at = self.wires[wire].ends[1 - end];
        }
        sum
    }

    /// Returns how many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }
}
