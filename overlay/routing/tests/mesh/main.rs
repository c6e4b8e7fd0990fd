//! Whole speakers over wires: what a mesh does when it starts, breaks and heals.
// The lints know tests by their attribute; in the helpers of a test a failure is a panic too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bounds;
mod chaos;
mod desk;
mod gone;
mod holes;
pub mod net;
mod policy;
mod rules;
