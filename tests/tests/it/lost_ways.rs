//! A relay whose link is sound and whose routes are the best, and which loses what it should pass
//! on: nobody but the two ends can notice.
//!
//! ```text
//!        ┌══ r1 ══════════┐       r1 swallows datagrams above a length: hellos and updates are
//!     a ═╡                ╞═ b    short, packets of programs are long (a path whose MTU shrank),
//!        └══ r2 ══ r3 ════┘       then above a shorter one, so that every parcel with content goes
//! ```

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::lab::Lab;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::said::{array, at};
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::until;
use serde_json::Value;

use crate::lines::rewire;

const HOMES: [&str; 5] = ["a", "b", "r1", "r2", "r3"];
const CABLES: [(&str, &str); 5] = [
    ("a", "r1"),
    ("r1", "b"),
    ("a", "r2"),
    ("r2", "r3"),
    ("r3", "b"),
];
const BEST: &str = "r1.street";
const OTHER: &str = "r2.street";
const END: &str = "b.street";

/// How long a mesh may take to find its ways, or to forget what happened.
const SOON: Duration = Duration::from_secs(60);

/// Longest outage, and longest detour after the repair of a first fault.
const MOVE_MAX: Duration = Duration::from_secs(10);
const RETURN_MAX: Duration = Duration::from_secs(10);

/// What a program sends: long packets, as every download does.
const LONG: &str = "1200";
/// The default of `ping`.
const SHORT: &str = "56";

/// IP lengths above which `r1` swallows datagrams: long packets, and every parcel with a ping in
/// it. A hello with everything around it has less than 200 bytes.
const ABOVE_LONG: u32 = 700;
const ABOVE_SHORT: u32 = 230;

/// No TCP but across the overlay.
const NO_STREAM: &str = "add table inet wall; \
    add chain inet wall out { type filter hook output priority 0; }; \
    add rule inet wall out oifname != { \"mesh0\", \"lo\" } meta l4proto tcp drop; \
    add chain inet wall in { type filter hook input priority 0; }; \
    add rule inet wall in iifname != { \"mesh0\", \"lo\" } meta l4proto tcp drop";

/// Lets the better relay lose long packets, then all; both times traffic goes round it and comes
/// back.
pub fn relay_that_loses_packets_is_left_and_told(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&HOMES, &place.folder, &place.programs)?;
    let home = lab.home("a")?;
    found_org("street", home)?;
    for name in &HOMES[1..] {
        join(home, lab.home(name)?)?;
    }
    let cables = rewire(&lab, &HOMES, &CABLES)?;
    let home = home.quietly();
    let relay = lab.home("r1")?;
    // Else its links would take their streams, and nothing would be lost.
    relay.run("nft", &[NO_STREAM])?.ok()?;
    relay.stop()?;
    relay.start()?;
    until("the relay is back", SOON, || {
        let said = home.meshnode(&["ping", "r1", "--count", "1"])?;
        Ok((said.code == 0).then_some(()))
    })?;
    let first = hurt(&lab, &home, relay, (LONG, ABOVE_LONG))?;
    let second = hurt(&lab, &home, relay, (SHORT, ABOVE_SHORT))?;
    drop(cables);
    let moved = first.moved.max(second.moved);
    Figure {
        bar: "routing.lost-ways".to_owned(),
        text: format!(
            "long packets lost: moved in {:.1} s, told in {:.1} s, back {:.1} s after the repair; \
             all lost: {:.1} s, {:.1} s, {:.1} s",
            first.moved.as_secs_f64(),
            first.told.as_secs_f64(),
            first.back.as_secs_f64(),
            second.moved.as_secs_f64(),
            second.told.as_secs_f64(),
            second.back.as_secs_f64(),
        ),
        holds: moved <= MOVE_MAX && first.back <= RETURN_MAX,
    }
    .tell();
    Ok(())
}

