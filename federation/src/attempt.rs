//! An order's trip on the customer's side: asks one node after the other until one runs it; never
//! two.
//!
//! Decides whom to ask, when to ask again, when to award, and when the next node may be tried.
//! Which nodes come into question is the planner's business, what is written and sent the caller's.
//!
//! ```text
//!  Asking(k, node) ── reserved in time ──► Awarded ── grant ──► Granted ── ready ──► Ready
//!     │    ▲                                  │                    │                  │
//!     │    └──── next candidate, k + 1 ◄──────┴── refused,  ───────┘                  │
//!     ├── silent or refused ──► next              released by that node               │
//!     └── no candidate left ──► CannotPlace            released after ready ──► Ended ◄┘
//! ```
//! Safety: from an award on, only the awarded node's own signed refusal or release lets the next
//! attempt begin. Silence never does: the node may be running the order behind a broken line.
//! Before an award nobody may run it, so silence costs only [`ASK_PATIENCE`].
//!
//! After ready, a release ends the trip: the data was there, and to start an empty copy elsewhere
//! is a decision for people (or, later, for a standby with a backup).
//!
//! After a restart the trip is rebuilt from the customer's own records ([`Trip::restore`]); an ask
//! that was not awarded is not continued, because how old it is cannot be known any more.

use std::collections::VecDeque;
use std::time::Duration;

use mesh_base::identity::NodeId;
use mesh_base::money::Price;
use mesh_base::time::{Moment, Now};
use mesh_ledger::grant::RefusalReason;
use mesh_ledger::record::RecordId;

#[cfg(test)]
pub(crate) mod tests;

/// How long a node may be silent before the next one is asked.
pub const ASK_PATIENCE: Duration = Duration::from_secs(2);
/// How often an unanswered ask is sent again.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long after an ask an award may be signed. The reservation was made after the ask and lives
/// 10 s, so an award within this time has 2 s to arrive. A late one costs an attempt, never safety.
pub const AWARD_WINDOW: Duration = Duration::from_secs(8);
/// First pause before an unanswered award is sent again; doubled up to [`AWARD_AGAIN_MAX`].
pub const AWARD_AGAIN: Duration = Duration::from_secs(1);
/// Longest pause before an unanswered award is sent again.
pub const AWARD_AGAIN_MAX: Duration = Duration::from_secs(30);
/// Most attempts of one order before it is given up.
pub const ATTEMPTS_MAX: u32 = 64;

/// A node that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// The price per month that goes into the ask.
    pub price: Price,
    /// The agreement that sets it; none inside one organisation.
    pub agreement: Option<RecordId>,
}

/// Why a node did not get, or did not keep, the order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TriedReason {
    /// It said nothing.
    #[error("it did not answer within {} s", ASK_PATIENCE.as_secs())]
    Silent,
    /// It answered too late to be awarded.
    #[error("its answer came too late")]
    Late,
    /// It refused.
    #[error("it refused: {0}")]
    Refused(RefusalReason),
    /// It gave the order back before it was ready.
    #[error("it gave the order back before it was ready")]
    Released,
    /// It was asked before a restart of this node.
    #[error("this node was restarted before it answered")]
    Restarted,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Which attempt.
    pub attempt: u32,
    /// Whom.
    pub node: NodeId,
    /// Why it is over.
    pub reason: TriedReason,
}

/// Where the trip is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A node is asked to reserve.
    Asking,
    /// The award is signed; the node's grant or refusal is awaited, however long.
    Awarded,
    /// The node has granted and works on it.
    Granted,
    /// The service can be used.
    Ready,
    /// No candidate is left; the tried ones say why. New candidates start it again.
    CannotPlace,
    /// The customer wants it gone before anything was awarded.
    Cancelled,
    /// The node gave it back for good: destroyed, or given up after it had been ready.
    Ended,
}

