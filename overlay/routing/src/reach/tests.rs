//! Tests of a pair: with a router on each side, and of one side alone.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_base::time::Moment;
use proptest::prelude::*;

use super::candidate::{Candidate, Source};
use super::limits::{
    ASK_AGAIN, CALLS_BURST, DOUBT_MAX, IDLE_MAX, MET_MAX, PAUSE_MAX, PLACES_MAX, ROUNDS,
    SILENCE_IN_USE_MAX, SILENCE_MAX, TRIED_MAX,
};
use super::word::Call;
use super::world::{Filtering, Kind, World};
use super::{Action, Look, Pair, SENT_MAX};

const FAR: &str = "203.0.113.9:7";
const START: Moment = Moment(5_000_000);
const WANTED: Look = Look {
    wanted: true,
    used: false,
    relayed: true,
};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn kinds() -> impl Strategy<Value = Kind> {
    let filtering = vec![Filtering::None, Filtering::Address, Filtering::Port];
    (any::<bool>(), proptest::sample::select(filtering))
        .prop_map(|(wanders, filtering)| Kind { wanders, filtering })
}

/// A port that wanders is not where it was seen; that harms who minds ports.
fn may_meet([a, b]: [Kind; 2]) -> bool {
    let blind = |a: Kind, b: Kind| a.wanders && b.filtering == Filtering::Port;
    !blind(a, b) && !blind(b, a)
}

proptest! {
    #[test]
    fn two_meet_exactly_where_theory_says_and_settle(a in kinds(), b in kinds()) {
        // Of two whose ports both wander each answer comes from yet another one.
        prop_assume!(!(a.wanders && b.wanders && may_meet([a, b])));
        let mut world = World::new([a, b]);
        world.run(Duration::from_secs(3));
        prop_assert_eq!(world.is_straight(), may_meet([a, b]));
        let used = |world: &World| world.sides.each_ref().map(|side| side.used.len());
        let before = used(&world);
        world.run(Duration::from_secs(30));
        prop_assert_eq!(used(&world), before, "nobody changes places");
        prop_assert!(before.iter().all(|count| *count <= 3), "{before:?}");
    }

    #[test]
    fn pair_that_met_meets_again_after_a_router_is_renumbered(a in kinds(), b in kinds()) {
        prop_assume!(may_meet([a, b]) && !(a.wanders && b.wanders));
        let mut world = World::new([a, b]);
        world.run(Duration::from_secs(3));
        world.sides[0].renumber(3);
        world.run(Duration::from_secs(4));
        prop_assert!(world.is_straight());
    }
}

#[test]
fn pair_that_cannot_meet_costs_little_and_tries_at_once_when_places_change() {
    let apart = Kind {
        wanders: true,
        filtering: Filtering::Port,
    };
    let mut world = World::new([apart, apart]);
    world.run(Duration::from_secs(300));
    let counts = |world: &World| {
        let side = &world.sides[0];
        (side.call_count, side.knock_count)
    };
    let before = counts(&world);
    world.run(PAUSE_MAX * 10);
    let after = counts(&world);
    assert!(after.0 - before.0 <= 20, "{} calls", after.0 - before.0);
    let knocks = after.1 - before.1;
    assert!(knocks <= 20 * ROUNDS.len() * 4, "{knocks} knocks");
    let now = world.now;
    world.sides[0].pair.handle_own_places(false, now);
    world.run(Duration::from_millis(50));
    assert_eq!(counts(&world).0, after.0 + 1);
}

#[test]
fn two_whose_ports_wander_chase_each_other_at_a_bounded_rate() {
    for filtering in [Filtering::None, Filtering::Address] {
        let kind = Kind {
            wanders: true,
            filtering,
        };
        let mut world = World::new([kind, kind]);
        world.run(Duration::from_secs(60));
        let knocks = world.sides[0].knock_count;
        assert!(
            knocks < 60 * 100,
            "{knocks} knocks in a minute, {filtering:?}"
        );
    }
}

