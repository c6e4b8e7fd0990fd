//! The scenario `routing-scale`: many nodes with neighbours as the plan chooses them.
//!
//! ```text
//!   start ─► full tables ─► quiet, bytes counted ─► every tenth node dies ─► full tables
//!         ─► two halves, cut silently ─► each half full ─► healed ─► full tables
//! ```
//! Full means that packets of everybody who is alive arrive everywhere; every change of a next hop
//! is walked as in the other scenario.

use std::fmt;
use std::time::Duration;

use mesh_base::time::Moment;
use mesh_routing::babel::words::Seqno;

use super::arena::{Arena, NodeAt, WireAt};
use super::atlas::Atlas;
use super::net::{Net, Sent};
use super::storm::{Act, halves};
use super::wire::{Side, Weather, Wire};
use super::{Outcome, Step};
use crate::chance::Chance;

/// Nodes start within this time.
const STARTS: Duration = Duration::from_secs(2);
/// After this paths are the best ones, and round trips are known well.
const SETTLING: Duration = Duration::from_secs(30);
/// The mean time between two dumps of a table: they come in the last quarter of 300 s.
const QUIET: Duration = Duration::from_millis(262_500);
/// How long the halves are apart.
const APART: Duration = Duration::from_secs(60);
const STEP: Step = Step(Duration::from_millis(250));
/// No phase takes longer, whatever the limit.
const PATIENCE: Duration = Duration::from_secs(120);

/// IPv6 and UDP around Babel, WireGuard, and IPv6 and UDP around that.
const HEADERS: u64 = 48 + 32 + 48;

/// What was measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    nodes: usize,
    wires: usize,
    started: Option<Duration>,
    shrunk: Option<Duration>,
    buried: Option<Duration>,
    healed: Option<Duration>,
    quiet: Sent,
    busiest: f64,
    changes: u64,
}

impl Figures {
    fn rate(&self) -> f64 {
        kbit(self.quiet.bytes) / self.nodes.max(1) as f64
    }

    fn entry(&self) -> f64 {
        let bytes = self.quiet.update_bytes + HEADERS * self.quiet.update_packets;
        bytes as f64 / self.quiet.updates.max(1) as f64
    }

    /// Returns whether every figure is within its limit.
    pub fn is_good(&self) -> bool {
        let within = |time: Option<Duration>, most: u64| {
            time.is_some_and(|time| time <= Duration::from_secs(most))
        };
        within(self.started, 60)
            && within(self.shrunk, 10)
            && within(self.healed, 30)
            && self.rate() <= 25.0
            && self.entry() <= 50.0
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Option<Duration>| match time {
            Some(time) => format!("{:.2} s", time.as_secs_f64()),
            None => "never".to_owned(),
        };
        write!(
            f,
            "{} nodes, {} links: full tables {} after the start, {} after a tenth died \
             (forgotten {}), {} after healing; {:.1} kbit/s sent by a node (busiest {:.1}), \
             {:.1} bytes on the wire for an entry, {} route changes",
            self.nodes,
            self.wires,
            time(self.started),
            time(self.shrunk),
            time(self.buried),
            time(self.healed),
            self.rate(),
            self.busiest,
            self.entry(),
            self.changes,
        )
    }
}

fn kbit(bytes: u64) -> f64 {
    bytes as f64 * 8.0 / 1000.0 / QUIET.as_secs_f64()
}

