//! Election alone: the very same core on three to five voters, through years of bad weather.
//!
//! | room | idea |
//! |---|---|
//! | [`world`], [`host`], [`line`](mod@line) | voters, disks, clocks, the datagrams between them |
//! | [`bully`] | a comparator: the highest that is reached leads |
//! | [`check`], [`tally`] | what must hold, what happened |
//! | [`storm`] | every fault at once: safety, then a leader within a bound |
//! | [`failover`], [`steady`] | how long a fail-over takes; who leads for eight hours |
//! | [`plant`], [`canary`] | bugs on purpose |
//! | [`fleet`], [`figures`] | many seeds, and the bar |
//! | [`report`], [`plot`] | the page in `docs/reports/` |
//!
//! Invariant: same seed and program, same hash.

pub mod bully;
pub mod canary;
mod check;
mod failover;
mod figures;
pub mod fleet;
mod host;
mod line;
mod plant;
mod plot;
pub mod report;
mod steady;
mod storm;
mod tally;
mod world;
