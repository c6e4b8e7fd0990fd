//! The few system calls that need `unsafe`, each behind a safe function.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

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

/// Names a filter as the kernel wants it; valid as long as the filter is.
fn listed(program: &[libc::sock_filter]) -> io::Result<libc::sock_fprog> {
    Ok(libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    })
}

/// Loads a seccomp filter for this process and all that it will start.
pub fn set_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = listed(program)?;
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

/// Loads a filter that asks, for this process and all that it will start; returns the descriptor on
/// which it does.
pub fn set_asking_filter(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = listed(program)?;
    let load = |flags: libc::c_ulong| {
        // SAFETY: the kernel reads `len` instructions from memory that outlives the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
                flags,
                &raw const program,
            )
        };
        check(answer).map(|()| own(i32::try_from(answer).unwrap_or(-1)))
    };
    let least = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // With it a signal does not begin anew what has been half made (Linux 5.19).
    load(least | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).or_else(|_| load(least))
}

/// Waits for a call that a filter asks about.
pub fn next_call(asked: BorrowedFd<'_>) -> io::Result<libc::seccomp_notif> {
    // SAFETY: the structure is made of numbers; the kernel wants it zeroed.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    ioctl(asked, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut call)?;
    Ok(call)
}

/// Checks that a call still waits.
pub fn is_still_asked(asked: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    let mut id = id;
    let checked = ioctl(asked, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id);
    checked.map_err(|_| Errno::ESRCH)
}

/// Ends a call with what it returns, or its error.
pub fn end_call(asked: BorrowedFd<'_>, id: u64, made: Result<i64, Errno>) -> io::Result<()> {
    let error = made.err().map_or(0, |errno| -(errno as i32));
    reply(asked, id, made.unwrap_or_default(), error, 0)
}

/// Lets the kernel make a call.
pub fn let_go(asked: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or_default();
    reply(asked, id, 0, 0, flags)
}

fn reply(asked: BorrowedFd<'_>, id: u64, val: i64, error: i32, flags: u32) -> io::Result<()> {
    let mut reply = libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    };
    ioctl(asked, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut reply)
}

/// Copies a descriptor of another process (Linux 5.6).
pub fn copy_of(pid: i32, number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: both calls take numbers only.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let process = own(i32::try_from(Errno::result(process)?).unwrap_or(-1));
    let raw = process.as_raw_fd();
    // SAFETY: as above; the descriptor of the process is open until the end of this function.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, raw, number, 0) };
    Ok(own(i32::try_from(Errno::result(copy)?).unwrap_or(-1)))
}

/// Ends what a socket is connected to (connect(2), `AF_UNSPEC`).
pub fn disconnect(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let nothing = libc::sockaddr {
        sa_family: libc::sa_family_t::try_from(libc::AF_UNSPEC).unwrap_or_default(),
        sa_data: [0; 14],
    };
    let len = libc::socklen_t::try_from(size_of_val(&nothing)).unwrap_or_default();
    // SAFETY: the kernel reads `len` bytes of a structure that outlives the call.
    let answer = unsafe { libc::connect(socket.as_raw_fd(), &raw const nothing, len) };
    Errno::result(answer).map(drop)
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
