//! `meshnode routes`, `peers`, `ping --path` and `trace` show what is true, and go on doing so when
//! a cable is pulled.
//!
//! ```text
//!   bakery-1 ══ bakery-2 ══ library-2 ══ library-1      first closed to a ring by a fourth cable
//! ```

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mesh_tests::cables::Cables;
use mesh_tests::home::{Home, see_each_other};
use mesh_tests::runner::Place;
use mesh_tests::said::{array, at};
use mesh_tests::transcript::Cast;
use mesh_tests::until::until;
use serde_json::Value;

use crate::street::Street;

/// How long a mesh may take to find its ways after everything was rewired.
const SOON: Duration = Duration::from_secs(60);

/// How nodes are called everywhere in the mesh.
const NEXT: &str = "bakery-2.bakery";
const THIRD: &str = "library-2.library";
const FAR: &str = "library-1.library";

/// Exit codes of what cannot be reached, does not answer, is not there.
const UNREACHABLE: i32 = 3;
const NOT_FOUND: i32 = 5;

/// Goes round the ring, pulls the cable that closes it, then one in the middle.
pub fn ways_are_explained(place: &Place) -> anyhow::Result<()> {
    let street = Street::raise(place, |_| Ok(()))?;
    let [bakery, bakery_2, library, library_2] = Cast::NAMES;
    see_each_other(&street.cast.all(), SOON)?;
    let ring = [
        (bakery, bakery_2),
        (bakery_2, library_2),
        (library_2, library),
        (library, bakery),
    ];
    let cables = Cables::lay(&street.lab, &ring)?;
    let home = street.cast.bakery.quietly();
    on_the_ring(&home)?;
    cables.pull(library, bakery)?;
    along_the_line(&home)?;
    cables.pull(bakery_2, library_2)?;
    behind_the_cut(&home)?;
    cables.plug(bakery_2, library_2)?;
    until("the way is back", SOON, || {
        Ok(path_to(&home, FAR)?.filter(|it| it.len() == 3))
    })?;
    drop(cables);
    Ok(())
}

/// The far corner is reached both ways round; one of them is used, the other is ready.
fn on_the_ring(home: &Home) -> anyhow::Result<()> {
    until(
        "the node behind the fourth cable is a neighbour",
        SOON,
        || Ok(path_to(home, FAR)?.filter(|it| *it == [FAR])),
    )?;
    let row = until("both ways to the far corner are known", SOON, || {
        let row = one_route(home, "library-2")?;
        Ok(row.filter(|row| array(row, "ways").len() == 2))
    })?;
    let ways = array(&row, "ways");
    let used: Vec<&Value> = ways
        .iter()
        .filter(|it| at(it, "selected") == true)
        .collect();
    let [used] = used[..] else {
        bail!("one way is used: {row}");
    };
    ensure!(
        at(used, "via") == at(&row, "next_hop"),
        "the one that is said: {row}"
    );
    ensure!(
        at(used, "feasible") == true && text(used, "why") == "in use",
        "with its reason: {row}"
    );
    let mut vias: Vec<&str> = ways.iter().map(|it| text(it, "via")).collect();
    vias.sort_unstable();
    ensure!(vias == [NEXT, FAR], "through either side: {row}");
    Ok(())
}

fn along_the_line(home: &Home) -> anyhow::Result<()> {
    let path = until("packets go along the line", SOON, || {
        Ok(path_to(home, FAR)?.filter(|it| it.len() == 3))
    })?;
    ensure!(path == [NEXT, THIRD, FAR], "over these nodes: {path:?}");
    let ping = home
        .meshnode(&["ping", FAR, "--count", "1", "--json"])?
        .json()?;
    ensure!(
        at(&ping, "hops_there") == 3
            && at(&ping, "hops_back") == 3
            && array(&ping, "path").is_empty(),
        "the plain ping counts the links: {ping}"
    );
    let trace = home.meshnode(&["trace", "library-1", "--json"])?.json()?;
    ensure!(at(&trace, "reached") == true, "the trace arrives: {trace}");
    let hops: Vec<(&Value, &str)> = array(&trace, "hops")
        .iter()
        .map(|hop| (at(hop, "hop"), text(hop, "node")))
        .collect();
    ensure!(
        hops == [(&1.into(), NEXT), (&2.into(), THIRD), (&3.into(), FAR)],
        "over the same nodes: {trace}"
    );
    let far = route(home, FAR)?.context("there is a route to the far end")?;
    ensure!(
        text(&far, "next_hop") == NEXT && text(&far, "state") == "selected",
        "the next hop is the neighbour: {far}"
    );
    let part = |name: &str| at(&far, name).as_u64();
    let parts = ["behind", "link_cost", "rtt_cost", "penalty"];
    let sum: Option<u64> = parts.into_iter().map(part).sum();
    ensure!(
        sum.is_some() && sum == part("metric"),
        "the parts make the metric: {far}"
    );
    ensure!(
        at(&far, "hops") == 3,
        "its parcels cross three links: {far}"
    );
    ensure!(
        route(home, NEXT)?
            .is_some_and(|near| at(&near, "hops") == 1 && at(&near, "metric").is_u64()),
        "the neighbour is one link away"
    );
    peers(home)?;
    for (words, find) in [
        (&["routes"][..], FAR),
        (&["routes", "library-1"], "why"),
        (&["peers"], "direct"),
        (&["netcheck"], "through bakery-2.bakery"),
        (&["trace", "library-1"], THIRD),
        (&["ping", "library-1", "--path", "--count", "1"], " → "),
    ] {
        let said = home.meshnode(words)?.ok()?;
        ensure!(said.stdout.contains(find), "people see it too: {said}");
    }
    let said = home.meshnode(&["ping", "castle-1", "--count", "1"])?;
    ensure!(
        said.code == NOT_FOUND,
        "a wrong name is told at once: {said}"
    );
    Ok(())
}

