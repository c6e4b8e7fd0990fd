//! Limits of doors and tables, and of what we say unasked, each with where its number comes from.

use std::time::Duration;

/// Most flows one door remembers: 8192 at about 200 bytes are 1.6 MiB; a PostgreSQL with 100
/// connections needs 100. At the limit the flow that would expire first is forgotten.
pub const FLOWS_MAX: usize = 8192;

/// Most clients of one node: the devices of a family or a small office, several times over. Each is
/// a session, and a door of [`CLIENT_FLOWS_MAX`] flows.
pub const CLIENTS_MAX: usize = 32;

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

/// Rows in which places that begin handshakes are counted. A node has at most 256 peers at a time;
/// of that many, few share a row with another, and all tables together are 33 KiB.
pub const HANDSHAKE_ROWS: usize = 512;

/// Handshakes of one place that are opened in a second, and cookies sent there: several nodes
/// behind one router that all begin anew.
pub const HANDSHAKES_PER_PLACE: u64 = 20;

/// Handshakes in a second whose sender is not known and whose address may be forged. A node that
/// restarts can see more; cookies cost those one round trip.
pub const HANDSHAKES_STRANGE_PER_SECOND: u64 = 100;

/// Those from addresses where a peer is expected, forged or not: at 60 µs each, little over 1 % of
/// a core.
pub const HANDSHAKES_KNOWN_PER_SECOND: u64 = 200;

/// Those with a cookie, of strangers and again of peers: a flood by machines that have these
/// addresses is what they bound, to little over 1 % of a core each.
pub const HANDSHAKES_PROVEN_PER_SECOND: u64 = 200;

/// Cookies sent in a second to strangers, and again to known addresses: 106 bytes each with their
/// headers are 0.4 Mbit/s, less than was sent to draw them.
pub const COOKIES_PER_SECOND: u64 = 500;
