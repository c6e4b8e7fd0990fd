//! A network namespace of our own, held by a helper process, for nodes that are not root.
//!
//! ```text
//!   daemon (any user, many threads)              helper `meshnode netns` (one thread, root in
//!        │                                       its own user and network namespace)
//!        ├── spawn, stdin = socket pair ────────► unshare, map uid and gid, make the TUN
//!        ├── own address ───────────────────────►
//!        │ ◄──────────────────────── fd of TUN ──┤
//!        ├── connect [address]:port ────────────►  socket, connect (does not wait)
//!        │ ◄───────────────────── fd of socket ──┤
//!        ├── listen on port ────────────────────►  socket, bind to our own address, listen
//!        │ ◄───────────────────── fd of socket ──┤
//!        ├── datagrams at port ─────────────────►  UDP socket, bind to our own address
//!        │ ◄───────────────────── fd of socket ──┤
//!        └── exits, or drops [`Namespace`] ─────►  reads end of file, exits
//! ```
//! A process with threads cannot enter a user namespace, hence the helper. Sockets made there and
//! used here give programs kernel TCP at both ends. End of file is the only tie: the kernel closes
//! our end whatever happens to us, while a death signal would also come when merely the thread that
//! spawned ends. [`crate::enter`] runs any program in the namespace.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, connect, listen, socket,
    socketpair,
};
use nix::unistd::{getegid, geteuid};

use crate::scm;
use crate::sys::lock;
use crate::tun::{self, TunError};

/// The argument with which the daemon's binary becomes the helper.
pub const HELPER_ARGUMENT: &str = "netns";
/// Name of the TUN in the namespace.
pub const TUN_NAME: &str = "mesh0";

/// Request: what is wanted, 16 bytes of address, 2 of port. The first is [`WANT_TUN`].
const REQUEST_LEN: usize = 19;
const WANT_TUN: u8 = 0;
const WANT_CONNECTION: u8 = 1;
const WANT_LISTENER: u8 = 2;
const WANT_DATAGRAMS: u8 = 3;
/// Connections that wait to be accepted: as many as the daemon lets stand at its gate.
const BACKLOG: i32 = 64;
/// Reply: a stage, and the number of the system's error.
const REPLY_LEN: usize = 5;

