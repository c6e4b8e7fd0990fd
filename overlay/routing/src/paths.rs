//! Whether what is sent to a node over a neighbour arrives: asked from end to end, and answered.
//!
//! ```text
//!            UNANSWERED_COUNT asked,               the same questions are
//!            nothing for SILENCE_MAX               answered over another
//!   Trusted ────────────────────────► Suspected ─────────────► Proven
//!      ▲                                  │                       │
//!      ├── silent over another too: off ──┤                       │
//!      └── answers again, or decayed ─────┴───────────────────────┘
//! ```
//! Babel believes metrics. A neighbour that claims to be near to everything and drops what it gets
//! keeps a perfect link and perfect routes; so does one behind which long packets are lost. Only
//! the ends notice. So each pair of destination and next hop that is in use has a record: a
//! question in the session with the destination, over that neighbour, as long as the longest packet
//! that went there since the last one. A silent pair gets a penalty, which sends that destination
//! another way; what is answered there proves that the first way was at fault. If nothing is
//! answered there either, the destination is off and nobody is at fault. What is proven is told to
//! people for as long as it lasts.
//!
//! A way that has a penalty is asked on while its destination is in use, and trusted again when it
//! answers; each new penalty for the same pair halves how often. Without use penalties hold, then
//! halve. Lost packets are no evidence: one answer among many questions is enough to be trusted.
//! Leaves the effect of a penalty to the speaker, and what a question looks like to the session:
//! only what its keys prove to be from the other end and in reply to us is an answer. Invariants:
//! at most [`RECORDS_MAX`] records; nothing is said twice in a row.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use crate::babel::words::Metric;

/// Most pairs that are watched; a node speaks to some dozens of others. At the limit a new pair is
/// not watched, so that what is known of others stays.
pub const RECORDS_MAX: usize = 4096;

/// Most questions whose answers are still believed; at the limit the oldest is forgotten.
pub const QUESTIONS_MAX: usize = 8192;

/// How long an answer may take: longer than a queue on the worst of links.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often a way that is in use is asked; never without use.
pub const ASK_INTERVAL: Duration = Duration::from_secs(2);

/// How often it is asked while an answer is missing.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Silence after the first unanswered question that makes a way suspect: twice what routing itself
/// may take to find another way after a cut, which is then nobody's fault.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Questions that must be unanswered besides: at 30 % loss of question or answer, ten in a row are
/// lost six times in a million.
pub const UNANSWERED_COUNT: u32 = 10;

/// From the first packet that is lost to the penalty, while packets are sent: one second until use
/// is noticed, two until the next question, a second until time is looked at, and the silence.
pub const NOTICE_MAX: Duration = Duration::from_secs(9);

/// What a silent way costs more: forty links at their highest cost, so that any other is taken;
/// less than infinity, so that the only way stays one.
pub const PENALTY: Metric = Metric(8192);

/// A penalty below this is none: about what a link's round trip makes.
pub const PENALTY_MIN: Metric = Metric(256);

/// How long a penalty holds without use before it begins to halve: a restart behind it is over by
/// then.
pub const HOLD_MIN: Duration = Duration::from_secs(300);

/// Longest hold.
pub const HOLD_MAX: Duration = Duration::from_secs(3600);

/// A penalty that no longer holds is halved this often.
pub const HALVING: Duration = Duration::from_secs(30);

/// How often a way with its first penalty is asked; half as often with each further one.
pub const RETEST_MIN: Duration = Duration::from_secs(1);

/// The rarest: a way that fails each time gets some seconds of traffic in half an hour.
pub const RETEST_MAX: Duration = Duration::from_secs(300);

/// Answers, with at most two missing between them, after which a penalised way is trusted again.
pub const ANSWERS_COUNT: u32 = 5;

/// How long after its last packet a destination is in use.
pub const USE_MAX: Duration = Duration::from_secs(10);

/// How long a destination that was silent on every way makes nobody suspect; doubles up to
/// [`HOLD_MAX`] while it stays silent.
pub const OFF_MIN: Duration = Duration::from_secs(60);

/// A way that is not used for so long is forgotten, with what it did.
pub const IDLE_MAX: Duration = Duration::from_secs(2 * 3600);

