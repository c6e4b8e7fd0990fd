//! Keeping an instance apart on a machine that gives us no namespaces.
//!
//! ```text
//!   shim ── supervises sockets and signals
//!    └─ guardian            ends everything below when the shim is gone
//!        └─ first process   behind Landlock and the filter; takes in orphans
//!            └─ proot       shows the tree as the root, the folders of the slot in it
//!                └─ the service
//! ```
//! The service sees its files where its recipe says, and no others; it listens on loopback
//! addresses of its own ([`mesh_compute::doors`]) and reaches nobody; it may signal what it has
//! started. What namespaces would do besides is missing: it sees the machine's name, which ids
//! processes have and names of files, and shares memory segments of System V with all programs of
//! its user. Its offer says so.
//!
//! proot (GPL-2.0-or-later) is a program of its own, from Debian, and only started.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use mesh_compute::recipe::Debian;
use mesh_compute::words::{Plan, Walled, Walls};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::error::{At, DriverError, sentence};
use crate::folders::{Folder, Side, place};
use crate::link::Link;
use crate::sandbox::DEVICES;
use crate::wall::{self, Ground};
use crate::warden::Grounds;
use crate::{files, inside, kin, sandbox, seccomp, sys};

/// The folders of a run that stand for memory file systems: where they are inside.
const OWN: [(&str, &str); 3] = [("tmp", "/tmp"), ("run", "/run"), ("shm", "/dev/shm")];
/// Where the loader of proot lies in its tree, see [`unpack_loader`].
const LOADER: &str = "usr/lib/proot-loader";

/// The packages of proot, without what only installing needs.
pub fn proot() -> Debian {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Debian {
        suite: "bookworm".to_owned(),
        packages: list(&["proot"]),
        without: list(&["gcc-12-base"]),
        drop: list(&["etc", "usr/share", "usr/lib/*/gconv", "usr/sbin"]),
    }
}

/// Returns the folder of a run that is named so, where this machine keeps such: its user's folder
/// for that, else the folder for temporary files. Both are gone after a reboot, as they should be.
pub fn run_folder(label: &str) -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let fits = |folder: &PathBuf| folder.is_dir() && folder.as_os_str().len() <= RUN_LEN_MAX;
    own.filter(fits)
        .unwrap_or_else(|| PathBuf::from("/tmp"))
        .join(label)
}

/// Longest path below which folders of runs are made.
const RUN_LEN_MAX: usize = 32;

/// Empties the folder of a run.
///
/// # Errors
/// It cannot be made, or belongs to somebody else.
pub fn clear(run: &Path) -> Result<(), DriverError> {
    files::remove(run)?;
    // Nobody's but ours: others can make folders below the same one.
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).create(run).at("create", run)?;
    for (name, _) in OWN {
        files::make_private(&run.join(name))?;
    }
    Ok(())
}

/// Returns the folders that an instance is given.
fn folders(plan: &Plan) -> Vec<Folder> {
    let data = Folder {
        inside: plan.data_inside.trim_end_matches('/').into(),
        outside: plan.data.clone(),
    };
    let own = plan.walled().into_iter().flat_map(|walled| {
        OWN.map(|(name, inside)| Folder {
            inside: inside.into(),
            outside: walled.run.join(name),
        })
    });
    own.chain([data]).collect()
}

/// Replaces the paths of a plan by what they lead to: those of a process are told so.
///
/// # Errors
/// One of them leads nowhere.
pub fn straighten(plan: &mut Plan) -> io::Result<()> {
    if let Walls::Process(walled) = &mut plan.walls {
        for path in [&mut walled.tool, &mut plan.tree, &mut plan.data] {
            *path = path.canonicalize()?;
        }
    }
    Ok(())
}

/// Returns what the supervisor of a plan's calls has to know.
pub fn grounds(plan: &Plan, walled: &Walled) -> Grounds {
    Grounds {
        folders: folders(plan),
        doors: walled.doors,
        address: plan.address,
    }
}

/// Returns where a path inside is.
pub fn outside(plan: &Plan, inside: &str) -> PathBuf {
    match place(&folders(plan), Path::new(inside), Side::Inside) {
        Some((folder, rest)) => folder.join(rest),
        None => plan.tree.join(inside.trim_start_matches('/')),
    }
}

