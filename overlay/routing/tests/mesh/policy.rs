//! Who may announce what, to whom it is told, and what a neighbour can make us do.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_base::chance::Chance;
use mesh_base::time::Moment;
use mesh_routing::babel::count::Count;
use mesh_routing::babel::event::{Alarm, Event, Reach};
use mesh_routing::babel::filter::{Lawful, LinkFilter, Role, Rule};
use mesh_routing::babel::limits::{
    DRAIN_COST, PREFIXES_MAX, ROUTES_PER_PREFIX_MAX, STRANDED_METRIC,
};
use mesh_routing::babel::link::{LinkConfig, LinkId};
use mesh_routing::babel::wire::tlv::{Cast, Centis, Stamp, Tlv};
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};

use crate::desk::{Desk, own, request, retraction, theirs, update, update_as};
use crate::net::{id_of, prefix_of};

fn count(desk: &Desk, what: Count) -> u64 {
    desk.speaker.counters().of(what)
}

fn foreign(number: u16) -> Prefix {
    let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0);
    Prefix::new(address, 48).unwrap()
}

fn plain(link: u32) -> LinkConfig {
    LinkConfig {
        filter: LinkFilter::Plain,
        ..LinkConfig::tunnel(own(link))
    }
}

fn native(link: u32, role: Role) -> LinkConfig {
    LinkConfig {
        filter: LinkFilter::Native(role),
        ..LinkConfig::tunnel(own(link))
    }
}

/// Returns prefixes that were announced, with their origins.
fn announced(tlvs: &[Tlv]) -> Vec<(Prefix, RouterId)> {
    let all = tlvs.iter().filter_map(|tlv| match tlv {
        Tlv::Update {
            prefix,
            router_id,
            metric,
            ..
        } if metric.is_finite() => prefix.zip(*router_id),
        _ => None,
    });
    all.collect()
}

#[test]
fn only_members_announce_and_only_their_own() {
    let mut desk = Desk::with_tunnels(1);
    let forged = update_as(prefix_of(5), id_of(6), 3, 100);
    desk.hear(1, 1, &[update(200, 3, 100), forged]);
    desk.hear(1, 1, &[update_as(foreign(1), id_of(5), 3, 100)]);
    assert_eq!(count(&desk, Count::Uncertified), 1);
    assert_eq!(count(&desk, Count::Forged), 1);
    assert_eq!(count(&desk, Count::Filtered), 1);
    for prefix in [prefix_of(200), prefix_of(5), foreign(1)] {
        assert!(desk.speaker.route(prefix, desk.now).is_none());
    }
}

#[test]
fn second_claimant_of_our_prefix_is_refused_with_an_alarm() {
    let mut desk = Desk::with_tunnels(1);
    let claim = update_as(prefix_of(0), id_of(6), 3, 100);
    desk.hear(1, 1, &[claim]);
    let neighbour = desk.neighbour(1);
    let alarm = Event::Alarm(Alarm::SecondClaimant {
        prefix: prefix_of(0),
        router_id: id_of(6),
        neighbour,
    });
    assert!(desk.events().contains(&alarm));
    assert_eq!(desk.speaker.lookup(prefix_of(0).address()), None);
}

#[test]
fn certificate_that_comes_late_fetches_the_route() {
    let mut desk = Desk::with_tunnels(1);
    desk.hear(1, 1, &[update(200, 3, 100)]);
    desk.settle();
    let lawful = Lawful {
        members: (0..300).map(id_of).collect(),
    };
    let now = desk.now;
    desk.speaker.set_lawful(lawful, now);
    let prefix = Some(prefix_of(200));
    assert_eq!(desk.said_on(1), [Tlv::RouteRequest { prefix }]);
}

