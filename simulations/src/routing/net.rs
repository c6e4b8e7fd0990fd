//! The world: speakers, wires between them, one agenda.
//!
//! ```text
//!   agenda ─┬─ a packet arrives ─┐
//!           ├─ a speaker's time ─┼─► speaker ─┬─ packets ─► wires (delay, loss, cuts) ─► agenda
//!           └─ the weather ──────┘            └─ RouteChanged ─► hops, each change is walked
//! ```
//! Decides what arrives where and when; what must hold is [`check`](super::check), what goes wrong
//! is [`storm`](super::storm). Invariant: `hops` is what the shells of all nodes would forward by.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_base::time::Moment;
use mesh_routing::babel::count::Count;
use mesh_routing::babel::event::{Event, Reach, To, Transmit};
use mesh_routing::babel::filter::{Lawful, LinkFilter, Role};
use mesh_routing::babel::link::{LinkConfig, LinkId};
use mesh_routing::babel::speaker::{Config, Speaker};
use mesh_routing::babel::wire::tlv::Cast;
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};

use super::arena::{Arena, NodeAt, WireAt};
use super::clock::Clock;
use super::hops::Hops;
use super::storm::Act;
use super::tally::{Fault, Sometimes, Tally};
use super::wire::{Side, Wire};
use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::check::Violation;

/// The first node's /64.
const FIRST_ID: u64 = 0xfd6d_0000_0000_0001;

/// Events of a virtual second for each node, and for each of its packets, above which a speaker
/// keeps the machine busy for nothing.
const STORM_MAX: u64 = 20_000;

/// A node.
pub struct Node {
    /// Its speaker; what it knew before it died stays until it is started again.
    pub speaker: Speaker,
    /// Its own time.
    pub clock: Clock,
    /// Whether it runs.
    pub is_alive: bool,
    /// Until when it stands still.
    pub paused_until: Moment,
    /// Which life it is in; the first is 1.
    pub life: u32,
    /// Its wires.
    pub wires: Vec<WireAt>,
    wake: Option<Moment>,
}

/// A packet on its way.
struct Flight {
    wire: WireAt,
    from: Side,
    session: u32,
    /// The life that sent it, and the one that it is sealed for.
    lives: (u32, u32),
    cast: Cast,
    bytes: Vec<u8>,
}

/// Something that will happen.
enum Item {
    Arrive(Box<Flight>),
    Wake(NodeAt),
    Act(Act),
    /// The hand that leads the run wants to look.
    Look,
}

/// Babel bytes that were sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// All packets.
    pub packets: u64,
    /// Their UDP payload.
    pub bytes: u64,
    /// Packets with updates.
    pub update_packets: u64,
    /// Their UDP payload.
    pub update_bytes: u64,
    /// The updates in them.
    pub updates: u64,
}

/// The world.
pub struct Net {
    /// Every node.
    pub nodes: Arena<NodeAt, Node>,
    /// Every wire.
    pub wires: Arena<WireAt, Wire>,
    /// What all nodes forward by.
    pub hops: Hops,
    /// What happened.
    pub tally: Tally,
    /// The first promise that was broken.
    pub broken: Option<Violation>,
    /// What was sent since somebody set it to zero.
    pub sent: Sent,
    /// Whether what happens is printed.
    pub is_loud: bool,
    agenda: Agenda<Item>,
    hash: u64,
    luck: Chance,
    lives: Chance,
    second: (u64, u64),
}

/// Returns the router-id of a node.
pub fn id_of(node: NodeAt) -> RouterId {
    let id = FIRST_ID + u64::from(node.0);
    // Proof: neither all zeros nor all ones.
    RouterId::from_bytes(id.to_be_bytes()).expect("a node's /64 is a router-id")
}

/// Returns the prefix of a node.
pub fn prefix_of(node: NodeAt) -> Prefix {
    let high = u128::from(FIRST_ID + u64::from(node.0));
    // Proof: 64 is at most 128.
    Prefix::new(Ipv6Addr::from(high << 64), 64).expect("a /64 is a prefix")
}

/// Returns whose prefix this is.
pub fn node_of(prefix: Prefix) -> Option<NodeAt> {
    let high = u64::try_from(u128::from(prefix.address()) >> 64).ok()?;
    u32::try_from(high.checked_sub(FIRST_ID)?).ok().map(NodeAt)
}

