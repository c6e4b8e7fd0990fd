//! Which announcements a link carries: what is believed, and what is told.
//!
//! | link | believes | tells |
//! |---|---|---|
//! | native peer | members' own /64s | own, natives', imports as own |
//! | native, we are the leaf | that, and aggregates of members | its own |
//! | native, to a leaf | as from a peer | own, the two aggregates |
//! | ordinary | what rules allow, never the overlay's prefixes | what rules allow |
//! | plain | everything | everything |
//!
//! Metrics are claims and are not judged here. Invariant: nothing inside the overlay's two prefixes
//! is ever believed of a link that is not native or plain.

use std::collections::BTreeSet;

use crate::babel::words::{Prefix, RouterId};

/// What kind of neighbours a link has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFilter {
    /// Nodes of the overlay; whoever tells more than its own is refused.
    Native(Role),
    /// Routers of a local network that run babeld, BIRD or the like.
    Ordinary {
        /// What is believed; the first rule that fits decides, and nothing fits nothing.
        import: Vec<Rule>,
        /// What is told, likewise.
        export: Vec<Rule>,
    },
    /// Everything, as a router of RFC 8966 without policy does.
    Plain,
}

/// Who is who on a native link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Both have all routes.
    Peer,
    /// We are a leaf: we tell our own prefixes and take an aggregate; nothing passes through us.
    Leaf,
    /// The neighbour is a leaf: it gets aggregates from us, and our own prefixes.
    Uplink,
}

/// Whether a rule lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Allow,
    /// It does not.
    Deny,
}

/// Decides about the prefixes inside a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// About which prefixes: itself and those inside.
    pub within: Prefix,
    /// The shortest and the longest that the rule is about.
    pub bits: (u8, u8),
    /// What it decides.
    pub verdict: Verdict,
}

impl Rule {
    /// Returns the rule that allows exactly one prefix.
    pub fn only(prefix: Prefix) -> Self {
        Self {
            within: prefix,
            bits: (prefix.bits(), prefix.bits()),
            verdict: Verdict::Allow,
        }
    }

    /// Returns the rule that allows a prefix and everything inside.
    pub fn inside(prefix: Prefix) -> Self {
        Self {
            within: prefix,
            bits: (prefix.bits(), 128),
            verdict: Verdict::Allow,
        }
    }

    fn fits(&self, prefix: Prefix) -> bool {
        let (shortest, longest) = self.bits;
        self.within.covers(prefix) && shortest <= prefix.bits() && prefix.bits() <= longest
    }
}

/// Who may announce what, as certificates say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lawful {
    /// Router-ids of certified nodes; each may announce its own /64.
    pub members: BTreeSet<RouterId>,
}

/// Why an announcement is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disbelief {
    /// The link carries no such prefix.
    Filtered,
    /// The origin is not the one that the prefix belongs to.
    Forged,
    /// The origin is no member.
    Uncertified,
}

/// How a prefix is told over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// With its origin.
    AsIs,
    /// As if it were ours.
    AsOurs,
    /// Not at all.
    Silent,
}

/// Where a route that may be told comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// We announce it.
    Own,
    /// From the overlay or a plain link.
    Inner,
    /// From an ordinary link.
    Imported,
}

impl LinkFilter {
    /// Judges an announcement that came over this link.
    pub fn judge(
        &self,
        prefix: Prefix,
        origin: RouterId,
        lawful: &Lawful,
    ) -> Result<(), Disbelief> {
        match self {
            Self::Plain => Ok(()),
            Self::Ordinary { import, .. } => {
                let ours = is_overlay(prefix);
                if ours || !allowed(import, prefix) {
                    return Err(Disbelief::Filtered);
                }
                Ok(())
            }
            Self::Native(role) => judge_native(*role, prefix, origin, lawful),
        }
    }

    /// Returns how a route is told over this link.
    pub fn telling(&self, prefix: Prefix, from: Provenance) -> Telling {
        match self {
            Self::Plain => Telling::AsIs,
            Self::Ordinary { export, .. } if allowed(export, prefix) => Telling::AsIs,
            Self::Ordinary { .. } => Telling::Silent,
            Self::Native(Role::Leaf | Role::Uplink) if from == Provenance::Own => Telling::AsIs,
            Self::Native(Role::Leaf | Role::Uplink) => Telling::Silent,
            Self::Native(Role::Peer) if is_aggregate(prefix) => Telling::Silent,
            Self::Native(Role::Peer) => match from {
                Provenance::Own | Provenance::Inner => Telling::AsIs,
                Provenance::Imported => Telling::AsOurs,
            },
        }
    }

    /// Returns whether we announce one of the overlay's aggregates over this link.
    pub fn tells_aggregate(&self, prefix: Prefix) -> bool {
        match self {
            Self::Native(Role::Uplink) => is_aggregate(prefix),
            Self::Ordinary { export, .. } => is_aggregate(prefix) && allowed(export, prefix),
            Self::Native(Role::Peer | Role::Leaf) | Self::Plain => false,
        }
    }

    /// Returns whether the neighbours are nodes of the overlay.
    pub fn is_native(&self) -> bool {
        matches!(self, Self::Native(_))
    }

    /// Returns where a route that came over this link comes from.
    pub fn provenance(&self) -> Provenance {
        match self {
            Self::Ordinary { .. } => Provenance::Imported,
            Self::Native(_) | Self::Plain => Provenance::Inner,
        }
    }
}

