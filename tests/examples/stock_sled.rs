//! What a program that trusts stock sled does: it says yes when `flush` has returned.
//!
//! ```text
//! stock_sled write FOLDER LOG COUNT   writes batches 1 to COUNT, each yes into the log of calls
//! stock_sled look FOLDER              prints the last batch; fails if not all batches are there
//! ```
//! The tests cut its power as they cut a node's: a tester that finds nothing here finds nothing.

use std::collections::BTreeMap;
use std::env;
use std::fs::OpenOptions;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use mesh_tests::calls::Call;
use mesh_tests::chance::Chance;

/// Entries of a batch, besides its number.
const ENTRIES: u64 = 6;
/// Different keys: most batches write over what others wrote.
const KEYS: u64 = 300;
/// Shortest and longest value; no value is so long that it lies in a file of its own.
const VALUE_LEN: [u64; 2] = [40, 600];

/// Where the number of the last batch stands.
const LAST: &[u8] = b"last";

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", folder, log, count] => write(folder.as_ref(), log.as_ref(), count.parse()?),
        ["look", folder] => look(folder.as_ref()),
        _ => bail!("say: write FOLDER LOG COUNT, or: look FOLDER"),
    }
}

fn write(folder: &Path, log: &Path, count: u64) -> anyhow::Result<()> {
    let log = OpenOptions::new().append(true).create(true).open(log)?;
    let db = sled::open(folder)?;
    for number in 1..=count {
        let mut batch = sled::Batch::default();
        for (key, value) in entries(number) {
            batch.insert(key, value);
        }
        db.apply_batch(batch)?;
        db.flush()?;
        let words = number.to_le_bytes().to_vec();
        Call::Said { words }.append(&log)?;
    }
    Ok(())
}

fn look(folder: &Path) -> anyhow::Result<()> {
    let db = sled::open(folder)?;
    let last = match db.get(LAST)? {
        Some(bytes) => u64::from_le_bytes(bytes.as_ref().try_into().context("no number")?),
        None => 0,
    };
    let mut found = BTreeMap::new();
    for entry in db.iter() {
        let (key, value) = entry?;
        found.insert(key.to_vec(), value.to_vec());
    }
    let mut wanted = BTreeMap::new();
    for number in 1..=last {
        wanted.extend(entries(number));
    }
    ensure!(found == wanted, "not what was there after batch {last}");
    println!("{last}");
    Ok(())
}

/// Returns what a batch writes; the same number always writes the same.
fn entries(number: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut chance = Chance::new(number);
    let [shortest, longest] = VALUE_LEN;
    let entry = |_| {
        let key = format!("key-{}", chance.below(KEYS)).into_bytes();
        let len = shortest + chance.below(longest - shortest);
        let fill = chance.number().to_le_bytes();
        let value = fill
            .into_iter()
            .cycle()
            .take(usize::try_from(len).unwrap_or(0));
        (key, value.collect())
    };
    let mut entries: BTreeMap<Vec<u8>, Vec<u8>> = (0..ENTRIES).map(entry).collect();
    entries.insert(LAST.to_vec(), number.to_le_bytes().to_vec());
    entries
}
