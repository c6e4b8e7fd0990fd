//! A node with two neighbours, one of which may lie, and time that passes in halves of seconds.

use mesh_base::identity::SecretKey;

use super::*;
use mesh_base::chance::Chance;

fn node(number: u64) -> NodeId {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    NodeId(SecretKey::from_seed(seed).public())
}

const LIAR: u64 = 1;
const HONEST: u64 = 2;
const LEN: u16 = 1280;

/// Something asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    to: NodeId,
    via: NodeId,
    len: u16,
}

/// A node with two neighbours that sends all the time to each of its destinations.
struct Bench {
    paths: Paths,
    now: Moment,
    destinations: Vec<NodeId>,
    penalties: BTreeMap<(NodeId, NodeId), Metric>,
    alarms: Vec<(NodeId, NodeId)>,
    asked: usize,
    changes: usize,
    chance: Chance,
}

impl Bench {
    fn new(count: u64) -> Self {
        Self {
            paths: Paths::default(),
            now: Moment(1_000_000),
            destinations: (100..100 + count).map(node).collect(),
            penalties: BTreeMap::new(),
            alarms: Vec::new(),
            asked: 0,
            changes: 0,
            chance: Chance::new(1),
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

    /// Sends for some seconds; `arrives` says whether a question is answered.
    fn pass(&mut self, seconds: u64, arrives: impl Fn(&mut Self, Asked) -> bool) {
        for half in 0..seconds * 2 {
            self.now = self.now + Duration::from_millis(500);
            if half % 2 == 0 {
                for destination in self.destinations.clone() {
                    let via = self.next_hop(destination);
                    self.paths.handle_used(destination, via, LEN, self.now);
                }
            }
            if self.paths.poll_timeout().is_some_and(|due| due <= self.now) {
                self.paths.handle_timeout(self.now);
            }
            while let Some(event) = self.paths.poll() {
                self.note(event, &arrives);
            }
        }
    }

    fn note(&mut self, event: Event, arrives: &impl Fn(&mut Self, Asked) -> bool) {
        match event {
            Event::Ask {
                number,
                destination: to,
                via,
                len,
            } => {
                self.asked += 1;
                if arrives(self, Asked { to, via, len }) {
                    assert!(self.paths.handle_heard(to, number, self.now));
                }
            }
            Event::Penalty {
                destination,
                via,
                metric,
            } => {
                self.changes += 1;
                self.penalties.insert((destination, via), metric);
            }
            Event::Alarm { destination, via } => self.alarms.push((destination, via)),
        }
    }

    fn over(&self, via: u64) -> usize {
        let hops = self.destinations.iter().map(|to| self.next_hop(*to));
        hops.filter(|hop| *hop == node(via)).count()
    }
}

fn all(_: &mut Bench, _: Asked) -> bool {
    true
}

fn only_over_the_honest_one(_: &mut Bench, asked: Asked) -> bool {
    asked.via != node(LIAR)
}

#[test]
fn traffic_leaves_a_liar_within_the_bound_and_people_are_told() {
    let mut bench = Bench::new(20);
    bench.pass(5, all);
    assert_eq!(bench.over(LIAR), 20);
    bench.pass(NOTICE_MAX.as_secs(), only_over_the_honest_one);
    assert_eq!(bench.over(LIAR), 0, "moved within {NOTICE_MAX:?}");
    bench.pass(5, only_over_the_honest_one);
    assert_eq!(bench.alarms.len(), 20, "each destination once");
    let lost = bench.paths.lost();
    assert_eq!(lost.len(), 20);
    assert!(lost.iter().all(|it| it.via == node(LIAR)));
    let silence = bench.now.since(lost[0].since);
    assert!(Duration::from_secs(10) < silence, "{silence:?}");
    let guilty = bench.paths.standing(&node(100), &node(LIAR));
    assert_eq!(guilty, Some(Standing::Proven));
    let honest = bench.paths.standing(&node(100), &node(HONEST));
    assert_eq!(honest, Some(Standing::Trusted));
    assert_eq!(bench.paths.penalties_over(&node(LIAR)).len(), 20);
    let tally = bench.paths.tally();
    assert_eq!((tally.watched, tally.suspected, tally.proven), (40, 0, 20));
}

#[test]
fn liar_gets_nothing_back_while_it_is_asked_and_does_not_answer() {
    let mut bench = Bench::new(3);
    bench.pass(20, only_over_the_honest_one);
    for _ in 0..3600 {
        bench.pass(1, only_over_the_honest_one);
        assert_eq!(bench.over(LIAR), 0);
    }
    assert_eq!(bench.alarms.len(), 3, "once each");
}

#[test]
fn liar_that_behaves_while_it_is_asked_gets_traffic_back_ever_more_seldom() {
    let mut bench = Bench::new(1);
    let mut periods = Vec::new();
    for _ in 0..6 {
        // It carries until it has traffic, then drops.
        while 0 < bench.over(LIAR) {
            bench.pass(1, only_over_the_honest_one);
        }
        let mut seconds = 0;
        while bench.over(LIAR) == 0 {
            bench.pass(1, all);
            seconds += 1;
        }
        periods.push(seconds);
    }
    assert!(
        periods.windows(2).all(|pair| pair[0] < pair[1]),
        "{periods:?}"
    );
    assert!(150 <= periods[5], "{periods:?}");
}

#[test]
fn repaired_way_is_trusted_again_within_seconds() {
    let mut bench = Bench::new(4);
    bench.pass(60, only_over_the_honest_one);
    assert_eq!(bench.over(LIAR), 0);
    bench.pass(8, all);
    assert_eq!(bench.over(LIAR), 4);
    assert_eq!(bench.paths.lost(), []);
}

#[test]
fn way_that_loses_long_packets_only_is_found_out_and_stays_so() {
    let mut bench = Bench::new(2);
    let short = |_: &mut Bench, asked: Asked| asked.via != node(LIAR) || asked.len < 1000;
    bench.pass(60, short);
    assert_eq!(bench.over(LIAR), 0, "its questions are long too");
    let mut paths = Paths::default();
    paths.handle_used(node(5), node(LIAR), 100, Moment(0));
    let Some(Event::Ask { len, .. }) = paths.poll() else {
        panic!("a question");
    };
    assert_eq!(len, 100, "as long as what is sent");
}

#[test]
fn lossy_and_honest_way_is_not_condemned() {
    let mut bench = Bench::new(5);
    bench.pass(3600, |bench, _| 30 <= bench.chance.index(100));
    assert_eq!((bench.changes, bench.alarms.len()), (0, 0));
    let tally = bench.paths.tally();
    let success = tally.answered * 1000 / tally.asked;
    assert!((600..800).contains(&success), "{success}");
}

#[test]
fn cut_that_routing_mends_condemns_nobody() {
    let mut bench = Bench::new(5);
    for _ in 0..100 {
        bench.pass(7, all);
        bench.pass(3, |_, _| false);
    }
    assert_eq!((bench.changes, bench.alarms.len()), (0, 0));
}

#[test]
fn destination_that_is_off_condemns_nobody() {
    let mut bench = Bench::new(4);
    bench.pass(10, all);
    bench.pass(1800, |_, asked| asked.to != node(100));
    assert_eq!(bench.alarms, []);
    let held = |bench: &Bench| {
        let held = bench.penalties.values();
        held.filter(|metric| **metric != Metric::ZERO).count()
    };
    assert_eq!(held(&bench), 0);
    assert!(bench.changes <= 4, "one try of each way: {}", bench.changes);
    bench.pass(150, all);
    assert_eq!(held(&bench), 0);
    let standing = bench.paths.standing(&node(100), &node(LIAR));
    assert_eq!(standing, Some(Standing::Trusted));
}

#[test]
fn end_of_a_pause_behind_both_ways_condemns_nobody() {
    let mut bench = Bench::new(1);
    bench.pass(30, only_over_the_honest_one);
    assert_eq!(bench.alarms.len(), 1);
    // Now the destination is off, which nobody can tell from a second way that fails.
    bench.pass(30, |_, _| false);
    bench.pass(30, all);
    assert_eq!(bench.alarms.len(), 1, "{:?}", bench.alarms);
    assert_eq!(bench.over(LIAR), 1);
    assert_eq!(bench.paths.lost(), []);
}

#[test]
fn questions_end_with_the_use() {
    let mut bench = Bench::new(3);
    bench.pass(60, all);
    assert!(bench.asked <= 3 * 31, "one in two seconds: {}", bench.asked);
    let before = bench.asked;
    bench.destinations.clear();
    bench.pass(60, all);
    assert!(bench.asked <= before + 3, "{} more", bench.asked - before);
    assert_eq!(bench.paths.poll_timeout(), None);
}

#[test]
fn penalty_fades_without_use() {
    let mut bench = Bench::new(1);
    bench.pass(20, only_over_the_honest_one);
    assert_eq!(bench.over(LIAR), 0);
    let destination = bench.destinations.pop().unwrap();
    bench.pass(900, only_over_the_honest_one);
    assert_eq!(bench.next_hop(destination), node(LIAR));
    assert_eq!(bench.paths.lost(), []);
}

#[test]
fn answer_counts_once_it_is_the_destinations_own_and_not_late() {
    let mut paths = Paths::default();
    let mut ask = |now| {
        paths.handle_used(node(5), node(LIAR), LEN, now);
        paths.handle_timeout(now);
        std::iter::from_fn(|| paths.poll()).find_map(|event| match event {
            Event::Ask { number, .. } => Some(number),
            _ => None,
        })
    };
    let first = ask(Moment(0)).unwrap();
    let second = ask(Moment(0) + ASK_AGAIN).unwrap();
    let later = Moment(0) + ANSWER_MAX;
    ask(later).unwrap();
    assert!(!paths.handle_heard(node(5), first, later), "too late");
    assert!(!paths.handle_heard(node(6), second, later), "of another");
    assert!(!paths.handle_heard(node(5), 99, later), "never asked");
    assert!(paths.handle_heard(node(5), second, later));
}

#[test]
fn silence_without_questions_is_no_evidence() {
    let mut paths = Paths::default();
    paths.handle_used(node(5), node(LIAR), LEN, Moment(0));
    let Some(Event::Ask { number, .. }) = paths.poll() else {
        panic!("a question");
    };
    paths.handle_heard(node(5), number, Moment(0));
    for second in 1..3600 {
        paths.handle_timeout(Moment(second * 1_000_000));
    }
    assert_eq!(paths.poll(), None);
    paths.handle_timeout(Moment(0) + IDLE_MAX);
    assert!(paths.goals.is_empty());
    assert_eq!(paths.poll_timeout(), None);
}

#[test]
fn neighbour_is_no_judge_of_the_way_to_itself() {
    let mut paths = Paths::default();
    paths.handle_used(node(LIAR), node(LIAR), LEN, Moment(0));
    assert!(paths.goals.is_empty());
}

#[test]
fn full_table_watches_no_new_way_and_keeps_the_old_ones() {
    let mut paths = Paths::default();
    for number in 0..RECORDS_MAX as u64 + 10 {
        paths.handle_used(node(100 + number), node(LIAR), LEN, Moment(number));
    }
    assert_eq!(paths.tally().watched, RECORDS_MAX);
    assert!(paths.standing(&node(100), &node(LIAR)).is_some());
    for round in 1..6 {
        paths.handle_timeout(Moment(round * 1_000_000));
    }
    assert_eq!(paths.questions.len(), QUESTIONS_MAX);
    paths.handle_unlinked(&node(LIAR));
    assert!(paths.goals.is_empty());
}
