//! The supervision against a small model of a driver and its operating system.

use std::collections::VecDeque;

use mesh_base::time::Wall;

use super::*;
use crate::promise::PromisePlan;
use crate::step::InstanceSpec;

const ITEM: ItemId = ItemId(Digest::from_bytes([7; 32]));
const RECIPE: Digest = Digest::from_bytes([9; 32]);

fn promise(name: &str, kind: Kind) -> PromisePlan {
    let (period, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
    PromisePlan {
        name: name.to_owned(),
        kind,
        period,
        timeout,
        fails: 2,
        window: 3,
    }
}

fn plan() -> Plan {
    Plan {
        spec: InstanceSpec {
            item: ITEM,
            name: "crm-db".to_owned(),
            recipe: RECIPE,
            address: "fd73::1".parse().unwrap(),
            values: Default::default(),
            memory_mib: 64,
            cpu_millis: 500,
            pids: 50,
        },
        promises: vec![
            promise("answers", Kind::Anomaly),
            promise("port", Kind::Test),
            promise("lag", Kind::Sense),
        ],
        ready_within: Duration::from_secs(20),
        meter_period: Duration::from_secs(10),
    }
}

/// What the operating system has of the instance, and how it will answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Nothing,
    Made,
    Runs,
}

/// A driver in which every step succeeds unless told otherwise.
struct Lab {
    now: Moment,
    memory: Option<Memory>,
    instance: Instance,
    slot: Slot,
    /// Answers on their way, with the time they arrive.
    answers: VecDeque<(Moment, Event)>,
    fail_software: bool,
    fail_start: bool,
    promise_holds: bool,
    delay: Duration,
    steps: Vec<String>,
    states: Vec<String>,
}

impl Lab {
    fn new() -> Self {
        let now = Moment(1_000_000);
        let mut lab = Self {
            now,
            memory: None,
            instance: Instance::new(plan(), at(now)),
            slot: Slot::Nothing,
            answers: VecDeque::new(),
            fail_software: false,
            fail_start: false,
            promise_holds: true,
            delay: Duration::from_millis(5),
            steps: Vec::new(),
            states: Vec::new(),
        };
        lab.drain();
        lab
    }

    /// Carries out what the machine asks; the world changes at once, answers come after the delay.
    fn drain(&mut self) {
        while let Some(step) = self.instance.poll_step() {
            let name = format!("{step:?}");
            self.steps
                .push(name.split([' ', '(']).next().unwrap().to_owned());
            if let Some(event) = self.carry_out(&step) {
                self.answers.push_back((self.now + self.delay, event));
            }
        }
        while let Some(fact) = self.instance.poll_fact() {
            if let Fact::State(state) = fact {
                self.states.push(state.to_string());
            }
        }
    }

    fn carry_out(&mut self, step: &Step) -> Option<Event> {
        let failed = |reason: &str| {
            Some(Event::Failed {
                item: ITEM,
                reason: reason.to_owned(),
            })
        };
        Some(match step {
            Step::Software { .. } if self.fail_software => Event::SoftwareFailed {
                recipe: RECIPE,
                reason: "no mirror answers".to_owned(),
            },
            Step::Software { .. } => Event::SoftwareReady {
                recipe: RECIPE,
                tree: Digest::of(b"t"),
            },
            Step::Create(_) => {
                assert_ne!(self.slot, Slot::Runs, "a running slot is never made again");
                self.slot = Slot::Made;
                Event::Created { item: ITEM }
            }
            Step::Start { .. } => {
                assert_ne!(self.slot, Slot::Nothing, "only a made slot is started");
                assert_eq!(self.instance.desire(), Desire::Running);
                if self.fail_start {
                    return failed("no memory");
                }
                self.slot = Slot::Runs;
                Event::Started { item: ITEM }
            }
            Step::Probe { promise, .. } => {
                let holds = self.slot == Slot::Runs && self.promise_holds;
                let said = || Verdict::Broken("connection refused".to_owned());
                let verdict = if holds { Verdict::Holds } else { said() };
                Event::Probed {
                    item: ITEM,
                    promise: promise.clone(),
                    verdict,
                }
            }
            Step::Stop { .. } => {
                if self.slot == Slot::Runs {
                    self.slot = Slot::Made;
                }
                Event::Stopped {
                    item: ITEM,
                    how: "exit 0".to_owned(),
                }
            }
            Step::Meter { .. } if self.slot == Slot::Nothing => return failed("no slot"),
            Step::Meter { .. } => Event::Metered {
                item: ITEM,
                meters: Meters::default(),
            },
            Step::Destroy { .. } => {
                assert_ne!(self.slot, Slot::Runs, "only a stopped slot is removed");
                self.slot = Slot::Nothing;
                Event::Destroyed { item: ITEM }
            }
        })
    }

