//! The scenario `routing`: 20 to 60 nodes in every kind of weather, then healed.
//!
//! Safety while it storms: never a loop, never a hole of five seconds where a path survives.
//! Liveness when it ends: everybody reaches everybody within ten seconds, by good paths within
//! eighty, and tables hold no more than there is.

use std::time::Duration;

use mesh_routing::babel::words::Seqno;

use super::arena::NodeAt;
use super::atlas::Atlas;
use super::check::Holes;
use super::net::Net;
use super::storm::{Act, Climate, Storm, heal};
use super::wire::Wire;
use super::{Outcome, Step};
use crate::chance::Chance;

/// Faults of a run.
const FAULTS: u64 = 90;
/// How often holes are looked for.
const LOOK: Step = Step(Duration::from_millis(500));
/// How long a node stays dead in the runs that look whether it is forgotten: the time that sources
/// are kept, the longest pause between two sweeps, and the hold.
const GRAVE: Duration = Duration::from_secs(260);
/// Everybody reaches everybody after healing.
const WHOLE_MAX: Duration = Duration::from_secs(10);
/// Paths are good again: smoothed round trips take most of a minute to forget a detour.
const SETTLED: Duration = Duration::from_secs(80);

/// Runs one seed.
pub fn run(seed: u64, is_loud: bool) -> Outcome {
    let mut chance = Chance::new(seed, "routing");
    let mut net = Net::new(seed, is_loud);
    let count = chance.between(20, 60) as usize;
    let wires = count + chance.below(3 * count as u64) as usize;
    let climate = Climate::draw(&mut chance);
    let parameters = format!("{count} nodes, {wires} wires, {climate:?}");
    let atlas = Atlas::draw(count, &mut chance);
    net.people(count);
    for (a, b) in atlas.tangled(wires, &mut chance) {
        let mut wire = Wire::new(a, b, atlas.delay(a, b));
        wire.is_told = chance.permille(500);
        net.lay(wire);
    }
    for node in net.nodes.numbers() {
        let rest = chance.span(Duration::ZERO, Duration::from_secs(3));
        net.later(rest, Act::Start(node, Seqno(0)));
    }
    let mut holes = Holes::default();
    storm(&mut net, climate, &mut holes, &mut chance, seed);
    if seed.is_multiple_of(10) && net.broken.is_none() {
        bury(&mut net, &mut holes);
    }
    if net.broken.is_none() {
        recover(&mut net, &mut holes);
    }
    Outcome::of(seed, parameters, net, holes.worst)
}

fn storm(net: &mut Net, climate: Climate, holes: &mut Holes, chance: &mut Chance, seed: u64) {
    let mut storm = Storm::new(climate, seed);
    let calm = chance.span(Duration::ZERO, Duration::from_secs(10));
    pass(net, holes, calm);
    for _ in 0..FAULTS {
        storm.disturb(net);
        let longest = if chance.permille(200) { 5000 } else { 600 };
        let pause = chance.span(Duration::ZERO, Duration::from_millis(longest));
        pass(net, holes, pause);
        if net.broken.is_some() {
            return;
        }
    }
}

/// Lets a node die and be forgotten.
fn bury(net: &mut Net, holes: &mut Holes) {
    let Some(node) = net.nodes.numbers().next() else {
        return;
    };
    net.kill(node);
    pass(net, holes, GRAVE);
}

fn recover(net: &mut Net, holes: &mut Holes) {
    // Who stands still goes on first: what waits for it must not arrive behind what is newer.
    let last = net.nodes.iter().map(|node| node.paused_until).max();
    pass(net, holes, last.unwrap_or_default().since(net.now()));
    if net.broken.is_some() {
        return;
    }
    heal(net);
    let healed = net.now();
    while let Some((from, to)) = net.missing(NodeAt(0), |_| 0) {
        if WHOLE_MAX < net.now().since(healed) {
            let known = net.explain(from, to);
            let text = format!("node {} does not reach node {}: {known}", from.0, to.0);
            net.fail("a mesh that was healed is whole within ten seconds", text);
        }
        pass(net, holes, Duration::from_millis(250));
        if net.broken.is_some() {
            return;
        }
    }
    pass(net, holes, SETTLED);
    if net.broken.is_none() {
        net.check_paths();
        net.check_bounds();
    }
}

/// Lets time pass and looks for holes.
fn pass(net: &mut Net, holes: &mut Holes, time: Duration) {
    let end = net.now() + time;
    while net.now() < end && net.broken.is_none() {
        let rest = end.since(net.now()).min(LOOK.until_next(net.now()));
        net.run(rest);
        if LOOK.is_at(net.now()) {
            holes.look(net);
        }
    }
}