#[test]
fn certificate_that_comes_late_fetches_the_aggregate_of_its_node() {
    let mut desk = Desk::new();
    desk.link(1, native(1, Role::Leaf));
    desk.meet(1, 1);
    desk.hear(1, 1, &[update_as(Prefix::NODES, id_of(200), 3, 0)]);
    desk.settle();
    assert_eq!(count(&desk, Count::Uncertified), 1);
    let lawful = |last| Lawful {
        members: (0..last).map(id_of).collect(),
    };
    let now = desk.now;
    desk.speaker.set_lawful(lawful(199), now);
    assert_eq!(desk.said_on(1), [], "of another node");
    desk.speaker.set_lawful(lawful(300), now);
    let prefix = Some(Prefix::NODES);
    assert_eq!(desk.said_on(1), [Tlv::RouteRequest { prefix }]);
}

#[test]
fn member_that_is_no_more_loses_its_route_at_once() {
    let mut desk = Desk::with_tunnels(2);
    desk.hear(1, 1, &[update(5, 3, 100)]);
    desk.settle();
    let lawful = Lawful {
        members: (6..9).map(id_of).collect(),
    };
    let now = desk.now;
    desk.speaker.set_lawful(lawful, now);
    assert_eq!(desk.link_to(5), None);
}

#[test]
fn leaf_tells_its_own_takes_the_aggregate_and_passes_nothing_on() {
    let mut desk = Desk::new();
    for link in 1..=2 {
        desk.link(link, native(link, Role::Leaf));
        desk.meet(link, 1);
    }
    let aggregate = update_as(Prefix::NODES, id_of(5), 3, 0);
    desk.hear(1, 1, &[aggregate, update(6, 3, 100)]);
    desk.hear(2, 1, &[Tlv::RouteRequest { prefix: None }]);
    let said = desk.said_on(2);
    assert_eq!(announced(&said), [(prefix_of(0), id_of(0))]);
    let far = prefix_of(77).address();
    let found = desk.speaker.lookup(far);
    assert!(matches!(found, Some((Prefix::NODES, Reach::Via(_)))));
    let near = desk.speaker.lookup(prefix_of(6).address()).unwrap();
    assert_eq!(near.0, prefix_of(6));
}

#[test]
fn uplink_tells_its_leaf_two_aggregates_and_itself_and_its_peers_the_leaf() {
    let mut desk = Desk::with_tunnels(1);
    desk.link(2, native(2, Role::Uplink));
    desk.meet(2, 1);
    desk.hear(1, 1, &[update(5, 3, 100)]);
    desk.hear(2, 1, &[update(6, 3, 0), Tlv::RouteRequest { prefix: None }]);
    let said = desk.silence(Duration::from_millis(50));
    let on = |link: u32| {
        let tlvs: Vec<_> = said
            .iter()
            .filter(|(_, (on, ..))| *on == LinkId(link))
            .flat_map(|(_, (.., tlvs))| tlvs.clone())
            .collect();
        announced(&tlvs)
    };
    let aggregates = [(Prefix::NODES, id_of(0)), (Prefix::SERVICES, id_of(0))];
    let own = (prefix_of(0), id_of(0));
    let told: BTreeSet<_> = on(2).into_iter().collect();
    assert_eq!(told, BTreeSet::from([aggregates[0], aggregates[1], own]));
    assert!(on(1).contains(&(prefix_of(6), id_of(6))));
    assert!(!on(1).contains(&aggregates[0]));
}

/// Returns the metrics with which everybody is announced.
fn asked_for_all(tlvs: &[Tlv]) -> Vec<Metric> {
    let all = tlvs.iter().filter_map(|tlv| match tlv {
        Tlv::Update { prefix, metric, .. } => (*prefix == Some(Prefix::NODES)).then_some(*metric),
        _ => None,
    });
    all.collect()
}

