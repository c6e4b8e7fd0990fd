//! Whether what is sent to a node over a neighbour arrives: judged from end to end, by answers.
//!
//! ```text
//!            UNANSWERED_COUNT sent,                heard over
//!            nothing for SILENCE_MAX               another
//!   Trusted ────────────────────────► Suspected ─────────────► Proven
//!      ▲                                  │                       │
//!      ├── silent over another too: off ──┤                       │
//!      └── answers again, or decayed ─────┴───────────────────────┘
//! ```
//! Babel believes metrics. A neighbour that claims to be near to everything and drops what it gets
//! keeps a perfect link and perfect routes; only the ends notice, for nothing comes back. So each
//! pair of destination and next hop has a record. A silent pair gets a penalty, which sends that
//! destination another way; what is heard there proves that the first way was at fault. If nothing
//! is heard there either, the destination is off and nobody is at fault. A neighbour that is proven
//! at fault for [`ALARM_COUNT`] destinations is told to people.
//!
//! Penalties hold, then halve; each new one for the same pair holds twice as long, so that a liar
//! gets traffic back ever more seldom. Lost packets are no evidence: one answer among many
//! questions is enough to be trusted. Leaves the effect of a penalty to the speaker, and what
//! counts as an answer to the session: only what its keys prove to be from the other end and in
//! reply to us. Invariants: at most [`RECORDS_MAX`] records; nothing is said twice in a row.
//!
//! Not wired: nothing tells it of packets yet, and nobody takes its penalties to the speaker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use crate::babel::words::Metric;

/// Most pairs that are watched; a node speaks to some dozens of others. At the limit a new pair is
/// not watched, so that what is known of others stays.
pub const RECORDS_MAX: usize = 4096;

/// Silence after the first unanswered question that makes a way suspect: WireGuard answers data
/// with a keepalive after ten seconds at the latest, and one of those may be lost.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Questions that must be unanswered besides: at 30 % loss of question or answer, ten in a row are
/// lost six times in a million.
pub const UNANSWERED_COUNT: u32 = 10;

/// Two packets nearer than this are one question: a burst that a full queue drops is one loss.
pub const QUESTION_STEP: Duration = Duration::from_secs(1);

/// What a silent way costs more: forty links at their highest cost, so that any other is taken;
/// less than infinity, so that the only way stays one.
pub const PENALTY: Metric = Metric(8192);

/// A penalty below this is none: about what a link's round trip makes.
pub const PENALTY_MIN: Metric = Metric(256);

/// How long the first penalty holds before it begins to halve: a restart behind it is over by then.
pub const HOLD_MIN: Duration = Duration::from_secs(300);

/// Longest hold: a liar gets less than a minute of traffic in an hour.
pub const HOLD_MAX: Duration = Duration::from_secs(3600);

/// A penalty that no longer holds is halved this often.
pub const HALVING: Duration = Duration::from_secs(30);

/// Answers, in different seconds, after which a penalised way is trusted again.
pub const ANSWERS_COUNT: u32 = 5;

/// How long a destination that was silent on every way makes nobody suspect; doubles up to
/// [`HOLD_MAX`] while it stays silent.
pub const OFF_MIN: Duration = Duration::from_secs(60);

/// A way that is not used for so long is forgotten, with what it did.
pub const IDLE_MAX: Duration = Duration::from_secs(2 * 3600);

/// Destinations for which a neighbour must be proven at fault before people are told: one or two
/// may be an accident behind it.
pub const ALARM_COUNT: usize = 3;

