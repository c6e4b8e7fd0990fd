//! Random commands and events against what must hold whatever happens.
//!
//! Every voter's clock is the same here, so leases exclude each other; the simulator lets clocks
//! drift. `Cluster` itself checks that a term is won once and that disks take nothing back.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Deliver(usize),
    Repeat(usize),
    Drop(usize),
    Wait(u64),
    Tick(usize),
    Save(usize),
    Crash(usize),
    Write(usize),
    Copy(usize),
    HandOver(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0_usize..6).prop_map(Step::Deliver),
        1 => (0_usize..20).prop_map(Step::Repeat),
        1 => (0_usize..20).prop_map(Step::Drop),
        3 => (1_u64..40).prop_map(|tens| Step::Wait(tens * 10_000)),
        6 => (0_usize..5).prop_map(Step::Tick),
        8 => (0_usize..5).prop_map(Step::Save),
        1 => (0_usize..5).prop_map(Step::Crash),
        2 => (0_usize..5).prop_map(Step::Write),
        3 => (0_usize..5).prop_map(Step::Copy),
        1 => (0_usize..5, 0_usize..5).prop_map(|(from, to)| Step::HandOver(from, to)),
    ]
}

/// What was acknowledged as safe, and what each term's first record covers.
#[derive(Default)]
struct Book {
    safe: Vec<(Digest, Head)>,
    covered: BTreeMap<Term, Heads>,
    longest: BTreeMap<Term, u64>,
}

/// Each term has a document of its own.
fn document(term: Term) -> Digest {
    Digest::of(&term.0.to_be_bytes())
}

fn hold(cluster: &mut Cluster, index: usize, term: Term, sequence: u64) {
    let now = cluster.now;
    let host = &mut cluster.hosts[index];
    let Some(election) = &mut host.election else {
        return;
    };
    let mut disk = host.heads.clone();
    if disk.set(document(term), head(term, sequence)).is_err() {
        return;
    }
    if election
        .hold(document(term), head(term, sequence), now)
        .is_ok()
    {
        // Records and ballots share the disk here.
        host.heads = disk;
    }
    cluster.drain(index);
}

impl Book {
    /// A leader writes the next record of its term.
    fn write(&mut self, cluster: &mut Cluster, index: usize) {
        let now = cluster.now;
        let Some(election) = &cluster.hosts[index].election else {
            return;
        };
        let Some(lease) = election.lease(now) else {
            return;
        };
        let inheritance = election.inheritance().unwrap().clone();
        self.covered.entry(lease.term).or_insert(inheritance);
        let longest = self.longest.entry(lease.term).or_default();
        *longest += 1;
        let sequence = *longest;
        hold(cluster, index, lease.term, sequence);
    }

    /// A voter fetches what its leader has.
    fn copy(&mut self, cluster: &mut Cluster, index: usize) {
        let Some(election) = &cluster.hosts[index].election else {
            return;
        };
        let term = election.term();
        if let Some(sequence) = self.longest.get(&term).copied() {
            hold(cluster, index, term, sequence);
        }
    }

    fn check(&mut self, cluster: &Cluster) {
        assert!(cluster.leading().len() <= 1, "two leases at once");
        for host in &cluster.hosts {
            let Some(election) = &host.election else {
                continue;
            };
            let term = election.term();
            if let Some(sequence) = election.safe(&document(term)) {
                let known = (document(term), head(term, sequence));
                if !self.safe.contains(&known) {
                    self.safe.push(known);
                }
            }
            let Some(inheritance) = election.inheritance() else {
                continue;
            };
            for (document, head) in self.safe.iter().filter(|(_, head)| head.term < term) {
                assert!(
                    self.reaches(inheritance, document, head),
                    "{head:?} was safe and {term:?} begins without it"
                );
            }
        }
    }

    /// Whether heads cover a record: by the document, or by a later term that began with it.
    fn reaches(&self, heads: &Heads, document: &Digest, wanted: &Head) -> bool {
        heads.iter().any(|(name, head)| {
            (name == document && wanted <= head)
                || (wanted.term < head.term
                    && self
                        .covered
                        .get(&head.term)
                        .is_some_and(|base| self.reaches(base, document, wanted)))
        })
    }
}

/// Returns how many terms were won and how many records became safe.
fn play(parts: &[Part], seed: u64, steps: &[Step]) -> (usize, usize) {
    let mut cluster = Cluster::new(parts, seed);
    let mut book = Book::default();
    let count = parts.len();
    for step in steps {
        match *step {
            Step::Deliver(at) => cluster.deliver(at, false),
            Step::Repeat(at) => cluster.deliver(at, true),
            Step::Drop(at) => {
                cluster.wire.remove(at);
            }
            Step::Wait(micros) => cluster.now = cluster.now + Duration::from_micros(micros),
            Step::Tick(index) => cluster.tick(index % count),
            Step::Save(index) => cluster.save(index % count),
            Step::Crash(index) => {
                cluster.crash(index % count);
                cluster.start(index % count);
            }
            Step::Write(index) => book.write(&mut cluster, index % count),
            Step::Copy(index) => book.copy(&mut cluster, index % count),
            Step::HandOver(from, to) => {
                let now = cluster.now;
                if let Some(election) = &mut cluster.hosts[from % count].election {
                    let _ = election.hand_over(voter(to % count), now);
                }
                cluster.drain(from % count);
            }
        }
        book.check(&cluster);
    }
    (cluster.won.len(), book.safe.len())
}

/// Sequences in which nothing is ever elected would prove nothing.
#[test]
fn random_sequences_elect_and_make_records_safe() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = proptest::collection::vec(step(), 1500);
    let (mut won, mut safe) = (0, 0);
    for seed in 0..20 {
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let (terms, records) = play(&[Part::Leader; 3], seed, &steps);
        won += terms;
        safe += records;
    }
    assert!(
        20 < won && 20 < safe,
        "{won} terms won, {safe} records safe"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_that_happens_elects_two_or_loses_what_is_safe(
        seed in any::<u64>(),
        witness in any::<bool>(),
        many in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..1500),
    ) {
        let mut parts = vec![Part::Leader; if many { 5 } else { 3 }];
        if witness {
            *parts.last_mut().unwrap() = Part::Witness;
        }
        let _ = play(&parts, seed, &steps);
    }
}
