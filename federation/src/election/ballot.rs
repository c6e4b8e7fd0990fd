//! What a voter must never forget: the term it has answered, and for whom it voted in it.
//!
//! A disk type. The shell writes it and calls `fdatasync` before anything that waits for its
//! position leaves; after a start it hands back the last one. Invariant: the term never decreases,
//! and within a term a vote never changes.

use mesh_base::codec::{self, DecodeError};
use serde::{Deserialize, Serialize};

use super::words::{Term, Version, Voter};

/// Longest form: two maps of at most five short fields and a key of 32 bytes take under 150 bytes.
pub const BALLOT_LEN_MAX: usize = 256;

/// A voter's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ballot {
    /// The highest term answered.
    pub term: Term,
    /// For whom it voted in this term.
    pub vote: Option<Voter>,
    /// The charter in which it won this term without anybody else's vote.
    pub alone: Option<Version>,
}

impl Ballot {
    /// Returns its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads it back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, BALLOT_LEN_MAX)
    }

    /// Returns whether `next` may be written over this one.
    pub fn allows(&self, next: &Self) -> bool {
        let keeps = self.vote.is_none() || self.vote == next.vote;
        self.term < next.term || (self.term == next.term && keeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::identity::{NodeId, SecretKey};

    #[test]
    fn ballot_is_read_back_as_written() {
        let ballot = Ballot {
            term: Term(u64::MAX),
            vote: Some(Voter {
                node: NodeId(SecretKey::from_seed([1; 32]).public()),
                incarnation: u64::MAX,
            }),
            alone: Some(Version(u64::MAX)),
        };
        assert_eq!(Ballot::from_bytes(&ballot.to_bytes()), Ok(ballot));
        let damaged = Err(DecodeError::Shape);
        assert_eq!(Ballot::from_bytes(&[0xff]), damaged);
    }
}
