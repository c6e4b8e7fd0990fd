//! Two and more machines on one link that loses, repeats, delays and forgets.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_base::time::Wall;
use proptest::prelude::any;
use proptest::{prop_assert, proptest};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::super::key::{Algorithm, Key};
use super::super::limits::{CHALLENGE_STEP, NONCE_AGE_MAX};
use super::*;

const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 6);
/// A packet that says nothing.
const SILENCE: [u8; 4] = [42, 2, 0, 0];

/// A machine with its address and its randomness.
struct Node {
    machine: MacMachine,
    address: Ipv6Addr,
    rng: ChaCha20Rng,
}

/// A sealed packet on its way.
type Sent = (Path, Vec<u8>);

impl Node {
    fn new(id: u16, secrets: &[u8]) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(u64::from(id));
        Self {
            machine: MacMachine::new(keys(secrets), &mut rng),
            address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, id),
            rng,
        }
    }

    /// Forgets everything, as a program that was started again.
    fn restart(&mut self, secrets: &[u8]) {
        self.machine = MacMachine::new(keys(secrets), &mut self.rng);
    }

    fn send(&mut self, destination: Ipv6Addr, packet: &[u8]) -> Sent {
        let source = self.address;
        let path = Path {
            source,
            destination,
        };
        let overhead = self.machine.overhead();
        let sealed = self.machine.seal(packet.to_vec(), path, &mut self.rng);
        assert_eq!(sealed.len(), packet.len() + overhead);
        (path, sealed)
    }

    fn open(&mut self, (path, bytes): &Sent, now: Now) -> Verdict {
        self.machine.open(bytes, *path, now, &mut self.rng)
    }

    fn answers(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(answer) = self.machine.poll_answer() {
            sent.push(self.send(answer.to, &answer.packet));
        }
        sent
    }
}

fn keys(secrets: &[u8]) -> Keys {
    let key = |byte: &u8| match byte % 2 {
        0 => Key::new(Algorithm::HmacSha256, &[*byte; 32]).unwrap(),
        _ => Key::new(Algorithm::Blake2s128, &[*byte; 32]).unwrap(),
    };
    Keys::new(secrets.iter().map(key).collect()).unwrap()
}

fn at(since_start: Duration) -> Now {
    Now {
        mono: Moment(1_000_000_000) + since_start,
        wall: Wall(0),
    }
}

fn start() -> Now {
    at(Duration::ZERO)
}

/// Lets both answer each other until there is nothing left to say.
fn settle(a: &mut Node, b: &mut Node, now: Now) {
    let mut rounds = 0;
    loop {
        let (from_a, from_b) = (a.answers(), b.answers());
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        for (from, to) in [(from_a, &mut *b), (from_b, &mut *a)] {
            for sent in from {
                if sent.0.destination == to.address {
                    let _ = to.open(&sent, now);
                }
            }
        }
        rounds += 1;
        assert!(rounds < 10, "they talk for ever");
    }
}

/// Two that believe each other.
fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(1, &[2]), Node::new(2, &[2]));
    let first = a.send(ALL, &SILENCE);
    assert_eq!(b.open(&first, start()), Verdict::Drop(Dropped::Unproven));
    settle(&mut a, &mut b, start());
    (a, b)
}

#[track_caller]
fn check(from: &mut Node, to: &mut Node, now: Now, expect: Verdict) {
    let sent = from.send(ALL, &SILENCE);
    assert_eq!(to.open(&sent, now), expect);
}

#[test]
fn one_challenge_each_way_and_both_are_believed() {
    let (mut a, mut b) = pair();
    check(&mut a, &mut b, start(), Verdict::Accept);
    check(&mut b, &mut a, start(), Verdict::Accept);
    assert!(a.answers().is_empty() && b.answers().is_empty());
}

