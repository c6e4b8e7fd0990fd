//! Who may not come in is told so, counted, and changes nothing.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::lab::Lab;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;

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
    ensure!(
        counted(bakery, "invite-used")? == 1,
        "the refusing side does not count its refusal"
    );
    Ok(())
}

/// How long word of a revocation, or a refusal, may take.
const SOON: Duration = Duration::from_secs(60);

/// What the rogue does, the word that it is counted by, and what both sides read.
const ROGUES: [(&str, &str, &str); 5] = [
    (
        "no-certificate",
        "no-certificate",
        "no certificate was shown",
    ),
    ("expired", "expired", "the certificate is valid from"),
    ("foreign-org", "foreign-org", "is not trusted here"),
    (
        "second-key",
        "second-key",
        "the address prefix belongs to another node",
    ),
    (
        "wrong-author",
        "wrong-author",
        "the head's signature does not match",
    ),
];

/// Sends everybody to the gate who must not pass it: bar first.gate.
pub fn seven_are_refused(place: &Place) -> anyhow::Result<()> {
    let names = ["bakery-1", "bakery-2", "bakery-3", "stranger-1"];
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    let (leader, member) = (lab.home("bakery-1")?, lab.home("bakery-2")?);
    let (sold, stranger) = (lab.home("bakery-3")?, lab.home("stranger-1")?);
    found_org("bakery", leader)?;
    let used = join(leader, member)?;
    join(leader, sold)?;
    connected(leader, 2)?;
    connected(member, 2)?;

    revoked_member_is_out(leader, member, sold)?;
    let before = quiet_heads(leader, member)?;
    let mut refused = 1;

    for (case, word, sentence) in ROGUES {
        rogue_is_refused(place, leader, stranger, case, word, sentence)
            .with_context(|| format!("case {case}"))?;
        refused += 1;
    }
    let replayed = stranger.meshnode(&["join", &used, "--name", "stranger-1", "--yes"])?;
    replayed.refused(NOT_AUTHORISED, "used already")?;
    ensure!(
        counted(leader, "invite-used")? == 1,
        "the replay is not counted"
    );
    in_log(leader, "used already")?;
    refused += 1;

    let after = quiet_heads(leader, member)?;
    ensure!(
        before == after,
        "the ledger has changed:\n{before}\n{after}"
    );
    connected(leader, 1)?;
    Figure {
        bar: "first.gate".to_owned(),
        text: format!("{refused} of 7 refused on both sides and counted; the ledger is as before"),
        holds: refused == 7,
    }
    .tell();
    Ok(())
}

/// Lets one home run twice, as from a copied disk.
pub fn cloned_home_raises_an_alarm(place: &Place) -> anyhow::Result<()> {
    let names = ["bakery-1", "bakery-2", "copy-1"];
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    let (leader, original, copy) = (
        lab.home("bakery-1")?,
        lab.home("bakery-2")?,
        lab.home("copy-1")?,
    );
    found_org("bakery", leader)?;
    join(leader, original)?;
    connected(leader, 1)?;
    original.stop()?;
    let (from, to) = (&original.folder, &copy.folder);
    let arguments = ["-a", &from.to_string_lossy(), &to.to_string_lossy()];
    original.run("cp", &arguments)?.ok()?;
    original.start()?;
    connected(leader, 1)?;
    copy.start()?;
    until("the clone is noticed", Duration::from_secs(120), || {
        let status = leader.quietly().meshnode(&["status"])?.value()?;
        Ok(status.contains("is used by two machines").then_some(()))
    })?;
    ensure!(0 < counted(leader, "clone")?, "the clone is not counted");
    Ok(())
}

