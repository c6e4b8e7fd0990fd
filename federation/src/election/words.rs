//! The words of an election: group, term, version, voter, head.
//!
//! Decides how heads are compared and joined; leaves what a document is to the ledger. Invariant: a
//! join of heads forgets none.

use std::collections::BTreeMap;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use serde::{Deserialize, Serialize};

/// Most documents whose heads a voter keeps: a vote with twelve heads fits a datagram of 1200
/// bytes, which passes every link.
pub const HEADS_MAX: usize = 12;

/// Who elects: the name of an organisation's masters, or of an order's own group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Group(pub Digest);

/// Counts the leaders of a group; zero is before the first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// Returns the term after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Counts the charters of a group, each of which names its voters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

/// A node as voter. Who lost its disk comes back as another incarnation: another voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Voter {
    /// The node.
    pub node: NodeId,
    /// How often it has begun anew.
    pub incarnation: u64,
}

/// The newest record of a document. A later term is newer, whatever the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(Term, u64, Digest)", into = "(Term, u64, Digest)")]
pub struct Head {
    /// The term in which it was written.
    pub term: Term,
    /// Its number in the document.
    pub sequence: u64,
    /// Its digest.
    pub digest: Digest,
}

impl From<(Term, u64, Digest)> for Head {
    fn from((term, sequence, digest): (Term, u64, Digest)) -> Self {
        Self {
            term,
            sequence,
            digest,
        }
    }
}

/// Without the names of its fields, so that more heads fit a datagram.
impl From<Head> for (Term, u64, Digest) {
    fn from(head: Head) -> Self {
        (head.term, head.sequence, head.digest)
    }
}

/// Why a head was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// It was written in a term before the one that this voter has answered.
    #[error("the record is of term {given:?}; this voter answered term {current:?}")]
    Stale {
        /// The record's.
        given: Term,
        /// The voter's.
        current: Term,
    },
    /// One more document than [`HEADS_MAX`].
    #[error("a group has at most {HEADS_MAX} documents with a head at a time")]
    Full,
}

/// What a voter has on its disk: document and its newest record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Heads(BTreeMap<Digest, Head>);

impl Heads {
    /// Notes a record; an older one than known changes nothing.
    pub fn set(&mut self, document: Digest, head: Head) -> Result<(), HeadError> {
        if HEADS_MAX <= self.0.len() && !self.0.contains_key(&document) {
            return Err(HeadError::Full);
        }
        let known = self.0.entry(document).or_insert(head);
        *known = head.max(*known);
        Ok(())
    }

    /// Forgets a document, because a head of another one covers it.
    pub fn forget(&mut self, document: &Digest) {
        self.0.remove(document);
    }

    /// Takes the newest of both, document by document. Has no limit of its own: a join over all
    /// voters is as large as the limits of its parts together.
    pub fn join(&mut self, other: &Self) {
        for (document, head) in &other.0 {
            let known = self.0.entry(*document).or_insert(*head);
            *known = (*head).max(*known);
        }
    }

    /// Returns whether everything in `other` is here, or something newer.
    pub fn covers(&self, other: &Self) -> bool {
        let mut all = other.0.iter();
        all.all(|(document, head)| self.0.get(document).is_some_and(|known| head <= known))
    }

    /// Returns a document's newest record.
    pub fn of(&self, document: &Digest) -> Option<Head> {
        self.0.get(document).copied()
    }

    /// Returns every document and its newest record.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &Head)> {
        self.0.iter()
    }

    /// Returns how many documents there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the name of exactly these heads.
    pub fn digest(&self) -> Digest {
        Digest::of(&codec::encode(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(term: u64, sequence: u64) -> Head {
        Head {
            term: Term(term),
            sequence,
            digest: Digest::of(&[]),
        }
    }

    #[test]
    fn later_term_is_newer_than_a_longer_document() {
        assert!(head(1, 9) < head(2, 3));
    }

    #[test]
    fn join_takes_the_newest_of_each_document() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let (mut one, mut two) = (Heads::default(), Heads::default());
        one.set(a, head(1, 4)).unwrap();
        two.set(a, head(1, 3)).unwrap();
        two.set(b, head(1, 1)).unwrap();
        assert!(!one.covers(&two));
        one.join(&two);
        assert!(one.covers(&two));
        assert_eq!(one.of(&a), Some(head(1, 4)));
    }

    #[test]
    fn full_heads_refuse_a_new_document_and_take_known_ones() {
        let mut heads = Heads::default();
        let name = |number: usize| Digest::of(&number.to_be_bytes());
        for number in 0..HEADS_MAX {
            heads.set(name(number), head(1, 1)).unwrap();
        }
        assert_eq!(heads.set(name(99), head(1, 1)), Err(HeadError::Full));
        assert_eq!(heads.set(name(0), head(1, 2)), Ok(()));
        heads.forget(&name(1));
        assert_eq!(heads.set(name(99), head(1, 1)), Ok(()));
        assert_eq!(heads.len(), HEADS_MAX);
    }
}
