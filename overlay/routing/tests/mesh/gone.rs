//! What is gone is forgotten: retractions that are overtaken or crowded out, requests for nobody.

use std::time::Duration;

use mesh_base::chance::Chance;
use mesh_routing::babel::count::Count;
use mesh_routing::babel::event::Reach;
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::wire::tlv::Tlv;
use mesh_routing::babel::words::{Prefix, Seqno};

use crate::desk::{Desk, Said, request, retraction, update};
use crate::net::{Net, native, prefix_of};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns which prefix is retracted.
fn retracted(tlv: &Tlv) -> Option<Prefix> {
    match tlv {
        Tlv::Update { metric, prefix, .. } if !metric.is_finite() => *prefix,
        _ => None,
    }
}

fn is_retraction(tlv: &Tlv) -> bool {
    retracted(tlv) == Some(prefix_of(5))
}

/// Returns what is to be acknowledged of what was said over a link.
fn opaques(said: &[Said], on: u32) -> Vec<u16> {
    let packets = said.iter().filter(|(link, ..)| *link == LinkId(on));
    let tlvs = packets.flat_map(|(.., tlvs)| tlvs);
    tlvs.filter_map(|tlv| match tlv {
        Tlv::AckRequest { opaque, .. } => Some(*opaque),
        _ => None,
    })
    .collect()
}

fn retractions(said: &[Said], on: u32) -> usize {
    let packets = said.iter().filter(|(link, ..)| *link == LinkId(on));
    packets
        .filter(|(.., tlvs)| tlvs.iter().any(is_retraction))
        .count()
}

/// Returns a speaker that told the neighbour of link 1 of a route, and retracted it while that was
/// on its way; with what the two packets ask to have acknowledged.
fn told_and_retracted() -> (Desk, u16, u16) {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    let told: Vec<_> = desk.silence(ms(30)).into_iter().map(|(_, it)| it).collect();
    desk.hear(2, 1, &[retraction(5)]);
    let retracted = desk.said();
    assert_eq!(retractions(&retracted, 1), 1);
    (desk, opaques(&told, 1)[0], opaques(&retracted, 1)[0])
}

#[test]
fn retraction_that_may_have_been_overtaken_is_said_again() {
    for in_order in [true, false] {
        let (mut desk, told, retracted) = told_and_retracted();
        let acks = if in_order {
            [told, retracted]
        } else {
            [retracted, told]
        };
        for opaque in acks {
            desk.hear(1, 1, &[Tlv::Ack { opaque }]);
        }
        let again = desk.said();
        assert_eq!(
            retractions(&again, 1),
            1,
            "acknowledged in order: {in_order}"
        );
        for opaque in opaques(&again, 1) {
            desk.hear(1, 1, &[Tlv::Ack { opaque }]);
        }
        assert_eq!(desk.speaker.reach(prefix_of(5)), Reach::Gone);
        let later = desk.silence(ms(1000)).into_iter().map(|(_, it)| it);
        assert_eq!(retractions(&later.collect::<Vec<_>>(), 1), 0);
    }
}

#[test]
fn update_without_acknowledgement_is_retracted_although_its_retraction_has_one() {
    let (mut desk, _, retracted) = told_and_retracted();
    desk.hear(1, 1, &[Tlv::Ack { opaque: retracted }]);
    let later = desk.silence(ms(1000)).into_iter().map(|(_, it)| it);
    assert!(0 < retractions(&later.collect::<Vec<_>>(), 1));
}

#[test]
fn retraction_waits_while_too_many_packets_wait_for_acknowledgements() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let prefix = Some(prefix_of(0));
        desk.hear(1, 1, &[Tlv::RouteRequest { prefix }]);
        waiting.extend(opaques(&desk.said(), 1));
    }
    assert_eq!(waiting.len(), 64);
    desk.hear(2, 1, &[retraction(5)]);
    let now: Vec<_> = desk.silence(ms(15)).into_iter().map(|(_, it)| it).collect();
    assert_eq!(retractions(&now, 1), 0);
    desk.hear(1, 1, &[Tlv::Ack { opaque: waiting[0] }]);
    let then: Vec<_> = desk.silence(ms(15)).into_iter().map(|(_, it)| it).collect();
    assert_eq!((retractions(&then, 1), opaques(&then, 1).len()), (1, 1));
}