#[test]
fn without_a_relay_nobody_is_called_in_vain_for_long_and_its_coming_is_used() {
    let usual = Kind {
        wanders: false,
        filtering: Filtering::Port,
    };
    let mut world = World::new([usual, usual]);
    world.relayed = false;
    world.look.relayed = false;
    world.run(Duration::from_secs(60));
    assert!(!world.is_straight());
    world.relayed = true;
    world.look.relayed = true;
    world.run(Duration::from_secs(2));
    assert!(world.is_straight());
}

fn actions(pair: &mut Pair) -> Vec<Action> {
    std::iter::from_fn(|| pair.poll()).collect()
}

/// Returns the knocks among what is wanted.
fn knocks(pair: &mut Pair) -> Vec<(SocketAddr, u64)> {
    let all = actions(pair).into_iter();
    let knocks = all.filter_map(|action| match action {
        Action::Knock { to, nonce } => Some((to, nonce)),
        _ => None,
    });
    knocks.collect()
}

/// Makes a pair whose way leads to a place, by a knock that was heard.
fn settled(leads: bool, to: SocketAddr) -> Pair {
    let mut pair = Pair::new(leads, 1);
    pair.handle_guesses(&[to], START);
    pair.handle_time(WANTED, START);
    let (_, nonce) = knocks(&mut pair)[0];
    pair.handle_answer(to, nonce, START);
    assert_eq!((pair.straight(), pair.is_proven()), (Some(to), true));
    actions(&mut pair);
    pair
}

fn call(number: u32, places: &[SocketAddr]) -> Call {
    let of = |at: &SocketAddr| Candidate {
        at: *at,
        source: Source::Seen,
    };
    Call {
        number,
        is_answer: false,
        places: places.iter().map(of).collect(),
    }
}

#[test]
fn who_leads_changes_to_a_better_place_and_nobody_to_a_worse() {
    let (seen, home, other) = (at(FAR), at("192.168.1.7:7"), at("203.0.113.9:8"));
    for (leads, better, expect) in [(true, home, home), (true, other, seen), (false, home, seen)] {
        let mut pair = settled(leads, seen);
        pair.handle_call(&call(1, &[seen, better]), START);
        let sent = knocks(&mut pair);
        let (_, nonce) = *sent.iter().find(|(to, _)| *to == better).unwrap();
        pair.handle_answer(better, nonce, START);
        assert_eq!(pair.straight(), Some(expect), "{leads} {better}");
    }
}

#[test]
fn silent_way_is_asked_and_then_left_and_sooner_while_it_is_used() {
    for (used, silence) in [(false, SILENCE_MAX), (true, SILENCE_IN_USE_MAX)] {
        let mut pair = settled(true, at(FAR));
        let look = Look { used, ..WANTED };
        let step = Duration::from_millis(50);
        let mut now = START;
        while now.since(START) < silence {
            pair.handle_time(look, now);
            now = now + step;
        }
        actions(&mut pair);
        pair.handle_time(look, now);
        assert_eq!(knocks(&mut pair).len(), 1, "it is asked");
        pair.handle_time(look, now + ASK_AGAIN);
        assert_eq!(knocks(&mut pair).len(), 1, "and again");
        pair.handle_time(look, now + DOUBT_MAX);
        assert_eq!(pair.straight(), None);
        assert!(actions(&mut pair).contains(&Action::Leave));
    }
}

#[test]
fn way_that_nobody_needs_ends_when_it_is_idle() {
    let mut pair = settled(true, at(FAR));
    let look = Look {
        wanted: false,
        ..WANTED
    };
    pair.handle_time(look, START + (IDLE_MAX - Duration::from_secs(1)));
    assert!(pair.straight().is_some());
    pair.handle_time(look, START + IDLE_MAX);
    assert_eq!(actions(&mut pair), [Action::Leave]);
}

#[test]
fn place_where_they_speak_counts_as_proven_when_they_hear_there() {
    let mut pair = Pair::new(false, 1);
    pair.handle_packet(at(FAR), START);
    assert_eq!((pair.straight(), pair.is_proven()), (Some(at(FAR)), false));
    let [(to, nonce)] = knocks(&mut pair)[..] else {
        panic!("one knock");
    };
    pair.handle_answer(to, nonce + 1, START);
    assert!(!pair.is_proven(), "an answer to nothing");
    pair.handle_answer(to, nonce, START);
    assert!(pair.is_proven());
}

