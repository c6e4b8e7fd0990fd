//! What must hold: no loop at any moment, no hole where there is a way, bounded tables, good paths.
//!
//! A next hop counts while its node has a session with the life that its neighbour is in: what is
//! sealed for a life before cannot be opened, so it goes nowhere. Loops are looked for without
//! regard to cuts and losses; holes with regard to cuts and to nodes that stand still, not to
//! losses.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_base::time::Moment;
use mesh_routing::babel::count::Count;
use mesh_routing::babel::words::Metric;

use super::arena::{Arena, NodeAt, Number, WireAt};
use super::net::{Net, prefix_of};
use super::wire::Side;

/// Longest hole with a surviving path, in seconds.
pub const HOLE_MAX: usize = 5;

const LOOP_FREE: &str = "next hops never make a loop";
const NO_HOLE: &str = "no hole of five seconds where a path survives";

impl Net {
    /// Returns where a node hands packets for a destination to, if they can be opened there.
    fn next(&self, at: NodeAt, to: NodeAt) -> Option<(WireAt, NodeAt)> {
        let wire = self.hops.get(at, to)?;
        let one = &self.wires[wire];
        let side = one.side(at);
        let peer = one.nodes[side.other()];
        (one.heard[side] == self.nodes[peer].life).then_some((wire, peer))
    }

    /// Follows next hops from a node whose hop is new: a loop that is new goes through it.
    pub fn walk(&mut self, from: NodeAt, to: NodeAt) {
        let mut at = from;
        let mut path = 0;
        while let Some((_, next)) = self.next(at, to) {
            path += 1;
            if next == from || self.nodes.len() < path {
                let text = self.explain_loop(from, to);
                self.fail(LOOP_FREE, text);
                return;
            }
            at = next;
        }
    }

    /// Follows every next hop of a node that leads over a wire.
    pub fn walk_over(&mut self, node: NodeAt, wire: WireAt) {
        for to in self.nodes.numbers() {
            if self.hops.get(node, to) == Some(wire) {
                self.walk(node, to);
            }
        }
    }

    fn explain_loop(&self, from: NodeAt, to: NodeAt) -> String {
        let mut text = format!("a loop to node {}:", to.0);
        let mut at = from;
        for _ in 0..self.nodes.len().min(8) {
            text.push_str(&format!("\n    {}", self.explain(at, to)));
            match self.next(at, to) {
                Some((_, next)) if next != from => at = next,
                _ => break,
            }
        }
        text
    }

    /// Returns in words what a node knows about another.
    pub fn explain(&self, at: NodeAt, to: NodeAt) -> String {
        let place = &self.nodes[at];
        let local = place.clock.local(self.now());
        let Some(route) = place.speaker.route(prefix_of(to), local) else {
            return format!("node {}: nothing known", at.0);
        };
        let ways = route.ways.iter().map(|way| {
            let wire = WireAt(way.link.0);
            format!(
                "\n        {} to {} (wire {}) claims {}:{} proven {}:{} costs {} {}",
                if way.selected { "*" } else { " " },
                self.wires[wire].peer(at).0,
                wire.0,
                way.claimed.seqno.0,
                way.claimed.metric.0,
                way.proven.seqno.0,
                way.proven.metric.0,
                way.metric.0,
                if way.feasible { "" } else { "unfeasible" },
            )
        });
        let kept = route
            .feasibility
            .iter()
            .map(|(_, d)| (d.seqno.0, d.metric.0));
        let kept: Vec<_> = kept.collect();
        let held = if route.held_until.is_some() {
            " held"
        } else {
            ""
        };
        format!(
            "node {}: kept {kept:?}{held}{}",
            at.0,
            ways.collect::<String>()
        )
    }

    /// Returns whether a packet gets over a wire to who is at the other end.
    fn passes(&self, wire: WireAt, from: NodeAt, to: NodeAt) -> bool {
        let one = &self.wires[wire];
        let place = &self.nodes[to];
        let awake = place.is_alive && place.paused_until <= self.now();
        one.is_up && awake && !one.cut[one.side(from)]
    }

    /// Returns which nodes' packets arrive at a destination.
    fn arriving(&self, to: NodeAt) -> Arena<NodeAt, bool> {
        let mut known: Arena<NodeAt, Option<bool>> = Arena::filled(None, self.nodes.len());
        known[to] = Some(true);
        let mut trail = Vec::new();
        for from in self.nodes.numbers() {
            let mut at = from;
            let verdict = loop {
                if let Some(verdict) = known[at] {
                    break verdict;
                }
                // Until the walk tells: a loop does not arrive.
                known[at] = Some(false);
                trail.push(at);
                match self
                    .next(at, to)
                    .filter(|(wire, next)| self.passes(*wire, at, *next))
                {
                    Some((_, next)) => at = next,
                    None => break false,
                }
            };
            for node in trail.drain(..) {
                known[node] = Some(verdict);
            }
        }
        let mut all = Arena::filled(false, self.nodes.len());
        for node in self.nodes.numbers() {
            all[node] = known[node] == Some(true);
        }
        all
    }