#[test]
fn uplink_that_leads_nowhere_is_the_last_choice_of_its_leaves() {
    let mut desk = Desk::with_tunnels(1);
    desk.link(2, native(2, Role::Uplink));
    desk.meet(2, 1);
    let now = desk.now;
    desk.speaker.set_stranded(true, now);
    assert_eq!(asked_for_all(&desk.said_on(2)), [STRANDED_METRIC]);
    desk.settle();
    desk.hear(2, 1, &[Tlv::RouteRequest { prefix: None }]);
    assert_eq!(asked_for_all(&desk.said_on(2)), [STRANDED_METRIC]);
    let now = desk.now;
    desk.speaker.set_stranded(false, now);
    assert_eq!(asked_for_all(&desk.said_on(2)), [Metric::ZERO]);
}

#[test]
fn two_leaves_of_a_lonely_uplink_keep_each_other() {
    let mut desk = Desk::new();
    for link in 1..=2 {
        desk.link(link, native(link, Role::Uplink));
        desk.meet(link, 1);
    }
    let now = desk.now;
    desk.speaker.set_stranded(true, now);
    for (link, node) in [(1, 5), (2, 6)] {
        desk.hear(link, 1, &[update(node, 3, 0)]);
        desk.settle();
        desk.hear(link, 1, &[Tlv::RouteRequest { prefix: None }]);
        let said = desk.said_on(link);
        assert_eq!(asked_for_all(&said), [STRANDED_METRIC], "on {link}");
        assert_eq!(desk.link_to(node), Some(link));
    }
}

#[test]
fn leaf_leaves_a_stranded_uplink_at_once_unless_it_is_the_last() {
    let mut desk = Desk::new();
    for link in 1..=2 {
        desk.link(link, native(link, Role::Leaf));
        desk.meet(link, 1);
    }
    let way = |desk: &Desk| match desk.speaker.reach(Prefix::NODES) {
        Reach::Via(hop) => Some(hop.link.0),
        Reach::Held | Reach::Gone => None,
    };
    let says =
        |link: u32, metric: Metric| update_as(Prefix::NODES, id_of(4 + link as usize), 3, metric.0);
    desk.hear(1, 1, &[says(1, Metric::ZERO)]);
    desk.hear(1, 1, &[says(1, STRANDED_METRIC)]);
    assert_eq!(way(&desk), Some(1), "the only one");
    desk.hear(2, 1, &[says(2, DRAIN_COST)]);
    assert_eq!(way(&desk), Some(2), "another, though it drains");
    desk.hear(2, 1, &[says(2, Metric::INFINITY)]);
    assert_eq!(way(&desk), Some(1), "the last");
    desk.hear(1, 1, &[says(1, Metric::ZERO)]);
    assert_eq!(way(&desk), Some(1), "as before");
}

#[test]
fn import_of_an_ordinary_link_is_told_to_natives_as_ours_and_the_aggregate_back() {
    let mut desk = Desk::with_tunnels(1);
    let filter = LinkFilter::Ordinary {
        import: vec![Rule::inside(Prefix::ALL)],
        export: vec![Rule::only(Prefix::SERVICES)],
    };
    desk.link(2, LinkConfig::wired(own(2), filter));
    desk.meet(2, 1);
    let router = RouterId::from_bytes([9; 8]).unwrap();
    let stolen = update_as(prefix_of(5), id_of(5), 3, 1);
    desk.hear(2, 1, &[update_as(foreign(1), router, 3, 100), stolen]);
    assert_eq!(count(&desk, Count::Filtered), 1);
    let said = desk.silence(Duration::from_millis(50));
    let told: Vec<_> = said
        .iter()
        .filter(|(_, (link, ..))| *link == LinkId(1))
        .flat_map(|(_, (.., tlvs))| announced(tlvs))
        .collect();
    assert_eq!(told, [(foreign(1), id_of(0))]);
    // Whoever lacks a feasible route to it makes our number grow, for it is ours.
    let Tlv::SeqnoRequest { hop_count, .. } = request(0, 0, 9) else {
        return;
    };
    let wanted = Tlv::SeqnoRequest {
        prefix: foreign(1),
        router_id: id_of(0),
        seqno: desk.speaker.seqno().next(),
        hop_count,
    };
    let before = desk.speaker.seqno();
    desk.hear(1, 1, &[wanted]);
    assert_eq!(desk.speaker.seqno(), before.next());
    desk.hear(2, 1, &[Tlv::RouteRequest { prefix: None }]);
    assert_eq!(announced(&desk.said_on(2)), [(Prefix::SERVICES, id_of(0))]);
}

