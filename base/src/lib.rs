//! What every other room stands on: keys, addresses, time, money, canonical bytes, bounded memory.
//!
//! Pure: nothing here reads a clock, a socket, a file or a source of entropy. Values that exist are
//! lawful: bytes and strings become these types at the edge and are not checked again inside.
//!
//! | room | idea |
//! |---|---|
//! | [`identity`] | ed25519 keys of nodes, organisations and services; signatures with a context |
//! | [`address`] | overlay addresses computed from keys with a slow hash |
//! | [`certificate`] | who vouches for a node: chains that end at an organisation's root key |
//! | [`codec`] | one canonical byte form for everything that is signed, stored or sent |
//! | [`digest`] | SHA-256 names of byte strings |
//! | [`seal`] | HPKE boxes for parameters and credentials |
//! | [`money`] | checked amounts in micro-units of a currency, prices per month |
//! | [`time`] | the two clocks that are passed as `now` |
//! | [`name`] | labels that people choose, lawful as one DNS label |
//! | [`bounded`] | queues and maps with a limit |
//! | [`chance`] | small random numbers from a seed |

#![forbid(unsafe_code)]

pub mod address;
pub mod bounded;
pub mod certificate;
pub mod chance;
pub mod codec;
pub mod digest;
pub mod identity;
mod memo;
pub mod money;
pub mod name;
pub mod seal;
pub mod time;
