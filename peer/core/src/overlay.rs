//! The data plane's plan, made from roster, contacts, holder records and instances; told when it
//! changed.
//!
//! One WireGuard session with every admitted node whose addresses are known; which of them are
//! neighbours, with a link that is kept alive, is chosen by [`crate::neighbours`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use mesh_base::identity::{NodeId, OrgId, ServiceId};
use mesh_base::name::Name;
use mesh_base::time::Wall;
use mesh_ledger::order::DesiredState;
use mesh_ledger::record::RecordId;
use mesh_routing::neighbours::Place;
use mesh_routing::plan::{InstancePlan, PeerPlan, Plan, Role};

use crate::node::Node;
use crate::port::{Effect, Reach};

/// A service that has a valid holder.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its order.
    pub order: RecordId,
    /// Whose it is.
    pub org: OrgId,
    /// Which node of theirs ordered it.
    pub customer: NodeId,
    /// When.
    pub wall: Wall,
    /// What they call it.
    pub name: Name,
    /// Its key.
    pub service: ServiceId,
    /// The node that holds it.
    pub node: NodeId,
}

impl Node {
    /// Tells the data plane what it should be doing, if that changed. Returns whether it did.
    pub(crate) fn publish_overlay(&mut self) -> bool {
        self.know_neighbours();
        let plan = self.overlay_plan();
        let changed = self.last_plan.as_ref() != Some(&plan);
        if changed {
            self.last_plan = Some(plan.clone());
            self.out.now(Effect::Overlay(Box::new(plan)));
        }
        changed
    }

    fn overlay_plan(&mut self) -> Plan {
        Plan {
            own: self.address,
            leaf: self.is_leaf(),
            peers: self.overlay_peers(),
            services: self.overlay_services(),
            instances: self.overlay_instances(),
            forwards: self.overlay_forwards(),
        }
    }

    fn overlay_peers(&self) -> BTreeMap<NodeId, PeerPlan> {
        let mut peers = BTreeMap::new();
        // Whose certificate has ended gets no packets either.
        for node in self.eligible.union(&self.leaves) {
            let known = self.roster.member(node).zip(self.peers.contact(node));
            let Some((member, contact)) = known else {
                continue;
            };
            let place = self.neighbours.role(node);
            let plan = PeerPlan {
                role: place.map_or(Role::Far, |_| Role::Neighbour),
                drains: place == Some(Place::Draining),
                leaf: contact.contact.leaf,
                address: member.address.0,
                x25519: node.key().to_x25519(),
                endpoints: contact.contact.wireguard.clone(),
            };
            peers.insert(*node, plan);
        }
        peers
    }

    /// Holder records whose writer really ordered the service and whose holder really was granted
    /// it.
    fn overlay_services(&mut self) -> BTreeMap<Ipv6Addr, NodeId> {
        let live = self.live_services().into_iter();
        let known = live.map(|live| (live.service, live.node));
        // What we are guests of has no name here: its order is not told to guests.
        let all: Vec<_> = known.chain(self.visited_services()).collect();
        all.into_iter()
            .map(|(service, node)| (self.service_address(&service), node))
            .collect()
    }

    /// Services whose packets find their way from here, for this organisation is their customer or
    /// their provider.
    pub(crate) fn live_services(&self) -> Vec<Live> {
        let (now, own) = (self.now.wall, self.body.org);
        let mut found = Vec::new();
        for view in self.view.orders.values() {
            // Only what concerns us, and only where it was granted: a slow hash is spent on each.
            let Some((_, granted)) = view.granted() else {
                continue;
            };
            let granted = granted.node;
            if view.org != own && self.org_of(&granted) != Some(own) {
                continue;
            }
            let Some(holder) = self.view.holders.get(&view.order.service) else {
                continue;
            };
            let gone = view.desired() == DesiredState::Destroyed
                && view.attempts.values().any(|attempt| attempt.released);
            let first = holder
                .holder
                .holders
                .first()
                .filter(|node| **node == granted);
            if let (Some(node), false) = (first, gone || holder.holder.not_after <= now) {
                found.push(Live {
                    order: view.id,
                    org: view.org,
                    customer: view.customer,
                    wall: view.wall,
                    name: view.order.name.clone(),
                    service: view.order.service,
                    node: *node,
                });
            }
        }
        found
    }

    fn overlay_instances(&mut self) -> BTreeMap<mesh_base::digest::Digest, InstancePlan> {
        let orders: Vec<RecordId> = self.provider.instances.keys().copied().collect();
        let mut instances = BTreeMap::new();
        for order in orders {
            let Some(view) = self.view.orders.get(&order) else {
                continue;
            };
            let allow = self.let_in(view.org, &view.order.guests);
            let service = view.order.service;
            let address = self.service_address(&service);
            instances.insert(order.0, InstancePlan { address, allow });
        }
        instances
    }

    /// Services of our organisation, each with the ports of its recipe.
    fn overlay_forwards(&mut self) -> BTreeSet<(Ipv6Addr, u16)> {
        if self.reach != Some(Reach::Loopback) {
            return BTreeSet::new();
        }
        let own = self.body.org;
        let mut wanted = Vec::new();
        for view in self.view.orders.values() {
            let live = view.org == own && view.granted().is_some();
            if let (true, Some(recipe)) = (live, self.recipes.get(&view.order.recipe)) {
                wanted.extend(
                    recipe
                        .ports
                        .values()
                        .map(|port| (view.order.service, *port)),
                );
            }
        }
        wanted
            .into_iter()
            .map(|(service, port)| (self.service_address(&service), port))
            .collect()
    }
}