/// Announcements of many prefixes.
fn many(from: u32, to: u32, metric: u16) -> Vec<Tlv> {
    let prefix = |number: u32| {
        let address = u128::from(0x2001_0000_0000_u64 + u64::from(number)) << 80;
        Prefix::new(address.into(), 48).unwrap()
    };
    (from..to)
        .map(|number| update_as(prefix(number), id_of(50), 3, metric))
        .collect()
}

#[test]
fn full_table_keeps_what_it_has_and_says_so_once() {
    let mut desk = Desk::new();
    for link in 1..=2 {
        desk.link(link, plain(link));
        desk.meet(link, 1);
    }
    let most = PREFIXES_MAX as u32;
    desk.hear(1, 1, &many(0, most + 500, 100));
    // One of them is our own.
    assert_eq!(desk.speaker.routes(desk.now).len(), PREFIXES_MAX);
    assert_eq!(count(&desk, Count::TableFull), 501);
    let alarms = desk.events().into_iter();
    let alarms = alarms.filter(|event| *event == Event::Alarm(Alarm::TableFull));
    assert_eq!(alarms.count(), 1);
    // A second way to what is there is welcome.
    desk.hear(2, 1, &many(0, 100, 50));
    let views = desk.speaker.neighbours(desk.now);
    assert_eq!(views[1].selected_count, 100);
}

#[test]
fn whole_table_goes_out_paced_and_completely() {
    let mut desk = Desk::new();
    for link in 1..=2 {
        desk.link(link, plain(link));
        desk.meet(link, 1);
    }
    desk.hear(1, 1, &many(0, PREFIXES_MAX as u32 - 1, 100));
    let start = desk.now;
    let (mut told, mut packets, mut most) = (BTreeSet::new(), 0, 0);
    while desk.now.since(start) < Duration::from_secs(20) {
        let said = desk.said();
        most = most.max(said.len());
        for (link, _, tlvs) in said {
            packets += usize::from(link == LinkId(2));
            if link == LinkId(2) {
                told.extend(announced(&tlvs));
            }
            for tlv in tlvs {
                if let Tlv::AckRequest { opaque, .. } = tlv {
                    desk.hear(link.0, 1, &[Tlv::Ack { opaque }]);
                }
            }
        }
        desk.now = Moment(desk.now.0 + 5000);
        for link in 1..=2 {
            desk.speaker.handle_traffic(LinkId(link), desk.now);
        }
        desk.speaker.handle_timeout(desk.now);
    }
    assert!(PREFIXES_MAX - 1 <= told.len(), "{}", told.len());
    // Each update takes eighteen bytes or less.
    assert!(packets < 400, "{packets}");
    assert!(most < 40, "{most} at once");
}

#[test]
fn flapping_neighbour_is_slowed_down_and_its_retractions_never() {
    let mut desk = Desk::with_tunnels(1);
    for round in 0..30_000_u32 {
        let metric = 100 + 50 * (round % 2) as u16;
        desk.hear(1, 1, &[update(5, (round % 60_000) as u16, metric)]);
    }
    assert!(9000 < count(&desk, Count::TooManyChanges));
    desk.hear(1, 1, &[retraction(5)]);
    assert_eq!(desk.link_to(5), None);
}

