//! Whole data planes against each other over loopback UDP. Every wait is for a condition and has a
//! deadline.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod clients;
mod ground;
mod hand;
mod mesh;
mod overlay;
mod probes;
mod relay;
mod streams;
