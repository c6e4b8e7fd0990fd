//! One rule of the choice at a time, with a clock that the test moves.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use mesh_base::identity::SecretKey;
use proptest::prelude::*;

use super::limits::{DOWN_ALONE_MAX, DRAIN_MAX, DRAIN_MIN, TRIAL_MAX, TURN, TURN_FIRST};
use super::*;

pub fn node(number: u64) -> NodeId {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    NodeId(SecretKey::from_seed(seed).public())
}

pub fn nodes(numbers: Range<u64>) -> BTreeSet<NodeId> {
    numbers.map(node).collect()
}

/// A machine whose links all work unless a test says otherwise, and what it did.
struct Bench {
    machine: Neighbours,
    now: Moment,
    done: Vec<Action>,
    /// Links to these never come up.
    dead: BTreeSet<NodeId>,
    /// What is told to be routed over every link.
    routed: Option<u32>,
}

impl Bench {
    fn new(known: u64) -> Self {
        Self::of(Station::Core, known)
    }

    fn of(station: Station, known: u64) -> Self {
        let mut bench = Self {
            machine: Neighbours::new(node(0), 1),
            now: Moment(1_000_000),
            done: Vec::new(),
            dead: BTreeSet::new(),
            routed: None,
        };
        bench.machine.handle_station(station, bench.now);
        bench.know(known);
        bench
    }

    fn know(&mut self, count: u64) {
        self.machine
            .handle_known(&nodes(0..count + 1), &BTreeSet::new(), self.now);
        self.drain();
    }

    /// Takes what is to be done; living links come up at once.
    fn drain(&mut self) {
        while let Some(action) = self.machine.poll() {
            self.done.push(action);
            if let Action::Link(peer) = action
                && !self.dead.contains(&peer)
            {
                self.machine.handle_up(&peer, self.now);
                if let Some(count) = self.routed {
                    self.machine.handle_routed(&peer, count, self.now);
                }
            }
        }
    }

    /// Lets time pass from deadline to deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            assert!(self.now < due, "a deadline lies ahead");
            self.now = due;
            self.machine.handle_timeout(due);
            self.drain();
        }
        self.now = end;
    }

    fn kill(&mut self, peer: NodeId) {
        self.dead.insert(peer);
        self.machine.handle_down(&peer, self.now);
        self.drain();
    }

    fn with(&self, place: Place) -> Vec<NodeId> {
        let links = self.machine.links.iter();
        links
            .filter(|(_, link)| link.place() == place)
            .map(|(node, _)| *node)
            .collect()
    }

    fn counts(&self) -> (usize, usize) {
        (self.with(Place::Near).len(), self.with(Place::Random).len())
    }

    /// Measures everybody: a higher number is farther away.
    fn measure(&mut self, count: u64) {
        for number in 1..=count {
            let rtt = 1000 * number;
            self.machine.handle_rtt(node(number), rtt, self.now);
        }
    }
}

#[test]
fn small_mesh_links_everybody_and_has_nothing_to_wait_for() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.with(Place::Everybody).len(), 10);
    assert!(bench.done.iter().all(|a| matches!(a, Action::Link(_))));
    assert_eq!(bench.machine.poll_timeout(), None);
    bench.kill(node(3));
    bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.with(Place::Everybody).len(), 10, "for ever");
}

#[test]
fn mesh_that_grows_past_eleven_keeps_the_links_it_has() {
    let mut bench = Bench::new(10);
    bench.measure(10);
    bench.done.clear();
    bench.know(11);
    assert_eq!(bench.done, []);
    assert_eq!(bench.with(Place::Near), {
        let mut near: Vec<_> = (1..=4).map(node).collect();
        near.sort();
        near
    });
    assert_eq!(bench.with(Place::Random).len(), 6);
}

#[test]
fn mesh_that_shrinks_links_everybody_again() {
    let mut bench = Bench::new(30);
    bench.know(8);
    assert_eq!(bench.with(Place::Everybody).len(), 8);
    assert_eq!(bench.machine.wanted().count(), 8);
}

#[test]
fn large_mesh_has_four_near_and_six_random() {
    assert_eq!(Bench::new(11).counts(), (4, 6));
    assert_eq!(Bench::new(1000).counts(), (4, 6));
}

