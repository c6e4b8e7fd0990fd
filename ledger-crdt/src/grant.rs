//! Bodies of the providing side: what a node reserves, grants, refuses, does and gives back.
//!
//! ```text
//! Ask ─► Reservation (short lease) ─► Award ─► Grant ─► Progress.. ─► Ready ─► .. ─► Release
//!    └─► Refusal                         └─► Refusal(Lapsed)
//! ```
//! Invariant: a node answers each (order, attempt) with one grant at most, and after a refusal or a
//! release of an attempt never grants that attempt.

use mesh_base::digest::Digest;
use mesh_base::money::Price;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::record::{BodyError, RecordId, SENTENCE_LEN_MAX, list_fits, sentence_fits, text_fits};

/// Longest sealed connection: a few lines of address, user and password.
pub const CONNECTION_LEN_MAX: usize = 16 * 1024;

/// Capacity kept free for an order for a short time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order: RecordId,
    /// The try.
    pub attempt: u32,
    /// How long the reservation lives without an award.
    pub valid_ms: u32,
    /// The price per month.
    pub price: Price,
}

/// A node's signed no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The order.
    pub order: RecordId,
    /// The try.
    pub attempt: u32,
    /// Why.
    pub reason: RefusalReason,
}

impl Refusal {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        match &self.reason {
            RefusalReason::BadParameters(text) | RefusalReason::Failed(text) => {
                sentence_fits("reason", text)
            }
            _ => Ok(()),
        }
    }
}

/// What a node is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortage {
    /// Instances at the same time.
    Slots,
    /// Memory.
    Memory,
    /// Processor time.
    Cpu,
    /// Disk.
    Disk,
}

impl Shortage {
    /// Returns the word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Memory => "memory",
            Self::Cpu => "processor time",
            Self::Disk => "disk",
        }
    }
}

/// Why a node says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RefusalReason {
    /// Something is used up.
    #[error("not enough {} left", what.as_str())]
    NoCapacity {
        /// What is used up.
        what: Shortage,
    },
    /// The organisations have no agreement in force.
    #[error("there is no agreement between the organisations")]
    NoAgreement,
    /// The buyer's credit is used up.
    #[error("the credit limit is reached")]
    CreditExceeded,
    /// The node cannot run this recipe.
    #[error("the recipe is not offered here")]
    UnknownRecipe,
    /// The price is not the one that was asked for.
    #[error("the price has changed")]
    PriceChanged,
    /// The parameters do not open or do not fit the recipe; the sentence says which.
    #[error("the parameters do not fit: {0}")]
    BadParameters(String),
    /// The award came after the reservation had ended.
    #[error("the reservation had lapsed")]
    Lapsed,
    /// The node is stopping or takes no orders.
    #[error("the node takes no orders now")]
    Stopped,
    /// A later attempt or the order's end makes this one void.
    #[error("the attempt is superseded")]
    Superseded,
    /// The item could not be made; the sentence says why.
    #[error("the item could not be made: {0}")]
    Failed(String),
}

impl RefusalReason {
    /// Returns a text cut to what a reason may hold, at a character's border.
    pub fn sentence(text: &str) -> String {
        let mut end = text.len().min(SENTENCE_LEN_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.get(..end).unwrap_or_default().to_owned()
    }
}

/// Capacity given to an order until it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The order.
    pub order: RecordId,
    /// The try.
    pub attempt: u32,
    /// The award that it follows.
    pub award: RecordId,
}

/// What an item is now, as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The order.
    pub order: RecordId,
    /// The state.
    pub state: ItemState,
}

impl Progress {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        match &self.state {
            ItemState::Failed(text) => sentence_fits("state", text),
            _ => Ok(()),
        }
    }
}

/// The states of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemState {
    /// Software is fetched or built.
    Preparing,
    /// Slot and data are made.
    Creating,
    /// Processes start, promises are probed.
    Starting,
    /// Processes run and all promises hold.
    Running,
    /// Processes run, a promise is broken.
    Broken,
    /// Processes are ended, data kept.
    Stopped,
    /// Nothing is left.
    Destroyed,
    /// It does not work; the sentence says what to do.
    Failed(String),
}

/// How to reach a running item; only the customer's node can open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The order.
    pub order: RecordId,
    /// The try.
    pub attempt: u32,
    /// HPKE box to the ordering node's key.
    pub connection: ByteBuf,
    /// Digest of the plaintext.
    pub connection_digest: Digest,
    /// Short name of the key that opens the box.
    pub key: String,
}

impl Ready {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("connection", self.connection.len(), CONNECTION_LEN_MAX)?;
        text_fits("key", &self.key)
    }
}

/// Capacity given back; the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The order.
    pub order: RecordId,
    /// The try.
    pub attempt: u32,
    /// The last usage statement, if anything was used.
    pub final_usage: Option<RecordId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reason_is_cut_at_a_character() {
        let cut = RefusalReason::sentence(&"é".repeat(150));
        assert_eq!(cut, "é".repeat(100));
        assert_eq!(RefusalReason::sentence("short"), "short");
        let odd = format!("a{}", "é".repeat(150));
        assert_eq!(RefusalReason::sentence(&odd).len(), 199);
    }

    #[test]
    fn sentence_without_limit_is_not_lawful() {
        let reason = RefusalReason::BadParameters("x".repeat(201));
        let refusal = Refusal {
            order: crate::fixture::record_id(1),
            attempt: 1,
            reason,
        };
        assert!(matches!(
            refusal.check(),
            Err(BodyError::Text { len: 201, .. })
        ));
    }

    #[test]
    fn reasons_are_sentences_for_people() {
        let shortage = RefusalReason::NoCapacity {
            what: Shortage::Cpu,
        };
        assert_eq!(shortage.to_string(), "not enough processor time left");
    }
}
