//! A link as the speaker sees it: what it is configured to be, and the pace of its hellos.
//!
//! On a tunnel there is one neighbour, so everything but hellos goes to it alone; elsewhere updates
//! go to everybody. Invariant: the slot of a link is its own among the links there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_base::time::Moment;

use crate::babel::cost::Kind;
use crate::babel::filter::{LinkFilter, Role};
use crate::babel::limits::DRAIN_COST;
use crate::babel::mail::{Mail, UnackedQueue};
use crate::babel::neighbour::NeighbourId;
use crate::babel::rtt::RttCost;
use crate::babel::wire::tlv::Centis;
use crate::babel::words::{Metric, Seqno};

/// Names a link; the shell chooses the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// What it is made of.
    pub kind: Kind,
    /// Our own link-local address on it.
    pub address: Ipv6Addr,
    /// At least one hello in this time.
    pub hello_interval: Duration,
    /// The whole table is told once in this time.
    pub update_interval: Duration,
    /// What it costs when it loses nothing.
    pub base_cost: Metric,
    /// What round trips cost.
    pub rtt: RttCost,
    /// Whether a route is not told to where it came from; lawful if all who hear us hear each
    /// other.
    pub split_horizon: bool,
    /// Whether updates ask for acknowledgements; else retractions are said twice.
    pub acked: bool,
    /// Whether silence is probed: only between programs that answer at once.
    pub probed: bool,
    /// Whether each neighbour gets hellos of its own too.
    pub unicast_hellos: bool,
    /// Most bytes of a packet.
    pub payload_max: usize,
    /// What is believed and told.
    pub filter: LinkFilter,
    /// Whether it is going to be given up: both ends look for another way, and until there is one
    /// it carries what it carried.
    pub drains: bool,
}

impl LinkConfig {
    /// Returns the configuration of a session between two nodes.
    pub fn tunnel(address: Ipv6Addr) -> Self {
        Self {
            kind: Kind::Tunnel,
            address,
            hello_interval: Duration::from_secs(1),
            update_interval: Duration::from_secs(300),
            base_cost: Metric(96),
            rtt: RttCost::TUNNEL,
            split_horizon: true,
            acked: true,
            probed: true,
            unicast_hellos: false,
            payload_max: 1232,
            filter: LinkFilter::Native(Role::Peer),
            drains: false,
        }
    }

    /// Returns the configuration of an ordinary network with other Babel routers, with the times of
    /// RFC 8966, appendix B.
    pub fn wired(address: Ipv6Addr, filter: LinkFilter) -> Self {
        Self {
            kind: Kind::Wired,
            hello_interval: Duration::from_secs(4),
            update_interval: Duration::from_secs(16),
            rtt: RttCost::NONE,
            acked: false,
            probed: false,
            filter,
            ..Self::tunnel(address)
        }
    }

    /// Returns what is added to the cost of either direction.
    pub fn drain_cost(&self) -> Metric {
        if self.drains {
            DRAIN_COST
        } else {
            Metric::ZERO
        }
    }

    /// Returns until when an IHU promises the next one: three hellos.
    pub fn ihu_interval(&self) -> Centis {
        centis(self.hello_interval * 3)
    }
}

/// Returns a time as on the wire: at least one hundredth, at most 655 seconds.
pub fn centis(time: Duration) -> Centis {
    let count = u16::try_from(time.as_millis() / 10).unwrap_or(u16::MAX);
    Centis(count.max(1))
}

/// Returns a time from the wire.
pub fn duration(time: Centis) -> Duration {
    Duration::from_millis(u64::from(time.0) * 10)
}

/// Hellos and what goes with them, to everybody on the link.
#[derive(Debug, Clone, Default)]
pub struct Beacon {
    /// Whether a hello is due.
    pub hello: bool,
    /// Neighbours to be told how they are heard.
    pub ihus: BTreeSet<NeighbourId>,
    /// Addresses to be told that they are no longer heard, and how often still.
    pub farewells: BTreeMap<Ipv6Addr, u8>,
}

/// A link that is up.
#[derive(Debug, Clone)]
pub struct Link {
    /// What it is.
    pub config: LinkConfig,
    /// Its bit in words of bits.
    pub slot: u32,
    /// Of the next hello to everybody.
    pub hello_seqno: Seqno,
    /// When that is sent.
    pub hello_at: Moment,
    /// Hellos until the next one with IHUs.
    pub hellos_until_ihu: u8,
    /// When the whole table is told next.
    pub dump_at: Moment,
    /// What goes with the next hello.
    pub beacon: Beacon,
    /// What waits for everybody; unused on a tunnel.
    pub mail: Mail,
    /// Packets that wait for acknowledgements.
    pub unacked: UnackedQueue,
    /// None of them is said again before this.
    pub resend_at: Option<Moment>,
    /// Who is heard on it.
    pub neighbours: BTreeSet<NeighbourId>,
}

impl Link {
    /// Returns the link's bit.
    pub fn bit(&self) -> u64 {
        1_u64.checked_shl(self.slot).unwrap_or_default()
    }

    /// Returns when time has something to do here; what waits to be written is apart.
    pub fn deadlines(&self) -> impl Iterator<Item = Moment> {
        [self.hello_at, self.dump_at]
            .into_iter()
            .chain(self.resend_at)
    }

    /// Returns whether a neighbour gets the table because it asks for it, until that arrives,
    /// rather than because it becomes usable: ours do.
    pub fn asks_for_table(&self) -> bool {
        self.is_tunnel() && self.config.acked
    }

    /// Returns whether everything goes to the one neighbour.
    pub fn is_tunnel(&self) -> bool {
        self.config.kind == Kind::Tunnel
    }
}