/// Returns whether a prefix is one of the two that stand for the whole overlay.
pub fn is_aggregate(prefix: Prefix) -> bool {
    prefix == Prefix::NODES || prefix == Prefix::SERVICES
}

fn is_overlay(prefix: Prefix) -> bool {
    Prefix::NODES.covers(prefix) || Prefix::SERVICES.covers(prefix)
}

fn allowed(rules: &[Rule], prefix: Prefix) -> bool {
    let rule = rules.iter().find(|rule| rule.fits(prefix));
    rule.is_some_and(|rule| rule.verdict == Verdict::Allow)
}

fn judge_native(
    role: Role,
    prefix: Prefix,
    origin: RouterId,
    lawful: &Lawful,
) -> Result<(), Disbelief> {
    let member = lawful.members.contains(&origin);
    if Prefix::NODES.covers(prefix) && prefix.bits() == 64 {
        let owner = u128::from(prefix.address()) >> 64;
        if owner != u128::from(u64::from_be_bytes(origin.to_bytes())) {
            return Err(Disbelief::Forged);
        }
        return if member {
            Ok(())
        } else {
            Err(Disbelief::Uncertified)
        };
    }
    let aggregate = is_aggregate(prefix) || prefix == Prefix::ALL;
    if role == Role::Leaf && aggregate {
        return if member {
            Ok(())
        } else {
            Err(Disbelief::Uncertified)
        };
    }
    // No certificate speaks of another prefix, and the overlay carries no packets to one.
    Err(Disbelief::Filtered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
    }

    fn id(number: u64) -> RouterId {
        RouterId::from_bytes(number.to_be_bytes()).unwrap()
    }

    const OWNER: u64 = 0xfd6d_0001_0002_0003;

    fn lawful() -> Lawful {
        Lawful {
            members: BTreeSet::from([id(OWNER), id(7)]),
        }
    }

    #[track_caller]
    fn check(filter: &LinkFilter, what: &str, origin: u64, expect: Result<(), Disbelief>) {
        let got = filter.judge(prefix(what), id(origin), &lawful());
        assert_eq!(got, expect, "{what} of {origin:x}");
    }

    #[test]
    fn native_link_believes_each_member_its_own_prefix() {
        let peer = LinkFilter::Native(Role::Peer);
        check(&peer, "fd6d:1:2:3::/64", OWNER, Ok(()));
        check(&peer, "fd6d:1:2:3::/64", 7, Err(Disbelief::Forged));
        let stranger = 0xfd6d_0009_0009_0009;
        let uncertified = Err(Disbelief::Uncertified);
        check(&peer, "fd6d:9:9:9::/64", stranger, uncertified);
        for what in ["fd6d:1:2:3::/65", "fd6d::/16", "fd73::/16", "::/0"] {
            check(&peer, what, OWNER, Err(Disbelief::Filtered));
        }
        for origin in [7, OWNER] {
            check(&peer, "2001:db8::/48", origin, Err(Disbelief::Filtered));
        }
    }

    #[test]
    fn leaf_takes_aggregates_of_members_only() {
        let leaf = LinkFilter::Native(Role::Leaf);
        check(&leaf, "fd6d::/16", OWNER, Ok(()));
        check(&leaf, "::/0", 7, Ok(()));
        check(&leaf, "fd6d::/16", 8, Err(Disbelief::Uncertified));
        assert_eq!(
            leaf.telling(prefix("fd6d:1:2:3::/64"), Provenance::Inner),
            Telling::Silent
        );
        assert_eq!(
            leaf.telling(prefix("fd6d:1:2:3::/64"), Provenance::Own),
            Telling::AsIs
        );
    }

    #[test]
    fn ordinary_link_never_brings_the_overlay() {
        let all = vec![Rule::inside(Prefix::ALL)];
        let ordinary = LinkFilter::Ordinary {
            import: all.clone(),
            export: vec![Rule::only(Prefix::SERVICES)],
        };
        for what in ["fd6d::/16", "fd6d:1:2:3::/64", "fd73::/16", "fd73::1/128"] {
            check(&ordinary, what, OWNER, Err(Disbelief::Filtered));
        }
        check(&ordinary, "2001:db8:5::/48", 99, Ok(()));
        assert!(ordinary.tells_aggregate(Prefix::SERVICES));
        assert!(!ordinary.tells_aggregate(Prefix::NODES));
        let inner = ordinary.telling(prefix("fd6d:1:2:3::/64"), Provenance::Inner);
        assert_eq!(inner, Telling::Silent);
    }

    #[test]
    fn first_rule_that_fits_decides() {
        let deny = Rule {
            within: prefix("2001:db8::/32"),
            bits: (0, 128),
            verdict: Verdict::Deny,
        };
        let rules = [deny, Rule::inside(Prefix::ALL)];
        assert!(!allowed(&rules, prefix("2001:db8:1::/48")));
        assert!(allowed(&rules, prefix("2001:db9::/32")));
        assert!(!allowed(&[], prefix("2001:db9::/32")));
    }

    #[test]
    fn import_is_told_to_natives_as_ours() {
        let peer = LinkFilter::Native(Role::Peer);
        let what = prefix("2001:db8::/48");
        assert_eq!(peer.telling(what, Provenance::Imported), Telling::AsOurs);
        assert_eq!(peer.telling(what, Provenance::Inner), Telling::AsIs);
        assert_eq!(
            peer.telling(Prefix::SERVICES, Provenance::Own),
            Telling::Silent
        );
    }
}
