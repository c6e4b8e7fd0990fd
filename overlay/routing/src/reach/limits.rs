//! Limits of finding straight ways, each with where its number comes from.

use std::time::Duration;

/// Most places in one call: eight interfaces, a mapped port, and what a few neighbours saw.
pub const PLACES_MAX: usize = 16;

/// Most places of a peer that are tried: those of a call, those of its contact, and those that its
/// knocks came from.
pub const TRIED_MAX: usize = 32;

/// Most places that are known from knocks only: one for each that we knock from.
pub const MET_MAX: usize = 4;

/// Most places that others saw us at, of which we tell.
pub const SEEN_MAX: usize = 4;

/// Most nodes whose word about where they see us is kept; then the oldest is forgotten.
pub const TELLERS_MAX: usize = 32;

/// How long their word counts: two that were lost, and a bit.
pub const WORD_MAX: Duration = Duration::from_secs(150);

/// How often a node may see us elsewhere at once: a machine that moves, and moves back.
pub const NEWS_BURST: u32 = 4;

/// How often one more time: each makes us call all peers.
pub const NEWS_INTERVAL: Duration = Duration::from_secs(10);

/// How often a node is told again where it is seen, if nothing changed.
pub const TELL_AGAIN: Duration = Duration::from_secs(60);

/// When knocks go out, after a call: the first opens our router's door, those after it find the
/// other's open; the last ones are for far countries.
pub const ROUNDS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(350),
    Duration::from_millis(750),
    Duration::from_millis(1500),
];

/// First pause between two calls that find nothing; doubled each time.
pub const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause between two calls: what it costs a pair that cannot meet.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Silence of a neighbour after which it is asked whether it is still there: a hello each second,
/// and a bit.
pub const SILENCE_MAX: Duration = Duration::from_millis(1250);

/// The same while something is sent and should be answered.
pub const SILENCE_IN_USE_MAX: Duration = Duration::from_millis(400);

/// How long a straight way may leave a question without an answer: with the silence before, 1.2 s
/// while it is used.
pub const DOUBT_MAX: Duration = Duration::from_millis(700);

/// How often it is asked meanwhile.
pub const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Calls of one peer that may follow each other at once; each makes us knock at up to
/// [`PLACES_MAX`] places that it names.
pub const CALLS_BURST: u32 = 8;

/// How often one more may come.
pub const CALL_INTERVAL: Duration = Duration::from_millis(500);

/// Calls in a row whose places do not answer after which [`CALL_INTERVAL`] is doubled, and how
/// often it is doubled at most: to 16 s.
pub const VAIN_STEP: u32 = 4;
/// See [`VAIN_STEP`].
pub const VAIN_MAX: u32 = 5;

/// Most places at one address that are tried: an interface's, a mapped port's, and two that others
/// see. More would let a peer turn us on whoever it names.
pub const PORTS_MAX: usize = 4;

/// Places that only packets or knocks of a peer tell of and that are followed or tried at once: one
/// for each way that two machines may have in common.
pub const MOVES_BURST: u32 = 16;

/// How often one more may be: two routers that give each packet another port must not make us loud.
pub const MOVE_INTERVAL: Duration = Duration::from_millis(500);

/// A flow that is worth a straight way of its own: so many bytes …
pub const FLOW_LEN_MIN: u64 = 64 << 10;

/// … within this time.
pub const FLOW_WINDOW: Duration = Duration::from_secs(1);

/// How long a straight way between nodes that are no neighbours stays without being used.
pub const IDLE_MAX: Duration = Duration::from_secs(60);

/// How often such a way says something while it stays: routers forget after 30 s at the least.
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
