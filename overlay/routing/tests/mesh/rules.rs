//! The rules of RFC 8966 that a mesh as a whole would hide, one by one.

use std::time::Duration;

use mesh_routing::babel::count::Count;
use mesh_routing::babel::event::{Event, Parting, Reach, To};
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::wire::tlv::{Cast, Centis, Tlv};
use mesh_routing::babel::words::{Metric, Prefix, Seqno};

use crate::desk::{Desk, own, request, retraction, theirs, update};
use crate::net::{id_of, prefix_of};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns what updates say, as prefix, number and metric.
fn updates(tlvs: &[Tlv]) -> Vec<(Prefix, u16, u16)> {
    let update = |tlv: &Tlv| match tlv {
        Tlv::Update {
            prefix: Some(prefix),
            seqno: Seqno(seqno),
            metric: Metric(metric),
            ..
        } => Some((*prefix, *seqno, *metric)),
        _ => None,
    };
    tlvs.iter().filter_map(update).collect()
}

fn count(desk: &Desk, what: Count) -> u64 {
    desk.speaker.counters().of(what)
}

#[test]
fn own_number_grows_by_one_for_who_needs_it_and_is_told_at_once() {
    for (wanted, expect) in [(6, 7), (7, 7), (8, 8)] {
        let mut desk = Desk::with_tunnels(2);
        desk.pass(Duration::from_secs(700));
        desk.hear(1, 1, &[request(0, wanted, 64)]);
        let said = desk.said_on(1);
        assert_eq!(updates(&said), [(prefix_of(0), expect, 0)]);
        assert_eq!(desk.speaker.seqno(), Seqno(expect));
    }
}

#[test]
fn lost_number_is_learned_soon_after_the_start_and_later_only_by_ones() {
    let mut desk = Desk::with_tunnels(1);
    desk.hear(1, 1, &[request(0, 900, 64)]);
    assert_eq!(desk.speaker.seqno(), Seqno(901));
    let mut desk = Desk::with_tunnels(1);
    desk.hear(1, 1, &[update(0, 900, 96)]);
    assert_eq!(desk.speaker.seqno(), Seqno(901));
    let mut desk = Desk::with_tunnels(1);
    desk.pass(Duration::from_secs(700));
    desk.hear(1, 1, &[request(0, 900, 64), update(0, 900, 96)]);
    assert_eq!(desk.speaker.seqno(), Seqno(8));
}

#[test]
fn liar_cannot_turn_our_number_around_its_circle() {
    let mut desk = Desk::with_tunnels(1);
    let mut steps = 0;
    for _ in 0..10_000 {
        let Seqno(now) = desk.speaker.seqno();
        desk.hear(1, 1, &[request(0, now.wrapping_add(0x7000), 64)]);
        let Seqno(after) = desk.speaker.seqno();
        steps += u64::from(after.wrapping_sub(now));
    }
    // Four leaps of recovery, and the bucket of growth.
    assert!(steps < 4 * 0x7001 + 100, "{steps}");
    assert_ne!(count(&desk, Count::TooManyRequests), 0);
}

#[test]
fn request_goes_on_towards_the_origin_with_one_hop_less_and_never_back() {
    let mut desk = Desk::with_tunnels(3);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.hear(3, 1, &[update(5, 3, 150)]);
    desk.settle();
    desk.hear(1, 1, &[request(5, 4, 9)]);
    let said = desk.said();
    let passed: Vec<_> = said
        .iter()
        .filter(|(.., tlvs)| tlvs.contains(&request(5, 4, 8)))
        .map(|(link, to, _)| (*link, *to))
        .collect();
    assert_eq!(passed, [(LinkId(2), To::Unicast(theirs(2, 1)))]);
    // From the next hop itself it goes the other way.
    let mut desk = Desk::with_tunnels(3);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.hear(3, 1, &[update(5, 3, 150)]);
    desk.settle();
    desk.hear(2, 1, &[request(5, 4, 9)]);
    assert_eq!(desk.said_on(3), [request(5, 4, 8)]);
}

