//! Homes get other addresses in mid-transfer: at most a short gap, and no connection is lost.
//!
//! ```text
//!   from ── router ── Internet ── router ── to        bytes flow one way, a steady ping both
//!                        │
//!                     public                          carries calls, and what flows meanwhile
//! ```
//! A home in the open sees its own address change; one behind a router is told by nobody, and has
//! to be found by those who still have a way to it.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use mesh_tests::figures::{Durations, Figure};
use mesh_tests::home::links_between;
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::said::Asked;
use mesh_tests::until::until;

/// How long anything may take at most.
const SOON: Duration = Duration::from_secs(30);

/// The bar's limit.
const GAP_MAX: Duration = Duration::from_secs(2);

/// Pairs of whom each gets another address.
const PAIRS: [(NatKind, NatKind); 4] = [
    (NatKind::Open, NatKind::Open),
    (NatKind::PortRestricted, NatKind::Open),
    (NatKind::PortRestricted, NatKind::Cgnat),
    (NatKind::PortRestricted, NatKind::Double),
];

/// Changes addresses of both sides of pairs of homes, one after the other.
pub fn transfers_survive_other_addresses(place: &Place) -> anyhow::Result<()> {
    let names: Vec<(String, NatKind)> = (PAIRS.iter().enumerate())
        .flat_map(|(at, (a, b))| [(format!("from-{at}"), *a), (format!("to-{at}"), *b)])
        .collect();
    let homes: Vec<(&str, NatKind)> = names.iter().map(|(name, kind)| (&**name, *kind)).collect();
    let mut lab = nat_mesh::raise(place, &homes)?;
    let mut gaps = Durations::default();
    for pair in homes.chunks_exact(2) {
        let &[(from, a), (to, b)] = pair else {
            continue;
        };
        until(&format!("{from} reaches {to} straight"), SOON, || {
            Ok(links_between(lab.home(from)?, to)?.filter(|links| *links == 1))
        })?;
        let mut transfer = Transfer::begin(&lab, from, to)?;
        let address = lab.home(to)?.overlay_address()?;
        let mut pulse = Pulse::begin(lab.home(from)?, &address, SOON)?;
        for moved in [from, to] {
            let since = SystemTime::now();
            lab.renumber(moved)?;
            let gap = pulse.outage(since, SOON)?;
            println!("{a} to {b}, {moved} moves: {:.2} s", gap.as_secs_f64());
            gaps.add(gap);
            transfer.goes_on()?;
            until(&format!("{from} reaches {to} straight again"), SOON, || {
                Ok(links_between(lab.home(from)?, to)?.filter(|links| *links == 1))
            })?;
        }
        println!("{} rows passed in one connection", transfer.count()?);
    }
    let figure = Figure {
        bar: "reach.roam".to_owned(),
        text: format!(
            "{}; {} connections of {} survived",
            gaps.summary(),
            PAIRS.len(),
            PAIRS.len()
        ),
        holds: gaps.percentile(100) <= GAP_MAX,
    };
    figure.hold()
}

/// Rows of a database that flow in one TCP connection over the overlay, at a pace that leaves the
/// machine idle.
struct Transfer {
    rows: Asked,
}

/// Rows that must come after an address has changed: of a second.
const ROWS: usize = 100;

impl Transfer {
    /// Begins to read at `from` what a database at `to` sends.
    fn begin(lab: &Lab, from: &str, to: &str) -> anyhow::Result<Self> {
        let (reader, name) = (lab.home(from)?.quietly(), format!("db-{to}"));
        let order = ["order", "postgres", "--name", &name, "--node", to];
        reader.meshctl(&order)?.ok()?;
        let url = reader.url(&name)?;
        let question = "copy (select n, repeat('x', 1000), pg_sleep(0.01) \
                        from generate_series(1, 1000000) as n) to stdout";
        let rows = reader.ask("/usr/bin/psql", &["-X", &url, "-c", question])?;
        let mut transfer = Self { rows };
        transfer.goes_on()?;
        Ok(transfer)
    }

    /// Waits until more rows arrive; returns how many have, without a gap.
    fn goes_on(&mut self) -> anyhow::Result<usize> {
        let before = self.count()?;
        until("rows arrive", SOON, || {
            let count = self.count()?;
            Ok((before + ROWS <= count).then_some(count))
        })
    }

    fn count(&mut self) -> anyhow::Result<usize> {
        let text = self.rows.so_far()?;
        // The last may not be whole.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut count = 0;
        for line in whole.lines() {
            count += 1;
            let number = line.split('\t').next().and_then(|it| it.parse().ok());
            ensure!(number == Some(count), "row {count} is {number:?}");
        }
        Ok(count)
    }
}