/// What the customer's node should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write the ask into the outbox and send the reserve message.
    Ask {
        /// The attempt.
        attempt: u32,
        /// Whom, at which price.
        candidate: Candidate,
    },
    /// Send the reserve message again; the record stands.
    AskAgain {
        /// The attempt.
        attempt: u32,
        /// Whom.
        node: NodeId,
    },
    /// Write the award into the outbox, and the holder record.
    Award {
        /// The attempt; also the holder's epoch.
        attempt: u32,
        /// To whom.
        node: NodeId,
    },
    /// The award is unanswered: make sure that the node has the newest records.
    AwardAgain {
        /// The attempt.
        attempt: u32,
        /// To whom.
        node: NodeId,
    },
    /// The trip is somewhere else now.
    State(State),
}

/// What the customer's own records say about an order; see [`Trip::restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Past {
    /// The highest attempt that was asked, and whom; none if nobody was.
    pub asked: Option<(u32, NodeId)>,
    /// The highest attempt that was awarded, and to whom.
    pub awarded: Option<(u32, NodeId)>,
    /// Whether the customer wants it destroyed.
    pub unwanted: bool,
}

/// One order's trip.
#[derive(Debug, Clone)]
pub struct Trip {
    candidates: VecDeque<Candidate>,
    state: State,
    attempt: u32,
    node: Option<NodeId>,
    asked: Moment,
    again: Option<Moment>,
    pause: Duration,
    unwanted: bool,
    tried: Vec<Tried>,
    outputs: VecDeque<Output>,
}

impl Trip {
    /// Begins a trip with the planner's candidates, the best first.
    pub fn new(candidates: Vec<Candidate>, now: Now) -> Self {
        let mut trip = Self::empty(candidates);
        trip.next(now.mono);
        trip
    }

    /// Goes on after a restart with what the own records say.
    ///
    /// Afterwards the provider's records about the awarded attempt are handled as if they came in
    /// now. An ask without an award is over; candidates planned anew are asked in a new attempt.
    pub fn restore(past: Past, candidates: Vec<Candidate>, now: Now) -> Self {
        let mut trip = Self::empty(candidates);
        trip.unwanted = past.unwanted;
        let last_asked = past.asked.map_or(0, |(attempt, _)| attempt);
        match past.awarded {
            Some((attempt, node)) if last_asked <= attempt => {
                (trip.attempt, trip.node) = (attempt, Some(node));
                trip.enter(State::Awarded);
                trip.again = Some(now.mono);
            }
            // An attempt after the award: the awarded one was refused, or it could not have begun.
            _ => {
                if let Some((attempt, node)) = past.asked {
                    trip.attempt = attempt;
                    trip.tried.push(Tried {
                        attempt,
                        node,
                        reason: TriedReason::Restarted,
                    });
                }
                trip.next(now.mono);
            }
        }
        trip
    }

