//! Copying, removing, measuring folders; writing a file whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown,
};
use std::path::{Path, PathBuf};

use crate::error::{At, DriverError};
use crate::sys;
use mesh_compute::words::Ids;

/// Writes a file so that after a crash either the old or the new content is there.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DriverError> {
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .at("create", &fresh)?;
    file.write_all(bytes).at("write", &fresh)?;
    file.sync_data().at("sync", &fresh)?;
    fs::rename(&fresh, path).at("replace", path)?;
    sync_parent(path)
}

/// Makes a rename or a new name in a folder lasting.
pub fn sync_parent(path: &Path) -> Result<(), DriverError> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .at("sync", folder)
}

/// Makes a folder and all in it lasting, together with the rest of its file system.
///
/// A database has a thousand files: syncing one by one takes seconds, the whole file system at once
/// takes a tenth of one, though it waits for other writers as well.
pub fn sync_all_under(folder: &Path) -> Result<(), DriverError> {
    let file = File::open(folder).at("open", folder)?;
    sys::sync_file_system(file.as_fd()).at("sync", folder)
}

/// Makes a folder, and those above it, for our own user only.
pub fn make_private(folder: &Path) -> Result<(), DriverError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .at("create", folder)
}

/// Copies a folder; the copy belongs to `owner` alone: nobody else may read it.
pub fn copy_private(from: &Path, to: &Path, owner: Option<Ids>) -> Result<(), DriverError> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(to)
        .at("create", to)?;
    for entry in fs::read_dir(from).at("list", from)? {
        let entry = entry.at("list", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().at("look at", &source)?;
        if kind.is_dir() {
            copy_private(&source, &target, owner)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).at("read", &source)?;
            std::os::unix::fs::symlink(link, &target).at("create", &target)?;
        } else if kind.is_file() {
            copy_file(&source, &target, owner)?;
        }
    }
    set_owner(to, owner)
}

/// Gives a file or folder itself, not what a link points to, to its owner.
pub fn set_owner(path: &Path, owner: Option<Ids>) -> Result<(), DriverError> {
    match owner {
        Some(ids) => lchown(path, Some(ids.uid), Some(ids.gid)).at("give away", path),
        None => Ok(()),
    }
}

fn copy_file(from: &Path, to: &Path, owner: Option<Ids>) -> Result<(), DriverError> {
    let mut source = File::open(from).at("open", from)?;
    let executable = source.metadata().at("look at", from)?.permissions().mode() & 0o100;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600 | executable)
        .open(to)
        .at("create", to)?;
    // The standard library asks the kernel to copy, which shares blocks where the file system can.
    std::io::copy(&mut source, &mut target).at("copy to", to)?;
    match owner {
        Some(ids) => fchown(&target, Some(ids.uid), Some(ids.gid)).at("give away", to),
        None => Ok(()),
    }
}

/// Removes a folder and all in it; one that is not there is removed already.
pub fn remove(folder: &Path) -> Result<(), DriverError> {
    let remove = || match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    match remove() {
        // What ran there may have closed folders to its own user, which is ours.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            walk(folder, &mut |path, metadata| {
                if metadata.is_dir() {
                    let open = fs::Permissions::from_mode(0o700);
                    fs::set_permissions(path, open).at("open up", path)?;
                }
                Ok(())
            })?;
            remove().at("remove", folder)
        }
        result => result.at("remove", folder),
    }
}

/// Calls `each` for everything below a folder, parents first.
pub fn walk(
    folder: &Path,
    each: &mut impl FnMut(&Path, &fs::Metadata) -> Result<(), DriverError>,
) -> Result<(), DriverError> {
    let mut waiting: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            let metadata = fs::symlink_metadata(&path).at("look at", &path)?;
            each(&path, &metadata)?;
            if metadata.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

/// Returns what a folder occupies, in MiB, rounded up. Files that vanish meanwhile count nothing.
pub fn occupied_mib(folder: &Path) -> u64 {
    let mut blocks = 0_u64;
    let mut waiting: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            blocks = blocks.saturating_add(metadata.blocks());
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    blocks.saturating_mul(512).div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_is_private_and_keeps_links() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir_all(from.join("in")).unwrap();
        fs::write(from.join("in/file"), b"x").unwrap();
        std::os::unix::fs::symlink("in/file", from.join("link")).unwrap();
        let to = folder.path().join("to");
        copy_private(&from, &to, None).unwrap();
        assert_eq!(fs::read(to.join("link")).unwrap(), b"x");
        let mode = |path: &str| fs::metadata(to.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("in"), mode("in/file")), (0o700, 0o600));
    }

    #[test]
    fn whole_write_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.json");
        write_whole(&path, b"1", 0o600).unwrap();
        write_whole(&path, b"2", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("nothing")).unwrap();
    }
}
