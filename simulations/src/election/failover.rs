//! How long a group is without a leader after its leader failed, again and again.
//!
//! The leader crashes, sleeps, or is cut off; counted is the time until another one has a lease.
//! Then the old one returns, all are together for a while, and the next one fails.

use std::time::Duration;

use mesh_federation::election::voters::Part;

use super::line::Climate;
use super::plant::Bug;
use super::tally::{Fault, Tally};
use super::world::{Kind, Plan, World};
use crate::chance::Chance;
use crate::check::Violation;

/// Fail-overs longer than this are counted as that long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// One fail-over each, in microseconds.
    pub micros: Vec<u64>,
    /// Leaders that changed although none had failed.
    pub unasked: u64,
    pub hash: u64,
    pub tally: Tally,
    pub violation: Option<Violation>,
}

/// How a leader fails.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Crash,
    Sleep,
    Isolation,
}

/// Lets the leaders of three voters fail `count` times.
pub fn run(seed: u64, kind: Kind, loss: u64, count: u64, bug: Option<Bug>) -> Measured {
    let mut world = World::new(Plan {
        seed,
        kind,
        parts: vec![Part::Leader; 3],
        climate: Climate::lossy(loss),
        ppm: 200,
        bug,
    });
    let mut chance = Chance::new(seed, "election failover");
    let mut measured = Measured::default();
    wait_for_leader(&mut world, None);
    for _ in 0..count {
        let before = world.leaders().next();
        let calm = chance.span(Duration::from_millis(1500), Duration::from_secs(3));
        world.run(calm);
        let leader = wait_for_leader(&mut world, None);
        measured.unasked += u64::from(leader != before);
        let Some(leader) = leader else {
            break;
        };
        let failure = fail(&mut world, leader, &mut chance);
        let failed_at = world.now();
        wait_for_leader(&mut world, Some(leader));
        let micros = world.now().since(failed_at).as_micros();
        measured
            .micros
            .push(u64::try_from(micros).unwrap_or(u64::MAX));
        let pause = chance.span(Duration::ZERO, Duration::from_millis(500));
        world.run(pause);
        mend(&mut world, leader, failure);
        if world.check.broken.is_some() {
            break;
        }
    }
    measured.hash = world.hash();
    measured.tally = world.tally;
    measured.violation = world.check.broken;
    measured
}

/// Waits until somebody leads who is not `except`.
fn wait_for_leader(world: &mut World, except: Option<usize>) -> Option<usize> {
    let end = world.now() + PATIENCE;
    loop {
        let leader = world.leaders().find(|leader| Some(*leader) != except);
        if leader.is_some() || !world.step(end) || world.check.broken.is_some() {
            return leader;
        }
    }
}

fn fail(world: &mut World, leader: usize, chance: &mut Chance) -> Failure {
    let failure = match chance.below(10) {
        0..6 => Failure::Crash,
        6..8 => Failure::Sleep,
        _ => Failure::Isolation,
    };
    match failure {
        Failure::Crash => world.crash(leader),
        Failure::Sleep => world.sleep(leader),
        Failure::Isolation => {
            world.tally.fault(Fault::Isolated);
            world.isolate(leader, true);
        }
    }
    failure
}

fn mend(world: &mut World, leader: usize, failure: Failure) {
    match failure {
        Failure::Crash => world.start(leader),
        Failure::Sleep => world.wake(leader),
        Failure::Isolation => world.isolate(leader, false),
    }
}
