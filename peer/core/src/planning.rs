//! What this node knows about others when it plans: capacity, prices, distance, reach.
//!
//! Facts come from the replicated ledger and from live connections; the planner itself is
//! `mesh_federation::planner`. What others have free is estimated from the grants that we may see:
//! a node that is fuller than it looks refuses, and the next one is asked.

use std::collections::BTreeSet;

use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::Price;
use mesh_federation::agreement::Deal;
use mesh_federation::attempt::Candidate;
use mesh_federation::capacity::Amount;
use mesh_federation::planner::{Facts, RefusedBecause, Wanted, plan};
use mesh_ledger::charter::Capacity;
use mesh_ledger::order::Order;
use mesh_ledger::record::RecordId;

use crate::api::plan_token;
use crate::customer::Kept;
use crate::node::Node;

/// Whom to ask and why not the others.
pub(crate) struct Placement {
    /// The best first, with the round trip and the reason.
    pub candidates: Vec<(Candidate, Option<u64>, String)>,
    /// Who does not come into question, and why.
    pub refused: Vec<(NodeId, RefusedBecause)>,
}

impl Placement {
    /// Names the plan.
    pub fn token(&self) -> String {
        let candidates: Vec<Candidate> = self.candidates.iter().map(|(c, _, _)| *c).collect();
        plan_token(&candidates)
    }

    /// The next step for somebody whose order nobody can take.
    pub fn hint(&self) -> String {
        let no_deal = self
            .refused
            .iter()
            .any(|(_, why)| matches!(why, RefusedBecause::NoDeal(_)));
        let short = self
            .refused
            .iter()
            .any(|(_, why)| matches!(why, RefusedBecause::Short { .. }));
        if short {
            return "see what is free: meshctl offer ls; ask for less, or wait".to_owned();
        }
        if no_deal || self.refused.is_empty() {
            return "make an agreement with a seller: meshctl org accept AGREEMENT".to_owned();
        }
        "see which nodes are connected: meshctl status; what they offer: meshctl offer ls"
            .to_owned()
    }
}

impl Node {
    /// Plans an order with what is known now.
    pub(crate) fn plan_order(&self, order: &Order, kept: Option<&Kept>) -> Placement {
        let only = kept.and_then(|kept| kept.node);
        let wanted = Wanted {
            customer: self.id,
            recipe: order.recipe.clone(),
            memory_mib: order.memory_mib,
            cpu_millis: order.cpu_millis,
            disk_mib: order.disk_mib,
            node: None,
            org: kept.and_then(|kept| kept.org),
            price_cap: order.price_cap,
            rtt_us_max: None,
        };
        let facts = self.facts(&order.recipe);
        let planned = plan(&wanted, &facts);
        let mut placement = Placement {
            candidates: Vec::new(),
            refused: Vec::new(),
        };
        for candidate in planned.candidates {
            if only.is_some_and(|only| only != candidate.node) {
                placement
                    .refused
                    .push((candidate.node, RefusedBecause::NotAskedFor));
                continue;
            }
            let Deal {
                price, agreement, ..
            } = candidate.deal;
            let rtt = candidate.rtt_us.map(u64::from);
            let reason = candidate.reason.to_string();
            let candidate = Candidate {
                node: candidate.node,
                price,
                agreement,
            };
            placement.candidates.push((candidate, rtt, reason));
        }
        let refused = planned
            .refused
            .into_iter()
            .map(|refused| (refused.node, refused.because));
        placement.refused.extend(refused);
        placement
    }

    /// Returns only the nodes to ask.
    pub(crate) fn candidates(&self, order: &Order, kept: Option<&Kept>) -> Vec<Candidate> {
        let placement = self.plan_order(order, kept);
        placement
            .candidates
            .into_iter()
            .map(|(candidate, _, _)| candidate)
            .collect()
    }

    /// Why nodes that were not asked do not come into question.
    pub(crate) fn refused_by_plan(
        &self,
        order: &Order,
        kept: Option<&Kept>,
        tried: &BTreeSet<NodeId>,
    ) -> Vec<String> {
        let refused = self.plan_order(order, kept).refused;
        let untried = refused
            .into_iter()
            .filter(|(node, _)| !tried.contains(node));
        untried
            .map(|(node, why)| format!("{}: {why}", self.node_name(&node)))
            .collect()
    }

    fn facts(&self, recipe: &str) -> Vec<Facts> {
        let mut facts = Vec::new();
        for (node, view) in &self.view.capacities {
            let (name, org) = if *node == self.id {
                (self.body.name.clone(), self.body.org)
            } else {
                let Some(member) = self.roster.member(node) else {
                    continue;
                };
                (member.body.name.clone(), member.body.org)
            };
            let own_price = self
                .view
                .offers
                .get(&(org, recipe.to_owned()))
                .map(|(_, p)| *p);
            let own_price = own_price.filter(|_| org != self.body.org);
            let now = self.now.wall;
            let deal = self
                .admission
                .agreements
                .deal(&org, &self.body.org, recipe, own_price, now);
            let peer = self.peers.peer(node);
            let rtt_us = peer.and_then(|peer| peer.rtt_us);
            facts.push(Facts {
                node: *node,
                name,
                org,
                free: self.free_of(node, &view.capacity),
                recipes: view.capacity.recipes.keys().cloned().collect(),
                deal,
                rtt_us: rtt_us.map(|us| u32::try_from(us).unwrap_or(u32::MAX)),
                reachable: *node == self.id || peer.is_some(),
                cached: false,
            });
        }
        facts
    }

    /// What a node has free as far as we can see; of ourselves we know it.
    pub(crate) fn free_of(&self, node: &NodeId, capacity: &Capacity) -> Amount {
        if *node == self.id {
            return self.provider.allocator.free();
        }
        let granted = self.view.orders.values().filter(|view| {
            view.granted()
                .is_some_and(|(_, attempt)| attempt.node == *node)
        });
        let taken = granted
            .map(|view| Amount::wanted(&view.order))
            .fold(Amount::default(), Amount::plus);
        Amount::of(capacity).minus(taken)
    }

    /// The price at which an organisation sells to us, with the agreement.
    pub(crate) fn price_of(
        &self,
        seller: &OrgId,
        recipe: &str,
    ) -> Option<(Price, Option<RecordId>)> {
        let now = self.now.wall;
        let deal = self
            .admission
            .agreements
            .deal(seller, &self.body.org, recipe, None, now);
        deal.ok().map(|deal| (deal.price, deal.agreement))
    }
}