/// How often records are looked at while nothing is missing.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What others should do or know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A question is to be sent, over this neighbour and no other.
    Ask {
        /// Comes back in the answer.
        number: u64,
        /// Whom to ask.
        destination: NodeId,
        /// Over whom.
        via: NodeId,
        /// How long the packet should be.
        len: u16,
    },
    /// A destination's way over a neighbour costs so much more from now on; zero takes it back.
    Penalty {
        /// Where packets were to go.
        destination: NodeId,
        /// Over whom.
        via: NodeId,
        /// What is added to its metric.
        metric: Metric,
    },
    /// Packets for a destination are lost over a neighbour, and arrive over another.
    Alarm {
        /// Who answers over another.
        destination: NodeId,
        /// Over whom it does not.
        via: NodeId,
    },
}

/// What is thought of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It works as far as we know.
    Trusted,
    /// Nothing came back.
    Suspected,
    /// Nothing came back over it, and something did over another.
    Proven,
}

/// A way over which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Where they were to go.
    pub destination: NodeId,
    /// Over whom.
    pub via: NodeId,
    /// Since when nothing came back.
    pub since: Moment,
}

/// How many ways are in which standing, and what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Ways that are watched.
    pub watched: usize,
    /// Of those, how many are suspected.
    pub suspected: usize,
    /// How many are proven to lose packets.
    pub proven: usize,
    /// Questions so far.
    pub asked: u64,
    /// Answers so far.
    pub answered: u64,
}

#[derive(Debug, Clone)]
struct Record {
    standing: Standing,
    /// When the first question was sent that has no answer yet.
    open_since: Option<Moment>,
    unanswered_count: u32,
    asked: Option<Moment>,
    /// How long the questions are.
    len: u16,
    answers_count: u32,
    penalty: Metric,
    /// When the penalty changes next.
    change: Moment,
    hold: Duration,
    /// How often it was suspected.
    offence_count: u32,
    /// Since when it is silent, if it is not trusted.
    since: Moment,
    /// Whether another way has answered after that.
    doubted: bool,
    /// When this one was asked first since then.
    asked_again: Option<Moment>,
    touched: Moment,
}

/// What is known of a destination as a whole.
#[derive(Debug, Clone)]
struct Goal {
    ways: BTreeMap<NodeId, Record>,
    /// The next hop in use.
    via: NodeId,
    used: Moment,
    /// Longest packet since the last question; none if nothing was sent.
    longest: Option<u16>,
    off: Option<Off>,
}

#[derive(Debug, Clone, Copy)]
struct Off {
    until: Moment,
    wait: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    number: u64,
    destination: NodeId,
    via: NodeId,
    at: Moment,
}

/// Watches ways. Drain [`Paths::poll`] after each `handle_*`; call [`Paths::handle_timeout`] when
/// [`Paths::poll_timeout`] says.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    goals: BTreeMap<NodeId, Goal>,
    /// Records of all goals.
    count: usize,
    /// By number, which grows.
    questions: VecDeque<Question>,
    asked: u64,
    answered: u64,
    look_next: Option<Moment>,
    events: VecDeque<Event>,
}

impl Paths {
    /// Notes that packets of at most `len` bytes left for `destination` over `via`.
    pub fn handle_used(&mut self, destination: NodeId, via: NodeId, len: u16, now: Moment) {
        // The other end of a link is asked by hellos; if it is silent, it is off.
        if destination == via {
            return;
        }
        let known = self.record(&destination, &via).is_some();
        if !known && RECORDS_MAX <= self.count {
            return;
        }
        let goal = self.goals.entry(destination).or_insert_with(|| Goal {
            ways: BTreeMap::new(),
            via,
            used: now,
            longest: None,
            off: None,
        });
        if goal.via != via
            && let Some(before) = goal.ways.get_mut(&goal.via)
            && !before.is_penalised()
        {
            // What was asked last went a way that routing has left.
            before.start_again();
        }
        goal.ways.entry(via).or_insert_with(|| Record::new(now));
        self.count += usize::from(!known);
        goal.via = via;
        goal.used = now;
        goal.longest = goal.longest.max(Some(len));
        self.ask_where_due(destination, now);
        let soon = now + ASK_AGAIN;
        self.look_next = Some(self.look_next.map_or(soon, |next| next.min(soon)));
    }

