//! What nodes behind routers of all kinds do today, as a table for people; no test.
//!
//! `cargo run -p mesh-tests --example nat_table` takes about six minutes; with the name of a row
//! (`row_symmetric`) only that, and with `MESHSTEAD_NAT_WITH=cgnat` only that column.
//!
//! For each two kinds a mesh of three is made: A and B behind them, and a public node that founded
//! the organisation and invites both. A line says how A reaches B: directly, through the public
//! node, or not at all, and how long after B's start. The row `roam` gives homes another public
//! address and says how long pings from the public node stay away.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use mesh_tests::ground::Ground;
use mesh_tests::home::{Home, links_between};
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh::{self, PUBLIC};
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::{self, Place, Test};
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;

/// How long B may take to answer at all.
const FIRST: Duration = Duration::from_secs(30);

/// How long a relayed path is watched for becoming a direct one.
const SETTLED: Duration = Duration::from_secs(10);

const fn row(name: &'static str, run: fn(&Place) -> anyhow::Result<()>) -> Test {
    Test {
        name,
        ground: Ground::Lab,
        deadline: Duration::from_secs(1200),
        alone: false,
        bar: None,
        run,
    }
}

const ROWS: &[Test] = &[
    row("row_open", |place| pairs_of(NatKind::Open, place)),
    row("row_full-cone", |place| pairs_of(NatKind::FullCone, place)),
    row("row_restricted", |place| {
        pairs_of(NatKind::Restricted, place)
    }),
    row("row_port-restricted", |place| {
        pairs_of(NatKind::PortRestricted, place)
    }),
    row("row_symmetric", |place| pairs_of(NatKind::Symmetric, place)),
    row("row_double", |place| pairs_of(NatKind::Double, place)),
    row("row_cgnat", |place| pairs_of(NatKind::Cgnat, place)),
    row("row_udp-blocked", |place| {
        pairs_of(NatKind::UdpBlocked, place)
    }),
    row("roam", roam),
    row("row_tcp-one-port", |place| {
        pairs_of(NatKind::TcpOnePort, place)
    }),
];

fn main() -> ExitCode {
    runner::main(ROWS, |_| Ok(()))
}

/// What is shown of a failure.
const SHOWN: usize = 120;

/// Tries a kind with itself and all that come after it.
fn pairs_of(a: NatKind, place: &Place) -> anyhow::Result<()> {
    let column = std::env::var("MESHSTEAD_NAT_WITH").unwrap_or_default();
    let is_wanted = |b: &NatKind| a <= *b && (column.is_empty() || b.to_string() == column);
    let others = NatKind::ALL.into_iter().filter(is_wanted);
    let names: Vec<(String, NatKind)> = others.map(|b| (format!("b-{b}"), b)).collect();
    let mut homes = vec![("a", a), ("p", NatKind::Open)];
    homes.extend(names.iter().map(|(name, b)| (&**name, *b)));
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    for (name, b) in &names {
        let round = |of: &str| -> anyhow::Result<Home> {
            let mut home = lab.home(of)?.quietly();
            home.folder = place.folder.join(format!("{of}-with-{name}"));
            Ok(home)
        };
        let (one, other, public) = (round("a")?, round(name)?, round("p")?);
        let said = outcome(&public, &one, &other).unwrap_or_else(|error| {
            let text = format!("{error:#}");
            let cause = text.lines().find(|line| line.contains("error: "));
            cause.unwrap_or(&text).trim().chars().take(SHOWN).collect()
        });
        println!("measured: {a} and {b}: {said}");
        if said.contains("no answer") && a.passes_udp() && b.passes_udp() {
            for (home, words) in [(&one, "routes"), (&one, "peers"), (&public, "peers")] {
                println!("{}", home.meshnode(&[words])?);
            }
            println!("{}\n{}", one.log(), other.log());
        }
        for home in [&one, &other, &public] {
            // It may not have come so far as to run.
            let _ = home.stop();
        }
    }
    Ok(())
}

fn outcome(public: &Home, a: &Home, b: &Home) -> anyhow::Result<String> {
    found_org("mesh", public)?;
    join(public, a).context("a")?;
    join(public, b).context("b")?;
    let start = Instant::now();
    let links = || links_between(a, &b.name);
    let way = match until("B answers A", FIRST, links) {
        Err(_) => "no answer".to_owned(),
        Ok(first) => {
            let took = start.elapsed().as_secs_f64();
            let direct = until("B is reached directly", SETTLED, || {
                Ok(links()?.filter(|links| *links == 1))
            });
            let later = start.elapsed().as_secs_f64();
            let how = match (first, direct) {
                (1, _) => "direct".to_owned(),
                (_, Ok(_)) => format!("direct after {later:.1} s"),
                (links, Err(_)) => format!("relayed over {links} links"),
            };
            format!("{how}, first answer after {took:.1} s")
        }
    };
    let controls = [
        is_connected(public, a)?,
        is_connected(public, b)?,
        is_connected(a, b)?,
    ];
    Ok(format!("{way}; control P-A, P-B, A-B: {controls:?}"))
}

/// Returns whether the control connection between two nodes stands.
fn is_connected(home: &Home, to: &Home) -> anyhow::Result<bool> {
    let status = home.status()?;
    let rows = status.get("peers").and_then(serde_json::Value::as_array);
    let is_it = |row: &&serde_json::Value| row.get("name").is_some_and(|name| *name == *to.name);
    let row = rows.and_then(|rows| rows.iter().find(is_it));
    Ok(row.is_some_and(|row| row.get("connected").is_some_and(|is| *is == true)))
}

/// Renumbers homes while they are pinged.
fn roam(place: &Place) -> anyhow::Result<()> {
    let kinds = [
        NatKind::Open,
        NatKind::PortRestricted,
        NatKind::Symmetric,
        NatKind::Cgnat,
    ];
    let names = kinds.map(|kind| (kind.to_string(), kind));
    let homes: Vec<(&str, NatKind)> = names.iter().map(|(name, kind)| (&**name, *kind)).collect();
    let mut lab = nat_mesh::raise(place, &homes)?;
    for (name, kind) in homes {
        let to = lab.home(name)?.overlay_address()?;
        let mut pulse = Pulse::begin(lab.home(PUBLIC)?, &to, FIRST)?;
        let since = SystemTime::now();
        lab.renumber(name)?;
        let said = match pulse.outage(since, 2 * FIRST) {
            Ok(outage) => format!("silent for {:.2} s", outage.as_secs_f64()),
            Err(error) => format!("{error:#}"),
        };
        println!("measured: {kind} gets another address: {said}");
    }
    Ok(())
}
