//! The linear history of one document: changes, their hashes, their signed heads, their records.
//!
//! A change is what its writer appended at once. Its automerge form is a pure function of the
//! document's name, the hash before it and its records:
//!
//! ```text
//! actor = digest(name)[..16]   seq = n   deps = [hash of n-1]   startOp = records before + 1
//! time = wall   ops = put(root, "00000042/000", record bytes), ..
//! ```
//! So only records travel, every replica builds the same automerge change and hash itself, and no
//! bytes of a stranger are ever parsed by automerge. One signature over the last hash covers
//! everything before it. The automerge document itself (for browsers) is made on demand: it costs
//! more memory than the records, and nothing in a node reads it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use automerge::legacy::{Key, ObjectId, Op, OpType, SortedVec};
use automerge::{ActorId, AutoCommit, AutomergeError, ChangeHash, ExpandedChange, ScalarValue};
use mesh_base::digest::Digest;
use mesh_base::identity::Signature;
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::document::{DocId, Frontier};
use crate::ledger::Delta;
use crate::record::{RecordId, SignedRecord};

/// What a writer appended at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The term of each of its records.
    pub term: u64,
    /// The wall time of each of its records.
    pub wall: Wall,
    /// Canonical bytes of signed records, at least one.
    pub records: Vec<ByteBuf>,
}

impl Change {
    /// Returns how many bytes its records have.
    pub fn len_bytes(&self) -> usize {
        self.records.iter().map(|record| record.len()).sum()
    }
}

/// One record of a document, decoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The record's name.
    pub id: RecordId,
    /// Number of the change that brought it.
    pub seq: u64,
    /// The record.
    pub signed: SignedRecord,
}

/// Where a history stands: what the next change builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Number of changes and hash of the last.
    pub frontier: Frontier,
    /// How many records there are.
    pub record_count: u64,
}

impl Link {
    /// Where every document begins.
    pub const START: Self = Self {
        frontier: Frontier {
            seq: 0,
            head: Digest::from_bytes([0; 32]),
        },
        record_count: 0,
    };

    /// Returns where the history stands after one more change.
    pub fn then(self, actor: &ActorId, change: &Change) -> Self {
        let built = build(actor, self, change);
        let head = Digest::from_bytes(built.hash().0);
        let record_count = self
            .record_count
            .saturating_add(change.records.len() as u64);
        Self {
            frontier: Frontier {
                seq: self.frontier.seq.saturating_add(1),
                head,
            },
            record_count,
        }
    }
}

#[derive(Debug)]
struct Stored {
    before: Link,
    change: Change,
}

/// A document's history.
///
/// Invariant: each change builds on the one before, and the last has a signature in `signatures`.
#[derive(Debug)]
pub struct Document {
    id: DocId,
    actor: ActorId,
    end: Link,
    changes: Vec<Stored>,
    entries: Vec<Entry>,
    /// Signatures by the number of the change that they cover; not every change has one.
    signatures: BTreeMap<u64, Signature>,
    term: u64,
    len_bytes: usize,
    closed: bool,
}

impl Document {
    pub(crate) fn new(id: DocId) -> Self {
        Self {
            id,
            actor: actor(&id),
            end: Link::START,
            changes: Vec::new(),
            entries: Vec::new(),
            signatures: BTreeMap::new(),
            term: 0,
            len_bytes: 0,
            closed: false,
        }
    }

    /// Returns the document's name.
    pub fn id(&self) -> &DocId {
        &self.id
    }

    /// Returns how far the history reaches.
    pub fn frontier(&self) -> Frontier {
        self.end.frontier
    }

    /// Returns where the history stands.
    pub fn end(&self) -> Link {
        self.end
    }

    /// Returns the records in the order of the history.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the term of the last change.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Returns how many bytes the records have.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Returns whether the closing record has been written.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns where the history stood after `seq` changes, if it got there.
    pub fn link(&self, seq: u64) -> Option<Link> {
        if seq == self.end.frontier.seq {
            return Some(self.end);
        }
        let index = usize::try_from(seq).ok()?;
        self.changes.get(index).map(|stored| stored.before)
    }

