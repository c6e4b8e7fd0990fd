//! A second wall around an instance's files: Landlock, which no user id and no mount can climb.
//!
//! Namespaces hide the host's files from an instance, and other instances'. Where all instances
//! share one user outside, as under an ordinary user, nothing but that hiding is between them: a
//! descriptor that leaked in would open everything its user owns. Behind this wall files are what
//! lies below the instance's own root, by whatever way they are reached, and signals, traces and
//! abstract sockets end at it. Needs no right of any kind; a kernel without it gives a note.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

/// Why there is no wall.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The root cannot be opened.
    #[error("cannot open the root")]
    Root(#[from] landlock::PathFdError),
    /// The kernel has no Landlock, or one that forbids moving files between folders.
    #[error("this kernel has no Landlock that fits")]
    Kernel(#[from] RulesetError),
}

/// Shuts the calling thread, and all that it will start, in with what lies below `root`.
pub fn shut_in(root: &Path) -> Result<(), WallError> {
    let below = PathBeneath::new(PathFd::new(root)?, AccessFs::from_all(ABI::V5));
    ruleset(ABI::V2)?
        .create()?
        .add_rule(below)?
        .restrict_self()?;
    Ok(())
}

/// What is left of the machine's files for those without a root of their own.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    /// Folders whose files may be read and run.
    pub read: Vec<PathBuf>,
    /// Folders in which everything is allowed.
    pub write: Vec<PathBuf>,
    /// Devices, and files that may be read and written.
    pub files: Vec<PathBuf>,
}

/// Shuts the calling thread, and all that it will start, in with this ground, and keeps it from TCP
/// where the kernel can (Linux 6.7): its supervisor listens and connects in its place.
pub fn shut_in_with(ground: &Ground) -> Result<(), WallError> {
    // Before Linux 6.2 files could be emptied that may only be read.
    let created = ruleset(ABI::V3)?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .create()?;
    let file = AccessFs::from_file(ABI::V5);
    let add = |created: RulesetCreated, paths: &[PathBuf], access| {
        created.add_rules(path_beneath_rules(paths, access))
    };
    let created = add(created, &ground.read, AccessFs::from_read(ABI::V5))?;
    let created = add(created, &ground.write, AccessFs::from_all(ABI::V5))?;
    add(created, &ground.files, file)?.restrict_self()?;
    Ok(())
}

/// `least` must be there, at least the first version that lets files move between folders (Linux
/// 5.19); what newer ones add is taken where it is there.
fn ruleset(least: ABI) -> Result<Ruleset, RulesetError> {
    let least = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(least))?;
    let most = least
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?;
    most.scope(Scope::from_all(ABI::V6))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    /// What a thread behind the wall could do; none on a kernel without Landlock.
    fn behind(root: &Path, look: impl FnOnce() -> Vec<Option<ErrorKind>> + Send) -> Seen {
        std::thread::scope(|scope| {
            let walled = scope.spawn(|| shut_in(root).is_ok().then(look));
            walled.join().unwrap()
        })
    }

    type Seen = Option<Vec<Option<ErrorKind>>>;

    fn kind<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn ground_is_read_where_it_may_be_read_and_written_where_it_may_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["tree", "data", "other"] {
            fs::create_dir_all(at(name)).unwrap();
            fs::write(at(name).join("file"), "text").unwrap();
        }
        let ground = Ground {
            read: vec![at("tree")],
            write: vec![at("data")],
            files: vec!["/dev/null".into()],
        };
        let seen = std::thread::scope(|scope| {
            let look = move || {
                vec![
                    kind(fs::read(at("tree/file"))),
                    kind(fs::write(at("data/new"), "1")),
                    kind(fs::write("/dev/null", "1")),
                    kind(fs::write(at("tree/file"), "1")),
                    kind(fs::read(at("other/file"))),
                    kind(fs::read("/etc/passwd")),
                ]
            };
            let walled = scope.spawn(move || shut_in_with(&ground).is_ok().then(look));
            walled.join().unwrap()
        });
        let no = Some(ErrorKind::PermissionDenied);
        if let Some(seen) = seen {
            assert_eq!(seen, [None, None, None, no, no, no]);
        }
    }

    #[test]
    fn only_what_is_below_the_root_can_be_reached() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["inside/a", "inside/b", "outside"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("outside/key"), "secret").unwrap();
        // A descriptor that leaked: it was opened before.
        let leaked = fs::File::open(at("outside")).unwrap();
        let by_leak = {
            use std::os::fd::AsRawFd as _;
            format!("/proc/self/fd/{}/key", leaked.as_raw_fd())
        };
        let seen = behind(&at("inside"), || {
            vec![
                kind(fs::write(at("inside/a/x"), "1")),
                kind(fs::rename(at("inside/a/x"), at("inside/b/x"))),
                kind(fs::read(at("inside/b/x"))),
                kind(fs::read(at("outside/key"))),
                kind(fs::read(&by_leak)),
                kind(fs::write(at("outside/new"), "1")),
            ]
        });
        let no = Some(ErrorKind::PermissionDenied);
        // A kernel without Landlock has nothing to show; the instance's notes say so.
        if let Some(seen) = seen {
            assert_eq!(seen, [None, None, None, no, no, no]);
        }
        assert_eq!(fs::read(at("outside/key")).unwrap(), b"secret");
    }
}
