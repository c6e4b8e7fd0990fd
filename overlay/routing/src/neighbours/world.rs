//! A thousand machines in a synthetic world: how far apart they end up, and what survives churn.
//!
//! Cities on a plane, of different sizes; each node has a line of its own with its delay. A link
//! comes up a tenth of a second after one side wants it and the other took it in. Nothing is lost
//! here: what links carry is the speaker's and the simulator's matter.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use super::limits::{INBOUND_MAX, OURS_MAX, TURN, WISH_MAX};
use super::tests::node;
use super::{Action, Neighbours, Verdict};
use mesh_base::chance::Chance;

/// What a relay adds, in microseconds: as in the measurements that the numbers come from.
const HOP_US: u64 = 10_000;
const CITIES: usize = 40;

struct World {
    chance: Chance,
    now: Moment,
    ids: Vec<NodeId>,
    numbers: BTreeMap<NodeId, usize>,
    machines: Vec<Neighbours>,
    places: Vec<(f64, f64, f64)>,
    alive: Vec<bool>,
    /// Pairs with a link that is up, the lower first.
    links: BTreeSet<(usize, usize)>,
    /// Who hears what, and when.
    due: BinaryHeap<Reverse<(Moment, usize)>>,
    known: Vec<BTreeSet<NodeId>>,
    most: usize,
}

impl World {
    fn new(count: usize, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let unit = |chance: &mut Chance| chance.index(1 << 20) as f64 / f64::from(1 << 20);
        let cities: Vec<(f64, f64)> = (0..CITIES)
            .map(|_| (unit(&mut chance) * 60_000.0, unit(&mut chance) * 40_000.0))
            .collect();
        let places = (0..count).map(|_| {
            // The square makes some cities large.
            let share = unit(&mut chance);
            let (x, y) = cities[((share * share) * CITIES as f64) as usize];
            let spread = |chance: &mut Chance| (unit(chance) - 0.5) * 2_000.0;
            let access = 1_000.0 + 9_000.0 * unit(&mut chance).powi(2);
            (x + spread(&mut chance), y + spread(&mut chance), access)
        });
        let places = places.collect();
        let ids: Vec<NodeId> = (0..count as u64).map(node).collect();
        let numbers = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let machines = ids.iter().map(|id| Neighbours::new(*id, chance.bits()));
        Self {
            now: Moment(1_000_000),
            numbers,
            machines: machines.collect(),
            places,
            alive: vec![true; count],
            links: BTreeSet::new(),
            due: BinaryHeap::new(),
            known: vec![BTreeSet::new(); count],
            most: 0,
            ids,
            chance,
        }
    }

    /// Tells a machine whom it may choose.
    fn know(&mut self, at: usize, nodes: &BTreeSet<NodeId>) {
        if !nodes.is_subset(&self.known[at]) {
            self.known[at].extend(nodes.iter().copied());
            let known = &self.known[at];
            self.machines[at].handle_known(known, &BTreeSet::new(), self.now);
            self.drain(at);
        }
    }

    /// Round trip in microseconds.
    fn rtt(&self, a: usize, b: usize) -> u64 {
        let ((ax, ay, a_access), (bx, by, b_access)) = (self.places[a], self.places[b]);
        let way = (ax - bx).hypot(ay - by) + a_access + b_access;
        (2.0 * way) as u64
    }

