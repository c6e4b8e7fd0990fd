//! Limits of the data plane, each with where its number comes from.

use std::time::Duration;

/// The MTU of every TUN: two WireGuard layers over IPv4 or IPv6 still fit any underlay of 1440
/// bytes, and a path's MTU does not change when it fails over.
pub const MTU: u16 = 1280;

/// Longest packet that we read from a TUN; more than [`MTU`], so that a wrong one is seen as such.
pub const PACKET_LEN_MAX: usize = 2048;

/// Longest datagram of a session: a packet and WireGuard's 32 bytes. No buffer may be shorter than
/// 148 either.
pub const DATAGRAM_LEN_MAX: usize = PACKET_LEN_MAX + 32;

/// Longest parcel: a datagram and two headers.
pub const PARCEL_LEN_MAX: usize = DATAGRAM_LEN_MAX + mesh_routing::transit::OVERHEAD;

/// Longest datagram on the underlay: a parcel in a link's session.
pub const OUTER_LEN_MAX: usize = PARCEL_LEN_MAX + 32;

/// Parcels that one step of one link may make: what waits for a session, a handshake and its
/// answer.
pub const PARCELS_MAX: usize = WAITING_COUNT_MAX + 4;

/// Packets that wait for a session that is being made, per peer: one round trip of a TCP start.
pub const WAITING_COUNT_MAX: usize = 32;

/// Most UDP addresses that we try for one peer.
pub const CANDIDATES_MAX: usize = 16;

/// Packets taken from one TUN before the next has its turn.
pub const BURST_COUNT_MAX: usize = 64;

/// Handshakes per second that are answered without a cookie. A node of 1000 peers that restarts
/// sees more; cookies cost those one round trip.
pub const HANDSHAKES_PER_SECOND: u64 = 100;

/// The timer thread's step while a session is being made or something waits for one.
pub const TICK: Duration = Duration::from_millis(100);

/// Its step while every link is up: each wakes a thread of an idle machine, and no deadline of a
/// link that is up is sharper.
pub const TICK_CALM: Duration = Duration::from_millis(400);

/// A session that was not ticked for this long is ticked before it is fed: boringtun's clock stands
/// still between ticks and must not lag more.
pub const TICK_AGE_MAX: Duration = Duration::from_millis(250);

/// An idle link says something this often, in both directions, so that silence means something.
pub const KEEPALIVE: Duration = Duration::from_secs(2);

/// Silence after which every known address of the peer is tried again: two keepalives lost, and a
/// bit.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Age at which the leading side makes new keys; WireGuard's own limit is 120 s, and 180 s is the
/// end.
pub const REKEY_AGE: Duration = Duration::from_secs(110);

/// How much later the side that does not lead begins a handshake of its own: a round trip around
/// the world. Behind a router that side is the only one that can begin.
pub const GRACE: Duration = Duration::from_millis(250);

/// Pause between the first handshakes with somebody: as long as a round trip around the world.
pub const RETRY_FIRST: Duration = Duration::from_millis(250);

/// First pause between two handshakes after those; the answers to the last two are good, so one of
/// up to 2 s is.
pub const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest pause between two handshakes with a peer that does not answer.
pub const RETRY_MAX: Duration = Duration::from_secs(8);

/// Socket buffers asked for; the kernel gives what it allows.
pub const SOCKET_BUFFER_LEN: usize = 4 << 20;

/// Longest wait for the UDP socket to take a datagram; the TUN's own queue fills meanwhile.
pub const SEND_WAIT_MS: u16 = 20;

/// Forwarded connections at one time: two sockets and 16 KiB each.
pub const FORWARDED_MAX: usize = 512;

/// Longest wait for a service to accept a forwarded connection.
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Longest wait for a new TUN's address to be usable; it takes a millisecond on an idle machine.
pub const USABLE_WAIT_MAX: Duration = Duration::from_secs(2);
