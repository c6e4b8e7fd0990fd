//! Orders that this node placed: plan, ask, award, wait, and what to say when nobody takes them.
//!
//! The trip itself is `mesh_federation::attempt`; here it learns what the ledger says and its
//! wishes become records. Everything but waiting times is read from the ledger, so a restart finds
//! each order where its records say it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_api::{ApiError, ErrorKind};
use mesh_base::codec;
use mesh_base::identity::{NodeId, OrgId, SecretKey, ServiceId};
use mesh_base::seal;
use mesh_base::time::Moment;
use mesh_federation::attempt::{Candidate, Output as TripOutput, Past, State, TriedReason, Trip};
use mesh_ledger::document::DocKind;
use mesh_ledger::grant::RefusalReason;
use mesh_ledger::ledger::LedgerError;
use mesh_ledger::order::{Ask, Award, Desire, DesiredState, Holder, Order, SignedHolder};
use mesh_ledger::record::{Body, RecordId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::entry::Entry;
use crate::limits::{HOLDER_VALID, SEALED_MAX};
use crate::message::Message;
use crate::node::Node;
use crate::provider::seal_context;
use crate::view::OrderView;

/// How long after a restart an order without an award waits before it is planned anew: connections
/// to other nodes are back by then.
const RESUME_WAIT: Duration = Duration::from_secs(5);

/// Most verdicts kept for programs that wait: as many as can wait.
const VERDICTS_MAX: usize = crate::limits::CALLS_MAX;

/// What an ordering node keeps about an order, sealed to itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Parameters as given and completed by defaults.
    pub parameters: BTreeMap<String, String>,
    /// Only this node, if the order said so.
    pub node: Option<NodeId>,
    /// Only nodes of this organisation, if the order said so.
    pub org: Option<OrgId>,
}

/// What the customer side keeps besides the ledger.
#[derive(Debug, Default)]
pub(crate) struct Customer {
    /// [`Kept`] by order, sealed to ourselves.
    pub secrets: BTreeMap<RecordId, ByteBuf>,
    trips: BTreeMap<RecordId, Trip>,
    /// Orders of an earlier life that are planned anew when the moment comes.
    resume: BTreeMap<RecordId, Moment>,
    /// Why orders could not be placed, for the programs that wait.
    verdicts: BTreeMap<RecordId, ApiError>,
}

impl Customer {
    /// Returns when an open order must be looked at again.
    pub fn next_deadline(&self) -> Option<Moment> {
        let trips = self.trips.values().filter_map(Trip::next_deadline);
        trips.chain(self.resume.values().copied()).min()
    }
}

impl Node {
    /// Places an order whose parameters are checked: writes it, keeps what is secret, asks the
    /// first node.
    pub(crate) fn place(
        &mut self,
        order: Order,
        kept: &Kept,
        candidates: Vec<Candidate>,
    ) -> Result<RecordId, LedgerError> {
        let own = self.body.org;
        let ids = self.write(DocKind::Outbox, Some(own), vec![Body::Order(order)])?;
        // Proof: one body was written, so there is one id.
        let id = ids.first().copied().expect("a written order has an id");
        let me = self.id;
        let sealed = self.seal_to(&me, &id, &codec::encode(kept));
        self.customer.secrets.insert(id, sealed.clone());
        self.out.append(&Entry::Placed {
            order: id.0,
            sealed,
        });
        self.customer
            .trips
            .insert(id, Trip::new(candidates, self.now));
        self.follow_trip(id);
        Ok(id)
    }

    /// The service key of an order: derived, so that nothing but the node's own key must be kept.
    pub(crate) fn service_key(&self, nonce: &[u8; 16]) -> SecretKey {
        self.secret
            .derive(&[b"service/".as_slice(), nonce].concat())
    }

    /// Takes up orders of an earlier life: awarded ones at once, others when peers are connected
    /// again.
    pub(crate) fn recover_customer(&mut self) {
        self.repeat_desires();
        let mine: Vec<OrderView> = self
            .view
            .orders
            .values()
            .filter(|view| view.customer == self.id)
            .cloned()
            .collect();
        for view in mine {
            let gone = view.desired() == DesiredState::Destroyed && view.granted().is_none();
            if gone
                && view
                    .awarded()
                    .is_none_or(|(_, a)| a.refused.is_some() || a.released)
            {
                continue;
            }
            if view
                .awarded()
                .is_some_and(|(_, a)| a.refused.is_none() && !a.released)
            {
                self.resume(&view, Vec::new());
            } else {
                self.customer
                    .resume
                    .insert(view.id, self.now.mono + RESUME_WAIT);
            }
        }
    }

