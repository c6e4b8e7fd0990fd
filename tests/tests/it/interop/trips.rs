//! Round trips (RFC 9616): what we measure is what babeld measures.

use std::time::Duration;

use mesh_tests::routers::{Babeld, Ours};
use mesh_tests::runner::Place;
use mesh_tests::until::until;
use mesh_tests::yard::Yard;
use serde_json::Value;

use super::SOON;

/// How long a smoothed time may take to settle on a machine that is busy.
const SETTLED: Duration = Duration::from_secs(90);

/// The long cable's delay, and how far a measure may be off on a busy machine.
const DELAY_US: u64 = 60_000;
const SLACK_US: u64 = 8_000;

/// What a round trip of sixty milliseconds costs: 96 · (60 − 10) / (120 − 10), and for the slack.
const COST: std::ops::RangeInclusive<u64> = 40..=52;

/// One babeld with a short cable and a long one: our packets on the long one are held back behind
/// their time stamps, as if they had been on the way.
pub fn round_trips_agree(place: &Place) -> anyhow::Result<()> {
    let yard = Yard::new(place, &["near", "babeld", "far"])?;
    yard.cable(("near", "e0"), ("babeld", "e0"))?;
    yard.cable(("far", "e0"), ("babeld", "e1"))?;
    let mut near = Ours::start(&yard, "near", &["e0"], None, &["--rtt"])?;
    let delay = (DELAY_US / 1000).to_string();
    let words = ["--rtt", "--delay-ms", &delay];
    let mut far = Ours::start(&yard, "far", &["e0"], None, &words)?;
    let stamps = " enable-timestamps true rtt-min 10 rtt-max 120 max-rtt-penalty 96";
    let interfaces = [("e0", stamps), ("e1", stamps)];
    let babeld = Babeld::start(&yard, "babeld", &interfaces, None, &[])?;
    yard.meet("near", "far", SOON)?;

    for (ours, plot, delay) in [(&mut near, "near", 0), (&mut far, "far", DELAY_US)] {
        let number = yard.number(plot)?;
        let wanted = delay..=delay + SLACK_US;
        let mut last = String::new();
        let agreed = until("both measure the same", SETTLED, || {
            let field = |name| -> anyhow::Result<Option<f64>> {
                let text = babeld.neighbour(number, name)?;
                Ok(text.and_then(|text| text.parse().ok()))
            };
            // In milliseconds.
            let theirs = (field("rtt")?.unwrap_or(0.0) * 1000.0) as u64;
            let their_cost = field("rttcost")?.unwrap_or(0.0) as u64;
            let babeld_seen = ours.neighbour(yard.number("babeld")?)?;
            let of = |name| babeld_seen.as_ref()?.get(name).and_then(Value::as_u64);
            let measured = of("rtt_us").unwrap_or(0);
            let cost = of("rtt_penalty").unwrap_or(0);
            last = format!("ours {measured} µs costs {cost}, babeld's {theirs} µs {their_cost}");
            let costs = [cost, their_cost];
            let fits = if delay == 0 {
                costs == [0, 0]
            } else {
                costs.iter().all(|cost| COST.contains(cost))
            };
            let all = [measured, theirs].iter().all(|time| wanted.contains(time)) && 0 < measured;
            let near = measured.abs_diff(theirs) <= SLACK_US;
            Ok((all && near && fits).then_some(()))
        });
        println!("measured: {plot}: {last}");
        agreed.map_err(|error| error.context(last))?;
    }
    Ok(())
}
