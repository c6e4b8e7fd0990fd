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

use crate::journal::folder::{self, Found, Names};
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
    let closed = Found::closed(disk, &names, through)?;
    let salt = closed.salt.ok_or_else(|| JournalError::Missing {
        file: folder::segment_name(through),
    })?;
    let bytes = snapshot(salt, through, closed.before, &keep(closed.entries));
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
    for file in names.replaced(Some(through)) {
        // What stays is removed at the next opening.
        let _ = disk.remove(&file);
    }
    Ok(Compacted {
        through,
        len: bytes.len() as u64,
        replaced_len: closed.closed_len,
    })
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
