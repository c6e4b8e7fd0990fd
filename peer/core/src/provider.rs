//! Orders that this node grants: reservation, grant, instance, readiness, release.
//!
//! ```text
//!  ask + sealed parameters ─► reservation (10 s) ─► award ─► grant ─► instance … ready ─► release
//!           └─► refusal                └── lapses ─► award ─► refusal (lapsed)
//! ```
//! The node is the only owner of its capacity: nobody else's word reserves or grants it, and it
//! executes an order only on the order's own award while its own reservation lives. Reservations do
//! not outlive a restart; grants do. An attempt is answered once: the answer is a record, repeated
//! by replication.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use mesh_base::money::Price;
use mesh_base::seal;
use mesh_base::time::Moment;
use mesh_compute::instance::Instance;
use mesh_compute::instance::state::{Desire, Memory, State};
use mesh_compute::meter::Meter;
use mesh_compute::step::{Isolation, ItemId, Step};
use mesh_federation::capacity::{Allocator, Amount, NoRoom, NotConfirmed, RESERVATION};
use mesh_ledger::charter::Capacity;
use mesh_ledger::document::DocKind;
use mesh_ledger::grant::{Grant, Refusal, RefusalReason, Reservation};
use mesh_ledger::order::{Ask, DesiredState};
use mesh_ledger::record::{Body, RecordId, SignedRecord};
use rand_chacha::rand_core::Rng;
use serde_bytes::ByteBuf;

use crate::entry::Entry;
use crate::limits::{REQUESTS_MAX, SEALED_MAX};
use crate::node::Node;
use crate::port::{Effect, Room};
use crate::refusal::Reason;
use crate::view::{OrderView, item_of};

/// What the provider side keeps besides the ledger.
pub(crate) struct Provider {
    pub allocator: Allocator,
    /// Sealed parameters of asks that are not answered yet.
    pub requests: BTreeMap<RecordId, Request>,
    /// Reserved orders that are not awarded yet.
    pub reserved: BTreeMap<RecordId, Reserved>,
    /// Values of granted orders, sealed to ourselves.
    pub secrets: BTreeMap<RecordId, ByteBuf>,
    pub instances: BTreeMap<RecordId, Instance>,
    pub meters: BTreeMap<RecordId, Meter>,
    pub memories: BTreeMap<RecordId, Memory>,
    /// When an order's next usage statement is due.
    pub statements: BTreeMap<RecordId, Moment>,
    /// Recipes whose software is on this node.
    pub software: BTreeSet<Digest>,
    /// Orders whose next meter reading must be stated at once.
    pub state_now: BTreeSet<RecordId>,
    /// When an order's usage was last stated.
    pub stated: BTreeMap<RecordId, Moment>,
    /// Restarts that nobody asked for, by order.
    pub restarts: BTreeMap<RecordId, u32>,
}

impl Provider {
    /// Forgets when the usage of an order that is over was or is to be stated.
    pub fn forget_usage(&mut self, order: &RecordId) {
        self.statements.remove(order);
        self.stated.remove(order);
        self.state_now.remove(order);
    }

    /// Starts with nothing granted.
    pub fn new(total: Amount) -> Self {
        Self {
            allocator: Allocator::new(total),
            requests: BTreeMap::new(),
            reserved: BTreeMap::new(),
            secrets: BTreeMap::new(),
            instances: BTreeMap::new(),
            meters: BTreeMap::new(),
            memories: BTreeMap::new(),
            statements: BTreeMap::new(),
            software: BTreeSet::new(),
            state_now: BTreeSet::new(),
            stated: BTreeMap::new(),
            restarts: BTreeMap::new(),
        }
    }

    /// Returns when something here is due.
    pub fn next_deadline(&self) -> Option<Moment> {
        let instances = self.instances.values().filter_map(Instance::next_deadline);
        let own = self
            .statements
            .values()
            .copied()
            .chain(self.allocator.next_deadline());
        instances.chain(own).min()
    }
}

