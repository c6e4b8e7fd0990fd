//! Which files a journal's folder has, and what they hold together.
//!
//! Decides what is torn, what is replaced and what is damage; removes what is replaced. Invariant:
//! nothing is removed before everything that counts was read and found whole.

use crate::journal::compact::Compacted;
use crate::journal::frame::{self, FIRST_HEADER_LEN, HEADER_LEN, Header, Kind, Scan};
use crate::journal::{Disk, JournalError};

/// The one file of the first version; segment 0.
const FIRST_VERSION: &str = "journal";

/// Returns the name of a segment.
pub fn segment_name(number: u64) -> String {
    if number == 0 {
        return FIRST_VERSION.to_owned();
    }
    format!("{number:08}.seg")
}

/// Returns the name of the snapshot that replaces all segments up to this one.
pub fn snapshot_name(through: u64) -> String {
    format!("{through:08}.snap")
}

/// Returns the name of a snapshot under way.
pub fn draft_name(through: u64) -> String {
    format!("{through:08}.new")
}

/// The files of a folder, by what they are. Others are nobody's business.
#[derive(Debug, Default)]
pub struct Names {
    /// In the order of their numbers.
    pub segments: Vec<u64>,
    /// In the order of their numbers.
    pub snapshots: Vec<u64>,
    /// Drafts.
    pub drafts: Vec<u64>,
}

impl Names {
    /// Looks into the folder.
    pub fn read<D: Disk>(disk: &mut D) -> Result<Self, JournalError> {
        let mut names = Self::default();
        for name in disk.list().map_err(JournalError::Read)? {
            if name == FIRST_VERSION {
                names.segments.push(0);
            }
            let parts = name.split_once('.');
            let Some((number, kind)) = parts.and_then(|(number, kind)| {
                let is_ours = 8 <= number.len() && number.bytes().all(|it| it.is_ascii_digit());
                Some((number.parse().ok().filter(|_| is_ours)?, kind))
            }) else {
                continue;
            };
            match kind {
                "seg" => names.segments.push(number),
                "snap" => names.snapshots.push(number),
                "new" => names.drafts.push(number),
                _ => {}
            }
        }
        names.segments.sort_unstable();
        names.snapshots.sort_unstable();
        Ok(names)
    }

    /// Returns the files whose place the snapshot of `through` has taken; none without one.
    pub fn replaced(&self, through: Option<u64>) -> Vec<String> {
        let Some(through) = through else {
            return Vec::new();
        };
        let segments = self.segments.iter().filter(|it| **it <= through);
        let snapshots = self.snapshots.iter().filter(|it| **it < through);
        let segments = segments.map(|it| segment_name(*it));
        segments
            .chain(snapshots.map(|it| snapshot_name(*it)))
            .collect()
    }
}

/// The last segment, whose end may be torn.
#[derive(Debug)]
pub struct Last {
    pub number: u64,
    pub name: String,
    /// How much of it is whole.
    pub len: u64,
    pub file_len: u64,
}

/// What a folder holds.
#[derive(Debug)]
pub struct Found {
    /// The journal's salt; none in an empty folder.
    pub salt: Option<[u8; 16]>,
    pub entries: Vec<Vec<u8>>,
    /// What the next frame is bound to.
    pub before: [u8; 16],
    /// None if a segment must be made first.
    pub last: Option<Last>,
    /// The number that it then has.
    pub next: u64,
    pub snapshot: Compacted,
    pub closed_len: u64,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            salt: None,
            entries: Vec::new(),
            before: [0; 16],
            last: None,
            next: 1,
            snapshot: Compacted::default(),
            closed_len: 0,
        }
    }
}

impl Found {
    /// Reads the folder, and removes what a snapshot has replaced and what was never finished.
    pub fn in_folder<D: Disk>(disk: &mut D) -> Result<Self, JournalError> {
        let names = Names::read(disk)?;
        let mut found = Self::default();
        let stub = found.add_all(disk, &names, None)?;
        let mut old: Vec<String> = names.drafts.iter().map(|it| draft_name(*it)).collect();
        old.extend(names.replaced(names.snapshots.last().copied()));
        old.extend(stub);
        for name in &old {
            disk.remove(name).map_err(JournalError::Read)?;
        }
        if !old.is_empty() {
            disk.sync_names().map_err(JournalError::Read)?;
        }
        Ok(found)
    }

    /// Reads what is there up to a closed segment.
    pub fn closed<D: Disk>(
        disk: &mut D,
        names: &Names,
        through: u64,
    ) -> Result<Self, JournalError> {
        let mut found = Self::default();
        found.add_all(disk, names, Some(through))?;
        Ok(found)
    }

    /// Adds the newest snapshot and the segments after it, up to a closed one or all. Returns the
    /// name of one that was never finished.
    fn add_all<D: Disk>(
        &mut self,
        disk: &mut D,
        names: &Names,
        through: Option<u64>,
    ) -> Result<Option<String>, JournalError> {
        let after = names.snapshots.last().copied();
        if let Some(snapshot) = after {
            self.add_snapshot(disk, snapshot)?;
        }
        let is_live = |number: &&u64| {
            after.is_none_or(|after| after < **number)
                && through.is_none_or(|through| **number <= through)
        };
        let live: Vec<u64> = names.segments.iter().filter(is_live).copied().collect();
        self.add_segments(disk, &live, through.is_none())
    }

