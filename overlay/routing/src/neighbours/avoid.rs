//! Nodes that are not tried for a while: they did not answer, or have no room.
//!
//! Invariant: at most [`AVOIDED_MAX`] entries; the one that may be tried first makes room.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use super::limits::{AVOID_MAX, AVOID_MIN, AVOIDED_MAX};

#[derive(Debug, Clone, Copy)]
struct Entry {
    until: Moment,
    wait: Duration,
}

/// Whom not to try, and until when.
#[derive(Debug, Clone, Default)]
pub struct Avoided(BTreeMap<NodeId, Entry>);

impl Avoided {
    /// Notes that a node did not answer: each time in a row it is left alone for twice as long.
    pub fn handle_silent(&mut self, node: NodeId, now: Moment) {
        let wait = self
            .0
            .get(&node)
            .map_or(AVOID_MIN, |old| (old.wait * 2).min(AVOID_MAX));
        self.insert(node, wait, now);
    }

    /// Notes that a node has no room, which says nothing against it.
    pub fn handle_full(&mut self, node: NodeId, wait: Duration, now: Moment) {
        self.insert(node, wait, now);
    }

    /// Notes that a node answered.
    pub fn handle_answer(&mut self, node: &NodeId) {
        self.0.remove(node);
    }

    /// Forgets everything: it was our own line that was down.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps only nodes that are still known.
    pub fn retain(&mut self, known: impl Fn(&NodeId) -> bool) {
        self.0.retain(|node, _| known(node));
    }

    /// Returns until when a node is avoided; none if it may be tried.
    pub fn until(&self, node: &NodeId, now: Moment) -> Option<Moment> {
        let entry = self.0.get(node)?;
        (now < entry.until).then_some(entry.until)
    }

    fn insert(&mut self, node: NodeId, wait: Duration, now: Moment) {
        if AVOIDED_MAX <= self.0.len() && !self.0.contains_key(&node) {
            let first = self.0.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(first) = first.map(|(first, _)| *first) {
                self.0.remove(&first);
            }
        }
        let until = now + wait;
        self.0.insert(node, Entry { until, wait });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;

    #[test]
    fn silent_node_is_left_alone_for_longer_each_time() {
        let mut avoided = Avoided::default();
        let mut now = Moment(5);
        let mut waits = Vec::new();
        for _ in 0..9 {
            avoided.handle_silent(node(1), now);
            let until = avoided.until(&node(1), now).unwrap();
            waits.push(until.since(now).as_secs());
            now = until;
            assert_eq!(avoided.until(&node(1), now), None);
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        avoided.handle_answer(&node(1));
        avoided.handle_silent(node(1), now);
        assert_eq!(avoided.until(&node(1), now), Some(now + AVOID_MIN));
    }

    #[test]
    fn full_table_forgets_who_may_be_tried_first() {
        let mut avoided = Avoided::default();
        for number in 0..AVOIDED_MAX as u64 {
            avoided.handle_silent(node(number), Moment(number));
        }
        avoided.handle_silent(node(9999), Moment(9999));
        assert_eq!(avoided.0.len(), AVOIDED_MAX);
        assert_eq!(avoided.until(&node(0), Moment(9999)), None);
        assert!(avoided.until(&node(1), Moment(9999)).is_some());
        assert!(avoided.until(&node(9999), Moment(9999)).is_some());
    }
}
