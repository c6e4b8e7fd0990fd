//! Who may not come in is told so: invites that are forged, used or of another mesh.

use anyhow::{Context as _, ensure};
use mesh_tests::lab::Lab;
use mesh_tests::runner::Place;
use mesh_tests::transcript::found_org;

/// Exit code of a refusal for lack of rights.
const NOT_AUTHORISED: i32 = 4;

/// Tries to join with invites that open nothing.
pub fn stranger_is_refused(place: &Place) -> anyhow::Result<()> {
    let names = ["bakery-1", "bakery-2", "stranger-1"];
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    let (bakery, member, stranger) = (
        lab.home("bakery-1")?,
        lab.home("bakery-2")?,
        lab.home("stranger-1")?,
    );
    found_org("bakery", bakery)?;
    let invite = bakery
        .meshctl(&["member", "invite", "--role", "node"])?
        .value()?;

    let forged = forge(&invite).context("an invite is too short to be forged")?;
    let knocked = stranger.meshnode(&["join", &forged, "--name", "stranger-1", "--yes"])?;
    ensure!(
        knocked.code != 0,
        "a forged invite opens the door:\n{knocked}"
    );
    knocked.refused(knocked.code, "")?;

    member
        .meshnode(&["join", &invite, "--name", "bakery-2", "--yes"])?
        .ok()?;
    let replayed = stranger.meshnode(&["join", &invite, "--name", "stranger-1", "--yes"])?;
    replayed.refused(NOT_AUTHORISED, "")?;
    let status = bakery.meshnode(&["status", "--json"])?.json()?;
    let counted = status
        .get("refusals")
        .and_then(|refusals| refusals.as_object());
    let is_told = counted.is_some_and(|counted| counted.keys().any(|key| key.contains("join")));
    ensure!(
        is_told,
        "the refusing side does not count its refusal: {status}"
    );
    Ok(())
}

/// Changes one character in the middle of an invite.
fn forge(invite: &str) -> Option<String> {
    let middle = invite.len() / 2;
    let (head, tail) = invite.split_at_checked(middle)?;
    let first = tail.chars().next()?;
    let other = if first == 'a' { 'b' } else { 'a' };
    Some(format!("{head}{other}{}", tail.get(first.len_utf8()..)?))
}
