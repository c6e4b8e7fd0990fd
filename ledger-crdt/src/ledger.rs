//! All documents of one replica: append to our own, admit others', replay the journal, send on.
//!
//! Decides nothing about trust: that is the [`Authority`]'s. Keeps every document in memory; what
//! must survive is written by the caller to the journal as the [`Delta`] that `append` or `admit`
//! concerned.
//! Invariant: `index` names each record once, in the document that its own name says.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::{OrgId, PublicKey, SecretKey, Signature};
use mesh_base::time::{Now, Wall};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::document::{Closing, DocId, Frontier};
use crate::gate::{
    self, AHEAD_MS_MAX, Authority, CHANGE_RECORDS_MAX, Depth, Direct, Equivocation, Passed,
    Rejection, Verifier,
};
use crate::history::{CHANGE_FRAME, Change, Document, Entry, Link, actor};
use crate::record::{
    Body, BodyError, RECORD_LEN_MAX, RECORD_VERSION, Record, RecordId, SignedRecord,
};

/// Most bytes of changes in one delta: half a message, so that control is never delayed for long.
pub const DELTA_LEN_MAX: usize = 512 * 1024;
/// Records after which a writer closes a part: automerge costs 13 MiB and 43 ms to load then.
pub const PART_RECORDS_MAX: u64 = 10_000;
/// Bytes of records after which a writer closes a part.
pub const PART_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest closing record: a name, an author and a few numbers.
const CLOSING_LEN_MAX: usize = 1024;
/// Most documents of one writer: parts, incarnations and counterparties of many years.
pub const WRITER_DOCUMENTS_MAX: usize = 4096;

/// New changes of one document, as they travel and stand in the journal.
///
/// Complete in itself: from `previous` the changes lead to `head`, which the writer has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The document.
    pub doc: DocId,
    /// How many changes come before.
    pub from_seq: u64,
    /// Hash of the last change before; zeros if there is none.
    pub previous: Digest,
    /// How many records come before.
    pub record_count: u64,
    /// The changes.
    pub changes: Vec<Change>,
    /// Hash of the last change.
    pub head: Digest,
    /// The writer's signature over document, number of changes and head.
    pub signature: Signature,
}

impl Delta {
    /// Returns how far the history reaches with these changes.
    pub fn frontier(&self) -> Frontier {
        let seq = self.from_seq.saturating_add(self.changes.len() as u64);
        Frontier {
            seq,
            head: self.head,
        }
    }

    /// Returns about how many bytes the changes have.
    pub fn len_bytes(&self) -> usize {
        self.changes
            .iter()
            .map(|change| change.len_bytes() + CHANGE_FRAME)
            .sum()
    }

    fn single(doc: DocId, before: Link, change: Change, end: Link, signature: Signature) -> Self {
        Self {
            doc,
            from_seq: before.frontier.seq,
            previous: before.frontier.head,
            record_count: before.record_count,
            changes: vec![change],
            head: end.frontier.head,
            signature,
        }
    }

    pub(crate) fn start(&self) -> Link {
        let frontier = Frontier {
            seq: self.from_seq,
            head: self.previous,
        };
        Link {
            frontier,
            record_count: self.record_count,
        }
    }
}

/// What a successful `append`, `admit` or `replay` added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The document.
    pub doc: DocId,
    /// Records that were not there before, in order.
    pub new: Vec<RecordId>,
    /// How far the document reaches now.
    pub frontier: Frontier,
}

/// What was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// For the journal and for the peers.
    pub delta: Delta,
    /// Names of the records, one for each body, in order.
    pub ids: Vec<RecordId>,
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The document's name cannot be.
    #[error("there can be no document {0}")]
    Name(Box<DocId>),
    /// The key is not the document's writer.
    #[error("only its writer can append to a document")]
    Writer,
    /// No body, or too many or too large ones for one change.
    #[error("{count} records of {len} bytes do not fit into one change")]
    Size {
        /// How many records.
        count: usize,
        /// How many bytes.
        len: usize,
    },
    /// A body is not lawful in this document.
    #[error("a record for {doc} is not lawful")]
    Body {
        /// The document.
        doc: Box<DocId>,
        /// Why.
        source: BodyError,
    },
    /// The term goes back.
    #[error("term {shown} after term {have}")]
    TermBack {
        /// The one given.
        shown: u64,
        /// The document's.
        have: u64,
    },
    /// Two histories are known: this incarnation of the writer is over.
    #[error("the document is frozen: two histories of it are known")]
    Frozen,
    /// The parts of this document are used up.
    #[error("the document has no further parts")]
    Parts,
}

