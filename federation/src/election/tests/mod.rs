//! A group of voters with a network and disks of a few lines, for tables and random sequences.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_base::time::Moment;

use super::ballot::Ballot;
use super::machine::{Effect, Election, Output, Position, Refusal, Start};
use super::voters::{Part, Voters};
use super::wire::Message;
use super::words::{Group, Head, Heads, Term, Version, Voter};

mod property;
mod story;

static NODES: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
    let keys = (1..=9_u8).map(|byte| SecretKey::from_seed([byte; 32]).public());
    keys.map(NodeId).collect()
});

fn voter(index: usize) -> Voter {
    Voter {
        node: NODES[index],
        incarnation: 1,
    }
}

fn voters(version: u64, parts: &[Part]) -> Voters {
    let all = parts
        .iter()
        .enumerate()
        .map(|(index, part)| (voter(index), *part));
    Voters::new(Version(version), all).unwrap()
}

fn group() -> Group {
    Group(Digest::of(b"bakery"))
}

/// A voter with its disk. What it says waits until the ballot is on the disk.
struct Host {
    election: Option<Election>,
    ballot: Ballot,
    heads: Heads,
    unsaved: Option<(Position, Ballot)>,
    saved: Position,
    waiting: VecDeque<(Position, Voter, Message)>,
}

/// Voters, the datagrams between them, and one clock for all.
struct Cluster {
    hosts: Vec<Host>,
    /// From, to, what.
    wire: VecDeque<(usize, usize, Message)>,
    /// Who cannot hear whom.
    cut: Vec<(usize, usize)>,
    now: Moment,
    seed: u64,
    /// Who won which term.
    won: BTreeMap<Term, Voter>,
    parts: Vec<Part>,
    lives: u64,
}

impl Cluster {
    fn new(parts: &[Part], seed: u64) -> Self {
        let mut cluster = Self {
            hosts: Vec::new(),
            wire: VecDeque::new(),
            cut: Vec::new(),
            now: Moment(1_000_000),
            seed,
            won: BTreeMap::new(),
            parts: parts.to_vec(),
            lives: 0,
        };
        for index in 0..parts.len() {
            cluster.hosts.push(Host {
                election: None,
                ballot: Ballot::default(),
                heads: Heads::default(),
                unsaved: None,
                saved: Position(0),
                waiting: VecDeque::new(),
            });
            cluster.start(index);
        }
        cluster
    }

    fn leaders(count: usize) -> Self {
        Self::new(&vec![Part::Leader; count], 1)
    }

    fn start(&mut self, index: usize) {
        self.lives += 1;
        let host = &mut self.hosts[index];
        let start = Start {
            group: group(),
            me: voter(index),
            voters: voters(1, &self.parts),
            ballot: host.ballot,
            heads: host.heads.clone(),
            seed: self.seed ^ (self.lives << 8),
        };
        host.election = Some(Election::new(start, self.now));
        host.saved = Position(0);
        self.drain(index);
    }

    /// Loses all but the disk.
    fn crash(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.election = None;
        host.unsaved = None;
        host.waiting.clear();
    }

    fn save(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        if let (Some((position, ballot)), Some(election)) =
            (host.unsaved.take(), &mut host.election)
        {
            assert!(host.ballot.allows(&ballot), "a disk takes nothing back");
            host.ballot = ballot;
            host.saved = position;
            election.handle_persisted(position, now);
        }
        self.release(index);
        self.drain(index);
    }

    fn release(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        while let Some((position, to, message)) = host.waiting.pop_front() {
            if host.saved < position {
                host.waiting.push_front((position, to, message));
                break;
            }
            let to = NODES.iter().position(|node| *node == to.node).unwrap();
            self.wire.push_back((index, to, message));
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.hosts[index]
            .election
            .as_mut()
            .and_then(Election::poll_output)
        {
            let Output { after, effect } = output;
            match effect {
                Effect::Persist(position, ballot) => {
                    self.hosts[index].unsaved = Some((position, ballot));
                }
                Effect::Send(to, message) => {
                    let after = after.unwrap_or_default();
                    self.hosts[index].waiting.push_back((after, to, message));
                }
                Effect::Tell(super::machine::Event::Won(term)) => {
                    let known = *self.won.entry(term).or_insert(voter(index));
                    assert_eq!(known, voter(index), "two won {term:?}");
                }
                Effect::Tell(_) => {}
            }
        }
        self.release(index);
        let host = &self.hosts[index];
        assert!(
            host.election
                .as_ref()
                .is_none_or(|one| host.ballot.term <= one.term())
        );
    }

    fn deliver(&mut self, at: usize, keep: bool) {
        let Some((from, to, message)) = self.wire.get(at).cloned() else {
            return;
        };
        if !keep {
            self.wire.remove(at);
        }
        if self.cut.contains(&(from, to)) {
            return;
        }
        let now = self.now;
        if let Some(election) = &mut self.hosts[to].election {
            let _ = election.handle_message(voter(from).node, &message, now);
        }
        self.drain(to);
    }

    fn tick(&mut self, index: usize) {
        let now = self.now;
        if let Some(election) = &mut self.hosts[index].election {
            election.handle_time(now);
        }
        self.drain(index);
    }

    /// Lets time pass on a network without delay and disks that are fast.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            for index in 0..self.hosts.len() {
                self.tick(index);
                self.save(index);
            }
            while !self.wire.is_empty() {
                self.deliver(0, false);
                (0..self.hosts.len()).for_each(|index| self.save(index));
            }
        }
    }

    fn leading(&self) -> Vec<usize> {
        let leads = |index: &usize| {
            let election = self.hosts[*index].election.as_ref();
            election.is_some_and(|one| one.lease(self.now).is_some())
        };
        (0..self.hosts.len()).filter(leads).collect()
    }

    fn at(&mut self, index: usize) -> &mut Election {
        self.hosts[index].election.as_mut().unwrap()
    }

    fn say(&mut self, from: usize, to: usize, message: &Message) -> Result<(), Refusal> {
        let now = self.now;
        self.at(to).handle_message(voter(from).node, message, now)
    }
}

fn head(term: Term, sequence: u64) -> Head {
    Head {
        term,
        sequence,
        digest: Digest::of(&sequence.to_be_bytes()),
    }
}
