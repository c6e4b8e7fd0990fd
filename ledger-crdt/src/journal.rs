//! The append-only files that every yes waits for: framed entries, each bound to the one before.
//!
//! ```text
//!   00000003.snap   what is left of segments 1 to 3; written whole, then named
//!   00000004.seg    closed: longer than SEGMENT_LEN and synced before the next one was made
//!   00000005.seg    open: its end may be torn
//!   00000004.new    a snapshot under way; worthless after a crash
//!   journal         segment 0, of the first version of this program
//! ```
//!
//! | room | idea |
//! |---|---|
//! | `frame` | bytes of headers and entries |
//! | `folder` | which files there are, and what they hold together |
//! | [`compact`] | a snapshot takes the place of closed segments |
//! | [`memory`] | a folder in memory that can lose power |
//! | [`crash`] | every state that a power cut may leave, opened again |
//!
//! Opening reads the newest snapshot and the segments after it. Each file begins with the check
//! that the one before it ended with, so a file that is missing or of another journal is found. A
//! torn tail is cut off where nothing was promised; anything else that is not what was written is
//! damage, and opening fails. What cannot be told: damage to the very last synced entries with
//! nothing written after them.
//!
//! Invariant: entries up to the position that `sync` returned survive every crash. After a failed
//! write or sync nothing is known about the file's end, so the journal stays closed for ever.

use std::io;

use crate::journal::compact::Compacted;
use crate::journal::folder::Found;
use crate::journal::frame::{FRAME_HEADER_LEN, Header, Kind};

pub mod compact;
pub mod crash;
mod folder;
mod frame;
pub mod memory;

/// Longest entry: twice the longest message.
pub const ENTRY_LEN_MAX: usize = 2 * 1024 * 1024;

/// Length from which a segment is closed: what a compaction reads is a multiple of it, and what it
/// saves should be worth a file.
pub const SEGMENT_LEN: u64 = 8 * 1024 * 1024;

/// A folder of files that can grow, be cut, be named and go; implemented over a real one by a
/// shell. Contents and names reach the disk apart.
pub trait Disk {
    /// Returns the names of all files.
    fn list(&mut self) -> io::Result<Vec<String>>;
    /// Reads a whole file.
    fn read(&mut self, name: &str) -> io::Result<Vec<u8>>;
    /// Writes at the end of a file; makes it if there is none.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written to a file, and its length, is on disk.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Cuts a file to `len` bytes.
    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()>;
    /// Gives a file another name, in one step.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; one that is not there is no error.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Returns once every new, changed and removed name is on disk.
    fn sync_names(&mut self) -> io::Result<()>;
}

