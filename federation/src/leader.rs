//! Who may write for an organisation: its one voter, leader in term 1.
//!
//! First form. An organisation starts with one voter, and one voter needs no election: it leads in
//! [`FIRST_TERM`]. Two voters would be worse than one (both must be up for anything to be decided),
//! so more are refused until elections exist. Every change that a leader writes carries its term
//! already, so that nothing written today must be rewritten then.

use mesh_base::identity::{NodeId, OrgId};
use mesh_ledger::charter::OrgCharter;

/// The term of an organisation that never held an election.
pub const FIRST_TERM: u64 = 1;

/// Why a change may not be written, or a voter not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeadError {
    /// The node is not the leader.
    #[error("only {leader} may write for its organisation; {node} is not its leader")]
    NotLeader {
        /// Who wants to write.
        node: NodeId,
        /// Who may.
        leader: NodeId,
    },
    /// The term is not the current one.
    #[error("term {given} is not the current term {current}")]
    Term {
        /// What was given.
        given: u64,
        /// What counts.
        current: u64,
    },
    /// The charter does not name exactly one voter.
    #[error("the charter names {0} voters; this version needs exactly one")]
    Voters(usize),
    /// A second voter.
    #[error(
        "an organisation has one voter in this version; keep {leader} as the voter and add the \
         node as a member instead"
    )]
    SecondVoter {
        /// The one voter.
        leader: NodeId,
    },
}

/// Who leads one organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    org: OrgId,
    leader: NodeId,
}

impl Leadership {
    /// Reads the leadership from a charter.
    pub fn of(charter: &OrgCharter) -> Result<Self, LeadError> {
        match charter.voters.as_slice() {
            [leader] => Ok(Self {
                org: charter.org,
                leader: *leader,
            }),
            voters => Err(LeadError::Voters(voters.len())),
        }
    }

    /// Refuses every further voter; see the module.
    pub fn add_voter(&mut self, node: NodeId) -> Result<(), LeadError> {
        if node == self.leader {
            return Ok(());
        }
        Err(LeadError::SecondVoter {
            leader: self.leader,
        })
    }

    /// Returns whether `node` may write for the organisation in `term`, or why not.
    pub fn may_write(&self, node: &NodeId, term: u64) -> Result<(), LeadError> {
        if *node != self.leader {
            return Err(LeadError::NotLeader {
                node: *node,
                leader: self.leader,
            });
        }
        if term != FIRST_TERM {
            return Err(LeadError::Term {
                given: term,
                current: FIRST_TERM,
            });
        }
        Ok(())
    }

    /// Returns the organisation.
    pub fn org(&self) -> OrgId {
        self.org
    }

    /// Returns the leader.
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// Returns the term that the leader's changes carry.
    pub fn term(&self) -> u64 {
        FIRST_TERM
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::identity::SecretKey;
    use mesh_base::time::Wall;

    fn node(byte: u8) -> NodeId {
        NodeId(SecretKey::from_seed([byte; 32]).public())
    }

    fn charter(voters: &[NodeId]) -> OrgCharter {
        OrgCharter {
            org: OrgId(SecretKey::from_seed([9; 32]).public()),
            name: "bakery".parse().unwrap(),
            founded: Wall(0),
            masters: voters.to_vec(),
            voters: voters.to_vec(),
        }
    }

    #[test]
    fn only_the_voter_writes_and_only_in_term_one() {
        let lead = Leadership::of(&charter(&[node(1)])).unwrap();
        assert_eq!(lead.may_write(&node(1), 1), Ok(()));
        let refused = LeadError::NotLeader {
            node: node(2),
            leader: node(1),
        };
        assert_eq!(lead.may_write(&node(2), 1), Err(refused));
        let refused = LeadError::Term {
            given: 2,
            current: 1,
        };
        assert_eq!(lead.may_write(&node(1), 2), Err(refused));
    }

    #[test]
    fn second_voter_is_refused() {
        let mut lead = Leadership::of(&charter(&[node(1)])).unwrap();
        assert_eq!(lead.add_voter(node(1)), Ok(()));
        assert_eq!(
            lead.add_voter(node(2)),
            Err(LeadError::SecondVoter { leader: node(1) })
        );
    }

    #[test]
    fn charter_without_exactly_one_voter_has_no_leader() {
        assert_eq!(Leadership::of(&charter(&[])), Err(LeadError::Voters(0)));
        let two = charter(&[node(1), node(2)]);
        assert_eq!(Leadership::of(&two), Err(LeadError::Voters(2)));
    }
}
