//! The network interface inside: a TUN that is the only way in and out, and the loopback.
//!
//! A TUN belongs to the network namespace in which `/dev/net/tun` was opened, so it is opened after
//! the namespace was entered. Packets are plain IPv6, without a header of the driver.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::sys;

/// Name of the interface inside.
pub const NAME: &str = "mesh0";
/// Largest packet: the smallest that IPv6 allows (RFC 8200, 5), so it passes every tunnel.
const MTU: i32 = 1280;

/// The start of the kernel's `struct ifreq` with the members that we use; 40 bytes in all.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    value: RequestValue,
}

#[repr(C)]
union RequestValue {
    flags: i16,
    number: i32,
    room: [u64; 3],
}

/// The kernel's `struct in6_ifreq`.
#[repr(C)]
struct AddressRequest {
    address: [u8; 16],
    prefix_len: u32,
    index: i32,
}

/// The kernel's `struct in6_rtmsg`.
#[repr(C)]
struct RouteRequest {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_len: u16,
    source_len: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: i32,
}

/// Makes the TUN in the current network namespace and gives it address and default route.
pub fn make(address: Ipv6Addr) -> io::Result<OwnedFd> {
    let tun: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    let mut request = request(NAME);
    request.value.flags = i16::try_from(flags).unwrap_or_default();
    sys::ioctl(tun.as_fd(), TUNSETIFF, &mut request)?;

    // Sysctls of the namespace: no link-local chatter, and on even where the machine has IPv6 off.
    for (key, value) in [
        ("disable_ipv6", "0"),
        ("addr_gen_mode", "1"),
        ("accept_ra", "0"),
    ] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{NAME}/{key}"), value);
    }
    let control = control()?;
    let mut mtu = self::request(NAME);
    mtu.value.number = MTU;
    sys::ioctl(control.as_fd(), libc::SIOCSIFMTU, &mut mtu)?;
    set_up(&control, NAME)?;
    let index = index(&control, NAME)?;
    let mut own = AddressRequest {
        address: address.octets(),
        prefix_len: 128,
        index,
    };
    sys::ioctl(control.as_fd(), libc::SIOCSIFADDR, &mut own)?;
    let mut route = RouteRequest {
        destination: [0; 16],
        source: [0; 16],
        gateway: [0; 16],
        kind: 0,
        destination_len: 0,
        source_len: 0,
        metric: 1,
        info: 0,
        flags: 1, // RTF_UP
        index,
    };
    sys::ioctl(control.as_fd(), libc::SIOCADDRT, &mut route)?;
    await_usable(address);
    Ok(tun.into())
}

/// Waits until the address can be bound: the kernel makes a new one usable a moment later, on a
/// worker of its own, even where no neighbour could claim it.
fn await_usable(address: Ipv6Addr) {
    for _ in 0..200 {
        if std::net::UdpSocket::bind((address, 0)).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Brings the loopback interface of the current network namespace up.
pub fn bring_loopback_up() -> io::Result<()> {
    set_up(&control()?, "lo")
}

/// `_IOW('T', 202, int)`, the same number on every architecture that we run on.
const TUNSETIFF: u64 = 0x4004_54ca;

fn control() -> io::Result<OwnedFd> {
    let kind = SockType::Datagram;
    Ok(socket(
        AddressFamily::Inet6,
        kind,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

fn request(name: &str) -> InterfaceRequest {
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        value: RequestValue { room: [0; 3] },
    };
    // The last byte stays zero: both names that we use are far shorter.
    for (to, from) in request.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    request
}

fn set_up(control: &OwnedFd, name: &str) -> io::Result<()> {
    let mut request = request(name);
    request.value.flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    sys::ioctl(control.as_fd(), libc::SIOCSIFFLAGS, &mut request)
}

fn index(control: &OwnedFd, name: &str) -> io::Result<i32> {
    let mut request = request(name);
    sys::ioctl(control.as_fd(), libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: the kernel has just written the index, and every bit pattern is an i32.
    Ok(unsafe { request.value.number })
}
