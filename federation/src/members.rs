//! Who belongs to which organisation that is trusted here, and who is refused.
//!
//! Decides whether a key with its certificates is a member; connections, and what a member may do,
//! are for others. Trusted are the own organisation and those with which there is an agreement.
//! Invariants: every member's organisation is trusted; one /64 belongs to one key; a member's
//! incarnation never goes down, so that a machine restored from an old copy is noticed.

use std::collections::BTreeMap;

use mesh_base::address::NodeAddress;
use mesh_base::certificate::{Body, Chain, ChainError};
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::name::Name;
use mesh_base::time::Wall;
use mesh_ledger::charter::OrgCharter;

/// Most members of all organisations together: ten times the largest mesh that is simulated.
pub const MEMBERS_MAX: usize = 10_000;
/// Most organisations trusted at the same time.
pub const ORGS_MAX: usize = 256;

/// A trusted organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Org {
    /// What it calls itself.
    pub name: Name,
    /// Its constitution, once it is known.
    pub charter: Option<OrgCharter>,
}

/// A proven member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What is certified.
    pub body: Body,
    /// Its overlay address.
    pub address: NodeAddress,
    /// The certificates, for those who ask.
    pub chain: Chain,
}

/// Why a key is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// The certificates prove nothing.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Another key has this /64 already.
    #[error("the address prefix belongs to another node, {0}")]
    PrefixTaken(NodeId),
    /// The key was seen with a later incarnation: a copy or an old backup of it runs.
    #[error(
        "the node's incarnation {shown} is older than {known}, which is known here; two machines \
         may have the same key"
    )]
    OldIncarnation {
        /// What is known.
        known: u32,
        /// What was shown.
        shown: u32,
    },
    /// No room for more members.
    #[error("no more than {MEMBERS_MAX} members can be known")]
    Full,
}

/// What refusals are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedBy {
    /// Number of certificates, or a version unknown here.
    Form,
    /// The key shown is not the one certified.
    OtherKey,
    /// The organisation is not trusted.
    Untrusted,
    /// Issuer or signature.
    Forged,
    /// Time of validity.
    Expired,
    /// A wrong or taken /64.
    Prefix,
    /// An old incarnation.
    Incarnation,
    /// A limit of ours.
    Full,
}

impl AdmitError {
    /// Returns what this refusal is counted by.
    pub fn counted_by(&self) -> RefusedBy {
        match self {
            Self::Chain(ChainError::OtherKey) => RefusedBy::OtherKey,
            Self::Chain(ChainError::Untrusted(_)) => RefusedBy::Untrusted,
            Self::Chain(ChainError::Issuer | ChainError::Signature(_)) => RefusedBy::Forged,
            Self::Chain(ChainError::Expired(..)) => RefusedBy::Expired,
            Self::Chain(ChainError::Prefix) | Self::PrefixTaken(_) => RefusedBy::Prefix,
            Self::Chain(_) => RefusedBy::Form,
            Self::OldIncarnation { .. } => RefusedBy::Incarnation,
            Self::Full => RefusedBy::Full,
        }
    }
}

/// Why an organisation cannot be trusted or given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// No room for more organisations.
    #[error("no more than {ORGS_MAX} organisations can be trusted at the same time")]
    Full,
    /// The own organisation.
    #[error("the own organisation cannot be given up")]
    Own,
    /// A charter of an organisation that is not trusted.
    #[error("organisation {0} is not trusted here")]
    Untrusted(OrgId),
}

/// All trusted organisations and their members.
#[derive(Debug, Clone)]
pub struct Roster {
    own: OrgId,
    orgs: BTreeMap<OrgId, Org>,
    members: BTreeMap<NodeId, Member>,
    prefixes: BTreeMap<[u8; 8], NodeId>,
    refusals: BTreeMap<RefusedBy, u64>,
}

impl Roster {
    /// Returns a roster that trusts only the own organisation.
    pub fn new(own: OrgId, name: Name) -> Self {
        Self {
            own,
            orgs: BTreeMap::from([(
                own,
                Org {
                    name,
                    charter: None,
                },
            )]),
            members: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            refusals: BTreeMap::new(),
        }
    }

