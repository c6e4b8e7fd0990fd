//! Who is who, as the routing thread is told by the node's plan: neighbours, leaves, members.
//!
//! Decides what kind a link is: between peers, of a leaf to its uplink, of an uplink to its leaf.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use mesh_base::identity::NodeId;
use mesh_routing::babel::filter::{self, LinkFilter};
use mesh_routing::babel::link::LinkConfig;
use mesh_routing::babel::words::RouterId;
use mesh_routing::plan::{PeerPlan, Plan, Role};
use mesh_routing::talk::link_local;

/// What a link is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tie {
    role: filter::Role,
    drains: bool,
}

/// Who is who, from the node's plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Our own address.
    pub own: Option<Ipv6Addr>,
    /// Whether nothing passes through us.
    pub leaf: bool,
    /// With whom there is to be a link.
    pub neighbours: BTreeMap<NodeId, Tie>,
    /// Who may announce its own prefix.
    pub members: BTreeSet<RouterId>,
    /// Our own leaves.
    leaves: BTreeSet<NodeId>,
    /// Whether there is another node that is no leaf.
    has_peers: bool,
}

impl Places {
    /// Reads a plan.
    pub fn of(plan: &Plan) -> Self {
        let neighbour = |peer: &PeerPlan| peer.role == Role::Neighbour;
        let role = |peer: &PeerPlan| match (plan.leaf, peer.leaf) {
            (true, _) => filter::Role::Leaf,
            (false, true) => filter::Role::Uplink,
            (false, false) => filter::Role::Peer,
        };
        let tie = |peer: &PeerPlan| Tie {
            role: role(peer),
            drains: peer.drains,
        };
        let near = || plan.peers.iter().filter(|(_, peer)| neighbour(peer));
        Self {
            own: Some(plan.own),
            leaf: plan.leaf,
            neighbours: near().map(|(node, peer)| (*node, tie(peer))).collect(),
            members: plan
                .peers
                .values()
                .filter_map(|peer| RouterId::from_bytes(upper_half(peer.address)))
                .collect(),
            leaves: near()
                .filter(|(_, peer)| !plan.leaf && peer.leaf)
                .map(|(node, _)| *node)
                .collect(),
            has_peers: plan.peers.values().any(|peer| !peer.leaf),
        }
    }

    /// Returns whether a link that is of a kind here is of the same kind there, or in neither.
    pub fn agrees(&self, other: &Self, node: &NodeId) -> bool {
        let role = |places: &Self| places.neighbours.get(node).map(|tie| tie.role);
        role(self) == role(other)
    }

    /// Returns the neighbours here that are none there, whether there was a link with them or not.
    pub fn former<'a>(&'a self, next: &'a Self) -> impl Iterator<Item = &'a NodeId> {
        let ours = self.neighbours.keys();
        ours.filter(|node| !next.neighbours.contains_key(node))
    }

    /// Returns whether the link with a node is to drain.
    pub fn drains(&self, node: &NodeId) -> bool {
        self.neighbours.get(node).is_some_and(|tie| tie.drains)
    }

    /// Returns what the link with a neighbour is; none if it is none.
    pub fn link_config(&self, node: &NodeId) -> Option<LinkConfig> {
        let tie = self.neighbours.get(node)?;
        Some(LinkConfig {
            filter: LinkFilter::Native(tie.role),
            drains: tie.drains,
            ..LinkConfig::tunnel(link_local(self.own?))
        })
    }

    /// Returns whether leaves find nobody through us although there is somebody; none if we have
    /// none. `leads_past` tells whether anybody is reached over others than these.
    pub fn is_stranded(&self, leads_past: impl Fn(&BTreeSet<NodeId>) -> bool) -> Option<bool> {
        if self.leaves.is_empty() {
            return None;
        }
        Some(self.has_peers && !leads_past(&self.leaves))
    }
}

