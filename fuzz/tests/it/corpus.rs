//! The kept inputs: `corpus/TARGET/NAME`, lawful ones and every one that ever failed.
//!
//! Lawful ones are written from values, see `mesh_fuzz::lawful`; a format that changes shows as a
//! file that differs.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_fuzz::Target;

/// One kept input.
pub struct Kept {
    /// Its file's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn folder(target: &Target) -> PathBuf {
    // Cargo starts tests in their package's folder, whichever checkout compiled them.
    Path::new("corpus").join(target.name)
}

/// Writes the lawful inputs of a target.
pub fn keep_lawful(target: &Target) {
    let folder = folder(target);
    fs::create_dir_all(&folder).expect("the corpus can be written");
    for (name, bytes) in (target.lawful)() {
        fs::write(folder.join(name), bytes).expect("the corpus can be written");
    }
}

/// Reads the inputs of a target, by name.
pub fn read(target: &Target) -> Vec<Kept> {
    let mut kept: Vec<Kept> = fs::read_dir(folder(target))
        .into_iter()
        .flatten()
        .map(|entry| {
            let path = entry.expect("the corpus can be listed").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let bytes = fs::read(&path).expect("the corpus can be read");
            Kept { name, bytes }
        })
        .collect();
    kept.sort_by(|one, other| one.name.cmp(&other.name));
    kept
}

/// Returns how the kept files differ from the lawful values.
pub fn stale(target: &Target, kept: &[Kept]) -> Vec<String> {
    let differs = |(name, bytes): &(&'static str, Vec<u8>)| {
        kept.iter()
            .all(|one| one.name != *name || one.bytes != *bytes)
    };
    let lawful = (target.lawful)();
    let stale = lawful.iter().filter(|one| differs(one));
    stale
        .map(|(name, _)| {
            format!(
                "corpus/{}/{name} is not what it should be: MESHSTEAD_FUZZ_KEEP=1",
                target.name
            )
        })
        .collect()
}

/// Writes an input that failed where it outlives the run; returns where.
pub fn keep_failed(target: &Target, number: u64, bytes: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("failed")
        .join(target.name);
    let path = folder.join(format!("input-{number}"));
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, bytes));
    if let Err(error) = written {
        println!("cannot write {}: {error}", path.display());
    }
    path
}
