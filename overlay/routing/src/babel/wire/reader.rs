//! From the bytes of a packet to what it says (RFC 8966, §4).
//!
//! [`read`] looks at the header; the [`Reader`] it returns yields one [`Tlv`] after the other and
//! counts what it had to ignore. Decides nothing about routes: whether a prefix, a neighbour or a
//! metric is welcome is the speaker's.
//! Invariant: no input panics, allocates, or is read past the lengths that it declares.

use std::net::Ipv6Addr;

use super::cursor::Cursor;
use super::ignored::{BadPacket, Ignored, IgnoredCounts};
use super::state::State;
use super::tlv::Tlv;
use super::{HEADER_LEN, MAGIC, VERSION};

/// Reads the header of a UDP payload that came from a link-local address.
pub fn read(payload: &[u8], source: Ipv6Addr) -> Result<Reader<'_>, BadPacket> {
    if !source.is_unicast_link_local() {
        return Err(BadPacket::Source);
    }
    let Packet { body, trailer } = split(payload)?;
    Ok(Reader {
        unread: Cursor(body),
        trailer,
        state: State::new(source),
        ignored: IgnoredCounts::default(),
    })
}

/// A packet behind its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::babel) struct Packet<'a> {
    /// As long as the header says.
    pub body: &'a [u8],
    /// What came behind the body.
    pub trailer: &'a [u8],
}

/// Splits a UDP payload as its header says (§4.2).
pub(in crate::babel) fn split(payload: &[u8]) -> Result<Packet<'_>, BadPacket> {
    let Some((&[magic, version, high, low], rest)) = payload.split_first_chunk::<HEADER_LEN>()
    else {
        return Err(BadPacket::Short(payload.len()));
    };
    if magic != MAGIC {
        return Err(BadPacket::Magic(magic));
    }
    if version != VERSION {
        return Err(BadPacket::Version(version));
    }
    let declared = usize::from(u16::from_be_bytes([high, low]));
    let (body, trailer) = rest.split_at_checked(declared).ok_or(BadPacket::Body {
        declared,
        carried: rest.len(),
    })?;
    Ok(Packet { body, trailer })
}

/// What a packet says, one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    unread: Cursor<'a>,
    trailer: &'a [u8],
    state: State,
    ignored: IgnoredCounts,
}

impl<'a> Reader<'a> {
    /// Returns the bytes behind the body, where a message authentication code stands (RFC 8967).
    pub fn trailer(&self) -> &'a [u8] {
        self.trailer
    }

    /// Returns what was ignored so far.
    pub fn ignored(&self) -> &IgnoredCounts {
        &self.ignored
    }
}

impl Iterator for Reader<'_> {
    type Item = Tlv;

    fn next(&mut self) -> Option<Tlv> {
        while !self.unread.0.is_empty() {
            let Some(framed) = self.unread.framed() else {
                self.ignored.add(Ignored::Overrun);
                self.unread = Cursor(&[]);
                return None;
            };
            let Some((kind, body)) = framed else {
                continue;
            };
            match self.state.handle_tlv(kind, body) {
                Ok(Some(tlv)) => return Some(tlv),
                Ok(None) => {}
                Err(reason) => self.ignored.add(reason),
            }
        }
        None
    }
}
