//! Signed packets: with the right key routes pass, also after a restart; without, none does.

use std::thread;

use anyhow::{Context as _, anyhow};
use mesh_tests::routers::{Babeld, Bird, Ours, Secret};
use mesh_tests::runner::Place;
use mesh_tests::until::until;
use mesh_tests::yard::Yard;
use serde_json::Value;

use super::SOON;

/// Packets that must be refused before we believe that all of them are.
const REFUSALS: u64 = 6;

const RIGHT: &str = "the-key-of-this-yard-32-bytes-ok";
const WRONG: &str = "another-key-that-is-not-this-one";

/// A daemon of Debian's, kept only to be dropped.
enum Theirs {
    Babeld { _kept: Babeld },
    Bird { _kept: Bird },
}

impl Theirs {
    fn start(yard: &Yard, plot: &str, secret: Option<Secret>) -> anyhow::Result<Self> {
        if plot.starts_with("babeld") {
            let _kept = Babeld::start(yard, plot, &[("e0", "")], secret, &[])?;
            return Ok(Self::Babeld { _kept });
        }
        let _kept = Bird::start(yard, plot, &["e0"], secret)?;
        Ok(Self::Bird { _kept })
    }
}

/// Both algorithms with both daemons, at the same time.
pub fn keys_are_honoured(place: &Place) -> anyhow::Result<()> {
    let cases = [
        ("hmac-sha256", "ours-1", "babeld-1"),
        ("blake2s128", "ours-2", "babeld-2"),
        ("hmac-sha256", "ours-3", "bird-1"),
        ("blake2s128", "ours-4", "bird-2"),
    ];
    let plots: Vec<&str> = cases.iter().flat_map(|case| [case.1, case.2]).collect();
    let yard = Yard::new(place, &plots)?;
    for (_, ours, theirs) in cases {
        yard.cable((ours, "e0"), (theirs, "e0"))?;
    }
    thread::scope(|scope| {
        let cases = cases.map(|(algorithm, ours, theirs)| {
            let yard = &yard;
            let case = scope.spawn(move || one(yard, algorithm, ours, theirs));
            (format!("{algorithm} with {theirs}"), case)
        });
        for (name, case) in cases {
            let outcome = case.join().map_err(|_| anyhow!("it panicked"));
            outcome.and_then(|outcome| outcome).context(name)?;
        }
        Ok(())
    })
}

fn one(yard: &Yard, algorithm: &'static str, ours: &str, theirs: &str) -> anyhow::Result<()> {
    let secret = |text| Some(Secret { algorithm, text });
    let right = secret(RIGHT);
    let we = |secret| Ours::start(yard, ours, &["e0"], secret, &[]);
    let they = |secret| Theirs::start(yard, theirs, secret);

    let (speaker, daemon) = (we(right)?, they(right)?);
    yard.meet(ours, theirs, SOON)?;
    // Who starts again counts from one under a new index: only a challenge makes it believed.
    drop(speaker);
    no_routes(yard, theirs)?;
    let speaker = we(right)?;
    yard.meet(ours, theirs, SOON)
        .context("after we started again")?;
    drop(daemon);
    no_routes(yard, ours)?;
    let daemon = they(right)?;
    yard.meet(ours, theirs, SOON)
        .context("after it started again")?;
    drop(speaker);

    // What follows finds no neighbour that was believed before.
    no_routes(yard, theirs)?;
    let mut speaker = we(secret(WRONG))?;
    refused(&mut speaker, "WrongKey").context("with a wrong key")?;
    nothing_passed(yard, ours, theirs).context("with a wrong key")?;
    drop(speaker);

    let mut speaker = we(None)?;
    until("we hear what is signed", SOON, || {
        let neighbours = speaker.neighbours()?;
        let heard = neighbours.first().and_then(|it| it.get("hellos")?.as_u64());
        Ok((5 < heard.unwrap_or(0).count_ones()).then_some(()))
    })?;
    nothing_passed(yard, ours, theirs).context("without our key")?;
    let neighbours = speaker.neighbours()?;
    let cost = neighbours.first().and_then(|it| it.get("cost"));
    anyhow::ensure!(
        cost == Some(&Value::from(0xffff)),
        "heard by who must not hear: {neighbours:?}"
    );
    drop((speaker, daemon));

    let _daemon = they(None)?;
    let mut speaker = we(right)?;
    refused(&mut speaker, "Unsigned").context("without its key")?;
    nothing_passed(yard, ours, theirs).context("without its key")
}

/// Waits until enough was refused for a reason; nobody may have become a neighbour.
fn refused(speaker: &mut Ours, reason: &str) -> anyhow::Result<()> {
    until("packets are refused", SOON, || {
        let count = speaker.count(&format!("refused 0 {reason}"))?;
        Ok((REFUSALS <= count).then_some(()))
    })?;
    let neighbours = speaker.neighbours()?;
    anyhow::ensure!(neighbours.is_empty(), "{neighbours:?}");
    Ok(())
}

fn no_routes(yard: &Yard, plot: &str) -> anyhow::Result<()> {
    let gone = until("routes are gone", SOON, || {
        Ok((yard.route_count(plot, None)? == 0).then_some(()))
    });
    let left = yard.ask(plot, "ip -6 route show")?;
    gone.with_context(|| format!("{plot} has {left}"))
}

fn nothing_passed(yard: &Yard, ours: &str, theirs: &str) -> anyhow::Result<()> {
    for plot in [ours, theirs] {
        let count = yard.route_count(plot, None)?;
        anyhow::ensure!(count == 0, "{plot} learned {count} routes");
    }
    Ok(())
}
