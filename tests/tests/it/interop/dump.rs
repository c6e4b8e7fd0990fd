//! Ten thousand routes come from babeld and go on to another.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::ensure;
use mesh_tests::routers::{Babeld, Ours};
use mesh_tests::runner::Place;
use mesh_tests::until::until;
use mesh_tests::yard::Yard;

use super::SOON;

const COUNT: usize = 10_000;
const ALL: &str = "2001:db8:f000::/36";

/// How long the table may take from end to end.
const LIMIT: Duration = Duration::from_secs(60);

/// What we may use for it: the daemons' own kind of sizes, and generous.
const MEMORY_MAX_KIB: u64 = 64 * 1024;

pub fn ten_thousand_routes_pass(place: &Place) -> anyhow::Result<()> {
    let yard = Yard::new(place, &["source", "ours", "sink"])?;
    yard.cable(("source", "e0"), ("ours", "e0"))?;
    yard.cable(("ours", "e1"), ("sink", "e0"))?;
    // The other end of a cable that leads nowhere.
    yard.cable(("source", "n0"), ("source", "n1"))?;
    let mut batch = String::new();
    for number in 0..COUNT {
        writeln!(
            batch,
            "route add 2001:db8:f{:03x}:{:x}::/64 dev n0 proto 99",
            number / 100,
            number % 100
        )?;
    }
    let file = yard.file("routes");
    std::fs::write(&file, batch)?;
    yard.shell("source", &format!("ip -6 -batch {}", file.display()))?;

    let mut ours = Ours::start(&yard, "ours", &["e0", "e1"], None, &[])?;
    let sink = Babeld::start(&yard, "sink", &[("e0", "")], None, &[])?;
    yard.meet("ours", "sink", SOON)?;
    let (small, _) = ours.memory()?;
    let start = Instant::now();
    let lines = [format!("redistribute ip {ALL} proto 99 allow")];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let source = Babeld::start(&yard, "source", &[("e0", "")], None, &lines)?;
    let mut times = [0.0; 2];
    for (plot, time) in ["ours", "sink"].into_iter().zip(&mut times) {
        until(&format!("all routes are at {plot}"), LIMIT, || {
            let count = yard.route_count(plot, Some(ALL))?;
            Ok((count == COUNT).then_some(()))
        })?;
        *time = start.elapsed().as_secs_f64();
    }
    let (large, most) = ours.memory()?;
    let (theirs, refused) = (sink.memory()?, ours.count("table-full")?);
    println!(
        "measured: {COUNT} routes from babeld: {:.1} s to us, {:.1} s to the babeld behind us; \
         memory ours {small} KiB before, {large} KiB after, {most} KiB at most; \
         babeld {theirs} KiB",
        times[0], times[1]
    );
    ensure!(refused == 0, "{refused} updates found no room");
    ensure!(most <= MEMORY_MAX_KIB, "{most} KiB are too many");
    let start = Instant::now();
    drop(source);
    for plot in ["ours", "sink"] {
        until(&format!("all routes are gone from {plot}"), LIMIT, || {
            let count = yard.route_count(plot, Some(ALL))?;
            Ok((count == 0).then_some(()))
        })?;
    }
    println!(
        "measured: {:.1} s until all were gone",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
