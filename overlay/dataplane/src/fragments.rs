//! Lets routers cut our IPv4 datagrams where a line is too narrow for them.
//!
//! By default the kernel forbids it (it sets DF) and waits to be told what fits; where somebody
//! filters what it would be told, long datagrams vanish. Cut ones arrive: slower than whole ones
//! and faster than in a stream. IPv6 has no such routers; there the kernel cuts by itself what it
//! was told is too long. Decides nothing else.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Allows it on a UDP socket of either family.
pub fn allow(socket: impl AsFd) -> io::Result<()> {
    let value: libc::c_int = libc::IP_PMTUDISC_DONT;
    let len = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel reads `len`
    // bytes of `value`, which lives longer than the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            len,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