    /// Returns what follows `seq`, up to the furthest signed head within `bytes_max`.
    ///
    /// If even the first signed head is further, up to that.
    pub(crate) fn since(&self, seq: u64, bytes_max: usize) -> Option<Delta> {
        let from = self.link(seq)?;
        let index = usize::try_from(seq).ok()?;
        let mut points = self.signatures.range(seq.checked_add(1)?..).peekable();
        let (mut changes, mut bytes) = (Vec::new(), 0_usize);
        let mut best: Option<(usize, Frontier, Signature)> = None;
        for (stored, next) in self.changes.get(index..)?.iter().zip(seq + 1..) {
            bytes = bytes
                .saturating_add(stored.change.len_bytes())
                .saturating_add(CHANGE_FRAME);
            if bytes_max < bytes && best.is_some() {
                break;
            }
            changes.push(stored.change.clone());
            if let Some((_, signature)) = points.next_if(|(point, _)| **point == next) {
                best = Some((changes.len(), self.link(next)?.frontier, *signature));
            }
        }
        let (count, head, signature) = best?;
        changes.truncate(count);
        Some(Delta {
            doc: self.id,
            from_seq: seq,
            previous: from.frontier.head,
            record_count: from.record_count,
            changes,
            head: head.head,
            signature,
        })
    }

    /// Adds a change that the gate has passed.
    pub(crate) fn push(&mut self, change: Change, end: Link, entries: Vec<Entry>, closes: bool) {
        // Both are ours to get right: the gate computed `end` from `self.end` and this change.
        assert!(!self.closed, "a closed document does not grow");
        assert_eq!(
            end.frontier.seq,
            self.end.frontier.seq + 1,
            "changes come one by one"
        );
        self.len_bytes += change.len_bytes();
        self.term = change.term;
        self.closed = closes;
        self.entries.extend(entries);
        self.changes.push(Stored {
            before: self.end,
            change,
        });
        self.end = end;
    }

    /// Notes the writer's signature over the present end.
    pub(crate) fn sign_off(&mut self, signature: Signature) {
        self.signatures.insert(self.end.frontier.seq, signature);
    }

    /// Builds the automerge document, for browsers and for comparison.
    pub fn to_automerge(&self) -> Result<AutoCommit, AutomergeError> {
        let changes = self
            .changes
            .iter()
            .map(|stored| build(&self.actor, stored.before, &stored.change));
        let mut doc = AutoCommit::new();
        doc.set_actor(self.actor.clone());
        doc.apply_changes_batch(changes.collect::<Vec<_>>())?;
        Ok(doc)
    }
}

/// What a change costs on the wire beside its records: term, wall time and lengths.
pub(crate) const CHANGE_FRAME: usize = 48;

/// Returns the automerge actor of a document: fixed by its name.
pub fn actor(id: &DocId) -> ActorId {
    let digest = id.digest();
    let (first, _) = digest.as_bytes().split_at(16);
    ActorId::from(first)
}

fn build(actor: &ActorId, before: Link, change: &Change) -> automerge::Change {
    let seq = before.frontier.seq.saturating_add(1);
    let operations = change.records.iter().enumerate().map(|(index, bytes)| Op {
        action: OpType::Put(ScalarValue::Bytes(bytes.to_vec())),
        obj: ObjectId::Root,
        key: Key::Map(format!("{seq:08}/{index:03}").into()),
        pred: SortedVec::new(),
        insert: false,
    });
    let deps = match before.frontier.seq {
        0 => Vec::new(),
        _ => vec![ChangeHash(*before.frontier.head.as_bytes())],
    };
    automerge::Change::from(ExpandedChange {
        operations: operations.collect(),
        actor_id: actor.clone(),
        hash: None,
        seq,
        start_op: NonZeroU64::MIN.saturating_add(before.record_count),
        time: change.wall.0,
        message: None,
        deps,
        extra_bytes: Vec::new(),
        author: None,
    })
}

#[cfg(test)]
mod tests {
    use automerge::ReadDoc;
    use automerge::transaction::{CommitOptions, Transactable};

    use super::*;
    use crate::fixture::{START, grants_doc, key, progress};
    use crate::ledger::Ledger;

