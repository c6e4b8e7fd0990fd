//! How long a mesh may take: to start, and to heal.

use std::time::Duration;

use crate::net::{Net, native};

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

#[test]
fn line_of_nine_is_whole_within_a_second() {
    let mut net = line(9, 1);
    let time = net.run_until(ms(1000), "whole", Net::is_whole);
    assert!(time < ms(1000), "{time:?}");
}

#[test]
fn ring_heals_a_link_that_goes_down_within_two_rounds() {
    for seed in 0..20 {
        let mut net = ring(8, seed);
        net.run(ms(10_000));
        assert!(net.is_whole());
        net.lower(7);
        let time = net.run_until(ms(1000), "healed", Net::is_whole);
        assert!(time < ms(300), "{time:?}");
    }
}