    fn resume(&mut self, view: &OrderView, candidates: Vec<Candidate>) {
        let past = Past {
            asked: view.last().map(|(number, attempt)| (number, attempt.node)),
            awarded: view
                .awarded()
                .map(|(number, attempt)| (number, attempt.node)),
            unwanted: view.desired() == DesiredState::Destroyed,
        };
        let trip = Trip::restore(past, candidates, self.now);
        self.customer.trips.insert(view.id, trip);
        self.follow_trip(view.id);
    }

    pub(crate) fn customer_timers(&mut self) {
        let now = self.now;
        let resumed: Vec<RecordId> = self
            .customer
            .resume
            .iter()
            .filter(|(_, at)| **at <= now.mono)
            .map(|(order, _)| *order)
            .collect();
        for order in resumed {
            self.customer.resume.remove(&order);
            if let Some(view) = self.view.orders.get(&order).cloned() {
                let candidates = self.candidates(&view.order, self.kept(&order).as_ref());
                self.resume(&view, candidates);
            }
        }
        let due: Vec<RecordId> = self
            .customer
            .trips
            .iter()
            .filter(|(_, trip)| trip.next_deadline().is_some_and(|at| at <= now.mono))
            .map(|(order, _)| *order)
            .collect();
        for order in due {
            if let Some(trip) = self.customer.trips.get_mut(&order) {
                trip.handle_timer(now);
            }
            self.follow_trip(order);
        }
    }

    /// A provider is reachable again: what it was asked is repeated at once.
    pub(crate) fn customer_reconnected(&mut self, peer: NodeId) {
        let asked: Vec<RecordId> = self
            .customer
            .trips
            .iter()
            .filter(|(_, trip)| trip.state() == State::Asking && trip.node() == Some(peer))
            .map(|(order, _)| *order)
            .collect();
        for order in asked {
            self.send_reserve(order);
        }
    }

    /// Tells an order's trip what the ledger says, and does what it wants.
    pub(crate) fn customer_check(&mut self, order: RecordId) {
        if self.customer.trips.contains_key(&order) {
            self.follow_trip(order);
        }
    }

    fn follow_trip(&mut self, order: RecordId) {
        // Each round writes a record or ends; attempts are limited, so this ends.
        loop {
            self.inform_trip(order);
            let output = self
                .customer
                .trips
                .get_mut(&order)
                .and_then(Trip::poll_output);
            let Some(output) = output else { return };
            let Some(view) = self.view.orders.get(&order).cloned() else {
                return;
            };
            match output {
                TripOutput::Ask { attempt, candidate } => self.ask(&view, attempt, candidate),
                TripOutput::AskAgain { .. } => self.send_reserve(order),
                TripOutput::Award { attempt, node } => self.award(&view, attempt, node),
                // The award is a record: replication repeats it until it is acknowledged.
                TripOutput::AwardAgain { .. } => {}
                TripOutput::State(State::CannotPlace) => {
                    if !self.plan_again(&view) {
                        self.cannot_place(&view);
                        return;
                    }
                }
                TripOutput::State(State::Ended | State::Cancelled) => {
                    self.customer.trips.remove(&order);
                    return;
                }
                TripOutput::State(_) => {}
            }
        }
    }

    /// Gives an order whose candidates are used up those that have not refused it: after a restart
    /// none were planned, and nodes come and go. Returns whether there are any.
    fn plan_again(&mut self, view: &OrderView) -> bool {
        let kept = self.kept(&view.id);
        let Some(trip) = self.customer.trips.get(&view.id) else {
            return false;
        };
        // Only what a restart may have spoilt is asked again; attempts are limited anyway.
        let spoilt = |reason: &TriedReason| {
            let lapsed = TriedReason::Refused(RefusalReason::Lapsed);
            *reason == lapsed || *reason == TriedReason::Restarted
        };
        let tried = trip.tried().to_vec();
        let mut candidates = self.candidates(&view.order, kept.as_ref());
        candidates.retain(|candidate| {
            let of_node = || tried.iter().filter(|tried| tried.node == candidate.node);
            let worth = of_node().count() < 3 && of_node().all(|tried| spoilt(&tried.reason));
            worth && kept.is_some()
        });
        let some = !candidates.is_empty();
        if let Some(trip) = self.customer.trips.get_mut(&view.id) {
            trip.handle_candidates(candidates, self.now);
            return some && trip.state() == State::Asking;
        }
        false
    }