fn peers(home: &Home) -> anyhow::Result<()> {
    let answer = home.meshnode(&["peers", "--json"])?.json()?;
    let link = |name: &str| {
        let links = array(&answer, "links");
        let link = links.iter().find(|link| at(link, "name") == name);
        link.with_context(|| format!("{name} is no peer: {answer}"))
    };
    let near = link(NEXT)?;
    ensure!(
        at(at(near, "way"), "way") == "direct",
        "the neighbour is direct: {near}"
    );
    let seen = at(near, "neighbour");
    ensure!(
        text(seen, "hellos").starts_with('1') || text(seen, "unicast_hellos").starts_with('1'),
        "its last hello came: {near}"
    );
    ensure!(
        at(seen, "rtt_us").is_u64() && at(seen, "txcost").is_u64() && at(seen, "up_ms").is_u64(),
        "it is measured: {near}"
    );
    ensure!(
        at(near, "endpoint").is_string(),
        "its endpoint is known: {near}"
    );
    let far = link(FAR)?;
    ensure!(
        at(at(far, "way"), "way") == "around"
            && at(at(far, "way"), "via") == NEXT
            && at(at(far, "way"), "hops") == 3,
        "the far end is reached through it: {far}"
    );
    ensure!(
        at(far, "neighbour").is_null(),
        "and is no neighbour any more: {far}"
    );
    Ok(())
}

fn behind_the_cut(home: &Home) -> anyhow::Result<()> {
    until(
        "both nodes behind the cut are known to be lost",
        SOON,
        || {
            let mut lost = true;
            for name in [THIRD, FAR] {
                lost &= route(home, name)?.is_none_or(|row| at(&row, "next_hop").is_null());
            }
            Ok(lost.then_some(()))
        },
    )?;
    let near = route(home, NEXT)?.context("the neighbour is still there")?;
    ensure!(text(&near, "state") == "selected", "and reached: {near}");
    for words in [
        &["ping", FAR, "--count", "1", "--json"][..],
        &["trace", FAR, "--json"],
    ] {
        let said = home.meshnode(words)?;
        ensure!(
            said.code == UNREACHABLE && said.stdout.contains("there is no route to library-1"),
            "the cause is told: {said}"
        );
    }
    until("status counts them", SOON, || {
        let status = home.status()?;
        let count = |word: &str| at(at(&status, "routing"), word).as_u64();
        let told = count("unreachable-members") == Some(2) && count("neighbours") == Some(1);
        Ok((told && count("lost").is_some_and(|lost| 2 <= lost)).then_some(()))
    })
}

/// Returns who is on the way to a node; none while something there does not answer.
fn path_to(home: &Home, name: &str) -> anyhow::Result<Option<Vec<String>>> {
    let said = home.meshnode(&["ping", name, "--path", "--count", "1", "--json"])?;
    if said.code != 0 {
        return Ok(None);
    }
    let ping = said.json()?;
    let path = array(&ping, "path")
        .iter()
        .map(|hop| at(hop, "node").as_str());
    Ok(path.map(|node| node.map(str::to_owned)).collect())
}

/// Returns the row of one node in the list of all.
fn route(home: &Home, name: &str) -> anyhow::Result<Option<Value>> {
    let answer = home.meshnode(&["routes", "--json"])?.json()?;
    let rows = array(&answer, "routes");
    Ok(rows.iter().find(|row| at(row, "node") == name).cloned())
}

/// Returns everything about one node; none while there is no route.
fn one_route(home: &Home, name: &str) -> anyhow::Result<Option<Value>> {
    let said = home.meshnode(&["routes", name, "--json"])?;
    if said.code == UNREACHABLE {
        return Ok(None);
    }
    let answer = said.json()?;
    Ok(array(&answer, "routes").first().cloned())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    at(value, field).as_str().unwrap_or_default()
}
