//! Writes `docs/reports/election.md` and its drawings from a run: no figure in it is by hand.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::failover;
use super::figures::{Sample, Share};
use super::fleet::{self, Plan, Summary};
use super::plot::{Curve, Plot};
use super::world::Kind;
use crate::runner;

/// Datagrams lost of a thousand in the table over loss.
const LOSSES: [u64; 7] = [0, 10, 50, 100, 200, 300, 400];
/// Seeds and fail-overs of each of its lines.
const SEEDS: u64 = 8;
const FAILOVERS: u64 = 500;

/// One line of the table over loss.
struct Row {
    loss: u64,
    ours: Sample,
    unasked: u64,
    bully: Sample,
}

/// Measures and writes. Returns whether every promise held.
pub fn write(seeds: u64, folder: &Path) -> anyhow::Result<bool> {
    let summary = fleet::measure(
        &Plan {
            from: 1,
            seeds,
            jobs: 2,
        },
        &[],
    );
    let rows: Vec<Row> = LOSSES.into_iter().map(row).collect();
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("election.md", page(&summary, &rows))?;
    put("election-failover.svg", distribution(&summary).to_svg())?;
    put("election-loss.svg", over_loss(&rows).to_svg())?;
    Ok(summary.holds())
}

fn row(loss: u64) -> Row {
    let times = |kind| {
        let runs = runner::each(2, &[], &(1..1 + SEEDS), |seed| {
            failover::run(seed, kind, loss, FAILOVERS, None)
        });
        let unasked = runs.values().map(|run| run.unasked).sum();
        let all = runs.into_values().flat_map(|run| run.micros);
        (Sample::of(all.collect()), unasked)
    };
    let (ours, unasked) = times(Kind::Ours);
    let (bully, _) = times(Kind::Bully);
    Row {
        loss,
        ours,
        unasked,
        bully,
    }
}

fn page(summary: &Summary, rows: &[Row]) -> String {
    let mut page = String::from(OPENING);
    safety(&mut page, summary);
    speed(&mut page, summary);
    quiet(&mut page, summary);
    loss(&mut page, rows);
    let _ = write!(
        page,
        "\nRepeat it: `cargo run --profile sim -p meshsim -- report election --seeds {}`. The same \
         seeds give the same figures.\n",
        summary.seeds
    );
    page
}

const OPENING: &str = "# How often an election fails, and how long that lasts

Chandra, Hadzilacos, Toueg and Charron-Bost (1996) prove that in an asynchronous network with
crashes no protocol both keeps one agreed membership and always makes progress. No election is \
perfect, ours
neither. It divides the two halves: safety rests on terms that are on disk before anybody hears of
them and on executors that refuse lower ones, never on a clock; progress rests on time and chance.
So the probability of failure has two parts, and both are measured here.

The very core that nodes are to use runs in the simulator: RTT 40 ms with jitter and a tail, bursts
of loss of 50 to 400 ms every twenty seconds on each line, clocks up to 200 ppm wrong, disks of 1 to
60 ms. The bully is the comparator: the highest voter that is reached leads, with the same timeouts.
A bound is the upper end of the 95 % interval; for what never happened it is 3/N.
";

fn safety(page: &mut String, summary: &Summary) {
    let broken = Share {
        hits: summary.failed.len(),
        cases: usize::try_from(summary.seeds).unwrap_or(usize::MAX),
    };
    let percent = |share: Share| share.value() * 100.0;
    let _ = write!(
        page,
        "\n## Safety\n\nStorms of crashes, sleep, one-way and partial cuts, partitions, up to \
         20 % loss, late and doubled datagrams, and in about one of seven clocks up to 40 % wrong: \
         {} virtual \
         seconds with three and five voters. \
         Checked at every event: a term is won once; no two leases are valid at once (while \
         clocks are at most 900 ppm wrong); every later leader begins with every record that was \
         safe; an executor obeys no lower term.\n\n\
         | | ours | bully |\n|---|---|---|\n\
         | storms with a broken promise | {broken} | not asked |\n\
         | time with two leaders at once | {:.2} %, wild clocks only | {:.1} % |\n\
         | time without a leader | {:.1} % | {:.1} % |\n\n\
         The bully has one more often because it does not mind having two. Ours has none while no \
         majority is up and hears each other, which is what these storms are for.\n",
        summary.storm_seconds,
        percent(summary.split),
        percent(summary.bully_split),
        percent(summary.unled),
        percent(summary.bully_unled),
    );
}

