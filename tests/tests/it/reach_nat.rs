//! Homes behind routers of all kinds find straight ways to each other.

use std::time::{Duration, Instant};

use mesh_tests::home::links_between;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh;
use mesh_tests::runner::Place;
use mesh_tests::until::until;

/// How long two homes may take to find a straight way.
const SOON: Duration = Duration::from_secs(30);

/// Two usual homes, of which no packet of the other gets in unasked, reach each other straight.
pub fn two_homes_meet(place: &Place) -> anyhow::Result<()> {
    let homes = [
        ("one", NatKind::PortRestricted),
        ("other", NatKind::PortRestricted),
    ];
    let lab = nat_mesh::raise(place, &homes)?;
    let start = Instant::now();
    for (from, to) in [("one", "other"), ("other", "one")] {
        let home = lab.home(from)?;
        until(&format!("{from} reaches {to} straight"), SOON, || {
            Ok(links_between(home, to)?.filter(|links| *links == 1))
        })?;
    }
    println!("measured: {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