#[test]
fn call_is_answered_once_and_crossing_calls_answer_each_other() {
    let mut pair = Pair::new(false, 1);
    let calls = |pair: &mut Pair| {
        let all = actions(pair).into_iter();
        all.filter(|it| matches!(it, Action::Call { .. })).count()
    };
    pair.handle_call(&call(1, &[at(FAR)]), START);
    assert_eq!(calls(&mut pair), 1);
    pair.handle_call(&call(1, &[at(FAR)]), START);
    assert_eq!(calls(&mut pair), 0, "the same on another way");
    pair.handle_call(&call(2, &[at(FAR)]), START);
    assert_eq!(calls(&mut pair), 0, "ours has just left");
}

#[test]
fn whatever_they_say_we_knock_and_remember_within_limits() {
    let mut pair = Pair::new(true, 1);
    let mut knock_count = 0;
    for number in 0..200u32 {
        let places: Vec<SocketAddr> = (0..200u32)
            .map(|host| SocketAddr::from((std::net::Ipv4Addr::from(0x0b00_0000 + host), 9)))
            .collect();
        pair.handle_call(&call(number, &places), START);
        knock_count += knocks(&mut pair).len();
    }
    let searches = CALLS_BURST as usize;
    let most = searches * PLACES_MAX;
    assert!((PLACES_MAX..=most).contains(&knock_count), "{knock_count}");
    for port in 1..2000 {
        let from = SocketAddr::from(([203, 0, 113, 9], port));
        pair.handle_knock(from, 1, START);
        if let Some((_, nonce)) = knocks(&mut pair).last() {
            // As if it had been heard elsewhere.
            pair.handle_answer(at("203.0.113.10:7"), *nonce, START);
            actions(&mut pair);
        }
    }
    assert_eq!((pair.met.len(), pair.theirs.len()), (MET_MAX, PLACES_MAX));
    assert!(pair.sent.len() <= SENT_MAX && pair.places().len() <= TRIED_MAX);
}

#[test]
fn who_names_places_that_never_answer_turns_us_on_nobody() {
    let mut pair = Pair::new(false, 1);
    let victim: Vec<SocketAddr> = (1..=16)
        .map(|port| SocketAddr::from(([203, 0, 113, 9], port)))
        .collect();
    let (mut now, mut knock_count) = (START, 0);
    for number in 1..=6000u32 {
        now = now + Duration::from_millis(100);
        pair.handle_call(&call(number, &victim), now);
        pair.handle_time(Look::default(), now);
        knock_count += knocks(&mut pair).len();
    }
    // Ten minutes: a search each 16 s in the end, of four places in six rounds.
    assert!((100..2000).contains(&knock_count), "{knock_count}");
}

#[test]
fn nonces_are_not_told_by_those_before() {
    let mut pair = Pair::new(true, 1);
    pair.handle_call(&call(1, &[at(FAR), at("203.0.113.10:7")]), START);
    let nonces: Vec<u64> = knocks(&mut pair).iter().map(|(_, nonce)| *nonce).collect();
    let [first, second] = nonces[..] else {
        panic!("two places: {nonces:?}")
    };
    assert!(1_000_000 < first.abs_diff(second));
    let secret = 0x0123_4567_89ab_cdef;
    let mut pair = Pair::new(true, secret);
    pair.handle_call(&call(1, &[at(FAR)]), START);
    let told = actions(&mut pair).into_iter().find_map(|it| match it {
        Action::Call { number, .. } => Some(number),
        _ => None,
    });
    assert!(told.is_some_and(|told| u64::from(told) >> 8 != secret >> 40));
    let mut other = Pair::new(true, 2);
    other.handle_call(&call(1, &[at(FAR)]), START);
    assert_ne!(
        knocks(&mut other).first().map(|(_, nonce)| *nonce),
        Some(first)
    );
}