#[test]
fn packet_played_again_is_taken_once() {
    let (mut a, mut b) = pair();
    for destination in [ALL, b.address] {
        let sent = a.send(destination, &SILENCE);
        assert_eq!(b.open(&sent, start()), Verdict::Accept);
        assert_eq!(b.open(&sent, start()), Verdict::Drop(Dropped::Replayed));
    }
    assert_eq!(b.machine.dropped().get(&Dropped::Replayed), Some(&2));
    assert!(b.answers().is_empty());
}

#[test]
fn packets_that_overtake_each_other_are_all_taken() {
    let (mut a, mut b) = pair();
    let to_all = a.send(ALL, &SILENCE);
    let to_one = a.send(b.address, &SILENCE);
    let later = a.send(ALL, &SILENCE);
    for sent in [&later, &to_one, &to_all] {
        assert_eq!(b.open(sent, start()), Verdict::Accept);
    }
}

#[test]
fn packet_for_somebody_else_or_from_somebody_else_has_the_wrong_mac() {
    let (mut a, mut b) = pair();
    let (path, sealed) = a.send(b.address, &SILENCE);
    let to_all = Path {
        destination: ALL,
        ..path
    };
    let from_b = Path {
        source: b.address,
        ..path
    };
    for path in [to_all, from_b] {
        let verdict = b.open(&(path, sealed.clone()), start());
        assert_eq!(verdict, Verdict::Drop(Dropped::WrongKey));
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let (mut a, mut b) = pair();
    let (path, sealed) = a.send(ALL, &[42, 2, 0, 4, 3, 2, 7, 7]);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_ne!(b.open(&(path, changed), start()), Verdict::Accept);
        let cut = sealed[..at].to_vec();
        assert_ne!(b.open(&(path, cut), start()), Verdict::Accept);
    }
    assert_eq!(b.open(&(path, sealed), start()), Verdict::Accept);
}

#[test]
fn unsigned_uncounted_and_malformed_packets_are_dropped() {
    let (mut a, mut b) = pair();
    let (path, sealed) = a.send(ALL, &SILENCE);
    let unsigned = sealed[..sealed.len() - 34].to_vec();
    let uncounted = keys(&[2]).seal(kind::MAC, path, SILENCE.to_vec());
    for (bytes, why) in [
        (unsigned, Dropped::Unsigned),
        (uncounted, Dropped::Uncounted),
        (vec![42, 2, 0, 9], Dropped::Malformed),
    ] {
        assert_eq!(b.open(&(path, bytes), start()), Verdict::Drop(why));
    }
    assert!(b.answers().is_empty());
}

#[test]
fn stranger_with_another_key_gets_no_answer() {
    let (mut a, mut b) = (Node::new(1, &[2]), Node::new(2, &[4]));
    check(&mut a, &mut b, start(), Verdict::Drop(Dropped::WrongKey));
    assert!(b.answers().is_empty());
    assert_eq!(b.machine.neighbour_count(), 0);
}

#[test]
fn who_lost_its_memory_is_believed_again_after_a_challenge() {
    let (mut a, mut b) = pair();
    let before = a.send(ALL, &SILENCE);
    a.restart(&[2]);
    let now = at(Duration::from_secs(1));
    check(&mut a, &mut b, now, Verdict::Drop(Dropped::Unproven));
    // What it said in its former life still counts until then, and not after.
    assert_eq!(b.open(&before, now), Verdict::Accept);
    settle(&mut a, &mut b, now);
    check(&mut a, &mut b, now, Verdict::Accept);
    assert_eq!(b.open(&before, now), Verdict::Drop(Dropped::Unproven));
    // The challenge that it answered proved the other too, in the same talk.
    check(&mut b, &mut a, now, Verdict::Accept);
}

#[test]
fn recording_of_a_former_life_is_not_taken_by_who_forgot_it() {
    let (mut a, mut b) = pair();
    let recorded: Vec<Sent> = (0..5).map(|_| a.send(ALL, &SILENCE)).collect();
    for sent in &recorded {
        assert_eq!(b.open(sent, start()), Verdict::Accept);
    }
    b.restart(&[2]);
    let now = at(Duration::from_secs(1));
    for sent in &recorded {
        assert_eq!(b.open(sent, now), Verdict::Drop(Dropped::Unproven));
    }
    settle(&mut a, &mut b, now);
    for sent in &recorded {
        assert_eq!(b.open(sent, now), Verdict::Drop(Dropped::Replayed));
    }
}

