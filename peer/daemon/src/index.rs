//! An index over the journal in a sled database: where to find a record, how far each document
//! reaches.
//!
//! ```text
//!   records    record id   → journal position, document
//!   documents  document    → changes, head
//!   names      order name  → record id
//!   state      "position"  → last entry indexed
//! ```
//! Never the only copy of anything: it may be deleted at any time, and one that does not open or
//! belongs to another journal is put aside and built again. It follows the journal, so it is always
//! behind it or level, never ahead. Invariant: an entry's keys are written together with its
//! position.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_ledger::record::{Body, SignedRecord};
use mesh_peer::entry::Entry;
use sled::transaction::{ConflictableTransactionResult, Transactional, TransactionalTree};
use sled::{Db, Tree};

/// Memory that sled may use for its cache.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// How often sled writes to the disk, also when nothing is new: what a power cut takes is indexed
/// again from the journal at the next start.
const FLUSH_INTERVAL_MS: u64 = 30_000;
/// Where the last indexed position stands.
const POSITION: &[u8] = b"position";
/// Where the digest of the first journal entry stands, with how often the journal was compacted:
/// another journal, or other positions, need another index.
const JOURNAL: &[u8] = b"journal";

/// Entries that wait to be indexed; the journal does not wait for us.
const QUEUE_LEN_MAX: usize = 1024;

/// What an index was made from.
pub struct Source {
    /// The journal's generation.
    pub generation: u64,
    /// Its entries.
    pub entries: Vec<Vec<u8>>,
}

/// Starts the thread that keeps the index at `path` level with the journal, of which `source` is
/// there already. None if there can be no index; nothing depends on it.
pub fn follow(path: PathBuf, source: Source) -> Option<mpsc::SyncSender<(u64, Vec<u8>)>> {
    let (journal, written) = mpsc::sync_channel::<(u64, Vec<u8>)>(QUEUE_LEN_MAX);
    let started = std::thread::Builder::new()
        .name("index".to_owned())
        .spawn(move || {
            let Some(index) = Index::open(&path, &source) else {
                return;
            };
            drop(source);
            while let Ok((position, entry)) = written.recv() {
                if let Err(error) = index.note(position, &entry) {
                    tracing::warn!(%error, "the index is left behind until the next start");
                    return;
                }
            }
        });
    started.ok().map(|_| journal)
}

/// The index.
pub struct Index {
    _db: Db,
    records: Tree,
    documents: Tree,
    names: Tree,
    state: Tree,
}

impl Index {
    /// Opens the index and brings it level with the journal; none if the disk allows none.
    ///
    /// sled panics on some damage; then the old folder is put aside, once.
    pub fn open(path: &Path, source: &Source) -> Option<Self> {
        for _ in 0..2 {
            let opened = catch_unwind(AssertUnwindSafe(|| {
                let index = Self::try_open(path)?;
                index.follow(source).map(|level| level.then_some(index))
            }));
            match opened {
                Ok(Ok(Some(index))) => return Some(index),
                Ok(Ok(None)) => {
                    tracing::info!("the index is of another journal; it is built again")
                }
                Ok(Err(error)) => tracing::warn!(%error, "the index is built again"),
                Err(_) => tracing::warn!("the index is damaged; it is built again"),
            }
            if let Err(error) = set_aside(path) {
                tracing::warn!(%error, "the index cannot be put aside; going on without");
                return None;
            }
        }
        None
    }

    fn try_open(path: &Path) -> sled::Result<Self> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_INTERVAL_MS))
            .open()?;
        Ok(Self {
            records: db.open_tree("records")?,
            documents: db.open_tree("documents")?,
            names: db.open_tree("names")?,
            state: db.open_tree("state")?,
            _db: db,
        })
    }

    /// Indexes what is new; returns false if the index is of another journal.
    fn follow(&self, source: &Source) -> sled::Result<bool> {
        let Source {
            generation,
            entries,
        } = source;
        let first = entries.first().map_or(&[][..], Vec::as_slice);
        let first = Digest::of_parts(&[first, &generation.to_be_bytes()]);
        match self.state.get(JOURNAL)? {
            Some(known) if known.as_ref() != first.as_bytes() => return Ok(false),
            Some(_) => {}
            None => {
                self.state.insert(JOURNAL, first.as_bytes())?;
            }
        }
        let done = self.position()?;
        if (entries.len() as u64) < done {
            return Ok(false);
        }
        for (position, entry) in (1_u64..).zip(entries) {
            if done < position {
                self.note(position, entry)?;
            }
        }
        Ok(true)
    }

    /// Returns the last indexed position.
    pub fn position(&self) -> sled::Result<u64> {
        let stored = self.state.get(POSITION)?;
        let bytes = stored.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_ref()).ok());
        Ok(bytes.map_or(0, u64::from_be_bytes))
    }

    /// Indexes one entry of the journal.
    pub fn note(&self, position: u64, entry: &[u8]) -> sled::Result<()> {
        let keys = Keys::of(entry);
        let trees = (&self.records, &self.documents, &self.names, &self.state);
        let written = trees.transaction(|(records, documents, names, state)| {
            keys.write(records, documents, names, position)?;
            state.insert(POSITION, &position.to_be_bytes())?;
            Ok(())
        });
        match written {
            Ok(()) => Ok(()),
            Err(sled::transaction::TransactionError::Storage(error)) => Err(error),
            // Nothing above aborts.
            Err(sled::transaction::TransactionError::Abort(())) => Ok(()),
        }
    }
}

