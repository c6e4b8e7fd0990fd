//! Routing talk inside a link: Babel's UDP datagrams between link-local addresses (RFC 8966, §4).
//!
//! A link is a point-to-point interface of its own, so each end has one link-local address there,
//! made of the lower half of its node address. Decides what counts as talk and what it looks like;
//! whether it may be believed is the data plane's question, which knows over which underlay it
//! came.

use std::net::Ipv6Addr;

use crate::packet::{HEADER_LEN, Packet, Transport, UDP, UDP_LEN};

/// Babel's UDP port (RFC 8966, §7).
pub const BABEL_PORT: u16 = 6696;

/// All Babel routers on a link (RFC 8966, §7).
pub const BABEL_GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 6);

/// What talk adds to a payload: an IPv6 and a UDP header.
pub const OVERHEAD: usize = HEADER_LEN + UDP_LEN;

/// A datagram of the routing protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk<'a> {
    /// The speaker's link-local address.
    pub source: Ipv6Addr,
    /// Ours, or [`BABEL_GROUP`].
    pub destination: Ipv6Addr,
    /// A Babel packet.
    pub payload: &'a [u8],
}

/// Returns the address that a node has on each of its links.
pub fn link_local(node: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c, d] = node.segments();
    Ipv6Addr::new(0xfe80, 0, 0, 0, a, b, c, d)
}

/// Returns the talk in a packet; none if it is something else.
pub fn read<'a>(packet: &Packet<'a>) -> Option<Talk<'a>> {
    let (source, destination) = (packet.source(), packet.destination());
    // First: hardly any packet is.
    let local = source.is_unicast_link_local()
        && (destination.is_unicast_link_local() || destination == BABEL_GROUP);
    if !local {
        return None;
    }
    let port = matches!(
        packet.transport(),
        Transport::Udp {
            source: BABEL_PORT,
            destination: BABEL_PORT
        }
    );
    let payload = packet.udp_body()?;
    port.then_some(Talk {
        source,
        destination,
        payload,
    })
}

/// Makes the packet of some talk; none if the payload is longer than a UDP datagram can be.
///
/// The UDP checksum is zero: the link authenticates every byte.
pub fn write(talk: Talk<'_>) -> Option<Vec<u8>> {
    let len = u16::try_from(UDP_LEN + talk.payload.len()).ok()?;
    let [high, low] = len.to_be_bytes();
    let [port_high, port_low] = BABEL_PORT.to_be_bytes();
    let mut bytes = Vec::with_capacity(OVERHEAD + talk.payload.len());
    // Network control traffic, CS6 (RFC 4594, §3.1); the hop limit does not matter on a link.
    bytes.extend_from_slice(&[0x6c, 0, 0, 0, high, low, UDP, 1]);
    bytes.extend_from_slice(&talk.source.octets());
    bytes.extend_from_slice(&talk.destination.octets());
    bytes.extend_from_slice(&[port_high, port_low, port_high, port_low, high, low, 0, 0]);
    bytes.extend_from_slice(talk.payload);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::build;

    const NODE: Ipv6Addr = Ipv6Addr::new(0xfd6d, 1, 2, 3, 4, 5, 6, 7);
    const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 4, 5, 6, 7);

    #[test]
    fn what_is_written_is_read() {
        for destination in [BABEL_GROUP, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)] {
            let talk = Talk {
                source: link_local(NODE),
                destination,
                payload: b"hello",
            };
            assert_eq!(talk.source, LOCAL);
            let bytes = write(talk).unwrap();
            assert_eq!(read(&Packet::parse(&bytes).unwrap()), Some(talk));
        }
    }

    #[test]
    fn everything_else_is_no_talk() {
        let no = |from: (Ipv6Addr, u16), to: (Ipv6Addr, u16)| {
            let bytes = build::udp(from, to, b"hello");
            assert_eq!(read(&Packet::parse(&bytes).unwrap()), None);
        };
        no((NODE, BABEL_PORT), (BABEL_GROUP, BABEL_PORT));
        no((LOCAL, BABEL_PORT), (NODE, BABEL_PORT));
        no((LOCAL, 1), (BABEL_GROUP, BABEL_PORT));
        no((LOCAL, BABEL_PORT), (BABEL_GROUP, 1));
        no(
            (LOCAL, BABEL_PORT),
            ("ff02::1".parse().unwrap(), BABEL_PORT),
        );
        let cut = build::ipv6(
            LOCAL,
            BABEL_GROUP,
            UDP,
            &[0x1a, 0x28, 0x1a, 0x28, 0, 9, 0, 0],
        );
        assert_eq!(read(&Packet::parse(&cut).unwrap()), None);
    }

    #[test]
    fn payload_over_the_length_field_is_not_written() {
        let payload = vec![0; 65_528];
        let talk = Talk {
            source: LOCAL,
            destination: BABEL_GROUP,
            payload: &payload,
        };
        assert_eq!(write(talk), None);
    }
}
