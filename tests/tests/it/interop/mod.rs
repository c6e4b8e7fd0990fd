//! Our Babel speaker beside Debian's babeld and BIRD: the bar `routing.interop`.
//!
//! | room | idea |
//! |---|---|
//! | [`pairs`] | two routers and a cable |
//! | [`lines`] | transit, and another way after a cut |
//! | [`dump`] | a table of ten thousand routes |
//! | [`keys`] | packets that are signed, or not, or wrongly |
//! | [`trips`] | round trips are measured alike at both ends |
//! | [`nodes`] | a whole node among routers of its network |
//! | [`by_hand`] | packets that no daemon sends |

pub mod by_hand;
pub mod dump;
pub mod keys;
pub mod lines;
pub mod nodes;
pub mod pairs;
pub mod trips;

use std::time::Duration;

/// How long anything may take that takes a few hellos: sixty of them, for a machine that is busy.
const SOON: Duration = Duration::from_secs(30);
