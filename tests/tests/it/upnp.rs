//! Ports of a home's router: Debian's miniupnpd is asked for them in each of its three ways, and a
//! friend comes in through them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::{Home, sees};
use mesh_tests::runner::Place;
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;
use mesh_tests::upnp::{INSIDE, Miniupnpd, OUTSIDE, Speaks, marked_count, send_marked, yard};
use mesh_tests::yard::Yard;
use serde_json::Value;

/// The lease that is asked for.
const LEASE: Duration = Duration::from_secs(8);
/// A way that is silent takes four seconds, and the next one is taken.
const SOON: Duration = Duration::from_secs(30);
/// A router that was restarted is noticed at the next renewal, or within a minute.
const NOTICED: Duration = Duration::from_secs(90);

/// A renewed rule is away for a moment.
const REPLACED: Duration = Duration::from_secs(1);

/// Which router, what the home's owner says, and in which way it comes to be mapped.
const CASES: [(Speaks, &str, &str); 4] = [
    (Speaks::PcpAndNatPmp, "auto", "pcp"),
    (Speaks::PcpAndNatPmp, "nat-pmp", "nat-pmp"),
    (Speaks::Upnp, "auto", "upnp"),
    (Speaks::All, "auto", "pcp"),
];

/// The port is mapped, used, renewed, mapped again after the router's restart, lost with its node,
/// and given back by one that stops.
pub fn ports_are_mapped_by_miniupnpd(place: &Place) -> anyhow::Result<()> {
    let yard = yard(place)?;
    let (home, friend) = (yard.home("home")?, yard.home("friend")?);
    home.configure("reach.lease", format!("{}s", LEASE.as_secs()))?;
    home.configure("reach.port_mapping", "off")?;
    found_org("bakery", &friend)?;
    join(&friend, &home)?;
    sees(&friend, &["home"], SOON)?;
    let status = home.status()?;
    ensure!(
        status.pointer("/port_mapping/ports") == Some(&Value::Array(Vec::new())),
        "nothing is mapped: {status}"
    );
    home.stop()?;
    let mut lines = Vec::new();
    for (speaks, setting, way) in CASES {
        home.configure("reach.port_mapping", setting)?;
        let line = one(&yard, &home, &friend, speaks, way)
            .with_context(|| format!("{speaks:?}, {setting}, by {way}"))?;
        println!("measured: {line}");
        lines.push(line);
    }
    let figure = Figure {
        bar: "reach.upnp".to_owned(),
        text: format!("renewed, used, given back by {}", lines.join("; ")),
        holds: lines.len() == CASES.len(),
    };
    figure.tell();
    Ok(())
}

fn one(
    yard: &Yard,
    home: &Home,
    friend: &Home,
    speaks: Speaks,
    way: &str,
) -> anyhow::Result<String> {
    let router = Miniupnpd::start(yard, speaks)?;
    let start = Instant::now();
    home.start()?;
    let (udp, tcp) = mapped(home, way)?;
    let took = start.elapsed();
    for port in [udp, tcp] {
        ensure!(router.maps(port)?, "{port} is in the router's table");
    }
    comes_in(yard, udp)?;
    yard.shell(
        "friend",
        &format!("bash -c 'exec 3<>/dev/tcp/{OUTSIDE}/{tcp}'"),
    )
    .context("the control port is open from outside")?;
    is_direct(friend, &format!("{OUTSIDE}:{udp}"))?;

    // It lasts longer than its lease, so it was renewed; miniupnpd renews a rule by another one.
    let until_when = Instant::now() + LEASE * 2;
    until("two leases have passed", LEASE * 3, || {
        let what = "the router's table keeps the port";
        until(what, REPLACED, || Ok(router.maps(udp)?.then_some(())))?;
        Ok((until_when <= Instant::now()).then_some(()))
    })?;

    let router = router.restart()?;
    let restarted = Instant::now();
    until("the port is mapped again", NOTICED, || {
        Ok(router.maps(udp)?.then_some(()))
    })?;
    let noticed = restarted.elapsed();
    comes_in(yard, udp)?;

    // Nobody renews for a daemon that is dead: the lease is what kept the port.
    home.kill_daemon()?;
    until("the lease has run out", SOON, || {
        Ok((!router.maps(udp)? && !router.maps(tcp)?).then_some(()))
    })?;

    home.start()?;
    let (udp, tcp) = mapped(home, way)?;
    home.stop()?;
    for port in [udp, tcp] {
        ensure!(!router.maps(port)?, "{port} was given back");
    }
    Ok(format!(
        "{way} ({speaks:?}): mapped {:.1} s after the start, again {:.1} s after a restart",
        took.as_secs_f64(),
        noticed.as_secs_f64()
    ))
}

/// Waits until the status says that both ports are mapped in a way; returns them.
fn mapped(home: &Home, way: &str) -> anyhow::Result<(u16, u16)> {
    let home = home.quietly();
    until(&format!("the status says {way}"), SOON, || {
        let status = home.status()?;
        let mapping = status.get("port_mapping").context("status tells of it")?;
        let is_way = mapping.get("way").and_then(Value::as_str) == Some(way);
        let port = |transport: &str| {
            let ports = mapping.get("ports")?.as_array()?;
            let port = ports.iter().find(|port| port["transport"] == transport)?;
            let outer = port.get("external")?.as_str()?;
            outer.strip_prefix(OUTSIDE)?.strip_prefix(':')?.parse().ok()
        };
        Ok(port("UDP").zip(port("TCP")).filter(|_| is_way))
    })
}

/// A datagram from a stranger's port outside arrives at the home.
fn comes_in(yard: &Yard, port: u16) -> anyhow::Result<()> {
    let before = marked_count(yard)?;
    let what = format!("a datagram to port {port} of the router comes to {INSIDE}");
    until(&what, SOON, || {
        send_marked(yard, port)?;
        Ok((before < marked_count(yard)?).then_some(()))
    })
}

/// The friend, whose wall lets in nobody first, has a link with the home through the mapped port.
fn is_direct(friend: &Home, endpoint: &str) -> anyhow::Result<()> {
    let friend = friend.quietly();
    until(&format!("a direct link by {endpoint}"), NOTICED, || {
        let links = friend.meshnode(&["peers", "--json"])?.json()?;
        let rows = links.get("links").and_then(Value::as_array);
        let is_it = |row: &Value| {
            row["name"] == "home.bakery"
                && row.pointer("/way/way").and_then(Value::as_str) == Some("direct")
                && row["endpoint"] == endpoint
        };
        Ok(rows
            .is_some_and(|rows| rows.iter().any(is_it))
            .then_some(()))
    })
}