/// A reservation request whose records may still be on their way.
pub(crate) struct Request {
    from: NodeId,
    until: Moment,
    sealed: ByteBuf,
}

/// What belongs to a live reservation.
pub(crate) struct Reserved {
    until: Moment,
    /// At which price.
    pub price: Price,
    /// Parameters, opened and checked.
    parameters: BTreeMap<String, String>,
}

/// How long a request waits for its records; its customer repeats it more often.
const REQUEST_WAIT: Duration = Duration::from_secs(10);
/// Most requests of one customer node that wait: none can keep the others out.
const REQUESTS_PER_PEER_MAX: usize = 32;

/// Context of sealed parameters and connections: they open for this order only.
pub(crate) fn seal_context(order: &RecordId) -> Vec<u8> {
    [b"meshstead/order/".as_slice(), order.0.as_bytes()].concat()
}

/// Digest that an order gives of its parameters.
pub(crate) fn parameters_digest(nonce: &[u8; 16], plaintext: &[u8]) -> Digest {
    Digest::of_parts(&[nonce, plaintext])
}

/// How an offer tells what keeps instances apart; nothing if it is what everybody expects.
fn isolation_word(isolation: Option<Isolation>) -> Option<&'static str> {
    match isolation {
        Some(Isolation::Namespaces) => None,
        Some(Isolation::Process) => Some("process"),
        None => Some("none"),
    }
}

impl Node {
    /// Says what this node has, if that changed since it last said so.
    pub(crate) fn announce_capacity(&mut self) {
        let totals = self.config.grantable();
        let recipes = self
            .recipes
            .iter()
            .map(|(name, r)| (name.clone(), r.digest()))
            .collect();
        let capacity = Capacity {
            slots: totals.slots,
            memory_mib: totals.memory_mib,
            cpu_millis: totals.cpu_millis,
            disk_mib: totals.disk_mib,
            recipes,
            // Only what is unusual is said.
            attributes: isolation_word(self.config.isolation)
                .map(|word| ("isolation".to_owned(), word.to_owned()))
                .into_iter()
                .collect(),
        };
        if self
            .view
            .capacities
            .get(&self.id)
            .is_none_or(|old| old.capacity != capacity)
        {
            self.must_write(DocKind::Capacity, None, vec![Body::Capacity(capacity)]);
        }
    }

    /// A customer asks directly; the records count only once the ledger has them.
    pub(crate) fn reserve_request(
        &mut self,
        from: NodeId,
        order: &SignedRecord,
        ask: &SignedRecord,
        sealed: ByteBuf,
    ) {
        let lawful = ask.record.author == *from.key()
            && order.record.author == *from.key()
            && sealed.len() <= SEALED_MAX;
        if !lawful {
            self.note_refusal(Reason::NotEntitled);
            return;
        }
        let id = order.id();
        let requests = &self.provider.requests;
        let of_peer = requests
            .values()
            .filter(|request| request.from == from)
            .count();
        let full = REQUESTS_MAX <= requests.len() || REQUESTS_PER_PEER_MAX <= of_peer;
        if full && !requests.contains_key(&id) {
            // The customer repeats its request; dropping the newest keeps the oldest moving.
            self.note_refusal(Reason::Limit);
            return;
        }
        let asked = self.view.orders.get(&id).and_then(OrderView::last);
        let Body::Ask(Ask { attempt, .. }) = &ask.record.body else {
            return;
        };
        if asked.is_some_and(|(number, last)| {
            let answered = last.reserved || last.refused.is_some();
            last.node == self.id && answered && *attempt <= number
        }) {
            // Answered already: the record says how, and replication repeats it.
            return;
        }
        let until = self.now.mono + REQUEST_WAIT;
        self.provider.requests.insert(
            id,
            Request {
                from,
                until,
                sealed,
            },
        );
        self.consider(id);
    }

