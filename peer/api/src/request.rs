//! What programs may ask: one closed enum, so that a daemon that forgets a case does not compile.

use std::collections::{BTreeMap, BTreeSet};

use mesh_base::certificate::Role;
use mesh_base::money::{Money, Price};
use mesh_base::name::Name;
use serde::{Deserialize, Serialize};

use crate::client::WireguardKey;
use crate::guest::Guest;

/// Most bytes of a request's JSON body: an order with all its parameters fits many times.
pub const BODY_LEN_MAX: usize = 256 * 1024;

/// One thing asked of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How is this node?
    Status,
    /// Whom does this node know, and how are they reached?
    Peers,
    /// Which ways are there to other nodes, and why?
    Routes {
        /// Everything about this one: a node's name, `name.org`, or an overlay address.
        to: Option<String>,
    },
    /// Over which links and sessions does this node talk?
    Links,
    /// Is a node there?
    Ping {
        /// A node's name, `name.org`, or its address.
        to: String,
        /// Whether to find out who is on the way.
        path: bool,
    },
    /// Who is on the way to a node?
    Trace {
        /// A node's name, `name.org`, or its address.
        to: String,
    },
    /// What does this machine's network let through?
    Netcheck,
    /// List the clients of this node: stock WireGuard devices that it lets into the mesh.
    ClientLs,
    /// Let a client in.
    ClientAdd {
        /// What its owner calls it.
        name: Name,
        /// Its public key.
        key: WireguardKey,
    },
    /// Let a client in no longer.
    ClientRemove {
        /// Its name.
        name: Name,
    },
    /// Make a one-time invite for a new member of our organisation.
    MemberInvite {
        /// What the member will be.
        role: Role,
        /// How long the invite opens the door, in seconds.
        valid_s: u64,
    },
    /// List the members of our organisation.
    MemberLs,
    /// Revoke a member of our organisation: its key is never admitted again.
    MemberRevoke {
        /// Its name.
        name: Name,
        /// Why, for everybody who is told.
        reason: String,
    },
    /// Make an agreement offer for another organisation: what we sell to it, and how far we trust
    /// it.
    OrgInvite {
        /// What may be ordered, at which price.
        sell: Vec<Sale>,
        /// How much the buyer may owe before orders are refused.
        credit: Money,
        /// How long the offer can be accepted, in seconds.
        valid_s: u64,
        /// Days between an invoice and its payment.
        settlement_days: u32,
    },
    /// Countersign an agreement offer of another organisation.
    OrgAccept {
        /// The text that `OrgInvite` gave to the seller.
        agreement: String,
    },
    /// List the organisations we know.
    OrgLs,
    /// List the agreements in force, as buyer and as seller.
    AgreementLs,
    /// List who sells what, at which price, with which capacity free.
    OfferLs,
    /// List the recipes that can be ordered.
    RecipeLs,
    /// Order a service, or only plan the order.
    Order(Box<OrderRequest>),
    /// List the services that we ordered, and those that run here for others.
    Ps,
    /// Show everything about one service that we ordered.
    Show {
        /// Its name.
        name: Name,
    },
    /// What does a name of the mesh mean here?
    Resolve {
        /// The name, whole or without the zone, or an address.
        name: String,
    },
    /// Start, stop or destroy a service.
    SetState {
        /// Its name.
        name: Name,
        /// What it shall be.
        state: DesiredState,
    },
    /// Read a service's log.
    Logs {
        /// Its name.
        name: Name,
        /// Whether to go on until the caller hangs up.
        follow: bool,
        /// How many of the last bytes to begin with.
        bytes: u64,
    },
    /// List usage statements.
    UsageLs {
        /// Of this service only.
        name: Option<Name>,
    },
    /// Ask the providers for a usage statement now, and wait for it.
    UsageNow {
        /// Of this service only.
        name: Option<Name>,
    },
    /// List invoices, sent and received.
    InvoiceLs,
    /// Show one invoice with its lines.
    InvoiceShow {
        /// Its number.
        number: String,
    },
    /// Recompute one invoice from the signed usage.
    InvoiceVerify {
        /// Its number.
        number: String,
    },
    /// List the heads of the ledger documents held here.
    LedgerHeads,
    /// Check every signature and sequence of the ledger documents held here.
    LedgerVerify,
}

/// Something that may be ordered under an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// The recipe.
    pub recipe: Name,
    /// What it costs.
    pub price: Price,
}

/// What a service shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// Its processes run.
    Running,
    /// Its processes do not run; data, address and price stay.
    Stopped,
    /// Nothing of it is left.
    Destroyed,
}

impl std::fmt::Display for DesiredState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
        })
    }
}

/// An order. What is none is left to the recipe, to chance, or to the planner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// What is ordered.
    pub recipe: Name,
    /// The name of the service; none lets the node choose one.
    #[serde(default)]
    pub name: Option<Name>,
    /// Parameters of the recipe by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Only on this node.
    #[serde(default)]
    pub node: Option<Name>,
    /// Only on nodes of this organisation.
    #[serde(default)]
    pub org: Option<Name>,
    /// Memory in MiB instead of the recipe's.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// Processor in thousandths of a core instead of the recipe's.
    #[serde(default)]
    pub cpu_millis: Option<u32>,
    /// Disk in MiB instead of the recipe's.
    #[serde(default)]
    pub disk_mib: Option<u32>,
    /// Pay at most this.
    #[serde(default)]
    pub price_cap: Option<Price>,
    /// Who may reach the service besides our organisation.
    #[serde(default)]
    pub allow: BTreeSet<Guest>,
    /// Show the plan and do nothing.
    #[serde(default)]
    pub plan_only: bool,
    /// The token of a plan that was shown: if it is stale, the order is refused as a conflict.
    #[serde(default)]
    pub plan: Option<String>,
}

impl OrderRequest {
    /// Returns an order of a recipe that leaves everything else open.
    pub fn of(recipe: Name) -> Self {
        Self {
            recipe,
            name: None,
            parameters: BTreeMap::new(),
            node: None,
            org: None,
            memory_mib: None,
            cpu_millis: None,
            disk_mib: None,
            price_cap: None,
            allow: BTreeSet::new(),
            plan_only: false,
            plan: None,
        }
    }
}
