//! Everybody we know, some of them by chance, and how far away those are.
//!
//! The nearest of all nodes cannot be found without measuring all; the nearest of 64 by chance are
//! among the nearest tenth. One of the 64 is drawn anew at each turn, so that in time everybody is
//! looked at. Invariants: at most [`KNOWN_MAX`] nodes are known, in order; who is sampled is known;
//! at most [`SAMPLED_COUNT`] are sampled, and all if there are no more.

use std::collections::{BTreeMap, BTreeSet};

use mesh_base::identity::NodeId;

use super::limits::{KNOWN_MAX, SAMPLED_COUNT};
use mesh_base::chance::Chance;

/// Whom we may choose from.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    known: Vec<NodeId>,
    sampled: BTreeSet<NodeId>,
    rtt_us: BTreeMap<NodeId, u64>,
}

impl Sample {
    /// Replaces who is known; at the limit, those stay who were there.
    pub fn handle_known(&mut self, nodes: &BTreeSet<NodeId>, own: NodeId, chance: &mut Chance) {
        let is_new = |node: &&NodeId| !self.contains(node) && **node != own;
        let room = KNOWN_MAX.saturating_sub(
            self.known
                .iter()
                .filter(|node| nodes.contains(*node))
                .count(),
        );
        let new: Vec<NodeId> = nodes.iter().filter(is_new).take(room).copied().collect();
        self.known.retain(|node| nodes.contains(node));
        self.known.extend(new);
        self.known.sort_unstable();
        self.sampled.retain(|node| nodes.contains(node));
        self.rtt_us.retain(|node, _| nodes.contains(node));
        while self.sampled.len() < SAMPLED_COUNT.min(self.known.len()) {
            let Some(node) = self.draw(chance, |node| !self.sampled.contains(node)) else {
                return;
            };
            self.sampled.insert(node);
        }
    }

    /// Notes how far away a node is.
    ///
    /// The caller hands in only nodes that are sampled or linked.
    pub fn handle_rtt(&mut self, node: NodeId, rtt_us: u64) {
        self.rtt_us.insert(node, rtt_us);
    }

    /// Puts another node in the place of a sampled one that is not `linked`.
    pub fn renew(&mut self, linked: impl Fn(&NodeId) -> bool, chance: &mut Chance) {
        let Some(new) = self.draw(chance, |node| !self.sampled.contains(node) && !linked(node))
        else {
            return;
        };
        let idle: Vec<NodeId> = self
            .sampled
            .iter()
            .filter(|node| !linked(node))
            .copied()
            .collect();
        if let Some(old) = idle.get(chance.index(idle.len())) {
            self.sampled.remove(old);
            self.rtt_us.remove(old);
            self.sampled.insert(new);
        }
    }

    /// Forgets how far away a node is that is neither linked any more nor sampled.
    pub fn forget(&mut self, node: &NodeId) {
        if !self.sampled.contains(node) {
            self.rtt_us.remove(node);
        }
    }

    /// Draws a known node that is `wanted`; none if there is none.
    pub fn draw(&self, chance: &mut Chance, wanted: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        // From a place by chance to the end, and around: one look at each is the most that it
        // takes. Some luck first, or a node behind many unwanted ones would be drawn more often
        // than others.
        for _ in 0..16 {
            let node = self.known.get(chance.index(self.known.len()))?;
            if wanted(node) {
                return Some(*node);
            }
        }
        let (before, after) = self
            .known
            .split_at_checked(chance.index(self.known.len()))?;
        after
            .iter()
            .chain(before)
            .find(|node| wanted(node))
            .copied()
    }

    /// Returns the sampled node that is `wanted` and nearest; one whose distance is unknown only if
    /// there is no other.
    pub fn nearest(&self, wanted: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let wanted = self.sampled.iter().filter(|node| wanted(node));
        wanted
            .min_by_key(|node| (self.distance(node), **node))
            .copied()
    }

    /// Returns whether a node is known.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.known.binary_search(node).is_ok()
    }

    /// Returns whether a node is sampled.
    pub fn is_sampled(&self, node: &NodeId) -> bool {
        self.sampled.contains(node)
    }

    /// Returns the round trip to a node, if it was measured.
    pub fn rtt_us(&self, node: &NodeId) -> Option<u64> {
        self.rtt_us.get(node).copied()
    }

    /// Returns the round trip to a node; what was not measured is far away.
    pub fn distance(&self, node: &NodeId) -> u64 {
        self.rtt_us(node).unwrap_or(u64::MAX)
    }

    /// Returns everybody who is known.
    pub fn known(&self) -> &[NodeId] {
        &self.known
    }

    /// Returns whose distance is wanted.
    pub fn sampled(&self) -> &BTreeSet<NodeId> {
        &self.sampled
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, nodes};
    use super::*;

    fn sample(count: u64) -> (Sample, Chance) {
        let (mut sample, mut chance) = (Sample::default(), Chance::new(1));
        sample.handle_known(&nodes(0..count), node(0), &mut chance);
        (sample, chance)
    }

    #[test]
    fn few_nodes_are_all_sampled() {
        let (sample, _) = sample(20);
        assert_eq!(sample.known().len(), 19, "all but ourselves");
        assert_eq!(sample.sampled().len(), 19);
    }

    #[test]
    fn full_table_keeps_who_is_known_and_refuses_strangers() {
        let (mut sample, mut chance) = sample(KNOWN_MAX as u64);
        let old = sample.known().to_vec();
        sample.handle_known(&nodes(0..KNOWN_MAX as u64 + 50), node(0), &mut chance);
        assert_eq!(sample.known().len(), KNOWN_MAX);
        assert!(old.iter().all(|node| sample.contains(node)));
        assert_eq!(sample.sampled().len(), SAMPLED_COUNT);
    }

    #[test]
    fn who_is_no_longer_known_is_not_sampled_either() {
        let (mut sample, mut chance) = sample(200);
        sample.handle_known(&nodes(100..120), node(0), &mut chance);
        assert_eq!(sample.known().len(), 20);
        assert_eq!(sample.sampled(), &nodes(100..120));
    }

    #[test]
    fn in_time_everybody_is_looked_at() {
        let (mut sample, mut chance) = sample(200);
        let mut seen = sample.sampled().clone();
        for _ in 0..2000 {
            sample.renew(|_| false, &mut chance);
            seen.extend(sample.sampled().iter().copied());
            assert_eq!(sample.sampled().len(), SAMPLED_COUNT);
        }
        assert_eq!(seen, nodes(1..200));
    }

    #[test]
    fn nearest_is_a_measured_one() {
        let (mut sample, _) = sample(20);
        sample.handle_rtt(node(7), 900);
        sample.handle_rtt(node(8), 300);
        assert_eq!(sample.nearest(|_| true), Some(node(8)));
        assert_eq!(sample.nearest(|other| *other != node(8)), Some(node(7)));
        assert_eq!(sample.nearest(|_| false), None);
    }

    #[test]
    fn one_in_a_thousand_is_drawn_when_nobody_else_is_wanted() {
        let (sample, mut chance) = sample(1000);
        let drawn = sample.draw(&mut chance, |other| *other == node(500));
        assert_eq!(drawn, Some(node(500)));
        assert_eq!(sample.draw(&mut chance, |_| false), None);
        assert_eq!(Sample::default().draw(&mut chance, |_| true), None);
    }
}
