//! Programs that wait for something: what they were promised, what they were told, when they give
//! up.
//!
//! Every waiting call looks at the view after each input; nothing has to remember to wake it. A
//! call that hangs up is forgotten; what it ordered goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_api::event::Stage;
use mesh_api::request::DesiredState as Wish;
use mesh_api::trade::AgreementRow;
use mesh_api::{ApiError, ErrorKind, Event, Reply};
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::time::Moment;
use mesh_federation::invite::Invite;
use mesh_ledger::agreement::SignedAgreement;
use mesh_ledger::grant::ItemState;
use mesh_ledger::order::DesiredState;
use mesh_ledger::record::RecordId;

use crate::explain::Question;
use crate::limits::{CALLS_MAX, LOG_PIECE_MAX};
use crate::message::Message;
use crate::node::Node;
use crate::port::{CallId, Effect, Reach};
use crate::view::{OrderView, item_of};

/// What a call waits for.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// An order's promises.
    Order {
        order: RecordId,
        told: BTreeSet<(u32, Stage)>,
    },
    /// A state.
    State {
        order: RecordId,
        wish: Wish,
        since_ready: Option<RecordId>,
    },
    /// Usage statements beyond the ones known when the call came.
    Usage { beyond: BTreeMap<RecordId, u64> },
    /// Log pieces.
    Logs {
        order: RecordId,
        follow: bool,
        offset: u64,
        sent: u64,
        left: u64,
        ask_next: Moment,
    },
    /// The other side of an agreement.
    Accept { agreement: Box<SignedAgreement> },
    /// A new partner's capacity: an order typed next should find it.
    Partner {
        row: Box<AgreementRow>,
        seller: OrgId,
    },
    /// What the shell finds out about routes.
    Explain(Question),
    /// The join door's addresses.
    Invite { invite: Box<Invite> },
}

/// One waiting call.
#[derive(Debug)]
pub(crate) struct Call {
    pub started: Moment,
    pub deadline: Moment,
    pub waiting: Waiting,
}

/// Every waiting call.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: BTreeMap<CallId, Call>,
}

/// How often a followed log is asked for more.
const LOG_POLL: Duration = Duration::from_millis(300);

impl Calls {
    /// Notes a waiting call. Returns false if too many wait.
    pub fn wait(&mut self, id: CallId, call: Call) -> bool {
        if CALLS_MAX <= self.open.len() {
            return false;
        }
        self.open.insert(id, call);
        true
    }

    /// Forgets a call whose program hung up.
    pub fn forget(&mut self, id: CallId) {
        self.open.remove(&id);
    }

    /// Takes a call out.
    pub fn take(&mut self, id: CallId) -> Option<Call> {
        self.open.remove(&id)
    }

    /// Returns when the next call gives up or asks again.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.open
            .values()
            .map(|call| match &call.waiting {
                Waiting::Logs { ask_next, .. } => (*ask_next).min(call.deadline),
                _ => call.deadline,
            })
            .min()
    }
}

impl Node {
    pub(crate) fn reply(&mut self, call: CallId, reply: Result<Reply, ApiError>) {
        // Every answer may rest on what was just written: it waits for the disk.
        self.out.durable(Effect::ApiReply {
            call,
            reply: Box::new(reply),
        });
    }

    fn event(&mut self, call: CallId, event: Event) {
        self.out.durable(Effect::ApiEvent {
            call,
            event: Box::new(event),
        });
    }

    /// Lets a call wait, or answers that too many do.
    pub(crate) fn wait(&mut self, id: CallId, waiting: Waiting, patience: Duration) {
        let started = self.now.mono;
        let call = Call {
            started,
            deadline: started + patience,
            waiting,
        };
        self.changed = true;
        if !self.calls.wait(id, call) {
            let error = ApiError::new(
                ErrorKind::Failure,
                "too many programs wait for this node already",
                "wait for some of them to end and try again",
            );
            self.reply(id, Err(error));
        }
    }

