//! The virtual disk of one machine: the real journal over a disk in memory that can lose power.
//!
//! As in the daemon, a group of entries is written and synced at once while newer ones wait in
//! memory, and closed segments become a snapshot; segments are short, so that it happens often. A
//! killed daemon loses what waits; a power loss also loses or tears what was not synced.
//! Invariant: between two syncs only one group is written.

use std::collections::BTreeMap;
use std::mem;

use mesh_ledger::journal::memory::MemoryDisk;
use mesh_ledger::journal::{Journal, compact};
use mesh_peer::port::Position;
use mesh_peer::survive::survivors;

use crate::chance::Chance;
use crate::tally::{Fault, Tally};

/// Salt of every virtual journal; nobody here forges frames.
const SALT: [u8; 16] = [0x5a; 16];

/// Length from which a segment is closed: some dozen entries.
const SEGMENT_LEN: u64 = 32 * 1024;

/// What came of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// How far the journal is on disk.
    pub position: Position,
    /// How many bytes of closed segments a snapshot has replaced.
    pub replaced_len: u64,
}

/// The disk and what is on its way to it.
#[derive(Debug)]
pub struct Disk {
    plate: MemoryDisk,
    journal: Option<Journal<MemoryDisk>>,
    waiting: Vec<(Position, Vec<u8>)>,
    syncing: bool,
}

impl Disk {
    /// Returns a disk that holds entries already.
    pub fn new(entries: &[Vec<u8>]) -> Self {
        let mut disk = Self {
            plate: MemoryDisk::default(),
            journal: None,
            waiting: Vec::new(),
            syncing: false,
        };
        disk.open();
        if let Some(journal) = &mut disk.journal {
            for entry in entries {
                // A virtual disk that nobody broke takes everything.
                journal
                    .append(entry)
                    .expect("a whole virtual disk takes entries");
            }
            journal.sync().expect("a whole virtual disk syncs");
        }
        disk.close();
        disk
    }

    /// Opens the journal as a starting daemon does; returns its entries.
    ///
    /// # Panics
    /// If the journal says that it is damaged: no fault of this simulator damages what was synced.
    pub fn open(&mut self) -> Vec<Vec<u8>> {
        let plate = mem::take(&mut self.plate);
        let (journal, entries) =
            Journal::open_with(plate, SALT, SEGMENT_LEN).expect("no crash damages what was synced");
        self.journal = Some(journal);
        self.waiting.clear();
        self.syncing = false;
        entries
    }

    /// Takes an entry in; it waits for the next group.
    pub fn append(&mut self, position: Position, entry: Vec<u8>) {
        self.waiting.push((position, entry));
    }

    /// Begins to write and sync what waits. Returns false if nothing waits or a sync runs.
    pub fn begin(&mut self) -> bool {
        let Some(journal) = self.journal.as_mut() else {
            return false;
        };
        if self.syncing || self.waiting.is_empty() {
            return false;
        }
        for (position, entry) in mem::take(&mut self.waiting) {
            let at = journal
                .append(&entry)
                .expect("a whole virtual disk takes entries");
            assert_eq!(
                at, position.0,
                "the core counts entries as the journal does"
            );
        }
        self.syncing = true;
        true
    }

    /// Ends the running sync, and makes a snapshot if one is due.
    pub fn sync(&mut self) -> Option<Synced> {
        self.syncing = false;
        let journal = self.journal.as_mut()?;
        let position = journal.sync().expect("a whole virtual disk syncs");
        let mut replaced_len = 0;
        if let Some(through) = journal.compaction_due() {
            let compacted = compact::run(journal.disk_mut(), through, survivors)
                .expect("a whole virtual disk takes a snapshot");
            replaced_len = compacted.replaced_len;
            journal.handle_compacted(compacted);
        }
        Some(Synced {
            position: Position(position),
            replaced_len,
        })
    }

    /// The daemon is killed: the operating system keeps what was written.
    pub fn kill(&mut self, tally: &mut Tally) {
        if !self.waiting.is_empty() {
            tally.fault(Fault::LostWrite);
        }
        self.close();
    }

