//! Leaves and who takes them in: uplinks that are lost, refused, changed; and a mesh whose first
//! node is gone for good.
//!
//! ```text
//!           ┌── up-1 ──┐
//!   leaf-1 ─┤          ├─ mid ── far        of these five one is a leaf; on the street of six,
//!           └── up-2 ──┘                    two are
//! ```

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use mesh_tests::cables::{Cables, Silence};
use mesh_tests::home::{Home, see_each_other, sees};
use mesh_tests::lab::Lab;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::said::{array, at};
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;
use serde_json::Value;

/// How long a mesh may take to find its ways after everything was rewired; a leaf tries the next
/// uplink when one has not come up for half a minute.
const SOON: Duration = Duration::from_secs(90);

/// How long a leaf may be cut off when it loses one of two uplinks without a word.
const LOST_MAX: Duration = Duration::from_secs(5);

/// How long flows may stand still when an uplink is given up by choice.
const DRAIN_GAP_MAX: Duration = Duration::from_secs(1);

/// From the start until a leaf has changed an uplink: a minute, a trial, a drain.
const TURN: Duration = Duration::from_secs(150);

const FIVE: [&str; 5] = ["up-1", "up-2", "mid", "far", "leaf-1"];
const SIX: [&str; 6] = ["core-1", "core-2", "core-3", "core-4", "leaf-1", "leaf-2"];

/// Founds one organisation at the first of these homes; whose name says so is a leaf.
fn raise<'a>(lab: &'a Lab, names: &[&str]) -> anyhow::Result<Vec<&'a Home>> {
    let homes: anyhow::Result<Vec<&Home>> = names.iter().map(|name| lab.home(name)).collect();
    let homes = homes?;
    let (first, others) = homes.split_first().context("there is a first home")?;
    found_org("street", first)?;
    for home in others {
        home.configure("capacity.slots", 0)?;
        if home.name.starts_with("leaf") {
            home.configure("overlay.role", "leaf")?;
        }
        join(first, home)?;
    }
    Ok(homes)
}

/// Loses a leaf's uplink without a word, then leaves the leaf as the only way between two parts of
/// the mesh.
pub fn leaf_lives_on_two_uplinks(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&FIVE, &place.folder, &place.programs)?;
    let homes = raise(&lab, &FIVE)?;
    let [up_1, _, mid, far, leaf] = homes[..] else {
        anyhow::bail!("five homes");
    };
    see_each_other(&homes, SOON)?;
    let cables = Cables::lay(
        &lab,
        &[
            ("leaf-1", "up-1"),
            ("leaf-1", "up-2"),
            ("up-1", "mid"),
            ("up-2", "mid"),
            ("mid", "far"),
        ],
    )?;
    has_both_uplinks(leaf)?;
    is_explained(leaf, up_1, mid)?;
    // By its name, from the other end.
    let address = leaf.overlay_address()?;
    let name = "leaf-1.street.mesh.internal";
    until("the leaf's name is known at the far end", SOON, || {
        let words = ["+short", "@127.0.0.153", name, "AAAA"];
        let said = far.quietly().run("dig", &words)?;
        Ok((said.stdout.trim() == address).then_some(()))
    })?;
    let mut pulse = Pulse::begin(far, &address, SOON)?;
    loses_one(leaf, &cables, &mut pulse)?;
    carries_nobody(&lab, &cables, &mut pulse)
}

fn has_both_uplinks(leaf: &Home) -> anyhow::Result<()> {
    until("the leaf has both uplinks", SOON, || {
        Ok((uplinks(leaf)? == ["up-1", "up-2"]).then_some(()))
    })
}

/// The uplink in use falls silent, and comes back.
fn loses_one(leaf: &Home, cables: &Cables<'_>, pulse: &mut Pulse) -> anyhow::Result<()> {
    let used = default_way(leaf)?.context("the leaf has a default way")?;
    let since = SystemTime::now();
    cables.silence("leaf-1", &used, Silence::Both)?;
    let outage = pulse.outage(since, SOON)?;
    println!("measured: {used} silent: {:.3} s", outage.as_secs_f64());
    ensure!(outage <= LOST_MAX, "cut off for {outage:?}");
    cables.heal("leaf-1", &used)?;
    has_both_uplinks(leaf)
}

