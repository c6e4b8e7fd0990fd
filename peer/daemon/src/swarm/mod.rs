//! The control network: libp2p over TCP, with our own gate before any protocol.
//!
//! ```text
//!   node core                 one task owns the swarm          a task per stream
//!   ─────────  Command ─────► network ── gate ── yamux ──────► lanes (frames of bytes)
//!              ◄────── Event                           │       door  (people with an invite)
//!   data plane ◄──── datagrams where UDP does not pass ──┴─────► tunnels
//! ```
//! Everything here carries bytes; what they mean is decided above. Decides who may connect and how
//! much a peer may send; leaves meaning, records and trust itself to the node. Identify and DHT are
//! not used: addresses travel in signed contacts, and on the local network (`nearby`, mDNS) without
//! a signature, for nodes that are known already; an overlay address is taken from neither.
//!
//! | room | idea |
//! |---|---|
//! | [`network`] | the task that owns the swarm |
//! | [`gate`], [`crowd`] | who is admitted; how many may wait for it |
//! | [`lanes`] | streams of frames, one each way and kind |
//! | [`tunnels`], `underlay_streams` | streams that carry links, over the underlay only |
//! | [`door`] | people with an invite |
//! | `underlay_tcp`, `underlay_only` | TCP of both swarms; which addresses are dialled |
//! | [`across`] | connections that must cross the overlay |
//! | [`nearby`] | nodes on the local network |
//! | [`identity`] | our keys and addresses as libp2p's |

pub mod across;
pub mod crowd;
pub mod door;
pub mod gate;
pub mod identity;
pub mod lanes;
pub mod nearby;
pub mod network;
pub mod tunnels;
pub mod underlay_only;
pub mod underlay_streams;
pub mod underlay_tcp;