/// Why the journal could not be opened, appended to or synced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refused to give a file or to cut its torn tail.
    #[error("cannot read the journal")]
    Read(#[source] io::Error),
    /// Something that was on disk is no longer what was written.
    #[error("the journal is damaged: file {file}, byte {at}")]
    Damaged {
        /// Which file of the journal's folder.
        file: String,
        /// Where the first bad byte's frame begins.
        at: u64,
    },
    /// A file between others is gone.
    #[error("the journal is damaged: file {file} is missing")]
    Missing {
        /// Its name.
        file: String,
    },
    /// The disk refused a write.
    #[error("cannot append to the journal: file {file}, byte {at}")]
    Append {
        /// To which file.
        file: String,
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// The disk refused a sync; nothing after `position` is promised.
    #[error("cannot sync the journal after entry {position}")]
    Sync {
        /// The last entry that is known to be on disk.
        position: u64,
        /// Why.
        source: io::Error,
    },
    /// The disk refused a snapshot; the segments that it was to replace are still there.
    #[error("cannot compact the journal")]
    Compact(#[source] io::Error),
    /// An earlier write or sync failed.
    #[error("the journal is closed since a write or sync failed")]
    Closed,
    /// The entry is empty or too long.
    #[error("a journal entry has 1 to {ENTRY_LEN_MAX} bytes, this has {0}")]
    Size(usize),
}

/// An open journal.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    salt: [u8; 16],
    segment_len_max: u64,
    /// The open segment.
    segment: Segment,
    /// What the newest snapshot replaced, and how long it is.
    snapshot: Compacted,
    /// Bytes of closed segments that no snapshot replaced.
    closed_len: u64,
    count: u64,
    synced_count: u64,
    open: bool,
}

/// The segment at the end.
#[derive(Debug)]
struct Segment {
    number: u64,
    name: String,
    before: [u8; 16],
    len: u64,
    synced_len: u64,
}

impl<D: Disk> Journal<D> {
    /// Opens a journal and returns its entries; `salt` is for a new one, an old one has its own.
    ///
    /// Cuts off a torn tail and removes what a snapshot has replaced. Positions count entries as
    /// they are returned, so the first one that is appended has the next position.
    pub fn open(disk: D, salt: [u8; 16]) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        Self::open_with(disk, salt, SEGMENT_LEN)
    }

    /// The same with segments of another length, for tests and simulators.
    pub fn open_with(
        mut disk: D,
        salt: [u8; 16],
        segment_len_max: u64,
    ) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let found = Found::in_folder(&mut disk)?;
        let salt = found.salt.unwrap_or(salt);
        let count = found.entries.len() as u64;
        let segment = match found.last {
            Some(last) => {
                if last.len < last.file_len {
                    disk.truncate(&last.name, last.len)
                        .map_err(JournalError::Read)?;
                }
                // Also what an earlier process wrote without a sync is promised from now on.
                disk.sync(&last.name).map_err(JournalError::Read)?;
                disk.sync_names().map_err(JournalError::Read)?;
                Segment {
                    number: last.number,
                    before: found.before,
                    len: last.len,
                    synced_len: last.len,
                    name: last.name,
                }
            }
            None => begin(&mut disk, &salt, found.next, found.before, count)?,
        };
        let journal = Self {
            disk,
            salt,
            segment_len_max,
            segment,
            snapshot: found.snapshot,
            closed_len: found.closed_len,
            count,
            synced_count: count,
            open: true,
        };
        Ok((journal, found.entries))
    }

    /// Writes an entry; returns its position, promised only once [`Journal::sync`] returns it.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, JournalError> {
        if !self.open {
            return Err(JournalError::Closed);
        }
        if payload.is_empty() || ENTRY_LEN_MAX < payload.len() {
            return Err(JournalError::Size(payload.len()));
        }
        self.open = false;
        self.rotate()?;
        let Self { segment, salt, .. } = self;
        let frame = frame::write(salt, segment.synced_len, segment.before, payload);
        self.disk
            .append(&segment.name, &frame.bytes)
            .map_err(|source| JournalError::Append {
                file: segment.name.clone(),
                at: segment.len,
                source,
            })?;
        segment.len += frame.bytes.len() as u64;
        segment.before = frame.check;
        self.count += 1;
        self.open = true;
        Ok(self.count)
    }

    /// Closes a segment that is long enough, if all of it is on disk, and begins the next.
    fn rotate(&mut self) -> Result<(), JournalError> {
        let old = &self.segment;
        if old.len < self.segment_len_max || old.synced_len < old.len {
            return Ok(());
        }
        let (next, len) = (old.number + 1, old.len);
        self.segment = begin(
            &mut self.disk,
            &self.salt,
            next,
            old.before,
            self.synced_count,
        )?;
        self.closed_len += len;
        Ok(())
    }

    /// Puts everything on disk; returns the position up to which entries are promised.
    pub fn sync(&mut self) -> Result<u64, JournalError> {
        if !self.open {
            return Err(JournalError::Closed);
        }
        if self.segment.synced_len < self.segment.len {
            if let Err(source) = self.disk.sync(&self.segment.name) {
                self.open = false;
                return Err(JournalError::Sync {
                    position: self.synced_count,
                    source,
                });
            }
            self.segment.synced_len = self.segment.len;
            self.synced_count = self.count;
        }
        Ok(self.synced_count)
    }

    /// Returns the last closed segment, if a snapshot up to it is worth its work: it reads and
    /// writes at most as much as was appended since the last one.
    pub fn compaction_due(&self) -> Option<u64> {
        let worth = self.segment_len_max.max(self.snapshot.len);
        (self.open && worth <= self.closed_len).then(|| self.segment.number - 1)
    }

    /// Notes that a snapshot has taken the place of segments, which [`compact::run`] returned.
    pub fn handle_compacted(&mut self, compacted: Compacted) {
        self.closed_len = self.closed_len.saturating_sub(compacted.replaced_len);
        self.snapshot = compacted;
    }

    /// Returns the position of the last entry written.
    pub fn position(&self) -> u64 {
        self.count
    }

    /// Returns the position up to which entries are promised.
    pub fn position_synced(&self) -> u64 {
        self.synced_count
    }

    /// Returns the name of the segment at the end, and how long it is.
    pub fn open_segment(&self) -> (&str, u64) {
        (&self.segment.name, self.segment.len)
    }

    /// Returns the number of the first segment that no snapshot replaced; zero if there is no
    /// snapshot. Positions of two openings name the same entries only if this is the same.
    pub fn generation(&self) -> u64 {
        let snapshot = Some(self.snapshot).filter(|it| 0 < it.len);
        snapshot.map_or(0, |it| it.through + 1)
    }

    /// Returns the disk, for a simulator that breaks it.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Ends without a sync and returns the disk.
    pub fn into_disk(self) -> D {
        self.disk
    }
}

/// Makes an empty segment; its name and header are on disk when this returns.
fn begin<D: Disk>(
    disk: &mut D,
    salt: &[u8; 16],
    number: u64,
    before: [u8; 16],
    position: u64,
) -> Result<Segment, JournalError> {
    let name = folder::segment_name(number);
    let header = Header {
        kind: Kind::Segment,
        salt: *salt,
        number,
        before,
        count: 0,
        body_len: 0,
    };
    let bytes = header.to_bytes();
    let file = || name.clone();
    disk.append(&name, &bytes)
        .map_err(|source| JournalError::Append {
            file: file(),
            at: 0,
            source,
        })?;
    let synced = disk.sync(&name).and_then(|()| disk.sync_names());
    synced.map_err(|source| JournalError::Sync { position, source })?;
    let len = bytes.len() as u64;
    Ok(Segment {
        number,
        name,
        before,
        len,
        synced_len: len,
    })
}

/// Returns how many bytes an entry takes in a file.
pub fn framed_len(payload_len: usize) -> u64 {
    (FRAME_HEADER_LEN + payload_len) as u64
}

#[cfg(test)]
mod tests;