const STAGE_DONE: u8 = 0;
const STAGE_UNSHARE: u8 = 100;
const STAGE_MAP: u8 = 101;
const STAGE_SOCKET: u8 = 102;

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The helper's program does not run.
    #[error("cannot start the namespace helper {exe}")]
    Spawn {
        /// The program.
        exe: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The helper died or speaks another language.
    #[error("cannot talk to the namespace helper")]
    Helper(#[source] io::Error),
    /// The kernel gives us no namespace.
    #[error(
        "cannot make a network namespace of our own (allow it with `sysctl \
         kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`, \
         whichever exists, or run as root)"
    )]
    Unshare(#[source] io::Error),
    /// The kernel does not let the helper be root in its user namespace.
    #[error("cannot map our user into a user namespace")]
    Map(#[source] io::Error),
    /// No TUN in the namespace.
    #[error("cannot make a TUN in a network namespace of our own")]
    Tun(#[source] TunError),
}

/// A namespace with a TUN. Dropping it ends the helper and with it the namespace, if nobody else is
/// in.
#[derive(Debug)]
pub struct Namespace {
    helper: Child,
    socket: Mutex<OwnedFd>,
    tun: OwnedFd,
}

impl Namespace {
    /// Starts `exe netns` and waits until its TUN has the address `own`.
    pub fn spawn(exe: &Path, own: Ipv6Addr) -> Result<Self, NamespaceError> {
        let spawn_error = |source| NamespaceError::Spawn {
            exe: exe.to_owned(),
            source,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| spawn_error(errno.into()))?;
        let helper = Command::new(exe)
            .arg(HELPER_ARGUMENT)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // Of a group of its own: Ctrl-C is for the daemon, which then ends the helper in its
            // turn.
            .process_group(0)
            .spawn()
            .map_err(spawn_error)?;
        let mut reaper = Reaper(Some(helper));
        let tun = ask(&ours, &request(WANT_TUN, own, 0))?;
        let helper = reaper
            .0
            .take()
            .ok_or_else(|| spawn_error(Errno::ECHILD.into()))?;
        Ok(Self {
            helper,
            socket: Mutex::new(ours),
            tun,
        })
    }

    /// Returns another descriptor of the TUN, for [`crate::Config::host_tun`].
    pub fn tun(&self) -> io::Result<OwnedFd> {
        self.tun.try_clone()
    }

    /// Returns the helper's process, whose namespaces `nsenter` can enter.
    pub fn pid(&self) -> u32 {
        self.helper.id()
    }

    /// Makes a TCP socket in the namespace that is connecting to `to`. It does not block; it is
    /// connected or has failed when it is writable.
    pub fn connect(&self, to: SocketAddrV6) -> io::Result<OwnedFd> {
        self.socket_for(WANT_CONNECTION, *to.ip(), to.port())
    }

    /// Makes a TCP socket in the namespace that listens on a port of `own`. It does not block.
    pub fn listen(&self, own: Ipv6Addr, port: u16) -> io::Result<OwnedFd> {
        self.socket_for(WANT_LISTENER, own, port)
    }

    /// Makes a UDP socket in the namespace at a port of `own`. It does not block.
    pub fn datagrams(&self, own: Ipv6Addr, port: u16) -> io::Result<OwnedFd> {
        self.socket_for(WANT_DATAGRAMS, own, port)
    }

    fn socket_for(&self, want: u8, address: Ipv6Addr, port: u16) -> io::Result<OwnedFd> {
        let socket = lock(&self.socket);
        ask(&socket, &request(want, address, port)).map_err(|error| match error {
            NamespaceError::Helper(source) => source,
            other => io::Error::other(other),
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It holds nothing that needs a farewell.
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

/// Ends a helper that never became part of a [`Namespace`].
struct Reaper(Option<Child>);

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(helper) = &mut self.0 {
            let _ = helper.kill();
            let _ = helper.wait();
        }
    }
}

fn request(want: u8, address: Ipv6Addr, port: u16) -> [u8; REQUEST_LEN] {
    let mut bytes = [want; REQUEST_LEN];
    let (head, tail) = bytes.split_at_mut(17);
    if let Some((_, place)) = head.split_first_mut() {
        place.copy_from_slice(&address.octets());
    }
    tail.copy_from_slice(&port.to_be_bytes());
    bytes
}

fn ask(socket: &OwnedFd, request: &[u8]) -> Result<OwnedFd, NamespaceError> {
    scm::send(socket, request, None).map_err(NamespaceError::Helper)?;
    let mut reply = [0; REPLY_LEN];
    let (len, fd) = scm::receive(socket, &mut reply).map_err(NamespaceError::Helper)?;
    if len != REPLY_LEN {
        return Err(NamespaceError::Helper(io::ErrorKind::UnexpectedEof.into()));
    }
    let [stage, a, b, c, d] = reply;
    let source = io::Error::from_raw_os_error(i32::from_be_bytes([a, b, c, d]));
    match (stage, fd) {
        (STAGE_DONE, Some(fd)) => Ok(fd),
        (STAGE_UNSHARE, _) => Err(NamespaceError::Unshare(source)),
        (STAGE_MAP, _) => Err(NamespaceError::Map(source)),
        (STAGE_SOCKET, _) => Err(NamespaceError::Helper(source)),
        (number, _) => Err(match TunError::from_wire(number, source) {
            Some(error) => NamespaceError::Tun(error),
            None => NamespaceError::Helper(io::ErrorKind::InvalidData.into()),
        }),
    }
}

/// Is the helper: call it, and nothing before it, when the first argument is [`HELPER_ARGUMENT`].
/// The process must have one thread, and the socket as its standard input.
pub fn helper_main() -> ExitCode {
    let stdin = io::stdin();
    match serve(stdin.as_fd()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "namespace helper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(parent: BorrowedFd<'_>) -> io::Result<()> {
    let Some((WANT_TUN, own, _)) = next_request(parent)? else {
        return Ok(());
    };
    match set_up(own) {
        // The parent holds the TUN from now on.
        Ok(tun) => answer(parent, STAGE_DONE, 0, Some(tun.as_fd()))?,
        Err((stage, errno)) => return answer(parent, stage, errno, None),
    }
    while let Some((want, address, port)) = next_request(parent)? {
        let made = match want {
            WANT_LISTENER => begin_listen(address, port),
            WANT_DATAGRAMS => bound(SockType::Datagram, address, port),
            _ => begin_connect(address, port),
        };
        match made {
            Ok(socket) => answer(parent, STAGE_DONE, 0, Some(socket.as_fd()))?,
            Err(errno) => answer(parent, STAGE_SOCKET, errno as i32, None)?,
        }
    }
    Ok(())
}

fn next_request(parent: BorrowedFd<'_>) -> io::Result<Option<(u8, Ipv6Addr, u16)>> {
    let mut bytes = [0; REQUEST_LEN];
    let (len, _) = scm::receive(parent, &mut bytes)?;
    let [want, address @ .., high, low] = bytes;
    let whole = (len == REQUEST_LEN).then_some(());
    Ok(whole.map(|()| {
        let port = u16::from_be_bytes([high, low]);
        (want, Ipv6Addr::from(address), port)
    }))
}

fn answer(
    parent: BorrowedFd<'_>,
    stage: u8,
    errno: i32,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let [a, b, c, d] = errno.to_be_bytes();
    scm::send(parent, &[stage, a, b, c, d], fd)
}

/// Enters new namespaces and makes the TUN there; an error is a stage and a system error number.
fn set_up(own: Ipv6Addr) -> Result<OwnedFd, (u8, i32)> {
    let (uid, gid) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        Ok(()) => map_ids((0, uid.as_raw()), (0, gid.as_raw()))
            .map_err(|error| (STAGE_MAP, error.raw_os_error().unwrap_or(libc::EIO)))?,
        // Root where user namespaces are off needs none.
        Err(refused) => {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|_| (STAGE_UNSHARE, refused as i32))?;
        }
    }
    let tun = tun::open(&tun::Spec::host(TUN_NAME, own)).map_err(|error| error.to_wire())?;
    // Our own group may ping; without it programs in here can do everything else.
    if let Err(error) = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0") {
        tracing::debug!(%error, "programs in the namespace cannot ping");
    }
    Ok(tun)
}

/// Maps one user and one group, each inside and outside, in the new user namespace of this process
/// (user_namespaces(7)).
pub(crate) fn map_ids(uid: (u32, u32), gid: (u32, u32)) -> io::Result<()> {
    // Without it an ordinary user may not write gid_map; the file lacks where the kernel is very
    // old.
    match fs::write("/proc/self/setgroups", "deny") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write("/proc/self/uid_map", format!("{} {} 1", uid.0, uid.1))?;
    fs::write("/proc/self/gid_map", format!("{} {} 1", gid.0, gid.1))
}

fn begin_connect(address: Ipv6Addr, port: u16) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet6, SockType::Stream, flags, None)?;
    let to = SockaddrIn6::from(SocketAddrV6::new(address, port, 0, 0));
    match connect(fd.as_raw_fd(), &to) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

fn begin_listen(address: Ipv6Addr, port: u16) -> Result<OwnedFd, Errno> {
    let fd = bound(SockType::Stream, address, port)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd)
}

