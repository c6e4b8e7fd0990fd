//! Kinds of home routers, in the words of RFC 4787 (UDP) and RFC 5382 (TCP).
//!
//! A kind is data: the boxes between a home and the Internet, each with what it does to packets.
//! Decides nothing about how a box does it: that is [`crate::nat_rules`], and [`crate::nat_router`]
//! gives it a place to stand.
//!
//! | kind | boxes | mapping | filtering |
//! |---|---|---|---|
//! | open | none: the machine has a public address | – | – |
//! | full-cone | one | endpoint-independent | endpoint-independent |
//! | restricted | one | endpoint-independent | address-dependent |
//! | symmetric | one | address and port-dependent | address and port-dependent |
//! | port-restricted | one | endpoint-independent | address and port-dependent |
//! | double | two of these | endpoint-independent | address and port-dependent |
//! | cgnat | one, then a carrier's | endpoint-independent | address and port-dependent |
//! | udp-blocked | one | – | nothing but TCP goes out |
//! | tcp-one-port | one | – | nothing but TCP to port 443 goes out |
//!
//! The carrier's box keeps to RFC 6888: mapping endpoint-independent (its REQ-1), filtering
//! endpoint-independent as it recommends (its REQ-7), ports not kept because customers share an
//! address, packets turned back (hairpin, REQ-9 of RFC 4787), 100.64.0.0/10 inside (RFC 6598). What
//! makes it hard is the customer's own router before it, which filters, and that nobody can map a
//! port on the carrier's.

use std::fmt;
use std::time::Duration;

/// Which port of the outside an inside port gets for each destination (RFC 4787, §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// The same for all.
    EndpointIndependent,
    /// One for each address and port.
    AddressAndPortDependent,
}

/// Who may send to an outside port (RFC 4787, §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// Whose address was sent to.
    AddressDependent,
    /// Whose address and port were sent to.
    AddressAndPortDependent,
}

/// Which numbers outside ports have (RFC 4787, §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Those of the inside, if they are free.
    Kept,
    /// Others.
    Changed,
}

/// What goes out at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Everything.
    All,
    /// TCP.
    Tcp,
    /// TCP to one port.
    TcpTo(u16),
}

/// What one box does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Which outside port an inside port gets.
    pub mapping: Mapping,
    /// Who may send to it.
    pub filtering: Filtering,
    /// Which number it has.
    pub ports: Ports,
    /// Whether insiders reach insiders at their outside ports.
    pub hairpin: bool,
    /// What goes out at all.
    pub passage: Passage,
    /// How long a mapping lives without packets from inside.
    pub lifetime: Duration,
}

impl Traits {
    /// The usual home router: Linux that masquerades.
    pub const HOME: Self = Self {
        mapping: Mapping::EndpointIndependent,
        filtering: Filtering::AddressAndPortDependent,
        ports: Ports::Kept,
        hairpin: false,
        passage: Passage::All,
        // The least that RFC 4787 allows (REQ-5).
        lifetime: Duration::from_secs(120),
    };

    /// A carrier's.
    pub const CARRIER: Self = Self {
        filtering: Filtering::EndpointIndependent,
        ports: Ports::Changed,
        hairpin: true,
        ..Self::HOME
    };
}

/// What stands between a home and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatKind {
    /// Nothing: the machine has a public address.
    Open,
    /// A router that lets everybody answer.
    FullCone,
    /// A router that lets those answer whose address was sent to.
    Restricted,
    /// A router that lets those answer whose address and port were sent to.
    PortRestricted,
    /// A router with another port for each destination.
    Symmetric,
    /// A home router behind a home router.
    Double,
    /// A home router behind a carrier's.
    Cgnat,
    /// A router, as in hotels, that lets TCP out only.
    UdpBlocked,
    /// A router, as in offices, that lets TCP to port 443 out only.
    TcpOnePort,
}

impl NatKind {
    /// The eight kinds of the bar, then the one beyond.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::FullCone,
        Self::Restricted,
        Self::PortRestricted,
        Self::Symmetric,
        Self::Double,
        Self::Cgnat,
        Self::UdpBlocked,
        Self::TcpOnePort,
    ];

    /// Returns the boxes, from the home outwards.
    pub fn boxes(self) -> Vec<Traits> {
        let home = Traits::HOME;
        let one = |traits: Traits| vec![traits];
        match self {
            Self::Open => Vec::new(),
            Self::FullCone => one(Traits {
                filtering: Filtering::EndpointIndependent,
                hairpin: true,
                ..home
            }),
            Self::Restricted => one(Traits {
                filtering: Filtering::AddressDependent,
                ..home
            }),
            Self::PortRestricted => one(home),
            Self::Symmetric => one(Traits {
                mapping: Mapping::AddressAndPortDependent,
                ports: Ports::Changed,
                ..home
            }),
            Self::Double => vec![home, home],
            Self::Cgnat => vec![home, Traits::CARRIER],
            Self::UdpBlocked => one(Traits {
                passage: Passage::Tcp,
                ..home
            }),
            Self::TcpOnePort => one(Traits {
                passage: Passage::TcpTo(443),
                ..home
            }),
        }
    }

    /// Returns whether UDP goes out and answers come back.
    pub fn passes_udp(self) -> bool {
        self.boxes().iter().all(|one| one.passage == Passage::All)
    }

    /// Returns whether theory lets two such homes exchange UDP directly, without a mapped port:
    /// both send to where the other was seen by somebody else, at the same time.
    ///
    /// A port that changes with its destination is not where it was seen. That harms nobody who
    /// lets any port of a known address in, and everybody who does not.
    pub fn meets(self, other: Self) -> bool {
        let wanders = |kind: Self| {
            let mut boxes = kind.boxes().into_iter();
            boxes.any(|one| one.mapping != Mapping::EndpointIndependent)
        };
        let minds_ports = |kind: Self| {
            let mut boxes = kind.boxes().into_iter();
            boxes.any(|one| one.filtering == Filtering::AddressAndPortDependent)
        };
        let blind = |a: Self, b: Self| wanders(a) && minds_ports(b);
        let both_udp = self.passes_udp() && other.passes_udp();
        both_udp && !blind(self, other) && !blind(other, self)
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::FullCone => "full-cone",
            Self::Restricted => "restricted",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::Double => "double",
            Self::Cgnat => "cgnat",
            Self::UdpBlocked => "udp-blocked",
            Self::TcpOnePort => "tcp-one-port",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wandering_ports_and_blocked_udp_keep_homes_apart() {
        use NatKind::*;
        let wanted = |a: NatKind, b: NatKind| {
            let minds = [PortRestricted, Symmetric, Double, Cgnat];
            let apart = |a: NatKind, b: NatKind| a == Symmetric && minds.contains(&b);
            let blocked = [UdpBlocked, TcpOnePort];
            let is_blocked = blocked.contains(&a) || blocked.contains(&b);
            !is_blocked && !apart(a, b) && !apart(b, a)
        };
        for a in NatKind::ALL {
            for b in NatKind::ALL {
                assert_eq!(a.meets(b), wanted(a, b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn kinds_have_names_and_boxes_of_their_own() {
        let names: std::collections::BTreeSet<String> =
            NatKind::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), NatKind::ALL.len());
        for (at, kind) in NatKind::ALL.iter().enumerate() {
            for other in &NatKind::ALL[..at] {
                assert_ne!(kind.boxes(), other.boxes(), "{kind} is {other}");
            }
        }
    }
}
