//! What is signed: a record names its document, its author, its term and one closed body.
//!
//! Decides the form and its limits, and which body belongs into which kind of document. Leaves to
//! the gate whether a record enters, to its reader what it means.
//! Invariant: a record's id is the digest of its canonical bytes without the signature, so that
//! content has one name however often it is signed.

use std::fmt;

use mesh_base::codec::{self, DecodeError};
use mesh_base::digest::Digest;
use mesh_base::identity::{Context, KeyError, PublicKey, SecretKey, Signature};
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::agreement::SignedAgreement;
use crate::charter::{Capacity, Member, Offer, OrgCharter, Revocation};
use crate::document::{Closing, DocId, DocKind};
use crate::grant::{Grant, Progress, Ready, Refusal, Release, Reservation};
use crate::invoice::Invoice;
use crate::order::{Ask, Award, Desire, Order, SignedHolder};
use crate::usage::Usage;

/// Format version of [`Record`].
pub const RECORD_VERSION: u8 = 1;
/// Longest signed record; holds an invoice of [`crate::invoice::LINES_MAX`] lines.
pub const RECORD_LEN_MAX: usize = 64 * 1024;
/// Longest word inside a body: names of recipes, attributes, keys, numbers of invoices.
pub const TEXT_LEN_MAX: usize = 120;
/// Longest sentence for people inside a body.
pub const SENTENCE_LEN_MAX: usize = 200;

/// Names a record: the digest of its canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(pub Digest);

impl RecordId {
    /// Names the record whose canonical bytes, without the signature, are these.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Digest::of(bytes))
    }

    /// Returns the first twelve digits: for screens and logs, never for decisions.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What somebody says, once and for ever, in one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// The document that it belongs to; in any other it is void.
    pub doc: DocId,
    /// Who says it: the document's writer.
    pub author: PublicKey,
    /// The leader's term, or the one in which the author saw itself; never goes down in a document.
    pub term: u64,
    /// The author's wall clock: a claim.
    pub wall: Wall,
    /// What is said.
    pub body: Body,
}

/// A [`Record`] under its author's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    /// What is said.
    pub record: Record,
    /// The author's signature over the canonical bytes.
    pub signature: Signature,
}

/// Everything that can be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// An organisation's constitution.
    OrgCharter(OrgCharter),
    /// A node belongs to the organisation.
    Member(Member),
    /// A price-list entry.
    Offer(Offer),
    /// What a node has to give.
    Capacity(Capacity),
    /// What a customer wants.
    Order(Order),
    /// Asks a node to reserve.
    Ask(Ask),
    /// Gives an order to a node.
    Award(Award),
    /// What the customer wants an item to be.
    Desire(Desire),
    /// Who answers for a service's address.
    Holder(SignedHolder),
    /// Capacity kept free for a short time.
    Reservation(Reservation),
    /// A signed no.
    Refusal(Refusal),
    /// Capacity given.
    Grant(Grant),
    /// What an item is now.
    Progress(Progress),
    /// How to reach an item.
    Ready(Ready),
    /// Capacity given back.
    Release(Release),
    /// What an item used.
    Usage(Usage),
    /// What is owed for a month.
    Invoice(Invoice),
    /// Terms that both sides have signed.
    Agreement(SignedAgreement),
    /// The document's last record: the next part goes on.
    Closing(Closing),
    /// A node does not belong to the organisation any more.
    Revocation(Revocation),
}

/// Why a record or its body is not lawful.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A version that is not known here.
    #[error("record version {0} is not known here; update this machine")]
    Version(u8),
    /// A text is empty or too long.
    #[error("{field} has {len} bytes, 1 to {max} are allowed")]
    Text {
        /// Which field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The most allowed.
        max: usize,
    },
    /// A list is too long.
    #[error("{field} has {len} entries, at most {max} are allowed")]
    List {
        /// Which field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The most allowed.
        max: usize,
    },
    /// An ask holds something else than an order.
    #[error("an ask must hold an order")]
    NotAnOrder,
    /// A usage statement's span cannot be.
    #[error("usage from {from} to {to} is not a lawful span with its number and times")]
    Span {
        /// Its start.
        from: Wall,
        /// Its end.
        to: Wall,
    },
    /// The body may not stand in this kind of document.
    #[error("this kind of record does not belong into a document of kind {0}")]
    Misplaced(DocKind),
    /// Somebody else than the document's writer.
    #[error("the author is not the document's writer")]
    Author,
    /// The author's signature does not fit.
    #[error("the record's signature does not match")]
    Signature(#[source] KeyError),
    /// A signature inside the body does not fit.
    #[error("a signature inside the record does not match")]
    Inner(#[source] KeyError),
    /// More bytes than a record may have.
    #[error("the record has {0} bytes, at most 65536 are allowed")]
    Long(usize),
}

impl SignedRecord {
    /// Signs a record with its author's key.
    ///
    /// The caller gives the key of `record.author`; any other makes a record that nobody accepts.
    pub fn sign(record: Record, author: &SecretKey) -> Self {
        let signature = author.sign(Context::Record, &codec::encode(&record));
        Self { record, signature }
    }

    /// Checks form, place and the author's signature; not whether the author may say so.
    pub fn verify(&self) -> Result<(), BodyError> {
        self.check()?;
        let bytes = self.signed_bytes();
        self.record
            .author
            .verify(Context::Record, &bytes, &self.signature)
            .map_err(BodyError::Signature)
    }

    /// Checks form and place, no signature.
    pub fn check(&self) -> Result<(), BodyError> {
        let record = &self.record;
        if record.version != RECORD_VERSION {
            return Err(BodyError::Version(record.version));
        }
        if record.author != record.doc.writer {
            return Err(BodyError::Author);
        }
        if !record.body.belongs_in(record.doc.kind) {
            return Err(BodyError::Misplaced(record.doc.kind));
        }
        record.body.check()
    }

    /// Returns the record's name: the digest of its canonical bytes without the signature.
    pub fn id(&self) -> RecordId {
        RecordId::of(&self.signed_bytes())
    }

    /// Returns the canonical bytes that are signed and that name the record.
    pub fn signed_bytes(&self) -> Vec<u8> {
        codec::encode(&self.record)
    }

    /// Returns the canonical bytes with the signature.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes; checks nothing but their form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, RECORD_LEN_MAX)
    }
}