    /// Returns a node that does not reach a destination, of all that are alive; `group` tells which
    /// must reach each other. Looks at the destination `first` first.
    pub fn missing(
        &self,
        first: NodeAt,
        group: impl Fn(NodeAt) -> u32,
    ) -> Option<(NodeAt, NodeAt)> {
        let count = self.nodes.len();
        let turn = |at: NodeAt| NodeAt::at((at.place() + first.place()) % count.max(1));
        self.nodes.numbers().map(turn).find_map(|to| {
            if !self.nodes[to].is_alive {
                return None;
            }
            let arriving = self.arriving(to);
            let lost = self.nodes.numbers().find(|from| {
                self.nodes[*from].is_alive && group(*from) == group(to) && !arriving[*from]
            });
            lost.map(|from| (from, to))
        })
    }

    /// Returns whether a node that is alive has a next hop to one that is not.
    pub fn remembers_the_dead(&self) -> bool {
        let dead = self
            .nodes
            .numbers()
            .filter(|node| !self.nodes[*node].is_alive);
        dead.into_iter().any(|to| {
            self.nodes
                .numbers()
                .any(|from| self.hops.get(from, to).is_some())
        })
    }

    /// Returns whether a wire was sound for a while.
    fn has_survived(&self, wire: WireAt, sound_for: Duration) -> bool {
        let one = &self.wires[wire];
        let is_awake = |side: Side| {
            let place = &self.nodes[one.nodes[side]];
            place.is_alive && place.paused_until <= self.now()
        };
        let is_old = sound_for <= self.now().since(one.disturbed_at);
        is_old && one.is_sound() && Side::BOTH.into_iter().all(is_awake)
    }

    /// Groups nodes that are connected by wires that were sound for a while.
    fn islands(&self, sound_for: Duration) -> Arena<NodeAt, NodeAt> {
        let mut island = Arena::new();
        for node in self.nodes.numbers() {
            island.push(node);
        }
        let root = |island: &Arena<NodeAt, NodeAt>, mut node: NodeAt| {
            while island[node] != node {
                node = island[node];
            }
            node
        };
        for wire in self.wires.numbers() {
            if self.has_survived(wire, sound_for) {
                let ends = &self.wires[wire].nodes;
                let (a, b) = (
                    root(&island, ends[Side::Near]),
                    root(&island, ends[Side::Far]),
                );
                island[a.max(b)] = a.min(b);
            }
        }
        for node in self.nodes.numbers() {
            island[node] = root(&island, node);
        }
        island
    }

    /// Checks that tables hold what there is and no more.
    pub fn check_bounds(&mut self) {
        for node in self.nodes.numbers() {
            let place = &self.nodes[node];
            let routes = place.speaker.routes(place.clock.local(self.now()));
            let ways = routes.iter().map(|route| route.ways.len()).max();
            let (most, ways) = (place.wires.len(), ways.unwrap_or_default());
            let full = place.speaker.counters().of(Count::TableFull);
            if self.nodes.len() < routes.len() || most < ways || full != 0 {
                let text = format!("node {}: {} prefixes, {ways} ways", node.0, routes.len());
                self.fail("tables hold no more than there is", text);
            }
        }
    }

    /// Checks that every path is about the shortest there is, by what speakers say that wires cost.
    pub fn check_paths(&mut self) {
        let mut costs: BTreeMap<(NodeAt, WireAt), u32> = BTreeMap::new();
        for node in self.nodes.numbers() {
            let place = &self.nodes[node];
            for neighbour in place.speaker.neighbours(place.clock.local(self.now())) {
                let Metric(cost) = neighbour.cost;
                costs.insert((node, WireAt(neighbour.link.0)), u32::from(cost));
            }
        }
        for to in self.nodes.numbers() {
            let least = self.distances(to, &costs);
            for from in self.nodes.numbers() {
                let (mut at, mut sum, mut steps) = (from, 0, 0);
                while let Some((wire, next)) = self.next(at, to) {
                    sum += costs.get(&(at, wire)).copied().unwrap_or(0xffff);
                    (at, steps) = (next, steps + 1);
                    if self.nodes.len() < steps {
                        break;
                    }
                }
                let best = least[from].unwrap_or(u32::MAX / 2);
                if at != to || best + best / 4 + 32 < sum {
                    let mut text = format!("{} to {} costs {sum}, best {best}", from.0, to.0);
                    for at in self.best_path(from, to, &least, &costs) {
                        text.push_str(&format!("\n    {}", self.explain(at, to)));
                    }
                    self.fail("paths are about the shortest after healing", text);
                    return;
                }
            }
        }
    }

