//! Software trees: lawful modes, what the recipe adds, and the digest that names the whole.
//!
//! The digest covers sorted paths, kinds, the executable bit, contents and link targets; not
//! owners, times, or anything else that depends on who unpacked it. So whoever unpacks the same
//! packages gets the same name.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mesh_base::digest::Digest;
use mesh_compute::recipe::Tree;

use crate::error::{At, DriverError};
use crate::files;

/// Folders that the sandbox mounts something on; every tree has them.
const MOUNT_POINTS: [&str; 4] = ["tmp", "run", "dev", "proc"];

/// Adds to an unpacked tree what the recipe wants in it.
pub fn furnish(root: &Path, tree: &Tree, data: &str) -> Result<(), DriverError> {
    let folders = tree.folders.iter().map(String::as_str);
    for folder in folders
        .chain(MOUNT_POINTS)
        .chain([data.trim_start_matches('/'), "etc"])
    {
        let path = root.join(folder);
        fs::create_dir_all(&path).at("create", &path)?;
    }
    for (path, target) in &tree.links {
        let path = root.join(path);
        symlink(target, &path).at("create", &path)?;
    }
    let lines = |lines: &[String]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    for (name, text) in [
        ("etc/passwd", lines(&tree.passwd)),
        ("etc/group", lines(&tree.group)),
        (
            "etc/hosts",
            "127.0.0.1 localhost\n::1 localhost\n".to_owned(),
        ),
    ] {
        let path = root.join(name);
        fs::write(&path, text).at("write", &path)?;
    }
    Ok(())
}

/// Gives everything one of three modes and removes what is neither file, folder nor link.
pub fn normalise(root: &Path) -> Result<(), DriverError> {
    let mut strangers = Vec::new();
    files::walk(root, &mut |path, metadata| {
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let mode = match (metadata.is_dir(), metadata.is_file()) {
            (true, _) => 0o755,
            (_, true) if executable => 0o755,
            (_, true) => 0o644,
            _ if metadata.is_symlink() => return Ok(()),
            _ => {
                strangers.push(path.to_owned());
                return Ok(());
            }
        };
        fs::set_permissions(path, Permissions::from_mode(mode)).at("set the mode of", path)
    })?;
    for path in strangers {
        fs::remove_file(&path).at("remove", &path)?;
    }
    fs::set_permissions(root, Permissions::from_mode(0o755)).at("set the mode of", root)
}

/// Returns the digest of a tree.
pub fn digest(root: &Path) -> Result<Digest, DriverError> {
    let mut entries: BTreeMap<Vec<u8>, Digest> = BTreeMap::new();
    files::walk(root, &mut |path, metadata| {
        let relative = path
            .strip_prefix(root)
            .unwrap_or(path)
            .as_os_str()
            .as_bytes();
        let (kind, content): (&[u8], Vec<u8>) = if metadata.is_dir() {
            (b"folder", Vec::new())
        } else if metadata.is_symlink() {
            let target = fs::read_link(path).at("read", path)?;
            (b"link", target.as_os_str().as_bytes().to_vec())
        } else if metadata.permissions().mode() & 0o111 != 0 {
            (b"program", fs::read(path).at("read", path)?)
        } else {
            (b"file", fs::read(path).at("read", path)?)
        };
        let entry = Digest::of_parts(&[relative, kind, &content]);
        entries.insert(relative.to_vec(), entry);
        Ok(())
    })?;
    let parts: Vec<&[u8]> = entries
        .values()
        .map(|entry| entry.as_bytes().as_slice())
        .collect();
    Ok(Digest::of_parts(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(root: &Path, order: &[&str]) {
        for name in order {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
        }
        symlink("b/c", root.join("link")).unwrap();
    }

    #[test]
    fn order_of_making_and_loose_modes_do_not_change_the_digest() {
        let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        plant(left.path(), &["a", "b/c", "b-d"]);
        plant(right.path(), &["b-d", "b/c", "a"]);
        fs::set_permissions(right.path().join("a"), Permissions::from_mode(0o640)).unwrap();
        for root in [left.path(), right.path()] {
            normalise(root).unwrap();
        }
        assert_eq!(digest(left.path()).unwrap(), digest(right.path()).unwrap());
    }

    #[track_caller]
    fn check_differs(change: impl Fn(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        plant(folder.path(), &["a", "b/c"]);
        let before = digest(folder.path()).unwrap();
        change(folder.path());
        assert_ne!(digest(folder.path()).unwrap(), before);
    }

    #[test]
    fn whatever_matters_changes_the_digest() {
        check_differs(|root| fs::write(root.join("a"), "other").unwrap());
        check_differs(|root| fs::rename(root.join("a"), root.join("z")).unwrap());
        check_differs(|root| fs::create_dir(root.join("empty")).unwrap());
        check_differs(|root| {
            fs::set_permissions(root.join("a"), Permissions::from_mode(0o755)).unwrap();
        });
        check_differs(|root| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("a", root.join("link")).unwrap();
        });
    }

    #[test]
    fn set_user_bits_are_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        plant(folder.path(), &["su"]);
        let path = folder.path().join("su");
        fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
        normalise(folder.path()).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o755
        );
    }
}
