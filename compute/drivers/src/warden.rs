//! Makes or allows the system calls that an instance without namespaces may not make by itself.
//!
//! ```text
//!   instance: bind [::]:5432 ─► kernel stops it (seccomp_unotify(2)) ─► shim: this warden
//!                                  └◄── done, by the warden, on 127.x.y.z:5432 ◄──┘
//! ```
//! Addresses are read once, and the call is made here on a copy of the descriptor: what the
//! instance writes over its memory meanwhile changes nothing. Only numbers that the kernel has
//! already taken over, ids of processes, are checked and let through. Local sockets are found
//! below the folders that the instance was given, whatever links it has put there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libc::{c_int, c_long, seccomp_notif};
use mesh_compute::doors::{Closed, Doors, Family};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, Backlog, Shutdown, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage,
    UnixAddr, getsockname, setsockopt, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use crate::folders::{Folder, Side, place};
use crate::heap::Heaps;
use crate::seccomp::CHMOD;
use crate::wall::{self, Ground};
use crate::{kin, sys};

/// What an instance was given.
#[derive(Debug)]
pub struct Grounds {
    /// Its folders.
    pub folders: Vec<Folder>,
    /// Where its sockets listen.
    pub doors: Doors,
    /// Its service address.
    pub address: Option<Ipv6Addr>,
}

/// Answers the calls of one instance.
#[derive(Debug)]
pub struct Warden {
    asked: Arc<OwnedFd>,
    grounds: Grounds,
    /// The process below which everything of the instance is.
    first: i32,
    listening: BTreeSet<SocketAddrV4>,
    heaps: Heaps,
}

/// How a call ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The kernel makes it.
    GoOn,
    /// It was made here and returns this, or is refused.
    Made(Result<i64, Errno>),
    /// Somebody else answers.
    Later,
}

impl End {
    /// Of a call that returns 0 when it succeeds.
    fn done(made: Result<(), Errno>) -> Self {
        Self::Made(made.map(|()| 0))
    }
}

/// Longest address of a socket: the kernel's `sockaddr_storage`.
const ADDRESS_LEN_MAX: usize = 128;
/// Offset of the path in the kernel's `sockaddr_un`.
const PATH_AT: usize = 2;

impl Warden {
    /// Takes over the descriptor on which the filter asks, for everything below the process
    /// `first`.
    pub fn new(asked: OwnedFd, grounds: Grounds, first: i32) -> Self {
        Self {
            asked: Arc::new(asked),
            grounds,
            first,
            listening: BTreeSet::new(),
            heaps: Heaps::default(),
        }
    }

    /// Answers on a thread of its own as long as anybody can ask: what a service does to its own
    /// sockets may keep whoever closes a copy waiting.
    ///
    /// # Errors
    /// There are no threads left.
    pub fn start(mut self) -> io::Result<()> {
        let answer = move || while self.is_asked() && self.answer_one().is_ok() {};
        std::thread::Builder::new().spawn(answer).map(drop)
    }

