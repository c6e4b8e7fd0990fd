//! A disk in memory that can lose power: for simulators and for enumerating crash states.
//!
//! It keeps what is on the plate and what was written since. A crash mixes the two sector by
//! sector, as a real disk may: nothing, a prefix, or any selection of the unsynced sectors arrives,
//! the rest is what was there before or zeros where the file had already grown.

use std::io;

use super::Disk;

/// Bytes that a disk writes at once or not at all.
pub const SECTOR_LEN: usize = 512;

/// A file in memory that knows which of its bytes are on the plate.
///
/// Invariant: what is on the plate is `written[..same]` followed by `old`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryDisk {
    written: Vec<u8>,
    same: usize,
    old: Vec<u8>,
    /// The next append fails after half of its bytes.
    pub fail_append: bool,
    /// The next sync fails and leaves open what arrived.
    pub fail_sync: bool,
}

impl MemoryDisk {
    /// Returns a disk that holds `bytes`, synced.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self {
            same: bytes.len(),
            written: bytes,
            ..Self::default()
        }
    }

    /// Returns what a running process reads.
    pub fn bytes(&self) -> &[u8] {
        &self.written
    }

    /// Returns how many written bytes are not on the plate yet.
    pub fn unsynced_len(&self) -> usize {
        self.written.len().saturating_sub(self.same)
    }

    /// Returns the disk after a power cut that kept the first `kept` unsynced bytes.
    pub fn cut(&self, kept: usize) -> Self {
        let mut bytes = self.plate();
        let new = self.written.iter().skip(self.same).take(kept);
        for (offset, byte) in new.enumerate() {
            match bytes.get_mut(self.same + offset) {
                Some(place) => *place = *byte,
                None => bytes.push(*byte),
            }
        }
        Self::holding(bytes)
    }

    /// Returns the disk after a power cut at full length, of which the sectors in `arrived` (by
    /// bit, counted from the first unsynced byte's sector) were written and the others are old or
    /// zero.
    pub fn cut_sectors(&self, arrived: u64) -> Self {
        let plate = self.plate();
        let first = self.same / SECTOR_LEN;
        let byte = |(index, new): (usize, &u8)| {
            let bit = (index / SECTOR_LEN).saturating_sub(first).min(63);
            let kept = index < self.same || arrived >> bit & 1 == 1;
            if kept {
                *new
            } else {
                plate.get(index).copied().unwrap_or(0)
            }
        };
        Self::holding(self.written.iter().enumerate().map(byte).collect())
    }

    /// Returns the disk after the power cut that `choice` picks: any prefix, or any mix of sectors.
    pub fn crash(&self, choice: u64) -> Self {
        if choice & 1 == 0 {
            let states = self.unsynced_len() as u64 + 1;
            return self.cut(usize::try_from((choice >> 1) % states).unwrap_or(0));
        }
        self.cut_sectors(choice >> 1)
    }

    fn plate(&self) -> Vec<u8> {
        self.written
            .iter()
            .take(self.same)
            .chain(&self.old)
            .copied()
            .collect()
    }
}

impl Disk for MemoryDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.fail_append) {
            self.written.extend(bytes.iter().take(bytes.len() / 2));
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.fail_sync) {
            return Err(io::ErrorKind::Other.into());
        }
        self.same = self.written.len();
        self.old.clear();
        Ok(())
    }

    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.written.clone())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len < self.same {
            let lost = self.written.iter().skip(len).take(self.same - len);
            self.old = lost.chain(&self.old).copied().collect();
            self.same = len;
        }
        self.written.truncate(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsynced_truncation_may_be_undone_by_a_crash() {
        let mut disk = MemoryDisk::holding(b"abcdef".to_vec());
        disk.truncate(2).unwrap();
        disk.append(b"X").unwrap();
        assert_eq!(disk.bytes(), b"abX");
        assert_eq!(disk.cut(0).bytes(), b"abcdef");
        assert_eq!(disk.cut(1).bytes(), b"abXdef");
        disk.sync().unwrap();
        assert_eq!(disk.cut(0).bytes(), b"abX");
    }

    #[test]
    fn lost_sectors_read_as_zeros() {
        let mut disk = MemoryDisk::holding(vec![1; 10]);
        disk.append(&[2; 1000]).unwrap();
        let cut = disk.cut_sectors(0b10);
        assert_eq!(cut.bytes().len(), 1010);
        assert_eq!(
            (cut.bytes()[9], cut.bytes()[10], cut.bytes()[512]),
            (1, 0, 2)
        );
    }

    #[test]
    fn every_choice_is_a_crash_state() {
        let mut disk = MemoryDisk::holding(vec![1; 10]);
        disk.append(&[2; 1000]).unwrap();
        for choice in 0..4000 {
            let bytes = disk.crash(choice).bytes().to_vec();
            assert!((10..=1010).contains(&bytes.len()));
            assert_eq!(bytes[..10], [1; 10]);
        }
    }
}