    /// Looks at every waiting call again.
    pub(crate) fn progress_calls(&mut self) {
        let ids: Vec<CallId> = self.calls.open.keys().copied().collect();
        for id in ids {
            let Some(mut call) = self.calls.take(id) else {
                continue;
            };
            let done = match &mut call.waiting {
                Waiting::Order { order, told } => {
                    self.progress_order(id, call.started, *order, told)
                }
                Waiting::State {
                    order,
                    wish,
                    since_ready,
                } => self.progress_state(call.started, *order, *wish, *since_ready),
                Waiting::Usage { beyond } => self.progress_usage(beyond),
                Waiting::Logs {
                    order,
                    ask_next,
                    offset,
                    ..
                } => {
                    self.progress_logs(id, *order, *offset, ask_next);
                    None
                }
                Waiting::Accept { .. } | Waiting::Explain(_) => None,
                Waiting::Partner { row, seller } => self.progress_partner(row, seller),
                Waiting::Invite { invite } => self.progress_invite(invite),
            };
            match done {
                Some(reply) => self.reply(id, reply),
                None if call.deadline <= self.now.mono => {
                    let error = self.gave_up(&call);
                    self.reply(id, error);
                }
                None => {
                    self.calls.open.insert(id, call);
                }
            }
        }
    }

    fn progress_order(
        &mut self,
        id: CallId,
        started: Moment,
        order: RecordId,
        told: &mut BTreeSet<(u32, Stage)>,
    ) -> Option<Result<Reply, ApiError>> {
        let view = self.view.orders.get(&order)?.clone();
        for (number, stage, detail) in self.stages(&view) {
            if told.insert((number, stage)) {
                self.tell(id, started, stage, detail);
            }
        }
        if let Some(error) = self.customer_verdict(&view) {
            return Some(Err(error));
        }
        if view.desired() == DesiredState::Destroyed {
            let name = &view.order.name;
            return Some(Err(ApiError::new(
                ErrorKind::Conflict,
                format!("{name} was called off before it was ready"),
                "see what is ordered: meshctl ps",
            )));
        }
        let (number, granted) = view.granted()?;
        if let Some(ItemState::Failed(reason)) = &granted.state {
            return Some(Err(self.failed_on_node(&view, reason)));
        }
        granted.ready.as_ref()?;
        let reply = self.order_reply(&view, started)?;
        for stage in [Stage::SoftwareReady, Stage::Started, Stage::PromisesHold] {
            if told.insert((number, stage)) {
                self.tell(id, started, stage, String::new());
            }
        }
        Some(Ok(Reply::Order(Box::new(reply))))
    }

    fn failed_on_node(&self, view: &OrderView, reason: &str) -> ApiError {
        let name = &view.order.name;
        ApiError::new(
            ErrorKind::Failure,
            format!("{name} could not be brought up: {reason}"),
            format!("see `meshctl logs {name}`, then `meshctl destroy {name}` and order again"),
        )
    }

    fn tell(&mut self, id: CallId, started: Moment, step: Stage, detail: String) {
        let elapsed_ms = millis(self.now.mono.since(started));
        self.event(
            id,
            Event::Step {
                step,
                detail,
                elapsed_ms,
            },
        );
    }

    /// What the ledger says happened to an order so far, attempt by attempt.
    fn stages(&self, view: &OrderView) -> Vec<(u32, Stage, String)> {
        let mut out = Vec::new();
        for (number, attempt) in &view.attempts {
            let name = self.node_name(&attempt.node);
            let rtt = self.peers.peer(&attempt.node).and_then(|peer| peer.rtt_us);
            let rtt = rtt.map_or(String::new(), |us| format!(", {} ms", us.div_ceil(1000)));
            out.push((
                *number,
                Stage::Planned,
                format!("{name} ({}{rtt})", attempt.price),
            ));
            if attempt.reserved {
                out.push((*number, Stage::Reserved, String::new()));
            }
            if attempt.award.is_some() {
                out.push((*number, Stage::Awarded, String::new()));
            }
            if let Some(reason) = &attempt.refused {
                out.push((*number, Stage::Refused, format!("{name}: {reason}")));
            }
        }
        out
    }

