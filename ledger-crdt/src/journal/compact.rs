//! A snapshot takes the place of closed segments, so that the journal follows what is true and not
//! everything that ever was.
//!
//! ```text
//!   read snapshot and segments 1..=n ─► keep ─► n.new, synced ─► n.snap, names synced ─► remove
//! ```
//! It touches closed files only, so it may run beside the one who appends, over a disk of its own.
//! Decides nothing about what is worth keeping. Invariant: at every moment the folder holds the old
//! files or the snapshot, whole.

use std::io;

use crate::journal::folder::{self, Names};
use crate::journal::frame::{self, Header, Kind};
use crate::journal::{Disk, JournalError};

/// What a snapshot replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// The last segment.
    pub through: u64,
    /// The snapshot's length in bytes; zero if there is none.
    pub len: u64,
    /// That of the segments which it replaced just now.
    pub replaced_len: u64,
}

/// Replaces all segments up to `through`, which must be closed, by a snapshot of the entries that
/// `keep` leaves of theirs.
///
/// # Errors
/// The disk refuses something, or a file is damaged; then all is as before, at worst but for a
/// draft that the next one replaces.
pub fn run<D: Disk>(
    disk: &mut D,
    through: u64,
    keep: impl FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>>,
) -> Result<Compacted, JournalError> {
    let names = Names::read(disk)?;
    let closed = Closed::read(disk, &names, through)?;
    let bytes = snapshot(closed.salt, through, closed.before, &keep(closed.entries));
    let (draft, name) = (folder::draft_name(through), folder::snapshot_name(through));
    let write = |disk: &mut D| -> io::Result<()> {
        // One that an earlier attempt has left.
        disk.remove(&draft)?;
        disk.append(&draft, &bytes)?;
        disk.sync(&draft)?;
        disk.rename(&draft, &name)?;
        disk.sync_names()
    };
    if let Err(error) = write(disk) {
        // A disk that is full has better uses for it.
        let _ = disk.remove(&draft);
        return Err(JournalError::Compact(error));
    }
    let old = names.segments.iter().filter(|it| **it <= through);
    let older = names.snapshots.iter().filter(|it| **it < through);
    let files = old
        .map(|it| folder::segment_name(*it))
        .chain(older.map(|it| folder::snapshot_name(*it)));
    for file in files {
        // What stays is removed at the next opening.
        let _ = disk.remove(&file);
    }
    Ok(Compacted {
        through,
        len: bytes.len() as u64,
        replaced_len: closed.segments_len,
    })
}

/// Everything up to a closed segment.
struct Closed {
    salt: [u8; 16],
    before: [u8; 16],
    entries: Vec<Vec<u8>>,
    segments_len: u64,
}

impl Closed {
    fn read<D: Disk>(disk: &mut D, names: &Names, through: u64) -> Result<Self, JournalError> {
        let mut salt = None;
        let (mut before, mut entries, mut segments_len) = ([0; 16], Vec::new(), 0);
        if let Some(old) = names.snapshots.last() {
            let snapshot = folder::read_snapshot(disk, *old)?;
            salt = Some(snapshot.header.salt);
            before = snapshot.header.before;
            entries = snapshot.entries;
        }
        let after = names.snapshots.last().copied();
        let live = names.segments.iter().filter(|it| {
            let is_newer = after.is_none_or(|after| after < **it);
            is_newer && **it <= through
        });
        for number in live {
            let read = folder::read_segment(disk, *number, salt, before, false)?;
            let segment = read.ok_or_else(|| JournalError::Missing {
                file: folder::segment_name(*number),
            })?;
            salt = Some(segment.salt);
            before = segment.scan.before;
            entries.extend(segment.scan.entries);
            segments_len += segment.file_len;
        }
        let salt = salt.ok_or_else(|| JournalError::Missing {
            file: folder::segment_name(through),
        })?;
        Ok(Self {
            salt,
            before,
            entries,
            segments_len,
        })
    }
}

/// Returns the bytes of a snapshot.
fn snapshot(salt: [u8; 16], through: u64, before: [u8; 16], entries: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut last = [0; 16];
    for entry in entries {
        let written = frame::write(&salt, 0, last, entry);
        last = written.check;
        body.extend_from_slice(&written.bytes);
    }
    let header = Header {
        kind: Kind::Snapshot,
        salt,
        number: through,
        before,
        count: entries.len() as u64,
        body_len: body.len() as u64,
    };
    let mut bytes = header.to_bytes();
    bytes.append(&mut body);
    bytes
}
