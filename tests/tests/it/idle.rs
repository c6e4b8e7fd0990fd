//! What a node costs when nobody asks anything of it: memory and processor of its daemon and of the
//! helper that holds its network, in a mesh that has stood for a while and runs one service.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::runner::Place;
use mesh_tests::until::until;

use crate::street::Street;

/// The bar's limits for each node.
const RSS_MIB_MAX: f64 = 60.0;
const CPU_PERCENT_MAX: f64 = 1.0;

/// Connections, summaries and the order's records come to rest before anything is measured.
const SETTLE: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(60);

/// Memory and processor time of a node's processes.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    rss_mib: f64,
    cpu: Duration,
}

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

fn rest(time: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    until("the nodes have rested", 2 * time, || {
        Ok((time <= start.elapsed()).then_some(()))
    })
}

/// Adds up a node's daemon and the children that are helpers of its own, not instances.
fn cost_of(home: &Home) -> anyhow::Result<Cost> {
    let daemon = home.daemon()?.to_string();
    let mut sum = cost_of_process(&daemon).context("the daemon is gone")?;
    for task in fs::read_dir(format!("/proc/{daemon}/task"))?.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            // A helper that ends meanwhile costs nothing any more.
            let cost = cost_of_process(child).filter(|_| name.starts_with("mesh"));
            let Cost { rss_mib, cpu } = cost.unwrap_or_default();
            (sum.rss_mib, sum.cpu) = (sum.rss_mib + rss_mib, sum.cpu + cpu);
        }
    }
    Ok(sum)
}

/// Reads proc(5): resident pages, and the ticks spent in user and in kernel mode.
fn cost_of_process(pid: &str) -> Option<Cost> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = rss.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces; what follows its closing parenthesis has not.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, kernel): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let tick = Duration::from_millis(10);
    Some(Cost {
        rss_mib: kib / 1024.0,
        cpu: tick.saturating_mul(user.saturating_add(kernel)),
    })
}