    fn ledger(changes: u32) -> Ledger {
        let mut ledger = Ledger::new();
        for number in 0..changes {
            let bodies = (0..=number % 3)
                .map(|part| progress(number * 10 + part))
                .collect();
            ledger
                .append(grants_doc(), bodies, &key(11), 1, START)
                .unwrap();
        }
        ledger
    }

    #[test]
    fn automerge_accepts_our_changes_and_agrees_on_the_head() {
        let ledger = ledger(7);
        let document = ledger.document(&grants_doc()).unwrap();
        let mut doc = document.to_automerge().unwrap();
        let heads: Vec<Digest> = doc
            .get_heads()
            .into_iter()
            .map(|hash| Digest::from_bytes(hash.0))
            .collect();
        assert_eq!(heads, [document.frontier().head]);
        assert!(doc.get_missing_deps(&[]).is_empty());
        let (value, _) = doc.get(automerge::ROOT, "00000003/002").unwrap().unwrap();
        let bytes = value.into_bytes().unwrap();
        let found = SignedRecord::from_bytes(&bytes).unwrap();
        assert_eq!(found, document.entries()[5].signed);
    }

    #[test]
    fn automerge_writes_the_same_change_that_we_build() {
        let ledger = ledger(1);
        let document = ledger.document(&grants_doc()).unwrap();
        let bytes = document.entries()[0].signed.to_bytes();
        let mut doc = AutoCommit::new().with_actor(actor(&grants_doc()));
        doc.put(automerge::ROOT, "00000001/000", bytes).unwrap();
        let hash = doc
            .commit_with(CommitOptions::default().with_time(START.0))
            .unwrap();
        assert_eq!(Digest::from_bytes(hash.0), document.frontier().head);
    }

    #[test]
    fn saved_automerge_document_loads_with_the_same_head() {
        let ledger = ledger(40);
        let document = ledger.document(&grants_doc()).unwrap();
        let bytes = document.to_automerge().unwrap().save();
        let mut loaded = AutoCommit::load(&bytes).unwrap();
        let head = ChangeHash(*document.frontier().head.as_bytes());
        assert_eq!(loaded.get_heads(), [head]);
    }

    #[test]
    fn hash_covers_every_part_of_a_change() {
        let change = Change {
            term: 1,
            wall: START,
            records: vec![ByteBuf::from(b"a".to_vec())],
        };
        let name = actor(&grants_doc());
        let head = |before: Link, change: &Change| before.then(&name, change).frontier.head;
        let first = Link::START.then(&name, &change);
        let base = head(first, &change);
        let mut other = first;
        other.record_count += 1;
        assert_ne!(head(other, &change), base);
        let mut other = first;
        other.frontier.seq += 1;
        assert_ne!(head(other, &change), base);
        let mut other = first;
        other.frontier.head = Digest::of(b"x");
        assert_ne!(head(other, &change), base);
        let later = Change {
            wall: Wall(START.0 + 1),
            ..change.clone()
        };
        assert_ne!(head(first, &later), base);
        let more = Change {
            records: vec![ByteBuf::from(b"a".to_vec()); 2],
            ..change.clone()
        };
        assert_ne!(head(first, &more), base);
        let elsewhere = actor(&grants_doc().with_part(1));
        assert_ne!(first.then(&elsewhere, &change).frontier.head, base);
    }

    #[test]
    fn delta_ends_at_a_signed_head_within_the_limit() {
        let ledger = ledger(9);
        let doc = grants_doc();
        let whole = ledger.since(&doc, 0, usize::MAX).unwrap();
        assert_eq!(whole.frontier().seq, 9);
        let small = ledger.since(&doc, 4, 0).unwrap();
        assert_eq!((small.from_seq, small.frontier().seq), (4, 5));
        let half = ledger.since(&doc, 0, whole.len_bytes() / 2).unwrap();
        assert!((1..9).contains(&half.frontier().seq));
        assert!(half.len_bytes() <= whole.len_bytes() / 2);
        assert_eq!(ledger.since(&doc, 9, 100), None);
        assert_eq!(ledger.since(&doc, 10, 100), None);
        assert_eq!(ledger.since(&doc, u64::MAX, 100), None);
    }
}
