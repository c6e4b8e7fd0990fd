//! Homes that let no UDP out, or TCP to one port only: links live in streams, and everything works.
//!
//! ```text
//!   a ── router: TCP only ──┐                    ┌── router: TCP only ── b
//!                           ├──── Internet ──────┤
//!   office ─ router: 443 ───┘        │           └── seller in the open
//!                                 public, which listens on 443
//! ```
//! Every network is made for its test and nothing leaves it.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use mesh_tests::home::{Home, links_between, see_each_other};
use mesh_tests::inside::shell;
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh::{self, PUBLIC};
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{TERMS, agree, found_org, join};
use mesh_tests::until::until;

/// How long a mesh may take to find its ways.
const SOON: Duration = Duration::from_secs(60);

/// How long two homes may take to answer each other, from the start of the last.
const FIRST_MAX: Duration = Duration::from_secs(10);

/// How long a link may be silent whose UDP dies.
const OUTAGE_MAX: Duration = Duration::from_secs(3);

/// The same when UDP comes back: nothing should be lost, on a machine that may be busy.
const BACK_MAX: Duration = Duration::from_millis(500);

/// How much is loaded, in bytes.
pub const BULK: usize = 10_000_000;

/// Two homes without UDP reach the public node in streams, and each other through it.
pub fn homes_without_udp_reach_each_other(place: &Place) -> anyhow::Result<()> {
    let lab = nat_mesh::raise(
        place,
        &[("a", NatKind::UdpBlocked), ("b", NatKind::UdpBlocked)],
    )?;
    let start = Instant::now();
    let (a, b) = (lab.home("a")?, lab.home("b")?);
    until("b answers a", SOON, || links_between(a, "b"))?;
    let took = start.elapsed();
    for home in [a, b] {
        until("the public node is reached directly", SOON, || {
            Ok(links_between(home, PUBLIC)?.filter(|links| *links == 1))
        })?;
        let carrier = carrier(home, PUBLIC)?;
        ensure!(
            carrier == "stream_udp_silent",
            "{} reaches it by {carrier}",
            home.name
        );
    }
    ensure!(links_between(a, "b")? == Some(2), "not through one node");
    let screen = a.meshnode(&["peers"])?.ok()?.stdout;
    ensure!(screen.contains("stream: no udp"), "{screen}");
    println!(
        "measured: both without UDP: first answer {:.1} s after the last start",
        took.as_secs_f64()
    );
    ensure!(took <= FIRST_MAX, "the first answer took {took:?}");
    Ok(())
}

/// A customer that lets out TCP to port 443 only joins, orders from a home without UDP, and loads.
pub fn tcp_to_one_port_is_enough(place: &Place) -> anyhow::Result<()> {
    let homes = [
        (PUBLIC, NatKind::Open),
        ("office", NatKind::TcpOnePort),
        ("seller", NatKind::Open),
        ("hotel", NatKind::UdpBlocked),
    ];
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    let home = |name| lab.home(name);
    let (public, office, seller, hotel) = (
        home(PUBLIC)?,
        home("office")?,
        home("seller")?,
        home("hotel")?,
    );
    let listen = vec!["0.0.0.0:443".to_owned(), "[::]:443".to_owned()];
    public.configure("network.listen", listen)?;
    for home in [public, office, seller] {
        home.configure("capacity.slots", 0)?;
    }
    found_org("buyers", public)?;
    found_org("sellers", seller)?;
    join(public, office).context("the office does not join")?;
    join(seller, hotel).context("the hotel does not join")?;
    agree(seller, public, &TERMS)?;
    see_each_other(&[public, office], SOON)?;
    let start = Instant::now();
    until("the hotel answers the office", SOON, || {
        links_between(office, "hotel.sellers")
    })?;
    let carrier = carrier(office, PUBLIC)?;
    ensure!(
        carrier == "stream_udp_silent",
        "the office's link: {carrier}"
    );
    let first = start.elapsed();
    let loaded = order_and_load(office)?;
    println!(
        "measured: TCP/443 only: first answer {:.1} s after the last start, 10 MB in {:.1} s",
        first.as_secs_f64(),
        loaded.as_secs_f64()
    );
    Ok(())
}