/// Every document of one replica.
pub struct Ledger {
    documents: BTreeMap<DocId, Document>,
    index: BTreeMap<RecordId, (DocId, usize)>,
    writers: BTreeMap<PublicKey, usize>,
    frozen: BTreeMap<DocId, Equivocation>,
    verifier: Box<dyn Verifier + Send>,
}

impl Ledger {
    /// Returns an empty ledger.
    pub fn new() -> Self {
        Self::with_verifier(Box::new(Direct))
    }

    /// Returns an empty ledger that checks signatures in another way, for simulators of many nodes.
    pub fn with_verifier(verifier: Box<dyn Verifier + Send>) -> Self {
        Self {
            documents: BTreeMap::new(),
            index: BTreeMap::new(),
            writers: BTreeMap::new(),
            frozen: BTreeMap::new(),
            verifier,
        }
    }

    /// Signs bodies as one change of our own document.
    ///
    /// Any part of `doc` may be given; the open one is written. A part that is full is closed by
    /// the same change, and the next append begins the next part.
    pub fn append(
        &mut self,
        doc: DocId,
        bodies: Vec<Body>,
        key: &SecretKey,
        term: u64,
        wall: Wall,
    ) -> Result<Appended, LedgerError> {
        if !doc.is_lawful() {
            return Err(LedgerError::Name(Box::new(doc)));
        }
        if key.public() != doc.writer {
            return Err(LedgerError::Writer);
        }
        let doc = self.open_part(doc)?;
        let (before, have, len_bytes) = self.state(&doc);
        if term < have {
            return Err(LedgerError::TermBack { shown: term, have });
        }
        let mut signer = Signer::new(doc, key, term, wall, before);
        for body in bodies {
            signer.add(body)?;
        }
        signer.fits()?;
        let ids = signer.entries.iter().map(|entry| entry.id).collect();
        let record_count = before.record_count + signer.entries.len() as u64;
        let len_bytes = len_bytes + signer.change.len_bytes();
        let closes = PART_RECORDS_MAX <= record_count || PART_BYTES_MAX <= len_bytes;
        if closes {
            let next_part = doc.part.checked_add(1).ok_or(LedgerError::Parts)?;
            signer.add(Body::Closing(Closing {
                next_part,
                record_count,
            }))?;
        }
        let Signer {
            change, entries, ..
        } = signer;
        let end = before.then(&actor(&doc), &change);
        let signature = end.frontier.sign(&doc, key);
        let delta = Delta::single(doc, before, change.clone(), end, signature);
        self.add(
            doc,
            vec![Passed {
                change,
                end,
                entries,
                closes,
            }],
            signature,
        );
        Ok(Appended { delta, ids })
    }

    /// Lets changes in, if they pass the gate; see [`gate`].
    pub fn admit(
        &mut self,
        delta: &Delta,
        authority: &impl Authority,
        now: Now,
    ) -> Result<Admitted, Rejection> {
        gate::form(delta)?;
        if !authority.reads(&delta.doc) {
            return Err(Rejection::Reader(Box::new(delta.doc)));
        }
        let mut asked = None;
        for change in &delta.changes {
            if asked != Some(change.term) {
                authority
                    .writer_allowed(&delta.doc, change.term)
                    .map_err(Rejection::Authority)?;
                asked = Some(change.term);
            }
            authority
                .time_allowed(&delta.doc, change.wall)
                .map_err(Rejection::Authority)?;
            if AHEAD_MS_MAX < change.wall - now.wall {
                return Err(Rejection::Ahead(change.wall));
            }
        }
        self.take_in(delta, Depth::Full)
    }

    /// Takes in what our own journal holds: all checks but trust, time and record signatures.
    pub fn replay(&mut self, delta: &Delta) -> Result<Admitted, Rejection> {
        gate::form(delta)?;
        self.take_in(delta, Depth::Journal)
    }

    /// Freezes a document on somebody else's proof that its writer has signed two histories.
    pub fn freeze(&mut self, proof: &Equivocation) -> Result<(), Rejection> {
        proof.verify(self.verifier.as_mut())?;
        self.frozen
            .entry(proof.one.doc)
            .or_insert_with(|| proof.clone());
        Ok(())
    }

    /// Returns the proofs against writers of frozen documents.
    pub fn proofs(&self) -> impl Iterator<Item = &Equivocation> {
        self.frozen.values()
    }

    /// Returns whether a document's writer is proven to have signed two histories of it.
    pub fn is_frozen(&self, doc: &DocId) -> bool {
        self.frozen.contains_key(doc)
    }

    /// Returns how far a document reaches, if there is anything of it.
    pub fn frontier(&self, doc: &DocId) -> Option<Frontier> {
        self.documents.get(doc).map(Document::frontier)
    }

