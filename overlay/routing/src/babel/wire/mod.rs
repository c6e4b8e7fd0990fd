//! Babel packets as bytes (RFC 8966, §4): read with the parser state resolved, written compressed.
//!
//! ```text
//!  0    1    2    3    4
//!  | 42 | 2  | body len | TLVs of the body ... | TLVs of the trailer (RFC 8967: MAC) ... |
//!
//!  TLV:      | type | len | fixed part | address or prefix | sub-TLVs |     type 0 has no length
//!  sub-TLV:  | type | len | ... |      type & 0x80: who does not know it ignores the whole TLV
//! ```
//! | room | idea |
//! |---|---|
//! | [`tlv`] | what a packet says, as values |
//! | [`ignored`] | why something was not read, counted |
//! | [`reader`] | from bytes to values |
//! | [`writer`] | from values to bytes |

mod body;
pub(in crate::babel) mod cursor;
pub mod ignored;
pub mod reader;
mod state;
pub mod tlv;
pub mod writer;

use std::net::Ipv6Addr;

/// First byte of a packet (RFC 8966, §4.2).
pub const MAGIC: u8 = 42;
/// Second byte of a packet: the version of the protocol.
pub const VERSION: u8 = 2;
/// Length of what stands before the body.
pub const HEADER_LEN: usize = 4;

/// TLV types (RFC 8966, §4.6; RFC 8967, §6).
pub(in crate::babel) mod kind {
    pub const PAD1: u8 = 0;
    pub const PADN: u8 = 1;
    pub const ACK_REQUEST: u8 = 2;
    pub const ACK: u8 = 3;
    pub const HELLO: u8 = 4;
    pub const IHU: u8 = 5;
    pub const ROUTER_ID: u8 = 6;
    pub const NEXT_HOP: u8 = 7;
    pub const UPDATE: u8 = 8;
    pub const ROUTE_REQUEST: u8 = 9;
    pub const SEQNO_REQUEST: u8 = 10;
    pub const MAC: u8 = 16;
    pub const PC: u8 = 17;
    pub const CHALLENGE_REQUEST: u8 = 18;
    pub const CHALLENGE_REPLY: u8 = 19;
}

/// Sub-TLV types (RFC 8966, §4.7; RFC 9616, §5); padding of one byte is as in TLVs.
mod sub {
    pub const PADN: u8 = 1;
    pub const TIMESTAMP: u8 = 3;
    /// Set in those that may not be skipped (RFC 8966, §4.4).
    pub const MANDATORY: u8 = 0x80;
}

/// A hello of the unicast sequence (RFC 8966, §4.6.5).
const FLAG_UNICAST: u16 = 0x8000;
/// An update whose prefix later ones may abbreviate against (RFC 8966, §4.6.9).
const FLAG_PREFIX: u8 = 0x80;
/// An update whose prefix ends in the router-id (RFC 8966, §4.6.9).
const FLAG_ROUTER_ID: u8 = 0x40;

/// How an address is written (RFC 8966, §4.1.4; RFC 9229, §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Wildcard,
    /// Plain or reached through IPv6: the same bytes, and both mean nothing to us.
    V4,
    V6,
    /// The last eight bytes of an address in fe80::/64.
    LinkLocal,
}

impl Encoding {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Wildcard),
            1 | 4 => Some(Self::V4),
            2 => Some(Self::V6),
            3 => Some(Self::LinkLocal),
            _ => None,
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Wildcard => 0,
            Self::V4 => 1,
            Self::V6 => 2,
            Self::LinkLocal => 3,
        }
    }
}

/// Returns the address in fe80::/64 with that interface id.
fn link_local(id: [u8; 8]) -> Ipv6Addr {
    Ipv6Addr::from((0xfe80 << 112) | u128::from(u64::from_be_bytes(id)))
}

/// Returns the last eight bytes of an address.
fn last_half(address: Ipv6Addr) -> [u8; 8] {
    // Proof: the shift leaves the low 64 bits.
    (u128::from(address) as u64).to_be_bytes()
}

/// Returns the count of bytes that a prefix of so many bits takes (RFC 8966, §4.1.5).
fn bytes_of(bits: u8) -> usize {
    usize::from(bits).div_ceil(8)
}

/// Returns whether packets can be sent to an address.
fn is_host(address: Ipv6Addr) -> bool {
    !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
}
