//! The ioctls that make and configure a network device, each as one safe function.
//!
//! Everything unsafe about [`crate::tun`] is here. The structures live on the stack of the caller
//! for the length of the call, and the kernel reads or writes no more than their size.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_short, c_ulong, ifreq, in6_addr, in6_ifreq};

/// `struct in6_rtmsg` of the kernel's `linux/ipv6_route.h`; libc keeps its fields to itself.
#[repr(C)]
struct Route {
    destination: in6_addr,
    source: in6_addr,
    gateway: in6_addr,
    kind: u32,
    destination_len: u16,
    source_len: u16,
    metric: u32,
    info: c_ulong,
    flags: u32,
    index: c_int,
}

mod raw {
    use libc::{ifreq, in6_ifreq};

    nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, ifreq);
    nix::ioctl_read_bad!(get_flags, libc::SIOCGIFFLAGS, ifreq);
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, ifreq);
    nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, ifreq);
    nix::ioctl_read_bad!(get_index, libc::SIOCGIFINDEX, ifreq);
    nix::ioctl_write_ptr_bad!(add_address, libc::SIOCSIFADDR, in6_ifreq);
    nix::ioctl_write_ptr_bad!(add_route, libc::SIOCADDRT, super::Route);
}

/// Makes the device `name` and ties it to `tun`, an open `/dev/net/tun`.
pub fn create_tun(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = named(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is.
    unsafe { raw::tun_set_iff(tun.as_raw_fd(), &request) }?;
    Ok(())
}

/// Sets the flag UP.
pub fn set_up(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = named(name)?;
    // SAFETY: SIOCGIFFLAGS writes one `ifreq`, which `request` is.
    unsafe { raw::get_flags(socket.as_raw_fd(), &mut request) }?;
    // SAFETY: the call above has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which `request` is.
    unsafe { raw::set_flags(socket.as_raw_fd(), &request) }?;
    Ok(())
}

/// Sets the MTU.
pub fn set_mtu(socket: BorrowedFd<'_>, name: &str, mtu: u16) -> io::Result<()> {
    let mut request = named(name)?;
    request.ifr_ifru.ifru_mtu = c_int::from(mtu);
    // SAFETY: SIOCSIFMTU reads one `ifreq`, which `request` is.
    unsafe { raw::set_mtu(socket.as_raw_fd(), &request) }?;
    Ok(())
}

/// Returns the number of the device.
pub fn index(socket: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let mut request = named(name)?;
    // SAFETY: SIOCGIFINDEX writes one `ifreq`, which `request` is.
    unsafe { raw::get_index(socket.as_raw_fd(), &mut request) }?;
    // SAFETY: the call above has filled in the index.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex })
}

/// Gives the device an address.
pub fn add_address(
    socket: BorrowedFd<'_>,
    index: c_int,
    address: Ipv6Addr,
    prefix_len: u8,
) -> io::Result<()> {
    let request = in6_ifreq {
        ifr6_addr: octets(address),
        ifr6_prefixlen: u32::from(prefix_len),
        ifr6_ifindex: index,
    };
    // SAFETY: on an IPv6 socket SIOCSIFADDR reads one `in6_ifreq`, which `request` is.
    unsafe { raw::add_address(socket.as_raw_fd(), &request) }?;
    Ok(())
}

/// Routes a prefix to the device.
pub fn add_route(
    socket: BorrowedFd<'_>,
    index: c_int,
    prefix: Ipv6Addr,
    prefix_len: u8,
) -> io::Result<()> {
    let none = octets(Ipv6Addr::UNSPECIFIED);
    let request = Route {
        destination: octets(prefix),
        source: none,
        gateway: none,
        kind: 0,
        destination_len: u16::from(prefix_len),
        source_len: 0,
        metric: 1024,
        info: 0,
        flags: u32::from(libc::RTF_UP),
        index,
    };
    // SAFETY: on an IPv6 socket SIOCADDRT reads one `in6_rtmsg`, whose layout `Route` repeats.
    unsafe { raw::add_route(socket.as_raw_fd(), &request) }?;
    Ok(())
}

fn octets(address: Ipv6Addr) -> in6_addr {
    in6_addr {
        s6_addr: address.octets(),
    }
}

fn named(name: &str) -> io::Result<ifreq> {
    // SAFETY: `ifreq` is plain integers and a union of such; all zeroes is a value of it.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    if request.ifr_name.len() <= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed() as libc::c_char;
    }
    Ok(request)
}
