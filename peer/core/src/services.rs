//! Services as people see them: what was ordered, what is held, how to connect, how safe an order
//! is.

use std::collections::BTreeMap;

use mesh_api::Reply;
use mesh_api::service::{
    AttemptRow, OrderReply, Safety, ServiceHeld, ServiceOrdered, ServiceState, ShowReply,
};
use mesh_base::codec;
use mesh_base::identity::NodeId;
use mesh_base::seal;
use mesh_base::time::Moment;
use mesh_compute::instance::state::State;
use mesh_ledger::document::DocId;
use mesh_ledger::grant::ItemState;
use mesh_ledger::order::DesiredState;
use mesh_ledger::record::RecordId;

use crate::calls::millis;
use crate::limits::SEALED_MAX;
use crate::node::Node;
use crate::port::Reach;
use crate::provider::{parameters_digest, seal_context};
use crate::view::{AttemptView, OrderView};

impl Node {
    /// Returns what a service published, rendered for programs on this machine; needs the
    /// customer's key.
    pub(crate) fn connection(&mut self, view: &OrderView) -> Option<BTreeMap<String, String>> {
        let (_, granted) = view.granted()?;
        let (ready, _, _) = granted.ready.as_ref()?;
        if view.customer != self.id {
            return None;
        }
        let context = seal_context(&view.id);
        let plain = seal::open(&self.secret, &context, &ready.connection).ok()?;
        if parameters_digest(&view.order.nonce, &plain) != ready.connection_digest {
            return None;
        }
        let values: BTreeMap<String, String> = codec::decode(&plain, SEALED_MAX).ok()?;
        let recipe = self.recipes.get(&view.order.recipe)?.clone();
        let address = self.service_address(&view.order.service);
        let overlay = recipe.publish(&format!("[{address}]"), &values).ok()?;
        let mut fields = values.clone();
        fields.extend(recipe.port_values());
        fields.insert("host".to_owned(), address.to_string());
        if let Some(url) = overlay.get("url") {
            fields.insert("overlay_url".to_owned(), url.clone());
        }
        let here = if self.reach == Some(Reach::Loopback) {
            let mut local = recipe.clone();
            for port in local.ports.values_mut() {
                *port = *self.forwards.get(&(address, *port))?;
            }
            fields.insert("host".to_owned(), "127.0.0.1".to_owned());
            fields.extend(local.port_values());
            local.publish("127.0.0.1", &values).ok()?
        } else {
            overlay
        };
        fields.extend(here);
        Some(fields)
    }

    pub(crate) fn order_reply(&mut self, view: &OrderView, started: Moment) -> Option<OrderReply> {
        if !self.is_reachable(view) {
            return None;
        }
        let fields = self.connection(view)?;
        let (_, granted) = view.granted()?;
        let org = self
            .org_of(&granted.node)
            .map(|org| self.org_name(&org))
            .unwrap_or_default();
        Some(OrderReply {
            order: view.id.0,
            name: view.order.name.to_string(),
            recipe: view.order.recipe.clone(),
            node: self.node_name(&granted.node),
            org,
            price: granted.price,
            rtt_us: self.peers.peer(&granted.node).and_then(|peer| peer.rtt_us),
            url: fields.get("url").cloned(),
            overlay_url: fields.get("overlay_url").cloned(),
            address: self.service_address(&view.order.service),
            port: self.main_port(&view.order.recipe),
            elapsed_ms: millis(self.now.mono.since(started)),
            safety: self.safety(view),
        })
    }

    fn main_port(&self, recipe: &str) -> Option<u16> {
        self.recipes
            .get(recipe)
            .and_then(|recipe| recipe.ports.values().next().copied())
    }

