//! Asking other engines about the way: is a node there, and where does a parcel end?
//!
//! Sends what it is told to and hands on what is heard; who waits for what is the caller's
//! business. Answers are given in `hands`, at most as many as `Budget` allows, each no longer than
//! twice what it answers, besides the handshake of a session that is not there yet. Invariant: what
//! is heard came out of the session with the node that it names.

use std::time::Instant;

use mesh_base::identity::NodeId;
use mesh_routing::probe::{self, Decoy, Probe};
use mesh_routing::table::DropReason;

use crate::hands::Hands;
use crate::plane::Dataplane;

/// What a node said about a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub from: NodeId,
    /// What.
    pub said: Probe,
    /// Links that it crossed to us.
    pub hops: u8,
    /// When it came.
    pub at: Instant,
}

impl Dataplane {
    /// Asks a node whether it is there, in its session and on whatever way; makes the session if
    /// there is none.
    pub fn ask(&self, to: NodeId, nonce: u64) -> Result<(), DropReason> {
        let live = self.shared.live();
        let peer = live.peers.get(&to).ok_or(DropReason::Unreachable)?;
        let question = probe::ask(nonce, live.own, peer.address);
        Hands::new(&self.shared).send_to(to, &question, Instant::now())
    }

    /// Sends a decoy towards a node that ends after at most `hops` links.
    pub fn send_decoy(&self, to: NodeId, decoy: &Decoy, hops: u8) -> Result<(), DropReason> {
        let live = self.shared.live();
        let peer = live.peers.get(&to).ok_or(DropReason::Unreachable)?;
        let parcel = decoy.parcel(live.own, peer.address, hops);
        let parcel = parcel.ok_or(DropReason::Malformed)?;
        Hands::new(&self.shared).send_parcel(&parcel, Instant::now())
    }

    /// Returns the neighbour through which a node is reached now.
    pub fn next_hop(&self, to: NodeId) -> Option<NodeId> {
        let live = self.shared.live();
        live.fib.next_hop(live.peers.get(&to)?.address)
    }
}