#[test]
fn leaf_has_three_uplinks_and_takes_nobody_in() {
    let mut bench = Bench::of(Station::Leaf, 100);
    assert_eq!(bench.counts(), (1, 2));
    let stranger = bench.machine.candidate(Aim::Random, bench.now).unwrap();
    let verdict = bench.machine.handle_inbound(stranger, bench.now);
    assert!(matches!(verdict, Verdict::Redirected(others) if others.len() == REDIRECT_COUNT));
}

#[test]
fn machine_that_becomes_a_leaf_drains_down_to_three() {
    let mut bench = Bench::new(100);
    bench.machine.handle_station(Station::Leaf, bench.now);
    bench.drain();
    bench.pass(DRAIN_MAX * 9);
    let places = [Place::Trial, Place::Draining].map(|place| bench.with(place).len());
    assert_eq!((bench.counts(), places), ((1, 2), [0, 0]));
}

#[test]
fn near_ones_become_the_nearest_of_the_sample() {
    let mut bench = Bench::new(60);
    for _ in 0..60 {
        bench.measure(60);
        bench.pass(TURN);
    }
    bench.pass(TRIAL_MAX);
    let random: BTreeSet<NodeId> = bench.with(Place::Random).into_iter().collect();
    let expect = (1..=60).map(node).filter(|node| !random.contains(node));
    let best: BTreeSet<NodeId> = expect.take(8).collect();
    // A tenth nearer is not worth a change, so the fourth may be beaten by a few.
    let near = bench.with(Place::Near);
    assert!(near.iter().all(|node| best.contains(node)), "{near:?}");
}

#[test]
fn old_link_drains_only_after_the_new_one_is_up_and_settled() {
    let mut bench = Bench::new(200);
    bench.measure(200);
    bench.done.clear();
    let mut linked = None;
    while bench.done.len() < 3 {
        let due = bench.machine.poll_timeout().unwrap();
        let before = bench.done.len();
        bench.now = due;
        bench.machine.handle_timeout(due);
        bench.drain();
        match bench.done[before..] {
            [Action::Link(_), ..] => linked = Some(due),
            [Action::Drain(_), ..] => assert_eq!(due.since(linked.unwrap()), SETTLED),
            [Action::Unlink(_), ..] => {
                assert_eq!(due.since(linked.unwrap()), SETTLED + DRAIN_MAX);
            }
            [] => {}
        }
    }
    let [Action::Link(new), Action::Drain(old), Action::Unlink(gone)] = bench.done[..] else {
        panic!("{:?}", bench.done);
    };
    assert_eq!(old, gone);
    assert_ne!(new, old);
    assert_eq!(bench.counts(), (4, 6));
}

#[test]
fn candidate_that_does_not_come_up_costs_no_link() {
    let mut bench = Bench::new(200);
    let old: Vec<NodeId> = bench.machine.wanted().copied().collect();
    bench.dead = nodes(1..201)
        .into_iter()
        .filter(|node| !old.contains(node))
        .collect();
    bench.pass(TURN * 20);
    assert!(bench.done.len() > 15, "some were tried");
    assert!(old.iter().all(|node| bench.machine.role(node).is_some()));
    assert!(bench.machine.wanted().count() <= old.len() + 1);
}

#[test]
fn link_that_nobody_routes_over_is_given_up_early() {
    let mut bench = Bench::new(200);
    while bench.with(Place::Draining).is_empty() {
        bench.pass(Duration::from_secs(1));
    }
    let leaver = bench.with(Place::Draining)[0];
    bench.machine.handle_routed(&leaver, 3, bench.now);
    assert_eq!(bench.machine.role(&leaver), Some(Place::Draining));
    bench.machine.handle_routed(&leaver, 0, bench.now);
    bench.pass(DRAIN_MIN);
    assert_eq!(bench.machine.role(&leaver), None);
    let last: Vec<Action> = bench.done.iter().rev().take(2).copied().collect();
    assert_eq!(last, [Action::Unlink(leaver), Action::Drain(leaver)]);
}