/// Returns the words that show the plan's tree as the root to a program, and start it.
///
/// # Errors
/// The tree of proot is damaged.
pub fn shown(plan: &Plan, tool: &Path, argv: &[String]) -> io::Result<Vec<String>> {
    let library = fs::read_dir(tool.join("usr/lib"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("libtalloc.so.2").exists())
        .ok_or_else(|| io::Error::other("the tree of proot has no libraries"))?;
    // By its own loader, as neither it nor its libraries are where this machine looks. Links to it
    // are absolute, so they would lead there.
    let loader = only(&library, "ld-linux")?;
    let text = |path: &Path| path.display().to_string();
    let mut words = vec![
        text(&loader),
        "--library-path".to_owned(),
        text(&library),
        text(&tool.join("usr/bin/proot")),
        // Without its own remarks: people shall read the last words of the program it runs.
        "-v".to_owned(),
        "-1".to_owned(),
        "-i".to_owned(),
        format!("{}:{}", plan.inner.uid, plan.inner.gid),
        "-r".to_owned(),
        text(&plan.tree),
        "-w".to_owned(),
        plan.data_inside.clone(),
    ];
    for Folder { inside, outside } in folders(plan) {
        let bound = format!("{}:{}", text(&outside), text(&inside));
        words.extend(["-b".to_owned(), bound]);
    }
    // The whole folder, since proot makes a place for what the tree lacks in the machine's /tmp;
    // Landlock leaves the devices.
    words.extend(["-b".to_owned(), "/dev".to_owned()]);
    words.extend(argv.iter().cloned());
    Ok(words)
}

/// The variable by which proot is told where its loader is.
pub fn variable(tool: &Path) -> (&'static str, PathBuf) {
    ("PROOT_LOADER", tool.join(LOADER))
}

/// Unpacks the program that proot starts all others with. It would do that itself, anew each time
/// and in the machine's /tmp, which an instance must not write to.
///
/// # Errors
/// There is none in it.
pub fn unpack_loader(tool: &Path) -> Result<(), DriverError> {
    let proot = tool.join("usr/bin/proot");
    let bytes = fs::read(&proot).at("read", &proot)?;
    let missing = || io::Error::other("no loader in it");
    let loader = loader(&bytes).ok_or_else(missing).at("unpack", &proot)?;
    files::write_whole(&tool.join(LOADER), loader, 0o755)
}

/// Finds the program inside a program that is made for the same machine (ELF-64).
fn loader(program: &[u8]) -> Option<&[u8]> {
    let kind = program.get(..KIND_LEN)?;
    let starts = (1..program.len()).filter(|at| program.get(*at..*at + KIND_LEN) == Some(kind));
    let mut fitting = starts.filter_map(|at| {
        let rest = program.get(at..)?;
        if rest.get(MACHINE..MACHINE + 2) != program.get(MACHINE..MACHINE + 2) {
            return None;
        }
        // The table of sections ends the file.
        let table = u64::from_le_bytes(rest.get(0x28..0x30)?.try_into().ok()?);
        let [size, count] = [0x3a, 0x3c].map(|at| {
            let number = rest.get(at..at + 2).and_then(|two| two.try_into().ok());
            u64::from(number.map_or(0, u16::from_le_bytes))
        });
        rest.get(..usize::try_from(table.checked_add(size * count)?).ok()?)
    });
    fitting.next()
}

/// Length of what tells an ELF file's class and byte order, and where its machine is.
const KIND_LEN: usize = 7;
const MACHINE: usize = 0x12;

fn only(folder: &Path, start: &str) -> io::Result<PathBuf> {
    let starts = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(start))
    };
    let mut all = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    all.find(starts)
        .ok_or_else(|| io::Error::other(format!("no {start} in {}", folder.display())))
}

/// Makes the calling process the one below which an instance lives: it takes orphans in, gives up
/// every power, goes behind Landlock and the filter. Returns the descriptor for the supervisor.
///
/// # Errors
/// This kernel has not what it takes.
pub fn enter(plan: &Plan, tool: &Path) -> io::Result<OwnedFd> {
    nix::unistd::setsid()?;
    set_child_subreaper(true)?;
    sandbox::set_limits();
    let ground = Ground {
        read: vec![plan.tree.clone(), tool.to_owned()],
        write: folders(plan)
            .into_iter()
            .map(|folder| folder.outside)
            .collect(),
        files: DEVICES.map(|name| Path::new("/dev").join(name)).into(),
    };
    shut_in(&ground)
}

fn shut_in(ground: &Ground) -> io::Result<OwnedFd> {
    nix::sys::prctl::set_no_new_privs()?;
    sys::drop_capabilities()?;
    // Others of the same user inside can then neither trace this process nor open its descriptors.
    nix::sys::prctl::set_dumpable(false)?;
    wall::shut_in_with(ground).map_err(|error| io::Error::other(sentence(&error)))?;
    let filter = seccomp::supervised();
    let filter = filter.ok_or_else(|| io::Error::other("no filter for this architecture"))?;
    sys::set_asking_filter(&filter).map_err(|error| {
        io::Error::other(format!("this system lets us supervise no calls ({error})"))
    })
}

