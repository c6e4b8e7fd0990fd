//! Secret keys on disk: 32 bytes as hexadecimal text in a file that only its owner may read.
//!
//! Invariant: a key file is written once, never replaced, whole from its first moment, and on the
//! disk when [`create`] returns.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesh_base::identity::SecretKey;

/// Longest key file that is read: 64 digits and some white space.
const FILE_LEN_MAX: u64 = 256;

/// Why a key could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The system gave no entropy.
    #[error("cannot get entropy for a new key")]
    Entropy(#[source] getrandom::Error),
    /// There is one already.
    #[error("the key file {0} exists already")]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no key file {0}")]
    Missing(PathBuf),
    /// Others may read it.
    #[error("the key file {0} is readable by other users")]
    Open(PathBuf),
    /// It holds something else.
    #[error("the key file {0} does not hold 64 hexadecimal digits")]
    Content(PathBuf),
    /// The disk refused.
    #[error("cannot use the key file {path}")]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Returns 32 bytes of the system's entropy.
pub fn entropy() -> Result<[u8; 32], KeyFileError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyFileError::Entropy)?;
    Ok(seed)
}

/// Returns 16 bytes of the system's entropy, for a new journal's salt.
pub fn salt() -> Result<[u8; 16], KeyFileError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(KeyFileError::Entropy)?;
    Ok(salt)
}

/// Makes a new key, writes it to `path` and waits until it is on disk. Whoever calls has the home's
/// lock, so nobody else makes one here.
pub fn create(path: &Path) -> Result<SecretKey, KeyFileError> {
    if path.symlink_metadata().is_ok() {
        return Err(KeyFileError::Exists(path.to_owned()));
    }
    let seed = entropy()?;
    let failed = |source: std::io::Error| KeyFileError::Disk {
        path: path.to_owned(),
        source,
    };
    // Beside its place first: half a key, left by a power cut, would be in everybody's way.
    let draft = path.with_extension("new");
    // Mostly there is none; one that cannot be removed is in the way of the new one.
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed)?;
    writeln!(file, "{}", hex(&seed)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)?;
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
    }
    Ok(SecretKey::from_seed(seed))
}

/// Reads the key in `path`; refuses a file that other users may read.
pub fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Disk {
            path: path.to_owned(),
            source,
        },
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(KeyFileError::Open(path.to_owned()));
    }
    let mut text = String::new();
    file.take(FILE_LEN_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let seed = unhex(text.trim()).ok_or_else(|| KeyFileError::Content(path.to_owned()))?;
    Ok(SecretKey::from_seed(seed))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut seed = [0; 32];
    for (index, slot) in seed.iter_mut().enumerate() {
        *slot = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn key_comes_back_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        assert!(matches!(read(&path), Err(KeyFileError::Missing(_))));
        let key = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().public(), key.public());
        assert!(matches!(create(&path), Err(KeyFileError::Exists(_))));
    }

    #[test]
    fn half_a_key_of_an_interrupted_attempt_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        std::fs::write(path.with_extension("new"), "00ff").unwrap();
        let key = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().public(), key.public());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn open_or_spoilt_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::Open(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "zz").unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::Content(_))));
    }
}