    /// Does what a machine wants, and what follows from it.
    fn drain(&mut self, at: usize) {
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            while let Some(action) = self.machines[at].poll() {
                match action {
                    Action::Link(peer) => open.extend(self.wish(at, self.numbers[&peer])),
                    Action::Drain(_) => {}
                    Action::Unlink(peer) => open.extend(self.part(at, self.numbers[&peer])),
                }
            }
            if let Some(due) = self.machines[at].poll_timeout() {
                self.due.push(Reverse((due, at)));
            }
            self.most = self.most.max(self.machines[at].wanted().count());
        }
    }

    /// One side says that it wants a link.
    fn wish(&mut self, at: usize, to: usize) -> Vec<usize> {
        if !self.alive[to] || !self.machines[at].is_ours(&self.ids[to]) {
            return Vec::new();
        }
        let (id, peer, now) = (self.ids[at], self.ids[to], self.now);
        match self.machines[to].handle_inbound(id, now) {
            Verdict::Accepted => {
                if self.links.insert((at.min(to), at.max(to))) {
                    let rtt = self.rtt(at, to);
                    for (here, other) in [(at, peer), (to, id)] {
                        self.machines[here].handle_rtt(other, rtt, now);
                        self.machines[here].handle_up(&other, now);
                    }
                }
                if self.known[at].len() != self.known[to].len() {
                    let (ours, theirs) = (self.known[at].clone(), self.known[to].clone());
                    self.know_later(at, theirs);
                    self.know_later(to, ours);
                }
            }
            Verdict::Redirected(others) => {
                self.machines[at].handle_redirect(peer, &others, now);
            }
            Verdict::Stranger => {}
        }
        vec![at, to]
    }

    /// Contacts spread over links.
    fn know_later(&mut self, at: usize, nodes: BTreeSet<NodeId>) {
        if !nodes.is_subset(&self.known[at]) {
            self.known[at].extend(nodes);
            self.machines[at].handle_known(&self.known[at], &BTreeSet::new(), self.now);
        }
    }

    /// One side gives a link up.
    fn part(&mut self, at: usize, to: usize) -> Vec<usize> {
        let (id, now) = (self.ids[at], self.now);
        self.machines[to].handle_inbound_end(&id, now);
        if self.links.remove(&(at.min(to), at.max(to))) {
            self.machines[to].handle_down(&id, now);
        }
        vec![to]
    }

    fn kill(&mut self, at: usize) {
        self.alive[at] = false;
        let gone: Vec<(usize, usize)> = self
            .links
            .iter()
            .filter(|(a, b)| *a == at || *b == at)
            .copied()
            .collect();
        for (a, b) in gone {
            self.links.remove(&(a, b));
            let other = if a == at { b } else { a };
            self.machines[other].handle_down(&self.ids[at], self.now);
            self.drain(other);
        }
    }

    /// Lets time pass; wishes are repeated and distances measured as in the node.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut beat = self.now;
        while beat < end {
            beat = (beat + WISH_MAX * 4 / 5).min(end);
            while let Some(Reverse((due, at))) = self.due.peek().copied() {
                if beat < due {
                    break;
                }
                self.due.pop();
                // Each machine may stand in the heap more than once; only its newest word counts.
                if self.alive[at] && self.machines[at].poll_timeout() == Some(due) {
                    self.now = self.now.max(due);
                    self.machines[at].handle_timeout(self.now);
                    self.drain(at);
                }
            }
            self.now = beat;
            self.beat();
        }
    }

    fn beat(&mut self) {
        for at in 0..self.ids.len() {
            if !self.alive[at] {
                continue;
            }
            for peer in self.machines[at].sampled().copied().collect::<Vec<_>>() {
                let to = self.numbers[&peer];
                if self.alive[to] {
                    let rtt = self.rtt(at, to);
                    self.machines[at].handle_rtt(peer, rtt, self.now);
                }
            }
            for peer in self.machines[at].wanted().copied().collect::<Vec<_>>() {
                for changed in self.wish(at, self.numbers[&peer]) {
                    self.drain(changed);
                }
            }
        }
    }

    fn graph(&self) -> Graph {
        let mut edges = vec![Vec::new(); self.ids.len()];
        for (a, b) in &self.links {
            edges[*a].push((*b, self.rtt(*a, *b)));
            edges[*b].push((*a, self.rtt(*a, *b)));
        }
        Graph(edges)
    }

    /// What re6st does: ten by chance, without looking.
    fn by_chance(&mut self) -> Graph {
        let count = self.ids.len();
        let mut pairs = BTreeSet::new();
        for a in 0..count {
            for _ in 0..10 {
                let b = self.chance.index(count);
                if a != b {
                    pairs.insert((a.min(b), a.max(b)));
                }
            }
        }
        let mut edges = vec![Vec::new(); count];
        for (a, b) in pairs {
            edges[a].push((b, self.rtt(a, b)));
            edges[b].push((a, self.rtt(a, b)));
        }
        Graph(edges)
    }

    fn living(&self) -> Vec<usize> {
        (0..self.ids.len()).filter(|at| self.alive[*at]).collect()
    }

    /// Returns how many living nodes a living one reaches.
    fn reached(&self) -> (usize, usize) {
        let living = self.living();
        let times = self.graph().times(living[0]);
        let reached = living.iter().filter(|at| times[**at].is_some()).count();
        (reached, living.len())
    }

    /// Mean of (time over the mesh) / (time over the underlay), from forty sources.
    fn stretch(&self, graph: &Graph) -> f64 {
        let living = self.living();
        let (mut sum, mut count) = (0.0, 0.0);
        for from in living.iter().step_by((living.len() / 40).max(1)) {
            let times = graph.times(*from);
            for to in living.iter().filter(|to| *to != from) {
                let time = times[*to].expect("all are connected");
                sum += time as f64 / self.rtt(*from, *to) as f64;
                count += 1.0;
            }
        }
        sum / count
    }
}

