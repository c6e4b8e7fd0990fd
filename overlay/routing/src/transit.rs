//! Parcels: session datagrams between nodes that are not neighbours, carried from link to link.
//!
//! ```text
//!   A ═══ link ═══ B ═══ link ═══ C        A's and C's session: WireGuard messages, opened by
//!   │              │              │        nobody else, each in one parcel:
//!   └ wrap ────► Relay(C) ─────► Here
//!                                          | IPv6 A → C | UDP 6786 → 6786 | WireGuard message |
//! ```
//! Decides what may travel through us: only parcels, only between nodes we know, only of neighbours
//! whose routes are of this life of ours, never back to where it came from, never more than
//! [`HOP_LIMIT`] hops. What is inside of a parcel is ciphertext, and whether it is ours to open is
//! the session's question. Clear packets never pass: they are the business of [`crate::table`].
//! Invariant: what [`judge`] lets on is never for this machine's TUN.

use std::net::Ipv6Addr;

use mesh_base::identity::NodeId;

use crate::fib::Fib;
use crate::packet::{HEADER_LEN, Packet, Transport, UDP, UDP_LEN};
use crate::table::DropReason;

/// The UDP port of parcels, at both ends; no program can use it in the overlay.
pub const PARCEL_PORT: u16 = 6786;

/// What a parcel adds to a datagram: an IPv6 and a UDP header.
pub const OVERHEAD: usize = HEADER_LEN + UDP_LEN;

/// Hops that a parcel may travel: what hosts on the Internet begin with, and far above the four of
/// the mean path among 10,000 nodes.
pub const HOP_LIMIT: u8 = 64;

/// Where the hop limit stands in an IPv6 header.
const HOP_LIMIT_AT: usize = 7;

/// What becomes of a parcel that a neighbour handed us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transit<'a> {
    /// It is for us: a datagram of the session with the node of this address.
    Here {
        /// Who claims to have sent it; the session proves it.
        source: Ipv6Addr,
        /// A WireGuard message.
        datagram: &'a [u8],
    },
    /// It goes on to a neighbour.
    Relay(NodeId),
    /// It goes nowhere.
    Drop(DropReason),
}

/// Returns whether a packet has the shape of a parcel; no program may send such a packet.
pub fn is_parcel(packet: &Packet<'_>) -> bool {
    matches!(
        packet.transport(),
        Transport::Udp {
            destination: PARCEL_PORT,
            ..
        }
    )
}

/// Decides about a parcel that came from the neighbour `from`. `is_member` tells whether an address
/// belongs to an admitted node.
pub fn judge<'a>(
    packet: &Packet<'a>,
    from: NodeId,
    own: Ipv6Addr,
    fib: &Fib,
    is_member: impl Fn(&Ipv6Addr) -> bool,
) -> Transit<'a> {
    let Some(datagram) = message(packet) else {
        return Transit::Drop(DropReason::Malformed);
    };
    let (source, destination) = (packet.source(), packet.destination());
    if source == own || source == destination || !is_member(&source) {
        return Transit::Drop(DropReason::Source);
    }
    if destination == own {
        return Transit::Here { source, datagram };
    }
    if packet.hop_limit() <= 1 {
        return Transit::Drop(DropReason::HopLimit);
    }
    if !fib.takes_transit(&from) {
        return Transit::Drop(DropReason::Former);
    }
    match fib.next_hop(destination) {
        None => Transit::Drop(DropReason::Unreachable),
        // Its table and ours do not agree for a moment; sending it back could only make a loop.
        Some(next) if next == from => Transit::Drop(DropReason::Loop),
        Some(next) => Transit::Relay(next),
    }
}

/// Puts a datagram into a parcel at the start of `out`; none if it does not fit.
///
/// The UDP checksum is zero, as RFC 6935 allows for tunnels: every message inside is authenticated.
pub fn wrap(datagram: &[u8], from: Ipv6Addr, to: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
    let len = OVERHEAD.checked_add(datagram.len())?;
    let udp_len = u16::try_from(UDP_LEN + datagram.len()).ok()?;
    let parcel = out.get_mut(..len)?;
    let (header, rest) = parcel.split_at_mut_checked(HEADER_LEN)?;
    let (udp, body) = rest.split_at_mut_checked(UDP_LEN)?;
    let [length_high, length_low] = udp_len.to_be_bytes();
    let (first, addresses) = header.split_at_mut_checked(8)?;
    first.copy_from_slice(&[0x60, 0, 0, 0, length_high, length_low, UDP, HOP_LIMIT]);
    let (source, destination) = addresses.split_at_mut_checked(16)?;
    source.copy_from_slice(&from.octets());
    destination.copy_from_slice(&to.octets());
    let [port_high, port_low] = PARCEL_PORT.to_be_bytes();
    udp.copy_from_slice(&[
        port_high,
        port_low,
        port_high,
        port_low,
        length_high,
        length_low,
        0,
        0,
    ]);
    body.copy_from_slice(datagram);
    Some(len)
}

/// Takes one hop off a parcel that goes on.
pub fn spend_hop(parcel: &mut [u8]) {
    if let Some(hops) = parcel.get_mut(HOP_LIMIT_AT) {
        *hops = hops.saturating_sub(1);
    }
}

/// Says how many links a parcel of ours may cross.
pub fn set_hops(parcel: &mut [u8], hops: u8) {
    if let Some(limit) = parcel.get_mut(HOP_LIMIT_AT) {
        *limit = hops;
    }
}