    /// Counts the disks that an order is on: those that acknowledged its document, and its
    /// provider's, whose signed answer rests on it.
    pub(crate) fn safety(&self, view: &OrderView) -> Safety {
        let mut holders: Vec<NodeId> = vec![view.customer];
        if let Some((doc, seq)) = self.place_of(&view.id) {
            let peers = self.roster.members().map(|(node, _)| *node);
            holders.extend(peers.filter(|node| self.replication.acked(node, &doc, seq)));
        }
        let answered = view.attempts.values().filter(|attempt| attempt.reserved);
        holders.extend(answered.map(|attempt| attempt.node));
        holders.sort_unstable();
        holders.dedup();
        // One voter: the order is safe once the voter has it on disk.
        let voters = self.roster.voters_of(&self.body.org);
        let majority = voters.len() / 2 + 1;
        let have = voters
            .iter()
            .filter(|voter| holders.contains(voter))
            .count();
        Safety {
            safe: !voters.is_empty() && majority <= have,
            copies: u32::try_from(holders.len()).unwrap_or(u32::MAX),
            copies_needed: u32::try_from(majority).unwrap_or(u32::MAX),
            holders: holders.iter().map(|node| self.node_name(node)).collect(),
        }
    }

    fn place_of(&self, id: &RecordId) -> Option<(DocId, u64)> {
        let entry = self.ledger.entry(id)?;
        Some((entry.signed.record.doc, entry.seq))
    }

    pub(crate) fn ordered_rows(&self) -> Vec<ServiceOrdered> {
        let own = self.body.org;
        let mut views: Vec<&OrderView> = self
            .view
            .orders
            .values()
            .filter(|view| view.org == own)
            .filter(|view| service_state(view).0 != ServiceState::Destroyed)
            .collect();
        views.sort_by_key(|view| (view.order.name.clone(), view.wall));
        views
            .into_iter()
            .map(|view| {
                let held = view.granted().map(|(_, attempt)| attempt);
                ServiceOrdered {
                    name: view.order.name.to_string(),
                    recipe: view.order.recipe.clone(),
                    state: service_state(view).0,
                    node: held.map(|attempt| self.node_name(&attempt.node)),
                    org: held
                        .and_then(|attempt| self.org_of(&attempt.node))
                        .map(|org| self.org_name(&org)),
                    price: held.map(|attempt| attempt.price),
                    url: None,
                    dns_name: self.service_name(view),
                    ordered_at: view.wall,
                }
            })
            .collect()
    }

    pub(crate) fn held_rows(&self) -> Vec<ServiceHeld> {
        let mut rows = Vec::new();
        for (order, instance) in &self.provider.instances {
            let Some(view) = self.view.orders.get(order) else {
                continue;
            };
            let granted = view.granted().and_then(|(_, attempt)| attempt.granted);
            rows.push(ServiceHeld {
                name: view.order.name.to_string(),
                recipe: view.order.recipe.clone(),
                state: held_state(instance.state()),
                customer: self.org_name(&view.org),
                address: instance.plan().spec.address,
                memory_mib: view.order.memory_mib,
                granted_at: granted.unwrap_or(view.wall),
                restarts: self.provider.restarts.get(order).copied().unwrap_or(0),
            });
        }
        rows
    }

    pub(crate) fn services(&mut self) -> Reply {
        let mut ordered = self.ordered_rows();
        for row in &mut ordered {
            let view = row.name.parse().ok().and_then(|name| {
                self.view
                    .order_named(&self.body.org, &name, &self.id)
                    .cloned()
            });
            let fields = view.and_then(|view| self.connection(&view));
            row.url = fields.and_then(|fields| fields.get("url").cloned());
        }
        Reply::Services {
            ordered,
            held: self.held_rows(),
        }
    }

    pub(crate) fn show(&mut self, order: &RecordId) -> Option<Reply> {
        let view = self.view.orders.get(order)?.clone();
        let (state, mut sentence) = service_state(&view);
        if view.customer != self.id {
            let by = self.node_name(&view.customer);
            sentence = format!("{sentence}; how to connect is sealed to {by}, which ordered it");
        }
        let held = view.granted().map(|(_, attempt)| attempt.clone());
        let cost = self.usage_rows(&[view.id]).pop().map(|row| row.cost);
        let fields = self.connection(&view).unwrap_or_default();
        Some(Reply::Show(Box::new(ShowReply {
            name: view.order.name.to_string(),
            order: view.id.0,
            recipe: view.order.recipe.clone(),
            state,
            sentence,
            node: held.as_ref().map(|attempt| self.node_name(&attempt.node)),
            org: held
                .as_ref()
                .and_then(|attempt| self.org_of(&attempt.node))
                .map(|org| self.org_name(&org)),
            address: self.service_address(&view.order.service),
            allowed: self.allowed_words(&view.org, &view.order.guests),
            dns_name: self.service_name(&view),
            fields,
            price: held.as_ref().map(|attempt| attempt.price),
            cost,
            ordered_at: view.wall,
            ready_at: held.and_then(|attempt| attempt.ready.map(|(_, wall, _)| wall)),
            attempts: view
                .attempts
                .iter()
                .map(|(n, a)| self.attempt_row(*n, a))
                .collect(),
            safety: self.safety(&view),
        })))
    }