    fn best_path(
        &self,
        from: NodeAt,
        to: NodeAt,
        least: &Arena<NodeAt, Option<u32>>,
        costs: &BTreeMap<(NodeAt, WireAt), u32>,
    ) -> Vec<NodeAt> {
        let mut path = vec![from];
        let mut at = from;
        while at != to && path.len() < self.nodes.len() {
            let ways = self.nodes[at].wires.iter().filter_map(|wire| {
                let peer = self.wires[*wire].peer(at);
                Some((least[peer]? + costs.get(&(at, *wire))?, peer))
            });
            let Some((_, next)) = ways.min() else {
                break;
            };
            at = next;
            path.push(at);
        }
        path
    }

    /// Returns the least cost of every node to one.
    fn distances(
        &self,
        to: NodeAt,
        costs: &BTreeMap<(NodeAt, WireAt), u32>,
    ) -> Arena<NodeAt, Option<u32>> {
        let mut least = Arena::filled(None, self.nodes.len());
        least[to] = Some(0);
        let mut waiting = std::collections::BTreeSet::from([(0, to)]);
        while let Some((known, at)) = waiting.pop_first() {
            for wire in &self.nodes[at].wires {
                let peer = self.wires[*wire].peer(at);
                let Some(cost) = costs.get(&(peer, *wire)) else {
                    continue;
                };
                let new: u32 = known + cost;
                if least[peer].is_none_or(|old| new < old) {
                    least[peer] = Some(new);
                    waiting.insert((new, peer));
                }
            }
        }
        least
    }
}

/// Pairs whose packets do not arrive, and since when; anew when the way in use is cut once more.
#[derive(Debug, Default)]
pub struct Holes {
    since: BTreeMap<(NodeAt, NodeAt), Moment>,
    /// The longest hole with a path that survived as long, in whole seconds.
    pub worst: usize,
}

impl Holes {
    /// Looks at every pair of nodes that are alive.
    pub fn look(&mut self, net: &mut Net) {
        let now = net.now();
        let islands: Vec<_> = (1..=HOLE_MAX)
            .map(|seconds| net.islands(Duration::from_secs(seconds as u64)))
            .collect();
        let asleep = |node: NodeAt| {
            let place = &net.nodes[node];
            !place.is_alive || now < place.paused_until
        };
        let mut broken = None;
        for to in net.nodes.numbers() {
            let arriving = net.arriving(to);
            for from in net.nodes.numbers() {
                if asleep(from) || asleep(to) || arriving[from] {
                    self.since.remove(&(from, to));
                    continue;
                }
                let since = self.since.entry((from, to)).or_insert(now);
                *since = net.obstacle(from, to).unwrap_or(*since).max(*since);
                let since = *since;
                let lasted = now.since(since).as_secs() as usize;
                let survived = (1..=HOLE_MAX)
                    .zip(&islands)
                    .take_while(|(seconds, island)| {
                        *seconds <= lasted && island[from] == island[to]
                    })
                    .count();
                self.worst = self.worst.max(survived);
                if survived == HOLE_MAX && broken.is_none() {
                    broken = Some((from, to));
                }
            }
        }
        if let Some((from, to)) = broken {
            let text = format!(
                "node {} does not reach node {}: {}\n  a path that survives: {}",
                from.0,
                to.0,
                net.explain_path(from, to),
                net.explain_survivor(from, to)
            );
            net.fail(NO_HOLE, text);
        }
    }
}

impl Net {
    /// Returns since when there is what packets on their way to a destination are stuck at, if they
    /// have a next hop there: it has to be found out.
    fn obstacle(&self, from: NodeAt, to: NodeAt) -> Option<Moment> {
        let mut at = from;
        for _ in 0..self.nodes.len() {
            let (wire, next) = self.next(at, to)?;
            if !self.passes(wire, at, next) {
                return Some(self.wires[wire].disturbed_at);
            }
            at = next;
        }
        None
    }

    /// Returns in words what the nodes along wires that were sound all the time know.
    fn explain_survivor(&self, from: NodeAt, to: NodeAt) -> String {
        let sound_for = Duration::from_secs(HOLE_MAX as u64);
        let mut towards: Arena<NodeAt, Option<NodeAt>> = Arena::filled(None, self.nodes.len());
        towards[to] = Some(to);
        let mut reached = vec![to];
        let mut done = 0;
        while let Some(at) = reached.get(done).copied() {
            done += 1;
            for wire in &self.nodes[at].wires {
                let peer = self.wires[*wire].peer(at);
                if self.has_survived(*wire, sound_for) && towards[peer].is_none() {
                    towards[peer] = Some(at);
                    reached.push(peer);
                }
            }
        }
        let mut text = String::new();
        let mut at = from;
        while let Some(next) = towards[at] {
            text.push_str(&format!("\n    {}", self.explain(at, to)));
            if at == to {
                break;
            }
            at = next;
        }
        text
    }

    fn explain_path(&self, from: NodeAt, to: NodeAt) -> String {
        let mut text = String::new();
        let mut at = from;
        for _ in 0..8 {
            text.push_str(&format!("\n    {}", self.explain(at, to)));
            let Some((wire, next)) = self.next(at, to) else {
                break;
            };
            text.push_str(&format!("\n    passes: {}", self.passes(wire, at, next)));
            at = next;
        }
        text
    }
}
