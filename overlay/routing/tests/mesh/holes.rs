//! What leaves a hole beside a way that survives: requests that reach nobody, routes that are
//! believed although nobody stands behind them any more. Each was met in the simulator.

use std::time::Duration;

use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::words::{Metric, Seqno};

use crate::desk::{Desk, own, request, retraction, update};
use crate::net::prefix_of;

/// Returns whether a node's prefix is retracted.
fn retracts(tlvs: &[Tlv], node: usize) -> bool {
    let retracts = |tlv: &Tlv| {
        matches!(tlv, Tlv::Update { prefix: Some(prefix), metric, .. }
            if *prefix == prefix_of(node) && !metric.is_finite())
    };
    tlvs.iter().any(retracts)
}

/// Returns whether a node's prefix is told.
fn tells(tlvs: &[Tlv], node: usize) -> bool {
    let tells = |tlv: &Tlv| {
        matches!(tlv, Tlv::Update { prefix: Some(prefix), metric, .. }
            if *prefix == prefix_of(node) && metric.is_finite())
    };
    tlvs.iter().any(tells)
}

/// Returns a hello with which a neighbour begins anew.
fn far_hello() -> Tlv {
    Tlv::Hello {
        cast: Cast::Multicast,
        seqno: Seqno(30_000),
        interval: Centis(10_000),
        sent: None,
    }
}

#[test]
fn next_hop_that_asked_first_is_asked_for_who_joins() {
    let mut desk = Desk::with_tunnels(4);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.hear(3, 1, &[update(5, 3, 150)]);
    desk.settle();
    desk.hear(2, 1, &[request(5, 4, 9)]);
    assert_eq!(desk.said_on(3), [request(5, 4, 8)]);
    // It may have its answer by now and need not tell of a mere number.
    desk.hear(1, 1, &[request(5, 4, 9)]);
    assert_eq!(desk.said_on(2), [request(5, 4, 8)]);
    // Once is enough.
    desk.hear(4, 1, &[request(5, 4, 9)]);
    assert_eq!(desk.said_on(2), []);
}

#[test]
fn copy_for_who_joins_takes_no_try_from_our_own_request() {
    let mut desk = Desk::with_tunnels(4);
    desk.hear(3, 1, &[update(5, 4, 50)]);
    desk.settle();
    desk.hear(4, 1, &[update(5, 4, 140)]);
    desk.hear(2, 1, &[update(5, 4, 150)]);
    desk.settle();
    // What is left is far away; a shorter way needs a newer number.
    let now = desk.now;
    desk.speaker.set_draining(LinkId(4), true, now);
    desk.hear(3, 1, &[retraction(5)]);
    assert_eq!(desk.link_to(5), Some(4));
    let ours = request(5, 5, 64);
    assert!(desk.said_on(2).contains(&ours));
    desk.hear(1, 1, &[request(5, 5, 9)]);
    let said = desk.silence(Duration::from_millis(500));
    let times = |link: u32| {
        let asked = said
            .iter()
            .filter(|(_, (on, _, tlvs))| *on == LinkId(link) && tlvs.contains(&ours));
        asked.count()
    };
    assert_eq!((times(4), times(2)), (1, 2), "again after 100 and 300 ms");
}

#[test]
fn way_that_comes_back_is_asked_although_its_neighbour_waits_too() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(2, 1, &[retraction(5)]);
    desk.hear(1, 1, &[request(5, 4, 9)]);
    desk.hear(2, 1, &[request(5, 4, 9)]);
    desk.said();
    desk.hear(2, 1, &[update(5, 3, 50)]);
    assert_eq!(desk.link_to(5), Some(2));
    assert!(desk.said_on(2).contains(&request(5, 4, 64)));
}

#[test]
fn route_lost_while_a_neighbour_begins_anew_is_retracted() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    // What was said before this is heard may arrive behind the neighbour's new beginning.
    desk.hear(1, 1, &[far_hello()]);
    desk.hear(2, 1, &[retraction(5)]);
    assert!(retracts(&desk.said_on(1), 5));
}

