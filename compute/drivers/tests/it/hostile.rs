//! What a hostile service does, run inside as a program of its own.
//!
//! Each attempt must be refused, and each thing that services need must work: a wall that refuses
//! everything would prove nothing.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::ExitCode;

use nix::fcntl::{OFlag, OpenHow, openat2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many attempts there are.
pub const COUNT: usize = 39;
/// Where it listens.
pub const PORT: u16 = 47_123;

type Attempt<'a> = (&'a str, bool, Box<dyn Fn() -> bool + 'a>);

/// The process.
pub fn main() -> ExitCode {
    let aims = std::fs::read_to_string("/data/aims").unwrap();
    let words: Vec<&str> = aims.split(' ').collect();
    let [secret, socket, port, victim] = words.as_slice() else {
        panic!("secret, socket, port, victim")
    };
    let port: u16 = port.parse().unwrap();
    let victim = Pid::from_raw(victim.parse().unwrap());
    let mut said = std::fs::File::create("/data/said").unwrap();
    let mut failed = false;
    for (name, must_work, attempt) in attempts(secret, socket, port, victim) {
        let works = attempt();
        let word = if works == must_work { "ok" } else { "WRONG" };
        failed |= works != must_work;
        writeln!(said, "{word} {name}: {works}").unwrap();
    }
    ExitCode::from(u8::from(failed))
}

fn attempts<'a>(secret: &'a str, socket: &'a str, port: u16, victim: Pid) -> Vec<Attempt<'a>> {
    let mut all = files(secret);
    all.extend(network(port));
    all.extend(local(socket));
    all.extend(processes(victim));
    all
}

fn no<'a>(name: &'a str, attempt: impl Fn() -> bool + 'a) -> Attempt<'a> {
    (name, false, Box::new(attempt))
}

fn yes<'a>(name: &'a str, attempt: impl Fn() -> bool + 'a) -> Attempt<'a> {
    (name, true, Box::new(attempt))
}

/// By a call that what shows the tree as the root does not know, so that it is the machine's path.
fn raw(path: &str, flags: OFlag) -> bool {
    openat2(nix::fcntl::AT_FDCWD, path, OpenHow::new().flags(flags)).is_ok()
}

fn files(secret: &str) -> Vec<Attempt<'_>> {
    vec![
        yes("own data", || std::fs::write("/data/a", "1").is_ok()),
        yes("own memory folder", || {
            std::fs::write("/dev/shm/a", "1").is_ok()
        }),
        yes("a device", || std::fs::write("/dev/null", "1").is_ok()),
        no("the tree", || std::fs::write("/usr/a", "1").is_ok()),
        no("the secret", move || std::fs::read(secret).is_ok()),
        no("the secret, raw", move || raw(secret, OFlag::O_RDONLY)),
        no("the secret, raw, to write", move || {
            raw(secret, OFlag::O_WRONLY)
        }),
        no("the machine's users, raw", || {
            raw("/etc/shadow", OFlag::O_RDONLY)
        }),
        no("a terminal", || raw("/dev/tty", OFlag::O_RDWR)),
        no("network devices", || raw("/dev/net/tun", OFlag::O_RDWR)),
        no("by a link", move || {
            let _ = symlink(secret, "/data/link");
            std::fs::read("/data/link").is_ok()
        }),
        yes("modes of own files", || {
            let mode = std::fs::Permissions::from_mode(0o640);
            std::fs::set_permissions("/data/a", mode).is_ok()
        }),
        no("a program that runs as its owner", || {
            let mode = std::fs::Permissions::from_mode(0o4755);
            let _ = std::fs::set_permissions("/data/a", mode);
            std::fs::metadata("/data/a").unwrap().permissions().mode() & 0o6000 != 0
        }),
        no("modes of the tree", || {
            let mode = std::fs::Permissions::from_mode(0o000);
            std::fs::set_permissions("/usr", mode).is_ok()
        }),
        no("modes of what is open in the tree", || {
            let file = std::fs::File::open("/etc/passwd").unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(0o000))
                .is_ok()
        }),
        no("modes of the secret, raw", move || {
            let path = std::ffi::CString::new(secret).unwrap();
            // SAFETY: the kernel reads a text that outlives the call.
            let answer = unsafe {
                let (at, flags) = (libc::AT_FDCWD, 0);
                libc::syscall(libc::SYS_fchmodat2, at, path.as_ptr(), 0o777, flags)
            };
            answer == 0
        }),
        no("an emptied tree", || {
            let mut options = std::fs::File::options();
            let flags = libc::O_TRUNC;
            options
                .read(true)
                .custom_flags(flags)
                .open("/etc/passwd")
                .is_ok()
                && std::fs::read("/etc/passwd").unwrap().is_empty()
        }),
        no("memory of the parent", || {
            raw(
                &format!("/proc/{}/mem", nix::unistd::getppid()),
                OFlag::O_RDWR,
            )
        }),
    ]
}

