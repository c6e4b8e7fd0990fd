//! Who belongs to which organisation that is trusted here, and who is refused.
//!
//! Decides whether a key with its certificates is a member; connections, and what a member may do,
//! are for others. Trusted are the own organisation and those with which there is an agreement.
//! Invariants: every member's organisation is trusted; one /64 belongs to one key; a member's
//! incarnation never goes down, so that a machine restored from an old copy is noticed; whom its
//! organisation has revoked is no member and never becomes one again.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Most members of one partner, so that nobody fills our tables by signing certificates: a firm
/// with more machines than this makes two organisations, or a later version negotiates the number.
pub const PARTNER_MEMBERS_MAX: usize = 64;
/// Most revocations kept of one organisation: one a week for a working life.
pub const REVOKED_MAX: usize = 2048;

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

/// A key that its organisation does not want any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// What it wrote before this time, by its own clock, still counts.
    pub from: Wall,
    /// Why, in its organisation's words.
    pub reason: String,
    /// What it was called and its incarnation, if it was known as a member.
    pub past: Option<(Name, u32)>,
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
    /// Nothing was shown.
    #[error("no certificate was shown; ask a member for an invite")]
    NoCertificate,
    /// Its organisation does not want it any more.
    #[error("the certificate was revoked at {from}: {reason}")]
    Revoked {
        /// Since when.
        from: Wall,
        /// Why, in its organisation's words.
        reason: String,
    },
    /// A partner with more members than it may bring.
    #[error("{org} may bring {PARTNER_MEMBERS_MAX} nodes, and that many are known")]
    PartnerFull {
        /// What it calls itself.
        org: Name,
    },
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
    /// Nothing was shown.
    NoCertificate,
    /// Its organisation does not want it any more.
    Revoked,
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
            Self::Full | Self::PartnerFull { .. } => RefusedBy::Full,
            Self::NoCertificate => RefusedBy::NoCertificate,
            Self::Revoked { .. } => RefusedBy::Revoked,
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
    /// No room for more revocations of one organisation.
    #[error("no more than {REVOKED_MAX} revocations of one organisation are kept")]
    Revocations,
}

