//! The real `meshctl` against a node that is played by the test: screens, formats, exit codes.
//!
//! One binary for all of them. The played node speaks the types of `mesh_api` over a real socket,
//! so what is tested here is everything but the node's decisions.
// The lints know tests by their attribute; in the helpers of a test a failure is a panic too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod failures;
mod formats;
mod node;
mod screens;
mod words;
