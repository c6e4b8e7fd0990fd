//! A folder in memory that can lose power: for simulators and for enumerating crash states.
//!
//! It keeps what is on the plate and what was written since, contents and names apart. A crash
//! mixes the two. Of a file nothing, a prefix, or any selection of the unsynced sectors arrives,
//! the rest is what was there before or zeros where the file had already grown. Of the names that
//! changed since they were synced any selection arrives.

use std::collections::BTreeMap;
use std::io;

use mesh_base::chance::Chance;

use super::Disk;

/// Bytes that a disk writes at once or not at all.
pub const SECTOR_LEN: usize = 512;

/// A file that knows which of its bytes are on the plate.
///
/// Invariant: what is on the plate is `written[..same]` followed by `old`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryFile {
    written: Vec<u8>,
    same: usize,
    old: Vec<u8>,
}

impl MemoryFile {
    /// Returns a file that holds `bytes`, synced.
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

    /// Returns how many sectors are not on the plate, or not as they were written.
    pub fn unsynced_sectors(&self) -> usize {
        let first = self.same / SECTOR_LEN;
        self.written
            .len()
            .div_ceil(SECTOR_LEN)
            .saturating_sub(first)
    }

    /// Returns the file after a power cut that kept the first `kept` unsynced bytes.
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

    /// Returns the file after a power cut at full length, of which the sectors in `arrived` (by
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

    /// Returns the file after the power cut that `choice` picks: any prefix, or any mix of sectors.
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

    fn sync(&mut self) {
        self.same = self.written.len();
        self.old.clear();
    }

    fn truncate(&mut self, len: usize) {
        if len < self.same {
            let lost = self.written.iter().skip(len).take(self.same - len);
            self.old = lost.chain(&self.old).copied().collect();
            self.same = len;
        }
        self.written.truncate(len);
    }
}

/// A name that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// It names this file now.
    Names(String, u64),
    /// It went over from the first to the second, which names this file now.
    Renamed(String, String, u64),
    /// It names nothing any more.
    Gone(String),
}

/// The folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryDisk {
    files: BTreeMap<u64, MemoryFile>,
    /// What a running process sees.
    names: BTreeMap<String, u64>,
    /// What is on the plate.
    names_on_plate: BTreeMap<String, u64>,
    /// From the one to the other.
    changes: Vec<Change>,
    next_file: u64,
    /// The next append fails after half of its bytes.
    pub fail_append: bool,
    /// The next sync of a file fails and leaves open what arrived.
    pub fail_sync: bool,
}

impl MemoryDisk {
    /// Returns a folder with one file of `bytes`, synced.
    pub fn holding(name: &str, bytes: Vec<u8>) -> Self {
        let mut disk = Self::default();
        disk.put(name, MemoryFile::holding(bytes));
        disk.settle_names();
        disk
    }

    /// Returns a file as a running process sees it.
    pub fn file(&self, name: &str) -> Option<&MemoryFile> {
        self.names.get(name).and_then(|id| self.files.get(id))
    }

    /// Returns the names that a running process sees.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Returns all files that a running process sees.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.names.iter();
        let files = names.filter_map(|(name, id)| Some((name, self.files.get(id)?)));
        files
            .map(|(name, file)| (name.clone(), file.bytes().to_vec()))
            .collect()
    }

    /// Returns how many written bytes of all files are not on the plate yet.
    pub fn unsynced_len(&self) -> usize {
        self.files.values().map(MemoryFile::unsynced_len).sum()
    }

    /// Returns how many changes of names are not on the plate yet.
    pub fn unsynced_names(&self) -> usize {
        self.changes.len()
    }

    /// Returns the folder after a power cut: of the changed names those in `arrived` (by bit) are
    /// there, and of each file what `cut` leaves of it.
    pub fn cut(&self, arrived: u64, mut cut: impl FnMut(&MemoryFile) -> MemoryFile) -> Self {
        let mut names = self.names_on_plate.clone();
        for (at, change) in self.changes.iter().enumerate() {
            if arrived >> at.min(63) & 1 == 0 {
                continue;
            }
            match change {
                Change::Names(name, id) => {
                    names.insert(name.clone(), *id);
                }
                Change::Renamed(from, to, id) => {
                    names.remove(from);
                    names.insert(to.clone(), *id);
                }
                Change::Gone(name) => {
                    names.remove(name);
                }
            }
        }
        let mut disk = Self::default();
        for (name, id) in names {
            if let Some(file) = self.files.get(&id) {
                disk.put(&name, cut(file));
            }
        }
        disk.settle_names();
        disk
    }

    /// Returns the folder after the power cut that `choice` picks.
    pub fn crash(&self, choice: u64) -> Self {
        let mut chance = Chance::new(choice);
        let names = chance.bits();
        self.cut(names, |file| file.crash(chance.bits()))
    }

    fn put(&mut self, name: &str, file: MemoryFile) {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, file);
        self.names.insert(name.to_owned(), id);
        self.changes.push(Change::Names(name.to_owned(), id));
    }

    fn settle_names(&mut self) {
        self.names_on_plate.clone_from(&self.names);
        self.changes.clear();
        let names = &self.names;
        self.files.retain(|id, _| names.values().any(|it| it == id));
    }

    fn file_mut(&mut self, name: &str) -> io::Result<&mut MemoryFile> {
        let id = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let file = self.files.get_mut(id).ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }
}