    fn empty(candidates: Vec<Candidate>) -> Self {
        Self {
            candidates: candidates.into(),
            state: State::Asking,
            attempt: 0,
            node: None,
            asked: Moment::default(),
            again: None,
            pause: AWARD_AGAIN,
            unwanted: false,
            tried: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes a reservation record of `node`; awards if it is the one that is asked now.
    pub fn handle_reservation(&mut self, node: &NodeId, attempt: u32, now: Now) {
        if self.state != State::Asking || !self.is_current(node, attempt) {
            return;
        }
        if AWARD_WINDOW < now.mono.since(self.asked) {
            return self.fail(TriedReason::Late, now.mono);
        }
        self.enter(State::Awarded);
        self.pause = AWARD_AGAIN;
        self.again = Some(now.mono + self.pause);
        self.outputs.push_back(Output::Award {
            attempt,
            node: *node,
        });
    }

    /// Takes a refusal record of `node`.
    pub fn handle_refusal(&mut self, node: &NodeId, attempt: u32, reason: RefusalReason, now: Now) {
        if self.is_current(node, attempt) && matches!(self.state, State::Asking | State::Awarded) {
            self.fail(TriedReason::Refused(reason), now.mono);
        }
    }

    /// Takes a grant record of `node`.
    pub fn handle_grant(&mut self, node: &NodeId, attempt: u32) {
        if self.state == State::Awarded && self.is_current(node, attempt) {
            self.again = None;
            self.enter(State::Granted);
        }
    }

    /// Takes a ready record of `node`; again after each of its restarts.
    pub fn handle_ready(&mut self, node: &NodeId, attempt: u32) {
        let known = matches!(self.state, State::Awarded | State::Granted);
        if known && self.is_current(node, attempt) {
            self.again = None;
            self.enter(State::Ready);
        }
    }

    /// Takes a release record of `node`: the attempt is over.
    pub fn handle_release(&mut self, node: &NodeId, attempt: u32, now: Now) {
        if !self.is_current(node, attempt) {
            return;
        }
        match self.state {
            State::Awarded | State::Granted if self.unwanted => self.end(State::Ended),
            State::Awarded | State::Granted => self.fail(TriedReason::Released, now.mono),
            State::Ready => self.end(State::Ended),
            State::Asking | State::CannotPlace | State::Cancelled | State::Ended => {}
        }
    }

    /// Does what is due.
    pub fn handle_timer(&mut self, now: Now) {
        let now = now.mono;
        let Some(node) = self
            .node
            .filter(|_| self.again.is_some_and(|again| again <= now))
        else {
            return;
        };
        let attempt = self.attempt;
        match self.state {
            State::Asking if ASK_PATIENCE <= now.since(self.asked) => {
                self.fail(TriedReason::Silent, now);
            }
            State::Asking => {
                self.again = Some((now + ASK_AGAIN).min(self.asked + ASK_PATIENCE));
                self.outputs.push_back(Output::AskAgain { attempt, node });
            }
            State::Awarded => {
                self.again = Some(now + self.pause);
                self.pause = (self.pause * 2).min(AWARD_AGAIN_MAX);
                self.outputs.push_back(Output::AwardAgain { attempt, node });
            }
            _ => self.again = None,
        }
    }

    /// The customer wants the order gone. Before an award that is all; after it the node must say
    /// so.
    pub fn handle_unwanted(&mut self) {
        self.unwanted = true;
        if matches!(self.state, State::Asking | State::CannotPlace) {
            self.end(State::Cancelled);
        }
    }

    /// Takes new candidates; starts again if none was left. Nodes being tried now stay so.
    pub fn handle_candidates(&mut self, candidates: Vec<Candidate>, now: Now) {
        self.candidates = candidates.into();
        if self.state == State::CannotPlace && !self.candidates.is_empty() {
            self.next(now.mono);
        }
    }

    /// Takes the next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Trip::handle_timer`] has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.again
    }

    /// Returns where the trip is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the current attempt, from 1; 0 before the first.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the node that is asked, awarded or running it.
    pub fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// Returns who was tried and why it did not work, the oldest first.
    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    fn is_current(&self, node: &NodeId, attempt: u32) -> bool {
        self.node == Some(*node) && self.attempt == attempt
    }

    /// Ends the current attempt and begins the next. The caller has proven that nobody may run it.
    fn fail(&mut self, reason: TriedReason, now: Moment) {
        if let Some(node) = self.node.take() {
            self.tried.push(Tried {
                attempt: self.attempt,
                node,
                reason,
            });
        }
        self.next(now);
    }

    fn next(&mut self, now: Moment) {
        self.node = None;
        self.again = None;
        if self.unwanted {
            return self.end(State::Cancelled);
        }
        let allowed = self.attempt < ATTEMPTS_MAX;
        let Some(candidate) = self.candidates.pop_front().filter(|_| allowed) else {
            return self.end(State::CannotPlace);
        };
        self.attempt += 1;
        self.node = Some(candidate.node);
        self.asked = now;
        self.again = Some(now + ASK_AGAIN);
        self.enter(State::Asking);
        self.outputs.push_back(Output::Ask {
            attempt: self.attempt,
            candidate,
        });
    }

    fn end(&mut self, state: State) {
        self.again = None;
        self.enter(state);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.outputs.push_back(Output::State(state));
    }
}
