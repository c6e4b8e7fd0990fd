//! The journal's promises one by one; all of them together are in `crash`.

use super::memory::{MemoryDisk, MemoryFile};
use super::*;
use crate::journal::frame::HEADER_LEN;

const SALT: [u8; 16] = [9; 16];

fn entry(number: u8) -> Vec<u8> {
    vec![number; 100 + usize::from(number) * 150]
}

fn name() -> String {
    folder::segment_name(1)
}

fn reopened(disk: MemoryDisk) -> Result<Vec<Vec<u8>>, JournalError> {
    Journal::open(disk, [0; 16]).map(|(_, entries)| entries)
}

fn holding(bytes: Vec<u8>) -> MemoryDisk {
    MemoryDisk::holding(&name(), bytes)
}

fn bytes_of(journal: Journal<MemoryDisk>) -> Vec<u8> {
    let disk = journal.into_disk();
    disk.file(&name()).unwrap().bytes().to_vec()
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
    let cut = journal.into_disk().cut(0, |file| file.cut(0));
    let again = reopened(cut).unwrap();
    assert_eq!(again.len(), entries.len() + 1);
    assert_eq!(again.last().unwrap(), b"after");
}

#[test]
fn every_flipped_promised_byte_is_damage_at_its_frame() {
    let mut journal = half_synced();
    journal.sync().unwrap();
    journal
        .append(b"a witness that the others were synced")
        .unwrap();
    let bytes = bytes_of(journal);
    let mut starts = vec![HEADER_LEN];
    for number in 1..=6 {
        starts.push(starts[number - 1] + FRAME_HEADER_LEN + entry(number as u8).len());
    }
    let synced = starts[6];
    // Each byte of the headers, and some of the payloads.
    let is_tried = |at: &usize| {
        let of_header = starts
            .iter()
            .any(|start| (*start..*start + 46).contains(at));
        at.is_multiple_of(37) || *at < HEADER_LEN || of_header
    };
    for at in (0..synced).filter(is_tried) {
        let mut spoiled = bytes.clone();
        spoiled[at] ^= 0x10;
        let frame = starts.iter().rev().find(|start| **start <= at);
        let expect = frame.copied().unwrap_or(0) as u64;
        match reopened(holding(spoiled)) {
            Err(JournalError::Damaged { at: found, file }) => {
                assert_eq!((found, file), (expect, name()), "{at}");
            }
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
    check_crash(journal.into_disk().cut(0, |file| file.cut(777)));
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
    let mut journal = half_synced();
    journal.append(&bytes_of(other)).unwrap();
    let disk = journal.into_disk();
    for kept in (0..=disk.unsynced_len()).step_by(53) {
        assert!(reopened(disk.cut(0, |file| file.cut(kept))).is_ok());
    }
}

#[test]
fn random_bytes_never_panic() {
    let bytes = bytes_of(half_synced());
    let mut seed = 1_u64;
    for _ in 0..2000 {
        let mut spoiled = bytes.clone();
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % spoiled.len();
            spoiled[at] = (seed >> 20) as u8;
        }
        spoiled.truncate((seed >> 40) as usize % (bytes.len() + 1));
        let _ = reopened(holding(spoiled));
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

/// A journal of many short segments.
fn in_segments(count: u8) -> Journal<MemoryDisk> {
    let (mut journal, _) = Journal::open_with(MemoryDisk::default(), SALT, 300).unwrap();
    for number in 1..=count {
        journal.append(&entry(number)).unwrap();
        journal.sync().unwrap();
    }
    journal
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.names().map(str::to_owned).collect()
}

#[test]
fn long_segment_is_closed_once_it_is_synced() {
    let disk = in_segments(3).into_disk();
    assert_eq!(
        names(&disk),
        ["00000001.seg", "00000002.seg", "00000003.seg"]
    );
    let (mut journal, entries) = Journal::open_with(disk, [0; 16], 300).unwrap();
    assert_eq!(entries, [entry(1), entry(2), entry(3)]);
    // Unsynced entries stay together with what is before them.
    for number in 4..=6 {
        journal.append(&entry(number)).unwrap();
    }
    assert_eq!(names(&journal.into_disk()).len(), 4);
}

#[test]
fn snapshot_takes_the_place_of_closed_segments() {
    let mut journal = in_segments(6);
    let through = journal.compaction_due().unwrap();
    let kept = |entries: Vec<Vec<u8>>| entries.into_iter().step_by(2).collect();
    let compacted = compact::run(journal.disk_mut(), through, kept).unwrap();
    journal.handle_compacted(compacted);
    assert_eq!(journal.compaction_due(), None);
    assert_eq!((journal.generation(), journal.position()), (through + 1, 6));
    assert_eq!(journal.append(b"next").unwrap(), 7);
    let disk = journal.into_disk();
    assert_eq!(names(&disk)[0], format!("{through:08}.snap"));
    assert_eq!(names(&disk).len(), 3);
    let (journal, entries) = Journal::open_with(disk, [0; 16], 300).unwrap();
    assert_eq!(journal.generation(), through + 1);
    assert_eq!(entries[0], entry(1));
    assert_eq!(entries[1], entry(3));
    assert_eq!(entries.last().unwrap(), b"next");
    // The next one contains this one.
    let mut journal = journal;
    let again = compact::run(journal.disk_mut(), through + 1, |entries| entries);
    assert!(matches!(again, Ok(it) if it.through == through + 1));
    assert_eq!(reopened(journal.into_disk()).unwrap(), entries);
}

#[test]
fn refused_snapshot_leaves_everything_as_it_was() {
    let mut journal = in_segments(6);
    let through = journal.compaction_due().unwrap();
    journal.disk_mut().fail_append = true;
    let refused = compact::run(journal.disk_mut(), through, |entries| entries);
    assert!(matches!(refused, Err(JournalError::Compact(_))));
    assert!(
        names(journal.disk_mut())
            .iter()
            .all(|it| it.ends_with(".seg"))
    );
    assert_eq!(journal.append(b"next").unwrap(), 7);
    journal.sync().unwrap();
    assert_eq!(reopened(journal.into_disk()).unwrap().len(), 7);
}

#[test]
fn missing_or_foreign_file_is_damage() {
    let whole = in_segments(6).into_disk();
    let mut gone = whole.clone();
    gone.remove("00000002.seg").unwrap();
    let missing = reopened(gone);
    assert!(
        matches!(missing, Err(JournalError::Missing { ref file }) if file == "00000002.seg"),
        "{missing:?}"
    );
    let mut swapped = whole.clone();
    swapped.remove("00000002.seg").unwrap();
    swapped.rename("00000001.seg", "00000002.seg").unwrap();
    assert!(reopened(swapped).is_err());
    let mut snapshot = whole;
    compact::run(&mut snapshot, 2, |entries| entries).unwrap();
    for at in [3, 70, 100, 500] {
        let mut spoiled = snapshot.contents()["00000002.snap"].clone();
        spoiled[at] ^= 1;
        let mut disk = snapshot.clone();
        disk.remove("00000002.snap").unwrap();
        disk.append("00000002.snap", &spoiled).unwrap();
        let opened = reopened(disk);
        assert!(matches!(opened, Err(JournalError::Damaged { .. })), "{at}");
    }
}

/// The bytes of a journal as the first version wrote them, of which two entries are whole.
const FIRST_VERSION: &[u8] = include_bytes!("first_version.journal");

#[test]
fn journal_of_the_first_version_goes_on() {
    let disk = MemoryDisk::holding("journal", FIRST_VERSION.to_vec());
    let (mut journal, entries) = Journal::open_with(disk, [0; 16], 64).unwrap();
    assert_eq!(entries, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(journal.append(b"third").unwrap(), 3);
    journal.sync().unwrap();
    assert_eq!(journal.append(b"fourth").unwrap(), 4);
    journal.sync().unwrap();
    assert_eq!(
        names(journal.disk_mut()),
        ["00000001.seg", "00000002.seg", "journal"]
    );
    let through = journal.compaction_due().unwrap();
    compact::run(journal.disk_mut(), through, |entries| entries).unwrap();
    let disk = journal.into_disk();
    assert_eq!(names(&disk), ["00000001.snap", "00000002.seg"]);
    let expect = ["first", "second", "third", "fourth"].map(|it| it.as_bytes().to_vec());
    assert_eq!(reopened(disk).unwrap(), expect);
}

#[test]
fn damaged_journal_of_the_first_version_is_refused() {
    let mut spoiled = FIRST_VERSION.to_vec();
    spoiled[10] ^= 1;
    let disk = MemoryDisk::holding("journal", spoiled);
    assert!(matches!(
        reopened(disk),
        Err(JournalError::Damaged { at: 0, .. })
    ));
    // One that was never finished promised nothing.
    let disk = MemoryDisk::holding("journal", FIRST_VERSION[..20].to_vec());
    assert_eq!(reopened(disk).unwrap().len(), 0);
    let torn = MemoryFile::holding(FIRST_VERSION.to_vec());
    assert_eq!(torn.unsynced_len(), 0);
}
