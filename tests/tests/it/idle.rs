//! What a node costs when nobody asks anything of it: memory and processor of its daemon and of the
//! helper that holds its network, in a mesh that has stood for a while and runs one service.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::processes::{self, Cost};
use mesh_tests::runner::Place;
use mesh_tests::until::rest;

use crate::street::Street;

/// The bar's limits for each node.
const RSS_MIB_MAX: f64 = 60.0;
const CPU_PERCENT_MAX: f64 = 1.0;

/// Connections, summaries and the order's records come to rest before anything is measured.
const SETTLE: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(60);

/// Lets four nodes rest and measures the dearest.
pub fn idle_node_is_cheap(place: &Place) -> anyhow::Result<()> {
    let street = Street::raise(place, |_| Ok(()))?;
    let cast = &street.cast;
    let order = ["order", "postgres", "--name", "crm-db", "--org", "library"];
    cast.bakery.meshctl(&order)?.ok()?;
    rest(SETTLE)?;
    let start = Instant::now();
    let before = cast.all().map(cost_of);
    rest(MEASURED)?;
    let after = cast.all().map(cost_of);
    let seconds = start.elapsed().as_secs_f64();
    let (mut rss_mib, mut percent) = (0.0f64, 0.0f64);
    for ((home, before), after) in cast.all().iter().zip(before).zip(after) {
        let (before, after) = (before?, after?);
        let spent = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let used = 100.0 * spent / seconds;
        println!("{}: {:.1} MiB, {used:.2} %", home.name, after.rss_mib);
        (rss_mib, percent) = (rss_mib.max(after.rss_mib), percent.max(used));
    }
    let holds = rss_mib <= RSS_MIB_MAX && percent <= CPU_PERCENT_MAX;
    let text = format!(
        "dearest of four: {rss_mib:.1} MiB RSS, {percent:.2} % of a core in {seconds:.0} s"
    );
    let figure = Figure {
        bar: "first.idle".to_owned(),
        text,
        holds,
    };
    figure.hold()
}

/// Adds up a node's daemon and the children that are helpers of its own, not instances.
fn cost_of(home: &Home) -> anyhow::Result<Cost> {
    let daemon = home.daemon()?;
    let mut sum = processes::cost(daemon).context("the daemon is gone")?;
    for child in processes::children(daemon) {
        let name = processes::name(child);
        // A helper that ends meanwhile costs nothing any more.
        let cost = processes::cost(child).filter(|_| name.starts_with("mesh"));
        let Cost { rss_mib, cpu } = cost.unwrap_or_default();
        (sum.rss_mib, sum.cpu) = (sum.rss_mib + rss_mib, sum.cpu + cpu);
    }
    Ok(sum)
}
