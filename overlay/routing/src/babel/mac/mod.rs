//! Authentication of Babel packets on an ordinary interface (RFC 8967 with RFC 9467).
//!
//! ```text
//!   bytes ─► seal ─► | 42 2 len | TLVs ... PC | MAC of key 1 | MAC of key 2 |      packet out
//!
//!   packet in ─► open:  a MAC of one of our keys?     no ─► Drop
//!                       answers our challenge?       yes ─► its index and counter are believed
//!                       index as believed?            no ─► Drop, and challenge the neighbour
//!                       counter seen before?         yes ─► Drop
//!                                                    else ► Accept
//! ```
//! A MAC alone does not tell a packet of now from one that was recorded. So each sender counts its
//! packets under an index that it draws at start; who does not know the index of a neighbour (it is
//! new, it or we lost our memory) sends it a number, and believes what comes back with that number.
//! There is no mode that accepts packets without a MAC.
//!
//! | room | idea |
//! |---|---|
//! | [`key`] | secrets, and the MACs they make |
//! | [`machine`] | one interface: seals, opens, challenges |
//! | [`limits`] | the numbers, with where they come from |

mod frame;
pub mod key;
pub mod limits;
pub mod machine;
mod neighbour;
mod window;
