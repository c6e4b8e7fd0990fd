//! Every state that a power cut may leave of a journal, opened again.
//!
//! ```text
//!   a drawn life: append, sync, close segments, compact, open again
//!     └─ before each thing done to the disk, and after it
//!          └─ every selection of the names that changed
//!               └─ every prefix of the unsynced bytes, every mix of unsynced sectors
//!                    └─ open ─► what was promised, and then only a prefix of the rest
//! ```
//! The journal here holds values by keys, and a compaction keeps the newest of each, as the node's
//! does. Decides nothing about the journal; knows its promise only. Invariant: same seed, same
//! states.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use mesh_base::chance::Chance;
use mesh_base::digest::Digest;

use crate::journal::memory::{MemoryDisk, MemoryFile};
use crate::journal::{Disk, Journal, JournalError, compact, framed_len};

/// Keys of values.
const KEYS: u64 = 6;
/// Most sectors of which every mix is tried; of more some mixes are drawn.
const SECTORS_MAX: usize = 6;
/// Most changed names of which every selection is tried; of more some are drawn.
const NAMES_MAX: usize = 5;
const SALT: [u8; 16] = [7; 16];

/// What came of a life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Different states of the disk that were opened.
    pub states: u64,
    /// How many of them had lost something that was promised.
    pub lost: u64,
    /// How many held something that was never written, or not in that order.
    pub invented: u64,
    /// How many were not opened.
    pub refused: u64,
    /// How often a snapshot took the place of segments.
    pub compactions: u64,
    /// What was wrong first.
    pub first_fault: Option<String>,
}

impl Report {
    /// Returns whether every state held what was promised.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.invented == 0 && self.refused == 0
    }

    /// Adds what came of another life.
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.lost += other.lost;
        self.invented += other.invented;
        self.refused += other.refused;
        self.compactions += other.compactions;
        self.first_fault = self.first_fault.take().or(other.first_fault);
    }
}

/// Which promise of the disk is broken, so that it is seen whether this would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lie {
    /// None.
    #[default]
    None,
    /// A sync of a file does nothing.
    Sync,
    /// A sync of names does nothing.
    SyncNames,
    /// A rename has its effect on the plate at once, whatever the file holds.
    EarlyRename,
}

/// What is done to a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// What everything is drawn from.
    pub seed: u64,
    /// How many things are done.
    pub steps: u64,
    /// Longest value; a segment holds two of them.
    pub value_len_max: u64,
    /// What the disk does not do.
    pub lie: Lie,
}

impl Life {
    fn segment_len(self) -> u64 {
        2 * framed_len(usize::try_from(self.value_len_max).unwrap_or(0))
    }
}

/// Lives one life and opens every state that a power cut may leave of it.
///
/// # Panics
/// If a disk that nothing was done to refuses something: a fault of this module.
pub fn enumerate(life: Life) -> Report {
    let mut report = Report::default();
    let mut seen = BTreeSet::new();
    for moment in live(life, &mut report) {
        for state in moment.states() {
            let key = (digest(&state), moment.promised, moment.written.len());
            if seen.insert(key) {
                report.states += 1;
                judge(life, &moment, state, &mut report);
            }
        }
    }
    report
}

fn digest(state: &MemoryDisk) -> Digest {
    let contents = state.contents();
    let files = contents.iter();
    let parts: Vec<&[u8]> = files
        .flat_map(|(name, bytes)| [name.as_bytes(), bytes])
        .collect();
    Digest::of_parts(&parts)
}

/// The disk between two things that are done to it.
struct Moment {
    disk: MemoryDisk,
    /// All that was handed to the journal.
    written: Vec<Vec<u8>>,
    /// How many of them were promised.
    promised: usize,
}