/// Edges by node, each with its round trip.
struct Graph(Vec<Vec<(usize, u64)>>);

impl Graph {
    /// Shortest times from a node; none where there is no way.
    fn times(&self, from: usize) -> Vec<Option<u64>> {
        let mut times = vec![None; self.0.len()];
        let mut open = BinaryHeap::from([Reverse((0, from))]);
        while let Some(Reverse((time, at))) = open.pop() {
            if times[at].is_some() {
                continue;
            }
            times[at] = Some(time);
            let relay = if at == from { 0 } else { HOP_US };
            for (to, rtt) in &self.0[at] {
                open.push(Reverse((time + rtt + relay, *to)));
            }
        }
        times
    }

    fn degrees(&self) -> (f64, usize) {
        let total: usize = self.0.iter().map(Vec::len).sum();
        let most = self.0.iter().map(Vec::len).max().unwrap_or_default();
        (total as f64 / self.0.len() as f64, most)
    }
}

#[test]
fn thousand_nodes_halve_what_chance_adds_to_the_way() {
    let mut world = World::new(1000, 1);
    let all: BTreeSet<NodeId> = world.ids.iter().copied().collect();
    for at in 0..1000 {
        world.know(at, &all);
    }
    world.pass(Duration::from_secs(120));
    let early = world.stretch(&world.graph());
    world.pass(TURN * 12);
    let graph = world.graph();
    let (mean, most) = graph.degrees();
    let chance = world.by_chance();
    let (ours, theirs) = (world.stretch(&graph), world.stretch(&chance));
    println!(
        "1,000 nodes after an hour: degree {mean:.1}, at most {most} (wanted {}), stretch \
         {ours:.2} (after two minutes {early:.2}); by chance {theirs:.2} at degree {:.1}",
        world.most,
        chance.degrees().0
    );
    assert_eq!(world.reached(), (1000, 1000));
    assert!(most <= OURS_MAX + INBOUND_MAX);
    assert!(mean <= 21.0, "{mean}");
    assert!(ours - 1.0 <= 0.6 * (theirs - 1.0), "{ours} {theirs}");

    for at in (0..1000).step_by(3) {
        world.kill(at);
    }
    let (reached, living) = world.reached();
    println!("a third lost: {reached} of {living} reached at once");
    assert!(living * 99 / 100 <= reached);
    world.pass(TURN * 2);
    assert_eq!(world.reached(), (living, living));
    println!(
        "ten minutes later: stretch {:.2}",
        world.stretch(&world.graph())
    );
}

#[test]
fn mesh_outlives_everybody_through_whom_it_was_joined() {
    for seed in 0..8 {
        let (count, founders) = (60, 6);
        let mut world = World::new(count, seed);
        let first: BTreeSet<NodeId> = world.ids[..founders].iter().copied().collect();
        for at in 0..founders {
            world.know(at, &first);
        }
        // Everybody joins through one founder, and learns of others only over links.
        for at in founders..count {
            let host = world.chance.index(founders);
            let introduced = [world.ids[at], world.ids[host]].into();
            world.know(at, &introduced);
            world.know(host, &introduced);
            world.pass(Duration::from_secs(20));
        }
        for at in 0..founders {
            world.kill(at);
            let pause = Duration::from_secs(world.chance.index(120) as u64);
            world.pass(pause);
        }
        world.pass(TURN * 2);
        let (reached, living) = world.reached();
        assert_eq!(
            (reached, living),
            (count - founders, count - founders),
            "seed {seed}"
        );
    }
}

#[test]
fn storm_of_comings_and_goings_leaves_one_mesh() {
    for seed in 0..6 {
        let mut world = World::new(80, 100 + seed);
        let all: BTreeSet<NodeId> = world.ids.iter().copied().collect();
        for at in 0..80 {
            world.know(at, &all);
        }
        for _ in 0..40 {
            let at = world.chance.index(80);
            if world.alive[at] && 40 < world.living().len() {
                world.kill(at);
            } else if !world.alive[at] {
                // It returns as a new program that remembers its contacts.
                world.alive[at] = true;
                world.machines[at] = Neighbours::new(world.ids[at], world.chance.bits());
                world.known[at].clear();
                world.know(at, &all);
            }
            let pause = Duration::from_secs(world.chance.index(90) as u64);
            world.pass(pause);
        }
        world.pass(TURN * 2);
        let (reached, living) = world.reached();
        assert_eq!(reached, living, "seed {seed}");
        assert!(world.most <= OURS_MAX + INBOUND_MAX);
    }
}