#[test]
fn request_passed_to_a_neighbour_that_is_lost_goes_to_another_at_once() {
    let mut desk = Desk::with_tunnels(3);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.hear(3, 1, &[update(5, 3, 150)]);
    desk.settle();
    desk.hear(1, 1, &[request(5, 4, 9)]);
    assert!(desk.said_on(2).contains(&request(5, 4, 8)));
    let now = desk.now;
    desk.speaker.handle_link_down(LinkId(2), now);
    assert!(desk.said_on(3).contains(&request(5, 4, 8)));
}

#[test]
fn answer_to_a_passed_request_comes_back_at_once() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(1, 1, &[request(5, 4, 9)]);
    desk.said();
    desk.hear(2, 1, &[update(5, 4, 100)]);
    assert_eq!(updates(&desk.said_on(1)), [(prefix_of(5), 4, 196)]);
}

#[test]
fn request_that_is_under_way_or_has_no_hop_left_goes_nowhere() {
    let mut desk = Desk::with_tunnels(3);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(1, 1, &[request(5, 4, 1)]);
    assert_eq!(desk.said_on(2), []);
    assert_eq!(count(&desk, Count::RequestDied), 1);
    desk.hear(1, 1, &[request(5, 4, 9)]);
    desk.said();
    desk.hear(3, 1, &[request(5, 4, 9)]);
    assert_eq!(desk.said_on(2), []);
    assert_eq!(count(&desk, Count::RequestRedundant), 1);
}

#[test]
fn request_that_our_route_satisfies_is_answered_here() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    for wanted in [2, 3] {
        desk.hear(1, 1, &[request(5, wanted, 9)]);
        let said = desk.said();
        let tlvs: Vec<_> = said.into_iter().flat_map(|(.., tlvs)| tlvs).collect();
        assert_eq!(updates(&tlvs), [(prefix_of(5), 3, 196)]);
    }
}

#[test]
fn question_about_an_unknown_prefix_is_answered_with_a_retraction() {
    let mut desk = Desk::with_tunnels(1);
    let prefix = Some(prefix_of(5));
    desk.hear(1, 1, &[Tlv::RouteRequest { prefix }]);
    let said = updates(&desk.said_on(1));
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].0, said[0].2), (prefix_of(5), 0xffff));
}

#[test]
fn lost_route_is_retracted_before_it_is_asked_for() {
    let mut desk = Desk::with_tunnels(3);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(2, 1, &[retraction(5)]);
    let said = desk.said_on(1);
    assert_eq!(updates(&said).len(), 1);
    assert!(matches!(said[0], Tlv::Update { metric, .. } if !metric.is_finite()));
    assert_eq!(said[1], request(5, 4, 64));
}

#[test]
fn lost_route_is_held_until_everybody_has_its_retraction() {
    let mut desk = Desk::with_tunnels(3);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(2, 1, &[retraction(5)]);
    let said = desk.said();
    assert_eq!(desk.speaker.reach(prefix_of(5)), Reach::Held);
    let acks: Vec<_> = said
        .into_iter()
        .flat_map(|(link, _, tlvs)| tlvs.into_iter().map(move |tlv| (link, tlv)))
        .filter_map(|(link, tlv)| match tlv {
            Tlv::AckRequest { opaque, .. } => Some((link.0, opaque)),
            _ => None,
        })
        .collect();
    assert_eq!(acks.len(), 2);
    for (at, (link, opaque)) in acks.into_iter().enumerate() {
        assert_eq!(desk.speaker.reach(prefix_of(5)), Reach::Held, "{at}");
        desk.hear(link, 1, &[Tlv::Ack { opaque }]);
    }
    assert_eq!(desk.speaker.reach(prefix_of(5)), Reach::Gone);
    let last = desk.events().pop();
    let gone = Event::RouteChanged {
        prefix: prefix_of(5),
        reach: Reach::Gone,
    };
    assert_eq!(last, Some(gone));
}