#[test]
fn link_drains_long_enough_for_the_other_end() {
    let mut bench = Bench::new(200);
    while bench.with(Place::Draining).is_empty() {
        bench.pass(Duration::from_millis(100));
    }
    let leaver = bench.with(Place::Draining)[0];
    bench.machine.handle_routed(&leaver, 0, bench.now);
    bench.pass(DRAIN_MIN - Duration::from_millis(200));
    assert_eq!(bench.machine.role(&leaver), Some(Place::Draining));
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.machine.role(&leaver), None);
}

#[test]
fn leaf_has_three_uplinks_in_a_small_mesh_too() {
    let mut bench = Bench::of(Station::Leaf, 8);
    assert_eq!(bench.counts(), (1, 2));
    let verdict = bench.machine.handle_inbound(node(9), bench.now);
    assert_eq!(verdict, Verdict::Stranger);
    bench.routed = Some(0);
    bench.measure(8);
    let before: BTreeSet<NodeId> = bench.machine.wanted().copied().collect();
    bench.pass(TURN_FIRST * 8);
    let after: BTreeSet<NodeId> = bench.machine.wanted().copied().collect();
    assert_ne!(before, after, "spare uplinks change places too");
    assert!(after.len() <= 5, "{}", after.len());
}

#[test]
fn leaves_are_chosen_by_nobody_and_taken_in_within_the_limit() {
    for known in [6, 60] {
        let mut bench = Bench::new(known);
        bench.machine.handle_inbound_max(2);
        let leaves = nodes(100..104);
        bench
            .machine
            .handle_known(&nodes(0..known + 1), &leaves, bench.now);
        bench.drain();
        bench.pass(TURN * 20);
        assert!(bench.machine.wanted().all(|node| !leaves.contains(node)));
        let mut verdicts = Vec::new();
        for leaf in 100..104 {
            let verdict = bench.machine.handle_inbound(node(leaf), bench.now);
            bench.drain();
            if let Verdict::Redirected(others) = &verdict {
                assert_eq!(others.len(), REDIRECT_COUNT);
                assert!(others.iter().all(|other| !leaves.contains(other)));
            }
            verdicts.push(verdict == Verdict::Accepted);
        }
        assert_eq!(verdicts, [true, true, false, false], "{known}");
        assert_eq!(bench.with(Place::Inbound).len(), 2);
        // Who does not repeat its wish has gone.
        bench.pass(WISH_MAX + DOWN_MAX);
        assert_eq!(bench.with(Place::Inbound).len(), 0, "{known}");
        assert!(matches!(
            bench.machine.handle_inbound(node(103), bench.now),
            Verdict::Accepted
        ));
    }
}

#[test]
fn neighbour_that_becomes_a_leaf_stays_if_it_wants_us() {
    let mut bench = Bench::new(8);
    bench.machine.handle_inbound(node(3), bench.now);
    let rest: BTreeSet<NodeId> = nodes(0..9).difference(&nodes(2..4)).copied().collect();
    bench.machine.handle_known(&rest, &nodes(2..4), bench.now);
    bench.drain();
    assert_eq!(bench.machine.role(&node(2)), None);
    assert_eq!(bench.machine.role(&node(3)), Some(Place::Inbound));
    assert!(!bench.done.contains(&Action::Unlink(node(3))));
}

#[test]
fn only_way_to_something_is_kept() {
    let mut bench = Bench::new(200);
    while bench.with(Place::Draining).is_empty() {
        bench.pass(Duration::from_secs(1));
    }
    let leaver = bench.with(Place::Draining)[0];
    bench.machine.handle_routed(&leaver, 1, bench.now);
    bench.done.clear();
    bench.pass(DRAIN_MAX);
    assert!(bench.done.contains(&Action::Link(leaver)), "cost is normal");
    bench.pass(TURN);
    assert!(bench.machine.role(&leaver).is_some());
    assert!(bench.machine.explain(&leaver, bench.now).kept);
}

#[test]
fn kept_links_do_not_pile_up() {
    let mut bench = Bench::new(200);
    bench.routed = Some(2);
    bench.pass(TURN * 100);
    assert!(bench.machine.ours_count() <= limits::OURS_MAX);
}