/// Returns the WireGuard message of a parcel (types 1 to 4 with three zero bytes behind).
fn message<'a>(packet: &Packet<'a>) -> Option<&'a [u8]> {
    let body = packet.udp_body()?;
    let &[kind, 0, 0, 0, ..] = body else {
        return None;
    };
    (1..=4).contains(&kind).then_some(body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mesh_base::identity::SecretKey;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::build;

    const OWN: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 2, 0, 0, 0, 2);
    const NEAR: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 1, 0, 0, 0, 1);
    const FAR: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 3, 0, 0, 0, 3);
    const STRANGER: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 9, 0, 0, 0, 9);
    const MESSAGE: &[u8] = &[4, 0, 0, 0, 1, 2, 3, 4, 5];

    fn node(seed: u8) -> NodeId {
        NodeId(SecretKey::from_seed([seed; 32]).public())
    }

    fn parcel(from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let mut out = [0; 128];
        let len = wrap(MESSAGE, from, to, &mut out).unwrap();
        out[..len].to_vec()
    }

    fn judged(bytes: &[u8], from: u8) -> Transit<'_> {
        let mut fib = Fib::default();
        fib.set([0xfd, 0x6d, 0, 0, 0, 0, 0, 1], Some(node(1)));
        fib.set([0xfd, 0x6d, 0, 0, 0, 0, 0, 3], Some(node(3)));
        fib.set_transit(BTreeSet::from([node(1), node(3)]));
        let packet = Packet::parse(bytes).unwrap();
        assert!(is_parcel(&packet));
        judge(&packet, node(from), OWN, &fib, |address| {
            [NEAR, FAR, OWN].contains(address)
        })
    }

    #[test]
    fn parcel_for_us_gives_its_datagram() {
        let bytes = parcel(FAR, OWN);
        assert_eq!(
            judged(&bytes, 1),
            Transit::Here {
                source: FAR,
                datagram: MESSAGE
            }
        );
    }

    #[test]
    fn parcel_for_another_goes_on_to_the_next_hop() {
        assert_eq!(judged(&parcel(NEAR, FAR), 1), Transit::Relay(node(3)));
    }

    #[test]
    fn parcel_never_goes_back() {
        let reason = DropReason::Loop;
        assert_eq!(judged(&parcel(NEAR, FAR), 3), Transit::Drop(reason));
    }

    #[test]
    fn parcel_of_a_neighbour_that_remembers_our_former_life_ends_here() {
        let mut fib = Fib::default();
        fib.set([0xfd, 0x6d, 0, 0, 0, 0, 0, 3], Some(node(3)));
        fib.set_transit(BTreeSet::from([node(2)]));
        let (through, here) = (parcel(NEAR, FAR), parcel(NEAR, OWN));
        let judged = |bytes: &[u8], from: u8| {
            let packet = Packet::parse(bytes).unwrap();
            match judge(&packet, node(from), OWN, &fib, |_| true) {
                Transit::Here { .. } => Ok(None),
                Transit::Relay(next) => Ok(Some(next)),
                Transit::Drop(reason) => Err(reason),
            }
        };
        assert_eq!(judged(&through, 1), Err(DropReason::Former));
        assert_eq!(judged(&through, 2), Ok(Some(node(3))));
        assert_eq!(judged(&here, 1), Ok(None), "what is for us is ours");
    }

    #[test]
    fn sources_are_members_and_not_ourselves() {
        let reason = Transit::Drop(DropReason::Source);
        assert_eq!(judged(&parcel(STRANGER, FAR), 1), reason);
        assert_eq!(judged(&parcel(STRANGER, OWN), 1), reason);
        assert_eq!(judged(&parcel(OWN, FAR), 1), reason);
        assert_eq!(judged(&parcel(FAR, FAR), 1), reason);
    }

    #[test]
    fn destination_without_a_route_is_unreachable() {
        let reason = DropReason::Unreachable;
        assert_eq!(judged(&parcel(NEAR, STRANGER), 1), Transit::Drop(reason));
    }

    #[test]
    fn hops_run_out() {
        let mut bytes = parcel(NEAR, FAR);
        for _ in 1..HOP_LIMIT {
            assert_eq!(judged(&bytes, 1), Transit::Relay(node(3)));
            spend_hop(&mut bytes);
        }
        assert_eq!(judged(&bytes, 1), Transit::Drop(DropReason::HopLimit));
        bytes = parcel(FAR, OWN);
        bytes[HOP_LIMIT_AT] = 0;
        assert!(matches!(judged(&bytes, 1), Transit::Here { .. }));
    }

    #[test]
    fn clear_text_on_the_port_is_no_parcel() {
        for body in [
            &b""[..],
            b"\x05\0\0\0",
            b"\0\0\0\0",
            b"\x04\0\0",
            b"\x01\0\x01\0rest",
        ] {
            let bytes = build::udp((NEAR, PARCEL_PORT), (FAR, PARCEL_PORT), body);
            let reason = DropReason::Malformed;
            assert_eq!(judged(&bytes, 1), Transit::Drop(reason), "{body:?}");
        }
    }

    #[test]
    fn parcel_that_does_not_fit_is_not_made() {
        let mut out = vec![0; OVERHEAD + MESSAGE.len() - 1];
        assert_eq!(wrap(MESSAGE, NEAR, FAR, &mut out), None);
        assert_eq!(wrap(&[0; 70_000], NEAR, FAR, &mut [0; 80_000]), None);
    }

    proptest! {
        #[test]
        fn whatever_is_wrapped_comes_out_again(
            body in proptest::collection::vec(any::<u8>(), 0..1400),
            kind in 1u8..=4,
        ) {
            let datagram = [&[kind, 0, 0, 0][..], &body].concat();
            let mut out = vec![0; OVERHEAD + datagram.len()];
            let len = wrap(&datagram, FAR, OWN, &mut out).unwrap();
            prop_assert_eq!(len, out.len());
            prop_assert_eq!(
                judged(&out, 1),
                Transit::Here { source: FAR, datagram: &datagram }
            );
        }
    }
}
