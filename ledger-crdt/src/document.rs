//! Documents: their names, who writes and reads them, and how far a history reaches.
//!
//! One writer, one audience and one incarnation per document: half of an automerge document cannot
//! be shared, and an incarnation that was restored from a backup must not go on where the lost one
//! ended.
//! Invariant: everything that decides about writer and readers is in the name, so a relay cannot
//! change it.

use std::collections::BTreeSet;
use std::fmt;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::{Context, KeyError, OrgId, PublicKey, SecretKey, Signature};
use serde::{Deserialize, Serialize};

/// What a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocKind {
    /// An organisation's constitution; writer: its root key.
    Charter,
    /// Who belongs to it; writer: a master.
    Members,
    /// Recipes and prices; writer: the leader.
    Catalog,
    /// What a node has to give; writer: the node.
    Capacity,
    /// Orders and what becomes of them; writer: the ordering node.
    Outbox,
    /// Reservations, grants, progress; writer: the providing node.
    Grants,
    /// Usage statements; writer: the providing node.
    Usage,
    /// Invoices; writer: the seller's leader.
    Books,
    /// Who answers for service addresses; writer: the ordering node.
    Holders,
    /// Agreements between two organisations; writer: the leader.
    Agreement,
}

impl DocKind {
    /// Returns whether everybody may read documents of this kind; the others have a counterparty.
    pub fn is_public(self) -> bool {
        matches!(
            self,
            Self::Charter | Self::Members | Self::Catalog | Self::Capacity
        )
    }

    /// Returns the word for lists and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Charter => "charter",
            Self::Members => "members",
            Self::Catalog => "catalog",
            Self::Capacity => "capacity",
            Self::Outbox => "outbox",
            Self::Grants => "grants",
            Self::Usage => "usage",
            Self::Books => "books",
            Self::Holders => "holders",
            Self::Agreement => "agreement",
        }
    }
}

impl fmt::Display for DocKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names a document; everything that decides who writes and who reads is in the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocId {
    /// What it is for.
    pub kind: DocKind,
    /// The writer's organisation.
    pub org: OrgId,
    /// The only key that may write.
    pub writer: PublicKey,
    /// The other organisation that may read; none for public kinds, the own one for private ones.
    pub counterparty: Option<OrgId>,
    /// The writer's incarnation, from its certificate.
    pub incarnation: u32,
    /// Counts rotations, from 0.
    pub part: u32,
}

/// Who may read a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Everybody.
    All,
    /// The members of these organisations.
    Orgs(BTreeSet<OrgId>),
}

impl DocId {
    /// Names the first part of a document that everybody may read.
    pub fn public(kind: DocKind, org: OrgId, writer: PublicKey, incarnation: u32) -> Self {
        Self {
            kind,
            org,
            writer,
            counterparty: None,
            incarnation,
            part: 0,
        }
    }

    /// Names the first part of a document for the writer's organisation and one other.
    pub fn between(
        kind: DocKind,
        org: OrgId,
        writer: PublicKey,
        counterparty: OrgId,
        incarnation: u32,
    ) -> Self {
        Self {
            kind,
            org,
            writer,
            counterparty: Some(counterparty),
            incarnation,
            part: 0,
        }
    }

    /// Returns the same document's other part.
    pub fn with_part(self, part: u32) -> Self {
        Self { part, ..self }
    }

    /// Returns whether the name can be.
    ///
    /// A counterparty stands exactly where there must be one, and a charter is by the root key
    /// only.
    pub fn is_lawful(&self) -> bool {
        let audience = self.kind.is_public() == self.counterparty.is_none();
        audience && (self.kind != DocKind::Charter || self.writer == *self.org.key())
    }

    /// Returns who may read.
    pub fn readers(&self) -> Readers {
        match self.counterparty {
            None => Readers::All,
            Some(other) => Readers::Orgs(BTreeSet::from([self.org, other])),
        }
    }

    /// Returns whether members of `org` may read.
    pub fn may_read(&self, org: &OrgId) -> bool {
        self.counterparty
            .is_none_or(|other| other == *org || self.org == *org)
    }

    /// Returns the digest of the name; also the root of the document's automerge actor id.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(&[b"meshstead/document", &codec::encode(self)])
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.kind,
            self.org.key().short(),
            self.writer.short()
        )?;
        if let Some(other) = self.counterparty {
            write!(f, "/{}", other.key().short())?;
        }
        write!(f, "/{}.{}", self.incarnation, self.part)
    }
}

/// How far a document's history reaches: the number of changes and the last one's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Frontier {
    /// How many changes there are.
    pub seq: u64,
    /// Hash of the last; zeros if there is none.
    pub head: Digest,
}

impl Frontier {
    /// Signs the frontier of a document: one signature covers the whole history.
    pub fn sign(&self, doc: &DocId, writer: &SecretKey) -> Signature {
        writer.sign(Context::Head, &self.signed_bytes(doc))
    }

    /// Checks the writer's signature.
    pub fn verify(&self, doc: &DocId, signature: &Signature) -> Result<(), KeyError> {
        doc.writer
            .verify(Context::Head, &self.signed_bytes(doc), signature)
    }

    pub(crate) fn signed_bytes(&self, doc: &DocId) -> Vec<u8> {
        codec::encode(&(doc, self))
    }
}

/// Ends a part of a document; nothing follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The part that goes on.
    pub next_part: u32,
    /// How many records this part holds, this one not counted.
    pub record_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{grants_doc, key, org};

    #[test]
    fn private_documents_are_for_their_two_organisations() {
        let doc = grants_doc();
        let both = Readers::Orgs(BTreeSet::from([org(1), org(2)]));
        assert_eq!(doc.readers(), both);
        let may = [1, 2, 3].map(|number| doc.may_read(&org(number)));
        assert_eq!(may, [true, true, false]);
        let own = DocId {
            counterparty: Some(org(1)),
            ..doc
        };
        assert!(own.may_read(&org(1)) && !own.may_read(&org(2)));
    }

    #[test]
    fn public_documents_are_for_everybody() {
        let doc = DocId::public(DocKind::Capacity, org(1), key(11).public(), 0);
        assert_eq!(doc.readers(), Readers::All);
        assert!(doc.is_lawful() && doc.may_read(&org(3)));
    }

    #[test]
    fn audience_must_fit_the_kind_and_the_charter_its_root() {
        let doc = grants_doc();
        assert!(doc.is_lawful());
        assert!(
            !DocId {
                counterparty: None,
                ..doc
            }
            .is_lawful()
        );
        assert!(
            !DocId {
                kind: DocKind::Catalog,
                ..doc
            }
            .is_lawful()
        );
        let charter = DocId::public(DocKind::Charter, org(1), key(1).public(), 0);
        assert!(charter.is_lawful());
        assert!(
            !DocId {
                writer: key(11).public(),
                ..charter
            }
            .is_lawful()
        );
    }

    #[test]
    fn parts_of_a_document_stand_together() {
        let doc = grants_doc();
        let other = DocId {
            incarnation: 1,
            ..doc
        };
        assert!(doc < doc.with_part(1) && doc.with_part(u32::MAX) < other);
        assert_ne!(doc.digest(), doc.with_part(1).digest());
    }

    #[test]
    fn name_is_readable() {
        let text = grants_doc().to_string();
        assert!(
            text.starts_with("grants/") && text.ends_with("/0.0"),
            "{text}"
        );
    }
}
