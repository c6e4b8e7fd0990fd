//! What programs ask of the node, and the commands among it.
//!
//! One function owns the match; each request is answered at once or becomes a waiting call.
//! Whatever an answer rests on is on disk before it is given.

use std::collections::BTreeMap;

use mesh_api::request::{DesiredState as Wish, OrderRequest};
use mesh_api::service::{Candidate as CandidateRow, PlanReply, RefusedNode};
use mesh_api::trade::{OfferRow, ParameterRow, RecipeRow};
use mesh_api::{ApiError, ErrorKind, Reply, Request};
use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use mesh_base::name::Name;
use mesh_compute::recipe::Recipe;
use mesh_federation::attempt::Candidate;
use mesh_ledger::order::{DesiredState, Order};
use mesh_ledger::record::RecordId;
use rand_chacha::rand_core::Rng;

use crate::calls::Waiting;
use crate::customer::Kept;
use crate::limits::{ORDER_WAIT, REMOTE_WAIT};
use crate::message::Message;
use crate::node::Node;
use crate::planning::Placement;
use crate::port::{CallId, Room};
use crate::provider::parameters_digest;
use crate::view::OrderView;

/// Disk that an order takes if it says nothing, in MiB.
const DISK_MIB_DEFAULT: u32 = 1024;

/// What to do about a full disk.
pub(crate) const DISK_FULL_HINT: &str = "make room where the node's home is (df -h shows which \
                                         disk that is); the node notices by itself";

impl Node {
    /// Answers a request or lets it wait, if there is room for it.
    pub(crate) fn api(&mut self, call: CallId, request: Request) {
        match self.has_room_for(&request) {
            Ok(()) => self.attend(call, request),
            Err(error) => self.reply(call, Err(error)),
        }
    }

    fn attend(&mut self, call: CallId, request: Request) {
        let answer = match request {
            Request::Status => Ok(self.status()),
            Request::Peers => Ok(Reply::Peers {
                peers: self.peer_rows(),
            }),
            Request::Routes { .. }
            | Request::Links
            | Request::ClientLs
            | Request::Netcheck
            | Request::Ping { .. }
            | Request::Trace { .. } => return self.explain(call, &request),
            Request::ClientAdd { name, key } => self.client_add(&name, key),
            Request::ClientRemove { name } => self.client_remove(&name),
            Request::MemberInvite { role, valid_s } => {
                return self.member_invite(call, role, valid_s);
            }
            Request::MemberLs => Ok(self.members()),
            Request::MemberRevoke { name, reason } => self.member_revoke(&name, &reason),
            Request::OrgInvite {
                sell,
                credit,
                valid_s,
                settlement_days,
            } => {
                return self.org_invite(call, &sell, credit, valid_s, settlement_days);
            }
            Request::OrgAccept { agreement } => return self.org_accept(call, &agreement),
            Request::OrgLs => Ok(self.org_rows()),
            Request::AgreementLs => Ok(Reply::Agreements {
                agreements: self.agreement_rows(),
            }),
            Request::OfferLs => Ok(self.offers()),
            Request::RecipeLs => Ok(self.recipe_rows()),
            Request::Order(order) => return self.order(call, &order),
            Request::Ps => Ok(self.services()),
            Request::Show { name } => self.own_order(&name).and_then(|order| {
                self.show(&order).ok_or_else(|| {
                    ApiError::new(
                        ErrorKind::NotFound,
                        format!("there is no service \"{name}\""),
                        "list them: meshctl ps",
                    )
                })
            }),
            Request::Resolve { name } => self.resolve(&name),
            Request::SetState { name, state } => return self.set_state(call, &name, state),
            Request::Logs {
                name,
                follow,
                bytes,
            } => return self.logs(call, &name, follow, bytes),
            Request::UsageLs { name } => {
                self.usage_orders(name.as_ref()).map(|orders| Reply::Usage {
                    usage: self.usage_rows(&orders),
                })
            }
            Request::UsageNow { name } => return self.usage_now_call(call, name.as_ref()),
            Request::InvoiceLs => Ok(self.invoice_rows()),
            Request::InvoiceShow { number } => self.invoice_show(&number),
            Request::InvoiceVerify { number } => self.invoice_verify(&number),
            Request::LedgerHeads => Ok(Reply::Heads {
                heads: self.head_rows(),
            }),
            Request::LedgerVerify => Ok(self.ledger_verify()),
        };
        self.reply(call, answer);
    }

