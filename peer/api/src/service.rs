//! Services: what a plan, an order, a listing and a closer look tell about them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use mesh_base::digest::Digest;
use mesh_base::money::{Money, Price};
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

/// What a service is, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// No node has it yet.
    Planning,
    /// A node has it and prepares it.
    Preparing,
    /// Its processes run and its promises hold.
    Ready,
    /// Its processes run, but a promise does not hold.
    Degraded,
    /// Its processes end on request.
    Stopping,
    /// Its processes do not run, as asked.
    Stopped,
    /// It could not be brought up, or fell and will not be tried again.
    Failed,
    /// It is being removed.
    Destroying,
    /// Nothing of it is left.
    Destroyed,
    /// Its node has not been heard.
    Unknown,
}

impl ServiceState {
    /// Returns the word that people see.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for ServiceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// How safe an acknowledged order is: which losses it survives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safety {
    /// Whether enough copies are on disk elsewhere.
    pub safe: bool,
    /// How many nodes have it on disk, this one included.
    pub copies: u32,
    /// Copies that are enough.
    pub copies_needed: u32,
    /// The nodes that have it on disk.
    pub holders: Vec<String>,
}

/// A plan that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReply {
    /// Pass it to the order to be sure that it does what was shown.
    pub token: String,
    /// What would be ordered.
    pub recipe: String,
    /// Under which name.
    pub name: String,
    /// Nodes that can take it, the best first.
    pub candidates: Vec<Candidate>,
    /// Nodes that cannot, and why.
    pub refused: Vec<RefusedNode>,
}

/// A node that can take an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// Its organisation.
    pub org: String,
    /// What it asks.
    pub price: Price,
    /// Round trip to it, in microseconds.
    pub rtt_us: Option<u64>,
    /// Why it stands where it stands.
    pub reason: String,
}

/// A node that cannot take an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedNode {
    /// The node.
    pub node: String,
    /// Why not.
    pub reason: String,
}

/// An order whose promises hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReply {
    /// The order record's id.
    pub order: Digest,
    /// The service's name.
    pub name: String,
    /// The recipe.
    pub recipe: String,
    /// The node that has it.
    pub node: String,
    /// That node's organisation.
    pub org: String,
    /// What it costs.
    pub price: Price,
    /// Round trip to the node, in microseconds.
    pub rtt_us: Option<u64>,
    /// What works from this machine.
    pub url: Option<String>,
    /// What works from every machine whose programs reach the overlay.
    pub overlay_url: Option<String>,
    /// The service's overlay address.
    pub address: Ipv6Addr,
    /// The service's main port there.
    pub port: Option<u16>,
    /// From request to reply.
    pub elapsed_ms: u64,
    /// Which losses the order survives.
    pub safety: Safety,
}

/// A row of what our organisation ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOrdered {
    /// The service.
    pub name: String,
    /// The recipe.
    pub recipe: String,
    /// What it is.
    pub state: ServiceState,
    /// The node that has it.
    pub node: Option<String>,
    /// That node's organisation.
    pub org: Option<String>,
    /// What it costs.
    pub price: Option<Price>,
    /// What works from this machine.
    pub url: Option<String>,
    /// The name that means its address, while it has a holder.
    #[serde(default)]
    pub dns_name: Option<String>,
    /// When it was ordered.
    pub ordered_at: Wall,
}

/// A row of what runs on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHeld {
    /// The service's name at its customer.
    pub name: String,
    /// The recipe.
    pub recipe: String,
    /// What it is.
    pub state: ServiceState,
    /// The customer's organisation.
    pub customer: String,
    /// The service's overlay address.
    pub address: Ipv6Addr,
    /// Memory set aside, in MiB.
    pub memory_mib: u32,
    /// Since when.
    pub granted_at: Wall,
    /// Restarts since then that nobody asked for.
    pub restarts: u32,
}

/// Everything about one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowReply {
    /// The service.
    pub name: String,
    /// The order record's id.
    pub order: Digest,
    /// The recipe.
    pub recipe: String,
    /// What it is.
    pub state: ServiceState,
    /// What it is, in a sentence: the promise that fails, the step that lasts.
    pub sentence: String,
    /// The node that has it.
    pub node: Option<String>,
    /// That node's organisation.
    pub org: Option<String>,
    /// The service's overlay address.
    pub address: Ipv6Addr,
    /// Who may reach it: our organisation first, then guests; `mesh` for every organisation.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// The name that means its address, while it has a holder.
    #[serde(default)]
    pub dns_name: Option<String>,
    /// What the service publishes, by field: `url`, `overlay_url`, `host`, `port`, `user`, … Opened
    /// from the sealed connection; holds secrets.
    pub fields: BTreeMap<String, String>,
    /// What it costs.
    pub price: Option<Price>,
    /// What it cost so far, by the signed usage.
    pub cost: Option<Money>,
    /// When it was ordered.
    pub ordered_at: Wall,
    /// Since when its promises hold.
    pub ready_at: Option<Wall>,
    /// What was tried, in order.
    pub attempts: Vec<AttemptRow>,
    /// Which losses the order survives.
    pub safety: Safety,
}

/// One attempt to place an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Counts from 1.
    pub attempt: u32,
    /// The node that was asked.
    pub node: String,
    /// When.
    pub at: Wall,
    /// How it ended, in words: `granted`, `refused: memory is full`.
    pub outcome: String,
}
