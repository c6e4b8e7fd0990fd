//! Two routers and a cable: they reach each other, and lose what was taken away.

use mesh_tests::routers::{Babeld, Bird, Ours};
use mesh_tests::runner::Place;
use mesh_tests::until::until;
use mesh_tests::yard::Yard;

use super::SOON;

fn pair(place: &Place) -> anyhow::Result<Yard> {
    let yard = Yard::new(place, &["ours", "theirs"])?;
    yard.cable(("ours", "e0"), ("theirs", "e0"))?;
    Ok(yard)
}

/// Waits until a plot's kernel has lost what it learned.
fn lost(yard: &Yard, plot: &str) -> anyhow::Result<()> {
    let what = format!("{plot} has no route any more");
    until(&what, SOON, || {
        Ok((yard.route_count(plot, None)? == 0).then_some(()))
    })
}

pub fn babeld_and_we_reach_each_other(place: &Place) -> anyhow::Result<()> {
    let yard = pair(place)?;
    let ours = Ours::start(&yard, "ours", &["e0"], None, &[])?;
    let babeld = Babeld::start(&yard, "theirs", &[("e0", "")], None, &[])?;
    yard.meet("ours", "theirs", SOON)?;
    drop(babeld);
    lost(&yard, "ours")?;
    let babeld = Babeld::start(&yard, "theirs", &[("e0", "")], None, &[])?;
    yard.meet("ours", "theirs", SOON)?;
    // Killed, it cannot say goodbye: its neighbour misses its hellos.
    drop(ours);
    lost(&yard, "theirs")?;
    let _ours = Ours::start(&yard, "ours", &["e0"], None, &[])?;
    yard.meet("ours", "theirs", SOON)?;
    drop(babeld);
    Ok(())
}

pub fn bird_and_we_reach_each_other(place: &Place) -> anyhow::Result<()> {
    let yard = pair(place)?;
    let ours = Ours::start(&yard, "ours", &["e0"], None, &[])?;
    let bird = Bird::start(&yard, "theirs", &["e0"], None)?;
    yard.meet("ours", "theirs", SOON)?;
    drop(bird);
    lost(&yard, "ours")?;
    let bird = Bird::start(&yard, "theirs", &["e0"], None)?;
    yard.meet("ours", "theirs", SOON)?;
    drop(ours);
    lost(&yard, "theirs")?;
    let _ours = Ours::start(&yard, "ours", &["e0"], None, &[])?;
    yard.meet("ours", "theirs", SOON)?;
    drop(bird);
    Ok(())
}
