//! Routes: their numbers, and the question which one leads to an address.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{append, ask};

/// A route is there, or is to be set.
pub const NEW_ROUTE: u16 = 24;
/// It is to be taken away.
pub const DEL_ROUTE: u16 = 25;
/// Asks for one, or for all.
pub const GET_ROUTE: u16 = 26;
/// Attributes of a route: the prefix that it leads to,
pub const DESTINATION: u16 = 1;
/// the number of its interface,
pub const INTERFACE: u16 = 4;
/// the router that it leads through,
pub const GATEWAY: u16 = 5;
/// who comes first, of several to one prefix,
pub const PRIORITY: u16 = 6;
/// and our address on that way.
pub const SOURCE: u16 = 7;
/// Length of struct rtmsg.
pub const ROUTE_LEN: usize = 12;

/// Asks which route leads to an address.
pub fn ask_way<'a>(
    socket: &OwnedFd,
    to: IpAddr,
    buffer: &'a mut [u8],
) -> Result<Option<(u16, &'a [u8])>, Errno> {
    let (family, bits) = match to {
        IpAddr::V4(_) => (libc::AF_INET, 32),
        IpAddr::V6(_) => (libc::AF_INET6, 128),
    };
    // struct rtmsg: family, destination bits, then ten bytes that a question leaves zero.
    let mut body = vec![u8::try_from(family).unwrap_or_default(), bits];
    body.resize(ROUTE_LEN, 0);
    match to {
        IpAddr::V4(ip) => append(&mut body, DESTINATION, &ip.octets()),
        IpAddr::V6(ip) => append(&mut body, DESTINATION, &ip.octets()),
    }
    ask(socket, (GET_ROUTE, 0), &body, buffer)
}
