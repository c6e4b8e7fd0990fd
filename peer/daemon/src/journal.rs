//! The journal on a real disk, and the thread that gathers entries and syncs them together.
//!
//! ```text
//!   node ── append(entry) ──► queue ──► thread: write all that wait, one fdatasync, publish
//!   node ◄── durable position (a watch: only the newest matters)
//!                                          │ segments closed ──► another thread: a snapshot
//! ```
//! Room for what must still be written is set aside before it is needed: on a full disk the node
//! takes nothing new on, and what runs goes on. Decides nothing about entries. After a failed write
//! or sync nothing is known about the disk any more, so the thread ends and the daemon with it;
//! what was not promised is found out at the next start. A snapshot that fails costs room only: the
//! segments stay.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use mesh_ledger::journal::compact::{self, Compacted};
use mesh_ledger::journal::{Disk, Journal, JournalError};
use mesh_peer::port::Room;
use mesh_peer::survive::survivors;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;
use tokio::sync::watch;

/// Entries that wait for the disk; then the node waits too, for it must not promise faster than
/// that.
const QUEUE_LEN_MAX: usize = 4096;
/// Most entries that share one sync, so that the first of them does not wait for ever.
const GROUP_LEN_MAX: usize = 512;
/// Room that is set aside for the open segment: meters, usage and ends of a hundred instances for
/// weeks.
const RESERVE_LEN: u64 = 8 * 1024 * 1024;
/// When so much of it is used up, it is filled again.
const RESERVE_USED_MAX: u64 = RESERVE_LEN / 4;
/// What must be free besides, for what else is written here: logs, the index, instances.
const FREE_LEN_MIN: u64 = 16 * 1024 * 1024;
/// How often it is looked whether the disk is full, or has room again.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// A journal's folder on a real disk.
#[derive(Debug)]
pub struct FolderDisk {
    folder: PathBuf,
    /// The file that was written last.
    open: Option<(String, File)>,
}

impl FolderDisk {
    /// Opens the folder, or makes it; its name is on disk when this returns.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            open: None,
        })
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(self.folder.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        let (_, file) = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    /// Sets room aside for a file, so that it can grow to `len` bytes whatever else fills the disk.
    /// Returns whether there was room; a file system that cannot set anything aside says yes.
    fn reserve(&mut self, name: &str, len: u64) -> io::Result<Room> {
        let want = i64::try_from(len).map_err(io::Error::other)?;
        let file = self.file(name)?;
        // The length stays: what is read back ends where it was written.
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, want) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(Room::Enough),
            Err(Errno::ENOSPC | Errno::EDQUOT) => Ok(Room::Full),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether there is room besides what is set aside.
    fn room(&self) -> io::Result<Room> {
        let disk = statvfs(&self.folder)?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        Ok(if FREE_LEN_MIN <= free {
            Room::Enough
        } else {
            Room::Full
        })
    }

    fn forget(&mut self, name: &str) {
        self.open.take_if(|(open, _)| open == name);
    }
}

impl Disk for FolderDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(name))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        // fdatasync also brings the length to disk, which is all of the metadata that reading
        // needs.
        self.file(name)?.sync_data()
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.file(name)?.set_len(len)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.forget(name);
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
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
    // It is put in its place whole, so an empty folder is none.
    fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
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
    match fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(placed(error)),
        _ => {}
    }
    let (mut journal, _) = open(&draft, salt)?;
    for entry in entries {
        journal.append(entry)?;
    }
    journal.sync()?;
    fs::rename(&draft, folder).map_err(placed)?;
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
    room: watch::Receiver<Room>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the journal in `folder`; returns what it holds.
pub fn open(
    folder: &Path,
    salt: [u8; 16],
) -> Result<(Journal<FolderDisk>, Vec<Vec<u8>>), JournalError> {
    let disk = FolderDisk::open(folder).map_err(JournalError::Read)?;
    Journal::open(disk, salt)
}

