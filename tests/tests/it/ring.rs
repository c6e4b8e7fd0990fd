//! A ring of eight nodes whose cables are cut: how long the mesh is broken, and whether it finds
//! back to the best path.
//!
//! ```text
//!   1 ── 2 ── 3 ── 4        pings go 1 → 4 over three cables; the other way round are five
//!   │              │
//!   8 ── 7 ── 6 ── 5
//! ```

use std::time::{Duration, Instant, SystemTime};

use mesh_tests::cables::{Cables, Silence};
use mesh_tests::figures::{Durations, Figure};
use mesh_tests::home::sees;
use mesh_tests::lab::Lab;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;
use serde_json::Value;

const NAMES: [&str; 8] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"];

/// The ring's cables, in order.
const RING: [(&str, &str); 8] = [
    ("n1", "n2"),
    ("n2", "n3"),
    ("n3", "n4"),
    ("n4", "n5"),
    ("n5", "n6"),
    ("n6", "n7"),
    ("n7", "n8"),
    ("n8", "n1"),
];

/// The cables of the best path from 1 to 4, as each end sees them.
const PATH: [(&str, &str); 6] = [
    ("n1", "n2"),
    ("n2", "n1"),
    ("n2", "n3"),
    ("n3", "n2"),
    ("n3", "n4"),
    ("n4", "n3"),
];

const CUTS: usize = 20;
const SOON: Duration = Duration::from_secs(60);

/// The bars' limits for 19 of 20 cuts, and for the way back after each.
const DOWN_MAX: Duration = Duration::from_millis(300);
const SILENT_MAX: Duration = Duration::from_millis(2500);
const BACK_MAX: Duration = Duration::from_secs(10);

/// How a cable is hurt.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Pulled,
    Silent(Silence),
}

/// Cuts by link down.
pub fn failover_down(place: &Place) -> anyhow::Result<()> {
    let cuts = [Cut::Pulled];
    measure(place, &cuts, "routing.failover-down@ours", DOWN_MAX)
}

/// Cuts that nobody is told of: both ways, one way, seen from either end.
pub fn failover_silent(place: &Place) -> anyhow::Result<()> {
    let cuts = [Cut::Silent(Silence::Both), Cut::Silent(Silence::Inwards)];
    measure(place, &cuts, "routing.failover-silent", SILENT_MAX)
}

fn measure(place: &Place, cuts: &[Cut], bar: &str, limit: Duration) -> anyhow::Result<()> {
    let lab = Lab::new(&NAMES, &place.folder, &place.programs)?;
    raise(&lab)?;
    let cables = Cables::lay(&lab, &RING)?;
    let (from, to) = (lab.home("n1")?, lab.home("n4")?.overlay_address()?);
    let mut pulse = Pulse::begin(from, &to, SOON)?;
    back_on_best_path(&lab)?;
    let (mut outages, mut returns) = (Durations::default(), Durations::default());
    // Every cable is cut in every way before one is cut again.
    let each = |cut| PATH.iter().map(move |pair| (pair, cut));
    let hurts = cuts.iter().flat_map(each).cycle();
    for ((a, b), cut) in hurts.take(CUTS) {
        let since = SystemTime::now();
        hurt(&cables, a, b, *cut)?;
        let outage = pulse.outage(since, SOON)?;
        println!("{a}-{b} {cut:?}: {:.3} s", outage.as_secs_f64());
        outages.add(outage);
        let start = Instant::now();
        mend(&cables, a, b, *cut)?;
        back_on_best_path(&lab)?;
        returns.add(start.elapsed());
    }
    let holds = outages.percentile(95) <= limit && returns.percentile(100) <= BACK_MAX;
    // A figure: how long it takes depends on the machine, that it heals does not.
    Figure {
        bar: bar.to_owned(),
        text: format!("ours {}; back {}", outages.summary(), returns.summary()),
        holds,
    }
    .tell();
    Ok(())
}

fn hurt(cables: &Cables<'_>, a: &str, b: &str, cut: Cut) -> anyhow::Result<()> {
    match cut {
        Cut::Pulled => cables.pull(a, b),
        Cut::Silent(which) => cables.silence(a, b, which),
    }
}

fn mend(cables: &Cables<'_>, a: &str, b: &str, cut: Cut) -> anyhow::Result<()> {
    match cut {
        Cut::Pulled => cables.plug(a, b),
        Cut::Silent(_) => cables.heal(a, b),
    }
}

/// Makes one organisation of all eight while they still stand on a street.
fn raise(lab: &Lab) -> anyhow::Result<()> {
    let first = lab.home("n1")?;
    found_org("ring", first)?;
    for name in NAMES.iter().skip(1) {
        join(first, lab.home(name)?)?;
    }
    for name in NAMES {
        let others: Vec<&str> = NAMES.into_iter().filter(|it| *it != name).collect();
        sees(lab.home(name)?, &others, SOON)?;
    }
    Ok(())
}

/// Waits until packets go over the three cables of the best path, there and back: each end counts
/// the links that the other's crossed.
fn back_on_best_path(lab: &Lab) -> anyhow::Result<()> {
    const LINKS: u64 = 3;
    let home = lab.home("n1")?.quietly();
    until("the pings are back on the best path", SOON, || {
        let said = home.meshnode(&["ping", "n4.ring", "--count", "1", "--json"])?;
        // While there is no way it fails.
        let ping = said.json().unwrap_or_default();
        let links = |field: &str| ping.get(field).and_then(Value::as_u64);
        let best = ["hops_there", "hops_back"].map(links) == [Some(LINKS); 2];
        Ok(best.then_some(()))
    })
}
