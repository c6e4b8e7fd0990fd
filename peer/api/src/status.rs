//! The answer to "how is this node?": facts first, health last.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh_base::certificate::Role;
use mesh_base::identity::NodeId;
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::names::Answering;
use crate::service::{ServiceHeld, ServiceOrdered};

/// Everything that `meshnode status` and `meshctl status` show, in the order in which they show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The mesh: the name of its first organisation until it gets its own.
    pub network: String,
    /// Our organisation.
    pub org: String,
    /// This node.
    pub node: String,
    /// This node's key.
    pub node_id: NodeId,
    /// This node's overlay address.
    pub address: Ipv6Addr,
    /// What this node may do.
    pub role: Role,
    /// How long the daemon runs, in seconds.
    pub uptime_s: u64,
    /// The daemon's version.
    pub version: String,
    /// Who decides for our organisation.
    pub voting: Voting,
    /// How programs here reach services.
    pub reach: Reach,
    /// Where programs here can ask for names; none from a daemon that has not said yet.
    #[serde(default)]
    pub names: Option<Answering>,
    /// How programs here come into the overlay, besides by ports of services; none from a daemon
    /// that has not said yet.
    #[serde(default)]
    pub entrances: Option<Entrances>,
    /// Which ports of the home's router lead here; none from a daemon that has not said yet.
    #[serde(default)]
    pub port_mapping: Option<PortMapping>,
    /// Every node known, our own left out.
    pub peers: Vec<PeerRow>,
    /// Strangers and messages refused since the start, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Packets of the overlay that went nowhere since the start, by reason.
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
    /// What routing knows now (`routes`, `neighbours`, `unreachable-members`) and what its speaker
    /// did and refused since the start.
    #[serde(default)]
    pub routing: BTreeMap<String, u64>,
    /// Ways over which packets are lost although routing thinks well of them.
    #[serde(default)]
    pub lost_ways: Vec<LostWayRow>,
    /// Heads of the ledger documents held here.
    pub heads: Vec<HeadRow>,
    /// Entries of the journal that are on disk.
    pub journal_position: u64,
    /// What runs here for whomever.
    pub held: Vec<ServiceHeld>,
    /// What our organisation ordered through this node.
    pub ordered: Vec<ServiceOrdered>,
    /// What was checked and how it is.
    pub health: Vec<HealthRow>,
}

/// A way over which packets are lost: nodes answer each other over another way and not over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostWayRow {
    /// Where the packets were to go.
    pub to: String,
    /// The neighbour that was to pass them on.
    pub via: String,
    /// Since when nothing has come back.
    pub since: Wall,
    /// The neighbour through which they go now.
    pub now: Option<String>,
}

/// How programs on this machine come into the overlay, besides by loopback ports of services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrances {
    /// Where a SOCKS 5 proxy listens.
    pub socks: Option<SocketAddr>,
    /// Where an HTTP proxy listens.
    pub http: Option<SocketAddr>,
    /// A process in the network namespace that the overlay is in; none where it is on the host, or
    /// in no namespace at all.
    pub namespace: Option<u32>,
}

/// Which ports of the home's router lead to this node, and why no others do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The router; none without a default route.
    pub router: Option<Ipv4Addr>,
    /// How it was asked: `pcp`, `nat-pmp` or `upnp`; none unless it mapped something.
    pub way: Option<String>,
    /// What it mapped.
    pub ports: Vec<MappedPort>,
    /// How it stands.
    pub sentence: String,
}

/// One port of the home's router that leads here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedPort {
    /// `UDP` or `TCP`.
    pub transport: String,
    /// The port here.
    pub port: u16,
    /// Where the world reaches it.
    pub external: SocketAddr,
}

/// Who decides for our organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voting {
    /// Whether this node votes.
    pub voter: bool,
    /// The name of the leader; none while nobody leads.
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
}

/// How programs on this machine reach services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// By overlay address.
    Address,
    /// By a port on 127.0.0.1.
    Loopback,
}

/// One other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its name.
    pub name: String,
    /// Its organisation's name.
    pub org: String,
    /// Its key.
    pub node: NodeId,
    /// Its overlay address.
    pub address: Ipv6Addr,
    /// Whether the control connection stands.
    pub connected: bool,
    /// Where its packets come from.
    pub endpoint: Option<SocketAddr>,
    /// Round trip on the control connection, in microseconds.
    pub rtt_us: Option<u64>,
    /// Milliseconds since its last packet on the overlay.
    pub silent_ms: Option<u64>,
    /// Whether packets pass on the overlay.
    pub link: Link,
    /// What carries them if they go directly; none if nobody tried yet.
    pub carrier: Option<Carrier>,
}

/// What carries the packets of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// UDP.
    Udp,
    /// UDP, and a stream for what is too long for it: other nodes' packets, as a rule.
    UdpAndStream,
    /// A stream inside the control connection, for nothing is answered by UDP.
    StreamUdpSilent,
    /// A stream inside the control connection, for UDP loses long datagrams.
    StreamUdpNarrow,
}

/// Whether packets pass between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// They do.
    Up,
    /// They do not.
    Down,
    /// Nobody tried yet.
    Unknown,
}

/// The head of one ledger document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    /// The document, in words: `outbox bakery-1 → library`.
    pub document: String,
    /// Number of its last change.
    pub seq: u64,
    /// Digest of its last change, short hex.
    pub head: String,
    /// How many records it holds.
    pub records: u64,
}

/// One thing checked about the node's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRow {
    /// What was checked, in a word or two.
    pub check: String,
    /// How it is.
    pub verdict: Health,
    /// What was found.
    pub sentence: String,
    /// What to do about it; empty if it is ok.
    pub hint: String,
}

/// How something is. What was not measured is unknown, never ok.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// Not measured.
    Unknown,
    /// It works, but not well.
    Warn,
    /// It does not work.
    Fail,
}