fn address_of(wire: WireAt, side: Side) -> Ipv6Addr {
    let last = if side == Side::Near { 1 } else { 2 };
    let bits = 0xfe80_u128 << 112 | u128::from(wire.0) << 16 | last;
    Ipv6Addr::from(bits)
}

impl Net {
    /// Returns a world without nodes.
    pub fn new(seed: u64, is_loud: bool) -> Self {
        Self {
            nodes: Arena::new(),
            wires: Arena::new(),
            hops: Hops::new(0),
            tally: Tally::default(),
            broken: None,
            sent: Sent::default(),
            is_loud,
            agenda: Agenda::new(),
            hash: seed,
            luck: Chance::new(seed, "luck"),
            lives: Chance::new(seed, "lives"),
            second: (0, 0),
        }
    }

    /// Makes nodes; none is started.
    pub fn people(&mut self, count: usize) {
        self.hops = Hops::new(count);
        for _ in 0..count {
            let clock = Clock::draw(&mut self.lives);
            let node = NodeAt(self.nodes.len() as u32);
            let config = Config {
                router_id: id_of(node),
                seqno: Seqno(0),
                seed: 0,
            };
            self.nodes.push(Node {
                speaker: Speaker::new(config, clock.local(Moment(0))),
                clock,
                is_alive: false,
                paused_until: Moment(0),
                life: 0,
                wires: Vec::new(),
                wake: None,
            });
        }
    }

    /// Lays a wire; its links come up when both nodes run.
    pub fn lay(&mut self, wire: Wire) {
        let ends = [wire.nodes[Side::Near], wire.nodes[Side::Far]];
        let at = self.wires.push(Wire {
            is_up: true,
            ..wire
        });
        for node in ends {
            self.nodes[node].wires.push(at);
        }
    }

    /// Returns the run's time.
    pub fn now(&self) -> Moment {
        self.agenda.now()
    }

    /// Returns the fingerprint of everything that happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Lets something happen later.
    pub fn later(&mut self, rest: Duration, act: Act) {
        self.agenda.after(rest, Item::Act(act));
    }

    /// Lets time pass, or ends when a promise is broken.
    pub fn run(&mut self, time: Duration) {
        self.agenda.after(time, Item::Look);
        while self.broken.is_none()
            && let Some((now, item)) = self.agenda.pop()
        {
            match item {
                Item::Look => return,
                Item::Act(act) => act.happen(self),
                Item::Wake(node) => self.wake(node, now),
                Item::Arrive(flight) => self.arrive(flight, now),
            }
            self.watch_pace(now);
        }
    }

    fn watch_pace(&mut self, now: Moment) {
        let second = now.0 / 1_000_000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        if STORM_MAX * (1 + self.nodes.len() as u64) < self.second.1 {
            let text = format!("{} events within second {second}", self.second.1);
            self.fail("no speaker keeps machines busy for nothing", text);
        }
    }

    /// Notes that a promise is broken.
    pub fn fail(&mut self, promise: &'static str, text: String) {
        let at = self.now();
        let text = format!("{text}, at {:.6} s", at.0 as f64 / 1e6);
        self.broken.get_or_insert(Violation::new(promise, text));
    }