    /// Proves and notes a member. A known member with the same or renewed certificates is fine.
    pub fn admit(
        &mut self,
        node: &NodeId,
        chain: &Chain,
        now: Wall,
    ) -> Result<&Member, AdmitError> {
        match self.judge(node, chain, now) {
            Ok(member) => {
                self.prefixes.insert(member.body.prefix, *node);
                let entry = self.members.entry(*node);
                Ok(entry.insert_entry(member).into_mut())
            }
            Err(error) => {
                let count = self.refusals.entry(error.counted_by()).or_default();
                *count = count.saturating_add(1);
                Err(error)
            }
        }
    }

    fn judge(&self, node: &NodeId, chain: &Chain, now: Wall) -> Result<Member, AdmitError> {
        let trusted = |org: &OrgId| self.orgs.contains_key(org);
        let Some(known) = self.members.get(node) else {
            if MEMBERS_MAX <= self.members.len() {
                return Err(AdmitError::Full);
            }
            // The slow hash comes last inside, so a stranger cannot make us work.
            let body = chain.verify(node, now, trusted)?.clone();
            if let Some(other) = self.prefixes.get(&body.prefix) {
                return Err(AdmitError::PrefixTaken(*other));
            }
            return Ok(Member {
                address: NodeAddress::of(node),
                body,
                chain: chain.clone(),
            });
        };
        let body = chain.verify_signatures(node, now, trusted)?.clone();
        if body.prefix != known.address.prefix() {
            return Err(ChainError::Prefix.into());
        }
        if body.incarnation < known.body.incarnation {
            let (known, shown) = (known.body.incarnation, body.incarnation);
            return Err(AdmitError::OldIncarnation { known, shown });
        }
        // An older certificate of the same incarnation is lawful, but the newer one is kept.
        if body.not_before < known.body.not_before && body.incarnation == known.body.incarnation {
            return Ok(known.clone());
        }
        Ok(Member {
            address: known.address,
            body,
            chain: chain.clone(),
        })
    }

    /// Trusts an organisation from now on; again is fine and renews the name.
    pub fn trust(&mut self, org: OrgId, name: Name) -> Result<(), TrustError> {
        let full = ORGS_MAX <= self.orgs.len();
        match self.orgs.get_mut(&org) {
            Some(known) => known.name = name,
            None if full => return Err(TrustError::Full),
            None => {
                self.orgs.insert(
                    org,
                    Org {
                        name,
                        charter: None,
                    },
                );
            }
        }
        Ok(())
    }

    /// Gives up an organisation with all its members; returns who they were.
    pub fn untrust(&mut self, org: &OrgId) -> Result<Vec<NodeId>, TrustError> {
        if *org == self.own {
            return Err(TrustError::Own);
        }
        self.orgs.remove(org);
        let gone: Vec<NodeId> = self.members_of(org).map(|(node, _)| *node).collect();
        for node in &gone {
            if let Some(member) = self.members.remove(node) {
                self.prefixes.remove(&member.body.prefix);
            }
        }
        Ok(gone)
    }

    /// Notes the constitution of a trusted organisation; the ledger has checked its root's
    /// signature.
    pub fn set_charter(&mut self, charter: OrgCharter) -> Result<(), TrustError> {
        let org = charter.org;
        let known = self.orgs.get_mut(&org).ok_or(TrustError::Untrusted(org))?;
        known.name = charter.name.clone();
        known.charter = Some(charter);
        Ok(())
    }

    /// Returns the own organisation.
    pub fn own(&self) -> OrgId {
        self.own
    }

    /// Returns the trusted organisations.
    pub fn orgs(&self) -> &BTreeMap<OrgId, Org> {
        &self.orgs
    }

    /// Returns the trusted organisation of this name; if several use it, the own one, else the
    /// first.
    pub fn org_named(&self, name: &Name) -> Option<OrgId> {
        let mut named = self
            .orgs
            .iter()
            .filter(|(_, org)| org.name == *name)
            .map(|(id, _)| *id);
        let first = named.next();
        if first == Some(self.own) || named.any(|id| id == self.own) {
            Some(self.own)
        } else {
            first
        }
    }

