//! Membership certificates: who vouches for a node, up to an organisation's root key.
//!
//! ```text
//! root key ── signs ──► master's certificate ── master signs ──► node's certificate
//! ```
//! A chain holds the node's own certificate first and at most one master's after it. A certificate
//! binds the full key, the /64 computed from it, organisation, name, role and time of validity; a
//! key whose certificate names another prefix than its own is refused. Revocation lists live in
//! `federation/`.

use serde::{Deserialize, Serialize};

use crate::address::NodeAddress;
use crate::codec;
use crate::identity::{Context, KeyError, NodeId, OrgId, PublicKey, SecretKey, Signature};
use crate::name::Name;
use crate::time::Wall;

/// Format version of [`Body`].
pub const CERTIFICATE_VERSION: u8 = 1;
/// Longest encoded chain: two certificates of at most 600 bytes.
pub const CHAIN_LEN_MAX: usize = 1500;

/// What a node may do for its organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Routes, replicates, grants its own capacity.
    Node,
    /// Acts for the organisation: writes its documents, signs members, invoices.
    Master,
}

/// What is certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// [`CERTIFICATE_VERSION`].
    pub version: u8,
    /// The certified key.
    pub node: NodeId,
    /// The first eight bytes of the key's address.
    #[serde(with = "serde_bytes")]
    pub prefix: [u8; 8],
    /// The organisation that vouches.
    pub org: OrgId,
    /// The organisation's name, as its root key or master calls it.
    pub org_name: Name,
    /// The node's name, unique in its organisation.
    pub name: Name,
    /// What the node may do.
    pub role: Role,
    /// Counts the key's restarts from a backup.
    pub incarnation: u32,
    /// Valid from.
    pub not_before: Wall,
    /// Valid until.
    pub not_after: Wall,
    /// Who signs: the root key or a master.
    pub issuer: PublicKey,
}

/// A signed [`Body`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What is certified.
    pub body: Body,
    /// The issuer's signature over the canonical bytes of the body.
    pub signature: Signature,
}

/// A node's certificate and, if a master signed it, the master's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain(pub Vec<Certificate>);

/// Why a chain proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No certificate, or more than two.
    #[error("a chain has one or two certificates, this has {0}")]
    Length(usize),
    /// A version we do not know.
    #[error("certificate version {0} is not known here; update this machine")]
    Version(u8),
    /// The key shown is not the key certified.
    #[error("the certificate is for another key")]
    OtherKey,
    /// The organisation's root is not trusted here.
    #[error("organisation {0} is not trusted here")]
    Untrusted(OrgId),
    /// An issuer that is neither the root nor a master of the same organisation.
    #[error("the certificate's issuer may not sign members")]
    Issuer,
    /// The signature does not fit.
    #[error("the certificate's signature does not match")]
    Signature(#[source] KeyError),
    /// The wall clock is outside the time of validity.
    #[error("the certificate is valid from {0} to {1}")]
    Expired(Wall, Wall),
    /// The prefix is not the one of the key.
    #[error("the certificate names another prefix than its key has")]
    Prefix,
}

impl Certificate {
    /// Signs a certificate.
    pub fn issue(body: Body, issuer: &SecretKey) -> Self {
        let signature = issuer.sign(Context::Certificate, &codec::encode(&body));
        Self { body, signature }
    }

    fn check(&self, now: Wall) -> Result<(), ChainError> {
        if self.body.version != CERTIFICATE_VERSION {
            return Err(ChainError::Version(self.body.version));
        }
        if now < self.body.not_before || self.body.not_after <= now {
            return Err(ChainError::Expired(
                self.body.not_before,
                self.body.not_after,
            ));
        }
        self.body
            .issuer
            .verify(
                Context::Certificate,
                &codec::encode(&self.body),
                &self.signature,
            )
            .map_err(ChainError::Signature)
    }
}

impl Chain {
    /// Returns the node's own certificate body, unchecked.
    pub fn leaf(&self) -> Option<&Body> {
        self.0.first().map(|certificate| &certificate.body)
    }

    /// Returns when the first of its certificates ends; a chain is worth no more than that.
    pub fn valid_until(&self) -> Option<Wall> {
        let ends = self.0.iter().map(|certificate| certificate.body.not_after);
        ends.min()
    }

    /// Proves that `node` is a member of an organisation that `trusted` accepts; returns its body.
    ///
    /// Cheap checks come first, the slow hash of the prefix last.
    pub fn verify(
        &self,
        node: &NodeId,
        now: Wall,
        trusted: impl Fn(&OrgId) -> bool,
    ) -> Result<&Body, ChainError> {
        let body = self.verify_signatures(node, now, trusted)?;
        if NodeAddress::of(node).prefix() != body.prefix {
            return Err(ChainError::Prefix);
        }
        Ok(body)
    }