    /// Mixes numbers into the fingerprint.
    pub fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            let mixed = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash = mixed ^ mixed >> 29;
        }
    }

    /// Prints a line if anybody listens.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{:>12.6} {}", self.now().0 as f64 / 1e6, line());
        }
    }

    /// Starts a node that knows nothing.
    pub fn start(&mut self, node: NodeAt, seqno: Seqno) {
        if self.nodes[node].is_alive {
            return;
        }
        let config = Config {
            router_id: id_of(node),
            seqno,
            seed: self.lives.below(u64::MAX),
        };
        let lawful = Lawful {
            members: self.nodes.numbers().map(id_of).collect(),
        };
        let now = self.now();
        let clock = Clock::draw(&mut self.lives);
        let local = clock.local(now);
        let mut speaker = Speaker::new(config, local);
        speaker.set_lawful(lawful, local);
        speaker.announce(prefix_of(node), Metric::ZERO, local);
        let place = &mut self.nodes[node];
        self.tally.take(place.speaker.counters());
        place.speaker = speaker;
        place.clock = clock;
        place.is_alive = true;
        place.life += 1;
        place.paused_until = now;
        place.wake = None;
        let wires = place.wires.clone();
        self.say(|| format!("node {} starts", node.0));
        self.disturb_node(node);
        for wire in wires {
            let side = self.wires[wire].side(node);
            self.wires[wire].heard[side] = 0;
            if self.wires[wire].is_up {
                self.link_up(wire, side);
            }
        }
        self.drain(node);
    }

    /// Takes a node away; its neighbours find out themselves.
    pub fn kill(&mut self, node: NodeAt) {
        self.say(|| format!("node {} dies", node.0));
        self.nodes[node].is_alive = false;
        self.hops.forget(node);
        self.disturb_node(node);
    }

    /// Lets a node stand still; what arrives waits.
    pub fn pause(&mut self, node: NodeAt, time: Duration) {
        self.say(|| format!("node {} stands still for {time:?}", node.0));
        self.nodes[node].paused_until = self.now() + time;
        self.disturb_node(node);
        self.later(time, Act::Resume(node));
    }

    /// Notes that something about a node changed.
    pub fn disturb_node(&mut self, node: NodeAt) {
        for wire in self.nodes[node].wires.clone() {
            self.wires[wire].disturbed_at = self.now();
        }
    }

    /// Brings both links of a wire up.
    pub fn raise(&mut self, wire: WireAt) {
        let now = self.now();
        let one = &mut self.wires[wire];
        one.disturbed_at = now;
        one.is_up = true;
        one.session += 1;
        one.heard = super::wire::Ends::new(0, 0);
        self.say(|| format!("wire {} is up", wire.0));
        for side in Side::BOTH {
            self.link_up(wire, side);
        }
    }

    /// Takes both links of a wire down, and tells.
    pub fn lower(&mut self, wire: WireAt) {
        let now = self.now();
        let one = &mut self.wires[wire];
        one.disturbed_at = now;
        one.is_up = false;
        self.say(|| format!("wire {} is down", wire.0));
        for side in Side::BOTH {
            let node = self.wires[wire].nodes[side];
            if self.nodes[node].is_alive {
                self.with(node, |speaker, now| {
                    speaker.handle_link_down(LinkId(wire.0), now)
                });
            }
        }
    }

    fn link_up(&mut self, wire: WireAt, side: Side) {
        let node = self.wires[wire].nodes[side];
        if !self.nodes[node].is_alive {
            return;
        }
        let config = LinkConfig {
            filter: LinkFilter::Native(Role::Peer),
            ..LinkConfig::tunnel(address_of(wire, side))
        };
        let up = self.with(node, |speaker, now| {
            speaker.handle_link_up(LinkId(wire.0), config, now)
        });
        if !up {
            self.fail("a node's links have room", format!("node {}", node.0));
        }
    }

    /// Does something to a node's speaker.
    pub fn with<T>(&mut self, node: NodeAt, act: impl FnOnce(&mut Speaker, Moment) -> T) -> T {
        let now = self.now();
        let place = &mut self.nodes[node];
        let done = act(&mut place.speaker, place.clock.local(now));
        self.drain(node);
        done
    }

    fn wake(&mut self, node: NodeAt, now: Moment) {
        let place = &mut self.nodes[node];
        if place.wake != Some(now) || !place.is_alive {
            return;
        }
        place.wake = None;
        if now < place.paused_until {
            let rest = place.paused_until;
            place.wake = Some(rest);
            self.agenda.at(rest, Item::Wake(node));
            return;
        }
        let local = place.clock.local(now);
        if place.speaker.poll_timeout().is_some_and(|due| due <= local) {
            place.speaker.handle_timeout(local);
            self.drain(node);
        } else {
            self.schedule(node);
        }
    }

    fn arrive(&mut self, flight: Box<Flight>, now: Moment) {
        let wire = &mut self.wires[flight.wire];
        let side = flight.from.other();
        let node = wire.nodes[side];
        let place = &mut self.nodes[node];
        let is_current = wire.is_up && wire.session == flight.session;
        if !is_current || !place.is_alive {
            return;
        }
        if now < place.paused_until {
            let rest = place.paused_until;
            self.agenda.at(rest, Item::Arrive(flight));
            return;
        }
        let (sender, reader) = flight.lives;
        let heard = wire.heard[side];
        if (reader != 0 && reader != place.life) || sender < heard {
            self.tally.fault(Fault::Stale);
            return;
        }
        wire.heard[side] = sender;
        let is_told = wire.is_told;
        if heard != 0 && heard != sender && is_told {
            self.link_up(flight.wire, side);
        }
        self.mix(&[now.0, u64::from(flight.wire.0), flight.bytes.len() as u64]);
        let place = &mut self.nodes[node];
        let source = address_of(flight.wire, flight.from);
        let link = LinkId(flight.wire.0);
        let local = place.clock.local(now);
        place
            .speaker
            .handle_packet(link, source, flight.cast, &flight.bytes, local);
        self.drain(node);
        if heard != sender {
            // What it sends there arrives from now on.
            self.walk_over(node, flight.wire);
        }
    }

    fn drain(&mut self, node: NodeAt) {
        let now = self.now();
        loop {
            let place = &mut self.nodes[node];
            let before = place.speaker.counters().of(Count::UpdateSent);
            let local = place.clock.local(now);
            let Some(transmit) = place.speaker.poll_transmit(local) else {
                break;
            };
            let updates = place.speaker.counters().of(Count::UpdateSent) - before;
            self.send(node, transmit, updates);
        }
        while let Some(event) = self.nodes[node].speaker.poll_event() {
            let Event::RouteChanged { prefix, reach } = event else {
                self.say(|| format!("node {}: {event:?}", node.0));
                continue;
            };
            let Some(to) = node_of(prefix) else {
                continue;
            };
            let via = match reach {
                Reach::Via(hop) => Some(WireAt(hop.link.0)),
                Reach::Held => {
                    self.tally.met(Sometimes::Held, 1);
                    None
                }
                Reach::Gone => None,
            };
            self.tally.changes += 1;
            let word = via.map_or(u64::MAX, |wire| u64::from(wire.0));
            self.mix(&[now.0, u64::from(node.0), u64::from(to.0), word]);
            self.say(|| format!("node {} to {}: {reach:?}", node.0, to.0));
            if self.nodes[node].is_alive {
                self.hops.set(node, to, via);
                self.walk(node, to);
            }
        }
        self.schedule(node);
    }

    fn send(&mut self, node: NodeAt, transmit: Transmit, updates: u64) {
        let len = transmit.bytes.len() as u64;
        self.sent.packets += 1;
        self.sent.bytes += len;
        if updates != 0 {
            self.sent.update_packets += 1;
            self.sent.update_bytes += len;
            self.sent.updates += updates;
        }
        let at = WireAt(transmit.link.0);
        let wire = &self.wires[at];
        let from = wire.side(node);
        let is_lost = wire.cut[from] || self.luck.permille(wire.weather.loss);
        if is_lost {
            self.tally.fault(Fault::Loss);
            return;
        }
        let is_twice = self.luck.permille(wire.weather.twice);
        let flight = Flight {
            wire: at,
            from,
            session: wire.session,
            lives: (self.nodes[node].life, wire.heard[from]),
            cast: match transmit.to {
                To::Multicast => Cast::Multicast,
                To::Unicast(_) => Cast::Unicast,
            },
            bytes: transmit.bytes,
        };
        if is_twice {
            self.tally.fault(Fault::Duplication);
            let again = Flight {
                bytes: flight.bytes.clone(),
                ..flight
            };
            self.fly(again);
        }
        self.fly(flight);
    }

    fn fly(&mut self, flight: Flight) {
        let wire = &mut self.wires[flight.wire];
        let time = wire.time(&mut self.luck);
        if Duration::from_millis(200) < time {
            self.tally.fault(Fault::Delay);
        }
        let now = self.agenda.now();
        let newest = &mut wire.newest[flight.from];
        if now + time < *newest {
            self.tally.fault(Fault::Reorder);
        }
        *newest = (now + time).max(*newest);
        self.agenda.after(time, Item::Arrive(Box::new(flight)));
    }

    fn schedule(&mut self, node: NodeAt) {
        let now = self.agenda.now();
        let place = &mut self.nodes[node];
        let Some(due) = place.speaker.poll_timeout().filter(|_| place.is_alive) else {
            return;
        };
        let at = place.clock.world(due).max(Moment(now.0 + 1));
        if place.wake.is_none_or(|wake| at < wake) {
            place.wake = Some(at);
            self.agenda.at(at, Item::Wake(node));
        }
    }
}