#[test]
fn silent_neighbour_is_replaced_after_the_bound_and_avoided() {
    let mut bench = Bench::new(100);
    let victim = bench.with(Place::Random)[0];
    bench.done.clear();
    bench.kill(victim);
    bench.pass(DOWN_MAX - Duration::from_secs(1));
    assert!(bench.machine.role(&victim).is_some());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.machine.role(&victim), None);
    assert_eq!(bench.counts(), (4, 6));
    let why = bench.machine.explain(&victim, bench.now);
    assert!(why.avoided_until.is_some());
    assert!(why.to_string().starts_with("left alone for a while"));
}

#[test]
fn neighbour_that_returns_in_time_keeps_its_place() {
    let mut bench = Bench::new(100);
    let victim = bench.with(Place::Random)[0];
    bench.machine.handle_down(&victim, bench.now);
    bench.pass(DOWN_MAX / 2);
    bench.machine.handle_up(&victim, bench.now);
    bench.pass(DOWN_MAX);
    assert!(bench.machine.role(&victim).is_some());
}

#[test]
fn nobody_is_let_go_when_there_is_nobody_else() {
    let mut bench = Bench::new(11);
    let all: Vec<NodeId> = (1..12).map(node).collect();
    for peer in &all {
        bench.kill(*peer);
    }
    bench.pass(Duration::from_secs(24 * 3600));
    assert!(9 < bench.machine.wanted().count());
}

#[test]
fn own_line_that_was_down_leaves_near_ones_and_blames_nobody() {
    let mut bench = Bench::new(500);
    let near = bench.with(Place::Near);
    bench.dead = nodes(1..501);
    for peer in bench.machine.wanted().copied().collect::<Vec<_>>() {
        bench.machine.handle_down(&peer, bench.now);
    }
    bench.pass(DOWN_ALONE_MAX - Duration::from_secs(1));
    assert_eq!(bench.with(Place::Near), near);
    assert!(bench.machine.turn_count > 0);
    bench.dead.clear();
    for peer in &near {
        bench.machine.handle_up(peer, bench.now);
    }
    assert!((1..501).all(|number| {
        let why = bench.machine.explain(&node(number), bench.now);
        why.avoided_until.is_none()
    }));
}

#[test]
fn nodes_gone_for_good_are_replaced_even_when_nobody_answers() {
    let mut bench = Bench::new(500);
    let old: Vec<NodeId> = bench.machine.wanted().copied().collect();
    for peer in &old {
        bench.kill(*peer);
    }
    bench.pass(DOWN_ALONE_MAX * 2);
    let held = [Place::Near, Place::Random].map(|place| bench.with(place));
    assert!(held.iter().flatten().all(|node| !old.contains(node)));
    assert_eq!(bench.counts(), (4, 6));
}

#[test]
fn last_two_random_links_are_never_drained() {
    let mut bench = Bench::new(200);
    let random = bench.with(Place::Random);
    for peer in &random[2..] {
        bench.kill(*peer);
    }
    // Nobody else ever comes up, so nothing that is up may be given away.
    bench.dead = nodes(1..201)
        .into_iter()
        .filter(|node| !random[..2].contains(node))
        .collect();
    bench.pass(TURN * 50);
    for peer in &random[..2] {
        assert_eq!(bench.machine.role(peer), Some(Place::Random));
    }
}

#[test]
fn inbound_is_taken_up_to_its_limit_and_then_redirected() {
    let mut bench = Bench::new(500);
    let mut accepted = 0;
    let mut others = Vec::new();
    for number in 1..=500 {
        let peer = node(number);
        if bench.machine.role(&peer).is_some() {
            continue;
        }
        match bench.machine.handle_inbound(peer, bench.now) {
            Verdict::Accepted => accepted += 1,
            Verdict::Redirected(named) => {
                assert!(!named.contains(&peer) && !named.contains(&node(0)));
                others = named;
            }
            Verdict::Stranger => panic!("everybody is known"),
        }
    }
    assert_eq!((accepted, others.len()), (INBOUND_MAX, REDIRECT_COUNT));
    assert_eq!(
        bench.machine.handle_inbound(node(9999), bench.now),
        Verdict::Stranger
    );
    let friend = bench.with(Place::Inbound)[0];
    let again = bench.machine.handle_inbound(friend, bench.now);
    assert_eq!(again, Verdict::Accepted, "who is in may stay");
}

