//! Random meshes to which random things happen: never a loop, and whole again soon after.

use std::time::Duration;

use mesh_base::chance::Chance;
use mesh_routing::babel::count::Count;
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::words::{Metric, Seqno};

use crate::net::{Net, NodeAt, prefix_of};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What may happen in a run.
#[derive(Debug, Clone, Copy)]
struct Weather {
    nodes: usize,
    wires: usize,
    /// Packets lost of a thousand, at most.
    loss: u64,
    /// Milliseconds.
    jitter: u64,
    restarts: bool,
    events: usize,
    /// Milliseconds between events, mostly short and sometimes long.
    pauses: [u64; 2],
}

/// A connected graph: a random tree, and random wires more.
fn random_net(weather: Weather, seed: u64, chance: &mut Chance) -> Net {
    let mut net = Net::new(weather.nodes, seed, crate::net::native);
    let mut node = |below: usize| chance.below(below as u64) as NodeAt;
    let mut pairs: Vec<(NodeAt, NodeAt)> = (1..weather.nodes).map(|at| (node(at), at)).collect();
    while pairs.len() < weather.wires {
        let pair = (node(weather.nodes), node(weather.nodes));
        if pair.0 != pair.1 {
            pairs.push(pair);
        }
    }
    for (a, b) in pairs {
        let delay = ms(1 + chance.below(60));
        net.wire(a, b, delay);
    }
    net
}

fn disturb(net: &mut Net, weather: Weather, dead: &mut Vec<NodeAt>, chance: &mut Chance) {
    let wire = chance.below(net.wires.len() as u64) as usize;
    match chance.below(9) {
        0 => net.lower(wire),
        1 => net.raise(wire),
        2 => net.wires[wire].loss = chance.below(weather.loss + 1),
        3 => net.wires[wire].jitter = ms(chance.below(weather.jitter + 1)),
        4 => net.wires[wire].cut[0] = chance.below(2) == 0,
        5 => net.wires[wire].cut[1] = chance.below(2) == 0,
        6 => net.wires[wire].delay = ms(1 + chance.below(150)),
        7 if weather.restarts => match dead.pop() {
            Some(node) if chance.below(2) == 0 => net.start(node, Seqno(chance.below(3) as u16)),
            Some(node) => net.start_quietly(node, Seqno(chance.below(3) as u16)),
            None => {
                let node = chance.below(weather.nodes as u64) as NodeAt;
                net.kill(node);
                dead.push(node);
            }
        },
        _ => {
            let node = chance.below(weather.nodes as u64) as NodeAt;
            let metric = Metric(chance.below(200) as u16);
            if !dead.contains(&node) {
                net.with(node, |speaker, now| {
                    speaker.announce(prefix_of(node), metric, now)
                });
            }
        }
    }
}

fn mend(net: &mut Net, dead: &[NodeAt], chance: &mut Chance) {
    for node in dead {
        net.start(*node, Seqno(chance.below(3) as u16));
    }
    for wire in 0..net.wires.len() {
        net.wires[wire].cut = [false; 2];
        net.wires[wire].loss = 0;
        net.wires[wire].jitter = Duration::ZERO;
        if !net.wires[wire].up {
            net.raise(wire);
        }
    }
    for node in 0..net.node_count() {
        net.with(node, |speaker, now| {
            speaker.announce(prefix_of(node), Metric::ZERO, now)
        });
    }
}

/// Checks that every path is about the shortest there is.
fn check_short(net: &Net) {
    let now = net.now;
    let costs: Vec<[u32; 2]> = (0..net.wires.len())
        .map(|wire| {
            [0, 1].map(|end| {
                let node = net.wires[wire].ends[end];
                let neighbours = net.speaker(node).neighbours(now);
                let link = LinkId(wire as u32);
                let found = neighbours.iter().find(|n| n.link == link);
                u32::from(found.unwrap().cost.0)
            })
        })
        .collect();
    let best = net.distances(|wire, end| costs[wire][end]);
    for (from, row) in best.iter().enumerate() {
        for (to, best) in row.iter().enumerate() {
            let path = net.path(from, to);
            assert_eq!(path.last(), Some(&to));
            let sum = net.path_cost(from, to, |wire, end| costs[wire][end]);
            let best = best.unwrap();
            let slack = best / 4 + 32;
            if best + slack < sum {
                path.iter().for_each(|node| net.explain(*node, to));
            }
            assert!(sum <= best + slack, "{path:?} costs {sum}, best {best}");
        }
    }
}

fn run(weather: Weather, seed: u64) -> Net {
    let mut chance = Chance::new(seed);
    let mut net = random_net(weather, seed, &mut chance);
    net.run(ms(chance.below(8000)));
    let mut dead = Vec::new();
    for _ in 0..weather.events {
        disturb(&mut net, weather, &mut dead, &mut chance);
        let [short, long] = weather.pauses;
        let pause = if chance.below(4) == 0 { long } else { short };
        net.run(ms(chance.below(pause)));
    }
    mend(&mut net, &dead, &mut chance);
    net.run_until(ms(10_000), "whole again", Net::is_whole);
    net.run(ms(30_000));
    net.explain_holes();
    assert!(net.is_whole(), "fell apart again");
    check_short(&net);
    for node in 0..net.node_count() {
        let routes = net.speaker(node).routes(net.now);
        assert!(routes.len() <= weather.nodes);
        assert_eq!(net.speaker(node).counters().of(Count::TableFull), 0);
    }
    net
}

/// A mesh and weather of a seed.
fn weather(seed: u64, pauses: [u64; 2]) -> Weather {
    let mut chance = Chance::new(seed ^ 0x5eed);
    let nodes = 3 + chance.below(10) as usize;
    Weather {
        nodes,
        wires: nodes + chance.below(2 * nodes as u64) as usize,
        loss: [0, 100, 400][chance.below(3) as usize],
        jitter: [0, 20, 300][chance.below(3) as usize],
        restarts: chance.below(2) == 0,
        events: 40,
        pauses,
    }
}

#[test]
fn random_meshes_never_loop_and_are_whole_again_in_seconds() {
    let walk = |seed| run(weather(seed, [200, 4000]), seed).changes;
    let changes: u64 = (0..60).map(walk).sum();
    assert!(15_000 < changes, "only {changes} changes were walked");
}

#[test]
fn old_age_of_routes_and_distances_makes_no_loop_either() {
    let walk = |seed| run(weather(seed, [200, 90_000]), seed).changes;
    let changes: u64 = (1020..1040).map(walk).sum();
    assert!(5000 < changes, "only {changes} changes were walked");
}

#[test]
fn seeds_that_once_failed_hold() {
    // A part of the mesh that came back waited for the long pause of a request.
    run(weather(249, [200, 4000]), 249);
    // A retraction that was not acknowledged was forgotten when something newer was said.
    run(weather(1035, [200, 90_000]), 1035);
}
