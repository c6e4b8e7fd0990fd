//! Takes fixed pieces off the front of bytes; what is not there is none, never a panic.

use std::net::Ipv6Addr;

use super::link_local;

/// What is still unread.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// Takes `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes as many bytes as the array has.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// Takes a byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Takes two bytes as a number.
    pub fn number(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes a whole address.
    pub fn address(&mut self) -> Option<Ipv6Addr> {
        self.array::<16>().map(Ipv6Addr::from)
    }

    /// Takes the last half of an address in fe80::/64.
    pub fn link_local(&mut self) -> Option<Ipv6Addr> {
        self.array().map(link_local)
    }

    /// Takes a TLV or sub-TLV. `Some(None)` is padding of one byte, which has no length.
    pub fn framed(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        let kind = self.byte()?;
        if kind == super::kind::PAD1 {
            return Some(None);
        }
        let len = self.byte()?;
        let body = self.take(usize::from(len))?;
        Some(Some((kind, body)))
    }
}
