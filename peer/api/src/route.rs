//! Answers about ways: routes, links, pings and traces, with the reasons behind them.
//!
//! Nodes stand as `name.org`. Round trips are in microseconds, costs and metrics in the routing
//! protocol's own unit (RFC 8966), smaller is better.

use std::net::{Ipv6Addr, SocketAddr};

use mesh_base::identity::NodeId;
use serde::{Deserialize, Serialize};

use crate::status::Carrier;

/// What is known of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Whose it is; none if it is no node's that we know.
    pub node: Option<String>,
    /// The prefix: a node's /64.
    pub prefix: String,
    /// How it is reached.
    pub state: RouteState,
    /// Through whom.
    pub next_hop: Option<String>,
    /// The length of the way in use: the sum of the four parts below.
    pub metric: Option<u16>,
    /// What lies behind the next hop, as it says.
    pub behind: Option<u16>,
    /// The part for the link to it.
    pub link_cost: Option<u16>,
    /// The part for the round trip to it.
    pub rtt_cost: Option<u16>,
    /// The part for packets that did not arrive on this way.
    pub penalty: Option<u16>,
    /// Links on the way from there, as its last parcel counted them; 1 if it is a neighbour.
    pub hops: Option<u8>,
    /// The best that was ever announced from here: only what is better is known to make no loop.
    pub feasibility: Option<DistanceRow>,
    /// Milliseconds since packets go this way, or none.
    pub age_ms: Option<u64>,
    /// Why the way in use is used, in one sentence; why there is none.
    pub why: String,
    /// Every way known, the one in use first; only if one destination was asked about.
    pub ways: Vec<WayRow>,
}

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// It is this node.
    Own,
    /// Through a neighbour.
    Selected,
    /// Not now; packets are dropped until everybody has forgotten the way that was lost.
    Held,
    /// Not at all.
    Unreachable,
}

impl RouteState {
    /// Returns the word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Own => "this node",
            Self::Selected => "selected",
            Self::Held => "held",
            Self::Unreachable => "unreachable",
        }
    }
}

/// How far an origin is, and how new that word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistanceRow {
    /// The origin's number: a newer one counts, whatever the metric.
    pub seqno: u16,
    /// The length of the path.
    pub metric: u16,
}

/// One way to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayRow {
    /// Through whom.
    pub via: String,
    /// What the neighbour says.
    pub claimed: DistanceRow,
    /// The part of the metric for the link.
    pub link_cost: u16,
    /// The part for the round trip.
    pub rtt_cost: u16,
    /// The part for packets that did not arrive.
    pub penalty: u16,
    /// The sum; none if there is no way now.
    pub metric: Option<u16>,
    /// Whether it is known to make no loop.
    pub feasible: bool,
    /// Whether it is in use.
    pub selected: bool,
    /// Until it is forgotten unless it is heard again, in milliseconds.
    pub expires_ms: u64,
    /// Why it is in use or not, in one sentence.
    pub why: String,
}

/// A neighbour, or a node with which there is a session over others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRow {
    /// The node.
    pub name: String,
    /// Its key.
    pub node: NodeId,
    /// Its overlay address.
    pub address: Ipv6Addr,
    /// How packets go to it.
    pub way: Way,
    /// Why there is a link: `everybody` in a small mesh, `near`, `random`, `trial`, `inbound` if
    /// the other chose it, `draining`; none if there is to be none.
    pub place: Option<String>,
    /// Whether it is a leaf: nothing passes through it.
    pub leaf: bool,
    /// What the choice of neighbours says of it, in one sentence.
    pub why: String,
    /// Where its datagrams come from, if they ever came directly by UDP.
    pub endpoint: Option<SocketAddr>,
    /// What carries packets to it if they go directly.
    pub carrier: Carrier,
    /// Milliseconds since its last authenticated datagram, on whatever way.
    pub silent_ms: Option<u64>,
    /// Bytes of packets from it, routing talk and others' parcels included.
    pub received_bytes: u64,
    /// Bytes of packets to it, likewise.
    pub sent_bytes: u64,
    /// Of these, bytes of other nodes' parcels handed on.
    pub relayed_bytes: u64,
    /// What routing sees on the link; none if it is no neighbour now.
    pub neighbour: Option<NeighbourRow>,
}

/// How packets go to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Way {
    /// Over the link's own underlay.
    Direct,
    /// Through other nodes.
    Around {
        /// The first of them.
        via: String,
        /// Links that its last parcel crossed.
        hops: Option<u8>,
    },
    /// Not at all.
    None,
}

/// A neighbour as routing sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourRow {
    /// The smoothed round trip.
    pub rtt_us: Option<u64>,
    /// What receiving from it costs.
    pub rxcost: u16,
    /// What it says that receiving from us costs; none if it does not hear us.
    pub txcost: Option<u16>,
    /// What the way to it costs, round trip included; none if it cannot be used.
    pub cost: Option<u16>,
    /// Which of its last sixteen hellos came, the newest first: `1` came, `0` did not.
    pub hellos: String,
    /// The same for hellos to this node alone.
    pub unicast_hellos: String,
    /// Milliseconds since both directions work.
    pub up_ms: Option<u64>,
    /// Destinations that are reached through it.
    pub routes: u64,
}

/// What came of one question to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReply {
    /// The node.
    pub name: String,
    /// Its overlay address.
    pub address: Ipv6Addr,
    /// How long it took.
    pub rtt_us: u64,
    /// Links that the question crossed, as counted there.
    pub hops_there: u8,
    /// Links that the answer crossed, as counted here.
    pub hops_back: u8,
    /// The nodes on the way there, if that was asked, the destination last.
    pub path: Vec<HopRow>,
}

/// One place on a way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopRow {
    /// Links from here.
    pub hop: u8,
    /// Who answered; none if nobody did.
    pub node: Option<String>,
    /// The shortest round trip to it.
    pub rtt_us: Option<u64>,
}

/// A way, place by place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReply {
    /// The node.
    pub name: String,
    /// Its overlay address.
    pub address: Ipv6Addr,
    /// Whether it answered.
    pub reached: bool,
    /// The places in order; the destination last, if it answered.
    pub hops: Vec<HopRow>,
}
