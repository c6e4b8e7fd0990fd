//! Counts what the weather did to a run and which hard branches were met.
//!
//! A fault kind that never happened, or a branch that was never met, over a whole run of seeds,
//! fails the run: a tidy generator hides bugs. Every kind stands in a closed enum, so zero cannot
//! be overlooked.

use std::collections::BTreeMap;
use std::fmt;

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $crate::tally::Kind for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

pub(crate) use kinds;

/// One of a closed enum of things that may happen.
pub trait Kind: Copy + Ord + fmt::Display + 'static {
    /// Every kind.
    const ALL: &'static [Self];
}

/// How often each kind happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts<K>(BTreeMap<K, u64>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Kind> Counts<K> {
    /// Counts a kind so many times.
    pub fn count(&mut self, kind: K, times: u64) {
        *self.0.entry(kind).or_default() += times;
    }

    /// Adds what somebody else counted.
    pub fn add(&mut self, other: &Self) {
        for (kind, times) in &other.0 {
            self.count(*kind, *times);
        }
    }

    /// Returns how often a kind happened.
    pub fn of(&self, kind: K) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// Returns how often anything happened.
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the kinds that never happened, in words.
    pub fn missing(&self) -> impl Iterator<Item = String> {
        let never = K::ALL.iter().filter(|kind| self.of(**kind) == 0);
        never.map(ToString::to_string)
    }
}

/// One line a kind.
impl<K: Kind> fmt::Display for Counts<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in K::ALL {
            writeln!(f, "  {kind:<40} {:>12}", self.of(*kind))?;
        }
        Ok(())
    }
}

kinds! {
    /// What the weather does.
    Fault {
        /// A message did not arrive.
        Loss = "message lost",
        /// A message arrived twice.
        Duplication = "message duplicated",
        /// A message overtook an older one.
        Reorder = "message overtook another",
        /// A message took longer than 200 ms.
        Delay = "message delayed above 200 ms",
        /// Two groups could not talk.
        PartitionFull = "partition in two halves",
        /// Some pairs could not talk.
        PartitionPartial = "partial partition",
        /// One direction was cut.
        PartitionOneWay = "one-way partition",
        /// One node was alone.
        PartitionSingle = "single node cut off",
        /// The daemon was killed; the machine went on.
        Kill = "daemon killed",
        /// The machine lost power.
        PowerLoss = "power lost",
        /// A write was torn by a power loss.
        TornWrite = "write torn",
        /// Unsynced entries were gone after a crash.
        LostWrite = "unsynced write lost",
        /// The daemon stood still.
        Pause = "daemon paused",
        /// A wall clock was wrong from the start.
        Skew = "wall clock skewed",
        /// A wall clock jumped.
        Jump = "wall clock jumped",
        /// A slow sync.
        SlowSync = "sync above 15 ms",
        /// A driver's step failed.
        StepFailed = "driver step failed",
        /// An instance ended by itself.
        InstanceDied = "instance died",
    }
}

kinds! {
    /// Hard branches that a run must meet.
    Sometimes {
        /// A reservation was not awarded in time.
        ReservationLapsed = "reservation lapsed",
        /// A node refused and the next candidate got the order.
        NextCandidate = "refused, then the next candidate",
        /// A node with an order that was not final came back.
        RestartOpenOrder = "restart with an open order",
        /// A provider with a live instance came back and adopted it.
        Adopted = "instance adopted after a restart",
        /// An instance was made again after a power loss.
        StartedAgain = "instance started again",
        /// Changes came that did not follow what the reader had.
        Gap = "changes arrived with a gap",
        /// Changes came that the reader had.
        Repeat = "changes arrived again",
        /// An order was refused for lack of capacity.
        Full = "order refused: nobody has room",
        /// An order became ready.
        Ready = "order ready",
        /// An order was stopped by its customer.
        CustomerStopped = "order stopped by its customer",
        /// An order was destroyed by its customer.
        CustomerDestroyed = "order destroyed by its customer",
        /// A stopped order was started again.
        CustomerStarted = "order started again by its customer",
        /// An API caller was cut off by a crash before its answer.
        CallerCutOff = "API caller cut off by a crash",
        /// A caller cut off asked again and the order was there.
        AskedAgain = "caller asked again after a crash",
        /// A connection broke and came back.
        Reconnected = "connection broke and came back",
        /// Closed segments of a journal became a snapshot.
        Compacted = "journal compacted",
        /// The gate refused somebody.
        GateRefused = "gate refused a stranger",
        /// An order ran on another organisation's node.
        Neighbour = "order on another organisation's node",
    }
}

/// Counters of one run of this scenario, or of many added together.
pub type Tally = Tallied<Fault, Sometimes>;

/// Counters of one run, or of many added together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tallied<F, S> {
    /// What the weather did.
    pub faults: Counts<F>,
    /// Hard branches that were met.
    pub branches: Counts<S>,
}

impl<F, S> Default for Tallied<F, S> {
    fn default() -> Self {
        Self {
            faults: Counts::default(),
            branches: Counts::default(),
        }
    }
}

impl<F: Kind, S: Kind> Tallied<F, S> {
    /// Counts one fault.
    pub fn fault(&mut self, kind: F) {
        self.faults.count(kind, 1);
    }

    /// Counts one branch.
    pub fn met(&mut self, branch: S) {
        self.branches.count(branch, 1);
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Self) {
        self.faults.add(&other.faults);
        self.branches.add(&other.branches);
    }

    /// Returns the kinds and branches that never happened, in words.
    pub fn missing(&self) -> Vec<String> {
        let faults = self.faults.missing();
        faults.chain(self.branches.missing()).collect()
    }
}

impl<F: Kind, S: Kind> fmt::Display for Tallied<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults\n{}sometimes\n{}", self.faults, self.branches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_that_never_happened_is_missing() {
        let mut tally = Tally::default();
        for kind in Fault::ALL.iter().filter(|kind| **kind != Fault::Pause) {
            tally.fault(*kind);
        }
        for branch in Sometimes::ALL {
            tally.met(*branch);
        }
        assert_eq!(tally.missing(), ["daemon paused"]);
    }

    #[test]
    fn tallies_add_up() {
        let (mut a, mut b) = (Tally::default(), Tally::default());
        a.fault(Fault::Loss);
        b.fault(Fault::Loss);
        b.met(Sometimes::Full);
        a.add(&b);
        assert_eq!(
            (
                a.faults.of(Fault::Loss),
                a.branches.of(Sometimes::Full),
                a.faults.sum()
            ),
            (2, 1, 2)
        );
    }
}
