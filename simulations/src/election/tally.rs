//! What the weather did to voters, and which hard branches they met.

use std::fmt;

use crate::tally::{Tallied, kinds};

kinds! {
    /// What the weather does.
    Fault {
        /// A datagram was lost.
        Loss = "datagram lost",
        /// A datagram was lost in a burst.
        Burst = "datagram lost in a burst",
        /// A datagram arrived twice.
        Twice = "datagram doubled",
        /// A datagram took up to three seconds.
        Late = "datagram late",
        /// A voter lost all but its disk.
        Crash = "voter crashed",
        /// It lost a ballot that was not on disk yet.
        Unsaved = "ballot lost in a crash",
        /// A voter slept while its clock went on.
        Pause = "voter suspended",
        /// One direction was cut.
        OneWay = "one-way cut",
        /// Two voters were cut from each other.
        Partial = "partial partition",
        /// A voter was cut from all.
        Isolated = "voter isolated",
        /// Two halves were cut.
        Partition = "partition",
        /// A clock was worse than leases allow.
        Wild = "wild clocks",
    }
}

kinds! {
    /// Hard branches that many runs must meet.
    Sometimes {
        /// A term was won.
        Won = "term won",
        /// A leader ended.
        Ended = "leader ended",
        /// Two in a row were led by one.
        Again = "same leader won again",
        /// A voter refused because of its promise.
        Promised = "refused, promised",
        /// A voter refused an answer that came late.
        Late = "refused, late",
        /// A record of an earlier term was refused.
        StaleRecord = "record of an earlier term refused",
        /// An action of an earlier term was refused.
        StaleAct = "action of an earlier term refused",
        /// A record became safe.
        Safe = "record safe",
        /// A leader inherited a record.
        Inherited = "record inherited",
        /// A leader handed over.
        HandedOver = "leader handed over",
        /// Two leases at once, with clocks worse than leases allow.
        Overlap = "two leases at once, wild clocks only",
    }
}

/// Counters of one run, or of many.
pub type Tally = Tallied<Fault, Sometimes>;
