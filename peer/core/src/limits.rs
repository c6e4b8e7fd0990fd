//! Every limit of the core, where its number comes from, and what happens when it is reached.

use std::time::Duration;

/// Most connected peers: a full mesh of the first form; the newest is refused and hung up.
pub const PEERS_MAX: usize = 256;
/// Most contacts kept: four for each peer that can be connected; strangers are refused, known ones
/// renewed.
pub const CONTACTS_KEPT_MAX: usize = 1024;

/// Most contacts of organisations that are not trusted yet, kept until trust has grown.
pub const EARLY_CONTACTS_MAX: usize = 64;
/// Most API calls that wait for something; the newest is refused with "busy".
pub const CALLS_MAX: usize = 256;
/// Most reservation requests with parameters that wait for their records; the newest is dropped,
/// for the customer repeats it.
pub const REQUESTS_MAX: usize = 256;
/// Most visitors at the join door that wait for an answer; the newest is refused.
pub const VISITS_MAX: usize = 32;
/// Longest sealed box of parameters.
pub const SEALED_MAX: usize = 68 * 1024;
/// Largest piece of a log in one message.
pub const LOG_PIECE_MAX: usize = 64 * 1024;
/// Largest delta that is sent at once; a quarter of a message leaves room for its frame.
pub const DELTA_MAX: usize = 256 * 1024;

/// Most new contacts of one node in a burst: a laptop that changes networks twice a minute stays
/// below.
pub const MOVES_MAX: u32 = 16;
/// How often one more contact is granted after a burst.
pub const MOVE_INTERVAL: Duration = Duration::from_secs(10);
/// Most proofs kept against the documents of one writer: one is enough to distrust it, and a writer
/// who wants to fill our disk can contradict himself in as many documents as he can name.
pub const PROOFS_PER_WRITER_MAX: usize = 8;
/// Least time between two usage statements of one order that were asked for.
pub const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// How often peers on one connection are measured.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How often a node tells its peers which run of it this is: a key on two machines is noticed
/// within two of these.
pub const HELLO_INTERVAL: Duration = Duration::from_secs(30);
/// How often a chosen neighbour whose link is down is told that it is wanted: ten times before
/// another takes its place.
pub const WISH_AGAIN: Duration = Duration::from_secs(3);

/// How often a node repeats to its chosen neighbours that it wants them: three times within the
/// time that a wish is believed.
pub const WISH_INTERVAL: Duration = Duration::from_secs(30);
/// Longest silence on its own underlay of a link that is up: two keepalives lost, and a bit.
pub const LINK_SILENT_MS_MAX: u64 = 5000;
/// First wait after a failed dial; doubles up to [`DIAL_WAIT_MAX`].
pub const DIAL_WAIT_MIN: Duration = Duration::from_millis(500);
/// Longest wait between two dials of one peer: a home that returns is found within this.
pub const DIAL_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long an unacknowledged change waits before it is sent again: twice the largest delay that we
/// expect of a home line, doubled on each repetition up to [`RESEND_WAIT_MAX`].
pub const RESEND_WAIT: Duration = Duration::from_millis(1500);
/// Longest wait between two repetitions of a change.
pub const RESEND_WAIT_MAX: Duration = Duration::from_secs(12);
/// How often two connected peers compare summaries of what both may read.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// Least time between two complete lists to one peer.
pub const LIST_INTERVAL: Duration = Duration::from_secs(2);
/// Most complete lists of one peer that are looked at in [`LIST_INTERVAL`]: a connection begins
/// with two from each side, and a second one may replace it at once.
pub const LISTS_MAX: u32 = 6;
/// How long an order's call waits for readiness before it answers that the work goes on.
pub const ORDER_WAIT: Duration = Duration::from_secs(600);
/// How long a call waits for a remote usage statement or log piece.
pub const REMOTE_WAIT: Duration = Duration::from_secs(10);
/// How long a call waits for the routing thread and for nodes on a way: the shell gives up after
/// five seconds by itself.
pub const EXPLAIN_WAIT: Duration = Duration::from_secs(7);
/// Least time between two drafts of one invoice.
pub const DRAFT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time between two readings of an instance's meters.
pub const SAMPLE_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Most services of one partner that we are told of as guests: each costs a slow hash of 5 ms, so a
/// partner who lies costs a third of a second, once; the rest are not reached from here.
pub const GUEST_SERVICES_MAX: usize = 64;
/// How long holder records are valid. Nothing renews them yet: an order that is older is placed
/// anew.
pub const HOLDER_VALID: Duration = Duration::from_secs(365 * 24 * 3600);
/// Most names that a node answers for: sixteen for each contact it can have, some 3 MiB; nodes come
/// before services and own services before others', and what has no room is counted.
pub const NAMES_MAX: usize = 16 * CONTACTS_KEPT_MAX;

/// Longest changes that are admitted while the disk is full: an order's end has some hundred bytes.
pub const CHANGES_LEN_MAX_FULL: usize = 16 * 1024;
