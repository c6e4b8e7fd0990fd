//! Straight ways between two nodes behind routers: both knock at the same time.
//!
//! ```text
//!            wanted, none is there                a knock of ours was heard
//!   Apart ─────────────────────────► searching ────────────────────────────► Straight
//!     ▲   call, knock in rounds,        │  ▲                                  │   │
//!     │   pause 1, 2, 4 … 60 s          │  └── a question has no answer ──────┘   │ left
//!     └─────── wanted no more ──────────┘       (or our places changed)           │
//!     ▲                                                                           │
//!     └────────────── nobody used it for IDLE_MAX, and nobody needs it ───────────┘
//! ```
//! The mesh is the meeting point: others say where they see us ([`outer`]), and a call through the
//! session that two nodes have anyway ([`word`]) tells each where the other may be and that now is
//! the time. A knock is a sealed packet of that session, so no handshake is needed and nobody else
//! can answer. The first place that answers is used; the side that leads may change to a better
//! one, the other follows where packets come from, so that two sides never chase each other.
//!
//! Decides when to call, where to knock and which place is used. Leaves to the data plane what
//! carries a call, and how packets travel while there is no straight way. Invariants: whatever the
//! other side says, at most [`PLACES_MAX`] places of its naming are kept, and its calls start at
//! most one search each [`CALL_INTERVAL`] after a burst; a place is used only if it answered, or
//! packets of the session came from there.
//!
//! | room | idea |
//! |---|---|
//! | [`candidate`] | places, and which is the better one |
//! | [`word`] | what engines say to each other |
//! | [`outer`] | where others see us |
//! | [`limits`] | the numbers |

pub mod candidate;
pub mod limits;
pub mod outer;
#[cfg(test)]
mod tests;
pub mod word;
#[cfg(test)]
mod world;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::time::Moment;

use self::candidate::{Candidate, Class, Source, by_class, is_place};
use self::limits::{
    ASK_AGAIN, CALL_INTERVAL, CALLS_BURST, DOUBT_MAX, IDLE_MAX, MET_MAX, MOVE_INTERVAL,
    MOVES_BURST, PAUSE_MAX, PAUSE_MIN, PLACES_MAX, PORTS_MAX, ROUNDS, SILENCE_IN_USE_MAX,
    SILENCE_MAX, TRIED_MAX, VAIN_MAX, VAIN_STEP,
};
use self::word::Call;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Tell the other side our places, on any way that there is.
    Call {
        /// Counts ours.
        number: u32,
        /// Whether it answers one of theirs.
        is_answer: bool,
    },
    /// Send a knock straight to a place.
    Knock {
        /// Where.
        to: SocketAddr,
        /// Comes back.
        nonce: u64,
    },
    /// Say straight to a place that a knock was heard.
    Answer {
        /// Where it came from.
        to: SocketAddr,
        /// That of the knock.
        nonce: u64,
    },
    /// The straight way leads there from now on.
    Use(SocketAddr),
    /// There is none any more.
    Leave,
}

/// What the data plane knows about the pair, each time that time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Whether a straight way is wanted for its own sake: of a neighbour, always.
    pub wanted: bool,
    /// Whether packets were sent since the last look that the other side should answer.
    pub used: bool,
    /// Whether others carry packets between the two.
    pub relayed: bool,
}

/// A search that goes on.
#[derive(Debug, Clone, Copy)]
struct Search {
    begun: Moment,
    /// How many rounds have been knocked.
    count: usize,
    /// Whether places are knocked at that would be no better than what there is.
    all: bool,
}

/// A question that has no answer yet.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Moment,
    asked: Moment,
}

#[derive(Debug, Clone, Copy)]
struct Straight {
    at: SocketAddr,
    since: Moment,
    /// Whether a knock of ours was heard there.
    proven: bool,
    /// When we knocked there last.
    asked: Moment,
    heard: Moment,
    doubt: Option<Doubt>,
}

/// A knock that may come back.
#[derive(Debug, Clone, Copy)]
struct Sent {
    nonce: u64,
    to: SocketAddr,
}

