//! Messages between us and the kernel's network tables (rtnetlink(7)): framing, questions, answers.
//!
//! | room | idea |
//! |---|---|
//! | [`link`] | messages about interfaces |
//! | [`route`] | messages about routes |
//!
//! Decides nothing. Invariants: whatever the kernel sends, reading it ends and reads nothing beyond
//! it; no answer is taken for that of another question.

#[cfg(test)]
pub mod alone;
pub mod link;
pub mod route;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// A message asks something of the kernel.
pub const REQUEST: u16 = 0x1;
/// It wants to be told whether it was done.
pub const ACKNOWLEDGE: u16 = 0x4;
/// It asks for all of a table.
pub const DUMP: u16 = 0x300;
/// The answer to what cannot be done; with a code of zero, to what was.
pub const ERROR: u16 = 2;
/// The end of a table.
pub const DONE: u16 = 3;
/// The kernel's own page for one batch of messages.
pub const BUFFER_LEN: usize = 32 * 1024;

const HEADER_LEN: usize = 16;
/// Most old answers that are thrown away before a question; each failure leaves one.
const STALE_MAX: usize = 16;

/// Opens a socket that hears what is said to these groups.
pub fn open(groups: u32) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// Asks the kernel a question that has one answer, and returns that.
pub fn ask<'a>(
    socket: &OwnedFd,
    (kind, flags): (u16, u16),
    body: &[u8],
    buffer: &'a mut [u8],
) -> Result<Option<(u16, &'a [u8])>, Errno> {
    forget(socket, buffer);
    tell(socket, kind, REQUEST | flags, body)?;
    let len = recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?;
    Ok(messages(buffer.get(..len).unwrap_or_default()).next())
}

/// Asks the kernel for all of a table, and hands on each entry's kind and body.
pub fn ask_for_all(
    socket: &OwnedFd,
    kind: u16,
    body: &[u8],
    mut take: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    forget(socket, &mut buffer);
    tell(socket, kind, REQUEST | DUMP, body)?;
    loop {
        let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(buffer.get(..len).unwrap_or_default()) {
            match kind {
                DONE | ERROR => return Ok(()),
                _ => take(kind, body),
            }
        }
    }
}

/// Throws away answers whose reading failed the last time, else every later question would get the
/// one before it.
fn forget(socket: &OwnedFd, buffer: &mut [u8]) {
    for _ in 0..STALE_MAX {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            // What was lost for want of memory is told in place of an answer.
            Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
            Err(_) => break,
        }
    }
}

/// Returns why the kernel did not do what it was asked, from the body of an [`ERROR`]; nothing if
/// it did, or if the body is cut off.
pub fn refusal(body: &[u8]) -> Option<Errno> {
    let code = body.first_chunk().map(|code| i32::from_ne_bytes(*code))?;
    (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
}

/// Sends one message to the kernel: struct nlmsghdr and a body.
pub fn tell(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
    let len = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    // Sequence and port: each socket has one question at a time, and the kernel fills in the port.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    Ok(())
}

/// Returns the kind and the body of each message in a batch.
pub fn messages(mut batch: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = batch.split_first_chunk::<HEADER_LEN>()?;
        let [l0, l1, l2, l3, k0, k1, ..] = *header;
        let len = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let body = batch.get(HEADER_LEN..len)?;
        batch = batch.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), body))
    })
}

/// Returns one of the attributes that follow `skip` bytes of a body.
pub fn attribute(body: &[u8], skip: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(skip..)?;
    while let Some((&[l0, l1, k0, k1], _)) = rest.split_first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..len)?;
        if u16::from_ne_bytes([k0, k1]) == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// Returns an attribute that is a number of four bytes.
pub fn number(body: &[u8], skip: usize, wanted: u16) -> Option<u32> {
    let value = attribute(body, skip, wanted)?;
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Appends an attribute whose length is a multiple of four.
pub fn append(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_off_batch_ends_quietly() {
        let mut batch = vec![20, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(messages(&batch).count(), 1);
        for len in 0..batch.len() {
            assert_eq!(messages(&batch[..len]).count(), 0);
        }
        batch[0] = 3;
        assert_eq!(messages(&batch).count(), 0, "shorter than its own header");
        assert_eq!(number(&[0; 12], 12, 4), None);
        assert_eq!(number(&[0; 32], 12, 4), None);
    }

    #[test]
    fn attribute_is_found_behind_others() {
        let mut body = vec![0; 12];
        append(&mut body, 1, &[9; 16]);
        append(&mut body, 4, &7_u32.to_ne_bytes());
        assert_eq!(number(&body, 12, 4), Some(7));
        assert_eq!(attribute(&body, 12, 1), Some([9; 16].as_slice()));
        assert_eq!(attribute(&body, 12, 5), None);
    }
}