    /// Waits for a question; false when all who could ask are gone.
    fn is_asked(&self) -> bool {
        loop {
            let mut fds = [PollFd::new(self.asked.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(_) => return false,
                Ok(_) => {
                    let [asked] = fds;
                    let seen = asked.revents();
                    return seen.is_some_and(|seen| seen.contains(PollFlags::POLLIN));
                }
            }
        }
    }

    /// Answers one question.
    ///
    /// # Errors
    /// Nobody asks any more.
    fn answer_one(&mut self) -> io::Result<()> {
        let call = match sys::next_call(self.asked.as_fd()) {
            Ok(call) => call,
            // Whoever asked was killed meanwhile, or we were interrupted.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let end = self.decide(&call);
        answer(self.asked.as_fd(), call.id, &end);
        Ok(())
    }

    fn decide(&mut self, call: &seccomp_notif) -> End {
        let number = c_long::from(call.data.nr);
        let made = match number {
            libc::SYS_connect => {
                let connected = self.connect(call);
                return connected.unwrap_or_else(|errno| End::Made(Err(errno)));
            }
            libc::SYS_mmap => {
                let place = self.heaps.place(call);
                return place.map_or(End::GoOn, |place| End::Made(Ok(place)));
            }
            libc::SYS_bind => self.bind(call),
            libc::SYS_listen => self.listen(call),
            libc::SYS_fchmod => self.set_mode_of_open(call),
            libc::SYS_fchmodat => {
                let [from, path, mode, ..] = call.data.args;
                self.set_mode(call, low(from), path, mode)
            }
            number if Some(number) == CHMOD => {
                let [path, mode, ..] = call.data.args;
                self.set_mode(call, libc::AT_FDCWD, path, mode)
            }
            _ => return self.judge(number, call),
        };
        End::done(made)
    }

    /// Decides on a call that names other processes.
    fn judge(&self, number: c_long, call: &seccomp_notif) -> End {
        let [first, second, third, ..] = call.data.args;
        let may = match number {
            libc::SYS_kill => self.may_signal(low(first)),
            libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => {
                self.is_ours(low(first)) && self.is_ours(low(second))
            }
            libc::SYS_setpriority => low(first) == PRIO_PROCESS && self.is_self_or_ours(second),
            libc::SYS_ioprio_set => {
                low(first) == IOPRIO_WHO_PROCESS && self.is_self_or_ours(second)
            }
            libc::SYS_fcntl => self.may_signal(low(third)),
            _ => self.is_self_or_ours(first),
        };
        if may {
            End::GoOn
        } else {
            End::Made(Err(Errno::EPERM))
        }
    }

    /// A number as kill(2) takes it: a process, the caller's group, or a group.
    fn may_signal(&self, number: i32) -> bool {
        match number {
            // Each program that we start has a session of its own, and groups end at sessions.
            0 => true,
            -1 => false,
            _ if number < 0 => kin::group_descends(number.saturating_neg(), self.first),
            _ => self.is_ours(number),
        }
    }

    fn is_ours(&self, pid: i32) -> bool {
        0 < pid && kin::descends(pid, self.first)
    }

    fn is_self_or_ours(&self, argument: u64) -> bool {
        low(argument) == 0 || self.is_ours(low(argument))
    }

    fn bind(&self, call: &seccomp_notif) -> Result<(), Errno> {
        let (socket, address) = self.socket_and_address(call)?;
        match address {
            Address::Inet(wanted) => {
                let to = self.grounds.doors.to_bind(self.grounds.address, wanted);
                bind_inet(&socket, to.map_err(|_| Errno::EADDRNOTAVAIL)?)
            }
            Address::Path(path) => {
                let path = self.absolute(call, &path)?;
                let (base, rest) = self.place(&path)?;
                self.bind_below(&socket, &UnixAddr::new(&base.join(rest))?)
            }
            // The kernel chooses a name that nobody else has.
            Address::Unnamed => socket::bind(socket.as_raw_fd(), &UnixAddr::new_unnamed()),
            Address::Nothing => Err(Errno::EINVAL),
        }
    }

    /// Makes a local socket. The instance is told its name and may turn any folder of it into a
    /// link meanwhile, so this is done where Landlock lets nobody make anything but in its folders.
    fn bind_below(&self, socket: &OwnedFd, name: &UnixAddr) -> Result<(), Errno> {
        let folders = self.grounds.folders.iter();
        let ground = Ground {
            write: folders.map(|folder| folder.outside.clone()).collect(),
            ..Ground::default()
        };
        std::thread::scope(|scope| {
            let make = move || {
                wall::shut_in_with(&ground).map_err(|_| Errno::EACCES)?;
                socket::bind(socket.as_raw_fd(), name)
            };
            let made = std::thread::Builder::new().spawn_scoped(scope, make);
            let made = made.map_err(|_| Errno::EAGAIN)?.join();
            made.unwrap_or(Err(Errno::EACCES))
        })
    }

    /// A socket without an address would get one of the whole machine; also one that had an
    /// address, and lost it with its connection.
    fn listen(&mut self, call: &seccomp_notif) -> Result<(), Errno> {
        let socket = self.socket(call)?;
        let of = match family(&socket)? {
            AddressFamily::Inet => Some(Family::V4),
            AddressFamily::Inet6 => Some(Family::V6),
            _ => None,
        };
        if let Some(of) = of
            && !self.is_at_a_door(&socket)?
        {
            bind_inet(&socket, self.grounds.doors.outside(of, 0))?;
            if !self.is_at_a_door(&socket)? {
                return Err(Errno::EADDRNOTAVAIL);
            }
        }
        let [_, backlog, ..] = call.data.args;
        let backlog = Backlog::new(low(backlog).clamp(0, BACKLOG_MAX))?;
        socket::listen(&socket, backlog)?;
        if of.is_some() && !self.is_at_a_door(&socket)? {
            // It was disconnected meanwhile.
            let _ = socket::shutdown(socket.as_raw_fd(), Shutdown::Both);
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.listening.extend(own_address(&socket)?);
        Ok(())
    }

    fn is_at_a_door(&self, socket: &OwnedFd) -> Result<bool, Errno> {
        let own = own_address(socket)?;
        Ok(own.is_some_and(|own| self.grounds.doors.holds(*own.ip())))
    }

    /// Sets the mode of what is open, if it lies in the instance's folders.
    fn set_mode_of_open(&self, call: &seccomp_notif) -> Result<(), Errno> {
        let [_, mode, ..] = call.data.args;
        let file = self.socket(call)?;
        let at = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let at = at.map_err(|_| Errno::EACCES)?;
        if place(&self.grounds.folders, &at, Side::Outside).is_none() {
            return Err(Errno::EPERM);
        }
        fchmod(&file, lawful(mode))
    }

    /// Sets the mode of what a path leads to.
    fn set_mode(&self, call: &seccomp_notif, from: i32, path: u64, mode: u64) -> Result<(), Errno> {
        let path = self.read_path(call, path)?;
        if !path.is_absolute() && from != libc::AT_FDCWD {
            return Err(Errno::EPERM);
        }
        let file = self.open(call, &path, OFlag::O_PATH)?;
        let at = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = FchmodatFlags::FollowSymlink;
        fchmodat(AT_FDCWD, at.as_str(), lawful(mode), flags)
    }

    /// Reads a path that the instance wrote.
    fn read_path(&self, call: &seccomp_notif, at: u64) -> Result<PathBuf, Errno> {
        let mut base = usize::try_from(at).map_err(|_| Errno::EFAULT)?;
        let mut path = Vec::new();
        while path.len() < PATH_LEN_MAX {
            // Up to the end of a page: the next one need not be there.
            let len = PAGE_LEN - base % PAGE_LEN;
            let bytes = read_memory(call, base, len)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                path.extend_from_slice(bytes.get(..end).unwrap_or_default());
                self.check(call)?;
                return Ok(PathBuf::from(OsString::from_vec(path)));
            }
            path.extend_from_slice(&bytes);
            base = base.checked_add(len).ok_or(Errno::EFAULT)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    fn connect(&self, call: &seccomp_notif) -> Result<End, Errno> {
        let (socket, address) = self.socket_and_address(call)?;
        match address {
            Address::Inet(wanted) => {
                let grounds = &self.grounds;
                let to = grounds
                    .doors
                    .to_connect(grounds.address, wanted, |way| self.listening.contains(&way));
                let to = to.map_err(|closed| match closed {
                    Closed::NotOwn => Errno::ENETUNREACH,
                    Closed::NobodyListens => Errno::ECONNREFUSED,
                })?;
                if family(&socket)? == AddressFamily::Inet6 {
                    // Refused for a socket that has an address already; then it fits or fails.
                    let _ = setsockopt(&socket, sockopt::Ipv6V6Only, &false);
                    Ok(self.connect_to(call, socket, mapped(to), None))
                } else {
                    Ok(self.connect_to(call, socket, SockaddrIn::from(to), None))
                }
            }
            Address::Path(path) => {
                let there = self.open(call, &path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
                let at = format!("/proc/self/fd/{}", there.as_raw_fd());
                let to = UnixAddr::new(at.as_str())?;
                Ok(self.connect_to(call, socket, to, Some(there)))
            }
            // That of other programs of this machine.
            Address::Unnamed => Err(Errno::ECONNREFUSED),
            Address::Nothing => Ok(End::done(sys::disconnect(socket.as_fd()))),
        }
    }

    /// Connects; one that may have to wait for its peer does so on a thread of its own. `held` must
    /// stay open until it is done.
    fn connect_to(
        &self,
        call: &seccomp_notif,
        socket: OwnedFd,
        to: impl SockaddrLike + Send + 'static,
        held: Option<OwnedFd>,
    ) -> End {
        let flags = fcntl(&socket, FcntlArg::F_GETFL).unwrap_or(0);
        if OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK) {
            return End::done(socket::connect(socket.as_raw_fd(), &to));
        }
        if WAITING_MAX <= Arc::strong_count(&self.asked) {
            return End::Made(Err(Errno::EAGAIN));
        }
        let (asked, id) = (Arc::clone(&self.asked), call.id);
        let wait = move || {
            let made = socket::connect(socket.as_raw_fd(), &to);
            drop(held);
            answer(asked.as_fd(), id, &End::done(made));
        };
        match std::thread::Builder::new().spawn(wait) {
            Ok(_) => End::Later,
            Err(_) => End::Made(Err(Errno::EAGAIN)),
        }
    }

    fn socket(&self, call: &seccomp_notif) -> Result<OwnedFd, Errno> {
        let [number, ..] = call.data.args;
        let process = kin::process_of(call.pid).ok_or(Errno::ESRCH)?;
        let socket = sys::copy_of(process, low(number))?;
        self.check(call)?;
        Ok(socket)
    }

    fn socket_and_address(&self, call: &seccomp_notif) -> Result<(OwnedFd, Address), Errno> {
        let [_, at, len, ..] = call.data.args;
        let len = usize::try_from(low(len)).unwrap_or(usize::MAX);
        if ADDRESS_LEN_MAX < len {
            return Err(Errno::EINVAL);
        }
        let base = usize::try_from(at).map_err(|_| Errno::EFAULT)?;
        let address = Address::read(&read_memory(call, base, len)?)?;
        Ok((self.socket(call)?, address))
    }

    /// Checks that whoever asked still waits: its id could name another process by now.
    fn check(&self, call: &seccomp_notif) -> Result<(), Errno> {
        sys::is_still_asked(self.asked.as_fd(), call.id)
    }

    /// Finds where a path of the instance leads. It may have been put in the machine's words
    /// already, by what shows the tree as the root.
    fn place(&self, path: &Path) -> Result<(&Path, PathBuf), Errno> {
        let folders = &self.grounds.folders;
        let placed = place(folders, path, Side::Outside);
        let placed = placed.or_else(|| place(folders, path, Side::Inside));
        placed.ok_or(Errno::EACCES)
    }

    /// Opens what a path of the instance leads to, without ever leaving its folders.
    fn open(&self, call: &seccomp_notif, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let path = self.absolute(call, path)?;
        let (base, rest) = self.place(&path)?;
        let base = File::open(base).map_err(|_| Errno::EACCES)?;
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&base, rest.as_path(), how)
    }

    /// Makes a path absolute.
    fn absolute(&self, call: &seccomp_notif, path: &Path) -> Result<PathBuf, Errno> {
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let cwd = std::fs::read_link(format!("/proc/{}/cwd", call.pid));
        let cwd = cwd.map_err(|_| Errno::EACCES)?;
        self.check(call)?;
        Ok(cwd.join(path))
    }
}

/// `PRIO_PROCESS` of setpriority(2) and `IOPRIO_WHO_PROCESS` of ioprio_set(2).
const PRIO_PROCESS: i32 = 0;
const IOPRIO_WHO_PROCESS: i32 = 1;
/// Most connections that wait for their peers at a time.
const WAITING_MAX: usize = 64;
/// Longest path that the kernel takes, and a unit in which memory is there or not.
const PATH_LEN_MAX: usize = 4096;
const PAGE_LEN: usize = 4096;
/// More waiting connections than the kernel lets wait.
const BACKLOG_MAX: i32 = 4096;

/// The address in a call.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Inet(SocketAddr),
    /// A local socket with a path.
    Path(PathBuf),
    /// A local one for whose name the kernel cares.
    Unnamed,
    /// `AF_UNSPEC`: the end of a connection.
    Nothing,
}

impl Address {
    /// Reads what the instance wrote.
    ///
    /// # Errors
    /// The kernel would refuse it, or it names something of the whole machine.
    fn read(bytes: &[u8]) -> Result<Self, Errno> {
        let [low, high, rest @ ..] = bytes else {
            return Err(Errno::EINVAL);
        };
        let port = |at: &[u8]| match at {
            [high, low, ..] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(Errno::EINVAL),
        };
        match c_int::from(u16::from_ne_bytes([*low, *high])) {
            libc::AF_UNSPEC => Ok(Self::Nothing),
            libc::AF_INET => {
                let ip: [u8; 4] = part(rest, 2)?;
                Ok(Self::Inet((ip, port(rest)?).into()))
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = part(rest, 6)?;
                Ok(Self::Inet((ip, port(rest)?).into()))
            }
            libc::AF_UNIX if bytes.len() == PATH_AT => Ok(Self::Unnamed),
            // A name that no folder holds is seen by the whole machine.
            libc::AF_UNIX if rest.first() == Some(&0) => Err(Errno::EACCES),
            libc::AF_UNIX => {
                let len = rest.iter().position(|byte| *byte == 0);
                let path = rest.get(..len.unwrap_or(rest.len())).unwrap_or_default();
                let path = std::str::from_utf8(path).map_err(|_| Errno::EINVAL)?;
                Ok(Self::Path(path.into()))
            }
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }
}

fn part<const LEN: usize>(bytes: &[u8], at: usize) -> Result<[u8; LEN], Errno> {
    let part = bytes.get(at..).and_then(|rest| rest.get(..LEN));
    part.and_then(|part| part.try_into().ok())
        .ok_or(Errno::EINVAL)
}

/// Returns a mode without the bits by which a program runs as its owner.
fn lawful(mode: u64) -> Mode {
    Mode::from_bits_truncate(low(mode).cast_unsigned() & 0o1777)
}

/// The lower half of an argument, which is all that the kernel reads of an `int`.
fn low(argument: u64) -> i32 {
    let [a, b, c, d, ..] = argument.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// Reads so much of the memory of whoever made a call.
fn read_memory(call: &seccomp_notif, base: usize, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let from = [RemoteIoVec { base, len }];
    let pid = Pid::from_raw(low(call.pid.into()));
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &from)?;
    if read < len {
        return Err(Errno::EFAULT);
    }
    Ok(bytes)
}

fn bind_inet(socket: &OwnedFd, to: SocketAddrV4) -> Result<(), Errno> {
    if family(socket)? == AddressFamily::Inet6 {
        setsockopt(socket, sockopt::Ipv6V6Only, &false)?;
        socket::bind(socket.as_raw_fd(), &mapped(to))
    } else {
        socket::bind(socket.as_raw_fd(), &SockaddrIn::from(to))
    }
}

/// Returns an IPv4 address for a socket of IPv6.
fn mapped(to: SocketAddrV4) -> SockaddrIn6 {
    SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into()
}

fn family(socket: &OwnedFd) -> Result<AddressFamily, Errno> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    name.family().ok_or(Errno::ENOTSOCK)
}

/// Returns the IPv4 address that a socket has, mapped or not; none for another family.
fn own_address(socket: &OwnedFd) -> Result<Option<SocketAddrV4>, Errno> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let (ip, port) = match (name.as_sockaddr_in(), name.as_sockaddr_in6()) {
        (Some(name), _) => (name.ip(), name.port()),
        (_, Some(name)) => {
            let mapped = name.ip().to_ipv4_mapped();
            (mapped.unwrap_or(Ipv4Addr::UNSPECIFIED), name.port())
        }
        _ => return Ok(None),
    };
    Ok(Some(SocketAddrV4::new(ip, port)))
}

/// Ends a call; whoever made it may be gone already.
fn answer(asked: BorrowedFd<'_>, id: u64, end: &End) {
    let _ = match end {
        End::GoOn => sys::let_go(asked, id),
        End::Made(made) => sys::end_call(asked, id, *made),
        End::Later => Ok(()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_would() {
        let read = |family: c_int, rest: &[u8]| {
            let mut bytes = u16::try_from(family).unwrap().to_ne_bytes().to_vec();
            bytes.extend(rest);
            Address::read(&bytes)
        };
        let four = read(
            libc::AF_INET,
            &[0x15, 0x38, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        let want = "127.0.0.1:5432".parse().unwrap();
        assert_eq!(four, Ok(Address::Inet(want)));
        let mut six = vec![0, 80, 0, 0, 0, 0];
        six.extend(Ipv6Addr::LOCALHOST.octets());
        let want = "[::1]:80".parse().unwrap();
        assert_eq!(read(libc::AF_INET6, &six), Ok(Address::Inet(want)));
        assert_eq!(read(libc::AF_INET6, &six[..21]), Err(Errno::EINVAL));
        assert_eq!(read(libc::AF_INET, &[1]), Err(Errno::EINVAL));
        assert_eq!(read(libc::AF_UNIX, &[]), Ok(Address::Unnamed));
        assert_eq!(read(libc::AF_UNIX, b"\0name"), Err(Errno::EACCES));
        let path = Ok(Address::Path("/run/s".into()));
        assert_eq!(read(libc::AF_UNIX, b"/run/s\0rest"), path);
        assert_eq!(read(libc::AF_UNIX, b"/run/s"), path);
        assert_eq!(read(libc::AF_UNSPEC, &[0; 14]), Ok(Address::Nothing));
        assert_eq!(read(libc::AF_PACKET, &[0; 18]), Err(Errno::EAFNOSUPPORT));
        assert_eq!(Address::read(&[1]), Err(Errno::EINVAL));
    }
}
