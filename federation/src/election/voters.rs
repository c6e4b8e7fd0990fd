//! Whose word counts: the voters that a charter names, and what a majority of them is.
//!
//! Decides quorums; leaves who signs a charter to the ledger. While the set of voters changes, the
//! charter names both sets, and everything needs a majority of each (joint, as in Raft's thesis,
//! section 4.3). Invariant: quorums of two charters that follow each other share a voter.

use std::collections::BTreeMap;

use super::words::{Version, Voter};

/// Most voters of one set: nine survive four at once, and more only wait for more.
pub const VOTERS_MAX: usize = 9;

/// What a voter may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Leader.
    Leader,
    /// Never leader; it keeps what leaders write, and votes.
    Witness,
}

/// Why a charter's voters were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VotersError {
    /// Nobody can lead.
    #[error("the charter names no voter that may lead")]
    NoLeader,
    /// More than [`VOTERS_MAX`].
    #[error("the charter names {0} voters, at most {VOTERS_MAX} are allowed")]
    Many(usize),
    /// One node twice, as two incarnations.
    #[error("the charter names a node as two voters")]
    Twice,
}

/// A set of voters.
type Set = BTreeMap<Voter, Part>;

/// The voters of a group, as one charter names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voters {
    version: Version,
    now: Set,
    before: Option<Set>,
}

impl Voters {
    /// Returns the voters of a charter.
    pub fn new(
        version: Version,
        voters: impl IntoIterator<Item = (Voter, Part)>,
    ) -> Result<Self, VotersError> {
        let now: Set = voters.into_iter().collect();
        if VOTERS_MAX < now.len() {
            return Err(VotersError::Many(now.len()));
        }
        if !now.values().any(|part| *part == Part::Leader) {
            return Err(VotersError::NoLeader);
        }
        // Incarnations of one node stand beside each other.
        let mut pairs = now.keys().zip(now.keys().skip(1));
        if pairs.any(|(one, next)| one.node == next.node) {
            return Err(VotersError::Twice);
        }
        Ok(Self {
            version,
            now,
            before: None,
        })
    }

    /// Returns the charter in which both the old voters and the new ones count.
    pub fn joint(old: &Self, new: Self) -> Self {
        Self {
            before: Some(old.now.clone()),
            ..new
        }
    }

    /// Returns the charter's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns whether two sets count.
    pub fn is_joint(&self) -> bool {
        self.before.is_some()
    }

    /// Returns whether a leader of this charter stays one under `next`: no other quorum can have
    /// elected somebody between them.
    pub fn leads_to(&self, next: &Self) -> bool {
        let follows = self.version.0.saturating_add(1) == next.version.0;
        follows
            && match &next.before {
                Some(before) => *before == self.now,
                None => next.now == self.now,
            }
    }

    /// Returns a voter's part, unless it is a stranger.
    pub fn part_of(&self, voter: &Voter) -> Option<Part> {
        let old = || self.before.as_ref()?.get(voter);
        self.now.get(voter).or_else(old).copied()
    }

    /// Returns whether a node may lead.
    pub fn may_lead(&self, voter: &Voter) -> bool {
        self.part_of(voter) == Some(Part::Leader)
    }

    /// Returns every voter, each once.
    pub fn iter(&self) -> impl Iterator<Item = Voter> {
        let old = self.before.iter().flat_map(BTreeMap::keys);
        let gone = old.filter(|voter| !self.now.contains_key(voter));
        self.now.keys().chain(gone).copied()
    }

    /// Returns whether there is no other voter than this one.
    pub fn is_alone(&self, voter: &Voter) -> bool {
        self.iter().all(|other| other == *voter)
    }

    /// Returns the most that a majority has reached, of both sets if two count.
    pub fn reached<T: Ord>(&self, of: impl Fn(&Voter) -> Option<T>) -> Option<T> {
        let now = reached_in(&self.now, &of)?;
        match &self.before {
            Some(before) => Some(now.min(reached_in(before, &of)?)),
            None => Some(now),
        }
    }

    /// Returns whether a majority says yes, of both sets if two count.
    pub fn agree(&self, says: impl Fn(&Voter) -> bool) -> bool {
        self.reached(|voter| says(voter).then_some(())).is_some()
    }
}

fn reached_in<T: Ord>(set: &Set, of: impl Fn(&Voter) -> Option<T>) -> Option<T> {
    let mut values: Vec<T> = set.keys().filter_map(of).collect();
    values.sort_unstable_by(|one, other| other.cmp(one));
    // With `len / 2 + 1` at or above it, the value at this index is a majority's.
    values.into_iter().nth(set.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::identity::{NodeId, SecretKey};

    fn voter(byte: u8) -> Voter {
        Voter {
            node: NodeId(SecretKey::from_seed([byte; 32]).public()),
            incarnation: 1,
        }
    }

    fn voters(version: u64, bytes: &[u8]) -> Voters {
        let all = bytes.iter().map(|byte| (voter(*byte), Part::Leader));
        Voters::new(Version(version), all).unwrap()
    }

    #[track_caller]
    fn check(voters: &Voters, yes: &[u8], expect: bool) {
        let yes: Vec<Voter> = yes.iter().map(|byte| voter(*byte)).collect();
        assert_eq!(voters.agree(|voter| yes.contains(voter)), expect);
    }

    #[test]
    fn majority_is_more_than_half() {
        check(&voters(1, &[1, 2, 3]), &[1, 2], true);
        check(&voters(1, &[1, 2, 3]), &[1], false);
        check(&voters(1, &[1, 2, 3, 4]), &[1, 2], false);
        check(&voters(1, &[1]), &[1], true);
        check(&voters(1, &[1]), &[2], false);
    }

    #[test]
    fn joint_charter_needs_a_majority_of_both() {
        let joint = Voters::joint(&voters(1, &[1, 2, 3]), voters(2, &[3, 4, 5]));
        check(&joint, &[3, 4, 5], false);
        check(&joint, &[1, 2, 3], false);
        check(&joint, &[2, 3, 4], true);
        assert_eq!(joint.iter().count(), 5);
        assert!(voters(1, &[1, 2, 3]).leads_to(&joint));
        assert!(joint.leads_to(&voters(3, &[3, 4, 5])));
        assert!(!voters(1, &[1, 2, 3]).leads_to(&voters(3, &[3, 4, 5])));
    }

    #[test]
    fn what_a_majority_reached_is_its_least() {
        let three = voters(1, &[1, 2, 3]);
        let value = |voter_: &Voter| [1, 2, 3].into_iter().find(|byte| voter(*byte) == *voter_);
        assert_eq!(three.reached(value), Some(2));
    }

    #[test]
    fn unlawful_sets_are_refused() {
        let new = |all: Vec<(Voter, Part)>| Voters::new(Version(1), all).map(|_| ());
        let witness = vec![(voter(1), Part::Witness)];
        assert_eq!(new(witness), Err(VotersError::NoLeader));
        let again = Voter {
            incarnation: 2,
            ..voter(1)
        };
        let twice = vec![(voter(1), Part::Leader), (again, Part::Leader)];
        assert_eq!(new(twice), Err(VotersError::Twice));
        let many = (1..=10).map(|byte| (voter(byte), Part::Leader)).collect();
        assert_eq!(new(many), Err(VotersError::Many(10)));
    }
}
