//! What the node answers: one variant for each kind of answer, in the order of the requests.

use mesh_base::certificate::Role;
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::client::{ClientAdded, ClientRow};
use crate::names::Resolved;
use crate::netcheck::Netcheck;
use crate::request::DesiredState;
use crate::route::{LinkRow, PingReply, RouteRow, TraceReply};
use crate::service::{OrderReply, PlanReply, ServiceHeld, ServiceOrdered, ShowReply};
use crate::status::{HeadRow, PeerRow, StatusReply};
use crate::trade::{AgreementRow, Invoice, InvoiceRow, OfferRow, RecipeRow, UsageRow};

/// The last word on a request that went well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// To `Status`.
    Status(Box<StatusReply>),
    /// To `Peers`.
    Peers {
        /// One for each node known, our own left out.
        peers: Vec<PeerRow>,
    },
    /// To `Routes`.
    Routes {
        /// One for each destination; only one if that was asked.
        routes: Vec<RouteRow>,
    },
    /// To `Links`.
    Links {
        /// One for each neighbour and each session.
        links: Vec<LinkRow>,
    },
    /// To `Ping`.
    Ping(Box<PingReply>),
    /// To `Trace`.
    Trace(Box<TraceReply>),
    /// To `Netcheck`.
    Netcheck(Box<Netcheck>),
    /// To `ClientLs`.
    Clients {
        /// One for each client.
        clients: Vec<ClientRow>,
    },
    /// To `ClientAdd`, when it is on disk.
    ClientAdded(Box<ClientAdded>),
    /// To `ClientRemove`, when it is on disk.
    ClientRemoved {
        /// Its name.
        name: String,
    },
    /// To `MemberInvite`.
    MemberInvite {
        /// The text that the new member passes to `meshnode join`.
        invite: String,
        /// What the member will be.
        role: Role,
        /// Until when it opens the door.
        expires_at: Wall,
    },
    /// To `MemberLs`.
    Members {
        /// One for each member of our organisation, this node included.
        members: Vec<MemberRow>,
        /// Invites that are neither used nor expired.
        invites_open: u32,
    },
    /// To `MemberRevoke`.
    MemberRevoked {
        /// Its name.
        name: String,
        /// Its key.
        node: NodeId,
        /// What it wrote before this time still counts.
        from: Wall,
    },
    /// To `OrgInvite`.
    OrgInvite {
        /// The text that the other organisation passes to `meshctl org accept`.
        agreement: String,
        /// Until when it can be accepted.
        expires_at: Wall,
    },
    /// To `OrgAccept`.
    OrgAccept(Box<AgreementRow>),
    /// To `OrgLs`.
    Orgs {
        /// One for each organisation, our own first.
        orgs: Vec<OrgRow>,
    },
    /// To `AgreementLs`.
    Agreements {
        /// One for each agreement.
        agreements: Vec<AgreementRow>,
    },
    /// To `OfferLs`.
    Offers {
        /// One for each recipe on each node.
        offers: Vec<OfferRow>,
    },
    /// To `RecipeLs`.
    Recipes {
        /// One for each recipe.
        recipes: Vec<RecipeRow>,
    },
    /// To `Order` with `plan_only`.
    Plan(Box<PlanReply>),
    /// To `Order`.
    Order(Box<OrderReply>),
    /// To `Ps`.
    Services {
        /// What our organisation ordered through this node.
        ordered: Vec<ServiceOrdered>,
        /// What runs on this node for whomever.
        held: Vec<ServiceHeld>,
    },
    /// To `Show`.
    Show(Box<ShowReply>),
    /// To `Resolve`.
    Resolved(Box<Resolved>),
    /// To `SetState`, when it is so.
    State {
        /// The service.
        name: String,
        /// What it is now.
        state: DesiredState,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// To `Logs`, when there is no more to read; the text came in events.
    Logs {
        /// The service.
        name: String,
        /// How many bytes were sent.
        bytes: u64,
    },
    /// To `UsageLs` and `UsageNow`.
    Usage {
        /// One for each service and party.
        usage: Vec<UsageRow>,
    },
    /// To `InvoiceLs`.
    Invoices {
        /// One for each invoice, the newest first.
        invoices: Vec<InvoiceRow>,
    },
    /// To `InvoiceShow`.
    Invoice(Box<Invoice>),
    /// To `InvoiceVerify` and `LedgerVerify`.
    Verdict(Verdict),
    /// To `LedgerHeads`.
    Heads {
        /// One for each document held here.
        heads: Vec<HeadRow>,
    },
}

