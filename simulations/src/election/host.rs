//! A voter's machine: its disk, its clock, and whether it sleeps.

use std::collections::VecDeque;
use std::time::Duration;

use mesh_base::time::Moment;
use mesh_federation::election::ballot::Ballot;
use mesh_federation::election::machine::{Election, Position};
use mesh_federation::election::wire::Message;
use mesh_federation::election::words::{Heads, Term};

use super::bully::Bully;

/// What waits for a sleeper, at most: a socket's buffer.
pub const MAIL_MAX: usize = 256;

/// A clock of the machine: counts from an own start, at an own speed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Ahead of true time, in microseconds.
    pub ahead: u64,
    /// Parts in a million too fast.
    pub ppm: i64,
}

impl Clock {
    /// Returns what it shows.
    pub fn shows(self, truth: Moment) -> Moment {
        let drift = i128::from(truth.0) * i128::from(self.ppm) / 1_000_000;
        let micros = i128::from(truth.0) + i128::from(self.ahead) + drift;
        Moment(u64::try_from(micros).unwrap_or_default())
    }

    /// Returns when it will show at least this.
    pub fn when(self, shown: Moment) -> Moment {
        let micros = i128::from(shown.0) - i128::from(self.ahead);
        let truth = micros * 1_000_000 / (1_000_000 + i128::from(self.ppm));
        let mut truth = Moment(u64::try_from(truth).unwrap_or_default());
        while self.shows(truth) < shown {
            truth = truth + Duration::from_micros(1);
        }
        truth
    }
}

/// What travels between machines.
#[derive(Debug, Clone)]
pub enum Word {
    /// Of the election.
    Election(Message),
    /// A record of the leader's term.
    Record(Term, u64),
    /// A bully is alive.
    Alive,
}

/// Who decides on a machine.
#[derive(Debug)]
pub enum Mind {
    /// Nobody: it is down.
    Down,
    /// Our core.
    Voter(Box<Election>),
    /// The comparator.
    Bully(Bully),
}

/// A machine.
#[derive(Debug)]
pub struct Host {
    pub mind: Mind,
    pub clock: Clock,
    /// On disk.
    pub ballot: Ballot,
    pub heads: Heads,
    /// Written, not on disk yet.
    pub unsaved: Option<(Position, Ballot)>,
    pub saved: Position,
    /// Waits for the disk.
    pub waiting: VecDeque<(Position, usize, Word)>,
    pub is_writing: bool,
    /// Counts starts, so that events of a life before mean nothing.
    pub life: u64,
    pub sleeps: bool,
    pub mail: VecDeque<(usize, Word)>,
    /// When the next `Due` comes, in true time.
    pub due_at: Option<Moment>,
    /// Records written in its present term.
    pub written: (Term, u64),
}

impl Host {
    pub fn new(clock: Clock) -> Self {
        Self {
            mind: Mind::Down,
            clock,
            ballot: Ballot::default(),
            heads: Heads::default(),
            unsaved: None,
            saved: Position(0),
            waiting: VecDeque::new(),
            is_writing: false,
            life: 0,
            sleeps: false,
            mail: VecDeque::new(),
            due_at: None,
            written: (Term(0), 0),
        }
    }

    /// Returns our core, if it runs.
    pub fn voter(&mut self) -> Option<&mut Election> {
        match &mut self.mind {
            Mind::Voter(election) => Some(election),
            Mind::Down | Mind::Bully(_) => None,
        }
    }

    /// Returns whether it has no power.
    pub fn is_down(&self) -> bool {
        matches!(self.mind, Mind::Down)
    }

    /// Returns whether it may act as leader, or believes so.
    pub fn leads(&self, truth: Moment) -> bool {
        let now = self.clock.shows(truth);
        match &self.mind {
            Mind::Voter(election) => election.lease(now).is_some(),
            Mind::Bully(bully) => bully.leads(now),
            Mind::Down => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_shows_at_the_moment_that_it_names() {
        for ppm in [-900, 0, 200, 50_000] {
            let clock = Clock { ahead: 77, ppm };
            let truth = clock.when(Moment(5_000_001));
            assert!(Moment(5_000_001) <= clock.shows(truth));
            assert!(clock.shows(Moment(truth.0 - 2)) < Moment(5_000_001));
        }
    }
}
