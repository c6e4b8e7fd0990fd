//! Trade: agreements, offers, recipes, usage and invoices as people see them.

use mesh_base::digest::Digest;
use mesh_base::money::{Money, Price};
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::request::Sale;

/// An agreement in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementRow {
    /// Its id: digest of its terms.
    pub id: Digest,
    /// Who sells.
    pub seller: String,
    /// Who buys.
    pub buyer: String,
    /// What may be ordered, at which price.
    pub sells: Vec<Sale>,
    /// How much the buyer may owe.
    pub credit: Money,
    /// How much the buyer owes now.
    pub owed: Money,
    /// Days between an invoice and its payment.
    pub settlement_days: u32,
    /// Since when.
    pub since: Wall,
}

/// What one node sells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRow {
    /// What.
    pub recipe: String,
    /// Which node.
    pub node: String,
    /// Its organisation.
    pub org: String,
    /// At which price for us; none if it is our own node, which costs nothing.
    pub price: Option<Price>,
    /// Memory free, in MiB.
    pub memory_free_mib: u64,
    /// Processor free, in thousandths of a core.
    pub cpu_free_millis: u64,
    /// Disk free, in MiB.
    pub disk_free_mib: u64,
    /// Whether the node can be asked now.
    pub connected: bool,
}

/// A recipe that can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeRow {
    /// Its name.
    pub name: String,
    /// What it is, in one line.
    pub summary: String,
    /// Digest of its canonical text.
    pub digest: Digest,
    /// Memory that it needs, in MiB.
    pub memory_mib: u32,
    /// Processor that it needs, in thousandths of a core.
    pub cpu_millis: u32,
    /// Disk that it needs, in MiB.
    pub disk_mib: u32,
    /// What an order may say about it.
    pub parameters: Vec<ParameterRow>,
    /// Whether its software is on this node already.
    pub cached: bool,
}

/// A parameter of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRow {
    /// Its name.
    pub name: String,
    /// What it means, in one line.
    pub summary: String,
    /// Its value if the order says nothing; none if the order must say it or it is generated.
    pub default: Option<String>,
    /// Whether the order must say it.
    pub required: bool,
}

/// The usage of one service so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// The service.
    pub name: String,
    /// The order record's id: names the item.
    pub item: Digest,
    /// The node that measured.
    pub node: String,
    /// Who provides.
    pub provider: String,
    /// Who pays.
    pub customer: String,
    /// Number of the last statement.
    pub seq: u64,
    /// From when.
    pub from: Wall,
    /// Until when.
    pub until: Wall,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Most memory seen at a statement, in MiB.
    pub memory_mib: u64,
    /// Disk at the last statement, in MiB.
    pub disk_mib: u64,
    /// Bytes to the service.
    pub received_bytes: u64,
    /// Bytes from the service.
    pub sent_bytes: u64,
    /// What it costs so far.
    pub cost: Money,
}

/// A row of the list of invoices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceRow {
    /// Its number: unique at the provider.
    pub number: String,
    /// Who provides.
    pub provider: String,
    /// Who pays.
    pub customer: String,
    /// The month, as `2026-11`.
    pub month: String,
    /// Whether it can still change.
    pub state: InvoiceState,
    /// What is owed.
    pub total: Money,
    /// How many lines it has.
    pub line_count: u32,
}

/// Whether an invoice can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceState {
    /// It grows with the usage.
    Draft,
    /// The month is over; it never changes again.
    Closed,
}

impl std::fmt::Display for InvoiceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Draft => "draft",
            Self::Closed => "closed",
        })
    }
}

/// An invoice with its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its number: unique at the provider.
    pub number: String,
    /// Counts its drafts.
    pub revision: u64,
    /// Who provides.
    pub provider: String,
    /// Who pays.
    pub customer: String,
    /// The month, as `2026-11`.
    pub month: String,
    /// Whether it can still change.
    pub state: InvoiceState,
    /// The record's id, which both sides compare.
    pub digest: Digest,
    /// When it was written.
    pub issued_at: Wall,
    /// What was used.
    pub lines: Vec<InvoiceLine>,
    /// What is owed.
    pub total: Money,
}

/// One line of an invoice: a range of usage statements of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// The service.
    pub name: String,
    /// The recipe.
    pub recipe: String,
    /// The order record's id: names the item.
    pub item: Digest,
    /// The node that measured.
    pub node: String,
    /// First usage statement.
    pub seq_first: u64,
    /// Last usage statement.
    pub seq_last: u64,
    /// From when.
    pub from: Wall,
    /// Until when.
    pub until: Wall,
    /// The price that was agreed.
    pub price: Price,
    /// What the line costs.
    pub amount: Money,
}
