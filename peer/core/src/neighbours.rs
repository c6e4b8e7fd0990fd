//! Whom we keep links with: feeds the machine that chooses, and tells the other side.
//!
//! ```text
//!  contacts ─► known, leaves ──┐                 ┌─► role and drain in the data plane's plan
//!  LinkSeen ─► up, down, routed ├─► Neighbours ──┤
//!  control lane ─► rtt ────────┘        ▲        └─► Link(Wanted / Unwanted) to the other side
//!                                       └── Link(Wanted / Unwanted / Redirect) of the other side
//! ```
//! The choice itself is [`mesh_routing::neighbours`]. A link takes two: who chose somebody says so
//! on the control lane, and repeats it. In a small mesh everybody is everybody's neighbour, so
//! nothing is said but by leaves. Wishes are no promises: a lost one is repeated, a false one costs
//! the room of one link.

use std::collections::BTreeSet;

use mesh_base::identity::NodeId;
use mesh_routing::neighbours::{Action, Station, Verdict};

use crate::limits::{LINK_SILENT_MS_MAX, WISH_AGAIN, WISH_INTERVAL};
use crate::message::{LinkWish, Message};
use crate::node::Node;

impl Node {
    /// Tells the choice who may be chosen: members in standing whose addresses are known.
    pub(crate) fn know_neighbours(&mut self) {
        let (mut cores, mut leaves) = (BTreeSet::new(), BTreeSet::new());
        let contacts = self.peers.contacts().map(|contact| &contact.contact);
        for it in contacts.filter(|it| it.node != self.id && self.in_standing(&it.node)) {
            let kind = if it.leaf { &mut leaves } else { &mut cores };
            kind.insert(it.node);
        }
        if cores != self.eligible || leaves != self.leaves {
            self.neighbours.handle_known(&cores, &leaves, self.now.mono);
            self.eligible = cores;
            self.leaves = leaves;
            self.follow_neighbours();
        }
    }

    /// Whether this node carries nobody else's packets.
    pub(crate) fn is_leaf(&self) -> bool {
        self.config.station == Station::Leaf
    }

    /// Lets the choice see what the data plane and the control lane have measured.
    pub(crate) fn links_seen(&mut self) {
        let now = self.now.mono;
        for (node, link) in &self.links {
            if self.is_up(node) {
                self.neighbours.handle_up(node, now);
            } else {
                self.neighbours.handle_down(node, now);
            }
            self.neighbours.handle_routed(node, link.routed_count, now);
        }
        for (node, peer) in self.peers.connected() {
            if let Some(rtt_us) = peer.rtt_us {
                self.neighbours.handle_rtt(*node, rtt_us, now);
            }
        }
        self.changed |= self.follow_neighbours();
    }

    /// Lets time pass for the choice, and repeats our wishes.
    pub(crate) fn neighbours_timers(&mut self) {
        let now = self.now.mono;
        if self.neighbours.poll_timeout().is_some_and(|due| due <= now) {
            self.neighbours.handle_timeout(now);
            self.changed |= self.follow_neighbours();
        }
        // Who did not know us yet when we asked does not answer: a link that is down is asked for
        // again soon.
        let all = self.wish_next <= now;
        if all {
            self.wish_next = now + WISH_INTERVAL;
        }
        if all || self.wish_again <= now {
            self.wish_again = now + WISH_AGAIN;
            let chosen: Vec<NodeId> = self.neighbours.wanted().copied().collect();
            for node in chosen {
                if all || !self.is_up(&node) {
                    self.tell_wish(node, LinkWish::Wanted);
                }
            }
        }
    }

    fn is_up(&self, node: &NodeId) -> bool {
        let silent = self.links.get(node).and_then(|link| link.link_silent_ms);
        silent.is_some_and(|silent| silent <= LINK_SILENT_MS_MAX)
    }

    /// Takes what another node wants of the link with us.
    pub(crate) fn link_wish(&mut self, from: NodeId, wish: LinkWish) {
        let now = self.now.mono;
        match wish {
            LinkWish::Wanted => {
                let verdict = self.neighbours.handle_inbound(from, now);
                if let Verdict::Redirected(others) = verdict {
                    let redirect = LinkWish::Redirect(others);
                    self.out.send(from, Message::Link(redirect));
                }
            }
            LinkWish::Unwanted => self.neighbours.handle_inbound_end(&from, now),
            LinkWish::Redirect(others) => self.neighbours.handle_redirect(from, &others, now),
        }
        self.changed |= self.follow_neighbours();
    }

    /// Tells the other sides what the choice did. Returns whether the plan is another one.
    fn follow_neighbours(&mut self) -> bool {
        let mut changed = false;
        while let Some(action) = self.neighbours.poll() {
            changed = true;
            match action {
                Action::Link(node) => self.tell_wish(node, LinkWish::Wanted),
                Action::Unlink(node) => self.tell_wish(node, LinkWish::Unwanted),
                Action::Drain(_) => {}
            }
        }
        changed
    }

    /// Says what we want of a link, if that is ours to say and not plain anyway.
    fn tell_wish(&mut self, node: NodeId, wish: LinkWish) {
        // Among ourselves; a leaf does not know how many others we know.
        let small = self.neighbours.is_small() && !self.leaves.contains(&node);
        let plain = small || (wish == LinkWish::Wanted && !self.neighbours.is_ours(&node));
        if !plain && self.peers.peer(&node).is_some() {
            // Behind our contact, without which the other side would not know us.
            self.out.send_durable(node, Message::Link(wish));
        }
    }

    /// Tells a node that has just connected what we want of it.
    pub(crate) fn greet_neighbour(&mut self, node: NodeId) {
        self.tell_wish(node, LinkWish::Wanted);
    }
}