    fn crash(&mut self) {
        if self.slot == Slot::Runs {
            self.slot = Slot::Made;
            let event = Event::Stopped {
                item: ITEM,
                how: "signal 9".to_owned(),
            };
            self.answers.push_back((self.now + self.delay, event));
        }
    }

    fn desire(&mut self, desire: Desire) {
        self.instance.handle_desire(desire, at(self.now));
        self.drain();
    }

    /// The daemon ends: what is under way is lost, what runs goes on.
    fn restart(&mut self) {
        self.answers.clear();
        let memory = self.instance.memory();
        self.memory = Some(memory.clone());
        self.instance = Instance::restore(plan(), memory, at(self.now));
        match self.slot {
            Slot::Runs => self
                .answers
                .push_back((self.now, Event::Started { item: ITEM })),
            Slot::Made => {
                let how = "reboot".to_owned();
                self.answers
                    .push_back((self.now, Event::Stopped { item: ITEM, how }));
            }
            Slot::Nothing => {}
        }
        self.drain();
    }

    /// Lets time pass; returns how many things happened.
    fn run(&mut self, span: Duration) -> usize {
        let end = self.now + span;
        let mut count = 0;
        loop {
            let answer = self.answers.iter().map(|(at, _)| *at).min();
            let next = answer
                .into_iter()
                .chain(self.instance.next_deadline())
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let due = self.answers.iter().position(|(at, _)| *at <= self.now);
            match due.and_then(|index| self.answers.remove(index)) {
                Some((_, event)) => self.instance.handle_event(&event, at(self.now)),
                None => self.instance.handle_timer(at(self.now)),
            }
            self.drain();
            count += 1;
            assert!(count < 200_000, "the machine is busy: {:?}", self.instance);
        }
        self.now = end;
        count
    }

    fn seconds(&mut self, seconds: u64) -> &mut Self {
        self.run(Duration::from_secs(seconds));
        self
    }

    #[track_caller]
    fn expect(&self, state: &str, slot: Slot) {
        assert_eq!(
            (self.instance.state().to_string().as_str(), self.slot),
            (state, slot)
        );
    }
}

fn at(mono: Moment) -> Now {
    Now {
        mono,
        wall: Wall(0),
    }
}

#[test]
fn cached_instance_is_ready_after_five_short_steps() {
    let mut lab = Lab::new();
    lab.run(Duration::from_millis(100));
    lab.expect("ready", Slot::Runs);
    let first: Vec<&str> = lab.steps.iter().map(String::as_str).take(5).collect();
    assert_eq!(first, ["Software", "Create", "Start", "Probe", "Probe"]);
    assert_eq!(
        lab.states,
        ["fetching software", "creating", "starting", "ready"]
    );
}

#[test]
fn stop_keeps_the_slot_and_destroy_takes_the_final_meter_first() {
    let mut lab = Lab::new();
    lab.seconds(1).desire(Desire::Stopped);
    lab.seconds(1).expect("stopped", Slot::Made);
    lab.desire(Desire::Running);
    lab.seconds(1).expect("ready", Slot::Runs);
    lab.steps.clear();
    lab.desire(Desire::Destroyed);
    lab.seconds(1).expect("destroyed", Slot::Nothing);
    assert_eq!(lab.steps, ["Stop", "Meter", "Destroy"]);
    lab.desire(Desire::Running);
    lab.seconds(100).expect("destroyed", Slot::Nothing);
    assert_eq!(lab.instance.next_deadline(), None);
}

#[test]
fn crash_is_restarted_after_a_growing_rest() {
    let mut lab = Lab::new();
    let mut rests = Vec::new();
    for _ in 0..8 {
        lab.seconds(1).expect("ready", Slot::Runs);
        lab.crash();
        let crashed = lab.now;
        while lab.slot != Slot::Runs {
            lab.run(Duration::from_millis(100));
        }
        rests.push(lab.now.since(crashed).as_secs());
    }
    assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
    lab.seconds(61).crash();
    lab.run(Duration::from_millis(1_500));
    lab.expect("ready", Slot::Runs);
}