impl Body {
    /// Returns whether this may stand in a document of `kind`.
    pub fn belongs_in(&self, kind: DocKind) -> bool {
        match self {
            Self::OrgCharter(_) => kind == DocKind::Charter,
            Self::Member(_) => matches!(kind, DocKind::Charter | DocKind::Members),
            Self::Revocation(_) => kind == DocKind::Members,
            Self::Offer(_) => kind == DocKind::Catalog,
            Self::Capacity(_) => kind == DocKind::Capacity,
            Self::Order(_) | Self::Ask(_) | Self::Award(_) | Self::Desire(_) => {
                kind == DocKind::Outbox
            }
            Self::Holder(_) => kind == DocKind::Holders,
            Self::Reservation(_)
            | Self::Refusal(_)
            | Self::Grant(_)
            | Self::Progress(_)
            | Self::Ready(_)
            | Self::Release(_) => kind == DocKind::Grants,
            Self::Usage(_) => kind == DocKind::Usage,
            Self::Invoice(_) => kind == DocKind::Books,
            Self::Agreement(_) => kind == DocKind::Agreement,
            Self::Closing(_) => true,
        }
    }

    /// Returns the order that this is about, if it is about one that has a name already.
    pub fn order(&self) -> Option<RecordId> {
        match self {
            Self::Ask(ask) => Some(ask.order.id()),
            Self::Award(award) => Some(award.order),
            Self::Desire(desire) => Some(desire.order),
            Self::Reservation(reservation) => Some(reservation.order),
            Self::Refusal(refusal) => Some(refusal.order),
            Self::Grant(grant) => Some(grant.order),
            Self::Progress(progress) => Some(progress.order),
            Self::Ready(ready) => Some(ready.order),
            Self::Release(release) => Some(release.order),
            Self::Usage(usage) => Some(usage.order),
            _ => None,
        }
    }

    /// Returns one word for lists and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::OrgCharter(_) => "charter",
            Self::Member(_) => "member",
            Self::Offer(_) => "offer",
            Self::Capacity(_) => "capacity",
            Self::Order(_) => "order",
            Self::Ask(_) => "ask",
            Self::Award(_) => "award",
            Self::Desire(_) => "desire",
            Self::Holder(_) => "holder",
            Self::Reservation(_) => "reservation",
            Self::Refusal(_) => "refusal",
            Self::Grant(_) => "grant",
            Self::Progress(_) => "progress",
            Self::Ready(_) => "ready",
            Self::Release(_) => "release",
            Self::Usage(_) => "usage",
            Self::Invoice(_) => "invoice",
            Self::Agreement(_) => "agreement",
            Self::Closing(_) => "closing",
            Self::Revocation(_) => "revocation",
        }
    }

    fn check(&self) -> Result<(), BodyError> {
        match self {
            Self::OrgCharter(charter) => charter.check(),
            Self::Member(member) => member.check(),
            Self::Revocation(revocation) => revocation.check(),
            Self::Offer(offer) => offer.check(),
            Self::Capacity(capacity) => capacity.check(),
            Self::Order(order) => order.check(),
            Self::Ask(ask) => ask.check(),
            Self::Holder(holder) => holder.check(),
            Self::Refusal(refusal) => refusal.check(),
            Self::Progress(progress) => progress.check(),
            Self::Ready(ready) => ready.check(),
            Self::Usage(usage) => usage.check(),
            Self::Invoice(invoice) => invoice.check(),
            Self::Agreement(agreement) => agreement.check(),
            Self::Award(_)
            | Self::Desire(_)
            | Self::Reservation(_)
            | Self::Grant(_)
            | Self::Release(_)
            | Self::Closing(_) => Ok(()),
        }
    }
}

pub(crate) fn text_fits(field: &'static str, text: &str) -> Result<(), BodyError> {
    fits(field, text, TEXT_LEN_MAX)
}

