//! Limits and times of the speaker, each with where its number comes from.

use std::time::Duration;

use crate::babel::words::Metric;

/// Most links of a speaker: 10 of our choice, 20 of others', some that drain, a few ordinary ones;
/// and one bit each in a word of 64.
pub const LINKS_MAX: usize = 64;

/// Most neighbours of all links together. At the limit a new one is not heard.
pub const NEIGHBOURS_MAX: usize = 128;

/// Most prefixes in the route table: one flat mesh is made for about 10,000 nodes, and local
/// networks bring some. At the limit a new prefix is refused, so that what is selected stays.
pub const PREFIXES_MAX: usize = 12_000;

/// Most routes to one prefix: the neighbours that a node keeps, and some that drain. At the limit
/// the new one is refused, so that what is selected stays.
pub const ROUTES_PER_PREFIX_MAX: usize = 32;

/// Most sources remembered for one prefix: a native prefix has one. At the limit a route of a new
/// source is not selected, for its feasibility distance could not be kept.
pub const SOURCES_PER_PREFIX_MAX: usize = 8;

/// Most prefixes of our own.
pub const OWN_MAX: usize = 256;

/// Most penalties for routes whose packets did not arrive. At the limit a new one is refused.
pub const PENALTIES_MAX: usize = 4096;

/// Most seqno requests that wait for an answer: a lost neighbour of a mesh of a thousand nodes
/// leaves some dozens. At the limit a new one is not sent.
pub const REQUESTS_MAX: usize = 4096;

/// Most neighbours that wait for one request's answer; more are told by the next periodic update.
pub const WAITING_MAX: usize = 32;

/// Most updates that wait to be told over one link or to one neighbour. At the limit they become
/// one dump of the table, which needs no room.
pub const UPDATES_WAITING_MAX: usize = 1024;

/// Most seqno requests, and most acknowledgements, that wait to be sent to one neighbour. At the
/// limit the new one is not sent; whoever asked asks again.
pub const ANSWERS_WAITING_MAX: usize = 256;

/// Most packets of one link that wait for an acknowledgement: 64 of 60 updates each are a third of
/// the largest table. At the limit a dump waits, and anything else goes unacknowledged.
pub const UNACKED_MAX: usize = 64;

/// Most events that wait, besides changes of routes, which are bounded by the table. At the limit
/// the oldest is forgotten.
pub const EVENTS_MAX: usize = 1024;

/// A route is forgotten after so many halves of its update interval (RFC 8966, appendix B: 3.5).
pub const EXPIRY_HALVES: u32 = 7;

/// A source without routes is remembered so long (RFC 8966, appendix B).
pub const SOURCE_KEPT: Duration = Duration::from_secs(180);

/// Between two looks for what has expired; routes live 56 seconds or longer.
pub const SWEEP_STEP: Duration = Duration::from_secs(1);

/// Hops that a request of ours may travel (RFC 8966, §3.8.2.1).
pub const HOP_COUNT: u8 = 64;

/// Until a request is sent again the first time; doubles each time. A round trip across a
/// continent: one that was only slow is known at the next hop, and goes no further.
pub const REQUEST_RESEND: Duration = Duration::from_millis(100);

/// The longest pause between two: a part of the mesh that comes back must not wait for it.
pub const REQUEST_PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a link that drains costs more: as much as twenty sound hops, so that any way around is
/// shorter; and little enough that fifteen such links in a row, drained from both ends, are a way.
pub const DRAIN_COST: Metric = Metric(2048);

/// What an uplink that reaches its own leaves only asks for what leads to everybody: more than any
/// other uplink, a draining one too, and far from infinity, for to each other its leaves have no
/// other way.
pub const STRANDED_METRIC: Metric = Metric(8192);

/// How often a request of ours is sent: for nine seconds in all.
pub const REQUEST_TRIES: u8 = 8;

/// How often a request of ours goes also to neighbours without a route whose updates are
/// acknowledged: a lost packet is mended here, and what they learn later they tell.
pub const BLIND_TRIES: u8 = 2;

/// How often a request of another is sent: a lost packet is mended here, the rest by who asked.
pub const FORWARD_TRIES: u8 = 4;

/// After this a route that is better but unfeasible is asked for again: half of the time in which a
/// mesh that was mended should be back on its best paths.
pub const BETTER_AGAIN: Duration = Duration::from_secs(5);

/// Silence of a tunnel after which it is probed: the longest pause between two hellos of a
/// neighbour, and a quarter.
pub const SILENCE_MAX: Duration = Duration::from_millis(1250);

/// Between two probes of a silent tunnel.
pub const PROBE_STEP: Duration = Duration::from_millis(100);

/// Probes without an answer after which a tunnel is down.
pub const PROBES_MAX: u8 = 4;

/// A neighbour is told that it is no longer heard so many times, with its own hellos' pace, so that
/// it learns quickly that its packets do not arrive.
pub const FAREWELLS: u8 = 3;

/// The least and the most that an update waits for others to go with, if it may wait.
pub const GATHER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(25));

/// The pause before an update is said again doubles so often, then stays: it is said until it is
/// acknowledged, for a neighbour that is alive and misses a route misses it until the next dump.
pub const ACK_DOUBLINGS: u8 = 4;

/// So often a retraction is said again before its pauses double: whoever misses it sends into a
/// hole meanwhile. On a wire that loses three of ten packets one of a thousand needs more.
pub const RETRACTION_QUICK: u8 = 4;

/// An acknowledgement is due within this time.
pub const ACK_WITHIN: Duration = Duration::from_millis(100);

/// Until an update is sent again, above two round trips, and [`ACK_WITHIN`] where neighbours are
/// not ours: those acknowledge at once.
pub const ACK_SLACK: Duration = Duration::from_millis(50);

/// The round trip of a neighbour that has not told it.
pub const RTT_UNKNOWN: Duration = Duration::from_millis(100);

/// The longest round trip that is waited for. A neighbour that slept answers with trips of many
/// seconds; what it did not get must not wait as long. Longer real ones cost some repeats, for
/// pauses double.
pub const RTT_PATIENCE_MAX: Duration = Duration::from_millis(500);

/// After this a retraction that nobody acknowledges is said once more.
pub const BLIND_REPEAT: Duration = Duration::from_millis(250);

/// Packets of a dump that go together, and the pause before the next ones: 4 Mbit/s at most.
pub const DUMP_BURST: (u8, Duration) = (4, Duration::from_millis(10));

/// A neighbour that has said nothing of its table after this time is asked for it.
pub const TABLE_SILENCE: Duration = Duration::from_millis(200);

/// How often a silent neighbour is asked for its table; each pause is double the last.
pub const TABLE_TRIES: u8 = 4;

/// How long a route must be better than the selected one before it takes its place.
pub const BETTER_FOR: Duration = Duration::from_millis(1500);

/// A speaker that restarted without its number learns it from its neighbours in this time only.
pub const RECOVERY: Duration = Duration::from_secs(600);

/// How often in [`RECOVERY`] it learns it.
pub const RECOVERIES_MAX: u8 = 4;