/// The uplink in use would reach the others through the leaf only, which is no way.
fn carries_nobody(lab: &Lab, cables: &Cables<'_>, pulse: &mut Pulse) -> anyhow::Result<()> {
    let leaf = lab.home("leaf-1")?;
    let lost = default_way(leaf)?.context("the leaf has a default way")?;
    let left = if lost == "up-1" { "up-2" } else { "up-1" };
    let since = SystemTime::now();
    cables.pull(&lost, "mid")?;
    for name in ["mid", "far", left] {
        until(&format!("{lost} is lost to {name}"), SOON, || {
            Ok((!reached(lab.home(name)?)?.contains(&lost)).then_some(()))
        })?;
    }
    until("the leaf no longer uses it", SOON, || {
        Ok((default_way(leaf)?.as_deref() == Some(left)).then_some(()))
    })?;
    let outage = pulse.outage(since, SOON)?;
    println!("measured: {lost} stranded: {:.3} s", outage.as_secs_f64());
    ensure!(outage <= LOST_MAX, "cut off for {outage:?}");
    let others = reached(lab.home(&lost)?)?;
    ensure!(others == ["leaf-1"], "{lost} reaches {others:?}");
    let relayed = links(leaf)?;
    let relayed = relayed.iter().map(|link| at(link, "relayed_bytes"));
    let relayed: u64 = relayed.filter_map(Value::as_u64).sum();
    ensure!(relayed == 0, "the leaf has carried {relayed} bytes");
    Ok(())
}

/// Both ends say what they are to each other; the leaf's table names its uplinks only.
fn is_explained(leaf: &Home, uplink: &Home, other: &Home) -> anyhow::Result<()> {
    let row = link(leaf, "up-1")?.context("an uplink is a peer")?;
    let place = at(&row, "place").as_str();
    ensure!(
        place == Some("near") || place == Some("random"),
        "the leaf has chosen it: {row}"
    );
    let row = link(uplink, "leaf-1")?.context("the leaf is a peer")?;
    ensure!(
        at(&row, "place") == "inbound" && at(&row, "leaf") == true,
        "the uplink was chosen: {row}"
    );
    let row = link(other, "leaf-1")?.context("the leaf is a peer of others too")?;
    ensure!(
        (at(&row, "place").is_null() || at(&row, "place") == "inbound") && at(&row, "leaf") == true,
        "nobody chooses a leaf: {row}"
    );
    ensure!(
        reached(leaf)? == ["up-1", "up-2"],
        "its table has its uplinks: {:?}",
        reached(leaf)?
    );
    until("the others' tables have everybody", SOON, || {
        Ok((reached(other)? == ["far", "leaf-1", "up-1", "up-2"]).then_some(()))
    })?;
    // What it had learnt on the street is forgotten when its retraction has been acknowledged.
    until("others are behind the leaf's default", SOON, || {
        let said = leaf.quietly().meshnode(&["routes", "far"])?.ok()?;
        Ok(said.stdout.contains("fd6d::/16").then_some(()))
    })?;
    let said = uplink.quietly().meshnode(&["peers"])?.ok()?;
    ensure!(
        said.stdout.contains("inbound, leaf"),
        "as people see it: {said}"
    );
    Ok(())
}

