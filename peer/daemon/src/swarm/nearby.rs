//! Who says on the local network that it is there (mDNS), and where.
//!
//! Whoever is on that network can say anything, so this says addresses only: the node asks those
//! that it knows as members, and the gate judges who answers. Invariant: at most 1,024
//! announcements are kept; with more, this machine no longer listens to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, PeerId, mdns};
use mesh_base::identity::NodeId;
use mesh_peer::message::CONTACT_ADDRESSES_MAX;

use crate::swarm::{identity, underlay_only};

/// Most announcements that are kept, an address each: a hall full of nodes has some hundreds.
const FOUND_MAX: usize = 1024;

/// Whether the local network is told of us, and asked for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearby {
    /// It is.
    Asked,
    /// It is not.
    Ignored,
}

/// What speaks mDNS, if anything does.
pub type Behaviour = Toggle<mdns::tokio::Behaviour>;

/// Begins to ask; without sockets for it the node finds others in other ways.
pub fn begin(nearby: Nearby, keypair: &Keypair) -> Behaviour {
    let begun = (nearby == Nearby::Asked).then(|| {
        let own = keypair.public().to_peer_id();
        mdns::tokio::Behaviour::new(mdns::Config::default(), own)
            .inspect_err(|error| tracing::warn!(%error, "the local network is not asked for nodes"))
            .ok()
    });
    Toggle::from(begun.flatten())
}

/// Ends it if the network says more than belongs to one.
pub fn limit(behaviour: &mut Behaviour) {
    let kept = behaviour.as_ref();
    if kept.is_some_and(|it| FOUND_MAX < it.discovered_nodes().len()) {
        tracing::warn!(
            "the local network announces too many nodes; it is not listened to any more"
        );
        *behaviour = Toggle::from(None);
    }
}

/// Returns the nodes that were announced, each with where it may be reached over the underlay.
pub fn found(announced: Vec<(PeerId, Multiaddr)>) -> BTreeMap<NodeId, Vec<SocketAddr>> {
    let mut found: BTreeMap<NodeId, Vec<SocketAddr>> = BTreeMap::new();
    for (peer, address) in announced {
        if underlay_only::is_overlay_address(&address) {
            continue;
        }
        let node = identity::node_id(&peer).zip(identity::socket_addr(&address));
        if let Some((node, address)) = node {
            let known = found.entry(node).or_default();
            if known.len() < CONTACT_ADDRESSES_MAX && !known.contains(&address) {
                known.push(address);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;

    use super::*;

    fn peer(seed: u8) -> (NodeId, PeerId) {
        let node = NodeId(SecretKey::from_seed([seed; 32]).public());
        (node, identity::peer_id(&node).unwrap())
    }

    #[test]
    fn nodes_are_found_where_they_say_and_never_in_the_overlay() {
        let (node, id) = peer(1);
        let at = |text: &str| -> Multiaddr { text.parse().unwrap() };
        let announced = vec![
            (id, at("/ip4/192.0.2.7/tcp/4001")),
            (id, at("/ip4/192.0.2.7/tcp/4001")),
            (id, at("/ip6/fd6d::1/tcp/4001")),
            (id, at("/ip4/192.0.2.7/udp/4001")),
            (PeerId::random(), at("/ip4/192.0.2.8/tcp/4001")),
        ];
        let address = "192.0.2.7:4001".parse().unwrap();
        assert_eq!(found(announced), BTreeMap::from([(node, vec![address])]));
    }

    #[test]
    fn node_is_not_found_everywhere() {
        let (node, id) = peer(1);
        let announced = (1..200).map(|port| {
            let address = identity::multiaddr(&SocketAddr::from(([192, 0, 2, 1], port)));
            (id, address)
        });
        let found = found(announced.collect());
        assert_eq!(found[&node].len(), CONTACT_ADDRESSES_MAX);
    }
}