    /// Notes that `destination` answered the question of this number. Returns whether it was one.
    pub fn handle_heard(&mut self, destination: NodeId, number: u64, now: Moment) -> bool {
        let at = self.questions.binary_search_by_key(&number, |it| it.number);
        let found = at.ok().and_then(|at| self.questions.get(at)).copied();
        let Some(question) = found.filter(|it| it.destination == destination) else {
            return false;
        };
        self.answered += 1;
        let via = question.via;
        let Some(goal) = self.goals.get_mut(&destination) else {
            return true;
        };
        goal.off = None;
        let mut trusted = false;
        if let Some(record) = goal.ways.get_mut(&via) {
            record.answer(now);
            trusted = record.is_penalised() && ANSWERS_COUNT <= record.answers_count;
        }
        let mut proven = Vec::new();
        for (other, record) in &mut goal.ways {
            if *other != via && record.is_refuted_by(question.at, now) {
                proven.push(*other);
            }
        }
        for via in proven {
            self.events.push_back(Event::Alarm { destination, via });
        }
        if trusted {
            self.trust(destination, via);
        }
        true
    }

    /// Forgets a neighbour whose link has ended for good.
    pub fn handle_unlinked(&mut self, via: &NodeId) {
        for goal in self.goals.values_mut() {
            self.count -= usize::from(goal.ways.remove(via).is_some());
        }
        self.goals.retain(|_, goal| !goal.ways.is_empty());
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Moment) {
        for (destination, via) in self.keys(|record| record.is_silent(now)) {
            self.suspect(destination, via, now);
        }
        for (destination, via) in self.keys(|record| record.is_penalised() && record.change <= now)
        {
            self.decay(destination, via, now);
        }
        for destination in self.goals.keys().copied().collect::<Vec<_>>() {
            self.ask_where_due(destination, now);
        }
        for goal in self.goals.values_mut() {
            let before = goal.ways.len();
            let keep = |record: &Record| record.is_penalised() || now < record.touched + IDLE_MAX;
            goal.ways.retain(|_, record| keep(record));
            self.count -= before - goal.ways.len();
        }
        self.goals.retain(|_, goal| !goal.ways.is_empty());
        self.look_next = self.next_look(now);
    }