/// Runs one seed.
pub fn run(seed: u64, count: usize, is_loud: bool) -> (Outcome, Figures) {
    let mut chance = Chance::new(seed, "routing-scale");
    let mut net = Net::new(seed, is_loud);
    build(&mut net, count, &mut chance);
    let mut figures = Figures {
        nodes: net.nodes.len(),
        wires: net.wires.len(),
        ..Figures::default()
    };
    let parameters = format!("{count} nodes, {} wires", net.wires.len());
    let everybody = |_: NodeAt| 0;
    let start = net.now();
    figures.started = until_full(&mut net, start, everybody);
    progress(&net, "started");
    quiet(&mut net, &mut figures);
    progress(&net, "quiet");
    let died = net.now();
    for node in net.nodes.numbers().filter(|node| node.0 % 10 == 3) {
        net.kill(node);
    }
    figures.shrunk = until_full(&mut net, died, everybody);
    while net.broken.is_none() && net.now().since(died) < PATIENCE && net.remembers_the_dead() {
        net.run(STEP.until_next(net.now()));
    }
    figures.buried = (!net.remembers_the_dead()).then(|| net.now().since(died));
    progress(&net, "a tenth died");
    let halves = halves(&net, &mut chance);
    let crossing = part(&mut net, &halves);
    net.run(APART);
    if let Some((from, to)) = net.missing(NodeAt(0), |node| u32::from(halves[node])) {
        let text = format!("node {} does not reach node {}", from.0, to.0);
        net.fail("each half is whole after a minute", text);
    }
    progress(&net, "apart");
    let healed = net.now();
    for wire in crossing {
        net.wires[wire].cut = Default::default();
    }
    figures.healed = until_full(&mut net, healed, everybody);
    progress(&net, "healed");
    if net.broken.is_none() {
        net.check_bounds();
    }
    figures.changes = net.tally.changes;
    (Outcome::of(seed, parameters, net, 0), figures)
}

fn build(net: &mut Net, count: usize, chance: &mut Chance) {
    let atlas = Atlas::draw(count, chance);
    net.people(count);
    for (a, b) in atlas.chosen(chance) {
        let mut wire = Wire::new(a, b, atlas.delay(a, b));
        wire.weather = Weather {
            loss: chance.pick(&[0, 0, 1, 5]).copied().unwrap_or_default(),
            jitter: wire.delay / 10,
            ..Weather::default()
        };
        net.lay(wire);
    }
    for node in net.nodes.numbers() {
        let rest = chance.span(Duration::ZERO, STARTS);
        net.later(rest, Act::Start(node, Seqno(0)));
    }
    net.run(STARTS);
}

/// Counts what is sent while nothing happens.
fn quiet(net: &mut Net, figures: &mut Figures) {
    let sent = |net: &Net| {
        let mut all: Arena<NodeAt, u64> = Arena::new();
        for node in net.nodes.iter() {
            use mesh_routing::babel::count::Count;
            all.push(node.speaker.counters().of(Count::BytesSent));
        }
        all
    };
    net.run(SETTLING);
    net.sent = Sent::default();
    let before = sent(net);
    net.run(QUIET);
    figures.quiet = net.sent;
    let after = sent(net);
    let most = net
        .nodes
        .numbers()
        .map(|node| after[node] - before[node])
        .max();
    figures.busiest = kbit(most.unwrap_or_default());
}

/// Returns how long after a moment everybody in a group reached everybody in it.
fn until_full(
    net: &mut Net,
    from: Moment,
    group: impl Fn(NodeAt) -> u32 + Copy,
) -> Option<Duration> {
    let mut suspect = NodeAt(0);
    while net.broken.is_none() && net.now().since(from) < PATIENCE {
        match net.missing(suspect, group) {
            None => return Some(net.now().since(from)),
            Some((_, to)) => suspect = to,
        }
        net.run(STEP.until_next(net.now()));
    }
    None
}

/// Cuts every wire between the halves, and tells nobody.
fn part(net: &mut Net, halves: &Arena<NodeAt, bool>) -> Vec<WireAt> {
    let crosses = |wire: &WireAt| {
        let nodes = &net.wires[*wire].nodes;
        halves[nodes[Side::Near]] != halves[nodes[Side::Far]]
    };
    let crossing: Vec<_> = net.wires.numbers().filter(crosses).collect();
    for wire in &crossing {
        net.wires[*wire].cut = super::wire::Ends::new(true, true);
    }
    crossing
}

/// Tells people who wait.
fn progress(net: &Net, what: &str) {
    eprintln!(
        "{:>8.2} virtual s: {what}, {} route changes",
        net.now().0 as f64 / 1e6,
        net.tally.changes
    );
}
