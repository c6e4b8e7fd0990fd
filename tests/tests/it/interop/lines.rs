//! Packets of babeld and BIRD pass through us, and ours through them when a cable is cut.

use std::time::Instant;

use mesh_tests::routers::{Babeld, Bird, Ours};
use mesh_tests::runner::Place;
use mesh_tests::yard::Yard;

use super::SOON;

pub fn line_carries_transit_both_ways(place: &Place) -> anyhow::Result<()> {
    let yard = Yard::new(place, &["babeld", "ours", "bird"])?;
    yard.cable(("babeld", "e0"), ("ours", "e0"))?;
    yard.cable(("ours", "e1"), ("bird", "e0"))?;
    let _babeld = Babeld::start(&yard, "babeld", &[("e0", "")], None, &[])?;
    let _bird = Bird::start(&yard, "bird", &["e0"], None)?;
    let ours = Ours::start(&yard, "ours", &["e0", "e1"], None, &[])?;
    yard.meet("babeld", "bird", SOON)?;
    yard.meet("babeld", "ours", SOON)?;
    yard.meet("ours", "bird", SOON)?;
    // Started again, with a number that nobody kept: what was remembered of us is not in the way.
    drop(ours);
    let _ours = Ours::start(&yard, "ours", &["e0", "e1"], None, &[])?;
    yard.meet("babeld", "bird", SOON)
}

/// Top and bottom are ours; the ways between lead through babeld and through BIRD.
pub fn diamond_survives_cuts(place: &Place) -> anyhow::Result<()> {
    let yard = Yard::new(place, &["top", "babeld", "bird", "bottom"])?;
    yard.cable(("top", "e0"), ("babeld", "e0"))?;
    yard.cable(("top", "e1"), ("bird", "e0"))?;
    yard.cable(("babeld", "e1"), ("bottom", "e0"))?;
    yard.cable(("bird", "e1"), ("bottom", "e1"))?;
    let _top = Ours::start(&yard, "top", &["e0", "e1"], None, &[])?;
    let _babeld = Babeld::start(&yard, "babeld", &[("e0", ""), ("e1", "")], None, &[])?;
    let _bird = Bird::start(&yard, "bird", &["e0", "e1"], None)?;
    let _bottom = Ours::start(&yard, "bottom", &["e0", "e1"], None, &[])?;
    yard.meet("top", "bottom", SOON)?;
    for side in ["babeld", "bird"] {
        yard.meet("top", side, SOON)?;
        yard.meet("bottom", side, SOON)?;
        // Away from the top, which has to hear of it from the neighbour in between.
        yard.pull((side, "e1"))?;
        let cut = Instant::now();
        yard.meet("top", "bottom", SOON)?;
        let took = cut.elapsed().as_secs_f64();
        println!(
            "measured: without the way through {side}: {took:.2} s until both reach each other"
        );
        yard.raise((side, "e1"))?;
    }
    yard.meet("bottom", "bird", SOON)
}
