//! What the speaker did and refused, as a closed set of counters.

use std::fmt;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident $word:literal,)*) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Count {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Count {
            /// Everything that is counted.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the word for metrics and logs.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

counts! {
    /// A packet was heard.
    PacketHeard "packet-heard",
    /// A packet was sent.
    PacketSent "packet-sent",
    /// Bytes of the packets heard.
    BytesHeard "bytes-heard",
    /// Bytes of the packets sent.
    BytesSent "bytes-sent",
    /// A packet was not one of Babel, or not from the link.
    BadPacket "bad-packet",
    /// A TLV was ignored; the reasons have counters of their own.
    TlvIgnored "tlv-ignored",
    /// A packet came over a link that we do not know.
    UnknownLink "unknown-link",
    /// Something came from somebody who never said hello.
    Stranger "stranger",
    /// A new neighbour was not heard, for there are too many.
    NeighboursFull "neighbours-full",
    /// A neighbour restarted: its hellos began anew.
    Restarted "restarted",
    /// A round trip was not plausible.
    ImplausibleRtt "implausible-rtt",
    /// A tunnel's neighbour did not answer probes.
    ProbedDown "probed-down",
    /// An update was heard.
    UpdateHeard "update-heard",
    /// An update was told.
    UpdateSent "update-sent",
    /// An update was about a prefix that the link does not carry.
    Filtered "filtered",
    /// An update's origin is not a member.
    Uncertified "uncertified",
    /// An update's origin claims a prefix that is not its own.
    Forged "forged",
    /// An update claims a prefix of ours.
    SecondClaimant "second-claimant",
    /// An update of ours came back.
    Echo "echo",
    /// An update was not feasible.
    Unfeasible "unfeasible",
    /// An update was refused, for the table is full.
    TableFull "table-full",
    /// An update was refused, for its neighbour changes too much.
    TooManyChanges "too-many-changes",
    /// A request was refused, for its neighbour asks too much.
    TooManyRequests "too-many-requests",
    /// A seqno request was not sent, for too many wait.
    RequestsFull "requests-full",
    /// A seqno request of ours was sent.
    RequestSent "request-sent",
    /// A seqno request of another was sent on.
    RequestForwarded "request-forwarded",
    /// A seqno request was not sent on, for the same is under way.
    RequestRedundant "request-redundant",
    /// A seqno request had no hop left, or nobody to go to.
    RequestDied "request-died",
    /// A request of ours was answered.
    RequestAnswered "request-answered",
    /// A request of ours was not answered.
    RequestGivenUp "request-given-up",
    /// Our own number grew.
    SeqnoGrew "seqno-grew",
    /// Our own number was lost by a restart and learned from a neighbour.
    SeqnoRecovered "seqno-recovered",
    /// A packet was sent again, for nobody acknowledged it.
    Resent "resent",
    /// Updates became a dump, for too many waited.
    BecameDump "became-dump",
    /// An answer was not sent, for too many wait.
    AnswersFull "answers-full",
    /// A route was selected, or another one.
    Selected "selected",
    /// A prefix lost its last route.
    Lost "lost",
    /// A route expired.
    Expired "expired",
    /// A feasibility distance was forgotten.
    SourceForgotten "source-forgotten",
}

/// How often each thing happened; a counter that is full stays full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counters([u64; Count::ALL.len()]);

impl Counters {
    /// Counts one.
    pub fn add(&mut self, what: Count) {
        self.add_many(what, 1);
    }

    /// Counts many.
    pub fn add_many(&mut self, what: Count, many: u64) {
        if let Some(count) = self.0.get_mut(what as usize) {
            *count = count.saturating_add(many);
        }
    }

    /// Returns how often something happened.
    pub fn of(&self, what: Count) -> u64 {
        self.0.get(what as usize).copied().unwrap_or_default()
    }

    /// Returns the counts of everything by word, also of what never happened.
    pub fn words(&self) -> std::collections::BTreeMap<&'static str, u64> {
        let all = Count::ALL.iter().map(|what| (what.word(), self.of(*what)));
        all.collect()
    }

    /// Returns each thing that happened with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        let all = Count::ALL.iter().copied().zip(self.0);
        all.filter(|(_, count)| *count != 0)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self([0; Count::ALL.len()])
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_own_counter_and_word() {
        let mut counters = Counters::default();
        for what in Count::ALL {
            counters.add(*what);
        }
        assert!(Count::ALL.iter().all(|what| counters.of(*what) == 1));
        let mut words: Vec<_> = Count::ALL.iter().map(|what| what.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Count::ALL.len());
    }
}
