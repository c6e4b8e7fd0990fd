//! One key, three names: our identity, libp2p's key pair, libp2p's PeerId.
//!
//! A PeerId of an ed25519 key is the key itself behind a few fixed bytes, so both directions are
//! exact.

use std::net::{IpAddr, SocketAddr};

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use mesh_base::identity::{NodeId, SecretKey};

/// Multihash code of "the digest is the value itself".
const IDENTITY_CODE: u64 = 0;

/// Returns libp2p's form of a node's secret key.
pub fn keypair(secret: &SecretKey) -> Keypair {
    // Proof: ed25519_from_bytes checks only the length, which the type fixes at 32.
    Keypair::ed25519_from_bytes(secret.to_seed()).expect("a seed of 32 bytes is a key")
}

/// Returns libp2p's name of a node; none if libp2p does not take the key.
pub fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.key().as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// Returns the node behind libp2p's name; none for keys of other kinds, which no node has.
pub fn node_id(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_CODE {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest())
        .ok()?
        .try_into_ed25519()
        .ok()?;
    mesh_base::identity::PublicKey::from_bytes(key.to_bytes())
        .ok()
        .map(NodeId)
}

/// Returns the TCP address as libp2p writes it.
pub fn multiaddr(address: &SocketAddr) -> Multiaddr {
    let host = match address.ip() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    Multiaddr::empty()
        .with(host)
        .with(Protocol::Tcp(address.port()))
}

/// Returns the TCP address that libp2p wrote; none for anything but an IP address and a port.
pub fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_peer_id_name_each_other() {
        let secret = SecretKey::from_seed([5; 32]);
        let node = NodeId(secret.public());
        let peer = peer_id(&node).unwrap();
        assert_eq!(keypair(&secret).public().to_peer_id(), peer);
        assert_eq!(node_id(&peer), Some(node));
    }

    #[test]
    fn peer_id_without_a_key_is_no_node() {
        assert_eq!(node_id(&PeerId::random()), None);
    }

    #[test]
    fn addresses_come_back() {
        for text in ["127.0.0.1:80", "[2001:db8::1]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(socket_addr(&multiaddr(&address)), Some(address));
        }
        assert_eq!(socket_addr(&"/dns/x/tcp/1".parse().unwrap()), None);
    }
}
