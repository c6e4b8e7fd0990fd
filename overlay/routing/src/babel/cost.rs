//! What a link costs: from hellos heard to rxcost, from both directions to cost.
//!
//! | kind | usable | rxcost | cost |
//! |---|---|---|---|
//! | tunnel | heard at all; silence is probed | its base, twice that while lossy | txcost + RTT |
//! | wired | two of the last three hellos (RFC 8966, appendix A.2.1) | its base | txcost + RTT |
//! | wireless | heard at all (appendix A.2.2, ETX) | 256 over the share of hellos | product |
//!
//! A tunnel becomes lossy when five of its last sixteen hellos were missed, and good again when no
//! more than two were: between them it stays what it is, so that the cost does not swing.

use crate::babel::history::History;
use crate::babel::words::Metric;

/// What a link is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A session with one neighbour; everything it carries is authentic.
    Tunnel,
    /// A network that loses little, with any number of neighbours.
    Wired,
    /// A network whose losses differ.
    Wireless,
}

/// Whether a tunnel loses much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quality {
    /// It does not.
    #[default]
    Good,
    /// It does.
    Lossy,
}

const LOSSY_FROM: u32 = 5;
const GOOD_UP_TO: u32 = 2;

impl Quality {
    /// Returns the quality after a look at the history.
    pub fn after(self, history: &History) -> Self {
        match history.missed() {
            missed if LOSSY_FROM <= missed => Self::Lossy,
            missed if missed <= GOOD_UP_TO => Self::Good,
            _ => self,
        }
    }
}

/// Both sequences of a neighbour's hellos.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// Those to everybody.
    pub multicast: History,
    /// Those to us alone.
    pub unicast: History,
}

impl Heard {
    /// Returns the cost of receiving from the neighbour, to be told in an IHU.
    pub fn rxcost(&self, kind: Kind, base: Metric, quality: Quality) -> Metric {
        let both = [&self.multicast, &self.unicast];
        match kind {
            Kind::Tunnel if self.is_silent() => Metric::INFINITY,
            Kind::Tunnel => match quality {
                Quality::Good => base,
                Quality::Lossy => base.plus(base),
            },
            Kind::Wired if both.iter().any(|history| 2 <= history.heard_of(3)) => base,
            Kind::Wired => Metric::INFINITY,
            Kind::Wireless => {
                let heard = both.iter().map(|history| history.heard_of(16)).max();
                let cost = (256 * 16_u32).checked_div(heard.unwrap_or_default());
                let cost = cost.and_then(|cost| u16::try_from(cost).ok());
                cost.map_or(Metric::INFINITY, Metric)
            }
        }
    }

    /// Returns whether nothing at all was heard lately.
    pub fn is_silent(&self) -> bool {
        self.multicast.is_silent() && self.unicast.is_silent()
    }
}

/// Returns the cost of a link from what both ends hear; at least one, so that no cycle is free.
pub fn cost(kind: Kind, rxcost: Metric, txcost: Metric, rtt_penalty: Metric) -> Metric {
    if !rxcost.is_finite() || !txcost.is_finite() {
        return Metric::INFINITY;
    }
    let base = match kind {
        Kind::Tunnel | Kind::Wired => txcost,
        Kind::Wireless => {
            let product = u32::from(rxcost.0.max(256)) * u32::from(txcost.0) / 256;
            u16::try_from(product).map_or(Metric::INFINITY, Metric)
        }
    };
    base.max(Metric(1)).plus(rtt_penalty)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_base::time::Moment;

    use super::*;
    use crate::babel::words::Seqno;

    fn heard(numbers: &[u16]) -> Heard {
        let mut heard = Heard::default();
        for number in numbers {
            let hello = Seqno(*number);
            heard
                .multicast
                .handle_hello(hello, Duration::from_secs(1), Moment(0));
        }
        heard
    }

    #[track_caller]
    fn check(kind: Kind, numbers: &[u16], expect: u16) {
        let rxcost = heard(numbers).rxcost(kind, Metric(96), Quality::Good);
        assert_eq!(rxcost, Metric(expect), "{kind:?} {numbers:?}");
    }

    #[test]
    fn wired_link_needs_two_of_three_hellos() {
        check(Kind::Wired, &[], 0xffff);
        check(Kind::Wired, &[1], 0xffff);
        check(Kind::Wired, &[1, 2], 96);
        check(Kind::Wired, &[1, 3], 96);
        check(Kind::Wired, &[1, 4], 0xffff);
    }

    #[test]
    fn tunnel_needs_one_hello() {
        check(Kind::Tunnel, &[], 0xffff);
        check(Kind::Tunnel, &[1], 96);
    }

    #[test]
    fn wireless_link_costs_what_it_loses() {
        let all: Vec<u16> = (1..=16).collect();
        check(Kind::Wireless, &all, 256);
        let half: Vec<u16> = (1..=16).map(|number| number * 2).collect();
        check(Kind::Wireless, &half, 512);
        assert_eq!(
            cost(Kind::Wireless, Metric(512), Metric(512), Metric(0)),
            Metric(1024)
        );
    }

    #[test]
    fn tunnel_changes_its_quality_with_hysteresis() {
        let mut quality = Quality::Good;
        let lossy = heard(&[1, 2, 3, 9]);
        quality = quality.after(&lossy.multicast);
        assert_eq!(quality, Quality::Lossy);
        assert_eq!(lossy.rxcost(Kind::Tunnel, Metric(96), quality), Metric(192));
        quality = quality.after(&heard(&[1, 5]).multicast);
        assert_eq!(quality, Quality::Lossy);
        assert_eq!(quality.after(&heard(&[1, 4]).multicast), Quality::Good);
    }

    #[test]
    fn cost_is_infinite_if_one_direction_is_and_never_zero() {
        let (inf, some) = (Metric::INFINITY, Metric(96));
        assert_eq!(cost(Kind::Wired, inf, some, Metric(0)), inf);
        assert_eq!(cost(Kind::Wired, some, inf, Metric(0)), inf);
        assert_eq!(cost(Kind::Wired, some, Metric(0), Metric(0)), Metric(1));
        assert_eq!(cost(Kind::Tunnel, some, some, Metric(40)), Metric(136));
    }
}