#[test]
fn inbound_ends_when_it_is_no_longer_wanted_or_no_longer_said() {
    let mut bench = Bench::new(500);
    let [one, two] = [(); 2].map(|()| {
        let peer = bench.machine.candidate(Aim::Random, bench.now).unwrap();
        bench.machine.handle_inbound(peer, bench.now);
        peer
    });
    bench.drain();
    bench.machine.handle_inbound_end(&one, bench.now);
    assert_eq!(bench.machine.role(&one), None);
    assert_eq!(bench.machine.role(&two), Some(Place::Inbound));
    bench.pass(WISH_MAX);
    assert_eq!(bench.machine.role(&two), None);
}

#[test]
fn link_that_both_chose_stays_while_one_wants_it() {
    let mut bench = Bench::new(200);
    let all: Vec<NodeId> = bench.machine.wanted().copied().collect();
    for _ in 0..60 {
        for peer in &all {
            let verdict = bench.machine.handle_inbound(*peer, bench.now);
            assert_eq!(verdict, Verdict::Accepted);
        }
        bench.drain();
        bench.pass(WISH_MAX / 2);
    }
    assert!(!bench.with(Place::Inbound).is_empty());
    assert!(all.iter().all(|node| bench.machine.role(node).is_some()));
    assert!(!bench.done.iter().any(|action| match action {
        Action::Unlink(node) => all.contains(node),
        _ => false,
    }));
}

#[test]
fn redirect_is_followed_only_after_chance_has_failed_twice() {
    let mut bench = Bench::new(500);
    bench.dead = nodes(1..501);
    for round in 1..=3u32 {
        let full = bench.with(Place::Random)[0];
        let named = bench.machine.candidate(Aim::Random, bench.now).unwrap();
        bench
            .machine
            .handle_redirect(full, &[node(7777), named], bench.now);
        bench.drain();
        assert_eq!(bench.machine.role(&full), None);
        assert!(
            bench
                .machine
                .explain(&full, bench.now)
                .avoided_until
                .is_some()
        );
        let followed = bench.machine.role(&named).is_some();
        assert_eq!(followed, REFUSED_BEFORE_NAMES <= round, "{round}");
        assert_eq!(bench.machine.role(&node(7777)), None, "a stranger");
    }
}

const REFUSED_BEFORE_NAMES: u32 = limits::REFUSED_COUNT;

#[test]
fn redirect_of_somebody_we_did_not_choose_changes_nothing() {
    let mut bench = Bench::new(500);
    bench.done.clear();
    let other = bench.machine.candidate(Aim::Random, bench.now).unwrap();
    bench.machine.handle_redirect(other, &[node(5)], bench.now);
    bench.machine.handle_inbound(other, bench.now);
    bench.machine.handle_redirect(other, &[node(5)], bench.now);
    bench.drain();
    assert_eq!(bench.done, [Action::Link(other)]);
}

#[test]
fn who_is_no_longer_known_loses_its_link_at_once() {
    let mut bench = Bench::new(100);
    let gone = bench.with(Place::Near)[0];
    let mut known = nodes(1..101);
    known.remove(&gone);
    bench.done.clear();
    bench
        .machine
        .handle_known(&known, &BTreeSet::new(), bench.now);
    bench.drain();
    assert_eq!(bench.done[0], Action::Unlink(gone));
    assert_eq!(bench.counts(), (4, 6));
}

#[test]
fn fresh_node_changes_sooner_than_an_old_one() {
    let mut bench = Bench::new(200);
    bench.pass(TURN_FIRST * 20);
    let early = bench.machine.turn_count;
    bench.pass(TURN * 20);
    let late = bench.machine.turn_count - early;
    assert!((16..=19).contains(&early), "{early}");
    assert!((18..=22).contains(&late), "{late}");
}

#[test]
fn one_seed_is_one_choice() {
    let wanted = |seed: u64| {
        let mut machine = Neighbours::new(node(0), seed);
        machine.handle_known(&nodes(1..300), &BTreeSet::new(), Moment(0));
        machine.wanted().copied().collect::<Vec<_>>()
    };
    assert_eq!(wanted(5), wanted(5));
    assert_ne!(wanted(5), wanted(6));
}

