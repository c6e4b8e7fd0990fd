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

/// The same for the socket of handshake initiations: what it cannot hold is dropped, so it bridges
/// the 50 ms in which a busy machine may give us no turn, at 50,000 a second.
pub const PORCH_BUFFER_LEN: usize = 1 << 20;

/// Initiations taken before the next packets have their turn: junk costs a microsecond each.
pub const PORCH_TURN: usize = 64;

/// Longest wait for the UDP socket to take a datagram; the TUN's own queue fills meanwhile.
pub const SEND_WAIT_MS: u16 = 20;

/// Forwarded connections at one time: two sockets and 16 KiB each.
pub const FORWARDED_MAX: usize = 512;

/// Longest wait for a service to accept a forwarded connection.
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Connections of the userspace stack at one time, those that wait to come in included: with two
/// buffers each they fill 64 MiB at most.
pub const STACK_LINES_MAX: usize = 256;

/// Each buffer of such a connection: what 10 Mbit/s over 100 ms have on their way.
pub const STACK_BUFFER_LEN: usize = 128 * 1024;

/// Ports that the stack listens on: the control network's, and those of the owner's own programs.
pub const STACK_LISTENERS_MAX: usize = 16;

/// Connections that may begin at one such port at the same time.
pub const STACK_WAITING_COUNT: usize = 4;

/// Connections that came in and that nobody has taken yet, for each port.
pub const STACK_ARRIVALS_MAX: usize = 16;

/// Requests that wait for the stack's thread; then their senders wait.
pub const STACK_REQUESTS_MAX: usize = 64;

/// ICMPv6 errors kept until the stack's thread looks: as many as packets in one turn.
pub const STACK_ERRORS_MAX: usize = BURST_COUNT_MAX;

/// How often the stack asks a silent connection's other end whether it is there.
pub const STACK_KEEPALIVE: Duration = Duration::from_secs(60);

/// Silence of the other end, though asked, after which the stack breaks a connection off.
pub const STACK_SILENCE_MAX: Duration = Duration::from_secs(120);

/// How long the stack waits for the other end to close what nobody here wants any more; Linux does
/// the same.
pub const STACK_ORPHAN_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a new TUN's address to be usable; it takes a millisecond on an idle machine.
pub const USABLE_WAIT_MAX: Duration = Duration::from_secs(2);
