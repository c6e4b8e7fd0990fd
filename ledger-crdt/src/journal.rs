//! The append-only file that every yes waits for: framed entries, each bound to the one before.
//!
//! ```text
//! file  = "MSJRNL01" salt[16] check[8] frame*
//! frame = 0xa5 version len:u32 synced:u64 before[16] check[16] payload[len]   (little-endian)
//! check = SHA-256(salt, frame up to `before`, payload)[..16]     before = the last frame's check
//! ```
//! `synced` says how much of the file was known to be on disk when the frame was written. It tells
//! a torn tail from damage: if anything whole after a bad place says that this place had been
//! synced, something has destroyed what was promised, and opening fails; if nothing says so, the
//! bytes were never promised, and they are cut off. The salt, unknown to peers, keeps frames out of
//! what they can make us store. What cannot be told: damage to the very last synced frames with
//! nothing written after them.
//!
//! Invariant: entries up to the position that `sync` returned survive every crash. After a failed
//! write or sync nothing is known about the file's end, so the journal stays closed for ever.

use std::io;

use mesh_base::digest::Digest;

pub mod memory;

/// Longest entry: twice the longest message.
pub const ENTRY_LEN_MAX: usize = 2 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"MSJRNL01";
const FILE_HEADER_LEN: usize = 32;
const FRAME_HEADER_LEN: usize = 46;
/// What of a frame's header the check covers: all before itself.
const CHECKED_LEN: usize = 30;
const MARKER: u8 = 0xa5;
const VERSION: u8 = 1;

/// A file that can only grow and be cut; implemented over a real one by a shell.
pub trait Disk {
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything written, and the file's length, is on disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Reads the whole file.
    fn read_all(&mut self) -> io::Result<Vec<u8>>;
    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Why the journal could not be opened, appended to or synced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refused to give the file or to cut its torn tail.
    #[error("cannot read the journal")]
    Read(#[source] io::Error),
    /// Something that was on disk is no longer what was written.
    #[error("the journal is damaged at byte {at}")]
    Damaged {
        /// Where the first bad byte's frame begins.
        at: u64,
    },
    /// The disk refused a write.
    #[error("cannot append to the journal at byte {at}")]
    Append {
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
    before: [u8; 16],
    len: u64,
    synced_len: u64,
    count: u64,
    synced_count: u64,
    open: bool,
}

impl<D: Disk> Journal<D> {
    /// Opens a journal and returns its entries; `salt` is for a new file, an old one has its own.
    ///
    /// Cuts off a torn tail. Positions count entries, so the first entry has position 1.
    pub fn open(mut disk: D, salt: [u8; 16]) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let bytes = disk.read_all().map_err(JournalError::Read)?;
        if bytes.len() < FILE_HEADER_LEN {
            // Opening syncs the header before any promise: a shorter file promised nothing.
            return Ok((Self::begin(disk, salt, !bytes.is_empty())?, Vec::new()));
        }
        let salt = file_salt(&bytes).ok_or(JournalError::Damaged { at: 0 })?;
        let scan = Scan::over(&bytes, &salt)?;
        let (len, file_len) = (scan.end as u64, bytes.len() as u64);
        if len < file_len {
            disk.truncate(len).map_err(JournalError::Read)?;
        }
        // Also what an earlier process wrote without a sync is promised from now on.
        disk.sync().map_err(JournalError::Read)?;
        let count = scan.entries.len() as u64;
        let journal = Self {
            disk,
            salt,
            before: scan.before,
            len,
            synced_len: len,
            count,
            synced_count: count,
            open: true,
        };
        Ok((journal, scan.entries))
    }

    fn begin(mut disk: D, salt: [u8; 16], torn: bool) -> Result<Self, JournalError> {
        if torn {
            disk.truncate(0).map_err(JournalError::Read)?;
        }
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&salt);
        header.extend_from_slice(&header_check(&salt));
        disk.append(&header)
            .map_err(|source| JournalError::Append { at: 0, source })?;
        disk.sync().map_err(|source| JournalError::Sync {
            position: 0,
            source,
        })?;
        let len = header.len() as u64;
        Ok(Self {
            disk,
            salt,
            before: [0; 16],
            len,
            synced_len: len,
            count: 0,
            synced_count: 0,
            open: true,
        })
    }

