//! Limits of doors and tables, and of what we say unasked, each with where its number comes from.

use std::time::Duration;

/// Most flows one door remembers: 8192 at about 200 bytes are 1.6 MiB; a PostgreSQL with 100
/// connections needs 100. At the limit the flow that would expire first is forgotten.
pub const FLOWS_MAX: usize = 8192;

/// Most flows the door of one client remembers: a phone's browser has some hundred, and 32 clients
/// then take 6.5 MiB at most.
pub const CLIENT_FLOWS_MAX: usize = 1024;

/// A silent TCP connection is remembered for two hours and four minutes (RFC 5382, REQ-5).
pub const TCP_IDLE_MAX: Duration = Duration::from_secs(2 * 3600 + 4 * 60);

/// A TCP connection that is opening or closing is remembered for four minutes (RFC 5382, REQ-5).
pub const TCP_TRANSITORY_MAX: Duration = Duration::from_secs(4 * 60);

/// A silent UDP flow is remembered for five minutes (RFC 4787, REQ-5).
pub const UDP_IDLE_MAX: Duration = Duration::from_secs(5 * 60);

/// An unanswered echo is remembered for one minute (RFC 5508, REQ-2).
pub const ECHO_IDLE_MAX: Duration = Duration::from_secs(60);

/// How much later an expiry must become before it is noted: saves work on each packet of a flow.
pub const EXPIRY_STEP: Duration = Duration::from_secs(1);

/// Most destinations in the forwarding table: the honest size of one flat mesh. At the limit a new
/// destination is refused and what is there stays.
pub const ROUTES_MAX: usize = 10_000;

/// The largest packet in the overlay: what every IPv6 link carries (RFC 8200, 5).
pub const MTU: usize = 1280;

/// Most errors sent at once: as many as a browser opens connections, several times over.
pub const ANSWERS_BURST: u32 = 64;

/// How often one more error may be sent after a burst: at 1280 bytes each that is 0.7 Mbit/s,
/// whoever knocks.
pub const ANSWER_INTERVAL: Duration = Duration::from_micros(15_625);