impl Moment {
    /// Returns what a power cut may leave.
    fn states(&self) -> Vec<MemoryDisk> {
        let names = selections(self.disk.unsynced_names(), NAMES_MAX);
        let sectors = self.disk.contents();
        let sectors = sectors.keys().filter_map(|name| self.disk.file(name));
        let most = sectors.map(MemoryFile::unsynced_sectors).max().unwrap_or(0);
        let mut states = Vec::new();
        for arrived in names {
            for kept in 0..=self.disk.unsynced_len() {
                states.push(self.disk.cut(arrived, |file| file.cut(kept)));
            }
            for mix in selections(most, SECTORS_MAX) {
                states.push(self.disk.cut(arrived, |file| file.cut_sectors(mix)));
            }
        }
        states
    }
}

/// Returns every selection of `count` things by bits; of more than `max` those of the first `max`,
/// with and without the rest.
fn selections(count: usize, max: usize) -> Vec<u64> {
    let bits = count.min(max);
    let all = (0..1_u64 << bits).flat_map(|first| {
        let rest = if max < count { u64::MAX << bits } else { 0 };
        [first, first | rest]
    });
    let mut all: Vec<u64> = all.collect();
    all.dedup();
    all
}

/// Opens a state and checks it, twice: what is written after it must stay too.
fn judge(life: Life, moment: &Moment, state: MemoryDisk, report: &mut Report) {
    let mut fault = |count: fn(&mut Report) -> &mut u64, what: String| {
        *count(report) += 1;
        report.first_fault.get_or_insert(what);
    };
    let names: Vec<String> = state.names().map(str::to_owned).collect();
    let (mut journal, entries) = match Journal::open_with(state, [0; 16], life.segment_len()) {
        Ok(opened) => opened,
        Err(error) => return fault(|it| &mut it.refused, format!("{error}: {names:?}")),
    };
    let values = fold(&entries);
    let lawful = (moment.promised..=moment.written.len()).any(|count| {
        let written = moment.written.get(..count).unwrap_or_default();
        fold(written) == values
    });
    if !lawful {
        let is_lost = (0..moment.promised).any(|count| {
            let written = moment.written.get(..count).unwrap_or_default();
            fold(written) == values
        });
        let what = format!(
            "{} of {} promised: {names:?}",
            entries.len(),
            moment.promised
        );
        if is_lost {
            return fault(|it| &mut it.lost, what);
        }
        return fault(|it| &mut it.invented, what);
    }
    let again = journal
        .append(b"after")
        .and_then(|_| journal.sync())
        .and_then(|_| {
            let cut = journal.into_disk().cut(0, |file| file.cut(0));
            Journal::open_with(cut, [0; 16], life.segment_len())
        });
    match again {
        Ok((_, again)) if again.split_last() == Some((&b"after".to_vec(), &entries[..])) => {}
        Ok((_, again)) => fault(
            |it| &mut it.lost,
            format!("{} of {} after it: {names:?}", again.len(), entries.len()),
        ),
        Err(error) => fault(|it| &mut it.refused, format!("{error} after it: {names:?}")),
    }
}

/// Returns the newest value of each key.
fn fold(entries: &[Vec<u8>]) -> BTreeMap<u8, &[u8]> {
    let pairs = entries.iter().filter_map(|entry| entry.split_first());
    pairs.map(|(key, value)| (*key, value)).collect()
}

/// Leaves the newest entry of each key.
fn keep(entries: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let newest: BTreeMap<Option<u8>, usize> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| (entry.first().copied(), at))
        .collect();
    let kept = entries.into_iter().enumerate();
    kept.filter(|(at, entry)| newest.get(&entry.first().copied()) == Some(at))
        .map(|(_, entry)| entry)
        .collect()
}

/// What is known of a life while it is lived.
#[derive(Default)]
struct Log {
    moments: Vec<Moment>,
    written: Vec<Vec<u8>>,
    promised: usize,
}

/// A disk that notes its state before and after whatever is done to it.
struct Watched {
    disk: MemoryDisk,
    log: Rc<RefCell<Log>>,
    lie: Lie,
}

impl Watched {
    fn note(&self) {
        let mut log = self.log.borrow_mut();
        let moment = Moment {
            disk: self.disk.clone(),
            written: log.written.clone(),
            promised: log.promised,
        };
        log.moments.push(moment);
    }