    /// Takes the next thing that others should do or know.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Paths::handle_timeout`] is due; none if nothing is in use.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.look_next
    }

    /// Returns what is thought of a way; none if it is not watched.
    pub fn standing(&self, destination: &NodeId, via: &NodeId) -> Option<Standing> {
        let record = self.record(destination, via)?;
        Some(record.standing)
    }

    /// Returns the penalties of ways over a neighbour, for a speaker that has lost and found it.
    pub fn penalties_over(&self, via: &NodeId) -> Vec<(NodeId, Metric)> {
        let over = self.goals.iter().filter_map(|(destination, goal)| {
            let record = goal.ways.get(via)?;
            record
                .is_penalised()
                .then_some((*destination, record.penalty))
        });
        over.collect()
    }

    /// Returns the ways that are proven to lose packets.
    pub fn lost(&self) -> Vec<Lost> {
        let keys = self.keys(|record| record.standing == Standing::Proven);
        let lost = keys.into_iter().filter_map(|(destination, via)| {
            let since = self.record(&destination, &via)?.since;
            Some(Lost {
                destination,
                via,
                since,
            })
        });
        lost.collect()
    }

    /// Returns how many ways are in which standing, and what was asked.
    pub fn tally(&self) -> Tally {
        let standings = |wanted| self.keys(|record| record.standing == wanted).len();
        Tally {
            watched: self.count,
            suspected: standings(Standing::Suspected),
            proven: standings(Standing::Proven),
            asked: self.asked,
            answered: self.answered,
        }
    }

    /// Asks over the way in use, and over those with a penalty while there is use.
    fn ask_where_due(&mut self, destination: NodeId, now: Moment) {
        let Some(goal) = self.goals.get_mut(&destination) else {
            return;
        };
        if goal.off.is_some_and(|off| now < off.until) {
            goal.longest = None;
            return;
        }
        let in_use = now < goal.used + USE_MAX;
        let mut due = Vec::new();
        for (via, record) in &mut goal.ways {
            let since = |interval| record.asked.is_none_or(|asked| asked + interval <= now);
            let fresh = if *via == goal.via { goal.longest } else { None };
            let wanted = if record.is_penalised() {
                in_use && since(record.retest())
            } else if *via != goal.via {
                false
            } else if record.open_since.is_some() {
                since(ASK_AGAIN)
            } else {
                fresh.is_some() && since(ASK_INTERVAL)
            };
            if !wanted {
                continue;
            }
            // While an answer is missing, questions do not become shorter.
            let least = if record.open_since.is_some() || record.is_penalised() {
                record.len
            } else {
                0
            };
            record.len = fresh.unwrap_or(0).max(least);
            if *via == goal.via {
                goal.longest = None;
            }
            record.ask(now);
            due.push((*via, record.len));
        }
        for (via, len) in due {
            self.ask(destination, via, len, now);
        }
    }

    fn ask(&mut self, destination: NodeId, via: NodeId, len: u16, now: Moment) {
        let old = |it: &Question| it.at + ANSWER_MAX <= now;
        while self.questions.front().is_some_and(old) || QUESTIONS_MAX <= self.questions.len() {
            self.questions.pop_front();
        }
        self.asked += 1;
        let number = self.asked;
        self.questions.push_back(Question {
            number,
            destination,
            via,
            at: now,
        });
        self.events.push_back(Event::Ask {
            number,
            destination,
            via,
            len,
        });
    }

    /// A way is silent. If the destination is silent on another way too, it is off.
    fn suspect(&mut self, destination: NodeId, via: NodeId, now: Moment) {
        let Some(goal) = self.goals.get_mut(&destination) else {
            return;
        };
        let elsewhere = goal
            .ways
            .iter()
            .any(|(other, record)| *other != via && record.standing == Standing::Suspected);
        if elsewhere || goal.off.is_some() {
            self.acquit(destination, now);
            return;
        }
        if let Some(record) = goal.ways.get_mut(&via) {
            if record.standing == Standing::Trusted {
                record.standing = Standing::Suspected;
                record.since = record.open_since.unwrap_or(now);
            }
            record.believe();
            record.offence_count = record.offence_count.saturating_add(1);
            record.hold = (record.hold * 2).clamp(HOLD_MIN, HOLD_MAX);
            record.change = now + record.hold;
            record.start_again();
            self.set_penalty(destination, via, PENALTY);
        }
    }

    /// The destination is off: takes back what it brought on others.
    fn acquit(&mut self, destination: NodeId, now: Moment) {
        let Some(goal) = self.goals.get_mut(&destination) else {
            return;
        };
        let wait = goal.off.map_or(OFF_MIN, |off| (off.wait * 2).min(HOLD_MAX));
        let until = now + wait;
        goal.off = Some(Off { until, wait });
        let mut acquitted = Vec::new();
        for (via, record) in &mut goal.ways {
            record.start_again();
            if record.standing == Standing::Suspected {
                record.hold = Duration::ZERO;
                record.offence_count = record.offence_count.saturating_sub(1);
                acquitted.push(*via);
            }
        }
        for via in acquitted {
            self.trust(destination, via);
        }
    }

    /// A penalty that no longer holds halves until it is none.
    fn decay(&mut self, destination: NodeId, via: NodeId, now: Moment) {
        let Some(record) = self.record_mut(&destination, &via) else {
            return;
        };
        record.change = now + HALVING;
        // Questions that ended with the use are no evidence against the next.
        record.start_again();
        let half = Metric(record.penalty.0 / 2);
        if half < PENALTY_MIN {
            self.trust(destination, via);
            return;
        }
        self.set_penalty(destination, via, half);
    }

    fn trust(&mut self, destination: NodeId, via: NodeId) {
        if let Some(record) = self.record_mut(&destination, &via) {
            record.standing = Standing::Trusted;
            record.believe();
        }
        self.set_penalty(destination, via, Metric::ZERO);
    }

    fn set_penalty(&mut self, destination: NodeId, via: NodeId, metric: Metric) {
        let Some(record) = self.record_mut(&destination, &via) else {
            return;
        };
        if record.penalty != metric {
            record.penalty = metric;
            self.events.push_back(Event::Penalty {
                destination,
                via,
                metric,
            });
        }
    }

    fn next_look(&self, now: Moment) -> Option<Moment> {
        let goals = || self.goals.values();
        let records = || goals().flat_map(|goal| goal.ways.values());
        if records().any(|record| record.open_since.is_some()) {
            return Some(now + ASK_AGAIN);
        }
        let busy = goals().any(|goal| now < goal.used + USE_MAX);
        let busy = busy || records().any(Record::is_penalised);
        busy.then(|| now + LOOK_INTERVAL)
    }

    /// Returns the (destination, next hop) of records that are `wanted`.
    fn keys(&self, wanted: impl Fn(&Record) -> bool) -> Vec<(NodeId, NodeId)> {
        let mut keys = Vec::new();
        for (destination, goal) in &self.goals {
            let found = goal.ways.iter().filter(|(_, record)| wanted(record));
            keys.extend(found.map(|(via, _)| (*destination, *via)));
        }
        keys
    }

    fn record(&self, destination: &NodeId, via: &NodeId) -> Option<&Record> {
        self.goals.get(destination)?.ways.get(via)
    }

    fn record_mut(&mut self, destination: &NodeId, via: &NodeId) -> Option<&mut Record> {
        self.goals.get_mut(destination)?.ways.get_mut(via)
    }
}

