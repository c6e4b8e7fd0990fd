//! What is checked, in which order, before anything of somebody else's enters a replica.
//!
//! ```text
//! delta ─► form and size ─► name lawful, we may read it ─► owner known; term, incarnation valid
//!                                                                │
//!             chain: gap? known? ◄─ hashes rebuilt == head ◄─ head signature
//!                   │       └─► another history under the same signature: proof, document frozen
//!                   ▼
//!   quota ─► each new record: canonical; this document, its writer, its change's term and time;
//!                             lawful body; signatures ─► history
//! ```
//! Cheap checks come first; automerge sees only what the writer's signature covers, rebuilt by us.
//! Who is trusted is the [`Authority`]'s to say; how signatures are checked, the [`Verifier`]'s.

use mesh_base::codec::DecodeError;
use mesh_base::identity::{Context, KeyError, OrgId, PublicKey, Signature};
use mesh_base::time::Wall;

use crate::agreement::AgreementError;
use crate::document::{DocId, Frontier};
use crate::history::{Change, Document, Entry, Link, actor};
use crate::ledger::{DELTA_LEN_MAX, Delta, PART_BYTES_MAX, PART_RECORDS_MAX};
use crate::record::{Body, BodyError, RecordId, SignedRecord};

/// Most changes in one delta: 512 KiB of the smallest lawful records.
pub const CHANGES_MAX: usize = 2048;
/// Most records in one change.
pub const CHANGE_RECORDS_MAX: usize = 256;
/// How far ahead of our clock a record may be: a day of wrong time zone or flat battery.
pub const AHEAD_MS_MAX: i64 = 24 * 3600 * 1000;

/// Says who may write and what this replica may read; implemented from the roster.
pub trait Authority {
    /// Returns why `doc.writer` may not write this document in `term`, if so.
    ///
    /// Checks organisation, membership, role, incarnation and term.
    fn writer_allowed(&self, doc: &DocId, term: u64) -> Result<(), AuthorityError>;

    /// Returns why the writer may not have written at `wall`, by its own claim, if so.
    ///
    /// A key may have been lawful for a while only: its certificate ends, or it was revoked.
    fn time_allowed(&self, _doc: &DocId, _wall: Wall) -> Result<(), AuthorityError> {
        Ok(())
    }

    /// Returns whether this replica may hold the document.
    fn reads(&self, doc: &DocId) -> bool;
}

/// Why a writer may not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The organisation is not known here.
    #[error("organisation {0} is not known here")]
    UnknownOrg(OrgId),
    /// The key is not a member of the organisation, as far as is known here.
    #[error("{0} is not known here as a member of the organisation")]
    UnknownWriter(PublicKey),
    /// Only a master or leader writes documents of this kind.
    #[error("{0} may not write documents of this kind")]
    Role(PublicKey),
    /// The key has been revoked.
    #[error("{0} has been revoked")]
    Revoked(PublicKey),
    /// The newest certificate known of the key ended before that.
    #[error("the writer's certificate ended at {0}")]
    Expired(Wall),
    /// Another incarnation of the writer is valid.
    #[error("incarnation {shown} is not valid, {valid} is")]
    Incarnation {
        /// The document's.
        shown: u32,
        /// The writer's.
        valid: u32,
    },
    /// Another term is valid.
    #[error("term {shown} is not valid, {valid} is")]
    Term {
        /// The record's.
        shown: u64,
        /// The present one.
        valid: u64,
    },
}

/// Checks signatures; a simulator of many nodes may remember what another node has checked.
pub trait Verifier {
    /// Checks one signature.
    fn verify(
        &mut self,
        key: &PublicKey,
        context: Context,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), KeyError>;
}

/// Checks every signature, remembers none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl Verifier for Direct {
    fn verify(
        &mut self,
        key: &PublicKey,
        context: Context,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), KeyError> {
        key.verify(context, message, signature)
    }
}

/// Two histories that one writer has signed for one document: proof for everybody.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Equivocation {
    /// One history.
    pub one: Delta,
    /// Another.
    pub other: Delta,
}

impl Equivocation {
    /// Checks the proof: one document, one writer, two hashes after the same number of changes.
    pub fn verify(&self, verifier: &mut dyn Verifier) -> Result<(), Rejection> {
        if self.one.doc != self.other.doc {
            return Err(Rejection::NoProof);
        }
        let mut sides = Vec::new();
        for delta in [&self.one, &self.other] {
            form(delta)?;
            sides.push(links(delta, verifier)?);
        }
        let forked = match sides.as_slice() {
            [one, other] => one.iter().any(|a| {
                other
                    .iter()
                    .any(|b| a.frontier.seq == b.frontier.seq && a.frontier != b.frontier)
            }),
            _ => false,
        };
        if forked {
            Ok(())
        } else {
            Err(Rejection::NoProof)
        }
    }
}

