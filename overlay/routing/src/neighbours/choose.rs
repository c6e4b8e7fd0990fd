//! Who gets a place: gaps are filled at once, and each turn somebody new is tried.

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use super::limits::{
    EVERYBODY_MAX, LOOK_AGAIN, NEARER_PERCENT, OURS_MAX, REFUSED_COUNT, SETTLED, TRIAL_MAX, TURN,
    TURN_FIRST, TURNS_FIRST,
};
use super::{Action, Aim, Link, Neighbours, Slot, State, Station};

impl Neighbours {
    /// A small mesh: a link with everybody, at its ordinary cost.
    pub(super) fn link_everybody(&mut self, now: Moment) {
        // At most ten, so a copy costs less than a borrow would explain.
        let nodes: Vec<NodeId> = self
            .sample
            .known()
            .iter()
            .take(EVERYBODY_MAX)
            .copied()
            .collect();
        for node in nodes {
            let fresh = !self.links.contains_key(&node);
            let link = self
                .links
                .entry(node)
                .or_insert_with(|| Link::new(None, now));
            let drained = matches!(link.ours, Some(Slot::Draining { .. }));
            link.ours = Some(Slot::Everybody);
            if fresh || drained {
                self.actions.push_back(Action::Link(node));
            }
        }
        self.turn_next = now + TURN_FIRST;
    }

    /// The mesh has outgrown [`EVERYBODY_MAX`]: the nearest become near ones, the others random.
    pub(super) fn place_everybody(&mut self, now: Moment) {
        let everybody = self
            .links
            .iter()
            .filter(|(_, link)| link.ours == Some(Slot::Everybody));
        let mut everybody: Vec<NodeId> = everybody.map(|(node, _)| *node).collect();
        everybody.sort_by_key(|node| (self.sample.distance(node), *node));
        let near = self.goal(Aim::Near);
        for (index, node) in everybody.into_iter().enumerate() {
            let aim = if index < near { Aim::Near } else { Aim::Random };
            self.place(node, Slot::Placed(aim), now);
        }
    }

    /// Gives each gap to somebody.
    pub(super) fn fill(&mut self, now: Moment) {
        if now < self.fill_next {
            return;
        }
        for aim in [Aim::Near, Aim::Random] {
            while self.placed(aim).count() < self.goal(aim) && self.ours_count() < OURS_MAX {
                let Some(node) = self.candidate(aim, now) else {
                    self.fill_next = now + LOOK_AGAIN;
                    break;
                };
                self.place(node, Slot::Placed(aim), now);
            }
        }
    }

    /// Each turn somebody new is tried: a near one, then a random one.
    pub(super) fn turn(&mut self, now: Moment) {
        if now < self.turn_next {
            return;
        }
        self.turn_count = self.turn_count.saturating_add(1);
        let step = if self.turn_count <= TURNS_FIRST {
            TURN_FIRST
        } else {
            TURN
        };
        // Without jitter, nodes that started together would all move together.
        self.turn_next = now + self.chance.between(step - step / 10, step + step / 10);
        let links = &self.links;
        self.sample
            .renew(|node| links.contains_key(node), &mut self.chance);
        let busy = self
            .links
            .values()
            .any(|link| matches!(link.ours, Some(Slot::Trial { .. } | Slot::Draining { .. })));
        if busy || OURS_MAX <= self.ours_count() + 1 {
            return;
        }
        let near = || Some((Aim::Near, self.nearer(now)?));
        let chosen = if self.turn_count % 2 == 1 {
            near()
        } else {
            None
        };
        let chosen = chosen.or_else(|| Some((Aim::Random, self.candidate(Aim::Random, now)?)));
        if let Some((aim, node)) = chosen {
            let until = now + TRIAL_MAX;
            self.place(node, Slot::Trial { aim, until }, now);
        }
    }

    /// Ends trials: a link that is up, settled and near enough has earned its place.
    pub(super) fn judge_trials(&mut self, now: Moment) {
        let trials: Vec<(NodeId, Aim, Moment)> = self
            .links
            .iter()
            .filter_map(|(node, link)| match link.ours {
                Some(Slot::Trial { aim, until }) => Some((*node, aim, until)),
                _ => None,
            })
            .collect();
        for (node, aim, until) in trials {
            let Some(link) = self.links.get(&node) else {
                continue;
            };
            let State::Up { since } = link.state else {
                if until <= now {
                    self.give_up(&node, now);
                }
                continue;
            };
            // Of a leaf's uplinks all but one are spare.
            let used = self.station == Station::Leaf || link.routed != Some(0);
            let routed = since + SETTLED <= now && used;
            let measured = aim == Aim::Random || self.sample.rtt_us(&node).is_some();
            if routed && measured && self.is_worth(&node, aim) {
                self.place(node, Slot::Placed(aim), now);
            } else if until <= now || (routed && measured) {
                self.drain(&node, aim, now);
            }
        }
    }

    /// Gives a link a place.
    pub(super) fn place(&mut self, node: NodeId, slot: Slot, now: Moment) {
        let fresh = !self.links.contains_key(&node);
        let link = self
            .links
            .entry(node)
            .or_insert_with(|| Link::new(None, now));
        let drained = matches!(link.ours, Some(Slot::Draining { .. }));
        link.ours = Some(slot);
        link.placed = now;
        if fresh || drained {
            self.actions.push_back(Action::Link(node));
        }
        self.named.retain(|named| *named != node);
    }

    /// Returns somebody for a gap: for a near one the nearest of the sample, else anybody. Whoever
    /// chose us is taken for a random one only if there is nobody else: that link exists anyway.
    pub(super) fn candidate(&mut self, aim: Aim, now: Moment) -> Option<NodeId> {
        let (links, avoided) = (&self.links, &self.avoided);
        let free = |node: &NodeId| {
            links.get(node).is_none_or(|link| link.ours.is_none())
                && avoided.until(node, now).is_none()
        };
        if aim == Aim::Near {
            return self.sample.nearest(free);
        }
        let new = |node: &NodeId| !links.contains_key(node) && free(node);
        if REFUSED_COUNT <= self.refused_count
            && let Some(named) = self.named.iter().find(|node| new(node))
        {
            return Some(*named);
        }
        let chance = &mut self.chance;
        let drawn = self.sample.draw(chance, new);
        drawn.or_else(|| self.sample.draw(chance, free))
    }

    /// Returns whom to try as a near one: somebody who is nearer, or whose distance is unknown.
    fn nearer(&self, now: Moment) -> Option<NodeId> {
        let (links, avoided) = (&self.links, &self.avoided);
        let node = self.sample.nearest(|node| {
            links.get(node).is_none_or(|link| link.ours.is_none())
                && avoided.until(node, now).is_none()
        })?;
        let unmeasured = self.sample.rtt_us(&node).is_none();
        (unmeasured || self.is_worth(&node, Aim::Near)).then_some(node)
    }

    /// Returns whether a node is clearly nearer than the farthest near one.
    fn is_worth(&self, node: &NodeId, aim: Aim) -> bool {
        if aim == Aim::Random {
            return true;
        }
        let near = self.placed(Aim::Near);
        let farthest = near.map(|(node, _)| self.sample.distance(node)).max();
        let enough = farthest.map_or(u64::MAX, |rtt| rtt / 100 * (100 - NEARER_PERCENT));
        self.sample.distance(node) < enough
    }
}