/// All trusted organisations and their members.
#[derive(Debug, Clone)]
pub struct Roster {
    own: OrgId,
    orgs: BTreeMap<OrgId, Org>,
    /// Shared, because the gate judges by a copy of the roster.
    members: BTreeMap<NodeId, Arc<Member>>,
    prefixes: BTreeMap<[u8; 8], NodeId>,
    /// By organisation, for each may revoke only what it has certified.
    revoked: BTreeMap<(OrgId, NodeId), Revoked>,
    refusals: BTreeMap<RefusedBy, u64>,
    revision: u64,
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
            revoked: BTreeMap::new(),
            refusals: BTreeMap::new(),
            revision: 0,
        }
    }

    /// Proves and notes a member. A known member with the same or renewed certificates is fine.
    pub fn admit(
        &mut self,
        node: &NodeId,
        chain: &Chain,
        now: Wall,
    ) -> Result<&Member, AdmitError> {
        self.make_room(chain, now);
        match self.judge(node, chain, now) {
            Ok(member) => {
                if self.members.get(node).is_none_or(|old| **old != member) {
                    self.revision += 1;
                }
                self.prefixes.insert(member.body.prefix, *node);
                let entry = self.members.entry(*node);
                Ok(entry.insert_entry(Arc::new(member)).into_mut())
            }
            Err(error) => {
                let count = self.refusals.entry(error.counted_by()).or_default();
                *count = count.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Judges certificates without noting anything: what [`Roster::admit`] would say.
    pub fn judge(&self, node: &NodeId, chain: &Chain, now: Wall) -> Result<Member, AdmitError> {
        if chain.0.is_empty() {
            return Err(AdmitError::NoCertificate);
        }
        let trusted = |org: &OrgId| self.orgs.contains_key(org);
        let body = chain.verify_signatures(node, now, trusted)?.clone();
        self.not_revoked(chain)?;
        let Some(known) = self.members.get(node) else {
            return self.newcomer(node, chain, body);
        };
        if body.prefix != known.address.prefix() {
            return Err(ChainError::Prefix.into());
        }
        if body.incarnation < known.body.incarnation {
            let (known, shown) = (known.body.incarnation, body.incarnation);
            return Err(AdmitError::OldIncarnation { known, shown });
        }
        // An older certificate of the same incarnation is lawful, but the newer one is kept.
        if body.not_before < known.body.not_before && body.incarnation == known.body.incarnation {
            return Ok(Member::clone(known));
        }
        Ok(Member {
            address: known.address,
            body,
            chain: chain.clone(),
        })
    }

    /// Judges a key that is new here; the slow hash comes last, so a stranger cannot make us work.
    fn newcomer(&self, node: &NodeId, chain: &Chain, body: Body) -> Result<Member, AdmitError> {
        if MEMBERS_MAX <= self.members.len() {
            return Err(AdmitError::Full);
        }
        if body.org != self.own && PARTNER_MEMBERS_MAX <= self.members_of(&body.org).count() {
            let known = self.orgs.get(&body.org);
            let org = known.map_or_else(|| body.org_name.clone(), |org| org.name.clone());
            return Err(AdmitError::PartnerFull { org });
        }
        if let Some(other) = self.prefixes.get(&body.prefix) {
            return Err(AdmitError::PrefixTaken(*other));
        }
        let address = NodeAddress::of(node);
        if address.prefix() != body.prefix {
            return Err(ChainError::Prefix.into());
        }
        Ok(Member {
            address,
            body,
            chain: chain.clone(),
        })
    }

    /// Neither the node nor a master that signed for it may have been revoked.
    fn not_revoked(&self, chain: &Chain) -> Result<(), AdmitError> {
        for certificate in &chain.0 {
            let key = (certificate.body.org, certificate.body.node);
            if let Some(Revoked { from, reason, .. }) = self.revoked.get(&key) {
                return Err(AdmitError::Revoked {
                    from: *from,
                    reason: reason.clone(),
                });
            }
        }
        Ok(())
    }

    /// Forgets members of a full partner whose certificates have ended.
    fn make_room(&mut self, chain: &Chain, now: Wall) {
        let Some(org) = chain.leaf().map(|body| body.org) else {
            return;
        };
        if org == self.own || self.members_of(&org).count() < PARTNER_MEMBERS_MAX {
            return;
        }
        let ended = |member: &Member| member.chain.valid_until() <= Some(now);
        let gone: Vec<NodeId> = self
            .members_of(&org)
            .filter(|(_, member)| ended(member))
            .map(|(node, _)| *node)
            .collect();
        for node in gone {
            self.forget(&node);
        }
    }

    fn forget(&mut self, node: &NodeId) -> Option<Arc<Member>> {
        let member = self.members.remove(node)?;
        self.prefixes.remove(&member.body.prefix);
        self.revision += 1;
        Some(member)
    }

    /// Notes that an organisation does not want one of its keys any more; returns whom we lose.
    ///
    /// The ledger has checked that the organisation's leader says so. Again is fine; the earlier
    /// time stays, for nothing that was refused may become good.
    pub fn revoke(
        &mut self,
        org: OrgId,
        node: NodeId,
        from: Wall,
        reason: &str,
    ) -> Result<Option<Arc<Member>>, TrustError> {
        if !self.orgs.contains_key(&org) {
            return Err(TrustError::Untrusted(org));
        }
        let key = (org, node);
        let of_org = self.revoked.keys().filter(|(by, _)| *by == org).count();
        if REVOKED_MAX <= of_org && !self.revoked.contains_key(&key) {
            return Err(TrustError::Revocations);
        }
        let is_member = self.org_of(&node) == Some(org);
        let member = if is_member { self.forget(&node) } else { None };
        let past = |member: &Arc<Member>| (member.body.name.clone(), member.body.incarnation);
        let revoked = self.revoked.entry(key).or_insert_with(|| Revoked {
            from,
            reason: reason.to_owned(),
            past: member.as_ref().map(past),
        });
        revoked.from = revoked.from.min(from);
        self.revision += 1;
        Ok(member)
    }

    /// Returns whether and why an organisation has revoked a key.
    pub fn revocation(&self, org: &OrgId, node: &NodeId) -> Option<&Revoked> {
        self.revoked.get(&(*org, *node))
    }

    /// Returns a number that grows whenever somebody else would be admitted than before.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Trusts an organisation from now on; again is fine and renews the name.
    pub fn trust(&mut self, org: OrgId, name: Name) -> Result<(), TrustError> {
        let full = ORGS_MAX <= self.orgs.len();
        match self.orgs.get_mut(&org) {
            Some(known) => known.name = name,
            None if full => return Err(TrustError::Full),
            None => {
                self.revision += 1;
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
            self.forget(node);
        }
        self.revoked.retain(|(by, _), _| by != org);
        self.revision += 1;
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
        self.members.get(node).map(Arc::as_ref)
    }

    /// Returns all members.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members
            .iter()
            .map(|(node, member)| (node, member.as_ref()))
    }

    /// Returns the members of one organisation.
    pub fn members_of(&self, org: &OrgId) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members()
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
            .max_by_key(|(node, member)| age(node, member))
            .map(|(node, _)| *node)
    }

    /// Returns who has which name, as [`Roster::named`] says of each.
    pub fn newest(&self) -> BTreeMap<(OrgId, &Name), (&NodeId, &Member)> {
        let mut newest = BTreeMap::new();
        for (node, member) in self.members() {
            let name = (member.body.org, &member.body.name);
            let known = newest.entry(name).or_insert((node, member));
            if age(known.0, known.1) < age(node, member) {
                *known = (node, member);
            }
        }
        newest
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

/// What is compared if two keys have had one name: the greatest has it.
fn age(node: &NodeId, member: &Member) -> (Wall, NodeId) {
    (member.body.not_before, *node)
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
                (RefusedBy::OtherKey, 1),
                (RefusedBy::Untrusted, 1),
                (RefusedBy::Forged, 1),
                (RefusedBy::Expired, 1),
                (RefusedBy::Prefix, 1),
                (RefusedBy::NoCertificate, 1)
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
    fn revoked_key_is_no_member_and_never_becomes_one_again() {
        let mut roster = roster();
        roster.trust(org(2), name("library")).unwrap();
        roster.admit(&id(5), &chain(5, 1, |_| {}), NOW).unwrap();
        let before = roster.revision();
        let lost = roster.revoke(org(1), id(5), NOW, "sold").unwrap().unwrap();
        assert_eq!(lost.body.name, name("bakery-1"));
        assert!(before < roster.revision());
        let renewed = chain(5, 1, |body| body.not_before = Wall(900));
        let refused = roster.admit(&id(5), &renewed, NOW).unwrap_err();
        assert_eq!(refused.counted_by(), RefusedBy::Revoked);
        assert!(refused.to_string().contains("sold"), "{refused}");
        // Another organisation's word about it counts nothing, in either direction.
        roster.revoke(org(2), id(6), NOW, "envy").unwrap();
        roster.admit(&id(6), &chain(6, 1, |_| {}), NOW).unwrap();
        assert!(roster.admit(&id(5), &chain(5, 2, |_| {}), NOW).is_ok());
        // What was refused stays refused.
        roster.revoke(org(1), id(5), Wall(2_000), "again").unwrap();
        let kept = roster.revocation(&org(1), &id(5)).unwrap();
        assert_eq!((kept.from, kept.reason.as_str()), (NOW, "sold"));
        assert_eq!(
            roster.revoke(org(3), id(5), NOW, "x"),
            Err(TrustError::Untrusted(org(3)))
        );
    }

    #[test]
    fn what_a_revoked_master_signed_is_refused_with_it() {
        let mut roster = roster();
        let master = chain(7, 1, |body| body.role = Role::Master);
        let leaf = chain(5, 1, |body| body.issuer = key(7).public());
        let leaf = Certificate::issue(leaf.0[0].body.clone(), &key(7));
        let both = Chain(vec![leaf, master.0[0].clone()]);
        roster.judge(&id(5), &both, NOW).unwrap();
        roster.revoke(org(1), id(7), NOW, "stolen").unwrap();
        let refused = roster.admit(&id(5), &both, NOW).unwrap_err();
        assert_eq!(refused.counted_by(), RefusedBy::Revoked);
    }

    #[test]
    fn partner_brings_no_more_nodes_than_its_limit_and_ended_ones_make_room() {
        let mut roster = roster();
        roster.trust(org(2), name("library")).unwrap();
        for byte in 10..74 {
            let until = |body: &mut Body| {
                body.not_after = Wall(if byte == 10 { 1_500 } else { 2_000 });
            };
            roster
                .admit(&id(byte), &chain(byte, 2, until), NOW)
                .unwrap();
        }
        let refused = roster.admit(&id(5), &chain(5, 2, |_| {}), NOW).unwrap_err();
        assert_eq!(
            refused,
            AdmitError::PartnerFull {
                org: name("library")
            }
        );
        assert_eq!(refused.counted_by(), RefusedBy::Full);
        roster.admit(&id(11), &chain(11, 2, |_| {}), NOW).unwrap();
        roster.admit(&id(4), &chain(4, 1, |_| {}), NOW).unwrap();
        roster
            .admit(&id(5), &chain(5, 2, |_| {}), Wall(1_600))
            .unwrap();
        assert_eq!(roster.member(&id(10)), None);
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
        let oven = chain(7, 1, |body| body.name = name("oven"));
        roster.admit(&id(7), &oven, NOW).unwrap();
        assert_eq!(roster.named(&org(1), &name("bakery-1")), Some(id(5)));
        // Of two certified at one time, the greater key.
        let equal = chain(8, 1, |body| body.not_before = Wall(20));
        roster.admit(&id(8), &equal, NOW).unwrap();
        assert_eq!(
            roster.named(&org(1), &name("bakery-1")),
            Some(id(5).max(id(8)))
        );
        let newest = roster.newest();
        assert_eq!(newest.len(), 2);
        for ((org, name), (node, member)) in newest {
            assert_eq!(roster.named(&org, name), Some(*node), "{name}");
            assert_eq!((member.body.node, &member.body.name), (*node, name));
        }
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
