//! The screens that a user meets when something lacks: cause, next step, exit code.

use std::time::Duration;

use mesh_tests::home::Home;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{TERMS, agree, found_org};
use mesh_tests::until::until;

/// Exit codes, as documented.
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;
const NOT_FOUND: i32 = 5;
const CANNOT_PLACE: i32 = 9;

/// Meets them all.
pub fn screens(place: &Place) -> anyhow::Result<()> {
    let home = |name: &str| Home::new(name, place.folder.join(name), &place.programs);
    let (bakery, library) = (home("bakery-1"), home("library-1"));
    let refused = |arguments: &[&str], code: i32, cause: &str| {
        bakery.meshctl(arguments)?.refused(code, cause)
    };

    // No daemon, before and after there is a node.
    refused(&["ps"], UNREACHABLE, "")?;
    bakery.configure("capacity.slots", 0)?;
    library.configure("capacity.slots", 0)?;
    found_org("bakery", &bakery)?;
    found_org("library", &library)?;

    refused(&["order", "postgrse"], NOT_FOUND, "postgrse")?;
    refused(&["show", "nothing"], NOT_FOUND, "nothing")?;
    refused(
        &["order", "postgres", "--set", "colour=red"],
        USAGE,
        "colour",
    )?;
    refused(&["ordre", "postgres"], USAGE, "ordre")?;
    refused(&["order", "postgres", "--name", "Not A Name"], USAGE, "")?;
    // A neighbour that we do not know, then one that only buys from us, then one that is full.
    refused(
        &["order", "postgres", "--org", "library"],
        NOT_FOUND,
        "library",
    )?;
    agree(&bakery, &library, &TERMS)?;
    soon_refused(&bakery, "there is no agreement with its organisation")?;
    agree(&library, &bakery, &TERMS)?;
    soon_refused(&bakery, "not enough slots")?;

    bakery.stop()?;
    refused(&["ps"], UNREACHABLE, "")?;
    library.stop()
}

/// Waits until an order is refused for this reason: what the neighbour sells has to arrive first.
fn soon_refused(home: &Home, cause: &str) -> anyhow::Result<()> {
    until(cause, Duration::from_secs(30), || {
        let said = home.meshctl(&["order", "postgres", "--org", "library"])?;
        said.refused(CANNOT_PLACE, "")?;
        Ok(said.refused(CANNOT_PLACE, cause).is_ok().then_some(()))
    })
}
