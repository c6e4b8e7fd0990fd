//! What the data plane should be doing: the whole picture at once, made by the node's core.
//!
//! A plan replaces the one before; the data plane finds the differences. So no event can be lost
//! between them, and a restart needs nothing but the newest plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;

/// The state that the data plane should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// This node's own overlay address.
    pub own: Ipv6Addr,
    /// Whether this node is a leaf: it has a few uplinks, and nothing passes through it.
    pub leaf: bool,
    /// Every node that we keep a WireGuard session with.
    pub peers: BTreeMap<NodeId, PeerPlan>,
    /// Who holds which service now, from the newest valid holder records; may name ourselves.
    pub services: BTreeMap<Ipv6Addr, NodeId>,
    /// Instances of ours: which address each has and who may reach it.
    pub instances: BTreeMap<Digest, InstancePlan>,
    /// Services that programs on this machine want to reach through a loopback port, if the TUN is
    /// in a namespace of our own.
    pub forwards: BTreeSet<(Ipv6Addr, u16)>,
}

/// What we want of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A link: a session that is kept alive over the underlay and carries routing talk.
    #[default]
    Neighbour,
    /// A session when there is something to say, over other nodes' links.
    Far,
}

/// One peer of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPlan {
    /// Whether it is to be a neighbour.
    pub role: Role,
    /// Whether the link is to cost so much that everything finds another way: it will be given up.
    pub drains: bool,
    /// Whether it is a leaf: as a neighbour it is told that everybody is reached through us, and
    /// not who.
    pub leaf: bool,
    /// Its overlay address: the only source it may use, besides services that it holds.
    pub address: Ipv6Addr,
    /// Its WireGuard public key.
    pub x25519: [u8; 32],
    /// Where its UDP socket may be reached, best guess first; the session roams to where
    /// authenticated packets come from.
    pub endpoints: Vec<SocketAddr>,
}

/// One instance of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePlan {
    /// The service address of its TUN.
    pub address: Ipv6Addr,
    /// Node addresses that may reach it; everybody else is dropped. The instance itself may only
    /// answer.
    pub allow: BTreeSet<Ipv6Addr>,
}