    /// Looks at an order as its possible provider and answers what is unanswered.
    pub(crate) fn consider(&mut self, order: RecordId) {
        let Some(view) = self.view.orders.get(&order).cloned() else {
            return;
        };
        let Some((number, last)) = view.last() else {
            return;
        };
        if last.node == self.id
            && !last.reserved
            && last.refused.is_none()
            && last.granted.is_none()
        {
            self.answer_ask(&view, number);
        }
        // Only the highest award counts: an older one was refused, or the customer would not ask
        // on.
        if let Some((number, awarded)) = view.awarded()
            && awarded.node == self.id
            && awarded.granted.is_none()
            && awarded.refused.is_none()
        {
            self.answer_award(&view, number);
        }
        self.follow_desire(&view);
    }

    fn answer_ask(&mut self, view: &OrderView, number: u32) {
        let Some(request) = self.provider.requests.remove(&view.id) else {
            // The parameters come by message; without them there is nothing to decide yet.
            return;
        };
        let answer = self.judge(view, number, &request.sealed);
        let (order, attempt) = (view.id, number);
        let body = match answer {
            Ok(price) => {
                let valid_ms = u32::try_from(RESERVATION.as_millis()).unwrap_or(u32::MAX);
                Body::Reservation(Reservation {
                    order,
                    attempt,
                    valid_ms,
                    price,
                })
            }
            Err(reason) => {
                self.provider.allocator.refuse(order, attempt);
                Body::Refusal(Refusal {
                    order,
                    attempt,
                    reason,
                })
            }
        };
        self.must_write(DocKind::Grants, Some(view.org), vec![body]);
    }

    /// Decides whether an attempt can be reserved, and reserves it.
    fn judge(
        &mut self,
        view: &OrderView,
        number: u32,
        sealed: &[u8],
    ) -> Result<Price, RefusalReason> {
        let attempt = view
            .attempts
            .get(&number)
            .ok_or(RefusalReason::Superseded)?;
        if view.desired() == DesiredState::Destroyed {
            return Err(RefusalReason::Superseded);
        }
        if self.room == Room::Full {
            return Err(RefusalReason::Stopped);
        }
        let taken = |held: &RecordId| {
            let held = self.view.orders.get(held);
            held.is_some_and(|held| held.order.service == view.order.service)
        };
        if self.provider.instances.keys().any(taken) {
            // Two instances at one address: the second would be sent what is meant for the first.
            let why = "the service's address is in use here by another order";
            return Err(RefusalReason::BadParameters(why.to_owned()));
        }
        let recipe = self
            .recipes
            .get(&view.order.recipe)
            .ok_or(RefusalReason::UnknownRecipe)?;
        if view
            .order
            .recipe_digest
            .is_some_and(|digest| digest != recipe.digest())
        {
            return Err(RefusalReason::UnknownRecipe);
        }
        let deal = self.deal_for(view.org, &view.order.recipe)?;
        if deal.price != attempt.price {
            return Err(RefusalReason::PriceChanged);
        }
        self.check_credit(view.org, &deal)?;
        let parameters = self.open_parameters(view, sealed)?;
        let wanted = Amount::wanted(&view.order);
        self.provider
            .allocator
            .reserve(view.id, number, wanted, self.now.mono)
            .map_err(|no_room| refusal_of(&no_room))?;
        let until = self.now.mono + RESERVATION;
        let reserved = Reserved {
            until,
            price: deal.price,
            parameters,
        };
        self.provider.reserved.insert(view.id, reserved);
        Ok(deal.price)
    }

    fn open_parameters(
        &self,
        view: &OrderView,
        sealed: &[u8],
    ) -> Result<BTreeMap<String, String>, RefusalReason> {
        let bad = |text: String| RefusalReason::BadParameters(RefusalReason::sentence(&text));
        let plain = seal::open(&self.secret, &seal_context(&view.id), sealed)
            .map_err(|error| bad(error.to_string()))?;
        if parameters_digest(&view.order.nonce, &plain) != view.order.parameters {
            return Err(bad("they are not the ones that the order names".to_owned()));
        }
        let given: BTreeMap<String, String> =
            codec::decode(&plain, SEALED_MAX).map_err(|error| bad(error.to_string()))?;
        let recipe = self
            .recipes
            .get(&view.order.recipe)
            .ok_or(RefusalReason::UnknownRecipe)?;
        recipe
            .check_parameters(&view.order.name, &given)
            .map_err(|error| bad(error.to_string()))
    }

