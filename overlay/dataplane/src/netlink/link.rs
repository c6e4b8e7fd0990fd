//! Interfaces: whether one is switched on and has its cable.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{ERROR, append, ask, refusal};

/// An interface is there, or has changed.
pub const NEW_LINK: u16 = 16;
/// It is gone.
pub const DEL_LINK: u16 = 17;
/// Asks how it is.
pub const GET_LINK: u16 = 18;

/// IFLA_EXT_MASK: what an answer about an interface is to leave out or to add.
const WANTED: u16 = 29;
/// RTEXT_FILTER_SKIP_STATS: counting packets may take a driver long.
const WITHOUT_COUNTERS: u32 = 0x8;
/// IFF_UP and IFF_LOWER_UP: switched on, and a carrier on the cable.
const SOUND: u32 = 0x1 | 0x1_0000;

/// Asks whether an interface is sound now; nothing if the kernel does not say it.
pub fn is_sound(socket: &OwnedFd, index: u32) -> Result<Option<bool>, Errno> {
    // struct ifinfomsg: family, pad, type (2), index (4), flags (4), change mask (4).
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&[0; 8]);
    append(&mut body, WANTED, &WITHOUT_COUNTERS.to_ne_bytes());
    let mut buffer = [0; 8192];
    Ok(match ask(socket, (GET_LINK, 0), &body, &mut buffer)? {
        Some((NEW_LINK, body)) => {
            let said = state(body).filter(|(about, _)| *about == index);
            said.map(|(_, sound)| sound)
        }
        // A link that is gone; other errors say nothing about it.
        Some((ERROR, body)) => (refusal(body) == Some(Errno::ENODEV)).then_some(false),
        _ => None,
    })
}

/// Returns the number of the interface that a message is about, and whether it is sound.
pub fn state(body: &[u8]) -> Option<(u32, bool)> {
    // struct ifinfomsg: family, pad, type (2), index (4), flags (4), change mask (4).
    let &[_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = body else {
        return None;
    };
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let index = u32::from_ne_bytes([i0, i1, i2, i3]);
    Some((index, flags & SOUND == SOUND))
}
