//! The whole transcript on one machine, and the fetching of software before all tests.

use anyhow::ensure;
use mesh_tests::home::Home;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{Cast, found_org, play};

/// Plays the transcript with four nodes on one machine, each in a folder of its own.
pub fn transcript(place: &Place) -> anyhow::Result<()> {
    let home = |name: &str| {
        let home = Home::new(name, place.folder.join(name), &place.programs);
        home.configure("metering.period", "1s").map(|()| home)
    };
    let cast = Cast::of(home)?;
    let timings = play(&cast)?;
    println!("{timings:?}");
    let typed: Vec<String> = cast.all().iter().flat_map(|home| home.history()).collect();
    for (name, text) in DOCUMENTS {
        for command in documented(text) {
            let is_played = typed.iter().any(|typed| covers(typed, command));
            ensure!(
                is_played,
                "{name} shows `{command}`, which the transcript does not play"
            );
        }
    }
    Ok(())
}

/// The documents whose commands are played.
const DOCUMENTS: [(&str, &str); 2] = [
    ("README.md", include_str!("../../../README.md")),
    ("docs/start.md", include_str!("../../../docs/start.md")),
];

/// Returns the commands of our programs that a document shows.
fn documented(text: &str) -> impl Iterator<Item = &str> {
    let shown = text
        .lines()
        .filter_map(|line| line.split_once("$ ").map(|(_, shown)| shown));
    shown.filter_map(|shown| {
        let inner = shown
            .split_once("$(")
            .and_then(|(_, rest)| rest.split_once(')'));
        let command = inner.map_or(shown, |(inner, _)| inner).trim();
        let is_ours = command.starts_with("meshnode ") || command.starts_with("meshctl ");
        is_ours.then_some(command)
    })
}

/// Tells whether what was typed has all words of what is shown, in their order. What is shown in
/// capitals stands for anything.
fn covers(typed: &str, shown: &str) -> bool {
    let mut typed = typed.split_whitespace();
    shown.split_whitespace().all(|word| {
        let is_placeholder = word.chars().all(|c| c.is_ascii_uppercase());
        typed.any(|typed| is_placeholder || typed == word)
    })
}

/// Orders the software once from a node of its own, so that it is in the cache for all tests; then
/// from one that has no namespaces and needs more.
pub fn fetch_software(place: &Place) -> anyhow::Result<()> {
    let home = |name: &str| Home::new(name, place.folder.join(name), &place.programs);
    fetch(&home("cellar"), "namespace")?;
    fetch(&home("attic").without_namespaces(), "userspace")
}

fn fetch(home: &Home, tun: &str) -> anyhow::Result<()> {
    home.configure("network.tun", tun)?;
    found_org(&home.name, home)?;
    let ordered = home
        .meshctl(&["order", "postgres", "--name", "cold"])?
        .ok()?;
    ensure!(
        ordered.stdout.contains("postgresql://"),
        "no connection string:\n{ordered}"
    );
    home.meshctl(&["destroy", "cold", "--yes"])?.ok()?;
    home.stop()
}