    /// Returns the frontiers of all documents that members of `reader` may read, by name.
    pub fn frontiers_for(&self, reader: OrgId) -> Vec<(DocId, Frontier)> {
        let readable = self
            .documents
            .iter()
            .filter(|(doc, _)| doc.may_read(&reader));
        readable
            .map(|(doc, document)| (*doc, document.frontier()))
            .collect()
    }

    /// Returns all frontiers, by name.
    pub fn heads(&self) -> Vec<(DocId, Frontier)> {
        self.documents
            .iter()
            .map(|(doc, document)| (*doc, document.frontier()))
            .collect()
    }

    /// Returns one digest over all frontiers: equal digests mean equal ledgers.
    pub fn digest(&self) -> Digest {
        Digest::of(&codec::encode(&self.heads()))
    }

    /// Returns changes after `seq`, about `bytes_max` at most, never more than [`DELTA_LEN_MAX`].
    ///
    /// None if there are none. A delta ends at a signed head; if the first one is further than
    /// `bytes_max`, it goes there nevertheless.
    pub fn since(&self, doc: &DocId, seq: u64, bytes_max: usize) -> Option<Delta> {
        self.documents
            .get(doc)?
            .since(seq, bytes_max.min(DELTA_LEN_MAX))
    }

    /// Returns a document's history.
    pub fn document(&self, doc: &DocId) -> Option<&Document> {
        self.documents.get(doc)
    }

    /// Returns all documents, by name.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.documents.values()
    }

    /// Returns the parts of a document, first to last.
    pub fn parts(&self, doc: &DocId) -> impl Iterator<Item = &Document> {
        let range = doc.with_part(0)..=doc.with_part(u32::MAX);
        self.documents.range(range).map(|(_, document)| document)
    }

    /// Returns the records of one document, in the order of its history.
    pub fn entries(&self, doc: &DocId) -> impl Iterator<Item = &Entry> {
        self.documents
            .get(doc)
            .into_iter()
            .flat_map(|document| document.entries().iter())
    }

    /// Returns all records, document by document.
    pub fn all_entries(&self) -> impl Iterator<Item = &Entry> {
        self.documents
            .values()
            .flat_map(|document| document.entries().iter())
    }

    /// Returns a record by its name.
    pub fn entry(&self, id: &RecordId) -> Option<&Entry> {
        let (doc, position) = self.index.get(id)?;
        self.documents.get(doc)?.entries().get(*position)
    }

    /// Returns how many records there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn take_in(&mut self, delta: &Delta, depth: Depth) -> Result<Admitted, Rejection> {
        if self.frozen.contains_key(&delta.doc) {
            return Err(Rejection::Frozen);
        }
        if let Some(known) = self.known(delta)? {
            return Ok(known);
        }
        let links = gate::links(delta, self.verifier.as_mut())?;
        let fresh;
        let document = match self.documents.get(&delta.doc) {
            Some(document) => document,
            None => {
                self.may_begin(&delta.doc)?;
                fresh = Document::new(delta.doc);
                &fresh
            }
        };
        let known = gate::continues(document, delta, &links).inspect_err(|rejection| {
            if let Rejection::Equivocation(proof) = rejection {
                self.frozen.insert(delta.doc, Equivocation::clone(proof));
            }
        })?;
        let added = delta.changes.get(known..).unwrap_or_default();
        let record_count: usize = added.iter().map(|change| change.records.len()).sum();
        let len_bytes = added.iter().map(Change::len_bytes).sum();
        if !gate::has_room(document, record_count as u64, len_bytes) {
            return Err(Rejection::Quota);
        }
        let ends = links.get(known + 1..).unwrap_or_default();
        let (mut term, mut closed) = (document.term(), document.is_closed());
        let mut passed = Vec::with_capacity(added.len());
        for (change, end) in added.iter().zip(ends) {
            if closed {
                return Err(Rejection::Closed);
            }
            let one = gate::change(
                &delta.doc,
                term,
                change,
                *end,
                depth,
                self.verifier.as_mut(),
            )?;
            (term, closed) = (change.term, one.closes);
            passed.push(one);
        }
        if passed.is_empty() {
            let frontier = document.frontier();
            return Ok(Admitted {
                doc: delta.doc,
                new: Vec::new(),
                frontier,
            });
        }
        Ok(self.add(delta.doc, passed, delta.signature))
    }

    /// Answers without any signature what is cheap: all of it known, or something before missing.
    fn known(&self, delta: &Delta) -> Result<Option<Admitted>, Rejection> {
        let (doc, theirs) = (delta.doc, delta.frontier());
        let Some(document) = self.documents.get(&doc) else {
            return Ok(None);
        };
        let frontier = document.frontier();
        if frontier.seq < delta.from_seq {
            return Err(Rejection::Gap {
                doc: Box::new(doc),
                have: frontier,
            });
        }
        let same = document
            .link(theirs.seq)
            .is_some_and(|link| link.frontier == theirs);
        Ok(same.then(|| Admitted {
            doc,
            new: Vec::new(),
            frontier,
        }))
    }

    /// Returns why a document may not begin here yet, if so.
    fn may_begin(&self, doc: &DocId) -> Result<(), Rejection> {
        let used = self.writers.get(&doc.writer).copied().unwrap_or(0);
        if WRITER_DOCUMENTS_MAX <= used {
            return Err(Rejection::Quota);
        }
        let Some(before) = doc.part.checked_sub(1) else {
            return Ok(());
        };
        let before = doc.with_part(before);
        match self.documents.get(&before) {
            Some(document) if document.is_closed() => Ok(()),
            document => {
                let have = document.map(Document::frontier).unwrap_or_default();
                Err(Rejection::Gap {
                    doc: Box::new(before),
                    have,
                })
            }
        }
    }

    /// Returns where a document stands: its end, its term and its size.
    fn state(&self, doc: &DocId) -> (Link, u64, usize) {
        let state = |document: &Document| (document.end(), document.term(), document.len_bytes());
        self.documents.get(doc).map_or((Link::START, 0, 0), state)
    }

    /// Returns the part of our own document that is open, or the next one.
    fn open_part(&self, doc: DocId) -> Result<DocId, LedgerError> {
        let last = self.parts(&doc).last();
        let open = match last {
            None => doc.with_part(0),
            Some(last) if last.is_closed() => {
                let next = last.id().part.checked_add(1).ok_or(LedgerError::Parts)?;
                doc.with_part(next)
            }
            Some(last) => *last.id(),
        };
        if self.frozen.contains_key(&open) {
            Err(LedgerError::Frozen)
        } else {
            Ok(open)
        }
    }

    /// Adds what has passed the gate.
    fn add(&mut self, doc: DocId, passed: Vec<Passed>, signature: Signature) -> Admitted {
        let document = match self.documents.entry(doc) {
            btree_map::Entry::Occupied(occupied) => occupied.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                *self.writers.entry(doc.writer).or_default() += 1;
                vacant.insert(Document::new(doc))
            }
        };
        let mut new = Vec::new();
        for one in passed {
            let mut entries = Vec::with_capacity(one.entries.len());
            for entry in one.entries {
                // The same content said twice is one record: its name is there already.
                if let btree_map::Entry::Vacant(vacant) = self.index.entry(entry.id) {
                    vacant.insert((doc, document.entries().len() + entries.len()));
                    new.push(entry.id);
                    entries.push(entry);
                }
            }
            document.push(one.change, one.end, entries, one.closes);
        }
        document.sign_off(signature);
        Admitted {
            doc,
            new,
            frontier: document.frontier(),
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("documents", &self.documents.len())
            .field("records", &self.index.len())
            .field("frozen", &self.frozen.len())
            .finish_non_exhaustive()
    }
}

