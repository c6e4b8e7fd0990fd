//! Who leads for eight hours in which nobody fails: one, whatever the loss, and although the link
//! between the leader and one follower comes and goes.

use std::time::Duration;

use mesh_base::time::Moment;
use mesh_federation::election::voters::Part;

use super::line::Climate;
use super::plant::Bug;
use super::tally::Fault;
use super::world::{Kind, Plan, World};
use crate::chance::Chance;
use crate::check::Violation;

/// The promise.
pub const QUIET: &str = "a leader that a majority hears stays leader";

/// How long a cell lasts.
pub const SHIFT: Duration = Duration::from_secs(8 * 3600);

/// What is wrong all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Only loss.
    Loss,
    /// The leader and one follower do not hear each other, for ten seconds to a minute, again and
    /// again.
    HalfBroken,
    /// The follower does not hear the leader.
    OneWay,
}

/// One cell of the table.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Datagrams lost of a thousand.
    pub loss: u64,
    /// What else.
    pub trouble: Trouble,
}

/// What the bar asks for.
pub const CELLS: [Cell; 6] = [
    Cell {
        loss: 10,
        trouble: Trouble::Loss,
    },
    Cell {
        loss: 50,
        trouble: Trouble::Loss,
    },
    Cell {
        loss: 100,
        trouble: Trouble::Loss,
    },
    Cell {
        loss: 200,
        trouble: Trouble::Loss,
    },
    Cell {
        loss: 10,
        trouble: Trouble::HalfBroken,
    },
    Cell {
        loss: 10,
        trouble: Trouble::OneWay,
    },
];

/// What came of a cell.
#[derive(Debug)]
pub struct Shift {
    pub cell: Cell,
    /// Terms won after the first leader was there.
    pub changes: u64,
    /// Datagrams sent.
    pub sent: u64,
    pub violation: Option<Violation>,
}

/// Runs a cell for so long.
pub fn run(seed: u64, cell: Cell, time: Duration, bug: Option<Bug>) -> Shift {
    let mut world = World::new(Plan {
        seed,
        kind: Kind::Ours,
        parts: vec![Part::Leader; 3],
        climate: Climate::lossy(cell.loss),
        ppm: 200,
        bug,
    });
    let mut chance = Chance::new(seed, "election steady");
    world.run(Duration::from_secs(10));
    let first = world.wins;
    let end = world.now() + time;
    match cell.trouble {
        Trouble::Loss => world.run(time),
        Trouble::HalfBroken | Trouble::OneWay => flap(&mut world, cell, end, &mut chance),
    }
    let changes = world.wins - first;
    if 0 < changes {
        let seen = format!("{changes} terms won in {time:?} with {cell:?}");
        world.check.fail(QUIET, seen);
    }
    Shift {
        cell,
        changes,
        sent: world.sent(),
        violation: world.check.broken,
    }
}

fn flap(world: &mut World, cell: Cell, end: Moment, chance: &mut Chance) {
    let broken = Duration::from_secs(10)..Duration::from_secs(60);
    let whole = Duration::from_secs(1)..Duration::from_secs(20);
    while world.now() < end && world.check.broken.is_none() {
        let leader = world.leaders().next();
        if let Some(leader) = leader {
            let follower = (leader + 1) % world.count();
            let is_half = cell.trouble == Trouble::HalfBroken;
            world.tally.fault(Fault::Partial);
            world.cut(leader, follower, true);
            world.cut(follower, leader, is_half);
            world.run(chance.span(broken.start, broken.end));
            world.cut(leader, follower, false);
            world.cut(follower, leader, false);
        }
        world.run(chance.span(whole.start, whole.end));
    }
}