pub(crate) fn sentence_fits(field: &'static str, text: &str) -> Result<(), BodyError> {
    fits(field, text, SENTENCE_LEN_MAX)
}

pub(crate) fn list_fits(field: &'static str, len: usize, max: usize) -> Result<(), BodyError> {
    if max < len {
        Err(BodyError::List { field, len, max })
    } else {
        Ok(())
    }
}

fn fits(field: &'static str, text: &str, max: usize) -> Result<(), BodyError> {
    let len = text.len();
    if len == 0 || max < len {
        Err(BodyError::Text { field, len, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{
        START, capacity, grants_doc, key, order, org, progress, record_id, usage,
    };

    fn signed(body: Body) -> SignedRecord {
        let author = key(11).public();
        let record = Record {
            version: RECORD_VERSION,
            doc: grants_doc(),
            author,
            term: 1,
            wall: START,
            body,
        };
        SignedRecord::sign(record, &key(11))
    }

    #[test]
    fn record_comes_back_from_its_bytes() {
        let record = signed(progress(1));
        assert_eq!(record.verify(), Ok(()));
        assert_eq!(
            SignedRecord::from_bytes(&record.to_bytes()),
            Ok(record.clone())
        );
        assert_eq!(record.id(), RecordId::of(&record.signed_bytes()));
        assert_eq!(record.record.body.order(), Some(record_id(1)));
    }

    #[test]
    fn every_kind_of_document_has_its_bodies() {
        let place = |body: Body, kind| body.belongs_in(kind);
        assert!(place(Body::Order(order("a")), DocKind::Outbox));
        assert!(!place(Body::Order(order("a")), DocKind::Grants));
        assert!(place(Body::Usage(usage(record_id(1), 1)), DocKind::Usage));
        let revocation = Body::Revocation(Revocation {
            node: mesh_base::identity::NodeId(key(3).public()),
            reason: "sold".to_owned(),
            from: START,
        });
        assert!(place(revocation.clone(), DocKind::Members));
        assert!(!place(revocation, DocKind::Charter));
        let closing = Body::Closing(Closing {
            next_part: 1,
            record_count: 0,
        });
        assert!(place(closing, DocKind::Books));
    }

    #[track_caller]
    fn check(body: Body, expect: fn(&BodyError) -> bool) {
        let error = body.check().unwrap_err();
        assert!(expect(&error), "{error:?}");
    }

    #[test]
    fn bodies_have_limits() {
        let long = Order {
            recipe: "x".repeat(121),
            ..order("a")
        };
        check(Body::Order(long), |e| {
            matches!(e, BodyError::Text { len: 121, .. })
        });
        let empty = Order {
            recipe: String::new(),
            ..order("a")
        };
        check(Body::Order(empty), |e| {
            matches!(e, BodyError::Text { len: 0, .. })
        });
        let mut many = capacity(1);
        many.attributes = (0..257).map(|n| (n.to_string(), "x".to_owned())).collect();
        check(Body::Capacity(many), |e| {
            matches!(e, BodyError::List { len: 257, .. })
        });
        let masters = vec![crate::fixture::node(1); 65];
        let charter = OrgCharter {
            org: org(1),
            name: "a".parse().unwrap(),
            founded: START,
            masters,
            voters: Vec::new(),
        };
        check(Body::OrgCharter(charter), |e| {
            matches!(e, BodyError::List { len: 65, .. })
        });
    }

    #[test]
    fn usage_must_fit_its_span() {
        let good = usage(record_id(1), 1);
        let span = |e: &BodyError| matches!(e, BodyError::Span { .. });
        check(
            Body::Usage(Usage {
                sequence: 0,
                ..good.clone()
            }),
            span,
        );
        check(
            Body::Usage(Usage {
                from: good.to,
                to: good.from,
                ..good.clone()
            }),
            span,
        );
        check(
            Body::Usage(Usage {
                reserved_ms: 3_600_001,
                ..good.clone()
            }),
            span,
        );
        let endless = Usage {
            to: Wall(i64::MAX),
            ..good
        };
        check(Body::Usage(endless), span);
    }

    #[test]
    fn deepest_record_comes_back_from_inside_a_message() {
        let price = Some(crate::fixture::price("1EUR/month"));
        let inner = signed(Body::Order(Order {
            price_cap: price,
            ..order("a")
        }));
        let ask = Ask {
            order: Box::new(inner),
            attempt: 1,
            node: crate::fixture::node(11),
            price: crate::fixture::price("1EUR/month"),
            agreement: None,
        };
        let ask = Some((Some(signed(Body::Ask(ask))), 1));
        let bytes = codec::encode(&ask);
        assert_eq!(codec::decode(&bytes, RECORD_LEN_MAX), Ok(ask));
    }

    #[test]
    fn records_inside_records_end() {
        let mut bytes = signed(progress(1)).to_bytes();
        bytes.resize(RECORD_LEN_MAX + 1, 0);
        let long = DecodeError::Long {
            len: RECORD_LEN_MAX + 1,
            max: RECORD_LEN_MAX,
        };
        assert_eq!(SignedRecord::from_bytes(&bytes), Err(long));
    }
}
