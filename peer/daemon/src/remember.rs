//! Small files that a node remembers things in: the old content stays until the new is whole.
//!
//! Whoever is killed between two system calls must not forget what it knew. Decides nothing about
//! contents. Invariant: at every moment the file holds the old or the new content, all of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces the content of a file, or makes it.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&draft, path)
}

/// Removes a file and what a killed process may have left of its replacement.
pub fn forget(path: &Path) {
    for file in [path, &draft_of(path)] {
        // Mostly there is none.
        let _ = fs::remove_file(file);
    }
}

fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_content_stays_until_the_new_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.toml");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Where nothing new can be made, nothing old is touched.
        fs::create_dir(folder.path().join("ports.new")).unwrap();
        assert!(replace(&path, b"newer").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn nothing_is_left_of_what_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("item");
        replace(&path, b"1 2").unwrap();
        fs::write(folder.path().join("item.new"), b"1").unwrap();
        forget(&path);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