    /// A provider hurries a step to those who wait for it.
    pub(crate) fn remote_step(&mut self, from: NodeId, order: RecordId, step: &str) {
        let stage = match step {
            "software_ready" => Stage::SoftwareReady,
            "created" => Stage::Created,
            "started" => Stage::Started,
            _ => return,
        };
        let awarded = self.view.orders.get(&order).and_then(OrderView::awarded);
        let Some((number, _)) = awarded.filter(|(_, attempt)| attempt.node == from) else {
            return;
        };
        let mut told_now = Vec::new();
        for (id, call) in &mut self.calls.open {
            if let Waiting::Order {
                order: waited,
                told,
            } = &mut call.waiting
                && *waited == order
                && told.insert((number, stage))
            {
                told_now.push((*id, call.started));
            }
        }
        for (id, started) in told_now {
            self.tell(id, started, stage, String::new());
        }
    }

    fn progress_state(
        &mut self,
        started: Moment,
        order: RecordId,
        wish: Wish,
        since_ready: Option<RecordId>,
    ) -> Option<Result<Reply, ApiError>> {
        let view = self.view.orders.get(&order)?;
        let held = view.granted();
        let done = match wish {
            // Gone: let go by its node, or never granted by anybody.
            Wish::Destroyed => held.is_none(),
            Wish::Stopped => held.is_none_or(|(_, a)| a.state == Some(ItemState::Stopped)),
            Wish::Running => held.is_some_and(|(_, attempt)| {
                let newer = attempt.ready.as_ref().map(|(_, _, id)| *id) != since_ready;
                attempt.state == Some(ItemState::Running) && newer
            }),
        };
        let failed = held.and_then(|(_, attempt)| match &attempt.state {
            Some(ItemState::Failed(reason)) => Some(reason.clone()),
            _ => None,
        });
        if let (false, Some(reason), Wish::Running) = (done, failed, wish) {
            let view = view.clone();
            return Some(Err(self.failed_on_node(&view, &reason)));
        }
        let name = view.order.name.to_string();
        let elapsed_ms = millis(self.now.mono.since(started));
        done.then_some(Ok(Reply::State {
            name,
            state: wish,
            elapsed_ms,
        }))
    }

    fn progress_usage(
        &mut self,
        beyond: &BTreeMap<RecordId, u64>,
    ) -> Option<Result<Reply, ApiError>> {
        let arrived = beyond.iter().all(|(order, seq)| {
            let statements = self.view.usages.get(order);
            statements
                .and_then(|all| all.keys().next_back())
                .is_some_and(|last| seq < last)
        });
        let orders: Vec<RecordId> = beyond.keys().copied().collect();
        arrived.then(|| {
            Ok(Reply::Usage {
                usage: self.usage_rows(&orders),
            })
        })
    }

    fn progress_logs(&mut self, id: CallId, order: RecordId, offset: u64, ask_next: &mut Moment) {
        if self.now.mono < *ask_next {
            return;
        }
        *ask_next = self.now.mono + LOG_POLL;
        let Some(node) = self
            .view
            .orders
            .get(&order)
            .and_then(|v| v.last())
            .map(|(_, attempt)| attempt.node)
        else {
            return;
        };
        if node == self.id {
            let item = mesh_compute::step::ItemId(item_of(&order));
            self.out.now(Effect::ReadLog {
                ticket: id.0,
                item,
                offset,
            });
        } else {
            let message = Message::LogRead {
                request: id.0,
                order: order.0,
                offset,
            };
            self.out.send(node, message);
        }
    }

    /// A piece of log came, for a program here or for a node that asked.
    pub(crate) fn log_read(
        &mut self,
        ticket: u64,
        offset: u64,
        bytes: Vec<u8>,
        refused: Option<String>,
    ) {
        if let Some((peer, request)) = self.admission.log_tickets.remove(&ticket) {
            let bytes = serde_bytes::ByteBuf::from(bytes);
            self.out.send(
                peer,
                Message::LogPiece {
                    request,
                    offset,
                    bytes,
                    refused,
                },
            );
            return;
        }
        self.calls_log_piece(self.id, ticket, offset, &bytes, refused);
    }

