//! Two orders for the last slot at once: one is granted, the other is told why not.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::runner::Place;
use mesh_tests::said::Said;
use mesh_tests::until::until;

use crate::street::Street;

const ROUNDS: usize = 100;

/// Exit code of an order that fits nowhere.
const CANNOT_PLACE: i32 = 9;

/// Lets two nodes race for one slot, again and again.
pub fn last_slot_is_granted_once(place: &Place) -> anyhow::Result<()> {
    let street = Street::raise(place, |home| match home.name.as_str() {
        "library-1" => home.configure("capacity.slots", 1),
        "library-2" => home.configure("capacity.slots", 0),
        _ => Ok(()),
    })?;
    let (one, other) = (&street.cast.bakery, &street.cast.bakery_2);
    for round in 1..=ROUNDS {
        let [first, second] = race(one, other, round)?;
        let winner = match (first.code, second.code) {
            (0, _) => one,
            _ => other,
        };
        let (won, lost) = if first.code == 0 {
            (first, second)
        } else {
            (second, first)
        };
        won.ok()
            .with_context(|| format!("round {round}: nobody won; the other said:\n{lost}"))?;
        lost.refused(CANNOT_PLACE, "")
            .with_context(|| format!("round {round}"))?;
        winner
            .meshctl(&["destroy", &name(winner, round), "--yes"])?
            .ok()?;
        until("the slot is free", Duration::from_secs(30), || {
            is_free(&street.cast.library)
        })?;
    }
    let text = format!("{ROUNDS} of {ROUNDS} rounds: one granted, the other told why");
    Figure {
        bar: "first.last-slot".to_owned(),
        text,
        holds: true,
    }
    .tell();
    Ok(())
}

/// Orders from both nodes at once.
fn race(one: &Home, other: &Home, round: usize) -> anyhow::Result<[Said; 2]> {
    let begin =
        |home: &Home| home.meshctl_begin(&["order", "postgres", "--name", &name(home, round)]);
    let (first, second) = (begin(one)?, begin(other)?);
    let limit = Duration::from_secs(60);
    let said = [first.answer(limit)?, second.answer(limit)?];
    let granted = said.iter().filter(|said| said.code == 0).count();
    ensure!(
        granted <= 1,
        "round {round}: the last slot was granted twice"
    );
    Ok(said)
}

fn name(home: &Home, round: usize) -> String {
    format!("{}-{round}", home.name)
}

/// Tells whether nothing runs at the provider any more.
fn is_free(library: &Home) -> anyhow::Result<Option<()>> {
    let status = library.status()?;
    let held = status
        .get("held")
        .and_then(|held| held.as_array())
        .context("no held")?;
    Ok(held.is_empty().then_some(()))
}
