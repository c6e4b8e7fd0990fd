//! What a node has said yes to is there afterwards, whatever ended it: bars ledger.power and
//! ledger.kill.
//!
//! | room | idea |
//! |---|---|
//! | [`promises`] | what was asked of a node and what it said, and whether it still holds |
//! | [`daemon`] | a daemon that is started to be killed |
//! | [`kill`] | kills under load |
//! | [`power`] | power cuts, drawn from what the daemon did to its disk |
//! | [`again`] | power cuts of a node that has just been started after one |
//! | [`beside`] | the same cuts under a program that trusts stock sled |

pub mod again;
pub mod beside;
pub mod daemon;
pub mod kill;
pub mod power;
pub mod promises;
