//! Bytes of this machine's own disk, which tears, rots and is edited: journal, its entries, boxes,
//! descriptions of instances; and what daemon and shim say to each other on it.

use mesh_base::seal;
use mesh_compute::step::InstanceSpec;
use mesh_compute::words::{self, FromInside, FromShim, Plan, Status, ToInside, ToShim};
use mesh_ledger::journal::Journal;
use mesh_ledger::journal::memory::MemoryDisk;
use mesh_peer::entry::Entry;

use crate::Outcome;
use crate::lawful;

/// Opens a journal of one file, a segment, a snapshot or one of the first version, and opens it
/// again: what was read once must be read for ever.
pub fn journal(data: &[u8]) -> Outcome {
    let name = match data {
        [b'M', b'S', b'J', b'R', ..] => "journal",
        [b'M', b'S', b'J', b'S', b'N', ..] => lawful::disk::SNAPSHOT,
        _ => lawful::disk::SEGMENT,
    };
    let disk = MemoryDisk::holding(name, data.to_vec());
    let Ok((journal, entries)) = Journal::open(disk, lawful::disk::SALT) else {
        return Outcome::Refused;
    };
    assert_eq!(
        journal.position(),
        entries.len() as u64,
        "positions count entries"
    );
    let disk = journal.into_disk();
    let contents = disk.contents();
    match Journal::open(disk, [0; 16]) {
        Ok((again, same)) => {
            assert_eq!(
                (again.into_disk().contents(), same),
                (contents, entries),
                "opening changes nothing twice"
            );
        }
        Err(error) => panic!("a journal that was opened must open again: {error}"),
    }
    Outcome::Read
}

/// Reads one journal entry.
pub fn entry(data: &[u8]) -> Outcome {
    let Ok(entry) = Entry::from_bytes(data) else {
        return Outcome::Refused;
    };
    assert_eq!(entry.to_bytes(), data, "an entry has one form");
    Outcome::Read
}

/// Opens a sealed box.
pub fn sealed(data: &[u8]) -> Outcome {
    Outcome::of(seal::open(
        lawful::node_key(),
        lawful::disk::BOX_CONTEXT,
        data,
    ))
}

/// Reads what was ordered, as it stands beside an instance.
pub fn spec(data: &[u8]) -> Outcome {
    Outcome::of(words::read::<InstanceSpec>(data))
}

/// Reads a word between daemon, shim and the first process inside, a shim's plan or its state file.
pub fn shim(data: &[u8]) -> Outcome {
    let read = [
        words::read::<ToShim>(data).is_ok(),
        words::read::<FromShim>(data).is_ok(),
        words::read::<ToInside>(data).is_ok(),
        words::read::<FromInside>(data).is_ok(),
        words::read::<Status>(data).is_ok(),
        words::read::<Plan>(data).is_ok(),
    ];
    if read.contains(&true) {
        Outcome::Read
    } else {
        Outcome::Refused
    }
}
