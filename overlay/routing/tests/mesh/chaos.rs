//! Random meshes to which random things happen: never a loop, and whole again soon after.

use std::time::Duration;

use mesh_routing::babel::chance::Chance;
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
            Some(node) => net.start(node, Seqno(chance.below(3) as u16)),
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
        let pause = if chance.below(4) == 0 { 4000 } else { 200 };
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

#[test]
fn random_meshes_never_loop_and_are_whole_again_in_seconds() {
    let mut changes = 0;
    for seed in 0..80 {
        let mut chance = Chance::new(seed ^ 0x5eed);
        let nodes = 3 + chance.below(10) as usize;
        let weather = Weather {
            nodes,
            wires: nodes + chance.below(2 * nodes as u64) as usize,
            loss: [0, 100, 400][chance.below(3) as usize],
            jitter: [0, 20, 300][chance.below(3) as usize],
            restarts: chance.below(2) == 0,
            events: 40,
        };
        changes += run(weather, seed).changes;
    }
    assert!(20_000 < changes, "only {changes} changes were walked");
}