    /// The machine loses power: what was not synced is lost, torn or there.
    pub fn lose_power(&mut self, chance: &mut Chance, tally: &mut Tally) {
        let unsynced = self
            .journal
            .as_mut()
            .map_or(0, |journal| journal.disk_mut().unsynced_len());
        let lost = !self.waiting.is_empty();
        self.close();
        if unsynced == 0 {
            if lost {
                tally.fault(Fault::LostWrite);
            }
            return;
        }
        let before = self.plate.contents();
        let after = self.plate.crash(chance.between(0, u64::MAX - 1));
        let contents = after.contents();
        // Torn: something of the unsynced part arrived, but not all of it.
        let len = |files: &BTreeMap<String, Vec<u8>>| files.values().map(Vec::len).sum::<usize>();
        if contents != before && len(&before) - unsynced < len(&contents) {
            tally.fault(Fault::TornWrite);
        }
        if contents != before || lost {
            tally.fault(Fault::LostWrite);
        }
        self.plate = after;
    }

    fn close(&mut self) {
        if let Some(journal) = self.journal.take() {
            self.plate = journal.into_disk();
        }
        self.waiting.clear();
        self.syncing = false;
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::digest::Digest;
    use mesh_peer::entry::Entry;
    use serde_bytes::ByteBuf;

    use super::*;

    fn entries(disk: &mut Disk) -> Vec<Vec<u8>> {
        disk.open()
    }

    #[test]
    fn synced_entries_survive_every_power_loss() {
        for seed in 0..200 {
            let mut disk = Disk::new(&[b"first".to_vec()]);
            disk.open();
            disk.append(Position(2), vec![7; 700]);
            assert!(disk.begin());
            assert_eq!(disk.sync().unwrap().position, Position(2));
            disk.append(Position(3), vec![8; 900]);
            assert!(disk.begin());
            disk.lose_power(&mut Chance::new(seed, "power"), &mut Tally::default());
            let found = entries(&mut disk);
            assert!(
                found.starts_with(&[b"first".to_vec(), vec![7; 700]]),
                "{seed}"
            );
            assert!(
                found.len() == 2 || found.get(2) == Some(&vec![8; 900]),
                "{seed}"
            );
        }
    }

    #[test]
    fn what_is_replaced_goes_with_its_segments_and_the_rest_stays() {
        let mut disk = Disk::new(&[b"first".to_vec()]);
        disk.open();
        let entry = |value: u8| Entry::Secret {
            order: Digest::default(),
            sealed: ByteBuf::from(vec![value; 1000]),
        };
        let mut replaced_len = 0;
        for value in 1..=200 {
            disk.append(Position(u64::from(value) + 1), entry(value).to_bytes());
            assert!(disk.begin());
            replaced_len += disk.sync().unwrap().replaced_len;
        }
        assert!(SEGMENT_LEN < replaced_len);
        disk.kill(&mut Tally::default());
        let found = entries(&mut disk);
        assert!(found.len() < 80, "{}", found.len());
        assert_eq!(found.first(), Some(&b"first".to_vec()));
        assert_eq!(found.last(), Some(&entry(200).to_bytes()));
    }

    #[test]
    fn killed_daemon_loses_only_what_it_had_not_written() {
        let mut disk = Disk::new(&[]);
        disk.open();
        disk.append(Position(1), b"written".to_vec());
        assert!(disk.begin());
        disk.append(Position(2), b"waits".to_vec());
        assert!(!disk.begin());
        let mut tally = Tally::default();
        disk.kill(&mut tally);
        assert_eq!(entries(&mut disk), [b"written".to_vec()]);
        assert_eq!(tally.faults.of(Fault::LostWrite), 1);
    }

    #[test]
    fn some_power_loss_tears_a_write() {
        let mut tally = Tally::default();
        for seed in 0..50 {
            let mut disk = Disk::new(&[]);
            disk.open();
            disk.append(Position(1), vec![1; 3000]);
            disk.begin();
            disk.lose_power(&mut Chance::new(seed, "power"), &mut tally);
        }
        assert_ne!(tally.faults.of(Fault::TornWrite), 0);
    }
}
