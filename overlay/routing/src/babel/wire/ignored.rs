//! Why something in a packet was not read: a closed set of reasons, each with a counter.
//!
//! Ignoring is lawful and usual (RFC 8966 asks for it at every turn); the counters tell whoever
//! wonders why a route of a neighbour does not arrive.

use std::fmt;

/// Why a whole packet was ignored (RFC 8966, §4 and §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPacket {
    /// It did not come from the link.
    #[error("cannot take a packet whose source is not a link-local address")]
    Source,
    /// There are fewer bytes than a header has.
    #[error("cannot read a header from {0} bytes")]
    Short(usize),
    /// It begins like nothing of Babel.
    #[error("cannot read a packet that begins with {0} instead of 42")]
    Magic(u8),
    /// It is of another protocol version.
    #[error("cannot read version {0} of Babel")]
    Version(u8),
    /// The header declares a longer body than there are bytes.
    #[error("cannot read a body of {declared} bytes from {carried}")]
    Body {
        /// What the header says.
        declared: usize,
        /// What came behind the header.
        carried: usize,
    },
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident $word:literal,)*) => {
        /// Why a TLV was ignored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Ignored {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Ignored {
            /// Every reason.
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

reasons! {
    /// It declares more bytes than the packet has; nothing behind it is read.
    Overrun "overrun",
    /// Its body is shorter than its type asks.
    Short "short",
    /// Its type means nothing to us.
    Unknown "unknown",
    /// It carries a sub-TLV that we do not know and may not skip (§4.4).
    Mandatory "mandatory",
    /// A sub-TLV declares more bytes than the TLV has.
    SubTlv "sub-tlv",
    /// Its address encoding is unknown, or unlawful for its type (§4.1.4).
    Encoding "encoding",
    /// It is about IPv4, which the overlay does not carry.
    Ipv4 "ipv4",
    /// It is about a prefix in fe80::/64, which nobody routes.
    LinkLocal "link-local",
    /// It is a wildcard that may not be one: a finite update, or one with a prefix (§4.6.9).
    Wildcard "wildcard",
    /// A prefix is longer than its address.
    PrefixLength "prefix-length",
    /// Bytes of a prefix are left out that nothing before it tells (§4.5).
    Omitted "omitted",
    /// A time is zero that may not be.
    Interval "interval",
    /// A router-id is all zeros or all ones, or an update has none (§4.1.3, §4.6.9).
    RouterId "router-id",
    /// A next hop is not the address of a host, or an update has none.
    NextHop "next-hop",
    /// A request may travel no hop (§4.6.11).
    HopCount "hop-count",
}

/// How often each reason occurred; a counter that is full stays full.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct IgnoredCounts([u32; Ignored::ALL.len()]);

impl IgnoredCounts {
    /// Counts one.
    pub fn add(&mut self, reason: Ignored) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds those of another packet.
    pub fn add_all(&mut self, others: &Self) {
        for (count, other) in self.0.iter_mut().zip(others.0) {
            *count = count.saturating_add(other);
        }
    }

    /// Returns how often a reason occurred.
    pub fn count(&self, reason: Ignored) -> u32 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// Returns the sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().copied().map(u64::from).sum()
    }

    /// Returns each reason that occurred with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Ignored, u32)> + '_ {
        let all = Ignored::ALL.iter().copied().zip(self.0);
        all.filter(|(_, count)| *count != 0)
    }
}

impl fmt::Debug for IgnoredCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_word() {
        let mut counts = IgnoredCounts::default();
        for (at, reason) in Ignored::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            counts.add(*reason);
        }
        assert!(counts.iter().all(|(_, count)| count == 1));
        assert_eq!(counts.total(), Ignored::ALL.len() as u64);
        let mut words: Vec<_> = Ignored::ALL.iter().map(|reason| reason.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Ignored::ALL.len());
    }

    #[test]
    fn full_counter_stays_full() {
        let mut counts = IgnoredCounts::default();
        counts.add(Ignored::Short);
        for _ in 0..40 {
            let same = counts;
            counts.add_all(&same);
        }
        assert_eq!(counts.count(Ignored::Short), u32::MAX);
    }
}
