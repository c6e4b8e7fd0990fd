//! The few system calls that need `unsafe`, each behind a safe function.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which side of a fork we are on.
pub enum Side {
    /// The new process.
    Child,
    /// The old one; holds the child's id.
    Parent(i32),
}

/// Takes ownership of a descriptor that the kernel has just given to this process.
pub fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass descriptors fresh from the kernel that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Forks into new namespaces. The caller must be single-threaded.
pub fn clone_into(namespaces: libc::c_int) -> io::Result<Side> {
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack this is fork(2): the child has a copy of all
    // memory and goes on here. The process is single-threaded, so no lock can be held by another
    // thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => Ok(Side::Child),
        pid if 0 < pid => Ok(Side::Parent(i32::try_from(pid).unwrap_or(i32::MAX))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forks. The caller must be single-threaded.
pub fn fork() -> io::Result<Side> {
    clone_into(0)
}

/// Ends this process at once, without destructors.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Drops every capability from all sets, for this process and all that it will start.
pub fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    for capability in 0..64_u64 {
        // SAFETY: PR_CAPBSET_DROP takes a number; one that the kernel does not know is EINVAL.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let none = || Sets {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };
    let sets = [none(), none()];
    // SAFETY: version 3 reads one header and two sets; both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
}

/// Loads a seccomp filter for this process and all that it will start.
pub fn set_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `len` instructions from memory that outlives the call.
    let answer = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
            0,
            0,
        )
    };
    check(answer.into())
}

/// Writes everything of the file system behind a descriptor to its device.
pub fn sync_file_system(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a valid descriptor and no pointers.
    check(unsafe { libc::syncfs(fd.as_raw_fd()) }.into())
}

/// Runs an ioctl that reads and writes one structure.
///
/// `argument` must be the structure that the kernel expects for `request`.
pub fn ioctl<T>(fd: BorrowedFd<'_>, request: u64, argument: &mut T) -> io::Result<()> {
    let request = request as libc::Ioctl;
    // SAFETY: the descriptor is valid; the structure is exclusively ours and, by this function's
    // contract, what the request expects.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) }.into())
}

/// Makes descriptors above the standard three close themselves in programs that we start.
pub fn close_on_exec() {
    // SAFETY: close_range takes numbers only; an old kernel answers ENOSYS, and then the
    // descriptors that std opens are marked already.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 4) };
}

fn check(answer: libc::c_long) -> io::Result<()> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
