//! A second wall around an instance's files: Landlock, which no user id and no mount can climb.
//!
//! Namespaces hide the host's files from an instance, and other instances'. Where all instances
//! share one user outside, as under an ordinary user, nothing but that hiding is between them: a
//! descriptor that leaked in would open everything its user owns. Behind this wall files are what
//! lies below the instance's own root, by whatever way they are reached, and signals, traces and
//! abstract sockets end at it. Needs no right of any kind; a kernel without it gives a note.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
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
    // The first version that lets files move between folders (Linux 5.19) is the least; what newer
    // ones add is taken where it is there.
    let least = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))?;
    let most = least
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?;
    let below = PathBeneath::new(PathFd::new(root)?, AccessFs::from_all(ABI::V5));
    most.create()?.add_rule(below)?.restrict_self()?;
    Ok(())
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