/// One pair, as one side sees it. Drain [`Pair::poll`] after each `handle_*`.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Whether we choose among several ways.
    leads: bool,
    straight: Option<Straight>,
    /// Where it was last.
    last: Option<SocketAddr>,
    used: Option<Moment>,
    /// What they called with.
    theirs: Vec<Candidate>,
    /// Where they may be for other reasons.
    guesses: Vec<SocketAddr>,
    /// Where their knocks came from, newest last.
    met: VecDeque<SocketAddr>,
    search: Option<Search>,
    sent: VecDeque<Sent>,
    /// What nonces are made of, so that nobody knows one before it has come to where it was sent.
    secret: u64,
    nonce: u64,
    number: u32,
    /// That of their last call.
    taken: Option<u32>,
    called: Option<Moment>,
    /// Whether they said something since our last call.
    answered: bool,
    call_next: Moment,
    pause: Duration,
    relayed: bool,
    /// When calls of theirs will be taken as if none had come.
    calm: Moment,
    /// Their calls since a place of theirs answered.
    vain: u32,
    /// The same of places that only their packets tell of.
    moved: Moment,
    actions: VecDeque<Action>,
}

/// Knocks that may still come back: those of one search.
const SENT_MAX: usize = TRIED_MAX * ROUNDS.len();

/// How long a place where they are heard is asked whether they hear us there.
const PROOF_MAX: Duration = Duration::from_secs(2);

/// A call of ours that is younger answers theirs.
const CROSSED: Duration = Duration::from_millis(500);