impl Disk for MemoryDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.file_mut(name)?.bytes().to_vec())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if !self.names.contains_key(name) {
            self.put(name, MemoryFile::default());
        }
        let fails = std::mem::take(&mut self.fail_append);
        let file = self.file_mut(name)?;
        if fails {
            file.written.extend(bytes.iter().take(bytes.len() / 2));
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.written.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        if std::mem::take(&mut self.fail_sync) {
            return Err(io::ErrorKind::Other.into());
        }
        self.file_mut(name)?.sync();
        Ok(())
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.file_mut(name)?.truncate(len);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let id = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), id);
        let change = Change::Renamed(from.to_owned(), to.to_owned(), id);
        self.changes.push(change);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if self.names.remove(name).is_some() {
            self.changes.push(Change::Gone(name.to_owned()));
        }
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.settle_names();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "file";

    #[test]
    fn unsynced_truncation_may_be_undone_by_a_crash() {
        let mut file = MemoryFile::holding(b"abcdef".to_vec());
        file.truncate(2);
        file.written.push(b'X');
        assert_eq!(file.bytes(), b"abX");
        assert_eq!(file.cut(0).bytes(), b"abcdef");
        assert_eq!(file.cut(1).bytes(), b"abXdef");
        file.sync();
        assert_eq!(file.cut(0).bytes(), b"abX");
    }

    #[test]
    fn lost_sectors_read_as_zeros() {
        let mut file = MemoryFile::holding(vec![1; 10]);
        file.written.extend_from_slice(&[2; 1000]);
        let cut = file.cut_sectors(0b10);
        assert_eq!(cut.bytes().len(), 1010);
        assert_eq!(
            (cut.bytes()[9], cut.bytes()[10], cut.bytes()[512]),
            (1, 0, 2)
        );
    }

    #[test]
    fn every_choice_is_a_crash_state() {
        let mut disk = MemoryDisk::holding(NAME, vec![1; 10]);
        disk.append(NAME, &[2; 1000]).unwrap();
        for choice in 0..4000 {
            let crashed = disk.crash(choice);
            let bytes = crashed.file(NAME).unwrap().bytes();
            assert!((10..=1010).contains(&bytes.len()));
            assert_eq!(bytes[..10], [1; 10]);
        }
    }

    #[test]
    fn names_are_there_after_a_crash_once_they_were_synced() {
        let mut disk = MemoryDisk::holding("old", b"old".to_vec());
        disk.append("draft", b"new").unwrap();
        disk.sync("draft").unwrap();
        disk.rename("draft", "new").unwrap();
        disk.remove("old").unwrap();
        let names = |arrived: u64| -> Vec<String> {
            let cut = disk.cut(arrived, Clone::clone);
            cut.names().map(str::to_owned).collect()
        };
        assert_eq!(names(0), ["old"]);
        assert_eq!(names(0b001), ["draft", "old"]);
        assert_eq!(names(0b010), ["new", "old"]);
        assert_eq!(names(0b100), Vec::<String>::new());
        assert_eq!(names(0b111), ["new"]);
        disk.sync_names().unwrap();
        let cut = disk.cut(0, |file| file.cut(0));
        assert_eq!(
            cut.contents(),
            BTreeMap::from([("new".to_owned(), b"new".to_vec())])
        );
    }
}
