//! Bodies of the ordering side: what is wanted, who is asked, who got it, where the service lives.
//!
//! ```text
//! Order ─► Ask(1, a) ─► refused or lapsed ─► Ask(2, b) ─► reserved ─► Award(2, b) ─► Holder
//! ```
//! Invariant: one award per order and attempt; the next attempt begins only after the awarded node
//! has signed a refusal or a release.

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::{Context, KeyError, NodeId, SecretKey, ServiceId, Signature};
use mesh_base::money::Price;
use mesh_base::name::Name;
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::record::{Body, BodyError, RecordId, SignedRecord, list_fits, text_fits};

/// Most nodes that hold one service at the same time.
pub const HOLDERS_MAX: usize = 16;

/// What a customer wants. Its record id is the order's name everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What the customer calls the service.
    pub name: Name,
    /// Recipe by name.
    pub recipe: String,
    /// The exact recipe, if the customer insists.
    pub recipe_digest: Option<Digest>,
    /// Key of the service to be.
    pub service: ServiceId,
    /// Digest of the plaintext parameters with the nonce; the parameters travel sealed, never here.
    pub parameters: Digest,
    /// Short name of the key that can open the stored parameters.
    pub parameters_key: String,
    /// Memory wanted.
    pub memory_mib: u32,
    /// Processor time wanted, in thousandths of a core.
    pub cpu_millis: u32,
    /// Disk wanted.
    pub disk_mib: u32,
    /// The most that a month may cost.
    pub price_cap: Option<Price>,
    /// Makes two equal orders two, and the parameters' digest unguessable.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
}

impl Order {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        text_fits("recipe", &self.recipe)?;
        text_fits("parameters_key", &self.parameters_key)
    }
}

/// Asks one node to reserve capacity for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The order, whole, since the provider may not read the document that holds it.
    pub order: Box<SignedRecord>,
    /// Counts the tries, from 1.
    pub attempt: u32,
    /// Who is asked.
    pub node: NodeId,
    /// The price per month that the customer takes as agreed.
    pub price: Price,
    /// The agreement under which it is asked; none inside one organisation.
    pub agreement: Option<RecordId>,
}

impl Ask {
    /// Returns the order inside, unverified.
    pub fn order(&self) -> Option<&Order> {
        match &self.order.record.body {
            Body::Order(order) => Some(order),
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), BodyError> {
        // Only an order may be inside: this also ends the nesting of records in records.
        self.order().ok_or(BodyError::NotAnOrder)?.check()
    }
}

/// Gives the order to a node that has reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Award {
    /// The order.
    pub order: RecordId,
    /// The try that succeeded.
    pub attempt: u32,
    /// Who got it.
    pub node: NodeId,
}

/// What the customer wants an item to be from now on; the highest revision counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desire {
    /// The order.
    pub order: RecordId,
    /// The state wanted.
    pub state: DesiredState,
    /// Grows by one with each change, from 1.
    pub revision: u32,
}

/// What a customer can want of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// Processes run.
    Running,
    /// Kept and reserved, but no process runs.
    Stopped,
    /// Gone for ever.
    Destroyed,
}

/// Who answers for a service's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The service.
    pub service: ServiceId,
    /// The nodes, the preferred one first; empty when the service is gone.
    pub holders: Vec<NodeId>,
    /// A higher epoch replaces a lower one.
    pub epoch: u64,
    /// Not to be believed after this time.
    pub not_after: Wall,
}

/// A [`Holder`] under the service's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHolder {
    /// What is said.
    pub holder: Holder,
    /// The service key's signature over the canonical bytes.
    pub signature: Signature,
}

impl SignedHolder {
    /// Signs with the service's key.
    pub fn sign(holder: Holder, service: &SecretKey) -> Self {
        let signature = service.sign(Context::Holder, &codec::encode(&holder));
        Self { holder, signature }
    }

    /// Checks that the service's key said so; not whether it is still valid.
    pub fn verify(&self) -> Result<(), KeyError> {
        let bytes = codec::encode(&self.holder);
        self.holder
            .service
            .key()
            .verify(Context::Holder, &bytes, &self.signature)
    }

    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("holders", self.holder.holders.len(), HOLDERS_MAX)
    }
}
