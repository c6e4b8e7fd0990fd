//! Numbers of the choice of neighbours, each with where it comes from.

use std::time::Duration;

/// Most other nodes that are known for all of them to be neighbours: with ourselves a mesh of
/// eleven, where everybody has as many links as we would choose anyway.
pub const EVERYBODY_MAX: usize = 10;

/// Links to the nearest nodes we know. In a synthetic world of 1,000 nodes, four near and six
/// random halve the latency that pure chance adds; seven and three are no better.
pub const NEAR_COUNT: usize = 4;

/// Links to nodes by chance: they hold the mesh together when a city is cut off.
pub const RANDOM_COUNT: usize = 6;

/// Near uplinks of a leaf.
pub const LEAF_NEAR_COUNT: usize = 1;

/// Random uplinks of a leaf: with the near one three, of which the last two are never dropped.
pub const LEAF_RANDOM_COUNT: usize = 2;

/// Random links that are up and stay whatever happens: two ways out that do not share a node.
pub const RANDOM_KEPT: usize = 2;

/// Most links that others chose: twice our own, so that half of the room in a mesh is free. At the
/// limit the new one is sent to others.
pub const INBOUND_MAX: usize = 20;

/// Most links of our own choice, with those that are tried, that drain, and that are kept for being
/// the only way to something. At the limit nothing new is tried.
pub const OURS_MAX: usize = 16;

/// Most nodes to choose from: the honest size of one flat mesh. At the limit new ones are refused.
pub const KNOWN_MAX: usize = 10_000;

/// Nodes among which the nearest are looked for.
pub const SAMPLED_COUNT: usize = 64;

/// Most nodes that are remembered for not having answered: all that can fail in ten minutes. At the
/// limit the one that may be tried first is forgotten.
pub const AVOIDED_MAX: usize = 256;

/// Names of others in a redirect.
pub const REDIRECT_COUNT: usize = 4;

/// Refusals in a row after which names in a redirect are followed: chance alone finds room in two
/// tries out of three, and who names others should not choose our neighbours.
pub const REFUSED_COUNT: u32 = 2;

/// Between two changes by choice (re6st's interval), with a tenth of jitter.
pub const TURN: Duration = Duration::from_secs(300);

/// The same for the first [`TURNS_FIRST`] changes: a fresh node knows nobody's distance.
pub const TURN_FIRST: Duration = Duration::from_secs(60);

/// Changes of a fresh node: each near place is tried for twice.
pub const TURNS_FIRST: u32 = 16;

/// How long a new link has to come up, be measured and be routed over: eight handshakes.
pub const TRIAL_MAX: Duration = Duration::from_secs(60);

/// How long a new link is up before an old one drains for it: the routes of a full table have come
/// by then.
pub const SETTLED: Duration = Duration::from_secs(10);

/// How long a link drains: updates have crossed the mesh by then, and flows have moved.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How long it drains at least: the other end's routes move too, after a request and its answer.
pub const DRAIN_MIN: Duration = Duration::from_secs(3);

/// How long a neighbour may be down before another takes its place: a machine that restarts is back
/// by then.
pub const DOWN_MAX: Duration = Duration::from_secs(30);

/// The same for near ones when nobody at all answers: then it is our own line that is down.
pub const DOWN_ALONE_MAX: Duration = Duration::from_secs(300);

/// First time that a node is avoided for not having answered; doubles up to [`AVOID_MAX`].
pub const AVOID_MIN: Duration = Duration::from_secs(60);

/// Longest time that a node is avoided.
pub const AVOID_MAX: Duration = Duration::from_secs(3600);

/// How long a node without room is not asked again: its neighbours change two of ten by then.
pub const FULL_AVOIDED: Duration = Duration::from_secs(600);

/// How long another's wish for a link is believed; it is repeated every 30 s.
pub const WISH_MAX: Duration = Duration::from_secs(100);

/// How long a link that is the only way to something is not drained again.
pub const KEPT: Duration = Duration::from_secs(1200);

/// How much nearer a node must be to take another's place, in percent: half of what jitter does.
pub const NEARER_PERCENT: u64 = 10;

/// When to look again for what could not be done: nodes become known within seconds.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);
