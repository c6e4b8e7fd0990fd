//! Whom we keep links with: feeds the machine that chooses, and tells the other side.
//!
//! ```text
//!  contacts ─► known ┐                          ┌─► role and drain in the data plane's plan
//!  LinkSeen ─► up, down ├─► Neighbours ─► action ┤
//!  control lane ─► rtt ┘        ▲                └─► Link(Wanted / Unwanted) to the other side
//!                               └── Link(Wanted / Unwanted / Redirect) of the other side
//! ```
//! The choice itself is [`mesh_routing::neighbours`]. A link takes two: who chose somebody says so
//! on the control lane, and repeats it. In a small mesh everybody is everybody's neighbour, so
//! nothing is said. Wishes are no promises: a lost one is repeated, a false one costs the room of
//! one link.

use std::collections::BTreeSet;

use mesh_base::identity::NodeId;
use mesh_routing::neighbours::{Action, Verdict};

use crate::limits::{LINK_SILENT_MS_MAX, WISH_INTERVAL};
use crate::message::{LinkWish, Message};
use crate::node::Node;

impl Node {
    /// Tells the choice who may be chosen: members in standing whose addresses are known.
    pub(crate) fn know_neighbours(&mut self) {
        let contacts = self.peers.contacts().map(|contact| contact.contact.node);
        let eligible: BTreeSet<NodeId> = contacts
            .filter(|node| *node != self.id && self.in_standing(node))
            .collect();
        if eligible != self.eligible {
            self.neighbours.handle_known(&eligible, self.now.mono);
            self.eligible = eligible;
            self.follow_neighbours();
        }
    }

    /// Lets the choice see what the data plane and the control lane have measured.
    pub(crate) fn links_seen(&mut self) {
        let now = self.now.mono;
        for (node, link) in &self.links {
            let up = link
                .link_silent_ms
                .is_some_and(|silent| silent <= LINK_SILENT_MS_MAX);
            if up {
                self.neighbours.handle_up(node, now);
            } else {
                self.neighbours.handle_down(node, now);
            }
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
        if self.wish_next <= now {
            self.wish_next = now + WISH_INTERVAL;
            let chosen: Vec<NodeId> = self.neighbours.wanted().copied().collect();
            for node in chosen {
                self.tell_wish(node, LinkWish::Wanted);
            }
        }
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
        let plain = self.neighbours.is_small()
            || (wish == LinkWish::Wanted && !self.neighbours.is_ours(&node));
        if !plain && self.peers.peer(&node).is_some() {
            self.out.send(node, Message::Link(wish));
        }
    }
}
