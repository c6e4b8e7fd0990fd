//! Nodes in a line: each reaches its neighbours only, and everybody is reached through them.

use std::time::Duration;

use anyhow::ensure;
use mesh_tests::cables::Cables;
use mesh_tests::home::sees;
use mesh_tests::runner::Place;
use mesh_tests::transcript::Cast;
use mesh_tests::until::until;

use crate::ring::address_of;
use crate::street::Street;

/// How long a mesh may take to find its ways after everything was rewired.
const SOON: Duration = Duration::from_secs(60);

/// Raises the mesh on a street, then leaves each home with one cable to the next.
pub fn service_is_used_along_a_line(place: &Place) -> anyhow::Result<()> {
    // Whatever is ordered must go to the far end.
    let street = Street::raise(place, |home| {
        if home.name == "library-2" {
            home.configure("capacity.slots", 0)?;
        }
        Ok(())
    })?;
    let [bakery, bakery_2, library, library_2] = Cast::NAMES;
    let line = [
        (bakery, bakery_2),
        (bakery_2, library_2),
        (library_2, library),
    ];
    for home in street.cast.all() {
        let others: Vec<&str> = Cast::NAMES
            .into_iter()
            .filter(|it| *it != home.name)
            .collect();
        sees(home, &others, SOON)?;
    }
    let cables = Cables::lay(&street.lab, &line)?;
    let (customer, provider) = (&street.cast.bakery, &street.cast.library);
    let to = address_of(provider)?;
    until("the ends of the line reach each other", SOON, || {
        let ping = customer.quietly().run("ping", &["-c1", "-W1", &to])?;
        Ok(ping.ok().is_ok().then_some(()))
    })?;
    sees(customer, &[bakery_2, library, library_2], SOON)?;
    let ordered = customer
        .meshctl(&["order", "postgres", "--name", "crm-db"])?
        .ok()?;
    ensure!(ordered.stdout.contains("postgresql://"), "{ordered}");
    let answer = customer.psql(&customer.url("crm-db")?, "select 40 + 2")?;
    ensure!(answer.ok()?.stdout.trim() == "42", "the database answers");
    drop(cables);
    Ok(())
}