/// Why a delta did not enter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The document's name cannot be.
    #[error("there can be no document {0}")]
    Name(Box<DocId>),
    /// The delta is empty or larger than allowed.
    #[error("the delta is empty or has more than {DELTA_LEN_MAX} bytes or {CHANGES_MAX} changes")]
    Size,
    /// This replica may not hold the document.
    #[error("this node may not read {0}")]
    Reader(Box<DocId>),
    /// The writer may not write it.
    #[error("the writer may not write this document")]
    Authority(#[source] AuthorityError),
    /// The head's signature does not fit.
    #[error("the head's signature does not match")]
    HeadSignature(#[source] KeyError),
    /// The changes do not lead to the head that the writer signed: altered on the way.
    #[error("the changes do not lead to the signed head")]
    Altered,
    /// Something before it is missing; ask for what follows `have`.
    #[error("changes before it are missing here, which ends at change {}", have.seq)]
    Gap {
        /// The document that must be completed first; an earlier part, it may be.
        doc: Box<DocId>,
        /// How far we have it.
        have: Frontier,
    },
    /// The writer has signed two histories.
    #[error("the writer has signed two histories of this document")]
    Equivocation(Box<Equivocation>),
    /// The document is frozen since its writer has signed two histories.
    #[error("the document is frozen: its writer has signed two histories")]
    Frozen,
    /// The part has ended with a closing record.
    #[error("the document's part is closed")]
    Closed,
    /// Not a canonical record.
    #[error("record {index} of change {seq} cannot be read")]
    Decode {
        /// The change.
        seq: u64,
        /// The record's place in it.
        index: usize,
        /// Why.
        source: DecodeError,
    },
    /// Not lawful, or not signed.
    #[error("record {index} of change {seq} is not lawful")]
    Record {
        /// The change.
        seq: u64,
        /// The record's place in it.
        index: usize,
        /// Why.
        source: BodyError,
    },
    /// Written for another document, or at another term or time than its change says.
    #[error("record {index} of change {seq} belongs elsewhere")]
    Foreign {
        /// The change.
        seq: u64,
        /// The record's place in it.
        index: usize,
    },
    /// The agreement inside does not bind.
    #[error("the agreement in change {seq} does not bind")]
    Agreement {
        /// The change.
        seq: u64,
        /// Why.
        source: AgreementError,
    },
    /// The term goes back.
    #[error("term {shown} after term {have}")]
    TermBack {
        /// The change's.
        shown: u64,
        /// The document's.
        have: u64,
    },
    /// Too far in the future.
    #[error("the record is from {0}, more than a day ahead of this node's clock")]
    Ahead(Wall),
    /// The document, or the writer's number of documents, is full.
    #[error("the writer's quota is used up")]
    Quota,
    /// The two histories shown are not a proof.
    #[error("these two histories do not contradict each other")]
    NoProof,
}

/// Whether record signatures are checked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Everything: it comes from a peer.
    Full,
    /// All but record signatures: it comes from our own journal, where only what passed was
    /// written, and the head's signature covers every byte.
    Journal,
}

/// A change that has passed, ready to be added.
pub(crate) struct Passed {
    pub change: Change,
    pub end: Link,
    pub entries: Vec<Entry>,
    pub closes: bool,
}

/// Checks size and name: what can be said without knowing anything.
pub(crate) fn form(delta: &Delta) -> Result<(), Rejection> {
    if !delta.doc.is_lawful() {
        return Err(Rejection::Name(Box::new(delta.doc)));
    }
    let counts = !delta.changes.is_empty()
        && delta.changes.len() <= CHANGES_MAX
        && delta.from_seq <= 2 * PART_RECORDS_MAX
        && delta.record_count <= 2 * PART_RECORDS_MAX;
    let records = |change: &Change| (1..=CHANGE_RECORDS_MAX).contains(&change.records.len());
    if !counts || !delta.changes.iter().all(records) || DELTA_LEN_MAX < delta.len_bytes() {
        return Err(Rejection::Size);
    }
    // The first change's hash does not cover what stands before it, so a relay could write there
    // what it likes, and make an honest writer look as if it had two histories.
    if delta.from_seq == 0 && delta.start() != Link::START {
        return Err(Rejection::Altered);
    }
    Ok(())
}

/// Checks the head's signature and that the changes lead there; returns all links.
pub(crate) fn links(delta: &Delta, verifier: &mut dyn Verifier) -> Result<Vec<Link>, Rejection> {
    let head = delta.frontier();
    let bytes = head.signed_bytes(&delta.doc);
    verifier
        .verify(&delta.doc.writer, Context::Head, &bytes, &delta.signature)
        .map_err(Rejection::HeadSignature)?;
    let actor = actor(&delta.doc);
    let mut link = delta.start();
    let mut links = Vec::with_capacity(delta.changes.len() + 1);
    links.push(link);
    for change in &delta.changes {
        link = link.then(&actor, change);
        links.push(link);
    }
    if link.frontier != head {
        return Err(Rejection::Altered);
    }
    Ok(links)
}

