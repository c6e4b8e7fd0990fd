//! Homes behind routers as nodes of one mesh, as it can be raised today: a public node founds the
//! organisation and invites, for who is invited must be able to dial it.

use anyhow::ensure;

use crate::lab::Lab;
use crate::nat::NatKind;
use crate::runner::Place;
use crate::transcript::{found_org, join};

/// The name of the public node.
pub const PUBLIC: &str = "public";

/// Builds the homes and a public one, and makes them a mesh whose nodes run.
///
/// # Errors
/// A network cannot be built, or a node does not join: one that may only go out to one port does
/// not.
pub fn raise(place: &Place, homes: &[(&str, NatKind)]) -> anyhow::Result<Lab> {
    ensure!(
        homes.iter().all(|(name, _)| *name != PUBLIC),
        "there is a public node already"
    );
    let all = [&[(PUBLIC, NatKind::Open)], homes].concat();
    let lab = Lab::behind(&all, &place.folder, &place.programs)?;
    found_org("mesh", lab.home(PUBLIC)?)?;
    for (name, _) in homes {
        join(lab.home(PUBLIC)?, lab.home(name)?)?;
    }
    Ok(lab)
}
