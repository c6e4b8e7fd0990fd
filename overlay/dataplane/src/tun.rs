//! TUN devices: making one in the network namespace that we are in, reading and writing packets.
//!
//! [`open`] makes the device, gives it addresses, MTU and routes and brings it and `lo` up, all
//! with the old ioctls, so that it needs no other program. No link-local address is made, so the
//! device says nothing of its own, and its addresses are usable when [`open`] returns. [`Device`]
//! is generic over the descriptor: anything that keeps packet borders will do, a socket pair in
//! tests for instance. Offload (vnet-hdr) will live behind it; an adopted descriptor has none.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mesh_base::address::{NODE_PREFIX, SERVICE_PREFIX};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::ioctl;
use crate::limits::{MTU, USABLE_WAIT_MAX};
use crate::sys::set_nonblocking;

/// How a TUN shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<(Ipv6Addr, u8)>,
    /// What is reached through it.
    pub routes: Vec<(Ipv6Addr, u8)>,
    /// Longest packet.
    pub mtu: u16,
}

impl Spec {
    /// Returns the TUN of a node: its own address and the two prefixes of the overlay.
    pub fn host(name: &str, own: Ipv6Addr) -> Self {
        let prefix = |first| (Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), 16);
        Self {
            name: name.to_owned(),
            addresses: vec![(own, 128)],
            routes: vec![prefix(NODE_PREFIX), prefix(SERVICE_PREFIX)],
            mtu: MTU,
        }
    }
}

/// Why a TUN could not be made. Each variant has a number, for the helper's report to its parent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunError {
    /// The device file is not there or not for us.
    #[error(
        "cannot open /dev/net/tun (load it with `modprobe tun`, allow it with \
         `chmod 0666 /dev/net/tun`, or pass it into the container)"
    )]
    Open(#[source] io::Error),
    /// The kernel does not let us make a device here.
    #[error("cannot create the network device")]
    Create(#[source] io::Error),
    /// Flags or MTU were refused.
    #[error("cannot bring the network device up")]
    Up(#[source] io::Error),
    /// An address was refused.
    #[error("cannot give the network device its address (is IPv6 switched off?)")]
    Address(#[source] io::Error),
    /// A route was refused.
    #[error("cannot route the overlay's prefixes")]
    Route(#[source] io::Error),
}

/// Makes a TUN in the network namespace of this thread. The descriptor does not block.
pub fn open(spec: &Spec) -> Result<OwnedFd, TunError> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/net/tun")
        .map_err(TunError::Open)?;
    let tun = OwnedFd::from(file);
    ioctl::create_tun(tun.as_fd(), &spec.name).map_err(TunError::Create)?;
    silence(&spec.name);
    let control = socket(
        AddressFamily::Inet6,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| TunError::Up(errno.into()))?;
    let control = control.as_fd();
    ioctl::set_up(control, "lo").map_err(TunError::Up)?;
    ioctl::set_mtu(control, &spec.name, spec.mtu).map_err(TunError::Up)?;
    ioctl::set_up(control, &spec.name).map_err(TunError::Up)?;
    let index = ioctl::index(control, &spec.name).map_err(TunError::Up)?;
    for (address, prefix_len) in &spec.addresses {
        ioctl::add_address(control, index, *address, *prefix_len).map_err(TunError::Address)?;
    }
    wait_until_usable(spec);
    for (prefix, prefix_len) in &spec.routes {
        ioctl::add_route(control, index, *prefix, *prefix_len).map_err(TunError::Route)?;
    }
    Ok(tun)
}

/// Asks the kernel for no chatter of its own on the device. Where `/proc/sys` is read-only, the
/// table drops the chatter instead.
fn silence(name: &str) {
    let settings = [
        ("disable_ipv6", "0"),
        ("addr_gen_mode", "1"),
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
    ];
    for (key, value) in settings {
        if let Err(error) = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{key}"), value) {
            tracing::debug!(key, %error, "cannot set an interface option");
        }
    }
}

/// Waits until no address is tentative. A TUN needs no DAD, but the kernel finds that out on a work
/// queue, and until then the address is no source for anybody. Milliseconds, normally.
fn wait_until_usable(spec: &Spec) {
    let start = Instant::now();
    while start.elapsed() < USABLE_WAIT_MAX {
        // A thread may be in another namespace than its process. Columns: address, index, prefix
        // length, scope, flags, name.
        let table = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        let tentative = table.lines().any(|line| {
            let mut columns = line.split_whitespace().skip(4);
            let flags = columns
                .next()
                .and_then(|flags| u32::from_str_radix(flags, 16).ok());
            flags.is_some_and(|flags| flags & libc::IFA_F_TENTATIVE != 0)
                && columns.next() == Some(&spec.name)
        });
        if !tentative {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A descriptor that packets come out of and go into.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    gone: AtomicBool,
}

impl Device {
    /// Takes a TUN or something like it; makes it non-blocking.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        Ok(Self {
            fd,
            gone: AtomicBool::new(false),
        })
    }

    /// Reads one packet; none if there is none now.
    pub fn read<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        loop {
            match nix::unistd::read(&self.fd, buffer) {
                Ok(0) => break,
                Ok(len) => return buffer.get(..len),
                Err(Errno::EAGAIN) => return None,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    tracing::debug!(%errno, "a network device is gone");
                    break;
                }
            }
        }
        self.gone.store(true, Ordering::Relaxed);
        None
    }

    /// Writes one packet; returns whether the device took it.
    pub fn write(&self, packet: &[u8]) -> bool {
        nix::unistd::write(&self.fd, packet) == Ok(packet.len())
    }

    /// Returns whether the other end is gone for good.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TunError {
    /// Returns the variant's number and the cause.
    pub(crate) fn to_wire(&self) -> (u8, i32) {
        let (number, source) = match self {
            Self::Open(source) => (1, source),
            Self::Create(source) => (2, source),
            Self::Up(source) => (3, source),
            Self::Address(source) => (4, source),
            Self::Route(source) => (5, source),
        };
        (number, source.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Returns the error of [`TunError::to_wire`].
    pub(crate) fn from_wire(number: u8, source: io::Error) -> Option<Self> {
        match number {
            1 => Some(Self::Open(source)),
            2 => Some(Self::Create(source)),
            3 => Some(Self::Up(source)),
            4 => Some(Self::Address(source)),
            5 => Some(Self::Route(source)),
            _ => None,
        }
    }
}
