//! Which descriptors are files of the folder, and the log of what is done to them.
//!
//! Invariant: whoever has the turn makes a call on a file of the folder and writes it down, so the
//! log has the order in which things happened. A turn is a lock among the threads of a process and
//! one on the log among processes; whoever has that one and kills a program cuts no turn in two.

use std::env;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_long};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use mesh_tests::calls::Call;
use nix::libc::{self, mode_t};

use crate::kernel;

/// Descriptors that can be watched: many more than a daemon of ours may open.
const DESCRIPTORS_MAX: usize = 65_536;

/// The inode of each watched descriptor; zero for all others.
static NUMBERS: [AtomicU64; DESCRIPTORS_MAX] = [const { AtomicU64::new(0) }; DESCRIPTORS_MAX];

static WATCH: OnceLock<Option<Watch>> = OnceLock::new();

/// What this process watches.
pub struct Watch {
    folder: Vec<u8>,
    log: c_int,
    process: c_int,
    turn: Mutex<()>,
}

/// How a file is opened.
pub struct Opening {
    /// The folder that a relative path begins at.
    pub folder: c_int,
    /// The path.
    pub path: *const c_char,
    /// What open(2) calls flags.
    pub flags: c_int,
    /// Permissions of a new file.
    pub mode: mode_t,
}

/// A file of the folder, by one of its descriptors.
pub struct Watched {
    /// Its number.
    pub number: u64,
    fd: c_int,
}

impl Watched {
    /// Returns how long it is.
    pub fn len(&self) -> u64 {
        kernel::stat(self.fd).map_or(0, |stat| stat.st_size as u64)
    }

    /// Returns where its descriptor stands.
    pub fn position(&self) -> u64 {
        kernel::position(self.fd)
    }
}

impl Watch {
    fn new() -> Option<Self> {
        let folder = env::var_os("MESHSTEAD_POWERCUT_FOLDER")?.into_vec();
        let log = CString::new(env::var_os("MESHSTEAD_POWERCUT_LOG").map(OsString::into_vec)?);
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
        let path = log.ok()?;
        let arguments = [HERE, path.as_ptr() as c_long, c_long::from(flags), 0o600];
        // SAFETY: the path ends with a zero.
        let log = unsafe { kernel::call(libc::SYS_openat, kernel::arguments(&arguments)) };
        if log < 0 {
            kernel::abort("cannot open the log");
        }
        Some(Self {
            folder,
            log: log as c_int,
            process: kernel::process(),
            turn: Mutex::new(()),
        })
    }

    /// Returns what is watched; none in a child that has not become another program yet.
    fn of_process() -> Option<&'static Self> {
        let watch = WATCH.get_or_init(Self::new).as_ref()?;
        (watch.process == kernel::process()).then_some(watch)
    }

    /// Takes a descriptor off the list.
    pub fn forget(fd: c_int) {
        if let Some(number) = slot(fd) {
            number.store(0, Ordering::SeqCst);
        }
    }

    /// Puts the copy of a descriptor on the list if its original is there.
    pub fn copied(old: c_int, new: c_int) {
        if let (Some(old), Some(new)) = (slot(old), slot(new)) {
            new.store(old.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// Tells whether a descriptor is a file of the folder.
    pub fn has(fd: c_int) -> bool {
        watched(fd).is_some()
    }

    fn remember(&self, fd: c_int, number: u64) {
        match slot(fd) {
            Some(place) => place.store(number, Ordering::SeqCst),
            None => self.write_down(&strange("too many descriptors")),
        }
    }

    /// Returns the name of a path inside the folder; none if it lies outside.
    fn name(&self, folder: c_int, path: &[u8]) -> Option<Vec<u8>> {
        let path = match path.first()? {
            b'/' => path.to_vec(),
            _ => {
                let place = match folder {
                    libc::AT_FDCWD => "/proc/self/cwd".to_owned(),
                    fd => format!("/proc/self/fd/{fd}"),
                };
                let folder = kernel::read_link(&CString::new(place).ok()?)?;
                [folder.as_slice(), path].join(&b'/')
            }
        };
        let rest = path.strip_prefix(self.folder.as_slice())?;
        match rest.split_first() {
            None => Some(Vec::new()),
            Some((b'/', name)) => Some(name.to_vec()),
            Some(_) => None,
        }
    }

    fn turn(&self) -> Turn<'_> {
        let threads = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        kernel::lock(self.log);
        Turn {
            log: self.log,
            _threads: threads,
        }
    }

    fn write_down(&self, call: &Call) {
        let record = call.to_bytes();
        let (bytes, len) = (record.as_ptr() as c_long, record.len() as c_long);
        let arguments = kernel::arguments(&[c_long::from(self.log), bytes, len]);
        // SAFETY: the bytes are ours, and as many as we say.
        let written = unsafe { kernel::call(libc::SYS_write, arguments) };
        if written != len {
            kernel::abort("cannot write the log");
        }
    }
}

/// The right to make a call and write it down.
struct Turn<'a> {
    log: c_int,
    _threads: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        kernel::unlock(self.log);
    }
}

/// The folder in which a process stands, as an argument.
const HERE: c_long = libc::AT_FDCWD as c_long;

fn slot(fd: c_int) -> Option<&'static AtomicU64> {
    NUMBERS.get(usize::try_from(fd).ok()?)
}