    fn watch<T>(&mut self, act: impl FnOnce(&mut MemoryDisk) -> io::Result<T>) -> io::Result<T> {
        self.note();
        let done = act(&mut self.disk);
        self.note();
        done
    }
}

impl Disk for Watched {
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.watch(|disk| disk.append(name, bytes))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let is_true = self.lie != Lie::Sync;
        self.watch(|disk| if is_true { disk.sync(name) } else { Ok(()) })
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.watch(|disk| disk.truncate(name, len))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let is_early = self.lie == Lie::EarlyRename;
        self.watch(|disk| {
            disk.rename(from, to)?;
            if is_early { disk.sync_names() } else { Ok(()) }
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.watch(|disk| disk.remove(name))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let is_true = self.lie != Lie::SyncNames;
        self.watch(|disk| if is_true { disk.sync_names() } else { Ok(()) })
    }
}

fn live(life: Life, report: &mut Report) -> Vec<Moment> {
    let log = Rc::new(RefCell::new(Log::default()));
    // Proof: nothing refuses anything to a life without power cuts.
    live_on(life, &log, report).expect("a whole disk takes everything");
    let mut log = log.borrow_mut();
    std::mem::take(&mut log.moments)
}

fn live_on(life: Life, log: &Rc<RefCell<Log>>, report: &mut Report) -> Result<(), JournalError> {
    let disk = Watched {
        disk: MemoryDisk::default(),
        log: Rc::clone(log),
        lie: life.lie,
    };
    let mut chance = Chance::new(life.seed);
    let (mut journal, _) = Journal::open_with(disk, SALT, life.segment_len())?;
    for step in 0..life.steps {
        match chance.below(10) {
            0..=5 => {
                let len = 1 + chance.below(life.value_len_max);
                let mut entry = vec![chance.below(KEYS) as u8];
                entry.extend(step.to_be_bytes());
                entry.resize(entry.len() + len as usize, step as u8);
                log.borrow_mut().written.push(entry.clone());
                journal.append(&entry)?;
            }
            6..=8 => {
                journal.sync()?;
                let mut log = log.borrow_mut();
                log.promised = log.written.len();
            }
            _ => {
                // A daemon that is started again: what it wrote is still there.
                let disk = journal.into_disk();
                (journal, _) = Journal::open_with(disk, SALT, life.segment_len())?;
                let mut log = log.borrow_mut();
                log.promised = log.written.len();
            }
        }
        if let Some(through) = journal.compaction_due() {
            let compacted = compact::run(journal.disk_mut(), through, keep)?;
            journal.handle_compacted(compacted);
            report.compactions += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(seeds: std::ops::Range<u64>, lie: Lie) -> Report {
        let mut all = Report::default();
        for seed in seeds {
            all.add(enumerate(Life {
                seed,
                steps: 18,
                value_len_max: 20,
                lie,
            }));
        }
        all
    }

    #[test]
    fn every_state_that_a_power_cut_leaves_holds_what_was_promised() {
        let all = over(0..3, Lie::None);
        assert!(all.is_good(), "{all:?}");
        assert!(0 < all.compactions && 1000 < all.states, "{all:?}");
    }

    #[test]
    fn disk_that_lies_about_syncs_is_found_out() {
        for lie in [Lie::Sync, Lie::SyncNames] {
            let all = over(0..2, lie);
            assert!(!all.is_good(), "{lie:?}: {all:?}");
        }
    }

    #[test]
    fn rename_that_overtakes_nothing_is_harmless() {
        let all = over(0..1, Lie::EarlyRename);
        assert!(all.is_good(), "{all:?}");
    }

    #[test]
    fn same_seed_has_the_same_states() {
        assert_eq!(over(3..4, Lie::None), over(3..4, Lie::None));
        assert_ne!(over(3..4, Lie::None), over(4..5, Lie::None));
    }
}
