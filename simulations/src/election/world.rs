//! The shell around voters in virtual time: datagrams, disks, clocks, sleep.
//!
//! Decides nothing of an election. What a voter wants done is done; what waits for its disk leaves
//! after the disk. Invariant: after each event the checkers have seen who leads.

use std::sync::LazyLock;
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_base::time::Moment;
use mesh_federation::election::ballot::Ballot;
use mesh_federation::election::fence::Fence;
use mesh_federation::election::machine::{
    Effect, Election, Event, Output, Position, Refusal, Start,
};
use mesh_federation::election::voters::{Part, Voters};
use mesh_federation::election::wire::{Body, Message};
use mesh_federation::election::words::{Group, Head, Heads, Term, Version, Voter};

use super::bully::Bully;
use super::check::{Check, Place};
use super::host::{Clock, Host, MAIL_MAX, Mind, Word};
use super::line::{Climate, Line};
use super::plant::Bug;
use super::tally::{Fault, Sometimes, Tally};
use crate::agenda::Agenda;
use crate::chance::Chance;

/// Most voters of a run.
const VOTERS: u8 = 5;

static NODES: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
    let keys = (1..=VOTERS).map(|byte| SecretKey::from_seed([byte; 32]).public());
    keys.map(NodeId).collect()
});
static GROUP: LazyLock<Group> = LazyLock::new(|| Group(Digest::of(b"group")));
static BOOKS: LazyLock<Digest> = LazyLock::new(|| Digest::of(b"books"));

/// Every so many datagrams one goes through its bytes.
const BYTES_EVERY: u64 = 64;

/// Who runs the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Our core.
    Ours,
    /// The comparator.
    Bully,
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub kind: Kind,
    pub parts: Vec<Part>,
    pub climate: Climate,
    /// How wrong clocks may be, in parts of a million.
    pub ppm: i64,
    pub bug: Option<Bug>,
}

#[derive(Debug)]
enum Happening {
    Arrive(usize, usize, Word),
    Due(usize, u64),
    Saved(usize, u64, Position, Ballot),
    Stored(usize, u64, Term, u64),
    Executed(Term),
}

