//! A checked view of one IPv6 packet (RFC 8200) with the transport header behind it.
//!
//! ```text
//!  0       4          8      40                    40+
//!  | 6 tc  | len nh hl | src 16 | dst 16 | TCP / UDP / ICMPv6 ...
//! ```
//! Decides only what a packet says about itself. Extension headers and fragments are not looked
//! through: everything in the overlay fits 1280 bytes, and what hides its ports passes no door.
//! Invariant: a [`Packet`] that exists is exactly as long as its header says and has whole
//! addresses.

use std::net::Ipv6Addr;

use mesh_base::address::is_overlay;

/// Length of the fixed IPv6 header.
pub const HEADER_LEN: usize = 40;

const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
/// Length of a UDP header.
pub(crate) const UDP_LEN: usize = 8;

/// Why bytes are not a packet that we carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Fewer bytes than the header, or than the header declares.
    #[error("cannot read a packet of {0} bytes as IPv6")]
    Short(usize),
    /// More bytes than the header declares.
    #[error("cannot take a packet with {0} bytes behind its end")]
    Trailing(usize),
    /// Another version than 6.
    #[error("cannot carry IP version {0}")]
    Version(u8),
}

/// What stands behind the IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'a> {
    /// A TCP segment (RFC 9293).
    Tcp {
        /// Sender's port.
        source: u16,
        /// Receiver's port.
        destination: u16,
        /// Control bits.
        flags: TcpFlags,
    },
    /// A UDP datagram (RFC 768).
    Udp {
        /// Sender's port.
        source: u16,
        /// Receiver's port.
        destination: u16,
    },
    /// An ICMPv6 echo request (RFC 4443, 4.1).
    EchoRequest {
        /// Matches the reply.
        identifier: u16,
    },
    /// An ICMPv6 echo reply (RFC 4443, 4.2).
    EchoReply {
        /// Matches the request.
        identifier: u16,
    },
    /// An ICMPv6 error (RFC 4443, 3) with as much of the packet it complains about as came along.
    Error {
        /// The start of that packet.
        about: &'a [u8],
    },
    /// Anything else: other protocols, extension headers, fragments, neighbour discovery, cut
    /// headers.
    Other,
}

/// The control bits of a TCP segment that the doors look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// Returns whether the segment asks for a new connection: SYN without ACK.
    pub fn opens(self) -> bool {
        self.0 & 0x12 == 0x02
    }

    /// Returns whether SYN is set.
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// Returns whether RST is set.
    pub fn resets(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Returns whether the segment ends a connection: FIN or RST.
    pub fn ends(self) -> bool {
        self.0 & 0x05 != 0
    }
}

/// An IPv6 packet whose header is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    next_header: u8,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet that fills `bytes` exactly.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (declared, packet) = Self::parse_header(bytes)?;
        let carried = packet.payload.len();
        if carried < declared {
            return Err(PacketError::Short(bytes.len()));
        }
        if declared < carried {
            return Err(PacketError::Trailing(carried - declared));
        }
        Ok(packet)
    }

    /// Reads the start of a packet as an ICMPv6 error quotes it; the end may be cut off.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, PacketError> {
        Self::parse_header(bytes).map(|(_, packet)| packet)
    }

    fn parse_header(bytes: &'a [u8]) -> Result<(usize, Self), PacketError> {
        let (header, payload) = bytes
            .split_at_checked(HEADER_LEN)
            .ok_or(PacketError::Short(bytes.len()))?;
        let &[
            first,
            _,
            _,
            _,
            high,
            low,
            next_header,
            hop_limit,
            ref addresses @ ..,
        ] = header
        else {
            return Err(PacketError::Short(bytes.len()));
        };
        if first >> 4 != 6 {
            return Err(PacketError::Version(first >> 4));
        }
        let (Some(source), Some(destination)) =
            (addresses.first_chunk::<16>(), addresses.last_chunk::<16>())
        else {
            return Err(PacketError::Short(bytes.len()));
        };
        let packet = Self {
            source: Ipv6Addr::from(*source),
            destination: Ipv6Addr::from(*destination),
            hop_limit,
            next_header,
            payload,
        };
        Ok((usize::from(u16::from_be_bytes([high, low])), packet))
    }

    /// Returns who claims to have sent it.
    pub fn source(&self) -> Ipv6Addr {
        self.source
    }

    /// Returns where it wants to go.
    pub fn destination(&self) -> Ipv6Addr {
        self.destination
    }

    /// Returns how many more routers it may pass.
    pub fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// Returns what stands behind the IPv6 header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Returns what stands behind the UDP header; none unless that says that it is all of the
    /// payload.
    pub(crate) fn udp_body(&self) -> Option<&'a [u8]> {
        let (udp, body) = self.payload.split_at_checked(UDP_LEN)?;
        let &[_, _, _, _, high, low, _, _] = udp else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        (self.next_header == UDP && len == self.payload.len()).then_some(body)
    }

    /// Returns its length in bytes, header included.
    #[expect(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Returns whether both addresses lie in the prefixes that the overlay claims.
    pub fn is_overlay(&self) -> bool {
        is_overlay(&self.source) && is_overlay(&self.destination)
    }

    /// Reads the transport header.
    pub fn transport(&self) -> Transport<'a> {
        match self.next_header {
            TCP => self.tcp(),
            UDP => self.udp(),
            ICMPV6 => self.icmp(),
            _ => Transport::Other,
        }
    }

    fn tcp(&self) -> Transport<'a> {
        // The fixed part has 20 bytes; the data offset must not point into it or past the end.
        let &[
            s1,
            s0,
            d1,
            d0,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            offset,
            flags,
            _,
            _,
            _,
            _,
            _,
            _,
            ..,
        ] = self.payload
        else {
            return Transport::Other;
        };
        let header_len = usize::from(offset >> 4) * 4;
        if header_len < 20 || self.payload.len() < header_len {
            return Transport::Other;
        }
        Transport::Tcp {
            source: u16::from_be_bytes([s1, s0]),
            destination: u16::from_be_bytes([d1, d0]),
            flags: TcpFlags(flags),
        }
    }

    fn udp(&self) -> Transport<'a> {
        let &[s1, s0, d1, d0, _, _, _, _, ..] = self.payload else {
            return Transport::Other;
        };
        Transport::Udp {
            source: u16::from_be_bytes([s1, s0]),
            destination: u16::from_be_bytes([d1, d0]),
        }
    }

    fn icmp(&self) -> Transport<'a> {
        let &[kind, code, _, _, i1, i0, _, _, ref rest @ ..] = self.payload else {
            return Transport::Other;
        };
        let identifier = u16::from_be_bytes([i1, i0]);
        match (kind, code) {
            (1..=4, _) => Transport::Error { about: rest },
            (128, 0) => Transport::EchoRequest { identifier },
            (129, 0) => Transport::EchoReply { identifier },
            _ => Transport::Other,
        }
    }
}

