//! Explanations of routes: names become keys and keys names, every reason is a sentence.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_api::request::Sale;
use mesh_api::route::{RouteRow, RouteState, Way};
use mesh_api::status::{Health, StatusReply};
use mesh_api::{ApiError, ErrorKind, Reply, Request};
use mesh_base::address::NodeAddress;
use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_peer::explain::{Echo, Explained, LostWay, RouteSeen, RoutingKnown, SessionSeen, WaySeen};
use mesh_peer::port::Input;
use mesh_routing::babel::explain::{RouteView, WayView};
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::neighbour::NeighbourId;
use mesh_routing::babel::route::Selected;
use mesh_routing::babel::source::Distance;
use mesh_routing::babel::words::{Metric, Prefix, RouterId, Seqno};
use mesh_routing::carriage::Carrier;

use crate::mesh;
use crate::screens::Screens;
use crate::town::Town;

fn routes(to: Option<&str>) -> Request {
    Request::Routes {
        to: to.map(str::to_owned),
    }
}

fn ping(to: &str) -> Request {
    let (to, path) = (to.to_owned(), true);
    Request::Ping { to, path }
}

fn trace(to: &str) -> Request {
    Request::Trace { to: to.to_owned() }
}

fn id(town: &Town, index: usize) -> NodeId {
    town.machines[index].node.id()
}

/// Asks, and answers as the shell would.
fn explain(town: &mut Town, request: Request, found: Explained) -> Result<Reply, ApiError> {
    let call = town.ask(0, request);
    town.feed(0, Input::Explained { call, found });
    town.answer(call)
}

fn distance(seqno: u16, metric: u16) -> Distance {
    Distance {
        seqno: Seqno(seqno),
        metric: Metric(metric),
    }
}

/// A way through a neighbour that says `claimed`.
fn way(neighbour: u32, claimed: u16, feasible: bool, selected: bool) -> WayView {
    WayView {
        neighbour: NeighbourId(neighbour),
        link: LinkId(neighbour),
        next_hop: Ipv6Addr::LOCALHOST,
        router_id: RouterId::LEAST,
        claimed: distance(7, claimed),
        proven: distance(7, claimed),
        link_cost: Metric(96),
        rtt_penalty: Metric(3),
        penalty: Metric(1),
        metric: Metric(claimed).plus(Metric(100)),
        feasible,
        selected,
        expires_in: Duration::from_secs(60),
    }
}

/// The route to library-2 as bakery-1 sees it, over these ways.
fn route(town: &Town, ways: &[(usize, WayView)]) -> RouteSeen {
    let to = NodeAddress::of(&id(town, 3)).0;
    let used = ways.iter().find(|(_, way)| way.selected);
    RouteSeen {
        via: ways.iter().map(|(at, _)| Some(id(town, *at))).collect(),
        view: RouteView {
            prefix: Prefix::new(to, 64).unwrap(),
            selected: used.map_or(Selected::None, |(_, way)| Selected::Via(way.neighbour)),
            held_until: None,
            feasibility: vec![(RouterId::LEAST, distance(7, 150))],
            ways: ways.iter().map(|(_, way)| way.clone()).collect(),
        },
        hops: Some(2),
        age_ms: Some(5),
    }
}

/// A route of this age to the /64 of an address.
pub fn seen_route(to: Ipv6Addr, age_ms: u64) -> RouteSeen {
    RouteSeen {
        via: Vec::new(),
        view: RouteView {
            prefix: Prefix::new(to, 64).unwrap(),
            selected: Selected::None,
            held_until: None,
            feasibility: Vec::new(),
            ways: Vec::new(),
        },
        hops: None,
        age_ms: Some(age_ms),
    }
}

