//! Which link carries which packet, and who may talk to whom: pure decisions of the overlay.
//!
//! ```text
//!            Origin                    Table::classify                 Verdict
//!   Host ───────────────┐        ┌──────────────────────┐       ┌──► ToPeer(node)
//!   Instance(item) ─────┼──► source lawful for its origin? ─────┼──► ToHost
//!   Peer(node) ─────────┘        who holds the destination?     ├──► ToInstance(item)
//!                                                               └──► Drop(reason)
//!   an instance's door: Access::ingress / Access::egress       (only `allow` in, only answers out)
//!   this machine's door: Access::egress_of_host / …ingress_to_host   (only answers in)
//! ```
//! Nothing here reads a clock or a socket: time is an argument, packets are byte slices that are
//! never trusted. The data plane asks [`table::Table`] first and the door of the place it is going
//! to (or coming from) second; both must agree.
//!
//! | room | idea |
//! |---|---|
//! | [`plan`] | the whole state that the data plane should have |
//! | [`packet`] | a checked view of an IPv6 packet |
//! | [`table`] | from origin and addresses to a verdict |
//! | [`fib`] | the next hop towards each node |
//! | [`talk`] | Babel's datagrams inside a link |
//! | [`transit`] | session datagrams that pass through us |
//! | [`ecn`] | marks of congestion, carried through tunnels |
//! | [`access`] | doors: who may open a flow, and that only flows are answered |
//! | [`babel`] | routes: a Babel speaker |
//! | [`probe`] | what engines ask each other about a way |
//! | [`answer`] | what a lawful sender is told when its packet goes nowhere |
//! | [`neighbours`] | which nodes we keep a link with |
//! | [`carriage`] | whether UDP or a stream carries a link |
//! | [`paths`] | whether what is sent over a neighbour arrives, from end to end |
//! | [`reach`] | straight ways between nodes behind routers |
//! | [`portmap`] | ports of the home's gateway that lead to ours |
//! | [`handshakes`] | which handshakes of others are worth opening |
//! | [`limits`] | the numbers, with where they come from |

#![forbid(unsafe_code)]

pub mod access;
pub mod answer;
pub mod babel;
pub mod carriage;
pub mod ecn;
pub mod fib;
pub mod handshakes;
pub mod limits;
pub mod neighbours;
pub mod packet;
pub mod paths;
pub mod plan;
pub mod portmap;
pub mod probe;
pub mod reach;
pub mod table;
pub mod talk;
pub mod transit;