    /// Returns the whole name under which a service resolves here, if it does.
    fn service_name(&self, view: &OrderView) -> Option<String> {
        // Whatever has a name has had its address computed.
        self.name_of(self.addresses.get(&view.order.service)?)
    }

    fn attempt_row(&self, number: u32, attempt: &AttemptView) -> AttemptRow {
        let outcome = match attempt {
            AttemptView {
                refused: Some(reason),
                ..
            } => format!("refused: {reason}"),
            AttemptView { released: true, .. } => "released".to_owned(),
            AttemptView {
                granted: Some(_), ..
            } => "granted".to_owned(),
            AttemptView { award: Some(_), .. } => "awarded".to_owned(),
            AttemptView { reserved: true, .. } => "reserved".to_owned(),
            _ => "asked".to_owned(),
        };
        AttemptRow {
            attempt: number,
            node: self.node_name(&attempt.node),
            at: attempt.wall,
            outcome,
        }
    }
}

/// What an order's records say about its service, in a word and in a sentence.
pub(crate) fn service_state(view: &OrderView) -> (ServiceState, String) {
    let wanted = view.desired();
    let Some((_, attempt)) = view.granted() else {
        return ungranted_state(view);
    };
    let word = |state, text: &str| (state, text.to_owned());
    if wanted == DesiredState::Destroyed {
        return word(ServiceState::Destroying, "it is being removed");
    }
    match &attempt.state {
        None | Some(ItemState::Preparing | ItemState::Creating | ItemState::Starting) => {
            word(ServiceState::Preparing, "its node is preparing it")
        }
        Some(ItemState::Running) if wanted == DesiredState::Stopped => {
            word(ServiceState::Stopping, "it is being stopped")
        }
        Some(ItemState::Running) => word(ServiceState::Ready, "its promises hold"),
        Some(ItemState::Broken) => word(
            ServiceState::Degraded,
            "a promise does not hold; its node is repairing it",
        ),
        Some(ItemState::Stopped) => word(ServiceState::Stopped, "it is stopped, as asked"),
        Some(ItemState::Failed(reason)) => (ServiceState::Failed, reason.clone()),
        Some(ItemState::Destroyed) => word(ServiceState::Destroyed, "nothing of it is left"),
    }
}

fn ungranted_state(view: &OrderView) -> (ServiceState, String) {
    let released = view.attempts.values().any(|attempt| attempt.released);
    let text = |text: &str| text.to_owned();
    match (view.desired(), view.awarded()) {
        (DesiredState::Destroyed, _) => (ServiceState::Destroyed, text("nothing of it is left")),
        (_, Some((_, attempt))) if attempt.refused.is_none() && !attempt.released => (
            ServiceState::Unknown,
            text("its node was awarded and has not answered yet"),
        ),
        _ if released => (ServiceState::Failed, text("its node let it go")),
        _ => (ServiceState::Planning, text("no node has it yet")),
    }
}

fn held_state(state: &State) -> ServiceState {
    match state {
        State::Fetching | State::Creating | State::Starting => ServiceState::Preparing,
        State::Ready => ServiceState::Ready,
        State::Degraded(_) => ServiceState::Degraded,
        State::Stopping => ServiceState::Stopping,
        State::Stopped => ServiceState::Stopped,
        State::Destroying => ServiceState::Destroying,
        State::Destroyed => ServiceState::Destroyed,
        State::Failed(_) => ServiceState::Failed,
    }
}