#[test]
fn retractions_that_do_not_fit_into_a_packet_go_with_the_next_ones() {
    let mut desk = Desk::with_tunnels(2);
    let lost: Vec<_> = (1..100).map(prefix_of).collect();
    let updates: Vec<_> = (1..100).map(|node| update(node, 3, 100)).collect();
    desk.hear(2, 1, &updates);
    desk.settle();
    desk.speaker.handle_link_down(LinkId(2), desk.now);
    let said = desk.said();
    let packets: Vec<Vec<_>> = said
        .iter()
        .filter(|(link, ..)| *link == LinkId(1))
        .map(|(.., tlvs)| tlvs.iter().filter_map(retracted).collect())
        .collect();
    let full: Vec<_> = packets.iter().filter(|packet| !packet.is_empty()).collect();
    assert!(1 < full.len(), "all fit into one packet");
    let mut all = packets.concat();
    all.sort_unstable();
    assert_eq!(all, lost, "each of them once");
}

#[test]
fn who_has_no_route_is_asked_twice_and_who_has_one_again_and_again() {
    let mut desk = Desk::with_tunnels(4);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.hear(3, 1, &[update(5, 3, 900)]);
    desk.settle();
    desk.hear(2, 1, &[retraction(5)]);
    let said = desk.silence(ms(1500));
    let asked = |on: u32| {
        let packets = said.iter().filter(|(_, (link, ..))| *link == LinkId(on));
        let tlvs = packets.flat_map(|(_, (.., tlvs))| tlvs);
        tlvs.filter(|tlv| **tlv == request(5, 4, 64)).count()
    };
    assert_eq!((asked(1), asked(2), asked(3), asked(4)), (1, 1, 5, 1));
}

/// Twenty nodes with five or more neighbours each; packets change places and some are lost.
fn tangle(seed: u64) -> Net {
    let mut net = Net::new(20, seed, native);
    let mut chance = Chance::new(seed);
    for node in 0..20 {
        for _ in 0..3 {
            let other = (node + 1 + chance.below(19) as usize) % 20;
            let wire = net.wire(node, other, chance.between(ms(2), ms(60)));
            net.wires[wire].jitter = ms(20);
            net.wires[wire].loss = 10;
        }
    }
    net
}

const DEAD: [usize; 4] = [3, 8, 13, 18];

fn alive() -> impl Iterator<Item = usize> {
    (0..20).filter(|node| !DEAD.contains(node))
}

fn kill(net: &mut Net) {
    for node in DEAD {
        net.kill(node);
    }
}

#[test]
fn nobody_has_a_way_to_the_dead_or_asks_for_one() {
    for seed in 0..12 {
        let mut net = tangle(seed);
        net.run(ms(20_000));
        assert!(net.is_whole(), "seed {seed}");
        kill(&mut net);
        net.run(ms(20_000));
        for (node, gone) in alive().flat_map(|node| DEAD.map(|gone| (node, gone))) {
            let way = net.hop(node, prefix_of(gone));
            assert_eq!(way, None, "seed {seed}: {node} to {gone}");
        }
        let asked = |net: &Net| -> u64 {
            let counters = alive().map(|node| net.speaker(node).counters());
            counters.map(|it| it.of(Count::RequestGivenUp)).sum()
        };
        let before = asked(&net);
        net.run(ms(30_000));
        assert_eq!(asked(&net), before, "seed {seed}");
    }
}

#[test]
fn dead_nodes_are_forgotten_when_the_last_hold_and_the_last_source_are_over() {
    let mut net = tangle(1);
    net.run(ms(20_000));
    kill(&mut net);
    // A neighbour that died before it acknowledged a retraction: 3.5 update intervals of 300 s;
    // then sources are kept for 180 s, and looked at once a minute.
    net.run(ms(1_050_000 + 180_000 + 70_000));
    for node in alive() {
        let known = net.speaker(node).routes(net.now).len();
        assert_eq!(known, alive().count(), "node {node}");
    }
    assert!(net.is_whole());
    net.start(DEAD[0], Seqno(0));
    net.run_until(ms(10_000), "the first is back", Net::is_whole);
}