fn bound(kind: SockType, address: Ipv6Addr, port: u16) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet6, kind, flags, None)?;
    let at = SockaddrIn6::from(SocketAddrV6::new(address, port, 0, 0));
    bind(fd.as_raw_fd(), &at)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_is_named() {
        let error =
            Namespace::spawn(Path::new("/no/such/program"), Ipv6Addr::LOCALHOST).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }

    #[test]
    fn program_that_is_no_helper_is_noticed() {
        let error = Namespace::spawn(Path::new("/bin/true"), Ipv6Addr::LOCALHOST).unwrap_err();
        assert!(matches!(error, NamespaceError::Helper(_)), "{error}");
    }

    #[test]
    fn every_stage_comes_back_as_its_error() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let check = |stage: u8, expect: &str| {
            answer(theirs.as_fd(), stage, libc::EPERM, None).unwrap();
            let error = ask(&ours, &request(WANT_TUN, Ipv6Addr::LOCALHOST, 0)).unwrap_err();
            assert!(
                format!("{error:?}").starts_with(expect),
                "{stage}: {error:?}"
            );
        };
        check(STAGE_UNSHARE, "Unshare(Os { code: 1,");
        check(STAGE_MAP, "Map(Os { code: 1,");
        check(STAGE_SOCKET, "Helper(Os { code: 1,");
        check(1, "Tun(Open(Os { code: 1,");
        check(2, "Tun(Create(");
        check(3, "Tun(Up(");
        check(4, "Tun(Address(");
        check(5, "Tun(Route(");
        check(77, "Helper(Kind(InvalidData");
    }
}