/// Lets two leaves ask four nodes that take in one each: the second finds the only one with room.
pub fn refused_leaf_finds_who_has_room(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&SIX, &place.folder, &place.programs)?;
    for name in SIX.into_iter().filter(|name| name.starts_with("core")) {
        lab.home(name)?.configure("overlay.inbound_max", 1)?;
    }
    let (last, before) = SIX.split_last().context("six homes")?;
    let homes = raise(&lab, before)?;
    let first = homes.first().context("a first home")?;
    let taken = until("the first leaf has three uplinks", SOON, || {
        Ok(Some(uplinks(lab.home("leaf-1")?)?).filter(|all| all.len() == 3))
    })?;
    let leaf = lab.home(last)?;
    leaf.configure("overlay.role", "leaf")?;
    join(first, leaf)?;
    let found = until("the second leaf has an uplink", SOON, || {
        Ok(Some(uplinks(leaf)?).filter(|all| !all.is_empty()))
    })?;
    let [found] = &found[..] else {
        anyhow::bail!("more than had room: {found:?}");
    };
    ensure!(!taken.contains(found), "{found} has room for one only");
    // Each other refused and named others; nobody took in more than it may.
    for home in homes.iter().filter(|home| home.name.starts_with("core")) {
        let inbound = links(home)?;
        let inbound = inbound.iter().filter(|link| at(link, "place") == "inbound");
        ensure!(inbound.count() == 1, "{} has one leaf", home.name);
    }
    let to = leaf.overlay_address()?;
    drop(Pulse::begin(lab.home("leaf-1")?, &to, SOON)?);
    Ok(())
}

/// Watches a leaf try a fourth uplink and give up another: nothing that flows over it notices.
pub fn uplink_that_is_given_up_drains_first(place: &Place) -> anyhow::Result<()> {
    let (last, names) = SIX.split_last().context("six homes")?;
    let lab = Lab::new(names, &place.folder, &place.programs)?;
    let homes = raise(&lab, names)?;
    let (leaf, cores) = homes.split_last().context("five homes")?;
    ensure!(leaf.name != *last && leaf.name == "leaf-1", "one leaf");
    let before = until("the leaf has three uplinks", SOON, || {
        Ok(Some(uplinks(leaf)?).filter(|all| all.len() == 3))
    })?;
    let mut pulses = Vec::new();
    for core in cores {
        pulses.push(Pulse::begin(leaf, &core.overlay_address()?, SOON)?);
        pulses.push(Pulse::begin(core, &leaf.overlay_address()?, SOON)?);
    }
    let since = SystemTime::now();
    // Of one answer: a moment later it may be gone.
    let (drains, there) = until("an uplink drains", TURN, || {
        let all = links(leaf)?;
        let found = all.iter().find(|link| at(link, "place") == "draining");
        Ok(found.map(|link| (short(at(link, "name")), usable(&all))))
    })?;
    ensure!(
        before.contains(&drains) && 4 <= there.len(),
        "the new one is there before {drains} goes: {there:?}"
    );
    until("it is given up", SOON, || {
        let ours = link(leaf, &drains)?.context("still a peer")?;
        let theirs = link(lab.home(&drains)?, "leaf-1")?.context("still a peer")?;
        Ok((at(&ours, "place").is_null() && at(&theirs, "place").is_null()).then_some(()))
    })?;
    ensure!(
        uplinks(leaf)?.len() == 3,
        "three are left: {:?}",
        uplinks(leaf)?
    );
    for pulse in &mut pulses {
        let gap = pulse.outage(since, SOON)?;
        ensure!(gap <= DRAIN_GAP_MAX, "a flow stood still for {gap:?}");
    }
    Ok(())
}

/// Ends the node through which all others joined, for good, then restarts the others at once.
pub fn mesh_outlives_the_node_it_was_joined_through(place: &Place) -> anyhow::Result<()> {
    let names = ["n1", "n2", "n3", "n4", "n5"];
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    for name in names {
        // From memory alone.
        lab.home(name)?.configure("network.mdns", "off")?;
    }
    let homes = raise(&lab, &names)?;
    let (first, others) = homes.split_first().context("a first home")?;
    for home in others {
        let rest: Vec<&str> = names.into_iter().filter(|it| *it != home.name).collect();
        sees(home, &rest, SOON)?;
    }
    first.kill_daemon()?;
    lab.cut("n1")?;
    fs::remove_dir_all(&first.folder).context("the first node's disk")?;
    for home in others {
        home.stop()?;
    }
    for home in others {
        home.start()?;
    }
    for home in others {
        let rest: Vec<&str> = others.iter().map(|it| it.name.as_str()).collect();
        let rest: Vec<&str> = rest.into_iter().filter(|it| *it != home.name).collect();
        sees(home, &rest, SOON)?;
        for other in others.iter().filter(|it| it.name != home.name) {
            drop(Pulse::begin(home, &other.overlay_address()?, SOON)?);
        }
    }
    Ok(())
}