/// Waits until a node has so many connections, and no more.
fn connected(home: &Home, count: usize) -> anyhow::Result<()> {
    until("the nodes are connected", SOON, || {
        let status = home.quietly().status()?;
        let peers = status.get("peers").and_then(|peers| peers.as_array());
        let peers = peers.context("no peers")?;
        let up = |peer: &&serde_json::Value| {
            peer.get("connected").and_then(|up| up.as_bool()) == Some(true)
        };
        Ok((peers.iter().filter(up).count() == count).then_some(()))
    })
}

/// Returns how often something was refused for this reason.
fn counted(home: &Home, word: &str) -> anyhow::Result<u64> {
    let status = home.quietly().status()?;
    let refusals = status.get("refusals").context("no refusals")?;
    Ok(refusals
        .get(word)
        .and_then(|count| count.as_u64())
        .unwrap_or(0))
}

/// Waits until a node's log says this.
fn in_log(home: &Home, sentence: &str) -> anyhow::Result<()> {
    until(sentence, SOON, || {
        Ok(home.log().contains(sentence).then_some(()))
    })
}

/// Revokes a member that runs: everybody hangs up, and it reads why when it comes again.
fn revoked_member_is_out(leader: &Home, member: &Home, sold: &Home) -> anyhow::Result<()> {
    let reason = "sold with its disk";
    let revoke = ["member", "revoke", &sold.name, "--reason", reason];
    leader.meshctl(&revoke)?.refused(2, "never be admitted")?;
    leader.meshctl(&[&revoke[..], &["--yes"]].concat())?.ok()?;
    connected(leader, 1)?;
    connected(member, 1)?;
    connected(sold, 0)?;
    for home in [leader, member] {
        until("the refusal is counted", SOON, || {
            Ok((0 < counted(home, "revoked")?).then_some(()))
        })?;
        in_log(home, reason)?;
    }
    // The one that was revoked dials again, and its own side says why it is not let in.
    in_log(sold, "the certificate was revoked")?;
    in_log(sold, reason)?;
    ensure!(0 < counted(sold, "refused-us")?, "its side does not count");
    Ok(())
}

/// Lets the rogue misbehave and looks at both sides.
fn rogue_is_refused(
    place: &Place,
    leader: &Home,
    stranger: &Home,
    case: &str,
    word: &str,
    sentence: &str,
) -> anyhow::Result<()> {
    let before = counted(leader, word)?;
    let rogue = place.programs.join("rogue");
    // Where its control network listens, seen from the street.
    let address = format!("10.77.0.1:{}", leader.port("control")?);
    let (root, node) = (leader.key("org-root.key"), leader.key("node.key"));
    let arguments = [case, &root, &node, &address];
    let said = stranger.run(&rogue.to_string_lossy(), &arguments)?;
    said.clone().ok().context("the rogue was not refused")?;
    let heard = format!("{}{}", said.stdout, said.stderr);
    ensure!(
        heard.contains(sentence),
        "the rogue does not read why:\n{heard}"
    );
    until("the refusal is counted", SOON, || {
        Ok((before < counted(leader, word)?).then_some(()))
    })?;
    in_log(leader, sentence)
}

/// Returns the heads of both nodes' ledgers, once both have the same and it rests.
fn quiet_heads(one: &Home, other: &Home) -> anyhow::Result<String> {
    let heads = |home: &Home| -> anyhow::Result<String> {
        let said = home.quietly().meshctl(&["ledger", "heads", "--json"])?;
        let heads = said.json()?;
        Ok(heads.get("heads").context("no heads")?.to_string())
    };
    until("the ledgers are equal", SOON, || {
        let (mine, theirs) = (heads(one)?, heads(other)?);
        Ok((mine == theirs).then_some(mine))
    })
}

/// Changes one character in the middle of an invite.
fn forge(invite: &str) -> Option<String> {
    let middle = invite.len() / 2;
    let (head, tail) = invite.split_at_checked(middle)?;
    let first = tail.chars().next()?;
    let other = if first == 'a' { 'b' } else { 'a' };
    Some(format!("{head}{other}{}", tail.get(first.len_utf8()..)?))
}