/// UDP that is blocked in the middle of things and let through again later: nothing breaks, and UDP
/// is taken again.
pub fn udp_that_is_blocked_later_is_left_and_taken_again(place: &Place) -> anyhow::Result<()> {
    let lab = nat_mesh::raise(place, &[("a", NatKind::PortRestricted)])?;
    let a = lab.home("a")?;
    let by = |wanted: &str| {
        until(&format!("the link goes by {wanted}"), 2 * SOON, || {
            Ok((carrier(a, PUBLIC)? == wanted).then_some(()))
        })
    };
    until("the public node answers", SOON, || links_between(a, PUBLIC))?;
    by("udp")?;
    let to = lab.home(PUBLIC)?.overlay_address()?;
    let mut pulse = Pulse::begin(a, &to, SOON)?;
    let since = SystemTime::now();
    let (outermost, _) = lab.router("a")?.outermost();
    shell(
        Some(outermost),
        "nft 'add table ip blocked
        add chain ip blocked stop { type filter hook forward priority -300; }
        add rule ip blocked stop meta l4proto udp drop'",
    )?;
    by("stream_udp_silent")?;
    let outage = pulse.outage(since, SOON)?;
    shell(Some(outermost), "nft delete table ip blocked")?;
    let since = SystemTime::now();
    by("udp")?;
    let back = pulse.outage(since, SOON)?;
    let text = format!(
        "UDP blocked under way: silent for {:.2} s, {:.2} s when it comes back",
        outage.as_secs_f64(),
        back.as_secs_f64()
    );
    println!("measured: {text}");
    ensure!(outage <= OUTAGE_MAX && back <= BACK_MAX, "{text}");
    Ok(())
}

/// Returns what carries the link with a node, in the words of `peers --json`.
pub fn carrier(home: &Home, to: &str) -> anyhow::Result<String> {
    let links = home.quietly().meshnode(&["peers", "--json"])?.json()?;
    let rows = links.get("links").unwrap_or(&links).as_array().cloned();
    let is_it = |row: &serde_json::Value| {
        let name = row.get("name").and_then(serde_json::Value::as_str);
        name.is_some_and(|name| name == to || name.split('.').next() == Some(to))
    };
    let row = rows.into_iter().flatten().find(is_it);
    let carrier = row.and_then(|row| Some(row.get("carrier")?.as_str()?.to_owned()));
    carrier.with_context(|| format!("no link with {to}: {links}"))
}

/// Orders a database and loads ten megabytes of it; returns how long that took.
pub fn order_and_load(home: &Home) -> anyhow::Result<Duration> {
    order(home)?;
    let url = home.url("crm-db")?;
    load(home, &url)
}

/// Orders a database; what others offer takes a moment to be known.
pub fn order(home: &Home) -> anyhow::Result<()> {
    until("the order is taken", SOON, || {
        let order = ["order", "postgres", "--name", "crm-db"];
        Ok((home.quietly().meshctl(&order)?.code == 0).then_some(()))
    })
}

/// Loads ten megabytes out of a database, and puts a letter of a hundred kilobytes into it.
pub fn load(home: &Home, url: &str) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let quiet = home.quietly();
    let got = quiet.psql(url, &format!("select repeat('x', {BULK})"))?;
    let got = got.value()?;
    ensure!(got.len() == BULK, "{} of {BULK} bytes", got.len());
    let took = start.elapsed();
    let letter = format!("select length('{}')", "x".repeat(100_000));
    let len = quiet.psql(url, &letter)?.value()?;
    ensure!(len == "100000", "{len} of 100000 bytes arrived");
    Ok(took)
}
