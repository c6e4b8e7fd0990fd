//! Overlay addresses computed from keys with a slow hash.
//!
//! `fd6d` + 112 bits for a node, `fd73` + the same for a service; the bits are the first 14 bytes
//! of Argon2id v1.3 (RFC 9106) of the key, m = 8192 KiB, t = 1, p = 1, salt `meshstead-address`, 16
//! bytes out. Fixed for ever. One hash takes about 5 ms, which makes every guess at a prefix dear;
//! so compute an address only for keys that the gate has admitted, and keep it. Each thread
//! remembers the last few thousand answers, which changes none of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv6Addr;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use crate::identity::{NodeId, ServiceId};
use crate::memo::{Memo, remembered};

/// First 16 bits of every node's address.
pub const NODE_PREFIX: u16 = 0xfd6d;
/// First 16 bits of every service's address.
pub const SERVICE_PREFIX: u16 = 0xfd73;

/// The overlay address of a node; its /64 is the node's prefix and router-id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeAddress(pub Ipv6Addr);

/// The overlay address of a service; in nobody's /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceAddress(pub Ipv6Addr);

impl NodeAddress {
    /// Computes the address of a node's key (about 5 ms).
    pub fn of(node: &NodeId) -> Self {
        Self(address(NODE_PREFIX, node.key().as_bytes()))
    }

    /// Returns the first 8 bytes: the node's /64.
    pub fn prefix(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0.octets();
        [a, b, c, d, e, f, g, h]
    }
}

impl ServiceAddress {
    /// Computes the address of a service's key (about 5 ms).
    pub fn of(service: &ServiceId) -> Self {
        Self(address(SERVICE_PREFIX, service.key().as_bytes()))
    }
}

/// Returns whether an address lies in one of the two prefixes that the overlay claims.
pub fn is_overlay(address: &Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    first == NODE_PREFIX || first == SERVICE_PREFIX
}

thread_local! {
    static HASHES: Memo<[u8; 16]> = const { RefCell::new(BTreeMap::new()) };
}

fn address(prefix: u16, key: &[u8; 32]) -> Ipv6Addr {
    let hash = HASHES.with(|memo| remembered(memo, key, || Ok::<_, Infallible>(slow_hash(key))));
    let Ok(hash) = hash;
    let [high, low] = prefix.to_be_bytes();
    let mut octets = [0; 16];
    let (head, tail) = octets.split_at_mut(2);
    head.copy_from_slice(&[high, low]);
    let (kept, _) = hash.split_at(14);
    tail.copy_from_slice(kept);
    Ipv6Addr::from(octets)
}

fn slow_hash(key: &[u8; 32]) -> [u8; 16] {
    // Proof for both: the parameters are constants inside Argon2's limits.
    let params = Params::new(8192, 1, 1, Some(16)).expect("constant parameters are lawful");
    let mut hash = [0; 16];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(key, b"meshstead-address", &mut hash)
        .expect("constant lengths are lawful");
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    #[test]
    fn address_of_a_key_is_fixed_for_ever() {
        let key = SecretKey::from_seed([7; 32]).public();
        let node = NodeAddress::of(&NodeId(key));
        let service = ServiceAddress::of(&ServiceId(key));
        assert_eq!(
            node.0.to_string(),
            "fd6d:b60c:d128:a4f1:7d13:7184:d8a0:b4e5"
        );
        assert_eq!(node.0.octets()[2..], service.0.octets()[2..]);
        assert_eq!(service.0.segments()[0], SERVICE_PREFIX);
    }

    #[test]
    fn only_the_two_prefixes_are_ours() {
        assert!(is_overlay(&"fd6d::1".parse().unwrap()));
        assert!(is_overlay(&"fd73::1".parse().unwrap()));
        assert!(!is_overlay(&"fd00::1".parse().unwrap()));
    }
}