impl Reply {
    /// Returns the schema that the JSON of this reply carries: name and version of its form.
    pub const fn schema(&self) -> &'static str {
        match self {
            Self::Status(_) => "meshstead.status/1",
            Self::Peers { .. } => "meshstead.peers/1",
            Self::Routes { .. } => "meshstead.routes/1",
            Self::Links { .. } => "meshstead.links/1",
            Self::Ping(_) => "meshstead.ping/1",
            Self::Trace(_) => "meshstead.trace/1",
            Self::Netcheck(_) => "meshstead.netcheck/1",
            Self::Clients { .. } => "meshstead.clients/1",
            Self::ClientAdded(_) => "meshstead.client-added/1",
            Self::ClientRemoved { .. } => "meshstead.client-removed/1",
            Self::MemberInvite { .. } => "meshstead.member-invite/1",
            Self::Members { .. } => "meshstead.members/1",
            Self::MemberRevoked { .. } => "meshstead.member-revoked/1",
            Self::OrgInvite { .. } => "meshstead.org-invite/1",
            Self::OrgAccept(_) => "meshstead.org-accept/1",
            Self::Orgs { .. } => "meshstead.orgs/1",
            Self::Agreements { .. } => "meshstead.agreements/1",
            Self::Offers { .. } => "meshstead.offers/1",
            Self::Recipes { .. } => "meshstead.recipes/1",
            Self::Plan(_) => "meshstead.plan/1",
            Self::Order(_) => "meshstead.order/1",
            Self::Services { .. } => "meshstead.services/1",
            Self::Show(_) => "meshstead.service/1",
            Self::Resolved(_) => "meshstead.resolved/1",
            Self::State { .. } => "meshstead.state/1",
            Self::Logs { .. } => "meshstead.logs/1",
            Self::Usage { .. } => "meshstead.usage/1",
            Self::Invoices { .. } => "meshstead.invoices/1",
            Self::Invoice(_) => "meshstead.invoice/1",
            Self::Verdict(_) => "meshstead.verdict/1",
            Self::Heads { .. } => "meshstead.ledger-heads/1",
        }
    }
}

/// A member of our organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// Its key.
    pub node: NodeId,
    /// What it may do.
    pub role: Role,
    /// Whether it is connected now; our own node is.
    pub connected: bool,
    /// Until when its certificate is valid.
    pub valid_until: Wall,
}

/// An organisation that we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgRow {
    /// Its name.
    pub name: String,
    /// Its root key.
    pub org: OrgId,
    /// How it stands to us.
    pub relation: Relation,
    /// How many of its nodes we know.
    pub nodes: u32,
}

/// How an organisation stands to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It is ours.
    Own,
    /// It sells to us.
    Seller,
    /// It buys from us.
    Buyer,
    /// Both sell to each other.
    Both,
}

/// The result of a verification: a line for each thing checked, and all of them together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was verified: an invoice number, or `ledger`.
    pub subject: String,
    /// Whether every line holds.
    pub holds: bool,
    /// What was checked, in order.
    pub lines: Vec<VerdictLine>,
}

/// One thing checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictLine {
    /// What was checked.
    pub check: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, in one sentence.
    pub sentence: String,
}
