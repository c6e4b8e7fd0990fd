//! Plain text about ways: routes, links, pings and traces, as `meshnode` shows them.
//!
//! Pure, like [`crate::screen`], whose rules hold here too.

use crate::client::ClientRow;
use crate::route::{DistanceRow, HopRow, LinkRow, PingReply, RouteRow, TraceReply, Way};
use crate::screen::{NONE, bytes, carrier, columns, or_none, plain, span, table, yes};

/// Returns a round trip: `0.04 ms`, `3.12 ms`, `140 ms`. Neighbours on one street are below a
/// tenth.
fn rtt(us: Option<u64>) -> String {
    match us {
        None => NONE.to_owned(),
        Some(us @ 0..10_000) => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        Some(us) => format!("{} ms", us / 1_000),
    }
}

/// Returns one line for each destination.
pub fn routes(routes: &[RouteRow]) -> String {
    let rows = routes.iter().map(|route| {
        vec![
            or_none(route.node.as_ref()),
            route.prefix.clone(),
            route.state.word().to_owned(),
            or_none(route.next_hop.as_ref()),
            or_none(route.metric),
            parts(route),
            or_none(route.hops),
            or_none(route.feasibility.as_ref().map(distance)),
            or_none(route.age_ms.map(span)),
        ]
    });
    let heads = [
        "NODE",
        "PREFIX",
        "STATE",
        "NEXT HOP",
        "METRIC",
        "BEHIND+LINK+RTT+PENALTY",
        "HOPS",
        "FEASIBLE BELOW",
        "AGE",
    ];
    table(&heads, rows.collect())
}

fn parts(route: &RouteRow) -> String {
    let parts = [route.behind, route.link_cost, route.rtt_cost, route.penalty];
    let known: Vec<String> = parts.iter().flatten().map(u16::to_string).collect();
    if known.is_empty() {
        return NONE.to_owned();
    }
    known.join("+")
}

fn distance(distance: &DistanceRow) -> String {
    format!("{} at seqno {}", distance.metric, distance.seqno)
}

/// Returns everything about one destination.
pub fn route(route: &RouteRow) -> String {
    let fact = |name: &str, text: String| vec![name.to_owned(), text];
    let mut screen = columns(
        vec![
            fact("node", or_none(route.node.as_ref())),
            fact("prefix", route.prefix.clone()),
            fact("state", route.state.word().to_owned()),
            fact("next hop", or_none(route.next_hop.as_ref())),
            fact("metric", or_none(route.metric)),
            fact("hops", or_none(route.hops)),
            fact(
                "feasible below",
                or_none(route.feasibility.as_ref().map(distance)),
            ),
            fact("age", or_none(route.age_ms.map(span))),
            fact("why", route.why.clone()),
        ],
        "",
    );
    if route.ways.is_empty() {
        return screen;
    }
    let rows = route.ways.iter().map(|way| {
        vec![
            way.via.clone(),
            if way.selected { "in use" } else { NONE }.to_owned(),
            or_none(way.metric),
            distance(&way.claimed),
            way.link_cost.to_string(),
            way.rtt_cost.to_string(),
            way.penalty.to_string(),
            yes(way.feasible).to_owned(),
            span(way.expires_ms),
            way.why.clone(),
        ]
    });
    let heads = [
        "VIA", "USE", "METRIC", "SAYS", "LINK", "RTT", "PENALTY", "FEASIBLE", "EXPIRES", "WHY",
    ];
    screen.push('\n');
    screen.push_str(&table(&heads, rows.collect()));
    screen
}

/// Returns neighbours and far sessions.
pub fn links(links: &[LinkRow]) -> String {
    let rows = links.iter().map(|link| {
        let seen = link.neighbour.as_ref();
        vec![
            link.name.clone(),
            way(&link.way),
            reason(link),
            if link.way == Way::Direct {
                carrier(link.carrier)
            } else {
                NONE
            }
            .to_owned(),
            or_none(link.endpoint),
            rtt(seen.and_then(|seen| seen.rtt_us)),
            seen.map_or_else(
                || NONE.to_owned(),
                |seen| format!("{}/{}", or_none(seen.txcost), seen.rxcost),
            ),
            or_none(seen.map(|seen| seen.hellos.as_str())),
            or_none(seen.and_then(|seen| seen.up_ms).map(span)),
            or_none(link.silent_ms.map(span)),
            bytes(link.received_bytes),
            bytes(link.sent_bytes),
            bytes(link.relayed_bytes),
        ]
    });
    let heads = [
        "NAME", "WAY", "LINK", "BY", "ENDPOINT", "RTT", "TX/RX", "HELLOS", "UP", "SILENT",
        "RECEIVED", "SENT", "RELAYED",
    ];
    table(&heads, rows.collect())
}

fn reason(link: &LinkRow) -> String {
    let why = link.place.as_deref().unwrap_or(NONE);
    if link.leaf {
        return format!("{why}, leaf");
    }
    why.to_owned()
}

fn way(way: &Way) -> String {
    match way {
        Way::Direct => "direct".to_owned(),
        Way::Around { via, hops: None } => format!("through {via}"),
        Way::Around {
            via,
            hops: Some(hops),
        } => format!("through {via}, {hops} hops"),
        Way::None => "none".to_owned(),
    }
}

/// Returns one line for one answer, and one for its path.
pub fn ping(ping: &PingReply) -> String {
    let mut screen = format!(
        "{} answers in {}: {} there, {} back\n",
        plain(&ping.name),
        rtt(Some(ping.rtt_us)),
        links_word(ping.hops_there),
        links_word(ping.hops_back)
    );
    if !ping.path.is_empty() {
        let places: Vec<String> = ping.path.iter().map(place).collect();
        screen.push_str(&format!("  way: {}\n", places.join(" → ")));
    }
    screen
}