#[test]
fn crashed_instance_is_degraded_until_it_is_ready_again() {
    let mut lab = Lab::new();
    lab.seconds(1).crash();
    lab.run(Duration::from_millis(500));
    lab.expect("degraded: it ended by itself: signal 9", Slot::Made);
    lab.seconds(1).expect("ready", Slot::Runs);
}

#[test]
fn start_that_always_fails_is_given_up_and_can_be_tried_again() {
    let mut lab = Lab::new();
    lab.fail_start = true;
    lab.seconds(60).expect("failed: no memory", Slot::Made);
    assert_eq!(
        lab.steps.iter().filter(|step| *step == "Start").count(),
        ATTEMPTS_MAX as usize
    );
    lab.fail_start = false;
    lab.desire(Desire::Running);
    lab.seconds(1).expect("ready", Slot::Runs);
}

#[test]
fn software_that_cannot_be_had_is_given_up_with_the_drivers_sentence() {
    let mut lab = Lab::new();
    lab.fail_software = true;
    lab.restart();
    lab.seconds(60);
    lab.expect(
        "failed: the software could not be had: no mirror answers",
        Slot::Nothing,
    );
    lab.desire(Desire::Destroyed);
    lab.seconds(1).expect("destroyed", Slot::Nothing);
}

#[test]
fn promises_that_never_hold_end_in_failure_with_nothing_running() {
    let mut lab = Lab::new();
    lab.promise_holds = false;
    lab.seconds(300);
    let state = "failed: promise \"answers\" did not hold in time: connection refused";
    lab.expect(state, Slot::Made);
}

#[test]
fn fallen_promise_is_repaired_three_times_and_then_left_degraded() {
    let mut lab = Lab::new();
    lab.seconds(1).steps.clear();
    for _ in 0..6 {
        // After each restart it holds, and falls soon after.
        lab.promise_holds = true;
        lab.seconds(2).promise_holds = false;
        lab.seconds(18);
    }
    lab.expect(
        "degraded: promise \"answers\" is broken: connection refused",
        Slot::Runs,
    );
    let restarts = lab.steps.iter().filter(|step| *step == "Start").count();
    assert_eq!(restarts, REPAIRS_MAX as usize);
    lab.promise_holds = true;
    lab.seconds(20).expect("ready", Slot::Runs);
}

#[test]
fn sense_that_is_broken_changes_nothing() {
    let mut lab = Lab::new();
    lab.seconds(1);
    for _ in 0..10 {
        lab.instance.handle_event(
            &Event::Probed {
                item: ITEM,
                promise: "lag".to_owned(),
                verdict: Verdict::Broken("3 s".to_owned()),
            },
            at(lab.now),
        );
    }
    lab.expect("ready", Slot::Runs);
}

#[test]
fn silent_driver_is_asked_again() {
    let mut lab = Lab::new();
    lab.seconds(1).desire(Desire::Stopped);
    lab.answers.clear();
    lab.seconds(1);
    assert_eq!(lab.instance.state(), &State::Stopping);
    lab.run(PATIENCE);
    lab.expect("stopped", Slot::Made);
}

#[test]
fn silent_probe_counts_as_broken() {
    let mut lab = Lab::new();
    lab.seconds(1);
    for _ in 0..40 {
        // Every answer to a probe is lost from now on.
        lab.run(Duration::from_millis(500));
        lab.answers.clear();
        lab.delay = Duration::from_secs(600);
    }
    assert!(matches!(
        lab.instance.state(),
        State::Degraded(Trouble::Broken { .. })
    ));
}

#[test]
fn slot_in_which_nothing_was_ever_started_is_started_soon_after_a_restart() {
    // Killed between the slot and the start: the driver says that there is a slot, or nothing.
    for said in [vec![Event::Created { item: ITEM }], Vec::new()] {
        let mut lab = Lab::new();
        lab.run(Duration::from_millis(12));
        assert_eq!(lab.instance.state(), &State::Starting);
        lab.slot = Slot::Made;
        lab.restart();
        lab.answers = said.into_iter().map(|event| (lab.now, event)).collect();
        lab.run(ADOPTION + Duration::from_secs(1));
        lab.expect("ready", Slot::Runs);
    }
}

