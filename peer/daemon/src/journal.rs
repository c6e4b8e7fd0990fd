//! The journal on a real disk, and the thread that gathers entries and syncs them together.
//!
//! ```text
//!   node ── append(entry) ──► queue ──► thread: write all that wait, one fdatasync, publish
//!   node ◄── durable position (a watch: only the newest matters)
//! ```
//! Decides nothing about entries. After a failed write or sync nothing is known about the disk any
//! more, so the thread ends and the daemon with it; what was not promised is found out at the next
//! start.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use mesh_ledger::journal::{Disk, Journal, JournalError};
use tokio::sync::watch;

/// Entries that wait for the disk; then the node waits too, for it must not promise faster than
/// that.
const QUEUE_LEN_MAX: usize = 4096;
/// Most entries that share one sync, so that the first of them does not wait for ever.
const GROUP_LEN_MAX: usize = 512;
/// Name of the file in the journal's folder.
const FILE: &str = "journal";

/// A journal file on a real disk.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
}

impl FileDisk {
    /// Opens the file in `folder`, or makes both; their names are on disk when this returns.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        for folder in [Some(folder), folder.parent()].into_iter().flatten() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file })
    }
}

impl Disk for FileDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // fdatasync also brings the length to disk, which is all of the metadata that reading
        // needs.
        self.file.sync_data()
    }

    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// Why a new journal could not be put in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirstError {
    /// There is one.
    #[error("there is a node in {0} already")]
    Exists(PathBuf),
    /// The file could not be written.
    #[error("cannot write the first journal")]
    Journal(#[from] JournalError),
    /// The finished folder could not be put in its place.
    #[error("cannot put the first journal in {folder}")]
    Place {
        /// Its place.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Returns whether a journal stands in `folder`.
pub fn exists(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Writes the journal of a node that is just being founded or has just joined, whole or not at all.
pub fn write_first(folder: &Path, salt: [u8; 16], entries: &[Vec<u8>]) -> Result<(), FirstError> {
    if exists(folder) {
        return Err(FirstError::Exists(folder.to_owned()));
    }
    let placed = |source| FirstError::Place {
        folder: folder.to_owned(),
        source,
    };
    // Beside its place first: a crash between two entries must not leave half a beginning.
    let draft = folder.with_extension("new");
    match std::fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(placed(error)),
        _ => {}
    }
    let (mut journal, _) = open(&draft, salt)?;
    for entry in entries {
        journal.append(entry)?;
    }
    journal.sync()?;
    std::fs::rename(&draft, folder).map_err(placed)?;
    if let Some(parent) = folder.parent() {
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(placed)?;
    }
    Ok(())
}

/// The running journal. Dropping it writes and syncs what waits, then ends the thread.
pub struct Writer {
    entries: Option<mpsc::SyncSender<Vec<u8>>>,
    durable: watch::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the journal in `folder`; returns what it holds.
pub fn open(
    folder: &Path,
    salt: [u8; 16],
) -> Result<(Journal<FileDisk>, Vec<Vec<u8>>), JournalError> {
    let disk = FileDisk::open(folder).map_err(JournalError::Read)?;
    Journal::open(disk, salt)
}

impl Writer {
    /// Starts the thread that writes. `index` hears of every entry once it is on disk; if it does
    /// not keep up it is left behind, for it can catch up at the next start.
    pub fn start(
        journal: Journal<FileDisk>,
        index: Option<mpsc::SyncSender<(u64, Vec<u8>)>>,
    ) -> io::Result<Self> {
        let (entries, waiting) = mpsc::sync_channel(QUEUE_LEN_MAX);
        let (publish, durable) = watch::channel(journal.position_synced());
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                if let Err(error) = write_all(journal, &waiting, &publish, index) {
                    tracing::error!(%error, cause = ?error, "the journal failed; the node stops");
                }
                // Dropping `publish` tells the node that nothing will be promised any more.
            })?;
        Ok(Self {
            entries: Some(entries),
            durable,
            thread: Some(thread),
        })
    }

    /// Queues an entry; returns false if the journal has failed.
    pub fn append(&self, entry: Vec<u8>) -> bool {
        self.entries
            .as_ref()
            .is_some_and(|entries| entries.send(entry).is_ok())
    }

    /// Returns the position up to which everything is on disk, as a value that can be waited for.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.entries = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

fn write_all(
    mut journal: Journal<FileDisk>,
    waiting: &mpsc::Receiver<Vec<u8>>,
    publish: &watch::Sender<u64>,
    mut index: Option<mpsc::SyncSender<(u64, Vec<u8>)>>,
) -> Result<(), JournalError> {
    while let Ok(first) = waiting.recv() {
        let rest = waiting.try_iter().take(GROUP_LEN_MAX - 1);
        let group: Vec<Vec<u8>> = std::iter::once(first).chain(rest).collect();
        let before = journal.position();
        for entry in &group {
            journal.append(entry)?;
        }
        publish.send_replace(journal.sync()?);
        for entry in (before + 1..).zip(group) {
            if index
                .as_ref()
                .is_some_and(|index| index.try_send(entry).is_err())
            {
                tracing::debug!("the index is left behind until the next start");
                index = None;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 16] = [7; 16];

    fn writer(path: &Path) -> (Writer, Vec<Vec<u8>>) {
        let (journal, old) = open(path, SALT).unwrap();
        (Writer::start(journal, None).unwrap(), old)
    }

    #[tokio::test]
    async fn entries_are_published_when_durable_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, old) = writer(&path);
        assert!(old.is_empty());
        let mut durable = journal.durable();
        for byte in 1..=100_u8 {
            assert!(journal.append(vec![byte; 10]));
        }
        durable.wait_for(|position| *position == 100).await.unwrap();
        drop(journal);
        let (journal, old) = writer(&path);
        assert_eq!(old.len(), 100);
        assert_eq!(old.last(), Some(&vec![100; 10]));
        assert_eq!(*journal.durable().borrow(), 100);
    }

    #[test]
    fn torn_tail_is_cut_off_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        write_first(&path, SALT, &[b"one".to_vec(), b"two".to_vec()]).unwrap();
        let again = write_first(&path, SALT, &[]);
        assert!(matches!(again, Err(FirstError::Exists(_))));
        let file = path.join(FILE);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&file, bytes).unwrap();
        let (_journal, old) = writer(&path);
        assert_eq!(old, vec![b"one".to_vec()]);
    }

    #[tokio::test]
    async fn entry_that_cannot_be_written_ends_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = writer(folder.path());
        let mut durable = journal.durable();
        assert!(journal.append(Vec::new()));
        assert!(durable.wait_for(|position| 0 < *position).await.is_err());
    }
}