    /// Writes an entry; returns its position, promised only once [`Journal::sync`] returns it.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, JournalError> {
        if !self.open {
            return Err(JournalError::Closed);
        }
        if payload.is_empty() || ENTRY_LEN_MAX < payload.len() {
            return Err(JournalError::Size(payload.len()));
        }
        let mut frame = Vec::with_capacity(FRAME_HEADER_LEN + payload.len());
        frame.extend_from_slice(&[MARKER, VERSION]);
        // The length was checked to fit far below 32 bits.
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(&self.synced_len.to_le_bytes());
        frame.extend_from_slice(&self.before);
        let check = frame_check(&self.salt, &frame, payload);
        frame.extend_from_slice(&check);
        frame.extend_from_slice(payload);
        if let Err(source) = self.disk.append(&frame) {
            self.open = false;
            return Err(JournalError::Append {
                at: self.len,
                source,
            });
        }
        self.len += frame.len() as u64;
        self.before = check;
        self.count += 1;
        Ok(self.count)
    }

    /// Puts everything on disk; returns the position up to which entries are promised.
    pub fn sync(&mut self) -> Result<u64, JournalError> {
        if !self.open {
            return Err(JournalError::Closed);
        }
        if self.synced_len < self.len {
            if let Err(source) = self.disk.sync() {
                self.open = false;
                return Err(JournalError::Sync {
                    position: self.synced_count,
                    source,
                });
            }
            self.synced_len = self.len;
            self.synced_count = self.count;
        }
        Ok(self.synced_count)
    }

    /// Returns the position of the last entry written.
    pub fn position(&self) -> u64 {
        self.count
    }

    /// Returns the position up to which entries are promised.
    pub fn position_synced(&self) -> u64 {
        self.synced_count
    }

    /// Returns the file's length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len
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

fn file_salt(bytes: &[u8]) -> Option<[u8; 16]> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (salt, rest) = rest.split_first_chunk::<16>()?;
    let (check, _) = rest.split_first_chunk::<8>()?;
    (*check == header_check(salt)).then_some(*salt)
}

fn header_check(salt: &[u8; 16]) -> [u8; 8] {
    first(Digest::of_parts(&[MAGIC, salt]))
}

fn frame_check(salt: &[u8; 16], header: &[u8], payload: &[u8]) -> [u8; 16] {
    first(Digest::of_parts(&[salt, header, payload]))
}

fn first<const N: usize>(digest: Digest) -> [u8; N] {
    // Proof: callers ask for at most the 32 bytes that a digest has.
    *digest
        .as_bytes()
        .first_chunk()
        .expect("a digest has 32 bytes")
}

/// A frame that is whole in itself, whatever stands before it.
struct Frame<'a> {
    synced: u64,
    before: [u8; 16],
    check: [u8; 16],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8], salt: &[u8; 16]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_LEN>()?;
        let (checked, check) = header.split_at(CHECKED_LEN);
        let fields = checked.strip_prefix(&[MARKER, VERSION])?;
        let (len, fields) = fields.split_first_chunk::<4>()?;
        let (synced, before) = fields.split_first_chunk::<8>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        if len == 0 || ENTRY_LEN_MAX < len {
            return None;
        }
        let (payload, _) = rest.split_at_checked(len)?;
        let check: [u8; 16] = check.try_into().ok()?;
        if check != frame_check(salt, checked, payload) {
            return None;
        }
        let before = before.try_into().ok()?;
        Some(Self {
            synced: u64::from_le_bytes(*synced),
            before,
            check,
            payload,
        })
    }
}

/// What a file holds.
struct Scan {
    entries: Vec<Vec<u8>>,
    before: [u8; 16],
    end: usize,
}

