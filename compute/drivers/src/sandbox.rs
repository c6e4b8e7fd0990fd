//! From a fresh set of namespaces to a sealed sandbox: mounts, identity, no way back.
//!
//! Runs as the first process inside. Order matters: what is reached by a path of the host is
//! mounted while the process is still who the shim is (as root it owns the folders on the way,
//! though it has no power over them here); everything later is relative to the new root. Invariant:
//! after [`seal`] the process has no capability, cannot gain one, and sees nothing of the host but
//! what was mounted.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use mesh_compute::words::Plan;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setresgid, setresuid};

use crate::error::sentence;
use crate::{sys, tun, wall};

/// The namespaces of an instance.
pub const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET;

/// The devices of an instance, below `/dev`.
pub const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} for the sandbox")]
pub struct SandboxError {
    what: &'static str,
    source: io::Error,
}

trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &'static str) -> Result<T, SandboxError> {
        self.map_err(|error| SandboxError {
            what,
            source: error.into(),
        })
    }
}

/// A sandbox that stands.
pub struct Sandbox {
    /// The TUN, if the plan has an address.
    pub tun: Option<OwnedFd>,
    /// What could not be had, one sentence each.
    pub notes: Vec<String>,
}

/// Makes the sandbox of namespaces that a plan describes, around the calling process.
pub fn enter(plan: &Plan) -> Result<Sandbox, SandboxError> {
    let mut notes = Vec::new();
    let tun = plan
        .address
        .map(tun::make)
        .transpose()
        .doing("open /dev/net/tun and make a TUN")?;
    tun::bring_loopback_up().doing("bring up the loopback interface")?;
    nix::unistd::sethostname(&plan.hostname).doing("set the host name")?;

    mount_tree(plan)?;
    become_inner(plan)?;
    mount_own(plan, &mut notes)?;
    pivot()?;
    set_limits();
    Ok(Sandbox { tun, notes })
}

/// Gives up every power for good. Returns a note if the kernel lacks the second wall.
pub fn seal() -> Result<Option<String>, SandboxError> {
    nix::sys::prctl::set_no_new_privs().doing("forbid new privileges")?;
    sys::drop_capabilities().doing("drop capabilities")?;
    // Others of the same user inside can then neither trace this process nor open its descriptors.
    nix::sys::prctl::set_dumpable(false).doing("forbid tracing")?;
    let walled = wall::shut_in(Path::new("/"));
    Ok(walled.err().map(|error| {
        let cause = sentence(&error);
        format!("files of this machine are hidden from it by mounts only ({cause})")
    }))
}

fn bind(from: &Path, to: &Path, extra: MsFlags) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(
        Some(from),
        to,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )?;
    // Flags of the mount that we bind are locked in a user namespace: leaving one out is refused.
    let locked = locked_flags(to)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | locked | extra;
    mount(none, to, none, flags, none)?;
    Ok(())
}

fn locked_flags(path: &Path) -> io::Result<MsFlags> {
    let set = statvfs(path)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept = pairs
        .iter()
        .filter(|(flag, _)| set.contains(*flag))
        .map(|(_, flag)| *flag);
    Ok(kept.collect())
}

/// Mounts the tree read-only, the data folder in it, and goes there.
fn mount_tree(plan: &Plan) -> Result<(), SandboxError> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .doing("make mounts private")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    bind(&plan.tree, &plan.root, quiet | MsFlags::MS_RDONLY).doing("mount the software tree")?;
    chdir(&plan.root).doing("enter the software tree")?;
    let data = plan.data_inside.trim_start_matches('/');
    bind(&plan.data, Path::new(data), quiet).doing("mount the data folder")
}

fn become_inner(plan: &Plan) -> Result<(), SandboxError> {
    let (uid, gid) = (Uid::from_raw(plan.inner.uid), Gid::from_raw(plan.inner.gid));
    setresgid(gid, gid, gid).doing("take the group")?;
    // User 0 does not exist in this user namespace, so capabilities survive this until `seal`.
    setresuid(uid, uid, uid).doing("take the user")
}

/// Mounts what is the sandbox's own: temporary folders, devices, processes.
fn mount_own(plan: &Plan, notes: &mut Vec<String>) -> Result<(), SandboxError> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let half = u64::from(plan.memory_mib) / 2;
    let sized = |mode: &str| format!("mode={mode},size={half}m");
    let tmpfs =
        |to: &str, flags, data: &str| mount(Some("tmpfs"), to, Some("tmpfs"), flags, Some(data));
    tmpfs("tmp", quiet, &sized("1777")).doing("mount /tmp")?;
    tmpfs("run", quiet, &sized("755")).doing("mount /run")?;
    tmpfs(
        "dev",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        "mode=755,size=64k",
    )
    .doing("mount /dev")?;
    for device in DEVICES {
        let (host, inside) = (format!("/dev/{device}"), format!("dev/{device}"));
        File::create(&inside).doing("make a device")?;
        let none: Option<&str> = None;
        mount(
            Some(host.as_str()),
            inside.as_str(),
            none,
            MsFlags::MS_BIND,
            none,
        )
        .doing("mount a device")?;
    }
    let links = [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ];
    for (name, end) in links {
        symlink(format!("/proc/self/fd{end}"), format!("dev/{name}"))
            .doing("make a device link")?;
    }
    fs::create_dir("dev/shm").doing("make /dev/shm")?;
    tmpfs("dev/shm", quiet | MsFlags::MS_NOEXEC, &sized("1777")).doing("mount /dev/shm")?;
    let flags = quiet | MsFlags::MS_NOEXEC;
    let proc = mount(Some("proc"), "proc", Some("proc"), flags, None::<&str>);
    if let Err(error) = proc {
        notes.push(format!(
            "this system allows no /proc of its own inside ({error})"
        ));
    }
    Ok(())
}

/// Makes the current folder the root and lets go of the host's.
fn pivot() -> Result<(), SandboxError> {
    pivot_root(".", ".").doing("change the root")?;
    // The old root lies on top of the new one now; without it nothing of the host is left.
    umount2(".", MntFlags::MNT_DETACH).doing("let go of the host's files")?;
    chdir("/").doing("enter the new root")
}

/// Sets limits of processes; what the system does not allow stays as it was.
pub fn set_limits() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard);
    }
}
