//! One fact a test.

use super::*;
use crate::election::machine::{CommandError, Event};
use crate::election::timing::{LEASE, PROMISE};
use crate::election::wire::Body;
use crate::election::words::HeadError;

const SECOND: Duration = Duration::from_secs(1);
const L: Part = Part::Leader;
const W: Part = Part::Witness;

fn message(term: u64, body: Body) -> Message {
    Message {
        group: group(),
        term: Term(term),
        version: Version(1),
        incarnation: 1,
        body,
    }
}

fn elected() -> (Cluster, usize) {
    let mut cluster = Cluster::leaders(3);
    cluster.run(3 * SECOND);
    let [leader] = *cluster.leading() else {
        panic!("three that hear each other have a leader");
    };
    (cluster, leader)
}

#[test]
fn one_voter_leads_at_once_and_in_the_same_term_after_a_restart() {
    let mut cluster = Cluster::new(&[L], 1);
    cluster.save(0);
    assert_eq!(cluster.leading(), [0]);
    assert_eq!(cluster.at(0).poll_time(), None);
    cluster.crash(0);
    cluster.start(0);
    assert_eq!(cluster.leading(), [0]);
    assert_eq!(cluster.at(0).term(), Term(1));
    assert!(cluster.wire.is_empty());
}

#[test]
fn one_voter_whose_ballot_is_not_on_disk_does_not_lead() {
    let cluster = Cluster::new(&[L], 1);
    assert!(cluster.leading().is_empty());
}

#[test]
fn three_elect_one_and_keep_it() {
    let (mut cluster, leader) = elected();
    let term = cluster.at(leader).term();
    cluster.run(60 * SECOND);
    assert_eq!(cluster.leading(), [leader]);
    assert_eq!(cluster.at(leader).term(), term);
}

#[test]
fn dead_leader_is_followed_by_another() {
    let (mut cluster, leader) = elected();
    cluster.crash(leader);
    cluster.run(3 * SECOND);
    assert_eq!(cluster.leading().len(), 1);
    assert_ne!(cluster.leading(), [leader]);
}

#[test]
fn leader_without_a_majority_loses_its_lease_and_then_its_office() {
    let (mut cluster, leader) = elected();
    cluster.cut = (0..3)
        .flat_map(|other| [(leader, other), (other, leader)])
        .collect();
    cluster.run(LEASE + Duration::from_millis(150));
    assert!(!cluster.leading().contains(&leader));
    cluster.run(SECOND);
    assert_eq!(cluster.at(leader).inheritance(), None);
}

#[test]
fn follower_that_the_leader_does_not_reach_disturbs_nobody_when_it_returns() {
    let (mut cluster, leader) = elected();
    let term = cluster.at(leader).term();
    let lost = (leader + 1) % 3;
    cluster.cut = vec![(leader, lost), (lost, leader)];
    cluster.run(60 * SECOND);
    cluster.cut.clear();
    cluster.run(5 * SECOND);
    assert_eq!(cluster.leading(), [leader]);
    assert_eq!(cluster.at(leader).term(), term);
    assert_eq!(cluster.at(lost).leader(), Some(voter(leader)));
}

#[test]
fn witness_never_leads_and_its_disk_counts() {
    let mut cluster = Cluster::new(&[L, L, W], 1);
    cluster.run(3 * SECOND);
    let leader = cluster.leading()[0];
    assert_ne!(leader, 2);
    cluster.crash(1 - leader);
    let (term, now) = (cluster.at(leader).term(), cluster.now);
    let document = Digest::of(b"books");
    cluster
        .at(leader)
        .hold(document, head(term, 1), now)
        .unwrap();
    assert_eq!(cluster.at(leader).safe(&document), None);
    cluster.at(2).hold(document, head(term, 1), now).unwrap();
    cluster.run(SECOND);
    assert_eq!(cluster.at(leader).safe(&document), Some(1));
    cluster.crash(leader);
    cluster.run(20 * SECOND);
    assert!(cluster.leading().is_empty());
}

