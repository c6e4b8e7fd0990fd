//! Being leader: rounds of beats, who answered which, and how long that lasts.
//!
//! Invariant: a lease is counted from when the round was *sent* that a majority answered. Each
//! of them promised from when it was received, which is later.

use std::collections::{BTreeMap, VecDeque};

use mesh_base::digest::Digest;
use mesh_base::time::Moment;

use super::machine::{Election, Office};
use super::timing::{BEAT, OFFICE};
use super::voters::Voters;
use super::wire::Body;
use super::words::{Heads, Term, Voter};

/// Rounds whose answers still count: as many as an office without answers lasts.
pub const ROUNDS_MAX: usize = 20;

/// What a leader knows of those who follow it.
#[derive(Debug)]
pub(super) struct Reign {
    pub term: Term,
    /// What its first record covers.
    pub inheritance: Heads,
    round: u64,
    sent: VecDeque<(u64, Moment)>,
    /// When the latest round was sent that a voter answered.
    answered: BTreeMap<Voter, Moment>,
    held: BTreeMap<Voter, Heads>,
    beat_at: Moment,
    since: Moment,
}

impl Reign {
    pub fn new(term: Term, inheritance: Heads, now: Moment) -> Self {
        Self {
            term,
            inheritance,
            round: 0,
            sent: VecDeque::new(),
            answered: BTreeMap::new(),
            held: BTreeMap::new(),
            beat_at: now,
            since: now,
        }
    }

    /// Begins a round.
    fn begin(&mut self, now: Moment) {
        self.round = self.round.saturating_add(1);
        if self.sent.len() == ROUNDS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.round, now));
        self.beat_at = now + BEAT;
    }

    /// Notes an answer. Returns false if the round is not known any more.
    pub fn note(&mut self, voter: Voter, round: u64, heads: Option<&Heads>) -> bool {
        let mut sent = self.sent.iter();
        let Some((_, moment)) = sent.find(|(number, _)| *number == round) else {
            return false;
        };
        let answered = self.answered.entry(voter).or_insert(*moment);
        *answered = (*answered).max(*moment);
        if let Some(heads) = heads {
            // Not joined: what a voter says may not grow from answer to answer.
            self.held.insert(voter, heads.clone());
        }
        true
    }

    /// Returns when the latest round was sent that a majority answered.
    pub fn answered(&self, voters: &Voters, me: &Voter, now: Moment) -> Option<Moment> {
        voters.reached(|voter| match voter == me {
            true => Some(now),
            false => self.answered.get(voter).copied(),
        })
    }

    /// Returns what a voter is known to have on its disk.
    pub fn held(&self, voter: &Voter) -> Option<&Heads> {
        self.held.get(voter)
    }

    pub fn beat_at(&self) -> Moment {
        self.beat_at
    }

    /// Forgets those whom the charter does not name.
    pub fn keep(&mut self, voters: &Voters) {
        self.answered
            .retain(|voter, _| voters.part_of(voter).is_some());
        self.held.retain(|voter, _| voters.part_of(voter).is_some());
    }

    fn known(&self, voter: &Voter) -> Digest {
        self.held
            .get(voter)
            .map_or_else(Digest::default, Heads::digest)
    }
}

impl Election {
    /// Speaks to everybody.
    pub(super) fn beat(&mut self, now: Moment) {
        let Office::Leading(reign) = &mut self.office else {
            return;
        };
        reign.begin(now);
        let (round, term) = (reign.round, reign.term);
        let others: Vec<(Voter, Digest)> = self
            .voters
            .iter()
            .filter(|voter| *voter != self.me)
            .map(|voter| (voter, reign.known(&voter)))
            .collect();
        for (voter, known) in others {
            self.send(voter, term, Body::Beat { round, known });
        }
    }

    /// Steps down if no majority has answered for as long as an office lasts.
    pub(super) fn end_if_silent(&mut self, now: Moment) {
        let Office::Leading(reign) = &self.office else {
            return;
        };
        let answered = reign.answered(&self.voters, &self.me, now);
        if answered.unwrap_or(reign.since) + OFFICE <= now {
            self.follow(None, now);
        }
    }
}
