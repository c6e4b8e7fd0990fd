//! What goes wrong in a run, drawn from its seed; every fault ends by itself after a while.

use std::time::Duration;

use mesh_routing::babel::words::{Metric, Seqno};

use super::arena::{Arena, NodeAt, WireAt};
use super::net::{Net, prefix_of};
use super::tally::Fault;
use super::wire::{Side, Weather};
use crate::chance::Chance;

/// Something that ends a fault, or begins a life.
#[derive(Debug, Clone)]
pub enum Act {
    /// Packets that an end sends arrive again.
    Mend(Vec<(WireAt, Side)>),
    /// Both links come up.
    Raise(WireAt),
    /// The weather of a wire is as it always was.
    Calm(WireAt),
    /// A node starts without what it knew.
    Start(NodeAt, Seqno),
    /// A node goes on.
    Resume(NodeAt),
}

impl Act {
    /// Lets it happen.
    pub fn happen(self, net: &mut Net) {
        let now = net.now();
        match self {
            Self::Mend(ends) => {
                for (wire, side) in ends {
                    let wire = &mut net.wires[wire];
                    wire.cut[side] = false;
                    wire.disturbed_at = now;
                }
            }
            Self::Raise(wire) => {
                if !net.wires[wire].is_up {
                    net.raise(wire);
                }
            }
            Self::Calm(wire) => {
                let wire = &mut net.wires[wire];
                wire.weather = Weather::default();
                wire.disturbed_at = now;
            }
            Self::Start(node, seqno) => net.start(node, seqno),
            Self::Resume(node) => net.disturb_node(node),
        }
    }
}

/// How bad it may get in a run.
#[derive(Debug, Clone, Copy)]
pub struct Climate {
    /// Packets lost of a thousand, at most.
    pub loss: u64,
    /// Packets that arrive twice of a thousand, at most.
    pub twice: u64,
    /// How much longer packets take, at most.
    pub jitter: Duration,
    /// How long a fault lasts, at most.
    pub lasting: Duration,
    /// Of a thousand restarted nodes so many know their own number.
    pub remembered: u64,
}

impl Climate {
    /// Draws one.
    pub fn draw(chance: &mut Chance) -> Self {
        let ms = |all: &[u64], chance: &mut Chance| {
            Duration::from_millis(chance.pick(all).copied().unwrap_or_default())
        };
        Self {
            loss: chance.pick(&[0, 50, 100, 300]).copied().unwrap_or_default(),
            twice: chance.pick(&[0, 50, 200]).copied().unwrap_or_default(),
            jitter: ms(&[0, 20, 100, 400], chance),
            lasting: ms(&[1500, 6000, 20_000], chance),
            remembered: chance.pick(&[0, 500, 1000]).copied().unwrap_or_default(),
        }
    }
}

/// The weather of a run.
#[derive(Debug)]
pub struct Storm {
    climate: Climate,
    chance: Chance,
}

impl Storm {
    /// Returns the weather of a seed.
    pub fn new(climate: Climate, seed: u64) -> Self {
        Self {
            climate,
            chance: Chance::new(seed, "storm"),
        }
    }

    /// Lets one thing go wrong.
    pub fn disturb(&mut self, net: &mut Net) {
        let wire = WireAt(self.chance.below(net.wires.len() as u64) as u32);
        let node = NodeAt(self.chance.below(net.nodes.len() as u64) as u32);
        match self.chance.below(20) {
            0..=2 => self.lower(net, wire),
            3..=5 => self.cut(net, wire, Fault::OneWay),
            6..=8 => self.cut(net, wire, Fault::Silent),
            9..=12 => self.weather(net, wire),
            13 => self.part(net),
            14 | 15 => self.crash(net, node),
            16 => self.pause(net, node),
            17 => self.announce(net, node),
            _ => self.detour(net, wire),
        }
    }

    fn span(&mut self) -> Duration {
        self.chance
            .span(Duration::from_millis(100), self.climate.lasting)
    }

    fn lower(&mut self, net: &mut Net, wire: WireAt) {
        if !net.wires[wire].is_up {
            return;
        }
        net.tally.fault(Fault::Lowered);
        net.lower(wire);
        let span = self.span();
        net.later(span, Act::Raise(wire));
    }

