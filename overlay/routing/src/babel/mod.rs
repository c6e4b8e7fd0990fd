//! A Babel speaker (RFC 8966) without sockets or clocks: who is a neighbour, which routes are
//! feasible, which is best, and what to say to whom.
//!
//! ```text
//!     bytes of a neighbour                                   bytes for neighbours
//!            │ wire::read                                            ▲ wire::Writer
//!            ▼                                                       │
//!   ┌─ Speaker ──────────────────────────────────────────────────────┴───┐
//!   │ hellos, IHUs ─► neighbours ─► cost ─┐                              │
//!   │ updates ─────► feasible? ─► routes ─┴─► selection ─► announcements │
//!   │                 source table           requests, acknowledgements  │
//!   └───────────────────────────────────┬────────────────────────────────┘
//!                                       ▼ RouteChanged
//!                              the forwarding table
//! ```
//! | room | idea |
//! |---|---|
//! | [`speaker`] | the machine |
//! | [`event`] | what it tells its shell |
//! | [`explain`] | what it shows to people |
//! | [`link`], [`neighbour`] | what a link is, who is on it |
//! | [`history`], [`rtt`], [`cost`] | hellos and round trips, and what they cost |
//! | [`source`] | feasibility distances |
//! | [`route`], [`select`] | the table, and which route is used |
//! | [`request`] | seqno requests under way |
//! | [`mail`] | what waits to be said |
//! | [`filter`] | what a link carries |
//! | [`pace`], [`limits`], [`count`] | how much of anything |
//! | [`words`] | sequence numbers, metrics, router-ids, prefixes |
//! | [`wire`] | packets and TLVs as bytes |
//! | [`mac`] | packets that only who has the key can make |

pub mod cost;
pub mod count;
pub mod event;
pub mod explain;
pub mod filter;
pub mod history;
pub mod limits;
pub mod link;
pub mod mac;
pub mod mail;
pub mod neighbour;
pub mod pace;
pub mod request;
pub mod route;
pub mod rtt;
pub mod select;
pub mod source;
pub mod speaker;
pub mod wire;
pub mod words;