    /// What nodes said about the attempt that the trip is at; saying it again changes nothing.
    fn inform_trip(&mut self, order: RecordId) {
        let now = self.now;
        let Some(trip) = self.customer.trips.get_mut(&order) else {
            return;
        };
        let Some(view) = self.view.orders.get(&order) else {
            return;
        };
        let number = trip.attempt();
        if view.desired() == DesiredState::Destroyed {
            trip.handle_unwanted();
        }
        let Some(attempt) = view.attempts.get(&number) else {
            return;
        };
        let node = attempt.node;
        if let Some(reason) = &attempt.refused {
            trip.handle_refusal(&node, number, reason.clone(), now);
            return;
        }
        if attempt.reserved {
            trip.handle_reservation(&node, number, now);
        }
        if attempt.granted.is_some() {
            trip.handle_grant(&node, number);
        }
        if attempt.ready.is_some() {
            trip.handle_ready(&node, number);
        }
        if attempt.released {
            trip.handle_release(&node, number, now);
        }
    }

    fn ask(&mut self, view: &OrderView, attempt: u32, candidate: Candidate) {
        let Candidate {
            node,
            price,
            agreement,
        } = candidate;
        let Some(org) = self.org_of(&node) else {
            return;
        };
        let order = Box::new(view.signed.clone());
        let ask = Ask {
            order,
            attempt,
            node,
            price,
            agreement,
        };
        let mut bodies = vec![Body::Ask(ask)];
        // A node that is asked late must know what was wanted meanwhile.
        bodies.extend(view.desire.map(|(revision, state)| {
            Body::Desire(Desire {
                order: view.id,
                state,
                revision,
            })
        }));
        self.must_write(DocKind::Outbox, Some(org), bodies);
        self.send_reserve(view.id);
    }

    /// Returns the organisation of an admitted node, our own included.
    pub(crate) fn org_of(&self, node: &NodeId) -> Option<OrgId> {
        if *node == self.id {
            Some(self.body.org)
        } else {
            self.roster.org_of(node)
        }
    }

    fn award(&mut self, view: &OrderView, attempt: u32, node: NodeId) {
        let Some(org) = self.org_of(&node) else {
            return;
        };
        let holder = Holder {
            service: view.order.service,
            holders: vec![node],
            epoch: u64::from(attempt),
            not_after: self.now.wall + HOLDER_VALID,
        };
        let holder = SignedHolder::sign(holder, &self.service_key(&view.order.nonce));
        self.must_write(DocKind::Holders, Some(org), vec![Body::Holder(holder)]);
        let award = Award {
            order: view.id,
            attempt,
            node,
        };
        self.must_write(DocKind::Outbox, Some(org), vec![Body::Award(award)]);
        self.tell_guests();
    }

    /// Asks the node of the newest attempt, with the parameters sealed to it.
    fn send_reserve(&mut self, order: RecordId) {
        let Some(view) = self.view.orders.get(&order).cloned() else {
            return;
        };
        let Some((number, last)) = view.last() else {
            return;
        };
        let Some(kept) = self.kept(&order) else {
            return;
        };
        let Some(ask) = self
            .ledger
            .entry(&last.ask)
            .map(|entry| entry.signed.clone())
        else {
            return;
        };
        debug_assert!(0 < number, "attempts count from 1");
        let node = last.node;
        let sealed = self.seal_to(&node, &order, &codec::encode(&kept.parameters));
        if node == self.id {
            let signed = view.signed.clone();
            self.reserve_request(node, &signed, &ask, sealed);
            return;
        }
        let (order, ask) = (Box::new(view.signed.clone()), Box::new(ask));
        self.out
            .send_durable(node, Message::Reserve { order, ask, sealed });
    }