    fn cut(&mut self, net: &mut Net, wire: WireAt, kind: Fault) {
        let sides = if kind == Fault::Silent {
            Side::BOTH.to_vec()
        } else {
            self.chance.pick(&Side::BOTH).copied().into_iter().collect()
        };
        net.tally.fault(kind);
        self.cut_ends(net, sides.into_iter().map(|side| (wire, side)).collect());
    }

    fn cut_ends(&mut self, net: &mut Net, ends: Vec<(WireAt, Side)>) {
        let now = net.now();
        for (wire, side) in &ends {
            let (number, one) = (wire.0, &mut net.wires[*wire]);
            one.cut[*side] = true;
            one.disturbed_at = now;
            let node = one.nodes[*side].0;
            net.say(|| format!("wire {number}: nothing of node {node} arrives"));
        }
        let span = self.span();
        net.later(span, Act::Mend(ends));
    }

    /// Cuts the nodes in two.
    fn part(&mut self, net: &mut Net) {
        let halves = halves(net, &mut self.chance);
        let crossing = net.wires.numbers().filter(|wire| {
            let nodes = &net.wires[*wire].nodes;
            halves[nodes[Side::Near]] != halves[nodes[Side::Far]]
        });
        let ends = crossing.flat_map(|wire| Side::BOTH.map(|side| (wire, side)));
        let ends = ends.collect();
        net.tally.fault(Fault::Partition);
        self.cut_ends(net, ends);
    }

    fn weather(&mut self, net: &mut Net, wire: WireAt) {
        let now = net.now();
        let climate = self.climate;
        let one = &mut net.wires[wire];
        one.disturbed_at = now;
        one.weather.loss = self.chance.between(0, climate.loss);
        one.weather.twice = self.chance.between(0, climate.twice);
        one.weather.jitter = self.chance.span(Duration::ZERO, climate.jitter);
        let weather = one.weather;
        net.say(|| format!("wire {}: {weather:?}", wire.0));
        let span = self.span();
        net.later(span, Act::Calm(wire));
    }

    fn detour(&mut self, net: &mut Net, wire: WireAt) {
        net.tally.fault(Fault::Detour);
        let longest = Duration::from_millis(300);
        net.wires[wire].weather.detour = self.chance.span(Duration::ZERO, longest);
        let detour = net.wires[wire].weather.detour;
        net.say(|| format!("wire {}: a detour of {detour:?}", wire.0));
        let span = self.span();
        net.later(span, Act::Calm(wire));
    }

    fn crash(&mut self, net: &mut Net, node: NodeAt) {
        if !net.nodes[node].is_alive {
            return;
        }
        let seqno = if self.chance.permille(self.climate.remembered) {
            net.nodes[node].speaker.seqno().next()
        } else {
            Seqno(self.chance.below(3) as u16)
        };
        net.tally.fault(Fault::Crash);
        net.kill(node);
        let span = self.span();
        net.later(span, Act::Start(node, seqno));
    }

    fn pause(&mut self, net: &mut Net, node: NodeAt) {
        if net.nodes[node].is_alive && net.nodes[node].paused_until <= net.now() {
            net.tally.fault(Fault::Pause);
            let time = self.span();
            net.pause(node, time);
        }
    }

    fn announce(&mut self, net: &mut Net, node: NodeAt) {
        if net.nodes[node].is_alive && net.nodes[node].paused_until <= net.now() {
            net.tally.fault(Fault::Metric);
            let metric = Metric(self.chance.below(200) as u16);
            net.with(node, |speaker, now| {
                speaker.announce(prefix_of(node), metric, now)
            });
        }
    }
}

/// Draws for each node in which half it is.
pub fn halves(net: &Net, chance: &mut Chance) -> Arena<NodeAt, bool> {
    let mut halves = Arena::filled(false, net.nodes.len());
    for node in net.nodes.numbers() {
        halves[node] = chance.permille(500);
    }
    halves
}

/// Ends every fault when nobody stands still; nodes that are dead start at once.
pub fn heal(net: &mut Net) {
    let now = net.now();
    for wire in net.wires.numbers() {
        let one = &mut net.wires[wire];
        one.cut = Default::default();
        one.weather = Weather::default();
        one.disturbed_at = now;
        if !one.is_up {
            net.raise(wire);
        }
    }
    for node in net.nodes.numbers() {
        net.start(node, Seqno(0));
        net.with(node, |speaker, now| {
            speaker.announce(prefix_of(node), Metric::ZERO, now)
        });
    }
}
