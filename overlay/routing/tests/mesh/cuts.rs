//! A ring whose cables are pulled and put back one after another, as the bar
//! `routing.failover-down` does with real nodes, on wires that lose packets: what is lost must be
//! said again soon.

use std::time::Duration;

use mesh_base::time::Moment;

use crate::net::{Net, NodeAt, native, prefix_of};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The ends of the path that is looked at, over the wires 0, 1 and 2.
const ENDS: (NodeAt, NodeAt) = (0, 3);

/// A ring of eight whose wires lose packets of a thousand.
fn ring(seed: u64, loss: u64) -> Net {
    let mut net = Net::new(8, seed, native);
    for node in 0..8 {
        let wire = net.wire(node, (node + 1) % 8, Duration::from_micros(300));
        net.wires[wire].jitter = ms(2);
        net.wires[wire].loss = loss;
    }
    net.run(ms(10_000));
    net
}

/// Returns whether packets get from one end to the other over wires that are up.
fn flows(net: &Net, from: NodeAt, to: NodeAt) -> bool {
    let mut at = from;
    for _ in 0..8 {
        let Some(next) = net.hop(at, prefix_of(to)) else {
            return at == to;
        };
        let joins = |ends: [NodeAt; 2]| ends == [at, next] || ends == [next, at];
        let wire = net.wires.iter().find(|wire| joins(wire.ends));
        if wire.is_none_or(|wire| !wire.up) {
            return false;
        }
        at = next;
    }
    at == to
}

/// Pulls a wire: one end knows at once, the other a little later. Returns the time from then until
/// packets flowed both ways for good.
fn outage(net: &mut Net, wire: usize, end: usize, lag: Duration) -> Duration {
    let start = net.now;
    let mut last_bad = start;
    net.lower_end(wire, end);
    let mut is_other_due = true;
    while net.now < start + ms(2000) {
        net.run(ms(1));
        if is_other_due && start + lag <= net.now {
            is_other_due = false;
            net.lower_end(wire, 1 - end);
        }
        let (one, other) = ENDS;
        if !flows(net, one, other) || !flows(net, other, one) {
            last_bad = net.now;
        }
    }
    last_bad.since(start)
}

/// Pulls wires of the path in turn, twenty times for each of ten seeds; returns the outages,
/// sorted.
fn outages(loss: u64) -> Vec<Duration> {
    let mut all = Vec::new();
    for seed in 0..10 {
        let mut net = ring(seed, loss);
        for cut in 0..20_usize {
            let (wire, end) = (cut % 3, cut / 3 % 2);
            let lag = ms(cut as u64 * 7 % 13);
            all.push(outage(&mut net, wire, end, lag));
            net.raise(wire);
            let (one, other) = ENDS;
            net.run_until(ms(60_000), "back on the best path", |net| {
                net.path(one, other).len() == 4 && net.path(other, one).len() == 4
            });
            let Moment(now) = net.now;
            net.run(ms(200 + now % 50));
        }
    }
    all.sort_unstable();
    all
}

#[test]
fn pulled_cable_is_healed_in_some_milliseconds() {
    let times = outages(0);
    assert!(times[times.len() - 1] < ms(60), "{times:?}");
}

#[test]
fn pulled_cable_is_healed_soon_though_one_packet_of_fifty_is_lost() {
    let times = outages(20);
    assert!(times[times.len() * 19 / 20] < ms(200), "{times:?}");
}
