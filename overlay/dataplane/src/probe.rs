//! Asking other engines about the way: is a node there, and where does a parcel end?
//!
//! Sends what it is told to and hands on what is heard; who waits for what is the caller's
//! business. Answers are given in `hands`, at most as many as `Budget` allows, each no longer than
//! twice what it answers, besides the handshake of a session that is not there yet. Invariant: what
//! is heard came out of the session with the node that it names.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Instant;

use mesh_base::identity::NodeId;
use mesh_routing::fib::Fib;
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

    /// Asks a node whether it is there, over one neighbour and no other, with a packet of `len`
    /// bytes. Without a session it cannot be asked; if one is being made, that goes on sooner.
    pub fn ask_over(
        &self,
        to: NodeId,
        via: NodeId,
        nonce: u64,
        len: u16,
    ) -> Result<(), DropReason> {
        let live = self.shared.live();
        let peer = live.peers.get(&to).ok_or(DropReason::Unreachable)?;
        let now = Instant::now();
        if !peer.is_ready() {
            peer.hasten(now);
            return Err(DropReason::NoSession);
        }
        let question = probe::ask_at_length(nonce, len, live.own, peer.address);
        Hands::new(&self.shared).send_over(to, via, &question, now)
    }

    /// Returns the nodes to which programs sent packets around over others since the last call,
    /// each with its next hop and the length of the longest packet.
    pub fn take_uses(&self) -> Vec<(NodeId, NodeId, u16)> {
        let live = self.shared.live();
        let uses = live.peers.values().filter_map(|peer| {
            let len = peer.take_use()?;
            Some((peer.node, live.fib.next_hop(peer.address)?, len))
        });
        uses.collect()
    }

    /// Returns the address of a node that the plan knows.
    pub fn address_of(&self, node: NodeId) -> Option<Ipv6Addr> {
        let live = self.shared.live();
        live.peers.get(&node).map(|peer| peer.address)
    }

    /// Returns the forwarding table as it is now.
    pub fn forwarding(&self) -> Arc<Fib> {
        Arc::clone(&self.shared.live().fib)
    }

    /// Returns whether there is a session with a node.
    pub fn has_session(&self, with: NodeId) -> bool {
        let live = self.shared.live();
        live.peers.get(&with).is_some_and(|peer| peer.is_ready())
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