#[test]
fn question_for_the_table_counts_although_the_hello_of_the_new_beginning_comes_behind_it() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(1, 1, &[Tlv::RouteRequest { prefix: None }]);
    desk.said();
    // That packet may be lost, and who began anew waits for no other.
    desk.hear(1, 1, &[far_hello()]);
    assert!(tells(&desk.said_on(1), 5));
    desk.settle();
    desk.hear(2, 1, &[update(5, 4, 700)]);
    let said = desk.silence(Duration::from_millis(30));
    let said = said
        .into_iter()
        .filter(|(_, (link, ..))| *link == LinkId(1));
    assert!(said.into_iter().any(|(_, (.., tlvs))| tells(&tlvs, 5)));
}

#[test]
fn request_that_was_sent_in_vain_is_sent_again_for_who_asks_again() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    let mut sent = Vec::new();
    for pause in [400, 700, 300] {
        desk.hear(1, 1, &[request(5, 4, 9)]);
        let said = desk.silence(Duration::from_millis(pause));
        let passed = said
            .iter()
            .filter(|(_, (.., tlvs))| tlvs.contains(&request(5, 4, 8)));
        sent.push(passed.count());
    }
    // At once, after 100 and 300 ms; after 700 ms, not for the second asking; then anew.
    assert_eq!(sent, [3, 1, 3]);
}

#[test]
fn neighbour_that_slept_is_told_again_what_was_lost_within_two_seconds() {
    let mut desk = Desk::with_tunnels(2);
    // It answers a hello of ours thirteen seconds late, which is the round trip then.
    let sent = desk.silence(Duration::from_millis(1100));
    let stamp = sent.iter().find_map(|(_, (link, _, tlvs))| {
        let stamp = |tlv: &Tlv| match tlv {
            Tlv::Hello { sent, .. } if *link == LinkId(1) => *sent,
            _ => None,
        };
        tlvs.iter().find_map(stamp)
    });
    desk.pass(Duration::from_secs(13));
    let hello = Tlv::Hello {
        cast: Cast::Multicast,
        seqno: Seqno(3),
        interval: Centis(10_000),
        sent: Some(Stamp(77)),
    };
    let ihu = Tlv::Ihu {
        address: Some(own(1)),
        rxcost: Metric(96),
        interval: Centis(60_000),
        echo: Some((stamp.unwrap(), Stamp(77))),
    };
    desk.hear(1, 1, &[hello, ihu]);
    let views = desk.speaker.neighbours(desk.now);
    let view = views.iter().find(|view| view.link == LinkId(1));
    assert!(view.and_then(|view| view.rtt) > Some(Duration::from_secs(10)));
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.said_on(1);
    let said = desk.silence(Duration::from_millis(1210));
    let told = said.iter().filter(|(_, (link, _, tlvs))| {
        let tells =
            |tlv: &Tlv| matches!(tlv, Tlv::Update { prefix, .. } if *prefix == Some(prefix_of(5)));
        *link == LinkId(1) && tlvs.iter().any(tells)
    });
    assert_eq!(told.count(), 2);
}

#[test]
fn retraction_that_is_not_acknowledged_is_said_again_without_longer_pauses() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(2, 1, &[retraction(5)]);
    let said = desk.silence(Duration::from_millis(1500));
    let times = said
        .iter()
        .filter(|(_, (link, _, tlvs))| *link == LinkId(1) && retracts(tlvs, 5));
    assert_eq!(times.count(), 6);
}

#[test]
fn leaf_asks_for_a_route_that_it_lost_although_it_told_nobody_of_it() {
    let mut desk = Desk::with_tunnels(1);
    desk.hear(1, 1, &[update(5, 3, 100)]);
    desk.settle();
    // A retraction that was overtaken by the update: the neighbour has the route.
    desk.hear(1, 1, &[retraction(5)]);
    assert!(desk.said_on(1).contains(&request(5, 3, 64)));
    desk.hear(1, 1, &[update(5, 3, 100)]);
    assert_eq!(desk.link_to(5), Some(1));
}

#[test]
fn claim_with_an_older_number_that_comes_late_does_not_shorten_the_selected_route() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 4, 668)]);
    desk.settle();
    // Told as number four and shorter than its proof, it would make a loop feasible.
    desk.hear(2, 1, &[update(5, 2, 274)]);
    let route = desk.speaker.route(prefix_of(5), desk.now).unwrap();
    assert_eq!(route.ways[0].metric, Metric(668 + 96));
}
