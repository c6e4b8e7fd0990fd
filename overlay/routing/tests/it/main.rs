//! Babel on the wire: bytes worked out by hand, a second reader, and packets of other programs.
// The lints know tests by their attribute; in the helpers of a test a failure is a panic too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod by_hand;
mod by_hand_ignored;
mod golden;
mod properties;
mod reference;
mod values;