/// Compares a signed history with ours; returns how many of its changes we have already.
pub(crate) fn continues(doc: &Document, delta: &Delta, links: &[Link]) -> Result<usize, Rejection> {
    let have = doc.frontier();
    if have.seq < delta.from_seq {
        return Err(Rejection::Gap {
            doc: Box::new(delta.doc),
            have,
        });
    }
    let mut known = 0;
    for link in links {
        let Some(ours) = doc.link(link.frontier.seq) else {
            break;
        };
        if ours.frontier != link.frontier {
            return Err(forked(doc, delta, link.frontier.seq));
        }
        // The writer signed a hash that our own history has too, so a wrong count can only be the
        // relay's: the hash covers it.
        if ours != *link {
            return Err(Rejection::Altered);
        }
        known = link.frontier.seq - delta.from_seq;
    }
    usize::try_from(known).map_err(|_| Rejection::Size)
}

fn forked(doc: &Document, delta: &Delta, seq: u64) -> Rejection {
    // A difference right at the start (seq = from_seq) means that `previous` is not ours: the delta
    // still shows that the writer signed a history with another hash there. A start at 0 has but
    // one hash.
    let before = seq.saturating_sub(1);
    match doc.since(before, 0) {
        Some(ours) => {
            let proof = Equivocation {
                one: ours,
                other: delta.clone(),
            };
            Rejection::Equivocation(Box::new(proof))
        }
        // Only at seq 0, where a lawful delta cannot name another hash.
        None => Rejection::Altered,
    }
}

/// Checks one new change and decodes its records.
pub(crate) fn change(
    doc: &DocId,
    term: u64,
    change: &Change,
    end: Link,
    depth: Depth,
    verifier: &mut dyn Verifier,
) -> Result<Passed, Rejection> {
    if change.term < term {
        return Err(Rejection::TermBack {
            shown: change.term,
            have: term,
        });
    }
    let seq = end.frontier.seq;
    let last = change.records.len().saturating_sub(1);
    let mut entries = Vec::with_capacity(change.records.len());
    let mut closes = false;
    for (index, bytes) in change.records.iter().enumerate() {
        let signed = SignedRecord::from_bytes(bytes).map_err(|source| Rejection::Decode {
            seq,
            index,
            source,
        })?;
        let record = &signed.record;
        if record.doc != *doc || record.term != change.term || record.wall != change.wall {
            return Err(Rejection::Foreign { seq, index });
        }
        let id = match depth {
            Depth::Journal => signed.check().map(|()| signed.id()),
            Depth::Full => signatures(&signed, verifier),
        };
        let id = id.map_err(|source| Rejection::Record { seq, index, source })?;
        match &record.body {
            Body::Agreement(agreement) if depth == Depth::Full => agreement
                .verify(record.wall)
                .map_err(|source| Rejection::Agreement { seq, source })?,
            Body::Closing(closing) if index != last || closing.next_part <= doc.part => {
                return Err(Rejection::Closed);
            }
            Body::Closing(_) => closes = true,
            _ => {}
        }
        entries.push(Entry { id, seq, signed });
    }
    Ok(Passed {
        change: change.clone(),
        end,
        entries,
        closes,
    })
}

/// Checks a record's form, its signature and those of the records inside; returns its name.
fn signatures(signed: &SignedRecord, verifier: &mut dyn Verifier) -> Result<RecordId, BodyError> {
    let id = signature(signed, verifier)?;
    let record = &signed.record;
    match &record.body {
        Body::Ask(ask) => {
            if ask.order.record.author != record.author
                || ask.order.record.doc.org != record.doc.org
            {
                return Err(BodyError::Author);
            }
            signature(&ask.order, verifier)?;
        }
        Body::Holder(holder) => {
            let bytes = mesh_base::codec::encode(&holder.holder);
            verifier
                .verify(
                    holder.holder.service.key(),
                    Context::Holder,
                    &bytes,
                    &holder.signature,
                )
                .map_err(BodyError::Inner)?;
        }
        _ => {}
    }
    Ok(id)
}

fn signature(signed: &SignedRecord, verifier: &mut dyn Verifier) -> Result<RecordId, BodyError> {
    signed.check()?;
    let bytes = signed.signed_bytes();
    verifier
        .verify(
            &signed.record.author,
            Context::Record,
            &bytes,
            &signed.signature,
        )
        .map_err(BodyError::Signature)?;
    Ok(RecordId::of(&bytes))
}

/// Returns whether a document may take so many more records and bytes.
pub(crate) fn has_room(doc: &Document, record_count: u64, len_bytes: usize) -> bool {
    let records = doc.end().record_count.saturating_add(record_count);
    let bytes = doc.len_bytes().saturating_add(len_bytes);
    // Twice what makes a writer rotate: its last change may be a large one.
    records <= 2 * PART_RECORDS_MAX && bytes <= 2 * PART_BYTES_MAX
}