/// Returns the first 64 bits of an address.
pub fn upper_half(address: Ipv6Addr) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = address.octets();
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;

    use super::*;

    fn node(seed: u8) -> NodeId {
        NodeId(SecretKey::from_seed([seed; 32]).public())
    }

    fn plan(leaf: bool, peers: &[(u8, Role, bool)]) -> Plan {
        let peers = peers.iter().map(|(seed, role, leaf)| {
            let peer = PeerPlan {
                role: *role,
                drains: false,
                leaf: *leaf,
                address: Ipv6Addr::new(0xfd6d, 0, 0, u16::from(*seed), 0, 0, 0, 1),
                x25519: [0; 32],
                endpoints: Vec::new(),
            };
            (node(*seed), peer)
        });
        Plan {
            own: Ipv6Addr::new(0xfd6d, 0, 0, 99, 0, 0, 0, 1),
            leaf,
            peers: peers.collect(),
            services: BTreeMap::new(),
            instances: BTreeMap::new(),
            forwards: BTreeSet::new(),
        }
    }

    fn filter_of(places: &Places, seed: u8) -> Option<LinkFilter> {
        let config = places.link_config(&node(seed));
        config.map(|config| config.filter)
    }

    #[test]
    fn kind_of_a_link_is_that_of_its_ends() {
        use filter::Role::{Leaf, Peer, Uplink};

        let peers = [
            (1, Role::Neighbour, false),
            (2, Role::Neighbour, true),
            (3, Role::Far, false),
        ];
        let ours = Places::of(&plan(false, &peers));
        assert_eq!(filter_of(&ours, 1), Some(LinkFilter::Native(Peer)));
        assert_eq!(filter_of(&ours, 2), Some(LinkFilter::Native(Uplink)));
        assert_eq!(filter_of(&ours, 3), None);
        let leafs = Places::of(&plan(true, &peers));
        assert_eq!(filter_of(&leafs, 1), Some(LinkFilter::Native(Leaf)));
        assert!(!ours.agrees(&leafs, &node(1)));
        assert!(ours.agrees(&leafs, &node(3)));
        assert_eq!(ours.members.len(), 3);
    }

    #[test]
    fn drain_changes_a_link_and_not_its_kind() {
        let before = plan(false, &[(1, Role::Neighbour, false)]);
        let mut after = before.clone();
        after.peers.values_mut().for_each(|peer| peer.drains = true);
        let (before, after) = (Places::of(&before), Places::of(&after));
        assert!(before.agrees(&after, &node(1)));
        assert!(!before.drains(&node(1)) && after.drains(&node(1)));
        assert!(after.link_config(&node(1)).unwrap().drains);
    }

    #[test]
    fn former_neighbours_are_those_that_the_next_plan_has_not() {
        let near = |seed| (seed, Role::Neighbour, false);
        let before = Places::of(&plan(false, &[near(1), near(2), near(3)]));
        let after = Places::of(&plan(false, &[near(1), (2, Role::Far, false), near(4)]));
        let former: BTreeSet<NodeId> = before.former(&after).copied().collect();
        assert_eq!(former, BTreeSet::from([node(2), node(3)]));
        assert_eq!(before.former(&before).count(), 0);
    }

    #[test]
    fn uplink_of_leaves_alone_is_stranded_if_there_are_others() {
        let leaf = (2, Role::Neighbour, true);
        let alone = Places::of(&plan(false, &[leaf]));
        assert_eq!(alone.is_stranded(|_| false), Some(false));
        let one = Places::of(&plan(false, &[leaf, (3, Role::Far, false)]));
        assert_eq!(one.is_stranded(|_| false), Some(true));
        assert_eq!(one.is_stranded(|leaves| leaves.len() == 1), Some(false));
        let none = Places::of(&plan(false, &[(3, Role::Neighbour, false)]));
        assert_eq!(none.is_stranded(|_| false), None);
    }
}