/// Builds packets for tests of this crate and of its users.
#[doc(hidden)]
pub mod build {
    use super::{ICMPV6, Ipv6Addr, TCP, UDP};

    /// Returns an IPv6 packet; checksums are not computed.
    pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend_from_slice(&len);
        bytes.extend_from_slice(&[next_header, 64]);
        bytes.extend_from_slice(&source.octets());
        bytes.extend_from_slice(&destination.octets());
        bytes.extend_from_slice(body);
        bytes
    }

    /// Returns a UDP datagram from and to (address, port).
    pub fn udp(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), body: &[u8]) -> Vec<u8> {
        let mut datagram = ports(from.1, to.1);
        let len = u16::try_from(8 + body.len()).unwrap_or(u16::MAX);
        datagram.extend_from_slice(&len.to_be_bytes());
        datagram.extend_from_slice(&[0, 0]);
        datagram.extend_from_slice(body);
        ipv6(from.0, to.0, UDP, &datagram)
    }

    /// Returns a TCP segment without options or data.
    pub fn tcp(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), flags: u8) -> Vec<u8> {
        let mut segment = ports(from.1, to.1);
        segment.extend_from_slice(&[0; 8]);
        segment.extend_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
        ipv6(from.0, to.0, TCP, &segment)
    }

    /// Returns an ICMPv6 message with two free words after the checksum.
    pub fn icmp(from: Ipv6Addr, to: Ipv6Addr, kind: u8, identifier: u16, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0];
        message.extend_from_slice(&identifier.to_be_bytes());
        message.extend_from_slice(&[0, 0]);
        message.extend_from_slice(rest);
        ipv6(from, to, ICMPV6, &message)
    }

    fn ports(source: u16, destination: u16) -> Vec<u8> {
        [source.to_be_bytes(), destination.to_be_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 2);

    #[track_caller]
    fn check(bytes: &[u8], expect: Transport<'_>) {
        let packet = Packet::parse(bytes).unwrap();
        assert_eq!(
            (packet.source(), packet.destination(), packet.hop_limit()),
            (A, B, 64)
        );
        assert_eq!(packet.transport(), expect);
    }

    #[test]
    fn transport_headers_are_read() {
        let tcp = build::tcp((A, 7), (B, 5432), 0x02);
        check(
            &tcp,
            Transport::Tcp {
                source: 7,
                destination: 5432,
                flags: TcpFlags(2),
            },
        );
        check(
            &build::udp((A, 7), (B, 53), b"x"),
            Transport::Udp {
                source: 7,
                destination: 53,
            },
        );
        check(
            &build::icmp(A, B, 128, 9, b""),
            Transport::EchoRequest { identifier: 9 },
        );
        check(
            &build::icmp(A, B, 129, 9, b""),
            Transport::EchoReply { identifier: 9 },
        );
        check(
            &build::icmp(A, B, 1, 0, b"abc"),
            Transport::Error { about: b"abc" },
        );
    }

    #[test]
    fn what_hides_its_ports_is_other() {
        check(
            &build::ipv6(A, B, 44, &[6, 0, 0, 0, 0, 0, 0, 0]),
            Transport::Other,
        );
        check(
            &build::ipv6(A, B, 0, &[6, 0, 0, 0, 0, 0, 0, 0]),
            Transport::Other,
        );
        check(&build::ipv6(A, B, 6, &[0; 19]), Transport::Other);
        check(&build::ipv6(A, B, 6, &[0; 20]), Transport::Other);
        check(&build::ipv6(A, B, 17, &[0; 7]), Transport::Other);
        check(&build::icmp(A, B, 135, 0, b""), Transport::Other);
    }

    #[test]
    fn length_must_be_the_declared_one() {
        let mut bytes = build::udp((A, 1), (B, 2), b"hello");
        bytes.push(0);
        assert_eq!(Packet::parse(&bytes), Err(PacketError::Trailing(1)));
        bytes.truncate(bytes.len() - 2);
        assert_eq!(Packet::parse(&bytes), Err(PacketError::Short(52)));
        assert_eq!(Packet::parse(&[0x60; 39]), Err(PacketError::Short(39)));
        assert_eq!(Packet::parse(&[0x45; 40]), Err(PacketError::Version(4)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            six: bool,
        ) {
            if let (true, Some(first)) = (six, bytes.first_mut()) {
                *first = 0x60;
            }
            let read = [Packet::parse(&bytes), Packet::parse_quoted(&bytes)];
            for packet in read.into_iter().flatten() {
                let _ = packet.transport();
            }
        }
    }
}