/// What an entry adds to the index.
#[derive(Default)]
struct Keys {
    records: Vec<Digest>,
    document: Option<(Vec<u8>, Vec<u8>)>,
    names: Vec<(String, Digest)>,
}

impl Keys {
    /// Reads an entry; one that cannot be read has no keys, and the node refuses it by itself.
    fn of(entry: &[u8]) -> Self {
        let mut keys = Self::default();
        let Ok(Entry::Delta(delta)) = Entry::from_bytes(entry) else {
            return keys;
        };
        let frontier = delta.frontier();
        keys.document = Some((codec::encode(&delta.doc), codec::encode(&frontier)));
        for bytes in delta.changes.iter().flat_map(|change| &change.records) {
            let Ok(signed) = codec::decode::<SignedRecord>(bytes, bytes.len()) else {
                continue;
            };
            let id = signed.id().0;
            if let Body::Order(order) = &signed.record.body {
                keys.names.push((order.name.to_string(), id));
            }
            keys.records.push(id);
        }
        keys
    }

    fn write(
        &self,
        records: &TransactionalTree,
        documents: &TransactionalTree,
        names: &TransactionalTree,
        position: u64,
    ) -> ConflictableTransactionResult<(), ()> {
        if let Some((document, frontier)) = &self.document {
            documents.insert(document.as_slice(), frontier.as_slice())?;
            let mut place = position.to_be_bytes().to_vec();
            place.extend_from_slice(document);
            for id in &self.records {
                records.insert(id.as_bytes(), place.as_slice())?;
            }
        }
        for (name, id) in &self.names {
            names.insert(name.as_bytes(), id.as_bytes())?;
        }
        Ok(())
    }
}

/// Moves a spoilt index out of the way; only the last one is kept.
fn set_aside(path: &Path) -> std::io::Result<()> {
    let aside: PathBuf = path.with_extension("broken");
    let removed = if aside.is_dir() {
        std::fs::remove_dir_all(&aside)
    } else {
        std::fs::remove_file(&aside)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match std::fs::rename(path, aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;
    use mesh_base::time::{Now, Wall};
    use mesh_peer::genesis;

    use super::*;

    fn journal(seed: u8) -> Source {
        let node = SecretKey::from_seed([seed; 32]);
        let root = SecretKey::from_seed([seed + 1; 32]);
        let now = Now {
            wall: Wall(1_000_000),
            ..Now::default()
        };
        let (org, name) = ("bakery".parse().unwrap(), "bakery-1".parse().unwrap());
        Source {
            generation: 0,
            entries: genesis::found(&node, &root, &org, &name, now).unwrap(),
        }
    }

    #[test]
    fn records_and_documents_are_found_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        for _ in 0..2 {
            let index = Index::open(&path, &journal(1)).unwrap();
            assert_eq!(index.position().unwrap(), journal(1).entries.len() as u64);
            assert_eq!((index.records.len(), index.documents.len()), (1, 1));
        }
    }

    #[test]
    fn damaged_or_foreign_index_is_built_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        std::fs::write(&path, "not a database").unwrap();
        assert_eq!(Index::open(&path, &journal(1)).unwrap().records.len(), 1);
        assert!(path.with_extension("broken").exists());
        let index = Index::open(&path, &journal(5)).unwrap();
        assert_eq!(index.records.len(), 1);
    }

    #[test]
    fn index_of_a_journal_that_was_compacted_since_is_built_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut source = journal(1);
        drop(Index::open(&path, &source).unwrap());
        source.generation = 3;
        source.entries.remove(0);
        let index = Index::open(&path, &source).unwrap();
        assert_eq!(index.position().unwrap(), source.entries.len() as u64);
    }
}
