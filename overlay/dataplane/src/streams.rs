//! Streams that carry a link's datagrams where UDP does not: what others give us, and what comes.
//!
//! Somebody else has the connections; here is what the data plane asks of him, and the door for
//! what arrives. A datagram that came by a stream is believed as little as one from the socket: its
//! session proves whose it is, and it must be that of the node at the other end. Invariant: what
//! comes by a stream counts as the link's own underlay, so the stream must never run through the
//! overlay.

use std::time::Instant;

use mesh_base::identity::NodeId;

use crate::hands::Hands;
use crate::plane::Dataplane;

/// Streams to other nodes, over the underlay only.
pub trait Streams: Send + Sync {
    /// Returns whether there is one to a node, or one could be opened at once.
    fn is_open(&self, to: NodeId) -> bool;
    /// Takes a datagram for a node; returns false if there was no room. Called from the threads
    /// that carry packets, so it must not wait.
    fn send(&self, to: NodeId, datagram: &[u8]) -> bool;
}

impl Dataplane {
    /// Takes datagrams that came by the stream of the link with a node.
    pub fn take_streamed<'d>(&self, from: NodeId, datagrams: impl IntoIterator<Item = &'d [u8]>) {
        let mut hands = Hands::new(&self.shared);
        for datagram in datagrams {
            hands.renew();
            hands.take_streamed(datagram, from, Instant::now());
        }
    }
}