fn speed(page: &mut String, summary: &Summary) {
    let (ours, bully) = (&summary.ours, &summary.bully);
    let _ = write!(
        page,
        "\n## Fail-over\n\nThree voters, 1 % loss. The leader crashes (60 %), sleeps (20 %) or is \
         cut off (20 %); counted is the time until another one has a lease.\n\n\
         | | ours | bully |\n|---|---|---|\n\
         | fail-overs | {} | {} |\n",
        ours.len(),
        bully.len()
    );
    let lines = [
        ("p50", 5000),
        ("p99", 9900),
        ("p99.99", 9999),
        ("worst", 10_000),
    ];
    for (name, of) in lines {
        let _ = writeln!(
            page,
            "| {name} | {:.2} s | {:.2} s |",
            ours.quantile(of),
            bully.quantile(of)
        );
    }
    for seconds in [2, 5, 10] {
        let above = |sample: &Sample| Share {
            hits: sample.above(seconds),
            cases: sample.len(),
        };
        let _ = writeln!(
            page,
            "| P(> {seconds} s) | {} | {} |",
            above(ours),
            above(bully)
        );
    }
    let _ = write!(
        page,
        "\nOne fail-over a week of {:.2} s on average is {:.0} s a year. Between the failures {} \
         leaders changed although none had failed.\n\n\
         ![Share of fail-overs that ended within a time](election-failover.svg)\n",
        ours.mean(),
        ours.mean() * 365.25 / 7.0,
        summary.unasked
    );
}

fn quiet(page: &mut String, summary: &Summary) {
    page.push_str(
        "\n## Nobody fails\n\nEight hours each, three voters. *HalfBroken*: the leader and one \
         follower do not hear each other for 10 to 60 s, again and again; *OneWay*: the follower \
         does not hear the leader. Without sounding first (pre-vote) such links change the leader \
         when they heal; the planted bug shows it.\n\n| trouble | loss | leader \
         changes |\n|---|---|---|\n",
    );
    for shift in &summary.shifts {
        let loss = shift.cell.loss as f64 / 10.0;
        let _ = writeln!(
            page,
            "| {:?} | {loss} % | {} |",
            shift.cell.trouble, shift.changes
        );
    }
}

fn loss(page: &mut String, rows: &[Row]) {
    page.push_str(
        "\n## Over loss\n\nFail-overs as above. *Without a leader* is what one fail-over a week \
         costs.\n\n\
         | loss | fail-overs | p50 | p99 | worst | P(> 5 s) | without a leader | changes unasked | \
         bully p50 | bully p99 |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let slow = Share {
            hits: row.ours.above(5),
            cases: row.ours.len(),
        };
        let _ = writeln!(
            page,
            "| {} % | {} | {:.2} s | {:.2} s | {:.2} s | {slow} | {:.0} s a year | {} | {:.2} s \
             | {:.2} s |",
            row.loss as f64 / 10.0,
            row.ours.len(),
            row.ours.quantile(5000),
            row.ours.quantile(9900),
            row.ours.quantile(10_000),
            row.ours.mean() * 365.25 / 7.0,
            row.unasked,
            row.bully.quantile(5000),
            row.bully.quantile(9900),
        );
    }
    page.push_str("\n![Fail-over over loss](election-loss.svg)\n");
}

fn distribution(summary: &Summary) -> Plot {
    let curve = |name, sample: &Sample| Curve {
        name,
        points: (0..=300_u16)
            .map(|step| f64::from(step) / 100.0)
            .map(|seconds| (seconds, sample.within(seconds)))
            .collect(),
    };
    Plot {
        title: "Fail-overs that ended within a time, 3 voters, 1 % loss",
        across: "seconds",
        up: "share",
        across_max: 3.0,
        up_max: 1.0,
        curves: vec![curve("ours", &summary.ours), curve("bully", &summary.bully)],
    }
}

fn over_loss(rows: &[Row]) -> Plot {
    let curve = |name, of_10_000| Curve {
        name,
        points: rows
            .iter()
            .map(|row| (row.loss as f64 / 10.0, row.ours.quantile(of_10_000)))
            .collect(),
    };
    let curves = vec![curve("p50", 5000), curve("p99", 9900)];
    let points = curves.iter().flat_map(|curve| &curve.points);
    let highest = points.map(|(_, seconds)| *seconds).fold(1.0, f64::max);
    Plot {
        title: "Time of a fail-over over loss, 3 voters",
        across: "datagrams lost, %",
        up: "seconds",
        across_max: 40.0,
        up_max: highest.ceil(),
        curves,
    }
}
