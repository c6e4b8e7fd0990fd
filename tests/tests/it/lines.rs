//! Nodes in a line: each reaches its neighbours only, and everybody is reached through them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_tests::cables::Cables;
use mesh_tests::figures::Figure;
use mesh_tests::home::{Home, sees};
use mesh_tests::lab::Lab;
use mesh_tests::pulse::Pulse;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{Cast, found_org, join, play_raised, raise_mesh};
use mesh_tests::until::until;

use crate::names::ask_by_name;

/// How long a mesh may take to find its ways after everything was rewired.
const SOON: Duration = Duration::from_secs(60);

/// The bakery's third machine: the middle of the line of five.
const MIDDLE: &str = "bakery-3";

/// Plays the transcript with one relay between customer and provider.
pub fn transcript_along_a_line_of_three(place: &Place) -> anyhow::Result<()> {
    let [bakery, bakery_2, library, library_2] = Cast::NAMES;
    let line = [
        (bakery, library_2),
        (library_2, library),
        (bakery, bakery_2),
    ];
    along(place, &Cast::NAMES, &line)
}

/// Plays it with three.
pub fn transcript_along_a_line_of_five(place: &Place) -> anyhow::Result<()> {
    let [bakery, bakery_2, library, library_2] = Cast::NAMES;
    let names = [bakery, bakery_2, MIDDLE, library_2, library];
    let line = [
        (bakery, bakery_2),
        (bakery_2, MIDDLE),
        (MIDDLE, library_2),
        (library_2, library),
    ];
    along(place, &names, &line)
}

fn along(place: &Place, names: &[&str], line: &[(&str, &str)]) -> anyhow::Result<()> {
    let lab = Lab::new(names, &place.folder, &place.programs)?;
    let cast = Cast::of(|name| lab.home(name).cloned())?;
    for home in cast.all() {
        home.configure("metering.period", "1s")?;
    }
    // Whatever is ordered must go to the far end.
    cast.library_2.configure("capacity.slots", 0)?;
    raise_mesh(&cast)?;
    if names.contains(&MIDDLE) {
        let middle = lab.home(MIDDLE)?;
        middle.configure("capacity.slots", 0)?;
        join(&cast.bakery, middle)?;
    }
    let _cables = rewire(&lab, names, line)?;
    play_raised(&cast, || {
        let show = ["show", "crm-db", "--json"];
        let shown = cast.bakery.quietly().meshctl(&show)?.json()?;
        let address = shown.get("address").and_then(serde_json::Value::as_str);
        ask_by_name(&cast.bakery, address.context("crm-db has an address")?)
    })?;
    Ok(())
}

/// Lets everybody meet on the street, then leaves the cables only.
pub fn rewire<'a>(
    lab: &'a Lab,
    names: &[&str],
    line: &[(&str, &str)],
) -> anyhow::Result<Cables<'a>> {
    let others = |name: &str| -> Vec<&str> {
        names
            .iter()
            .copied()
            .filter(|other| *other != name)
            .collect()
    };
    for name in names {
        sees(lab.home(name)?, &others(name), SOON)?;
    }
    let cables = Cables::lay(lab, line)?;
    for name in names {
        for other in others(name) {
            reaches(lab.home(name)?, &lab.home(other)?.overlay_address()?)?;
        }
        sees(lab.home(name)?, &others(name), SOON)?;
    }
    Ok(cables)
}

fn reaches(home: &Home, to: &str) -> anyhow::Result<()> {
    until(&format!("{} reaches {to}", home.name), SOON, || {
        let ping = home.quietly().run("ping", &["-c1", "-W1", to])?;
        Ok((ping.code == 0).then_some(()))
    })
}

/// The line of nine, and the limit for its first reply.
const NINE: [&str; 9] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"];
const COLD_MAX: Duration = Duration::from_secs(2);

/// Starts nine nodes of one mesh at once, in a line, and waits for the first reply across.
pub fn line_of_nine_is_whole_soon(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&NINE, &place.folder, &place.programs)?;
    let first = lab.home("n1")?;
    found_org("line", first)?;
    for name in NINE.iter().skip(1) {
        join(first, lab.home(name)?)?;
    }
    let pairs: Vec<(&str, &str)> = NINE
        .iter()
        .copied()
        .zip(NINE.iter().copied().skip(1))
        .collect();
    let cables = rewire(&lab, &NINE, &pairs)?;
    let to = lab.home("n9")?.overlay_address()?;
    for name in NINE {
        lab.home(name)?.stop()?;
    }
    let started: anyhow::Result<Vec<Instant>> = std::thread::scope(|scope| {
        let starts: Vec<_> = NINE
            .iter()
            .map(|name| {
                let home = lab.home(name);
                scope.spawn(move || {
                    home?.start()?;
                    anyhow::Ok(Instant::now())
                })
            })
            .collect();
        let joined = starts.into_iter().map(|start| start.join());
        joined
            .map(|start| start.unwrap_or_else(|_| anyhow::bail!("a start panicked")))
            .collect()
    });
    let last = started?.into_iter().max().context("nine nodes started")?;
    let pulse = Pulse::begin(first, &to, SOON)?;
    let took = last.elapsed();
    drop((pulse, cables));
    Figure {
        bar: "routing.cold".to_owned(),
        text: format!(
            "{:.2} s after the last of nine said it runs",
            took.as_secs_f64()
        ),
        holds: took <= COLD_MAX,
    }
    .tell();
    Ok(())
}
