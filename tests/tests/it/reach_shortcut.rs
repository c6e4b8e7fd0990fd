//! Two nodes that are no neighbours take the straight way that there is between them when they have
//! much to say, and leave it when it breaks.
//!
//! ```text
//!   leaf-1 ══ core-1 ══ core-2 ══ core-3 ══ leaf-2      the line: links, over which routing leads
//!      └───────────────────────────────────────┘       an open way: nobody links to a leaf
//! ```

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use mesh_tests::cables::Silence;
use mesh_tests::figures::Figure;
use mesh_tests::home::links_between;
use mesh_tests::lab::Lab;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::said::{array, at};
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::{rest, until};

use crate::lines::rewire;

const LINE: [&str; 5] = ["core-1", "core-2", "core-3", "leaf-1", "leaf-2"];
const CABLES: [(&str, &str); 5] = [
    ("leaf-1", "core-1"),
    ("core-1", "core-2"),
    ("core-2", "core-3"),
    ("core-3", "leaf-2"),
    ("leaf-1", "leaf-2"),
];

/// How long a mesh may take to find its ways.
const SOON: Duration = Duration::from_secs(60);

/// How long the flow is watched, and how much of it relays may carry after a start.
const START: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(5);
const SHARE_MAX: f64 = 0.01;

/// Longest gap when the straight way breaks without a word: the silence after which it is asked,
/// the questions, a step of the timer, and room for a busy machine.
const GAP_MAX: Duration = Duration::from_secs(3);

/// A flow of about a megabyte a second each way.
const FLOW: [&str; 6] = ["-q", "-n", "-i", "0.001", "-s", "1200"];

/// Sends much between the ends of a line.
pub fn flow_takes_the_straight_way(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&LINE, &place.folder, &place.programs)?;
    let first = lab.home("core-1")?;
    found_org("line", first)?;
    for name in &LINE[1..] {
        let home = lab.home(name)?;
        if name.starts_with("leaf") {
            home.configure("overlay.role", "leaf")?;
        }
        join(first, home)?;
    }
    let cables = rewire(&lab, &LINE, &CABLES)?;
    let (near, to) = (lab.home("leaf-1")?, lab.home("leaf-2")?.overlay_address()?);
    until("the line is the way", SOON, || {
        Ok(links_between(near, "leaf-2")?.filter(|links| *links == 4))
    })?;
    let mut flow = near
        .quietly()
        .ask("ping", &[&FLOW[..], &[to.as_str()]].concat())?;
    rest(START)?;
    let before = (relayed(&lab)?, sent(&lab)?);
    rest(WATCHED)?;
    let (relayed, sent) = (relayed(&lab)? - before.0, sent(&lab)? - before.1);
    ensure!(1 << 20 < sent, "only {sent} bytes were sent");
    let share = f64::from(u32::try_from(relayed)?) / f64::from(u32::try_from(sent)?);
    ensure!(
        links_between(near, "leaf-2")? == Some(1),
        "the way is not straight"
    );
    let mut pulse = Pulse::begin(near, &to, SOON)?;
    let since = SystemTime::now();
    cables.silence("leaf-1", "leaf-2", Silence::Both)?;
    let gap = pulse.outage(since, SOON)?;
    ensure!(
        links_between(near, "leaf-2")? == Some(4),
        "the line is the way again"
    );
    cables.heal("leaf-1", "leaf-2")?;
    until("the way is straight again", SOON, || {
        Ok(links_between(near, "leaf-2")?.filter(|links| *links == 1))
    })?;
    flow.so_far()?;
    let figure = Figure {
        bar: "reach.shortcut".to_owned(),
        text: format!(
            "{relayed} of {sent} bytes over relays ({:.2} %); silent for {:.2} s when it breaks",
            share * 100.0,
            gap.as_secs_f64()
        ),
        holds: share <= SHARE_MAX && gap <= GAP_MAX,
    };
    figure.hold()
}

/// Returns the bytes of others' parcels that the middle of the line handed on.
fn relayed(lab: &Lab) -> anyhow::Result<u64> {
    sum(lab, "core-2", |row| at(row, "relayed_bytes").as_u64())
}

/// Returns the bytes that the near end sent to the far end.
fn sent(lab: &Lab) -> anyhow::Result<u64> {
    sum(lab, "leaf-1", |row| {
        let is_end = at(row, "name")
            .as_str()
            .is_some_and(|name| name.starts_with("leaf-2"));
        let bytes = at(row, "sent_bytes").as_u64();
        if is_end { bytes } else { Some(0) }
    })
}

fn sum(
    lab: &Lab,
    of: &str,
    bytes: impl Fn(&serde_json::Value) -> Option<u64>,
) -> anyhow::Result<u64> {
    let answer = lab
        .home(of)?
        .quietly()
        .meshnode(&["peers", "--json"])?
        .json()?;
    let rows = array(&answer, "links").iter();
    let bytes: Option<Vec<u64>> = rows.map(bytes).collect();
    Ok(bytes.context("links have counts")?.into_iter().sum())
}