#[test]
fn explanations_are_sentences() {
    let mut bench = Bench::new(40);
    let near = bench.with(Place::Near)[0];
    bench.machine.handle_rtt(near, 12_340, bench.now);
    bench.machine.handle_routed(&near, 9, bench.now);
    assert_eq!(
        bench.machine.explain(&near, bench.now).to_string(),
        "a neighbour for being near, 12.3 ms away, the way to 9"
    );
    let stranger = bench.machine.explain(&node(999), bench.now);
    assert_eq!(stranger.to_string(), "unknown");
}

#[derive(Debug, Clone)]
enum Event {
    Known(u64, u64),
    Leaves(u64, u64),
    InboundMax(usize),
    Up(u64),
    Down(u64),
    Rtt(u64, u64),
    Routed(u64, u32),
    Inbound(u64),
    InboundEnd(u64),
    Redirect(u64, u64),
    Station(bool),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let peer = 0..40u64;
    prop_oneof![
        (0..30u64, 0..40u64).prop_map(|(from, to)| Event::Known(from, to)),
        (0..40u64, 0..40u64).prop_map(|(from, to)| Event::Leaves(from, to)),
        (0..30usize).prop_map(Event::InboundMax),
        peer.clone().prop_map(Event::Up),
        peer.clone().prop_map(Event::Down),
        (peer.clone(), any::<u64>()).prop_map(|(peer, rtt)| Event::Rtt(peer, rtt)),
        (peer.clone(), 0..3u32).prop_map(|(peer, count)| Event::Routed(peer, count)),
        peer.clone().prop_map(Event::Inbound),
        peer.clone().prop_map(Event::InboundEnd),
        (peer.clone(), peer).prop_map(|(peer, other)| Event::Redirect(peer, other)),
        any::<bool>().prop_map(Event::Station),
        (1..400u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_the_limits_hold_and_actions_tell_the_links(
        seed in any::<u64>(),
        events in proptest::collection::vec(event(), 1..200),
    ) {
        let mut machine = Neighbours::new(node(0), seed);
        let mut now = Moment(0);
        let mut linked = BTreeSet::new();
        for event in events {
            match event {
                Event::Known(from, to) => {
                    machine.handle_known(&nodes(from..to.max(from)), &BTreeSet::new(), now);
                }
                Event::Leaves(from, to) => {
                    let leaves = nodes(from.max(1)..to.max(1));
                    let cores = nodes(0..40).difference(&leaves).copied().collect();
                    machine.handle_known(&cores, &leaves, now);
                    for leaf in &leaves {
                        let place = machine.role(leaf);
                        prop_assert!(matches!(place, None | Some(Place::Inbound)));
                    }
                }
                Event::InboundMax(count) => machine.handle_inbound_max(count),
                Event::Up(peer) => machine.handle_up(&node(peer), now),
                Event::Down(peer) => machine.handle_down(&node(peer), now),
                Event::Rtt(peer, rtt) => machine.handle_rtt(node(peer), rtt, now),
                Event::Routed(peer, count) => machine.handle_routed(&node(peer), count, now),
                Event::Inbound(peer) => { machine.handle_inbound(node(peer), now); }
                Event::InboundEnd(peer) => machine.handle_inbound_end(&node(peer), now),
                Event::Redirect(peer, other) => {
                    machine.handle_redirect(node(peer), &[node(other)], now);
                }
                Event::Station(leaf) => {
                    let station = if leaf { Station::Leaf } else { Station::Core };
                    machine.handle_station(station, now);
                }
                Event::Pass(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    machine.handle_timeout(now);
                }
            }
            while let Some(action) = machine.poll() {
                match action {
                    Action::Link(peer) => { linked.insert(peer); }
                    Action::Drain(peer) => prop_assert!(linked.contains(&peer)),
                    Action::Unlink(peer) => prop_assert!(linked.remove(&peer)),
                }
            }
            let wanted: BTreeSet<NodeId> = machine.wanted().copied().collect();
            prop_assert_eq!(&linked, &wanted);
            prop_assert!(!wanted.contains(&node(0)));
            prop_assert!(machine.ours_count() <= limits::OURS_MAX);
            prop_assert!(wanted.len() <= limits::OURS_MAX + INBOUND_MAX);
            prop_assert!(machine.poll_timeout().is_none_or(|due| now < due));
        }
    }
}