fn network<'a>(port: u16) -> Vec<Attempt<'a>> {
    vec![
        yes("listen, connect, talk", || {
            let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
            let mut near = TcpStream::connect(("127.0.0.1", PORT)).unwrap();
            let (mut far, _) = listener.accept().unwrap();
            near.write_all(b"x").unwrap();
            let mut byte = [0];
            far.read_exact(&mut byte).is_ok()
        }),
        no("the machine's loopback", move || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        }),
        no("the machine's loopback, IPv6", || {
            TcpStream::connect(("::1", 1)).is_ok()
        }),
        no("the Internet", || {
            TcpStream::connect(("192.0.2.1", 80)).is_ok()
        }),
        no("datagrams", || UdpSocket::bind("127.0.0.1:0").is_ok()),
        no("an address of the machine", || {
            TcpListener::bind(("192.0.2.1", PORT)).is_ok()
        }),
        no("listening everywhere without an address", || {
            use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType};
            let flags = SockFlag::empty();
            let made = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None);
            let made = made.unwrap();
            socket::listen(&made, Backlog::new(1).unwrap()).unwrap();
            let name: socket::SockaddrIn = socket::getsockname(made.as_raw_fd()).unwrap();
            name.ip().is_unspecified() || !name.ip().is_loopback()
        }),
        no("listening everywhere after a connection", || {
            use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType};
            let flags = SockFlag::empty();
            let near = TcpListener::bind("127.0.0.1:0").unwrap();
            let to: socket::SockaddrIn = socket::getsockname(near.as_raw_fd()).unwrap();
            let made = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None);
            let made = made.unwrap();
            let way = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, to.port());
            socket::connect(made.as_raw_fd(), &socket::SockaddrIn::from(way)).unwrap();
            let nothing = [0_u8; 16];
            // SAFETY: the kernel reads an address that outlives the call.
            let left = unsafe { libc::connect(made.as_raw_fd(), nothing.as_ptr().cast(), 16) };
            assert_eq!(left, 0);
            if socket::listen(&made, Backlog::new(1).unwrap()).is_err() {
                return false;
            }
            let name: socket::SockaddrIn = socket::getsockname(made.as_raw_fd()).unwrap();
            !name.ip().is_loopback()
        }),
        no("raw sockets", || {
            use nix::sys::socket::{self, AddressFamily, SockFlag, SockType};
            let flags = SockFlag::empty();
            socket::socket(AddressFamily::Netlink, SockType::Raw, flags, None).is_ok()
        }),
    ]
}

fn local(socket: &str) -> Vec<Attempt<'_>> {
    vec![
        yes("a local socket", || {
            let _ = std::fs::remove_file("/run/s");
            let listener = UnixListener::bind("/run/s").unwrap();
            let near = UnixStream::connect("/run/s");
            near.is_ok() && listener.accept().is_ok()
        }),
        no("the machine's socket", move || {
            UnixStream::connect(socket).is_ok()
        }),
        no("the machine's socket by a link", move || {
            let _ = symlink(socket, "/run/link");
            UnixStream::connect("/run/link").is_ok()
        }),
        no("a socket in the tree", || {
            UnixListener::bind("/usr/s").is_ok()
        }),
        no("local datagrams", || UnixDatagram::unbound().is_ok()),
    ]
}

fn processes<'a>(victim: Pid) -> Vec<Attempt<'a>> {
    vec![
        yes("ask for oneself", || {
            kill(nix::unistd::getpid(), None).is_ok()
        }),
        no("the victim", move || kill(victim, Signal::SIGTERM).is_ok()),
        no("everybody", || {
            kill(Pid::from_raw(-1), Signal::SIGTERM).is_ok()
        }),
        no("the victim's limits", move || {
            use nix::sys::resource::{Resource, getrlimit};
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let limit = libc::rlimit64 {
                rlim_cur: soft,
                rlim_max: hard,
            };
            // SAFETY: the kernel reads one structure that outlives the call.
            let answer = unsafe {
                libc::prlimit64(
                    victim.as_raw(),
                    libc::RLIMIT_NOFILE,
                    &raw const limit,
                    std::ptr::null_mut(),
                )
            };
            answer == 0
        }),
        no("what watches it", || {
            watching()
                .into_iter()
                .any(|pid| kill(pid, Signal::SIGTERM).is_ok())
        }),
        no("the memory of what watches it", || {
            use nix::sys::uio::{RemoteIoVec, process_vm_readv};
            let mut byte = [0];
            let from = [RemoteIoVec {
                base: 0x1000,
                len: 1,
            }];
            // Memory that is not there is another error than one that may not be looked for.
            let seen = |pid| {
                let mut to = [std::io::IoSliceMut::new(&mut byte)];
                process_vm_readv(pid, &mut to, &from) != Err(nix::errno::Errno::EPERM)
            };
            watching().into_iter().any(seen)
        }),
        no("a look at what watches it", || {
            let look = |pid: Pid| raw(&format!("/proc/{pid}/environ"), OFlag::O_RDONLY);
            watching().into_iter().any(look)
        }),
    ]
}

fn watching() -> Vec<Pid> {
    let text = std::fs::read_to_string("/data/watching").unwrap();
    let pids = text.split_whitespace().map(|pid| pid.parse().unwrap());
    pids.map(Pid::from_raw).collect()
}