#[test]
fn two_that_both_forgot_find_each_other() {
    let (mut a, mut b) = pair();
    a.restart(&[2]);
    b.restart(&[2]);
    let now = at(Duration::from_secs(1));
    check(&mut a, &mut b, now, Verdict::Drop(Dropped::Unproven));
    check(&mut b, &mut a, now, Verdict::Drop(Dropped::Unproven));
    settle(&mut a, &mut b, now);
    check(&mut a, &mut b, now, Verdict::Accept);
    check(&mut b, &mut a, now, Verdict::Accept);
}

#[test]
fn challenges_and_answers_keep_their_pace() {
    let (mut a, mut b) = (Node::new(1, &[2]), Node::new(2, &[2]));
    let step = CHALLENGE_STEP / 10;
    let mut challenges = Vec::new();
    for round in 0..20 {
        check(
            &mut a,
            &mut b,
            at(step * round),
            Verdict::Drop(Dropped::Unproven),
        );
        challenges.extend(b.answers());
    }
    assert_eq!(challenges.len(), 2);
    for sent in &challenges {
        let _ = a.open(sent, start());
    }
    let to_b = |sent: &Sent| sent.1[4];
    let kinds: Vec<u8> = a.answers().iter().map(to_b).collect();
    assert_eq!(kinds, [kind::CHALLENGE_REPLY, kind::CHALLENGE_REQUEST]);
}

#[test]
fn answer_that_took_longer_than_the_pace_is_believed() {
    let (mut a, mut b) = (Node::new(1, &[2]), Node::new(2, &[2]));
    check(&mut a, &mut b, start(), Verdict::Drop(Dropped::Unproven));
    let challenge = b.answers();
    let _ = a.open(&challenge[0], start());
    let answer = a.answers();
    let late = at(CHALLENGE_STEP * 3);
    check(&mut a, &mut b, late, Verdict::Drop(Dropped::Unproven));
    assert_eq!(b.answers().len(), 1);
    assert_eq!(b.open(&answer[0], late), Verdict::Accept);
}

#[test]
fn answer_to_an_old_challenge_is_worth_nothing() {
    let (mut a, mut b) = (Node::new(1, &[2]), Node::new(2, &[2]));
    check(&mut a, &mut b, start(), Verdict::Drop(Dropped::Unproven));
    let challenge = b.answers();
    let _ = a.open(&challenge[0], start());
    let answer = a.answers();
    let verdict = b.open(&answer[0], at(NONCE_AGE_MAX));
    assert_eq!(verdict, Verdict::Drop(Dropped::Unproven));
}

#[test]
fn key_is_changed_without_a_packet_lost() {
    let (mut a, mut b) = pair();
    for (of_a, of_b) in [
        (&[2, 3][..], &[2][..]),
        (&[2, 3], &[3, 2]),
        (&[3], &[3, 2]),
        (&[3], &[3]),
    ] {
        a.machine.change_keys(keys(of_a));
        b.machine.change_keys(keys(of_b));
        check(&mut a, &mut b, start(), Verdict::Accept);
        check(&mut b, &mut a, start(), Verdict::Accept);
    }
    a.machine.change_keys(keys(&[4]));
    check(&mut a, &mut b, start(), Verdict::Drop(Dropped::WrongKey));
}

#[test]
fn used_up_counters_begin_again_under_another_index() {
    let (mut a, mut b) = pair();
    a.machine.counter = u32::MAX - 1;
    check(&mut a, &mut b, start(), Verdict::Accept);
    let now = at(Duration::from_secs(1));
    check(&mut a, &mut b, now, Verdict::Drop(Dropped::Unproven));
    settle(&mut a, &mut b, now);
    check(&mut a, &mut b, now, Verdict::Accept);
}