impl Scan {
    fn over(bytes: &[u8], salt: &[u8; 16]) -> Result<Self, JournalError> {
        let mut scan = Self {
            entries: Vec::new(),
            before: [0; 16],
            end: FILE_HEADER_LEN,
        };
        while let Some(rest) = bytes.get(scan.end..) {
            let next = Frame::read(rest, salt).filter(|frame| frame.before == scan.before);
            let Some(frame) = next else {
                scan.judge_tail(rest, salt)?;
                break;
            };
            scan.entries.push(frame.payload.to_vec());
            scan.before = frame.check;
            scan.end += FRAME_HEADER_LEN + frame.payload.len();
        }
        Ok(scan)
    }

    /// Fails if a whole frame after the bad place shows that the place had been synced.
    fn judge_tail(&self, tail: &[u8], salt: &[u8; 16]) -> Result<(), JournalError> {
        let at = self.end as u64;
        // Every byte may begin a frame, for a bad length says nothing about where the next one is.
        // The marker and version make the check of a wrong place cheap.
        let mut rest = tail;
        while let Some((_, shorter)) = rest.split_first() {
            if Frame::read(rest, salt).is_some_and(|frame| at < frame.synced) {
                return Err(JournalError::Damaged { at });
            }
            rest = shorter;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::memory::MemoryDisk;
    use super::*;

    const SALT: [u8; 16] = [9; 16];

    fn entry(number: u8) -> Vec<u8> {
        vec![number; 100 + usize::from(number) * 150]
    }

    fn reopened(disk: MemoryDisk) -> Result<Vec<Vec<u8>>, JournalError> {
        Journal::open(disk, [0; 16]).map(|(_, entries)| entries)
    }

    /// Three entries synced, three more written.
    fn half_synced() -> Journal<MemoryDisk> {
        let (mut journal, entries) = Journal::open(MemoryDisk::default(), SALT).unwrap();
        assert!(entries.is_empty());
        for number in 1..=3 {
            assert_eq!(journal.append(&entry(number)).unwrap(), u64::from(number));
        }
        assert_eq!(journal.position_synced(), 0);
        assert_eq!(journal.sync().unwrap(), 3);
        for number in 4..=6 {
            journal.append(&entry(number)).unwrap();
        }
        journal
    }

    /// What must hold after any crash: the promised entries, and then only a prefix of the others.
    #[track_caller]
    fn check_crash(disk: MemoryDisk) {
        let (mut journal, entries) = Journal::open(disk, [0; 16]).unwrap();
        assert!((3..=6).contains(&entries.len()), "{}", entries.len());
        for (number, bytes) in (1..).zip(&entries) {
            assert_eq!(*bytes, entry(number));
        }
        // It goes on, and what was cut off never comes back.
        let position = journal.append(b"after").unwrap();
        assert_eq!(position, entries.len() as u64 + 1);
        assert_eq!(journal.sync().unwrap(), position);
        let again = reopened(journal.into_disk().cut(0)).unwrap();
        assert_eq!(again.len(), entries.len() + 1);
        assert_eq!(again.last().unwrap(), b"after");
    }

    #[test]
    fn every_prefix_of_unsynced_bytes_opens_with_all_that_was_promised() {
        let disk = half_synced().into_disk();
        for kept in 0..=disk.unsynced_len() {
            check_crash(disk.cut(kept));
        }
    }

    #[test]
    fn every_mix_of_unsynced_sectors_opens_with_all_that_was_promised() {
        let disk = half_synced().into_disk();
        let sectors = disk.unsynced_len() / memory::SECTOR_LEN + 2;
        for arrived in 0..1_u64 << sectors {
            check_crash(disk.cut_sectors(arrived));
        }
    }

    #[test]
    fn every_prefix_of_the_first_opening_begins_anew() {
        let (journal, _) = Journal::open(MemoryDisk::default(), SALT).unwrap();
        let header = journal.into_disk().bytes().to_vec();
        for len in 0..header.len() {
            let disk = MemoryDisk::holding(header[..len].to_vec());
            let (mut journal, entries) = Journal::open(disk, SALT).unwrap();
            assert!(entries.is_empty());
            journal.append(b"x").unwrap();
            assert_eq!(reopened(journal.into_disk()).unwrap(), [b"x"]);
        }
    }

    #[test]
    fn every_flipped_promised_byte_is_damage_at_its_frame() {
        let mut journal = half_synced();
        journal.sync().unwrap();
        journal
            .append(b"a witness that the others were synced")
            .unwrap();
        let bytes = journal.into_disk().bytes().to_vec();
        let mut starts = vec![FILE_HEADER_LEN];
        for number in 1..=6 {
            starts.push(starts[number - 1] + FRAME_HEADER_LEN + entry(number as u8).len());
        }
        let synced = starts[6];
        // Each byte of the headers, and some of the payloads.
        for at in
            (0..synced).filter(|at| at % 37 == 0 || starts.iter().any(|s| at - s.min(at) < 46))
        {
            let mut spoiled = bytes.clone();
            spoiled[at] ^= 0x10;
            let frame = starts
                .iter()
                .rev()
                .find(|start| **start <= at)
                .copied()
                .unwrap_or(0);
            match reopened(MemoryDisk::holding(spoiled)) {
                Err(JournalError::Damaged { at: found }) => assert_eq!(found, frame as u64, "{at}"),
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn failed_sync_closes_for_ever() {
        let mut journal = half_synced();
        journal.disk_mut().fail_sync = true;
        assert!(matches!(
            journal.sync(),
            Err(JournalError::Sync { position: 3, .. })
        ));
        assert!(matches!(journal.sync(), Err(JournalError::Closed)));
        assert!(matches!(journal.append(b"x"), Err(JournalError::Closed)));
        assert_eq!(journal.position_synced(), 3);
        check_crash(journal.into_disk().cut(777));
    }

    #[test]
    fn failed_append_closes_for_ever_and_leaves_a_torn_tail() {
        let mut journal = half_synced();
        journal.disk_mut().fail_append = true;
        assert!(matches!(
            journal.append(&entry(9)),
            Err(JournalError::Append { .. })
        ));
        assert!(matches!(journal.append(b"x"), Err(JournalError::Closed)));
        assert_eq!(reopened(journal.into_disk()).unwrap().len(), 6);
    }

    #[test]
    fn frames_in_a_payload_are_not_frames() {
        // A whole journal with the same frame format, stored as an entry, torn after it began.
        let (mut other, _) = Journal::open(MemoryDisk::default(), [1; 16]).unwrap();
        for number in 1..=4 {
            other.append(&entry(number)).unwrap();
            other.sync().unwrap();
        }
        let smuggled = other.into_disk().bytes().to_vec();
        let mut journal = half_synced();
        journal.append(&smuggled).unwrap();
        let disk = journal.into_disk();
        for kept in (0..=disk.unsynced_len()).step_by(53) {
            assert!(reopened(disk.cut(kept)).is_ok());
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let bytes = half_synced().into_disk().bytes().to_vec();
        let mut seed = 1_u64;
        for _ in 0..2000 {
            let mut spoiled = bytes.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % spoiled.len();
                spoiled[at] = (seed >> 20) as u8;
            }
            spoiled.truncate((seed >> 40) as usize % (bytes.len() + 1));
            let _ = reopened(MemoryDisk::holding(spoiled));
        }
    }

    #[test]
    fn empty_and_huge_entries_are_refused_and_change_nothing() {
        let mut journal = half_synced();
        assert!(matches!(journal.append(b""), Err(JournalError::Size(0))));
        let huge = vec![0; ENTRY_LEN_MAX + 1];
        assert!(matches!(journal.append(&huge), Err(JournalError::Size(_))));
        assert_eq!(journal.append(b"x").unwrap(), 7);
    }
}