/// Returns the file of the folder that a descriptor is. One that was closed inside of libc may be
/// something else by now.
fn watched(fd: c_int) -> Option<Watched> {
    let number = slot(fd)?.load(Ordering::SeqCst);
    if number == 0 {
        return None;
    }
    let is_same = kernel::stat(fd).is_some_and(|stat| stat.st_ino == number && is_ours(&stat));
    if !is_same {
        Watch::forget(fd);
    }
    is_same.then_some(Watched { number, fd })
}

fn is_file(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

fn is_ours(stat: &libc::stat) -> bool {
    is_file(stat) || stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// Opens a file and writes down what that changed.
///
/// # Safety
/// The path is what open(2) wants.
pub unsafe fn open(opening: Opening) -> c_int {
    let Opening { folder, flags, .. } = opening;
    let path = opening.path as c_long;
    let arguments = [
        c_long::from(folder),
        path,
        c_long::from(flags),
        c_long::from(opening.mode),
    ];
    let arguments = kernel::arguments(&arguments);
    // SAFETY: the caller's promise.
    let act = || unsafe { kernel::call(libc::SYS_openat, arguments) as c_int };
    // SAFETY: the caller's promise.
    let text = unsafe { kernel::text(opening.path) };
    let watch = Watch::of_process();
    let Some((watch, name)) = watch.and_then(|watch| Some((watch, watch.name(folder, text)?)))
    else {
        let fd = act();
        // libc may have closed this number without telling us.
        Watch::forget(fd);
        return fd;
    };
    // SAFETY: a path with a name is not null, and the caller's promise.
    let path = unsafe { CStr::from_ptr(opening.path) };
    let _turn = watch.turn();
    let before = kernel::stat_at(folder, path);
    let fd = act();
    if fd < 0 {
        // Whoever asks why must not hear of a look of ours.
        return fd;
    }
    Watch::forget(fd);
    let Some(stat) = kernel::stat(fd).filter(is_ours) else {
        return fd;
    };
    let number = stat.st_ino;
    watch.remember(fd, number);
    if is_file(&stat) && before.is_none() {
        let mode = stat.st_mode & 0o7777;
        let path = name;
        watch.write_down(&Call::Made { number, mode, path });
    } else if flags & libc::O_TRUNC != 0 && before.is_some_and(|before| 0 < before.st_size) {
        watch.write_down(&Call::Sized { number, len: 0 });
    }
    fd
}

/// Makes a call on a descriptor and writes down what it did to a file of the folder.
pub fn on_file(
    fd: c_int,
    act: impl FnOnce() -> c_long,
    after: impl FnOnce(&Watched, c_long) -> Option<Call>,
) -> c_long {
    let Some(file) = watched(fd) else {
        return act();
    };
    let Some(watch) = Watch::of_process() else {
        return act();
    };
    let _turn = watch.turn();
    let result = act();
    if 0 <= result
        && let Some(call) = after(&file, result)
    {
        watch.write_down(&call);
    }
    result
}

/// Makes a call that changes one name, and writes it down if it lies in the folder.
pub fn on_name(
    folder: c_int,
    path: &[u8],
    act: impl FnOnce() -> c_long,
    after: impl FnOnce(c_int, Named<'_>) -> Call,
) -> c_long {
    let watch = Watch::of_process();
    let Some((watch, name)) = watch.and_then(|watch| Some((watch, watch.name(folder, path)?)))
    else {
        return act();
    };
    let _turn = watch.turn();
    let result = act();
    if 0 <= result {
        watch.write_down(&after(folder, Named { path, name }));
    }
    result
}

/// A name of the folder, and the path that the caller gave.
pub struct Named<'a> {
    path: &'a [u8],
    name: Vec<u8>,
}

/// A name is gone.
pub fn removed(_: c_int, named: Named<'_>) -> Call {
    Call::Removed { path: named.name }
}

/// A folder is there.
pub fn made_folder(folder: c_int, named: Named<'_>) -> Call {
    let path = CString::new(named.path).ok();
    let stat = path.and_then(|path| kernel::stat_at(folder, &path));
    match stat {
        Some(stat) => Call::Folder {
            number: stat.st_ino,
            mode: stat.st_mode & 0o7777,
            path: named.name,
        },
        None => strange("mkdir of what is not there"),
    }
}

/// Something was done that cannot be played again.
pub fn strange(call: &str) -> Call {
    let call = call.as_bytes().to_vec();
    Call::Strange { call }
}

/// Renames, and writes it down if it happens in the folder.
pub fn on_two_names(
    old: (c_int, &[u8]),
    new: (c_int, &[u8]),
    act: impl FnOnce() -> c_long,
    flags: u32,
) -> c_long {
    let Some(watch) = Watch::of_process() else {
        return act();
    };
    let call = match (watch.name(old.0, old.1), watch.name(new.0, new.1)) {
        (None, None) => return act(),
        (Some(from), Some(to)) if flags & !libc::RENAME_NOREPLACE == 0 => {
            Call::Renamed { from, to }
        }
        _ => strange("rename into or out of the folder, or an exchange"),
    };
    let _turn = watch.turn();
    let result = act();
    if 0 <= result {
        watch.write_down(&call);
    }
    result
}
