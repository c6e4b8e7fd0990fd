//! Babel packets as bytes (RFC 8966, §4): read with the parser state resolved, written compressed.
//!
//! | room | idea |
//! |---|---|
//! | [`tlv`] | what a packet says, as values |

pub mod tlv;
