//! Ways out of this machine: the UDP socket, streams of links, and parcels for nodes that are no
//! neighbours.
//!
//! A session's datagram leaves directly, in the stream of its link, or in a parcel inside a
//! neighbour's link. Whoever makes a datagram holds the lock of its own link, and two links are
//! never locked together: so parcels wait here until that lock is released, and `hands` hands them
//! to the next hops. Buffers are used again, so that a parcel costs no allocation. Invariant:
//! between two packets no parcel waits.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};

use mesh_base::identity::NodeId;
use mesh_routing::ecn::Ecn;
use mesh_routing::table::DropReason;
use mesh_routing::transit;

use crate::limits::{PARCEL_LEN_MAX, PARCELS_MAX};
use crate::streams::Streams;
use crate::wire::{Envelope, Wire};

/// How a datagram travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over the underlay, from or to this address.
    Direct(SocketAddr),
    /// Over the underlay too, in the stream of the link with this node.
    Stream(NodeId),
    /// In a parcel, over other nodes' links.
    Mesh,
}

/// What routing says about the way to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// It is the neighbour at the other end of its link.
    Straight,
    /// Another neighbour is nearer to it.
    Around,
    /// Nothing.
    Unknown,
}

/// The exit of one thread.
pub struct Exit<'a> {
    wire: &'a Wire,
    streams: Option<&'a dyn Streams>,
    own: Ipv6Addr,
    /// Each with whom it is for.
    parcels: VecDeque<(Ipv6Addr, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    envelope: Envelope,
}

impl<'a> Exit<'a> {
    /// Makes an exit of a node that has no address yet.
    pub fn new(wire: &'a Wire) -> Self {
        Self {
            wire,
            streams: None,
            own: Ipv6Addr::UNSPECIFIED,
            parcels: VecDeque::new(),
            spare: Vec::new(),
            envelope: Envelope::default(),
        }
    }

    /// Adds the streams of links; without them there are none.
    pub fn with_streams(mut self, streams: Option<&'a dyn Streams>) -> Self {
        self.streams = streams;
        self
    }

    /// Returns whether the link with a node can go by a stream.
    pub fn has_stream(&self, to: NodeId) -> bool {
        self.streams.is_some_and(|streams| streams.is_open(to))
    }

    /// Sets who sends the parcels.
    pub fn set_own(&mut self, own: Ipv6Addr) {
        self.own = own;
    }

    /// Returns who sends the parcels.
    pub fn own(&self) -> Ipv6Addr {
        self.own
    }

    /// Sends a datagram to the node that has `address` in the overlay.
    pub fn send(&mut self, datagram: &[u8], way: Way, address: Ipv6Addr) -> Result<(), DropReason> {
        self.send_marked(datagram, way, address, Ecn::NotEct)
    }

    /// The same with the mark of the packet inside.
    pub fn send_marked(
        &mut self,
        datagram: &[u8],
        way: Way,
        address: Ipv6Addr,
        mark: Ecn,
    ) -> Result<(), DropReason> {
        match way {
            Way::Direct(to) => {
                let sent = self
                    .wire
                    .send_marked(datagram, (to, mark), &mut self.envelope);
                sent.then_some(()).ok_or(DropReason::Congested)
            }
            // The stream's own queues have no marks: they drop.
            Way::Stream(to) => {
                let sent = self.streams.is_some_and(|it| it.send(to, datagram));
                sent.then_some(()).ok_or(DropReason::Congested)
            }
            Way::Mesh => self.pack(datagram, address, mark),
        }
    }

    /// Takes the parcel that waits longest, and whom it is for; give its buffer back with
    /// [`Exit::recycle`].
    pub fn take(&mut self) -> Option<(Ipv6Addr, Vec<u8>)> {
        self.parcels.pop_front()
    }

    /// Gives back the buffer of a parcel.
    pub fn recycle(&mut self, parcel: Vec<u8>) {
        self.spare.push(parcel);
    }

    fn pack(&mut self, datagram: &[u8], to: Ipv6Addr, mark: Ecn) -> Result<(), DropReason> {
        if PARCELS_MAX <= self.parcels.len() {
            return Err(DropReason::Congested);
        }
        let mut parcel = self.spare.pop().unwrap_or_default();
        // What is too long does not fit.
        parcel.resize(PARCEL_LEN_MAX.min(transit::OVERHEAD + datagram.len()), 0);
        if transit::wrap(datagram, self.own, to, &mut parcel).is_none() {
            self.spare.push(parcel);
            return Err(DropReason::Malformed);
        }
        mark.write(&mut parcel);
        self.parcels.push_back((to, parcel));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mesh_routing::packet::Packet;

    use super::*;

    const OWN: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 1);
    const FAR: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 2);

    #[test]
    fn parcels_wait_up_to_a_limit_and_their_buffers_come_back() {
        let wire = Wire::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let mut exit = Exit::new(&wire);
        exit.set_own(OWN);
        for number in 0..PARCELS_MAX {
            let last = u8::try_from(number).unwrap();
            assert_eq!(exit.send(&[4, 0, 0, 0, last], Way::Mesh, FAR), Ok(()));
        }
        let full = exit.send(&[4, 0, 0, 0, 7], Way::Mesh, FAR);
        assert_eq!(full, Err(DropReason::Congested));
        let mut count = 0;
        while let Some((_, parcel)) = exit.take() {
            let packet = Packet::parse(&parcel).unwrap();
            assert_eq!((packet.source(), packet.destination()), (OWN, FAR));
            assert_eq!(
                parcel.last().copied().map(usize::from),
                Some(count),
                "in order"
            );
            exit.recycle(parcel);
            count += 1;
        }
        assert_eq!((count, exit.spare.len()), (PARCELS_MAX, PARCELS_MAX));
        exit.send(&[4, 0, 0, 0, 7], Way::Mesh, FAR).unwrap();
        assert_eq!(exit.spare.len(), PARCELS_MAX - 1);
    }
}
