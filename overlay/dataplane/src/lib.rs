//! The overlay's data plane: packets between TUNs and WireGuard sessions, as the newest plan says.
//!
//! ```text
//!   programs       instances of ours                 timer thread, every 100 ms:
//!      │               │      │                      keys, keepalives, retries
//!   host TUN        TUN of each                                 │
//!      └───────┬───────┘      ▲                                 ▼
//!              ▼ reader thread│ packets         ┌── Peer: one session, one lock ───┐
//!      Table::classify, doors ┼───── seal ─────►│ index · endpoint · candidates    │
//!                             │                 └─────▲────────────────────┬───────┘
//!      Table::classify, doors ┘◄──── open ────────────┤ receiver thread    │ datagrams
//!                                                     └── one UDP port ◄───┘
//!
//!   without root:  the host TUN lives in a namespace held by the helper (netns), and programs
//!                  reach services through loopback ports (forward); where there are no
//!                  namespaces, a thread of ours stands for it (stack)
//! ```
//! All decisions about packets come from `mesh-routing`; here are descriptors, threads and clocks.
//! There is no queue between threads and no allocation for a packet; only what waits for a first
//! handshake is kept, up to a limit. What does not fit is dropped and counted by reason.
//!
//! | room | idea |
//! |---|---|
//! | [`plane`] | the handle: start, apply a plan, attach TUNs, statistics |
//! | `pump` | the three threads |
//! | `hands` | what each does with a packet |
//! | `guard` | which handshakes are opened, and which are asked for a cookie |
//! | `porch` | the socket where initiations wait, apart from packets |
//! | `exit` | the ways out: socket, stream or parcel |
//! | [`probe`] | asking other engines about the way |
//! | [`peer`] | one link: handshakes, keepalives, roaming, straight ways |
//! | [`reach`] | where this node may be reached |
//! | [`client`] | one stock WireGuard device that is no node |
//! | [`streams`] | where UDP does not pass: datagrams in streams |
//! | [`session`] | WireGuard behind a small trait |
//! | [`carrier`] | whether an interface has its cable |
//! | [`gateway`] | the router that the default route leads to |
//! | [`lan`] | ordinary interfaces as links of a Babel speaker, and the kernel's routes |
//! | `netlink` | messages between us and the kernel |
//! | [`wire`] | the UDP socket |
//! | `fragments` | datagrams that routers may cut |
//! | [`tun`] | making and using TUN devices |
//! | [`netns`] | the helper process with a namespace of our own |
//! | [`enter`] | how a program gets into it |
//! | [`stack`] | TCP of our own where there are no namespaces |
//! | [`connection`] | a connection of the overlay, whoever speaks its TCP |
//! | [`forward`] | loopback ports for services |
//! | `ioctl`, `scm`, `sys` | small things that the standard library lacks |
//! | [`limits`] | the numbers, with where they come from |

pub mod carrier;
pub mod client;
pub mod connection;
pub mod enter;
mod exit;
pub mod forward;
mod fragments;
pub mod gateway;
mod guard;
mod hands;
mod ioctl;
pub mod lan;
pub mod limits;
mod netlink;
pub mod netns;
pub mod peer;
pub mod plane;
mod porch;
pub mod probe;
mod pump;
pub mod reach;
mod scm;
pub mod session;
pub mod stack;
pub mod streams;
mod sys;
pub mod tun;
pub mod wire;

pub use client::ClientStats;
pub use forward::Forwards;
pub use netns::Namespace;
pub use peer::LinkStats;
pub use plane::{Config, Dataplane, HostAccess, Listener, PlaneError, Spoken};
pub use stack::Stack;
