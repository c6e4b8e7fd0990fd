//! What voters say to each other: small datagrams in the session between two nodes.
//!
//! Decides the bytes; who sent them is known from the session and is not in them. Nothing here is
//! answered or resent by itself: every question may be lost, doubled or late. Invariant: what is
//! read is written the same way again, and fits [`MESSAGE_LEN_MAX`].
//!
//! ```text
//!   sounder ── Sound ──► voter      "would you vote for me in this term?"  changes nothing
//!           ◄─ Willing ─
//!   candidate ── Ask ──► voter      "vote for me"
//!             ◄─ Vote ──            on its disk, with the heads that are there too
//!   leader ── Beat ───► voter       round n
//!          ◄─ Heard ──              round n; it promises to help nobody else
//!          ── HandOver ─► all       "my lease is over, begin"
//!   anybody ◄─ Later ── voter       "I answered a later term"
//! ```

use mesh_base::codec::{self, DecodeError};
use mesh_base::digest::Digest;
use serde::{Deserialize, Serialize};

use super::words::{Group, HEADS_MAX, Heads, Term, Version, Voter};

/// Longest message: what passes every link in one piece.
pub const MESSAGE_LEN_MAX: usize = 1200;

/// A message between two voters of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Which group.
    #[serde(rename = "g")]
    pub group: Group,
    /// The term that it is about.
    #[serde(rename = "t")]
    pub term: Term,
    /// The charter by which the sender counts.
    #[serde(rename = "v")]
    pub version: Version,
    /// The sender's incarnation; its node is known from the session.
    #[serde(rename = "i")]
    pub incarnation: u64,
    /// What it says.
    #[serde(rename = "b")]
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Would you vote for me in this term?
    #[serde(rename = "s")]
    Sound,
    /// I would.
    #[serde(rename = "w")]
    Willing,
    /// Vote for me.
    #[serde(rename = "a")]
    Ask,
    /// I did, and this is on my disk.
    #[serde(rename = "y")]
    Vote {
        /// Of what the voter has recorded.
        #[serde(rename = "h")]
        heads: Heads,
    },
    /// I lead.
    #[serde(rename = "b")]
    Beat {
        /// Counts within the term.
        #[serde(rename = "r")]
        round: u64,
        /// The name of the heads that the leader believes the receiver to have.
        #[serde(rename = "k")]
        known: Digest,
    },
    /// You do.
    #[serde(rename = "e")]
    Heard {
        /// The last round heard.
        #[serde(rename = "r")]
        round: u64,
        /// What is on the voter's disk, if the leader does not know it.
        #[serde(rename = "h")]
        heads: Option<Heads>,
    },
    /// I lead no more; let this one begin.
    #[serde(rename = "o")]
    HandOver {
        /// Who should lead.
        #[serde(rename = "n")]
        to: Voter,
    },
    /// I have answered this term, which is later than yours.
    #[serde(rename = "l")]
    Later,
}

impl Message {
    /// Returns its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message; a fuzzer may call this.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message: Self = codec::decode(bytes, MESSAGE_LEN_MAX)?;
        let heads = match &message.body {
            Body::Vote { heads } => heads.len(),
            Body::Heard { heads, .. } => heads.as_ref().map_or(0, Heads::len),
            _ => 0,
        };
        if HEADS_MAX < heads {
            return Err(DecodeError::Shape);
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::words::Head;
    use mesh_base::identity::{NodeId, SecretKey};
    use proptest::prelude::*;

    fn heads(count: u8) -> Heads {
        let mut heads = Heads::default();
        for byte in 0..count {
            let head = Head {
                term: Term(u64::MAX),
                sequence: u64::MAX,
                digest: Digest::of(&[byte]),
            };
            heads.set(Digest::of(&[byte, byte]), head).unwrap();
        }
        heads
    }

    fn bodies() -> Vec<Body> {
        let full = heads(u8::try_from(HEADS_MAX).unwrap());
        let to = Voter {
            node: NodeId(SecretKey::from_seed([7; 32]).public()),
            incarnation: u64::MAX,
        };
        let known = Digest::of(b"known");
        let round = u64::MAX;
        vec![
            Body::Sound,
            Body::Willing,
            Body::Ask,
            Body::Vote {
                heads: full.clone(),
            },
            Body::Beat { round, known },
            Body::Heard { round, heads: None },
            Body::Heard {
                round,
                heads: Some(full),
            },
            Body::HandOver { to },
            Body::Later,
        ]
    }

    fn message(body: Body) -> Message {
        Message {
            group: Group(Digest::of(b"group")),
            term: Term(u64::MAX),
            version: Version(u64::MAX),
            incarnation: u64::MAX,
            body,
        }
    }

    #[test]
    fn largest_message_of_each_kind_is_read_back_and_fits_a_datagram() {
        for body in bodies() {
            let message = message(body);
            let bytes = message.to_bytes();
            assert!(bytes.len() <= MESSAGE_LEN_MAX, "{} bytes", bytes.len());
            assert_eq!(Message::from_bytes(&bytes), Ok(message));
        }
    }

    #[test]
    fn message_over_the_limit_is_refused_unread() {
        let refused = Message::from_bytes(&[0; MESSAGE_LEN_MAX + 1]);
        assert!(matches!(refused, Err(DecodeError::Long { .. })));
    }

    #[test]
    fn more_heads_than_a_voter_has_are_refused() {
        let mut many = heads(u8::try_from(HEADS_MAX).unwrap());
        let mut more = Heads::default();
        let head = Head {
            term: Term(1),
            sequence: 1,
            digest: Digest::default(),
        };
        more.set(Digest::of(b"one more"), head).unwrap();
        many.join(&more);
        let bytes = message(Body::Vote { heads: many }).to_bytes();
        assert!(Message::from_bytes(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::from_bytes(&bytes);
        }

        #[test]
        fn damaged_message_is_refused_or_written_the_same_way(
            kind in 0_usize..9,
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = message(bodies()[kind].clone()).to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(message) = Message::from_bytes(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }
}