/// Tries whether an instance can be kept apart so, in the calling process, which is of no further
/// use.
///
/// # Errors
/// Why it cannot.
pub fn try_here() -> io::Result<()> {
    shut_in(&Ground::default()).map(drop)
}

/// Lives as the guardian: starts the first process once the shim says a byte, and ends everything
/// when the shim is gone.
pub fn guard(plan: &Plan, shim: Link, output: OwnedFd, alive: OwnedFd) -> ! {
    let mut alive = File::from(alive);
    let started = || -> io::Result<()> {
        let mut go = [0];
        alive.read_exact(&mut go)?;
        set_child_subreaper(true)?;
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
        nix::sys::prctl::set_dumpable(false)?;
        if let sys::Side::Child = sys::fork()? {
            drop(alive);
            // SAFETY: as above; what it starts must be waited for.
            let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
            inside::live(plan, shim, output);
        }
        drop((shim, output));
        // Nothing more is ever said: this ends with the shim.
        let _ = alive.read(&mut go);
        kin::end_all()
    };
    sys::exit(i32::from(started().is_err()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mesh_compute::doors::Doors;
    use mesh_compute::words::Ids;

    use super::*;

    fn plan(folder: &Path) -> Plan {
        let ids = Ids { uid: 999, gid: 998 };
        Plan {
            folder: folder.to_owned(),
            tree: "/tree".into(),
            root: folder.join("root"),
            data: folder.join("data"),
            data_inside: "/data".to_owned(),
            hostname: "n".to_owned(),
            label: "n".to_owned(),
            address: None,
            inner: ids,
            outer: ids,
            env: BTreeMap::new(),
            run: Vec::new(),
            ready: None,
            init: Vec::new(),
            stop_signal: 15,
            grace_ms: 0,
            memory_mib: 64,
            cpu_millis: 1000,
            pids: 16,
            cpu_ms_before: 0,
            walls: Walls::Process(Walled {
                tool: folder.join("tool"),
                doors: Doors::drawn(7),
                run: "/short".into(),
            }),
        }
    }

    #[test]
    fn paths_inside_are_found_outside() {
        let plan = plan(Path::new("/slot"));
        let found = |inside: &str| outside(&plan, inside).display().to_string();
        assert_eq!(found("/data/postmaster.pid"), "/slot/data/postmaster.pid");
        assert_eq!(found("/run/a"), "/short/run/a");
        assert_eq!(found("/dev/shm/a"), "/short/shm/a");
        assert_eq!(found("/etc/passwd"), "/tree/etc/passwd");
        assert_eq!(found("/database"), "/tree/database");
    }

    #[test]
    fn program_is_started_below_the_tree_with_the_folders_of_its_slot() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        let tool = plan.walled().unwrap().tool.as_path();
        let argv = ["/bin/x".to_owned(), "-b".to_owned()];
        assert!(shown(&plan, tool, &argv).is_err());
        fs::create_dir_all(tool.join("usr/lib/some-linux-gnu")).unwrap();
        fs::write(tool.join("usr/lib/some-linux-gnu/libtalloc.so.2"), "").unwrap();
        fs::write(tool.join("usr/lib/some-linux-gnu/ld-linux-some.so.1"), "").unwrap();
        let words = shown(&plan, tool, &argv).unwrap();
        let line = words.join(" ");
        assert!(line.contains("/tool/usr/lib/some-linux-gnu/ld-linux-some.so.1 --library-path"));
        assert!(line.contains("-i 999:998 -r /tree -w /data"));
        let data = format!("-b {}:/data", plan.data.display());
        assert!(line.contains(&data) && line.ends_with("/bin/x -b"));
    }

    #[test]
    fn loader_is_found_in_the_program_that_holds_it() {
        let header = |machine: u8, sections: u8| {
            let mut header = vec![0; 64];
            header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
            header[MACHINE] = machine;
            header[0x28] = 64;
            header[0x3a] = 8;
            header[0x3c] = sections;
            header
        };
        let mut program = header(62, 1);
        program.extend(b"code");
        let (other, own) = (header(40, 0), header(62, 1));
        program.extend(&other);
        assert_eq!(loader(&program), None);
        program.extend(&own);
        assert_eq!(loader(&program), None, "its end is missing");
        program.extend(b"sections and more");
        let found = loader(&program).unwrap();
        assert_eq!(found, [own.as_slice(), b"sections"].concat());
        assert_eq!(loader(b""), None);
    }

    #[test]
    fn folders_of_a_run_are_empty_again() {
        let folder = tempfile::tempdir().unwrap();
        clear(folder.path()).unwrap();
        fs::write(folder.path().join("run/pid"), "1").unwrap();
        clear(folder.path()).unwrap();
        assert!(
            fs::read_dir(folder.path().join("run"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}
