//! Trips by hand, and trips against allocators through a bad network with restarts.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mesh_base::digest::Digest;
use mesh_base::identity::SecretKey;
use mesh_base::time::Wall;
use mesh_ledger::grant::Shortage;

use super::*;
use crate::capacity::{Allocator, Amount, Confirmed, NoRoom, NotConfirmed};

/// A small generator, so that a failing schedule can be run again from its number.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        let step = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = step.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn at(ms: u64) -> Now {
    Now {
        mono: Moment(ms * 1000),
        wall: Wall(0),
    }
}

fn node(byte: u8) -> NodeId {
    static NODES: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
        (0..3)
            .map(|byte| NodeId(SecretKey::from_seed([byte; 32]).public()))
            .collect()
    });
    NODES[usize::from(byte)]
}

fn candidate(node: NodeId) -> Candidate {
    Candidate {
        node,
        price: "1EUR/month".parse().unwrap(),
        agreement: None,
    }
}

fn trip(nodes: &[NodeId]) -> Trip {
    Trip::new(nodes.iter().copied().map(candidate).collect(), at(0))
}

/// Takes all outputs but the state changes.
fn outputs(trip: &mut Trip) -> Vec<Output> {
    std::iter::from_fn(|| trip.poll_output())
        .filter(|output| !matches!(output, Output::State(_)))
        .collect()
}

fn ask(attempt: u32, node: NodeId) -> Output {
    Output::Ask {
        attempt,
        candidate: candidate(node),
    }
}

#[test]
fn straight_trip_is_asked_awarded_granted_ready() {
    let mut trip = trip(&[node(1), node(2)]);
    assert_eq!(outputs(&mut trip), [ask(1, node(1))]);
    trip.handle_reservation(&node(1), 1, at(100));
    assert_eq!(
        outputs(&mut trip),
        [Output::Award {
            attempt: 1,
            node: node(1)
        }]
    );
    trip.handle_grant(&node(1), 1);
    trip.handle_ready(&node(1), 1);
    assert_eq!((trip.state(), trip.next_deadline()), (State::Ready, None));
    assert!(trip.tried().is_empty());
}

#[test]
fn silent_node_is_asked_again_and_then_left() {
    let mut trip = trip(&[node(1), node(2)]);
    outputs(&mut trip);
    for ms in [500, 1_000, 1_500] {
        trip.handle_timer(at(ms - 1));
        assert_eq!(outputs(&mut trip), []);
        trip.handle_timer(at(ms));
        assert_eq!(
            outputs(&mut trip),
            [Output::AskAgain {
                attempt: 1,
                node: node(1)
            }]
        );
    }
    trip.handle_timer(at(2_000));
    assert_eq!(outputs(&mut trip), [ask(2, node(2))]);
    // Its late answer is for an attempt that is over.
    trip.handle_reservation(&node(1), 1, at(2_100));
    assert_eq!(outputs(&mut trip), []);
}

#[test]
fn awarded_node_may_be_silent_for_ever() {
    let mut trip = trip(&[node(1), node(2)]);
    trip.handle_reservation(&node(1), 1, at(100));
    outputs(&mut trip);
    let mut now = 100;
    while now < 100_000_000 {
        now = trip.next_deadline().unwrap().0 / 1000;
        trip.handle_timer(at(now));
        assert_eq!(
            outputs(&mut trip),
            [Output::AwardAgain {
                attempt: 1,
                node: node(1)
            }]
        );
    }
    assert_eq!(trip.state(), State::Awarded);
    // Only its own signed no ends the attempt.
    trip.handle_refusal(&node(2), 1, RefusalReason::Lapsed, at(now));
    trip.handle_refusal(&node(1), 2, RefusalReason::Lapsed, at(now));
    assert_eq!(outputs(&mut trip), []);
    trip.handle_refusal(&node(1), 1, RefusalReason::Lapsed, at(now));
    assert_eq!(outputs(&mut trip), [ask(2, node(2))]);
}

#[test]
fn answer_after_the_window_is_not_awarded() {
    let mut trip = trip(&[node(1)]);
    outputs(&mut trip);
    // The customer slept: no timer ran.
    trip.handle_reservation(&node(1), 1, at(8_001));
    assert_eq!(outputs(&mut trip), []);
    assert_eq!(trip.state(), State::CannotPlace);
    assert_eq!(trip.tried()[0].reason, TriedReason::Late);
}