impl Writer {
    /// Starts the thread that writes. `index` hears of every entry once it is on disk; if it does
    /// not keep up it is left behind, for it can catch up at the next start.
    pub fn start(
        journal: Journal<FolderDisk>,
        index: Option<mpsc::SyncSender<(u64, Vec<u8>)>>,
    ) -> io::Result<Self> {
        let (entries, waiting) = mpsc::sync_channel(QUEUE_LEN_MAX);
        let (publish, durable) = watch::channel(journal.position_synced());
        let (publish_room, room) = watch::channel(Room::Enough);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let (snapshots, made) = mpsc::channel();
                let written = Written {
                    journal,
                    publish,
                    room: publish_room,
                    reserved: (String::new(), 0),
                    index,
                    snapshots,
                    made,
                    is_compacting: false,
                };
                if let Err(error) = written.write_all(&waiting) {
                    tracing::error!(%error, cause = ?error, "the journal failed; the node stops");
                }
                // It has dropped `publish`: nothing will be promised any more.
            })?;
        Ok(Self {
            entries: Some(entries),
            durable,
            room,
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

    /// Returns whether the disk has room for what is still to come, as a value that can be waited
    /// for.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.room.clone()
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

/// What the thread that writes works with.
struct Written {
    journal: Journal<FolderDisk>,
    publish: watch::Sender<u64>,
    room: watch::Sender<Room>,
    /// How long which file may become.
    reserved: (String, u64),
    index: Option<mpsc::SyncSender<(u64, Vec<u8>)>>,
    /// What came of a snapshot; none of one that failed.
    snapshots: mpsc::Sender<Option<Compacted>>,
    made: mpsc::Receiver<Option<Compacted>>,
    is_compacting: bool,
}

impl Written {
    fn write_all(mut self, waiting: &mpsc::Receiver<Vec<u8>>) -> Result<(), JournalError> {
        loop {
            self.compact_if_due();
            self.look_for_room();
            let first = match waiting.recv_timeout(ROOM_INTERVAL) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let rest = waiting.try_iter().take(GROUP_LEN_MAX - 1);
            let group: Vec<Vec<u8>> = std::iter::once(first).chain(rest).collect();
            let before = self.journal.position();
            for entry in &group {
                self.journal.append(entry)?;
            }
            self.publish.send_replace(self.journal.sync()?);
            self.tell_index(before, group);
        }
    }

    /// Sets room aside for what is still to come, and says when the disk is full or is no longer.
    fn look_for_room(&mut self) {
        let room = self.reserve().and_then(|reserved| match reserved {
            Room::Enough => self.journal.disk_mut().room(),
            Room::Full => Ok(Room::Full),
        });
        // Whatever it is, the next write will say so.
        let room = room.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot see how much room the journal has");
            Room::Enough
        });
        if *self.room.borrow() != room {
            match room {
                Room::Full => tracing::error!("the disk is full; nothing new is taken on"),
                Room::Enough => tracing::info!("the disk has room again"),
            }
            self.room.send_replace(room);
        }
    }

    /// Fills up what is set aside, if much of it is used up.
    fn reserve(&mut self) -> io::Result<Room> {
        let (name, len) = self.journal.open_segment();
        let (reserved, up_to) = &self.reserved;
        let left = up_to.saturating_sub(len);
        if reserved == name && RESERVE_LEN - RESERVE_USED_MAX <= left {
            return Ok(Room::Enough);
        }
        let (name, up_to) = (name.to_owned(), len + RESERVE_LEN);
        let room = self.journal.disk_mut().reserve(&name, up_to)?;
        if room == Room::Enough {
            self.reserved = (name, up_to);
        }
        Ok(room)
    }

    fn tell_index(&mut self, before: u64, group: Vec<Vec<u8>>) {
        for entry in (before + 1..).zip(group) {
            let index = self.index.as_ref();
            if index.is_some_and(|index| index.try_send(entry).is_err()) {
                tracing::debug!("the index is left behind until the next start");
                self.index = None;
            }
        }
    }

    /// Begins a snapshot of closed segments on a thread of its own, if it is worth it and none is
    /// being made.
    fn compact_if_due(&mut self) {
        if let Ok(compacted) = self.made.try_recv() {
            self.is_compacting = false;
            if let Some(compacted) = compacted {
                self.journal.handle_compacted(compacted);
            }
        }
        let Some(through) = self
            .journal
            .compaction_due()
            .filter(|_| !self.is_compacting)
        else {
            return;
        };
        let folder = self.journal.disk_mut().folder.clone();
        let snapshots = self.snapshots.clone();
        let started = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                let made = compact_folder(&folder, through);
                // Who is not there any more has ended.
                let _ = snapshots.send(made);
            });
        match started {
            // It is not waited for: half a snapshot is removed at the next start.
            Ok(_) => self.is_compacting = true,
            Err(error) => tracing::warn!(%error, "cannot begin a snapshot of the journal"),
        }
    }
}

fn compact_folder(folder: &Path, through: u64) -> Option<Compacted> {
    let made = FolderDisk::open(folder)
        .map_err(JournalError::Compact)
        .and_then(|mut disk| compact::run(&mut disk, through, survivors));
    match made {
        Ok(compacted) => {
            let (before, after) = (compacted.replaced_len, compacted.len);
            tracing::info!(
                before,
                after,
                "closed segments of the journal are a snapshot now"
            );
            Some(compacted)
        }
        Err(error) => {
            tracing::warn!(%error, cause = ?error, "the journal was not compacted; it only grows");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::digest::Digest;
    use mesh_peer::entry::Entry;
    use serde_bytes::ByteBuf;

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
        let files: Vec<_> = fs::read_dir(&path).unwrap().collect();
        let [Ok(file)] = &files[..] else {
            panic!("{files:?}");
        };
        let mut bytes = fs::read(file.path()).unwrap();
        bytes.truncate(bytes.len() - 1);
        fs::write(file.path(), bytes).unwrap();
        let (_journal, old) = writer(&path);
        assert_eq!(old, vec![b"one".to_vec()]);
    }

    /// An entry that the next one of it replaces.
    fn secret(byte: u8, len: usize) -> Vec<u8> {
        let entry = Entry::Secret {
            order: Digest::from_bytes([1; 32]),
            sealed: ByteBuf::from(vec![byte; len]),
        };
        entry.to_bytes()
    }

    #[tokio::test]
    async fn long_journal_becomes_a_snapshot_beside_the_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, _) = writer(&path);
        let mut durable = journal.durable();
        let mut position = 0;
        let made = async {
            loop {
                position += 1;
                assert!(journal.append(secret(position as u8, 1 << 20)));
                durable.wait_for(|it| position <= *it).await.unwrap();
                let names = fs::read_dir(&path).unwrap();
                let mut names = names.map(|it| it.unwrap().file_name());
                if names.any(|it| it.to_string_lossy().ends_with(".snap")) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), made)
            .await
            .unwrap();
        drop(journal);
        let (journal, old) = writer(&path);
        assert!((old.len() as u64) < position);
        assert_eq!(old.last(), Some(&secret(position as u8, 1 << 20)));
        assert_eq!(*journal.durable().borrow(), old.len() as u64);
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
