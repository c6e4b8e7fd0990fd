//! The transcript between homes behind routers, with what the product has today: who can be dialled
//! founds and invites, and carries the packets of those who cannot.
//!
//! ```text
//!   bakery-2 ── router ── Internet ── router ── library-2       orders; sells
//!                          │    │
//!                    bakery-1  library-1                        in the open; found, invite, agree
//! ```
//! The two behind routers reach each other through those in the open. Decides nothing about
//! directness: nobody punches holes yet.

use std::time::Duration;

use anyhow::ensure;
use mesh_tests::home::{links_between, see_each_other};
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
use mesh_tests::nat_mesh::{self, PUBLIC};
use mesh_tests::runner::Place;
use mesh_tests::transcript::{Cast, play_raised, raise_mesh};
use mesh_tests::until::until;

/// How long a mesh may take to find its ways.
const SOON: Duration = Duration::from_secs(60);

/// A customer behind a usual router, a provider in the open.
pub fn order_leaves_a_home(place: &Place) -> anyhow::Result<()> {
    transcript(place, NatKind::PortRestricted, NatKind::Open)
}

/// Both behind routers that no packet of the other gets through unasked.
pub fn order_reaches_a_home(place: &Place) -> anyhow::Result<()> {
    transcript(place, NatKind::Symmetric, NatKind::Cgnat)
}

/// One of each kind that passes UDP, in one mesh: every one reaches every other, through the public
/// node if need be, and the public node directly.
pub fn all_kinds_reach_each_other(place: &Place) -> anyhow::Result<()> {
    let kinds = || NatKind::ALL.into_iter().filter(|kind| kind.passes_udp());
    let names: Vec<(String, NatKind)> = kinds().map(|kind| (kind.to_string(), kind)).collect();
    let homes: Vec<(&str, NatKind)> = names.iter().map(|(name, kind)| (&**name, *kind)).collect();
    let lab = nat_mesh::raise(place, &homes)?;
    let reach = |from: &str, to: &str| {
        let home = lab.home(from)?;
        until(&format!("{from} reaches {to}"), SOON, || {
            links_between(home, to)
        })
    };
    let mut direct = 0;
    for (from, _) in &homes {
        let home = lab.home(from)?;
        until(&format!("{from} reaches {PUBLIC} directly"), SOON, || {
            Ok(links_between(home, PUBLIC)?.filter(|links| *links == 1))
        })?;
        for (to, _) in homes.iter().filter(|(to, _)| to != from) {
            direct += u32::from(reach(from, to)? == 1);
        }
    }
    println!("measured: {direct} of 42 ways between seven kinds are direct at first");
    Ok(())
}

fn transcript(place: &Place, customer: NatKind, provider: NatKind) -> anyhow::Result<()> {
    let [bakery, bakery_2, library, library_2] = Cast::NAMES;
    let homes = [
        (bakery, NatKind::Open),
        (bakery_2, customer),
        (library, NatKind::Open),
        (library_2, provider),
    ];
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    let raised = Cast::of(|name| lab.home(name).cloned())?;
    for home in raised.all() {
        home.configure("metering.period", "1s")?;
    }
    // Whatever is ordered must go to the one behind the router.
    for home in [&raised.bakery, &raised.bakery_2, &raised.library] {
        home.configure("capacity.slots", 0)?;
    }
    raise_mesh(&raised)?;
    let cast = Cast {
        bakery: raised.bakery_2,
        bakery_2: raised.bakery,
        library: raised.library_2,
        library_2: raised.library,
    };
    see_each_other(&cast.all(), SOON)?;
    let to = cast.library.overlay_address()?;
    until("the provider answers the customer", SOON, || {
        let ping = cast.bakery.quietly().run("ping", &["-c1", "-W1", &to])?;
        Ok((ping.code == 0).then_some(()))
    })?;
    let took = play_raised(&cast, || {
        let node = cast.provider()?.name.clone();
        ensure!(
            node == library_2,
            "crm-db is on {node}, not behind the router"
        );
        Ok(())
    })?;
    println!(
        "measured: {customer} orders from {provider}: {:.1} s to the first answer",
        took.as_secs_f64()
    );
    Ok(())
}