#[test]
fn refusals_are_kept_for_the_verdict_and_new_candidates_go_on() {
    let mut trip = trip(&[node(1), node(2)]);
    let full = RefusalReason::NoCapacity {
        what: Shortage::Memory,
    };
    trip.handle_refusal(&node(1), 1, full.clone(), at(1));
    trip.handle_reservation(&node(2), 2, at(2));
    trip.handle_grant(&node(2), 2);
    trip.handle_release(&node(2), 2, at(3));
    assert_eq!(trip.state(), State::CannotPlace);
    let tried: Vec<_> = trip
        .tried()
        .iter()
        .map(|tried| tried.reason.to_string())
        .collect();
    let expect = [
        "it refused: not enough memory left",
        "it gave the order back before it was ready",
    ];
    assert_eq!(tried, expect);
    outputs(&mut trip);
    trip.handle_candidates(vec![candidate(node(1))], at(4));
    assert_eq!(outputs(&mut trip), [ask(3, node(1))]);
}

#[test]
fn release_after_ready_ends_the_trip() {
    let mut trip = trip(&[node(1), node(2)]);
    trip.handle_reservation(&node(1), 1, at(1));
    trip.handle_ready(&node(1), 1);
    trip.handle_release(&node(1), 1, at(2));
    assert_eq!(trip.state(), State::Ended);
}

#[test]
fn unwanted_order_is_cancelled_before_and_ended_after_an_award() {
    let mut early = trip(&[node(1)]);
    early.handle_unwanted();
    early.handle_reservation(&node(1), 1, at(1));
    assert_eq!(early.state(), State::Cancelled);
    let mut late = trip(&[node(1), node(2)]);
    late.handle_reservation(&node(1), 1, at(1));
    late.handle_unwanted();
    assert_eq!(late.state(), State::Awarded);
    late.handle_release(&node(1), 1, at(2));
    assert_eq!(late.state(), State::Ended);
    let mut refused = trip(&[node(1), node(2)]);
    refused.handle_reservation(&node(1), 1, at(1));
    refused.handle_unwanted();
    refused.handle_refusal(&node(1), 1, RefusalReason::Lapsed, at(2));
    assert_eq!(refused.state(), State::Cancelled);
}

#[test]
fn restored_trip_waits_for_its_award_and_repeats_no_ask() {
    let candidates = || vec![candidate(node(2))];
    let awarded = Past {
        asked: Some((3, node(1))),
        awarded: Some((3, node(1))),
        unwanted: false,
    };
    let mut trip = Trip::restore(awarded, candidates(), at(0));
    assert_eq!((trip.state(), outputs(&mut trip)), (State::Awarded, vec![]));
    trip.handle_refusal(&node(1), 3, RefusalReason::Lapsed, at(1));
    assert_eq!(outputs(&mut trip), [ask(4, node(2))]);
    let asked = Past {
        asked: Some((4, node(1))),
        awarded: Some((3, node(1))),
        unwanted: false,
    };
    let mut trip = Trip::restore(asked, candidates(), at(0));
    assert_eq!(outputs(&mut trip), [ask(5, node(2))]);
}

#[test]
fn attempts_end_at_their_limit() {
    let mut trip = trip(&[node(1); 100]);
    for attempt in 1..=ATTEMPTS_MAX {
        trip.handle_refusal(&node(1), attempt, RefusalReason::Stopped, at(1));
    }
    assert_eq!(trip.state(), State::CannotPlace);
    assert_eq!(trip.tried().len(), ATTEMPTS_MAX as usize);
}

/// What travels: everything may be lost, repeated, late and out of order.
#[derive(Debug, Clone)]
enum Mail {
    Ask {
        order: usize,
        attempt: u32,
        to: usize,
    },
    Award {
        order: usize,
        attempt: u32,
        to: usize,
    },
    Reserved {
        order: usize,
        attempt: u32,
        from: usize,
    },
    Said {
        order: usize,
        attempt: u32,
        from: usize,
        what: Said,
    },
}

/// Durable records of a provider.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Refused(RefusalReason),
    Granted,
    Ready,
    Released,
}

/// A customer with one order and its durable records.
struct Customer {
    trip: Trip,
    past: Past,
}

/// A provider and its durable records, in the order written.
struct Provider {
    room: Allocator,
    records: Vec<(usize, u32, Said)>,
}

struct Mesh {
    now: u64,
    customers: Vec<Customer>,
    providers: Vec<Provider>,
    mail: Vec<Mail>,
    /// Every attempt that ever ran, with where, and whether it still does.
    runs: BTreeMap<(usize, u32, usize), bool>,
    dice: Dice,
}

const SLOTS: u32 = 1;
const SLOT: Amount = Amount {
    slots: 1,
    memory_mib: 1,
    cpu_millis: 1,
    disk_mib: 1,
};

fn total() -> Amount {
    Amount {
        slots: SLOTS,
        memory_mib: 9,
        cpu_millis: 9,
        disk_mib: 9,
    }
}