#[test]
fn update_is_said_until_it_is_acknowledged() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    let said = desk.silence(ms(1200));
    let told = said
        .iter()
        .filter(|(_, (link, _, tlvs))| *link == LinkId(1) && !updates(tlvs).is_empty());
    assert!(2 <= told.count());
    desk.pass(ms(2000));
    let after = desk.silence(ms(1200));
    assert!(after.iter().all(|(_, (.., tlvs))| updates(tlvs).is_empty()));
}

#[test]
fn selected_route_that_grows_is_kept_on_its_old_proof_and_a_number_is_asked_for() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(2, 1, &[update(5, 3, 400)]);
    assert_eq!(desk.link_to(5), Some(2));
    assert_eq!(desk.said_on(2), [request(5, 4, 64)]);
    let route = desk.speaker.route(prefix_of(5), desk.now).unwrap();
    assert_eq!(route.ways[0].metric, Metric(496));
    assert_eq!(route.ways[0].proven.metric, Metric(100));
    desk.hear(2, 1, &[update(5, 4, 400)]);
    let route = desk.speaker.route(prefix_of(5), desk.now).unwrap();
    assert_eq!(route.ways[0].proven, route.ways[0].claimed);
    assert_eq!(count(&desk, Count::Lost), 0);
}

#[test]
fn update_of_another_origin_that_is_not_feasible_ends_the_route() {
    let mut desk = Desk::with_tunnels(2);
    desk.link(
        3,
        mesh_routing::babel::link::LinkConfig {
            filter: mesh_routing::babel::filter::LinkFilter::Plain,
            ..mesh_routing::babel::link::LinkConfig::tunnel(own(3))
        },
    );
    desk.meet(3, 1);
    let shared = Prefix::new("2001:db8::".parse().unwrap(), 48).unwrap();
    let update = |origin, metric| crate::desk::update_as(shared, id_of(origin), 3, metric);
    // Node 6 was told with 196, then node 5; then node 6 comes back longer than it ever was.
    desk.hear(3, 1, &[update(6, 100)]);
    desk.settle();
    desk.hear(3, 1, &[update(5, 100)]);
    desk.settle();
    assert!(matches!(desk.speaker.reach(shared), Reach::Via(_)));
    desk.hear(3, 1, &[update(6, 5000)]);
    assert!(!matches!(desk.speaker.reach(shared), Reach::Via(_)));
}

#[test]
fn silent_tunnel_is_probed_four_times_and_then_down() {
    let mut desk = Desk::with_tunnels(1);
    desk.hear(1, 1, &[update(5, 3, 100)]);
    desk.said();
    desk.hello(1, 1);
    let start = desk.now;
    let said = desk.silence(ms(2000));
    let probes: Vec<_> = said
        .iter()
        .filter(|(_, (_, to, tlvs))| {
            let asks = |tlv: &Tlv| matches!(tlv, Tlv::AckRequest { .. });
            *to == To::Unicast(theirs(1, 1)) && tlvs.iter().all(asks)
        })
        .map(|(at, _)| at.since(start).as_millis())
        .collect();
    assert_eq!(probes, [1250, 1350, 1450, 1550]);
    assert_eq!(count(&desk, Count::ProbedDown), 1);
    let down = desk
        .events()
        .into_iter()
        .any(|event| matches!(event, Event::NeighbourDown { why, .. } if why == Parting::Silent));
    assert!(down);
    assert_eq!(desk.link_to(5), None);
}

#[test]
fn neighbour_that_is_given_up_is_told_so() {
    let mut desk = Desk::with_tunnels(1);
    let said = desk.silence(ms(4000));
    let farewells = said.iter().filter(|(_, (.., tlvs))| {
        let unheard = |tlv: &Tlv| matches!(tlv, Tlv::Ihu { rxcost, .. } if !rxcost.is_finite());
        tlvs.iter().any(unheard)
    });
    assert_eq!(farewells.count(), 3);
}

