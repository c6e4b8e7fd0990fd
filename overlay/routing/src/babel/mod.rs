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
//! | [`words`] | sequence numbers, metrics, router-ids, prefixes |
//! | [`wire`] | packets and TLVs as bytes |
//! | [`mac`] | packets that only who has the key can make |

pub mod mac;
pub mod wire;
pub mod words;