    fn add_snapshot<D: Disk>(&mut self, disk: &mut D, through: u64) -> Result<(), JournalError> {
        let snapshot = read_snapshot(disk, through)?;
        self.salt = Some(snapshot.header.salt);
        self.before = snapshot.header.before;
        self.entries = snapshot.entries;
        self.next = through + 1;
        self.snapshot = Compacted {
            through,
            len: snapshot.len,
            replaced_len: 0,
        };
        Ok(())
    }

    /// Adds segments, of which the last may be open. Returns the name of one that was never
    /// finished.
    fn add_segments<D: Disk>(
        &mut self,
        disk: &mut D,
        numbers: &[u64],
        is_last_open: bool,
    ) -> Result<Option<String>, JournalError> {
        for (at, number) in numbers.iter().enumerate() {
            // Only a journal of the first version begins with segment 0.
            if *number != self.next && !(*number == 0 && at == 0) {
                let file = segment_name(self.next);
                return Err(JournalError::Missing { file });
            }
            let is_last = is_last_open && at + 1 == numbers.len();
            let read = read_segment(disk, *number, self.salt, self.before, is_last)?;
            let Some(segment) = read else {
                return Ok(Some(segment_name(*number)));
            };
            self.salt = Some(segment.salt);
            self.before = segment.scan.before;
            self.entries.extend(segment.scan.entries);
            self.next = number + 1;
            let len = segment.scan.end as u64;
            if is_last {
                self.last = Some(Last {
                    number: *number,
                    name: segment_name(*number),
                    len,
                    file_len: segment.file_len,
                });
            } else {
                self.closed_len += len;
            }
        }
        Ok(None)
    }
}

/// A snapshot that is whole.
struct Snapshot {
    header: Header,
    entries: Vec<Vec<u8>>,
    len: u64,
}

/// Reads a snapshot, which was on disk before it had its name.
fn read_snapshot<D: Disk>(disk: &mut D, through: u64) -> Result<Snapshot, JournalError> {
    let file = snapshot_name(through);
    let bytes = disk.read(&file).map_err(JournalError::Read)?;
    let damaged = |at: usize| JournalError::Damaged {
        file: file.clone(),
        at: at as u64,
    };
    let header = Header::read(&bytes)
        .filter(|header| header.kind == Kind::Snapshot && header.number == through)
        .ok_or_else(|| damaged(0))?;
    let scan = Scan::over(&bytes, &header.salt, HEADER_LEN, [0; 16]);
    let is_whole = scan.end == bytes.len()
        && (scan.end - HEADER_LEN) as u64 == header.body_len
        && scan.entries.len() as u64 == header.count;
    if !is_whole {
        return Err(damaged(scan.end));
    }
    Ok(Snapshot {
        header,
        entries: scan.entries,
        len: bytes.len() as u64,
    })
}

/// A segment, whole or up to where it is torn.
struct ReadSegment {
    salt: [u8; 16],
    scan: Scan,
    file_len: u64,
}

/// Reads a segment that is bound to `before`. Returns none if it is the last one and was never
/// finished: nothing can have been promised in it.
fn read_segment<D: Disk>(
    disk: &mut D,
    number: u64,
    salt: Option<[u8; 16]>,
    before: [u8; 16],
    is_last: bool,
) -> Result<Option<ReadSegment>, JournalError> {
    let file = segment_name(number);
    let bytes = disk.read(&file).map_err(JournalError::Read)?;
    let damaged = |at: usize| JournalError::Damaged {
        file: file.clone(),
        at: at as u64,
    };
    let (own, start) = match number {
        0 => (frame::first_version_salt(&bytes), FIRST_HEADER_LEN),
        _ => {
            let header = Header::read(&bytes);
            let is_next = |it: &Header| {
                it.kind == Kind::Segment && it.number == number && it.before == before
            };
            (header.filter(is_next).map(|it| it.salt), HEADER_LEN)
        }
    };
    let own = own.filter(|own| salt.is_none_or(|salt| salt == *own));
    let Some(own) = own else {
        // The header is on disk before anything follows it, so what is no longer than a header and
        // is none was never finished.
        let is_stub = is_last && bytes.len() <= start && !is_header(&bytes, number);
        return if is_stub { Ok(None) } else { Err(damaged(0)) };
    };
    let scan = Scan::over(&bytes, &own, start, before);
    let is_torn = scan.end < bytes.len();
    if scan.was_synced || (is_torn && !is_last) {
        return Err(damaged(scan.end));
    }
    Ok(Some(ReadSegment {
        salt: own,
        scan,
        file_len: bytes.len() as u64,
    }))
}

/// Returns whether bytes are the whole header of some file: then it is of another journal and not
/// one that was never finished.
fn is_header(bytes: &[u8], number: u64) -> bool {
    match number {
        0 => frame::first_version_salt(bytes).is_some(),
        _ => Header::read(bytes).is_some(),
    }
}