/// Answers may be late by so many questions and still be in a row.
const LATE_COUNT: u32 = 3;

impl Record {
    fn new(now: Moment) -> Self {
        Self {
            standing: Standing::Trusted,
            open_since: None,
            unanswered_count: 0,
            asked: None,
            len: 0,
            answers_count: 0,
            penalty: Metric::ZERO,
            change: now,
            hold: Duration::ZERO,
            offence_count: 0,
            since: now,
            doubted: false,
            asked_again: None,
            touched: now,
        }
    }

    fn ask(&mut self, now: Moment) {
        self.open_since.get_or_insert(now);
        self.unanswered_count = self.unanswered_count.saturating_add(1);
        if LATE_COUNT <= self.unanswered_count {
            self.answers_count = 0;
        }
        // What is asked now need not be guessed: a penalty fades only without use.
        self.change = self.change.max(now + self.retest() * 2);
        if self.doubted {
            self.asked_again.get_or_insert(now);
        }
        self.asked = Some(now);
        self.touched = now;
    }

    fn answer(&mut self, now: Moment) {
        self.open_since = None;
        self.unanswered_count = 0;
        self.believe();
        self.answers_count = self.answers_count.saturating_add(1);
        self.touched = now;
    }

    /// Takes note that another way answered what was asked at `asked`. Returns whether that proves
    /// this one at fault: it was asked meanwhile too, and did not answer.
    fn is_refuted_by(&mut self, asked: Moment, now: Moment) -> bool {
        if self.standing != Standing::Suspected || asked < self.since {
            return false;
        }
        self.doubted = true;
        let meanwhile = self.asked_again.is_some_and(|own| own + ASK_AGAIN <= now);
        if meanwhile {
            self.standing = Standing::Proven;
        }
        meanwhile
    }

    /// Forgets what other ways said about this one.
    fn believe(&mut self) {
        self.doubted = false;
        self.asked_again = None;
    }

    /// Forgets what was asked, not what is thought.
    fn start_again(&mut self) {
        self.open_since = None;
        self.unanswered_count = 0;
        self.answers_count = 0;
    }

    fn is_silent(&self, now: Moment) -> bool {
        let long = self
            .open_since
            .is_some_and(|since| since + SILENCE_MAX <= now);
        // What is still used while its penalty fades is at fault again, not still.
        long && UNANSWERED_COUNT <= self.unanswered_count && self.penalty < PENALTY
    }

    fn is_penalised(&self) -> bool {
        self.penalty != Metric::ZERO
    }

    /// Returns how often it is asked while it has a penalty.
    fn retest(&self) -> Duration {
        let doublings = self.offence_count.saturating_sub(1).min(16);
        (RETEST_MIN * (1 << doublings)).min(RETEST_MAX)
    }
}

#[cfg(test)]
mod tests;