#[test]
fn next_leader_covers_what_a_majority_has() {
    let (mut cluster, leader) = elected();
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let (term, now) = (cluster.at(leader).term(), cluster.now);
    let document = Digest::of(b"books");
    for index in [leader, other] {
        cluster
            .at(index)
            .hold(document, head(term, 7), now)
            .unwrap();
        cluster.hosts[index]
            .heads
            .set(document, head(term, 7))
            .unwrap();
    }
    cluster.run(SECOND);
    assert_eq!(cluster.at(leader).safe(&document), Some(7));
    cluster.crash(leader);
    cluster.run(3 * SECOND);
    let next = cluster.leading()[0];
    assert!([other, third].contains(&next));
    let inheritance = cluster.at(next).inheritance().unwrap();
    assert_eq!(inheritance.of(&document), Some(head(term, 7)));
    // Of its own term nothing is safe yet.
    assert_eq!(cluster.at(next).safe(&document), None);
}

#[test]
fn voter_that_answered_a_term_holds_nothing_lower() {
    let (mut cluster, leader) = elected();
    cluster.crash(leader);
    cluster.run(3 * SECOND);
    let (next, now) = (cluster.leading()[0], cluster.now);
    let current = cluster.at(next).term();
    let stale = HeadError::Stale {
        given: Term(0),
        current,
    };
    let held = cluster
        .at(next)
        .hold(Digest::of(b"books"), head(Term(0), 1), now);
    assert_eq!(held, Err(stale));
}

#[test]
fn leader_hands_over_without_a_pause() {
    let (mut cluster, leader) = elected();
    let to = (leader + 1) % 3;
    let now = cluster.now;
    cluster.at(leader).hand_over(voter(to), now).unwrap();
    cluster.drain(leader);
    assert!(cluster.leading().is_empty());
    cluster.run(Duration::from_millis(20));
    assert_eq!(cluster.leading(), [to]);
}

#[test]
fn hand_over_needs_a_leader_and_one_that_can_be() {
    let mut cluster = Cluster::new(&[L, L, W], 1);
    cluster.run(3 * SECOND);
    let (leader, now) = (cluster.leading()[0], cluster.now);
    let witness = cluster.at(leader).hand_over(voter(2), now);
    assert_eq!(witness, Err(CommandError::NotAble));
    let follower = cluster.at(1 - leader).hand_over(voter(leader), now);
    assert_eq!(follower, Err(CommandError::NotLeading));
}

#[test]
fn promised_voter_helps_nobody_not_even_with_its_term() {
    let (mut cluster, leader) = elected();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let term = cluster.at(one).term();
    for body in [Body::Sound, Body::Ask] {
        let refused = cluster.say(other, one, &message(term.0 + 9, body));
        assert_eq!(refused, Err(Refusal::Promised));
    }
    assert_eq!(cluster.at(one).term(), term);
}

#[test]
fn restarted_voter_helps_nobody_for_a_promise() {
    let (mut cluster, leader) = elected();
    let one = (leader + 1) % 3;
    cluster.crash(one);
    cluster.start(one);
    let ask = message(99, Body::Ask);
    assert_eq!(cluster.say(leader, one, &ask), Err(Refusal::Promised));
    cluster.now = cluster.now + PROMISE;
    assert_eq!(cluster.say(leader, one, &ask), Ok(()));
}

#[test]
fn vote_leaves_only_after_its_ballot() {
    let mut cluster = Cluster::leaders(3);
    assert_eq!(cluster.say(1, 0, &message(5, Body::Ask)), Ok(()));
    let persist = cluster.at(0).poll_output().unwrap();
    let Effect::Persist(position, ballot) = persist.effect else {
        panic!("the ballot comes first");
    };
    assert_eq!((ballot.term, ballot.vote), (Term(5), Some(voter(1))));
    let vote = cluster.at(0).poll_output().unwrap();
    assert_eq!(vote.after, Some(position));
    assert!(matches!(vote.effect, Effect::Send(_, message) if message.term == Term(5)));
    let second = cluster.say(2, 0, &message(5, Body::Ask));
    assert_eq!(second, Err(Refusal::Late));
}

