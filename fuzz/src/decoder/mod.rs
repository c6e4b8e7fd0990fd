//! One function for each decoder, grouped by where its bytes come from.
//!
//! Each reads as the house reads, with the house's limits, and then asks what the house asks of the
//! value. An assertion here is a promise of the decoder, never a wish about the input.

pub mod babel;
pub mod disk;
pub mod ledger;
pub mod local;
pub mod packet;
pub mod portmap;
pub mod proxy;
pub mod text;
pub mod wire;