    pub(crate) fn calls_log_piece(
        &mut self,
        from: NodeId,
        request: u64,
        offset: u64,
        bytes: &[u8],
        refused: Option<String>,
    ) {
        let id = CallId(request);
        let Some(mut call) = self.calls.take(id) else {
            return;
        };
        let Waiting::Logs {
            order,
            follow,
            offset: wanted,
            sent,
            left,
            ..
        } = &mut call.waiting
        else {
            self.calls.open.insert(id, call);
            return;
        };
        let holder = self
            .view
            .orders
            .get(order)
            .and_then(|v| v.last())
            .map(|(_, a)| a.node);
        // Only the node that has the order may speak of its log, and only of the piece asked for.
        let lawful = holder == Some(from)
            && bytes.len() <= LOG_PIECE_MAX
            && (*wanted == u64::MAX || *wanted == offset);
        if !lawful {
            self.calls.open.insert(id, call);
            return;
        }
        if let Some(reason) = refused {
            let reason: String = reason.chars().take(200).collect();
            let hint = "see `meshctl show` for the service's state";
            self.reply(id, Err(ApiError::new(ErrorKind::Failure, reason, hint)));
            return;
        }
        let first = *wanted == u64::MAX;
        let skip = if first {
            bytes.len().saturating_sub(usize_of(*left))
        } else {
            0
        };
        let text = String::from_utf8_lossy(bytes.get(skip..).unwrap_or_default()).into_owned();
        *wanted = offset.saturating_add(bytes.len() as u64);
        *sent = sent.saturating_add(text.len() as u64);
        let (ended, sent, follow) = (bytes.is_empty() || first, *sent, *follow);
        let name = self
            .view
            .orders
            .get(order)
            .map(|v| v.order.name.to_string());
        if !text.is_empty() {
            self.event(id, Event::Log { text });
        }
        if ended && !follow {
            let name = name.unwrap_or_default();
            self.reply(id, Ok(Reply::Logs { name, bytes: sent }));
            return;
        }
        self.calls.open.insert(id, call);
    }

    /// An agreement is told once something can be ordered under it, or after a short wait.
    fn progress_partner(
        &self,
        row: &AgreementRow,
        seller: &OrgId,
    ) -> Option<Result<Reply, ApiError>> {
        let can_order = self
            .view
            .capacities
            .iter()
            .any(|(node, view)| view.org == *seller && self.peers.peer(node).is_some());
        can_order.then(|| Ok(Reply::OrgAccept(Box::new(row.clone()))))
    }

    fn gave_up(&mut self, call: &Call) -> Result<Reply, ApiError> {
        let timeout = |cause: String, hint: String| ApiError::new(ErrorKind::Timeout, cause, hint);
        match &call.waiting {
            Waiting::Order { order, .. } | Waiting::State { order, .. } => {
                let view = self.view.orders.get(order);
                let name = view.map_or_else(|| order.short(), |v| v.order.name.to_string());
                Err(timeout(
                    format!("{name} has not got there in time; the work goes on"),
                    format!("see how far it is: meshctl show {name}"),
                ))
            }
            Waiting::Usage { .. } => Err(timeout(
                "a provider has not stated its usage in time".to_owned(),
                "see which nodes are connected: meshctl status".to_owned(),
            )),
            Waiting::Logs { order, .. } => {
                let view = self.view.orders.get(order);
                let name = view.map_or_else(|| order.short(), |v| v.order.name.to_string());
                Err(ApiError::new(
                    ErrorKind::Unreachable,
                    format!("the node that has {name} did not send its log"),
                    "see which nodes are connected: meshctl status",
                ))
            }
            // The agreement stands; its seller's nodes are only not connected yet.
            Waiting::Partner { row, .. } => Ok(Reply::OrgAccept(row.clone())),
            Waiting::Invite { .. } => Err(ApiError::new(
                ErrorKind::Failure,
                "the join door does not open",
                "see why in the node's log, then try again",
            )),
            Waiting::Explain(_) => Err(timeout(
                "the routing thread has not answered in time".to_owned(),
                "try again; if it stays so, see the end of meshnode.log in the home".to_owned(),
            )),
            Waiting::Accept { .. } => Err(timeout(
                "the seller has not answered in time".to_owned(),
                "run the same command again; an agreement is never made twice".to_owned(),
            )),
        }
    }

    /// Whether programs here can use a service's address or its forward already.
    pub(crate) fn is_reachable(&mut self, view: &OrderView) -> bool {
        if self.reach != Some(Reach::Loopback) {
            return true;
        }
        let address = self.service_address(&view.order.service);
        let Some(recipe) = self.recipes.get(&view.order.recipe) else {
            return true;
        };
        recipe
            .ports
            .values()
            .all(|port| self.forwards.contains_key(&(address, *port)))
    }
}

/// Whole milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
