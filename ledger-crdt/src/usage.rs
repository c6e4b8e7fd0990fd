//! What an item used in a span of time, stated and signed by the node that ran it.
//!
//! Statements of one item are numbered without gaps, so that a missing one shows. Quantities are
//! those of the span, not running totals. Raw metering stays on the node.

use mesh_base::digest::Digest;
use mesh_base::money::Price;
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::invoice::Period;
use crate::record::{BodyError, RecordId};

/// Longest span of one statement: an hour is usual, a node that was off makes up for at most a
/// month.
pub const USAGE_SPAN_MS_MAX: i64 = 31 * 24 * 3600 * 1000;

/// A usage statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The order.
    pub order: RecordId,
    /// The item: the order's digest today, its own name once an order has several.
    pub item: Digest,
    /// Counts the item's statements, from 1, without gaps.
    pub sequence: u64,
    /// Start of the span.
    pub from: Wall,
    /// End of the span, not in it.
    pub to: Wall,
    /// How long processes ran.
    pub running_ms: u64,
    /// How long capacity was reserved; what is billed.
    pub reserved_ms: u64,
    /// Processor time.
    pub cpu_ms: u64,
    /// Memory over time: MiB × s.
    pub memory_mib_s: u64,
    /// Disk over time: MiB × s.
    pub disk_mib_s: u64,
    /// Bytes that reached the item.
    pub received_bytes: u64,
    /// Bytes that left the item.
    pub sent_bytes: u64,
    /// The price per month that was agreed.
    pub price: Price,
    /// The agreement that set the price; none inside one organisation.
    pub agreement: Option<RecordId>,
    /// Why the statement was made.
    pub why: Why,
}

/// What makes a node write a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Why {
    /// The hour was full.
    Hour,
    /// The item was destroyed: the last statement.
    Destroy,
    /// Somebody asked.
    OnDemand,
}

impl Usage {
    /// Returns the month in which it is billed: the one that holds the last moment of its span.
    pub fn period(&self) -> Period {
        Period::of(Wall(self.to.0.saturating_sub(1)))
    }

    pub(crate) fn check(&self) -> Result<(), BodyError> {
        let span = self.to - self.from;
        if self.sequence == 0 || !(0..=USAGE_SPAN_MS_MAX).contains(&span) {
            return Err(BodyError::Span {
                from: self.from,
                to: self.to,
            });
        }
        let span = span.unsigned_abs();
        if span < self.reserved_ms || span < self.running_ms {
            return Err(BodyError::Span {
                from: self.from,
                to: self.to,
            });
        }
        Ok(())
    }
}
