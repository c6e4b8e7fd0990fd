//! Who acts for a group for a while: election by a majority, with leases and terms.
//!
//! Sans IO and without a log: the ledger is the log. One core serves an organisation's masters and
//! the groups of single orders. Chandra, Hadzilacos, Toueg and Charron-Bost (1996) prove that no
//! protocol in an asynchronous network both keeps one agreed membership and always makes progress.
//! So safety rests on **terms** and never on a clock: a vote is on disk before it is answered, a
//! leader begins with everything that a majority has, and who executes refuses lower terms
//! ([`fence`]). Progress rests on time and chance, and is measured
//! (`docs/reports/election.md`). **Leases** keep two leaders from acting at once as long as clocks
//! run at most [`timing::DRIFT_PPM_MAX`] wrong.
//!
//! ```text
//!            patience ends            a majority is willing          a majority voted
//!  Following ────────────► Sounding ──────────────────► Standing ──────────────────► Leading
//!      ▲  ▲                   │ yields                      │ somebody else leads       │
//!      │  └───────────────────┴─────────────────────────────┘                           │
//!      └── no majority for two seconds, a later term, or handed over ───────────────────┘
//! ```
//!
//! | room | idea |
//! |---|---|
//! | [`words`], [`timing`] | group, term, voter, head; how long what takes |
//! | [`voters`] | whose word counts, and what a majority is |
//! | [`ballot`] | what must be on disk before an answer |
//! | [`wire`] | what voters say to each other |
//! | [`machine`] | the state machine of one voter; `campaign`, `reign`, `hear` are its parts |
//! | [`fence`] | who executes refuses the past |

pub mod ballot;
mod campaign;
pub mod fence;
mod hear;
pub mod machine;
mod reign;
pub mod timing;
pub mod voters;
pub mod wire;
pub mod words;

#[cfg(test)]
mod tests;