fn links_word(count: u8) -> String {
    match count {
        1 => "1 link".to_owned(),
        count => format!("{count} links"),
    }
}

fn place(hop: &HopRow) -> String {
    let name = hop.node.as_deref().unwrap_or("?");
    plain(name)
}

/// Returns one line for each place on a way.
pub fn trace(trace: &TraceReply) -> String {
    let rows = trace.hops.iter().map(|hop| {
        vec![
            hop.hop.to_string(),
            hop.node.clone().unwrap_or_else(|| "?".to_owned()),
            rtt(hop.rtt_us),
        ]
    });
    table(&["HOP", "NODE", "RTT"], rows.collect())
}

/// Returns one line for each client.
pub fn clients(clients: &[ClientRow]) -> String {
    let rows = clients.iter().map(|client| {
        vec![
            client.name.clone(),
            client.address.to_string(),
            client.key.to_string(),
            client.since.to_string(),
            or_none(client.endpoint),
            or_none(client.silent_ms.map(span)),
            bytes(client.received_bytes),
            bytes(client.sent_bytes),
        ]
    });
    let heads = [
        "NAME", "ADDRESS", "KEY", "SINCE", "ENDPOINT", "SILENT", "RECEIVED", "SENT",
    ];
    table(&heads, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::WireguardKey;
    use crate::route::{RouteState, WayRow};
    use mesh_base::time::Wall;

    fn route_row() -> RouteRow {
        let claimed = DistanceRow {
            seqno: 7,
            metric: 96,
        };
        let way = WayRow {
            via: "b.org".into(),
            claimed,
            link_cost: 96,
            rtt_cost: 4,
            penalty: 0,
            metric: Some(196),
            feasible: true,
            selected: true,
            expires_ms: 60_000,
            why: "it is the shortest".into(),
        };
        RouteRow {
            node: Some("c.org".into()),
            prefix: "fd6d:1::/64".into(),
            state: RouteState::Selected,
            next_hop: Some("b.org".into()),
            metric: Some(196),
            behind: Some(96),
            link_cost: Some(96),
            rtt_cost: Some(4),
            penalty: Some(0),
            hops: Some(2),
            feasibility: Some(DistanceRow {
                seqno: 7,
                metric: 196,
            }),
            age_ms: Some(1500),
            why: "it is the only way".into(),
            ways: vec![way],
        }
    }

    #[test]
    fn route_is_one_line_with_the_parts_of_its_metric() {
        let screen = routes(&[route_row()]);
        assert_eq!(
            screen,
            "NODE   PREFIX       STATE     NEXT HOP  METRIC  BEHIND+LINK+RTT+PENALTY  HOPS  \
             FEASIBLE BELOW  AGE\n\
             c.org  fd6d:1::/64  selected  b.org     196     96+96+4+0                2     \
             196 at seqno 7  1.5 s\n"
        );
    }

    #[test]
    fn one_route_tells_why_and_what_else_there_is() {
        let screen = route(&route_row());
        assert!(
            screen.contains("why             it is the only way\n"),
            "{screen}"
        );
        assert!(screen.contains("it is the shortest\n"), "{screen}");
        assert!(screen.contains("96 at seqno 7"), "{screen}");
    }

    #[test]
    fn ping_counts_links_and_names_the_way() {
        let hop = |hop, node: Option<&str>| HopRow {
            hop,
            node: node.map(str::to_owned),
            rtt_us: None,
        };
        let reply = PingReply {
            name: "d.org".into(),
            address: "fd6d::1".parse().unwrap(),
            rtt_us: 1200,
            hops_there: 3,
            hops_back: 1,
            path: vec![hop(1, Some("b.org")), hop(2, None), hop(3, Some("d.org"))],
        };
        assert_eq!(
            ping(&reply),
            "d.org answers in 1.20 ms: 3 links there, 1 link back\n  way: b.org → ? → d.org\n"
        );
        let reply = TraceReply {
            name: "d.org".into(),
            address: "fd6d::1".parse().unwrap(),
            reached: false,
            hops: reply.path,
        };
        assert_eq!(
            trace(&reply),
            "HOP  NODE   RTT\n1    b.org  -\n2    ?      -\n3    d.org  -\n"
        );
    }

    #[test]
    fn client_is_one_line() {
        let row = ClientRow {
            name: "phone".into(),
            key: WireguardKey([1; 32]),
            address: "fd6d::9".parse().unwrap(),
            since: Wall(0),
            endpoint: Some("192.0.2.7:9".parse().unwrap()),
            silent_ms: Some(1500),
            received_bytes: 10,
            sent_bytes: 0,
        };
        assert_eq!(
            clients(&[row]),
            "NAME   ADDRESS  KEY                                           SINCE                 \
             ENDPOINT     SILENT  RECEIVED  SENT\n\
             phone  fd6d::9  AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=  1970-01-01T00:00:00Z  \
             192.0.2.7:9  1.5 s   10 B      0 B\n"
        );
        assert_eq!(clients(&[]), "");
    }

    #[test]
    fn round_trips_on_a_street_are_told_apart() {
        assert_eq!(
            [Some(43), Some(3_129), Some(140_500), None].map(rtt),
            ["0.04 ms", "3.12 ms", "140 ms", "-"]
        );
    }

    #[test]
    fn far_session_tells_its_way() {
        let around = |hops| {
            way(&Way::Around {
                via: "b.org".into(),
                hops,
            })
        };
        assert_eq!(around(None), "through b.org");
        assert_eq!(around(Some(3)), "through b.org, 3 hops");
    }
}