#[test]
fn any_packet_ends_the_probing() {
    let mut desk = Desk::with_tunnels(1);
    desk.hello(1, 1);
    desk.silence(ms(1400));
    desk.hear(1, 1, &[Tlv::Ack { opaque: 1 }]);
    desk.silence(ms(1200));
    assert_eq!(count(&desk, Count::ProbedDown), 0);
}

#[test]
fn sleep_of_our_own_is_no_silence_of_others() {
    let mut desk = Desk::with_tunnels(1);
    desk.now = mesh_base::time::Moment(desk.now.0 + 2_500_000);
    desk.speaker.handle_timeout(desk.now);
    assert_eq!(count(&desk, Count::ProbedDown), 0);
    desk.silence(ms(250));
    assert_eq!(count(&desk, Count::ProbedDown), 0);
    desk.silence(ms(250));
    assert_eq!(count(&desk, Count::ProbedDown), 1);
}

#[test]
fn ihu_counts_only_if_it_is_for_us() {
    let mut desk = Desk::new();
    desk.link(1, mesh_routing::babel::link::LinkConfig::tunnel(own(1)));
    let hello = Tlv::Hello {
        cast: Cast::Multicast,
        seqno: Seqno(1),
        interval: Centis(100),
        sent: None,
    };
    let ihu = |address| Tlv::Ihu {
        address,
        rxcost: Metric(96),
        interval: Centis(300),
        echo: None,
    };
    let usable = |desk: &Desk| desk.speaker.neighbours(desk.now)[0].cost.is_finite();
    desk.hear(1, 1, &[hello, ihu(Some(theirs(1, 9))), ihu(None)]);
    assert!(!usable(&desk));
    desk.hear(1, 1, &[ihu(Some(own(1)))]);
    assert!(usable(&desk));
    desk.hear(
        1,
        1,
        &[Tlv::Ihu {
            address: Some(own(1)),
            rxcost: Metric::INFINITY,
            interval: Centis(300),
            echo: None,
        }],
    );
    assert!(!usable(&desk));
}

#[test]
fn stranger_is_not_believed() {
    let mut desk = Desk::new();
    desk.link(1, mesh_routing::babel::link::LinkConfig::tunnel(own(1)));
    desk.hear(1, 1, &[update(5, 3, 100)]);
    assert_eq!(count(&desk, Count::Stranger), 1);
    assert!(desk.speaker.route(prefix_of(5), desk.now).is_none());
}

#[test]
fn hellos_to_us_alone_have_their_own_sequence() {
    let mut desk = Desk::with_tunnels(1);
    let hello = Tlv::Hello {
        cast: Cast::Unicast,
        seqno: Seqno(40_000),
        interval: Centis(0),
        sent: None,
    };
    desk.hear(1, 1, &[hello]);
    let view = &desk.speaker.neighbours(desk.now)[0];
    assert_eq!(view.unicast_hellos, 0x8000);
    assert_eq!(count(&desk, Count::Restarted), 0);
}

#[test]
fn acknowledgement_goes_to_who_asked_alone() {
    let mut desk = Desk::with_tunnels(1);
    let ask = Tlv::AckRequest {
        opaque: 77,
        within: Centis(10),
    };
    desk.hear(1, 1, &[ask]);
    let said = desk.said();
    let expect = (
        LinkId(1),
        To::Unicast(theirs(1, 1)),
        vec![Tlv::Ack { opaque: 77 }],
    );
    assert_eq!(said, [expect]);
}

#[test]
fn route_that_is_not_heard_again_expires() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    for _ in 0..10 {
        desk.pass(Duration::from_secs(90));
        desk.hello(1, 1);
        desk.hello(2, 1);
    }
    assert_eq!(desk.link_to(5), Some(2));
    desk.pass(Duration::from_secs(60));
    desk.hello(1, 1);
    desk.hello(2, 1);
    desk.pass(Duration::from_secs(100));
    assert_eq!(desk.link_to(5), None);
    assert_eq!(count(&desk, Count::Expired), 1);
}