/// How often records are looked at while there are any.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What others should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A destination's way over a neighbour costs so much more from now on; zero takes it back.
    Penalty {
        /// Where packets were to go.
        destination: NodeId,
        /// Over whom.
        via: NodeId,
        /// What is added to its metric.
        metric: Metric,
    },
    /// A neighbour drops what it claims to carry.
    Alarm {
        /// The neighbour.
        via: NodeId,
        /// Who answered over others and not over it.
        destinations: BTreeSet<NodeId>,
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

#[derive(Debug, Clone)]
struct Record {
    standing: Standing,
    /// Share of questions with an answer, of 65,536: an average over about sixteen.
    success: u32,
    /// When the first question was sent that has no answer yet.
    open_since: Option<Moment>,
    unanswered_count: u32,
    asked: Moment,
    heard: Option<Moment>,
    answers_count: u32,
    penalty: Metric,
    /// When the penalty changes next.
    change: Moment,
    hold: Duration,
}

type Ways = BTreeMap<NodeId, Record>;

/// What is known of a destination as a whole.
#[derive(Debug, Clone, Copy)]
struct Off {
    until: Moment,
    wait: Duration,
}

/// Watches ways. Drain [`Paths::poll`] after each `handle_*`; call [`Paths::handle_timeout`] when
/// [`Paths::poll_timeout`] says.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// By destination, then by next hop.
    records: BTreeMap<NodeId, Ways>,
    count: usize,
    off: BTreeMap<NodeId, Off>,
    alarmed: BTreeSet<NodeId>,
    look_next: Option<Moment>,
    events: VecDeque<Event>,
}

impl Paths {
    /// Notes that something which wants an answer left for `destination` over `via`.
    pub fn handle_sent(&mut self, destination: NodeId, via: NodeId, now: Moment) {
        // The other end of a link is asked by hellos; if it is silent, it is off.
        if destination == via {
            return;
        }
        let known = self.record(&destination, &via).is_some();
        if !known && RECORDS_MAX <= self.count {
            return;
        }
        let ways = self.records.entry(destination).or_default();
        let record = ways.entry(via).or_insert_with(|| Record::new(now));
        self.count += usize::from(!known);
        record.ask(now);
        self.look_next.get_or_insert(now + LOOK_INTERVAL);
    }

    /// Notes that `destination` answered what we sent over `via`.
    pub fn handle_heard(&mut self, destination: NodeId, via: NodeId, now: Moment) {
        self.off.remove(&destination);
        let Some(ways) = self.records.get_mut(&destination) else {
            return;
        };
        let mut trusted = false;
        if let Some(record) = ways.get_mut(&via) {
            record.answer(now);
            trusted = record.is_penalised() && ANSWERS_COUNT <= record.answers_count;
        }
        let mut proven = false;
        for (other, record) in ways {
            if *other != via && record.standing == Standing::Suspected {
                record.standing = Standing::Proven;
                proven = true;
            }
        }
        if trusted {
            self.trust(destination, via);
        }
        if proven || trusted {
            self.raise_alarms();
        }
    }

    /// Forgets a neighbour whose link has ended.
    pub fn handle_unlinked(&mut self, via: &NodeId) {
        for ways in self.records.values_mut() {
            self.count -= usize::from(ways.remove(via).is_some());
        }
        self.records.retain(|_, ways| !ways.is_empty());
        self.alarmed.remove(via);
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
        for ways in self.records.values_mut() {
            let before = ways.len();
            ways.retain(|_, record| record.is_penalised() || !record.is_idle(now));
            self.count -= before - ways.len();
        }
        self.records.retain(|_, ways| !ways.is_empty());
        let records = &self.records;
        self.off
            .retain(|destination, _| records.contains_key(destination));
        self.raise_alarms();
        self.look_next = (!self.is_empty()).then(|| now + LOOK_INTERVAL);
    }

