//! The forwarding table of nodes: through which neighbour each /64 is reached.
//!
//! Holds what the Babel speaker selected and nothing else: no service, no host route, no metric. A
//! node whose next hop is itself is a neighbour at the other end of a link. Invariant: at most
//! [`ROUTES_MAX`] entries, so that no neighbour's announcements grow our memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use mesh_base::address::NODE_PREFIX;
use mesh_base::identity::NodeId;

use crate::limits::ROUTES_MAX;

/// Next hops by the first 64 bits of a node's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fib {
    next: BTreeMap<u64, NodeId>,
    /// Where a leaf sends what it has no own entry for.
    aggregate: Option<NodeId>,
    /// Neighbours whose parcels may pass through us.
    transit: BTreeSet<NodeId>,
}

impl Fib {
    /// Sets or removes the next hop towards the node that owns a /64. Returns false if the table is
    /// full and the destination new.
    pub fn set(&mut self, prefix: [u8; 8], next: Option<NodeId>) -> bool {
        let key = u64::from_be_bytes(prefix);
        let Some(next) = next else {
            self.next.remove(&key);
            return true;
        };
        if ROUTES_MAX <= self.next.len() && !self.next.contains_key(&key) {
            return false;
        }
        self.next.insert(key, next);
        true
    }

    /// Sets or removes the way to every node that has no entry.
    pub fn set_aggregate(&mut self, next: Option<NodeId>) {
        self.aggregate = next;
    }

    /// Sets the neighbours whose parcels may pass through us: those that have begun anew with this
    /// life of ours. Others may still hold routes through a former one, and what they send by those
    /// could go round.
    pub fn set_transit(&mut self, neighbours: BTreeSet<NodeId>) {
        self.transit = neighbours;
    }

    /// Returns whether a neighbour's parcels may pass through us.
    pub fn takes_transit(&self, from: &NodeId) -> bool {
        self.transit.contains(from)
    }

    /// Returns the neighbour through which a node's address is reached.
    pub fn next_hop(&self, address: Ipv6Addr) -> Option<NodeId> {
        let [first, ..] = address.segments();
        if first != NODE_PREFIX {
            return None;
        }
        self.next
            .get(&upper_half(address))
            .copied()
            .or(self.aggregate)
    }

    /// Returns over which neighbour how many destinations are reached. A leaf finds everybody by
    /// its aggregate, so nothing else counts there.
    pub fn routed_counts(&self) -> BTreeMap<NodeId, u32> {
        if let Some(next) = self.aggregate {
            return BTreeMap::from([(next, 1)]);
        }
        let mut counts = BTreeMap::new();
        for next in self.next.values() {
            let count: &mut u32 = counts.entry(*next).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }

    /// Returns whether anybody is reached over a neighbour other than these.
    pub fn leads_past(&self, neighbours: &BTreeSet<NodeId>) -> bool {
        self.next.values().any(|next| !neighbours.contains(next))
    }

    /// Returns how many destinations have an entry.
    pub fn len(&self) -> usize {
        self.next.len()
    }

    /// Returns whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty() && self.aggregate.is_none()
    }
}

/// Returns the first 64 bits of an address.
pub(crate) fn upper_half(address: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d]
        .into_iter()
        .fold(0, |half, segment| half << 16 | u64::from(segment))
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;

    use super::*;

    fn node(seed: u8) -> NodeId {
        NodeId(SecretKey::from_seed([seed; 32]).public())
    }

    fn prefix(last: u8) -> [u8; 8] {
        [0xfd, 0x6d, 0, 0, 0, 0, 0, last]
    }

    fn address(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd6d, 0, 0, last, 9, 9, 9, 9)
    }

    #[test]
    fn every_address_of_a_prefix_has_its_next_hop() {
        let mut fib = Fib::default();
        assert!(fib.set(prefix(1), Some(node(1))));
        assert_eq!(fib.next_hop(address(1)), Some(node(1)));
        assert_eq!(fib.next_hop(address(2)), None);
        fib.set(prefix(1), None);
        assert!(fib.is_empty());
    }

    #[test]
    fn aggregate_serves_nodes_only_and_entries_first() {
        let mut fib = Fib::default();
        fib.set_aggregate(Some(node(1)));
        fib.set(prefix(2), Some(node(2)));
        assert_eq!(fib.next_hop(address(2)), Some(node(2)));
        assert_eq!(fib.next_hop(address(3)), Some(node(1)));
        assert_eq!(fib.next_hop("fd73::1".parse().unwrap()), None);
        assert_eq!(fib.next_hop("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn what_is_routed_over_a_neighbour_is_counted() {
        let mut fib = Fib::default();
        for (last, next) in [(1, 1), (2, 1), (3, 2)] {
            fib.set(prefix(last), Some(node(next)));
        }
        let counts = BTreeMap::from([(node(1), 2), (node(2), 1)]);
        assert_eq!(fib.routed_counts(), counts);
        assert!(fib.leads_past(&BTreeSet::from([node(1)])));
        assert!(!fib.leads_past(&BTreeSet::from([node(1), node(2)])));
        fib.set_aggregate(Some(node(2)));
        assert_eq!(fib.routed_counts(), BTreeMap::from([(node(2), 1)]));
    }

    #[test]
    fn full_table_keeps_what_it_has() {
        let mut fib = Fib::default();
        for count in 0..ROUTES_MAX as u64 {
            assert!(fib.set(count.to_be_bytes(), Some(node(1))));
        }
        assert!(!fib.set(u64::MAX.to_be_bytes(), Some(node(1))));
        assert!(
            fib.set(0u64.to_be_bytes(), Some(node(2))),
            "known ones may change"
        );
        assert_eq!(fib.len(), ROUTES_MAX);
    }
}
