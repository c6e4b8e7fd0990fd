//! What two nodes behind routers of all kinds do today, as a table for people; no test.
//!
//! `cargo run -p mesh-tests --example nat_table` takes about six minutes; with the name of a row
//! (`row_symmetric`) only that, and with `MESHSTEAD_NAT_WITH=cgnat` only that column. For each two kinds a mesh of three is made: A and B behind them, P
//! in the open, which founded the organisation and invites both. A line says how A reaches B:
//! directly, through P, or not at all, and how long after B's start.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_tests::ground::Ground;
use mesh_tests::home::Home;
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
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
        if said.contains("in vain") {
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
    let first = until("B answers A", FIRST, || hops(a, &b.name))?;
    let took = start.elapsed();
    let direct = until("B is reached directly", SETTLED, || {
        Ok(hops(a, &b.name)?.filter(|hops| *hops == 1))
    });
    let way = match (first, direct) {
        (1, _) => "direct".to_owned(),
        (_, Ok(_)) => format!(
            "relayed, direct after {:.1} s",
            start.elapsed().as_secs_f64()
        ),
        (hops, Err(_)) => format!("relayed over {hops} links"),
    };
    let status = a.status()?;
    let rows = status.get("peers").and_then(|rows| rows.as_array());
    let row = rows.and_then(|rows| {
        rows.iter()
            .find(|row| row.get("name").is_some_and(|name| *name == *b.name))
    });
    let is_connected = row.and_then(|row| row.get("connected")?.as_bool());
    Ok(format!(
        "{way}, first answer after {:.1} s, control connected: {is_connected:?}",
        took.as_secs_f64()
    ))
}

/// Returns over how many links a ping goes; none if it is not answered.
fn hops(from: &Home, to: &str) -> anyhow::Result<Option<u64>> {
    let ping = from.meshnode(&["ping", to, "--count", "1", "--json"])?;
    if ping.code != 0 {
        return Ok(None);
    }
    Ok(ping
        .json()?
        .get("hops_there")
        .and_then(serde_json::Value::as_u64))
}