    fn answer_award(&mut self, view: &OrderView, number: u32) {
        let Some(attempt) = view.attempts.get(&number) else {
            return;
        };
        let Some(award) = attempt.award else { return };
        let (order, attempt) = (view.id, number);
        let confirmed = self
            .provider
            .allocator
            .confirm(order, number, self.now.mono)
            .map_err(|error| match error {
                NotConfirmed::Closed => RefusalReason::Superseded,
                _ => RefusalReason::Lapsed,
            })
            .and_then(|_| self.complete_values(view));
        match confirmed {
            Ok(values) => {
                let plain = codec::encode(&values);
                let own = self.id;
                let sealed = self.seal_to(&own, &order, &plain);
                let meter = Meter::new(self.now);
                let together = vec![
                    Entry::Secret {
                        order: order.0,
                        sealed: sealed.clone(),
                    },
                    Entry::Meter {
                        order: order.0,
                        meter: meter.clone(),
                    },
                ];
                let grant = Body::Grant(Grant {
                    order,
                    attempt,
                    award,
                });
                let written =
                    self.must_write_with(DocKind::Grants, Some(view.org), vec![grant], together);
                if !written {
                    // Not granted, so nothing may start that a restart would not know of.
                    self.provider.allocator.release(order, attempt);
                    return;
                }
                self.provider.secrets.insert(order, sealed);
                self.provider.meters.insert(order, meter);
                self.begin_instance(view, &values, None);
            }
            Err(reason) => {
                // Confirmed or not, this attempt is closed for ever.
                self.provider.allocator.release(order, attempt);
                self.provider.allocator.refuse(order, attempt);
                self.provider.reserved.remove(&order);
                let refusal = Body::Refusal(Refusal {
                    order,
                    attempt,
                    reason,
                });
                self.must_write(DocKind::Grants, Some(view.org), vec![refusal]);
            }
        }
    }

    /// Fills in secrets that the recipe wants generated.
    fn complete_values(
        &mut self,
        view: &OrderView,
    ) -> Result<BTreeMap<String, String>, RefusalReason> {
        let reserved = self.provider.reserved.remove(&view.id);
        let given = reserved.ok_or(RefusalReason::Lapsed)?.parameters;
        let recipe = self
            .recipes
            .get(&view.order.recipe)
            .ok_or(RefusalReason::UnknownRecipe)?;
        let rng = &mut self.rng;
        recipe
            .complete_parameters(&view.order.name, &given, |bytes| rng.fill_bytes(bytes))
            .map_err(|error| {
                RefusalReason::BadParameters(RefusalReason::sentence(&error.to_string()))
            })
    }

    /// Seals something about an order to a node.
    pub(crate) fn seal_to(&mut self, node: &NodeId, order: &RecordId, plain: &[u8]) -> ByteBuf {
        let sealed = seal::seal(node.key(), &seal_context(order), plain, &mut self.rng);
        // A member's key is a checked point and what we seal is below the limit, so sealing cannot
        // fail; an empty box would only fail to open.
        ByteBuf::from(sealed.unwrap_or_default())
    }