#[test]
fn running_instance_is_adopted_without_a_new_start() {
    let mut lab = Lab::new();
    lab.seconds(1).steps.clear();
    lab.states.clear();
    lab.restart();
    lab.seconds(4).expect("ready", Slot::Runs);
    assert!(
        !lab.steps
            .iter()
            .any(|step| step == "Start" || step == "Create")
    );
    assert!(
        lab.states.is_empty(),
        "the customer sees nothing of it: {:?}",
        lab.states
    );
}

#[test]
fn instance_that_ended_while_the_daemon_was_away_is_started_at_once() {
    let mut lab = Lab::new();
    lab.seconds(1);
    lab.slot = Slot::Made;
    lab.restart();
    lab.run(Duration::from_millis(200));
    lab.expect("ready", Slot::Runs);
}

#[test]
fn reports_about_others_change_nothing() {
    let mut lab = Lab::new();
    lab.seconds(1);
    let other = ItemId(Digest::of(b"other"));
    for event in [
        Event::Stopped {
            item: other,
            how: "exit 1".to_owned(),
        },
        Event::SoftwareFailed {
            recipe: Digest::of(b"other"),
            reason: String::new(),
        },
        Event::Destroyed { item: ITEM },
        Event::Probed {
            item: ITEM,
            promise: "nobody's".to_owned(),
            verdict: Verdict::Holds,
        },
    ] {
        lab.instance.handle_event(&event, at(lab.now));
    }
    lab.drain();
    lab.expect("ready", Slot::Runs);
}

/// A small generator, so that a failing schedule can be run again from its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The reference model: wherever a schedule of commands and faults leads, once faults end the world
/// is as the last lawful desire says. The driver model asserts the order of steps on the way.
#[test]
fn whatever_happens_the_world_ends_as_desired() {
    for seed in 0..1_500 {
        // Printed by the test runner only if it fails.
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let mut lab = Lab::new();
        let mut wanted = Desire::Running;
        for _ in 0..30 {
            match dice.roll(12) {
                0 => lab.crash(),
                1 => lab.restart(),
                2 => lab.promise_holds = dice.roll(2) == 0,
                3 => lab.fail_start = dice.roll(3) == 0,
                4 => lab.fail_software = dice.roll(3) == 0,
                5 => lab.delay = Duration::from_millis(1 + dice.roll(3_000)),
                6 => lab.answers.extend(lab.answers.clone()),
                7 if dice.roll(3) == 0 => lab.answers.clear(),
                8 => {
                    lab.instance.meter_now();
                    lab.drain();
                }
                9 | 10 => {
                    let desire = match dice.roll(12) {
                        0 => Desire::Destroyed,
                        1..6 => Desire::Stopped,
                        _ => Desire::Running,
                    };
                    lab.desire(desire);
                    if wanted != Desire::Destroyed {
                        wanted = desire;
                    }
                }
                _ => {
                    lab.run(Duration::from_millis(dice.roll(20_000)));
                }
            }
            if lab.instance.state() == &State::Ready {
                assert_eq!(lab.instance.desire(), Desire::Running, "seed {seed}");
            }
        }
        (lab.promise_holds, lab.fail_start, lab.fail_software) = (true, false, false);
        lab.delay = Duration::from_millis(5);
        lab.seconds(1_300);
        if matches!(lab.instance.state(), State::Failed(_)) {
            lab.desire(Desire::Running);
            lab.seconds(600);
        }
        let (state, slot) = match wanted {
            Desire::Running => (State::Ready, Slot::Runs),
            Desire::Stopped => (State::Stopped, lab.slot),
            Desire::Destroyed => (State::Destroyed, Slot::Nothing),
        };
        assert_eq!(
            (lab.instance.state(), lab.slot),
            (&state, slot),
            "seed {seed}"
        );
        assert!(
            wanted == Desire::Running || lab.slot != Slot::Runs,
            "seed {seed}"
        );
        let count = lab.run(Duration::from_secs(100));
        assert!(
            count < 200,
            "seed {seed}: {count} things in 100 quiet seconds"
        );
    }
}