    /// Opens what this node kept about an order of its own.
    pub(crate) fn kept(&self, order: &RecordId) -> Option<Kept> {
        let sealed = self.customer.secrets.get(order)?;
        let plain = seal::open(&self.secret, &seal_context(order), sealed).ok()?;
        codec::decode(&plain, SEALED_MAX).ok()
    }

    /// Calls an order off that nobody takes, and says why.
    fn cannot_place(&mut self, view: &OrderView) {
        let error = self.explain_refusals(view);
        if VERDICTS_MAX <= self.customer.verdicts.len() {
            // Its program hung up long ago; the ledger still says what became of the order.
            self.customer.verdicts.pop_first();
        }
        self.customer.verdicts.insert(view.id, error);
        self.customer.trips.remove(&view.id);
        self.desire(view, DesiredState::Destroyed);
    }

    /// Tells everybody concerned what an order's customer wants now.
    pub(crate) fn desire(&mut self, view: &OrderView, state: DesiredState) {
        let revision = view
            .desire
            .as_ref()
            .map_or(1, |(old, _)| old.saturating_add(1));
        let desire = Desire {
            order: view.id,
            state,
            revision,
        };
        for org in self.concerned(view) {
            self.must_write(DocKind::Outbox, Some(org), vec![Body::Desire(desire)]);
        }
        self.tell_guests();
    }

    /// Our own organisation and those whose nodes were asked.
    fn concerned(&self, view: &OrderView) -> BTreeSet<OrgId> {
        let mut orgs: BTreeSet<OrgId> = view
            .attempts
            .values()
            .filter_map(|attempt| self.org_of(&attempt.node))
            .collect();
        orgs.insert(self.body.org);
        orgs
    }

    /// Completes wishes that a crash left half said: each organisation has a document of its own,
    /// and who was not told would keep the service for ever.
    fn repeat_desires(&mut self) {
        let mut told: BTreeSet<(RecordId, OrgId, u32)> = BTreeSet::new();
        for document in self.ledger.documents() {
            let doc = document.id();
            let own = doc.kind == DocKind::Outbox && doc.writer == *self.id.key();
            let Some(org) = doc.counterparty.filter(|_| own) else {
                continue;
            };
            for entry in document.entries() {
                if let Body::Desire(desire) = &entry.signed.record.body {
                    told.insert((desire.order, org, desire.revision));
                }
            }
        }
        let mut missing = Vec::new();
        for view in self.view.orders.values() {
            let Some((revision, state)) = view.desire.filter(|_| view.customer == self.id) else {
                continue;
            };
            let desire = Desire {
                order: view.id,
                state,
                revision,
            };
            let orgs = self.concerned(view).into_iter();
            let untold = orgs.filter(|org| !told.contains(&(view.id, *org, revision)));
            missing.extend(untold.map(|org| (org, desire)));
        }
        for (org, desire) in missing {
            self.must_write(DocKind::Outbox, Some(org), vec![Body::Desire(desire)]);
        }
    }

    fn explain_refusals(&self, view: &OrderView) -> ApiError {
        let mut reasons: Vec<String> = view
            .attempts
            .values()
            .map(|attempt| {
                let why = match &attempt.refused {
                    Some(reason) => reason.to_string(),
                    None => "it did not answer in time".to_owned(),
                };
                format!("{}: {why}", self.node_name(&attempt.node))
            })
            .collect();
        let kept = self.kept(&view.id);
        let tried: BTreeSet<NodeId> = view.attempts.values().map(|a| a.node).collect();
        reasons.extend(self.refused_by_plan(&view.order, kept.as_ref(), &tried));
        let why = if reasons.is_empty() {
            "no node is known".to_owned()
        } else {
            reasons.join("; ")
        };
        ApiError::new(
            ErrorKind::CannotPlace,
            format!("no node can take {}: {why}", view.order.name),
            "see what is offered: meshctl offer ls; ask for less, or make an agreement: \
             meshctl org accept",
        )
    }

    /// Returns why an order of ours ended without a node, once.
    pub(crate) fn customer_verdict(&mut self, view: &OrderView) -> Option<ApiError> {
        self.customer.verdicts.remove(&view.id)
    }

    /// Returns the services' key of an order's service, for holder records.
    pub(crate) fn service_id(&self, nonce: &[u8; 16]) -> ServiceId {
        ServiceId(self.service_key(nonce).public())
    }
}