    /// Takes the next thing that others should know.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Paths::handle_timeout`] is due; none if nothing is watched.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.look_next
    }

    /// Returns what is thought of a way; none if it is not watched.
    pub fn standing(&self, destination: &NodeId, via: &NodeId) -> Option<Standing> {
        let record = self.record(destination, via)?;
        Some(record.standing)
    }

    /// Returns how many questions in a thousand are answered, and what the way costs more.
    pub fn success(&self, destination: &NodeId, via: &NodeId) -> Option<(u32, Metric)> {
        let record = self.record(destination, via)?;
        Some((record.success * 1000 / SUCCESS_FULL, record.penalty))
    }

    /// Returns how many ways are watched.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A way is silent. If the destination is silent on another way too, it is off.
    fn suspect(&mut self, destination: NodeId, via: NodeId, now: Moment) {
        let Some(ways) = self.records.get_mut(&destination) else {
            return;
        };
        let off = self.off.get(&destination).copied();
        if off.is_some_and(|off| now < off.until) {
            ways.values_mut().for_each(Record::start_again);
            return;
        }
        let elsewhere = ways
            .iter()
            .any(|(other, record)| *other != via && record.standing == Standing::Suspected);
        if elsewhere || off.is_some() {
            self.acquit(destination, now);
            return;
        }
        if let Some(record) = ways.get_mut(&via) {
            if record.standing == Standing::Trusted {
                record.standing = Standing::Suspected;
            }
            record.hold = (record.hold * 2).clamp(HOLD_MIN, HOLD_MAX);
            record.change = now + record.hold;
            record.start_again();
            self.set_penalty(destination, via, PENALTY);
        }
    }

    /// The destination is off: takes back what it brought on others.
    fn acquit(&mut self, destination: NodeId, now: Moment) {
        let before = self.off.get(&destination);
        let wait = before.map_or(OFF_MIN, |off| (off.wait * 2).min(HOLD_MAX));
        let until = now + wait;
        self.off.insert(destination, Off { until, wait });
        let mut acquitted = Vec::new();
        for (via, record) in self.records.entry(destination).or_default() {
            record.start_again();
            if record.standing == Standing::Suspected {
                record.hold = Duration::ZERO;
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
        let half = Metric(record.penalty.0 / 2);
        if half < PENALTY_MIN {
            record.start_again();
            self.trust(destination, via);
            return;
        }
        self.set_penalty(destination, via, half);
    }

    fn trust(&mut self, destination: NodeId, via: NodeId) {
        if let Some(record) = self.record_mut(&destination, &via) {
            record.standing = Standing::Trusted;
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

    /// Tells of neighbours that are proven at fault for several destinations, each once.
    fn raise_alarms(&mut self) {
        let mut guilty: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for (destination, via) in self.keys(|record| record.standing == Standing::Proven) {
            guilty.entry(via).or_default().insert(destination);
        }
        self.alarmed.retain(|via| guilty.contains_key(via));
        for (via, destinations) in guilty {
            if ALARM_COUNT <= destinations.len() && self.alarmed.insert(via) {
                self.events.push_back(Event::Alarm { via, destinations });
            }
        }
    }

    /// Returns the (destination, next hop) of records that are `wanted`.
    fn keys(&self, wanted: impl Fn(&Record) -> bool) -> Vec<(NodeId, NodeId)> {
        let mut keys = Vec::new();
        for (destination, ways) in &self.records {
            let found = ways.iter().filter(|(_, record)| wanted(record));
            keys.extend(found.map(|(via, _)| (*destination, *via)));
        }
        keys
    }

    fn record(&self, destination: &NodeId, via: &NodeId) -> Option<&Record> {
        self.records.get(destination)?.get(via)
    }

    fn record_mut(&mut self, destination: &NodeId, via: &NodeId) -> Option<&mut Record> {
        self.records.get_mut(destination)?.get_mut(via)
    }
}

/// A [`Record::success`] of one.
const SUCCESS_FULL: u32 = 1 << 16;

impl Record {
    fn new(now: Moment) -> Self {
        Self {
            standing: Standing::Trusted,
            success: SUCCESS_FULL,
            open_since: None,
            unanswered_count: 0,
            asked: now,
            heard: None,
            answers_count: 0,
            penalty: Metric::ZERO,
            change: now,
            hold: Duration::ZERO,
        }
    }

    fn ask(&mut self, now: Moment) {
        if self.open_since.is_some() && now < self.asked + QUESTION_STEP {
            return;
        }
        if self.open_since.is_some() {
            self.success -= self.success / 16;
        }
        self.open_since.get_or_insert(now);
        self.asked = now;
        self.unanswered_count = self.unanswered_count.saturating_add(1);
    }

    fn answer(&mut self, now: Moment) {
        if self.open_since.take().is_some() {
            self.success += (SUCCESS_FULL - self.success) / 16;
        }
        self.unanswered_count = 0;
        let apart = self.heard.is_none_or(|heard| heard + QUESTION_STEP <= now);
        if apart {
            self.heard = Some(now);
            self.answers_count = self.answers_count.saturating_add(1);
        }
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

    fn is_idle(&self, now: Moment) -> bool {
        self.heard.map_or(self.asked, |heard| heard.max(self.asked)) + IDLE_MAX <= now
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;

    use super::*;

    fn node(number: u64) -> NodeId {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        NodeId(SecretKey::from_seed(seed).public())
    }

    const LIAR: u64 = 1;
    const HONEST: u64 = 2;

    /// A node with two neighbours that sends once a second to each of its destinations.
    struct Bench {
        paths: Paths,
        now: Moment,
        destinations: Vec<NodeId>,
        penalties: BTreeMap<(NodeId, NodeId), Metric>,
        alarms: Vec<(NodeId, BTreeSet<NodeId>)>,
        changes: usize,
        chance: crate::chance::Chance,
    }

    impl Bench {
        fn new(count: u64) -> Self {
            Self {
                paths: Paths::default(),
                now: Moment(1_000_000),
                destinations: (100..100 + count).map(node).collect(),
                penalties: BTreeMap::new(),
                alarms: Vec::new(),
                changes: 0,
                chance: crate::chance::Chance::new(1),
            }
        }

        /// The liar claims a metric of 10, the honest one says 300.
        fn next_hop(&self, destination: NodeId) -> NodeId {
            let cost = |via: u64, claim: u16| {
                let penalty = self.penalties.get(&(destination, node(via)));
                Metric(claim).plus(penalty.copied().unwrap_or(Metric::ZERO))
            };
            if cost(LIAR, 10) <= cost(HONEST, 300) {
                node(LIAR)
            } else {
                node(HONEST)
            }
        }

        /// Sends for some seconds; `arrives` says whether an answer comes over a neighbour.
        fn pass(&mut self, seconds: u64, arrives: impl Fn(&mut Self, NodeId, NodeId) -> bool) {
            for _ in 0..seconds {
                self.now = self.now + Duration::from_secs(1);
                for destination in self.destinations.clone() {
                    let via = self.next_hop(destination);
                    self.paths.handle_sent(destination, via, self.now);
                    if arrives(self, destination, via) {
                        self.paths.handle_heard(destination, via, self.now);
                    }
                }
                self.paths.handle_timeout(self.now);
                while let Some(event) = self.paths.poll() {
                    match event {
                        Event::Penalty {
                            destination,
                            via,
                            metric,
                        } => {
                            self.changes += 1;
                            self.penalties.insert((destination, via), metric);
                        }
                        Event::Alarm { via, destinations } => {
                            self.alarms.push((via, destinations));
                        }
                    }
                }
            }
        }

        fn over(&self, via: u64) -> usize {
            let hops = self.destinations.iter().map(|to| self.next_hop(*to));
            hops.filter(|hop| *hop == node(via)).count()
        }
    }

    #[test]
    fn traffic_leaves_a_liar_within_the_bound_and_people_are_told() {
        let mut bench = Bench::new(20);
        bench.pass(5, |_, _, _| true);
        assert_eq!(bench.over(LIAR), 20);
        bench.pass(SILENCE_MAX.as_secs() + 1, |_, _, via| via != node(LIAR));
        assert_eq!(bench.over(LIAR), 0, "moved within {SILENCE_MAX:?}");
        bench.pass(2, |_, _, via| via != node(LIAR));
        let [(via, destinations)] = &bench.alarms[..] else {
            panic!("{} alarms", bench.alarms.len());
        };
        assert_eq!(*via, node(LIAR));
        assert!(ALARM_COUNT <= destinations.len());
        let guilty = bench.paths.standing(&node(100), &node(LIAR));
        assert_eq!(guilty, Some(Standing::Proven));
        let honest = bench.paths.standing(&node(100), &node(HONEST));
        assert_eq!(honest, Some(Standing::Trusted));
    }

    #[test]
    fn liar_gets_traffic_back_ever_more_seldom() {
        let mut bench = Bench::new(3);
        let mut lost = Vec::new();
        for _ in 0..4 {
            let mut seconds = 0;
            for _ in 0..3600 {
                seconds += u64::from(0 < bench.over(LIAR));
                bench.pass(1, |_, _, via| via != node(LIAR));
            }
            lost.push(seconds);
        }
        assert!(lost.windows(2).all(|pair| pair[1] <= pair[0]), "{lost:?}");
        assert!(lost[0] <= 150 && lost[3] <= 60, "{lost:?}");
    }

    #[test]
    fn lossy_and_honest_way_is_not_condemned() {
        let mut bench = Bench::new(5);
        bench.pass(3600, |bench, _, _| 30 <= bench.chance.index(100));
        assert_eq!((bench.changes, bench.alarms.len()), (0, 0));
        let (success, _) = bench.paths.success(&node(100), &node(LIAR)).unwrap();
        assert!((600..1000).contains(&success), "{success}");
    }

    #[test]
    fn destination_that_is_off_condemns_nobody() {
        let mut bench = Bench::new(4);
        bench.pass(10, |_, _, _| true);
        bench.pass(1800, |_, to, _| to != node(100));
        assert_eq!(bench.alarms, []);
        let held = |bench: &Bench| {
            let held = bench.penalties.values();
            held.filter(|metric| **metric != Metric::ZERO).count()
        };
        assert_eq!(held(&bench), 0);
        assert!(bench.changes <= 4, "one try of each way: {}", bench.changes);
        bench.pass(10, |_, _, _| true);
        assert_eq!(held(&bench), 0);
        let standing = bench.paths.standing(&node(100), &node(LIAR));
        assert_eq!(standing, Some(Standing::Trusted));
    }

    #[test]
    fn way_that_answers_again_is_trusted_again() {
        let mut paths = Paths::default();
        let mut now = Moment(0);
        for _ in 0..30 {
            now = now + Duration::from_secs(1);
            paths.handle_sent(node(5), node(LIAR), now);
            paths.handle_timeout(now);
        }
        let suspected = paths.standing(&node(5), &node(LIAR));
        assert_eq!(suspected, Some(Standing::Suspected));
        for _ in 0..ANSWERS_COUNT {
            now = now + Duration::from_secs(1);
            paths.handle_sent(node(5), node(LIAR), now);
            paths.handle_heard(node(5), node(LIAR), now);
        }
        assert_eq!(
            paths.success(&node(5), &node(LIAR)).unwrap().1,
            Metric::ZERO
        );
        let events: Vec<Event> = std::iter::from_fn(|| paths.poll()).collect();
        assert_eq!(events.len(), 2, "a penalty and its end: {events:?}");
    }

    #[test]
    fn silence_without_questions_is_no_evidence() {
        let mut paths = Paths::default();
        paths.handle_sent(node(5), node(LIAR), Moment(0));
        for second in 1..3600 {
            paths.handle_timeout(Moment(second * 1_000_000));
        }
        assert_eq!(paths.poll(), None);
        paths.handle_timeout(Moment(0) + IDLE_MAX);
        assert!(paths.is_empty());
        assert_eq!(paths.poll_timeout(), None);
    }

    #[test]
    fn neighbour_is_no_judge_of_the_way_to_itself() {
        let mut paths = Paths::default();
        paths.handle_sent(node(LIAR), node(LIAR), Moment(0));
        assert!(paths.is_empty());
    }

    #[test]
    fn full_table_watches_no_new_way_and_keeps_the_old_ones() {
        let mut paths = Paths::default();
        for number in 0..RECORDS_MAX as u64 + 10 {
            paths.handle_sent(node(100 + number), node(LIAR), Moment(number));
        }
        assert_eq!(paths.len(), RECORDS_MAX);
        assert!(paths.standing(&node(100), &node(LIAR)).is_some());
        paths.handle_unlinked(&node(LIAR));
        assert!(paths.is_empty());
    }
}