/// Gives every machine another address while all daemons are down: what each knows of the others is
/// wrong, and the local network tells.
pub fn nodes_find_each_other_on_the_local_network(place: &Place) -> anyhow::Result<()> {
    let names = ["n1", "n2", "n3"];
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    let homes = raise(&lab, &names)?;
    let [one, two, deaf] = homes[..] else {
        anyhow::bail!("three homes");
    };
    for home in &homes {
        let rest: Vec<&str> = names.into_iter().filter(|it| *it != home.name).collect();
        sees(home, &rest, SOON)?;
    }
    for home in &homes {
        home.stop()?;
    }
    for (number, home) in (1..).zip(&homes) {
        home.ip("address flush dev eth0")?;
        home.ip(&format!("address add 10.78.0.{number}/24 dev eth0"))?;
    }
    deaf.configure("network.mdns", "off")?;
    for home in &homes {
        home.start()?;
    }
    sees(one, &["n2"], SOON)?;
    drop(Pulse::begin(one, &two.overlay_address()?, SOON)?);
    ensure!(
        uplinks(deaf)?.is_empty(),
        "who does not ask finds nobody: {:?}",
        uplinks(deaf)?
    );
    deaf.configure("network.mdns", "on")?;
    deaf.stop()?;
    deaf.start()?;
    sees(deaf, &["n1", "n2"], SOON)?;
    drop(Pulse::begin(deaf, &one.overlay_address()?, SOON)?);
    Ok(())
}

/// Returns the names of the neighbours whose links work both ways, in order.
fn uplinks(home: &Home) -> anyhow::Result<Vec<String>> {
    Ok(usable(&links(home)?))
}

/// Returns which of some links are usable uplinks, in order.
fn usable(all: &[Value]) -> Vec<String> {
    let usable = all
        .iter()
        .filter(|link| at(link, "place").is_string() && at(at(link, "neighbour"), "cost").is_u64());
    let mut names: Vec<String> = usable.map(|link| short(at(link, "name"))).collect();
    names.sort();
    names
}

/// Returns the nodes that a table has a way to, in order, without the node itself.
fn reached(home: &Home) -> anyhow::Result<Vec<String>> {
    let rows = routes(home)?;
    let there = rows
        .iter()
        .filter(|row| at(row, "state") == "selected" && at(row, "node").is_string());
    let mut names: Vec<String> = there.map(|row| short(at(row, "node"))).collect();
    names.sort();
    Ok(names)
}

/// Returns the uplink through which a leaf reaches everybody that its table does not name.
fn default_way(leaf: &Home) -> anyhow::Result<Option<String>> {
    let rows = routes(leaf)?;
    let row = rows.iter().find(|row| at(row, "prefix") == "fd6d::/16");
    let next = row
        .map(|row| at(row, "next_hop"))
        .filter(|it| it.is_string());
    Ok(next.map(short))
}

fn routes(home: &Home) -> anyhow::Result<Vec<Value>> {
    let answer = home.quietly().meshnode(&["routes", "--json"])?.json()?;
    Ok(array(&answer, "routes").to_vec())
}

fn links(home: &Home) -> anyhow::Result<Vec<Value>> {
    let answer = home.quietly().meshnode(&["peers", "--json"])?.json()?;
    Ok(array(&answer, "links").to_vec())
}

fn link(home: &Home, name: &str) -> anyhow::Result<Option<Value>> {
    let all = links(home)?.into_iter();
    Ok(all.into_iter().find(|link| short(at(link, "name")) == name))
}

/// Returns a name without its organisation.
fn short(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}