impl Pair {
    /// Makes a pair that has no straight way; nobody may be able to guess `secret`. Calls are
    /// counted from a number that comes of it, so that an earlier life had another.
    pub fn new(leads: bool, secret: u64) -> Self {
        let number = (drawn(secret, 0) >> 32) as u32;
        Self {
            leads,
            straight: None,
            last: None,
            used: None,
            theirs: Vec::new(),
            guesses: Vec::new(),
            met: VecDeque::new(),
            search: None,
            sent: VecDeque::new(),
            secret,
            nonce: 0,
            number,
            taken: None,
            called: None,
            answered: false,
            call_next: Moment::default(),
            pause: PAUSE_MIN,
            relayed: false,
            calm: Moment::default(),
            vain: 0,
            moved: Moment::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes where they may be for other reasons than their calls.
    pub fn handle_guesses(&mut self, guesses: &[SocketAddr], now: Moment) {
        let is_new = |at: &SocketAddr| !self.guesses.contains(at);
        if guesses.iter().any(is_new) {
            self.begin_anew(now);
        }
        self.guesses = guesses.iter().copied().take(PLACES_MAX).collect();
    }

    /// There is a session that was not there before.
    pub fn handle_session(&mut self, now: Moment) {
        self.sent.clear();
        self.answered = false;
        self.begin_anew(now);
    }

    /// Our own places changed; `moved` tells that what leaves us comes from elsewhere now, so that
    /// their routers may not know us.
    pub fn handle_own_places(&mut self, moved: bool, now: Moment) {
        self.begin_anew(now);
        if let (true, Some(straight)) = (moved, &mut self.straight) {
            straight.doubt.get_or_insert(Doubt {
                since: now,
                asked: now,
            });
            self.call(false, now);
            self.begin_search(true, now);
        }
    }

    /// A packet of the session came straight from a place, and was no knock.
    pub fn handle_packet(&mut self, from: SocketAddr, now: Moment) {
        match &mut self.straight {
            Some(straight) if straight.at == from => {
                straight.heard = now;
                straight.doubt = None;
            }
            // Who comes from yet another place all the time is not followed each time.
            _ if spend(&mut self.moved, MOVE_INTERVAL, MOVES_BURST, now) => {
                self.settle(from, false, now);
                // It speaks there; whether it hears there is another question.
                self.knock(from);
            }
            _ => {}
        }
    }

    /// They told where they may be.
    pub fn handle_call(&mut self, call: &Call, now: Moment) {
        self.answered = true;
        // It may come on two ways.
        if self.taken.replace(call.number) == Some(call.number) {
            return;
        }
        // Who names places that never answer is followed ever more rarely.
        let doublings = (self.vain / VAIN_STEP).min(VAIN_MAX);
        let (interval, burst) = (CALL_INTERVAL * (1 << doublings), CALLS_BURST >> doublings);
        if !spend(&mut self.calm, interval, burst.max(1), now) {
            return;
        }
        self.vain = self.vain.saturating_add(1);
        let places = || call.places.iter().filter(|place| is_place(&place.at));
        if places().any(|place| !self.theirs.contains(place)) {
            self.pause = PAUSE_MIN;
        }
        self.theirs = places().copied().take(PLACES_MAX).collect();
        self.theirs.sort_by(by_class);
        let crossed = self.called.is_some_and(|at| now.since(at) < CROSSED);
        if !call.is_answer && !crossed {
            self.call(true, now);
        }
        self.begin_search(true, now);
    }

    /// A knock came straight from a place.
    pub fn handle_knock(&mut self, from: SocketAddr, nonce: u64, now: Moment) {
        self.actions.push_back(Action::Answer { to: from, nonce });
        match &mut self.straight {
            Some(straight) if straight.at == from => straight.heard = now,
            Some(straight) if straight.doubt.is_none() => {}
            _ if spend(&mut self.moved, MOVE_INTERVAL, MOVES_BURST, now) => {
                self.meet(from);
                self.knock(from);
            }
            _ => {}
        }
    }

    /// A knock of ours was heard; the answer came straight from a place.
    pub fn handle_answer(&mut self, from: SocketAddr, nonce: u64, now: Moment) {
        let Some(sent) = self.sent.iter().find(|sent| sent.nonce == nonce) else {
            return;
        };
        self.vain = 0;
        if sent.to != from {
            // It is heard there and speaks here; whether it hears here is another question. Two
            // whose ports both wander could ask it for ever.
            if self.meet(from) && self.search.is_some() {
                self.knock(from);
            }
            return;
        }
        let class = self.class_of(from);
        let better = match &mut self.straight {
            None => true,
            Some(straight) if straight.at == from => {
                straight.proven = true;
                self.handle_packet(from, now);
                return;
            }
            Some(straight) if straight.doubt.is_some() || !straight.proven => true,
            Some(straight) => {
                let at = straight.at;
                self.leads && class < self.class_of(at)
            }
        };
        if better {
            self.settle(from, true, now);
        }
    }

    /// Lets time pass.
    pub fn handle_time(&mut self, look: Look, now: Moment) {
        if look.used {
            self.used = Some(now);
        }
        if look.relayed && !self.relayed && self.straight.is_none() {
            self.begin_anew(now);
        }
        self.relayed = look.relayed;
        let idle = self.used.is_none_or(|used| IDLE_MAX <= now.since(used));
        if !look.wanted && idle && self.straight.is_some() {
            self.leave(now);
        }
        self.doubt(look, now);
        let apart = |it: Straight| !it.proven && PROOF_MAX <= now.since(it.since);
        if look.wanted && self.straight.is_none_or(apart) && self.call_next <= now {
            self.call(false, now);
            self.begin_search(true, now);
            self.call_next = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        self.knock_round(now);
    }

    /// Takes what is to be done.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns whether there is something to be done.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Returns the place where the other side is heard straight.
    pub fn straight(&self) -> Option<SocketAddr> {
        self.straight.map(|straight| straight.at)
    }

    /// Returns whether it also hears us there.
    pub fn is_proven(&self) -> bool {
        self.straight.is_some_and(|straight| straight.proven)
    }

    /// Returns whether time should pass in short steps.
    pub fn is_busy(&self) -> bool {
        let doubts = self.straight.is_some_and(|it| it.doubt.is_some());
        self.search.is_some() || doubts
    }

    /// Returns whether the other side answered our last call: its session is as sound as ours.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    fn begin_anew(&mut self, now: Moment) {
        self.pause = PAUSE_MIN;
        self.call_next = now;
    }

    fn call(&mut self, is_answer: bool, now: Moment) {
        self.number = self.number.wrapping_add(1);
        self.called = Some(now);
        self.answered &= is_answer;
        self.actions.push_back(Action::Call {
            number: self.number,
            is_answer,
        });
    }

    fn begin_search(&mut self, all: bool, now: Moment) {
        self.search = Some(Search {
            begun: now,
            count: 0,
            all,
        });
        self.knock_round(now);
    }

    /// Asks a way that is silent for too long, and leaves it if there is no answer.
    fn doubt(&mut self, look: Look, now: Moment) {
        let silence_max = if look.used {
            SILENCE_IN_USE_MAX
        } else {
            SILENCE_MAX
        };
        let Some(straight) = &mut self.straight else {
            return;
        };
        let young = now.since(straight.since) < PROOF_MAX;
        if !straight.proven && young && ASK_AGAIN <= now.since(straight.asked) {
            straight.asked = now;
            let to = straight.at;
            self.knock(to);
            return;
        }
        let silent = silence_max <= now.since(straight.heard);
        let Some(doubt) = &mut straight.doubt else {
            if silent && (look.wanted || look.used) {
                straight.doubt = Some(Doubt {
                    since: now,
                    asked: now,
                });
                let to = straight.at;
                self.knock(to);
            }
            return;
        };
        if DOUBT_MAX <= now.since(doubt.since) {
            self.leave(now);
        } else if ASK_AGAIN <= now.since(doubt.asked) {
            doubt.asked = now;
            let to = straight.at;
            self.knock(to);
        }
    }

    fn leave(&mut self, now: Moment) {
        self.last = self.straight.take().map(|straight| straight.at);
        self.actions.push_back(Action::Leave);
        self.begin_anew(now);
    }

    fn settle(&mut self, at: SocketAddr, proven: bool, now: Moment) {
        self.straight = Some(Straight {
            at,
            since: now,
            proven,
            asked: now,
            heard: now,
            doubt: None,
        });
        self.last = Some(at);
        self.used = Some(now);
        if proven {
            self.pause = PAUSE_MIN;
        }
        if let Some(search) = &mut self.search {
            search.all = false;
        }
        self.actions.push_back(Action::Use(at));
    }

    /// Notes a place that only a knock tells of; returns whether it is new.
    fn meet(&mut self, from: SocketAddr) -> bool {
        if self.met.contains(&from) {
            return false;
        }
        if MET_MAX <= self.met.len() {
            self.met.pop_front();
        }
        self.met.push_back(from);
        true
    }

    fn knock_round(&mut self, now: Moment) {
        let Some(mut search) = self.search else {
            return;
        };
        let due = ROUNDS
            .iter()
            .filter(|after| **after <= now.since(search.begun));
        let due = due.count();
        if due <= search.count {
            return;
        }
        // Those that are late are one.
        search.count = due;
        self.search = Some(search).filter(|search| search.count < ROUNDS.len());
        let limit = self.straight.map(|straight| self.class_of(straight.at));
        for place in self.places() {
            let better = limit.is_none_or(|limit| place.class() < limit);
            if search.all || (self.leads && better) {
                self.knock(place.at);
            }
        }
    }

    /// Returns where they may be, each place once.
    fn places(&self) -> Vec<Candidate> {
        let of = |source| move |at: &SocketAddr| Candidate { at: *at, source };
        let known = self.straight.map(|straight| straight.at).or(self.last);
        let theirs = self.theirs.iter().copied();
        let guesses = self.guesses.iter().map(of(Source::Interface));
        let met = self.met.iter().map(of(Source::Seen));
        let known = known.as_ref().map(of(Source::Seen)).into_iter();
        let mut places: Vec<Candidate> = Vec::new();
        for place in theirs.chain(guesses).chain(met).chain(known) {
            let is_new = places.iter().all(|known| known.at != place.at);
            let there = places.iter().filter(|known| known.at.ip() == place.at.ip());
            // Where packets came from is no claim.
            let is_heard = self.met.contains(&place.at) || self.last == Some(place.at);
            let is_new = is_new && (is_heard || there.count() < PORTS_MAX);
            if is_new && is_place(&place.at) && places.len() < TRIED_MAX {
                places.push(place);
            }
        }
        places
    }

    fn class_of(&self, at: SocketAddr) -> Class {
        let known = self.places().into_iter().find(|place| place.at == at);
        let source = Source::Seen;
        known.unwrap_or(Candidate { at, source }).class()
    }

    fn knock(&mut self, to: SocketAddr) {
        self.nonce = self.nonce.wrapping_add(1);
        if SENT_MAX <= self.sent.len() {
            self.sent.pop_front();
        }
        let nonce = drawn(self.secret, self.nonce);
        self.sent.push_back(Sent { nonce, to });
        self.actions.push_back(Action::Knock { to, nonce });
    }
}

/// Returns what only who has the secret can know; different for each count.
pub fn drawn(secret: u64, count: u64) -> u64 {
    let digest = Digest::of_parts(&[&secret.to_be_bytes(), &count.to_be_bytes()]);
    let first = digest.as_bytes().first_chunk();
    first.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Takes one out of a budget that is full again at `full`: at most `burst` at once, one more each
/// `interval`.
fn spend(full: &mut Moment, interval: Duration, burst: u32, now: Moment) -> bool {
    let after = (*full).max(now) + interval;
    let is_left = after <= now + interval * burst;
    if is_left {
        *full = after;
    }
    is_left
}
