//! Every fault at once: what must hold at every event, and a leader within a bound afterwards.

use std::time::Duration;

use mesh_federation::election::voters::Part;

use super::check::LED;
use super::line::Climate;
use super::plant::Bug;
use super::tally::{Fault, Tally};
use super::world::{Kind, Plan, World};
use crate::chance::Chance;
use crate::check::Violation;

/// Faults of a run, one after the other; many of them last beside the next ones.
const FAULTS: u64 = 150;
/// How often leaders work, and who leads is looked at.
const WORK: Duration = Duration::from_millis(50);
/// How wrong wild clocks are: from little more than half the speed to nearly half as fast again.
const WILD_PPM: i64 = 400_000;
/// How long a crash waits for somebody who writes.
const WRITES_WITHIN: Duration = Duration::from_secs(2);
/// A healed group has a leader within this.
const LED_WITHIN: Duration = Duration::from_secs(20);

/// What came of a storm.
#[derive(Debug, Default)]
pub struct Weathered {
    pub hash: u64,
    pub tally: Tally,
    pub violation: Option<Violation>,
    /// Looks, and how many of them saw two leaders, and none.
    pub looks: u64,
    pub split: u64,
    pub unled: u64,
    pub micros: u64,
}

/// Runs a storm.
pub fn run(seed: u64, kind: Kind, bug: Option<Bug>) -> Weathered {
    let mut chance = Chance::new(seed, "election storm");
    let mut parts = vec![Part::Leader; if chance.permille(300) { 5 } else { 3 }];
    if let Some(last) = parts.last_mut().filter(|_| chance.permille(500)) {
        *last = Part::Witness;
    }
    let is_wild = chance.permille(150);
    let mut world = World::new(Plan {
        seed,
        kind,
        parts,
        climate: Climate {
            loss: chance.between(0, 200),
            burst_every: Duration::from_secs(10),
            twice: 20,
            late: 10,
        },
        ppm: if is_wild { WILD_PPM } else { 900 },
        bug,
    });
    if is_wild {
        world.tally.fault(Fault::Wild);
    }
    let mut seen = Weathered::default();
    pass(&mut world, Duration::from_secs(4), &mut seen);
    for _ in 0..FAULTS {
        disturb(&mut world, &mut chance);
        let longest = if chance.permille(200) { 6000 } else { 900 };
        let pause = chance.span(Duration::ZERO, Duration::from_millis(longest));
        pass(&mut world, pause, &mut seen);
        if world.check.broken.is_some() {
            break;
        }
    }
    recover(&mut world, &mut seen);
    seen.hash = world.hash();
    seen.micros = world.now().0;
    seen.tally = world.tally;
    seen.violation = world.check.broken;
    seen
}

fn recover(world: &mut World, seen: &mut Weathered) {
    if world.check.broken.is_some() {
        return;
    }
    world.heal();
    *world.climate() = Climate::lossy(10);
    let healed = world.now();
    while world.leaders().next().is_none() && world.check.broken.is_none() {
        if LED_WITHIN < world.now().since(healed) {
            world.check.fail(LED, "nobody leads".to_owned());
        }
        pass(world, WORK, &mut Weathered::default());
    }
    pass(world, Duration::from_secs(3), seen);
}

/// Lets time pass, leaders work, and looks who leads.
fn pass(world: &mut World, time: Duration, seen: &mut Weathered) {
    let end = world.now() + time;
    while world.now() < end && world.check.broken.is_none() {
        world.run(WORK.min(end.since(world.now())));
        world.work();
        seen.looks += 1;
        match world.leaders().count() {
            0 => seen.unled += 1,
            1 => {}
            _ => seen.split += 1,
        }
    }
}

fn disturb(world: &mut World, chance: &mut Chance) {
    let (count, leader) = (world.count(), world.leaders().next());
    // Where it hurts: the leader, more often than not.
    let drawn = chance.index(count);
    let victim = leader.filter(|_| chance.permille(600)).unwrap_or(drawn);
    let other = (victim + 1 + chance.index(count - 1)) % count;
    match chance.below(12) {
        0 | 1 => {
            if !matches!(world.hosts.get(victim), Some(host) if host.is_down()) {
                world.crash(victim);
            }
        }
        2 | 3 => start_all(world),
        4 => world.sleep(victim),
        5 => (0..count).for_each(|at| world.wake(at)),
        6 => {
            world.tally.fault(Fault::OneWay);
            world.cut(victim, other, true);
        }
        7 => {
            world.tally.fault(Fault::Partial);
            world.cut(victim, other, true);
            world.cut(other, victim, true);
        }
        8 => {
            world.tally.fault(Fault::Isolated);
            world.isolate(victim, true);
        }
        9 => halve(world, chance),
        10 => crash_while_writing(world),
        _ => world.hand_over(other),
    }
    if chance.permille(350) {
        mend(world);
    }
}

/// Takes the power from who writes a ballot, if somebody does soon.
fn crash_while_writing(world: &mut World) {
    let end = world.now() + WRITES_WITHIN;
    while world.check.broken.is_none() {
        if let Some(at) = world.hosts.iter().position(|host| host.is_writing) {
            return world.crash(at);
        }
        if !world.step(end) {
            return;
        }
    }
}

fn start_all(world: &mut World) {
    for at in 0..world.count() {
        if matches!(world.hosts.get(at), Some(host) if host.is_down()) {
            world.start(at);
        }
    }
}

fn mend(world: &mut World) {
    (0..world.count()).for_each(|at| world.isolate(at, false));
}

fn halve(world: &mut World, chance: &mut Chance) {
    world.tally.fault(Fault::Partition);
    let sides: Vec<bool> = (0..world.count()).map(|_| chance.permille(500)).collect();
    for (from, one) in sides.iter().enumerate() {
        for (to, other) in sides.iter().enumerate() {
            world.cut(from, to, one != other);
        }
    }
}
