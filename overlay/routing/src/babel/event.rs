//! What the speaker tells its shell: routes that changed, neighbours, alarms, packets to send.

use std::net::Ipv6Addr;

use crate::babel::link::LinkId;
use crate::babel::neighbour::NeighbourId;
use crate::babel::words::{Metric, Prefix, RouterId};

/// Where packets to a prefix go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Over which link.
    pub link: LinkId,
    /// To whom.
    pub neighbour: NeighbourId,
    /// Its address; that of another router on the link if the neighbour said so.
    pub address: Ipv6Addr,
    /// The length of the path, when this was asked.
    pub metric: Metric,
    /// Who originates the route.
    pub router_id: RouterId,
}

/// What is known of the way to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// There is one.
    Via(NextHop),
    /// There is none now, and packets must be dropped: a covering route could lead back to us.
    Held,
    /// There is none, and a covering route may be used.
    Gone,
}

/// Why a neighbour is no longer usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// Its link went down.
    LinkDown,
    /// It did not answer probes.
    Silent,
    /// Too many of its hellos were missed.
    HellosMissed,
    /// It does not hear us.
    Unheard,
    /// It restarted, or another took its place.
    Restarted,
}

/// What a person should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Somebody else announces a prefix of ours.
    SecondClaimant {
        /// The prefix.
        prefix: Prefix,
        /// As whom.
        router_id: RouterId,
        /// Through whom we heard it.
        neighbour: NeighbourId,
    },
    /// There are as many prefixes as we can take.
    TableFull,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Packets to a prefix go another way.
    RouteChanged {
        /// Which.
        prefix: Prefix,
        /// How they go now.
        reach: Reach,
    },
    /// Both directions to a neighbour work.
    NeighbourUp {
        /// Who.
        neighbour: NeighbourId,
        /// Where.
        link: LinkId,
        /// Its address.
        address: Ipv6Addr,
    },
    /// They no longer do.
    NeighbourDown {
        /// Who.
        neighbour: NeighbourId,
        /// Where.
        link: LinkId,
        /// Its address.
        address: Ipv6Addr,
        /// Why.
        why: Parting,
    },
    /// A person should look.
    Alarm(Alarm),
}

/// To whom a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To every router on the link: `ff02::1:6`, port 6696.
    Multicast,
    /// To one neighbour, port 6696.
    Unicast(Ipv6Addr),
}

/// A packet to send, from the link's own address and port 6696, with a hop limit of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Over which link.
    pub link: LinkId,
    /// To whom.
    pub to: To,
    /// The UDP payload.
    pub bytes: Vec<u8>,
}
