//! A library for `LD_PRELOAD` that writes down what a program does to the files of one folder.
//!
//! ```text
//!   program ── write(2), rename(2), fdatasync(2) … ──► here ──► kernel
//!                                                      └─────► log, in the order of the calls
//! ```
//! `MESHSTEAD_POWERCUT_FOLDER` names the folder, `MESHSTEAD_POWERCUT_LOG` the log, whose form is
//! [`mesh_tests::calls`]. Nothing else is touched: what is no file of the folder goes straight to
//! the kernel. Calls on files of the folder wait for each other, so that the log has their order;
//! a child between fork and exec is not listened to, for the lock may be held by a thread that it
//! has not. What would escape the log is refused (`copy_file_range` and its like, after which
//! programs write themselves) or written down as [`Call::Strange`].
//!
//! [`Call::Strange`]: mesh_tests::calls::Call::Strange
//!
//! Only this library has functions with the names of libc's own; each hands its caller's arguments
//! on as they are. The third argument of `open` and `fcntl` is of any number in C; on the machines
//! that we build for it comes in the register of a third argument.

mod kernel;
mod watch;

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};

use mesh_tests::calls::Call;
use nix::libc::{self, iovec, mode_t, off_t, size_t, ssize_t};

use self::kernel::{call, refuse};
use self::watch::{Opening, Watch, on_file, on_name, on_two_names};

/// Defines functions that hand an opening of a file on.
macro_rules! opens {
    ($($name:ident($($argument:ident: $kind:ty),*) = $opening:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
            let opening = $opening;
            // SAFETY: the caller promises of its arguments what the kernel wants.
            unsafe { watch::open(opening) }
        }
    )*};
}

opens! {
    open(path: *const c_char, flags: c_int, mode: mode_t) =
        Opening { folder: libc::AT_FDCWD, path, flags, mode };
    open64(path: *const c_char, flags: c_int, mode: mode_t) =
        Opening { folder: libc::AT_FDCWD, path, flags, mode };
    openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) =
        Opening { folder, path, flags, mode };
    openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) =
        Opening { folder, path, flags, mode };
    creat(path: *const c_char, mode: mode_t) =
        Opening { folder: libc::AT_FDCWD, path, flags: NEW, mode };
    creat64(path: *const c_char, mode: mode_t) =
        Opening { folder: libc::AT_FDCWD, path, flags: NEW, mode };
}

/// What creat(2) opens with.
const NEW: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;

/// Defines functions that hand a call on a descriptor on. What follows the arrow is written down
/// if the call went well.
macro_rules! files {
    ($($name:ident($fd:ident: c_int $(, $argument:ident: $kind:ty)*) -> $result:ty =
        $number:ident, $after:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($fd: c_int $(, $argument: $kind)*) -> $result {
            let arguments = kernel::arguments(&[$fd as c_long $(, $argument as c_long)*]);
            // SAFETY: the caller promises of its arguments what the kernel wants.
            let act = || unsafe { call(libc::$number, arguments) };
            on_file($fd, act, $after) as $result
        }
    )*};
}

