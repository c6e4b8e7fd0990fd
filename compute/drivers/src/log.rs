//! What an instance printed: written by its shim, read by the daemon, bounded.
//!
//! Files are named by the offset of their first byte in the whole stream, so a reader that follows
//! the log needs no other state than its own offset. The newest two files are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file is followed by the next one at this size: two of them are what a person still reads.
const FILE_LEN_MAX: u64 = 4 << 20;
const FILES_KEPT: usize = 2;

/// The writing side.
pub struct Writer {
    folder: PathBuf,
    base: u64,
    len: u64,
    file: File,
}

impl Writer {
    /// Goes on where the folder's log ends.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let base = bases(folder)?.last().copied().unwrap_or(0);
        let file = open_append(folder, base)?;
        let len = file.metadata()?.len();
        Ok(Self {
            folder: folder.to_owned(),
            base,
            len,
            file,
        })
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if FILE_LEN_MAX <= self.len {
            self.base += self.len;
            self.len = 0;
            self.file = open_append(&self.folder, self.base)?;
            let all = bases(&self.folder)?;
            for old in all.iter().rev().skip(FILES_KEPT) {
                fs::remove_file(name(&self.folder, *old))?;
            }
        }
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// Reads at most `max` bytes from `offset` on, or from the oldest byte that is left. Returns them
/// with the offset that follows.
pub fn read(folder: &Path, offset: u64, max: usize) -> io::Result<(Vec<u8>, u64)> {
    let all = bases(folder)?;
    let Some(oldest) = all.first().copied() else {
        return Ok((Vec::new(), offset));
    };
    let mut at = offset.max(oldest);
    let mut bytes = Vec::new();
    let start = at;
    let is_past = |base: &&u64| all.iter().any(|next| **base < *next && *next <= start);
    for base in all.iter().skip_while(is_past) {
        let room = max.saturating_sub(bytes.len()) as u64;
        let mut file = match File::open(name(folder, *base)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        file.seek(SeekFrom::Start(at.saturating_sub(*base)))?;
        at += file.take(room).read_to_end(&mut bytes)? as u64;
    }
    Ok((bytes, at))
}

fn open_append(folder: &Path, base: u64) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(name(folder, base))
}

fn name(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("log.{base:020}"))
}

fn bases(folder: &Path) -> io::Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(base) = name.to_str().and_then(|name| name.strip_prefix("log.")) {
            bases.extend(base.parse::<u64>());
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_follows_by_its_offset_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Writer::open(folder.path()).unwrap();
        log.write(b"hello ").unwrap();
        let (bytes, next) = read(folder.path(), 0, 100).unwrap();
        assert_eq!((bytes.as_slice(), next), (b"hello ".as_slice(), 6));
        drop(log);
        Writer::open(folder.path())
            .unwrap()
            .write(b"again")
            .unwrap();
        assert_eq!(read(folder.path(), next, 3).unwrap(), (b"aga".to_vec(), 9));
    }

    #[test]
    fn only_the_newest_two_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Writer::open(folder.path()).unwrap();
        let block = vec![b'x'; 1 << 20];
        for _ in 0..13 {
            log.write(&block).unwrap();
        }
        assert_eq!(bases(folder.path()).unwrap(), [8 << 20, 12 << 20]);
        let (bytes, next) = read(folder.path(), 0, 5 << 20).unwrap();
        assert_eq!((bytes.len(), next), (5 << 20, 13 << 20));
    }

    #[test]
    fn log_that_was_never_written_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), 7, 10).unwrap(), (Vec::new(), 7));
    }
}