fn name_of(order: usize) -> RecordId {
    RecordId(Digest::of(&[order as u8]))
}

impl Mesh {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let room = || Provider {
            room: Allocator::new(total()),
            records: Vec::new(),
        };
        let providers = (0..3).map(|_| room()).collect();
        let customers = (0..1 + dice.roll(3))
            .map(|_| Customer {
                trip: Trip::new(plan(&mut dice), at(0)),
                past: Past::default(),
            })
            .collect();
        let (mail, runs) = (Vec::new(), BTreeMap::new());
        Self {
            now: 0,
            customers,
            providers,
            mail,
            runs,
            dice,
        }
    }

    fn customer_outputs(&mut self, order: usize) {
        let mut again = Vec::new();
        let Some(customer) = self.customers.get_mut(order) else {
            return;
        };
        while let Some(output) = customer.trip.poll_output() {
            match output {
                Output::Ask { attempt, candidate } => {
                    customer.past.asked = Some((attempt, candidate.node));
                    self.mail.push(Mail::Ask {
                        order,
                        attempt,
                        to: index(candidate.node),
                    });
                }
                Output::AskAgain { attempt, node } => {
                    self.mail.push(Mail::Ask {
                        order,
                        attempt,
                        to: index(node),
                    });
                }
                Output::Award { attempt, node } => {
                    customer.past.awarded = Some((attempt, node));
                    self.mail.push(Mail::Award {
                        order,
                        attempt,
                        to: index(node),
                    });
                }
                Output::AwardAgain { attempt, node } => {
                    self.mail.push(Mail::Award {
                        order,
                        attempt,
                        to: index(node),
                    });
                    again.push(index(node));
                }
                Output::State(_) => {}
            }
        }
        again
            .into_iter()
            .for_each(|provider| self.replicate(provider));
    }

    /// The ledger repairs itself: a provider's records travel again, as often as somebody asks.
    fn replicate(&mut self, from: usize) {
        for (order, attempt, what) in &self.providers[from].records {
            let (order, attempt, what) = (*order, *attempt, what.clone());
            self.mail.push(Mail::Said {
                order,
                attempt,
                from,
                what,
            });
        }
    }

    fn say(&mut self, from: usize, order: usize, attempt: u32, what: Said) {
        self.providers[from]
            .records
            .push((order, attempt, what.clone()));
        match what {
            Said::Granted => {
                assert_eq!(
                    self.runs.insert((order, attempt, from), true),
                    None,
                    "granted twice"
                );
            }
            Said::Released => {
                self.runs.insert((order, attempt, from), false);
            }
            _ => {}
        }
        self.mail.push(Mail::Said {
            order,
            attempt,
            from,
            what,
        });
        self.check();
    }

    /// The safety rule: nowhere more than it holds, and no order runs at two places.
    fn check(&self) {
        for order in 0..self.customers.len() {
            let live = self
                .runs
                .iter()
                .filter(|((of, _, _), live)| *of == order && **live);
            assert!(
                live.count() <= 1,
                "order {order} runs twice: {:?}",
                self.runs
            );
        }
        for provider in 0..self.providers.len() {
            let live = self
                .runs
                .iter()
                .filter(|((_, _, at), live)| *at == provider && **live);
            assert!(
                live.count() <= SLOTS as usize,
                "node {provider} granted too much"
            );
        }
    }

    fn deliver(&mut self, mail: Mail) {
        let now = at(self.now);
        match mail {
            Mail::Ask { order, attempt, to } => {
                let room = &mut self.providers[to].room;
                match room.reserve(name_of(order), attempt, SLOT, now.mono) {
                    Ok(_) => self.mail.push(Mail::Reserved {
                        order,
                        attempt,
                        from: to,
                    }),
                    Err(NoRoom::Short { what, .. }) => {
                        let reason = RefusalReason::NoCapacity { what };
                        self.say(to, order, attempt, Said::Refused(reason));
                    }
                    Err(_) => {}
                }
            }
            Mail::Award { order, attempt, to } => {
                match self.providers[to]
                    .room
                    .confirm(name_of(order), attempt, now.mono)
                {
                    Ok(Confirmed::New(_)) => self.say(to, order, attempt, Said::Granted),
                    Err(NotConfirmed::Lapsed) => {
                        self.say(to, order, attempt, Said::Refused(RefusalReason::Lapsed));
                    }
                    Ok(Confirmed::Before(_)) | Err(NotConfirmed::Closed) => {}
                }
            }
            Mail::Reserved {
                order,
                attempt,
                from,
            } => {
                let trip = &mut self.customers[order].trip;
                trip.handle_reservation(&node(from as u8), attempt, now);
            }
            Mail::Said {
                order,
                attempt,
                from,
                what,
            } => {
                let (trip, from) = (&mut self.customers[order].trip, node(from as u8));
                match what {
                    Said::Refused(reason) => trip.handle_refusal(&from, attempt, reason, now),
                    Said::Granted => trip.handle_grant(&from, attempt),
                    Said::Ready => trip.handle_ready(&from, attempt),
                    Said::Released => trip.handle_release(&from, attempt, now),
                }
            }
        }
    }

    /// A provider works on what it granted: ready, or given back.
    fn work(&mut self, provider: usize, may_fail: bool) {
        for order in 0..self.customers.len() {
            let Some(attempt) = self.providers[provider]
                .room
                .granted_attempt(&name_of(order))
            else {
                continue;
            };
            let said = (order, attempt, Said::Ready);
            if may_fail && self.dice.roll(3) == 0 {
                self.providers[provider]
                    .room
                    .release(name_of(order), attempt)
                    .unwrap();
                self.say(provider, order, attempt, Said::Released);
            } else if !self.providers[provider].records.contains(&said) {
                self.say(provider, order, attempt, Said::Ready);
            }
        }
    }

    fn restart_provider(&mut self, provider: usize) {
        let provider = &mut self.providers[provider];
        provider.room = Allocator::new(total());
        for (order, attempt, said) in &provider.records {
            match said {
                Said::Granted => provider.room.restore_grant(name_of(*order), *attempt, SLOT),
                Said::Refused(_) | Said::Released => {
                    provider.room.restore_closed(name_of(*order), *attempt);
                }
                Said::Ready => {}
            }
        }
    }

    fn restart_customer(&mut self, order: usize) {
        let candidates = plan(&mut self.dice);
        let customer = &mut self.customers[order];
        customer.trip = Trip::restore(customer.past, candidates, at(self.now));
    }

    /// One step of the schedule; `bad` allows loss, repetition, failures and restarts.
    fn step(&mut self, bad: bool) {
        let orders = self.customers.len() as u64;
        match self.dice.roll(20) {
            0..11 if !self.mail.is_empty() => {
                let at = self.dice.roll(self.mail.len() as u64) as usize;
                let mail = self.mail.swap_remove(at);
                if bad && self.dice.roll(4) == 0 {
                    self.mail.push(mail.clone());
                }
                if !bad || self.dice.roll(4) != 0 {
                    self.deliver(mail);
                }
            }
            11..15 => self.now += self.dice.roll(1_500),
            15 if bad => {
                let provider = self.dice.roll(3) as usize;
                self.restart_provider(provider);
            }
            16 if bad => {
                let order = self.dice.roll(orders) as usize;
                // What was decided but not written is lost with the restart.
                self.restart_customer(order);
            }
            16 if self.mail.is_empty() => {
                for provider in 0..self.providers.len() {
                    self.replicate(provider);
                }
            }
            17 => {
                let provider = self.dice.roll(3) as usize;
                self.work(provider, bad);
            }
            18 if bad => self.now += self.dice.roll(12_000),
            19 if bad && self.dice.roll(40) == 0 => {
                let order = self.dice.roll(orders) as usize;
                self.customers[order].past.unwanted = true;
                self.customers[order].trip.handle_unwanted();
            }
            _ => {}
        }
        for order in 0..self.customers.len() {
            self.customers[order].trip.handle_timer(at(self.now));
            if self.dice.roll(10) != 0 {
                self.customer_outputs(order);
            }
        }
    }
}

fn plan(dice: &mut Dice) -> Vec<Candidate> {
    (0..1 + dice.roll(5))
        .map(|_| candidate(node(dice.roll(3) as u8)))
        .collect()
}

fn index(of: NodeId) -> usize {
    (0..3).position(|byte| node(byte) == of).unwrap()
}

#[test]
fn no_order_ever_runs_twice_whatever_the_network_does() {
    let (mut ready, mut refused) = (0, 0);
    for seed in 0..4_000 {
        // Printed by the test runner only if it fails.
        println!("seed {seed}");
        let mut mesh = Mesh::new(seed);
        for _ in 0..250 {
            mesh.step(true);
        }
        for _ in 0..600 {
            mesh.step(false);
        }
        for customer in &mesh.customers {
            match customer.trip.state() {
                State::Ready => ready += 1,
                State::CannotPlace => refused += 1,
                State::Cancelled | State::Ended => {}
                stuck => panic!("seed {seed} ends with an order {stuck:?}"),
            }
        }
    }
    assert!(
        1_000 < ready && 500 < refused,
        "schedules reach both ends: {ready} {refused}"
    );
}
