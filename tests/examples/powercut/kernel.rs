//! What the shim asks of the kernel and of the memory of its program; nothing is decided here.
//!
//! System calls are made by number: the functions of these names are the shim's own.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use nix::libc::{self, iovec};

/// Fills arguments up to the six that a system call can have.
pub fn arguments(given: &[c_long]) -> [c_long; 6] {
    let mut all = [0; 6];
    for (place, argument) in all.iter_mut().zip(given) {
        *place = *argument;
    }
    all
}

/// Makes a system call; errno is set as libc's own functions set it.
///
/// # Safety
/// The arguments are what this call wants.
pub unsafe fn call(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// Returns why the last call failed.
pub fn errno() -> c_int {
    // SAFETY: every thread has its own errno.
    unsafe { *libc::__errno_location() }
}

/// Fails as a call fails.
pub fn refuse(errno: c_int) -> c_long {
    // SAFETY: every thread has its own errno.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// Returns the text at a pointer; empty if there is none.
///
/// # Safety
/// It is null, or ends with a zero and stays as long as it is used.
pub unsafe fn text<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// Copies bytes of the program.
///
/// # Safety
/// There are as many.
pub unsafe fn bytes(bytes: *const c_void, len: c_long) -> Vec<u8> {
    match usize::try_from(len) {
        Ok(len) if 0 < len && !bytes.is_null() => {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len) }.to_vec()
        }
        _ => Vec::new(),
    }
}

/// Copies the first `len` bytes of several parts.
///
/// # Safety
/// There are as many parts, and each is what it says.
pub unsafe fn gathered(parts: *const iovec, count: c_int, len: c_long) -> Vec<u8> {
    let (Ok(count), Ok(len)) = (usize::try_from(count), usize::try_from(len)) else {
        return Vec::new();
    };
    if count == 0 || parts.is_null() {
        return Vec::new();
    }
    let mut all = Vec::with_capacity(len);
    // SAFETY: the caller's promise.
    for part in unsafe { std::slice::from_raw_parts(parts, count) } {
        let wanted = part.iov_len.min(len - all.len());
        // SAFETY: the caller's promise; no part holds more than the memory that there is.
        all.extend(unsafe { bytes(part.iov_base, wanted as c_long) });
    }
    all
}

/// Returns what a descriptor is; none if it is not open.
pub fn stat(fd: c_int) -> Option<libc::stat> {
    // SAFETY: zeros are a lawful value of a structure of numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    (unsafe { libc::fstat(fd, &mut stat) } == 0).then_some(stat)
}

/// Returns what stands at a path, itself if it is a link; none if nothing does.
pub fn stat_at(folder: c_int, path: &CStr) -> Option<libc::stat> {
    // SAFETY: zeros are a lawful value of a structure of numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the structure is ours, and the path ends with a zero.
    (unsafe { libc::fstatat(folder, path.as_ptr(), &mut stat, flags) } == 0).then_some(stat)
}

/// Returns where a descriptor stands in its file.
pub fn position(fd: c_int) -> u64 {
    // SAFETY: three numbers.
    let position = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
    u64::try_from(position).unwrap_or(0)
}

/// Returns where a link leads, such as those of proc(5).
pub fn read_link(path: &CStr) -> Option<Vec<u8>> {
    let mut target = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is ours and as long as we say, and the path ends with a zero.
    let len = unsafe { libc::readlink(path.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    target.truncate(usize::try_from(len).ok()?);
    Some(target)
}

/// Waits until nobody else has locked a file by another opening of it, and locks it.
pub fn lock(fd: c_int) {
    // SAFETY: two numbers.
    while unsafe { libc::flock(fd, libc::LOCK_EX) } != 0 {
        if errno() != libc::EINTR {
            abort("cannot lock the log");
        }
    }
}

/// Gives a lock back.
pub fn unlock(fd: c_int) {
    // SAFETY: two numbers.
    if unsafe { libc::flock(fd, libc::LOCK_UN) } != 0 {
        abort("cannot unlock the log");
    }
}

/// Returns the process that we are.
pub fn process() -> c_int {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// Ends the program: a log with a hole in it would prove what is not so.
pub fn abort(why: &str) -> ! {
    eprintln!("powercut: {why}");
    std::process::abort()
}