    /// As [`Chain::verify`], but leaves out the slow hash; for keys whose prefix is already known.
    pub fn verify_signatures(
        &self,
        node: &NodeId,
        now: Wall,
        trusted: impl Fn(&OrgId) -> bool,
    ) -> Result<&Body, ChainError> {
        let (leaf, master) = match self.0.as_slice() {
            [leaf] => (leaf, None),
            [leaf, master] => (leaf, Some(master)),
            other => return Err(ChainError::Length(other.len())),
        };
        if leaf.body.node != *node {
            return Err(ChainError::OtherKey);
        }
        let org = leaf.body.org;
        if !trusted(&org) {
            return Err(ChainError::Untrusted(org));
        }
        match master {
            None if leaf.body.issuer != org.0 => return Err(ChainError::Issuer),
            None => {}
            Some(master) => {
                let lawful = master.body.role == Role::Master
                    && master.body.org == org
                    && master.body.issuer == org.0
                    && leaf.body.issuer == master.body.node.0;
                if !lawful {
                    return Err(ChainError::Issuer);
                }
                master.check(now)?;
            }
        }
        leaf.check(now)?;
        Ok(&leaf.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_000);

    fn body(node: &SecretKey, org: &SecretKey, role: Role, issuer: &SecretKey) -> Body {
        let id = NodeId(node.public());
        Body {
            version: CERTIFICATE_VERSION,
            node: id,
            prefix: NodeAddress::of(&id).prefix(),
            org: OrgId(org.public()),
            org_name: "bakery".parse().unwrap(),
            name: "bakery-1".parse().unwrap(),
            role,
            incarnation: 0,
            not_before: Wall(0),
            not_after: Wall(2_000),
            issuer: issuer.public(),
        }
    }

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_seed([byte; 32])
    }

    /// Builds the lawful chain root → master → node, lets `spoil` change it, and verifies.
    #[track_caller]
    fn check(spoil: impl Fn(&mut Chain), now: Wall, expect: Result<(), ChainError>) {
        let (root, master, node) = (key(1), key(2), key(3));
        let mut chain = Chain(vec![
            Certificate::issue(body(&node, &root, Role::Node, &master), &master),
            Certificate::issue(body(&master, &root, Role::Master, &root), &root),
        ]);
        spoil(&mut chain);
        let org = OrgId(root.public());
        let got = chain
            .verify(&NodeId(node.public()), now, |candidate| *candidate == org)
            .map(|_| ());
        assert_eq!(got, expect);
    }

    #[test]
    fn chain_to_a_trusted_root_is_accepted() {
        check(|_| {}, NOW, Ok(()));
    }

    #[test]
    fn chain_ends_with_its_first_certificate() {
        let (root, master, node) = (key(1), key(2), key(3));
        let mut early = body(&master, &root, Role::Master, &root);
        early.not_after = Wall(1_500);
        let chain = Chain(vec![
            Certificate::issue(body(&node, &root, Role::Node, &master), &master),
            Certificate::issue(early, &root),
        ]);
        assert_eq!(chain.valid_until(), Some(Wall(1_500)));
        assert_eq!(Chain(Vec::new()).valid_until(), None);
    }

    #[test]
    fn unlawful_chains_are_refused() {
        let (root, master, node, rogue) = (key(1), key(2), key(3), key(4));
        check(|chain| chain.0.clear(), NOW, Err(ChainError::Length(0)));
        check(
            |_| {},
            Wall(2_000),
            Err(ChainError::Expired(Wall(0), Wall(2_000))),
        );
        check(|chain| chain.0.truncate(1), NOW, Err(ChainError::Issuer));
        check(
            |chain| {
                chain.0[0] = Certificate::issue(body(&rogue, &root, Role::Node, &master), &master)
            },
            NOW,
            Err(ChainError::OtherKey),
        );
        check(
            |chain| chain.0[1] = Certificate::issue(body(&master, &root, Role::Node, &root), &root),
            NOW,
            Err(ChainError::Issuer),
        );
        check(
            |chain| {
                chain.0[0] = Certificate::issue(body(&node, &rogue, Role::Node, &rogue), &rogue)
            },
            NOW,
            Err(ChainError::Untrusted(OrgId(rogue.public()))),
        );
        check(
            |chain| chain.0[0].body.role = Role::Master,
            NOW,
            Err(ChainError::Signature(KeyError::Signature)),
        );
        check(
            |chain| {
                let mut other = body(&node, &root, Role::Node, &master);
                other.prefix = [0; 8];
                chain.0[0] = Certificate::issue(other, &master);
            },
            NOW,
            Err(ChainError::Prefix),
        );
        check(
            |chain| {
                let mut other = body(&node, &root, Role::Node, &master);
                other.version = 9;
                chain.0[0] = Certificate::issue(other, &master);
            },
            NOW,
            Err(ChainError::Version(9)),
        );
    }

    #[test]
    fn longest_chain_fits_its_limit() {
        let (root, master, node) = (key(1), key(2), key(3));
        let long: Name = "a".repeat(crate::name::NAME_LEN_MAX).parse().unwrap();
        let widest = |node: &SecretKey, role, issuer: &SecretKey| {
            let mut body = body(node, &root, role, issuer);
            (body.org_name, body.name) = (long.clone(), long.clone());
            (body.incarnation, body.not_after) = (u32::MAX, Wall(i64::MAX));
            Certificate::issue(body, issuer)
        };
        let chain = Chain(vec![
            widest(&node, Role::Node, &master),
            widest(&master, Role::Master, &root),
        ]);
        assert!(codec::encode(&chain).len() <= CHAIN_LEN_MAX);
    }
}