#[test]
fn full_table_keeps_who_is_alive_and_proven() {
    let mut hub = Node::new(0xffff, &[2]);
    let mut nodes: Vec<Node> = (1..)
        .take(NEIGHBOURS_MAX)
        .map(|id| Node::new(id, &[2]))
        .collect();
    for node in &mut nodes {
        check(node, &mut hub, start(), Verdict::Drop(Dropped::Unproven));
        settle(node, &mut hub, start());
    }
    let mut stranger = Node::new(0x1000, &[2]);
    check(
        &mut stranger,
        &mut hub,
        start(),
        Verdict::Drop(Dropped::Crowded),
    );
    assert_eq!(hub.machine.neighbour_count(), NEIGHBOURS_MAX);
    // All but one speak again later: the silent one makes room, then the unproven one does.
    let now = at(SILENCE_MAX);
    for node in nodes.iter_mut().skip(1) {
        check(node, &mut hub, now, Verdict::Accept);
    }
    check(
        &mut stranger,
        &mut hub,
        now,
        Verdict::Drop(Dropped::Unproven),
    );
    let mut other = Node::new(0x1001, &[2]);
    check(&mut other, &mut hub, now, Verdict::Drop(Dropped::Unproven));
    assert_eq!(hub.machine.neighbour_count(), NEIGHBOURS_MAX);
    for node in nodes.iter_mut().skip(1) {
        check(node, &mut hub, now, Verdict::Accept);
    }
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut hub = Node::new(0xffff, &[2]);
    for id in 1..=600 {
        let mut node = Node::new(id, &[2]);
        let challenge = [42, 2, 0, 3, kind::CHALLENGE_REQUEST, 1, 7];
        let sent = node.send(hub.address, &challenge);
        assert_eq!(hub.open(&sent, start()), Verdict::Drop(Dropped::Unproven));
    }
    assert_eq!(hub.answers().len(), ANSWERS_MAX);
    assert_eq!(hub.machine.neighbour_count(), NEIGHBOURS_MAX);
}

proptest! {
    #[test]
    fn no_packet_is_taken_twice_in_any_life_and_talk_resumes(
        steps in proptest::collection::vec(any::<(u8, u8)>(), 1..120),
    ) {
        let (mut a, mut b) = (Node::new(1, &[2]), Node::new(2, &[2]));
        // Everything that was ever on the link may come again at any time.
        let (mut link, mut taken) = (Vec::<Sent>::new(), BTreeSet::new());
        let mut now = start();
        for (what, which) in steps {
            now.mono = now.mono + Duration::from_millis(70);
            match what % 16 {
                // It may not take again what it took in a former life either.
                0 => b.restart(&[2]),
                1 => a.restart(&[2]),
                2..6 => {
                    let to = if which % 2 == 0 { ALL } else { b.address };
                    let sent = a.send(to, &SILENCE);
                    link.push(sent);
                }
                6 | 7 => link.push(b.send(ALL, &SILENCE)),
                _ => {
                    let back = usize::from(which) % link.len().max(1);
                    let Some(sent) = link.iter().rev().nth(back).cloned() else {
                        continue;
                    };
                    if sent.0.source == a.address {
                        let verdict = b.open(&sent, now);
                        let fresh = verdict != Verdict::Accept || taken.insert(sent.1.clone());
                        prop_assert!(fresh, "taken twice");
                        link.extend(b.answers());
                    } else {
                        let _ = a.open(&sent, now);
                        link.extend(a.answers());
                    }
                }
            }
        }
        now.mono = now.mono + NONCE_AGE_MAX;
        let sent = a.send(ALL, &SILENCE);
        let _ = b.open(&sent, now);
        settle(&mut a, &mut b, now);
        let sent = a.send(ALL, &SILENCE);
        prop_assert!(b.open(&sent, now) == Verdict::Accept);
    }
}