    /// Refuses what begins something while the disk is full. What ends something, and what only
    /// looks, goes on.
    fn has_room_for(&self, request: &Request) -> Result<(), ApiError> {
        let begins = matches!(
            request,
            Request::Order(_)
                | Request::MemberInvite { .. }
                | Request::OrgInvite { .. }
                | Request::OrgAccept { .. }
                | Request::ClientAdd { .. }
        );
        if self.room == Room::Enough || !begins {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorKind::Failure,
            "this node's disk is full, so it takes nothing new on",
            DISK_FULL_HINT,
        ))
    }

    pub(crate) fn recipe(&self, name: &Name) -> Result<Recipe, ApiError> {
        if let Some(recipe) = self.recipes.get(name.as_str()) {
            return Ok(recipe.clone());
        }
        let near = mesh_compute::parameter::nearest(name.as_str(), self.recipes.keys());
        let hint = near.map_or_else(
            || "list what can be ordered: meshctl recipe ls".to_owned(),
            |near| format!("did you mean \"{near}\"? list what can be ordered: meshctl recipe ls"),
        );
        Err(ApiError::new(
            ErrorKind::NotFound,
            format!("there is no recipe \"{name}\""),
            hint,
        ))
    }

    /// Makes the order that a request describes, and what must be kept about it.
    fn draft_order(&mut self, request: &OrderRequest) -> Result<(Order, Kept), ApiError> {
        let recipe = self.recipe(&request.recipe)?;
        let name = match &request.name {
            Some(name) => name.clone(),
            None => self.free_name(&request.recipe)?,
        };
        self.name_is_free(&name)?;
        let parameters = recipe
            .check_parameters(&name, &request.parameters)
            .map_err(|error| {
                let hint = format!(
                    "see its parameters: meshctl recipe ls; recipe {}",
                    recipe.name
                );
                ApiError::new(ErrorKind::Usage, format!("bad parameter: {error}"), hint)
            })?;
        let node = match &request.node {
            Some(node) => Some(self.named(node.as_str())?),
            None => None,
        };
        let org = match &request.org {
            Some(org) => Some(self.org_named(org)?),
            None => None,
        };
        let guests = self.guests(&request.allow)?;
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let plain = codec::encode(&parameters);
        let order = Order {
            name,
            recipe: request.recipe.to_string(),
            recipe_digest: Some(recipe.digest()),
            service: self.service_id(&nonce),
            parameters: parameters_digest(&nonce, &plain),
            parameters_key: self.id.key().short(),
            memory_mib: request.memory_mib.unwrap_or(recipe.limits.memory_mib),
            cpu_millis: request.cpu_millis.unwrap_or(recipe.limits.cpu_millis),
            disk_mib: request.disk_mib.unwrap_or(DISK_MIB_DEFAULT),
            price_cap: request.price_cap,
            nonce,
            guests,
        };
        Ok((
            order,
            Kept {
                parameters,
                node,
                org,
            },
        ))
    }

    fn name_is_free(&self, name: &Name) -> Result<(), ApiError> {
        let taken = self.view.order_named(&self.body.org, name, &self.id);
        if taken.is_none_or(|view| view.desired() == DesiredState::Destroyed) {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorKind::Conflict,
            format!("{} has a service \"{name}\" already", self.body.org_name),
            format!("choose another --name, or remove it: meshctl destroy {name}"),
        ))
    }

    fn free_name(&self, recipe: &Name) -> Result<Name, ApiError> {
        let numbered = (1..10_000u32).find_map(|number| {
            let name: Name = format!("{recipe}-{number}").parse().ok()?;
            self.name_is_free(&name).is_ok().then_some(name)
        });
        numbered.ok_or_else(|| {
            ApiError::new(
                ErrorKind::Usage,
                "no free name was found",
                "choose one: --name NAME",
            )
        })
    }

    fn order(&mut self, call: CallId, request: &OrderRequest) {
        match self.try_order(request) {
            Ok(Ordered::Plan(plan)) => self.reply(call, Ok(Reply::Plan(plan))),
            Ok(Ordered::Placed(order)) => {
                let waiting = Waiting::Order {
                    order,
                    told: std::collections::BTreeSet::new(),
                };
                self.wait(call, waiting, ORDER_WAIT);
            }
            Err(error) => self.reply(call, Err(error)),
        }
    }

    fn try_order(&mut self, request: &OrderRequest) -> Result<Ordered, ApiError> {
        let (order, kept) = self.draft_order(request)?;
        let placement = self.plan_order(&order, Some(&kept));
        let token = placement.token();
        if request.plan_only {
            return Ok(Ordered::Plan(Box::new(
                self.plan_reply(&order, &placement, token),
            )));
        }
        if request.plan.as_ref().is_some_and(|shown| *shown != token) {
            return Err(ApiError::new(
                ErrorKind::Conflict,
                "the plan that was shown is stale: prices, capacity or nodes have changed",
                format!("look again: meshctl plan {}", request.recipe),
            ));
        }
        if placement.candidates.is_empty() {
            return Err(self.nobody(&order, &placement));
        }
        let candidates = placement
            .candidates
            .iter()
            .map(|(candidate, _, _)| *candidate)
            .collect();
        let placed = self.place(order, &kept, candidates).map_err(|error| {
            ApiError::new(
                ErrorKind::Failure,
                format!("the order could not be written: {error}"),
                "check the ledger: meshctl ledger verify",
            )
        })?;
        Ok(Ordered::Placed(placed))
    }

    fn nobody(&self, order: &Order, placement: &Placement) -> ApiError {
        let reasons: Vec<String> = placement
            .refused
            .iter()
            .map(|(node, reason)| format!("{}: {reason}", self.node_name(node)))
            .collect();
        let why = if reasons.is_empty() {
            "no node is known".to_owned()
        } else {
            reasons.join("; ")
        };
        ApiError::new(
            ErrorKind::CannotPlace,
            format!("no node can take {}: {why}", order.name),
            placement.hint(),
        )
    }

    fn plan_reply(&self, order: &Order, placement: &Placement, token: String) -> PlanReply {
        let candidates = placement
            .candidates
            .iter()
            .map(|(candidate, rtt_us, reason)| {
                let Candidate { node, price, .. } = candidate;
                let org = self
                    .org_of(node)
                    .map(|org| self.org_name(&org))
                    .unwrap_or_default();
                CandidateRow {
                    node: self.node_name(node),
                    org,
                    price: *price,
                    rtt_us: *rtt_us,
                    reason: reason.clone(),
                }
            });
        let refused = placement.refused.iter().map(|(node, reason)| RefusedNode {
            node: self.node_name(node),
            reason: reason.to_string(),
        });
        PlanReply {
            token,
            recipe: order.recipe.clone(),
            name: order.name.to_string(),
            candidates: candidates.collect(),
            refused: refused.collect(),
        }
    }

    /// An order of ours by name, which only the node that ordered it may change.
    fn changeable(&self, name: &Name) -> Result<OrderView, ApiError> {
        let order = self.own_order(name)?;
        let missing = || {
            ApiError::new(
                ErrorKind::NotFound,
                format!("there is no service \"{name}\""),
                "list them: meshctl ps",
            )
        };
        let view = self.view.orders.get(&order).ok_or_else(missing)?;
        if view.customer != self.id {
            let by = self.node_name(&view.customer);
            return Err(ApiError::new(
                ErrorKind::NotAuthorised,
                format!("{name} was ordered on {by}, and only that node's key may change it"),
                format!("run the same command on {by}"),
            ));
        }
        Ok(view.clone())
    }

    fn set_state(&mut self, call: CallId, name: &Name, wish: Wish) {
        let view = match self.changeable(name) {
            Ok(view) => view,
            Err(error) => return self.reply(call, Err(error)),
        };
        if view.desired() == DesiredState::Destroyed && wish != Wish::Destroyed {
            let error = ApiError::new(
                ErrorKind::Conflict,
                format!("{name} is being destroyed"),
                "order a new one: meshctl order",
            );
            return self.reply(call, Err(error));
        }
        let state = match wish {
            Wish::Running => DesiredState::Running,
            Wish::Stopped => DesiredState::Stopped,
            Wish::Destroyed => DesiredState::Destroyed,
        };
        let ready = view
            .granted()
            .and_then(|(_, a)| a.ready.as_ref())
            .map(|(_, _, id)| *id);
        let mut since_ready = None;
        if view.desired() != state {
            // A start after a stop is done when promises hold anew, not by the word from before.
            since_ready = ready;
            self.desire(&view, state);
        }
        self.wait(
            call,
            Waiting::State {
                order: view.id,
                wish,
                since_ready,
            },
            ORDER_WAIT,
        );
    }

    fn logs(&mut self, call: CallId, name: &Name, follow: bool, bytes: u64) {
        let order = match self.own_order(name) {
            Ok(order) => order,
            Err(error) => return self.reply(call, Err(error)),
        };
        let ask_next = self.now.mono;
        let waiting = Waiting::Logs {
            order,
            follow,
            offset: u64::MAX,
            sent: 0,
            left: bytes,
            ask_next,
        };
        let patience = if follow {
            std::time::Duration::MAX
        } else {
            REMOTE_WAIT
        };
        self.wait(call, waiting, patience);
    }

    /// Orders whose usage concerns this node: ours, and those that run here.
    fn usage_orders(&self, name: Option<&Name>) -> Result<Vec<RecordId>, ApiError> {
        let Some(name) = name else {
            return Ok(self.view.orders.keys().copied().collect());
        };
        // A provider asks for the usage of what it holds by its customer's name for it.
        let held = self.view.orders.values().find(|view| {
            view.order.name == *name && view.org != self.body.org && self.concerns_us(view)
        });
        match held {
            Some(view) => Ok(vec![view.id]),
            None => Ok(vec![self.own_order(name)?]),
        }
    }

    fn usage_now_call(&mut self, call: CallId, name: Option<&Name>) {
        let orders = match self.usage_orders(name) {
            Ok(orders) => orders,
            Err(error) => return self.reply(call, Err(error)),
        };
        let mut beyond = BTreeMap::new();
        for order in orders {
            let Some(view) = self.view.orders.get(&order) else {
                continue;
            };
            let Some((_, granted)) = view.granted() else {
                continue;
            };
            let node = granted.node;
            let statements = self.view.usages.get(&order);
            let last = statements
                .and_then(|all| all.keys().next_back().copied())
                .unwrap_or(0);
            if node == self.id {
                beyond.insert(order, last);
                self.usage_now(order);
            } else if self.concerns_us(view) && self.peers.peer(&node).is_some() {
                beyond.insert(order, last);
                self.out.send(node, Message::UsageNow { order: order.0 });
            }
        }
        self.wait(call, Waiting::Usage { beyond }, REMOTE_WAIT);
    }

    /// Whether an order was placed by our organisation or is held by one of its nodes.
    fn concerns_us(&self, view: &OrderView) -> bool {
        let held = view
            .granted()
            .and_then(|(_, attempt)| self.org_of(&attempt.node));
        view.org == self.body.org || held == Some(self.body.org)
    }

    fn recipe_rows(&self) -> Reply {
        let rows = self.recipes.values().map(|recipe| RecipeRow {
            name: recipe.name.to_string(),
            summary: recipe.title.clone(),
            digest: recipe.digest(),
            memory_mib: recipe.limits.memory_mib,
            cpu_millis: recipe.limits.cpu_millis,
            disk_mib: DISK_MIB_DEFAULT,
            parameters: parameter_rows(recipe),
            cached: self.provider.software.contains(&recipe.digest()),
        });
        Reply::Recipes {
            recipes: rows.collect(),
        }
    }

    /// Who offers what, as far as the ledger tells us.
    fn offers(&self) -> Reply {
        let mut offers = Vec::new();
        for (node, view) in &self.view.capacities {
            if *node != self.id && self.roster.member(node).is_none() {
                // It was revoked; nothing of it can be had.
                continue;
            }
            let free = self.free_of(node, &view.capacity);
            for recipe in view.capacity.recipes.keys() {
                let price = self.price_of(&view.org, recipe).map(|(price, _)| price);
                if price.is_none() && view.org != self.body.org {
                    continue;
                }
                offers.push(OfferRow {
                    recipe: recipe.clone(),
                    node: self.node_name(node),
                    org: self.org_name(&view.org),
                    price: price.filter(|_| view.org != self.body.org),
                    memory_free_mib: u64::from(free.memory_mib),
                    cpu_free_millis: u64::from(free.cpu_millis),
                    disk_free_mib: u64::from(free.disk_mib),
                    connected: *node == self.id || self.peers.peer(node).is_some(),
                });
            }
        }
        Reply::Offers { offers }
    }
}

/// What became of an order request.
enum Ordered {
    Plan(Box<PlanReply>),
    Placed(RecordId),
}

fn parameter_rows(recipe: &Recipe) -> Vec<ParameterRow> {
    let row = |(name, parameter): (&String, &mesh_compute::parameter::Parameter)| ParameterRow {
        name: name.clone(),
        summary: parameter.title.clone(),
        default: parameter.default.as_ref().map(ToString::to_string),
        required: parameter.default.is_none() && parameter.generate.is_none(),
    };
    recipe.parameters.iter().map(row).collect()
}

/// Names a plan: what would be asked of whom at which price.
pub(crate) fn plan_token(candidates: &[Candidate]) -> String {
    let parts: Vec<(NodeId, i64)> = candidates
        .iter()
        .map(|c| (c.node, c.price.per_month.micros))
        .collect();
    Digest::of(&codec::encode(&parts)).short()
}
