//! How long a mesh may take: to start, and to heal.

use std::ops::Range;
use std::time::Duration;

use mesh_routing::babel::count::Count;
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::words::Metric;

use crate::net::{Net, native, plain, prefix_of};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn line(count: usize, seed: u64) -> Net {
    let mut net = Net::new(count, seed, native);
    for node in 1..count {
        net.wire(node - 1, node, ms(5));
    }
    net
}

fn ring(count: usize, seed: u64) -> Net {
    let mut net = line(count, seed);
    net.wire(count - 1, 0, ms(5));
    net
}

/// Returns how often some nodes have lost a prefix.
fn lost(net: &Net, nodes: Range<usize>) -> u64 {
    nodes
        .map(|node| net.speaker(node).counters().of(Count::Lost))
        .sum()
}

/// Breaks a link of a ring with `cut` in twenty ways and returns how long healing takes, sorted.
#[track_caller]
fn heal(cut: impl Fn(&mut Net)) -> Vec<Duration> {
    let mut times: Vec<_> = (0..20)
        .map(|seed| {
            let mut net = ring(8, seed);
            net.run(ms(10_000 + 37 * seed));
            assert!(net.is_whole());
            cut(&mut net);
            net.run_until(ms(5000), "healed", |net| net.flows_everywhere())
        })
        .collect();
    times.sort_unstable();
    times
}

#[test]
fn line_of_nine_is_whole_within_a_second() {
    let mut net = line(9, 1);
    let time = net.run_until(ms(1000), "whole", Net::is_whole);
    assert!(time < ms(1000), "{time:?}");
}

#[test]
fn ring_heals_a_link_that_goes_down_within_its_round_trips() {
    let times = heal(|net| net.lower(7));
    // There and back over seven hops of five milliseconds, and packets that gather.
    assert!(times[18] < ms(150), "{times:?}");
}

#[test]
fn ring_heals_a_silent_link_within_two_and_a_half_seconds() {
    let times = heal(|net| net.wires[7].cut = [true; 2]);
    assert!(ms(1000) < times[0], "{times:?}");
    assert!(times[18] < ms(2500), "{times:?}");
}

#[test]
fn ring_heals_a_one_way_link_within_two_and_a_half_seconds() {
    for cut in [[true, false], [false, true]] {
        let times = heal(|net| net.wires[7].cut = cut);
        assert!(times[18] < ms(2500), "{times:?}");
    }
}

#[test]
fn mended_link_is_in_use_again_within_ten_seconds() {
    for seed in 0..10 {
        let mut net = ring(8, seed);
        net.run(ms(10_000));
        net.wires[7].cut = [true; 2];
        net.run(ms(20_000));
        assert_eq!(net.path(0, 7).len(), 8);
        net.wires[7].cut = [false; 2];
        let back = |net: &Net| {
            [(0, 7), (7, 0), (1, 6), (6, 1), (2, 7)]
                .iter()
                .all(|(from, to)| net.path(*from, *to).len() <= 4)
        };
        net.run_until(ms(10_000), "back on the short way", back);
    }
}

#[test]
fn traffic_keeps_a_tunnel_whose_hellos_are_late() {
    let mut net = line(2, 3);
    net.run(ms(5000));
    net.wires[0].cut = [true; 2];
    for _ in 0..20 {
        net.run(ms(200));
        for node in 0..2 {
            net.with(node, |speaker, now| {
                speaker.handle_traffic(mesh_routing::babel::link::LinkId(0), now);
            });
        }
    }
    assert!(net.is_whole());
    net.run(ms(1700));
    assert!(!net.is_whole());
    assert_eq!(net.speaker(0).counters().of(Count::ProbedDown), 1);
}

#[test]
fn longer_path_upstream_costs_no_packet() {
    // A line whose first link gets slower: all behind it see an update that is not feasible.
    let mut net = line(5, 9);
    net.run(ms(10_000));
    assert_eq!(lost(&net, 4..5), 0);
    net.wires[0].delay = ms(100);
    let longer = |net: &Net| {
        let route = net.speaker(4).route(prefix_of(0), net.now).unwrap();
        Metric(4 * 96 + 50) < route.ways[0].metric && route.ways[0].claimed == route.ways[0].proven
    };
    net.run_until(ms(60_000), "told everywhere, with a new number", longer);
    assert_eq!(lost(&net, 4..5), 0);
}

#[test]
fn line_of_ordinary_links_is_whole_too() {
    let mut net = Net::new(5, 4, plain);
    for node in 1..5 {
        net.wire(node - 1, node, ms(2));
    }
    net.run_until(ms(20_000), "whole", Net::is_whole);
    net.lower(3);
    net.run(ms(500));
    assert_eq!(net.path(0, 4), [0]);
    net.raise(3);
    net.run_until(ms(20_000), "whole again", Net::is_whole);
}

#[test]
fn steady_line_says_little() {
    let mut net = line(3, 5);
    net.run(ms(30_000));
    let before = net.speaker(1).counters().of(Count::BytesSent);
    net.run(ms(600_000));
    let sent = net.speaker(1).counters().of(Count::BytesSent) - before;
    // Two links, hellos of one second, IHUs of three, two dumps of three prefixes.
    assert!(sent * 8 / 600 < 700, "{} bit/s", sent * 8 / 600);
}

#[test]
fn link_that_drains_is_left_by_both_ends_and_loses_nothing() {
    // A ring of four: everything has a second way.
    let mut net = Net::new(4, 6, native);
    for node in 0..4 {
        net.wire(node, (node + 1) % 4, ms(2));
    }
    net.run_until(ms(10_000), "whole", Net::is_whole);
    let before = lost(&net, 0..4);
    net.with(0, |speaker, now| speaker.set_draining(LinkId(0), true, now));
    net.run_until(ms(5_000), "left", |net| {
        net.path(0, 1) == [0, 3, 2, 1] && net.path(1, 0) == [1, 2, 3, 0]
    });
    assert!(net.is_whole());
    net.lower(0);
    net.run(ms(2_000));
    assert!(net.is_whole(), "giving it up costs nothing");
    assert_eq!(lost(&net, 0..4), before);
}

#[test]
fn only_way_carries_everything_while_it_drains() {
    let mut net = line(3, 7);
    net.run(ms(10_000));
    let before = lost(&net, 0..3);
    for node in 0..2 {
        net.with(node, |speaker, now| {
            speaker.set_draining(LinkId(0), true, now)
        });
    }
    for _ in 0..300 {
        net.run(ms(100));
        assert!(net.is_whole());
    }
    assert_eq!(net.path(0, 2), [0, 1, 2]);
    assert_eq!(lost(&net, 0..3), before);
    net.with(0, |speaker, now| {
        speaker.set_draining(LinkId(0), false, now)
    });
    net.with(1, |speaker, now| {
        speaker.set_draining(LinkId(0), false, now)
    });
    net.run(ms(10_000));
    let metric = net.speaker(2).route(prefix_of(0), net.now).unwrap().ways[0].metric;
    assert_eq!(metric, Metric(2 * 96));
}
