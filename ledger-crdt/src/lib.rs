//! One set of books that nobody owns and everybody can check.
//!
//! Decides what a record is, who may write it where, what enters a replica, and what follows from
//! the records: usage, invoices, accounts. Leaves to others who is trusted (see
//! [`gate::Authority`]), how bytes travel and where the journal's disk is.
//!
//! Invariant: what a replica holds has passed the gate. Nothing unverified ever reaches automerge.
//!
//! ```text
//! Delta ─► known kind and owner ─► reader entitled ─► term, incarnation ─► chain continues
//!       ─► head signature ─► each record: lawful, ours, signed ─► size, quota ─► automerge
//! ```
//!
//! | room | idea |
//! |---|---|
//! | [`record`] | what is signed: one closed enum of bodies |
//! | [`charter`], [`order`], [`grant`], [`usage`], [`invoice`], [`agreement`] | the bodies |
//! | [`document`] | names, readers and history of single-writer documents |
//! | [`gate`] | what is checked before anything enters |
//! | [`ledger`] | all documents of one replica: append, admit, replay, send on |
//! | [`journal`] | the append-only file that a yes waits for |
//! | [`books`] | movements and accounts that follow from records |
//! | [`check`] | the invariants, over a whole ledger |

#![forbid(unsafe_code)]

pub mod agreement;
pub mod books;
pub mod charter;
pub mod check;
pub mod document;
pub mod gate;
pub mod grant;
pub mod history;
pub mod invoice;
pub mod journal;
pub mod ledger;
pub mod order;
pub mod record;
pub mod usage;

#[cfg(test)]
mod fixture;