#[test]
fn neighbour_that_asks_too_much_is_refused() {
    let mut desk = Desk::with_tunnels(2);
    for round in 0..5000_u16 {
        let prefix = Some(prefix_of(usize::from(round % 100)));
        desk.hear(1, 1, &[Tlv::RouteRequest { prefix }]);
    }
    assert!(3000 < count(&desk, Count::TooManyRequests));
    let answered = desk.said_on(1).len();
    assert!(answered <= 100, "{answered}");
}

/// Returns anything that a neighbour might say.
fn anything(chance: &mut Chance) -> Tlv {
    let node = chance.below(30) as usize;
    let number = chance.bits() as u16;
    let metric = Metric([0, 1, 96, 300, 0xfffe, 0xffff, number][chance.below(7) as usize]);
    let near = Seqno([0, 1, 7, 8, number][chance.below(5) as usize]);
    let address = [None, Some(own(1)), Some(own(2)), Some(theirs(1, 5))];
    match chance.below(9) {
        0 => Tlv::AckRequest {
            opaque: number,
            within: Centis(1),
        },
        1 => Tlv::Ack {
            opaque: number % 64,
        },
        2 => Tlv::Hello {
            cast: [Cast::Multicast, Cast::Unicast][chance.below(2) as usize],
            seqno: near,
            interval: Centis(number % 500),
            sent: Some(Stamp(chance.bits() as u32)),
        },
        3 => Tlv::Ihu {
            address: address[chance.below(4) as usize],
            rxcost: metric,
            interval: Centis(number.max(1)),
            echo: Some((Stamp(chance.bits() as u32), Stamp(chance.bits() as u32))),
        },
        4 => Tlv::RouteRequest {
            prefix: [None, Some(prefix_of(node))][chance.below(2) as usize],
        },
        5 => Tlv::SeqnoRequest {
            prefix: prefix_of(node),
            router_id: id_of([node, 0, 3][chance.below(3) as usize]),
            seqno: near,
            hop_count: number as u8 | 1,
        },
        6 => Tlv::Update {
            prefix: None,
            router_id: None,
            next_hop: theirs(1, 1),
            interval: Centis(5),
            seqno: near,
            metric: Metric::INFINITY,
        },
        _ => Tlv::Update {
            prefix: Some(prefix_of(node)),
            router_id: Some(id_of([node, 0, 3][chance.below(3) as usize])),
            next_hop: theirs(1, number % 3),
            interval: Centis(number.max(1)),
            seqno: near,
            metric,
        },
    }
}

#[test]
fn any_talk_is_survived_and_answered_within_bounds() {
    for seed in 0..30 {
        let mut chance = Chance::new(seed);
        let mut desk = Desk::with_tunnels(2);
        desk.link(3, LinkConfig::wired(own(3), LinkFilter::Plain));
        let (mut heard, mut said) = (0_u64, 0_u64);
        for _ in 0..3000 {
            let link = 1 + chance.below(3) as u32;
            let number = 1 + chance.below(3) as u16;
            let tlvs: Vec<_> = (0..chance.below(5))
                .map(|_| anything(&mut chance))
                .collect();
            heard += 1;
            desk.hear(link, number, &tlvs);
            said += desk.said().len() as u64;
            desk.events();
            if chance.below(5) == 0 {
                desk.now = Moment(desk.now.0 + chance.below(300_000));
                desk.speaker.handle_timeout(desk.now);
                assert!(desk.speaker.poll_timeout().is_some());
            }
        }
        assert!(said < 12 * heard, "seed {seed}: {said} packets for {heard}");
        for route in desk.speaker.routes(desk.now) {
            assert!(route.ways.len() <= ROUTES_PER_PREFIX_MAX);
            for way in route.ways.iter().filter(|way| way.selected) {
                assert!(way.feasible, "seed {seed}: {route:?}");
            }
        }
        assert!(desk.speaker.routes(desk.now).len() <= 31);
        assert!(desk.speaker.neighbours(desk.now).len() <= 5);
    }
}
