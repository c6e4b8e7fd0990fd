//! What the weather did to a run, which hard branches the speakers met, and the figures.

use std::fmt;

use mesh_routing::babel::count::{Count, Counters};

use crate::tally::{Counts, kinds};

kinds! {
    /// What the weather does.
    Fault {
        /// A packet was lost.
        Loss = "packet lost",
        /// A packet arrived twice.
        Duplication = "packet duplicated",
        /// A packet overtook an older one.
        Reorder = "packet overtook another",
        /// A packet took longer than 200 ms.
        Delay = "packet delayed above 200 ms",
        /// A wire went down and both ends were told.
        Lowered = "link down, told",
        /// One direction was cut.
        OneWay = "one-way cut",
        /// Both directions were cut.
        Silent = "silent cut",
        /// All wires between two halves were cut.
        Partition = "partition",
        /// A node lost everything and was started again.
        Crash = "node crashed, all state lost",
        /// A node stood still.
        Pause = "node paused",
        /// A packet of a life before came late.
        Stale = "packet of an earlier life",
        /// A node told its own prefix with another metric.
        Metric = "own metric changed",
        /// A wire became slower or faster.
        Detour = "wire took a detour",
    }
}

kinds! {
    /// Hard branches that a run must meet.
    Sometimes {
        /// A seqno request of a speaker's own was sent.
        Asked = "seqno request sent",
        /// A seqno request was answered.
        Answered = "seqno request answered",
        /// A seqno request of another was passed on.
        Forwarded = "seqno request forwarded",
        /// A seqno request met the same under way.
        Redundant = "seqno request redundant",
        /// A seqno request was given up.
        GivenUp = "seqno request given up",
        /// An update was not feasible.
        Unfeasible = "unfeasible route",
        /// An origin's number grew because somebody asked.
        Grew = "origin's number grew",
        /// An origin found its number again after a crash.
        Recovered = "origin's number recovered",
        /// A prefix was held after its last route was lost.
        Held = "retraction held",
        /// A source was forgotten.
        SourceForgotten = "source forgotten",
        /// A tunnel did not answer its probes.
        ProbedDown = "probed down",
        /// A neighbour was found to have restarted.
        Restarted = "neighbour restarted",
        /// An update was said again.
        Resent = "update said again",
        /// A speaker's own route came back to it.
        Echo = "own route came back",
    }
}

/// Which counter of the speaker tells that a branch was met.
const BRANCHES: &[(Sometimes, Count)] = &[
    (Sometimes::Asked, Count::RequestSent),
    (Sometimes::Answered, Count::RequestAnswered),
    (Sometimes::Forwarded, Count::RequestForwarded),
    (Sometimes::Redundant, Count::RequestRedundant),
    (Sometimes::GivenUp, Count::RequestGivenUp),
    (Sometimes::Unfeasible, Count::Unfeasible),
    (Sometimes::Grew, Count::SeqnoGrew),
    (Sometimes::Recovered, Count::SeqnoRecovered),
    (Sometimes::SourceForgotten, Count::SourceForgotten),
    (Sometimes::ProbedDown, Count::ProbedDown),
    (Sometimes::Restarted, Count::Restarted),
    (Sometimes::Resent, Count::Resent),
    (Sometimes::Echo, Count::Echo),
];

/// Counters of one run, or of many added together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// What the weather did.
    pub faults: Counts<Fault>,
    branches: Counts<Sometimes>,
    /// Next hops that changed; each was walked.
    pub changes: u64,
    /// Packets sent.
    pub packets: u64,
}

impl Tally {
    /// Counts one fault.
    pub fn fault(&mut self, kind: Fault) {
        self.faults.count(kind, 1);
    }

    /// Counts a branch.
    pub fn met(&mut self, branch: Sometimes, times: u64) {
        self.branches.count(branch, times);
    }

    /// Takes what a speaker counted in its life.
    pub fn take(&mut self, counters: &Counters) {
        for (branch, count) in BRANCHES {
            self.met(*branch, counters.of(*count));
        }
        self.packets += counters.of(Count::PacketSent);
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Self) {
        self.faults.add(&other.faults);
        self.branches.add(&other.branches);
        self.changes += other.changes;
        self.packets += other.packets;
    }

    /// Returns the kinds and branches that never happened, in words.
    pub fn missing(&self) -> Vec<String> {
        let faults = self.faults.missing();
        faults.chain(self.branches.missing()).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults\n{}sometimes\n{}", self.faults, self.branches)?;
        writeln!(f, "  {:<40} {:>12}", "route changes", self.changes)?;
        writeln!(f, "  {:<40} {:>12}", "packets", self.packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Kind as _;

    #[test]
    fn kind_that_never_happened_is_missing() {
        let mut tally = Tally::default();
        for kind in Fault::ALL.iter().filter(|kind| **kind != Fault::Pause) {
            tally.fault(*kind);
        }
        for branch in Sometimes::ALL.iter().filter(|one| **one != Sometimes::Held) {
            tally.met(*branch, 1);
        }
        tally.met(Sometimes::Held, 0);
        assert_eq!(tally.missing(), ["node paused", "retraction held"]);
    }
}