/// Voters and what lies between them.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    agenda: Agenda<Happening>,
    pub hosts: Vec<Host>,
    lines: Vec<Line>,
    chance: Chance,
    fence: Fence,
    pub check: Check,
    pub tally: Tally,
    hash: u64,
    sent: u64,
    last_winner: Option<usize>,
    pub wins: u64,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut chance = Chance::new(plan.seed, "election world");
        let count = plan.parts.len();
        let width = u64::try_from(plan.ppm * 2).unwrap_or_default();
        let hosts = (0..count).map(|_| {
            let drawn = i64::try_from(chance.between(0, width)).unwrap_or_default();
            Host::new(Clock {
                ahead: chance.below(1_000_000_000),
                ppm: drawn - plan.ppm,
            })
        });
        let mut world = Self {
            hosts: hosts.collect(),
            lines: (0..count * count).map(|_| Line::new()).collect(),
            agenda: Agenda::new(),
            chance,
            fence: Fence::default(),
            check: Check::default(),
            tally: Tally::default(),
            hash: 0xcbf2_9ce4_8422_2325,
            sent: 0,
            last_winner: None,
            wins: 0,
            plan,
        };
        (0..count).for_each(|at| world.start(at));
        world
    }

    pub fn now(&self) -> Moment {
        self.agenda.now()
    }

    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns how many datagrams were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn climate(&mut self) -> &mut Climate {
        &mut self.plan.climate
    }

    /// Returns who leads and is awake.
    pub fn leaders(&self) -> impl Iterator<Item = usize> {
        let now = self.now();
        let all = self.hosts.iter().enumerate();
        let awake = all.filter(move |(_, host)| !host.sleeps && host.leads(now));
        awake.map(|(at, _)| at)
    }

    /// Lets one event happen, if one comes before `end`. Returns whether it did.
    pub fn step(&mut self, end: Moment) -> bool {
        if self.agenda.next_at().is_none_or(|at| end < at) {
            // Time passes all the same.
            self.agenda.pass(end);
            return false;
        }
        if let Some((_, happening)) = self.agenda.pop() {
            self.happen(happening);
        }
        true
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.check.broken.is_none() && self.step(end) {}
    }

    /// Starts a machine with what is on its disk.
    pub fn start(&mut self, at: usize) {
        let (kind, count, truth) = (self.plan.kind, self.count(), self.now());
        let all = self.plan.parts.iter().enumerate();
        let voters = Voters::new(Version(1), all.map(|(at, part)| (voter(at), *part)));
        let seed = self.chance.below(u64::MAX);
        let Some(host) = self.hosts.get_mut(at) else {
            return;
        };
        host.life += 1;
        host.due_at = None;
        host.saved = Position(0);
        host.sleeps = false;
        let now = host.clock.shows(truth);
        host.mind = match (kind, voters) {
            (Kind::Ours, Ok(voters)) => Mind::Voter(Box::new(Election::new(
                Start {
                    group: *GROUP,
                    me: voter(at),
                    voters,
                    ballot: host.ballot,
                    heads: host.heads.clone(),
                    seed,
                },
                now,
            ))),
            _ => Mind::Bully(Bully::new(at, count, &mut self.chance, now)),
        };
        self.after(at);
    }

    /// Takes the power away; what was on its way to the disk may or may not be there.
    pub fn crash(&mut self, at: usize) {
        let landed = self.chance.permille(500);
        let keeps = self.plan.bug != Some(Bug::VoteNotPersisted);
        let Some(host) = self.hosts.get_mut(at) else {
            return;
        };
        host.mind = Mind::Down;
        host.life += 1;
        host.mail.clear();
        host.waiting.clear();
        host.written = (Term(0), 0);
        if let Some((_, ballot)) = host.unsaved.take() {
            if landed && keeps {
                host.ballot = ballot;
            } else {
                self.tally.fault(Fault::Unsaved);
            }
        }
        host.is_writing = false;
        self.tally.fault(Fault::Crash);
    }

    /// The process stands still while its clock goes on.
    pub fn sleep(&mut self, at: usize) {
        if let Some(host) = self.hosts.get_mut(at) {
            host.sleeps = true;
            self.tally.fault(Fault::Pause);
        }
    }

    pub fn wake(&mut self, at: usize) {
        let Some(host) = self.hosts.get_mut(at).filter(|host| host.sleeps) else {
            return;
        };
        host.sleeps = false;
        host.due_at = None;
        let mail = std::mem::take(&mut host.mail);
        // The timer fires first, as a loop does that asks its clock before its socket.
        self.due(at);
        for (from, word) in mail {
            self.hear(at, from, word);
        }
    }

    /// Cuts or mends one direction.
    pub fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        if let Some(line) = self.lines.get_mut(from * self.hosts.len() + to) {
            line.is_cut = is_cut;
        }
    }

    /// Cuts a machine from all, or mends that.
    pub fn isolate(&mut self, at: usize, is_cut: bool) {
        for other in 0..self.count() {
            self.cut(at, other, is_cut);
            self.cut(other, at, is_cut);
        }
    }

    /// Every line works, everybody is up and awake.
    pub fn heal(&mut self) {
        self.lines.iter_mut().for_each(|line| line.is_cut = false);
        for at in 0..self.count() {
            self.wake(at);
            if matches!(self.hosts.get(at).map(|host| &host.mind), Some(Mind::Down)) {
                self.start(at);
            }
        }
    }

    /// Whoever leads writes a record, tells the others of its newest, and has something done.
    pub fn work(&mut self) {
        let leaders: Vec<usize> = self.leaders().collect();
        for at in leaders {
            let truth = self.now();
            let Some(host) = self.hosts.get_mut(at) else {
                continue;
            };
            let now = host.clock.shows(truth);
            let Some(lease) = host.voter().and_then(|voter| voter.lease(now)) else {
                continue;
            };
            if host.written.0 != lease.term {
                host.written = (lease.term, 0);
            }
            host.written.1 += 1;
            let (term, sequence) = host.written;
            self.store(at, term, sequence);
            for to in 0..self.count() {
                if to != at {
                    self.carry(at, to, Word::Record(term, sequence));
                }
            }
            // What was decided under a lease may be done long after.
            let longest = if self.chance.permille(100) {
                5_000_000
            } else {
                40_000
            };
            let micros = self.chance.between(10_000, longest);
            self.agenda
                .after(Duration::from_micros(micros), Happening::Executed(term));
        }
    }

    /// A leader hands over, if somebody leads.
    pub fn hand_over(&mut self, to: usize) {
        let Some(at) = self.leaders().next() else {
            return;
        };
        let truth = self.now();
        let Some(host) = self.hosts.get_mut(at) else {
            return;
        };
        let now = host.clock.shows(truth);
        if host
            .voter()
            .is_some_and(|one| one.hand_over(voter(to), now).is_ok())
        {
            self.tally.met(Sometimes::HandedOver);
        }
        self.after(at);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(from, to, word) => self.arrive(from, to, word),
            Happening::Due(at, life) => {
                // One that was put off means nothing: else each would put in another for ever.
                let now = Some(self.now());
                let is_next = self.hosts.get(at).is_some_and(|host| host.due_at == now);
                if is_next && self.is_alive(at, life) {
                    self.due(at);
                }
            }
            Happening::Saved(at, life, position, ballot) => {
                if self.is_alive(at, life) {
                    self.saved(at, position, ballot);
                }
            }
            Happening::Stored(at, life, term, sequence) => {
                if self.is_alive(at, life) {
                    self.stored(at, term, sequence);
                }
            }
            Happening::Executed(term) => self.execute(term),
        }
    }

    fn is_alive(&self, at: usize, life: u64) -> bool {
        self.hosts.get(at).is_some_and(|host| host.life == life)
    }

    fn arrive(&mut self, from: usize, to: usize, word: Word) {
        self.mix(from as u64 * 8 + to as u64);
        let Some(host) = self.hosts.get_mut(to) else {
            return;
        };
        if host.sleeps {
            if host.mail.len() < MAIL_MAX {
                host.mail.push_back((from, word));
            }
            return;
        }
        self.hear(to, from, word);
    }

    fn hear(&mut self, at: usize, from: usize, word: Word) {
        let truth = self.now();
        let Some(host) = self.hosts.get_mut(at) else {
            return;
        };
        let now = host.clock.shows(truth);
        match (word, &mut host.mind) {
            (Word::Election(message), Mind::Voter(election)) => {
                let Some(node) = NODES.get(from) else {
                    return;
                };
                match election.handle_message(*node, &message, now) {
                    Err(Refusal::Promised) => self.tally.met(Sometimes::Promised),
                    Err(Refusal::Late) => self.tally.met(Sometimes::Late),
                    _ => {}
                }
            }
            (Word::Record(term, sequence), Mind::Voter(_)) => self.store(at, term, sequence),
            (Word::Alive, Mind::Bully(bully)) => bully.handle_alive(from, now),
            _ => {}
        }
        self.after(at);
    }

    fn due(&mut self, at: usize) {
        let (truth, count) = (self.now(), self.count());
        let Some(host) = self.hosts.get_mut(at).filter(|host| !host.sleeps) else {
            return;
        };
        host.due_at = None;
        let now = host.clock.shows(truth);
        match &mut host.mind {
            Mind::Voter(election) => election.handle_time(now),
            Mind::Bully(bully) => {
                if bully.handle_time(now) {
                    for to in (0..count).filter(|to| *to != at) {
                        self.carry(at, to, Word::Alive);
                    }
                }
            }
            Mind::Down => {}
        }
        self.after(at);
    }

    /// A record goes to the disk.
    fn store(&mut self, at: usize, term: Term, sequence: u64) {
        let Some(life) = self.hosts.get(at).map(|host| host.life) else {
            return;
        };
        let micros = self.chance.between(1000, 8000);
        let happening = Happening::Stored(at, life, term, sequence);
        self.agenda.after(Duration::from_micros(micros), happening);
    }

    fn stored(&mut self, at: usize, term: Term, sequence: u64) {
        let truth = self.now();
        let Some(host) = self.hosts.get_mut(at) else {
            return;
        };
        let now = host.clock.shows(truth);
        let head = head((term, sequence));
        if let Some(election) = host.voter() {
            if election.hold(*BOOKS, head, now).is_ok() {
                let _ = host.heads.set(*BOOKS, head);
            } else {
                self.tally.met(Sometimes::StaleRecord);
            }
        }
        self.after(at);
    }

    fn execute(&mut self, term: Term) {
        let is_admitted = self.fence.admit(term).is_ok();
        if !is_admitted {
            self.tally.met(Sometimes::StaleAct);
        }
        if is_admitted || self.plan.bug == Some(Bug::StaleTermAccepted) {
            self.check.obey(term);
        }
    }

    /// After anything happened to a machine: does what it wants, looks when it wants to be woken,
    /// and who leads.
    fn after(&mut self, at: usize) {
        self.drain(at);
        self.release(at);
        let truth = self.now();
        let Some(host) = self.hosts.get_mut(at) else {
            return;
        };
        let due = match &host.mind {
            Mind::Voter(election) => election.poll_time(),
            Mind::Bully(bully) => Some(bully.due()),
            Mind::Down => None,
        };
        let due = due.map(|due| host.clock.when(due).max(truth));
        // An earlier look does no harm, a later one would.
        if let Some(due) = due.filter(|due| host.due_at.is_none_or(|known| *due < known)) {
            host.due_at = Some(due);
            let happening = Happening::Due(at, host.life);
            self.agenda.at(due, happening);
        }
        self.look(at);
    }

    fn look(&mut self, at: usize) {
        if self.plan.kind == Kind::Bully {
            return;
        }
        let now = self.now();
        let Some(host) = self.hosts.get_mut(at).filter(|host| host.leads(now)) else {
            return;
        };
        let safe = host
            .voter()
            .and_then(|one| Some((one.term(), one.safe(&BOOKS)?)));
        if safe.is_some_and(|place| self.check.is_safe(place)) {
            self.tally.met(Sometimes::Safe);
        }
        let mut others = self.hosts.iter().enumerate();
        let other = others.find(|(other, host)| *other != at && host.leads(now));
        if let Some((other, _)) = other {
            if self.plan.ppm <= DRIFT_PPM_STATED {
                self.check.overlap(at, other);
            } else {
                self.tally.met(Sometimes::Overlap);
            }
        }
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self
            .hosts
            .get_mut(at)
            .and_then(Host::voter)
            .and_then(Election::poll_output)
        {
            let Output { after, effect } = output;
            match effect {
                Effect::Persist(position, ballot) => self.persist(at, position, ballot),
                Effect::Send(to, message) => self.hold_back(at, to, after, message),
                Effect::Tell(event) => self.told(at, event),
            }
        }
    }

    fn persist(&mut self, at: usize, position: Position, ballot: Ballot) {
        let micros = if self.chance.permille(20) {
            self.chance.between(8000, 60_000)
        } else {
            self.chance.between(1000, 8000)
        };
        if let Some(host) = self.hosts.get_mut(at) {
            host.unsaved = Some((position, ballot));
            if !host.is_writing {
                host.is_writing = true;
                let happening = Happening::Saved(at, host.life, position, ballot);
                self.agenda.after(Duration::from_micros(micros), happening);
            }
        }
    }

    fn saved(&mut self, at: usize, position: Position, ballot: Ballot) {
        let (truth, bug) = (self.now(), self.plan.bug);
        let Some(host) = self.hosts.get_mut(at) else {
            return;
        };
        if bug != Some(Bug::VoteNotPersisted) {
            host.ballot = ballot;
        }
        host.saved = position;
        host.is_writing = false;
        let newer = host.unsaved.take().filter(|(later, _)| position < *later);
        let now = host.clock.shows(truth);
        if let Some(election) = host.voter() {
            election.handle_persisted(position, now);
        }
        if let Some((position, ballot)) = newer {
            self.persist(at, position, ballot);
        }
        self.after(at);
    }

    fn hold_back(&mut self, at: usize, to: Voter, after: Option<Position>, message: Message) {
        let Some(to) = NODES.iter().position(|node| *node == to.node) else {
            return;
        };
        let message = match (self.plan.bug, message.body) {
            (Some(Bug::NoPreVote), Body::Sound) => {
                let body = Body::Willing;
                let word = Word::Election(Message { body, ..message });
                let soon = Duration::from_micros(1);
                return self.agenda.after(soon, Happening::Arrive(to, at, word));
            }
            (Some(Bug::VoteOnlyWitness), Body::Vote { .. }) if self.is_witness(at) => {
                let heads = Heads::default();
                let body = Body::Vote { heads };
                Message { body, ..message }
            }
            (_, body) => Message { body, ..message },
        };
        if let Some(host) = self.hosts.get_mut(at) {
            let after = after.unwrap_or_default();
            host.waiting.push_back((after, to, Word::Election(message)));
        }
    }

    fn is_witness(&self, at: usize) -> bool {
        self.plan.parts.get(at) == Some(&Part::Witness)
    }

    fn release(&mut self, at: usize) {
        while let Some(host) = self.hosts.get_mut(at) {
            let saved = host.saved;
            if host
                .waiting
                .front()
                .is_none_or(|(after, ..)| saved < *after)
            {
                return;
            }
            if let Some((_, to, word)) = host.waiting.pop_front() {
                self.carry(at, to, word);
            }
        }
    }

    fn told(&mut self, at: usize, event: Event) {
        match event {
            Event::Won(term) => {
                self.mix(term.0 * 8 + at as u64);
                self.wins += 1;
                self.tally.met(Sometimes::Won);
                if self.last_winner.replace(at) == Some(at) {
                    self.tally.met(Sometimes::Again);
                }
                let heads = self.hosts.get_mut(at).and_then(Host::voter);
                let heads = heads.and_then(|voter| voter.inheritance()?.of(&BOOKS));
                let newest: Option<Place> = heads.map(|head| (head.term, head.sequence));
                if newest.is_some() {
                    self.tally.met(Sometimes::Inherited);
                }
                self.check.won(term, at, newest);
            }
            Event::Ended(_) => self.tally.met(Sometimes::Ended),
            Event::Follows(..) | Event::Behind(_) => {}
        }
    }

    fn carry(&mut self, from: usize, to: usize, word: Word) {
        self.sent += 1;
        let word = match word {
            Word::Election(message) if self.sent.is_multiple_of(BYTES_EVERY) => {
                match Message::from_bytes(&message.to_bytes()) {
                    Ok(message) => Word::Election(message),
                    Err(error) => {
                        let promise = "what a voter says can be read";
                        return self.check.fail(promise, error.to_string());
                    }
                }
            }
            word => word,
        };
        let now = self.now();
        let Some(line) = self.lines.get_mut(from * self.hosts.len() + to) else {
            return;
        };
        let delay = match line.carry(&self.plan.climate, now, &mut self.chance) {
            Ok(delay) => delay,
            Err(fault) => {
                fault.into_iter().for_each(|fault| self.tally.fault(fault));
                return;
            }
        };
        if LATE <= delay {
            self.tally.fault(Fault::Late);
        }
        if self.chance.permille(self.plan.climate.twice) {
            self.tally.fault(Fault::Twice);
            let again = Happening::Arrive(from, to, word.clone());
            self.agenda.after(delay * 2, again);
        }
        self.agenda.after(delay, Happening::Arrive(from, to, word));
    }

    fn mix(&mut self, word: u64) {
        for part in [self.now().0, word] {
            self.hash = (self.hash ^ part).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// From here on a datagram counts as late.
const LATE: Duration = Duration::from_millis(200);
/// How wrong clocks may be for leases to exclude each other, in parts of a million.
const DRIFT_PPM_STATED: i64 = 1000;

fn voter(at: usize) -> Voter {
    // Proof: no world has more than `VOTERS` machines, see `Plan::parts`.
    let node = *NODES.get(at).expect("a world has as many nodes as voters");
    Voter {
        node,
        incarnation: 1,
    }
}

fn head((term, sequence): Place) -> Head {
    Head {
        term,
        sequence,
        digest: Digest::of_parts(&[&term.0.to_be_bytes(), &sequence.to_be_bytes()]),
    }
}