    /// Takes up grants after a restart; reservations have lapsed with it.
    pub(crate) fn recover_provider(&mut self) {
        let granted: Vec<OrderView> = self
            .view
            .orders
            .values()
            .filter(|view| {
                view.granted()
                    .is_some_and(|(_, attempt)| attempt.node == self.id)
            })
            .cloned()
            .collect();
        self.restore_closed();
        for view in granted {
            let attempt = view.granted().map_or(0, |(number, _)| number);
            let amount = Amount::wanted(&view.order);
            self.provider
                .allocator
                .restore_grant(view.id, attempt, amount);
            let memory = self
                .provider
                .memories
                .get(&view.id)
                .cloned()
                .unwrap_or(Memory {
                    desire: Desire::Running,
                    state: State::Fetching,
                    created: false,
                    ever_ready: false,
                });
            let Some(values) = self.own_secret(&view.id) else {
                tracing::error!(order = %view.id.short(), "the order's secrets are missing");
                self.note_refusal(Reason::OwnRecord);
                self.follow_desire(&view);
                continue;
            };
            if !self.provider.meters.contains_key(&view.id) {
                self.provider.meters.insert(view.id, Meter::new(self.now));
            }
            self.begin_instance(&view, &values, Some(memory));
            self.follow_desire(&view);
        }
        self.answer_old_awards();
    }

    /// Answers awards that reached the disk before a crash and their answers did not: their
    /// customers ask nobody else until they are told.
    fn answer_old_awards(&mut self) {
        let orders = self.view.orders.values();
        let unanswered: Vec<RecordId> = orders
            .filter(|view| {
                view.awarded().is_some_and(|(_, attempt)| {
                    attempt.node == self.id
                        && attempt.granted.is_none()
                        && attempt.refused.is_none()
                })
            })
            .map(|view| view.id)
            .collect();
        for order in unanswered {
            self.consider(order);
        }
    }

    /// Remembers what this node answered for good before the restart.
    fn restore_closed(&mut self) {
        for view in self.view.orders.values() {
            for (number, attempt) in &view.attempts {
                let closed = attempt.refused.is_some() || attempt.released;
                if attempt.node == self.id && closed {
                    self.provider.allocator.restore_closed(view.id, *number);
                }
            }
        }
    }

    /// Opens what this node sealed to itself about an order.
    pub(crate) fn own_secret(&self, order: &RecordId) -> Option<BTreeMap<String, String>> {
        let sealed = self.provider.secrets.get(order)?;
        let plain = seal::open(&self.secret, &seal_context(order), sealed).ok()?;
        codec::decode(&plain, SEALED_MAX).ok()
    }

    fn follow_desire(&mut self, view: &OrderView) {
        let desire = match view.desired() {
            DesiredState::Running => Desire::Running,
            DesiredState::Stopped => Desire::Stopped,
            DesiredState::Destroyed => Desire::Destroyed,
        };
        let now = self.now;
        let asked = view.last().filter(|(_, attempt)| attempt.node == self.id);
        if let Some(instance) = self.provider.instances.get_mut(&view.id) {
            if instance.desire() != desire {
                instance.handle_desire(desire, now);
            }
        } else if let (Desire::Destroyed, Some((number, attempt))) = (desire, asked)
            && attempt.granted.is_none()
        {
            // Reserved and called off: the capacity is free again at once.
            self.provider.allocator.refuse(view.id, number);
            self.provider.reserved.remove(&view.id);
            self.provider.requests.remove(&view.id);
        } else if desire == Desire::Destroyed
            && view.granted().is_some_and(|(_, a)| a.node == self.id)
        {
            // Its recipe or its secrets are gone: nothing can be run any more, but it can be
            // removed.
            let item = ItemId(item_of(&view.id));
            self.out.durable(Effect::Compute(Step::Destroy { item }));
        }
    }

    pub(crate) fn provider_timers(&mut self) {
        let now = self.now;
        for instance in self.provider.instances.values_mut() {
            if instance.next_deadline().is_some_and(|due| due <= now.mono) {
                instance.handle_timer(now);
            }
        }
        self.provider.allocator.expire(now.mono);
        self.provider
            .requests
            .retain(|_, request| now.mono < request.until);
        self.provider
            .reserved
            .retain(|_, reserved| now.mono < reserved.until);
        self.due_statements();
    }
}

fn refusal_of(no_room: &NoRoom) -> RefusalReason {
    match no_room {
        NoRoom::Short { what, .. } => RefusalReason::NoCapacity { what: *what },
        NoRoom::Full => RefusalReason::Stopped,
        _ => RefusalReason::Superseded,
    }
}