files! {
    fsync(fd: c_int) -> c_int = SYS_fsync, |file, _| Some(file.synced());
    fdatasync(fd: c_int) -> c_int = SYS_fdatasync, |file, _| Some(file.synced());
    sync_file_range(fd: c_int, at: off_t, len: off_t, flags: c_uint) -> c_int =
        SYS_sync_file_range, |file, _| Some(file.hurried());
    ftruncate(fd: c_int, len: off_t) -> c_int = SYS_ftruncate, |file, _| Some(file.sized());
    ftruncate64(fd: c_int, len: off_t) -> c_int = SYS_ftruncate, |file, _| Some(file.sized());
    fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int =
        SYS_fallocate, move |file, _| file.allocated(mode);
    fallocate64(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int =
        SYS_fallocate, move |file, _| file.allocated(mode);
    write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t = SYS_write,
        // SAFETY: the kernel has just read as many bytes from there.
        move |file, count| file.wrote(None, unsafe { kernel::bytes(bytes, count) });
    pwrite(fd: c_int, bytes: *const c_void, len: size_t, at: off_t) -> ssize_t = SYS_pwrite64,
        // SAFETY: the kernel has just read as many bytes from there.
        move |file, count| file.wrote(Some(at), unsafe { kernel::bytes(bytes, count) });
    pwrite64(fd: c_int, bytes: *const c_void, len: size_t, at: off_t) -> ssize_t = SYS_pwrite64,
        // SAFETY: the kernel has just read as many bytes from there.
        move |file, count| file.wrote(Some(at), unsafe { kernel::bytes(bytes, count) });
    writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t = SYS_writev,
        // SAFETY: the kernel has just read as many bytes from these parts.
        move |file, len| file.wrote(None, unsafe { kernel::gathered(parts, count, len) });
    pwritev(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t = SYS_pwritev,
        // SAFETY: the kernel has just read as many bytes from these parts.
        move |file, len| file.wrote(Some(at), unsafe { kernel::gathered(parts, count, len) });
    pwritev64(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t = SYS_pwritev,
        // SAFETY: the kernel has just read as many bytes from these parts.
        move |file, len| file.wrote(Some(at), unsafe { kernel::gathered(parts, count, len) });
}

#[unsafe(no_mangle)]
extern "C" fn posix_fallocate(fd: c_int, at: off_t, len: off_t) -> c_int {
    // SAFETY: three numbers.
    match unsafe { fallocate(fd, 0, at, len) } {
        0 => 0,
        _ => kernel::errno(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn posix_fallocate64(fd: c_int, at: off_t, len: off_t) -> c_int {
    posix_fallocate(fd, at, len)
}

/// Defines functions that hand a change of a name on.
macro_rules! names {
    ($($name:ident($($argument:ident: $kind:ty),*) = $number:ident($($handed:expr),*),
        $folder:expr, $path:ident, $after:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
            let arguments = kernel::arguments(&[$($handed as c_long),*]);
            // SAFETY: the caller promises of its arguments what the kernel wants.
            let act = || unsafe { call(libc::$number, arguments) };
            // SAFETY: the caller gives a path that ends with a zero.
            let path = unsafe { kernel::text($path) };
            on_name($folder, path, act, $after) as c_int
        }
    )*};
}

const HERE: c_int = libc::AT_FDCWD;

names! {
    unlink(path: *const c_char) = SYS_unlinkat(HERE, path, 0), HERE, path, watch::removed;
    unlinkat(folder: c_int, path: *const c_char, flags: c_int) =
        SYS_unlinkat(folder, path, flags), folder, path, watch::removed;
    rmdir(path: *const c_char) =
        SYS_unlinkat(HERE, path, libc::AT_REMOVEDIR), HERE, path, watch::removed;
    mkdir(path: *const c_char, mode: mode_t) =
        SYS_mkdirat(HERE, path, mode), HERE, path, watch::made_folder;
    mkdirat(folder: c_int, path: *const c_char, mode: mode_t) =
        SYS_mkdirat(folder, path, mode), folder, path, watch::made_folder;
    truncate(path: *const c_char, len: off_t) =
        SYS_truncate(path, len), HERE, path, |_, _| watch::strange("truncate");
    truncate64(path: *const c_char, len: off_t) =
        SYS_truncate(path, len), HERE, path, |_, _| watch::strange("truncate");
    symlink(target: *const c_char, path: *const c_char) =
        SYS_symlinkat(target, HERE, path), HERE, path, |_, _| watch::strange("symlink");
    symlinkat(target: *const c_char, folder: c_int, path: *const c_char) =
        SYS_symlinkat(target, folder, path), folder, path, |_, _| watch::strange("symlink");
    link(old: *const c_char, path: *const c_char) =
        SYS_linkat(HERE, old, HERE, path, 0), HERE, path, |_, _| watch::strange("link");
    linkat(from: c_int, old: *const c_char, folder: c_int, path: *const c_char, flags: c_int) =
        SYS_linkat(from, old, folder, path, flags), folder, path, |_, _| watch::strange("link");
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's own promise.
    unsafe { renameat2(HERE, from, HERE, to, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    old: c_int,
    from: *const c_char,
    new: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: the caller's own promise.
    unsafe { renameat2(old, from, new, to, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    old: c_int,
    from: *const c_char,
    new: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    let arguments = [old as c_long, from as c_long, new as c_long, to as c_long];
    let arguments = kernel::arguments(&[&arguments[..], &[flags as c_long]].concat());
    // SAFETY: the caller promises of its arguments what the kernel wants.
    let act = || unsafe { call(libc::SYS_renameat2, arguments) };
    // SAFETY: the caller gives paths that end with a zero.
    let (from, to) = unsafe { (kernel::text(from), kernel::text(to)) };
    on_two_names((old, from), (new, to), act, flags) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn close(fd: c_int) -> c_int {
    // Before the kernel gives the number to somebody else.
    Watch::forget(fd);
    // SAFETY: one number.
    unsafe { call(libc::SYS_close, kernel::arguments(&[fd as c_long])) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn dup(fd: c_int) -> c_int {
    fcntl(fd, libc::F_DUPFD, 0)
}

#[unsafe(no_mangle)]
extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    match old == new {
        // dup3(2) takes no two equal numbers; this asks only whether it is open.
        true => match fcntl(old, libc::F_GETFD, 0) {
            -1 => -1,
            _ => new,
        },
        false => dup3(old, new, 0),
    }
}

#[unsafe(no_mangle)]
extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    Watch::forget(new);
    let arguments = kernel::arguments(&[old, new, flags].map(c_long::from));
    // SAFETY: three numbers.
    let copy = unsafe { call(libc::SYS_dup3, arguments) as c_int };
    Watch::copied(old, copy);
    copy
}

#[unsafe(no_mangle)]
extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    let arguments = kernel::arguments(&[fd as c_long, command as c_long, argument]);
    // SAFETY: what the third argument is, only caller and kernel know.
    let result = unsafe { call(libc::SYS_fcntl, arguments) as c_int };
    if command == libc::F_DUPFD || command == libc::F_DUPFD_CLOEXEC {
        Watch::copied(fd, result);
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
    fcntl(fd, command, argument)
}

/// Defines functions that move bytes without showing them: refused on files of the folder, after
/// which programs read and write by themselves.
macro_rules! moves {
    ($($name:ident($($argument:ident: $kind:ty),*) = $number:ident, $target:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $kind),*) -> ssize_t {
            if Watch::has($target) {
                return refuse(libc::EINVAL) as ssize_t;
            }
            let arguments = kernel::arguments(&[$($argument as c_long),*]);
            // SAFETY: the caller promises of its arguments what the kernel wants.
            unsafe { call(libc::$number, arguments) as ssize_t }
        }
    )*};
}

moves! {
    copy_file_range(from: c_int, at: *mut off_t, to: c_int, there: *mut off_t, len: size_t,
        flags: c_uint) = SYS_copy_file_range, to;
    sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) = SYS_sendfile, to;
    sendfile64(to: c_int, from: c_int, at: *mut off_t, len: size_t) = SYS_sendfile, to;
    splice(from: c_int, at: *mut off_t, to: c_int, there: *mut off_t, len: size_t,
        flags: c_uint) = SYS_splice, to;
}

/// What was done to a file, in the words of the log.
impl watch::Watched {
    fn synced(&self) -> Call {
        Call::Synced {
            number: self.number,
        }
    }

    fn hurried(&self) -> Call {
        Call::Hurried {
            number: self.number,
        }
    }

    fn sized(&self) -> Call {
        Call::Sized {
            number: self.number,
            len: self.len(),
        }
    }

    /// Growing is understood; holes and moved ranges are not.
    fn allocated(&self, mode: c_int) -> Option<Call> {
        match mode {
            0 => Some(self.sized()),
            // Room that is set aside beyond the end is nothing that can be read.
            libc::FALLOC_FL_KEEP_SIZE => None,
            _ => Some(watch::strange("fallocate")),
        }
    }

    /// Without a place the bytes end where the descriptor stands now.
    fn wrote(&self, at: Option<off_t>, bytes: Vec<u8>) -> Option<Call> {
        if bytes.is_empty() {
            return None;
        }
        let at = match at {
            Some(at) => at as u64,
            None => self.position().saturating_sub(bytes.len() as u64),
        };
        Some(Call::Wrote {
            number: self.number,
            at,
            bytes,
        })
    }
}