/// Says something to a fresh voter of three, of which the third is a witness.
#[track_caller]
fn check(from: Voter, message: &Message, expect: Result<(), Refusal>) {
    let mut cluster = Cluster::new(&[L, L, W], 1);
    let now = cluster.now;
    let got = cluster.at(0).handle_message(from.node, message, now);
    assert_eq!(got, expect);
}

#[test]
fn what_no_voter_of_this_charter_says_is_refused() {
    let ask = message(1, Body::Ask);
    check(voter(1), &ask, Ok(()));
    check(voter(5), &ask, Err(Refusal::Stranger));
    check(voter(0), &ask, Err(Refusal::Stranger));
    check(voter(2), &ask, Err(Refusal::Witness));
    let old = Message {
        incarnation: 0,
        ..ask.clone()
    };
    check(voter(1), &old, Err(Refusal::Stranger));
    let version = Message {
        version: Version(2),
        ..ask.clone()
    };
    check(voter(1), &version, Err(Refusal::Version));
    let elsewhere = Message {
        group: Group(Digest::of(b"elsewhere")),
        ..ask
    };
    check(voter(1), &elsewhere, Err(Refusal::Group));
    check(voter(1), &message(0, Body::Ask), Err(Refusal::Term));
    check(voter(1), &message(u64::MAX, Body::Ask), Err(Refusal::Term));
    check(voter(1), &message(1, Body::Willing), Err(Refusal::Late));
}

#[test]
fn later_charter_is_told_once_it_is_heard_of() {
    let mut cluster = Cluster::leaders(3);
    let mut later = message(1, Body::Sound);
    later.version = Version(4);
    assert_eq!(cluster.say(1, 0, &later), Err(Refusal::Version));
    let told = cluster.at(0).poll_output().map(|output| output.effect);
    assert_eq!(told, Some(Effect::Tell(Event::Behind(Version(4)))));
}

#[test]
fn new_voters_take_over_through_a_joint_charter() {
    let (mut cluster, leader) = elected();
    let (now, term) = (cluster.now, cluster.at(leader).term());
    let old = voters(1, &[L, L, L]);
    let two = [(voter(leader), L)];
    let joint = Voters::joint(&old, Voters::new(Version(2), two).unwrap());
    for index in 0..3 {
        cluster.at(index).handle_charter(joint.clone(), now);
    }
    cluster.run(SECOND);
    assert_eq!(cluster.leading(), [leader]);
    let document = Digest::of(b"books");
    let now = cluster.now;
    cluster
        .at(leader)
        .hold(document, head(term, 1), now)
        .unwrap();
    assert!(!cluster.at(leader).is_settled(&document, now));
    let other = (leader + 1) % 3;
    cluster
        .at(other)
        .hold(document, head(term, 1), now)
        .unwrap();
    cluster.run(SECOND);
    let now = cluster.now;
    assert!(cluster.at(leader).is_settled(&document, now));
    let alone = Voters::new(Version(3), two).unwrap();
    cluster.at(leader).handle_charter(alone, now);
    cluster.run(5 * SECOND);
    assert_eq!(cluster.leading(), [leader]);
    assert_eq!(cluster.at(leader).term(), term);
}

#[test]
fn leader_does_not_stay_one_across_a_charter_that_it_missed() {
    let (mut cluster, leader) = elected();
    let now = cluster.now;
    let later = voters(3, &[L, L, L]);
    cluster.at(leader).handle_charter(later, now);
    assert!(cluster.leading().is_empty());
}

#[test]
fn queue_of_effects_has_an_end() {
    let mut cluster = Cluster::leaders(3);
    let mut later = message(1, Body::Sound);
    later.version = Version(4);
    for _ in 0..10_000 {
        let _ = cluster.say(1, 0, &later);
    }
    let effects = std::iter::from_fn(|| cluster.at(0).poll_output());
    assert_eq!(effects.count(), crate::election::machine::EFFECTS_MAX);
}
