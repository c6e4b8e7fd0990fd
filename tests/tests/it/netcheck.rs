//! `meshnode netcheck` says what is true behind routers of several kinds, by what the mesh has
//! seen.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_tests::home::Home;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh::{self, PUBLIC};
use mesh_tests::runner::Place;
use mesh_tests::said::{array, at};
use mesh_tests::until::until;
use serde_json::Value;

/// How long it takes until others have said where they see a home, and a router that maps no ports
/// has been silent.
const SOON: Duration = Duration::from_secs(60);

/// Each home, its kind, and what it is told: NAT, UDP, and the start of the first advice.
const HOMES: [(&str, NatKind, [&str; 3]); 4] = [
    ("second", NatKind::Open, ["none", "yes", ""]),
    (
        "usual",
        NatKind::PortRestricted,
        ["endpoint_independent", "yes", "for direct ways"],
    ),
    (
        "odd",
        NatKind::Symmetric,
        ["symmetric", "yes", "for direct ways"],
    ),
    (
        "blocked",
        NatKind::UdpBlocked,
        ["unknown", "no", "let UDP out"],
    ),
];

/// Each home is told its kind of router, whether UDP passes, and how each other home is reached.
pub fn network_is_told(place: &Place) -> anyhow::Result<()> {
    let homes = HOMES.map(|(name, kind, _)| (name, kind));
    let lab = nat_mesh::raise(place, &homes)?;
    for (name, _, expect) in HOMES {
        let home = lab.home(name)?.quietly();
        let told = until(&format!("{name} is told {expect:?}"), SOON, || {
            let told = home.meshnode(&["netcheck", "--json"])?.json()?;
            let is_told = verdicts(&told)? == expect && is_whole(&told);
            Ok(is_told.then_some(told))
        })
        .or_else(|error| {
            let last = home.meshnode(&["netcheck"])?;
            Err(error.context(last.to_string()))
        })?;
        ensure!(at(&told, "schema") == "meshstead.netcheck/1", "{told}");
        ensure!(
            at(at(&told, "ipv6"), "answer") == "no",
            "there is no IPv6: {told}"
        );
        paths(name, &told)?;
        screen(&home, expect)?;
    }
    Ok(())
}

fn verdicts(told: &Value) -> anyhow::Result<[&str; 3]> {
    let text = |value: &'_ Value| value.as_str().map(str::to_owned);
    let kind = at(at(told, "nat"), "kind").as_str().context("a kind")?;
    let udp = at(at(told, "udp"), "answer")
        .as_str()
        .context("an answer")?;
    let next = array(told, "next")
        .first()
        .and_then(text)
        .unwrap_or_default();
    let known = ["for direct ways", "let UDP out"];
    let next = known.into_iter().find(|start| next.starts_with(start));
    Ok([kind, udp, next.unwrap_or_default()])
}

/// Every other home stands there, and who is in the open is reached directly.
fn is_whole(told: &Value) -> bool {
    let rows = array(told, "paths");
    let is_direct = |row: &Value| {
        at(row, "name") == format!("{PUBLIC}.mesh").as_str()
            && at(at(row, "path"), "way") == "direct"
    };
    rows.len() == HOMES.len() && rows.iter().any(is_direct)
}

/// Each way has a reason exactly if it is not direct, and a carrier exactly if it is.
fn paths(name: &str, told: &Value) -> anyhow::Result<()> {
    for row in array(told, "paths") {
        let is_direct = at(at(row, "path"), "way") == "direct";
        ensure!(is_direct == at(row, "why").is_null(), "{name}: {row}");
        ensure!(is_direct == at(row, "carrier").is_string(), "{name}: {row}");
        let to = at(row, "name").as_str().unwrap_or_default();
        if to == format!("{PUBLIC}.mesh") {
            let by_udp = at(row, "carrier")
                .as_str()
                .is_some_and(|it| it.starts_with("udp"));
            ensure!(by_udp != (name == "blocked"), "{name}: {row}");
        }
    }
    Ok(())
}

/// People see the same.
fn screen(home: &Home, [kind, udp, next]: [&str; 3]) -> anyhow::Result<()> {
    let said = home.meshnode(&["netcheck"])?.ok()?;
    let kind = kind.replace('_', "-");
    for line in [format!("nat      {kind}: "), format!("udp      {udp}: ")] {
        ensure!(said.stdout.contains(&line), "no {line}: {said}");
    }
    ensure!(said.stdout.contains(&format!("next: {next}")), "{said}");
    ensure!(said.stdout.contains("\nNODE "), "{said}");
    Ok(())
}
