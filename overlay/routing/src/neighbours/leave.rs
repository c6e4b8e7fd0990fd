//! Who gives up a place: what is too many drains first, what is silent goes after a while.

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use super::limits::{DOWN_ALONE_MAX, DOWN_MAX, DRAIN_MAX, DRAIN_MIN, KEPT, RANDOM_KEPT};
use super::{Action, Aim, Link, Neighbours, Slot, State};

impl Neighbours {
    /// Drains one link of an aim that has too many; one at a time, so that never much moves.
    pub(super) fn drain_excess(&mut self, now: Moment) {
        let drains = |link: &Link| matches!(link.ours, Some(Slot::Draining { .. }));
        if self.links.values().any(drains) {
            return;
        }
        for aim in [Aim::Near, Aim::Random] {
            let counted = self.placed(aim).filter(|(_, link)| link.kept <= now);
            if counted.count() <= self.goal(aim) {
                continue;
            }
            let leaver = match aim {
                Aim::Near => self.farthest(now),
                Aim::Random => self.random_leaver(now),
            };
            if let Some(node) = leaver {
                self.drain(&node, aim, now);
                return;
            }
        }
    }

    /// Makes a link costly, so that what is routed over it finds another way.
    pub(super) fn drain(&mut self, node: &NodeId, was: Aim, now: Moment) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.ours = Some(Slot::Draining { was, since: now });
        self.actions.push_back(Action::Drain(*node));
    }

    /// Gives up what is drained. What is still routed over has no other way, and stays.
    pub(super) fn end_drains(&mut self, now: Moment) {
        let drains: Vec<(NodeId, Aim, Moment)> = self
            .links
            .iter()
            .filter_map(|(node, link)| match link.ours {
                Some(Slot::Draining { was, since }) => Some((*node, was, since)),
                _ => None,
            })
            .collect();
        for (node, was, since) in drains {
            let Some(link) = self.links.get_mut(&node) else {
                continue;
            };
            let (early, late) = (since + DRAIN_MIN <= now, since + DRAIN_MAX <= now);
            let empty = (early && link.routed == Some(0)) || !link.is_up();
            if empty || (late && link.routed.is_none()) {
                self.finish(&node);
            } else if late {
                link.kept = now + KEPT;
                self.place(node, Slot::Placed(was), now);
            }
        }
    }

    /// Forgets wishes of others that are no longer repeated.
    pub(super) fn end_wishes(&mut self, now: Moment) {
        let mut gone = Vec::new();
        for (node, link) in &mut self.links {
            if link.theirs.is_some_and(|until| until <= now) {
                link.theirs = None;
                if link.ours.is_none() {
                    gone.push(*node);
                }
            }
        }
        for node in gone {
            self.unlink(&node);
        }
    }

    /// Lets go of neighbours that stay down, as long as there is somebody else to try.
    pub(super) fn leave_silent(&mut self, now: Moment) {
        let alone = self.is_alone();
        let silent: Vec<(NodeId, Option<Slot>)> = self
            .links
            .iter()
            .filter(|(_, link)| {
                let bound = match link.ours {
                    Some(Slot::Placed(Aim::Near)) if alone => DOWN_ALONE_MAX,
                    _ => DOWN_MAX,
                };
                matches!(link.state, State::Down { since } if since + bound <= now)
            })
            .map(|(node, link)| (*node, link.ours))
            .collect();
        for (node, ours) in silent {
            match ours {
                None => self.unlink(&node),
                Some(Slot::Placed(aim)) => {
                    if let Some(other) = self.candidate(aim, now) {
                        self.give_up(&node, now);
                        self.place(other, Slot::Placed(aim), now);
                    }
                }
                _ => {}
            }
        }
    }

    /// Lets go of a neighbour that did not answer.
    pub(super) fn give_up(&mut self, node: &NodeId, now: Moment) {
        self.unlink(node);
        self.avoided.handle_silent(*node, now);
    }

    /// Ends our own wish for a link; the other side's may keep it.
    fn finish(&mut self, node: &NodeId) {
        let room = self.has_room();
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if room && link.theirs.is_some() {
            link.ours = None;
            self.actions.push_back(Action::Link(*node));
            return;
        }
        self.unlink(node);
    }

    /// The farthest near one that is not kept.
    fn farthest(&self, now: Moment) -> Option<NodeId> {
        let near = self.placed(Aim::Near).filter(|(_, link)| link.kept <= now);
        near.map(|(node, _)| (self.sample.distance(node), *node))
            .max()
            .map(|(_, node)| node)
    }

    /// A random one by chance, but not the newest, and none of the last that are up.
    fn random_leaver(&mut self, now: Moment) -> Option<NodeId> {
        let newest = self.placed(Aim::Random).map(|(_, link)| link.placed).max();
        let up_count = self
            .placed(Aim::Random)
            .filter(|(_, link)| link.is_up())
            .count();
        let leavers: Vec<NodeId> = self
            .placed(Aim::Random)
            .filter(|(_, link)| link.kept <= now)
            .filter(|(_, link)| Some(link.placed) != newest || self.all_are_as_new(link))
            .filter(|(_, link)| RANDOM_KEPT + usize::from(link.is_up()) <= up_count)
            .map(|(node, _)| *node)
            .collect();
        leavers.get(self.chance.index(leavers.len())).copied()
    }

    /// Whether all random links are equally new, as after a change of station or size.
    fn all_are_as_new(&self, link: &Link) -> bool {
        self.placed(Aim::Random)
            .all(|(_, other)| other.placed == link.placed)
    }
}
