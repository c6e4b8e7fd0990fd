//! Limits of authentication, each with where its number comes from.

use std::time::Duration;

/// Most keys of an interface: one, two while they are changed, and room for a slip.
pub const KEYS_MAX: usize = 4;

/// Shortest secret: a recorded packet lets anybody try secrets, so one has at least 128 bits.
pub const SECRET_LEN_MIN: usize = 16;

/// Most neighbours that one interface remembers; twice a link that is crowded already. At the limit
/// those go first that never answered a challenge, then those that are silent.
pub const NEIGHBOURS_MAX: usize = 256;

/// A neighbour that says nothing for five minutes makes room for another if it must; it is
/// challenged again when it comes back.
pub const SILENCE_MAX: Duration = Duration::from_secs(300);

/// A challenge is answered within this time or not at all (RFC 8967, §4.3.1.1).
pub const NONCE_AGE_MAX: Duration = Duration::from_secs(30);

/// A neighbour is neither challenged nor answered more often (RFC 8967, §4.3.1.1 and §4.3.1.2).
pub const CHALLENGE_STEP: Duration = Duration::from_millis(300);

/// Longest index of a neighbour (RFC 8967, §3.1).
pub const INDEX_LEN_MAX: usize = 32;

/// Longest number in a challenge (RFC 8967, §6.3).
pub const NONCE_LEN_MAX: usize = 192;

/// Most MACs that are looked at in one packet: all keys of a neighbour with as many as ours, twice.
pub const TAGS_MAX: usize = 2 * KEYS_MAX;

/// Challenges and answers that wait to be taken; one of each for every neighbour.
pub const ANSWERS_MAX: usize = 2 * NEIGHBOURS_MAX;