fn row(town: &mut Town, seen: RouteSeen) -> RouteRow {
    let found = Explained::Routes(vec![seen]);
    match explain(town, routes(Some("library-2")), found) {
        Ok(Reply::Routes { routes }) => routes.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What the node says no to, for the list of screens.
pub fn refusals(screens: &mut Screens) {
    use ErrorKind::{NotFound, Timeout, Unreachable, Usage};
    let mut town = mesh();
    let cause = "there is no node \"castle-1\"";
    screens.meet(&mut town, 0, ping("castle-1"), NotFound, cause);
    let cause = "bakery-1.bakery is this node itself";
    screens.meet(&mut town, 0, trace("bakery-1"), Usage, cause);
    // The town has no routing thread.
    let cause = "the routing thread has not answered in time";
    screens.meet(&mut town, 0, routes(None), Timeout, cause);
    let lost = WaySeen::default();
    let silent = WaySeen {
        next_hop: Some(id(&town, 1)),
        ..WaySeen::default()
    };
    for (request, found, kind, cause) in [
        (
            ping("library-2"),
            Explained::Way(lost.clone()),
            Unreachable,
            "there is no route to library-2.library",
        ),
        (
            trace("library-2"),
            Explained::Way(lost),
            Unreachable,
            "there is no route to library-2.library",
        ),
        (
            ping("library-2"),
            Explained::Way(silent),
            Timeout,
            "library-2.library does not answer",
        ),
        (
            routes(Some("2001:db8::1")),
            Explained::Routes(Vec::new()),
            Unreachable,
            "there is no route to 2001:db8::1",
        ),
        (
            Request::Links,
            Explained::Busy,
            Unreachable,
            "this node has too much to do",
        ),
    ] {
        let answer = explain(&mut town, request, found);
        screens.take(answer, kind, cause);
    }
    let mut town = namesakes();
    let cause = "more than one node is called \"bakery-1\"";
    screens.meet(&mut town, 0, ping("bakery-1"), Usage, cause);
}

/// A library that sells to two organisations of the same name.
fn namesakes() -> Town {
    let mut town = Town::new();
    let library = town.found("library", 1);
    for _ in 0..2 {
        let bakery = town.found("bakery", 0);
        let sale = Sale {
            recipe: "postgres".parse().unwrap(),
            price: "0.12EUR/month".parse().unwrap(),
        };
        let offer = Request::OrgInvite {
            sell: vec![sale],
            credit: "10EUR".parse().unwrap(),
            valid_s: 600,
            settlement_days: 14,
        };
        let call = town.ask(library, offer);
        let Ok(Reply::OrgInvite { agreement, .. }) = town.answer(call) else {
            panic!("no offer")
        };
        let call = town.ask(bakery, Request::OrgAccept { agreement });
        town.answer(call).unwrap();
    }
    town
}

#[test]
fn node_is_found_by_its_names_and_its_address() {
    let mut town = mesh();
    let to = id(&town, 3);
    let address = NodeAddress::of(&to).0.to_string();
    for name in [
        "library-2",
        "library-2.library",
        "library-2.library.mesh.internal",
        &address,
    ] {
        let echo = Echo {
            rtt_us: 900,
            hops_there: 2,
            hops_back: 2,
        };
        let seen = WaySeen {
            next_hop: Some(id(&town, 1)),
            echo: Some(echo),
            places: vec![Some((id(&town, 1), 400))],
        };
        let answer = explain(&mut town, ping(name), Explained::Way(seen));
        let Ok(Reply::Ping(ping)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((&ping.name[..], ping.rtt_us), ("library-2.library", 900));
        let path: Vec<_> = ping.path.iter().map(|hop| hop.node.as_deref()).collect();
        assert_eq!(path, [Some("library-1.library"), Some("library-2.library")]);
    }
}

#[test]
fn trace_shows_how_far_packets_come() {
    let mut town = mesh();
    let seen = WaySeen {
        next_hop: Some(id(&town, 2)),
        echo: None,
        places: vec![None, Some((id(&town, 1), 400)), None],
    };
    let answer = explain(&mut town, trace("library-2"), Explained::Way(seen));
    let Ok(Reply::Trace(trace)) = answer else {
        panic!("{answer:?}")
    };
    let hops = trace.hops.iter().map(|hop| (hop.hop, hop.node.as_deref()));
    let hops: Vec<_> = hops.collect();
    assert_eq!(hops, [(1, None), (2, Some("library-1.library")), (3, None)]);
    assert!(!trace.reached);
}

#[test]
fn every_way_has_its_reason() {
    let mut town = mesh();
    let ways = [
        (1, way(1, 150, true, true)),
        (2, way(2, 100, false, false)),
        (3, way(3, 200, true, false)),
    ];
    let seen = route(&town, &ways);
    let row = row(&mut town, seen);
    assert_eq!(row.node.as_deref(), Some("library-2.library"));
    assert_eq!(row.next_hop.as_deref(), Some("library-1.library"));
    let sum = [row.behind, row.link_cost, row.rtt_cost, row.penalty];
    assert_eq!(sum.into_iter().sum::<Option<u16>>(), row.metric);
    assert_eq!((row.hops, row.age_ms), (Some(2), Some(5)));
    assert_eq!(
        row.why,
        "the way through library-1.library is the shortest that may be used; \
         a shorter one is not known to make no loop"
    );
    let reasons: Vec<&str> = row.ways.iter().map(|way| way.why.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "in use",
            "it could lead back here: it is no better than what was announced from here",
            "longer; ready if the one in use is lost",
        ]
    );
}

#[test]
fn reason_fits_what_else_there_is() {
    let mut town = mesh();
    let used = (1, way(1, 150, true, true));
    for (other, why) in [
        (None, "the only one that may be used"),
        (Some(way(2, 140, true, false)), "until a shorter one"),
        (Some(way(2, 150, true, false)), "the shortest"),
        (Some(way(2, 0xffff, true, false)), "the only one"),
    ] {
        let ways = [Some(used.clone()), other.map(|it| (2, it))];
        let ways: Vec<_> = ways.into_iter().flatten().collect();
        let seen = route(&town, &ways);
        let row = row(&mut town, seen);
        assert!(row.why.contains(why), "{row:?}");
    }
    let mut held = route(&town, &[(1, way(1, 150, false, false))]);
    let barred = row(&mut town, held.clone());
    assert_eq!(barred.state, RouteState::Unreachable);
    assert!(
        barred.why.contains("a newer word was asked for"),
        "{barred:?}"
    );
    held.view.held_until = Some(Moment(9));
    assert_eq!(row(&mut town, held).state, RouteState::Held);
}

#[test]
fn way_that_loses_packets_says_so_and_so_does_the_one_in_use() {
    let mut town = mesh();
    let lost = |selected| WayView {
        penalty: Metric(8192),
        metric: Metric(8392),
        ..way(1, 100, true, selected)
    };
    let seen = route(&town, &[(1, way(2, 300, true, true)), (2, lost(false))]);
    let row = self::row(&mut town, seen);
    assert!(
        row.why.ends_with("; packets were lost on another"),
        "{row:?}"
    );
    assert!(
        row.ways[1]
            .why
            .starts_with("packets sent this way were lost"),
        "{row:?}"
    );
    let seen = route(&town, &[(1, lost(true))]);
    let row = self::row(&mut town, seen);
    assert!(row.why.ends_with("; nothing comes back over it"), "{row:?}");
    assert!(
        row.ways[0]
            .why
            .starts_with("in use, though nothing comes back"),
        "{row:?}"
    );
}

#[test]
fn lost_way_is_told_in_names_until_it_is_over() {
    let mut town = mesh();
    let ways = |status: &StatusReply| {
        let row = status.health.iter().find(|row| row.check == "ways");
        row.unwrap().clone()
    };
    assert_eq!(ways(&town.status(0)).verdict, Health::Ok);
    let lost = |destination, now| LostWay {
        destination,
        via: id(&town, 1),
        ago_ms: 90_000,
        now: Some(now),
    };
    let all = RoutingKnown {
        lost: vec![
            lost(id(&town, 2), id(&town, 3)),
            lost(id(&town, 3), id(&town, 1)),
        ],
        ..RoutingKnown::default()
    };
    town.feed(0, Input::Routing(all));
    let status = town.status(0);
    let row = ways(&status);
    assert_eq!(row.verdict, Health::Warn);
    let [first, second] = &status.lost_ways[..] else {
        panic!("two: {:?}", status.lost_ways);
    };
    assert_eq!(town.now().wall - first.since, 90_000);
    let begins = format!(
        "packets for {} are lost over {} since ",
        first.to, first.via
    );
    assert!(row.sentence.starts_with(&begins), "{row:?}");
    let other = format!(
        "; they go over {}; and 1 more",
        first.now.as_deref().unwrap()
    );
    assert!(row.sentence.ends_with(&other), "{row:?}");
    assert!(
        row.hint.contains(&format!("meshnode routes {}", first.to)),
        "{row:?}"
    );
    assert_eq!(second.now.as_ref(), Some(&second.via), "there is no other");
    town.feed(0, Input::Routing(RoutingKnown::default()));
    assert_eq!(ways(&town.status(0)).verdict, Health::Ok);
}

#[test]
fn list_has_a_line_for_members_without_a_route_and_no_ways() {
    let mut town = mesh();
    let seen = route(&town, &[(3, way(1, 0, true, true))]);
    let found = Explained::Routes(vec![seen]);
    let answer = explain(&mut town, routes(None), found);
    let Ok(Reply::Routes { routes }) = answer else {
        panic!("{answer:?}")
    };
    let rows: Vec<_> = routes
        .iter()
        .map(|row| (row.node.as_deref().unwrap_or_default(), row.state, row.hops))
        .collect();
    assert_eq!(
        rows,
        [
            ("bakery-2.bakery", RouteState::Unreachable, None),
            ("library-1.library", RouteState::Unreachable, None),
            ("library-2.library", RouteState::Selected, Some(1)),
        ]
    );
    assert!(routes.iter().all(|row| row.ways.is_empty()));
}

#[test]
fn session_tells_the_way_that_it_takes() {
    let mut town = mesh();
    let session = |next_hop| SessionSeen {
        peer: id(&town, 3),
        endpoint: None,
        carrier: Carrier::Udp,
        silent_ms: Some(3),
        received_bytes: 1,
        sent_bytes: 2,
        relayed_bytes: 0,
        hops: Some(2),
        next_hop,
        neighbour: None,
        up_ms: None,
    };
    let all = [Some(id(&town, 3)), Some(id(&town, 1)), None].map(session);
    let answer = explain(&mut town, Request::Links, Explained::Links(all.to_vec()));
    let Ok(Reply::Links { links }) = answer else {
        panic!("{answer:?}")
    };
    let ways: Vec<&Way> = links.iter().map(|link| &link.way).collect();
    let via = "library-1.library".to_owned();
    let around = Way::Around { via, hops: Some(2) };
    assert_eq!(ways, [&Way::Direct, &around, &Way::None]);
}

#[test]
fn answer_that_nobody_waits_for_is_ignored() {
    let mut town = mesh();
    let call = town.ask(0, routes(None));
    town.feed(0, Input::ApiGone { call });
    let found = Explained::Busy;
    town.feed(0, Input::Explained { call, found });
    assert!(town.maybe_answer(call, 2).is_none());
}