#[test]
fn penalty_sends_packets_the_other_way_and_its_end_back() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(1, 1, &[update(5, 3, 100)]);
    desk.hear(2, 1, &[update(5, 3, 120)]);
    desk.settle();
    assert_eq!(desk.link_to(5), Some(1));
    let neighbour = desk.neighbour(1);
    let now = desk.now;
    assert!(
        desk.speaker
            .set_penalty(prefix_of(5), neighbour, Metric(500), now)
    );
    assert_eq!(desk.link_to(5), Some(2));
    assert!(
        desk.speaker
            .set_penalty(prefix_of(5), neighbour, Metric::ZERO, now)
    );
    desk.pass(ms(2000));
    assert_eq!(desk.link_to(5), Some(1));
}

/// Returns the number of the hello that the speaker says next.
fn next_hello(desk: &mut Desk) -> u16 {
    let said = desk.silence(ms(1000));
    let hello = said
        .iter()
        .flat_map(|(_, (.., tlvs))| tlvs)
        .find_map(|tlv| match tlv {
            Tlv::Hello { seqno, .. } => Some(seqno.0),
            _ => None,
        });
    hello.unwrap()
}

#[test]
fn who_restarts_is_answered_with_the_next_hello_and_who_was_lost_with_a_leap() {
    let mut desk = Desk::with_tunnels(1);
    let before = next_hello(&mut desk);
    let far = Tlv::Hello {
        cast: Cast::Multicast,
        seqno: Seqno(30_000),
        interval: Centis(10_000),
        sent: None,
    };
    desk.hear(1, 1, &[far]);
    assert_eq!(count(&desk, Count::Restarted), 1);
    let after = next_hello(&mut desk);
    assert!(after.wrapping_sub(before) < 16, "{before} {after}");
    desk.silence(ms(3000));
    assert_eq!(count(&desk, Count::ProbedDown), 1);
    assert!(16 < next_hello(&mut desk).wrapping_sub(after));
}

#[test]
fn retraction_is_said_until_it_is_acknowledged_whatever_comes_after() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 300)]);
    desk.settle();
    // It turns: the neighbour that was told must forget it, and does not hear so.
    desk.hear(1, 1, &[update(5, 3, 20)]);
    assert_eq!(desk.link_to(5), Some(1));
    let said = desk.silence(ms(30));
    let retracts = |tlv: &Tlv| matches!(tlv, Tlv::Update { metric, .. } if !metric.is_finite());
    let on_one = |said: &[(_, crate::desk::Said)]| {
        said.iter()
            .any(|(_, (link, _, tlvs))| *link == LinkId(1) && tlvs.iter().any(retracts))
    };
    assert!(on_one(&said));
    // Then it is lost on both sides, which is news of its own.
    desk.hear(1, 1, &[retraction(5)]);
    desk.hear(2, 1, &[retraction(5)]);
    desk.silence(ms(200));
    let later = desk.silence(ms(900));
    assert!(on_one(&later));
    assert_eq!(desk.speaker.reach(prefix_of(5)), Reach::Held);
}

#[test]
fn answered_request_leaves_nothing_to_do() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(2, 1, &[update(5, 3, 100)]);
    desk.settle();
    desk.hear(2, 1, &[retraction(5)]);
    desk.hear(2, 1, &[update(5, 4, 100)]);
    desk.pass(ms(900));
    assert!(desk.now < desk.speaker.poll_timeout().unwrap());
}

#[test]
fn transit_is_taken_only_of_who_began_anew_with_us() {
    let mut desk = Desk::new();
    desk.link(1, mesh_routing::babel::link::LinkConfig::tunnel(own(1)));
    desk.hello(1, 1);
    assert!(!desk.speaker.takes_transit(LinkId(1)));
    desk.hear(1, 1, &[Tlv::RouteRequest { prefix: None }]);
    assert!(desk.speaker.takes_transit(LinkId(1)));
    assert!(!desk.speaker.takes_transit(LinkId(2)));
}