    /// Returns a member.
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// Returns all members.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter()
    }

    /// Returns the members of one organisation.
    pub fn members_of(&self, org: &OrgId) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members
            .iter()
            .filter(move |(_, member)| member.body.org == *org)
    }

    /// Returns the organisation of a member.
    pub fn org_of(&self, node: &NodeId) -> Option<OrgId> {
        self.members.get(node).map(|member| member.body.org)
    }

    /// Returns the member of this name. If two keys have had the name, the one certified last has
    /// it.
    pub fn named(&self, org: &OrgId, name: &Name) -> Option<NodeId> {
        self.members_of(org)
            .filter(|(_, member)| member.body.name == *name)
            .max_by_key(|(node, member)| (member.body.not_before, **node))
            .map(|(node, _)| *node)
    }

    /// Returns the nodes that may act for an organisation, as far as its charter is known.
    pub fn masters_of(&self, org: &OrgId) -> &[NodeId] {
        self.charter_of(org).map_or(&[], |charter| &charter.masters)
    }

    /// Returns the nodes that vote for an organisation's leader, as far as its charter is known.
    pub fn voters_of(&self, org: &OrgId) -> &[NodeId] {
        self.charter_of(org).map_or(&[], |charter| &charter.voters)
    }

    /// Returns the charter of an organisation, if it is known.
    pub fn charter_of(&self, org: &OrgId) -> Option<&OrgCharter> {
        self.orgs.get(org).and_then(|org| org.charter.as_ref())
    }

    /// Returns how often whom we refused, by reason.
    pub fn refusals(&self) -> &BTreeMap<RefusedBy, u64> {
        &self.refusals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::certificate::{CERTIFICATE_VERSION, Certificate, Role};
    use mesh_base::identity::SecretKey;

    const NOW: Wall = Wall(1_000);

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_seed([byte; 32])
    }

    fn id(byte: u8) -> NodeId {
        NodeId(key(byte).public())
    }

    fn org(byte: u8) -> OrgId {
        OrgId(key(byte).public())
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A chain for node `byte`, signed by the root key `root`, after `change`.
    fn chain(byte: u8, root: u8, change: impl Fn(&mut Body)) -> Chain {
        let mut body = Body {
            version: CERTIFICATE_VERSION,
            node: id(byte),
            prefix: NodeAddress::of(&id(byte)).prefix(),
            org: org(root),
            org_name: name("bakery"),
            name: name("bakery-1"),
            role: Role::Node,
            incarnation: 3,
            not_before: Wall(10),
            not_after: Wall(2_000),
            issuer: key(root).public(),
        };
        change(&mut body);
        Chain(vec![Certificate::issue(body, &key(root))])
    }

    fn roster() -> Roster {
        Roster::new(org(1), name("bakery"))
    }

    #[test]
    fn proven_member_is_found_by_key_name_and_organisation() {
        let mut roster = roster();
        roster.admit(&id(5), &chain(5, 1, |_| {}), NOW).unwrap();
        assert_eq!(roster.org_of(&id(5)), Some(org(1)));
        assert_eq!(roster.named(&org(1), &name("bakery-1")), Some(id(5)));
        assert_eq!(roster.members_of(&org(1)).count(), 1);
        assert_eq!(
            roster.member(&id(5)).unwrap().address,
            NodeAddress::of(&id(5))
        );
    }

    #[test]
    fn strangers_are_refused_and_counted_by_reason() {
        let mut roster = roster();
        let untrusted = roster.admit(&id(5), &chain(5, 2, |_| {}), NOW).unwrap_err();
        assert_eq!(untrusted, ChainError::Untrusted(org(2)).into());
        let expired = chain(5, 1, |body| body.not_after = Wall(500));
        roster.admit(&id(5), &expired, NOW).unwrap_err();
        roster.admit(&id(6), &chain(5, 1, |_| {}), NOW).unwrap_err();
        roster
            .admit(&id(5), &chain(5, 1, |body| body.prefix = [0; 8]), NOW)
            .unwrap_err();
        roster.admit(&id(5), &Chain(vec![]), NOW).unwrap_err();
        let forged = chain(5, 1, |body| body.issuer = key(7).public());
        roster.admit(&id(5), &forged, NOW).unwrap_err();
        let counted: Vec<_> = roster
            .refusals()
            .iter()
            .map(|(by, count)| (*by, *count))
            .collect();
        assert_eq!(
            counted,
            [
                (RefusedBy::Form, 1),
                (RefusedBy::OtherKey, 1),
                (RefusedBy::Untrusted, 1),
                (RefusedBy::Forged, 1),
                (RefusedBy::Expired, 1),
                (RefusedBy::Prefix, 1)
            ]
        );
        assert_eq!(roster.members().count(), 0);
    }

    #[test]
    fn second_key_for_a_prefix_is_refused() {
        let mut roster = roster();
        // Two keys with one prefix cannot be made for a test, so the first one's is planted.
        roster
            .prefixes
            .insert(NodeAddress::of(&id(5)).prefix(), id(6));
        let refused = roster.admit(&id(5), &chain(5, 1, |_| {}), NOW).unwrap_err();
        assert_eq!(refused, AdmitError::PrefixTaken(id(6)));
        assert_eq!(refused.counted_by(), RefusedBy::Prefix);
    }

    #[test]
    fn known_member_may_renew_but_not_go_back() {
        let mut roster = roster();
        roster.admit(&id(5), &chain(5, 1, |_| {}), NOW).unwrap();
        let renewed = chain(5, 1, |body| {
            (body.incarnation, body.name) = (4, name("oven"))
        });
        assert_eq!(
            roster.admit(&id(5), &renewed, NOW).unwrap().body.name,
            name("oven")
        );
        let refused = roster.admit(&id(5), &chain(5, 1, |_| {}), NOW).unwrap_err();
        assert_eq!(refused, AdmitError::OldIncarnation { known: 4, shown: 3 });
        let other = chain(5, 1, |body| body.prefix = [1; 8]);
        assert_eq!(
            roster.admit(&id(5), &other, NOW).unwrap_err(),
            ChainError::Prefix.into()
        );
        let older = chain(5, 1, |body| {
            (body.incarnation, body.not_before) = (4, Wall(1))
        });
        assert_eq!(
            roster.admit(&id(5), &older, NOW).unwrap().body.name,
            name("oven")
        );
    }

    #[test]
    fn organisation_that_is_given_up_takes_its_members_along() {
        let mut roster = roster();
        roster.trust(org(2), name("library")).unwrap();
        roster.admit(&id(5), &chain(5, 1, |_| {}), NOW).unwrap();
        roster.admit(&id(6), &chain(6, 2, |_| {}), NOW).unwrap();
        assert_eq!(roster.untrust(&org(2)), Ok(vec![id(6)]));
        assert_eq!(roster.members().count(), 1);
        assert!(roster.admit(&id(6), &chain(6, 2, |_| {}), NOW).is_err());
        assert_eq!(roster.untrust(&org(1)), Err(TrustError::Own));
    }

    #[test]
    fn latest_certified_key_has_the_name() {
        let mut roster = roster();
        roster
            .admit(&id(5), &chain(5, 1, |body| body.not_before = Wall(20)), NOW)
            .unwrap();
        roster.admit(&id(6), &chain(6, 1, |_| {}), NOW).unwrap();
        assert_eq!(roster.named(&org(1), &name("bakery-1")), Some(id(5)));
    }

    #[test]
    fn charter_tells_masters_and_voters() {
        let mut roster = roster();
        let charter = |org| OrgCharter {
            org,
            name: name("bakery"),
            founded: NOW,
            masters: vec![id(5), id(6)],
            voters: vec![id(5)],
        };
        roster.set_charter(charter(org(1))).unwrap();
        assert_eq!(roster.masters_of(&org(1)), [id(5), id(6)]);
        assert_eq!(roster.voters_of(&org(1)), [id(5)]);
        assert_eq!(roster.voters_of(&org(2)), []);
        assert_eq!(
            roster.set_charter(charter(org(2))),
            Err(TrustError::Untrusted(org(2)))
        );
    }

    #[test]
    fn no_more_organisations_than_the_limit_are_trusted() {
        let mut roster = roster();
        for byte in 2..=255_u8 {
            roster.trust(org(byte), name("other")).unwrap();
        }
        roster
            .trust(OrgId(SecretKey::from_seed([0; 32]).public()), name("other"))
            .unwrap();
        let mut seed = [0; 32];
        seed[0] = 1;
        let one_more = OrgId(SecretKey::from_seed(seed).public());
        assert_eq!(roster.trust(one_more, name("more")), Err(TrustError::Full));
        assert_eq!(roster.trust(org(2), name("renamed")), Ok(()));
        assert_eq!(roster.org_named(&name("renamed")), Some(org(2)));
        assert_eq!(roster.org_named(&name("bakery")), Some(org(1)));
    }
}