/// How long things took.
struct Course {
    /// Longest time without an answer.
    moved: Duration,
    /// From the fault to the alarm.
    told: Duration,
    /// From the repair to the best way.
    back: Duration,
}

/// Breaks the relay for datagrams above a length, waits for the detour, repairs it and waits for
/// the best way.
fn hurt(
    lab: &Lab,
    home: &Home,
    relay: &Home,
    (size, above): (&str, u32),
) -> anyhow::Result<Course> {
    until("the best way is in use", SOON, || in_use(home, BEST))?;
    let address = lab.home("b")?.overlay_address()?;
    let mut pulse = Pulse::begin_sized(home, &address, size, SOON)?;
    let (since, clock) = (SystemTime::now(), Instant::now());
    let rules = format!(
        "table inet hole {{\n\
         chain in {{ type filter hook input priority -300; meta l4proto udp \
         meta length > {above} drop; }}\n}}"
    );
    relay.run("nft", &[&rules])?.ok()?;
    let moved = pulse.outage(since, SOON)?;
    let alarm = until("people are told", SOON, || alarm(home))?;
    let told = clock.elapsed();
    explained(home, &alarm)?;
    let neighbour = home.meshnode(&["ping", "r1", "--count", "1"])?;
    ensure!(
        neighbour.code == 0,
        "the relay itself is sound: {neighbour}"
    );
    relay.run("nft", &["delete table inet hole"])?.ok()?;
    let clock = Instant::now();
    until("the best way is in use again", SOON, || in_use(home, BEST))?;
    let back = clock.elapsed();
    until("the alarm is over", SOON, || {
        Ok(alarms(home)?.is_empty().then_some(()))
    })?;
    Ok(Course { moved, told, back })
}

/// Checks that every command which explains ways tells of it.
fn explained(home: &Home, alarm: &Value) -> anyhow::Result<()> {
    let word = |field: &str| at(alarm, field).as_str().unwrap_or_default();
    ensure!(
        (word("to"), word("via")) == (END, BEST),
        "which way is told: {alarm}"
    );
    ensure!(!at(alarm, "since").is_null(), "since when: {alarm}");
    until("the detour is in use", SOON, || in_use(home, OTHER))?;
    let said = home.meshnode(&["status"])?.ok()?;
    let words = format!("packets for {END} are lost over {BEST} since");
    ensure!(said.stdout.contains(&words), "status tells people: {said}");
    let said = home.meshnode(&["routes", "b"])?.ok()?;
    for words in [
        "packets were lost on another",
        "packets sent this way were lost",
    ] {
        ensure!(said.stdout.contains(words), "`{words}`: {said}");
    }
    until("the trace goes round it", SOON, || {
        let trace = home.meshnode(&["trace", "b", "--json"])?;
        Ok((trace.code == 0 && !trace.stdout.contains(BEST)).then_some(()))
    })?;
    until("status counts it", SOON, || {
        let status = home.status()?;
        let count = |word: &str| at(at(&status, "routing"), word).as_u64();
        let counted = count("ways-lost") == Some(1) && count("forwarding-differs") == Some(0);
        Ok((counted && count("penalties").is_some_and(|it| 1 <= it)).then_some(()))
    })
}

/// Returns whether packets for the far end go through a neighbour.
fn in_use(home: &Home, neighbour: &str) -> anyhow::Result<Option<()>> {
    let said = home.meshnode(&["routes", "b", "--json"])?;
    if said.code != 0 {
        return Ok(None);
    }
    let answer = said.json()?;
    let route = array(&answer, "routes").first();
    let route = route.context("a route to the far end")?;
    Ok((at(route, "next_hop") == neighbour).then_some(()))
}

fn alarm(home: &Home) -> anyhow::Result<Option<Value>> {
    Ok(alarms(home)?.into_iter().next())
}

fn alarms(home: &Home) -> anyhow::Result<Vec<Value>> {
    let status = home.status()?;
    Ok(array(&status, "lost_ways").to_vec())
}