/// Collects the records of one change.
struct Signer<'a> {
    doc: DocId,
    key: &'a SecretKey,
    term: u64,
    wall: Wall,
    before: Link,
    entries: Vec<Entry>,
    change: Change,
}

impl<'a> Signer<'a> {
    fn new(doc: DocId, key: &'a SecretKey, term: u64, wall: Wall, before: Link) -> Self {
        let change = Change {
            term,
            wall,
            records: Vec::new(),
        };
        Self {
            doc,
            key,
            term,
            wall,
            before,
            entries: Vec::new(),
            change,
        }
    }

    fn add(&mut self, body: Body) -> Result<(), LedgerError> {
        let record = Record {
            version: RECORD_VERSION,
            doc: self.doc,
            author: self.doc.writer,
            term: self.term,
            wall: self.wall,
            body,
        };
        let unlawful = |source| LedgerError::Body {
            doc: Box::new(self.doc),
            source,
        };
        let signed = SignedRecord::sign(record, self.key);
        signed.check().map_err(unlawful)?;
        let bytes = signed.to_bytes();
        if RECORD_LEN_MAX < bytes.len() {
            return Err(unlawful(BodyError::Long(bytes.len())));
        }
        let seq = self.before.frontier.seq + 1;
        self.entries.push(Entry {
            id: signed.id(),
            seq,
            signed,
        });
        self.change.records.push(ByteBuf::from(bytes));
        Ok(())
    }

    /// Checks the size, with room left for a closing record.
    fn fits(&self) -> Result<(), LedgerError> {
        let (count, len) = (self.change.records.len(), self.change.len_bytes());
        let count_fits = 0 < count && count < CHANGE_RECORDS_MAX;
        if !count_fits || DELTA_LEN_MAX < len + CHANGE_FRAME + CLOSING_LEN_MAX {
            return Err(LedgerError::Size { count, len });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
