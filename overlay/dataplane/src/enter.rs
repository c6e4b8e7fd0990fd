//! Becomes a process of the helper's namespace, for a program that shall see the overlay.
//!
//! ```text
//!   setns(user, net of the helper) ─► unshare(user, mounts) ─► our own ids again ─► names ─► exec
//! ```
//! The kernel lets in whoever owns the helper's user namespace, so nobody else of this machine. A
//! second user namespace gives back the ids that the program knows itself by, and mounts of its
//! own, in which the resolver asks the mesh. The namespaces end with their last process. Decides
//! nothing about the overlay. Invariant: the calling process has one thread, as `setns` wants it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use crate::netns::map_ids;

/// What the C library asks names of.
const RESOLVER: &str = "/etc/resolv.conf";
/// Where programs meet resolvers that live outside and know nothing of the mesh.
const OUTSIDE: [&str; 2] = ["/run/systemd/resolve", "/run/nscd"];

/// Why a process is not in the namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The helper's process is gone, or somebody else's.
    #[error("cannot look at the namespaces of process {pid}")]
    Look {
        /// The helper.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
    /// The kernel does not let us in.
    #[error("cannot enter the namespaces of process {pid}")]
    Enter {
        /// The helper.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
    /// No namespace in which the program is who it was.
    #[error("cannot make a user namespace inside")]
    Unshare(#[source] io::Error),
}

/// Enters the namespaces of the process `pid`. From then on this process, and what it becomes, has
/// the network of that one, its own ids, and mounts of its own.
pub fn enter(pid: u32) -> Result<(), EnterError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let open = |kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        File::open(path).map_err(|source| EnterError::Look { pid, source })
    };
    let (user, net) = (open("user")?, open("net")?);
    let refused = |errno: nix::errno::Errno| EnterError::Enter {
        pid,
        source: errno.into(),
    };
    // Root's helper may share our user namespace, which cannot be entered again.
    let identity = |path: &str| fs::read_link(path).ok();
    let is_ours = identity(&format!("/proc/{pid}/ns/user")) == identity("/proc/self/ns/user");
    if !is_ours {
        setns(user, CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    }
    setns(net, CloneFlags::CLONE_NEWNET).map_err(refused)?;
    if is_ours {
        return unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| EnterError::Unshare(errno.into()));
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| EnterError::Unshare(errno.into()))?;
    // In the helper's namespace we are user 0, as whom we are mapped here.
    map_ids((uid, 0), (gid, 0)).map_err(EnterError::Unshare)
}

/// Makes the resolver of this process read `file`; call it after [`enter`]. An error leaves names
/// as they are outside.
pub fn ask_names_of(file: &Path) -> io::Result<()> {
    let none = None::<&Path>;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, flags, none)?;
    // A link may lead into what is hidden next.
    let resolver = fs::canonicalize(RESOLVER)?;
    let hidden: Vec<PathBuf> = OUTSIDE
        .iter()
        .filter_map(|folder| fs::canonicalize(folder).ok())
        .collect();
    for folder in &hidden {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(
            none,
            folder,
            Some("tmpfs"),
            flags,
            Some("mode=755,size=64k"),
        )?;
        if resolver.starts_with(folder) {
            File::create(&resolver)?;
        }
    }
    mount(Some(file), &resolver, none, MsFlags::MS_BIND, none)?;
    Ok(())
}
